"""The HTTP layer: turns request bodies into `EditGroup`s for the scorer, and results into responses or problems.

request_id      one id per request, in headers and logs
authentication  the API key, and the service behind every route
deadlines       cancels work on requests that are late or whose client has gone
body_limit      refuses bodies over the limit while they arrive
group_body      a body -> one group
batch_body      a body -> several groups
group_scoring   scores all groups of one request
openapi         the OpenAPI description of those bodies
page            the scoring page (HTML, CSS, JavaScript)
"""

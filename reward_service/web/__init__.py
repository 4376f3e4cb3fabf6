"""The HTTP layer: turns request bodies into `EditGroup`s for the scorer, and results into responses or problems.

request_id     one id per request, in headers and logs
dependencies   dependencies of every route: the service, the API key
deadlines      cancels requests that are late or whose client has disconnected
requests       a body -> one group
batches        a body -> several groups
group_scoring  scores all groups of one request
openapi        the OpenAPI description of those bodies
page           the scoring page (HTML, CSS, JavaScript)
"""

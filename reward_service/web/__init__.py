"""HTTP in and out. Request bodies come in, `EditGroup`s go to the scorer; responses or problems go out.

request_id     one id per request, in headers and logs
dependencies   what every route depends on: the service, the API key
deadlines      cancels work on requests that are late or whose client has gone
requests       a body -> one group
batches        a body -> several groups
group_scoring  scores all groups of one request
openapi        the OpenAPI description of those bodies
page           the scoring page (HTML, CSS, JavaScript)
"""

"""The reward service: receives edits over HTTP and returns scores in [0, 1] or errors.

cli             `edit-r1 serve`: settings -> application -> uvicorn
ray_serve       the same application as a Ray Serve deployment
app             the routes
web             HTTP in and out: keys, bodies, limits, deadlines, the page
compat          other projects' protocols
admission       how many candidates may be in progress
service         the state of one judge: loading, self-test, ready, broken
scoring         one request: decode images -> ask the judge -> read its answers -> a score
methods         the scoring methods: which questions to ask, how to read the answers
measures        scores that are no answer of the judge: from the images, or by a model of their own
engines         what runs the judge: transformers, vLLM, or a remote vLLM server
mathematics     pure: label log-probabilities -> score; several numbers -> one
settings        flags and environment variables
metrics         what GET /metrics exposes
problems        RFC 9457 problem details, for refusals
types           the values that pass through a request
judge_training  `edit-r1 train-judge`
"""

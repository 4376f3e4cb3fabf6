"""OpenAI-style chat endpoints of any provider, for the reward service's engine and the workbench's chat client.

exchange     posts a request, with retries: a `Completion` or a typed error
parameters   which parameters an endpoint accepts, learned from its refusals
failures     tells apart failures of the account, the address, one request, the server
completions  reads an answer: text, reasoning, usage, log-probabilities
"""

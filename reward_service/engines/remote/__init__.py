"""The openai engine: a judge on another server, over its OpenAI-style API.

mode        chooses between the following two
exact       a vLLM server, by token ids
compatible  a judge behind any API
probe       what such an API can do
server      what a server says about itself
trouble     remembers that a server answers nobody
named_chat  stands in for `chat` where there is no tokenizer
top_labels  label log-probabilities from the most likely tokens
"""

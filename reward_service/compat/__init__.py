"""Protocols of other projects, served by the same scorer: translates their requests to our groups, and our scores to
their responses.

items            flat lists of edits -> our groups -> one outcome per edit
flow_factory     `POST /compute`: Flow-Factory's remote reward
unirl            `POST /score`, ...: UniRL's reward service
openai_api       `/v1/chat/completions`, `/v1/models`: OpenAI's chat API
openai_body      the body of a chat request
openai_generate  chat answers from any engine
openai_vllm      chat answers from vLLM's own serving layer
"""

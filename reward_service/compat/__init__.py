"""Protocols of other projects, served by the same scorer. Their requests come in, our groups are scored, their
responses go out.

items            flat lists of edits -> our groups -> one outcome per edit
flow_factory     `POST /compute`: Flow-Factory's remote reward
unirl            `POST /score`, ...: UniRL's reward service
openai_api       `/v1/chat/completions`, `/v1/models`: OpenAI's chat API
openai_body      the body of a chat request
openai_generate  chat answers from any engine
openai_vllm      chat answers from vLLM's own serving layer
"""

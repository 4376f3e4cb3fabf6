"""Engines run the judge: conversations and a sampling spec in, answers with log-probabilities out. They know no
prompts.

factory       builds the engine that the settings name
base          the interface of an engine, and its options
chat          a model's chat template, tokenizer and label ids
transformers  the transformers engine, for CPUs and GPUs
checkpoint    a checkpoint in memory
batches       conversations -> padded model inputs
vision        encodes each image once per batch
sampling      picks tokens, seeded per row
vllm          vLLM, in process
openai        a remote vLLM server, over its OpenAI-style API
"""

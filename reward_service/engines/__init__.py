"""Engines run the judge: they take conversations and a sampling spec and return answers with log-probabilities.
Prompts are not their concern.

factory            builds the engine that the settings name
base               the interface of an engine, and its options
chat               a model's chat template, tokenizer and label ids
labels             the tokens that spell a label
transformers       the transformers engine, for CPUs and GPUs
checkpoint         a checkpoint in memory
batches            conversations -> padded model inputs, Qwen-VL
processor_batches  the same for other families, by their own processor
resolution         the resolution at which a judge sees images
vision             encodes each image once per batch
sampling           picks tokens, seeded per row
vllm               vLLM, in process
vllm_config        engine options -> vLLM's configuration
openai             a remote vLLM server, over its OpenAI-style API, by token ids
openai_mode        chooses between that and the following
openai_compatible  a judge behind any OpenAI-style API
openai_probe       what such an API can do
openai_server      what a server says about itself
openai_trouble     remembers that a server answers nobody
none               no judge, for a service that offers only measures
named_chat         stands in for `chat` where there is no tokenizer
top_labels         label log-probabilities from the most likely tokens
"""

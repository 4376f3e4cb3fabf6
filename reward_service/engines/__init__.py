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
remote             a judge on another server
none               no judge, for a service that offers only measures
"""

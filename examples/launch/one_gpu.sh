#!/usr/bin/env bash
# One GPU: LoRA; text encoders are offloaded to main memory while the transformer runs. On 40 GB or less add
# model.quantization=int8. First check with `edit-r1 doctor CONFIG --gpus 1 key=value ...` that it fits.
# SIGTERM, SIGUSR1 or Ctrl-C: it writes a checkpoint and ends; the same command resumes.
#   examples/launch/one_gpu.sh reward.url=http://REWARD_NODE:8000 data.train=my_tasks.jsonl
# With the judge on the same GPU see examples/flux_kontext_nft_1x80gb.yaml.
set -euo pipefail
exec python -m edit_r1.trainer "${CONFIG:-examples/flux_kontext_nft.yaml}" model.text_encoders=offload "$@"

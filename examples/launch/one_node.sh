#!/usr/bin/env bash
# One node with NUM_GPUS GPUs (8x80 GB): transformer and text encoders are sharded over all of them (FSDP2). For full
# fine-tuning, add tuning=full optimizer.learning_rate=1e-5. A model that fits on each GPU is faster with
# model.sharding=none.
#   examples/launch/one_node.sh reward.url=http://REWARD_NODE:8000 data.train=my_tasks.jsonl
# With the judge on two of the GPUs see examples/flux_kontext_nft_8x80gb.yaml.
set -euo pipefail
# torchrun forwards these signals, upon which the trainer writes a checkpoint; it kills after 100 s instead of 30.
export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 PET_SHUTDOWN_TIMEOUT="${PET_SHUTDOWN_TIMEOUT:-100}"
exec python -m accelerate.commands.launch --multi_gpu --num_machines 1 --num_processes "${NUM_GPUS:-8}" \
    --mixed_precision no --dynamo_backend no --main_process_port "${PORT:-29500}" \
    -m edit_r1.trainer "${CONFIG:-examples/flux_kontext_nft.yaml}" model.sharding=fsdp "$@"

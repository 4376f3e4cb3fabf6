#!/usr/bin/env bash
# Several nodes: run this on each one, with the same arguments and its own NODE_RANK. run_dir must be on a shared disk.
# Table 5's 24 groups divide evenly over 2, 3, 4, 6, 8, 12, 24, 48 or 72 GPUs, among others; any number up to 288 works.
#   NODES=2 NODE_RANK=0 HEAD=node0 examples/launch/several_nodes.sh reward.url=http://REWARD_NODE:8000 data.train=...
set -euo pipefail
# torchrun forwards these signals, upon which the trainer writes a checkpoint; it kills after 100 s instead of 30.
export PET_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 PET_SHUTDOWN_TIMEOUT="${PET_SHUTDOWN_TIMEOUT:-100}"
exec python -m torch.distributed.run --nnodes "$NODES" --node-rank "$NODE_RANK" \
    --nproc-per-node "${GPUS_PER_NODE:-8}" --master-addr "$HEAD" --master-port "${PORT:-29500}" \
    -m edit_r1.trainer "${CONFIG:-examples/flux_kontext_nft.yaml}" model.sharding=fsdp "$@"

#!/usr/bin/env bash
# Trains on several GPUs (or, without any, in several processes on the CPU).
# usage: tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# Several machines: the same command on each, with NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment.
# MAX_RESTARTS=3, with --resume: so often a job whose process has died starts again, from its last checkpoint.
# See docs/distributed.md.

[ $# -ge 2 ] || { echo "usage: $0 CONFIG GPUS [options of tools/train.py]" >&2; exit 2; }

CONFIG=$1
GPUS=$2
NNODES=${NNODES:-1}
NODE_RANK=${NODE_RANK:-0}
PORT=${PORT:-29500}
MASTER_ADDR=${MASTER_ADDR:-"127.0.0.1"}
# On a CPU: glibc keeps freed memory for the next activations, see tools/setup_env.sh.
export MALLOC_MMAP_MAX_=${MALLOC_MMAP_MAX_:-0} MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_:--1}

# torchrun, of the python that runs the training.
PYTHONPATH="$(dirname "$0")/..":$PYTHONPATH \
python "$(dirname "$0")/torchrun.py" \
    --nnodes="$NNODES" \
    --nproc-per-node="$GPUS" \
    --rdzv-backend=c10d \
    --rdzv-endpoint="$MASTER_ADDR:$PORT" \
    --rdzv-id="$PORT" \
    --rdzv-conf="is_host=$([ "$NODE_RANK" = 0 ] && echo true || echo false)" \
    --max-restarts="${MAX_RESTARTS:-0}" \
    "$(dirname "$0")/train.py" \
    "$CONFIG" \
    --launcher pytorch "${@:3}"

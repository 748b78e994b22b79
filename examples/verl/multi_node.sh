#!/usr/bin/env bash
# qwen3_dapo.sh on several nodes: run this on every one, as a scheduler does, with the same words.
#
#   HEAD=address-of-the-first NODES=4 RANK=0..3 bash examples/verl/multi_node.sh 8B joint
#
# Under Slurm: srun --ntasks-per-node=1 bash examples/verl/multi_node.sh 8B joint. Data, model cache
# and OUT lie on a file system that all nodes see; a killed job goes on from its last checkpoint.
set -euo pipefail
NODES=${NODES:-${SLURM_NNODES:-1}} RANK=${RANK:-${SLURM_NODEID:-0}} PORT=${PORT:-6379}
if [ -z "${HEAD:-}" ]; then
    HEAD=$(scontrol show hostnames "${SLURM_JOB_NODELIST:?multi_node.sh: HEAD is not set}" | head -n 1)
fi
trap 'ray stop >/dev/null' EXIT
if [ "$RANK" -gt 0 ]; then
    until ray health-check --address "$HEAD:$PORT" 2>/dev/null; do sleep 2; done
    ray start --address "$HEAD:$PORT" --block || true # until the head stops, which it calls an error
    exit 0
fi
ray start --head --port "$PORT" --disable-usage-stats
until [ "$(python -c 'import ray; ray.init("auto", logging_level="ERROR"); print(len([n for n in ray.nodes() if n["Alive"]]))')" -ge "$NODES" ]; do
    sleep 2
done
RAY_ADDRESS=auto NNODES=$NODES bash "$(dirname "$0")/qwen3_dapo.sh" "$@"

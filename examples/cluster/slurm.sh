#!/usr/bin/env bash
# A sweep on three nodes in one batch: a Ray head, workers, and the driver beside the head.
#   sbatch examples/cluster/slurm.sh SWEEP.yaml --results /shared/results --data-root /shared/data
# What follows the script is what `sparse-search run` takes. When the time is over, or anything else ends the batch, the
# same line goes on. Run it where `sparse-search` is on the PATH (activate the environment first); home is shared.
#SBATCH --job-name=sparse-search
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
head_ip=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 10000)) # several batches may share a node; Ray's workers use 10002 to 19999
address="$head_ip:$port"

# Nobody else on these nodes may use this Ray.
ray get-auth-token --generate >/dev/null
export RAY_AUTH_MODE=token

sizes=(--num-cpus="${SLURM_CPUS_PER_TASK:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --disable-usage-stats --block)
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
    ray start --head --node-ip-address="$head_ip" --port="$port" --include-dashboard=false "${sizes[@]}" &
workers=$((SLURM_JOB_NUM_NODES - 1))
if [ "$workers" -gt 0 ]; then
    # Ray that joins nobody tries for ten minutes and more: first the head's port must answer.
    srun --overlap --nodes="$workers" --ntasks="$workers" --exclude="$head" bash -c \
        'until (exec 3<>"/dev/tcp/${0/://}") 2>/dev/null; do sleep 2; done; exec ray start --address="$0" "$@"' \
        "$address" "${sizes[@]}" &
fi
until (exec 3<>"/dev/tcp/$head_ip/$port") 2>/dev/null; do sleep 2; done

# A sweep counts its places when it starts: wait for all nodes.
export RAY_ADDRESS="$address"
timeout 600 python - "$SLURM_JOB_NUM_NODES" <<'PYTHON'
import sys, time

import ray

ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[1]):
    time.sleep(1)
PYTHON

sparse-search run "$@" # the end of the batch ends Ray

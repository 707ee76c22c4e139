#!/usr/bin/env bash
# A build on Slurm: a Ray for the length of the job, one Ray node per Slurm node.
#
#   sbatch pipelines/cluster/slurm.sh RECIPE.yaml seeds=/shared/… model=/shared/… out=/shared/…
#
# From the root of a checkout on shared storage in which `make setup EXTRA=cuda` was run. Three
# minutes before the time limit the build stops in good order and the job is queued again; it goes
# on where it was. `scancel --signal=TERM --batch JOB` stops it in good order for good.
#SBATCH --job-name=mmpr
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=mmpr-%j.log
set -euo pipefail

BIN=${MMPR_BIN:-$PWD/.venv/bin}
PORT=$((20000 + SLURM_JOB_ID % 20000))
# The sockets in it need a short name; every job has its own.
FOLDER=/tmp/ray-$SLURM_JOB_ID

# One token for the nodes and the driver: a Ray without one obeys whoever reaches its port.
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$("$BIN/python" -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN
unset RAY_ADDRESS

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address)
address=${address%% *}

steps=()
on_node() {  # NODE COMMAND…: a Ray node that lives as long as this script
  local node=$1
  shift
  srun --overlap --nodes=1 --ntasks=1 --nodelist="$node" \
    "$BIN/ray" start --block --disable-usage-stats \
    --num-cpus="${SLURM_CPUS_PER_TASK:-$(nproc)}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" "$@" &
  steps+=($!)
}

on_node "$head" --head --node-ip-address="$address" --port="$PORT" --temp-dir="$FOLDER"
for _ in $(seq 60); do
  "$BIN/ray" status --address "$address:$PORT" >/dev/null 2>&1 && break
  sleep 1
done
# Nodes that come later, or never, are no matter: engines start where nodes are.
for node in "${nodes[@]:1}"; do
  on_node "$node" --address="$address:$PORT"
done

driver=''
requeue=no
interrupted=''
# shellcheck disable=SC2329  # The traps call it.
stop() {
  interrupted=yes
  [[ -z $driver ]] || kill -TERM "$driver" 2>/dev/null || true
}
trap 'requeue=yes; stop' USR1  # The time limit is near.
trap stop TERM INT

"$BIN/python" pipelines/build_mmpr.py "$@" \
  distributed.address="$address:$PORT" distributed.wait_s=600 &
driver=$!
while :; do
  interrupted='' code=0
  wait "$driver" || code=$?
  [[ -n $interrupted ]] || break  # Else a signal to this script ended the wait, not the driver.
done

# The head last: a node whose head has gone waits for it for a minute.
for group in "${steps[*]:1}" "${steps[0]}"; do
  for step in $group; do
    kill -TERM "$step" 2>/dev/null || true
  done
  for step in $group; do
    wait "$step" 2>/dev/null || true
  done
done
if [[ $requeue == yes && $code -eq 143 ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"

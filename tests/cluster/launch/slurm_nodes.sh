#!/bin/bash
# Three machines with addresses of their own on one, and on them what a SLURM allocation of three nodes is to a job:
#   unshare --net --mount --pid --fork --mount-proc --kill-child bash slurm_nodes.sh PROGRAMS JOB COMMAND...
# PROGRAMS holds stand-ins for srun and scontrol. What is in here ends with the outermost process.
set -euo pipefail
programs=$1 job=$2
shift 2
mount -t tmpfs tmpfs /run
ip link set lo up
ip link add br0 type bridge
ip link set br0 up
for n in 1 2 3; do
  ip netns add "node$n"
  ip link add "veth$n" type veth peer name eth0 netns "node$n"
  ip link set "veth$n" master br0 up
  ip -n "node$n" addr add "10.99.0.$n/24" dev eth0
  ip -n "node$n" link set eth0 up
  ip -n "node$n" link set lo up
done
export SLURM_JOB_ID=4711 SLURM_JOB_NODELIST='node[1-3]' SLURM_CPUS_PER_TASK=1 PATH=$programs:$PATH
code=0
ip netns exec node1 bash "$job" "$@" || code=$?
echo "code $code"
echo "left $(ps -e -o comm= | grep -c -E 'raylet|gcs_server|ray' || true) $(ls -d /tmp/zs-4711 2>/dev/null || true)"

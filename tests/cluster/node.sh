#!/usr/bin/env bash
# Run a command, such as `pytest -m node`, where a real node can be: in network, mount and process namespaces of its own.
#
# When the command ends or this script is killed, the kernel ends every container, and mounts and networks go with the namespaces.
# There is no way out of that network: install and build before. Only the node's cgroup is outside; it is removed here.
set -euo pipefail

LIMIT_SECONDS=1500

# Each step ends with the one before it, also when that is killed.
with_parent=(setpriv --pdeathsig KILL)
namespaces=(unshare --net --mount --pid --fork --mount-proc --kill-child)

# Programs that are missing fail in CI, as elsewhere in the tests; what a machine does not allow is told, and no test runs.
if [ "$(id -u)" != 0 ] || ! "${namespaces[@]}" ip link add node0 type bridge; then
  echo "The tests on a real node do not run: they need root, namespaces of their own and a bridge (package iproute2)." >&2
  exit 0
fi

export NODE_CGROUP="affinage-$$"
controllers=(/sys/fs/cgroup/*/)
[ ! -e /sys/fs/cgroup/cgroup.controllers ] || controllers=(/sys/fs/cgroup/)
for controller in "${controllers[@]}"; do
  mkdir -p "$controller$NODE_CGROUP"
  # In version 1, a new cpuset is empty, and nothing can run in it.
  for file in cpuset.cpus cpuset.mems; do
    [ ! -e "$controller$file" ] || cat "$controller$file" > "$controller$NODE_CGROUP/$file"
  done
done
remove_cgroup() { find "${controllers[@]/%/$NODE_CGROUP}" -depth -type d -exec rmdir {} + 2> /dev/null || true; }
trap remove_cgroup EXIT

# shellcheck disable=SC2016  the inner shell expands these
"${with_parent[@]}" timeout --foreground --signal=KILL "$LIMIT_SECONDS" "${with_parent[@]}" "${namespaces[@]}" bash -euo pipefail -c '
  mount --make-rshared /
  mount -t tmpfs tmpfs /run
  ip link set lo up
  # The kernel may lack dummy interfaces; a bridge without members does as well. The default route is for addresses of Services.
  ip link add node0 type bridge
  ip address add "$0/24" dev node0
  ip link set node0 up
  ip route add default dev node0 src "$0"
  sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1
  # Not exec: this shell is the first process of its namespace and collects the orphans.
  export NODE_ADDRESS="$0"
  "$@"
' 10.10.0.1 "$@"

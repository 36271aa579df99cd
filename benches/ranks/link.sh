#!/bin/sh
# Runs a program of Open MPI on two ranks, each on a host of its own, joined by a link that works by
# itself: two network namespaces, and between them a cable of the kernel that carries so much in
# each direction at once, whatever the ranks do. The processors are those of one machine, and TCP
# takes a part of their time.
#
# usage: link.sh <rate, as tc has it: 10gbit> <program> [arguments]
#
# It needs iproute2, tc's `tbf`, and either root or user namespaces.
set -eu

# What mpirun calls in place of ssh: it starts Open MPI's daemon on the second host.
if [ -n "${LINK_SECOND-}" ]; then
  shift
  exec nsenter --target "$LINK_SECOND" --net --uts sh -c "$*"
fi
if [ -z "${LINK_FIRST-}" ]; then
  LINK_FIRST=1 exec unshare --user --map-root-user --net --uts "$0" "$@"
fi

rate=$1
shift
unshare --net --uts sleep infinity &
second=$!
trap 'kill $second' EXIT
sleep 0.1 # until it is in its own namespaces
on_second() {
  nsenter --target $second --net --uts "$@"
}
hostname first
on_second hostname second
ip link add name link0 type veth peer name link0 netns $second
for on in "" on_second; do
  $on ip link set lo up
  $on ip address add "10.0.0.$([ -z "$on" ] && echo 1 || echo 2)/24" dev link0
  $on ip link set link0 mtu 9000 up
  # Enough room for all that a socket may hold, so that nothing is dropped.
  $on tc qdisc add dev link0 root tbf rate "$rate" burst 1mb limit 64mb
  $on sysctl -qw net.ipv4.tcp_congestion_control=reno
done

LINK_SECOND=$second mpirun --mca plm_rsh_agent "$(realpath "$0")" --host 10.0.0.1,10.0.0.2 -n 2 \
  --allow-run-as-root --mca btl tcp,self --mca pml ob1 --mca btl_tcp_if_include link0 \
  --mca oob_tcp_if_include link0 --mca mpi_yield_when_idle 1 "$@"

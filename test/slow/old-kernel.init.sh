#!/bin/sh
# First process of the machine that old-kernel.test.ts boots: looks, counts pings, prints, and turns the machine off.
export PATH=/sbin:/bin FOVEA_TICK=200ms FOVEA_FLOWS_IDLE=1s

mkdir -p /proc /sys /dev /tmp /run
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
depmod # So that the kernel finds what it has as modules by itself.

# Each part of what the test reads begins with a line of its own.
part() { echo "@@ $*"; }
# As often as a slow machine needs, then what follows shows what is missing.
until_found() { # COMMAND PATTERN
  tries=0
  until $1 2>/dev/null | grep -q "$2" || [ $tries -ge 100 ]; do
    tries=$((tries + 1))
    sleep 0.2
  done
}
scrape() { wget -q -O - http://127.0.0.1:10093/metrics; }
flows() { wget -q -O - 'http://127.0.0.1:10093/api/v1/flows?limit=100'; }

# Its own other end, with fixed neighbours and without IPv6, so that nothing but the pings crosses the link.
/sbin/ip link set lo up
/sbin/ip netns add far
/sbin/ip link add up0 address 02:fa:00:00:00:01 type veth peer name far0 address 02:fa:00:00:00:02 netns far
/sbin/ip addr add 192.0.2.1/24 dev up0
/sbin/ip link set up0 up
/sbin/ip -n far addr add 192.0.2.2/24 dev far0
/sbin/ip -n far link set far0 up
/sbin/ip route add default via 192.0.2.2
/sbin/ip neigh replace 192.0.2.2 lladdr 02:fa:00:00:00:02 dev up0 nud permanent
/sbin/ip -n far neigh replace 192.0.2.1 lladdr 02:fa:00:00:00:01 dev far0 nud permanent

part kernel
uname -r
part check
fovea check -o json
part check-code $?
fovea run --data-dir /tmp/data >/tmp/log 2>&1 &
pid=$!
until_found scrape '^kappie_forward_count.*Direction="ingress"'
part qdiscs-during
/sbin/tc qdisc show dev up0
/sbin/ip netns exec far ping -q -i 0.05 -c "$PINGS" 192.0.2.1 >/dev/null
until_found scrape "^kappie_forward_count.*Direction=\"ingress\".* $PINGS\$"
icmp() { flows | tr '{' '\n' | grep '"protocol":1,' | grep forwarded; }
until_found icmp ingress
until_found icmp egress
part interface
cat /sys/class/net/up0/statistics/rx_packets /sys/class/net/up0/statistics/tx_packets
part scrape
scrape | grep -E '^(kappie_forward_|fovea_collector_success|fovea_packets|fovea_untracked)'
part flows
flows
echo
part log
cat /tmp/log
kill -TERM $pid
wait $pid
part run-code $?
part qdiscs-after
/sbin/tc qdisc show dev up0
part end
poweroff -f

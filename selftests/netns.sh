# SPDX-License-Identifier: GPL-2.0-only
#
# To be sourced: two hosts, the network namespaces src and dst, joined by a
# cable.  They go when the shell that sourced this exits; who sets an EXIT trap
# of its own calls netns_remove there.

SRC4=192.0.2.1 DST4=192.0.2.2
SRC6=2001:db8::1 DST6=2001:db8::2

# Of these in the background $! is a shell's: who is to be killed by that gets the
# nsenter itself.
on_src() { nsenter --net=/run/netns/src "$@"; }
on_dst() { nsenter --net=/run/netns/dst "$@"; }

# cable_in HOST: where it was out.  The kernel takes a second to see that, and would hold
# who connects at once against a neighbour that it has not found before.
cable_in() {
	ip -n "$1" link set cable up
	for end in src dst; do
		for _ in $(seq 50); do
			ip -n $end -o link show cable | grep -q "state UP" && break
			sleep 0.1
		done
		ip -n $end neighbour flush dev cable
	done
}

netns_remove() {
	ip netns del src
	ip netns del dst
}

ip netns add src
ip netns add dst
trap netns_remove EXIT
ip link add cable netns src type veth peer name cable netns dst
for host in src dst; do
	case $host in
	src) addresses="$SRC4/24 $SRC6/64" ;;
	dst) addresses="$DST4/24 $DST6/64" ;;
	esac
	for address in $addresses; do
		case $address in
		*:*) ip -n $host address add "$address" dev cable nodad ;;
		*) ip -n $host address add "$address" dev cable ;;
		esac
	done
	# a cable that was out is all there again
	ip netns exec $host sh -c \
		'echo 1 >/proc/sys/net/ipv6/conf/cable/keep_addr_on_down'
	ip -n $host link set lo up
	ip -n $host link set cable up
done
unset host address addresses

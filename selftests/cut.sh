#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The link is cut, or a helper killed, at each message of the negotiation and
# of the commit.  Afterwards never both hosts run, nothing is left behind, and
# the devices can migrate.
. "$(dirname "$0")/lib.sh"

proxy=$here/proxy
port=7800

# Nothing of a transfer is left: no socket, no reference to the modules
nothing_left() {
	for _ in $(seq 50); do
		sockets=$(on_src ss -tanH; on_dst ss -tanH)
		used=$(cat /sys/module/vfio_multifd/refcnt \
			/sys/module/qemu_vfio_pci/refcnt | tr '\n' ' ')
		case $(echo "$sockets" | grep -Evc 'TIME-WAIT|^$')$used in
		"00 0 ") return 0 ;;
		esac
		sleep 0.1
	done
	echo "# left: references $used, sockets:"
	echo "$sockets" | sed 's/^/#   /'
	return 1
}

# States on both sides are what their exit statuses say, and not both run.
consistent() {
	case $src_status in
	0 | 4) ! grep -q '^state .* RUNNING$' "$work/src.log" ;;
	2 | 3) runs src ;;
	*) false ;;
	esac || return
	case $dst_status in
	0 | 2 | 3) runs dst ;;
	4) ! grep -q '^state .* RUNNING$' "$work/dst.log" ;;
	*) false ;;
	esac || return
	case $src_status$dst_status in
	20 | 30) false ;;
	esac
}

# A migration through the proxy, with the proxy's options in $*
harmed_migration() {
	port=$((port + 1))
	start_destination -- --listen $DST4:0 --timeout 3 || return
	on_dst "$proxy" "$@" $DST4 $port $DST4 "$listen_port" \
		>"$work/proxy.log" 2>&1 &
	proxy_pid=$!
	wait_for "$work/proxy.log" ready || return
	start_source --run-ms=10 -- --timeout 3 --connect $DST4:$port
	wait_both
	kill $proxy_pid 2>/dev/null
	wait $proxy_pid
	grep -q '^harm' "$work/proxy.log"
}

healthy_migration() {
	start_destination -- --listen $DST4:0 &&
		start_source --run-ms=10 -- --connect "$DST4:$listen_port" &&
		wait_both && migrated
}

# harm NAME STATUSES-OF-SOURCE STATUSES-OF-DESTINATION PROXY-OPTION...
harm() {
	name=$1 src_may=$2 dst_may=$3
	shift 3
	harmed_migration "$@" && ended "$src_may" "$dst_may" && consistent &&
		nothing_left
	result $? "$name: source ends with $src_status, destination with $dst_status"
	rmmod vfio_multifd && modprobe vfio_multifd && healthy_migration &&
		nothing_left
	result $? "$name: a fresh migration"
}

# at NAME TYPE DIRECTION CUT KILLED-SOURCE KILLED-DESTINATION: what may happen
# at a message; each of the three is SOURCE/DESTINATION, with commas for "or"
at() {
	name=$1 type=$2 direction=$3
	for way in "cut:$4" "kill-src:$5" "kill-dst:$6" ${7:+"mute:$7"}; do
		may=$(echo "${way#*:}" | tr , ' ')
		case $way in
		cut:*) what="cut" option=--cut ;;
		kill-src:*) what="source killed" option=--kill=$work/src.log ;;
		kill-dst:*) what="destination killed" option=--kill=$work/dst.log ;;
		mute:*) what="silence" option=--mute ;;
		esac
		harm "$what at $name" "${may%/*}" "${may#*/}" \
			--type=$type --direction=$direction $option
	done
}

lib_setup
pairs ivshmem-1m || skip_all "no pair of ivshmem-1m"
#  message      from cut      source    destination silence
at HELLO      1 c    2/2      3/2       2/3
at HELLO_ACK  2 s    2/2      3/2       2/3
at READY      4 s    2/2      3/2       2,3/3       2/2
at STOPPING   5 c    2,3/2,3  3/2,3     2,3/3
at SENT       6 c    3/3      3/3,4     3/3         3/3
at LOADED     7 s    3/4      3/4       4/4         3/4
at COMMIT     9 c    4/4      4/0,4     4/4         4/4
at COMMITTED 10 s    4/0      4/0       0/0

rmmod vfio_multifd qemu_vfio_pci
result $? "the modules can be unloaded"
finish

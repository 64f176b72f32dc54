#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The link is cut, or a helper killed, at each message of the negotiation and
# of the commit.  Afterwards never both hosts run, nothing is left behind, and
# the devices can migrate.
. "$(dirname "$0")/lib.sh"

port=7800

# Starts a destination and a proxy with the options $* before it.
start_proxied_destination() {
	start_destination -- --listen $DST4:0 --timeout 5 && start_proxy "$@"
}

start_proxied_source() {
	start_source --run-ms=10 -- --timeout 5 --connect $DST4:$port
}

harmed_migration() {
	start_proxied_destination "$@" && start_proxied_source || return
	wait_both
	stop_proxy
}

# harm NAME STATUSES-OF-SOURCE STATUSES-OF-DESTINATION PROXY-OPTION...
harm() {
	test=$1 src_may=$2 dst_may=$3
	shift 3
	harmed_migration "$@" && ended "$src_may" "$dst_may" && consistent &&
		nothing_left
	result $? "$test: source ends with $src_status, destination with $dst_status"
}

# at MESSAGE TYPE DIRECTION CUT KILLED-SOURCE KILLED-DESTINATION [SILENCE]: how
# the two may end if that happens at a message: SOURCE/DESTINATION, with commas
# for "or", or "-"
at() {
	message=$1 type=$2 direction=$3
	shift 3
	for harm in cut kill-src kill-dst mute; do
		may=$(echo "${1:--}" | tr , ' ')
		[ $# = 0 ] || shift
		[ "$may" != - ] || continue
		case $harm in
		cut) what=cut option=--cut ;;
		kill-src) what="source killed" option=--kill=$work/src.log ;;
		kill-dst) what="destination killed" option=--kill=$work/dst.log ;;
		mute) what=silence option=--mute ;;
		esac
		harm "$what at $message" "${may%/*}" "${may#*/}" \
			--type=$type --direction=$direction $option
	done
	healthy_migration && nothing_left
	result $? "after all that happened at $message: a fresh migration"
}

# Who says nothing is no peer: the destination goes on waiting for one.
at_hello() {
	src_status=0
	start_proxied_destination --type=1 --direction=c --cut &&
		start_proxied_source && { wait $src_pid || src_status=$?; }
	stop_proxy && [ $src_status = 2 ] && runs src
	result $? "cut at HELLO: source ends with $src_status"
	start_source --run-ms=10 -- --connect "$DST4:$listen_port"
	wait_both && migrated && nothing_left
	result $? "cut at HELLO: the destination takes another source"
}

# States on the data channels are late, SENT and heartbeats overtake them.
late_state() {
	pairs ivshmem-4k || { skip "late state" "no pair of ivshmem-4k"; return; }
	harmed_migration --late=4000
	migrated && nothing_left
	result $? "state that comes late"
	harmed_migration --late=60000
	ended 3 3 && consistent && grep -q "no progress" "$work/src.log"
	result $? "state that does not come, while both ends give signs of life"
}

# The last word counts even if it comes a little later than the other end would wait.
late_loaded() {
	start_proxied_destination --type=7 --direction=s --wait=5500 &&
		start_source --run-ms=10 -- --timeout 20 --connect $DST4:$port
	wait_both
	stop_proxy && migrated && nothing_left
	result $? "LOADED that comes late: source ends with $src_status, destination with $dst_status"
}

# A destination that was stopped longer than its timeout finds COMMIT behind heartbeats.
stopped() {
	start_proxied_destination --type=7 --direction=s --stop="$work/dst.log" --wait=2500 &&
		start_source --run-ms=10 -- --timeout 30 --connect $DST4:$port &&
		wait_for "$work/proxy.log" "passed"
	sleep 6
	wait_for "$work/dst.log" "helper " && kill -CONT "${line#helper }"
	wait_both
	stop_proxy && migrated && nothing_left
	result $? "destination stopped until after COMMIT: source ends with $src_status, destination with $dst_status"
}

# A source that was stopped until the destination had given up does not commit.
stopped_source() {
	start_proxied_destination --type=7 --direction=s --stop="$work/src.log" &&
		start_source --run-ms=10 -- --timeout 30 --connect $DST4:$port &&
		wait_for "$work/dst.log" "event failed"
	wait_for "$work/src.log" "helper " && kill -CONT "${line#helper }"
	wait_both
	stop_proxy && ended 3 4 && consistent && nothing_left
	result $? "source stopped at LOADED: source ends with $src_status, destination with $dst_status"
}

# COMMIT goes into a cable that is out: when the source is gone, the kernel does
# not deliver it after all.
late_commit() {
	start_proxied_destination --type=7 --direction=s --stop="$work/src.log" &&
		start_proxied_source && wait_for "$work/proxy.log" "passed"
	stopped=$?
	wait_for "$work/src.log" "helper "
	ip -n dst link set cable down
	kill -CONT "${line#helper }"
	wait_both
	# a FIN alone, which counts for one byte, does no harm
	left=$(on_src ss -tanH | awk '$3 > 1')
	[ $stopped = 0 ] && ended 4 4 && [ ! "$left" ]
	result $? "cable out at COMMIT: source ends with $src_status, destination with $dst_status"
	[ ! "$left" ] || echo "# left: $left"
	cable_in dst
	stop_proxy
	nothing_left
	result $? "cable in after COMMIT"
}

# Of two devices none runs, or stops, while the other might still write to it.
two_devices() {
	pairs ivshmem-1m bochs && watch_states ||
		{ skip "two devices" "no pairs, or no dynamic debug"; return; }
	harmed_migration --type=6 --direction=c --cut
	ended 3 3 && consistent && passed src RUNNING RUNNING_P2P STOP &&
		passed src STOP RUNNING_P2P RUNNING
	result $? "two devices cut at SENT: rolled back by way of P2P"

	# One of them was reset meanwhile: what it held is gone.
	start_proxied_destination --type=6 --direction=c --stop="$work/dst.log" &&
		start_proxied_source && wait_for "$work/proxy.log" "passed" &&
		echo 1 >"/sys/bus/pci/devices/$(device ivshmem-1m 0)/reset"
	wait_for "$work/dst.log" "helper " && kill -KILL "${line#helper }"
	wait_both
	stop_proxy
	ended 5 3 && grep -q "^event failed lost .*ivshmem-1m lost its state" "$work/src.log"
	result $? "two devices, one reset: the source says that it is lost"
}

echo "TAP version 13"
lib_setup
pairs ivshmem-1m || skip_all "no pair of ivshmem-1m"
#  message      from cut      source    destination silence
at_hello
at HELLO      1 c    -        3/2       2/3
at HELLO_ACK  2 s    2/2      3/2       2/3
at READY      4 s    2/2      3/2       2,3/3       2/2
at STOPPING   5 c    2,3/2,3  3/2,3     2,3/3
at SENT       6 c    3/3      3/3,4     3/3         3/3
at LOADED     7 s    3/4      3/4       3,4/4       3/4
at COMMIT     9 c    4/4      4/0,4     4/4         4/4
at COMMITTED 10 s    4/0      4/0       0/0
late_loaded
stopped
stopped_source
late_commit
late_state
two_devices

rmmod vfio_multifd qemu_vfio_pci
result $? "the modules can be unloaded"
finish

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Whether two hosts could migrate, asked before anything moves: yes, or why not, and
# the destination waits for its source as before.
. "$(dirname "$0")/lib.sh"

# check HELPER-OPTION...: from $src to the destination that listens
check() {
	: >"$work/src.log"
	src_status=0
	"$vmm" check --netns=src --helper="$helper" $src -- \
		--connect "$DST4:$listen_port" "$@" >"$work/src.log" 2>&1 || src_status=$?
}

# said STATUS TEXT NAME
said() {
	[ $src_status = "$1" ] && grep -q "$2" "$work/src.log" && runs src &&
		kill -0 $dst_pid && ! grep -q "^event [nf]" "$work/dst.log"
	good=$?
	[ $good = 0 ] || sed 's/^/#   /' "$work/src.log"
	ok $good "$3"
}

echo "TAP version 13"
lib_setup
pairs ivshmem-1m bochs || skip_all "no pairs of ivshmem-1m and bochs"
dst_features=
port=7700
both=$src
watch_states
start_destination -- --listen $DST4:0 --timeout 3
check
said 0 "these devices can migrate: [1-9].* MiB at most, about [1-9]" "two hosts that can"
grep "^these devices\|^(at" "$work/src.log" | sed 's/^/# /'
check --json
said 0 '"check": {"size": [1-9][0-9]*, "rate": [1-9][0-9]*, "expected_ns": [1-9]' "the same, as JSON"
src=$(use ivshmem-1m 0 ivshmem-1m)
check
said 2 "number of devices is 1 at the source, 2" "another number of devices"
src="$(use ivshmem-1m 0 ivshmem-1m)$(use bochs 0 screen)"
check
said 2 "device screen: the destination has none of this name" "another name"
src="$(use ivshmem-1m 0 bochs)$(use bochs 0 ivshmem-1m)"
check
said 2 "PCI id is" "another device"
src=$both
check --connect $DST4:1
said 1 "connecting to" "a host that is not there"
# As long as it comes forward it would keep the source from this port.
start_proxy --type=14 --direction=c --wait=2000 --repeat
to_port=$listen_port listen_port=$port
check --timeout 20
listen_port=$to_port
said 1 "destination: .* seconds to measure the network" "a check that takes for ever"
stop_proxy
for _ in 1 2 3; do
	check
done
said 0 "can migrate" "again and again"
# the VMM itself sets RUNNING in the end
! { steps src; steps dst; } | grep -v "^RUNNING RUNNING$"
ok $? "no device has changed its state"
start_source --run-ms=10 -- --connect "$DST4:$listen_port"
wait_both && migrated && nothing_left
result $? "then it migrates"
finish

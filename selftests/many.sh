#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Many devices, channels and transfers at once, for a machine with 32 pairs of
# ivshmem.
. "$(dirname "$0")/lib.sh"

nr=$(cat /sys/bus/pci/devices/*/device | grep -c 0x1110)

# devices SIDE FIRST LAST: the VMM's options for that side of these pairs
devices() {
	for nth in $(seq "$2" "$3"); do
		use ivshmem-1m $((2 * nth + ($1))) "d$nth"
	done
}

one_transfer() {
	src=$(devices 0 0 $((nr / 2 - 1))) dst=$(devices 1 0 $((nr / 2 - 1)))
	start_destination -- --listen $DST4:0 --timeout 300 &&
		start_source --run-ms=10 -- --channels 64 --packet-size 64K --timeout 300 \
		--connect "$DST4:$listen_port" && wait_both && migrated && nothing_left
	result $? "$((nr / 2)) devices over 64 channels${dst_features:+, without pre-copy}"
}

# transfer N: one of many, with two devices
transfer() {
	src=$(devices 0 $((2 * $1)) $((2 * $1 + 1))) dst=$(devices 1 $((2 * $1)) $((2 * $1 + 1)))
	start_destination -- --listen $DST4:0 --timeout 300 &&
		start_source --run-ms=10 -- --channels 2 --timeout 300 \
		--connect "$DST4:$listen_port" && wait_both && migrated
	status=$?
	[ $status = 0 ] || show_logs
	return $status
}

many_transfers() {
	pids=
	all=$work
	for nth in $(seq 0 $((nr / 4 - 1))); do
		(
			trap - EXIT
			work=$all/$nth
			mkdir "$work"
			cp "$all/devices" "$work"
			transfer "$nth"
		) >"$work/$nth.out" 2>&1 &
		pids="$pids $!"
	done
	failed=0
	for pid in $pids; do
		wait "$pid" || failed=$((failed + 1))
	done
	[ $failed = 0 ] || cat "$all"/*.out
	[ $failed = 0 ] && nothing_left
	ok $? "$((nr / 4)) transfers at once, two devices each"
}

# How often the threads of a process have slept, or lost the CPU, but for its first
switches() {
	awk -v first="/proc/$1/task/$1/status" '
		FILENAME != first && /ctxt_switches/ { sum += $2; n++ }
		END { print sum, n / 2 }' /proc/"$1"/task/*/status
}

# Threads that wait do not wake up.
idle() {
	src=$(devices 0 0 3) dst=$(devices 1 0 3)
	start_destination -- --listen $DST4:0 --timeout 300 &&
		start_source --early --run-ms=3000 -- --channels 64 --timeout 300 --features digest \
		--connect "$DST4:$listen_port" && wait_for "$work/src.log" "event negotiated" &&
		helper_pid=$(sed -n 's/^helper //p' "$work/src.log")
	# so that the trigger comes when all was seen
	vmm_pid=$(cut -d ' ' -f 4 "/proc/$helper_pid/stat")
	kill -STOP "$vmm_pid"
	sleep 3
	before=$(switches "$helper_pid")
	sleep 3
	after=$(switches "$helper_pid")
	kill -CONT "$vmm_pid"
	wait_both
	echo "# $((${after% *} - ${before% *})) switches of ${after#* } threads in 3 s"
	migrated && [ "$before" = "$after" ] && [ "${after#* }" = 64 ]
	result $? "64 channels that wait do nothing"
}

echo "TAP version 13"
lib_setup
[ "$nr" = 64 ]
result $? "$nr devices"
one_transfer
dst_features=
one_transfer
many_transfers
idle
finish

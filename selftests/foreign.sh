#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Migrations of devices whose data fds the engine cannot read or write by itself,
# at one end or at both.
. "$(dirname "$0")/lib.sh"

# hidden SIDES HELPER-OPTION...: the library sees no read_iter at these
hidden() {
	sides=$1 seed=$((seed + 1))
	shift
	preload=$bin/hide_iter.so
	case $sides in *dst*) export LD_PRELOAD="$preload" ;; esac
	start_destination -- --listen $DST4:0
	good=$?
	unset LD_PRELOAD
	case $sides in *src*) export LD_PRELOAD="$preload" ;; esac
	[ $good != 0 ] || start_source --seed=$seed -- --connect "$DST4:$listen_port" "$@"
	unset LD_PRELOAD
	wait_both
	[ $good = 0 ] && migrated && nothing_left || return
	for side in src dst; do
		case $sides in
		*$side*) all $side "^hidden" ;;
		*) ! grep -q "^hidden" "$work/$side.log" ;;
		esac || return
	done
}

seed=0
echo "TAP version 13"
lib_setup
[ -e "$bin/hide_iter.so" ] || skip_all "hide_iter.so is missing"
pairs ivshmem-1m bochs || skip_all "no pairs of ivshmem-1m and bochs"
for sides in src dst src+dst; do
	hidden $sides --channels 4 --packet-size 64K
	result $? "user space reads or writes at $sides"
	hidden $sides --channels 1 --features none
	result $? "user space reads or writes at $sides, one channel without digests"
done
dst_features=
hidden src+dst
result $? "user space reads and writes in pre-copy"
healthy_migration && nothing_left
result $? "a migration by the kernel alone"
finish

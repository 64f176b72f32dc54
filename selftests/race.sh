#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Helpers that are stopped and continued, frozen and thawed, or get signals all
# the time: their migration succeeds, unless that takes too long for the peer.
# Who sleeps so keeps the modules from being unloaded.
. "$(dirname "$0")/lib.sh"

group=/sys/fs/cgroup/vfio-multifd-race

helper_of() {
	sed -n 's/^helper //p' "$work/$1.log"
}

# tormented WAY: a migration meanwhile
tormented() {
	: >"$work/src.log" >"$work/dst.log"
	"$bin/torment" "$1" $group "$work/src.log" "$work/dst.log" &
	torment_pid=$!
	start_destination -- --listen $DST4:0 &&
		start_source --run-ms=500 -- --connect "$DST4:$listen_port" &&
		wait_both
	wait $torment_pid && migrated && nothing_left
}

# One that sleeps for too long finds that the other has given up.
late() {
	start_destination -- --listen $DST4:0 --timeout 5 &&
		start_source --run-ms=6000 -- --timeout 5 --connect "$DST4:$listen_port" &&
		wait_for "$work/src.log" "event may-stop" &&
		helper_of "$1" >$group/cgroup.procs || return
	echo 1 >$group/cgroup.freeze
	sleep 7
	rmmod vfio_multifd 2>/dev/null
	engine=$?
	rmmod qemu_vfio_pci 2>/dev/null
	driver=$?
	echo 0 >$group/cgroup.freeze
	wait_both
	[ $engine != 0 ] && [ $driver != 0 ] && ended "2 3" "2 3" &&
		consistent && nothing_left
}

echo "TAP version 13"
lib_setup
pairs ivshmem-1m bochs || skip_all "no pairs of ivshmem-1m and bochs"
mkdir $group || skip_all "no cgroup v2"
tormented stop
result $? "helpers stopped and continued"
tormented freeze
result $? "helpers frozen and thawed"
tormented storm
result $? "helpers in a storm of signals"
for side in src dst; do
	late $side
	result $? "$side frozen for too long"
done
healthy_migration && nothing_left
result $? "a migration undisturbed"
rmdir $group
rmmod vfio_multifd qemu_vfio_pci
result $? "the modules can be unloaded"
finish

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# States that are kept in a file while the guest runs, and loaded from it.
. "$(dirname "$0")/lib.sh"

seed=0 store=$work/store

# keep VMM-OPTION... -- HELPER-OPTION...: devices $src, with $live
live=--live
keep() {
	src_status=0
	"$vmm" save --helper="$helper" --seed=$((seed += 1)) $src "$@" $live --json \
		--file "$store" >"$work/src.log" 2>&1 || src_status=$?
}

load() {
	dst_status=0
	"$vmm" restore --helper="$helper" $dst -- --file "$store" "$@" \
		>"$work/dst.log" 2>&1 || dst_status=$?
}

# kept NAME ROUNDS VMM-OPTION... -- HELPER-OPTION...: so many at least
kept() {
	name=$1 rounds=$2
	shift 2
	rm -f "$store"
	keep "$@" && load && migrated && [ "$(value rounds)" -ge "$rounds" ]
	result $? "$name: $(value rounds) rounds, $(value end)"
}

# goes_on NAME: nothing came of it, and the devices run on
goes_on() {
	ended 3 0 && runs src && [ "$(cat "$store")" = before ]
	result $? "$1"
}

failures() {
	echo before >"$store"
	dst_status=0 dst_log=
	mkdir "$work/small" && mount -t tmpfs -o size=600k small "$work/small"
	whole=$store store=$work/small/store
	echo before >"$store"
	keep --
	goes_on "no room for a round"
	umount "$work/small"
	store=$whole
	(
		wait_for "$work/src.log" "event may-stop" && wait_for "$work/src.log" "helper " &&
			kill -TERM "${line#helper }"
	) &
	: >"$work/src.log"
	keep --run-ms=3000 --
	wait $!
	goes_on "a signal while the guest runs"
	export LD_PRELOAD="$bin/slow.so" TERM_AT=1
	keep --
	goes_on "a signal while the disk works"
	TERM_AT=2
	keep -- && load && migrated && ! grep -q "ended by" "$work/src.log"
	result $? "a signal when the file has its name"
	TERM_AT=1
	trap '' TERM
	keep -- && load && migrated && ! grep -q "ended by" "$work/src.log"
	result $? "a signal that was ignored from the start"
	trap - TERM
	unset LD_PRELOAD TERM_AT
	rm -f "$store"
	"$helper" save --device-fd 0 --file "$store" --max-rounds 3 2>"$work/err" </dev/null
	[ $? = 1 ] && grep -q "are for --live" "$work/err"
	ok $? "--max-rounds without --live"
}

# A guest that runs does not notice that there was no room for a round.
unnoticed() {
	watch_states && mount -t tmpfs -o size=600k small "$work/small" ||
		{ skip "two devices and a full disk" "no tmpfs, or no dynamic debug"; return; }
	whole=$store store=$work/small/store
	echo before >"$store"
	dst_status=0 dst_log=
	keep --
	ended 3 0 && runs src && [ "$(cat "$store")" = before ] &&
		steps src | grep -q "^PRE_COPY RUNNING" && ! steps src | grep -q RUNNING_P2P
	result $? "two devices and a full disk: both run on"
	umount "$work/small"
	store=$whole
}

echo "TAP version 13"
lib_setup
pairs ivshmem-1m || skip_all "no pair of ivshmem-1m"
kept "one device" 1 --
kept "a guest that writes on" 3 -- --downtime-limit 0 --max-rounds 3
kept "as long as the VMM wants" 1 --run-ms=1500 --
kept "a trigger before it may stop" 0 --early --run-ms=0 -- --downtime-limit 0 --max-rounds 1000000
kept "past the page cache" 1 -- --direct
live=
keep -- && load && migrated
result $? "a guest that stands still"
live=--live
failures
if pairs ivshmem-1m bochs; then
	kept "two devices" 1 -- --channels 2
	kept "two devices, a thread" 1 -- --channels 1 --downtime-limit 0 --max-rounds 4
	unnoticed
else
	skip "two devices" "no pairs"
fi
finish

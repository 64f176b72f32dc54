#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Migrations whose state moves, in rounds, while the guest runs: when it may stop,
# when it does all the same, and what happens if somebody fails before.
. "$(dirname "$0")/lib.sh"

dst_features= seed=0 port=7900

# live SOURCE-OPTION... -- HELPER-OPTION...: from $src to $dst
live() {
	start_destination $dst_options -- --listen "${listen:-$DST4}:0" || return
	start_source --seed=$((seed += 1)) "$@" --json --connect "$DST4:$listen_port"
}

dst_options= listen=

# succeeds NAME SOURCE-OPTION... -- HELPER-OPTION...
succeeds() {
	name=$1
	shift
	live "$@" && wait_both && migrated && went_by_rounds
	result $? "$name"
}

went_by_rounds() {
	rounds=$(value rounds)
	echo "# $rounds rounds, $(value end)"
	[ "$rounds" -ge 1 ]
}

by_way_of_pre_copy() {
	watch_states || { skip "states" "no dynamic debug"; return; }
	live -- && wait_both && migrated && steps src >"$work/steps"
	result $? "one device, all defaults"
	for step in "PRE_COPY RUNNING" "STOP_COPY PRE_COPY_P2P"; do
		grep -qx "$step" "$work/steps"
		ok $? "the source went to $step"
	done
}

two_devices() {
	pairs ivshmem-1m bochs || { skip "two devices" "no pairs"; return; }
	watch_states
	live -- --channels 2 && wait_both && migrated &&
		passed src PRE_COPY PRE_COPY_P2P STOP_COPY
	result $? "two devices, by way of PRE_COPY_P2P"
}

# Its initial bytes have moved, and there are some again: no stop is offered yet.  Over
# the main channel each time a record says that they have.
set_up_anew() {
	reinit=0
	for multifd in on off; do
		start_destination -- --listen $DST4:0
		start_proxy --type=17 --direction=c --note=20=ffffffffef100005
		# over the main channel somebody else looks before
		export LD_PRELOAD="$bin/reinit.so" REINIT=$((reinit += 1))
		all=$src src=$src,multifd=$multifd
		start_source --seed=$((seed += 1)) -- --downtime-limit 600000 --json \
			--connect $DST4:$port
		unset LD_PRELOAD REINIT
		src=$all
		wait_both && migrated && [ "$(value rounds)" = 2 ]
		good=$?
		stop_proxy
		said=$(grep -c seen "$work/proxy.log")
		[ $good = 0 ] && [ $multifd$said = on0 -o $multifd$said = off2 ]
		result $? "a device that is set up anew, multifd $multifd: $(value rounds) rounds, $said records"
	done
}

# Each of two holds the stop up by itself.
two_set_up_anew() {
	pairs ivshmem-1m bochs || { skip "two devices" "no pairs"; return; }
	for reinit in 1 2; do
		start_destination -- --listen $DST4:0
		export LD_PRELOAD="$bin/reinit.so" REINIT=$reinit
		start_source --seed=$((seed += 1)) -- --downtime-limit 600000 --json \
			--connect "$DST4:$listen_port"
		unset LD_PRELOAD REINIT
		wait_both && migrated && [ "$(value rounds)" = 2 ]
		result $? "device $reinit of two is set up anew: $(value rounds) rounds"
	done
}

# slowly NAME VARIABLE=VALUE TIMEOUT: three devices whose drivers take their time so
slowly() {
	pairs ivshmem-4k ivshmem-1m bochs || { skip "$1" "no pairs"; return; }
	export LD_PRELOAD="$bin/slow.so" "$2"
	start_destination -- --listen $DST4:0 --timeout $3
	start_source --seed=$((seed += 1)) -- --json --timeout $3 --connect "$DST4:$listen_port"
	unset LD_PRELOAD "${2%=*}"
	wait_both && migrated
	result $? "$1"
}

# Nothing is to be done for longer than the timeout, and then a lot, for a slow driver.
late_burst() {
	export LD_PRELOAD="$bin/slow.so" WRITE_MS=20
	start_destination -- --listen $DST4:0 --timeout 3
	export LD_PRELOAD="$bin/reinit.so" REINIT=75
	unset WRITE_MS
	all=$src src=$src,multifd=off
	start_source --seed=$((seed += 1)) --run-ms=16000 -- --downtime-limit 600000 --timeout 3 \
		--json --connect "$DST4:$listen_port"
	unset LD_PRELOAD REINIT
	src=$all
	wait_both && migrated && [ "$(value rounds)" = 2 ]
	result $? "a round after a long time, for a slow driver: $(value rounds) rounds"
}

# What the guest writes never ends, so that the limit decides.
when_to_stop() {
	live -- --downtime-limit 0 --max-rounds 3 && wait_both && migrated &&
		[ "$(value end)" = max-rounds ] && [ "$(value rounds)" -le 4 ]
	result $? "a guest that writes on: $(value rounds) rounds, $(value end)"
	# most rounds leave as much as the one before
	live -- --downtime-limit 0 --max-rounds 1000 && wait_both && migrated && [ "$(value end)" = stalled ]
	result $? "rounds in vain: $(value rounds) rounds, $(value end)"
	live -- --downtime-limit 600000 && wait_both && migrated && [ "$(value end)" = converged ]
	result $? "a downtime limit of ten minutes: $(value rounds) rounds"
	live --early --run-ms=0 -- --downtime-limit 0 --max-rounds 1000000 && wait_both && migrated
	result $? "a trigger that does not wait: $(value rounds) rounds, $(value end)"
	live --run-ms=1500 -- && wait_both && migrated
	result $? "a guest that runs on after it may stop: $(value rounds) rounds"
}

# A second at the least: 1 MiB of memory at half of that
limited() {
	live --early --run-ms=1000 -- --max-bandwidth 512K --channels 2 &&
		wait_for "$work/src.log" "event stopped" && wait_both && migrated
	good=$?
	before=$(sed -n 's/.*"precopy": {[^}]*"bytes": \([0-9]*\).*/\1/p' "$work/src.log")
	# TCP begins with what it may have in flight at once
	[ $good = 0 ] && [ "${before:-2000000}" -lt 900000 ]
	result $? "bandwidth before the stop: $before bytes in a second, with a limit of 512 KiB"
	# 8 seconds if it was limited, too
	live --early --run-ms=0 -- --max-bandwidth 128K --channels 2 && wait_both && migrated
	good=$?
	rest=$((($(time_of streamed) - $(time_of stopped)) / 1000000))
	[ $good = 0 ] && [ $rest -lt 4000 ]
	result $? "no limit after the stop: the rest took $rest ms"
}

connections() {
	on_src awk '$4 == "01"' "/proc/net/$1" | wc -l
}

paths() {
	listen="[::]"
	live --run-ms=1500 -- --channel-address "$DST4" --channel-address "[$DST6]" &&
		wait_for "$work/src.log" "event may-stop" &&
		four=$(connections tcp) six=$(connections tcp6) && wait_both && migrated
	good=$?
	listen=
	[ $good = 0 ] && [ "$four $six" = "3 2" ]
	result $? "channels by two paths: $four connections by IPv4, $six by IPv6"
	live -- --channel-address "$DST4:1" && wait_both && ended 2 2 && consistent && nothing_left
	result $? "a path to nowhere is refused"
}

# One end is without it, or both do not want it.
without() {
	watch_states
	live -- --features digest && wait_both && migrated && [ "$(value rounds)" = 0 ] &&
		! steps src | grep -q PRE_COPY
	result $? "a source without the feature"
	dst_features="--features order-free"
	live -- && wait_both && migrated && [ "$(value rounds)" = 0 ]
	result $? "a destination without the feature"
	dst_features=
}

# A round counts when the destination has loaded it: state that comes two seconds late
# keeps the source from offering the stop for as long.
late_round() {
	start_destination -- --listen $DST4:0
	start_proxy --late=2000 &&
		start_source --run-ms=0 -- --json --connect $DST4:$port && wait_both && migrated
	good=$?
	stop_proxy
	late=$((($(time_of trigger) - $(time_of negotiated)) / 1000000))
	[ $good = 0 ] && [ $late -ge 2000 ]
	result $? "a round that is loaded late: the stop is offered after $late ms"
}

# An edited message's first byte is its twelfth.
failures() {
	harmed "cut at ROUND" 2 2 "" --type=12 --direction=c --cut
	harmed "cut at ROUND_ACK" 2 2 "" --type=13 --direction=s --cut
	harmed "source killed at ROUND" 3 2 "" --type=12 --direction=c --kill="$work/src.log"
	harmed "destination killed at ROUND_ACK" 2 3 "" --type=13 --direction=s \
		--kill="$work/dst.log"
	harmed "silence at ROUND" 2 2 "" --type=12 --direction=c --mute
	harmed "ROUND of another number" 2 2 "" --type=12 --direction=c --edit=12=00000007
	harmed "ROUND_ACK of another number" 2 2 "" --type=13 --direction=s --edit=12=00000007
	live --run-ms=5000 -- && wait_for "$work/src.log" "event may-stop" &&
		wait_for "$work/src.log" "helper " && kill -TERM "${line#helper }" &&
		wait_both && ended 2 2 && consistent && nothing_left
	result $? "a source that is cancelled"
	trap '' TERM
	live --run-ms=1500 --
	trap - TERM
	wait_for "$work/src.log" "event may-stop" && wait_for "$work/src.log" "helper " &&
		kill -TERM "${line#helper }" && wait_both && migrated
	result $? "a signal that was ignored from the start"
	live --run-ms=5000 -- && wait_for "$work/src.log" "event may-stop" &&
		wait_for "$work/dst.log" "helper " && kill -TERM "${line#helper }" &&
		wait_both && ended 2 2 && consistent && nothing_left
	result $? "a destination that is cancelled"
}

echo "TAP version 13"
lib_setup
pairs ivshmem-1m || skip_all "no pair of ivshmem-1m"
by_way_of_pre_copy
for channels in 1 16; do
	succeeds "$channels channels" -- --channels $channels --packet-size 64K
done
succeeds "packets of 4 KiB" -- --packet-size 4K
set_up_anew
when_to_stop
limited
paths
without
late_round
late_burst
failures
two_devices
two_set_up_anew
# all of them take longer than the timeout, and each comes in time
slowly "three devices that get to their states one by one" STATE_MS=1200 3
# none gets there unless all are on their way at once
slowly "three devices that stop, and load, at the same time" TOGETHER=3 30
healthy_migration && nothing_left
result $? "a migration undisturbed"
finish

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Migrations of devices whose state goes over the main channel: because somebody wants
# it so, because an end has no engine, beside others that go over the channels, in
# pre-copy, and with a fault.
. "$(dirname "$0")/lib.sh"

port=7960 seed=0

# kinds SOURCE-MODE DESTINATION-MODE KIND...: a pair of each kind, the first of them
# with these modes, or "-" for none
kinds() {
	src_mode=$1 dst_mode=$2
	shift 2
	pairs "$@" || return
	[ "$src_mode" = - ] || src=$(add_mode "$src" "$src_mode")
	[ "$dst_mode" = - ] || dst=$(add_mode "$dst" "$dst_mode")
}

add_mode() {
	echo " $1" | sed "s/idstr=[^ ]*/&,multifd=$2/"
}

# The helper as on a machine without the module
no_engine() {
	cat >"$work/no_engine" <<-END
		#!/bin/sh
		mount --bind /dev/null /dev/vfio-multifd && exec $helper "\$@"
	END
	printf '#!/bin/sh\nexec unshare -m %s "$@"\n' "$work/no_engine" >"$work/no_engine_helper"
	chmod +x "$work/no_engine" "$work/no_engine_helper"
}

move() {
	start_destination -- --listen $DST4:0 --json &&
		start_source --seed=$((seed += 1)) -- --json --connect "$DST4:$listen_port" \
			$src_options "$@" &&
		wait_both
}

# multifd SIDE: "true" or "false" for each of its devices, in their order
multifd() {
	grep -o '"multifd": [a-z]*' "$work/$1.log" | sed 's/.*: //' | tr '\n' ' '
}

# total SIDE: bytes of all devices
total() {
	sed -n 's/.*"bytes": \([0-9]*\), "packets": [0-9]*, "devices".*/\1/p' "$work/$1.log"
}

# went NAME "DEVICES..." HELPER-OPTION...: the devices go this way at both ends
went() {
	name=$1 way=$2
	shift 2
	move "$@" && migrated && [ "$(multifd src)" = "$way " ] &&
		[ "$(multifd dst)" = "$way " ] && nothing_left &&
		[ "$(total src)" -gt 1048576 ] && [ "$(total dst)" = "$(total src)" ]
	result $? "$name"
}

# refused NAME TEXT: nothing moves, and both ends say so
refused() {
	move && ended 2 2 && consistent && grep -q "^event failed .*$2" "$work/src.log" &&
		grep -q "^event failed .*$2" "$work/dst.log"
	result $? "$1"
}

says() {
	grep -q "goes over the main channel: $2" "$work/$1.log"
	ok $? "$1 says: $2"
}

modes() {
	kinds off - ivshmem-1m
	went "off at the source" false
	says dst "the source wants it so"
	kinds - off ivshmem-1m
	went "off at the destination" false --channels 1
	says src "the destination wants it so"
	kinds off off ivshmem-1m
	went "off at both" false
	! grep -q "goes over the main channel" "$work/src.log" "$work/dst.log"
	ok $? "nobody wonders why"
	kinds on auto ivshmem-1m
	went "on and auto" true
	kinds on off ivshmem-1m
	refused "on and off" "multifd is on at the source, off at the destination"
	kinds off on ivshmem-1m
	refused "off and on" "multifd is off at the source, on at the destination"
}

# One has the module, or none of both.
engines() {
	real=$helper
	kinds - - ivshmem-1m
	no_engine
	helper=$work/no_engine_helper start_destination -- --listen $DST4:0 --json &&
		helper=$real start_source -- --json --connect "$DST4:$listen_port" && wait_both &&
		migrated && [ "$(multifd src)" = "false " ]
	result $? "a destination without an engine"
	helper=$real
	says src "the destination has no engine"
	start_destination -- --listen $DST4:0 --json
	helper=$work/no_engine_helper start_source -- --json --connect "$DST4:$listen_port"
	helper=$real
	wait_both && migrated && [ "$(multifd dst)" = "false " ]
	result $? "a source without an engine"
	says src "/dev/vfio-multifd"
	kinds on - ivshmem-1m
	helper=$work/no_engine_helper
	start_destination -- --listen $DST4:0
	helper=$real
	start_source -- --connect "$DST4:$listen_port"
	wait_both && ended 2 2 && consistent &&
		grep -q "multifd is on at the source, the destination cannot: /dev/vfio-multifd" \
			"$work/src.log"
	result $? "a destination that has to have an engine, and has none"
	kinds - - ivshmem-1m
	rmmod vfio_multifd
	move && migrated && ! [ -e /dev/vfio-multifd ]
	result $? "two machines without the module"
	modprobe vfio_multifd
}

beside_others() {
	kinds off - ivshmem-1m bochs || { skip "two devices" "no pairs"; return; }
	went "one of two devices" "false true"
	kinds off - bochs ivshmem-1m
	went "the other of two devices" "false true"
	dst_features=
	went "one of two devices, in pre-copy" "false true" --downtime-limit 50
	pairs ivshmem-1m bochs && src=$(echo "$src" | sed 's/idstr=[^ ]*/&,multifd=off/g')
	went "both of two devices, in pre-copy" "false false" --downtime-limit 50
	dst_features="--features digest,order-free"
}

in_pre_copy() {
	kinds off - ivshmem-1m
	dst_features=
	went "in pre-copy" false --downtime-limit 0 --max-rounds 3
	[ "$(value rounds)" -ge 1 ]
	ok $? "$(value rounds) rounds, $(value end)"
	# a megabyte at an eighth of that
	start_destination -- --listen $DST4:0
	start_source -- --connect "$DST4:$listen_port" --channels 1 --max-bandwidth 128K
	wait_for "$work/src.log" "event negotiated" && sleep 1 &&
		wait_for "$work/src.log" "helper " && kill -TERM "${line#helper }"
	wait_both && ended 2 2 && consistent && nothing_left &&
		grep -q cancelled "$work/src.log"
	result $? "cancelled in the middle of a round that is slow"
	dst_features="--features digest,order-free"
}

# change LINES COMMAND...: with a source that is told other modes, by these lines first
change() {
	lines=$1
	shift
	rm -f "$work/modes"
	mkfifo "$work/modes" && exec 8<>"$work/modes" && printf "$lines" >&8
	src_options="--modes-fd 8" "$@"
	exec 8>&-
}

# sessions N: so many were begun by now, and are soon
sessions() {
	for _ in $(seq 100); do
		[ "$(grep -c "^event negotiated" "$work/src.log")" != "$1" ] || return 0
		sleep 0.1
	done
	return 1
}

# went_after N LINES NAME WAY HELPER-OPTION...: they make it N sessions
went_after() {
	n=$1 lines=$2
	shift 2
	change "$lines" went "$@"
	sessions $n && [ "$(grep -c "^event negotiated" "$work/dst.log")" = $n ] &&
		[ "$(grep -c "^event listening" "$work/dst.log")" = 1 ]
	result $? "... in $n sessions"
}

# Other modes in the middle of a round, again in that of the next session, and so on
change_in_rounds() {
	start_destination -- --listen $DST4:0 --json
	start_source --seed=$((seed += 1)) -- --json --connect "$DST4:$listen_port" \
		--channels 1 --max-bandwidth 128K $src_options
	n=0
	for mode in off on off; do
		sessions $((n += 1)) && sleep 1 && echo "ivshmem-1m $mode" >&8
	done
	wait_both && migrated && sessions 4 && [ "$(multifd src)" = "false " ] &&
		[ "$(multifd dst)" = "false " ] && nothing_left &&
		[ "$(total dst)" = "$(total src)" ]
	result $? "off, on and off in the middle of rounds"
}

# refused_after LINES NAME TEXT
refused_after() {
	change "$1" move && ended 2 2 && consistent && nothing_left &&
		grep -q "^event failed refused .*$3" "$work/src.log"
	result $? "$2"
}

changes() {
	kinds - - ivshmem-1m
	went_after 2 "ivshmem-1m off\n" "off in its course" false
	went_after 1 "ivshmem-1m on\n" "on, which it was" true
	went_after 1 "ivshmem-1m off\nivshmem-1m on\n" "off, and on at once" true
	refused_after "ivshmem-1m maybe\n" "no mode" "ivshmem-1m maybe.* is not a device's name and"
	refused_after "ivshmem-1m o" "half a line" "ivshmem-1m o.* is not a device's name and"
	refused_after "nobody on\n" "no device" "no device is named nobody"
	dst_features=
	went_after 2 "ivshmem-1m off\n" "off, with pre-copy" false --downtime-limit 50
	change "" change_in_rounds
	dst_features="--features digest,order-free"
	kinds off - ivshmem-1m
	went_after 2 "ivshmem-1m auto\n" "auto in its course" true
	kinds on on ivshmem-1m
	refused_after "ivshmem-1m off\n" "off, which the destination does not want" \
		"multifd is off at the source, on at the destination"
	kinds - - ivshmem-1m bochs || { skip "one of two changes" "no pairs"; return; }
	went_after 2 "bochs off\n" "one of two devices in its course" "true false"
}

# change_while SIDE NAME: the helper of one side stands still when modes change, so that
# heartbeats are ahead of ANEW, or the trigger is there as well
change_while() {
	start_destination -- --listen $DST4:0 --json
	start_source --run-ms=4500 -- --json --connect "$DST4:$listen_port" $src_options &&
		wait_for "$work/src.log" "event may-stop" &&
		wait_for "$work/$1.log" "helper " && stopped=${line#helper } &&
		kill -STOP $stopped && sleep 3 && echo "ivshmem-1m off" >&8 && sleep 3 &&
		kill -CONT $stopped
	wait_both && migrated && sessions 2 && [ "$(multifd src)" = "false " ]
	result $? "$2"
}

# Who only looks is told no, and gives a source that has gone no more time.
look_meanwhile() {
	start_destination -- --listen $DST4:0 --timeout 5
	start_proxy --type=19 --direction=s --cut
	start_source -- --connect $DST4:$port $src_options
	wait $src_pid
	looks=0
	: >"$work/look.log"
	while kill -0 $dst_pid 2>/dev/null && [ $looks -lt 100 ]; do
		looks=$((looks + 1))
		"$vmm" check --netns=src --helper="$helper" $src -- \
			--connect "$DST4:$listen_port" >>"$work/look.log" 2>&1
	done
	dst_status=0
	wait $dst_pid || dst_status=$?
	stop_proxy && [ $dst_status = 2 ] && [ $looks -lt 100 ] &&
		grep -q "waiting for the source to begin anew" "$work/dst.log" &&
		grep -q "refused: the destination is in the middle of a transfer" "$work/look.log"
	result $? "$looks checks before a source that does not come"
}

change_fails() {
	kinds - - ivshmem-1m
	off="ivshmem-1m off\n"
	change "$off" harmed "source killed at ANEW" 3 2 "" \
		--type=19 --direction=s --after --kill="$work/src.log"
	change "$off" harmed "cut at the source's ANEW" 2 2 "" --type=19 --direction=c --cut
	change "$off" harmed "cut at the destination's ANEW" 2 2 "" \
		--type=19 --direction=s --cut
	grep -q "waiting for the source to begin anew" "$work/dst.log"
	result $? "... which does not wait for ever"
	change "$off" harmed "destination killed at ANEW" 2 3 "" \
		--type=19 --direction=s --after --kill="$work/dst.log"
	change "$off" harmed "silence at ANEW" 2 2 "" --type=19 --direction=c --mute
	change "" change_while dst "other modes, behind heartbeats"
	change "" change_while src "other modes, and the trigger"
	change "$off" look_meanwhile
	src_options="--modes-fd 8"
	move 8</dev/null && migrated && sessions 1
	result $? "nobody who could change modes"
	src_options=
	dst_features=
	harmed "ANEW that nobody asked for" 2 2 "destination sent ANEW out of turn" \
		--type=13 --direction=s --edit=4=0013000000000000
	dst_features="--features digest,order-free"
}

# A driver that does not come to an end, where the helper waits for it
stuck() {
	kinds off off ivshmem-1m
	export LD_PRELOAD="$bin/slow.so" WRITE_MS=60000
	start_destination -- --listen $DST4:0 --timeout 3
	unset LD_PRELOAD WRITE_MS
	start_source -- --connect "$DST4:$listen_port" --timeout 3
	wait_both && ended 3 3 && consistent && nothing_left &&
		grep -q "^event failed .*waiting for a device" "$work/dst.log"
	result $? "a driver that takes a minute to load"
}

# The first SECTION's body, from its 12th byte on: device, section, marker
faults() {
	kinds off off ivshmem-1m
	harmed "cut at SECTION" 3 3 "" --type=17 --direction=c --cut
	harmed "source killed at SECTION" 3 3 "" --type=17 --direction=c --kill="$work/src.log"
	harmed "destination killed at SECTION" 3 3 "" --type=17 --direction=c --kill="$work/dst.log"
	harmed "silence at SECTION" 3 3 "" --type=17 --direction=c --mute
	harmed "SECTION of another device" 3 3 "SECTION of device 1" \
		--type=17 --direction=c --edit=12=00000001
	harmed "SECTION of another kind" 3 3 "out of turn in section 4" \
		--type=17 --direction=c --edit=16=00000004
	harmed "SECTION with another marker" 3 3 "marker 0xffffffffef100004 is out of turn" \
		--type=17 --direction=c --edit=20=ffffffffef100004
	harmed "SECTION that is too long" 3 3 "SECTION of 65561 bytes" \
		--type=17 --direction=c --edit=8=00010019
}

echo "TAP version 13"
lib_setup
pairs ivshmem-1m || skip_all "no pair of ivshmem-1m"
modes
engines
beside_others
in_pre_copy
changes
change_fails
stuck
faults
kinds - - ivshmem-1m
healthy_migration && nothing_left
result $? "a migration undisturbed"
finish

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# What a helper refuses of its user, and of a peer whose message was changed on
# the way.
. "$(dirname "$0")/lib.sh"

port=7900
patience=5

# usage NAME STATUS WORDS ARGUMENT...: the helper ends so, and says so
usage() {
	name=$1 expected=$2 words=$3 status=0
	shift 3
	timeout 20 "$helper" "$@" >"$work/log" 2>&1 </dev/null || status=$?
	[ $status = "$expected" ] && grep -q -e "$words" "$work/log"
	good=$?
	[ $good = 0 ] || sed "s/^/#   $status: /" "$work/log"
	ok $good "helper: $name"
}

start_proxied_destination() {
	start_destination -- --listen $DST4:0 --timeout $patience && start_proxy "$@"
}

start_proxied_source() {
	start_source --run-ms=10 -- --timeout $patience --connect $DST4:$port
}

# edit TYPE DIRECTION AT HEX: a migration, with a message changed on the way
edit() {
	start_proxied_destination --type="$1" --direction="$2" --edit="$3=$4" &&
		start_proxied_source && wait_both
	stop_proxy
}

# edited NAME TYPE DIRECTION AT HEX "STATUS STATUS" WORDS: it is refused
edited() {
	name=$1
	edit "$2" "$3" "$4" "$5" && ended ${6% *} ${6#* } && runs src && runs dst &&
		cat "$work/src.log" "$work/dst.log" | grep -q "$7"
	result $? "$name"
}

# The characters $2, $1 times
repeat() {
	printf "$2%.0s" $(seq "$1")
}

of_user() {
	usage "no command" 1 "which command"
	usage "an unknown command" 1 "fly" fly
	usage "--help" 0 "Usage: vfio-multifd" --help
	usage "send --help" 0 "--trigger-fd" send --help
	usage "--version" 0 "^vfio-multifd [0-9]" --version
	usage "an unknown option" 1 "unrecognized option '--channels" \
		recv --device-fd 0 --channels 4
	usage "an option without its value" 1 "option '--listen' requires" recv --listen
	usage "an option with a value too many" 1 "'--json' doesn't allow" send --json=yes
	usage "no device" 1 "--device-fd" send --connect 192.0.2.9
	usage "no address" 1 "--connect is missing" send --device-fd 0
	usage "65 devices" 1 "more than 64 devices" recv $(repeat 65 " --device-fd=0")
	usage "a word too many" 1 'what is "now"' recv --device-fd 0 now
	usage "an fd that is not open" 1 "not an open fd" recv --device-fd 77
	usage "an fd that is no VFIO device" 1 "is not a VFIO device" recv --device-fd 0
	usage "an unknown option of a device" 1 "what is" recv --device-fd 0,color=red
	usage "a name of 256 bytes" 1 "longer than 255" \
		recv --device-fd "0,idstr=$(repeat 256 x)"
	usage "a name with a space" 1 "without spaces" recv --device-fd "0,idstr=a b"
	usage "a name twice" 1 "two devices are named a" \
		recv --device-fd 0,idstr=a --device-fd 1,idstr=a
	usage "an fd twice" 1 "the same fd" recv --device-fd 0 --device-fd 0
	usage "a device fd as its own config-fd" 1 "as its config-fd too" \
		recv --device-fd 0,config-fd=0
	usage "an fd twice in a file" 1 "fd 0 is given twice" \
		save --device-fd 0 --device-fd 0
	usage "a name in a file, and more" 1 "without spaces and commas" \
		save --device-fd 0,idstr=a,multifd=on
	usage "a timeout of 2 s" 1 "timeout" recv --device-fd 0 --timeout 2
	usage "a timeout of 3601 s" 1 "timeout" recv --device-fd 0 --timeout 3601
	usage "a packet size of 0" 1 "packet-size" \
		send --connect ::1 --device-fd 0 --packet-size 0
	usage "a packet size of 5000" 1 "packet-size" \
		send --connect ::1 --device-fd 0 --packet-size 5000
	usage "a packet size of 8M" 1 "packet-size" \
		send --connect ::1 --device-fd 0 --packet-size 8M
	usage "no channel" 1 "channels" send --connect ::1 --device-fd 0 --channels 0
	usage "an unknown feature" 1 "takes digest" \
		send --connect ::1 --device-fd 0 --features magic
}

# What both ends say in HELLO, from its 12th byte on: two versions, channels,
# features, packet size, devices, uuid; per device name, instance, flags, what
# can migrate, sizes of regions, ids, class and revision
of_source() {
	edited "HELLO of another version" 1 c 12 00020003 "2 2" "versions 2 to 3"
	edited "HELLO of an older version" 1 c 12 00000000 "2 2" "versions 0 to 0"
	edited "HELLO with no channel" 1 c 16 00000000 "2 2" "wants 0 channels"
	edited "HELLO with 65 channels" 1 c 16 00000041 "2 2" "wants 65 channels"
	edited "HELLO with packets of 5000 bytes" 1 c 28 00001388 "2 2" "packets of 5000"
	edited "HELLO with packets of 0 bytes" 1 c 28 00000000 "2 2" "packets of 0"
	edited "HELLO with packets of 8 MiB" 1 c 28 00800000 "2 2" "packets of 8388608"
	edited "HELLO with 1000 devices" 1 c 32 000003e8 "2 2" "1000 at the source"
	edited "HELLO with a device more than it has" 1 c 32 00000002 "2 2" "HELLO"
	edited "HELLO with a space in a name" 1 c 53 20 "2 2" "no proper name"
	edited "HELLO with a byte of 0x7f in a name" 1 c 53 7f "2 2" "no proper name"
	edited "HELLO with an empty name" 1 c 52 00 "2 2" "no proper name"
	edited "HELLO with an endless name" 1 c 52 "$(repeat 256 41)" "2 2" "no proper name"
	edited "HELLO with another instance" 1 c 311 01 "2 2" "none of this name"
	edited "HELLO with an unknown flag" 1 c 315 83 "2 2" "unknown flags"
	edited "HELLO without config state" 1 c 315 00 "2 2" "only the destination has"
	edited "HELLO of a device that does more" 1 c 323 0f "2 2" "migration flags"
	edited "HELLO of another region" 1 c 331 ff "2 2" "size of region 0"
	edited "HELLO of another last region" 1 c 395 ff "2 2" "size of region 8"
	edited "HELLO of another vendor" 1 c 396 8086 "2 2" "PCI id is 8086"
	edited "HELLO of another device" 1 c 398 8086 "2 2" "PCI id is 1af4:8086"
	edited "HELLO of another class" 1 c 400 06 "2 2" "PCI class"
	edited "HELLO of another revision" 1 c 403 77 "2 2" "PCI revision"
	edited "SENT of other bytes" 6 c 19 ff "3 3" "others came"
	edited "SENT of other packets" 6 c 27 ff "3 3" "others came"
	edited "SENT of no device" 6 c 11 00 "3 3" "SENT of 0 bytes"
	edited "SENT of a device too many" 6 c 11 20 "3 3" "SENT does not have the size"
	edited "STOPPING that is COMMIT" 5 c 4 0009 "3 2" "COMMIT out of turn"
}

of_destination() {
	edited "HELLO_ACK of another version" 2 s 12 0002 "2 2" "version"
	edited "HELLO_ACK that is READY" 2 s 4 0004 "2 2" "out of turn\|READY"
	edited "a message without its magic" 4 s 0 00 "2 2" "magic"
	edited "a message of no type" 4 s 4 00ff "2 2" "unknown type 255"
	edited "a message with a reserved field" 4 s 6 01 "2 2" "reserved field"
	edited "a message that is too long" 4 s 8 7fffffff "2 2" "2147483647"
	edited "HELLO_ACK of other features" 2 s 27 0f "2 2" "features 0xf were not offered"
	edited "READY with a body" 4 s 11 04 "2 2" "READY\|progress"
	edited "LOADED that is REFUSE" 7 s 4 0003 "3 3" "REFUSE out of turn"
}

# A source may offer what is not known here; it is told what it may use.
unknown_feature() {
	edit 1 c 27 0f && migrated
	result $? "HELLO with a feature that nobody knows"
}

# The second device gets the name of the first.
device_twice() {
	pairs ivshmem-1m && more=$(use ivshmem-1m 2 b) && src=$src$more &&
		more=$(use ivshmem-1m 3 b) && dst=$dst$more ||
		{ skip "HELLO with a device twice" "no two pairs of ivshmem-1m"; return; }
	edited "HELLO with a device twice" 1 c 404 697673686d656d2d316d "2 2" "twice in HELLO"
	pairs ivshmem-1m
}

# knock FORMAT: somebody else sends this, of which 64 bytes say what it is
knock() {
	printf "$1" | on_src busybox nc -w 1 $DST4 "$listen_port" >/dev/null 2>&1
}

# Somebody else knocks at the port, before a source does.
strangers() {
	start_destination -- --listen $DST4:0 --timeout 20
	knock "\r\n"
	knock "GET / HTTP/1.0\r\n"
	knock "GET /$(repeat 64 x) HTTP/1.0\r\n"
	knock "\021\042\063\104$(repeat 60 A)"
	start_source --run-ms=10 -- --connect "$DST4:$listen_port" && wait_both
	migrated
	result $? "strangers at the port"
}

# A channel of another transfer comes before those that are awaited.
strange_channel() {
	patience=20
	start_proxied_destination --type=2 --direction=s --stop="$work/src.log" &&
		start_proxied_source && wait_for "$work/proxy.log" passed
	knock "\021\042\063\104\000\000\000\001$(repeat 16 A)\000$(repeat 39 A)"
	wait_for "$work/src.log" "helper " && kill -CONT "${line#helper }"
	wait_both
	stop_proxy && migrated
	result $? "a channel of another transfer"
	patience=5
}

no_port() {
	: >"$work/dst.log"
	start_source -- --connect $DST4:65536
	src_status=0 dst_status=none
	wait $src_pid || src_status=$?
	[ $src_status = 1 ] && runs src && grep -q 65536 "$work/src.log"
	result $? "a port beyond the last"
}

# Only what was asked to end ends, and what it had stopped runs again.
ended_by_user() {
	for side in src dst; do
		start_destination -- --listen $DST4:0 --timeout 20 &&
			start_source --run-ms=3000 -- --connect "$DST4:$listen_port" &&
			wait_for "$work/src.log" "event may-stop" &&
			wait_for "$work/$side.log" "helper " && kill -TERM "${line#helper }"
		wait_both
		ended 2 2 && runs src && runs dst
		result $? "SIGTERM to the helper of $side"
	done
}

# A VMM that lives on, but does not listen any more, wants no migration.
deaf() {
	for side in src dst; do
		src_deaf= dst_deaf=
		eval ${side}_deaf=--deaf=negotiated
		start_destination $dst_deaf -- --listen $DST4:0 --timeout 20 &&
			start_source $src_deaf --run-ms=3000 -- --connect "$DST4:$listen_port"
		wait_both
		ended 2 2 && runs src && runs dst
		result $? "the event fd of $side is closed"
	done
}

# Not all of a megabyte has come by then, at a quarter of that in a second.
ended_after_the_stop() {
	ip netns exec src tc qdisc add dev cable root netem rate 2mbit
	for side in src dst; do
		start_destination -- --listen $DST4:0 --timeout 20 &&
			start_source -- --connect "$DST4:$listen_port" &&
			wait_for "$work/src.log" "event stopped" &&
			wait_for "$work/$side.log" "helper " && kill -TERM "${line#helper }"
		wait_both
		ended 3 3 && runs src && consistent && nothing_left
		result $? "SIGTERM to the helper of $side after the stop"
	done
	ip netns exec src tc qdisc del dev cable root
}

addresses() {
	while read -r address words; do
		src_status=0
		start_source --run-ms=10 -- --connect="${address#-}"
		wait $src_pid || src_status=$?
		[ $src_status = 1 ] && runs src && grep -q "$words" "$work/src.log"
		result $? "the address \"${address#-}\""
	done <<-END
		- names no host
		:7747 names no host
		[::1 not HOST:PORT
		192.0.2.2:x its port is not a number
		192.0.2.2:65536 its port is not a number
	END
}

json() {
	start_destination -- --listen $DST4:0 --json &&
		start_source --run-ms=10 -- --connect "$DST4:$listen_port" --json &&
		wait_both
	migrated && for side in src dst; do
		sed -n 's/^{/{/p' "$work/$side.log" | perl -MJSON::PP -e '
			my $r = decode_json(<STDIN>);
			die unless $r->{outcome} eq "done" && $r->{exit} == 0 &&
				$r->{bytes} > 1 << 19 && @{$r->{devices}} == 1 &&
				$r->{time_ns}{committed}' || break
	done
	result $? "--json"
}

echo "TAP version 13"
of_user
lib_setup
pairs ivshmem-1m || skip_all "no pair of ivshmem-1m"
of_source
of_destination
unknown_feature
device_twice
strangers
strange_channel
no_port
ended_by_user
deaf
ended_after_the_stop
addresses
json
finish

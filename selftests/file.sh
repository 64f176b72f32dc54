#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Devices whose state is kept in files, and loaded from them.
#
# file.sh save DIR, file.sh restore DIR: half of that each, for a machine that
# boots between the two
. "$(dirname "$0")/lib.sh"

seed=0
# what a runner of tests has open would be taken for devices
exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-

# lend BDF DUMP OPTION...: the helper gets a device that was filled; "%" stands for
# its fd
lend() {
	lent=$1 dump=$2
	shift 2
	seed=$((seed + 1))
	"$bin/state" lend "$lent" $seed "$dump" "$helper" "$@" --device-fd 3 \
		>"$work/out" 2>"$work/err"
	status=$?
	state=$(sed -n 's/^device is in //p' "$work/out")
}

# verdict STATUS NAME: and what the helper has said
verdict() {
	[ "$1" = 0 ] || {
		echo "# the helper ended with $status"
		sed 's/^/# /' "$work/out" "$work/err"
	}
	ok "$1" "$2"
}

saved() {
	lend "$1" "$3.dump" save --file "$3"
	[ "$status $state" = "0 STOP" ] && [ -s "$3" ]
	verdict $? "save $2"
}

restored() {
	lend "$1" "$work/dump" restore --file "$3"
	[ "$status $state" = "0 STOP" ] && cmp "$work/dump" "$3.dump"
	verdict $? "restore $2"
}

# each VERB NTH DIR: every kind of device
each() {
	for kind in ivshmem-4k ivshmem-1m bochs; do
		bdf=$(device $kind "$2") || { skip "$1 $kind" "no such device"; continue; }
		$1 "$bdf" $kind "$3/$kind"
	done
}

# fails STATUS TEXT BDF NAME OPTION...: and says so; the device runs afterwards
fails() {
	want=$1 text=$2 bdf=$3 name=$4
	shift 4
	lend "$bdf" "$work/dump" "$@"
	[ "$status $state" = "$want RUNNING" ] && grep -q -e "$text" "$work/err"
	verdict $? "$name"
}

nothing_partial() {
	[ "$(ls "$1" | wc -l)" = "$2" ]
	ok $? "$3 leaves nothing else behind"
}

options() {
	bdf=$(device ivshmem-4k 0)
	fails 1 "file is missing" "$bdf" "no --file" save
	fails 1 "what is" "$bdf" "an argument too many" save --file "$work/x" y
	fails 1 "unrecognized" "$bdf" "an unknown option" restore --files x
	fails 2 "No such file" "$bdf" "no such directory" save --file "$work/none/x"
	fails 2 "No such file" "$bdf" "no such file" restore --file "$work/none"
	fails 2 "is not a file" "$bdf" "a directory" restore --file "$work"
	fails 2 "is not a file" "$bdf" "a directory" save --file "$work"
	fails 2 "is not a file" "$bdf" "a device node" save --file /dev/null
	fails 2 "File name too long" "$bdf" "a name too long" \
		save --file "$work/$(printf %0250d 0)"
	fails 2 "Input/output error" "$bdf" "a file that cannot be read" \
		restore --file /proc/self/mem
	[ -c /dev/null ]
	ok $? "/dev/null is what it was"
	"$helper" save --device-fd 9 --file "$work/x" 2>"$work/err"
	[ $? = 1 ] && grep -q '"9" is not an open fd' "$work/err"
	ok $? "an fd that is not open"
	"$helper" save --device-fd 0 --file "$work/x" 2>"$work/err" </dev/null
	[ $? = 2 ] && grep -q "is not a VFIO device" "$work/err"
	ok $? "an fd of something else"
	file=$work/json$(printf '\377')
	lend "$bdf" "$work/dump" save --file "$file" --json
	grep -q "^{.*\"outcome\": \"done\", \"exit\": 0, .*/json\\\\u00ff\", .*\"bytes\": $(stat -c %s "$file")}$" "$work/out"
	verdict $? "a report as JSON"
}

# What was there before stays when there is no room for what should come.
no_room() {
	mkdir "$work/small" && mount -t tmpfs -o size=600k small "$work/small" ||
		{ ok 1 "a tmpfs"; return; }
	echo before >"$work/small/state"
	bdf=$(device ivshmem-1m 0)
	fails 3 "No space left" "$bdf" "a full disk" save --file "$work/small/state"
	[ "$(cat "$work/small/state")" = before ]
	ok $? "the file from before stays"
	nothing_partial "$work/small" 1 "a full disk"
	lend "$bdf" "$work/a" save --file "$work/small/state"
	seed=$((seed - 1))
	lend "$bdf" "$work/b" save --file "$work/whole"
	cmp "$work/a" "$work/b"
	ok $? "the device has what it had"
	umount "$work/small"
}

# @1 bytes of a good file, and one byte changed at @2
spoil() {
	head -c "$1" "$good" >"$work/bad"
	[ ! "$2" ] || printf x | dd of="$work/bad" bs=1 seek="$2" conv=notrunc 2>/dev/null
}

bad_files() {
	good=$work/good length=
	bdf=$(device ivshmem-1m 1)
	lend "$(device ivshmem-1m 0)" "$good.dump" save --file "$good"
	length=$(stat -c %s "$good")
	: >"$work/bad"
	fails 3 "to STOP: Invalid argument" "$bdf" "an empty file" restore --file "$work/bad"
	spoil $((length - 1)) ""
	fails 3 "to STOP: Invalid argument" "$bdf" "a byte is missing" restore --file "$work/bad"
	spoil $((length / 2)) ""
	fails 3 "to STOP: Invalid argument" "$bdf" "half of it is missing" restore --file "$work/bad"
	spoil $length 20
	fails 3 "the device, after 0 bytes: Invalid argument" "$bdf" "the header was changed" restore --file "$work/bad"
	spoil $length ""
	echo more >>"$work/bad"
	fails 3 "Invalid argument" "$bdf" "there is more" restore --file "$work/bad"
	fails 3 "the device, after 0 bytes: Invalid argument" "$(device ivshmem-4k 0)" "another device" \
		restore --file "$good"
	restored "$(device ivshmem-1m 1)" "a good file afterwards" "$good"
}

# In the middle of 256 MiB
signal() {
	big=$(device ivshmem-256m 0) || { skip "a signal" "no such device"; return; }
	mkdir "$work/big"
	cat >"$work/end" <<-'END'
	#!/bin/sh
	"$@" &
	while kill -0 $! && [ ! -s "$(echo "$DIR"/*)" ]; do sleep 0.05; done
	kill $!
	wait $!
	END
	chmod +x "$work/end"
	DIR=$work/big "$bin/state" lend "$big" 1 "$work/dump" "$work/end" "$helper" save \
		--file "$work/big/state" --device-fd 3 >"$work/out" 2>"$work/err"
	status=$?
	[ $status = 3 ] && grep -q "device is in RUNNING" "$work/out" &&
		grep -q "ended by signal 15" "$work/err"
	verdict $? "a signal ends it"
	nothing_partial "$work/big" 0 "a signal"
}

# as COMMAND...: from here on the helper is called by way of this
as() {
	printf '#!/bin/sh\n%s "$@"\n' "$* $real" >"$work/as"
	chmod +x "$work/as"
	helper=$work/as
}

# It is not for the helper to choose who calls it.
callers() {
	real=$helper bdf=$(device ivshmem-1m 0)
	as "exec >&- 2>&-; exec"
	both 0 save --file "$work/closed" --channels 2
	mv "$work/first" "$work/first.was"
	mv "$work/second" "$work/second.was"
	helper=$real
	both 1 restore --file "$work/closed"
	[ "$status $state" = "0 STOP" ] && cmp "$work/first" "$work/first.was" &&
		cmp "$work/second" "$work/second.was"
	verdict $? "a caller that has closed what messages go to"
	as "ulimit -f 100; exec"
	fails 3 "File too large" "$bdf" "a caller with a limit of sizes" save --file "$work/limited"
	[ ! -e "$work/limited" ]
	ok $? "no such file is left"
	mkdir -m 300 "$work/blind"
	as "exec setpriv --bounding-set=-dac_override,-dac_read_search"
	lend "$bdf" "$work/dump" save --file "$work/blind/state"
	[ "$status $state" = "0 STOP" ] && [ -s "$work/blind/state" ] &&
		grep -q "its directory: Permission denied" "$work/err"
	verdict $? "a directory that can be written and not read"
	helper=$real
}

# both NTH VERB OPTION...: with two devices, called one and two
both() {
	first=$(device ivshmem-1m "$1") second=$(device bochs "$1")
	shift
	seed=$((seed + 2))
	"$bin/state" lend "$first" $seed "$work/first" \
		"$bin/state" lend "$second" $((seed + 1)) "$work/second" \
		"$helper" "$@" --device-fd 3,idstr=one --device-fd 4,idstr=two \
		>"$work/out" 2>"$work/err"
	status=$?
	state=$(sed -n 's/^device is in //p' "$work/out" | sort -u)
}

# refused STATUS TEXT NAME: the last one was, and the devices run
refused() {
	[ "$status $state" = "$1 RUNNING" ] && grep -q -e "$2" "$work/err"
	verdict $? "$3"
}

# flip AT: the byte there, in a copy of the store
flip() {
	cp "$work/store" "$work/bad"
	byte=$(dd if="$work/bad" bs=1 skip="$1" count=1 2>/dev/null | od -An -tu1)
	printf "\\$(printf %03o $((byte ^ 64)))" |
		dd of="$work/bad" bs=1 seek="$1" conv=notrunc 2>/dev/null
}

# Of two devices none runs while the other might not answer it.
together() {
	watch_states && mount -t tmpfs -o size=600k small "$work/small" ||
		{ skip "two devices roll back" "no tmpfs, or no dynamic debug"; return; }
	both 0 save --file "$work/small/store"
	umount "$work/small"
	src="$first $second"
	refused 3 "No space left" "two devices and a full disk"
	passed src STOP RUNNING_P2P RUNNING
	ok $? "two devices roll back by way of P2P"
}

several() {
	store=$work/store
	for options in "" "--channels 1" "--channels 16" --direct; do
		both 0 save --file "$store" $options
		if [ "$options" = --direct ] && [ $status = 2 ]; then
			refused 2 "direct: " "a file system without O_DIRECT"
			continue
		fi
		[ "$status $state" = "0 STOP" ] && mv "$work/first" "$work/first.was" &&
			mv "$work/second" "$work/second.was"
		verdict $? "save two devices ${options:-by default}"
		both 1 restore --file "$store" $options
		[ "$status $state" = "0 STOP" ] && cmp "$work/first" "$work/first.was" &&
			cmp "$work/second" "$work/second.was"
		verdict $? "restore two devices ${options:-by default}"
	done
	together
	size=$(stat -c %s "$store")
	both 1 restore --file "$work/ivshmem-1m"
	refused 2 "is not of 2 devices" "the stream of one device for two"
	flip 20
	both 1 restore --file "$work/bad"
	refused 2 "its header is wrong" "a store with another header"
	flip $((size - 4096 + 100))
	both 1 restore --file "$work/bad"
	refused 2 "its index is wrong" "a store with another index"
	flip 500000
	both 1 restore --file "$work/bad"
	refused 3 "Bad message" "a store with another bit in its data"
	head -c $((size - 4096)) "$store" >"$work/bad"
	both 1 restore --file "$work/bad"
	refused 2 "it is not whole" "a store that was cut"
	lend "$(device ivshmem-1m 1)" "$work/dump" restore --file "$store"
	refused 2 "has 2 devices, 1 are given" "a device is missing"
	lend "$(device ivshmem-1m 0)" "$work/dump" save --channels 2 --file "$work/single"
	[ "$status $state" = "0 STOP" ]
	verdict $? "a store of one device"
	mv "$work/dump" "$work/dump.was"
	lend "$(device ivshmem-1m 1)" "$work/dump" restore --file "$work/single"
	[ "$status $state" = "0 STOP" ] && cmp "$work/dump" "$work/dump.was"
	verdict $? "it is loaded"
	for size in 4095 4; do
		head -c $size "$work/single" >"$work/bad"
		lend "$(device ivshmem-1m 1)" "$work/dump" restore --file "$work/bad"
		refused 2 "its header is wrong" "a store that was cut to $size bytes"
	done
	lend "$(device bochs 1)" "$work/dump" restore --file "$work/single"
	refused 2 "device vfio0 is another one there" "another device"
	killed
}

# At any moment: what was there before, or all of it
killed() {
	cp "$store" "$work/before"
	wrong=0 old=0 new=0
	for s in 0.001 0.02 0.04 0.06 0.08 0.1 0.12 0.15 0.2 0.3 1 3 10; do
		# those above 0.3 are for machines that are slow
		[ $new = 0 ] || [ ${s#0} != $s ] || break
		echo "killed" >"$work/victim"
		cat >"$work/kill" <<-END
		#!/bin/sh
		"\$@" &
		sleep $s
		kill -9 \$!
		wait \$!
		END
		chmod +x "$work/kill"
		first=$(device ivshmem-1m 0) second=$(device bochs 0)
		seed=$((seed + 2))
		"$bin/state" lend "$first" $seed "$work/first" \
			"$bin/state" lend "$second" $((seed + 1)) "$work/second" \
			"$work/kill" "$helper" save --file "$work/victim" \
			--device-fd 3,idstr=one --device-fd 4,idstr=two >"$work/out" 2>&1
		if [ "$(cat "$work/victim")" = killed ] 2>/dev/null; then
			old=$((old + 1))
			continue
		fi
		both 1 restore --file "$work/victim"
		[ "$status $state" = "0 STOP" ] || wrong=$((wrong + 1))
		new=$((new + 1))
	done
	[ $wrong = 0 ] && [ $old -gt 0 ] && [ $new -gt 0 ]
	verdict $? "SIGKILL at any moment leaves the old file ($old) or a whole one ($new)"
	rm -f "$work"/victim*
}

echo "TAP version 13"
lib_setup
case ${1:-all} in
save) each saved 0 "$2" ;;
restore) seed=100 && each restored 1 "$2" ;;
all)
	each saved 0 "$work"
	each restored 1 "$work"
	options
	no_room
	bad_files
	several
	signal
	callers
	;;
esac
finish

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Whole migrations between two network namespaces, and what is refused before
# anything stops.
. "$(dirname "$0")/lib.sh"

# migrate HOST SOURCE-OPTION... -- HELPER-OPTION...: from $src to $dst
migrate() {
	host=$1
	shift
	start_destination $dst_options -- --listen "$host:0" || return
	start_source --seed=$((seed += 1)) "$@" --connect "$listen_host:$listen_port"
	wait_both
}

dst_options= seed=0

# succeeds NAME SOURCE-OPTION... -- HELPER-OPTION...
succeeds() {
	name=$1
	shift
	migrate $DST4 "$@" && migrated
	result $? "$name"
}

one_device() {
	pairs ivshmem-1m || { skip "one device" "no pair of ivshmem-1m"; return; }
	for channels in 1 2 4 16; do
		succeeds "one device, $channels channels" -- \
			--channels $channels --packet-size 64K
	done
	succeeds "one device, packets of 4 KiB" -- --packet-size 4K
	for features in none digest order-free; do
		succeeds "features: $features" -- --features $features
	done
	migrate "[$DST6]" -- && migrated
	result $? "IPv6"
	succeeds "the guest runs long after it may be stopped" --run-ms=1500 --
	grep -q '^stores ivshmem-1m [1-9]' "$work/src.log" &&
		! grep -q 'wrote no more' "$work/src.log"
	result $? "the guest wrote until it was stopped"
}

four_devices() {
	pairs ivshmem-4k ivshmem-1m bochs || { skip "four devices" "no pairs"; return; }
	if fourth=$(use ivshmem-1m 2 fourth); then
		src=$src$fourth dst=$dst$(use ivshmem-1m 3 fourth)
	else
		src=$src$(use ivshmem-256m 0 fourth) && dst=$dst$(use ivshmem-256m 1 fourth) ||
			{ skip "four devices" "no fourth pair"; return; }
	fi
	for channels in 1 2 4 16; do
		succeeds "four devices, $channels channels" -- --channels $channels
	done
}

config_state() {
	pairs ivshmem-4k ivshmem-1m || { skip "config state" "no pairs"; return; }
	for size in 0 1 65536; do
		dst_options=--config-size=$size
		succeeds "config state of $size bytes" --config-size=$size --
	done
	dst_options=--config-size=65537
	migrate $DST4 --config-size=65537 -- && ended 3 3 && runs src && runs dst
	result $? "config state of 65537 bytes is too long"
	dst_options=
	succeeds "the same devices afterwards" --
}

differ() {
	a=$(digests src | grep " $1 ")
	b=$(digests dst | grep " $1 ")
	[ "$a" ] && [ "$b" ] && [ "$a" != "$b" ]
}

# The digests are worth something: one bit is enough.
flipped_bit() {
	pairs ivshmem-4k bochs || { skip "a flipped bit" "no pairs"; return; }
	dst_options=--flip
	migrate $DST4 -- && ended 0 0 && differ ivshmem-4k && differ bochs
	result $? "a flipped bit shows in the digest"
	dst_options=
}

reason() {
	sed -n 's/^event failed refused //p' "$work/$1.log"
}

# refused NAME WORDS: both say the same, with WORDS; nothing was stopped
refused() {
	name=$1 words=$2
	migrate $DST4 -- && ended 2 2 &&
		[ "$(reason src)" = "$(reason dst)" ] && reason src | grep -q "$words" &&
		! grep -q '^event stopped' "$work/src.log" &&
		! grep '^left ' "$work/src.log" | grep -qv ' RUNNING$' &&
		runs src && runs dst
	result $? "refused: $name"
	reason src | sed 's/^/# /'
}

negotiation() {
	pairs ivshmem-4k ivshmem-1m bochs || { skip "negotiation" "no pairs"; return; }
	src=$(use ivshmem-4k 0 a) dst=$(use ivshmem-1m 1 a)
	refused "another BAR size" "size of region 2 is 0x1000 at the source"
	src=$(use ivshmem-1m 0 a) dst=$(use bochs 1 a)
	refused "another device" "PCI id is 1af4:1110 at the source"
	src=$(use ivshmem-4k 0 a) dst=$(use ivshmem-4k 1 b)
	refused "another name" "device a: .* has none of this name"
	src=$(use ivshmem-4k 0 a)$(use ivshmem-1m 0 b) dst=$(use ivshmem-4k 1 a)
	refused "more devices than the destination has" "number of devices is 2"
	src=$(use ivshmem-4k 0 a) dst=$(use ivshmem-4k 1 a)$(use ivshmem-1m 1 b)
	refused "fewer devices than the destination has" "number of devices is 1"
}

# Of one device among others, whose peers may still use it: without P2P it is refused.
# The VMM takes no preloaded library, so this is what the helper sees.
without_p2p() {
	pairs ivshmem-4k ivshmem-1m || { skip "without P2P" "no pairs"; return; }
	export LD_PRELOAD="$bin/hide_flags.so" HIDE_FLAGS=2
	timeout 60 "$vmm" destination --netns=dst --helper="$helper" $dst -- \
		--listen $DST4:0 >"$work/dst.log" 2>&1
	dst_status=$?
	timeout 60 "$vmm" source --netns=src --helper="$helper" $src -- --connect $DST4:1 \
		>"$work/src.log" 2>&1
	src_status=$?
	unset LD_PRELOAD HIDE_FLAGS
	ended 1 1 && runs src && runs dst && grep -q "lacks RUNNING_P2P" "$work/src.log" &&
		grep -q "lacks RUNNING_P2P" "$work/dst.log"
	result $? "two devices without P2P"
}

# The source's kernel says how many there can be, so nobody is asked.
too_many_channels() {
	src=$(use ivshmem-4k 0 a) dst=$(use ivshmem-4k 1 a)
	start_destination -- --listen $DST4:0
	start_source -- --channels 65 --connect "$listen_host:$listen_port"
	src_status=0 dst_status=none
	wait $src_pid || src_status=$?
	[ $src_status = 1 ] && runs src
	result $? "more channels than there can be"
	kill $dst_pid
	wait $dst_pid 2>/dev/null
}

echo "TAP version 13"
lib_setup
one_device
four_devices
config_state
flipped_bit
negotiation
without_p2p
too_many_channels
finish

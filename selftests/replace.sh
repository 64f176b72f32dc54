#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Migrations some of whose connections are killed on the way.  The channels go by IPv6
# and the main channel by IPv4, so that it lives.
. "$(dirname "$0")/lib.sh"

seed=0 port=7990

# kill_at SIDE: whatever channels there are, one after the other
kill_at() {
	at=$1
	shift
	ip netns exec "$at" ss -K -tnH state established "$@" >/dev/null 2>&1
}

# A kernel that cannot kill sockets does not say so: try it on the proxy's.
can_kill() {
	listen_port=1
	start_proxy && ip netns exec dst ss -tnlH | grep -q ":$port " || return
	ip netns exec dst ss -K -tnlH sport = ":$port" >/dev/null 2>&1
	left=$(ip netns exec dst ss -tnlH sport = ":$port")
	stop_proxy
	[ ! "$left" ]
}

# killed NAME FEATURES EVENT SIDES HELPER-OPTION...: from EVENT on, at these sides in turn
killed() {
	name=$1 dst_features="--features $2" event=$3 sides=$4
	shift 4
	start_destination -- --listen "[::]:0" --timeout 20 || return
	start_source --seed=$((seed += 1)) --run-ms=1500 -- --json --timeout 20 \
		--connect "$DST4:$listen_port" --channel-address "[$DST6]" "$@"
	wait_for "$work/src.log" "event $event"
	for side in $sides; do
		case $side in
		src) kill_at src dst "[$DST6]" ;;
		dst) kill_at dst dst "[$SRC6]" ;;
		esac
		sleep 0.4
	done
	wait_both
	migrated && nothing_left && [ "$(value replaced)" -ge 1 ]
	result $? "$name: $(value replaced) connections replaced"
}

# slowly RATE [HARM...]: so is the cable
slowly() {
	ip netns exec src tc qdisc replace dev cable root netem rate "$@"
}

at_once() {
	ip netns exec src tc qdisc del dev cable root
}

# proxied NAME MAIN-PORT CHANNEL-PORT REPLACED: one of the ports is the proxy's
proxied() {
	start_source --seed=$((seed += 1)) --run-ms=1500 -- --json --max-bandwidth 1M \
		--connect "$DST4:$2" --channel-address "[$DST6]:$3" --channels 4
	wait_for "$work/src.log" "event negotiated" && kill_at src dst "[$DST6]"
	wait_both
	stop_proxy && migrated && nothing_left && [ "$(value replaced)" = "$4" ]
	result $? "$1: $(value replaced) connections replaced"
}

# Two ends that do not agree on how many connections there were
epochs() {
	dst_features="--features digest,order-free,replace,pre-copy"
	start_destination -- --listen "[::]:0" --timeout 20
	via=$DST6
	start_proxy --drop=5
	via=
	proxied "a new connection that does not get there" "$listen_port" $port 5
	start_destination -- --listen "[::]:0" --timeout 20
	start_proxy --type=18 --direction=c --wait=500
	proxied "LOST that comes later than the new connection" $port "$listen_port" 4
}

# spoilt NAME DIRECTION AT=HEX: LOST with other bytes there
spoilt() {
	start_destination -- --listen "[::]:0"
	start_proxy --type=18 --direction="$2" --edit="$3"
	start_source --seed=$((seed += 1)) --run-ms=1500 -- --max-bandwidth 1M \
		--connect "$DST4:$port" --channel-address "[$DST6]:$listen_port" --channels 4
	wait_for "$work/src.log" "event negotiated" && kill_at src dst "[$DST6]"
	wait_both
	stop_proxy && ended 2 2 && consistent && nothing_left &&
		grep -q "^event failed .*LOST of channel .* is out of turn" "$work/src.log"
	result $? "$1"
}

# All is loaded, but the source has not heard of it.
after_the_end() {
	start_destination -- --listen "[::]:0"
	start_proxy --type=7 --direction=s --wait=1500
	start_source --seed=$((seed += 1)) -- --json --connect "$DST4:$port" \
		--channel-address "[$DST6]:$listen_port"
	# the destination may have closed its end by now
	wait_for "$work/dst.log" "event loaded" &&
		on_src ss -K -tnH state connected dst "[$DST6]" >"$work/killed"
	wait_both
	stop_proxy && migrated && nothing_left && [ -s "$work/killed" ]
	result $? "LOST of what is loaded already"
}

# Nobody has this address: what is sent there gets lost in silence.
no_ipv6() {
	ip -n dst address del "$DST6/64" dev cable
}

ipv6_again() {
	ip -n dst address add "$DST6/64" dev cable nodad
}

# One of two addresses is gone for good, whoever had it: channels move to the other.
by_another_path() {
	dst_features="--features digest,order-free,replace,pre-copy"
	start_destination -- --listen "[::]:0" --timeout 20
	start_source --seed=$((seed += 1)) --run-ms=3000 -- --json --max-bandwidth 1M \
		--connect "$DST4:$listen_port" --channels 4 --packet-size 64K \
		--channel-address "[$DST6]" --channel-address "$DST4"
	wait_for "$work/src.log" "event negotiated" && no_ipv6 && kill_at src dst "[$DST6]"
	wait_both && migrated && nothing_left && [ "$(value replaced)" = 2 ]
	result $? "by another path: $(value replaced) connections replaced"
	ipv6_again
}

# Names are looked up before anything moves: who knows them may be out of reach later.
by_name() {
	dst_features="--features digest,order-free,replace,pre-copy"
	echo "$DST6 elsewhere" >"$work/hosts"
	mount --bind "$work/hosts" /etc/hosts || { skip "a name" "no /etc/hosts"; return; }
	start_destination -- --listen "[::]:0" --timeout 20
	start_source --seed=$((seed += 1)) --run-ms=1500 -- --json --max-bandwidth 1M \
		--connect "$DST4:$listen_port" --channel-address elsewhere
	wait_for "$work/src.log" "event negotiated"
	umount /etc/hosts
	kill_at src dst "[$DST6]"
	wait_both
	migrated && nothing_left && [ "$(value replaced)" -ge 1 ]
	result $? "a name that nobody knows any more: $(value replaced) connections replaced"
}

# A path that swallows all, and nobody says so: the end comes by the timeout.
swallowed() {
	slowly 2mbit
	start_destination -- --listen "[::]:0" --timeout 5
	start_source --seed=$((seed += 1)) -- --json --timeout 5 --connect "$DST4:$listen_port" \
		--channel-address "[$DST6]"
	wait_for "$work/src.log" "event stopped" && no_ipv6
	wait_both
	at_once
	ended 3 3 && consistent && grep -q "no progress" "$work/src.log"
	result $? "a path that swallows: source ends with $src_status, destination with $dst_status"
	ipv6_again
	healthy_migration && nothing_left
	result $? "a migration undisturbed"
}

# In pre-copy the destination waits for as long as it hears the source, which is busy
# with connections that it does not get.
swallowed_before() {
	dst_features="--features digest,order-free,replace,pre-copy"
	start_destination -- --listen "[::]:0" --timeout 3
	start_source --seed=$((seed += 1)) -- --timeout 3 --max-bandwidth 1M --packet-size 64K \
		--connect "$DST4:$listen_port" --channel-address "[$DST6]"
	wait_for "$work/src.log" "event negotiated" && no_ipv6 && kill_at src dst "[$DST6]"
	wait_both
	ended 2 2 && consistent && grep -q "source: no progress" "$work/dst.log"
	result $? "a path that swallows before the stop: source ends with $src_status, destination with $dst_status"
	ipv6_again
}

out_of_turn() {
	spoilt "LOST of a channel that is none" c 12=000000ff
	spoilt "LOST of an epoch to come" c 16=00000002
}

echo "TAP version 13"
lib_setup
pairs ivshmem-1m || skip_all "no pair of ivshmem-1m"
can_kill || skip_all "ss cannot kill connections here"
for side in src dst; do
	killed "in pre-copy, at $side" digest,replace,pre-copy negotiated "$side" --max-bandwidth 1M
done
killed "in pre-copy, again and again" digest,order-free,replace,pre-copy negotiated \
	"src dst src src dst" --max-bandwidth 512K --packet-size 64K
killed "one channel" digest,replace,pre-copy negotiated "dst src" --max-bandwidth 512K --channels 1
epochs
after_the_end
out_of_turn
slowly 2mbit
for features in digest,replace order-free,replace; do
	killed "after the stop, with $features" $features stopped "src dst" --packet-size 64K
done
killed "the last packets" digest,replace stopped "src" --packet-size 1M --channels 2
for harm in "loss 3%" "delay 5ms reorder 25% 50%" "duplicate 10%" "corrupt 1%"; do
	slowly 2mbit $harm || { ok 1 "$harm: tc"; continue; }
	killed "$harm" digest,replace stopped "src dst" --packet-size 64K
done
at_once
by_another_path
by_name
swallowed_before
swallowed
pairs ivshmem-1m bochs && killed "two devices" digest,order-free,replace,pre-copy negotiated \
	"dst src" --max-bandwidth 4M
finish

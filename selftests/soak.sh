#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# soak.sh [SEED] - migrations with what a seed draws: devices, channels, features, and
# what happens meanwhile.  Each ends with every byte right, or with a failure that
# leaves both ends as their exit statuses say.
#
# Variables:
#	SOAK_COUNT	how many migrations, 20 without
#	SOAK_SEED	the same as SEED
. "$(dirname "$0")/lib.sh"

count=${SOAK_COUNT:-20}
seed=${1:-${SOAK_SEED:-$(date +%s)}}
state=$seed

# draw N: a number below N, in $drawn
draw() {
	state=$(((state * 1103515245 + 12345) % 2147483648))
	drawn=$((state / 4096 % $1))
}

# one_of WORD...: one of these, in $drawn
one_of() {
	draw $#
	shift "$drawn"
	drawn=$1
}

draw_devices() {
	kinds=
	for kind in $all_kinds; do
		draw 2
		[ "$drawn" = 0 ] || kinds="$kinds $kind"
	done
	[ "$kinds" ] || kinds=ivshmem-1m
	pairs $kinds || return
	one_of "" "" "" ,multifd=off
	src=$(echo "$src" | sed "s/idstr=[^ ]*/&$drawn/")
	kinds="$kinds$drawn"
}

draw_options() {
	one_of 1 2 3 4 8 16
	options="--channels $drawn"
	one_of 4K 64K 1M 4M
	options="$options --packet-size $drawn"
	one_of none digest order-free digest,order-free,replace pre-copy \
		digest,order-free,pre-copy digest,order-free,replace,pre-copy
	options="$options --features $drawn"
	one_of 0 0 5M 500M
	[ "$drawn" = 0 ] || options="$options --max-bandwidth $drawn"
	one_of "" --early
	vmm_options=$drawn
	one_of 0 10 200 600
	vmm_options="$vmm_options --run-ms=$drawn"
	one_of "$DST4" "$DST4" "[$DST6]"
	host=$drawn
}

# after MS COMMAND...
after() {
	sleep "$(($1 / 1000)).$(printf %03d $(($1 % 1000)))"
	shift
	"$@"
}

helper_of() {
	sed -n 's/^helper //p' "$work/$1.log"
}

signal() {
	pid=$(helper_of "$2")
	[ ! "$pid" ] || kill "-$1" "$pid" 2>/dev/null
}

freeze() {
	signal STOP "$1"
	sleep 1
	signal CONT "$1"
}

flap() {
	ip -n src link set cable down
	sleep 1
	cable_in src
}

cut_cable() {
	ip -n src link set cable down
}

# Puts what happens into $fault, and does it in the background after a while.
draw_fault() {
	one_of none none none netem netem kill cancel freeze flap cut
	fault=$drawn
	# early rather than late, when all may be over
	draw 2000
	when=$((drawn * drawn / 2000))
	one_of src dst
	side=$drawn
	case $fault in
	none) return ;;
	netem)
		one_of "loss 2%" "delay 5ms 5ms" "duplicate 5%" "delay 3ms reorder 25% 50%" \
			"corrupt 1%" "rate 20mbit" "loss 10% delay 2ms"
		fault="netem $drawn"
		if ! ip netns exec src tc qdisc add dev cable root netem $drawn 2>/dev/null; then
			fault="none (no netem)"
		fi
		return
		;;
	kill) after $when signal KILL $side & ;;
	cancel) after $when signal TERM $side & ;;
	freeze) after $when freeze $side & ;;
	flap) after $when flap & ;;
	cut) after $when cut_cable & ;;
	esac
	[ "$fault" = flap ] || [ "$fault" = cut ] || fault="$fault $side"
	fault="$fault after $when ms"
	fault_pid=$!
}

# Without contact nothing was touched at the source, and the destination was told to
# give up, or killed.
ended_well() {
	migrated && { verdict=migrated; return 0; }
	verdict="$src_status/$dst_status"
	case $fault in none*) return 1 ;; esac
	if [ $src_status = 1 ]; then
		runs src && runs dst && ended 1 "2 3"
	else
		consistent
	fi
}

one() {
	fault_pid=
	draw_devices
	draw_options
	start_destination -- --listen "$host:0" --timeout 5 || return
	draw_fault
	what="$kinds; $options; $vmm_options; $fault"
	start_source --seed="$1" $vmm_options -- $options --timeout 5 \
		--connect "$host:$listen_port"
	# a destination that never hears of its source waits for one
	src_status=0
	wait $src_pid || src_status=$?
	[ ! "$fault_pid" ] || wait $fault_pid
	cable_in src
	ip netns exec src tc qdisc del dev cable root 2>/dev/null
	for _ in $(seq 120); do
		kill -0 $dst_pid 2>/dev/null || break
		grep -q "event negotiated\|event failed" "$work/dst.log" || signal TERM dst
		sleep 0.2
	done
	dst_status=0
	wait $dst_pid || dst_status=$?
	ended_well && nothing_left
}

echo "TAP version 13"
lib_setup
dst_features=
all_kinds=
for kind in ivshmem-4k ivshmem-1m bochs; do
	! device $kind 1 >/dev/null || all_kinds="$all_kinds $kind"
done
[ "$all_kinds" ] || skip_all "no pair of devices"
echo "# seed $seed"
for nth in $(seq "$count"); do
	verdict=
	one "$nth"
	result $? "seed $seed, $nth: $what: $verdict"
done
healthy_migration && nothing_left
result $? "a migration undisturbed"
finish

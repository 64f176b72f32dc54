#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The benchmark: for how long devices stand still while their state goes from one
# host to another, and what CPU time and memory that takes.  bench_report.awk makes
# tables of what this leaves as "figures" in $VM_OUTPUT.
#
# bench.sh [CELL]...: those below, or all of them
#
# Variables:
#	GRID	"scale": more sizes, and numbers of devices and channels; "full": each of
#		these and each content with each of the others, too.  Both without QEMU
#	RUNS	how often each is measured, default 3
. "$(dirname "$0")/lib.sh"
. "$here/qemu_lib.sh"

runs=${RUNS:-3} seed=0
figures=${VM_OUTPUT:-.}/figures
guest_memory=8

# cell NAME MIB DEVICES CHANNELS CONTENT CONTENDER...
cells() {
	all="kernel kernel-plain user iperf3 copy"
	stock= some=
	[ ! -x "$qemu" ] || { stock="qemu qemu-tuned qemu-off qemu-off-tuned"; some="qemu qemu-off"; }
	cat <<-END
		256M 256 1 4 full kernel-replace kernel-ordered $all $stock
		4x256M 256 4 4 full $all $stock
		1G 1024 1 4 full $all $stock
		64M 64 1 4 full $all $some
		1-channel 256 1 1 full kernel kernel-plain user iperf3
		2-channels 256 1 2 full kernel kernel-plain user iperf3
		8-channels 256 1 8 full kernel kernel-plain user iperf3
		4x256M-8 256 4 8 full kernel kernel-plain user
		half-zero 256 1 4 half kernel kernel-plain user
		all-zero 256 1 4 zero kernel kernel-plain user
		foreign 256 1 4 full foreign user
		nothing 0 1 4 zero kernel user ${stock:+qemu}
	END
}

scale() {
	for mib in 1 16 64 256 1024 4096; do
		echo "size-$mib $mib 1 4 full kernel user"
	done
	for devices in 1 2 3 4 5 6 7 8; do
		echo "devices-$devices 64 $devices 4 full kernel user"
	done
	for channels in 1 2 4 8 16 32 64; do
		echo "channels-$channels 256 1 $channels full kernel user"
	done
}

full_grid() {
	for mib in 64 256 1024; do
		for devices in 1 4; do
			# there are not as many devices of that size
			[ $devices-$mib != 4-1024 ] || continue
			for channels in 1 2 4 8; do
				for content in full half zero; do
					echo "${devices}x${mib}M-$channels-$content $mib $devices $channels" \
						"$content kernel kernel-plain user foreign"
				done
			done
		done
	done
}

# Milliseconds for which the CPUs of this machine were not idle
cpu_time() {
	awk -v tick="$(getconf CLK_TCK)" '/^cpu / {
		print ($2 + $3 + $4 + $7 + $8 + $9) * 1000 / tick }' /proc/stat
}

# One process per stream, as iperf3 had one thread for all of them up to 3.15.  Their
# rates are those of the same three seconds.
run_iperf3() {
	servers= clients=
	rm -f "$work"/iperf3.*
	for i in $(seq $channels); do
		nsenter --net=/run/netns/dst iperf3 -s -1 -p $((5200 + i)) >/dev/null &
		servers="$servers $!"
	done
	until [ "$(on_dst ss -Hltn | grep -c ':52[0-9][0-9] ')" = "$channels" ]; do sleep 0.1; done
	before=$(cpu_time)
	for i in $(seq $channels); do
		nsenter --net=/run/netns/src iperf3 -c "$DST4" -p $((5200 + i)) -t 3 -Z -i 0 -J >"$work/iperf3.$i" &
		clients="$clients $!"
	done
	wait $clients
	cpu=$(($(cpu_time) - before))
	wait $servers
	cat "$work"/iperf3.* | awk -v cpu=$cpu -v wanted=$channels -v bytes=$((nr_devices * mib * 1048576)) '
		/"sum_received":/ { sum = 1; streams++ }
		sum && /"bytes":/ { all += $2 }
		sum && /"bits_per_second":/ { rate += $2 / 8; sum = 0 }
		END { if (streams != wanted)
			      exit
		      ms = bytes * 1000 / rate
		      printf "%.1f %.0f 0 %.1f 0 - -\n", ms, cpu * bytes / all, ms }'
}

# Where a device has little to send QEMU may abort, see qemu.sh.
try_qemu() {
	for _ in 1 2 3; do
		run_qemu "$@" && return
		quit_all >&2
		grep "Assertion" "$work/src.log" >&2 || return
	done
	return 1
}

# run_qemu TRANSFER CHANNELS [NAME=VALUE]...: two of them, with paused guests
run_qemu() {
	transfer=$1 multifd=$2
	shift 2
	set -- env LD_PRELOAD="$bin/hide_flags.so" HIDE_FLAGS=4 "$@"
	src_prefix="nsenter --net=/run/netns/src $*"
	dst_prefix="nsenter --net=/run/netns/dst $*"
	start src "$transfer" "$(every 2 1 $chosen)" -S &&
		start dst "$transfer" "$(every 2 0 $chosen)" -incoming defer -S &&
		prepare "$multifd" return-path || return
	"$bin/bench_qemu" "$work/src.qmp" "$work/dst.qmp" $src_pid $dst_pid "tcp:$DST4:$port" || return
	quit_all >&2
}

# every N REST WORD...: each Nth of the words, those with that rest
every() {
	n=$1 rest=$2 nth=0
	shift 2
	for word; do
		nth=$((nth + 1))
		[ $((nth % n)) != "$rest" ] || echo "$word"
	done
}

# glibc takes no larger threshold for mmap() than this.
tuned="MALLOC_MMAP_THRESHOLD_=33554432 MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_TOP_PAD_=67108864"

# measure CONTENDER SEED: prints its figures
measure() {
	case $1 in
	iperf3) run_iperf3 ;;
	qemu) try_qemu on $channels ;;
	qemu-tuned) try_qemu on $channels $tuned ;;
	qemu-off) try_qemu off "" ;;
	qemu-off-tuned) try_qemu off "" $tuned ;;
	foreign) LD_PRELOAD=$bin/hide_iter.so "$bin/bench" kernel $channels $content "$2" src dst "$DST4" $chosen ;;
	*) "$bin/bench" "$1" $channels $content "$2" src dst "$DST4" $chosen ;;
	esac
}

# The most that TCP's buffers hold, of both hosts, in KiB, to a file for each contender
watch_sockets() {
	most=0
	while :; do
		read -r _ _ _ _ _ _ _ _ _ _ pages <<-END
			$(grep ^TCP: /proc/net/sockstat)
		END
		[ "$pages" -le $most ] || { most=$pages; echo $((4 * most)) >"$work/sockets.$1"; }
		sleep 0.02
	done
}

# Run 0 is not counted: in it the CPU's emulation translates the code, and somebody
# looks at the sockets.
run_cell() {
	cell=$1 mib=$2 nr_devices=$3 channels=$4 content=$5
	shift 5
	chosen=$(awk -v bytes=$((mib ? mib << 20 : 4096)) -v n=$((2 * nr_devices)) \
		'$2 ~ /^ivshmem/ && $4 == bytes && n-- > 0 { print $1 }' "$work/devices")
	if [ $(echo $chosen | wc -w) != $((2 * nr_devices)) ]; then
		echo "bench.sh: $cell wants $((2 * nr_devices)) devices of $mib MiB" >&2
		return 1
	fi
	for run in $(seq 0 $runs); do
		for contender; do
			echo "$cell, run $run of $runs: $contender" >&2
			if [ $run = 0 ]; then
				echo 0 >"$work/sockets.$contender"
				watch_sockets $contender &
				watch=$!
			fi
			seed=$((seed + 1))
			line=$(measure $contender $seed) || return
			if [ $(echo "$line" | wc -w) != 7 ]; then
				echo "bench.sh: $contender gave no figures: $line" >&2
				return 1
			fi
			if [ $run = 0 ]; then
				kill $watch
			else
				echo "$cell $mib $nr_devices $channels $content $contender" \
					"$line $(cat "$work/sockets.$contender")" >>"$figures"
			fi
		done
	done
}

# One migration as the driver traces it: what it did from when to when, in ms
run_timeline() {
	tracing=/sys/kernel/tracing/instances/bench
	echo mono >$tracing/trace_clock
	echo 1 >$tracing/events/qemu_vfio_pci/enable
	echo >$tracing/trace
	channels=4 content=full
	chosen=$(awk '$2 == "ivshmem-256m" && n++ < 2 { print $1 }' "$work/devices")
	measure kernel 99 >/dev/null
	awk '
		function value(name) { match($0, " " name "=[^ ]*"); return substr($0, RSTART + length(name) + 2, RLENGTH - length(name) - 2) }
		/ qvp_/ { for (i = 1; i < NF && $i !~ /^qvp_/; i++); now = $(i - 1) * 1000; took = value("ns") / 1e6 }
		/ to=STOP_COPY / { start = now - took }
		!start { next }
		/ to=STOP_COPY / { print "\"source: STOP to STOP_COPY\"", 0, took }
		/ qvp_last_byte: .* stream=save / { print "\"source: data is read\"", now - took - start, now - start }
		/ qvp_last_byte: .* stream=load / { print "\"destination: data is written\"", now - took - start, now - start }
		/ from=RESUMING to=STOP / { print "\"destination: RESUMING to STOP\"", now - took - start, now - start }
	' $tracing/trace >"${VM_OUTPUT:-.}/bench.line"
	echo 0 >$tracing/events/qemu_vfio_pci/enable
}

lib_setup
mkdir -p /sys/kernel/tracing/instances/bench
echo "# $(uname -r) $(nproc) $(grep -q 'QEMU TCG' /proc/cpuinfo && echo emulated || echo real)" >"$figures"
case ${GRID:-} in
full) full_grid; scale ;;
scale) scale ;;
*) cells ;;
esac >"$work/cells"
for cell; do grep "^$cell " "$work/cells" || exit; done >"$work/some"
[ $# = 0 ] || mv "$work/some" "$work/cells"
while read -r cell <&3; do
	run_cell $cell || exit
done 3<"$work/cells"
run_timeline

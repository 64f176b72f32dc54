#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The benchmark: for how long a device of 256 MiB stands still while its state
# goes over 4 channels from one host to another, and what CPU time that takes.
# Prints a table, and leaves it as bench.json in $VM_OUTPUT.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
bench=$here/../build/selftests/bench
runs=5
contenders='kernel kernel-plain user iperf3'
limit=1.9	# times iperf3: a slower baseline is a straw man

modprobe -a qemu_vfio_pci vfio_multifd
. "$here/netns.sh"
scratch=$(mktemp -d)
trap 'netns_remove; rm -r "$scratch"' EXIT

# Milliseconds for which the CPUs of this machine were not idle
cpu_time() {
	awk -v tick="$(getconf CLK_TCK)" '/^cpu / {
		print ($2 + $3 + $4 + $7 + $8 + $9) * 1000 / tick }' /proc/stat
}

# It ends before the last bytes are received: the time is that of all of them.
run_iperf3() {
	on_dst iperf3 -s -1 >/dev/null &
	until on_dst ss -Hltn sport = 5201 | grep -q .; do sleep 0.1; done
	before=$(cpu_time)
	on_src iperf3 -c "$DST4" -P 4 -n 256M -Z -i 0 -J >"$scratch/iperf3"
	cpu=$(($(cpu_time) - before))
	wait $!
	awk -v cpu=$cpu '
		/"sum_received":/ { sum = 1 }
		sum && /"seconds":/ { ms = $2 * 1000 }
		sum && /"bytes":/ { ms *= 268435456 / $2; sum = 0 }
		END { printf "%.1f %d 0 %.1f 0\n", ms, cpu, ms }' "$scratch/iperf3"
}

# Run 0 is not counted: in it the CPU's emulation translates the code.
for run in $(seq 0 $runs); do
	echo "run $run of $runs" >&2
	for name in $contenders; do
		case $name in
		iperf3) figures=$(run_iperf3) ;;
		*) figures=$("$bench" $name "$run" src dst "$DST4") ;;
		esac
		[ $run = 0 ] || echo "$name $figures" >>"$scratch/figures"
	done
done

# values NAME FIELD: of all runs
values() {
	awk -v name="$1" -v field="$2" '$1 == name { print $field }' "$scratch/figures"
}

median() {
	values "$1" "$2" | sort -n | sed -n "$(((runs + 1) / 2))p"
}

# of_iperf3 NAME: how many times as long it takes
of_iperf3() {
	echo "$(median "$1" 2) $(median iperf3 2)" | awk '{ printf "%.2f", $1 / $2 }'
}

table() {
	row='%-14s%9s%9s%9s%9s%9s%11s\n'
	echo "256 MiB, 4 channels, $(nproc) CPUs, Linux $(uname -r); medians of $runs runs in ms"
	echo
	printf "$row" '' time stop stream load CPU 'of iperf3'
	for name in $contenders; do
		printf "$row" $name $(for i in 2 4 5 6 3; do median $name $i; done) \
			"$(of_iperf3 $name)x"
	done
	echo
	echo "kernel: with digests; kernel-plain: without; user: read, send, recv, write."
	echo "time: from the request for STOP_COPY until RESUMING is STOP; data is compared."
	echo "CPU: of the whole machine, with the start and end of iperf3, which up to"
	echo "version 3.15 has one thread for all streams."
	echo "user takes $(of_iperf3 user) times iperf3, which makes it $verdict."
	! $emulated || echo "The CPUs are emulated (TCG): only ratios mean something."
}

json() {
	echo '{"bytes": 268435456, "channels": 4, "packet_bytes": 1048576,'
	echo " \"linux\": \"$(uname -r)\", \"cpus\": $(nproc), \"emulated\": $emulated,"
	printf ' "user_of_iperf3": %s, "verdict": "%s"' "$(of_iperf3 user)" "$verdict"
	for name in $contenders; do
		i=2
		printf ',\n "%s": {' $name
		for field in total_ms cpu_ms stop_ms stream_ms load_ms; do
			printf '"%s": [%s], ' $field "$(values $name $i | paste -sd ,)"
			i=$((i + 1))
		done
		printf '"of_iperf3": %s}' "$(of_iperf3 $name)"
	done
	printf '\n}\n'
}

emulated=false
! grep -q 'QEMU TCG' /proc/cpuinfo || emulated=true

verdict=$(of_iperf3 user | awk -v limit=$limit '{
	print ($1 > limit ? "a straw man (over " : "a fair baseline (up to ") limit ")" }')
json >"${VM_OUTPUT:-.}/bench.json"
table

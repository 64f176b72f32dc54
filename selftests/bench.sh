#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The benchmark: how long a device of 256 MiB is stopped while its state goes
# over 4 channels from a host to another, and what CPU time that takes.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
bench=$here/../build/selftests/bench
output=${VM_OUTPUT:-.}
runs=3
scratch=$(mktemp -d)

modprobe -a vfio-pci qemu_vfio_pci vfio_multifd
. "$here/netns.sh"
trap 'netns_remove; rm -r "$scratch"' EXIT

# Prints milliseconds: of the transfer, of CPU time of the whole machine.
run_iperf3() {
	on_dst iperf3 -s -1 >/dev/null &
	until on_dst ss -Hltn sport = 5201 | grep -q .; do sleep 0.05; done
	before=$(cpu_time)
	on_src iperf3 -c "$DST4" -P 4 -n 256M -Z -i 0 -J >"$scratch/iperf3"
	after=$(cpu_time)
	wait $!
	awk -v cpu=$((after - before)) '
		/"sum_received":/ { sum = 1 }
		sum && /"seconds":/ { seconds = $2 }
		sum && /"bytes":/ { bytes = $2; sum = 0 }
		END { printf "%.1f %d %d\n", seconds * 1000, cpu, bytes}' "$scratch/iperf3"
}

cpu_time() {
	awk -v tick="$(getconf CLK_TCK)" '/^cpu / {
		print ($2 + $3 + $4 + $7 + $8 + $9) * 1000 / tick }' /proc/stat
}

for run in $(seq $runs); do
	for name in kernel kernel-plain user iperf3; do
		case $name in
		iperf3) figures=$(run_iperf3) ;;
		*) figures=$("$bench" $name $run src dst "$DST4") ;;
		esac
		echo "$name $figures" | tee -a "$scratch/figures"
	done
done
cp "$scratch/figures" "$scratch/iperf3" $output

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# check.sh DIR KERNEL... - what "make test" runs once all is built: the lints,
# and the tests in a virtual machine with each kernel.  DIR gets the results as
# TAP, one per kernel, and each machine's log.  A table comes at the end, and a
# last line that counts the results.
set -u

results=$1
shift
pairs=4K,2x1M,256M,bochs,virtio-rng-pci,secondary-vga,ivshmem-doorbell
many='test "$(cat /sys/bus/pci/devices/*/device | grep -c 0x1110)" = 64'

# Each program leaves its name in the kernel's log, for vm.sh to find there.
tests='modprobe -a qemu_vfio_pci vfio_multifd &&
	make -s -C selftests run_tests | while IFS= read -r line; do
		case $line in "# selftests: "*) echo "$line" >/dev/kmsg ;; esac
		printf "%s\n" "$line"
	done'

# What a peer says to a helper must do no harm to its memory, either.  A report
# ends the helper with a status that is none of its own.
sanitized='export VFIO_MULTIFD=$PWD/build/asan/vfio-multifd
	export ASAN_OPTIONS=exitcode=77 UBSAN_OPTIONS=exitcode=77
	echo "# selftests: vfio-multifd: refuse.sh+sanitizers" | tee /dev/kmsg
	selftests/refuse.sh | sed -u "s/^/# /"
	echo "ok 1 selftests: vfio-multifd: refuse.sh+sanitizers"'

say() {
	echo "$*" | tee -a "$tap"
}

# Leaves the machine's output, its log and its $status in $dir
run() {
	mkdir -p "$dir"
	{
		status=0
		selftests/vm.sh -k "$kernel" -o "$dir" "$@" 2>&1 || status=$?
		echo $status >"$dir/exit"
	} | tee "$dir/output"
	status=$(cat "$dir/exit")
}

# machine NAME OPTION... -- COMMAND...: runs it in the virtual machine; that the
# machine and its kernel stay well is a result of its own.  QEMU's emulation
# with threads crashes once in a while: what came before that does not count.
machine() {
	name=$1 dir=$results/$kernel/$1
	shift
	rm -rf "$dir" "$dir.crashed"
	run "$@"
	if [ "$status" = 126 ]; then
		mv "$dir" "$dir.crashed"
		say "# QEMU crashed: machine $name runs once more, see $dir.crashed"
		run "$@"
	fi
	cat "$dir/output" >>"$tap"
	if [ "$status" = 0 ]; then
		say "ok 1 machine $name"
	else
		say "not ok 1 machine $name # status $status"
	fi
}

test_kernel() {
	case $kernel in
	*-debug) limit=2400 memory=4G ;;
	*) limit=1500 memory=2G ;;
	esac
	machine tests -t $limit -m $memory -p $pairs -- sh -c "$tests"
	machine many_devices -t 400 -m $memory -p 32x1M -- sh -c "$many"
	case $kernel in
	*-debug) ;;
	*) machine sanitizers -t 900 -p 2x1M -- sh -c "$sanitized" ;;
	esac
}

mkdir -p "$results"
rm -f "$results"/*.tap
make -s --no-print-directory lint 2>&1 | tee "$results/lint.tap"
for kernel; do
	tap=$results/$kernel.tap
	if [ -e "$results/$kernel.skip" ]; then
		say "ok 1 kernel $kernel # SKIP $(cat "$results/$kernel.skip")"
	else
		test_kernel
	fi
done

cd "$results" && exec awk -f "$OLDPWD/selftests/check.awk" lint.tap $(printf '%s.tap ' "$@")

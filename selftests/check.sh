#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# check.sh DIR KERNEL... - what "make test" runs once all is built: the lints,
# and the tests in a virtual machine with each kernel.  DIR gets the results as
# TAP and the kernels' logs, one of each per kernel.  A table comes at the end,
# and a last line that counts the results.
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

# machine KERNEL NAME OPTION... -- COMMAND...: runs it in the virtual machine;
# that the machine and its kernel stay well is a result of its own
machine() {
	kernel=$1 name=$2
	shift 2
	if selftests/vm.sh -k "$kernel" "$@"; then
		echo "ok 1 machine $name"
	else
		echo "not ok 1 machine $name # status $?"
	fi
}

test_kernel() {
	case $1 in
	*-debug) limit=2400 memory=4G ;;
	*) limit=1500 memory=2G ;;
	esac
	machine "$1" tests -t $limit -m $memory -p $pairs -o "$results/$1" -- sh -c "$tests"
	machine "$1" many_devices -t 400 -m $memory -p 32x1M -- sh -c "$many"
}

mkdir -p "$results"
rm -f "$results"/*.tap
make -s --no-print-directory lint 2>&1 | tee "$results/lint.tap"
set -- "$@"
for kernel; do
	if [ -e "$results/$kernel.skip" ]; then
		echo "ok 1 kernel $kernel # SKIP $(cat "$results/$kernel.skip")"
	else
		test_kernel "$kernel"
	fi 2>&1 | tee "$results/$kernel.tap"
done

cd "$results" && exec awk -f "$OLDPWD/selftests/check.awk" lint.tap $(printf '%s.tap ' "$@")

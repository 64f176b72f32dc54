#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# check.sh DIR - what "make test" runs once all is built.  DIR gets the results
# as TAP and the kernel's log.  The last line counts the results.
set -u

results=$1
tests='modprobe -a qemu_vfio_pci vfio_multifd && exec make -s -C selftests run_tests'
many='test "$(cat /sys/bus/pci/devices/*/device | grep -c 0x1110)" = 64'

# Runs a command in the virtual machine; that it and its kernel stay well is a
# result of its own.
machine() {
	name=$1
	shift
	if selftests/vm.sh "$@"; then
		echo "ok 1 machine $name"
	else
		echo "not ok 1 machine $name # status $?"
	fi
}

{
	make -s --no-print-directory lint
	machine tests -t 1500 -p 4K,2x1M,256M,bochs,virtio-rng-pci,secondary-vga,ivshmem-doorbell -o "$results" -- sh -c "$tests"
	machine many_devices -t 240 -p 32x1M -- sh -c "$many"
} 2>&1 | tee "$results/test.tap"

# The runner of the kselftests prints a program's results after "# ", and then
# one for the program, which counts where it says more than the ones before.
# The machine has all that the tests need: what is skipped is a failure, and so
# is what was planned and did not come.
exec awk '
function count(line) {
	if (line ~ /^not ok/)
		failed[++failures] = line
	else if (line ~ /# SKIP/)
		failed[++failures] = line
	else
		passes++
}
/^ok [0-9]+ selftests: / || /^not ok [0-9]+ selftests: / {
	programs++
	if (results != plan)
		failed[++failures] = $0 ": " plan " results were planned, " results " came"
	else if (!results || (/^not/ && failures == failures_before))
		count($0)
	results = plan = 0
	failures_before = failures
	next
}
/^# 1\.\.[0-9]/ {
	plan = substr($2, 4) + 0
	next
}
/^(# )?(not )?ok [0-9]/ {
	results += sub(/^# /, "")
	count($0)
}
END {
	if (!programs)
		count("not ok - no test program ran")
	if (failures)
		print ""
	for (i = 1; i <= failures; i++)
		print "FAILED: " failed[i]
	printf "%d passed, %d failed, 0 skipped\n", passes, failures
	exit failures != 0
}' "$results/test.tap"

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# machine.sh DIR KERNEL NAME - one of the machines that "make test" runs
#
# NAME says what runs in it:
#	races		the test programs race_* and fail_nth_*
#	programs	the other test programs
#	scripts		the test scripts
#	sanitizers	refuse.sh, with the helper that has sanitizers
#	two_boots	file.sh, which saves in one boot and restores in another
#	power		power.sh, with two disks
#	many_devices	many.sh, with 32 pairs of devices
#	qemu-*		a stock QEMU of that name, as guest and host
#
# With LONG in the environment more of them run, which takes longer.
#
# Prints TAP after "KERNEL NAME: ", and leaves it in DIR/KERNEL/NAME/tap, beside
# the kernel's log.  That the machine and its kernel stay well is a result of
# its own.
set -u

kernel=$2 name=$3 dir=$1/$2/$3
pairs=4K,2x1M,256M,bochs,virtio-rng-pci,secondary-vga,ivshmem-doorbell

# run_tests VARIABLE: those that selftests/Makefile has in it.  The kernel's log
# gets what begins and ends, for vm.sh to find there, and a debug kernel is to be
# used by way of iommufd.
run_tests() {
	set -- env QEMU="${QEMU:-}" RUNS="${RUNS:-}" SOAK_COUNT="${SOAK_COUNT:-}" sh -c "modprobe -a qemu_vfio_pci vfio_multifd && $has_iommufd || exit
		{
			make -s -C selftests run_tests TESTS='\$($1)'
			echo \$? >\$VM_OUTPUT/make
		} |"' while IFS= read -r line; do
			case $line in
			"# selftests: "* | "ok "* | "not ok "*) echo "$line" >/dev/kmsg ;;
			esac
			printf "%s\n" "$line"
		done
		exit $(cat $VM_OUTPUT/make)'
	machine -t 3600 -p $pairs -a "$append" -- "$@"
}

# What a test says that the kselftests' runner does not run, as it would: "sh -c
# "$alone" sh NAME COMMAND..."
alone='name=$1
	shift
	echo 1..1
	echo "# selftests: vfio-multifd: $name" | tee /dev/kmsg
	{
		"$@"
		echo $? >$VM_OUTPUT/alone
	} | sed -u "s/^/# /"
	[ $(cat $VM_OUTPUT/alone) = 0 ] || printf "not "
	echo "ok 1 selftests: vfio-multifd: $name"'
say() {
	tee -a "$dir/tap" | sed -u "s/^/$kernel $name: /"
}

run() {
	mkdir -p "$dir"
	{
		status=0
		selftests/vm.sh -k "$kernel" -m $memory -o "$dir" "$@" 2>&1 || status=$?
		echo $status >"$dir/exit"
	} | say
	status=$(cat "$dir/exit")
}

# QEMU's emulation with threads crashes once in a while.  The machine then runs
# once more; what came before does not count, but for failures.
machine() {
	rm -rf "$dir" "$dir.crashed"
	run "$@"
	if [ "$status" = 126 ]; then
		mv "$dir/tap" "$dir/output"
		mv "$dir" "$dir.crashed"
		run "$@"
		{
			echo "# QEMU crashed: $kernel $name ran twice"
			sed -n 's/^.*not ok [0-9]* /not ok 1 before QEMU crashed: /p' "$dir.crashed/output"
		} | say
	fi
	if [ "$status" = 0 ]; then
		echo "ok 1 machine $name"
	else
		printf '\nnot ok 1 machine %s # status %s\n' "$name" "$status"
	fi | say
}

memory=2G has_iommufd=true append=
case $kernel in *-debug) memory=4G has_iommufd='test -e /dev/iommu' ;; esac
case $name in
races) run_tests TEST_GEN_PROGS_RACES ;;
programs)
	case $kernel-${LONG:-} in
	*-debug-* | *-?*) run_tests TEST_GEN_PROGS_OTHERS ;;
	*) run_tests TEST_GEN_PROGS_STOCK ;;
	esac
	;;
# they do not look for leaks, and most of their time goes into starting programs
scripts)
	append=kmemleak=off
	case $kernel in
	*-debug)
		SOAK_COUNT=20
		if [ "${LONG:-}" ]; then
			run_tests TEST_PROGS_STOCK
		else
			run_tests TEST_PROGS_DEBUG
		fi
		;;
	*)
		[ "${LONG:-}" ] || SOAK_COUNT=6
		run_tests TEST_PROGS_STOCK
		;;
	esac
	;;
# What a peer says to a helper must do no harm to its memory, either.  A report
# ends the helper with a status that is none of its own.
sanitizers)
	machine -t 900 -p 2x1M -- env VFIO_MULTIFD="$PWD/build/asan/vfio-multifd" \
		ASAN_OPTIONS=exitcode=77 UBSAN_OPTIONS=exitcode=77 \
		sh -c "$alone" sh refuse.sh+sanitizers selftests/refuse.sh
	;;
two_boots)
	pairs=4K,1M,bochs
	machine -t 200 -p $pairs -- sh -c 'mkdir $VM_OUTPUT/state; exec selftests/file.sh save $VM_OUTPUT/state'
	rm -rf "$dir.saved"
	mv "$dir" "$dir.saved"
	machine -t 200 -p $pairs -- sh -c "$alone" sh file.sh+boot \
		selftests/file.sh restore "$dir.saved/state"
	sed -n 's/^.*not ok [0-9]* /not ok 1 before the second boot: /p' "$dir.saved/tap" | say
	;;
power)
	machine -t 300 -p 4K,1M -d 64M -d 64M -- sh -c "$alone" sh power.sh \
		selftests/power.sh /dev/vda /dev/vdb
	;;
many_devices)
	machine -t 900 -p 32x1M -a kmemleak=off -- sh -c "$alone" sh many.sh selftests/many.sh
	;;
qemu-*)
	pairs=4x16M,1M,bochs append=kmemleak=off
	export QEMU=$name RUNS=most
	[ ! "${LONG:-}" ] || RUNS=all
	case $kernel-$name in
	*-debug-*)
		RUNS=few pairs=4x4M,1M,bochs
		[ ! "${LONG:-}" ] || RUNS=some
		;;
	*-newest) RUNS=few ;;
	esac
	run_tests TEST_PROGS_QEMU
	;;
esac

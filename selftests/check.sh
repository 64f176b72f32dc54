#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# check.sh DIR KERNEL... - what "make test" runs once all is built: the lints,
# and the tests in virtual machines with each kernel, three machines at a time,
# since each waits a part of its time.  DIR gets the results as TAP, one per kernel,
# and each machine's log.  A table comes at the end, and a last line that counts the
# results.
set -u

results=$1
shift

# machines KERNEL...: the longest first
machines() {
	for kernel; do
		[ ! -e "$results/$kernel.skip" ] || continue
		case $kernel in
		*-debug) set -- 9:programs 8:races 6:scripts 4:qemu-10.0 ${LONG:+3:many_devices} ;;
		*) set -- 7:qemu-10.0 8:scripts 3:programs 2:sanitizers \
			${LONG:+2:races 3:many_devices} 1:qemu-newest 1:two_boots 1:power ;;
		esac
		for machine; do
			[ -e "$results/${machine#*:}.skip" ] || echo "${machine%:*} $kernel ${machine#*:}"
		done
	done | sort -rn | cut -d " " -f 2-
}

mkdir -p "$results"
rm -f "$results"/*.tap
for kernel; do
	rm -rf "${results:?}/$kernel"
done
make -s --no-print-directory lint 2>&1 | tee "$results/lint.tap" &
machines "$@" | xargs -r -P 3 -L 1 selftests/machine.sh "$results"
status=$?
wait
[ $status = 0 ] || echo "not ok 1 all machines" >>"$results/lint.tap"
for kernel; do
	if [ -e "$results/$kernel.skip" ]; then
		echo "ok 1 kernel $kernel # SKIP $(cat "$results/$kernel.skip")"
	else
		machines "$kernel" | while read -r _ name; do
			tap=$results/$kernel/$name/tap
			cat "$tap"
			grep -q "ok 1 machine $name" "$tap" || echo "not ok 1 machine $name # no result"
		done
	fi >"$results/$kernel.tap"
done

for skip in "$results"/qemu-*.skip; do
	[ ! -e "$skip" ] || echo "ok 1 $(basename "$skip" .skip) # SKIP $(cat "$skip")"
done >>"$results/lint.tap"

cd "$results" && exec awk -f "$OLDPWD/selftests/check.awk" lint.tap $(printf '%s.tap ' "$@")

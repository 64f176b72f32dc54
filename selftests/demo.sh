#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# A demonstration for the machine that vm.sh boots: the memory of a 256 MiB
# ivshmem and a display moves from one host to another while a guest writes to
# it.  Shows the helper's progress and its table of phases.
. "$(dirname "$0")/lib.sh"

say() { printf '\n=== %s\n' "$*"; }

say "giving the devices their variant driver"
lib_setup
dst_features=
pairs ivshmem-256m bochs || { echo "no pairs of devices" >&2; exit 1; }

say "moving them from host src to host dst over 4 channels"
start_destination -- --listen $DST4:0 || exit
{
	"$vmm" source --netns=src --helper="$helper" $src --run-ms=1000 -- \
		--channels 4 --connect "$DST4:$listen_port"
	echo $? >"$work/status"
} | tee "$work/src.log"
src_status=$(cat "$work/status") dst_status=0
wait $dst_pid || dst_status=$?

say "the destination's view"
cat "$work/dst.log"

say "digests by each VMM's own reads"
for side in src dst; do
	digests $side | sed "s/^digest/$side/"
done
migrated || { echo "not verified" >&2; exit 1; }
echo verified

#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# power.sh DISK LOG [SEED] - what is left of a file if the power fails while "save"
# writes it
#
# What is on both disks is lost.  One file in an ext4 on DISK gets one state after another,
# while dm-log-writes notes in LOG what the disk writes.  Of that, "replay" makes what the
# disk may have after a power cut: all until then, but for some of what no flush has made
# safe.  That is mounted, and has to have the file from before or the new one, and the
# new one if "save" has ended.
#
# Variables:
#	POWER_COUNT	cuts in each of the saves, 20 without
. "$(dirname "$0")/lib.sh"

disk=${1:-} log=${2:-}
seed=${3:-$(date +%s)}
count=${POWER_COUNT:-20}
live=/dev/mapper/power-$$
image=$work/image

# lend NTH VERB OPTION...: to the helper, a device of each of $kinds, which is filled
lend() {
	nth=$1 fd=3
	shift
	set -- "$helper" "$@"
	for kind in $kinds; do
		fill=$((fill + 1))
		set -- "$bin/state" lend "$(device $kind $nth)" $fill "$work/$kind" \
			"$@" --device-fd $fd
		fd=$((fd + 1))
	done
	"$@" >"$work/out" 2>&1 || { sed 's/^/# /' "$work/out"; false; }
}

fill=0

mark() {
	dmsetup message "${live##*/}" 0 mark "$1"
}

# The disk has to be empty, as is what "replay" makes images of.  ext4 itself writes a
# file that is renamed over another one, unless told not to: other file systems do not.
make_live() {
	size=$(blockdev --getsz "$disk")
	dmsetup create "${live##*/}" --table "0 $size log-writes $disk $log" &&
		dmsetup mknodes "${live##*/}" &&
		mkfs.ext4 -q -b 4096 -E nodiscard,lazy_journal_init "$live" &&
		mkdir "$work/live" "$work/cut" &&
		mount -o noauto_da_alloc "$live" "$work/live" && sync && mark 0
}

# saved N: the Nth state, as $options say; keeps what to compare with
saved() {
	lend 0 save --file "$work/live/state" $options && mark "$1" &&
		cp "$work/live/state" "$work/file$1" &&
		for kind in $kinds; do mv "$work/$kind" "$work/$kind.$1" || return; done
}

# power_cut FROM TO: mounts what the disk may have if the power fails between these marks;
# $left is the number of the state in the file
power_cut() {
	seed=$((seed + 1)) left=none
	rm -f "$image"
	truncate -s $((size * 512)) "$image"
	"$bin/replay" "$log" "$image" $seed "$1" "$2" >"$work/said" &&
		mount -o loop "$image" "$work/cut" || return
	[ ! -e "$work/cut/state" ] || left=wrong
	for which; do
		cmp -s "$work/cut/state" "$work/file$which" || continue
		left=$which
		break
	done
}

# cuts N: the power fails while the Nth state is saved
cuts() {
	before=$(($1 - 1)) old=0 new=0
	for _ in $(seq "$count"); do
		power_cut $before "$1"
		good=$?
		umount "$work/cut"
		case $good$left in
		0$1) new=$((new + 1)) ;;
		0$before) old=$((old + 1)) ;;
		0none) [ $before = 0 ] && old=$((old + 1)) ;;
		*) false ;;
		esac && continue
		echo "# seed $seed: $left: $(cat "$work/said")"
		return 1
	done
	echo "# the file from before $old times, the new one $new times"
	[ $old -gt 0 ]
}

# restored N: what is left is the Nth state, for other devices as well
restored() {
	lend 1 restore --file "$work/cut/state" $([ "$1" != 4 ] || echo --direct) &&
		for kind in $kinds; do cmp "$work/$kind" "$work/$kind.$1" || return; done
}

# kept N: the power fails when the Nth state has been saved
kept() {
	power_cut "$1" "$1" && [ "$left" = "$1" ] && restored "$1"
	good=$?
	[ $good = 0 ] || echo "# seed $seed: $left: $(cat "$work/said")"
	umount "$work/cut"
	return $good
}

# choose N: the Nth state's devices, options and name
choose() {
	kinds="ivshmem-4k ivshmem-1m"
	case $1 in
	1) kinds=ivshmem-1m options= what="one device" ;;
	2) kinds=ivshmem-1m options= what="one device again" ;;
	3) options="--channels 2" what="two devices" ;;
	4) options="--channels 2 --direct" what="two devices past the page cache" ;;
	5) options=--live what="two devices that run" ;;
	esac
}

echo "TAP version 13"
[ "$log" ] || skip_all "no disks are given that may be overwritten"
lib_setup
command -v dmsetup >/dev/null && command -v mkfs.ext4 >/dev/null ||
	skip_all "dmsetup and mkfs.ext4 are missing"
for module in virtio_blk dm-log-writes ext4 loop; do
	modprobe -q $module || skip_all "this kernel has no $module"
done
echo "# seed $seed"
make_live
ok $? "an ext4 whose writes are noted"
[ $failures = 0 ] || finish
for n in 1 2 3 4 5; do
	choose $n
	saved $n
	ok $? "save $what"
done
umount "$work/live"
dmsetup remove "${live##*/}"
for n in 1 2 3 4 5; do
	choose $n
	cuts $n
	ok $? "the power fails while it saves $what"
	kept $n
	ok $? "the power fails when it has saved $what"
done
finish

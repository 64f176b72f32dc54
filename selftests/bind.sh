#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# The helper gives a device the driver that libvirt would, and takes it away.
. "$(dirname "$0")/lib.sh"

driver() {
	basename "$(readlink "/sys/bus/pci/devices/$1/driver")"
}

# is_bound DRIVER: so it is, and the helper said so
is_bound() {
	[ "$(driver "$bdf")" = "$1" ] && grep -q "^$bdf: .*$1" "$work/log"
}

# says WORDS STATUS COMMAND...: ends with STATUS and a line that has WORDS
says() {
	words=$1 expected=$2 status=0
	shift 2
	"$@" >"$work/log" 2>&1 || status=$?
	[ $status = "$expected" ] && grep -q "$words" "$work/log"
}

bind_result() {
	status=$1
	[ "$status" = 0 ] || sed 's/^/#   /' "$work/log"
	ok "$status" "$2"
}

echo "TAP version 13"
lib_setup

for kind in ivshmem-1m bochs; do
	bdf=$(device $kind 0) || { skip $kind "no $kind"; continue; }
	says "already" 0 "$helper" bind "$bdf"
	bind_result $? "$kind: bound already"
	says "$bdf" 0 "$helper" unbind "$bdf" && [ ! "$(driver "$bdf")" ]
	bind_result $? "$kind: unbound"
	says "vfio_pci:" 0 "$helper" bind "$bdf" && is_bound qemu_vfio_pci
	bind_result $? "$kind: bound to its variant driver"
	says "vfio-pci" 0 "$helper" bind --driver vfio-pci "$bdf" && is_bound vfio-pci
	bind_result $? "$kind: bound to the driver that was asked for"
	says "vfio_pci:" 0 "$helper" bind "$bdf" && is_bound qemu_vfio_pci
	bind_result $? "$kind: bound to its variant driver again"
done

bdf=$("$vmm" list | awk '$2 == "virtio-rng" { print $1; exit }')
if [ "$bdf" ]; then
	# Another test may have left it to VFIO.
	"$helper" unbind "$bdf" >/dev/null 2>&1
	before=$(driver "$bdf")
	says "vfio-pci" 0 "$helper" bind "$bdf" && is_bound vfio-pci
	bind_result $? "a device without variant driver"
	says "$bdf" 0 "$helper" unbind "$bdf" && [ "$(driver "$bdf")" = "$before" ]
	bind_result $? "a device given back to its own driver"
else
	skip "a device without variant driver" "no virtio-rng"
fi

says "no such PCI device" 1 "$helper" bind 0000:7f:1f.7
bind_result $? "a device that is not there"
says "is not like" 1 "$helper" bind nonsense
bind_result $? "an address that is none"
finish

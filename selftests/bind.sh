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

# A device that the driver refuses, and that another driver had before
for kind in secondary-vga ivshmem-doorbell; do
	bdf=$("$vmm" list | awk -v kind=$kind '$2 == kind { print $1; exit }')
	[ "$bdf" ] || { skip "$kind" "no $kind"; continue; }
	"$helper" bind --driver vfio-pci "$bdf" >/dev/null
	override=/sys/bus/pci/devices/$bdf/driver_override
	says "has driver vfio-pci now" 1 "$helper" bind "$bdf" &&
		[ "$(driver "$bdf")" = vfio-pci ] && [ "$(cat "$override")" = vfio-pci ]
	bind_result $? "$kind: the driver that it had is given back"
	"$helper" unbind "$bdf" >/dev/null
	says "has no driver now" 1 "$helper" bind "$bdf" &&
		[ ! "$(driver "$bdf")" ] && [ "$(cat "$override")" = "(null)" ]
	bind_result $? "$kind: no driver is left as it was"
done

bdf=$(device ivshmem-1m 0)
if [ "$bdf" ]; then
	group=$(basename "$(readlink "/sys/bus/pci/devices/$bdf/iommu_group")")
	exec 3<>"/dev/vfio/$group"
	says "is in use" 1 "$helper" bind --driver vfio-pci "$bdf" &&
		[ "$(driver "$bdf")" = qemu_vfio_pci ]
	bind_result $? "a device in use keeps its driver"
	says "is in use" 1 "$helper" unbind "$bdf" &&
		[ "$(driver "$bdf")" = qemu_vfio_pci ]
	bind_result $? "a device in use is not unbound"
	exec 3>&-
	says "has no VFIO driver" 1 "$helper" bind --driver virtio_pci "$bdf"
	bind_result $? "a driver that is none of VFIO"
	says "no module nonsense" 1 "$helper" bind --driver nonsense "$bdf"
	bind_result $? "a driver that is not there"
else
	skip "a device in use" "no ivshmem-1m"
fi

says "no such PCI device" 1 "$helper" bind 0000:7f:1f.7
bind_result $? "a device that is not there"
says "is not like" 1 "$helper" bind nonsense
bind_result $? "an address that is none"
finish

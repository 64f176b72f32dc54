/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The generic netlink family "vfio-multifd": all transfers of a network
 * namespace, for who has CAP_NET_ADMIN there, to read only.
 * Documentation/netlink/vfio-multifd.yaml describes it.
 */
#ifndef _UAPI_LINUX_VFIO_MULTIFD_NETLINK_H
#define _UAPI_LINUX_VFIO_MULTIFD_NETLINK_H

#define VFIO_MULTIFD_FAMILY_NAME	"vfio-multifd"
#define VFIO_MULTIFD_FAMILY_VERSION	1
#define VFIO_MULTIFD_MCGRP_EVENTS	"events"

/**
 * enum vfio_multifd_cmd - kinds of messages
 * @VFIO_MULTIFD_CMD_GET: with NLM_F_DUMP: asks for everything.  The answer is
 *	a message for each transfer, which has VFIO_MULTIFD_A_UUID, followed by
 *	one for each of its devices, which has VFIO_MULTIFD_A_IDSTR, and one for
 *	each of its channels, which has VFIO_MULTIFD_A_CHANNEL
 * @VFIO_MULTIFD_CMD_NTF: to the group "events": a transfer that has a channel
 *	has come to another state
 */
enum vfio_multifd_cmd {
	VFIO_MULTIFD_CMD_GET		= 1,
	VFIO_MULTIFD_CMD_NTF		= 2,
};

/**
 * enum vfio_multifd_attr - what messages tell
 * @VFIO_MULTIFD_A_PAD: padding
 * @VFIO_MULTIFD_A_ID: u64: of the transfer, in each message
 * @VFIO_MULTIFD_A_UUID: binary: VFIO_MULTIFD_UUID_SIZE bytes, the same at both
 *	ends
 * @VFIO_MULTIFD_A_UID: u32: of who opened the transfer, in the reader's user
 *	namespace, or in an event in that which owns the network namespace
 * @VFIO_MULTIFD_A_ROLE: u32: enum vfio_multifd_role
 * @VFIO_MULTIFD_A_STATE: u32: enum vfio_multifd_state
 * @VFIO_MULTIFD_A_ERROR: s32: FAILED: the first error, a negative errno
 * @VFIO_MULTIFD_A_REASON: u32: FAILED: enum vfio_multifd_reason
 * @VFIO_MULTIFD_A_FEATURES: u64: bits of enum vfio_multifd_feature
 * @VFIO_MULTIFD_A_DEVICES: u32: number of devices
 * @VFIO_MULTIFD_A_DEVICES_DONE: u32: number of those that are done
 * @VFIO_MULTIFD_A_CHANNELS: u32: number of channels
 * @VFIO_MULTIFD_A_BYTES: u64: of data, of transfer, device or channel
 * @VFIO_MULTIFD_A_PACKETS: u64: of transfer, device or channel
 * @VFIO_MULTIFD_A_IDSTR: string: the device's name
 * @VFIO_MULTIFD_A_INSTANCE: u32: the device's instance id
 * @VFIO_MULTIFD_A_DONE: u32: 1 if the device is done
 * @VFIO_MULTIFD_A_CHANNEL: u32: the channel's id
 * @VFIO_MULTIFD_A_NETWORK_NS: u64: see struct vfio_multifd_channel_status
 * @VFIO_MULTIFD_A_DEVICE_NS: u64: the same
 * @VFIO_MULTIFD_A_WAIT_NS: u64: the same
 * @VFIO_MULTIFD_A_MEMORY: u64: the same
 */
enum vfio_multifd_attr {
	VFIO_MULTIFD_A_PAD		= 1,
	VFIO_MULTIFD_A_ID		= 2,
	VFIO_MULTIFD_A_UUID		= 3,
	VFIO_MULTIFD_A_UID		= 4,
	VFIO_MULTIFD_A_ROLE		= 5,
	VFIO_MULTIFD_A_STATE		= 6,
	VFIO_MULTIFD_A_ERROR		= 7,
	VFIO_MULTIFD_A_REASON		= 8,
	VFIO_MULTIFD_A_FEATURES		= 9,
	VFIO_MULTIFD_A_DEVICES		= 10,
	VFIO_MULTIFD_A_DEVICES_DONE	= 11,
	VFIO_MULTIFD_A_CHANNELS		= 12,
	VFIO_MULTIFD_A_BYTES		= 13,
	VFIO_MULTIFD_A_PACKETS		= 14,
	VFIO_MULTIFD_A_IDSTR		= 15,
	VFIO_MULTIFD_A_INSTANCE		= 16,
	VFIO_MULTIFD_A_DONE		= 17,
	VFIO_MULTIFD_A_CHANNEL		= 18,
	VFIO_MULTIFD_A_NETWORK_NS	= 19,
	VFIO_MULTIFD_A_DEVICE_NS	= 20,
	VFIO_MULTIFD_A_WAIT_NS		= 21,
	VFIO_MULTIFD_A_MEMORY		= 22,
};

#endif /* _UAPI_LINUX_VFIO_MULTIFD_NETLINK_H */

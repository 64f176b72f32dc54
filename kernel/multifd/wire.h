/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The bytes on a channel, which are those of QEMU's multifd and of its VFIO
 * device state packets (QEMU 10.0 to 11.1: migration/multifd.{c,h} and
 * hw/vfio/migration-multifd.c).  All integers are big-endian.
 */
#ifndef _VMFD_WIRE_H
#define _VMFD_WIRE_H

#include <linux/build_bug.h>
#include <linux/types.h>
#include <linux/vfio_multifd.h>

enum {
	VMFD_WIRE_MAGIC		= 0x11223344,
	VMFD_WIRE_VERSION	= 1,
	VMFD_WIRE_SYNC		= 0x01,	/* packet flags: of a packet of RAM */
	VMFD_WIRE_DEVICE_STATE	= 0x40,	/* packet flags: nothing else may be set */

	VMFD_WIRE_RAM_PAGES	= 128,	/* of 4 KiB, in a packet of RAM */
	VMFD_WIRE_RAM_SIZE	= 1344,	/* bytes of its header, with as many offsets */

	VMFD_WIRE_VFIO_VERSION	= 0,
	VMFD_WIRE_VFIO_CONFIG	= 0x1,	/* vfio flags: config state, last packet */
	VMFD_WIRE_VFIO_DIGEST	= 0x2,	/* vfio flags: @digest is there; ours */
	VMFD_WIRE_VFIO_FREE	= 0x4,	/* vfio flags: of packet 0; records follow
					 * in any order; ours
					 */
};

/* The first bytes of a channel. */
struct vmfd_wire_init {
	__be32 magic;
	__be32 version;
	__u8 uuid[VFIO_MULTIFD_UUID_SIZE];
	__u8 id;
	__u8 unused[39];
} __packed;
static_assert(sizeof(struct vmfd_wire_init) == 64);

/*
 * The header of a packet.  The first three fields tell what kind of packet it
 * is.  @size counts what follows it: the vfio fields and the data.  @digest is
 * there only if the two ends agreed on it.
 */
struct vmfd_wire_packet {
	__be32 magic;
	__be32 version;
	__be32 flags;
	__u8 idstr[VFIO_MULTIFD_IDSTR_SIZE];
	__be32 instance_id;
	__be32 size;
	__be32 vfio_version;
	__be32 idx;
	__be32 vfio_flags;
	__be64 digest;
} __packed;
static_assert(sizeof(struct vmfd_wire_packet) == 296);

/* The first fields of a packet of RAM; @size counts the data. */
struct vmfd_wire_ram {
	__be32 magic;
	__be32 version;
	__be32 flags;
	__be32 pages;
	__be32 normal_pages;
	__be32 size;
} __packed;
static_assert(sizeof(struct vmfd_wire_ram) == 24);

#define VMFD_WIRE_KIND_SIZE	offsetof(struct vmfd_wire_packet, idstr)
#define VMFD_WIRE_SIZE_END	offsetofend(struct vmfd_wire_packet, size)
#define VMFD_WIRE_PLAIN_SIZE	offsetofend(struct vmfd_wire_packet, vfio_flags)

#endif /* _VMFD_WIRE_H */

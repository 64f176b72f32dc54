/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * The record stream: what comes out of and goes into a migration data fd of
 * qemu_vfio_pci.  Documentation/record-stream.rst explains it.
 *
 * A stream is a header record, then memory, zero and register records in any
 * order, and an end record.  One that was begun while the device ran has its
 * memory in passes, with a pass record between two.  Its first eight bytes (tag and flags of the
 * header record) are all that a carrier of the stream may look at: they say
 * that this is a record stream and whether its records may be loaded in any
 * order once the header record is.
 *
 * All integers are little-endian.  Memory offsets and lengths are multiples of
 * VFIO_RECORD_ALIGN.
 */
#ifndef _VFIO_RECORD_H
#define _VFIO_RECORD_H

#include <linux/const.h>
#include <linux/types.h>

#define VFIO_RECORD_MAGIC	0x43524656	/* "VFRC": tag of the header record */
#define VFIO_RECORD_VERSION	1
#define VFIO_RECORD_PASSES	_BITUL(0)	/* feature: there can be pass records */
#define VFIO_RECORD_ALIGN	4096		/* bytes */
#define VFIO_RECORD_MAX_META	4096		/* bytes of payload, except memory */

/**
 * enum vfio_record_tag - what a record is
 * @VFIO_RECORD_MEMORY: @length bytes of a region's memory follow
 * @VFIO_RECORD_ZERO: @length bytes of a region are zero; no payload
 * @VFIO_RECORD_REGISTERS: struct vfio_record_register entries follow
 * @VFIO_RECORD_END: struct vfio_record_totals follows
 * @VFIO_RECORD_PASS: struct vfio_record_totals follows; memory that came already
 *	may come once more
 */
enum vfio_record_tag {
	VFIO_RECORD_MEMORY	= 1,
	VFIO_RECORD_ZERO	= 2,
	VFIO_RECORD_REGISTERS	= 3,
	VFIO_RECORD_END		= 4,
	VFIO_RECORD_PASS	= 5,
};

#define VFIO_RECORD_OPTIONAL	_BITUL(0)	/* flags: skip if unknown */
#define VFIO_RECORD_ORDER_FREE	_BITUL(1)	/* flags of the header record */

/**
 * struct vfio_record - starts every record
 * @tag: VFIO_RECORD_MAGIC for the header record, else enum vfio_record_tag
 * @flags: VFIO_RECORD_OPTIONAL, VFIO_RECORD_ORDER_FREE; others are refused
 * @region: VFIO region index (memory, zero), else 0
 * @reserved: 0
 * @offset: first byte within the region (memory, zero), else 0
 * @length: bytes of the range (zero), bytes of payload (all others)
 * @digest: xxh64, seed 0, of this structure with @digest 0, followed by the
 *	payload unless the record is a memory record
 */
struct vfio_record {
	__le32 tag;
	__le32 flags;
	__le32 region;
	__le32 reserved;
	__le64 offset;
	__le64 length;
	__le64 digest;
};

/**
 * struct vfio_record_region - a region whose memory the stream carries
 * @index: VFIO region index
 * @reserved: 0
 * @size: bytes; all of it must be covered by memory and zero records
 */
struct vfio_record_region {
	__le32 index;
	__le32 reserved;
	__le64 size;
};

/**
 * struct vfio_record_header - payload of the header record
 * @version: VFIO_RECORD_VERSION
 * @features: VFIO_RECORD_PASSES; the loader must know all that are set
 * @vendor: PCI vendor id
 * @device: PCI device id
 * @class: PCI class code, 24 bits
 * @revision: PCI revision id
 * @registers: number of registers that the register records hold together
 * @reserved: 0
 * @regions: number of entries in @region
 * @region: the regions
 */
struct vfio_record_header {
	__le32 version;
	__le32 features;
	__le16 vendor;
	__le16 device;
	__le32 class;
	__le32 revision;
	__le32 registers;
	__le32 reserved;
	__le32 regions;
	struct vfio_record_region region[];
};

/**
 * struct vfio_record_register - one register
 * @id: the backend's number for it; Documentation/record-stream.rst lists them
 * @value: its value
 */
struct vfio_record_register {
	__le32 id;
	__le32 value;
};

/**
 * struct vfio_record_totals - payload of an end or a pass record
 * @bytes: of the stream up to here, this record included
 * @records: in the stream up to here, this record included
 */
struct vfio_record_totals {
	__le64 bytes;
	__le64 records;
};

#endif /* _VFIO_RECORD_H */

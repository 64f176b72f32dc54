/* SPDX-License-Identifier: GPL-2.0-only */
/* Saving, between the data fd (save.c) and the records (compose.c) */
#ifndef _QVP_SAVE_H
#define _QVP_SAVE_H

#include <linux/sizes.h>
#include <linux/uio.h>

#include "qvp.h"

/*
 * Memory in a record.  What a user's memory does not take of one has to fit the carry;
 * the kernel's takes all.
 */
#define QVP_MAX_CHUNK	SZ_1M
#define QVP_MAX_USER	SZ_256K
#define QVP_MIN_ZEROS	4	/* pages that are worth a record */
#define QVP_CARRY_SIZE	(QVP_MAX_USER + VFIO_RECORD_ALIGN)

/* Room that is enough for any record */
#define QVP_MIN_ROOM	(sizeof(struct vfio_record) + VFIO_RECORD_ALIGN)
static_assert(QVP_RECORD_HEADER_SIZE <= VFIO_RECORD_ALIGN);
static_assert(QVP_MAX_REGISTERS * sizeof(struct vfio_record_register) <=
	      VFIO_RECORD_ALIGN);

enum {
	QVP_REGISTERS_TAKEN,
	QVP_END_TAKEN,
};

/**
 * struct qvp_save - a session of saving
 * @session: what it has in common with others
 * @taken: records that a reader has, or is about to have
 * @pass: the memory that no reader has claimed
 * @precopy: the stream began in PRE_COPY
 * @stopped: the device is in STOP_COPY, with nothing to come but what is left;
 *	protected by memory_lock
 * @pass_due: a pass record comes next; protected by memory_lock
 * @passes: number of pass records, as far as they count for a user
 * @told: the reader knows that the pass is through; protected by @carry_lock
 * @bytes: of the records that were made; memory_lock held for writing stops it
 * @records: number of these
 * @registers: values of the registers
 * @carry_lock: see below
 * @carry: bytes of a record that did not go to a reader at once
 * @carry_at: first byte in @carry that a reader is still to get
 * @carry_left: number of bytes in @carry from there
 */
struct qvp_save {
	struct qvp_session session;
	unsigned long taken;
	struct qvp_pass pass;
	bool precopy;
	bool stopped;
	bool pass_due;
	unsigned int passes;
	bool told;
	atomic64_t bytes;
	atomic64_t records;
	u32 registers[QVP_MAX_REGISTERS];
	/*
	 * Protects the carry; a reader's memory may fault under it.  One that
	 * began in PRE_COPY is read with it held, since passes have an order.
	 */
	struct mutex carry_lock;
	u8 *carry;
	size_t carry_at;
	size_t carry_left;
};

ssize_t qvp_compose_header(struct qvp_save *save, struct iov_iter *to);
ssize_t qvp_compose_next(struct qvp_save *save, struct iov_iter *to);

#endif /* _QVP_SAVE_H */

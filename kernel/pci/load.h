/* SPDX-License-Identifier: GPL-2.0-only */
/* Loading, between the data fd (load.c) and the records (apply.c) */
#ifndef _QVP_LOAD_H
#define _QVP_LOAD_H

#include <linux/sizes.h>
#include <linux/uio.h>

#include "qvp.h"

/**
 * struct qvp_cursor - a place in a stream
 * @record: the record at that place
 * @got: bytes of the record and its payload that came
 * @buffer: the payload, unless that is memory
 */
struct qvp_cursor {
	struct vfio_record record;
	u64 got;
	u8 *buffer;
};

/* Records that there is one of */
enum {
	QVP_HEADER_LOADED,
	QVP_END_LOADED,
};

/**
 * struct qvp_load - a session of loading
 * @session: what it has in common with others
 * @error: the first mistake in the stream, or 0
 * @loaded: QVP_HEADER_LOADED and QVP_END_LOADED
 * @bytes: of the records that were loaded
 * @records: number of these
 * @memory: bytes of memory that came, each once
 * @passes: there can be pass records
 * @taken: pages that came in this pass
 * @end: what the end record said
 * @seen: registers that were loaded
 * @registers: values of the registers
 * @cursor_lock: see below
 * @cursor: see above
 */
struct qvp_load {
	struct qvp_session session;
	int error;
	unsigned long loaded;
	atomic64_t bytes;
	atomic64_t records;
	atomic64_t memory;
	bool passes;
	unsigned long *taken;
	struct vfio_record_totals end;
	DECLARE_BITMAP(seen, QVP_MAX_REGISTERS);
	u32 registers[QVP_MAX_REGISTERS];
	/* Protects the cursor; a writer's memory may fault under it */
	struct mutex cursor_lock;
	struct qvp_cursor cursor;
};

int qvp_apply_killed(struct qvp_load *load);
int qvp_apply_begin(struct qvp_load *load, const struct vfio_record *rec);
int qvp_apply_memory(struct qvp_load *load, struct qvp_cursor *c,
		     struct iov_iter *from);
int qvp_apply_end(struct qvp_load *load, const struct qvp_cursor *c);
int qvp_apply_partial(struct qvp_load *load, const struct qvp_cursor *c);
int qvp_apply_complete(struct qvp_load *load);

#endif /* _QVP_LOAD_H */

/* SPDX-License-Identifier: GPL-2.0-only */
/* Streams with one mistake */
#ifndef SELFTESTS_EDIT_H
#define SELFTESTS_EDIT_H

#include "stream.h"

#define EDIT_PARTS	80
#define EDIT_MEMORY	64	/* records of memory, of equal size */

/**
 * struct edit_part - a record to be
 * @head: its first bytes; the digest is computed
 * @payload: what follows
 * @flip: byte whose lowest bit is flipped in the end, counted from 1
 */
struct edit_part {
	struct vfio_record head;
	const void *payload;
	unsigned int flip;
};

/**
 * struct edit - a stream to be: header, memory, registers, end
 * @part: its records
 * @count: how many
 * @header: payload of the header record, with room behind
 * @region: the regions that @header tells of
 * @registers: payload of the registers record, with room behind
 * @end: payload of the end record, computed unless @end_given
 * @end_given: see @end
 * @keep: bytes of the stream to keep, SIZE_MAX for all
 * @more: bytes to add behind
 */
struct edit {
	struct edit_part part[EDIT_PARTS];
	unsigned int count;
	struct vfio_record_header header;
	struct vfio_record_region region[300];
	struct vfio_record_register registers[600];
	struct vfio_record_totals end;
	bool end_given;
	size_t keep;
	size_t more;
};

int edit_stream(struct stream *to, const struct stream *good,
		struct vfio_device *dev, void (*change)(struct edit *edit));
void edit_insert(struct edit *edit, unsigned int at, struct vfio_record head,
		 const void *payload);
void edit_remove(struct edit *edit, unsigned int at);

#endif /* SELFTESTS_EDIT_H */

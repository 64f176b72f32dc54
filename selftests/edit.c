// SPDX-License-Identifier: GPL-2.0-only
/* Streams with one mistake: a right one is taken apart, changed, and built */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "edit.h"

_Static_assert(offsetof(struct edit, region) ==
	       offsetof(struct edit, header) +
	       sizeof(struct vfio_record_header), "payload of the header");

void edit_insert(struct edit *edit, unsigned int at, struct vfio_record head,
		 const void *payload)
{
	struct edit_part *part = &edit->part[at];

	memmove(part + 1, part, (edit->count - at) * sizeof(*part));
	edit->count++;
	*part = (struct edit_part){ .head = head, .payload = payload };
}

void edit_remove(struct edit *edit, unsigned int at)
{
	struct edit_part *part = &edit->part[at];

	edit->count--;
	memmove(part, part + 1, (edit->count - at) * sizeof(*part));
}

/* Copies the payload of a record of @good that must be there */
static int copy_payload(struct records *good, uint32_t tag, void *to,
			size_t room, struct vfio_record *head)
{
	struct record *rec = records_find(good, tag);

	if (!rec || rec->len > room)
		return -EINVAL;
	memcpy(to, rec->payload, rec->len);
	*head = rec->head;
	return 0;
}

static int take_apart(struct edit *edit, const struct stream *good,
		      struct vfio_device *dev)
{
	struct vfio_record memory = {
		.tag = VFIO_RECORD_MEMORY,
		.region = dev->kind->memory,
		.length = dev->size / EDIT_MEMORY,
	};
	struct vfio_record header, registers;
	struct vfio_record end = {
		.tag = VFIO_RECORD_END,
		.length = sizeof(edit->end),
	};
	struct records list;
	int ret;

	ret = records_parse(&list, good) ?:
	      copy_payload(&list, VFIO_RECORD_MAGIC, &edit->header,
			   sizeof(edit->header) + sizeof(edit->region),
			   &header) ?:
	      copy_payload(&list, VFIO_RECORD_REGISTERS, edit->registers,
			   sizeof(edit->registers), &registers);
	records_free(&list);
	if (ret)
		return ret;
	edit_insert(edit, 0, header, &edit->header);
	for (; memory.offset < dev->size; memory.offset += memory.length)
		edit_insert(edit, edit->count, memory,
			    dev->map + memory.offset);
	edit_insert(edit, edit->count, registers, edit->registers);
	edit_insert(edit, edit->count, end, &edit->end);
	return 0;
}

/* What the end record has to say of the whole stream */
static void compute_end(struct edit *edit)
{
	edit->end.records = edit->count;
	for (unsigned int i = 0; i < edit->count; i++)
		edit->end.bytes += sizeof(struct vfio_record) +
				   record_payload(&edit->part[i].head);
}

static int put_together(struct stream *to, struct edit *edit)
{
	static const uint8_t nothing[4096];
	int ret = 0;

	if (!edit->end_given)
		compute_end(edit);
	for (unsigned int i = 0; i < edit->count && !ret; i++) {
		struct edit_part *part = &edit->part[i];
		size_t start = to->len;

		ret = record_build(to, part->head, part->payload);
		if (!ret && part->flip)
			to->data[start + part->flip - 1] ^= 1;
	}
	if (to->len > edit->keep)
		to->len = edit->keep;
	return ret ?: stream_append(to, nothing, edit->more);
}

/* Appends the state of @dev, of which @good tells, changed by @change */
int edit_stream(struct stream *to, const struct stream *good,
		struct vfio_device *dev, void (*change)(struct edit *edit))
{
	struct edit *edit = calloc(1, sizeof(*edit));
	int ret;

	if (!edit)
		return -ENOMEM;
	edit->keep = SIZE_MAX;
	ret = take_apart(edit, good, dev);
	if (!ret) {
		change(edit);
		ret = put_together(to, edit);
	}
	free(edit);
	return ret;
}

// SPDX-License-Identifier: GPL-2.0-only
/* A device's state as records: take apart, check, put together */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/pci_regs.h>

#include "stream.h"
#include "xxh64.h"

_Static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "the tests run on x86-64");

/* Bytes that follow the record's first ones */
size_t record_payload(const struct vfio_record *head)
{
	return head->tag == VFIO_RECORD_ZERO ? 0 : head->length;
}

static uint64_t digest(struct vfio_record head, const void *payload)
{
	struct xxh64 state;

	head.digest = 0;
	xxh64_init(&state);
	xxh64_update(&state, &head, sizeof(head));
	if (head.tag != VFIO_RECORD_MEMORY)
		xxh64_update(&state, payload, record_payload(&head));
	return xxh64_final(&state);
}

/* Appends a record whose digest is right whatever @head says of it */
int record_build(struct stream *stream, struct vfio_record head,
		 const void *payload)
{
	int ret;

	head.digest = digest(head, payload);
	ret = stream_append(stream, &head, sizeof(head));
	return ret ? ret : stream_append(stream, payload,
					 record_payload(&head));
}

/* Appends an end record that fits what is there, @records of them */
int record_build_end(struct stream *stream, uint64_t records)
{
	struct vfio_record_totals end = { .records = records + 1 };
	struct vfio_record head = {
		.tag = VFIO_RECORD_END,
		.length = sizeof(end),
	};

	end.bytes = stream->len + sizeof(head) + sizeof(end);
	return record_build(stream, head, &end);
}

void records_free(struct records *list)
{
	free(list->rec);
	memset(list, 0, sizeof(*list));
}

/* Finds where records start; -EBADMSG if the stream ends within one */
int records_parse(struct records *list, const struct stream *stream)
{
	struct record *rec;
	size_t at = 0;

	memset(list, 0, sizeof(*list));
	while (at < stream->len) {
		if (!(list->count & (list->count + 1))) {
			size_t room = 2 * (list->count + 1);

			rec = reallocarray(list->rec, room, sizeof(*rec));
			if (!rec)
				return -ENOMEM;
			list->rec = rec;
		}
		rec = &list->rec[list->count++];
		if (stream->len - at < sizeof(rec->head))
			return -EBADMSG;
		memcpy(&rec->head, stream->data + at, sizeof(rec->head));
		at += sizeof(rec->head);
		rec->len = record_payload(&rec->head);
		rec->payload = stream->data + at;
		if (stream->len - at < rec->len)
			return -EBADMSG;
		at += rec->len;
	}
	return 0;
}

struct record *records_find(struct records *list, uint32_t tag)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->rec[i].head.tag == tag)
			return &list->rec[i];
	return NULL;
}

static const char *check_identity(const struct vfio_record_header *header,
				  struct vfio_device *dev)
{
	uint32_t class_revision;
	uint16_t id[2];

	if (vfio_config_read(dev, PCI_VENDOR_ID, id, sizeof(id)) ||
	    vfio_config_read(dev, PCI_CLASS_REVISION, &class_revision,
			     sizeof(class_revision)))
		return "config space cannot be read";
	if (header->vendor != id[0] || header->device != id[1])
		return "wrong ids";
	if (header->class != class_revision >> 8 ||
	    header->revision != (class_revision & 0xff))
		return "wrong class or revision";
	return NULL;
}

static const char *check_header(const struct record *rec,
				struct vfio_device *dev)
{
	const struct vfio_record_header *header = (void *)rec->payload;

	if (rec->head.tag != VFIO_RECORD_MAGIC)
		return "the first record is no header";
	if (rec->head.flags != (header->features & VFIO_RECORD_PASSES ? 0 :
				VFIO_RECORD_ORDER_FREE))
		return "header flags";
	if (rec->len != sizeof(*header) + sizeof(header->region[0]))
		return "header length";
	if (header->version != VFIO_RECORD_VERSION ||
	    header->features & ~VFIO_RECORD_PASSES || header->reserved)
		return "version, features or reserved";
	if (header->regions != 1 ||
	    header->region[0].index != dev->kind->memory ||
	    header->region[0].reserved || header->region[0].size != dev->size)
		return "header regions";
	return check_identity(header, dev);
}

/* What @seen has for each VFIO_RECORD_ALIGN bytes */
#define SEEN_NOW	1	/* they came in this pass */
#define SEEN_EVER	2

/* Marks the range of @rec in @seen */
static const char *check_range(const struct record *rec,
			       struct vfio_device *dev, uint8_t *seen)
{
	uint64_t offset = rec->head.offset, length = rec->head.length;

	if (rec->head.region != dev->kind->memory)
		return "memory of another region";
	if (!length || offset % VFIO_RECORD_ALIGN ||
	    length % VFIO_RECORD_ALIGN)
		return "unaligned range";
	if (offset > dev->size || length > dev->size - offset)
		return "range out of bounds";
	seen += offset / VFIO_RECORD_ALIGN;
	for (uint64_t i = 0; i < length / VFIO_RECORD_ALIGN; i++) {
		if (seen[i] & SEEN_NOW)
			return "ranges overlap";
		seen[i] = SEEN_NOW | SEEN_EVER;
	}
	return NULL;
}

/* The end record has all records of the stream before it, also in memory */
static const char *check_totals(struct records *list, const struct record *rec)
{
	const struct vfio_record_totals *totals = (void *)rec->payload;
	size_t count = rec->head.tag == VFIO_RECORD_END ?
		       list->count : (size_t)(rec - list->rec) + 1;
	uint64_t bytes = 0;

	if (rec->len != sizeof(*totals))
		return "length of a record with totals";
	for (size_t i = 0; i < count; i++)
		bytes += sizeof(rec->head) + list->rec[i].len;
	if (totals->bytes != bytes)
		return "total of bytes";
	return totals->records == count ? NULL : "total of records";
}

static const char *check_pass(struct records *list, const struct record *rec,
			      struct vfio_device *dev, uint8_t *seen)
{
	const struct vfio_record_header *header = (void *)list->rec[0].payload;

	if (!(header->features & VFIO_RECORD_PASSES))
		return "pass record of a stream without";
	for (uint64_t i = 0; i < dev->size / VFIO_RECORD_ALIGN; i++)
		seen[i] &= ~SEEN_NOW;
	return check_totals(list, rec);
}

static const char *check_record(struct records *list, struct record *rec,
				struct vfio_device *dev, uint8_t *seen,
				uint8_t *image)
{
	const struct vfio_record *head = &rec->head;
	const char *bad;

	if (head->reserved || (head != &list->rec[0].head && head->flags))
		return "flags or reserved of a record";
	if (head->digest != digest(*head, rec->payload))
		return "digest";
	switch (head->tag) {
	case VFIO_RECORD_MEMORY:
	case VFIO_RECORD_ZERO:
		bad = check_range(rec, dev, seen);
		if (!bad && head->tag == VFIO_RECORD_ZERO)
			memset(image + head->offset, 0, head->length);
		else if (!bad)
			memcpy(image + head->offset, rec->payload, rec->len);
		return bad;
	}
	if (head->region || head->offset)
		return "range of a record without";
	if (rec->len > VFIO_RECORD_MAX_META)
		return "long payload";
	if (head->tag == VFIO_RECORD_END)
		return check_totals(list, rec);
	if (head->tag == VFIO_RECORD_PASS)
		return check_pass(list, rec, dev, seen);
	return NULL;
}

/*
 * Says what is wrong with the stream of @dev, or NULL.  @image becomes the
 * memory that the stream describes.
 */
const char *records_check(struct records *list, struct vfio_device *dev,
			  uint8_t *image)
{
	uint64_t pages = dev->size / VFIO_RECORD_ALIGN, registers = 0, ends = 0;
	const struct vfio_record_header *header;
	uint8_t *seen = calloc(1, pages);
	const char *bad;

	if (!list->count || !seen) {
		free(seen);
		return seen ? "no record" : "out of memory";
	}
	header = (void *)list->rec[0].payload;
	bad = check_header(&list->rec[0], dev);
	for (size_t i = 0; !bad && i < list->count; i++) {
		struct record *rec = &list->rec[i];

		bad = check_record(list, rec, dev, seen, image);
		if (rec->head.tag == VFIO_RECORD_REGISTERS)
			registers += rec->len /
				     sizeof(struct vfio_record_register);
		else if (rec->head.tag == VFIO_RECORD_END)
			ends++;
		else if (i && rec->head.tag != VFIO_RECORD_MEMORY &&
			 rec->head.tag != VFIO_RECORD_ZERO &&
			 rec->head.tag != VFIO_RECORD_PASS)
			bad = bad ? bad : "unknown tag";
	}
	for (uint64_t i = 0; !bad && i < pages; i++)
		bad = seen[i] ? NULL : "a range is missing";
	if (!bad && ends != 1)
		bad = "not one end record";
	if (!bad && (!registers || registers != header->registers))
		bad = "number of registers";
	free(seen);
	return bad;
}

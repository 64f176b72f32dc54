/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A device's state as bytes: read from and written to a data fd in any
 * segmentation, taken apart into records, checked, and put together again.
 * The decoder knows the format from vfio_record.h alone.
 */
#ifndef SELFTESTS_STREAM_H
#define SELFTESTS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vfio_record.h>

#include "vfio.h"

/* Bytes in memory that grow at the end */
struct stream {
	uint8_t *data;
	size_t len;
	size_t room;
};

/**
 * struct segments - sizes of successive reads or writes
 * @least: smallest
 * @most: largest; sizes in between are drawn at random
 * @seed: state of the random numbers
 */
struct segments {
	size_t least;
	size_t most;
	uint64_t seed;
};

/**
 * struct record - a record within a stream
 * @head: its first bytes
 * @payload: bytes behind them, within the stream
 * @len: number of payload bytes
 */
struct record {
	struct vfio_record head;
	const uint8_t *payload;
	size_t len;
};

struct records {
	struct record *rec;
	size_t count;
};

void stream_free(struct stream *stream);
bool stream_is_same(const struct stream *a, const struct stream *b);
int stream_append(struct stream *stream, const void *data, size_t len);
int stream_read(struct stream *stream, int fd, struct segments *segments);
int stream_write(const struct stream *stream, int fd,
		 struct segments *segments);
int stream_save(struct stream *stream, struct vfio_device *dev);
int stream_load(const struct stream *stream, struct vfio_device *dev);

int records_parse(struct records *list, const struct stream *stream);
void records_free(struct records *list);
struct record *records_find(struct records *list, uint32_t tag);
const char *records_check(struct records *list, struct vfio_device *dev,
			  uint8_t *image);
int record_build(struct stream *stream, struct vfio_record head,
		 const void *payload);
int record_build_end(struct stream *stream, uint64_t records);
size_t record_payload(const struct vfio_record *head);

#endif /* SELFTESTS_STREAM_H */

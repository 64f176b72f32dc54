// SPDX-License-Identifier: GPL-2.0-only
/* A device's state as a row of bytes */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stream.h"

static int reserve(struct stream *stream, size_t len)
{
	size_t room = stream->room ? stream->room : 1 << 16;
	uint8_t *data;

	while (room < stream->len + len)
		room *= 2;
	if (room == stream->room)
		return 0;
	data = realloc(stream->data, room);
	if (!data)
		return -ENOMEM;
	stream->data = data;
	stream->room = room;
	return 0;
}

void stream_free(struct stream *stream)
{
	free(stream->data);
	memset(stream, 0, sizeof(*stream));
}

bool stream_is_same(const struct stream *a, const struct stream *b)
{
	return a->len == b->len && !memcmp(a->data, b->data, a->len);
}

int stream_append(struct stream *stream, const void *data, size_t len)
{
	int ret = reserve(stream, len);

	if (ret || !len)
		return ret;
	memcpy(stream->data + stream->len, data, len);
	stream->len += len;
	return 0;
}

static size_t next_size(struct segments *segments)
{
	size_t span = segments->most - segments->least + 1;

	return segments->least + vfio_random(&segments->seed) % span;
}

/* Appends all that @fd has, until its end */
int stream_read(struct stream *stream, int fd, struct segments *segments)
{
	ssize_t done;
	int ret;

	do {
		size_t size = next_size(segments);

		ret = reserve(stream, size);
		if (ret)
			return ret;
		done = read(fd, stream->data + stream->len, size);
		if (done < 0)
			return -errno;
		stream->len += done;
	} while (done);
	return 0;
}

int stream_write(const struct stream *stream, int fd,
		 struct segments *segments)
{
	ssize_t done;

	for (size_t at = 0; at < stream->len; at += done) {
		size_t size = next_size(segments);

		if (size > stream->len - at)
			size = stream->len - at;
		done = write(fd, stream->data + at, size);
		if (done < 0)
			return -errno;
		if (!done)
			return -EIO;
	}
	return 0;
}

/* The state of @dev, which is in STOP afterwards */
int stream_save(struct stream *stream, struct vfio_device *dev)
{
	struct segments big = { 1 << 20, 1 << 20, 0 };
	int fd, ret;

	ret = vfio_mig_set_state(dev, VFIO_DEVICE_STATE_STOP_COPY, &fd);
	if (ret)
		return ret;
	ret = stream_read(stream, fd, &big);
	close(fd);
	return ret ? ret : vfio_mig_set_state(dev, VFIO_DEVICE_STATE_STOP,
					      NULL);
}

/* Gives @dev a state; it is in STOP afterwards */
int stream_load(const struct stream *stream, struct vfio_device *dev)
{
	struct segments big = { 1 << 20, 1 << 20, 0 };
	int fd, ret;

	ret = vfio_mig_set_state(dev, VFIO_DEVICE_STATE_RESUMING, &fd);
	if (ret)
		return ret;
	ret = stream_write(stream, fd, &big);
	close(fd);
	return ret ? ret : vfio_mig_set_state(dev, VFIO_DEVICE_STATE_STOP,
					      NULL);
}

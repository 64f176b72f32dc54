// SPDX-License-Identifier: GPL-2.0-only
#include "replace.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_S	60

int replace_hand_over(const struct engine *engine, int sock, uint32_t id,
		      uint64_t packets)
{
	struct vfio_multifd_replace arg = {
		.argsz = sizeof(arg), .fd = sock, .id = id, .packets = packets,
	};

	return engine_call(engine->fd, VFIO_MULTIFD_REPLACE_CHANNEL, &arg);
}

/* A thread of a source that has lost its connection may not be ready yet. */
int replace_hand_over_soon(const struct engine *engine, int sock, uint32_t id,
			   uint64_t packets)
{
	int ret;

	while ((ret = replace_hand_over(engine, sock, id, packets)) == -EBUSY)
		usleep(1000);
	return ret;
}

int replace_give_up(const struct engine *engine, uint32_t id)
{
	return replace_hand_over(engine, -1, id, 0);
}

/* By poll(), as a helper would; false if the transfer ends before */
bool replace_wait_lost(const struct engine *engine, uint32_t id,
		       struct vfio_multifd_channel_status *channel)
{
	struct pollfd fd = { .fd = engine->fd, .events = POLLIN };
	struct vfio_multifd_status status;

	do {
		if (engine_status(engine->fd, &status) ||
		    status.state > VFIO_MULTIFD_STATE_SEALED ||
		    engine_channel_status(engine->fd, id, channel))
			return false;
		if (channel->lost)
			return true;
	} while (poll(&fd, 1, PATIENCE_S * 1000) == 1);
	return false;
}

bool replace_is_done(const struct engine *engine)
{
	struct vfio_multifd_status status;

	return !engine_status(engine->fd, &status) &&
	       status.state == VFIO_MULTIFD_STATE_DONE;
}

/*
 * What two helpers do.  Return: 0, or why not; 1 if the destination had it all
 * already.
 */
int replace_channel(struct engine *source, struct engine *destination,
		    uint32_t id, int sock[2], int buffer)
{
	struct vfio_multifd_channel_status lost, lost_source;
	int ret;

	ret = replace_give_up(destination, id);
	if (ret)
		return replace_is_done(destination) ? 1 : ret;
	ret = replace_give_up(source, id);
	if (ret)
		return ret;
	if (!replace_wait_lost(destination, id, &lost))
		return replace_is_done(destination) ? 1 : -EIO;
	if (!replace_wait_lost(source, id, &lost_source) &&
	    !replace_is_done(source))
		return -EIO;

	close(sock[0]);
	close(sock[1]);
	ret = engine_tcp_pair(sock, buffer);
	if (!ret)
		ret = replace_hand_over(destination, sock[1], id, 0);
	/* it may be that only other channels had something to bring */
	if (ret)
		return ret == -EBADFD && replace_is_done(destination) ? 1 : ret;
	ret = replace_hand_over_soon(source, sock[0], id, lost.packets);
	if (!ret && replace_is_done(source)) {
		engine_join(&source->channel[id]);
		engine_start(&source->channel[id]);
	}
	return ret;
}

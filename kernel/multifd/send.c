// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a channel does at the source: take the next packet, send it, again.
 *
 * A channel that is free takes what comes next, of whichever device, so a slow
 * channel holds up one packet and not a share of the state.  In order to let
 * an in-order receiver never wait for ever, a device's packets are taken in
 * the order of their idx, and a channel sends what it took before it takes
 * more: the oldest packet that is not loaded yet is then always the next one
 * of its channel.
 */

#include <linux/slab.h>
#include <linux/uio.h>
#include <linux/xxhash.h>

#include "transfer.h"

static int send_init(struct vmfd_channel *ch)
{
	/* Made anew after a signal, and always the same. */
	ch->init = (struct vmfd_wire_init) {
		.magic = cpu_to_be32(VMFD_WIRE_MAGIC),
		.version = cpu_to_be32(VMFD_WIRE_VERSION),
		.id = ch->id,
	};
	memcpy(ch->init.uuid, ch->tr->uuid, sizeof(ch->init.uuid));
	return vmfd_channel_send_bytes(ch, &ch->init, sizeof(ch->init), 0);
}

static bool can_read(const struct vmfd_device *dev)
{
	return !dev->eof && !dev->paused && (!dev->readers || dev->order_free);
}

static bool can_take_config(const struct vmfd_device *dev)
{
	return dev->eof && !dev->readers && dev->config && !dev->config_taken;
}

/* Devices take turns, so that they come to their ends together. */
static struct vmfd_device *find_work(struct vmfd_transfer *tr)
{
	unsigned int i;

	lockdep_assert_held(&tr->lock);
	for (i = 0; i < tr->nr_devices; i++) {
		u32 n = (tr->next_device + i) % tr->nr_devices;
		struct vmfd_device *dev = tr->devices[n];

		if (can_read(dev) || can_take_config(dev)) {
			tr->next_device = n + 1;
			return dev;
		}
	}
	return NULL;
}

static int too_many(struct vmfd_channel *ch)
{
	return vmfd_transfer_fail(ch->tr, ch, &(struct vmfd_error) {
		.err = -EFBIG,
		.reason = VFIO_MULTIFD_REASON_IDX,
		.expected = VFIO_MULTIFD_MAX_PACKETS - 1,
		.got = ch->idx,
	});
}

static u64 digest(struct vmfd_channel *ch)
{
	if (ch->is_config)
		return xxh64(ch->dev->config, ch->len, 0);
	return vmfd_buffer_digest(vmfd_foreign_data(ch)->bvec, ch->len);
}

static void make_header(struct vmfd_channel *ch)
{
	const struct vmfd_transfer *tr = ch->tr;
	u32 flags = ch->is_config ? VMFD_WIRE_VFIO_CONFIG : 0;

	ch->packet = (struct vmfd_wire_packet) {
		.magic = cpu_to_be32(VMFD_WIRE_MAGIC),
		.version = cpu_to_be32(VMFD_WIRE_VERSION),
		.flags = cpu_to_be32(VMFD_WIRE_DEVICE_STATE),
		.instance_id = cpu_to_be32(ch->dev->instance_id),
		.size = cpu_to_be32(tr->header_size - VMFD_WIRE_SIZE_END +
				    ch->len),
		.vfio_version = cpu_to_be32(VMFD_WIRE_VFIO_VERSION),
		.idx = cpu_to_be32(ch->idx),
	};
	memcpy(ch->packet.idstr, ch->dev->idstr, sizeof(ch->packet.idstr));
	if (tr->features & VFIO_MULTIFD_FEATURE_DIGEST) {
		flags |= VMFD_WIRE_VFIO_DIGEST;
		ch->packet.digest = cpu_to_be64(digest(ch));
	}
	if (!ch->idx && ch->dev->order_free)
		flags |= VMFD_WIRE_VFIO_FREE;
	ch->packet.vfio_flags = cpu_to_be32(flags);
	ch->phase = VMFD_PHASE_HEADER;
}

static int begin_packet(struct vmfd_channel *ch)
{
	make_header(ch);
	if (!(ch->tr->features & VFIO_MULTIFD_FEATURE_REPLACE) ||
	    !vmfd_kept_add(ch))
		return 0;
	return vmfd_transfer_fail(ch->tr, ch, &(struct vmfd_error) {
		.err = -ENOMEM,
		.reason = VFIO_MULTIFD_REASON_NO_MEMORY,
	});
}

/*
 * What a read says that began before the switchover is no end.  Whatever became
 * of the transfer meanwhile, reading again then tells.
 */
static bool is_pause(const struct vmfd_channel *ch, ssize_t len)
{
	return ch->dev->pre_copy && !ch->sealed && (!len || len == -ENOMSG);
}

/*
 * A read that found data makes a packet.  Its idx is given after the read:
 * where order matters there is one reader, where there are many it does not.
 */
static void took_data(struct vmfd_channel *ch, ssize_t len, bool again)
{
	struct vmfd_transfer *tr = ch->tr;
	struct vmfd_device *dev = ch->dev;
	bool was_order_free;

	mutex_lock(&tr->lock);
	was_order_free = dev->order_free;
	/*
	 * Who has failed stays a reader: the stream must not come to an end
	 * before the transfer is told to fail.
	 */
	if (len >= 0 || is_pause(ch, len) || again)
		dev->readers--;
	if (is_pause(ch, len)) {
		dev->paused = tr->state == VFIO_MULTIFD_STATE_READY;
	} else if (len > 0) {
		if (!dev->next_idx)
			dev->order_free = vmfd_device_can_order_free(tr, dev) &&
				vmfd_device_is_order_free(&ch->buf, len);
		ch->idx = dev->next_idx++;
		ch->len = len;
		ch->is_config = false;
		dev->active++;
	} else if (!len) {
		dev->eof = true;
	}
	if (!was_order_free || dev->eof)
		vmfd_transfer_changed(tr);
	vmfd_transfer_check_paused(tr, dev);
	mutex_unlock(&tr->lock);
}

static int read_failed(struct vmfd_channel *ch,
		       enum vfio_multifd_reason reason, ssize_t err)
{
	ch->idx = VFIO_MULTIFD_NO_INDEX;
	return vmfd_transfer_fail(ch->tr, ch, &(struct vmfd_error) {
		.err = err,
		.reason = reason,
	});
}

static int have_read(struct vmfd_channel *ch, enum vfio_multifd_reason reason,
		     ssize_t len)
{
	/* asked once: a signal may come at any time */
	bool again = vmfd_interrupted(len);

	took_data(ch, len, again);
	ch->phase = VMFD_PHASE_TAKE;
	if (again)
		return -EINTR;
	if (!len || is_pause(ch, len))
		return 0;
	if (len < 0)
		return read_failed(ch, reason, len);
	/* The config state needs an idx as well. */
	if (ch->idx >= VFIO_MULTIFD_MAX_PACKETS - 1)
		return too_many(ch);
	return begin_packet(ch);
}

static int read_data(struct vmfd_channel *ch)
{
	enum vfio_multifd_reason reason = VFIO_MULTIFD_REASON_NO_MEMORY;
	ssize_t len;

	vmfd_channel_do(ch, VMFD_DOING_DEVICE);
	if (ch->dev->foreign) {
		vmfd_buffer_pass(&ch->slot);
		ch->phase = VMFD_PHASE_READ;
		return 0;
	}
	len = vmfd_buffer_renew(&ch->buf);
	if (!len) {
		vmfd_channel_note_memory(ch);
		reason = VFIO_MULTIFD_REASON_DEVICE_READ;
		len = vmfd_device_read(ch->dev, &ch->buf);
	}
	return have_read(ch, reason, len);
}

/* A call that a signal has ended is made again. */
static int read_foreign(struct vmfd_channel *ch)
{
	ssize_t len;

	do {
		if (!vmfd_foreign_ask(ch, VFIO_MULTIFD_ASK_READ, &len))
			return VMFD_ASK;
	} while (len == -EINTR);
	/* without a mapping nothing was read */
	if (len > 0 && !ch->slot.pages)
		len = -EFAULT;
	return have_read(ch, VFIO_MULTIFD_REASON_DEVICE_READ, len);
}

static void take_config(struct vmfd_channel *ch)
{
	struct vmfd_device *dev = ch->dev;

	lockdep_assert_held(&ch->tr->lock);
	dev->config_taken = true;
	dev->active++;
	ch->idx = dev->next_idx++;
	ch->len = dev->config_size;
	ch->is_config = true;
}

/* Takes a packet in hand, or finds that there is nothing: look again. */
static int take(struct vmfd_channel *ch)
{
	struct vmfd_transfer *tr = ch->tr;
	int ret;

	vmfd_kept_trim(ch);
	vmfd_channel_do(ch, VMFD_DOING_WAIT);
	mutex_lock(&tr->lock);
	for (;;) {
		ch->dev = NULL;
		ret = vmfd_transfer_over(tr);
		if (!ret && ch->lost)
			ret = VMFD_LOST;
		if (ret)
			goto out;
		ch->dev = find_work(tr);
		if (ch->dev)
			break;
		ret = vmfd_transfer_sleep(tr);
		if (ret)
			goto out;
	}
	vmfd_transfer_begin(ch);
	ch->sealed = tr->state == VFIO_MULTIFD_STATE_SEALED;
	if (!can_take_config(ch->dev)) {
		ch->dev->readers++;
		mutex_unlock(&tr->lock);
		return read_data(ch);
	}
	take_config(ch);
	mutex_unlock(&tr->lock);
	return begin_packet(ch);
out:
	mutex_unlock(&tr->lock);
	return ret;
}

/*
 * The pages go into the socket by reference.  Nobody is to write to them before
 * vmfd_buffer_renew() or vmfd_buffer_pass() has seen them come back.
 */
static int send_data(struct vmfd_channel *ch)
{
	struct vmfd_buffer *buf = vmfd_foreign_data(ch);
	bool copy = buf == &ch->slot && !buf->turn;
	struct iov_iter iter;

	if (ch->is_config)
		return vmfd_channel_send_bytes(ch, ch->dev->config, ch->len, 0);
	iov_iter_bvec(&iter, ITER_SOURCE, buf->bvec, buf->nr, ch->len);
	return vmfd_channel_send(ch, &iter, copy ? 0 : MSG_SPLICE_PAGES);
}

static void sent(struct vmfd_channel *ch)
{
	struct vmfd_transfer *tr = ch->tr;
	struct vmfd_device *dev = ch->dev;

	mutex_lock(&tr->lock);
	dev->active--;
	vmfd_transfer_progress(ch);
	if (dev->config_taken && !dev->active)
		vmfd_transfer_device_done(tr, dev);
	vmfd_transfer_unlock(tr);
	ch->dev = NULL;
}

/* What the peer lacks of the packets that went into another connection */
static int send_again(struct vmfd_channel *ch)
{
	int ret;

	if (!ch->again) {
		/* The packet in hand was among them. */
		if (ch->finish)
			sent(ch);
		ch->finish = false;
		ch->phase = VMFD_PHASE_TAKE;
		return 0;
	}
	ret = vmfd_channel_send_bytes(ch, &ch->again->packet,
				      ch->tr->header_size,
				      ch->again->len ? MSG_MORE : 0);
	if (!ret)
		ch->phase = VMFD_PHASE_AGAIN_DATA;
	return ret;
}

static int send_data_again(struct vmfd_channel *ch)
{
	struct iov_iter iter;
	struct kvec vec;
	int ret;

	vmfd_kept_data(ch, &vec, &iter);
	ret = vmfd_channel_send(ch, &iter, ch->again->is_config ?
				0 : MSG_SPLICE_PAGES);
	if (ret)
		return ret;
	vmfd_kept_next(ch);
	ch->phase = VMFD_PHASE_AGAIN;
	return 0;
}

static int send_header(struct vmfd_channel *ch)
{
	int ret;

	vmfd_channel_do(ch, VMFD_DOING_NETWORK);
	ret = vmfd_channel_send_bytes(ch, &ch->packet, ch->tr->header_size,
				      ch->len ? MSG_MORE : 0);
	if (!ret)
		ch->phase = VMFD_PHASE_DATA;
	return ret;
}

static int send_packet(struct vmfd_channel *ch)
{
	int ret = send_data(ch);

	if (ret)
		return ret;
	if (ch->tr->features & VFIO_MULTIFD_FEATURE_REPLACE)
		list_last_entry(&ch->kept, struct vmfd_kept, node)->end =
			ch->on_wire;
	sent(ch);
	ch->phase = VMFD_PHASE_TAKE;
	/* The socket may have room for all that comes. */
	cond_resched();
	return signal_pending(current) ? -EINTR : 0;
}

static int send_step(struct vmfd_channel *ch)
{
	int ret;

	switch (ch->phase) {
	case VMFD_PHASE_INIT:
		ret = send_init(ch);
		if (!ret)
			ch->phase = VMFD_PHASE_AGAIN;
		return ret;
	case VMFD_PHASE_AGAIN:
		return send_again(ch);
	case VMFD_PHASE_AGAIN_DATA:
		return send_data_again(ch);
	case VMFD_PHASE_TAKE:
		return take(ch);
	case VMFD_PHASE_READ:
		return read_foreign(ch);
	case VMFD_PHASE_HEADER:
		return send_header(ch);
	case VMFD_PHASE_DATA:
		return send_packet(ch);
	default:	/* the phases of receiving */
		return -EINVAL;
	}
}

/**
 * vmfd_send_run - the sending side of VFIO_MULTIFD_RUN_CHANNEL
 * @ch: the channel, run by the caller
 *
 * Return: -EINTR after a signal, VMFD_ASK for user space to read, else what
 * vmfd_transfer_over() says.
 */
int vmfd_send_run(struct vmfd_channel *ch)
{
	int ret;

	do {
		ret = send_step(ch);
		if (ret == VMFD_LOST)
			ret = vmfd_replace_wait(ch);
	} while (!ret);
	return ret;
}

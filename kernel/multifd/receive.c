// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a channel does at the destination: receive a packet, wait for its turn
 * if order matters, load it, again.
 *
 * A channel holds one packet and reads no further until that one is loaded.
 * That bounds the memory (channels times packet size), TCP slows the sender
 * down, and send.c tells why nobody waits for ever.
 */

#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include <linux/xxhash.h>

#include "transfer.h"

/* End the transfer because of what the peer sent. */
static int refuse(struct vmfd_channel *ch, enum vfio_multifd_reason reason,
		  u64 expected, u64 got)
{
	return vmfd_transfer_fail(ch->tr, ch, &(struct vmfd_error) {
		.err = reason == VFIO_MULTIFD_REASON_NO_MEMORY ? -ENOMEM :
								 -EPROTO,
		.reason = reason,
		.expected = expected,
		.got = got,
	});
}

static int receive_init(struct vmfd_channel *ch)
{
	struct vmfd_wire_init *init = &ch->init;
	int ret;

	vmfd_channel_do(ch, VMFD_DOING_NETWORK);
	ret = vmfd_channel_recv_bytes(ch, init, sizeof(*init));
	if (ret)
		return ret;
	if (be32_to_cpu(init->magic) != VMFD_WIRE_MAGIC)
		return refuse(ch, VFIO_MULTIFD_REASON_MAGIC, VMFD_WIRE_MAGIC,
			      be32_to_cpu(init->magic));
	if (be32_to_cpu(init->version) != VMFD_WIRE_VERSION)
		return refuse(ch, VFIO_MULTIFD_REASON_VERSION,
			      VMFD_WIRE_VERSION, be32_to_cpu(init->version));
	if (init->id != ch->id ||
	    memcmp(init->uuid, ch->tr->uuid, sizeof(init->uuid)))
		return refuse(ch, VFIO_MULTIFD_REASON_INIT, ch->id, init->id);
	return 0;
}

static bool is_ram(const struct vmfd_channel *ch)
{
	return !(be32_to_cpu(ch->packet.flags) & ~VMFD_WIRE_SYNC);
}

/* The first bytes of a packet tell whether it is one that we know. */
static int receive_kind(struct vmfd_channel *ch)
{
	struct vmfd_wire_packet *packet = &ch->packet;
	int ret;

	vmfd_channel_do(ch, VMFD_DOING_NETWORK);
	ret = vmfd_channel_recv_bytes(ch, packet, VMFD_WIRE_KIND_SIZE);
	if (ret)
		return ret;
	if (be32_to_cpu(packet->magic) != VMFD_WIRE_MAGIC)
		return refuse(ch, VFIO_MULTIFD_REASON_MAGIC, VMFD_WIRE_MAGIC,
			      be32_to_cpu(packet->magic));
	if (be32_to_cpu(packet->version) != VMFD_WIRE_VERSION)
		return refuse(ch, VFIO_MULTIFD_REASON_VERSION,
			      VMFD_WIRE_VERSION, be32_to_cpu(packet->version));
	if (be32_to_cpu(packet->flags) != VMFD_WIRE_DEVICE_STATE &&
	    !(ch->tr->skip_ram && is_ram(ch)))
		return refuse(ch, VFIO_MULTIFD_REASON_FLAGS,
			      VMFD_WIRE_DEVICE_STATE,
			      be32_to_cpu(packet->flags));
	return 0;
}

static int receive_ram(struct vmfd_channel *ch)
{
	const u32 limit = VMFD_WIRE_RAM_PAGES * SZ_4K;
	struct vmfd_wire_ram *ram = &ch->ram;
	u32 size;
	int ret;

	ret = vmfd_channel_recv_bytes(ch, &ram->pages, sizeof(*ram) -
				      VMFD_WIRE_KIND_SIZE);
	if (ret)
		return ret;
	size = be32_to_cpu(ram->size);
	if (size > limit)
		return refuse(ch, VFIO_MULTIFD_REASON_LENGTH, limit, size);
	ch->len = VMFD_WIRE_RAM_SIZE - sizeof(*ram) + size;
	return 0;
}

/* RAM has no end of its own, and may come faster than it is read. */
static int check_over(struct vmfd_channel *ch)
{
	int ret;

	mutex_lock(&ch->tr->lock);
	ret = vmfd_transfer_over(ch->tr);
	mutex_unlock(&ch->tr->lock);
	cond_resched();
	return !ret && signal_pending(current) ? -EINTR : ret;
}

static int skip_ram(struct vmfd_channel *ch)
{
	struct iov_iter iter;
	int ret;

	if (vmfd_buffer_fill(&ch->buf))
		return vmfd_channel_no_memory(ch);
	while (ch->len) {
		u32 n = min(ch->len, ch->buf.size);

		ret = check_over(ch);
		if (ret)
			return ret;
		iov_iter_bvec(&iter, ITER_DEST, ch->buf.bvec, ch->buf.nr, n);
		ret = vmfd_channel_recv(ch, &iter);
		if (ret)
			return ret;
		ch->len -= n;
	}
	return 0;
}

static int check_flags(struct vmfd_channel *ch)
{
	bool digest = ch->tr->features & VFIO_MULTIFD_FEATURE_DIGEST;
	u32 want = digest ? VMFD_WIRE_VFIO_DIGEST : 0;
	u32 flags = be32_to_cpu(ch->packet.vfio_flags);
	u32 may = VMFD_WIRE_VFIO_CONFIG;

	ch->is_config = flags & VMFD_WIRE_VFIO_CONFIG;
	if (ch->tr->features & VFIO_MULTIFD_FEATURE_ORDER_FREE &&
	    !ch->packet.idx && !ch->is_config)
		may |= VMFD_WIRE_VFIO_FREE;
	if ((flags & ~may) != want)
		return refuse(ch, VFIO_MULTIFD_REASON_FLAGS, want, flags);
	return 0;
}

static int check_length(struct vmfd_channel *ch)
{
	u32 fields = ch->tr->header_size - VMFD_WIRE_SIZE_END;
	u32 limit = ch->is_config ? VFIO_MULTIFD_MAX_CONFIG :
				    ch->tr->packet_size;
	u32 size = be32_to_cpu(ch->packet.size);

	if (size < fields + !ch->is_config || size - fields > limit)
		return refuse(ch, VFIO_MULTIFD_REASON_LENGTH, fields + limit,
			      size);
	ch->len = size - fields;
	return 0;
}

static int receive_header(struct vmfd_channel *ch)
{
	struct vmfd_wire_packet *packet = &ch->packet;
	u32 version;
	int ret;

	ret = vmfd_channel_recv_bytes(ch, packet->idstr, ch->tr->header_size -
				      VMFD_WIRE_KIND_SIZE);
	if (ret)
		return ret;
	if (packet->idstr[VFIO_MULTIFD_IDSTR_SIZE - 1])
		return refuse(ch, VFIO_MULTIFD_REASON_IDSTR, 0, 0);
	version = be32_to_cpu(packet->vfio_version);
	if (version != VMFD_WIRE_VFIO_VERSION)
		return refuse(ch, VFIO_MULTIFD_REASON_VERSION,
			      VMFD_WIRE_VFIO_VERSION, version);
	ret = check_flags(ch);
	if (ret)
		return ret;
	ret = check_length(ch);
	if (ret)
		return ret;
	ch->idx = be32_to_cpu(packet->idx);
	if (ch->idx >= VFIO_MULTIFD_MAX_PACKETS)
		return refuse(ch, VFIO_MULTIFD_REASON_IDX,
			      VFIO_MULTIFD_MAX_PACKETS - 1, ch->idx);
	return 0;
}

/* A device may come late, but not after the switchover. */
static int find_device(struct vmfd_channel *ch)
{
	struct vmfd_transfer *tr = ch->tr;
	int ret;

	lockdep_assert_held(&tr->lock);
	for (;;) {
		ret = vmfd_transfer_over(tr);
		if (ret)
			return ret;
		ch->dev = vmfd_device_find(tr, ch->packet.idstr,
					   be32_to_cpu(ch->packet.instance_id));
		if (ch->dev || tr->state == VFIO_MULTIFD_STATE_SEALED)
			return 0;
		vmfd_channel_do(ch, VMFD_DOING_WAIT);
		ret = vmfd_transfer_sleep(tr);
		if (ret)
			return ret;
	}
}

/* Note that this idx is here.  Return: 0 or why it must not be. */
static enum vfio_multifd_reason note_idx(struct vmfd_channel *ch, u32 *expected)
{
	struct vmfd_device *dev = ch->dev;
	int ret;

	lockdep_assert_held(&ch->tr->lock);
	if (ch->is_config && dev->config_taken)
		return VFIO_MULTIFD_REASON_SECOND_CONFIG;
	/* Nothing may come behind the config state. */
	*expected = ch->is_config ? dev->max_idx : dev->last_idx;
	if (ch->is_config ? ch->idx < dev->max_idx : ch->idx > dev->last_idx)
		return VFIO_MULTIFD_REASON_IDX;

	ret = vmfd_device_seen(ch->tr, dev, ch->idx);
	if (ret)
		return ret < 0 ? VFIO_MULTIFD_REASON_NO_MEMORY :
				 VFIO_MULTIFD_REASON_DUPLICATE;
	dev->max_idx = max(dev->max_idx, ch->idx);
	if (ch->is_config) {
		dev->config_taken = true;
		dev->last_idx = ch->idx;
	}
	return VFIO_MULTIFD_REASON_NONE;
}

static int claim(struct vmfd_channel *ch)
{
	struct vmfd_transfer *tr = ch->tr;
	enum vfio_multifd_reason reason = VFIO_MULTIFD_REASON_UNKNOWN_DEVICE;
	u32 expected = 0;
	int ret;

	if (ch->is_config && !ch->config)
		ch->config = kvmalloc(ch->len ?: 1, GFP_KERNEL_ACCOUNT);

	mutex_lock(&tr->lock);
	ret = find_device(ch);
	if (!ret && ch->is_config && !ch->config)
		reason = VFIO_MULTIFD_REASON_NO_MEMORY;
	else if (!ret && ch->dev)
		reason = note_idx(ch, &expected);
	if (!ret && !reason)
		vmfd_transfer_begin(ch);
	mutex_unlock(&tr->lock);

	if (ret || !reason)
		return ret;
	return refuse(ch, reason, expected, ch->idx);
}

/* User space sees the channel's own pages only. */
static const struct bio_vec *data_of(struct vmfd_channel *ch)
{
	return ch->dev->foreign ? ch->buf.bvec : ch->gather.bvec;
}

static int check_digest(struct vmfd_channel *ch)
{
	u64 expected = be64_to_cpu(ch->packet.digest);
	u64 got;

	if (!(ch->tr->features & VFIO_MULTIFD_FEATURE_DIGEST))
		return 0;
	got = ch->is_config ? xxh64(ch->config, ch->len, 0) :
			      vmfd_buffer_digest(data_of(ch), ch->len);
	if (got == expected)
		return 0;
	return refuse(ch, VFIO_MULTIFD_REASON_DIGEST, expected, got);
}

static int receive_data(struct vmfd_channel *ch)
{
	struct iov_iter iter;
	int ret;

	vmfd_channel_do(ch, VMFD_DOING_NETWORK);
	if (ch->is_config) {
		ret = vmfd_channel_recv_bytes(ch, ch->config, ch->len);
	} else if (ch->dev->foreign) {
		if (vmfd_buffer_fill(&ch->buf))
			return vmfd_channel_no_memory(ch);
		vmfd_channel_note_memory(ch);
		iov_iter_bvec(&iter, ITER_DEST, ch->buf.bvec, ch->buf.nr,
			      ch->len);
		ret = vmfd_channel_recv(ch, &iter);
	} else {
		ret = vmfd_gather_recv(ch);
	}
	return ret ?: check_digest(ch);
}

/* An order-free stream waits for its first packet only. */
static bool has_turn(const struct vmfd_channel *ch)
{
	const struct vmfd_device *dev = ch->dev;

	return dev->next_idx == ch->idx || dev->order_free || ch->is_config;
}

/*
 * If every channel holds a packet that waits for its turn, the packet that
 * they wait for cannot come any more: a hole in the stream.
 */
static bool all_wait(const struct vmfd_transfer *tr)
{
	unsigned int i;

	lockdep_assert_held(&tr->lock);
	for (i = 0; i < tr->nr_channels; i++) {
		const struct vmfd_channel *ch = tr->channels[i];

		if (!ch || !ch->waiting || has_turn(ch))
			return false;
	}
	return true;
}

static int wait_turn(struct vmfd_channel *ch)
{
	struct vmfd_transfer *tr = ch->tr;
	bool gap = false;
	int ret;

	vmfd_channel_do(ch, VMFD_DOING_WAIT);
	mutex_lock(&tr->lock);
	ch->waiting = true;
	for (;;) {
		ret = vmfd_transfer_over(tr);
		if (ret || has_turn(ch))
			break;
		gap = all_wait(tr);
		if (gap)
			break;
		ret = vmfd_transfer_sleep(tr);
		if (ret)
			break;
	}
	ch->waiting = false;
	mutex_unlock(&tr->lock);

	if (gap)
		return refuse(ch, VFIO_MULTIFD_REASON_GAP, ch->dev->next_idx,
			      ch->idx);
	return ret;
}

static int write_failed(struct vmfd_channel *ch, ssize_t err)
{
	if (vmfd_interrupted(err))
		return -EINTR;
	return vmfd_transfer_fail(ch->tr, ch, &(struct vmfd_error) {
		.err = err < 0 ? err : -EIO,
		.reason = VFIO_MULTIFD_REASON_DEVICE_WRITE,
		.expected = ch->len,
		.got = ch->done,
	});
}

/*
 * Where many write at once each write is whole records: the rest of a short
 * one must not follow those of others.
 */
static int write_data(struct vmfd_channel *ch)
{
	vmfd_channel_do(ch, VMFD_DOING_DEVICE);
	while (ch->done < ch->len) {
		ssize_t ret;

		if (!ch->dev->foreign)
			ret = vmfd_device_write(ch->dev, &ch->gather, ch->done,
						ch->len);
		else if (!vmfd_foreign_ask(ch, VFIO_MULTIFD_ASK_WRITE, &ret))
			return VMFD_ASK;
		else if (ret == -EINTR)
			continue;
		if (ret > 0)
			ch->done += ret;
		if (ret <= 0 ||
		    (READ_ONCE(ch->dev->order_free) && ch->done < ch->len))
			return write_failed(ch, ret);
	}
	ch->done = 0;
	return 0;
}

static bool says_free(const struct vmfd_channel *ch)
{
	return ch->packet.vfio_flags & cpu_to_be32(VMFD_WIRE_VFIO_FREE);
}

static void loaded(struct vmfd_channel *ch)
{
	struct vmfd_transfer *tr = ch->tr;
	struct vmfd_device *dev = ch->dev;
	bool was_order_free = READ_ONCE(dev->order_free);

	vmfd_gather_drop(&ch->gather);
	mutex_lock(&tr->lock);
	if (ch->is_config) {
		swap(dev->config, ch->config);
		dev->config_size = ch->len;
	} else {
		if (!ch->idx)
			WRITE_ONCE(dev->order_free, says_free(ch) &&
				   vmfd_device_can_order_free(tr, dev));
		dev->next_idx++;
	}
	vmfd_transfer_progress(ch);
	if (dev->config_taken && dev->packets == dev->last_idx + 1)
		vmfd_transfer_device_done(tr, dev);
	else if (!was_order_free)
		vmfd_transfer_changed(tr);
	vmfd_transfer_unlock(tr);
	ch->dev = NULL;
}

static int load(struct vmfd_channel *ch)
{
	int ret;

	ret = wait_turn(ch);
	if (ret)
		return ret;
	if (!ch->is_config) {
		ret = write_data(ch);
		if (ret)
			return ret;
	}
	loaded(ch);
	return 0;
}

/* What each phase does, and the phase that follows it. */
static const struct {
	int (*run)(struct vmfd_channel *ch);
	enum vmfd_phase next;
} steps[] = {
	[VMFD_PHASE_INIT]	= { receive_init,	VMFD_PHASE_KIND },
	[VMFD_PHASE_KIND]	= { receive_kind,	VMFD_PHASE_HEADER },
	[VMFD_PHASE_HEADER]	= { receive_header,	VMFD_PHASE_CLAIM },
	[VMFD_PHASE_CLAIM]	= { claim,		VMFD_PHASE_DATA },
	[VMFD_PHASE_DATA]	= { receive_data,	VMFD_PHASE_LOAD },
	[VMFD_PHASE_LOAD]	= { load,		VMFD_PHASE_KIND },
	[VMFD_PHASE_RAM]	= { receive_ram,	VMFD_PHASE_SKIP },
	[VMFD_PHASE_SKIP]	= { skip_ram,		VMFD_PHASE_KIND },
};

/**
 * vmfd_receive_run - the receiving side of VFIO_MULTIFD_RUN_CHANNEL
 * @ch: the channel, run by the caller
 *
 * Return: -EINTR after a signal, VMFD_ASK for user space to write, else what
 * vmfd_transfer_over() says.
 */
int vmfd_receive_run(struct vmfd_channel *ch)
{
	int ret;

	do {
		enum vmfd_phase phase = ch->phase;

		ret = steps[phase].run(ch);
		if (!ret) {
			ch->phase = steps[phase].next;
			if (phase == VMFD_PHASE_KIND && is_ram(ch))
				ch->phase = VMFD_PHASE_RAM;
			/* Packets may come faster than they are loaded. */
			if (phase == VMFD_PHASE_LOAD) {
				cond_resched();
				ret = signal_pending(current) ? -EINTR : 0;
			}
		} else if (ret == VMFD_LOST) {
			ret = vmfd_replace_wait(ch);
		}
	} while (!ret);
	return ret;
}

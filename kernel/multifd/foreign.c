// SPDX-License-Identifier: GPL-2.0-only
/*
 * Devices whose files have no more than ->read() and ->write(), which only user
 * space can call.  The thread that runs a channel is asked to do so: it gets out
 * of RUN_CHANNEL with a question, and comes back with the answer.
 *
 * The bytes are in pages that the channel and its caller share.  At the
 * destination these are the channel's own, which the socket fills.  At the source
 * they are others, for as many packets as the caller has mapped.  Those that the
 * socket does not have are asked for and then spliced: who writes to them after
 * that spoils what is sent, as with vmsplice(2), and nothing else.  If the socket
 * has them all it is the first packet's, and sending copies them.
 */

#include <linux/mm.h>

#include "transfer.h"

/**
 * vmfd_foreign_data - tell where the data of a channel's packet is
 * @ch: the channel, run by the caller; it has a device
 *
 * Return: the buffer.
 */
struct vmfd_buffer *vmfd_foreign_data(struct vmfd_channel *ch)
{
	if (ch->tr->role == VFIO_MULTIFD_SEND && ch->dev->foreign)
		return &ch->slot;
	return &ch->buf;
}

/**
 * vmfd_foreign_tell - put the open question, or that there is none
 * @ch: the channel, run by the caller
 * @arg: out: what user space gets
 *
 * All of it follows from where the packet stands.
 */
void vmfd_foreign_tell(const struct vmfd_channel *ch,
		       struct vfio_multifd_run *arg)
{
	u32 size = ch->tr->packet_size;

	*arg = (struct vfio_multifd_run) {
		.id = ch->id,
		.ask = ch->ask,
	};
	if (!ch->ask)
		return;
	arg->number = ch->questions;
	arg->device = ch->dev->index;
	arg->offset = (u64)ch->id * VFIO_MULTIFD_MAP_PACKETS * size;
	arg->size = size;
	if (ch->ask == VFIO_MULTIFD_ASK_READ) {
		arg->offset += (u64)ch->slot.turn * size;
	} else {
		arg->offset += ch->done;
		arg->size = ch->len - ch->done;
	}
}

/**
 * vmfd_foreign_hear - take an answer
 * @ch: the channel, run by the caller
 * @arg: from user space
 *
 * Return: 0, VMFD_ASK when the question is still open, or -EINVAL for an answer
 * to none, or to another one.
 */
int vmfd_foreign_hear(struct vmfd_channel *ch,
		      const struct vfio_multifd_run *arg)
{
	struct vfio_multifd_run open;

	vmfd_foreign_tell(ch, &open);
	if (!arg->ask)
		return ch->ask ? VMFD_ASK : 0;
	if (arg->ask != open.ask || arg->number != open.number ||
	    arg->device != open.device ||
	    arg->offset != open.offset || arg->size != open.size ||
	    arg->result > (s64)open.size || arg->result < -MAX_ERRNO)
		return -EINVAL;
	ch->answer = arg->result;
	ch->answered = true;
	return 0;
}

/**
 * vmfd_foreign_ask - have user space read or write
 * @ch: the channel, run by the caller
 * @ask: what is to be done
 * @answer: out: bytes, or a negative errno
 *
 * Return: true if there is an answer; else VMFD_ASK must get to user space, and
 * this must be called again then.
 */
bool vmfd_foreign_ask(struct vmfd_channel *ch, enum vfio_multifd_ask ask,
		      ssize_t *answer)
{
	if (!ch->answered) {
		ch->ask = ask;
		ch->questions++;
		return false;
	}
	ch->ask = VFIO_MULTIFD_ASK_NOTHING;
	ch->answered = false;
	*answer = ch->answer;
	return true;
}

static int insert(struct vmfd_channel *ch, struct vm_area_struct *vma)
{
	bool send = ch->tr->role == VFIO_MULTIFD_SEND;
	struct vmfd_buffer *buf = send ? &ch->slot : &ch->buf;
	unsigned long nr = vma_pages(vma);
	u32 size = ch->tr->packet_size;
	bool is_new = !buf->pages;
	int ret = 0;

	if (is_new)
		ret = vmfd_buffer_init(buf, size, nr / (size >> PAGE_SHIFT));
	else if (nr != buf->nr * buf->turns)
		ret = -EINVAL;
	if (!ret)
		ret = vmfd_buffer_fill(buf);
	if (ret)
		goto out;
	/*
	 * Nobody's but the opener's: a child would keep the transfer.  VM_IO,
	 * so that MADV_DOFORK cannot change that.
	 */
	vm_flags_set(vma, VM_IO | VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP);
	ret = vm_insert_pages(vma, vma->vm_start,
			      buf->pages - buf->turn * buf->nr, &nr);
out:
	/* what is sent from there must be there */
	if (ret && is_new && send)
		vmfd_buffer_destroy(buf);
	return ret;
}

/**
 * vmfd_foreign_map - mmap() of a channel
 * @tr: the transfer
 * @vma: the new mapping
 *
 * Return: 0 or an error, see &struct vfio_multifd_run.
 */
int vmfd_foreign_map(struct vmfd_transfer *tr, struct vm_area_struct *vma)
{
	unsigned long id, pages, area, most;
	struct vmfd_channel *ch = NULL;
	int ret;

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;

	mutex_lock(&tr->lock);
	pages = tr->packet_size >> PAGE_SHIFT;
	area = pages * VFIO_MULTIFD_MAP_PACKETS;
	most = tr->role == VFIO_MULTIFD_SEND ? area : pages;
	if (tr->state != VFIO_MULTIFD_STATE_READY &&
	    tr->state != VFIO_MULTIFD_STATE_SEALED) {
		ret = -EBADFD;
	} else if (!PAGE_ALIGNED(tr->packet_size) || vma->vm_pgoff % area ||
		   vma_pages(vma) % pages || vma_pages(vma) > most) {
		ret = -EINVAL;
	} else {
		id = vma->vm_pgoff / area;
		if (id < tr->nr_channels)
			ch = tr->channels[id];
		ret = !ch ? -ENOENT : ch->running ? -EBUSY : 0;
	}
	if (!ret)
		ch->running = true;
	mutex_unlock(&tr->lock);
	if (ret)
		return ret;

	ret = insert(ch, vma);

	mutex_lock(&tr->lock);
	ch->running = false;
	mutex_unlock(&tr->lock);
	return ret;
}

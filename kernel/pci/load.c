// SPDX-License-Identifier: GPL-2.0-only
/*
 * Loading: what a writer to the data fd may put into it in RESUMING
 *
 * A cursor takes a stream apart, however it was cut into pieces.  A kernel
 * writer that brings whole records has a cursor of its own, so that many may
 * write at once, unless there are passes; all others share the session's.
 *
 * The first mistake in a stream is final: it is what every later write and the
 * transition to STOP return.
 */

#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "load.h"

static struct qvp_load *from_file(struct file *filp)
{
	return container_of(filp->private_data, struct qvp_load, session);
}

static int collect(struct qvp_cursor *c, void *to, size_t size, size_t got,
		   struct iov_iter *from)
{
	size_t n = copy_from_iter(to + got, size - got, from);

	WRITE_ONCE(c->got, c->got + n);
	return n ? 0 : -EFAULT;
}

/* Takes the cursor some bytes further. */
static int advance(struct qvp_load *load, struct qvp_cursor *c,
		   struct iov_iter *from)
{
	const size_t head = sizeof(c->record);
	u64 payload;
	int ret;

	if (c->got < head) {
		ret = collect(c, &c->record, head, c->got, from);
		if (ret || c->got < head)
			return ret;
		ret = qvp_apply_begin(load, &c->record);
		payload = qvp_record_payload(&c->record);
	} else {
		payload = qvp_record_payload(&c->record);
		if (c->record.tag == cpu_to_le32(VFIO_RECORD_MEMORY))
			ret = qvp_apply_memory(load, c, from);
		else
			ret = collect(c, c->buffer, payload, c->got - head,
				      from);
	}
	if (!ret && c->got == head + payload) {
		ret = qvp_apply_end(load, c);
		WRITE_ONCE(c->got, 0);
	}
	return ret;
}

/* Where the writer stopped, the cursor did: it can go on. */
static bool can_go_on(int err)
{
	return err == -EFAULT || err == -ERESTARTSYS;
}

/*
 * After a mistake the cursor stands in a record that was refused, so nobody
 * may use it again: the mistake is known before the next writer can.
 */
static int write_bytes(struct qvp_load *load, struct iov_iter *from)
{
	int ret;

	if (mutex_lock_interruptible(&load->cursor_lock))
		return -ERESTARTSYS;
	ret = READ_ONCE(load->error);
	while (iov_iter_count(from) && !ret) {
		ret = advance(load, &load->cursor, from);
		if (!ret && signal_pending(current))
			ret = -ERESTARTSYS;
		cond_resched();
	}
	if (ret && !can_go_on(ret))
		cmpxchg(&load->error, 0, ret);
	mutex_unlock(&load->cursor_lock);
	return ret;
}

static int write_records(struct qvp_load *load, struct iov_iter *from)
{
	struct qvp_cursor c = {};
	int ret = 0;

	c.buffer = kmalloc(VFIO_RECORD_MAX_META, GFP_KERNEL_ACCOUNT);
	if (!c.buffer)
		return -ENOMEM;
	while (iov_iter_count(from) && !ret) {
		ret = qvp_apply_killed(load) ?: advance(load, &c, from);
		cond_resched();
	}
	/* Somebody changed the records since is_whole() saw them. */
	if (c.got && (!ret || can_go_on(ret)))
		ret = qvp_apply_partial(load, &c);
	if (ret)
		cmpxchg(&load->error, 0, ret);
	kfree(c.buffer);
	return ret;
}

/* Whether @from starts where a record does, and ends where one does */
static bool is_whole(struct qvp_load *load, const struct iov_iter *from)
{
	struct iov_iter rest = *from;
	struct vfio_record rec;
	u64 payload;

	if (user_backed_iter(from) || READ_ONCE(load->cursor.got) ||
	    !test_bit(QVP_HEADER_LOADED, &load->loaded) || load->passes)
		return false;
	while (iov_iter_count(&rest)) {
		if (!copy_from_iter_full(&rec, sizeof(rec), &rest))
			return false;
		payload = qvp_record_payload(&rec);
		if (payload > iov_iter_count(&rest))
			return false;
		iov_iter_advance(&rest, payload);
		cond_resched();
	}
	return true;
}

static ssize_t write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct qvp_load *load = from_file(iocb->ki_filp);
	size_t count = iov_iter_count(from);
	int ret;

	if (qvp_session_over(&load->session))
		return -ENODEV;
	ret = READ_ONCE(load->error);
	if (ret || !count)
		return ret;

	qvp_session_touch(&load->session);
	if (is_whole(load, from))
		ret = write_records(load, from);
	else
		ret = write_bytes(load, from);
	count -= iov_iter_count(from);
	if (can_go_on(ret))
		return count ?: ret;
	return ret ?: count;
}

static void free_load(struct qvp_load *load)
{
	mutex_destroy(&load->cursor_lock);
	kvfree(load->taken);
	kfree(load->cursor.buffer);
	kfree(load);
}

static int release(struct inode *inode, struct file *filp)
{
	struct qvp_load *load = from_file(filp);

	qvp_session_release(&load->session);
	free_load(load);
	return 0;
}

static const struct file_operations fops = {
	.owner = THIS_MODULE,
	.write_iter = write_iter,
	.release = release,
};

/* What a failed load left behind and no reset could reach must go first. */
static int clear_leftovers(struct qvp_device *q)
{
	unsigned long pages = q->size / VFIO_RECORD_ALIGN;
	int ret = 0;

	down_write(&q->core.memory_lock);
	down_write(&q->chunk_lock);
	if (!qvp_reset_running(q))
		qvp_memory_wipe(q);
	if (!bitmap_empty(q->claimed, pages))
		ret = -EIO;
	up_write(&q->chunk_lock);
	up_write(&q->core.memory_lock);
	return ret;
}

/**
 * qvp_load_start - begin a session of loading
 * @q: the device, in STOP
 *
 * Return: the file to write to, or an error
 */
struct file *qvp_load_start(struct qvp_device *q)
{
	struct qvp_load *load;
	struct file *filp;
	int ret;

	ret = clear_leftovers(q);
	if (ret)
		return ERR_PTR(ret);
	load = kzalloc(sizeof(*load), GFP_KERNEL_ACCOUNT);
	if (!load)
		return ERR_PTR(-ENOMEM);
	mutex_init(&load->cursor_lock);
	load->cursor.buffer = kmalloc(VFIO_RECORD_MAX_META, GFP_KERNEL_ACCOUNT);
	load->taken = kvcalloc(BITS_TO_LONGS(q->size / VFIO_RECORD_ALIGN),
			       sizeof(long), GFP_KERNEL_ACCOUNT);
	if (load->cursor.buffer && load->taken)
		filp = qvp_session_begin(q, &load->session, &fops, O_WRONLY);
	else
		filp = ERR_PTR(-ENOMEM);
	if (IS_ERR(filp))
		free_load(load);
	return filp;
}

/**
 * qvp_load_finish - end a session of loading
 * @q: the device, in RESUMING
 *
 * Chunks are drained, then what was loaded is judged; the registers come last.
 * Of a failed load the claims stay, for a reset to wipe.
 *
 * Return: 0 if the device has the state that the stream brought, or an error
 */
int qvp_load_finish(struct qvp_device *q)
{
	struct qvp_load *load = container_of(q->session, struct qvp_load,
					     session);
	int ret = -EIO, err;

	lockdep_assert_held(&q->state_lock);
	down_write(&q->core.memory_lock);
	err = qvp_memory_enable(q);	/* waits for a reset to be over */
	down_write(&q->chunk_lock);
	if (!qvp_session_over(&load->session))
		ret = qvp_apply_complete(load);
	WRITE_ONCE(load->session.over, true);
	if (!ret)
		ret = err;
	if (!ret) {
		wmb();	/* the memory is written before the registers are */
		ret = q->backend->load(q, load->registers);
	}
	if (!ret)
		bitmap_zero(q->claimed, q->size / VFIO_RECORD_ALIGN);
	up_write(&q->chunk_lock);
	up_write(&q->core.memory_lock);
	return ret;
}

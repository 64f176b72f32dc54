// SPDX-License-Identifier: GPL-2.0-only
/*
 * Saving: what a reader of the data fd gets in PRE_COPY and STOP_COPY
 *
 * Any number of readers claim pages of the memory, one after another, and copy
 * them at the same time.  A kernel reader with room for a record gets whole
 * records and no part of one, copied from the BAR straight to where it wants
 * them.  Users do as well, one at a time.  What a reader has no room for, or a
 * user's memory does not take, waits in the carry, from which it can be taken
 * in pieces of any size.  Streams with passes, which have an order, have one reader
 * at a time.
 */

#include <linux/file.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "save.h"

static struct qvp_save *from_file(struct file *filp)
{
	return container_of(filp->private_data, struct qvp_save, session);
}

static ssize_t read_records(struct qvp_save *save, struct iov_iter *to)
{
	ssize_t done = 0, n;

	do {
		if (fatal_signal_pending(current))
			return done ?: -EINTR;
		n = qvp_compose_next(save, to);
		if (n <= 0)
			return done ?: n;
		done += n;
		cond_resched();
	} while (iov_iter_count(to) >= QVP_MIN_ROOM);
	return done;
}

/* Return: a record's bytes, all in the carry now, 0 at the end, or an error */
static ssize_t fill_carry(struct qvp_save *save,
			  ssize_t (*put)(struct qvp_save *save,
					 struct iov_iter *to))
{
	struct kvec vec = { .iov_base = save->carry, .iov_len = QVP_CARRY_SIZE };
	struct iov_iter to;
	ssize_t n;

	iov_iter_kvec(&to, ITER_DEST, &vec, 1, QVP_CARRY_SIZE);
	n = put(save, &to);
	if (n > 0) {
		save->carry_at = 0;
		WRITE_ONCE(save->carry_left, n);
	}
	return n;
}

/*
 * A user with room for a record gets it without the carry, unless the memory
 * goes between the two steps.  Return: bytes, 0 if there is no record or it is
 * all in the carry, or an error
 */
static ssize_t read_direct(struct qvp_save *save, struct iov_iter *to)
{
	size_t room = iov_iter_count(to), most = min(room, QVP_CARRY_SIZE);
	ssize_t n;

	if (fault_in_iov_iter_writeable(to, most) == most)
		return -EFAULT;
	n = qvp_compose_next(save, to);
	return n < 0 ? n : room - iov_iter_count(to);
}

/* Return: bytes taken from the carry, where there are some, or an error */
static ssize_t read_carry(struct qvp_save *save, struct iov_iter *to)
{
	size_t want = min(save->carry_left, iov_iter_count(to));
	size_t n;

	n = copy_to_iter(save->carry + save->carry_at, want, to);
	save->carry_at += n;
	WRITE_ONCE(save->carry_left, save->carry_left - n);
	return n ?: -EFAULT;
}

static bool is_at_header(struct qvp_save *save)
{
	return atomic64_read(&save->records) == 1;
}

/* Return: bytes, from the carry or on a way that may leave some there */
static ssize_t read_some(struct qvp_save *save, struct iov_iter *to)
{
	ssize_t n = 0;

	if (!save->carry_left && iov_iter_count(to) >= QVP_MIN_ROOM)
		n = read_direct(save, to);
	else if (!save->carry_left)
		n = min(fill_carry(save, qvp_compose_next), 0);
	if (n || !save->carry_left)
		return n;
	return read_carry(save, to);
}

/*
 * Gives bytes of records.  With @whole only what is in the carry already: the
 * caller gets the next record without it.  Others get whole records, too, if
 * they have room for one.
 */
static ssize_t read_bytes(struct qvp_save *save, struct iov_iter *to,
			  bool whole)
{
	ssize_t done = 0, n = 0;
	bool alone;

	if (mutex_lock_interruptible(&save->carry_lock))
		return -ERESTARTSYS;
	/* The header record has a read of its own. */
	alone = whole || (save->carry_left && is_at_header(save));
	while (iov_iter_count(to) && !signal_pending(current)) {
		if (done && iov_iter_count(to) < QVP_MIN_ROOM)
			alone = true;
		if (alone && !save->carry_left)
			break;
		n = read_some(save, to);
		if (n <= 0)
			break;
		done += n;
	}
	/* From here on a read may begin another pass. */
	if (!done && n == -ENOMSG)
		save->told = true;
	mutex_unlock(&save->carry_lock);
	if (!done && !n && signal_pending(current))
		return -ERESTARTSYS;
	return done ?: n;
}

static ssize_t read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct qvp_save *save = from_file(iocb->ki_filp);
	bool whole = !save->precopy && !user_backed_iter(to) &&
		     iov_iter_count(to) >= QVP_MIN_ROOM;
	ssize_t n;

	if (qvp_session_over(&save->session))
		return -ENODEV;
	if (!iov_iter_count(to))
		return 0;
	qvp_session_touch(&save->session);
	if (!whole || READ_ONCE(save->carry_left)) {
		n = read_bytes(save, to, whole);
		if (n || !whole)
			return n;
	}
	return read_records(save, to);
}

/* Where nothing is to be had but -ENOMSG, a read is not called for. */
static __poll_t poll(struct file *filp, poll_table *wait)
{
	struct qvp_save *save = from_file(filp);

	poll_wait(filp, &save->session.q->changed, wait);
	if (qvp_session_over(&save->session))
		return EPOLLIN | EPOLLRDNORM | EPOLLERR | EPOLLHUP;
	if (READ_ONCE(save->stopped) || READ_ONCE(save->carry_left) ||
	    qvp_pass_left(&save->pass) || qvp_pass_dirty(&save->pass))
		return EPOLLIN | EPOLLRDNORM;
	return 0;
}

/* What is in the first pass is initial, all else is what a user changed. */
static void fill_precopy_info(struct qvp_save *save,
			      struct vfio_precopy_info *info)
{
	u64 left = READ_ONCE(save->carry_left) + qvp_pass_left(&save->pass);

	info->initial_bytes = READ_ONCE(save->passes) ? 0 : left;
	info->dirty_bytes = READ_ONCE(save->passes) ? left : 0;
	info->dirty_bytes += qvp_pass_dirty(&save->pass);
}

static long ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	struct qvp_save *save = from_file(filp);
	struct vfio_precopy_info info = {};
	int ret;

	ret = qvp_check_precopy_ioctl(&save->session.q->core.vdev, cmd, arg,
				      &info);
	if (ret)
		return ret;
	if (qvp_session_over(&save->session))
		return -ENODEV;
	ret = qvp_migrate_in_precopy(&save->session);
	if (ret)
		return ret;
	fill_precopy_info(save, &info);
	if (copy_to_user((void __user *)arg, &info, QVP_PRECOPY_INFO_SIZE))
		return -EFAULT;
	return 0;
}

static void free_save(struct qvp_save *save)
{
	mutex_destroy(&save->carry_lock);
	qvp_pass_free(&save->pass);
	kvfree(save->carry);
	kfree(save);
}

static int release(struct inode *inode, struct file *filp)
{
	struct qvp_save *save = from_file(filp);

	qvp_session_release(&save->session);
	free_save(save);
	return 0;
}

static const struct file_operations fops = {
	.owner = THIS_MODULE,
	.read_iter = read_iter,
	.poll = poll,
	.unlocked_ioctl = ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = release,
};

static struct qvp_save *alloc_save(struct qvp_device *q, bool precopy)
{
	struct qvp_save *save;

	save = kzalloc(sizeof(*save), GFP_KERNEL_ACCOUNT);
	if (!save)
		return NULL;
	mutex_init(&save->carry_lock);
	save->session.q = q;
	save->precopy = precopy;
	save->carry = kvmalloc(QVP_CARRY_SIZE, GFP_KERNEL_ACCOUNT);
	if (!qvp_pass_init(&save->pass, q->size / VFIO_RECORD_ALIGN) &&
	    save->carry && fill_carry(save, qvp_compose_header) > 0)
		return save;
	free_save(save);
	return NULL;
}

static int start_tracking(struct qvp_device *q, struct qvp_save *save)
{
	int ret;

	down_write(&q->core.memory_lock);
	ret = qvp_memory_enable(q);
	if (!ret)
		qvp_pass_track(q, &save->pass);
	qvp_memory_restore(q);
	up_write(&q->core.memory_lock);
	return ret;
}

/**
 * qvp_save_start - begin a session of saving
 * @q: the device
 * @precopy: its user goes on writing to it until qvp_save_stop()
 *
 * Return: the file to read from, or an error
 */
struct file *qvp_save_start(struct qvp_device *q, bool precopy)
{
	struct qvp_save *save;
	struct file *filp;
	int ret;

	save = alloc_save(q, precopy);
	if (!save)
		return ERR_PTR(-ENOMEM);
	filp = qvp_session_begin(q, &save->session, &fops, O_RDONLY);
	if (IS_ERR(filp)) {
		free_save(save);
		return filp;
	}
	ret = precopy ? start_tracking(q, save) : qvp_save_stop(q);
	if (ret) {
		qvp_session_end(q);
		fput(filp);
		return ERR_PTR(ret);
	}
	return filp;
}

/**
 * qvp_save_stop - keep the device as it is until the session ends
 * @q: the device, with a session of saving
 *
 * From here on it does not change, and its registers are known.  What the last
 * pass has still to bring becomes part of the next one, which is the last.
 *
 * Return: 0 or an error, and then nothing has changed
 */
int qvp_save_stop(struct qvp_device *q)
{
	struct qvp_save *save = container_of(q->session, struct qvp_save,
					     session);
	int ret;

	ret = down_write_killable(&q->write_gate);
	if (ret)
		return ret;
	down_write(&q->core.memory_lock);
	ret = qvp_memory_enable(q);
	if (!ret) {
		qvp_access_freeze(q);
		/* To read a register may change it, which a reset is not to see. */
		down_read(&q->chunk_lock);
		if (!qvp_session_over(&save->session))
			q->backend->save(q, save->registers);
		up_read(&q->chunk_lock);
		if (save->precopy)
			qvp_pass_next(q, &save->pass);
		qvp_pass_track(q, NULL);
		save->pass_due = save->precopy;
		WRITE_ONCE(save->stopped, true);
	}
	up_write(&q->core.memory_lock);
	up_write(&q->write_gate);
	wake_up_interruptible(&q->changed);
	return ret;
}

/**
 * qvp_save_size - tell how long a stream can be that stops the device
 * @q: the device
 *
 * Return: its size in bytes, or what of it is left, if no page of memory is zero
 * and each has a record
 */
u64 qvp_save_size(struct qvp_device *q)
{
	u64 bytes = q->size;
	u64 records = 4;	/* header, pass, registers, end */

	if (q->tracked)
		bytes = qvp_pass_left(q->tracked) + qvp_pass_dirty(q->tracked);
	records += bytes / VFIO_RECORD_ALIGN;
	return bytes + records * sizeof(struct vfio_record) +
	       QVP_RECORD_HEADER_SIZE + 2 * sizeof(struct vfio_record_totals) +
	       q->backend->registers * sizeof(struct vfio_record_register);
}

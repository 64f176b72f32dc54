// SPDX-License-Identifier: GPL-2.0-only
/*
 * Saving: what a reader of the data fd gets in STOP_COPY
 *
 * Any number of readers claim ranges of the memory, one after another, and copy
 * them at the same time.  A kernel reader with room for a record gets whole
 * records and no part of one, copied from the BAR straight to where it wants
 * them.  Users do as well, one at a time.  What a reader has no room for, or a
 * user's memory does not take, waits in the carry, from which it can be taken
 * in pieces of any size.
 */

#include <linux/file.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

#include "qvp.h"

#define MAX_CHUNK	SZ_256K		/* of memory, in a record */
#define CARRY_SIZE	(MAX_CHUNK + VFIO_RECORD_ALIGN)

/* Room that is enough for any record */
#define MIN_ROOM	(sizeof(struct vfio_record) + VFIO_RECORD_ALIGN)
static_assert(QVP_RECORD_HEADER_SIZE <= VFIO_RECORD_ALIGN);
static_assert(QVP_MAX_REGISTERS * sizeof(struct vfio_record_register) <=
	      VFIO_RECORD_ALIGN);

enum {
	REGISTERS_TAKEN,
	END_TAKEN,
};

/**
 * struct qvp_save - a session of saving
 * @session: what it has in common with others
 * @taken: records that a reader has, or is about to have
 * @next: first byte of the memory that no reader has claimed
 * @bytes: of the records that were made; memory_lock held for writing stops it
 * @records: number of these
 * @registers: values of the registers
 * @carry_lock: see below
 * @carry: bytes of a record that did not go to a reader at once
 * @carry_at: first byte in @carry that a reader is still to get
 * @carry_left: number of bytes in @carry from there
 */
struct qvp_save {
	struct qvp_session session;
	unsigned long taken;
	atomic64_t next;
	atomic64_t bytes;
	atomic64_t records;
	u32 registers[QVP_MAX_REGISTERS];
	/* Protects the carry; a reader's memory may fault under it */
	struct mutex carry_lock;
	u8 *carry;
	size_t carry_at;
	size_t carry_left;
};

static struct qvp_save *from_file(struct file *filp)
{
	return container_of(filp->private_data, struct qvp_save, session);
}

/* Keeps a record of which a user's memory has taken @done bytes only. */
static void keep_rest(struct qvp_save *save, const struct vfio_record *rec,
		      const void *payload, size_t done)
{
	size_t len = qvp_record_payload(rec);

	lockdep_assert_held(&save->carry_lock);
	memcpy(save->carry, rec, sizeof(*rec));
	memcpy(save->carry + sizeof(*rec), payload, len);
	save->carry_at = done;
	WRITE_ONCE(save->carry_left, sizeof(*rec) + len - done);
}

/*
 * Locks are held here under which a user's memory must not fault, so it does
 * not: what it does not take goes to the carry.  Return: the record's bytes,
 * which @to has room for
 */
static ssize_t put_record(struct qvp_save *save, struct vfio_record *rec,
			  const void *payload, struct iov_iter *to)
{
	size_t len = qvp_record_payload(rec);
	size_t done;

	rec->digest = cpu_to_le64(qvp_record_digest(rec, payload));
	pagefault_disable();
	done = copy_to_iter(rec, sizeof(*rec), to);
	if (done == sizeof(*rec))
		done += copy_to_iter(payload, len, to);
	pagefault_enable();
	if (done < sizeof(*rec) + len)
		keep_rest(save, rec, payload, done);
	atomic64_add(sizeof(*rec) + len, &save->bytes);
	atomic64_inc(&save->records);
	return sizeof(*rec) + len;
}

static ssize_t put_header(struct qvp_save *save, struct iov_iter *to)
{
	DEFINE_RAW_FLEX(struct vfio_record_header, header, region, 1);
	struct vfio_record rec = {
		.tag = cpu_to_le32(VFIO_RECORD_MAGIC),
		.flags = cpu_to_le32(VFIO_RECORD_ORDER_FREE),
		.length = cpu_to_le64(QVP_RECORD_HEADER_SIZE),
	};

	qvp_record_header(save->session.q, header);
	return put_record(save, &rec, header, to);
}

static ssize_t put_registers(struct qvp_save *save, struct iov_iter *to)
{
	struct vfio_record_register entry[QVP_MAX_REGISTERS];
	unsigned int i, n = save->session.q->backend->registers;
	struct vfio_record rec = {
		.tag = cpu_to_le32(VFIO_RECORD_REGISTERS),
		.length = cpu_to_le64(n * sizeof(entry[0])),
	};

	for (i = 0; i < n; i++) {
		entry[i].id = cpu_to_le32(i);
		entry[i].value = cpu_to_le32(save->registers[i]);
	}
	return put_record(save, &rec, entry, to);
}

static ssize_t put_memory(struct qvp_save *save, struct iov_iter *to)
{
	struct qvp_device *q = save->session.q;
	size_t room = iov_iter_count(to) - sizeof(struct vfio_record);
	u64 len = round_down(min(room, MAX_CHUNK), VFIO_RECORD_ALIGN);
	u64 offset = atomic64_fetch_add(len, &save->next);
	struct vfio_record rec = {
		.region = cpu_to_le32(q->backend->memory_bar),
		.offset = cpu_to_le64(offset),
	};

	if (offset >= q->size)
		return 0;
	len = min(len, q->size - offset);
	rec.length = cpu_to_le64(len);
	/* This looks no further than at the first word that is not zero. */
	if (memchr_inv(q->memory + offset, 0, len))
		rec.tag = cpu_to_le32(VFIO_RECORD_MEMORY);
	else
		rec.tag = cpu_to_le32(VFIO_RECORD_ZERO);
	return put_record(save, &rec, q->memory + offset, to);
}

/*
 * The end has the totals, so all other records must have been made.  They are
 * made within chunks: without any under way, and nothing left to claim, they
 * have.
 */
static ssize_t put_end(struct qvp_save *save, struct iov_iter *to)
{
	struct rw_semaphore *memory_lock = &save->session.q->core.memory_lock;
	struct vfio_record_end end;
	struct vfio_record rec = {
		.tag = cpu_to_le32(VFIO_RECORD_END),
		.length = cpu_to_le64(sizeof(end)),
	};
	ssize_t ret = 0;

	down_write(memory_lock);
	if (qvp_session_over(&save->session)) {
		ret = -ENODEV;
	} else if (qvp_memory_enable(save->session.q)) {
		ret = -EIO;	/* all that was read may be nothing */
	} else if (!test_and_set_bit(END_TAKEN, &save->taken)) {
		end.bytes = cpu_to_le64(atomic64_read(&save->bytes) +
					sizeof(rec) + sizeof(end));
		end.records = cpu_to_le64(atomic64_read(&save->records) + 1);
		ret = put_record(save, &rec, &end, to);
	}
	up_write(memory_lock);
	return ret;
}

/*
 * Makes the next record, whatever it is, for a kernel reader with room for it.
 * Return: its size, 0 at the end of the stream, or an error
 */
static ssize_t put_next(struct qvp_save *save, struct iov_iter *to)
{
	ssize_t ret;

	ret = qvp_memory_begin(&save->session);
	if (ret)
		return ret;
	if (!test_and_set_bit(REGISTERS_TAKEN, &save->taken))
		ret = put_registers(save, to);
	else if (!test_bit(END_TAKEN, &save->taken))
		ret = put_memory(save, to);
	qvp_memory_end(&save->session);
	if (!ret && !test_bit(END_TAKEN, &save->taken))
		ret = put_end(save, to);
	return ret;
}

static ssize_t read_records(struct qvp_save *save, struct iov_iter *to)
{
	ssize_t done = 0, n;

	do {
		if (fatal_signal_pending(current))
			return done ?: -EINTR;
		n = put_next(save, to);
		if (n <= 0)
			return done ?: n;
		done += n;
		cond_resched();
	} while (iov_iter_count(to) >= MIN_ROOM);
	return done;
}

/* Return: a record's bytes, all in the carry now, 0 at the end, or an error */
static ssize_t fill_carry(struct qvp_save *save,
			  ssize_t (*put)(struct qvp_save *save,
					 struct iov_iter *to))
{
	struct kvec vec = { .iov_base = save->carry, .iov_len = CARRY_SIZE };
	struct iov_iter to;
	ssize_t n;

	iov_iter_kvec(&to, ITER_DEST, &vec, 1, CARRY_SIZE);
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
	size_t room = iov_iter_count(to), most = min(room, CARRY_SIZE);
	ssize_t n;

	if (fault_in_iov_iter_writeable(to, most) == most)
		return -EFAULT;
	n = put_next(save, to);
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

	if (!save->carry_left && iov_iter_count(to) >= MIN_ROOM)
		n = read_direct(save, to);
	else if (!save->carry_left)
		n = min(fill_carry(save, put_next), 0);
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
		if (done && iov_iter_count(to) < MIN_ROOM)
			alone = true;
		if (alone && !save->carry_left)
			break;
		n = read_some(save, to);
		if (n <= 0)
			break;
		done += n;
	}
	mutex_unlock(&save->carry_lock);
	if (!done && !n && signal_pending(current))
		return -ERESTARTSYS;
	return done ?: n;
}

static ssize_t read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct qvp_save *save = from_file(iocb->ki_filp);
	bool whole = !user_backed_iter(to) && iov_iter_count(to) >= MIN_ROOM;
	ssize_t n;

	if (qvp_session_over(&save->session))
		return -ENODEV;
	if (!iov_iter_count(to))
		return 0;
	if (!whole || READ_ONCE(save->carry_left)) {
		n = read_bytes(save, to, whole);
		if (n || !whole)
			return n;
	}
	return read_records(save, to);
}

static void free_save(struct qvp_save *save)
{
	mutex_destroy(&save->carry_lock);
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
	.release = release,
};

static struct qvp_save *alloc_save(struct qvp_device *q)
{
	struct qvp_save *save;

	save = kzalloc(sizeof(*save), GFP_KERNEL_ACCOUNT);
	if (!save)
		return NULL;
	mutex_init(&save->carry_lock);
	save->session.q = q;
	save->carry = kvmalloc(CARRY_SIZE, GFP_KERNEL_ACCOUNT);
	if (save->carry && fill_carry(save, put_header) > 0)
		return save;
	free_save(save);
	return NULL;
}

/* From here on the device does not change, and its registers are known. */
static int freeze(struct qvp_device *q, u32 *registers)
{
	int ret;

	ret = down_write_killable(&q->write_gate);
	if (ret)
		return ret;
	down_write(&q->core.memory_lock);
	ret = qvp_memory_enable(q);
	if (!ret) {
		qvp_access_freeze(q);
		q->backend->save(q, registers);
	}
	up_write(&q->core.memory_lock);
	up_write(&q->write_gate);
	return ret;
}

/**
 * qvp_save_start - begin a session of saving
 * @q: the device, in STOP
 *
 * Return: the file to read from, or an error
 */
struct file *qvp_save_start(struct qvp_device *q)
{
	struct qvp_save *save;
	struct file *filp;
	int ret;

	save = alloc_save(q);
	if (!save)
		return ERR_PTR(-ENOMEM);
	filp = qvp_session_begin(q, &save->session, &fops, O_RDONLY);
	if (IS_ERR(filp)) {
		free_save(save);
		return filp;
	}
	ret = freeze(q, save->registers);
	if (ret) {
		qvp_session_end(q);
		fput(filp);
		return ERR_PTR(ret);
	}
	return filp;
}

/**
 * qvp_save_size - tell how long a stream can be
 * @q: the device
 *
 * Return: its size in bytes if no page of memory is zero, and each has a record
 */
u64 qvp_save_size(struct qvp_device *q)
{
	u64 pages = q->size / VFIO_RECORD_ALIGN;
	u64 records = 3 + pages;	/* header, registers, end */

	return q->size + records * sizeof(struct vfio_record) +
	       QVP_RECORD_HEADER_SIZE + sizeof(struct vfio_record_end) +
	       q->backend->registers * sizeof(struct vfio_record_register);
}

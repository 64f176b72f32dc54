// SPDX-License-Identifier: GPL-2.0-only
/*
 * The records that a reader gets
 *
 * Those of memory and registers may be made by many at a time.  A record with
 * totals comes where one pass ends, or the stream, and is made alone.
 */

#include <linux/uaccess.h>

#include "save.h"
#include "trace.h"

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

/**
 * qvp_compose_header - make the header record
 * @save: the session
 * @to: room for it
 *
 * Return: its size
 */
ssize_t qvp_compose_header(struct qvp_save *save, struct iov_iter *to)
{
	DEFINE_RAW_FLEX(struct vfio_record_header, header, region, 1);
	struct vfio_record rec = {
		.tag = cpu_to_le32(VFIO_RECORD_MAGIC),
		.flags = cpu_to_le32(save->precopy ? 0 : VFIO_RECORD_ORDER_FREE),
		.length = cpu_to_le64(QVP_RECORD_HEADER_SIZE),
	};

	qvp_record_header(save->session.q, header);
	if (save->precopy)
		header->features = cpu_to_le32(VFIO_RECORD_PASSES);
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

/*
 * This looks no further than at the first words that are not zero, and takes a third
 * of the instructions that memchr_inv() does.
 */
static bool is_zero(const struct qvp_device *q, unsigned long page,
		    unsigned long pages)
{
	const u64 *at = q->memory + (u64)page * VFIO_RECORD_ALIGN;
	const u64 *end = at + (u64)pages * VFIO_RECORD_ALIGN / sizeof(*at);

	for (; at < end; at += 8)
		if (at[0] | at[1] | at[2] | at[3] |
		    at[4] | at[5] | at[6] | at[7])
			return false;
	return true;
}

/*
 * How far it is from @page on to where a record ends that is of zeros only, or of
 * memory without QVP_MIN_ZEROS pages of zeros in a row
 */
static unsigned long find_end(const struct qvp_device *q, unsigned long page,
			      unsigned long end, bool *zero)
{
	unsigned long at = page, zeros = 0;

	while (at < end && is_zero(q, at, 1))
		at++;
	*zero = at == end || at - page >= QVP_MIN_ZEROS;
	if (*zero)
		return at;
	/* In PRE_COPY a look at @at might find something else now. */
	for (at++; at < end && zeros < QVP_MIN_ZEROS; at++)
		zeros = is_zero(q, at, 1) ? zeros + 1 : 0;
	return zeros < QVP_MIN_ZEROS ? end : at - zeros;
}

static ssize_t put_pages(struct qvp_save *save, unsigned long page,
			 unsigned long end, bool zero, struct iov_iter *to)
{
	struct qvp_device *q = save->session.q;
	u64 offset = (u64)page * VFIO_RECORD_ALIGN;
	struct vfio_record rec = {
		.tag = cpu_to_le32(zero ? VFIO_RECORD_ZERO : VFIO_RECORD_MEMORY),
		.region = cpu_to_le32(q->backend->memory_bar),
		.offset = cpu_to_le64(offset),
		.length = cpu_to_le64((u64)(end - page) * VFIO_RECORD_ALIGN),
	};

	return put_record(save, &rec, q->memory + offset, to);
}

/* Whether the pages from @page to @end have room in two records */
static bool can_split(unsigned long page, unsigned long end,
		      const struct iov_iter *to)
{
	return iov_iter_count(to) >= 2 * sizeof(struct vfio_record) +
				     (u64)(end - page) * VFIO_RECORD_ALIGN;
}

/*
 * A user's memory may not take a record, which the carry then has to: there is
 * one.  In the kernel's there are as many as it takes to leave zeros out.  What was
 * zero need not be so any more when the next record begins, if the device runs:
 * there must be room for all that is not written yet.
 */
static ssize_t put_memory(struct qvp_save *save, struct iov_iter *to)
{
	size_t room = iov_iter_count(to) - sizeof(struct vfio_record);
	struct qvp_device *q = save->session.q;
	bool one = user_backed_iter(to), zero;
	unsigned long page, end, stop;
	ssize_t done = 0;

	room = min(room, one ? QVP_MAX_USER : QVP_MAX_CHUNK);
	end = qvp_pass_claim(&save->pass, room / VFIO_RECORD_ALIGN, &page);
	if (!end)
		return 0;
	for (end += page; page < end; page = stop) {
		stop = end;
		if (one)
			zero = is_zero(q, page, end - page);
		else
			stop = find_end(q, page, end, &zero);
		if (!zero && !can_split(page, end, to))
			stop = end;
		done += put_pages(save, page, stop, zero, to);
	}
	return done;
}

static ssize_t put_totals(struct qvp_save *save, u32 tag, struct iov_iter *to)
{
	struct vfio_record_totals totals;
	struct vfio_record rec = {
		.tag = cpu_to_le32(tag),
		.length = cpu_to_le64(sizeof(totals)),
	};

	totals.bytes = cpu_to_le64(atomic64_read(&save->bytes) + sizeof(rec) +
				   sizeof(totals));
	totals.records = cpu_to_le64(atomic64_read(&save->records) + 1);
	return put_record(save, &rec, &totals, to);
}

static ssize_t put_end(struct qvp_save *save, struct iov_iter *to)
{
	ssize_t ret = put_totals(save, VFIO_RECORD_END, to);

	trace_qvp_last_byte(&save->session, atomic64_read(&save->bytes),
			    atomic64_read(&save->records));
	return ret;
}

/*
 * The pass is through.  Return: the size of the record that comes then, -ENOMSG
 * for none, 0 if another reader was faster
 */
static ssize_t put_next_pass(struct qvp_save *save, struct iov_iter *to)
{
	struct qvp_device *q = save->session.q;

	if (save->stopped) {
		/* who came here before the stop has still to bring those */
		if (!test_bit(QVP_REGISTERS_TAKEN, &save->taken) ||
		    test_and_set_bit(QVP_END_TAKEN, &save->taken))
			return 0;
		return put_end(save, to);
	}
	if (!save->told || !qvp_pass_next(q, &save->pass))
		return -ENOMSG;
	save->told = false;
	WRITE_ONCE(save->passes, save->passes + 1);
	return put_totals(save, VFIO_RECORD_PASS, to);
}

/*
 * What has totals comes when all records before have been made.  They are made
 * within chunks: without any under way, and nothing left to claim, they have.
 */
static ssize_t put_boundary(struct qvp_save *save, struct iov_iter *to)
{
	struct rw_semaphore *memory_lock = &save->session.q->core.memory_lock;
	ssize_t ret = 0;

	down_write(memory_lock);
	if (qvp_session_over(&save->session)) {
		ret = -ENODEV;
	} else if (qvp_memory_enable(save->session.q)) {
		ret = -EIO;	/* all that was read may be nothing */
	} else if (save->pass_due) {
		save->pass_due = false;
		ret = put_totals(save, VFIO_RECORD_PASS, to);
	} else if (!qvp_pass_left(&save->pass)) {
		ret = put_next_pass(save, to);
	}
	if (!save->stopped)
		qvp_memory_restore(save->session.q);
	up_write(memory_lock);
	return ret;
}

/* Nothing more until the user changes something, or the reader comes again */
static bool is_idle(struct qvp_save *save)
{
	return !READ_ONCE(save->stopped) &&
	       (!save->told || !qvp_pass_dirty(&save->pass));
}

/* A record that may be made beside others.  Return: its size, or 0 for none */
static ssize_t put_some(struct qvp_save *save, struct iov_iter *to)
{
	if (save->pass_due)
		return 0;
	if (save->stopped && !test_and_set_bit(QVP_REGISTERS_TAKEN, &save->taken))
		return put_registers(save, to);
	return put_memory(save, to);
}

/**
 * qvp_compose_next - make the next record, whatever it is
 * @save: the session
 * @to: room for it, QVP_MIN_ROOM or more
 *
 * What memory of a user does not take goes to the carry, whose lock such a
 * reader holds.
 *
 * Return: its size, 0 at the end of the stream, -ENOMSG at that of a pass, or
 * an error
 */
ssize_t qvp_compose_next(struct qvp_save *save, struct iov_iter *to)
{
	ssize_t ret = 0;

	while (!ret && !test_bit(QVP_END_TAKEN, &save->taken)) {
		ret = qvp_memory_begin(&save->session);
		if (ret)
			break;
		ret = put_some(save, to);
		qvp_memory_end(&save->session);
		if (!READ_ONCE(save->stopped))
			qvp_memory_release(&save->session);
		if (!ret)
			ret = is_idle(save) ? -ENOMSG : put_boundary(save, to);
	}
	return ret;
}

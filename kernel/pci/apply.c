// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a record does to a device that is being loaded
 *
 * Memory goes to the BAR as it comes, after its record has claimed the pages;
 * registers are kept until all is known to be good.  Any number of records are
 * applied at the same time.  Nothing is before the header record was.
 */

#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "load.h"
#include "trace.h"

#define MAX_CHUNK	SZ_1M		/* bytes */
#define MAX_CLAIM	SZ_16K		/* pages */

static bool is_memory(const struct vfio_record *rec)
{
	return rec->tag == cpu_to_le32(VFIO_RECORD_MEMORY) ||
	       rec->tag == cpu_to_le32(VFIO_RECORD_ZERO);
}

/* A stream has one first mistake, and an unprivileged user many streams. */
static __printf(3, 4) int fail(struct qvp_load *load, int err,
			       const char *fmt, ...)
{
	struct va_format vaf = { .fmt = fmt };
	va_list args;

	if (qvp_session_over(&load->session))
		return -ENODEV;
	if (cmpxchg(&load->error, 0, err) ||
	    !__ratelimit(&load->session.q->load_errors))
		return err;
	va_start(args, fmt);
	vaf.va = &args;
	pci_err(load->session.q->core.pdev, "load: record %llu: %pV\n",
		atomic64_read(&load->records) + 1, &vaf);
	va_end(args);
	return err;
}

/* What holds for every record; nothing is believed before its digest fits. */
static int check_common(struct qvp_load *load, const struct vfio_record *rec,
			const void *payload)
{
	u64 digest = qvp_record_digest(rec, payload);
	u32 flags = le32_to_cpu(rec->flags);
	u32 known = VFIO_RECORD_OPTIONAL;

	if (le64_to_cpu(rec->digest) != digest)
		return fail(load, -EINVAL, "digest is %#llx and should be %#llx",
			    le64_to_cpu(rec->digest), digest);
	if (rec->tag == cpu_to_le32(VFIO_RECORD_MAGIC))
		known |= VFIO_RECORD_ORDER_FREE;
	if (flags & ~known)
		return fail(load, -EOPNOTSUPP, "flags %#x, %#x are known",
			    flags, known);
	if (rec->reserved)
		return fail(load, -EINVAL, "reserved field is %#x instead of 0",
			    le32_to_cpu(rec->reserved));
	return 0;
}

static int check_range(struct qvp_load *load, const struct vfio_record *rec)
{
	struct qvp_device *q = load->session.q;
	u64 offset = le64_to_cpu(rec->offset);
	u64 len = le64_to_cpu(rec->length);

	if (le32_to_cpu(rec->region) != q->backend->memory_bar)
		return fail(load, -EINVAL, "region %u instead of %u",
			    le32_to_cpu(rec->region), q->backend->memory_bar);
	if (!len || !IS_ALIGNED(offset | len, VFIO_RECORD_ALIGN))
		return fail(load, -EINVAL,
			    "offset %#llx length %#llx is not a multiple of %u",
			    offset, len, VFIO_RECORD_ALIGN);
	if (offset > q->size || len > q->size - offset)
		return fail(load, -EINVAL,
			    "offset %#llx length %#llx is beyond size %#llx",
			    offset, len, q->size);
	return 0;
}

/* What must be known before the payload comes */
static int check_record(struct qvp_load *load, const struct vfio_record *rec)
{
	bool started = test_bit(QVP_HEADER_LOADED, &load->loaded);
	u64 payload = qvp_record_payload(rec);
	u32 tag = le32_to_cpu(rec->tag);
	bool is_header = tag == VFIO_RECORD_MAGIC;

	if (started == is_header)
		return fail(load, -EINVAL, "%s header record (tag %#x)",
			    started ? "second" : "no", tag);
	if (is_memory(rec))
		return check_common(load, rec, NULL) ?: check_range(load, rec);
	if (payload > VFIO_RECORD_MAX_META)
		return fail(load, -EINVAL,
			    "payload of %llu bytes, at most %u are allowed",
			    payload, VFIO_RECORD_MAX_META);
	return 0;
}

static int check_field(struct qvp_load *load, const char *name, u64 value,
		       u64 want)
{
	if (value == want)
		return 0;
	return fail(load, -EINVAL, "header: %s is %#llx, must be %#llx", name,
		    value, want);
}

/* Whether the stream is one of a device like this */
static int check_identity(struct qvp_load *load,
			  const struct vfio_record_header *h)
{
	DEFINE_RAW_FLEX(struct vfio_record_header, want, region, 1);
	const struct vfio_record_region *got_region = &h->region[0];
	const struct vfio_record_region *want_region = &want->region[0];

	qvp_record_header(load->session.q, want);
	return check_field(load, "vendor", le16_to_cpu(h->vendor),
			   le16_to_cpu(want->vendor)) ?:
	       check_field(load, "device", le16_to_cpu(h->device),
			   le16_to_cpu(want->device)) ?:
	       check_field(load, "class", le32_to_cpu(h->class),
			   le32_to_cpu(want->class)) ?:
	       check_field(load, "revision", le32_to_cpu(h->revision),
			   le32_to_cpu(want->revision)) ?:
	       check_field(load, "registers", le32_to_cpu(h->registers),
			   le32_to_cpu(want->registers)) ?:
	       check_field(load, "region", le32_to_cpu(got_region->index),
			   le32_to_cpu(want_region->index)) ?:
	       check_field(load, "size", le64_to_cpu(got_region->size),
			   le64_to_cpu(want_region->size));
}

static int load_header(struct qvp_load *load, u32 flags,
		       const struct vfio_record_header *h, u64 len)
{
	u32 features;
	int ret;

	if (len < sizeof(*h))
		return fail(load, -EINVAL, "header of %llu bytes, not %zu",
			    len, QVP_RECORD_HEADER_SIZE);
	features = le32_to_cpu(h->features);
	if (le32_to_cpu(h->version) != VFIO_RECORD_VERSION ||
	    features & ~VFIO_RECORD_PASSES)
		return fail(load, -EOPNOTSUPP,
			    "header: version %u with features %#x, %u with %#lx is known",
			    le32_to_cpu(h->version), features,
			    VFIO_RECORD_VERSION, VFIO_RECORD_PASSES);
	if (features & VFIO_RECORD_PASSES && flags & VFIO_RECORD_ORDER_FREE)
		return fail(load, -EINVAL,
			    "header: passes have an order, flags %#x say none",
			    flags);
	ret = check_field(load, "reserved", le32_to_cpu(h->reserved), 0) ?:
	      check_field(load, "regions", le32_to_cpu(h->regions), 1) ?:
	      check_field(load, "length", len, QVP_RECORD_HEADER_SIZE) ?:
	      check_field(load, "region reserved",
			  le32_to_cpu(h->region[0].reserved), 0) ?:
	      check_identity(load, h);
	if (ret)
		return ret;
	load->passes = features & VFIO_RECORD_PASSES;
	set_bit(QVP_HEADER_LOADED, &load->loaded);
	return 0;
}

static int load_registers(struct qvp_load *load,
			  const struct vfio_record_register *entry, u64 len)
{
	unsigned int limit = load->session.q->backend->registers;
	u64 i;

	if (len % sizeof(*entry))
		return fail(load, -EINVAL,
			    "registers of %llu bytes, not a multiple of %zu",
			    len, sizeof(*entry));
	for (i = 0; i < len / sizeof(*entry); i++) {
		u32 id = le32_to_cpu(entry[i].id);

		if (id >= limit)
			return fail(load, -EINVAL,
				    "register %u, there are %u", id, limit);
		if (test_and_set_bit(id, load->seen))
			return fail(load, -EINVAL,
				    "register %u for a second time", id);
		load->registers[id] = le32_to_cpu(entry[i].value);
	}
	return 0;
}

static int check_totals(struct qvp_load *load, const char *name, u64 bytes,
			u64 records, const struct vfio_record_totals *want)
{
	if (bytes == le64_to_cpu(want->bytes) &&
	    records == le64_to_cpu(want->records))
		return 0;
	return fail(load, -EINVAL,
		    "%llu bytes in %llu records, the %s said %llu in %llu",
		    bytes, records, name, le64_to_cpu(want->bytes),
		    le64_to_cpu(want->records));
}

/*
 * What comes now may come for a second time.  Nothing from before may come any
 * more, so all of it must be there.
 */
static int load_pass(struct qvp_load *load,
		     const struct vfio_record_totals *pass, u64 len)
{
	u64 bytes = atomic64_read(&load->bytes) + sizeof(struct vfio_record);
	u64 records = atomic64_read(&load->records) + 1;
	int ret;

	if (!load->passes)
		return fail(load, -EINVAL, "pass record, the header has none");
	if (len != sizeof(*pass))
		return fail(load, -EINVAL, "pass of %llu bytes, not %zu", len,
			    sizeof(*pass));
	ret = check_totals(load, "pass", bytes + len, records, pass);
	if (!ret)
		bitmap_zero(load->taken,
			    load->session.q->size / VFIO_RECORD_ALIGN);
	return ret;
}

static int load_end(struct qvp_load *load, const struct vfio_record_totals *end,
		    u64 len)
{
	if (len != sizeof(*end))
		return fail(load, -EINVAL, "end of %llu bytes, not %zu", len,
			    sizeof(*end));
	if (test_and_set_bit(QVP_END_LOADED, &load->loaded))
		return fail(load, -EINVAL, "second end record");
	load->end.records = end->records;
	/* whoever adds what is missing looks at this without a lock */
	WRITE_ONCE(load->end.bytes, end->bytes);
	return 0;
}

static int dispatch_meta(struct qvp_load *load, const struct vfio_record *rec,
			 const void *payload)
{
	u32 tag = le32_to_cpu(rec->tag), flags = le32_to_cpu(rec->flags);
	u64 len = le64_to_cpu(rec->length);
	bool is_known = tag == VFIO_RECORD_MAGIC ||
			tag == VFIO_RECORD_REGISTERS ||
			tag == VFIO_RECORD_END || tag == VFIO_RECORD_PASS;

	if (!is_known)
		return flags & VFIO_RECORD_OPTIONAL ? 0 :
		       fail(load, -EOPNOTSUPP, "unknown tag %#x", tag);
	if (rec->region || rec->offset)
		return fail(load, -EINVAL,
			    "tag %#x has region %u offset %#llx instead of 0",
			    tag, le32_to_cpu(rec->region),
			    le64_to_cpu(rec->offset));
	if (tag == VFIO_RECORD_MAGIC)
		return load_header(load, flags, payload, len);
	if (tag == VFIO_RECORD_REGISTERS)
		return load_registers(load, payload, len);
	if (tag == VFIO_RECORD_PASS)
		return load_pass(load, payload, len);
	return load_end(load, payload, len);
}

/* Loads a record that is neither memory nor zeros. */
static int load_meta(struct qvp_load *load, const struct vfio_record *rec,
		     const void *payload)
{
	int ret;

	ret = check_common(load, rec, payload);
	if (ret)
		return ret;
	/* The end of the session finds it loaded or not, nothing between. */
	ret = qvp_memory_begin(&load->session);
	if (ret)
		return ret;
	ret = dispatch_meta(load, rec, payload);
	qvp_memory_end(&load->session);
	return ret;
}

/* No page comes twice in a pass, and what is claimed can be wiped. */
static int claim(struct qvp_load *load, const struct vfio_record *rec)
{
	u64 page = le64_to_cpu(rec->offset) / VFIO_RECORD_ALIGN;
	u64 end = page + le64_to_cpu(rec->length) / VFIO_RECORD_ALIGN;
	struct qvp_device *q = load->session.q;
	int ret = 0;

	while (page < end && !ret) {
		u64 stop = min(end, page + MAX_CLAIM), bytes = 0;

		ret = qvp_memory_begin(&load->session);
		if (ret)
			return ret;
		for (; page < stop && !ret; page++) {
			if (test_and_set_bit(page, load->taken))
				ret = fail(load, -EINVAL,
					   "offset %#llx for a second time",
					   page * VFIO_RECORD_ALIGN);
			else if (!test_and_set_bit(page, q->claimed))
				bytes += VFIO_RECORD_ALIGN;
		}
		atomic64_add(bytes, &load->memory);
		qvp_memory_end(&load->session);
		cond_resched();
	}
	return ret;
}

/**
 * qvp_apply_killed - fail a load whose writer is killed
 * @load: the session
 *
 * Return: 0 or an error
 */
int qvp_apply_killed(struct qvp_load *load)
{
	if (fatal_signal_pending(current))
		return fail(load, -EIO, "killed while at it");
	return 0;
}

static int load_zero(struct qvp_load *load, const struct vfio_record *rec)
{
	u64 offset = le64_to_cpu(rec->offset);
	u64 left = le64_to_cpu(rec->length);
	int ret;

	while (left) {
		u64 n = min(left, MAX_CHUNK);

		ret = qvp_apply_killed(load) ?:
		      qvp_memory_begin(&load->session);
		if (ret)
			return ret;
		qvp_memory_zero(load->session.q, offset, n);
		qvp_memory_end(&load->session);
		offset += n;
		left -= n;
	}
	return 0;
}

/**
 * qvp_apply_memory - load some of a memory record
 * @load: the session
 * @c: the cursor, in that record
 * @from: at least a byte of it
 *
 * Return: 0 or an error
 */
int qvp_apply_memory(struct qvp_load *load, struct qvp_cursor *c,
		     struct iov_iter *from)
{
	u64 done = c->got - sizeof(c->record);
	u64 left = le64_to_cpu(c->record.length) - done;
	size_t n = min3(left, (u64)MAX_CHUNK, (u64)iov_iter_count(from));
	u8 *to = load->session.q->memory + le64_to_cpu(c->record.offset) + done;
	int ret;

	/* A user's memory that goes again meanwhile is asked for once more. */
	if (fault_in_iov_iter_readable(from, n) == n)
		return -EFAULT;
	ret = qvp_memory_begin(&load->session);
	if (ret)
		return ret;
	pagefault_disable();
	n = copy_from_iter(to, n, from);
	pagefault_enable();
	qvp_memory_end(&load->session);
	WRITE_ONCE(c->got, c->got + n);
	return 0;
}

/**
 * qvp_apply_begin - begin to apply a record
 * @load: the session
 * @rec: the record, without its payload
 *
 * Return: 0 or an error
 */
int qvp_apply_begin(struct qvp_load *load, const struct vfio_record *rec)
{
	int ret;

	ret = check_record(load, rec);
	if (!ret && is_memory(rec))
		ret = claim(load, rec);
	if (!ret && rec->tag == cpu_to_le32(VFIO_RECORD_ZERO))
		ret = load_zero(load, rec);
	return ret;
}

/**
 * qvp_apply_end - have applied a record
 * @load: the session
 * @c: the cursor, at the end of the record
 *
 * Return: 0 or an error
 */
int qvp_apply_end(struct qvp_load *load, const struct qvp_cursor *c)
{
	int ret = 0;
	u64 bytes;

	if (!is_memory(&c->record))
		ret = load_meta(load, &c->record, c->buffer);
	if (ret)
		return ret;
	atomic64_inc(&load->records);
	bytes = atomic64_add_return(c->got, &load->bytes);
	if (bytes == le64_to_cpu(READ_ONCE(load->end.bytes)))
		trace_qvp_last_byte(&load->session, bytes,
				    atomic64_read(&load->records));
	return 0;
}

/**
 * qvp_apply_partial - refuse a record that is not all there
 * @load: the session
 * @c: the cursor, in that record
 *
 * Return: an error
 */
int qvp_apply_partial(struct qvp_load *load, const struct qvp_cursor *c)
{
	return fail(load, -EINVAL, "stream stops after %llu bytes of it",
		    c->got);
}

/**
 * qvp_apply_complete - judge what was loaded
 * @load: the session, which no chunk of is under way any more
 *
 * Return: 0 if all of it is there, and nothing else
 */
int qvp_apply_complete(struct qvp_load *load)
{
	struct qvp_device *q = load->session.q;
	u64 memory = atomic64_read(&load->memory);
	unsigned long n;

	if (load->error)
		return load->error;
	if (load->cursor.got)
		return qvp_apply_partial(load, &load->cursor);
	if (!test_bit(QVP_HEADER_LOADED, &load->loaded))
		return fail(load, -EINVAL, "no header record");
	if (!test_bit(QVP_END_LOADED, &load->loaded))
		return fail(load, -EINVAL, "no end record");
	n = find_first_zero_bit(load->seen, q->backend->registers);
	if (n < q->backend->registers)
		return fail(load, -EINVAL, "register %lu is missing", n);
	if (memory != q->size) {
		n = find_first_zero_bit(q->claimed, q->size / VFIO_RECORD_ALIGN);
		return fail(load, -EINVAL,
			    "%llu bytes of memory, not %llu: offset %#llx is missing",
			    memory, q->size, (u64)n * VFIO_RECORD_ALIGN);
	}
	return check_totals(load, "end", atomic64_read(&load->bytes),
			    atomic64_read(&load->records), &load->end);
}

// SPDX-License-Identifier: GPL-2.0-only
/* Streams that must be refused, what is left of them, and life afterwards */
#include <errno.h>

#include "edit.h"
#include "kmsg.h"
#include "kselftest_harness.h"
#include "testing.h"

#define PAGE	VFIO_RECORD_ALIGN
#define MARK	0xa5	/* what the target's memory held before */
#define HEAD	sizeof(struct vfio_record)

/* The kernel says no more than 10 things of a kind in 5 seconds */
#define PACE_US	550000

/* A source with a state to load, and a target that holds something else */
struct pair {
	struct vfio_device source;
	struct vfio_device target;
	struct stream good;
	int kmsg;
};

#define PAIR_SETUP(pair) do {						\
	TESTING_OPEN(&(pair)->source, &vfio_ivshmem_1m, 0);		\
	TESTING_OPEN(&(pair)->target, &vfio_ivshmem_1m, 1);		\
	vfio_fill((pair)->source.map, (pair)->source.size, 1);		\
	ASSERT_EQ(0, vfio_registers_fill(&(pair)->source, 2));		\
	ASSERT_EQ(0, stream_save(&(pair)->good, &(pair)->source));	\
	memset((pair)->target.map, MARK, (pair)->target.size);		\
	(pair)->kmsg = kmsg_open();					\
	ASSERT_LE(0, (pair)->kmsg);					\
} while (0)

static void pair_teardown(struct pair *pair)
{
	stream_free(&pair->good);
	close(pair->kmsg);
	testing_close(&pair->source);
	testing_close(&pair->target);
}

static bool all(const uint8_t *at, uint64_t len, uint8_t value)
{
	for (uint64_t i = 0; i < len; i++)
		if (at[i] != value)
			return false;
	return true;
}

/* The target is as good as new */
static void expect_works(struct __test_metadata *_metadata, struct pair *pair)
{
	struct stream again = {};

	ASSERT_EQ(0, stream_load(&pair->good, &pair->target));
	EXPECT_EQ(0, memcmp(pair->target.map, pair->source.map,
			    pair->source.size));
	ASSERT_EQ(0, stream_save(&again, &pair->target));
	ASSERT_EQ(pair->good.len, again.len);
	EXPECT_EQ(0, memcmp(pair->good.data, again.data, again.len));
	stream_free(&again);
}

FIXTURE(refuse) {
	struct pair pair;
};

FIXTURE_VARIANT(refuse) {
	void (*edit)(struct edit *edit);
	int error;		/* of RESUMING to STOP */
	const char *message;	/* part of what the kernel says */
	bool touched;		/* the device before the error was seen */
};

FIXTURE_SETUP(refuse)
{
	PAIR_SETUP(&self->pair);
}

FIXTURE_TEARDOWN(refuse)
{
	pair_teardown(&self->pair);
	usleep(PACE_US);
}

TEST_F_TIMEOUT(refuse, is_refused, 60)
{
	struct vfio_device *target = &self->pair.target;
	struct segments cut = { 4000, 4000, 0 };
	struct stream bad = {};
	uint8_t byte = 0;
	int fd, ret;

	ASSERT_EQ(0, edit_stream(&bad, &self->pair.good, &self->pair.source,
				 variant->edit));
	ASSERT_EQ(0, vfio_mig_set_state(target, VFIO_DEVICE_STATE_RESUMING,
					&fd));
	ret = stream_write(&bad, fd, &cut);
	if (ret) {
		EXPECT_EQ(variant->error, ret);
		/* once bad it stays so */
		EXPECT_EQ(-1, write(fd, &byte, 1));
		EXPECT_EQ(-variant->error, errno);
	}
	EXPECT_EQ(variant->error, vfio_mig_set_state(target,
						     VFIO_DEVICE_STATE_STOP,
						     NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_ERROR, vfio_mig_state(target));
	EXPECT_TRUE(kmsg_find(self->pair.kmsg, target->bdf,
			      variant->message)) {
		TH_LOG("no message says '%s'", variant->message);
	}
	EXPECT_EQ(variant->touched, !memcmp(target->map, self->pair.source.map,
					    PAGE));

	ASSERT_EQ(0, vfio_device_reset(target));
	ASSERT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(target));
	EXPECT_TRUE(all(target->map, PAGE, variant->touched ? 0 : MARK));
	for (uint64_t at = 0; at < target->size; at += PAGE)
		ASSERT_TRUE(all(target->map + at, PAGE, 0) ||
			    all(target->map + at, PAGE, MARK));
	close(fd);
	stream_free(&bad);
	expect_works(_metadata, &self->pair);
}

/*
 * The mistakes.  Part 0 is the header, then come 64 of memory, the registers
 * and the end.
 */
#define REFUSED(name, ...) \
	FIXTURE_VARIANT_ADD(refuse, name) { edit_##name, __VA_ARGS__ }

#define EDIT(name) static void edit_##name(struct edit *edit)

#define MEMORY		9	/* a part in the middle of the memory */
#define REGISTERS(edit)	((edit)->count - 2)
#define END(edit)	((edit)->count - 1)

/* Incomplete streams */
EDIT(nothing) { edit->keep = 0; }
REFUSED(nothing, -EINVAL, "no header record", false);

EDIT(cut_in_header) { edit->keep = HEAD + 20; }
REFUSED(cut_in_header, -EINVAL, "stream stops", false);

EDIT(header_alone) { edit->count = 1; }
REFUSED(header_alone, -EINVAL, "no end record", false);

EDIT(cut_in_record) { edit->keep = 2 * HEAD + 48 + EDIT_RECORD + 7; }
REFUSED(cut_in_record, -EINVAL, "stream stops", true);

EDIT(cut_in_memory) { edit->keep = 3 * HEAD + 48 + EDIT_RECORD + 5000; }
REFUSED(cut_in_memory, -EINVAL, "stream stops", true);

EDIT(no_end) { edit_remove(edit, END(edit)); }
REFUSED(no_end, -EINVAL, "no end record", true);

EDIT(one_byte_more) { edit->more = 1; }
REFUSED(one_byte_more, -EINVAL, "stream stops", true);

EDIT(range_missing) { edit_remove(edit, MEMORY); }
REFUSED(range_missing, -EINVAL, "is missing", true);

/* The header */
EDIT(magic) { edit->part[0].head.tag++; }
REFUSED(magic, -EINVAL, "no header record", false);

EDIT(memory_first)
{
	edit_insert(edit, 0, edit->part[1].head, edit->part[1].payload);
	edit_remove(edit, 2);
}
REFUSED(memory_first, -EINVAL, "no header record", false);

EDIT(second_header)
{
	edit_insert(edit, MEMORY, edit->part[0].head, edit->part[0].payload);
}
REFUSED(second_header, -EINVAL, "second header record", true);

EDIT(version) { edit->header.version++; }
REFUSED(version, -EOPNOTSUPP, "version", false);

EDIT(old_version) { edit->header.version--; }
REFUSED(old_version, -EOPNOTSUPP, "version", false);

EDIT(feature) { edit->header.features = 1u << 31; }
REFUSED(feature, -EOPNOTSUPP, "features", false);

EDIT(vendor) { edit->header.vendor++; }
REFUSED(vendor, -EINVAL, "vendor", false);

EDIT(device) { edit->header.device++; }
REFUSED(device, -EINVAL, "device", false);

EDIT(class) { edit->header.class++; }
REFUSED(class, -EINVAL, "class", false);

EDIT(revision) { edit->header.revision++; }
REFUSED(revision, -EINVAL, "revision", false);

EDIT(header_reserved) { edit->header.reserved = 1; }
REFUSED(header_reserved, -EINVAL, "reserved", false);

EDIT(header_flags) { edit->part[0].head.flags |= 1u << 31; }
REFUSED(header_flags, -EOPNOTSUPP, "flags", false);

EDIT(header_short) { edit->part[0].head.length = 8; }
REFUSED(header_short, -EINVAL, "header of 8 bytes", false);

EDIT(header_long) { edit->part[0].head.length = VFIO_RECORD_MAX_META + 32; }
REFUSED(header_long, -EINVAL, "payload of", false);

EDIT(header_digest) { edit->part[0].flip = HEAD; }
REFUSED(header_digest, -EINVAL, "digest", false);

EDIT(header_bit) { edit->part[0].flip = HEAD + 8 + 1; }
REFUSED(header_bit, -EINVAL, "digest", false);

EDIT(no_regions)
{
	edit->header.regions = 0;
	edit->part[0].head.length -= sizeof(edit->region[0]);
}
REFUSED(no_regions, -EINVAL, "regions", false);

EDIT(two_regions)
{
	edit->header.regions = 2;
	edit->region[1] = edit->region[0];
	edit->part[0].head.length += sizeof(edit->region[0]);
}
REFUSED(two_regions, -EINVAL, "regions", false);

EDIT(many_regions) { edit->header.regions = 0x10000001; }
REFUSED(many_regions, -EINVAL, "regions", false);

EDIT(region_index) { edit->region[0].index--; }
REFUSED(region_index, -EINVAL, "region", false);

EDIT(region_reserved) { edit->region[0].reserved = 1; }
REFUSED(region_reserved, -EINVAL, "reserved", false);

EDIT(region_smaller) { edit->region[0].size /= 2; }
REFUSED(region_smaller, -EINVAL, "size", false);

EDIT(region_larger) { edit->region[0].size += PAGE; }
REFUSED(region_larger, -EINVAL, "size", false);

EDIT(fewer_registers_said) { edit->header.registers--; }
REFUSED(fewer_registers_said, -EINVAL, "registers", false);

EDIT(more_registers_said) { edit->header.registers++; }
REFUSED(more_registers_said, -EINVAL, "registers", false);

/* Ranges */
EDIT(misaligned_offset) { edit->part[MEMORY].head.offset += 512; }
REFUSED(misaligned_offset, -EINVAL, "not a multiple of 4096", true);

EDIT(misaligned_length) { edit->part[MEMORY].head.length -= 1; }
REFUSED(misaligned_length, -EINVAL, "not a multiple of 4096", true);

EDIT(empty_range) { edit->part[MEMORY].head.length = 0; }
REFUSED(empty_range, -EINVAL, "not a multiple of 4096", true);

EDIT(offset_beyond) { edit->part[MEMORY].head.offset = 1 << 20; }
REFUSED(offset_beyond, -EINVAL, "beyond", true);

EDIT(length_beyond)
{
	edit->part[MEMORY].head.offset = (1 << 20) - EDIT_RECORD + PAGE;
}
REFUSED(length_beyond, -EINVAL, "beyond", true);

EDIT(offset_wraps) { edit->part[MEMORY].head.offset = -PAGE; }
REFUSED(offset_wraps, -EINVAL, "beyond", true);

EDIT(zero_beyond)
{
	edit->part[MEMORY].head.tag = VFIO_RECORD_ZERO;
	edit->part[MEMORY].head.length = 1 << 20;
}
REFUSED(zero_beyond, -EINVAL, "beyond", true);

EDIT(other_region) { edit->part[MEMORY].head.region = 0; }
REFUSED(other_region, -EINVAL, "region", true);

EDIT(no_such_region) { edit->part[MEMORY].head.region = 0x80000002; }
REFUSED(no_such_region, -EINVAL, "region", true);

EDIT(record_twice)
{
	edit_insert(edit, MEMORY, edit->part[MEMORY].head,
		    edit->part[MEMORY].payload);
}
REFUSED(record_twice, -EINVAL, "second time", true);

EDIT(ranges_overlap) { edit->part[MEMORY].head.offset -= PAGE; }
REFUSED(ranges_overlap, -EINVAL, "second time", true);

EDIT(zero_overlaps)
{
	struct vfio_record head = edit->part[2].head;

	head.tag = VFIO_RECORD_ZERO;
	edit_insert(edit, MEMORY, head, NULL);
}
REFUSED(zero_overlaps, -EINVAL, "second time", true);

/* Bits on their way */
EDIT(record_digest) { edit->part[MEMORY].flip = HEAD; }
REFUSED(record_digest, -EINVAL, "digest", true);

EDIT(offset_bit) { edit->part[MEMORY].flip = 16 + 4; }
REFUSED(offset_bit, -EINVAL, "digest", true);

EDIT(zero_bit)
{
	edit->part[MEMORY].head.tag = VFIO_RECORD_ZERO;
	edit->part[MEMORY].flip = 24 + 2;
}
REFUSED(zero_bit, -EINVAL, "digest", true);

EDIT(registers_bit) { edit->part[REGISTERS(edit)].flip = HEAD + 5; }
REFUSED(registers_bit, -EINVAL, "digest", true);

EDIT(end_bit) { edit->part[END(edit)].flip = HEAD + 2; }
REFUSED(end_bit, -EINVAL, "digest", true);

/* What no version of the format has yet */
EDIT(record_reserved) { edit->part[MEMORY].head.reserved = 1; }
REFUSED(record_reserved, -EINVAL, "reserved", true);

EDIT(record_flags) { edit->part[MEMORY].head.flags = 1u << 31; }
REFUSED(record_flags, -EOPNOTSUPP, "flags", true);

EDIT(unknown_tag)
{
	struct vfio_record head = { .tag = VFIO_RECORD_END + 1, .length = 8 };

	edit_insert(edit, MEMORY, head, edit->registers);
}
REFUSED(unknown_tag, -EOPNOTSUPP, "unknown tag", true);

EDIT(optional_long)
{
	struct vfio_record head = {
		.tag = VFIO_RECORD_END + 1,
		.flags = VFIO_RECORD_OPTIONAL,
		.length = VFIO_RECORD_MAX_META + 8,
	};

	edit_insert(edit, MEMORY, head, edit->registers);
}
REFUSED(optional_long, -EINVAL, "payload of", true);

/* Registers */
EDIT(no_registers) { edit_remove(edit, REGISTERS(edit)); }
REFUSED(no_registers, -EINVAL, "is missing", true);

EDIT(register_missing) { edit->part[REGISTERS(edit)].head.length -= 8; }
REFUSED(register_missing, -EINVAL, "is missing", true);

EDIT(register_twice) { edit->registers[1] = edit->registers[0]; }
REFUSED(register_twice, -EINVAL, "second time", true);

EDIT(registers_twice)
{
	struct edit_part *part = &edit->part[REGISTERS(edit)];

	edit_insert(edit, MEMORY, part->head, part->payload);
}
REFUSED(registers_twice, -EINVAL, "second time", true);

EDIT(register_unknown) { edit->registers[0].id = 0x7fffffff; }
REFUSED(register_unknown, -EINVAL, "register 2147483647", true);

EDIT(registers_odd) { edit->part[REGISTERS(edit)].head.length -= 4; }
REFUSED(registers_odd, -EINVAL, "registers of", true);

EDIT(registers_long)
{
	edit->part[REGISTERS(edit)].head.length = VFIO_RECORD_MAX_META + 8;
}
REFUSED(registers_long, -EINVAL, "payload of", true);

/* Totals */
static void give_end(struct edit *edit, int64_t bytes, int64_t records)
{
	edit->end_given = true;
	edit->end.records = edit->count + records;
	edit->end.bytes = bytes;
	for (unsigned int i = 0; i < edit->count; i++)
		edit->end.bytes += HEAD + record_payload(&edit->part[i].head);
}

EDIT(end_bytes) { give_end(edit, 1, 0); }
REFUSED(end_bytes, -EINVAL, "the end said", true);

EDIT(end_records) { give_end(edit, 0, -1); }
REFUSED(end_records, -EINVAL, "the end said", true);

EDIT(end_short) { edit->part[END(edit)].head.length = 8; }
REFUSED(end_short, -EINVAL, "end of 8 bytes", true);

EDIT(end_twice)
{
	edit_insert(edit, MEMORY, edit->part[END(edit)].head, &edit->end);
}
REFUSED(end_twice, -EINVAL, "second end", true);

/* Fixture of what is not about one mistake */
FIXTURE(life) {
	struct pair pair;
};

FIXTURE_SETUP(life)
{
	PAIR_SETUP(&self->pair);
}

FIXTURE_TEARDOWN(life)
{
	pair_teardown(&self->pair);
}

static void change_nothing(struct edit *edit)
{
	(void)edit;
}

/* The mistakes are what is refused: without them all is well */
TEST_F(life, without_mistake)
{
	struct stream copy = {};

	ASSERT_EQ(0, edit_stream(&copy, &self->pair.good, &self->pair.source,
				 change_nothing));
	ASSERT_EQ(0, stream_load(&copy, &self->pair.target));
	EXPECT_EQ(0, memcmp(self->pair.target.map, self->pair.source.map,
			    self->pair.source.size));
	/* what was loaded well is not thrown away */
	ASSERT_EQ(0, vfio_device_reset(&self->pair.target));
	ASSERT_EQ(VFIO_DEVICE_STATE_RUNNING,
		  vfio_mig_state(&self->pair.target));
	EXPECT_EQ(0, memcmp(self->pair.target.map, self->pair.source.map,
			    self->pair.source.size));
	stream_free(&copy);
}

/* Begins a load that touches the first pages of the target */
static int begin_load(struct pair *pair, int *fd)
{
	struct segments cut = { 4000, 4000, 0 };
	struct stream part = {};
	int ret;

	ret = edit_stream(&part, &pair->good, &pair->source, edit_no_end) ?:
	      vfio_mig_set_state(&pair->target, VFIO_DEVICE_STATE_RESUMING,
				 fd) ?:
	      stream_write(&part, *fd, &cut);
	stream_free(&part);
	return ret;
}

/* Who gives up a load finds nothing of it afterwards */
TEST_F(life, aborted_by_reset)
{
	int fd;

	ASSERT_EQ(0, begin_load(&self->pair, &fd));
	ASSERT_EQ(0, vfio_device_reset(&self->pair.target));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING,
		  vfio_mig_state(&self->pair.target));
	EXPECT_TRUE(all(self->pair.target.map, self->pair.target.size, 0));
	close(fd);
	expect_works(_metadata, &self->pair);
}

TEST_F(life, aborted_by_close)
{
	int fd;

	ASSERT_EQ(0, begin_load(&self->pair, &fd));
	testing_close(&self->pair.target);
	ASSERT_EQ(NULL, testing_open(&self->pair.target, &vfio_ivshmem_1m, 1));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING,
		  vfio_mig_state(&self->pair.target));
	EXPECT_TRUE(all(self->pair.target.map, self->pair.target.size, 0));
	close(fd);
	expect_works(_metadata, &self->pair);
}

TEST_F(life, failed_and_closed)
{
	int fd;

	ASSERT_EQ(0, begin_load(&self->pair, &fd));
	EXPECT_EQ(-EINVAL, vfio_mig_set_state(&self->pair.target,
					      VFIO_DEVICE_STATE_STOP, NULL));
	testing_close(&self->pair.target);
	ASSERT_EQ(NULL, testing_open(&self->pair.target, &vfio_ivshmem_1m, 1));
	EXPECT_TRUE(all(self->pair.target.map, self->pair.target.size, 0));
	close(fd);
	expect_works(_metadata, &self->pair);
}

TEST_HARNESS_MAIN

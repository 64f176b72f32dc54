// SPDX-License-Identifier: GPL-2.0-only
/* Mistakes in the records that a stream consists of */
#include "refuse.h"

/* Ranges */
EDIT(misaligned_offset)
{
	edit->part[MEMORY].head.offset += 512;
}

REFUSED(misaligned_offset) {
	edit_misaligned_offset, -EINVAL, "not a multiple of 4096", TOUCHED
};

EDIT(misaligned_length)
{
	edit->part[MEMORY].head.length -= 1;
}

REFUSED(misaligned_length) {
	edit_misaligned_length, -EINVAL, "not a multiple of 4096", TOUCHED
};

EDIT(empty_range)
{
	edit->part[MEMORY].head.length = 0;
}

REFUSED(empty_range) {
	edit_empty_range, -EINVAL, "not a multiple of 4096", TOUCHED
};

EDIT(offset_beyond)
{
	edit->part[MEMORY].head.offset = 1 << 20;
}

REFUSED(offset_beyond) { edit_offset_beyond, -EINVAL, "beyond", TOUCHED };

EDIT(length_beyond)
{
	edit->part[MEMORY].head.offset = (1 << 20) - RECORD + PAGE;
}

REFUSED(length_beyond) { edit_length_beyond, -EINVAL, "beyond", TOUCHED };

EDIT(offset_wraps)
{
	edit->part[MEMORY].head.offset = -PAGE;
}

REFUSED(offset_wraps) { edit_offset_wraps, -EINVAL, "beyond", TOUCHED };

EDIT(zero_beyond)
{
	edit->part[MEMORY].head.tag = VFIO_RECORD_ZERO;
	edit->part[MEMORY].head.length = 1 << 20;
}

REFUSED(zero_beyond) { edit_zero_beyond, -EINVAL, "beyond", TOUCHED };

EDIT(other_region)
{
	edit->part[MEMORY].head.region = 0;
}

REFUSED(other_region) { edit_other_region, -EINVAL, "region", TOUCHED };

EDIT(no_such_region)
{
	edit->part[MEMORY].head.region = 0x80000002;
}

REFUSED(no_such_region) { edit_no_such_region, -EINVAL, "region", TOUCHED };

EDIT(record_twice)
{
	edit_insert(edit, MEMORY, edit->part[MEMORY].head,
		    edit->part[MEMORY].payload);
}

REFUSED(record_twice) { edit_record_twice, -EINVAL, "second time", TOUCHED };

EDIT(ranges_overlap)
{
	edit->part[MEMORY].head.offset -= PAGE;
}

REFUSED(ranges_overlap) {
	edit_ranges_overlap, -EINVAL, "second time", TOUCHED
};

EDIT(zero_overlaps)
{
	struct vfio_record head = edit->part[2].head;

	head.tag = VFIO_RECORD_ZERO;
	edit_insert(edit, MEMORY, head, NULL);
}

REFUSED(zero_overlaps) { edit_zero_overlaps, -EINVAL, "second time", TOUCHED };

/* Bits on their way */
EDIT(record_digest)
{
	edit->part[MEMORY].flip = HEAD;
}

REFUSED(record_digest) { edit_record_digest, -EINVAL, "digest", TOUCHED };

EDIT(offset_bit)
{
	edit->part[MEMORY].flip = 16 + 4;
}

REFUSED(offset_bit) { edit_offset_bit, -EINVAL, "digest", TOUCHED };

EDIT(zero_bit)
{
	edit->part[MEMORY].head.tag = VFIO_RECORD_ZERO;
	edit->part[MEMORY].flip = 24 + 2;
}

REFUSED(zero_bit) { edit_zero_bit, -EINVAL, "digest", TOUCHED };

EDIT(registers_bit)
{
	edit->part[REGISTERS(edit)].flip = HEAD + 5;
}

REFUSED(registers_bit) { edit_registers_bit, -EINVAL, "digest", TOUCHED };

EDIT(end_bit)
{
	edit->part[END(edit)].flip = HEAD + 2;
}

REFUSED(end_bit) { edit_end_bit, -EINVAL, "digest", TOUCHED };

/* What no version of the format has yet */
EDIT(record_reserved)
{
	edit->part[MEMORY].head.reserved = 1;
}

REFUSED(record_reserved) { edit_record_reserved, -EINVAL, "reserved", TOUCHED };

EDIT(record_flags)
{
	edit->part[MEMORY].head.flags = 1u << 31;
}

REFUSED(record_flags) { edit_record_flags, -EOPNOTSUPP, "flags", TOUCHED };

EDIT(header_flag)
{
	edit->part[MEMORY].head.flags = VFIO_RECORD_ORDER_FREE;
}

REFUSED(header_flag) { edit_header_flag, -EOPNOTSUPP, "flags", TOUCHED };

EDIT(region_of_registers)
{
	edit->part[edit->count - 2].head.region = 1;
}

REFUSED(region_of_registers) {
	edit_region_of_registers, -EINVAL, "region", TOUCHED
};

EDIT(offset_of_registers)
{
	edit->part[edit->count - 2].head.offset = 4096;
}

REFUSED(offset_of_registers) {
	edit_offset_of_registers, -EINVAL, "offset", TOUCHED
};

EDIT(unknown_tag)
{
	struct vfio_record head = { .tag = VFIO_RECORD_PASS + 1, .length = 8 };

	edit_insert(edit, MEMORY, head, edit->registers);
}

REFUSED(unknown_tag) { edit_unknown_tag, -EOPNOTSUPP, "unknown tag", TOUCHED };

EDIT(optional_long)
{
	struct vfio_record head = {
		.tag = VFIO_RECORD_PASS + 1,
		.flags = VFIO_RECORD_OPTIONAL,
		.length = VFIO_RECORD_MAX_META + 8,
	};

	edit_insert(edit, MEMORY, head, edit->registers);
}

REFUSED(optional_long) { edit_optional_long, -EINVAL, "payload of", TOUCHED };

/* Registers */
EDIT(no_registers)
{
	edit_remove(edit, REGISTERS(edit));
}

REFUSED(no_registers) { edit_no_registers, -EINVAL, "is missing", TOUCHED };

EDIT(register_missing)
{
	edit->part[REGISTERS(edit)].head.length -= 8;
}

REFUSED(register_missing) {
	edit_register_missing, -EINVAL, "is missing", TOUCHED
};

EDIT(register_twice)
{
	edit->registers[1] = edit->registers[0];
}

REFUSED(register_twice) {
	edit_register_twice, -EINVAL, "second time", TOUCHED
};

EDIT(registers_twice)
{
	struct edit_part *part = &edit->part[REGISTERS(edit)];

	edit_insert(edit, MEMORY, part->head, part->payload);
}

REFUSED(registers_twice) {
	edit_registers_twice, -EINVAL, "second time", TOUCHED
};

EDIT(register_unknown)
{
	edit->registers[0].id = 0x7fffffff;
}

REFUSED(register_unknown) {
	edit_register_unknown, -EINVAL, "register 2147483647", TOUCHED
};

EDIT(registers_odd)
{
	edit->part[REGISTERS(edit)].head.length -= 4;
}

REFUSED(registers_odd) { edit_registers_odd, -EINVAL, "registers of", TOUCHED };

EDIT(registers_long)
{
	edit->part[REGISTERS(edit)].head.length = VFIO_RECORD_MAX_META + 8;
}

REFUSED(registers_long) { edit_registers_long, -EINVAL, "payload of", TOUCHED };

/* Passes */
static void insert_pass(struct edit *edit, uint64_t more)
{
	static struct vfio_record_totals totals;
	struct vfio_record head = {
		.tag = VFIO_RECORD_PASS,
		.length = sizeof(totals),
	};

	edit->header.features = VFIO_RECORD_PASSES;
	edit->part[0].head.flags = 0;
	totals.bytes = sizeof(head) + sizeof(totals) + more;
	for (unsigned int i = 0; i < MEMORY; i++)
		totals.bytes += sizeof(head) +
				record_payload(&edit->part[i].head);
	totals.records = MEMORY + 1;
	edit_insert(edit, MEMORY, head, &totals);
}

EDIT(pass_of_none)
{
	insert_pass(edit, 0);
	edit->header.features = 0;
}

REFUSED(pass_of_none) {
	edit_pass_of_none, -EINVAL, "the header has none", TOUCHED
};

EDIT(pass_totals)
{
	insert_pass(edit, 1);
}

REFUSED(pass_totals) { edit_pass_totals, -EINVAL, "the pass said", TOUCHED };

/* What belongs to the pass before it comes behind */
EDIT(pass_early)
{
	struct edit_part part = edit->part[MEMORY - 1];

	insert_pass(edit, 0);
	edit->part[MEMORY - 1] = edit->part[MEMORY];
	edit->part[MEMORY] = part;
}

REFUSED(pass_early) { edit_pass_early, -EINVAL, "the pass said", TOUCHED };

EDIT(pass_length)
{
	insert_pass(edit, 0);
	edit->part[MEMORY].head.length -= 8;
}

REFUSED(pass_length) { edit_pass_length, -EINVAL, "pass of 8", TOUCHED };

EDIT(twice_in_pass)
{
	insert_pass(edit, 0);
	edit_insert(edit, MEMORY + 1, edit->part[1].head,
		    edit->part[1].payload);
	edit_insert(edit, MEMORY + 1, edit->part[1].head,
		    edit->part[1].payload);
}

REFUSED(twice_in_pass) {
	edit_twice_in_pass, -EINVAL, "for a second time", TOUCHED
};

/* Registers that a display cannot have; they are in the order of their ids */
EDIT(display_id)
{
	edit->registers[0].value++;
}

REFUSED(display_id) {
	edit_display_id, -EINVAL, "register ID", TOUCHED_DISPLAY
};

EDIT(display_memory)
{
	edit->registers[10].value *= 2;
}

REFUSED(display_memory) {
	edit_display_memory, -EINVAL, "register VIDEO_MEMORY_64K", TOUCHED_DISPLAY
};

EDIT(display_width)
{
	edit->registers[1].value |= 1 << 16;
}

REFUSED(display_width) {
	edit_display_width, -EINVAL, "register of 16 bits", TOUCHED_DISPLAY
};

EDIT(display_byte_order)
{
	edit->registers[11].value = 0x1e1e1ebe;
}

REFUSED(display_byte_order) {
	edit_display_byte_order, -EINVAL, "register BYTE_ORDER", TOUCHED_DISPLAY
};

TEST_HARNESS_MAIN

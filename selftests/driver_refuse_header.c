// SPDX-License-Identifier: GPL-2.0-only
/* Mistakes in the header record, and in the stream as a whole */
#include "refuse.h"

/* The header */
EDIT(magic)
{
	edit->part[0].head.tag++;
}

REFUSED(magic) { edit_magic, -EINVAL, "no header record", UNTOUCHED };

EDIT(memory_first)
{
	edit_insert(edit, 0, edit->part[1].head, edit->part[1].payload);
	edit_remove(edit, 2);
}

REFUSED(memory_first) {
	edit_memory_first, -EINVAL, "no header record", UNTOUCHED
};

EDIT(second_header)
{
	edit_insert(edit, MEMORY, edit->part[0].head, edit->part[0].payload);
}

REFUSED(second_header) {
	edit_second_header, -EINVAL, "second header record", TOUCHED
};

EDIT(version)
{
	edit->header.version++;
}

REFUSED(version) { edit_version, -EOPNOTSUPP, "version", UNTOUCHED };

EDIT(old_version)
{
	edit->header.version--;
}

REFUSED(old_version) { edit_old_version, -EOPNOTSUPP, "version", UNTOUCHED };

EDIT(feature)
{
	edit->header.features = 1u << 31;
}

EDIT(passes_without_order)
{
	edit->header.features = VFIO_RECORD_PASSES;
}

REFUSED(passes_without_order) {
	edit_passes_without_order, -EINVAL, "passes have an order", UNTOUCHED
};

REFUSED(feature) { edit_feature, -EOPNOTSUPP, "features", UNTOUCHED };

EDIT(vendor)
{
	edit->header.vendor++;
}

REFUSED(vendor) { edit_vendor, -EINVAL, "vendor", UNTOUCHED };

EDIT(device)
{
	edit->header.device++;
}

REFUSED(device) { edit_device, -EINVAL, "device", UNTOUCHED };

EDIT(class)
{
	edit->header.class++;
}

REFUSED(class) { edit_class, -EINVAL, "class", UNTOUCHED };

EDIT(revision)
{
	edit->header.revision++;
}

REFUSED(revision) { edit_revision, -EINVAL, "revision", UNTOUCHED };

EDIT(header_reserved)
{
	edit->header.reserved = 1;
}

REFUSED(header_reserved) {
	edit_header_reserved, -EINVAL, "reserved", UNTOUCHED
};

EDIT(header_flags)
{
	edit->part[0].head.flags |= 1u << 31;
}

REFUSED(header_flags) { edit_header_flags, -EOPNOTSUPP, "flags", UNTOUCHED };

EDIT(header_short)
{
	edit->part[0].head.length = 8;
}

REFUSED(header_short) {
	edit_header_short, -EINVAL, "header of 8 bytes", UNTOUCHED
};

EDIT(header_long)
{
	edit->part[0].head.length = VFIO_RECORD_MAX_META + 32;
}

REFUSED(header_long) { edit_header_long, -EINVAL, "payload of", UNTOUCHED };

EDIT(header_digest)
{
	edit->part[0].flip = HEAD;
}

REFUSED(header_digest) { edit_header_digest, -EINVAL, "digest", UNTOUCHED };

EDIT(header_bit)
{
	edit->part[0].flip = HEAD + 8 + 1;
}

REFUSED(header_bit) { edit_header_bit, -EINVAL, "digest", UNTOUCHED };

EDIT(no_regions)
{
	edit->header.regions = 0;
	edit->part[0].head.length -= sizeof(edit->region[0]);
}

REFUSED(no_regions) { edit_no_regions, -EINVAL, "regions", UNTOUCHED };

EDIT(two_regions)
{
	edit->header.regions = 2;
	edit->region[1] = edit->region[0];
	edit->part[0].head.length += sizeof(edit->region[0]);
}

REFUSED(two_regions) { edit_two_regions, -EINVAL, "regions", UNTOUCHED };

EDIT(many_regions)
{
	edit->header.regions = 0x10000001;
}

REFUSED(many_regions) { edit_many_regions, -EINVAL, "regions", UNTOUCHED };

EDIT(region_index)
{
	edit->region[0].index--;
}

REFUSED(region_index) { edit_region_index, -EINVAL, "region", UNTOUCHED };

EDIT(region_reserved)
{
	edit->region[0].reserved = 1;
}

REFUSED(region_reserved) {
	edit_region_reserved, -EINVAL, "reserved", UNTOUCHED
};

EDIT(region_smaller)
{
	edit->region[0].size /= 2;
}

REFUSED(region_smaller) { edit_region_smaller, -EINVAL, "size", UNTOUCHED };

EDIT(region_larger)
{
	edit->region[0].size += PAGE;
}

REFUSED(region_larger) { edit_region_larger, -EINVAL, "size", UNTOUCHED };

EDIT(fewer_registers_said)
{
	edit->header.registers--;
}

REFUSED(fewer_registers_said) {
	edit_fewer_registers_said, -EINVAL, "registers", UNTOUCHED
};

EDIT(more_registers_said)
{
	edit->header.registers++;
}

REFUSED(more_registers_said) {
	edit_more_registers_said, -EINVAL, "registers", UNTOUCHED
};

/* Incomplete streams */
EDIT(nothing)
{
	edit->keep = 0;
}

REFUSED(nothing) { edit_nothing, -EINVAL, "no header record", UNTOUCHED };

EDIT(cut_in_header)
{
	edit->keep = HEAD + 20;
}

REFUSED(cut_in_header) {
	edit_cut_in_header, -EINVAL, "stream stops", UNTOUCHED
};

EDIT(header_alone)
{
	edit->count = 1;
}

REFUSED(header_alone) {
	edit_header_alone, -EINVAL, "no end record", UNTOUCHED
};

EDIT(cut_in_record)
{
	edit->keep = 2 * HEAD + 48 + RECORD + 7;
}

REFUSED(cut_in_record) { edit_cut_in_record, -EINVAL, "stream stops", TOUCHED };

EDIT(cut_in_memory)
{
	edit->keep = 3 * HEAD + 48 + RECORD + 5000;
}

REFUSED(cut_in_memory) { edit_cut_in_memory, -EINVAL, "stream stops", TOUCHED };

EDIT(no_end)
{
	edit_remove(edit, END(edit));
}

REFUSED(no_end) { edit_no_end, -EINVAL, "no end record", TOUCHED };

EDIT(one_byte_more)
{
	edit->more = 1;
}

REFUSED(one_byte_more) { edit_one_byte_more, -EINVAL, "stream stops", TOUCHED };

EDIT(range_missing)
{
	edit_remove(edit, MEMORY);
}

REFUSED(range_missing) { edit_range_missing, -EINVAL, "is missing", TOUCHED };

/* Totals */
static void give_end(struct edit *edit, int64_t bytes, int64_t records)
{
	edit->end_given = true;
	edit->end.records = edit->count + records;
	edit->end.bytes = bytes;
	for (unsigned int i = 0; i < edit->count; i++)
		edit->end.bytes += HEAD + record_payload(&edit->part[i].head);
}

EDIT(end_bytes)
{
	give_end(edit, 1, 0);
}

REFUSED(end_bytes) { edit_end_bytes, -EINVAL, "the end said", TOUCHED };

EDIT(end_records)
{
	give_end(edit, 0, -1);
}

REFUSED(end_records) { edit_end_records, -EINVAL, "the end said", TOUCHED };

EDIT(end_short)
{
	edit->part[END(edit)].head.length = 8;
}

REFUSED(end_short) { edit_end_short, -EINVAL, "end of 8 bytes", TOUCHED };

EDIT(end_twice)
{
	edit_insert(edit, MEMORY, edit->part[END(edit)].head, &edit->end);
}

REFUSED(end_twice) { edit_end_twice, -EINVAL, "second end", TOUCHED };

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0-only
/* A device with a state to load, and one that holds something else */
#include <string.h>

#include "pair.h"
#include "testing.h"

const char *pair_open(struct pair *pair, const struct vfio_kind *kind)
{
	const char *why = testing_open(&pair->source, kind, 0);

	if (why)
		return why;
	why = testing_open(&pair->target, kind, 1);
	if (why) {
		testing_close(&pair->source);
		return why;
	}
	vfio_fill(pair->source.map, pair->source.size, 1);
	memset(pair->target.map, PAIR_MARK, pair->target.size);
	if (vfio_registers_fill(&pair->source, 2) ||
	    stream_save(&pair->good, &pair->source)) {
		pair_close(pair);
		return "!the source has no state to load";
	}
	return NULL;
}

void pair_close(struct pair *pair)
{
	stream_free(&pair->good);
	testing_close(&pair->source);
	testing_close(&pair->target);
}

bool pair_memory_is(const uint8_t *at, uint64_t len, uint8_t value)
{
	for (uint64_t i = 0; i < len; i++)
		if (at[i] != value)
			return false;
	return true;
}

/* Makes each page of the target another one than those of the state to load. */
void pair_spoil(struct pair *pair)
{
	for (uint64_t at = 0; at < pair->target.size; at += PAIR_PAGE)
		*(volatile uint64_t *)(pair->target.map + at) = at;
}

/* Says how the target is not as good as new, or NULL */
const char *pair_try(struct pair *pair)
{
	const char *bad = NULL;
	struct stream again = {};

	if (stream_load(&pair->good, &pair->target))
		return "it does not load";
	if (memcmp(pair->target.map, pair->source.map, pair->source.size))
		return "it does not have the memory that it loaded";
	if (stream_save(&again, &pair->target))
		bad = "it cannot be saved";
	else if (again.len != pair->good.len ||
		 memcmp(pair->good.data, again.data, again.len))
		bad = "it does not give what it loaded";
	stream_free(&again);
	return bad;
}

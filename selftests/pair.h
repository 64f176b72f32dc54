/* SPDX-License-Identifier: GPL-2.0-only */
/* A device with a state to load, and one that holds something else */
#ifndef SELFTESTS_PAIR_H
#define SELFTESTS_PAIR_H

#include "stream.h"

#define PAIR_PAGE	VFIO_RECORD_ALIGN
#define PAIR_MARK	0xa5	/* what the target's memory held before */

/**
 * struct pair - two devices of a kind
 * @source: in STOP
 * @target: in RUNNING, its memory full of PAIR_MARK
 * @good: the state of @source, without a page of zeros
 */
struct pair {
	struct vfio_device source;
	struct vfio_device target;
	struct stream good;
};

/* For TESTING_SETUP() */
const char *pair_open(struct pair *pair, const struct vfio_kind *kind);
void pair_close(struct pair *pair);

bool pair_memory_is(const uint8_t *at, uint64_t len, uint8_t value);
void pair_spoil(struct pair *pair);
const char *pair_try(struct pair *pair);

#endif /* SELFTESTS_PAIR_H */

/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTESTS_XXH64_H
#define SELFTESTS_XXH64_H

#include <stddef.h>
#include <stdint.h>

/**
 * struct xxh64 - a digest under way
 * @lane: the four accumulators
 * @tail: bytes that do not fill a stripe yet
 * @total: bytes so far
 */
struct xxh64 {
	uint64_t lane[4];
	uint8_t tail[32];
	uint64_t total;
};

void xxh64_init(struct xxh64 *state);
void xxh64_update(struct xxh64 *state, const void *data, size_t len);
uint64_t xxh64_final(const struct xxh64 *state);
uint64_t xxh64(const void *data, size_t len);

#endif /* SELFTESTS_XXH64_H */

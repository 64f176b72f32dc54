// SPDX-License-Identifier: GPL-2.0-only
/* xxHash, 64 bits, seed 0, written from its specification */
#include <string.h>

#include "xxh64.h"

#define PRIME1	0x9e3779b185ebca87ULL
#define PRIME2	0xc2b2ae3d27d4eb4fULL
#define PRIME3	0x165667b19e3779f9ULL
#define PRIME4	0x85ebca77c2b2ae63ULL
#define PRIME5	0x27d4eb2f165667c5ULL

static uint64_t rotate(uint64_t x, unsigned int bits)
{
	return x << bits | x >> (64 - bits);
}

static uint64_t load64(const uint8_t *p)
{
	uint64_t x;

	memcpy(&x, p, sizeof(x));
	return x;
}

static uint64_t mix(uint64_t lane, uint64_t word)
{
	return rotate(lane + word * PRIME2, 31) * PRIME1;
}

void xxh64_init(struct xxh64 *state)
{
	memset(state, 0, sizeof(*state));
	state->lane[0] = PRIME1 + PRIME2;
	state->lane[1] = PRIME2;
	state->lane[3] = -PRIME1;
}

static void take_stripe(struct xxh64 *state, const uint8_t *p)
{
	for (unsigned int i = 0; i < 4; i++)
		state->lane[i] = mix(state->lane[i], load64(p + 8 * i));
}

void xxh64_update(struct xxh64 *state, const void *data, size_t len)
{
	size_t held = state->total % 32;
	const uint8_t *p = data;

	state->total += len;
	if (held) {
		size_t some = len < 32 - held ? len : 32 - held;

		memcpy(state->tail + held, p, some);
		if (held + some < 32)
			return;
		take_stripe(state, state->tail);
		p += some;
		len -= some;
	}
	for (; len >= 32; p += 32, len -= 32)
		take_stripe(state, p);
	memcpy(state->tail, p, len);
}

static uint64_t merge_lanes(const struct xxh64 *state)
{
	const uint64_t *lane = state->lane;
	uint64_t hash;

	if (state->total < 32)
		return PRIME5;
	hash = rotate(lane[0], 1) + rotate(lane[1], 7) + rotate(lane[2], 12) +
	       rotate(lane[3], 18);
	for (unsigned int i = 0; i < 4; i++)
		hash = (hash ^ mix(0, lane[i])) * PRIME1 + PRIME4;
	return hash;
}

uint64_t xxh64_final(const struct xxh64 *state)
{
	uint64_t hash = merge_lanes(state) + state->total;
	size_t len = state->total % 32;
	const uint8_t *p = state->tail;
	uint32_t word;

	for (; len >= 8; p += 8, len -= 8)
		hash = rotate(hash ^ mix(0, load64(p)), 27) * PRIME1 + PRIME4;
	if (len >= 4) {
		memcpy(&word, p, sizeof(word));
		hash = rotate(hash ^ word * PRIME1, 23) * PRIME2 + PRIME3;
		p += 4;
		len -= 4;
	}
	for (; len; p++, len--)
		hash = rotate(hash ^ *p * PRIME5, 11) * PRIME1;
	hash = (hash ^ hash >> 33) * PRIME2;
	hash = (hash ^ hash >> 29) * PRIME3;
	return hash ^ hash >> 32;
}

uint64_t xxh64(const void *data, size_t len)
{
	struct xxh64 state;

	xxh64_init(&state);
	xxh64_update(&state, data, len);
	return xxh64_final(&state);
}

// SPDX-License-Identifier: GPL-2.0-only
/* The bytes on a channel, made and taken apart */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire.h"
#include "xxh64.h"

static char text[512];

/* Says what is wrong */
#define WRONG(...) (snprintf(text, sizeof(text), __VA_ARGS__), text)

void wire_put32(uint8_t *at, uint32_t value)
{
	for (int i = 3; i >= 0; i--, value >>= 8)
		at[i] = value;
}

static void put64(uint8_t *at, uint64_t value)
{
	wire_put32(at, value >> 32);
	wire_put32(at + 4, value);
}

uint32_t wire_get32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

uint64_t wire_get64(const uint8_t *at)
{
	return (uint64_t)wire_get32(at) << 32 | wire_get32(at + 4);
}

/* Room for @len more bytes, which the caller counts when they are there */
uint8_t *wire_room(struct wire_bytes *bytes, size_t len)
{
	if (bytes->len + len > bytes->room) {
		bytes->room = 2 * (bytes->len + len);
		bytes->at = realloc(bytes->at, bytes->room);
		if (!bytes->at)
			abort();
	}
	return bytes->at + bytes->len;
}

void wire_add(struct wire_bytes *bytes, const void *from, size_t len)
{
	uint8_t *to = wire_room(bytes, len);

	if (len)
		memcpy(to, from, len);
	bytes->len += len;
}

/* Returns where it starts, good until more is added */
uint8_t *wire_add_init(struct wire_bytes *bytes, const uint8_t *uuid,
		       uint8_t id)
{
	uint8_t init[WIRE_INIT_SIZE] = {};

	wire_put32(init + WIRE_INIT_MAGIC, WIRE_MAGIC);
	wire_put32(init + WIRE_INIT_VERSION, 1);
	memcpy(init + WIRE_INIT_UUID, uuid, WIRE_UUID_SIZE);
	init[WIRE_INIT_ID] = id;
	wire_add(bytes, init, sizeof(init));
	return bytes->at + bytes->len - sizeof(init);
}

/* Returns where it starts, good until more is added */
uint8_t *wire_add_packet(struct wire_bytes *bytes,
			 const struct wire_packet *packet)
{
	size_t data = packet->flags & WIRE_DIGEST ? WIRE_DIGEST_DATA :
						    WIRE_VFIO_DATA;
	uint8_t header[WIRE_DIGEST_DATA] = {};

	wire_put32(header + WIRE_PACKET_MAGIC, WIRE_MAGIC);
	wire_put32(header + WIRE_PACKET_VERSION, 1);
	wire_put32(header + WIRE_PACKET_FLAGS, WIRE_DEVICE_STATE);
	memcpy(header + WIRE_PACKET_IDSTR, packet->idstr, WIRE_IDSTR_SIZE);
	wire_put32(header + WIRE_PACKET_INSTANCE, packet->instance);
	wire_put32(header + WIRE_PACKET_SIZE,
		   data - WIRE_VFIO_VERSION + packet->len);
	wire_put32(header + WIRE_VFIO_IDX, packet->idx);
	wire_put32(header + WIRE_VFIO_FLAGS, packet->flags);
	if (packet->flags & WIRE_DIGEST)
		put64(header + WIRE_VFIO_DIGEST,
		      xxh64(packet->data, packet->len));
	wire_add(bytes, header, data);
	wire_add(bytes, packet->data, packet->len);
	return bytes->at + bytes->len - data - packet->len;
}

/* As QEMU's; what is in it matters to nobody here. */
uint8_t *wire_add_ram(struct wire_bytes *bytes, uint32_t flags, uint32_t len)
{
	uint8_t *header = wire_room(bytes, WIRE_RAM_DATA + len);

	memset(header, 0x77, WIRE_RAM_DATA + len);
	wire_put32(header + WIRE_PACKET_MAGIC, WIRE_MAGIC);
	wire_put32(header + WIRE_PACKET_VERSION, 1);
	wire_put32(header + WIRE_PACKET_FLAGS, flags);
	wire_put32(header + WIRE_RAM_PAGES, 128);
	wire_put32(header + WIRE_RAM_SIZE, len);
	bytes->len += WIRE_RAM_DATA + len;
	return header;
}

void wire_free(struct wire_bytes *bytes)
{
	free(bytes->at);
	*bytes = (struct wire_bytes) {};
}

static const char *check_init(const struct wire_bytes *from,
			      const uint8_t *uuid, uint8_t id)
{
	static const uint8_t zero[WIRE_INIT_SIZE];
	const uint8_t *init = from->at;

	if (from->len < WIRE_INIT_SIZE)
		return WRONG("%zu bytes are no channel", from->len);
	if (wire_get32(init + WIRE_INIT_MAGIC) != WIRE_MAGIC ||
	    wire_get32(init + WIRE_INIT_VERSION) != 1)
		return WRONG("magic or version at the start");
	if (memcmp(init + WIRE_INIT_UUID, uuid, WIRE_UUID_SIZE))
		return WRONG("uuid at the start");
	if (init[WIRE_INIT_ID] != id)
		return WRONG("id %u, expected %u", init[WIRE_INIT_ID], id);
	if (memcmp(init + WIRE_INIT_ID + 1, zero,
		   WIRE_INIT_SIZE - WIRE_INIT_ID - 1))
		return WRONG("unused bytes at the start");
	return NULL;
}

static const char *check_header(const uint8_t *at, bool digest)
{
	const uint8_t *idstr = at + WIRE_PACKET_IDSTR;
	size_t fields = (digest ? WIRE_DIGEST_DATA : WIRE_VFIO_DATA) -
			WIRE_VFIO_VERSION;
	uint32_t flags = wire_get32(at + WIRE_VFIO_FLAGS);
	uint32_t may = wire_get32(at + WIRE_VFIO_IDX) ? WIRE_CONFIG :
							WIRE_CONFIG | WIRE_FREE;
	size_t len;

	if (wire_get32(at + WIRE_PACKET_MAGIC) != WIRE_MAGIC ||
	    wire_get32(at + WIRE_PACKET_VERSION) != 1 ||
	    wire_get32(at + WIRE_PACKET_FLAGS) != WIRE_DEVICE_STATE)
		return WRONG("magic, version or flags");
	len = strnlen((const char *)idstr, WIRE_IDSTR_SIZE);
	for (; len < WIRE_IDSTR_SIZE; len++)
		if (idstr[len])
			return WRONG("bytes behind the idstr");
	if (idstr[WIRE_IDSTR_SIZE - 1])
		return WRONG("idstr without an end");
	if (wire_get32(at + WIRE_VFIO_VERSION))
		return WRONG("vfio version");
	if ((flags & ~may) != (digest ? WIRE_DIGEST : 0))
		return WRONG("vfio flags 0x%x", flags);
	if (wire_get32(at + WIRE_PACKET_SIZE) < fields + !(flags & WIRE_CONFIG))
		return WRONG("size %u", wire_get32(at + WIRE_PACKET_SIZE));
	return NULL;
}

/* One packet of at most @len bytes; *@used are its own */
static const char *parse_packet(struct wire_packet *packet, const uint8_t *at,
				size_t len, bool digest, size_t *used)
{
	size_t data = digest ? WIRE_DIGEST_DATA : WIRE_VFIO_DATA;
	const char *wrong;

	if (len < data)
		return WRONG("%zu bytes are no packet", len);
	wrong = check_header(at, digest);
	if (wrong)
		return wrong;
	*used = WIRE_VFIO_VERSION + wire_get32(at + WIRE_PACKET_SIZE);
	if (*used > len)
		return WRONG("%zu bytes of a packet of %zu", len, *used);

	memcpy(packet->idstr, at + WIRE_PACKET_IDSTR, WIRE_IDSTR_SIZE);
	packet->instance = wire_get32(at + WIRE_PACKET_INSTANCE);
	packet->idx = wire_get32(at + WIRE_VFIO_IDX);
	packet->flags = wire_get32(at + WIRE_VFIO_FLAGS);
	packet->data = at + data;
	packet->len = *used - data;
	if (digest && xxh64(packet->data, packet->len) !=
		      wire_get64(at + WIRE_VFIO_DIGEST))
		return WRONG("digest of idx %u", packet->idx);
	return NULL;
}

static bool same_device(const struct wire_packet *a,
			const struct wire_packet *b)
{
	return a->instance == b->instance && !strcmp(a->idstr, b->idstr);
}

static struct wire_packet *more(struct wire_packets *to)
{
	if (!(to->nr & (to->nr - 1))) {
		to->packet = realloc(to->packet, (to->nr ? 2 * to->nr : 1) *
						 sizeof(*to->packet));
		if (!to->packet)
			abort();
	}
	return &to->packet[to->nr];
}

/* Compares the packet behind the last one with its device's one before it */
static const char *check_order(const struct wire_packets *to, size_t first)
{
	const struct wire_packet *packet = &to->packet[to->nr];

	for (size_t i = to->nr; i-- > first;) {
		if (!same_device(&to->packet[i], packet))
			continue;
		if (to->packet[i].idx >= packet->idx)
			return WRONG("idx %u behind %u", packet->idx,
				     to->packet[i].idx);
		break;
	}
	return NULL;
}

/**
 * wire_parse - take a channel apart
 * @to: its packets are added here, in their order
 * @from: all bytes of the channel; the packets' data stays there
 * @uuid: what it must carry
 * @id: what it must carry
 * @digest: was it agreed on?
 *
 * On one channel the idx of a device must grow, else a receiver that loads in
 * order would wait for ever.
 *
 * Return: NULL, or what is wrong.
 */
const char *wire_parse(struct wire_packets *to, const struct wire_bytes *from,
		       const uint8_t *uuid, uint8_t id, bool digest)
{
	const char *wrong = check_init(from, uuid, id);
	size_t first = to->nr, done = WIRE_INIT_SIZE, used;

	for (; !wrong && done < from->len; done += used) {
		wrong = parse_packet(more(to), from->at + done,
				     from->len - done, digest, &used);
		if (!wrong)
			wrong = check_order(to, first);
		to->nr++;
	}
	return wrong;
}

static int by_idx(const void *a, const void *b)
{
	const struct wire_packet *const *x = a, *const *y = b;

	return (*x)->idx < (*y)->idx ? -1 : (*x)->idx > (*y)->idx;
}

static const char *join(struct wire_state *state,
			struct wire_packet *const *packet, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		bool is_config = packet[i]->flags & WIRE_CONFIG;

		if (packet[i]->idx != i)
			return WRONG("idx %u, expected %zu", packet[i]->idx, i);
		if (is_config != (i == nr - 1))
			return WRONG("idx %zu of %zu has flags 0x%x", i, nr,
				     packet[i]->flags);
		wire_add(is_config ? &state->config : &state->data,
			 packet[i]->data, packet[i]->len);
	}
	state->packets = nr;
	return nr ? NULL : WRONG("no packet");
}

/**
 * wire_join - put a device's state together
 * @state: zeroed; wire_state_free() gives it back
 * @from: packets of all channels
 * @idstr: the device
 * @instance: the device
 *
 * Return: NULL, or what is wrong.
 */
const char *wire_join(struct wire_state *state,
		      const struct wire_packets *from, const char *idstr,
		      uint32_t instance)
{
	struct wire_packet wanted = { .instance = instance };
	struct wire_packet **packet;
	const char *wrong;
	size_t nr = 0;

	snprintf(wanted.idstr, sizeof(wanted.idstr), "%s", idstr);
	packet = calloc(from->nr + 1, sizeof(*packet));
	if (!packet)
		abort();
	for (size_t i = 0; i < from->nr; i++)
		if (same_device(&wanted, &from->packet[i]))
			packet[nr++] = &from->packet[i];
	qsort(packet, nr, sizeof(*packet), by_idx);
	wrong = join(state, packet, nr);
	free(packet);
	return wrong;
}

void wire_state_free(struct wire_state *state)
{
	wire_free(&state->data);
	wire_free(&state->config);
}

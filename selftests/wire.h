/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The bytes on a channel, made and taken apart.  This shares no line with the
 * kernel module: a mistake in one of the two shows.
 */
#ifndef SELFTESTS_WIRE_H
#define SELFTESTS_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_MAGIC		0x11223344
#define WIRE_UUID_SIZE		16
#define WIRE_IDSTR_SIZE		256

/* The first bytes of a channel: where things are */
#define WIRE_INIT_MAGIC		0
#define WIRE_INIT_VERSION	4
#define WIRE_INIT_UUID		8
#define WIRE_INIT_ID		24
#define WIRE_INIT_SIZE		64

/* A packet: where things are; the size counts what follows it */
#define WIRE_PACKET_MAGIC	0
#define WIRE_PACKET_VERSION	4
#define WIRE_PACKET_FLAGS	8
#define WIRE_PACKET_IDSTR	12
#define WIRE_PACKET_INSTANCE	268
#define WIRE_PACKET_SIZE	272
#define WIRE_VFIO_VERSION	276
#define WIRE_VFIO_IDX		280
#define WIRE_VFIO_FLAGS		284
#define WIRE_VFIO_DATA		288	/* without a digest */
#define WIRE_VFIO_DIGEST	288	/* with one */
#define WIRE_DIGEST_DATA	296

/* A packet of RAM, or SYNC: where things are; the size counts the data */
#define WIRE_RAM_PAGES		12
#define WIRE_RAM_SIZE		20
#define WIRE_RAM_DATA		1344

/* Flags of a packet, and of its VFIO part */
#define WIRE_SYNC		0x01
#define WIRE_DEVICE_STATE	0x40
#define WIRE_CONFIG		0x01
#define WIRE_DIGEST		0x02
#define WIRE_FREE		0x04

/**
 * struct wire_bytes - bytes that grow
 * @at: the bytes
 * @len: how many
 * @room: how many fit
 */
struct wire_bytes {
	uint8_t *at;
	size_t len;
	size_t room;
};

/**
 * struct wire_packet - one packet
 * @idstr: name of the device
 * @instance: tells namesakes apart
 * @idx: number within the device's stream
 * @flags: WIRE_CONFIG, WIRE_DIGEST, WIRE_FREE
 * @data: what it carries, owned by somebody else
 * @len: bytes of it
 */
struct wire_packet {
	char idstr[WIRE_IDSTR_SIZE];
	uint32_t instance;
	uint32_t idx;
	uint32_t flags;
	const uint8_t *data;
	uint32_t len;
};

/**
 * struct wire_packets - the packets of any number of channels
 * @packet: the packets
 * @nr: how many
 */
struct wire_packets {
	struct wire_packet *packet;
	size_t nr;
};

/**
 * struct wire_state - the state of one device, put together again
 * @data: the stream
 * @config: the config state
 * @packets: how many packets it took, with the config state's
 */
struct wire_state {
	struct wire_bytes data;
	struct wire_bytes config;
	uint32_t packets;
};

void wire_put32(uint8_t *at, uint32_t value);
uint32_t wire_get32(const uint8_t *at);
uint64_t wire_get64(const uint8_t *at);

uint8_t *wire_room(struct wire_bytes *bytes, size_t len);
void wire_add(struct wire_bytes *bytes, const void *from, size_t len);
uint8_t *wire_add_init(struct wire_bytes *bytes, const uint8_t *uuid,
		       uint8_t id);
uint8_t *wire_add_packet(struct wire_bytes *bytes,
			 const struct wire_packet *packet);
uint8_t *wire_add_ram(struct wire_bytes *bytes, uint32_t flags, uint32_t len);
void wire_free(struct wire_bytes *bytes);

const char *wire_parse(struct wire_packets *to, const struct wire_bytes *from,
		       const uint8_t *uuid, uint8_t id, bool digest);
const char *wire_join(struct wire_state *state,
		      const struct wire_packets *from, const char *idstr,
		      uint32_t instance);
void wire_state_free(struct wire_state *state);

#endif /* SELFTESTS_WIRE_H */

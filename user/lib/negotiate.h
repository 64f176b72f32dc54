/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What both ends agree on before anything stops.
 */
#ifndef VMF_NEGOTIATE_H
#define VMF_NEGOTIATE_H

#include "session.h"

enum vmf_hello_flag {
	VMF_HELLO_CONFIG	= 1 << 0,	/* the device has config state */
	VMF_HELLO_ON		= 1 << 1,	/* multifd for it, or nothing */
	VMF_HELLO_OFF		= 1 << 2,	/* no multifd for it */
};

enum vmf_ack_flag {
	VMF_ACK_MAIN		= 1 << 0,	/* the device goes over the main channel */
	VMF_ACK_NO_ENGINE	= 1 << 1,	/* since the destination has no engine */
};

struct vmf_hello_device {
	char idstr[VFIO_MULTIFD_IDSTR_SIZE];
	uint32_t instance_id;
	uint32_t flags;
	struct vmf_identity identity;
};

/**
 * struct vmf_hello - what the source offers
 * @channels: number of channels
 * @packet_size: largest data of a packet, bytes
 * @features: those that the source would use
 * @uuid: names the transfer
 * @devices: number of entries in @device
 * @device: the source's devices, in its order
 */
struct vmf_hello {
	uint32_t channels;
	uint32_t packet_size;
	uint64_t features;
	uint8_t uuid[VFIO_MULTIFD_UUID_SIZE];
	uint32_t devices;
	struct vmf_hello_device device[VFIO_MULTIFD_MAX_DEVICES];
};

bool vmf_negotiate_name_ok(const char idstr[static VFIO_MULTIFD_IDSTR_SIZE]);
bool vmf_negotiate_same_name(const char *a, uint32_t a_instance,
			     const char *b, uint32_t b_instance);

/* Source: puts HELLO into session->out, with a new uuid, which it returns. */
int vmf_negotiate_put_hello(struct vmf_session *session,
			    uint8_t uuid[static VFIO_MULTIFD_UUID_SIZE]);

/* Destination: takes HELLO apart. */
int vmf_negotiate_get_hello(struct vmf_session *session,
			    struct vmf_hello *hello);

/*
 * Destination: fails, in words that suit both ends, unless it can do what the
 * source offers.  Else @map gives the number of the destination's device for
 * each of the source's, and session->report what was agreed on.
 */
int vmf_negotiate_match(struct vmf_session *session,
			const struct vmf_hello *hello,
			uint32_t map[static VFIO_MULTIFD_MAX_DEVICES]);

/* Destination: sends HELLO_ACK.  Source: takes it apart. */
int vmf_negotiate_send_ack(struct vmf_session *session);
int vmf_negotiate_get_ack(struct vmf_session *session);

/* All devices are known to the engine that will be. */
int vmf_negotiate_seal(struct vmf_session *session);

/* Hands what was agreed on to the engine. */
int vmf_negotiate_setup(struct vmf_session *session,
			const uint8_t uuid[static VFIO_MULTIFD_UUID_SIZE]);

#endif /* VMF_NEGOTIATE_H */

/* SPDX-License-Identifier: GPL-2.0-only */
/* What the hostile peer and the stand-ins for devices and engine share */
#ifndef SELFTESTS_HOSTILE_PEER_H
#define SELFTESTS_HOSTILE_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "compat.h"
#include "message.h"
#include "negotiate.h"

#define DEVICES		3
#define CHANNELS	2
#define BYTES		8192	/* of each device, in two packets */
#define NONE		1000	/* no message is changed */

/**
 * struct hostile - the transfer that runs
 * @sending: the library is the source
 * @breaks: the engine fails
 * @victim: the peer's message that is changed
 * @said: messages of the peer so far
 * @asked: how often for the last device's status
 * @listener: the peer's, where the library is the source
 * @peer: the peer's end of the main channel
 * @channels: its ends of the others
 * @problem: what is wrong, or ""
 */
struct hostile {
	bool sending;
	bool breaks;
	unsigned int victim;
	unsigned int said;
	unsigned int asked;
	int listener;
	int peer;
	int channels[CHANNELS];
	char problem[256];
};

extern struct hostile hostile;
extern const struct vmf_identity hostile_identity;

uint32_t hostile_any(uint32_t below);
void hostile_say(enum vmf_message_type type);
void hostile_open_channels(void);

#endif /* SELFTESTS_HOSTILE_PEER_H */

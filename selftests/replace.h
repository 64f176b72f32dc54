/* SPDX-License-Identifier: GPL-2.0-only */
/* What the owners of two transfers do about a connection that is lost */
#ifndef SELFTESTS_REPLACE_H
#define SELFTESTS_REPLACE_H

#include <stdbool.h>
#include <stdint.h>
#include <linux/vfio_multifd.h>

#include "engine.h"

int replace_hand_over(const struct engine *engine, int sock, uint32_t id,
		      uint64_t packets);
int replace_hand_over_soon(const struct engine *engine, int sock, uint32_t id,
			   uint64_t packets);
int replace_give_up(const struct engine *engine, uint32_t id);
bool replace_wait_lost(const struct engine *engine, uint32_t id,
		       struct vfio_multifd_channel_status *channel);
bool replace_is_done(const struct engine *engine);
int replace_channel(struct engine *source, struct engine *destination,
		    uint32_t id, int sock[2], int buffer);

#endif /* SELFTESTS_REPLACE_H */

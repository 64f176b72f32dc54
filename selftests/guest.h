/* SPDX-License-Identifier: GPL-2.0-only */
/* The guest of the reference VMM: devices, memory, and a vCPU per device */
#ifndef SELFTESTS_GUEST_H
#define SELFTESTS_GUEST_H

#include <pthread.h>
#include <stdatomic.h>

#include "config.h"
#include "vfio.h"

#define GUEST_MAX_DEVICES	64

/**
 * struct guest_device - a device and the vCPU that works with it
 * @vfio: the device
 * @name: idstr
 * @options: more for the helper, or NULL
 * @config: what the VMM itself knows of the device
 * @seed: of all that the vCPU writes
 * @vcpu: writes to the device until @pause
 * @pause: tells @vcpu to end
 * @stores: how many @vcpu made
 * @error: what stopped @vcpu early
 */
struct guest_device {
	struct vfio_device vfio;
	char name[64];
	const char *options;
	struct config config;
	uint64_t seed;
	pthread_t vcpu;
	atomic_bool pause;
	uint64_t stores;
	int error;
};

struct guest {
	struct vfio_container container;
	unsigned int count;
	struct guest_device device[GUEST_MAX_DEVICES];
};

int guest_open(struct guest *guest);
int guest_fill(struct guest *guest, uint64_t seed);
int guest_run(struct guest *guest);
int guest_pause(struct guest *guest);
int guest_digest(struct guest_device *device, bool config, uint64_t *digest);

#endif /* SELFTESTS_GUEST_H */

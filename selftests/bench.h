/* SPDX-License-Identifier: GPL-2.0-only */
/* What the contenders of the benchmark share */
#ifndef SELFTESTS_BENCH_H
#define SELFTESTS_BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <linux/vfio_multifd.h>

#define BENCH_DEVICES	8		/* at most */
#define BENCH_PACKET	0x100000	/* bytes of data, at most */

/**
 * struct bench - one run: devices' state on its way from host to host
 * @features: for the engine
 * @channels: number of connections
 * @devices: number of devices
 * @sent: the source's ends of the connections
 * @received: the destination's ends of them
 * @load_fd: data fds at the destination, in RESUMING
 */
struct bench {
	uint64_t features;
	unsigned int channels;
	unsigned int devices;
	int sent[VFIO_MULTIFD_MAX_CHANNELS];
	int received[VFIO_MULTIFD_MAX_CHANNELS];
	int load_fd[BENCH_DEVICES];
};

/**
 * struct bench_contender - a way to stream; a failure ends the program
 * @prepare: does all that can be done before the source stops
 * @add: begins to move what is in the data fd of a device, which counts from 0
 * @finish: returns when all of it is in the destination's data fds
 * @memory: bytes for data that the destination, or the source, has had at the same
 *	time, at most; NULL if nothing gets there
 */
struct bench_contender {
	void (*prepare)(const struct bench *bench);
	void (*add)(unsigned int device, int save_fd);
	void (*finish)(void);
	uint64_t (*memory)(bool source);
};

extern const struct bench_contender bench_kernel;
extern const struct bench_contender bench_user;
extern const struct bench_contender bench_copy;

/* Milliseconds: of the clock, and for how long this machine's CPUs were not idle */
double bench_now(void);
double bench_cpu(void);

#endif /* SELFTESTS_BENCH_H */

/* SPDX-License-Identifier: GPL-2.0-only */
/* What the contenders of the benchmark share */
#ifndef SELFTESTS_BENCH_H
#define SELFTESTS_BENCH_H

#include <stdint.h>

#define BENCH_CHANNELS	4
#define BENCH_PACKET	0x100000	/* bytes of data, at most */

/**
 * struct bench - one run: a device's state on its way from host to host
 * @features: for the engine
 * @sent: the source's ends of the connections
 * @received: the destination's ends of them
 * @load_fd: data fd at the destination, in RESUMING
 */
struct bench {
	uint64_t features;
	int sent[BENCH_CHANNELS];
	int received[BENCH_CHANNELS];
	int load_fd;
};

/**
 * struct bench_contender - a way to stream; a failure ends the program
 * @prepare: does all that can be done before the source stops
 * @send: a thread per channel at the source
 * @receive: a thread per channel at the destination
 * @go: lets the threads move what is in @save_fd; they run already
 */
struct bench_contender {
	void (*prepare)(const struct bench *bench);
	void (*send)(unsigned int channel);
	void (*receive)(unsigned int channel);
	void (*go)(int save_fd);
};

extern const struct bench_contender bench_kernel;
extern const struct bench_contender bench_user;

#endif /* SELFTESTS_BENCH_H */

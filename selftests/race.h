/* SPDX-License-Identifier: GPL-2.0-only */
/* What the races share: what they leave behind, and two transfers that are joined */
#ifndef SELFTESTS_RACE_H
#define SELFTESTS_RACE_H

#include "engine.h"

#define RACE_CHANNELS	2

#define RACE_MODULES	2	/* the engine's and the driver's */

/**
 * struct race - what every test stands on
 * @modules: number of modules that are in use, of those above
 * @hold: a transfer that keeps the engine in use
 * @users: use counts before the test
 * @sockets: number of TCP sockets before it
 * @thread: tries to unload the modules all the time
 * @tries: how often that was refused
 * @unloaded: it was not
 * @stop: no more of that
 */
struct race {
	unsigned int modules;
	int hold;
	int users[RACE_MODULES];
	unsigned int sockets;
	pthread_t thread;
	unsigned int tries;
	bool unloaded;
	volatile bool stop;
};

void race_begin(struct race *race, bool driver);
const char *race_stop(struct race *race);
const char *race_end(struct race *race);

/* In FIXTURE_TEARDOWN(): all is as before, and works */
#define RACE_END(race) do {						\
	const char *_left = race_end(race);				\
									\
	EXPECT_STREQ("", _left ? _left : "");				\
} while (0)

/* A fixture of @race, @pair and @dev: a pair of devices, for races on the target */
#define RACE_PAIR_SETUP() do {						\
	ENGINE_NEEDED();						\
	TESTING_SETUP(pair_open(&self->pair, &vfio_ivshmem_1m));	\
	self->dev = &self->pair.target;					\
	race_begin(&self->race, true);					\
} while (0)

#define RACE_PAIR_TEARDOWN() do {					\
	const char *_broken;						\
									\
	EXPECT_EQ(0, vfio_device_reset(self->dev));			\
	_broken = pair_try(&self->pair);				\
	EXPECT_STREQ("", _broken ? _broken : "");			\
	RACE_END(&self->race);						\
	pair_close(&self->pair);					\
} while (0)

bool race_faults(volatile uint64_t *word, const uint64_t *store);

/**
 * struct race_link - a source and a destination, and what is between them
 * @from: the sending transfer
 * @to: the receiving one
 * @sock: the owner's fds of each channel's ends, first the sender's
 */
struct race_link {
	struct engine from;
	struct engine to;
	int sock[RACE_CHANNELS][2];
};

int race_link_open(struct race_link *link, uint64_t features, bool ipv6);
int race_link_start(struct race_link *link, uint32_t flags, int from, int to);
int race_link_join(struct race_link *link, unsigned int ms);
void race_link_close(struct race_link *link);

/* Two threads that do something at the same moment; each returns an errno */
struct race_two {
	int (*call)(void *arg);
	void *arg[2];
	int ret[2];
};

void race_two(struct race_two *two);

/* An fd's way through a unix socket */
int race_send_fd(int sock, int fd);
int race_receive_fd(int sock);

#endif /* SELFTESTS_RACE_H */

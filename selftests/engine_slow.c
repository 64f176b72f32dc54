// SPDX-License-Identifier: GPL-2.0-only
/* One slow channel holds up one packet, not a share of the state */
#include <sys/socket.h>

#include "harness.h"
#include "engine.h"

#define FAST		3		/* channels at full rate */
#define RATE		(4 << 20)	/* bytes per second of each */
#define BYTES		(48 << 20)
#define SMALL		4096		/* buffers of the slow channel */
#define ATTEMPTS	3		/* other machines may be busy as well */

/* Takes what comes to a peer, at most @rate bytes per second */
struct drain {
	pthread_t thread;
	int sock;
	uint64_t rate;
	uint64_t bytes;
};

static void *drain(void *arg)
{
	struct drain *drain = arg;
	uint64_t start = engine_now();
	size_t chunk = drain->rate == RATE ? 65536 : 512;
	ssize_t len;

	/* TCP throws the bytes away */
	while ((len = recv(drain->sock, NULL, chunk, MSG_TRUNC)) > 0) {
		drain->bytes += len;
		while ((engine_now() - start) / 1000 * drain->rate / 1000000 <
		       drain->bytes)
			usleep(1000);
	}
	return NULL;
}

struct run {
	struct engine engine;
	struct drain drain[FAST + 1];
	int file;
};

FIXTURE(slow) {
	struct run run;
};

FIXTURE_SETUP(slow)
{
	self->run.engine.fd = -1;
	ENGINE_NEEDED();
	self->run.file = engine_memfd(NULL, 0);
	ASSERT_EQ(0, ftruncate(self->run.file, BYTES));
}

FIXTURE_TEARDOWN(slow)
{
	engine_destroy(&self->run.engine);
	close(self->run.file);
}

static int start(struct run *run, unsigned int channels)
{
	struct engine *engine = &run->engine;
	int ret;

	ret = engine_begin(engine, VFIO_MULTIFD_SEND, channels, 0,
			   ENGINE_PACKET);
	for (unsigned int i = 0; !ret && i < channels; i++)
		ret = engine_connect(engine, i < FAST ? 0 : SMALL);
	if (!ret)
		ret = engine_add_device(engine->fd, run->file, "dev", 0);
	if (!ret)
		ret = engine_set_config(engine->fd, 0, NULL, 0);
	for (unsigned int i = 0; !ret && i < channels; i++) {
		struct drain *one = &run->drain[i];

		*one = (struct drain) {
			.sock = engine->channel[i].sock,
			.rate = i < FAST ? RATE : RATE / 100,
		};
		if (pthread_create(&one->thread, NULL, drain, one))
			abort();
	}
	return ret;
}

/* Returns milliseconds until all peers have all, or a negative errno */
static int measure(struct run *run, unsigned int channels)
{
	uint64_t began;
	int ret;

	ret = start(run, channels);
	if (ret)
		return ret;
	began = engine_now();
	engine_start_all(&run->engine);
	ret = engine_switchover(run->engine.fd);
	ret = engine_join_all(&run->engine) ?: ret;
	engine_close(&run->engine);
	for (unsigned int i = 0; i < channels; i++)
		pthread_join(run->drain[i].thread, NULL);
	began = engine_now() - began;
	engine_destroy(&run->engine);
	return ret ?: (int)(began / 1000000);
}

/* Three channels, and with a fourth that has a hundredth of their rate */
TEST_F(slow, channel)
{
	int without, with = 0;

	for (unsigned int i = 0; i < ATTEMPTS; i++) {
		without = measure(&self->run, FAST);
		ASSERT_LT(0, without);
		with = measure(&self->run, FAST + 1);
		ASSERT_LT(0, with);
		TH_LOG("%d ms, with the slow channel %d ms, it had %ju bytes",
		       without, with, (uintmax_t)self->run.drain[FAST].bytes);
		/* it did take part */
		EXPECT_LT(ENGINE_PACKET, self->run.drain[FAST].bytes);
		if (with * 10 < without * 12)
			break;
	}
	EXPECT_LT(with * 10, without * 12);
}

TEST_HARNESS_MAIN

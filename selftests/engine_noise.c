// SPDX-License-Identifier: GPL-2.0-only
/* A receiver that gets nonsense: it ends, and takes no memory for it */
#include <sys/socket.h>
#include <sys/sysinfo.h>

#include "harness.h"
#include "engine.h"
#include "vfio.h"

FIXTURE(noise) {
	struct engine engine;
	int file;
};

FIXTURE_SETUP(noise)
{
	self->engine.fd = -1;
	ENGINE_NEEDED();
	self->file = engine_memfd(NULL, 0);
	ASSERT_LE(0, self->file);
}

FIXTURE_TEARDOWN(noise)
{
	engine_destroy(&self->engine);
	close(self->file);
}

/* Bytes of two channels with anything wrong: changed, lost, doubled */
static void add_noise(struct engine *engine, uint64_t *dice)
{
	for (uint32_t idx = 0; idx < 8; idx++)
		engine_add(engine, vfio_random(dice) % 2, idx,
			   idx == 7 ? WIRE_CONFIG : 0, engine_uuid, 16);
	for (unsigned int i = 0; i < 2; i++) {
		struct wire_bytes *bytes = &engine->channel[i].bytes;
		size_t at = vfio_random(dice) % bytes->len;
		size_t some = vfio_random(dice) % (bytes->len - at);

		switch (vfio_random(dice) % 4) {
		case 0:
			bytes->at[at] ^= 1 << vfio_random(dice) % 8;
			break;
		case 1:
			memmove(bytes->at + at, bytes->at + at + some,
				bytes->len - at - some);
			bytes->len -= some;
			break;
		case 2:
			wire_room(bytes, some);
			wire_add(bytes, bytes->at + at, some);
			break;
		}
	}
}

/* Whatever comes, a transfer ends when its channels do */
TEST_F(noise, ends)
{
	struct engine *engine = &self->engine;
	unsigned int done = 0, failed = 0;
	struct vfio_multifd_status status;
	uint64_t dice = 11;

	for (unsigned int i = 0; i < 300; i++) {
		ASSERT_EQ(0, engine_create_sealed(engine, self->file, 2,
						  i % 2 ? VFIO_MULTIFD_FEATURE_DIGEST : 0));
		add_noise(engine, &dice);
		engine_start_all(engine);
		for (unsigned int j = 0; j < 2; j++) {
			/* it may have failed by now */
			engine_put(&engine->channel[j]);
			shutdown(engine->channel[j].sock, SHUT_WR);
		}
		engine_join_all(engine);
		ASSERT_EQ(0, engine_status(engine->fd, &status));
		done += status.state == VFIO_MULTIFD_STATE_DONE;
		failed += status.state == VFIO_MULTIFD_STATE_FAILED;
		engine_destroy(engine);
		ASSERT_EQ(0, ftruncate(self->file, 0));
	}
	EXPECT_EQ(300, done + failed);
	EXPECT_LT(50, failed);
}

static size_t free_memory(void)
{
	struct sysinfo info;

	return sysinfo(&info) ? 0 : (size_t)info.freeram * info.mem_unit;
}

/* What a header claims is not allocated, what cannot come is not kept */
TEST_F(noise, memory)
{
	struct engine *engine = &self->engine;
	size_t before = free_memory(), during;
	uint8_t *at;

	ASSERT_EQ(0, engine_create_sealed(&self->engine, self->file, 64, 0));
	for (unsigned int i = 0; i < 64; i++)
		engine_add(engine, i, (1 << 24) - 2 - i, 0, "x", 1);
	at = engine_add(engine, 0, 0, WIRE_CONFIG, "x", 1);
	wire_put32(at + WIRE_PACKET_SIZE, 0xfffffff0);
	for (unsigned int i = 0; i < engine->channels; i++)
		ASSERT_EQ(0, engine_put(&engine->channel[i]));
	engine_start_all(engine);
	EXPECT_EQ(-EPROTO, engine_join_all(engine));
	during = free_memory();
	EXPECT_GT(32 << 20, (ssize_t)(before - during));
}

TEST_F(noise, nothing_left)
{
	EXPECT_TRUE(engine_wait_unused());
}

TEST_HARNESS_MAIN

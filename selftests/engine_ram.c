// SPDX-License-Identifier: GPL-2.0-only
/* A receiver of channels that carry a VMM's RAM as well */
#include <signal.h>
#include <sys/socket.h>

#include "harness.h"
#include "engine.h"
#include "vfio.h"

#define LEN		(3 * ENGINE_PACKET)
#define MOST		(128 * 4096)	/* of data in a packet of RAM */

FIXTURE(ram) {
	struct engine engine;
	uint8_t *data;
	int file;
};

FIXTURE_SETUP(ram)
{
	self->engine.fd = -1;
	ENGINE_NEEDED();
	self->data = engine_pattern(LEN, 1);
	self->file = engine_memfd(NULL, 0);
	ASSERT_LE(0, self->file);
}

FIXTURE_TEARDOWN(ram)
{
	engine_destroy(&self->engine);
	close(self->file);
	free(self->data);
}

static void create(struct __test_metadata *_metadata, struct engine *engine,
		   unsigned int channels, int file)
{
	ASSERT_EQ(0, engine_create_skipper(engine, channels, ENGINE_PACKET));
	ASSERT_EQ(0, engine_add_device(engine->fd, file, "dev", 0));
	engine_add_inits(engine);
}

static uint8_t *add_ram(struct engine *engine, unsigned int channel,
			uint32_t flags, uint32_t len)
{
	return wire_add_ram(&engine->channel[channel].bytes, flags, len);
}

static void check_loaded(struct __test_metadata *_metadata,
			 FIXTURE_DATA(ram) const *self)
{
	uint32_t size = 1;
	char config;

	EXPECT_TRUE(engine_wait_state(self->engine.fd,
				      VFIO_MULTIFD_STATE_DONE));
	EXPECT_TRUE(engine_file_has(self->file, self->data, LEN));
	EXPECT_EQ(0, engine_get_config(self->engine.fd, 0, &config, &size));
	EXPECT_EQ('c', config);
}

/* Before, between and behind the packets of a device */
TEST_F(ram, skipped)
{
	static const uint32_t lens[] = { 4096, 0, MOST };
	struct engine *engine = &self->engine;

	create(_metadata, engine, 2, self->file);
	for (uint32_t i = 0; i < 3; i++) {
		add_ram(engine, i % 2, 0, lens[i]);
		add_ram(engine, i % 2, WIRE_SYNC, 0);
		engine_add(engine, i % 2, i, 0, self->data + i * ENGINE_PACKET,
			   ENGINE_PACKET);
	}
	engine_add(engine, 0, 3, WIRE_CONFIG, "c", 1);
	add_ram(engine, 0, WIRE_SYNC, 0);
	ASSERT_EQ(0, engine_switchover(engine->fd));
	engine_start_all(engine);
	ASSERT_EQ(0, engine_put(&engine->channel[1]));
	ASSERT_EQ(0, engine_put(&engine->channel[0]));
	EXPECT_EQ(0, engine_join_all(engine));
	check_loaded(_metadata, self);
}

static void *flood(void *arg)
{
	struct engine_channel *channel = arg;
	struct wire_bytes ram = {};

	wire_add_ram(&ram, 0, MOST);
	while (send(channel->sock, ram.at, ram.len, MSG_NOSIGNAL) > 0)
		;
	wire_free(&ram);
	return NULL;
}

/* Who goes on with it keeps nobody busy when all else is there. */
TEST_F(ram, flood)
{
	struct engine *engine = &self->engine;
	pthread_t thread;

	create(_metadata, engine, 2, self->file);
	for (uint32_t i = 0; i < 3; i++)
		engine_add(engine, 1, i, 0, self->data + i * ENGINE_PACKET,
			   ENGINE_PACKET);
	engine_add(engine, 1, 3, WIRE_CONFIG, "c", 1);
	ASSERT_EQ(0, engine_switchover(engine->fd));
	ASSERT_EQ(0, engine_put(&engine->channel[0]));
	ASSERT_EQ(0, pthread_create(&thread, NULL, flood, &engine->channel[0]));
	engine_start_all(engine);
	usleep(300000);
	ASSERT_EQ(0, engine_put(&engine->channel[1]));
	EXPECT_EQ(0, engine_join_all(engine));
	check_loaded(_metadata, self);
	engine_close(engine);
	pthread_join(thread, NULL);
}

static void interrupt(int sig)
{
	(void)sig;
}

/* Signals find the receiver in the middle of it, many times */
TEST_F(ram, signals)
{
	struct sigaction action = { .sa_handler = interrupt };
	struct engine *engine = &self->engine;
	struct engine_channel *channel = &engine->channel[0];

	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	create(_metadata, engine, 1, self->file);
	add_ram(engine, 0, WIRE_SYNC, 30000);
	for (uint32_t i = 0; i < 3; i++)
		engine_add(engine, 0, i, 0, self->data + i * ENGINE_PACKET,
			   ENGINE_PACKET);
	engine_add(engine, 0, 3, WIRE_CONFIG, "c", 1);
	ASSERT_EQ(0, engine_switchover(engine->fd));
	engine_start_all(engine);
	for (size_t done = 0; done < channel->bytes.len; done += 100) {
		size_t len = channel->bytes.len - done;

		ASSERT_LT(0, send(channel->sock, channel->bytes.at + done,
				  len < 100 ? len : 100, MSG_NOSIGNAL));
		usleep(500);
		pthread_kill(channel->thread, SIGUSR1);
	}
	EXPECT_EQ(0, engine_join_all(engine));
	EXPECT_LT(10, channel->interrupted);
	check_loaded(_metadata, self);
}

static void refused(struct __test_metadata *_metadata, struct engine *engine,
		    int file, size_t at, uint32_t value,
		    const struct vfio_multifd_status *want)
{
	struct vfio_multifd_status status;
	uint8_t *ram;

	create(_metadata, engine, 1, file);
	ram = add_ram(engine, 0, 0, 4096);
	wire_put32(ram + at, value);
	ASSERT_EQ(0, engine_put(&engine->channel[0]));
	engine_start_all(engine);
	EXPECT_EQ(-EPROTO, engine_join_all(engine));
	ASSERT_EQ(0, engine_status(engine->fd, &status));
	EXPECT_EQ(want->reason, status.reason);
	EXPECT_EQ(VFIO_MULTIFD_NO_INDEX, status.device);
	EXPECT_EQ(want->expected, status.expected);
	EXPECT_EQ(want->got, status.got);
	engine_destroy(engine);
}

TEST_F(ram, refused)
{
	const struct {
		size_t at;
		uint32_t value;
		struct vfio_multifd_status want;
	} cases[] = {
#define CASE(at, value, why, want, is)					\
		{ at, value, { .reason = VFIO_MULTIFD_REASON_##why,	\
			       .expected = want, .got = is } }
		CASE(WIRE_RAM_SIZE, MOST + 1, LENGTH, MOST, MOST + 1),
		CASE(WIRE_RAM_SIZE, ~0u, LENGTH, MOST, ~0u),
		/* zlib; sync and device state */
		CASE(WIRE_PACKET_FLAGS, 2, FLAGS, 0x40, 2),
		CASE(WIRE_PACKET_FLAGS, 0x41, FLAGS, 0x40, 0x41),
		CASE(WIRE_PACKET_MAGIC, 1, MAGIC, WIRE_MAGIC, 1),
	};

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		refused(_metadata, &self->engine, self->file, cases[i].at,
			cases[i].value, &cases[i].want);
}

/* Who sends has no use for it. */
TEST_F(ram, send)
{
	self->engine.fd = engine_open();
	ASSERT_LE(0, self->engine.fd);
	EXPECT_EQ(-EINVAL, engine_setup_with(self->engine.fd,
					     VFIO_MULTIFD_SETUP_SKIP_RAM,
					     VFIO_MULTIFD_SEND, 1, 0, 4096));
}

TEST_HARNESS_MAIN

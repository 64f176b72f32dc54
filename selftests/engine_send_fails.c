// SPDX-License-Identifier: GPL-2.0-only
/* A sender whose device or peer fails, and what it says about it */
#include <fcntl.h>
#include <sys/socket.h>

#include "harness.h"
#include "engine.h"

FIXTURE(fails) {
	struct engine engine;
};

FIXTURE_SETUP(fails)
{
	self->engine.fd = -1;
	ENGINE_NEEDED();
}

FIXTURE_TEARDOWN(fails)
{
	engine_destroy(&self->engine);
}

static void reset(int sock)
{
	struct linger linger = { .l_onoff = 1 };

	setsockopt(sock, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(sock);
}

/* A terminal whose other side went cannot be read */
TEST_F(fails, read_fails_at_once)
{
	struct engine *engine = &self->engine;
	struct vfio_multifd_status status;
	int terminal = posix_openpt(O_RDWR | O_NOCTTY);

	if (terminal < 0 || unlockpt(terminal))
		SKIP(return, "no terminal: %s", strerror(errno));
	close(open(ptsname(terminal), O_RDWR | O_NOCTTY));
	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_SEND, 2, 0,
				   ENGINE_PACKET, 0));
	ASSERT_EQ(0, engine_add_device(engine->fd, terminal, "dev", 0));
	close(terminal);
	engine_start_all(engine);
	EXPECT_EQ(-EIO, engine_join_all(engine));
	ASSERT_EQ(0, engine_status(engine->fd, &status));
	EXPECT_EQ(VFIO_MULTIFD_STATE_FAILED, status.state);
	EXPECT_EQ(VFIO_MULTIFD_REASON_DEVICE_READ, status.reason);
	EXPECT_EQ(-EIO, status.error);
	EXPECT_EQ(0, status.device);
	EXPECT_EQ(VFIO_MULTIFD_NO_INDEX, status.idx);
}

/* A pipe that is empty and must not wait */
TEST_F(fails, read_fails_later)
{
	struct engine *engine = &self->engine;
	struct vfio_multifd_status status;
	static uint8_t data[5000];
	int pipes[2];

	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_SEND, 1, 0,
				   ENGINE_PACKET, 0));
	ASSERT_EQ(0, pipe2(pipes, O_NONBLOCK));
	ASSERT_EQ(0, engine_add_device(engine->fd, pipes[0], "dev", 0));
	close(pipes[0]);
	ASSERT_EQ(5000, write(pipes[1], data, 5000));
	EXPECT_EQ(-EAGAIN, engine_run(engine->fd, 0));
	ASSERT_EQ(0, engine_status(engine->fd, &status));
	EXPECT_EQ(VFIO_MULTIFD_REASON_DEVICE_READ, status.reason);
	EXPECT_EQ(-EAGAIN, status.error);
	EXPECT_EQ(0, status.device);
	EXPECT_EQ(0, status.channel);
	EXPECT_EQ(5000, status.bytes);
	EXPECT_EQ(2, status.packets);
	close(pipes[1]);
}

/* Starts two channels with a device that has no end */
static int start_endless(struct engine *engine)
{
	int file = open("/dev/zero", O_RDONLY);
	int ret;

	ret = engine_create(engine, VFIO_MULTIFD_SEND, 2, 0, ENGINE_PACKET, 0);
	if (!ret)
		ret = engine_add_device(engine->fd, file, "dev", 0);
	close(file);
	if (!ret) {
		engine_start_all(engine);
		engine_wait_inits(engine);
	}
	return ret;
}

static void check_cut(struct __test_metadata *_metadata, struct engine *engine,
		      uint32_t channel)
{
	struct vfio_multifd_status status;
	int ret = engine_join_all(engine);

	EXPECT_TRUE(ret == -ECONNRESET || ret == -EPIPE) {
		TH_LOG("RUN_CHANNEL: %d", ret);
	}
	ASSERT_EQ(0, engine_status(engine->fd, &status));
	EXPECT_EQ(VFIO_MULTIFD_STATE_FAILED, status.state);
	EXPECT_EQ(VFIO_MULTIFD_REASON_SOCKET, status.reason);
	EXPECT_EQ(ret, status.error);
	EXPECT_EQ(channel, status.channel);
	EXPECT_EQ(0, status.device);
	EXPECT_NE(VFIO_MULTIFD_NO_INDEX, status.idx);
}

TEST_F(fails, peer_resets)
{
	for (unsigned int i = 0; i < 2; i++) {
		ASSERT_EQ(0, start_endless(&self->engine));
		ASSERT_TRUE(engine_wait_packets(self->engine.fd, 10));
		reset(self->engine.channel[i].sock);
		self->engine.channel[i].sock = -1;
		check_cut(_metadata, &self->engine, i);
		engine_destroy(&self->engine);
	}
}

TEST_F(fails, peer_closes)
{
	for (unsigned int i = 0; i < 2; i++) {
		ASSERT_EQ(0, start_endless(&self->engine));
		ASSERT_TRUE(engine_wait_packets(self->engine.fd, 10));
		close(self->engine.channel[i].sock);
		self->engine.channel[i].sock = -1;
		check_cut(_metadata, &self->engine, i);
		engine_destroy(&self->engine);
	}
}

TEST_F(fails, nothing_left)
{
	EXPECT_TRUE(engine_wait_unused());
}

TEST_HARNESS_MAIN

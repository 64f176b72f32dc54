// SPDX-License-Identifier: GPL-2.0-only
/* The engine as the receiver: what it makes of good packets */
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "harness.h"
#include "engine.h"
#include "vfio.h"

#define DIGEST		VFIO_MULTIFD_FEATURE_DIGEST

FIXTURE(receive) {
	struct engine engine;
	int file;
};

FIXTURE_SETUP(receive)
{
	self->engine.fd = -1;
	ENGINE_NEEDED();
	self->file = engine_memfd(NULL, 0);
	ASSERT_LE(0, self->file);
}

FIXTURE_TEARDOWN(receive)
{
	engine_destroy(&self->engine);
	close(self->file);
}

/* Sends what is there, the last channel first, and lets it be loaded */
static void load(struct __test_metadata *_metadata, struct engine *engine)
{
	for (unsigned int i = engine->channels; i--;)
		ASSERT_EQ(0, engine_put(&engine->channel[i]));
	engine_start_all(engine);
	ASSERT_EQ(0, engine_switchover(engine->fd));
	ASSERT_EQ(0, engine_join_all(engine));
	EXPECT_TRUE(engine_wait_state(engine->fd, VFIO_MULTIFD_STATE_DONE));
}

TEST_F(receive, one_channel)
{
	uint8_t *data = engine_pattern(10000, 1);
	struct vfio_multifd_status status;
	uint32_t size = 6;
	char config[6];

	ASSERT_EQ(0, engine_create_receiver(&self->engine, self->file, 1, 0));
	engine_add(&self->engine, 0, 0, 0, data, 4096);
	engine_add(&self->engine, 0, 1, 0, data + 4096, 1);
	engine_add(&self->engine, 0, 2, 0, data + 4097, 4096);
	engine_add(&self->engine, 0, 3, 0, data + 8193, 10000 - 8193);
	engine_add(&self->engine, 0, 4, WIRE_CONFIG, "config", 6);
	load(_metadata, &self->engine);
	EXPECT_TRUE(engine_file_has(self->file, data, 10000));
	EXPECT_EQ(0, engine_get_config(self->engine.fd, 0, config, &size));
	EXPECT_EQ(6, size);
	EXPECT_EQ(0, memcmp(config, "config", 6));
	ASSERT_EQ(0, engine_status(self->engine.fd, &status));
	EXPECT_EQ(10000, status.bytes);
	EXPECT_EQ(5, status.packets);
	EXPECT_EQ(1, status.devices_done);
	free(data);
}

/* All bytes are there, on one channel long before the other's */
TEST_F(receive, many_channels)
{
	static const unsigned int channels[] = { 2, 3, 16, 64 };
	const uint32_t nr = 500, len = 100;
	uint8_t *data = engine_pattern(nr * len, 2);
	uint64_t dice = 3;

	for (unsigned int i = 0; i < 2 * 4; i++) {
		unsigned int some = channels[i / 2];

		ASSERT_EQ(0, engine_create_receiver(&self->engine, self->file, some,
						    i % 2 ? DIGEST : 0));
		for (uint32_t idx = 0; idx < nr; idx++)
			engine_add(&self->engine, vfio_random(&dice) % some,
				   idx, 0, data + idx * len, len);
		engine_add(&self->engine, vfio_random(&dice) % some, nr,
			   WIRE_CONFIG, NULL, 0);
		load(_metadata, &self->engine);
		EXPECT_TRUE(engine_file_has(self->file, data, nr * len));
		engine_destroy(&self->engine);
		ASSERT_EQ(0, ftruncate(self->file, 0));
	}
	free(data);
}

/* A packet may come before its device, which may come as the last one */
TEST_F(receive, late_device)
{
	struct engine *engine = &self->engine;
	struct vfio_multifd_status status;

	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_RECV, 2, 0,
				   ENGINE_PACKET, 0));
	engine_add_inits(engine);
	engine_add(engine, 0, 0, 0, "abc", 3);
	engine_add(engine, 1, 1, WIRE_CONFIG, "d", 1);
	for (unsigned int i = 0; i < 2; i++)
		ASSERT_EQ(0, engine_put(&engine->channel[i]));
	engine_start_all(engine);
	EXPECT_TRUE(engine_wait_asleep(engine));
	ASSERT_EQ(0, engine_status(engine->fd, &status));
	EXPECT_EQ(VFIO_MULTIFD_STATE_READY, status.state);
	EXPECT_EQ(0, status.packets);
	ASSERT_EQ(0, engine_add_device(engine->fd, self->file, "dev", 0));
	EXPECT_TRUE(engine_wait_packets(engine->fd, 2));
	EXPECT_TRUE(engine_wait_state(engine->fd, VFIO_MULTIFD_STATE_READY));
	ASSERT_EQ(0, engine_switchover(engine->fd));
	ASSERT_EQ(0, engine_join_all(engine));
	EXPECT_TRUE(engine_file_has(self->file, "abc", 3));
}

/* What comes behind a packet that has to wait for its turn stays with TCP. */
TEST_F(receive, held_back)
{
	uint8_t *data = engine_pattern(4 * ENGINE_PACKET, 6);
	struct vfio_multifd_channel_status status;
	struct engine *engine = &self->engine;
	size_t behind = 0;
	int pair[2], left;

	ASSERT_EQ(0, engine_begin(engine, VFIO_MULTIFD_RECV, 2, 0,
				  ENGINE_PACKET));
	ASSERT_EQ(0, engine_add_device(engine->fd, self->file, "dev", 0));
	ASSERT_EQ(0, engine_connect(engine, 0));
	ASSERT_EQ(0, engine_tcp_pair(pair, 0));
	ASSERT_EQ(0, engine_add_channel(engine->fd, pair[0], 1));
	engine->channel[1] = (struct engine_channel) {
		.fd = engine->fd, .id = 1, .sock = pair[1],
	};
	engine->channels = 2;
	engine_add_inits(engine);
	ASSERT_EQ(0, engine_put(&engine->channel[0]));
	for (uint32_t idx = 1; idx < 4; idx++) {
		engine_add(engine, 1, idx, 0, data + idx * ENGINE_PACKET,
			   ENGINE_PACKET);
		behind = behind ?: engine->channel[1].bytes.len;
	}
	behind = engine->channel[1].bytes.len - behind;
	ASSERT_EQ(0, engine_put(&engine->channel[1]));
	engine_start_all(engine);
	ASSERT_TRUE(engine_wait_asleep(engine));
	ASSERT_EQ(0, ioctl(pair[0], FIONREAD, &left));
	EXPECT_EQ(behind, left);

	engine_add(engine, 0, 0, 0, data, ENGINE_PACKET);
	engine_add(engine, 0, 4, WIRE_CONFIG, NULL, 0);
	ASSERT_EQ(0, engine_put(&engine->channel[0]));
	ASSERT_EQ(0, engine_switchover(engine->fd));
	ASSERT_EQ(0, engine_join_all(engine));
	EXPECT_TRUE(engine_file_has(self->file, data, 4 * ENGINE_PACKET));
	ASSERT_EQ(0, engine_channel_status(engine->fd, 1, &status));
	EXPECT_LE(status.memory, 5 * ENGINE_PACKET);
	close(pair[0]);
	free(data);
}

TEST_F(receive, instances)
{
	struct engine *engine = &self->engine;
	struct wire_packet packet = {
		.idstr = "dev",
		.instance = 5,
		.data = (const uint8_t *)"other",
		.len = 5,
	};
	int other = engine_memfd(NULL, 0);

	ASSERT_EQ(0, engine_create_receiver(&self->engine, self->file, 1, 0));
	ASSERT_EQ(1, engine_add_device(engine->fd, other, "dev", 5));
	wire_add_packet(&engine->channel[0].bytes, &packet);
	engine_add(engine, 0, 0, 0, "this", 4);
	packet.flags = WIRE_CONFIG;
	packet.idx = 1;
	wire_add_packet(&engine->channel[0].bytes, &packet);
	engine_add(engine, 0, 1, WIRE_CONFIG, NULL, 0);
	load(_metadata, engine);
	EXPECT_TRUE(engine_file_has(self->file, "this", 4));
	EXPECT_TRUE(engine_file_has(other, "other", 5));
	close(other);
}

TEST_F(receive, config_sizes)
{
	static const uint32_t sizes[] = { 0, 1, 4096, 4097, 65535, 65536 };
	uint8_t *config = engine_pattern(65536, 4);
	static uint8_t got[65536];

	for (unsigned int i = 0; i < 2 * 6; i++) {
		uint32_t size = sizes[i / 2], room = 0;
		int fd;

		ASSERT_EQ(0, engine_create_receiver(&self->engine, self->file, 1,
						    i % 2 ? DIGEST : 0));
		fd = self->engine.fd;
		EXPECT_EQ(-EAGAIN, engine_get_config(fd, 0, got, &room));
		engine_add(&self->engine, 0, 0, WIRE_CONFIG, config, size);
		load(_metadata, &self->engine);
		room = 0;
		EXPECT_EQ(size ? -ENOSPC : 0,
			  engine_get_config(fd, 0, NULL, &room));
		EXPECT_EQ(size, room);
		room = size ? size - 1 : 0;
		EXPECT_EQ(size ? -ENOSPC : 0,
			  engine_get_config(fd, 0, got, &room));
		room = 65536;
		EXPECT_EQ(size ? -EFAULT : 0,
			  engine_get_config(fd, 0, NULL, &room));
		room = ~0U;
		memset(got, 0, sizeof(got));
		EXPECT_EQ(0, engine_get_config(fd, 0, got, &room));
		EXPECT_EQ(size, room);
		EXPECT_EQ(0, memcmp(config, got, size));
		EXPECT_EQ(-ENOENT, engine_get_config(fd, 1, got, &room));
		engine_destroy(&self->engine);
	}
	free(config);
}

static short events(int fd, int timeout)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	return poll(&pollfd, 1, timeout) < 0 ? -1 : pollfd.revents;
}

/* One device is done and poll() tells so, another is not */
TEST_F(receive, config_of_one)
{
	struct engine *engine = &self->engine;
	struct vfio_multifd_status status;
	int other = engine_memfd(NULL, 0);
	uint32_t room = 8;
	char got[8];

	ASSERT_EQ(0, engine_create_receiver(engine, self->file, 1, 0));
	ASSERT_EQ(1, engine_add_device(engine->fd, other, "other", 0));
	ASSERT_EQ(0, engine_status(engine->fd, &status));
	engine_start_all(engine);
	EXPECT_EQ(0, events(engine->fd, 20));
	engine_add(engine, 0, 0, WIRE_CONFIG, "one", 3);
	ASSERT_EQ(0, engine_put(&engine->channel[0]));
	EXPECT_EQ(POLLIN, events(engine->fd, 10000));
	ASSERT_EQ(0, engine_status(engine->fd, &status));
	EXPECT_EQ(VFIO_MULTIFD_STATE_READY, status.state);
	EXPECT_EQ(2, status.devices);
	EXPECT_EQ(1, status.devices_done);
	EXPECT_EQ(0, events(engine->fd, 0));
	EXPECT_EQ(0, engine_get_config(engine->fd, 0, got, &room));
	EXPECT_EQ(3, room);
	EXPECT_EQ(-EAGAIN, engine_get_config(engine->fd, 1, got, &room));
	ASSERT_EQ(0, engine_cancel(engine->fd));
	EXPECT_EQ(-ECANCELED, engine_join_all(engine));
	close(other);
}

/* Nothing is said on a channel, and it stays open until the close */
TEST_F(receive, stays_open)
{
	char buf[1];
	int sock;

	ASSERT_EQ(0, engine_create_receiver(&self->engine, self->file, 1, 0));
	engine_add(&self->engine, 0, 0, WIRE_CONFIG, NULL, 0);
	load(_metadata, &self->engine);
	sock = self->engine.channel[0].sock;
	usleep(20000);
	EXPECT_EQ(-1, recv(sock, buf, 1, MSG_DONTWAIT));
	EXPECT_EQ(EAGAIN, errno);
	engine_close(&self->engine);
	EXPECT_EQ(0, recv(sock, buf, 1, 0));
}

TEST_F(receive, second_thread)
{
	ASSERT_EQ(0, engine_create_receiver(&self->engine, self->file, 1, 0));
	engine_add(&self->engine, 0, 0, 0, "data", 4);
	ASSERT_EQ(0, engine_put(&self->engine.channel[0]));
	engine_start_all(&self->engine);
	ASSERT_TRUE(engine_wait_packets(self->engine.fd, 1));
	EXPECT_EQ(-EBUSY, engine_run(self->engine.fd, 0));
	ASSERT_EQ(0, engine_cancel(self->engine.fd));
	EXPECT_EQ(-ECANCELED, engine_join_all(&self->engine));
}

static void interrupt(int sig)
{
	(void)sig;
}

/* Sends a channel's bytes in many small pieces */
static void *dribble(void *arg)
{
	struct engine_channel *channel = arg;
	uint64_t dice = channel->id;
	size_t done = 0;

	while (done < channel->bytes.len) {
		size_t some = vfio_random(&dice) % 3000 + 1;
		ssize_t len;

		if (some > channel->bytes.len - done)
			some = channel->bytes.len - done;
		len = send(channel->sock, channel->bytes.at + done, some,
			   MSG_NOSIGNAL);
		if (len < 0)
			break;
		done += len;
		usleep(200);
	}
	return NULL;
}

/* Wherever a signal comes in between, the bytes are the same */
TEST_F(receive, signals)
{
	const unsigned int channels = 4, nr = 300, len = 2500;
	struct sigaction action = { .sa_handler = interrupt };
	uint8_t *data = engine_pattern(nr * len, 5);
	struct engine *engine = &self->engine;
	struct vfio_multifd_status status;
	unsigned int interrupted = 0;
	pthread_t thread[4];

	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	ASSERT_EQ(0, engine_create_receiver(&self->engine, self->file, channels, DIGEST));
	for (uint32_t idx = 0; idx < nr; idx++)
		engine_add(engine, idx % channels, idx, 0, data + idx * len,
			   len);
	engine_add(engine, 0, nr, WIRE_CONFIG, data, len);
	ASSERT_EQ(0, engine_switchover(engine->fd));
	engine_start_all(engine);
	for (unsigned int i = 0; i < channels; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, dribble,
					    &engine->channel[i]));
	do {
		for (unsigned int i = 0; i < channels; i++)
			pthread_kill(engine->channel[i].thread, SIGUSR1);
		usleep(300);
		engine_status(engine->fd, &status);
	} while (status.state < VFIO_MULTIFD_STATE_DONE);
	EXPECT_EQ(0, engine_join_all(engine));
	for (unsigned int i = 0; i < channels; i++) {
		pthread_join(thread[i], NULL);
		interrupted += engine->channel[i].interrupted;
	}
	EXPECT_LT(100, interrupted);
	EXPECT_TRUE(engine_file_has(self->file, data, nr * len));
	free(data);
}

/* The same while the file makes the threads wait */
TEST_F(receive, signals_in_write)
{
	struct sigaction action = { .sa_handler = interrupt };
	const unsigned int nr = 200, len = 4096;
	uint8_t *data = engine_pattern(nr * len, 6);
	struct engine *engine = &self->engine;
	struct wire_bytes got = {};
	ssize_t more = 1;
	int pipes[2];

	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_RECV, 2, 0, 16384, 0));
	ASSERT_EQ(0, engine_add_device(engine->fd, pipes[1], "dev", 0));
	close(pipes[1]);
	engine_add_inits(engine);
	for (uint32_t idx = 0; idx < nr / 4; idx++)
		engine_add(engine, idx % 2, idx, 0, data + 4 * idx * len,
			   4 * len);
	engine_add(engine, 0, nr / 4, WIRE_CONFIG, NULL, 0);
	ASSERT_EQ(0, engine_switchover(engine->fd));
	engine_start_all(engine);
	for (unsigned int i = 0; i < 2; i++)
		ASSERT_EQ(0, engine_put(&engine->channel[i]));
	while (got.len < nr * len && more > 0) {
		for (unsigned int i = 0; i < 2; i++)
			pthread_kill(engine->channel[i].thread, SIGUSR1);
		usleep(200);
		more = read(pipes[0], wire_room(&got, 5000), 5000);
		got.len += more;
	}
	EXPECT_EQ(0, engine_join_all(engine));
	EXPECT_LT(0, engine->channel[0].interrupted);
	ASSERT_EQ(nr * len, got.len);
	EXPECT_EQ(0, memcmp(got.at, data, got.len));
	wire_free(&got);
	close(pipes[0]);
	free(data);
}

TEST_F(receive, nothing_left)
{
	EXPECT_TRUE(engine_wait_unused());
}

TEST_HARNESS_MAIN

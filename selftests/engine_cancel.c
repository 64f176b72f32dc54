// SPDX-License-Identifier: GPL-2.0-only
/* The end of a transfer at any moment leaves nothing behind */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>

#include "harness.h"
#include "engine.h"

#define CHANNELS	2

/*
 * The moments.  Each brings a transfer with its threads to where these sleep;
 * its peers neither read nor close.
 */

static int bring(struct engine *engine, uint32_t role, int file)
{
	int ret;

	ret = engine_create(engine, role, CHANNELS, 0, 1 << 20, 0);
	if (!ret && file >= 0)
		ret = engine_add_device(engine->fd, file, "dev", 0);
	close(file);
	return ret < 0 ? ret : 0;
}

static int start(struct engine *engine)
{
	int ret = 0;

	for (unsigned int i = 0; i < CHANNELS; i++)
		ret = engine_put(&engine->channel[i]) ?: ret;
	engine_start_all(engine);
	return ret ?: engine_wait_asleep(engine) ? 0 : -ETIMEDOUT;
}

static int send_nothing(struct engine *engine)
{
	return bring(engine, VFIO_MULTIFD_SEND, -1) ?: start(engine);
}

static int send_without_config(struct engine *engine)
{
	return bring(engine, VFIO_MULTIFD_SEND, engine_memfd("abc", 3)) ?:
	       start(engine);
}

/* The sockets are full, and data is on its way that nobody takes */
static int send_much(struct engine *engine)
{
	return bring(engine, VFIO_MULTIFD_SEND,
		     open("/dev/zero", O_RDONLY)) ?: start(engine);
}

static int receive_nothing(struct engine *engine)
{
	return bring(engine, VFIO_MULTIFD_RECV, -1) ?: start(engine);
}

/* Channel 0 is at the end of a packet, channel 1 in the middle of @rest */
static int receive_some(struct engine *engine, size_t rest)
{
	int ret = bring(engine, VFIO_MULTIFD_RECV, engine_memfd(NULL, 0));

	engine_add_inits(engine);
	engine_add(engine, 0, 0, 0, "abc", 3);
	engine_add(engine, 1, 1, 0, "def", 3);
	engine->channel[1].bytes.len -= rest;
	return ret ?: start(engine);
}

static int receive_kind(struct engine *engine)
{
	return receive_some(engine, 3 + WIRE_VFIO_DATA - 5);
}

static int receive_header(struct engine *engine)
{
	return receive_some(engine, 4);
}

static int receive_data(struct engine *engine)
{
	return receive_some(engine, 1);
}

static int receive_unknown_device(struct engine *engine)
{
	int ret = bring(engine, VFIO_MULTIFD_RECV, -1);

	engine_add_inits(engine);
	engine_add(engine, 0, 0, 0, "abc", 3);
	return ret ?: start(engine);
}

static int receive_out_of_turn(struct engine *engine)
{
	int ret = bring(engine, VFIO_MULTIFD_RECV, engine_memfd(NULL, 0));

	engine_add_inits(engine);
	engine_add(engine, 0, 1, 0, "abc", 3);
	return ret ?: start(engine);
}

FIXTURE(moments) {
	struct engine *engine;	/* shared with the process to be killed */
};

FIXTURE_VARIANT(moments) {
	int (*bring)(struct engine *engine);
};

FIXTURE_VARIANT_ADD(moments, send_nothing) {
	.bring = send_nothing,
};

FIXTURE_VARIANT_ADD(moments, send_without_config) {
	.bring = send_without_config,
};

FIXTURE_VARIANT_ADD(moments, send_much) {
	.bring = send_much,
};

FIXTURE_VARIANT_ADD(moments, receive_nothing) {
	.bring = receive_nothing,
};

FIXTURE_VARIANT_ADD(moments, receive_kind) {
	.bring = receive_kind,
};

FIXTURE_VARIANT_ADD(moments, receive_header) {
	.bring = receive_header,
};

FIXTURE_VARIANT_ADD(moments, receive_data) {
	.bring = receive_data,
};

FIXTURE_VARIANT_ADD(moments, receive_unknown_device) {
	.bring = receive_unknown_device,
};

FIXTURE_VARIANT_ADD(moments, receive_out_of_turn) {
	.bring = receive_out_of_turn,
};

FIXTURE_SETUP(moments)
{
	self->engine = mmap(NULL, sizeof(*self->engine), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->engine);
	self->engine->fd = -1;
	ENGINE_NEEDED();
}

FIXTURE_TEARDOWN(moments)
{
	engine_destroy(self->engine);
	munmap(self->engine, sizeof(*self->engine));
}

/* All sockets and the module are free while the peers are still there */
static void check_nothing_left(struct __test_metadata *_metadata,
			       struct engine *engine)
{
	for (unsigned int i = 0; i < CHANNELS; i++)
		EXPECT_TRUE(engine_wait_gone(engine->channel[i].port));
	EXPECT_TRUE(engine_wait_unused());
}

TEST_F(moments, cancel)
{
	ASSERT_EQ(0, variant->bring(self->engine));
	ASSERT_EQ(0, engine_cancel(self->engine->fd));
	for (unsigned int i = 0; i < CHANNELS; i++)
		EXPECT_EQ(-ECANCELED, engine_join(&self->engine->channel[i]));
	engine_close(self->engine);
	check_nothing_left(_metadata, self->engine);
}

TEST_F(moments, close)
{
	ASSERT_EQ(0, variant->bring(self->engine));
	/* nobody can unload the module meanwhile */
	EXPECT_EQ(-1, syscall(SYS_delete_module, "vfio_multifd", O_NONBLOCK));
	engine_close(self->engine);
	for (unsigned int i = 0; i < CHANNELS; i++)
		EXPECT_EQ(-ECANCELED, self->engine->channel[i].ret);
	check_nothing_left(_metadata, self->engine);
}

/* Every thread gets a fatal signal in its sleep */
TEST_F(moments, kill)
{
	struct engine *engine = self->engine;
	int pidfd, pipes[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(pipes));
	pid = fork();
	if (!pid) {
		if (!variant->bring(engine) && write(pipes[1], "r", 1) == 1)
			pause();
		_exit(1);
	}
	ASSERT_LT(0, pid);
	close(pipes[1]);
	ASSERT_EQ(1, read(pipes[0], &c, 1));
	close(pipes[0]);

	/* the peers live on here */
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	ASSERT_LE(0, pidfd);
	for (unsigned int i = 0; i < CHANNELS; i++) {
		struct engine_channel *channel = &engine->channel[i];

		channel->sock = syscall(SYS_pidfd_getfd, pidfd, channel->sock,
					0);
		EXPECT_LE(0, channel->sock);
		channel->runs = false;
		channel->bytes = (struct wire_bytes) {};
	}
	close(pidfd);
	engine->fd = -1;
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	check_nothing_left(_metadata, engine);
}

FIXTURE(cancel) {
	struct engine engine;
};

FIXTURE_SETUP(cancel)
{
	self->engine.fd = -1;
	ENGINE_NEEDED();
}

FIXTURE_TEARDOWN(cancel)
{
	engine_destroy(&self->engine);
}

static void interrupt(int sig)
{
	(void)sig;
}

/* A thread in a data fd's own sleep comes back by a signal */
TEST_F(cancel, sleeping_file)
{
	struct sigaction action = { .sa_handler = interrupt };
	struct engine *engine = &self->engine;
	int pipes[2];

	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, bring(engine, VFIO_MULTIFD_SEND, pipes[0]));
	ASSERT_EQ(0, start(engine));
	ASSERT_EQ(0, engine_cancel(engine->fd));
	usleep(20000);
	for (unsigned int i = 0; i < CHANNELS; i++)
		pthread_kill(engine->channel[i].thread, SIGUSR1);
	EXPECT_EQ(-ECANCELED, engine_join_all(engine));
	engine_close(engine);
	close(pipes[1]);
	for (unsigned int i = 0; i < CHANNELS; i++)
		EXPECT_TRUE(engine_wait_gone(engine->channel[i].port));
}

/* The peers of a cancelled transfer are told */
TEST_F(cancel, peers)
{
	struct engine *engine = &self->engine;
	char init[WIRE_INIT_SIZE + 1];

	ASSERT_EQ(0, send_nothing(engine));
	ASSERT_EQ(0, engine_cancel(engine->fd));
	for (unsigned int i = 0; i < CHANNELS; i++)
		EXPECT_EQ(WIRE_INIT_SIZE,
			  recv(engine->channel[i].sock, init, sizeof(init),
			       MSG_WAITALL));
}

static ssize_t free_memory(void)
{
	struct sysinfo info;

	return sysinfo(&info) ? 0 : (ssize_t)info.freeram * info.mem_unit;
}

/* Pages of cancelled transfers come back, those in the sockets as well */
TEST_F(cancel, memory)
{
	ssize_t before = 0;

	for (unsigned int i = 0; i < 25; i++) {
		/* the first ones fill caches */
		if (i == 5)
			before = free_memory();
		ASSERT_EQ(0, send_much(&self->engine));
		ASSERT_EQ(0, engine_cancel(self->engine.fd));
		EXPECT_EQ(-ECANCELED, engine_join_all(&self->engine));
		engine_destroy(&self->engine);
	}
	EXPECT_GT(32 << 20, before - free_memory());
}

TEST_F(cancel, nothing_left)
{
	EXPECT_TRUE(engine_wait_unused());
}

TEST_HARNESS_MAIN

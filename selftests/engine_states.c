// SPDX-License-Identifier: GPL-2.0-only
/* Which call is legal when, whose a transfer is, poll, cancel */
#include <poll.h>
#include <sys/ioctl.h>

#include "harness.h"
#include "engine.h"

#define ARRAY_LEN(array)	(sizeof(array) / sizeof((array)[0]))

/* Brings a transfer with one channel and one empty device to a state */
static int bring(struct engine *engine, uint32_t role, uint32_t state)
{
	struct engine_channel *channel = &engine->channel[0];
	struct wire_packet packet = { .idstr = "dev", .flags = WIRE_CONFIG };
	int fd, ret;

	if (state == VFIO_MULTIFD_STATE_NEW) {
		*engine = (struct engine) { .fd = engine_open() };
		return engine->fd < 0 ? engine->fd : 0;
	}
	ret = engine_create(engine, role, 1, 0, ENGINE_PACKET, 0);
	if (ret)
		return ret;
	fd = engine_memfd(NULL, 0);
	ret = engine_add_device(engine->fd, fd, "dev", 0);
	close(fd);
	if (ret || state == VFIO_MULTIFD_STATE_READY)
		return ret;
	if (state == VFIO_MULTIFD_STATE_FAILED)
		return engine_cancel(engine->fd);
	ret = engine_switchover(engine->fd);
	if (ret || state == VFIO_MULTIFD_STATE_SEALED)
		return ret;
	wire_add_init(&channel->bytes, engine_uuid, 0);
	wire_add_packet(&channel->bytes, &packet);
	ret = role == VFIO_MULTIFD_SEND ?
	      engine_set_config(engine->fd, 0, NULL, 0) : engine_put(channel);
	return ret ?: engine_run(engine->fd, 0);
}

static int try_info(int fd)
{
	struct vfio_multifd_info info = { .argsz = sizeof(info) };

	return engine_call(fd, VFIO_MULTIFD_GET_INFO, &info);
}

static int try_setup(int fd)
{
	return engine_setup(fd, VFIO_MULTIFD_SEND, 1, 0, ENGINE_PACKET);
}

/* -EEXIST where the state allows it: the id is taken */
static int try_add_channel(int fd)
{
	int pair[2], ret;

	ret = engine_tcp_pair(pair, 0);
	if (ret)
		return ret;
	ret = engine_add_channel(fd, pair[0], 0);
	close(pair[0]);
	close(pair[1]);
	return ret;
}

static int try_add_device(int fd)
{
	int file = engine_memfd(NULL, 0);
	int ret = engine_add_device(fd, file, "other", 0);

	close(file);
	return ret < 0 ? ret : 0;
}

/* -ENOENT where it would run: there is no such channel */
static int try_run(int fd)
{
	struct vfio_multifd_status status;

	engine_status(fd, &status);
	return engine_run(fd, status.state < VFIO_MULTIFD_STATE_DONE);
}

static int try_set_config(int fd)
{
	return engine_set_config(fd, 0, "", 0);
}

static int try_get_config(int fd)
{
	uint32_t size = 0;

	return engine_get_config(fd, 0, NULL, &size);
}

static int try_status(int fd)
{
	struct vfio_multifd_status status;

	return engine_status(fd, &status);
}

static int try_device_status(int fd)
{
	struct vfio_multifd_device_status status = { .argsz = sizeof(status) };

	return engine_call(fd, VFIO_MULTIFD_DEVICE_STATUS, &status);
}

#define BAD	(-EBADFD)

/* By role (SEND, RECV) and state (NEW, READY, SEALED, DONE, FAILED) */
static const struct {
	const char *name;
	int (*try)(int fd);
	int ret[2][5];
} tries[] = {
	{ "GET_INFO", try_info, {} },
	{ "SETUP", try_setup,
	  { { 0, BAD, BAD, BAD, BAD }, { 0, BAD, BAD, BAD, BAD } } },
	{ "ADD_CHANNEL", try_add_channel,
	  { { BAD, -EEXIST, BAD, BAD, BAD },
	    { BAD, -EEXIST, BAD, BAD, BAD } } },
	{ "ADD_DEVICE", try_add_device,
	  { { BAD, 0, BAD, BAD, BAD }, { BAD, 0, BAD, BAD, BAD } } },
	{ "RUN_CHANNEL", try_run,
	  { { BAD, -ENOENT, -ENOENT, 0, -ECANCELED },
	    { BAD, -ENOENT, -ENOENT, 0, -ECANCELED } } },
	{ "SWITCHOVER", engine_switchover,
	  { { BAD, 0, BAD, BAD, BAD }, { BAD, 0, BAD, BAD, BAD } } },
	{ "SET_CONFIG", try_set_config,
	  { { BAD, 0, 0, BAD, BAD }, { BAD, BAD, BAD, BAD, BAD } } },
	{ "GET_CONFIG", try_get_config,
	  { { BAD, BAD, BAD, BAD, BAD },
	    { BAD, -EAGAIN, -EAGAIN, 0, -ECANCELED } } },
	{ "STATUS", try_status, {} },
	{ "DEVICE_STATUS", try_device_status,
	  { { BAD, 0, 0, 0, 0 }, { BAD, 0, 0, 0, 0 } } },
	{ "CANCEL", engine_cancel, {} },
};

FIXTURE(states) {
	struct engine engine;
};

FIXTURE_VARIANT(states) {
	uint32_t role;
};

FIXTURE_VARIANT_ADD(states, send) { .role = VFIO_MULTIFD_SEND };
FIXTURE_VARIANT_ADD(states, recv) { .role = VFIO_MULTIFD_RECV };

FIXTURE_SETUP(states)
{
	self->engine.fd = -1;
	ENGINE_NEEDED();
}

FIXTURE_TEARDOWN(states)
{
	engine_destroy(&self->engine);
}

TEST_F(states, calls)
{
	struct engine *engine = &self->engine;

	for (unsigned int i = 0; i < ARRAY_LEN(tries); i++) {
		for (uint32_t state = 0; state < 5; state++) {
			ASSERT_EQ(0, bring(engine, variant->role, state));
			ASSERT_TRUE(engine_wait_state(engine->fd, state));
			EXPECT_EQ(tries[i].ret[variant->role - 1][state],
				  tries[i].try(engine->fd)) {
				TH_LOG("this was %s in state %u",
				       tries[i].name, state);
			}
			engine_destroy(engine);
		}
	}
}

TEST_F(states, cancel)
{
	for (uint32_t state = 0; state < 5; state++) {
		bool done = state == VFIO_MULTIFD_STATE_DONE;
		struct vfio_multifd_status status;

		ASSERT_EQ(0, bring(&self->engine, variant->role, state));
		EXPECT_EQ(0, engine_cancel(self->engine.fd));
		ASSERT_EQ(0, engine_status(self->engine.fd, &status));
		EXPECT_EQ(done ? VFIO_MULTIFD_STATE_DONE :
			  VFIO_MULTIFD_STATE_FAILED, status.state);
		EXPECT_EQ(done ? 0 : -ECANCELED, status.error);
		EXPECT_EQ(done ? VFIO_MULTIFD_REASON_NONE :
			  VFIO_MULTIFD_REASON_CANCELLED, status.reason);
		EXPECT_EQ(VFIO_MULTIFD_NO_INDEX, status.device);
		EXPECT_EQ(VFIO_MULTIFD_NO_INDEX, status.channel);
		EXPECT_EQ(VFIO_MULTIFD_NO_INDEX, status.idx);
		engine_destroy(&self->engine);
	}
}

TEST_F(states, counters)
{
	struct vfio_multifd_device_status device = { .argsz = sizeof(device) };
	struct vfio_multifd_status status;

	ASSERT_EQ(0, bring(&self->engine, variant->role,
			   VFIO_MULTIFD_STATE_DONE));
	ASSERT_EQ(0, engine_status(self->engine.fd, &status));
	EXPECT_EQ(0, status.bytes);
	EXPECT_EQ(1, status.packets);
	EXPECT_EQ(1, status.devices);
	EXPECT_EQ(1, status.devices_done);
	ASSERT_EQ(0, engine_call(self->engine.fd, VFIO_MULTIFD_DEVICE_STATUS,
				 &device));
	EXPECT_EQ(1, device.done);
	EXPECT_EQ(0, device.bytes);
	EXPECT_EQ(1, device.packets);
	device.device = 1;
	EXPECT_EQ(-ENOENT, engine_call(self->engine.fd,
				       VFIO_MULTIFD_DEVICE_STATUS, &device));
}

static short events(int fd, int timeout)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	return poll(&pollfd, 1, timeout) < 0 ? -1 : pollfd.revents;
}

/* POLLIN until the next STATUS, POLLERR for ever */
TEST_F(states, poll)
{
	struct engine *engine = &self->engine;
	struct vfio_multifd_status status;

	ASSERT_EQ(0, bring(engine, variant->role, VFIO_MULTIFD_STATE_NEW));
	EXPECT_EQ(0, events(engine->fd, 0));
	ASSERT_EQ(0, engine_setup(engine->fd, variant->role, 1, 0,
				  ENGINE_PACKET));
	EXPECT_EQ(POLLIN, events(engine->fd, 0));
	EXPECT_EQ(POLLIN, events(engine->fd, 0));
	ASSERT_EQ(0, engine_status(engine->fd, &status));
	EXPECT_EQ(0, events(engine->fd, 0));
	ASSERT_EQ(0, engine_cancel(engine->fd));
	EXPECT_EQ(POLLIN | POLLERR, events(engine->fd, 0));
	ASSERT_EQ(0, engine_status(engine->fd, &status));
	EXPECT_EQ(POLLERR, events(engine->fd, 0));
	engine_destroy(engine);

	/* the device's end is one change, the transfer's end another */
	ASSERT_EQ(0, bring(engine, variant->role, VFIO_MULTIFD_STATE_SEALED));
	ASSERT_EQ(0, engine_status(engine->fd, &status));
	EXPECT_EQ(0, events(engine->fd, 0));
	engine_destroy(engine);
	ASSERT_EQ(0, bring(engine, variant->role, VFIO_MULTIFD_STATE_DONE));
	EXPECT_EQ(POLLIN, events(engine->fd, 0));
	ASSERT_EQ(0, engine_status(engine->fd, &status));
	EXPECT_EQ(0, events(engine->fd, 0));
}

static void *cancel_later(void *arg)
{
	usleep(50000);
	engine_cancel(*(int *)arg);
	return NULL;
}

TEST_F(states, poll_sleeps)
{
	pthread_t thread;

	ASSERT_EQ(0, bring(&self->engine, variant->role,
			   VFIO_MULTIFD_STATE_NEW));
	ASSERT_EQ(0, pthread_create(&thread, NULL, cancel_later,
				    &self->engine.fd));
	EXPECT_EQ(POLLIN | POLLERR, events(self->engine.fd, 10000));
	pthread_join(thread, NULL);
}

/* Runs @child in a process of its own and returns what it returns */
static int in_child(int (*child)(int fd), int fd)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(child(fd));
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static int call_all(int fd)
{
	unsigned int wrong = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(tries); i++)
		wrong += tries[i].try(fd) != -EIO;
	wrong += engine_call(fd, _IO(VFIO_MULTIFD_IOC, 11), NULL) != -EIO;
	close(fd);
	return wrong;
}

/* Another process can neither use a transfer nor end it */
TEST_F(states, foreign_process)
{
	ASSERT_EQ(0, bring(&self->engine, variant->role,
			   VFIO_MULTIFD_STATE_SEALED));
	EXPECT_EQ(0, in_child(call_all, self->engine.fd));
	EXPECT_TRUE(engine_wait_state(self->engine.fd,
				      VFIO_MULTIFD_STATE_SEALED));
}

/* The opener leaves a transfer to its child, and the pipe tells of the end */
static int open_and_leave(int pipe)
{
	struct engine engine;
	bool dead;

	if (bring(&engine, VFIO_MULTIFD_RECV, VFIO_MULTIFD_STATE_READY))
		return 1;
	if (fork())
		return 0;
	/* Only errors count: that there is news, there is from the start. */
	dead = poll(&(struct pollfd){ .fd = engine.fd }, 1, 10000) == 1;
	return write(pipe, dead ? "y" : "n", 1) != 1;
}

TEST_F(states, opener_dies)
{
	int pipes[2];
	char answer;

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, in_child(open_and_leave, pipes[1]));
	close(pipes[1]);
	ASSERT_EQ(1, read(pipes[0], &answer, 1));
	EXPECT_EQ('y', answer);
	EXPECT_TRUE(engine_wait_unused());
}

/* The last test: what the others took is given back */
TEST_F(states, nothing_left)
{
	EXPECT_TRUE(engine_wait_unused());
}

TEST_HARNESS_MAIN

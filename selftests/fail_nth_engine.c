// SPDX-License-Identifier: GPL-2.0-only
/* Each call of the engine without memory: an error, and then it works */
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "harness.h"
#include "engine.h"
#include "fail_nth.h"
#include "kmemleak.h"

#define CONFIG_SIZE	VFIO_MULTIFD_MAX_CONFIG
#define DATA_SIZE	(6 * ENGINE_PACKET + 100)

/* A transfer and what its calls need */
struct bench {
	struct engine engine;
	int sock[2];
	int file;
	uint8_t *data;		/* of the file at a source */
	uint8_t *config;
};

/*
 * A call in a transfer that is ready for it; both return 0 or a negative errno.
 * @taken: what the call returns for a second time if it took effect and only
 * its answer did not come through; or 0
 * @calm: it takes no memory, and copies nothing: it cannot fail
 */
struct call {
	const char *name;
	int (*prepare)(struct bench *b);
	int (*call)(struct bench *b);
	int taken;
	bool calm;
};

static int prepare_nothing(struct bench *b)
{
	b->engine.fd = -1;
	return 0;
}

static int prepare_new(struct bench *b)
{
	b->engine.fd = engine_open();
	return b->engine.fd < 0 ? b->engine.fd : 0;
}

static int prepare_ready(struct bench *b)
{
	b->file = engine_memfd(b->data, DATA_SIZE);
	return engine_tcp_pair(b->sock, 0) ?:
	       engine_begin(&b->engine, VFIO_MULTIFD_SEND, 1,
			    VFIO_MULTIFD_FEATURE_DIGEST, 2 * ENGINE_PACKET);
}

/* With its device, whose index is 0 */
static int prepare_device(struct bench *b)
{
	return prepare_ready(b) ?:
	       engine_add_device(b->engine.fd, b->file, "dev", 0);
}

/* A source that has all it needs to run to its end */
static int prepare_source(struct bench *b)
{
	b->file = engine_memfd(b->data, DATA_SIZE);
	return engine_create(&b->engine, VFIO_MULTIFD_SEND, 1,
			     VFIO_MULTIFD_FEATURE_DIGEST, 2 * ENGINE_PACKET,
			     0) ?:
	       engine_add_device(b->engine.fd, b->file, "dev", 0) ?:
	       engine_set_config(b->engine.fd, 0, b->config, CONFIG_SIZE) ?:
	       engine_switchover(b->engine.fd);
}

/* A destination, and all that its peer sends */
static int prepare_target(struct bench *b)
{
	uint32_t idx = 0;
	int ret;

	b->file = engine_memfd(NULL, 0);
	ret = engine_create_sealed(&b->engine, b->file, 1,
				   VFIO_MULTIFD_FEATURE_DIGEST);
	for (size_t at = 0; at < DATA_SIZE; at += ENGINE_PACKET) {
		size_t left = DATA_SIZE - at;

		engine_add(&b->engine, 0, idx++, 0, b->data + at,
			   left < ENGINE_PACKET ? left : ENGINE_PACKET);
	}
	engine_add(&b->engine, 0, idx, WIRE_CONFIG, b->config, CONFIG_SIZE);
	return ret ?: engine_put(&b->engine.channel[0]);
}

static int prepare_loaded(struct bench *b)
{
	return prepare_target(b) ?: engine_run(b->engine.fd, 0);
}

static void release(struct bench *b)
{
	engine_destroy(&b->engine);
	for (unsigned int i = 0; i < 2; i++)
		if (b->sock[i] >= 0)
			close(b->sock[i]);
	if (b->file >= 0)
		close(b->file);
	b->sock[0] = -1;
	b->sock[1] = -1;
	b->file = -1;
}

static int call_open(struct bench *b)
{
	return prepare_new(b);
}

static int call_get_info(struct bench *b)
{
	struct vfio_multifd_info info = { .argsz = sizeof(info) };

	return engine_call(b->engine.fd, VFIO_MULTIFD_GET_INFO, &info);
}

static int call_setup(struct bench *b)
{
	return engine_setup(b->engine.fd, VFIO_MULTIFD_SEND, 1, 0,
			    ENGINE_PACKET);
}

static int call_add_channel(struct bench *b)
{
	return engine_add_channel(b->engine.fd, b->sock[0], 0);
}

static int call_add_device(struct bench *b)
{
	return engine_add_device(b->engine.fd, b->file, "dev", 0);
}

static int call_set_config(struct bench *b)
{
	return engine_set_config(b->engine.fd, 0, b->config, CONFIG_SIZE);
}

static int call_switchover(struct bench *b)
{
	return engine_switchover(b->engine.fd);
}

static int call_get_config(struct bench *b)
{
	static uint8_t config[CONFIG_SIZE];
	uint32_t size = sizeof(config);
	int ret = engine_get_config(b->engine.fd, 0, config, &size);

	if (!ret && (size != CONFIG_SIZE || memcmp(config, b->config, size)))
		return -EBADMSG;
	return ret;
}

static int call_status(struct bench *b)
{
	struct vfio_multifd_status status;

	return engine_status(b->engine.fd, &status);
}

static int call_device_status(struct bench *b)
{
	struct vfio_multifd_device_status status = { .argsz = sizeof(status) };

	return engine_call(b->engine.fd, VFIO_MULTIFD_DEVICE_STATUS, &status);
}

static int call_channel_status(struct bench *b)
{
	struct vfio_multifd_channel_status status = { .argsz = sizeof(status) };

	return engine_call(b->engine.fd, VFIO_MULTIFD_CHANNEL_STATUS, &status);
}

static int call_continue(struct bench *b)
{
	struct vfio_multifd_continue arg = { .argsz = sizeof(arg) };

	return engine_call(b->engine.fd, VFIO_MULTIFD_CONTINUE, &arg);
}

static int call_mmap(struct bench *b)
{
	size_t size = 4 * ENGINE_PACKET;	/* two packets */
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
			 b->engine.fd, 0);

	if (map == MAP_FAILED)
		return -errno;
	munmap(map, size);
	return 0;
}

static int call_poll(struct bench *b)
{
	struct pollfd pollfd = { .fd = b->engine.fd, .events = POLLIN };

	return poll(&pollfd, 1, 0) < 0 ? -errno : 0;
}

static int call_cancel(struct bench *b)
{
	return engine_cancel(b->engine.fd);
}

static const struct call calls[] = {
	{ "open", prepare_nothing, call_open, 0, false },
	{ "GET_INFO", prepare_new, call_get_info, 0, false },
	{ "SETUP", prepare_new, call_setup, 0, false },
	{ "ADD_CHANNEL", prepare_ready, call_add_channel, 0, false },
	{ "ADD_DEVICE", prepare_ready, call_add_device, -EBUSY, false },
	{ "SET_CONFIG", prepare_device, call_set_config, 0, false },
	{ "SWITCHOVER", prepare_device, call_switchover, 0, true },
	{ "GET_CONFIG", prepare_loaded, call_get_config, 0, false },
	{ "STATUS", prepare_device, call_status, 0, false },
	{ "DEVICE_STATUS", prepare_device, call_device_status, 0, false },
	{ "CHANNEL_STATUS", prepare_source, call_channel_status, 0, false },
	{ "CONTINUE", prepare_device, call_continue, 0, false },
	{ "mmap", prepare_source, call_mmap, 0, false },
	{ "poll", prepare_device, call_poll, 0, false },
	{ "CANCEL", prepare_device, call_cancel, 0, true },
};

FIXTURE(fail) {
	struct bench bench;
};

FIXTURE_SETUP(fail)
{
	ENGINE_NEEDED();
	self->bench.data = engine_pattern(DATA_SIZE, 1);
	self->bench.config = engine_pattern(CONFIG_SIZE, 2);
	self->bench.engine.fd = -1;
	self->bench.sock[0] = -1;
	self->bench.sock[1] = -1;
	self->bench.file = -1;
}

FIXTURE_TEARDOWN(fail)
{
	release(&self->bench);
	free(self->bench.data);
	free(self->bench.config);
	EXPECT_TRUE(engine_wait_unused());
}

static void sweep_call(struct __test_metadata *_metadata, struct bench *b,
		       const struct call *call)
{
	struct fail_nth sweep = { .calm = call->calm };
	int ret = 0;

	while (fail_nth_next(&sweep)) {
		ASSERT_EQ(0, call->prepare(b));
		fail_nth_arm(&sweep);
		ret = call->call(b);
		fail_nth_disarm(&sweep);
		if (ret < 0) {
			sweep.errors++;
			EXPECT_TRUE(fail_nth_clean(ret));
			ret = call->call(b);
			if (ret != call->taken)
				EXPECT_EQ(0, ret);
		}
		release(b);
		if (_metadata->exit_code)
			break;
	}
	EXPECT_EQ(0, ret);
	FAIL_NTH_DONE(&sweep, call->name);
}

TEST_F(fail, calls)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(calls); i++)
		sweep_call(_metadata, &self->bench, &calls[i]);
}

/*
 * RUN_CHANNEL, to its end.  Return: the transfer's error, 0 if it is DONE.  An
 * error of the call alone loses nothing.
 */
static int run(struct __test_metadata *_metadata, int fd,
	       struct fail_nth *sweep)
{
	struct vfio_multifd_status status;
	int ret;

	fail_nth_arm(sweep);
	ret = engine_run(fd, 0);
	fail_nth_disarm(sweep);
	EXPECT_EQ(0, engine_status(fd, &status));
	if (ret && status.state != VFIO_MULTIFD_STATE_FAILED) {
		EXPECT_EQ(-EFAULT, ret);
		ret = engine_run(fd, 0);
		EXPECT_EQ(0, engine_status(fd, &status));
	}
	EXPECT_EQ(ret, status.error);
	EXPECT_EQ(ret ? VFIO_MULTIFD_STATE_FAILED : VFIO_MULTIFD_STATE_DONE,
		  status.state);
	EXPECT_EQ(!ret, status.reason == VFIO_MULTIFD_REASON_NONE);
	return ret;
}

/* What the peer of a source got is what it had. */
static const char *check_source(struct bench *b)
{
	struct engine_channel *channel = &b->engine.channel[0];
	struct wire_packets packets;
	struct wire_state state = {};
	const char *wrong;
	ssize_t len;

	close(b->engine.fd);
	b->engine.fd = -1;
	do {
		len = recv(channel->sock, wire_room(&channel->bytes, 65536),
			   65536, 0);
		channel->bytes.len += len > 0 ? len : 0;
	} while (len > 0);
	wrong = engine_parse(&b->engine, &packets);
	if (!wrong)
		wrong = wire_join(&state, &packets, "dev", 0);
	if (!wrong && (state.data.len != DATA_SIZE ||
		       memcmp(state.data.at, b->data, DATA_SIZE)))
		wrong = "other data than the file's";
	if (!wrong && (state.config.len != CONFIG_SIZE ||
		       memcmp(state.config.at, b->config, CONFIG_SIZE)))
		wrong = "another config state";
	wire_state_free(&state);
	free(packets.packet);
	return wrong;
}

static const char *check_target(struct bench *b)
{
	if (!engine_file_has(b->file, b->data, DATA_SIZE))
		return "other data than the peer's";
	return call_get_config(b) ? "another config state" : NULL;
}

static void sweep_run(struct __test_metadata *_metadata, struct bench *b,
		      int (*prepare)(struct bench *b),
		      const char *(*check)(struct bench *b), const char *name)
{
	struct fail_nth sweep = {};
	int ret = 0;

	while (fail_nth_next(&sweep)) {
		ASSERT_EQ(0, prepare(b));
		ret = run(_metadata, b->engine.fd, &sweep);
		if (ret) {
			sweep.errors++;
			EXPECT_EQ(-ENOMEM, ret);
		} else {
			EXPECT_RIGHT(check(b));
		}
		release(b);
		if (_metadata->exit_code)
			break;
	}
	EXPECT_EQ(0, ret);
	FAIL_NTH_DONE(&sweep, name);
}

TEST_F(fail, run_source)
{
	sweep_run(_metadata, &self->bench, prepare_source, check_source,
		  "RUN_CHANNEL of a source");
}

TEST_F(fail, run_target)
{
	sweep_run(_metadata, &self->bench, prepare_target, check_target,
		  "RUN_CHANNEL of a destination");
}

/* The scan takes long, so there is one, after all the others */
FIXTURE(kmemleak) {
};

FIXTURE_SETUP(kmemleak)
{
}

FIXTURE_TEARDOWN(kmemleak)
{
}

TEST_F(kmemleak, nothing)
{
	KMEMLEAK_EXPECT_NONE();
}

int main(int argc, char **argv)
{
	return fail_nth_begin() ?: test_harness_run(argc, argv);
}

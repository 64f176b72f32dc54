// SPDX-License-Identifier: GPL-2.0-only
/* What a receiver refuses, and what it says about it */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "harness.h"
#include "engine.h"
#include "xxh64.h"

#define ARRAY_LEN(array)	(sizeof(array) / sizeof((array)[0]))
#define DIGEST		VFIO_MULTIFD_FEATURE_DIGEST
#define NONE		VFIO_MULTIFD_NO_INDEX
#define ANY		UINT64_MAX	/* @expected says nothing */
#define REASON(name)	.reason = VFIO_MULTIFD_REASON_##name

/* What STATUS must say of a transfer that failed */
struct failure {
	uint32_t reason;
	int error;		/* 0: -EPROTO */
	uint32_t device;
	uint32_t channel;
	uint32_t idx;
	uint64_t expected;
	uint64_t got;
};

static void check_failure(struct __test_metadata *_metadata,
			  struct engine *engine, const struct failure *failure)
{
	struct pollfd pollfd = { .fd = engine->fd, .events = POLLIN };
	int error = failure->error ?: -EPROTO, old = _metadata->exit_code;
	struct vfio_multifd_status status;

	EXPECT_EQ(error, engine_join_all(engine));
	/* the first error stays */
	EXPECT_EQ(0, engine_cancel(engine->fd));
	EXPECT_EQ(1, poll(&pollfd, 1, 0));
	EXPECT_EQ(POLLIN | POLLERR, pollfd.revents);
	ASSERT_EQ(0, engine_status(engine->fd, &status));
	EXPECT_EQ(VFIO_MULTIFD_STATE_FAILED, status.state);
	EXPECT_EQ(error, status.error);
	EXPECT_EQ(failure->reason, status.reason);
	EXPECT_EQ(failure->device, status.device);
	EXPECT_EQ(failure->channel, status.channel);
	EXPECT_EQ(failure->idx, status.idx);
	if (failure->expected != ANY)
		EXPECT_EQ(failure->expected, status.expected);
	EXPECT_EQ(failure->got, status.got);
	if (_metadata->exit_code != old)
		TH_LOG("reason %u: got 0x%jx, expected 0x%jx", status.reason,
		       (uintmax_t)status.got, (uintmax_t)status.expected);
}

FIXTURE(refuse) {
	struct engine engine;
	int file;
};

FIXTURE_SETUP(refuse)
{
	self->engine.fd = -1;
	ENGINE_NEEDED();
	self->file = engine_memfd(NULL, 0);
	ASSERT_LE(0, self->file);
}

FIXTURE_TEARDOWN(refuse)
{
	engine_destroy(&self->engine);
	close(self->file);
}

/* Ends a case, so that another can begin */
static void again(struct engine *engine, int file)
{
	engine_destroy(engine);
	if (ftruncate(file, 0))
		abort();
}

/* Sends all that was added, in the order of the channels */
static void put_all(struct __test_metadata *_metadata, struct engine *engine)
{
	for (unsigned int i = 0; i < engine->channels; i++)
		ASSERT_EQ(0, engine_put(&engine->channel[i]));
}

/* What is written over a good start or packet, and what comes of it */
struct edit {
	size_t at;
	uint32_t value;
	bool byte;
	uint64_t features;
	struct failure failure;	/* unless @byte, @value is what was got */
};

static void apply(uint8_t *to, const struct edit *edit)
{
	if (edit->byte)
		to[edit->at] = edit->value;
	else
		wire_put32(to + edit->at, edit->value);
}

static void check_edit(struct __test_metadata *_metadata,
		       struct engine *engine, const struct edit *edit)
{
	struct failure failure = edit->failure;

	if (!edit->byte)
		failure.got = edit->value;
	check_failure(_metadata, engine, &failure);
}

/* Most is refused before the engine looks for the device */
#define EDIT(where, to, what, want)					\
	{								\
		.at = where, .value = to,				\
		.failure = { what, 0, NONE, 0, NONE, want }		\
	}
#define EDIT_DIGEST(where, to, what, want)				\
	{								\
		.at = where, .value = to, .features = DIGEST,		\
		.failure = { what, 0, NONE, 0, NONE, want }		\
	}

TEST_F(refuse, starts)
{
	static const struct edit edits[] = {
		EDIT(WIRE_INIT_MAGIC, 0x11223345, REASON(MAGIC), WIRE_MAGIC),
		EDIT(WIRE_INIT_MAGIC, 0x44332211, REASON(MAGIC), WIRE_MAGIC),
		EDIT(WIRE_INIT_VERSION, 0, REASON(VERSION), 1),
		EDIT(WIRE_INIT_VERSION, 2, REASON(VERSION), 1),
		{ WIRE_INIT_ID, 1, true, 0,
		  { REASON(INIT), 0, NONE, 0, NONE, 0, 1 } },
		{ WIRE_INIT_ID, 255, true, 0,
		  { REASON(INIT), 0, NONE, 0, NONE, 0, 255 } },
		{ WIRE_INIT_UUID, 0xff, true, 0,
		  { REASON(INIT), 0, NONE, 0, NONE, 0, 0 } },
		{ WIRE_INIT_UUID + WIRE_UUID_SIZE - 1, 0xff, true, 0,
		  { REASON(INIT), 0, NONE, 0, NONE, 0, 0 } },
	};

	for (unsigned int i = 0; i < ARRAY_LEN(edits); i++) {
		ASSERT_EQ(0, engine_create_sealed(&self->engine, self->file, 1,
						  0));
		apply(self->engine.channel[0].bytes.at, &edits[i]);
		put_all(_metadata, &self->engine);
		engine_start_all(&self->engine);
		check_edit(_metadata, &self->engine, &edits[i]);
		again(&self->engine, self->file);
	}
}

#define PLAIN		(WIRE_VFIO_DATA - WIRE_VFIO_VERSION)	/* bytes */
#define DIGESTED	(WIRE_DIGEST_DATA - WIRE_VFIO_VERSION)

/* The good packet of idx 0 is loaded, the one behind it is not */
TEST_F(refuse, packets)
{
	static const struct edit edits[] = {
		EDIT(WIRE_PACKET_MAGIC, 0, REASON(MAGIC), WIRE_MAGIC),
		EDIT(WIRE_PACKET_MAGIC, 0x11223340, REASON(MAGIC), WIRE_MAGIC),
		EDIT(WIRE_PACKET_VERSION, 0, REASON(VERSION), 1),
		EDIT(WIRE_PACKET_VERSION, 2, REASON(VERSION), 1),
		/* RAM, sync, sync and device state, zlib, an unknown one */
		EDIT(WIRE_PACKET_FLAGS, 0, REASON(FLAGS), 0x40),
		EDIT(WIRE_PACKET_FLAGS, 1, REASON(FLAGS), 0x40),
		EDIT(WIRE_PACKET_FLAGS, 0x41, REASON(FLAGS), 0x40),
		EDIT(WIRE_PACKET_FLAGS, 0x42, REASON(FLAGS), 0x40),
		EDIT(WIRE_PACKET_FLAGS, 0x80000040, REASON(FLAGS), 0x40),
		{ WIRE_PACKET_IDSTR + WIRE_IDSTR_SIZE - 1, 'x', true, 0,
		  { REASON(IDSTR), 0, NONE, 0, NONE, 0, 0 } },
		EDIT(WIRE_VFIO_VERSION, 1, REASON(VERSION), 0),
		EDIT(WIRE_VFIO_VERSION, ~0U, REASON(VERSION), 0),
		EDIT(WIRE_VFIO_FLAGS, 2, REASON(FLAGS), 0),
		EDIT(WIRE_VFIO_FLAGS, 3, REASON(FLAGS), 0),
		EDIT(WIRE_VFIO_FLAGS, 4, REASON(FLAGS), 0),
		EDIT(WIRE_VFIO_FLAGS, 1U << 31, REASON(FLAGS), 0),
		EDIT_DIGEST(WIRE_VFIO_FLAGS, 0, REASON(FLAGS), 2),
		EDIT_DIGEST(WIRE_VFIO_FLAGS, 1, REASON(FLAGS), 2),
		EDIT_DIGEST(WIRE_VFIO_FLAGS, 6, REASON(FLAGS), 2),
		EDIT(WIRE_PACKET_SIZE, 0, REASON(LENGTH), PLAIN + 4096),
		EDIT(WIRE_PACKET_SIZE, 11, REASON(LENGTH), PLAIN + 4096),
		EDIT(WIRE_PACKET_SIZE, 12, REASON(LENGTH), PLAIN + 4096),
		EDIT(WIRE_PACKET_SIZE, 12 + 4097, REASON(LENGTH), PLAIN + 4096),
		EDIT(WIRE_PACKET_SIZE, 1U << 31, REASON(LENGTH), PLAIN + 4096),
		EDIT(WIRE_PACKET_SIZE, ~0U, REASON(LENGTH), PLAIN + 4096),
		EDIT_DIGEST(WIRE_PACKET_SIZE, 19, REASON(LENGTH),
			    DIGESTED + 4096),
		EDIT_DIGEST(WIRE_PACKET_SIZE, 20, REASON(LENGTH),
			    DIGESTED + 4096),
		EDIT_DIGEST(WIRE_PACKET_SIZE, 20 + 4097, REASON(LENGTH),
			    DIGESTED + 4096),
		EDIT(WIRE_VFIO_IDX, 1 << 24, REASON(IDX), (1 << 24) - 1),
		EDIT(WIRE_VFIO_IDX, ~0U, REASON(IDX), (1 << 24) - 1),
		/* got is the idx that nobody wanted */
		{ WIRE_PACKET_INSTANCE, 1, false, 0,
		  { REASON(UNKNOWN_DEVICE), 0, NONE, 0, NONE, ANY, 1 } },
		{ WIRE_PACKET_IDSTR, 'D', true, 0,
		  { REASON(UNKNOWN_DEVICE), 0, NONE, 0, NONE, ANY, 1 } },
		{ WIRE_PACKET_IDSTR + 3, 'x', true, 0,
		  { REASON(UNKNOWN_DEVICE), 0, NONE, 0, NONE, ANY, 1 } },
		{ WIRE_PACKET_IDSTR, '\0', true, 0,
		  { REASON(UNKNOWN_DEVICE), 0, NONE, 0, NONE, ANY, 1 } },
		{ WIRE_VFIO_IDX, 0, false, 0,
		  { REASON(DUPLICATE), 0, 0, 0, 0, ANY, 0 } },
	};

	for (unsigned int i = 0; i < ARRAY_LEN(edits); i++) {
		struct engine *engine = &self->engine;
		int failed = _metadata->exit_code;

		ASSERT_EQ(0, engine_create_sealed(engine, self->file, 1,
						  edits[i].features));
		engine_add(engine, 0, 0, 0, "good", 4);
		apply(engine_add(engine, 0, 1, 0, "bad", 3), &edits[i]);
		put_all(_metadata, engine);
		engine_start_all(engine);
		check_edit(_metadata, engine, &edits[i]);
		EXPECT_TRUE(engine_file_has(self->file, "good", 4));
		if (_metadata->exit_code != failed)
			TH_LOG("this was edit %u", i);
		again(&self->engine, self->file);
	}
}

TEST_F(refuse, config_length)
{
	const struct failure plain = {
		REASON(LENGTH), 0, NONE, 0, NONE, PLAIN + 65536, PLAIN + 65537
	};
	const struct failure huge = {
		REASON(LENGTH), 0, NONE, 0, NONE, PLAIN + 65536, ~0U
	};
	const struct failure small = {
		REASON(LENGTH), 0, NONE, 0, NONE, DIGESTED + 65536, PLAIN
	};
	static const uint8_t config[65537];
	uint8_t *at;

	ASSERT_EQ(0, engine_create_sealed(&self->engine, self->file, 1, 0));
	engine_add(&self->engine, 0, 0, WIRE_CONFIG, config, 65537);
	engine_start_all(&self->engine);
	engine_put(&self->engine.channel[0]);
	check_failure(_metadata, &self->engine, &plain);
	again(&self->engine, self->file);

	ASSERT_EQ(0, engine_create_sealed(&self->engine, self->file, 1, 0));
	at = engine_add(&self->engine, 0, 0, WIRE_CONFIG, config, 1);
	wire_put32(at + WIRE_PACKET_SIZE, ~0U);
	put_all(_metadata, &self->engine);
	engine_start_all(&self->engine);
	check_failure(_metadata, &self->engine, &huge);
	again(&self->engine, self->file);

	ASSERT_EQ(0, engine_create_sealed(&self->engine, self->file, 1,
					  DIGEST));
	at = engine_add(&self->engine, 0, 0, WIRE_CONFIG, config, 1);
	wire_put32(at + WIRE_PACKET_SIZE, PLAIN);
	put_all(_metadata, &self->engine);
	engine_start_all(&self->engine);
	check_failure(_metadata, &self->engine, &small);
}

/* A packet that waits for its device waits until no device can come */
TEST_F(refuse, unknown_at_switchover)
{
	const struct failure failure = {
		REASON(UNKNOWN_DEVICE), 0, NONE, 1, NONE, ANY, 3
	};
	struct engine *engine = &self->engine;
	struct wire_packet packet = {
		.idstr = "other", .idx = 3, .data = engine_uuid, .len = 1,
	};

	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_RECV, 2, 0,
				   ENGINE_PACKET, 0));
	ASSERT_EQ(0, engine_add_device(engine->fd, self->file, "dev", 0));
	engine_add_inits(engine);
	wire_add_packet(&engine->channel[1].bytes, &packet);
	put_all(_metadata, engine);
	engine_start_all(engine);
	EXPECT_TRUE(engine_wait_asleep(engine));
	EXPECT_TRUE(engine_wait_state(engine->fd, VFIO_MULTIFD_STATE_READY));
	ASSERT_EQ(0, engine_switchover(engine->fd));
	check_failure(_metadata, engine, &failure);
}

/* Sends channel 0's packet, and channel 1's when that one is held or loaded */
static void put_in_turn(struct __test_metadata *_metadata,
			struct engine *engine)
{
	engine_start_all(engine);
	ASSERT_EQ(0, engine_put(&engine->channel[0]));
	ASSERT_TRUE(engine_wait_asleep(engine));
	ASSERT_EQ(0, engine_put(&engine->channel[1]));
}

/* Two packets on two channels, and what the second leads to */
static const struct {
	uint32_t idx[2];
	uint32_t flags[2];
	struct failure failure;
} pairs[] = {
	/* the same idx again: held, loaded, as config state */
	{ { 1, 1 }, { 0, 0 },
	  { REASON(DUPLICATE), 0, 0, 1, 1, ANY, 1 } },
	{ { 0, 0 }, { 0, 0 },
	  { REASON(DUPLICATE), 0, 0, 1, 0, ANY, 0 } },
	{ { 5, 5 }, { 0, WIRE_CONFIG },
	  { REASON(DUPLICATE), 0, 0, 1, 5, ANY, 5 } },
	{ { 5, 5 }, { WIRE_CONFIG, 0 },
	  { REASON(DUPLICATE), 0, 0, 1, 5, ANY, 5 } },
	/* a last packet that is not the last */
	{ { 5, 3 }, { 0, WIRE_CONFIG },
	  { REASON(IDX), 0, 0, 1, 3, 5, 3 } },
	{ { 5, 6 }, { WIRE_CONFIG, 0 },
	  { REASON(IDX), 0, 0, 1, 6, 5, 6 } },
	{ { 5, (1 << 24) - 1 }, { WIRE_CONFIG, 0 },
	  { REASON(IDX), 0, 0, 1, (1 << 24) - 1, 5, (1 << 24) - 1 } },
	{ { 5, 5 }, { WIRE_CONFIG, WIRE_CONFIG },
	  { REASON(SECOND_CONFIG), 0, 0, 1, 5, ANY, 5 } },
	{ { 5, 6 }, { WIRE_CONFIG, WIRE_CONFIG },
	  { REASON(SECOND_CONFIG), 0, 0, 1, 6, ANY, 6 } },
	/* all channels hold, none can go on */
	{ { 1, 2 }, { 0, 0 },
	  { REASON(GAP), 0, 0, 1, 2, 0, 2 } },
};

TEST_F(refuse, pairs)
{
	struct engine *engine = &self->engine;

	for (unsigned int i = 0; i < ARRAY_LEN(pairs); i++) {
		int failed = _metadata->exit_code;

		ASSERT_EQ(0, engine_create_sealed(engine, self->file, 2,
						  i % 2 ? DIGEST : 0));
		for (unsigned int j = 0; j < 2; j++)
			engine_add(engine, j, pairs[i].idx[j],
				   pairs[i].flags[j], "data", 4);
		put_in_turn(_metadata, engine);
		check_failure(_metadata, engine, &pairs[i].failure);
		if (_metadata->exit_code != failed)
			TH_LOG("this was pair %u", i);
		again(&self->engine, self->file);
	}
}

/* A gap that every channel has reached, and none is left to fill it */
TEST_F(refuse, gap)
{
	const struct failure one = { REASON(GAP), 0, 0, 0, 3, 2, 3 };
	struct engine *engine = &self->engine;

	ASSERT_EQ(0, engine_create_sealed(&self->engine, self->file, 1, 0));
	engine_add(engine, 0, 0, 0, "a", 1);
	engine_add(engine, 0, 1, 0, "b", 1);
	engine_add(engine, 0, 3, 0, "d", 1);
	put_all(_metadata, engine);
	engine_start_all(engine);
	check_failure(_metadata, engine, &one);
	EXPECT_TRUE(engine_file_has(self->file, "ab", 2));
}

/* A device that lacks a packet is not done, and the end of file tells it */
TEST_F(refuse, gap_before_config)
{
	const struct failure failure = {
		REASON(EOF), -ECONNRESET, NONE, 0, NONE, 0, 0
	};
	struct engine *engine = &self->engine;

	ASSERT_EQ(0, engine_create_sealed(&self->engine, self->file, 1, 0));
	engine_add(engine, 0, 0, 0, "a", 1);
	engine_add(engine, 0, 2, WIRE_CONFIG, NULL, 0);
	put_all(_metadata, engine);
	engine_start_all(engine);
	ASSERT_TRUE(engine_wait_packets(engine->fd, 2));
	usleep(20000);
	EXPECT_TRUE(engine_wait_state(engine->fd, VFIO_MULTIFD_STATE_SEALED));
	shutdown(engine->channel[0].sock, SHUT_WR);
	check_failure(_metadata, engine, &failure);
}

/* Flips a bit of a packet's digest or data */
static void flip(struct __test_metadata *_metadata, struct engine *engine,
		 int file, uint32_t flags, unsigned int bit)
{
	struct failure failure = { REASON(DIGEST), 0, 0, 0, 0, 0, 0 };
	uint8_t *at;

	ASSERT_EQ(0, engine_create_sealed(engine, file, 1, DIGEST));
	at = engine_add(engine, 0, 0, flags, "0123456789abcdef", 16);
	at[WIRE_VFIO_DIGEST + bit / 8] ^= 1 << bit % 8;
	failure.expected = wire_get64(at + WIRE_VFIO_DIGEST);
	failure.got = xxh64(at + WIRE_DIGEST_DATA, 16);
	put_all(_metadata, engine);
	engine_start_all(engine);
	check_failure(_metadata, engine, &failure);
	EXPECT_TRUE(engine_file_has(file, NULL, 0));
	again(engine, file);
}

TEST_F(refuse, flipped_bits)
{
	for (unsigned int bit = 0; bit < 8 * (8 + 16); bit++)
		flip(_metadata, &self->engine, self->file, 0, bit);
}

TEST_F(refuse, flipped_bits_of_config)
{
	for (unsigned int bit = 0; bit < 8 * (8 + 16); bit += 5)
		flip(_metadata, &self->engine, self->file, WIRE_CONFIG,
		     bit);
}

/* The end of a channel after each of its bytes */
TEST_F(refuse, early_end)
{
	const size_t data = WIRE_INIT_SIZE + WIRE_DIGEST_DATA;

	for (size_t len = 0; len <= data + 16; len++) {
		bool in_packet = len >= data && len < data + 16;
		const struct failure failure = {
			REASON(EOF), -ECONNRESET, in_packet ? 0 : NONE, 0,
			in_packet ? 0 : NONE, 0, 0
		};
		struct engine *engine = &self->engine;

		ASSERT_EQ(0, engine_create_sealed(&self->engine, self->file, 1,
						  DIGEST));
		engine_add(engine, 0, 0, 0, "0123456789abcdef", 16);
		engine->channel[0].bytes.len = len;
		put_all(_metadata, engine);
		shutdown(engine->channel[0].sock, SHUT_WR);
		engine_start_all(engine);
		check_failure(_metadata, engine, &failure);
		again(&self->engine, self->file);
	}
}

TEST_F(refuse, reset)
{
	const struct failure failure = {
		REASON(SOCKET), -ECONNRESET, NONE, 1, NONE, 0, 0
	};
	struct linger linger = { .l_onoff = 1 };
	struct engine *engine = &self->engine;

	ASSERT_EQ(0, engine_create_sealed(&self->engine, self->file, 2, 0));
	put_all(_metadata, engine);
	engine_start_all(engine);
	usleep(20000);
	setsockopt(engine->channel[1].sock, SOL_SOCKET, SO_LINGER, &linger,
		   sizeof(linger));
	close(engine->channel[1].sock);
	engine->channel[1].sock = -1;
	check_failure(_metadata, engine, &failure);
}

/* A pipe whose reader goes, at once or when half of a packet is in it */
TEST_F(refuse, broken_pipe)
{
	struct engine *engine = &self->engine;
	static const uint8_t data[8192];
	int pipes[2], filled;

	signal(SIGPIPE, SIG_IGN);
	for (unsigned int half = 0; half < 2; half++) {
		const struct failure failure = {
			REASON(DEVICE_WRITE), -EPIPE, 0, 0, 0, 8192, half * 4096
		};

		ASSERT_EQ(0, pipe(pipes));
		ASSERT_EQ(4096, fcntl(pipes[1], F_SETPIPE_SZ, 4096));
		ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_RECV, 1, 0,
					   8192, 0));
		ASSERT_EQ(0, engine_add_device(engine->fd, pipes[1], "dev", 0));
		close(pipes[1]);
		engine_add_inits(engine);
		engine_add(engine, 0, 0, 0, data, 8192);
		put_all(_metadata, engine);
		if (half)
			engine_start_all(engine);
		do {
			ASSERT_EQ(0, ioctl(pipes[0], FIONREAD, &filled));
		} while (half && filled < 4096);
		close(pipes[0]);
		if (!half)
			engine_start_all(engine);
		check_failure(_metadata, engine, &failure);
		engine_destroy(engine);
	}
}

TEST_F(refuse, full_file)
{
	const struct failure failure = {
		REASON(DEVICE_WRITE), -EPERM, 0, 0, 1, 96, 0
	};
	struct engine *engine = &self->engine;
	static const uint8_t data[4096];

	ASSERT_EQ(0, engine_create_sealed(&self->engine, self->file, 1, 0));
	ASSERT_EQ(0, ftruncate(self->file, 4096));
	ASSERT_EQ(0, fcntl(self->file, F_ADD_SEALS, F_SEAL_GROW));
	engine_add(engine, 0, 0, 0, data, 4096);
	engine_add(engine, 0, 1, 0, data, 96);
	put_all(_metadata, engine);
	engine_start_all(engine);
	check_failure(_metadata, engine, &failure);
}

TEST_F(refuse, nothing_left)
{
	EXPECT_TRUE(engine_wait_unused());
}

TEST_HARNESS_MAIN

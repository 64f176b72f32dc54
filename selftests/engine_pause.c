// SPDX-License-Identifier: GPL-2.0-only
/* Devices in PRE_COPY, which have nothing more for now, and then something */
#include <endian.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>

#include "harness.h"
#include "answer.h"
#include "engine.h"
#include <vfio_record.h>

#define PRE_COPY	VFIO_MULTIFD_DEVICE_PRE_COPY
#define PIECE		(3 * ENGINE_PACKET + 11)
#define PIECES		4

FIXTURE(pause) {
	struct engine engine;
	struct answer answer;
	uint8_t *data;
	int file;
};

FIXTURE_SETUP(pause)
{
	ENGINE_NEEDED();
	self->data = engine_pattern(PIECES * PIECE, 1);
	self->file = engine_memfd(self->data, PIECE);
	ASSERT_EQ(0, engine_create(&self->engine, VFIO_MULTIFD_SEND, 2, 0,
				   ENGINE_PACKET, 0));
}

FIXTURE_TEARDOWN(pause)
{
	engine_destroy(&self->engine);
	close(self->file);
	free(self->data);
}

static int device_status(int fd, struct vfio_multifd_device_status *status,
			 uint64_t wake)
{
	*status = (struct vfio_multifd_device_status) {
		.argsz = sizeof(*status), .wake_packets = wake,
	};
	return engine_call(fd, VFIO_MULTIFD_DEVICE_STATUS, status);
}

/* By poll() alone, as a VMM would; what it told before must be forgotten. */
static bool wait_paused(int fd)
{
	struct vfio_multifd_device_status device;
	struct vfio_multifd_status status;
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	do {
		if (engine_status(fd, &status) || device_status(fd, &device, 0))
			return false;
		if (device.paused)
			return true;
	} while (poll(&pollfd, 1, 10000) == 1);
	return false;
}

static int go_on(int fd, uint32_t device)
{
	struct vfio_multifd_continue arg = {
		.argsz = sizeof(arg), .device = device,
	};

	return engine_call(fd, VFIO_MULTIFD_CONTINUE, &arg);
}

static bool all_came(struct engine *engine, const void *data, size_t len)
{
	struct wire_packets packets;
	struct wire_state state = {};
	bool same;

	engine_close(engine);
	same = !engine_parse(engine, &packets) &&
	       !wire_join(&state, &packets, "dev", 0) &&
	       state.data.len == len && !memcmp(state.data.at, data, len);
	wire_state_free(&state);
	free(packets.packet);
	return same;
}

/* A file that grows: each end of it is a pause, the last one is not. */
TEST_F(pause, rounds)
{
	struct vfio_multifd_device_status status;
	int fd = self->engine.fd;

	ASSERT_EQ(0, engine_add_device_with(fd, PRE_COPY, self->file, "dev",
					    0));
	engine_start_all(&self->engine);
	engine_read_all(&self->engine);
	for (unsigned int i = 1; i < PIECES; i++) {
		ASSERT_TRUE(wait_paused(fd));
		ASSERT_EQ(0, device_status(fd, &status, 0));
		EXPECT_EQ(i * PIECE, status.bytes);
		EXPECT_EQ(0, status.done);
		ASSERT_EQ(PIECE, pwrite(self->file, self->data + i * PIECE,
					PIECE, i * PIECE));
		/* it does not look by itself */
		EXPECT_TRUE(engine_wait_asleep(&self->engine));
		ASSERT_EQ(0, device_status(fd, &status, 0));
		EXPECT_EQ(i * PIECE, status.bytes);
		if (i < PIECES - 1)
			ASSERT_EQ(0, go_on(fd, 0));
	}
	ASSERT_EQ(0, engine_switchover(fd));
	EXPECT_EQ(-EBADFD, go_on(fd, 0));
	ASSERT_EQ(0, engine_set_config(fd, 0, "x", 1));
	EXPECT_EQ(0, engine_join_all(&self->engine));
	ASSERT_EQ(0, device_status(fd, &status, 0));
	EXPECT_EQ(1, status.done);
	EXPECT_EQ(0, status.paused);
	EXPECT_TRUE(all_came(&self->engine, self->data, PIECES * PIECE));
}

/* Without the flag nothing to read is the end, whenever it comes. */
TEST_F(pause, without_flag)
{
	int fd = self->engine.fd;

	ASSERT_EQ(0, engine_add_device(fd, self->file, "dev", 0));
	engine_start_all(&self->engine);
	engine_read_all(&self->engine);
	ASSERT_TRUE(engine_wait_packets(fd, 4));
	ASSERT_TRUE(engine_wait_asleep(&self->engine));
	ASSERT_EQ(PIECE, pwrite(self->file, self->data + PIECE, PIECE, PIECE));
	ASSERT_EQ(0, go_on(fd, 0));
	ASSERT_EQ(0, engine_switchover(fd));
	ASSERT_EQ(0, engine_set_config(fd, 0, "x", 1));
	EXPECT_EQ(0, engine_join_all(&self->engine));
	EXPECT_TRUE(all_came(&self->engine, self->data, PIECE));
}

/* -ENOMSG is a pause before the switchover, and an error after it. */
TEST_F(pause, no_message)
{
	struct vfio_multifd_status status;
	int fd = self->engine.fd;

	ASSERT_EQ(0, engine_add_device_with(fd, PRE_COPY |
					    VFIO_MULTIFD_DEVICE_FOREIGN,
					    self->file, "dev", 0));
	lseek(self->file, 0, SEEK_SET);
	self->answer = (struct answer) {
		.fd = fd, .file = &self->file, .packets = 1, .last = -ENOMSG,
	};
	answer_start(&self->answer);
	ASSERT_TRUE(wait_paused(fd));
	ASSERT_EQ(0, go_on(fd, 0));
	ASSERT_TRUE(wait_paused(fd));
	ASSERT_EQ(0, engine_switchover(fd));
	EXPECT_EQ(-ENOMSG, answer_join(&self->answer));
	ASSERT_EQ(0, engine_status(fd, &status));
	EXPECT_EQ(VFIO_MULTIFD_REASON_DEVICE_READ, status.reason);
}

/* What was asked before the switchover ends nothing, whatever it says. */
static void across(struct __test_metadata *_metadata, int fd, int file,
		   int result)
{
	struct vfio_multifd_run run = {};

	ASSERT_EQ(0, engine_add_device_with(fd, PRE_COPY |
					    VFIO_MULTIFD_DEVICE_FOREIGN, file,
					    "dev", 0));
	ASSERT_EQ(0, engine_set_config(fd, 0, "x", 1));
	ASSERT_EQ(0, answer_run(fd, &run));
	ASSERT_EQ(VFIO_MULTIFD_ASK_READ, run.ask);
	ASSERT_EQ(0, engine_switchover(fd));
	run.result = result;
	ASSERT_EQ(0, answer_run(fd, &run));
	ASSERT_EQ(VFIO_MULTIFD_ASK_READ, run.ask);
	run.result = 0;
	ASSERT_EQ(0, answer_run(fd, &run));
	EXPECT_EQ(VFIO_MULTIFD_ASK_NOTHING, run.ask);
	EXPECT_TRUE(engine_wait_state(fd, VFIO_MULTIFD_STATE_DONE));
}

TEST_F(pause, nothing_across_switchover)
{
	across(_metadata, self->engine.fd, self->file, 0);
}

TEST_F(pause, no_message_across_switchover)
{
	across(_metadata, self->engine.fd, self->file, -ENOMSG);
}

/*
 * A stream that says that its records may come in any order may not do so in pre-copy:
 * what is sent again must not be overtaken.
 */
TEST_F(pause, is_in_order)
{
	const struct vfio_record first = {
		.tag = htole32(VFIO_RECORD_MAGIC),
		.flags = htole32(VFIO_RECORD_ORDER_FREE),
	};
	struct wire_packets packets;
	struct engine engine;
	int fds[2];

	for (unsigned int i = 0; i < 2; i++) {
		ASSERT_EQ(0, engine_create(&engine, VFIO_MULTIFD_SEND, 1,
					   VFIO_MULTIFD_FEATURE_ORDER_FREE,
					   2 * ENGINE_PACKET, 0));
		ASSERT_EQ(0, pipe(fds));
		ASSERT_EQ(sizeof(first), write(fds[1], &first, sizeof(first)));
		close(fds[1]);
		ASSERT_EQ(0, engine_add_device_with(engine.fd, (i ? PRE_COPY :
						    0) |
						    VFIO_MULTIFD_DEVICE_RECORDS,
						    fds[0], "dev", 0));
		close(fds[0]);
		engine_start_all(&engine);
		engine_read_all(&engine);
		if (i)
			ASSERT_TRUE(wait_paused(engine.fd));
		ASSERT_EQ(0, engine_switchover(engine.fd));
		ASSERT_EQ(0, engine_set_config(engine.fd, 0, "x", 1));
		EXPECT_EQ(0, engine_join_all(&engine));
		engine_close(&engine);
		ASSERT_EQ(NULL, engine_parse(&engine, &packets));
		ASSERT_EQ(2, packets.nr);
		EXPECT_EQ(i ? 0 : WIRE_FREE, packets.packet[0].flags);
		free(packets.packet);
		engine_destroy(&engine);
	}
}

TEST_F(pause, refused)
{
	struct engine other;
	int fd = self->engine.fd;

	EXPECT_EQ(-ENOENT, go_on(fd, 0));
	EXPECT_EQ(-ENOENT, go_on(fd, ~0U));
	ASSERT_EQ(0, engine_create(&other, VFIO_MULTIFD_RECV, 1, 0,
				   ENGINE_PACKET, 0));
	EXPECT_EQ(-EINVAL, engine_add_device_with(other.fd, PRE_COPY,
						  self->file, "dev", 0));
	EXPECT_EQ(0, engine_add_device(other.fd, self->file, "dev", 0));
	EXPECT_EQ(-EBADFD, go_on(other.fd, 0));
	engine_destroy(&other);
}

/* poll() tells of a number of packets that somebody waits for. */
TEST_F(pause, wakes)
{
	struct vfio_multifd_device_status device;
	struct vfio_multifd_status status;
	struct engine recv;
	struct pollfd pollfd = { .events = POLLIN };
	int file = engine_memfd("", 0);

	ASSERT_EQ(0, engine_create_sealed(&recv, file, 1, 0));
	pollfd.fd = recv.fd;
	ASSERT_EQ(0, engine_status(recv.fd, &status));
	ASSERT_EQ(0, device_status(recv.fd, &device, 2));
	EXPECT_EQ(0, device.packets);
	engine_start_all(&recv);
	engine_add(&recv, 0, 0, 0, "a", 1);
	ASSERT_EQ(0, engine_put(&recv.channel[0]));
	ASSERT_TRUE(engine_wait_asleep(&recv));
	EXPECT_EQ(0, poll(&pollfd, 1, 0));
	engine_add(&recv, 0, 1, 0, "b", 1);
	ASSERT_EQ(0, engine_put(&recv.channel[0]));
	EXPECT_EQ(1, poll(&pollfd, 1, 10000));
	ASSERT_EQ(0, device_status(recv.fd, &device, 0));
	EXPECT_EQ(2, device.packets);
	engine_destroy(&recv);
	close(file);
}

/* What a channel did is the sum of what it did, and its time went by. */
TEST_F(pause, channel_status)
{
	struct vfio_multifd_channel_status channel;
	uint64_t start = engine_now(), bytes = 0, packets = 0, ns;
	int fd = self->engine.fd;

	ASSERT_EQ(0, engine_add_device_with(fd, PRE_COPY, self->file, "dev",
					    0));
	engine_start_all(&self->engine);
	engine_read_all(&self->engine);
	ASSERT_TRUE(wait_paused(fd));
	ASSERT_EQ(0, engine_switchover(fd));
	ASSERT_EQ(0, engine_set_config(fd, 0, "x", 1));
	EXPECT_EQ(0, engine_join_all(&self->engine));
	for (unsigned int i = 0; i < 3; i++) {
		ASSERT_EQ(i < 2 ? 0 : -ENOENT,
			  engine_channel_status(fd, i, &channel));
		if (i == 2)
			break;
		bytes += channel.bytes;
		packets += channel.packets;
		ns = channel.network_ns + channel.device_ns + channel.wait_ns;
		EXPECT_LT(0, ns);
		EXPECT_GT(engine_now() - start, ns);
	}
	EXPECT_EQ(PIECE, bytes);
	EXPECT_EQ(5, packets);
}

TEST_HARNESS_MAIN

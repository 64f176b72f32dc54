// SPDX-License-Identifier: GPL-2.0-only
/* Devices whose files user space reads and writes for the engine */
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <linux/tcp.h>

#include "harness.h"
#include "answer.h"
#include "engine.h"
#include "replace.h"

#define FOREIGN	VFIO_MULTIFD_DEVICE_FOREIGN
#define DIGEST	VFIO_MULTIFD_FEATURE_DIGEST
#define KEEPING	(DIGEST | VFIO_MULTIFD_FEATURE_REPLACE)
#define LEN	(40 * ENGINE_PACKET + 77)

FIXTURE(streams) {
	struct engine engine;
	struct answer answer[4];
	uint8_t *data;
};

FIXTURE_VARIANT(streams) {
	unsigned int channels;
	uint64_t features;
	unsigned int packets;
	size_t most;
};

FIXTURE_VARIANT_ADD(streams, one) {
	.channels = 1, .packets = 1,
};

FIXTURE_VARIANT_ADD(streams, one_byte_short) {
	.channels = 1, .packets = 3, .most = ENGINE_PACKET - 1,
};

FIXTURE_VARIANT_ADD(streams, four) {
	.channels = 4, .packets = 2, .most = 777,
};

FIXTURE_VARIANT_ADD(streams, four_with_digests) {
	.channels = 4, .packets = VFIO_MULTIFD_MAP_PACKETS, .features = DIGEST,
};

FIXTURE_SETUP(streams)
{
	ENGINE_NEEDED();
	self->data = engine_pattern(LEN, 1);
}

FIXTURE_TEARDOWN(streams)
{
	engine_destroy(&self->engine);
	free(self->data);
}

static void start(struct engine *engine, struct answer *answer,
		  unsigned int packets, size_t most, const int *file)
{
	for (unsigned int i = 0; i < engine->channels; i++) {
		answer[i] = (struct answer) {
			.fd = engine->fd, .id = i, .file = file,
			.packets = packets, .most = most,
		};
		answer_start(&answer[i]);
	}
}

static bool has(const struct wire_packets *packets, const char *name,
		const uint8_t *data, size_t len)
{
	struct wire_state state = {};
	const char *wrong = wire_join(&state, packets, name, 0);
	bool same = !wrong && state.data.len == len &&
		    !memcmp(state.data.at, data, len);

	wire_state_free(&state);
	return same;
}

/* One device that is foreign, and one that is not */
TEST_F(streams, send)
{
	struct engine *engine = &self->engine;
	struct wire_packets packets;
	unsigned int questions = 0;
	int file[2];

	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_SEND, variant->channels,
				   variant->features, ENGINE_PACKET, 0));
	file[0] = engine_memfd(self->data, LEN);
	file[1] = engine_memfd(self->data + 5, LEN - 5);
	/* whoever reads it shares the position */
	lseek(file[0], 0, SEEK_SET);
	ASSERT_EQ(0, engine_add_device_with(engine->fd, FOREIGN, file[0], "a",
					    0));
	ASSERT_EQ(1, engine_add_device(engine->fd, file[1], "b", 0));
	start(engine, self->answer, variant->packets, variant->most, file);
	ASSERT_EQ(0, engine_switchover(engine->fd));
	engine_read_all(engine);
	ASSERT_EQ(0, engine_set_config(engine->fd, 0, "x", 1));
	ASSERT_EQ(0, engine_set_config(engine->fd, 1, "y", 1));
	for (unsigned int i = 0; i < variant->channels; i++) {
		EXPECT_EQ(0, answer_join(&self->answer[i]));
		questions += self->answer[i].questions;
	}
	EXPECT_LT(LEN / ENGINE_PACKET, questions);
	engine_close(engine);
	ASSERT_EQ(NULL, engine_parse(engine, &packets));
	EXPECT_TRUE(has(&packets, "a", self->data, LEN));
	EXPECT_TRUE(has(&packets, "b", self->data + 5, LEN - 5));
	free(packets.packet);
	close(file[0]);
	close(file[1]);
}

/* Packets of all channels in turn, the config state last */
TEST_F(streams, receive)
{
	struct engine *engine = &self->engine;
	int file = engine_memfd("", 0);
	uint32_t idx = 0, len;

	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_RECV, variant->channels,
				   variant->features, ENGINE_PACKET, 0));
	ASSERT_EQ(0, engine_add_device_with(engine->fd, FOREIGN, file, "dev",
					    0));
	engine_add_inits(engine);
	ASSERT_EQ(0, engine_switchover(engine->fd));
	start(engine, self->answer, 1, variant->most, &file);
	for (size_t at = 0; at < LEN; at += len, idx++) {
		len = LEN - at < ENGINE_PACKET ? LEN - at : ENGINE_PACKET;
		engine_add(engine, idx % variant->channels, idx, 0,
			   self->data + at, len);
	}
	engine_add(engine, idx % variant->channels, idx, WIRE_CONFIG, "x", 1);
	for (unsigned int i = 0; i < variant->channels; i++)
		ASSERT_EQ(0, engine_put(&engine->channel[i]));
	for (unsigned int i = 0; i < variant->channels; i++)
		EXPECT_EQ(0, answer_join(&self->answer[i]));
	EXPECT_TRUE(engine_file_has(file, self->data, LEN));
	close(file);
}

FIXTURE(question) {
	struct engine engine;
	struct vfio_multifd_run run;
	uint8_t *map;
	int file;
};

FIXTURE_SETUP(question)
{
	ENGINE_NEEDED();
	self->file = engine_memfd("abc", 3);
	ASSERT_EQ(0, answer_create(&self->engine, 2, 0, 0, self->file));
	self->map = answer_map(self->engine.fd, 1, 1);
	ASSERT_NE(MAP_FAILED, self->map);
	self->run.id = 1;
	ASSERT_EQ(0, answer_run(self->engine.fd, &self->run));
	ASSERT_EQ(VFIO_MULTIFD_ASK_READ, self->run.ask);
	ASSERT_EQ(0, self->run.device);
	ASSERT_EQ(ANSWER_AREA, self->run.offset);
	ASSERT_EQ(ENGINE_PACKET, self->run.size);
	ASSERT_EQ(0, self->run.result);
}

FIXTURE_TEARDOWN(question)
{
	munmap(self->map, ENGINE_PACKET);
	engine_destroy(&self->engine);
	close(self->file);
}

static int fails_with(int fd, uint32_t reason)
{
	struct vfio_multifd_status status;

	if (engine_status(fd, &status) || status.reason != reason ||
	    status.state != VFIO_MULTIFD_STATE_FAILED || status.device)
		return 1;
	return status.error;
}

TEST_F(question, stays_open)
{
	struct vfio_multifd_run again = { .id = 1 };

	for (unsigned int i = 0; i < 3; i++) {
		ASSERT_EQ(0, answer_run(self->engine.fd, &again));
		EXPECT_EQ(0, memcmp(&again, &self->run, sizeof(again)));
		again.ask = VFIO_MULTIFD_ASK_NOTHING;
		again.device = 7;	/* no answer, so not looked at */
	}
}

TEST_F(question, other_answers)
{
	struct vfio_multifd_run run;
	int fd = self->engine.fd;

#define WRONG(field, value) do {					\
	run = self->run;						\
	run.result = 1;							\
	run.field = value;						\
	EXPECT_EQ(-EINVAL, answer_run(fd, &run));			\
} while (0)
	WRONG(ask, VFIO_MULTIFD_ASK_WRITE);
	WRONG(ask, 3);
	WRONG(number, self->run.number + 1);
	WRONG(device, 1);
	WRONG(offset, 0);
	WRONG(size, 1);
	WRONG(result, ENGINE_PACKET + 1);
	WRONG(result, -4096);
	WRONG(result, INT64_MIN);
	WRONG(result, INT64_MAX);
	WRONG(id, 0);	/* which was asked nothing */
	run = self->run;
	run.result = -EIO;
	EXPECT_EQ(-EIO, answer_run(fd, &run));
	EXPECT_EQ(-EIO, fails_with(fd, VFIO_MULTIFD_REASON_DEVICE_READ));
}

TEST_F(question, interrupted)
{
	self->run.result = -EINTR;
	ASSERT_EQ(0, answer_run(self->engine.fd, &self->run));
	EXPECT_EQ(VFIO_MULTIFD_ASK_READ, self->run.ask);
	self->run.result = -EAGAIN;
	EXPECT_EQ(-EAGAIN, answer_run(self->engine.fd, &self->run));
	EXPECT_EQ(-EAGAIN, fails_with(self->engine.fd,
				      VFIO_MULTIFD_REASON_DEVICE_READ));
}

TEST_F(question, cancelled)
{
	ASSERT_EQ(0, engine_cancel(self->engine.fd));
	self->run.result = 3;
	EXPECT_EQ(-ECANCELED, answer_run(self->engine.fd, &self->run));
}

/* Who has no mapping has read nothing. */
TEST_F(question, without_mapping)
{
	struct vfio_multifd_run run = {};
	int fd = self->engine.fd, file = engine_memfd("x", 1);

	ASSERT_EQ(1, engine_add_device_with(fd, FOREIGN, file, "other", 0));
	ASSERT_EQ(0, answer_run(fd, &run));
	ASSERT_EQ(1, run.device);
	run.result = 1;
	EXPECT_EQ(-EFAULT, answer_run(fd, &run));
	close(file);
}

TEST_F(question, read_only_answer)
{
	struct vfio_multifd_run *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
					     MAP_PRIVATE | MAP_ANONYMOUS, -1,
					     0);

	ASSERT_NE(MAP_FAILED, page);
	page->id = 1;
	page->argsz = sizeof(*page);
	ASSERT_EQ(0, mprotect(page, 4096, PROT_READ));
	EXPECT_EQ(-EFAULT, engine_call(self->engine.fd,
				       VFIO_MULTIFD_RUN_CHANNEL, page));
	/* nothing is lost */
	ASSERT_EQ(0, mprotect(page, 4096, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, answer_run(self->engine.fd, page));
	EXPECT_EQ(0, memcmp(page, &self->run, sizeof(*page)));
	munmap(page, 4096);
}

/* Nothing that the kernel had in these pages is to be seen. */
TEST_F(question, mapping_is_zero)
{
	for (unsigned int i = 0; i < ENGINE_PACKET; i++)
		ASSERT_EQ(0, self->map[i]);
}

static int map_error(int fd, int flags, uint32_t size, off_t offset)
{
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, offset);

	if (map == MAP_FAILED)
		return -errno;
	munmap(map, size);
	return 0;
}

TEST_F(question, mappings)
{
	int fd = self->engine.fd, new = engine_open();

	EXPECT_EQ(-EBADFD, map_error(new, MAP_SHARED, 4096, 0));
	close(new);
	EXPECT_EQ(-EINVAL, map_error(fd, MAP_SHARED, ANSWER_AREA + 4096, 0));
	EXPECT_EQ(0, map_error(fd, MAP_SHARED, ANSWER_AREA, 0));
	/* as long as the first, whatever that is */
	EXPECT_EQ(-EINVAL, map_error(fd, MAP_SHARED, 4096, 0));
	EXPECT_EQ(0, map_error(fd, MAP_SHARED, 4096, ANSWER_AREA));
	EXPECT_EQ(-EINVAL, map_error(fd, MAP_SHARED, 4096, 4096));
	EXPECT_EQ(-EINVAL, map_error(fd, MAP_PRIVATE, 4096, 0));
	EXPECT_EQ(-EINVAL, map_error(fd, MAP_SHARED, 8192, ANSWER_AREA));
	EXPECT_EQ(-ENOENT, map_error(fd, MAP_SHARED, 4096, 2 * ANSWER_AREA));
	EXPECT_EQ(-ENOENT, map_error(fd, MAP_SHARED, 4096, 1LL << 40));
	/* it cannot grow, nor be a child's */
	EXPECT_EQ(MAP_FAILED, mremap(self->map, 4096, 8192, MREMAP_MAYMOVE));
	EXPECT_EQ(-1, madvise(self->map, 4096, MADV_DOFORK));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(question, mapping_while_it_runs)
{
	engine_start(&self->engine.channel[0]);
	ASSERT_TRUE(engine_wait_one_asleep(&self->engine.channel[0]));
	EXPECT_EQ(-EBUSY, map_error(self->engine.fd, MAP_SHARED, 4096, 0));
}

/* Where the next packet's worth of data is to be read to, if all goes well */
static int read_one(int fd, uint8_t *map, struct vfio_multifd_run *run)
{
	unsigned int packet = run->offset % ANSWER_AREA / ENGINE_PACKET;

	memset(map + packet * ENGINE_PACKET, run->number, ENGINE_PACKET);
	run->result = ENGINE_PACKET;
	return answer_run(fd, run) ?:
	       (int)(run->offset % ANSWER_AREA / ENGINE_PACKET);
}

static bool got_one(int sock, uint8_t byte)
{
	uint8_t packet[WIRE_VFIO_DATA + ENGINE_PACKET];

	if (recv(sock, packet, sizeof(packet), MSG_WAITALL) != sizeof(packet))
		return false;
	for (size_t i = WIRE_VFIO_DATA; i < sizeof(packet); i++)
		if (packet[i] != byte)
			return false;
	return true;
}

/* Whose pages are with the socket is not asked for, until the peer has read them. */
TEST_F(question, packets)
{
	static const int asked[] = { 1, 2, 3, 0, 0, 0 };
	struct vfio_multifd_run run = {};
	uint8_t init[WIRE_INIT_SIZE], *map, *other;
	struct engine engine;
	int packet = 0;

	munmap(self->map, ENGINE_PACKET);
	engine_destroy(&self->engine);
	ASSERT_EQ(0, answer_create(&engine, 1, 0, 0, self->file));
	map = answer_map(engine.fd, 0, 4);
	ASSERT_NE(MAP_FAILED, map);
	/* mappings alone keep no page away, whether they stay or go */
	other = answer_map(engine.fd, 0, 4);
	ASSERT_NE(MAP_FAILED, other);
	ASSERT_EQ(0, answer_run(engine.fd, &run));
	ASSERT_EQ(ENGINE_PACKET, run.offset);
	for (unsigned int i = 1; i < ARRAY_SIZE(asked); i++)
		ASSERT_EQ(asked[i], read_one(engine.fd, map, &run));
	munmap(other, 4 * ENGINE_PACKET);
	recv(engine.channel[0].sock, init, sizeof(init), MSG_WAITALL);
	for (unsigned int i = 1; i < ARRAY_SIZE(asked); i++)
		ASSERT_TRUE(got_one(engine.channel[0].sock, i));
	/* it may take them a moment to come back */
	for (unsigned int i = 0; i < 100 && !packet; i++) {
		packet = read_one(engine.fd, map, &run);
		ASSERT_TRUE(got_one(engine.channel[0].sock, run.number - 1));
		usleep(10000);
	}
	EXPECT_EQ(1, packet);
	munmap(map, 4 * ENGINE_PACKET);
	engine_destroy(&engine);
}

/* On the same host a peer may map what came, and nobody is to write to that. */
TEST_F(question, mapped_by_the_peer)
{
	struct vfio_multifd_run run = {};
	struct tcp_zerocopy_receive receive = { .length = ENGINE_PACKET };
	uint8_t head[WIRE_INIT_SIZE + WIRE_VFIO_DATA], *map, *theirs;
	socklen_t size = sizeof(receive);
	struct engine engine;
	int sock;

	munmap(self->map, ENGINE_PACKET);
	engine_destroy(&self->engine);
	ASSERT_EQ(0, answer_create(&engine, 1, 0, 0, self->file));
	map = answer_map(engine.fd, 0, 3);
	ASSERT_NE(MAP_FAILED, map);
	sock = engine.channel[0].sock;
	theirs = mmap(NULL, ENGINE_PACKET, PROT_READ, MAP_SHARED, sock, 0);
	ASSERT_NE(MAP_FAILED, theirs);

	ASSERT_EQ(0, answer_run(engine.fd, &run));
	ASSERT_EQ(ENGINE_PACKET, run.offset);
	ASSERT_EQ(2, read_one(engine.fd, map, &run));
	ASSERT_EQ(sizeof(head), recv(sock, head, sizeof(head), MSG_WAITALL));
	receive.address = (uintptr_t)theirs;
	ASSERT_EQ(0, getsockopt(sock, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE,
				&receive, &size));
	ASSERT_EQ(ENGINE_PACKET, receive.length);
	ASSERT_EQ(1, theirs[0]);
	for (unsigned int i = 2; i < 10; i++) {
		EXPECT_NE(1, read_one(engine.fd, map, &run));
		ASSERT_TRUE(got_one(sock, i));
	}
	EXPECT_EQ(1, theirs[0]);
	munmap(theirs, ENGINE_PACKET);
	munmap(map, 3 * ENGINE_PACKET);
	engine_destroy(&engine);
}

/* What closes is over; what is mapped is given back with the mapping. */
TEST_F(question, outlives_the_fd)
{
	engine_destroy(&self->engine);
	self->map[0] = 1;
	EXPECT_EQ(1, self->map[0]);
	EXPECT_EQ(0, munmap(self->map, ENGINE_PACKET));
	EXPECT_TRUE(engine_wait_unused());
}

static int in_child(int fd, uint8_t *map)
{
	uint8_t vec;
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (map_error(fd, MAP_SHARED, 4096, 0) != -EIO)
			_exit(1);
		/* there is nothing at that address */
		_exit(mincore(map, 4096, &vec) && errno == ENOMEM ? 0 : 2);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

TEST_F(question, child)
{
	EXPECT_EQ(0, in_child(self->engine.fd, self->map));
}

/*
 * What cannot be read at all is no device.  Some of that could hold the transfer's
 * own file, which would keep itself for ever.
 */
TEST_F(question, cannot_be_read)
{
	int fd = self->engine.fd, file = epoll_create1(0), sock[2];

	EXPECT_EQ(-EOPNOTSUPP, engine_add_device(fd, file, "x", 0));
	EXPECT_EQ(-EOPNOTSUPP, engine_add_device_with(fd, FOREIGN, file, "x",
						      0));
	EXPECT_EQ(-EOPNOTSUPP, engine_add_device_with(fd, FOREIGN, fd, "x", 0));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	EXPECT_EQ(-EOPNOTSUPP, engine_add_device_with(fd, FOREIGN, sock[0],
						      "x", 0));
	EXPECT_EQ(-EBUSY, engine_add_device_with(fd, FOREIGN, self->file, "x",
						 0));
	close(sock[0]);
	close(sock[1]);
	close(file);
}

/* What was answered is over, though the next question looks the same. */
TEST_F(question, answered_twice)
{
	struct vfio_multifd_run old = self->run;

	self->run.result = 1;
	ASSERT_EQ(0, answer_run(self->engine.fd, &self->run));
	ASSERT_EQ(VFIO_MULTIFD_ASK_READ, self->run.ask);
	EXPECT_NE(old.number, self->run.number);
	old.result = 1;
	EXPECT_EQ(-EINVAL, answer_run(self->engine.fd, &old));
}

static void nothing(int signal)
{
	(void)signal;
}

/* A signal after the answer was taken brings back that there is none to give. */
TEST_F(question, signal_after_answer)
{
	struct sigaction action = { .sa_handler = nothing };
	struct itimerval timer = { .it_value.tv_usec = 300000 };
	int fd = self->engine.fd;

	/* the end of it: then the thread waits for the config state */
	sigaction(SIGALRM, &action, NULL);
	self->run.result = 0;
	setitimer(ITIMER_REAL, &timer, NULL);
	ASSERT_EQ(-EINTR, answer_run(fd, &self->run));
	EXPECT_EQ(VFIO_MULTIFD_ASK_NOTHING, self->run.ask);
	ASSERT_EQ(0, engine_set_config(fd, 0, "x", 1));
	ASSERT_EQ(0, engine_switchover(fd));
	EXPECT_EQ(0, answer_run(fd, &self->run));
}

/* A write that ends short is asked for again, one of nothing is an error. */
TEST_F(question, writes)
{
	struct vfio_multifd_run run = {};
	struct engine engine;
	uint8_t *map;
	int file = engine_memfd("", 0);

	ASSERT_EQ(0, engine_create(&engine, VFIO_MULTIFD_RECV, 1, 0,
				   ENGINE_PACKET, 0));
	ASSERT_EQ(0, engine_add_device_with(engine.fd, FOREIGN, file, "dev",
					    0));
	/* there is nothing to read to */
	EXPECT_EQ(-EINVAL, map_error(engine.fd, MAP_SHARED, 2 * ENGINE_PACKET,
				     0));
	map = answer_map(engine.fd, 0, 1);
	ASSERT_NE(MAP_FAILED, map);
	engine_add_inits(&engine);
	engine_add(&engine, 0, 0, 0, "abcdef", 6);
	ASSERT_EQ(0, engine_put(&engine.channel[0]));
	ASSERT_EQ(0, answer_run(engine.fd, &run));
	EXPECT_EQ(VFIO_MULTIFD_ASK_WRITE, run.ask);
	EXPECT_EQ(0, run.offset);
	EXPECT_EQ(6, run.size);
	EXPECT_EQ(0, memcmp(map, "abcdef", 6));
	run.result = 2;
	ASSERT_EQ(0, answer_run(engine.fd, &run));
	EXPECT_EQ(2, run.offset);
	EXPECT_EQ(4, run.size);
	run.result = 0;
	EXPECT_EQ(-EIO, answer_run(engine.fd, &run));
	EXPECT_EQ(-EIO, fails_with(engine.fd,
				   VFIO_MULTIFD_REASON_DEVICE_WRITE));
	munmap(map, ENGINE_PACKET);
	engine_destroy(&engine);
	close(file);
}

/* A foreign device is in order, whatever the two ends agreed on. */
TEST_F(question, is_in_order)
{
	struct vfio_multifd_run run = {};
	struct engine engine;

	engine_destroy(&self->engine);
	munmap(self->map, ENGINE_PACKET);
	ASSERT_EQ(0, engine_create(&engine, VFIO_MULTIFD_SEND, 2,
				   VFIO_MULTIFD_FEATURE_ORDER_FREE,
				   2 * ENGINE_PACKET, 0));
	ASSERT_EQ(0, engine_add_device_with(engine.fd, FOREIGN |
					    VFIO_MULTIFD_DEVICE_RECORDS,
					    self->file, "dev", 0));
	ASSERT_EQ(0, answer_run(engine.fd, &run));
	EXPECT_EQ(VFIO_MULTIFD_ASK_READ, run.ask);
	/* nobody else is asked meanwhile */
	engine_start(&engine.channel[1]);
	EXPECT_TRUE(engine_wait_one_asleep(&engine.channel[1]));
	engine_destroy(&engine);
}

/* What user space has read goes again over another connection, and is not read again. */
TEST(kept)
{
	struct answer answer = { .packets = VFIO_MULTIFD_MAP_PACKETS };
	struct vfio_multifd_channel_status there, here;
	struct engine source, destination;
	size_t len = 6 * ENGINE_PACKET + 5;
	uint8_t *data = engine_pattern(len, 7);
	int from, to, pair[2];

	ENGINE_NEEDED();
	from = engine_memfd(data, len);
	to = engine_memfd(NULL, 0);
	ASSERT_EQ(0, answer_create(&source, 1, KEEPING, 4096, from));
	ASSERT_EQ(0, engine_begin(&destination, VFIO_MULTIFD_RECV, 1, KEEPING,
				  ENGINE_PACKET));
	ASSERT_EQ(0, engine_add_channel(destination.fd, source.channel[0].sock, 0));
	ASSERT_EQ(0, engine_add_device(destination.fd, to, "dev", 0));
	ASSERT_EQ(0, engine_set_config(source.fd, 0, "c", 1));
	ASSERT_EQ(0, engine_switchover(source.fd));
	ASSERT_EQ(0, engine_switchover(destination.fd));
	answer.fd = source.fd;
	answer.file = &from;
	answer_start(&answer);
	usleep(100000);
	ASSERT_EQ(0, replace_give_up(&destination, 0));
	ASSERT_EQ(0, replace_give_up(&source, 0));
	destination.channel[0] = (struct engine_channel) {
		.fd = destination.fd, .sock = -1,
	};
	destination.channels = 1;
	engine_start_all(&destination);
	ASSERT_TRUE(replace_wait_lost(&destination, 0, &there));
	ASSERT_TRUE(replace_wait_lost(&source, 0, &here));
	TH_LOG("the peer has %llu of %llu", there.packets, here.packets);
	EXPECT_GT(len / ENGINE_PACKET, there.packets);
	ASSERT_EQ(0, engine_tcp_pair(pair, 0));
	ASSERT_EQ(0, replace_hand_over(&destination, pair[1], 0, 0));
	EXPECT_EQ(0, replace_hand_over_soon(&source, pair[0], 0, there.packets));
	EXPECT_EQ(0, answer_join(&answer));
	EXPECT_EQ(0, engine_join_all(&destination));
	EXPECT_TRUE(engine_file_has(to, data, len));
	engine_destroy(&source);
	engine_destroy(&destination);
	close(pair[0]);
	close(pair[1]);
	close(from);
	close(to);
	free(data);
}

TEST_HARNESS_MAIN

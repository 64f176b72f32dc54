// SPDX-License-Identifier: GPL-2.0-only
/* Connections that break, and others that take their place */
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "harness.h"
#include "answer.h"
#include "engine.h"
#include "replace.h"
#include "testing.h"

#define FEATURES	(VFIO_MULTIFD_FEATURE_DIGEST | \
			 VFIO_MULTIFD_FEATURE_REPLACE)
#define CHANNELS	4
#define BUFFER		16384	/* of a socket: small, so that much is on its way */
#define LENGTH		((12 << 20) + 5)
#define PATIENCE_S	60

static const char config[] = "config state";

/*
 * A source and a destination, and their sockets by id, which the tests keep as any
 * owner could.
 */
FIXTURE(replace) {
	struct engine source;
	struct engine destination;
	int sock[CHANNELS][2];
	uint8_t *data;
	int from;
	int to;
};

FIXTURE_VARIANT(replace) {
	unsigned int channels;
	uint32_t packet_size;
};

FIXTURE_VARIANT_ADD(replace, one) {
	.channels = 1, .packet_size = 4096,
};

FIXTURE_VARIANT_ADD(replace, four) {
	.channels = CHANNELS, .packet_size = 16384,
};

FIXTURE_VARIANT_ADD(replace, large) {
	.channels = 2, .packet_size = 1 << 20,
};

static int connect_one(struct engine *source, struct engine *destination,
		       uint32_t id, int sock[2])
{
	int ret = engine_tcp_pair(sock, BUFFER);

	if (!ret)
		ret = engine_add_channel(source->fd, sock[0], id);
	return ret ? ret : engine_add_channel(destination->fd, sock[1], id);
}

static void add(struct engine *engine, uint32_t id)
{
	engine->channel[id] = (struct engine_channel) {
		.fd = engine->fd, .id = id, .sock = -1,
	};
	engine->channels = id + 1;
}

FIXTURE_SETUP(replace)
{
	ENGINE_NEEDED();
	memset(self->sock, -1, sizeof(self->sock));
	self->data = engine_pattern(LENGTH, 7);
	self->from = engine_memfd(self->data, LENGTH);
	self->to = engine_memfd(NULL, 0);
	ASSERT_EQ(0, engine_begin(&self->source, VFIO_MULTIFD_SEND,
				  variant->channels, FEATURES,
				  variant->packet_size));
	ASSERT_EQ(0, engine_begin(&self->destination, VFIO_MULTIFD_RECV,
				  variant->channels, FEATURES,
				  variant->packet_size));
	for (uint32_t id = 0; id < variant->channels; id++) {
		ASSERT_EQ(0, connect_one(&self->source, &self->destination, id,
					 self->sock[id]));
		add(&self->source, id);
		add(&self->destination, id);
	}
	ASSERT_EQ(0, engine_add_device(self->source.fd, self->from, "dev", 0));
	ASSERT_EQ(0, engine_set_config(self->source.fd, 0, config,
				       sizeof(config)));
	ASSERT_EQ(0, engine_add_device(self->destination.fd, self->to, "dev",
				       0));
	ASSERT_EQ(0, engine_switchover(self->source.fd));
	ASSERT_EQ(0, engine_switchover(self->destination.fd));
}

FIXTURE_TEARDOWN(replace)
{
	for (uint32_t id = 0; id < CHANNELS; id++) {
		for (unsigned int end = 0; end < 2; end++)
			if (self->sock[id][end] >= 0)
				close(self->sock[id][end]);
	}
	engine_destroy(&self->source);
	engine_destroy(&self->destination);
	close(self->from);
	close(self->to);
	free(self->data);
}

static void break_it(int sock[2], unsigned int how)
{
	switch (how % 4) {
	case 0:
		shutdown(sock[0], SHUT_RDWR);
		break;
	case 1:
		shutdown(sock[1], SHUT_RDWR);
		break;
	case 2:
		shutdown(sock[0], SHUT_RDWR);
		shutdown(sock[1], SHUT_RDWR);
		break;
	default:	/* whoever said that it is lost */
		break;
	}
}

static bool all_is_there(struct engine *source, struct engine *destination,
			 int to, const uint8_t *data)
{
	char got[sizeof(config)];
	uint32_t size = sizeof(got);

	return !engine_join_all(source) && !engine_join_all(destination) &&
	       engine_file_has(to, data, LENGTH) &&
	       !engine_get_config(destination->fd, 0, got, &size) &&
	       size == sizeof(config) && !memcmp(got, config, size);
}

TEST_F(replace, nothing_is_lost)
{
	engine_start_all(&self->source);
	engine_start_all(&self->destination);
	ASSERT_TRUE(all_is_there(&self->source, &self->destination, self->to,
				 self->data));
}

TEST_F(replace, again_and_again)
{
	unsigned int times;
	int ret = 0;

	engine_start_all(&self->destination);
	engine_start_all(&self->source);
	for (times = 0; times < 40 && !ret; times++) {
		uint32_t id = times % variant->channels;

		usleep(rand() % 8000);
		break_it(self->sock[id], rand());
		ret = replace_channel(&self->source, &self->destination, id,
				      self->sock[id], BUFFER);
	}
	TH_LOG("%u times", times - 1);
	ASSERT_LE(0, ret);
	EXPECT_LT(1, times);
	ASSERT_TRUE(all_is_there(&self->source, &self->destination, self->to,
				 self->data));
}

/* Before a byte of it came */
TEST_F(replace, at_the_beginning)
{
	engine_start_all(&self->destination);
	for (uint32_t id = 0; id < variant->channels; id++) {
		shutdown(self->sock[id][1], SHUT_RDWR);
		engine_start(&self->source.channel[id]);
		ASSERT_EQ(0, replace_channel(&self->source, &self->destination, id,
					     self->sock[id], BUFFER));
	}
	ASSERT_TRUE(all_is_there(&self->source, &self->destination, self->to,
				 self->data));
}

/* Does the other end want no more of it? */
static bool is_refused(int sock)
{
	uint64_t end = engine_now() + PATIENCE_S * 1000000000ull / 6;

	do {
		if (send(sock, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
		    (errno == EPIPE || errno == ECONNRESET))
			return true;
		usleep(1000);
	} while (engine_now() < end);
	return false;
}

/* What comes after somebody has ended reading alone is not acknowledged. */
TEST_F(replace, reading_ends)
{
	struct vfio_multifd_channel_status status;
	int pair[2];

	engine_start_all(&self->destination);
	shutdown(self->sock[0][1], SHUT_RD);
	ASSERT_TRUE(replace_wait_lost(&self->destination, 0, &status));
	EXPECT_TRUE(is_refused(self->sock[0][0]));

	ASSERT_EQ(0, engine_tcp_pair(pair, 0));
	ASSERT_EQ(0, replace_hand_over(&self->destination, pair[1], 0, 0));
	shutdown(pair[1], SHUT_RD);
	ASSERT_TRUE(replace_wait_lost(&self->destination, 0, &status));
	EXPECT_TRUE(is_refused(pair[0]));
	close(pair[0]);
	close(pair[1]);

	engine_start_all(&self->source);
	ASSERT_EQ(0, replace_channel(&self->source, &self->destination, 0,
				     self->sock[0], BUFFER));
	ASSERT_TRUE(all_is_there(&self->source, &self->destination, self->to,
				 self->data));
}

TEST_F(replace, refusals)
{
	struct vfio_multifd_channel_status status;
	int pair[2];

	ASSERT_EQ(0, engine_tcp_pair(pair, 0));
	EXPECT_EQ(-EBUSY, replace_hand_over(&self->source, pair[0], 0, 0));
	EXPECT_EQ(-EBUSY, replace_hand_over(&self->destination, pair[1], 0, 0));
	EXPECT_EQ(-ENOENT, replace_hand_over(&self->source, pair[0], CHANNELS, 0));
	EXPECT_EQ(-ENOENT, replace_give_up(&self->source, CHANNELS));
	EXPECT_EQ(-EBADF, replace_hand_over(&self->source, -EAGAIN, 0, 0));
	EXPECT_EQ(-EBADF, replace_hand_over(&self->source, 1000, 0, 0));
	EXPECT_EQ(-ENOTSOCK, replace_hand_over(&self->source, self->from, 0, 0));
	EXPECT_EQ(-EBUSY, replace_hand_over(&self->source, self->sock[0][0], 0, 0));
	EXPECT_EQ(-EINVAL, replace_hand_over(&self->source, -1, 0, 1));

	engine_start(&self->source.channel[0]);
	engine_start(&self->destination.channel[0]);
	ASSERT_TRUE(engine_wait_packets(self->source.fd, 1));
	ASSERT_EQ(0, replace_give_up(&self->source, 0));
	ASSERT_TRUE(replace_wait_lost(&self->source, 0, &status));
	EXPECT_EQ(-ENODATA, replace_hand_over_soon(&self->source, pair[0], 0,
						   status.packets + 2));
	ASSERT_TRUE(replace_wait_lost(&self->destination, 0, &status));
	EXPECT_EQ(-EINVAL, replace_hand_over(&self->destination, pair[1], 0, 1));
	shutdown(pair[0], SHUT_RDWR);
	EXPECT_EQ(-ENOTCONN, replace_hand_over(&self->source, pair[0], 0,
					       status.packets));
	/* what is refused is nobody's */
	close(pair[0]);
	close(pair[1]);
	ASSERT_EQ(0, testing_other_net());
	ASSERT_EQ(0, engine_tcp_pair(pair, 0));
	EXPECT_EQ(-EXDEV, replace_hand_over(&self->source, pair[0], 0,
					    status.packets));
	close(pair[0]);
	close(pair[1]);
	EXPECT_EQ(0, engine_cancel(self->source.fd));
	EXPECT_EQ(-EBADFD, replace_give_up(&self->source, 0));
	EXPECT_EQ(-ECANCELED, engine_join(&self->source.channel[0]));
	EXPECT_EQ(0, engine_cancel(self->destination.fd));
	EXPECT_EQ(-ECANCELED, engine_join(&self->destination.channel[0]));
}

/* Whoever says that less came than TCP knows of cannot be helped. */
TEST_F(replace, what_is_gone)
{
	/* more than both sockets hold: when the source took the last, it let the first go */
	const uint64_t least = 3 + 8 * BUFFER / variant->packet_size;
	struct vfio_multifd_channel_status status;
	int pair[2];

	engine_start_all(&self->destination);
	engine_start_all(&self->source);
	do {
		ASSERT_EQ(0, engine_channel_status(self->destination.fd, 0, &status));
	} while (status.packets < least);
	shutdown(self->sock[0][1], SHUT_RDWR);
	ASSERT_EQ(0, replace_give_up(&self->source, 0));
	ASSERT_TRUE(replace_wait_lost(&self->source, 0, &status));
	ASSERT_TRUE(replace_wait_lost(&self->destination, 0, &status));
	ASSERT_EQ(0, engine_tcp_pair(pair, 0));
	EXPECT_EQ(-ENODATA, replace_hand_over_soon(&self->source, pair[0], 0, 0));
	EXPECT_EQ(0, replace_hand_over(&self->source, pair[0], 0, status.packets));
	EXPECT_EQ(0, replace_hand_over(&self->destination, pair[1], 0, 0));
	close(self->sock[0][0]);
	close(self->sock[0][1]);
	self->sock[0][0] = pair[0];
	self->sock[0][1] = pair[1];
	ASSERT_TRUE(all_is_there(&self->source, &self->destination, self->to,
				 self->data));
}

/* All was sent, as far as the source can tell, and some of it is on its way. */
TEST_F(replace, after_the_end)
{
	unsigned int id;
	int ret = 0;

	for (id = 0; id < variant->channels; id++) {
		int size = 16 << 20;

		setsockopt(self->sock[id][0], SOL_SOCKET, SO_SNDBUFFORCE, &size,
			   sizeof(size));
	}
	engine_start_all(&self->source);
	ASSERT_TRUE(engine_wait_state(self->source.fd,
				      VFIO_MULTIFD_STATE_DONE));
	engine_start_all(&self->destination);
	for (id = 0; id < variant->channels && !ret; id++) {
		shutdown(self->sock[id][1], SHUT_RDWR);
		ret = replace_channel(&self->source, &self->destination, id,
				      self->sock[id], BUFFER);
	}
	/* the destination may have had it all, but for the first one */
	EXPECT_LT(ret, id);
	ASSERT_LE(0, ret);
	ASSERT_TRUE(all_is_there(&self->source, &self->destination, self->to,
				 self->data));
}

/*
 * A source that is DONE sends again by channel 0, to a peer that does not read.  Returns
 * how many packets the destination has.
 */
static uint64_t send_again(struct __test_metadata *_metadata,
			   struct engine *source, struct engine *destination,
			   int sock[2])
{
	struct vfio_multifd_channel_status status;
	int size = 16 << 20, pair[2];

	setsockopt(sock[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	engine_start(&source->channel[0]);
	ASSERT_TRUE(engine_wait_state(source->fd, VFIO_MULTIFD_STATE_DONE));
	ASSERT_EQ(0, engine_join(&source->channel[0]));
	shutdown(sock[1], SHUT_RDWR);
	engine_start(&destination->channel[0]);
	ASSERT_TRUE(replace_wait_lost(destination, 0, &status));
	ASSERT_EQ(0, engine_tcp_pair(pair, BUFFER));
	ASSERT_EQ(0, replace_hand_over(source, pair[0], 0, status.packets));
	close(pair[0]);
	source->channel[0].sock = pair[1];
	engine_start(&source->channel[0]);
	ASSERT_TRUE(engine_wait_one_asleep(&source->channel[0]));
	return status.packets;
}

TEST_F(replace, cancelled_after_the_end)
{
	uint64_t packets = send_again(_metadata, &self->source,
				      &self->destination, self->sock[0]);
	int pair[2];

	ASSERT_EQ(0, engine_cancel(self->source.fd));
	EXPECT_EQ(0, engine_join(&self->source.channel[0]));
	/* and not once more */
	ASSERT_EQ(0, engine_tcp_pair(pair, 0));
	ASSERT_EQ(0, replace_hand_over(&self->source, pair[0], 0, packets));
	EXPECT_EQ(0, engine_run(self->source.fd, 0));
	EXPECT_EQ(-1, recv(pair[1], &packets, 1, MSG_DONTWAIT));
	EXPECT_EQ(EAGAIN, errno);
	close(pair[0]);
	close(pair[1]);
}

TEST_F(replace, closed_after_the_end)
{
	send_again(_metadata, &self->source, &self->destination, self->sock[0]);
	close(self->source.fd);
	self->source.fd = -1;
	EXPECT_EQ(0, engine_join(&self->source.channel[0]));
}

static void nothing(int signal)
{
	(void)signal;
}

/* Sends what was added but for @cut bytes, breaks the connection, and makes another. */
static void put_part(struct __test_metadata *_metadata, struct engine *engine,
		     size_t cut, uint64_t packets)
{
	struct engine_channel *channel = &engine->channel[0];
	struct vfio_multifd_channel_status status;
	int pair[2];

	channel->bytes.len -= cut;
	ASSERT_EQ(0, engine_put(channel));
	shutdown(channel->sock, SHUT_WR);
	ASSERT_TRUE(replace_wait_lost(engine, 0, &status));
	EXPECT_EQ(packets, status.packets);
	close(channel->sock);
	ASSERT_EQ(0, engine_tcp_pair(pair, 0));
	channel->sock = pair[1];
	/* it parks again, or has the new one already */
	pthread_kill(channel->thread, SIGUSR1);
	usleep(rand() % 200);
	EXPECT_EQ(0, replace_hand_over(engine, pair[0], 0, 0));
	close(pair[0]);
	engine_add_inits(engine);
}

/* Of a packet that came in part all is forgotten: the next may be another one. */
TEST(half_a_packet)
{
	uint8_t *data = engine_pattern(3 * ENGINE_PACKET, 3);
	int file = engine_memfd(NULL, 0);
	uint8_t got[ENGINE_PACKET];
	uint32_t size = sizeof(got);
	struct engine engine;

	ENGINE_NEEDED();
	signal(SIGUSR1, nothing);
	ASSERT_EQ(0, engine_create_sealed(&engine, file, 1, FEATURES));
	engine_start_all(&engine);
	for (unsigned int i = 0; i < 500; i++) {
		engine_add(&engine, 0, 0, 0, data + 5, ENGINE_PACKET);
		put_part(_metadata, &engine, 100, 0);
	}
	engine_add(&engine, 0, 0, 0, data, 1000);
	engine_add(&engine, 0, 1, WIRE_CONFIG, data + 7, 100);
	put_part(_metadata, &engine, 1, 1);
	engine_add(&engine, 0, 1, 0, data + 1000, 1000);
	engine_add(&engine, 0, 2, 0, data + 2000, ENGINE_PACKET);
	engine_add(&engine, 0, 3, WIRE_CONFIG, data, ENGINE_PACKET);
	put_part(_metadata, &engine, ENGINE_PACKET, 3);
	engine_add(&engine, 0, 3, WIRE_CONFIG, data, ENGINE_PACKET - 1);
	ASSERT_EQ(0, engine_put(&engine.channel[0]));
	EXPECT_EQ(0, engine_join_all(&engine));
	EXPECT_TRUE(replace_is_done(&engine));
	EXPECT_TRUE(engine_file_has(file, data, 2000 + ENGINE_PACKET));
	EXPECT_EQ(0, engine_get_config(engine.fd, 0, got, &size));
	EXPECT_EQ(ENGINE_PACKET - 1, size);
	EXPECT_EQ(0, memcmp(got, data, size));
	engine_destroy(&engine);
	close(file);
	free(data);
}

/* A channel that has nothing to send would not find out by itself. */
TEST(idle)
{
	struct vfio_multifd_channel_status status;
	struct engine engine;

	ENGINE_NEEDED();
	ASSERT_EQ(0, engine_create(&engine, VFIO_MULTIFD_SEND, 1, FEATURES,
				   ENGINE_PACKET, 0));
	engine_start_all(&engine);
	ASSERT_TRUE(engine_wait_asleep(&engine));
	ASSERT_EQ(0, replace_give_up(&engine, 0));
	EXPECT_TRUE(replace_wait_lost(&engine, 0, &status));
	ASSERT_EQ(0, engine_cancel(engine.fd));
	EXPECT_EQ(-ECANCELED, engine_join_all(&engine));
	engine_destroy(&engine);
}

static void reset(int sock)
{
	struct linger linger = { .l_onoff = 1 };

	setsockopt(sock, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(sock);
}

/* Who has nothing to send would not notice, before the end or after it. */
TEST(reset_while_idle)
{
	struct vfio_multifd_channel_status status = {};
	int file = engine_memfd("state", 5);

	ENGINE_NEEDED();
	for (int done = 0; done < 2; done++) {
		struct engine engine;

		ASSERT_EQ(0, engine_create(&engine, VFIO_MULTIFD_SEND, 1,
					   FEATURES, ENGINE_PACKET, 0));
		if (done) {
			ASSERT_EQ(0, engine_add_device(engine.fd, file, "dev",
						       0));
			ASSERT_EQ(0, engine_set_config(engine.fd, 0, "x", 1));
			ASSERT_EQ(0, engine_switchover(engine.fd));
		}
		engine_start_all(&engine);
		ASSERT_TRUE(done ? !engine_join_all(&engine) :
				   engine_wait_asleep(&engine));
		ASSERT_EQ(0, engine_channel_status(engine.fd, 0, &status));
		EXPECT_EQ(0, status.lost);
		reset(engine.channel[0].sock);
		engine.channel[0].sock = -1;
		for (unsigned int ms = 0; !status.lost && ms < 5000; ms++) {
			usleep(1000);
			ASSERT_EQ(0, engine_channel_status(engine.fd, 0, &status));
		}
		EXPECT_EQ(1, status.lost);
		engine_cancel(engine.fd);
		EXPECT_TRUE(done || engine_join_all(&engine) == -ECANCELED);
		engine_destroy(&engine);
	}
	close(file);
}

/* Sends what user space has read, until the peer would have to read on */
static int send_most(int fd)
{
	struct itimerval timer = {
		.it_value.tv_usec = 100000, .it_interval.tv_usec = 100000,
	};
	struct sigaction action = { .sa_handler = nothing };
	struct vfio_multifd_run run = {};
	int ret = 0, before;

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	/* one may have come between two packets */
	do {
		before = ret;
		ret = answer_run(fd, &run);
		run.result = ENGINE_PACKET;
	} while (!ret || (ret == -EINTR && before != ret));
	timer = (struct itimerval) {};
	setitimer(ITIMER_REAL, &timer, NULL);
	return ret;
}

/* What user space has read for the engine it reads over when it reads on. */
TEST(read_by_user_space)
{
	struct vfio_multifd_channel_status status;
	struct answer answer = { .packets = 1 };
	struct engine engine;
	int pair[2], file;
	uint8_t *map;

	ENGINE_NEEDED();
	file = engine_memfd("", 0);
	ASSERT_EQ(0, answer_create(&engine, 1, FEATURES, BUFFER, file));
	map = answer_map(engine.fd, 0, 1);
	ASSERT_NE(MAP_FAILED, map);
	ASSERT_EQ(-EINTR, send_most(engine.fd));
	ASSERT_EQ(0, replace_give_up(&engine, 0));
	answer.fd = engine.fd;
	answer.file = &file;
	answer_start(&answer);
	ASSERT_TRUE(replace_wait_lost(&engine, 0, &status));
	ASSERT_EQ(0, engine_tcp_pair(pair, 0));
	EXPECT_EQ(-ENODATA, replace_hand_over_soon(&engine, pair[0], 0,
						   status.packets));
	EXPECT_EQ(0, engine_cancel(engine.fd));
	EXPECT_EQ(-ECANCELED, answer_join(&answer));
	munmap(map, ENGINE_PACKET);
	engine_destroy(&engine);
	close(pair[0]);
	close(pair[1]);
	close(file);
}

struct call {
	pthread_t thread;
	int fd;
	struct vfio_multifd_run run;
	int ret;
};

static void *run_once(void *arg)
{
	struct call *call = arg;

	call->ret = answer_run(call->fd, &call->run);
	return NULL;
}

/* The answer comes when the connection is lost: the packet is none of another one. */
TEST(lost_before_the_answer)
{
	struct vfio_multifd_channel_status status;
	struct call call = {};
	struct engine engine;
	int pair[2], file;
	uint8_t *map;

	ENGINE_NEEDED();
	file = engine_memfd("", 0);
	ASSERT_EQ(0, answer_create(&engine, 1, FEATURES, 0, file));
	map = answer_map(engine.fd, 0, 1);
	ASSERT_NE(MAP_FAILED, map);
	call.fd = engine.fd;
	ASSERT_EQ(0, answer_run(call.fd, &call.run));
	ASSERT_EQ(VFIO_MULTIFD_ASK_READ, call.run.ask);
	ASSERT_EQ(0, replace_give_up(&engine, 0));
	call.run.result = 3;
	signal(SIGUSR1, nothing);
	pthread_create(&call.thread, NULL, run_once, &call);
	ASSERT_TRUE(replace_wait_lost(&engine, 0, &status));
	ASSERT_EQ(0, engine_tcp_pair(pair, 0));
	EXPECT_EQ(-ENODATA, replace_hand_over_soon(&engine, pair[0], 0, 0));
	pthread_kill(call.thread, SIGUSR1);
	pthread_join(call.thread, NULL);
	EXPECT_EQ(-EINTR, call.ret);
	EXPECT_EQ(VFIO_MULTIFD_ASK_NOTHING, call.run.ask);
	munmap(map, ENGINE_PACKET);
	engine_destroy(&engine);
	close(pair[0]);
	close(pair[1]);
	close(file);
}

TEST(without_the_feature)
{
	struct engine engine;

	ENGINE_NEEDED();
	ASSERT_EQ(0, engine_create(&engine, VFIO_MULTIFD_SEND, 1, 0,
				   ENGINE_PACKET, 0));
	EXPECT_EQ(-EOPNOTSUPP, replace_give_up(&engine, 0));
	engine_destroy(&engine);
}

TEST_HARNESS_MAIN

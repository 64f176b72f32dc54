// SPDX-License-Identifier: GPL-2.0-only
/* The engine as the sender: what comes out of its channels */
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "harness.h"
#include "engine.h"
#include "vfio.h"

#define DIGEST		VFIO_MULTIFD_FEATURE_DIGEST
#define MAX_SOURCES	4
#define PACKET		16384

/* A device of the sender, and what it must send */
struct source {
	char name[32];
	uint8_t *data;
	size_t len;
	uint8_t *config;
	uint32_t config_len;
};

/* Adds a device that is a file with @len bytes */
static int add_source(struct engine *engine, struct source *source,
		      size_t len, uint32_t config_len)
{
	static unsigned int nth;
	int file, ret;

	*source = (struct source) { .len = len, .config_len = config_len };
	snprintf(source->name, sizeof(source->name), "0000:00:%02x.0/vfio",
		 nth++);
	source->data = engine_pattern(len, nth);
	source->config = engine_pattern(config_len, ~nth);
	file = engine_memfd(source->data, len);
	ret = engine_add_device(engine->fd, file, source->name, 0);
	close(file);
	return ret;
}

static int set_config(struct engine *engine, uint32_t device,
		      const struct source *source)
{
	return engine_set_config(engine->fd, device, source->config,
				 source->config_len);
}

static void free_source(struct source *source)
{
	free(source->data);
	free(source->config);
}

static bool same(const struct wire_bytes *bytes, const void *data, size_t len)
{
	return bytes->len == len && (!len || !memcmp(bytes->at, data, len));
}

/* NULL, or what is wrong with what the channels had of a device */
static const char *check_source(const struct wire_packets *packets,
				const struct source *source, uint32_t nr)
{
	struct wire_state state = {};
	const char *wrong;

	wrong = wire_join(&state, packets, source->name, 0);
	if (!wrong && !same(&state.data, source->data, source->len))
		wrong = "the data differs";
	if (!wrong && !same(&state.config, source->config, source->config_len))
		wrong = "the config state differs";
	if (!wrong && nr && state.packets != nr)
		wrong = "the number of packets differs";
	wire_state_free(&state);
	return wrong;
}

/* Closes the transfer; all that the peers got must be these devices */
static void check_sent(struct __test_metadata *_metadata,
		       struct engine *engine, struct source *source,
		       unsigned int nr)
{
	struct wire_packets packets;
	const char *wrong;

	engine_close(engine);
	wrong = engine_parse(engine, &packets);
	for (unsigned int i = 0; i < nr; i++) {
		if (!wrong)
			wrong = check_source(&packets, &source[i], 0);
		free_source(&source[i]);
	}
	ASSERT_EQ(NULL, wrong) TH_LOG("%s", wrong);
	free(packets.packet);
}

FIXTURE(streams) {
	struct engine engine;
};

FIXTURE_VARIANT(streams) {
	unsigned int channels;
	unsigned int devices;
	uint64_t features;
};

FIXTURE_VARIANT_ADD(streams, channels_1_devices_1) {
	.channels = 1, .devices = 1,
};

FIXTURE_VARIANT_ADD(streams, channels_2_devices_1) {
	.channels = 2, .devices = 1,
};

FIXTURE_VARIANT_ADD(streams, channels_4_devices_1) {
	.channels = 4, .devices = 1,
};

FIXTURE_VARIANT_ADD(streams, channels_16_devices_1) {
	.channels = 16, .devices = 1,
};

FIXTURE_VARIANT_ADD(streams, channels_64_devices_1) {
	.channels = 64, .devices = 1,
};

FIXTURE_VARIANT_ADD(streams, channels_1_devices_4) {
	.channels = 1, .devices = 4,
};

FIXTURE_VARIANT_ADD(streams, channels_4_devices_4) {
	.channels = 4, .devices = 4,
};

FIXTURE_VARIANT_ADD(streams, channels_64_devices_4) {
	.channels = 64, .devices = 4,
};

FIXTURE_VARIANT_ADD(streams, channels_1_devices_1_digest) {
	.channels = 1, .devices = 1, .features = DIGEST,
};

FIXTURE_VARIANT_ADD(streams, channels_4_devices_1_digest) {
	.channels = 4, .devices = 1, .features = DIGEST,
};

FIXTURE_VARIANT_ADD(streams, channels_2_devices_4_digest) {
	.channels = 2, .devices = 4, .features = DIGEST,
};

FIXTURE_VARIANT_ADD(streams, channels_16_devices_4_digest) {
	.channels = 16, .devices = 4, .features = DIGEST,
};

FIXTURE_VARIANT_ADD(streams, channels_64_devices_4_digest) {
	.channels = 64, .devices = 4, .features = DIGEST,
};

FIXTURE_SETUP(streams)
{
	self->engine.fd = -1;
	ENGINE_NEEDED();
}

FIXTURE_TEARDOWN(streams)
{
	engine_destroy(&self->engine);
}

/* Every byte of every device comes out, and nothing else */
TEST_F(streams, whole)
{
	struct engine *engine = &self->engine;
	struct source source[MAX_SOURCES] = {};
	struct vfio_multifd_channel_status channel;
	struct vfio_multifd_status status;
	size_t bytes = 0, packets = 0;

	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_SEND,
				   variant->channels, variant->features,
				   PACKET, 0));
	for (unsigned int i = 0; i < variant->devices; i++) {
		size_t len = (1 << 20) + i * 5000 + 1;

		ASSERT_EQ(i, add_source(engine, &source[i], len, 1000 * i));
		ASSERT_EQ(0, set_config(engine, i, &source[i]));
		bytes += len;
		packets += (len + PACKET - 1) / PACKET + 1;
	}
	engine_start_all(engine);
	engine_read_all(engine);
	ASSERT_EQ(0, engine_switchover(engine->fd));
	ASSERT_EQ(0, engine_join_all(engine));
	ASSERT_EQ(0, engine_status(engine->fd, &status));
	EXPECT_EQ(VFIO_MULTIFD_STATE_DONE, status.state);
	EXPECT_EQ(0, status.error);
	EXPECT_EQ(bytes, status.bytes);
	EXPECT_EQ(packets, status.packets);
	EXPECT_EQ(variant->devices, status.devices_done);
	/* eight packets, most of which the sockets may still have */
	for (unsigned int i = 0; i < variant->channels; i++) {
		ASSERT_EQ(0, engine_channel_status(engine->fd, i, &channel));
		EXPECT_LE(channel.memory, 8 * PACKET);
	}
	check_sent(_metadata, engine, source, variant->devices);
}

FIXTURE(send) {
	struct engine engine;
};

FIXTURE_SETUP(send)
{
	self->engine.fd = -1;
	ENGINE_NEEDED();
}

FIXTURE_TEARDOWN(send)
{
	engine_destroy(&self->engine);
}

/* Starts a transfer with one device */
static int start_one(struct engine *engine, struct source *source,
		     unsigned int channels, uint64_t features, size_t len,
		     uint32_t config_len)
{
	int ret;

	ret = engine_create(engine, VFIO_MULTIFD_SEND, channels, features,
			    ENGINE_PACKET, 0);
	if (!ret)
		ret = add_source(engine, source, len, config_len);
	if (!ret) {
		engine_start_all(engine);
		engine_read_all(engine);
	}
	return ret;
}

TEST_F(send, config_sizes)
{
	static const uint32_t sizes[] = { 0, 1, 4096, 65535, 65536 };
	struct engine *engine = &self->engine;
	struct source source;

	for (unsigned int i = 0; i < 2 * 5; i++) {
		ASSERT_EQ(0, start_one(engine, &source, 2, i % 2 ? DIGEST : 0,
				       i * 1000, sizes[i / 2]));
		ASSERT_EQ(0, engine_switchover(engine->fd));
		ASSERT_EQ(0, set_config(engine, 0, &source));
		ASSERT_EQ(0, engine_join_all(engine));
		check_sent(_metadata, engine, &source, 1);
		engine_destroy(engine);
	}
}

TEST_F(send, config_refused)
{
	struct engine *engine = &self->engine;
	static uint8_t config[65537];
	struct source source;

	ASSERT_EQ(0, start_one(engine, &source, 1, 0, 100, 3));
	EXPECT_EQ(-E2BIG, engine_set_config(engine->fd, 0, config, 65537));
	EXPECT_EQ(-E2BIG, engine_set_config(engine->fd, 0, config, ~0U));
	EXPECT_EQ(-ENOENT, engine_set_config(engine->fd, 1, config, 1));
	EXPECT_EQ(-ENOENT, engine_set_config(engine->fd, ~0U, config, 1));
	EXPECT_EQ(-EFAULT, engine_set_config(engine->fd, 0, NULL, 1));
	EXPECT_EQ(0, set_config(engine, 0, &source));
	EXPECT_EQ(-EEXIST, set_config(engine, 0, &source));
	ASSERT_EQ(0, engine_switchover(engine->fd));
	ASSERT_EQ(0, engine_join_all(engine));
	check_sent(_metadata, engine, &source, 1);
}

/* What stands behind the end of a name is not sent */
TEST_F(send, name_ends)
{
	struct vfio_multifd_device device = {
		.argsz = sizeof(device),
		.fd = engine_memfd(NULL, 0),
		.idstr = "dev\0something",
	};
	struct engine *engine = &self->engine;
	struct source source = { .name = "dev" };

	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_SEND, 1, 0,
				   ENGINE_PACKET, 0));
	ASSERT_EQ(0, engine_call(engine->fd, VFIO_MULTIFD_ADD_DEVICE, &device));
	close(device.fd);
	ASSERT_EQ(0, set_config(engine, 0, &source));
	engine_start_all(engine);
	engine_read_all(engine);
	ASSERT_EQ(0, engine_switchover(engine->fd));
	ASSERT_EQ(0, engine_join_all(engine));
	check_sent(_metadata, engine, &source, 1);
}

/* The config state is the last packet also where it is the only one */
TEST_F(send, empty_device)
{
	struct engine *engine = &self->engine;
	struct source source[2];

	ASSERT_EQ(0, start_one(engine, &source[0], 2, DIGEST, 0, 0));
	ASSERT_EQ(1, add_source(engine, &source[1], 0, 77));
	ASSERT_EQ(0, set_config(engine, 0, &source[0]));
	ASSERT_EQ(0, set_config(engine, 1, &source[1]));
	ASSERT_EQ(0, engine_switchover(engine->fd));
	ASSERT_EQ(0, engine_join_all(engine));
	check_sent(_metadata, engine, source, 2);
}

/* Devices come to their ends together: by one channel none gets ahead by a packet. */
TEST_F(send, take_turns)
{
	struct engine *engine = &self->engine;
	struct source source[MAX_SOURCES] = {};
	struct wire_packets packets;
	unsigned int data = 0;

	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_SEND, 1, 0, 16384, 0));
	for (unsigned int i = 0; i < 4; i++) {
		ASSERT_EQ(i, add_source(engine, &source[i], 10 * 16384, i));
		ASSERT_EQ(0, set_config(engine, i, &source[i]));
	}
	engine_start_all(engine);
	engine_read_all(engine);
	ASSERT_EQ(0, engine_switchover(engine->fd));
	ASSERT_EQ(0, engine_join_all(engine));
	engine_close(engine);
	ASSERT_EQ(NULL, engine_parse(engine, &packets));
	for (size_t i = 0; i < packets.nr; i++) {
		if (packets.packet[i].flags & WIRE_CONFIG)
			continue;
		EXPECT_EQ(data / 4, packets.packet[i].idx);
		data++;
	}
	EXPECT_EQ(10 * 4, data);
	free(packets.packet);
	for (unsigned int i = 0; i < 4; i++)
		free_source(&source[i]);
}

/* What one read gives is one packet, however short */
TEST_F(send, short_reads)
{
	static const size_t sizes[] = { 1, 4096, 4095, 17, 1000, 1, 4096 };
	struct engine *engine = &self->engine;
	struct wire_packets packets;
	const char *wrong;
	int pipes[2];

	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_SEND, 3, DIGEST,
				   ENGINE_PACKET, 0));
	/* a read takes what one write wrote */
	ASSERT_EQ(0, pipe2(pipes, O_DIRECT));
	ASSERT_EQ(0, engine_add_device(engine->fd, pipes[0], "dev", 9));
	ASSERT_EQ(0, engine_set_config(engine->fd, 0, "end", 3));
	for (unsigned int i = 0; i < 7; i++) {
		uint8_t *data = engine_pattern(sizes[i], i);

		ASSERT_EQ(sizes[i], write(pipes[1], data, sizes[i]));
		free(data);
	}
	close(pipes[1]);
	engine_start_all(engine);
	engine_read_all(engine);
	ASSERT_EQ(0, engine_switchover(engine->fd));
	ASSERT_EQ(0, engine_join_all(engine));
	close(pipes[0]);
	engine_close(engine);
	wrong = engine_parse(engine, &packets);
	ASSERT_EQ(NULL, wrong) TH_LOG("%s", wrong);
	ASSERT_EQ(8, packets.nr);
	for (unsigned int i = 0; i < packets.nr; i++) {
		const struct wire_packet *packet = &packets.packet[i];
		uint8_t *data;

		EXPECT_EQ(9, packet->instance);
		ASSERT_GT(8, packet->idx);
		if (packet->idx == 7) {
			EXPECT_EQ(3, packet->len);
			continue;
		}
		data = engine_pattern(sizes[packet->idx], packet->idx);
		ASSERT_EQ(sizes[packet->idx], packet->len);
		EXPECT_EQ(0, memcmp(data, packet->data, packet->len));
		free(data);
	}
	free(packets.packet);
}

/* Channels run before there is any device, and find each that comes */
TEST_F(send, late_devices)
{
	struct engine *engine = &self->engine;
	struct source source[MAX_SOURCES];

	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_SEND, 4, 0,
				   ENGINE_PACKET, 0));
	engine_start_all(engine);
	engine_read_all(engine);
	for (unsigned int i = 0; i < MAX_SOURCES; i++) {
		usleep(5000);
		ASSERT_EQ(i, add_source(engine, &source[i], 40000, i));
		if (i % 2)
			ASSERT_TRUE(engine_wait_packets(engine->fd, 10));
		ASSERT_EQ(0, set_config(engine, i, &source[i]));
	}
	/* devices may be done before it is known that they are all */
	ASSERT_TRUE(engine_wait_packets(engine->fd, 4 * 11));
	EXPECT_TRUE(engine_wait_state(engine->fd, VFIO_MULTIFD_STATE_READY));
	ASSERT_EQ(0, engine_switchover(engine->fd));
	EXPECT_TRUE(engine_wait_state(engine->fd, VFIO_MULTIFD_STATE_DONE));
	ASSERT_EQ(0, engine_join_all(engine));
	check_sent(_metadata, engine, source, MAX_SOURCES);
}

/* A channel that finds no work left has its first bytes all the same */
TEST_F(send, late_channel)
{
	struct engine *engine = &self->engine;
	struct source source;

	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_SEND, 2, DIGEST,
				   ENGINE_PACKET, 0));
	ASSERT_EQ(0, add_source(engine, &source, 5000, 5));
	ASSERT_EQ(0, set_config(engine, 0, &source));
	ASSERT_EQ(0, engine_switchover(engine->fd));
	ASSERT_EQ(0, engine_run(engine->fd, 1));
	EXPECT_TRUE(engine_wait_state(engine->fd, VFIO_MULTIFD_STATE_DONE));
	EXPECT_EQ(0, engine_run(engine->fd, 0));
	engine_read_all(engine);
	check_sent(_metadata, engine, &source, 1);
}

/* The peer must not see the end before the transfer is closed */
TEST_F(send, stays_open)
{
	struct engine *engine = &self->engine;
	int sock, file = engine_memfd("", 1);
	char buf[4096];

	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_SEND, 1, 0,
				   ENGINE_PACKET, 0));
	ASSERT_EQ(0, engine_add_device(engine->fd, file, "dev", 0));
	close(file);
	ASSERT_EQ(0, engine_set_config(engine->fd, 0, NULL, 0));
	ASSERT_EQ(0, engine_switchover(engine->fd));
	ASSERT_EQ(0, engine_run(engine->fd, 0));
	EXPECT_EQ(0, engine_run(engine->fd, 0));
	sock = engine->channel[0].sock;
	ASSERT_EQ(WIRE_INIT_SIZE + 2 * WIRE_VFIO_DATA + 1,
		  recv(sock, buf, WIRE_INIT_SIZE + 2 * WIRE_VFIO_DATA + 1,
		       MSG_WAITALL));
	usleep(20000);
	EXPECT_EQ(-1, recv(sock, buf, 1, MSG_DONTWAIT));
	EXPECT_EQ(EAGAIN, errno);
	engine_close(engine);
	EXPECT_EQ(0, recv(sock, buf, 1, 0));
}

static void interrupt(int sig)
{
	(void)sig;
}

/* A socket that has room for all that comes is nothing to wait for. */
TEST_F(send, signals_between_packets)
{
	struct itimerval timer = {
		.it_value.tv_usec = 1000, .it_interval.tv_usec = 1000,
	};
	struct sigaction action = { .sa_handler = interrupt };
	struct engine *engine = &self->engine;
	struct source source = {};
	int pair[2], size = 64 << 20, ret;
	unsigned int interrupted = 0;

	ASSERT_EQ(0, engine_begin(engine, VFIO_MULTIFD_SEND, 1, 0, PACKET));
	ASSERT_EQ(0, engine_tcp_pair(pair, 0));
	ASSERT_EQ(0, setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &size,
				sizeof(size)));
	ASSERT_EQ(0, engine_add_channel(engine->fd, pair[0], 0));
	ASSERT_EQ(0, add_source(engine, &source, 16 << 20, 0));
	ASSERT_EQ(0, set_config(engine, 0, &source));
	ASSERT_EQ(0, engine_switchover(engine->fd));
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	while ((ret = engine_run(engine->fd, 0)) == -EINTR)
		interrupted++;
	timer = (struct itimerval) {};
	setitimer(ITIMER_REAL, &timer, NULL);
	EXPECT_EQ(0, ret);
	EXPECT_LT(0, interrupted);
	close(pair[0]);
	close(pair[1]);
	free_source(&source);
}

TEST_F(send, second_thread)
{
	struct engine *engine = &self->engine;

	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_SEND, 1, 0,
				   ENGINE_PACKET, 0));
	engine_start_all(engine);
	engine_wait_inits(engine);
	EXPECT_EQ(-EBUSY, engine_run(engine->fd, 0));
	EXPECT_EQ(-ENOENT, engine_run(engine->fd, 1));
	ASSERT_EQ(0, engine_cancel(engine->fd));
	EXPECT_EQ(-ECANCELED, engine_join_all(engine));
	EXPECT_EQ(-ECANCELED, engine_run(engine->fd, 0));
}

struct feeder {
	pthread_t thread;
	int fd;
	const struct source *source;
};

/* Writes a source's data into a pipe, a bit at a time */
static void *feed(void *arg)
{
	struct feeder *feeder = arg;
	const uint8_t *data = feeder->source->data;
	size_t left = feeder->source->len;

	while (left) {
		ssize_t len = write(feeder->fd, data, left < 777 ? left : 777);

		if (len <= 0)
			break;
		data += len;
		left -= len;
		if (left % 16 == 0)
			usleep(1000);
	}
	close(feeder->fd);
	return NULL;
}

/* Adds a device that is a pipe, which @feeder fills */
static int add_pipe(struct engine *engine, struct source *source, size_t len,
		    struct feeder *feeder)
{
	int pipes[2], ret;

	*source = (struct source) { .name = "pipe", .len = len };
	source->data = engine_pattern(len, 77);
	if (pipe(pipes))
		return -errno;
	ret = engine_add_device(engine->fd, pipes[0], source->name, 0);
	close(pipes[0]);
	feeder->fd = pipes[1];
	feeder->source = source;
	if (pthread_create(&feeder->thread, NULL, feed, feeder))
		abort();
	return ret;
}

/* Sends signals to all threads until the transfer is over */
static unsigned int storm(struct engine *engine)
{
	struct vfio_multifd_status status;
	unsigned int interrupted = 0;

	do {
		for (unsigned int i = 0; i < engine->channels; i++)
			pthread_kill(engine->channel[i].thread, SIGUSR1);
		usleep(300);
		engine_status(engine->fd, &status);
	} while (status.state < VFIO_MULTIFD_STATE_DONE);
	for (unsigned int i = 0; i < engine->channels; i++)
		interrupted += engine->channel[i].interrupted;
	return interrupted;
}

/* Wherever a signal comes in between, the bytes are the same */
TEST_F(send, signals)
{
	struct sigaction action = { .sa_handler = interrupt };
	struct engine *engine = &self->engine;
	struct source source[2];
	struct feeder feeder;

	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_SEND, 4, DIGEST,
				   16384, 4096));
	ASSERT_EQ(0, add_source(engine, &source[0], 3000001, 65536));
	ASSERT_EQ(1, add_pipe(engine, &source[1], 300007, &feeder));
	ASSERT_EQ(0, set_config(engine, 0, &source[0]));
	ASSERT_EQ(0, set_config(engine, 1, &source[1]));
	engine_start_all(engine);
	engine_read_all(engine);
	ASSERT_EQ(0, engine_switchover(engine->fd));
	EXPECT_LT(10, storm(engine));
	ASSERT_EQ(0, engine_join_all(engine));
	pthread_join(feeder.thread, NULL);
	check_sent(_metadata, engine, source, 2);
}

TEST_F(send, nothing_left)
{
	EXPECT_TRUE(engine_wait_unused());
}

TEST_HARNESS_MAIN

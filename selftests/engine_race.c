// SPDX-License-Identifier: GPL-2.0-only
/* Many threads make any call on one transfer; only the kernel can be hurt */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include "harness.h"
#include "engine.h"
#include "vfio.h"

#define THREADS		6
#define CALLS		60
#define ROUNDS		8

struct racer {
	pthread_t thread;
	int fd;
	uint64_t dice;
	volatile bool over;
};

static void race_channel(struct racer *racer)
{
	struct wire_packet packet = { .idstr = "dev", .data = engine_uuid };
	uint32_t id = vfio_random(&racer->dice) % 4;
	struct wire_bytes bytes = {};
	int pair[2];

	if (engine_tcp_pair(pair, 0))
		return;
	engine_add_channel(racer->fd, pair[0], id);
	wire_add_init(&bytes, engine_uuid, id);
	packet.instance = vfio_random(&racer->dice) % 3;
	packet.len = vfio_random(&racer->dice) % 16 + 1;
	packet.idx = vfio_random(&racer->dice) % 3;
	packet.flags = vfio_random(&racer->dice) % 2;
	wire_add_packet(&bytes, &packet);
	send(pair[1], bytes.at, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	wire_free(&bytes);
	close(pair[0]);
	close(pair[1]);
}

static void race_device(struct racer *racer)
{
	int file = engine_memfd("data", 4);

	engine_add_device(racer->fd, file, "dev",
			  vfio_random(&racer->dice) % 3);
	close(file);
}

static void race_config(struct racer *racer)
{
	uint8_t config[64] = {};
	uint32_t size = sizeof(config);

	engine_set_config(racer->fd, vfio_random(&racer->dice) % 3, config,
			  size);
	engine_get_config(racer->fd, vfio_random(&racer->dice) % 3, config,
			  &size);
}

static void race_status(struct racer *racer)
{
	struct pollfd pollfd = { .fd = racer->fd, .events = POLLIN };
	struct vfio_multifd_status status;

	poll(&pollfd, 1, 1);
	engine_status(racer->fd, &status);
}

static void *race(void *arg)
{
	struct racer *racer = arg;

	for (unsigned int i = 0; i < CALLS; i++) {
		switch (vfio_random(&racer->dice) % 16) {
		case 0 ... 3:
			race_channel(racer);
			break;
		case 4 ... 6:
			race_device(racer);
			break;
		case 7 ... 10:
			engine_run(racer->fd, vfio_random(&racer->dice) % 4);
			break;
		case 11 ... 12:
			race_config(racer);
			break;
		case 13 ... 14:
			race_status(racer);
			break;
		default:
			if (i > CALLS / 2)
				engine_switchover(racer->fd);
			break;
		}
	}
	racer->over = true;
	return NULL;
}

static void interrupt(int sig)
{
	(void)sig;
}

FIXTURE(race) {
	struct racer racers[THREADS];
};

FIXTURE_VARIANT(race) {
	uint32_t role;
	bool close;	/* the file, while threads use it */
};

FIXTURE_VARIANT_ADD(race, send) {
	.role = VFIO_MULTIFD_SEND,
};

FIXTURE_VARIANT_ADD(race, recv) {
	.role = VFIO_MULTIFD_RECV,
};

FIXTURE_VARIANT_ADD(race, send_close) {
	.role = VFIO_MULTIFD_SEND, .close = true,
};

FIXTURE_VARIANT_ADD(race, recv_close) {
	.role = VFIO_MULTIFD_RECV, .close = true,
};

FIXTURE_SETUP(race)
{
	struct sigaction action = { .sa_handler = interrupt };

	ENGINE_NEEDED();
	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
}

FIXTURE_TEARDOWN(race)
{
}

/* Wakes threads from the sleeps that they do not end until all are through */
static void wake(struct racer *racers)
{
	unsigned int over;

	do {
		over = 0;
		for (unsigned int i = 0; i < THREADS; i++) {
			over += racers[i].over;
			pthread_kill(racers[i].thread, SIGUSR1);
		}
		usleep(1000);
	} while (over < THREADS);
}

TEST_F(race, calls)
{
	uint64_t dice = variant->role;

	for (unsigned int round = 0; round < ROUNDS; round++) {
		int fd = engine_open();

		ASSERT_LE(0, fd);
		for (unsigned int i = 0; i < THREADS; i++) {
			self->racers[i] = (struct racer) {
				.fd = fd,
				.dice = vfio_random(&dice),
			};
			ASSERT_EQ(0, pthread_create(&self->racers[i].thread,
						    NULL, race,
						    &self->racers[i]));
		}
		ASSERT_EQ(0, engine_setup(fd, variant->role, 4, round % 4,
					  2 * ENGINE_PACKET));
		usleep(vfio_random(&dice) % 20000);
		if (variant->close)
			close(fd);
		wake(self->racers);
		for (unsigned int i = 0; i < THREADS; i++)
			pthread_join(self->racers[i].thread, NULL);
		if (!variant->close)
			close(fd);
	}
	EXPECT_TRUE(engine_wait_unused());
}

TEST_HARNESS_MAIN

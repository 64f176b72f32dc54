// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device that is unbound, inherited, sent away and stolen from while its state
 * moves.  Somebody tries to unload the modules all the time.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "harness.h"
#include "pair.h"
#include "race.h"
#include "testing.h"

FIXTURE(driver) {
	struct race race;
	struct pair pair;
	struct vfio_device *dev;
	int fd;
};

FIXTURE_SETUP(driver)
{
	RACE_PAIR_SETUP();
}

FIXTURE_TEARDOWN(driver)
{
	RACE_PAIR_TEARDOWN();
}

/* An unbind on a thread of its own, as it waits for the device's user */
struct unbinder {
	pthread_t thread;
	const char *bdf;
	volatile bool done;
	int ret;
};

static void *unbind(void *arg)
{
	struct unbinder *unbinder = arg;

	unbinder->ret = vfio_unbind(unbinder->bdf);
	unbinder->done = true;
	return NULL;
}

static void rebind(struct __test_metadata *_metadata, struct vfio_device *dev)
{
	ASSERT_EQ(0, vfio_bind(dev->bdf, VFIO_DRIVER));
	ASSERT_EQ(NULL, testing_open(dev, &vfio_ivshmem_1m, 1));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(dev));
}

/* With bytes taken at a peer, do more packets come? */
static bool moves_on(struct engine *engine)
{
	uint64_t end = engine_now() + 20000000000ull;
	struct vfio_multifd_status status;
	uint64_t before;
	char buf[4096];

	if (engine_status(engine->fd, &status))
		return false;
	before = status.packets;
	do {
		recv(engine->channel[0].sock, buf, sizeof(buf), MSG_DONTWAIT);
		usleep(1000);
		if (engine_status(engine->fd, &status) ||
		    status.state != VFIO_MULTIFD_STATE_READY)
			return false;
	} while (status.packets < before + 2 && engine_now() < end);
	return status.packets >= before + 2;
}

/*
 * The user is asked to go, and until it does all works on.  Then the device
 * goes from below a transfer whose threads are in the middle of it.
 */
TEST_F(driver, unbind_waits)
{
	struct unbinder unbinder = { .bdf = self->dev->bdf };
	struct pollfd asked = { .events = POLLIN };
	struct vfio_multifd_status status;
	char driver[NAME_MAX];
	struct engine engine;

	asked.fd = eventfd(0, EFD_CLOEXEC);
	ASSERT_EQ(0, vfio_irq_enable(self->dev, VFIO_PCI_REQ_IRQ_INDEX,
				     &asked.fd, 1));
	ASSERT_EQ(0, stream_load(&self->pair.good, self->dev));
	ASSERT_EQ(0, vfio_mig_set_state(self->dev, VFIO_DEVICE_STATE_STOP_COPY,
					&self->fd));
	ASSERT_EQ(0, engine_create(&engine, VFIO_MULTIFD_SEND, 2, 0,
				   4 * ENGINE_PACKET, 8192));
	ASSERT_EQ(0, engine_add_device(engine.fd, self->fd, "dev", 0));
	engine_start_all(&engine);

	ASSERT_EQ(0, pthread_create(&unbinder.thread, NULL, unbind,
				    &unbinder));
	EXPECT_EQ(1, poll(&asked, 1, 20000));
	usleep(100000);
	EXPECT_FALSE(unbinder.done);
	EXPECT_EQ(VFIO_DEVICE_STATE_STOP_COPY, vfio_mig_state(self->dev));
	EXPECT_TRUE(moves_on(&engine));
	testing_close(self->dev);
	pthread_join(unbinder.thread, NULL);
	EXPECT_EQ(0, unbinder.ret);
	EXPECT_NE(0, vfio_driver(self->dev->bdf, driver, sizeof(driver)));

	/* the peers take what is on its way, and then the next read fails */
	engine_read_all(&engine);
	EXPECT_EQ(-ENODEV, engine_join_all(&engine));
	ASSERT_EQ(0, engine_status(engine.fd, &status));
	EXPECT_EQ(VFIO_MULTIFD_REASON_DEVICE_READ, status.reason);
	rebind(_metadata, self->dev);
	engine_destroy(&engine);
	EXPECT_EQ(-1, read(self->fd, driver, 1));
	EXPECT_EQ(ENODEV, errno);
	close(self->fd);
	close(asked.fd);
}

/* Threads that go on as long as they can */
struct mover {
	pthread_t thread;
	int fd;
	bool save;
	const struct stream *stream;
	bool moved;		/* some bytes */
	volatile bool ended;	/* that was all */
	int ret;
};

static void *move(void *arg)
{
	struct mover *mover = arg;
	const uint8_t *from = mover->stream->data;
	size_t left = mover->stream->len;
	char buf[3000];
	ssize_t done;

	/* at the end, still look whether the device is there */
	for (;;) {
		if (mover->save)
			done = read(mover->fd, buf, sizeof(buf));
		else
			done = write(mover->fd, from, left < 3000 ? left : 3000);
		if (done < 0)
			break;
		from += done;
		left -= done;
		mover->moved |= done;
		if (mover->save ? !done : !left)
			mover->ended = true;
		/* a close takes longer than all that there is to move */
		usleep(100);
	}
	mover->ret = -errno;
	return NULL;
}

static bool is_source(const struct vfio_device *dev, const struct pair *pair)
{
	for (uint64_t at = 0; at < dev->size; at += PAIR_PAGE)
		if (!memcmp(dev->map + at, pair->source.map + at, PAIR_PAGE))
			return true;
	return false;
}

/* The load would mix the bytes of two. */
static unsigned int start_movers(struct __test_metadata *_metadata,
				 struct pair *pair, bool save, int *fd,
				 struct mover *mover)
{
	unsigned int count = save ? 2 : 1;

	memset(pair->target.map, PAIR_MARK, pair->target.size);
	ASSERT_EQ(0, vfio_mig_set_state(&pair->target, save ?
					VFIO_DEVICE_STATE_STOP_COPY :
					VFIO_DEVICE_STATE_RESUMING, fd));
	for (unsigned int n = 0; n < count; n++) {
		mover[n] = (struct mover) {
			.fd = *fd,
			.save = save,
			.stream = &pair->good,
		};
		ASSERT_EQ(0, pthread_create(&mover[n].thread, NULL, move,
					    &mover[n]));
	}
	return count;
}

/*
 * Closes the device while it is unbound, after @us, or once all has moved; that
 * time is left in @us.  Return: whether this met threads in the middle of it.
 */
static bool meet_unbind(struct __test_metadata *_metadata, struct pair *pair,
			bool save, uint64_t *us, bool undisturbed)
{
	struct unbinder unbinder = { .bdf = pair->target.bdf };
	uint64_t start = engine_now();
	bool moved = false, ended = false;
	struct mover mover[2];
	unsigned int count;
	int fd;

	count = start_movers(_metadata, pair, save, &fd, mover);
	if (undisturbed) {
		while (!mover[0].ended && engine_now() < start + 20000000000ull)
			usleep(100);
		*us = (engine_now() - start) / 1000;
	} else {
		usleep(*us * 2 / 3);
	}
	ASSERT_EQ(0, pthread_create(&unbinder.thread, NULL, unbind,
				    &unbinder));
	usleep(undisturbed ? 0 : *us / 3);
	testing_close(&pair->target);
	for (unsigned int n = 0; n < count; n++) {
		pthread_join(mover[n].thread, NULL);
		EXPECT_EQ(-ENODEV, mover[n].ret);
		moved |= mover[n].moved;
		ended |= mover[n].ended;
	}
	EXPECT_TRUE(ended || !undisturbed);
	pthread_join(unbinder.thread, NULL);
	EXPECT_EQ(0, unbinder.ret);
	rebind(_metadata, &pair->target);
	EXPECT_FALSE(is_source(&pair->target, pair));
	close(fd);
	return moved && !ended;
}

/*
 * The device is closed and unbound at the same moment, while two threads read
 * its state, or one writes to it: what was half loaded is gone.  Who met nobody
 * tries again.
 */
TEST_F(driver, unbind_races)
{
	for (unsigned int save = 0; save < 2; save++) {
		unsigned int hits = 0;
		uint64_t whole = 0, us;

		meet_unbind(_metadata, &self->pair, save, &whole, true);
		for (unsigned int i = 0; i < 4 || (!hits && i < 30); i++) {
			us = whole * (i % 4) / 4 + whole * (i / 4) / 30;
			hits += meet_unbind(_metadata, &self->pair, save, &us,
					    false);
		}
		EXPECT_LT(0, hits);
	}
}

/* A child that got the fds by inheritance, or through a socket */
static int inherit(struct pair *pair, int fd, int sock, bool by_socket)
{
	struct segments big = { 1 << 20, 1 << 20, 0 };
	struct vfio_device *dev = &pair->target;
	struct stream stream = {};
	const uint64_t one = 1;
	unsigned int wrong = 0;
	char byte;

	if (by_socket) {
		testing_close(dev);
		close(fd);
		dev->fd = race_receive_fd(sock);
		fd = race_receive_fd(sock);
	}
	/* the others have closed theirs */
	if (read(sock, &byte, 1) != 1)
		return 1;
	if (vfio_mig_state(dev) != VFIO_DEVICE_STATE_STOP_COPY)
		wrong |= 2;
	if (!by_socket && !race_faults((void *)dev->map, &one))
		wrong |= 4;
	if (stream_read(&stream, fd, &big) || !stream_is_same(&stream, &pair->good))
		wrong |= 8;
	return wrong;
}

/* A device belongs to whoever has its fd, and the stream to whoever has that. */
static void pass_on(struct __test_metadata *_metadata, struct pair *pair,
		    struct race *race, bool by_socket)
{
	int fd, status, sock[2];
	pid_t pid;

	ASSERT_EQ(0, stream_load(&pair->good, &pair->target));
	ASSERT_EQ(0, vfio_mig_set_state(&pair->target,
					VFIO_DEVICE_STATE_STOP_COPY, &fd));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sock));
	pid = fork();
	if (!pid) {
		close(race->hold);
		_exit(inherit(pair, fd, sock[1], by_socket));
	}
	ASSERT_LT(0, pid);
	if (by_socket) {
		EXPECT_EQ(0, race_send_fd(sock[0], pair->target.fd));
		EXPECT_EQ(0, race_send_fd(sock[0], fd));
	}
	testing_close(&pair->target);
	close(fd);
	EXPECT_EQ(1, write(sock[0], "x", 1));
	EXPECT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	close(sock[0]);
	close(sock[1]);
	ASSERT_EQ(NULL, testing_open(&pair->target, pair->target.kind, 1));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(&pair->target));
}

TEST_F(driver, inherited)
{
	pass_on(_metadata, &self->pair, &self->race, false);
}

TEST_F(driver, sent)
{
	pass_on(_metadata, &self->pair, &self->race, true);
}

/* The owner reads what the engine is to read: the far end does not take it. */
TEST_F(driver, stolen)
{
	struct race_link link;
	int from, to;
	char buf[500];

	ASSERT_EQ(0, vfio_mig_set_state(&self->pair.source,
					VFIO_DEVICE_STATE_STOP_COPY, &from));
	ASSERT_EQ(0, vfio_mig_set_state(self->dev, VFIO_DEVICE_STATE_RESUMING,
					&to));
	ASSERT_EQ(0, race_link_open(&link, VFIO_MULTIFD_FEATURE_DIGEST, false));
	EXPECT_LT(0, read(from, buf, sizeof(buf)));
	ASSERT_EQ(0, race_link_start(&link, 0, from, to));
	while (read(from, buf, sizeof(buf)) > 0)
		;
	EXPECT_NE(-ETIMEDOUT, race_link_join(&link, 20000));
	EXPECT_EQ(-EINVAL, vfio_mig_set_state(self->dev, VFIO_DEVICE_STATE_STOP,
					      NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_ERROR, vfio_mig_state(self->dev));
	race_link_close(&link);
	close(from);
	close(to);
	ASSERT_EQ(0, vfio_mig_set_state(&self->pair.source,
					VFIO_DEVICE_STATE_STOP, NULL));
}

TEST_HARNESS_MAIN

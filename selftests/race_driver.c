// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device that is unbound, sent to low power, hidden, looked at and shared
 * while its state moves.  Somebody tries to unload the modules all the time.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <linux/pci_regs.h>

#include "harness.h"
#include "pair.h"
#include "race.h"
#include "testing.h"

#define NOISE_MS	2000	/* for which a test makes noise */

static __thread sigjmp_buf on_sigbus;

static void handle_sigbus(int sig)
{
	siglongjmp(on_sigbus, sig);
}

/* Did the access get a SIGBUS? */
static bool access_faults(volatile uint64_t *word, const uint64_t *store)
{
	if (sigsetjmp(on_sigbus, 1))
		return true;
	if (store)
		*word = *store;
	else
		(void)*word;
	return false;
}

FIXTURE(driver) {
	struct race race;
	struct pair pair;
	struct vfio_device *dev;
	int fd;
};

FIXTURE_SETUP(driver)
{
	struct sigaction action = { .sa_handler = handle_sigbus };

	ENGINE_NEEDED();
	TESTING_SETUP(pair_open(&self->pair, &vfio_ivshmem_1m));
	self->dev = &self->pair.target;
	race_begin(&self->race, true);
	ASSERT_EQ(0, sigaction(SIGBUS, &action, NULL));
}

FIXTURE_TEARDOWN(driver)
{
	const char *broken;

	EXPECT_EQ(0, vfio_device_reset(self->dev));
	broken = pair_try(&self->pair);
	EXPECT_STREQ("", broken ? broken : "");
	RACE_END(&self->race);
	pair_close(&self->pair);
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
	EXPECT_TRUE(engine_wait_state(engine.fd, VFIO_MULTIFD_STATE_READY));
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
	int ret;
};

static void *move(void *arg)
{
	struct mover *mover = arg;
	const uint8_t *from = mover->stream->data;
	size_t left = mover->stream->len;
	char buf[3000];
	ssize_t done;

	do {
		if (mover->save) {
			done = read(mover->fd, buf, sizeof(buf));
		} else {
			done = write(mover->fd, from, left < 3000 ? left : 3000);
			from += done;
			left -= done;
		}
		/* at the end, still look whether the device is there */
	} while (done >= 0);
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

/*
 * The device is closed and unbound at the same moment, while two threads read
 * its state, or write to it: what was half loaded is gone.
 */
TEST_F(driver, unbind_races)
{
	for (unsigned int i = 0; i < 8; i++) {
		struct unbinder unbinder = { .bdf = self->dev->bdf };
		struct mover mover[2];
		bool save = i % 2;

		memset(self->dev->map, PAIR_MARK, self->dev->size);
		ASSERT_EQ(0, vfio_mig_set_state(self->dev, save ?
						VFIO_DEVICE_STATE_STOP_COPY :
						VFIO_DEVICE_STATE_RESUMING,
						&self->fd));
		for (unsigned int n = 0; n < 2; n++) {
			mover[n] = (struct mover) {
				.fd = self->fd,
				.save = save,
				.stream = &self->pair.good,
			};
			ASSERT_EQ(0, pthread_create(&mover[n].thread, NULL,
						    move, &mover[n]));
			/* the load would mix the bytes of two */
			if (!save)
				break;
		}
		usleep(i * 1000);
		ASSERT_EQ(0, pthread_create(&unbinder.thread, NULL, unbind,
					    &unbinder));
		usleep(i / 2 * 1000);
		testing_close(self->dev);
		for (unsigned int n = 0; n < (save ? 2 : 1); n++) {
			pthread_join(mover[n].thread, NULL);
			EXPECT_EQ(-ENODEV, mover[n].ret);
		}
		pthread_join(unbinder.thread, NULL);
		EXPECT_EQ(0, unbinder.ret);
		rebind(_metadata, self->dev);
		EXPECT_FALSE(is_source(self->dev, &self->pair));
		close(self->fd);
	}
}

/* What a user does to a device meanwhile, each on a thread of its own */
struct noise {
	pthread_t thread;
	void (*make)(struct noise *noise);
	struct vfio_device *dev;
	const uint8_t *bytes;	/* what the memory holds, or NULL */
	unsigned int done;
	volatile bool stop;
	bool wrong;
};

static void toggle_memory(struct noise *noise)
{
	noise->wrong |= vfio_command_set(noise->dev, PCI_COMMAND_MEMORY,
					 noise->done % 2);
}

static int low_power(struct vfio_device *dev, uint32_t feature)
{
	return vfio_feature(dev, VFIO_DEVICE_FEATURE_SET | feature, &feature,
			    0);
}

static void toggle_power(struct noise *noise)
{
	noise->wrong |= low_power(noise->dev, noise->done % 2 ?
				  VFIO_DEVICE_FEATURE_LOW_POWER_EXIT :
				  VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY);
	usleep(3000);
}

/* Writes what is there anyway: a write between two saves shows in neither. */
static void access_bar(struct noise *noise)
{
	uint64_t at = noise->done * 4104ull % (noise->dev->size - 64);
	unsigned int bar = noise->dev->kind->memory;
	char buf[64];
	int ret;

	ret = vfio_region_read(noise->dev, bar, at, buf, sizeof(buf));
	noise->wrong |= ret && ret != -EIO;
	if (!noise->bytes)
		return;
	ret = vfio_region_write(noise->dev, bar, at, noise->bytes + at, 64);
	noise->wrong |= ret && ret != -EIO && ret != -EBUSY;
}

static void touch_map(struct noise *noise)
{
	uint64_t at = noise->done * 4104ull % noise->dev->size & ~7ull;
	const void *bytes = noise->bytes + at;
	bool store = noise->bytes && noise->done % 2;

	access_faults((void *)(noise->dev->map + at), store ? bytes : NULL);
}

static void map_again(struct noise *noise)
{
	unsigned int index = noise->dev->kind->memory;
	uint8_t *map = vfio_region_map(noise->dev, index);

	noise->wrong |= !map;
	access_faults((void *)map, NULL);
	munmap(map, noise->dev->size);
	usleep(1000);
}

static void add_ioeventfd(struct noise *noise)
{
	unsigned int index = noise->dev->kind->memory;
	struct vfio_device_ioeventfd ioeventfd = {
		.argsz = sizeof(ioeventfd),
		.flags = VFIO_DEVICE_IOEVENTFD_32,
		.fd = eventfd(0, EFD_CLOEXEC),
	};

	ioeventfd.offset = noise->dev->region[index].offset;
	noise->wrong |= ioctl(noise->dev->fd, VFIO_DEVICE_IOEVENTFD,
			      &ioeventfd) >= 0;
	close(ioeventfd.fd);
	usleep(1000);
}

static void *make_noise(void *arg)
{
	struct noise *noise = arg;

	for (; !noise->stop; noise->done++)
		noise->make(noise);
	return NULL;
}

static void (*const noises[])(struct noise *noise) = {
	toggle_memory, toggle_power, access_bar, touch_map, map_again,
	add_ioeventfd,
};

#define NOISES	(sizeof(noises) / sizeof(noises[0]))

static void start_noise(struct noise *noise, struct vfio_device *dev,
			const uint8_t *bytes)
{
	for (unsigned int i = 0; i < NOISES; i++) {
		noise[i] = (struct noise) {
			.make = noises[i], .dev = dev, .bytes = bytes,
		};
		if (pthread_create(&noise[i].thread, NULL, make_noise,
				   &noise[i]))
			abort();
	}
}

static void stop_noise(struct __test_metadata *_metadata, struct noise *noise)
{
	for (unsigned int i = 0; i < NOISES; i++)
		noise[i].stop = true;
	for (unsigned int i = 0; i < NOISES; i++) {
		pthread_join(noise[i].thread, NULL);
		EXPECT_FALSE(noise[i].wrong) {
			TH_LOG("this was noise %u", i);
		}
		EXPECT_LT(0, noise[i].done);
	}
	/* as it was, whatever was done last */
	low_power(noise->dev, VFIO_DEVICE_FEATURE_LOW_POWER_EXIT);
	EXPECT_EQ(0, vfio_command_set(noise->dev, PCI_COMMAND_MEMORY, true));
}

static bool is_same(const struct stream *a, const struct stream *b)
{
	return a->len == b->len && !memcmp(a->data, b->data, a->len);
}

/* All that a user can do at once does not change what is saved, or loaded. */
TEST_F(driver, noise_while_saving)
{
	uint64_t end = engine_now() + NOISE_MS * 1000000ull;
	struct noise noise[NOISES];
	uint8_t *bytes = malloc(self->dev->size);

	ASSERT_EQ(0, stream_load(&self->pair.good, self->dev));
	memcpy(bytes, self->dev->map, self->dev->size);
	start_noise(noise, self->dev, bytes);
	do {
		struct stream stream = {};

		EXPECT_EQ(0, stream_save(&stream, self->dev));
		EXPECT_TRUE(is_same(&stream, &self->pair.good));
		stream_free(&stream);
	} while (engine_now() < end);
	stop_noise(_metadata, noise);
	free(bytes);
}

TEST_F(driver, noise_while_loading)
{
	uint64_t end = engine_now() + NOISE_MS * 1000000ull;
	struct stream other = {}, stream = {};
	struct noise noise[NOISES];

	vfio_fill(self->dev->map, self->dev->size, 77);
	ASSERT_EQ(0, stream_save(&other, self->dev));
	start_noise(noise, self->dev, NULL);
	for (unsigned int i = 0; i < 2 || engine_now() < end; i++) {
		const struct stream *good = i % 2 ? &other : &self->pair.good;

		EXPECT_EQ(0, stream_load(good, self->dev));
		EXPECT_EQ(0, stream_save(&stream, self->dev));
		EXPECT_TRUE(is_same(&stream, good));
		stream.len = 0;
	}
	stop_noise(_metadata, noise);
	stream_free(&stream);
	stream_free(&other);
}

/* Whether the kernel has sent the device to sleep, or soon does */
static bool sleeps(struct vfio_device *dev)
{
	char path[PATH_MAX], text[16] = "";

	snprintf(path, sizeof(path),
		 "/sys/bus/pci/devices/%s/power/runtime_status", dev->bdf);
	for (unsigned int i = 0; i < 50 && strncmp(text, "suspended", 9); i++) {
		int fd = open(path, O_RDONLY);

		if (read(fd, text, sizeof(text)) < 0)
			text[0] = '\0';
		close(fd);
		usleep(10000);
	}
	return !strncmp(text, "suspended", 9);
}

/* A session keeps the device awake, and its end lets it sleep. */
TEST_F(driver, low_power)
{
	struct segments big = { 1 << 20, 1 << 20, 0 };
	struct stream stream = {};

	ASSERT_EQ(0, stream_load(&self->pair.good, self->dev));
	EXPECT_EQ(0, low_power(self->dev, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY));
	EXPECT_TRUE(sleeps(self->dev));
	EXPECT_EQ(0, low_power(self->dev, VFIO_DEVICE_FEATURE_LOW_POWER_EXIT));
	ASSERT_EQ(0, vfio_mig_set_state(self->dev, VFIO_DEVICE_STATE_STOP_COPY,
					&self->fd));
	EXPECT_EQ(0, low_power(self->dev, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY));
	EXPECT_FALSE(sleeps(self->dev));
	EXPECT_EQ(0, stream_read(&stream, self->fd, &big));
	EXPECT_TRUE(is_same(&stream, &self->pair.good));
	/* the end of the session that the user's close brings, while asleep */
	testing_close(self->dev);
	close(self->fd);
	ASSERT_EQ(NULL, testing_open(self->dev, &vfio_ivshmem_1m, 1));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->dev));
	stream_free(&stream);
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
	if (!by_socket && !access_faults((void *)dev->map, &one))
		wrong |= 4;
	if (stream_read(&stream, fd, &big) || !is_same(&stream, &pair->good))
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
	race_link_join(&link, 20000);
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

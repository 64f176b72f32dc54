// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device that is hidden, sent to low power, looked at, mapped and reset while
 * its state moves.  Somebody tries to unload the modules all the time.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <linux/pci_regs.h>

#include "harness.h"
#include "pair.h"
#include "race.h"
#include "testing.h"

#define NOISE_MS	2000	/* for which a test makes noise */

FIXTURE(noise) {
	struct race race;
	struct pair pair;
	struct vfio_device *dev;
};

FIXTURE_SETUP(noise)
{
	RACE_PAIR_SETUP();
}

FIXTURE_TEARDOWN(noise)
{
	RACE_PAIR_TEARDOWN();
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

	race_faults((void *)(noise->dev->map + at), store ? bytes : NULL);
}

static void map_again(struct noise *noise)
{
	unsigned int index = noise->dev->kind->memory;
	uint8_t *map = vfio_region_map(noise->dev, index);

	if (!map) {
		noise->wrong = true;
		return;
	}
	race_faults((void *)map, NULL);
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
	noise->wrong |= ioeventfd.fd < 0 ||
			!ioctl(noise->dev->fd, VFIO_DEVICE_IOEVENTFD,
			       &ioeventfd) || errno != ENOTTY;
	close(ioeventfd.fd);
	usleep(1000);
}

/* After 1 ms to half a second: steps take as long as the kernel has checks. */
static void reset(struct noise *noise)
{
	usleep(1000u << noise->done % 10);
	noise->wrong |= vfio_device_reset(noise->dev);
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
	add_ioeventfd, reset,
};

#define NOISES	(sizeof(noises) / sizeof(noises[0]))
#define QUIET	(NOISES - 1)	/* those that leave the state as it is */

static void start_noise(struct noise *noise, unsigned int count,
			struct vfio_device *dev, const uint8_t *bytes)
{
	for (unsigned int i = 0; i < count; i++) {
		noise[i] = (struct noise) {
			.make = noises[i], .dev = dev, .bytes = bytes,
		};
		if (pthread_create(&noise[i].thread, NULL, make_noise,
				   &noise[i]))
			abort();
	}
}

static void stop_noise(struct __test_metadata *_metadata, struct noise *noise,
		       unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		noise[i].stop = true;
	for (unsigned int i = 0; i < count; i++) {
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

/* All that a user can do at once does not change what is saved, or loaded. */
TEST_F(noise, saving)
{
	uint64_t end = engine_now() + NOISE_MS * 1000000ull;
	struct noise noise[QUIET];
	uint8_t *bytes = malloc(self->dev->size);

	ASSERT_EQ(0, stream_load(&self->pair.good, self->dev));
	memcpy(bytes, self->dev->map, self->dev->size);
	start_noise(noise, QUIET, self->dev, bytes);
	do {
		struct stream stream = {};

		EXPECT_EQ(0, stream_save(&stream, self->dev));
		EXPECT_TRUE(stream_is_same(&stream, &self->pair.good));
		stream_free(&stream);
	} while (engine_now() < end);
	stop_noise(_metadata, noise, QUIET);
	free(bytes);
}

TEST_F(noise, loading)
{
	uint64_t end = engine_now() + NOISE_MS * 1000000ull;
	struct stream other = {}, stream = {};
	struct noise noise[QUIET];

	vfio_fill(self->dev->map, self->dev->size, 77);
	ASSERT_EQ(0, stream_save(&other, self->dev));
	start_noise(noise, QUIET, self->dev, NULL);
	for (unsigned int i = 0; i < 2 || engine_now() < end; i++) {
		const struct stream *good = i % 2 ? &other : &self->pair.good;

		EXPECT_EQ(0, stream_load(good, self->dev));
		EXPECT_EQ(0, stream_save(&stream, self->dev));
		EXPECT_TRUE(stream_is_same(&stream, good));
		stream.len = 0;
	}
	stop_noise(_metadata, noise, QUIET);
	stream_free(&stream);
	stream_free(&other);
}

/*
 * The user's own reset comes between the steps of a migration, beside all else
 * that a user can do.  Each step works, or says that it was cut short: a change
 * of state does so by -EIO, where the reset is not quite through.
 */
TEST_F(noise, resets)
{
	uint64_t now, start = engine_now();
	unsigned int whole = 0, cut = 0;
	struct noise noise[NOISES];
	int ret;

	start_noise(noise, NOISES, self->dev, NULL);
	do {
		struct stream stream = {};

		ret = stream_load(&self->pair.good, self->dev) ?:
		      stream_save(&stream, self->dev);
		whole += !ret;
		cut += ret == -ENODEV || ret == -EIO;
		EXPECT_TRUE(!ret || ret == -ENODEV || ret == -EIO) {
			TH_LOG("it is %s", strerror(-ret));
		}
		stream_free(&stream);
		now = engine_now() - start;
	} while (now < NOISE_MS * 1000000ull ||
		 ((!whole || !cut) && now < 120000000000ull));
	stop_noise(_metadata, noise, NOISES);
	EXPECT_LT(0, whole);
	EXPECT_LT(0, cut);
}

/* Whether the kernel has sent the device to sleep, or does so within @ms */
static bool sleeps(struct vfio_device *dev, unsigned int ms)
{
	uint64_t end = engine_now() + ms * 1000000ull;
	char path[PATH_MAX], text[16] = "";

	snprintf(path, sizeof(path),
		 "/sys/bus/pci/devices/%s/power/runtime_status", dev->bdf);
	while (strncmp(text, "suspended", 9) && engine_now() < end) {
		int fd = open(path, O_RDONLY);

		if (read(fd, text, sizeof(text)) < 0)
			text[0] = '\0';
		close(fd);
		usleep(10000);
	}
	return !strncmp(text, "suspended", 9);
}

/* A session keeps the device awake, and its end lets it sleep. */
TEST_F(noise, low_power)
{
	struct segments big = { 1 << 20, 1 << 20, 0 };
	struct stream stream = {};
	int fd;

	ASSERT_EQ(0, stream_load(&self->pair.good, self->dev));
	EXPECT_EQ(0, low_power(self->dev, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY));
	EXPECT_TRUE(sleeps(self->dev, 20000));
	EXPECT_EQ(0, low_power(self->dev, VFIO_DEVICE_FEATURE_LOW_POWER_EXIT));
	ASSERT_EQ(0, vfio_mig_set_state(self->dev, VFIO_DEVICE_STATE_STOP_COPY,
					&fd));
	EXPECT_EQ(0, low_power(self->dev, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY));
	EXPECT_FALSE(sleeps(self->dev, 500));
	EXPECT_EQ(0, stream_read(&stream, fd, &big));
	EXPECT_TRUE(stream_is_same(&stream, &self->pair.good));
	/* the end of the session that the user's close brings, while asleep */
	testing_close(self->dev);
	close(fd);
	ASSERT_EQ(NULL, testing_open(self->dev, &vfio_ivshmem_1m, 1));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->dev));
	stream_free(&stream);
}

TEST_HARNESS_MAIN

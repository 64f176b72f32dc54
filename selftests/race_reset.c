// SPDX-License-Identifier: GPL-2.0-only
/*
 * Resets of every kind that meet a stream, or a step of the state machine, at
 * each moment.  Somebody tries to unload the modules all the time.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <linux/pci_regs.h>

#include "harness.h"
#include "pair.h"
#include "race.h"
#include "testing.h"

#define MOMENTS	4	/* of a reset that an arc meets */

static int reset_by_user(struct vfio_device *dev)
{
	return vfio_device_reset(dev);
}

/* This one does not wait for who looks at the memory, so it is tried again. */
static int reset_hot(struct vfio_device *dev)
{
	struct {
		struct vfio_pci_hot_reset head;
		int32_t group;
	} reset = { .group = dev->group };

	reset.head.argsz = sizeof(reset);
	/* an iommufd's device shows by itself whose it is */
	reset.head.count = dev->container.iommufd ? 0 : 1;
	for (unsigned int i = 0; i < 10000; i++) {
		if (!ioctl(dev->fd, VFIO_DEVICE_PCI_HOT_RESET, &reset))
			return 0;
		if (errno != EBUSY)
			break;
		usleep(1);
	}
	return -errno;
}

static int write_sysfs(struct vfio_device *dev, const char *name)
{
	char path[PATH_MAX];
	int fd, ret = 0;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", dev->bdf,
		 name);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return -errno;
	if (write(fd, "1", 1) != 1)
		ret = -errno;
	close(fd);
	return ret;
}

static int reset_by_root(struct vfio_device *dev)
{
	return write_sysfs(dev, "reset");
}

/* All that is below the port */
static int reset_by_port(struct vfio_device *dev)
{
	return write_sysfs(dev, "../reset_subordinate");
}

FIXTURE(reset) {
	struct race race;
	struct pair pair;
	struct vfio_device *dev;
};

FIXTURE_VARIANT(reset) {
	int (*reset)(struct vfio_device *dev);
	bool by_root;	/* who uses the device must be told */
};

FIXTURE_VARIANT_ADD(reset, user) { .reset = reset_by_user };
FIXTURE_VARIANT_ADD(reset, hot) { .reset = reset_hot };
FIXTURE_VARIANT_ADD(reset, root) { .reset = reset_by_root, .by_root = true };
FIXTURE_VARIANT_ADD(reset, port) { .reset = reset_by_port, .by_root = true };

FIXTURE_SETUP(reset)
{
	ENGINE_NEEDED();
	TESTING_SETUP(pair_open(&self->pair, &vfio_ivshmem_1m));
	self->dev = &self->pair.target;
	race_begin(&self->race, true);
}

FIXTURE_TEARDOWN(reset)
{
	const char *broken;

	EXPECT_EQ(0, vfio_device_reset(self->dev));
	broken = pair_try(&self->pair);
	EXPECT_STREQ("", broken ? broken : "");
	RACE_END(&self->race);
	pair_close(&self->pair);
}

/* A reset on a thread of its own */
struct resetter {
	pthread_t thread;
	int (*reset)(struct vfio_device *dev);
	struct vfio_device *dev;
	int ret;
};

static void *reset_once(void *arg)
{
	struct resetter *resetter = arg;

	resetter->ret = resetter->reset(resetter->dev);
	return NULL;
}

static uint64_t measure(int (*reset)(struct vfio_device *dev),
			struct vfio_device *dev)
{
	uint64_t start = engine_now();

	return reset(dev) ? 0 : (engine_now() - start) / 1000;
}

/* Is each page as it was, or wiped, and none what was being loaded? */
static bool is_wiped(const struct vfio_device *dev)
{
	for (uint64_t at = 0; at < dev->size; at += PAIR_PAGE)
		if (!pair_memory_is(dev->map + at, PAIR_PAGE, 0) &&
		    !pair_memory_is(dev->map + at, PAIR_PAGE, PAIR_MARK))
			return false;
	return true;
}

static const struct arc {
	uint32_t from;
	uint32_t to;
} arcs[] = {
	{ VFIO_DEVICE_STATE_RUNNING, VFIO_DEVICE_STATE_RUNNING_P2P },
	{ VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_RUNNING },
	{ VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_STOP },
	{ VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RUNNING_P2P },
	{ VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_STOP_COPY },
	{ VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_STOP },
	{ VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RESUMING },
	{ VFIO_DEVICE_STATE_RESUMING, VFIO_DEVICE_STATE_STOP },
};

static int bring(struct pair *pair, uint32_t state)
{
	struct segments big = { 1 << 20, 1 << 20, 0 };
	int fd = -1, ret;

	memset(pair->target.map, PAIR_MARK, pair->target.size);
	ret = vfio_mig_set_state(&pair->target, state, &fd);
	if (!ret && state == VFIO_DEVICE_STATE_RESUMING)
		ret = stream_write(&pair->good, fd, &big);
	if (fd >= 0)
		close(fd);
	return ret;
}

/* A load whose end met a reset: whoever is told that it is there has it */
static void check_loaded(struct __test_metadata *_metadata, struct pair *pair,
			 bool by_root, int ret)
{
	bool is_there = !memcmp(pair->target.map, pair->source.map,
				pair->source.size);

	EXPECT_TRUE(is_there || is_wiped(&pair->target));
	if (by_root)
		EXPECT_EQ(!ret, is_there);
}

static void meet(struct __test_metadata *_metadata, struct pair *pair,
		 FIXTURE_VARIANT(reset) const *variant, const struct arc *arc,
		 unsigned int us)
{
	struct vfio_device *dev = &pair->target;
	struct resetter resetter = { .reset = variant->reset, .dev = dev };
	int fd, ret, state;
	char byte;

	ASSERT_EQ(0, bring(pair, arc->from));
	ASSERT_EQ(0, pthread_create(&resetter.thread, NULL, reset_once,
				    &resetter));
	usleep(us);
	ret = vfio_mig_set_state(dev, arc->to, &fd);
	pthread_join(resetter.thread, NULL);
	EXPECT_EQ(0, resetter.ret);
	state = vfio_mig_state(dev);
	EXPECT_TRUE(!ret || ret == -EIO);
	EXPECT_TRUE(state == VFIO_DEVICE_STATE_RUNNING ||
		    (!ret && state == (int)arc->to));
	/* what the arc gave is alive in its state alone */
	if (fd >= 0 && state == VFIO_DEVICE_STATE_RUNNING) {
		EXPECT_GT(0, read(fd, &byte, 1));
		EXPECT_TRUE(errno == ENODEV || errno == EBADF);
	}
	if (fd >= 0)
		close(fd);
	ASSERT_EQ(0, vfio_device_reset(dev));
	ASSERT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(dev));
	if (arc->from == VFIO_DEVICE_STATE_RESUMING)
		check_loaded(_metadata, pair, variant->by_root, ret);
}

TEST_F(reset, arcs)
{
	uint64_t us = measure(variant->reset, self->dev);
	int failed = _metadata->exit_code;

	ASSERT_LT(0, us);
	/* who reads the state does not learn what root did, the next step does */
	vfio_mig_set_state(self->dev, VFIO_DEVICE_STATE_RUNNING, NULL);
	for (unsigned int i = 0; i < sizeof(arcs) / sizeof(arcs[0]); i++) {
		for (unsigned int n = 0; n < MOMENTS; n++)
			meet(_metadata, &self->pair, variant, &arcs[i],
			     us * n / (MOMENTS - 1));
		if (_metadata->exit_code != failed)
			TH_LOG("this was %s to %s",
			       vfio_mig_state_name(arcs[i].from),
			       vfio_mig_state_name(arcs[i].to));
		failed = _metadata->exit_code;
	}
}

/* Who reads or writes on a thread of its own */
struct mover {
	pthread_t thread;
	int fd;
	struct stream *stream;
	int ret;
};

static void *save(void *arg)
{
	struct segments cut = { 1000, 9000, 1 };
	struct mover *mover = arg;

	mover->ret = stream_read(mover->stream, mover->fd, &cut);
	return NULL;
}

static void *load(void *arg)
{
	struct segments cut = { 1000, 9000, 1 };
	struct mover *mover = arg;

	mover->ret = stream_write(mover->stream, mover->fd, &cut);
	return NULL;
}

/* What was read before the reset is right, and nothing is read after it */
TEST_F(reset, saving)
{
	struct stream good = {};
	struct mover mover;
	char byte;

	for (unsigned int i = 0; i < 7; i++) {
		struct stream got = {};

		ASSERT_EQ(0, stream_load(&self->pair.good, self->dev));
		ASSERT_EQ(0, vfio_mig_set_state(self->dev,
						VFIO_DEVICE_STATE_STOP_COPY,
						&mover.fd));
		/* the first time undisturbed, in the same pieces */
		mover.stream = i ? &got : &good;
		if (!i) {
			save(&mover);
			ASSERT_EQ(0, mover.ret);
			close(mover.fd);
			continue;
		}
		ASSERT_EQ(0, pthread_create(&mover.thread, NULL, save, &mover));
		usleep((i - 1) * 3000);
		EXPECT_EQ(0, variant->reset(self->dev));
		EXPECT_EQ(-1, read(mover.fd, &byte, 1));
		EXPECT_EQ(ENODEV, errno);
		pthread_join(mover.thread, NULL);
		EXPECT_TRUE(!mover.ret || mover.ret == -ENODEV);
		ASSERT_LE(got.len, good.len);
		EXPECT_EQ(0, memcmp(got.data, good.data, got.len));
		EXPECT_TRUE(mover.ret || got.len == good.len);
		stream_free(&got);
		close(mover.fd);
		EXPECT_EQ(0, vfio_device_reset(self->dev));
	}
	stream_free(&good);
}

/* Of what was written nothing is left when the reset is over, nor comes later */
TEST_F(reset, loading)
{
	for (unsigned int i = 0; i < 6; i++) {
		struct mover mover = { .stream = &self->pair.good };

		memset(self->dev->map, PAIR_MARK, self->dev->size);
		ASSERT_EQ(0, vfio_mig_set_state(self->dev,
						VFIO_DEVICE_STATE_RESUMING,
						&mover.fd));
		ASSERT_EQ(0, pthread_create(&mover.thread, NULL, load, &mover));
		usleep(i * 3000);
		EXPECT_EQ(0, variant->reset(self->dev));
		EXPECT_TRUE(is_wiped(self->dev));
		pthread_join(mover.thread, NULL);
		EXPECT_TRUE(!mover.ret || mover.ret == -ENODEV);
		EXPECT_TRUE(is_wiped(self->dev));
		EXPECT_EQ(-1, write(mover.fd, "x", 1));
		EXPECT_EQ(ENODEV, errno);
		close(mover.fd);
		EXPECT_EQ(0, vfio_device_reset(self->dev));
	}
}

/* How a transfer ended whose device at one end was reset */
static void check_ended(struct __test_metadata *_metadata, int fd, int reason)
{
	struct vfio_multifd_status status;

	ASSERT_EQ(0, engine_status(fd, &status));
	if (status.state == VFIO_MULTIFD_STATE_DONE)
		return;
	EXPECT_EQ(VFIO_MULTIFD_STATE_FAILED, status.state);
	EXPECT_EQ(-ENODEV, status.error);
	EXPECT_EQ(reason, status.reason);
}

/*
 * The engine moves the state over its channels, with many writers at once, and
 * one of the devices is reset: the source first, then the destination.
 */
TEST_F(reset, transfer)
{
	for (unsigned int i = 0; i < 8; i++) {
		struct vfio_device *dev = i % 2 ? self->dev :
						  &self->pair.source;
		struct race_link link;
		int from, to;

		memset(self->dev->map, PAIR_MARK, self->dev->size);
		ASSERT_EQ(0, vfio_mig_set_state(&self->pair.source,
						VFIO_DEVICE_STATE_STOP_COPY,
						&from));
		ASSERT_EQ(0, vfio_mig_set_state(self->dev,
						VFIO_DEVICE_STATE_RESUMING,
						&to));
		ASSERT_EQ(0, race_link_open(&link, VFIO_MULTIFD_FEATURE_DIGEST |
					    VFIO_MULTIFD_FEATURE_ORDER_FREE,
					    false));
		ASSERT_EQ(0, race_link_start(&link, VFIO_MULTIFD_DEVICE_RECORDS,
					     from, to));
		usleep(i / 2 * 8000);
		EXPECT_EQ(0, variant->reset(dev));
		race_link_join(&link, 20000);
		if (i % 2)
			check_ended(_metadata, link.to.fd,
				    VFIO_MULTIFD_REASON_DEVICE_WRITE);
		else
			check_ended(_metadata, link.from.fd,
				    VFIO_MULTIFD_REASON_DEVICE_READ);
		race_link_close(&link);
		close(from);
		close(to);
		EXPECT_EQ(0, vfio_device_reset(self->dev));
		EXPECT_TRUE(is_wiped(self->dev));
		EXPECT_EQ(0, vfio_device_reset(&self->pair.source));
	}
}

/* Where a PCI Express capability is, or 0 */
static unsigned int find_express(struct vfio_device *dev)
{
	uint8_t at = 0, id = 0;

	vfio_config_read(dev, PCI_CAPABILITY_LIST, &at, 1);
	while (at && !vfio_config_read(dev, at, &id, 1) && id != PCI_CAP_ID_EXP)
		vfio_config_read(dev, at + PCI_CAP_LIST_NEXT, &at, 1);
	return at;
}

/*
 * A guest asks by config space for a function level reset: this is one where
 * the device has it, and nothing at all elsewhere.
 */
TEST(function_level_reset)
{
	struct vfio_device dev;
	unsigned int express;
	uint32_t can = 0;
	uint16_t control;
	bool has;
	int fd;

	TESTING_OPEN(&dev, &vfio_bochs, 0);
	express = find_express(&dev);
	ASSERT_LT(0, express);
	ASSERT_EQ(0, vfio_config_read(&dev, express + PCI_EXP_DEVCAP, &can, 4));
	has = can & PCI_EXP_DEVCAP_FLR;
	TH_LOG("this device has %s", has ? "one" : "none");
	for (unsigned int saving = 0; saving < 2; saving++) {
		uint32_t state = saving ? VFIO_DEVICE_STATE_STOP_COPY :
					  VFIO_DEVICE_STATE_RESUMING;

		ASSERT_EQ(0, vfio_mig_set_state(&dev, state, &fd));
		ASSERT_EQ(0, vfio_config_read(&dev, express + PCI_EXP_DEVCTL,
					      &control, 2));
		control |= PCI_EXP_DEVCTL_BCR_FLR;
		EXPECT_EQ(0, vfio_config_write(&dev, express + PCI_EXP_DEVCTL,
					       &control, 2));
		EXPECT_EQ(has ? VFIO_DEVICE_STATE_RUNNING : state,
			  vfio_mig_state(&dev));
		close(fd);
		EXPECT_EQ(0, vfio_device_reset(&dev));
	}
	testing_close(&dev);
}

TEST_HARNESS_MAIN

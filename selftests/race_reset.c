// SPDX-License-Identifier: GPL-2.0-only
/*
 * Resets of every kind that meet a stream, or a step of the state machine, at
 * each moment.  Somebody tries to unload the modules all the time.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <linux/pci_regs.h>

#include "harness.h"
#include "pair.h"
#include "race.h"
#include "testing.h"

#define MOMENTS	4	/* of a reset that an arc meets */
#define PART	32768	/* bytes; who loads counts these */
#define ROUNDS	60	/* after these nothing is going to meet any more */
#define BUSY_NS	10000000000ull	/* for a reset that is refused as long */

static int reset_by_user(struct vfio_device *dev)
{
	return vfio_device_reset(dev);
}

/*
 * This one does not wait for who looks at the memory, so it is tried again; at
 * once, since a sleep lasts until a timer's tick.
 */
static int reset_hot(struct vfio_device *dev)
{
	uint64_t end = engine_now() + BUSY_NS;
	int ret;

	do
		ret = vfio_device_reset_hot(dev);
	while (ret == -EBUSY && engine_now() < end);
	return ret;
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

/*
 * All that is below the port.  This one does not wait either, for who has locked
 * the config space, as an arc does for the moment it looks at the command.
 */
static int reset_by_port(struct vfio_device *dev)
{
	uint64_t end = engine_now() + BUSY_NS;
	int ret;

	do {
		ret = write_sysfs(dev, "../reset_subordinate");
	} while (ret == -EAGAIN && engine_now() < end);
	return ret;
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
	RACE_PAIR_SETUP();
}

FIXTURE_TEARDOWN(reset)
{
	RACE_PAIR_TEARDOWN();
}

/* A reset on a thread of its own */
struct resetter {
	pthread_t thread;
	int (*reset)(struct vfio_device *dev);
	struct vfio_device *dev;
	uint64_t begin;
	uint64_t end;
	int ret;
};

static void *reset_once(void *arg)
{
	struct resetter *resetter = arg;

	resetter->begin = engine_now();
	resetter->ret = resetter->reset(resetter->dev);
	resetter->end = engine_now();
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
	{ VFIO_DEVICE_STATE_RUNNING, VFIO_DEVICE_STATE_PRE_COPY },
	{ VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_PRE_COPY_P2P },
	{ VFIO_DEVICE_STATE_PRE_COPY_P2P, VFIO_DEVICE_STATE_STOP_COPY },
	{ VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_RUNNING },
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

/*
 * A load whose end met a reset: whoever is told that it is there has it.  Who is told
 * -EIO may have it, too: the reset came when nothing was left to be wiped.
 */
static void check_loaded(struct __test_metadata *_metadata, struct pair *pair,
			 bool by_root, int ret)
{
	bool is_there = !memcmp(pair->target.map, pair->source.map,
				pair->source.size);

	EXPECT_TRUE(is_there || is_wiped(&pair->target));
	if (by_root)
		EXPECT_TRUE(ret || is_there);
}

/* Return: whether reset and arc were under way at the same time */
static bool meet(struct __test_metadata *_metadata, struct pair *pair,
		 FIXTURE_VARIANT(reset) const *variant, const struct arc *arc,
		 unsigned int us)
{
	struct vfio_device *dev = &pair->target;
	struct resetter resetter = { .reset = variant->reset, .dev = dev };
	uint64_t begin, end;
	int fd, ret, state;
	char byte;

	ASSERT_EQ(0, bring(pair, arc->from));
	ASSERT_EQ(0, pthread_create(&resetter.thread, NULL, reset_once,
				    &resetter));
	usleep(us);
	begin = engine_now();
	ret = vfio_mig_set_state(dev, arc->to, &fd);
	end = engine_now();
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
	return begin < resetter.end && resetter.begin < end;
}

TEST_F(reset, arcs)
{
	uint64_t us = measure(variant->reset, self->dev);
	int failed = _metadata->exit_code;

	ASSERT_LT(0, us);
	/* who reads the state does not learn what root did, the next step does */
	vfio_mig_set_state(self->dev, VFIO_DEVICE_STATE_RUNNING, NULL);
	for (unsigned int i = 0; i < sizeof(arcs) / sizeof(arcs[0]); i++) {
		unsigned int hits = 0;

		for (unsigned int n = 0; n < MOMENTS || (!hits && n < ROUNDS);
		     n++)
			hits += meet(_metadata, &self->pair, variant, &arcs[i],
				     us * (n % MOMENTS) / (MOMENTS - 1));
		EXPECT_LT(0, hits);
		if (_metadata->exit_code != failed)
			TH_LOG("this was %s to %s",
			       vfio_mig_state_name(arcs[i].from),
			       vfio_mig_state_name(arcs[i].to));
		failed = _metadata->exit_code;
	}
}

/**
 * struct rounds - what is done again, each time with a reset at another moment
 * @least: number of rounds
 * @nth: this one; the first one is to be undisturbed
 * @hits: rounds in which the reset met what had begun and was not over; without
 *	any there are more rounds
 * @span: of the first round, in bytes that were moved or in microseconds
 */
struct rounds {
	unsigned int least;
	unsigned int nth;
	unsigned int hits;
	uint64_t span;
};

static bool rounds_go_on(const struct rounds *rounds)
{
	return rounds->nth < rounds->least ||
	       (!rounds->hits && rounds->nth < ROUNDS);
}

/* When the reset is to come, within the span.  More rounds have other moments. */
static uint64_t rounds_moment(const struct rounds *rounds)
{
	unsigned int n = rounds->nth - 1, parts = rounds->least - 1;

	return rounds->span * (n % parts) / parts +
	       rounds->span * (n / parts % 8) / parts / 8;
}

/* Who reads or writes on a thread of its own */
struct mover {
	pthread_t thread;
	int fd;
	struct stream *stream;	/* what is read, or written */
	size_t len;		/* bytes of it that are */
	bool over;
	int ret;
};

static void *save(void *arg)
{
	struct segments cut = { 1000, 9000, 1 };
	struct mover *mover = arg;

	mover->ret = stream_read(mover->stream, mover->fd, &cut);
	mover->len = mover->stream->len;
	__atomic_store_n(&mover->over, true, __ATOMIC_RELEASE);
	return NULL;
}

static void *load(void *arg)
{
	struct segments cut = { 1000, 9000, 1 };
	struct mover *mover = arg;

	do {
		struct stream part = {
			.data = mover->stream->data + mover->len,
			.len = mover->stream->len - mover->len,
		};

		if (part.len > PART)
			part.len = PART;
		mover->ret = stream_write(&part, mover->fd, &cut);
		if (!mover->ret)
			__atomic_store_n(&mover->len, mover->len + part.len,
					 __ATOMIC_RELEASE);
	} while (!mover->ret && mover->len < mover->stream->len);
	__atomic_store_n(&mover->over, true, __ATOMIC_RELEASE);
	return NULL;
}

/*
 * Starts @run, and comes back once @moved counts as many bytes as this round is
 * about: by the clock, a busy machine may have moved all, or nothing.  The first
 * round is undisturbed, and says how many there are.
 */
static void start_mover(struct rounds *rounds, struct mover *mover,
			void *(*run)(void *arg), const size_t *moved)
{
	if (pthread_create(&mover->thread, NULL, run, mover))
		abort();
	if (!rounds->nth) {
		pthread_join(mover->thread, NULL);
		rounds->span = mover->len;
		return;
	}
	while (__atomic_load_n(moved, __ATOMIC_ACQUIRE) < rounds_moment(rounds) &&
	       !__atomic_load_n(&mover->over, __ATOMIC_ACQUIRE))
		;
}

/* Waits for the mover, too.  It ended well, or as it met a reset. */
static void end_mover(struct __test_metadata *_metadata, struct rounds *rounds,
		      struct mover *mover, size_t len)
{
	if (rounds->nth)
		pthread_join(mover->thread, NULL);
	EXPECT_TRUE(!mover->ret ||
		    (rounds->nth && mover->ret == -ENODEV));
	EXPECT_TRUE(mover->ret || mover->len == len);
	if (mover->ret == -ENODEV && mover->len && mover->len < len)
		rounds->hits++;
}

/* What was read before the reset is right, and nothing is read after it */
TEST_F(reset, saving)
{
	struct rounds rounds = { .least = 7 };
	struct stream good = {};
	char byte;

	for (; rounds_go_on(&rounds); rounds.nth++) {
		struct stream got = {};
		struct mover mover = { .stream = &got };

		ASSERT_EQ(0, stream_load(&self->pair.good, self->dev));
		ASSERT_EQ(0, vfio_mig_set_state(self->dev,
						VFIO_DEVICE_STATE_STOP_COPY,
						&mover.fd));
		start_mover(&rounds, &mover, save, &got.len);
		EXPECT_EQ(0, variant->reset(self->dev));
		EXPECT_EQ(-1, read(mover.fd, &byte, 1));
		EXPECT_EQ(ENODEV, errno);
		/* the others read in the same pieces */
		end_mover(_metadata, &rounds, &mover,
			  rounds.nth ? good.len : got.len);
		if (!rounds.nth) {
			good = got;
		} else {
			ASSERT_LE(got.len, good.len);
			EXPECT_EQ(0, memcmp(got.data, good.data, got.len));
			stream_free(&got);
		}
		close(mover.fd);
		EXPECT_EQ(0, vfio_device_reset(self->dev));
	}
	EXPECT_LT(0, rounds.hits);
	stream_free(&good);
}

/* Of what was written nothing is left when the reset is over, nor comes later */
TEST_F(reset, loading)
{
	struct rounds rounds = { .least = 7 };

	for (; rounds_go_on(&rounds); rounds.nth++) {
		struct mover mover = { .stream = &self->pair.good };

		memset(self->dev->map, PAIR_MARK, self->dev->size);
		ASSERT_EQ(0, vfio_mig_set_state(self->dev,
						VFIO_DEVICE_STATE_RESUMING,
						&mover.fd));
		start_mover(&rounds, &mover, load, &mover.len);
		EXPECT_EQ(0, variant->reset(self->dev));
		EXPECT_TRUE(is_wiped(self->dev));
		end_mover(_metadata, &rounds, &mover, self->pair.good.len);
		EXPECT_TRUE(is_wiped(self->dev));
		EXPECT_EQ(-1, write(mover.fd, "x", 1));
		EXPECT_EQ(ENODEV, errno);
		close(mover.fd);
		EXPECT_EQ(0, vfio_device_reset(self->dev));
	}
	EXPECT_LT(0, rounds.hits);
}

/*
 * How a transfer ended whose device at one end was reset: @reason is why it
 * failed there, the other end lost its peer.  Return: whether they met.
 */
static bool check_ended(struct __test_metadata *_metadata, int fd, int other,
			uint32_t reason)
{
	struct vfio_multifd_status status, far;

	EXPECT_EQ(0, engine_status(fd, &status));
	EXPECT_EQ(0, engine_status(other, &far));
	if (far.state != VFIO_MULTIFD_STATE_DONE) {
		EXPECT_EQ(VFIO_MULTIFD_STATE_FAILED, far.state);
		EXPECT_TRUE(far.reason == VFIO_MULTIFD_REASON_EOF ||
			    far.reason == VFIO_MULTIFD_REASON_SOCKET) {
			TH_LOG("the other end's reason is %u", far.reason);
		}
		/* it did not fail by itself */
		EXPECT_EQ(VFIO_MULTIFD_STATE_FAILED, status.state);
	}
	if (status.state == VFIO_MULTIFD_STATE_DONE)
		return false;
	EXPECT_EQ(VFIO_MULTIFD_STATE_FAILED, status.state);
	EXPECT_EQ(-ENODEV, status.error);
	EXPECT_EQ(reason, status.reason);
	return status.packets;
}

/* A destination that was not reset has all, and says so, or has nothing. */
static bool check_arrived(struct __test_metadata *_metadata, struct pair *pair,
			  int fd)
{
	struct vfio_multifd_status status;
	int ret;

	EXPECT_EQ(0, engine_status(fd, &status));
	ret = vfio_mig_set_state(&pair->target, VFIO_DEVICE_STATE_STOP, NULL);
	if (status.state == VFIO_MULTIFD_STATE_DONE)
		EXPECT_EQ(0, ret);
	if (ret)
		return false;
	EXPECT_EQ(0, memcmp(pair->target.map, pair->source.map,
			    pair->source.size));
	return true;
}

/* A sleep lasts until a timer's tick, and by then all may have moved. */
static void spin(uint64_t us)
{
	uint64_t end = engine_now() + us * 1000;

	while (engine_now() < end)
		;
}

/* Starts a transfer between the devices; see start_mover(). */
static void start_transfer(struct __test_metadata *_metadata,
			   struct pair *pair, struct rounds *rounds,
			   struct race_link *link, int fd[2])
{
	const uint64_t features = VFIO_MULTIFD_FEATURE_DIGEST |
				  VFIO_MULTIFD_FEATURE_ORDER_FREE;
	uint64_t start;

	memset(pair->target.map, PAIR_MARK, pair->target.size);
	ASSERT_EQ(0, vfio_mig_set_state(&pair->source,
					VFIO_DEVICE_STATE_STOP_COPY, &fd[0]));
	ASSERT_EQ(0, vfio_mig_set_state(&pair->target,
					VFIO_DEVICE_STATE_RESUMING, &fd[1]));
	ASSERT_EQ(0, race_link_open(link, features, false));
	start = engine_now();
	ASSERT_EQ(0, race_link_start(link, VFIO_MULTIFD_DEVICE_RECORDS, fd[0],
				     fd[1]));
	if (rounds->nth) {
		spin(rounds_moment(rounds));
		return;
	}
	ASSERT_EQ(0, race_link_join(link, 20000));
	rounds->span = (engine_now() - start) / 1000;
}

static void meet_transfer(struct __test_metadata *_metadata, struct pair *pair,
			  FIXTURE_VARIANT(reset) const *variant, bool target,
			  struct rounds *rounds)
{
	struct vfio_device *dev = target ? &pair->target : &pair->source;
	bool arrived = false;
	struct race_link link;
	int fd[2];

	start_transfer(_metadata, pair, rounds, &link, fd);
	EXPECT_EQ(0, variant->reset(dev));
	EXPECT_NE(-ETIMEDOUT, race_link_join(&link, 20000));
	if (target) {
		rounds->hits += check_ended(_metadata, link.to.fd, link.from.fd,
					    VFIO_MULTIFD_REASON_DEVICE_WRITE);
	} else {
		rounds->hits += check_ended(_metadata, link.from.fd, link.to.fd,
					    VFIO_MULTIFD_REASON_DEVICE_READ);
		arrived = check_arrived(_metadata, pair, link.to.fd);
		EXPECT_TRUE(rounds->nth || arrived);
	}
	race_link_close(&link);
	close(fd[0]);
	close(fd[1]);
	EXPECT_EQ(0, vfio_device_reset(&pair->target));
	EXPECT_TRUE(arrived || is_wiped(&pair->target));
	EXPECT_EQ(0, vfio_device_reset(&pair->source));
}

/*
 * The engine moves the state over its channels, with many writers at once, and
 * one of the devices is reset: the source, or the destination.
 */
TEST_F(reset, transfer)
{
	for (unsigned int target = 0; target < 2; target++) {
		struct rounds rounds = { .least = 5 };

		for (; rounds_go_on(&rounds); rounds.nth++)
			meet_transfer(_metadata, &self->pair, variant, target,
				      &rounds);
		EXPECT_LT(0, rounds.hits) {
			TH_LOG("no reset met the %s",
			       target ? "destination" : "source");
		}
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

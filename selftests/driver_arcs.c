// SPDX-License-Identifier: GPL-2.0-only
/* The state machine: every arc, its data fd, ERROR, reset, reopening */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <linux/pci_regs.h>

#include "harness.h"
#include "stream.h"
#include "testing.h"

static const uint32_t states[] = {
	VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RUNNING,
	VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_RESUMING,
	VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_PRE_COPY,
	VFIO_DEVICE_STATE_PRE_COPY_P2P, VFIO_DEVICE_STATE_ERROR,
};

#define STATES	(sizeof(states) / sizeof(states[0]))

/*
 * Brings a device from RUNNING to @state.  RESUMING is left with a whole
 * stream written, so that it can be left again.
 */
static int bring(struct vfio_device *dev, uint32_t state)
{
	struct segments big = { 1 << 20, 1 << 20, 0 };
	struct stream stream = {};
	int fd = -1, ret;

	if (state == VFIO_DEVICE_STATE_ERROR) {
		ret = vfio_mig_set_state(dev, VFIO_DEVICE_STATE_RESUMING, &fd);
		close(fd);
		if (!ret && !vfio_mig_set_state(dev, VFIO_DEVICE_STATE_STOP,
						NULL))
			ret = -EPROTO;
		return ret;
	}
	if (state == VFIO_DEVICE_STATE_RESUMING) {
		ret = stream_save(&stream, dev);
		if (ret)
			goto out;
	}
	ret = vfio_mig_set_state(dev, state, &fd);
	if (!ret && state == VFIO_DEVICE_STATE_RESUMING)
		ret = stream_write(&stream, fd, &big);
	if (fd >= 0)
		close(fd);
out:
	stream_free(&stream);
	return ret;
}

FIXTURE(arcs) {
	struct vfio_device dev;
};

FIXTURE_VARIANT(arcs) {
	const struct vfio_kind *kind;
};

FIXTURE_VARIANT_ADD(arcs, ivshmem) { .kind = &vfio_ivshmem_4k };
FIXTURE_VARIANT_ADD(arcs, bochs) { .kind = &vfio_bochs };

FIXTURE_SETUP(arcs)
{
	TESTING_OPEN(&self->dev, variant->kind, 0);
}

FIXTURE_TEARDOWN(arcs)
{
	testing_close(&self->dev);
}

TEST_F(arcs, flags)
{
	uint64_t flags;

	ASSERT_EQ(0, vfio_mig_flags(&self->dev, &flags));
	EXPECT_EQ(VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P |
		  VFIO_MIGRATION_PRE_COPY, flags);
}

static int probe(struct vfio_device *dev, uint32_t flags)
{
	return vfio_feature(dev, VFIO_DEVICE_FEATURE_PROBE | flags, &flags, 0);
}

TEST_F(arcs, probe)
{
	const uint32_t get = VFIO_DEVICE_FEATURE_GET;
	const uint32_t set = VFIO_DEVICE_FEATURE_SET;
	struct vfio_device *dev = &self->dev;

	EXPECT_EQ(0, probe(dev, get | VFIO_DEVICE_FEATURE_MIGRATION));
	EXPECT_EQ(0, probe(dev, get | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE));
	EXPECT_EQ(0, probe(dev, set | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE));
	EXPECT_EQ(0, probe(dev, get | set |
			   VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE));
	EXPECT_EQ(0, probe(dev, get | VFIO_DEVICE_FEATURE_MIG_DATA_SIZE));
	EXPECT_EQ(-EINVAL, probe(dev, set | VFIO_DEVICE_FEATURE_MIGRATION));
}

TEST_F(arcs, bad_arguments)
{
	struct vfio_device_feature_mig_state state = {
		.device_state = VFIO_DEVICE_STATE_STOP,
	};
	const uint32_t get = VFIO_DEVICE_FEATURE_GET;
	const uint32_t set = VFIO_DEVICE_FEATURE_SET;
	struct vfio_device *dev = &self->dev;

	EXPECT_EQ(-EINVAL, vfio_feature(dev, get | set |
					VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
					&state, sizeof(state)));
	EXPECT_EQ(-EINVAL, vfio_feature(dev, set |
					VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
					&state, sizeof(state) - 1));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(dev));
}

static bool is_precopy(uint32_t state)
{
	return state == VFIO_DEVICE_STATE_PRE_COPY ||
	       state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

static bool is_saving(uint32_t state)
{
	return is_precopy(state) || state == VFIO_DEVICE_STATE_STOP_COPY;
}

static int expected(uint32_t from, uint32_t to)
{
	if (from == VFIO_DEVICE_STATE_ERROR)
		return -EIO;
	if (to >= VFIO_DEVICE_NUM_STATES || to == VFIO_DEVICE_STATE_ERROR)
		return -EINVAL;
	/* what is stopped does not begin to run by itself */
	return from == VFIO_DEVICE_STATE_STOP_COPY && is_precopy(to) ?
		-EINVAL : 0;
}

static void check_fd(struct __test_metadata *_metadata, uint32_t from,
		     uint32_t to, int fd)
{
	/* whoever saves already has it */
	if (from == to || expected(from, to) ||
	    (is_saving(from) && is_saving(to)) ||
	    (!is_saving(to) && to != VFIO_DEVICE_STATE_RESUMING)) {
		EXPECT_EQ(-1, fd);
		return;
	}
	ASSERT_LE(0, fd);
	EXPECT_EQ(to == VFIO_DEVICE_STATE_RESUMING ? O_WRONLY : O_RDONLY,
		  fcntl(fd, F_GETFL) & O_ACCMODE);
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	close(fd);
}

static void check_arcs(struct __test_metadata *_metadata,
		       struct vfio_device *dev, uint32_t from)
{
	static const uint32_t beyond[] = { VFIO_DEVICE_NUM_STATES, ~0U };
	int failed = _metadata->exit_code;

	for (uint32_t i = 0; i < VFIO_DEVICE_NUM_STATES + 2; i++) {
		uint32_t to = i < VFIO_DEVICE_NUM_STATES ? i :
			      beyond[i - VFIO_DEVICE_NUM_STATES];
		int ret, fd, now;

		ASSERT_EQ(0, vfio_device_reset(dev));
		ASSERT_EQ(0, bring(dev, from));
		ASSERT_EQ(from, vfio_mig_state(dev));
		ret = vfio_mig_set_state(dev, to, &fd);
		now = vfio_mig_state(dev);
		EXPECT_EQ(expected(from, to), ret);
		EXPECT_EQ(ret ? from : to, now);
		check_fd(_metadata, from, to, fd);
		if (_metadata->exit_code != failed)
			TH_LOG("this was %s to %s (%u)",
			       vfio_mig_state_name(from),
			       vfio_mig_state_name(to), to);
		failed = _metadata->exit_code;
	}
}

TEST_F(arcs, from_stop)
{
	check_arcs(_metadata, &self->dev, VFIO_DEVICE_STATE_STOP);
}

TEST_F(arcs, from_running)
{
	check_arcs(_metadata, &self->dev, VFIO_DEVICE_STATE_RUNNING);
}

TEST_F(arcs, from_stop_copy)
{
	check_arcs(_metadata, &self->dev, VFIO_DEVICE_STATE_STOP_COPY);
}

TEST_F(arcs, from_resuming)
{
	check_arcs(_metadata, &self->dev, VFIO_DEVICE_STATE_RESUMING);
}

TEST_F(arcs, from_running_p2p)
{
	check_arcs(_metadata, &self->dev, VFIO_DEVICE_STATE_RUNNING_P2P);
}

TEST_F(arcs, from_pre_copy)
{
	check_arcs(_metadata, &self->dev, VFIO_DEVICE_STATE_PRE_COPY);
}

TEST_F(arcs, from_pre_copy_p2p)
{
	check_arcs(_metadata, &self->dev, VFIO_DEVICE_STATE_PRE_COPY_P2P);
}

TEST_F(arcs, from_error)
{
	check_arcs(_metadata, &self->dev, VFIO_DEVICE_STATE_ERROR);
}

/* Loading nothing is an error, whichever state was asked for */
TEST_F(arcs, resuming_without_data)
{
	static const uint32_t ways[] = {
		VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RUNNING,
		VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_STOP_COPY,
	};

	for (unsigned int i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		int fd;

		ASSERT_EQ(0, vfio_mig_set_state(&self->dev,
						VFIO_DEVICE_STATE_RESUMING,
						&fd));
		EXPECT_EQ(-EINVAL, vfio_mig_set_state(&self->dev, ways[i],
						      NULL));
		EXPECT_EQ(VFIO_DEVICE_STATE_ERROR, vfio_mig_state(&self->dev));
		close(fd);
		ASSERT_EQ(0, vfio_device_reset(&self->dev));
	}
}

TEST_F(arcs, reset_runs)
{
	for (unsigned int i = 0; i < STATES; i++) {
		ASSERT_EQ(0, bring(&self->dev, states[i]));
		ASSERT_EQ(states[i], vfio_mig_state(&self->dev));
		ASSERT_EQ(0, vfio_device_reset(&self->dev));
		EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING,
			  vfio_mig_state(&self->dev)) {
			TH_LOG("reset in %s", vfio_mig_state_name(states[i]));
		}
	}
}

TEST_F(arcs, open_runs)
{
	for (unsigned int i = 0; i < STATES; i++) {
		ASSERT_EQ(0, bring(&self->dev, states[i]));
		testing_close(&self->dev);
		ASSERT_EQ(NULL, testing_open(&self->dev, variant->kind, 0));
		EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING,
			  vfio_mig_state(&self->dev)) {
			TH_LOG("closed in %s", vfio_mig_state_name(states[i]));
		}
	}
}

/* An upper bound that no state of the device or its memory changes */
TEST_F(arcs, data_size)
{
	struct stream stream = {};
	uint64_t size, first;

	ASSERT_EQ(0, vfio_mig_data_size(&self->dev, &first));
	for (unsigned int i = 0; i < STATES; i++) {
		ASSERT_EQ(0, bring(&self->dev, states[i]));
		EXPECT_EQ(0, vfio_mig_data_size(&self->dev, &size));
		EXPECT_EQ(first, size);
		ASSERT_EQ(0, vfio_device_reset(&self->dev));
	}
	vfio_fill(self->dev.map, self->dev.size, 1);
	ASSERT_EQ(0, stream_save(&stream, &self->dev));
	EXPECT_LE(stream.len, first);
	EXPECT_LT(self->dev.size, stream.len);
	stream_free(&stream);
}

struct racer {
	pthread_t thread;
	struct vfio_device *dev;
	uint64_t seed;
	int reset;	/* in sysfs, or -1 */
	int bad;
};

static int racer_reset(struct racer *racer)
{
	if (racer->reset < 0)
		return vfio_device_reset(racer->dev);
	return write(racer->reset, "1", 1) == 1 ? 0 : -errno;
}

/* Any answer is right but one that the uAPI does not know */
static void *race(void *arg)
{
	struct racer *racer = arg;
	char buf[512] = {};

	for (unsigned int i = 0; i < 100 && !racer->bad; i++) {
		uint64_t dice = vfio_random(&racer->seed);
		int fd = -1, ret;

		if (dice % 8 == 0) {
			ret = racer_reset(racer);
			if (ret && ret != -EAGAIN)
				racer->bad = ret;
			continue;
		}
		ret = vfio_mig_set_state(racer->dev, dice % 8, &fd);
		if (ret && ret != -EINVAL && ret != -EIO && ret != -EOPNOTSUPP)
			racer->bad = ret;
		if (fd < 0)
			continue;
		if (read(fd, buf, sizeof(buf)) < 0 && errno == EBADF &&
		    write(fd, buf, sizeof(buf)) >= 0)
			racer->bad = -EPROTO;
		close(fd);
	}
	return NULL;
}

static void run_race(struct __test_metadata *_metadata,
		     struct vfio_device *dev, int reset)
{
	struct racer racers[4] = {};

	for (unsigned int i = 0; i < 4; i++) {
		racers[i].dev = dev;
		racers[i].seed = i;
		racers[i].reset = i ? -1 : reset;
		ASSERT_EQ(0, pthread_create(&racers[i].thread, NULL, race,
					    &racers[i]));
	}
	for (unsigned int i = 0; i < 4; i++) {
		pthread_join(racers[i].thread, NULL);
		EXPECT_EQ(0, racers[i].bad);
	}
	ASSERT_EQ(0, vfio_device_reset(dev));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(dev));
}

TEST_F(arcs, race)
{
	run_race(_metadata, &self->dev, -1);
}

static int open_sysfs(struct vfio_device *dev, const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", dev->bdf,
		 name);
	return open(path, flags);
}

TEST_F(arcs, race_with_root)
{
	int reset = open_sysfs(&self->dev, "reset", O_WRONLY);

	ASSERT_LE(0, reset);
	run_race(_metadata, &self->dev, reset);
	close(reset);
}

/* Who lets a device run is told if root has taken its state away, but not of what it did. */
TEST_F(arcs, reset_while_stopped)
{
	static const uint32_t states[] = {
		VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RUNNING_P2P,
	};
	int reset = open_sysfs(&self->dev, "reset", O_WRONLY);

	ASSERT_LE(0, reset);
	for (unsigned int i = 0; i < 2; i++) {
		ASSERT_EQ(0, vfio_mig_set_state(&self->dev, states[i], NULL));
		ASSERT_EQ(1, write(reset, "1", 1));
		EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(&self->dev));
		EXPECT_EQ(-EIO, vfio_mig_set_state(&self->dev, VFIO_DEVICE_STATE_RUNNING, NULL));
		EXPECT_EQ(0, vfio_mig_set_state(&self->dev, states[i], NULL));
		ASSERT_EQ(0, vfio_device_reset(&self->dev));
		EXPECT_EQ(0, vfio_mig_set_state(&self->dev, states[i], NULL));
		ASSERT_EQ(0, vfio_device_reset_hot(&self->dev));
		EXPECT_EQ(0, vfio_mig_set_state(&self->dev, VFIO_DEVICE_STATE_RUNNING, NULL));
	}
	close(reset);
}

static void *reset_once(void *arg)
{
	return (void *)write(*(int *)arg, "1", 1);
}

/*
 * A session turned memory decoding on, and ends while root resets the device:
 * the reset does not put back what the end of the session took back.
 */
TEST_F(arcs, end_within_reset)
{
	int config = open_sysfs(&self->dev, "config", O_RDONLY);
	int reset = open_sysfs(&self->dev, "reset", O_WRONLY);
	uint16_t before, within, after;
	pthread_t thread;
	void *done;
	int fd;

	ASSERT_LE(0, config);
	ASSERT_LE(0, reset);
	ASSERT_EQ(0, vfio_command_set(&self->dev, PCI_COMMAND_MEMORY, false));
	ASSERT_EQ(2, pread(config, &before, 2, PCI_COMMAND));
	for (unsigned int ms = 0; ms < 40; ms += 2) {
		ASSERT_EQ(0, vfio_mig_set_state(&self->dev,
						VFIO_DEVICE_STATE_STOP_COPY,
						&fd));
		ASSERT_EQ(2, pread(config, &within, 2, PCI_COMMAND));
		EXPECT_EQ(before | PCI_COMMAND_MEMORY, within);
		ASSERT_EQ(0, pthread_create(&thread, NULL, reset_once,
					    &reset));
		usleep(1000 * ms);
		vfio_mig_state(&self->dev);
		pthread_join(thread, &done);
		EXPECT_EQ(1, (long)done);
		EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING,
			  vfio_mig_state(&self->dev));
		ASSERT_EQ(2, pread(config, &after, 2, PCI_COMMAND));
		EXPECT_EQ(before, after);
		close(fd);
		ASSERT_EQ(0, vfio_device_reset(&self->dev));
	}
	close(config);
	close(reset);
}

TEST_HARNESS_MAIN

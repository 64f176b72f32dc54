// SPDX-License-Identifier: GPL-2.0-only
/*
 * The library and a driver that does what it should not: short reads and writes,
 * errors at each point, pauses, and calls that do not return.  The driver is a module
 * of the tests.
 */
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include <vfio-multifd.h>

#include "harness.h"
#include "engine.h"
#include "modules/foreign_file.h"

#define NODE	"/dev/foreign-file"
#define PACKET	16384
#define SIZE	(10 * PACKET + 99)

enum { SRC, DST };

/**
 * struct ends - a transfer's two ends, in one process
 * @engine: the two
 * @file: of the device, at each of them
 * @index: of the device, at each of them
 */
struct ends {
	struct vmf_engine *engine[2];
	int file[2];
	uint32_t index[2];
};

FIXTURE(driver) {
	struct ends ends;
};

FIXTURE_SETUP(driver)
{
	ENGINE_NEEDED();
	if (access(NODE, F_OK) &&
	    (system("modprobe -q foreign_file 2>/dev/null") ||
	     access(NODE, F_OK)))
		SKIP(return, "the module foreign_file cannot be loaded");
	for (unsigned int i = 0; i < 2; i++) {
		self->ends.file[i] = open(NODE, (i == SRC ? O_RDONLY : O_WRONLY) |
				     O_CLOEXEC);
		ASSERT_LE(0, self->ends.file[i]);
	}
}

FIXTURE_TEARDOWN(driver)
{
	for (unsigned int i = 0; i < 2; i++) {
		vmf_engine_close(self->ends.engine[i]);
		close(self->ends.file[i]);
	}
}

static int start(struct ends *ends, unsigned int channels,
		 const struct foreign_file *src, const struct foreign_file *dst,
		 uint32_t flags)
{
	struct vfio_multifd_setup setup = {
		.channels = channels, .packet_size = PACKET,
		.features = VFIO_MULTIFD_FEATURE_DIGEST,
	};
	int pair[2], ret = 0;

	if (ioctl(ends->file[SRC], FOREIGN_FILE_SET, src) ||
	    ioctl(ends->file[DST], FOREIGN_FILE_SET, dst))
		return -errno;
	for (unsigned int i = 0; !ret && i < 2; i++) {
		setup.role = i == SRC ? VFIO_MULTIFD_SEND : VFIO_MULTIFD_RECV;
		ret = vmf_engine_open(&ends->engine[i], NULL) ?:
		      vmf_engine_setup(ends->engine[i], &setup, NULL);
	}
	for (unsigned int i = 0; !ret && i < channels; i++) {
		ret = engine_tcp_pair(pair, 0) ?:
		      vmf_engine_add_channel(ends->engine[SRC], pair[0], i,
					     NULL) ?:
		      vmf_engine_add_channel(ends->engine[DST], pair[1], i,
					     NULL);
		close(pair[0]);
		close(pair[1]);
	}
	for (unsigned int i = 0; !ret && i < 2; i++) {
		ret = vmf_engine_add_device(ends->engine[i], ends->file[i],
					    i == SRC ? flags : 0, "dev", 0,
					    &ends->index[i], NULL) ?:
		      (i == SRC && flags ? 0 :
		       vmf_engine_switchover(ends->engine[i], NULL));
		/* a source that is to fail may have done so by now */
		if (i == SRC && ret == -EBADFD)
			ret = 0;
	}
	if (!ret)
		ret = vmf_engine_set_config(ends->engine[SRC],
					    ends->index[SRC], "x", 1, NULL);
	return ret == -EBADFD ? 0 : ret;
}

/* Waits until it is over; its state, and @status */
static uint32_t finish(struct vmf_engine *engine,
		       struct vfio_multifd_status *status)
{
	struct pollfd pollfd = { .fd = vmf_engine_fd(engine),
				 .events = POLLIN };

	do {
		if (vmf_engine_status(engine, status))
			return ~0U;
		if (status->state >= VFIO_MULTIFD_STATE_DONE)
			return status->state;
	} while (poll(&pollfd, 1, 60000) == 1);
	return status->state;
}

static bool all_arrived(struct ends *ends)
{
	struct foreign_file got;

	return !ioctl(ends->file[DST], FOREIGN_FILE_GET, &got) &&
	       got.pos == SIZE && !got.wrong;
}

TEST_F(driver, short_reads_and_writes)
{
	static const uint32_t most[][2] = {
		{ 0, 0 }, { 4095, 1000 }, { 777, 4096 },
	};
	struct vfio_multifd_status status;

	for (unsigned int i = 0; i < 3; i++) {
		struct foreign_file src = { .size = SIZE, .most = most[i][0] };
		struct foreign_file dst = { .size = SIZE, .most = most[i][1] };

		ASSERT_EQ(0, start(&self->ends, 1 + i, &src, &dst, 0));
		EXPECT_EQ(VFIO_MULTIFD_STATE_DONE,
			  finish(self->ends.engine[DST], &status));
		EXPECT_EQ(VFIO_MULTIFD_STATE_DONE,
			  finish(self->ends.engine[SRC], &status));
		EXPECT_TRUE(all_arrived(&self->ends));
		for (unsigned int n = 0; n < 2; n++) {
			vmf_engine_close(self->ends.engine[n]);
			self->ends.engine[n] = NULL;
		}
	}
}

/* The end that fails says which device, and why; the other one hears of it. */
TEST_F(driver, errors)
{
	static const uint64_t points[] = {
		0, 1, 4095, 4096, PACKET, PACKET + 1, SIZE - 1, SIZE,
	};
	struct vfio_multifd_status status;

	for (unsigned int i = 0; i < 2 * sizeof(points) / sizeof(*points);
	     i++) {
		struct foreign_file file[2] = { { .size = SIZE },
						{ .size = SIZE } };
		unsigned int bad = i % 2;
		int error = i % 4 < 2 ? -EIO : -ENODEV;

		/* nobody writes once all is written */
		if (bad == DST && points[i / 2] == SIZE)
			continue;
		file[bad].fail_at = points[i / 2];
		file[bad].error = error;
		ASSERT_EQ(0, start(&self->ends, 2, &file[SRC], &file[DST], 0));
		EXPECT_EQ(VFIO_MULTIFD_STATE_FAILED,
			  finish(self->ends.engine[bad], &status));
		EXPECT_EQ(error, status.error);
		EXPECT_EQ(bad == SRC ? VFIO_MULTIFD_REASON_DEVICE_READ :
				       VFIO_MULTIFD_REASON_DEVICE_WRITE,
			  status.reason);
		EXPECT_EQ(0, status.device);
		if (bad == SRC)
			EXPECT_EQ(VFIO_MULTIFD_STATE_FAILED,
				  finish(self->ends.engine[DST], &status));
		for (unsigned int n = 0; n < 2; n++) {
			vmf_engine_close(self->ends.engine[n]);
			self->ends.engine[n] = NULL;
		}
	}
}

/* A driver that writes nothing is not asked for ever. */
TEST_F(driver, takes_no_more)
{
	struct foreign_file src = { .size = SIZE }, dst = { .size = 5000 };
	struct vfio_multifd_status status;

	ASSERT_EQ(0, start(&self->ends, 1, &src, &dst, 0));
	EXPECT_EQ(VFIO_MULTIFD_STATE_FAILED,
		  finish(self->ends.engine[DST], &status));
	EXPECT_EQ(VFIO_MULTIFD_REASON_DEVICE_WRITE, status.reason);
	EXPECT_EQ(-EIO, status.error);
}

static void goes_on(struct __test_metadata *_metadata,
		    struct ends *ends, int pause)
{
	struct foreign_file dst = { .size = SIZE }, src = {
		.size = SIZE, .pause_every = 3 * PACKET, .pause = pause,
	};
	struct vfio_multifd_device_status device;
	struct vfio_multifd_status status;

	ASSERT_EQ(0, start(ends, 2, &src, &dst, VFIO_MULTIFD_DEVICE_PRE_COPY));
	for (unsigned int i = 1; i <= 3; i++) {
		do {
			usleep(1000);
			ASSERT_EQ(0, vmf_engine_device_status(ends->engine[SRC],
							      0, 0, &device));
		} while (!device.paused);
		EXPECT_EQ(3 * PACKET * i, device.bytes);
		if (i < 3)
			ASSERT_EQ(0, vmf_engine_continue(ends->engine[SRC], 0,
							 NULL));
	}
	ASSERT_EQ(0, vmf_engine_switchover(ends->engine[SRC], NULL));
	EXPECT_EQ(VFIO_MULTIFD_STATE_DONE, finish(ends->engine[DST], &status));
	EXPECT_TRUE(all_arrived(ends));
}

TEST_F(driver, pauses_with_no_message)
{
	goes_on(_metadata, &self->ends, -ENOMSG);
}

TEST_F(driver, pauses_with_nothing)
{
	goes_on(_metadata, &self->ends, 0);
}

/* A call sleeps in the driver: only then is there something to get out of it. */
static bool wait_stalled(int file)
{
	for (unsigned int i = 0; i < 20000; i++) {
		if (ioctl(file, FOREIGN_FILE_STALLED) == 1)
			return true;
		usleep(1000);
	}
	return false;
}

/* Who sleeps in the driver is got out of it. */
TEST_F(driver, sleeps)
{
	struct foreign_file dst = { .size = SIZE }, src = {
		.size = SIZE, .stall_at = 1, .stall_ms = 100000,
	};
	uint64_t begin;

	ASSERT_EQ(0, start(&self->ends, 2, &src, &dst, 0));
	ASSERT_TRUE(wait_stalled(self->ends.file[SRC]));
	begin = engine_now();
	vmf_engine_close(self->ends.engine[SRC]);
	self->ends.engine[SRC] = NULL;
	EXPECT_GT(4000000000ULL, engine_now() - begin);
}

/* Who cannot be got out is left there, and nobody waits for that. */
TEST_F(driver, is_deaf)
{
	struct foreign_file dst = { .size = SIZE }, src = {
		.size = SIZE, .stall_at = 1, .stall_ms = 12000, .deaf = 1,
	};
	uint64_t begin;

	ASSERT_EQ(0, start(&self->ends, 2, &src, &dst, 0));
	ASSERT_TRUE(wait_stalled(self->ends.file[SRC]));
	begin = engine_now();
	vmf_engine_close(self->ends.engine[SRC]);
	self->ends.engine[SRC] = NULL;
	EXPECT_GT(10000000000ULL, engine_now() - begin);
	EXPECT_LT(4000000000ULL, engine_now() - begin);
}

TEST_HARNESS_MAIN

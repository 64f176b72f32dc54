/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The test that a mistake in a stream is refused, for the programs that list
 * the mistakes
 */
#ifndef SELFTESTS_REFUSE_H
#define SELFTESTS_REFUSE_H

#include <errno.h>
#include <time.h>

#include "edit.h"
#include "kmsg.h"
#include "harness.h"
#include "pair.h"
#include "testing.h"

/* The kernel says no more than 10 things of a kind in 5 seconds */
#define REFUSE_PACE_NS	550000000

#define HEAD		sizeof(struct vfio_record)
#define PAGE		PAIR_PAGE
#define RECORD		((1 << 20) / EDIT_MEMORY)	/* memory of an ivshmem's */

/* Part 0 is the header, then come EDIT_MEMORY of memory, registers, end. */
#define MEMORY		9	/* a part in the middle of the memory */
#define REGISTERS(edit)	((edit)->count - 2)
#define END(edit)	((edit)->count - 1)

/* A mistake is a function that makes it, EDIT(name), and what then happens. */
#define EDIT(name) static void edit_##name(struct edit *edit)
#define REFUSED(name) FIXTURE_VARIANT_ADD(refuse, name)

/* What gets the stream, and whether some of it is loaded before the mistake */
enum refuse_device {
	UNTOUCHED,
	TOUCHED,
	TOUCHED_DISPLAY,
};

FIXTURE(refuse) {
	struct pair pair;
	int kmsg;
	struct timespec start;
};

FIXTURE_VARIANT(refuse) {
	void (*edit)(struct edit *edit);
	int error;		/* of RESUMING to STOP */
	const char *message;	/* part of what the kernel says */
	enum refuse_device device;
};

FIXTURE_SETUP(refuse)
{
	clock_gettime(CLOCK_MONOTONIC, &self->start);
	TESTING_SETUP(pair_open(&self->pair,
				variant->device == TOUCHED_DISPLAY ?
				&vfio_bochs : &vfio_ivshmem_1m));
	self->kmsg = kmsg_open();
	ASSERT_LE(0, self->kmsg);
}

FIXTURE_TEARDOWN(refuse)
{
	struct timespec *end = &self->start;

	close(self->kmsg);
	pair_close(&self->pair);
	end->tv_nsec += REFUSE_PACE_NS;
	end->tv_sec += end->tv_nsec / 1000000000;
	end->tv_nsec %= 1000000000;
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, end, NULL);
}

TEST_F_TIMEOUT(refuse, is_refused, 60)
{
	struct vfio_device *target = &self->pair.target;
	bool touched = variant->device != UNTOUCHED;
	struct segments cut = { 4000, 4000, 0 };
	struct stream bad = {};
	const char *broken;
	uint8_t byte = 0;
	int fd, ret;

	ASSERT_EQ(0, edit_stream(&bad, &self->pair.good, &self->pair.source,
				 variant->edit));
	ASSERT_EQ(0, vfio_mig_set_state(target, VFIO_DEVICE_STATE_RESUMING,
					&fd));
	ret = stream_write(&bad, fd, &cut);
	if (ret) {
		EXPECT_EQ(variant->error, ret);
		/* once bad it stays so */
		EXPECT_EQ(-1, write(fd, &byte, 1));
		EXPECT_EQ(-variant->error, errno);
	}
	EXPECT_EQ(variant->error, vfio_mig_set_state(target,
						     VFIO_DEVICE_STATE_STOP,
						     NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_ERROR, vfio_mig_state(target));
	EXPECT_TRUE(kmsg_find(self->kmsg, target->bdf, variant->message)) {
		TH_LOG("no message says '%s'", variant->message);
	}
	EXPECT_EQ(touched, !memcmp(target->map, self->pair.source.map, PAGE));

	ASSERT_EQ(0, vfio_device_reset(target));
	ASSERT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(target));
	EXPECT_TRUE(pair_memory_is(target->map, PAGE,
				   touched ? 0 : PAIR_MARK));
	for (uint64_t at = 0; at < target->size; at += PAGE)
		ASSERT_TRUE(pair_memory_is(target->map + at, PAGE, 0) ||
			    pair_memory_is(target->map + at, PAGE, PAIR_MARK));
	close(fd);
	stream_free(&bad);
	broken = pair_try(&self->pair);
	EXPECT_STREQ("", broken ? broken : "");
}

#endif /* SELFTESTS_REFUSE_H */

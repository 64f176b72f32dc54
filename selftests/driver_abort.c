// SPDX-License-Identifier: GPL-2.0-only
/* Loads that are given up: nothing of them is left, and the device is well */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <linux/userfaultfd.h>

#include "edit.h"
#include "harness.h"
#include "pair.h"
#include "testing.h"

FIXTURE(load) {
	struct pair pair;
	struct vfio_device *target;
	int fd;
};

FIXTURE_VARIANT(load) {
	const struct vfio_kind *kind;
};

FIXTURE_VARIANT_ADD(load, ivshmem) { .kind = &vfio_ivshmem_1m };
FIXTURE_VARIANT_ADD(load, bochs) { .kind = &vfio_bochs };

FIXTURE_SETUP(load)
{
	TESTING_SETUP(pair_open(&self->pair, variant->kind));
	self->target = &self->pair.target;
}

FIXTURE_TEARDOWN(load)
{
	pair_close(&self->pair);
}

#define EXPECT_WORKS() do {						\
	const char *_broken = pair_try(&self->pair);			\
									\
	EXPECT_STREQ("", _broken ? _broken : "");			\
} while (0)

static void change_nothing(struct edit *edit)
{
	(void)edit;
}

static void leave_out_end(struct edit *edit)
{
	edit_remove(edit, edit->count - 1);
}

/* Writes a whole stream, or all but its end, to a target in RESUMING */
static int begin(struct pair *pair, int *fd, void (*change)(struct edit *edit))
{
	struct segments cut = { 4000, 4000, 0 };
	struct stream stream = {};
	int ret;

	ret = edit_stream(&stream, &pair->good, &pair->source, change) ?:
	      vfio_mig_set_state(&pair->target, VFIO_DEVICE_STATE_RESUMING,
				 fd) ?:
	      stream_write(&stream, *fd, &cut);
	stream_free(&stream);
	return ret;
}

/* What was loaded well is not thrown away */
TEST_F(load, done)
{
	ASSERT_EQ(0, begin(&self->pair, &self->fd, change_nothing));
	ASSERT_EQ(0, vfio_mig_set_state(self->target, VFIO_DEVICE_STATE_STOP,
					NULL));
	EXPECT_EQ(0, memcmp(self->target->map, self->pair.source.map,
			    self->target->size));
	ASSERT_EQ(0, vfio_device_reset(self->target));
	ASSERT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->target));
	EXPECT_EQ(0, memcmp(self->target->map, self->pair.source.map,
			    self->target->size));
}

TEST_F(load, reset)
{
	ASSERT_EQ(0, begin(&self->pair, &self->fd, leave_out_end));
	ASSERT_EQ(0, vfio_device_reset(self->target));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->target));
	EXPECT_TRUE(pair_memory_is(self->target->map, self->target->size, 0));
	close(self->fd);
	EXPECT_WORKS();
}

TEST_F(load, closed)
{
	ASSERT_EQ(0, begin(&self->pair, &self->fd, leave_out_end));
	testing_close(self->target);
	ASSERT_EQ(NULL, testing_open(self->target, variant->kind, 1));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->target));
	EXPECT_TRUE(pair_memory_is(self->target->map, self->target->size, 0));
	close(self->fd);
	EXPECT_WORKS();
}

TEST_F(load, failed_and_closed)
{
	ASSERT_EQ(0, begin(&self->pair, &self->fd, leave_out_end));
	EXPECT_EQ(-EINVAL, vfio_mig_set_state(self->target,
					      VFIO_DEVICE_STATE_STOP, NULL));
	testing_close(self->target);
	ASSERT_EQ(NULL, testing_open(self->target, variant->kind, 1));
	EXPECT_TRUE(pair_memory_is(self->target->map, self->target->size, 0));
	close(self->fd);
	EXPECT_WORKS();
}

/* The one who wrote is still at it when the load is given up */
TEST_F(load, reset_and_written_on)
{
	ASSERT_EQ(0, begin(&self->pair, &self->fd, leave_out_end));
	ASSERT_EQ(0, vfio_device_reset(self->target));
	EXPECT_EQ(-1, write(self->fd, self->pair.good.data, 100));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_TRUE(pair_memory_is(self->target->map, self->target->size, 0));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->target));
	close(self->fd);
	EXPECT_WORKS();
}

/* As root may.  Return: 0 or a negative errno */
static int reset_by_sysfs(struct vfio_device *dev)
{
	char path[64];
	int fd, ret = 0;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset",
		 dev->bdf);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return -errno;
	if (write(fd, "1", 1) != 1)
		ret = -errno;
	close(fd);
	return ret;
}

/* Who asks for the end of a load must not take a reset for a success */
TEST_F(load, reset_by_somebody)
{
	ASSERT_EQ(0, begin(&self->pair, &self->fd, change_nothing));
	ASSERT_EQ(0, reset_by_sysfs(self->target));
	EXPECT_EQ(-EIO, vfio_mig_set_state(self->target,
					   VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->target));
	EXPECT_TRUE(pair_memory_is(self->target->map, self->target->size, 0));
	close(self->fd);
	EXPECT_WORKS();
}

/* A look at the state does not tell that a load was lost */
TEST_F(load, reset_by_somebody_and_seen)
{
	ASSERT_EQ(0, begin(&self->pair, &self->fd, change_nothing));
	ASSERT_EQ(0, reset_by_sysfs(self->target));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->target));
	EXPECT_EQ(-EIO, vfio_mig_set_state(self->target,
					   VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->target));
	EXPECT_EQ(0, vfio_mig_set_state(self->target, VFIO_DEVICE_STATE_STOP,
					NULL));
	close(self->fd);
	EXPECT_WORKS();
}

/* Whoever resets the device, or opens it, knows */
TEST_F(load, reset_by_somebody_and_user)
{
	ASSERT_EQ(0, begin(&self->pair, &self->fd, change_nothing));
	ASSERT_EQ(0, reset_by_sysfs(self->target));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->target));
	ASSERT_EQ(0, vfio_device_reset(self->target));
	EXPECT_EQ(0, vfio_mig_set_state(self->target, VFIO_DEVICE_STATE_STOP,
					NULL));
	close(self->fd);

	ASSERT_EQ(0, begin(&self->pair, &self->fd, change_nothing));
	ASSERT_EQ(0, reset_by_sysfs(self->target));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->target));
	testing_close(self->target);
	ASSERT_EQ(NULL, testing_open(self->target, variant->kind, 1));
	EXPECT_EQ(0, vfio_mig_set_state(self->target, VFIO_DEVICE_STATE_STOP,
					NULL));
	close(self->fd);
	EXPECT_WORKS();
}

/* Nor is anything lost by a reset that follows the user's own */
TEST_F(load, reset_by_user_and_somebody)
{
	ASSERT_EQ(0, begin(&self->pair, &self->fd, change_nothing));
	ASSERT_EQ(0, vfio_device_reset(self->target));
	ASSERT_EQ(0, reset_by_sysfs(self->target));
	EXPECT_EQ(0, vfio_mig_set_state(self->target, VFIO_DEVICE_STATE_RUNNING,
					NULL));
	close(self->fd);

	ASSERT_EQ(0, begin(&self->pair, &self->fd, change_nothing));
	ASSERT_EQ(0, reset_by_sysfs(self->target));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(self->target));
	ASSERT_EQ(0, vfio_device_reset(self->target));
	ASSERT_EQ(0, reset_by_sysfs(self->target));
	EXPECT_EQ(0, vfio_mig_set_state(self->target, VFIO_DEVICE_STATE_STOP,
					NULL));
	close(self->fd);
	EXPECT_WORKS();
}

struct writer {
	pthread_t thread;
	int fd;
	const void *data;
	size_t len;
	ssize_t done;
};

static void *run_writer(void *arg)
{
	struct writer *writer = arg;

	writer->done = write(writer->fd, writer->data, writer->len);
	if (writer->done < 0)
		writer->done = -errno;
	return NULL;
}

/* Two pages, of which the second is not there until it is filled. */
static uint8_t *make_stall(int *uffd)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	uint8_t *pages = mmap(NULL, 2 * PAIR_PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	reg.range.start = (uintptr_t)pages + PAIR_PAGE;
	reg.range.len = PAIR_PAGE;
	if (pages == MAP_FAILED || *uffd < 0 ||
	    ioctl(*uffd, UFFDIO_API, &api) ||
	    ioctl(*uffd, UFFDIO_REGISTER, &reg))
		return NULL;
	return pages;
}

static void make_bad(struct edit *edit)
{
	edit->count = 2;
	edit->part[1].head.offset = 1ull << 40;
}

/*
 * One writer is in the middle of a record that will turn out to be bad, and
 * another waits behind it.  That one must not go on where the first stopped.
 */
TEST_F(load, stalled_writer)
{
	const size_t split = 88 + 20;	/* header, half of a record's head */
	uint8_t page[PAIR_PAGE] = {};
	struct uffdio_copy fill = { .src = (uintptr_t)page, .len = PAIR_PAGE };
	struct writer first, second;
	struct stream bad = {};
	uint8_t *stall;
	int uffd;

	stall = make_stall(&uffd);
	if (!stall)
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, edit_stream(&bad, &self->pair.good, &self->pair.source,
				 make_bad));
	ASSERT_EQ(0, vfio_mig_set_state(self->target,
					VFIO_DEVICE_STATE_RESUMING,
					&self->fd));
	memcpy(stall + PAIR_PAGE - split, bad.data, split);
	memcpy(page, bad.data + split, 20);
	first = (struct writer){
		.fd = self->fd,
		.data = stall + PAIR_PAGE - split,
		.len = split + 20,
	};
	second = (struct writer){
		.fd = self->fd,
		.data = self->pair.source.map,
		.len = 2 * PAIR_PAGE,
	};
	ASSERT_EQ(0, pthread_create(&first.thread, NULL, run_writer, &first));
	usleep(100000);
	ASSERT_EQ(0, pthread_create(&second.thread, NULL, run_writer,
				    &second));
	usleep(100000);
	fill.dst = (uintptr_t)stall + PAIR_PAGE;
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_COPY, &fill));
	pthread_join(first.thread, NULL);
	pthread_join(second.thread, NULL);
	EXPECT_EQ(-EINVAL, first.done);
	EXPECT_EQ(-EINVAL, second.done);
	EXPECT_EQ(-EINVAL, vfio_mig_set_state(self->target,
					      VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_TRUE(pair_memory_is(self->target->map, self->target->size,
				   PAIR_MARK));
	ASSERT_EQ(0, vfio_device_reset(self->target));
	close(self->fd);
	stream_free(&bad);
	EXPECT_WORKS();
}

struct device_writer {
	struct vfio_device *dev;
	const void *data;
	size_t len;
	int ret;
};

static void *run_device_writer(void *arg)
{
	struct device_writer *writer = arg;

	writer->ret = vfio_region_write(writer->dev, writer->dev->kind->memory,
					0, writer->data, writer->len);
	return NULL;
}

static void *run_stop(void *arg)
{
	int fd = -1;

	vfio_mig_set_state(arg, VFIO_DEVICE_STATE_STOP_COPY, &fd);
	if (fd >= 0)
		close(fd);
	return NULL;
}

/* A stop waits for who writes to the device, a reset does not. */
TEST_F(load, reset_while_writing)
{
	uint8_t page[PAIR_PAGE] = {};
	struct uffdio_copy fill = { .src = (uintptr_t)page, .len = PAIR_PAGE };
	struct device_writer writer = { .dev = self->target, .len = 16 };
	pthread_t thread, stop;
	uint8_t *stall;
	int uffd;

	stall = make_stall(&uffd);
	if (!stall)
		SKIP(return, "no userfaultfd");
	writer.data = stall + PAIR_PAGE - 8;
	ASSERT_EQ(0, pthread_create(&thread, NULL, run_device_writer, &writer));
	usleep(100000);
	ASSERT_EQ(0, pthread_create(&stop, NULL, run_stop, self->target));
	usleep(100000);
	EXPECT_EQ(0, vfio_device_reset(self->target));
	EXPECT_EQ(0, vfio_device_reset_hot(self->target));
	fill.dst = (uintptr_t)stall + PAIR_PAGE;
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_COPY, &fill));
	pthread_join(thread, NULL);
	pthread_join(stop, NULL);
	EXPECT_EQ(0, writer.ret);
	ASSERT_EQ(0, vfio_device_reset(self->target));
	EXPECT_WORKS();
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0-only
/* The driver without memory: bind, open, each arc, data fds; and then it works */
#include <fcntl.h>
#include <poll.h>

#include "harness.h"
#include "fail_nth.h"
#include "kmemleak.h"
#include "pair.h"
#include "testing.h"

#define KIND	(&vfio_ivshmem_1m)
#define BIG	(1 << 20)	/* a read or write of all at once */

/*
 * The kernel's word for a BAR that is not reserved for want of memory, by the
 * first who uses it
 */
static bool is_clean(int err)
{
	return fail_nth_clean(err) || err == -EBUSY;
}

static int write_bdf(int fd, const char *bdf)
{
	return write(fd, bdf, strlen(bdf)) < 0 ? -errno : 0;
}

/* bind or unbind, by the driver's own file, which tells what probe() said */
static void sweep_file(struct __test_metadata *_metadata, const char *bdf,
		       const char *file, const char *opposite)
{
	int fd = open(file, O_WRONLY), undo = open(opposite, O_WRONLY);
	struct fail_nth sweep = {};
	int ret;

	ASSERT_LE(0, fd);
	ASSERT_LE(0, undo);
	while (fail_nth_next(&sweep)) {
		fail_nth_arm(&sweep);
		ret = write_bdf(fd, bdf);
		fail_nth_disarm(&sweep);
		if (ret) {
			sweep.errors++;
			EXPECT_TRUE(fail_nth_clean(ret));
			EXPECT_EQ(0, write_bdf(fd, bdf));
		}
		ASSERT_EQ(0, write_bdf(undo, bdf));
		if (_metadata->exit_code)
			break;
	}
	FAIL_NTH_DONE(&sweep, file);
	close(fd);
	close(undo);
}

/* A device that nobody has open */
FIXTURE(closed) {
	char bdf[VFIO_BDF_SIZE];
};

FIXTURE_SETUP(closed)
{
	struct vfio_device dev;

	TESTING_OPEN(&dev, KIND, 1);	/* has the right driver, then */
	testing_close(&dev);
	strcpy(self->bdf, dev.bdf);
}

FIXTURE_TEARDOWN(closed)
{
	struct pair pair = {};
	const char *why = pair_open(&pair, KIND);

	ASSERT_STREQ("", why ? why : "");
	EXPECT_RIGHT(pair_try(&pair));
	pair_close(&pair);
}

TEST_F(closed, bind)
{
	static const char bind[] = "/sys/bus/pci/drivers/" VFIO_DRIVER "/bind";
	static const char unbind[] =
		"/sys/bus/pci/drivers/" VFIO_DRIVER "/unbind";

	sweep_file(_metadata, self->bdf, unbind, bind);
	ASSERT_EQ(0, vfio_unbind(self->bdf));
	/*
	 * VFIO's own vfio_create_group(), which is part of this, warns when it
	 * has no memory: it drops a group whose iommu_group is still set.
	 */
	ASSERT_TRUE(fail_nth_spare("vfio_device_set_group"));
	sweep_file(_metadata, self->bdf, bind, unbind);
	ASSERT_TRUE(fail_nth_spare(NULL));
	ASSERT_EQ(0, vfio_bind(self->bdf, VFIO_DRIVER));
}

/*
 * All from the address space to the mapped BAR.  A device of no kind is one of
 * which sysfs could not be read.
 */
static int open_device(struct vfio_device *dev, const char *bdf)
{
	struct vfio_container container;
	int ret = vfio_container_open(&container);

	if (ret)
		return ret;
	ret = vfio_device_open(dev, &container, bdf);
	if (ret)
		vfio_container_close(&container);
	dev->container = container;
	return ret == -ENODEV && !dev->kind ? -ENOMEM : ret;
}

TEST_F(closed, open)
{
	struct fail_nth sweep = {};
	struct vfio_device dev;
	int ret = -1;

	while (fail_nth_next(&sweep)) {
		fail_nth_arm(&sweep);
		ret = open_device(&dev, self->bdf);
		fail_nth_disarm(&sweep);
		if (ret) {
			sweep.errors++;
			EXPECT_TRUE(is_clean(ret));
		} else {
			EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING,
				  vfio_mig_state(&dev));
			testing_close(&dev);
		}
		if (_metadata->exit_code)
			break;
	}
	EXPECT_EQ(0, ret);
	FAIL_NTH_DONE(&sweep, "open");
}

FIXTURE(fail) {
	struct pair pair;
	struct vfio_device *dev;
	struct stream read;	/* kept, so that its memory is there */
};

FIXTURE_SETUP(fail)
{
	TESTING_SETUP(pair_open(&self->pair, KIND));
	self->dev = &self->pair.target;
	EXPECT_RIGHT(pair_try(&self->pair));	/* has the source's state now */
	ASSERT_EQ(0, vfio_mig_set_state(self->dev, VFIO_DEVICE_STATE_RUNNING,
					NULL));
}

FIXTURE_TEARDOWN(fail)
{
	EXPECT_EQ(0, vfio_device_reset(self->dev));
	EXPECT_RIGHT(pair_try(&self->pair));
	stream_free(&self->read);
	pair_close(&self->pair);
}

/* Brings the target to STOP from wherever it is */
static int stop(struct vfio_device *dev)
{
	int state = vfio_mig_state(dev), ret = 0;

	if (state == VFIO_DEVICE_STATE_ERROR ||
	    state == VFIO_DEVICE_STATE_RESUMING)
		ret = vfio_device_reset(dev);
	return ret ?: vfio_mig_set_state(dev, VFIO_DEVICE_STATE_STOP, NULL);
}

static bool is_precopy(uint32_t state)
{
	return state == VFIO_DEVICE_STATE_PRE_COPY ||
	       state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

/* A step.  @fd, which may be -1, stays where the device gives no other. */
static int go(struct vfio_device *dev, uint32_t state, int *fd)
{
	int given, ret;

	ret = vfio_mig_set_state(dev, state, &given);
	if (given >= 0) {
		close(*fd);
		*fd = given;
	}
	return ret;
}

/*
 * ... and from there to another; in RESUMING a whole stream is written.  In
 * PRE_COPY the data fd is still needed.
 */
static int enter(struct pair *pair, uint32_t state, int *fd)
{
	struct segments big = { BIG, BIG, 0 };
	struct vfio_device *dev = &pair->target;
	int ret;

	ret = stop(dev);
	if (ret)
		return ret;
	if (state == VFIO_DEVICE_STATE_RESUMING)
		pair_spoil(pair);
	ret = go(dev, state, fd);
	if (!ret && state == VFIO_DEVICE_STATE_RESUMING)
		ret = stream_write(&pair->good, *fd, &big);
	if (!is_precopy(state)) {
		close(*fd);
		*fd = -1;
	}
	return ret;
}

static bool has_state(struct pair *pair)
{
	return !memcmp(pair->target.map, pair->source.map, pair->source.size);
}

/* How a stream is cut into records depends on how it is read. */
static const char *check_stream(struct pair *pair, struct stream *stream)
{
	uint8_t *image = malloc(pair->target.size);
	struct records list;
	const char *wrong;

	wrong = records_parse(&list, stream) ? "half a record" :
		records_check(&list, &pair->target, image);
	if (!wrong && memcmp(image, pair->source.map, pair->source.size))
		wrong = "other memory";
	records_free(&list);
	free(image);
	return wrong;
}

static const char *check_read(struct pair *pair, struct stream *read, int fd)
{
	struct segments big = { BIG, BIG, 0 };

	read->len = 0;
	if (fd < 0)
		return "no data fd";
	if (stream_read(read, fd, &big))
		return "it cannot be read";
	return check_stream(pair, read);
}

static const char *check_write(struct pair *pair, int fd)
{
	struct segments big = { BIG, BIG, 0 };

	if (fd < 0)
		return "no data fd";
	if (stream_write(&pair->good, fd, &big))
		return "it cannot be written";
	if (vfio_mig_set_state(&pair->target, VFIO_DEVICE_STATE_STOP, NULL))
		return "it does not load";
	return has_state(pair) ? NULL : "it has other memory";
}

static bool is_alive(int fd)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };

	return poll(&pollfd, 1, 0) == 1 && pollfd.revents == POLLIN;
}

struct arc {
	uint32_t from;
	uint32_t to;
};

/* A step that was successful gives what it should; NULL, or what is wrong */
static const char *check_arc(struct pair *pair, struct stream *read,
			     const struct arc *arc, int fd)
{
	if (vfio_mig_state(&pair->target) != (int)arc->to)
		return "another state";
	if (arc->to == VFIO_DEVICE_STATE_STOP_COPY)
		return check_read(pair, read, fd);
	if (arc->to == VFIO_DEVICE_STATE_RESUMING)
		return check_write(pair, fd);
	if (is_precopy(arc->to))
		return is_alive(fd) ? NULL : "no live data fd";
	if (fd != -1 && is_alive(fd))
		return "a live data fd";
	if (arc->from == VFIO_DEVICE_STATE_RESUMING && !has_state(pair))
		return "other memory than what it loaded";
	return NULL;
}

/* Where a device may be after a step that failed, and how it goes on */
static const char *check_failed(struct pair *pair, struct stream *read,
				const struct arc *arc, int err, int *fd)
{
	int now = vfio_mig_state(&pair->target), ret;

	/* The step was done, but its result did not come through. */
	if (now == (int)arc->to && err == -EFAULT)
		return NULL;
	if (now == VFIO_DEVICE_STATE_ERROR)
		return NULL;
	if (now != (int)arc->from)
		return "neither the old state nor ERROR";
	ret = go(&pair->target, arc->to, fd);
	return ret ? "no way out of the old state" :
		     check_arc(pair, read, arc, *fd);
}

static const struct arc arcs[] = {
	{ VFIO_DEVICE_STATE_RUNNING, VFIO_DEVICE_STATE_RUNNING_P2P },
	{ VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_STOP },
	{ VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RUNNING_P2P },
	{ VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_RUNNING },
	{ VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_STOP_COPY },
	{ VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_STOP },
	{ VFIO_DEVICE_STATE_STOP, VFIO_DEVICE_STATE_RESUMING },
	{ VFIO_DEVICE_STATE_RESUMING, VFIO_DEVICE_STATE_STOP },
	{ VFIO_DEVICE_STATE_RUNNING, VFIO_DEVICE_STATE_PRE_COPY },
	{ VFIO_DEVICE_STATE_RUNNING_P2P, VFIO_DEVICE_STATE_PRE_COPY_P2P },
	{ VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_PRE_COPY_P2P },
	{ VFIO_DEVICE_STATE_PRE_COPY_P2P, VFIO_DEVICE_STATE_PRE_COPY },
	{ VFIO_DEVICE_STATE_PRE_COPY_P2P, VFIO_DEVICE_STATE_STOP_COPY },
	{ VFIO_DEVICE_STATE_PRE_COPY, VFIO_DEVICE_STATE_RUNNING },
	{ VFIO_DEVICE_STATE_PRE_COPY_P2P, VFIO_DEVICE_STATE_RUNNING_P2P },
};

static void sweep_arc(struct __test_metadata *_metadata, struct pair *pair,
		      struct stream *read, const struct arc *arc)
{
	struct fail_nth sweep = {};
	int fd = -1, ret = -1;
	char name[64];

	snprintf(name, sizeof(name), "%s to %s", vfio_mig_state_name(arc->from),
		 vfio_mig_state_name(arc->to));
	while (fail_nth_next(&sweep)) {
		ASSERT_EQ(0, enter(pair, arc->from, &fd));
		fail_nth_arm(&sweep);
		ret = go(&pair->target, arc->to, &fd);
		fail_nth_disarm(&sweep);
		if (ret) {
			sweep.errors++;
			EXPECT_TRUE(fail_nth_clean(ret));
			EXPECT_RIGHT(check_failed(pair, read, arc, ret, &fd));
		} else {
			EXPECT_RIGHT(check_arc(pair, read, arc, fd));
		}
		close(fd);
		fd = -1;
		if (_metadata->exit_code)
			break;
	}
	EXPECT_EQ(0, ret);
	FAIL_NTH_DONE(&sweep, name);
}

TEST_F(fail, arcs)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(arcs); i++)
		sweep_arc(_metadata, &self->pair, &self->read, &arcs[i]);
}

/* Some segments are too small for a record, and go by way of the carry. */
static const struct segments segments[] = {
	{ BIG, BIG, 0 },
	{ 50000, 50000, 0 },
	{ 3000, 9000, 1 },
};

/* Whole records in spite of an error on the way: nothing is lost or doubled */
static void sweep_read(struct __test_metadata *_metadata, struct pair *pair,
		       struct stream *read, struct segments segments)
{
	/* without a carry, what a copy left over is copied by the next one */
	struct fail_nth sweep = { .calm = segments.least == BIG };
	int fd, ret;

	while (fail_nth_next(&sweep)) {
		ASSERT_EQ(0, stop(&pair->target));
		ASSERT_EQ(0, vfio_mig_set_state(&pair->target,
						VFIO_DEVICE_STATE_STOP_COPY,
						&fd));
		read->len = 0;
		fail_nth_arm(&sweep);
		ret = stream_read(read, fd, &segments);
		fail_nth_disarm(&sweep);
		if (ret) {
			sweep.errors++;
			EXPECT_TRUE(fail_nth_clean(ret));
			EXPECT_EQ(0, stream_read(read, fd, &segments));
		}
		EXPECT_RIGHT(check_stream(pair, read));
		close(fd);
		if (_metadata->exit_code)
			break;
	}
	FAIL_NTH_DONE(&sweep, "read");
}

TEST_F(fail, read)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(segments); i++)
		sweep_read(_metadata, &self->pair, &self->read, segments[i]);
}

/* Goes on where it stopped.  Return: the first error, if one came */
static int write_on(const struct stream *stream, int fd, size_t *at,
		    size_t size)
{
	while (*at < stream->len) {
		size_t left = stream->len - *at;
		ssize_t done = write(fd, stream->data + *at,
				     left < size ? left : size);

		if (done < 0)
			return -errno;
		*at += done;
	}
	return 0;
}

static void sweep_write(struct __test_metadata *_metadata, struct pair *pair,
			size_t size)
{
	struct fail_nth sweep = {};
	size_t at;
	int fd, ret;

	while (fail_nth_next(&sweep)) {
		ASSERT_EQ(0, stop(&pair->target));
		pair_spoil(pair);
		ASSERT_EQ(0, vfio_mig_set_state(&pair->target,
						VFIO_DEVICE_STATE_RESUMING,
						&fd));
		at = 0;
		fail_nth_arm(&sweep);
		ret = write_on(&pair->good, fd, &at, size);
		fail_nth_disarm(&sweep);
		if (ret) {
			sweep.errors++;
			EXPECT_TRUE(fail_nth_clean(ret));
			EXPECT_EQ(0, write_on(&pair->good, fd, &at, size));
		}
		EXPECT_EQ(0, vfio_mig_set_state(&pair->target,
						VFIO_DEVICE_STATE_STOP, NULL));
		EXPECT_TRUE(has_state(pair));
		close(fd);
		if (_metadata->exit_code)
			break;
	}
	FAIL_NTH_DONE(&sweep, "write");
}

TEST_F(fail, write)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(segments); i++)
		sweep_write(_metadata, &self->pair, segments[i].least);
}

static int call_flags(struct vfio_device *dev)
{
	uint64_t flags;

	return vfio_mig_flags(dev, &flags);
}

static int call_state(struct vfio_device *dev)
{
	int state = vfio_mig_state(dev);

	return state < 0 ? state : 0;
}

static int call_size(struct vfio_device *dev)
{
	uint64_t size;

	return vfio_mig_data_size(dev, &size);
}

/* A fault that gets no page table comes again, and is no SIGBUS. */
static int call_map(struct vfio_device *dev)
{
	volatile uint8_t *map = vfio_region_map(dev, dev->kind->memory);

	if (!map)
		return -errno;
	for (uint64_t at = 0; at < dev->size; at += dev->size / 4)
		map[at] = map[at] + 1;
	return munmap((void *)map, dev->size) ? -errno : 0;
}

static int call_registers(struct vfio_device *dev)
{
	return vfio_registers_fill(dev, 3);
}

static const struct call {
	const char *name;
	int (*call)(struct vfio_device *dev);
	bool calm;	/* it needs no memory, and copies nothing */
} calls[] = {
	{ "MIGRATION", call_flags, false },
	{ "MIG_DEVICE_STATE", call_state, false },
	{ "MIG_DATA_SIZE", call_size, false },
	{ "RESET", vfio_device_reset, true },
	{ "mmap", call_map, false },
	{ "registers", call_registers, false },
};

TEST_F(fail, calls)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(calls); i++) {
		struct fail_nth sweep = { .calm = calls[i].calm };

		while (fail_nth_next(&sweep)) {
			int ret;

			fail_nth_arm(&sweep);
			ret = calls[i].call(self->dev);
			fail_nth_disarm(&sweep);
			sweep.errors += ret != 0;
			if (ret)
				EXPECT_TRUE(is_clean(ret));
			EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING,
				  vfio_mig_state(self->dev));
			EXPECT_EQ(0, calls[i].call(self->dev));
			if (_metadata->exit_code)
				break;
		}
		FAIL_NTH_DONE(&sweep, calls[i].name);
	}
}

/* The scan takes long, so there is one, after all the others */
FIXTURE(kmemleak) {
};

FIXTURE_SETUP(kmemleak)
{
}

FIXTURE_TEARDOWN(kmemleak)
{
}

TEST_F(kmemleak, nothing)
{
	KMEMLEAK_EXPECT_NONE();
}

int main(int argc, char **argv)
{
	return fail_nth_begin() ?: test_harness_run(argc, argv);
}

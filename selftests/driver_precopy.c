// SPDX-License-Identifier: GPL-2.0-only
/* States that are saved while their user goes on: PRE_COPY, pass after pass */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <linux/pci_regs.h>

#include "harness.h"
#include "engine.h"
#include "pair.h"
#include "testing.h"

#define PAGE		VFIO_RECORD_ALIGN
#define HAMMER_PASSES	6
#define HAMMERS		4
#define PRECOPY_INFO_V2	12	/* VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 */

FIXTURE(precopy) {
	struct vfio_device source;
	struct vfio_device target;
	struct stream stream;
	struct records records;
	uint8_t *image;
	int fd;
};

FIXTURE_VARIANT(precopy) {
	const struct vfio_kind *kind;
};

FIXTURE_VARIANT_ADD(precopy, ivshmem) { .kind = &vfio_ivshmem_1m };
FIXTURE_VARIANT_ADD(precopy, bochs) { .kind = &vfio_bochs };

FIXTURE_SETUP(precopy)
{
	TESTING_OPEN(&self->source, variant->kind, 0);
	TESTING_OPEN(&self->target, variant->kind, 1);
	self->image = calloc(1, self->source.size);
	ASSERT_NE(NULL, self->image);
	vfio_fill(self->source.map, self->source.size, 5);
	ASSERT_EQ(0, vfio_registers_fill(&self->source, 6));
	ASSERT_EQ(0, vfio_mig_set_state(&self->source,
					VFIO_DEVICE_STATE_PRE_COPY,
					&self->fd));
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(precopy)
{
	close(self->fd);
	stream_free(&self->stream);
	records_free(&self->records);
	free(self->image);
	testing_close(&self->source);
	testing_close(&self->target);
}

static int get_info(int fd, struct vfio_precopy_info *info)
{
	*info = (struct vfio_precopy_info) { .argsz = sizeof(*info) };
	return ioctl(fd, VFIO_MIG_GET_PRECOPY_INFO, info) ? -errno : 0;
}

static uint64_t dirty_bytes(int fd)
{
	struct vfio_precopy_info info;

	return get_info(fd, &info) ? UINT64_MAX : info.dirty_bytes;
}

/* Reads on to the end of the pass, or of the stream.  Return: its errno */
static int read_pass(struct stream *stream, int fd, size_t most)
{
	uint8_t *buf = malloc(most);
	ssize_t len;
	int ret;

	while ((len = read(fd, buf, most)) > 0)
		if (stream_append(stream, buf, len))
			abort();
	ret = len ? -errno : 0;
	free(buf);
	return ret;
}

/* Pages of memory that the records from @from on bring */
static uint64_t pages_since(struct records *list, const struct stream *stream,
			    size_t from)
{
	const uint8_t *begin = stream->data + from;
	uint64_t bytes = 0;

	records_free(list);
	if (records_parse(list, stream))
		abort();
	for (size_t i = 0; i < list->count; i++)
		if (list->rec[i].payload > begin &&
		    (list->rec[i].head.tag == VFIO_RECORD_MEMORY ||
		     list->rec[i].head.tag == VFIO_RECORD_ZERO))
			bytes += list->rec[i].head.length;
	return bytes / PAGE;
}

/* Stops the device, reads the rest, and expects all of it to be right. */
#define EXPECT_RIGHT_END(most) do {					\
	struct vfio_device *_source = &self->source;			\
	const char *_bad;						\
									\
	ASSERT_EQ(0, vfio_mig_set_state(_source,			\
					VFIO_DEVICE_STATE_STOP_COPY,	\
					NULL));				\
	ASSERT_EQ(0, read_pass(&self->stream, self->fd, most));		\
	records_free(&self->records);					\
	ASSERT_EQ(0, records_parse(&self->records, &self->stream));	\
	_bad = records_check(&self->records, _source, self->image);	\
	EXPECT_STREQ("", _bad ? _bad : "");				\
	EXPECT_EQ(0, memcmp(self->image, _source->map, _source->size));	\
	ASSERT_EQ(0, stream_load(&self->stream, &self->target));	\
	EXPECT_EQ(0, memcmp(self->target.map, _source->map,		\
			    _source->size));				\
} while (0)

TEST_F(precopy, info)
{
	struct vfio_precopy_info info, before;
	char byte;

	ASSERT_EQ(0, get_info(self->fd, &before));
	EXPECT_LT(self->source.size, before.initial_bytes);
	EXPECT_GE(self->source.size + PAGE, before.initial_bytes);
	EXPECT_EQ(0, before.dirty_bytes);
	for (unsigned int i = 0; i < 10; i++) {
		char buf[3 * PAGE];

		ASSERT_LT(0, read(self->fd, buf, sizeof(buf)));
		ASSERT_EQ(0, get_info(self->fd, &info));
		EXPECT_GT(before.initial_bytes, info.initial_bytes);
		EXPECT_EQ(0, info.dirty_bytes);
		before = info;
	}
	EXPECT_EQ(-ENOMSG, read_pass(&self->stream, self->fd, 1 << 20));
	ASSERT_EQ(0, get_info(self->fd, &info));
	EXPECT_EQ(0, info.initial_bytes);
	EXPECT_EQ(0, info.dirty_bytes);
	/* and so it stays */
	for (unsigned int i = 0; i < 3; i++) {
		EXPECT_EQ(-1, read(self->fd, &byte, 1));
		EXPECT_EQ(ENOMSG, errno);
	}
}

/* In newer kernels the flags are output for who has asked so: there are none. */
TEST_F(precopy, info_flags)
{
	struct vfio_precopy_info info = { .argsz = sizeof(info), .flags = 7 };
	struct vfio_device_feature feature = {
		.argsz = sizeof(feature),
		.flags = VFIO_DEVICE_FEATURE_SET | PRECOPY_INFO_V2,
	};
	int ret;

	ASSERT_EQ(0, ioctl(self->fd, VFIO_MIG_GET_PRECOPY_INFO, &info));
	EXPECT_EQ(7, info.flags);
	ret = ioctl(self->source.fd, VFIO_DEVICE_FEATURE, &feature);
	EXPECT_TRUE(!ret || errno == ENOTTY);
	ASSERT_EQ(0, ioctl(self->fd, VFIO_MIG_GET_PRECOPY_INFO, &info));
	EXPECT_EQ(ret ? 7 : 0, info.flags);
}

TEST_F(precopy, info_arguments)
{
	struct vfio_precopy_info info = {
		.argsz = offsetof(struct vfio_precopy_info, dirty_bytes),
	};

	EXPECT_EQ(-1, ioctl(self->fd, VFIO_MIG_GET_PRECOPY_INFO, &info));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ioctl(self->fd, VFIO_MIG_GET_PRECOPY_INFO, 8));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, ioctl(self->fd, VFIO_DEVICE_RESET, &info));
	EXPECT_EQ(ENOTTY, errno);
	ASSERT_EQ(0, vfio_mig_set_state(&self->source,
					VFIO_DEVICE_STATE_PRE_COPY_P2P, NULL));
	EXPECT_EQ(0, get_info(self->fd, &info));
	ASSERT_EQ(0, vfio_mig_set_state(&self->source,
					VFIO_DEVICE_STATE_STOP_COPY, NULL));
	EXPECT_EQ(-EINVAL, get_info(self->fd, &info));
	ASSERT_EQ(0, vfio_mig_set_state(&self->source, VFIO_DEVICE_STATE_STOP,
					NULL));
	EXPECT_EQ(-ENODEV, get_info(self->fd, &info));
}

/* What each way of writing touches comes again, and nothing else does. */
TEST_F(precopy, touched)
{
	struct vfio_device *dev = &self->source;
	const uint32_t memory = dev->kind->memory;
	uint64_t expected[] = { 0, 1, 1, 1, 2, 3, 1, 0 };
	size_t from;
	void *map;

	ASSERT_EQ(-ENOMSG, read_pass(&self->stream, self->fd, 1 << 20));
	for (unsigned int i = 0; i < ARRAY_SIZE(expected); i++) {
		volatile uint8_t *at = dev->map + (10 + 7 * i) * PAGE;

		switch (i) {
		case 1:	/* a store */
			*at = 1;
			break;
		case 2:	/* a load, since it maps the page for stores as well */
			(void)*at;
			break;
		case 3:	/* a page that was forbidden for a while */
			map = (void *)at;
			ASSERT_EQ(0, mprotect(map, PAGE, PROT_READ));
			(void)*at;
			ASSERT_EQ(-ENOMSG, read_pass(&self->stream, self->fd,
						     1 << 20));
			ASSERT_EQ(0, mprotect(map, PAGE,
					      PROT_READ | PROT_WRITE));
			*at = 3;
			break;
		case 4:	/* write() across a boundary */
			ASSERT_EQ(0, vfio_region_write(dev, memory,
						       11 * PAGE - 2, "abcd",
						       4));
			break;
		case 5:	/* two mappings, one of a part */
			map = mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, dev->fd,
				   dev->region[memory].offset + 77 * PAGE);
			ASSERT_NE(MAP_FAILED, map);
			*(volatile uint8_t *)map = 5;
			munmap(map, PAGE);
			at[0] = 5;
			at[PAGE] = 5;
			break;
		case 6:	/* the last byte there is */
			ASSERT_EQ(0, vfio_region_write(dev, memory,
						       dev->size - 1, "x", 1));
			break;
		case 7:	/* the registers are no memory */
			ASSERT_EQ(0, vfio_registers_fill(dev, 9));
			break;
		}
		EXPECT_EQ(expected[i] * PAGE, dirty_bytes(self->fd)) {
			TH_LOG("after touch %u", i);
		}
		from = self->stream.len;
		EXPECT_EQ(-ENOMSG, read_pass(&self->stream, self->fd,
					     1 << 20));
		EXPECT_EQ(expected[i], pages_since(&self->records,
						   &self->stream, from)) {
			TH_LOG("in the pass after touch %u", i);
		}
		EXPECT_EQ(0, dirty_bytes(self->fd));
	}
	EXPECT_RIGHT_END(1 << 20);
}

/* What is left of a pass comes in the last one, with what was touched. */
TEST_F(precopy, cut_short)
{
	char buf[10 * PAGE];
	ssize_t len;

	for (unsigned int i = 0; i < 3; i++) {
		len = read(self->fd, buf, sizeof(buf));
		ASSERT_LT(0, len);
		ASSERT_EQ(0, stream_append(&self->stream, buf, len));
	}
	for (unsigned int i = 0; i < 20; i++)
		self->source.map[i * PAGE] ^= i;
	EXPECT_RIGHT_END(100);
}

/* One data fd through all states, in pieces of any size */
TEST_F(precopy, pieces)
{
	static const size_t sizes[] = { 1 << 20, 50, 5000, 300000, 4137 };
	struct vfio_device *dev = &self->source;
	int fd;

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		EXPECT_EQ(-ENOMSG, read_pass(&self->stream, self->fd,
					     sizes[i]));
		vfio_fill(dev->map + i * 17 * PAGE, (i + 1) * 3 * PAGE, i);
		memset(dev->map + (i * 17 + 1) * PAGE, 0, PAGE);
		ASSERT_EQ(0, vfio_mig_set_state(dev, i % 2 ?
						VFIO_DEVICE_STATE_PRE_COPY :
						VFIO_DEVICE_STATE_PRE_COPY_P2P,
						&fd));
		EXPECT_EQ(-1, fd);
	}
	EXPECT_RIGHT_END(777);
}

/* Who begins with all that moves quiet gets a stream as well. */
TEST_F(precopy, from_p2p)
{
	struct vfio_device *dev = &self->source;

	close(self->fd);
	ASSERT_EQ(0, vfio_mig_set_state(dev, VFIO_DEVICE_STATE_RUNNING_P2P,
					NULL));
	ASSERT_EQ(0, vfio_mig_set_state(dev, VFIO_DEVICE_STATE_PRE_COPY_P2P,
					&self->fd));
	EXPECT_EQ(-ENOMSG, read_pass(&self->stream, self->fd, 1 << 20));
	dev->map[3 * PAGE] ^= 1;
	EXPECT_RIGHT_END(1 << 20);
}

/* A user who gives up has its device back, and can begin once more. */
TEST_F(precopy, given_up)
{
	struct vfio_device *dev = &self->source;
	char buf[2 * PAGE];

	for (unsigned int i = 0; i < 4; i++) {
		ASSERT_LT(0, read(self->fd, buf, sizeof(buf)));
		ASSERT_EQ(0, vfio_mig_set_state(dev, i % 2 ?
						VFIO_DEVICE_STATE_RUNNING_P2P :
						VFIO_DEVICE_STATE_RUNNING,
						NULL));
		EXPECT_EQ(-1, read(self->fd, buf, sizeof(buf)));
		EXPECT_EQ(ENODEV, errno);
		dev->map[i * PAGE] ^= 1;
		close(self->fd);
		ASSERT_EQ(0, vfio_mig_set_state(dev,
						VFIO_DEVICE_STATE_PRE_COPY,
						&self->fd));
	}
	EXPECT_EQ(-ENOMSG, read_pass(&self->stream, self->fd, 1 << 20));
	EXPECT_RIGHT_END(1 << 20);
}

/* A reset ends it, and wakes who waits; no page is marked for it any more. */
TEST_F(precopy, reset)
{
	struct vfio_device *dev = &self->source;
	struct pollfd pollfd = { .fd = self->fd, .events = POLLIN };
	char byte;

	EXPECT_EQ(-ENOMSG, read_pass(&self->stream, self->fd, 1 << 20));
	ASSERT_EQ(0, vfio_device_reset(dev));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(dev));
	EXPECT_EQ(1, poll(&pollfd, 1, 0));
	EXPECT_EQ(POLLIN | POLLERR | POLLHUP, pollfd.revents);
	EXPECT_EQ(-1, read(self->fd, &byte, 1));
	EXPECT_EQ(ENODEV, errno);
	ASSERT_EQ(0, vfio_command_set(dev, PCI_COMMAND_MEMORY, true));
	dev->map[0] = 1;
	EXPECT_EQ(UINT64_MAX, dirty_bytes(self->fd));
}

/* Another device's stream is refused before anything of it is needed. */
TEST_F(precopy, wrong_device)
{
	struct vfio_device other;
	char buf[512];
	ssize_t len;
	int fd;

	TESTING_OPEN(&other, &vfio_ivshmem_4k, 0);
	len = read(self->fd, buf, sizeof(buf));
	ASSERT_LT(0, len);
	ASSERT_EQ(0, vfio_mig_set_state(&other, VFIO_DEVICE_STATE_RESUMING,
					&fd));
	EXPECT_EQ(-1, write(fd, buf, len));
	EXPECT_EQ(EINVAL, errno);
	close(fd);
	testing_close(&other);
}

/* Who waits, on a thread of its own */
struct waiter {
	pthread_t thread;
	int fd;
	volatile int revents;
};

static void *wait_for(void *arg)
{
	struct waiter *waiter = arg;
	struct pollfd pollfd = { .fd = waiter->fd, .events = POLLIN };

	if (poll(&pollfd, 1, 60000) == 1)
		waiter->revents = pollfd.revents;
	return NULL;
}

static int change(struct vfio_device *dev, unsigned int how)
{
	switch (how) {
	case 0:
		dev->map[PAGE]++;
		return 0;
	case 1:
		return vfio_region_write(dev, dev->kind->memory, PAGE, "x", 1);
	case 2:
		return vfio_mig_set_state(dev, VFIO_DEVICE_STATE_STOP_COPY,
					  NULL);
	default:
		return vfio_device_reset(dev);
	}
}

/* With nothing to read one can wait for what changes that. */
TEST_F(precopy, poll)
{
	struct vfio_device *dev = &self->source;

	for (unsigned int i = 0; i < 4; i++) {
		struct waiter waiter = { .fd = self->fd };

		ASSERT_EQ(-ENOMSG, read_pass(&self->stream, self->fd,
					     1 << 20));
		ASSERT_EQ(0, pthread_create(&waiter.thread, NULL, wait_for,
					    &waiter));
		usleep(100000);
		EXPECT_EQ(0, waiter.revents);
		EXPECT_EQ(0, change(dev, i));
		pthread_join(waiter.thread, NULL);
		EXPECT_EQ(i < 3 ? POLLIN : POLLIN | POLLERR | POLLHUP,
			  waiter.revents);
		if (i != 2)
			continue;
		close(self->fd);
		ASSERT_EQ(0, vfio_device_reset(dev));
		ASSERT_EQ(0, vfio_mig_set_state(dev,
						VFIO_DEVICE_STATE_PRE_COPY,
						&self->fd));
	}
}

/* Who writes all the time, anywhere, in one of several ways */
struct hammer {
	pthread_t thread;
	struct vfio_device *dev;
	uint64_t seed;
	uint64_t writes;
	bool by_call;
	bool blinks;		/* by the first word of pages whose rest is zero */
	volatile bool stop;
};

static void *hammer(void *arg)
{
	struct hammer *hammer = arg;
	struct vfio_device *dev = hammer->dev;

	for (; !hammer->stop; hammer->writes++) {
		uint64_t value = vfio_random(&hammer->seed);
		uint64_t at = value % dev->size & ~7ull;

		if (hammer->blinks)
			*(volatile uint64_t *)(dev->map + at / PAGE * PAGE) ^= 1;
		else if (hammer->by_call)
			vfio_region_write(dev, dev->kind->memory, at, &value,
					  8);
		else
			*(volatile uint64_t *)(dev->map + at) = value;
	}
	return NULL;
}

/*
 * Between a pass and a write no write is lost: whatever the moment, it is in
 * the pass or in a later one.
 */
TEST_F(precopy, hammer)
{
	struct hammer hammers[HAMMERS] = {};
	uint64_t writes = 0;

	for (unsigned int i = 0; i < HAMMERS; i++) {
		hammers[i].dev = &self->source;
		hammers[i].seed = i;
		hammers[i].by_call = i == 3;
		ASSERT_EQ(0, pthread_create(&hammers[i].thread, NULL, hammer,
					    &hammers[i]));
	}
	for (unsigned int i = 0; i < HAMMER_PASSES; i++)
		ASSERT_EQ(-ENOMSG, read_pass(&self->stream, self->fd,
					     i % 2 ? 1 << 20 : 9000));
	for (unsigned int i = 0; i < HAMMERS; i++)
		hammers[i].stop = true;
	for (unsigned int i = 0; i < HAMMERS; i++) {
		pthread_join(hammers[i].thread, NULL);
		writes += hammers[i].writes;
		EXPECT_LT(0, hammers[i].writes);
	}
	TH_LOG("%lu writes", (unsigned long)writes);
	EXPECT_RIGHT_END(1 << 20);
}

/*
 * What is looked for zeros and what is copied may differ.  A read that is too short
 * for a record goes by way of the carry, which is memory of the kernel's.
 */
TEST_F(precopy, blinks)
{
	struct hammer hammers[HAMMERS] = {};

	memset(self->source.map, 0, self->source.size);
	for (unsigned int i = 0; i < HAMMERS; i++) {
		hammers[i].dev = &self->source;
		hammers[i].seed = i;
		hammers[i].blinks = true;
		ASSERT_EQ(0, pthread_create(&hammers[i].thread, NULL, hammer,
					    &hammers[i]));
	}
	for (unsigned int i = 0; i < HAMMER_PASSES; i++)
		ASSERT_EQ(-ENOMSG, read_pass(&self->stream, self->fd, PAGE));
	for (unsigned int i = 0; i < HAMMERS; i++)
		hammers[i].stop = true;
	for (unsigned int i = 0; i < HAMMERS; i++)
		pthread_join(hammers[i].thread, NULL);
	EXPECT_RIGHT_END(PAGE);
}

/* A user who writes to a hundredth of the memory per pass */
TEST_F(precopy, last_pass_is_short)
{
	uint64_t pages = self->source.size / PAGE, seed = 1;
	size_t before;

	for (unsigned int pass = 0; pass < 5; pass++) {
		ASSERT_EQ(-ENOMSG, read_pass(&self->stream, self->fd,
					     1 << 20));
		for (uint64_t i = 0; i < (pages + 99) / 100; i++)
			self->source.map[vfio_random(&seed) % pages * PAGE]++;
	}
	before = self->stream.len;
	EXPECT_RIGHT_END(1 << 20);
	TH_LOG("the last pass has %zu of %lu bytes", self->stream.len - before,
	       (unsigned long)self->source.size);
	EXPECT_GT(self->source.size / 20, self->stream.len - before);
}

TEST_HARNESS_MAIN

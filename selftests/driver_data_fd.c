// SPDX-License-Identifier: GPL-2.0-only
/* Migration data fds: what they allow, when they end, what they hold up */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <linux/pci_regs.h>

#include "kmsg.h"
#include "harness.h"
#include "stream.h"
#include "testing.h"

#define SET_STATE(state, fd) \
	vfio_mig_set_state(&self->dev, VFIO_DEVICE_STATE_##state, fd)

/* A call's result, or a negative errno */
#define ERRNO(call) ({ long _ret = (call); _ret < 0 ? -errno : _ret; })

FIXTURE(data_fd) {
	struct vfio_device dev;
	int fd;
	char buf[4096];
};

FIXTURE_VARIANT(data_fd) {
	const struct vfio_kind *kind;
};

FIXTURE_VARIANT_ADD(data_fd, ivshmem) { .kind = &vfio_ivshmem_4k };
FIXTURE_VARIANT_ADD(data_fd, bochs) { .kind = &vfio_bochs };

FIXTURE_SETUP(data_fd)
{
	self->fd = -1;
	TESTING_OPEN(&self->dev, variant->kind, 0);
}

FIXTURE_TEARDOWN(data_fd)
{
	testing_close(&self->dev);
}

TEST_F(data_fd, saving_rules)
{
	struct vfio_precopy_info info = { .argsz = sizeof(info) };

	ASSERT_EQ(0, SET_STATE(STOP_COPY, &self->fd));
	EXPECT_EQ(-ESPIPE, ERRNO(lseek(self->fd, 0, SEEK_SET)));
	EXPECT_EQ(-ESPIPE, ERRNO(pread(self->fd, self->buf, 8, 0)));
	EXPECT_EQ(-EBADF, ERRNO(write(self->fd, self->buf, 8)));
	EXPECT_EQ(-ENODEV, ERRNO((long)mmap(NULL, 4096, PROT_READ, MAP_SHARED,
					    self->fd, 0)));
	EXPECT_EQ(-EINVAL, ERRNO(ioctl(self->fd, VFIO_MIG_GET_PRECOPY_INFO,
				       &info)));
	EXPECT_EQ(8, ERRNO(read(self->fd, self->buf, 8)));
}

TEST_F(data_fd, resuming_rules)
{
	ASSERT_EQ(0, SET_STATE(RESUMING, &self->fd));
	EXPECT_EQ(-ESPIPE, ERRNO(lseek(self->fd, 0, SEEK_SET)));
	EXPECT_EQ(-ESPIPE, ERRNO(pwrite(self->fd, self->buf, 8, 0)));
	EXPECT_EQ(-EBADF, ERRNO(read(self->fd, self->buf, 8)));
	EXPECT_EQ(0, ERRNO(write(self->fd, self->buf, 0)));
}

/* A stream's end stays where it is, and poll() does not wait for it */
TEST_F(data_fd, end)
{
	struct segments big = { 1 << 20, 1 << 20, 0 };
	struct pollfd poll_fd = { .events = POLLIN };
	struct stream stream = {};

	ASSERT_EQ(0, SET_STATE(STOP_COPY, &poll_fd.fd));
	EXPECT_EQ(1, poll(&poll_fd, 1, 0));
	ASSERT_EQ(0, stream_read(&stream, poll_fd.fd, &big));
	for (unsigned int i = 0; i < 3; i++)
		EXPECT_EQ(0, ERRNO(read(poll_fd.fd, self->buf, i + 1)));
	EXPECT_EQ(1, poll(&poll_fd, 1, 0));
	stream_free(&stream);
}

TEST_F(data_fd, one_fd_per_session)
{
	int second;

	ASSERT_EQ(0, SET_STATE(STOP_COPY, &self->fd));
	ASSERT_EQ(0, SET_STATE(STOP_COPY, &second));
	EXPECT_EQ(-1, second);
	EXPECT_EQ(8, ERRNO(read(self->fd, self->buf, 8)));
	ASSERT_EQ(0, SET_STATE(RESUMING, &second));
	EXPECT_EQ(-ENODEV, ERRNO(read(self->fd, self->buf, 8)));
	ASSERT_EQ(0, SET_STATE(RESUMING, &self->fd));
	EXPECT_EQ(-1, self->fd);
	close(second);
	/* the load is incomplete, with or without an open fd */
	EXPECT_EQ(-EINVAL, SET_STATE(STOP, NULL));
}

/* A second session of one stop starts anew */
TEST_F(data_fd, second_save)
{
	struct stream first = {}, second = {};

	vfio_fill(self->dev.map, 4096, 7);
	ASSERT_EQ(0, SET_STATE(STOP_COPY, &self->fd));
	EXPECT_EQ(60, ERRNO(read(self->fd, self->buf, 60)));
	ASSERT_EQ(0, SET_STATE(STOP, NULL));
	ASSERT_EQ(0, stream_save(&first, &self->dev));
	ASSERT_EQ(0, stream_save(&second, &self->dev));
	ASSERT_EQ(first.len, second.len);
	EXPECT_EQ(0, memcmp(first.data, second.data, first.len));
	stream_free(&first);
	stream_free(&second);
}

static void expect_dead(struct __test_metadata *_metadata, int saving, int fd)
{
	char buf[8] = {};

	EXPECT_EQ(-ENODEV, saving ? ERRNO(read(fd, buf, sizeof(buf))) :
				    ERRNO(write(fd, buf, sizeof(buf))));
	EXPECT_EQ(0, ERRNO(close(fd)));
}

TEST_F(data_fd, dead_after_state)
{
	ASSERT_EQ(0, SET_STATE(STOP_COPY, &self->fd));
	EXPECT_EQ(8, ERRNO(read(self->fd, self->buf, 8)));
	ASSERT_EQ(0, SET_STATE(STOP, NULL));
	expect_dead(_metadata, 1, self->fd);

	ASSERT_EQ(0, SET_STATE(RESUMING, &self->fd));
	EXPECT_EQ(-EINVAL, SET_STATE(STOP, NULL));
	expect_dead(_metadata, 0, self->fd);
}

TEST_F(data_fd, dead_after_reset)
{
	ASSERT_EQ(0, SET_STATE(STOP_COPY, &self->fd));
	ASSERT_EQ(0, vfio_device_reset(&self->dev));
	expect_dead(_metadata, 1, self->fd);

	ASSERT_EQ(0, SET_STATE(RESUMING, &self->fd));
	ASSERT_EQ(0, vfio_device_reset(&self->dev));
	expect_dead(_metadata, 0, self->fd);
}

static int open_reset(struct vfio_device *dev)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset",
		 dev->bdf);
	return open(path, O_WRONLY);
}

/* Who may write to sysfs can reset a device that somebody uses */
TEST_F(data_fd, dead_after_sysfs_reset)
{
	int reset = open_reset(&self->dev);

	ASSERT_LE(0, reset);
	ASSERT_EQ(0, SET_STATE(STOP_COPY, &self->fd));
	ASSERT_EQ(1, write(reset, "1", 1));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(&self->dev));
	expect_dead(_metadata, 1, self->fd);

	/* told once, though the state was read before */
	EXPECT_EQ(-EIO, SET_STATE(RESUMING, &self->fd));
	ASSERT_EQ(0, SET_STATE(RESUMING, &self->fd));
	ASSERT_EQ(1, write(reset, "1", 1));
	expect_dead(_metadata, 0, self->fd);
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(&self->dev));
}

TEST_F(data_fd, dead_after_close)
{
	ASSERT_EQ(0, SET_STATE(STOP_COPY, &self->fd));
	testing_close(&self->dev);
	expect_dead(_metadata, 1, self->fd);

	ASSERT_EQ(NULL, testing_open(&self->dev, variant->kind, 0));
	ASSERT_EQ(0, SET_STATE(RESUMING, &self->fd));
	testing_close(&self->dev);
	/* a new user of the device does not revive it */
	ASSERT_EQ(NULL, testing_open(&self->dev, variant->kind, 0));
	expect_dead(_metadata, 0, self->fd);
}

/* Nothing but the fd is left of the device; the module stays for it */
TEST_F(data_fd, dead_after_unbind)
{
	for (int saving = 0; saving < 2; saving++) {
		ASSERT_EQ(0, saving ? SET_STATE(STOP_COPY, &self->fd) :
				      SET_STATE(RESUMING, &self->fd));
		testing_close(&self->dev);
		ASSERT_EQ(0, vfio_unbind(self->dev.bdf));
		EXPECT_EQ(-EWOULDBLOCK, ERRNO(syscall(SYS_delete_module,
						      VFIO_DRIVER,
						      O_NONBLOCK)));
		expect_dead(_metadata, saving, self->fd);
		ASSERT_EQ(0, vfio_bind(self->dev.bdf, VFIO_DRIVER));
		ASSERT_EQ(NULL, testing_open(&self->dev, variant->kind, 0));
	}
}

static sigjmp_buf on_sigbus;

static void handle_sigbus(int sig)
{
	siglongjmp(on_sigbus, sig);
}

/* Did the store get a SIGBUS? */
static bool store_faults(volatile void *to, uint64_t value)
{
	struct sigaction action = { .sa_handler = handle_sigbus }, saved;
	bool fault = true;

	sigaction(SIGBUS, &action, &saved);
	if (!sigsetjmp(on_sigbus, 1)) {
		*(volatile uint32_t *)to = value;
		fault = false;
	}
	sigaction(SIGBUS, &saved, NULL);
	return fault;
}

TEST_F(data_fd, stop_copy_is_read_only)
{
	struct vfio_device *dev = &self->dev;
	uint8_t *registers = NULL, *last = dev->map + dev->size - 4;
	unsigned int index = dev->kind->registers;
	uint32_t value = 0x5eed;

	/* one page was touched before the stop, one was not */
	vfio_fill(dev->map, 4096, 3);
	memcpy(self->buf, dev->map, 4096);
	if (dev->region[index].flags & VFIO_REGION_INFO_FLAG_MMAP) {
		registers = vfio_region_map(dev, index);
		ASSERT_NE(NULL, registers);
	}
	ASSERT_EQ(0, SET_STATE(STOP_COPY, &self->fd));
	EXPECT_TRUE(store_faults(dev->map, value));
	EXPECT_EQ(0, memcmp(self->buf, dev->map, 4096));
	EXPECT_TRUE(store_faults(dev->map, value));
	EXPECT_TRUE(store_faults(last, value));
	EXPECT_EQ(-EBUSY, vfio_region_write(dev, dev->kind->memory, 0, &value,
					    sizeof(value)));
	EXPECT_EQ(-EBUSY, vfio_region_write(dev, index, 0, &value,
					    sizeof(value)));
	if (registers)
		EXPECT_TRUE(store_faults(registers, value));
	EXPECT_EQ(0, vfio_region_read(dev, dev->kind->memory, 0, &value,
				      sizeof(value)));
	EXPECT_EQ(0, memcmp(self->buf, &value, sizeof(value)));
	EXPECT_EQ(0, memcmp(self->buf, dev->map, 4096));

	value = ~value;
	ASSERT_EQ(0, SET_STATE(STOP, NULL));
	EXPECT_FALSE(store_faults(dev->map, value));
	EXPECT_FALSE(store_faults(last, value));
	if (registers)
		EXPECT_FALSE(store_faults(registers, 0));
	EXPECT_EQ(0, memcmp(dev->map, &value, sizeof(value)));
	EXPECT_EQ(0, memcmp(last, &value, sizeof(value)));
	EXPECT_EQ(0, vfio_region_write(dev, dev->kind->memory, 0, &value,
				       sizeof(value)));
	ASSERT_EQ(0, SET_STATE(RUNNING, NULL));
	EXPECT_FALSE(store_faults(dev->map, value));
}

/* A reset ends STOP_COPY, so what STOP_COPY forbade is allowed again */
TEST_F(data_fd, reset_makes_writable)
{
	ASSERT_EQ(0, SET_STATE(STOP_COPY, &self->fd));
	EXPECT_TRUE(store_faults(self->dev.map, 1));
	ASSERT_EQ(0, vfio_device_reset(&self->dev));
	EXPECT_FALSE(store_faults(self->dev.map, 1));
	EXPECT_EQ(0, vfio_region_write(&self->dev, self->dev.kind->memory, 0,
				       self->buf, 8));
}

/* So does one by root, before anybody asks for the state */
TEST_F(data_fd, sysfs_reset_makes_writable)
{
	int reset;

	ASSERT_EQ(0, SET_STATE(STOP_COPY, &self->fd));
	reset = open_reset(&self->dev);
	ASSERT_LE(0, reset);
	ASSERT_EQ(1, write(reset, "1", 1));
	EXPECT_EQ(0, vfio_region_write(&self->dev, self->dev.kind->memory, 0,
				       self->buf, 8));
	ASSERT_EQ(0, vfio_command_set(&self->dev, PCI_COMMAND_MEMORY, true));
	EXPECT_FALSE(store_faults(self->dev.map, 1));
}

struct storm {
	pthread_t thread;
	struct vfio_device *dev;
	volatile uint32_t *to;
	volatile bool stop;
	uint32_t stored;	/* the last value that was stored */
};

static void *store_until_sigbus(void *arg)
{
	struct storm *storm = arg;

	while (!storm->stop && !store_faults(storm->to, storm->stored + 1))
		storm->stored++;
	return NULL;
}

static void *write_until_busy(void *arg)
{
	struct storm *storm = arg;
	uint32_t next = 1;

	while (!storm->stop &&
	       !vfio_region_write(storm->dev, storm->dev->kind->memory, 0,
				  &next, sizeof(next)))
		storm->stored = next++;
	return NULL;
}

/* A store that did not fault is in the stream: none comes too late */
TEST_F(data_fd, no_late_store)
{
	for (unsigned int i = 0; i < 20; i++) {
		struct storm storm = {
			.dev = &self->dev,
			.to = (void *)self->dev.map,
		};
		uint32_t value;

		*storm.to = 0;
		ASSERT_EQ(0, pthread_create(&storm.thread, NULL, i % 2 ?
					    write_until_busy :
					    store_until_sigbus, &storm));
		usleep(1000);
		ASSERT_EQ(0, SET_STATE(STOP_COPY, &self->fd));
		value = *storm.to;
		usleep(2000);
		storm.stop = true;
		pthread_join(storm.thread, NULL);
		EXPECT_EQ(value, storm.stored);
		EXPECT_EQ(value, *storm.to);
		close(self->fd);
		ASSERT_EQ(0, SET_STATE(STOP, NULL));
	}
}

TEST_F(data_fd, ioeventfd_is_refused)
{
	struct vfio_device_ioeventfd ioeventfd = {
		.argsz = sizeof(ioeventfd),
		.flags = VFIO_DEVICE_IOEVENTFD_32,
		.fd = eventfd(0, 0),
	};
	unsigned int index = self->dev.kind->registers;

	ioeventfd.offset = self->dev.region[index].offset;
	ASSERT_LE(0, ioeventfd.fd);
	EXPECT_GT(0, ERRNO(ioctl(self->dev.fd, VFIO_DEVICE_IOEVENTFD,
				 &ioeventfd)));
	ioeventfd.offset = self->dev.region[self->dev.kind->memory].offset;
	EXPECT_GT(0, ERRNO(ioctl(self->dev.fd, VFIO_DEVICE_IOEVENTFD,
				 &ioeventfd)));
}

/* The BAR as a target of other devices' DMA, which writes the page tables */
TEST_F(data_fd, bar_as_dma_target)
{
	int ret = vfio_dma_map(&self->dev.container, self->dev.map, 1 << 24,
			       self->dev.size);

	/* an iommufd takes no BAR */
	EXPECT_EQ(self->dev.container.iommufd, ret < 0);
}

/* A user who turns memory decoding off does not stop the stream */
TEST_F(data_fd, memory_disabled)
{
	struct stream on = {}, off = {};
	uint16_t command;

	vfio_fill(self->dev.map, 4096, 5);
	ASSERT_EQ(0, stream_save(&on, &self->dev));
	ASSERT_EQ(0, vfio_command_set(&self->dev, PCI_COMMAND_MEMORY, false));
	EXPECT_EQ(0, stream_save(&off, &self->dev));
	ASSERT_EQ(0, vfio_config_read(&self->dev, PCI_COMMAND, &command, 2));
	EXPECT_EQ(0, command & PCI_COMMAND_MEMORY);
	EXPECT_TRUE(store_faults(self->dev.map, 1));
	EXPECT_EQ(0, stream_load(&on, &self->dev));
	EXPECT_TRUE(store_faults(self->dev.map, 1));
	ASSERT_EQ(0, vfio_command_set(&self->dev, PCI_COMMAND_MEMORY, true));
	EXPECT_FALSE(store_faults(self->dev.map, 1));
	ASSERT_EQ(on.len, off.len);
	EXPECT_EQ(0, memcmp(on.data, off.data, on.len));
	stream_free(&on);
	stream_free(&off);
}

/* What the driver does about it is not the VMM's config state */
TEST_F(data_fd, memory_disabled_stays_so)
{
	uint8_t config[64];
	uint16_t command;

	ASSERT_EQ(0, vfio_command_set(&self->dev, PCI_COMMAND_MEMORY, false));
	ASSERT_EQ(0, SET_STATE(STOP_COPY, &self->fd));
	ASSERT_EQ(0, vfio_config_read(&self->dev, PCI_COMMAND, &command, 2));
	EXPECT_EQ(0, command & PCI_COMMAND_MEMORY);
	ASSERT_EQ(0, vfio_config_read(&self->dev, 0, config, sizeof(config)));
	EXPECT_EQ(command, config[PCI_COMMAND] | config[PCI_COMMAND + 1] << 8);
	ASSERT_EQ(0, vfio_command_set(&self->dev, PCI_COMMAND_MEMORY, true));
	ASSERT_EQ(0, vfio_config_read(&self->dev, PCI_COMMAND, &command, 2));
	EXPECT_EQ(PCI_COMMAND_MEMORY, command & PCI_COMMAND_MEMORY);
	ASSERT_EQ(0, SET_STATE(RUNNING, NULL));
	close(self->fd);
}

/* What the state machine and the data fd do at once ends in an answer */
static void *read_until_error(void *arg)
{
	char buf[3000];
	ssize_t len;

	do
		len = read(*(int *)arg, buf, sizeof(buf));
	while (len > 0);
	return (void *)(long)(len < 0 ? -errno : 0);
}

TEST_F(data_fd, reader_and_end)
{
	for (unsigned int i = 0; i < 40; i++) {
		pthread_t reader;
		void *result;

		ASSERT_EQ(0, SET_STATE(STOP_COPY, &self->fd));
		ASSERT_EQ(0, pthread_create(&reader, NULL, read_until_error,
					    &self->fd));
		usleep(i * 50);
		ASSERT_EQ(0, i % 2 ? vfio_device_reset(&self->dev) :
				     SET_STATE(RUNNING, NULL));
		pthread_join(reader, &result);
		if (result)
			EXPECT_EQ(-ENODEV, (long)result);
		close(self->fd);
	}
}

/* Who opens a display must not see what another left on it */
TEST(bochs_is_cleared)
{
	struct vfio_device dev;
	uint64_t sum = 0;

	TESTING_OPEN(&dev, &vfio_bochs, 0);
	vfio_fill(dev.map, dev.size, 11);
	testing_close(&dev);
	ASSERT_EQ(NULL, testing_open(&dev, &vfio_bochs, 0));
	for (uint64_t at = 0; at < dev.size; at += 8)
		sum |= *(volatile uint64_t *)(dev.map + at);
	EXPECT_EQ(0, sum);
	testing_close(&dev);
}

/* Devices that have the ids of what can be migrated, and are others */
FIXTURE(disguise) {
};

FIXTURE_VARIANT(disguise) {
	const struct vfio_kind *kind;
	const char *why;
};

FIXTURE_VARIANT_ADD(disguise, bochs) {
	.kind = &vfio_secondary_vga,
	.why = "secondary-vga cannot be migrated",
};

FIXTURE_VARIANT_ADD(disguise, ivshmem) {
	.kind = &vfio_doorbell,
	.why = "ivshmem-doorbell cannot be migrated",
};

FIXTURE_SETUP(disguise)
{
}

FIXTURE_TEARDOWN(disguise)
{
}

TEST_F(disguise, is_refused)
{
	int kmsg = kmsg_open();
	char bdf[VFIO_BDF_SIZE];

	ASSERT_LE(0, kmsg);
	if (vfio_find(variant->kind, 0, bdf))
		SKIP(return, "needs a device %s", variant->kind->name);
	EXPECT_EQ(-ENOENT, vfio_bind(bdf, VFIO_DRIVER));
	EXPECT_TRUE(kmsg_find(kmsg, bdf, variant->why));
}

/* An ivshmem's memory belongs to who made it */
TEST(ivshmem_is_kept)
{
	struct vfio_device dev;
	uint8_t before[4096];

	TESTING_OPEN(&dev, &vfio_ivshmem_4k, 0);
	vfio_fill(dev.map, dev.size, 12);
	memcpy(before, dev.map, sizeof(before));
	testing_close(&dev);
	ASSERT_EQ(NULL, testing_open(&dev, &vfio_ivshmem_4k, 0));
	EXPECT_EQ(0, memcmp(before, dev.map, sizeof(before)));
	ASSERT_EQ(0, vfio_device_reset(&dev));
	EXPECT_EQ(0, memcmp(before, dev.map, sizeof(before)));
	testing_close(&dev);
}

TEST_HARNESS_MAIN

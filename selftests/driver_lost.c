// SPDX-License-Identifier: GPL-2.0-only
/* A device that fails, or goes, while its state moves */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <linux/pci_regs.h>

#include "harness.h"
#include "pair.h"
#include "stream.h"
#include "testing.h"

#define SYSFS		"/sys/bus/pci/devices/"
#define DRIVER		"/sys/bus/pci/drivers/" VFIO_DRIVER "/"
#define FATAL		PCI_ERR_UNC_DLP
#define NON_FATAL	PCI_ERR_UNC_COMP_TIME

/* A call's result, or a negative errno */
#define ERRNO(call) ({ long _ret = (call); _ret < 0 ? -errno : _ret; })

#define SET_STATE(state, fd) \
	vfio_mig_set_state(&self->dev, VFIO_DEVICE_STATE_##state, fd)

/* What the aer_inject module takes */
struct aer_error {
	uint8_t bus;
	uint8_t dev;
	uint8_t fn;
	uint32_t uncorrectable;
	uint32_t correctable;
	uint32_t log[4];
	uint32_t domain;
};

FIXTURE(lost) {
	struct vfio_device dev;
	char port[PATH_MAX];	/* the port above the device, in sysfs */
	int fd;
	char buf[4096];
};

FIXTURE_VARIANT(lost) {
	const struct vfio_kind *kind;
};

FIXTURE_VARIANT_ADD(lost, ivshmem) { .kind = &vfio_ivshmem_1m };
FIXTURE_VARIANT_ADD(lost, bochs) { .kind = &vfio_bochs };

FIXTURE_SETUP(lost)
{
	char path[PATH_MAX];

	TESTING_OPEN(&self->dev, variant->kind, 1);
	snprintf(path, sizeof(path), SYSFS "%s/..", self->dev.bdf);
	ASSERT_NE(NULL, realpath(path, self->port));
}

static void write_file(struct __test_metadata *_metadata, const char *path)
{
	int fd = open(path, O_WRONLY);

	ASSERT_LE(0, fd);
	EXPECT_EQ(1, write(fd, "1", 1));
	close(fd);
}

/* The device has forgotten its BARs: it is found anew. */
FIXTURE_TEARDOWN(lost)
{
	struct stream stream = {};
	char path[PATH_MAX];

	testing_close(&self->dev);
	snprintf(path, sizeof(path), SYSFS "%s/remove", self->dev.bdf);
	write_file(_metadata, path);
	write_file(_metadata, "/sys/bus/pci/rescan");
	ASSERT_EQ(NULL, testing_open(&self->dev, variant->kind, 1));
	vfio_fill(self->dev.map, self->dev.size, 1);
	EXPECT_EQ(0, stream_save(&stream, &self->dev));
	EXPECT_LT(self->dev.size, stream.len);
	stream_free(&stream);
	testing_close(&self->dev);
}

/* Where a port's PCI Express capability is, or 0 */
static unsigned int find_express(int config)
{
	uint8_t at = 0, id;

	if (pread(config, &at, 1, PCI_CAPABILITY_LIST) != 1)
		return 0;
	while (at && pread(config, &id, 1, at) == 1 && id != PCI_CAP_ID_EXP)
		if (pread(config, &at, 1, at + PCI_CAP_LIST_NEXT) != 1)
			return 0;
	return at;
}

/* Turns off, or on again, the power of the slot that the device is in */
static int set_power(const char *port, bool on)
{
	char path[PATH_MAX + 8];
	unsigned int express;
	uint16_t control;
	int config, ret = -EIO;

	snprintf(path, sizeof(path), "%s/config", port);
	config = open(path, O_RDWR);
	if (config < 0)
		return -errno;
	express = find_express(config);
	if (express && pread(config, &control, sizeof(control),
			     express + PCI_EXP_SLTCTL) == sizeof(control)) {
		control &= ~PCI_EXP_SLTCTL_PCC;
		if (!on)
			control |= PCI_EXP_SLTCTL_PWR_OFF;
		if (pwrite(config, &control, sizeof(control),
			   express + PCI_EXP_SLTCTL) == sizeof(control))
			ret = 0;
	}
	close(config);
	return ret;
}

/* What is read from a device that is gone is no state */
TEST_F(lost, saving)
{
	int second;

	ASSERT_EQ(0, SET_STATE(STOP_COPY, &self->fd));
	EXPECT_EQ(60, read(self->fd, self->buf, 60));
	ASSERT_EQ(0, set_power(self->port, false));
	/* the rest of the header was there before */
	EXPECT_EQ(28, read(self->fd, self->buf, sizeof(self->buf)));
	EXPECT_EQ(-EIO, ERRNO(read(self->fd, self->buf, sizeof(self->buf))));
	EXPECT_EQ(0, SET_STATE(STOP, NULL));
	EXPECT_EQ(-EIO, SET_STATE(STOP_COPY, &second));
	EXPECT_EQ(VFIO_DEVICE_STATE_STOP, vfio_mig_state(&self->dev));
	ASSERT_EQ(0, set_power(self->port, true));
	close(self->fd);
}

TEST_F(lost, loading)
{
	struct segments cut = { 4000, 4000, 0 };
	struct stream stream = {};

	vfio_fill(self->dev.map, self->dev.size, 2);
	ASSERT_EQ(0, stream_save(&stream, &self->dev));
	ASSERT_EQ(0, SET_STATE(RESUMING, &self->fd));
	ASSERT_EQ(0, set_power(self->port, false));
	EXPECT_EQ(-EIO, stream_write(&stream, self->fd, &cut));
	EXPECT_EQ(-EIO, SET_STATE(STOP, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_ERROR, vfio_mig_state(&self->dev));
	ASSERT_EQ(0, set_power(self->port, true));
	close(self->fd);
	stream_free(&stream);
}

/* A load that is whole, but its registers cannot be written any more */
TEST_F(lost, loaded)
{
	struct segments cut = { 1 << 20, 1 << 20, 0 };
	struct stream stream = {};

	vfio_fill(self->dev.map, self->dev.size, 2);
	ASSERT_EQ(0, stream_save(&stream, &self->dev));
	ASSERT_EQ(0, SET_STATE(RESUMING, &self->fd));
	ASSERT_EQ(0, stream_write(&stream, self->fd, &cut));
	ASSERT_EQ(0, set_power(self->port, false));
	EXPECT_EQ(-EIO, SET_STATE(STOP, NULL));
	EXPECT_EQ(VFIO_DEVICE_STATE_ERROR, vfio_mig_state(&self->dev));
	ASSERT_EQ(0, set_power(self->port, true));
	close(self->fd);
	stream_free(&stream);
}

/*
 * NULL, or the reason to skip.  From 6.13 on lockdep also sees a spinlock that
 * is taken below a raw one, which is what aer_inject does in config accesses.
 */
static const char *cannot_inject(void)
{
	unsigned int major = 0, minor = 0;
	struct utsname name;

	if (!uname(&name))
		sscanf(name.release, "%u.%u", &major, &minor);
	if ((major > 6 || (major == 6 && minor >= 13)) &&
	    !access("/proc/lockdep", F_OK))
		return "this kernel has a lockdep that objects to aer_inject";
	if (system("modprobe -q aer_inject"))
		return "needs the module aer_inject";
	return NULL;
}

/* Lets the port report an error; the kernel then recovers what is below it. */
static int inject(const char *port, uint32_t uncorrectable)
{
	struct aer_error error = { .uncorrectable = uncorrectable };
	unsigned int bus, dev, fn;
	ssize_t done;
	int fd;

	if (sscanf(strrchr(port, '/'), "/%x:%x:%x.%x", &error.domain, &bus,
		   &dev, &fn) != 4)
		return -EINVAL;
	error.bus = bus;
	error.dev = dev;
	error.fn = fn;
	fd = open("/dev/aer_inject", O_WRONLY);
	if (fd < 0)
		return -errno;
	done = write(fd, &error, sizeof(error));
	close(fd);
	return done == sizeof(error) ? 0 : -errno;
}

/* Waits for the recovery to end the session.  Return: the last result */
static long read_for_a_while(int fd)
{
	char byte;
	long ret;

	for (unsigned int i = 0; i < 100; i++) {
		ret = ERRNO(read(fd, &byte, 1));
		if (ret < 0)
			break;
		usleep(50000);
	}
	return ret;
}

/* The recovery may still have the device locked. */
static int reset(struct vfio_device *dev)
{
	int ret = -EAGAIN;

	for (unsigned int i = 0; i < 100 && ret == -EAGAIN; i++) {
		ret = vfio_device_reset(dev);
		usleep(50000);
	}
	return ret;
}

TEST_F(lost, fatal_error)
{
	if (cannot_inject())
		SKIP(return, "%s", cannot_inject());
	ASSERT_EQ(0, SET_STATE(STOP_COPY, &self->fd));
	ASSERT_EQ(0, inject(self->port, FATAL));
	EXPECT_EQ(-ENODEV, read_for_a_while(self->fd));
	EXPECT_EQ(VFIO_DEVICE_STATE_ERROR, vfio_mig_state(&self->dev));
	EXPECT_EQ(-EIO, SET_STATE(STOP, NULL));
	EXPECT_EQ(-EIO, SET_STATE(STOP, NULL));
	ASSERT_EQ(0, reset(&self->dev));
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(&self->dev));
	close(self->fd);
	EXPECT_EQ(0, SET_STATE(STOP, NULL));
	/* the BARs are gone, and with them the state */
	EXPECT_EQ(-EIO, SET_STATE(STOP_COPY, &self->fd));
}

/*
 * Loads all but the last byte of @stream, and has an error.  Return: the last
 * result of a write
 */
static long fail_loading(struct vfio_device *dev, const char *port,
			 struct stream *stream)
{
	struct segments cut = { 4000, 4000, 0 };
	long ret;
	int fd;

	vfio_fill(dev->map, dev->size, 2);
	ret = stream_save(stream, dev) ?:
	      vfio_mig_set_state(dev, VFIO_DEVICE_STATE_RESUMING, &fd);
	if (ret)
		return ret;
	stream->len--;
	ret = stream_write(stream, fd, &cut) ?: inject(port, FATAL);
	for (unsigned int i = 0; i < 100 && !ret; i++) {
		usleep(50000);
		ret = ERRNO(write(fd, "", 0));
	}
	stream->len++;
	close(fd);
	return ret;
}

/* What was loaded is wiped, and is not in the way of another load. */
static void check_loads(struct __test_metadata *_metadata,
			struct vfio_device *dev, const struct stream *stream)
{
	uint8_t *want = malloc(dev->size);

	ASSERT_NE(NULL, want);
	EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, vfio_mig_state(dev));
	EXPECT_TRUE(pair_memory_is(dev->map, dev->size, 0));
	EXPECT_EQ(0, stream_load(stream, dev));
	vfio_fill(want, dev->size, 2);
	EXPECT_EQ(0, memcmp(want, dev->map, dev->size));
	free(want);
}

TEST_F(lost, fatal_error_loading)
{
	struct stream stream = {};

	if (cannot_inject())
		SKIP(return, "%s", cannot_inject());
	ASSERT_EQ(-ENODEV, fail_loading(&self->dev, self->port, &stream));
	EXPECT_EQ(VFIO_DEVICE_STATE_ERROR, vfio_mig_state(&self->dev));
	EXPECT_EQ(-EIO, SET_STATE(STOP, NULL));
	/* vfio-pci puts back the BARs that the device has forgotten */
	ASSERT_EQ(0, vfio_command_set(&self->dev, PCI_COMMAND_MEMORY, true));
	EXPECT_EQ(VFIO_DEVICE_STATE_ERROR, vfio_mig_state(&self->dev));
	ASSERT_EQ(0, reset(&self->dev));
	check_loads(_metadata, &self->dev, &stream);
	stream_free(&stream);
}

TEST_F(lost, fatal_error_closed)
{
	struct stream stream = {};

	if (cannot_inject())
		SKIP(return, "%s", cannot_inject());
	ASSERT_EQ(-ENODEV, fail_loading(&self->dev, self->port, &stream));
	testing_close(&self->dev);
	ASSERT_EQ(NULL, testing_open(&self->dev, variant->kind, 1));
	check_loads(_metadata, &self->dev, &stream);
	stream_free(&stream);
}

static long write_bdf(const struct vfio_device *dev, const char *path)
{
	int fd = open(path, O_WRONLY);
	long ret;

	if (fd < 0)
		return -errno;
	ret = ERRNO(write(fd, dev->bdf, strlen(dev->bdf)));
	close(fd);
	return ret;
}

TEST_F(lost, fatal_error_unbound)
{
	struct stream stream = {};

	if (cannot_inject())
		SKIP(return, "%s", cannot_inject());
	ASSERT_EQ(-ENODEV, fail_loading(&self->dev, self->port, &stream));
	testing_close(&self->dev);
	ASSERT_LT(0, write_bdf(&self->dev, DRIVER "unbind"));
	ASSERT_LT(0, write_bdf(&self->dev, DRIVER "bind"));
	ASSERT_EQ(NULL, testing_open(&self->dev, variant->kind, 1));
	check_loads(_metadata, &self->dev, &stream);
	stream_free(&stream);
}

/* Such an error loses a transaction, not the device */
TEST_F(lost, non_fatal_error)
{
	if (cannot_inject())
		SKIP(return, "%s", cannot_inject());
	ASSERT_EQ(0, SET_STATE(STOP_COPY, &self->fd));
	ASSERT_EQ(0, inject(self->port, NON_FATAL));
	EXPECT_EQ(1, read_for_a_while(self->fd));
	EXPECT_EQ(VFIO_DEVICE_STATE_STOP_COPY, vfio_mig_state(&self->dev));
	close(self->fd);
}

TEST_HARNESS_MAIN

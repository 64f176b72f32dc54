// SPDX-License-Identifier: GPL-2.0-only
/*
 * The library moves a device of a driver that is not ours: the kernel's sample of a
 * serial port, whose data fds know no more than read(2) and write(2), and end in
 * PRE_COPY by giving nothing.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <vfio-multifd.h>
#include <linux/iommufd.h>

#include "harness.h"

#define TYPE	"/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-1"
#define SCRATCH	7	/* a register of the port that does nothing */

static const char * const uuids[] = {
	"6d747479-0000-4000-8000-000000000000",
	"6d747479-0000-4000-8000-000000000001",
};

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t ret = fd < 0 ? -1 : write(fd, text, strlen(text));

	close(fd);
	return ret < 0 ? -errno : 0;
}

static void remove_device(unsigned int i)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/mdev/devices/%s/remove",
		 uuids[i]);
	write_text(path, "1");
}

/* The name of a VFIO device node, "vfio0" and so on */
static int find_node(unsigned int i, char *node, size_t size)
{
	char path[128];
	struct dirent *entry;
	int ret = -ENOENT;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/bus/mdev/devices/%s/vfio-dev",
		 uuids[i]);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(node, size, "/dev/vfio/devices/%s", entry->d_name);
		ret = 0;
	}
	if (dir)
		closedir(dir);
	return ret;
}

static int open_device(unsigned int i, int iommufd)
{
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind), .iommufd = iommufd,
	};
	char node[320];
	int fd;

	remove_device(i);
	if (write_text(TYPE "/create", uuids[i]) || find_node(i, node,
							      sizeof(node)))
		return -ENODEV;
	fd = open(node, O_RDWR | O_CLOEXEC);
	if (fd >= 0 && ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, &bind)) {
		close(fd);
		return -ENODEV;
	}
	return fd;
}

static off_t port(int device)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info), .index = VFIO_PCI_BAR0_REGION_INDEX,
	};

	return ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) ? -1 :
	       (off_t)info.offset + SCRATCH;
}

/**
 * struct end - one end of a transfer, and its thread
 * @params: what it is told
 * @report: what came of it
 * @device: the only device
 * @address: destination: where it listens, once @listening
 */
struct end {
	struct vmf_params params;
	struct vmf_report report;
	struct vmf_device device;
	char address[64];
	volatile bool listening;
	pthread_t thread;
};

static int on_event(void *opaque, enum vmf_event event, const char *text)
{
	struct end *end = opaque;

	if (event == VMF_EVENT_LISTENING) {
		snprintf(end->address, sizeof(end->address), "%s", text);
		end->listening = true;
	}
	return 0;
}

static void *receive(void *arg)
{
	struct end *end = arg;

	vmf_recv(&end->params, &end->report);
	end->listening = true;	/* whatever became of it */
	return NULL;
}

static void init_end(struct end *end, int fd, uint64_t features)
{
	*end = (struct end) {
		.device = { .fd = fd, .config_fd = -1, .idstr = "serial" },
		.params = {
			.devices = 1, .device = &end->device, .channels = 2,
			.packet_size = 65536, .features = features,
			.downtime_limit = 300, .max_rounds = 5,
			.trigger_fd = -1, .modes_fd = -1, .cancel_fd = -1,
			.timeout = 10,
			.event = on_event, .opaque = end,
		},
	};
}

FIXTURE(mtty) {
	int iommufd;
	int device[2];
	struct end end[2];
};

FIXTURE_VARIANT(mtty) {
	uint64_t features;
};

FIXTURE_VARIANT_ADD(mtty, plain) {
	.features = 0,
};

FIXTURE_VARIANT_ADD(mtty, digest) {
	.features = VFIO_MULTIFD_FEATURE_DIGEST |
		    VFIO_MULTIFD_FEATURE_ORDER_FREE,
};

FIXTURE_VARIANT_ADD(mtty, pre_copy) {
	.features = VFIO_MULTIFD_FEATURE_DIGEST | VMF_FEATURE_PRE_COPY,
};

FIXTURE_SETUP(mtty)
{
	self->iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (self->iommufd < 0)
		SKIP(return, "this kernel has no iommufd");
	if (system("modprobe -qa mtty vfio_multifd 2>/dev/null") ||
	    access(TYPE, F_OK))
		SKIP(return, "this kernel has no mtty");
	for (unsigned int i = 0; i < 2; i++) {
		self->device[i] = open_device(i, self->iommufd);
		ASSERT_LE(0, self->device[i]);
		init_end(&self->end[i], self->device[i], variant->features);
	}
}

FIXTURE_TEARDOWN(mtty)
{
	for (unsigned int i = 0; i < 2; i++) {
		close(self->device[i]);
		remove_device(i);
	}
	close(self->iommufd);
}

TEST_F(mtty, migrates)
{
	struct end *src = &self->end[0], *dst = &self->end[1];
	uint8_t value = 0xa5, got = 0;
	uint32_t state;

	ASSERT_EQ(1, pwrite(src->device.fd, &value, 1, port(src->device.fd)));
	dst->params.address = "127.0.0.1:0";
	ASSERT_EQ(0, pthread_create(&dst->thread, NULL, receive, dst));
	while (!dst->listening)
		usleep(1000);
	src->params.address = dst->address;
	EXPECT_EQ(VMF_DONE, vmf_send(&src->params, &src->report)) {
		TH_LOG("source: %s", src->report.text);
	}
	pthread_join(dst->thread, NULL);
	ASSERT_EQ(VMF_DONE, dst->report.outcome) {
		TH_LOG("destination: %s", dst->report.text);
	}
	EXPECT_EQ(variant->features & VMF_FEATURE_PRE_COPY ? 1 : 0,
		  src->report.precopy.rounds);
	EXPECT_LT(0, src->report.bytes);
	EXPECT_EQ(src->report.bytes, dst->report.bytes);
	ASSERT_EQ(0, vmf_device_get_state(dst->device.fd, &state));
	EXPECT_EQ(VFIO_DEVICE_STATE_STOP, state);
	ASSERT_EQ(1, pread(dst->device.fd, &got, 1, port(dst->device.fd)));
	EXPECT_EQ(value, got);
}

/* A source that cannot be loaded is one that runs on. */
TEST_F(mtty, rolls_back)
{
	struct end *src = &self->end[0], *dst = &self->end[1];
	int trigger[2];
	uint32_t state;

	ASSERT_EQ(0, pipe(trigger));
	dst->params.address = "127.0.0.1:0";
	ASSERT_EQ(0, pthread_create(&dst->thread, NULL, receive, dst));
	while (!dst->listening)
		usleep(1000);
	src->params.address = dst->address;
	src->params.trigger_fd = trigger[0];
	close(trigger[1]);	/* without a byte: the VMM does not want to */
	EXPECT_EQ(VMF_REFUSED, vmf_send(&src->params, &src->report));
	pthread_join(dst->thread, NULL);
	EXPECT_EQ(VMF_REFUSED, dst->report.outcome);
	for (unsigned int i = 0; i < 2; i++) {
		ASSERT_EQ(0, vmf_device_get_state(self->device[i], &state));
		EXPECT_EQ(VFIO_DEVICE_STATE_RUNNING, state);
	}
	close(trigger[0]);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0-only
/* What the test programs share */
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "testing.h"

static char reason[256];

/*
 * NULL, or the reason to skip, or the reason to fail, which starts with "!".
 * Each device gets its own container.
 */
const char *testing_open(struct vfio_device *dev, const struct vfio_kind *kind,
			 unsigned int nth)
{
	const char *driver = kind->backend == VFIO_NONE ? "vfio-pci" :
							  VFIO_DRIVER;
	char bdf[VFIO_BDF_SIZE], path[128], text[128];
	struct vfio_container container;
	int ret;

	if (getuid())
		return "needs root";
	snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s", driver);
	snprintf(text, sizeof(text), "modprobe -q %s", driver);
	if (access(path, F_OK) && system(text)) {
		snprintf(reason, sizeof(reason), "needs the module %s", driver);
		return reason;
	}
	if (vfio_find(kind, nth, bdf)) {
		snprintf(reason, sizeof(reason), "needs %u devices of %s",
			 nth + 1, kind->name);
		return reason;
	}
	if (vfio_container_open(&container))
		return "neither /dev/iommu nor /dev/vfio/vfio with a type1v2 IOMMU";
	ret = vfio_bind(bdf, driver);
	if (!ret)
		ret = vfio_device_open(dev, &container, bdf);
	if (ret) {
		vfio_container_close(&container);
		snprintf(reason, sizeof(reason), "!%s does not open: %s", bdf,
			 strerror(-ret));
		return reason;
	}
	dev->container = container;
	return NULL;
}

void testing_close(struct vfio_device *dev)
{
	vfio_device_close(dev);
	vfio_container_close(&dev->container);
}

int testing_other_net(void)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int sock, ret;

	if (unshare(CLONE_NEWNET))
		return -errno;
	sock = socket(AF_INET, SOCK_DGRAM, 0);
	ret = ioctl(sock, SIOCSIFFLAGS, &lo) ? -errno : 0;
	close(sock);
	return ret;
}

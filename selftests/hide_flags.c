// SPDX-License-Identifier: GPL-2.0-only
/*
 * To be preloaded: devices that cannot do what HIDE_FLAGS says, a sum of VFIO's flags:
 * 2 is a state in which peers are left alone, 4 is pre-copy.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/vfio.h>

int ioctl(int fd, unsigned long request, ...)
{
	struct vfio_device_feature_migration *migration;
	struct vfio_device_feature *feature;
	const char *flags = getenv("HIDE_FLAGS");
	va_list args;
	long ret;

	va_start(args, request);
	feature = va_arg(args, void *);
	va_end(args);
	ret = syscall(SYS_ioctl, fd, request, feature);
	if (!ret && flags && request == VFIO_DEVICE_FEATURE &&
	    feature->flags == (VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION)) {
		migration = (void *)feature->data;
		migration->flags &= ~strtoul(flags, NULL, 0);
	}
	return ret;
}

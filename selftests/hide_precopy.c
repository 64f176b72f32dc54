// SPDX-License-Identifier: GPL-2.0-only
/* To be preloaded: no device can do pre-copy, so that all of its state moves after the stop. */
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/vfio.h>

int ioctl(int fd, unsigned long request, ...)
{
	struct vfio_device_feature_migration *migration;
	struct vfio_device_feature *feature;
	va_list args;
	long ret;

	va_start(args, request);
	feature = va_arg(args, void *);
	va_end(args);
	ret = syscall(SYS_ioctl, fd, request, feature);
	if (!ret && request == VFIO_DEVICE_FEATURE &&
	    feature->flags == (VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION)) {
		migration = (void *)feature->data;
		migration->flags &= ~VFIO_MIGRATION_PRE_COPY;
	}
	return ret;
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * To be preloaded: a device that is set up anew once its initial bytes were there has
 * some again, as no driver here does.  It says so if it was asked to, as in newer kernels.
 * REINIT is how often it has been asked for them then, since there were none.
 */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/vfio.h>

#define PRECOPY_INFO_V2	12	/* VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 */
#define REINIT		1	/* VFIO_PRECOPY_INFO_REINIT */

static atomic_bool asked;
static atomic_int looks;

int ioctl(int fd, unsigned long request, ...)
{
	struct vfio_precopy_info *info;
	va_list args;
	void *arg;
	long ret;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (request == VFIO_DEVICE_FEATURE &&
	    ((struct vfio_device_feature *)arg)->flags ==
	    (VFIO_DEVICE_FEATURE_SET | PRECOPY_INFO_V2)) {
		asked = true;
		return 0;
	}
	ret = syscall(SYS_ioctl, fd, request, arg);
	if (ret || request != VFIO_MIG_GET_PRECOPY_INFO || !asked)
		return ret;
	info = arg;
	info->flags = 0;
	if (!info->initial_bytes && ++looks == atoi(getenv("REINIT"))) {
		info->flags = REINIT;
		info->initial_bytes = 4096;
	}
	return ret;
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * To be preloaded: the engine takes no file that user space does not read or write
 * for it, as if no driver had read_iter or write_iter.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/vfio_multifd.h>

int ioctl(int fd, unsigned long request, ...)
{
	const struct vfio_multifd_device *device;
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	device = arg;
	if (request == VFIO_MULTIFD_ADD_DEVICE &&
	    !(device->flags & VFIO_MULTIFD_DEVICE_FOREIGN)) {
		dprintf(STDERR_FILENO, "hidden\n");
		errno = EOPNOTSUPP;
		return -1;
	}
	return syscall(SYS_ioctl, fd, request, arg);
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio-multifd: VFIO device state over parallel TCP channels.
 */

#include <linux/miscdevice.h>
#include <linux/module.h>

#define CREATE_TRACE_POINTS
#include "trace.h"

static struct miscdevice vmfd_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "vfio-multifd",
	.fops	= &vmfd_ioctl_fops,
	.mode	= 0660,
};
module_misc_device(vmfd_misc);

MODULE_DESCRIPTION("VFIO device state over parallel TCP channels");
MODULE_LICENSE("GPL");

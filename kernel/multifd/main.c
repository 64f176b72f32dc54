// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio-multifd: VFIO device state over parallel TCP channels.
 */

#include <linux/miscdevice.h>
#include <linux/module.h>

#define CREATE_TRACE_POINTS
#include "trace.h"
#include "transfer.h"

static struct miscdevice vmfd_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "vfio-multifd",
	.fops	= &vmfd_ioctl_fops,
	.mode	= 0660,
};

static int __init vmfd_init(void)
{
	int ret;

	ret = vmfd_netlink_init();
	if (ret)
		return ret;
	ret = misc_register(&vmfd_misc);
	if (ret)
		vmfd_netlink_exit();
	return ret;
}
module_init(vmfd_init);

static void __exit vmfd_exit(void)
{
	misc_deregister(&vmfd_misc);
	vmfd_netlink_exit();
}
module_exit(vmfd_exit);

MODULE_DESCRIPTION("VFIO device state over parallel TCP channels");
MODULE_LICENSE("GPL");

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between the kernels that the driver is built for, by what their
 * headers have (Kbuild), since distributions port things back
 */
#ifndef _QVP_COMPAT_H
#define _QVP_COMPAT_H

#include <linux/uaccess.h>
#include <linux/vfio_pci_core.h>

/* Before, VFIO_DEVICE_GET_REGION_INFO was an ioctl like the others. */
#ifdef QVP_HAS_REGION_INFO_CAPS
#define QVP_REGION_INFO_OPS \
	.get_region_info_caps = vfio_pci_ioctl_get_region_info,
#else
#define QVP_REGION_INFO_OPS
#endif

/* Before, vfio_pci_core_match() did what this does. */
#ifdef QVP_HAS_MATCH_TOKEN_UUID
#define QVP_MATCH_TOKEN_OPS .match_token_uuid = vfio_pci_core_match_token_uuid,
#else
#define QVP_MATCH_TOKEN_OPS
#endif

#define QVP_PRECOPY_INFO_SIZE offsetofend(struct vfio_precopy_info, dirty_bytes)

/* Before, each driver did this for itself, and there were no flags. */
#ifdef QVP_HAS_CHECK_PRECOPY_IOCTL
#define qvp_check_precopy_ioctl vfio_check_precopy_ioctl
#else
static inline int qvp_check_precopy_ioctl(struct vfio_device *vdev,
					  unsigned int cmd, unsigned long arg,
					  struct vfio_precopy_info *info)
{
	if (cmd != VFIO_MIG_GET_PRECOPY_INFO)
		return -ENOTTY;
	if (copy_from_user(info, (void __user *)arg, QVP_PRECOPY_INFO_SIZE))
		return -EFAULT;
	return info->argsz < QVP_PRECOPY_INFO_SIZE ? -EINVAL : 0;
}
#endif

#endif /* _QVP_COMPAT_H */

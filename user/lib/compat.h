/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What an older <linux/vfio.h> lacks of VFIO's migration uAPI (Linux 6.2 and 7),
 * under names of our own so that it clashes with none.
 */
#ifndef VMF_COMPAT_H
#define VMF_COMPAT_H

#include <linux/ioctl.h>
#include <linux/vfio.h>

enum {
	VMF_STATE_PRE_COPY	= 6,	/* VFIO_DEVICE_STATE_PRE_COPY */
	VMF_STATE_PRE_COPY_P2P	= 7,	/* VFIO_DEVICE_STATE_PRE_COPY_P2P */
	VMF_MIGRATION_PRE_COPY	= 1 << 2, /* VFIO_MIGRATION_PRE_COPY */
	VMF_FEATURE_MIG_DATA_SIZE = 9,	/* VFIO_DEVICE_FEATURE_MIG_DATA_SIZE */
	VMF_FEATURE_PRECOPY_INFO_V2 = 12, /* VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 */
};

/* struct vfio_device_feature_mig_data_size */
struct vmf_mig_data_size {
	__aligned_u64 stop_copy_length;
};

/* struct vfio_precopy_info */
struct vmf_precopy_info {
	__u32 argsz;
	__u32 flags;
	__aligned_u64 initial_bytes;
	__aligned_u64 dirty_bytes;
};

/* VFIO_MIG_GET_PRECOPY_INFO */
#define VMF_MIG_GET_PRECOPY_INFO _IO(VFIO_TYPE, VFIO_BASE + 21)

#endif /* VMF_COMPAT_H */

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The calls of a VFIO device fd that migration needs.
 */
#include <vfio-multifd.h>

#include "compat.h"
#include "error.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/pci_regs.h>

union feature_data {
	struct vfio_device_feature_migration migration;
	struct vfio_device_feature_mig_state state;
	struct vmf_mig_data_size size;
};

static int feature(int fd, uint32_t flags, void *data, size_t size)
{
	union {
		struct vfio_device_feature head;
		char bytes[sizeof(struct vfio_device_feature) +
			   sizeof(union feature_data)];
	} arg = { .head = {
		.argsz = sizeof(arg.head) + size,
		.flags = flags,
	} };

	memcpy(arg.head.data, data, size);
	if (ioctl(fd, VFIO_DEVICE_FEATURE, &arg) < 0)
		return -errno;

	memcpy(data, arg.head.data, size);
	return 0;
}

static int region_info(int fd, uint32_t index, struct vfio_region_info *info)
{
	*info = (struct vfio_region_info){
		.argsz = sizeof(*info),
		.index = index,
	};
	return ioctl(fd, VFIO_DEVICE_GET_REGION_INFO, info) < 0 ? -errno : 0;
}

static int read_config_space(int fd, struct vmf_identity *identity)
{
	uint8_t head[PCI_CLASS_DEVICE + 2];
	struct vfio_region_info info;
	ssize_t got;
	int ret;

	ret = region_info(fd, VFIO_PCI_CONFIG_REGION_INDEX, &info);
	if (ret)
		return ret;

	got = pread(fd, head, sizeof(head), info.offset);
	if (got != sizeof(head))
		return got < 0 ? -errno : -EIO;

	identity->vendor = head[PCI_VENDOR_ID] | head[PCI_VENDOR_ID + 1] << 8;
	identity->device = head[PCI_DEVICE_ID] | head[PCI_DEVICE_ID + 1] << 8;
	identity->revision = head[PCI_REVISION_ID];
	identity->class_code = head[PCI_CLASS_PROG] |
			       head[PCI_CLASS_DEVICE] << 8 |
			       head[PCI_CLASS_DEVICE + 1] << 16;
	return 0;
}

int vmf_device_identify(int fd, struct vmf_identity *identity,
			struct vmf_error *error)
{
	struct vfio_device_feature_migration migration = {};
	struct vfio_device_info info = { .argsz = sizeof(info) };
	struct vfio_region_info region;
	uint32_t i;
	int ret;

	memset(identity, 0, sizeof(*identity));

	if (ioctl(fd, VFIO_DEVICE_GET_INFO, &info) < 0)
		return vmf_error_set(error, -errno,
				     "fd %d is not a VFIO device: %s", fd,
				     strerror(errno));
	if (!(info.flags & VFIO_DEVICE_FLAGS_PCI))
		return vmf_error_set(error, -ENODEV,
				     "fd %d is a VFIO device, but not a PCI one",
				     fd);

	ret = feature(fd, VFIO_DEVICE_FEATURE_MIGRATION |
		      VFIO_DEVICE_FEATURE_GET, &migration, sizeof(migration));
	if (ret)
		return vmf_error_set(error, ret,
				     "fd %d is a VFIO device whose driver cannot migrate it: %s",
				     fd, strerror(-ret));
	if (!(migration.flags & VFIO_MIGRATION_STOP_COPY))
		return vmf_error_set(error, -EOPNOTSUPP,
				     "fd %d is a VFIO device without STOP_COPY",
				     fd);
	identity->migration_flags = migration.flags;

	for (i = 0; i < VFIO_PCI_NUM_REGIONS; i++) {
		ret = region_info(fd, i, &region);
		/* A device that is no VGA has no VGA region at all. */
		if (ret == -EINVAL)
			continue;
		if (ret)
			return vmf_error_set(error, ret, "fd %d region %u: %s",
					     fd, i, strerror(-ret));
		identity->region_size[i] = region.size;
	}

	ret = read_config_space(fd, identity);
	if (ret)
		return vmf_error_set(error, ret, "fd %d config space: %s", fd,
				     strerror(-ret));
	return 0;
}

int vmf_device_get_state(int fd, uint32_t *state)
{
	struct vfio_device_feature_mig_state arg = {};
	int ret;

	ret = feature(fd, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE |
		      VFIO_DEVICE_FEATURE_GET, &arg, sizeof(arg));
	*state = arg.device_state;
	return ret;
}

int vmf_device_set_state(int fd, uint32_t state, int *data_fd)
{
	struct vfio_device_feature_mig_state arg = {
		.device_state = state,
		.data_fd = -1,
	};
	int ret;

	/* Where there is none of this, a device never has initial bytes again. */
	if (state == VMF_STATE_PRE_COPY)
		feature(fd, VMF_FEATURE_PRECOPY_INFO_V2 |
			VFIO_DEVICE_FEATURE_SET, &arg, 0);
	ret = feature(fd, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE |
		      VFIO_DEVICE_FEATURE_SET, &arg, sizeof(arg));
	*data_fd = ret ? -1 : arg.data_fd;
	return ret;
}

int vmf_device_data_size(int fd, uint64_t *size)
{
	struct vmf_mig_data_size arg = {};
	int ret;

	ret = feature(fd, VMF_FEATURE_MIG_DATA_SIZE |
		      VFIO_DEVICE_FEATURE_GET, &arg, sizeof(arg));
	*size = arg.stop_copy_length;
	return ret;
}

int vmf_device_precopy_info(int data_fd, uint64_t *initial, uint64_t *dirty)
{
	struct vmf_precopy_info info = { .argsz = sizeof(info) };

	if (ioctl(data_fd, VMF_MIG_GET_PRECOPY_INFO, &info) < 0)
		return -errno;
	*initial = info.initial_bytes;
	*dirty = info.dirty_bytes;
	return 0;
}

const char *vmf_device_state_name(uint32_t state)
{
	/* By number: not every <linux/vfio.h> has all of them. */
	static const char * const names[] = {
		"ERROR", "STOP", "RUNNING", "STOP_COPY", "RESUMING",
		"RUNNING_P2P", "PRE_COPY", "PRE_COPY_P2P",
	};

	if (state >= sizeof(names) / sizeof(names[0]))
		return "?";
	return names[state];
}

int vmf_device_reset(int fd)
{
	return ioctl(fd, VFIO_DEVICE_RESET) < 0 ? -errno : 0;
}

int vmf_device_roll_back(int fd)
{
	int data_fd, ret;

	if (!vmf_device_set_state(fd, VFIO_DEVICE_STATE_RUNNING, &data_fd))
		return 0;

	ret = vmf_device_reset(fd);
	return ret ? ret : 1;
}

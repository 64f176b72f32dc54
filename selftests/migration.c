// SPDX-License-Identifier: GPL-2.0-only
/* The migration uAPI of a VFIO device, and what our devices' state is */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vfio.h"

static const char *const state_names[VFIO_DEVICE_NUM_STATES] = {
	[VFIO_DEVICE_STATE_ERROR] = "ERROR",
	[VFIO_DEVICE_STATE_STOP] = "STOP",
	[VFIO_DEVICE_STATE_RUNNING] = "RUNNING",
	[VFIO_DEVICE_STATE_STOP_COPY] = "STOP_COPY",
	[VFIO_DEVICE_STATE_RESUMING] = "RESUMING",
	[VFIO_DEVICE_STATE_RUNNING_P2P] = "RUNNING_P2P",
	[VFIO_DEVICE_STATE_PRE_COPY] = "PRE_COPY",
	[VFIO_DEVICE_STATE_PRE_COPY_P2P] = "PRE_COPY_P2P",
};

const char *vfio_mig_state_name(uint32_t state)
{
	return state < VFIO_DEVICE_NUM_STATES ? state_names[state] : "unknown";
}

int vfio_feature(struct vfio_device *dev, uint32_t flags, void *data,
		 size_t size)
{
	uint64_t buf[8] = {};
	struct vfio_device_feature *feature = (void *)buf;

	if (sizeof(*feature) + size > sizeof(buf))
		return -E2BIG;
	feature->argsz = sizeof(*feature) + size;
	feature->flags = flags;
	memcpy(feature->data, data, size);
	if (ioctl(dev->fd, VFIO_DEVICE_FEATURE, feature))
		return -errno;
	memcpy(data, feature->data, size);
	return 0;
}

int vfio_mig_flags(struct vfio_device *dev, uint64_t *flags)
{
	struct vfio_device_feature_migration migration = {};
	int ret;

	ret = vfio_feature(dev, VFIO_DEVICE_FEATURE_GET |
			   VFIO_DEVICE_FEATURE_MIGRATION, &migration,
			   sizeof(migration));
	*flags = migration.flags;
	return ret;
}

int vfio_mig_data_size(struct vfio_device *dev, uint64_t *size)
{
	struct vfio_device_feature_mig_data_size data_size = {};
	int ret;

	ret = vfio_feature(dev, VFIO_DEVICE_FEATURE_GET |
			   VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, &data_size,
			   sizeof(data_size));
	*size = data_size.stop_copy_length;
	return ret;
}

/* The state, or a negative errno */
int vfio_mig_state(struct vfio_device *dev)
{
	struct vfio_device_feature_mig_state state = {};
	int ret;

	ret = vfio_feature(dev, VFIO_DEVICE_FEATURE_GET |
			   VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &state,
			   sizeof(state));
	return ret ? ret : (int)state.device_state;
}

/* @data_fd, if not NULL, becomes the data fd or -1 */
int vfio_mig_set_state(struct vfio_device *dev, uint32_t state, int *data_fd)
{
	struct vfio_device_feature_mig_state set = {
		.device_state = state,
		.data_fd = -2,
	};
	int ret;

	ret = vfio_feature(dev, VFIO_DEVICE_FEATURE_SET |
			   VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &set,
			   sizeof(set));
	if (data_fd)
		*data_fd = ret ? -1 : set.data_fd;
	return ret;
}

/* splitmix64 */
uint64_t vfio_random(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

/* @len is a multiple of 8; @to may be a device's memory */
void vfio_fill(void *to, size_t len, uint64_t seed)
{
	volatile uint64_t *word = to;

	for (size_t i = 0; i < len / sizeof(*word); i++)
		word[i] = vfio_random(&seed);
}

#define BOCHS_REGISTERS		10	/* XRES to Y_OFFSET, byte order */
#define BOCHS_BYTE_ORDER	(BOCHS_REGISTERS - 1)
#define BOCHS_ENABLE		3
#define IVSHMEM_REGISTERS	2	/* INTRMASK, INTRSTATUS */
#define IVSHMEM_INTRSTATUS	1	/* cleared by reading */

unsigned int vfio_registers_count(const struct vfio_kind *kind)
{
	return kind->backend == VFIO_BOCHS ? BOCHS_REGISTERS :
					     IVSHMEM_REGISTERS;
}

static void locate(const struct vfio_kind *kind, unsigned int i,
		   struct vfio_register *reg)
{
	if (kind->backend == VFIO_IVSHMEM) {
		reg->offset = 4 * i;
		reg->width = 4;
	} else if (i == BOCHS_BYTE_ORDER) {
		reg->offset = 0x604;
		reg->width = 4;
	} else {
		reg->offset = 0x500 + 2 * (i + 1);
		reg->width = 2;
	}
}

static int write_register(struct vfio_device *dev,
			  const struct vfio_register *reg)
{
	return vfio_region_write(dev, dev->kind->registers, reg->offset,
				 &reg->value, reg->width);
}

/* Values that differ with @seed and that the device keeps as they are */
int vfio_registers_fill(struct vfio_device *dev, uint64_t seed)
{
	unsigned int count = vfio_registers_count(dev->kind);
	struct vfio_register reg;
	int ret = 0;

	for (unsigned int i = 0; i < count && !ret; i++) {
		locate(dev->kind, i, &reg);
		reg.value = vfio_random(&seed);
		if (dev->kind->backend == VFIO_BOCHS) {
			if (i == BOCHS_BYTE_ORDER)
				reg.value = reg.value & 1 ? 0x1e1e1e1e :
							    0xbebebebe;
			else
				reg.value &= i == BOCHS_ENABLE ? 0x40 : 0x7ff;
		}
		ret = write_register(dev, &reg);
	}
	return ret;
}

/* @regs has room for vfio_registers_count() */
int vfio_registers_read(struct vfio_device *dev, struct vfio_register *regs)
{
	unsigned int count = vfio_registers_count(dev->kind);
	int ret;

	for (unsigned int i = 0; i < count; i++) {
		memset(&regs[i], 0, sizeof(regs[i]));
		locate(dev->kind, i, &regs[i]);
		ret = vfio_region_read(dev, dev->kind->registers,
				       regs[i].offset, &regs[i].value,
				       regs[i].width);
		if (!ret && dev->kind->backend == VFIO_IVSHMEM &&
		    i == IVSHMEM_INTRSTATUS)
			ret = write_register(dev, &regs[i]);
		if (ret && ret != -EBUSY)	/* STOP_COPY */
			return ret;
	}
	return 0;
}

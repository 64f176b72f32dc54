// SPDX-License-Identifier: GPL-2.0-only
/* What a VMM does with a VFIO device: find, bind, open, regions, interrupts */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/pci_regs.h>

#include "vfio.h"

#define SYSFS_DEVICES	"/sys/bus/pci/devices"

const struct vfio_kind vfio_ivshmem_4k = {
	"ivshmem-4k", VFIO_IVSHMEM, 0x1af4, 0x1110, 2, 0, 4096,
};

const struct vfio_kind vfio_ivshmem_1m = {
	"ivshmem-1m", VFIO_IVSHMEM, 0x1af4, 0x1110, 2, 0, 1 << 20,
};

const struct vfio_kind vfio_ivshmem_256m = {
	"ivshmem-256m", VFIO_IVSHMEM, 0x1af4, 0x1110, 2, 0, 256 << 20,
};

const struct vfio_kind vfio_bochs = {
	"bochs", VFIO_BOCHS, 0x1234, 0x1111, 0, 2, 0,
};

static const struct vfio_kind vfio_ivshmem = {
	"ivshmem", VFIO_IVSHMEM, 0x1af4, 0x1110, 2, 0, 0,
};

const struct vfio_kind vfio_virtio_rng = {
	"virtio-rng", VFIO_NONE, 0x1af4, 0x1044, 0, 0, 0,
};

const struct vfio_kind vfio_secondary_vga = {
	"secondary-vga", VFIO_NONE, 0x1234, 0x1111, 0, 0, 0,
};

const struct vfio_kind vfio_doorbell = {
	"ivshmem-doorbell", VFIO_NONE, 0x1af4, 0x1110, 0, 0, 0,
};

const struct vfio_kind *const vfio_kinds[] = {
	&vfio_ivshmem_4k, &vfio_ivshmem_1m, &vfio_ivshmem_256m, &vfio_bochs,
	&vfio_ivshmem, &vfio_virtio_rng, &vfio_secondary_vga, &vfio_doorbell,
	NULL,
};

int vfio_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* Both ids from one file: tests look for their device among dozens, each time. */
static bool read_ids(const char *bdf, unsigned int *vendor,
		     unsigned int *device)
{
	char path[PATH_MAX], text[64];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), SYSFS_DEVICES "/%s/modalias", bdf);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[len > 0 ? len : 0] = '\0';
	return sscanf(text, "pci:v%8xd%8x", vendor, device) == 2;
}

static uint64_t read_bar_size(const char *bdf, unsigned int bar)
{
	unsigned long long start, end, flags;
	char path[PATH_MAX];
	uint64_t size = 0;
	FILE *file;

	snprintf(path, sizeof(path), SYSFS_DEVICES "/%s/resource", bdf);
	file = fopen(path, "re");
	if (!file)
		return 0;
	for (unsigned int i = 0; i <= bar; i++) {
		if (fscanf(file, "%llx %llx %llx", &start, &end, &flags) != 3)
			break;
		if (i == bar && end)
			size = end - start + 1;
	}
	fclose(file);
	return size;
}

/* By the size of its config space */
static bool is_express(const char *bdf)
{
	char path[PATH_MAX];
	struct stat stat_buf;

	snprintf(path, sizeof(path), SYSFS_DEVICES "/%s/config", bdf);
	return !stat(path, &stat_buf) &&
	       stat_buf.st_size > PCI_CFG_SPACE_SIZE;
}

/* By the BAR that an ivshmem has for it */
static bool has_msix(const char *bdf)
{
	return read_bar_size(bdf, 1);
}

/* What the device is, or NULL; the most special kind comes first */
const struct vfio_kind *vfio_identify(const char *bdf, uint64_t *size)
{
	unsigned int vendor, device;

	if (!read_ids(bdf, &vendor, &device))
		return NULL;
	for (unsigned int i = 0; vfio_kinds[i]; i++) {
		const struct vfio_kind *kind = vfio_kinds[i];

		if (vendor != kind->vendor || device != kind->device)
			continue;
		if (kind->backend == VFIO_BOCHS && !is_express(bdf))
			continue;
		if (kind->backend == VFIO_IVSHMEM && has_msix(bdf))
			continue;
		*size = read_bar_size(bdf, kind->memory);
		if (kind->backend == VFIO_NONE ||
		    (*size && (!kind->size || kind->size == *size)))
			return kind;
	}
	return NULL;
}

/* The @nth device of @kind in the order of PCI addresses */
int vfio_find(const struct vfio_kind *kind, unsigned int nth, char *bdf)
{
	const struct vfio_kind *found;
	const char *name;
	uint64_t size;
	glob_t list;
	int ret = -ENODEV;

	if (glob(SYSFS_DEVICES "/*", 0, NULL, &list))
		return -ENODEV;
	for (size_t i = 0; i < list.gl_pathc; i++) {
		name = strrchr(list.gl_pathv[i], '/') + 1;
		found = vfio_identify(name, &size);
		if (found != kind || nth--)
			continue;
		snprintf(bdf, VFIO_BDF_SIZE, "%s", name);
		ret = 0;
		break;
	}
	globfree(&list);
	return ret;
}

/* Name of a link's target: the driver, the IOMMU group */
int vfio_link(const char *bdf, const char *link, char *name, size_t size)
{
	char path[PATH_MAX], target[PATH_MAX];
	ssize_t len;

	snprintf(path, sizeof(path), SYSFS_DEVICES "/%s/%s", bdf, link);
	len = readlink(path, target, sizeof(target) - 1);
	if (len < 0)
		return -errno;
	target[len] = '\0';
	snprintf(name, size, "%s", strrchr(target, '/') + 1);
	return 0;
}

int vfio_driver(const char *bdf, char *driver, size_t size)
{
	return vfio_link(bdf, "driver", driver, size);
}

int vfio_unbind(const char *bdf)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), SYSFS_DEVICES "/%s/driver/unbind", bdf);
	return vfio_write_file(path, bdf);
}

/* Leaves the device with @driver whoever had it before */
int vfio_bind(const char *bdf, const char *driver)
{
	char path[PATH_MAX], now[NAME_MAX];
	int ret;

	if (!vfio_driver(bdf, now, sizeof(now))) {
		if (!strcmp(now, driver))
			return 0;
		ret = vfio_unbind(bdf);
		if (ret)
			return ret;
	}
	snprintf(path, sizeof(path), SYSFS_DEVICES "/%s/driver_override", bdf);
	ret = vfio_write_file(path, driver);
	if (!ret)
		ret = vfio_write_file("/sys/bus/pci/drivers_probe", bdf);
	if (!ret)
		ret = vfio_driver(bdf, now, sizeof(now));
	if (!ret && strcmp(now, driver))
		ret = -ENODEV;
	return ret;
}

static int read_regions(struct vfio_device *dev)
{
	for (unsigned int i = 0; i <= VFIO_PCI_CONFIG_REGION_INDEX; i++) {
		dev->region[i].argsz = sizeof(dev->region[i]);
		dev->region[i].index = i;
		if (ioctl(dev->fd, VFIO_DEVICE_GET_REGION_INFO,
			  &dev->region[i]))
			return -errno;
	}
	return 0;
}

int vfio_device_open(struct vfio_device *dev, struct vfio_container *container,
		     const char *bdf)
{
	int ret;

	memset(dev, 0, sizeof(*dev));
	snprintf(dev->bdf, sizeof(dev->bdf), "%s", bdf);
	dev->kind = vfio_identify(bdf, &dev->size);
	if (!dev->kind)
		return -ENODEV;
	dev->fd = vfio_container_device(container, bdf, &dev->group);
	if (dev->fd < 0)
		return dev->fd;
	ret = read_regions(dev);
	if (!ret)
		ret = vfio_command_set(dev, PCI_COMMAND_MEMORY |
				       PCI_COMMAND_MASTER, true);
	if (ret)
		goto close_device;
	if (dev->kind->backend == VFIO_NONE)
		return 0;
	dev->map = vfio_region_map(dev, dev->kind->memory);
	if (!dev->map) {
		ret = -errno;
		goto close_device;
	}
	return 0;

close_device:
	vfio_device_close(dev);
	return ret;
}

void vfio_device_close(struct vfio_device *dev)
{
	if (dev->map)
		munmap(dev->map, dev->size);
	close(dev->fd);
	if (dev->group >= 0)
		close(dev->group);
}

int vfio_device_reset(struct vfio_device *dev)
{
	return ioctl(dev->fd, VFIO_DEVICE_RESET) ? -errno : 0;
}

/* Of a device that is alone on its bus */
int vfio_device_reset_hot(struct vfio_device *dev)
{
	struct {
		struct vfio_pci_hot_reset head;
		int32_t group;
	} reset = { .group = dev->group };

	reset.head.argsz = sizeof(reset);
	/* an iommufd's device shows by itself whose it is */
	reset.head.count = dev->container.iommufd ? 0 : 1;
	return ioctl(dev->fd, VFIO_DEVICE_PCI_HOT_RESET, &reset) ? -errno : 0;
}

/* NULL and errno if the region cannot be mapped */
void *vfio_region_map(struct vfio_device *dev, unsigned int index)
{
	struct vfio_region_info *info = &dev->region[index];
	size_t size = info->size < 4096 ? 4096 : info->size;
	void *map;

	if (!(info->flags & VFIO_REGION_INFO_FLAG_MMAP)) {
		errno = ENODEV;
		return NULL;
	}
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, dev->fd,
		   info->offset);
	return map == MAP_FAILED ? NULL : map;
}

int vfio_region_read(struct vfio_device *dev, unsigned int index,
		     uint64_t offset, void *buf, size_t len)
{
	ssize_t done = pread(dev->fd, buf, len,
			     dev->region[index].offset + offset);

	if (done < 0)
		return -errno;
	return (size_t)done == len ? 0 : -EIO;
}

int vfio_region_write(struct vfio_device *dev, unsigned int index,
		      uint64_t offset, const void *buf, size_t len)
{
	ssize_t done = pwrite(dev->fd, buf, len,
			      dev->region[index].offset + offset);

	if (done < 0)
		return -errno;
	return (size_t)done == len ? 0 : -EIO;
}

int vfio_config_read(struct vfio_device *dev, unsigned int offset, void *buf,
		     size_t len)
{
	return vfio_region_read(dev, VFIO_PCI_CONFIG_REGION_INDEX, offset, buf,
				len);
}

int vfio_config_write(struct vfio_device *dev, unsigned int offset,
		      const void *buf, size_t len)
{
	return vfio_region_write(dev, VFIO_PCI_CONFIG_REGION_INDEX, offset,
				 buf, len);
}

int vfio_command_set(struct vfio_device *dev, uint16_t bits, bool on)
{
	uint16_t command;
	int ret;

	ret = vfio_config_read(dev, PCI_COMMAND, &command, sizeof(command));
	if (ret)
		return ret;
	command = on ? command | bits : command & ~bits;
	return vfio_config_write(dev, PCI_COMMAND, &command, sizeof(command));
}

int vfio_irq_count(struct vfio_device *dev, unsigned int index)
{
	struct vfio_irq_info info = { .argsz = sizeof(info), .index = index };

	if (ioctl(dev->fd, VFIO_DEVICE_GET_IRQ_INFO, &info))
		return -errno;
	return info.count;
}

/* @count 0 disables the interrupts of @index */
int vfio_irq_enable(struct vfio_device *dev, unsigned int index, int *fds,
		    unsigned int count)
{
	size_t size = sizeof(struct vfio_irq_set) + count * sizeof(*fds);
	struct vfio_irq_set *set = calloc(1, size);
	int ret;

	if (!set)
		return -ENOMEM;
	set->argsz = size;
	set->flags = VFIO_IRQ_SET_ACTION_TRIGGER |
		     (count ? VFIO_IRQ_SET_DATA_EVENTFD :
			      VFIO_IRQ_SET_DATA_NONE);
	set->index = index;
	set->count = count;
	memcpy(set->data, fds, count * sizeof(*fds));
	ret = ioctl(dev->fd, VFIO_DEVICE_SET_IRQS, set) ? -errno : 0;
	free(set);
	return ret;
}

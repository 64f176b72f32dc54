// SPDX-License-Identifier: GPL-2.0-only
/*
 * How a VMM gets at a device and gives it memory: by a container and the
 * device's group, or by an iommufd and the device's own node
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/iommufd.h>

#include "vfio.h"

/*
 * iommufd where the kernel has it, unless VFIO_GROUP is set in the environment.
 * vfio itself needs it there, so it is known before any device is bound.
 */
static bool wants_iommufd(void)
{
	return !getenv("VFIO_GROUP") && !access("/dev/iommu", F_OK);
}

static int open_iommufd(struct vfio_container *container)
{
	struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
	int ret;

	container->fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (container->fd < 0)
		return -errno;
	if (ioctl(container->fd, IOMMU_IOAS_ALLOC, &alloc)) {
		ret = -errno;
		close(container->fd);
		return ret;
	}
	container->ioas = alloc.out_ioas_id;
	return 0;
}

static int open_type1(struct vfio_container *container)
{
	container->fd = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (container->fd < 0)
		return -errno;
	if (ioctl(container->fd, VFIO_GET_API_VERSION) != VFIO_API_VERSION ||
	    ioctl(container->fd, VFIO_CHECK_EXTENSION,
		  VFIO_TYPE1v2_IOMMU) != 1) {
		close(container->fd);
		return -ENOTSUP;
	}
	return 0;
}

int vfio_container_open(struct vfio_container *container)
{
	memset(container, 0, sizeof(*container));
	container->iommufd = wants_iommufd();
	return container->iommufd ? open_iommufd(container) :
				    open_type1(container);
}

void vfio_container_close(struct vfio_container *container)
{
	close(container->fd);
}

int vfio_dma_map(struct vfio_container *container, void *addr, uint64_t iova,
		 uint64_t size)
{
	struct vfio_iommu_type1_dma_map type1 = {
		.argsz = sizeof(type1),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)addr,
		.iova = iova,
		.size = size,
	};
	struct iommu_ioas_map ioas = {
		.size = sizeof(ioas),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = container->ioas,
		.user_va = (uintptr_t)addr,
		.length = size,
		.iova = iova,
	};
	int ret;

	if (container->iommufd)
		ret = ioctl(container->fd, IOMMU_IOAS_MAP, &ioas);
	else
		ret = ioctl(container->fd, VFIO_IOMMU_MAP_DMA, &type1);
	return ret ? -errno : 0;
}

static int open_group(const char *bdf, int container)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	char number[NAME_MAX], path[PATH_MAX];
	int fd, ret;

	ret = vfio_link(bdf, "iommu_group", number, sizeof(number));
	if (ret)
		return ret;
	snprintf(path, sizeof(path), "/dev/vfio/%s", number);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, VFIO_GROUP_GET_STATUS, &status) ||
	    ioctl(fd, VFIO_GROUP_SET_CONTAINER, &container))
		goto fail;
	/* The first group decides, for the others it is set already */
	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) &&
	    errno != EINVAL)
		goto fail;
	return fd;
fail:
	ret = -errno;
	close(fd);
	return ret;
}

/* The device's own node, /dev/vfio/devices/vfioN */
static int open_node(const char *bdf)
{
	char path[PATH_MAX];
	struct dirent *entry;
	DIR *dir;
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", bdf);
	dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? -ENODEV : -errno;
	do {
		errno = 0;
		entry = readdir(dir);
	} while (entry && entry->d_name[0] == '.');
	fd = errno ? -errno : -ENODEV;
	if (entry) {
		snprintf(path, sizeof(path), "/dev/vfio/devices/%s",
			 entry->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC);
		fd = fd < 0 ? -errno : fd;
	}
	closedir(dir);
	return fd;
}

static int open_cdev(struct vfio_container *container, const char *bdf)
{
	struct vfio_device_bind_iommufd bind = {
		.argsz = sizeof(bind),
		.iommufd = container->fd,
	};
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach),
		.pt_id = container->ioas,
	};
	int fd, ret;

	fd = open_node(bdf);
	if (fd < 0)
		return fd;
	if (!ioctl(fd, VFIO_DEVICE_BIND_IOMMUFD, &bind) &&
	    !ioctl(fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach))
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

/* The device's fd; its group's, if there is need of one, goes to @group */
int vfio_container_device(struct vfio_container *container, const char *bdf,
			  int *group)
{
	int fd, ret;

	*group = -1;
	if (container->iommufd)
		return open_cdev(container, bdf);
	*group = open_group(bdf, container->fd);
	if (*group < 0)
		return *group;
	fd = ioctl(*group, VFIO_GROUP_GET_DEVICE_FD, bdf);
	if (fd >= 0)
		return fd;
	ret = -errno;
	close(*group);
	return ret;
}

// SPDX-License-Identifier: GPL-2.0-or-later
#include "pci.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEVICES	"/sys/bus/pci/devices"

int pci_parse(const char *text, char bdf[static PCI_NAME_SIZE])
{
	unsigned int domain = 0, bus, slot, function;
	int end = 0;

	if (sscanf(text, "%x:%x:%x.%x%n", &domain, &bus, &slot, &function,
		   &end) != 4) {
		domain = 0;
		if (sscanf(text, "%x:%x.%x%n", &bus, &slot, &function,
			   &end) != 3)
			return -EINVAL;
	}
	if (text[end] || bus > 0xff || slot > 0x1f || function > 7)
		return -EINVAL;
	snprintf(bdf, PCI_NAME_SIZE, "%04x:%02x:%02x.%x", domain, bus, slot,
		 function);
	return 0;
}

static void device_path(char path[static PATH_MAX], const char *bdf,
			const char *attribute)
{
	snprintf(path, PATH_MAX, DEVICES "/%s/%s", bdf, attribute);
}

static int write_file(const char *path, const char *text)
{
	int fd, ret = 0;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

bool pci_exists(const char *bdf)
{
	char path[PATH_MAX];

	device_path(path, bdf, "");
	return !access(path, F_OK);
}

int pci_read(const char *bdf, const char *attribute,
	     char text[static PCI_NAME_SIZE])
{
	char path[PATH_MAX];
	ssize_t got;
	int fd;

	device_path(path, bdf, attribute);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	got = read(fd, text, PCI_NAME_SIZE - 1);
	close(fd);
	if (got < 0)
		return -EIO;
	text[got] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return 0;
}

int pci_link(const char *bdf, const char *link,
	     char name[static PCI_NAME_SIZE])
{
	char path[PATH_MAX], target[PATH_MAX];
	const char *base;
	ssize_t got;

	device_path(path, bdf, link);
	got = readlink(path, target, sizeof(target) - 1);
	if (got < 0)
		return -errno;
	target[got] = '\0';
	base = strrchr(target, '/');
	snprintf(name, PCI_NAME_SIZE, "%.*s", PCI_NAME_SIZE - 1,
		 base ? base + 1 : target);
	return 0;
}

bool pci_has_vfio(const char *bdf)
{
	char path[PATH_MAX];

	device_path(path, bdf, "vfio-dev");
	return !access(path, F_OK);
}

int pci_check_group(const char *bdf)
{
	char path[PATH_MAX], group[PCI_NAME_SIZE];
	int fd, ret;

	ret = pci_link(bdf, "iommu_group", group);
	if (ret)
		return ret;

	/* A group can be open only once, so this says whether it is. */
	snprintf(path, sizeof(path), "/dev/vfio/%s", group);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return errno == EBUSY ? -EBUSY : 0;
	close(fd);
	return 0;
}

int pci_override(const char *bdf, const char *driver)
{
	char path[PATH_MAX];

	device_path(path, bdf, "driver_override");
	return write_file(path, driver ? driver : "\n");
}

int pci_unbind(const char *bdf)
{
	char path[PATH_MAX];

	device_path(path, bdf, "driver/unbind");
	return write_file(path, bdf);
}

int pci_probe(const char *bdf)
{
	return write_file("/sys/bus/pci/drivers_probe", bdf);
}

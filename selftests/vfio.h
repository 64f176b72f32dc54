/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a VMM does with a device, for the reference VMM and the tests.
 * Every function that can fail returns a negative errno.
 */
#ifndef SELFTESTS_VFIO_H
#define SELFTESTS_VFIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <linux/vfio.h>

#define VFIO_DEVICE_NUM_STATES	8

#define VFIO_DRIVER	"qemu_vfio_pci"	/* module and PCI driver */

enum vfio_backend {
	VFIO_NONE,	/* cannot migrate */
	VFIO_IVSHMEM,
	VFIO_BOCHS,
};

/**
 * struct vfio_kind - devices that can replace each other
 * @name: for people
 * @backend: which registers it has
 * @vendor: PCI vendor id
 * @device: PCI device id
 * @memory: region whose memory is state
 * @registers: region that holds the registers
 * @size: bytes of @memory; 0 stands for any
 *
 * Without a backend it is known by its ids alone.
 */
struct vfio_kind {
	const char *name;
	enum vfio_backend backend;
	uint16_t vendor;
	uint16_t device;
	unsigned int memory;
	unsigned int registers;
	uint64_t size;
};

extern const struct vfio_kind vfio_ivshmem_4k;
extern const struct vfio_kind vfio_ivshmem_1m;
extern const struct vfio_kind vfio_ivshmem_256m;
extern const struct vfio_kind vfio_bochs;
extern const struct vfio_kind vfio_virtio_rng;	/* has MSI-X */
extern const struct vfio_kind vfio_secondary_vga;	/* bochs in disguise */
extern const struct vfio_kind vfio_doorbell;		/* ivshmem in disguise */
extern const struct vfio_kind *const vfio_kinds[];	/* ends with NULL */

#define VFIO_BDF_SIZE	13	/* "0000:00:00.0" */

/**
 * struct vfio_container - what devices share: address space and isolation
 * @fd: of a container or an iommufd
 * @iommufd: which of the two
 * @ioas: the iommufd's address space
 */
struct vfio_container {
	int fd;
	bool iommufd;
	uint32_t ioas;
};

/**
 * struct vfio_device - an open device
 * @bdf: its PCI address
 * @kind: what it is
 * @container: its container, if it has one for itself
 * @group: group fd, or -1
 * @fd: device fd
 * @region: from VFIO_DEVICE_GET_REGION_INFO
 * @size: bytes of its memory
 * @map: its memory, mapped, or NULL without a backend
 */
struct vfio_device {
	char bdf[VFIO_BDF_SIZE];
	const struct vfio_kind *kind;
	struct vfio_container container;
	int group;
	int fd;
	struct vfio_region_info region[VFIO_PCI_NUM_REGIONS];
	uint64_t size;
	uint8_t *map;
};

/* A device's register as a guest sees it: @index counts from 0 */
struct vfio_register {
	uint32_t offset;	/* in the registers' region */
	uint32_t width;		/* bytes */
	uint32_t value;
};

int vfio_find(const struct vfio_kind *kind, unsigned int nth, char *bdf);
const struct vfio_kind *vfio_identify(const char *bdf, uint64_t *size);
int vfio_driver(const char *bdf, char *driver, size_t size);
int vfio_bind(const char *bdf, const char *driver);
int vfio_unbind(const char *bdf);

/* A text to a file of sysfs, debugfs and the like */
int vfio_write_file(const char *path, const char *text);
int vfio_link(const char *bdf, const char *link, char *name, size_t size);

int vfio_container_open(struct vfio_container *container);
void vfio_container_close(struct vfio_container *container);
int vfio_container_device(struct vfio_container *container, const char *bdf,
			  int *group);
int vfio_dma_map(struct vfio_container *container, void *addr, uint64_t iova,
		 uint64_t size);
int vfio_device_open(struct vfio_device *dev, struct vfio_container *container,
		     const char *bdf);
void vfio_device_close(struct vfio_device *dev);
int vfio_device_reset(struct vfio_device *dev);
int vfio_device_reset_hot(struct vfio_device *dev);

void *vfio_region_map(struct vfio_device *dev, unsigned int index);
int vfio_region_read(struct vfio_device *dev, unsigned int index,
		     uint64_t offset, void *buf, size_t len);
int vfio_region_write(struct vfio_device *dev, unsigned int index,
		      uint64_t offset, const void *buf, size_t len);
int vfio_config_read(struct vfio_device *dev, unsigned int offset, void *buf,
		     size_t len);
int vfio_config_write(struct vfio_device *dev, unsigned int offset,
		      const void *buf, size_t len);
int vfio_command_set(struct vfio_device *dev, uint16_t bits, bool on);
int vfio_irq_count(struct vfio_device *dev, unsigned int index);
int vfio_irq_enable(struct vfio_device *dev, unsigned int index, int *fds,
		    unsigned int count);

int vfio_feature(struct vfio_device *dev, uint32_t flags, void *data,
		 size_t size);
int vfio_mig_flags(struct vfio_device *dev, uint64_t *flags);
int vfio_mig_data_size(struct vfio_device *dev, uint64_t *size);
int vfio_mig_state(struct vfio_device *dev);
int vfio_mig_set_state(struct vfio_device *dev, uint32_t state, int *data_fd);
const char *vfio_mig_state_name(uint32_t state);

unsigned int vfio_registers_count(const struct vfio_kind *kind);
int vfio_registers_fill(struct vfio_device *dev, uint64_t seed);
int vfio_registers_read(struct vfio_device *dev, struct vfio_register *regs);

void vfio_fill(void *to, size_t len, uint64_t seed);
uint64_t vfio_random(uint64_t *state);

#endif /* SELFTESTS_VFIO_H */

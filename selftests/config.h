/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The config state of the reference VMM: PCI config space and MSI-X, which
 * VFIO leaves to the VMM.
 */
#ifndef SELFTESTS_CONFIG_H
#define SELFTESTS_CONFIG_H

#include "vfio.h"
#include "xxh64.h"

#define CONFIG_SPACE		4096
#define CONFIG_MSIX_VECTORS	64
#define CONFIG_MSIX_ENTRY	16	/* bytes in the table */

/**
 * struct config_blob - the config state as it crosses the wire
 * @magic: CONFIG_MAGIC
 * @size: bytes of @space that are used
 * @vectors: MSI-X vectors that the device has
 * @enabled: vectors that the guest uses
 * @space: PCI config space as VFIO shows it
 * @table: the guest's MSI-X table
 */
struct config_blob {
	uint32_t magic;
	uint32_t size;
	uint32_t vectors;
	uint32_t enabled;
	uint8_t space[CONFIG_SPACE];
	uint8_t table[CONFIG_MSIX_VECTORS * CONFIG_MSIX_ENTRY];
};

/**
 * struct config - what the VMM knows of one device
 * @vectors: MSI-X vectors that the device has
 * @enabled: vectors that the guest uses
 * @irq: eventfds of those
 * @table: the guest's MSI-X table
 */
struct config {
	unsigned int vectors;
	unsigned int enabled;
	int irq[CONFIG_MSIX_VECTORS];
	uint8_t table[CONFIG_MSIX_VECTORS * CONFIG_MSIX_ENTRY];
};

int config_init(struct config *config, struct vfio_device *dev);
int config_fill(struct config *config, struct vfio_device *dev, uint64_t seed);
int config_save(struct config *config, struct vfio_device *dev,
		struct config_blob *blob);
int config_restore(struct config *config, struct vfio_device *dev,
		   const struct config_blob *blob);
int config_digest(struct config *config, struct vfio_device *dev,
		  struct xxh64 *state);

#endif /* SELFTESTS_CONFIG_H */

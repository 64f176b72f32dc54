// SPDX-License-Identifier: GPL-2.0-only
/* The config state of the reference VMM: PCI config space and MSI-X */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <linux/pci_regs.h>

#include "config.h"

#define CONFIG_MAGIC	0x47464356	/* "VCFG" */

/*
 * What a guest can write and VFIO keeps for it, in the order of restoring:
 * the command register comes last, when the addresses are there.
 */
static const struct {
	unsigned int offset;
	unsigned int len;
} writable[] = {
	{ PCI_CACHE_LINE_SIZE, 1 },
	{ PCI_LATENCY_TIMER, 1 },
	{ PCI_BASE_ADDRESS_0, 4 },
	{ PCI_BASE_ADDRESS_1, 4 },
	{ PCI_BASE_ADDRESS_2, 4 },
	{ PCI_BASE_ADDRESS_3, 4 },
	{ PCI_BASE_ADDRESS_4, 4 },
	{ PCI_BASE_ADDRESS_5, 4 },
	{ PCI_ROM_ADDRESS, 4 },
	{ PCI_INTERRUPT_LINE, 1 },
	{ PCI_COMMAND, 2 },
};

#define WRITABLE	(sizeof(writable) / sizeof(writable[0]))

/* Two devices can take each other's place only if these are the same */
static const unsigned int fixed[] = {
	PCI_VENDOR_ID, PCI_CLASS_REVISION, PCI_SUBSYSTEM_VENDOR_ID,
};

int config_init(struct config *config, struct vfio_device *dev)
{
	int count = vfio_irq_count(dev, VFIO_PCI_MSIX_IRQ_INDEX);

	memset(config, 0, sizeof(*config));
	if (count < 0 || count > CONFIG_MSIX_VECTORS)
		return count < 0 ? count : -E2BIG;
	config->vectors = count;
	return 0;
}

static int enable_msix(struct config *config, struct vfio_device *dev,
		       unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		config->irq[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (config->irq[i] < 0)
			return -errno;
	}
	config->enabled = count;
	if (!count)
		return 0;
	return vfio_irq_enable(dev, VFIO_PCI_MSIX_IRQ_INDEX, config->irq,
			       count);
}

/* What a guest's firmware and driver would do: addresses, interrupts */
int config_fill(struct config *config, struct vfio_device *dev, uint64_t seed)
{
	uint64_t address = 0xc0000000 + (vfio_random(&seed) % 64 << 24);
	uint8_t line = vfio_random(&seed);
	int ret;

	ret = vfio_config_write(dev, PCI_BASE_ADDRESS_2, &address, 4) ?:
	      vfio_config_write(dev, PCI_INTERRUPT_LINE, &line, 1);
	if (ret)
		return ret;
	for (unsigned int i = 0; i < config->vectors * CONFIG_MSIX_ENTRY; i++)
		config->table[i] = vfio_random(&seed);
	return enable_msix(config, dev, config->vectors);
}

int config_save(struct config *config, struct vfio_device *dev,
		struct config_blob *blob)
{
	memset(blob, 0, sizeof(*blob));
	blob->magic = CONFIG_MAGIC;
	blob->size = dev->region[VFIO_PCI_CONFIG_REGION_INDEX].size;
	if (blob->size > CONFIG_SPACE)
		return -E2BIG;
	blob->vectors = config->vectors;
	blob->enabled = config->enabled;
	memcpy(blob->table, config->table, sizeof(blob->table));
	return vfio_config_read(dev, 0, blob->space, blob->size);
}

static int check_identity(struct config *config, struct vfio_device *dev,
			  const struct config_blob *blob)
{
	uint32_t value;
	int ret;

	if (blob->magic != CONFIG_MAGIC || blob->enabled > blob->vectors ||
	    blob->size != dev->region[VFIO_PCI_CONFIG_REGION_INDEX].size ||
	    blob->vectors != config->vectors)
		return -EINVAL;
	for (unsigned int i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
		ret = vfio_config_read(dev, fixed[i], &value, sizeof(value));
		if (ret)
			return ret;
		if (memcmp(&value, blob->space + fixed[i], sizeof(value)))
			return -EINVAL;
	}
	return 0;
}

int config_restore(struct config *config, struct vfio_device *dev,
		   const struct config_blob *blob)
{
	uint32_t value;
	int ret = check_identity(config, dev, blob);

	for (unsigned int i = 0; i < WRITABLE && !ret; i++) {
		const uint8_t *want = blob->space + writable[i].offset;

		ret = vfio_config_write(dev, writable[i].offset, want,
					writable[i].len) ?:
		      vfio_config_read(dev, writable[i].offset, &value,
				       writable[i].len);
		if (!ret && memcmp(want, &value, writable[i].len)) {
			fprintf(stderr, "%s: config space at 0x%x is not kept\n",
				dev->bdf, writable[i].offset);
			ret = -EIO;
		}
	}
	memcpy(config->table, blob->table, sizeof(config->table));
	return ret ?: enable_msix(config, dev, blob->enabled);
}

int config_digest(struct config *config, struct vfio_device *dev,
		  struct xxh64 *state)
{
	uint32_t value = 0;
	int ret = 0;

	for (unsigned int i = 0; i < WRITABLE && !ret; i++) {
		ret = vfio_config_read(dev, writable[i].offset, &value,
				       writable[i].len);
		xxh64_update(state, &value, writable[i].len);
	}
	xxh64_update(state, &config->enabled, sizeof(config->enabled));
	xxh64_update(state, config->table, sizeof(config->table));
	return ret;
}

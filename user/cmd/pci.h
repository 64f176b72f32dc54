/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PCI device in sysfs.  Functions return 0 or a negative errno.
 */
#ifndef PCI_H
#define PCI_H

#include <stdbool.h>

#define PCI_NAME_SIZE	128	/* of drivers, modules and attributes */

/* Fills @bdf with "0000:01:00.0" from that or from "01:00.0". */
int pci_parse(const char *text, char bdf[static PCI_NAME_SIZE]);

bool pci_exists(const char *bdf);

/* One line of an attribute, without its end. */
int pci_read(const char *bdf, const char *attribute,
	     char text[static PCI_NAME_SIZE]);

/* Name of what a link of the device points to: "driver", "iommu_group". */
int pci_link(const char *bdf, const char *link,
	     char name[static PCI_NAME_SIZE]);

/* True if a VFIO driver has the device. */
bool pci_has_vfio(const char *bdf);

/* -EBUSY if somebody has the VFIO group of the device open. */
int pci_check_group(const char *bdf);

/* @driver: NULL for the device's own */
int pci_override(const char *bdf, const char *driver);

int pci_unbind(const char *bdf);

/* Lets the kernel look for a driver; it is no error if there is none. */
int pci_probe(const char *bdf);

#endif /* PCI_H */

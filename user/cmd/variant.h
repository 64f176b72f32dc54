/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VFIO variant drivers: which module has one for a device, and its name.
 */
#ifndef VARIANT_H
#define VARIANT_H

#include "pci.h"

/**
 * struct variant - a driver for a device
 * @alias: the module's alias that fits the device, or empty
 * @module: name of the module
 * @driver: name of the driver in it
 */
struct variant {
	char alias[PCI_NAME_SIZE];
	char module[PCI_NAME_SIZE];
	char driver[PCI_NAME_SIZE];
};

/*
 * Finds, among all modules, the one whose vfio_pci: alias fits @modalias (the
 * device's, "pci:...") with the fewest wildcards, and loads it.
 */
int variant_find(const char *modalias, struct variant *variant);

/*
 * Takes module @name, whatever its aliases say.  -ENOENT: there is none, or it
 * has no PCI driver; -EXDEV: it has no VFIO driver.
 */
int variant_take(const char *name, struct variant *variant);

#endif /* VARIANT_H */

// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The commands bind and unbind.
 */
#include "command.h"
#include "pci.h"
#include "variant.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_DRIVER = 1, OPT_HELP = 'h' };

static const struct option bind_options[] = {
	{ "driver", required_argument, NULL, OPT_DRIVER },
	{ "help", no_argument, NULL, OPT_HELP },
	{}
};

static const struct option unbind_options[] = {
	{ "help", no_argument, NULL, OPT_HELP },
	{}
};

static void help(bool bind)
{
	if (bind)
		printf("Usage: " PROGRAM " bind [--driver NAME] BDF\n\n"
		       "Takes a PCI device from its driver, whatever uses it, and binds it to the VFIO\n"
		       "driver whose vfio_pci: alias in modules.alias fits it with the fewest wildcards:\n"
		       "its variant driver, or else vfio-pci.\n\n"
		       "      --driver NAME  this driver instead, also if it has no alias there\n");
	else
		printf("Usage: " PROGRAM " unbind BDF\n\n"
		       "Takes a PCI device from its VFIO driver and gives it back to its own.\n\n");
	printf("  -h, --help         this text\n\n"
	       "BDF is the device's address, like 0000:01:00.0 or 01:00.0.\n\n"
	       "Exit status: 0 done; 1 not possible.\n");
}

__attribute__((format(printf, 2, 3)))
static int fail(const char *bdf, const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, PROGRAM ": %s: ", bdf);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\n");
	return 1;
}

/* Returns what the caller is to return, or -1 to go on with @bdf. */
static int parse(int argc, char **argv, const struct option *options,
		 const char **driver, char bdf[static PCI_NAME_SIZE])
{
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option == OPT_HELP) {
			help(options == bind_options);
			return 0;
		}
		if (option != OPT_DRIVER)
			return command_try_help(argv[0]);
		*driver = optarg;
	}
	if (optind != argc - 1)
		return command_usage(argv[0], "expected one BDF");
	if (pci_parse(argv[optind], bdf))
		return command_usage(argv[0],
				     "\"%s\" is not like 0000:01:00.0",
				     argv[optind]);
	if (!pci_exists(bdf))
		return fail(bdf, "there is no such PCI device");
	return -1;
}

/* "driver NAME" or "no driver" */
static void describe_driver(const char *bdf, char text[static 2 * PCI_NAME_SIZE])
{
	char driver[PCI_NAME_SIZE];

	if (pci_link(bdf, "driver", driver))
		snprintf(text, 2 * PCI_NAME_SIZE, "no driver");
	else
		snprintf(text, 2 * PCI_NAME_SIZE, "driver %s", driver);
}

static int find_variant(const char *bdf, const char *name,
			struct variant *variant)
{
	char modalias[PCI_NAME_SIZE];
	int ret;

	if (name) {
		ret = variant_take(name, variant);
		if (ret == -ENOENT)
			return fail(bdf, "there is no module %s with a PCI driver",
				    name);
		if (ret == -EXDEV)
			return fail(bdf, "module %s has no VFIO driver", name);
		return ret ? fail(bdf, "module %s: %s", name, strerror(-ret)) :
			     0;
	}

	ret = pci_read(bdf, "modalias", modalias);
	if (!ret)
		ret = variant_find(modalias, variant);
	if (ret == -ENOENT && !*variant->alias)
		return fail(bdf, "no module has a vfio_pci: alias for it; see --driver");
	return ret ? fail(bdf, "module %s: %s", variant->module,
			  strerror(-ret)) : 0;
}

/* A driver that is in use would make the kernel wait for its user. */
static int check_idle(const char *bdf)
{
	if (pci_check_group(bdf) == -EBUSY)
		return fail(bdf, "is in use: its VFIO group is open");
	return 0;
}

static int change_driver(const char *bdf, const char *driver)
{
	char now[PCI_NAME_SIZE] = "";
	int ret;

	ret = pci_override(bdf, driver);
	if (!ret && !pci_link(bdf, "driver", now))
		ret = pci_unbind(bdf);
	if (!ret)
		ret = pci_probe(bdf);
	if (ret || !driver)
		return ret;
	if (pci_link(bdf, "driver", now) || strcmp(now, driver))
		return -ENODEV;
	return 0;
}

/* Puts the device under a VFIO driver, or leaves it to what it had before. */
static int bind_vfio(const char *bdf, const char *driver)
{
	char override[PCI_NAME_SIZE];
	int ret;

	ret = pci_read(bdf, "driver_override", override);
	if (ret)
		return ret;

	ret = change_driver(bdf, driver);
	if (!ret && !pci_has_vfio(bdf))
		ret = -EXDEV;
	if (ret)
		change_driver(bdf, strcmp(override, "(null)") ? override :
								NULL);
	return ret;
}

static int print_bound(const char *bdf, const char *before,
		       const struct variant *variant, const char *group)
{
	printf("%s: %s (module %s, %s) instead of %s; VFIO group %s\n", bdf,
	       variant->driver, variant->module,
	       *variant->alias ? variant->alias : "as asked for", before,
	       group);
	if (*variant->alias && !strcmp(variant->module, "vfio_pci"))
		printf("%s: no module has a variant driver for it; vfio-pci cannot migrate it\n",
		       bdf);
	return 0;
}

int command_bind(int argc, char **argv)
{
	char bdf[PCI_NAME_SIZE], group[PCI_NAME_SIZE], now[PCI_NAME_SIZE];
	char before[2 * PCI_NAME_SIZE];
	const char *name = NULL;
	struct variant variant;
	int ret;

	ret = parse(argc, argv, bind_options, &name, bdf);
	if (ret >= 0)
		return ret;

	if (pci_link(bdf, "iommu_group", group))
		return fail(bdf, "has no IOMMU group; VFIO needs an IOMMU that is switched on");
	ret = find_variant(bdf, name, &variant);
	if (ret)
		return ret;

	describe_driver(bdf, before);
	if (!pci_link(bdf, "driver", now) && !strcmp(now, variant.driver)) {
		printf("%s: is bound to %s already; VFIO group %s\n", bdf, now,
		       group);
		return 0;
	}
	ret = check_idle(bdf);
	if (ret)
		return ret;

	ret = bind_vfio(bdf, variant.driver);
	if (ret) {
		describe_driver(bdf, before);
		return fail(bdf, "driver %s: %s; the device has %s now",
			    variant.driver, ret == -EXDEV ?
			    "it is no VFIO driver" : strerror(-ret), before);
	}
	return print_bound(bdf, before, &variant, group);
}

int command_unbind(int argc, char **argv)
{
	char before[2 * PCI_NAME_SIZE], after[2 * PCI_NAME_SIZE];
	char bdf[PCI_NAME_SIZE];
	int ret;

	ret = parse(argc, argv, unbind_options, NULL, bdf);
	if (ret >= 0)
		return ret;

	describe_driver(bdf, before);
	if (!pci_has_vfio(bdf))
		return fail(bdf, "is not bound to a VFIO driver, it has %s",
			    before);
	ret = check_idle(bdf);
	if (ret)
		return ret;

	ret = change_driver(bdf, NULL);
	if (ret)
		return fail(bdf, "%s", strerror(-ret));
	describe_driver(bdf, after);
	printf("%s: %s instead of %s\n", bdf, after, before);
	return 0;
}

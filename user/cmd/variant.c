// SPDX-License-Identifier: GPL-2.0-or-later
#include "variant.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include <libkmod.h>

#define PREFIX	"vfio_pci:"

/* What libkmod would print is in the errors that it returns, too. */
static struct kmod_ctx *new_context(void)
{
	struct kmod_ctx *ctx = kmod_new(NULL, NULL);

	if (ctx)
		kmod_set_log_priority(ctx, LOG_EMERG);
	return ctx;
}

/* The name of the PCI driver that a loaded module has registered. */
static int driver_of_module(const char *module, char driver[PCI_NAME_SIZE])
{
	char path[PATH_MAX];
	struct dirent *entry;
	int ret = -ENOENT;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/module/%s/drivers", module);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		if (strncmp(entry->d_name, "pci:", 4))
			continue;
		snprintf(driver, PCI_NAME_SIZE, "%s", entry->d_name + 4);
		ret = 0;
		break;
	}
	closedir(dir);
	return ret;
}

static int load(struct kmod_module *module, struct variant *variant)
{
	int ret;

	snprintf(variant->module, sizeof(variant->module), "%s",
		 kmod_module_get_name(module));
	ret = kmod_module_probe_insert_module(module, 0, NULL, NULL, NULL,
					      NULL);
	if (ret < 0 && ret != -EEXIST)
		return ret;
	return driver_of_module(variant->module, variant->driver);
}

static unsigned int count_wildcards(const char *pattern)
{
	unsigned int count = 0;

	for (; *pattern; pattern++)
		count += *pattern == '*';
	return count;
}

/* Takes an alias of @module into @variant if it fits with less than @best. */
static bool improve(struct kmod_module *module, const char *wanted,
		    unsigned int *best, struct variant *variant)
{
	struct kmod_list *info = NULL, *entry;
	bool improved = false;

	if (kmod_module_get_info(module, &info) < 0)
		return false;
	kmod_list_foreach(entry, info) {
		const char *alias = kmod_module_info_get_value(entry);
		unsigned int wildcards = count_wildcards(alias);

		if (strcmp(kmod_module_info_get_key(entry), "alias") ||
		    fnmatch(alias, wanted, 0) || wildcards >= *best)
			continue;
		*best = wildcards;
		snprintf(variant->alias, sizeof(variant->alias), "%s", alias);
		improved = true;
	}
	kmod_module_info_free_list(info);
	return improved;
}

int variant_find(const char *modalias, struct variant *variant)
{
	struct kmod_ctx *ctx = new_context();
	struct kmod_list *list = NULL, *entry;
	struct kmod_module *found = NULL;
	char wanted[PCI_NAME_SIZE + sizeof(PREFIX)];
	unsigned int best = UINT_MAX;
	int ret;

	memset(variant, 0, sizeof(*variant));
	if (!ctx)
		return -ENOMEM;
	if (strncmp(modalias, "pci:", 4)) {
		ret = -EINVAL;
		goto put_ctx;
	}

	snprintf(wanted, sizeof(wanted), PREFIX "%s", modalias + 4);
	ret = kmod_module_new_from_lookup(ctx, wanted, &list);
	if (ret < 0)
		goto put_ctx;

	kmod_list_foreach(entry, list) {
		struct kmod_module *module = kmod_module_get_module(entry);

		if (improve(module, wanted, &best, variant)) {
			kmod_module_unref(found);
			found = kmod_module_ref(module);
		}
		kmod_module_unref(module);
	}
	ret = found ? load(found, variant) : -ENOENT;

	kmod_module_unref(found);
	kmod_module_unref_list(list);
put_ctx:
	kmod_unref(ctx);
	return ret;
}

/* Without the core loaded there would be no holders to look at. */
static void load_core(struct kmod_ctx *ctx)
{
	struct kmod_module *core;

	if (kmod_module_new_from_name(ctx, "vfio_pci_core", &core))
		return;
	kmod_module_probe_insert_module(core, 0, NULL, NULL, NULL, NULL);
	kmod_module_unref(core);
}

/*
 * A driver that an override forces upon a device believes that it knows it, so
 * this has to be seen before.  A VFIO core inside the kernel does not tell.
 */
static bool has_vfio(const char *module)
{
	const char *holders = "/sys/module/vfio_pci_core/holders";
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", holders, module);
	return access(holders, F_OK) || !access(path, F_OK);
}

int variant_take(const char *name, struct variant *variant)
{
	struct kmod_ctx *ctx = new_context();
	struct kmod_module *module;
	int ret;

	memset(variant, 0, sizeof(*variant));
	if (!ctx)
		return -ENOMEM;

	load_core(ctx);
	ret = kmod_module_new_from_name(ctx, name, &module);
	if (!ret) {
		ret = load(module, variant);
		kmod_module_unref(module);
		if (!ret && !has_vfio(variant->module))
			ret = -EXDEV;
	}
	kmod_unref(ctx);
	return ret;
}

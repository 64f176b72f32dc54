// SPDX-License-Identifier: GPL-2.0-only
/* Memory of our modules that nobody refers to any more */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kmemleak.h"
#include "vfio.h"

#define KMEMLEAK	"/sys/kernel/debug/kmemleak"

#define MIN_AGE		6	/* seconds, a bit more than the kernel's */

/* A module's functions have its name behind theirs. */
static int is_ours(const char *object)
{
	return strstr(object, "[qemu_vfio_pci]") ||
	       strstr(object, "[vfio_multifd]");
}

/* Appends an object as a comment of TAP, as far as there is room. */
static void append(char *buf, size_t len, char *object)
{
	char *line, *rest = object;

	while ((line = strsep(&rest, "\n"))) {
		size_t used = strlen(buf);

		if (*line)
			snprintf(buf + used, len - used, "# kmemleak: %s\n",
				 line);
	}
}

/* Return: number of objects that are ours; @buf gets all */
static int collect(FILE *file, char *buf, size_t len)
{
	static const char start[] = "unreferenced object";
	static char object[16384];
	char line[512] = "";
	char *more;
	int ours = 0;

	object[0] = '\0';
	do {
		more = fgets(line, sizeof(line), file);
		if (object[0] &&
		    (!more || !strncmp(line, start, strlen(start)))) {
			ours += is_ours(object);
			append(buf, len, object);
			object[0] = '\0';
		}
		if (more && strlen(object) + strlen(line) < sizeof(object))
			strcat(object, line);
	} while (more);
	return ours;
}

/*
 * Takes some seconds: an object counts when it has a certain age and has not
 * changed since the scan before.
 *
 * Return: how many of the objects that leaked name our modules, or a negative
 * errno, -ENOENT without kmemleak.  @buf gets those of others, too.
 */
int kmemleak_scan(char *buf, size_t len)
{
	FILE *file;
	int ret;

	buf[0] = '\0';
	ret = vfio_write_file(KMEMLEAK, "scan");
	if (ret)
		return ret;
	sleep(MIN_AGE);
	ret = vfio_write_file(KMEMLEAK, "scan");
	if (ret)
		return ret;
	file = fopen(KMEMLEAK, "re");
	if (!file)
		return -errno;
	ret = collect(file, buf, len);
	fclose(file);
	return ret;
}

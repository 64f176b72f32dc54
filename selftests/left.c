// SPDX-License-Identifier: GPL-2.0-only
/*
 * left - what is left of a transfer after some time: sockets of the hosts of netns.sh,
 * references to the modules.  Exits with 1 if there is something, and says what.
 *
 * A socket that nobody has (inode 0) TCP closes by itself, after a cable was cut in its
 * own good time.
 */
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#define PATIENCE	5000	/* ms */
#define POLL		50	/* ms */

static const char * const hosts[] = { "/run/netns/src", "/run/netns/dst" };
static const char * const tables[] = { "/proc/net/tcp", "/proc/net/tcp6" };
static const char * const references[] = {
	"/sys/module/vfio_multifd/refcnt", "/sys/module/qemu_vfio_pci/refcnt",
};

#define N(array)	(sizeof(array) / sizeof((array)[0]))

static FILE *get(const char *path)
{
	FILE *file = fopen(path, "r");

	if (!file)
		err(1, "%s", path);
	return file;
}

static unsigned int count_sockets(const char *path, bool show)
{
	FILE *file = get(path);
	unsigned int count = 0;
	unsigned long inode;
	char line[512];

	/* The heading has no number there. */
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%*s %*s %*s %*s %*s %*s %*s %*s %*s %lu", &inode) != 1 ||
		    !inode)
			continue;
		count++;
		if (show)
			printf("# left: %s", line);
	}
	fclose(file);
	return count;
}

static unsigned int count_references(const char *path, bool show)
{
	FILE *file = get(path);
	unsigned int count;

	if (fscanf(file, "%u", &count) != 1)
		errx(1, "%s: no number", path);
	if (show && count)
		printf("# left: %u of %s\n", count, path);
	fclose(file);
	return count;
}

static unsigned int count_all(const int *netns, bool show)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < N(hosts); i++) {
		if (setns(netns[i], CLONE_NEWNET))
			err(1, "%s", hosts[i]);
		for (unsigned int j = 0; j < N(tables); j++)
			count += count_sockets(tables[j], show);
	}
	for (unsigned int i = 0; i < N(references); i++)
		count += count_references(references[i], show);
	return count;
}

int main(void)
{
	int netns[N(hosts)];

	for (unsigned int i = 0; i < N(hosts); i++) {
		netns[i] = open(hosts[i], O_RDONLY);
		if (netns[i] < 0)
			err(1, "%s", hosts[i]);
	}
	for (unsigned int ms = 0; ms < PATIENCE; ms += POLL) {
		if (!count_all(netns, false))
			return 0;
		usleep(POLL * 1000);
	}
	return !!count_all(netns, true);
}

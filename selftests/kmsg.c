// SPDX-License-Identifier: GPL-2.0-only
/* The kernel's messages, from a point in time on */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kmsg.h"

/* Messages from now on, or a negative errno */
int kmsg_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (lseek(fd, 0, SEEK_END) < 0) {
		close(fd);
		return -errno;
	}
	return fd;
}

/*
 * Is there a message that names @who and says @what?  What comes before it is
 * printed and consumed.
 */
bool kmsg_find(int fd, const char *who, const char *what)
{
	char text[8192], *start, *end;
	ssize_t len;

	for (;;) {
		len = read(fd, text, sizeof(text) - 1);
		if (len < 0 && errno == EPIPE)	/* overwritten: go on */
			continue;
		if (len <= 0)
			return false;
		text[len] = '\0';
		start = strchr(text, ';');
		if (!start)
			continue;
		end = strchr(start, '\n');
		if (end)
			*end = '\0';
		if (strstr(start, who) && strstr(start, what))
			return true;
		fprintf(stderr, "# kernel: %s\n", start + 1);
	}
}

// SPDX-License-Identifier: GPL-2.0-only
/* Let the Nth allocation, or copy from or to user memory, of a thread fail */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fail_nth.h"

#define EACH	200	/* up to here every n, then in strides */
#define MOST	100000	/* no sweep comes here */

static __thread int fail_fd = -1;

/*
 * Without these, what may sleep never fails.  The messages go: they have a
 * stack, and there would be thousands.  As the probability stays 0 all this is
 * for tasks with an N of their own.
 */
static const struct {
	const char *name;
	const char *value;
} settings[] = {
	{ "failslab/ignore-gfp-wait", "N" },
	{ "failslab/verbose", "0" },
	{ "fail_page_alloc/ignore-gfp-wait", "N" },
	{ "fail_page_alloc/ignore-gfp-highmem", "N" },
	{ "fail_page_alloc/min-order", "0" },
	{ "fail_page_alloc/verbose", "0" },
	{ "fail_usercopy/verbose", "0" },
};

static bool set_up(void)
{
	bool good = true;

	for (unsigned int i = 0; i < sizeof(settings) / sizeof(settings[0]);
	     i++) {
		char path[128];
		int fd;

		snprintf(path, sizeof(path), "/sys/kernel/debug/%s",
			 settings[i].name);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		good &= write(fd, settings[i].value, 1) == 1;
		close(fd);
	}
	return good;
}

/*
 * For main(): true after having said that the whole program is skipped.
 */
bool fail_nth_skip(void)
{
	if (!access("/proc/thread-self/fail-nth", W_OK) && set_up())
		return false;
	printf("TAP version 13\n1..0 # SKIP this kernel injects no faults\n");
	return true;
}

/* Return: whether to do it once more, with another n */
bool fail_nth_next(struct fail_nth *sweep)
{
	unsigned int patience = sweep->patience ? sweep->patience : 1;

	if (sweep->most && sweep->n >= sweep->most) {
		sweep->fired = false;
		return false;
	}
	sweep->quiet = sweep->n && !sweep->fired ? sweep->quiet + 1 : 0;
	if (sweep->quiet >= patience || sweep->n > MOST)
		return false;
	sweep->n += sweep->n < EACH ? 1 : sweep->n / 8;
	sweep->runs++;
	return true;
}

static void set(const char *text)
{
	/* This itself can be what fails, but not again. */
	for (unsigned int tries = 0; tries < 2; tries++)
		if (pwrite(fail_fd, text, strlen(text), 0) > 0)
			return;
	abort();
}

/* For the calling thread, from here to fail_nth_disarm() */
void fail_nth_arm(const struct fail_nth *sweep)
{
	char text[16];

	fail_fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (fail_fd < 0)
		abort();
	snprintf(text, sizeof(text), "%u", sweep->n);
	set(text);
}

void fail_nth_disarm(struct fail_nth *sweep)
{
	char text[16] = "";
	ssize_t len = pread(fail_fd, text, sizeof(text) - 1, 0);

	/* If it was this call that failed, or is the next, it was none before */
	sweep->fired = len > 0 && !strcmp(text, "0\n");
	set("0");
	close(fail_fd);
	fail_fd = -1;
}

/* Whether it is what a call may say whose memory or copy failed */
bool fail_nth_clean(int err)
{
	return err == -ENOMEM || err == -EFAULT;
}

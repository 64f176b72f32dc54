// SPDX-License-Identifier: GPL-2.0-only
/* Let the Nth allocation, or copy from or to user memory, of a thread fail */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fail_nth.h"
#include "kselftest.h"

#define DEBUGFS		"/sys/kernel/debug"
#define FAIL_NTH	"/proc/thread-self/fail-nth"

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

/* Where a function of the kernel begins, and the next one: its end */
static bool find_function(const char *name, uint64_t *start, uint64_t *end)
{
	FILE *file = fopen("/proc/kallsyms", "re");
	char line[256], symbol[128];
	uint64_t at;

	*start = 0;
	*end = UINT64_MAX;
	for (int pass = 0; file && pass < 2; pass++) {
		rewind(file);
		while (fgets(line, sizeof(line), file)) {
			if (sscanf(line, "%" SCNx64 " %*c %127s", &at,
				   symbol) != 2)
				continue;
			if (!pass && !strcmp(symbol, name))
				*start = at;
			if (pass && at > *start && at < *end)
				*end = at;
		}
	}
	if (file)
		fclose(file);
	return *start && *end != UINT64_MAX;
}

static bool write_number(const char *name, uint64_t number)
{
	char path[128], text[32];
	bool good;
	int fd;

	snprintf(path, sizeof(path), DEBUGFS "/%s", name);
	snprintf(text, sizeof(text), "%#" PRIx64 "\n", number);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	good = fd >= 0 && write(fd, text, strlen(text)) > 0;
	if (fd >= 0)
		close(fd);
	return good;
}

/* No memory fails for @function, nor for what it calls; NULL: for none. */
bool fail_nth_spare(const char *function)
{
	uint64_t start = 0, end = 0;

	if (function && !find_function(function, &start, &end))
		return false;
	return write_number("failslab/reject-start", start) &&
	       write_number("failslab/reject-end", end) &&
	       write_number("fail_page_alloc/reject-start", start) &&
	       write_number("fail_page_alloc/reject-end", end);
}

static int set_up(void)
{
	for (unsigned int i = 0; i < sizeof(settings) / sizeof(settings[0]);
	     i++) {
		ssize_t done = -1;
		char path[128];
		int fd;

		snprintf(path, sizeof(path), DEBUGFS "/%s", settings[i].name);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd >= 0) {
			done = write(fd, settings[i].value, 1);
			close(fd);
		}
		if (done < 0) {
			printf("Bail out! %s: %s\n", path, strerror(errno));
			return KSFT_FAIL;
		}
	}
	if (!fail_nth_spare(NULL)) {
		printf("Bail out! " DEBUGFS "/failslab/reject-start: %s\n",
		       strerror(errno));
		return KSFT_FAIL;
	}
	return KSFT_PASS;
}

/*
 * For main(): KSFT_PASS, or the program's status after having said why there
 * are no tests.  A kernel that can do it but does not is no reason to skip.
 */
int fail_nth_begin(void)
{
	if (access(FAIL_NTH, F_OK) && errno == ENOENT) {
		printf("TAP version 13\n"
		       "1..0 # SKIP this kernel injects no faults\n");
		return KSFT_SKIP;
	}
	return set_up();
}

/* Return: whether to do it once more, with another n */
bool fail_nth_next(struct fail_nth *sweep)
{
	bool is_over = sweep->most ? sweep->n >= sweep->most :
				     sweep->n && !sweep->fired;

	if (is_over || sweep->n > MOST)
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

	fail_fd = open(FAIL_NTH, O_RDWR | O_CLOEXEC);
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
	sweep->fires += sweep->fired;
	set("0");
	close(fail_fd);
	fail_fd = -1;
}

/* Whether it is what a call may say whose memory or copy failed */
bool fail_nth_clean(int err)
{
	return err == -ENOMEM || err == -EFAULT;
}

// SPDX-License-Identifier: GPL-2.0-only
/* The helper vfio-multifd as the VMM sees it: a child and some pipes */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper.h"

#define ARGUMENTS	(2 * GUEST_MAX_DEVICES + 64)
#define CONFIG_PIPE	(128 << 10)	/* more than the largest config state */

/* The helper's end of every pipe, which only the helper keeps */
struct ends {
	int events;
	int trigger;
	int config[GUEST_MAX_DEVICES];
};

/* @mine and @theirs get the ends of a pipe on which the helper @writes */
static int make_pipe(int *mine, int *theirs, bool writes)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	*mine = fds[writes ? 0 : 1];
	*theirs = fds[writes ? 1 : 0];
	return 0;
}

/* Does it tell events?  Only then it waits for a trigger, too. */
bool helper_talks(const char *verb, char **arguments)
{
	if (!strcmp(verb, "save"))
		while (*arguments)
			if (!strcmp(*arguments++, "--live"))
				return true;
	return strcmp(verb, "save") && strcmp(verb, "restore");
}

static int make_pipes(struct helper *helper, struct ends *ends,
		      unsigned int devices, const char *verb, bool talks)
{
	bool send = strcmp(verb, "recv");
	int events = -1, ret;

	ret = make_pipe(&events, &ends->events, true);
	if (ret)
		return ret;
	helper->events = fdopen(events, "r");
	if (!helper->events)
		return -errno;
	ends->trigger = -1;
	if (talks && (!strcmp(verb, "send") || !strcmp(verb, "save"))) {
		ret = make_pipe(&helper->trigger, &ends->trigger, false);
		if (ret)
			return ret;
	}
	for (unsigned int i = 0; i < devices; i++) {
		ret = make_pipe(&helper->config[i], &ends->config[i], !send);
		if (ret)
			return ret;
		if (fcntl(helper->config[i], F_SETPIPE_SZ, CONFIG_PIPE) < 0)
			return -errno;
	}
	return 0;
}

static void inherit(int fd)
{
	fcntl(fd, F_SETFD, 0);
}

/* Becomes the helper; runs in the child */
static void exec_helper(struct guest *guest, const struct ends *ends,
			const char *verb, const char *program,
			char **arguments)
{
	char text[GUEST_MAX_DEVICES + 2][128], config[32], *argv[ARGUMENTS];
	bool file = !strcmp(verb, "restore") || !strcmp(verb, "save");
	bool talks = helper_talks(verb, arguments);
	unsigned int argc = 0, used = 0;

	/* without the VMM nobody owns the devices */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_DFL);
	argv[argc++] = (char *)program;
	argv[argc++] = (char *)verb;
	while (*arguments && argc < ARGUMENTS / 2)
		argv[argc++] = *arguments++;
	for (unsigned int i = 0; i < guest->count; i++) {
		struct guest_device *device = &guest->device[i];

		snprintf(config, sizeof(config), ",config-fd=%d",
			 ends->config[i]);
		snprintf(text[used], sizeof(text[used]),
			 "--device-fd=%d,idstr=%s%s%s%s", device->vfio.fd,
			 device->name, file ? "" : config,
			 device->options ? "," : "",
			 device->options ? device->options : "");
		argv[argc++] = text[used++];
		inherit(device->vfio.fd);
		inherit(ends->config[i]);
	}
	if (talks) {
		snprintf(text[used], sizeof(text[used]), "--event-fd=%d",
			 ends->events);
		argv[argc++] = text[used++];
		inherit(ends->events);
	}
	if (ends->trigger >= 0) {
		snprintf(text[used], sizeof(text[used]), "--trigger-fd=%d",
			 ends->trigger);
		argv[argc++] = text[used];
		inherit(ends->trigger);
	}
	argv[argc] = NULL;
	execvp(program, argv);
	fprintf(stderr, "%s: %s\n", program, strerror(errno));
	_exit(1);
}

/* @arguments go to the helper as they are */
int helper_start(struct helper *helper, struct guest *guest, const char *verb,
		 const char *program, char **arguments)
{
	struct ends ends;
	int ret;

	helper->trigger = -1;
	ret = make_pipes(helper, &ends, guest->count, verb,
			 helper_talks(verb, arguments));
	if (ret)
		return ret;
	fflush(stdout);
	helper->pid = fork();
	if (helper->pid < 0)
		return -errno;
	if (!helper->pid)
		exec_helper(guest, &ends, verb, program, arguments);
	close(ends.events);
	if (ends.trigger >= 0)
		close(ends.trigger);
	for (unsigned int i = 0; i < guest->count; i++)
		close(ends.config[i]);
	return 0;
}

/* Nobody reads events any more, though the VMM lives. */
void helper_ignore(struct helper *helper)
{
	fclose(helper->events);
	helper->events = NULL;
}

/* Waits for an event; false when no more will come: the helper is gone */
bool helper_event(struct helper *helper, char *line, size_t size)
{
	if (!helper->events || !fgets(line, size, helper->events))
		return false;
	line[strcspn(line, "\n")] = '\0';
	return true;
}

int helper_trigger(struct helper *helper)
{
	return write(helper->trigger, "", 1) == 1 ? 0 : -errno;
}

/* The pipe holds the whole config state, so this never waits */
int helper_give_config(struct helper *helper, unsigned int device,
		       const void *blob, size_t len)
{
	ssize_t done = write(helper->config[device], blob, len);

	close(helper->config[device]);
	return done == (ssize_t)len ? 0 : -EIO;
}

ssize_t helper_take_config(struct helper *helper, unsigned int device,
			   void *blob, size_t room)
{
	ssize_t done, len = 0;

	while ((done = read(helper->config[device], blob + len, room - len)) > 0)
		len += done;
	return done < 0 ? -errno : len;
}

/* The exit status, or a negative signal number */
int helper_wait(struct helper *helper)
{
	int status;

	while (waitpid(helper->pid, &status, 0) < 0)
		if (errno != EINTR)
			return -SIGKILL;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

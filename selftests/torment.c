// SPDX-License-Identifier: GPL-2.0-only
/* Stops and continues, freezes and thaws, or signals processes until they end */
#include <err.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "race.h"
#include "vfio.h"

static const char usage[] =
"usage: torment stop|freeze|storm GROUP FILE...\n"
"\n"
"Waits for the line \"helper PID\" in each file, does this to the processes until\n"
"all have ended, and tries to unload the engine meanwhile.  GROUP is a directory\n"
"of cgroup v2.\n";

#define MAX_PIDS	8

static pid_t pids[MAX_PIDS];
static int pidfds[MAX_PIDS];
static unsigned int count;
static int freezer;
static uint64_t dice;

/* A moment, of up to so many microseconds */
static void rest(unsigned int most)
{
	usleep(vfio_random(&dice) % most);
}

static void signal_all(int sig)
{
	for (unsigned int i = 0; i < count; i++)
		syscall(SYS_pidfd_send_signal, pidfds[i], sig, NULL, 0);
}

static void stop(void)
{
	signal_all(SIGSTOP);
	rest(20000);
	signal_all(SIGCONT);
	rest(20000);
}

static void freeze(void)
{
	if (write(freezer, "1", 1) != 1)
		err(1, "cgroup.freeze");
	rest(20000);
	if (write(freezer, "0", 1) != 1)
		err(1, "cgroup.freeze");
	rest(20000);
}

/* None of them ends a process. */
static void storm(void)
{
	static const int sigs[] = {
		SIGWINCH, SIGURG, SIGCHLD, SIGTSTP, SIGTTIN, SIGTTOU, SIGSTOP,
	};

	for (unsigned int i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++) {
		signal_all(sigs[i]);
		signal_all(SIGCONT);
	}
	rest(1000);
}

/* The process that a VMM's output tells of, once it does */
static pid_t wait_for_pid(const char *path)
{
	char line[256];
	FILE *file;
	int pid;

	for (unsigned int ms = 0; ms < 60000; ms++) {
		file = fopen(path, "re");
		while (file && fgets(line, sizeof(line), file))
			if (sscanf(line, "helper %d\n", &pid) == 1) {
				fclose(file);
				return pid;
			}
		if (file)
			fclose(file);
		usleep(1000);
	}
	errx(1, "no helper in %s", path);
}

static void join_group(const char *group)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", group);
	fd = open(path, O_WRONLY);
	for (unsigned int i = 0; i < count; i++)
		if (dprintf(fd, "%d", pids[i]) < 0)
			err(1, "%s", path);
	close(fd);
	snprintf(path, sizeof(path), "%s/cgroup.freeze", group);
	freezer = open(path, O_WRONLY);
	if (freezer < 0)
		err(1, "%s", path);
}

static bool all_ended(void)
{
	struct pollfd pollfds[MAX_PIDS];

	for (unsigned int i = 0; i < count; i++)
		pollfds[i] = (struct pollfd) { pidfds[i], POLLIN, 0 };
	return poll(pollfds, count, 0) == (int)count;
}

int main(int argc, char **argv)
{
	const char *way = argc > 3 ? argv[1] : "";
	void (*act)(void) = !strcmp(way, "stop") ? stop :
			    !strcmp(way, "freeze") ? freeze :
			    !strcmp(way, "storm") ? storm : NULL;
	unsigned int times = 0;
	struct race race;
	const char *left;

	if (!act || argc - 3 > MAX_PIDS) {
		fputs(usage, stderr);
		return 1;
	}
	for (; (int)count < argc - 3; count++) {
		pids[count] = wait_for_pid(argv[3 + count]);
		pidfds[count] = syscall(SYS_pidfd_open, pids[count], 0);
		if (pidfds[count] < 0)
			err(1, "process %d", pids[count]);
	}
	join_group(argv[2]);
	race_begin(&race, false);
	for (; !all_ended(); times++)
		act();
	left = race_stop(&race);
	printf("# %u times, %u attempts to unload\n", times, race.tries);
	if (left)
		errx(1, "%s", left);
	return !times;
}

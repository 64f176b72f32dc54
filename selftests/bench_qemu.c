// SPDX-License-Identifier: GPL-2.0-only
/*
 * bench_qemu SOURCE DESTINATION PID PID URI - one run of the benchmark, by two QEMUs
 *
 * SOURCE and DESTINATION are their QMP sockets, the PIDs are theirs in that order; both
 * are paused and have been told what they need to know.  Prints what bench does:
 *
 *  - the time begins with the first arc to STOP_COPY, as the driver traces it, and
 *    ends when the destination's migration is completed, to which RESUMING to STOP is
 *    added, since a paused QEMU does that at "cont" only;
 *  - CPU time is counted from the source's migration status "device", with which it
 *    turns to stop and copy, to that end;
 *  - memory is by how much the resident memory of each grew at most.
 */
#include <err.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define TRACING		"/sys/kernel/tracing/instances/bench/"
#define PATIENCE	120	/* seconds */

enum { SRC, DST };

static FILE *qmp[2];

static void tracing(const char *file, const char *text)
{
	char path[128];
	FILE *out;

	snprintf(path, sizeof(path), TRACING "%s", file);
	out = fopen(path, "we");
	if (!out || fputs(text, out) < 0 || fclose(out))
		err(1, "%s", path);
}

static FILE *connect_qmp(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		err(1, "%s", path);
	return fdopen(fd, "r");
}

static void get_line(unsigned int side, char *line, size_t size)
{
	if (!fgets(line, size, qmp[side]))
		errx(1, "QEMU %u has gone", side);
	if (!strncmp(line, "{\"error\"", 8))
		errx(1, "%s", line);
}

/* Events that come before the answer are of no interest. */
static void ask(unsigned int side, const char *command)
{
	char line[4096];

	dprintf(fileno(qmp[side]), "%s\n", command);
	do {
		get_line(side, line, sizeof(line));
	} while (strncmp(line, "{\"return\"", 9));
}

/* Returns when, in milliseconds of CLOCK_MONOTONIC, that event happened */
static double wait_for(unsigned int side, const char *event)
{
	unsigned long long seconds, microseconds;
	struct timespec real;
	const char *stamp;
	char line[4096];

	do {
		get_line(side, line, sizeof(line));
		if (strstr(line, "\"status\": \"failed\""))
			errx(1, "QEMU's migration failed");
	} while (!strstr(line, event));
	stamp = strstr(line, "\"seconds\"");
	if (!stamp || sscanf(stamp, "\"seconds\": %llu, \"microseconds\": %llu",
			     &seconds, &microseconds) != 2)
		errx(1, "no time in %s", line);
	clock_gettime(CLOCK_REALTIME, &real);
	return bench_now() - (real.tv_sec * 1e3 + real.tv_nsec / 1e6) +
	       seconds * 1e3 + microseconds / 1e3;
}

static unsigned long resident(const char *pid, const char *which)
{
	char path[64], line[256];
	unsigned long kib = 0;
	FILE *status;

	snprintf(path, sizeof(path), "/proc/%s/status", pid);
	status = fopen(path, "re");
	if (!status)
		err(1, "%s", path);
	while (!kib && fgets(line, sizeof(line), status))
		if (!strncmp(line, which, strlen(which)))
			kib = strtoul(line + strlen(which) + 1, NULL, 10);
	fclose(status);
	return kib;
}

/* What it needed to start does not count. */
static void forget_peak(const char *pid)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%s/clear_refs", pid);
	file = fopen(path, "we");
	if (!file || fputs("5", file) < 0 || fclose(file))
		err(1, "%s", path);
}

/*
 * Looks for the arcs to one state: when the first of them began, or 0 for none, and how
 * many milliseconds they took.
 */
static double find_arcs(const char *to, double *all)
{
	double when, begin = 0;
	unsigned long long ns;
	FILE *trace = fopen(TRACING "trace", "re");
	char line[512], *at;

	if (!trace)
		err(1, "%s", TRACING "trace");
	*all = 0;
	while (fgets(line, sizeof(line), trace)) {
		at = strstr(line, ": qvp_arc:");
		if (!at || !strstr(at, to))
			continue;
		if (!strstr(at, " ret=0 "))
			errx(1, "an arc failed: %s", line);
		while (at > line && at[-1] != ' ')
			at--;
		when = strtod(at, NULL) * 1e3;
		ns = strtoull(strstr(at, " ns=") + 4, NULL, 10);
		if (!begin)
			begin = when - ns / 1e6;
		*all += ns / 1e6;
	}
	fclose(trace);
	return begin;
}

int main(int argc, char **argv)
{
	double begin, end, cpu, stop, load;
	unsigned long memory[2];
	char command[512];

	if (argc != 6)
		errx(1, "usage: bench_qemu SOURCE DESTINATION PID PID URI");
	alarm(PATIENCE);
	tracing("trace_clock", "mono");
	tracing("events/qemu_vfio_pci/qvp_arc/enable", "1");
	tracing("trace", "");
	for (unsigned int side = SRC; side <= DST; side++) {
		qmp[side] = connect_qmp(argv[1 + side]);
		ask(side, "{\"execute\": \"qmp_capabilities\"}");
		forget_peak(argv[3 + side]);
		memory[side] = resident(argv[3 + side], "VmRSS");
	}
	snprintf(command, sizeof(command),
		 "{\"execute\": \"migrate-incoming\", \"arguments\": {\"uri\": \"%s\"}}", argv[5]);
	ask(DST, command);
	snprintf(command, sizeof(command),
		 "{\"execute\": \"migrate\", \"arguments\": {\"uri\": \"%s\"}}", argv[5]);
	ask(SRC, command);

	wait_for(SRC, "\"status\": \"device\"");
	cpu = bench_cpu();
	end = wait_for(DST, "\"status\": \"completed\"");
	cpu = bench_cpu() - cpu;
	for (unsigned int side = SRC; side <= DST; side++)
		memory[side] = resident(argv[3 + side], "VmHWM") - memory[side];
	wait_for(SRC, "\"status\": \"completed\"");
	ask(DST, "{\"execute\": \"cont\"}");

	begin = find_arcs(" to=STOP_COPY ", &stop);
	if (!begin || find_arcs(" to=PRE_COPY ", &load) ||
	    !find_arcs(" from=RESUMING to=STOP ", &load))
		errx(1, "the devices were not in the states that they should be in");
	printf("%.1f %.0f %.1f %.1f %.1f %lu %lu\n", end - begin + load, cpu, stop,
	       end - begin - stop, load, memory[DST], memory[SRC]);
	return 0;
}

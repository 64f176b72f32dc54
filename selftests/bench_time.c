// SPDX-License-Identifier: GPL-2.0-only
#include <err.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

double bench_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e3 + ts.tv_nsec / 1e6;
}

double bench_cpu(void)
{
	unsigned long long user, nice, system, irq, softirq, steal;
	FILE *file = fopen("/proc/stat", "re");

	if (!file || fscanf(file, "cpu %llu %llu %llu %*u %*u %llu %llu %llu",
			    &user, &nice, &system, &irq, &softirq, &steal) != 6)
		errx(1, "/proc/stat cannot be read");
	fclose(file);
	return (user + nice + system + irq + softirq + steal) * 1e3 /
	       sysconf(_SC_CLK_TCK);
}

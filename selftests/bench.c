// SPDX-License-Identifier: GPL-2.0-only
/*
 * bench CONTENDER SEED SOURCE DESTINATION ADDRESS - one run of the benchmark
 *
 * Moves the state of the first ivshmem of 256 MiB to the second one, from one
 * network namespace to the other, over connections to ADDRESS, and prints
 * milliseconds: from the request to stop and copy until the state is loaded;
 * CPU time that the whole machine spent on it; the three steps of the first,
 * which are to stop, to stream, and to end the load.
 */
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <linux/vfio_multifd.h>

#include "bench.h"
#include "testing.h"
#include "xxh64.h"

static const struct {
	const char *name;
	const struct bench_contender *contender;
	uint64_t features;
} contenders[] = {
	/* what two helpers agree on by themselves */
	{ "kernel", &bench_kernel, VFIO_MULTIFD_FEATURE_DIGEST |
				   VFIO_MULTIFD_FEATURE_ORDER_FREE },
	/* the same work as that of the others, which have no digest */
	{ "kernel-plain", &bench_kernel, VFIO_MULTIFD_FEATURE_ORDER_FREE },
	{ "user", &bench_user, 0 },
};

static const struct bench_contender *contender;

static uint64_t choose(const char *name)
{
	for (size_t i = 0; i < sizeof(contenders) / sizeof(*contenders); i++) {
		if (strcmp(contenders[i].name, name))
			continue;
		contender = contenders[i].contender;
		return contenders[i].features;
	}
	errx(1, "%s: no such contender", name);
}

static void *run(void *number)
{
	unsigned int n = (uintptr_t)number;

	if (n < BENCH_CHANNELS)
		contender->send(n);
	else
		contender->receive(n - BENCH_CHANNELS);
	return NULL;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e3 + ts.tv_nsec / 1e6;
}

/* For how long the CPUs of this machine were not idle */
static double cpu_time(void)
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

/* From now on new sockets of this thread belong to the network namespace */
static void enter(const char *netns)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/%s", netns);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		err(1, "%s", path);
	close(fd);
}

static int make_socket(void)
{
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	if (sock < 0 || setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on,
				   sizeof(on)))
		err(1, "socket");
	return sock;
}

static void connect_channels(struct bench *bench, const char *source,
			     const char *destination, const char *address)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	struct sockaddr *any = (struct sockaddr *)&addr;
	socklen_t len = sizeof(addr);
	int listener;

	if (inet_pton(AF_INET, address, &addr.sin_addr) != 1)
		errx(1, "%s: no IPv4 address", address);
	enter(destination);
	listener = make_socket();
	if (bind(listener, any, len) || listen(listener, BENCH_CHANNELS) ||
	    getsockname(listener, any, &len))
		err(1, "listen");
	enter(source);
	for (unsigned int i = 0; i < BENCH_CHANNELS; i++) {
		bench->sent[i] = make_socket();
		if (connect(bench->sent[i], any, len))
			err(1, "connect");
		bench->received[i] = accept(listener, NULL, NULL);
		if (bench->received[i] < 0)
			err(1, "accept");
	}
}

static void open_device(struct vfio_device *dev, unsigned int nth)
{
	const char *why = testing_open(dev, &vfio_ivshmem_256m, nth);

	if (why)
		errx(1, "%s", why);
}

static void set_state(struct vfio_device *dev, uint32_t state, int *data_fd)
{
	int ret = vfio_mig_set_state(dev, state, data_fd);

	if (ret)
		errx(1, "%s: not in %s: %s", dev->bdf,
		     vfio_mig_state_name(state), strerror(-ret));
}

int main(int argc, char **argv)
{
	double start, stopped, streamed, loaded, cpu;
	struct vfio_device source, destination;
	pthread_t threads[2 * BENCH_CHANNELS];
	struct bench bench;
	uintptr_t n;
	int save_fd;

	if (argc != 6)
		errx(1, "usage: bench CONTENDER SEED SOURCE DESTINATION ADDRESS");
	bench.features = choose(argv[1]);
	open_device(&source, 0);
	open_device(&destination, 1);
	vfio_fill(source.map, source.size, strtoull(argv[2], NULL, 0));
	connect_channels(&bench, argv[3], argv[4], argv[5]);
	set_state(&destination, VFIO_DEVICE_STATE_RESUMING, &bench.load_fd);
	contender->prepare(&bench);
	for (n = 0; n < 2 * BENCH_CHANNELS; n++)
		if (pthread_create(&threads[n], NULL, run, (void *)n))
			errx(1, "cannot start a thread");
	usleep(100000);	/* the threads have their buffers, and wait */

	cpu = cpu_time();
	start = now();
	set_state(&source, VFIO_DEVICE_STATE_STOP_COPY, &save_fd);
	stopped = now();
	contender->go(save_fd);
	for (n = 0; n < 2 * BENCH_CHANNELS; n++)
		pthread_join(threads[n], NULL);
	streamed = now();
	set_state(&destination, VFIO_DEVICE_STATE_STOP, NULL);
	loaded = now();
	cpu = cpu_time() - cpu;

	/* Every run has its own seed: an earlier one's data does not do */
	if (xxh64(source.map, source.size) !=
	    xxh64(destination.map, destination.size))
		errx(1, "%s loaded something else than was saved", argv[1]);
	printf("%.1f %.0f %.1f %.1f %.1f\n", loaded - start, cpu,
	       stopped - start, streamed - stopped, loaded - streamed);
	return 0;
}

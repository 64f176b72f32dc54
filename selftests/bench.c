// SPDX-License-Identifier: GPL-2.0-only
/*
 * bench CONTENDER CHANNELS CONTENT SEED SOURCE DESTINATION ADDRESS DEVICE... - one
 * run of the benchmark
 *
 * Moves the state of every second DEVICE to the one that follows it, from one
 * network namespace to the other, over connections to ADDRESS.  Prints milliseconds:
 * from the request to stop and copy until the state is loaded; CPU time that the whole
 * machine spent on it; the three steps of the first, which are to stop, to stream, and
 * to end the load; and KiB of memory for data at the destination and at the source.
 */
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "vfio.h"
#include "xxh64.h"

static const struct {
	const char *name;
	const struct bench_contender *contender;
	uint64_t features;
} contenders[] = {
	{ "kernel", &bench_kernel, VFIO_MULTIFD_FEATURE_DIGEST |
				   VFIO_MULTIFD_FEATURE_ORDER_FREE },
	/* whose connections can be replaced */
	{ "kernel-replace", &bench_kernel, VFIO_MULTIFD_FEATURE_DIGEST |
					   VFIO_MULTIFD_FEATURE_ORDER_FREE |
					   VFIO_MULTIFD_FEATURE_REPLACE },
	/* one reader, and loads in turn: a stream that began in pre-copy */
	{ "kernel-ordered", &bench_kernel, VFIO_MULTIFD_FEATURE_DIGEST },
	/* the others have no digest */
	{ "kernel-plain", &bench_kernel, VFIO_MULTIFD_FEATURE_ORDER_FREE },
	{ "user", &bench_user, 0 },
	/* a limit */
	{ "copy", &bench_copy, 0 },
};

/* In parts of 64 KiB: what a device has that uses half of its memory */
#define PART	0x10000

enum content { FULL, HALF, ZERO };

static const char * const content_names[] = { "full", "half", "zero" };

struct pair {
	struct vfio_device source, destination;
};

static const struct bench_contender *choose(const char *name, uint64_t *features)
{
	for (size_t i = 0; i < sizeof(contenders) / sizeof(*contenders); i++) {
		if (strcmp(contenders[i].name, name))
			continue;
		*features = contenders[i].features;
		return contenders[i].contender;
	}
	errx(1, "%s: no such contender", name);
}

static enum content find_content(const char *name)
{
	for (enum content i = FULL; i <= ZERO; i++)
		if (!strcmp(content_names[i], name))
			return i;
	errx(1, "%s: no such content", name);
}

static unsigned int number(const char *text, unsigned int max)
{
	unsigned long n = strtoul(text, NULL, 0);

	if (!n || n > max)
		errx(1, "%s: not a number up to %u", text, max);
	return n;
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
	if (bind(listener, any, len) || listen(listener, bench->channels) ||
	    getsockname(listener, any, &len))
		err(1, "listen");
	enter(source);
	for (unsigned int i = 0; i < bench->channels; i++) {
		bench->sent[i] = make_socket();
		if (connect(bench->sent[i], any, len))
			err(1, "connect");
		bench->received[i] = accept(listener, NULL, NULL);
		if (bench->received[i] < 0)
			err(1, "accept");
	}
}

static void open_device(struct vfio_device *dev, const char *bdf)
{
	struct vfio_container container;
	int ret = vfio_container_open(&container);

	if (!ret)
		ret = vfio_device_open(dev, &container, bdf);
	if (ret || !dev->map)
		errx(1, "%s does not open: %s", bdf, strerror(-ret));
}

static void set_state(struct vfio_device *dev, uint32_t state, int *data_fd)
{
	int ret = vfio_mig_set_state(dev, state, data_fd);

	if (ret)
		errx(1, "%s: not in %s: %s", dev->bdf,
		     vfio_mig_state_name(state), strerror(-ret));
}

/* Every run has its own seed: an earlier one's data does not do. */
static void fill(struct vfio_device *dev, enum content content, uint64_t seed)
{
	uint64_t at;

	if (content == FULL)
		return vfio_fill(dev->map, dev->size, seed);
	memset(dev->map, 0, dev->size);
	for (at = 0; content == HALF && at < dev->size; at += 2 * PART)
		vfio_fill(dev->map + at, PART, seed + at);
}

static void check(const struct pair *pair, const char *name)
{
	if (pair->source.size != pair->destination.size ||
	    xxh64(pair->source.map, pair->source.size) !=
	    xxh64(pair->destination.map, pair->destination.size))
		errx(1, "%s loaded something else than was saved", name);
}

static void run(const struct bench_contender *contender,
		const struct bench *bench, struct pair *pairs)
{
	double start, before, stop = 0, streamed, loaded, cpu;
	int save_fd;

	cpu = bench_cpu();
	start = bench_now();
	for (unsigned int i = 0; i < bench->devices; i++) {
		before = bench_now();
		set_state(&pairs[i].source, VFIO_DEVICE_STATE_STOP_COPY, &save_fd);
		stop += bench_now() - before;
		contender->add(i, save_fd);
	}
	contender->finish();
	streamed = bench_now();
	for (unsigned int i = 0; contender->memory && i < bench->devices; i++)
		set_state(&pairs[i].destination, VFIO_DEVICE_STATE_STOP, NULL);
	loaded = bench_now();
	cpu = bench_cpu() - cpu;
	printf("%.1f %.0f %.1f %.1f %.1f ", loaded - start, cpu, stop,
	       streamed - start - stop, loaded - streamed);
	if (contender->memory)
		printf("%ju %ju\n", (uintmax_t)contender->memory(false) / 1024,
		       (uintmax_t)contender->memory(true) / 1024);
	else
		printf("- -\n");
}

int main(int argc, char **argv)
{
	const struct bench_contender *contender;
	struct pair pairs[BENCH_DEVICES] = {};
	struct bench bench = {};
	enum content content;

	if (argc < 10 || argc > 8 + 2 * BENCH_DEVICES || argc % 2)
		errx(1, "usage: bench CONTENDER CHANNELS CONTENT SEED SRC DST ADDRESS DEVICE...");
	contender = choose(argv[1], &bench.features);
	bench.channels = number(argv[2], VFIO_MULTIFD_MAX_CHANNELS);
	content = find_content(argv[3]);
	bench.devices = (argc - 8) / 2;
	connect_channels(&bench, argv[5], argv[6], argv[7]);
	for (unsigned int i = 0; i < bench.devices; i++) {
		open_device(&pairs[i].source, argv[8 + 2 * i]);
		open_device(&pairs[i].destination, argv[9 + 2 * i]);
		fill(&pairs[i].source, content, strtoull(argv[4], NULL, 0) + i);
		set_state(&pairs[i].destination, VFIO_DEVICE_STATE_RESUMING,
			  &bench.load_fd[i]);
	}
	contender->prepare(&bench);
	usleep(100000);	/* the threads have their buffers, and wait */
	run(contender, &bench, pairs);
	for (unsigned int i = 0; contender->memory && i < bench.devices; i++)
		check(&pairs[i], argv[1]);
	return 0;
}

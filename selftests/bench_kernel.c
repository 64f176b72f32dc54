// SPDX-License-Identifier: GPL-2.0-only
/* The contender that this is all about: the engine at both ends */
#include <err.h>
#include <string.h>

#include "bench.h"
#include "engine.h"

static int sender, receiver;	/* the transfers */

static int check(int ret, const char *what)
{
	if (ret < 0)
		errx(1, "%s: %s", what, strerror(-ret));
	return ret;
}

static int begin(uint32_t role, uint64_t features, const int *sockets)
{
	int fd = check(engine_open(), ENGINE_PATH);

	check(engine_setup(fd, role, BENCH_CHANNELS, features, BENCH_PACKET),
	      "SETUP");
	for (unsigned int i = 0; i < BENCH_CHANNELS; i++)
		check(engine_add_channel(fd, sockets[i], i), "ADD_CHANNEL");
	return fd;
}

static void prepare(const struct bench *bench)
{
	sender = begin(VFIO_MULTIFD_SEND, bench->features, bench->sent);
	receiver = begin(VFIO_MULTIFD_RECV, bench->features, bench->received);
	check(engine_add_device(receiver, bench->load_fd, "vfio0", 0),
	      "ADD_DEVICE at the destination");
	check(engine_switchover(receiver), "SWITCHOVER at the destination");
}

static void run_send(unsigned int channel)
{
	check(engine_run(sender, channel), "RUN_CHANNEL at the source");
}

static void run_receive(unsigned int channel)
{
	check(engine_run(receiver, channel), "RUN_CHANNEL at the destination");
}

static void go(int save_fd)
{
	check(engine_add_device(sender, save_fd, "vfio0", 0), "ADD_DEVICE");
	check(engine_set_config(sender, 0, NULL, 0), "SET_CONFIG");
	check(engine_switchover(sender), "SWITCHOVER");
}

const struct bench_contender bench_kernel = {
	prepare, run_send, run_receive, go,
};

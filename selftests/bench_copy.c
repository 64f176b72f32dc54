// SPDX-License-Identifier: GPL-2.0-only
/* No contender but a limit: the state is read, once, and that is all. */
#include <err.h>
#include <unistd.h>

#include "bench.h"

static uint8_t data[BENCH_PACKET];

static void prepare(const struct bench *bench)
{
	(void)bench;
}

static void add(unsigned int device, int save_fd)
{
	ssize_t len;

	do {
		len = read(save_fd, data, sizeof(data));
	} while (len > 0);
	if (len < 0)
		err(1, "read of device %u", device);
}

static void finish(void)
{
}

const struct bench_contender bench_copy = {
	.prepare = prepare,
	.add = add,
	.finish = finish,
};

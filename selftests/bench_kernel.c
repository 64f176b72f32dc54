// SPDX-License-Identifier: GPL-2.0-only
/* The contender that this is all about: the engine at both ends, with its library */
#include <err.h>
#include <poll.h>
#include <stdio.h>
#include <vfio-multifd.h>

#include "bench.h"

static struct vmf_engine *sender, *receiver;
static struct vmf_error error;
static unsigned int devices, channels;

static void check(int ret)
{
	if (ret < 0)
		errx(1, "%s", error.text);
}

static void begin(struct vmf_engine **engine, uint32_t role,
		  const struct bench *bench, const int *sockets)
{
	struct vfio_multifd_setup setup = {
		.role = role,
		.channels = bench->channels,
		.features = bench->features,
		.packet_size = BENCH_PACKET,
	};

	check(vmf_engine_open(engine, &error));
	check(vmf_engine_setup(*engine, &setup, &error));
	for (unsigned int i = 0; i < bench->channels; i++)
		check(vmf_engine_add_channel(*engine, sockets[i], i, &error));
}

static uint32_t add_device(struct vmf_engine *engine, unsigned int device,
			   int data_fd)
{
	uint32_t index;
	char name[16];

	snprintf(name, sizeof(name), "vfio%u", device);
	check(vmf_engine_add_device(engine, data_fd, 0, name, 0, &index, &error));
	return index;
}

static void prepare(const struct bench *bench)
{
	devices = bench->devices;
	channels = bench->channels;
	begin(&sender, VFIO_MULTIFD_SEND, bench, bench->sent);
	begin(&receiver, VFIO_MULTIFD_RECV, bench, bench->received);
	for (unsigned int i = 0; i < devices; i++)
		add_device(receiver, i, bench->load_fd[i]);
	check(vmf_engine_switchover(receiver, &error));
}

static void add(unsigned int device, int save_fd)
{
	uint32_t index = add_device(sender, device, save_fd);

	check(vmf_engine_set_config(sender, index, "", 0, &error));
	if (device == devices - 1)
		check(vmf_engine_switchover(sender, &error));
}

static void wait_end(struct vmf_engine *engine)
{
	struct pollfd changes = {
		.fd = vmf_engine_fd(engine), .events = POLLIN,
	};
	struct vfio_multifd_status status;
	char text[512];

	do {
		if (poll(&changes, 1, -1) < 0)
			err(1, "poll");
		if (vmf_engine_status(engine, &status))
			errx(1, "the engine has no status");
	} while (status.state != VFIO_MULTIFD_STATE_DONE &&
		 status.state != VFIO_MULTIFD_STATE_FAILED);
	if (status.state == VFIO_MULTIFD_STATE_DONE)
		return;
	vmf_engine_explain(engine, &status, text, sizeof(text));
	errx(1, "%s", text);
}

static void finish(void)
{
	wait_end(sender);
	wait_end(receiver);
}

static uint64_t memory(bool source)
{
	struct vfio_multifd_channel_status status;
	uint64_t sum = 0;

	for (unsigned int i = 0; i < channels; i++) {
		if (vmf_engine_channel_status(source ? sender : receiver, i,
					      &status))
			errx(1, "channel %u has no status", i);
		sum += status.memory;
	}
	return sum;
}

const struct bench_contender bench_kernel = {
	prepare, add, finish, memory,
};

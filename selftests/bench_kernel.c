// SPDX-License-Identifier: GPL-2.0-only
/* The contender that this is all about: the engine at both ends */
#include <err.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <linux/vfio_multifd.h>

#include "bench.h"

static int sender, receiver;	/* the transfers */

static void call(int transfer, unsigned long request, void *arg,
		 const char *name)
{
	struct vfio_multifd_status status = { .argsz = sizeof(status) };

	if (!ioctl(transfer, request, arg))
		return;
	warn("%s of the %s", name, transfer == sender ? "sender" : "receiver");
	ioctl(transfer, VFIO_MULTIFD_STATUS, &status);
	errx(1, "reason %u at packet %u: expected %#llx, got %#llx",
	     status.reason, status.idx, status.expected, status.got);
}
#define CALL(transfer, name, arg) \
	call(transfer, VFIO_MULTIFD_##name, arg, #name)

static int set_up(uint32_t role, uint64_t features, const int *sockets)
{
	struct vfio_multifd_setup setup = {
		.argsz = sizeof(setup),
		.role = role,
		.channels = BENCH_CHANNELS,
		.features = features,
		.packet_size = BENCH_PACKET,
	};
	int transfer = open("/dev/vfio-multifd", O_RDWR | O_CLOEXEC);

	if (transfer < 0)
		err(1, "/dev/vfio-multifd");
	CALL(transfer, SETUP, &setup);
	for (unsigned int i = 0; i < BENCH_CHANNELS; i++) {
		struct vfio_multifd_channel channel = {
			.argsz = sizeof(channel),
			.fd = sockets[i],
			.id = i,
		};

		CALL(transfer, ADD_CHANNEL, &channel);
	}
	return transfer;
}

static void add_device(int transfer, int fd)
{
	struct vfio_multifd_device device = {
		.argsz = sizeof(device),
		.fd = fd,
		.idstr = "vfio0",
	};

	CALL(transfer, ADD_DEVICE, &device);
}

static void prepare(const struct bench *bench, uint64_t features)
{
	sender = set_up(VFIO_MULTIFD_SEND, features, bench->sent);
	receiver = set_up(VFIO_MULTIFD_RECV, features, bench->received);
	add_device(receiver, bench->load_fd);
	CALL(receiver, SWITCHOVER, NULL);
}

/* What two helpers agree on by themselves */
static void prepare_all(const struct bench *bench)
{
	prepare(bench, VFIO_MULTIFD_FEATURE_DIGEST |
		       VFIO_MULTIFD_FEATURE_ORDER_FREE);
}

/* As little as the other contenders do */
static void prepare_plain(const struct bench *bench)
{
	prepare(bench, VFIO_MULTIFD_FEATURE_ORDER_FREE);
}

static void run(int transfer, unsigned int channel)
{
	struct vfio_multifd_run arg = { .argsz = sizeof(arg), .id = channel };

	CALL(transfer, RUN_CHANNEL, &arg);
}

static void send(unsigned int channel)
{
	run(sender, channel);
}

static void receive(unsigned int channel)
{
	run(receiver, channel);
}

static void go(int save_fd)
{
	struct vfio_multifd_config none = { .argsz = sizeof(none) };

	add_device(sender, save_fd);
	CALL(sender, SET_CONFIG, &none);
	CALL(sender, SWITCHOVER, NULL);
}

const struct bench_contender bench_kernel = {
	"kernel", prepare_all, send, receive, go,
};
const struct bench_contender bench_kernel_plain = {
	"kernel-plain", prepare_plain, send, receive, go,
};

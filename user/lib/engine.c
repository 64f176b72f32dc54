// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * /dev/vfio-multifd: one open file is one transfer; each of its channels is
 * run by a thread of its own.
 */
#include <vfio-multifd.h>

#include "clock.h"
#include "error.h"
#include "foreign.h"
#include "thread.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define ENGINE_PATH	"/dev/vfio-multifd"
#define MAX_REPLACED	1024	/* connections, so that there is an end */
#define EBUSY_NS	VMF_NS_PER_S	/* for a thread to come out of the kernel */
#define MAP_BYTES	(8 << 20) /* for a channel to read to, or two packets */
#define PATIENCE_NS	(5 * VMF_NS_PER_S) /* with a driver that does not return */

struct channel {
	pthread_t thread;
	struct vmf_engine *engine;
	uint32_t id;
	void *map;		/* shared with the engine; NULL: not needed yet */
};

struct vmf_engine {
	int fd;
	uint32_t packet_size;
	bool sends;
	struct vmf_foreign foreign;
	bool foreigners;	/* there are such devices */
	struct vfio_multifd_info info;
	pthread_mutex_t runner[VFIO_MULTIFD_MAX_CHANNELS]; /* held by who runs it */
	uint32_t channels;	/* with those that have taken a lost one's place */
	struct channel channel[VFIO_MULTIFD_MAX_CHANNELS + MAX_REPLACED];
	uint32_t devices;
	char name[VFIO_MULTIFD_MAX_DEVICES][VFIO_MULTIFD_IDSTR_SIZE];
};

static const char *reason_name(uint32_t reason)
{
	static const char * const names[] = {
		[VFIO_MULTIFD_REASON_NONE] = "no error",
		[VFIO_MULTIFD_REASON_CANCELLED] = "cancelled",
		[VFIO_MULTIFD_REASON_NO_MEMORY] = "out of memory",
		[VFIO_MULTIFD_REASON_SOCKET] = "socket",
		[VFIO_MULTIFD_REASON_EOF] = "closed before the end",
		[VFIO_MULTIFD_REASON_INIT] = "wrong first bytes of a channel",
		[VFIO_MULTIFD_REASON_MAGIC] = "wrong packet magic",
		[VFIO_MULTIFD_REASON_VERSION] = "unknown packet version",
		[VFIO_MULTIFD_REASON_FLAGS] =
			"packet flags that were not negotiated",
		[VFIO_MULTIFD_REASON_LENGTH] = "packet length out of bounds",
		[VFIO_MULTIFD_REASON_IDSTR] =
			"device name that is not terminated",
		[VFIO_MULTIFD_REASON_UNKNOWN_DEVICE] = "unknown device",
		[VFIO_MULTIFD_REASON_IDX] = "packet idx out of bounds",
		[VFIO_MULTIFD_REASON_DUPLICATE] = "packet came twice",
		[VFIO_MULTIFD_REASON_GAP] = "packet is missing",
		[VFIO_MULTIFD_REASON_SECOND_CONFIG] = "second config state",
		[VFIO_MULTIFD_REASON_DIGEST] = "digest does not match the data",
		[VFIO_MULTIFD_REASON_DEVICE_READ] = "reading the device state",
		[VFIO_MULTIFD_REASON_DEVICE_WRITE] = "writing the device state",
	};

	if (reason >= sizeof(names) / sizeof(names[0]))
		return "unknown reason";
	return names[reason];
}

/* What of a status' @error, @expected and @got says more than the reason. */
static void explain_more(const struct vfio_multifd_status *status, char *text,
			 size_t size)
{
	switch (status->reason) {
	case VFIO_MULTIFD_REASON_SOCKET:
	case VFIO_MULTIFD_REASON_DEVICE_READ:
	case VFIO_MULTIFD_REASON_DEVICE_WRITE:
		snprintf(text, size, ": %s", strerror(-status->error));
		break;
	case VFIO_MULTIFD_REASON_LENGTH:
	case VFIO_MULTIFD_REASON_IDX:
	case VFIO_MULTIFD_REASON_INIT:
	case VFIO_MULTIFD_REASON_GAP:
		snprintf(text, size, " (expected %llu, got %llu)",
			 (unsigned long long)status->expected,
			 (unsigned long long)status->got);
		break;
	case VFIO_MULTIFD_REASON_MAGIC:
	case VFIO_MULTIFD_REASON_VERSION:
	case VFIO_MULTIFD_REASON_FLAGS:
	case VFIO_MULTIFD_REASON_DIGEST:
		snprintf(text, size, " (expected 0x%llx, got 0x%llx)",
			 (unsigned long long)status->expected,
			 (unsigned long long)status->got);
		break;
	default:
		text[0] = '\0';
	}
}

void vmf_engine_explain(const struct vmf_engine *engine,
			const struct vfio_multifd_status *status,
			char *text, size_t size)
{
	char device[VFIO_MULTIFD_IDSTR_SIZE + 16] = "";
	char channel[32] = "";
	char packet[32] = "";
	char more[80];

	if (status->device < engine->devices)
		snprintf(device, sizeof(device), "device %s, ",
			 engine->name[status->device]);
	if (status->channel != VFIO_MULTIFD_NO_INDEX)
		snprintf(channel, sizeof(channel), "channel %u, ",
			 status->channel);
	if (status->idx != VFIO_MULTIFD_NO_INDEX)
		snprintf(packet, sizeof(packet), "packet %u, ", status->idx);
	explain_more(status, more, sizeof(more));

	snprintf(text, size, "%s%s%s%s%s", device, channel, packet,
		 reason_name(status->reason), more);
}

int vmf_engine_open(struct vmf_engine **enginep, struct vmf_error *error)
{
	struct vmf_engine *engine;
	uint32_t i;
	int ret;

	engine = calloc(1, sizeof(*engine));
	if (!engine)
		return vmf_error_set(error, -ENOMEM, "out of memory");

	engine->fd = open(ENGINE_PATH, O_RDWR | O_CLOEXEC);
	if (engine->fd < 0) {
		ret = vmf_error_set(error, -errno, ENGINE_PATH ": %s%s",
				    strerror(errno), errno == ENOENT ?
				    " (is the module vfio_multifd loaded?)" :
				    "");
		goto free_engine;
	}

	engine->info.argsz = sizeof(engine->info);
	if (ioctl(engine->fd, VFIO_MULTIFD_GET_INFO, &engine->info) < 0) {
		ret = vmf_error_set(error, -errno, ENGINE_PATH ": %s",
				    strerror(errno));
		goto close_file;
	}
	if (engine->info.version != VFIO_MULTIFD_API_VERSION) {
		ret = vmf_error_set(error, -EPROTONOSUPPORT, ENGINE_PATH
				    ": the kernel has interface version %u, not %u",
				    engine->info.version,
				    VFIO_MULTIFD_API_VERSION);
		goto close_file;
	}

	vmf_foreign_init(&engine->foreign);
	for (i = 0; i < VFIO_MULTIFD_MAX_CHANNELS; i++)
		pthread_mutex_init(&engine->runner[i], NULL);
	*enginep = engine;
	return 0;

close_file:
	close(engine->fd);
free_engine:
	free(engine);
	return ret;
}

/* Joins all threads; false if a driver keeps one of them. */
static bool join(struct vmf_engine *engine)
{
	struct timespec until;
	uint32_t i;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += PATIENCE_NS / VMF_NS_PER_S;
	for (i = 0; i < engine->channels; i++)
		if (pthread_clockjoin_np(engine->channel[i].thread, NULL,
					 CLOCK_MONOTONIC, &until))
			return false;
	return true;
}

/* A source reads to one while others are being sent. */
static uint32_t map_packets(const struct vmf_engine *engine)
{
	uint32_t packets = MAP_BYTES / engine->packet_size;

	if (!engine->sends)
		return 1;
	return packets < 2 ? 2 : packets > VFIO_MULTIFD_MAP_PACKETS ?
	       VFIO_MULTIFD_MAP_PACKETS : packets;
}

void vmf_engine_close(struct vmf_engine *engine)
{
	uint32_t i;

	if (!engine)
		return;

	/* Each thread is in the engine, or in a driver that it was sent to. */
	vmf_engine_cancel(engine);
	for (i = 0; engine->foreigners && i < engine->channels; i++)
		pthread_cancel(engine->channel[i].thread);
	/* What a thread that never comes back uses has to stay. */
	if (!join(engine))
		return;
	for (i = 0; i < engine->channels; i++)
		if (engine->channel[i].map)
			munmap(engine->channel[i].map,
			       (size_t)map_packets(engine) *
			       engine->packet_size);
	vmf_foreign_destroy(&engine->foreign);
	close(engine->fd);
	free(engine);
}

int vmf_engine_fd(const struct vmf_engine *engine)
{
	return engine->fd;
}

const struct vfio_multifd_info *
vmf_engine_info(const struct vmf_engine *engine)
{
	return &engine->info;
}

int vmf_engine_setup(struct vmf_engine *engine,
		     const struct vfio_multifd_setup *setup,
		     struct vmf_error *error)
{
	struct vfio_multifd_setup arg = *setup;

	arg.argsz = sizeof(arg);
	arg.flags = 0;
	if (ioctl(engine->fd, VFIO_MULTIFD_SETUP, &arg) < 0)
		return vmf_error_set(error, -errno,
				     "setting the transfer up: %s",
				     strerror(errno));
	engine->packet_size = arg.packet_size;
	engine->sends = arg.role == VFIO_MULTIFD_SEND;
	return 0;
}

static void unlock(void *lock)
{
	pthread_mutex_unlock(lock);
}

static void run(struct channel *channel)
{
	struct vmf_engine *engine = channel->engine;
	struct vfio_multifd_run run = {
		.argsz = sizeof(run),
		.id = channel->id,
	};
	int ret;

	for (;;) {
		ret = ioctl(engine->fd, VFIO_MULTIFD_RUN_CHANNEL, &run);
		if (!ret && run.ask)
			vmf_foreign_answer(&engine->foreign, engine->fd,
					   engine->packet_size,
					   map_packets(engine), &channel->map,
					   &run);
		else if (!ret || errno != EINTR)
			break;
	}

	/*
	 * Almost always the transfer has failed as a whole by now and this
	 * changes nothing.  Else nobody would notice that a channel stands.
	 */
	if (ret < 0)
		vmf_engine_cancel(engine);
}

/* One after the other, where another connection has brought another thread. */
static void *run_channel(void *arg)
{
	struct channel *channel = arg;
	pthread_mutex_t *runner = &channel->engine->runner[channel->id];
	int state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	pthread_mutex_lock(runner);
	pthread_cleanup_push(unlock, runner);
	run(channel);
	pthread_cleanup_pop(1);
	return NULL;
}

static int start_thread(struct vmf_engine *engine, uint32_t id,
			struct vmf_error *error)
{
	struct channel *channel = &engine->channel[engine->channels];
	int ret;

	channel->engine = engine;
	channel->id = id;
	ret = vmf_thread_start(&channel->thread, run_channel, channel);
	if (ret)
		return vmf_error_set(error, ret, "thread of channel %u: %s",
				     id, strerror(-ret));
	engine->channels++;
	return 0;
}

int vmf_engine_add_channel(struct vmf_engine *engine, int fd, uint32_t id,
			   struct vmf_error *error)
{
	struct vfio_multifd_channel arg = {
		.argsz = sizeof(arg),
		.fd = fd,
		.id = id,
	};

	if (engine->channels == VFIO_MULTIFD_MAX_CHANNELS)
		return vmf_error_set(error, -ENOSPC, "too many channels");
	if (ioctl(engine->fd, VFIO_MULTIFD_ADD_CHANNEL, &arg) < 0)
		return vmf_error_set(error, -errno, "adding channel %u: %s",
				     id, strerror(errno));
	return start_thread(engine, id, error);
}

int vmf_engine_replace_channel(struct vmf_engine *engine, int fd, uint32_t id,
			       uint64_t packets, struct vmf_error *error)
{
	struct vfio_multifd_replace arg = {
		.argsz = sizeof(arg),
		.fd = fd,
		.id = id,
		.packets = packets,
	};
	uint64_t deadline = vmf_clock_ns() + EBUSY_NS;
	int ret;

	if (engine->channels == VFIO_MULTIFD_MAX_CHANNELS + MAX_REPLACED)
		return vmf_error_set(error, -ENOSPC,
				     "more than %u connections were lost",
				     MAX_REPLACED);
	/* A source that is done has threads that are about to end. */
	for (;;) {
		ret = ioctl(engine->fd, VFIO_MULTIFD_REPLACE_CHANNEL, &arg) < 0 ?
		      -errno : 0;
		if (ret != -EBUSY || vmf_clock_ns() >= deadline)
			break;
		usleep(1000);
	}
	if (ret)
		return vmf_error_set(error, ret,
				     "another connection for channel %u: %s",
				     id, ret == -ENODATA ?
				     "what was lost cannot be sent again" :
				     strerror(-ret));
	/* At the destination the thread has waited for it. */
	return engine->sends ? start_thread(engine, id, error) : 0;
}

int vmf_engine_give_up_channel(struct vmf_engine *engine, uint32_t id)
{
	struct vfio_multifd_replace arg = {
		.argsz = sizeof(arg), .fd = -1, .id = id,
	};

	return ioctl(engine->fd, VFIO_MULTIFD_REPLACE_CHANNEL, &arg) < 0 ?
	       -errno : 0;
}

int vmf_engine_channel_status(struct vmf_engine *engine, uint32_t id,
			      struct vfio_multifd_channel_status *status)
{
	*status = (struct vfio_multifd_channel_status){
		.argsz = sizeof(*status), .id = id,
	};
	return ioctl(engine->fd, VFIO_MULTIFD_CHANNEL_STATUS, status) < 0 ?
	       -errno : 0;
}

/* A file that only read(2) and write(2) can use is for the threads here. */
static int add_device(struct vmf_engine *engine,
		      struct vfio_multifd_device *arg)
{
	int copy, ret;

	if (!ioctl(engine->fd, VFIO_MULTIFD_ADD_DEVICE, arg))
		return 0;
	if (errno != EOPNOTSUPP)
		return -errno;
	copy = fcntl(arg->fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return -errno;
	arg->flags |= VFIO_MULTIFD_DEVICE_FOREIGN;
	if (ioctl(engine->fd, VFIO_MULTIFD_ADD_DEVICE, arg) < 0) {
		ret = -errno;
		close(copy);
		return ret;
	}
	if (arg->index >= VFIO_MULTIFD_MAX_DEVICES) {
		close(copy);
		return 0;	/* the caller looks at it */
	}
	engine->foreigners = true;
	vmf_foreign_add(&engine->foreign, arg->index, copy);
	return 0;
}

int vmf_engine_add_device(struct vmf_engine *engine, int data_fd,
			  uint32_t flags, const char *idstr,
			  uint32_t instance_id, uint32_t *index,
			  struct vmf_error *error)
{
	struct vfio_multifd_device arg = {
		.argsz = sizeof(arg),
		.flags = VFIO_MULTIFD_DEVICE_RECORDS | flags,
		.fd = data_fd,
		.instance_id = instance_id,
	};
	int ret;

	snprintf((char *)arg.idstr, sizeof(arg.idstr), "%s", idstr);
	ret = add_device(engine, &arg);
	if (ret)
		return vmf_error_set(error, ret,
				     "adding device %s to the transfer: %s",
				     idstr, strerror(-ret));
	if (arg.index >= VFIO_MULTIFD_MAX_DEVICES)
		return vmf_error_set(error, -EPROTO,
				     "the kernel gave device %s index %u",
				     idstr, arg.index);

	memcpy(engine->name[arg.index], arg.idstr, sizeof(arg.idstr));
	if (engine->devices <= arg.index)
		engine->devices = arg.index + 1;
	*index = arg.index;
	return 0;
}

int vmf_engine_switchover(struct vmf_engine *engine, struct vmf_error *error)
{
	if (ioctl(engine->fd, VFIO_MULTIFD_SWITCHOVER, 0) < 0)
		return vmf_error_set(error, -errno, "switchover: %s",
				     strerror(errno));
	return 0;
}

static int config(struct vmf_engine *engine, unsigned long request,
		  const char *verb, uint32_t index, const void *data,
		  uint32_t *size, struct vmf_error *error)
{
	struct vfio_multifd_config arg = {
		.argsz = sizeof(arg),
		.device = index,
		.size = *size,
		.data = (uintptr_t)data,
	};
	int ret = ioctl(engine->fd, request, &arg) < 0 ? -errno : 0;

	*size = arg.size;
	if (ret)
		return vmf_error_set(error, ret,
				     "%s the config state of device %s: %s",
				     verb, index < engine->devices ?
				     engine->name[index] : "?",
				     strerror(-ret));
	return 0;
}

int vmf_engine_set_config(struct vmf_engine *engine, uint32_t index,
			  const void *data, uint32_t size,
			  struct vmf_error *error)
{
	return config(engine, VFIO_MULTIFD_SET_CONFIG, "setting", index, data,
		      &size, error);
}

int vmf_engine_get_config(struct vmf_engine *engine, uint32_t index,
			  void *data, uint32_t *size, struct vmf_error *error)
{
	return config(engine, VFIO_MULTIFD_GET_CONFIG, "getting", index, data,
		      size, error);
}

int vmf_engine_status(struct vmf_engine *engine,
		      struct vfio_multifd_status *status)
{
	*status = (struct vfio_multifd_status){ .argsz = sizeof(*status) };
	return ioctl(engine->fd, VFIO_MULTIFD_STATUS, status) < 0 ? -errno : 0;
}

int vmf_engine_device_status(struct vmf_engine *engine, uint32_t index,
			     uint64_t wake_packets,
			     struct vfio_multifd_device_status *status)
{
	*status = (struct vfio_multifd_device_status){
		.argsz = sizeof(*status),
		.device = index,
		.wake_packets = wake_packets,
	};
	return ioctl(engine->fd, VFIO_MULTIFD_DEVICE_STATUS, status) < 0 ?
	       -errno : 0;
}

int vmf_engine_continue(struct vmf_engine *engine, uint32_t index,
			struct vmf_error *error)
{
	struct vfio_multifd_continue arg = {
		.argsz = sizeof(arg),
		.device = index,
	};

	if (ioctl(engine->fd, VFIO_MULTIFD_CONTINUE, &arg) < 0)
		return vmf_error_set(error, -errno, "reading on: %s",
				     strerror(errno));
	return 0;
}

int vmf_engine_cancel(struct vmf_engine *engine)
{
	return ioctl(engine->fd, VFIO_MULTIFD_CANCEL, 0) < 0 ? -errno : 0;
}

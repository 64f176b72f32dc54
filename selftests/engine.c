// SPDX-License-Identifier: GPL-2.0-only
/* /dev/vfio-multifd without any VFIO device: its calls, peers, threads */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <linux/sockios.h>

#include "engine.h"
#include "vfio.h"

const uint8_t engine_uuid[VFIO_MULTIFD_UUID_SIZE] = {
	0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07,
	0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f,
};

/* Seconds after which what must come soon comes no more */
#define SOON	10

int engine_open(void)
{
	int fd = open(ENGINE_PATH, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

const char *engine_missing(void)
{
	static char why[128];
	int fd;

	if (access(ENGINE_PATH, F_OK))
		/* without the right to do so it shows below */
		if (system("modprobe -q vfio_multifd 2>/dev/null"))
			return "the module vfio_multifd cannot be loaded";
	fd = engine_open();
	if (fd < 0) {
		snprintf(why, sizeof(why), "%s does not open: %s", ENGINE_PATH,
			 strerror(-fd));
		return why;
	}
	close(fd);
	return NULL;
}

int engine_call(int fd, unsigned int call, void *arg)
{
	return ioctl(fd, call, arg) < 0 ? -errno : 0;
}

int engine_setup_with(int fd, uint32_t flags, uint32_t role, uint32_t channels,
		      uint64_t features, uint32_t packet_size)
{
	struct vfio_multifd_setup setup = {
		.argsz = sizeof(setup),
		.flags = flags,
		.role = role,
		.channels = channels,
		.features = features,
		.packet_size = packet_size,
	};

	memcpy(setup.uuid, engine_uuid, sizeof(setup.uuid));
	return engine_call(fd, VFIO_MULTIFD_SETUP, &setup);
}

int engine_setup(int fd, uint32_t role, uint32_t channels, uint64_t features,
		 uint32_t packet_size)
{
	return engine_setup_with(fd, 0, role, channels, features, packet_size);
}

int engine_add_channel(int fd, int sock, uint32_t id)
{
	struct vfio_multifd_channel channel = {
		.argsz = sizeof(channel),
		.fd = sock,
		.id = id,
	};

	return engine_call(fd, VFIO_MULTIFD_ADD_CHANNEL, &channel);
}

/* Returns the device's index */
int engine_add_device_with(int fd, uint32_t flags, int file, const char *idstr,
			   uint32_t instance)
{
	struct vfio_multifd_device device = {
		.argsz = sizeof(device),
		.flags = flags,
		.fd = file,
		.instance_id = instance,
	};
	int ret;

	snprintf((char *)device.idstr, sizeof(device.idstr), "%s", idstr);
	ret = engine_call(fd, VFIO_MULTIFD_ADD_DEVICE, &device);
	return ret ?: (int)device.index;
}

int engine_add_device(int fd, int file, const char *idstr, uint32_t instance)
{
	return engine_add_device_with(fd, 0, file, idstr, instance);
}

int engine_run(int fd, uint32_t id)
{
	struct vfio_multifd_run run = { .argsz = sizeof(run), .id = id };

	return engine_call(fd, VFIO_MULTIFD_RUN_CHANNEL, &run);
}

int engine_switchover(int fd)
{
	return engine_call(fd, VFIO_MULTIFD_SWITCHOVER, NULL);
}

int engine_set_config(int fd, uint32_t device, const void *data, uint32_t size)
{
	struct vfio_multifd_config config = {
		.argsz = sizeof(config),
		.device = device,
		.size = size,
		.data = (uintptr_t)data,
	};

	return engine_call(fd, VFIO_MULTIFD_SET_CONFIG, &config);
}

int engine_get_config(int fd, uint32_t device, void *data, uint32_t *size)
{
	struct vfio_multifd_config config = {
		.argsz = sizeof(config),
		.device = device,
		.size = *size,
		.data = (uintptr_t)data,
	};
	int ret = engine_call(fd, VFIO_MULTIFD_GET_CONFIG, &config);

	*size = config.size;
	return ret;
}

int engine_status(int fd, struct vfio_multifd_status *status)
{
	*status = (struct vfio_multifd_status) { .argsz = sizeof(*status) };
	return engine_call(fd, VFIO_MULTIFD_STATUS, status);
}

int engine_channel_status(int fd, uint32_t id, struct vfio_multifd_channel_status *status)
{
	*status = (struct vfio_multifd_channel_status) {
		.argsz = sizeof(*status),
		.id = id,
	};
	return engine_call(fd, VFIO_MULTIFD_CHANNEL_STATUS, status);
}

int engine_cancel(int fd)
{
	return engine_call(fd, VFIO_MULTIFD_CANCEL, NULL);
}

static void *run(void *arg)
{
	struct engine_channel *channel = arg;

	channel->tid = gettid();
	for (;;) {
		channel->ret = engine_run(channel->fd, channel->id);
		if (channel->ret != -EINTR)
			return NULL;
		channel->interrupted++;
	}
}

void engine_start(struct engine_channel *channel)
{
	if (pthread_create(&channel->thread, NULL, run, channel))
		abort();
	channel->runs = true;
}

/* Returns what RUN_CHANNEL returned */
int engine_join(struct engine_channel *channel)
{
	if (channel->runs)
		pthread_join(channel->thread, NULL);
	channel->runs = false;
	return channel->ret;
}

void engine_start_all(struct engine *engine)
{
	for (unsigned int i = 0; i < engine->channels; i++)
		engine_start(&engine->channel[i]);
}

/* Returns the first error of RUN_CHANNEL that there was */
int engine_join_all(struct engine *engine)
{
	int ret = 0;

	for (unsigned int i = 0; i < engine->channels; i++)
		ret = engine_join(&engine->channel[i]) ?: ret;
	return ret;
}

/* Until the peer closes; what else may happen shows in the bytes */
static void *take(void *arg)
{
	struct engine_channel *channel = arg;
	const size_t most = 65536;
	ssize_t len;

	for (;;) {
		len = recv(channel->sock, wire_room(&channel->bytes, most),
			   most, 0);
		if (len <= 0)
			return NULL;
		channel->bytes.len += len;
	}
}

/* Waits for the first bytes of all channels, which then all run */
void engine_wait_inits(struct engine *engine)
{
	uint8_t init[WIRE_INIT_SIZE];

	for (unsigned int i = 0; i < engine->channels; i++)
		recv(engine->channel[i].sock, init, sizeof(init),
		     MSG_PEEK | MSG_WAITALL);
}

/* The same, and starts to read at all peers; engine_close() ends that */
void engine_read_all(struct engine *engine)
{
	engine_wait_inits(engine);
	for (unsigned int i = 0; i < engine->channels; i++) {
		struct engine_channel *channel = &engine->channel[i];

		if (pthread_create(&channel->reader, NULL, take, channel))
			abort();
		channel->reads = true;
	}
}

/*
 * Closes the transfer and waits for all threads.  What the peers got stays,
 * and so do their ends of the channels.
 */
void engine_close(struct engine *engine)
{
	if (engine->fd >= 0)
		close(engine->fd);
	engine->fd = -1;
	for (unsigned int i = 0; i < engine->channels; i++) {
		struct engine_channel *channel = &engine->channel[i];

		engine_join(channel);
		if (channel->reads)
			pthread_join(channel->reader, NULL);
		channel->reads = false;
	}
}

void engine_destroy(struct engine *engine)
{
	engine_close(engine);
	for (unsigned int i = 0; i < engine->channels; i++) {
		if (engine->channel[i].sock >= 0)
			close(engine->channel[i].sock);
		wire_free(&engine->channel[i].bytes);
	}
	*engine = (struct engine) { .fd = -1 };
}

/* Opens a transfer and sets it up; it has no channel yet */
int engine_begin(struct engine *engine, uint32_t role, uint32_t channels,
		 uint64_t features, uint32_t packet_size)
{
	*engine = (struct engine) { .features = features };
	engine->fd = engine_open();
	if (engine->fd < 0)
		return engine->fd;
	return engine_setup(engine->fd, role, channels, features, packet_size);
}

/* A receiver that drops what a VMM sends beside device state, with its channels */
int engine_create_skipper(struct engine *engine, uint32_t channels,
			  uint32_t packet_size)
{
	int ret;

	*engine = (struct engine) {};
	engine->fd = engine_open();
	if (engine->fd < 0)
		return engine->fd;
	ret = engine_setup_with(engine->fd, VFIO_MULTIFD_SETUP_SKIP_RAM,
				VFIO_MULTIFD_RECV, channels, 0, packet_size);
	while (!ret && engine->channels < channels)
		ret = engine_connect(engine, 0);
	return ret;
}

/* Adds the next channel; @buffer: see engine_tcp_pair() */
int engine_connect(struct engine *engine, int buffer)
{
	struct engine_channel *channel = &engine->channel[engine->channels];
	int pair[2], ret;

	ret = engine_tcp_pair(pair, buffer);
	if (ret)
		return ret;
	*channel = (struct engine_channel) {
		.fd = engine->fd,
		.id = engine->channels++,
		.port = engine_port(pair[0]),
		.sock = pair[1],
	};
	/* the transfer waits all the same */
	if (channel->id % 2)
		fcntl(pair[0], F_SETFL, O_NONBLOCK);
	ret = engine_add_channel(engine->fd, pair[0], channel->id);
	close(pair[0]);
	return ret;
}

/* Brings a transfer to READY, with all channels */
int engine_create(struct engine *engine, uint32_t role, uint32_t channels,
		  uint64_t features, uint32_t packet_size, int buffer)
{
	int ret;

	ret = engine_begin(engine, role, channels, features, packet_size);
	for (unsigned int i = 0; !ret && i < channels; i++)
		ret = engine_connect(engine, buffer);
	return ret;
}

/* Adds each channel's first bytes to what its peer will send */
void engine_add_inits(struct engine *engine)
{
	for (unsigned int i = 0; i < engine->channels; i++)
		wire_add_init(&engine->channel[i].bytes, engine_uuid, i);
}

/* Adds a packet; returns where it starts, good until more is added */
uint8_t *engine_add(struct engine *engine, unsigned int channel, uint32_t idx,
		    uint32_t flags, const void *data, uint32_t len)
{
	struct wire_packet packet = {
		.idstr = "dev",
		.idx = idx,
		.flags = flags,
		.data = data,
		.len = len,
	};

	if (engine->features & VFIO_MULTIFD_FEATURE_DIGEST)
		packet.flags |= WIRE_DIGEST;
	return wire_add_packet(&engine->channel[channel].bytes, &packet);
}

/* Sends a channel's @bytes as its peer, and forgets them */
int engine_put(struct engine_channel *channel)
{
	size_t done = 0;

	while (done < channel->bytes.len) {
		ssize_t len = send(channel->sock, channel->bytes.at + done,
				   channel->bytes.len - done, MSG_NOSIGNAL);

		if (len < 0)
			return -errno;
		done += len;
	}
	channel->bytes.len = 0;
	return 0;
}

/* Takes apart what all peers got; NULL, or what is wrong */
const char *engine_parse(struct engine *engine, struct wire_packets *to)
{
	const char *wrong = NULL;

	*to = (struct wire_packets) {};
	for (unsigned int i = 0; !wrong && i < engine->channels; i++)
		wrong = wire_parse(to, &engine->channel[i].bytes, engine_uuid,
				   i, engine->features &
				      VFIO_MULTIFD_FEATURE_DIGEST);
	return wrong;
}

uint64_t engine_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

/* Is it true, or soon?  Looks every millisecond. */
#define WAIT(condition) ({						\
	uint64_t _end = engine_now() + SOON * 1000000000ULL;		\
	bool _there;							\
									\
	while (!(_there = (condition)) && engine_now() < _end)		\
		usleep(1000);						\
	_there;								\
})

static uint64_t packets_now(int fd)
{
	struct vfio_multifd_status status;

	return engine_status(fd, &status) ? 0 : status.packets;
}

static uint32_t state_now(int fd)
{
	struct vfio_multifd_status status;

	return engine_status(fd, &status) ? ~0U : status.state;
}

bool engine_wait_packets(int fd, uint64_t packets)
{
	return WAIT(packets_now(fd) >= packets);
}

bool engine_wait_state(int fd, uint32_t state)
{
	return WAIT(state_now(fd) == state);
}

/* The first line of a thread's file in /proc, or nothing */
static void read_thread(int tid, const char *name, char line[static 256])
{
	char path[64];
	FILE *file;

	*line = '\0';
	snprintf(path, sizeof(path), "/proc/self/task/%d/%s", tid, name);
	file = fopen(path, "re");
	if (!file)
		return;
	if (!fgets(line, 256, file))
		*line = '\0';
	fclose(file);
}

/*
 * Did the transfer's end get all bytes, and does its thread sleep in a call?  One
 * that waits for a lock, or for memory, does so uninterruptibly, and is not there yet.
 */
static bool asleep(const struct engine_channel *channel)
{
	char line[256], *state;
	int unsent = 1;

	if (ioctl(channel->sock, SIOCOUTQ, &unsent) || unsent || !channel->tid)
		return false;
	read_thread(channel->tid, "syscall", line);	/* or "running" */
	if (atoi(line) != SYS_ioctl)
		return false;
	read_thread(channel->tid, "stat", line);
	state = strrchr(line, ')');	/* the end of its name */
	return state && !strncmp(state, ") S ", 4);
}

bool engine_wait_one_asleep(struct engine_channel *channel)
{
	return WAIT(asleep(channel));
}

/* Does each thread sleep, with all that its peer sent taken? */
bool engine_wait_asleep(struct engine *engine)
{
	bool all = true;

	for (unsigned int i = 0; i < engine->channels; i++)
		all &= WAIT(asleep(&engine->channel[i]));
	return all;
}

/* What TCP remembers of a closed connection has neither file nor data */
static bool has_socket(uint16_t port)
{
	unsigned int local, unsent, inode;
	bool found = false;
	char line[512];
	FILE *file;

	file = fopen("/proc/net/tcp", "re");
	while (file && !found && fgets(line, sizeof(line), file))
		found = sscanf(line, "%*d: %*x:%x %*x:%*x %*x %x:%*x %*s %*x %*u %*u %u",
			       &local, &unsent, &inode) == 3 &&
			local == port && (unsent || inode);
	if (file)
		fclose(file);
	return found;
}

/* Is no socket left that has this local port? */
bool engine_wait_gone(uint16_t port)
{
	return WAIT(!has_socket(port));
}

static bool in_use(void)
{
	unsigned int users = 0;
	char line[512];
	FILE *file;

	file = fopen("/proc/modules", "re");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "vfio_multifd %*u %u", &users) == 1)
			break;
	if (file)
		fclose(file);
	return users;
}

/* Could the module be unloaded? */
bool engine_wait_unused(void)
{
	return WAIT(!in_use());
}

uint16_t engine_port(int sock)
{
	struct sockaddr_in addr;
	socklen_t len = sizeof(addr);

	if (getsockname(sock, (struct sockaddr *)&addr, &len))
		return 0;
	return ntohs(addr.sin_port);
}

static void set_buffer(int sock, int buffer)
{
	if (!buffer)
		return;
	setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
	setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
}

/*
 * Two connected sockets that hold @buffer bytes in each direction at each end,
 * or, if it is 0, as many as the system likes
 */
int engine_tcp_pair(int pair[2], int buffer)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(addr);
	int listener, ret = 0;

	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pair[1] = -1;
	set_buffer(listener, buffer);
	set_buffer(pair[0], buffer);
	if (bind(listener, (struct sockaddr *)&addr, len) ||
	    listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&addr, &len) ||
	    connect(pair[0], (struct sockaddr *)&addr, len))
		ret = -errno;
	else
		pair[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close(listener);
	if (pair[1] >= 0)
		return 0;
	ret = ret ?: -errno;
	close(pair[0]);
	return ret;
}

int engine_memfd(const void *data, size_t len)
{
	int fd = memfd_create("device", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && pwrite(fd, data, len, 0) != (ssize_t)len) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Does the file hold this and no more? */
bool engine_file_has(int file, const void *data, size_t len)
{
	uint8_t *got = malloc(len + 1);
	bool same = pread(file, got, len + 1, 0) == (ssize_t)len &&
		    !memcmp(got, data, len);

	free(got);
	return same;
}

/* Bytes that only this seed gives; free() gives them back */
uint8_t *engine_pattern(size_t len, uint64_t seed)
{
	uint8_t *data = malloc(len + 8);

	if (!data)
		abort();
	vfio_fill(data, len + 8, seed);
	return data;
}

int engine_create_receiver(struct engine *engine, int file,
			   unsigned int channels, uint64_t features)
{
	int ret;

	ret = engine_create(engine, VFIO_MULTIFD_RECV, channels, features,
			    ENGINE_PACKET, 0);
	if (!ret)
		ret = engine_add_device(engine->fd, file, "dev", 0);
	if (!ret)
		engine_add_inits(engine);
	return ret;
}

/* The same when no device can come any more */
int engine_create_sealed(struct engine *engine, int file, unsigned int channels,
			 uint64_t features)
{
	int ret = engine_create_receiver(engine, file, channels, features);

	return ret ? ret : engine_switchover(engine->fd);
}

/* SPDX-License-Identifier: GPL-2.0-only */
/* /dev/vfio-multifd without any VFIO device: its calls, peers, threads */
#ifndef SELFTESTS_ENGINE_H
#define SELFTESTS_ENGINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <linux/vfio_multifd.h>

#include "wire.h"

#define ENGINE_PATH	"/dev/vfio-multifd"
#define ENGINE_PACKET	4096		/* the smallest packet size */

/* What the tests' transfers are called */
extern const uint8_t engine_uuid[VFIO_MULTIFD_UUID_SIZE];

/**
 * struct engine_channel - a channel, its thread and its peer
 * @fd: the transfer
 * @id: the channel's id
 * @port: local port of the socket that the transfer has
 * @sock: the peer's end
 * @thread: runs the channel
 * @tid: its number, when it is about to
 * @runs: @thread was started and not joined
 * @ret: what RUN_CHANNEL returned last
 * @interrupted: how often it was -EINTR before
 * @reader: takes what comes to @sock into @bytes
 * @reads: @reader was started and not joined
 * @bytes: what came, or what is to be sent
 */
struct engine_channel {
	int fd;
	uint32_t id;
	uint16_t port;
	int sock;
	pthread_t thread;
	volatile pid_t tid;
	bool runs;
	int ret;
	unsigned int interrupted;
	pthread_t reader;
	bool reads;
	struct wire_bytes bytes;
};

/**
 * struct engine - a transfer
 * @fd: its file
 * @channels: number of channels
 * @features: what it was set up with
 * @channel: the channels
 */
struct engine {
	int fd;
	unsigned int channels;
	uint64_t features;
	struct engine_channel channel[VFIO_MULTIFD_MAX_CHANNELS];
};

/* The calls; each returns 0 or a negative errno */
int engine_open(void);
int engine_call(int fd, unsigned int call, void *arg);
int engine_setup_with(int fd, uint32_t flags, uint32_t role, uint32_t channels,
		      uint64_t features, uint32_t packet_size);
int engine_setup(int fd, uint32_t role, uint32_t channels, uint64_t features,
		 uint32_t packet_size);
int engine_add_channel(int fd, int sock, uint32_t id);
int engine_add_device_with(int fd, uint32_t flags, int file, const char *idstr,
			   uint32_t instance);
int engine_add_device(int fd, int file, const char *idstr, uint32_t instance);
int engine_run(int fd, uint32_t id);
int engine_switchover(int fd);
int engine_set_config(int fd, uint32_t device, const void *data, uint32_t size);
int engine_get_config(int fd, uint32_t device, void *data, uint32_t *size);
int engine_status(int fd, struct vfio_multifd_status *status);
int engine_channel_status(int fd, uint32_t id, struct vfio_multifd_channel_status *status);
int engine_cancel(int fd);

/* A whole transfer */
int engine_begin(struct engine *engine, uint32_t role, uint32_t channels,
		 uint64_t features, uint32_t packet_size);
int engine_create_skipper(struct engine *engine, uint32_t channels,
			  uint32_t packet_size);
int engine_connect(struct engine *engine, int buffer);
int engine_create(struct engine *engine, uint32_t role, uint32_t channels,
		  uint64_t features, uint32_t packet_size, int buffer);
void engine_start(struct engine_channel *channel);
int engine_join(struct engine_channel *channel);
void engine_start_all(struct engine *engine);
int engine_join_all(struct engine *engine);
void engine_wait_inits(struct engine *engine);
void engine_read_all(struct engine *engine);
void engine_close(struct engine *engine);
void engine_destroy(struct engine *engine);

/* What the peers of a receiver send, about a device called "dev" */
void engine_add_inits(struct engine *engine);
uint8_t *engine_add(struct engine *engine, unsigned int channel, uint32_t idx,
		    uint32_t flags, const void *data, uint32_t len);
int engine_put(struct engine_channel *channel);

/* What the peers of a sender got */
const char *engine_parse(struct engine *engine, struct wire_packets *to);

/* Waiting for what must come soon; true if it came */
bool engine_wait_packets(int fd, uint64_t packets);
bool engine_wait_state(int fd, uint32_t state);
bool engine_wait_one_asleep(struct engine_channel *channel);
bool engine_wait_asleep(struct engine *engine);
bool engine_wait_gone(uint16_t port);
bool engine_wait_unused(void);

/* Sockets and files */
int engine_tcp_pair(int pair[2], int buffer);
uint16_t engine_port(int sock);
int engine_memfd(const void *data, size_t len);
bool engine_file_has(int file, const void *data, size_t len);
uint8_t *engine_pattern(size_t len, uint64_t seed);
uint64_t engine_now(void);

/* NULL, or why there is no engine to test */
const char *engine_missing(void);

/* In FIXTURE_SETUP() or a test */
#define ENGINE_NEEDED() do {						\
	const char *_why = engine_missing();				\
									\
	if (_why)							\
		SKIP(return, "%s", _why);				\
} while (0)

/* A receiver with one device "dev", and its channels' first bytes */
int engine_create_receiver(struct engine *engine, int file,
			   unsigned int channels, uint64_t features);
int engine_create_sealed(struct engine *engine, int file, unsigned int channels,
			 uint64_t features);

#endif /* SELFTESTS_ENGINE_H */

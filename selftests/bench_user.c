// SPDX-License-Identifier: GPL-2.0-only
/*
 * The contender that does without the engine: read, send; receive, write.
 *
 * A data fd lets one user read, or write, at a time.  Threads that wait for
 * their turn here, and keep the order, take less time than those that wait in
 * the driver.  The packets have the size of the engine's.
 */
#include <err.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

#define HEADER_SIZE	296
#define PAGE		4096

struct header {
	uint32_t size;
	uint32_t device;
	uint32_t idx;
	uint8_t rest[HEADER_SIZE - 12];
};

static const struct bench *bench;
static pthread_t senders[VFIO_MULTIFD_MAX_CHANNELS];
static pthread_t receivers[VFIO_MULTIFD_MAX_CHANNELS];

/*
 * One at each end.  @lock protects the number of packets that were read, or
 * written, and keeps them in order.
 */
struct device {
	pthread_mutex_t lock;
	pthread_cond_t written;
	int fd;
	uint32_t count;
	bool eof;
};

static struct device source[BENCH_DEVICES], destination[BENCH_DEVICES];

/* Protects the number of devices that the source has stopped */
static pthread_mutex_t stop_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t stopped = PTHREAD_COND_INITIALIZER;
static unsigned int devices;

/* The data starts a page and the header ends before it: one send for both */
static uint8_t *make_buffer(void)
{
	uint8_t *buf = mmap(NULL, PAGE + BENCH_PACKET, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (buf == MAP_FAILED)
		err(1, "mmap");
	return buf + PAGE;
}

static void wait_stopped(unsigned int device)
{
	pthread_mutex_lock(&stop_lock);
	while (device >= devices)
		pthread_cond_wait(&stopped, &stop_lock);
	pthread_mutex_unlock(&stop_lock);
}

/* Returns the packet's bytes of data, 0 at the end of the device's stream */
static size_t take(unsigned int device, struct header *header, uint8_t *data)
{
	struct device *dev = &source[device];
	ssize_t len = 0;

	pthread_mutex_lock(&dev->lock);
	if (!dev->eof)
		len = read(dev->fd, data, BENCH_PACKET);
	if (len < 0)
		err(1, "read");
	header->size = len;
	header->device = device;
	header->idx = dev->count++;
	dev->eof = !len;
	pthread_mutex_unlock(&dev->lock);
	return len;
}

/* Each device has as many threads before it as the others, as far as possible. */
static void *run_send(void *number)
{
	uintptr_t channel = (uintptr_t)number;
	uint8_t *data = make_buffer();
	struct header *header = (void *)(data - HEADER_SIZE);
	int sock = bench->sent[channel];
	size_t len, size;

	for (unsigned int i = 0; i < bench->devices; i++) {
		unsigned int device = (channel + i) % bench->devices;

		wait_stopped(device);
		while ((len = take(device, header, data))) {
			size = HEADER_SIZE + len;
			if (send(sock, header, size, 0) != (ssize_t)size)
				err(1, "send");
		}
	}
	shutdown(sock, SHUT_WR);
	return NULL;
}

/* Returns false at the end of the channel */
static bool receive(int sock, void *bytes, size_t len)
{
	ssize_t done = recv(sock, bytes, len, MSG_WAITALL);

	if (done && (size_t)done != len)
		err(1, "recv");
	return done;
}

static void load(struct device *dev, uint32_t idx, const uint8_t *data,
		 size_t len)
{
	pthread_mutex_lock(&dev->lock);
	while (idx != dev->count)
		pthread_cond_wait(&dev->written, &dev->lock);
	if (write(dev->fd, data, len) != (ssize_t)len)
		err(1, "write");
	dev->count++;
	pthread_cond_broadcast(&dev->written);
	pthread_mutex_unlock(&dev->lock);
}

static void *run_receive(void *number)
{
	int sock = bench->received[(uintptr_t)number];
	uint8_t *data = make_buffer();
	struct header header;

	while (receive(sock, &header, sizeof(header))) {
		if (header.size > BENCH_PACKET ||
		    header.device >= bench->devices ||
		    !receive(sock, data, header.size))
			errx(1, "a packet is not whole");
		load(&destination[header.device], header.idx, data, header.size);
	}
	return NULL;
}

static void prepare(const struct bench *arg)
{
	bench = arg;
	for (unsigned int i = 0; i < bench->devices; i++) {
		pthread_mutex_init(&source[i].lock, NULL);
		pthread_mutex_init(&destination[i].lock, NULL);
		pthread_cond_init(&destination[i].written, NULL);
		destination[i].fd = bench->load_fd[i];
	}
	for (uintptr_t i = 0; i < bench->channels; i++)
		if (pthread_create(&senders[i], NULL, run_send, (void *)i) ||
		    pthread_create(&receivers[i], NULL, run_receive, (void *)i))
			errx(1, "cannot start a thread");
}

static void add(unsigned int device, int save_fd)
{
	pthread_mutex_lock(&stop_lock);
	source[device].fd = save_fd;
	devices = device + 1;
	pthread_cond_broadcast(&stopped);
	pthread_mutex_unlock(&stop_lock);
}

static void finish(void)
{
	for (unsigned int i = 0; i < bench->channels; i++) {
		pthread_join(senders[i], NULL);
		pthread_join(receivers[i], NULL);
	}
}

static uint64_t memory(bool source)
{
	(void)source;	/* both ends have the same */
	return (uint64_t)bench->channels * (PAGE + BENCH_PACKET);
}

const struct bench_contender bench_user = {
	prepare, add, finish, memory,
};

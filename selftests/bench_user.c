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
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

#define HEADER_SIZE	296
#define PAGE		4096

struct header {
	uint32_t size;
	uint32_t idx;
	uint8_t rest[HEADER_SIZE - 8];
};

static const struct bench *bench;
static int source;
static pthread_barrier_t started;

/* Protects the number of reads that were done, and keeps them in order */
static pthread_mutex_t read_lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t read_count;

/* The same for writes */
static pthread_mutex_t write_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t written = PTHREAD_COND_INITIALIZER;
static uint32_t write_count;

/* The data starts a page and the header ends before it: one send for both */
static uint8_t *make_buffer(void)
{
	uint8_t *buf = mmap(NULL, PAGE + BENCH_PACKET, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (buf == MAP_FAILED)
		err(1, "mmap");
	return buf + PAGE;
}

/* Returns the packet's bytes of data, 0 at the end of the stream */
static size_t take(struct header *header, uint8_t *data)
{
	ssize_t len;

	pthread_mutex_lock(&read_lock);
	len = read(source, data, BENCH_PACKET);
	header->size = len;
	header->idx = read_count++;
	pthread_mutex_unlock(&read_lock);
	if (len < 0)
		err(1, "read");
	return len;
}

static void run_send(unsigned int channel)
{
	uint8_t *data = make_buffer();
	struct header *header = (void *)(data - HEADER_SIZE);
	int sock = bench->sent[channel];
	size_t len, size;

	pthread_barrier_wait(&started);
	while ((len = take(header, data))) {
		size = HEADER_SIZE + len;
		if (send(sock, header, size, 0) != (ssize_t)size)
			err(1, "send");
	}
	shutdown(sock, SHUT_WR);
}

/* Returns false at the end of the channel */
static bool receive(int sock, void *bytes, size_t len)
{
	ssize_t done = recv(sock, bytes, len, MSG_WAITALL);

	if (done && (size_t)done != len)
		err(1, "recv");
	return done;
}

static void load(uint32_t idx, const uint8_t *data, size_t len)
{
	pthread_mutex_lock(&write_lock);
	while (idx != write_count)
		pthread_cond_wait(&written, &write_lock);
	if (write(bench->load_fd, data, len) != (ssize_t)len)
		err(1, "write");
	write_count++;
	pthread_cond_broadcast(&written);
	pthread_mutex_unlock(&write_lock);
}

static void run_receive(unsigned int channel)
{
	uint8_t *data = make_buffer();
	int sock = bench->received[channel];
	struct header header;

	while (receive(sock, &header, sizeof(header))) {
		if (header.size > BENCH_PACKET ||
		    !receive(sock, data, header.size))
			errx(1, "a packet is not whole");
		load(header.idx, data, header.size);
	}
}

static void prepare(const struct bench *arg)
{
	bench = arg;
	pthread_barrier_init(&started, NULL, BENCH_CHANNELS + 1);
}

static void go(int save_fd)
{
	source = save_fd;
	pthread_barrier_wait(&started);
}

const struct bench_contender bench_user = {
	prepare, run_send, run_receive, go,
};

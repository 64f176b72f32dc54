// SPDX-License-Identifier: GPL-2.0-only
/*
 * The contender that does without the engine: read, send; receive, write.
 *
 * It does as well as the data fds allow: a read with so much room gives whole
 * records, which may be written in any order behind the header record.  The
 * packets have the size of the engine's.
 */
#include <endian.h>
#include <err.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vfio_record.h>

#include "bench.h"

#define HEADER_SIZE	296
#define PAGE		4096

struct header {
	uint32_t size;
	uint8_t rest[HEADER_SIZE - 4];
};

static const struct bench *bench;
static int source;
static pthread_barrier_t started;
static sem_t header_loaded;

/* The data starts a page and the header ends before it: one send for both */
static uint8_t *make_buffer(void)
{
	uint8_t *buf = mmap(NULL, PAGE + BENCH_PACKET, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (buf == MAP_FAILED)
		err(1, "mmap");
	return buf + PAGE;
}

static void run_send(unsigned int channel)
{
	uint8_t *data = make_buffer();
	struct header *header = (void *)(data - HEADER_SIZE);
	int sock = bench->sent[channel];
	ssize_t len, size;

	pthread_barrier_wait(&started);
	while ((len = read(source, data, BENCH_PACKET)) > 0) {
		header->size = len;
		size = HEADER_SIZE + len;
		if (send(sock, header, size, 0) != size)
			err(1, "send");
	}
	if (len < 0)
		err(1, "read");
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

/* The header record has a packet of its own */
static void load(const uint8_t *data, size_t len)
{
	const struct vfio_record *first = (const void *)data;
	bool is_header = le32toh(first->tag) == VFIO_RECORD_MAGIC;

	if (!is_header) {
		sem_wait(&header_loaded);
		sem_post(&header_loaded);
	}
	if (write(bench->load_fd, data, len) != (ssize_t)len)
		err(1, "write");
	if (is_header)
		sem_post(&header_loaded);
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
		load(data, header.size);
	}
}

static void prepare(const struct bench *arg)
{
	bench = arg;
	pthread_barrier_init(&started, NULL, BENCH_CHANNELS + 1);
	sem_init(&header_loaded, 0, 0);
}

static void go(int save_fd)
{
	source = save_fd;
	pthread_barrier_wait(&started);
}

const struct bench_contender bench_user = {
	prepare, run_send, run_receive, go,
};

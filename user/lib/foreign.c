// SPDX-License-Identifier: LGPL-2.1-or-later
#include "foreign.h"

#include <errno.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

void vmf_foreign_init(struct vmf_foreign *foreign)
{
	uint32_t i;

	pthread_mutex_init(&foreign->lock, NULL);
	pthread_cond_init(&foreign->added, NULL);
	for (i = 0; i < VFIO_MULTIFD_MAX_DEVICES; i++)
		foreign->file[i] = -1;
}

void vmf_foreign_destroy(struct vmf_foreign *foreign)
{
	uint32_t i;

	for (i = 0; i < VFIO_MULTIFD_MAX_DEVICES; i++)
		if (foreign->file[i] >= 0)
			close(foreign->file[i]);
	pthread_cond_destroy(&foreign->added);
	pthread_mutex_destroy(&foreign->lock);
}

void vmf_foreign_add(struct vmf_foreign *foreign, uint32_t index, int fd)
{
	pthread_mutex_lock(&foreign->lock);
	foreign->file[index] = fd;
	pthread_cond_broadcast(&foreign->added);
	pthread_mutex_unlock(&foreign->lock);
}

/* The engine may ask for a device before whoever added it has said so here. */
static int wait_file(struct vmf_foreign *foreign, uint32_t index)
{
	int fd;

	pthread_mutex_lock(&foreign->lock);
	while ((fd = foreign->file[index]) < 0)
		pthread_cond_wait(&foreign->added, &foreign->lock);
	pthread_mutex_unlock(&foreign->lock);
	return fd;
}

ssize_t vmf_foreign_transfer(int fd, bool write_it, void *at, size_t size)
{
	struct pollfd ready = { .fd = fd, .events = write_it ? POLLOUT :
							       POLLIN };
	int state;
	ssize_t n;

	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
	do {
		n = write_it ? write(fd, at, size) : read(fd, at, size);
		if (n < 0)
			n = -errno;
		/* A file that is not ready and cannot be waited for has failed. */
		if (n == -EAGAIN && poll(&ready, 1, -1) == 1 &&
		    !(ready.revents & (POLLERR | POLLNVAL)))
			n = -EINTR;
	} while (n == -EINTR);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	return n;
}

void vmf_foreign_answer(struct vmf_foreign *foreign, int engine,
			uint32_t packet_size, uint32_t packets, void **map,
			struct vfio_multifd_run *run)
{
	off_t start = (off_t)run->id * VFIO_MULTIFD_MAP_PACKETS * packet_size;
	uint8_t *at;

	if (!*map) {
		at = mmap(NULL, (size_t)packets * packet_size,
			  PROT_READ | PROT_WRITE, MAP_SHARED, engine, start);
		if (at == MAP_FAILED) {
			run->result = -errno;
			return;
		}
		*map = at;
	}
	at = *map;
	run->result = vmf_foreign_transfer(wait_file(foreign, run->device),
					   run->ask == VFIO_MULTIFD_ASK_WRITE,
					   at + (run->offset - start),
					   run->size);
}

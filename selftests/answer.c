// SPDX-License-Identifier: GPL-2.0-only
/* Who runs a channel and reads and writes the files of devices for it */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "answer.h"

int answer_run(int fd, struct vfio_multifd_run *run)
{
	run->argsz = sizeof(*run);
	run->flags = 0;
	return engine_call(fd, VFIO_MULTIFD_RUN_CHANNEL, run);
}

/* A source with one foreign device "dev" */
int answer_create(struct engine *engine, uint32_t channels, uint64_t features,
		  int buffer, int file)
{
	return engine_create(engine, VFIO_MULTIFD_SEND, channels, features,
			     ENGINE_PACKET, buffer) ?:
	       engine_add_device_with(engine->fd, VFIO_MULTIFD_DEVICE_FOREIGN,
				      file, "dev", 0);
}

/* MAP_FAILED and errno if there is none */
uint8_t *answer_map(int fd, uint32_t id, unsigned int packets)
{
	return mmap(NULL, packets * ENGINE_PACKET, PROT_READ | PROT_WRITE,
		    MAP_SHARED, fd, (off_t)id * ANSWER_AREA);
}

static int64_t act(struct answer *answer, const struct vfio_multifd_run *run)
{
	uint8_t *at = answer->map + run->offset % ANSWER_AREA;
	int file = answer->file[run->device];
	size_t size = run->size;
	ssize_t ret;

	if (answer->most && size > answer->most)
		size = answer->most;
	if (run->ask == VFIO_MULTIFD_ASK_READ)
		ret = read(file, at, size);
	else
		ret = write(file, at, size);
	if (ret < 0)
		return -errno;
	return ret ? ret : answer->last;
}

static void *serve(void *arg)
{
	struct answer *answer = arg;
	struct vfio_multifd_run run = { .id = answer->id };

	do {
		answer->ret = answer_run(answer->fd, &run);
		if (answer->ret == -EINTR)
			continue;
		if (answer->ret || !run.ask)
			return NULL;
		answer->questions++;
		run.result = act(answer, &run);
	} while (1);
}

/* Its transfer has packets of ENGINE_PACKET bytes. */
void answer_start(struct answer *answer)
{
	answer->map = answer_map(answer->fd, answer->id, answer->packets);
	if (answer->map == MAP_FAILED ||
	    pthread_create(&answer->thread, NULL, serve, answer))
		abort();
}

int answer_join(struct answer *answer)
{
	pthread_join(answer->thread, NULL);
	munmap(answer->map, answer->packets * ENGINE_PACKET);
	return answer->ret;
}

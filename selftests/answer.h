/* SPDX-License-Identifier: GPL-2.0-only */
/* Who runs a channel and reads and writes the files of devices for it */
#ifndef SELFTESTS_ANSWER_H
#define SELFTESTS_ANSWER_H

#include <pthread.h>
#include <stdint.h>
#include <linux/vfio_multifd.h>

#include "engine.h"

/* Where the mappings of two channels are apart */
#define ANSWER_AREA	(VFIO_MULTIFD_MAP_PACKETS * ENGINE_PACKET)

/**
 * struct answer - a channel's thread
 * @fd: the transfer
 * @id: the channel's id
 * @file: the devices' files, by index
 * @packets: how long its mapping is
 * @most: bytes that are read or written at once, or 0
 * @last: a negative errno in place of a read of nothing, or 0
 * @questions: how many there were
 * @ret: what RUN_CHANNEL returned last
 * @map: the channel's mapping
 */
struct answer {
	int fd;
	uint32_t id;
	const int *file;
	unsigned int packets;
	size_t most;
	int last;
	unsigned int questions;
	int ret;
	uint8_t *map;
	pthread_t thread;
};

int answer_run(int fd, struct vfio_multifd_run *run);
int answer_create(struct engine *engine, uint32_t channels, uint64_t features,
		  int buffer, int file);
uint8_t *answer_map(int fd, uint32_t id, unsigned int packets);
void answer_start(struct answer *answer);
int answer_join(struct answer *answer);

#endif /* SELFTESTS_ANSWER_H */

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files that the engine cannot read or write: a channel's thread does it, where
 * the engine asks for it.
 */
#ifndef VMF_FOREIGN_H
#define VMF_FOREIGN_H

#include <vfio-multifd.h>

#include <pthread.h>
#include <sys/types.h>

/**
 * struct vmf_foreign - the files of a transfer
 * @lock: protects @file
 * @added: a file has come
 * @file: by the engine's index of the device; -1: not here, or not foreign
 */
struct vmf_foreign {
	pthread_mutex_t lock;
	pthread_cond_t added;
	int file[VFIO_MULTIFD_MAX_DEVICES];
};

/*
 * One read or write, the number of its bytes or a negative errno.  A driver may sleep
 * for as long as it likes, so the thread can be cancelled in here.
 */
ssize_t vmf_foreign_transfer(int fd, bool write_it, void *at, size_t size);

void vmf_foreign_init(struct vmf_foreign *foreign);
void vmf_foreign_destroy(struct vmf_foreign *foreign);

/* @fd becomes the transfer's. */
void vmf_foreign_add(struct vmf_foreign *foreign, uint32_t index, int fd);

/*
 * Does what @run asks for and puts the answer into it.  @map is where the
 * engine's pages are, for so many packets, or NULL: they are mapped then.  The thread can
 * be cancelled in here, and holds nothing then.
 */
void vmf_foreign_answer(struct vmf_foreign *foreign, int engine,
			uint32_t packet_size, uint32_t packets, void **map,
			struct vfio_multifd_run *run);

#endif /* VMF_FOREIGN_H */

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The one port of the destination.  Anybody can connect to it, so each
 * connection waits here until its first bytes say what it is.
 */
#ifndef VMF_LISTENER_H
#define VMF_LISTENER_H

#include <vfio-multifd.h>

#include <poll.h>

#define VMF_LISTENER_HEAD	64	/* bytes: size of a channel's MultiFDInit */
#define VMF_LISTENER_WAITING	(VFIO_MULTIFD_MAX_CHANNELS + 8)
#define VMF_LISTENER_FDS	(VMF_LISTENER_WAITING + 1)

struct vmf_listener {
	int sock;
	uint32_t timeout;
	uint32_t waiting;
	struct vmf_waiting {
		int sock;
		uint64_t deadline;
	} list[VMF_LISTENER_WAITING];
	struct pollfd fds[VMF_LISTENER_FDS];
};

int vmf_listener_open(struct vmf_listener *listener, const char *address,
		      uint32_t timeout, struct vmf_error *error);

/* Fine to be called again, or on an object of zeros with @sock -1. */
void vmf_listener_close(struct vmf_listener *listener);

/* Fills and returns @fds to poll; the number of them is 1 + @waiting. */
struct pollfd *vmf_listener_fds(struct vmf_listener *listener);

/* When the first of those who wait has waited too long. */
uint64_t vmf_listener_deadline(const struct vmf_listener *listener);

/*
 * To be called after vmf_listener_fds() or vmf_listener_deadline() had
 * something, until it returns -EAGAIN.
 * Else it returns a connection and its first bytes, which are still to be
 * read from it, or the errno of a process that cannot have one more fd.
 */
int vmf_listener_next(struct vmf_listener *listener,
		      uint8_t head[static VMF_LISTENER_HEAD]);

#endif /* VMF_LISTENER_H */

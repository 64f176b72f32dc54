/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VMF_NET_H
#define VMF_NET_H

#include <vfio-multifd.h>

#include <sys/socket.h>

#define VMF_NET_NAME_SIZE	80	/* "[address%interface]:port" */

/*
 * Connects to @address (see struct vmf_params) and returns the socket.  Gives
 * up after @timeout seconds for each address that a name has, or as soon as
 * @cancel_fd becomes readable.
 */
int vmf_net_connect(const char *address, uint32_t timeout, int cancel_fd,
		    struct vmf_error *error);

/*
 * Connects to @address for a channel; NULL: once more to where @sock is connected
 * to, which also gives the port if @address has none.
 */
int vmf_net_connect_again(int sock, const char *address, uint32_t timeout,
			  int cancel_fd, struct vmf_error *error);

/* Lets no more than @rate bytes per second out of @sock; UINT64_MAX: as many. */
int vmf_net_limit(int sock, uint64_t rate);

/* Listens on @address, NULL for loopback, and returns the socket. */
int vmf_net_listen(const char *address, struct vmf_error *error);

/* Where @sock is bound to, as HOST:PORT that vmf_net_connect() takes. */
void vmf_net_name(int sock, char name[static VMF_NET_NAME_SIZE]);

/* What each connection has, connected or accepted. */
void vmf_net_tune(int sock);

#endif /* VMF_NET_H */

/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VMF_NET_H
#define VMF_NET_H

#include <vfio-multifd.h>

#include <sys/socket.h>

#define VMF_NET_NAME_SIZE	80	/* "[address%interface]:port" */

struct addrinfo;

/*
 * Puts the addresses that @address (see struct vmf_params) has into @list, for
 * vmf_net_forget().  A port that is missing is that of @like, if that is not NULL.
 * A name takes as long as the resolver does, which nothing cancels.
 */
int vmf_net_resolve(const char *address, const char *like,
		    struct addrinfo **list, struct vmf_error *error);

void vmf_net_forget(struct addrinfo *list);

/*
 * Connects to the first of @list that can be reached, and returns the socket.  Gives
 * up after @timeout seconds for each of them, or as soon as @cancel_fd becomes readable.
 * @name: of them all, for errors
 */
int vmf_net_connect(const struct addrinfo *list, const char *name,
		    uint32_t timeout, int cancel_fd, struct vmf_error *error);

/* The same to one address, which has been reached before. */
int vmf_net_connect_to(const struct sockaddr *addr, socklen_t size,
		       const char *name, uint32_t timeout, int cancel_fd,
		       struct vmf_error *error);

/* Lets no more than @rate bytes per second out of @sock; UINT64_MAX: as many. */
int vmf_net_limit(int sock, uint64_t rate);

/* Listens on @address, NULL for loopback, and returns the socket. */
int vmf_net_listen(const char *address, struct vmf_error *error);

/* Where @sock is bound to, as HOST:PORT that vmf_net_connect() takes. */
void vmf_net_name(int sock, char name[static VMF_NET_NAME_SIZE]);

/* What each connection has, connected or accepted. */
void vmf_net_tune(int sock);

#endif /* VMF_NET_H */

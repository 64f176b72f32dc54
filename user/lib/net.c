// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Addresses and sockets, IPv4 and IPv6 alike.
 */
#include "net.h"

#include "clock.h"
#include "error.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOPBACK	"127.0.0.1"	/* who listens and names no host */

/*
 * Splits "HOST:PORT", "HOST", ":PORT", "[ADDRESS]:PORT" or "[ADDRESS]" in
 * place.  More than one colon without brackets is an address alone.  @port stays
 * where there is none.
 */
static int split(char *address, const char **host, const char **port)
{
	char *colon;

	*host = address;

	if (*address == '[') {
		colon = strchr(address, ']');
		if (!colon)
			return -EINVAL;
		*host = address + 1;
		*colon++ = '\0';
		if (!*colon)
			return 0;
		if (*colon != ':')
			return -EINVAL;
	} else {
		colon = strchr(address, ':');
		if (!colon || strchr(colon + 1, ':'))
			return 0;
	}

	*colon = '\0';
	*port = colon + 1;
	return **port ? 0 : -EINVAL;
}

static bool is_port(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	return digits >= 1 && digits <= 5 && !text[digits] &&
	       atoi(text) <= UINT16_MAX;
}

static int check_port(const char *port, const char *address,
		      struct vmf_error *error)
{
	if (is_port(port))
		return 0;
	return vmf_error_set(error, -EINVAL,
			     "%s: its port is not a number from 0 to %u",
			     address, UINT16_MAX);
}

/* @nowhere: the host if none is named, or NULL if one has to be */
static int resolve(const char *address, const char *port, const char *nowhere,
		   struct addrinfo **list, struct vmf_error *error)
{
	const struct addrinfo hints = {
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICSERV,
	};
	const char *host;
	char *copy;
	int ret;

	copy = strdup(address);
	if (!copy)
		return vmf_error_set(error, -ENOMEM, "out of memory");

	ret = split(copy, &host, &port);
	if (ret) {
		vmf_error_set(error, ret, "%s: not HOST:PORT", address);
	} else if (!*host && !nowhere) {
		ret = vmf_error_set(error, -EINVAL, "\"%s\" names no host",
				    address);
	} else {
		ret = check_port(port, address, error);
	}
	if (!ret) {
		ret = getaddrinfo(*host ? host : nowhere, port, &hints, list);
		if (ret)
			ret = vmf_error_set(error, -EHOSTUNREACH, "%s: %s",
					    address, gai_strerror(ret));
	}
	free(copy);
	return ret;
}

int vmf_net_resolve(const char *address, const char *like,
		    struct addrinfo **list, struct vmf_error *error)
{
	const char *host, *port = VMF_DEFAULT_PORT;
	char *copy;
	int ret;

	copy = strdup(like ? like : "");
	if (!copy)
		return vmf_error_set(error, -ENOMEM, "out of memory");
	ret = split(copy, &host, &port);
	if (ret)
		vmf_error_set(error, ret, "%s: not HOST:PORT", like);
	else if (like)
		ret = check_port(port, like, error);
	if (!ret)
		ret = resolve(address, port, NULL, list, error);
	free(copy);
	return ret;
}

void vmf_net_forget(struct addrinfo *list)
{
	if (list)
		freeaddrinfo(list);
}

void vmf_net_tune(int sock)
{
	const int on = 1;

	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static int wait_connected(int sock, uint32_t timeout, int cancel_fd)
{
	uint64_t deadline = vmf_clock_ns() + timeout * VMF_NS_PER_S;
	struct pollfd fds[] = {
		{ .fd = sock, .events = POLLOUT },
		{ .fd = cancel_fd, .events = POLLIN },
	};
	socklen_t size = sizeof(int);
	int ret;

	do {
		ret = poll(fds, 2, vmf_clock_ms_until(deadline));
	} while (ret < 0 && errno == EINTR);

	if (ret < 0)
		return -errno;
	if (!ret)
		return -ETIMEDOUT;
	if (fds[1].revents)
		return -ECANCELED;
	if (getsockopt(sock, SOL_SOCKET, SO_ERROR, &ret, &size) < 0)
		return -errno;
	return -ret;
}

static int connect_to(const struct sockaddr *addr, socklen_t size,
		      uint32_t timeout, int cancel_fd)
{
	int sock, ret;

	sock = socket(addr->sa_family,
		      SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0)
		return -errno;

	ret = connect(sock, addr, size) < 0 ? -errno : 0;
	if (ret == -EINPROGRESS)
		ret = wait_connected(sock, timeout, cancel_fd);
	if (!ret && fcntl(sock, F_SETFL, 0) < 0)
		ret = -errno;
	if (ret) {
		close(sock);
		return ret;
	}
	vmf_net_tune(sock);
	return sock;
}

int vmf_net_connect(const struct addrinfo *list, const char *name,
		    uint32_t timeout, int cancel_fd, struct vmf_error *error)
{
	const struct addrinfo *ai;
	int ret = -EHOSTUNREACH;

	for (ai = list; ai; ai = ai->ai_next) {
		ret = connect_to(ai->ai_addr, ai->ai_addrlen, timeout,
				 cancel_fd);
		if (ret >= 0 || ret == -ECANCELED)
			break;
	}
	if (ret < 0)
		return vmf_error_set(error, ret, "connecting to %s: %s", name,
				     strerror(-ret));
	return ret;
}

int vmf_net_connect_to(const struct sockaddr *addr, socklen_t size,
		       const char *name, uint32_t timeout, int cancel_fd,
		       struct vmf_error *error)
{
	int ret = connect_to(addr, size, timeout, cancel_fd);

	if (ret < 0)
		return vmf_error_set(error, ret, "connecting to %s again: %s",
				     name, strerror(-ret));
	return ret;
}

int vmf_net_limit(int sock, uint64_t rate)
{
	if (setsockopt(sock, SOL_SOCKET, SO_MAX_PACING_RATE, &rate,
		       sizeof(rate)) < 0)
		return -errno;
	return 0;
}

static int listen_on(const struct addrinfo *ai)
{
	const int on = 1, off = 0;
	int sock, ret;

	sock = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -errno;

	setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* "[::]" stands for all addresses, of either family. */
	if (ai->ai_family == AF_INET6)
		setsockopt(sock, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(sock, ai->ai_addr, ai->ai_addrlen) < 0 ||
	    listen(sock, VFIO_MULTIFD_MAX_CHANNELS) < 0) {
		ret = -errno;
		close(sock);
		return ret;
	}
	return sock;
}

int vmf_net_listen(const char *address, struct vmf_error *error)
{
	struct addrinfo *list, *ai;
	int ret;

	if (!address)
		address = LOOPBACK;
	ret = resolve(address, VMF_DEFAULT_PORT, LOOPBACK, &list, error);
	if (ret)
		return ret;

	for (ai = list; ai; ai = ai->ai_next) {
		ret = listen_on(ai);
		if (ret >= 0)
			break;
	}
	freeaddrinfo(list);
	if (ret < 0)
		return vmf_error_set(error, ret, "listening on %s: %s",
				     address, strerror(-ret));
	return ret;
}

void vmf_net_name(int sock, char name[static VMF_NET_NAME_SIZE])
{
	char host[64] = "?", port[8] = "?";
	struct sockaddr_storage addr = {};
	socklen_t size = sizeof(addr);

	if (!getsockname(sock, (struct sockaddr *)&addr, &size))
		getnameinfo((struct sockaddr *)&addr, size, host, sizeof(host),
			    port, sizeof(port),
			    NI_NUMERICHOST | NI_NUMERICSERV);
	snprintf(name, VMF_NET_NAME_SIZE,
		 addr.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

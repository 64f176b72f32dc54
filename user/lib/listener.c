// SPDX-License-Identifier: LGPL-2.1-or-later
#include "listener.h"

#include "clock.h"
#include "error.h"
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

int vmf_listener_open(struct vmf_listener *listener, const char *address,
		      uint32_t timeout, struct vmf_error *error)
{
	listener->waiting = 0;
	listener->timeout = timeout;
	listener->sock = vmf_net_listen(address, error);
	if (listener->sock < 0)
		return listener->sock;

	/* A connection may be gone by the time that it is accepted. */
	if (fcntl(listener->sock, F_SETFL, O_NONBLOCK) < 0)
		return vmf_error_set(error, -errno, "listening socket: %s",
				     strerror(errno));
	return 0;
}

static void drop(struct vmf_listener *listener, uint32_t i)
{
	listener->waiting--;
	listener->list[i] = listener->list[listener->waiting];
}

void vmf_listener_close(struct vmf_listener *listener)
{
	while (listener->waiting) {
		close(listener->list[0].sock);
		drop(listener, 0);
	}
	if (listener->sock >= 0)
		close(listener->sock);
	listener->sock = -1;
}

struct pollfd *vmf_listener_fds(struct vmf_listener *listener)
{
	uint32_t i;

	listener->fds[0] = (struct pollfd){
		.fd = listener->sock,
		.events = POLLIN,
	};
	for (i = 0; i < listener->waiting; i++)
		listener->fds[i + 1] = (struct pollfd){
			.fd = listener->list[i].sock,
			.events = POLLIN,
		};
	return listener->fds;
}

/* Makes poll() wake for @bytes or for the end, not for each byte. */
static void set_low_water(int sock, int bytes)
{
	setsockopt(sock, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes));
}

static void close_oldest(struct vmf_listener *listener)
{
	uint32_t i, oldest = 0;

	for (i = 1; i < listener->waiting; i++)
		if (listener->list[i].deadline <
		    listener->list[oldest].deadline)
			oldest = i;
	close(listener->list[oldest].sock);
	drop(listener, oldest);
}

static void add(struct vmf_listener *listener, int sock)
{
	const int on = 1;

	vmf_net_tune(sock);
	/* An urgent byte that comes first would hide what comes after it. */
	setsockopt(sock, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	set_low_water(sock, VMF_LISTENER_HEAD);
	listener->list[listener->waiting++] = (struct vmf_waiting){
		.sock = sock,
		.deadline = vmf_clock_ns() + listener->timeout * VMF_NS_PER_S,
	};
}

/*
 * Idle strangers must not lock the port: the oldest makes room for a new one.
 * Returns -EAGAIN, or another error if there is no room of the process' own.
 */
static int accept_all(struct vmf_listener *listener)
{
	uint32_t i;
	int sock;

	for (i = 0; i < VMF_LISTENER_WAITING; i++) {
		sock = accept4(listener->sock, NULL, NULL, SOCK_CLOEXEC);
		if (sock >= 0) {
			if (listener->waiting == VMF_LISTENER_WAITING)
				close_oldest(listener);
			add(listener, sock);
			continue;
		}
		if (errno != EMFILE && errno != ENFILE)
			break;
		if (!listener->waiting)
			return -errno;
		close_oldest(listener);
	}
	return -EAGAIN;
}

/* True if @sock will never have more bytes than it has. */
static bool ended(int sock)
{
	struct pollfd fd = { .fd = sock, .events = POLLRDHUP };

	return poll(&fd, 1, 0) > 0;
}

int vmf_listener_next(struct vmf_listener *listener,
		      uint8_t head[static VMF_LISTENER_HEAD])
{
	uint32_t i = 0;
	int sock, there;
	ssize_t got;

	while (i < listener->waiting) {
		sock = listener->list[i].sock;
		there = 0;
		ioctl(sock, FIONREAD, &there);
		got = recv(sock, head, VMF_LISTENER_HEAD,
			   MSG_PEEK | MSG_DONTWAIT);
		if (got == VMF_LISTENER_HEAD) {
			set_low_water(sock, 1);
			drop(listener, i);
			return sock;
		}
		/* poll() counts what is behind an urgent byte, too: it would spin. */
		if (there >= VMF_LISTENER_HEAD || ended(sock) ||
		    vmf_clock_ns() >= listener->list[i].deadline) {
			close(sock);
			drop(listener, i);
		} else {
			i++;
		}
	}
	/* Of those who come now poll() tells which have said enough. */
	return accept_all(listener);
}

uint64_t vmf_listener_deadline(const struct vmf_listener *listener)
{
	uint64_t first = UINT64_MAX;
	uint32_t i;

	for (i = 0; i < listener->waiting; i++)
		if (listener->list[i].deadline < first)
			first = listener->list[i].deadline;
	return first;
}

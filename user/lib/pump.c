// SPDX-License-Identifier: LGPL-2.1-or-later
#include "pump.h"

#include "clock.h"
#include "foreign.h"
#include "thread.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER	(4 * VMF_PUMP_DATA) /* of a socket; what a packet costs is more */

/*
 * The thread has @data and the fds but @session to itself.  All that it and the
 * session share are packets between two sockets.
 */
struct vmf_pump {
	pthread_t thread;
	int data_fd;
	bool precopy;		/* an end of file is none */
	int session;
	int own;
	uint8_t data[VMF_PUMP_DATA];
};

static int put(int sock, struct vmf_pump_note *note, const void *data,
	       size_t size, int flags)
{
	struct iovec part[] = {
		{ note, sizeof(*note) },
		{ (void *)data, size },
	};
	struct msghdr message = { .msg_iov = part, .msg_iovlen = 2 };

	return sendmsg(sock, &message, MSG_NOSIGNAL | flags) < 0 ? -errno : 0;
}

/* Who waits for a note of a thread that has none must not wait for ever. */
static void hang_up(struct vmf_pump *pump)
{
	shutdown(pump->own, SHUT_RDWR);
}

static int take(int sock, struct vmf_pump_note *note, void *data, int flags)
{
	struct iovec part[] = {
		{ note, sizeof(*note) },
		{ data, VMF_PUMP_DATA },
	};
	struct msghdr message = { .msg_iov = part, .msg_iovlen = data ? 2 : 1 };
	ssize_t got = recvmsg(sock, &message, flags);

	if (got < 0)
		return -errno;
	return got < (ssize_t)sizeof(*note) ? -EPIPE : 0;
}

static struct vmf_pump_note read_some(struct vmf_pump *pump)
{
	struct vmf_pump_note note = {};
	uint64_t initial, dirty;
	ssize_t got;

	got = vmf_foreign_transfer(pump->data_fd, false, pump->data,
				   VMF_PUMP_DATA);
	if (got > 0) {
		note.size = got;
	} else if (pump->precopy && (!got || got == -ENOMSG)) {
		note.paused = true;
		note.initial = vmf_device_precopy_info(pump->data_fd, &initial,
						       &dirty) || initial;
	} else {
		note.error = got;
		note.ended = !got;
	}
	return note;
}

/* Up to the end of file, or until the session has gone */
static void *run_reader(void *arg)
{
	struct vmf_pump *pump = arg;
	struct vmf_pump_note note = {}, answer;
	int state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	while (!note.error && !note.ended) {
		note = read_some(pump);
		if (put(pump->own, &note, pump->data, note.size, 0)) {
			hang_up(pump);
			break;
		}
		if (!note.paused)
			continue;
		if (take(pump->own, &answer, pump->data, 0))
			break;
		pump->precopy = !answer.ended;
	}
	return NULL;
}

static int write_all(struct vmf_pump *pump, size_t size)
{
	size_t at = 0;
	ssize_t n;

	while (at < size) {
		n = vmf_foreign_transfer(pump->data_fd, true, pump->data + at,
					 size - at);
		if (n <= 0)
			return n ? n : -EIO;
		at += n;
	}
	return 0;
}

static void *run_writer(void *arg)
{
	struct vmf_pump *pump = arg;
	struct vmf_pump_note note = {};
	int state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	while (!note.error && !note.ended) {
		if (take(pump->own, &note, pump->data, 0))
			break;
		note.error = write_all(pump, note.size);
		if (put(pump->own, &note, NULL, 0, 0)) {
			hang_up(pump);
			break;
		}
	}
	return NULL;
}

static int start(struct vmf_pump **pumpp, int data_fd, bool precopy,
		 void *(*run)(void *arg))
{
	struct vmf_pump *pump = malloc(sizeof(*pump));
	const int buffer = BUFFER;
	int pair[2], ret;

	if (!pump)
		return -ENOMEM;
	pump->precopy = precopy;
	pump->data_fd = fcntl(data_fd, F_DUPFD_CLOEXEC, 0);
	if (pump->data_fd < 0) {
		ret = -errno;
		goto free_pump;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		ret = -errno;
		goto close_data;
	}
	pump->session = pair[0];
	pump->own = pair[1];
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
	setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
	ret = vmf_thread_start(&pump->thread, run, pump);
	if (!ret) {
		*pumpp = pump;
		return 0;
	}

	close(pump->session);
	close(pump->own);
close_data:
	close(pump->data_fd);
free_pump:
	free(pump);
	return ret;
}

int vmf_pump_start_reader(struct vmf_pump **pump, int data_fd, bool precopy)
{
	return start(pump, data_fd, precopy, run_reader);
}

int vmf_pump_start_writer(struct vmf_pump **pump, int data_fd)
{
	return start(pump, data_fd, false, run_writer);
}

int vmf_pump_fd(const struct vmf_pump *pump)
{
	return pump->session;
}

int vmf_pump_take(struct vmf_pump *pump, struct vmf_pump_note *note, void *data)
{
	return take(pump->session, note, data, MSG_DONTWAIT);
}

int vmf_pump_put(struct vmf_pump *pump, struct vmf_pump_note note,
		 const void *data)
{
	return put(pump->session, &note, data, note.size, MSG_DONTWAIT);
}

void vmf_pump_cancel(struct vmf_pump *pump)
{
	if (!pump)
		return;
	/* The thread waits for one of these two, or is about to. */
	close(pump->session);
	pthread_cancel(pump->thread);
}

void vmf_pump_destroy(struct vmf_pump *pump, uint64_t deadline)
{
	struct timespec until = {
		.tv_sec = deadline / VMF_NS_PER_S,
		.tv_nsec = deadline % VMF_NS_PER_S,
	};

	/* What a thread that never comes back uses has to stay. */
	if (!pump || pthread_clockjoin_np(pump->thread, NULL, CLOCK_MONOTONIC,
					  &until))
		return;
	close(pump->own);
	close(pump->data_fd);
	free(pump);
}

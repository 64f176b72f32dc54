// SPDX-License-Identifier: LGPL-2.1-or-later
#include "config.h"

#include "error.h"
#include "section.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int vmf_config_open(struct vmf_session *session, uint32_t i)
{
	const struct vmf_device *device = &session->params->device[i];
	struct vmf_session_device *own = &session->device[i];
	bool send = session->role == VFIO_MULTIFD_SEND;
	int flags;

	if (device->config_fd < 0)
		return 0;

	flags = fcntl(device->config_fd, F_GETFL);
	if (flags < 0 || (flags & O_ACCMODE) == (send ? O_WRONLY : O_RDONLY))
		return vmf_error_set(&session->error, -EBADF,
				     "device %s: config-fd %d is not open for %s",
				     device->idstr, device->config_fd,
				     send ? "reading" : "writing");
	own->config = malloc(VFIO_MULTIFD_MAX_CONFIG + 1);
	if (!own->config)
		return vmf_error_set(&session->error, -ENOMEM,
				     "out of memory");
	own->config_fd = device->config_fd;
	return 0;
}

/* Waits until one of the config fds can be read or written; 0 if none is left. */
static int wait_any(struct vmf_session *session, short events,
		    struct pollfd fds[VFIO_MULTIFD_MAX_DEVICES])
{
	uint32_t i, left = 0;

	for (i = 0; i < session->params->devices; i++) {
		fds[i] = (struct pollfd){ session->device[i].config_fd,
					  events, 0 };
		left += fds[i].fd >= 0;
	}
	if (!left)
		return 0;
	return vmf_session_wait(session, &(struct vmf_wait){
		.fds = fds, .nfds = session->params->devices,
		.what = "the VMM at its config-fd" });
}

static int set_config(struct vmf_session *session, uint32_t i)
{
	struct vmf_session_device *own = &session->device[i];

	own->config_fd = -1;
	if (own->on_main)
		return vmf_section_set_config(session, i);
	return vmf_engine_set_config(session->engine, own->index, own->config,
				     own->config_size, &session->error);
}

static int read_some(struct vmf_session *session, uint32_t i)
{
	struct vmf_session_device *own = &session->device[i];
	const char *name = session->params->device[i].idstr;
	ssize_t got;

	got = read(own->config_fd, own->config + own->config_size,
		   VFIO_MULTIFD_MAX_CONFIG + 1 - own->config_size);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got < 0)
		return vmf_error_set(&session->error, -errno,
				     "reading the config state of device %s: %s",
				     name, strerror(errno));
	if (!got)
		return set_config(session, i);

	own->config_size += got;
	if (own->config_size > VFIO_MULTIFD_MAX_CONFIG)
		return vmf_error_set(&session->error, -E2BIG,
				     "config state of device %s is larger than %u bytes",
				     name, VFIO_MULTIFD_MAX_CONFIG);
	vmf_session_step(session);
	return 0;
}

int vmf_config_read(struct vmf_session *session)
{
	struct pollfd fds[VFIO_MULTIFD_MAX_DEVICES];
	uint32_t i;
	int ret;

	for (i = 0; i < session->params->devices; i++) {
		if (session->device[i].config_fd >= 0)
			continue;
		ret = set_config(session, i);
		if (ret)
			return ret;
	}

	for (;;) {
		ret = wait_any(session, POLLIN, fds);
		if (ret <= 0)
			return ret;
		for (i = 0; i < session->params->devices; i++) {
			if (!fds[i].revents)
				continue;
			ret = read_some(session, i);
			if (ret)
				return ret;
		}
	}
}

int vmf_config_take(struct vmf_session *session)
{
	struct vmf_session_device *own;
	uint32_t i;
	int ret;

	for (i = 0; i < session->params->devices; i++) {
		own = &session->device[i];
		if (own->on_main)
			continue;
		own->config_size = own->config ? VFIO_MULTIFD_MAX_CONFIG : 0;
		ret = vmf_engine_get_config(session->engine, own->index,
					    own->config, &own->config_size,
					    &session->error);
		if (ret)
			return ret;
	}
	return 0;
}

static int write_some(struct vmf_session *session, uint32_t i)
{
	struct vmf_session_device *own = &session->device[i];
	size_t left = own->config_size - own->config_at;
	ssize_t put = 0;

	/* As much as goes into a ready pipe without waiting for its reader. */
	if (left)
		put = write(own->config_fd, own->config + own->config_at,
			    left < PIPE_BUF ? left : PIPE_BUF);
	if (put < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (put < 0)
		return vmf_error_set(&session->error, -errno,
				     "writing the config state of device %s: %s",
				     session->params->device[i].idstr,
				     strerror(errno));

	vmf_session_step(session);
	own->config_at += put;
	if (own->config_at == own->config_size) {
		close(own->config_fd);
		own->config_fd = -1;
	}
	return 0;
}

int vmf_config_write(struct vmf_session *session)
{
	struct pollfd fds[VFIO_MULTIFD_MAX_DEVICES];
	uint32_t i;
	int ret;

	for (;;) {
		ret = wait_any(session, POLLOUT, fds);
		if (ret <= 0)
			return ret;
		for (i = 0; i < session->params->devices; i++) {
			if (!fds[i].revents)
				continue;
			ret = write_some(session, i);
			if (ret)
				return ret;
		}
	}
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Which way a device goes is settled before anything of it moves, at both ends.  So one
 * that is to go another way begins anew, and all others with it: their guest still runs.
 */
#include "modes.h"

#include "error.h"
#include "section.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define LINE	(VFIO_MULTIFD_IDSTR_SIZE + sizeof(" auto"))

static int bad_line(struct vmf_session *session, const char *line)
{
	return vmf_error_set(&session->error, -EINVAL,
			     "modes-fd: \"%.300s\" is not a device's name and on, off or auto",
			     line);
}

/*
 * 1 if there is one, without its end.  Byte by byte, so that those which follow stay
 * there for the session that is to come.
 */
static int read_line(struct vmf_session *session, char line[static LINE])
{
	struct pollfd fd = { session->params->modes_fd, POLLIN, 0 };
	ssize_t got;
	size_t at;

	for (at = 0; at < LINE; at++) {
		line[at] = '\0';
		if (poll(&fd, 1, 0) <= 0)
			break;
		got = read(fd.fd, &line[at], 1);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (got < 0)
			return vmf_error_set(&session->error, -errno,
					     "modes-fd %d: %s", fd.fd,
					     strerror(errno));
		session->lasting->modes_ended = !got;
		if (!got)
			break;
		if (line[at] == '\n') {
			line[at] = '\0';
			return 1;
		}
	}
	line[at < LINE ? at : LINE - 1] = '\0';
	return at ? bad_line(session, line) : 0;
}

/* Does the state of device @i have to go another way? */
static bool is_other_way(const struct vmf_session *session, uint32_t i,
			 enum vmf_multifd multifd)
{
	switch (multifd) {
	case VMF_MULTIFD_ON:
		return session->device[i].on_main;
	case VMF_MULTIFD_OFF:
		return !session->device[i].on_main;
	default:
		return session->lasting->device[i].multifd == VMF_MULTIFD_OFF;
	}
}

/* Puts what @line says into @wanted, by device. */
static int take(struct vmf_session *session, char *line,
		enum vmf_multifd *wanted)
{
	char *mode = strchr(line, ' ');
	enum vmf_multifd multifd;
	bool found = false;
	uint32_t i;

	if (!mode || vmf_multifd_parse(mode + 1, &multifd))
		return bad_line(session, line);
	*mode = '\0';
	for (i = 0; i < session->params->devices; i++) {
		if (strcmp(line, session->lasting->device[i].idstr))
			continue;
		found = true;
		wanted[i] = multifd;
	}
	if (!found)
		return vmf_error_set(&session->error, -ENODEV,
				     "modes-fd: no device is named %.300s",
				     line);
	return 0;
}

/*
 * The destination answers once it no longer looks for what belongs to this session: it
 * may be slow, and what comes to it next is of the other.
 */
static int agree(struct vmf_session *session)
{
	int ret = vmf_session_send_bare(session, VMF_ANEW);

	if (ret)
		return ret;
	/* What becomes of the rest of the state no longer matters. */
	vmf_section_end(session);
	session->running = false;
	vmf_session_step(session);
	ret = vmf_session_wait(session, &(struct vmf_wait){
		.messages = 1 << VMF_ANEW,
		.what = "the destination to begin anew",
	});
	if (ret < 0)
		return ret;
	session->anew = true;
	return -ERESTART;
}

int vmf_modes_read(struct vmf_session *session)
{
	enum vmf_multifd wanted[VFIO_MULTIFD_MAX_DEVICES];
	bool anew = false;
	char line[LINE];
	uint32_t i;
	int ret;

	for (i = 0; i < session->params->devices; i++)
		wanted[i] = session->lasting->device[i].multifd;
	/* There are not more that make sense: who writes for ever must not be read so. */
	for (i = 0; i < VFIO_MULTIFD_MAX_DEVICES; i++) {
		ret = read_line(session, line);
		if (ret > 0)
			ret = take(session, line, wanted);
		else if (!ret)
			break;
		if (ret)
			return ret;
	}
	for (i = 0; i < session->params->devices; i++) {
		anew |= is_other_way(session, i, wanted[i]);
		session->lasting->device[i].multifd = wanted[i];
	}
	return anew ? agree(session) : 0;
}

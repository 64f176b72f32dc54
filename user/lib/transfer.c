// SPDX-License-Identifier: LGPL-2.1-or-later
#include "transfer.h"

#include "clock.h"
#include "config.h"
#include "error.h"
#include "negotiate.h"
#include "team.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int check_devices(struct vmf_session *session)
{
	const struct vmf_params *params = session->params;
	struct vmf_error *error = &session->error;
	uint32_t i, j;

	if (!params->devices || params->devices > VFIO_MULTIFD_MAX_DEVICES)
		return vmf_error_set(error, -EINVAL,
				     "%u devices, expected 1 to %u",
				     params->devices, VFIO_MULTIFD_MAX_DEVICES);
	for (i = 0; i < params->devices; i++) {
		const struct vmf_device *device = &params->device[i];

		if (!vmf_negotiate_name_ok(device->idstr))
			return vmf_error_set(error, -EINVAL,
					     "device %u: its name is not 1 to %u printable ASCII characters without spaces",
					     i, VFIO_MULTIFD_IDSTR_SIZE - 1);
		for (j = 0; j < i; j++)
			if (vmf_negotiate_same_name(device->idstr,
						    device->instance_id,
						    params->device[j].idstr,
						    params->device[j].instance_id))
				return vmf_error_set(error, -EEXIST,
						     "two devices are named %s",
						     device->idstr);
	}
	return 0;
}

static int open_device(struct vmf_session *session, uint32_t i)
{
	const struct vmf_device *device = &session->params->device[i];
	struct vmf_error *error = &session->error;
	struct vmf_identity *identity = &session->device[i].identity;
	uint32_t state;
	int ret;

	ret = vmf_device_identify(device->fd, identity, error);
	if (ret)
		return ret;

	/* Peers must be quiet before the first of them stops to answer. */
	if (session->params->devices > 1 &&
	    !(identity->migration_flags & VFIO_MIGRATION_P2P))
		return vmf_error_set(error, -EOPNOTSUPP,
				     "device %s lacks RUNNING_P2P, which more than one device needs",
				     device->idstr);

	ret = vmf_device_get_state(device->fd, &state);
	if (ret)
		return vmf_error_set(error, ret, "device %s: its state: %s",
				     device->idstr, strerror(-ret));
	if (state != VFIO_DEVICE_STATE_RUNNING)
		return vmf_error_set(error, -EBUSY,
				     "device %s is in state %s, not RUNNING",
				     device->idstr,
				     vmf_device_state_name(state));

	return vmf_config_open(session, i);
}

static int begin(struct vmf_session *session)
{
	uint32_t i;
	int ret;

	ret = check_devices(session);
	for (i = 0; !ret && i < session->params->devices; i++)
		ret = open_device(session, i);
	if (!ret)
		ret = vmf_engine_open(&session->engine, &session->error);
	return ret;
}

static enum vmf_outcome outcome_of(const struct vmf_session *session, int ret)
{
	static const enum vmf_outcome failed[] = {
		[VMF_STAGE_SETUP]	= VMF_SETUP,
		[VMF_STAGE_NEGOTIATE]	= VMF_REFUSED,
		[VMF_STAGE_STOP]	= VMF_ROLLED_BACK,
		[VMF_STAGE_LOADED]	= VMF_UNDECIDED,
		[VMF_STAGE_COMMIT]	= VMF_UNDECIDED,
	};

	return ret ? failed[session->stage] : VMF_DONE;
}

/*
 * A source that has seen LOADED has no say any more: the destination may run
 * already.
 */
static void tell_peer(struct vmf_session *session)
{
	struct vmf_message *out = &session->out;

	if (session->sock < 0 || session->peer_failed)
		return;
	if (session->role == VFIO_MULTIFD_SEND &&
	    session->stage >= VMF_STAGE_LOADED)
		return;

	vmf_message_start(out, session->role == VFIO_MULTIFD_RECV &&
			  !session->agreed ? VMF_REFUSE : VMF_FAILED);
	vmf_message_put(out, session->error.text, strlen(session->error.text));
	/* Whoever does not even take this is beyond being told. */
	vmf_message_send(out, session->sock, 0, NULL);
}

/*
 * Reads until the peer has closed too, since a close with unread bytes makes
 * TCP throw away what the peer has not read yet.
 */
static void hang_up(struct vmf_session *session)
{
	uint64_t deadline = vmf_clock_ns() + VMF_NS_PER_S;
	struct pollfd fd = { .fd = session->sock, .events = POLLIN };

	if (session->sock < 0)
		return;
	while (poll(&fd, 1, vmf_clock_ms_until(deadline)) > 0)
		if (recv(session->sock, session->in.bytes,
			 sizeof(session->in.bytes), MSG_DONTWAIT) <= 0)
			break;
	close(session->sock);
	session->sock = -1;
}

/* Leaves the devices as the outcome says. */
static enum vmf_outcome settle(struct vmf_session *session,
			       enum vmf_outcome outcome)
{
	bool send = session->role == VFIO_MULTIFD_SEND;
	char text[VMF_TEXT_SIZE];
	size_t length;
	int failed;

	if (outcome == VMF_DONE || outcome == VMF_UNDECIDED) {
		/* Frees what saving holds; the device keeps its state. */
		if (send)
			vmf_team_stop(session, text);
		return outcome;
	}

	failed = send ? vmf_team_roll_back(session, text) :
			vmf_team_reset(session, text);
	if (!failed)
		return outcome;
	length = strlen(session->error.text);
	snprintf(session->error.text + length, VMF_TEXT_SIZE - length,
		 "; then %s", text);
	return VMF_LOST;
}

static enum vmf_outcome end(struct vmf_session *session, int ret)
{
	enum vmf_outcome outcome = outcome_of(session, ret);
	struct vmf_report *report = session->report;
	uint32_t i;

	if (ret) {
		vmf_error_set(&session->error, ret, "%s", strerror(-ret));
		tell_peer(session);
	}
	if (session->sock >= 0)
		shutdown(session->sock, SHUT_WR);

	if (session->engine)
		vmf_session_count(session);
	session->running = false;
	vmf_engine_close(session->engine);
	session->engine = NULL;

	outcome = settle(session, outcome);
	hang_up(session);
	if (outcome == VMF_UNDECIDED && session->role == VFIO_MULTIFD_RECV) {
		vmf_session_step(session);
		vmf_config_write(session);
	}

	for (i = 0; i < session->params->devices; i++) {
		if (session->device[i].data_fd >= 0)
			close(session->device[i].data_fd);
		free(session->device[i].config);
	}

	report->outcome = outcome;
	if (outcome != VMF_DONE)
		snprintf(report->text, sizeof(report->text), "%s",
			 session->error.text);
	return outcome;
}

enum vmf_outcome vmf_transfer_run(const struct vmf_params *params,
				  struct vmf_report *report, uint32_t role,
				  int (*run)(struct vmf_session *session))
{
	char text[VMF_TEXT_SIZE + 16];
	struct vmf_session *session;
	uint32_t i;
	int ret;

	memset(report, 0, sizeof(*report));
	report->outcome = VMF_SETUP;
	snprintf(report->text, sizeof(report->text), "out of memory");

	session = calloc(1, sizeof(*session));
	if (session) {
		report->text[0] = '\0';
		session->params = params;
		session->report = report;
		session->role = role;
		session->sock = -1;
		for (i = 0; i < VFIO_MULTIFD_MAX_DEVICES; i++) {
			session->device[i].data_fd = -1;
			session->device[i].config_fd = -1;
			session->device[i].index = VFIO_MULTIFD_NO_INDEX;
		}

		ret = begin(session);
		if (!ret)
			ret = run(session);
		end(session, ret);
		free(session);
	}

	if (report->outcome != VMF_DONE) {
		snprintf(text, sizeof(text), "%s %s",
			 vmf_outcome_name(report->outcome), report->text);
		params->event(params->opaque, VMF_EVENT_FAILED, text);
	}
	return report->outcome;
}

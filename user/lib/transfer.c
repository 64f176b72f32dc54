// SPDX-License-Identifier: LGPL-2.1-or-later
#include "transfer.h"

#include "clock.h"
#include "config.h"
#include "error.h"
#include "negotiate.h"
#include "path.h"
#include "section.h"
#include "team.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/**
 * struct transfer - one or more sessions
 * @params: of the caller, with the devices of @lasting
 * @lasting: what they have in common
 * @session: the present one
 */
struct transfer {
	struct vmf_params params;
	struct vmf_lasting lasting;
	struct vmf_session session;
};

static int check_params(const struct vmf_params *params, uint32_t role,
			struct vmf_error *error)
{
	if (!params->devices || params->devices > VFIO_MULTIFD_MAX_DEVICES)
		return vmf_error_set(error, -EINVAL,
				     "%u devices, expected 1 to %u",
				     params->devices, VFIO_MULTIFD_MAX_DEVICES);
	if (params->timeout < VMF_MIN_TIMEOUT ||
	    params->timeout > VMF_MAX_TIMEOUT)
		return vmf_error_set(error, -EINVAL,
				     "timeout of %u seconds, expected %u to %u",
				     params->timeout, VMF_MIN_TIMEOUT,
				     VMF_MAX_TIMEOUT);
	if (role == VFIO_MULTIFD_RECV)
		return 0;
	if (!params->channels || params->channels > VFIO_MULTIFD_MAX_CHANNELS)
		return vmf_error_set(error, -EINVAL,
				     "%u channels, expected 1 to %u",
				     params->channels,
				     VFIO_MULTIFD_MAX_CHANNELS);
	if (params->packet_size < VFIO_MULTIFD_MIN_PACKET ||
	    params->packet_size > VFIO_MULTIFD_MAX_PACKET ||
	    params->packet_size % VFIO_MULTIFD_MIN_PACKET)
		return vmf_error_set(error, -EINVAL,
				     "packets of %u bytes, expected a multiple of %u up to %u",
				     params->packet_size,
				     VFIO_MULTIFD_MIN_PACKET,
				     VFIO_MULTIFD_MAX_PACKET);
	/* TCP remembers for a while how slow it had to be. */
	if (params->max_bandwidth &&
	    params->max_bandwidth / params->channels < VMF_MIN_BANDWIDTH)
		return vmf_error_set(error, -EINVAL,
				     "a bandwidth of %llu bytes per second, expected at least %u for each of %u channels",
				     (unsigned long long)params->max_bandwidth,
				     VMF_MIN_BANDWIDTH, params->channels);
	return 0;
}

static bool same_fd(int a, int b)
{
	return a >= 0 && a == b;
}

static bool share_fd(const struct vmf_device *a, const struct vmf_device *b)
{
	return same_fd(a->fd, b->fd) || same_fd(a->fd, b->config_fd) ||
	       same_fd(a->config_fd, b->fd) ||
	       same_fd(a->config_fd, b->config_fd);
}

static int check_devices(struct vmf_session *session)
{
	const struct vmf_params *params = session->params;
	struct vmf_error *error = &session->error;
	uint32_t i, j;

	for (i = 0; i < params->devices; i++) {
		const struct vmf_device *device = &params->device[i];

		if (!vmf_negotiate_name_ok(device->idstr))
			return vmf_error_set(error, -EINVAL,
					     "device %u: its name is not 1 to %u printable ASCII characters without spaces",
					     i, VFIO_MULTIFD_IDSTR_SIZE - 1);
		if (same_fd(device->fd, device->config_fd))
			return vmf_error_set(error, -EINVAL,
					     "device %s: fd %d is given as its config-fd too",
					     device->idstr, device->fd);
		for (j = 0; j < i; j++) {
			if (share_fd(device, &params->device[j]))
				return vmf_error_set(error, -EINVAL,
						     "devices %.*s and %.*s are given the same fd",
						     200, params->device[j].idstr,
						     200, device->idstr);
			if (vmf_negotiate_same_name(device->idstr,
						    device->instance_id,
						    params->device[j].idstr,
						    params->device[j].instance_id))
				return vmf_error_set(error, -EEXIST,
						     "two devices are named %s",
						     device->idstr);
		}
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

/* Those devices do without that have a choice. */
static int open_engine(struct vmf_session *session)
{
	const struct vmf_params *params = session->params;
	uint32_t i;
	int ret;

	ret = vmf_engine_open(&session->engine, &session->no_engine);
	if (!ret)
		return 0;
	for (i = 0; i < params->devices; i++)
		if (params->device[i].multifd == VMF_MULTIFD_ON)
			return vmf_error_set(&session->error, ret, "%s",
					     session->no_engine.text);
	return 0;
}

static int begin(struct vmf_session *session)
{
	uint32_t i;
	int ret;

	ret = check_devices(session);
	for (i = 0; !ret && i < session->params->devices; i++)
		ret = open_device(session, i);
	if (!ret)
		ret = open_engine(session);
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

	/* All that it did is taken back. */
	if (session->anew)
		return VMF_REFUSED;
	if (ret && session->check)
		return session->peer_failed && session->in.type == VMF_REFUSE ?
		       VMF_REFUSED : VMF_SETUP;
	return ret ? failed[session->stage] : VMF_DONE;
}

/*
 * A source that has seen LOADED has no say any more: the destination may run
 * already.
 */
static void tell_peer(struct vmf_session *session)
{
	struct vmf_message *out = &session->out;

	if (session->sock < 0 || session->peer_failed || session->mute)
		return;
	/* Behind half of a record it would be taken for the rest. */
	if (session->sending && session->record.at)
		return;
	if (session->role == VFIO_MULTIFD_SEND &&
	    session->stage >= VMF_STAGE_LOADED)
		return;

	vmf_message_start(out, session->role == VFIO_MULTIFD_RECV &&
			  !session->agreed ? VMF_REFUSE : VMF_FAILED);
	vmf_message_put(out, session->error.text, strlen(session->error.text));
	/* Whoever does not even take this is beyond being told. */
	vmf_message_send(out, session->sock, -1, 0, NULL);
}

/*
 * Reads until the peer has closed too, since a close with unread bytes makes
 * TCP throw away what the peer has not read yet.  Of an undecided source that
 * is wanted at last: the kernel must not deliver COMMIT when this end is gone.
 */
static void hang_up(struct vmf_session *session, enum vmf_outcome outcome)
{
	uint64_t deadline = vmf_clock_ns() + VMF_NS_PER_S;
	struct pollfd fd = { .fd = session->sock, .events = POLLIN };
	const struct linger reset = { .l_onoff = 1 };

	if (session->sock < 0)
		return;
	while (vmf_clock_ns() < deadline &&
	       poll(&fd, 1, vmf_clock_ms_until(deadline)) > 0)
		if (recv(session->sock, session->in.bytes,
			 sizeof(session->in.bytes), MSG_DONTWAIT) <= 0)
			break;
	if (outcome == VMF_UNDECIDED && session->role == VFIO_MULTIFD_SEND)
		setsockopt(session->sock, SOL_SOCKET, SO_LINGER, &reset,
			   sizeof(reset));
	close(session->sock);
	session->sock = -1;
}

void vmf_transfer_end_talk(struct vmf_session *session, int ret)
{
	if (ret) {
		vmf_error_set(&session->error, ret, "%s", strerror(-ret));
		tell_peer(session);
	}
	if (session->sock >= 0)
		shutdown(session->sock, SHUT_WR);
	hang_up(session, VMF_REFUSED);
	session->error = (struct vmf_error){};
	session->agreed = false;
	session->peer_failed = false;
	session->mute = false;
	*session->report->fallback = '\0';
	session->report->channels = 0;
	session->report->packet_size = 0;
	session->report->features = 0;
	session->peer_steps = 0;
	memset(&session->in, 0, sizeof(session->in));
}

/* Adds what happened after the error, if there was one, to its text. */
static void append(struct vmf_session *session, const char *text)
{
	size_t length = strlen(session->error.text);

	snprintf(session->error.text + length, VMF_TEXT_SIZE - length, "%s%s",
		 length ? "; then " : "", text);
}

/* STOP frees what saving holds; the devices keep their state. */
static void settle_stopped_source(struct vmf_session *session,
				  enum vmf_outcome outcome)
{
	char text[VMF_TEXT_SIZE];

	if (vmf_team_stop(session, text))
		append(session, text);
	/* A VMM that does not hear it any more changes nothing. */
	if (outcome == VMF_DONE)
		vmf_session_event(session, VMF_EVENT_COMMITTED, NULL);
}

/* Leaves the devices as the outcome says. */
static enum vmf_outcome settle(struct vmf_session *session,
			       enum vmf_outcome outcome)
{
	bool send = session->role == VFIO_MULTIFD_SEND;
	char text[VMF_TEXT_SIZE];
	int failed;

	if (outcome == VMF_DONE || outcome == VMF_UNDECIDED) {
		if (send && !session->check)
			settle_stopped_source(session, outcome);
		return outcome;
	}

	failed = send ? vmf_team_roll_back(session, text) :
			vmf_team_reset(session, text);
	if (!failed)
		return outcome;
	append(session, text);
	return VMF_LOST;
}

static void end(struct vmf_session *session, int ret)
{
	enum vmf_outcome outcome = outcome_of(session, ret);
	struct vmf_report *report = session->report;
	uint32_t i;

	if (session->anew) {
		session->error = (struct vmf_error){};
	} else if (ret) {
		vmf_error_set(&session->error, ret, "%s", strerror(-ret));
		tell_peer(session);
	}
	if (session->sock >= 0)
		shutdown(session->sock, SHUT_WR);
	/* Channels that end before it must not look like a failure. */
	if (session->anew)
		vmf_session_hear_out(session, session->params->timeout);
	session->anew &= !session->peer_failed;

	vmf_session_count_all(session);
	session->running = false;
	vmf_section_end(session);
	vmf_engine_close(session->engine);
	session->engine = NULL;

	outcome = settle(session, outcome);
	session->anew &= outcome != VMF_LOST;
	hang_up(session, outcome);
	if (outcome == VMF_UNDECIDED && session->role == VFIO_MULTIFD_RECV) {
		vmf_session_step(session);
		if (vmf_config_write(session))
			append(session, "config state was not written");
	}

	for (i = 0; i < session->params->devices; i++) {
		if (session->device[i].data_fd >= 0)
			close(session->device[i].data_fd);
		if (session->device[i].config_fd >= 0 && !session->anew &&
		    session->role == VFIO_MULTIFD_RECV && outcome != VMF_SETUP)
			close(session->device[i].config_fd);
		free(session->device[i].config);
	}

	report->outcome = outcome;
	snprintf(report->text, sizeof(report->text), "%s",
		 session->error.text);
}

/* What the session before has left, if there was one, is that it is to begin anew. */
static void start(struct transfer *transfer, struct vmf_report *report,
		  uint32_t role)
{
	struct vmf_session *session = &transfer->session;
	bool again = session->anew;
	uint32_t i;

	memset(session, 0, sizeof(*session));
	session->params = &transfer->params;
	session->report = report;
	session->role = role;
	session->lasting = &transfer->lasting;
	session->again = again;
	session->stage = again ? VMF_STAGE_NEGOTIATE : VMF_STAGE_SETUP;
	session->sock = -1;
	for (i = 0; i < VFIO_MULTIFD_MAX_CHANNELS; i++)
		session->channel[i] = -1;
	for (i = 0; i < VFIO_MULTIFD_MAX_DEVICES; i++) {
		session->device[i].data_fd = -1;
		/* A destination that was touched has to close it. */
		session->device[i].config_fd =
			again && i < transfer->params.devices ?
			transfer->params.device[i].config_fd : -1;
		session->device[i].index = VFIO_MULTIFD_NO_INDEX;
	}

	memset(report, 0, sizeof(*report));
	report->outcome = VMF_SETUP;
}

static void run_all(struct transfer *transfer, struct vmf_report *report,
		    uint32_t role, int (*run)(struct vmf_session *session))
{
	struct vmf_session *session = &transfer->session;
	int ret;

	do {
		start(transfer, report, role);
		ret = begin(session);
		if (!ret)
			ret = run(session);
		end(session, ret);
	} while (session->anew);
	vmf_listener_close(&transfer->lasting.port);
	vmf_path_close(&transfer->lasting, transfer->params.channel_addresses);
}

enum vmf_outcome vmf_transfer_run(const struct vmf_params *params,
				  struct vmf_report *report, uint32_t role,
				  int (*run)(struct vmf_session *session))
{
	char text[VMF_TEXT_SIZE + 16];
	struct transfer *transfer = NULL;
	struct vmf_error error = {};

	memset(report, 0, sizeof(*report));
	report->outcome = VMF_SETUP;
	if (!check_params(params, role, &error)) {
		transfer = calloc(1, sizeof(*transfer));
		if (!transfer)
			vmf_error_set(&error, -ENOMEM, "out of memory");
	}
	snprintf(report->text, sizeof(report->text), "%s", error.text);

	if (transfer) {
		transfer->params = *params;
		memcpy(transfer->lasting.device, params->device,
		       params->devices * sizeof(*params->device));
		transfer->params.device = transfer->lasting.device;
		transfer->lasting.port.sock = -1;
		run_all(transfer, report, role, run);
		free(transfer);
	}

	if (report->outcome != VMF_DONE) {
		snprintf(text, sizeof(text), "%s %s",
			 vmf_outcome_name(report->outcome), report->text);
		params->event(params->opaque, VMF_EVENT_FAILED, text);
	}
	return report->outcome;
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The source's end of a transfer, in the order in which it happens.
 */
#include "clock.h"
#include "config.h"
#include "error.h"
#include "negotiate.h"
#include "net.h"
#include "team.h"
#include "transfer.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static int await(struct vmf_session *session, enum vmf_message_type type,
		 const char *what)
{
	int ret = vmf_session_wait(session, &(struct vmf_wait){
		.messages = 1 << type, .what = what });

	return ret < 0 ? ret : 0;
}

static int connect_channels(struct vmf_session *session)
{
	const struct vmf_params *params = session->params;
	uint32_t id;
	int sock, ret;

	session->running = true;
	for (id = 0; id < params->channels; id++) {
		/* Connecting may take long: see and be seen in between. */
		ret = vmf_session_wait(session, &(struct vmf_wait){
			.what = "the destination to take the channels",
			.until = vmf_clock_ns(),
		});
		if (ret < 0)
			return ret;
		sock = vmf_net_connect_again(session->sock, params->timeout,
					     params->cancel_fd,
					     &session->error);
		if (sock < 0)
			return sock;
		ret = vmf_engine_add_channel(session->engine, sock, id,
					     &session->error);
		close(sock);
		if (ret)
			return ret;
		vmf_session_step(session);
	}
	return 0;
}

static int negotiate(struct vmf_session *session)
{
	const struct vmf_params *params = session->params;
	uint8_t uuid[VFIO_MULTIFD_UUID_SIZE];
	int sock, ret;

	sock = vmf_net_connect(params->address, params->timeout,
			       params->cancel_fd, &session->error);
	if (sock < 0)
		return sock;
	session->stage = VMF_STAGE_NEGOTIATE;
	vmf_session_attach(session, sock);

	ret = vmf_negotiate_put_hello(session, uuid);
	if (!ret)
		ret = vmf_session_send(session);
	if (!ret)
		ret = await(session, VMF_HELLO_ACK,
			    "the destination to answer HELLO");
	if (!ret)
		ret = vmf_negotiate_get_ack(session);
	if (!ret)
		ret = vmf_negotiate_setup(session, uuid);
	if (!ret)
		ret = connect_channels(session);
	vmf_session_step(session);
	if (!ret)
		ret = await(session, VMF_READY,
			    "the destination to take the channels");
	if (ret)
		return ret;

	vmf_session_mark(session, VMF_TIME_NEGOTIATED);
	return vmf_session_event(session, VMF_EVENT_NEGOTIATED, NULL);
}

static int await_trigger(struct vmf_session *session)
{
	struct pollfd fd = {
		.fd = session->params->trigger_fd,
		.events = POLLIN,
	};
	char byte[8];	/* an eventfd wants that many */
	ssize_t got;
	int ret;

	ret = vmf_session_event(session, VMF_EVENT_MAY_STOP, NULL);
	if (ret || fd.fd < 0)
		return ret;

	do {
		ret = vmf_session_wait(session, &(struct vmf_wait){
			.fds = &fd, .nfds = 1, .patient = true });
		if (ret < 0)
			return ret;
		got = read(fd.fd, byte, sizeof(byte));
	} while (got < 0 && (errno == EAGAIN || errno == EINTR));

	if (got < 0)
		return vmf_error_set(&session->error, -errno,
				     "trigger-fd %d: %s", fd.fd,
				     strerror(errno));
	if (!got)
		return vmf_error_set(&session->error, -ECANCELED,
				     "the VMM closed the trigger without pulling it");
	return 0;
}

static int stop(struct vmf_session *session)
{
	int ret;

	session->stage = VMF_STAGE_STOP;
	vmf_session_mark(session, VMF_TIME_TRIGGER);
	ret = vmf_session_send_bare(session, VMF_STOPPING);
	if (ret)
		return ret;

	/* With one device the kernel takes this step by itself. */
	vmf_session_step(session);
	if (session->params->devices > 1) {
		ret = vmf_team_set_state(session,
					 VFIO_DEVICE_STATE_RUNNING_P2P);
		if (ret)
			return ret;
	}

	vmf_session_mark(session, VMF_TIME_STOP_COPY);
	vmf_session_step(session);
	ret = vmf_team_set_state(session, VFIO_DEVICE_STATE_STOP_COPY);
	if (ret)
		return ret;
	vmf_session_mark(session, VMF_TIME_STOPPED);
	return 0;
}

/* The VMM's config state is taken while device state already moves. */
static int stream(struct vmf_session *session)
{
	int ret;

	ret = vmf_session_add_devices(session);
	if (!ret)
		ret = vmf_engine_switchover(session->engine, &session->error);
	if (!ret)
		ret = vmf_session_event(session, VMF_EVENT_STOPPED, NULL);
	vmf_session_step(session);
	if (!ret)
		ret = vmf_config_read(session);
	if (ret)
		return ret;

	ret = vmf_session_wait(session, &(struct vmf_wait){
		.done = true, .what = "the device state to be sent" });
	return ret < 0 ? ret : 0;
}

static int load(struct vmf_session *session)
{
	struct vmf_message *out = &session->out;
	uint32_t i;
	int ret;

	vmf_session_count(session);
	vmf_message_start(out, VMF_SENT);
	for (i = 0; i < session->params->devices; i++) {
		vmf_message_put_u64(out, session->report->device[i].bytes);
		vmf_message_put_u64(out, session->report->device[i].packets);
	}
	ret = vmf_session_send(session);
	vmf_session_step(session);
	if (!ret)
		ret = await(session, VMF_LOADED,
			    "the destination to load the device state");
	if (ret)
		return ret;

	vmf_session_mark(session, VMF_TIME_LOADED);
	session->report->load_ns = vmf_message_get_u64(&session->in);
	return vmf_message_end(&session->in, &session->error);
}

/*
 * The event is the record that this end never runs again by itself.  Who could
 * not make it must not commit: the VMM would run the devices again.
 */
static int commit(struct vmf_session *session)
{
	int ret;

	ret = vmf_session_event(session, VMF_EVENT_LOADED, NULL);
	if (ret)
		return ret;
	session->stage = VMF_STAGE_LOADED;

	ret = vmf_session_send_bare(session, VMF_COMMIT);
	vmf_session_step(session);
	if (!ret)
		ret = await(session, VMF_COMMITTED,
			    "the destination to confirm the commit");
	if (ret)
		return ret;

	vmf_session_mark(session, VMF_TIME_COMMITTED);
	return 0;
}

static int run(struct vmf_session *session)
{
	int ret;

	ret = negotiate(session);
	if (!ret)
		ret = await_trigger(session);
	if (!ret)
		ret = stop(session);
	if (!ret)
		ret = stream(session);
	if (!ret)
		ret = load(session);
	if (!ret)
		ret = commit(session);
	return ret;
}

enum vmf_outcome vmf_send(const struct vmf_params *params,
			  struct vmf_report *report)
{
	return vmf_transfer_run(params, report, VFIO_MULTIFD_SEND, run);
}

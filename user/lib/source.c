// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The source's end of a transfer, in the order in which it happens.
 */
#include "check.h"
#include "clock.h"
#include "config.h"
#include "error.h"
#include "negotiate.h"
#include "net.h"
#include "path.h"
#include "precopy.h"
#include "replace.h"
#include "team.h"
#include "transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int await(struct vmf_session *session, enum vmf_message_type type,
		 const char *what)
{
	int ret = vmf_session_wait(session, &(struct vmf_wait){
		.messages = 1 << type, .what = what });

	return ret < 0 ? ret : 0;
}

/* Is there state that goes over the main channel? */
static bool main_is_used(const struct vmf_session *session)
{
	uint32_t i;

	for (i = 0; i < session->params->devices; i++)
		if (session->device[i].on_main)
			return true;
	return false;
}

/*
 * All connections that carry state share the bandwidth alike, until nothing limits
 * it any more.
 */
static uint64_t rate_of_each(const struct vmf_session *session)
{
	return session->params->max_bandwidth /
	       (session->report->channels + main_is_used(session));
}

static int limit_main(struct vmf_session *session)
{
	const struct vmf_params *params = session->params;
	uint64_t largest = params->packet_size;
	int ret;

	if (!params->max_bandwidth)
		return 0;
	if (largest < VMF_MESSAGE_MAX_BODY)
		largest = VMF_MESSAGE_MAX_BODY;
	session->slack_ns = largest * VMF_NS_PER_S / rate_of_each(session);
	if (!main_is_used(session))
		return 0;
	ret = vmf_net_limit(session->sock, rate_of_each(session));
	if (ret)
		return vmf_error_set(&session->error, ret,
				     "limiting the bandwidth of the main channel: %s",
				     strerror(-ret));
	return 0;
}

static int limit(struct vmf_session *session, int sock, uint32_t id,
		 struct vmf_error *error)
{
	int ret;

	if (!session->params->max_bandwidth)
		return 0;
	ret = vmf_net_limit(sock, rate_of_each(session));
	if (session->channel[id] >= 0)
		close(session->channel[id]);
	session->channel[id] = fcntl(sock, F_DUPFD_CLOEXEC, 0);
	if (!ret && session->channel[id] < 0)
		ret = -errno;
	if (ret)
		return vmf_error_set(error, ret,
				     "limiting the bandwidth of a channel: %s",
				     strerror(-ret));
	return 0;
}

static void end_limit(struct vmf_session *session)
{
	uint32_t id;

	session->slack_ns = 0;
	if (session->params->max_bandwidth && session->sock >= 0)
		vmf_net_limit(session->sock, UINT64_MAX);
	for (id = 0; id < session->params->channels; id++) {
		if (session->channel[id] < 0)
			continue;
		vmf_net_limit(session->channel[id], UINT64_MAX);
		close(session->channel[id]);
		session->channel[id] = -1;
	}
}

int vmf_source_connect(struct vmf_session *session, uint32_t id,
		       uint32_t timeout, struct vmf_error *error)
{
	int sock = vmf_path_connect(session, id, timeout, error), ret = 0;

	if (sock < 0)
		return sock;
	if (session->stage < VMF_STAGE_STOP)
		ret = limit(session, sock, id, error);
	if (!ret)
		return sock;
	close(sock);
	return ret;
}

static int connect_channels(struct vmf_session *session)
{
	uint32_t id;
	int sock, ret;

	session->running = true;
	ret = limit_main(session);
	if (ret)
		return ret;
	for (id = 0; id < session->report->channels; id++) {
		/* Connecting may take long: see and be seen in between. */
		ret = vmf_session_wait(session, &(struct vmf_wait){
			.what = "the destination to take the channels",
			.until = vmf_clock_ns(),
		});
		if (ret < 0)
			return ret;
		sock = vmf_source_connect(session, id, session->params->timeout,
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

/* Up to where nothing was touched yet */
static int agree(struct vmf_session *session,
		 uint8_t uuid[static VFIO_MULTIFD_UUID_SIZE])
{
	int sock, ret;

	sock = vmf_path_connect_main(session, session->params->timeout,
				     &session->error);
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
	return ret;
}

static int negotiate(struct vmf_session *session)
{
	uint8_t uuid[VFIO_MULTIFD_UUID_SIZE];
	int ret;

	ret = agree(session, uuid);
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

	session->replaces = session->report->features &
			    VFIO_MULTIFD_FEATURE_REPLACE;
	vmf_session_mark(session, VMF_TIME_NEGOTIATED);
	return vmf_session_event(session, VMF_EVENT_NEGOTIATED, NULL);
}

static int stop(struct vmf_session *session)
{
	uint32_t states[VFIO_MULTIFD_MAX_DEVICES];
	int ret;

	session->stage = VMF_STAGE_STOP;
	vmf_session_mark(session, VMF_TIME_TRIGGER);
	end_limit(session);
	ret = vmf_session_send_bare(session, VMF_STOPPING);
	if (ret)
		return ret;

	/* With one device the kernel takes this step by itself. */
	if (session->params->devices > 1) {
		vmf_precopy_p2p_states(session, states);
		ret = vmf_team_set_states(session, states);
		if (ret)
			return ret;
	}

	vmf_session_mark(session, VMF_TIME_STOP_COPY);
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
	vmf_precopy_end(session);
	if (!ret)
		ret = vmf_negotiate_seal(session);
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

	session->replaces = false;
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

	/* It may have given up since it had loaded, if this process was stopped. */
	ret = vmf_session_hear_rest(session, "the destination to wait for COMMIT");
	if (!ret)
		ret = vmf_session_event(session, VMF_EVENT_LOADED, NULL);
	if (ret)
		return ret;
	session->stage = VMF_STAGE_LOADED;

	ret = vmf_session_send_bare(session, VMF_COMMIT);
	vmf_session_step_last(session);
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

	ret = vmf_path_open(session);
	if (!ret)
		ret = negotiate(session);
	if (!ret)
		ret = vmf_precopy_begin(session);
	if (!ret)
		ret = vmf_precopy_run(session);
	if (!ret)
		ret = stop(session);
	if (!ret)
		ret = stream(session);
	if (!ret)
		ret = load(session);
	if (!ret)
		ret = commit(session);
	end_limit(session);
	return ret;
}

static int run_check(struct vmf_session *session)
{
	uint8_t uuid[VFIO_MULTIFD_UUID_SIZE];
	int ret;

	session->check = true;
	ret = agree(session, uuid);
	return ret ? ret : vmf_check_probe(session);
}

enum vmf_outcome vmf_check(const struct vmf_params *params,
			   struct vmf_report *report)
{
	return vmf_transfer_run(params, report, VFIO_MULTIFD_SEND, run_check);
}

enum vmf_outcome vmf_send(const struct vmf_params *params,
			  struct vmf_report *report)
{
	return vmf_transfer_run(params, report, VFIO_MULTIFD_SEND, run);
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The destination's end of a transfer, in the order in which it happens.
 */
#include "check.h"
#include "clock.h"
#include "config.h"
#include "error.h"
#include "listener.h"
#include "negotiate.h"
#include "net.h"
#include "replace.h"
#include "team.h"
#include "transfer.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The first bytes of a data channel: QEMU's MultiFDInit, version 1. */
#define INIT_MAGIC	0x11223344
#define INIT_VERSION	1

enum init_layout {
	INIT_AT_VERSION	= 4,
	INIT_AT_UUID	= 8,
	INIT_AT_ID	= 24,
};

/**
 * struct destination - what only this end has
 * @session: the session
 * @hello: the source's offer
 * @map: number of our device for each of @hello's
 * @sent: what the source says that it sent of each of @hello's
 */
struct destination {
	struct vmf_session *session;
	struct vmf_hello hello;
	uint32_t map[VFIO_MULTIFD_MAX_DEVICES];
	struct {
		uint64_t bytes;
		uint64_t packets;
	} sent[VFIO_MULTIFD_MAX_DEVICES];
	uint32_t round;		/* of pre-copy, the last that the source ended */
};

static uint32_t get_be32(const uint8_t *bytes)
{
	uint32_t value;

	memcpy(&value, bytes, sizeof(value));
	return be32toh(value);
}

/* Waits for a connection that has said what it is. */
static int next_connection(struct destination *dst, bool patient,
			   const char *what,
			   uint8_t head[static VMF_LISTENER_HEAD])
{
	struct vmf_listener *listener = &dst->session->lasting->port;
	int sock, ret;

	for (;;) {
		sock = vmf_listener_next(listener, head);
		if (sock >= 0)
			return sock;
		if (sock != -EAGAIN)
			return vmf_error_set(&dst->session->error, sock,
					     "accepting a connection: %s",
					     strerror(-sock));
		ret = vmf_session_wait(dst->session, &(struct vmf_wait){
			.fds = vmf_listener_fds(listener),
			.nfds = listener->waiting + 1,
			.patient = patient,
			.what = what,
			.until = vmf_listener_deadline(listener),
		});
		if (ret < 0)
			return ret;
	}
}

static int accept_main(struct destination *dst)
{
	uint8_t head[VMF_LISTENER_HEAD];
	int sock;

	for (;;) {
		sock = next_connection(dst, !dst->session->again,
				       "the source to begin anew", head);
		if (sock < 0)
			return sock;
		if (get_be32(head) == VMF_MESSAGE_MAGIC)
			break;
		close(sock);
	}
	vmf_session_attach(dst->session, sock);
	return 0;
}

int vmf_destination_channel(const struct vmf_session *session,
			    const uint8_t *head)
{
	if (get_be32(head) != INIT_MAGIC ||
	    get_be32(head + INIT_AT_VERSION) != INIT_VERSION ||
	    memcmp(head + INIT_AT_UUID, session->uuid,
		   sizeof(session->uuid)) ||
	    head[INIT_AT_ID] >= session->report->channels)
		return -EPROTO;
	return head[INIT_AT_ID];
}

static int accept_channels(struct destination *dst)
{
	struct vmf_session *session = dst->session;
	uint8_t head[VMF_LISTENER_HEAD];
	uint32_t count = 0;
	int sock, id, ret;

	session->running = true;
	vmf_session_step(session);
	while (count < session->report->channels) {
		sock = next_connection(dst, false,
				       "the source to open its channels", head);
		if (sock < 0)
			return sock;
		id = vmf_destination_channel(session, head);
		if (id < 0) {
			close(sock);
			continue;
		}
		ret = vmf_engine_add_channel(session->engine, sock, id,
					     &session->error);
		close(sock);
		if (ret)
			return ret;
		vmf_session_step(session);
		count++;
	}
	session->replaces = session->report->channels &&
		session->report->features & VFIO_MULTIFD_FEATURE_REPLACE;
	session->listener = &session->lasting->port;
	return 0;
}

static void close_port(struct vmf_session *session)
{
	session->listener = NULL;
	vmf_listener_close(&session->lasting->port);
}

static int resume(struct destination *dst)
{
	int ret;

	ret = vmf_team_set_state(dst->session, VFIO_DEVICE_STATE_RESUMING);
	return ret ? ret : vmf_session_add_devices(dst->session);
}

static int listen_there(struct destination *dst)
{
	struct vmf_session *session = dst->session;
	char name[VMF_NET_NAME_SIZE];
	int ret;

	if (session->again)
		return 0;
	ret = vmf_listener_open(&session->lasting->port, session->params->address,
				session->params->timeout, &session->error);
	if (ret)
		return ret;
	session->stage = VMF_STAGE_NEGOTIATE;
	vmf_net_name(session->lasting->port.sock, name);
	return vmf_session_event(session, VMF_EVENT_LISTENING, name);
}

static int hear_hello(struct destination *dst)
{
	struct vmf_session *session = dst->session;
	int ret;

	ret = accept_main(dst);
	if (ret)
		return ret;

	ret = vmf_session_wait(session, &(struct vmf_wait){
		.messages = 1 << VMF_HELLO, .what = "HELLO" });
	if (ret < 0)
		return ret;
	ret = vmf_negotiate_get_hello(session, &dst->hello);
	if (!ret)
		ret = vmf_negotiate_match(session, &dst->hello, dst->map);
	return ret;
}

/* Who only looks gets its answer, and the wait for a source begins anew. */
static int let_look(struct destination *dst, int ret)
{
	struct vmf_session *session = dst->session;

	if (!ret && session->again)
		ret = vmf_error_set(&session->error, -EBUSY,
				    "the destination is in the middle of a transfer");
	if (!ret)
		ret = vmf_negotiate_send_ack(session);
	if (!ret)
		ret = vmf_check_serve(session);
	if (ret == -ECANCELED)
		return ret;
	vmf_transfer_end_talk(session, ret);
	return 0;
}

static int negotiate(struct destination *dst)
{
	struct vmf_session *session = dst->session;
	uint64_t start;
	int ret;

	vmf_session_step(session);
	start = session->step_ns;
	for (;;) {
		ret = hear_hello(dst);
		if (!(dst->hello.features & VMF_FEATURE_CHECK))
			break;
		ret = let_look(dst, ret);
		if (ret)
			return ret;
		/* A source that begins anew has no more time for that. */
		session->step_ns = start;
		memset(&dst->hello, 0, sizeof(dst->hello));
	}
	if (!ret)
		ret = vmf_negotiate_setup(session, dst->hello.uuid);
	memcpy(session->uuid, dst->hello.uuid, sizeof(session->uuid));
	if (!ret)
		ret = resume(dst);
	if (!ret)
		ret = vmf_negotiate_send_ack(session);
	if (!ret)
		ret = accept_channels(dst);
	if (!ret)
		ret = vmf_negotiate_seal(session);
	if (!ret)
		ret = vmf_session_send_bare(session, VMF_READY);
	if (ret)
		return ret;

	vmf_session_mark(session, VMF_TIME_NEGOTIATED);
	return vmf_session_event(session, VMF_EVENT_NEGOTIATED, NULL);
}

static int get_sent(struct destination *dst)
{
	struct vmf_message *in = &dst->session->in;
	uint32_t i;

	for (i = 0; i < dst->hello.devices; i++) {
		dst->sent[i].bytes = vmf_message_get_u64(in);
		dst->sent[i].packets = vmf_message_get_u64(in);
	}
	return vmf_message_end(in, &dst->session->error);
}

/* What the source says that it sent has to be what has come. */
static int compare(struct destination *dst)
{
	struct vmf_session *session = dst->session;
	uint64_t bytes, packets;
	uint32_t i, own;

	vmf_session_count(session);
	for (i = 0; i < dst->hello.devices; i++) {
		own = dst->map[i];
		bytes = dst->sent[i].bytes;
		packets = dst->sent[i].packets;
		if (bytes == session->report->device[own].bytes &&
		    packets == session->report->device[own].packets)
			continue;
		return vmf_error_set(&session->error, -EBADMSG,
				     "device %s: %llu bytes in %llu packets were sent, but others came",
				     dst->hello.device[i].idstr,
				     (unsigned long long)bytes,
				     (unsigned long long)packets);
	}
	return 0;
}

/* Has each device as many packets as the source said? */
static bool round_loaded(struct vmf_session *session)
{
	struct vfio_multifd_device_status status;
	uint32_t i;

	for (i = 0; i < session->params->devices; i++)
		if (vmf_session_device_status(session, i, &status) ||
		    status.packets < session->device[i].wake)
			return false;
	return true;
}

static int take_round(struct destination *dst)
{
	struct vmf_session *session = dst->session;
	struct vmf_message *in = &session->in;
	uint32_t i, round = vmf_message_get_u32(in);

	vmf_message_get_u32(in);
	if (round != dst->round + 1 ||
	    !(session->report->features & VMF_FEATURE_PRE_COPY))
		return vmf_error_set(&session->error, -EPROTO,
				     "ROUND %u is out of turn", round);
	dst->round = round;
	for (i = 0; i < dst->hello.devices; i++)
		session->device[dst->map[i]].wake = vmf_message_get_u64(in);
	return vmf_message_end(in, &session->error);
}

static int acknowledge(struct destination *dst)
{
	struct vmf_message *out = &dst->session->out;

	vmf_message_start(out, VMF_ROUND_ACK);
	vmf_message_put_u32(out, dst->round);
	vmf_message_put_u32(out, 0);
	dst->session->report->precopy.rounds = dst->round;
	return vmf_session_send(dst->session);
}

static int begin_anew(struct vmf_session *session)
{
	int ret = vmf_session_send_bare(session, VMF_ANEW);

	session->anew = !ret;
	return ret ? ret : -ERESTART;
}

/* The source waits for each round, but not if the VMM wants it to stop. */
static int pre_copy(struct destination *dst)
{
	bool loading = false;
	int ret;

	for (;;) {
		ret = vmf_session_wait(dst->session, &(struct vmf_wait){
			.messages = 1 << VMF_STOPPING | 1 << VMF_ANEW |
				    (loading ? 0 : 1 << VMF_ROUND),
			.check = loading ? round_loaded : NULL,
			.patient = true,
		});
		if (ret == VMF_STOPPING)
			return 0;
		if (ret == VMF_ANEW)
			return begin_anew(dst->session);
		if (ret == VMF_ROUND)
			ret = take_round(dst);
		else if (ret == VMF_WOKEN_CHECK)
			ret = acknowledge(dst);
		if (ret < 0)
			return ret;
		loading = !loading;
	}
}

static int stream(struct destination *dst)
{
	struct vmf_session *session = dst->session;
	bool sent = false;
	int ret;

	ret = pre_copy(dst);
	if (ret)
		return ret;
	session->stage = VMF_STAGE_STOP;
	vmf_session_mark(session, VMF_TIME_STOPPED);
	vmf_session_count_precopy(session);
	if (!session->replaces)
		close_port(session);

	while (!sent || !vmf_session_all_done(session)) {
		ret = vmf_session_wait(session, &(struct vmf_wait){
			.messages = sent ? 0 : 1 << VMF_SENT,
			.done = !vmf_session_all_done(session),
			.what = "the device state to come",
		});
		if (ret < 0)
			return ret;
		if (ret != VMF_SENT)
			continue;
		ret = get_sent(dst);
		if (ret)
			return ret;
		sent = true;
	}
	session->replaces = false;
	close_port(session);
	return compare(dst);
}

/* Once LOADED is on its way only the source's word decides what becomes of this end. */
static int load(struct destination *dst)
{
	struct vmf_session *session = dst->session;
	uint64_t start = vmf_clock_ns();
	int ret;

	ret = vmf_team_set_state(session, VFIO_DEVICE_STATE_STOP);
	if (ret)
		return ret;
	vmf_session_mark(session, VMF_TIME_LOADED);
	session->report->load_ns =
		session->report->time_ns[VMF_TIME_LOADED] - start;

	ret = vmf_config_take(session);
	if (!ret)
		ret = vmf_session_event(session, VMF_EVENT_LOADED, NULL);
	/* The VMM may have taken its time: that is no lack of progress. */
	vmf_session_step(session);
	if (!ret)
		ret = vmf_session_hear_rest(session, "the source to wait for LOADED");
	if (ret)
		return ret;

	session->stage = VMF_STAGE_LOADED;
	vmf_message_start(&session->out, VMF_LOADED);
	vmf_message_put_u64(&session->out, session->report->load_ns);
	ret = vmf_session_send(session);
	/* Of what the kernel did not take the source cannot know. */
	if (ret && !session->out.at)
		session->stage = VMF_STAGE_STOP;
	return ret;
}

static int commit(struct destination *dst)
{
	struct vmf_session *session = dst->session;
	int ret;

	vmf_session_step_last(session);
	ret = vmf_session_wait(session, &(struct vmf_wait){
		.messages = 1 << VMF_COMMIT,
		.what = "the source to commit",
	});
	if (ret < 0) {
		/* A source that says that it failed has not committed. */
		if (session->peer_failed)
			session->stage = VMF_STAGE_STOP;
		return ret;
	}

	session->stage = VMF_STAGE_COMMIT;
	vmf_session_step(session);
	ret = vmf_config_write(session);
	if (!ret)
		ret = vmf_session_event(session, VMF_EVENT_COMMITTED, NULL);
	if (ret)
		return ret;

	vmf_session_mark(session, VMF_TIME_COMMITTED);
	return vmf_session_send_bare(session, VMF_COMMITTED);
}

static int run(struct vmf_session *session)
{
	struct destination *dst = calloc(1, sizeof(*dst));
	int ret;

	if (!dst)
		return -ENOMEM;
	dst->session = session;

	ret = listen_there(dst);
	if (!ret)
		ret = negotiate(dst);
	if (!ret)
		ret = stream(dst);
	if (!ret)
		ret = load(dst);
	if (!ret)
		ret = commit(dst);
	free(dst);
	return ret;
}

enum vmf_outcome vmf_recv(const struct vmf_params *params,
			  struct vmf_report *report)
{
	return vmf_transfer_run(params, report, VFIO_MULTIFD_RECV, run);
}

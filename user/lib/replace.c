// SPDX-License-Identifier: LGPL-2.1-or-later
#include "replace.h"

#include "error.h"
#include "listener.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define CONNECT_S	2	/* for an attempt: a lost SYN comes again after one */

static bool sends(const struct vmf_session *session)
{
	return session->role == VFIO_MULTIFD_SEND;
}

static int say_lost(struct vmf_session *session, uint32_t id, uint64_t packets)
{
	struct vmf_message *out = &session->out;

	session->lost[id].told = true;
	vmf_message_start(out, VMF_LOST_CHANNEL);
	vmf_message_put_u32(out, id);
	vmf_message_put_u32(out, session->lost[id].epoch);
	vmf_message_put_u64(out, packets);
	return vmf_session_send(session);
}

/* Another connection carries channel @id. */
static void replaced(struct vmf_session *session, uint32_t id)
{
	session->lost[id] = (struct vmf_lost){
		.epoch = session->lost[id].epoch + 1,
	};
	session->report->replaced++;
	vmf_session_step(session);
}

/*
 * A connection that is lost again already is none, for one thread is not yet ready, and a
 * transfer that failed says so.
 */
static int hand_over(struct vmf_session *session, uint32_t id, int sock,
		     uint64_t packets)
{
	struct vmf_error error = {};
	int ret;

	ret = vmf_engine_replace_channel(session->engine, sock, id, packets,
					 &error);
	close(sock);
	if (!ret)
		replaced(session, id);
	if (!ret || ret == -ENOTCONN || ret == -EBADFD ||
	    (ret == -EBUSY && sends(session)))
		return 0;
	return vmf_error_set(&session->error, ret, "%s", error.text);
}

/*
 * What cannot be reached is tried again, by the next of the addresses, until the session
 * loses its patience.  A destination that has got all it needs by other channels is no
 * longer there for this.
 */
static int connect_again(struct vmf_session *session, uint32_t id)
{
	int sock;

	sock = vmf_source_connect(session, id, CONNECT_S, NULL);
	if (sock < 0)
		return sock == -ECANCELED ? sock : 0;
	return hand_over(session, id, sock, session->lost[id].packets);
}

static int look_at(struct vmf_session *session, uint32_t id, bool *connected)
{
	struct vfio_multifd_channel_status status;
	struct vmf_lost *lost = &session->lost[id];
	int ret;

	ret = vmf_engine_channel_status(session->engine, id, &status);
	if (ret)
		return vmf_error_set(&session->error, ret,
				     "status of channel %u: %s", id,
				     strerror(-ret));
	/* Connecting takes its time: one for each look. */
	if (lost->heard && (status.lost || session->done) && !*connected) {
		*connected = true;
		return connect_again(session, id);
	}
	/* A destination that is done lacks nothing. */
	if (status.lost && !lost->told && (sends(session) || !session->done))
		return say_lost(session, id, sends(session) ? 0 :
				status.packets);
	return 0;
}

int vmf_replace_look(struct vmf_session *session)
{
	uint32_t channels = session->report->channels, id, n;
	bool connected = false;
	int ret = 0;

	if (!session->replaces)
		return 0;
	for (n = 0; !ret && n < channels; n++) {
		id = (session->next_lost + n) % channels;
		ret = look_at(session, id, &connected);
	}
	session->next_lost++;
	return ret;
}

int vmf_replace_receive(struct vmf_session *session)
{
	struct vmf_message *in = &session->in;
	uint32_t id = vmf_message_get_u32(in);
	uint32_t epoch = vmf_message_get_u32(in);
	uint64_t packets = vmf_message_get_u64(in);
	struct vmf_lost *lost;
	int ret;

	if (id < session->report->channels) {
		lost = &session->lost[id];
		/* What the source took for another connection never came here. */
		if (!sends(session) && lost->told && epoch == lost->epoch + 1)
			*lost = (struct vmf_lost){ .epoch = epoch };
	}
	if (id >= session->report->channels || epoch > session->lost[id].epoch)
		return vmf_error_set(&session->error, -EPROTO,
				     "LOST of channel %u, epoch %u, is out of turn",
				     id, epoch);
	/* It has had another connection since. */
	if (epoch < session->lost[id].epoch)
		return 0;
	ret = vmf_engine_give_up_channel(session->engine, id);
	/* A destination that is done needs it no more, one that failed says so. */
	if (ret && ret != -EBADFD)
		return vmf_error_set(&session->error, ret,
				     "giving up channel %u: %s", id,
				     strerror(-ret));
	if (sends(session)) {
		session->lost[id].heard = true;
		session->lost[id].packets = packets;
	}
	/* The session looks next, which may connect: twice would leave the peer unheard. */
	session->looked_ns = 0;
	return 0;
}

int vmf_replace_accept(struct vmf_session *session)
{
	uint8_t head[VMF_LISTENER_HEAD];
	int sock, id;

	sock = vmf_listener_next(session->listener, head);
	if (sock == -EAGAIN)
		return 0;
	/* Nobody is waited for, so who cannot be taken may wait. */
	if (sock < 0 && !session->replaces) {
		session->listener = NULL;
		return 0;
	}
	if (sock < 0)
		return vmf_error_set(&session->error, sock,
				     "accepting a connection: %s",
				     strerror(-sock));
	id = vmf_destination_channel(session, head);
	if (id < 0 || !session->lost[id].told) {
		close(sock);
		return 0;
	}
	return hand_over(session, id, sock, 0);
}

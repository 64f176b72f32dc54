// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The wait.  All that can happen to a transfer happens in vmf_session_wait(),
 * so that source.c and destination.c read as the protocol does.
 */
#include "session.h"

#include "clock.h"
#include "error.h"
#include "listener.h"
#include "replace.h"
#include "section.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEARTBEAT_NS	VMF_NS_PER_S
#define PROGRESS_NS	(200 * VMF_NS_PER_MS)
/* Messages that wait behind a process that was stopped: one a second, for the longest timeout */
#define MOST_WAITING	(VMF_MAX_TIMEOUT + 100)

enum { SOCK, ENGINE, CANCEL, OWN_FDS };

/* Those of a wait may be a listener's, too. */
#define MAX_FDS	(OWN_FDS + 2 * VMF_LISTENER_FDS + VFIO_MULTIFD_MAX_DEVICES)

/* A cancel comes too late once the peer may be sure of this end. */
static int cancel_fd(const struct vmf_session *session)
{
	return session->stage < VMF_STAGE_LOADED ? session->params->cancel_fd :
						   -1;
}

static const char *peer_name(const struct vmf_session *session)
{
	return session->role == VFIO_MULTIFD_SEND ? "destination" : "source";
}

void vmf_session_step(struct vmf_session *session)
{
	session->step_ns = vmf_clock_ns();
	session->steps++;
}

void vmf_session_mark(struct vmf_session *session, enum vmf_time time)
{
	session->report->time_ns[time] = vmf_clock_ns();
}

int vmf_session_add_devices(struct vmf_session *session)
{
	const struct vmf_params *params = session->params;
	uint32_t i;
	int ret;

	for (i = 0; i < params->devices; i++) {
		struct vmf_session_device *own = &session->device[i];

		if (own->data_fd < 0 || own->index != VFIO_MULTIFD_NO_INDEX)
			continue;
		if (own->on_main)
			ret = vmf_section_begin(session, i);
		else
			ret = vmf_engine_add_device(session->engine, own->data_fd,
						    own->precopy ?
						    VFIO_MULTIFD_DEVICE_PRE_COPY : 0,
						    params->device[i].idstr,
						    params->device[i].instance_id,
						    &own->index, &session->error);
		if (ret)
			return ret;
		if (own->precopy)
			continue;
		close(own->data_fd);
		own->data_fd = -1;
	}
	return 0;
}

void vmf_session_attach(struct vmf_session *session, int sock)
{
	session->sock = sock;
	session->heard_ns = vmf_clock_ns();
	session->spoke_ns = session->heard_ns;
	session->step_ns = session->heard_ns;
}

int vmf_session_event(struct vmf_session *session, enum vmf_event event,
		      const char *text)
{
	const struct vmf_params *params = session->params;
	int ret = params->event(params->opaque, event, text);

	if (ret)
		return vmf_error_set(&session->error, ret,
				     "the VMM does not take the event \"%s\": %s",
				     vmf_event_name(event), strerror(-ret));
	return 0;
}

/*
 * Once COMMIT came the destination runs, whether the source hears of it or
 * not: the main channel may go then.
 */
static int lost(struct vmf_session *session, int ret)
{
	if (session->stage != VMF_STAGE_COMMIT)
		return ret;
	close(session->sock);
	session->sock = -1;
	session->error = (struct vmf_error){};
	return 0;
}

/* Who has not said HELLO could keep the port from its source. */
static bool is_stranger(const struct vmf_session *session)
{
	return !session->agreed && session->role == VFIO_MULTIFD_RECV;
}

/*
 * As long as the peer comes forward this end has patience, and a little more
 * than the peer itself: whoever is stuck is to give up first, and say why.
 * Not once LOADED was said: a cancel has no effect then, so that a peer could
 * keep this end for ever.
 */
static int take_heartbeat(struct vmf_session *session)
{
	uint64_t steps = vmf_message_get_u64(&session->in);

	if (steps > session->peer_steps) {
		session->peer_steps = steps;
		if (session->stage < VMF_STAGE_LOADED && !is_stranger(session))
			session->step_ns = vmf_clock_ns() + 2 * HEARTBEAT_NS;
	}
	return vmf_message_end(&session->in, &session->error);
}

void vmf_session_step_last(struct vmf_session *session)
{
	vmf_session_step(session);
	session->step_ns += 2 * HEARTBEAT_NS;
	session->heard_ns = session->step_ns;
}

/* What the peer refuses for has the same words here as there. */
static int take_failure(struct vmf_session *session)
{
	char text[VMF_TEXT_SIZE];

	session->peer_failed = true;
	vmf_message_get_text(&session->in, text);
	if (session->in.type == VMF_REFUSE)
		return vmf_error_set(&session->error, -ECONNREFUSED, "%s",
				     text);
	return vmf_error_set(&session->error, -ECONNABORTED, "%s: %.*s",
			     peer_name(session), VMF_TEXT_SIZE - 32, text);
}

/* A destination that lacks nothing any more of what goes over channels */
static bool is_loaded(const struct vmf_session *session)
{
	return session->role == VFIO_MULTIFD_RECV &&
	       session->report->features & VFIO_MULTIFD_FEATURE_REPLACE &&
	       (session->done ||
		(session->stage >= VMF_STAGE_STOP && !session->replaces));
}

/* Returns the type of an awaited message, 0 without one. */
static int receive(struct vmf_session *session, const struct vmf_wait *wait)
{
	struct vmf_message *in = &session->in;
	uint32_t have = in->have;
	uint64_t now;
	int ret;

	ret = vmf_message_recv(in, session->sock, &session->error);
	now = vmf_clock_ns();
	if ((ret > 0 || in->have != have) && now > session->heard_ns)
		session->heard_ns = now;
	if (ret <= 0)
		return ret;

	if (in->type == VMF_HEARTBEAT)
		return take_heartbeat(session);
	if (in->type == VMF_SECTION && session->role == VFIO_MULTIFD_RECV)
		return vmf_section_receive(session);
	/* The source says that until it hears that all is loaded. */
	if (in->type == VMF_LOST_CHANNEL && is_loaded(session))
		return 0;
	if (in->type == VMF_LOST_CHANNEL && session->replaces)
		return vmf_replace_receive(session);
	if (in->type == VMF_FAILED ||
	    (in->type == VMF_REFUSE && wait->messages & 1 << VMF_HELLO_ACK))
		return take_failure(session);
	/* The trigger was pulled before it came. */
	if (in->type == VMF_ROUND_ACK && session->awaits_ack &&
	    !(wait->messages & 1 << VMF_ROUND_ACK)) {
		session->awaits_ack = false;
		return 0;
	}
	if (!(wait->messages & 1 << in->type))
		return vmf_error_set(&session->error, -EPROTO,
				     "the %s sent %s out of turn",
				     peer_name(session),
				     vmf_message_name(in->type));
	vmf_session_step(session);
	return in->type;
}

/*
 * A connection that breaks is often the echo of a failure at the peer, which
 * knows better what happened and is just about to say it.
 */
void vmf_session_hear_out(struct vmf_session *session, uint32_t seconds)
{
	uint64_t deadline = vmf_clock_ns() + seconds * VMF_NS_PER_S;
	struct pollfd fds[] = {
		{ .fd = session->sock, .events = POLLIN },
		{ .fd = cancel_fd(session), .events = POLLIN },
	};
	int ret;

	while (vmf_clock_ns() < deadline &&
	       poll(fds, 2, vmf_clock_ms_until(deadline)) > 0 &&
	       !fds[1].revents) {
		ret = vmf_message_recv(&session->in, session->sock, NULL);
		if (ret < 0)
			return;
		if (ret && session->in.type == VMF_FAILED) {
			take_failure(session);
			return;
		}
	}
}

static int sent(struct vmf_session *session, const struct vmf_message *message,
		int ret, const struct vmf_error *error)
{
	session->spoke_ns = vmf_clock_ns();
	if (ret >= 0)
		return 0;
	/* Behind half of it nothing else makes sense. */
	session->mute |= message->at > 0;
	if ((ret == -EPIPE || ret == -ECONNRESET) &&
	    session->stage < VMF_STAGE_LOADED)
		vmf_session_hear_out(session, 1);
	vmf_error_set(&session->error, ret, "%s", error->text);
	return lost(session, ret);
}

int vmf_session_push(struct vmf_session *session)
{
	struct vmf_error error = {};
	int ret;

	ret = vmf_message_push(&session->record, session->sock, &error);
	session->sending = !ret;
	return sent(session, &session->record, ret, &error);
}

int vmf_session_flush(struct vmf_session *session)
{
	struct vmf_error error = {};
	int ret;

	if (!session->sending)
		return 0;
	ret = vmf_message_drain(&session->record, session->sock,
				cancel_fd(session), session->params->timeout,
				&error);
	session->sending = false;
	return sent(session, &session->record, ret, &error);
}

int vmf_session_send(struct vmf_session *session)
{
	struct vmf_error error = {};
	int ret;

	if (session->sock < 0)
		return 0;
	ret = vmf_session_flush(session);
	if (ret)
		return ret;
	ret = vmf_message_send(&session->out, session->sock, cancel_fd(session),
			       session->params->timeout, &error);
	return sent(session, &session->out, ret, &error);
}

int vmf_session_send_bare(struct vmf_session *session,
			  enum vmf_message_type type)
{
	vmf_message_start(&session->out, type);
	return vmf_session_send(session);
}

static int engine_failed(struct vmf_session *session,
			 const struct vfio_multifd_status *status)
{
	char text[VMF_TEXT_SIZE];

	vmf_engine_explain(session->engine, status, text, sizeof(text));
	if (status->reason == VFIO_MULTIFD_REASON_SOCKET ||
	    status->reason == VFIO_MULTIFD_REASON_EOF)
		vmf_session_hear_out(session, 1);
	return vmf_error_set(&session->error,
			     status->error ? status->error : -EIO, "%s", text);
}

int vmf_session_device_status(struct vmf_session *session, uint32_t i,
			      struct vfio_multifd_device_status *status)
{
	const struct vmf_session_device *own = &session->device[i];

	if (!own->on_main && session->engine)
		return vmf_engine_device_status(session->engine, own->index,
						own->wake, status);
	*status = (struct vfio_multifd_device_status){
		.bytes = own->section.bytes,
		.packets = own->section.records,
		.paused = own->section.paused,
	};
	return 0;
}

bool vmf_session_all_done(const struct vmf_session *session)
{
	return session->done && vmf_section_all_done(session);
}

void vmf_session_count(struct vmf_session *session)
{
	struct vmf_report *report = session->report;
	struct vfio_multifd_device_status status;
	uint32_t i;

	for (i = 0; i < session->params->devices; i++) {
		if (vmf_session_device_status(session, i, &status))
			continue;
		report->device[i].multifd = !session->device[i].on_main &&
			session->params->device[i].multifd != VMF_MULTIFD_OFF;
		report->device[i].bytes = status.bytes;
		report->device[i].packets = status.packets;
	}
}

/* Is device state on its way? */
static bool moves(const struct vmf_session *session)
{
	return session->stage == VMF_STAGE_STOP || session->precopies;
}

void vmf_session_count_all(struct vmf_session *session)
{
	struct vmf_report *report = session->report;
	uint32_t i;

	vmf_session_count(session);
	report->bytes = 0;
	report->packets = 0;
	for (i = 0; i < session->params->devices; i++) {
		report->bytes += report->device[i].bytes;
		report->packets += report->device[i].packets;
	}
}

void vmf_session_count_precopy(struct vmf_session *session)
{
	struct vmf_report *report = session->report;

	vmf_session_count_all(session);
	report->precopy.bytes = report->bytes;
	report->precopy.packets = report->packets;
}

static int ask_engine(struct vmf_session *session,
		      struct vfio_multifd_status *status)
{
	int ret = vmf_engine_status(session->engine, status);

	if (ret)
		return vmf_error_set(&session->error, ret, "engine status: %s",
				     strerror(-ret));
	if (status->state == VFIO_MULTIFD_STATE_FAILED)
		return engine_failed(session, status);

	if (status->state == VFIO_MULTIFD_STATE_DONE && !session->done) {
		session->done = true;
		vmf_session_mark(session, VMF_TIME_STREAMED);
	}
	return 0;
}

/*
 * Is there nothing more to look at?  What a source has sent may have to be sent again until
 * the destination has loaded it.
 */
static bool is_over(const struct vmf_session *session)
{
	return vmf_session_all_done(session) &&
	       !(session->replaces && session->role == VFIO_MULTIFD_SEND);
}

/* Brings the report up to date, if that is due or the engine has news. */
static int look(struct vmf_session *session, bool news)
{
	void (*progress)(void *opaque, const struct vmf_report *report) =
		session->params->progress;
	struct vfio_multifd_status status = {};
	struct vmf_report *report = session->report;
	uint64_t now = vmf_clock_ns();
	int ret;

	if (!session->running || is_over(session))
		return 0;
	if (!news && now - session->looked_ns < PROGRESS_NS)
		return 0;
	session->looked_ns = now;

	if (report->channels) {
		ret = ask_engine(session, &status);
		if (ret)
			return ret;
	}
	ret = vmf_replace_look(session);
	if (ret)
		return ret;
	status.bytes += session->section_bytes;
	status.packets += session->section_records;
	if (status.packets > report->packets)
		vmf_session_step(session);
	report->bytes = status.bytes;
	report->packets = status.packets;
	if (progress && moves(session)) {
		vmf_session_count(session);
		progress(session->params->opaque, report);
	}
	return 0;
}

/* The heartbeat, and the limits of patience. */
static int beat(struct vmf_session *session, const struct vmf_wait *wait)
{
	uint64_t limit = session->params->timeout * VMF_NS_PER_S;
	uint64_t now = vmf_clock_ns();

	/* A device that holds up all the rest is no reason for patience. */
	if ((!wait->patient || session->held) &&
	    now > session->step_ns + limit + session->slack_ns)
		return vmf_error_set(&session->error, -ETIMEDOUT,
				     "no progress for %u seconds, waiting for %s",
				     session->params->timeout, session->held ?
				     "a device" : wait->what);
	if (session->sock < 0)
		return 0;
	/* It is this end that does not listen. */
	if (session->held)
		session->heard_ns = now;
	if (now > session->heard_ns + limit)
		return lost(session,
			    vmf_error_set(&session->error, -ETIMEDOUT,
					  "nothing heard from the %s for %u seconds",
					  peer_name(session),
					  session->params->timeout));
	/* What comes to the peer tells it as much, and what does not neither does. */
	if (session->sending || now - session->spoke_ns < HEARTBEAT_NS)
		return 0;

	vmf_message_start(&session->out, VMF_HEARTBEAT);
	vmf_message_put_u64(&session->out, session->steps);
	return vmf_session_send(session);
}

/* When poll() has to return at the latest. */
static uint64_t wake_time(const struct vmf_session *session,
			  const struct vmf_wait *wait)
{
	uint64_t when = UINT64_MAX, limit;

	if (!wait->patient || session->held) {
		limit = session->params->timeout * VMF_NS_PER_S;
		when = session->step_ns + limit + session->slack_ns +
		       VMF_NS_PER_MS;
	}
	if (session->sock >= 0 && !session->sending &&
	    session->spoke_ns + HEARTBEAT_NS < when)
		when = session->spoke_ns + HEARTBEAT_NS;
	if (session->running && !is_over(session) &&
	    (moves(session) || wait->check) &&
	    session->looked_ns + PROGRESS_NS < when)
		when = session->looked_ns + PROGRESS_NS;
	if (wait->until && wait->until < when)
		when = wait->until;
	return when;
}

/*
 * A process that was stopped past @when has not looked at what the peer said
 * meanwhile, and must not blame it for having said nothing.
 */
static void was_stopped(struct vmf_session *session, uint64_t when)
{
	uint64_t now = vmf_clock_ns();

	if (now < when || now - when < VMF_NS_PER_S)
		return;
	/* and a second to read it */
	session->step_ns += now - when + VMF_NS_PER_S;
	session->heard_ns += now - when + VMF_NS_PER_S;
}

static int poll_all(struct vmf_session *session, const struct vmf_wait *wait,
		    struct pollfd *fds, bool at_once)
{
	uint64_t when = at_once ? 0 : wake_time(session, wait);
	uint64_t start = vmf_clock_ns();
	nfds_t nfds = OWN_FDS + wait->nfds;
	int ret;

	fds[SOCK] = (struct pollfd){ session->held ? -1 : session->sock,
				     POLLIN, 0 };
	if (session->sending)
		fds[SOCK].events |= POLLOUT;
	fds[ENGINE] = (struct pollfd){ -1, POLLIN, 0 };
	if (session->running && !session->done)
		fds[ENGINE].fd = vmf_engine_fd(session->engine);
	fds[CANCEL] = (struct pollfd){ cancel_fd(session), POLLIN, 0 };
	nfds += vmf_section_watch(session, fds + nfds);
	if (session->listener) {
		memcpy(fds + nfds, vmf_listener_fds(session->listener),
		       (session->listener->waiting + 1) * sizeof(*fds));
		nfds += session->listener->waiting + 1;
	}
	if (wait->nfds)
		memcpy(fds + OWN_FDS, wait->fds,
		       wait->nfds * sizeof(*wait->fds));

	do {
		ret = poll(fds, nfds, when == UINT64_MAX ?
			   -1 : vmf_clock_ms_until(when));
	} while (ret < 0 && errno == EINTR);
	if (ret < 0)
		return vmf_error_set(&session->error, -errno, "poll: %s",
				     strerror(errno));
	was_stopped(session, when > start ? when : start);
	if (wait->nfds)
		memcpy(wait->fds, fds + OWN_FDS,
		       wait->nfds * sizeof(*wait->fds));
	return 0;
}

static bool any_ready(const struct vmf_wait *wait)
{
	nfds_t i;

	for (i = 0; i < wait->nfds; i++)
		if (wait->fds[i].revents)
			return true;
	return false;
}

int vmf_session_wait(struct vmf_session *session, const struct vmf_wait *wait)
{
	struct pollfd fds[MAX_FDS];
	bool checked;
	int ret;

	for (;;) {
		if (wait->done && vmf_session_all_done(session))
			return VMF_WOKEN_DONE;
		/* Nothing that is always there must keep the rest out. */
		checked = wait->check && wait->check(session);
		ret = poll_all(session, wait, fds, checked);
		if (ret)
			return ret;
		if (fds[CANCEL].revents)
			return vmf_error_set(&session->error, -ECANCELED,
					     "cancelled");
		if (fds[SOCK].revents) {
			ret = receive(session, wait);
			if (ret < 0)
				ret = lost(session, ret);
			if (ret)
				return ret;
		}
		ret = vmf_section_serve(session, fds + OWN_FDS + wait->nfds,
					fds[SOCK].revents & POLLOUT);
		if (ret)
			return ret;
		if (session->listener)
			ret = vmf_replace_accept(session);
		if (ret)
			return ret;
		ret = look(session, fds[ENGINE].revents);
		if (ret)
			return ret;
		ret = beat(session, wait);
		if (ret)
			return ret;
		if (checked)
			return VMF_WOKEN_CHECK;
		if (any_ready(wait))
			return VMF_WOKEN_FDS;
		if (wait->until && vmf_clock_ns() >= wait->until)
			return VMF_WOKEN_TIME;
	}
}

int vmf_session_hear_rest(struct vmf_session *session, const char *what)
{
	struct pollfd fd = { .fd = session->sock, .events = POLLIN };
	unsigned int left = MOST_WAITING;
	int ret = 0;

	while (ret >= 0 && left-- && poll(&fd, 1, 0) > 0)
		ret = vmf_session_wait(session, &(struct vmf_wait){
			.what = what,
			.until = vmf_clock_ns(),
		});
	return ret < 0 ? ret : 0;
}

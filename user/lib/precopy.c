// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A round ends where no device has more to give for now and all that it gave is
 * sent.  The destination says when it has loaded as much.  Then it is known how
 * long the rest would take, and whether another round is worth it.
 */
#include "precopy.h"

#include "clock.h"
#include "compat.h"
#include "error.h"
#include "modes.h"
#include "rounds.h"
#include "section.h"
#include "team.h"
#include "trigger.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define LOOK_NS		(100 * VMF_NS_PER_MS)	/* what the guest writes by then */

/**
 * struct rounds - how pre-copy goes
 * @so_far: the rounds
 * @acked: the destination has all rounds so far
 * @offered: the VMM was told that it may stop
 * @bytes: that had moved when the round began
 * @began_ns: when that was
 */
struct rounds {
	struct vmf_rounds so_far;
	bool acked;
	bool offered;
	uint64_t bytes;
	uint64_t began_ns;
};

static bool can(const struct vmf_session *session, uint32_t i)
{
	return session->report->features & VMF_FEATURE_PRE_COPY &&
	       session->device[i].identity.migration_flags &
	       VMF_MIGRATION_PRE_COPY;
}

int vmf_precopy_begin(struct vmf_session *session)
{
	uint32_t state[VFIO_MULTIFD_MAX_DEVICES] = {};
	uint32_t i;
	int ret;

	for (i = 0; i < session->params->devices; i++) {
		session->device[i].precopy = can(session, i);
		if (!session->device[i].precopy)
			continue;
		state[i] = VMF_STATE_PRE_COPY;
		session->precopies++;
	}
	if (!session->precopies)
		return 0;
	ret = vmf_team_set_states(session, state);
	return ret ? ret : vmf_session_add_devices(session);
}

/* How much of it there is, of those devices whose state moves at the stop */
static uint64_t stopped_size(const struct vmf_session *session)
{
	uint64_t sum = 0, size;
	uint32_t i;

	for (i = 0; i < session->params->devices; i++)
		if (!session->device[i].precopy &&
		    !vmf_device_data_size(session->params->device[i].fd, &size))
			sum += size;
	return sum;
}

static int measure_left(struct vmf_session *session, struct rounds *rounds)
{
	uint64_t initial;
	uint32_t i;
	int ret;

	rounds->so_far.initial = 0;
	rounds->so_far.left = stopped_size(session);
	for (i = 0; i < session->params->devices; i++) {
		if (!session->device[i].precopy)
			continue;
		initial = rounds->so_far.initial;
		ret = vmf_rounds_measure(&rounds->so_far,
					 session->device[i].data_fd);
		if (ret)
			return vmf_error_set(&session->error, ret,
					     "device %s: how much is left: %s",
					     session->params->device[i].idstr,
					     strerror(-ret));
		/* A device that was set up anew has some again. */
		if (rounds->so_far.initial > initial)
			session->device[i].section.initial_sent = false;
	}
	return 0;
}

static bool all_paused(struct vmf_session *session)
{
	struct vfio_multifd_device_status status;
	uint32_t i;

	for (i = 0; i < session->params->devices; i++)
		if (session->device[i].precopy &&
		    (vmf_session_device_status(session, i, &status) ||
		     !status.paused))
			return false;
	return true;
}

static uint64_t all_bytes(struct vmf_session *session)
{
	vmf_session_count_precopy(session);
	return session->report->precopy.bytes;
}

static void begin_round(struct vmf_session *session, struct rounds *rounds)
{
	vmf_session_step(session);
	rounds->bytes = all_bytes(session);
	rounds->began_ns = vmf_clock_ns();
	rounds->acked = false;
}

static int next_round(struct vmf_session *session, struct rounds *rounds)
{
	uint32_t i;
	int ret;

	begin_round(session, rounds);
	for (i = 0; i < session->params->devices; i++) {
		if (!session->device[i].precopy)
			continue;
		if (session->device[i].on_main)
			ret = vmf_section_continue(session, i);
		else
			ret = vmf_engine_continue(session->engine,
						  session->device[i].index,
						  NULL);
		/* Of a transfer that has failed the next look tells why. */
		if (ret && ret != -EBADFD)
			return vmf_error_set(&session->error, ret,
					     "device %s: reading on: %s",
					     session->params->device[i].idstr,
					     strerror(-ret));
	}
	return 0;
}

/* Tells the destination how many packets of each device belong to the rounds. */
static int end_round(struct vmf_session *session)
{
	struct vmf_message *out = &session->out;
	uint32_t i;

	vmf_session_count(session);
	vmf_message_start(out, VMF_ROUND);
	vmf_message_put_u32(out, session->report->precopy.rounds + 1);
	vmf_message_put_u32(out, 0);
	for (i = 0; i < session->params->devices; i++)
		vmf_message_put_u64(out, session->report->device[i].packets);
	session->awaits_ack = true;
	vmf_session_step(session);
	return vmf_session_send(session);
}

static int take_ack(struct vmf_session *session, struct rounds *rounds)
{
	struct vmf_report *report = session->report;
	uint32_t round = vmf_message_get_u32(&session->in);

	vmf_message_get_u32(&session->in);
	session->awaits_ack = false;
	if (round != report->precopy.rounds + 1)
		return vmf_error_set(&session->error, -EPROTO,
				     "ROUND_ACK of round %u, expected %u",
				     round, report->precopy.rounds + 1);
	report->precopy.rounds = round;
	rounds->acked = true;
	vmf_rounds_add(&rounds->so_far, all_bytes(session) - rounds->bytes,
		       vmf_clock_ns() - rounds->began_ns);
	return vmf_message_end(&session->in, &session->error);
}

/*
 * After a round, or because it is time to look again: offers the stop, or goes on
 * with another round, or neither for now.
 */
static int judge(struct vmf_session *session, struct rounds *rounds,
		 bool after_round)
{
	enum vmf_precopy_end end;
	int ret;

	ret = measure_left(session, rounds);
	if (ret)
		return ret;
	end = vmf_rounds_judge(&rounds->so_far, after_round);
	session->report->precopy.expected_ns = rounds->so_far.expected_ns;
	session->report->precopy.left = rounds->so_far.left;
	/* A device that gives nothing is asked again a little later. */
	if (end == VMF_PRECOPY_NONE)
		return after_round && !rounds->so_far.moved ?
		       0 : next_round(session, rounds);
	if (rounds->offered)
		return 0;
	rounds->offered = true;
	session->report->precopy.end = end;
	return vmf_session_event(session, VMF_EVENT_MAY_STOP, NULL);
}

/* Waits for whatever comes next.  Returns 1 when the trigger was pulled. */
static int wait_and_act(struct vmf_session *session, struct rounds *rounds)
{
	bool moves = session->precopies && !rounds->acked;
	struct pollfd fds[] = {
		{ .fd = session->lasting->modes_ended ? -1 : session->params->modes_fd,
		  .events = POLLIN },
		{ .fd = session->params->trigger_fd, .events = POLLIN },
	};
	int ret;

	ret = vmf_session_wait(session, &(struct vmf_wait){
		.messages = session->awaits_ack ? 1 << VMF_ROUND_ACK : 0,
		.fds = fds, .nfds = 2,
		.check = moves && !session->awaits_ack ? all_paused : NULL,
		.patient = !moves,
		.what = "a round of pre-copy",
		.until = session->precopies && rounds->acked ?
			 vmf_clock_ns() + LOOK_NS : 0,
	});
	switch (ret) {
	case VMF_WOKEN_FDS:
		/* What was written before the trigger was pulled holds. */
		ret = vmf_modes_read(session);
		if (ret || !fds[1].revents)
			return ret;
		return vmf_trigger_read(fds[1].fd, &session->error);
	case VMF_WOKEN_CHECK:
		return end_round(session);
	case VMF_ROUND_ACK:
		ret = take_ack(session, rounds);
		return ret ? ret : judge(session, rounds, true);
	case VMF_WOKEN_TIME:
		return judge(session, rounds, false);
	default:
		return ret;
	}
}

int vmf_precopy_run(struct vmf_session *session)
{
	const struct vmf_params *params = session->params;
	struct rounds rounds = { .so_far = {
		.downtime_limit = params->downtime_limit,
		.max = params->max_rounds,
		.enough = params->packet_size,
	} };
	int ret;

	begin_round(session, &rounds);
	if (!session->precopies) {
		ret = vmf_session_event(session, VMF_EVENT_MAY_STOP, NULL);
		if (ret)
			return ret;
		rounds.offered = true;
	}
	do {
		if (rounds.offered && params->trigger_fd < 0) {
			ret = vmf_modes_read(session);
			break;
		}
		ret = wait_and_act(session, &rounds);
	} while (!ret);
	if (ret < 0)
		return ret;
	vmf_session_count_precopy(session);
	return 0;
}

void vmf_precopy_p2p_states(const struct vmf_session *session,
			    uint32_t state[static VFIO_MULTIFD_MAX_DEVICES])
{
	uint32_t i;

	for (i = 0; i < session->params->devices; i++)
		state[i] = session->device[i].precopy ?
			   VMF_STATE_PRE_COPY_P2P :
			   VFIO_DEVICE_STATE_RUNNING_P2P;
}

void vmf_precopy_end(struct vmf_session *session)
{
	uint32_t i;

	for (i = 0; i < session->params->devices; i++) {
		if (!session->device[i].precopy)
			continue;
		close(session->device[i].data_fd);
		session->device[i].data_fd = -1;
	}
}

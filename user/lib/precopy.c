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
#include "team.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define LOOK_NS		(100 * VMF_NS_PER_MS)	/* what the guest writes by then */
#define FOR_EVER	1e19	/* ns */
#define MAX_STALLS	3	/* rounds that leave no less than the one before */

/**
 * struct rounds - how pre-copy goes
 * @acked: the destination has all rounds so far
 * @offered: the VMM was told that it may stop
 * @initial: bytes that must be there before the stop
 * @left: bytes that would move after the stop
 * @last_left: @left after the round before
 * @stalls: rounds in a row that were no good
 * @bytes: that had moved when the round began
 * @began_ns: when that was
 * @moved: bytes of the last round
 * @rate: bytes per second of it
 */
struct rounds {
	bool acked;
	bool offered;
	uint64_t initial;
	uint64_t left;
	uint64_t last_left;
	uint32_t stalls;
	uint64_t bytes;
	uint64_t began_ns;
	uint64_t moved;
	double rate;
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
	vmf_session_step(session);
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
	uint64_t initial, dirty;
	uint32_t i;
	int ret;

	rounds->initial = 0;
	rounds->left = stopped_size(session);
	for (i = 0; i < session->params->devices; i++) {
		if (!session->device[i].precopy)
			continue;
		ret = vmf_device_precopy_info(session->device[i].data_fd,
					      &initial, &dirty);
		if (ret)
			return vmf_error_set(&session->error, ret,
					     "device %s: how much is left: %s",
					     session->params->device[i].idstr,
					     strerror(-ret));
		rounds->initial += initial;
		if (__builtin_add_overflow(initial, dirty, &dirty) ||
		    __builtin_add_overflow(rounds->left, dirty, &rounds->left))
			rounds->left = UINT64_MAX;
	}
	return 0;
}

static bool all_paused(struct vmf_session *session)
{
	struct vfio_multifd_device_status status;
	uint32_t i;

	for (i = 0; i < session->params->devices; i++)
		if (session->device[i].precopy &&
		    (vmf_engine_device_status(session->engine,
					      session->device[i].index, 0,
					      &status) || !status.paused))
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
		ret = vmf_engine_continue(session->engine,
					  session->device[i].index, NULL);
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
	uint64_t took;
	double rate;

	vmf_message_get_u32(&session->in);
	session->awaits_ack = false;
	if (round != report->precopy.rounds + 1)
		return vmf_error_set(&session->error, -EPROTO,
				     "ROUND_ACK of round %u, expected %u",
				     round, report->precopy.rounds + 1);
	report->precopy.rounds = round;
	rounds->acked = true;
	took = vmf_clock_ns() - rounds->began_ns;
	rounds->moved = all_bytes(session) - rounds->bytes;
	rate = took ? rounds->moved * 1e9 / took : 0;
	/* A round of a few bytes says little of the network. */
	if (rounds->moved >= report->packet_size || rate > rounds->rate)
		rounds->rate = rate;
	return vmf_message_end(&session->in, &session->error);
}

/* What is left takes no longer than it may, or other rounds would be in vain. */
static enum vmf_precopy_end find_end(struct vmf_session *session,
				     const struct rounds *rounds)
{
	const struct vmf_params *params = session->params;
	struct vmf_report *report = session->report;
	double expected = 0;

	if (rounds->rate > 0)
		expected = rounds->left / rounds->rate * 1e9;
	report->precopy.expected_ns = expected < FOR_EVER ? expected :
							    UINT64_MAX;
	report->precopy.left = rounds->left;
	if (rounds->initial)
		return VMF_PRECOPY_NONE;
	if ((rounds->rate > 0 || !rounds->left) &&
	    expected <= params->downtime_limit * VMF_NS_PER_MS)
		return VMF_PRECOPY_CONVERGED;
	if (report->precopy.rounds >= params->max_rounds)
		return VMF_PRECOPY_MAX_ROUNDS;
	if (rounds->stalls >= MAX_STALLS)
		return VMF_PRECOPY_STALLED;
	return VMF_PRECOPY_NONE;
}

/* Was the last round of any use? */
static void count_stalls(struct rounds *rounds)
{
	if (rounds->last_left && rounds->left >= rounds->last_left)
		rounds->stalls++;
	else
		rounds->stalls = 0;
	rounds->last_left = rounds->left;
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
	if (after_round)
		count_stalls(rounds);
	end = find_end(session, rounds);
	/* A device that gives nothing is asked again a little later. */
	if (end == VMF_PRECOPY_NONE)
		return after_round && !rounds->moved ?
		       0 : next_round(session, rounds);
	if (rounds->offered)
		return 0;
	rounds->offered = true;
	session->report->precopy.end = end;
	return vmf_session_event(session, VMF_EVENT_MAY_STOP, NULL);
}

static int read_trigger(struct vmf_session *session, int fd)
{
	char byte[8];	/* an eventfd wants that many */
	ssize_t got = read(fd, byte, sizeof(byte));

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got < 0)
		return vmf_error_set(&session->error, -errno,
				     "trigger-fd %d: %s", fd, strerror(errno));
	if (!got)
		return vmf_error_set(&session->error, -ECANCELED,
				     "the VMM closed the trigger without pulling it");
	return 1;
}

/* Waits for whatever comes next.  Returns 1 when the trigger was pulled. */
static int wait_and_act(struct vmf_session *session, struct rounds *rounds)
{
	bool moves = session->precopies && !rounds->acked;
	struct pollfd fd = {
		.fd = session->params->trigger_fd,
		.events = POLLIN,
	};
	int ret;

	ret = vmf_session_wait(session, &(struct vmf_wait){
		.messages = session->awaits_ack ? 1 << VMF_ROUND_ACK : 0,
		.fds = &fd, .nfds = 1,
		.check = moves && !session->awaits_ack ? all_paused : NULL,
		.patient = !moves,
		.what = "a round of pre-copy",
		.until = session->precopies && rounds->acked ?
			 vmf_clock_ns() + LOOK_NS : 0,
	});
	switch (ret) {
	case VMF_WOKEN_FDS:
		return read_trigger(session, fd.fd);
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
	struct rounds rounds = {};
	int ret;

	begin_round(session, &rounds);
	if (!session->precopies) {
		ret = vmf_session_event(session, VMF_EVENT_MAY_STOP, NULL);
		if (ret)
			return ret;
		rounds.offered = true;
	}
	do {
		if (rounds.offered && session->params->trigger_fd < 0)
			break;
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

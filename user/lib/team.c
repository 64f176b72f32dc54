// SPDX-License-Identifier: LGPL-2.1-or-later
#include "team.h"

#include "clock.h"
#include "compat.h"
#include "error.h"
#include "thread.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

typedef int (*call_t)(int fd, uint32_t state, int *data_fd);

struct job {
	struct team *team;
	int fd;
	uint32_t state;
	int data_fd;
	int ret;
	bool picked;		/* has to be done */
	bool finished;
};

/*
 * Held by the session and by each thread.  A thread that never returns from
 * its call keeps it; the session then goes on without.
 */
struct team {
	pthread_mutex_t lock;	/* protects what follows up to @event */
	uint32_t holders;
	uint32_t left;		/* jobs that are not finished */
	bool alone;		/* the session has gone on */
	int event;		/* readable when jobs have finished, or none is left */
	call_t call;
	struct job job[VFIO_MULTIFD_MAX_DEVICES];
};

static struct team *create(call_t call)
{
	struct team *team = calloc(1, sizeof(*team));

	if (!team)
		return NULL;

	team->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (team->event < 0) {
		free(team);
		return NULL;
	}
	pthread_mutex_init(&team->lock, NULL);
	team->holders = 1;
	team->call = call;
	return team;
}

/* Gives up what the caller holds, and the lock. */
static void put_unlock(struct team *team)
{
	bool last = !--team->holders;

	pthread_mutex_unlock(&team->lock);
	if (!last)
		return;
	pthread_mutex_destroy(&team->lock);
	close(team->event);
	free(team);
}

static void *run(void *arg)
{
	struct job *job = arg;
	struct team *team = job->team;
	int data_fd = -1;
	int ret;

	ret = team->call(job->fd, job->state, &data_fd);

	pthread_mutex_lock(&team->lock);
	job->ret = ret;
	job->data_fd = data_fd;
	job->finished = true;
	if (team->alone && data_fd >= 0)
		close(data_fd);
	team->left--;
	eventfd_write(team->event, 1);
	put_unlock(team);
	return NULL;
}

static void start(struct team *team, const struct vmf_params *params)
{
	pthread_t thread;
	uint32_t i;

	for (i = 0; i < params->devices; i++)
		team->left += team->job[i].picked;
	team->holders += team->left;
	if (!team->left)
		eventfd_write(team->event, 1);

	for (i = 0; i < params->devices; i++) {
		struct job *job = &team->job[i];

		if (!job->picked)
			continue;
		job->team = team;
		job->fd = params->device[i].fd;
		/* Without a thread it is slower, which beats not at all. */
		if (vmf_thread_start(&thread, run, job))
			run(job);
		else
			pthread_detach(thread);
	}
}

/* After an event: is there more to wait for? */
static bool goes_on(struct team *team)
{
	eventfd_t finished;
	bool more;

	pthread_mutex_lock(&team->lock);
	eventfd_read(team->event, &finished);
	more = team->left;
	pthread_mutex_unlock(&team->lock);
	return more;
}

/* Waits for the rest of the jobs, but for none of them for ever. */
static void wait_quietly(struct team *team, uint32_t timeout)
{
	struct pollfd fd = { .fd = team->event, .events = POLLIN };
	uint64_t deadline;
	int ret;

	do {
		deadline = vmf_clock_ns() + timeout * VMF_NS_PER_S;
		do {
			ret = poll(&fd, 1, vmf_clock_ms_until(deadline));
		} while (ret < 0 && errno == EINTR);
	} while (ret > 0 && goes_on(team));
}

/* Takes over what was done, and leaves the team. */
static void collect(struct team *team, struct vmf_session *session,
		    struct job result[VFIO_MULTIFD_MAX_DEVICES])
{
	uint32_t i;

	pthread_mutex_lock(&team->lock);
	memcpy(result, team->job, sizeof(team->job));
	team->alone = true;
	put_unlock(team);

	for (i = 0; i < session->params->devices; i++) {
		if (result[i].picked && !result[i].finished) {
			session->device[i].stuck = true;
			result[i].ret = -ETIMEDOUT;
		}
	}
}

int vmf_team_set_state(struct vmf_session *session, uint32_t state)
{
	uint32_t states[VFIO_MULTIFD_MAX_DEVICES];
	uint32_t i;

	for (i = 0; i < VFIO_MULTIFD_MAX_DEVICES; i++)
		states[i] = state;
	return vmf_team_set_states(session, states);
}

/* A state in which data moves has an fd for it, from itself or from PRE_COPY. */
static int take_fd(struct vmf_session_device *own, const struct job *job)
{
	if (job->data_fd >= 0) {
		if (own->data_fd >= 0)
			close(own->data_fd);
		own->data_fd = job->data_fd;
	}
	if (own->data_fd < 0 && (job->state == VMF_STATE_PRE_COPY ||
				 job->state == VFIO_DEVICE_STATE_STOP_COPY ||
				 job->state == VFIO_DEVICE_STATE_RESUMING))
		return -EBADFD;
	return 0;
}

int vmf_team_set_states(struct vmf_session *session,
			const uint32_t state[static VFIO_MULTIFD_MAX_DEVICES])
{
	const struct vmf_params *params = session->params;
	struct job result[VFIO_MULTIFD_MAX_DEVICES];
	struct team *team = create(vmf_device_set_state);
	struct pollfd fd = { .events = POLLIN };
	uint32_t i;
	int ret;

	if (!team)
		return vmf_error_set(&session->error, -ENOMEM,
				     "out of memory");
	for (i = 0; i < params->devices; i++) {
		team->job[i].picked = state[i] != VFIO_DEVICE_STATE_ERROR;
		team->job[i].state = state[i];
		session->device[i].moved |= team->job[i].picked;
	}
	fd.fd = team->event;
	start(team, params);

	/* Drivers that do one device at a time come forward with each. */
	do {
		vmf_session_step(session);
		ret = vmf_session_wait(session, &(struct vmf_wait){
			.fds = &fd, .nfds = 1, .what = "the devices' drivers" });
	} while (ret >= 0 && goes_on(team));
	if (ret < 0)
		wait_quietly(team, params->timeout);
	collect(team, session, result);

	for (i = 0; i < params->devices; i++) {
		if (!result[i].picked)
			continue;
		if (!result[i].ret)
			result[i].ret = take_fd(&session->device[i],
						&result[i]);
		if (result[i].ret)
			ret = vmf_error_set(&session->error, result[i].ret,
					    "device %s to %s: %s",
					    params->device[i].idstr,
					    vmf_device_state_name(state[i]),
					    strerror(-result[i].ret));
	}
	return ret < 0 ? ret : 0;
}

static bool any_moved(const struct vmf_session *session)
{
	uint32_t i;

	for (i = 0; i < session->params->devices; i++)
		if (session->device[i].moved)
			return true;
	return false;
}

/* Calls into each device that was moved; false without memory or fds for it. */
static bool call_moved(struct vmf_session *session, call_t call, uint32_t state,
		       struct job result[VFIO_MULTIFD_MAX_DEVICES])
{
	const struct vmf_params *params = session->params;
	struct team *team = create(call);
	uint32_t i;

	if (!team)
		return false;
	for (i = 0; i < params->devices; i++) {
		team->job[i].picked = session->device[i].moved &&
				      !session->device[i].stuck;
		team->job[i].state = state;
	}
	start(team, params);
	wait_quietly(team, params->timeout);
	collect(team, session, result);
	return true;
}

/* Says in @text for which devices a call failed, and returns their number. */
static int judge(struct vmf_session *session,
		 const struct job result[VFIO_MULTIFD_MAX_DEVICES],
		 char text[static VMF_TEXT_SIZE])
{
	const struct vmf_params *params = session->params;
	int failed = 0;
	uint32_t i;

	for (i = 0; i < params->devices; i++) {
		const char *name = params->device[i].idstr;

		if (session->device[i].stuck)
			snprintf(text, VMF_TEXT_SIZE,
				 "device %s: its driver does not return", name);
		else if (result[i].ret > 0)
			snprintf(text, VMF_TEXT_SIZE,
				 "device %s lost its state: only a reset took it back to RUNNING",
				 name);
		else if (result[i].ret)
			snprintf(text, VMF_TEXT_SIZE, "device %s: %s", name,
				 strerror(-result[i].ret));
		else
			continue;
		failed++;
	}
	return failed;
}

static int finish(struct vmf_session *session, call_t call, uint32_t state,
		  char text[static VMF_TEXT_SIZE])
{
	struct job result[VFIO_MULTIFD_MAX_DEVICES];

	if (!any_moved(session))
		return 0;
	if (call_moved(session, call, state, result))
		return judge(session, result, text);
	snprintf(text, VMF_TEXT_SIZE, "out of memory or of fds");
	return 1;
}

static int roll_back(int fd, uint32_t state, int *data_fd)
{
	int ret;

	if (!vmf_device_set_state(fd, state, data_fd))
		return 0;
	ret = vmf_device_reset(fd);
	return ret ? ret : 1;
}

int vmf_team_roll_back(struct vmf_session *session,
		       char text[static VMF_TEXT_SIZE])
{
	int failed = 0;

	/*
	 * A device that runs again may use its peers: they answer from here.
	 * One that was reset on the way runs already, and is lost all the same.
	 */
	if (session->params->devices > 1)
		failed = finish(session, roll_back,
				VFIO_DEVICE_STATE_RUNNING_P2P, text);
	return failed + finish(session, roll_back, VFIO_DEVICE_STATE_RUNNING,
			       text);
}

static int reset(int fd, uint32_t state, int *data_fd)
{
	(void)state;
	(void)data_fd;
	return vmf_device_reset(fd);
}

int vmf_team_reset(struct vmf_session *session, char text[static VMF_TEXT_SIZE])
{
	return finish(session, reset, VFIO_DEVICE_STATE_RUNNING, text);
}

int vmf_team_stop(struct vmf_session *session, char text[static VMF_TEXT_SIZE])
{
	return finish(session, vmf_device_set_state, VFIO_DEVICE_STATE_STOP,
		      text);
}

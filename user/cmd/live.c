// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What save keeps while the VM runs.  A device's stream goes on from round to round, so
 * each round comes behind the one before.
 */
#include "file.h"

#include <lib/clock.h>
#include <lib/error.h>
#include <lib/trigger.h>

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define LOOK_MS		100	/* what the guest writes by then */

static uint64_t all_bytes(const struct file_job *job)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < job->targets; i++)
		sum += job->device[i].bytes;
	return sum;
}

static bool any_live(const struct file_job *job)
{
	for (uint32_t i = 0; i < job->targets; i++)
		if (job->target[i].live)
			return true;
	return false;
}

static int round_of(struct file_job *job, struct store *store)
{
	uint64_t bytes = all_bytes(job), start = vmf_clock_ns();
	int ret;

	ret = store_write(store, true);
	/* What is left for the end must not be on the way to the disk then. */
	if (!ret && fdatasync(job->file))
		ret = file_fail(job, -errno, "%s: %s", job->path,
				strerror(errno));
	if (!ret)
		vmf_rounds_add(&job->rounds, all_bytes(job) - bytes,
			       vmf_clock_ns() - start);
	return ret;
}

static int judge(struct file_job *job, bool after_round)
{
	uint64_t size;
	int ret;

	job->rounds.initial = 0;
	job->rounds.left = 0;
	for (uint32_t i = 0; i < job->targets; i++) {
		const struct file_target *target = &job->target[i];

		if (!target->live) {
			if (!vmf_device_data_size(target->fd, &size))
				job->rounds.left += size;
			continue;
		}
		ret = vmf_rounds_measure(&job->rounds, target->data);
		if (ret)
			return file_fail(job, ret,
					 "device %s: how much is left: %s",
					 target->name, strerror(-ret));
	}
	job->precopy_end = vmf_rounds_judge(&job->rounds, after_round);
	return 0;
}

/* 1 when the VM is paused, 0 when it is time to look again */
static int wait_trigger(struct file_job *job, int ms)
{
	struct pollfd fd = { .fd = job->trigger_fd, .events = POLLIN };

	if (poll(&fd, 1, ms) > 0)
		return vmf_trigger_read(job->trigger_fd, &job->error);
	return *job->ended ? file_fail(job, -ECANCELED, "ended by signal %d",
				       (int)*job->ended) : 0;
}

int file_live(struct file_job *job, struct store *store)
{
	enum vmf_precopy_end end = VMF_PRECOPY_NONE;
	bool go_on = any_live(job), offered = false;
	int ret;

	do {
		ret = go_on ? round_of(job, store) : 0;
		if (!ret && any_live(job))
			ret = judge(job, go_on);
		if (ret)
			return ret;
		go_on = any_live(job) && !job->precopy_end;
		if (!go_on && !offered) {
			offered = true;
			end = job->precopy_end;
			ret = file_event(job, "may-stop\n");
			if (ret || job->trigger_fd < 0)
				break;
		}
		/* A device that gives nothing is asked again a little later. */
		ret = wait_trigger(job, go_on && job->rounds.moved ? 0 :
							   LOOK_MS);
	} while (!ret);
	job->precopy_end = end;
	return ret < 0 ? ret : 0;
}

// SPDX-License-Identifier: LGPL-2.1-or-later
#include "rounds.h"

#include "clock.h"

#define FOR_EVER	1e19	/* ns */
#define MAX_STALLS	3	/* rounds that leave no less than the one before */

void vmf_rounds_add(struct vmf_rounds *rounds, uint64_t bytes, uint64_t ns)
{
	double rate = ns ? bytes * 1e9 / ns : 0;

	rounds->count++;
	rounds->moved = bytes;
	/* A round of a few bytes says little of the way that they go. */
	if (bytes >= rounds->enough || rate > rounds->rate)
		rounds->rate = rate;
}

int vmf_rounds_measure(struct vmf_rounds *rounds, int data_fd)
{
	uint64_t initial, dirty;
	int ret;

	ret = vmf_device_precopy_info(data_fd, &initial, &dirty);
	if (ret)
		return ret;
	rounds->initial += initial;
	if (__builtin_add_overflow(initial, dirty, &dirty) ||
	    __builtin_add_overflow(rounds->left, dirty, &rounds->left))
		rounds->left = UINT64_MAX;
	return 0;
}

/* Was the last round of any use? */
static void count_stalls(struct vmf_rounds *rounds)
{
	if (rounds->last_left && rounds->left >= rounds->last_left)
		rounds->stalls++;
	else
		rounds->stalls = 0;
	rounds->last_left = rounds->left;
}

enum vmf_precopy_end vmf_rounds_judge(struct vmf_rounds *rounds,
				      bool after_round)
{
	double expected = 0;

	if (after_round)
		count_stalls(rounds);
	if (rounds->rate > 0)
		expected = rounds->left / rounds->rate * 1e9;
	rounds->expected_ns = expected < FOR_EVER ? expected : UINT64_MAX;
	if (rounds->initial)
		return VMF_PRECOPY_NONE;
	if ((rounds->rate > 0 || !rounds->left) &&
	    expected <= rounds->downtime_limit * VMF_NS_PER_MS)
		return VMF_PRECOPY_CONVERGED;
	if (rounds->count >= rounds->max)
		return VMF_PRECOPY_MAX_ROUNDS;
	if (rounds->stalls >= MAX_STALLS)
		return VMF_PRECOPY_STALLED;
	return VMF_PRECOPY_NONE;
}

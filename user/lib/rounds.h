/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How pre-copy goes: what its rounds leave, and when they have done what they can.
 */
#ifndef VMF_ROUNDS_H
#define VMF_ROUNDS_H

#include <vfio-multifd.h>

/**
 * struct vmf_rounds - the rounds so far
 * @downtime_limit: ms that what is left may take
 * @max: rounds that there may be
 * @enough: bytes of a round that say something of the rate
 * @count: rounds that have ended
 * @initial: bytes that must be there before the stop
 * @left: bytes that would move after the stop
 * @last_left: @left after the round before
 * @stalls: rounds in a row that were no good
 * @moved: bytes of the last round
 * @rate: bytes per second of it
 * @expected_ns: how long @left should take
 */
struct vmf_rounds {
	uint32_t downtime_limit;
	uint32_t max;
	uint32_t enough;
	uint32_t count;
	uint64_t initial;
	uint64_t left;
	uint64_t last_left;
	uint32_t stalls;
	uint64_t moved;
	double rate;
	uint64_t expected_ns;
};

/* A round has moved so much in so long. */
void vmf_rounds_add(struct vmf_rounds *rounds, uint64_t bytes, uint64_t ns);

/* Adds what a device in PRE_COPY still has to @initial and @left. */
int vmf_rounds_measure(struct vmf_rounds *rounds, int data_fd);

/*
 * Why another round would be in vain, or VMF_PRECOPY_NONE; @initial and @left are known.
 * @after_round: one has just ended
 */
enum vmf_precopy_end vmf_rounds_judge(struct vmf_rounds *rounds,
				      bool after_round);

#endif /* VMF_ROUNDS_H */

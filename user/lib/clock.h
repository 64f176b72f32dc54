/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VMF_CLOCK_H
#define VMF_CLOCK_H

#include <stdint.h>
#include <time.h>

#define VMF_NS_PER_MS	1000000ull
#define VMF_NS_PER_S	1000000000ull

static inline uint64_t vmf_clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * VMF_NS_PER_S + ts.tv_nsec;
}

/* For poll(): milliseconds until @when, rounded up, 0 if it is over. */
static inline int vmf_clock_ms_until(uint64_t when)
{
	uint64_t now = vmf_clock_ns();

	if (when <= now)
		return 0;
	return (when - now + VMF_NS_PER_MS - 1) / VMF_NS_PER_MS;
}

#endif /* VMF_CLOCK_H */

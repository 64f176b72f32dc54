/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory of our modules that nobody refers to any more */
#ifndef SELFTESTS_KMEMLEAK_H
#define SELFTESTS_KMEMLEAK_H

#include <stddef.h>

int kmemleak_scan(char *buf, size_t len);

/*
 * At the end of a test, with all closed.  What is not ours is shown, and does
 * not fail the test.  But the kernel logs how many objects a scan found, no
 * matter whose, and to vm.sh this is a kernel that complained.
 */
#define KMEMLEAK_EXPECT_NONE() do {					\
	static char _leaks[1 << 16];					\
	int _found = kmemleak_scan(_leaks, sizeof(_leaks));		\
									\
	if (_found == -ENOENT)						\
		SKIP(return, "this kernel has no kmemleak");		\
	EXPECT_EQ(0, _found);						\
	if (_leaks[0])							\
		fprintf(stderr, "%s", _leaks);				\
} while (0)

#endif /* SELFTESTS_KMEMLEAK_H */

/* SPDX-License-Identifier: GPL-2.0-only */
/* What the test programs share: devices or a reason to skip */
#ifndef SELFTESTS_TESTING_H
#define SELFTESTS_TESTING_H

#include "vfio.h"

const char *testing_open(struct vfio_device *dev, const struct vfio_kind *kind,
			 unsigned int nth);
void testing_close(struct vfio_device *dev);

/* What is opened from now on is in another network namespace.  Return: 0 or -errno */
int testing_other_net(void);

/*
 * For FIXTURE_SETUP() or a test: @call gives NULL or why there is no device.
 * Without devices or the module the test is skipped; a device that is there but
 * cannot be used is a failure.
 */
#define TESTING_SETUP(call) do {					\
	const char *_why = call;					\
									\
	if (_why && _why[0] == '!')					\
		ASSERT_STREQ("", _why + 1);				\
	if (_why)							\
		SKIP(return, "%s", _why);				\
} while (0)

#define TESTING_OPEN(dev, kind, nth) \
	TESTING_SETUP(testing_open(dev, kind, nth))

#endif /* SELFTESTS_TESTING_H */

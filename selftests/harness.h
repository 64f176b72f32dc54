/* SPDX-License-Identifier: GPL-2.0-only */
/* The kselftest harness, for machines that are emulated and kernels that check */
#ifndef SELFTESTS_HARNESS_H
#define SELFTESTS_HARNESS_H

#include "kselftest_harness.h"

/* Seconds; 30 do where nothing is slow. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	240

#endif /* SELFTESTS_HARNESS_H */

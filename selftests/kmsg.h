/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SELFTESTS_KMSG_H
#define SELFTESTS_KMSG_H

#include <stdbool.h>

int kmsg_open(void);
bool kmsg_find(int fd, const char *who, const char *what);

#endif /* SELFTESTS_KMSG_H */

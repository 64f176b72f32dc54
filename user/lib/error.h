/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VMF_ERROR_H
#define VMF_ERROR_H

#include <vfio-multifd.h>

/* Keeps the first error of @error, which may be NULL.  Returns @code. */
__attribute__((format(printf, 3, 4)))
int vmf_error_set(struct vmf_error *error, int code, const char *fmt, ...);

/* Makes text that came from elsewhere fit for a terminal and for one line. */
void vmf_error_clean(char *text);

#endif /* VMF_ERROR_H */

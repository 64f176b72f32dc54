/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VMF_TRIGGER_H
#define VMF_TRIGGER_H

#include <vfio-multifd.h>

/* 1 if the VMM has pulled it, 0 if not yet; closed without that it cancels. */
int vmf_trigger_read(int fd, struct vmf_error *error);

#endif /* VMF_TRIGGER_H */

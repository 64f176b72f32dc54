/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VMF_MODES_H
#define VMF_MODES_H

#include "session.h"

/*
 * Takes what the VMM has written to modes_fd.  Returns -ERESTART, once the destination is
 * told, if that makes another session of this one.
 */
int vmf_modes_read(struct vmf_session *session);

#endif /* VMF_MODES_H */

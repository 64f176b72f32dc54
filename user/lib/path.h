/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where a source's connections go: names become addresses before anything else, and
 * once, since nobody can say how long that takes.
 */
#ifndef VMF_PATH_H
#define VMF_PATH_H

#include "session.h"

int vmf_path_open(struct vmf_session *session);

/* Fine without vmf_path_open(); there are so many @paths. */
void vmf_path_close(struct vmf_lasting *lasting, uint32_t paths);

/* A connection to where the destination listens, at the address that it had before. */
int vmf_path_connect_main(struct vmf_session *session, uint32_t timeout,
			  struct vmf_error *error);

/*
 * A connection for channel @id, or a negative errno; then the next attempt takes the
 * next address, if there is another one.
 */
int vmf_path_connect(struct vmf_session *session, uint32_t id,
		     uint32_t timeout, struct vmf_error *error);

#endif /* VMF_PATH_H */

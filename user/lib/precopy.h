/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pre-copy at the source: what can be moved while the guest runs, in rounds.
 */
#ifndef VMF_PRECOPY_H
#define VMF_PRECOPY_H

#include "session.h"

/* The devices that can, to PRE_COPY; their state begins to move. */
int vmf_precopy_begin(struct vmf_session *session);

/*
 * Moves round after round until the trigger is pulled, and tells the VMM when it
 * is worth to do so.  Without a trigger it ends then.
 */
int vmf_precopy_run(struct vmf_session *session);

/* Which state each device takes on its way to STOP_COPY by way of P2P. */
void vmf_precopy_p2p_states(const struct vmf_session *session,
			    uint32_t state[static VFIO_MULTIFD_MAX_DEVICES]);

/* The devices are in STOP_COPY: what pre-copy needed is given back. */
void vmf_precopy_end(struct vmf_session *session);

#endif /* VMF_PRECOPY_H */

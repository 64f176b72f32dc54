/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls into all devices at once, a thread for each.
 */
#ifndef VMF_TEAM_H
#define VMF_TEAM_H

#include "session.h"

/*
 * Puts every device into @state while the session goes on; the new data fds
 * are in session->device.  On failure all calls have returned too, except of
 * those devices that are marked stuck.
 */
int vmf_team_set_state(struct vmf_session *session, uint32_t state);

/* The same with a state for each; VFIO_DEVICE_STATE_ERROR leaves one alone. */
int vmf_team_set_states(struct vmf_session *session,
			const uint32_t state[static VFIO_MULTIFD_MAX_DEVICES]);

/*
 * The same for devices that were moved, whatever became of the session: back
 * to RUNNING, or through a reset, or to STOP.  Returns how many failed, a
 * device that lost its state on the way to RUNNING included; the last of them
 * is put into words at @text.
 */
int vmf_team_roll_back(struct vmf_session *session,
		       char text[static VMF_TEXT_SIZE]);
int vmf_team_reset(struct vmf_session *session,
		   char text[static VMF_TEXT_SIZE]);
int vmf_team_stop(struct vmf_session *session, char text[static VMF_TEXT_SIZE]);

#endif /* VMF_TEAM_H */

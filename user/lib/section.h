/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Devices without multifd: their state goes over the main channel, in the records
 * that QEMU has in a VFIO device's sections there.
 */
#ifndef VMF_SECTION_H
#define VMF_SECTION_H

#include "session.h"

/*
 * Begins to move the state of device @i.  Source: with the state that it has in
 * PRE_COPY, or in STOP_COPY, which may be called for one after the other.
 */
int vmf_section_begin(struct vmf_session *session, uint32_t i);

/* Source: reads on from a device that is paused. */
int vmf_section_continue(struct vmf_session *session, uint32_t i);

/* Source: the config state of device @i is complete. */
int vmf_section_set_config(struct vmf_session *session, uint32_t i);

/* Destination: takes SECTION, which has come. */
int vmf_section_receive(struct vmf_session *session);

/* Adds to @fds what all those devices wait for, and returns the number of that. */
nfds_t vmf_section_watch(struct vmf_session *session, struct pollfd *fds);

/* Does what can be done after a poll() of them. */
int vmf_section_serve(struct vmf_session *session, const struct pollfd *fds,
		      bool sock_writable);

/* All of it was sent, or is written. */
bool vmf_section_all_done(const struct vmf_session *session);

void vmf_section_end(struct vmf_session *session);

#endif /* VMF_SECTION_H */

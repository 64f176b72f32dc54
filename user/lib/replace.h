/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Channels whose connection is lost, and the one that takes its place: who notices
 * says LOST, the destination how many packets it has, and the source connects again.
 */
#ifndef VMF_REPLACE_H
#define VMF_REPLACE_H

#include "session.h"

/* Looks for what has to be said or done.  Fine without the feature. */
int vmf_replace_look(struct vmf_session *session);

/* Takes LOST, which has come. */
int vmf_replace_receive(struct vmf_session *session);

/* Destination: the listener has something. */
int vmf_replace_accept(struct vmf_session *session);

/* source.c: vmf_path_connect(), and what limits a connection */
int vmf_source_connect(struct vmf_session *session, uint32_t id,
		       uint32_t timeout, struct vmf_error *error);

/* destination.c: the id of the channel that @head begins, or -EPROTO */
int vmf_destination_channel(const struct vmf_session *session,
			    const uint8_t *head);

#endif /* VMF_REPLACE_H */

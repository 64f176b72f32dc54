/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A look at whether two ends could migrate, with nothing moved or stopped.
 */
#ifndef VMF_CHECK_H
#define VMF_CHECK_H

#include "session.h"

/* Source: after HELLO_ACK.  Fills session->report->check. */
int vmf_check_probe(struct vmf_session *session);

/*
 * Destination: after HELLO_ACK.  Takes what the source sends to measure the network,
 * until it has enough of that or of its peer.
 */
int vmf_check_serve(struct vmf_session *session);

#endif /* VMF_CHECK_H */

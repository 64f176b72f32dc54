/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VMF_TRANSFER_H
#define VMF_TRANSFER_H

#include "session.h"

/*
 * What the two ends do alike before and after @run: check the parameters and
 * the devices, open the engine; at the end tell the peer, roll back where that
 * is due, tell the VMM and give everything back.
 */
enum vmf_outcome vmf_transfer_run(const struct vmf_params *params,
				  struct vmf_report *report, uint32_t role,
				  int (*run)(struct vmf_session *session));

/*
 * Tells the peer what failed, if something did, hangs up and forgets about it: the
 * session is as before it began to talk.
 */
void vmf_transfer_end_talk(struct vmf_session *session, int ret);

#endif /* VMF_TRANSFER_H */

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Config state: blobs that the two VMMs exchange, one for each device.
 */
#ifndef VMF_CONFIG_H
#define VMF_CONFIG_H

#include "session.h"

/* Makes room for the config state of device @i, if it is to have one. */
int vmf_config_open(struct vmf_session *session, uint32_t i);

/* Source: reads every blob to its end and sends it on the way of its device. */
int vmf_config_read(struct vmf_session *session);

/* Destination: takes out of the engine what has come there. */
int vmf_config_take(struct vmf_session *session);

/* Destination: gives every blob to the VMM, and the end of file with it. */
int vmf_config_write(struct vmf_session *session);

#endif /* VMF_CONFIG_H */

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What send and recv are told on the command line.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <vfio-multifd.h>

/**
 * struct command - one send, check or recv
 * @name: "send", "check" or "recv"
 * @send: it is send or check
 * @check: it is check
 * @event_fd: for events, or -1
 * @json: print the report as JSON
 * @params: for the library
 * @device: the devices of @params
 * @channel_address: the addresses of @params
 */
struct command {
	const char *name;
	bool send;
	bool check;
	int event_fd;
	bool json;
	struct vmf_params params;
	struct vmf_device device[VFIO_MULTIFD_MAX_DEVICES];
	const char *channel_address[VFIO_MULTIFD_MAX_CHANNELS];
};

/*
 * Fills @command, which is zero but for @name, @send and what is to call of
 * @params.  Returns 0, or the exit status after a message; may exit after --help.
 */
int options_parse(struct command *command, int argc, char **argv);

#endif /* OPTIONS_H */

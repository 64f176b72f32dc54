// SPDX-License-Identifier: GPL-2.0-or-later
#include "options.h"

#include "command.h"

#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_CHANNELS	4u
#define DEFAULT_PACKET_SIZE	(1u << 20)
#define DEFAULT_TIMEOUT		10u	/* seconds */
#define DEFAULT_DOWNTIME	300u	/* ms */
#define DEFAULT_ROUNDS		30u
#define MAX_DOWNTIME		3600000u /* ms */
#define MAX_ROUNDS		1000000u

#define ALL_FEATURES	((uint64_t)VFIO_MULTIFD_FEATURE_DIGEST | \
			 VFIO_MULTIFD_FEATURE_ORDER_FREE | \
			 VFIO_MULTIFD_FEATURE_REPLACE | \
			 VMF_FEATURE_PRE_COPY)

enum {
	OPT_CONNECT = 1,
	OPT_LISTEN,
	OPT_DEVICE,
	OPT_CHANNELS,
	OPT_PACKET_SIZE,
	OPT_FEATURES,
	OPT_CHANNEL_ADDRESS,
	OPT_BANDWIDTH,
	OPT_DOWNTIME,
	OPT_ROUNDS,
	OPT_TRIGGER,
	OPT_MODES,
	OPT_EVENT,
	OPT_TIMEOUT,
	OPT_JSON,
	OPT_HELP = 'h',
};

static const struct option send_options[] = {
	{ "connect", required_argument, NULL, OPT_CONNECT },
	{ "device-fd", required_argument, NULL, OPT_DEVICE },
	{ "channels", required_argument, NULL, OPT_CHANNELS },
	{ "packet-size", required_argument, NULL, OPT_PACKET_SIZE },
	{ "channel-address", required_argument, NULL, OPT_CHANNEL_ADDRESS },
	{ "max-bandwidth", required_argument, NULL, OPT_BANDWIDTH },
	{ "downtime-limit", required_argument, NULL, OPT_DOWNTIME },
	{ "max-rounds", required_argument, NULL, OPT_ROUNDS },
	{ "features", required_argument, NULL, OPT_FEATURES },
	{ "trigger-fd", required_argument, NULL, OPT_TRIGGER },
	{ "modes-fd", required_argument, NULL, OPT_MODES },
	{ "event-fd", required_argument, NULL, OPT_EVENT },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, OPT_HELP },
	{}
};

static const struct option check_options[] = {
	{ "connect", required_argument, NULL, OPT_CONNECT },
	{ "device-fd", required_argument, NULL, OPT_DEVICE },
	{ "channels", required_argument, NULL, OPT_CHANNELS },
	{ "packet-size", required_argument, NULL, OPT_PACKET_SIZE },
	{ "event-fd", required_argument, NULL, OPT_EVENT },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, OPT_HELP },
	{}
};

static const struct option recv_options[] = {
	{ "listen", required_argument, NULL, OPT_LISTEN },
	{ "device-fd", required_argument, NULL, OPT_DEVICE },
	{ "features", required_argument, NULL, OPT_FEATURES },
	{ "event-fd", required_argument, NULL, OPT_EVENT },
	{ "timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, OPT_HELP },
	{}
};

static const char send_help[] =
"Usage: vfio-multifd send --connect HOST[:PORT] --device-fd N[,...]... [OPTION]...\n"
"\n"
"Moves the state of VFIO devices to a \"vfio-multifd recv\".\n"
"\n"
"      --connect HOST[:PORT]  where recv listens; [ADDRESS]:PORT for IPv6\n"
"      --device-fd N[,idstr=NAME][,config-fd=M]\n"
"                             a VFIO device fd, its name, the same at both ends\n"
"                             (vfio0, vfio1 and so on, in order), and where its\n"
"                             config state comes from; repeat for more devices\n"
"                  [,multifd=on|off|auto]\n"
"                             whether its state goes over the channels or the main\n"
"                             connection; auto: over the channels if both ends can\n"
"      --channels N           TCP connections for device state (%u)\n"
"      --packet-size BYTES    most data in a packet, with suffix K or M (1M)\n"
"      --channel-address HOST[:PORT]\n"
"                             where channels go, if not to where --connect goes;\n"
"                             repeat for more, which channels take in turn\n"
"      --max-bandwidth BYTES  per second, with suffix K, M or G, that all channels\n"
"                             together may take as long as the VM runs, at least\n"
"                             64K for each of them (no limit)\n"
"      --downtime-limit MS    \"may-stop\" comes when what pre-copy leaves would\n"
"                             take no longer than this to move (%u),\n"
"      --max-rounds N         or after so many rounds of it (%u)\n"
"      --trigger-fd N         becomes readable once the VM is paused, before or\n"
"                             after \"may-stop\"; without it the devices are\n"
"                             stopped then\n"
"      --modes-fd N           each line \"NAME on\", \"NAME off\" or \"NAME auto\" that\n"
"                             is written to it changes multifd of a device, as long\n"
"                             as the VM runs; the transfer may begin anew for that\n";

static const char send_note[] =
"\n"
"A send that SIGKILL or another signal ended after its trigger was pulled has\n"
"said \"loaded\" on --event-fd, which is to be read to its end, if the transfer\n"
"is undecided; without --event-fd every such transfer is.\n";

static const char recv_help[] =
"Usage: vfio-multifd recv [--listen [HOST][:PORT]] --device-fd N[,...]... [OPTION]...\n"
"\n"
"Takes the state of VFIO devices from a \"vfio-multifd send\".\n"
"\n"
"      --listen [HOST][:PORT] where to listen (127.0.0.1:%s); the event\n"
"                             \"listening\" tells which port 0 has become\n"
"      --device-fd N[,idstr=NAME][,config-fd=M]\n"
"                             a VFIO device fd, its name, the same at both ends\n"
"                             (vfio0, vfio1 and so on, in order), and where its\n"
"                             config state goes to; repeat for more devices\n"
"                  [,multifd=on|off|auto]\n"
"                             as for send, whose own has to suit\n";

static const char common_help[] =
"      --features LIST        of digest, order-free, replace and pre-copy, or none,\n"
"                             what this end agrees to (all)\n"
"      --event-fd N           gets a line for each event\n"
"      --timeout SECONDS      to wait for the peer and for each step, %u to %u\n"
"                             (%u)\n"
"      --json                 report as JSON instead of a table\n"
"  -h, --help                 this text\n"
"\n"
"Exit status: 0 done; 1 usage or no contact; 2 refused, failed or cancelled\n"
"before the source stopped anything; 3 failed later and rolled back;\n"
"4 undecided: devices are stopped at this end, look at the other one; 5 failed,\n"
"and a device could not be rolled back.\n"
"\n"
"Device state crosses the network as plain TCP, without encryption or\n"
"authentication: use a trusted network only.\n";

static const char check_help[] =
"Usage: vfio-multifd check --connect HOST[:PORT] --device-fd N[,...]... [OPTION]...\n"
"\n"
"Asks a \"vfio-multifd recv\" whether it would take these VFIO devices, and how long\n"
"that would take.  Nothing is moved or stopped, and recv goes on to wait.\n"
"\n"
"      --connect HOST[:PORT]  where recv listens; [ADDRESS]:PORT for IPv6\n"
"      --device-fd N[,idstr=NAME][,config-fd=M]\n"
"                  [,multifd=on|off|auto]\n"
"                             as for send; nothing is read from M\n"
"      --channels N           as for send (%u)\n"
"      --packet-size BYTES    as for send (1M)\n"
"      --event-fd N           gets a line with the reason if it would not\n"
"      --timeout SECONDS      to wait for the peer, %u to %u (%u)\n"
"      --json                 report as JSON\n"
"  -h, --help                 this text\n"
"\n"
"Exit status: 0 it would; 1 usage, no contact or no answer, or the devices here cannot\n"
"migrate; 2 it would not.  stderr says why.\n";

static void help(const struct command *command)
{
	bool send = command->send;

	if (command->check) {
		printf(check_help, DEFAULT_CHANNELS, VMF_MIN_TIMEOUT,
		       VMF_MAX_TIMEOUT, DEFAULT_TIMEOUT);
		return;
	}
	if (send)
		printf(send_help, DEFAULT_CHANNELS, DEFAULT_DOWNTIME,
		       DEFAULT_ROUNDS);
	else
		printf(recv_help, VMF_DEFAULT_PORT);
	printf(common_help, VMF_MIN_TIMEOUT, VMF_MAX_TIMEOUT, DEFAULT_TIMEOUT);
	if (send)
		printf(send_note);
}

/* A number in decimal, and nothing but it up to @end. */
static bool parse_number(const char *text, const char *end, uint32_t max,
			 uint32_t *number)
{
	unsigned long long value = 0;

	if (text == end)
		return false;
	for (; text < end; text++) {
		if (*text < '0' || *text > '9')
			return false;
		value = value * 10 + (*text - '0');
		if (value > max)
			return false;
	}
	*number = value;
	return true;
}

static bool parse_fd(const char *text, int *fd)
{
	uint32_t number;

	if (!parse_number(text, text + strlen(text), INT_MAX, &number))
		return false;
	*fd = number;
	return fcntl(*fd, F_GETFD) >= 0;
}

static bool parse_size(const char *text, uint32_t *size)
{
	const char *end = text + strlen(text);
	uint32_t unit = 1;

	if (end > text && (end[-1] == 'K' || end[-1] == 'M'))
		unit = *--end == 'K' ? 1 << 10 : 1 << 20;
	if (!parse_number(text, end, VFIO_MULTIFD_MAX_PACKET / unit, size))
		return false;
	*size *= unit;
	return *size >= VFIO_MULTIFD_MIN_PACKET &&
	       !(*size % VFIO_MULTIFD_MIN_PACKET);
}

static bool parse_bandwidth(const char *text, uint64_t *rate)
{
	const char *end = text + strlen(text);
	const char *units = "KMG", *unit = NULL;
	uint32_t number;

	if (end > text)
		unit = strchr(units, end[-1]);
	if (!parse_number(text, unit ? end - 1 : end, UINT32_MAX, &number))
		return false;
	*rate = (uint64_t)number << (unit ? 10 * (unit - units + 1) : 0);
	return *rate >= VMF_MIN_BANDWIDTH;
}

static bool parse_features(char *list, uint64_t *features)
{
	char *name;

	*features = 0;
	if (!strcmp(list, "none"))
		return true;
	while ((name = strsep(&list, ","))) {
		if (!strcmp(name, "digest"))
			*features |= VFIO_MULTIFD_FEATURE_DIGEST;
		else if (!strcmp(name, "order-free"))
			*features |= VFIO_MULTIFD_FEATURE_ORDER_FREE;
		else if (!strcmp(name, "replace"))
			*features |= VFIO_MULTIFD_FEATURE_REPLACE;
		else if (!strcmp(name, "pre-copy"))
			*features |= VMF_FEATURE_PRE_COPY;
		else
			return false;
	}
	return true;
}

static int add_device(struct command *command, char *text)
{
	uint32_t number = command->params.devices;
	struct vmf_device *device = &command->device[number];
	char *part = strsep(&text, ",");

	if (number == VFIO_MULTIFD_MAX_DEVICES)
		return command_usage(command->name, "more than %u devices",
				     VFIO_MULTIFD_MAX_DEVICES);
	if (!parse_fd(part, &device->fd))
		return command_usage(command->name,
				     "--device-fd: \"%s\" is not an open fd",
				     part);

	device->config_fd = -1;
	snprintf(device->idstr, sizeof(device->idstr), "vfio%u", number);
	while ((part = strsep(&text, ","))) {
		if (!strncmp(part, "idstr=", 6)) {
			if (strlen(part + 6) >= sizeof(device->idstr))
				return command_usage(command->name,
						     "--device-fd: the name is longer than %zu",
						     sizeof(device->idstr) - 1);
			strcpy(device->idstr, part + 6);
		} else if (!strncmp(part, "config-fd=", 10)) {
			if (!parse_fd(part + 10, &device->config_fd))
				return command_usage(command->name,
						     "--device-fd: \"%s\" is not an open fd",
						     part);
		} else if (!strncmp(part, "multifd=", 8)) {
			if (vmf_multifd_parse(part + 8, &device->multifd))
				return command_usage(command->name,
						     "--device-fd: multifd=\"%s\" is not on, off or auto",
						     part + 8);
		} else {
			return command_usage(command->name,
					     "--device-fd: what is \"%s\"?",
					     part);
		}
	}
	command->params.devices++;
	return 0;
}

static int parse_option(struct command *command, int option, char *text)
{
	struct vmf_params *params = &command->params;
	const char *end = text ? text + strlen(text) : NULL;

	switch (option) {
	case OPT_CONNECT:
	case OPT_LISTEN:
		params->address = text;
		return 0;
	case OPT_DEVICE:
		return add_device(command, text);
	case OPT_CHANNELS:
		if (parse_number(text, end, VFIO_MULTIFD_MAX_CHANNELS,
				 &params->channels) && params->channels)
			return 0;
		return command_usage(command->name,
				     "--channels: \"%s\" is not 1 to %u", text,
				     VFIO_MULTIFD_MAX_CHANNELS);
	case OPT_PACKET_SIZE:
		if (parse_size(text, &params->packet_size))
			return 0;
		return command_usage(command->name,
				     "--packet-size: \"%s\" is not a multiple of 4K up to 4M",
				     text);
	case OPT_FEATURES:
		if (parse_features(text, &params->features))
			return 0;
		return command_usage(command->name,
				     "--features takes digest, order-free, replace and pre-copy, with commas, or none");
	case OPT_CHANNEL_ADDRESS:
		if (params->channel_addresses == VFIO_MULTIFD_MAX_CHANNELS)
			return command_usage(command->name,
					     "more than %u addresses of channels",
					     VFIO_MULTIFD_MAX_CHANNELS);
		command->channel_address[params->channel_addresses++] = text;
		return 0;
	case OPT_BANDWIDTH:
		if (parse_bandwidth(text, &params->max_bandwidth))
			return 0;
		return command_usage(command->name,
				     "--max-bandwidth: \"%s\" is not a number of bytes from 64K on",
				     text);
	case OPT_DOWNTIME:
		if (parse_number(text, end, MAX_DOWNTIME,
				 &params->downtime_limit))
			return 0;
		return command_usage(command->name,
				     "--downtime-limit: \"%s\" is not 0 to %u ms",
				     text, MAX_DOWNTIME);
	case OPT_ROUNDS:
		if (parse_number(text, end, MAX_ROUNDS, &params->max_rounds) &&
		    params->max_rounds)
			return 0;
		return command_usage(command->name,
				     "--max-rounds: \"%s\" is not 1 to %u",
				     text, MAX_ROUNDS);
	case OPT_TRIGGER:
		if (parse_fd(text, &params->trigger_fd))
			return 0;
		return command_usage(command->name,
				     "--trigger-fd: \"%s\" is not an open fd",
				     text);
	case OPT_MODES:
		if (parse_fd(text, &params->modes_fd))
			return 0;
		return command_usage(command->name,
				     "--modes-fd: \"%s\" is not an open fd",
				     text);
	case OPT_EVENT:
		if (parse_fd(text, &command->event_fd))
			return 0;
		return command_usage(command->name,
				     "--event-fd: \"%s\" is not an open fd",
				     text);
	case OPT_TIMEOUT:
		if (parse_number(text, end, VMF_MAX_TIMEOUT,
				 &params->timeout) &&
		    params->timeout >= VMF_MIN_TIMEOUT)
			return 0;
		return command_usage(command->name,
				     "--timeout: \"%s\" is not %u to %u seconds",
				     text, VMF_MIN_TIMEOUT, VMF_MAX_TIMEOUT);
	case OPT_JSON:
		command->json = true;
		return 0;
	default:
		return command_try_help(command->name);
	}
}

static void set_defaults(struct command *command)
{
	struct vmf_params *params = &command->params;

	command->event_fd = -1;
	params->device = command->device;
	params->channel_address = command->channel_address;
	params->channels = DEFAULT_CHANNELS;
	params->packet_size = DEFAULT_PACKET_SIZE;
	params->features = ALL_FEATURES;
	params->downtime_limit = DEFAULT_DOWNTIME;
	params->max_rounds = DEFAULT_ROUNDS;
	params->trigger_fd = -1;
	params->modes_fd = -1;
	params->timeout = DEFAULT_TIMEOUT;
}

int options_parse(struct command *command, int argc, char **argv)
{
	const struct option *options = command->send ? send_options :
						       recv_options;
	int option, ret;

	if (command->check)
		options = check_options;
	set_defaults(command);
	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option == OPT_HELP) {
			help(command);
			exit(VMF_DONE);
		}
		ret = parse_option(command, option, optarg);
		if (ret)
			return ret;
	}
	if (optind < argc)
		return command_usage(command->name, "what is \"%s\"?",
				     argv[optind]);
	if (command->send && !command->params.address)
		return command_usage(command->name, "--connect is missing");
	if (!command->params.devices)
		return command_usage(command->name, "--device-fd is missing");
	return 0;
}

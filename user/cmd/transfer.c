// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The commands send and recv: options in, events and exit status out.
 */
#include "command.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define DEFAULT_CHANNELS	4u
#define DEFAULT_PACKET_SIZE	(1u << 20)
#define DEFAULT_TIMEOUT		10u	/* seconds */

#define ALL_FEATURES	((uint64_t)VFIO_MULTIFD_FEATURE_DIGEST | \
			 VFIO_MULTIFD_FEATURE_ORDER_FREE)

/**
 * struct command - one send or recv
 * @name: "send" or "recv"
 * @send: it is send
 * @event_fd: for events, or -1
 * @json: print the report as JSON
 * @params: for the library
 * @device: the devices of @params
 */
struct command {
	const char *name;
	bool send;
	int event_fd;
	bool json;
	struct vmf_params params;
	struct vmf_device device[VFIO_MULTIFD_MAX_DEVICES];
};

enum {
	OPT_CONNECT = 1,
	OPT_LISTEN,
	OPT_DEVICE,
	OPT_CHANNELS,
	OPT_PACKET_SIZE,
	OPT_FEATURES,
	OPT_TRIGGER,
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
	{ "features", required_argument, NULL, OPT_FEATURES },
	{ "trigger-fd", required_argument, NULL, OPT_TRIGGER },
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
"      --channels N           TCP connections for device state (%u)\n"
"      --packet-size BYTES    most data in a packet, with suffix K or M (1M)\n"
"      --trigger-fd N         becomes readable once the VM is paused; without\n"
"                             it the devices are stopped at once\n";

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
"                             config state goes to; repeat for more devices\n";

static const char common_help[] =
"      --features LIST        of digest and order-free, or none, what this end\n"
"                             agrees to (all that the kernel has)\n"
"      --event-fd N           gets a line for each event\n"
"      --timeout SECONDS      to wait for the peer and for each step, %u to %u\n"
"                             (%u)\n"
"      --json                 report as JSON instead of a table\n"
"  -h, --help                 this text\n"
"\n"
"Exit status: 0 done; 1 usage or no contact; 2 refused, failed or cancelled\n"
"before the source stopped anything; 3 failed later and rolled back;\n"
"4 undecided: devices are stopped at both ends; 5 failed, and a device could\n"
"not be rolled back.\n"
"\n"
"Device state crosses the network as plain TCP, without encryption or\n"
"authentication: use a trusted network only.\n";

static void help(bool send)
{
	if (send)
		printf(send_help, DEFAULT_CHANNELS);
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
		} else {
			return command_usage(command->name,
					     "--device-fd: what is \"%s\"?",
					     part);
		}
	}
	command->params.devices++;
	return 0;
}

static int parse_option(struct command *command, int option, char *text,
			char **argv)
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
				     "--features takes digest, order-free, both with a comma, or none");
	case OPT_TRIGGER:
		if (parse_fd(text, &params->trigger_fd))
			return 0;
		return command_usage(command->name,
				     "--trigger-fd: \"%s\" is not an open fd",
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
		return command_bad_option(command->name, argv);
	}
}

static int parse(struct command *command, int argc, char **argv)
{
	const struct option *options = command->send ? send_options :
						       recv_options;
	int option, ret;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option == OPT_HELP) {
			help(command->send);
			exit(VMF_DONE);
		}
		ret = parse_option(command, option, optarg, argv);
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

/*
 * Waits for room first: the fd may be somebody's terminal, so O_NONBLOCK is
 * not ours to set.  A line is shorter than PIPE_BUF, so it is written whole.
 */
static int write_event(const struct command *command, const char *line)
{
	struct pollfd fd = { .fd = command->event_fd, .events = POLLOUT };
	ssize_t size = strlen(line), put;
	int ret;

	do {
		ret = poll(&fd, 1, command->params.timeout * 1000);
	} while (ret < 0 && errno == EINTR);
	if (ret < 0)
		return -errno;
	if (!ret)
		return -ETIMEDOUT;
	put = write(command->event_fd, line, size);
	if (put < 0)
		return -errno;
	/* A line without its end tells nothing. */
	return put == size ? 0 : -EIO;
}

static int on_event(void *opaque, enum vmf_event event, const char *text)
{
	const struct command *command = opaque;
	char line[VMF_TEXT_SIZE + 64];

	if (event == VMF_EVENT_LISTENING)
		fprintf(stderr, PROGRAM ": listening on %s\n", text);
	if (command->event_fd < 0)
		return 0;
	snprintf(line, sizeof(line), "%s%s%s\n", vmf_event_name(event),
		 text ? " " : "", text ? text : "");
	return write_event(command, line);
}

static void on_progress(void *opaque, const struct vmf_report *report)
{
	const struct command *command = opaque;

	report_progress(&command->params, report);
}

/* Signals that ask for an end become an fd; -1 if that failed. */
static int watch_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

/*
 * An fd that is readable once the helper is asked to end, or its VMM is gone,
 * so that nobody reads events any more.
 */
static int watch_end(const struct command *command)
{
	struct epoll_event signals = { .events = EPOLLIN }, gone = {};
	int watch = epoll_create1(EPOLL_CLOEXEC);

	if (watch < 0 ||
	    epoll_ctl(watch, EPOLL_CTL_ADD, watch_signals(), &signals))
		return -1;
	/* EPOLLERR and EPOLLHUP come unasked.  A file cannot be watched. */
	if (command->event_fd >= 0)
		epoll_ctl(watch, EPOLL_CTL_ADD, command->event_fd, &gone);
	return watch;
}

static int run(int argc, char **argv, bool send)
{
	struct command command = {
		.name = argv[0],
		.send = send,
		.event_fd = -1,
		.params = {
			.device = command.device,
			.channels = DEFAULT_CHANNELS,
			.packet_size = DEFAULT_PACKET_SIZE,
			.features = ALL_FEATURES,
			.trigger_fd = -1,
			.timeout = DEFAULT_TIMEOUT,
			.event = on_event,
			.opaque = &command,
		},
	};
	enum vmf_outcome outcome;
	struct vmf_report report;
	int ret;

	ret = parse(&command, argc, argv);
	if (ret)
		return ret;
	if (isatty(STDERR_FILENO))
		command.params.progress = on_progress;
	command.params.cancel_fd = watch_end(&command);
	if (command.params.cancel_fd < 0) {
		fprintf(stderr, PROGRAM ": watching for signals: %s\n",
			strerror(errno));
		return VMF_SETUP;
	}

	outcome = send ? vmf_send(&command.params, &report) :
			 vmf_recv(&command.params, &report);

	if (command.params.progress)
		report_progress_end();
	if (outcome != VMF_DONE || *report.text)
		fprintf(stderr, PROGRAM ": %s: %s\n",
			vmf_outcome_name(outcome), report.text);
	if (command.json)
		report_json(&command.params, &report, send);
	else if (outcome == VMF_DONE)
		report_table(&command.params, &report, send);
	return outcome;
}

int command_send(int argc, char **argv)
{
	return run(argc, argv, true);
}

int command_recv(int argc, char **argv)
{
	return run(argc, argv, false);
}

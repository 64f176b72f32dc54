// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The commands status and monitor: what the engine tells by netlink of all the
 * transfers of this network namespace.
 */
#include "command.h"
#include "report.h"

#include <lib/error.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/vfio_multifd.h>
#include <linux/vfio_multifd_netlink.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>

#define MIB	(1024.0 * 1024.0)

/**
 * struct view - what is printed, and how far it is
 * @name: "status" or "monitor"
 * @json: as JSON
 * @count: transfers so far
 * @list: name of the list that is open in the JSON object of a transfer, or NULL
 * @members: of that list
 */
struct view {
	const char *name;
	bool json;
	unsigned int count;
	const char *list;
	unsigned int members;
};

static uint32_t get_u32(struct nlattr **attrs, int attr)
{
	return attrs[attr] ? nla_get_u32(attrs[attr]) : 0;
}

static uint64_t get_u64(struct nlattr **attrs, int attr)
{
	return attrs[attr] ? nla_get_u64(attrs[attr]) : 0;
}

/* Somebody else's words, fit for a terminal */
static const char *get_name(struct nlattr **attrs, char name[static 256])
{
	*name = '\0';
	if (attrs[VFIO_MULTIFD_A_IDSTR])
		snprintf(name, 256, "%s",
			 nla_get_string(attrs[VFIO_MULTIFD_A_IDSTR]));
	vmf_error_clean(name);
	return name;
}

static const char *get_uuid(struct nlattr **attrs, char text[static 40])
{
	struct nlattr *attr = attrs[VFIO_MULTIFD_A_UUID];
	const uint8_t *uuid;
	size_t at = 0, i;

	*text = '\0';
	if (!attr || nla_len(attr) != VFIO_MULTIFD_UUID_SIZE)
		return text;
	uuid = nla_data(attr);
	for (i = 0; i < VFIO_MULTIFD_UUID_SIZE; i++)
		at += sprintf(text + at, "%s%02x", i == 4 || i == 6 || i == 8 ||
			      i == 10 ? "-" : "", uuid[i]);
	return text;
}

static const char *state_name(uint32_t state)
{
	static const char * const names[] = {
		[VFIO_MULTIFD_STATE_NEW]	= "new",
		[VFIO_MULTIFD_STATE_READY]	= "ready",
		[VFIO_MULTIFD_STATE_SEALED]	= "sealed",
		[VFIO_MULTIFD_STATE_DONE]	= "done",
		[VFIO_MULTIFD_STATE_FAILED]	= "failed",
	};

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

/* In a list of the JSON object of a transfer */
static void begin_member(struct view *view, const char *list)
{
	if (view->list != list) {
		printf("%s, \"%s\": [", view->list ? "]" : "", list);
		view->members = 0;
	}
	view->list = list;
	printf("%s{", view->members++ ? ", " : "");
}

static void end_transfer(struct view *view)
{
	if (view->count)
		printf("%s}", view->list ? "]" : "");
	view->list = NULL;
}

static void json_transfer(struct view *view, struct nlattr **attrs)
{
	char uuid[40];

	end_transfer(view);
	printf("%s{\"id\": %" PRIu64 ", ", view->count ? ",\n " : "",
	       get_u64(attrs, VFIO_MULTIFD_A_ID));
	report_json_string("uuid", get_uuid(attrs, uuid));
	printf(", \"uid\": %u, \"role\": \"%s\", \"state\": \"%s\"",
	       get_u32(attrs, VFIO_MULTIFD_A_UID),
	       get_u32(attrs, VFIO_MULTIFD_A_ROLE) == VFIO_MULTIFD_SEND ?
	       "send" : "recv", state_name(get_u32(attrs, VFIO_MULTIFD_A_STATE)));
	if (attrs[VFIO_MULTIFD_A_ERROR]) {
		printf(", ");
		report_json_string("error", strerror(-nla_get_s32(attrs[VFIO_MULTIFD_A_ERROR])));
		printf(", \"reason\": %u", get_u32(attrs, VFIO_MULTIFD_A_REASON));
	}
	printf(", ");
	report_json_features(get_u64(attrs, VFIO_MULTIFD_A_FEATURES));
	printf(", \"nr_devices\": %u", get_u32(attrs, VFIO_MULTIFD_A_DEVICES));
	printf(", \"devices_done\": %u, \"nr_channels\": %u",
	       get_u32(attrs, VFIO_MULTIFD_A_DEVICES_DONE),
	       get_u32(attrs, VFIO_MULTIFD_A_CHANNELS));
	printf(", \"bytes\": %" PRIu64 ", \"packets\": %" PRIu64,
	       get_u64(attrs, VFIO_MULTIFD_A_BYTES),
	       get_u64(attrs, VFIO_MULTIFD_A_PACKETS));
	view->count++;
}

static void json_device(struct view *view, struct nlattr **attrs)
{
	char name[256];

	begin_member(view, "devices");
	report_json_string("idstr", get_name(attrs, name));
	printf(", \"instance\": %u, \"done\": %s, \"bytes\": %" PRIu64
	       ", \"packets\": %" PRIu64 "}",
	       get_u32(attrs, VFIO_MULTIFD_A_INSTANCE),
	       get_u32(attrs, VFIO_MULTIFD_A_DONE) ? "true" : "false",
	       get_u64(attrs, VFIO_MULTIFD_A_BYTES),
	       get_u64(attrs, VFIO_MULTIFD_A_PACKETS));
}

static void json_channel(struct view *view, struct nlattr **attrs)
{
	begin_member(view, "channels");
	printf("\"id\": %u, \"bytes\": %" PRIu64 ", \"packets\": %" PRIu64
	       ", \"network_ns\": %" PRIu64 ", \"device_ns\": %" PRIu64
	       ", \"wait_ns\": %" PRIu64 ", \"memory\": %" PRIu64 "}",
	       get_u32(attrs, VFIO_MULTIFD_A_CHANNEL),
	       get_u64(attrs, VFIO_MULTIFD_A_BYTES),
	       get_u64(attrs, VFIO_MULTIFD_A_PACKETS),
	       get_u64(attrs, VFIO_MULTIFD_A_NETWORK_NS),
	       get_u64(attrs, VFIO_MULTIFD_A_DEVICE_NS),
	       get_u64(attrs, VFIO_MULTIFD_A_WAIT_NS),
	       get_u64(attrs, VFIO_MULTIFD_A_MEMORY));
}

static void show_transfer(struct view *view, struct nlattr **attrs)
{
	char uuid[40];

	printf("transfer %" PRIu64 "  %s  %s  uid %u  %s  %.1f MiB in %" PRIu64
	       " packets  %u of %u devices done  %u channels",
	       get_u64(attrs, VFIO_MULTIFD_A_ID),
	       get_u32(attrs, VFIO_MULTIFD_A_ROLE) == VFIO_MULTIFD_SEND ?
	       "send" : "recv", state_name(get_u32(attrs, VFIO_MULTIFD_A_STATE)),
	       get_u32(attrs, VFIO_MULTIFD_A_UID), get_uuid(attrs, uuid),
	       get_u64(attrs, VFIO_MULTIFD_A_BYTES) / MIB,
	       get_u64(attrs, VFIO_MULTIFD_A_PACKETS),
	       get_u32(attrs, VFIO_MULTIFD_A_DEVICES_DONE),
	       get_u32(attrs, VFIO_MULTIFD_A_DEVICES),
	       get_u32(attrs, VFIO_MULTIFD_A_CHANNELS));
	if (attrs[VFIO_MULTIFD_A_ERROR])
		printf("  %s (reason %u)",
		       strerror(-nla_get_s32(attrs[VFIO_MULTIFD_A_ERROR])),
		       get_u32(attrs, VFIO_MULTIFD_A_REASON));
	printf("\n");
	view->count++;
}

static void show_device(struct view *view, struct nlattr **attrs)
{
	char name[256];

	(void)view;
	printf("  device %s/%u  %.1f MiB in %" PRIu64 " packets%s\n",
	       get_name(attrs, name), get_u32(attrs, VFIO_MULTIFD_A_INSTANCE),
	       get_u64(attrs, VFIO_MULTIFD_A_BYTES) / MIB,
	       get_u64(attrs, VFIO_MULTIFD_A_PACKETS),
	       get_u32(attrs, VFIO_MULTIFD_A_DONE) ? "  done" : "");
}

static void show_channel(struct view *view, struct nlattr **attrs)
{
	uint64_t network = get_u64(attrs, VFIO_MULTIFD_A_NETWORK_NS);
	uint64_t device = get_u64(attrs, VFIO_MULTIFD_A_DEVICE_NS);
	uint64_t wait = get_u64(attrs, VFIO_MULTIFD_A_WAIT_NS);
	double all = (network + device + wait) / 100.0;

	(void)view;
	if (!all)
		all = 1;
	printf("  channel %u  %.1f MiB in %" PRIu64 " packets",
	       get_u32(attrs, VFIO_MULTIFD_A_CHANNEL),
	       get_u64(attrs, VFIO_MULTIFD_A_BYTES) / MIB,
	       get_u64(attrs, VFIO_MULTIFD_A_PACKETS));
	printf("  network %.0f %%  device %.0f %%  waiting %.0f %%  memory %.1f MiB\n",
	       network / all, device / all, wait / all,
	       get_u64(attrs, VFIO_MULTIFD_A_MEMORY) / MIB);
}

static int take(struct nl_msg *msg, void *arg)
{
	struct nlattr *attrs[VFIO_MULTIFD_A_MEMORY + 1];
	struct view *view = arg;

	if (genlmsg_parse(nlmsg_hdr(msg), 0, attrs, VFIO_MULTIFD_A_MEMORY,
			  NULL) < 0)
		return NL_SKIP;
	if (attrs[VFIO_MULTIFD_A_IDSTR])
		(view->json ? json_device : show_device)(view, attrs);
	else if (attrs[VFIO_MULTIFD_A_CHANNEL])
		(view->json ? json_channel : show_channel)(view, attrs);
	else
		(view->json ? json_transfer : show_transfer)(view, attrs);
	return NL_OK;
}

/* An event is a whole line. */
static int take_event(struct nl_msg *msg, void *arg)
{
	struct view *view = arg;

	view->count = 0;
	take(msg, view);
	if (view->json) {
		end_transfer(view);
		printf("\n");
	}
	/* so that nobody who reads a pipe waits for it */
	fflush(stdout);
	return NL_OK;
}

static int fail(const char *what, int err)
{
	fprintf(stderr, PROGRAM ": %s: %s%s\n", what, nl_geterror(err),
		err == -NLE_PERM ? ": it needs CAP_NET_ADMIN in this network namespace" : "");
	return VMF_SETUP;
}

/* Returns a socket and the family's number in @family, or NULL after a message. */
static struct nl_sock *open_netlink(int *family)
{
	struct nl_sock *sock = nl_socket_alloc();
	int ret;

	if (!sock) {
		fail("netlink", -NLE_NOMEM);
		return NULL;
	}
	ret = genl_connect(sock);
	if (!ret)
		ret = genl_ctrl_resolve(sock, VFIO_MULTIFD_FAMILY_NAME);
	if (ret >= 0) {
		*family = ret;
		return sock;
	}
	fail("netlink family " VFIO_MULTIFD_FAMILY_NAME
	     " (is the module vfio_multifd loaded?)", ret);
	nl_socket_free(sock);
	return NULL;
}

static int show_all(struct view *view, struct nl_sock *sock, int family)
{
	int ret;

	nl_socket_modify_cb(sock, NL_CB_VALID, NL_CB_CUSTOM, take, view);
	if (view->json)
		printf("[");
	ret = genl_send_simple(sock, family, VFIO_MULTIFD_CMD_GET,
			       VFIO_MULTIFD_FAMILY_VERSION, NLM_F_DUMP);
	if (ret >= 0)
		ret = nl_recvmsgs_default(sock);
	if (view->json) {
		end_transfer(view);
		printf("]\n");
	}
	if (ret < 0)
		return fail("status", ret);
	return VMF_DONE;
}

static volatile sig_atomic_t ended;

static void end(int signal)
{
	ended = signal;
}

/* Signals come in here and nowhere else, so that none comes too early. */
static void await(int fd, short events)
{
	struct pollfd poll = { .fd = fd, .events = events };
	sigset_t none;

	sigemptyset(&none);
	ppoll(&poll, 1, NULL, &none);
}

static void catch_signals(void)
{
	const struct sigaction action = { .sa_handler = end };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

static int watch(struct view *view, struct nl_sock *sock)
{
	int ret;

	ret = genl_ctrl_resolve_grp(sock, VFIO_MULTIFD_FAMILY_NAME,
				    VFIO_MULTIFD_MCGRP_EVENTS);
	if (ret >= 0)
		ret = nl_socket_add_membership(sock, ret);
	if (ret < 0)
		return fail("monitor", ret);
	catch_signals();
	nl_socket_set_nonblocking(sock);
	nl_socket_disable_seq_check(sock);
	nl_socket_modify_cb(sock, NL_CB_VALID, NL_CB_CUSTOM, take_event, view);
	fprintf(stderr, PROGRAM ": watching\n");
	while (!ended && !ferror(stdout)) {
		await(nl_socket_get_fd(sock), POLLIN);
		/* Who reads the lines may have stopped to. */
		if (!ended)
			await(STDOUT_FILENO, POLLOUT);
		if (ended)
			break;
		ret = nl_recvmsgs_default(sock);
		if (ret == -NLE_NOMEM)
			fprintf(stderr, PROGRAM ": events were lost\n");
		else if (ret < 0 && ret != -NLE_AGAIN)
			return fail("monitor", ret);
	}
	return VMF_DONE;
}

static int help(const char *name, bool monitor)
{
	printf("Usage: " PROGRAM " %s [--json]\n\n%s\n\n"
	       "      --json  %s\n"
	       "  -h, --help  this text\n\n"
	       "It is about transfers whose channels belong to this network namespace, and\n"
	       "needs CAP_NET_ADMIN there.  Exit status: 0 done; 1 not possible.\n",
	       name, monitor ?
	       "Prints a line for each state that a transfer comes to, until it gets a signal." :
	       "Prints the transfers that there are, their devices, and what the time of their\n"
	       "channels went into.",
	       monitor ? "each line is a JSON object" : "as JSON");
	return VMF_DONE;
}

static int run(int argc, char **argv, bool monitor)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	struct view view = { .name = argv[0] };
	struct nl_sock *sock;
	int option, family, ret;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (option) {
		case 'j':
			view.json = true;
			break;
		case 'h':
			return help(view.name, monitor);
		default:
			return command_try_help(view.name);
		}
	}
	if (optind < argc)
		return command_usage(view.name, "what is \"%s\"?",
				     argv[optind]);
	sock = open_netlink(&family);
	if (!sock)
		return VMF_SETUP;
	ret = monitor ? watch(&view, sock) : show_all(&view, sock, family);
	nl_socket_free(sock);
	return ret;
}

int command_status(int argc, char **argv)
{
	return run(argc, argv, false);
}

int command_monitor(int argc, char **argv)
{
	return run(argc, argv, true);
}

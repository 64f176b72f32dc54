// SPDX-License-Identifier: GPL-2.0-only
/*
 * A cable with a fault: stands between two helpers, passes everything on, and
 * does harm when a given message comes along the main channel.
 */
#include <endian.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char usage[] =
"usage: proxy [option]... LISTEN-HOST LISTEN-PORT HOST PORT\n"
"\n"
"Passes TCP connections on from the first address to the second.\n"
"\n"
"  -t, --type=N      the message, by its number, that comes along when\n"
"  -d, --direction=c|s  ... the client sends it, or the server\n"
"  -a, --after       pass it on first (default: it gets lost)\n"
"  -c, --cut         ... all connections are reset\n"
"  -k, --kill=FILE   ... the process is killed whose number is in the line\n"
"                    \"helper PID\" of FILE\n"
"  -m, --mute        ... nothing is passed on any more\n"
"  -s, --stop=FILE   ... the process is stopped whose number is in FILE\n"
"  -e, --edit=AT=HEX ... from byte AT on it has these bytes\n"
"  -n, --note=AT=HEX no harm, but a line \"seen\" for each that has these bytes\n"
"  -w, --wait=MS     ... it waits so long, and what comes after it, too; with\n"
"                    --stop as well\n"
"  -r, --repeat      with --wait: it comes again and again, each time so much later\n"
"  -l, --late=MS     the state on each data channel comes so much later\n"
"  -D, --drop=N      the Nth connection ends here, once something came by it\n"
"  -h, --help        this text\n"
"\n"
"Prints \"ready\" once it listens, a line when it does harm, and \"passed\" if the\n"
"message went on.\n";

#define CHANNEL_MAGIC	0x11223344	/* first on a data channel */
#define MAX_LINKS	128
#define MAX_BODY	(1 << 20)

/* First bytes of a message on the main channel, big-endian */
struct message {
	uint32_t magic;
	uint16_t type;
	uint16_t reserved;
	uint32_t length;
};

/**
 * struct link - one connection that is passed on
 * @fd: to the client, to the server
 */
struct link {
	int fd[2];
};

enum harm { HARM_NONE, HARM_CUT, HARM_KILL, HARM_MUTE, HARM_STOP,
	    HARM_EDIT, HARM_NOTE, HARM_WAIT, HARM_REPEAT };

static struct {
	enum harm harm;
	unsigned int type;
	int direction;		/* of the message: 0 from the client, or 1 */
	bool after;
	const char *pid_file;
	unsigned int late_ms;
	unsigned int wait_ms;
	unsigned int drop;
	const char *bytes;	/* hex digits */
	unsigned int at;	/* from the message's first byte */
} options;

/* protects the links, their number and whether harm was done */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct link links[MAX_LINKS];
static unsigned int link_count;
static bool done;

/* The connections are reset, not closed, as this process ends */
static void cut(void)
{
	const struct linger reset = { .l_onoff = 1 };

	for (unsigned int i = 0; i < link_count; i++)
		for (int side = 0; side < 2; side++)
			setsockopt(links[i].fd[side], SOL_SOCKET, SO_LINGER,
				   &reset, sizeof(reset));
	exit(0);
}

static void signal_helper(int signal)
{
	FILE *file = fopen(options.pid_file, "re");
	char line[256];
	int pid;

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "helper %d", &pid) == 1) {
			kill(pid, signal);
			return;
		}
	}
	printf("no helper to signal\n");
	exit(1);
}

static void do_harm(void)
{
	pthread_mutex_lock(&lock);
	if (!done) {
		printf("harm at message %u\n", options.type);
		if (options.harm == HARM_CUT)
			cut();
		else if (options.harm == HARM_KILL)
			signal_helper(SIGKILL);
		else if (options.harm == HARM_STOP)
			signal_helper(SIGSTOP);
		done = true;
	}
	pthread_mutex_unlock(&lock);
}

static bool is_mute(void)
{
	bool mute;

	pthread_mutex_lock(&lock);
	mute = done && options.harm == HARM_MUTE;
	pthread_mutex_unlock(&lock);
	return mute;
}

static bool pass(int to, const void *data, size_t len)
{
	ssize_t sent;

	for (size_t at = 0; at < len; at += sent) {
		sent = send(to, (const char *)data + at, len - at,
			    MSG_NOSIGNAL);
		if (sent < 0)
			return false;
	}
	return true;
}

static bool pass_any(int from, int to)
{
	static __thread char buf[1 << 16];
	static __thread unsigned int count;
	ssize_t len = recv(from, buf, sizeof(buf), 0);

	/* What a channel says first is no state. */
	if (count++ == 1)
		usleep(options.late_ms * 1000);
	return len > 0 && pass(to, buf, len);
}

static bool take(int from, void *data, size_t len)
{
	return !len || recv(from, data, len, MSG_WAITALL) == (ssize_t)len;
}

/* Bytes are put over those of the message, from an offset on */
static void edit(uint8_t *message, size_t len)
{
	size_t at = options.at;
	const char *hex = options.bytes;
	unsigned int byte;

	for (; at < len && sscanf(hex, "%2x", &byte) == 1; hex += 2)
		message[at++] = byte;
}

static bool has_bytes(const uint8_t *message, size_t len)
{
	size_t at = options.at;
	const char *hex = options.bytes;
	unsigned int byte;

	for (; sscanf(hex, "%2x", &byte) == 1; hex += 2)
		if (at >= len || message[at++] != byte)
			return false;
	return true;
}

static bool pass_message(int from, int to, int direction)
{
	struct {
		struct message head;
		char body[MAX_BODY];
	} *message = malloc(sizeof(*message));
	uint32_t len;
	bool ok, hit;

	ok = take(from, &message->head, sizeof(message->head));
	len = be32toh(message->head.length);
	ok = ok && len <= MAX_BODY && take(from, message->body, len);
	len += sizeof(message->head);
	hit = ok && options.harm && direction == options.direction &&
	      be16toh(message->head.type) == options.type;
	if (hit && options.harm == HARM_NOTE) {
		if (has_bytes((uint8_t *)message, len))
			printf("seen\n");
	} else if (hit && !options.after) {
		if (options.harm == HARM_EDIT)
			edit((uint8_t *)message, len);
		do_harm();
		usleep(options.wait_ms * 1000);
		ok = options.harm != HARM_CUT && options.harm != HARM_MUTE;
	}
	if (ok && !is_mute())
		ok = pass(to, message, len);
	while (hit && ok && options.harm == HARM_REPEAT) {
		usleep(options.wait_ms * 1000);
		ok = pass(to, message, len);
	}
	if (hit && ok)
		printf("passed\n");
	if (hit && options.after)
		do_harm();
	free(message);
	return ok || is_mute();
}

struct pump {
	struct link link;
	int direction;
	bool main_channel;
};

static void *run_pump(void *arg)
{
	struct pump *pump = arg;
	int from = pump->link.fd[pump->direction];
	int to = pump->link.fd[!pump->direction];

	if (pump->main_channel)
		while (pass_message(from, to, pump->direction))
			;
	else
		while (pass_any(from, to) && !is_mute())
			;
	if (!is_mute())
		shutdown(to, SHUT_WR);
	free(pump);
	return NULL;
}

static void start_pump(struct link link, int direction, bool main_channel)
{
	struct pump *pump = malloc(sizeof(*pump));
	pthread_t thread;

	*pump = (struct pump){ link, direction, main_channel };
	if (pthread_create(&thread, NULL, run_pump, pump))
		exit(1);
	pthread_detach(thread);
}

/* Listens there, or connects to it */
static int open_socket(const char *host, const char *port, bool listening)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
	int fd, ret, on = 1;

	if (getaddrinfo(host, port, &hints, &list))
		return -1;
	fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listening) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		ret = bind(fd, list->ai_addr, list->ai_addrlen) ?:
		      listen(fd, MAX_LINKS);
	} else {
		ret = connect(fd, list->ai_addr, list->ai_addrlen);
	}
	freeaddrinfo(list);
	if (!ret)
		return fd;
	close(fd);
	return -1;
}

static void drop(struct link *link)
{
	pthread_mutex_lock(&lock);
	printf("harm at connection %u\n", options.drop);
	close(link->fd[0]);
	close(link->fd[1]);
	link->fd[0] = -1;
	link->fd[1] = -1;
	pthread_mutex_unlock(&lock);
}

/* A channel says by its first bytes what it is */
static void *run_link(void *arg)
{
	struct link link = *(struct link *)arg;
	uint32_t first = 0;
	bool main_channel;

	recv(link.fd[0], &first, sizeof(first), MSG_PEEK | MSG_WAITALL);
	if (options.drop && arg == &links[options.drop - 1]) {
		drop(arg);
		return NULL;
	}
	main_channel = be32toh(first) != CHANNEL_MAGIC;
	start_pump(link, 1, main_channel);
	start_pump(link, 0, main_channel);
	return NULL;
}

static void add_link(int client, int server)
{
	pthread_t thread;

	pthread_mutex_lock(&lock);
	if (link_count == MAX_LINKS)
		exit(1);
	links[link_count] = (struct link){ { client, server } };
	if (pthread_create(&thread, NULL, run_link, &links[link_count++]))
		exit(1);
	pthread_detach(thread);
	pthread_mutex_unlock(&lock);
}

static void parse(int argc, char **argv)
{
	static const struct option names[] = {
		{ "type", required_argument, NULL, 't' },
		{ "direction", required_argument, NULL, 'd' },
		{ "after", no_argument, NULL, 'a' },
		{ "cut", no_argument, NULL, 'c' },
		{ "kill", required_argument, NULL, 'k' },
		{ "mute", no_argument, NULL, 'm' },
		{ "stop", required_argument, NULL, 's' },
		{ "edit", required_argument, NULL, 'e' },
		{ "note", required_argument, NULL, 'n' },
		{ "wait", required_argument, NULL, 'w' },
		{ "repeat", no_argument, NULL, 'r' },
		{ "late", required_argument, NULL, 'l' },
		{ "drop", required_argument, NULL, 'D' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	char *end;
	int option;

	while ((option = getopt_long(argc, argv, "t:d:ack:ms:e:n:w:rl:D:h", names,
				     NULL)) != -1) {
		switch (option) {
		case 't':
			options.type = strtoul(optarg, NULL, 0);
			break;
		case 'd':
			options.direction = optarg[0] == 's';
			break;
		case 'a':
			options.after = true;
			break;
		case 'c':
			options.harm = HARM_CUT;
			break;
		case 'k':
			options.harm = HARM_KILL;
			options.pid_file = optarg;
			break;
		case 's':
			options.harm = HARM_STOP;
			options.pid_file = optarg;
			break;
		case 'e':
		case 'n':
			options.harm = option == 'e' ? HARM_EDIT : HARM_NOTE;
			options.at = strtoul(optarg, &end, 0);
			options.bytes = end + (*end == '=');
			break;
		case 'w':
			if (!options.harm)
				options.harm = HARM_WAIT;
			options.wait_ms = strtoul(optarg, NULL, 0);
			break;
		case 'r':
			options.harm = HARM_REPEAT;
			break;
		case 'D':
			options.drop = strtoul(optarg, NULL, 0);
			break;
		case 'l':
			options.late_ms = strtoul(optarg, NULL, 0);
			break;
		case 'm':
			options.harm = HARM_MUTE;
			break;
		default:
			fputs(usage, option == 'h' ? stdout : stderr);
			exit(option != 'h');
		}
	}
}

int main(int argc, char **argv)
{
	int listener, client, server;

	setvbuf(stdout, NULL, _IOLBF, 0);
	parse(argc, argv);
	if (argc - optind != 4) {
		fputs(usage, stderr);
		return 1;
	}
	argv += optind;
	listener = open_socket(argv[0], argv[1], true);
	if (listener < 0) {
		perror(argv[0]);
		return 1;
	}
	printf("ready\n");
	while ((client = accept(listener, NULL, NULL)) >= 0) {
		server = open_socket(argv[2], argv[3], false);
		if (server < 0)
			close(client);
		else
			add_link(client, server);
	}
	return 1;
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * qemu_proxy LISTEN CONNECT hold - let no device state through
 * qemu_proxy LISTEN CONNECT record DIR - keep what a channel carries in DIR/ID, and
 *	the state of devices that comes on the main channel, in pre-copy, in DIR/main
 * qemu_proxy LISTEN CONNECT replace FILE - device state packets by those in FILE;
 *	what comes on the main channel is left out
 *
 * Stands between two stock QEMUs that migrate with multifd; LISTEN and CONNECT
 * are ports of 127.0.0.1.  Says "listening" first, and "held" when device state
 * has come that it holds back.
 */
#include <arpa/inet.h>
#include <err.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire.h"

#define MAX_PACKET	(4 << 20)
#define PATIENCE	2000	/* ms */

/* On the main channel: a mark, a length and as many bytes of a device's state */
static const uint8_t mark[] = { 0xff, 0xff, 0xff, 0xff, 0xef, 0x10, 0, 4 };
#define MARK_DATA	16

enum mode { HOLD, RECORD, REPLACE };

static enum mode mode;
static const char *path;

struct way {
	int from;
	int to;
	bool forward;	/* from the source to the destination */
};

/* A recv() of nothing would wait until there is something. */
static bool get(int from, void *to, size_t len)
{
	return !len || recv(from, to, len, MSG_WAITALL) == (ssize_t)len;
}

static bool put(int to, const void *from, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = send(to, from + done, len - done, MSG_NOSIGNAL);

		if (n < 0)
			return false;
		done += n;
	}
	return true;
}

/* Return: bytes of the packet that is at @packet now, or 0 at the end */
static size_t get_packet(int from, uint8_t *packet)
{
	size_t head, len;

	if (!get(from, packet, WIRE_PACKET_IDSTR))
		return 0;
	if (wire_get32(packet + WIRE_PACKET_FLAGS) & WIRE_DEVICE_STATE) {
		head = WIRE_VFIO_VERSION;
		len = WIRE_PACKET_SIZE;
	} else {
		head = WIRE_RAM_DATA;
		len = WIRE_RAM_SIZE;
	}
	if (!get(from, packet + WIRE_PACKET_IDSTR, head - WIRE_PACKET_IDSTR))
		return 0;
	len = wire_get32(packet + len);
	if (len > MAX_PACKET - head)
		errx(1, "a packet of %zu bytes", len);
	return get(from, packet + head, len) ? head + len : 0;
}

/*
 * What was made elsewhere, once, whichever channel is first.  No other channel
 * waits for that: the destination may want its sync packet before it takes more
 * from this one.
 */
static bool put_others(int to)
{
	static atomic_flag replaced = ATOMIC_FLAG_INIT;
	static char buf[65536];
	bool good = true;
	size_t len;
	FILE *file;

	if (atomic_flag_test_and_set(&replaced))
		return true;
	file = fopen(path, "r");
	if (!file)
		err(1, "%s", path);
	while (good && (len = fread(buf, 1, sizeof(buf), file)))
		good = put(to, buf, len);
	fclose(file);
	return good;
}

static bool pass_packet(int to, const uint8_t *packet, size_t len, FILE *record)
{
	bool is_state = wire_get32(packet + WIRE_PACKET_FLAGS) &
			WIRE_DEVICE_STATE;

	if (is_state && mode == HOLD) {
		puts("held");
		pause();
	}
	if (is_state && mode == REPLACE)
		return put_others(to);
	if (record && fwrite(packet, 1, len, record) != len)
		err(1, "%s", path);
	return put(to, packet, len);
}

static void pass_channel(const struct way *way, uint8_t *packet)
{
	FILE *record = NULL;
	char name[4096];
	size_t len;

	if (mode == RECORD) {
		snprintf(name, sizeof(name), "%s/%u", path,
			 packet[WIRE_INIT_ID]);
		record = fopen(name, "w");
		if (!record || fwrite(packet, 1, WIRE_INIT_SIZE, record) !=
			       WIRE_INIT_SIZE)
			err(1, "%s", name);
	}
	if (!put(way->to, packet, WIRE_INIT_SIZE))
		return;
	while ((len = get_packet(way->from, packet)))
		if (!pass_packet(way->to, packet, len, record))
			break;
	if (record && fclose(record))
		err(1, "%s", name);
}

/* Gets what is missing of @len bytes at @buf, of which @have are there */
static bool complete(int from, uint8_t *buf, size_t *have, size_t len)
{
	if (*have >= len)
		return true;
	if (!get(from, buf + *have, len - *have))
		return false;
	*have = len;
	return true;
}

/*
 * A piece of device state, whose mark is at @buf, where @have bytes are.  Return:
 * its size, 0 at the end
 */
static size_t pass_piece(const struct way *way, uint8_t *buf, size_t *have,
			 FILE *record)
{
	size_t size;

	if (!complete(way->from, buf, have, MARK_DATA))
		return 0;
	size = wire_get32(buf + 12);
	if (wire_get32(buf + 8) || size > MAX_PACKET / 2 - MARK_DATA)
		errx(1, "a piece of %zu bytes on the main channel", size);
	size += MARK_DATA;
	if (!complete(way->from, buf, have, size))
		return 0;
	if (!record)
		return size;
	if (fwrite(buf + MARK_DATA, 1, size - MARK_DATA, record) !=
	    size - MARK_DATA)
		err(1, "%s", path);
	return put(way->to, buf, size) ? size : 0;
}

/* How many bytes at the end could be a mark's first */
static size_t tail(const uint8_t *buf, size_t len)
{
	size_t n = len < sizeof(mark) ? len : sizeof(mark) - 1;

	while (n && memcmp(buf + len - n, mark, n))
		n--;
	return n;
}

/* Passes what is at @buf but for what may be the beginning of a mark */
static bool pass_pieces(const struct way *way, uint8_t *buf, size_t *len,
			FILE *record)
{
	uint8_t *at;
	size_t n;

	while ((at = memmem(buf, *len, mark, sizeof(mark)))) {
		if (!put(way->to, buf, at - buf))
			return false;
		*len -= at - buf;
		memmove(buf, at, *len);
		n = pass_piece(way, buf, len, record);
		if (!n)
			return false;
		*len -= n;
		memmove(buf, buf + n, *len);
	}
	n = tail(buf, *len);
	if (!put(way->to, buf, *len - n))
		return false;
	memmove(buf, buf + *len - n, n);
	*len = n;
	return true;
}

static void pass_main(const struct way *way, uint8_t *buf)
{
	struct pollfd fd = { .fd = way->from, .events = POLLIN };
	FILE *record = NULL;
	char name[4096];
	size_t len = 0;
	ssize_t n;

	if (mode == RECORD) {
		snprintf(name, sizeof(name), "%s/main", path);
		record = fopen(name, "w");
		if (!record)
			err(1, "%s", name);
	}
	for (;;) {
		/* what is no mark yet after a while is none */
		if (len && !poll(&fd, 1, PATIENCE)) {
			if (!put(way->to, buf, len))
				break;
			len = 0;
		}
		n = recv(way->from, buf + len, MAX_PACKET / 2 - len, 0);
		if (n <= 0)
			break;
		len += n;
		if (!pass_pieces(way, buf, &len, record))
			break;
	}
	put(way->to, buf, len);
	if (record && fclose(record))
		err(1, "%s", name);
}

static void pass_bytes(const struct way *way, uint8_t *buf)
{
	ssize_t len;

	while ((len = recv(way->from, buf, MAX_PACKET, 0)) > 0)
		if (!put(way->to, buf, len))
			break;
}

static void *pass(void *arg)
{
	uint8_t *buf = malloc(MAX_PACKET), magic[4];
	struct way *way = arg;

	/* the main channel starts otherwise, and at once */
	if (way->forward &&
	    recv(way->from, magic, 4, MSG_PEEK | MSG_WAITALL) == 4 &&
	    wire_get32(magic) == WIRE_MAGIC &&
	    get(way->from, buf, WIRE_INIT_SIZE))
		pass_channel(way, buf);
	else if (way->forward && mode != HOLD)
		pass_main(way, buf);
	else
		pass_bytes(way, buf);
	/* a destination that has gone takes all with it */
	shutdown(way->to, way->forward ? SHUT_WR : SHUT_RDWR);
	free(buf);
	free(way);
	return NULL;
}

static void start(int from, int to, bool forward)
{
	struct way *way = malloc(sizeof(*way));
	pthread_t thread;

	*way = (struct way) { from, to, forward };
	if (pthread_create(&thread, NULL, pass, way))
		errx(1, "no thread");
	pthread_detach(thread);
}

static struct sockaddr_in address(const char *port)
{
	return (struct sockaddr_in) {
		.sin_family = AF_INET,
		.sin_port = htons(atoi(port)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

int main(int argc, char **argv)
{
	static const char *const modes[] = { "hold", "record", "replace" };
	struct sockaddr_in from, to;
	int listener, one = 1;

	for (mode = HOLD; argc > 3 && mode <= REPLACE; mode++)
		if (!strcmp(argv[3], modes[mode]))
			break;
	if (mode > REPLACE || argc != (mode == HOLD ? 4 : 5)) {
		fputs("usage: qemu_proxy LISTEN CONNECT {hold | record DIR | replace FILE}\n",
		      stderr);
		return 1;
	}
	path = argv[4];
	from = address(argv[1]);
	to = address(argv[2]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&from, sizeof(from)) ||
	    listen(listener, 64))
		err(1, "port %s", argv[1]);
	puts("listening");
	for (;;) {
		int client = accept(listener, NULL, NULL);
		int server = socket(AF_INET, SOCK_STREAM, 0);

		if (client < 0 || server < 0)
			err(1, "accept");
		if (connect(server, (struct sockaddr *)&to, sizeof(to)))
			err(1, "port %s", argv[2]);
		start(client, server, true);
		start(server, client, false);
	}
}

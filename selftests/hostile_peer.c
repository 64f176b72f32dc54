// SPDX-License-Identifier: GPL-2.0-only
/*
 * A peer that says anything, for the library built with the sanitizers
 *
 * Whole transfers of the library run here against a peer that follows the
 * protocol up to one message, which it changes; then it says no more.  Devices
 * and engine are stand-ins that do nothing, so that neither a module nor root
 * is needed.  The stand-ins also tell when it is the peer's turn, so that one
 * seed gives the same bytes each time.  Only COMMIT comes from a thread, and who never
 * says HELLO.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hostile_peer.h"
#include "listener.h"
#include "net.h"
#include "session.h"

#define ROUNDS		3000	/* for each end */
#define LIMIT		120	/* seconds */
#define PACKET		(1u << 20)
#define FEATURES	(VFIO_MULTIFD_FEATURE_DIGEST | \
			 VFIO_MULTIFD_FEATURE_REPLACE | VMF_FEATURE_PRE_COPY)
#define HEADER		VMF_MESSAGE_HEADER
#define DEVICE		VMF_MESSAGE_HELLO_DEVICE

/* HELLO, channels, SECTIONs, ROUND, STOPPING, SENT, COMMIT; and what answers these */
#define TO_RECV		(5 + CHANNELS + SECTIONS)
#define TO_SEND		5

/* What a source has for the device on the main channel, in this order */
static const struct {
	enum vmf_section_tag tag;
	unsigned int marker;
	unsigned int size;
} sections[] = {
	{ VMF_SECTION_START, 3, 0 },
	{ VMF_SECTION_START, 1, 0 },
	{ VMF_SECTION_PART, 4, BYTES / 2 },
	{ VMF_SECTION_PART, 4, 0 },
	{ VMF_SECTION_PART, 4, BYTES / 2 },
	{ VMF_SECTION_PART, 5, 0 },
	/* behind the stop */
	{ VMF_SECTION_END, 1, 0 },
	{ VMF_SECTION_FULL, 1, 0 },
};

#define PART_SECTIONS	6
#define SECTIONS	(sizeof(sections) / sizeof(sections[0]))

static const uint8_t uuid[VFIO_MULTIFD_UUID_SIZE] = "hostile peer";
const struct vmf_identity hostile_identity = {
	.migration_flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P |
			   VMF_MIGRATION_PRE_COPY,
	.region_size = { 4096, 0, 1 << 20 },
	.class_code = 0x050000, .vendor = 0x1af4, .device = 0x1110,
};

struct hostile hostile = { .listener = -1, .peer = -1 };

static uint64_t random_state = 1;
static unsigned int section;	/* the peer's next SECTION */
static unsigned int sessions;	/* that the peer has begun anew */
static bool anew;		/* and has to */
static int former = -1;		/* the main channel before */
static struct sockaddr_in address = { .sin_family = AF_INET };
static pthread_t speaker;
static bool speaks;		/* @speaker is there */
static bool no_hello;
static unsigned int outcomes[VMF_LOST + 1];

static struct {
	uint32_t size;
	uint8_t bytes[1 << 18];
} out;

uint32_t hostile_any(uint32_t below)
{
	/* xorshift64* */
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (random_state * 0x2545f4914f6cdd1dull >> 32) % below;
}

static void put(uint64_t value, unsigned int size)
{
	while (size--)
		out.bytes[out.size++] = size < 8 ? value >> 8 * size : 0;
}

static void put_bytes(const void *bytes, uint32_t size)
{
	memcpy(out.bytes + out.size, bytes, size);
	out.size += size;
}

static void put_any(uint32_t size)
{
	while (size-- && out.size < sizeof(out.bytes))
		put(hostile_any(256), 1);
}

static void put_hello(void)
{
	char name[VFIO_MULTIFD_IDSTR_SIZE];

	put(VMF_MESSAGE_VERSION, 2);
	put(VMF_MESSAGE_VERSION, 2);
	put(CHANNELS, 4);
	put(FEATURES, 8);
	put(PACKET, 4);
	put(DEVICES, 4);
	put_bytes(uuid, sizeof(uuid));
	for (unsigned int i = 0; i < DEVICES; i++) {
		memset(name, 0, sizeof(name));
		snprintf(name, sizeof(name), "vfio%u", i);
		put_bytes(name, sizeof(name));
		put(i ? 0 : VMF_HELLO_OFF, 8);
		put(hostile_identity.migration_flags, 8);
		for (unsigned int r = 0; r < VFIO_PCI_NUM_REGIONS; r++)
			put(hostile_identity.region_size[r], 8);
		put(hostile_identity.vendor, 2);
		put(hostile_identity.device, 2);
		put(hostile_identity.class_code << 8 | hostile_identity.revision, 4);
	}
}

static void set_u32(uint32_t at, uint32_t value)
{
	value = htonl(value);
	memcpy(out.bytes + at, &value, sizeof(value));
}

/* Makes the header tell the length that the body has. */
static void set_length(void)
{
	set_u32(HEADER - 4, out.size - HEADER);
}

static void put_section(void)
{
	unsigned int i = section++ % SECTIONS;

	put(0, 4);
	put(sections[i].tag, 4);
	put(0xffffffffef100000ull | sections[i].marker, 8);
	if (sections[i].marker != 4)
		return;
	put(sections[i].size, 8);
	put_any(sections[i].size);
}

static void build(enum vmf_message_type type)
{
	out.size = 0;
	put(VMF_MESSAGE_MAGIC, 4);
	put(type, 2);
	put(0, 6);
	switch (type) {
	case VMF_HELLO:
		put_hello();
		break;
	case VMF_HELLO_ACK:
		put(VMF_MESSAGE_VERSION, 2);
		put(0, 6);
		put(FEATURES, 8);
		for (unsigned int i = 0; i < DEVICES; i++)
			put(i ? 0 : VMF_ACK_MAIN, 4);
		break;
	case VMF_SECTION:
		put_section();
		break;
	case VMF_LOST_CHANNEL:
		put(hostile_any(CHANNELS + 1), 4);
		put(hostile_any(2), 4);
		put(hostile_any(100), 8);
		break;
	case VMF_SENT:
		for (unsigned int i = 0; i < DEVICES; i++) {
			put(BYTES, 8);
			put(2, 8);
		}
		break;
	case VMF_ROUND:
		put(1, 4);
		put(0, 4);
		for (unsigned int i = 0; i < DEVICES; i++)
			put(2, 8);
		break;
	case VMF_ROUND_ACK:
		put(1, 4);
		put(0, 4);
		break;
	case VMF_LOADED:
	case VMF_HEARTBEAT:
		put(hostile_any(1000), 8);
		break;
	case VMF_REFUSE:
	case VMF_FAILED:
		put_any(hostile_any(2) ? VMF_TEXT_SIZE - 4 + hostile_any(8) : hostile_any(5000));
		break;
	default:
		break;
	}
	set_length();
}

/* As many devices as that, with a body to match: the first ones, repeated */
static void set_devices(uint32_t devices)
{
	uint32_t first = HEADER + VMF_MESSAGE_HELLO_HEAD;

	set_u32(HEADER + 20, devices);
	out.size = first + DEVICES * DEVICE;
	for (uint32_t i = DEVICES; i < devices; i++)
		put_bytes(out.bytes + first + (i % DEVICES) * DEVICE, DEVICE);
	out.size = first + devices * DEVICE;
	set_length();
}

/* Half of the time it is where most of what counts is. */
static uint32_t any_place(void)
{
	return hostile_any(hostile_any(2) && out.size > 64 ? 64 : out.size);
}

static void fill(uint8_t byte)
{
	uint32_t at = any_place(), size = hostile_any(out.size - at) + 1;

	memset(out.bytes + at, byte, size);
}

static void change(void)
{
	static const uint32_t numbers[] = {
		0, 1, 63, 64, 65, 66, 255, 0x1000, 0x7fffffff, 0x80000000,
		0xfffffff4, 0xffffffff,
	};
	bool hello = out.bytes[5] == VMF_HELLO;

	if (out.size < HEADER)
		return;
	switch (hostile_any(hello ? 11 : 9)) {
	case 0:
		out.bytes[any_place()] ^= 1 << hostile_any(8);
		break;
	case 1:
		out.bytes[any_place()] = hostile_any(256);
		break;
	case 2:
		set_u32(any_place() & ~3,
			numbers[hostile_any(sizeof(numbers) / sizeof(*numbers))]);
		break;
	case 3:
		out.size = HEADER + hostile_any(out.size - HEADER + 1);
		set_length();
		break;
	case 4:
		out.size = hostile_any(out.size + 1);
		break;
	case 5:
		put_any(hostile_any(2) ? hostile_any(64) : hostile_any(sizeof(out.bytes) / 2));
		set_length();
		break;
	case 6:
		put_any(hostile_any(64));
		break;
	case 7:
		build(1 + hostile_any(VMF_ANEW));
		break;
	case 8:
		fill(hostile_any(256));
		break;
	default:
		set_devices(hostile_any(100));
		break;
	}
}

/* Nothing of this waits: a full socket takes what it takes. */
static void say_out(int sock)
{
	send(sock, out.bytes, out.size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The peer's next message, or bytes for @sock that begin a channel */
static void say_built(int sock)
{
	if (hostile.said++ != hostile.victim) {
		say_out(sock);
		return;
	}
	for (unsigned int i = hostile_any(3) + 1; i; i--)
		change();
	say_out(sock);
	shutdown(hostile.peer, SHUT_WR);
}

void hostile_say(enum vmf_message_type type)
{
	if (hostile.said > hostile.victim)
		return;
	if (!hostile_any(8)) {
		build(VMF_HEARTBEAT);
		say_out(hostile.peer);
	}
	build(type);
	say_built(hostile.peer);
}

static int dial(void)
{
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(sock, (struct sockaddr *)&address, sizeof(address)))
		snprintf(hostile.problem, sizeof(hostile.problem), "connect: %s",
			 strerror(errno));
	vmf_net_tune(sock);
	return sock;
}

void hostile_open_channels(void)
{
	if (hostile.said > hostile.victim)
		return;
	for (unsigned int i = 0; i < CHANNELS; i++) {
		hostile.channels[i] = dial();
		out.size = 0;
		put(0x11223344, 4);
		put(1, 4);
		put_bytes(uuid, sizeof(uuid));
		put(i, 1);
		put(0, VMF_LISTENER_HEAD - out.size);
		say_built(hostile.channels[i]);
		/* what is too short to be known must not be waited for */
		shutdown(hostile.channels[i], SHUT_WR);
	}
}

/* What did not look like a main channel is dropped, and a better one awaited. */
static void knock_again(void)
{
	if (hostile.said <= hostile.victim)
		return;
	hostile.channels[0] = dial();
	build(VMF_HEARTBEAT);
	put(0, VMF_LISTENER_HEAD);
	say_out(hostile.channels[0]);
	shutdown(hostile.channels[0], SHUT_WR);
}

/* Before LOADED has come it would be out of turn. */
static void *say_commit(void *arg)
{
	uint8_t head[HEADER], body[VMF_TEXT_SIZE];

	while (recv(hostile.peer, head, HEADER, MSG_WAITALL) == HEADER &&
	       head[5] != VMF_LOADED)
		recv(hostile.peer, body, head[10] << 8 | head[11], MSG_WAITALL);
	hostile_say(VMF_COMMIT);
	shutdown(hostile.peer, SHUT_WR);
	return arg;
}

/* Never says HELLO, but that it comes forward: as long as somebody listens, or 3 timeouts */
static void *come_forward(void *arg)
{
	unsigned int i;

	for (i = 0; i < 3 * 4 * VMF_MIN_TIMEOUT; i++) {
		build(VMF_HEARTBEAT);
		set_u32(HEADER, 0);
		set_u32(HEADER + 4, i);
		if (send(hostile.peer, out.bytes, out.size, MSG_NOSIGNAL) < 0)
			return arg;
		/* it takes some to be heard at all */
		if (i * out.size > VMF_LISTENER_HEAD)
			usleep(250000);
	}
	snprintf(hostile.problem, sizeof(hostile.problem),
		 "a stranger keeps it for ever");
	shutdown(hostile.peer, SHUT_WR);
	return arg;
}

static void speak(void *(*what)(void *))
{
	speaks = !pthread_create(&speaker, NULL, what, NULL);
}

static void hang_up(void)
{
	if (hostile.peer >= 0)
		close(hostile.peer);
	hostile.peer = -1;
	for (unsigned int i = 0; i < CHANNELS; i++) {
		if (hostile.channels[i] >= 0)
			close(hostile.channels[i]);
		hostile.channels[i] = -1;
	}
}

static void begin_anew(void)
{
	sessions++;
	hostile_say(VMF_ANEW);
	if (hostile.said > hostile.victim)
		return;
	/* It answers before it closes, which a reset would keep it from. */
	shutdown(hostile.peer, SHUT_WR);
	former = hostile.peer;
	hostile.peer = -1;
	hang_up();
	hostile.peer = dial();
	section = 0;
	hostile_say(VMF_HELLO);
	knock_again();
}

static int event(void *opaque, enum vmf_event event, const char *text)
{
	unsigned int i;

	for (const char *c = text; c && *c; c++)
		if (*c < ' ' || *c > '~')
			snprintf(hostile.problem, sizeof(hostile.problem),
				 "event %s has byte 0x%02x",
				 vmf_event_name(event), *c & 0xff);
	switch (event) {
	case VMF_EVENT_LISTENING:
		address.sin_port = htons(atoi(strrchr(text, ':') + 1));
		hostile.peer = dial();
		if (no_hello) {
			speak(come_forward);
			break;
		}
		hostile_say(VMF_HELLO);
		knock_again();
		break;
	case VMF_EVENT_NEGOTIATED:
		if (hostile.sending)
			break;
		if (!sessions && (hostile.victim == NONE ? anew : !hostile_any(4))) {
			begin_anew();
			break;
		}
		for (i = 0; i < PART_SECTIONS; i++)
			hostile_say(VMF_SECTION);
		hostile_say(VMF_ROUND);
		hostile_say(VMF_STOPPING);
		for (; i < SECTIONS; i++)
			hostile_say(VMF_SECTION);
		hostile_say(VMF_SENT);
		break;
	case VMF_EVENT_LOADED:
		if (!hostile.sending) {
			speak(say_commit);
			break;
		}
		hostile_say(VMF_COMMITTED);
		shutdown(hostile.peer, SHUT_WR);
		break;
	default:
		break;
	}
	return 0;
}

static unsigned int open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int count = 0;

	while (dir && readdir(dir))
		count++;
	if (dir)
		closedir(dir);
	return count;
}

/* One transfer; false if something is wrong with it */
static bool transfer(unsigned int change_at)
{
	struct vmf_device device[DEVICES];
	char name[32];
	struct vmf_params params = {
		.address = hostile.sending ? name : "127.0.0.1:0",
		.devices = DEVICES, .device = device,
		.channels = CHANNELS, .packet_size = PACKET,
		.features = FEATURES,
		.downtime_limit = 300, .max_rounds = 5,
		.trigger_fd = -1, .modes_fd = -1, .cancel_fd = -1,
		.timeout = VMF_MIN_TIMEOUT, .event = event,
	};
	static struct vmf_report report;
	unsigned int fds = open_fds();
	socklen_t size = sizeof(address);

	memset(device, 0, sizeof(device));
	for (unsigned int i = 0; i < DEVICES; i++) {
		device[i].fd = 1000 + i;
		device[i].config_fd = -1;
		device[i].multifd = i || hostile_any(2) ? VMF_MULTIFD_AUTO :
						  VMF_MULTIFD_OFF;
		snprintf(device[i].idstr, sizeof(device[i].idstr), "vfio%u", i);
	}
	if (hostile.sending)
		getsockname(hostile.listener, (struct sockaddr *)&address, &size);
	snprintf(name, sizeof(name), "127.0.0.1:%u", ntohs(address.sin_port));
	hostile.victim = change_at;
	hostile.said = 0;
	section = 0;
	sessions = 0;
	hostile.asked = 0;
	hostile.peer = -1;
	memset(hostile.channels, -1, sizeof(hostile.channels));

	if (hostile.sending)
		vmf_send(&params, &report);
	else
		vmf_recv(&params, &report);
	if (speaks)
		pthread_join(speaker, NULL);
	speaks = false;
	hang_up();
	if (former >= 0)
		close(former);
	former = -1;

	outcomes[report.outcome]++;
	if (hostile.victim == NONE && report.outcome != VMF_DONE)
		snprintf(hostile.problem, sizeof(hostile.problem), "a good peer: %.200s",
			 report.text);
	if (!hostile.sending && report.outcome == VMF_UNDECIDED &&
	    change_at != TO_RECV - 1)
		snprintf(hostile.problem, sizeof(hostile.problem),
			 "undecided, with a peer that was gone before LOADED");
	if (open_fds() != fds)
		snprintf(hostile.problem, sizeof(hostile.problem), "%u fds, before it %u",
			 open_fds(), fds);
	return !*hostile.problem;
}

/* Changes one of the @messages that the peer has for this end. */
static bool run(bool send, unsigned int messages)
{
	hostile.sending = send;
	hostile.breaks = false;
	memset(outcomes, 0, sizeof(outcomes));
	for (unsigned int i = 0; i < ROUNDS; i++) {
		anew = i == 1;
		if (!transfer(i > 1 ? hostile_any(messages) : NONE)) {
			printf("%s, round %u: %s\n", send ? "send" : "recv", i,
			       hostile.problem);
			return false;
		}
		hostile.breaks = !hostile_any(16);
	}
	printf("%s:", send ? "send" : "recv");
	for (unsigned int i = 0; i <= VMF_LOST; i++)
		printf(" %u %s", outcomes[i], vmf_outcome_name(i));
	printf("\n");
	return true;
}

/* What hides behind an urgent byte never makes a first message. */
static bool urgent_is_dropped(void)
{
	uint8_t bytes[VMF_LISTENER_HEAD] = {};
	socklen_t size = sizeof(address);
	struct vmf_listener listener;
	uint32_t left;
	int sock;

	if (vmf_listener_open(&listener, "127.0.0.1:0", LIMIT, NULL))
		return false;
	getsockname(listener.sock, (struct sockaddr *)&address, &size);
	sock = dial();
	vmf_listener_next(&listener, bytes);
	send(sock, bytes, 10, MSG_NOSIGNAL);
	send(sock, bytes, 1, MSG_NOSIGNAL | MSG_OOB);
	send(sock, bytes, sizeof(bytes), MSG_NOSIGNAL);
	vmf_listener_next(&listener, bytes);
	left = listener.waiting;
	close(sock);
	vmf_listener_close(&listener);
	if (left)
		printf("a stranger with an urgent byte is not dropped\n");
	return !left;
}

static bool stranger_is_dropped(void)
{
	no_hello = true;
	if (!transfer(TO_RECV))
		printf("recv: %s\n", hostile.problem);
	no_hello = false;
	return !*hostile.problem;
}

int main(int argc, char **argv)
{
	random_state = argc > 1 ? strtoull(argv[1], NULL, 0) | 1 : 1;
	alarm(LIMIT);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	hostile.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (hostile.listener < 0 || listen(hostile.listener, 16)) {
		perror("listening");
		return 1;
	}
	return !urgent_is_dropped() || !stranger_is_dropped() ||
	       !run(false, TO_RECV) || !run(true, TO_SEND);
}

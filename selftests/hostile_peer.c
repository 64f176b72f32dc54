// SPDX-License-Identifier: GPL-2.0-only
/*
 * A peer that says anything, for the library built with the sanitizers
 *
 * Whole transfers of the library run here against a peer that follows the
 * protocol up to one message, which it changes; then it says no more.  Devices
 * and engine are stand-ins that do nothing, so that neither a module nor root
 * is needed.  The stand-ins also tell when it is the peer's turn, so that all
 * of it is one thread, and one seed gives the same bytes each time.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "compat.h"
#include "listener.h"
#include "message.h"
#include "negotiate.h"
#include "net.h"
#include "pump.h"
#include "team.h"

#define ROUNDS		3000	/* for each end */
#define LIMIT		120	/* seconds */
#define DEVICES		3
#define CHANNELS	2
#define PACKET		(1u << 20)
#define BYTES		8192	/* of each device, in two packets */
#define NONE		1000	/* no message is changed */
#define FEATURES	(VFIO_MULTIFD_FEATURE_DIGEST | \
			 VFIO_MULTIFD_FEATURE_REPLACE | VMF_FEATURE_PRE_COPY)
#define HEADER		VMF_MESSAGE_HEADER
#define DEVICE		VMF_MESSAGE_HELLO_DEVICE

struct vmf_engine {
	int fd;
};

struct vmf_pump {
	int fd;			/* counts those of @note that wait */
	unsigned int notes;
	unsigned int taken;
	struct vmf_pump_note note[64];
};

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
static const struct vmf_identity identity = {
	.migration_flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P |
			   VMF_MIGRATION_PRE_COPY,
	.region_size = { 4096, 0, 1 << 20 },
	.class_code = 0x050000, .vendor = 0x1af4, .device = 0x1110,
};

static uint64_t random_state = 1;
static bool sending;		/* the library is the source */
static unsigned int victim;	/* the peer's message that is changed */
static unsigned int said;	/* messages of the peer so far */
static bool breaks;		/* the engine fails */
static unsigned int section;	/* the peer's next SECTION */
static unsigned int asked;	/* how often for the last device's status */
static int listener = -1, peer = -1, channels[CHANNELS];
static struct sockaddr_in address = { .sin_family = AF_INET };
static char problem[256];
static unsigned int outcomes[VMF_LOST + 1];

static struct {
	uint32_t size;
	uint8_t bytes[1 << 18];
} out;

static uint32_t any(uint32_t below)
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
		put(any(256), 1);
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
		put(identity.migration_flags, 8);
		for (unsigned int r = 0; r < VFIO_PCI_NUM_REGIONS; r++)
			put(identity.region_size[r], 8);
		put(identity.vendor, 2);
		put(identity.device, 2);
		put(identity.class_code << 8 | identity.revision, 4);
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
		put(any(CHANNELS + 1), 4);
		put(any(2), 4);
		put(any(100), 8);
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
		put(any(1000), 8);
		break;
	case VMF_REFUSE:
	case VMF_FAILED:
		put_any(any(2) ? VMF_TEXT_SIZE - 4 + any(8) : any(5000));
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
	return any(any(2) && out.size > 64 ? 64 : out.size);
}

static void fill(uint8_t byte)
{
	uint32_t at = any_place(), size = any(out.size - at) + 1;

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
	switch (any(hello ? 11 : 9)) {
	case 0:
		out.bytes[any_place()] ^= 1 << any(8);
		break;
	case 1:
		out.bytes[any_place()] = any(256);
		break;
	case 2:
		set_u32(any_place() & ~3,
			numbers[any(sizeof(numbers) / sizeof(*numbers))]);
		break;
	case 3:
		out.size = HEADER + any(out.size - HEADER + 1);
		set_length();
		break;
	case 4:
		out.size = any(out.size + 1);
		break;
	case 5:
		put_any(any(2) ? any(64) : any(sizeof(out.bytes) / 2));
		set_length();
		break;
	case 6:
		put_any(any(64));
		break;
	case 7:
		build(1 + any(VMF_LOST_CHANNEL));
		break;
	case 8:
		fill(any(256));
		break;
	default:
		set_devices(any(100));
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
	if (said++ != victim) {
		say_out(sock);
		return;
	}
	for (unsigned int i = any(3) + 1; i; i--)
		change();
	say_out(sock);
	shutdown(peer, SHUT_WR);
}

static void say(enum vmf_message_type type)
{
	if (said > victim)
		return;
	if (!any(8)) {
		build(VMF_HEARTBEAT);
		say_out(peer);
	}
	build(type);
	say_built(peer);
}

static int dial(void)
{
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(sock, (struct sockaddr *)&address, sizeof(address)))
		snprintf(problem, sizeof(problem), "connect: %s",
			 strerror(errno));
	vmf_net_tune(sock);
	return sock;
}

static void open_channels(void)
{
	if (said > victim)
		return;
	for (unsigned int i = 0; i < CHANNELS; i++) {
		channels[i] = dial();
		out.size = 0;
		put(0x11223344, 4);
		put(1, 4);
		put_bytes(uuid, sizeof(uuid));
		put(i, 1);
		put(0, VMF_LISTENER_HEAD - out.size);
		say_built(channels[i]);
		/* what is too short to be known must not be waited for */
		shutdown(channels[i], SHUT_WR);
	}
}

/* What did not look like a main channel is dropped, and a better one awaited. */
static void knock_again(void)
{
	if (said <= victim)
		return;
	channels[0] = dial();
	build(VMF_HEARTBEAT);
	put(0, VMF_LISTENER_HEAD);
	say_out(channels[0]);
	shutdown(channels[0], SHUT_WR);
}

static int event(void *opaque, enum vmf_event event, const char *text)
{
	unsigned int i;

	for (const char *c = text; c && *c; c++)
		if (*c < ' ' || *c > '~')
			snprintf(problem, sizeof(problem),
				 "event %s has byte 0x%02x",
				 vmf_event_name(event), *c & 0xff);
	switch (event) {
	case VMF_EVENT_LISTENING:
		address.sin_port = htons(atoi(strrchr(text, ':') + 1));
		peer = dial();
		say(VMF_HELLO);
		knock_again();
		break;
	case VMF_EVENT_NEGOTIATED:
		if (sending)
			break;
		for (i = 0; i < PART_SECTIONS; i++)
			say(VMF_SECTION);
		say(VMF_ROUND);
		say(VMF_STOPPING);
		for (; i < SECTIONS; i++)
			say(VMF_SECTION);
		say(VMF_SENT);
		break;
	case VMF_EVENT_LOADED:
		say(sending ? VMF_COMMITTED : VMF_COMMIT);
		shutdown(peer, SHUT_WR);
		break;
	default:
		break;
	}
	return 0;
}

/* The stand-ins, in place of device.c, team.c and engine.c */
int vmf_device_identify(int fd, struct vmf_identity *own,
			struct vmf_error *error)
{
	*own = identity;
	return 0;
}

int vmf_device_get_state(int fd, uint32_t *state)
{
	*state = VFIO_DEVICE_STATE_RUNNING;
	return 0;
}

const char *vmf_device_state_name(uint32_t state)
{
	return "?";
}

int vmf_device_data_size(int fd, uint64_t *size)
{
	*size = BYTES;
	return 0;
}

int vmf_device_precopy_info(int data_fd, uint64_t *initial, uint64_t *dirty)
{
	*initial = 0;
	*dirty = 0;
	return 0;
}

int vmf_team_set_states(struct vmf_session *session,
			const uint32_t state[static VFIO_MULTIFD_MAX_DEVICES])
{
	for (unsigned int i = 0; i < DEVICES; i++)
		if (session->device[i].data_fd < 0)
			session->device[i].data_fd = eventfd(0, EFD_CLOEXEC);
	return 0;
}

int vmf_team_set_state(struct vmf_session *session, uint32_t state)
{
	static const uint32_t any_state[VFIO_MULTIFD_MAX_DEVICES];

	if (state == VFIO_DEVICE_STATE_RESUMING)
		open_channels();
	return vmf_team_set_states(session, any_state);
}

int vmf_team_roll_back(struct vmf_session *session,
		       char text[static VMF_TEXT_SIZE])
{
	return 0;
}

int vmf_team_reset(struct vmf_session *session, char text[static VMF_TEXT_SIZE])
{
	return vmf_team_roll_back(session, text);
}

int vmf_team_stop(struct vmf_session *session, char text[static VMF_TEXT_SIZE])
{
	return vmf_team_roll_back(session, text);
}

static void note(struct vmf_pump *pump, struct vmf_pump_note note)
{
	if (pump->notes == sizeof(pump->note) / sizeof(pump->note[0])) {
		snprintf(problem, sizeof(problem), "more than %u notes",
			 pump->notes);
		return;
	}
	pump->note[pump->notes++] = note;
	eventfd_write(pump->fd, 1);
}

static int start_pump(struct vmf_pump **pump)
{
	static struct vmf_pump only;

	memset(&only, 0, sizeof(only));
	only.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
	*pump = &only;
	return 0;
}

int vmf_pump_start_reader(struct vmf_pump **pump, int data_fd, bool precopy)
{
	start_pump(pump);
	note(*pump, (struct vmf_pump_note){ .size = BYTES / 2 });
	note(*pump, (struct vmf_pump_note){ .size = BYTES / 2 });
	note(*pump, (struct vmf_pump_note){
		.paused = precopy,
		.ended = !precopy,
	});
	return 0;
}

int vmf_pump_start_writer(struct vmf_pump **pump, int data_fd)
{
	return start_pump(pump);
}

int vmf_pump_fd(const struct vmf_pump *pump)
{
	return pump->fd;
}

/* A writer has written, a reader reads the rest. */
int vmf_pump_put(struct vmf_pump *pump, struct vmf_pump_note what,
		 const void *data)
{
	uint8_t sum = 0;

	if (!sending && !any(4))
		return -EAGAIN;
	for (uint32_t i = 0; i < what.size; i++)
		sum ^= ((const uint8_t *)data)[i];
	out.bytes[sizeof(out.bytes) - 1] = sum;
	note(pump, what);
	return 0;
}

int vmf_pump_take(struct vmf_pump *pump, struct vmf_pump_note *what, void *data)
{
	eventfd_t count;

	if (eventfd_read(pump->fd, &count))
		return -EAGAIN;
	*what = pump->note[pump->taken++];
	if (data)
		memset(data, 0x5a, what->size);
	return 0;
}

void vmf_pump_cancel(struct vmf_pump *pump)
{
	if (pump)
		close(pump->fd);
}

void vmf_pump_destroy(struct vmf_pump *pump, uint64_t deadline)
{
}

int vmf_engine_open(struct vmf_engine **engine, struct vmf_error *error)
{
	static struct vmf_engine only;

	only.fd = eventfd(1, EFD_CLOEXEC);	/* always has news */
	*engine = &only;
	return 0;
}

void vmf_engine_close(struct vmf_engine *engine)
{
	if (engine)
		close(engine->fd);
}

int vmf_engine_fd(const struct vmf_engine *engine)
{
	return engine->fd;
}

/* The source asks for it when it is connected, and is to say HELLO. */
const struct vfio_multifd_info *vmf_engine_info(const struct vmf_engine *engine)
{
	static const struct vfio_multifd_info info = {
		.features = VFIO_MULTIFD_FEATURE_DIGEST |
			    VFIO_MULTIFD_FEATURE_REPLACE,
		.max_channels = VFIO_MULTIFD_MAX_CHANNELS,
		.min_packet = VFIO_MULTIFD_MIN_PACKET,
		.max_packet = VFIO_MULTIFD_MAX_PACKET,
	};

	if (sending && peer < 0) {
		peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		vmf_net_tune(peer);
		say(VMF_HELLO_ACK);
	}
	return &info;
}

int vmf_engine_setup(struct vmf_engine *engine,
		     const struct vfio_multifd_setup *setup,
		     struct vmf_error *error)
{
	return 0;
}

int vmf_engine_add_channel(struct vmf_engine *engine, int fd, uint32_t id,
			   struct vmf_error *error)
{
	if (sending) {
		channels[id] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (id == CHANNELS - 1)
			say(VMF_READY);
	}
	return 0;
}

int vmf_engine_add_device(struct vmf_engine *engine, int data_fd,
			  uint32_t flags, const char *idstr,
			  uint32_t instance_id, uint32_t *index,
			  struct vmf_error *error)
{
	*index = idstr[strlen("vfio")] - '0';
	return 0;
}

/* Some are lost. */
int vmf_engine_channel_status(struct vmf_engine *engine, uint32_t id,
			      struct vfio_multifd_channel_status *status)
{
	*status = (struct vfio_multifd_channel_status){
		.lost = victim != NONE && !any(50),
	};
	return 0;
}

int vmf_engine_replace_channel(struct vmf_engine *engine, int fd, uint32_t id,
			       uint64_t packets, struct vmf_error *error)
{
	if (sending)
		close(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
	return 0;
}

int vmf_engine_give_up_channel(struct vmf_engine *engine, uint32_t id)
{
	return 0;
}

int vmf_engine_continue(struct vmf_engine *engine, uint32_t index,
			struct vmf_error *error)
{
	return 0;
}

int vmf_engine_switchover(struct vmf_engine *engine, struct vmf_error *error)
{
	return 0;
}

int vmf_engine_set_config(struct vmf_engine *engine, uint32_t index,
			  const void *data, uint32_t size,
			  struct vmf_error *error)
{
	return 0;
}

int vmf_engine_get_config(struct vmf_engine *engine, uint32_t index,
			  void *data, uint32_t *size, struct vmf_error *error)
{
	*size = 0;
	return vmf_engine_set_config(engine, index, data, 0, error);
}

/* When channels break the library hears the peer out, which may say why. */
int vmf_engine_status(struct vmf_engine *engine,
		      struct vfio_multifd_status *status)
{
	memset(status, 0, sizeof(*status));
	status->state = VFIO_MULTIFD_STATE_DONE;
	if (breaks) {
		status->state = VFIO_MULTIFD_STATE_FAILED;
		status->reason = VFIO_MULTIFD_REASON_EOF;
		victim = said;
		say(VMF_FAILED);
	}
	return 0;
}

/*
 * The source asks for it when a round begins, whether it is at its end, and what it
 * sent then; when that is acknowledged, when pre-copy ends, and before it says SENT.
 */
int vmf_engine_device_status(struct vmf_engine *engine, uint32_t index,
			     uint64_t wake_packets,
			     struct vfio_multifd_device_status *status)
{
	if (sending && index == DEVICES - 1) {
		asked++;
		if (asked == 3)
			say(VMF_ROUND_ACK);
		else if (asked == 6)
			say(VMF_LOADED);
	}
	memset(status, 0, sizeof(*status));
	status->paused = 1;
	status->bytes = BYTES;
	status->packets = 2;
	return 0;
}

void vmf_engine_explain(const struct vmf_engine *engine,
			const struct vfio_multifd_status *status,
			char *text, size_t size)
{
	snprintf(text, size, "reason %u", status->reason);
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
		.address = sending ? name : "127.0.0.1:0",
		.devices = DEVICES, .device = device,
		.channels = CHANNELS, .packet_size = PACKET,
		.features = FEATURES,
		.downtime_limit = 300, .max_rounds = 5,
		.trigger_fd = -1, .cancel_fd = -1,
		.timeout = VMF_MIN_TIMEOUT, .event = event,
	};
	static struct vmf_report report;
	unsigned int fds = open_fds();
	socklen_t size = sizeof(address);

	memset(device, 0, sizeof(device));
	for (unsigned int i = 0; i < DEVICES; i++) {
		device[i].fd = 1000 + i;
		device[i].config_fd = -1;
		device[i].multifd = i || any(2) ? VMF_MULTIFD_AUTO :
						  VMF_MULTIFD_OFF;
		snprintf(device[i].idstr, sizeof(device[i].idstr), "vfio%u", i);
	}
	if (sending)
		getsockname(listener, (struct sockaddr *)&address, &size);
	snprintf(name, sizeof(name), "127.0.0.1:%u", ntohs(address.sin_port));
	victim = change_at;
	said = 0;
	section = 0;
	asked = 0;
	peer = -1;
	memset(channels, -1, sizeof(channels));

	if (sending)
		vmf_send(&params, &report);
	else
		vmf_recv(&params, &report);
	close(peer);
	for (unsigned int i = 0; i < CHANNELS; i++)
		if (channels[i] >= 0)
			close(channels[i]);

	outcomes[report.outcome]++;
	if (victim == NONE && report.outcome != VMF_DONE)
		snprintf(problem, sizeof(problem), "a good peer: %.200s",
			 report.text);
	if (open_fds() != fds)
		snprintf(problem, sizeof(problem), "%u fds, before it %u",
			 open_fds(), fds);
	return !*problem;
}

/* Changes one of the @messages that the peer has for this end. */
static bool run(bool send, unsigned int messages)
{
	sending = send;
	breaks = false;
	memset(outcomes, 0, sizeof(outcomes));
	for (unsigned int i = 0; i < ROUNDS; i++) {
		if (!transfer(i ? any(messages) : NONE)) {
			printf("%s, round %u: %s\n", send ? "send" : "recv", i,
			       problem);
			return false;
		}
		breaks = !any(16);
	}
	printf("%s:", send ? "send" : "recv");
	for (unsigned int i = 0; i <= VMF_LOST; i++)
		printf(" %u %s", outcomes[i], vmf_outcome_name(i));
	printf("\n");
	return true;
}

int main(int argc, char **argv)
{
	random_state = argc > 1 ? strtoull(argv[1], NULL, 0) | 1 : 1;
	alarm(LIMIT);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || listen(listener, 16)) {
		perror("listening");
		return 1;
	}
	/*
	 * HELLO, channels, SECTIONs, ROUND, STOPPING, SENT, COMMIT; and what answers
	 * these
	 */
	return !run(false, 5 + CHANNELS + SECTIONS) || !run(true, 5);
}

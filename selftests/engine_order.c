// SPDX-License-Identifier: GPL-2.0-only
/* The receiver's two ways: in the order of the idx, or as the records come */
#include <endian.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <vfio_record.h>

#include "harness.h"
#include "engine.h"
#include "vfio.h"

#define DEVICES		4
#define CHANNELS	4
#define PACKETS		80	/* of each device, without the config state */

/*
 * What a sender does: a channel that is free takes the next packet and sends
 * it, however long that takes, before it takes another.
 */
struct sender {
	pthread_mutex_t lock;	/* protects next and all in packet */
	struct wire_packet *packet;
	size_t nr;
	size_t next;
	struct engine *engine;
};

struct writer {
	pthread_t thread;
	struct sender *sender;
	struct engine_channel *channel;
	uint64_t dice;
};

static bool take(struct sender *sender, struct wire_packet *packet)
{
	bool some;

	pthread_mutex_lock(&sender->lock);
	some = sender->next < sender->nr;
	if (some)
		*packet = sender->packet[sender->next++];
	pthread_mutex_unlock(&sender->lock);
	return some;
}

static void rest(struct writer *writer)
{
	uint64_t dice = vfio_random(&writer->dice);

	if (dice % 8 == 0)
		usleep(vfio_random(&writer->dice) % 20000);
}

static int send_all(struct writer *writer, struct wire_bytes *bytes)
{
	size_t done = 0;

	while (done < bytes->len) {
		size_t some = vfio_random(&writer->dice) % 4096 + 1;
		ssize_t len;

		if (some > bytes->len - done)
			some = bytes->len - done;
		len = send(writer->channel->sock, bytes->at + done, some,
			   MSG_NOSIGNAL);
		if (len < 0)
			return -1;
		done += len;
		rest(writer);
	}
	bytes->len = 0;
	return 0;
}

static void *write_channel(void *arg)
{
	struct writer *writer = arg;
	struct wire_bytes *bytes = &writer->channel->bytes;
	struct wire_packet packet;

	wire_add_init(bytes, engine_uuid, writer->channel->id);
	while (take(writer->sender, &packet)) {
		rest(writer);
		wire_add_packet(bytes, &packet);
		if (send_all(writer, bytes))
			break;
	}
	return NULL;
}

FIXTURE(order) {
	struct engine engine;
	int file[DEVICES];
};

FIXTURE_SETUP(order)
{
	self->engine.fd = -1;
	ENGINE_NEEDED();
	for (unsigned int i = 0; i < DEVICES; i++)
		self->file[i] = engine_memfd(NULL, 0);
}

FIXTURE_TEARDOWN(order)
{
	engine_destroy(&self->engine);
	for (unsigned int i = 0; i < DEVICES; i++)
		close(self->file[i]);
}

/* Packets of all devices in a random order, but each device's in its own */
static void make_packets(struct sender *sender, uint8_t **data, size_t *len,
			 uint64_t *dice)
{
	uint32_t idx[DEVICES] = {};

	sender->nr = DEVICES * (PACKETS + 1);
	sender->packet = calloc(sender->nr, sizeof(*sender->packet));
	for (size_t i = 0; i < sender->nr; i++) {
		struct wire_packet *packet = &sender->packet[i];
		unsigned int device = vfio_random(dice) % DEVICES;

		while (idx[device] > PACKETS)
			device = (device + 1) % DEVICES;
		*packet = (struct wire_packet) {
			.idstr = "dev",
			.instance = device,
			.idx = idx[device]++,
			.flags = WIRE_DIGEST,
			.data = data[device] + len[device],
			.len = vfio_random(dice) % ENGINE_PACKET + 1,
		};
		if (packet->idx == PACKETS)
			packet->flags |= WIRE_CONFIG;
		else
			len[device] += packet->len;
	}
}

/* Every channel has its own pace, and no device waits for ever */
TEST_F(order, delays)
{
	struct sender sender = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct engine *engine = &self->engine;
	struct writer writer[CHANNELS];
	size_t len[DEVICES] = {};
	uint8_t *data[DEVICES];
	uint64_t dice = 8;

	for (unsigned int i = 0; i < DEVICES; i++)
		data[i] = engine_pattern((PACKETS + 1) * ENGINE_PACKET, i);
	make_packets(&sender, data, len, &dice);
	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_RECV, CHANNELS,
				   VFIO_MULTIFD_FEATURE_DIGEST, ENGINE_PACKET,
				   4096));
	engine_start_all(engine);
	for (unsigned int i = 0; i < CHANNELS; i++) {
		writer[i] = (struct writer) {
			.sender = &sender,
			.channel = &engine->channel[i],
			.dice = vfio_random(&dice),
		};
		ASSERT_EQ(0, pthread_create(&writer[i].thread, NULL,
					    write_channel, &writer[i]));
	}
	for (unsigned int i = 0; i < DEVICES; i++) {
		usleep(20000);
		ASSERT_EQ(i, engine_add_device(engine->fd, self->file[i],
					       "dev", i));
	}
	ASSERT_EQ(0, engine_switchover(engine->fd));
	EXPECT_EQ(0, engine_join_all(engine));
	for (unsigned int i = 0; i < CHANNELS; i++)
		pthread_join(writer[i].thread, NULL);
	for (unsigned int i = 0; i < DEVICES; i++) {
		EXPECT_TRUE(engine_file_has(self->file[i], data[i], len[i]));
		free(data[i]);
	}
	free(sender.packet);
}

#define PACKET		8192	/* bytes, for the order-free */
#define RECORD		1000	/* bytes */
#define RECORDS		150
#define FIRST		((uint32_t)sizeof(struct vfio_record))

/* What the sender says, and what the receiver can do */
struct kind {
	uint64_t features;
	uint32_t says;		/* flags of packet 0 */
	uint32_t device;	/* flags of the device */
	bool memfd;
	bool order_free;	/* so what becomes of it */
};

struct records {
	struct kind kind;
	struct engine engine;
	int pipes[2];
	int file;		/* the device */
	uint8_t *data;		/* header record, RECORDS records */
};

FIXTURE(free_order) {
	struct records records;
};

FIXTURE_VARIANT(free_order) {
	struct kind kind;
};

FIXTURE_VARIANT_ADD(free_order, yes) {
	.kind = {
		.features = VFIO_MULTIFD_FEATURE_ORDER_FREE,
		.says = WIRE_FREE,
		.device = VFIO_MULTIFD_DEVICE_RECORDS,
		.order_free = true,
	},
};

FIXTURE_VARIANT_ADD(free_order, with_digest) {
	.kind = {
		.features = VFIO_MULTIFD_FEATURE_ORDER_FREE |
			    VFIO_MULTIFD_FEATURE_DIGEST,
		.says = WIRE_FREE,
		.device = VFIO_MULTIFD_DEVICE_RECORDS,
		.order_free = true,
	},
};

FIXTURE_VARIANT_ADD(free_order, not_agreed) {
	.kind = {
		.features = VFIO_MULTIFD_FEATURE_DIGEST,
		.device = VFIO_MULTIFD_DEVICE_RECORDS,
	},
};

FIXTURE_VARIANT_ADD(free_order, not_said) {
	.kind = {
		.features = VFIO_MULTIFD_FEATURE_ORDER_FREE,
		.device = VFIO_MULTIFD_DEVICE_RECORDS,
	},
};

FIXTURE_VARIANT_ADD(free_order, no_records) {
	.kind = {
		.features = VFIO_MULTIFD_FEATURE_ORDER_FREE,
		.says = WIRE_FREE,
	},
};

FIXTURE_VARIANT_ADD(free_order, file_with_position) {
	.kind = {
		.features = VFIO_MULTIFD_FEATURE_ORDER_FREE,
		.says = WIRE_FREE,
		.device = VFIO_MULTIFD_DEVICE_RECORDS,
		.memfd = true,
	},
};

FIXTURE_SETUP(free_order)
{
	struct records *r = &self->records;

	r->engine.fd = -1;
	ENGINE_NEEDED();
	r->kind = variant->kind;
	ASSERT_EQ(0, pipe(r->pipes));
	ASSERT_LT(0, fcntl(r->pipes[1], F_SETPIPE_SZ, 1 << 20));
	r->file = r->kind.memfd ? engine_memfd(NULL, 0) :
				      dup(r->pipes[1]);
	r->data = engine_pattern(FIRST + RECORDS * RECORD, 9);
}

FIXTURE_TEARDOWN(free_order)
{
	struct records *r = &self->records;

	engine_destroy(&r->engine);
	close(r->pipes[0]);
	close(r->pipes[1]);
	close(r->file);
	free(r->data);
}

/* The packet with a record, numbered from 1; 0 is the header record */
static void add_record(struct records *r, unsigned int channel, uint32_t nr)
{
	size_t end = FIRST + nr * RECORD;
	size_t start = nr ? end - RECORD : 0;

	engine_add(&r->engine, channel, nr, nr ? 0 : r->kind.says,
		   r->data + start, end - start);
}

/* Does the device have all records, each once, the header first? */
static bool has_records(struct records *r)
{
	bool seen[RECORDS] = {};
	uint8_t got[RECORD];

	fcntl(r->pipes[0], F_SETFL, O_NONBLOCK);
	if (read(r->pipes[0], got, FIRST) != FIRST ||
	    memcmp(got, r->data, FIRST))
		return false;
	for (unsigned int i = 0; i < RECORDS; i++) {
		unsigned int nr = 0;

		if (read(r->pipes[0], got, RECORD) != RECORD)
			return false;
		while (nr < RECORDS && memcmp(got, r->data + FIRST +
					      nr * RECORD, RECORD))
			nr++;
		if (nr == RECORDS || seen[nr])
			return false;
		seen[nr] = true;
	}
	return read(r->pipes[0], got, 1) < 0;
}

/* Does the device have all bytes, as the stream says in any order or not? */
static bool has_all(struct records *r)
{
	size_t len = FIRST + RECORDS * RECORD;
	uint8_t *got;
	bool same;

	if (r->kind.order_free)
		return has_records(r);
	if (r->kind.memfd)
		return engine_file_has(r->file, r->data, len);
	got = malloc(len);
	same = read(r->pipes[0], got, len) == (ssize_t)len &&
	       !memcmp(got, r->data, len);
	free(got);
	return same;
}

/* A sealed receiver with the device, and its channels' first bytes */
static void begin(struct __test_metadata *_metadata, struct records *r)
{
	struct engine *engine = &r->engine;

	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_RECV, CHANNELS,
				   r->kind.features, PACKET, 0));
	ASSERT_EQ(0, engine_add_device_with(engine->fd, r->kind.device,
					    r->file, "dev", 0));
	ASSERT_EQ(0, engine_switchover(engine->fd));
	engine_add_inits(engine);
}

/* Brings a transfer to where channel 0 is in the middle of a packet */
static void stall(struct __test_metadata *_metadata, struct records *r)
{
	struct engine *engine = &r->engine;

	begin(_metadata, r);
	add_record(r, 1, 0);
	add_record(r, 0, 1);
	for (unsigned int i = 2; i <= RECORDS; i++)
		add_record(r, i % 3 + 1, i);
	engine_add(engine, 2, RECORDS + 1, WIRE_CONFIG, "end", 3);

	engine->channel[0].bytes.len -= RECORD / 2;
	for (unsigned int i = 0; i < CHANNELS; i++)
		ASSERT_EQ(0, engine_put(&engine->channel[i]));
	engine_start_all(engine);
}

/* While channel 0 hangs in a packet the others load all that there is */
TEST_F(free_order, stalled_channel)
{
	struct records *r = &self->records;
	struct engine *engine = &r->engine;
	struct vfio_multifd_status status;

	stall(_metadata, r);
	if (r->kind.order_free) {
		/* all but the one that hangs */
		EXPECT_TRUE(engine_wait_packets(engine->fd, RECORDS + 1));
	} else {
		EXPECT_TRUE(engine_wait_packets(engine->fd, 1));
		usleep(100000);
	}
	ASSERT_EQ(0, engine_status(engine->fd, &status));
	EXPECT_EQ(r->kind.order_free ? RECORDS + 1 : 1, status.packets);
	EXPECT_EQ(VFIO_MULTIFD_STATE_SEALED, status.state);
	EXPECT_EQ(0, status.devices_done);
	engine->channel[0].bytes.len = RECORD / 2;
	memcpy(engine->channel[0].bytes.at,
	       r->data + FIRST + RECORD - RECORD / 2, RECORD / 2);
	ASSERT_EQ(0, engine_put(&engine->channel[0]));
	EXPECT_EQ(0, engine_join_all(engine));
	EXPECT_TRUE(has_all(r));
}

/* Nothing is loaded before the header record, whatever is there */
TEST_F(free_order, header_last)
{
	struct records *r = &self->records;
	struct engine *engine = &r->engine;
	struct vfio_multifd_status status;

	begin(_metadata, r);
	for (unsigned int i = 1; i <= RECORDS; i++)
		add_record(r, i % 3 + 1, i);
	for (unsigned int i = 0; i < CHANNELS; i++)
		ASSERT_EQ(0, engine_put(&engine->channel[i]));
	engine_start_all(engine);
	usleep(50000);
	ASSERT_EQ(0, engine_status(engine->fd, &status));
	EXPECT_EQ(0, status.packets);
	add_record(r, 0, 0);
	engine_add(engine, 0, RECORDS + 1, WIRE_CONFIG, NULL, 0);
	ASSERT_EQ(0, engine_put(&engine->channel[0]));
	EXPECT_EQ(0, engine_join_all(engine));
	EXPECT_TRUE(has_all(r));
}

/* Are several channels in the device's read at the same time? */
static bool many_read(struct engine *engine)
{
	struct vfio_multifd_channel_status status;
	uint64_t before[CHANNELS];
	unsigned int reading, i;

	for (unsigned int ms = 0; ms < 10000; ms++) {
		for (reading = 0, i = 0; i < 2 * CHANNELS; i++) {
			if (engine_channel_status(engine->fd, i % CHANNELS,
						  &status))
				return false;
			if (i < CHANNELS)
				before[i] = status.device_ns;
			else
				reading += status.device_ns > before[i - CHANNELS];
		}
		if (reading == CHANNELS)
			return true;
		usleep(1000);
	}
	return false;
}

/* A sender's channels read an order-free stream at once, and lose nothing */
TEST_F(order, many_readers)
{
	const unsigned int records = 300;
	struct vfio_record first = {
		.tag = htole32(VFIO_RECORD_MAGIC),
		.flags = htole32(VFIO_RECORD_ORDER_FREE),
	};
	struct engine *engine = &self->engine;
	struct wire_packets packets;
	bool seen[300] = {};
	const char *wrong;
	int pipes[2];

	/* a read takes what one write wrote */
	ASSERT_EQ(0, pipe2(pipes, O_DIRECT));
	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_SEND, CHANNELS,
				   VFIO_MULTIFD_FEATURE_ORDER_FREE, PACKET, 0));
	ASSERT_EQ(0, engine_add_device_with(engine->fd,
					    VFIO_MULTIFD_DEVICE_RECORDS,
					    pipes[0], "dev", 0));
	close(pipes[0]);
	ASSERT_EQ(0, engine_set_config(engine->fd, 0, "end", 3));
	engine_start_all(engine);
	engine_read_all(engine);
	ASSERT_EQ(0, engine_switchover(engine->fd));
	ASSERT_EQ(sizeof(first), write(pipes[1], &first, sizeof(first)));
	EXPECT_TRUE(many_read(engine));
	for (unsigned int i = 0; i < records; i++)
		ASSERT_EQ(sizeof(i), write(pipes[1], &i, sizeof(i)));
	close(pipes[1]);
	EXPECT_EQ(0, engine_join_all(engine));
	engine_close(engine);
	wrong = engine_parse(engine, &packets);
	ASSERT_EQ(NULL, wrong) TH_LOG("%s", wrong);
	ASSERT_EQ(records + 2, packets.nr);
	for (unsigned int i = 0; i < packets.nr; i++) {
		const struct wire_packet *packet = &packets.packet[i];
		unsigned int nr;

		ASSERT_GT(records + 2, packet->idx);
		if (!packet->idx)
			EXPECT_EQ(WIRE_FREE, packet->flags);
		EXPECT_EQ(packet->idx == records + 1,
			  packet->flags & WIRE_CONFIG);
		if (!packet->idx || packet->idx == records + 1)
			continue;
		ASSERT_EQ(sizeof(nr), packet->len);
		memcpy(&nr, packet->data, sizeof(nr));
		ASSERT_GT(records, nr);
		EXPECT_FALSE(seen[nr]);
		seen[nr] = true;
	}
	free(packets.packet);
}

/* What a sender says of a stream in its first packet */
TEST_F(order, said)
{
	static const struct {
		uint64_t features;
		uint32_t device;
		uint32_t tag;
		uint32_t flags;
		uint32_t len;
		bool memfd;
		uint32_t says;
	} cases[] = {
#define FREE	VFIO_MULTIFD_FEATURE_ORDER_FREE
		{ FREE, 1, VFIO_RECORD_MAGIC, 3, FIRST, false, WIRE_FREE },
		{ FREE, 1, VFIO_RECORD_MAGIC, 3, FIRST - 1, false, 0 },
		{ FREE, 1, VFIO_RECORD_MAGIC, 1, FIRST, false, 0 },
		{ FREE, 1, VFIO_RECORD_MAGIC + 1, 3, FIRST, false, 0 },
		{ FREE, 1, VFIO_RECORD_MAGIC, 3, FIRST, true, 0 },
		{ FREE, 0, VFIO_RECORD_MAGIC, 3, FIRST, false, 0 },
		{ 0, 1, VFIO_RECORD_MAGIC, 3, FIRST, false, 0 },
	};
	struct engine *engine = &self->engine;
	struct wire_packets packets;

	for (unsigned int i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct vfio_record first = {
			.tag = htole32(cases[i].tag),
			.flags = htole32(cases[i].flags),
		};
		int pipes[2];
		int file;

		ASSERT_EQ(0, pipe(pipes));
		ASSERT_EQ(cases[i].len, write(pipes[1], &first, cases[i].len));
		file = pipes[0];
		if (cases[i].memfd)
			file = engine_memfd(&first, cases[i].len);
		ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_SEND, 1,
					   cases[i].features, PACKET, 0));
		ASSERT_EQ(0, engine_add_device_with(engine->fd, cases[i].device,
						    file, "dev", 0));
		if (cases[i].memfd)
			close(file);
		close(pipes[0]);
		close(pipes[1]);
		ASSERT_EQ(0, engine_set_config(engine->fd, 0, "end", 3));
		engine_start_all(engine);
		engine_read_all(engine);
		ASSERT_EQ(0, engine_switchover(engine->fd));
		EXPECT_EQ(0, engine_join_all(engine));
		engine_close(engine);
		ASSERT_EQ(NULL, engine_parse(engine, &packets));
		ASSERT_EQ(2, packets.nr);
		EXPECT_EQ(cases[i].says, packets.packet[0].flags)
			TH_LOG("case %u", i);
		free(packets.packet);
		engine_destroy(engine);
	}
}

/* Only the first packet of a device may say that order does not matter */
TEST_F(order, said_elsewhere)
{
	static const uint32_t idx[] = { 1, 0 };
	static const uint32_t flags[] = { WIRE_FREE, WIRE_FREE | WIRE_CONFIG };
	struct engine *engine = &self->engine;
	struct vfio_multifd_status status;

	for (unsigned int i = 0; i < 2; i++) {
		int file = engine_memfd(NULL, 0);

		ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_RECV, 1, FREE,
					   PACKET, 0));
		ASSERT_EQ(0, engine_add_device(engine->fd, file, "dev", 0));
		close(file);
		engine_add_inits(engine);
		engine_add(engine, 0, idx[i], flags[i], "data", 4);
		ASSERT_EQ(0, engine_put(&engine->channel[0]));
		shutdown(engine->channel[0].sock, SHUT_WR);
		engine_start_all(engine);
		EXPECT_EQ(-EPROTO, engine_join_all(engine));
		ASSERT_EQ(0, engine_status(engine->fd, &status));
		EXPECT_EQ(VFIO_MULTIFD_REASON_FLAGS, status.reason);
		engine_destroy(engine);
	}
}

/* The rest of a record could come behind those of others: this fails */
TEST_F(order, short_write)
{
	struct engine *engine = &self->engine;
	struct vfio_multifd_status status;
	static const uint8_t data[8192];
	int pipes[2];

	/* room for the first packet, which takes a page, and half of the next */
	ASSERT_EQ(0, pipe2(pipes, O_NONBLOCK));
	ASSERT_EQ(8192, fcntl(pipes[1], F_SETPIPE_SZ, 8192));
	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_RECV, 1, FREE, PACKET,
				   0));
	ASSERT_EQ(0, engine_add_device_with(engine->fd,
					    VFIO_MULTIFD_DEVICE_RECORDS,
					    pipes[1], "dev", 0));
	close(pipes[1]);
	engine_add_inits(engine);
	engine_add(engine, 0, 0, WIRE_FREE, data, FIRST);
	engine_add(engine, 0, 1, 0, data, sizeof(data));
	engine_start_all(engine);
	ASSERT_EQ(0, engine_put(&engine->channel[0]));
	EXPECT_EQ(-EIO, engine_join_all(engine));
	ASSERT_EQ(0, engine_status(engine->fd, &status));
	EXPECT_EQ(VFIO_MULTIFD_REASON_DEVICE_WRITE, status.reason);
	EXPECT_EQ(4096, status.got);
	close(pipes[0]);
}

TEST_F(order, nothing_left)
{
	EXPECT_TRUE(engine_wait_unused());
}

TEST_HARNESS_MAIN

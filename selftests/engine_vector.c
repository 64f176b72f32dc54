// SPDX-License-Identifier: GPL-2.0-only
/* The bytes of version 1, which every later version must load and send */
#include <fcntl.h>
#include <sys/socket.h>

#include "harness.h"
#include "engine.h"

/* vectors/README says what is in them */
static const uint8_t plain[] = {
#include "vectors/channel-v1.inc"
};

static const uint8_t digest[] = {
#include "vectors/channel-v1-digest.inc"
};

#define CHANNEL		3
#define IDSTR		"0000:00:03.0/vfio"
#define INSTANCE	7
#define FIRST		64	/* bytes of data in idx 0 */
#define TEXT		"vfio-multifd, version 1\n"
#define CONFIG		"config state"
#define DATA		(FIRST + sizeof(TEXT) - 1)

struct vector {
	const uint8_t *bytes;
	size_t len;
	uint64_t features;
};

FIXTURE(vector) {
	struct engine engine;
	uint8_t data[DATA];
};

FIXTURE_VARIANT(vector) {
	struct vector v;
};

FIXTURE_VARIANT_ADD(vector, plain) {
	.v = { .bytes = plain, .len = sizeof(plain) },
};

FIXTURE_VARIANT_ADD(vector, digest) {
	.v = {
		.bytes = digest,
		.len = sizeof(digest),
		.features = VFIO_MULTIFD_FEATURE_DIGEST,
	},
};

FIXTURE_SETUP(vector)
{
	self->engine.fd = -1;
	for (unsigned int i = 0; i < FIRST; i++)
		self->data[i] = i;
	memcpy(self->data + FIRST, TEXT, DATA - FIRST);
}

FIXTURE_TEARDOWN(vector)
{
	engine_destroy(&self->engine);
}

/* The tests' decoder takes it apart */
TEST_F(vector, decode)
{
	struct wire_bytes bytes = {};
	struct wire_packets packets = {};
	struct wire_state state = {};
	const char *wrong;

	wire_add(&bytes, variant->v.bytes, variant->v.len);
	wrong = wire_parse(&packets, &bytes, engine_uuid, CHANNEL,
			   variant->v.features);
	ASSERT_EQ(NULL, wrong) TH_LOG("%s", wrong);
	EXPECT_EQ(3, packets.nr);
	wrong = wire_join(&state, &packets, IDSTR, INSTANCE);
	ASSERT_EQ(NULL, wrong) TH_LOG("%s", wrong);
	ASSERT_EQ(DATA, state.data.len);
	EXPECT_EQ(0, memcmp(self->data, state.data.at, DATA));
	ASSERT_EQ(strlen(CONFIG), state.config.len);
	EXPECT_EQ(0, memcmp(CONFIG, state.config.at, strlen(CONFIG)));
	wire_state_free(&state);
	free(packets.packet);
	wire_free(&bytes);
}

/* The engine makes just these bytes of two reads and the config state */
TEST_F(vector, send)
{
	struct engine *engine = &self->engine;
	uint8_t got[sizeof(digest) + 1];
	int pipes[2];

	ENGINE_NEEDED();
	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_SEND, CHANNEL + 1,
				   variant->v.features, ENGINE_PACKET, 0));
	/* a read takes what one write wrote */
	ASSERT_EQ(0, pipe2(pipes, O_DIRECT));
	ASSERT_EQ(0, engine_add_device(engine->fd, pipes[0], IDSTR, INSTANCE));
	close(pipes[0]);
	ASSERT_EQ(FIRST, write(pipes[1], self->data, FIRST));
	ASSERT_EQ(DATA - FIRST, write(pipes[1], self->data + FIRST,
				      DATA - FIRST));
	close(pipes[1]);
	ASSERT_EQ(0, engine_set_config(engine->fd, 0, CONFIG, strlen(CONFIG)));
	ASSERT_EQ(0, engine_switchover(engine->fd));
	ASSERT_EQ(0, engine_run(engine->fd, CHANNEL));
	engine_close(engine);
	ASSERT_EQ(variant->v.len, recv(engine->channel[CHANNEL].sock, got,
				       sizeof(got), MSG_WAITALL));
	EXPECT_EQ(0, memcmp(variant->v.bytes, got, variant->v.len));
}

/* Loads the vector in pieces of so many bytes */
static void load(struct __test_metadata *_metadata, struct engine *engine,
		 const uint8_t *data, const struct vector *v, size_t piece)
{
	int file = engine_memfd(NULL, 0);
	char config[32] = "";
	uint32_t size = sizeof(config);

	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_RECV, CHANNEL + 1,
				   v->features, ENGINE_PACKET, 0));
	ASSERT_EQ(0, engine_add_device(engine->fd, file, IDSTR, INSTANCE));
	ASSERT_EQ(0, engine_switchover(engine->fd));
	engine_start(&engine->channel[CHANNEL]);
	for (size_t done = 0; done < v->len; done += piece) {
		struct wire_bytes *bytes = &engine->channel[CHANNEL].bytes;
		size_t left = v->len - done;

		wire_add(bytes, v->bytes + done,
			 piece < left ? piece : left);
		ASSERT_EQ(0, engine_put(&engine->channel[CHANNEL]));
	}
	ASSERT_EQ(0, engine_join(&engine->channel[CHANNEL]));
	EXPECT_TRUE(engine_file_has(file, data, DATA));
	EXPECT_EQ(0, engine_get_config(engine->fd, 0, config, &size));
	ASSERT_EQ(strlen(CONFIG), size);
	EXPECT_EQ(0, memcmp(CONFIG, config, size));
	engine_destroy(engine);
	close(file);
}

TEST_F(vector, load)
{
	static const size_t pieces[] = { 1 << 20, 511, 64, 7, 1 };

	ENGINE_NEEDED();
	for (unsigned int i = 0; i < 5; i++)
		load(_metadata, &self->engine, self->data, &variant->v,
		     pieces[i]);
}

TEST_HARNESS_MAIN

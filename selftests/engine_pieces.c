// SPDX-License-Identifier: GPL-2.0-only
/* The engine as the receiver: data in pieces of whatever size, wherever they lie */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "harness.h"
#include "engine.h"
#include "vfio.h"

#define PACKET		(1 << 20)
#define PAGE		4096
#define BATCH		8	/* pieces for the pipe at once */

struct rig {
	struct engine engine;
	int file;
	int pipe[2];
	uint8_t *pages;		/* pieces are in, and those of the last batch */
	unsigned int next;	/* piece: half a page */
	size_t last;		/* bytes of the one before */
};

FIXTURE(pieces) {
	struct rig rig;
};

/* Pieces of @size and of @other bytes in turn, or of random sizes up to @most */
struct how {
	size_t size, other, most;
	bool spliced;		/* from a page of its own each */
};

FIXTURE_VARIANT(pieces) {
	size_t bytes;
	struct how how;
};

FIXTURE_VARIANT_ADD(pieces, single_bytes) {
	.bytes = 20000, .how = { .size = 1, .other = 1 },
};

FIXTURE_VARIANT_ADD(pieces, below_a_reference) {
	.bytes = 400000, .how = { .size = 1023, .other = 1023 },
};

FIXTURE_VARIANT_ADD(pieces, large) {
	.bytes = 3 * PACKET + 5, .how = { .size = 100000, .other = 7 },
};

FIXTURE_VARIANT_ADD(pieces, random) {
	.bytes = 2 * PACKET, .how = { .most = 9000 },
};

FIXTURE_VARIANT_ADD(pieces, spliced_references) {
	.bytes = PACKET, .how = { .size = 1024, .other = 1024, .spliced = true },
};

FIXTURE_VARIANT_ADD(pieces, spliced_in_between) {
	.bytes = 2 * PACKET, .how = { .size = 1024, .other = 1, .spliced = true },
};

FIXTURE_VARIANT_ADD(pieces, spliced_pages) {
	.bytes = 3 * PACKET + 1, .how = { .size = PAGE, .other = PAGE, .spliced = true },
};

FIXTURE_VARIANT_ADD(pieces, spliced_random) {
	.bytes = 2 * PACKET, .how = { .most = PAGE, .spliced = true },
};

FIXTURE_SETUP(pieces)
{
	struct engine *engine = &self->rig.engine;
	int on = 1;

	engine->fd = -1;
	ENGINE_NEEDED();
	self->rig.file = engine_memfd(NULL, 0);
	ASSERT_EQ(0, pipe(self->rig.pipe));
	self->rig.pages = mmap(NULL, 2 * BATCH * PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->rig.pages);
	ASSERT_EQ(0, engine_create(engine, VFIO_MULTIFD_RECV, 1,
				   VFIO_MULTIFD_FEATURE_DIGEST, PACKET, 0));
	ASSERT_EQ(0, engine_add_device(engine->fd, self->rig.file, "dev", 0));
	ASSERT_EQ(0, setsockopt(engine->channel[0].sock, IPPROTO_TCP,
				TCP_NODELAY, &on, sizeof(on)));
	engine_add_inits(engine);
}

FIXTURE_TEARDOWN(pieces)
{
	engine_destroy(&self->rig.engine);
	munmap(self->rig.pages, 2 * BATCH * PAGE);
	close(self->rig.file);
	close(self->rig.pipe[0]);
	close(self->rig.pipe[1]);
}

static bool put_copied(struct rig *rig, const uint8_t *at, size_t len)
{
	return send(rig->engine.channel[0].sock, at, len, 0) == (ssize_t)len;
}

/*
 * The socket gets pages, in which it finds the pieces somewhere: two in one, with a gap,
 * if they fit.
 */
static bool put_spliced(struct rig *rig, const uint8_t *at, size_t len)
{
	bool second = rig->next % 2 && rig->last + len < PAGE;
	uint8_t *page = rig->pages + rig->next / 2 * PAGE;
	size_t offset = second ? PAGE - len : 0;
	struct iovec vec = { .iov_base = page + offset, .iov_len = len };
	int sock = rig->engine.channel[0].sock;

	if (!second)
		page = mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE |
			    MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	rig->next = (rig->next + 1) % (2 * BATCH);
	rig->last = len;
	memcpy(page + offset, at, len);
	return vmsplice(rig->pipe[1], &vec, 1, 0) == (ssize_t)len &&
	       splice(rig->pipe[0], NULL, sock, NULL, len,
		      rig->next % BATCH ? SPLICE_F_MORE : 0) == (ssize_t)len;
}

/* The headers come like the data */
static bool put_all(struct rig *rig, const struct how *how)
{
	const struct wire_bytes *bytes = &rig->engine.channel[0].bytes;
	uint64_t dice = 1;
	size_t done = 0, n;

	for (unsigned int i = 0; done < bytes->len; i++) {
		n = i % 2 ? how->other : how->size;
		if (how->most)
			n = 1 + vfio_random(&dice) % how->most;
		if (n > bytes->len - done)
			n = bytes->len - done;
		if (!(how->spliced ? put_spliced : put_copied)(rig, bytes->at + done, n))
			return false;
		done += n;
	}
	return true;
}

static void make_packets(struct engine *engine, const uint8_t *data, size_t len)
{
	uint32_t idx = 0;

	for (size_t done = 0; done < len; done += PACKET) {
		size_t n = len - done < PACKET ? len - done : PACKET;

		engine_add(engine, 0, idx++, 0, data + done, n);
	}
	engine_add(engine, 0, idx, WIRE_CONFIG, "config", 6);
}

TEST_F(pieces, are_put_together)
{
	uint8_t *data = engine_pattern(variant->bytes, 1);

	make_packets(&self->rig.engine, data, variant->bytes);
	engine_start_all(&self->rig.engine);
	EXPECT_TRUE(put_all(&self->rig, &variant->how));
	ASSERT_EQ(0, engine_switchover(self->rig.engine.fd));
	ASSERT_EQ(0, engine_join_all(&self->rig.engine));
	EXPECT_TRUE(engine_file_has(self->rig.file, data, variant->bytes));
	free(data);
}

/* What waits already when the receiver begins is one skb, or few */
TEST_F(pieces, that_wait)
{
	size_t len = variant->bytes < 60000 ? variant->bytes : 60000;
	uint8_t *data = engine_pattern(len, 2);

	make_packets(&self->rig.engine, data, len);
	EXPECT_TRUE(put_all(&self->rig, &variant->how));
	engine_start_all(&self->rig.engine);
	ASSERT_EQ(0, engine_switchover(self->rig.engine.fd));
	ASSERT_EQ(0, engine_join_all(&self->rig.engine));
	EXPECT_TRUE(engine_file_has(self->rig.file, data, len));
	free(data);
}

/* Urgent data is no part of the stream, wherever it comes. */
TEST_F(pieces, with_urgent_data_between)
{
	struct wire_bytes *bytes = &self->rig.engine.channel[0].bytes;
	int sock = self->rig.engine.channel[0].sock;
	size_t len = variant->bytes, half;
	uint8_t *data = engine_pattern(len, 3);

	make_packets(&self->rig.engine, data, len);
	half = bytes->len / 2;
	engine_start_all(&self->rig.engine);
	ASSERT_EQ((ssize_t)half, send(sock, bytes->at, half, 0));
	ASSERT_EQ(1, send(sock, "!", 1, MSG_OOB));
	ASSERT_EQ((ssize_t)(bytes->len - half),
		  send(sock, bytes->at + half, bytes->len - half, 0));
	ASSERT_EQ(0, engine_switchover(self->rig.engine.fd));
	ASSERT_EQ(0, engine_join_all(&self->rig.engine));
	EXPECT_TRUE(engine_file_has(self->rig.file, data, len));
	free(data);
}

TEST_HARNESS_MAIN

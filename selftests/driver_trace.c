// SPDX-License-Identifier: GPL-2.0-only
/* What tracepoints and debugfs tell of a migration */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "harness.h"
#include "pair.h"
#include "race.h"
#include "testing.h"

#define TRACING		"/sys/kernel/tracing/instances/vfio-multifd"
#define DEBUGFS		"/sys/kernel/debug/vfio"
#define TRACE_SIZE	(1 << 20)
#define FEATURES	(VFIO_MULTIFD_FEATURE_DIGEST | VFIO_MULTIFD_FEATURE_ORDER_FREE)

static size_t get(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY);
	size_t len = 0;
	ssize_t n;

	while (fd >= 0 && len < size - 1) {
		n = read(fd, text + len, size - 1 - len);
		if (n <= 0)
			break;
		len += n;
	}
	text[len] = '\0';
	close(fd);
	return len;
}

FIXTURE(trace) {
	struct pair pair;
	char *text;
	uint64_t start;
};

FIXTURE_SETUP(trace)
{
	ENGINE_NEEDED();
	TESTING_SETUP(pair_open(&self->pair, &vfio_ivshmem_1m));
	rmdir(TRACING);
	ASSERT_EQ(0, mkdir(TRACING, 0700));
	ASSERT_EQ(0, vfio_write_file(TRACING "/events/qemu_vfio_pci/enable", "1"));
	ASSERT_EQ(0, vfio_write_file(TRACING "/events/vfio_multifd/enable", "1"));
	self->text = malloc(TRACE_SIZE);
	self->start = engine_now();
}

FIXTURE_TEARDOWN(trace)
{
	vfio_write_file(TRACING "/events/enable", "0");
	EXPECT_EQ(0, rmdir(TRACING));
	free(self->text);
	pair_close(&self->pair);
}

/*
 * The line of an event after @at that has @what in it, or NULL.  What it took
 * must be some time, and no more than there was.
 */
static const char *find(struct __test_metadata *_metadata, const char *at,
			uint64_t start, const char *event, const char *what)
{
	char line[512], name[64];
	const char *ns;

	snprintf(name, sizeof(name), " %s: ", event);
	for (; *at; at += strcspn(at, "\n"), at += *at == '\n') {
		snprintf(line, sizeof(line), "%.*s", (int)strcspn(at, "\n"),
			 at);
		if (!strstr(line, name) || !strstr(line, what))
			continue;
		ns = strstr(line, " ns=");
		if (ns) {
			EXPECT_LT(0, strtoull(ns + 4, NULL, 10));
			EXPECT_GT(engine_now() - start,
				  strtoull(ns + 4, NULL, 10));
		}
		return at + strcspn(at, "\n");
	}
	return NULL;
}

static void arc(struct __test_metadata *_metadata,
		FIXTURE_DATA(trace) const *self, const char **at,
		const char *from, const char *to, const char *state, int ret)
{
	char what[256];

	snprintf(what, sizeof(what), "device=%s from=%s to=%s state=%s ret=%d ",
		 self->pair.target.bdf, from, to, state, ret);
	*at = find(_metadata, *at, self->start, "qvp_arc", what);
	ASSERT_NE(NULL, *at) {
		TH_LOG("no line with %s", what);
	}
}

TEST_F(trace, arcs)
{
	struct vfio_device *dev = &self->pair.target;
	const char *at = self->text;
	int fd;

	ASSERT_EQ(0, vfio_mig_set_state(dev, VFIO_DEVICE_STATE_PRE_COPY, &fd));
	ASSERT_EQ(0, vfio_mig_set_state(dev, VFIO_DEVICE_STATE_STOP_COPY,
					NULL));
	close(fd);
	ASSERT_EQ(0, vfio_mig_set_state(dev, VFIO_DEVICE_STATE_RESUMING, &fd));
	ASSERT_EQ(-EINVAL, vfio_mig_set_state(dev, VFIO_DEVICE_STATE_STOP,
					      NULL));
	close(fd);
	EXPECT_EQ(0, vfio_device_reset(dev));

	get(TRACING "/trace", self->text, TRACE_SIZE);
	arc(_metadata, self, &at, "RUNNING", "PRE_COPY", "PRE_COPY", 0);
	arc(_metadata, self, &at, "PRE_COPY", "PRE_COPY_P2P", "PRE_COPY_P2P",
	    0);
	arc(_metadata, self, &at, "PRE_COPY_P2P", "STOP_COPY", "STOP_COPY", 0);
	arc(_metadata, self, &at, "STOP_COPY", "STOP", "STOP", 0);
	arc(_metadata, self, &at, "STOP", "RESUMING", "RESUMING", 0);
	arc(_metadata, self, &at, "RESUMING", "STOP", "ERROR", -EINVAL);
}

/* The first and last byte of a stream at both ends, whoever moves it */
static void ends(struct __test_metadata *_metadata, FIXTURE_DATA(trace) const *self,
		 struct vfio_device *dev, const char *stream, size_t len)
{
	const char *at = self->text;
	char what[256];

	snprintf(what, sizeof(what), "device=%s stream=%s ns=", dev->bdf,
		 stream);
	at = find(_metadata, at, self->start, "qvp_first_byte", what);
	ASSERT_NE(NULL, at) {
		TH_LOG("no line with %s", what);
	}
	EXPECT_EQ(NULL, find(_metadata, at, self->start, "qvp_first_byte",
			     what));
	snprintf(what, sizeof(what), "device=%s stream=%s bytes=%zu records=",
		 dev->bdf, stream, len);
	at = find(_metadata, at, self->start, "qvp_last_byte", what);
	ASSERT_NE(NULL, at) {
		TH_LOG("no line with %s", what);
	}
	EXPECT_EQ(NULL, find(_metadata, at, self->start, "qvp_last_byte",
			     what));
}

TEST_F(trace, stream)
{
	struct stream stream = {};

	ASSERT_EQ(0, stream_load(&self->pair.good, &self->pair.target));
	ASSERT_EQ(0, stream_save(&stream, &self->pair.source));
	get(TRACING "/trace", self->text, TRACE_SIZE);
	ends(_metadata, self, &self->pair.source, "save", stream.len);
	ends(_metadata, self, &self->pair.target, "load",
	     self->pair.good.len);
	stream_free(&stream);
}

/* All packets of one end: each idx once, the config state last */
static void packets(struct __test_metadata *_metadata,
		    FIXTURE_DATA(trace) const *self, const char *role,
		    const struct vfio_multifd_status *status)
{
	unsigned int idx, channel, bytes, count = 0;
	uint64_t sum = 0, indices = 0;
	const char *at = self->text;
	char what[64], kind[8];
	int n;

	snprintf(what, sizeof(what), "role=%s channel=", role);
	while ((at = find(_metadata, at, self->start, "vmfd_packet", what))) {
		const char *line = at;

		while (line[-1] != '\n')
			line--;
		n = sscanf(strstr(line, "channel="),
			   "channel=%u device=dev/0 idx=%u kind=%7s bytes=%u",
			   &channel, &idx, kind, &bytes);
		ASSERT_EQ(4, n);
		EXPECT_GT(RACE_CHANNELS, channel);
		ASSERT_GT(64, idx);
		EXPECT_FALSE(indices & 1ull << idx);
		indices |= 1ull << idx;
		count++;
		EXPECT_STREQ(idx == status->packets - 1 ? "config" : "data",
			     kind);
		if (kind[0] == 'd')
			sum += bytes;
	}
	EXPECT_EQ(status->packets, count);
	EXPECT_EQ(status->bytes, sum);
	EXPECT_EQ((1ull << count) - 1, indices);
}

/* Its states, in their order, and what they say at the end */
static void states(struct __test_metadata *_metadata,
		   FIXTURE_DATA(trace) const *self, const char *role,
		   const struct vfio_multifd_status *status)
{
	static const char *const names[] = { "ready", "sealed", "done" };
	const char *at = self->text;
	char what[256], done[64] = "";

	for (unsigned int i = 0; i < 3; i++) {
		if (i == 2)
			snprintf(done, sizeof(done), "packets=%llu bytes=%llu ",
				 status->packets, status->bytes);
		snprintf(what, sizeof(what), "role=%s state=%s %s", role,
			 names[i], done);
		at = find(_metadata, at, self->start, "vmfd_state", what);
		ASSERT_NE(NULL, at) {
		TH_LOG("no line with %s", what);
	}
	}
	snprintf(what, sizeof(what), "role=%s device=dev/0 packets=%llu bytes=%llu ",
		 role, status->packets, status->bytes);
	EXPECT_NE(NULL, find(_metadata, self->text, self->start, "vmfd_device",
			     what)) {
		TH_LOG("no line with %s", what);
	}
}

static uint64_t end(struct __test_metadata *_metadata,
		    FIXTURE_DATA(trace) const *self, const char *role, int fd)
{
	struct vfio_multifd_status status = {};

	EXPECT_EQ(0, engine_status(fd, &status));
	EXPECT_EQ(VFIO_MULTIFD_STATE_DONE, status.state);
	packets(_metadata, self, role, &status);
	states(_metadata, self, role, &status);
	return status.bytes;
}

TEST_F(trace, transfer)
{
	struct pair *pair = &self->pair;
	struct race_link link;
	uint64_t len;
	int fd[2];

	ASSERT_EQ(0, vfio_mig_set_state(&pair->source,
					VFIO_DEVICE_STATE_STOP_COPY, &fd[0]));
	ASSERT_EQ(0, vfio_mig_set_state(&pair->target,
					VFIO_DEVICE_STATE_RESUMING, &fd[1]));
	ASSERT_EQ(0, race_link_open(&link, FEATURES, false));
	ASSERT_EQ(0, race_link_start(&link, VFIO_MULTIFD_DEVICE_RECORDS, fd[0],
				     fd[1]));
	EXPECT_EQ(0, race_link_join(&link, 20000));
	ASSERT_LT(0, get(TRACING "/trace", self->text, TRACE_SIZE));
	len = end(_metadata, self, "send", link.from.fd);
	EXPECT_EQ(len, end(_metadata, self, "recv", link.to.fd));
	ends(_metadata, self, &pair->source, "save", len);
	ends(_metadata, self, &pair->target, "load", len);
	race_link_close(&link);
	close(fd[0]);
	close(fd[1]);
}

TEST_F(trace, failure)
{
	struct engine engine;

	ASSERT_EQ(0, engine_begin(&engine, VFIO_MULTIFD_SEND, 1, 0,
				  ENGINE_PACKET));
	EXPECT_EQ(0, engine_cancel(engine.fd));
	get(TRACING "/trace", self->text, TRACE_SIZE);
	EXPECT_NE(NULL, find(_metadata, self->text, self->start, "vmfd_state",
			     "role=send state=failed packets=0 bytes=0 error=-125"));
	engine_destroy(&engine);
}

/* The core asks the driver, so this is what it would tell a user. */
TEST(debugfs_state)
{
	char state[PATH_MAX], text[64];
	struct vfio_device dev;
	int fd = -1;

	TESTING_OPEN(&dev, &vfio_ivshmem_4k, 0);
	if (access(DEBUGFS, F_OK))
		SKIP(goto out, "this kernel has no CONFIG_VFIO_DEBUGFS");
	snprintf(state, sizeof(state), DEBUGFS "/%s/migration/state", dev.bdf);
	for (uint32_t to = VFIO_DEVICE_STATE_STOP;
	     to < VFIO_DEVICE_NUM_STATES; to++) {
		ASSERT_EQ(0, vfio_device_reset(&dev));
		ASSERT_EQ(0, vfio_mig_set_state(&dev, to, &fd));
		ASSERT_LT(0, get(state, text, sizeof(text)));
		EXPECT_STREQ(vfio_mig_state_name(to), strtok(text, "\n"));
		if (fd >= 0)
			close(fd);
	}
	/* whoever looks finds a reset, too */
	EXPECT_EQ(0, vfio_device_reset(&dev));
	get(state, text, sizeof(text));
	EXPECT_STREQ("RUNNING", strtok(text, "\n"));
out:
	testing_close(&dev);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0-only
/* Whole states from one device to another, cut and mixed in every way */
#include <errno.h>
#include <pthread.h>
#include <sys/uio.h>

#include "harness.h"
#include "engine.h"
#include "stream.h"
#include "testing.h"

#define PAGE		VFIO_RECORD_ALIGN
#define MAX_REGISTERS	16
#define THREADS		4

FIXTURE(stream) {
	struct vfio_device source;
	struct vfio_device target;
	struct stream stream;
	struct records records;
	uint8_t *image;
};

FIXTURE_VARIANT(stream) {
	const struct vfio_kind *kind;
};

FIXTURE_VARIANT_ADD(stream, ivshmem_4k) { .kind = &vfio_ivshmem_4k };
FIXTURE_VARIANT_ADD(stream, ivshmem_1m) { .kind = &vfio_ivshmem_1m };
FIXTURE_VARIANT_ADD(stream, bochs) { .kind = &vfio_bochs };

FIXTURE_SETUP(stream)
{
	TESTING_OPEN(&self->source, variant->kind, 0);
	TESTING_OPEN(&self->target, variant->kind, 1);
	self->image = calloc(1, self->source.size);
	ASSERT_NE(NULL, self->image);
}

FIXTURE_TEARDOWN(stream)
{
	stream_free(&self->stream);
	records_free(&self->records);
	free(self->image);
	testing_close(&self->source);
	testing_close(&self->target);
}

/* Memory where about every fourth page is zero, and registers */
static int paint(struct vfio_device *dev, uint64_t seed)
{
	for (uint64_t at = 0; at < dev->size; at += PAGE) {
		if (vfio_random(&seed) % 4 || dev->size == PAGE)
			vfio_fill(dev->map + at, PAGE, vfio_random(&seed));
		else
			memset(dev->map + at, 0, PAGE);
	}
	return vfio_registers_fill(dev, seed);
}

static void expect_same_registers(struct __test_metadata *_metadata,
				  struct vfio_device *a, struct vfio_device *b)
{
	struct vfio_register in_a[MAX_REGISTERS], in_b[MAX_REGISTERS];
	unsigned int count = vfio_registers_count(a->kind);

	ASSERT_EQ(0, vfio_registers_read(a, in_a));
	ASSERT_EQ(0, vfio_registers_read(b, in_b));
	for (unsigned int i = 0; i < count; i++) {
		EXPECT_EQ(in_a[i].value, in_b[i].value) {
			TH_LOG("register at 0x%x", in_a[i].offset);
		}
	}
}

/* Expects that self->stream is a right stream of the source. */
#define EXPECT_RIGHT() do {						\
	const char *_bad;						\
									\
	records_free(&self->records);					\
	ASSERT_EQ(0, records_parse(&self->records, &self->stream));	\
	_bad = records_check(&self->records, &self->source,		\
			     self->image);				\
	ASSERT_STREQ("", _bad ? _bad : "");				\
	EXPECT_EQ(0, memcmp(self->image, self->source.map,		\
			    self->source.size));			\
} while (0)

/* Expects that the target became what the source is. */
#define EXPECT_SAME() do {						\
	EXPECT_EQ(0, memcmp(self->target.map, self->source.map,		\
			    self->source.size));			\
	expect_same_registers(_metadata, &self->source,			\
			      &self->target);				\
} while (0)

/* Expects that self->stream is right and that @load takes it to the target. */
#define EXPECT_MIGRATES(load) do {					\
	EXPECT_RIGHT();							\
	ASSERT_EQ(0, load);						\
	EXPECT_SAME();							\
} while (0)

TEST_F(stream, whole)
{
	unsigned int rounds = self->source.size > 64 << 20 ? 1 : 3;

	for (uint64_t seed = 0; seed < rounds; seed++) {
		ASSERT_EQ(0, paint(&self->source, seed));
		self->stream.len = 0;
		ASSERT_EQ(0, stream_save(&self->stream, &self->source));
		EXPECT_MIGRATES(stream_load(&self->stream, &self->target));
		ASSERT_EQ(0, vfio_mig_set_state(&self->source,
						VFIO_DEVICE_STATE_RUNNING,
						NULL));
		ASSERT_EQ(0, vfio_mig_set_state(&self->target,
						VFIO_DEVICE_STATE_RUNNING,
						NULL));
	}
}

static int save_cut(struct stream *stream, struct vfio_device *dev,
		    struct segments segments)
{
	int fd, ret;

	ret = vfio_mig_set_state(dev, VFIO_DEVICE_STATE_STOP_COPY, &fd);
	if (ret)
		return ret;
	ret = stream_read(stream, fd, &segments);
	close(fd);
	return ret ? ret : vfio_mig_set_state(dev, VFIO_DEVICE_STATE_STOP,
					      NULL);
}

static int load_cut(struct stream *stream, struct vfio_device *dev,
		    struct segments segments)
{
	int fd, ret;

	ret = vfio_mig_set_state(dev, VFIO_DEVICE_STATE_RESUMING, &fd);
	if (ret)
		return ret;
	ret = stream_write(stream, fd, &segments);
	close(fd);
	return ret ? ret : vfio_mig_set_state(dev, VFIO_DEVICE_STATE_STOP,
					      NULL);
}

TEST_F(stream, segments)
{
	static const struct segments cuts[] = {
		/* these are for the smallest device only */
		{ 1, 1, 0 }, { 2, 2, 0 }, { 7, 7, 0 }, { 39, 39, 0 },
		{ 40, 40, 0 }, { 41, 41, 0 }, { 87, 89, 1 }, { 1, 200, 2 },
		{ 4095, 4095, 0 }, { 4096, 4096, 0 }, { 4097, 4097, 0 },
		{ 4135, 4137, 3 }, { 1, 20000, 4 }, { 65535, 65535, 0 },
		{ 65537, 65537, 0 }, { 1, 3000000, 5 },
	};
	const unsigned int count = sizeof(cuts) / sizeof(cuts[0]);
	unsigned int first = self->source.size == PAGE ? 0 : 8;

	ASSERT_EQ(0, paint(&self->source, 4));
	for (unsigned int i = first; i < count; i++) {
		const struct segments *other = &cuts[count - 1 - i + first];

		TH_LOG("read %zu to %zu bytes at once, write %zu to %zu",
		       cuts[i].least, cuts[i].most, other->least, other->most);
		self->stream.len = 0;
		ASSERT_EQ(0, save_cut(&self->stream, &self->source, cuts[i]));
		EXPECT_MIGRATES(load_cut(&self->stream, &self->target,
					 *other));
	}
}

TEST_F(stream, vectors)
{
	uint8_t *odd = malloc(70001 + 4096 + 3);
	struct iovec iov[] = {
		{ odd + 1, 13 }, { odd + 14, 0 }, { odd + 14, 4097 },
		{ odd + 4111, 65891 },
	};
	ssize_t len, done;
	int fd;

	ASSERT_EQ(0, paint(&self->source, 5));
	ASSERT_EQ(0, vfio_mig_set_state(&self->source,
					VFIO_DEVICE_STATE_STOP_COPY, &fd));
	while ((len = readv(fd, iov, 4)) > 0)
		ASSERT_EQ(0, stream_append(&self->stream, odd + 1, len));
	ASSERT_EQ(0, len);
	close(fd);

	ASSERT_EQ(0, vfio_mig_set_state(&self->target,
					VFIO_DEVICE_STATE_RESUMING, &fd));
	for (size_t at = 0; at < self->stream.len; at += done) {
		len = self->stream.len - at;
		if (len > 70001)
			len = 70001;
		memcpy(odd + 1, self->stream.data + at, len);
		if (len == 70001)
			done = writev(fd, iov, 4);
		else
			done = write(fd, odd + 1, len);
		ASSERT_LT(0, done);
	}
	close(fd);
	EXPECT_MIGRATES(vfio_mig_set_state(&self->target,
					   VFIO_DEVICE_STATE_STOP, NULL));
	free(odd);
}

/* What is zero is said, not sent, and is zero at the other side */
TEST_F(stream, zero)
{
	uint64_t memory = 0;

	memset(self->source.map, 0, self->source.size);
	ASSERT_EQ(0, paint(&self->target, 6));
	ASSERT_EQ(0, stream_save(&self->stream, &self->source));
	EXPECT_MIGRATES(stream_load(&self->stream, &self->target));
	EXPECT_EQ(NULL, records_find(&self->records, VFIO_RECORD_MEMORY));
	EXPECT_GT(PAGE + self->source.size / 100, self->stream.len);

	/* the last half is zero */
	vfio_fill(self->source.map, self->source.size / 2, 8);
	self->stream.len = 0;
	ASSERT_EQ(0, stream_save(&self->stream, &self->source));
	EXPECT_MIGRATES(stream_load(&self->stream, &self->target));
	for (size_t i = 0; i < self->records.count; i++)
		if (self->records.rec[i].head.tag == VFIO_RECORD_MEMORY)
			memory += self->records.rec[i].len;
	EXPECT_LE(self->source.size / 2, memory);
	if (self->source.size > PAGE)
		EXPECT_GT(self->source.size, memory);
}

static void *send_all(void *fd)
{
	return (void *)(intptr_t)engine_run(*(int *)fd, 0);
}

/*
 * By the engine, so that a reader in the kernel gets the stream.  Return: bytes of
 * it, or an error.
 */
static int64_t move(struct vfio_device *source, struct vfio_device *target)
{
	static const uint32_t states[] = {
		VFIO_DEVICE_STATE_STOP_COPY, VFIO_DEVICE_STATE_RESUMING,
	};
	struct vfio_device *dev[2] = { source, target };
	struct vfio_multifd_status status = {};
	int fd[2], data_fd[2], pair[2], ret;
	pthread_t sender;
	void *sent;

	ret = engine_tcp_pair(pair, 0);
	for (unsigned int i = 0; i < 2 && !ret; i++) {
		fd[i] = engine_open();
		ret = engine_setup(fd[i], i ? VFIO_MULTIFD_RECV :
				   VFIO_MULTIFD_SEND, 1, 0, 1 << 20) ?:
		      engine_add_channel(fd[i], pair[i], 0) ?:
		      vfio_mig_set_state(dev[i], states[i], &data_fd[i]);
		if (!ret)
			ret = engine_add_device(fd[i], data_fd[i], "dev", 0);
		close(pair[i]);
	}
	if (ret)
		return ret;
	ret = engine_set_config(fd[0], 0, NULL, 0) ?:
	      engine_switchover(fd[0]) ?: engine_switchover(fd[1]) ?:
	      -pthread_create(&sender, NULL, send_all, &fd[0]);
	if (ret)
		return ret;
	ret = engine_run(fd[1], 0);
	pthread_join(sender, &sent);
	ret = ret ?: (intptr_t)sent ?: engine_status(fd[1], &status) ?:
	      vfio_mig_set_state(target, VFIO_DEVICE_STATE_STOP, NULL);
	for (unsigned int i = 0; i < 2; i++) {
		close(data_fd[i]);
		close(fd[i]);
	}
	return ret ?: (int64_t)status.bytes;
}

/* Zeros of any length, anywhere: those of 4 pages and more stay away */
TEST_F(stream, zeros_between)
{
	static const unsigned int runs[] = { 1, 3, 4, 3, 5, 16, 2, 4, 1, 7 };
	uint64_t size = self->source.size, at = 0, most = PAGE;
	unsigned int i = 0;
	int64_t moved;

	ENGINE_NEEDED();
	ASSERT_EQ(0, paint(&self->target, 6));
	vfio_fill(self->source.map, size, 9);
	for (; at < size; at += PAGE, i++) {
		uint64_t len = runs[i % 10] * PAGE;

		len = len < size - at ? len : size - at;
		if (!(i % 2))
			most += len;
		else
			memset(self->source.map + at, 0, len);
		if (i % 2 && runs[i % 10] < 4)
			most += len;
		at += len - PAGE;
	}
	moved = move(&self->source, &self->target);
	EXPECT_LT(0, moved);
	EXPECT_GT((int64_t)(most + most / 10), moved);
	EXPECT_SAME();
}

/* Puts records [1..] in another order behind the header */
static int shuffle(struct stream *to, struct records *list, uint64_t seed)
{
	int ret = record_build(to, list->rec[0].head, list->rec[0].payload);

	for (size_t i = list->count - 1; i > 1; i--) {
		size_t other = 1 + vfio_random(&seed) % i;
		struct record record = list->rec[i];

		list->rec[i] = list->rec[other];
		list->rec[other] = record;
	}
	for (size_t i = 1; i < list->count && !ret; i++)
		ret = record_build(to, list->rec[i].head,
				   list->rec[i].payload);
	return ret;
}

TEST_F(stream, any_order)
{
	ASSERT_EQ(0, paint(&self->source, 9));
	ASSERT_EQ(0, stream_save(&self->stream, &self->source));
	for (uint64_t seed = 0; seed < 4; seed++) {
		struct stream other = {};

		records_free(&self->records);
		ASSERT_EQ(0, records_parse(&self->records, &self->stream));
		ASSERT_EQ(0, shuffle(&other, &self->records, seed));
		memset(self->target.map, 0xa5, self->target.size);
		stream_free(&self->stream);
		self->stream = other;
		EXPECT_MIGRATES(stream_load(&self->stream, &self->target));
	}
}

/* The same state with memory in records of @length and tags nobody knows */
static int rebuild(struct stream *to, struct records *list,
		   struct vfio_device *dev, uint64_t length)
{
	const struct vfio_record unknown = {
		.tag = 0x4e4f4e45,
		.flags = VFIO_RECORD_OPTIONAL,
		.region = 17,
		.offset = 3,
		.length = VFIO_RECORD_MAX_META,
	};
	static const uint8_t noise[VFIO_RECORD_MAX_META] = { 1, 2, 3 };
	struct record *registers = records_find(list, VFIO_RECORD_REGISTERS);
	struct vfio_record head = {
		.tag = VFIO_RECORD_MEMORY,
		.region = dev->kind->memory,
		.length = length,
	};
	uint64_t count = 5;
	int ret;

	ret = record_build(to, list->rec[0].head, list->rec[0].payload) ?:
	      record_build(to, unknown, noise) ?:
	      record_build(to, registers->head, registers->payload);
	for (; head.offset < dev->size && !ret; head.offset += length, count++)
		ret = record_build(to, head, dev->map + head.offset);
	return ret ?: record_build(to, unknown, noise) ?:
		      record_build(to, unknown, noise) ?:
		      record_build_end(to, count);
}

TEST_F(stream, other_writers)
{
	uint64_t lengths[] = { PAGE, 4 * PAGE, self->source.size };
	struct stream other = {};

	ASSERT_EQ(0, paint(&self->source, 10));
	ASSERT_EQ(0, stream_save(&self->stream, &self->source));
	EXPECT_RIGHT();
	for (unsigned int i = 0; i < 3; i++) {
		if (lengths[i] > self->source.size)
			continue;
		memset(self->target.map, 0xa5, self->target.size);
		other.len = 0;
		ASSERT_EQ(0, rebuild(&other, &self->records, &self->source,
				     lengths[i]));
		ASSERT_EQ(0, stream_load(&other, &self->target));
		EXPECT_SAME();
	}
	stream_free(&other);
}

struct worker {
	pthread_t thread;
	int fd;
	int result;
	struct stream stream;		/* what a reader got */
	struct record *record;		/* what a writer writes */
	size_t count;
	unsigned int number;
};

/* A read with room for a record gives whole records */
static void *read_records(void *arg)
{
	struct worker *worker = arg;
	size_t room = 300000 + 70000 * worker->number;
	uint8_t *buf = malloc(room);
	struct records list;
	ssize_t len;

	while ((len = read(worker->fd, buf, room)) > 0) {
		struct stream piece = { .data = buf, .len = len };

		worker->result = records_parse(&list, &piece) ?:
				 stream_append(&worker->stream, buf, len);
		records_free(&list);
		if (worker->result)
			break;
	}
	if (len < 0)
		worker->result = -errno;
	free(buf);
	return NULL;
}

TEST_F(stream, many_readers)
{
	struct worker workers[THREADS] = {};
	unsigned int first = THREADS;
	int fd;

	ASSERT_EQ(0, paint(&self->source, 13));
	ASSERT_EQ(0, vfio_mig_set_state(&self->source,
					VFIO_DEVICE_STATE_STOP_COPY, &fd));
	for (unsigned int i = 0; i < THREADS; i++) {
		workers[i].fd = fd;
		workers[i].number = i;
		ASSERT_EQ(0, pthread_create(&workers[i].thread, NULL,
					    read_records, &workers[i]));
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		const struct vfio_record *head;

		pthread_join(workers[i].thread, NULL);
		ASSERT_EQ(0, workers[i].result);
		head = (void *)workers[i].stream.data;
		if (head && head->tag == VFIO_RECORD_MAGIC)
			first = i;
	}
	ASSERT_GT(THREADS, first);
	close(fd);
	for (unsigned int i = 0; i < THREADS; i++) {
		struct stream *part = &workers[(first + i) % THREADS].stream;

		ASSERT_EQ(0, stream_append(&self->stream, part->data,
					   part->len));
		stream_free(part);
	}
	EXPECT_MIGRATES(stream_load(&self->stream, &self->target));
}

static void *write_records(void *arg)
{
	struct worker *worker = arg;
	size_t start = worker->number;

	for (size_t i = start; i < worker->count; i += THREADS) {
		const struct record *rec = &worker->record[i];
		const uint8_t *data = rec->payload - sizeof(rec->head);
		size_t len = sizeof(rec->head) + rec->len;

		if (write(worker->fd, data, len) != (ssize_t)len)
			worker->result = errno ? -errno : -EIO;
	}
	return NULL;
}

TEST_F(stream, many_writers)
{
	struct worker workers[THREADS] = {};
	struct stream small = {};
	struct records list = {};
	int fd;

	ASSERT_EQ(0, paint(&self->source, 14));
	ASSERT_EQ(0, stream_save(&self->stream, &self->source));
	EXPECT_RIGHT();
	ASSERT_EQ(0, rebuild(&small, &self->records, &self->source, PAGE));
	ASSERT_EQ(0, records_parse(&list, &small));

	ASSERT_EQ(0, vfio_mig_set_state(&self->target,
					VFIO_DEVICE_STATE_RESUMING, &fd));
	ASSERT_LT(0, write(fd, small.data, list.rec[1].payload -
			   sizeof(struct vfio_record) - small.data));
	for (unsigned int i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){
			.fd = fd,
			.number = i,
			.record = list.rec + 1,
			.count = list.count - 1,
		};
		ASSERT_EQ(0, pthread_create(&workers[i].thread, NULL,
					    write_records, &workers[i]));
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		EXPECT_EQ(0, workers[i].result);
	}
	close(fd);
	EXPECT_EQ(0, vfio_mig_set_state(&self->target, VFIO_DEVICE_STATE_STOP,
					NULL));
	EXPECT_SAME();
	records_free(&list);
	stream_free(&small);
}

/* A buffer that is not there costs an error, never bytes of the stream */
TEST_F(stream, bad_buffer)
{
	struct segments big = { 1 << 20, 1 << 20, 0 };
	void *nowhere = mmap(NULL, 1 << 20, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd, ret;

	ASSERT_EQ(0, paint(&self->source, 15));
	ASSERT_EQ(0, vfio_mig_set_state(&self->source,
					VFIO_DEVICE_STATE_STOP_COPY, &fd));
	EXPECT_EQ(-1, read(fd, nowhere, 1 << 20));
	EXPECT_EQ(EFAULT, errno);
	ret = stream_read(&self->stream, fd, &big);
	close(fd);
	if (ret) {
		/* or the stream is over, and says so */
		EXPECT_EQ(-EFAULT, ret);
		self->stream.len = 0;
		ASSERT_EQ(0, vfio_mig_set_state(&self->source,
						VFIO_DEVICE_STATE_STOP, NULL));
		ASSERT_EQ(0, stream_save(&self->stream, &self->source));
	}
	EXPECT_MIGRATES(stream_load(&self->stream, &self->target));

	ASSERT_EQ(0, vfio_mig_set_state(&self->target,
					VFIO_DEVICE_STATE_RESUMING, &fd));
	EXPECT_EQ(-1, write(fd, nowhere, 100));
	EXPECT_EQ(EFAULT, errno);
	ret = stream_write(&self->stream, fd, &big);
	close(fd);
	EXPECT_EQ(ret, vfio_mig_set_state(&self->target,
					  VFIO_DEVICE_STATE_STOP, NULL));
	ASSERT_EQ(0, vfio_device_reset(&self->target));
}

/* A large device is worth only the plain way, it takes long */
FIXTURE(large) {
	FIXTURE_DATA(stream) stream;
};

FIXTURE_SETUP(large)
{
	TESTING_OPEN(&self->stream.source, &vfio_ivshmem_256m, 0);
	TESTING_OPEN(&self->stream.target, &vfio_ivshmem_256m, 1);
	self->stream.image = malloc(self->stream.source.size);
	ASSERT_NE(NULL, self->stream.image);
}

FIXTURE_TEARDOWN(large)
{
	stream_teardown(_metadata, &self->stream, NULL);
}

TEST_F(large, whole)
{
	stream_whole(_metadata, &self->stream, NULL);
}

TEST_HARNESS_MAIN

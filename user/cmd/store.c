// SPDX-License-Identifier: GPL-2.0-or-later
#include "store.h"

#include <lib/error.h>
#include <lib/foreign.h>
#include <lib/thread.h>

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#define MAGIC		0x564d464453544f52ull	/* "VMFDSTOR" */
#define VERSION		1u
#define ALIGN		4096u		/* of all in the file, for O_DIRECT */
#define CHUNK		(1u << 20)	/* most data in a chunk, bytes */
#define MAX_CHUNKS	(16u << 20)
#define MAX_THREADS	64u

/* All integers are big-endian. */
struct header {
	uint64_t magic;
	uint32_t version;
	uint32_t devices;
	uint64_t index_at;
	uint32_t index_size;
	uint32_t chunks;
	uint64_t index_digest;
	uint64_t digest;	/* of all before it */
} __attribute__((packed));

struct file_device {
	char name[VFIO_MULTIFD_IDSTR_SIZE];
	uint64_t migration_flags;
	uint64_t region_size[VFIO_PCI_NUM_REGIONS];
	uint32_t class_code;
	uint16_t vendor;
	uint16_t device;
	uint32_t revision;
	uint32_t reserved;
	uint64_t bytes;
} __attribute__((packed));

struct store_chunk {
	uint32_t device;
	uint32_t size;
	uint64_t at;
	uint64_t digest;
} __attribute__((packed));

/**
 * struct work - what threads share
 * @store: of the caller
 * @lock: protects the rest, the store's error, and its devices' bytes
 * @changed: something of it has
 * @busy: a thread has this device in hand
 * @done: this device has no more
 * @turn: the next chunk of this device to be loaded, by the number in @order
 * @order: of each chunk among those of its device
 * @next: chunk to be read next
 * @precopy: a device has no more for now where it says that it is at its end
 * @failed: nobody goes on
 */
struct work {
	struct store *store;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool busy[VFIO_MULTIFD_MAX_DEVICES];
	bool done[VFIO_MULTIFD_MAX_DEVICES];
	uint32_t turn[VFIO_MULTIFD_MAX_DEVICES];
	uint32_t *order;
	uint32_t next;
	bool precopy;
	bool failed;
};

static uint64_t align(uint64_t size)
{
	return (size + ALIGN - 1) / ALIGN * ALIGN;
}

static void *new_buffer(size_t size)
{
	void *buffer = aligned_alloc(ALIGN, align(size));

	if (buffer)
		memset(buffer, 0, align(size));
	return buffer;
}

/* The first failure stays.  Not for @lock to be held. */
static void fail(struct work *work, int code, const char *what)
{
	pthread_mutex_lock(&work->lock);
	if (!work->failed)
		vmf_error_set(work->store->error, code, "%s: %s", what,
			      *work->store->ended ? "ended by a signal" :
						    strerror(-code));
	work->failed = true;
	pthread_cond_broadcast(&work->changed);
	pthread_mutex_unlock(&work->lock);
}

/* All of it, or a negative errno */
static int put(int fd, const void *data, size_t size, uint64_t at, bool file)
{
	ssize_t n;

	for (size_t done = 0; done < size; done += n) {
		if (!file)
			n = vmf_foreign_transfer(fd, true, (char *)data + done,
						 size - done);
		else
			n = pwrite(fd, (char *)data + done, size - done,
				   at + done);
		if (file && n < 0)
			n = errno == EINTR ? 0 : -errno;
		else if (!n)
			n = -EIO;
		if (n < 0)
			return n;
	}
	return 0;
}

/* Bytes of the file: fewer than @size at its end only; or a negative errno */
static ssize_t get(int file, void *data, size_t size, uint64_t at)
{
	size_t done = 0;
	ssize_t n;

	while (done < size) {
		n = pread(file, (char *)data + done, size - done, at + done);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (!n)
			break;
		if (n > 0)
			done += n;
	}
	return done;
}

/* Grows the index as the file grows. */
static struct store_chunk *new_chunk(struct store *store)
{
	struct store_chunk *list = store->chunk;

	if (store->chunks == MAX_CHUNKS)
		return NULL;
	/* at each power of two */
	if (!(store->chunks & (store->chunks - 1))) {
		list = realloc(list, sizeof(*list) * (store->chunks ?
						      2 * store->chunks : 1));
		if (!list)
			return NULL;
		store->chunk = list;
	}
	return &list[store->chunks++];
}

/* Takes a device in hand; false if there is none, now and later. */
static bool take_device(struct work *work, uint32_t *device)
{
	uint32_t devices = work->store->devices, i, left;
	bool found = false;

	pthread_mutex_lock(&work->lock);
	do {
		for (i = 0, left = 0; !found && i < devices; i++) {
			*device = (work->next + i) % devices;
			left += !work->done[*device];
			found = !work->done[*device] && !work->busy[*device];
		}
		if (!found && left && !work->failed)
			pthread_cond_wait(&work->changed, &work->lock);
	} while (!found && left && !work->failed);
	if (found) {
		work->busy[*device] = true;
		work->next = *device + 1;
	}
	found = found && !work->failed;
	pthread_mutex_unlock(&work->lock);
	return found;
}

/* Gives a device back, of which @size bytes were read; they go to @at. */
static int note_chunk(struct work *work, uint32_t device, uint32_t size,
		      bool done, uint64_t digest, uint64_t *at)
{
	struct store_chunk *chunk = NULL;

	pthread_mutex_lock(&work->lock);
	if (size)
		chunk = new_chunk(work->store);
	if (chunk) {
		*at = work->store->end;
		*chunk = (struct store_chunk){
			htobe32(device), htobe32(size), htobe64(*at),
			htobe64(digest),
		};
		work->store->end += align(size);
		work->store->device[device].bytes += size;
	}
	work->done[device] = done;
	work->busy[device] = false;
	pthread_cond_broadcast(&work->changed);
	pthread_mutex_unlock(&work->lock);
	return size && !chunk ? -ENOMEM : 0;
}

/* Bytes of the device, up to CHUNK; @end: that is all of it, or all for now */
static ssize_t read_device(struct work *work, uint32_t device, uint8_t *buffer,
			   bool *end)
{
	size_t done = 0;
	ssize_t n;

	*end = false;
	while (done < CHUNK && !*end) {
		n = vmf_foreign_transfer(work->store->device[device].data,
					 false, buffer + done, CHUNK - done);
		if (n > 0)
			done += n;
		else if (!n || (n == -ENOMSG && work->precopy))
			*end = true;
		else
			return n;
	}
	return done;
}

static void *write_chunks(void *arg)
{
	struct work *work = arg;
	struct store *store = work->store;
	uint8_t *buffer = new_buffer(CHUNK);
	uint32_t device = 0;
	uint64_t at = 0;
	bool done = false;
	ssize_t size;
	int ret, state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	if (!buffer)
		fail(work, -ENOMEM, store->path);
	while (buffer && take_device(work, &device)) {
		size = read_device(work, device, buffer, &done);
		if (*store->ended)
			size = -EINTR;
		if (size < 0) {
			fail(work, size, store->device[device].name);
			break;
		}
		memset(buffer + size, 0, align(size) - size);
		ret = note_chunk(work, device, size, done,
				 XXH64(buffer, size, 0), &at);
		if (!ret && size)
			ret = put(store->file, buffer, align(size), at, true);
		if (ret) {
			fail(work, ret, store->path);
			break;
		}
	}
	free(buffer);
	return NULL;
}

/* A driver may sleep for as long as it likes, unless nobody wants its data any more. */
static void join(struct work *work, pthread_t thread)
{
	struct timespec until;

	do {
		if (*work->store->ended)
			fail(work, -EINTR, "the state");
		if (work->failed)
			pthread_cancel(thread);
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec++;
	} while (pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &until));
}

/* Runs @call on all threads. */
static int run(struct work *work, void *(*call)(void *arg))
{
	struct store *store = work->store;
	pthread_t thread[MAX_THREADS];
	uint32_t count = 0;
	int ret;

	pthread_mutex_init(&work->lock, NULL);
	pthread_cond_init(&work->changed, NULL);
	while (count < store->threads && count < MAX_THREADS) {
		ret = vmf_thread_start(&thread[count], call, work);
		if (ret) {
			fail(work, ret, "a thread");
			break;
		}
		count++;
	}
	while (count)
		join(work, thread[--count]);
	pthread_cond_destroy(&work->changed);
	pthread_mutex_destroy(&work->lock);
	return work->failed ? store->error->code : 0;
}

static void fill_device(struct file_device *to, const struct store_device *from)
{
	const struct vmf_identity *identity = &from->identity;

	snprintf(to->name, sizeof(to->name), "%s", from->name);
	to->migration_flags = htobe64(identity->migration_flags);
	for (uint32_t i = 0; i < VFIO_PCI_NUM_REGIONS; i++)
		to->region_size[i] = htobe64(identity->region_size[i]);
	to->class_code = htobe32(identity->class_code);
	to->vendor = htobe16(identity->vendor);
	to->device = htobe16(identity->device);
	to->revision = htobe32(identity->revision);
	to->bytes = htobe64(from->bytes);
}

/* The header comes last: until then the file is no store. */
int store_seal(struct store *store)
{
	size_t devices = store->devices * sizeof(struct file_device);
	size_t chunks = store->chunks * sizeof(struct store_chunk);
	size_t size = devices + chunks;
	uint8_t *index = new_buffer(size);
	struct header *header = new_buffer(ALIGN);
	int ret = -ENOMEM;

	if (index && header) {
		for (uint32_t i = 0; i < store->devices; i++)
			fill_device((struct file_device *)index + i,
				    &store->device[i]);
		if (chunks)
			memcpy(index + devices, store->chunk, chunks);
		*header = (struct header){
			.magic = htobe64(MAGIC),
			.version = htobe32(VERSION),
			.devices = htobe32(store->devices),
			.index_at = htobe64(store->end),
			.index_size = htobe32(size),
			.chunks = htobe32(store->chunks),
			.index_digest = htobe64(XXH64(index, size, 0)),
		};
		header->digest = htobe64(XXH64(header, offsetof(struct header,
								digest), 0));
		ret = put(store->file, index, align(size), store->end, true);
		if (!ret)
			ret = put(store->file, header, ALIGN, 0, true);
	}
	free(index);
	free(header);
	if (ret)
		return vmf_error_set(store->error, ret, "%s: %s", store->path,
				     strerror(-ret));
	return 0;
}

int store_write(struct store *store, bool precopy)
{
	struct work work = { .store = store, .precopy = precopy };
	uint32_t i;

	if (!store->end)
		store->end = ALIGN;
	for (i = 0; i < store->devices; i++)
		work.done[i] = store->device[i].data < 0;
	return run(&work, write_chunks);
}

static int read_header(int file, struct header *header)
{
	void *buffer = new_buffer(ALIGN);
	ssize_t got = buffer ? get(file, buffer, ALIGN, 0) : -ENOMEM;

	if (got == ALIGN)
		memcpy(header, buffer, sizeof(*header));
	free(buffer);
	return got < 0 ? got : got == ALIGN ? 0 : -EINVAL;
}

int store_is(int file)
{
	uint64_t magic = htobe64(MAGIC), head;
	ssize_t got = get(file, &head, sizeof(head), 0);

	return got <= 0 ? got : !memcmp(&head, &magic, got);
}

static int refuse(struct store *store, const char *why)
{
	return vmf_error_set(store->error, -EINVAL, "%s: %s", store->path, why);
}

static bool same_identity(const struct file_device *a,
			  const struct vmf_identity *b)
{
	for (uint32_t i = 0; i < VFIO_PCI_NUM_REGIONS; i++)
		if (be64toh(a->region_size[i]) != b->region_size[i])
			return false;
	return be32toh(a->class_code) == b->class_code &&
	       be16toh(a->vendor) == b->vendor &&
	       be16toh(a->device) == b->device &&
	       be32toh(a->revision) == b->revision &&
	       !(be64toh(a->migration_flags) & ~b->migration_flags);
}

/* Puts the caller's devices into the order of the file's. */
static int sort_devices(struct store *store, const struct file_device *list)
{
	for (uint32_t i = 0; i < store->devices; i++) {
		struct store_device *device = &store->device[i], found;
		uint32_t j = i;

		while (j < store->devices &&
		       strncmp(list[i].name, store->device[j].name,
			       sizeof(list[i].name)))
			j++;
		if (j == store->devices)
			return refuse(store, "it has a device that is not given");
		found = store->device[j];
		store->device[j] = *device;
		*device = found;
		if (!same_identity(&list[i], &device->identity))
			return vmf_error_set(store->error, -ENODEV,
					     "%s: device %s is another one there",
					     store->path, device->name);
		device->bytes = be64toh(list[i].bytes);
	}
	return 0;
}

/* Every chunk inside of the file, of a device, and as much of each as it says */
static int check_chunks(struct store *store, uint64_t end)
{
	uint64_t bytes[VFIO_MULTIFD_MAX_DEVICES] = {};

	for (uint32_t i = 0; i < store->chunks; i++) {
		struct store_chunk *chunk = &store->chunk[i];

		chunk->device = be32toh(chunk->device);
		chunk->size = be32toh(chunk->size);
		chunk->at = be64toh(chunk->at);
		chunk->digest = be64toh(chunk->digest);
		if (chunk->device >= store->devices || !chunk->size ||
		    chunk->size > CHUNK || chunk->at % ALIGN ||
		    chunk->at < ALIGN || chunk->at > end ||
		    align(chunk->size) > end - chunk->at)
			return refuse(store, "its index is wrong");
		bytes[chunk->device] += chunk->size;
	}
	for (uint32_t i = 0; i < store->devices; i++)
		if (bytes[i] != store->device[i].bytes)
			return refuse(store, "its index is wrong");
	return 0;
}

static int take_index(struct store *store, const struct header *header,
		      const uint8_t *index)
{
	size_t devices = store->devices * sizeof(struct file_device);
	size_t chunks = store->chunks * sizeof(struct store_chunk);
	int ret;

	ret = sort_devices(store, (const struct file_device *)index);
	if (ret)
		return ret;
	store->chunk = malloc(chunks + 1);
	if (!store->chunk)
		return refuse(store, "no memory");
	memcpy(store->chunk, index + devices, chunks);
	return check_chunks(store, be64toh(header->index_at));
}

int store_open(struct store *store)
{
	struct header header;
	uint8_t *index;
	size_t size;
	int ret;

	if (read_header(store->file, &header) ||
	    be64toh(header.magic) != MAGIC ||
	    be64toh(header.digest) != XXH64(&header, offsetof(struct header,
							      digest), 0))
		return refuse(store, "its header is wrong");
	if (be32toh(header.version) != VERSION)
		return refuse(store, "it is of a version that is not known");
	if (be32toh(header.devices) != store->devices)
		return vmf_error_set(store->error, -ENODEV,
				     "%s: it has %u devices, %u are given",
				     store->path, be32toh(header.devices),
				     store->devices);
	store->chunks = be32toh(header.chunks);
	size = be32toh(header.index_size);
	if (store->chunks > MAX_CHUNKS ||
	    size != store->devices * sizeof(struct file_device) +
	    store->chunks * sizeof(struct store_chunk))
		return refuse(store, "its header is wrong");

	index = new_buffer(size);
	if (!index)
		return refuse(store, "no memory");
	if (get(store->file, index, align(size), be64toh(header.index_at)) != (ssize_t)align(size))
		ret = refuse(store, "it is not whole");
	else if (XXH64(index, size, 0) != be64toh(header.index_digest))
		ret = refuse(store, "its index is wrong");
	else
		ret = take_index(store, &header, index);
	free(index);
	return ret;
}

/* The next chunk of the file, or false if there is none any more */
static bool take_chunk(struct work *work, uint32_t *n)
{
	bool found;

	pthread_mutex_lock(&work->lock);
	found = !work->failed && work->next < work->store->chunks;
	if (found)
		*n = work->next++;
	pthread_mutex_unlock(&work->lock);
	return found;
}

/* Chunks are taken in order, so the one that all wait for has a thread. */
static bool wait_turn(struct work *work, uint32_t n)
{
	uint32_t device = work->store->chunk[n].device;
	bool go;

	pthread_mutex_lock(&work->lock);
	while (!work->failed && work->turn[device] != work->order[n])
		pthread_cond_wait(&work->changed, &work->lock);
	go = !work->failed;
	pthread_mutex_unlock(&work->lock);
	return go;
}

static void end_turn(struct work *work, uint32_t n)
{
	pthread_mutex_lock(&work->lock);
	work->turn[work->store->chunk[n].device]++;
	pthread_cond_broadcast(&work->changed);
	pthread_mutex_unlock(&work->lock);
}

static void *read_chunks(void *arg)
{
	struct work *work = arg;
	struct store *store = work->store;
	uint8_t *buffer = new_buffer(CHUNK);
	uint32_t n;
	int ret, state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	if (!buffer)
		fail(work, -ENOMEM, store->path);
	while (buffer && take_chunk(work, &n)) {
		const struct store_chunk *chunk = &store->chunk[n];
		struct store_device *device = &store->device[chunk->device];
		size_t size = align(chunk->size);

		ret = get(store->file, buffer, size, chunk->at) ==
		      (ssize_t)size ? 0 : -EIO;
		if (!ret && XXH64(buffer, chunk->size, 0) != chunk->digest)
			ret = -EBADMSG;
		if (ret) {
			fail(work, ret, store->path);
			break;
		}
		if (!wait_turn(work, n))
			break;
		ret = put(device->data, buffer, chunk->size, 0, false);
		if (*store->ended)
			ret = -EINTR;
		if (ret) {
			fail(work, ret, device->name);
			break;
		}
		end_turn(work, n);
	}
	free(buffer);
	return NULL;
}

int store_read(struct store *store)
{
	uint32_t count[VFIO_MULTIFD_MAX_DEVICES] = {};
	struct work work = { .store = store };
	int ret;

	work.order = calloc(store->chunks + 1, sizeof(*work.order));
	if (!work.order)
		return refuse(store, "no memory");
	for (uint32_t i = 0; i < store->chunks; i++)
		work.order[i] = count[store->chunk[i].device]++;
	ret = run(&work, read_chunks);
	free(work.order);
	return ret;
}

void store_free(struct store *store)
{
	free(store->chunk);
	store->chunk = NULL;
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * replay LOG IMAGE SEED FROM TO - what a power cut leaves of a disk
 *
 * LOG has what dm-log-writes noted of the disk's writes, FROM and TO are marks in
 * it, and the cut is between them, or at one of them, where SEED says.  IMAGE, which is to
 * have what the disk had when the log began, gets what the disk has after the cut: all
 * writes before the last flush that it has completed, all with FUA, and of the others what
 * SEED leaves of them.
 *
 * The log has no times.  It notes a write with FUA when it is complete, and the others at
 * the next flush, in the order in which they were: behind those with FUA, on which they
 * may depend.  So a cut before one of the latter leaves none of the former.
 */
#include <endian.h>
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vfio.h"

#define MAGIC		0x6a736677736872
#define VERSION		1
#define FLUSH		(1 << 0)
#define FUA		(1 << 1)
#define DISCARD		(1 << 2)
#define MARK		(1 << 3)
#define METADATA	(1 << 4)

/* All integers are little-endian.  A sector of the disk's size each for this... */
struct super {
	uint64_t magic;
	uint64_t version;
	uint64_t entries;
	uint32_t sector_size;
};

/* ...and for this, of a mark with its name, of others with their sectors behind it */
struct entry {
	uint64_t sector;
	uint64_t sectors;
	uint64_t flags;
	uint64_t mark_size;
};

/**
 * struct file - a file or a disk that is mapped
 * @path: what it is called
 * @at: its bytes
 * @size: as many
 */
struct file {
	const char *path;
	uint8_t *at;
	uint64_t size;
};

/**
 * struct replay - a log on its way to an image
 * @log: what is read
 * @image: what is written
 * @sector_size: of the disk, bytes
 * @count: entries in the log
 * @entry: where each is
 */
struct replay {
	struct file log;
	struct file image;
	uint64_t sector_size;
	uint64_t count;
	const struct entry **entry;
};

static void map(struct file *file, const char *path, int flags, int prot)
{
	int fd = open(path, flags);
	off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);

	if (size < 0)
		err(1, "%s", path);
	file->path = path;
	file->size = size;
	file->at = mmap(NULL, size, prot, MAP_SHARED, fd, 0);
	if (file->at == MAP_FAILED)
		err(1, "%s", path);
	close(fd);
}

static void check_super(struct replay *replay)
{
	const struct super *super = (void *)replay->log.at;
	const char *path = replay->log.path;

	if (replay->log.size < sizeof(*super) ||
	    le64toh(super->magic) != MAGIC)
		errx(1, "%s: no log of dm-log-writes", path);
	if (le64toh(super->version) != VERSION)
		errx(1, "%s: a log of version %" PRIu64 ", not %u", path,
		     le64toh(super->version), VERSION);
	replay->sector_size = le32toh(super->sector_size);
	if (replay->sector_size < 512 || replay->sector_size > 65536 ||
	    replay->sector_size & (replay->sector_size - 1))
		errx(1, "%s: sectors of %" PRIu64 " bytes", path,
		     replay->sector_size);
	replay->count = le64toh(super->entries);
	if (replay->count >= replay->log.size / replay->sector_size)
		errx(1, "%s: no room for %" PRIu64 " entries", path,
		     replay->count);
}

/* Sectors behind an entry */
static uint64_t length(const struct entry *entry)
{
	return le64toh(entry->flags) & DISCARD ? 0 : le64toh(entry->sectors);
}

/* @left and @size are the sectors from there on, and those of the image. */
static const char *fault(const struct replay *replay, const struct entry *entry,
			 uint64_t left, uint64_t size)
{
	uint64_t flags = le64toh(entry->flags);

	if (flags & ~(FLUSH | FUA | DISCARD | MARK | METADATA))
		return "has unknown flags";
	if (flags & MARK && (entry->sectors || le64toh(entry->mark_size) >
			     replay->sector_size - sizeof(*entry)))
		return "is a mark that is too long";
	if (length(entry) >= left)
		return "goes on behind the log's end";
	if (le64toh(entry->sector) > size ||
	    length(entry) > size - le64toh(entry->sector))
		return "is behind the image's end";
	return NULL;
}

static void find_entries(struct replay *replay)
{
	uint64_t log_size = replay->log.size / replay->sector_size;
	uint64_t size = replay->image.size / replay->sector_size;
	uint64_t at = 1, i;
	const char *why;

	replay->entry = calloc(replay->count + 1, sizeof(*replay->entry));
	if (!replay->entry)
		err(1, "%s", replay->log.path);
	for (i = 0; i < replay->count; i++) {
		const struct entry *entry =
			(void *)(replay->log.at + at * replay->sector_size);

		why = at == log_size ? "is behind the log's end" :
		      fault(replay, entry, log_size - at, size);
		if (why)
			errx(1, "%s: entry %" PRIu64 " %s", replay->log.path,
			     i, why);
		replay->entry[i] = entry;
		at += 1 + length(entry);
	}
}

static uint64_t find_mark(const struct replay *replay, const char *name)
{
	for (uint64_t i = 0; i < replay->count; i++) {
		const struct entry *entry = replay->entry[i];

		if (le64toh(entry->flags) & MARK &&
		    le64toh(entry->mark_size) == strlen(name) &&
		    !memcmp(entry + 1, name, strlen(name)))
			return i;
	}
	errx(1, "%s: no mark \"%s\"", replay->log.path, name);
}

/*
 * All that is not safe may be lost, or nothing, or by chance; whole writes, or some
 * sectors of them.
 */
static void write_until(struct replay *replay, uint64_t cut, uint64_t seed)
{
	uint64_t size = replay->sector_size, flushed = 0, lost = 0, all = 0;
	uint64_t quarters = vfio_random(&seed) % 5;
	bool parts = vfio_random(&seed) % 2;

	for (uint64_t i = 0; i < cut; i++)
		if (le64toh(replay->entry[i]->flags) & FLUSH)
			flushed = i;
	for (uint64_t i = 0; i < cut; i++) {
		const struct entry *entry = replay->entry[i];
		bool safe = i < flushed || le64toh(entry->flags) & FUA;
		uint8_t *to = replay->image.at + le64toh(entry->sector) * size;
		bool lose = vfio_random(&seed) % 4 < quarters;

		/* what was discarded may still be there */
		for (uint64_t j = 0; j < length(entry); j++) {
			if (parts)
				lose = vfio_random(&seed) % 4 < quarters;
			all += !safe;
			lost += !safe && lose;
			if (safe || !lose)
				memcpy(to + j * size,
				       (uint8_t *)entry + (j + 1) * size, size);
		}
	}
	printf("cut before entry %" PRIu64 " of %" PRIu64 ", %" PRIu64
	       " behind a flush, %" PRIu64 " of %" PRIu64 " sectors lost\n",
	       cut, replay->count, cut - flushed, lost, all);
}

int main(int argc, char **argv)
{
	struct replay replay = {};
	uint64_t seed, from, to;

	if (argc != 6) {
		fprintf(stderr, "usage: replay LOG IMAGE SEED FROM TO\n");
		return 1;
	}
	map(&replay.log, argv[1], O_RDONLY, PROT_READ);
	map(&replay.image, argv[2], O_RDWR, PROT_READ | PROT_WRITE);
	seed = strtoull(argv[3], NULL, 0);
	check_super(&replay);
	find_entries(&replay);
	from = find_mark(&replay, argv[4]);
	to = find_mark(&replay, argv[5]);
	if (to < from)
		errx(1, "%s comes before %s", argv[5], argv[4]);
	write_until(&replay, from + vfio_random(&seed) % (to - from + 1), seed);
	return 0;
}

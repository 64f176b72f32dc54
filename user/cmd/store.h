/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file with the state of several devices, which threads write and read side by side.
 * Documentation/store-format.rst has the bytes.
 */
#ifndef STORE_H
#define STORE_H

#include <vfio-multifd.h>

#include <signal.h>

/**
 * struct store_device - a device of a store
 * @name: of at most VFIO_MULTIFD_IDSTR_SIZE - 1 bytes
 * @identity: as VFIO shows it
 * @data: migration data fd, or -1
 * @bytes: out: of its state
 */
struct store_device {
	const char *name;
	struct vmf_identity identity;
	int data;
	uint64_t bytes;
};

/**
 * struct store - what is written, or read
 * @path: names the file in messages
 * @file: its fd
 * @devices: number of entries in @device
 * @device: the devices
 * @threads: that write, or read
 * @ended: becomes a signal's number to end it
 * @error: what failed first
 * @end: of what is written
 * @chunks: number of entries in @chunk
 * @chunk: the file's index
 */
struct store {
	const char *path;
	int file;
	uint32_t devices;
	struct store_device *device;
	uint32_t threads;
	volatile sig_atomic_t *ended;
	struct vmf_error *error;
	uint64_t end;
	uint32_t chunks;
	struct store_chunk *chunk;
};

/* 1 if @file begins as a store does, however little of it is there, or 0 */
int store_is(int file);

/*
 * Writes all that the data fds of those devices give that have one.  @precopy: they
 * will have more, so that it is called again.
 */
int store_write(struct store *store, bool precopy);

/* Writes what makes a store of it. */
int store_seal(struct store *store);

/* Reads the index, and finds each device of @store in it.  Nothing is loaded. */
int store_open(struct store *store);

/* Loads the data fds, after store_open(). */
int store_read(struct store *store);

void store_free(struct store *store);

#endif /* STORE_H */

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What save and restore are asked to do, and how far they are.
 */
#ifndef FILE_H
#define FILE_H

#include "store.h"

#include <lib/rounds.h>

#include <limits.h>

#define FILE_THREADS	4u	/* by default */

/**
 * struct file_target - a device
 * @fd: of the VFIO device
 * @live: it gives state before it is stopped
 * @name: in a store, and in messages
 * @before: state of the device when it began
 * @data: migration data fd, or -1
 * @reset: it was, since it did not come back in another way
 */
struct file_target {
	int fd;
	char name[VFIO_MULTIFD_IDSTR_SIZE];
	uint32_t before;
	bool live;
	int data;
	bool reset;
};

/**
 * struct file_job - one save or restore
 * @name: "save" or "restore"
 * @save: it is save
 * @json: print the report as JSON
 * @direct: the page cache is to be left alone
 * @channels: threads for a store, or 0
 * @live: devices run on as long as that is of use
 * @trigger_fd: becomes readable when they may be stopped, or -1
 * @event_fd: gets a line for each event, or -1
 * @rounds: limits of @live, and how it goes
 * @precopy_end: why the rounds ended
 * @is_store: the file is one
 * @targets: number of entries in @target
 * @target: the devices
 * @device: the same, for a store, which sorts them
 * @path: the file
 * @file: fd of the file, or of what is to become it, or -1
 * @partial: what is to become the file; empty if there is no such thing
 * @ended: the signal that is to end it, or 0
 * @bytes: that went through
 * @error: what failed first
 */
struct file_job {
	const char *name;
	bool save;
	bool json;
	bool direct;
	uint32_t channels;
	bool live;
	int trigger_fd;
	int event_fd;
	struct vmf_rounds rounds;
	enum vmf_precopy_end precopy_end;
	bool is_store;
	uint32_t targets;
	struct file_target target[VFIO_MULTIFD_MAX_DEVICES];
	struct store_device device[VFIO_MULTIFD_MAX_DEVICES];
	const char *path;
	int file;
	char partial[PATH_MAX];
	volatile sig_atomic_t *ended;
	uint64_t bytes;
	struct vmf_error error;
};

/* What failed first stays. */
#define file_fail(job, ...)	vmf_error_set(&(job)->error, __VA_ARGS__)

/* Puts every device into @state, or, with P2P, those that have to be. */
int file_set_state(struct file_job *job, uint32_t state);

/* Tells the VMM, if it wants to hear. */
int file_event(struct file_job *job, const char *line);

/*
 * Keeps what the devices give while they run, in rounds, and comes back when they are
 * to be stopped.
 */
int file_live(struct file_job *job, struct store *store);

/* Return: what the caller is to return, or -1 to go on */
int file_parse(struct file_job *job, int argc, char **argv);

#endif /* FILE_H */

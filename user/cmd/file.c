// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The commands save and restore: a device's state in a file, which is its stream
 * and nothing else, or that of several devices in a store.
 */
#include "command.h"
#include "file.h"
#include "report.h"

#include <lib/compat.h>
#include <lib/error.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK	(1u << 20)	/* bytes; whole records of our own drivers */
#define MIB	(1024.0 * 1024.0)
#define EVENT_MS	10000	/* for a VMM to take an event */

#define fail	file_fail

static volatile sig_atomic_t ended;

static void end(int signal)
{
	ended = signal;
}

static void on_signals(void (*handler)(int))
{
	struct sigaction action = { .sa_handler = handler };
	sigset_t set;
	int number;

	command_end_signals(&set);
	for (number = 1; number < NSIG; number++)
		if (sigismember(&set, number) == 1)
			sigaction(number, &action, NULL);
}

/* What is no file must not become one. */
static int check_file(struct file_job *job)
{
	struct stat info;
	int ret = job->save ? lstat(job->path, &info) : stat(job->path, &info);

	if (ret)
		return job->save && errno == ENOENT ? 0 :
		       fail(job, -errno, "%s: %s", job->path, strerror(errno));
	if (!S_ISREG(info.st_mode))
		return fail(job, -EINVAL, "%s is not a file", job->path);
	return 0;
}

/* What the file is, and whether it fits, before a device is touched */
static int look_into(struct file_job *job, struct store *store)
{
	int ret, flags;

	if (!job->save) {
		ret = store_is(job->file);
		if (ret < 0)
			return fail(job, ret, "%s: %s", job->path,
				    strerror(-ret));
		job->is_store = ret;
	}
	if (!job->is_store && job->targets > 1)
		return fail(job, -EINVAL, "%s is not of %u devices", job->path,
			    job->targets);
	if (!job->is_store)
		return 0;
	if (job->direct) {
		flags = fcntl(job->file, F_GETFL);
		if (flags < 0 || fcntl(job->file, F_SETFL, flags | O_DIRECT))
			return fail(job, -errno, "%s: --direct: %s", job->path,
				    strerror(errno));
	}
	*store = (struct store){
		.path = job->path, .file = job->file,
		.devices = job->targets, .device = job->device,
		.threads = job->channels ? job->channels : FILE_THREADS,
		.ended = &ended, .error = &job->error,
	};
	ret = job->save ? 0 : store_open(store);
	return ret;
}

static int open_file(struct file_job *job)
{
	size_t room = sizeof(job->partial);
	int ret = check_file(job);

	if (ret)
		return ret;
	if (!job->save) {
		job->file = open(job->path, O_RDONLY | O_CLOEXEC);
	} else if (snprintf(job->partial, room, "%s.XXXXXX", job->path) >=
		   (int)room) {
		errno = ENAMETOOLONG;
		*job->partial = '\0';
	} else {
		job->file = mkostemp(job->partial, O_CLOEXEC);
		if (job->file < 0)
			*job->partial = '\0';
	}
	if (job->file < 0)
		return fail(job, -errno, "%s: %s", job->path, strerror(errno));
	return 0;
}

/* The devices as they are now must be ones that the state can be taken from. */
static int check_devices(struct file_job *job)
{
	uint32_t i;
	int ret;

	for (i = 0; i < job->targets; i++) {
		struct file_target *target = &job->target[i];
		struct vmf_identity *identity = &job->device[i].identity;

		job->device[i].name = target->name;
		ret = vmf_device_identify(target->fd, identity, &job->error);
		if (ret)
			return ret;
		ret = vmf_device_get_state(target->fd, &target->before);
		if (ret)
			return fail(job, ret, "fd %d: migration state: %s",
				    target->fd, strerror(-ret));
		if (target->before != VFIO_DEVICE_STATE_RUNNING &&
		    target->before != VFIO_DEVICE_STATE_STOP)
			return fail(job, -EBUSY,
				    "fd %d is in %s, not RUNNING or STOP",
				    target->fd,
				    vmf_device_state_name(target->before));
		if (job->targets > 1 &&
		    !(identity->migration_flags & VFIO_MIGRATION_P2P))
			return fail(job, -EOPNOTSUPP,
				    "fd %d lacks RUNNING_P2P, which more than one device needs",
				    target->fd);
	}
	return 0;
}

static int set_one(struct file_job *job, struct file_target *target,
		   uint32_t state)
{
	int data, ret;

	ret = vmf_device_set_state(target->fd, state, &data);
	if (ret)
		return fail(job, ret, "fd %d to %s: %s%s", target->fd,
			    vmf_device_state_name(state), strerror(-ret),
			    state == VFIO_DEVICE_STATE_STOP && !job->save ?
			    "; the kernel's log may tell more" : "");
	if (data >= 0)
		target->data = data;
	if (target->data < 0 && (state == VMF_STATE_PRE_COPY ||
				 state == VFIO_DEVICE_STATE_STOP_COPY ||
				 state == VFIO_DEVICE_STATE_RESUMING))
		return fail(job, -EBADFD, "fd %d to %s: it gives no data fd",
			    target->fd, vmf_device_state_name(state));
	return 0;
}

int file_set_state(struct file_job *job, uint32_t state)
{
	uint32_t i, next;
	int ret;

	for (i = 0; i < job->targets; i++) {
		struct file_target *target = &job->target[i];

		next = state;
		if (state == VMF_STATE_PRE_COPY && !target->live)
			continue;
		/* Who stands still already is nobody's peer. */
		if (state == VFIO_DEVICE_STATE_RUNNING_P2P &&
		    (job->targets == 1 ||
		     target->before == VFIO_DEVICE_STATE_STOP))
			continue;
		if (state == VFIO_DEVICE_STATE_RUNNING_P2P && target->live)
			next = VMF_STATE_PRE_COPY_P2P;
		ret = set_one(job, target, next);
		if (ret)
			return ret;
	}
	return 0;
}

int file_event(struct file_job *job, const char *line)
{
	struct pollfd fd = { .fd = job->event_fd, .events = POLLOUT };
	ssize_t size = strlen(line), put;

	if (job->event_fd < 0)
		return 0;
	do {
		put = poll(&fd, 1, EVENT_MS);
	} while (put < 0 && errno == EINTR && !ended);
	if (put == 1)
		put = write(job->event_fd, line, size);
	if (ended)
		return fail(job, -ECANCELED, "ended by signal %d", (int)ended);
	if (put != size)
		return fail(job, -EIO, "event-fd %d does not take \"%.*s\"",
			    job->event_fd, (int)size - 1, line);
	return 0;
}

/* A store has sorted its devices. */
static void lend_data(struct file_job *job)
{
	for (uint32_t i = 0; i < job->targets; i++)
		for (uint32_t j = 0; j < job->targets; j++)
			if (job->device[i].name == job->target[j].name)
				job->device[i].data = job->target[j].data;
}

static int put(struct file_job *job, int fd, const char *buf, size_t len)
{
	const char *name = job->save ? job->path : "the device";
	ssize_t n;

	for (size_t done = 0; done < len; done += n) {
		n = write(fd, buf + done, len - done);
		if (ended)
			return fail(job, -ECANCELED, "ended by signal %d",
				    (int)ended);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return fail(job, n ? -errno : -EIO,
				    "%s, after %" PRIu64 " bytes: %s", name,
				    job->bytes + done, n ? strerror(errno) :
				    "it takes no more");
	}
	job->bytes += len;
	return 0;
}

static int copy(struct file_job *job, int from, int to)
{
	const char *name = job->save ? "the device" : job->path;
	bool progress = isatty(STDERR_FILENO) && !job->json;
	char *buf = malloc(CHUNK);
	ssize_t n = 0;
	int ret = 0;

	if (!buf)
		return fail(job, -ENOMEM, "no memory");
	while (!ret) {
		n = read(from, buf, CHUNK);
		if (ended)
			ret = fail(job, -ECANCELED, "ended by signal %d",
				   (int)ended);
		else if (n < 0 && errno != EINTR)
			ret = fail(job, -errno,
				   "%s, after %" PRIu64 " bytes: %s", name,
				   job->bytes, strerror(errno));
		else if (n > 0)
			ret = put(job, to, buf, n);
		else if (!n)
			break;
		if (progress)
			fprintf(stderr, "\r\033[K%.1f MiB", job->bytes / MIB);
	}
	if (progress)
		fprintf(stderr, "\r\033[K");
	free(buf);
	return ret;
}

/*
 * The name comes last, when the disk has what it names.  A directory that cannot
 * be synced then has one file or the other.
 */
static int keep(struct file_job *job)
{
	char *path = strdup(job->path);
	int dir = -1, unsynced = ENOMEM, ret = 0;

	if (path) {
		dir = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		unsynced = dir < 0 ? errno : 0;
	}
	if (fsync(job->file))
		ret = fail(job, -errno, "%s: %s", job->path, strerror(errno));
	/* A signal counts from before the name, or not at all. */
	on_signals(SIG_IGN);
	if (!ret && ended)
		ret = fail(job, -ECANCELED, "ended by signal %d", (int)ended);
	else if (!ret && rename(job->partial, job->path))
		ret = fail(job, -errno, "%s: %s", job->path, strerror(errno));
	else if (!ret)
		*job->partial = '\0';
	if (!ret && !unsynced && fsync(dir))
		unsynced = errno;
	if (!ret && unsynced)
		fprintf(stderr, PROGRAM ": %s: its directory: %s\n", job->path,
			strerror(unsynced));
	if (dir >= 0)
		close(dir);
	free(path);
	return ret;
}

static int move(struct file_job *job, struct store *store)
{
	int data = job->target[0].data, ret;
	uint32_t i;

	if (!job->is_store)
		return job->save ? copy(job, data, job->file) :
				   copy(job, job->file, data);
	lend_data(job);
	ret = job->save ? store_write(store, false) ?: store_seal(store) :
			  store_read(store);
	for (i = 0; i < job->targets; i++)
		job->bytes += job->device[i].bytes;
	return ret;
}

/* Those devices run on that can. */
static int live(struct file_job *job, struct store *store)
{
	uint32_t i;
	int ret;

	for (i = 0; i < job->targets; i++)
		job->target[i].live = job->target[i].before ==
				      VFIO_DEVICE_STATE_RUNNING &&
				      job->device[i].identity.migration_flags &
				      VMF_MIGRATION_PRE_COPY;
	ret = file_set_state(job, VMF_STATE_PRE_COPY);
	if (ret)
		return ret;
	lend_data(job);
	return file_live(job, store);
}

static int save(struct file_job *job, struct store *store)
{
	int ret = (job->live ? live(job, store) : 0) ?:
		  file_set_state(job, VFIO_DEVICE_STATE_RUNNING_P2P) ?:
		  file_set_state(job, VFIO_DEVICE_STATE_STOP_COPY) ?:
		  move(job, store) ?:
		  file_set_state(job, VFIO_DEVICE_STATE_STOP) ?:
		  keep(job);

	/* Whoever does not hear of it, the file is what it is. */
	if (!ret && file_event(job, "kept\n")) {
		fprintf(stderr, PROGRAM ": %s\n", job->error.text);
		job->error = (struct vmf_error){};
	}
	return ret;
}

static int restore(struct file_job *job, struct store *store)
{
	return file_set_state(job, VFIO_DEVICE_STATE_RUNNING_P2P) ?:
	       file_set_state(job, VFIO_DEVICE_STATE_RESUMING) ?:
	       move(job, store) ?:
	       file_set_state(job, VFIO_DEVICE_STATE_STOP);
}

/*
 * A device that may hold half of a state is reset; others go on as they were.  True if
 * one has lost its state, or could not be reset.
 */
static bool take_back(const struct file_job *job, struct file_target *target,
		      uint32_t state)
{
	bool half = !job->save && target->data >= 0;
	int none, ret;

	if (target->reset ||
	    (!half && !vmf_device_set_state(target->fd, state, &none)))
		return false;
	target->reset = true;
	ret = vmf_device_reset(target->fd);
	fprintf(stderr, PROGRAM ": the device %s %s\n", target->name,
		ret ? "could not be reset" : "was reset");
	return ret || !half;
}

/* Its VM stands still, and may see that it comes back by way of RUNNING_P2P. */
static bool was_stopped(const struct file_target *target)
{
	uint32_t state;

	return target->before == VFIO_DEVICE_STATE_RUNNING &&
	       (vmf_device_get_state(target->fd, &state) ||
		(state != VFIO_DEVICE_STATE_RUNNING &&
		 state != VMF_STATE_PRE_COPY));
}

static enum vmf_outcome roll_back(struct file_job *job)
{
	struct file_target *past = job->target + job->targets, *target;
	bool lost = false;

	/* A device that runs again may use its peers: they answer from here. */
	for (target = job->target; job->targets > 1 && target < past; target++)
		if (was_stopped(target))
			lost |= take_back(job, target,
					  VFIO_DEVICE_STATE_RUNNING_P2P);
	for (target = job->target; target < past; target++) {
		lost |= take_back(job, target, target->before);
		if (!target->reset)
			fprintf(stderr, PROGRAM ": the device %s is as it was\n",
				target->name);
	}
	return lost ? VMF_LOST : VMF_ROLLED_BACK;
}

static void report(const struct file_job *job, enum vmf_outcome outcome)
{
	if (outcome != VMF_DONE)
		fprintf(stderr, PROGRAM ": %s: %s\n", vmf_outcome_name(outcome),
			job->error.text);
	if (job->json) {
		printf("{");
		report_json_string("command", job->name);
		printf(", ");
		report_json_string("outcome", vmf_outcome_name(outcome));
		printf(", \"exit\": %d, ", outcome);
		report_json_string("text", job->error.text);
		printf(", ");
		report_json_string("file", job->path);
		printf(", \"rounds\": %u, \"end\": \"%s\", \"bytes\": %" PRIu64 "}\n",
		       job->rounds.count,
		       vmf_precopy_end_name(job->precopy_end), job->bytes);
	} else if (outcome == VMF_DONE) {
		printf("%s: %.1f MiB; the device%s in STOP\n", job->path,
		       job->bytes / MIB, job->targets > 1 ? "s are" : " is");
	}
}

static int run(int argc, char **argv, bool is_save)
{
	struct file_job job = {
		.name = argv[0],
		.save = is_save,
		.file = -1,
		.ended = &ended,
	};
	struct store store = {};
	enum vmf_outcome outcome = VMF_DONE;
	int ret = file_parse(&job, argc, argv);

	if (ret >= 0)
		return ret;
	on_signals(end);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);	/* EFBIG says the same */
	if (check_devices(&job) || open_file(&job) || look_into(&job, &store))
		outcome = VMF_REFUSED;
	else if (is_save ? save(&job, &store) : restore(&job, &store))
		outcome = roll_back(&job);
	store_free(&store);
	if (*job.partial)
		unlink(job.partial);
	report(&job, outcome);
	return outcome;
}

int command_save(int argc, char **argv)
{
	return run(argc, argv, true);
}

int command_restore(int argc, char **argv)
{
	return run(argc, argv, false);
}

// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The commands save and restore: a device's state in a file, which is its stream
 * and nothing else.
 */
#include "command.h"
#include "report.h"

#include <lib/error.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK	(1u << 20)	/* bytes; whole records of our own drivers */
#define MIB	(1024.0 * 1024.0)

/**
 * struct job - one save or restore
 * @name: "save" or "restore"
 * @save: it is save
 * @json: print the report as JSON
 * @device: fd of the VFIO device
 * @path: the file
 * @before: state of the device when it began
 * @data: migration data fd, or -1
 * @file: fd of the file, or of what is to become it, or -1
 * @partial: what is to become the file; empty if there is no such thing
 * @bytes: that went through
 * @error: what failed first
 */
struct job {
	const char *name;
	bool save;
	bool json;
	int device;
	const char *path;
	uint32_t before;
	int data;
	int file;
	char partial[PATH_MAX];
	uint64_t bytes;
	struct vmf_error error;
};

/* What failed first stays. */
#define fail(job, ...)	vmf_error_set(&(job)->error, __VA_ARGS__)

enum { OPT_DEVICE = 1, OPT_FILE, OPT_JSON, OPT_HELP = 'h' };

static const struct option options[] = {
	{ "device-fd", required_argument, NULL, OPT_DEVICE },
	{ "file", required_argument, NULL, OPT_FILE },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, OPT_HELP },
	{}
};

static volatile sig_atomic_t ended;

static void end(int signal)
{
	ended = signal;
}

static void help(bool save)
{
	if (save)
		printf("Usage: " PROGRAM " save --device-fd N --file FILE [--json]\n\n"
		       "Stops a VFIO device and keeps its state in a file, whole or not at all: what\n"
		       "FILE was before stays until all of the state is on the disk.\n\n");
	else
		printf("Usage: " PROGRAM " restore --device-fd N --file FILE [--json]\n\n"
		       "Loads a VFIO device with what \"save\" has kept of a device like it.\n\n");
	printf("      --device-fd N  the fd of a VFIO device\n"
	       "      --file FILE    where the state goes, or comes from\n"
	       "      --json         report as JSON\n"
	       "  -h, --help         this text\n\n"
	       "Afterwards the device is in STOP, and its VMM lets it run.  Without success it\n"
	       "is in the state it was in%s.\n\n"
	       "Exit status: 0 done; 1 usage; 2 failed before the device was touched; 3 failed\n"
	       "later and rolled back; 5 failed, and the device could not be rolled back.\n",
	       save ? "" : ", or was reset");
}

/* Return: an open fd, or -1 */
static int parse_fd(const char *text)
{
	char *rest;
	long fd = strtol(text, &rest, 10);

	if (!*text || *rest || fd < 0 || fd > INT_MAX ||
	    fcntl(fd, F_GETFD) < 0)
		return -1;
	return fd;
}

/* Return: what the caller is to return, or -1 to go on */
static int parse(struct job *job, int argc, char **argv)
{
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (option) {
		case OPT_HELP:
			help(job->save);
			return VMF_DONE;
		case OPT_DEVICE:
			job->device = parse_fd(optarg);
			if (job->device >= 0)
				break;
			return command_usage(job->name,
					     "--device-fd: \"%s\" is not an open fd",
					     optarg);
		case OPT_FILE:
			job->path = optarg;
			break;
		case OPT_JSON:
			job->json = true;
			break;
		default:
			return command_bad_option(job->name, argv);
		}
	}
	if (optind < argc)
		return command_usage(job->name, "what is \"%s\"?",
				     argv[optind]);
	if (job->device < 0)
		return command_usage(job->name, "--device-fd is missing");
	if (!job->path)
		return command_usage(job->name, "--file is missing");
	return -1;
}

/* What is no file must not become one. */
static int check_file(struct job *job)
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

static int open_file(struct job *job)
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

/* The device as it is now must be one that the state can be taken from. */
static int check_device(struct job *job)
{
	struct vmf_identity identity;
	int ret;

	ret = vmf_device_identify(job->device, &identity, &job->error);
	if (ret)
		return ret;
	ret = vmf_device_get_state(job->device, &job->before);
	if (ret)
		return fail(job, ret, "fd %d: migration state: %s", job->device,
			    strerror(-ret));
	if (job->before != VFIO_DEVICE_STATE_RUNNING &&
	    job->before != VFIO_DEVICE_STATE_STOP)
		return fail(job, -EBUSY, "fd %d is in %s, not RUNNING or STOP",
			    job->device, vmf_device_state_name(job->before));
	return 0;
}

static int set_state(struct job *job, uint32_t state, int *data)
{
	int ret = vmf_device_set_state(job->device, state, data);

	if (ret)
		return fail(job, ret, "fd %d to %s: %s%s", job->device,
			    vmf_device_state_name(state), strerror(-ret),
			    state == VFIO_DEVICE_STATE_STOP && !job->save ?
			    "; the kernel's log may tell more" : "");
	return 0;
}

static int put(struct job *job, int fd, const char *buf, size_t len)
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

static int copy(struct job *job, int from, int to)
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
static int keep(struct job *job)
{
	char *path = strdup(job->path);
	int dir = -1, ret = 0;

	if (path)
		dir = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || fsync(job->file) || rename(job->partial, job->path))
		ret = fail(job, -errno, "%s: %s", job->path, strerror(errno));
	else
		*job->partial = '\0';
	if (!ret && fsync(dir))
		fprintf(stderr, PROGRAM ": %s: its directory: %s\n", job->path,
			strerror(errno));
	if (dir >= 0)
		close(dir);
	free(path);
	return ret;
}

static int save(struct job *job)
{
	int none;

	return set_state(job, VFIO_DEVICE_STATE_STOP_COPY, &job->data) ?:
	       copy(job, job->data, job->file) ?:
	       set_state(job, VFIO_DEVICE_STATE_STOP, &none) ?:
	       keep(job);
}

static int restore(struct job *job)
{
	int none;

	return set_state(job, VFIO_DEVICE_STATE_RESUMING, &job->data) ?:
	       copy(job, job->file, job->data) ?:
	       set_state(job, VFIO_DEVICE_STATE_STOP, &none);
}

/* A device that may hold half of a state is reset; others go on as they were. */
static enum vmf_outcome roll_back(struct job *job)
{
	enum vmf_outcome outcome = VMF_ROLLED_BACK;
	const char *how = "is as it was";
	int none;

	if ((!job->save && job->data >= 0) ||
	    vmf_device_set_state(job->device, job->before, &none)) {
		how = "was reset";
		if (job->save)
			outcome = VMF_LOST;
		if (vmf_device_reset(job->device)) {
			how = "could not be reset";
			outcome = VMF_LOST;
		}
	}
	fprintf(stderr, PROGRAM ": the device %s\n", how);
	return outcome;
}

static void report(const struct job *job, enum vmf_outcome outcome)
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
		printf(", \"bytes\": %" PRIu64 "}\n", job->bytes);
	} else if (outcome == VMF_DONE) {
		printf("%s: %.1f MiB; the device is in STOP\n", job->path,
		       job->bytes / MIB);
	}
}

static int run(int argc, char **argv, bool is_save)
{
	struct sigaction action = { .sa_handler = end };
	struct job job = {
		.name = argv[0],
		.save = is_save,
		.device = -1,
		.data = -1,
		.file = -1,
	};
	enum vmf_outcome outcome = VMF_DONE;
	int ret = parse(&job, argc, argv);

	if (ret >= 0)
		return ret;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (check_device(&job) || open_file(&job))
		outcome = VMF_REFUSED;
	else if (is_save ? save(&job) : restore(&job))
		outcome = roll_back(&job);
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

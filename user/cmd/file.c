// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The commands save and restore: a device's state in a file, which is its stream
 * and nothing else, or that of several devices in a store.
 */
#include "command.h"
#include "report.h"
#include "store.h"

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

#define DEFAULT_CHANNELS	4u
#define CHUNK	(1u << 20)	/* bytes; whole records of our own drivers */
#define MIB	(1024.0 * 1024.0)

/**
 * struct target - a device
 * @fd: of the VFIO device
 * @name: in a store, and in messages
 * @before: state of the device when it began
 * @data: migration data fd, or -1
 */
struct target {
	int fd;
	char name[VFIO_MULTIFD_IDSTR_SIZE];
	uint32_t before;
	int data;
};

/**
 * struct job - one save or restore
 * @name: "save" or "restore"
 * @save: it is save
 * @json: print the report as JSON
 * @direct: the page cache is to be left alone
 * @channels: threads for a store, or 0
 * @is_store: the file is one
 * @targets: number of entries in @target
 * @target: the devices
 * @device: the same, for a store, which sorts them
 * @path: the file
 * @file: fd of the file, or of what is to become it, or -1
 * @partial: what is to become the file; empty if there is no such thing
 * @bytes: that went through
 * @error: what failed first
 */
struct job {
	const char *name;
	bool save;
	bool json;
	bool direct;
	uint32_t channels;
	bool is_store;
	uint32_t targets;
	struct target target[VFIO_MULTIFD_MAX_DEVICES];
	struct store_device device[VFIO_MULTIFD_MAX_DEVICES];
	const char *path;
	int file;
	char partial[PATH_MAX];
	uint64_t bytes;
	struct vmf_error error;
};

/* What failed first stays. */
#define fail(job, ...)	vmf_error_set(&(job)->error, __VA_ARGS__)

enum { OPT_DEVICE = 1, OPT_FILE, OPT_CHANNELS, OPT_DIRECT, OPT_JSON, OPT_HELP = 'h' };

static const struct option options[] = {
	{ "device-fd", required_argument, NULL, OPT_DEVICE },
	{ "file", required_argument, NULL, OPT_FILE },
	{ "channels", required_argument, NULL, OPT_CHANNELS },
	{ "direct", no_argument, NULL, OPT_DIRECT },
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
		printf("Usage: " PROGRAM
		       " save --device-fd N[,idstr=NAME]... --file FILE [OPTION]...\n\n"
		       "Stops VFIO devices and keeps their state in a file, whole or not at all: what\n"
		       "FILE was before stays until all of the state is on the disk.\n\n");
	else
		printf("Usage: " PROGRAM
		       " restore --device-fd N[,idstr=NAME]... --file FILE [OPTION]...\n\n"
		       "Loads VFIO devices with what \"save\" has kept of devices like them.\n\n");
	printf("      --device-fd N[,idstr=NAME]\n"
	       "                     the fd of a VFIO device, and its name in the file (vfio0,\n"
	       "                     vfio1 and so on, in order); repeat for more devices\n"
	       "      --file FILE    where the state goes, or comes from\n"
	       "      --channels N   threads that move the state, 1 to %d (%u)\n"
	       "      --direct       past the page cache, if the file system can do that\n"
	       "      --json         report as JSON\n"
	       "  -h, --help         this text\n\n",
	       VFIO_MULTIFD_MAX_CHANNELS, DEFAULT_CHANNELS);
	printf("One device without --channels and --direct is kept as the stream that its driver\n"
	       "gives.  Afterwards the devices are in STOP, and their VMM lets them run.  Without\n"
	       "success they are in the state they were in%s.\n\n"
	       "Exit status: 0 done; 1 usage; 2 failed before a device was touched; 3 failed\n"
	       "later and rolled back; 5 failed, and a device could not be rolled back.\n",
	       save ? "" : ", or were reset");
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

/* "N" or "N,idstr=NAME": -1 to go on */
static int add_target(struct job *job, char *text)
{
	struct target *target = &job->target[job->targets];
	char *name = strchr(text, ',');

	if (job->targets == VFIO_MULTIFD_MAX_DEVICES)
		return command_usage(job->name, "more than %u devices",
				     VFIO_MULTIFD_MAX_DEVICES);
	if (name)
		*name++ = '\0';
	target->fd = parse_fd(text);
	target->data = -1;
	if (target->fd < 0)
		return command_usage(job->name,
				     "--device-fd: \"%s\" is not an open fd",
				     text);
	snprintf(target->name, sizeof(target->name), "vfio%u", job->targets);
	if (name && (strncmp(name, "idstr=", 6) || !name[6] ||
		     strlen(name + 6) >= sizeof(target->name)))
		return command_usage(job->name,
				     "--device-fd: \"%s\" is not idstr= and a name of 1 to %zu characters",
				     name, sizeof(target->name) - 1);
	if (name)
		strcpy(target->name, name + 6);
	for (uint32_t i = 0; i < job->targets; i++)
		if (!strcmp(job->target[i].name, target->name) ||
		    job->target[i].fd == target->fd)
			return command_usage(job->name,
					     "--device-fd: \"%s\" is given twice",
					     target->name);
	job->targets++;
	return -1;
}

static int set_channels(struct job *job, const char *text)
{
	char *rest;
	unsigned long n = strtoul(text, &rest, 10);

	if (*text < '0' || *text > '9' || *rest || !n ||
	    n > VFIO_MULTIFD_MAX_CHANNELS)
		return command_usage(job->name,
				     "--channels: \"%s\" is not 1 to %u", text,
				     VFIO_MULTIFD_MAX_CHANNELS);
	job->channels = n;
	return -1;
}

/* Return: what the caller is to return, or -1 to go on */
static int parse(struct job *job, int argc, char **argv)
{
	int option, ret;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		ret = -1;
		switch (option) {
		case OPT_HELP:
			help(job->save);
			return VMF_DONE;
		case OPT_DEVICE:
			ret = add_target(job, optarg);
			break;
		case OPT_FILE:
			job->path = optarg;
			break;
		case OPT_CHANNELS:
			ret = set_channels(job, optarg);
			break;
		case OPT_DIRECT:
			job->direct = true;
			break;
		case OPT_JSON:
			job->json = true;
			break;
		default:
			ret = command_bad_option(job->name, argv);
		}
		if (ret >= 0)
			return ret;
	}
	if (optind < argc)
		return command_usage(job->name, "what is \"%s\"?",
				     argv[optind]);
	if (!job->targets)
		return command_usage(job->name, "--device-fd is missing");
	if (!job->path)
		return command_usage(job->name, "--file is missing");
	job->is_store = job->targets > 1 || job->channels || job->direct;
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

/* What the file is, and whether it fits, before a device is touched */
static int look_into(struct job *job, struct store *store)
{
	int ret, flags;

	if (!job->save)
		job->is_store = store_is(job->file);
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
		.threads = job->channels ? job->channels : DEFAULT_CHANNELS,
		.ended = &ended, .error = &job->error,
	};
	ret = job->save ? 0 : store_open(store);
	return ret;
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

/* The devices as they are now must be ones that the state can be taken from. */
static int check_devices(struct job *job)
{
	uint32_t i;
	int ret;

	for (i = 0; i < job->targets; i++) {
		struct target *target = &job->target[i];
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

static int set_state(struct job *job, uint32_t state)
{
	uint32_t i;
	int data, ret;

	for (i = 0; i < job->targets; i++) {
		struct target *target = &job->target[i];

		/* Who stands still already is nobody's peer. */
		if (state == VFIO_DEVICE_STATE_RUNNING_P2P &&
		    (job->targets == 1 ||
		     target->before == VFIO_DEVICE_STATE_STOP))
			continue;
		ret = vmf_device_set_state(target->fd, state, &data);
		if (ret)
			return fail(job, ret, "fd %d to %s: %s%s", target->fd,
				    vmf_device_state_name(state),
				    strerror(-ret),
				    state == VFIO_DEVICE_STATE_STOP &&
				    !job->save ?
				    "; the kernel's log may tell more" : "");
		if (data >= 0)
			target->data = data;
	}
	return 0;
}

/* A store has sorted its devices. */
static void lend_data(struct job *job)
{
	for (uint32_t i = 0; i < job->targets; i++)
		for (uint32_t j = 0; j < job->targets; j++)
			if (job->device[i].name == job->target[j].name)
				job->device[i].data = job->target[j].data;
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

static int move(struct job *job, struct store *store)
{
	int data = job->target[0].data, ret;
	uint32_t i;

	if (!job->is_store)
		return job->save ? copy(job, data, job->file) :
				   copy(job, job->file, data);
	lend_data(job);
	ret = job->save ? store_write(store) : store_read(store);
	for (i = 0; i < job->targets; i++)
		job->bytes += job->device[i].bytes;
	return ret;
}

static int save(struct job *job, struct store *store)
{
	return set_state(job, VFIO_DEVICE_STATE_RUNNING_P2P) ?:
	       set_state(job, VFIO_DEVICE_STATE_STOP_COPY) ?:
	       move(job, store) ?:
	       set_state(job, VFIO_DEVICE_STATE_STOP) ?:
	       keep(job);
}

static int restore(struct job *job, struct store *store)
{
	return set_state(job, VFIO_DEVICE_STATE_RUNNING_P2P) ?:
	       set_state(job, VFIO_DEVICE_STATE_RESUMING) ?:
	       move(job, store) ?:
	       set_state(job, VFIO_DEVICE_STATE_STOP);
}

/* A device that may hold half of a state is reset; others go on as they were. */
static enum vmf_outcome roll_back_one(const struct job *job,
				      const struct target *target)
{
	enum vmf_outcome outcome = VMF_ROLLED_BACK;
	const char *how = "is as it was";
	int none;

	if ((!job->save && target->data >= 0) ||
	    vmf_device_set_state(target->fd, target->before, &none)) {
		how = "was reset";
		if (job->save)
			outcome = VMF_LOST;
		if (vmf_device_reset(target->fd)) {
			how = "could not be reset";
			outcome = VMF_LOST;
		}
	}
	fprintf(stderr, PROGRAM ": the device %s %s\n", target->name, how);
	return outcome;
}

static enum vmf_outcome roll_back(const struct job *job)
{
	enum vmf_outcome outcome = VMF_ROLLED_BACK;

	for (uint32_t i = 0; i < job->targets; i++)
		if (roll_back_one(job, &job->target[i]) == VMF_LOST)
			outcome = VMF_LOST;
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
		printf("%s: %.1f MiB; the device%s in STOP\n", job->path,
		       job->bytes / MIB, job->targets > 1 ? "s are" : " is");
	}
}

static int run(int argc, char **argv, bool is_save)
{
	struct sigaction action = { .sa_handler = end };
	struct job job = {
		.name = argv[0],
		.save = is_save,
		.file = -1,
	};
	struct store store = {};
	enum vmf_outcome outcome = VMF_DONE;
	int ret = parse(&job, argc, argv);

	if (ret >= 0)
		return ret;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
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

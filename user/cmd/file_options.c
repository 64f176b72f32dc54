// SPDX-License-Identifier: GPL-2.0-or-later
#include "command.h"
#include "file.h"

#include <ctype.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_DOWNTIME	300u	/* ms */
#define DEFAULT_ROUNDS		30u
#define MAX_DOWNTIME		3600000u /* ms */
#define MAX_ROUNDS		1000000u

enum {
	OPT_DEVICE = 1,
	OPT_FILE,
	OPT_CHANNELS,
	OPT_DIRECT,
	OPT_LIVE,
	OPT_DOWNTIME,
	OPT_ROUNDS,
	OPT_TRIGGER,
	OPT_EVENT,
	OPT_JSON,
	OPT_HELP = 'h',
};

static const struct option save_options[] = {
	{ "device-fd", required_argument, NULL, OPT_DEVICE },
	{ "file", required_argument, NULL, OPT_FILE },
	{ "channels", required_argument, NULL, OPT_CHANNELS },
	{ "direct", no_argument, NULL, OPT_DIRECT },
	{ "live", no_argument, NULL, OPT_LIVE },
	{ "downtime-limit", required_argument, NULL, OPT_DOWNTIME },
	{ "max-rounds", required_argument, NULL, OPT_ROUNDS },
	{ "trigger-fd", required_argument, NULL, OPT_TRIGGER },
	{ "event-fd", required_argument, NULL, OPT_EVENT },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, OPT_HELP },
	{}
};

static const struct option restore_options[] = {
	{ "device-fd", required_argument, NULL, OPT_DEVICE },
	{ "file", required_argument, NULL, OPT_FILE },
	{ "channels", required_argument, NULL, OPT_CHANNELS },
	{ "direct", no_argument, NULL, OPT_DIRECT },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "help", no_argument, NULL, OPT_HELP },
	{}
};

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
	       "  -h, --help         this text\n",
	       VFIO_MULTIFD_MAX_CHANNELS, FILE_THREADS);
	if (!save)
		printf("\n");
	if (save)
		printf("      --live         keep state while the VM runs, in rounds\n"
		       "      --downtime-limit MS\n"
		       "                     with --live: \"may-stop\" comes when what is left would take\n"
		       "                     no longer than this (%u),\n"
		       "      --max-rounds N or after so many rounds (%u)\n"
		       "      --trigger-fd N with --live: becomes readable once the VM is paused;\n"
		       "                     without it the devices are stopped by \"may-stop\"\n"
		       "      --event-fd N   with --live: gets \"may-stop\", and \"kept\" at the end\n\n",
		       DEFAULT_DOWNTIME, DEFAULT_ROUNDS);
	printf("One device without --channels, --direct and --live is kept as the stream that its\n"
	       "driver gives.  Afterwards the devices are in STOP, and their VMM lets them run.  Without\n"
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

static bool is_name(const char *text)
{
	size_t len = 0;

	while (isgraph((unsigned char)text[len]))
		len++;
	return len && len < VFIO_MULTIFD_IDSTR_SIZE && !text[len];
}

/* "N" or "N,idstr=NAME": -1 to go on */
static int add_target(struct file_job *job, char *text)
{
	struct file_target *target = &job->target[job->targets];
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
	if (name && (strncmp(name, "idstr=", 6) || !is_name(name + 6) ||
		     strchr(name, ',')))
		return command_usage(job->name,
				     "--device-fd: \"%s\" is not idstr= and a name of 1 to %u printable ASCII characters without spaces and commas",
				     name, VFIO_MULTIFD_IDSTR_SIZE - 1);
	if (name)
		strcpy(target->name, name + 6);
	for (uint32_t i = 0; i < job->targets; i++) {
		if (job->target[i].fd == target->fd)
			return command_usage(job->name,
					     "--device-fd: fd %d is given twice",
					     target->fd);
		if (!strcmp(job->target[i].name, target->name))
			return command_usage(job->name,
					     "--device-fd: \"%s\" is given twice",
					     target->name);
	}
	job->targets++;
	return -1;
}

static int set_number(struct file_job *job, const char *option, const char *text,
		      uint32_t min, uint32_t max, uint32_t *number)
{
	char *rest;
	unsigned long n = strtoul(text, &rest, 10);

	if (*text < '0' || *text > '9' || *rest || n < min || n > max)
		return command_usage(job->name, "--%s: \"%s\" is not %u to %u",
				     option, text, min, max);
	*number = n;
	return -1;
}

static int set_fd(struct file_job *job, const char *option, const char *text,
		  int *fd)
{
	*fd = parse_fd(text);
	if (*fd < 0)
		return command_usage(job->name,
				     "--%s: \"%s\" is not an open fd", option,
				     text);
	return -1;
}

/* What is only for --live */
static int parse_live(struct file_job *job, int option, const char *text)
{
	switch (option) {
	case OPT_DOWNTIME:
		return set_number(job, "downtime-limit", text, 0, MAX_DOWNTIME,
				  &job->rounds.downtime_limit);
	case OPT_ROUNDS:
		return set_number(job, "max-rounds", text, 1, MAX_ROUNDS,
				  &job->rounds.max);
	case OPT_TRIGGER:
		return set_fd(job, "trigger-fd", text, &job->trigger_fd);
	default:
		return set_fd(job, "event-fd", text, &job->event_fd);
	}
}

int file_parse(struct file_job *job, int argc, char **argv)
{
	const struct option *options = job->save ? save_options :
						   restore_options;
	bool wants_live = false;
	int option, ret;

	job->trigger_fd = -1;
	job->event_fd = -1;
	job->rounds.downtime_limit = DEFAULT_DOWNTIME;
	job->rounds.max = DEFAULT_ROUNDS;
	job->rounds.enough = 1 << 20;
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
			ret = set_number(job, "channels", optarg, 1,
					 VFIO_MULTIFD_MAX_CHANNELS,
					 &job->channels);
			break;
		case OPT_DIRECT:
			job->direct = true;
			break;
		case OPT_JSON:
			job->json = true;
			break;
		case OPT_LIVE:
			job->live = true;
			break;
		case OPT_DOWNTIME:
		case OPT_ROUNDS:
		case OPT_TRIGGER:
		case OPT_EVENT:
			wants_live = true;
			ret = parse_live(job, option, optarg);
			break;
		default:
			ret = command_try_help(job->name);
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
	if (wants_live && !job->live)
		return command_usage(job->name,
				     "--downtime-limit, --max-rounds, --trigger-fd and --event-fd are for --live");
	job->is_store = job->targets > 1 || job->channels || job->direct ||
			job->live;
	return -1;
}


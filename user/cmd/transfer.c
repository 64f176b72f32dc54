// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The commands send, check and recv: events and exit status out.
 */
#include "command.h"
#include "options.h"
#include "report.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define MIB	(1024.0 * 1024.0)

/*
 * Waits for room first: the fd may be somebody's terminal, so O_NONBLOCK is
 * not ours to set.  A line is shorter than PIPE_BUF, so it is written whole.
 */
static int write_event(const struct command *command, const char *line)
{
	struct pollfd fd = { .fd = command->event_fd, .events = POLLOUT };
	ssize_t size = strlen(line), put;
	int ret;

	do {
		ret = poll(&fd, 1, command->params.timeout * 1000);
	} while (ret < 0 && errno == EINTR);
	if (ret < 0)
		return -errno;
	if (!ret)
		return -ETIMEDOUT;
	put = write(command->event_fd, line, size);
	if (put < 0)
		return -errno;
	/* A line without its end tells nothing. */
	return put == size ? 0 : -EIO;
}

static int on_event(void *opaque, enum vmf_event event, const char *text)
{
	const struct command *command = opaque;
	char line[VMF_TEXT_SIZE + 64];

	if (event == VMF_EVENT_LISTENING)
		fprintf(stderr, PROGRAM ": listening on %s\n", text);
	if (command->event_fd < 0)
		return 0;
	snprintf(line, sizeof(line), "%s%s%s\n", vmf_event_name(event),
		 text ? " " : "", text ? text : "");
	return write_event(command, line);
}

static void on_progress(void *opaque, const struct vmf_report *report)
{
	const struct command *command = opaque;

	report_progress(&command->params, report);
}

/* Signals that ask for an end become an fd; -1 if that failed. */
static int watch_signals(void)
{
	sigset_t set;

	command_end_signals(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

/*
 * An fd that is readable once the helper is asked to end, or its VMM is gone,
 * so that nobody reads events any more.
 */
static int watch_end(const struct command *command)
{
	struct epoll_event signals = { .events = EPOLLIN }, gone = {};
	int watch = epoll_create1(EPOLL_CLOEXEC);

	if (watch < 0 ||
	    epoll_ctl(watch, EPOLL_CTL_ADD, watch_signals(), &signals))
		return -1;
	/* EPOLLERR and EPOLLHUP come unasked.  A file cannot be watched. */
	if (command->event_fd >= 0)
		epoll_ctl(watch, EPOLL_CTL_ADD, command->event_fd, &gone);
	return watch;
}

/* What check has to say, where it makes sense */
static void report_check(const struct vmf_report *report)
{
	printf("these devices can migrate: %.1f MiB at most, about %.0f ms without pre-copy\n"
	       "(at %.0f MiB/s, which is what one connection gives)\n",
	       report->check.size / MIB, report->check.expected_ns / 1e6,
	       report->check.rate / MIB);
}

static int run(int argc, char **argv, bool send, bool check)
{
	struct command command = {
		.name = argv[0],
		.send = send,
		.check = check,
		.params = {
			.event = on_event,
			.opaque = &command,
		},
	};
	enum vmf_outcome outcome;
	struct vmf_report report;
	int ret;

	ret = options_parse(&command, argc, argv);
	if (ret)
		return ret;
	if (isatty(STDERR_FILENO) && !check)
		command.params.progress = on_progress;
	command.params.cancel_fd = watch_end(&command);
	if (command.params.cancel_fd < 0) {
		fprintf(stderr, PROGRAM ": watching for signals: %s\n",
			strerror(errno));
		return VMF_SETUP;
	}

	if (check)
		outcome = vmf_check(&command.params, &report);
	else
		outcome = send ? vmf_send(&command.params, &report) :
				 vmf_recv(&command.params, &report);

	if (command.params.progress)
		report_progress_end();
	if (outcome != VMF_DONE || *report.text)
		fprintf(stderr, PROGRAM ": %s: %s\n",
			vmf_outcome_name(outcome), report.text);
	if (*report.fallback)
		fprintf(stderr, PROGRAM ": %s\n", report.fallback);
	if (command.json)
		report_json(&command.params, &report, command.name);
	else if (outcome == VMF_DONE && check)
		report_check(&report);
	else if (outcome == VMF_DONE)
		report_table(&command.params, &report, send);
	return outcome;
}

int command_send(int argc, char **argv)
{
	return run(argc, argv, true, false);
}

int command_check(int argc, char **argv)
{
	return run(argc, argv, true, true);
}

int command_recv(int argc, char **argv)
{
	return run(argc, argv, false, false);
}

// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vfio-multifd: moves VFIO device state to another host over kernel TCP
 * channels, keeps it in files, and binds devices to the drivers that can do it.
 */
#include "command.h"

#include <vfio-multifd.h>

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
} commands[] = {
	{ "send", command_send, "move the state of devices to another host" },
	{ "check", command_check, "ask another host whether send would work" },
	{ "recv", command_recv, "take the state of devices from another host" },
	{ "save", command_save, "keep the state of devices in a file" },
	{ "restore", command_restore, "load devices with what a file keeps" },
	{ "status", command_status, "show the transfers of this network namespace" },
	{ "monitor", command_monitor, "tell of each transfer as it goes on" },
	{ "bind", command_bind, "bind a PCI device to its VFIO variant driver" },
	{ "unbind", command_unbind, "give a PCI device back to its own driver" },
};

#define COMMANDS	(sizeof(commands) / sizeof(commands[0]))

int command_try_help(const char *command)
{
	fprintf(stderr, "Try \"" PROGRAM "%s%s --help\".\n",
		*command ? " " : "", command);
	return VMF_SETUP;
}

int command_usage(const char *command, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fprintf(stderr, PROGRAM ": ");
	vfprintf(stderr, fmt, args);
	fprintf(stderr, "\n");
	va_end(args);
	return command_try_help(command);
}

void command_end_signals(sigset_t *set)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction old;
	size_t i;

	sigemptyset(set);
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (!sigaction(numbers[i], NULL, &old) &&
		    old.sa_handler != SIG_IGN)
			sigaddset(set, numbers[i]);
}

static int help(void)
{
	size_t i;

	printf("Usage: " PROGRAM " COMMAND [OPTION]... [ARGUMENT]\n\n"
	       "Live migration of VFIO device state, streamed by the kernel.\n\n"
	       "Commands:\n");
	for (i = 0; i < COMMANDS; i++)
		printf("  %-8s%s\n", commands[i].name, commands[i].help);
	printf("\n"
	       "  -h, --help     this text; after a command, what it takes\n"
	       "  -V, --version  the version\n\n"
	       "Device state crosses the network as plain TCP, without encryption or\n"
	       "authentication: use a trusted network only.\n");
	return VMF_DONE;
}

/* What is opened later must not become what messages go to. */
static void need_stdio(void)
{
	int fd;

	for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			open("/dev/null", O_RDWR);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;
	size_t i;

	need_stdio();
	if (!name)
		return command_usage("", "which command?");
	if (!strcmp(name, "-h") || !strcmp(name, "--help") ||
	    !strcmp(name, "help"))
		return help();
	if (!strcmp(name, "-V") || !strcmp(name, "--version")) {
		printf(PROGRAM " " VMF_VERSION "\n");
		return VMF_DONE;
	}
	for (i = 0; i < COMMANDS; i++)
		if (!strcmp(name, commands[i].name))
			return commands[i].run(argc - 1, argv + 1);
	return command_usage("", "there is no command \"%s\"", name);
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef COMMAND_H
#define COMMAND_H

#include <signal.h>

#define PROGRAM	"vfio-multifd"

/* Each takes its own arguments, its name first, and returns the exit status. */
int command_send(int argc, char **argv);
int command_check(int argc, char **argv);
int command_recv(int argc, char **argv);
int command_save(int argc, char **argv);
int command_restore(int argc, char **argv);
int command_status(int argc, char **argv);
int command_monitor(int argc, char **argv);
int command_bind(int argc, char **argv);
int command_unbind(int argc, char **argv);

/* Says on stderr what is wrong and how to find what is right; returns 1. */
__attribute__((format(printf, 2, 3)))
int command_usage(const char *command, const char *fmt, ...);

/* Its second half, after getopt_long() has said the first */
int command_try_help(const char *command);

/* Those that end a command, but for what whoever started it wants to be ignored */
void command_end_signals(sigset_t *set);

#endif /* COMMAND_H */

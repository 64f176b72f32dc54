/* SPDX-License-Identifier: GPL-2.0-only */
/* The helper vfio-multifd as the VMM sees it: a child and some pipes */
#ifndef SELFTESTS_HELPER_H
#define SELFTESTS_HELPER_H

#include <stdbool.h>
#include <stdio.h>

#include "guest.h"

/**
 * struct helper - a helper that was started
 * @pid: its process
 * @events: lines from it
 * @trigger: tells it that the vCPUs are paused, or -1
 * @config: this end of each device's config pipe
 */
struct helper {
	pid_t pid;
	FILE *events;
	int trigger;
	int config[GUEST_MAX_DEVICES];
};

bool helper_talks(const char *verb, char **arguments);
int helper_start(struct helper *helper, struct guest *guest, const char *verb,
		 const char *program, char **arguments);
void helper_ignore(struct helper *helper);
bool helper_event(struct helper *helper, char *line, size_t size);
int helper_trigger(struct helper *helper);
int helper_give_config(struct helper *helper, unsigned int device,
		       const void *blob, size_t len);
ssize_t helper_take_config(struct helper *helper, unsigned int device,
			   void *blob, size_t room);
int helper_wait(struct helper *helper);

#endif /* SELFTESTS_HELPER_H */

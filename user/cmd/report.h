/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What people, and programs that are not the VMM, get to see of a transfer.
 */
#ifndef REPORT_H
#define REPORT_H

#include <vfio-multifd.h>

/* Draws the progress line on stderr, which is a terminal, over the last one. */
void report_progress(const struct vmf_params *params,
		     const struct vmf_report *report);

/* Takes the progress line away. */
void report_progress_end(void);

/* Prints a table of the phases to stdout. */
void report_table(const struct vmf_params *params,
		  const struct vmf_report *report, bool send);

/* Prints everything to stdout as one JSON object. */
void report_json(const struct vmf_params *params,
		 const struct vmf_report *report, const char *role);

/* Prints a member of a JSON object to stdout. */
void report_json_string(const char *name, const char *text);

/* The member "features" */
void report_json_features(uint64_t features);

#endif /* REPORT_H */

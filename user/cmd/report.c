// SPDX-License-Identifier: GPL-2.0-or-later
#include "report.h"

#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define MIB	(1024.0 * 1024.0)
#define NS	1e9

/* An end that was not reached is 0, and moments may change places. */
static uint64_t span_ns(uint64_t from, uint64_t to)
{
	return to > from ? to - from : 0;
}

static double span_ms(const struct vmf_report *report, enum vmf_time from,
		      enum vmf_time to)
{
	return span_ns(report->time_ns[from], report->time_ns[to]) / 1e6;
}

static double rate_mib(const struct vmf_report *report, uint64_t end_ns)
{
	uint64_t start = report->time_ns[VMF_TIME_STOPPED];
	uint64_t bytes = report->bytes;
	double seconds;

	/* what moved in pre-copy had another time for that */
	if (start)
		bytes -= report->precopy.bytes;
	else
		start = report->time_ns[VMF_TIME_NEGOTIATED];
	seconds = span_ns(start, end_ns) / NS;

	return seconds > 0 ? bytes / MIB / seconds : 0;
}

/* A terminal that somebody has stopped must not stop the transfer. */
static void draw(const char *line)
{
	struct pollfd fd = { .fd = STDERR_FILENO, .events = POLLOUT };

	if (poll(&fd, 1, 0) == 1)
		fprintf(stderr, "\r\033[K%s", line);
}

void report_progress(const struct vmf_params *params,
		     const struct vmf_report *report)
{
	struct winsize size = {};
	struct timespec now;
	char line[512];
	size_t at, end;
	uint32_t i;

	ioctl(STDERR_FILENO, TIOCGWINSZ, &size);
	if (!size.ws_col)
		size.ws_col = 80;
	/* The last column would make some terminals begin a new line. */
	end = size.ws_col < sizeof(line) ? size.ws_col : sizeof(line);

	clock_gettime(CLOCK_MONOTONIC, &now);
	at = snprintf(line, end, "%.1f MiB  %.0f MiB/s", report->bytes / MIB,
		      rate_mib(report, now.tv_sec * 1000000000ull +
			       now.tv_nsec));
	for (i = 0; i < params->devices && at < end; i++)
		at += snprintf(line + at, end - at, "  %s %.1f",
			       params->device[i].idstr,
			       report->device[i].bytes / MIB);
	draw(line);
}

void report_progress_end(void)
{
	draw("");
}

__attribute__((format(printf, 3, 4)))
static void row(const char *phase, double ms, const char *fmt, ...)
{
	va_list args;

	printf("%-9s%11.3f ms   ", phase, ms);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
}

void report_table(const struct vmf_params *params,
		  const struct vmf_report *report, bool send)
{
	char way[32] = "the main channel";

	if (report->precopy.bytes && send)
		row("pre-copy", span_ms(report, VMF_TIME_NEGOTIATED,
					VMF_TIME_TRIGGER),
		    "%.1f MiB in %u round%s, %s, %.1f MiB left",
		    report->precopy.bytes / MIB, report->precopy.rounds,
		    report->precopy.rounds == 1 ? "" : "s",
		    vmf_precopy_end_name(report->precopy.end),
		    report->precopy.left / MIB);
	if (send)
		row("stop", span_ms(report, VMF_TIME_TRIGGER, VMF_TIME_STOPPED),
		    "%u device%s to STOP_COPY", params->devices,
		    params->devices == 1 ? "" : "s");
	if (report->channels)
		snprintf(way, sizeof(way), "%u channel%s", report->channels,
			 report->channels == 1 ? "" : "s");
	row("stream", span_ms(report, VMF_TIME_STOPPED, VMF_TIME_STREAMED),
	    "%.1f MiB in %" PRIu64 " packets over %s, %.0f MiB/s",
	    (report->bytes - report->precopy.bytes) / MIB,
	    report->packets - report->precopy.packets, way,
	    rate_mib(report, report->time_ns[VMF_TIME_STREAMED]));
	row("load", span_ms(report, VMF_TIME_STREAMED, VMF_TIME_LOADED),
	    "%.3f ms of it from RESUMING to STOP", report->load_ns / 1e6);
	row("commit", span_ms(report, VMF_TIME_LOADED, VMF_TIME_COMMITTED),
	    "until the destination may run");
	if (send)
		row("downtime",
		    span_ms(report, VMF_TIME_TRIGGER, VMF_TIME_COMMITTED),
		    "from the trigger to the commit");
}

void report_json_string(const char *name, const char *text)
{
	printf("\"%s\": \"", name);
	for (; *text; text++) {
		unsigned char byte = *text;

		/* Who reads it gets the byte, which need not be of UTF-8. */
		if (byte < ' ' || byte > '~')
			printf("\\u%04x", byte);
		else
			printf(byte == '"' || byte == '\\' ? "\\%c" : "%c",
			       byte);
	}
	printf("\"");
}

void report_json_features(uint64_t features)
{
	static const struct {
		uint64_t bit;
		const char *name;
	} names[] = {
		{ VFIO_MULTIFD_FEATURE_DIGEST, "digest" },
		{ VFIO_MULTIFD_FEATURE_ORDER_FREE, "order-free" },
		{ VFIO_MULTIFD_FEATURE_REPLACE, "replace" },
		{ VMF_FEATURE_PRE_COPY, "pre-copy" },
	};
	const char *comma = "";
	size_t i;

	printf("\"features\": [");
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!(features & names[i].bit))
			continue;
		printf("%s\"%s\"", comma, names[i].name);
		comma = ", ";
	}
	printf("]");
}

void report_json(const struct vmf_params *params,
		 const struct vmf_report *report, const char *role)
{
	uint64_t downtime = 0;
	uint32_t i;

	if (report->time_ns[VMF_TIME_TRIGGER] && report->outcome == VMF_DONE)
		downtime = report->time_ns[VMF_TIME_COMMITTED] -
			   report->time_ns[VMF_TIME_TRIGGER];

	printf("{");
	report_json_string("role", role);
	printf(", ");
	report_json_string("outcome", vmf_outcome_name(report->outcome));
	printf(", \"exit\": %d, ", report->outcome);
	report_json_string("text", report->text);
	printf(", ");
	report_json_string("fallback", report->fallback);
	printf(", \"channels\": %u, \"replaced\": %u, \"packet_size\": %u, ",
	       report->channels, report->replaced, report->packet_size);
	report_json_features(report->features);
	printf(", \"precopy\": {\"rounds\": %u, \"end\": \"%s\", \"bytes\": %"
	       PRIu64 ", \"left\": %" PRIu64 ", \"expected_ns\": %" PRIu64 "}",
	       report->precopy.rounds,
	       vmf_precopy_end_name(report->precopy.end), report->precopy.bytes,
	       report->precopy.left, report->precopy.expected_ns);
	printf(", \"check\": {\"size\": %" PRIu64 ", \"rate\": %" PRIu64
	       ", \"expected_ns\": %" PRIu64 "}", report->check.size,
	       report->check.rate, report->check.expected_ns);
	printf(", \"bytes\": %" PRIu64 ", \"packets\": %" PRIu64
	       ", \"devices\": [", report->bytes, report->packets);
	for (i = 0; i < params->devices; i++) {
		printf("%s{", i ? ", " : "");
		report_json_string("idstr", params->device[i].idstr);
		printf(", \"multifd\": %s, \"bytes\": %" PRIu64
		       ", \"packets\": %" PRIu64 "}",
		       report->device[i].multifd ? "true" : "false",
		       report->device[i].bytes, report->device[i].packets);
	}
	printf("], \"time_ns\": {");
	for (i = 0; i < VMF_TIMES; i++)
		printf("%s\"%s\": %" PRIu64, i ? ", " : "", vmf_time_name(i),
		       report->time_ns[i]);
	printf("}, \"load_ns\": %" PRIu64 ", \"downtime_ns\": %" PRIu64 "}\n",
	       report->load_ns, downtime);
}

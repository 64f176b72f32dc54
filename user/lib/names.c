// SPDX-License-Identifier: LGPL-2.1-or-later
#include <vfio-multifd.h>

#include <errno.h>
#include <string.h>

const char *vmf_event_name(enum vmf_event event)
{
	static const char * const names[] = {
		[VMF_EVENT_LISTENING]	= "listening",
		[VMF_EVENT_NEGOTIATED]	= "negotiated",
		[VMF_EVENT_MAY_STOP]	= "may-stop",
		[VMF_EVENT_STOPPED]	= "stopped",
		[VMF_EVENT_LOADED]	= "loaded",
		[VMF_EVENT_COMMITTED]	= "committed",
		[VMF_EVENT_FAILED]	= "failed",
	};

	return names[event];
}

const char *vmf_precopy_end_name(enum vmf_precopy_end end)
{
	static const char * const names[] = {
		[VMF_PRECOPY_NONE]	= "none",
		[VMF_PRECOPY_CONVERGED]	= "converged",
		[VMF_PRECOPY_MAX_ROUNDS] = "max-rounds",
		[VMF_PRECOPY_STALLED]	= "stalled",
	};

	return names[end];
}

const char *vmf_outcome_name(enum vmf_outcome outcome)
{
	static const char * const names[] = {
		[VMF_DONE]		= "done",
		[VMF_SETUP]		= "setup",
		[VMF_REFUSED]		= "refused",
		[VMF_ROLLED_BACK]	= "rolled-back",
		[VMF_UNDECIDED]		= "undecided",
		[VMF_LOST]		= "lost",
	};

	return names[outcome];
}

const char *vmf_time_name(enum vmf_time time)
{
	static const char * const names[] = {
		[VMF_TIME_NEGOTIATED]	= "negotiated",
		[VMF_TIME_TRIGGER]	= "trigger",
		[VMF_TIME_STOP_COPY]	= "stop_copy",
		[VMF_TIME_STOPPED]	= "stopped",
		[VMF_TIME_STREAMED]	= "streamed",
		[VMF_TIME_LOADED]	= "loaded",
		[VMF_TIME_COMMITTED]	= "committed",
	};

	return names[time];
}

int vmf_multifd_parse(const char *name, enum vmf_multifd *multifd)
{
	static const char * const names[] = {
		[VMF_MULTIFD_AUTO]	= "auto",
		[VMF_MULTIFD_ON]	= "on",
		[VMF_MULTIFD_OFF]	= "off",
	};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(name, names[i]))
			continue;
		*multifd = i;
		return 0;
	}
	return -EINVAL;
}

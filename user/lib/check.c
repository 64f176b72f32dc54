// SPDX-License-Identifier: LGPL-2.1-or-later
#include "check.h"

#include "clock.h"
#include "error.h"

#include <errno.h>
#include <string.h>

#define PROBE_BYTES	(16u << 20)	/* in all, at most */
#define PROBE_NS	VMF_NS_PER_S	/* for all of them, about */

static int send_probes(struct vmf_session *session, uint64_t *bytes)
{
	static const uint8_t data[VMF_MESSAGE_PROBE];
	uint64_t end = vmf_clock_ns() + PROBE_NS;
	struct pollfd fd;
	int ret;

	for (*bytes = 0; *bytes < PROBE_BYTES && vmf_clock_ns() < end;
	     *bytes += VMF_MESSAGE_PROBE) {
		fd = (struct pollfd){ session->sock, POLLOUT, 0 };
		ret = vmf_session_wait(session, &(struct vmf_wait){
			.fds = &fd, .nfds = 1,
			.what = "the destination to read" });
		if (ret < 0)
			return ret;
		vmf_message_start(&session->out, VMF_PROBE);
		vmf_message_put(&session->out, data, sizeof(data));
		ret = vmf_session_send(session);
		if (ret)
			return ret;
		vmf_session_step(session);
	}
	return vmf_session_send_bare(session, VMF_PROBE_END);
}

/* All that the devices would give in STOP_COPY, at the rate of one connection */
static int expect(struct vmf_session *session, uint64_t bytes, uint64_t ns)
{
	const struct vmf_params *params = session->params;
	struct vmf_report *report = session->report;
	uint64_t size;
	uint32_t i;
	int ret;

	report->check.rate = ns ? bytes * 1e9 / ns : 0;
	for (i = 0; i < params->devices; i++) {
		ret = vmf_device_data_size(params->device[i].fd, &size);
		if (ret)
			return vmf_error_set(&session->error, ret,
					     "device %s: the size of its state: %s",
					     params->device[i].idstr,
					     strerror(-ret));
		report->check.size += size;
	}
	if (report->check.rate)
		report->check.expected_ns = report->check.size * 1e9 /
					    report->check.rate;
	return 0;
}

int vmf_check_probe(struct vmf_session *session)
{
	uint64_t start = vmf_clock_ns(), bytes, came;
	int ret;

	if (!(session->report->features & VMF_FEATURE_CHECK))
		return vmf_error_set(&session->error, -EOPNOTSUPP,
				     "the destination cannot be checked");
	ret = send_probes(session, &bytes);
	vmf_session_step(session);
	if (!ret)
		ret = vmf_session_wait(session, &(struct vmf_wait){
			.messages = 1 << VMF_PROBE_ACK,
			.what = "the destination to count bytes",
		});
	if (ret < 0)
		return ret;
	came = vmf_message_get_u64(&session->in);
	if (came != bytes)
		return vmf_error_set(&session->error, -EPROTO,
				     "%llu bytes were sent, %llu came",
				     (unsigned long long)bytes,
				     (unsigned long long)came);
	ret = vmf_message_end(&session->in, &session->error);
	return ret ? ret : expect(session, bytes, vmf_clock_ns() - start);
}

/*
 * Meanwhile no source is served: it ends even if it comes forward.  It has the time that
 * PROBEs are sent for, and the timeout for what is on its way by then.
 */
int vmf_check_serve(struct vmf_session *session)
{
	uint64_t end = vmf_clock_ns() + PROBE_NS +
		       session->params->timeout * VMF_NS_PER_S;
	uint64_t bytes = 0;
	int ret;

	do {
		ret = vmf_session_wait(session, &(struct vmf_wait){
			.messages = 1 << VMF_PROBE | 1 << VMF_PROBE_END,
			.what = "the source to measure the network",
			.until = end,
		});
		if (ret == VMF_PROBE)
			bytes += session->in.length;
	} while (ret == VMF_PROBE && bytes <= PROBE_BYTES &&
		 vmf_clock_ns() < end);
	if (ret < 0)
		return ret;
	if (ret != VMF_PROBE_END && vmf_clock_ns() >= end)
		return vmf_error_set(&session->error, -ETIMEDOUT,
				     "the source takes more than %u seconds to measure the network",
				     session->params->timeout + 1);
	if (ret != VMF_PROBE_END)
		return vmf_error_set(&session->error, -EPROTO,
				     "the source sends more than %u bytes to measure the network",
				     PROBE_BYTES);
	vmf_message_start(&session->out, VMF_PROBE_ACK);
	vmf_message_put_u64(&session->out, bytes);
	return vmf_session_send(session);
}

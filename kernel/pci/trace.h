/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM qemu_vfio_pci

#if !defined(_QVP_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _QVP_TRACE_H

#include <linux/tracepoint.h>

#include "qvp.h"

#define qvp_trace_states					\
	SYMBOL(VFIO_DEVICE_STATE_ERROR, "ERROR")		\
	SYMBOL(VFIO_DEVICE_STATE_STOP, "STOP")			\
	SYMBOL(VFIO_DEVICE_STATE_RUNNING, "RUNNING")		\
	SYMBOL(VFIO_DEVICE_STATE_STOP_COPY, "STOP_COPY")	\
	SYMBOL(VFIO_DEVICE_STATE_RESUMING, "RESUMING")		\
	SYMBOL(VFIO_DEVICE_STATE_RUNNING_P2P, "RUNNING_P2P")	\
	SYMBOL(VFIO_DEVICE_STATE_PRE_COPY, "PRE_COPY")		\
	LAST(VFIO_DEVICE_STATE_PRE_COPY_P2P, "PRE_COPY_P2P")

/* Tell tools the numbers, and then the names of them. */
#undef SYMBOL
#undef LAST
#define SYMBOL(value, name)	TRACE_DEFINE_ENUM(value);
#define LAST(value, name)	TRACE_DEFINE_ENUM(value);
qvp_trace_states
#undef SYMBOL
#undef LAST
#define SYMBOL(value, name)	{ value, name },
#define LAST(value, name)	{ value, name }

/*
 * An arc of the state machine that was tried, from @from towards @to; where @ret
 * is not 0 the device is in @state instead.  @ns tells how long it took.
 */
TRACE_EVENT(qvp_arc,
	TP_PROTO(const struct qvp_device *q, enum vfio_device_mig_state from,
		 enum vfio_device_mig_state to, int ret, u64 ns),
	TP_ARGS(q, from, to, ret, ns),
	TP_STRUCT__entry(
		__string(device, pci_name(q->core.pdev))
		__field(u32, from)
		__field(u32, to)
		__field(u32, state)
		__field(int, ret)
		__field(u64, ns)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->from = from;
		__entry->to = to;
		__entry->state = q->state;
		__entry->ret = ret;
		__entry->ns = ns;
	),
	TP_printk("device=%s from=%s to=%s state=%s ret=%d ns=%llu",
		  __get_str(device), __print_symbolic(__entry->from, qvp_trace_states),
		  __print_symbolic(__entry->to, qvp_trace_states),
		  __print_symbolic(__entry->state, qvp_trace_states), __entry->ret, __entry->ns)
);

/* A data fd is read or written for the first time, @ns after it was made. */
TRACE_EVENT(qvp_first_byte,
	TP_PROTO(const struct qvp_session *s, u64 ns),
	TP_ARGS(s, ns),
	TP_STRUCT__entry(
		__string(device, pci_name(s->q->core.pdev))
		__field(bool, is_load)
		__field(u64, ns)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->is_load = s->filp->f_mode & FMODE_WRITE;
		__entry->ns = ns;
	),
	TP_printk("device=%s stream=%s ns=%llu", __get_str(device),
		  __entry->is_load ? "load" : "save", __entry->ns)
);

/*
 * The last record of a stream is made, or loaded: @bytes in @records are all of
 * it.  @ns tells the time since its first bytes.
 */
TRACE_EVENT(qvp_last_byte,
	TP_PROTO(const struct qvp_session *s, u64 bytes, u64 records),
	TP_ARGS(s, bytes, records),
	TP_STRUCT__entry(
		__string(device, pci_name(s->q->core.pdev))
		__field(bool, is_load)
		__field(u64, bytes)
		__field(u64, records)
		__field(u64, ns)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->is_load = s->filp->f_mode & FMODE_WRITE;
		__entry->bytes = bytes;
		__entry->records = records;
		__entry->ns = ktime_get_ns() - s->first;
	),
	TP_printk("device=%s stream=%s bytes=%llu records=%llu ns=%llu",
		  __get_str(device), __entry->is_load ? "load" : "save",
		  __entry->bytes, __entry->records, __entry->ns)
);

#endif /* _QVP_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>

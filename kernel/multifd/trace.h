/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vfio_multifd

#if !defined(_VMFD_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _VMFD_TRACE_H

#include <linux/tracepoint.h>

#include "transfer.h"

#define vmfd_trace_roles				\
	SYMBOL(VFIO_MULTIFD_SEND, "send")		\
	LAST(VFIO_MULTIFD_RECV, "recv")
#define vmfd_trace_states				\
	SYMBOL(VFIO_MULTIFD_STATE_READY, "ready")	\
	SYMBOL(VFIO_MULTIFD_STATE_SEALED, "sealed")	\
	SYMBOL(VFIO_MULTIFD_STATE_DONE, "done")		\
	LAST(VFIO_MULTIFD_STATE_FAILED, "failed")

/* Tell tools the numbers, and then the names of them. */
#undef SYMBOL
#undef LAST
#define SYMBOL(value, name)	TRACE_DEFINE_ENUM(value);
#define LAST(value, name)	TRACE_DEFINE_ENUM(value);
vmfd_trace_roles
vmfd_trace_states
#undef SYMBOL
#undef LAST
#define SYMBOL(value, name)	{ value, name },
#define LAST(value, name)	{ value, name }

/* A state that a transfer comes to: what has moved by then, and what is wrong */
TRACE_EVENT(vmfd_state,
	TP_PROTO(const struct vmfd_transfer *tr),
	TP_ARGS(tr),
	TP_STRUCT__entry(
		__array(u8, uuid, VFIO_MULTIFD_UUID_SIZE)
		__field(u32, role)
		__field(u32, state)
		__field(u64, packets)
		__field(u64, bytes)
		__field(int, error)
		__field(u32, reason)
	),
	TP_fast_assign(
		memcpy(__entry->uuid, tr->uuid, VFIO_MULTIFD_UUID_SIZE);
		__entry->role = tr->role;
		__entry->state = tr->state;
		__entry->packets = tr->packets;
		__entry->bytes = tr->bytes;
		__entry->error = tr->error.error;
		__entry->reason = tr->error.reason;
	),
	TP_printk("transfer=%pU role=%s state=%s packets=%llu bytes=%llu error=%d reason=%u",
		  __entry->uuid,
		  __print_symbolic(__entry->role, vmfd_trace_roles),
		  __print_symbolic(__entry->state, vmfd_trace_states),
		  __entry->packets, __entry->bytes, __entry->error,
		  __entry->reason)
);

/*
 * A packet that is on the socket, or loaded.  At the source @ns tells how long
 * that took from when the device was asked for the data, at the destination
 * from when header and device were there.
 */
TRACE_EVENT(vmfd_packet,
	TP_PROTO(const struct vmfd_channel *ch),
	TP_ARGS(ch),
	TP_STRUCT__entry(
		__array(u8, uuid, VFIO_MULTIFD_UUID_SIZE)
		__field(u32, role)
		__field(u32, channel)
		__string(idstr, (const char *)ch->dev->idstr)
		__field(u32, instance_id)
		__field(u32, idx)
		__field(bool, is_config)
		__field(u32, bytes)
		__field(u64, ns)
	),
	TP_fast_assign(
		memcpy(__entry->uuid, ch->tr->uuid, VFIO_MULTIFD_UUID_SIZE);
		__entry->role = ch->tr->role;
		__entry->channel = ch->id;
		__assign_str(idstr);
		__entry->instance_id = ch->dev->instance_id;
		__entry->idx = ch->idx;
		__entry->is_config = ch->is_config;
		__entry->bytes = ch->len;
		__entry->ns = ktime_get_ns() - ch->began;
	),
	TP_printk("transfer=%pU role=%s channel=%u device=%s/%u idx=%u kind=%s bytes=%u ns=%llu",
		  __entry->uuid,
		  __print_symbolic(__entry->role, vmfd_trace_roles),
		  __entry->channel, __get_str(idstr), __entry->instance_id,
		  __entry->idx, __entry->is_config ? "config" : "data",
		  __entry->bytes, __entry->ns)
);

/*
 * All of a device is on the sockets, or loaded.  @ns tells how long that took
 * from when its first packet was begun.
 */
TRACE_EVENT(vmfd_device,
	TP_PROTO(const struct vmfd_transfer *tr, const struct vmfd_device *dev),
	TP_ARGS(tr, dev),
	TP_STRUCT__entry(
		__array(u8, uuid, VFIO_MULTIFD_UUID_SIZE)
		__field(u32, role)
		__string(idstr, (const char *)dev->idstr)
		__field(u32, instance_id)
		__field(u32, packets)
		__field(u64, bytes)
		__field(u64, ns)
	),
	TP_fast_assign(
		memcpy(__entry->uuid, tr->uuid, VFIO_MULTIFD_UUID_SIZE);
		__entry->role = tr->role;
		__assign_str(idstr);
		__entry->instance_id = dev->instance_id;
		__entry->packets = dev->packets;
		__entry->bytes = dev->bytes;
		__entry->ns = ktime_get_ns() - dev->began;
	),
	TP_printk("transfer=%pU role=%s device=%s/%u packets=%u bytes=%llu ns=%llu",
		  __entry->uuid,
		  __print_symbolic(__entry->role, vmfd_trace_roles),
		  __get_str(idstr), __entry->instance_id, __entry->packets,
		  __entry->bytes, __entry->ns)
);

#endif /* _VMFD_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>

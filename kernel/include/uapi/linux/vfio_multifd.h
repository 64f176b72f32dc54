/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * vfio-multifd: VFIO device state over parallel TCP channels
 *
 * The interface of /dev/vfio-multifd.  One open file is one *transfer*: it
 * moves the state of some devices, in one direction, over some connected TCP
 * sockets.  Closing the file gives everything back.  Documentation/uapi.rst
 * has the state table and an example.
 */
#ifndef _UAPI_LINUX_VFIO_MULTIFD_H
#define _UAPI_LINUX_VFIO_MULTIFD_H

#include <linux/const.h>
#include <linux/ioctl.h>
#include <linux/types.h>

#define VFIO_MULTIFD_API_VERSION	4

#define VFIO_MULTIFD_UUID_SIZE		16	/* bytes */
#define VFIO_MULTIFD_IDSTR_SIZE		256	/* bytes, with the final NUL */
#define VFIO_MULTIFD_MAX_CHANNELS	64	/* per transfer */
#define VFIO_MULTIFD_MAX_DEVICES	64	/* per transfer */
#define VFIO_MULTIFD_MAX_CONFIG		65536	/* bytes, per device */
#define VFIO_MULTIFD_MIN_PACKET		4096	/* bytes of data */
#define VFIO_MULTIFD_MAX_PACKET		(4u << 20) /* bytes of data */
#define VFIO_MULTIFD_MAX_PACKETS	(16u << 20) /* idx limit, per device */

/**
 * enum vfio_multifd_feature - what two ends agree on before they start
 * @VFIO_MULTIFD_FEATURE_DIGEST: each packet carries the xxh64 of its data
 * @VFIO_MULTIFD_FEATURE_ORDER_FREE: packets of a stream that says that it is
 *	order-free are read and loaded in any order
 * @VFIO_MULTIFD_FEATURE_REPLACE: a channel whose connection is lost waits for
 *	another one, see &struct vfio_multifd_replace
 *
 * Without any of them the bytes on a channel are those of QEMU's multifd.
 */
enum vfio_multifd_feature {
	VFIO_MULTIFD_FEATURE_DIGEST	= _BITUL(0),
	VFIO_MULTIFD_FEATURE_ORDER_FREE	= _BITUL(1),
	VFIO_MULTIFD_FEATURE_REPLACE	= _BITUL(2),
};

/**
 * enum vfio_multifd_role - the direction of a transfer
 * @VFIO_MULTIFD_SEND: the source host's end
 * @VFIO_MULTIFD_RECV: the destination host's end
 */
enum vfio_multifd_role {
	VFIO_MULTIFD_SEND	= 1,
	VFIO_MULTIFD_RECV	= 2,
};

/**
 * enum vfio_multifd_state - the life of a transfer
 * @VFIO_MULTIFD_STATE_NEW: open, before VFIO_MULTIFD_SETUP
 * @VFIO_MULTIFD_STATE_READY: takes channels and devices; channels may run
 * @VFIO_MULTIFD_STATE_SEALED: after VFIO_MULTIFD_SWITCHOVER, no more devices
 * @VFIO_MULTIFD_STATE_DONE: every packet of every device was sent, or loaded
 * @VFIO_MULTIFD_STATE_FAILED: over; the first error is in vfio_multifd_status
 */
enum vfio_multifd_state {
	VFIO_MULTIFD_STATE_NEW		= 0,
	VFIO_MULTIFD_STATE_READY	= 1,
	VFIO_MULTIFD_STATE_SEALED	= 2,
	VFIO_MULTIFD_STATE_DONE		= 3,
	VFIO_MULTIFD_STATE_FAILED	= 4,
};

/**
 * enum vfio_multifd_reason - why a transfer failed
 * @VFIO_MULTIFD_REASON_NONE: it did not
 * @VFIO_MULTIFD_REASON_CANCELLED: VFIO_MULTIFD_CANCEL, or the owner closed
 * @VFIO_MULTIFD_REASON_NO_MEMORY: out of memory
 * @VFIO_MULTIFD_REASON_SOCKET: a send or receive failed (see errno)
 * @VFIO_MULTIFD_REASON_EOF: the peer closed a channel before the end
 * @VFIO_MULTIFD_REASON_INIT: a channel starts with another id or uuid
 *	(expected and got: the channel id; equal if the uuid is the wrong one)
 * @VFIO_MULTIFD_REASON_MAGIC: a channel or packet does not start with the magic
 * @VFIO_MULTIFD_REASON_VERSION: unknown version of a channel or packet
 * @VFIO_MULTIFD_REASON_FLAGS: packet flags that were not negotiated
 * @VFIO_MULTIFD_REASON_LENGTH: packet length out of bounds (expected: limit)
 * @VFIO_MULTIFD_REASON_IDSTR: the device name is not terminated
 * @VFIO_MULTIFD_REASON_UNKNOWN_DEVICE: no such device in this transfer
 * @VFIO_MULTIFD_REASON_IDX: idx beyond the limit, or beyond the last packet, or
 *	the config state's idx is below one that came
 * @VFIO_MULTIFD_REASON_DUPLICATE: this idx came before
 * @VFIO_MULTIFD_REASON_GAP: an idx is missing and can no longer come
 * @VFIO_MULTIFD_REASON_SECOND_CONFIG: a second config state packet
 * @VFIO_MULTIFD_REASON_DIGEST: the digest does not match the data
 * @VFIO_MULTIFD_REASON_DEVICE_READ: reading the data fd failed (see errno)
 * @VFIO_MULTIFD_REASON_DEVICE_WRITE: writing the data fd failed (see errno)
 */
enum vfio_multifd_reason {
	VFIO_MULTIFD_REASON_NONE		= 0,
	VFIO_MULTIFD_REASON_CANCELLED		= 1,
	VFIO_MULTIFD_REASON_NO_MEMORY		= 2,
	VFIO_MULTIFD_REASON_SOCKET		= 3,
	VFIO_MULTIFD_REASON_EOF			= 4,
	VFIO_MULTIFD_REASON_INIT		= 5,
	VFIO_MULTIFD_REASON_MAGIC		= 6,
	VFIO_MULTIFD_REASON_VERSION		= 7,
	VFIO_MULTIFD_REASON_FLAGS		= 8,
	VFIO_MULTIFD_REASON_LENGTH		= 9,
	VFIO_MULTIFD_REASON_IDSTR		= 10,
	VFIO_MULTIFD_REASON_UNKNOWN_DEVICE	= 11,
	VFIO_MULTIFD_REASON_IDX			= 12,
	VFIO_MULTIFD_REASON_DUPLICATE		= 13,
	VFIO_MULTIFD_REASON_GAP			= 14,
	VFIO_MULTIFD_REASON_SECOND_CONFIG	= 15,
	VFIO_MULTIFD_REASON_DIGEST		= 16,
	VFIO_MULTIFD_REASON_DEVICE_READ		= 17,
	VFIO_MULTIFD_REASON_DEVICE_WRITE	= 18,
};

/*
 * Every structure starts with @argsz, the size that the caller knows, and
 * @flags.  A shorter @argsz than the structure's first one in this
 * VFIO_MULTIFD_API_VERSION is -EINVAL, a longer one is taken if it is zero behind
 * what the kernel knows, else -E2BIG.  What the kernel gives back has the size that
 * it knows in @argsz.  Unknown @flags and reserved fields that are not zero are
 * -EINVAL.
 *
 * Errors that every call can give: -EIO from a process that did not open the
 * file, -EBADFD where the state does not allow the call, -EFAULT, -ENOMEM.
 */
#define VFIO_MULTIFD_IOC	0xb9

/**
 * struct vfio_multifd_info - what this kernel can do
 * @argsz: in: size of this structure
 * @flags: must be 0
 * @version: out: VFIO_MULTIFD_API_VERSION
 * @max_channels: out: channels per transfer
 * @features: out: bits of enum vfio_multifd_feature
 * @max_devices: out: devices per transfer
 * @max_config: out: bytes of config state per device
 * @min_packet: out: smallest packet_size, bytes
 * @max_packet: out: largest packet_size, bytes
 *
 * Context: any state; does not wait.
 */
struct vfio_multifd_info {
	__u32 argsz;
	__u32 flags;
	__u32 version;
	__u32 max_channels;
	__aligned_u64 features;
	__u32 max_devices;
	__u32 max_config;
	__u32 min_packet;
	__u32 max_packet;
};

#define VFIO_MULTIFD_GET_INFO		_IO(VFIO_MULTIFD_IOC, 0)

/**
 * struct vfio_multifd_setup - choose role and agreed parameters, once
 * @argsz: size of this structure
 * @flags: 0 or VFIO_MULTIFD_SETUP_SKIP_RAM
 * @role: enum vfio_multifd_role
 * @channels: number of channels; their ids are 0 to @channels - 1
 * @features: bits of enum vfio_multifd_feature, the same at both ends
 * @packet_size: largest data of one packet in bytes, a multiple of 4096; with
 *	VFIO_MULTIFD_FEATURE_ORDER_FREE at least 8192
 * @reserved: must be 0
 * @uuid: names the transfer, the same at both ends; with QEMU its -uuid
 *
 * VFIO_MULTIFD_SETUP_SKIP_RAM is for VFIO_MULTIFD_RECV and for channels that a
 * VMM such as QEMU has written to: packets that carry RAM, or synchronise it,
 * are read and dropped.  The RAM is lost, so this is for who has it from
 * elsewhere, or wants the device alone.  Without it such a packet is refused.
 *
 * Errors: -EINVAL for a value out of its limits, -EOPNOTSUPP for an unknown
 * feature, -EBADFD if called before.  Context: NEW.
 */
struct vfio_multifd_setup {
	__u32 argsz;
	__u32 flags;
#define VFIO_MULTIFD_SETUP_SKIP_RAM	_BITUL(0)
	__u32 role;
	__u32 channels;
	__aligned_u64 features;
	__u32 packet_size;
	__u32 reserved;
	__u8 uuid[VFIO_MULTIFD_UUID_SIZE];
};

#define VFIO_MULTIFD_SETUP		_IO(VFIO_MULTIFD_IOC, 1)

/**
 * struct vfio_multifd_channel - hand over a connected TCP socket
 * @argsz: size of this structure
 * @flags: must be 0
 * @fd: the socket; the caller may close it afterwards
 * @id: the channel's id
 *
 * Nothing was read from or written to the socket yet: the transfer sends or
 * expects the channel's first bytes itself.
 *
 * Errors: -EBADF, -ENOTSOCK, -EPROTONOSUPPORT (not TCP), -ENOTCONN (not
 * established), -EBUSY (a transfer holds this socket, or it has another
 * owner), -EXDEV (another network namespace than the first channel's),
 * -EINVAL (id out of range), -EEXIST (id taken).  Context: READY.
 */
struct vfio_multifd_channel {
	__u32 argsz;
	__u32 flags;
	__s32 fd;
	__u32 id;
};

#define VFIO_MULTIFD_ADD_CHANNEL	_IO(VFIO_MULTIFD_IOC, 2)

/*
 * The caller's word: reading gives whole records of a record stream
 * (Documentation/record-stream.rst) and writing takes them, many at a time.
 * Without it the packets of a device are read and loaded in order.
 */
#define VFIO_MULTIFD_DEVICE_RECORDS	_BITUL(0)

/*
 * The caller reads or writes the file itself when VFIO_MULTIFD_RUN_CHANNEL asks
 * for it, since the file has only what read(2) and write(2) call.  The packets of
 * such a device are read and loaded in order.  The packet size has to be whole
 * pages of this machine.
 */
#define VFIO_MULTIFD_DEVICE_FOREIGN	_BITUL(1)

/*
 * For VFIO_MULTIFD_SEND: before VFIO_MULTIFD_SWITCHOVER a read that gives
 * -ENOMSG, or nothing, is the end of what there is for now.  The device then is
 * paused until VFIO_MULTIFD_CONTINUE or VFIO_MULTIFD_SWITCHOVER, which is to be
 * called once it is in STOP_COPY: what a read gives that begins from then on is
 * the last of it, and nothing is the end.
 */
#define VFIO_MULTIFD_DEVICE_PRE_COPY	_BITUL(2)

/**
 * struct vfio_multifd_device - hand over a migration data fd
 * @argsz: size of this structure
 * @flags: VFIO_MULTIFD_DEVICE_*
 * @fd: data fd, readable for SEND and writable for RECV
 * @instance_id: tells devices with one @idstr apart, normally 0
 * @index: out: names the device in the other calls
 * @reserved: must be 0
 * @idstr: the device's name, NUL-terminated, not empty
 *
 * Errors: -EBADF (also: not open for the role's direction), -EOPNOTSUPP (the
 * file lacks read_iter or write_iter, with VFIO_MULTIFD_DEVICE_FOREIGN any way
 * to be read or written, or is a socket), -EBUSY (a transfer holds this file),
 * -EEXIST (name and instance taken), -ENOSPC (too many devices), -EINVAL.  After
 * -EFAULT the device may be in the transfer all the same.
 * Context: READY; channels may run already.
 */
struct vfio_multifd_device {
	__u32 argsz;
	__u32 flags;
	__s32 fd;
	__u32 instance_id;
	__u32 index;
	__u32 reserved;
	__u8 idstr[VFIO_MULTIFD_IDSTR_SIZE];
};

#define VFIO_MULTIFD_ADD_DEVICE		_IO(VFIO_MULTIFD_IOC, 3)

/* Packets that a channel's mapping has room for, at the source */
#define VFIO_MULTIFD_MAP_PACKETS	8

/**
 * enum vfio_multifd_ask - what a channel needs its caller for
 * @VFIO_MULTIFD_ASK_NOTHING: nothing
 * @VFIO_MULTIFD_ASK_READ: read(2) from the device's file into the mapping
 * @VFIO_MULTIFD_ASK_WRITE: write(2) to the device's file from the mapping
 */
enum vfio_multifd_ask {
	VFIO_MULTIFD_ASK_NOTHING	= 0,
	VFIO_MULTIFD_ASK_READ		= 1,
	VFIO_MULTIFD_ASK_WRITE		= 2,
};

/**
 * struct vfio_multifd_run - do a channel's work on the calling thread
 * @argsz: size of this structure
 * @flags: must be 0
 * @id: the channel's id
 * @ask: out: enum vfio_multifd_ask; in: what @result answers
 * @number: out: tells the question from others; in: the same
 * @reserved: must be 0
 * @device: out: index of the device that is asked for; in: the same
 * @offset: out: where the bytes belong, or are, in the channel's mapping; in:
 *	the same
 * @size: out: bytes to write, or at most to read; in: the same
 * @result: in: what read(2) or write(2) gave: bytes, or a negative errno
 *
 * Returns 0 when the channel has no more work: the transfer is DONE.  Else
 * the transfer's first error (vfio_multifd_status tells it from an error of
 * this call), or -EINTR after a signal: nothing is lost, call again.  -ENOENT:
 * no such channel.  -EBUSY: another thread runs or maps it.
 *
 * Only for devices that are VFIO_MULTIFD_DEVICE_FOREIGN it also returns 0 with a
 * question in @ask.  The next call for this channel repeats it, with @result, or
 * has VFIO_MULTIFD_ASK_NOTHING there and gets it again.  An answer to another
 * question than the open one, or with a @result above @size, is -EINVAL.  -EINTR
 * also brings what is to be asked for next, VFIO_MULTIFD_ASK_NOTHING if the answer
 * was taken.  A file that is non-blocking must be waited for by the caller.
 *
 * mmap() of the transfer's file, MAP_SHARED, at offset @id times packet_size times
 * VFIO_MULTIFD_MAP_PACKETS, gives a channel's mapping.  It can be had while no thread
 * runs the channel (else -EBUSY), by the opener (else -EIO), and has to be
 * unmapped for the transfer to be given back.  It is one packet_size long.  At the
 * source it can be longer by whole ones, up to VFIO_MULTIFD_MAP_PACKETS of them, and
 * the same each time (else -EINVAL): then what is read to one that is not the first is
 * sent from there without a copy, and must stay as it is until it is asked for again.
 *
 * Context: READY, SEALED, DONE; sleeps until the end.
 */
struct vfio_multifd_run {
	__u32 argsz;
	__u32 flags;
	__u32 id;
	__u32 ask;
	__u32 number;
	__u32 reserved;
	__u32 device;
	__u32 size;
	__aligned_u64 offset;
	__aligned_s64 result;
};

#define VFIO_MULTIFD_RUN_CHANNEL	_IO(VFIO_MULTIFD_IOC, 4)

/*
 * VFIO_MULTIFD_SWITCHOVER - no more devices will come
 *
 * Takes no argument (0).  From here on a packet for an unknown device is an
 * error, and the transfer ends when all its devices did.  -EINVAL without any
 * device.  Context: READY.
 */
#define VFIO_MULTIFD_SWITCHOVER		_IO(VFIO_MULTIFD_IOC, 5)

/**
 * struct vfio_multifd_config - a device's config state, the VMM's own blob
 * @argsz: size of this structure
 * @flags: must be 0
 * @device: index of the device
 * @size: bytes at @data, 0 to VFIO_MULTIFD_MAX_CONFIG; GET: in the room at
 *	@data, out the config state's size, also with -ENOSPC
 * @data: user address
 *
 * SET (role SEND, READY or SEALED) is what the device's last packet carries;
 * the transfer waits for it.  GET (role RECV) gives it once the device is
 * done.  Errors: -ENOENT (no such device), -E2BIG (over the limit), -EEXIST
 * (set before), -EAGAIN (not here yet), -ENOSPC (no room), and GET of a device that
 * was not done when the transfer failed: its error.
 */
struct vfio_multifd_config {
	__u32 argsz;
	__u32 flags;
	__u32 device;
	__u32 size;
	__aligned_u64 data;
};

#define VFIO_MULTIFD_SET_CONFIG		_IO(VFIO_MULTIFD_IOC, 6)
#define VFIO_MULTIFD_GET_CONFIG		_IO(VFIO_MULTIFD_IOC, 7)

#define VFIO_MULTIFD_NO_INDEX	0xffffffffu	/* device, channel, idx: none */

/**
 * struct vfio_multifd_status - where a transfer stands
 * @argsz: size of this structure
 * @flags: must be 0
 * @state: out: enum vfio_multifd_state
 * @error: out: FAILED: the first error as a negative errno, else 0
 * @reason: out: enum vfio_multifd_reason
 * @device: out: device index that @reason is about, or VFIO_MULTIFD_NO_INDEX
 * @channel: out: channel id that @reason is about, or VFIO_MULTIFD_NO_INDEX
 * @idx: out: packet idx that @reason is about, or VFIO_MULTIFD_NO_INDEX
 * @expected: out: what @reason expected
 * @got: out: what it found
 * @bytes: out: data bytes done, of all devices, without headers
 * @packets: out: packets done, of all devices
 * @devices: out: devices in the transfer
 * @devices_done: out: devices whose every packet was sent, or loaded
 *
 * poll() is EPOLLIN when the state or @devices_done has changed since the last
 * call, a device was paused or has come to its @wake_packets, or a channel has lost its
 * connection; EPOLLERR while FAILED.  Context: any state; does not wait.
 */
struct vfio_multifd_status {
	__u32 argsz;
	__u32 flags;
	__u32 state;
	__s32 error;
	__u32 reason;
	__u32 device;
	__u32 channel;
	__u32 idx;
	__aligned_u64 expected;
	__aligned_u64 got;
	__aligned_u64 bytes;
	__aligned_u64 packets;
	__u32 devices;
	__u32 devices_done;
};

#define VFIO_MULTIFD_STATUS		_IO(VFIO_MULTIFD_IOC, 8)

/**
 * struct vfio_multifd_device_status - where one device stands
 * @argsz: size of this structure
 * @flags: must be 0
 * @device: index of the device
 * @done: out: 1 when every packet was sent, or loaded
 * @bytes: out: data bytes done, without headers and config state
 * @packets: out: packets done, with the config state's
 * @wake_packets: in: poll() is to tell when so many packets are done, or 0
 * @paused: out: 1 when the device is paused, and all that was read is sent
 * @reserved: must be 0
 *
 * poll() also tells of a device that has become @paused.  What it tells is
 * forgotten by VFIO_MULTIFD_STATUS alone, so that comes before this.  Each call
 * sets @wake_packets anew.
 *
 * Errors: -ENOENT (no such device).  Context: any state but NEW.
 */
struct vfio_multifd_device_status {
	__u32 argsz;
	__u32 flags;
	__u32 device;
	__u32 done;
	__aligned_u64 bytes;
	__aligned_u64 packets;
	__aligned_u64 wake_packets;
	__u32 paused;
	__u32 reserved;
};

#define VFIO_MULTIFD_DEVICE_STATUS	_IO(VFIO_MULTIFD_IOC, 9)

/*
 * VFIO_MULTIFD_CANCEL - end a transfer
 *
 * Takes no argument (0).  Sockets are shut down and every RUN_CHANNEL returns
 * -ECANCELED; one that is inside a data fd's own read or write does so when that
 * returns, which a signal can hasten.  A transfer that is DONE or FAILED stays
 * so, and a source that is DONE sends nothing again: RUN_CHANNEL returns 0.
 * Context: any state.
 */
#define VFIO_MULTIFD_CANCEL		_IO(VFIO_MULTIFD_IOC, 10)

/**
 * struct vfio_multifd_continue - read on from a device that is paused
 * @argsz: size of this structure
 * @flags: must be 0
 * @device: index of the device
 * @reserved: must be 0
 *
 * Without effect on a device that is not paused.  Errors: -ENOENT (no such
 * device).  Context: role SEND, READY.
 */
struct vfio_multifd_continue {
	__u32 argsz;
	__u32 flags;
	__u32 device;
	__u32 reserved;
};

#define VFIO_MULTIFD_CONTINUE		_IO(VFIO_MULTIFD_IOC, 11)

/**
 * struct vfio_multifd_channel_status - what a channel's time went into
 * @argsz: size of this structure
 * @flags: must be 0
 * @id: the channel's id
 * @lost: in: must be 0; out: 1 if the channel is without connection: its thread waits
 *	for one, or has not noticed, as a source that has nothing to send
 * @bytes: out: data bytes done, without headers and config state
 * @packets: out: packets done
 * @network_ns: out: time in calls of the socket
 * @device_ns: out: time in reading or writing devices
 * @wait_ns: out: time without a packet, or in front of a device whose turn it
 *	was for another packet
 * @memory: out: about how many bytes of pages for data it has held at the same time,
 *	at most: its own, and those of the socket that a packet was loaded from, but
 *	not what it keeps for another connection
 *
 * Time that a thread spends outside of VFIO_MULTIFD_RUN_CHANNEL counts for what
 * it was asked for.
 *
 * Errors: -ENOENT (no such channel).  Context: any state but NEW.
 */
struct vfio_multifd_channel_status {
	__u32 argsz;
	__u32 flags;
	__u32 id;
	__u32 lost;
	__aligned_u64 bytes;
	__aligned_u64 packets;
	__aligned_u64 network_ns;
	__aligned_u64 device_ns;
	__aligned_u64 wait_ns;
	__aligned_u64 memory;
};

#define VFIO_MULTIFD_CHANNEL_STATUS	_IO(VFIO_MULTIFD_IOC, 12)

/**
 * struct vfio_multifd_replace - give a channel another connection
 * @argsz: size of this structure
 * @flags: must be 0
 * @fd: as for &struct vfio_multifd_channel; or -1: give the connection up
 * @id: the channel's id
 * @packets: role SEND: packets of this channel that the other end has, as @packets
 *	of its &struct vfio_multifd_channel_status tells once it is lost; else 0
 *
 * With VFIO_MULTIFD_FEATURE_REPLACE a connection that breaks, or ends too early, is no
 * failure of the transfer.  The channel's thread waits, poll() tells of it, and
 * &struct vfio_multifd_channel_status says so: at the destination when all packets that
 * have come are loaded.  An end that learns from its peer that a connection is lost gives
 * it up with @fd -1.  Then each end hands over the new connection.  The channel starts
 * again with its first bytes, and the source sends again what the destination lacks.
 *
 * The source keeps a packet until the peer's TCP has it.  What user space has read to
 * the first packet of a mapping it cannot keep: that is lacked with -ENODATA.  A source that is
 * DONE takes connections, too; VFIO_MULTIFD_RUN_CHANNEL then has to be called again.
 *
 * Errors: those of &struct vfio_multifd_channel but -EEXIST, and -EOPNOTSUPP
 * (without the feature), -EINVAL (@packets where it must be 0), -ENOENT (no such
 * channel), -EBUSY (the channel is not lost, or not yet at rest), -ENODATA (@packets
 * cannot be: a packet is gone that the other end lacks, or it has more than there
 * were).  Context: READY or SEALED, role SEND also DONE.
 */
struct vfio_multifd_replace {
	__u32 argsz;
	__u32 flags;
	__s32 fd;
	__u32 id;
	__aligned_u64 packets;
};

#define VFIO_MULTIFD_REPLACE_CHANNEL	_IO(VFIO_MULTIFD_IOC, 13)

#endif /* _UAPI_LINUX_VFIO_MULTIFD_H */

/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvfio-multifd: VFIO device state over parallel kernel TCP channels
 *
 * Three layers, each of which can be used without the next:
 *
 *   vmf_device_*()          the migration calls of a VFIO device fd
 *   vmf_engine_*()          /dev/vfio-multifd, with a thread for each channel
 *   vmf_send(), vmf_recv()  a whole transfer, as the vfio-multifd helper does it
 *
 * Unless said otherwise a function returns 0 or a negative errno, and puts
 * what failed into words where it is given a struct vmf_error (NULL is fine).
 * No function changes signal handlers or masks of the calling thread; threads
 * that the library starts have every signal blocked.  A caller that gives
 * pipes or sockets as fds should ignore SIGPIPE.
 *
 * Before version 1.0 the ABI is not stable: each version may change it.
 */
#ifndef VFIO_MULTIFD_H
#define VFIO_MULTIFD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/vfio.h>
#include <linux/vfio_multifd.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMF_API __attribute__((visibility("default")))

#define VMF_VERSION		"0.1.0"
#define VMF_DEFAULT_PORT	"7747"
#define VMF_MIN_TIMEOUT		3u	/* seconds: a few heartbeats */
#define VMF_MAX_TIMEOUT		3600u
#define VMF_MIN_BANDWIDTH	65536u	/* bytes per second */
#define VMF_TEXT_SIZE		512	/* bytes, with the final NUL */

/**
 * struct vmf_error - the first thing that failed
 * @code: negative errno, 0 as long as nothing failed
 * @text: what failed: printable, one line, without a final full stop
 */
struct vmf_error {
	int code;
	char text[VMF_TEXT_SIZE];
};

/*
 * Devices
 */

/**
 * struct vmf_identity - what must be alike at both ends
 * @migration_flags: VFIO_MIGRATION_* as the device shows them
 * @region_size: bytes, by VFIO region index; 0 where there is none
 * @class_code: PCI class, subclass and programming interface, 24 bits
 * @vendor: PCI vendor id
 * @device: PCI device id
 * @revision: PCI revision id
 */
struct vmf_identity {
	uint64_t migration_flags;
	uint64_t region_size[VFIO_PCI_NUM_REGIONS];
	uint32_t class_code;
	uint16_t vendor;
	uint16_t device;
	uint8_t revision;
};

/* Fails, in words, unless @fd is a VFIO PCI device that can migrate. */
VMF_API int vmf_device_identify(int fd, struct vmf_identity *identity,
				struct vmf_error *error);

VMF_API int vmf_device_get_state(int fd, uint32_t *state);

/*
 * Puts the data fd of the new state into @data_fd, or -1 where it has none;
 * it is O_CLOEXEC and the caller's to close.  Before PRE_COPY this asks the device, up to
 * its last close, to have initial bytes again when it is set up anew
 * (VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, of newer kernels).
 */
VMF_API int vmf_device_set_state(int fd, uint32_t state, int *data_fd);

/* "RUNNING" and so on; "?" for a number that is no state. */
VMF_API const char *vmf_device_state_name(uint32_t state);

/* Bytes that the device would give in STOP_COPY, at most. */
VMF_API int vmf_device_data_size(int fd, uint64_t *size);

/*
 * Of a device in PRE_COPY: bytes that have to move before the stop, and others
 * that could.
 */
VMF_API int vmf_device_precopy_info(int data_fd, uint64_t *initial,
				    uint64_t *dirty);

VMF_API int vmf_device_reset(int fd);

/*
 * What a VMM calls for each device of the source when its helper ended before
 * `loaded`: back to RUNNING.  Returns 1 if only a reset could do that, and the
 * device has lost its state.  (At the destination: vmf_device_reset().)
 */
VMF_API int vmf_device_roll_back(int fd);

/*
 * The engine
 */
struct vmf_engine;

VMF_API int vmf_engine_open(struct vmf_engine **engine,
			    struct vmf_error *error);

/*
 * Cancels, joins the channels' threads and gives everything back: nothing of it
 * if a device's driver keeps one of the threads for more than 5 seconds.
 */
VMF_API void vmf_engine_close(struct vmf_engine *engine);

/* poll() it for POLLIN and POLLERR, then ask vmf_engine_status(). */
VMF_API int vmf_engine_fd(const struct vmf_engine *engine);

VMF_API const struct vfio_multifd_info *
vmf_engine_info(const struct vmf_engine *engine);

/* @setup: all but argsz and flags is the caller's. */
VMF_API int vmf_engine_setup(struct vmf_engine *engine,
			     const struct vfio_multifd_setup *setup,
			     struct vmf_error *error);

/* Hands a socket over and starts the thread that runs the channel. */
VMF_API int vmf_engine_add_channel(struct vmf_engine *engine, int fd,
				   uint32_t id, struct vmf_error *error);

/*
 * @flags: 0 or VFIO_MULTIFD_DEVICE_PRE_COPY
 * @index: out: names the device in the other calls
 *
 * A file that the kernel cannot read or write by itself is read or written by the
 * threads of the channels.
 */
VMF_API int vmf_engine_add_device(struct vmf_engine *engine, int data_fd,
				  uint32_t flags, const char *idstr,
				  uint32_t instance_id, uint32_t *index,
				  struct vmf_error *error);

/* Reads on from a device that is paused. */
VMF_API int vmf_engine_continue(struct vmf_engine *engine, uint32_t index,
				struct vmf_error *error);

/*
 * Gives channel @id another connection, see struct vfio_multifd_replace.  The thread
 * goes on, or at the source a new one does.
 */
VMF_API int vmf_engine_replace_channel(struct vmf_engine *engine, int fd,
				       uint32_t id, uint64_t packets,
				       struct vmf_error *error);

/* Has it lose the one that it has. */
VMF_API int vmf_engine_give_up_channel(struct vmf_engine *engine, uint32_t id);

VMF_API int
vmf_engine_channel_status(struct vmf_engine *engine, uint32_t id,
			  struct vfio_multifd_channel_status *status);

VMF_API int vmf_engine_switchover(struct vmf_engine *engine,
				  struct vmf_error *error);

VMF_API int vmf_engine_set_config(struct vmf_engine *engine, uint32_t index,
				  const void *data, uint32_t size,
				  struct vmf_error *error);

/* @size: in: room at @data; out: bytes of config state */
VMF_API int vmf_engine_get_config(struct vmf_engine *engine, uint32_t index,
				  void *data, uint32_t *size,
				  struct vmf_error *error);

VMF_API int vmf_engine_status(struct vmf_engine *engine,
			      struct vfio_multifd_status *status);

/* @wake_packets: the engine's fd is to tell when so many are done, or 0 */
VMF_API int vmf_engine_device_status(struct vmf_engine *engine, uint32_t index,
				     uint64_t wake_packets,
				     struct vfio_multifd_device_status *status);

/* Puts why a transfer is FAILED into words: device, channel, idx, reason. */
VMF_API void vmf_engine_explain(const struct vmf_engine *engine,
				const struct vfio_multifd_status *status,
				char *text, size_t size);

VMF_API int vmf_engine_cancel(struct vmf_engine *engine);

/*
 * A whole transfer
 */

/**
 * enum vmf_multifd - which way a device's state goes
 * @VMF_MULTIFD_AUTO: over the channels if both ends can and no end is against it
 * @VMF_MULTIFD_ON: over the channels, or the transfer is refused
 * @VMF_MULTIFD_OFF: over the main channel, which needs no kernel module
 */
enum vmf_multifd {
	VMF_MULTIFD_AUTO,
	VMF_MULTIFD_ON,
	VMF_MULTIFD_OFF,
};

/* "on", "off" or "auto" to @multifd; -EINVAL for anything else. */
VMF_API int vmf_multifd_parse(const char *name, enum vmf_multifd *multifd);

/**
 * struct vmf_device - a device of a transfer
 * @fd: VFIO device fd; stays the caller's
 * @config_fd: the VMM's config state is read from here at the source, up to
 *	end of file, once `stopped` was told, and written here at the
 *	destination, which closes it unless the outcome is VMF_SETUP; -1 for a
 *	device without config state
 * @multifd: which way its state goes; at the source @modes_fd may change it
 * @instance_id: tells devices with one @idstr apart, normally 0
 * @idstr: name, the same at both ends: printable ASCII without spaces
 */
struct vmf_device {
	int fd;
	int config_fd;
	enum vmf_multifd multifd;
	uint32_t instance_id;
	char idstr[VFIO_MULTIFD_IDSTR_SIZE];
};

/**
 * enum vmf_event - what the VMM is told, in this order, which goes on from
 *	VMF_EVENT_NEGOTIATED again if modes were changed
 * @VMF_EVENT_LISTENING: destination only; text: HOST:PORT
 * @VMF_EVENT_NEGOTIATED: both ends agreed, all channels stand
 * @VMF_EVENT_MAY_STOP: source only: pause the vCPUs, then pull the trigger,
 *	which may be pulled earlier as well; then this is not told any more
 * @VMF_EVENT_STOPPED: source only: the devices are in STOP_COPY, config state
 *	is being read
 * @VMF_EVENT_LOADED: source: the destination has it all, this end never runs
 *	again by itself; destination: as much is about to be told to the source
 * @VMF_EVENT_COMMITTED: destination: config state was written, the device may
 *	run; source: the destination said so, the devices are in STOP
 * @VMF_EVENT_FAILED: the transfer ended otherwise; text: name of the outcome,
 *	a space, and what happened.  Ends every transfer that did not commit,
 *	also one that failed before it began.
 */
enum vmf_event {
	VMF_EVENT_LISTENING,
	VMF_EVENT_NEGOTIATED,
	VMF_EVENT_MAY_STOP,
	VMF_EVENT_STOPPED,
	VMF_EVENT_LOADED,
	VMF_EVENT_COMMITTED,
	VMF_EVENT_FAILED,
};

VMF_API const char *vmf_event_name(enum vmf_event event);

/**
 * enum vmf_outcome - how a transfer ended; also the helper's exit status
 * @VMF_DONE: committed
 * @VMF_SETUP: wrong parameters, or no contact; nothing was touched
 * @VMF_REFUSED: refused, failed or cancelled before the source stopped
 *	anything; devices of the destination were reset, if they had been touched
 * @VMF_ROLLED_BACK: failed or cancelled later; devices of the source are
 *	RUNNING again, devices of the destination were reset
 * @VMF_UNDECIDED: the ends lost each other between `loaded` and `committed`;
 *	devices stay in STOP at both and somebody who sees both must decide,
 *	once both have ended.  The destination's config state was written,
 *	unless the text says otherwise.
 * @VMF_LOST: as VMF_REFUSED or VMF_ROLLED_BACK, but a device is not as said
 *	there: the text names it
 */
enum vmf_outcome {
	VMF_DONE	= 0,
	VMF_SETUP	= 1,
	VMF_REFUSED	= 2,
	VMF_ROLLED_BACK	= 3,
	VMF_UNDECIDED	= 4,
	VMF_LOST	= 5,
};

VMF_API const char *vmf_outcome_name(enum vmf_outcome outcome);

/**
 * enum vmf_time - the moments of a transfer
 * @VMF_TIME_NEGOTIATED: all channels stand
 * @VMF_TIME_TRIGGER: source: the trigger was pulled
 * @VMF_TIME_STOP_COPY: source: first request for STOP_COPY
 * @VMF_TIME_STOPPED: source: last device in STOP_COPY; destination: the source
 *	said that it stops
 * @VMF_TIME_STREAMED: every packet was sent, or written to its data fd
 * @VMF_TIME_LOADED: source: LOADED came; destination: last RESUMING to STOP
 * @VMF_TIME_COMMITTED: source: COMMITTED came; destination: config state
 *	was written
 * @VMF_TIMES: number of moments
 */
enum vmf_time {
	VMF_TIME_NEGOTIATED,
	VMF_TIME_TRIGGER,
	VMF_TIME_STOP_COPY,
	VMF_TIME_STOPPED,
	VMF_TIME_STREAMED,
	VMF_TIME_LOADED,
	VMF_TIME_COMMITTED,
	VMF_TIMES,
};

VMF_API const char *vmf_time_name(enum vmf_time time);

/*
 * A feature of two ends beside enum vfio_multifd_feature: devices that can go to
 * PRE_COPY, and the state that they give there moves while the guest runs.
 */
#define VMF_FEATURE_PRE_COPY	(1ull << 32)

/* A feature of destinations: nothing is to be moved, vmf_check() only looks. */
#define VMF_FEATURE_CHECK	(1ull << 33)

/**
 * enum vmf_precopy_end - why `may-stop` was told
 * @VMF_PRECOPY_NONE: there was no pre-copy, or the trigger was pulled before
 * @VMF_PRECOPY_CONVERGED: what is left should take no longer than the limit
 * @VMF_PRECOPY_MAX_ROUNDS: there were as many rounds as there may be
 * @VMF_PRECOPY_STALLED: rounds leave no less than those before
 */
enum vmf_precopy_end {
	VMF_PRECOPY_NONE,
	VMF_PRECOPY_CONVERGED,
	VMF_PRECOPY_MAX_ROUNDS,
	VMF_PRECOPY_STALLED,
};

VMF_API const char *vmf_precopy_end_name(enum vmf_precopy_end end);

/**
 * struct vmf_report - how it went, and how it goes
 * @outcome: how it ended
 * @text: what failed, even if the transfer did not, or empty
 * @fallback: which device went over the main channel without having to, and why, or
 *	empty
 * @channels: agreed number of channels, 0 if no device needs any
 * @replaced: connections that took the place of lost ones
 * @packet_size: agreed largest data of a packet, bytes
 * @features: agreed features
 * @bytes: data bytes so far, without headers and config state
 * @packets: packets so far
 * @time_ns: CLOCK_MONOTONIC by enum vmf_time, 0 for what did not happen
 * @load_ns: time that the destination took from RESUMING to STOP
 * @precopy: rounds that the destination has loaded, bytes and packets that moved
 *	before the stop; source: bytes left and how long they were expected to take
 *	when it was looked last, and why the VMM might stop
 * @check: of vmf_check(): bytes that the devices would give in STOP_COPY, at most,
 *	bytes per second of one connection, and how long that would take
 * @device: data bytes and packets, or records, so far, and whether they go over the
 *	channels, in the order of the parameters
 */
struct vmf_report {
	enum vmf_outcome outcome;
	char text[VMF_TEXT_SIZE];
	char fallback[VMF_TEXT_SIZE];
	uint32_t channels;
	uint32_t replaced;
	uint32_t packet_size;
	uint64_t features;
	uint64_t bytes;
	uint64_t packets;
	uint64_t time_ns[VMF_TIMES];
	uint64_t load_ns;
	struct {
		uint32_t rounds;
		enum vmf_precopy_end end;
		uint64_t bytes;
		uint64_t packets;
		uint64_t left;
		uint64_t expected_ns;
	} precopy;
	struct {
		uint64_t size;
		uint64_t rate;
		uint64_t expected_ns;
	} check;
	struct {
		uint64_t bytes;
		uint64_t packets;
		bool multifd;
	} device[VFIO_MULTIFD_MAX_DEVICES];
};

/**
 * struct vmf_params - what to transfer and whom to tell
 * @address: HOST:PORT, HOST or [ADDRESS]:PORT; to connect to, or to listen on.
 *	Without a port it is VMF_DEFAULT_PORT; port 0 listens on a free one.
 *	NULL listens on loopback.
 * @channel_addresses: source: number of entries in @channel_address, or 0
 * @channel_address: source: where the channels go, in turn, if not to @address;
 *	a port that is missing is that of @address
 * @devices: number of entries in @device
 * @device: the devices
 * @channels: source: how many TCP connections carry device state
 * @packet_size: source: largest data of a packet in bytes
 * @features: features that this end agrees to; the kernel's own limit them
 * @max_bandwidth: source: bytes per second that all channels together may take as
 *	long as the guest runs, VMF_MIN_BANDWIDTH for each at least, or 0
 * @downtime_limit: source: ms that the state which is left after a round of
 *	pre-copy may take to move, for `may-stop` to be told
 * @max_rounds: source: rounds of pre-copy after which it is told anyway, unless a
 *	device has bytes that have to move before
 * @trigger_fd: source: becomes readable when the VMM has paused its vCPUs;
 *	end of file without a byte cancels; -1: stop when `may-stop` is told
 * @modes_fd: source: each line that is written to it, "IDSTR on", "IDSTR off" or
 *	"IDSTR auto", changes the mode of a device, or of all of that name, up to when
 *	the trigger is pulled, or `may-stop` is told without one.  A line is to be
 *	written in one go; end of file: no more will come.  If state may have to go
 *	another way then, the transfer begins anew, and @report, too: devices go back
 *	to RUNNING, and what pre-copy moved moves again, which the VMM waits for by
 *	the next `may-stop`.  A trigger that is pulled meanwhile has all of it move
 *	while devices stand still.  -1: never
 * @cancel_fd: becomes readable to cancel; nothing is read from it; -1: never.
 *	Without effect once LOADED was sent, or VMF_EVENT_LOADED was told by the
 *	source, and while names are resolved, before anything else.
 * @timeout: seconds without a word from the peer, or without a step forward,
 *	after which the transfer fails; VMF_MIN_TIMEOUT to VMF_MAX_TIMEOUT.
 *	Three waits end by @cancel_fd alone: for the source to connect first, and
 *	to stop, and for the trigger.
 * @event: called for each event.  What it does not return 0 for must not have
 *	told the VMM anything, not even a part: the transfer fails, and is
 *	rolled back where it still can be.
 * @progress: called about five times a second while data moves, or NULL
 * @opaque: for the two functions
 */
struct vmf_params {
	const char *address;
	uint32_t channel_addresses;
	const char * const *channel_address;
	uint32_t devices;
	const struct vmf_device *device;
	uint32_t channels;
	uint32_t packet_size;
	uint64_t features;
	uint64_t max_bandwidth;
	uint32_t downtime_limit;
	uint32_t max_rounds;
	int trigger_fd;
	int modes_fd;
	int cancel_fd;
	uint32_t timeout;
	int (*event)(void *opaque, enum vmf_event event, const char *text);
	void (*progress)(void *opaque, const struct vmf_report *report);
	void *opaque;
};

/*
 * Both block until the transfer is over and return its outcome, which is also
 * in @report.  They may be called from any thread, by several threads at once
 * for different devices.
 */
VMF_API enum vmf_outcome vmf_send(const struct vmf_params *params,
				  struct vmf_report *report);
VMF_API enum vmf_outcome vmf_recv(const struct vmf_params *params,
				  struct vmf_report *report);

/*
 * Asks a vmf_recv() that listens whether it would take these devices, and measures the
 * network for a second, or with 16 MiB.  Nothing is moved or stopped at either end, and the
 * vmf_recv() goes on to wait.  VMF_DONE: it would; VMF_REFUSED: it would not, the text
 * says why; VMF_SETUP: nobody knows.
 */
VMF_API enum vmf_outcome vmf_check(const struct vmf_params *params,
				   struct vmf_report *report);

#ifdef __cplusplus
}
#endif

#endif /* VFIO_MULTIFD_H */

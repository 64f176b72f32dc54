/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What both ends of a transfer have in common: the main channel with its
 * heartbeat, the wait for everything that can happen, and the end.
 */
#ifndef VMF_SESSION_H
#define VMF_SESSION_H

#include "listener.h"
#include "message.h"

#include <poll.h>
#include <sys/socket.h>

/* How far it went decides what a failure means. */
enum vmf_stage {
	VMF_STAGE_SETUP,	/* nothing was touched */
	VMF_STAGE_NEGOTIATE,	/* nothing was stopped at the source */
	VMF_STAGE_STOP,		/* the source can still take it back */
	VMF_STAGE_LOADED,	/* the source's way back is closed */
	VMF_STAGE_COMMIT,	/* destination: COMMIT came */
};

/**
 * struct vmf_section - a device's state on the main channel
 * @pump: reads or writes the data fd, or NULL
 * @tag: enum vmf_section_tag of the section that was begun last
 * @open: destination: that has not ended
 * @paused: source: the device had no more to give
 * @initial_sent: source: the peer knows that the initial bytes are there
 * @size: destination: bytes at the end of session->in that @pump is to get
 * @ended: there is no more data
 * @written: destination: and it is written
 * @has_config: the config state is here, or there is none
 * @full: destination: the last section was there
 * @done: nothing more will come of it
 * @bytes: of data, sent or written
 * @records: that had them
 */
struct vmf_section {
	struct vmf_pump *pump;
	uint32_t tag;
	bool open;
	bool paused;
	bool initial_sent;
	uint32_t size;
	bool ended;
	bool written;
	bool has_config;
	bool full;
	bool done;
	uint64_t bytes;
	uint64_t records;
};

/**
 * struct vmf_lost - what is known of a channel that may have lost its connection
 * @epoch: connections that it has had before
 * @told: the peer knows that this one is lost
 * @heard: source: the destination has said so, and that it has @packets
 * @packets: see there
 */
struct vmf_lost {
	uint32_t epoch;
	bool told;
	bool heard;
	uint64_t packets;
};

/**
 * struct vmf_path - where channels can go
 * @list: addresses
 * @dead: they could not be reached
 */
struct vmf_path {
	struct addrinfo *list;
	bool dead;
};

/**
 * struct vmf_lasting - what outlives a session that is begun anew
 * @device: those of the parameters, with the modes that the VMM wants now
 * @port: destination: where it listens, or @sock is -1
 * @path: source: by the order of @channel_address, NULL without
 * @to: source: the destination's address, once it was reached
 * @to_size: bytes of it, 0 before
 * @modes_ended: source: modes_fd came to its end
 */
struct vmf_lasting {
	struct vmf_device device[VFIO_MULTIFD_MAX_DEVICES];
	struct vmf_listener port;
	struct vmf_path *path;
	struct sockaddr_storage to;
	socklen_t to_size;
	bool modes_ended;
};

/**
 * struct vmf_session_device - what a session knows of a device
 * @identity: as VFIO shows it
 * @data_fd: migration data fd of the device's present state, or -1
 * @index: the engine's name for it
 * @precopy: source: it is, or was, in PRE_COPY; @data_fd then tells how much is
 *	left until the stop
 * @wake: destination: packets that somebody waits for, 0 without
 * @moved: the session has, or may have, changed the migration state
 * @stuck: a call into the device did not return in time
 * @config: config state, room for one byte more than the limit
 * @config_size: bytes of it
 * @config_at: destination: bytes written to the VMM
 * @config_fd: -1 when all was read or written
 * @at_peer: destination: the source's number for it
 * @on_main: its state goes over the main channel, as @section has it
 */
struct vmf_session_device {
	struct vmf_identity identity;
	int data_fd;
	uint32_t index;
	bool precopy;
	uint64_t wake;
	bool moved;
	bool stuck;
	uint8_t *config;
	uint32_t config_size;
	uint32_t config_at;
	int config_fd;
	uint32_t at_peer;
	bool on_main;
	struct vmf_section section;
};

/**
 * struct vmf_session - one end of a transfer, or of what it was before modes changed
 * @params: of the caller, but for the modes of devices
 * @report: of the caller
 * @role: enum vfio_multifd_role
 * @lasting: what it has in common with those before and after it
 * @again: it is not the first of them
 * @anew: the source has other modes: another is to follow
 * @check: source: nothing is to be moved
 * @stage: see there
 * @error: what happened first
 * @engine: NULL once closed, or if there is none and no device needs it
 * @no_engine: why there is none
 * @running: the engine's state is worth looking at
 * @done: the engine is DONE, or has nothing to do
 * @sock: main channel, -1 without
 * @uuid: destination: of the transfer
 * @listener: destination: that of @lasting while others may connect to it, or NULL
 * @lost: by the channel's id
 * @replaces: channels may get other connections now
 * @next_lost: channel to be looked at first
 * @precopies: source: number of devices in PRE_COPY
 * @awaits_ack: source: the destination owes a ROUND_ACK, which may come late
 * @slack_ns: source: what a packet may take beside the timeout, as long as
 *	@max_bandwidth holds
 * @channel: source: sockets of the channels while @max_bandwidth holds, else -1
 * @agreed: HELLO_ACK was sent, or came
 * @mute: a message was sent in part: nothing else can be said any more
 * @held: destination: what is in @in waits for the device @held_by
 * @held_by: see there
 * @sending: source: the rest of @record is to be sent once the main channel has room
 * @next_section: source: device whose record is sent next, if it has any
 * @section_bytes: data bytes of all devices on the main channel
 * @section_records: and records
 * @peer_failed: FAILED or REFUSE came: nothing needs to be said to the peer
 * @in: message that is being received, or was received last
 * @out: message that is being built
 * @record: source: the same, of a record
 * @heard_ns: when the peer was last heard
 * @spoke_ns: when the last message was sent
 * @looked_ns: when the engine was last asked, 0 to ask it at once
 * @step_ns: since when it waits for the transfer to come forward
 * @steps: how often it came forward here; the heartbeat tells the peer
 * @peer_steps: how often it came forward at the peer
 * @device: by the order of @params
 */
struct vmf_session {
	const struct vmf_params *params;
	struct vmf_report *report;
	uint32_t role;
	struct vmf_lasting *lasting;
	bool again;
	bool anew;
	bool check;
	enum vmf_stage stage;
	struct vmf_error error;
	struct vmf_engine *engine;
	struct vmf_error no_engine;
	bool running;
	bool done;
	int sock;
	uint8_t uuid[VFIO_MULTIFD_UUID_SIZE];
	struct vmf_listener *listener;
	struct vmf_lost lost[VFIO_MULTIFD_MAX_CHANNELS];
	bool replaces;
	uint32_t next_lost;
	uint32_t precopies;
	bool awaits_ack;
	uint64_t slack_ns;
	int channel[VFIO_MULTIFD_MAX_CHANNELS];
	bool agreed;
	bool mute;
	bool held;
	uint32_t held_by;
	bool sending;
	uint32_t next_section;
	uint64_t section_bytes;
	uint64_t section_records;
	bool peer_failed;
	struct vmf_message in;
	struct vmf_message out;
	struct vmf_message record;
	uint64_t heard_ns;
	uint64_t spoke_ns;
	uint64_t looked_ns;
	uint64_t step_ns;
	uint64_t steps;
	uint64_t peer_steps;
	struct vmf_session_device device[VFIO_MULTIFD_MAX_DEVICES];
};

/**
 * struct vmf_wait - what to wait for
 * @messages: bits, by enum vmf_message_type, of those that may come now
 * @fds: to poll, or NULL
 * @nfds: number of them
 * @done: all state was sent or has come
 * @check: something else that the engine may come to, or NULL
 * @patient: it may take as long as it wants, as long as the peer is there
 * @what: names it, for the text of a timeout
 * @until: CLOCK_MONOTONIC time in ns that ends the wait, 0 without
 */
struct vmf_wait {
	uint32_t messages;
	struct pollfd *fds;
	nfds_t nfds;
	bool done;
	bool (*check)(struct vmf_session *session);
	bool patient;
	const char *what;
	uint64_t until;
};

enum vmf_woken {
	VMF_WOKEN_FDS	= 0x100,	/* above every message type */
	VMF_WOKEN_DONE,
	VMF_WOKEN_CHECK,
	VMF_WOKEN_TIME,
};

/*
 * Returns the type of the message that came, or enum vmf_woken, or a negative
 * errno when the transfer is over: cancelled, timed out, failed in the engine
 * or at the peer.  Meanwhile it keeps the heartbeat.
 */
int vmf_session_wait(struct vmf_session *session, const struct vmf_wait *wait);

/*
 * Reads what has come by now, before this end says what cannot be taken back: the peer
 * may be gone.  @what: what the peer does meanwhile, as in struct vmf_wait.
 */
int vmf_session_hear_rest(struct vmf_session *session, const char *what);

/*
 * Reads until the peer says FAILED, which sets @peer_failed, or has closed, or somebody
 * cancels, for @seconds at most.
 */
void vmf_session_hear_out(struct vmf_session *session, uint32_t seconds);

/* A step forward: what comes next has its own timeout. */
void vmf_session_step(struct vmf_session *session);

/*
 * The same, and what comes next is the peer's last word: who waits for that waits a
 * little longer than the peer may take to say it, or that it failed.
 */
void vmf_session_step_last(struct vmf_session *session);

/* Starts to talk on @sock, which becomes the session's. */
void vmf_session_attach(struct vmf_session *session, int sock);

/* Sends session->out. */
int vmf_session_send(struct vmf_session *session);

/* Begins to send session->record, or goes on; waits for nothing. */
int vmf_session_push(struct vmf_session *session);

/* Sends all of it. */
int vmf_session_flush(struct vmf_session *session);

/* Sends a message without a body. */
int vmf_session_send_bare(struct vmf_session *session,
			  enum vmf_message_type type);

/* Tells the VMM. */
int vmf_session_event(struct vmf_session *session, enum vmf_event event,
		      const char *text);

void vmf_session_mark(struct vmf_session *session, enum vmf_time time);

/*
 * Hands the data fds of those devices to the engine that have one and are not
 * there yet, and closes them here, unless pre-copy goes on with them.
 */
int vmf_session_add_devices(struct vmf_session *session);

/* What has moved so far did so before the stop. */
void vmf_session_count_precopy(struct vmf_session *session);

/* What has moved of device @i, whichever way it goes; of a paused one it says so. */
int vmf_session_device_status(struct vmf_session *session, uint32_t i,
			      struct vfio_multifd_device_status *status);

/* All state was sent, or has come. */
bool vmf_session_all_done(const struct vmf_session *session);

/* Brings the devices' counters of session->report up to date. */
void vmf_session_count(struct vmf_session *session);

/* And what they are in all. */
void vmf_session_count_all(struct vmf_session *session);

#endif /* VMF_SESSION_H */

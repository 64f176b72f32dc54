// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * A SECTION message holds one record.  Tags and markers are those of QEMU's stream,
 * so that what a VMM would put there can be made of it as it is.
 */
#include "section.h"

#include "clock.h"
#include "error.h"
#include "pump.h"

#include <errno.h>
#include <string.h>

#define PATIENCE_NS	(5 * VMF_NS_PER_S) /* with drivers that do not return */
#define MARKER(n)	(0xffffffffef100000ull | (n))

enum {
	END_OF_STATE	= 1,
	CONFIG_STATE	= 2,
	SETUP_STATE	= 3,
	DATA_STATE	= 4,
	INIT_DATA_SENT	= 5,
};

static const char *name_of(const struct vmf_session *session, uint32_t i)
{
	return session->params->device[i].idstr;
}

static bool sends(const struct vmf_session *session)
{
	return session->role == VFIO_MULTIFD_SEND;
}

/* The state of device @i came forward by @bytes. */
static void count(struct vmf_session *session, uint32_t i, uint32_t bytes)
{
	struct vmf_section *section = &session->device[i].section;

	vmf_session_step(session);
	if (!bytes)
		return;
	section->bytes += bytes;
	section->records++;
	session->section_bytes += bytes;
	session->section_records++;
}

static int done(struct vmf_session *session, uint32_t i)
{
	session->device[i].section.done = true;
	if (vmf_section_all_done(session))
		vmf_session_mark(session, VMF_TIME_STREAMED);
	return 0;
}

/* 0, -EAGAIN without a note, or the error that is in it */
static int take_note(struct vmf_session *session, uint32_t i,
		     struct vmf_pump_note *note, void *data)
{
	int ret = vmf_pump_take(session->device[i].section.pump, note, data);

	if (!ret)
		ret = note->error;
	/* That is a driver's own way to fail, not for want of a note. */
	if (note->error == -EAGAIN)
		ret = -EIO;
	if (!ret || ret == -EAGAIN)
		return ret;
	return vmf_error_set(&session->error, ret,
			     "device %s: %s the device state: %s",
			     name_of(session, i), sends(session) ? "reading" :
			     "writing", strerror(-ret));
}

/*
 * Source
 */

static void start_record(struct vmf_session *session, uint32_t i, uint32_t kind)
{
	struct vmf_message *record = &session->record;

	vmf_message_start(record, VMF_SECTION);
	vmf_message_put_u32(record, i);
	vmf_message_put_u32(record, session->device[i].section.tag);
	vmf_message_put_u64(record, MARKER(kind));
}

static int send_record(struct vmf_session *session)
{
	vmf_message_finish(&session->record);
	return vmf_session_push(session);
}

static int send_bare(struct vmf_session *session, uint32_t i, uint32_t kind)
{
	int ret = vmf_session_flush(session);

	if (ret)
		return ret;
	start_record(session, i, kind);
	return send_record(session);
}

/* The last section, once the one before has ended and there is config state. */
static int send_full(struct vmf_session *session, uint32_t i)
{
	struct vmf_session_device *own = &session->device[i];
	int ret = 0;

	if (!own->section.ended || !own->section.has_config)
		return 0;
	own->section.tag = VMF_SECTION_FULL;
	if (own->config) {
		ret = vmf_session_flush(session);
		if (ret)
			return ret;
		start_record(session, i, CONFIG_STATE);
		vmf_message_put(&session->record, own->config,
				own->config_size);
		ret = send_record(session);
	}
	if (!ret)
		ret = send_bare(session, i, END_OF_STATE);
	return ret ? ret : done(session, i);
}

int vmf_section_set_config(struct vmf_session *session, uint32_t i)
{
	session->device[i].section.has_config = true;
	return send_full(session, i);
}

/* The data is in its place already. */
static int send_data(struct vmf_session *session, uint32_t i, uint32_t size)
{
	start_record(session, i, DATA_STATE);
	vmf_message_put_u64(&session->record, size);
	session->record.at += size;
	count(session, i, size);
	return send_record(session);
}

static int end_data(struct vmf_session *session, uint32_t i)
{
	struct vmf_section *section = &session->device[i].section;
	int ret;

	section->tag = VMF_SECTION_END;
	section->ended = true;
	ret = send_bare(session, i, END_OF_STATE);
	return ret ? ret : send_full(session, i);
}

static int pause(struct vmf_session *session, uint32_t i, bool initial)
{
	struct vmf_section *section = &session->device[i].section;
	uint32_t kind = END_OF_STATE;

	if (!initial && !section->initial_sent) {
		section->initial_sent = true;
		kind = INIT_DATA_SENT;
	}
	section->paused = true;
	vmf_session_step(session);
	return send_bare(session, i, kind);
}

static int send_on(struct vmf_session *session, uint32_t i)
{
	struct vmf_section *section = &session->device[i].section;
	struct vmf_pump_note note = {};
	int ret;

	ret = take_note(session, i, &note, session->record.bytes +
			VMF_MESSAGE_HEADER + VMF_MESSAGE_SECTION_HEAD);
	if (ret)
		return ret == -EAGAIN ? 0 : ret;
	if (note.paused)
		return pause(session, i, note.initial);
	if (note.ended)
		return end_data(session, i);
	/* Nobody said that it should go on but for the rest. */
	if (section->paused) {
		section->paused = false;
		section->tag = VMF_SECTION_END;
	}
	return send_data(session, i, note.size);
}

int vmf_section_continue(struct vmf_session *session, uint32_t i)
{
	struct vmf_section *section = &session->device[i].section;

	section->paused = false;
	return vmf_pump_put(section->pump, (struct vmf_pump_note){}, NULL);
}

/*
 * Destination
 */

/* What has come is for the thread of device @i: if it has no room, all else waits. */
static int pass_on(struct vmf_session *session, uint32_t i)
{
	struct vmf_section *section = &session->device[i].section;
	const struct vmf_message *in = &session->in;
	uint64_t now = vmf_clock_ns();
	int ret;

	ret = vmf_pump_put(section->pump, (struct vmf_pump_note){
		.size = section->size,
		.ended = section->ended,
	}, in->bytes + VMF_MESSAGE_HEADER + in->length - section->size);
	/* It has the time from here on, not from when there was news before. */
	if (ret == -EAGAIN && !session->held && now > session->step_ns)
		session->step_ns = now;
	session->held = ret == -EAGAIN;
	if (session->held) {
		session->held_by = i;
		return 0;
	}
	if (ret)
		return vmf_error_set(&session->error, ret,
				     "device %s: to its thread: %s",
				     name_of(session, i), strerror(-ret));
	return 0;
}

static int take_data(struct vmf_session *session, uint32_t i)
{
	uint64_t size = vmf_message_get_u64(&session->in);
	uint32_t left = VMF_MESSAGE_HEADER + session->in.length -
			session->in.at;

	if (session->in.bad || size != left || left > VMF_PUMP_DATA)
		return vmf_error_set(&session->error, -EPROTO,
				     "device %s: a record of %llu bytes has %u",
				     name_of(session, i),
				     (unsigned long long)size, left);
	if (!left)
		return 0;
	session->device[i].section.size = left;
	return pass_on(session, i);
}

static int take_config(struct vmf_session *session, uint32_t i)
{
	struct vmf_session_device *own = &session->device[i];
	struct vmf_message *in = &session->in;
	uint32_t left = VMF_MESSAGE_HEADER + in->length - in->at;

	if (!own->config || own->section.has_config ||
	    left > VFIO_MULTIFD_MAX_CONFIG)
		return vmf_error_set(&session->error, -EPROTO,
				     "device %s: config state of %u bytes is too large, or out of turn",
				     name_of(session, i), left);
	own->section.has_config = true;
	own->config_size = left;
	vmf_message_get(in, own->config, left);
	return 0;
}

static int close_section(struct vmf_session *session, uint32_t i)
{
	struct vmf_session_device *own = &session->device[i];

	own->section.open = false;
	if (own->section.tag == VMF_SECTION_END) {
		own->section.ended = true;
		own->section.size = 0;
		return pass_on(session, i);
	}
	if (own->section.tag != VMF_SECTION_FULL)
		return 0;
	if (own->config && !own->section.has_config)
		return vmf_error_set(&session->error, -EPROTO,
				     "device %s: its config state is missing",
				     name_of(session, i));
	own->section.full = true;
	return own->section.written ? done(session, i) : 0;
}

/* May a record of @kind come in a section of @tag now? */
static bool in_turn(const struct vmf_section *section, uint32_t tag,
		    uint32_t kind)
{
	static const uint32_t kinds[] = {
		[VMF_SECTION_START] = 1 << SETUP_STATE | 1 << END_OF_STATE,
		[VMF_SECTION_PART] = 1 << DATA_STATE | 1 << END_OF_STATE |
				     1 << INIT_DATA_SENT,
		[VMF_SECTION_END] = 1 << DATA_STATE | 1 << END_OF_STATE,
		[VMF_SECTION_FULL] = 1 << CONFIG_STATE | 1 << END_OF_STATE,
	};

	if (tag < VMF_SECTION_START || tag > VMF_SECTION_FULL ||
	    !(kinds[tag] & 1 << kind))
		return false;
	if (section->open)
		return tag == section->tag;
	switch (tag) {
	case VMF_SECTION_START:
		return !section->tag;
	case VMF_SECTION_PART:
	case VMF_SECTION_END:
		return section->tag == VMF_SECTION_START ||
		       section->tag == VMF_SECTION_PART;
	default:
		return section->tag == VMF_SECTION_END;
	}
}

/* The destination's number of what is device @number for the source */
static int find(const struct vmf_session *session, uint32_t number, uint32_t *i)
{
	for (*i = 0; *i < session->params->devices; ++*i)
		if (session->device[*i].at_peer == number)
			return session->device[*i].section.pump ? 0 : -EPROTO;
	return -EPROTO;
}

int vmf_section_receive(struct vmf_session *session)
{
	struct vmf_message *in = &session->in;
	uint32_t number = vmf_message_get_u32(in);
	uint32_t tag = vmf_message_get_u32(in), i;
	uint64_t kind = vmf_message_get_u64(in) ^ MARKER(0);
	struct vmf_section *section;

	if (find(session, number, &i))
		return vmf_error_set(&session->error, -EPROTO,
				     "SECTION of device %u, which has none",
				     number);
	section = &session->device[i].section;
	if (kind > INIT_DATA_SENT || !in_turn(section, tag, kind))
		return vmf_error_set(&session->error, -EPROTO,
				     "device %s: marker 0x%llx is out of turn in section %u",
				     name_of(session, i),
				     (unsigned long long)(kind ^ MARKER(0)),
				     tag);
	section->tag = tag;
	section->open = true;
	if (kind == DATA_STATE)
		return take_data(session, i);
	if (kind == CONFIG_STATE)
		return take_config(session, i);
	if (vmf_message_end(in, &session->error))
		return -EPROTO;
	return kind == SETUP_STATE ? 0 : close_section(session, i);
}

static int hear_writer(struct vmf_session *session, uint32_t i)
{
	struct vmf_section *section = &session->device[i].section;
	struct vmf_pump_note note = {};
	int ret;

	ret = take_note(session, i, &note, NULL);
	if (ret)
		return ret == -EAGAIN ? 0 : ret;
	count(session, i, note.size);
	section->written = note.ended;
	return section->written && section->full ? done(session, i) : 0;
}

/*
 * Both
 */

static int start_pump(struct vmf_session *session, uint32_t i)
{
	struct vmf_session_device *own = &session->device[i];
	int ret;

	ret = sends(session) ?
	      vmf_pump_start_reader(&own->section.pump, own->data_fd,
				    own->precopy) :
	      vmf_pump_start_writer(&own->section.pump, own->data_fd);
	if (ret)
		return vmf_error_set(&session->error, ret,
				     "device %s: a thread for it: %s",
				     name_of(session, i), strerror(-ret));
	return 0;
}

int vmf_section_begin(struct vmf_session *session, uint32_t i)
{
	struct vmf_session_device *own = &session->device[i];
	int ret;

	if (!sends(session))
		return start_pump(session, i);
	if (own->section.pump)
		return vmf_pump_put(own->section.pump, (struct vmf_pump_note){
			.ended = true }, NULL);
	own->section.tag = VMF_SECTION_START;
	ret = send_bare(session, i, SETUP_STATE);
	if (!ret)
		ret = send_bare(session, i, END_OF_STATE);
	own->section.tag = own->precopy ? VMF_SECTION_PART : VMF_SECTION_END;
	return ret ? ret : start_pump(session, i);
}

nfds_t vmf_section_watch(struct vmf_session *session, struct pollfd *fds)
{
	uint32_t i;

	for (i = 0; i < session->params->devices; i++) {
		struct vmf_pump *pump = session->device[i].section.pump;

		fds[i] = (struct pollfd){ -1, POLLIN, 0 };
		if (pump && !session->sending)
			fds[i].fd = vmf_pump_fd(pump);
		if (session->held && session->held_by == i)
			fds[i].events |= POLLOUT;
	}
	return i;
}

/* One record at a time, of each device in turn, as the main channel has room */
static int serve_source(struct vmf_session *session, const struct pollfd *fds,
			bool sock_writable)
{
	uint32_t devices = session->params->devices, n, i;

	if (session->sending)
		return sock_writable ? vmf_session_push(session) : 0;
	for (n = 0; n < devices; n++) {
		i = (session->next_section + n) % devices;
		if (!fds[i].revents)
			continue;
		session->next_section = i + 1;
		return send_on(session, i);
	}
	return 0;
}

int vmf_section_serve(struct vmf_session *session, const struct pollfd *fds,
		      bool sock_writable)
{
	uint32_t i;
	int ret = 0;

	if (sends(session))
		return serve_source(session, fds, sock_writable);
	for (i = 0; !ret && i < session->params->devices; i++) {
		if (fds[i].revents & ~POLLOUT)
			ret = hear_writer(session, i);
		if (!ret && fds[i].revents & POLLOUT)
			ret = pass_on(session, i);
	}
	return ret;
}

bool vmf_section_all_done(const struct vmf_session *session)
{
	uint32_t i;

	for (i = 0; i < session->params->devices; i++)
		if (session->device[i].on_main &&
		    !session->device[i].section.done)
			return false;
	return true;
}

void vmf_section_end(struct vmf_session *session)
{
	uint64_t deadline = vmf_clock_ns() + PATIENCE_NS;
	uint32_t i;

	for (i = 0; i < session->params->devices; i++)
		vmf_pump_cancel(session->device[i].section.pump);
	for (i = 0; i < session->params->devices; i++) {
		vmf_pump_destroy(session->device[i].section.pump, deadline);
		session->device[i].section.pump = NULL;
	}
}

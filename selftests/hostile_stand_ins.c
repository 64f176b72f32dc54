// SPDX-License-Identifier: GPL-2.0-only
/*
 * The stand-ins, in place of device.c, team.c, pump.c and engine.c.  They also tell when
 * it is the peer's turn.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hostile_peer.h"
#include "net.h"
#include "pump.h"
#include "team.h"

struct vmf_engine {
	int fd;
};

struct vmf_pump {
	int fd;			/* counts those of @note that wait */
	unsigned int notes;
	unsigned int taken;
	struct vmf_pump_note note[64];
};

int vmf_device_identify(int fd, struct vmf_identity *own,
			struct vmf_error *error)
{
	*own = hostile_identity;
	return 0;
}

int vmf_device_get_state(int fd, uint32_t *state)
{
	*state = VFIO_DEVICE_STATE_RUNNING;
	return 0;
}

const char *vmf_device_state_name(uint32_t state)
{
	return "?";
}

int vmf_device_data_size(int fd, uint64_t *size)
{
	*size = BYTES;
	return 0;
}

int vmf_device_precopy_info(int data_fd, uint64_t *initial, uint64_t *dirty)
{
	*initial = 0;
	*dirty = 0;
	return 0;
}

int vmf_team_set_states(struct vmf_session *session,
			const uint32_t state[static VFIO_MULTIFD_MAX_DEVICES])
{
	for (unsigned int i = 0; i < DEVICES; i++)
		if (session->device[i].data_fd < 0)
			session->device[i].data_fd = eventfd(0, EFD_CLOEXEC);
	return 0;
}

int vmf_team_set_state(struct vmf_session *session, uint32_t state)
{
	static const uint32_t any_state[VFIO_MULTIFD_MAX_DEVICES];

	if (state == VFIO_DEVICE_STATE_RESUMING)
		hostile_open_channels();
	return vmf_team_set_states(session, any_state);
}

int vmf_team_roll_back(struct vmf_session *session,
		       char text[static VMF_TEXT_SIZE])
{
	return 0;
}

int vmf_team_reset(struct vmf_session *session, char text[static VMF_TEXT_SIZE])
{
	return vmf_team_roll_back(session, text);
}

int vmf_team_stop(struct vmf_session *session, char text[static VMF_TEXT_SIZE])
{
	return vmf_team_roll_back(session, text);
}

static void note(struct vmf_pump *pump, struct vmf_pump_note note)
{
	if (pump->notes == sizeof(pump->note) / sizeof(pump->note[0])) {
		snprintf(hostile.problem, sizeof(hostile.problem), "more than %u notes",
			 pump->notes);
		return;
	}
	pump->note[pump->notes++] = note;
	eventfd_write(pump->fd, 1);
}

static int start_pump(struct vmf_pump **pump)
{
	static struct vmf_pump only;

	memset(&only, 0, sizeof(only));
	only.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
	*pump = &only;
	return 0;
}

int vmf_pump_start_reader(struct vmf_pump **pump, int data_fd, bool precopy)
{
	start_pump(pump);
	note(*pump, (struct vmf_pump_note){ .size = BYTES / 2 });
	note(*pump, (struct vmf_pump_note){ .size = BYTES / 2 });
	note(*pump, (struct vmf_pump_note){
		.paused = precopy,
		.ended = !precopy,
	});
	return 0;
}

int vmf_pump_start_writer(struct vmf_pump **pump, int data_fd)
{
	return start_pump(pump);
}

int vmf_pump_fd(const struct vmf_pump *pump)
{
	return pump->fd;
}

/* A writer has written, a reader reads the rest. */
int vmf_pump_put(struct vmf_pump *pump, struct vmf_pump_note what,
		 const void *data)
{
	static volatile uint8_t sum;	/* all of it is read */

	if (!hostile.sending && !hostile_any(4))
		return -EAGAIN;
	for (uint32_t i = 0; i < what.size; i++)
		sum ^= ((const uint8_t *)data)[i];
	note(pump, what);
	return 0;
}

int vmf_pump_take(struct vmf_pump *pump, struct vmf_pump_note *what, void *data)
{
	eventfd_t count;

	if (eventfd_read(pump->fd, &count))
		return -EAGAIN;
	*what = pump->note[pump->taken++];
	if (data)
		memset(data, 0x5a, what->size);
	return 0;
}

void vmf_pump_cancel(struct vmf_pump *pump)
{
	if (pump)
		close(pump->fd);
}

void vmf_pump_destroy(struct vmf_pump *pump, uint64_t deadline)
{
}

int vmf_engine_open(struct vmf_engine **engine, struct vmf_error *error)
{
	static struct vmf_engine only;

	only.fd = eventfd(1, EFD_CLOEXEC);	/* always has news */
	*engine = &only;
	return 0;
}

void vmf_engine_close(struct vmf_engine *engine)
{
	if (engine)
		close(engine->fd);
}

int vmf_engine_fd(const struct vmf_engine *engine)
{
	return engine->fd;
}

/* The source asks for it when it is connected, and is to say HELLO. */
const struct vfio_multifd_info *vmf_engine_info(const struct vmf_engine *engine)
{
	static const struct vfio_multifd_info info = {
		.features = VFIO_MULTIFD_FEATURE_DIGEST |
			    VFIO_MULTIFD_FEATURE_REPLACE,
		.max_channels = VFIO_MULTIFD_MAX_CHANNELS,
		.min_packet = VFIO_MULTIFD_MIN_PACKET,
		.max_packet = VFIO_MULTIFD_MAX_PACKET,
	};

	if (hostile.sending && hostile.peer < 0) {
		hostile.peer = accept4(hostile.listener, NULL, NULL, SOCK_CLOEXEC);
		vmf_net_tune(hostile.peer);
		hostile_say(VMF_HELLO_ACK);
	}
	return &info;
}

int vmf_engine_setup(struct vmf_engine *engine,
		     const struct vfio_multifd_setup *setup,
		     struct vmf_error *error)
{
	return 0;
}

int vmf_engine_add_channel(struct vmf_engine *engine, int fd, uint32_t id,
			   struct vmf_error *error)
{
	if (hostile.sending) {
		hostile.channels[id] = accept4(hostile.listener, NULL, NULL, SOCK_CLOEXEC);
		if (id == CHANNELS - 1)
			hostile_say(VMF_READY);
	}
	return 0;
}

int vmf_engine_add_device(struct vmf_engine *engine, int data_fd,
			  uint32_t flags, const char *idstr,
			  uint32_t instance_id, uint32_t *index,
			  struct vmf_error *error)
{
	*index = idstr[strlen("vfio")] - '0';
	return 0;
}

/* Some are lost. */
int vmf_engine_channel_status(struct vmf_engine *engine, uint32_t id,
			      struct vfio_multifd_channel_status *status)
{
	*status = (struct vfio_multifd_channel_status){
		.lost = hostile.victim != NONE && !hostile_any(50),
	};
	return 0;
}

int vmf_engine_replace_channel(struct vmf_engine *engine, int fd, uint32_t id,
			       uint64_t packets, struct vmf_error *error)
{
	if (hostile.sending)
		close(accept4(hostile.listener, NULL, NULL, SOCK_CLOEXEC));
	return 0;
}

int vmf_engine_give_up_channel(struct vmf_engine *engine, uint32_t id)
{
	return 0;
}

int vmf_engine_continue(struct vmf_engine *engine, uint32_t index,
			struct vmf_error *error)
{
	return 0;
}

int vmf_engine_switchover(struct vmf_engine *engine, struct vmf_error *error)
{
	return 0;
}

int vmf_engine_set_config(struct vmf_engine *engine, uint32_t index,
			  const void *data, uint32_t size,
			  struct vmf_error *error)
{
	return 0;
}

int vmf_engine_get_config(struct vmf_engine *engine, uint32_t index,
			  void *data, uint32_t *size, struct vmf_error *error)
{
	*size = 0;
	return vmf_engine_set_config(engine, index, data, 0, error);
}

/* When channels break the library hears the peer out, which may say why. */
int vmf_engine_status(struct vmf_engine *engine,
		      struct vfio_multifd_status *status)
{
	memset(status, 0, sizeof(*status));
	status->state = VFIO_MULTIFD_STATE_DONE;
	if (hostile.breaks) {
		status->state = VFIO_MULTIFD_STATE_FAILED;
		status->reason = VFIO_MULTIFD_REASON_EOF;
		hostile.victim = hostile.said;
		hostile_say(VMF_FAILED);
	}
	return 0;
}

/*
 * The source asks for it when a round begins, whether it is at its end, and what it
 * sent then; when that is acknowledged, when pre-copy ends, and before it says SENT.
 */
int vmf_engine_device_status(struct vmf_engine *engine, uint32_t index,
			     uint64_t wake_packets,
			     struct vfio_multifd_device_status *status)
{
	if (hostile.sending && index == DEVICES - 1) {
		hostile.asked++;
		if (hostile.asked == 3)
			hostile_say(VMF_ROUND_ACK);
		else if (hostile.asked == 6)
			hostile_say(VMF_LOADED);
	}
	memset(status, 0, sizeof(*status));
	status->paused = 1;
	status->bytes = BYTES;
	status->packets = 2;
	return 0;
}

void vmf_engine_explain(const struct vmf_engine *engine,
			const struct vfio_multifd_status *status,
			char *text, size_t size)
{
	snprintf(text, size, "reason %u", status->reason);
}

// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Framing of the main channel.  The receive buffer has a fixed size and every
 * type its own bounds, so no number of the peer sizes anything here.
 */
#include "message.h"

#include "clock.h"
#include "error.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

static const struct message_type {
	const char *name;
	uint32_t min;		/* bytes of body */
	uint32_t max;
} types[] = {
	/* Of another version no more than its first two numbers are known. */
	[VMF_HELLO]	= { "HELLO", 4, VMF_MESSAGE_MAX_HELLO },
	[VMF_HELLO_ACK]	= { "HELLO_ACK", VMF_MESSAGE_ACK_HEAD +
			    VMF_MESSAGE_ACK_DEVICE, VMF_MESSAGE_ACK_HEAD +
			    VFIO_MULTIFD_MAX_DEVICES *
			    VMF_MESSAGE_ACK_DEVICE },
	[VMF_REFUSE]	= { "REFUSE", 1, VMF_TEXT_SIZE - 1 },
	[VMF_READY]	= { "READY", 0, 0 },
	[VMF_STOPPING]	= { "STOPPING", 0, 0 },
	[VMF_SENT]	= { "SENT", VMF_MESSAGE_SENT_DEVICE,
			    VFIO_MULTIFD_MAX_DEVICES *
			    VMF_MESSAGE_SENT_DEVICE },
	[VMF_LOADED]	= { "LOADED", 8, 8 },
	[VMF_FAILED]	= { "FAILED", 1, VMF_TEXT_SIZE - 1 },
	[VMF_COMMIT]	= { "COMMIT", 0, 0 },
	[VMF_COMMITTED]	= { "COMMITTED", 0, 0 },
	[VMF_HEARTBEAT]	= { "HEARTBEAT", 8, 8 },
	[VMF_ROUND]	= { "ROUND", VMF_MESSAGE_ROUND_HEAD +
			    VMF_MESSAGE_ROUND_DEVICE, VMF_MESSAGE_ROUND_HEAD +
			    VFIO_MULTIFD_MAX_DEVICES *
			    VMF_MESSAGE_ROUND_DEVICE },
	[VMF_ROUND_ACK]	= { "ROUND_ACK", 8, 8 },
	[VMF_PROBE]	= { "PROBE", VMF_MESSAGE_PROBE, VMF_MESSAGE_PROBE },
	[VMF_PROBE_END]	= { "PROBE_END", 0, 0 },
	[VMF_PROBE_ACK]	= { "PROBE_ACK", 8, 8 },
	/* Without data it has no size of that. */
	[VMF_SECTION]	= { "SECTION", VMF_MESSAGE_SECTION_HEAD - 8,
			    VMF_MESSAGE_MAX_BODY },
	[VMF_LOST_CHANNEL] = { "LOST", 16, 16 },
	[VMF_ANEW]	= { "ANEW", 0, 0 },
};

static const struct message_type *find_type(uint16_t type)
{
	if (type >= sizeof(types) / sizeof(types[0]) || !types[type].name)
		return NULL;
	return &types[type];
}

const char *vmf_message_name(uint16_t type)
{
	const struct message_type *found = find_type(type);

	return found ? found->name : "?";
}

void vmf_message_start(struct vmf_message *message, uint16_t type)
{
	message->type = type;
	message->at = VMF_MESSAGE_HEADER;
	message->bad = false;
}

void vmf_message_put(struct vmf_message *message, const void *data,
		     size_t size)
{
	if (size > sizeof(message->bytes) - message->at) {
		message->bad = true;
		return;
	}
	memcpy(message->bytes + message->at, data, size);
	message->at += size;
}

void vmf_message_put_u16(struct vmf_message *message, uint16_t value)
{
	value = htobe16(value);
	vmf_message_put(message, &value, sizeof(value));
}

void vmf_message_put_u32(struct vmf_message *message, uint32_t value)
{
	value = htobe32(value);
	vmf_message_put(message, &value, sizeof(value));
}

void vmf_message_put_u64(struct vmf_message *message, uint64_t value)
{
	value = htobe64(value);
	vmf_message_put(message, &value, sizeof(value));
}

void vmf_message_finish(struct vmf_message *message)
{
	message->length = message->at - VMF_MESSAGE_HEADER;
	message->at = 0;
	vmf_message_put_u32(message, VMF_MESSAGE_MAGIC);
	vmf_message_put_u16(message, message->type);
	vmf_message_put_u16(message, 0);
	vmf_message_put_u32(message, message->length);
	message->at = 0;
}

int vmf_message_push(struct vmf_message *message, int sock,
		     struct vmf_error *error)
{
	uint32_t end = VMF_MESSAGE_HEADER + message->length;
	ssize_t ret;

	while (message->at < end) {
		ret = send(sock, message->bytes + message->at,
			   end - message->at, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (ret >= 0)
			message->at += ret;
		else if (errno == EAGAIN)
			return 0;
		else if (errno != EINTR)
			return vmf_error_set(error, -errno, "sending %s: %s",
					     vmf_message_name(message->type),
					     strerror(errno));
	}
	return 1;
}

int vmf_message_drain(struct vmf_message *message, int sock, int cancel_fd,
		      uint32_t timeout, struct vmf_error *error)
{
	uint64_t deadline = vmf_clock_ns() + timeout * VMF_NS_PER_S;
	struct pollfd fds[] = {
		{ sock, POLLOUT, 0 },
		{ cancel_fd, POLLIN, 0 },
	};
	int ret;

	for (;;) {
		ret = vmf_message_push(message, sock, error);
		if (ret)
			return ret < 0 ? ret : 0;
		poll(fds, 2, vmf_clock_ms_until(deadline));
		if (fds[1].revents)
			return vmf_error_set(error, -ECANCELED, "cancelled");
		if (!fds[0].revents && vmf_clock_ns() >= deadline)
			return vmf_error_set(error, -ETIMEDOUT,
					     "sending %s: %s",
					     vmf_message_name(message->type),
					     strerror(ETIMEDOUT));
	}
}

int vmf_message_send(struct vmf_message *message, int sock, int cancel_fd,
		     uint32_t timeout, struct vmf_error *error)
{
	vmf_message_finish(message);
	return vmf_message_drain(message, sock, cancel_fd, timeout, error);
}

static int check_header(struct vmf_message *message, struct vmf_error *error)
{
	const struct message_type *type;
	uint16_t reserved;
	uint32_t magic;

	message->at = 0;
	message->bad = false;
	message->length = 0;
	magic = vmf_message_get_u32(message);
	message->type = vmf_message_get_u16(message);
	reserved = vmf_message_get_u16(message);
	message->length = vmf_message_get_u32(message);

	if (magic != VMF_MESSAGE_MAGIC)
		return vmf_error_set(error, -EPROTO,
				     "message magic 0x%08x, expected 0x%08x",
				     magic, VMF_MESSAGE_MAGIC);
	type = find_type(message->type);
	if (!type)
		return vmf_error_set(error, -EPROTO,
				     "message of unknown type %u",
				     message->type);
	if (reserved)
		return vmf_error_set(error, -EPROTO,
				     "message %s has %u in a reserved field",
				     type->name, reserved);
	if (message->length < type->min || message->length > type->max)
		return vmf_error_set(error, -EPROTO,
				     "message %s of %u bytes, expected %u to %u",
				     type->name, message->length, type->min,
				     type->max);
	return 0;
}

int vmf_message_recv(struct vmf_message *message, int sock,
		     struct vmf_error *error)
{
	uint32_t end = VMF_MESSAGE_HEADER;
	ssize_t got;
	int ret;

	if (message->have >= VMF_MESSAGE_HEADER)
		end += message->length;

	while (message->have < end) {
		got = recv(sock, message->bytes + message->have,
			   end - message->have, MSG_DONTWAIT);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return 0;
		if (got < 0)
			return vmf_error_set(error, -errno,
					     "main channel: %s",
					     strerror(errno));
		if (!got)
			return vmf_error_set(error, -EPIPE,
					     "the peer closed the main channel%s",
					     message->have ?
					     " in the middle of a message" :
					     "");

		message->have += got;
		if (message->have == VMF_MESSAGE_HEADER) {
			ret = check_header(message, error);
			if (ret)
				return ret;
			end += message->length;
		}
	}

	message->have = 0;
	return 1;
}

void vmf_message_get(struct vmf_message *message, void *data, size_t size)
{
	if (size > VMF_MESSAGE_HEADER + message->length - message->at) {
		message->bad = true;
		memset(data, 0, size);
		return;
	}
	memcpy(data, message->bytes + message->at, size);
	message->at += size;
}

uint16_t vmf_message_get_u16(struct vmf_message *message)
{
	uint16_t value;

	vmf_message_get(message, &value, sizeof(value));
	return be16toh(value);
}

uint32_t vmf_message_get_u32(struct vmf_message *message)
{
	uint32_t value;

	vmf_message_get(message, &value, sizeof(value));
	return be32toh(value);
}

uint64_t vmf_message_get_u64(struct vmf_message *message)
{
	uint64_t value;

	vmf_message_get(message, &value, sizeof(value));
	return be64toh(value);
}

void vmf_message_get_text(struct vmf_message *message,
			  char text[static VMF_TEXT_SIZE])
{
	size_t size = VMF_MESSAGE_HEADER + message->length - message->at;

	if (size >= VMF_TEXT_SIZE) {
		message->bad = true;
		size = 0;
	}
	vmf_message_get(message, text, size);
	text[size] = '\0';
	vmf_error_clean(text);
}

int vmf_message_end(const struct vmf_message *message, struct vmf_error *error)
{
	if (message->bad ||
	    message->at != VMF_MESSAGE_HEADER + message->length)
		return vmf_error_set(error, -EPROTO,
				     "message %s does not have the size that its content needs",
				     vmf_message_name(message->type));
	return 0;
}

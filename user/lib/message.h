/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The main channel's messages: every number and every limit of the protocol
 * between two ends.  Documentation/commit-protocol.rst says who sends what when.
 */
#ifndef VMF_MESSAGE_H
#define VMF_MESSAGE_H

#include <vfio-multifd.h>

#define VMF_MESSAGE_MAGIC	0x564d4644	/* "VMFD" */
#define VMF_MESSAGE_VERSION	1		/* of the protocol */

/* First on the wire, each integer big-endian, no padding anywhere. */
enum vmf_message_layout {
	VMF_MESSAGE_HEADER	= 12,	/* be32 magic, be16 type, be16 0, be32 length */
	VMF_MESSAGE_HELLO_HEAD	= 40,
	VMF_MESSAGE_HELLO_DEVICE = 352,
	VMF_MESSAGE_SENT_DEVICE	= 16,
	VMF_MESSAGE_PROBE	= 16384,
	VMF_MESSAGE_ROUND_HEAD	= 8,
	VMF_MESSAGE_ROUND_DEVICE = 8,
	VMF_MESSAGE_ACK_HEAD	= 16,
	VMF_MESSAGE_ACK_DEVICE	= 4,
	VMF_MESSAGE_SECTION_HEAD = 24,	/* with the size of the data */
	VMF_MESSAGE_MAX_HELLO	= VMF_MESSAGE_HELLO_HEAD +
		VFIO_MULTIFD_MAX_DEVICES * VMF_MESSAGE_HELLO_DEVICE,
	VMF_MESSAGE_MAX_BODY	= VMF_MESSAGE_SECTION_HEAD + 65536,
};

enum vmf_message_type {
	VMF_HELLO	= 1,
	VMF_HELLO_ACK	= 2,
	VMF_REFUSE	= 3,
	VMF_READY	= 4,
	VMF_STOPPING	= 5,
	VMF_SENT	= 6,
	VMF_LOADED	= 7,
	VMF_FAILED	= 8,
	VMF_COMMIT	= 9,
	VMF_COMMITTED	= 10,
	VMF_HEARTBEAT	= 11,
	VMF_ROUND	= 12,
	VMF_ROUND_ACK	= 13,
	VMF_PROBE	= 14,
	VMF_PROBE_END	= 15,
	VMF_PROBE_ACK	= 16,
	VMF_SECTION	= 17,
	VMF_LOST_CHANNEL = 18,
	VMF_ANEW	= 19,
};

/* What a record of a SECTION belongs to, as in QEMU's stream */
enum vmf_section_tag {
	VMF_SECTION_START	= 1,
	VMF_SECTION_PART	= 2,
	VMF_SECTION_END		= 3,
	VMF_SECTION_FULL	= 4,
};

/**
 * struct vmf_message - one message, being built, received or taken apart
 * @type: enum vmf_message_type
 * @length: bytes of body
 * @have: bytes of it that were received
 * @at: byte of it at which put and get stand
 * @bad: a put or get went beyond the end
 * @bytes: header and body as on the wire
 */
struct vmf_message {
	uint16_t type;
	uint32_t length;
	uint32_t have;
	uint32_t at;
	bool bad;
	uint8_t bytes[VMF_MESSAGE_HEADER + VMF_MESSAGE_MAX_BODY];
};

const char *vmf_message_name(uint16_t type);

void vmf_message_start(struct vmf_message *message, uint16_t type);
void vmf_message_put(struct vmf_message *message, const void *data,
		     size_t size);
void vmf_message_put_u16(struct vmf_message *message, uint16_t value);
void vmf_message_put_u32(struct vmf_message *message, uint32_t value);
void vmf_message_put_u64(struct vmf_message *message, uint64_t value);

/* Puts the header before the body: it can be sent now, @at bytes of it were. */
void vmf_message_finish(struct vmf_message *message);

/* Sends what goes without waiting; 1 when that was the rest of it, 0 if not. */
int vmf_message_push(struct vmf_message *message, int sock,
		     struct vmf_error *error);

/*
 * Sends the rest of it.  Waits at most @timeout seconds for a peer that stalls, or until
 * @cancel_fd, if that is not -1, becomes readable.
 */
int vmf_message_drain(struct vmf_message *message, int sock, int cancel_fd,
		      uint32_t timeout, struct vmf_error *error);

/* Sends it whole, as vmf_message_finish() and vmf_message_drain() do. */
int vmf_message_send(struct vmf_message *message, int sock, int cancel_fd,
		     uint32_t timeout, struct vmf_error *error);

/*
 * Takes what has come without waiting.  Returns 1 when @message is complete
 * and ready to be taken apart, 0 when more must come, -EPIPE at end of file.
 * Set all of @message to 0 before the first call; a complete one is followed
 * by the next.
 */
int vmf_message_recv(struct vmf_message *message, int sock,
		     struct vmf_error *error);

/* These give zeros beyond the end, and vmf_message_end() then fails. */
void vmf_message_get(struct vmf_message *message, void *data, size_t size);
uint16_t vmf_message_get_u16(struct vmf_message *message);
uint32_t vmf_message_get_u32(struct vmf_message *message);
uint64_t vmf_message_get_u64(struct vmf_message *message);

/* The rest of the body as text that is fit to be shown. */
void vmf_message_get_text(struct vmf_message *message,
			  char text[static VMF_TEXT_SIZE]);

/* 0 if exactly the whole body was taken. */
int vmf_message_end(const struct vmf_message *message,
		    struct vmf_error *error);

#endif /* VMF_MESSAGE_H */

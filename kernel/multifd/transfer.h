/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A transfer and what belongs to it.
 */
#ifndef _VMFD_TRANSFER_H
#define _VMFD_TRANSFER_H

#include <linux/bvec.h>
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/net.h>
#include <linux/sched/signal.h>
#include <linux/vfio_multifd.h>
#include <linux/wait.h>

#include "wire.h"

enum {
	VMFD_MAX_TRANSFERS = 128,	/* per user */
	VMFD_SEND_TURNS = 8,		/* packets of a sending channel's buffer */
	VMFD_DONE = 1,			/* no error, and no more work */
	VMFD_ASK = 2,			/* no error, and a question to user space */
	VMFD_LOST = 3,			/* no error, but no connection any more */
};

/* A file that a transfer uses, so that no other transfer takes it as well. */
struct vmfd_hold {
	struct list_head node;
	struct file *file;
};

/*
 * A packet's worth of own pages, and others for when these are with the socket: where
 * user space has them mapped packets take turns, elsewhere page by page.
 */
struct vmfd_buffer {
	struct page **pages;	/* whose turn it is */
	struct bio_vec *bvec;	/* these pages */
	unsigned int nr;
	u32 size;		/* bytes */
	unsigned int turns;
	unsigned int turn;	/* from 0 on */
	unsigned int passed;	/* the last turn but the first that it was */
	unsigned int held;	/* pages, of all turns */
};

/* A packet's data where it came to lie, with a reference to each page */
struct vmfd_gather {
	struct bio_vec *bvec;
	unsigned int nr;
	u64 pinned;		/* bytes of the socket's pages */
};

/*
 * A device is never removed from its transfer, so a pointer to it is good for
 * as long as the transfer is.  The transfer's lock protects what can change.
 */
struct vmfd_device {
	struct vmfd_hold hold;
	u8 idstr[VFIO_MULTIFD_IDSTR_SIZE];
	u32 instance_id;
	u32 index;
	loff_t pos;		/* owned by whoever reads or has the turn */
	bool records;		/* many may read or write the file at once */
	bool order_free;	/* ... and do, as packet 0 says */
	bool foreign;		/* user space reads or writes the file */
	bool pre_copy;		/* sent: nothing to read may be a pause */

	u32 next_idx;		/* sent: next to give, in order: next to load */
	u32 packets;		/* sent, or loaded */
	u32 active;		/* sent: taken and not yet on the socket */
	u32 readers;		/* sent: threads that read the file */
	bool paused;		/* sent: the file has no more for now */
	bool eof;		/* sent: the file has no more */
	bool config_taken;	/* the config state is on its way, or came */
	bool done;
	u64 began;		/* ns: when its first packet was; 0: not yet */
	u32 last_idx;		/* loaded: of the config state packet */
	u32 max_idx;		/* loaded: highest that came so far */
	struct xarray seen;	/* loaded: every idx that came, a bit each */
	u64 bytes;
	u64 wake_packets;	/* poll() tells of so many; 0: of none */

	void *config;		/* NULL: not set, or not here yet */
	u32 config_size;
};

/* A packet that may have to be sent again. */
struct vmfd_kept {
	struct list_head node;	/* vmfd_channel's kept, oldest first */
	u64 number;		/* among the channel's packets, from 0 on */
	u64 end;		/* the on_wire of vmfd_channel then */
	struct vmfd_device *dev;
	u32 len;
	bool is_config;
	struct vmfd_wire_packet packet;
	unsigned int nr_pages;	/* we have a reference to each */
	struct bio_vec bvec[];
};

enum vmfd_phase {
	VMFD_PHASE_INIT,	/* the channel's first bytes */
	VMFD_PHASE_AGAIN,	/* sending: the header of what was lost */
	VMFD_PHASE_AGAIN_DATA,
	VMFD_PHASE_TAKE,	/* sending: find work */
	VMFD_PHASE_READ,	/* sending: have user space read */
	VMFD_PHASE_KIND,	/* receiving: the first bytes of a packet */
	VMFD_PHASE_HEADER,	/* (the rest of) the header */
	VMFD_PHASE_CLAIM,	/* receiving: find the device, note the idx */
	VMFD_PHASE_DATA,
	VMFD_PHASE_LOAD,	/* receiving: wait for the turn, write the file */
	VMFD_PHASE_RAM,		/* receiving: the header of a packet of RAM */
	VMFD_PHASE_SKIP,	/* receiving: the rest of such a packet */
};

/* What a channel's time goes into */
enum vmfd_doing {
	VMFD_DOING_WAIT,
	VMFD_DOING_NETWORK,
	VMFD_DOING_DEVICE,
	VMFD_DOINGS,
};

/*
 * A channel is never removed from its transfer.  @running is the transfer
 * lock's; whoever has set it owns all that follows, and the socket's I/O.
 * That is where a thread that got a signal left off.
 */
struct vmfd_channel {
	struct vmfd_hold hold;
	struct vmfd_transfer *tr;
	struct socket *sock;
	u32 id;

	bool running;
	bool waiting;		/* for the turn of @packet; transfer's lock */
	bool lost;		/* without connection; transfer's lock */
	bool parked;		/* and nobody uses it; transfer's lock */
	u64 bytes;		/* done; transfer's lock */
	u64 packets;		/* done; transfer's lock */
	u64 ns[VMFD_DOINGS];	/* written by the owner, read by all */
	enum vmfd_doing doing;
	u64 since;		/* ns: when it began to do that */
	u64 memory;		/* bytes held at most; by the owner, read by all */

	enum vmfd_phase phase;
	size_t done;		/* bytes of this phase that are through */
	u64 began;		/* ns: when the packet was */
	struct vmfd_buffer buf;	/* receiving: mapped by user space */
	struct vmfd_gather gather; /* receiving: the packet's data */
	struct vmfd_buffer slot; /* sending: mapped by user space */
	struct vmfd_device *dev;
	bool sealed;		/* sending: the transfer was when it took @dev */
	enum vfio_multifd_ask ask; /* the open question */
	u32 questions;		/* so far, with this one */
	bool answered;		/* ... with @answer */
	s64 answer;
	u32 idx;
	u32 len;		/* bytes of data in the packet, or to skip */
	bool is_config;
	bool shut;		/* receiving: nothing new comes to the socket */
	u64 on_wire;		/* sending: bytes that its sockets have taken */
	struct list_head kept;	/* sending: what may have to be sent again */
	struct vmfd_kept *again; /* what is sent again */
	bool finish;		/* then the packet in hand is sent, too */
	void *config;		/* receiving: the config state until loaded */
	union {
		struct vmfd_wire_init init;
		struct vmfd_wire_packet packet;
		struct vmfd_wire_ram ram;
	};
};

/*
 * One open file.  The file holds the only reference: ioctls run with the file
 * held, so the transfer, its channels and its devices outlive each of them.
 */
struct vmfd_transfer {
	struct list_head node;	/* vmfd_transfer_list */
	u64 id;			/* tells transfers apart, for netlink */
	kuid_t uid;
	struct mm_struct *mm;	/* of the opener, only compared (mmgrab) */
	fl_owner_t owner;	/* file table of the opener, only compared */

	/* Set once by SETUP, constant from then on. */
	enum vfio_multifd_role role;
	u64 features;
	bool skip_ram;		/* receiving: drop packets of RAM */
	u32 nr_channels;
	u32 packet_size;
	u32 header_size;
	u8 uuid[VFIO_MULTIFD_UUID_SIZE];

	/* Protects all that follows, and what devices and channels say. */
	struct mutex lock;
	enum vfio_multifd_state state;
	struct vfio_multifd_status error;	/* the first one's fields */
	struct net *net;	/* of the first channel, which keeps it; or NULL */
	struct vmfd_channel *channels[VFIO_MULTIFD_MAX_CHANNELS];
	struct vmfd_device *devices[VFIO_MULTIFD_MAX_DEVICES];
	u32 nr_devices;
	u32 devices_done;
	u32 next_device;	/* where the search for work starts */
	u64 bytes;
	u64 packets;
	bool let_go;		/* of the sockets, after the end */
	bool cancelled;		/* nothing is sent again */
	u64 events;		/* changes that poll() tells of */
	u64 events_seen;

	wait_queue_head_t wait;	/* for changes */
	u64 changes;		/* counts them */
};

/* What a failure is about; what does not apply stays VFIO_MULTIFD_NO_INDEX. */
struct vmfd_error {
	int err;
	enum vfio_multifd_reason reason;
	u64 expected;
	u64 got;
};

/* Has a signal ended the call that returned @err? */
static inline bool vmfd_interrupted(ssize_t err)
{
	return signal_pending(current) &&
	       (err == -EINTR || err == -ERESTARTSYS || err == -ERESTARTNOINTR);
}

/* transfer.c */
extern struct mutex vmfd_transfer_list_lock;
extern struct list_head vmfd_transfer_list;
struct vmfd_transfer *vmfd_transfer_create(void);
void vmfd_transfer_destroy(struct vmfd_transfer *tr);
void vmfd_transfer_changed(struct vmfd_transfer *tr);
void vmfd_transfer_event(struct vmfd_transfer *tr);
void vmfd_transfer_set_state(struct vmfd_transfer *tr,
			     enum vfio_multifd_state state);
int vmfd_transfer_sleep(struct vmfd_transfer *tr);
int vmfd_transfer_over(struct vmfd_transfer *tr);
void vmfd_transfer_unlock(struct vmfd_transfer *tr);
int vmfd_transfer_fail(struct vmfd_transfer *tr, const struct vmfd_channel *ch,
		       const struct vmfd_error *error);
void vmfd_transfer_cancel(struct vmfd_transfer *tr);
void vmfd_transfer_begin(struct vmfd_channel *ch);
void vmfd_transfer_progress(struct vmfd_channel *ch);
void vmfd_transfer_check_paused(struct vmfd_transfer *tr,
				struct vmfd_device *dev);
void vmfd_transfer_device_done(struct vmfd_transfer *tr,
			       struct vmfd_device *dev);
void vmfd_transfer_finish(struct vmfd_transfer *tr);
int vmfd_hold_file(struct vmfd_hold *hold, struct file *file);
void vmfd_hold_swap(struct vmfd_hold *a, struct vmfd_hold *b);
void vmfd_hold_release(struct vmfd_hold *hold);

/* device.c */
int vmfd_device_add(struct vmfd_transfer *tr, struct vfio_multifd_device *arg);
void vmfd_device_destroy(struct vmfd_device *dev);
struct vmfd_device *vmfd_device_get(struct vmfd_transfer *tr, u32 index);
struct vmfd_device *vmfd_device_find(struct vmfd_transfer *tr, const u8 *idstr,
				     u32 instance_id);
int vmfd_device_set_config(struct vmfd_transfer *tr,
			   const struct vfio_multifd_config *arg);
int vmfd_device_get_config(struct vmfd_transfer *tr,
			   struct vfio_multifd_config *arg);
bool vmfd_device_can_order_free(const struct vmfd_transfer *tr,
				const struct vmfd_device *dev);
bool vmfd_device_is_order_free(const struct vmfd_buffer *buf, size_t len);
int vmfd_device_seen(struct vmfd_transfer *tr, struct vmfd_device *dev,
		     u32 idx);
void vmfd_device_unsee(struct vmfd_transfer *tr, struct vmfd_device *dev,
		       u32 idx);
ssize_t vmfd_device_read(struct vmfd_device *dev, struct vmfd_buffer *buf);
ssize_t vmfd_device_write(struct vmfd_device *dev,
			  const struct vmfd_gather *gather, size_t done,
			  size_t len);

/* buffer.c */
int vmfd_buffer_init(struct vmfd_buffer *buf, u32 size, unsigned int turns);
void vmfd_buffer_destroy(struct vmfd_buffer *buf);
struct page *vmfd_buffer_page(struct vmfd_buffer *buf, unsigned int i);
int vmfd_buffer_fill(struct vmfd_buffer *buf);
void vmfd_buffer_pass(struct vmfd_buffer *buf);
int vmfd_buffer_renew(struct vmfd_buffer *buf);
u64 vmfd_buffer_digest(const struct bio_vec *bvec, size_t len);

/* gather.c */
int vmfd_gather_init(struct vmfd_gather *gather, u32 size);
void vmfd_gather_drop(struct vmfd_gather *gather);
void vmfd_gather_destroy(struct vmfd_gather *gather);
int vmfd_gather_recv(struct vmfd_channel *ch);

/* kept.c */
int vmfd_kept_add(struct vmfd_channel *ch);
void vmfd_kept_trim(struct vmfd_channel *ch);
int vmfd_kept_drop(struct vmfd_channel *ch, u64 packets);
void vmfd_kept_data(struct vmfd_channel *ch, struct kvec *vec,
		    struct iov_iter *iter);
void vmfd_kept_next(struct vmfd_channel *ch);
void vmfd_kept_destroy(struct vmfd_channel *ch);

/* replace.c */
bool vmfd_replace_read_on(struct vmfd_channel *ch);
int vmfd_replace_lost(struct vmfd_channel *ch);
int vmfd_replace_wait(struct vmfd_channel *ch);
bool vmfd_replace_needed(const struct vmfd_channel *ch);
void vmfd_replace_end(struct vmfd_transfer *tr);
int vmfd_replace_channel(struct vmfd_transfer *tr,
			 const struct vfio_multifd_replace *arg);

/* channel.c */
int vmfd_channel_check(struct socket *sock);
int vmfd_channel_add(struct vmfd_transfer *tr,
		     const struct vfio_multifd_channel *arg);
void vmfd_channel_destroy(struct vmfd_channel *ch);
int vmfd_channel_run(struct vmfd_transfer *tr, struct vfio_multifd_run *arg);
u64 vmfd_channel_ns(const struct vmfd_channel *ch, enum vmfd_doing what);
void vmfd_channel_note_memory(struct vmfd_channel *ch);
void vmfd_channel_do(struct vmfd_channel *ch, enum vmfd_doing what);
int vmfd_channel_no_memory(struct vmfd_channel *ch);
int vmfd_channel_error(struct vmfd_channel *ch, int err);
int vmfd_channel_send(struct vmfd_channel *ch, struct iov_iter *iter, int flags);
int vmfd_channel_recv(struct vmfd_channel *ch, struct iov_iter *iter);
int vmfd_channel_send_bytes(struct vmfd_channel *ch, void *bytes, size_t len,
			    int flags);
int vmfd_channel_recv_bytes(struct vmfd_channel *ch, void *bytes, size_t len);

/* foreign.c */
int vmfd_foreign_map(struct vmfd_transfer *tr, struct vm_area_struct *vma);
int vmfd_foreign_hear(struct vmfd_channel *ch,
		      const struct vfio_multifd_run *arg);
void vmfd_foreign_tell(const struct vmfd_channel *ch,
		       struct vfio_multifd_run *arg);
bool vmfd_foreign_ask(struct vmfd_channel *ch, enum vfio_multifd_ask ask,
		      ssize_t *answer);
struct vmfd_buffer *vmfd_foreign_data(struct vmfd_channel *ch);

/* send.c, receive.c: the loops of RUN_CHANNEL */
int vmfd_send_run(struct vmfd_channel *ch);
int vmfd_receive_run(struct vmfd_channel *ch);

/* netlink.c */
int vmfd_netlink_init(void);
void vmfd_netlink_exit(void);
void vmfd_netlink_notify(const struct vmfd_transfer *tr);

/* ioctl.c */
extern const struct file_operations vmfd_ioctl_fops;

#endif /* _VMFD_TRANSFER_H */

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * qemu_vfio_pci: migration of PCI devices that QEMU emulates
 *
 * The way of the state at the source: backend (registers) and memory, save,
 * session (the data fd); at the destination the same backwards through load.
 *
 * Lock order, outermost first:
 *	carry_lock, cursor_lock		a session's; user memory is touched
 *	vfio_device_set.lock		the core's; open and close hold it
 *	state_lock			no user memory from here on
 *	write_gate			held for reading, user memory is touched
 *	vfio_pci_core_device.memory_lock
 *	pci_cfg_access_lock()		a reset holds it
 *	chunk_lock
 *	qvp_pass.lock			a spinlock
 * state_lock and the locks of a session are never held together.
 */
#ifndef _QVP_H
#define _QVP_H

#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/ratelimit.h>
#include <linux/rwsem.h>
#include <linux/vfio.h>
#include <linux/vfio_pci_core.h>
#include <linux/wait.h>
#include <vfio_record.h>

#define QVP_MAX_REGISTERS	16	/* of a backend */

struct qvp_device;

/**
 * struct qvp_backend - what the driver has to know of a kind of device
 * @memory_bar: BAR whose memory is state; it reads as it was written
 * @register_bar: BAR that holds the registers
 * @register_size: bytes that @register_bar has at least
 * @registers: number of values that @save gives and @load takes
 * @check: says why @pdev cannot be driven and returns -ENODEV, or 0
 * @clear: optional; makes a first user's device free of what others left
 * @save: reads the registers; leaves the device as it was
 * @load: writes the registers; refuses values before it writes any
 *
 * @clear, @save and @load run with memory_lock held for writing, the device
 * in D0 and decoding memory.
 */
struct qvp_backend {
	unsigned int memory_bar;
	unsigned int register_bar;
	unsigned int register_size;
	unsigned int registers;
	int (*check)(struct pci_dev *pdev);
	void (*clear)(struct qvp_device *q);
	void (*save)(struct qvp_device *q, u32 *values);
	int (*load)(struct qvp_device *q, const u32 *values);
};

extern const struct qvp_backend qvp_ivshmem_backend;
extern const struct qvp_backend qvp_bochs_backend;

/**
 * struct qvp_session - the life of a data fd, from one transition to another
 * @q: the device; the session holds a reference to it and to its pci_dev
 * @filp: the file; @q->session holds a reference to it, the session does not
 * @resets: what @q->resets was when the session began
 * @began: when that was, in ns
 * @first: when the first bytes came or went, in ns, or 0
 * @over: set, under memory_lock held for writing, when the session ends
 *
 * The file owns the structure.  It outlives the session, the opening of the
 * device and even the binding of the driver: who comes through the file
 * touches the device only between qvp_memory_begin() and qvp_memory_end().
 */
struct qvp_session {
	struct qvp_device *q;
	struct file *filp;
	int resets;
	u64 began;
	u64 first;
	bool over;
};

/**
 * struct qvp_pass - the pages that a stream has still to bring
 * @pages: number of pages of the memory
 * @lock: see below
 * @left: pages of this pass that no record has yet
 * @next: no page before this one is left
 * @dirty: pages that a user may have written to since the pass began; bits are
 *	set with memory_lock held, and cleared with it held for writing
 */
struct qvp_pass {
	unsigned long pages;
	/* Protects @left and @next against others who hold memory_lock */
	spinlock_t lock;
	unsigned long *left;
	unsigned long next;
	unsigned long *dirty;
};

/**
 * struct qvp_device - a device
 * @core: vfio-pci's part; first, because the driver data points to it
 * @backend: its kind
 * @memory: the memory BAR, mapped write-combining
 * @size: bytes of @memory
 * @registers: the register BAR
 * @claimed: pages of @memory that a load took which is not finished; bits are
 *	set by a chunk, and cleared with @chunk_lock held for writing
 * @chunk_lock: see below
 * @state_lock: see below
 * @state: the migration state
 * @session: the session of PRE_COPY, STOP_COPY or RESUMING, else NULL
 * @lost: a reset has ended a session, STOP or RUNNING_P2P, and the user was not told
 * @logging: the user wants to hear of DMA
 * @resets: grows when a reset begins and when it is over, odd between them,
 *	and when the device is lost
 * @failed: no reset has come since the device was lost; protected by
 *	@chunk_lock, as changes of @resets are
 * @resets_seen: what @resets was when @state and @session were last right
 * @resets_known: what @resets was after the user's last reset
 * @write_gate: see below
 * @frozen: users must not write to BARs; protected by memory_lock
 * @decoding: grows when memory decoding is turned on against the user's will and
 *	when it is put back, odd between them; changes with memory_lock held for writing
 * @tracked: where to mark the pages that a user may write to, or NULL; changes
 *	with @state_lock and memory_lock held for writing
 * @changed: wakes who waits for more of a stream
 * @load_errors: bounds what the device's streams can make the driver say
 */
struct qvp_device {
	struct vfio_pci_core_device core;
	const struct qvp_backend *backend;
	void *memory;
	u64 size;
	void __iomem *registers;
	unsigned long *claimed;
	/*
	 * Held for reading by each chunk of a stream; held for writing, no
	 * chunk is under way.  A reset that comes through sysfs needs it: that
	 * one does not take memory_lock, all others do.
	 */
	struct rw_semaphore chunk_lock;
	/* Protects @state, @session, @lost, @logging and @resets_seen */
	struct mutex state_lock;
	enum vfio_device_mig_state state;
	struct qvp_session *session;
	bool lost;
	bool logging;
	atomic_t resets;
	bool failed;
	int resets_seen;
	int resets_known;
	/* Held for reading by write() to a BAR: @frozen is set without any */
	struct rw_semaphore write_gate;
	bool frozen;
	unsigned int decoding;
	struct qvp_pass *tracked;
	wait_queue_head_t changed;
	struct ratelimit_state load_errors;
};

static inline struct qvp_device *qvp_from_vfio(struct vfio_device *vdev)
{
	return container_of(vdev, struct qvp_device, core.vdev);
}

/* Lasts with chunk_lock held. */
static inline bool qvp_reset_running(struct qvp_device *q)
{
	return atomic_read(&q->resets) & 1;
}

/* A reset takes effect at once, its bookkeeping waits for state_lock. */
static inline bool qvp_reset_pending(struct qvp_device *q)
{
	return atomic_read(&q->resets) != READ_ONCE(q->resets_seen);
}

static inline bool qvp_memory_forced(unsigned int decoding)
{
	return decoding & 1;
}

extern const struct vfio_log_ops qvp_log_ops;

extern const struct vfio_migration_ops qvp_migrate_ops;
void qvp_migrate_start_over(struct qvp_device *q);
void qvp_migrate_reset_prepare(struct qvp_device *q);
void qvp_migrate_reset_done(struct qvp_device *q);
void qvp_migrate_lost(struct qvp_device *q);
void qvp_migrate_reset_known(struct qvp_device *q);
int qvp_migrate_in_precopy(struct qvp_session *s);

struct file *qvp_session_begin(struct qvp_device *q, struct qvp_session *s,
			       const struct file_operations *fops, int flags);
bool qvp_session_over(struct qvp_session *s);
void qvp_session_touch(struct qvp_session *s);
void qvp_session_end(struct qvp_device *q);
void qvp_session_release(struct qvp_session *s);

struct file *qvp_save_start(struct qvp_device *q, bool precopy);
int qvp_save_stop(struct qvp_device *q);
u64 qvp_save_size(struct qvp_device *q);

struct file *qvp_load_start(struct qvp_device *q);
int qvp_load_finish(struct qvp_device *q);

#define QVP_RECORD_HEADER_SIZE	struct_size_t(struct vfio_record_header, \
					      region, 1)
void qvp_record_header(struct qvp_device *q, struct vfio_record_header *h);
u64 qvp_record_payload(const struct vfio_record *rec);
u64 qvp_record_digest(const struct vfio_record *rec, const void *payload);

int qvp_access_mmap(struct vfio_device *vdev, struct vm_area_struct *vma);
ssize_t qvp_access_read(struct vfio_device *vdev, char __user *buf,
			size_t count, loff_t *ppos);
ssize_t qvp_access_write(struct vfio_device *vdev, const char __user *buf,
			 size_t count, loff_t *ppos);
long qvp_access_ioctl(struct vfio_device *vdev, unsigned int cmd,
		      unsigned long arg);
void qvp_access_freeze(struct qvp_device *q);
void qvp_access_thaw(struct qvp_device *q);
void qvp_access_zap(struct qvp_device *q);

int qvp_pass_init(struct qvp_pass *pass, unsigned long pages);
void qvp_pass_free(struct qvp_pass *pass);
unsigned long qvp_pass_claim(struct qvp_pass *pass, unsigned long most,
			     unsigned long *first);
bool qvp_pass_next(struct qvp_device *q, struct qvp_pass *pass);
u64 qvp_pass_left(const struct qvp_pass *pass);
u64 qvp_pass_dirty(const struct qvp_pass *pass);
void qvp_pass_track(struct qvp_device *q, struct qvp_pass *pass);
void qvp_pass_mark(struct qvp_device *q, unsigned long first,
		   unsigned long count);

int qvp_memory_map(struct qvp_device *q, struct pci_dev *pdev);
void qvp_memory_unmap(struct qvp_device *q);
int qvp_memory_enable(struct qvp_device *q);
void qvp_memory_restore(struct qvp_device *q);
int qvp_memory_begin(struct qvp_session *s);
void qvp_memory_end(struct qvp_session *s);
void qvp_memory_release(struct qvp_session *s);
void qvp_memory_zero(struct qvp_device *q, u64 offset, u64 len);
void qvp_memory_wipe(struct qvp_device *q);

#endif /* _QVP_H */

// SPDX-License-Identifier: GPL-2.0-only
/*
 * A transfer: its life, its errors, and who holds which file.
 */

#include <linux/cred.h>
#include <linux/file.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <net/sock.h>

#include "trace.h"

/*
 * Protects the lists of all transfers and of all files that they use.  A
 * transfer's own lock is taken inside.
 */
DEFINE_MUTEX(vmfd_transfer_list_lock);
LIST_HEAD(vmfd_transfer_list);
static u64 last_id;
static LIST_HEAD(vmfd_hold_list);

/**
 * vmfd_hold_file - note that a transfer uses a file
 * @hold: takes over the caller's reference to @file, on success
 * @file: a socket or a migration data fd
 *
 * Return: 0, or -EBUSY when a transfer uses @file already.  May sleep.
 */
int vmfd_hold_file(struct vmfd_hold *hold, struct file *file)
{
	struct vmfd_hold *other;
	int ret = 0;

	mutex_lock(&vmfd_transfer_list_lock);
	list_for_each_entry(other, &vmfd_hold_list, node) {
		if (other->file == file) {
			ret = -EBUSY;
			break;
		}
	}
	if (!ret) {
		hold->file = file;
		list_add(&hold->node, &vmfd_hold_list);
	}
	mutex_unlock(&vmfd_transfer_list_lock);
	return ret;
}

/**
 * vmfd_hold_swap - have two exchange their files
 * @a: what vmfd_hold_file() filled
 * @b: another
 *
 * Context: the list's lock is held.
 */
void vmfd_hold_swap(struct vmfd_hold *a, struct vmfd_hold *b)
{
	lockdep_assert_held(&vmfd_transfer_list_lock);
	swap(a->file, b->file);
}

/**
 * vmfd_hold_release - give a file back
 * @hold: what vmfd_hold_file() filled
 */
void vmfd_hold_release(struct vmfd_hold *hold)
{
	mutex_lock(&vmfd_transfer_list_lock);
	list_del(&hold->node);
	mutex_unlock(&vmfd_transfer_list_lock);
	fput(hold->file);
}

/**
 * vmfd_transfer_create - make a transfer for the calling process
 *
 * Return: the transfer, -EUSERS when the user has too many, or -ENOMEM.
 */
struct vmfd_transfer *vmfd_transfer_create(void)
{
	struct vmfd_transfer *tr, *other;
	unsigned int count = 0;

	tr = kzalloc(sizeof(*tr), GFP_KERNEL_ACCOUNT);
	if (!tr)
		return ERR_PTR(-ENOMEM);

	mutex_init(&tr->lock);
	init_waitqueue_head(&tr->wait);
	tr->uid = current_uid();
	tr->owner = current->files;

	mutex_lock(&vmfd_transfer_list_lock);
	list_for_each_entry(other, &vmfd_transfer_list, node)
		count += uid_eq(other->uid, tr->uid);
	if (count < VMFD_MAX_TRANSFERS) {
		tr->id = ++last_id;
		list_add_tail(&tr->node, &vmfd_transfer_list);
	}
	mutex_unlock(&vmfd_transfer_list_lock);

	if (count >= VMFD_MAX_TRANSFERS) {
		kfree(tr);
		return ERR_PTR(-EUSERS);
	}

	tr->mm = current->mm;
	mmgrab(tr->mm);
	return tr;
}

/**
 * vmfd_transfer_destroy - give everything back
 * @tr: a transfer whose file has no user any more
 */
void vmfd_transfer_destroy(struct vmfd_transfer *tr)
{
	unsigned int i;

	mutex_lock(&vmfd_transfer_list_lock);
	list_del(&tr->node);
	mutex_unlock(&vmfd_transfer_list_lock);

	for (i = 0; i < tr->nr_channels; i++)
		if (tr->channels[i])
			vmfd_channel_destroy(tr->channels[i]);
	for (i = 0; i < tr->nr_devices; i++)
		vmfd_device_destroy(tr->devices[i]);
	mmdrop(tr->mm);
	kfree(tr);
}

/**
 * vmfd_transfer_changed - wake whoever waits for a change
 * @tr: the transfer, locked
 */
void vmfd_transfer_changed(struct vmfd_transfer *tr)
{
	lockdep_assert_held(&tr->lock);
	WRITE_ONCE(tr->changes, tr->changes + 1);
	wake_up_all(&tr->wait);
}

/**
 * vmfd_transfer_event - the same, for a change that poll() tells of as well
 * @tr: the transfer, locked
 */
void vmfd_transfer_event(struct vmfd_transfer *tr)
{
	WRITE_ONCE(tr->events, tr->events + 1);
	vmfd_transfer_changed(tr);
}

/**
 * vmfd_transfer_set_state - bring a transfer to another state
 * @tr: the transfer, locked
 * @state: that state
 */
void vmfd_transfer_set_state(struct vmfd_transfer *tr,
			     enum vfio_multifd_state state)
{
	lockdep_assert_held(&tr->lock);
	WRITE_ONCE(tr->state, state);
	trace_vmfd_state(tr);
	vmfd_netlink_notify(tr);
}

/**
 * vmfd_transfer_sleep - wait for a change
 * @tr: the transfer, locked; unlocked while asleep
 *
 * Return: 0, or -EINTR after a signal.
 */
int vmfd_transfer_sleep(struct vmfd_transfer *tr)
{
	u64 changes = tr->changes;
	int ret;

	lockdep_assert_held(&tr->lock);
	mutex_unlock(&tr->lock);
	ret = wait_event_interruptible(tr->wait,
				       READ_ONCE(tr->changes) != changes);
	mutex_lock(&tr->lock);
	return ret ? -EINTR : 0;
}

/**
 * vmfd_transfer_over - has the transfer ended?
 * @tr: the transfer, locked
 *
 * Return: 0 if not, its first error, or VMFD_DONE.
 */
int vmfd_transfer_over(struct vmfd_transfer *tr)
{
	lockdep_assert_held(&tr->lock);
	switch (tr->state) {
	case VFIO_MULTIFD_STATE_FAILED:
		return tr->error.error;
	case VFIO_MULTIFD_STATE_DONE:
		return VMFD_DONE;
	default:
		return 0;
	}
}

/* Wakes every thread in a socket call.  Sends FIN unless only reading ends. */
static void shut_down(struct vmfd_transfer *tr, enum sock_shutdown_cmd how)
{
	unsigned int i;

	for (i = 0; i < tr->nr_channels; i++)
		if (tr->channels[i])
			kernel_sock_shutdown(tr->channels[i]->sock, how);
}

/*
 * What is queued is worth nothing any more.  Without a reset at the last close
 * a peer that reads nothing would keep the queue, and its pages, for minutes.
 */
static void abandon(struct vmfd_transfer *tr)
{
	unsigned int i;

	for (i = 0; i < tr->nr_channels; i++)
		if (tr->channels[i])
			sock_no_linger(tr->channels[i]->sock->sk);
	shut_down(tr, SHUT_RDWR);
}

/**
 * vmfd_transfer_unlock - unlock, and if the transfer has just ended let go of
 *	its sockets
 * @tr: the transfer, locked
 *
 * That waits for whoever else uses such a socket, and so must be done without
 * the lock.  No channel comes after the end.  A source that is DONE leaves its
 * sockets alone: they still have to deliver.  At the destination ending the
 * reading side wakes the threads that wait for a next packet.
 */
void vmfd_transfer_unlock(struct vmfd_transfer *tr)
{
	bool let_go = vmfd_transfer_over(tr) && !tr->let_go;

	tr->let_go |= let_go;
	mutex_unlock(&tr->lock);
	if (!let_go)
		return;
	if (tr->state == VFIO_MULTIFD_STATE_FAILED)
		abandon(tr);
	else if (tr->role == VFIO_MULTIFD_RECV)
		shut_down(tr, SHUT_RD);
}

static void fail(struct vmfd_transfer *tr, const struct vmfd_channel *ch,
		 const struct vmfd_error *error)
{
	lockdep_assert_held(&tr->lock);
	tr->error = (struct vfio_multifd_status) {
		/*
		 * Errnos of the kernel's own, such as -ERESTARTSYS, stay here,
		 * and so does the one that asks to call again.
		 */
		.error = error->err <= -512 || error->err == -EINTR ?
			 -EIO : error->err,
		.reason = error->reason,
		.device = VFIO_MULTIFD_NO_INDEX,
		.channel = ch ? ch->id : VFIO_MULTIFD_NO_INDEX,
		.idx = VFIO_MULTIFD_NO_INDEX,
		.expected = error->expected,
		.got = error->got,
	};
	if (ch && ch->dev) {
		tr->error.device = ch->dev->index;
		tr->error.idx = ch->idx;
	}
	vmfd_transfer_set_state(tr, VFIO_MULTIFD_STATE_FAILED);
	vmfd_transfer_event(tr);
}

/**
 * vmfd_transfer_fail - end a transfer with an error; the first one stays
 * @tr: the transfer, not locked
 * @ch: the channel whose work met the error, or NULL
 * @error: what to tell
 *
 * Return: what vmfd_transfer_over() says now, which is never 0.
 */
int vmfd_transfer_fail(struct vmfd_transfer *tr, const struct vmfd_channel *ch,
		       const struct vmfd_error *error)
{
	int ret;

	mutex_lock(&tr->lock);
	if (!vmfd_transfer_over(tr))
		fail(tr, ch, error);
	ret = vmfd_transfer_over(tr);
	vmfd_transfer_unlock(tr);
	return ret;
}

/**
 * vmfd_transfer_cancel - end a transfer because its owner wants that
 * @tr: the transfer, not locked
 */
void vmfd_transfer_cancel(struct vmfd_transfer *tr)
{
	static const struct vmfd_error error = {
		.err = -ECANCELED,
		.reason = VFIO_MULTIFD_REASON_CANCELLED,
	};

	mutex_lock(&tr->lock);
	tr->cancelled = true;
	if (!vmfd_transfer_over(tr))
		fail(tr, NULL, &error);
	vmfd_transfer_unlock(tr);
	vmfd_replace_end(tr);
}

/**
 * vmfd_transfer_begin - begin a packet: its time counts from now
 * @ch: the channel, its transfer locked
 */
void vmfd_transfer_begin(struct vmfd_channel *ch)
{
	lockdep_assert_held(&ch->tr->lock);
	ch->began = ktime_get_ns();
	if (!ch->dev->began)
		ch->dev->began = ch->began;
}

/**
 * vmfd_transfer_progress - count a packet that is sent, or loaded
 * @ch: the packet's channel, its transfer locked
 */
void vmfd_transfer_progress(struct vmfd_channel *ch)
{
	/* of data; the config state does not count */
	u32 bytes = ch->is_config ? 0 : ch->len;

	lockdep_assert_held(&ch->tr->lock);
	trace_vmfd_packet(ch);
	ch->packets++;
	ch->bytes += bytes;
	ch->dev->packets++;
	ch->dev->bytes += bytes;
	ch->tr->packets++;
	ch->tr->bytes += bytes;
	if (ch->dev->packets == ch->dev->wake_packets)
		vmfd_transfer_event(ch->tr);
	vmfd_transfer_check_paused(ch->tr, ch->dev);
}

/**
 * vmfd_transfer_check_paused - tell of a device of which all is sent for now
 * @tr: the transfer, locked
 * @dev: the device, of which something was read or sent
 */
void vmfd_transfer_check_paused(struct vmfd_transfer *tr,
				struct vmfd_device *dev)
{
	lockdep_assert_held(&tr->lock);
	if (dev->paused && !dev->readers && !dev->active)
		vmfd_transfer_event(tr);
}

/**
 * vmfd_transfer_device_done - end a device, and the transfer if it was the last
 * @tr: the transfer, locked; vmfd_transfer_unlock() completes it
 * @dev: the device, all of which is sent, or loaded
 */
void vmfd_transfer_device_done(struct vmfd_transfer *tr,
			       struct vmfd_device *dev)
{
	lockdep_assert_held(&tr->lock);
	dev->done = true;
	tr->devices_done++;
	trace_vmfd_device(tr, dev);
	vmfd_transfer_finish(tr);
}

/**
 * vmfd_transfer_finish - end the transfer if all its devices are done
 * @tr: the transfer, locked; vmfd_transfer_unlock() completes it
 */
void vmfd_transfer_finish(struct vmfd_transfer *tr)
{
	lockdep_assert_held(&tr->lock);
	if (tr->state == VFIO_MULTIFD_STATE_SEALED &&
	    tr->devices_done == tr->nr_devices)
		vmfd_transfer_set_state(tr, VFIO_MULTIFD_STATE_DONE);
	vmfd_transfer_event(tr);
}

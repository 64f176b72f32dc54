// SPDX-License-Identifier: GPL-2.0-only
/*
 * The calls of /dev/vfio-multifd: arguments are checked here, work is done
 * elsewhere.  Which call is legal when stands in the uapi header.
 */

#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/sched.h>
#include <linux/uaccess.h>

#include "transfer.h"

#define MAX_ARGSZ	4096

/*
 * Every argument starts with argsz and flags.  What user space knows more than
 * we do must be zero.
 */
static int get_arg_with(void *arg, size_t size, void __user *user, u32 flags)
{
	u32 argsz;
	int ret;

	if (get_user(argsz, (u32 __user *)user))
		return -EFAULT;
	if (argsz < size)
		return -EINVAL;
	if (argsz > MAX_ARGSZ)
		return -E2BIG;
	ret = copy_struct_from_user(arg, size, user, argsz);
	if (ret)
		return ret;
	return ((u32 *)arg)[1] & ~flags ? -EINVAL : 0;
}

static int get_arg(void *arg, size_t size, void __user *user)
{
	return get_arg_with(arg, size, user, 0);
}

static int put_arg(void *arg, size_t size, void __user *user)
{
	*(u32 *)arg = size;
	return copy_to_user(user, arg, size) ? -EFAULT : 0;
}

#define ALL_FEATURES	(VFIO_MULTIFD_FEATURE_DIGEST | \
			 VFIO_MULTIFD_FEATURE_ORDER_FREE | \
			 VFIO_MULTIFD_FEATURE_REPLACE)

static int get_info(struct vmfd_transfer *tr, void __user *user)
{
	struct vfio_multifd_info info;
	int ret = get_arg(&info, sizeof(info), user);

	if (ret)
		return ret;
	info = (struct vfio_multifd_info) {
		.version = VFIO_MULTIFD_API_VERSION,
		.max_channels = VFIO_MULTIFD_MAX_CHANNELS,
		.features = ALL_FEATURES,
		.max_devices = VFIO_MULTIFD_MAX_DEVICES,
		.max_config = VFIO_MULTIFD_MAX_CONFIG,
		.min_packet = VFIO_MULTIFD_MIN_PACKET,
		.max_packet = VFIO_MULTIFD_MAX_PACKET,
	};
	return put_arg(&info, sizeof(info), user);
}

static int check_setup(const struct vfio_multifd_setup *setup)
{
	if (setup->role != VFIO_MULTIFD_SEND &&
	    setup->role != VFIO_MULTIFD_RECV)
		return -EINVAL;
	if (!setup->channels || setup->channels > VFIO_MULTIFD_MAX_CHANNELS)
		return -EINVAL;
	if (setup->packet_size < VFIO_MULTIFD_MIN_PACKET ||
	    setup->packet_size > VFIO_MULTIFD_MAX_PACKET ||
	    setup->packet_size % VFIO_MULTIFD_MIN_PACKET)
		return -EINVAL;
	/* A record of a page must fit, with its header. */
	if (setup->features & VFIO_MULTIFD_FEATURE_ORDER_FREE &&
	    setup->packet_size < 2 * VFIO_MULTIFD_MIN_PACKET)
		return -EINVAL;
	if (setup->reserved)
		return -EINVAL;
	if (setup->flags && setup->role != VFIO_MULTIFD_RECV)
		return -EINVAL;
	if (setup->features & ~(u64)ALL_FEATURES)
		return -EOPNOTSUPP;
	return 0;
}

static int set_up(struct vmfd_transfer *tr, void __user *user)
{
	struct vfio_multifd_setup setup;
	int ret;

	ret = get_arg_with(&setup, sizeof(setup), user,
			   VFIO_MULTIFD_SETUP_SKIP_RAM) ?: check_setup(&setup);
	if (ret)
		return ret;
	mutex_lock(&tr->lock);
	if (tr->state != VFIO_MULTIFD_STATE_NEW) {
		ret = -EBADFD;
	} else {
		tr->role = setup.role;
		tr->features = setup.features;
		tr->skip_ram = setup.flags & VFIO_MULTIFD_SETUP_SKIP_RAM;
		tr->nr_channels = setup.channels;
		tr->packet_size = setup.packet_size;
		tr->header_size = VMFD_WIRE_PLAIN_SIZE;
		if (setup.features & VFIO_MULTIFD_FEATURE_DIGEST)
			tr->header_size = sizeof(struct vmfd_wire_packet);
		memcpy(tr->uuid, setup.uuid, sizeof(tr->uuid));
		vmfd_transfer_set_state(tr, VFIO_MULTIFD_STATE_READY);
		vmfd_transfer_event(tr);
	}
	mutex_unlock(&tr->lock);
	return ret;
}

/* The state can only move on from READY, so insert() looks at it again. */
static int need_ready(struct vmfd_transfer *tr)
{
	int ret;

	mutex_lock(&tr->lock);
	ret = tr->state == VFIO_MULTIFD_STATE_READY ? 0 : -EBADFD;
	mutex_unlock(&tr->lock);
	return ret;
}

static int add_channel(struct vmfd_transfer *tr, void __user *user)
{
	struct vfio_multifd_channel arg;

	return get_arg(&arg, sizeof(arg), user) ?: need_ready(tr) ?:
	       vmfd_channel_add(tr, &arg);
}

static int add_device(struct vmfd_transfer *tr, void __user *user)
{
	struct vfio_multifd_device arg;
	int ret = get_arg_with(&arg, sizeof(arg), user,
			       VFIO_MULTIFD_DEVICE_RECORDS |
			       VFIO_MULTIFD_DEVICE_FOREIGN |
			       VFIO_MULTIFD_DEVICE_PRE_COPY);

	if (!ret && arg.reserved)
		ret = -EINVAL;
	return ret ?: need_ready(tr) ?: vmfd_device_add(tr, &arg) ?:
	       put_arg(&arg, sizeof(arg), user);
}

static int run_channel(struct vmfd_transfer *tr, void __user *user)
{
	struct vfio_multifd_run arg;
	int ret, put;

	ret = get_arg(&arg, sizeof(arg), user);
	if (!ret && arg.reserved)
		ret = -EINVAL;
	if (ret)
		return ret;
	ret = vmfd_channel_run(tr, &arg);
	if (ret && ret != -EINTR)
		return ret;
	put = put_arg(&arg, sizeof(arg), user);
	return put ?: ret;
}

static int switch_over(struct vmfd_transfer *tr)
{
	unsigned int i;
	int ret = 0;

	mutex_lock(&tr->lock);
	if (tr->state != VFIO_MULTIFD_STATE_READY) {
		ret = -EBADFD;
	} else if (!tr->nr_devices) {
		ret = -EINVAL;
	} else {
		vmfd_transfer_set_state(tr, VFIO_MULTIFD_STATE_SEALED);
		for (i = 0; i < tr->nr_devices; i++)
			tr->devices[i]->paused = false;
		vmfd_transfer_finish(tr);
	}
	vmfd_transfer_unlock(tr);
	return ret;
}

static int read_on(struct vmfd_transfer *tr, void __user *user)
{
	struct vfio_multifd_continue arg;
	struct vmfd_device *dev;
	int ret = get_arg(&arg, sizeof(arg), user);

	if (!ret && arg.reserved)
		ret = -EINVAL;
	if (ret)
		return ret;
	mutex_lock(&tr->lock);
	dev = vmfd_device_get(tr, arg.device);
	if (tr->state != VFIO_MULTIFD_STATE_READY ||
	    tr->role != VFIO_MULTIFD_SEND) {
		ret = -EBADFD;
	} else if (!dev) {
		ret = -ENOENT;
	} else {
		dev->paused = false;
		vmfd_transfer_changed(tr);
	}
	mutex_unlock(&tr->lock);
	return ret;
}

static int set_config(struct vmfd_transfer *tr, void __user *user)
{
	struct vfio_multifd_config arg;

	return get_arg(&arg, sizeof(arg), user) ?:
	       vmfd_device_set_config(tr, &arg);
}

static int get_config(struct vmfd_transfer *tr, void __user *user)
{
	struct vfio_multifd_config arg;
	int ret = get_arg(&arg, sizeof(arg), user);

	if (ret)
		return ret;
	ret = vmfd_device_get_config(tr, &arg);
	if (ret && ret != -ENOSPC)
		return ret;
	return put_arg(&arg, sizeof(arg), user) ?: ret;
}

static int get_status(struct vmfd_transfer *tr, void __user *user)
{
	struct vfio_multifd_status status;
	int ret = get_arg(&status, sizeof(status), user);

	if (ret)
		return ret;
	mutex_lock(&tr->lock);
	status = tr->error;
	status.state = tr->state;
	if (tr->state != VFIO_MULTIFD_STATE_FAILED) {
		status.device = VFIO_MULTIFD_NO_INDEX;
		status.channel = VFIO_MULTIFD_NO_INDEX;
		status.idx = VFIO_MULTIFD_NO_INDEX;
	}
	status.bytes = tr->bytes;
	status.packets = tr->packets;
	status.devices = tr->nr_devices;
	status.devices_done = tr->devices_done;
	WRITE_ONCE(tr->events_seen, tr->events);
	mutex_unlock(&tr->lock);
	return put_arg(&status, sizeof(status), user);
}

static int get_device_status(struct vmfd_transfer *tr, void __user *user)
{
	struct vfio_multifd_device_status status;
	struct vmfd_device *dev;
	int ret = get_arg(&status, sizeof(status), user);

	if (!ret && status.reserved)
		ret = -EINVAL;
	if (ret)
		return ret;
	mutex_lock(&tr->lock);
	dev = vmfd_device_get(tr, status.device);
	if (tr->state == VFIO_MULTIFD_STATE_NEW) {
		ret = -EBADFD;
	} else if (!dev) {
		ret = -ENOENT;
	} else {
		status.done = dev->done;
		status.bytes = dev->bytes;
		status.packets = dev->packets;
		status.paused = dev->paused && !dev->readers && !dev->active;
		dev->wake_packets = status.wake_packets;
	}
	mutex_unlock(&tr->lock);
	return ret ?: put_arg(&status, sizeof(status), user);
}

static int get_channel_status(struct vmfd_transfer *tr, void __user *user)
{
	struct vfio_multifd_channel_status status;
	struct vmfd_channel *ch = NULL;
	int ret = get_arg(&status, sizeof(status), user);

	if (!ret && status.lost)
		ret = -EINVAL;
	if (ret)
		return ret;
	mutex_lock(&tr->lock);
	if (status.id < tr->nr_channels)
		ch = tr->channels[status.id];
	if (tr->state == VFIO_MULTIFD_STATE_NEW) {
		ret = -EBADFD;
	} else if (!ch) {
		ret = -ENOENT;
	} else {
		status.lost = vmfd_replace_needed(ch);
		status.bytes = ch->bytes;
		status.packets = ch->packets;
		status.network_ns = vmfd_channel_ns(ch, VMFD_DOING_NETWORK);
		status.device_ns = vmfd_channel_ns(ch, VMFD_DOING_DEVICE);
		status.wait_ns = vmfd_channel_ns(ch, VMFD_DOING_WAIT);
		status.memory = READ_ONCE(ch->memory);
	}
	mutex_unlock(&tr->lock);
	return ret ?: put_arg(&status, sizeof(status), user);
}

static int replace_channel(struct vmfd_transfer *tr, void __user *user)
{
	struct vfio_multifd_replace replace;
	int ret = get_arg(&replace, sizeof(replace), user);

	return ret ?: vmfd_replace_channel(tr, &replace);
}

static long vmfd_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct vmfd_transfer *tr = file->private_data;
	void __user *user = (void __user *)arg;

	/* A transfer is its opener's, whoever the file went to. */
	if (current->mm != tr->mm)
		return -EIO;

	switch (cmd) {
	case VFIO_MULTIFD_GET_INFO:
		return get_info(tr, user);
	case VFIO_MULTIFD_SETUP:
		return set_up(tr, user);
	case VFIO_MULTIFD_ADD_CHANNEL:
		return add_channel(tr, user);
	case VFIO_MULTIFD_ADD_DEVICE:
		return add_device(tr, user);
	case VFIO_MULTIFD_RUN_CHANNEL:
		return run_channel(tr, user);
	case VFIO_MULTIFD_SWITCHOVER:
		return arg ? -EINVAL : switch_over(tr);
	case VFIO_MULTIFD_SET_CONFIG:
		return set_config(tr, user);
	case VFIO_MULTIFD_GET_CONFIG:
		return get_config(tr, user);
	case VFIO_MULTIFD_STATUS:
		return get_status(tr, user);
	case VFIO_MULTIFD_DEVICE_STATUS:
		return get_device_status(tr, user);
	case VFIO_MULTIFD_CONTINUE:
		return read_on(tr, user);
	case VFIO_MULTIFD_CHANNEL_STATUS:
		return get_channel_status(tr, user);
	case VFIO_MULTIFD_REPLACE_CHANNEL:
		return replace_channel(tr, user);
	case VFIO_MULTIFD_CANCEL:
		if (arg)
			return -EINVAL;
		vmfd_transfer_cancel(tr);
		return 0;
	default:
		return -ENOTTY;
	}
}

static int vmfd_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct vmfd_transfer *tr = file->private_data;

	return current->mm == tr->mm ? vmfd_foreign_map(tr, vma) : -EIO;
}

static __poll_t vmfd_poll(struct file *file, poll_table *table)
{
	struct vmfd_transfer *tr = file->private_data;
	__poll_t mask = 0;

	poll_wait(file, &tr->wait, table);
	if (READ_ONCE(tr->events) != READ_ONCE(tr->events_seen))
		mask |= EPOLLIN | EPOLLRDNORM;
	if (READ_ONCE(tr->state) == VFIO_MULTIFD_STATE_FAILED)
		mask |= EPOLLERR;
	return mask;
}

static int vmfd_open(struct inode *inode, struct file *file)
{
	struct vmfd_transfer *tr = vmfd_transfer_create();

	if (IS_ERR(tr))
		return PTR_ERR(tr);
	file->private_data = tr;
	return nonseekable_open(inode, file);
}

/*
 * A thread in RUN_CHANNEL holds the file, so release() would not come while it
 * runs.  The opener's close, or its end, must end the transfer all the same;
 * its mm may be gone by then, its file table tells who it is.  What a source
 * that is DONE has in its sockets they deliver.
 */
static int vmfd_flush(struct file *file, fl_owner_t owner)
{
	struct vmfd_transfer *tr = file->private_data;

	if (owner == tr->owner)
		vmfd_transfer_cancel(tr);
	return 0;
}

static int vmfd_release(struct inode *inode, struct file *file)
{
	vmfd_transfer_destroy(file->private_data);
	return 0;
}

const struct file_operations vmfd_ioctl_fops = {
	.owner		= THIS_MODULE,
	.open		= vmfd_open,
	.flush		= vmfd_flush,
	.release	= vmfd_release,
	.poll		= vmfd_poll,
	.mmap		= vmfd_mmap,
	.unlocked_ioctl	= vmfd_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device of a transfer: its migration data fd and its config state.
 */

#include <linux/file.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/uio.h>

#include "transfer.h"
#include <vfio_record.h>

static int check_file(struct vmfd_transfer *tr, struct file *file, bool foreign)
{
	bool send = tr->role == VFIO_MULTIFD_SEND;
	bool can;

	/*
	 * A unix socket could hold the transfer's own file in its queue, and
	 * neither would ever go.  That file itself, and others that may hold
	 * it, cannot be read or written.
	 */
	if (S_ISSOCK(file_inode(file)->i_mode))
		return -EOPNOTSUPP;
	if (!(file->f_mode & (send ? FMODE_READ : FMODE_WRITE)))
		return -EBADF;
	if (foreign)
		can = file->f_mode & (send ? FMODE_CAN_READ : FMODE_CAN_WRITE);
	else
		can = send ? !!file->f_op->read_iter : !!file->f_op->write_iter;
	return can ? 0 : -EOPNOTSUPP;
}

static int insert(struct vmfd_transfer *tr, struct vmfd_device *dev)
{
	lockdep_assert_held(&tr->lock);
	if (tr->state != VFIO_MULTIFD_STATE_READY)
		return -EBADFD;
	if (vmfd_device_find(tr, dev->idstr, dev->instance_id))
		return -EEXIST;
	if (tr->nr_devices == VFIO_MULTIFD_MAX_DEVICES)
		return -ENOSPC;
	dev->index = tr->nr_devices;
	tr->devices[tr->nr_devices++] = dev;
	vmfd_transfer_changed(tr);
	return 0;
}

/**
 * vmfd_device_add - VFIO_MULTIFD_ADD_DEVICE
 * @tr: the transfer
 * @arg: checked for size, flags and reserved fields; @index is filled
 *
 * Return: 0 or an error, see &struct vfio_multifd_device.
 */
int vmfd_device_add(struct vmfd_transfer *tr, struct vfio_multifd_device *arg)
{
	struct vmfd_device *dev;
	struct file *file;
	int ret;

	if (!arg->idstr[0] || arg->idstr[VFIO_MULTIFD_IDSTR_SIZE - 1])
		return -EINVAL;
	if (arg->flags & VFIO_MULTIFD_DEVICE_PRE_COPY &&
	    tr->role != VFIO_MULTIFD_SEND)
		return -EINVAL;
	if (arg->flags & VFIO_MULTIFD_DEVICE_FOREIGN &&
	    !PAGE_ALIGNED(tr->packet_size))
		return -EINVAL;

	dev = kzalloc(sizeof(*dev), GFP_KERNEL_ACCOUNT);
	if (!dev)
		return -ENOMEM;
	xa_init_flags(&dev->seen, XA_FLAGS_ACCOUNT);
	dev->records = arg->flags & VFIO_MULTIFD_DEVICE_RECORDS;
	dev->foreign = arg->flags & VFIO_MULTIFD_DEVICE_FOREIGN;
	dev->pre_copy = arg->flags & VFIO_MULTIFD_DEVICE_PRE_COPY;
	dev->last_idx = VFIO_MULTIFD_NO_INDEX;
	dev->instance_id = arg->instance_id;
	/* strscpy_pad(): the name is sent with its padding. */
	strscpy_pad(dev->idstr, arg->idstr, sizeof(dev->idstr));

	ret = -EBADF;
	file = fget(arg->fd);
	if (!file)
		goto err_free;
	ret = check_file(tr, file, dev->foreign);
	if (!ret)
		ret = vmfd_hold_file(&dev->hold, file);
	if (ret)
		goto err_put;

	mutex_lock(&tr->lock);
	ret = insert(tr, dev);
	mutex_unlock(&tr->lock);
	if (ret)
		goto err_release;
	arg->index = dev->index;
	return 0;

err_release:
	vmfd_hold_release(&dev->hold);
	kfree(dev);
	return ret;
err_put:
	fput(file);
err_free:
	kfree(dev);
	return ret;
}

/**
 * vmfd_device_destroy - give a device's file and memory back
 * @dev: a device that no thread works on
 */
void vmfd_device_destroy(struct vmfd_device *dev)
{
	unsigned long *bits, i;

	vmfd_hold_release(&dev->hold);
	xa_for_each(&dev->seen, i, bits)
		free_page((unsigned long)bits);
	xa_destroy(&dev->seen);
	kvfree(dev->config);
	kfree(dev);
}

/**
 * vmfd_device_get - look a device up by its index
 * @tr: the transfer, locked
 * @index: from user space
 *
 * Return: the device or NULL.
 */
struct vmfd_device *vmfd_device_get(struct vmfd_transfer *tr, u32 index)
{
	lockdep_assert_held(&tr->lock);
	return index < tr->nr_devices ? tr->devices[index] : NULL;
}

/**
 * vmfd_device_find - look a device up by its name
 * @tr: the transfer, locked
 * @idstr: NUL-terminated
 * @instance_id: tells namesakes apart
 *
 * Return: the device or NULL.
 */
struct vmfd_device *vmfd_device_find(struct vmfd_transfer *tr, const u8 *idstr,
				     u32 instance_id)
{
	unsigned int i;

	lockdep_assert_held(&tr->lock);
	for (i = 0; i < tr->nr_devices; i++) {
		struct vmfd_device *dev = tr->devices[i];

		if (dev->instance_id == instance_id &&
		    !strcmp(dev->idstr, idstr))
			return dev;
	}
	return NULL;
}

/**
 * vmfd_device_set_config - VFIO_MULTIFD_SET_CONFIG
 * @tr: the transfer
 * @arg: checked for size and flags
 *
 * Return: 0 or an error, see &struct vfio_multifd_config.
 */
int vmfd_device_set_config(struct vmfd_transfer *tr,
			   const struct vfio_multifd_config *arg)
{
	struct vmfd_device *dev;
	void *config;
	int ret = 0;

	if (arg->size > VFIO_MULTIFD_MAX_CONFIG)
		return -E2BIG;
	/* One byte at least, so that NULL always means: not set. */
	config = kvmalloc(arg->size ?: 1, GFP_KERNEL_ACCOUNT);
	if (!config)
		return -ENOMEM;
	if (copy_from_user(config, u64_to_user_ptr(arg->data), arg->size)) {
		kvfree(config);
		return -EFAULT;
	}

	mutex_lock(&tr->lock);
	dev = vmfd_device_get(tr, arg->device);
	if (tr->role != VFIO_MULTIFD_SEND ||
	    (tr->state != VFIO_MULTIFD_STATE_READY &&
	     tr->state != VFIO_MULTIFD_STATE_SEALED)) {
		ret = -EBADFD;
	} else if (!dev) {
		ret = -ENOENT;
	} else if (dev->config) {
		ret = -EEXIST;
	} else {
		dev->config_size = arg->size;
		swap(dev->config, config);
		vmfd_transfer_changed(tr);
	}
	mutex_unlock(&tr->lock);
	kvfree(config);
	return ret;
}

/**
 * vmfd_device_get_config - VFIO_MULTIFD_GET_CONFIG
 * @tr: the transfer
 * @arg: checked for size and flags; @size is set to the config state's
 *
 * Return: 0 or an error, see &struct vfio_multifd_config.
 */
int vmfd_device_get_config(struct vmfd_transfer *tr,
			   struct vfio_multifd_config *arg)
{
	struct vmfd_device *dev;
	void *config = NULL;
	u32 room = arg->size;
	int ret = 0;

	mutex_lock(&tr->lock);
	dev = vmfd_device_get(tr, arg->device);
	if (tr->role != VFIO_MULTIFD_RECV)
		ret = -EBADFD;
	else if (!dev)
		ret = -ENOENT;
	else if (!dev->done)
		ret = tr->error.error ?: -EAGAIN;
	else
		config = dev->config;
	mutex_unlock(&tr->lock);
	if (ret)
		return ret;

	/* The config state of a device that is done changes no more. */
	arg->size = dev->config_size;
	if (room < dev->config_size)
		return -ENOSPC;
	if (copy_to_user(u64_to_user_ptr(arg->data), config, dev->config_size))
		return -EFAULT;
	return 0;
}

/**
 * vmfd_device_can_order_free - tell whether order need not matter at this end
 * @tr: the transfer
 * @dev: the device
 *
 * Only a file without a position can be read and written by many at once.  What
 * pre-copy sends again must not be overtaken.
 *
 * Return: whether it can, if the stream is one of records.
 */
bool vmfd_device_can_order_free(const struct vmfd_transfer *tr,
				const struct vmfd_device *dev)
{
	return tr->features & VFIO_MULTIFD_FEATURE_ORDER_FREE &&
	       dev->records && !dev->foreign && !dev->pre_copy &&
	       dev->hold.file->f_mode & FMODE_STREAM;
}

/**
 * vmfd_device_is_order_free - see what a stream's first packet says of it
 * @buf: the packet's data
 * @len: bytes in @buf
 *
 * Return: whether records may come in any order.
 */
bool vmfd_device_is_order_free(const struct vmfd_buffer *buf, size_t len)
{
	const struct vfio_record *first = page_address(buf->pages[0]);

	return len >= sizeof(*first) &&
	       first->tag == cpu_to_le32(VFIO_RECORD_MAGIC) &&
	       first->flags & cpu_to_le32(VFIO_RECORD_ORDER_FREE);
}

/**
 * vmfd_device_seen - note that a packet came
 * @tr: the transfer, locked
 * @dev: the device
 * @idx: the packet's, below VFIO_MULTIFD_MAX_PACKETS
 *
 * Return: 0, 1 if it came before, or -ENOMEM.
 */
int vmfd_device_seen(struct vmfd_transfer *tr, struct vmfd_device *dev, u32 idx)
{
	const unsigned int page_bits = PAGE_SIZE * BITS_PER_BYTE;
	unsigned long *bits = xa_load(&dev->seen, idx / page_bits);
	int ret;

	lockdep_assert_held(&tr->lock);
	if (!bits) {
		bits = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
		if (!bits)
			return -ENOMEM;
		ret = xa_err(xa_store(&dev->seen, idx / page_bits, bits,
				      GFP_KERNEL_ACCOUNT));
		if (ret) {
			free_page((unsigned long)bits);
			return ret;
		}
	}
	return __test_and_set_bit(idx % page_bits, bits);
}

/**
 * vmfd_device_unsee - note that a packet did not come after all
 * @tr: the transfer, locked
 * @dev: the device
 * @idx: the packet's, which was seen
 */
void vmfd_device_unsee(struct vmfd_transfer *tr, struct vmfd_device *dev,
		       u32 idx)
{
	const unsigned int page_bits = PAGE_SIZE * BITS_PER_BYTE;

	lockdep_assert_held(&tr->lock);
	__clear_bit(idx % page_bits, xa_load(&dev->seen, idx / page_bits));
}

static loff_t *position(struct vmfd_device *dev)
{
	return dev->hold.file->f_mode & FMODE_STREAM ? NULL : &dev->pos;
}

/**
 * vmfd_device_read - read a packet's worth of data from the file
 * @dev: the device
 * @buf: pages to fill
 *
 * Return: bytes, 0 at the end of the stream, or a negative errno.  Sleeps as
 * long as the file does.
 */
ssize_t vmfd_device_read(struct vmfd_device *dev, struct vmfd_buffer *buf)
{
	struct iov_iter iter;

	iov_iter_bvec(&iter, ITER_DEST, buf->bvec, buf->nr, buf->size);
	return vfs_iter_read(dev->hold.file, &iter, position(dev), 0);
}

/**
 * vmfd_device_write - write a packet's data to the file
 * @dev: the device
 * @gather: holds the data
 * @done: bytes that are written already
 * @len: bytes of data
 *
 * Return: bytes, or a negative errno.  Sleeps as long as the file does.
 */
ssize_t vmfd_device_write(struct vmfd_device *dev,
			  const struct vmfd_gather *gather, size_t done,
			  size_t len)
{
	struct iov_iter iter;

	iov_iter_bvec(&iter, ITER_SOURCE, gather->bvec, gather->nr, len);
	iov_iter_advance(&iter, done);
	return vfs_iter_write(dev->hold.file, &iter, position(dev), 0);
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * DMA logging: these devices do no DMA, and say so
 *
 * A VMM that hears nothing of it has to believe that a device writes to all of
 * the guest's memory all the time.
 */

#include <linux/log2.h>

#include "qvp.h"

static int log_start(struct vfio_device *vdev, struct rb_root_cached *ranges,
		     u32 nnodes, u64 *page_size)
{
	struct qvp_device *q = qvp_from_vfio(vdev);
	int ret;

	if (!is_power_of_2(*page_size))
		return -EINVAL;
	ret = mutex_lock_killable(&q->state_lock);
	if (ret)
		return ret;
	if (q->logging)
		ret = -EBUSY;
	q->logging = true;
	mutex_unlock(&q->state_lock);
	return ret;
}

static int log_stop(struct vfio_device *vdev)
{
	struct qvp_device *q = qvp_from_vfio(vdev);
	int ret = mutex_lock_killable(&q->state_lock);

	if (ret)
		return ret;
	q->logging = false;
	mutex_unlock(&q->state_lock);
	return 0;
}

/* The bitmap, which is the user's, is only ever added to. */
static int log_read_and_clear(struct vfio_device *vdev, unsigned long iova,
			      unsigned long length, struct iova_bitmap *dirty)
{
	struct qvp_device *q = qvp_from_vfio(vdev);
	int ret = mutex_lock_killable(&q->state_lock);

	if (ret)
		return ret;
	ret = q->logging ? 0 : -EINVAL;
	mutex_unlock(&q->state_lock);
	return ret;
}

const struct vfio_log_ops qvp_log_ops = {
	.log_start = log_start,
	.log_stop = log_stop,
	.log_read_and_clear = log_read_and_clear,
};

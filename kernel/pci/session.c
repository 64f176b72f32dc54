// SPDX-License-Identifier: GPL-2.0-only
/* Sessions: what a data fd's file holds, and when it ends */

#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/pm_runtime.h>

#include "trace.h"

/**
 * qvp_session_begin - make a session the device's, with its data fd
 * @q: the device, without a session
 * @s: the session; the file owns it on success
 * @fops: what the data fd does; release() calls qvp_session_release()
 * @flags: O_RDONLY or O_WRONLY
 *
 * Context: from an ioctl, which keeps the device resumed.  The session then
 * does: no user can send the device to low power until it ends.
 *
 * Return: the file with a reference for the user, or an error
 */
struct file *qvp_session_begin(struct qvp_device *q, struct qvp_session *s,
			       const struct file_operations *fops, int flags)
{
	struct pci_dev *pdev = q->core.pdev;
	struct file *filp;

	lockdep_assert_held(&q->state_lock);
	filp = anon_inode_getfile("[qemu-vfio-pci]", fops, s, flags);
	if (IS_ERR(filp))
		return filp;
	stream_open(file_inode(filp), filp);

	get_device(&q->core.vdev.device);
	pci_dev_get(pdev);
	pm_runtime_get_noresume(&pdev->dev);
	s->q = q;
	s->filp = filp;
	s->resets = q->resets_seen;
	s->began = ktime_get_ns();
	q->session = s;
	return get_file(filp);
}

/**
 * qvp_session_over - test whether a data fd has lost its device
 * @s: the session
 *
 * Only with chunk_lock held does a "no" last.
 *
 * Return: true if the session has ended
 */
bool qvp_session_over(struct qvp_session *s)
{
	return READ_ONCE(s->over) || s->resets & 1 ||
	       s->resets != atomic_read(&s->q->resets);
}

/**
 * qvp_session_touch - note that a reader or writer has come
 * @s: the session
 */
void qvp_session_touch(struct qvp_session *s)
{
	u64 now;

	if (READ_ONCE(s->first))
		return;
	now = ktime_get_ns();
	if (!cmpxchg64(&s->first, 0, now))
		trace_qvp_first_byte(s, now - s->began);
}

/**
 * qvp_session_end - take the device from its data fd, if it has one
 * @q: the device
 */
void qvp_session_end(struct qvp_device *q)
{
	struct qvp_session *s = q->session;

	lockdep_assert_held(&q->state_lock);
	if (!s)
		return;
	down_write(&q->core.memory_lock);
	WRITE_ONCE(s->over, true);
	qvp_pass_track(q, NULL);
	qvp_access_thaw(q);
	qvp_memory_restore(q);
	up_write(&q->core.memory_lock);

	q->session = NULL;
	wake_up_interruptible(&q->changed);
	pm_runtime_put(&q->core.pdev->dev);
	fput(s->filp);
}

/**
 * qvp_session_release - give back what a session holds for its file
 * @s: the session, which is over
 */
void qvp_session_release(struct qvp_session *s)
{
	pci_dev_put(s->q->core.pdev);
	put_device(&s->q->core.vdev.device);
}

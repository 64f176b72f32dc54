// SPDX-License-Identifier: GPL-2.0-only
/*
 * The migration state machine
 *
 * A reset is done with memory_lock held, which is inside state_lock, so it
 * cannot take state_lock itself.  It counts itself: that ends the session,
 * whose chunks look at the number, and lifts the freeze.  Whoever takes
 * state_lock next brings the books in line.  The loss of the device counts, too.
 */

#include <linux/file.h>

#include "trace.h"

static const char *const state_names[] = {
	[VFIO_DEVICE_STATE_ERROR]	= "ERROR",
	[VFIO_DEVICE_STATE_STOP]	= "STOP",
	[VFIO_DEVICE_STATE_RUNNING]	= "RUNNING",
	[VFIO_DEVICE_STATE_STOP_COPY]	= "STOP_COPY",
	[VFIO_DEVICE_STATE_RESUMING]	= "RESUMING",
	[VFIO_DEVICE_STATE_RUNNING_P2P]	= "RUNNING_P2P",
	[VFIO_DEVICE_STATE_PRE_COPY]	= "PRE_COPY",
	[VFIO_DEVICE_STATE_PRE_COPY_P2P] = "PRE_COPY_P2P",
};

static void set_state(struct qvp_device *q, enum vfio_device_mig_state state)
{
	lockdep_assert_held(&q->state_lock);
	pci_dbg(q->core.pdev, "migration state %s, was %s\n",
		state_names[state], state_names[q->state]);
	q->state = state;
}

static void catch_up(struct qvp_device *q)
{
	bool failed;
	int resets;

	lockdep_assert_held(&q->state_lock);
	down_read(&q->chunk_lock);
	resets = atomic_read(&q->resets);
	failed = q->failed;
	up_read(&q->chunk_lock);
	if (resets == READ_ONCE(q->resets_known))
		q->lost = false;
	else if (resets != q->resets_seen &&
		 (q->session || q->state == VFIO_DEVICE_STATE_STOP ||
		  q->state == VFIO_DEVICE_STATE_RUNNING_P2P))
		q->lost = true;
	if (resets == q->resets_seen)
		return;
	qvp_session_end(q);
	WRITE_ONCE(q->resets_seen, resets);
	set_state(q, failed ? VFIO_DEVICE_STATE_ERROR :
			      VFIO_DEVICE_STATE_RUNNING);
}

static void lock(struct qvp_device *q)
{
	mutex_lock(&q->state_lock);
	catch_up(q);
}

/* Who holds it may wait for write_gate, and so for a user's memory. */
static int lock_killable(struct qvp_device *q)
{
	int ret = mutex_lock_killable(&q->state_lock);

	if (!ret)
		catch_up(q);
	return ret;
}

static void unlock(struct qvp_device *q)
{
	mutex_unlock(&q->state_lock);
}

/**
 * qvp_migrate_reset_prepare - take note that a reset begins
 * @q: the device
 *
 * No chunk sees the device while it is reset.
 *
 * Context: the device is locked against remove().
 */
void qvp_migrate_reset_prepare(struct qvp_device *q)
{
	down_write(&q->chunk_lock);
	atomic_inc(&q->resets);
	up_write(&q->chunk_lock);
	wake_up_interruptible(&q->changed);
}

/**
 * qvp_migrate_reset_done - take note that a reset is over
 * @q: the device
 *
 * What an unfinished load left in the memory is gone when this returns, and so
 * before the user who asked for the reset can use the device again.
 *
 * Context: the device is locked against remove().
 */
void qvp_migrate_reset_done(struct qvp_device *q)
{
	down_write(&q->chunk_lock);
	qvp_memory_wipe(q);
	q->failed = false;
	atomic_inc(&q->resets);
	up_write(&q->chunk_lock);
}

/**
 * qvp_migrate_lost - take note that the device is lost
 * @q: the device
 *
 * Ends the session, in ERROR.  A reset is the way out, and wipes the memory.
 *
 * Context: the device is locked against remove().
 */
void qvp_migrate_lost(struct qvp_device *q)
{
	down_write(&q->chunk_lock);
	q->failed = true;
	atomic_add(2, &q->resets);
	up_write(&q->chunk_lock);
	wake_up_interruptible(&q->changed);
}

/**
 * qvp_migrate_reset_known - the user has reset the device, and knows
 * @q: the device
 *
 * Does not wait for state_lock, since who holds it may wait for the user: then the
 * session ends when it is taken next.
 */
void qvp_migrate_reset_known(struct qvp_device *q)
{
	WRITE_ONCE(q->resets_known, atomic_read(&q->resets));
	if (!mutex_trylock(&q->state_lock))
		return;
	catch_up(q);
	unlock(q);
}

/**
 * qvp_migrate_start_over - the device has its first user, or the last one goes
 * @q: the device
 *
 * Ends the session.  What an unfinished load left in the memory goes as well; a
 * reset that is under way sees to that itself.
 */
void qvp_migrate_start_over(struct qvp_device *q)
{
	lock(q);
	qvp_session_end(q);
	down_write(&q->core.memory_lock);
	down_write(&q->chunk_lock);
	if (!qvp_reset_running(q))
		qvp_memory_wipe(q);
	up_write(&q->chunk_lock);
	up_write(&q->core.memory_lock);
	q->lost = false;
	q->logging = false;
	set_state(q, VFIO_DEVICE_STATE_RUNNING);
	unlock(q);
}

static bool is_precopy(enum vfio_device_mig_state state)
{
	return state == VFIO_DEVICE_STATE_PRE_COPY ||
	       state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

static bool is_saving(enum vfio_device_mig_state state)
{
	return is_precopy(state) || state == VFIO_DEVICE_STATE_STOP_COPY;
}

/**
 * qvp_migrate_in_precopy - test whether a session can tell about PRE_COPY
 * @s: the session
 *
 * Return: 0 if it is the device's, and the device is in such a state, -EINVAL if
 * not, -EINTR
 */
int qvp_migrate_in_precopy(struct qvp_session *s)
{
	struct qvp_device *q = s->q;
	int ret;

	ret = lock_killable(q);
	if (ret)
		return ret;
	if (q->session != s || !is_precopy(q->state))
		ret = -EINVAL;
	unlock(q);
	return ret;
}

/* Goes to @next, or to ERROR, or stays.  Return: the data fd's file or NULL */
static struct file *go(struct qvp_device *q, enum vfio_device_mig_state next)
{
	enum vfio_device_mig_state cur = q->state;
	struct file *filp = NULL;
	int ret = 0;

	/*
	 * RUNNING -> PRE_COPY
	 * RUNNING_P2P -> PRE_COPY_P2P
	 * STOP -> STOP_COPY
	 * STOP -> RESUMING
	 */
	if (is_saving(next) && !is_saving(cur))
		filp = qvp_save_start(q, is_precopy(next));
	else if (next == VFIO_DEVICE_STATE_RESUMING)
		filp = qvp_load_start(q);
	if (IS_ERR(filp))
		return filp;

	/* PRE_COPY_P2P -> STOP_COPY */
	if (is_precopy(cur) && next == VFIO_DEVICE_STATE_STOP_COPY) {
		ret = qvp_save_stop(q);
		if (ret)
			return ERR_PTR(ret);
	}

	/*
	 * STOP_COPY -> STOP
	 * PRE_COPY -> RUNNING
	 * PRE_COPY_P2P -> RUNNING_P2P
	 * RESUMING -> STOP
	 */
	if (cur == VFIO_DEVICE_STATE_RESUMING)
		ret = qvp_load_finish(q);
	if (cur == VFIO_DEVICE_STATE_RESUMING ||
	    (is_saving(cur) && !is_saving(next)))
		qvp_session_end(q);

	/*
	 * RUNNING <-> RUNNING_P2P <-> STOP and PRE_COPY <-> PRE_COPY_P2P need
	 * nothing.  These devices do not do DMA, raise no interrupts and change
	 * nothing by themselves, and an access by the user in STOP is the
	 * user's mistake.
	 */
	set_state(q, ret ? VFIO_DEVICE_STATE_ERROR : next);
	return ret ? ERR_PTR(ret) : filp;
}

static struct file *step(struct qvp_device *q, enum vfio_device_mig_state next)
{
	enum vfio_device_mig_state cur = q->state;
	u64 began = ktime_get_ns();
	struct file *filp = go(q, next);

	trace_qvp_arc(q, cur, next, PTR_ERR_OR_ZERO(filp),
		      ktime_get_ns() - began);
	return filp;
}

static struct file *migration_set_state(struct vfio_device *vdev,
					enum vfio_device_mig_state state)
{
	struct qvp_device *q = qvp_from_vfio(vdev);
	enum vfio_device_mig_state next;
	struct file *filp = NULL;
	int ret;

	ret = lock_killable(q);
	if (ret)
		return ERR_PTR(ret);
	if (q->lost || q->state == VFIO_DEVICE_STATE_ERROR)
		filp = ERR_PTR(-EIO);
	q->lost = false;
	while (!IS_ERR(filp) && q->state != state) {
		ret = vfio_mig_get_next_state(vdev, q->state, state, &next);
		filp = ret ? ERR_PTR(ret) : step(q, next);
	}
	/*
	 * Who takes a device from RESUMING to STOP must not be told that it has its
	 * state when root has reset it meanwhile.  Of one that runs that can come at
	 * any time.
	 */
	catch_up(q);
	if (q->lost && !IS_ERR(filp)) {
		if (filp)
			fput(filp);
		filp = ERR_PTR(-EIO);
		q->lost = false;
	}
	unlock(q);
	return filp;
}

static int migration_get_state(struct vfio_device *vdev,
			       enum vfio_device_mig_state *state)
{
	struct qvp_device *q = qvp_from_vfio(vdev);
	int ret = lock_killable(q);

	if (ret)
		return ret;
	*state = q->state;
	unlock(q);
	return 0;
}

static int migration_get_data_size(struct vfio_device *vdev,
				   unsigned long *stop_copy_length)
{
	struct qvp_device *q = qvp_from_vfio(vdev);
	int ret = lock_killable(q);

	if (ret)
		return ret;
	*stop_copy_length = qvp_save_size(q);
	unlock(q);
	return 0;
}

const struct vfio_migration_ops qvp_migrate_ops = {
	.migration_set_state = migration_set_state,
	.migration_get_state = migration_get_state,
	.migration_get_data_size = migration_get_data_size,
};

// SPDX-License-Identifier: GPL-2.0-only
/*
 * A channel whose connection is lost gets another one, if both ends have agreed to
 * that.  Its thread parks meanwhile: the destination's when all that came is loaded, of
 * a packet that came in part nothing.
 */

#include <linux/file.h>
#include <linux/slab.h>
#include <net/sock.h>
#include <net/tcp_states.h>

#include "transfer.h"

/**
 * vmfd_replace_read_on - see whether there may be more to read after an end
 * @ch: the channel, run by the caller, of a destination
 *
 * Who has shut down reading alone would still acknowledge what comes, and the
 * source forget it.  After this nothing is taken any more but what is there.
 *
 * Return: true, once for each connection, if that may be replaced.
 */
bool vmfd_replace_read_on(struct vmfd_channel *ch)
{
	if (!(ch->tr->features & VFIO_MULTIFD_FEATURE_REPLACE) || ch->shut)
		return false;
	ch->shut = true;
	kernel_sock_shutdown(ch->sock, SHUT_RDWR);
	return true;
}

/**
 * vmfd_replace_lost - note that a channel's connection is lost
 * @ch: the channel, run by the caller
 *
 * Return: VMFD_LOST, or what vmfd_transfer_over() says.
 */
int vmfd_replace_lost(struct vmfd_channel *ch)
{
	int ret;

	mutex_lock(&ch->tr->lock);
	ret = vmfd_transfer_over(ch->tr);
	if (!ret) {
		ch->lost = true;
		ret = VMFD_LOST;
	}
	mutex_unlock(&ch->tr->lock);
	return ret;
}

/* A packet of which the data did not come is none that came. */
static void forget_packet(struct vmfd_channel *ch)
{
	struct vmfd_device *dev = ch->dev;

	if (ch->phase != VMFD_PHASE_DATA)
		return;
	vmfd_device_unsee(ch->tr, dev, ch->idx);
	if (ch->is_config) {
		dev->config_taken = false;
		dev->last_idx = VFIO_MULTIFD_NO_INDEX;
	}
	/* The next one may say that it has another size. */
	kvfree(ch->config);
	ch->config = NULL;
	vmfd_gather_drop(&ch->gather);
	ch->dev = NULL;
}

static void park(struct vmfd_channel *ch)
{
	lockdep_assert_held(&ch->tr->lock);
	WARN_ON_ONCE(ch->ask);
	if (ch->tr->role == VFIO_MULTIFD_RECV)
		forget_packet(ch);
	else if (ch->phase == VMFD_PHASE_HEADER || ch->phase == VMFD_PHASE_DATA)
		ch->finish = true;
	ch->parked = true;
	vmfd_transfer_event(ch->tr);
}

/**
 * vmfd_replace_wait - wait for another connection
 * @ch: the channel, run by the caller, lost
 *
 * A source may have become DONE meanwhile.  With another connection the channel goes
 * on all the same.
 *
 * Return: 0, -EINTR after a signal, or what vmfd_transfer_over() says.
 */
int vmfd_replace_wait(struct vmfd_channel *ch)
{
	struct vmfd_transfer *tr = ch->tr;
	int ret;

	vmfd_channel_do(ch, VMFD_DOING_NETWORK);
	mutex_lock(&tr->lock);
	ret = vmfd_transfer_over(tr);
	/* The caller looked without the lock. */
	if (!ret && ch->lost && !ch->parked)
		park(ch);
	while (ch->parked) {
		ret = vmfd_transfer_over(tr);
		if (!ret)
			ret = vmfd_transfer_sleep(tr);
		if (ret)
			break;
	}
	if (!ch->lost && ret == VMFD_DONE)
		ret = 0;
	mutex_unlock(&tr->lock);
	return ret;
}

/**
 * vmfd_replace_needed - tell whether a channel is without connection
 * @ch: the channel
 *
 * A source that has nothing to send does not use the socket, and may be DONE: it would
 * not find out that what the socket had taken is not going to arrive.
 *
 * Return: true if another connection is wanted.
 */
bool vmfd_replace_needed(const struct vmfd_channel *ch)
{
	const struct vmfd_transfer *tr = ch->tr;

	lockdep_assert_held(&tr->lock);
	if (ch->parked)
		return true;
	return tr->role == VFIO_MULTIFD_SEND &&
	       tr->features & VFIO_MULTIFD_FEATURE_REPLACE &&
	       READ_ONCE(ch->sock->sk->sk_state) == TCP_CLOSE;
}

static struct vmfd_channel *find(struct vmfd_transfer *tr, u32 id)
{
	lockdep_assert_held(&tr->lock);
	return id < tr->nr_channels ? tr->channels[id] : NULL;
}

/* A source that is DONE may have to send again what it had sent. */
static int check_state(const struct vmfd_transfer *tr)
{
	lockdep_assert_held(&tr->lock);
	if (!(tr->features & VFIO_MULTIFD_FEATURE_REPLACE))
		return -EOPNOTSUPP;
	switch (tr->state) {
	case VFIO_MULTIFD_STATE_READY:
	case VFIO_MULTIFD_STATE_SEALED:
		return 0;
	case VFIO_MULTIFD_STATE_DONE:
		return tr->role == VFIO_MULTIFD_SEND ? 0 : -EBADFD;
	default:
		return -EBADFD;
	}
}

/* The destination goes on to read what has come. */
static int give_up(struct vmfd_transfer *tr, u32 id)
{
	struct vmfd_channel *ch;
	struct socket *sock;
	struct file *file;
	int ret;

	mutex_lock(&tr->lock);
	ch = find(tr, id);
	ret = check_state(tr);
	if (!ret && !ch)
		ret = -ENOENT;
	if (ret) {
		mutex_unlock(&tr->lock);
		return ret;
	}
	sock = ch->sock;
	file = get_file(ch->hold.file);
	if (tr->role == VFIO_MULTIFD_SEND && !vmfd_transfer_over(tr)) {
		ch->lost = true;
		vmfd_transfer_changed(tr);
	}
	mutex_unlock(&tr->lock);
	kernel_sock_shutdown(sock, SHUT_RDWR);
	fput(file);
	return 0;
}

/**
 * vmfd_replace_end - have a source that is DONE send nothing again
 * @tr: the transfer, not locked; it is cancelled
 *
 * What is in its sockets they deliver.
 */
void vmfd_replace_end(struct vmfd_transfer *tr)
{
	bool running;
	u32 id;

	for (id = 0; id < tr->nr_channels; id++) {
		mutex_lock(&tr->lock);
		running = tr->channels[id] && tr->channels[id]->running;
		mutex_unlock(&tr->lock);
		if (running)
			give_up(tr, id);
	}
}

/* Of a source that is DONE no thread may be on its way out. */
static bool is_parked(const struct vmfd_channel *ch)
{
	if (ch->tr->state == VFIO_MULTIFD_STATE_DONE)
		return !ch->running;
	return ch->parked;
}

static int replace(struct vmfd_transfer *tr, struct socket *sock,
		   struct vmfd_hold *hold,
		   const struct vfio_multifd_replace *arg)
{
	struct vmfd_channel *ch = find(tr, arg->id);
	int ret = check_state(tr);

	lockdep_assert_held(&tr->lock);
	if (ret)
		return ret;
	if (!ch)
		return -ENOENT;
	if (!is_parked(ch))
		return -EBUSY;
	if (!net_eq(tr->net, sock_net(sock->sk)))
		return -EXDEV;
	if (tr->role == VFIO_MULTIFD_SEND)
		ret = vmfd_kept_drop(ch, arg->packets);
	else if (arg->packets)
		ret = -EINVAL;
	if (ret)
		return ret;

	vmfd_hold_swap(&ch->hold, hold);
	ch->sock = sock;
	ch->phase = VMFD_PHASE_INIT;
	ch->done = 0;
	ch->shut = false;
	ch->lost = false;
	ch->parked = false;
	vmfd_transfer_changed(tr);
	return 0;
}

/**
 * vmfd_replace_channel - VFIO_MULTIFD_REPLACE_CHANNEL
 * @tr: the transfer
 * @arg: checked for size and flags
 *
 * Return: 0 or an error, see &struct vfio_multifd_replace.
 */
int vmfd_replace_channel(struct vmfd_transfer *tr,
			 const struct vfio_multifd_replace *arg)
{
	struct vmfd_hold hold;
	struct socket *sock;
	int ret;

	if (arg->fd == -1)
		return arg->packets ? -EINVAL : give_up(tr, arg->id);
	sock = sockfd_lookup(arg->fd, &ret);
	if (!sock)
		return ret;
	ret = vmfd_channel_check(sock);
	if (!ret)
		ret = vmfd_hold_file(&hold, sock->file);
	if (ret) {
		sockfd_put(sock);
		return ret;
	}
	mutex_lock(&vmfd_transfer_list_lock);
	mutex_lock(&tr->lock);
	ret = replace(tr, sock, &hold, arg);
	mutex_unlock(&tr->lock);
	mutex_unlock(&vmfd_transfer_list_lock);
	/* What the old one still has nobody wants.  This may wait for its owner. */
	if (!ret)
		sock_no_linger(sock_from_file(hold.file)->sk);
	/* the old one, or the one that was refused */
	vmfd_hold_release(&hold);
	return ret;
}

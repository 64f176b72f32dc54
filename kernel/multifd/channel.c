// SPDX-License-Identifier: GPL-2.0-only
/*
 * A channel: a connected TCP socket and the thread that does its work.
 */

#include <linux/file.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include <net/sock.h>
#include <net/tcp_states.h>

#include "transfer.h"

/**
 * vmfd_channel_check - see whether a socket can carry a channel
 * @sock: any socket
 *
 * Return: 0 or an error, see &struct vfio_multifd_channel.
 */
int vmfd_channel_check(struct socket *sock)
{
	struct sock *sk = sock->sk;

	if (!sk_is_tcp(sk))
		return -EPROTONOSUPPORT;
	if (READ_ONCE(sk->sk_state) != TCP_ESTABLISHED)
		return -ENOTCONN;
	/* Somebody in the kernel works on this socket. */
	if (READ_ONCE(sk->sk_user_data))
		return -EBUSY;
	return 0;
}

static int insert(struct vmfd_transfer *tr, struct vmfd_channel *ch)
{
	struct net *net = sock_net(ch->sock->sk);

	lockdep_assert_held(&tr->lock);
	if (tr->state != VFIO_MULTIFD_STATE_READY)
		return -EBADFD;
	if (ch->id >= tr->nr_channels)
		return -EINVAL;
	if (tr->channels[ch->id])
		return -EEXIST;
	/* All channels of a transfer belong to one network namespace. */
	if (tr->net && !net_eq(tr->net, net))
		return -EXDEV;
	WRITE_ONCE(tr->net, net);	/* netlink looks before it locks */
	tr->channels[ch->id] = ch;
	return 0;
}

/**
 * vmfd_channel_add - VFIO_MULTIFD_ADD_CHANNEL
 * @tr: the transfer
 * @arg: checked for size and flags
 *
 * The channel keeps the socket's file, so closing the fd does not end it, and
 * a user's socket keeps its network namespace.
 *
 * Return: 0 or an error, see &struct vfio_multifd_channel.
 */
int vmfd_channel_add(struct vmfd_transfer *tr,
		     const struct vfio_multifd_channel *arg)
{
	struct vmfd_channel *ch;
	struct socket *sock;
	int ret;

	ch = kzalloc(sizeof(*ch), GFP_KERNEL_ACCOUNT);
	if (!ch)
		return -ENOMEM;
	sock = sockfd_lookup(arg->fd, &ret);
	if (!sock)
		goto err_free;
	INIT_LIST_HEAD(&ch->kept);
	ch->tr = tr;
	ch->id = arg->id;
	ch->sock = sock;

	ret = vmfd_channel_check(sock);
	if (!ret)
		ret = vmfd_hold_file(&ch->hold, sock->file);
	if (ret)
		goto err_put;

	mutex_lock(&tr->lock);
	ret = insert(tr, ch);
	mutex_unlock(&tr->lock);
	if (!ret)
		return 0;

	vmfd_hold_release(&ch->hold);
	kfree(ch);
	return ret;
err_put:
	sockfd_put(sock);
err_free:
	kfree(ch);
	return ret;
}

/**
 * vmfd_channel_destroy - give a channel's socket and memory back
 * @ch: a channel that no thread runs
 */
void vmfd_channel_destroy(struct vmfd_channel *ch)
{
	vmfd_kept_destroy(ch);
	vmfd_gather_destroy(&ch->gather);
	vmfd_buffer_destroy(&ch->buf);
	vmfd_buffer_destroy(&ch->slot);
	kvfree(ch->config);
	vmfd_hold_release(&ch->hold);
	kfree(ch);
}

static int start(struct vmfd_transfer *tr, struct vmfd_channel *ch)
{
	int ret;

	lockdep_assert_held(&tr->lock);
	if (tr->state == VFIO_MULTIFD_STATE_NEW)
		return -EBADFD;
	if (!ch)
		return -ENOENT;
	if (ch->running)
		return -EBUSY;
	ret = vmfd_transfer_over(tr);
	/*
	 * The peer expects every channel's first bytes, however late we are, and what
	 * another connection has lost.
	 */
	if (ret == VMFD_DONE && tr->role == VFIO_MULTIFD_SEND &&
	    !tr->cancelled &&
	    (ch->phase == VMFD_PHASE_INIT || ch->phase == VMFD_PHASE_AGAIN ||
	     ch->phase == VMFD_PHASE_AGAIN_DATA))
		ret = 0;
	if (!ret)
		ch->running = true;
	return ret;
}

/**
 * vmfd_channel_do - time goes into something else from now on
 * @ch: the channel, run by the caller
 * @what: into what
 */
void vmfd_channel_do(struct vmfd_channel *ch, enum vmfd_doing what)
{
	u64 now = ktime_get_ns(), since = ch->since;

	WRITE_ONCE(ch->since, now);
	/* Pairs with vmfd_channel_ns(): the interval is not counted twice. */
	smp_wmb();
	if (since)
		WRITE_ONCE(ch->ns[ch->doing],
			   ch->ns[ch->doing] + now - since);
	WRITE_ONCE(ch->doing, what);
}

/**
 * vmfd_channel_ns - tell how much time went into something
 * @ch: the channel, its transfer locked
 * @what: into what
 *
 * Return: ns, to the moment; of a channel that is just changing a little less.
 */
u64 vmfd_channel_ns(const struct vmfd_channel *ch, enum vmfd_doing what)
{
	enum vmfd_doing doing;
	u64 ns, since;

	lockdep_assert_held(&ch->tr->lock);
	doing = READ_ONCE(ch->doing);
	ns = READ_ONCE(ch->ns[what]);
	smp_rmb();	/* pairs with vmfd_channel_do() */
	since = READ_ONCE(ch->since);
	if (since && doing == what && !vmfd_transfer_over(ch->tr))
		ns += ktime_get_ns() - since;
	return ns;
}

/**
 * vmfd_channel_no_memory - there is none
 * @ch: the channel, run by the caller
 *
 * Return: what vmfd_transfer_over() says, or -ENOMEM where the transfer is DONE and
 * cannot fail any more.
 */
int vmfd_channel_no_memory(struct vmfd_channel *ch)
{
	int ret = vmfd_transfer_fail(ch->tr, ch, &(struct vmfd_error) {
		.err = -ENOMEM,
		.reason = VFIO_MULTIFD_REASON_NO_MEMORY,
	});

	return ret == VMFD_DONE ? -ENOMEM : ret;
}

/**
 * vmfd_channel_note_memory - have the channel's status know what it holds now
 * @ch: the channel, run by the caller
 */
void vmfd_channel_note_memory(struct vmfd_channel *ch)
{
	u64 held = (u64)(ch->buf.held + ch->slot.held) * PAGE_SIZE +
		   ch->gather.pinned;

	if (held > ch->memory)
		WRITE_ONCE(ch->memory, held);
}

static int get_buffers(struct vmfd_channel *ch)
{
	bool send = ch->tr->role == VFIO_MULTIFD_SEND;
	u32 size = ch->tr->packet_size;
	int ret = 0;

	if (!ch->buf.pages)
		ret = vmfd_buffer_init(&ch->buf, size,
				       send ? VMFD_SEND_TURNS : 1);
	if (!ret && !ch->gather.bvec && !send)
		ret = vmfd_gather_init(&ch->gather, size);
	vmfd_channel_note_memory(ch);
	return ret;
}

/**
 * vmfd_channel_run - VFIO_MULTIFD_RUN_CHANNEL
 * @tr: the transfer
 * @arg: checked for size and flags; gets the question to user space, if any
 *
 * Return: 0 or an error, see &struct vfio_multifd_run.
 */
int vmfd_channel_run(struct vmfd_transfer *tr, struct vfio_multifd_run *arg)
{
	struct vmfd_channel *ch;
	int ret;

	mutex_lock(&tr->lock);
	ch = arg->id < tr->nr_channels ? tr->channels[arg->id] : NULL;
	ret = start(tr, ch);
	mutex_unlock(&tr->lock);
	if (ret == VMFD_DONE)
		*arg = (struct vfio_multifd_run) { .id = arg->id };
	if (ret)
		goto out;

	/* after a signal it goes on with what it did */
	if (!ch->since)
		vmfd_channel_do(ch, ch->doing);
	if (get_buffers(ch))
		ret = vmfd_channel_no_memory(ch);
	else
		ret = vmfd_foreign_hear(ch, arg);
	/*
	 * From here on a channel that has parked gets no connection unseen.  One that
	 * has asked has not parked, and must take the answer first.
	 */
	if (!ret && !ch->answered && tr->features & VFIO_MULTIFD_FEATURE_REPLACE)
		ret = vmfd_replace_wait(ch);
	if (!ret && tr->role == VFIO_MULTIFD_SEND)
		ret = vmfd_send_run(ch);
	else if (!ret)
		ret = vmfd_receive_run(ch);
	/* After -EINTR, too: what was answered must not be answered again. */
	if (ret == VMFD_ASK || ret == VMFD_DONE || ret == -EINTR)
		vmfd_foreign_tell(ch, arg);

	vmfd_channel_do(ch, ch->doing);
	if (!ch->ask)
		WRITE_ONCE(ch->since, 0);
	mutex_lock(&tr->lock);
	ch->running = false;
	mutex_unlock(&tr->lock);
out:
	return ret == VMFD_DONE || ret == VMFD_ASK ? 0 : ret;
}

/**
 * vmfd_channel_error - the connection does not go on
 * @ch: the channel, run by the caller
 * @err: the socket call's own words, or 0 at an end
 *
 * Return: -EINTR after a signal (come again), VMFD_LOST, or what
 * vmfd_transfer_over() says.
 */
int vmfd_channel_error(struct vmfd_channel *ch, int err)
{
	if (vmfd_interrupted(err))
		return -EINTR;
	if (ch->tr->features & VFIO_MULTIFD_FEATURE_REPLACE)
		return vmfd_replace_lost(ch);
	return vmfd_transfer_fail(ch->tr, ch, &(struct vmfd_error) {
		.err = err ?: -ECONNRESET,
		.reason = err ? VFIO_MULTIFD_REASON_SOCKET :
				VFIO_MULTIFD_REASON_EOF,
	});
}

/**
 * vmfd_channel_send - send the rest of a phase's bytes
 * @ch: the channel, run by the caller; ch->done bytes of @iter are through
 * @iter: all bytes of the phase
 * @flags: MSG_*
 *
 * Return: 0 when all are through and ch->done is 0 again, -EINTR after a
 * signal (come again), VMFD_LOST, or what vmfd_transfer_over() says.
 */
int vmfd_channel_send(struct vmfd_channel *ch, struct iov_iter *iter, int flags)
{
	struct msghdr msg = { .msg_flags = flags | MSG_NOSIGNAL };

	iov_iter_advance(iter, ch->done);
	msg.msg_iter = *iter;
	while (msg_data_left(&msg)) {
		int ret = sock_sendmsg(ch->sock, &msg);

		if (ret < 0)
			return vmfd_channel_error(ch, ret);
		ch->done += ret;
		ch->on_wire += ret;
	}
	ch->done = 0;
	return 0;
}

/**
 * vmfd_channel_recv - receive the rest of a phase's bytes
 * @ch: the channel, run by the caller; ch->done bytes of @iter are through
 * @iter: all bytes of the phase
 *
 * Return: as vmfd_channel_send().
 */
int vmfd_channel_recv(struct vmfd_channel *ch, struct iov_iter *iter)
{
	struct msghdr msg = {};

	iov_iter_advance(iter, ch->done);
	msg.msg_iter = *iter;
	while (msg_data_left(&msg)) {
		int ret = sock_recvmsg(ch->sock, &msg, MSG_WAITALL);

		if (ret <= 0 && !vmfd_interrupted(ret) &&
		    vmfd_replace_read_on(ch))
			continue;
		if (ret <= 0)
			return vmfd_channel_error(ch, ret);
		ch->done += ret;
	}
	ch->done = 0;
	return 0;
}

/* The same for bytes in one piece of kernel memory. */
int vmfd_channel_send_bytes(struct vmfd_channel *ch, void *bytes, size_t len,
			    int flags)
{
	struct kvec vec = { .iov_base = bytes, .iov_len = len };
	struct iov_iter iter;

	iov_iter_kvec(&iter, ITER_SOURCE, &vec, 1, len);
	return vmfd_channel_send(ch, &iter, flags);
}

int vmfd_channel_recv_bytes(struct vmfd_channel *ch, void *bytes, size_t len)
{
	struct kvec vec = { .iov_base = bytes, .iov_len = len };
	struct iov_iter iter;

	iov_iter_kvec(&iter, ITER_DEST, &vec, 1, len);
	return vmfd_channel_recv(ch, &iter);
}

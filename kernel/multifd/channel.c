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

static int check_socket(struct socket *sock)
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

/* All channels of a transfer belong to one network namespace. */
static bool other_net(struct vmfd_transfer *tr, const struct socket *sock)
{
	unsigned int i;

	for (i = 0; i < tr->nr_channels; i++)
		if (tr->channels[i])
			return !net_eq(sock_net(tr->channels[i]->sock->sk),
				       sock_net(sock->sk));
	return false;
}

static int insert(struct vmfd_transfer *tr, struct vmfd_channel *ch)
{
	lockdep_assert_held(&tr->lock);
	if (tr->state != VFIO_MULTIFD_STATE_READY)
		return -EBADFD;
	if (ch->id >= tr->nr_channels)
		return -EINVAL;
	if (tr->channels[ch->id])
		return -EEXIST;
	if (other_net(tr, ch->sock))
		return -EXDEV;
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
	ch->tr = tr;
	ch->id = arg->id;
	ch->sock = sock;

	ret = check_socket(sock);
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
	vmfd_buffer_destroy(&ch->buf);
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
	/* The peer expects every channel's first bytes, however late we are. */
	if (ret == VMFD_DONE && tr->role == VFIO_MULTIFD_SEND &&
	    ch->phase == VMFD_PHASE_INIT)
		ret = 0;
	if (!ret)
		ch->running = true;
	return ret;
}

/* Also where the transfer is DONE and cannot fail any more. */
static int no_memory(struct vmfd_channel *ch)
{
	int ret = vmfd_transfer_fail(ch->tr, ch, &(struct vmfd_error) {
		.err = -ENOMEM,
		.reason = VFIO_MULTIFD_REASON_NO_MEMORY,
	});

	return ret == VMFD_DONE ? -ENOMEM : ret;
}

/**
 * vmfd_channel_run - VFIO_MULTIFD_RUN_CHANNEL
 * @tr: the transfer
 * @id: from user space
 *
 * Return: 0 or an error, see &struct vfio_multifd_run.
 */
int vmfd_channel_run(struct vmfd_transfer *tr, u32 id)
{
	struct vmfd_channel *ch;
	int ret;

	mutex_lock(&tr->lock);
	ch = id < tr->nr_channels ? tr->channels[id] : NULL;
	ret = start(tr, ch);
	mutex_unlock(&tr->lock);
	if (ret)
		goto out;

	if (!ch->buf.pages)
		ret = vmfd_buffer_init(&ch->buf, tr->packet_size);
	if (ret)
		ret = no_memory(ch);
	else if (tr->role == VFIO_MULTIFD_SEND)
		ret = vmfd_send_run(ch);
	else
		ret = vmfd_receive_run(ch);

	mutex_lock(&tr->lock);
	ch->running = false;
	mutex_unlock(&tr->lock);
out:
	return ret == VMFD_DONE ? 0 : ret;
}

/* The socket call's own words, or that it is over for another reason. */
static int socket_error(struct vmfd_channel *ch, int err)
{
	if (vmfd_interrupted(err))
		return -EINTR;
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
 * signal (come again), or what vmfd_transfer_over() says.
 */
int vmfd_channel_send(struct vmfd_channel *ch, struct iov_iter *iter, int flags)
{
	struct msghdr msg = { .msg_flags = flags | MSG_NOSIGNAL };

	iov_iter_advance(iter, ch->done);
	msg.msg_iter = *iter;
	while (msg_data_left(&msg)) {
		int ret = sock_sendmsg(ch->sock, &msg);

		if (ret < 0)
			return socket_error(ch, ret);
		ch->done += ret;
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

		if (ret <= 0)
			return socket_error(ch, ret);
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

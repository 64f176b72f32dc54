// SPDX-License-Identifier: GPL-2.0-only
/*
 * Packets that may have to be sent again over another connection: those that the
 * peer's TCP has not acknowledged.  What it has, the peer reads before it gives the
 * connection up.
 */

#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/tcp.h>
#include <linux/uio.h>
#include <net/tcp_states.h>

#include "transfer.h"

static void release(struct vmfd_kept *kept)
{
	unsigned int i;

	list_del(&kept->node);
	for (i = 0; i < kept->nr_pages; i++)
		put_page(kept->bvec[i].bv_page);
	kvfree(kept);
}

static struct vmfd_kept *first(struct vmfd_channel *ch)
{
	return list_first_entry_or_null(&ch->kept, struct vmfd_kept, node);
}

/**
 * vmfd_kept_add - keep the packet that is about to be sent
 * @ch: the channel, run by the caller; its header is made
 *
 * The pages are shared with the socket, so this costs no memory beside a note.
 * Config state stays with its device anyway.  What user space has read to the first
 * turn of its mapping it reads over, and that cannot be kept; of the others
 * vmfd_buffer_pass() sees that a page is kept.
 *
 * Return: 0 or -ENOMEM.
 */
int vmfd_kept_add(struct vmfd_channel *ch)
{
	const struct vmfd_buffer *buf = vmfd_foreign_data(ch);
	unsigned int nr = 0, i;
	struct vmfd_kept *kept;

	if (!ch->is_config && (!ch->dev->foreign || buf->turn))
		nr = DIV_ROUND_UP(ch->len, PAGE_SIZE);
	kept = kvzalloc(struct_size(kept, bvec, nr), GFP_KERNEL_ACCOUNT);
	if (!kept)
		return -ENOMEM;
	kept->number = ch->packets;
	kept->end = U64_MAX;
	kept->dev = ch->dev;
	kept->len = ch->len;
	kept->is_config = ch->is_config;
	kept->packet = ch->packet;
	kept->nr_pages = nr;
	for (i = 0; i < nr; i++) {
		kept->bvec[i] = buf->bvec[i];
		get_page(kept->bvec[i].bv_page);
	}
	list_add_tail(&kept->node, &ch->kept);
	return 0;
}

/**
 * vmfd_kept_trim - let go of what the peer's TCP has
 * @ch: the channel, run by the caller
 */
void vmfd_kept_trim(struct vmfd_channel *ch)
{
	const struct sock *sk = ch->sock->sk;
	const struct tcp_sock *tp = tcp_sk(sk);
	struct vmfd_kept *kept;
	u32 unacked;

	/* The numbers of another state may mean something else: it counts FIN. */
	if (!((1 << READ_ONCE(sk->sk_state)) &
	      (TCPF_ESTABLISHED | TCPF_CLOSE_WAIT)))
		return;
	unacked = READ_ONCE(tp->write_seq) - READ_ONCE(tp->snd_una);
	while ((kept = first(ch)) && ch->on_wire >= unacked &&
	       kept->end <= ch->on_wire - unacked)
		release(kept);
}

static bool has_data(const struct vmfd_kept *kept)
{
	return kept->is_config || kept->nr_pages;
}

/**
 * vmfd_kept_drop - let go of what the peer has, as it says; the rest comes again
 * @ch: the channel, parked
 * @packets: number of packets that it has
 *
 * Return: 0, or -ENODATA when one that it lacks is not there.
 */
int vmfd_kept_drop(struct vmfd_channel *ch, u64 packets)
{
	u64 all = ch->packets + ch->finish;
	struct vmfd_kept *kept;

	lockdep_assert_held(&ch->tr->lock);
	kept = first(ch);
	if (packets > all || packets < (kept ? kept->number : all))
		return -ENODATA;
	list_for_each_entry(kept, &ch->kept, node)
		if (kept->number >= packets && !has_data(kept))
			return -ENODATA;
	while ((kept = first(ch)) && kept->number < packets)
		release(kept);
	ch->again = first(ch);
	return 0;
}

/**
 * vmfd_kept_data - tell the data of ch->again
 * @ch: the channel, run by the caller
 * @vec: room for what @iter may need
 * @iter: gets it
 */
void vmfd_kept_data(struct vmfd_channel *ch, struct kvec *vec,
		    struct iov_iter *iter)
{
	const struct vmfd_kept *kept = ch->again;

	if (kept->is_config) {
		*vec = (struct kvec) { kept->dev->config, kept->len };
		iov_iter_kvec(iter, ITER_SOURCE, vec, 1, kept->len);
	} else {
		iov_iter_bvec(iter, ITER_SOURCE, kept->bvec, kept->nr_pages,
			      kept->len);
	}
}

/**
 * vmfd_kept_next - go on to the next packet to be sent again, if there is one
 * @ch: the channel, run by the caller, which has sent ch->again
 */
void vmfd_kept_next(struct vmfd_channel *ch)
{
	ch->again->end = ch->on_wire;
	if (list_is_last(&ch->again->node, &ch->kept))
		ch->again = NULL;
	else
		ch->again = list_next_entry(ch->again, node);
}

/**
 * vmfd_kept_destroy - let go of all
 * @ch: a channel that no thread runs
 */
void vmfd_kept_destroy(struct vmfd_channel *ch)
{
	struct vmfd_kept *kept;

	while ((kept = first(ch)))
		release(kept);
}

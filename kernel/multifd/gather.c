// SPDX-License-Identifier: GPL-2.0-only
/*
 * A packet's data where it came to lie: in pages of the socket's buffers, which are
 * taken by reference, and in the channel's own where the pieces are small.
 *
 * Beside the channel's own pages a packet pins at most PINS times its size, whatever
 * pieces the peer sends: a piece of a large page pins all of that.
 */

#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include <net/inet_connection_sock.h>
#include <net/sock.h>
#include <net/tcp.h>

#include "transfer.h"

#define PINS	4
#define LEAST	(PAGE_SIZE / PINS)	/* bytes; of less there is no reference */

/**
 * vmfd_gather_init - get ready for packets of @size bytes
 * @gather: zeroed
 * @size: bytes
 *
 * Pieces that are copied have one that is not between them, or the end of a page.
 *
 * Return: 0 or -ENOMEM.
 */
int vmfd_gather_init(struct vmfd_gather *gather, u32 size)
{
	unsigned int most = 2 * (size / LEAST) + 1 +
			    DIV_ROUND_UP(size, PAGE_SIZE);

	gather->bvec = kvcalloc(most, sizeof(*gather->bvec),
				GFP_KERNEL_ACCOUNT);
	return gather->bvec ? 0 : -ENOMEM;
}

/**
 * vmfd_gather_drop - let go of the packet
 * @gather: may be zeroed
 */
void vmfd_gather_drop(struct vmfd_gather *gather)
{
	while (gather->nr)
		put_page(gather->bvec[--gather->nr].bv_page);
	gather->pinned = 0;
}

/**
 * vmfd_gather_destroy - let go of all
 * @gather: may be zeroed
 */
void vmfd_gather_destroy(struct vmfd_gather *gather)
{
	vmfd_gather_drop(gather);
	kvfree(gather->bvec);
	*gather = (struct vmfd_gather) {};
}

static void add(struct vmfd_channel *ch, struct page *page, unsigned int offset,
		unsigned int len)
{
	struct vmfd_gather *gather = &ch->gather;
	struct bio_vec *last = gather->nr ? &gather->bvec[gather->nr - 1] : NULL;

	ch->done += len;
	if (last && last->bv_page == page &&
	    last->bv_offset + last->bv_len == offset) {
		last->bv_len += len;
		return;
	}
	get_page(page);
	bvec_set_page(&gather->bvec[gather->nr++], page, len, offset);
}

/* Where the next bytes go that are copied, or NULL; reduces @len to what fits. */
static struct page *own_page(struct vmfd_channel *ch, unsigned int *len)
{
	*len = min_t(size_t, *len, PAGE_SIZE - offset_in_page(ch->done));
	return vmfd_buffer_page(&ch->buf, ch->done / PAGE_SIZE);
}

static int copy(struct vmfd_channel *ch, const struct sk_buff *skb,
		unsigned int offset, unsigned int len)
{
	while (len) {
		unsigned int n = len, at = offset_in_page(ch->done);
		struct page *page = own_page(ch, &n);

		if (!page)
			return -ENOMEM;
		if (skb_copy_bits(skb, offset, page_address(page) + at, n))
			return -EIO;
		add(ch, page, at, n);
		offset += n;
		len -= n;
	}
	return 0;
}

static bool is_worth(const skb_frag_t *frag, unsigned int len)
{
	struct page *page = skb_frag_page(frag);

	return page && len >= page_size(compound_head(page)) / PINS;
}

/* A page of the socket's, of which add() takes another piece */
static void count(struct vmfd_gather *gather, struct page *page)
{
	struct page *head = compound_head(page);

	if (!gather->nr ||
	    compound_head(gather->bvec[gather->nr - 1].bv_page) != head)
		gather->pinned += page_size(head);
}

/* All of @len bytes, from page fragments where there are such */
static int take(struct vmfd_channel *ch, struct sk_buff *skb,
		unsigned int offset, unsigned int len)
{
	const struct skb_shared_info *shared = skb_shinfo(skb);
	unsigned int begin = skb_headlen(skb), n, i;
	int ret = 0;

	if (offset < begin) {
		n = min(len, begin - offset);
		ret = copy(ch, skb, offset, n);
		offset += n;
		len -= n;
	}
	for (i = 0; i < shared->nr_frags && len && !ret; i++) {
		const skb_frag_t *frag = &shared->frags[i];
		unsigned int end = begin + skb_frag_size(frag);

		if (offset < end) {
			n = min(len, end - offset);
			if (is_worth(frag, n)) {
				count(&ch->gather, skb_frag_page(frag));
				add(ch, skb_frag_page(frag), skb_frag_off(frag) +
				    offset - begin, n);
			} else {
				ret = copy(ch, skb, offset, n);
			}
			offset += n;
			len -= n;
		}
		begin = end;
	}
	/* the rest is in others that hang on this one */
	return ret ?: copy(ch, skb, offset, len);
}

static int actor(read_descriptor_t *desc, struct sk_buff *skb,
		 unsigned int offset, size_t len)
{
	struct vmfd_channel *ch = desc->arg.data;
	size_t before = ch->done;
	int ret;

	ret = take(ch, skb, offset, min(len, desc->count));
	desc->count = ch->len - ch->done;
	return ch->done - before ?: ret;
}

/* Nobody stands between TCP and the reader. */
static bool is_plain(struct sock *sk)
{
	return !inet_csk_has_ulp(sk) && !READ_ONCE(sk->sk_user_data);
}

/* Return: bytes that were there, 0 for none, or an error */
static int take_queued(struct vmfd_channel *ch)
{
	read_descriptor_t desc = {
		.arg.data = ch,
		.count = ch->len - ch->done,
	};
	struct sock *sk = ch->sock->sk;
	int ret = 0;

	lock_sock(sk);
	if (is_plain(sk))
		ret = tcp_read_sock(sk, &desc, actor);
	release_sock(sk);
	return ret;
}

/*
 * Waits, and has the socket say why there is nothing.  The first bytes that come are
 * copied, no more of them than a small piece's: the rest can be taken then.
 */
static int copy_some(struct vmfd_channel *ch)
{
	unsigned int len = ch->len - ch->done;
	unsigned int at = offset_in_page(ch->done);
	struct msghdr msg = {};
	struct page *page;
	struct bio_vec vec;
	int ret;

	if (is_plain(ch->sock->sk))
		len = min(len, LEAST);
	page = own_page(ch, &len);
	if (!page)
		return -ENOMEM;
	bvec_set_page(&vec, page, len, at);
	iov_iter_bvec(&msg.msg_iter, ITER_DEST, &vec, 1, len);
	ret = sock_recvmsg(ch->sock, &msg, 0);
	if (ret > 0)
		add(ch, page, at, ret);
	return ret;
}

/**
 * vmfd_gather_recv - receive the rest of a packet's data
 * @ch: the channel, run by the caller; ch->done bytes of the data are here
 *
 * Return: as vmfd_channel_send().
 */
int vmfd_gather_recv(struct vmfd_channel *ch)
{
	if (!ch->done)
		vmfd_gather_drop(&ch->gather);
	while (ch->done < ch->len) {
		int ret = take_queued(ch) ?: copy_some(ch);

		if (ret == -ENOMEM)
			return vmfd_channel_no_memory(ch);
		if (ret <= 0 && !vmfd_interrupted(ret) &&
		    vmfd_replace_read_on(ch))
			continue;
		if (ret <= 0)
			return vmfd_channel_error(ch, ret);
	}
	vmfd_channel_note_memory(ch);
	ch->done = 0;
	return 0;
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * A packet's worth of own pages.
 */

#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/xxhash.h>

#include "transfer.h"

static int get_page_for(struct vmfd_buffer *buf, unsigned int i, gfp_t zero)
{
	struct page *page = alloc_page(GFP_KERNEL_ACCOUNT | zero);

	buf->pages[i] = page;
	if (!page)
		return -ENOMEM;
	buf->held++;
	bvec_set_page(&buf->bvec[i], page, PAGE_SIZE, 0);
	return 0;
}

static void set_turn(struct vmfd_buffer *buf, unsigned int turn)
{
	ptrdiff_t pages = ((ptrdiff_t)turn - buf->turn) * buf->nr;

	buf->pages += pages;
	buf->bvec += pages;
	buf->turn = turn;
}

/**
 * vmfd_buffer_init - get ready for packets of @size bytes
 * @buf: the buffer, zeroed
 * @size: bytes
 * @turns: packets that take turns
 *
 * The pages come when they are needed.
 *
 * Return: 0 or -ENOMEM.
 */
int vmfd_buffer_init(struct vmfd_buffer *buf, u32 size, unsigned int turns)
{
	unsigned int nr = DIV_ROUND_UP(size, PAGE_SIZE);

	buf->size = size;
	buf->nr = nr;
	buf->turns = turns;
	buf->pages = kvcalloc(nr * turns, sizeof(*buf->pages),
			      GFP_KERNEL_ACCOUNT);
	buf->bvec = kvcalloc(nr * turns, sizeof(*buf->bvec),
			     GFP_KERNEL_ACCOUNT);
	if (buf->pages && buf->bvec)
		return 0;
	vmfd_buffer_destroy(buf);
	return -ENOMEM;
}

/**
 * vmfd_buffer_destroy - give the pages back
 * @buf: the buffer; pages that a socket still refers to live on without us
 */
void vmfd_buffer_destroy(struct vmfd_buffer *buf)
{
	unsigned int i;

	set_turn(buf, 0);
	for (i = 0; buf->pages && i < buf->nr * buf->turns; i++)
		if (buf->pages[i])
			put_page(buf->pages[i]);
	kvfree(buf->pages);
	kvfree(buf->bvec);
	*buf = (struct vmfd_buffer) {};
}

/**
 * vmfd_buffer_page - one page, that is had for good
 * @buf: the buffer
 * @i: which
 *
 * It is zero at first: user space may get to see it.
 *
 * Return: the page or NULL.
 */
struct page *vmfd_buffer_page(struct vmfd_buffer *buf, unsigned int i)
{
	if (!buf->pages[i])
		get_page_for(buf, i, __GFP_ZERO);
	return buf->pages[i];
}

/**
 * vmfd_buffer_fill - all pages, of all turns
 * @buf: the buffer, with as many of them as there were
 *
 * Return: 0 or -ENOMEM, then some pages are missing and this must be repeated.
 */
int vmfd_buffer_fill(struct vmfd_buffer *buf)
{
	unsigned int turn = buf->turn, i;
	int ret = 0;

	set_turn(buf, 0);
	for (i = 0; i < buf->nr * buf->turns && !ret; i++)
		if (!vmfd_buffer_page(buf, i))
			ret = -ENOMEM;
	set_turn(buf, turn);
	return ret;
}

/*
 * A mapping has a reference, too.  Whoever got the page from the socket may have mapped
 * it as well, so there must not be more than @most.
 */
static bool is_back(struct page *page, int most)
{
	int refs = page_ref_count(page), maps;

	/*
	 * A mapping that goes is no longer counted before its reference is gone: that
	 * looks like one too many.
	 */
	smp_rmb();
	maps = folio_mapcount(page_folio(page));
	return maps <= most && refs - maps == 1;
}

static bool all_back(const struct vmfd_buffer *buf)
{
	/* What was never spliced only its owner maps. */
	struct page *first = buf->pages[-(ptrdiff_t)buf->turn * buf->nr];
	int most = folio_mapcount(page_folio(first));
	unsigned int i;

	for (i = 0; i < buf->nr; i++)
		if (!is_back(buf->pages[i], most))
			return false;
	return true;
}

/**
 * vmfd_buffer_pass - the next turn whose pages the socket has given back
 * @buf: the buffer, which may be mapped
 *
 * If there is none it is the first's, whose pages are never spliced.
 */
void vmfd_buffer_pass(struct vmfd_buffer *buf)
{
	unsigned int others = buf->turns - 1, n;

	for (n = 0; n + 1 < buf->turns; n++) {
		set_turn(buf, 1 + (buf->passed + n) % others);
		if (all_back(buf)) {
			buf->passed = buf->turn;
			return;
		}
	}
	set_turn(buf, 0);
}

/* Page @i of the first turn is now one that is ours alone. */
static int renew_page(struct vmfd_buffer *buf, unsigned int i)
{
	unsigned int turn, other;

	for (turn = 0; turn < buf->turns; turn++) {
		other = turn * buf->nr + i;
		if (!buf->pages[other] && get_page_for(buf, other, 0))
			return -ENOMEM;
		if (page_ref_count(buf->pages[other]) > 1)
			continue;
		swap(buf->pages[i], buf->pages[other]);
		swap(buf->bvec[i], buf->bvec[other]);
		return 0;
	}
	put_page(buf->pages[i]);
	buf->held--;
	return get_page_for(buf, i, 0);
}

/**
 * vmfd_buffer_renew - a packet's worth of pages that are ours alone
 * @buf: the buffer
 *
 * A spliced page belongs to the socket as well until the peer has it.  One that is
 * back (no other reference) is used again, which saves to have one cleared.  The first
 * that is found is the one that was used last, and likely to be in cache.  If all are
 * away one is let go and replaced.
 *
 * Return: 0 or -ENOMEM, then some pages are missing and this must be repeated.
 */
int vmfd_buffer_renew(struct vmfd_buffer *buf)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < buf->nr && !ret; i++)
		ret = renew_page(buf, i);
	return ret;
}

/**
 * vmfd_buffer_digest - xxh64, seed 0, of a packet's data
 * @bvec: where it is
 * @len: bytes
 *
 * Return: the digest.
 */
u64 vmfd_buffer_digest(const struct bio_vec *bvec, size_t len)
{
	struct bvec_iter iter, all = { .bi_size = len };
	struct xxh64_state state;
	struct bio_vec vec;

	xxh64_reset(&state, 0);
	for_each_bvec(vec, bvec, iter, all) {
		void *data = bvec_kmap_local(&vec);

		xxh64_update(&state, data, vec.bv_len);
		kunmap_local(data);
	}
	return xxh64_digest(&state);
}

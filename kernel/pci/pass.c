// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which pages of the memory a stream still has to bring
 *
 * In PRE_COPY that is pass after pass: all pages first, then those that a user
 * has touched since.  While pages are tracked, none is mapped that is not marked:
 * the fault that maps a page marks it, in one memory_lock read section, and a new
 * pass takes all mappings away before it looks at the marks.  No write can come
 * between.  write() to the BAR marks when it is through, with write_gate held,
 * without which there is no last pass.
 */

#include <linux/bitmap.h>
#include <linux/mm.h>

#include "qvp.h"

/**
 * qvp_pass_init - make a first pass, of all pages
 * @pass: what to initialise
 * @pages: number of pages of the memory
 *
 * Return: 0 or an error, after which qvp_pass_free() is still needed
 */
int qvp_pass_init(struct qvp_pass *pass, unsigned long pages)
{
	spin_lock_init(&pass->lock);
	pass->pages = pages;
	pass->left = kvcalloc(BITS_TO_LONGS(pages), sizeof(long),
			      GFP_KERNEL_ACCOUNT);
	pass->dirty = kvcalloc(BITS_TO_LONGS(pages), sizeof(long),
			       GFP_KERNEL_ACCOUNT);
	if (!pass->left || !pass->dirty)
		return -ENOMEM;
	bitmap_fill(pass->left, pages);
	return 0;
}

/**
 * qvp_pass_free - give back what a pass has
 * @pass: the pass, which is not tracked
 */
void qvp_pass_free(struct qvp_pass *pass)
{
	kvfree(pass->left);
	kvfree(pass->dirty);
}

/**
 * qvp_pass_claim - take pages that are left
 * @pass: the pass
 * @most: number of pages at most
 * @first: gets the first page's number
 *
 * Return: number of pages, one behind the other, or 0 at the end of the pass
 */
unsigned long qvp_pass_claim(struct qvp_pass *pass, unsigned long most,
			     unsigned long *first)
{
	unsigned long end;

	spin_lock(&pass->lock);
	*first = find_next_bit(pass->left, pass->pages, pass->next);
	end = min(*first + most, pass->pages);
	end = find_next_zero_bit(pass->left, end, *first);
	bitmap_clear(pass->left, *first, end - *first);
	pass->next = end;
	spin_unlock(&pass->lock);
	return end - *first;
}

/**
 * qvp_pass_next - add what was touched to what is left
 * @q: the device
 * @pass: its session's
 *
 * Return: whether anything is left
 */
bool qvp_pass_next(struct qvp_device *q, struct qvp_pass *pass)
{
	lockdep_assert_held_write(&q->core.memory_lock);
	if (!bitmap_empty(pass->dirty, pass->pages)) {
		qvp_access_zap(q);
		bitmap_or(pass->left, pass->left, pass->dirty, pass->pages);
		bitmap_zero(pass->dirty, pass->pages);
	}
	pass->next = find_first_bit(pass->left, pass->pages);
	return pass->next < pass->pages;
}

/**
 * qvp_pass_left - tell how much a pass still has to bring
 * @pass: the pass
 *
 * Return: bytes; others can change it meanwhile
 */
u64 qvp_pass_left(const struct qvp_pass *pass)
{
	return (u64)bitmap_weight(pass->left, pass->pages) * VFIO_RECORD_ALIGN;
}

/**
 * qvp_pass_dirty - tell how much the next pass would have
 * @pass: the pass
 *
 * What is still left of this one is not counted for a second time.
 *
 * Return: bytes; others can change it meanwhile
 */
u64 qvp_pass_dirty(const struct qvp_pass *pass)
{
	return (u64)bitmap_weight_andnot(pass->dirty, pass->left, pass->pages) *
	       VFIO_RECORD_ALIGN;
}

/**
 * qvp_pass_track - mark pages from now on
 * @q: the device
 * @pass: what to mark them in, or NULL for no more of that
 */
void qvp_pass_track(struct qvp_device *q, struct qvp_pass *pass)
{
	lockdep_assert_held_write(&q->core.memory_lock);
	if (pass)
		qvp_access_zap(q);
	q->tracked = pass;
}

/**
 * qvp_pass_mark - mark pages, if they are tracked
 * @q: the device
 * @first: first page of the memory that somebody may write to
 * @count: number of pages
 */
void qvp_pass_mark(struct qvp_device *q, unsigned long first,
		   unsigned long count)
{
	struct qvp_pass *pass = q->tracked;
	unsigned long page;
	bool more = false;

	lockdep_assert_held_read(&q->core.memory_lock);
	if (!pass)
		return;
	for (page = first; page < first + count; page++)
		more |= !test_and_set_bit(page, pass->dirty);
	if (more && wq_has_sleeper(&q->changed))
		wake_up_interruptible(&q->changed);
}

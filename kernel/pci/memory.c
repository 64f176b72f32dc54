// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device's memory and registers, as the driver reaches them
 *
 * Streams come here chunk by chunk.  A chunk sees the device in D0 with memory
 * decoding on, which it turns on if need be: a paused guest may have left it
 * off.  The end of the session puts back what the user wants to have.
 */

#include <linux/io.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "qvp.h"

static unsigned long bar_pages(struct qvp_device *q)
{
	return q->size / VFIO_RECORD_ALIGN;
}

static int check_bar(struct pci_dev *pdev, unsigned int bar, u64 least,
		     u64 multiple)
{
	u64 size = pci_resource_len(pdev, bar);

	if (pci_resource_flags(pdev, bar) & IORESOURCE_MEM &&
	    pci_resource_start(pdev, bar) && size >= least &&
	    !(size % multiple))
		return 0;
	pci_err(pdev, "BAR %u has %llu bytes, not a multiple of %llu and at least %llu\n",
		bar, size, multiple, least);
	return -ENODEV;
}

/**
 * qvp_memory_map - map the device's BARs
 * @q: the device, before it is registered
 * @pdev: its PCI device
 *
 * The memory BAR is mapped before vfio-pci maps it uncached, and stays mapped
 * until the driver goes, so that the two agree on the memory type.
 *
 * Return: 0 or an error
 */
int qvp_memory_map(struct qvp_device *q, struct pci_dev *pdev)
{
	const struct qvp_backend *backend = q->backend;
	unsigned int bar = backend->memory_bar;
	int ret;

	ret = check_bar(pdev, bar, PAGE_SIZE, PAGE_SIZE);
	if (!ret)
		ret = check_bar(pdev, backend->register_bar,
				backend->register_size, 1);
	if (ret)
		return ret;

	q->size = pci_resource_len(pdev, bar);
	q->claimed = kvcalloc(BITS_TO_LONGS(bar_pages(q)), sizeof(long),
			      GFP_KERNEL);
	if (!q->claimed)
		return -ENOMEM;
	q->memory = memremap(pci_resource_start(pdev, bar), q->size,
			     MEMREMAP_WC);
	if (!q->memory)
		goto out_free;
	q->registers = pci_iomap(pdev, backend->register_bar, 0);
	if (!q->registers)
		goto out_unmap;
	return 0;

out_unmap:
	memunmap(q->memory);
out_free:
	kvfree(q->claimed);
	return -ENOMEM;
}

/**
 * qvp_memory_unmap - undo qvp_memory_map()
 * @q: the device, which has no session any more
 */
void qvp_memory_unmap(struct qvp_device *q)
{
	pci_iounmap(q->core.pdev, q->registers);
	memunmap(q->memory);
	kvfree(q->claimed);
}

static bool in_d0(struct qvp_device *q)
{
	struct pci_dev *pdev = q->core.pdev;

	if (pdev->current_state == PCI_D0)
		return true;
	dev_err_ratelimited(&pdev->dev, "memory is out of reach in %s\n",
			    pci_power_name(pdev->current_state));
	return false;
}

/* A reset of the link, after an error, takes them, and nobody puts them back. */
static bool has_bars(struct qvp_device *q)
{
	unsigned int bar = q->backend->memory_bar;
	int where = PCI_BASE_ADDRESS_0 + 4 * bar;
	struct pci_dev *pdev = q->core.pdev;
	u32 low, high = 0;

	pci_read_config_dword(pdev, where, &low);
	if (pci_resource_flags(pdev, bar) & IORESOURCE_MEM_64)
		pci_read_config_dword(pdev, where + 4, &high);
	low &= PCI_BASE_ADDRESS_MEM_MASK;
	return ((u64)high << 32 | low) == pci_bus_address(pdev, bar);
}

static u16 get_command(struct qvp_device *q)
{
	u16 command;

	pci_read_config_word(q->core.pdev, PCI_COMMAND, &command);
	return command;
}

static void set_command(struct qvp_device *q, u16 command)
{
	pci_write_config_word(q->core.pdev, PCI_COMMAND, command);
}

/**
 * qvp_memory_enable - make the BARs answer
 * @q: the device
 *
 * The config space is locked against a reset, which would have what it puts
 * back overwritten.  With chunk_lock held, this could wait for a reset forever.
 *
 * Return: 0, or -EIO in a low power state, or without a device or its BARs
 */
int qvp_memory_enable(struct qvp_device *q)
{
	u16 command;
	int ret = 0;

	lockdep_assert_held_write(&q->core.memory_lock);
	if (!in_d0(q))
		return -EIO;
	pci_cfg_access_lock(q->core.pdev);
	command = get_command(q);
	if (!has_bars(q)) {
		ret = -EIO;
	} else if (!(command & PCI_COMMAND_MEMORY)) {
		if (!qvp_memory_forced(q->decoding))
			WRITE_ONCE(q->decoding, q->decoding + 1);
		set_command(q, command | PCI_COMMAND_MEMORY);
	}
	pci_cfg_access_unlock(q->core.pdev);
	return ret;
}

/**
 * qvp_memory_restore - put memory decoding back to what the user wants
 * @q: the device
 *
 * Waits for a reset as qvp_memory_enable() does.
 */
void qvp_memory_restore(struct qvp_device *q)
{
	lockdep_assert_held_write(&q->core.memory_lock);
	if (!qvp_memory_forced(q->decoding))
		return;
	if (!(q->core.vconfig[PCI_COMMAND] & PCI_COMMAND_MEMORY)) {
		pci_cfg_access_lock(q->core.pdev);
		set_command(q, get_command(q) & ~PCI_COMMAND_MEMORY);
		pci_cfg_access_unlock(q->core.pdev);
	}
	WRITE_ONCE(q->decoding, q->decoding + 1);
}

/**
 * qvp_memory_release - put memory decoding back between two chunks
 * @s: the session, of a device that runs
 *
 * A guest that has turned it off finds it so again.
 */
void qvp_memory_release(struct qvp_session *s)
{
	struct qvp_device *q = s->q;

	if (!qvp_memory_forced(READ_ONCE(q->decoding)))
		return;
	down_write(&q->core.memory_lock);
	if (!qvp_session_over(s))
		qvp_memory_restore(q);
	up_write(&q->core.memory_lock);
}

static bool is_enabled(struct qvp_device *q)
{
	u16 command = get_command(q);

	return q->core.pdev->current_state == PCI_D0 &&
	       !PCI_POSSIBLE_ERROR(command) && command & PCI_COMMAND_MEMORY;
}

static int enable_for(struct qvp_session *s)
{
	struct qvp_device *q = s->q;
	int ret;

	down_write(&q->core.memory_lock);
	ret = qvp_session_over(s) ? -ENODEV : qvp_memory_enable(q);
	if (ret)
		up_write(&q->core.memory_lock);
	else
		downgrade_write(&q->core.memory_lock);
	return ret;
}

/**
 * qvp_memory_begin - begin a chunk
 * @s: the session
 *
 * Until qvp_memory_end() the session lasts and the BARs answer.  No user
 * memory may be touched, and nobody else may use the device in ways that need
 * memory_lock for writing: be short.
 *
 * Return: 0, -ENODEV if the session is over, -EIO in a low power state or
 * without a device
 */
int qvp_memory_begin(struct qvp_session *s)
{
	struct qvp_device *q = s->q;
	int ret = 0;

	down_read(&q->core.memory_lock);
	if (qvp_session_over(s) || !is_enabled(q)) {
		up_read(&q->core.memory_lock);
		ret = enable_for(s);
		if (ret)
			return ret;
	}
	down_read(&q->chunk_lock);
	if (qvp_session_over(s)) {
		up_read(&q->chunk_lock);
		up_read(&q->core.memory_lock);
		return -ENODEV;
	}
	return 0;
}

/**
 * qvp_memory_end - end a chunk
 * @s: the session
 */
void qvp_memory_end(struct qvp_session *s)
{
	up_read(&s->q->chunk_lock);
	up_read(&s->q->core.memory_lock);
}

/**
 * qvp_memory_zero - clear a part of the memory
 * @q: the device, with memory decoding on
 * @offset: first byte
 * @len: number of bytes
 */
void qvp_memory_zero(struct qvp_device *q, u64 offset, u64 len)
{
	while (len) {
		u64 n = min(len, SZ_1M);

		memset(q->memory + offset, 0, n);
		offset += n;
		len -= n;
		cond_resched();
	}
}

/**
 * qvp_memory_wipe - clear what an unfinished load claimed
 * @q: the device
 *
 * Without D0 or its BARs it stays claimed until a reset, a close or an open
 * finds the device with them.
 *
 * Context: no reset is under way and memory_lock is held for writing, or the
 * caller is the reset.
 */
void qvp_memory_wipe(struct qvp_device *q)
{
	unsigned long pages = bar_pages(q), begin, end;
	u16 command;

	lockdep_assert_held_write(&q->chunk_lock);
	if (bitmap_empty(q->claimed, pages) || !in_d0(q) || !has_bars(q))
		return;
	command = get_command(q);
	set_command(q, command | PCI_COMMAND_MEMORY);
	for_each_set_bitrange(begin, end, q->claimed, pages)
		qvp_memory_zero(q, (u64)begin * VFIO_RECORD_ALIGN,
				(u64)(end - begin) * VFIO_RECORD_ALIGN);
	/* A reset of the link waits for nobody. */
	if (!has_bars(q))
		return;
	bitmap_zero(q->claimed, pages);
	set_command(q, command);
}

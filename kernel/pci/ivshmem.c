// SPDX-License-Identifier: GPL-2.0-only
/*
 * ivshmem-plain: shared memory, and two registers that do nothing
 *
 * The memory belongs to whoever made it, so it is not cleared.  Of one that is
 * shared with others, what those write meanwhile may or may not be in a stream.
 */

#include "qvp.h"

enum {
	INTRMASK	= 0x0,
	INTRSTATUS	= 0x4,	/* reading clears it */
	REGISTER_SIZE	= 0x100,
};

/* Numbers in a register record */
enum {
	MASK,
	STATUS,
	REGISTERS,
};

static int check(struct pci_dev *pdev)
{
	if (!pdev->msix_cap)
		return 0;
	pci_err(pdev, "ivshmem-doorbell cannot be migrated: its peers' eventfds are elsewhere\n");
	return -ENODEV;
}

static void save(struct qvp_device *q, u32 *values)
{
	values[MASK] = ioread32(q->registers + INTRMASK);
	values[STATUS] = ioread32(q->registers + INTRSTATUS);
	iowrite32(values[STATUS], q->registers + INTRSTATUS);
}

static int load(struct qvp_device *q, const u32 *values)
{
	iowrite32(values[MASK], q->registers + INTRMASK);
	iowrite32(values[STATUS], q->registers + INTRSTATUS);
	return 0;
}

const struct qvp_backend qvp_ivshmem_backend = {
	.memory_bar = 2,
	.register_bar = 0,
	.register_size = REGISTER_SIZE,
	.registers = REGISTERS,
	.check = check,
	.save = save,
	.load = load,
};

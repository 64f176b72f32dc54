// SPDX-License-Identifier: GPL-2.0-only
/*
 * bochs-display: video memory and the registers of the Bochs "dispi" interface
 *
 * The device keeps what is written to a dispi register, whatever it is, and
 * the byte order if it is one of two.  What the screen shows follows from them.
 */

#include "qvp.h"

enum {
	DISPI		= 0x500,	/* 16 bits each */
	BYTE_ORDER	= 0x604,	/* 32 bits */
	REGISTER_SIZE	= 0x1000,
};

#define ORDER_LITTLE	0x1e1e1e1eU
#define ORDER_BIG	0xbebebebeU

/* Numbers in a register record; all but the last are dispi indexes, too */
enum {
	ID			= 0,	/* read-only */
	XRES			= 1,
	ENABLE			= 4,
	Y_OFFSET		= 9,
	VIDEO_MEMORY_64K	= 10,	/* read-only */
	ORDER			= 11,
	REGISTERS
};

static void __iomem *dispi(struct qvp_device *q, unsigned int index)
{
	return q->registers + DISPI + 2 * index;
}

/* VGA and secondary-vga have the same ids, and the latter the same class. */
static int check(struct pci_dev *pdev)
{
	if (pci_is_pcie(pdev))
		return 0;
	pci_err(pdev, "not a bochs-display behind a PCI Express port; VGA and secondary-vga cannot be migrated\n");
	return -ENODEV;
}

/* Last comes what turns the display on. */
static void write_registers(struct qvp_device *q, const u32 *values)
{
	unsigned int i;

	iowrite16(0, dispi(q, ENABLE));
	iowrite32(values[ORDER], q->registers + BYTE_ORDER);
	for (i = XRES; i <= Y_OFFSET; i++)
		if (i != ENABLE)
			iowrite16(values[i], dispi(q, i));
	iowrite16(values[ENABLE], dispi(q, ENABLE));
}

static void clear(struct qvp_device *q)
{
	static const u32 values[REGISTERS] = { [ORDER] = ORDER_LITTLE };

	write_registers(q, values);
	qvp_memory_zero(q, 0, q->size);
}

static void save(struct qvp_device *q, u32 *values)
{
	unsigned int i;

	for (i = ID; i <= VIDEO_MEMORY_64K; i++)
		values[i] = ioread16(dispi(q, i));
	values[ORDER] = ioread32(q->registers + BYTE_ORDER);
}

/* Identity is in the registers, too: the size of the memory, as it is shown. */
static int refuse(struct qvp_device *q, const char *name, u32 value, u32 want)
{
	dev_err_ratelimited(&q->core.pdev->dev,
			    "load: register %s is %#x and must be %#x\n", name,
			    value, want);
	return -EINVAL;
}

static int load(struct qvp_device *q, const u32 *values)
{
	u32 id = ioread16(dispi(q, ID));
	u32 memory = ioread16(dispi(q, VIDEO_MEMORY_64K));
	unsigned int i;

	if (values[ID] != id)
		return refuse(q, "ID", values[ID], id);
	if (values[VIDEO_MEMORY_64K] != memory)
		return refuse(q, "VIDEO_MEMORY_64K", values[VIDEO_MEMORY_64K],
			      memory);
	for (i = XRES; i <= Y_OFFSET; i++)
		if (values[i] > U16_MAX)
			return refuse(q, "of 16 bits", values[i],
				      values[i] & U16_MAX);
	if (values[ORDER] != ORDER_BIG && values[ORDER] != ORDER_LITTLE)
		return refuse(q, "BYTE_ORDER", values[ORDER], ORDER_LITTLE);
	write_registers(q, values);
	return 0;
}

const struct qvp_backend qvp_bochs_backend = {
	.memory_bar = 0,
	.register_bar = 2,
	.register_size = REGISTER_SIZE,
	.registers = REGISTERS,
	.check = check,
	.clear = clear,
	.save = save,
	.load = load,
};

// SPDX-License-Identifier: GPL-2.0-only
/*
 * What runs in a guest of a stock QEMU: a multiboot kernel that paints a picture
 * on a bochs-display, fills the memory of an ivshmem, and goes on changing that
 * here and there.  It needs no more than firmware that has placed the BARs, and
 * has set the timer to 18 Hz.
 *
 * Multiboot: https://www.gnu.org/software/grub/manual/multiboot/multiboot.html
 * Display: docs/specs/standard-vga.rst of QEMU, "MMIO area spec"
 */
#include <stdint.h>

#define MULTIBOOT_MAGIC		0x1badb002
#define STACK_SIZE		4096
#define WIDTH			640
#define HEIGHT			480
#define TIMER			8	/* vector of IRQ 0, as firmware has left it */
#define WRITES			50	/* at each tick */

/* Of the dispi registers, at 0x500 of the register BAR, 16 bits each */
enum {
	XRES = 1,
	YRES,
	BPP,
	ENABLE,
};

/* magic, flags, checksum */
__attribute__((used, section(".multiboot"), aligned(4)))
static const uint32_t header[] = { MULTIBOOT_MAGIC, 0, -MULTIBOOT_MAGIC };

uint8_t stack[STACK_SIZE] __attribute__((aligned(16)));

/* What an interrupt needs: flat segments for code, 8, and for data, 16 */
__attribute__((used)) static const uint64_t gdt[] = {
	0, 0x00cf9b000000ffff, 0x00cf93000000ffff,
};

static uint64_t idt[TIMER + 1];

struct table {
	uint16_t limit;
	const void *address;
} __attribute__((packed));

__attribute__((used)) static const struct table gdtr = { sizeof(gdt) - 1, gdt };
static const struct table idtr = { sizeof(idt) - 1, idt };

__asm__(".globl _start\n"
	"_start:\n"
	"	movl $stack + 4096, %esp\n"
	"	lgdt gdtr\n"
	"	ljmp $8, $1f\n"
	"1:	movl $16, %eax\n"
	"	movl %eax, %ds\n"
	"	movl %eax, %es\n"
	"	movl %eax, %ss\n"
	"	call run\n");

__attribute__((naked)) static void tick(void)
{
	__asm__("pushl %eax\n"
		"movb $0x20, %al\n"	/* end of interrupt */
		"outb %al, $0x20\n"
		"popl %eax\n"
		"iret");
}

static void outl(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}

static uint32_t inl(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static void outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static uint32_t config(unsigned int slot, unsigned int reg)
{
	outl(0xcf8, 1u << 31 | slot << 11 | reg);
	return inl(0xcfc);
}

static volatile void *bar(unsigned int slot, unsigned int n)
{
	return (volatile void *)(uintptr_t)(config(slot, 0x10 + 4 * n) & ~15u);
}

static uint64_t bar_size(unsigned int slot, unsigned int n)
{
	unsigned int reg = 0x10 + 4 * n;
	uint32_t old = config(slot, reg), mask;

	outl(0xcfc, ~0u);
	mask = config(slot, reg) & ~15u;
	outl(0xcfc, old);
	return -mask;
}

static uint32_t random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

struct device {
	volatile uint32_t *memory;
	uint32_t size;
	uint32_t seed;
};

static struct device devices[32];
static unsigned int count;

static void paint(volatile uint16_t *dispi, volatile uint32_t *pixels)
{
	dispi[ENABLE] = 0;
	dispi[XRES] = WIDTH;
	dispi[YRES] = HEIGHT;
	dispi[BPP] = 32;
	dispi[ENABLE] = 0x41;	/* on, linear frame buffer */
	for (unsigned int y = 0; y < HEIGHT; y++)
		for (unsigned int x = 0; x < WIDTH; x++)
			pixels[y * WIDTH + x] = x * 255 / WIDTH << 16 |
						y * 255 / HEIGHT << 8 |
						((x ^ y) & 0xff);
}

static void fill(struct device *device)
{
	for (uint32_t i = 0; i < device->size / 4; i++)
		device->memory[i] = random(&device->seed);
}

static void find(void)
{
	for (unsigned int slot = 0; slot < 32; slot++) {
		uint32_t id = config(slot, 0), command = config(slot, 4);
		struct device *device = &devices[count];
		unsigned int n = id == 0x11101af4 ? 2 : 0;

		if (id != 0x11101af4 && id != 0x11111234)
			continue;
		device->size = bar_size(slot, n);
		device->memory = bar(slot, n);
		device->seed = slot + 1;
		config(slot, 4);
		outl(0xcfc, command | 2);
		if (n) {
			fill(device);
			/* its register, IntrMask */
			*(volatile uint32_t *)bar(slot, 0) = 0x5eed0000 + slot;
		} else {
			paint((void *)((uintptr_t)bar(slot, 2) + 0x500),
			      device->memory);
			device->size = 0;
		}
		count++;
	}
}

/* Only the timer ends a rest: a guest that never rests takes all of a CPU. */
static void start_timer(void)
{
	uint32_t handler = (uintptr_t)tick;

	/* an interrupt gate into segment 8 */
	idt[TIMER] = (uint64_t)(handler >> 16) << 48 | 0x8e00ull << 32 |
		     8 << 16 | (handler & 0xffff);
	__asm__ volatile("lidt %0" : : "m"(idtr));
	outb(0x21, 0xfe);
}

static void rest(void)
{
	__asm__ volatile("sti; hlt; cli" : : : "memory");
}

/* What says "ready" is QEMU's -debugcon. */
__attribute__((used)) void run(void)
{
	find();
	start_timer();
	outb(0xe9, '0' + count);
	outb(0xe9, '\n');
	for (;;) {
		for (unsigned int i = 0; i < count * WRITES; i++) {
			struct device *device = &devices[i % count];
			uint32_t at = random(&device->seed) & 0x3fffff;

			if (at < device->size / 4)
				device->memory[at] = device->seed;
		}
		rest();
	}
}

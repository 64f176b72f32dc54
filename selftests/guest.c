// SPDX-License-Identifier: GPL-2.0-only
/* The guest of the reference VMM: devices, memory, and a vCPU per device */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "guest.h"
#include "xxh64.h"

#define RAM_SIZE	(2u << 20)
#define RAM_IOVA	0x100000
#define PAGE		4096u
#define MAX_REGISTERS	16

/* RAM stays with the process: moving it is not what this VMM is about */
static int map_ram(struct guest *guest)
{
	void *ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (ram == MAP_FAILED)
		return -errno;
	return vfio_dma_map(&guest->container, ram, RAM_IOVA, RAM_SIZE);
}

/* The addresses of the devices are in their vfio.bdf */
int guest_open(struct guest *guest)
{
	int ret;

	ret = vfio_container_open(&guest->container);
	if (ret) {
		fprintf(stderr, "neither /dev/iommu nor /dev/vfio/vfio: %s\n",
			strerror(-ret));
		return ret;
	}
	for (unsigned int i = 0; i < guest->count; i++) {
		struct guest_device *device = &guest->device[i];
		char bdf[VFIO_BDF_SIZE];

		memcpy(bdf, device->vfio.bdf, sizeof(bdf));
		ret = vfio_device_open(&device->vfio, &guest->container, bdf);
		if (!ret)
			ret = config_init(&device->config, &device->vfio);
		if (ret) {
			fprintf(stderr, "%s cannot be opened: %s\n", bdf,
				strerror(-ret));
			return ret;
		}
	}
	return map_ram(guest);
}

/* About every fourth page is zero, as much of a real memory is */
static int fill_device(struct guest_device *device, uint64_t seed)
{
	uint64_t dice = seed;

	for (uint64_t at = 0; at < device->vfio.size; at += PAGE) {
		if (vfio_random(&dice) % 4)
			vfio_fill(device->vfio.map + at, PAGE, dice);
		else
			memset(device->vfio.map + at, 0, PAGE);
	}
	device->seed = dice;
	return vfio_registers_fill(&device->vfio, seed) ?:
	       config_fill(&device->config, &device->vfio, seed);
}

int guest_fill(struct guest *guest, uint64_t seed)
{
	int ret = 0;

	for (unsigned int i = 0; i < guest->count && !ret; i++)
		ret = fill_device(&guest->device[i], seed + i);
	return ret;
}

/* Stores all over the memory, now and then to the registers */
static void *run_vcpu(void *arg)
{
	struct guest_device *device = arg;
	uint64_t words = device->vfio.size / sizeof(uint64_t);
	volatile uint64_t *memory = (void *)device->vfio.map;

	while (!device->pause && !device->error) {
		memory[vfio_random(&device->seed) % words] = device->seed;
		if (device->stores++ % 1024 == 0)
			device->error = vfio_registers_fill(&device->vfio,
							    device->seed);
	}
	return NULL;
}

int guest_run(struct guest *guest)
{
	for (unsigned int i = 0; i < guest->count; i++) {
		struct guest_device *device = &guest->device[i];
		int ret;

		device->pause = false;
		ret = pthread_create(&device->vcpu, NULL, run_vcpu, device);
		if (ret)
			return -ret;
	}
	return 0;
}

int guest_pause(struct guest *guest)
{
	int ret = 0;

	for (unsigned int i = 0; i < guest->count; i++)
		guest->device[i].pause = true;
	for (unsigned int i = 0; i < guest->count; i++) {
		pthread_join(guest->device[i].vcpu, NULL);
		ret = ret ?: guest->device[i].error;
	}
	return ret;
}

/*
 * Of all that must be equal at both hosts, by this process's own reads; with
 * the config state if that was moved as well
 */
int guest_digest(struct guest_device *device, bool config, uint64_t *digest)
{
	struct vfio_register regs[MAX_REGISTERS];
	struct xxh64 state;
	int ret;

	ret = vfio_registers_read(&device->vfio, regs);
	if (ret)
		return ret;
	xxh64_init(&state);
	xxh64_update(&state, device->vfio.map, device->vfio.size);
	xxh64_update(&state, regs, vfio_registers_count(device->vfio.kind) *
		     sizeof(regs[0]));
	if (config)
		ret = config_digest(&device->config, &device->vfio, &state);
	*digest = xxh64_final(&state);
	return ret;
}

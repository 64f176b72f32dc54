// SPDX-License-Identifier: GPL-2.0-only
/* The VMM's config state on devices that have something to restore */
#include <errno.h>
#include <sys/ioctl.h>
#include <linux/pci_regs.h>

#include "config.h"
#include "harness.h"
#include "testing.h"

FIXTURE(config) {
	struct vfio_device source;
	struct vfio_device target;
	struct config at_source;
	struct config at_target;
	struct config_blob blob;
};

FIXTURE_VARIANT(config) {
	const struct vfio_kind *kind;
};

FIXTURE_VARIANT_ADD(config, ivshmem) { .kind = &vfio_ivshmem_4k };
FIXTURE_VARIANT_ADD(config, msix) { .kind = &vfio_virtio_rng };

FIXTURE_SETUP(config)
{
	TESTING_OPEN(&self->source, variant->kind, 0);
	TESTING_OPEN(&self->target, variant->kind, 1);
	ASSERT_EQ(0, config_init(&self->at_source, &self->source));
	ASSERT_EQ(0, config_init(&self->at_target, &self->target));
}

FIXTURE_TEARDOWN(config)
{
	testing_close(&self->source);
	testing_close(&self->target);
}

static uint64_t digest(struct config *config, struct vfio_device *dev)
{
	struct xxh64 state;

	xxh64_init(&state);
	return config_digest(config, dev, &state) ? 0 : xxh64_final(&state);
}

/* Has the VMM's eventfd seen the interrupt that the device is made to send? */
static bool fires(struct config *config, struct vfio_device *dev,
		  unsigned int vector)
{
	struct vfio_irq_set set = {
		.argsz = sizeof(set),
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = VFIO_PCI_MSIX_IRQ_INDEX,
		.start = vector,
		.count = 1,
	};
	uint64_t count;

	return !ioctl(dev->fd, VFIO_DEVICE_SET_IRQS, &set) &&
	       read(config->irq[vector], &count, sizeof(count)) > 0;
}

TEST_F(config, survives)
{
	if (variant->kind == &vfio_virtio_rng)
		ASSERT_LT(0, self->at_source.vectors);
	ASSERT_EQ(0, config_fill(&self->at_source, &self->source, 3));
	ASSERT_EQ(0, vfio_command_set(&self->source, PCI_COMMAND_MASTER,
				      false));
	ASSERT_EQ(0, config_save(&self->at_source, &self->source,
				 &self->blob));
	EXPECT_NE(digest(&self->at_source, &self->source),
		  digest(&self->at_target, &self->target));

	ASSERT_EQ(0, config_restore(&self->at_target, &self->target,
				    &self->blob));
	EXPECT_EQ(digest(&self->at_source, &self->source),
		  digest(&self->at_target, &self->target));
	EXPECT_EQ(self->at_source.vectors, self->at_target.enabled);
	for (unsigned int i = 0; i < self->at_target.enabled; i++)
		EXPECT_TRUE(fires(&self->at_target, &self->target, i));
}

TEST_F(config, of_another_device)
{
	ASSERT_EQ(0, config_save(&self->at_source, &self->source,
				 &self->blob));
	self->blob.space[PCI_REVISION_ID]++;
	EXPECT_EQ(-EINVAL, config_restore(&self->at_target, &self->target,
					  &self->blob));
	self->blob.space[PCI_REVISION_ID]--;
	self->blob.vectors++;
	EXPECT_EQ(-EINVAL, config_restore(&self->at_target, &self->target,
					  &self->blob));
	self->blob.vectors--;
	EXPECT_EQ(0, config_restore(&self->at_target, &self->target,
				    &self->blob));
}

TEST_HARNESS_MAIN

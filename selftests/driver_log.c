// SPDX-License-Identifier: GPL-2.0-only
/* DMA logging of devices that do no DMA */
#include <errno.h>

#include "harness.h"
#include "testing.h"

#define PAGE	4096
#define IOVA	(4 << 20)
#define PAGES	512
#define WORDS	(PAGES / 64)
#define MARK	0x5a5a0000ffff1234ull

FIXTURE(log) {
	struct vfio_device dev;
};

FIXTURE_VARIANT(log) {
	const struct vfio_kind *kind;
};

FIXTURE_VARIANT_ADD(log, ivshmem) { .kind = &vfio_ivshmem_4k };
FIXTURE_VARIANT_ADD(log, bochs) { .kind = &vfio_bochs };

static int probe(struct vfio_device *dev, uint32_t feature)
{
	return vfio_feature(dev, VFIO_DEVICE_FEATURE_PROBE | feature, &feature,
			    0);
}

FIXTURE_SETUP(log)
{
	int ret;

	TESTING_OPEN(&self->dev, variant->kind, 0);
	ret = probe(&self->dev, VFIO_DEVICE_FEATURE_SET |
		    VFIO_DEVICE_FEATURE_DMA_LOGGING_START);
	if (ret == -ENOTTY)
		SKIP(return, "this kernel has no iova bitmap");
	ASSERT_EQ(0, ret);
}

FIXTURE_TEARDOWN(log)
{
	testing_close(&self->dev);
}

static int start(struct vfio_device *dev, uint64_t page_size)
{
	struct vfio_device_feature_dma_logging_range range = {
		.iova = IOVA,
		.length = PAGES * PAGE,
	};
	struct vfio_device_feature_dma_logging_control control = {
		.page_size = page_size,
		.num_ranges = 1,
		.ranges = (uintptr_t)&range,
	};

	return vfio_feature(dev, VFIO_DEVICE_FEATURE_SET |
			    VFIO_DEVICE_FEATURE_DMA_LOGGING_START, &control,
			    sizeof(control));
}

static int stop(struct vfio_device *dev)
{
	return vfio_feature(dev, VFIO_DEVICE_FEATURE_SET |
			    VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, NULL, 0);
}

static int report(struct vfio_device *dev, uint64_t *bitmap)
{
	struct vfio_device_feature_dma_logging_report report = {
		.iova = IOVA,
		.length = PAGES * PAGE,
		.page_size = PAGE,
		.bitmap = (uintptr_t)bitmap,
	};

	return vfio_feature(dev, VFIO_DEVICE_FEATURE_GET |
			    VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, &report,
			    sizeof(report));
}

TEST_F(log, probe)
{
	struct vfio_device *dev = &self->dev;

	EXPECT_EQ(0, probe(dev, VFIO_DEVICE_FEATURE_SET |
			   VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP));
	EXPECT_EQ(0, probe(dev, VFIO_DEVICE_FEATURE_GET |
			   VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT));
}

/* What the VMM has marked by itself stays, and nothing comes to it. */
TEST_F(log, nothing)
{
	uint64_t bitmap[WORDS] = { MARK, 0 };

	ASSERT_EQ(0, start(&self->dev, PAGE));
	self->dev.map[0]++;
	for (unsigned int i = 0; i < 3; i++) {
		EXPECT_EQ(0, report(&self->dev, bitmap));
		EXPECT_EQ(MARK, bitmap[0]);
		for (unsigned int n = 1; n < WORDS; n++)
			EXPECT_EQ(0, bitmap[n]);
	}
	EXPECT_EQ(0, stop(&self->dev));
}

TEST_F(log, order)
{
	struct vfio_device *dev = &self->dev;
	uint64_t bitmap[WORDS] = {};

	EXPECT_EQ(-EINVAL, report(dev, bitmap));
	EXPECT_EQ(0, stop(dev));
	EXPECT_EQ(-EINVAL, start(dev, 0));
	EXPECT_EQ(-EINVAL, start(dev, 3 * PAGE));
	EXPECT_EQ(0, start(dev, PAGE));
	EXPECT_EQ(-EBUSY, start(dev, PAGE));
	EXPECT_EQ(0, report(dev, bitmap));
	EXPECT_EQ(0, stop(dev));
	EXPECT_EQ(-EINVAL, report(dev, bitmap));
	EXPECT_EQ(0, start(dev, 2 << 20));
	EXPECT_EQ(0, stop(dev));
}

/* Whoever opens the device next begins anew. */
TEST_F(log, close)
{
	uint64_t bitmap[WORDS] = {};

	ASSERT_EQ(0, start(&self->dev, PAGE));
	testing_close(&self->dev);
	ASSERT_EQ(NULL, testing_open(&self->dev, variant->kind, 0));
	EXPECT_EQ(-EINVAL, report(&self->dev, bitmap));
	EXPECT_EQ(0, start(&self->dev, PAGE));
	EXPECT_EQ(0, report(&self->dev, bitmap));
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0-only
/* Modules that are unloaded, and loaded again, while users come and go */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "harness.h"
#include "engine.h"
#include "pair.h"
#include "testing.h"

#define UNLOADS	10	/* and as many uses, at least */
#define LIMIT	200000000000ull	/* ns */

/* Who unloads @module whenever nobody holds it, on a thread of its own */
struct unloader {
	pthread_t thread;
	const char *module;
	const char *bdf;	/* a device that it is to drive again, or NULL */
	volatile unsigned int unloads;
	volatile unsigned int refusals;
	volatile bool stop;
	bool wrong;
};

static void load(struct unloader *unloader)
{
	char text[64];

	snprintf(text, sizeof(text), "modprobe %s", unloader->module);
	unloader->wrong |= system(text) ||
			   (unloader->bdf &&
			    vfio_bind(unloader->bdf, VFIO_DRIVER));
}

static void *unload(void *arg)
{
	struct unloader *unloader = arg;

	while (!unloader->stop) {
		if (!syscall(SYS_delete_module, unloader->module, O_NONBLOCK)) {
			unloader->unloads++;
			load(unloader);
		} else {
			unloader->refusals++;
			unloader->wrong |= errno != EWOULDBLOCK &&
					   errno != EBUSY;
		}
		usleep(1000);
	}
	return NULL;
}

/* Where a module is not there, or on its way, when it has its device locked */
static bool is_away(int err)
{
	return err == -ENOENT || err == -ENODEV || err == -ENXIO ||
	       err == -EAGAIN;
}

/* Uses it over and over, and counts how often it was there */
static void use(struct __test_metadata *_metadata, struct unloader *unloader,
		int (*one)(const struct unloader *unloader))
{
	uint64_t end = engine_now() + LIMIT;
	unsigned int uses = 0;
	int ret;

	ASSERT_EQ(0, pthread_create(&unloader->thread, NULL, unload, unloader));
	while ((unloader->unloads < UNLOADS || uses < UNLOADS) &&
	       engine_now() < end) {
		ret = one(unloader);
		uses += !ret;
		EXPECT_TRUE(!ret || is_away(ret)) {
			TH_LOG("it is %s", strerror(-ret));
		}
		if (ret)
			usleep(1000);
	}
	unloader->stop = true;
	pthread_join(unloader->thread, NULL);
	EXPECT_FALSE(unloader->wrong);
	EXPECT_LE(UNLOADS, unloader->unloads);
	EXPECT_LT(0, unloader->refusals);
	EXPECT_LE(UNLOADS, uses);
}

static int use_engine(const struct unloader *unloader)
{
	int fd = engine_open(), ret;

	(void)unloader;
	if (fd < 0)
		return fd;
	ret = engine_setup(fd, VFIO_MULTIFD_SEND, 1, 0, ENGINE_PACKET);
	close(fd);
	return ret;
}

TEST(engine)
{
	struct unloader unloader = { .module = "vfio_multifd" };

	ENGINE_NEEDED();
	use(_metadata, &unloader, use_engine);
}

/* Is unloading refused, although nothing but a data fd is in use? */
static bool is_refused(const struct unloader *unloader)
{
	unsigned int unloads = unloader->unloads;
	unsigned int refusals = unloader->refusals;
	uint64_t end = engine_now() + LIMIT;

	/* the first one may have begun before */
	while (unloader->refusals < refusals + 2 &&
	       unloader->unloads == unloads && engine_now() < end)
		usleep(1000);
	return unloader->unloads == unloads &&
	       unloader->refusals >= refusals + 2;
}

/* Leaves the data fd for last: it outlives the device's user. */
static int use_driver(const struct unloader *unloader)
{
	struct vfio_container container;
	struct vfio_device dev;
	char byte;
	int fd, ret;

	ret = vfio_container_open(&container);
	if (ret)
		return ret;
	ret = vfio_device_open(&dev, &container, unloader->bdf);
	if (ret) {
		vfio_container_close(&container);
		return ret;
	}
	dev.container = container;
	ret = vfio_mig_set_state(&dev, VFIO_DEVICE_STATE_STOP_COPY, &fd);
	testing_close(&dev);
	if (ret)
		return ret;
	if (!is_refused(unloader))
		ret = -EBUSY;
	else if (read(fd, &byte, 1) != -1 || errno != ENODEV)
		ret = -EIO;
	close(fd);
	return ret;
}

TEST(driver)
{
	struct unloader unloader = { .module = VFIO_DRIVER };
	struct vfio_device dev;
	struct pair pair = {};
	const char *broken;

	TESTING_OPEN(&dev, &vfio_ivshmem_1m, 0);
	testing_close(&dev);
	unloader.bdf = dev.bdf;
	use(_metadata, &unloader, use_driver);
	ASSERT_EQ(NULL, pair_open(&pair, &vfio_ivshmem_1m));
	broken = pair_try(&pair);
	EXPECT_STREQ("", broken ? broken : "");
	pair_close(&pair);
}

TEST_HARNESS_MAIN

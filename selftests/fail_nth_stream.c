// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device's state goes from driver to driver by the engine, and the memory of
 * one of the threads fails: the other end is told, and nothing is half loaded
 */
#include "harness.h"
#include "engine.h"
#include "fail_nth.h"
#include "kmemleak.h"
#include "pair.h"
#include "testing.h"

#define KIND		(&vfio_ivshmem_1m)
#define CHANNELS	2
#define MOST		20
#define PACKET		(1 << 16)
#define CONFIG_SIZE	6000

enum {
	SOURCE,
	TARGET,
};

/* A thread of a transfer; @sweep is NULL if nothing is to fail. */
struct runner {
	pthread_t thread;
	int fd;
	uint32_t id;
	struct fail_nth *sweep;
	int ret;
};

/* Two devices and two transfers, each first the source's */
struct rig {
	struct pair pair;
	uint8_t *config;
	unsigned int channels;	/* of the transfers */
	uint64_t features;
	uint32_t flags;		/* of the devices in them */
	int fd[2];
	struct runner runner[2][CHANNELS];
	struct vfio_multifd_status status[2];
};

FIXTURE(stream) {
	struct rig rig;
};

/*
 * A thread that is alone does all the work, so its sweep ends where nothing is
 * left to fail.  For those that share it, it ends at @most.
 */
FIXTURE_VARIANT(stream) {
	unsigned int channels;
	unsigned int most;
	uint64_t features;
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(stream, in_order) {
	.channels = 1,
};

FIXTURE_VARIANT_ADD(stream, order_free) {
	.channels = 1,
	.features = VFIO_MULTIFD_FEATURE_DIGEST |
		    VFIO_MULTIFD_FEATURE_ORDER_FREE,
	.flags = VFIO_MULTIFD_DEVICE_RECORDS,
};

FIXTURE_VARIANT_ADD(stream, shared) {
	.channels = CHANNELS,
	.most = MOST,
	.features = VFIO_MULTIFD_FEATURE_DIGEST |
		    VFIO_MULTIFD_FEATURE_ORDER_FREE,
	.flags = VFIO_MULTIFD_DEVICE_RECORDS,
};

FIXTURE_SETUP(stream)
{
	ENGINE_NEEDED();
	TESTING_SETUP(pair_open(&self->rig.pair, KIND));
	self->rig.config = engine_pattern(CONFIG_SIZE, 3);
	self->rig.channels = variant->channels;
	self->rig.features = variant->features;
	self->rig.flags = variant->flags;
}

FIXTURE_TEARDOWN(stream)
{
	EXPECT_EQ(0, vfio_device_reset(&self->rig.pair.target));
	EXPECT_RIGHT(pair_try(&self->rig.pair));
	EXPECT_TRUE(engine_wait_unused());
	pair_close(&self->rig.pair);
	free(self->rig.config);
}

static int status_of(int fd)
{
	struct vfio_multifd_status status;

	return engine_status(fd, &status) ?: (int)status.state;
}

/*
 * An error of the call alone loses nothing: call again.  -ENOMEM is one where
 * the other channels have done all the work already.
 */
static void *run(void *arg)
{
	struct runner *runner = arg;

	if (runner->sweep)
		fail_nth_arm(runner->sweep);
	runner->ret = engine_run(runner->fd, runner->id);
	if (runner->sweep)
		fail_nth_disarm(runner->sweep);
	if (fail_nth_clean(runner->ret) &&
	    status_of(runner->fd) != VFIO_MULTIFD_STATE_FAILED)
		runner->ret = engine_run(runner->fd, runner->id);
	return NULL;
}

/* Both transfers with their channels, before their devices come */
static int connect_both(struct rig *rig)
{
	int *fd = rig->fd, pair[2], ret = 0;

	for (unsigned int i = 0; !ret && i < 2; i++) {
		fd[i] = engine_open();
		ret = engine_setup(fd[i], i == SOURCE ? VFIO_MULTIFD_SEND :
				   VFIO_MULTIFD_RECV, rig->channels,
				   rig->features, PACKET);
	}
	for (unsigned int i = 0; !ret && i < rig->channels; i++) {
		ret = engine_tcp_pair(pair, 0);
		if (ret)
			break;
		ret = engine_add_channel(fd[SOURCE], pair[SOURCE], i) ?:
		      engine_add_channel(fd[TARGET], pair[TARGET], i);
		close(pair[0]);
		close(pair[1]);
	}
	return ret;
}

static int add_device(int fd, struct vfio_device *dev, uint32_t state,
		      uint32_t flags)
{
	int file, ret;

	ret = vfio_mig_set_state(dev, state, &file);
	if (ret)
		return ret;
	ret = engine_add_device_with(fd, flags, file, "dev", 0);
	close(file);
	return ret;
}

static int prepare(struct rig *rig)
{
	pair_spoil(&rig->pair);
	return connect_both(rig) ?:
	       add_device(rig->fd[SOURCE], &rig->pair.source,
			  VFIO_DEVICE_STATE_STOP_COPY, rig->flags) ?:
	       add_device(rig->fd[TARGET], &rig->pair.target,
			  VFIO_DEVICE_STATE_RESUMING, rig->flags) ?:
	       engine_set_config(rig->fd[SOURCE], 0, rig->config,
				 CONFIG_SIZE) ?:
	       engine_switchover(rig->fd[SOURCE]) ?:
	       engine_switchover(rig->fd[TARGET]);
}

/* Runs all channels to their end; @sweep is for one of the threads. */
static void run_all(struct __test_metadata *_metadata, struct rig *rig,
		    unsigned int victim, struct fail_nth *sweep)
{
	unsigned int channels = rig->channels;

	for (unsigned int i = 0; i < 2 * channels; i++) {
		struct runner *runner = &rig->runner[i / channels]
						     [i % channels];

		*runner = (struct runner) {
			.fd = rig->fd[i / channels],
			.id = i % channels,
			.sweep = i == victim ? sweep : NULL,
		};
		ASSERT_EQ(0, pthread_create(&runner->thread, NULL, run,
					    runner));
	}
	for (unsigned int i = 0; i < 2 * channels; i++)
		pthread_join(rig->runner[i / channels][i % channels].thread,
			     NULL);
}

/* What a transfer says of itself, and its threads of it; NULL or what's wrong */
static const char *check_end(struct rig *rig, unsigned int end, bool is_victim)
{
	struct vfio_multifd_status *status = &rig->status[end];
	int err;

	if (engine_status(rig->fd[end], status))
		return "no status";
	err = status->error;
	for (unsigned int i = 0; i < rig->channels; i++)
		if (rig->runner[end][i].ret != err)
			return "a thread that returns something else";
	if (status->state == VFIO_MULTIFD_STATE_DONE)
		return err || status->reason ? "an error after the end" : NULL;
	if (status->state != VFIO_MULTIFD_STATE_FAILED)
		return "neither DONE nor FAILED";
	if (is_victim)
		return err == -ENOMEM ? NULL : "another error than ENOMEM";
	if (status->reason != VFIO_MULTIFD_REASON_EOF &&
	    status->reason != VFIO_MULTIFD_REASON_SOCKET)
		return "another reason than the socket";
	return err == -ECONNRESET || err == -EPIPE ? NULL :
		"another error than that of a broken connection";
}

static const char *check_config(struct rig *rig)
{
	uint8_t config[CONFIG_SIZE];
	uint32_t size = sizeof(config);

	if (engine_get_config(rig->fd[TARGET], 0, config, &size))
		return "no config state";
	return size == CONFIG_SIZE && !memcmp(config, rig->config, size) ?
		NULL : "another config state";
}

/* The target is in STOP with what the source has, or it says that it has not */
static const char *check_target(struct rig *rig)
{
	bool done = rig->status[TARGET].state == VFIO_MULTIFD_STATE_DONE;
	struct pair *pair = &rig->pair;
	int ret;

	ret = vfio_mig_set_state(&pair->target, VFIO_DEVICE_STATE_STOP, NULL);
	if (!ret)
		return memcmp(pair->target.map, pair->source.map,
			      pair->source.size) ? "other memory" : NULL;
	if (done)
		return "it does not load";
	if (vfio_mig_state(&pair->target) != VFIO_DEVICE_STATE_ERROR)
		return "not in ERROR after a load that failed";
	return vfio_device_reset(&pair->target) ? "no reset" : NULL;
}

static void show(struct __test_metadata *_metadata, struct rig *rig,
		 unsigned int n)
{
	for (unsigned int i = 0; i < 2; i++)
		TH_LOG("n = %u, %s: state %u, error %d, reason %u, %d, %d", n,
		       i == SOURCE ? "source" : "destination",
		       rig->status[i].state, rig->status[i].error,
		       rig->status[i].reason, rig->runner[i][0].ret,
		       rig->runner[i][1].ret);
}

static bool one_run(struct __test_metadata *_metadata, struct rig *rig,
		    unsigned int victim, struct fail_nth *sweep)
{
	bool done;

	ASSERT_EQ(0, prepare(rig));
	run_all(_metadata, rig, victim, sweep);
	for (unsigned int i = 0; i < 2; i++)
		EXPECT_RIGHT(check_end(rig, i, victim / rig->channels == i));
	done = rig->status[TARGET].state == VFIO_MULTIFD_STATE_DONE;
	if (done)
		EXPECT_RIGHT(check_config(rig));
	close(rig->fd[SOURCE]);
	close(rig->fd[TARGET]);
	EXPECT_EQ(0, vfio_mig_set_state(&rig->pair.source,
					VFIO_DEVICE_STATE_STOP, NULL));
	EXPECT_RIGHT(check_target(rig));
	if (_metadata->exit_code)
		show(_metadata, rig, sweep->n);
	return done;
}

static void sweep_thread(struct __test_metadata *_metadata, struct rig *rig,
			 unsigned int victim, unsigned int most)
{
	struct fail_nth sweep = { .most = most };
	bool done = false;
	char name[64];

	while (fail_nth_next(&sweep)) {
		done = one_run(_metadata, rig, victim, &sweep);
		sweep.errors += !done;
		if (_metadata->exit_code)
			break;
	}
	EXPECT_TRUE(most || done);
	snprintf(name, sizeof(name), "%s, channel %u of %u",
		 victim / rig->channels == SOURCE ? "source" : "destination",
		 victim % rig->channels, rig->channels);
	FAIL_NTH_DONE(&sweep, name);
}

TEST_F(stream, source)
{
	for (unsigned int i = 0; i < variant->channels; i++)
		sweep_thread(_metadata, &self->rig, i, variant->most);
}

TEST_F(stream, destination)
{
	for (unsigned int i = 0; i < variant->channels; i++)
		sweep_thread(_metadata, &self->rig, variant->channels + i,
			     variant->most);
}

/* The scan takes long, so there is one, after all the others */
FIXTURE(kmemleak) {
};

FIXTURE_SETUP(kmemleak)
{
}

FIXTURE_TEARDOWN(kmemleak)
{
}

TEST_F(kmemleak, nothing)
{
	KMEMLEAK_EXPECT_NONE();
}

int main(int argc, char **argv)
{
	return fail_nth_begin() ?: test_harness_run(argc, argv);
}

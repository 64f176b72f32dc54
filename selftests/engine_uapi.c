// SPDX-License-Identifier: GPL-2.0-only
/* The engine's calls: arguments and limits */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "harness.h"
#include "engine.h"

#define ARRAY_LEN(array)	(sizeof(array) / sizeof((array)[0]))

/* Every call with a structure, and what good arguments give in state NEW */
static const struct {
	const char *name;
	unsigned int call;
	size_t size;
	int ret;
} calls[] = {
#define CALL(name, type, ret)	{					\
		#name, VFIO_MULTIFD_##name,				\
		sizeof(struct vfio_multifd_##type), ret,		\
	}
	CALL(GET_INFO, info, 0),
	CALL(SETUP, setup, 0),
	CALL(ADD_CHANNEL, channel, -EBADFD),
	CALL(ADD_DEVICE, device, -EBADFD),
	CALL(RUN_CHANNEL, run, -EBADFD),
	CALL(SET_CONFIG, config, -EBADFD),
	CALL(GET_CONFIG, config, -EBADFD),
	CALL(STATUS, status, 0),
	CALL(DEVICE_STATUS, device_status, -EBADFD),
	CALL(CONTINUE, continue, -EBADFD),
	CALL(CHANNEL_STATUS, channel_status, -EBADFD),
	CALL(REPLACE_CHANNEL, replace, -ENOTSOCK),
};

/* Any structure: argsz and flags come first in each */
union argument {
	struct {
		uint32_t argsz;
		uint32_t flags;
	};
	struct vfio_multifd_setup setup;
	struct vfio_multifd_device device;
	struct vfio_multifd_run run;
	struct vfio_multifd_device_status device_status;
	struct vfio_multifd_continue go_on;
	struct vfio_multifd_channel_status channel_status;
	struct vfio_multifd_replace replace;
	uint8_t bytes[8192];
};

static const struct vfio_multifd_setup good_setup = {
	.argsz = sizeof(good_setup),
	.role = VFIO_MULTIFD_SEND,
	.channels = 1,
	.packet_size = ENGINE_PACKET,
};

/* Makes a call's argument at @arg, right but for @argsz and @flags */
static void make_argument(union argument *arg, unsigned int call,
			  uint32_t argsz, uint32_t flags)
{
	memset(arg, 0, sizeof(*arg));
	if (call == VFIO_MULTIFD_SETUP)
		arg->setup = good_setup;
	arg->argsz = argsz;
	arg->flags = flags;
}

/* A call in a transfer of its own */
static int call_new(unsigned int call, void *arg)
{
	int fd = engine_open();
	int ret = fd < 0 ? fd : engine_call(fd, call, arg);

	close(fd);
	return ret;
}

static int call_with(unsigned int call, uint32_t argsz, uint32_t flags,
		     int tail)
{
	static union argument arg;

	make_argument(&arg, call, argsz, flags);
	if (tail >= 0)
		arg.bytes[tail] = 1;
	return call_new(call, &arg);
}

FIXTURE(uapi) {
	struct engine engine;
};

FIXTURE_SETUP(uapi)
{
	self->engine.fd = -1;
	ENGINE_NEEDED();
}

FIXTURE_TEARDOWN(uapi)
{
	engine_destroy(&self->engine);
}

TEST_F(uapi, mode)
{
	struct stat st;

	ASSERT_EQ(0, stat(ENGINE_PATH, &st));
	EXPECT_EQ(S_IFCHR | 0660, st.st_mode);
}

TEST_F(uapi, info)
{
	struct vfio_multifd_info info = { .argsz = sizeof(info) };

	ASSERT_EQ(0, call_new(VFIO_MULTIFD_GET_INFO, &info));
	EXPECT_EQ(sizeof(info), info.argsz);
	EXPECT_EQ(0, info.flags);
	EXPECT_EQ(VFIO_MULTIFD_API_VERSION, info.version);
	EXPECT_EQ(VFIO_MULTIFD_MAX_CHANNELS, info.max_channels);
	EXPECT_EQ(VFIO_MULTIFD_FEATURE_DIGEST |
		  VFIO_MULTIFD_FEATURE_ORDER_FREE |
		  VFIO_MULTIFD_FEATURE_REPLACE, info.features);
	EXPECT_EQ(VFIO_MULTIFD_MAX_DEVICES, info.max_devices);
	EXPECT_EQ(VFIO_MULTIFD_MAX_CONFIG, info.max_config);
	EXPECT_EQ(VFIO_MULTIFD_MIN_PACKET, info.min_packet);
	EXPECT_EQ(VFIO_MULTIFD_MAX_PACKET, info.max_packet);
}

TEST_F(uapi, argsz_and_flags)
{
	for (unsigned int i = 0; i < ARRAY_LEN(calls); i++) {
		unsigned int call = calls[i].call;
		size_t size = calls[i].size;
		int failed = _metadata->exit_code;

		EXPECT_EQ(calls[i].ret, call_with(call, size, 0, -1));
		EXPECT_EQ(calls[i].ret, call_with(call, size + 8, 0, -1));
		EXPECT_EQ(calls[i].ret, call_with(call, 4096, 0, -1));
		EXPECT_EQ(-EINVAL, call_with(call, 0, 0, -1));
		EXPECT_EQ(-EINVAL, call_with(call, size - 1, 0, -1));
		EXPECT_EQ(-E2BIG, call_with(call, size + 1, 0, size));
		EXPECT_EQ(-E2BIG, call_with(call, 4096, 0, 4095));
		EXPECT_EQ(-E2BIG, call_with(call, 4097, 0, -1));
		EXPECT_EQ(-E2BIG, call_with(call, ~0U, 0, -1));
		EXPECT_EQ(-EINVAL, call_with(call, size, 8, -1));
		EXPECT_EQ(-EINVAL, call_with(call, size, 1U << 31, -1));
		if (_metadata->exit_code != failed)
			TH_LOG("this was %s", calls[i].name);
	}
}

TEST_F(uapi, bad_addresses)
{
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	static union argument arg;

	ASSERT_NE(MAP_FAILED, page);
	ASSERT_EQ(0, mprotect(page + 4096, 4096, PROT_NONE));
	for (unsigned int i = 0; i < ARRAY_LEN(calls); i++) {
		unsigned int call = calls[i].call;

		EXPECT_EQ(-EFAULT, call_new(call, NULL));
		EXPECT_EQ(-EFAULT, call_new(call, page + 4096));
		EXPECT_EQ(-EFAULT, call_new(call, page + 4094));
		make_argument(&arg, call, calls[i].size, 0);
		memcpy(page + 4088, &arg, 8);
		EXPECT_EQ(-EFAULT, call_new(call, page + 4088)) {
			TH_LOG("this was %s", calls[i].name);
		}
	}
}

TEST_F(uapi, read_only_answer)
{
	union argument *page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, page);
	page->argsz = 4096;
	ASSERT_EQ(0, mprotect(page, sizeof(*page), PROT_READ));
	EXPECT_EQ(-EFAULT, call_new(VFIO_MULTIFD_GET_INFO, page));
	EXPECT_EQ(-EFAULT, call_new(VFIO_MULTIFD_STATUS, page));
}

TEST_F(uapi, reserved)
{
	union argument arg;

	make_argument(&arg, VFIO_MULTIFD_SETUP, sizeof(arg.setup), 0);
	arg.setup.reserved = 1;
	EXPECT_EQ(-EINVAL, call_new(VFIO_MULTIFD_SETUP, &arg));
	make_argument(&arg, VFIO_MULTIFD_ADD_DEVICE, sizeof(arg.device), 0);
	arg.device.reserved = 1U << 31;
	EXPECT_EQ(-EINVAL, call_new(VFIO_MULTIFD_ADD_DEVICE, &arg));
	make_argument(&arg, VFIO_MULTIFD_RUN_CHANNEL, sizeof(arg.run), 0);
	arg.run.reserved = 1;
	EXPECT_EQ(-EINVAL, call_new(VFIO_MULTIFD_RUN_CHANNEL, &arg));
	make_argument(&arg, 0, sizeof(arg.device_status), 0);
	arg.device_status.reserved = 1;
	EXPECT_EQ(-EINVAL, call_new(VFIO_MULTIFD_DEVICE_STATUS, &arg));
	make_argument(&arg, 0, sizeof(arg.go_on), 0);
	arg.go_on.reserved = 1;
	EXPECT_EQ(-EINVAL, call_new(VFIO_MULTIFD_CONTINUE, &arg));
	make_argument(&arg, 0, sizeof(arg.channel_status), 0);
	arg.channel_status.lost = 1;
	EXPECT_EQ(-EINVAL, call_new(VFIO_MULTIFD_CHANNEL_STATUS, &arg));
}

TEST_F(uapi, setup_values)
{
	static const struct {
		uint32_t role, channels, packet_size;
		uint64_t features;
		int ret;
	} cases[] = {
		{ VFIO_MULTIFD_SEND, 1, 4096, 0, 0 },
		{ VFIO_MULTIFD_RECV, 64, 4 << 20, 0, 0 },
		{ VFIO_MULTIFD_SEND, 2, 8192, VFIO_MULTIFD_FEATURE_DIGEST |
				VFIO_MULTIFD_FEATURE_ORDER_FREE, 0 },
		{ VFIO_MULTIFD_SEND, 2, 4096, VFIO_MULTIFD_FEATURE_ORDER_FREE,
		  -EINVAL },
		{ 0, 1, 4096, 0, -EINVAL },
		{ 3, 1, 4096, 0, -EINVAL },
		{ ~0U, 1, 4096, 0, -EINVAL },
		{ VFIO_MULTIFD_SEND, 0, 4096, 0, -EINVAL },
		{ VFIO_MULTIFD_SEND, 65, 4096, 0, -EINVAL },
		{ VFIO_MULTIFD_SEND, ~0U, 4096, 0, -EINVAL },
		{ VFIO_MULTIFD_SEND, 1, 0, 0, -EINVAL },
		{ VFIO_MULTIFD_SEND, 1, 2048, 0, -EINVAL },
		{ VFIO_MULTIFD_SEND, 1, 4095, 0, -EINVAL },
		{ VFIO_MULTIFD_SEND, 1, 4097, 0, -EINVAL },
		{ VFIO_MULTIFD_SEND, 1, 4096 + 512, 0, -EINVAL },
		{ VFIO_MULTIFD_SEND, 1, (4 << 20) + 4096, 0, -EINVAL },
		{ VFIO_MULTIFD_SEND, 1, 0xfffff000, 0, -EINVAL },
		{ VFIO_MULTIFD_SEND, 1, 4096, 1 << 3, -EOPNOTSUPP },
		{ VFIO_MULTIFD_SEND, 1, 4096, 1ULL << 63, -EOPNOTSUPP },
	};

	for (unsigned int i = 0; i < ARRAY_LEN(cases); i++) {
		struct vfio_multifd_setup setup = {
			.argsz = sizeof(setup),
			.role = cases[i].role,
			.channels = cases[i].channels,
			.packet_size = cases[i].packet_size,
			.features = cases[i].features,
		};

		EXPECT_EQ(cases[i].ret, call_new(VFIO_MULTIFD_SETUP, &setup)) {
			TH_LOG("this was case %u", i);
		}
	}
}

TEST_F(uapi, unknown_calls)
{
	int fd = engine_open();

	ASSERT_LE(0, fd);
	EXPECT_EQ(-ENOTTY, engine_call(fd, _IO(VFIO_MULTIFD_IOC, 14), NULL));
	EXPECT_EQ(-ENOTTY, engine_call(fd, _IO(VFIO_MULTIFD_IOC, 255), NULL));
	EXPECT_EQ(-ENOTTY, engine_call(fd, _IO(';', 100), NULL));
	EXPECT_EQ(-ENOTTY, engine_call(fd, _IOR(VFIO_MULTIFD_IOC, 0,
						struct vfio_multifd_info),
				       NULL));
	EXPECT_EQ(-EINVAL, engine_call(fd, VFIO_MULTIFD_SWITCHOVER,
				       (void *)1));
	EXPECT_EQ(-EINVAL, engine_call(fd, VFIO_MULTIFD_CANCEL, (void *)1));
	EXPECT_TRUE(engine_wait_state(fd, VFIO_MULTIFD_STATE_NEW));
	close(fd);
}

static int open_as_nobody(void)
{
	int fd, status;
	pid_t pid = fork();

	if (!pid) {
		fd = setresuid(65534, -1, -1) ? -errno : engine_open();
		_exit(fd < 0 ? -fd : 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return -WEXITSTATUS(status);
}

/* 128 transfers of one user, and no more; another user has its own */
TEST_F(uapi, users)
{
	int fds[128];

	for (unsigned int i = 0; i < 128; i++) {
		fds[i] = engine_open();
		ASSERT_LE(0, fds[i]);
	}
	EXPECT_EQ(-EUSERS, engine_open());
	if (!getuid())
		EXPECT_EQ(0, open_as_nobody());
	close(fds[0]);
	fds[0] = engine_open();
	EXPECT_LE(0, fds[0]);
	for (unsigned int i = 0; i < 128; i++)
		close(fds[i]);
}

/* The last test: what the others took is given back */
TEST_F(uapi, nothing_left)
{
	EXPECT_TRUE(engine_wait_unused());
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0-only
/* Which sockets and which data fds the engine takes */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <linux/bpf.h>
#include <netinet/in.h>

#include "harness.h"
#include "engine.h"
#include "testing.h"

#define CHANNELS	4

FIXTURE(files) {
	int fd;		/* a transfer in state READY without any channel */
	int pair[2];	/* connected sockets */
};

FIXTURE_VARIANT(files) {
	uint32_t role;
};

FIXTURE_VARIANT_ADD(files, send) { .role = VFIO_MULTIFD_SEND };
FIXTURE_VARIANT_ADD(files, recv) { .role = VFIO_MULTIFD_RECV };

FIXTURE_SETUP(files)
{
	ENGINE_NEEDED();
	self->fd = engine_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, engine_setup(self->fd, variant->role, CHANNELS, 0,
				  ENGINE_PACKET));
	ASSERT_EQ(0, engine_tcp_pair(self->pair, 0));
}

FIXTURE_TEARDOWN(files)
{
	close(self->fd);
	close(self->pair[0]);
	close(self->pair[1]);
}

/* Tries to add an fd as channel 0, and closes it */
static int try_channel(int fd, int sock)
{
	int ret = sock < 0 ? -EIDRM : engine_add_channel(fd, sock, 0);

	close(sock);
	return ret;
}

TEST_F(files, no_socket)
{
	EXPECT_EQ(-EBADF, engine_add_channel(self->fd, -1, 0));
	EXPECT_EQ(-EBADF, engine_add_channel(self->fd, 1000, 0));
	EXPECT_EQ(-ENOTSOCK, engine_add_channel(self->fd, self->fd, 0));
	EXPECT_EQ(-ENOTSOCK, try_channel(self->fd, engine_memfd(NULL, 0)));
	EXPECT_EQ(-ENOTSOCK, try_channel(self->fd, eventfd(0, 0)));
	EXPECT_EQ(-EBADF, try_channel(self->fd, open("/", O_PATH)));
}

TEST_F(files, no_tcp)
{
	int multipath = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
	int pair[2];

	EXPECT_EQ(-EPROTONOSUPPORT,
		  try_channel(self->fd, socket(AF_INET, SOCK_DGRAM, 0)));
	EXPECT_EQ(-EPROTONOSUPPORT,
		  try_channel(self->fd, socket(AF_UNIX, SOCK_STREAM, 0)));
	EXPECT_EQ(-EPROTONOSUPPORT,
		  try_channel(self->fd, socket(AF_NETLINK, SOCK_RAW, 0)));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	EXPECT_EQ(-EPROTONOSUPPORT, try_channel(self->fd, pair[0]));
	close(pair[1]);
	if (multipath >= 0)
		EXPECT_EQ(-EPROTONOSUPPORT, try_channel(self->fd, multipath));
}

TEST_F(files, not_connected)
{
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	uint16_t port = engine_port(self->pair[0]);

	ASSERT_LE(0, listener);
	ASSERT_EQ(0, listen(listener, 1));
	EXPECT_EQ(-ENOTCONN, try_channel(self->fd, listener));
	EXPECT_EQ(-ENOTCONN,
		  try_channel(self->fd, socket(AF_INET, SOCK_STREAM, 0)));
	EXPECT_EQ(-ENOTCONN,
		  try_channel(self->fd, socket(AF_INET6, SOCK_STREAM, 0)));
	close(self->pair[1]);
	EXPECT_EQ(-ENOTCONN, try_channel(self->fd, self->pair[0]));
	/* what was refused is not kept either */
	EXPECT_TRUE(engine_wait_gone(port));
}

TEST_F(files, ipv6)
{
	struct sockaddr_in6 addr = {
		.sin6_family = AF_INET6,
		.sin6_addr = IN6ADDR_LOOPBACK_INIT,
	};
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET6, SOCK_STREAM, 0);
	int sock = socket(AF_INET6, SOCK_STREAM, 0);

	if (bind(listener, (struct sockaddr *)&addr, len))
		SKIP(return, "no IPv6 loopback address");
	ASSERT_EQ(0, listen(listener, 1));
	ASSERT_EQ(0, getsockname(listener, (struct sockaddr *)&addr, &len));
	ASSERT_EQ(0, connect(sock, (struct sockaddr *)&addr, len));
	EXPECT_EQ(0, try_channel(self->fd, sock));
	close(listener);
}

TEST_F(files, ids)
{
	int pair[2];

	EXPECT_EQ(-EINVAL, engine_add_channel(self->fd, self->pair[0],
					      CHANNELS));
	EXPECT_EQ(-EINVAL, engine_add_channel(self->fd, self->pair[0], 256));
	EXPECT_EQ(-EINVAL, engine_add_channel(self->fd, self->pair[0], ~0U));
	EXPECT_EQ(0, engine_add_channel(self->fd, self->pair[0],
					CHANNELS - 1));
	ASSERT_EQ(0, engine_tcp_pair(pair, 0));
	EXPECT_EQ(-EEXIST, engine_add_channel(self->fd, pair[0],
					      CHANNELS - 1));
	/* what was refused is free again */
	EXPECT_EQ(0, engine_add_channel(self->fd, pair[0], 0));
	close(pair[0]);
	close(pair[1]);
}

TEST_F(files, channel_used)
{
	int other = engine_open();
	int again = dup(self->pair[0]);

	ASSERT_LE(0, other);
	ASSERT_EQ(0, engine_setup(other, variant->role, 2, 0, ENGINE_PACKET));
	EXPECT_EQ(0, engine_add_channel(self->fd, self->pair[0], 0));
	EXPECT_EQ(-EBUSY, engine_add_channel(self->fd, self->pair[0], 0));
	EXPECT_EQ(-EBUSY, engine_add_channel(self->fd, self->pair[0], 1));
	EXPECT_EQ(-EBUSY, engine_add_channel(self->fd, again, 1));
	EXPECT_EQ(-EBUSY, engine_add_channel(other, again, 0));
	/* the other end is a socket of its own */
	EXPECT_EQ(0, engine_add_channel(other, self->pair[1], 0));
	close(again);
	close(other);
}

/* A transfer's end frees the socket, which is shut down by then */
TEST_F(files, channel_freed)
{
	int other = engine_open();

	ASSERT_LE(0, other);
	ASSERT_EQ(0, engine_setup(other, variant->role, 1, 0, ENGINE_PACKET));
	ASSERT_EQ(0, engine_add_channel(other, self->pair[0], 0));
	EXPECT_EQ(-EBUSY, engine_add_channel(self->fd, self->pair[0], 0));
	close(other);
	EXPECT_EQ(-ENOTCONN, engine_add_channel(self->fd, self->pair[0], 0));
}

static int bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

/* A socket in a BPF map has an owner in the kernel */
TEST_F(files, other_owner)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_SOCKMAP,
		.key_size = 4,
		.value_size = 4,
		.max_entries = 1,
	};
	uint32_t key = 0;
	int map;

	map = bpf(BPF_MAP_CREATE, &attr);
	if (map < 0 && errno == ENOSYS)
		SKIP(return, "this kernel has no BPF maps");
	if (map < 0)
		SKIP(return, "no BPF map of sockets: %s", strerror(errno));
	attr = (union bpf_attr) {
		.map_fd = map,
		.key = (uintptr_t)&key,
		.value = (uintptr_t)&self->pair[0],
	};
	ASSERT_EQ(0, bpf(BPF_MAP_UPDATE_ELEM, &attr));
	EXPECT_EQ(-EBUSY, engine_add_channel(self->fd, self->pair[0], 0));
	close(map);
}

TEST_F(files, other_net)
{
	int pair[2];

	ASSERT_EQ(0, testing_other_net());
	ASSERT_EQ(0, engine_tcp_pair(pair, 0));
	EXPECT_EQ(0, engine_add_channel(self->fd, self->pair[0], 0));
	EXPECT_EQ(-EXDEV, engine_add_channel(self->fd, pair[0], 1));
	EXPECT_EQ(0, engine_add_channel(self->fd, self->pair[1], 1));
	close(pair[0]);
	close(pair[1]);
}

/* Tries to add an fd as a device, and closes it */
static int try_device(int fd, int file)
{
	static unsigned int nth;
	char name[16];
	int ret;

	snprintf(name, sizeof(name), "dev%u", nth++);
	ret = file < 0 ? -EIDRM : engine_add_device(fd, file, name, 0);
	close(file);
	return ret < 0 ? ret : 0;
}

TEST_F(files, data_fds)
{
	bool send = variant->role == VFIO_MULTIFD_SEND;
	int pipes[2];

	EXPECT_EQ(-EBADF, engine_add_device(self->fd, -1, "dev", 0));
	EXPECT_EQ(-EBADF, engine_add_device(self->fd, 1000, "dev", 0));
	EXPECT_EQ(-EBADF, try_device(self->fd, open("/", O_PATH)));

	ASSERT_EQ(0, pipe(pipes));
	EXPECT_EQ(send ? 0 : -EBADF, try_device(self->fd, pipes[0]));
	EXPECT_EQ(send ? -EBADF : 0, try_device(self->fd, pipes[1]));
	EXPECT_EQ(send ? 0 : -EBADF,
		  try_device(self->fd, open("/proc/self/exe", O_RDONLY)));
	EXPECT_EQ(send ? -EBADF : 0,
		  try_device(self->fd, open("/dev/null", O_WRONLY)));
	EXPECT_EQ(0, try_device(self->fd, engine_memfd(NULL, 0)));

	/* files without read_iter, without write_iter, without any */
	EXPECT_EQ(send ? 0 : -EOPNOTSUPP, try_device(self->fd, eventfd(0, 0)));
	EXPECT_EQ(-EOPNOTSUPP, try_device(self->fd, epoll_create1(0)));
	EXPECT_EQ(-EOPNOTSUPP,
		  engine_add_device(self->fd, self->fd, "dev", 0));
	EXPECT_EQ(send ? -EOPNOTSUPP : -EBADF,
		  try_device(self->fd, open("/", O_RDONLY | O_DIRECTORY)));
}

TEST_F(files, device_used)
{
	int other = engine_open();
	int file = engine_memfd(NULL, 0);
	char path[32];
	int reopened;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	reopened = open(path, O_RDWR);
	ASSERT_LE(0, other);
	ASSERT_LE(0, reopened);
	ASSERT_EQ(0, engine_setup(other, variant->role, 1, 0, ENGINE_PACKET));
	EXPECT_EQ(0, engine_add_device(other, file, "dev", 0));
	EXPECT_EQ(-EBUSY, engine_add_device(other, file, "again", 0));
	EXPECT_EQ(-EBUSY, engine_add_device(self->fd, file, "dev", 0));
	/* another open file is another device */
	EXPECT_EQ(0, engine_add_device(self->fd, reopened, "dev", 0));
	close(other);
	EXPECT_EQ(1, engine_add_device(self->fd, file, "after", 0));
	close(file);
	close(reopened);
}

/* A socket can hold files, and so a transfer that holds it */
TEST_F(files, device_is_socket)
{
	int fd = self->fd;

	EXPECT_EQ(-EOPNOTSUPP, engine_add_device(fd, self->pair[0], "dev", 0));
	EXPECT_EQ(-EOPNOTSUPP,
		  try_device(fd, socket(AF_UNIX, SOCK_STREAM, 0)));
	EXPECT_EQ(-EOPNOTSUPP,
		  try_device(fd, socket(AF_UNIX, SOCK_SEQPACKET, 0)));
	EXPECT_EQ(-EOPNOTSUPP,
		  try_device(fd, socket(AF_INET, SOCK_DGRAM, 0)));
	EXPECT_EQ(0, engine_add_channel(fd, self->pair[0], 0));
	EXPECT_EQ(-EOPNOTSUPP, engine_add_device(fd, self->pair[0], "dev", 0));
}

/* Adds a device whose name has @len bytes, of 255 that there may be */
static int add_name(int fd, unsigned int len)
{
	struct vfio_multifd_device device = { .argsz = sizeof(device) };
	int ret;

	device.fd = engine_memfd(NULL, 0);
	memset(device.idstr, 'x', len);
	ret = engine_call(fd, VFIO_MULTIFD_ADD_DEVICE, &device);
	close(device.fd);
	return ret;
}

TEST_F(files, names)
{
	EXPECT_EQ(-EINVAL, add_name(self->fd, 0));
	EXPECT_EQ(-EINVAL, add_name(self->fd, 256));
	EXPECT_EQ(0, add_name(self->fd, 255));
	EXPECT_EQ(-EEXIST, add_name(self->fd, 255));
	EXPECT_EQ(0, add_name(self->fd, 254));
}

TEST_F(files, instances)
{
	int file = engine_memfd(NULL, 0);

	EXPECT_EQ(0, engine_add_device(self->fd, file, "dev", 0));
	close(file);
	file = engine_memfd(NULL, 0);
	EXPECT_EQ(-EEXIST, engine_add_device(self->fd, file, "dev", 0));
	EXPECT_EQ(1, engine_add_device(self->fd, file, "dev", ~0U));
	close(file);
}

/* What stands behind the name's end is not part of it */
TEST_F(files, name_ends)
{
	struct vfio_multifd_device device = {
		.argsz = sizeof(device),
		.fd = engine_memfd(NULL, 0),
		.idstr = "dev\0something",
	};

	EXPECT_EQ(0, engine_call(self->fd, VFIO_MULTIFD_ADD_DEVICE, &device));
	close(device.fd);
	device.fd = engine_memfd(NULL, 0);
	memset(device.idstr + 4, 0, sizeof(device.idstr) - 4);
	EXPECT_EQ(-EEXIST, engine_call(self->fd, VFIO_MULTIFD_ADD_DEVICE,
				       &device));
	close(device.fd);
}

TEST_F(files, too_many_devices)
{
	struct vfio_multifd_status status;

	for (unsigned int i = 0; i < VFIO_MULTIFD_MAX_DEVICES; i++)
		ASSERT_EQ(0, try_device(self->fd, engine_memfd(NULL, 0)));
	EXPECT_EQ(-ENOSPC, try_device(self->fd, engine_memfd(NULL, 0)));
	ASSERT_EQ(0, engine_status(self->fd, &status));
	EXPECT_EQ(VFIO_MULTIFD_MAX_DEVICES, status.devices);
}

TEST_F(files, no_device)
{
	EXPECT_EQ(-EINVAL, engine_switchover(self->fd));
	EXPECT_TRUE(engine_wait_state(self->fd, VFIO_MULTIFD_STATE_READY));
}

TEST_F(files, nothing_left)
{
	close(self->fd);
	EXPECT_TRUE(engine_wait_unused());
}

TEST_HARNESS_MAIN

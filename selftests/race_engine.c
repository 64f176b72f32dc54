// SPDX-License-Identifier: GPL-2.0-only
/*
 * Two at once, and owners who keep what they gave away: sockets, files and
 * transfers are used, changed, passed on and left while they are in use.
 * Somebody tries to unload the module all the time.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <linux/bpf.h>
#include <linux/tls.h>

#include "harness.h"
#include "race.h"

#define PIECE	(4 * ENGINE_PACKET)
#define PIECES	16

/* What two threads try at once; the second may use another transfer. */
struct attempt {
	int fd;
	uint32_t id;
	int sock;
	int file;
	char name[8];
};

static int try_setup(void *arg)
{
	struct attempt *try = arg;

	return engine_setup(try->fd, VFIO_MULTIFD_SEND, 2, 0, ENGINE_PACKET);
}

static int try_channel(void *arg)
{
	struct attempt *try = arg;

	return engine_add_channel(try->fd, try->sock, try->id);
}

static int try_device(void *arg)
{
	struct attempt *try = arg;

	return engine_add_device(try->fd, try->file, try->name, 0);
}

static int try_switchover(void *arg)
{
	struct attempt *try = arg;

	return engine_switchover(try->fd);
}

static int try_config(void *arg)
{
	struct attempt *try = arg;

	return engine_set_config(try->fd, 0, try->name, sizeof(try->name));
}

FIXTURE(twice) {
	struct race race;
};

/*
 * One of the two succeeds.  What they share is the transfer, and what is
 * not said to differ.
 */
FIXTURE_VARIANT(twice) {
	int (*call)(void *attempt);
	int ret;		/* of the one who comes second */
	bool needs_device;
	bool raw;		/* before SETUP */
	bool transfers;		/* these differ */
	bool ids;
	bool sockets;
	bool files;
};

FIXTURE_VARIANT_ADD(twice, setup) {
	.call = try_setup, .ret = -EBADFD, .raw = true,
};

FIXTURE_VARIANT_ADD(twice, socket) {
	.call = try_channel, .ret = -EBUSY, .ids = true,
};

FIXTURE_VARIANT_ADD(twice, channel) {
	.call = try_channel, .ret = -EEXIST, .sockets = true,
};

FIXTURE_VARIANT_ADD(twice, file) {
	.call = try_device, .ret = -EBUSY, .ids = true,
};

FIXTURE_VARIANT_ADD(twice, device) {
	.call = try_device, .ret = -EEXIST, .files = true,
};

FIXTURE_VARIANT_ADD(twice, switchover) {
	.call = try_switchover, .ret = -EBADFD, .needs_device = true,
};

FIXTURE_VARIANT_ADD(twice, config) {
	.call = try_config, .ret = -EEXIST, .needs_device = true,
};

FIXTURE_VARIANT_ADD(twice, socket_of_two) {
	.call = try_channel, .ret = -EBUSY, .transfers = true,
};

FIXTURE_VARIANT_ADD(twice, file_of_two) {
	.call = try_device, .ret = -EBUSY, .transfers = true,
};

FIXTURE_SETUP(twice)
{
	ENGINE_NEEDED();
	race_begin(&self->race, false);
}

FIXTURE_TEARDOWN(twice)
{
	RACE_END(&self->race);
}

static int new_transfer(FIXTURE_VARIANT(twice) const *variant)
{
	int fd = engine_open(), file, ret = 0;

	if (!variant->raw)
		ret = engine_setup(fd, VFIO_MULTIFD_SEND, 2, 0, ENGINE_PACKET);
	if (!ret && variant->needs_device) {
		file = engine_memfd("data", 4);
		ret = engine_add_device(fd, file, "one", 0);
		close(file);
	}
	return ret ? ret : fd;
}

/* @pairs are connected sockets, of which the first ends are used. */
static void prepare_attempts(FIXTURE_VARIANT(twice) const *variant,
			     struct attempt *try, int (*pairs)[2])
{
	for (unsigned int n = 0; n < 2; n++) {
		struct attempt *from = &try[n];

		from->fd = variant->transfers || !n ? new_transfer(variant) :
						      try[0].fd;
		from->id = variant->ids ? n : 0;
		from->sock = pairs[variant->sockets ? n : 0][0];
		from->file = variant->files || !n ? engine_memfd("data", 4) :
						    try[0].file;
		snprintf(from->name, sizeof(from->name), "dev%u", from->id);
	}
}

TEST_F(twice, at_once)
{
	for (unsigned int i = 0; i < 25; i++) {
		struct attempt try[2], *loser;
		struct race_two two = {
			variant->call, { &try[0], &try[1] }, {},
		};
		int pairs[2][2];

		ASSERT_EQ(0, engine_tcp_pair(pairs[0], 0));
		ASSERT_EQ(0, engine_tcp_pair(pairs[1], 0));
		prepare_attempts(variant, try, pairs);
		race_two(&two);
		EXPECT_NE(two.ret[0] < 0, two.ret[1] < 0);
		EXPECT_EQ(variant->ret, two.ret[two.ret[1] < 0]);
		loser = &try[two.ret[1] < 0];
		close(try[0].fd);
		if (variant->transfers)
			close(try[1].fd);
		/* what was refused is free */
		loser->fd = engine_open();
		ASSERT_EQ(0, try_setup(loser));
		EXPECT_EQ(0, try_device(loser));
		if (variant->sockets)
			EXPECT_EQ(0, try_channel(loser));
		close(loser->fd);
		close(try[0].file);
		if (variant->files)
			close(try[1].file);
		for (unsigned int n = 0; n < 4; n++)
			close(pairs[n / 2][n % 2]);
	}
}

/* What an owner does meanwhile with a socket, or with the source's file */
static bool read_socket(int sock, int file)
{
	char buf[100];

	(void)file;
	recv(sock, buf, sizeof(buf), MSG_DONTWAIT);
	return true;
}

static bool write_socket(int sock, int file)
{
	(void)file;
	send(sock, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	return true;
}

static bool read_file(int sock, int file)
{
	char buf[100];
	struct iovec iov = { buf, sizeof(buf) };

	(void)sock;
	return preadv2(file, &iov, 1, -1, RWF_NOWAIT) > 0;
}

static bool end_reading(int sock, int file)
{
	(void)file;
	return !shutdown(sock, SHUT_RD);
}

static bool end_writing(int sock, int file)
{
	(void)file;
	return !shutdown(sock, SHUT_WR);
}

static bool listen_again(int sock, int file)
{
	struct sockaddr addr = { .sa_family = AF_UNSPEC };

	(void)file;
	return !connect(sock, &addr, sizeof(addr)) && !listen(sock, 1);
}

static bool hurry(int sock, int file)
{
	struct timeval soon = { .tv_usec = 1 };

	(void)file;
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon));
	return true;
}

/* The functions behind an IPv6 socket become those of IPv4. */
static bool become_ipv4(int sock, int file)
{
	int family = AF_INET;

	(void)file;
	return !setsockopt(sock, IPPROTO_IPV6, IPV6_ADDRFORM, &family,
			   sizeof(family));
}

static bool become_tls(int sock, int file)
{
	(void)file;
	return !setsockopt(sock, IPPROTO_TCP, TCP_ULP, "tls", 3);
}

static bool encrypt(int sock, int file)
{
	struct tls12_crypto_info_aes_gcm_128 key = {
		.info.version = TLS_1_2_VERSION,
		.info.cipher_type = TLS_CIPHER_AES_GCM_128,
	};

	return become_tls(sock, file) &&
	       !setsockopt(sock, SOL_TLS, TLS_TX, &key, sizeof(key));
}

static int bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

/* The socket is in the map for a moment. */
static bool join_map(int sock, int file)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_SOCKMAP,
		.key_size = 4,
		.value_size = 4,
		.max_entries = 1,
	};
	uint32_t key = 0;
	bool joined;
	int map;

	(void)file;
	map = bpf(BPF_MAP_CREATE, &attr);
	if (map < 0)
		return false;
	attr = (union bpf_attr) {
		.map_fd = map,
		.key = (uintptr_t)&key,
		.value = (uintptr_t)&sock,
	};
	joined = !bpf(BPF_MAP_UPDATE_ELEM, &attr);
	close(map);
	return joined;
}

FIXTURE(owner) {
	struct race race;
	struct race_link link;
	uint8_t *data;
	int pipe[2];
	int to;
};

FIXTURE_VARIANT(owner) {
	/* Return: whether this could be done */
	bool (*act)(int sock, int file);
	bool ipv6;
	bool harmless;	/* the state arrives all the same */
	bool optional;	/* not every kernel has it */
};

FIXTURE_VARIANT_ADD(owner, reads) { .act = read_socket };
FIXTURE_VARIANT_ADD(owner, writes) { .act = write_socket };
FIXTURE_VARIANT_ADD(owner, reads_file) { .act = read_file };
FIXTURE_VARIANT_ADD(owner, ends_reading) { .act = end_reading };
FIXTURE_VARIANT_ADD(owner, ends_writing) { .act = end_writing };
FIXTURE_VARIANT_ADD(owner, listens) { .act = listen_again };
FIXTURE_VARIANT_ADD(owner, hurries) { .act = hurry };
FIXTURE_VARIANT_ADD(owner, switches_to_ipv4) {
	.act = become_ipv4, .ipv6 = true, .harmless = true,
};

FIXTURE_VARIANT_ADD(owner, switches_to_tls) {
	.act = become_tls, .harmless = true, .optional = true,
};

FIXTURE_VARIANT_ADD(owner, encrypts) {
	.act = encrypt, .optional = true,
};

FIXTURE_VARIANT_ADD(owner, joins_map) {
	.act = join_map, .optional = true,
};

FIXTURE_SETUP(owner)
{
	ENGINE_NEEDED();
	race_begin(&self->race, false);
	self->data = engine_pattern(PIECES * PIECE, 5);
}

FIXTURE_TEARDOWN(owner)
{
	free(self->data);
	RACE_END(&self->race);
}

/*
 * Returns how many bytes went in.  Without SIGPIPE: the engine may have let go of
 * the other end.
 */
static size_t feed(int pipe, const void *data, size_t len)
{
	struct pollfd pollfd = { .fd = pipe, .events = POLLOUT };
	ssize_t done;

	if (poll(&pollfd, 1, 50) != 1 || pollfd.revents & POLLERR)
		return 0;
	done = write(pipe, data, len);
	return done < 0 ? 0 : done;
}

/*
 * The source's file is a pipe that is filled piece by piece, and before a
 * piece the owner acts on one of the four ends.  Whatever that is, threads come
 * back, and what is said to be whole is whole.
 */
TEST_F(owner, meanwhile)
{
	struct vfio_multifd_status status;
	unsigned int acts = 0;
	size_t fed, now;
	int ret;

	for (unsigned int i = 0; i < 3; i++) {
		fed = 0;
		ASSERT_EQ(0, pipe(self->pipe));
		/* room for a piece that is written at once */
		fcntl(self->pipe[1], F_SETPIPE_SZ, 2 * PIECE);
		fcntl(self->pipe[1], F_SETFL, O_NONBLOCK);
		self->to = engine_memfd(NULL, 0);
		ASSERT_EQ(0, race_link_open(&self->link,
					    VFIO_MULTIFD_FEATURE_DIGEST,
					    variant->ipv6));
		ASSERT_EQ(0, race_link_start(&self->link, 0, self->pipe[0],
					     self->to));
		for (unsigned int n = 0; n < PIECES; n++) {
			now = feed(self->pipe[1], self->data + fed, PIECE);
			fed += now;
			if (now < PIECE)	/* nobody reads, or not now */
				break;
			if (n >= i)
				acts += variant->act(self->link.sock[n / 2 % 2]
							       [(i + n) % 2],
						     self->pipe[0]);
		}
		close(self->pipe[1]);
		/* else bytes may be missed for ever */
		ret = race_link_join(&self->link,
				     variant->harmless ? 20000 : 500);
		ASSERT_EQ(0, engine_status(self->link.to.fd, &status));
		if (variant->harmless) {
			EXPECT_EQ(0, ret);
			EXPECT_EQ(VFIO_MULTIFD_STATE_DONE, status.state);
		}
		if (status.state == VFIO_MULTIFD_STATE_DONE &&
		    variant->act != read_file)
			EXPECT_TRUE(engine_file_has(self->to, self->data, fed));
		close(self->pipe[0]);
		close(self->to);
		race_link_close(&self->link);
	}
	/* a skip would hide what failed */
	if (!acts && variant->optional && !_metadata->exit_code)
		SKIP(return, "this kernel cannot do that");
	EXPECT_LT(0, acts);
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every fd of a transfer is inherited, duplicated, sent through a unix socket
 * and left there while bytes flow; and the opener ends while others hold them.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "harness.h"
#include "race.h"

#define SIZE	(32 * ENGINE_PACKET)

/* What there is to pass on */
enum { FROM, TO, SOURCE, TARGET, SENDER, RECEIVER, FDS };

struct flow {
	struct race_link link;
	uint8_t *data;
	int pipe;	/* what is written here is the source's file */
	int fd[FDS];
};

/* The second half of the state is not there yet, so that nothing ends. */
static int flow_open(struct flow *flow)
{
	int pipes[2], ret;

	flow->data = engine_pattern(SIZE, 9);
	if (pipe(pipes) || fcntl(pipes[1], F_SETPIPE_SZ, SIZE) < SIZE)
		return -errno;
	flow->pipe = pipes[1];
	flow->fd[SOURCE] = pipes[0];
	flow->fd[TARGET] = engine_memfd(NULL, 0);
	ret = race_link_open(&flow->link, VFIO_MULTIFD_FEATURE_DIGEST, false);
	if (ret)
		return ret;
	flow->fd[FROM] = flow->link.from.fd;
	flow->fd[TO] = flow->link.to.fd;
	flow->fd[SENDER] = flow->link.sock[0][0];
	flow->fd[RECEIVER] = flow->link.sock[0][1];
	ret = race_link_start(&flow->link, 0, flow->fd[SOURCE],
			      flow->fd[TARGET]);
	if (!ret && write(flow->pipe, flow->data, SIZE / 2) != SIZE / 2)
		ret = -errno;
	return ret;
}

/* Lets the rest flow.  Return: the receiver's error */
static int flow_end(struct flow *flow)
{
	ssize_t done = write(flow->pipe, flow->data + SIZE / 2, SIZE / 2);

	close(flow->pipe);
	return race_link_join(&flow->link, done > 0 ? 20000 : 0);
}

static void flow_close(struct flow *flow)
{
	race_link_close(&flow->link);
	close(flow->fd[SOURCE]);
	close(flow->fd[TARGET]);
	free(flow->data);
}

/* The ways.  Each ends with no more references than there were. */

static int inherit(int fd)
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (!pid) {
		close(fd);
		_exit(0);
	}
	return waitpid(pid, NULL, 0) == pid ? 0 : -errno;
}

static int inherit_and_die(int fd)
{
	pid_t pid = fork();

	(void)fd;
	/* as a number for kill(), this one is everybody */
	if (pid < 0)
		return -errno;
	if (!pid)
		for (;;)
			pause();
	kill(pid, SIGKILL);
	return waitpid(pid, NULL, 0) == pid ? 0 : -errno;
}

static int duplicate(int fd)
{
	return close(fcntl(fd, F_DUPFD_CLOEXEC, 100));
}

static int send_to_self(int fd)
{
	int pair[2], ret;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return -errno;
	ret = race_send_fd(pair[0], fd) ?: close(race_receive_fd(pair[1]));
	close(pair[0]);
	close(pair[1]);
	return ret;
}

static int send_to_child(int fd)
{
	int pair[2], ret;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return -errno;
	pid = fork();
	if (!pid)
		_exit(close(race_receive_fd(pair[1])));
	ret = pid < 0 ? -errno : race_send_fd(pair[0], fd);
	close(pair[0]);
	close(pair[1]);
	if (pid < 0)
		return ret;
	return waitpid(pid, NULL, 0) == pid ? ret : -errno;
}

/* Nobody receives it. */
static int send_and_close(int fd)
{
	int pair[2], ret;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return -errno;
	ret = race_send_fd(pair[0], fd);
	close(pair[0]);
	close(pair[1]);
	return ret;
}

/*
 * Nobody can: the sockets are on their way through each other.  The kernel looks
 * for such circles when any other one is closed.
 */
static int send_in_circle(int fd)
{
	int pair[2], ret;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return -errno;
	ret = race_send_fd(pair[0], fd) ?: race_send_fd(pair[0], pair[0]) ?:
	      race_send_fd(pair[1], pair[1]);
	close(pair[0]);
	close(pair[1]);
	close(socket(AF_UNIX, SOCK_STREAM, 0));
	return ret;
}

FIXTURE(passed) {
	struct race race;
	struct flow flow;
};

FIXTURE_VARIANT(passed) {
	int (*pass)(int fd);
	bool closes;	/* a descriptor of the opener */
};

FIXTURE_VARIANT_ADD(passed, inherited) { .pass = inherit };
FIXTURE_VARIANT_ADD(passed, inherited_and_killed) { .pass = inherit_and_die };
FIXTURE_VARIANT_ADD(passed, duplicated) {
	.pass = duplicate, .closes = true,
};

FIXTURE_VARIANT_ADD(passed, sent_to_self) {
	.pass = send_to_self, .closes = true,
};

FIXTURE_VARIANT_ADD(passed, sent_to_child) { .pass = send_to_child };
FIXTURE_VARIANT_ADD(passed, sent_and_closed) { .pass = send_and_close };
FIXTURE_VARIANT_ADD(passed, sent_in_circle) { .pass = send_in_circle };

FIXTURE_SETUP(passed)
{
	ENGINE_NEEDED();
	race_begin(&self->race, false);
}

FIXTURE_TEARDOWN(passed)
{
	RACE_END(&self->race);
}

/*
 * Nobody is hurt by what others do with their copies.  Only a transfer of which
 * its opener closes a descriptor is over.
 */
TEST_F(passed, on)
{
	struct flow *flow = &self->flow;

	for (unsigned int i = 0; i < FDS; i++) {
		bool over = variant->closes && (i == FROM || i == TO);
		int ret;

		ASSERT_EQ(0, flow_open(flow));
		for (unsigned int n = 0; n < 3; n++)
			ASSERT_EQ(0, variant->pass(flow->fd[i]));
		signal(SIGPIPE, SIG_IGN);
		ret = flow_end(flow);
		EXPECT_EQ(over, !!ret);
		EXPECT_NE(-ETIMEDOUT, ret);
		EXPECT_EQ(!over, engine_file_has(flow->fd[TARGET], flow->data,
						 SIZE));
		flow_close(flow);
	}
}

FIXTURE(heir) {
	struct race race;
	int fd[FDS];
};

FIXTURE_VARIANT(heir) {
	bool kill;
};

FIXTURE_VARIANT_ADD(heir, exit) {};
FIXTURE_VARIANT_ADD(heir, kill) { .kill = true };

FIXTURE_SETUP(heir)
{
	ENGINE_NEEDED();
	race_begin(&self->race, false);
}

FIXTURE_TEARDOWN(heir)
{
	RACE_END(&self->race);
}

static void bequeath(int sock, bool wait)
{
	static struct flow flow;

	if (flow_open(&flow))
		_exit(1);
	/* half of it is through, all threads sleep */
	if (!engine_wait_packets(flow.link.to.fd, 1))
		_exit(3);
	for (unsigned int i = 0; i < FDS; i++)
		if (race_send_fd(sock, flow.fd[i]))
			_exit(2);
	if (wait)
		pause();
	_exit(0);
}

static bool is_held(int file)
{
	int fd = engine_open(), ret;

	ret = engine_setup(fd, VFIO_MULTIFD_RECV, 1, 0, ENGINE_PACKET) ?:
	      engine_add_device(fd, file, "dev", 0);
	close(fd);
	return ret == -EBUSY;
}

/* The opener is gone: its transfers are over, but their files are not free. */
TEST_F(heir, has_all)
{
	for (unsigned int i = 0; i < 6; i++) {
		struct vfio_multifd_status status;
		int pair[2], wait_status;
		char byte;
		pid_t pid;

		ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			close(pair[0]);
			close(self->race.hold);
			bequeath(pair[1], variant->kill);
		}
		close(pair[1]);
		for (unsigned int n = 0; n < FDS; n++) {
			self->fd[n] = race_receive_fd(pair[0]);
			ASSERT_LE(0, self->fd[n]);
		}
		if (variant->kill)
			kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &wait_status, 0));
		EXPECT_EQ(variant->kill ? SIGKILL : 0, wait_status);
		close(pair[0]);

		for (unsigned int n = FROM; n <= TO; n++) {
			struct pollfd pollfd = { .fd = self->fd[n] };

			EXPECT_EQ(1, poll(&pollfd, 1, 10000));
			EXPECT_EQ(POLLERR, pollfd.revents);
			EXPECT_EQ(-EIO, engine_status(self->fd[n], &status));
		}
		EXPECT_EQ(-1, send(self->fd[SENDER], "x", 1, MSG_NOSIGNAL));
		EXPECT_GE(0, recv(self->fd[SENDER], &byte, 1, 0));
		EXPECT_TRUE(is_held(self->fd[TARGET]));
		close(self->fd[TO]);
		EXPECT_FALSE(is_held(self->fd[TARGET]));
		for (unsigned int n = 0; n < FDS; n++)
			if (n != TO)
				close(self->fd[n]);
	}
}

TEST_HARNESS_MAIN

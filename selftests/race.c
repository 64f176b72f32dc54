// SPDX-License-Identifier: GPL-2.0-only
/* What the races share: what they leave behind, and two transfers that are joined */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "race.h"
#include "vfio.h"

/* Like what must come soon in engine.c, but a debug kernel is slow */
#define SOON	20000	/* ms */

static const char *const modules[RACE_MODULES] = {
	"vfio_multifd", VFIO_DRIVER,
};

/* Is it true, or soon? */
#define WAIT(condition) ({						\
	uint64_t _end = engine_now() + SOON * 1000000ull;		\
	bool _there;							\
									\
	while (!(_there = (condition)) && engine_now() < _end)		\
		usleep(10000);						\
	_there;								\
})

static __thread sigjmp_buf on_sigbus;

static void handle_sigbus(int sig)
{
	siglongjmp(on_sigbus, sig);
}

/* Did the access get a SIGBUS? */
bool race_faults(volatile uint64_t *word, const uint64_t *store)
{
	if (sigsetjmp(on_sigbus, 1))
		return true;
	if (store)
		*word = *store;
	else
		(void)*word;
	return false;
}

static void *unload(void *arg)
{
	struct race *race = arg;

	for (; !race->stop; race->tries++) {
		const char *name = modules[race->tries % race->modules];

		if (!syscall(SYS_delete_module, name, O_NONBLOCK) ||
		    (errno != EWOULDBLOCK && errno != EBUSY))
			race->unloaded = true;
		usleep(2000);
	}
	return NULL;
}

/* A module's use count, or -1 */
static int count_users(const char *module)
{
	char path[128];
	int users = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/module/%s/refcnt", module);
	file = fopen(path, "re");
	if (file && fscanf(file, "%d", &users) != 1)
		users = -1;
	if (file)
		fclose(file);
	return users;
}

/* Number of sockets that have a file, or bytes that nobody took yet */
static unsigned int count_sockets(const char *path)
{
	unsigned int count = 0, unsent, inode;
	char line[512];
	FILE *file;

	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "%*d: %*x:%*x %*x:%*x %*x %x:%*x %*s %*x %*u %*u %u",
			   &unsent, &inode) == 2 && (unsent || inode))
			count++;
	if (file)
		fclose(file);
	return count;
}

static unsigned int all_sockets(void)
{
	return count_sockets("/proc/net/tcp") + count_sockets("/proc/net/tcp6");
}

/* With @driver the caller has a device open until race_end() is through. */
void race_begin(struct race *race, bool driver)
{
	struct sigaction action = { .sa_handler = handle_sigbus };

	*race = (struct race) {
		.modules = driver ? RACE_MODULES : 1,
		.hold = engine_open(),
		.sockets = all_sockets(),
	};
	for (unsigned int i = 0; i < race->modules; i++)
		race->users[i] = count_users(modules[i]);
	if (sigaction(SIGBUS, &action, NULL) ||
	    pthread_create(&race->thread, NULL, unload, race))
		abort();
}

/* Does the engine still move bytes as they are? */
static bool moves(void)
{
	const size_t len = 4 * ENGINE_PACKET;
	uint8_t *data = engine_pattern(len, 3);
	int from = engine_memfd(data, len), to = engine_memfd(NULL, 0);
	struct race_link link;
	bool good;

	good = !race_link_open(&link, 0, false) &&
	       !race_link_start(&link, 0, from, to) &&
	       !race_link_join(&link, SOON) && engine_file_has(to, data, len);
	race_link_close(&link);
	close(from);
	close(to);
	free(data);
	return good;
}

/* Ends the attempts to unload.  NULL, or how they ended */
const char *race_stop(struct race *race)
{
	race->stop = true;
	pthread_join(race->thread, NULL);
	close(race->hold);
	return race->unloaded || !race->tries ? "a module could be unloaded" :
						NULL;
}

/* NULL, or what is not as it was */
const char *race_end(struct race *race)
{
	const char *wrong = moves() ? NULL : "the engine does not work";
	const char *unloaded = race_stop(race);

	/* the transfer that was held is gone as well */
	race->users[0]--;
	for (unsigned int i = 0; i < race->modules; i++)
		if (!WAIT(count_users(modules[i]) == race->users[i]))
			wrong = "a module has other users than before";
	if (!WAIT(all_sockets() <= race->sockets))
		wrong = "there are more sockets than before";
	return unloaded ?: wrong;
}

/* Two connected IPv6 sockets whose addresses are those of IPv4 */
static int pair6(int pair[2])
{
	struct sockaddr_in6 addr = { .sin6_family = AF_INET6 };
	socklen_t len = sizeof(addr);
	int listener, ret = 0;

	inet_pton(AF_INET6, "::ffff:127.0.0.1", &addr.sin6_addr);
	listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pair[0] = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pair[1] = -1;
	if (bind(listener, (struct sockaddr *)&addr, len) ||
	    listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&addr, &len) ||
	    connect(pair[0], (struct sockaddr *)&addr, len))
		ret = -errno;
	else
		pair[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close(listener);
	if (pair[1] >= 0)
		return 0;
	ret = ret ?: -errno;
	close(pair[0]);
	return ret;
}

static int add_end(struct engine *engine, int sock)
{
	unsigned int id = engine->channels++;

	engine->channel[id] = (struct engine_channel) {
		.fd = engine->fd,
		.id = id,
		.sock = -1,
	};
	return engine_add_channel(engine->fd, sock, id);
}

/* A failure leaves what race_link_close() gives back. */
int race_link_open(struct race_link *link, uint64_t features, bool ipv6)
{
	const uint32_t packet = 8 * ENGINE_PACKET;
	int ret;

	*link = (struct race_link) { .from.fd = -1, .to.fd = -1 };
	memset(link->sock, 0xff, sizeof(link->sock));
	ret = engine_begin(&link->from, VFIO_MULTIFD_SEND, RACE_CHANNELS,
			   features, packet);
	if (ret)
		return ret;
	ret = engine_begin(&link->to, VFIO_MULTIFD_RECV, RACE_CHANNELS,
			   features, packet);
	for (unsigned int i = 0; !ret && i < RACE_CHANNELS; i++) {
		ret = ipv6 ? pair6(link->sock[i]) :
			     engine_tcp_pair(link->sock[i], 0);
		if (!ret)
			ret = add_end(&link->from, link->sock[i][0]) ?:
			      add_end(&link->to, link->sock[i][1]);
	}
	return ret;
}

/* Moves one device's state from a file to a file; @flags: of ADD_DEVICE */
int race_link_start(struct race_link *link, uint32_t flags, int from, int to)
{
	int ret;

	ret = engine_add_device_with(link->to.fd, flags, to, "dev", 0) ?:
	      engine_switchover(link->to.fd) ?:
	      engine_add_device_with(link->from.fd, flags, from, "dev", 0) ?:
	      engine_set_config(link->from.fd, 0, "c", 1) ?:
	      engine_switchover(link->from.fd);
	if (ret)
		return ret;
	engine_start_all(&link->to);
	engine_start_all(&link->from);
	return 0;
}

static bool is_over(int fd)
{
	struct vfio_multifd_status status;

	return engine_status(fd, &status) ||
	       status.state >= VFIO_MULTIFD_STATE_DONE;
}

static bool are_over(const struct race_link *link)
{
	return is_over(link->from.fd) && is_over(link->to.fd);
}

/*
 * Waits for both ends, but not for ever: who waits for bytes that got lost is
 * told to stop.  Returns -ETIMEDOUT then, else the receiver's error.
 */
int race_link_join(struct race_link *link, unsigned int ms)
{
	uint64_t end = engine_now() + ms * 1000000ull;
	bool over;
	int ret;

	while (!(over = are_over(link)) && engine_now() < end)
		usleep(1000);
	engine_cancel(link->from.fd);
	engine_cancel(link->to.fd);
	engine_join_all(&link->from);
	ret = engine_join_all(&link->to);
	return over ? ret : -ETIMEDOUT;
}

void race_link_close(struct race_link *link)
{
	engine_destroy(&link->from);
	engine_destroy(&link->to);
	for (unsigned int i = 0; i < RACE_CHANNELS; i++)
		for (unsigned int end = 0; end < 2; end++)
			if (link->sock[i][end] >= 0)
				close(link->sock[i][end]);
	memset(link->sock, 0xff, sizeof(link->sock));
}

struct runner {
	struct race_two *two;
	unsigned int nth;
	pthread_barrier_t *barrier;
};

static void *run_one(void *arg)
{
	struct runner *runner = arg;
	struct race_two *two = runner->two;

	pthread_barrier_wait(runner->barrier);
	two->ret[runner->nth] = two->call(two->arg[runner->nth]);
	return NULL;
}

void race_two(struct race_two *two)
{
	pthread_barrier_t barrier;
	struct runner runner[2] = {
		{ two, 0, &barrier }, { two, 1, &barrier },
	};
	pthread_t thread;

	pthread_barrier_init(&barrier, NULL, 2);
	if (pthread_create(&thread, NULL, run_one, &runner[1]))
		abort();
	run_one(&runner[0]);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&barrier);
}

/* One byte, with the room for an fd beside it */
struct fd_message {
	struct msghdr msg;
	struct iovec iov;
	char byte;
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
};

static void prepare_message(struct fd_message *m)
{
	memset(m, 0, sizeof(*m));
	m->iov = (struct iovec) { &m->byte, 1 };
	m->msg.msg_iov = &m->iov;
	m->msg.msg_iovlen = 1;
	m->msg.msg_control = &m->control;
	m->msg.msg_controllen = sizeof(m->control);
}

int race_send_fd(int sock, int fd)
{
	struct fd_message m;

	prepare_message(&m);
	m.control.head.cmsg_level = SOL_SOCKET;
	m.control.head.cmsg_type = SCM_RIGHTS;
	m.control.head.cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(&m.control.head), &fd, sizeof(fd));
	return sendmsg(sock, &m.msg, 0) == 1 ? 0 : -errno;
}

int race_receive_fd(int sock)
{
	struct fd_message m;
	int fd;

	prepare_message(&m);
	if (recvmsg(sock, &m.msg, MSG_CMSG_CLOEXEC) != 1 ||
	    m.control.head.cmsg_len != CMSG_LEN(sizeof(fd)))
		return -1;
	memcpy(&fd, CMSG_DATA(&m.control.head), sizeof(fd));
	return fd;
}

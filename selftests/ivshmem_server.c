// SPDX-License-Identifier: GPL-2.0-only
/*
 * ivshmem_server SOCKET - what QEMU's ivshmem-doorbell needs to start
 *
 * Each QEMU that connects gets, as QEMU's specification of the protocol says,
 * the version, its id, the shared memory and its one interrupt.  Goes to the
 * background when the socket is there, and prints its pid.
 */
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A number, and a file if @fd is not -1 */
static void put(int sock, int64_t number, int fd)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(fd))];
	} control = {};
	struct iovec vec = { &number, sizeof(number) };
	struct msghdr message = { .msg_iov = &vec, .msg_iovlen = 1 };

	if (fd != -1) {
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	}
	if (sendmsg(sock, &message, MSG_NOSIGNAL) != sizeof(number))
		warn("sendmsg");
}

static void serve(int sock, int64_t id)
{
	int memory = memfd_create("ivshmem", MFD_CLOEXEC);
	int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (memory < 0 || event < 0 || ftruncate(memory, 1 << 20))
		err(1, "memory");
	put(sock, 0, -1);	/* protocol version */
	put(sock, id, -1);
	put(sock, -1, memory);
	put(sock, id, event);
	close(memory);
	close(event);
}

int main(int argc, char **argv)
{
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	pid_t pid;

	if (argc != 2 || strlen(argv[1]) >= sizeof(addr.sun_path))
		errx(1, "usage: ivshmem_server SOCKET");
	strcpy(addr.sun_path, argv[1]);
	if (sock < 0 || bind(sock, (void *)&addr, sizeof(addr)) ||
	    listen(sock, 16))
		err(1, "%s", argv[1]);
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (pid) {
		printf("%d\n", pid);
		return 0;
	}
	close(STDOUT_FILENO);
	/* A connection stays open: its end means that the server is gone. */
	for (int64_t id = 0;; id++) {
		int peer = accept(sock, NULL, NULL);

		if (peer < 0)
			err(1, "accept");
		serve(peer, id);
	}
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * qmp PATH COMMAND [NAME=VALUE]... - have a QEMU execute a command
 *
 * PATH is a socket, or a virtio port.  A VALUE that does not look like JSON is a
 * string.  Prints QEMU's answer in one line; fails if that is an error.
 */
#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <fcntl.h>
#include <unistd.h>

#define PATIENCE	120	/* seconds */

static FILE *open_port(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct stat info;
	int fd;

	if (stat(path, &info))
		err(1, "%s", path);
	if (S_ISCHR(info.st_mode)) {
		fd = open(path, O_RDWR);
		if (fd < 0)
			err(1, "%s", path);
		return fdopen(fd, "r");
	}
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		err(1, "%s", path);
	return fdopen(fd, "r");
}

static bool is_json(const char *value)
{
	return (*value && strchr("[{\"", *value)) ||
	       (*value && !value[strspn(value, "0123456789")]) ||
	       !strcmp(value, "true") || !strcmp(value, "false");
}

/* What comes meanwhile are greetings and events.  Return: did it work? */
static bool ask(FILE *port, const char *command, char **args, bool show)
{
	const char *before = "";
	char *line = NULL;
	size_t size = 0;
	bool good;

	dprintf(fileno(port), "{\"execute\":\"%s\",\"arguments\":{", command);
	for (; args && *args; args++) {
		char *value = strchr(*args, '=');

		if (!value)
			errx(1, "%s: no NAME=VALUE", *args);
		*value++ = '\0';
		dprintf(fileno(port), is_json(value) ? "%s\"%s\":%s" :
						       "%s\"%s\":\"%s\"",
			before, *args, value);
		before = ",";
	}
	dprintf(fileno(port), "}}\n");
	while (getline(&line, &size, port) > 0) {
		good = !strncmp(line, "{\"return\"", 9);
		if (!good && strncmp(line, "{\"error\"", 8))
			continue;
		if (show)
			fputs(line, good ? stdout : stderr);
		free(line);
		return good;
	}
	errx(1, "%s: QEMU has gone", command);
}

int main(int argc, char **argv)
{
	FILE *port;

	if (argc < 3) {
		fprintf(stderr, "usage: qmp PATH COMMAND [NAME=VALUE]...\n");
		return 1;
	}
	alarm(PATIENCE);
	port = open_port(argv[1]);
	/* a port stays connected: whoever came before has done this already */
	ask(port, "qmp_capabilities", NULL, false);
	return !ask(port, argv[2], argv + 3, true);
}

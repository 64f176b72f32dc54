// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a device has that no VMM has open, for scripts.  "state VERB BDF ...":
 *
 * fill BDF SEED: memory and registers get a pattern
 * dump BDF FILE: both go to FILE
 * send BDF SEED DUMP IDSTR CONFIG FILE: it is filled and dumped, then our sender's
 *	packets of it go to FILE, with what is in CONFIG as config state
 * receive BDF DUMP IDSTR CONFIG MAIN FILE...: it gets MAIN, then our receiver
 *	loads it from what FILEs say that channels have carried, config state into
 *	CONFIG, and it is dumped
 * lend BDF SEED DUMP COMMAND...: it is filled, COMMAND gets it as fd 3, or the first
 *	from there on that it does not have yet, then it is brought to RUNNING and
 *	dumped; exits as COMMAND did
 */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine.h"
#include "vfio.h"

#define MAX_REGISTERS	16
#define PACKET		(1 << 20)	/* bytes; as QEMU's */

static struct vfio_device dev;

/* @ret is 0 or a negative errno. */
static void check(const char *what, int ret)
{
	if (ret)
		errx(1, "%s: %s: %s", dev.bdf, what, strerror(-ret));
}

static void join(struct engine *engine)
{
	int ret = engine_join_all(engine);
	struct vfio_multifd_status status;

	if (!ret || engine_status(engine->fd, &status))
		return;
	errx(1, "%s: transfer: %s: reason %u, channel %u, packet %u: 0x%llx instead of 0x%llx",
	     dev.bdf, strerror(-ret), status.reason, status.channel, status.idx,
	     status.got, status.expected);
}

static void put_file(const char *path, const void *data, size_t len)
{
	FILE *file = fopen(path, "w");

	if (!file)
		err(1, "%s", path);
	fwrite(data, 1, len, file);
	if (ferror(file) || fclose(file))
		err(1, "%s", path);
}

static void get_file(const char *path, struct wire_bytes *bytes)
{
	struct stat info;
	FILE *file = fopen(path, "r");

	if (!file || fstat(fileno(file), &info))
		err(1, "%s", path);
	if (fread(wire_room(bytes, info.st_size + 1), 1, info.st_size, file) !=
	    (size_t)info.st_size)
		err(1, "%s", path);
	bytes->len += info.st_size;
	fclose(file);
}

static void fill(char **arg)
{
	uint64_t seed = strtoull(arg[0], NULL, 0);

	vfio_fill(dev.map, dev.size, seed);
	check("registers", vfio_registers_fill(&dev, seed));
}

static void dump(char **arg)
{
	struct vfio_register regs[MAX_REGISTERS];
	struct wire_bytes bytes = {};

	check("registers", vfio_registers_read(&dev, regs));
	wire_add(&bytes, dev.map, dev.size);
	wire_add(&bytes, regs,
		 vfio_registers_count(dev.kind) * sizeof(regs[0]));
	put_file(arg[0], bytes.at, bytes.len);
}

/* @before: a file of what comes first, or NULL */
static void add_device(struct engine *engine, uint32_t state, const char *idstr,
		       const char *before)
{
	struct wire_bytes bytes = {};
	int fd;

	check("state", vfio_mig_set_state(&dev, state, &fd));
	if (before) {
		get_file(before, &bytes);
		if (write(fd, bytes.at, bytes.len) != (ssize_t)bytes.len)
			err(1, "%s: %s", dev.bdf, before);
	}
	check("add", engine_add_device_with(engine->fd,
					    VFIO_MULTIFD_DEVICE_RECORDS, fd,
					    idstr, 0));
	close(fd);
}

static void run(struct engine *engine)
{
	check("switchover", engine_switchover(engine->fd));
	engine_start_all(engine);
}

/* What stands for QEMU's packets has one order, and no start of a channel. */
static void send_packets(char **arg)
{
	struct wire_bytes config = {}, *bytes;
	struct engine engine;

	fill(arg);
	dump(arg + 1);
	check("transfer", engine_create(&engine, VFIO_MULTIFD_SEND, 1, 0,
					PACKET, 0));
	add_device(&engine, VFIO_DEVICE_STATE_STOP_COPY, arg[2], NULL);
	get_file(arg[3], &config);
	check("config", engine_set_config(engine.fd, 0, config.at, config.len));
	run(&engine);
	engine_read_all(&engine);
	join(&engine);
	engine_close(&engine);
	bytes = &engine.channel[0].bytes;
	put_file(arg[4], bytes->at + WIRE_INIT_SIZE,
		 bytes->len - WIRE_INIT_SIZE);
	check("state", vfio_mig_set_state(&dev, VFIO_DEVICE_STATE_RUNNING,
					  NULL));
}

static void *feed(void *channel)
{
	engine_put(channel);
	return NULL;
}

static void receive(char **arg)
{
	pthread_t thread[VFIO_MULTIFD_MAX_CHANNELS];
	uint32_t size = VFIO_MULTIFD_MAX_CONFIG;
	static char config[VFIO_MULTIFD_MAX_CONFIG];
	struct engine engine;
	unsigned int i, n = 0;

	while (arg[4 + n])
		n++;
	check("transfer", engine_create_skipper(&engine, n, PACKET));
	add_device(&engine, VFIO_DEVICE_STATE_RESUMING, arg[1], arg[3]);
	for (i = 0; i < n; i++)
		get_file(arg[4 + i], &engine.channel[i].bytes);
	run(&engine);
	for (i = 0; i < n; i++)
		if (pthread_create(&thread[i], NULL, feed, &engine.channel[i]))
			abort();
	join(&engine);
	check("config", engine_get_config(engine.fd, 0, config, &size));
	/* who still has something to send, such as RAM, is told to stop */
	engine_close(&engine);
	for (i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	put_file(arg[2], config, size);
	check("state", vfio_mig_set_state(&dev, VFIO_DEVICE_STATE_RUNNING,
					  NULL));
	dump(arg);
}

static int lent;	/* exit status of who had the device */

/* Says which state it comes back in. */
static void lend(char **arg)
{
	int fd = 3;
	pid_t pid;

	fill(arg);
	pid = fork();
	if (!pid) {
		/* not close-on-exec, as those that were lent to us */
		while (!fcntl(fd, F_GETFD))
			fd++;
		if (dup2(dev.fd, fd) == fd)
			execvp(arg[2], arg + 2);
		err(127, "%s", arg[2]);
	}
	if (pid < 0 || waitpid(pid, &lent, 0) != pid)
		err(1, "%s", arg[2]);
	lent = WIFEXITED(lent) ? WEXITSTATUS(lent) : 128 + WTERMSIG(lent);
	printf("device is in %s\n", vfio_mig_state_name(vfio_mig_state(&dev)));
	check("state", vfio_mig_set_state(&dev, VFIO_DEVICE_STATE_RUNNING,
					  NULL));
	dump(arg + 1);
}

struct verb {
	const char *name;
	void (*run)(char **arg);
	int args;	/* at least */
	bool more;
};

static const struct verb verbs[] = {
	{ "fill", fill, 1, false },
	{ "dump", dump, 1, false },
	{ "send", send_packets, 5, false },
	{ "receive", receive, 5, true },
	{ "lend", lend, 3, true },
};

static const struct verb *find(const char *name, int args)
{
	for (unsigned int i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (!strcmp(name, verbs[i].name) && args >= verbs[i].args &&
		    (args == verbs[i].args || verbs[i].more))
			return &verbs[i];
	return NULL;
}

int main(int argc, char **argv)
{
	struct vfio_container container;
	const struct verb *verb = argc > 1 ? find(argv[1], argc - 3) : NULL;

	if (!verb) {
		fprintf(stderr, "usage: state fill BDF SEED\n"
				"       state dump BDF FILE\n"
				"       state send BDF SEED DUMP IDSTR CONFIG FILE\n"
				"       state receive BDF DUMP IDSTR CONFIG MAIN FILE...\n"
				"       state lend BDF SEED DUMP COMMAND...\n");
		return 1;
	}
	check("container", vfio_container_open(&container));
	snprintf(dev.bdf, sizeof(dev.bdf), "%s", argv[2]);
	check("open", vfio_device_open(&dev, &container, argv[2]));
	verb->run(argv + 3);
	vfio_device_close(&dev);
	return lent;
}

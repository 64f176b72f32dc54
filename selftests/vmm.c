// SPDX-License-Identifier: GPL-2.0-only
/* The reference VMM: one process per host, some devices, one migration */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "helper.h"

enum vmm_exit {
	VMM_DONE	= 0,
	VMM_SETUP	= 1,
	VMM_REFUSED	= 2,
	VMM_ROLLED_BACK	= 3,
	VMM_UNDECIDED	= 4,
	VMM_LOST	= 5,
	VMM_BROKEN	= 6,
};

static const char usage[] =
"usage: vmm source|destination|check|save|restore [option]...\n"
"           [-- argument of the helper...]\n"
"       vmm list\n"
"\n"
"Opens devices, lets a guest work with them, and has the helper vfio-multifd\n"
"move their state to another VMM, or ask whether it would, or keep it in a file\n"
"(while the guest runs), or load it.  \"list\" shows which devices there are.\n"
"\n"
"  -d, --device=BDF[,idstr=NAME[,OPTION]...]\n"
"                        use this device, with more of the helper's --device-fd;\n"
"                        may be given several times\n"
"  -s, --seed=N          of what the guest writes (source)\n"
"  -r, --run-ms=N        the guest runs on so long after the helper may stop it\n"
"                        (source; default 100)\n"
"  -e, --early           pull the trigger as soon as both ends agree, or the\n"
"                        helper was started, without waiting for \"may-stop\"\n"
"                        (source, save)\n"
"  -c, --config-size=N   config state of N bytes in place of the real one\n"
"      --deaf=EVENT      no longer read what the helper has to say, from this on\n"
"  -f, --flip            flip a bit of each device's memory after loading\n"
"                        (destination)\n"
"      --helper=PROGRAM  default vfio-multifd\n"
"      --netns=NAME      as \"ip netns exec NAME\" would have it\n"
"  -h, --help            this text\n"
"\n"
"Lines on standard output: \"helper PID\", \"event TEXT\", \"stores NAME N\",\n"
"\"left NAME STATE\" (by the helper), \"state NAME STATE\" (in the end) and, after\n"
"success, \"digest NAME HEX\".\n"
"\n"
"Exit status: 0 done; 1 not set up; 2 refused, nothing was stopped; 3 failed,\n"
"the source runs and the destination was reset; 4 undecided, this end is stopped;\n"
"5 a device is lost; 6 a device or the helper did not do what it should.\n";

#define MAX_BLOB	(128 << 10)
#define PATIENCE	300	/* s; whoever hangs is killed then */

struct vmm {
	bool source;
	const char *verb;	/* of the helper */
	bool file;		/* save or restore */
	struct guest guest;
	struct helper helper;
	const char *program;
	uint64_t seed;
	unsigned int run_ms;
	bool early;
	const char *deaf;
	long config_size;	/* -1: the real config state */
	bool flip;
	bool running;		/* the vCPUs */
	bool triggered;
	bool loaded;		/* events seen */
	bool committed;
};

static struct vmm vmm = {
	.program = "vfio-multifd",
	.run_ms = 100,
	.config_size = -1,
};

static void fail(const char *what, int ret)
{
	fprintf(stderr, "vmm: %s: %s\n", what, strerror(-ret));
	exit(VMM_BROKEN);
}

static void check(const char *what, int ret)
{
	if (ret)
		fail(what, ret);
}

static void print_states(const char *word)
{
	for (unsigned int i = 0; i < vmm.guest.count; i++) {
		struct guest_device *device = &vmm.guest.device[i];
		int state = vfio_mig_state(&device->vfio);

		printf("%s %s %s\n", word, device->name,
		       vfio_mig_state_name(state));
	}
}

static void print_digests(void)
{
	for (unsigned int i = 0; i < vmm.guest.count; i++) {
		struct guest_device *device = &vmm.guest.device[i];
		uint64_t digest;

		check("digest", guest_digest(device, vmm.config_size < 0,
					     &digest));
		printf("digest %s %016llx\n", device->name,
		       (unsigned long long)digest);
	}
}

static void pause_vcpus(void)
{
	if (!vmm.running)
		return;
	check("vCPU", guest_pause(&vmm.guest));
	vmm.running = false;
	for (unsigned int i = 0; i < vmm.guest.count; i++)
		printf("stores %s %llu\n", vmm.guest.device[i].name,
		       (unsigned long long)vmm.guest.device[i].stores);
}

/* Devices and vCPUs run, whatever they did before */
static void run_on(void)
{
	for (unsigned int i = 0; i < vmm.guest.count; i++) {
		struct vfio_device *dev = &vmm.guest.device[i].vfio;

		check("RUNNING",
		      vfio_mig_set_state(dev, VFIO_DEVICE_STATE_RUNNING, NULL));
	}
	if (!vmm.running)
		check("vCPU", guest_run(&vmm.guest));
	vmm.running = true;
	usleep(10000);
	pause_vcpus();
}

static void reset_all(void)
{
	for (unsigned int i = 0; i < vmm.guest.count; i++)
		check("reset", vfio_device_reset(&vmm.guest.device[i].vfio));
}

static void give_configs(void)
{
	static uint8_t blob[MAX_BLOB];

	for (unsigned int i = 0; i < vmm.guest.count; i++) {
		struct guest_device *device = &vmm.guest.device[i];
		size_t len = sizeof(struct config_blob);

		if (vmm.config_size >= 0) {
			len = vmm.config_size;
			memset(blob, i + 1, len);
		} else {
			check("config space",
			      config_save(&device->config, &device->vfio,
					  (void *)blob));
		}
		/* a helper that is gone shows soon */
		if (helper_give_config(&vmm.helper, i, blob, len))
			fprintf(stderr, "vmm: no config state was taken\n");
	}
}

static void take_config(unsigned int i)
{
	struct guest_device *device = &vmm.guest.device[i];
	static uint8_t blob[MAX_BLOB];
	ssize_t len;

	len = helper_take_config(&vmm.helper, i, blob, sizeof(blob));
	if (vmm.config_size >= 0) {
		if (len != vmm.config_size)
			fail("size of the config state", -EBADMSG);
		while (len--)
			if (blob[len] != i + 1)
				fail("config state", -EBADMSG);
		return;
	}
	if (len != sizeof(struct config_blob))
		fail("size of the config state", -EBADMSG);
	check("config state", config_restore(&device->config, &device->vfio,
					     (void *)blob));
}

/* It comes with the commit, and whole to who cannot know whether there was one. */
static void look_for_configs(int outcome, bool died)
{
	static uint8_t blob[MAX_BLOB];
	ssize_t len = vmm.config_size < 0 ? (ssize_t)sizeof(struct config_blob) :
		      vmm.config_size;

	if (outcome != VMM_UNDECIDED)
		len = 0;
	else if (died)
		return;
	for (unsigned int i = 0; i < vmm.guest.count; i++)
		if (helper_take_config(&vmm.helper, i, blob, sizeof(blob)) != len)
			fail("config state without a commit", -EBADMSG);
}

/* What would run is all there: only now may it */
static void finish_destination(void)
{
	for (unsigned int i = 0; i < vmm.guest.count; i++) {
		struct vfio_device *dev = &vmm.guest.device[i].vfio;

		if (vfio_mig_state(dev) != VFIO_DEVICE_STATE_STOP)
			fail("a device was left in a wrong state", -EPROTO);
		if (!vmm.file)
			take_config(i);
		if (vmm.flip)
			dev->map[dev->size / 2 + i] ^= 1;
	}
	print_digests();
	run_on();
}

/* The devices stay stopped: they run elsewhere now */
static void finish_source(void)
{
	for (unsigned int i = 0; i < vmm.guest.count; i++) {
		int state = vfio_mig_state(&vmm.guest.device[i].vfio);

		if (state != VFIO_DEVICE_STATE_STOP_COPY &&
		    state != VFIO_DEVICE_STATE_STOP)
			fail("a device was not left stopped", -EPROTO);
	}
	print_digests();
}

/* The guest goes on for a while, and is seen to, before it is stopped */
static void let_run(void)
{
	uint64_t before[GUEST_MAX_DEVICES];

	for (unsigned int i = 0; i < vmm.guest.count; i++)
		before[i] = vmm.guest.device[i].stores;
	usleep(vmm.run_ms * 1000);
	pause_vcpus();
	for (unsigned int i = 0; i < vmm.guest.count; i++)
		/* cppcheck-suppress uninitvar; the count is the same as above */
		if (vmm.guest.device[i].stores == before[i])
			printf("%s wrote no more\n", vmm.guest.device[i].name);
}

/* Who begins anew may say again that it can stop */
static void stop_guest(void)
{
	if (vmm.triggered)
		return;
	vmm.triggered = true;
	let_run();
	/* a helper that is gone shows soon */
	if (helper_trigger(&vmm.helper))
		fprintf(stderr, "vmm: nobody took the trigger\n");
}

static void handle_event(const char *event)
{
	printf("event %s\n", event);
	if (!strcmp(event, vmm.early ? "negotiated" : "may-stop"))
		stop_guest();
	else if (!strcmp(event, "stopped") && vmm.source)
		give_configs();
	else if (!strcmp(event, "loaded"))
		vmm.loaded = true;
	else if (!strcmp(event, "committed") || !strcmp(event, "kept"))
		vmm.committed = true;
}

/* Who killed the helper did not ask who may run: what it said last decides */
static int outcome(int status)
{
	if (status >= 0)
		return status;
	fprintf(stderr, "vmm: the helper died of signal %d\n", -status);
	if (vmm.committed)
		return VMM_DONE;
	return vmm.loaded ? VMM_UNDECIDED : VMM_ROLLED_BACK;
}

static int migrate(char **arguments)
{
	bool talks = helper_talks(vmm.verb, arguments), died;
	char event[512];
	int ret;

	if (vmm.source && !talks)
		let_run();
	ret = helper_start(&vmm.helper, &vmm.guest, vmm.verb, vmm.program,
			   arguments);
	check("helper", ret);
	printf("helper %d\n", vmm.helper.pid);
	if (vmm.file && vmm.early && talks)
		stop_guest();
	while (helper_event(&vmm.helper, event, sizeof(event))) {
		handle_event(event);
		if (vmm.deaf && !strcmp(event, vmm.deaf))
			helper_ignore(&vmm.helper);
	}
	ret = helper_wait(&vmm.helper);
	died = ret < 0;
	ret = outcome(ret);
	pause_vcpus();
	print_states("left");

	if (!strcmp(vmm.verb, "recv") && ret != VMM_DONE)
		look_for_configs(ret, died);
	switch (ret) {
	case VMM_DONE:
		if (!strcmp(vmm.verb, "check"))
			break;
		if (!vmm.committed && talks)
			fail("the helper is done without commit", -EPROTO);
		if (vmm.source)
			finish_source();
		else
			finish_destination();
		break;
	case VMM_UNDECIDED:
		break;
	case VMM_SETUP:
	case VMM_REFUSED:
	case VMM_ROLLED_BACK:
	case VMM_LOST:
		if (!vmm.source || ret == VMM_LOST)
			reset_all();
		if (vmm.source)
			run_on();
		break;
	default:
		ret = VMM_BROKEN;
	}
	print_states("state");
	return ret;
}

static int list(void)
{
	for (const struct vfio_kind *const *kind = vfio_kinds; *kind; kind++) {
		char bdf[VFIO_BDF_SIZE], driver[64];
		uint64_t size = 0;

		for (unsigned int n = 0; !vfio_find(*kind, n, bdf); n++) {
			if (vfio_driver(bdf, driver, sizeof(driver)))
				strcpy(driver, "-");
			vfio_identify(bdf, &size);
			printf("%s %s %s %ju\n", bdf, (*kind)->name, driver,
			       (uintmax_t)size);
		}
	}
	return VMM_DONE;
}

static void enter_netns(const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		fail(path, -errno);
	close(fd);
}

/* "0000:01:00.0" or "0000:01:00.0,idstr=NAME" or "0000:01:00.0,idstr=NAME,OPTION" */
static void add_device(char *text)
{
	struct guest_device *device = &vmm.guest.device[vmm.guest.count];
	char *name = strstr(text, ",idstr="), *options;

	if (vmm.guest.count++ == GUEST_MAX_DEVICES)
		fail("devices", -E2BIG);
	snprintf(device->name, sizeof(device->name), "vfio%u",
		 vmm.guest.count - 1);
	if (name) {
		*name = '\0';
		snprintf(device->name, sizeof(device->name), "%s",
			 name + strlen(",idstr="));
		options = strchr(device->name, ',');
		if (options)
			*options++ = '\0';
		device->options = options;
	}
	snprintf(device->vfio.bdf, sizeof(device->vfio.bdf), "%s", text);
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {
		{ "device", required_argument, NULL, 'd' },
		{ "seed", required_argument, NULL, 's' },
		{ "run-ms", required_argument, NULL, 'r' },
		{ "early", no_argument, NULL, 'e' },
		{ "config-size", required_argument, NULL, 'c' },
		{ "deaf", required_argument, NULL, 'D' },
		{ "flip", no_argument, NULL, 'f' },
		{ "helper", required_argument, NULL, 'H' },
		{ "netns", required_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	int option;

	while ((option = getopt_long(argc, argv, "+d:s:r:ec:fh", options,
				     NULL)) != -1) {
		switch (option) {
		case 'd':
			add_device(optarg);
			break;
		case 's':
			vmm.seed = strtoull(optarg, NULL, 0);
			break;
		case 'r':
			vmm.run_ms = strtoul(optarg, NULL, 0);
			break;
		case 'e':
			vmm.early = true;
			break;
		case 'c':
			vmm.config_size = strtol(optarg, NULL, 0);
			break;
		case 'D':
			vmm.deaf = optarg;
			break;
		case 'f':
			vmm.flip = true;
			break;
		case 'H':
			vmm.program = optarg;
			break;
		case 'n':
			enter_netns(optarg);
			break;
		case 'h':
			fputs(usage, stdout);
			exit(VMM_DONE);
		default:
			fputs(usage, stderr);
			exit(VMM_SETUP);
		}
	}
	if (!vmm.guest.count || vmm.config_size > MAX_BLOB) {
		fputs(usage, stderr);
		exit(VMM_SETUP);
	}
}

int main(int argc, char **argv)
{
	static const char * const roles[][2] = {
		{ "source", "send" },
		{ "destination", "recv" },
		{ "check", "check" },
		{ "save", "save" },
		{ "restore", "restore" },
	};
	const char *role = argc > 1 ? argv[1] : "";

	alarm(PATIENCE);
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	if (!strcmp(role, "list"))
		return list();
	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
		if (!strcmp(role, roles[i][0]))
			vmm.verb = roles[i][1];
	if (!vmm.verb) {
		bool help = !strcmp(role, "-h") || !strcmp(role, "--help");

		fputs(usage, help ? stdout : stderr);
		return help ? VMM_DONE : VMM_SETUP;
	}
	vmm.source = strcmp(role, "destination") && strcmp(role, "restore");
	parse(argc - 1, argv + 1);
	/* A file has no config state of the VMM's. */
	vmm.file = !strcmp(role, "save") || !strcmp(role, "restore");
	if (vmm.file)
		vmm.config_size = 0;
	if (guest_open(&vmm.guest))
		return VMM_SETUP;
	if (vmm.source) {
		check("fill", guest_fill(&vmm.guest, vmm.seed));
		check("vCPU", guest_run(&vmm.guest));
		vmm.running = true;
	}
	return migrate(argv + 1 + optind);
}

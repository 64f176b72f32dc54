// SPDX-License-Identifier: GPL-2.0-only
/*
 * To be preloaded: drivers that take their time.  STATE_MS is what a device needs to
 * get to another state, one after the other, and WRITE_MS what it needs to load a
 * piece of its state of 4 KiB or more.  Or they go to STOP_COPY and STOP only if as
 * many as TOGETHER says are on their way at once.  Or SIGTERM comes with the fsync()
 * whose number TERM_AT says.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/vfio.h>

/* held by who goes to another state */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void wait_for(const char *name)
{
	const char *text = getenv(name);

	if (text)
		usleep(atoi(text) * 1000);
}

/* Who has waited for the others for ten seconds is alone: -1 and errno. */
static int meet(const struct vfio_device_feature_mig_state *state)
{
	static pthread_mutex_t door = PTHREAD_MUTEX_INITIALIZER;
	static pthread_cond_t all_here = PTHREAD_COND_INITIALIZER;
	static int here, times;
	const char *text = getenv("TOGETHER");
	struct timespec end;
	int time;

	if (!text || (state->device_state != VFIO_DEVICE_STATE_STOP_COPY &&
		      state->device_state != VFIO_DEVICE_STATE_STOP))
		return 0;
	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += 10;
	pthread_mutex_lock(&door);
	time = times;
	if (++here == atoi(text)) {
		here = 0;
		times++;
		pthread_cond_broadcast(&all_here);
	}
	errno = 0;
	while (time == times && errno != ETIMEDOUT)
		errno = pthread_cond_timedwait(&all_here, &door, &end);
	pthread_mutex_unlock(&door);
	return errno ? -1 : 0;
}

int ioctl(int fd, unsigned long request, ...)
{
	struct vfio_device_feature *feature;
	va_list args;
	void *arg;
	long ret;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	feature = arg;
	if (request != VFIO_DEVICE_FEATURE ||
	    feature->flags != (VFIO_DEVICE_FEATURE_SET |
			       VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE))
		return syscall(SYS_ioctl, fd, request, arg);
	if (meet((void *)feature->data))
		return -1;
	pthread_mutex_lock(&lock);
	wait_for("STATE_MS");
	ret = syscall(SYS_ioctl, fd, request, arg);
	pthread_mutex_unlock(&lock);
	return ret;
}

ssize_t write(int fd, const void *data, size_t size)
{
	if (size >= 4096)
		wait_for("WRITE_MS");
	return syscall(SYS_write, fd, data, size);
}

int fsync(int fd)
{
	const char *text = getenv("TERM_AT");
	static int times;

	if (text && ++times == atoi(text))
		raise(SIGTERM);
	return syscall(SYS_fsync, fd);
}

// SPDX-License-Identifier: LGPL-2.1-or-later
#include "trigger.h"

#include "error.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int vmf_trigger_read(int fd, struct vmf_error *error)
{
	char byte[8];	/* an eventfd wants that many */
	ssize_t got = read(fd, byte, sizeof(byte));

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got < 0)
		return vmf_error_set(error, -errno,
				     "trigger-fd %d: %s", fd, strerror(errno));
	if (!got)
		return vmf_error_set(error, -ECANCELED,
				     "the VMM closed the trigger without pulling it");
	return 1;
}

// SPDX-License-Identifier: LGPL-2.1-or-later
#include "path.h"

#include "error.h"
#include "net.h"

#include <errno.h>
#include <stdlib.h>

int vmf_path_open(struct vmf_session *session)
{
	const struct vmf_params *params = session->params;
	uint32_t i;
	int ret = 0;

	if (!params->channel_addresses)
		return 0;
	session->path = calloc(params->channel_addresses,
			       sizeof(*session->path));
	if (!session->path)
		return vmf_error_set(&session->error, -ENOMEM, "out of memory");
	for (i = 0; !ret && i < params->channel_addresses; i++)
		ret = vmf_net_resolve(params->channel_address[i],
				      params->address, &session->path[i].list,
				      &session->error);
	return ret;
}

void vmf_path_close(struct vmf_session *session)
{
	uint32_t i;

	if (!session->path)
		return;
	for (i = 0; i < session->params->channel_addresses; i++)
		vmf_net_forget(session->path[i].list);
	free(session->path);
	session->path = NULL;
}

/* The one for a channel, past those that cannot be reached */
static struct vmf_path *find(struct vmf_session *session, uint32_t id)
{
	uint32_t paths = session->params->channel_addresses, n;
	struct vmf_path *path;

	for (n = 0; n < paths; n++) {
		path = &session->path[(id + n) % paths];
		if (!path->dead)
			return path;
	}
	return NULL;
}

/* Once all have failed there is a chance for each of them again. */
static void is_dead(struct vmf_session *session, struct vmf_path *path)
{
	uint32_t i;

	path->dead = true;
	if (find(session, 0))
		return;
	for (i = 0; i < session->params->channel_addresses; i++)
		session->path[i].dead = false;
}

int vmf_path_connect(struct vmf_session *session, uint32_t id,
		     uint32_t timeout, struct vmf_error *error)
{
	const struct vmf_params *params = session->params;
	struct vmf_path *path;
	int sock;

	if (!params->channel_addresses)
		return vmf_net_connect_again(session->sock, timeout,
					     params->cancel_fd, error);
	path = find(session, id);
	sock = vmf_net_connect(path->list,
			       params->channel_address[path - session->path],
			       timeout, params->cancel_fd, error);
	if (sock == -ETIMEDOUT || sock == -ECONNREFUSED ||
	    sock == -EHOSTUNREACH || sock == -ENETUNREACH)
		is_dead(session, path);
	return sock;
}

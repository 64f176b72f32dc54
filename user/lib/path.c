// SPDX-License-Identifier: LGPL-2.1-or-later
#include "path.h"

#include "error.h"
#include "net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int vmf_path_open(struct vmf_session *session)
{
	const struct vmf_params *params = session->params;
	struct vmf_path *path;
	uint32_t i;
	int ret = 0;

	if (!params->channel_addresses || session->lasting->path)
		return 0;
	path = calloc(params->channel_addresses, sizeof(*path));
	session->lasting->path = path;
	if (!path)
		return vmf_error_set(&session->error, -ENOMEM, "out of memory");
	for (i = 0; !ret && i < params->channel_addresses; i++)
		ret = vmf_net_resolve(params->channel_address[i],
				      params->address, &path[i].list,
				      &session->error);
	return ret;
}

void vmf_path_close(struct vmf_lasting *lasting, uint32_t paths)
{
	uint32_t i;

	if (!lasting->path)
		return;
	for (i = 0; i < paths; i++)
		vmf_net_forget(lasting->path[i].list);
	free(lasting->path);
	lasting->path = NULL;
}

/* The one for a channel, past those that cannot be reached */
static struct vmf_path *find(struct vmf_session *session, uint32_t id)
{
	uint32_t paths = session->params->channel_addresses, n;
	struct vmf_path *path;

	for (n = 0; n < paths; n++) {
		path = &session->lasting->path[(id + n) % paths];
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
		session->lasting->path[i].dead = false;
}

int vmf_path_connect_main(struct vmf_session *session, uint32_t timeout,
			  struct vmf_error *error)
{
	const struct vmf_params *params = session->params;
	struct vmf_lasting *lasting = session->lasting;
	struct addrinfo *list;
	int sock, ret;

	/* Of several that a name has it is the one that was reached first. */
	if (lasting->to_size)
		return vmf_net_connect_to((struct sockaddr *)&lasting->to,
					  lasting->to_size, params->address,
					  timeout, params->cancel_fd, error);
	ret = vmf_net_resolve(params->address, NULL, &list, error);
	if (ret)
		return ret;
	sock = vmf_net_connect(list, params->address, timeout,
			       params->cancel_fd, error);
	vmf_net_forget(list);
	if (sock < 0)
		return sock;
	lasting->to_size = sizeof(lasting->to);
	if (!getpeername(sock, (struct sockaddr *)&lasting->to,
			 &lasting->to_size))
		return sock;
	ret = vmf_error_set(error, -errno, "connecting to %s: %s",
			    params->address, strerror(errno));
	lasting->to_size = 0;
	close(sock);
	return ret;
}

int vmf_path_connect(struct vmf_session *session, uint32_t id,
		     uint32_t timeout, struct vmf_error *error)
{
	const struct vmf_params *params = session->params;
	struct vmf_path *path;
	int sock;

	if (!params->channel_addresses)
		return vmf_path_connect_main(session, timeout, error);
	path = find(session, id);
	sock = vmf_net_connect(path->list,
			       params->channel_address[path - session->lasting->path],
			       timeout, params->cancel_fd, error);
	if (sock == -ETIMEDOUT || sock == -ECONNREFUSED ||
	    sock == -EHOSTUNREACH || sock == -ENETUNREACH)
		is_dead(session, path);
	return sock;
}

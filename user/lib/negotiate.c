// SPDX-License-Identifier: LGPL-2.1-or-later
#include "negotiate.h"

#include "error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

bool vmf_negotiate_name_ok(const char idstr[static VFIO_MULTIFD_IDSTR_SIZE])
{
	size_t i, length = strnlen(idstr, VFIO_MULTIFD_IDSTR_SIZE);

	if (!length || length == VFIO_MULTIFD_IDSTR_SIZE)
		return false;
	for (i = 0; i < length; i++)
		if (idstr[i] <= ' ' || idstr[i] > '~')
			return false;
	return true;
}

bool vmf_negotiate_same_name(const char *a, uint32_t a_instance,
			     const char *b, uint32_t b_instance)
{
	return a_instance == b_instance && !strcmp(a, b);
}

static void put_identity(struct vmf_message *out,
			 const struct vmf_identity *identity)
{
	uint32_t i;

	vmf_message_put_u64(out, identity->migration_flags);
	for (i = 0; i < VFIO_PCI_NUM_REGIONS; i++)
		vmf_message_put_u64(out, identity->region_size[i]);
	vmf_message_put_u16(out, identity->vendor);
	vmf_message_put_u16(out, identity->device);
	vmf_message_put_u32(out, identity->class_code << 8 |
			    identity->revision);
}

static void get_identity(struct vmf_message *in, struct vmf_identity *identity)
{
	uint32_t class_revision, i;

	identity->migration_flags = vmf_message_get_u64(in);
	for (i = 0; i < VFIO_PCI_NUM_REGIONS; i++)
		identity->region_size[i] = vmf_message_get_u64(in);
	identity->vendor = vmf_message_get_u16(in);
	identity->device = vmf_message_get_u16(in);
	class_revision = vmf_message_get_u32(in);
	identity->class_code = class_revision >> 8;
	identity->revision = class_revision & 0xff;
}

/*
 * What this end can do with packets of @packet_size.  Packets of an order-free
 * stream hold whole records, of which the smallest is a page and a few bytes.
 */
static uint64_t own_features(const struct vmf_session *session,
			     uint32_t packet_size)
{
	uint64_t features = VMF_FEATURE_PRE_COPY;

	if (session->engine)
		features |= vmf_engine_info(session->engine)->features;
	features &= session->params->features;
	if (session->check || session->role == VFIO_MULTIFD_RECV)
		features |= VMF_FEATURE_CHECK;
	if (packet_size < 2 * VFIO_MULTIFD_MIN_PACKET)
		features &= ~(uint64_t)VFIO_MULTIFD_FEATURE_ORDER_FREE;
	return features;
}

/* Does device @i have no choice but the main channel? */
static bool has_to_be_off(const struct vmf_session *session, uint32_t i)
{
	return session->params->device[i].multifd == VMF_MULTIFD_OFF ||
	       !session->engine;
}

static uint32_t hello_flags(const struct vmf_session *session, uint32_t i)
{
	const struct vmf_device *device = &session->params->device[i];
	uint32_t flags = 0;

	if (device->config_fd >= 0)
		flags |= VMF_HELLO_CONFIG;
	if (device->multifd == VMF_MULTIFD_ON)
		flags |= VMF_HELLO_ON;
	else if (has_to_be_off(session, i))
		flags |= VMF_HELLO_OFF;
	return flags;
}

int vmf_negotiate_put_hello(struct vmf_session *session,
			    uint8_t uuid[static VFIO_MULTIFD_UUID_SIZE])
{
	const struct vmf_params *params = session->params;
	struct vmf_message *out = &session->out;
	uint32_t i;

	if (getrandom(uuid, VFIO_MULTIFD_UUID_SIZE, 0) !=
	    VFIO_MULTIFD_UUID_SIZE)
		return vmf_error_set(&session->error, -errno, "getrandom: %s",
				     strerror(errno));

	vmf_message_start(out, VMF_HELLO);
	vmf_message_put_u16(out, VMF_MESSAGE_VERSION);
	vmf_message_put_u16(out, VMF_MESSAGE_VERSION);
	vmf_message_put_u32(out, params->channels);
	vmf_message_put_u64(out, own_features(session, params->packet_size));
	vmf_message_put_u32(out, params->packet_size);
	vmf_message_put_u32(out, params->devices);
	vmf_message_put(out, uuid, VFIO_MULTIFD_UUID_SIZE);
	for (i = 0; i < params->devices; i++) {
		const struct vmf_device *device = &params->device[i];

		vmf_message_put(out, device->idstr, sizeof(device->idstr));
		vmf_message_put_u32(out, device->instance_id);
		vmf_message_put_u32(out, hello_flags(session, i));
		put_identity(out, &session->device[i].identity);
	}
	return 0;
}

int vmf_negotiate_get_hello(struct vmf_session *session,
			    struct vmf_hello *hello)
{
	struct vmf_message *in = &session->in;
	uint16_t low = vmf_message_get_u16(in);
	uint16_t high = vmf_message_get_u16(in);
	uint32_t i;

	/* Of another version only these two numbers are known. */
	if (low > VMF_MESSAGE_VERSION || high < VMF_MESSAGE_VERSION)
		return vmf_error_set(&session->error, -EPROTONOSUPPORT,
				     "the source speaks versions %u to %u of the protocol, the destination version %u",
				     low, high, VMF_MESSAGE_VERSION);

	hello->channels = vmf_message_get_u32(in);
	hello->features = vmf_message_get_u64(in);
	hello->packet_size = vmf_message_get_u32(in);
	hello->devices = vmf_message_get_u32(in);
	vmf_message_get(in, hello->uuid, sizeof(hello->uuid));
	if (hello->devices > VFIO_MULTIFD_MAX_DEVICES)
		return vmf_error_set(&session->error, -E2BIG,
				     "the number of devices is %u at the source, the limit is %u",
				     hello->devices, VFIO_MULTIFD_MAX_DEVICES);
	for (i = 0; i < hello->devices; i++) {
		struct vmf_hello_device *device = &hello->device[i];

		vmf_message_get(in, device->idstr, sizeof(device->idstr));
		device->instance_id = vmf_message_get_u32(in);
		device->flags = vmf_message_get_u32(in);
		get_identity(in, &device->identity);
		if (!in->bad && !vmf_negotiate_name_ok(device->idstr))
			return vmf_error_set(&session->error, -EPROTO,
					     "HELLO: device %u has no proper name",
					     i);
	}
	return vmf_message_end(in, &session->error);
}

/* Sets the error for something of device @name that is not alike. */
static int differ(struct vmf_session *session, const char *name,
		  const char *what, uint64_t source, uint64_t destination)
{
	return vmf_error_set(&session->error, -ENODEV,
			     "device %s: %s is 0x%llx at the source, 0x%llx at the destination",
			     name, what, (unsigned long long)source,
			     (unsigned long long)destination);
}

static int match_identity(struct vmf_session *session, const char *name,
			  const struct vmf_identity *source,
			  const struct vmf_identity *destination)
{
	char what[32];
	uint32_t i;

	if (source->vendor != destination->vendor ||
	    source->device != destination->device)
		return vmf_error_set(&session->error, -ENODEV,
				     "device %s: PCI id is %04x:%04x at the source, %04x:%04x at the destination",
				     name, source->vendor, source->device,
				     destination->vendor, destination->device);
	if (source->class_code != destination->class_code)
		return differ(session, name, "PCI class", source->class_code,
			      destination->class_code);
	if (source->revision != destination->revision)
		return differ(session, name, "PCI revision", source->revision,
			      destination->revision);
	for (i = 0; i < VFIO_PCI_NUM_REGIONS; i++) {
		if (source->region_size[i] == destination->region_size[i])
			continue;
		snprintf(what, sizeof(what), "size of region %u", i);
		return differ(session, name, what, source->region_size[i],
			      destination->region_size[i]);
	}
	/* What the source may use the destination must know; not vice versa. */
	if (source->migration_flags & ~destination->migration_flags)
		return differ(session, name, "set of migration flags",
			      source->migration_flags,
			      destination->migration_flags);
	return 0;
}

/* Why a device that could have multifd has none */
static void note_fallback(struct vmf_session *session, uint32_t i,
			  const char *why)
{
	const struct vmf_device *device = &session->params->device[i];
	struct vmf_report *report = session->report;

	if (device->multifd == VMF_MULTIFD_AUTO && !*report->fallback)
		snprintf(report->fallback, sizeof(report->fallback),
			 "device %s goes over the main channel: %.200s",
			 device->idstr, session->engine ? why :
			 session->no_engine.text);
}

/* Which way device @i goes: over the channels if nobody is against it */
static int match_multifd(struct vmf_session *session,
			 const struct vmf_hello_device *from, uint32_t i)
{
	enum vmf_multifd own = session->params->device[i].multifd;
	bool on = from->flags & VMF_HELLO_ON, off = from->flags & VMF_HELLO_OFF;

	if ((on && own == VMF_MULTIFD_OFF) || (off && own == VMF_MULTIFD_ON))
		return vmf_error_set(&session->error, -ENODEV,
				     "device %s: multifd is %s at the source, %s at the destination",
				     from->idstr, on ? "on" : "off",
				     on ? "off" : "on");
	if (on && !session->engine)
		return vmf_error_set(&session->error, -ENODEV,
				     "device %s: multifd is on at the source, the destination cannot: %.100s",
				     from->idstr, session->no_engine.text);
	session->device[i].on_main = off || has_to_be_off(session, i);
	if (session->device[i].on_main)
		note_fallback(session, i, "the source wants it so");
	return 0;
}

/* Finds the destination's device for @from, which is @number of the source's. */
static int match_device(struct vmf_session *session, uint32_t number,
			const struct vmf_hello_device *from, uint32_t *to)
{
	const struct vmf_params *params = session->params;
	bool has_config, wants_config = from->flags & VMF_HELLO_CONFIG;
	uint32_t i;
	int ret;

	for (i = 0; i < params->devices; i++)
		if (vmf_negotiate_same_name(from->idstr, from->instance_id,
					    params->device[i].idstr,
					    params->device[i].instance_id))
			break;
	if (i == params->devices)
		return vmf_error_set(&session->error, -ENODEV,
				     "device %s: the destination has none of this name",
				     from->idstr);
	*to = i;

	if (from->flags & ~(VMF_HELLO_CONFIG | VMF_HELLO_ON | VMF_HELLO_OFF) ||
	    (from->flags & VMF_HELLO_ON && from->flags & VMF_HELLO_OFF))
		return vmf_error_set(&session->error, -EPROTO,
				     "device %s: unknown flags 0x%x in HELLO",
				     from->idstr, from->flags);
	has_config = params->device[i].config_fd >= 0;
	if (has_config != wants_config)
		return vmf_error_set(&session->error, -ENODEV,
				     "device %s: only the %s has a config-fd",
				     from->idstr, has_config ?
				     "destination" : "source");
	ret = match_identity(session, from->idstr, &from->identity,
			     &session->device[i].identity);
	if (ret)
		return ret;
	session->device[i].at_peer = number;
	return match_multifd(session, from, i);
}

/* The engine's limits, where it has anything to do */
static int match_limits(struct vmf_session *session,
			const struct vmf_hello *hello)
{
	const struct vfio_multifd_info *info = vmf_engine_info(session->engine);

	if (!hello->channels || hello->channels > info->max_channels)
		return vmf_error_set(&session->error, -EINVAL,
				     "the source wants %u channels, the destination takes 1 to %u",
				     hello->channels, info->max_channels);
	if (hello->packet_size < info->min_packet ||
	    hello->packet_size > info->max_packet ||
	    hello->packet_size % info->min_packet)
		return vmf_error_set(&session->error, -EINVAL,
				     "the source wants packets of %u bytes, the destination takes multiples of %u up to %u",
				     hello->packet_size, info->min_packet,
				     info->max_packet);
	return 0;
}

static bool any_on_channels(const struct vmf_session *session)
{
	uint32_t i;

	for (i = 0; i < session->params->devices; i++)
		if (!session->device[i].on_main)
			return true;
	return false;
}

int vmf_negotiate_match(struct vmf_session *session,
			const struct vmf_hello *hello,
			uint32_t map[static VFIO_MULTIFD_MAX_DEVICES])
{
	uint32_t i, j;
	int ret;

	*session->report->fallback = '\0';
	if (hello->devices != session->params->devices)
		return vmf_error_set(&session->error, -ENODEV,
				     "the number of devices is %u at the source, %u at the destination",
				     hello->devices, session->params->devices);

	for (i = 0; i < hello->devices; i++) {
		ret = match_device(session, i, &hello->device[i], &map[i]);
		if (ret)
			return ret;
		for (j = 0; j < i; j++)
			if (map[j] == map[i])
				return vmf_error_set(&session->error, -EPROTO,
						     "device %s: twice in HELLO",
						     hello->device[i].idstr);
	}

	session->report->channels = 0;
	if (any_on_channels(session)) {
		ret = match_limits(session, hello);
		if (ret)
			return ret;
		session->report->channels = hello->channels;
	}
	session->report->packet_size = hello->packet_size;
	session->report->features = hello->features &
				    own_features(session, hello->packet_size);
	return 0;
}

static void put_ack_devices(struct vmf_session *session)
{
	uint32_t number, i, flags;

	for (number = 0; number < session->params->devices; number++) {
		flags = 0;
		for (i = 0; i < session->params->devices; i++)
			if (session->device[i].at_peer == number &&
			    session->device[i].on_main)
				flags = VMF_ACK_MAIN;
		if (flags && !session->engine)
			flags |= VMF_ACK_NO_ENGINE;
		vmf_message_put_u32(&session->out, flags);
	}
}

int vmf_negotiate_send_ack(struct vmf_session *session)
{
	struct vmf_message *out = &session->out;

	vmf_message_start(out, VMF_HELLO_ACK);
	vmf_message_put_u16(out, VMF_MESSAGE_VERSION);
	vmf_message_put_u16(out, 0);
	vmf_message_put_u32(out, 0);
	vmf_message_put_u64(out, session->report->features);
	put_ack_devices(session);
	session->agreed = true;
	return vmf_session_send(session);
}

static int get_ack_device(struct vmf_session *session, uint32_t i)
{
	const struct vmf_device *device = &session->params->device[i];
	uint32_t flags = vmf_message_get_u32(&session->in);
	bool on_main = flags & VMF_ACK_MAIN;

	if (flags & ~(VMF_ACK_MAIN | VMF_ACK_NO_ENGINE) ||
	    (on_main && device->multifd == VMF_MULTIFD_ON) ||
	    (!on_main && has_to_be_off(session, i)))
		return vmf_error_set(&session->error, -EPROTO,
				     "device %s: flags 0x%x in HELLO_ACK were not offered",
				     device->idstr, flags);
	session->device[i].on_main = on_main;
	if (on_main)
		note_fallback(session, i, flags & VMF_ACK_NO_ENGINE ?
			      "the destination has no engine" :
			      "the destination wants it so");
	return 0;
}

int vmf_negotiate_get_ack(struct vmf_session *session)
{
	struct vmf_message *in = &session->in;
	uint16_t version = vmf_message_get_u16(in);
	uint64_t features;
	uint32_t i;
	int ret;

	vmf_message_get_u16(in);
	vmf_message_get_u32(in);
	features = vmf_message_get_u64(in);
	if (version != VMF_MESSAGE_VERSION ||
	    features & ~own_features(session, session->params->packet_size))
		return vmf_error_set(&session->error, -EPROTO,
				     "HELLO_ACK: version %u, features 0x%llx were not offered",
				     version, (unsigned long long)features);

	session->agreed = true;
	for (i = 0; i < session->params->devices; i++) {
		ret = get_ack_device(session, i);
		if (ret)
			return ret;
	}
	if (any_on_channels(session))
		session->report->channels = session->params->channels;
	session->report->packet_size = session->params->packet_size;
	session->report->features = features;
	return vmf_message_end(in, &session->error);
}

int vmf_negotiate_setup(struct vmf_session *session,
			const uint8_t uuid[static VFIO_MULTIFD_UUID_SIZE])
{
	struct vfio_multifd_setup setup = {
		.role = session->role,
		.channels = session->report->channels,
		.packet_size = session->report->packet_size,
	};

	/* All state goes over the main channel. */
	if (!setup.channels) {
		session->done = true;
		return 0;
	}
	setup.features = session->report->features &
			 vmf_engine_info(session->engine)->features;
	memcpy(setup.uuid, uuid, sizeof(setup.uuid));
	return vmf_engine_setup(session->engine, &setup, &session->error);
}

int vmf_negotiate_seal(struct vmf_session *session)
{
	if (!session->report->channels)
		return 0;
	return vmf_engine_switchover(session->engine, &session->error);
}

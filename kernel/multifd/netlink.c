// SPDX-License-Identifier: GPL-2.0-only
/*
 * The generic netlink family "vfio-multifd": what each transfer does, for who has
 * CAP_NET_ADMIN in the network namespace that its channels belong to.
 */

#include <linux/cred.h>
#include <linux/vfio_multifd_netlink.h>
#include <net/genetlink.h>
#include <net/sock.h>

#include "transfer.h"

static struct genl_family family;

static int put_u64(struct sk_buff *skb, int attr, u64 value)
{
	return nla_put_u64_64bit(skb, attr, value, VFIO_MULTIFD_A_PAD);
}

static u32 nr_channels(const struct vmfd_transfer *tr)
{
	u32 i, n = 0;

	for (i = 0; i < tr->nr_channels; i++)
		n += !!tr->channels[i];
	return n;
}

static bool add_transfer(struct sk_buff *skb, const struct vmfd_transfer *tr,
			 struct user_namespace *ns)
{
	bool failed = tr->state == VFIO_MULTIFD_STATE_FAILED;

	return !nla_put(skb, VFIO_MULTIFD_A_UUID, sizeof(tr->uuid), tr->uuid) &&
	       !nla_put_u32(skb, VFIO_MULTIFD_A_UID,
			    from_kuid_munged(ns, tr->uid)) &&
	       !nla_put_u32(skb, VFIO_MULTIFD_A_ROLE, tr->role) &&
	       !nla_put_u32(skb, VFIO_MULTIFD_A_STATE, tr->state) &&
	       (!failed || (!nla_put_s32(skb, VFIO_MULTIFD_A_ERROR,
					 tr->error.error) &&
			    !nla_put_u32(skb, VFIO_MULTIFD_A_REASON,
					 tr->error.reason))) &&
	       !put_u64(skb, VFIO_MULTIFD_A_FEATURES, tr->features) &&
	       !nla_put_u32(skb, VFIO_MULTIFD_A_DEVICES, tr->nr_devices) &&
	       !nla_put_u32(skb, VFIO_MULTIFD_A_DEVICES_DONE,
			    tr->devices_done) &&
	       !nla_put_u32(skb, VFIO_MULTIFD_A_CHANNELS, nr_channels(tr)) &&
	       !put_u64(skb, VFIO_MULTIFD_A_BYTES, tr->bytes) &&
	       !put_u64(skb, VFIO_MULTIFD_A_PACKETS, tr->packets);
}

static bool add_device(struct sk_buff *skb, const struct vmfd_device *dev)
{
	return !nla_put_string(skb, VFIO_MULTIFD_A_IDSTR, dev->idstr) &&
	       !nla_put_u32(skb, VFIO_MULTIFD_A_INSTANCE, dev->instance_id) &&
	       !nla_put_u32(skb, VFIO_MULTIFD_A_DONE, dev->done) &&
	       !put_u64(skb, VFIO_MULTIFD_A_BYTES, dev->bytes) &&
	       !put_u64(skb, VFIO_MULTIFD_A_PACKETS, dev->packets);
}

static bool add_channel(struct sk_buff *skb, const struct vmfd_channel *ch)
{
	return !nla_put_u32(skb, VFIO_MULTIFD_A_CHANNEL, ch->id) &&
	       !put_u64(skb, VFIO_MULTIFD_A_BYTES, ch->bytes) &&
	       !put_u64(skb, VFIO_MULTIFD_A_PACKETS, ch->packets) &&
	       !put_u64(skb, VFIO_MULTIFD_A_NETWORK_NS,
			vmfd_channel_ns(ch, VMFD_DOING_NETWORK)) &&
	       !put_u64(skb, VFIO_MULTIFD_A_DEVICE_NS,
			vmfd_channel_ns(ch, VMFD_DOING_DEVICE)) &&
	       !put_u64(skb, VFIO_MULTIFD_A_WAIT_NS,
			vmfd_channel_ns(ch, VMFD_DOING_WAIT)) &&
	       !put_u64(skb, VFIO_MULTIFD_A_MEMORY, READ_ONCE(ch->memory));
}

/* The messages of a transfer, in their order */
enum kind { KIND_TRANSFER, KIND_DEVICE, KIND_CHANNEL, KINDS };

static u32 nr_parts(const struct vmfd_transfer *tr, enum kind kind)
{
	switch (kind) {
	case KIND_TRANSFER:
		return 1;
	case KIND_DEVICE:
		return tr->nr_devices;
	default:
		return tr->nr_channels;
	}
}

static bool fill_part(struct sk_buff *skb, const struct vmfd_transfer *tr,
		      enum kind kind, u32 n, struct user_namespace *ns)
{
	switch (kind) {
	case KIND_TRANSFER:
		return add_transfer(skb, tr, ns);
	case KIND_DEVICE:
		return add_device(skb, tr->devices[n]);
	default:
		return add_channel(skb, tr->channels[n]);
	}
}

static int add_part(struct sk_buff *skb, struct netlink_callback *cb,
		    const struct vmfd_transfer *tr, enum kind kind, u32 n)
{
	void *head;

	/* a channel that was not added yet */
	if (kind == KIND_CHANNEL && !tr->channels[n])
		return 0;
	head = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq,
			   &family, NLM_F_MULTI, VFIO_MULTIFD_CMD_GET);
	if (!head)
		return -EMSGSIZE;
	if (put_u64(skb, VFIO_MULTIFD_A_ID, tr->id) ||
	    !fill_part(skb, tr, kind, n, sk_user_ns(NETLINK_CB(cb->skb).sk))) {
		genlmsg_cancel(skb, head);
		return -EMSGSIZE;
	}
	genlmsg_end(skb, head);
	return 0;
}

/* Where a dump goes on: at this part of the first transfer from @id on */
struct position {
	u64 id;
	u32 kind;
	u32 n;
};

static_assert(sizeof(struct position) <=
	      sizeof_field(struct netlink_callback, ctx));

static int dump_transfer(struct sk_buff *skb, struct netlink_callback *cb,
			 const struct vmfd_transfer *tr)
{
	struct position *at = (void *)cb->ctx;

	/* where it stood before is gone */
	if (tr->id != at->id)
		*at = (struct position) { .id = tr->id };
	for (; at->kind < KINDS; at->kind++, at->n = 0)
		for (; at->n < nr_parts(tr, at->kind); at->n++)
			if (add_part(skb, cb, tr, at->kind, at->n))
				return -EMSGSIZE;
	*at = (struct position) { .id = tr->id + 1 };
	return 0;
}

/* Transfers are in the order of their ids. */
static int dump(struct sk_buff *skb, struct netlink_callback *cb)
{
	const struct position *at = (void *)cb->ctx;
	struct net *net = sock_net(cb->skb->sk);
	struct vmfd_transfer *tr;
	int ret = 0;

	if (mutex_lock_killable(&vmfd_transfer_list_lock))
		return -EINTR;
	list_for_each_entry(tr, &vmfd_transfer_list, node) {
		/* Others' transfers are not waited for. */
		if (tr->id < at->id || READ_ONCE(tr->net) != net)
			continue;
		ret = mutex_lock_killable(&tr->lock);
		if (ret)
			break;
		ret = dump_transfer(skb, cb, tr);
		mutex_unlock(&tr->lock);
		if (ret)
			break;
	}
	mutex_unlock(&vmfd_transfer_list_lock);
	/* whatever is in the message, there is more */
	return ret && !skb->len ? ret : skb->len;
}

static const struct genl_split_ops ops[] = {
	{
		.cmd	= VFIO_MULTIFD_CMD_GET,
		.dumpit	= dump,
		.flags	= GENL_UNS_ADMIN_PERM | GENL_CMD_CAP_DUMP,
	},
};

static const struct genl_multicast_group groups[] = {
	{
		.name	= VFIO_MULTIFD_MCGRP_EVENTS,
		.flags	= GENL_MCAST_CAP_NET_ADMIN,
	},
};

static struct genl_family family __ro_after_init = {
	.name		= VFIO_MULTIFD_FAMILY_NAME,
	.version	= VFIO_MULTIFD_FAMILY_VERSION,
	.netnsok	= true,
	.parallel_ops	= true,
	.module		= THIS_MODULE,
	.split_ops	= ops,
	.n_split_ops	= ARRAY_SIZE(ops),
	.mcgrps		= groups,
	.n_mcgrps	= ARRAY_SIZE(groups),
};

/**
 * vmfd_netlink_notify - tell who listens that a transfer has another state
 * @tr: the transfer, locked
 *
 * Who cannot be told for lack of memory is not told.
 */
void vmfd_netlink_notify(const struct vmfd_transfer *tr)
{
	struct sk_buff *skb;
	void *head;

	lockdep_assert_held(&tr->lock);
	if (!tr->net || !genl_has_listeners(&family, tr->net, 0))
		return;
	skb = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	if (!skb)
		return;
	head = genlmsg_put(skb, 0, 0, &family, 0, VFIO_MULTIFD_CMD_NTF);
	if (!head || put_u64(skb, VFIO_MULTIFD_A_ID, tr->id) ||
	    !add_transfer(skb, tr, tr->net->user_ns)) {
		nlmsg_free(skb);
		return;
	}
	genlmsg_end(skb, head);
	genlmsg_multicast_netns(&family, tr->net, skb, 0, 0, GFP_KERNEL);
}

int __init vmfd_netlink_init(void)
{
	return genl_register_family(&family);
}

void vmfd_netlink_exit(void)
{
	genl_unregister_family(&family);
}

// SPDX-License-Identifier: GPL-2.0-only
/* What saving and loading must agree on about records */

#include <linux/xxhash.h>

#include "qvp.h"

/**
 * qvp_record_header - say what a stream of this device starts with
 * @q: the device
 * @h: the header record's payload, QVP_RECORD_HEADER_SIZE bytes
 */
void qvp_record_header(struct qvp_device *q, struct vfio_record_header *h)
{
	struct pci_dev *pdev = q->core.pdev;

	memset(h, 0, QVP_RECORD_HEADER_SIZE);
	h->version = cpu_to_le32(VFIO_RECORD_VERSION);
	h->vendor = cpu_to_le16(pdev->vendor);
	h->device = cpu_to_le16(pdev->device);
	h->class = cpu_to_le32(pdev->class);
	h->revision = cpu_to_le32(pdev->revision);
	h->registers = cpu_to_le32(q->backend->registers);
	h->regions = cpu_to_le32(1);
	h->region[0].index = cpu_to_le32(q->backend->memory_bar);
	h->region[0].size = cpu_to_le64(q->size);
}

/**
 * qvp_record_payload - tell how many bytes follow a record
 * @rec: the record
 *
 * Return: that number, unchecked
 */
u64 qvp_record_payload(const struct vfio_record *rec)
{
	if (rec->tag == cpu_to_le32(VFIO_RECORD_ZERO))
		return 0;
	return le64_to_cpu(rec->length);
}

/**
 * qvp_record_digest - compute a record's digest
 * @rec: the record; its digest does not matter
 * @payload: what follows it; not looked at for a memory record
 *
 * Return: the digest
 */
u64 qvp_record_digest(const struct vfio_record *rec, const void *payload)
{
	struct vfio_record head = *rec;
	struct xxh64_state state;

	head.digest = 0;
	xxh64_reset(&state, 0);
	xxh64_update(&state, &head, sizeof(head));
	if (head.tag != cpu_to_le32(VFIO_RECORD_MEMORY))
		xxh64_update(&state, payload, qvp_record_payload(&head));
	return xxh64_digest(&state);
}

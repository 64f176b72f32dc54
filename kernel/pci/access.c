// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a user may do to the BARs
 *
 * Users reach them as with vfio-pci, but not for writing in STOP_COPY: a write
 * would make the stream a mix of two states.  A store gets SIGBUS then, and
 * write() -EBUSY.  Another device's DMA into a BAR is not seen.
 */

#include <linux/mm.h>
#include <linux/uaccess.h>

#include "qvp.h"

#define BAR_PAGES_SHIFT		(VFIO_PCI_OFFSET_SHIFT - PAGE_SHIFT)

/* Stable under memory_lock; under write_gate a "no" is */
static bool is_frozen(struct qvp_device *q)
{
	return READ_ONCE(q->frozen) && !qvp_reset_pending(q);
}

/* vfio-pci's own test, which not every kernel exports */
static bool is_accessible(struct qvp_device *q)
{
	struct vfio_pci_core_device *core = &q->core;
	__le16 *wanted = (__le16 *)&core->vconfig[PCI_COMMAND];

	return !core->pm_runtime_engaged &&
	       (__force int)core->pdev->current_state <
	       (__force int)PCI_D3hot &&
	       (core->pdev->no_command_memory ||
		*wanted & cpu_to_le16(PCI_COMMAND_MEMORY));
}

static vm_fault_t insert(struct vm_fault *vmf, bool writable)
{
	struct vm_area_struct *vma = vmf->vma;
	struct qvp_device *q = vma->vm_private_data;
	unsigned long bar = vmf->pgoff >> BAR_PAGES_SHIFT;
	unsigned long page = vmf->pgoff & (BIT(BAR_PAGES_SHIFT) - 1);
	vm_flags_t flags = vma->vm_flags;
	pgprot_t prot;

	if (!writable)
		flags &= ~VM_WRITE;
	/* As vfio-pci's vm_page_prot, but that is read-only by ->pfn_mkwrite */
	prot = pgprot_decrypted(pgprot_noncached(vm_get_page_prot(flags)));
	page += PHYS_PFN(pci_resource_start(q->core.pdev, bar));
	return vmf_insert_pfn_prot(vma, vmf->address, page, prot);
}

/* Part of a region, which may lie somewhere else than in the memory */
static void mark(struct qvp_device *q, loff_t pos, size_t count)
{
	u64 offset = pos & VFIO_PCI_OFFSET_MASK;

	if (VFIO_PCI_OFFSET_TO_INDEX(pos) != q->backend->memory_bar ||
	    !count || offset >= q->size)
		return;
	count = min(count, q->size - offset);
	qvp_pass_mark(q, offset / VFIO_RECORD_ALIGN,
		      (offset + count - 1) / VFIO_RECORD_ALIGN -
		      offset / VFIO_RECORD_ALIGN + 1);
}

/*
 * A read fault makes the page writable, too: no fault comes then between a
 * guest's or an IOMMU's look at the page table and its writes.
 */
static vm_fault_t fault(struct vm_fault *vmf)
{
	struct qvp_device *q = vmf->vma->vm_private_data;
	vm_fault_t ret = VM_FAULT_SIGBUS;
	bool frozen;

	down_read(&q->core.memory_lock);
	frozen = is_frozen(q);
	if (is_accessible(q) && !(frozen && vmf->flags & FAULT_FLAG_WRITE)) {
		mark(q, vmf->pgoff << PAGE_SHIFT, PAGE_SIZE);
		ret = insert(vmf, !frozen);
	}
	up_read(&q->core.memory_lock);
	return ret;
}

/*
 * A store to a page that was mapped read-only, in STOP_COPY or by mprotect().
 * It is fault() that may make a page writable, under memory_lock; so the page
 * goes, and the store comes again.
 */
static vm_fault_t pfn_mkwrite(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct qvp_device *q = vma->vm_private_data;
	bool frozen;

	down_read(&q->core.memory_lock);
	frozen = is_frozen(q);
	up_read(&q->core.memory_lock);
	if (frozen)
		return VM_FAULT_SIGBUS;
	unmap_mapping_range(vma->vm_file->f_mapping,
			    (loff_t)vmf->pgoff << PAGE_SHIFT, PAGE_SIZE, true);
	return VM_FAULT_NOPAGE;
}

static const struct vm_operations_struct vm_ops = {
	.fault = fault,
	.pfn_mkwrite = pfn_mkwrite,
};

/**
 * qvp_access_mmap - map a BAR for a user
 * @vdev: the device
 * @vma: where to
 *
 * Return: 0 or an error
 */
int qvp_access_mmap(struct vfio_device *vdev, struct vm_area_struct *vma)
{
	int ret = vfio_pci_core_mmap(vdev, vma);

	if (!ret && vma->vm_pgoff >> BAR_PAGES_SHIFT < PCI_STD_NUM_BARS) {
		vma->vm_private_data = qvp_from_vfio(vdev);
		vma->vm_ops = &vm_ops;
	}
	return ret;
}

static int show_wanted(struct qvp_device *q, u8 __user *user)
{
	u8 command;

	if (get_user(command, user))
		return -EFAULT;
	command &= ~PCI_COMMAND_MEMORY;
	command |= READ_ONCE(q->core.vconfig[PCI_COMMAND]) & PCI_COMMAND_MEMORY;
	return put_user(command, user);
}

/**
 * qvp_access_read - read() from the device fd
 * @vdev: the device
 * @buf: where to
 * @count: how much
 * @ppos: region and offset
 *
 * Who reads the command register while a session has turned memory decoding on
 * gets to see what the user wants it to be: a VMM would restore it elsewhere, and a
 * guest write it back.
 *
 * Return: number of bytes read or an error
 */
ssize_t qvp_access_read(struct vfio_device *vdev, char __user *buf,
			size_t count, loff_t *ppos)
{
	struct qvp_device *q = qvp_from_vfio(vdev);
	unsigned int decoding = READ_ONCE(q->decoding);
	loff_t at = VFIO_PCI_INDEX_TO_OFFSET(VFIO_PCI_CONFIG_REGION_INDEX) +
		    PCI_COMMAND - *ppos;
	ssize_t ret = vfio_pci_core_read(vdev, buf, count, ppos);

	if (at >= 0 && at < ret &&
	    (qvp_memory_forced(decoding) || decoding != READ_ONCE(q->decoding)) &&
	    show_wanted(q, (u8 __user *)buf + at))
		return -EFAULT;
	return ret;
}

/**
 * qvp_access_write - write() to the device fd
 * @vdev: the device
 * @buf: what to write
 * @count: how much
 * @ppos: region and offset
 *
 * Return: number of bytes written or an error
 */
ssize_t qvp_access_write(struct vfio_device *vdev, const char __user *buf,
			 size_t count, loff_t *ppos)
{
	struct qvp_device *q = qvp_from_vfio(vdev);
	loff_t pos = *ppos;
	ssize_t ret;

	if (VFIO_PCI_OFFSET_TO_INDEX(pos) >= PCI_STD_NUM_BARS)
		return vfio_pci_core_write(vdev, buf, count, ppos);

	ret = down_read_killable(&q->write_gate);
	if (ret)
		return ret;
	if (is_frozen(q)) {
		ret = -EBUSY;
	} else {
		ret = vfio_pci_core_write(vdev, buf, count, ppos);
		/* even an error may come after some bytes */
		down_read(&q->core.memory_lock);
		mark(q, pos, count);
		up_read(&q->core.memory_lock);
	}
	up_read(&q->write_gate);
	return ret;
}

/* A hot reset takes all devices of the set, and those that are open are the user's. */
static void reset_set_known(struct vfio_device *vdev)
{
	struct vfio_device_set *set = vdev->dev_set;
	struct vfio_device *other;

	mutex_lock(&set->lock);
	list_for_each_entry(other, &set->device_list, dev_set_list)
		if (other->ops == vdev->ops && other->open_count)
			qvp_migrate_reset_known(qvp_from_vfio(other));
	mutex_unlock(&set->lock);
}

/**
 * qvp_access_ioctl - ioctl() of the device fd, except VFIO_DEVICE_FEATURE
 * @vdev: the device
 * @cmd: which
 * @arg: its argument
 *
 * An ioeventfd would write to a BAR behind our back.
 *
 * Return: what the ioctl returns
 */
long qvp_access_ioctl(struct vfio_device *vdev, unsigned int cmd,
		      unsigned long arg)
{
	long ret;

	if (cmd == VFIO_DEVICE_IOEVENTFD)
		return -ENOTTY;
	ret = vfio_pci_core_ioctl(vdev, cmd, arg);
	if (!ret && cmd == VFIO_DEVICE_RESET)
		qvp_migrate_reset_known(qvp_from_vfio(vdev));
	if (!ret && cmd == VFIO_DEVICE_PCI_HOT_RESET)
		reset_set_known(vdev);
	return ret;
}

/**
 * qvp_access_zap - let the next access to a BAR fault, whoever's it is
 * @q: the device
 */
void qvp_access_zap(struct qvp_device *q)
{
	loff_t begin = VFIO_PCI_INDEX_TO_OFFSET(0);
	loff_t end = VFIO_PCI_INDEX_TO_OFFSET(PCI_STD_NUM_BARS);

	lockdep_assert_held_write(&q->core.memory_lock);
	unmap_mapping_range(q->core.vdev.inode->i_mapping, begin, end - begin,
			    true);
}

/**
 * qvp_access_freeze - keep users from writing to BARs
 * @q: the device
 */
void qvp_access_freeze(struct qvp_device *q)
{
	lockdep_assert_held_write(&q->write_gate);
	lockdep_assert_held_write(&q->core.memory_lock);
	WRITE_ONCE(q->frozen, true);
	qvp_access_zap(q);
}

/**
 * qvp_access_thaw - let users write to BARs, if they could not
 * @q: the device
 */
void qvp_access_thaw(struct qvp_device *q)
{
	lockdep_assert_held_write(&q->core.memory_lock);
	if (!q->frozen)
		return;
	WRITE_ONCE(q->frozen, false);
	qvp_access_zap(q);
}

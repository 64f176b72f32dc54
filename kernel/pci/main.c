// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio-pci variant driver for PCI devices that QEMU emulates
 *
 * What it adds to vfio-pci is migration of devices whose state is the memory
 * of one BAR and some registers of another.  Both are what a user reaches by
 * vfio-pci too; nothing of the state is hidden, and what is loaded can do no
 * more to the device than its user can.  PCI config space, MSI-X and eventfds
 * are the VMM's to save and restore.
 */

#include <linux/module.h>
#include <linux/pm_runtime.h>

#include "compat.h"
#define CREATE_TRACE_POINTS
#include "trace.h"

static int init(struct vfio_device *vdev)
{
	struct qvp_device *q = qvp_from_vfio(vdev);
	int ret;

	/* First, since it may fail, and what fails here is not released. */
	ret = vfio_pci_core_init_dev(vdev);
	if (ret)
		return ret;

	init_rwsem(&q->chunk_lock);
	init_rwsem(&q->write_gate);
	mutex_init(&q->state_lock);
	init_waitqueue_head(&q->changed);
	ratelimit_state_init(&q->load_errors, HZ, 20);
	q->state = VFIO_DEVICE_STATE_RUNNING;
	vdev->migration_flags = VFIO_MIGRATION_STOP_COPY |
				VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY;
	vdev->mig_ops = &qvp_migrate_ops;
	/* Elsewhere the core cannot give the answer to the user. */
	if (IS_ENABLED(CONFIG_IOMMUFD_DRIVER))
		vdev->log_ops = &qvp_log_ops;
	return 0;
}

static void release(struct vfio_device *vdev)
{
	mutex_destroy(&qvp_from_vfio(vdev)->state_lock);
	vfio_pci_core_release_dev(vdev);
}

/*
 * The device holds what its last user left, and a reset does not change it.
 * One that root makes meanwhile would swallow what is written.
 */
static int clear(struct qvp_device *q)
{
	int ret;

	down_write(&q->core.memory_lock);
	ret = qvp_memory_enable(q);
	down_read(&q->chunk_lock);
	if (!ret && qvp_reset_running(q))
		ret = -EBUSY;
	if (!ret)
		q->backend->clear(q);
	up_read(&q->chunk_lock);
	qvp_memory_restore(q);
	up_write(&q->core.memory_lock);
	return ret;
}

static int open_device(struct vfio_device *vdev)
{
	struct qvp_device *q = qvp_from_vfio(vdev);
	int ret;

	ret = vfio_pci_core_enable(&q->core);
	if (ret)
		return ret;
	if (q->backend->clear) {
		ret = clear(q);
		if (ret)
			goto out_disable;
	}
	qvp_migrate_start_over(q);
	vfio_pci_core_finish_enable(&q->core);
	return 0;

out_disable:
	vfio_pci_core_disable(&q->core);
	return ret;
}

/* The user may have sent the device to low power, where nothing is cleared. */
static void close_device(struct vfio_device *vdev)
{
	struct qvp_device *q = qvp_from_vfio(vdev);
	struct device *dev = &q->core.pdev->dev;
	bool is_awake = !pm_runtime_resume_and_get(dev);

	qvp_migrate_start_over(q);
	if (is_awake)
		pm_runtime_put(dev);
	vfio_pci_core_close_device(vdev);
}

static const struct vfio_device_ops device_ops = {
	.name = "qemu-vfio-pci",
	.init = init,
	.release = release,
	.open_device = open_device,
	.close_device = close_device,
	.ioctl = qvp_access_ioctl,
	.device_feature = vfio_pci_core_ioctl_feature,
	.read = qvp_access_read,
	.write = qvp_access_write,
	.mmap = qvp_access_mmap,
	.request = vfio_pci_core_request,
	.match = vfio_pci_core_match,
	QVP_REGION_INFO_OPS
	QVP_MATCH_TOKEN_OPS
	.bind_iommufd = vfio_iommufd_physical_bind,
	.unbind_iommufd = vfio_iommufd_physical_unbind,
	.attach_ioas = vfio_iommufd_physical_attach_ioas,
	.detach_ioas = vfio_iommufd_physical_detach_ioas,
};

static int probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	const struct qvp_backend *backend = (const void *)id->driver_data;
	struct qvp_device *q;
	int ret;

	/* driver_override forces a device on us that the table lacks. */
	if (!backend) {
		pci_err(pdev, "[%04x:%04x] class %06x is neither ivshmem-plain nor bochs-display\n",
			pdev->vendor, pdev->device, pdev->class);
		return -ENODEV;
	}
	ret = backend->check(pdev);
	if (ret)
		return ret;

	q = vfio_alloc_device(qvp_device, core.vdev, &pdev->dev, &device_ops);
	if (IS_ERR(q))
		return PTR_ERR(q);
	q->backend = backend;
	ret = qvp_memory_map(q, pdev);
	if (ret)
		goto out_put;
	dev_set_drvdata(&pdev->dev, &q->core);
	ret = vfio_pci_core_register_device(&q->core);
	if (ret)
		goto out_unmap;
	return 0;

out_unmap:
	qvp_memory_unmap(q);
out_put:
	vfio_put_device(&q->core.vdev);
	return ret;
}

static struct qvp_device *from_pci(struct pci_dev *pdev)
{
	return container_of(dev_get_drvdata(&pdev->dev), struct qvp_device,
			    core);
}

static void remove(struct pci_dev *pdev)
{
	struct qvp_device *q = from_pci(pdev);

	vfio_pci_core_unregister_device(&q->core);
	/* The last close may have found the device without its BARs. */
	qvp_migrate_start_over(q);
	qvp_memory_unmap(q);
	vfio_put_device(&q->core.vdev);
}

static void reset_prepare(struct pci_dev *pdev)
{
	qvp_migrate_reset_prepare(from_pci(pdev));
}

static void reset_done(struct pci_dev *pdev)
{
	qvp_migrate_reset_done(from_pci(pdev));
}

/* The recovery from such an error resets the device, and tells nobody. */
static pci_ers_result_t error_detected(struct pci_dev *pdev,
				       pci_channel_state_t state)
{
	if (state != pci_channel_io_normal)
		qvp_migrate_lost(from_pci(pdev));
	return vfio_pci_core_aer_err_detected(pdev, state);
}

static const struct pci_error_handlers err_handler = {
	.error_detected = error_detected,
	.reset_prepare = reset_prepare,
	.reset_done = reset_done,
};

/*
 * The class is there because others share the ids: libvirt and the like take
 * this driver for what its aliases match.
 */
#define BACKEND(_vendor, _device, _class, _backend)			\
	.vendor = (_vendor), .device = (_device),			\
	.subvendor = PCI_ANY_ID, .subdevice = PCI_ANY_ID,		\
	.class = (_class) << 8, .class_mask = 0xffff00,			\
	.override_only = PCI_ID_F_VFIO_DRIVER_OVERRIDE,			\
	.driver_data = (kernel_ulong_t)&(_backend)

static const struct pci_device_id id_table[] = {
	{ BACKEND(0x1af4, 0x1110, PCI_CLASS_MEMORY_RAM, qvp_ivshmem_backend) },
	{ BACKEND(0x1234, 0x1111, PCI_CLASS_DISPLAY_OTHER, qvp_bochs_backend) },
	{}
};
MODULE_DEVICE_TABLE(pci, id_table);

static struct pci_driver pci_driver = {
	.name = KBUILD_MODNAME,
	.id_table = id_table,
	.probe = probe,
	.remove = remove,
	.err_handler = &err_handler,
	.driver_managed_dma = true,
};
module_pci_driver(pci_driver);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("The vfio-multifd developers");
MODULE_DESCRIPTION("VFIO PCI driver with migration for devices that QEMU emulates");

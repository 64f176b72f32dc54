// SPDX-License-Identifier: GPL-2.0-only
/* /dev/foreign-file, see foreign_file.h */

#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "foreign_file.h"

#define CHUNK	4096

struct state {
	/* protects the rest, and is held while asleep; @stalled is read without */
	struct mutex lock;
	struct foreign_file file;
	u64 paused_at;
	bool stalled;
	u8 chunk[CHUNK];
};

static u8 pattern(u64 pos)
{
	return (pos * 0x9e3779b97f4a7c15ull) >> 56;
}

/* What happens before a byte moves; @len: at most so many of them may then */
static ssize_t misbehave(struct state *s, size_t *len)
{
	struct foreign_file *f = &s->file;

	if (f->stall_ms && f->pos >= f->stall_at && !s->stalled) {
		WRITE_ONCE(s->stalled, true);
		if (f->deaf)
			msleep(f->stall_ms);
		else if (msleep_interruptible(f->stall_ms))
			return -EINTR;
	}
	if (f->error && f->pos >= f->fail_at)
		return f->error;
	if (f->error)
		*len = min_t(u64, *len, f->fail_at - f->pos);
	if (f->most)
		*len = min_t(size_t, *len, f->most);
	*len = min3((u64)*len, f->size - f->pos, (u64)CHUNK);
	return 0;
}

static bool pauses(struct state *s, size_t *len)
{
	u64 every = s->file.pause_every, past;

	if (!every)
		return false;
	past = s->file.pos % every;
	if (s->file.pos && !past && s->paused_at != s->file.pos) {
		s->paused_at = s->file.pos;
		return true;
	}
	*len = min_t(u64, *len, every - past);
	return false;
}

static ssize_t foreign_read(struct file *file, char __user *to, size_t len,
			    loff_t *pos)
{
	struct state *s = file->private_data;
	size_t i;
	ssize_t ret;

	mutex_lock(&s->lock);
	ret = misbehave(s, &len);
	if (!ret && pauses(s, &len)) {
		ret = s->file.pause;
	} else if (!ret) {
		for (i = 0; i < len; i++)
			s->chunk[i] = pattern(s->file.pos + i);
		ret = copy_to_user(to, s->chunk, len) ? -EFAULT : len;
	}
	if (ret > 0)
		s->file.pos += ret;
	mutex_unlock(&s->lock);
	return ret;
}

static ssize_t foreign_write(struct file *file, const char __user *from,
			     size_t len, loff_t *pos)
{
	struct state *s = file->private_data;
	size_t i;
	ssize_t ret;

	mutex_lock(&s->lock);
	ret = misbehave(s, &len);
	if (!ret)
		ret = copy_from_user(s->chunk, from, len) ? -EFAULT : len;
	for (i = 0; ret > 0 && i < ret; i++)
		s->file.wrong += s->chunk[i] != pattern(s->file.pos + i);
	if (ret > 0)
		s->file.pos += ret;
	mutex_unlock(&s->lock);
	return ret;
}

static long foreign_ioctl(struct file *file, unsigned int cmd,
			  unsigned long arg)
{
	struct state *s = file->private_data;
	void __user *user = (void __user *)arg;
	long ret = -ENOTTY;

	if (cmd == FOREIGN_FILE_STALLED)
		return READ_ONCE(s->stalled);
	mutex_lock(&s->lock);
	if (cmd == FOREIGN_FILE_SET) {
		ret = copy_from_user(&s->file, user, sizeof(s->file)) ?
		      -EFAULT : 0;
		s->file.pos = 0;
		s->file.wrong = 0;
		s->stalled = false;
		s->paused_at = 0;
	} else if (cmd == FOREIGN_FILE_GET) {
		ret = copy_to_user(user, &s->file, sizeof(s->file)) ?
		      -EFAULT : 0;
	}
	mutex_unlock(&s->lock);
	return ret;
}

static int foreign_open(struct inode *inode, struct file *file)
{
	struct state *s = kzalloc(sizeof(*s), GFP_KERNEL_ACCOUNT);

	if (!s)
		return -ENOMEM;
	mutex_init(&s->lock);
	file->private_data = s;
	return stream_open(inode, file);
}

static int foreign_release(struct inode *inode, struct file *file)
{
	kfree(file->private_data);
	return 0;
}

static const struct file_operations foreign_fops = {
	.owner		= THIS_MODULE,
	.open		= foreign_open,
	.release	= foreign_release,
	.read		= foreign_read,
	.write		= foreign_write,
	.unlocked_ioctl	= foreign_ioctl,
};

static struct miscdevice foreign_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "foreign-file",
	.fops	= &foreign_fops,
	.mode	= 0600,
};
module_misc_device(foreign_misc);

MODULE_DESCRIPTION("A file that does what a driver should not do");
MODULE_LICENSE("GPL");

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * /dev/foreign-file: a file with ->read() and ->write() only, which does what a
 * driver should not do.  Each open file is one of its own.
 */
#ifndef FOREIGN_FILE_H
#define FOREIGN_FILE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct foreign_file - what a file does
 * @size: bytes that can be read, or that are to be written
 * @fail_at: byte at which it fails with @error, if that is not 0
 * @stall_at: byte before which a call sleeps, once, for @stall_ms
 * @pause_every: bytes after which a read gives @pause, once each time, or 0
 * @pos: out: bytes that were read, or written
 * @error: a negative errno
 * @pause: 0 or a negative errno
 * @most: bytes that one call takes, or 0
 * @stall_ms: how long it sleeps
 * @deaf: it sleeps on, whatever signal comes
 * @wrong: out: bytes that were written and are not what a read gives there
 */
struct foreign_file {
	__u64 size;
	__u64 fail_at;
	__u64 stall_at;
	__u64 pause_every;
	__u64 pos;
	__s32 error;
	__s32 pause;
	__u32 most;
	__u32 stall_ms;
	__u32 deaf;
	__u32 wrong;
};

#define FOREIGN_FILE_SET	_IOW(0xb9, 200, struct foreign_file)
#define FOREIGN_FILE_GET	_IOR(0xb9, 201, struct foreign_file)
/* 1 if a call has begun to sleep, else 0; does not wait for that call */
#define FOREIGN_FILE_STALLED	_IO(0xb9, 202)

#endif /* FOREIGN_FILE_H */

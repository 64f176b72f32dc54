/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A thread between a data fd and the session, for a device whose state goes over
 * the main channel: a driver may sleep, the session must not.
 */
#ifndef VMF_PUMP_H
#define VMF_PUMP_H

#include <vfio-multifd.h>

#define VMF_PUMP_DATA	65536u	/* bytes that are read or written at once */

struct vmf_pump;

/**
 * struct vmf_pump_note - what session and thread tell each other
 * @error: from the thread: negative errno, and the end
 * @paused: from the reader: there is no more for now, a note has it read on
 * @initial: from the reader: bytes that must be there before the stop are to come
 * @ended: to the reader: the device is in STOP_COPY, so that the next end of file is
 *	the end; from it: that was the end; to the writer: the same; from it: all is
 *	written
 * @size: bytes of data that come with the note; from the writer: that are written
 */
struct vmf_pump_note {
	int32_t error;
	bool paused;
	bool initial;
	bool ended;
	uint32_t size;
};

/* Both use a copy of @data_fd.  @precopy: the device is not in STOP_COPY yet. */
int vmf_pump_start_reader(struct vmf_pump **pump, int data_fd, bool precopy);
int vmf_pump_start_writer(struct vmf_pump **pump, int data_fd);

/* Readable when there is something to take, writable when there is room to put. */
int vmf_pump_fd(const struct vmf_pump *pump);

/* 0, with up to VMF_PUMP_DATA bytes at @data, or -EAGAIN.  A writer gives no data. */
int vmf_pump_take(struct vmf_pump *pump, struct vmf_pump_note *note, void *data);

/* 0, or -EAGAIN */
int vmf_pump_put(struct vmf_pump *pump, struct vmf_pump_note note,
		 const void *data);

/* Has the thread end wherever it is.  For both NULL is fine. */
void vmf_pump_cancel(struct vmf_pump *pump);

/* Gives everything back, if the thread has ended by @deadline, by vmf_clock_ns(). */
void vmf_pump_destroy(struct vmf_pump *pump, uint64_t deadline);

#endif /* VMF_PUMP_H */

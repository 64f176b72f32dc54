/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef VMF_THREAD_H
#define VMF_THREAD_H

#include <pthread.h>

/* Starts a thread that has every signal blocked. */
int vmf_thread_start(pthread_t *thread, void *(*run)(void *), void *arg);

#endif /* VMF_THREAD_H */

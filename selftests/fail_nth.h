/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Let the Nth allocation, or copy from or to user memory, of a thread fail
 *
 *	struct fail_nth sweep = {};
 *
 *	while (fail_nth_next(&sweep)) {
 *		fail_nth_arm(&sweep);
 *		ret = ...
 *		fail_nth_disarm(&sweep);
 *	}
 */
#ifndef SELFTESTS_FAIL_NTH_H
#define SELFTESTS_FAIL_NTH_H

#include <stdbool.h>

/**
 * struct fail_nth - one thing done again and again until nothing fails
 * @n: which one fails
 * @fired: it did
 * @quiet: runs until now, one after another, in which it did not
 * @patience: such runs until it is enough, if not one; for what is not always
 *	done by the same thread
 * @most: n ends there, if not 0
 * @runs: number of runs
 * @errors: those that ended with an error, which the user of this counts
 */
struct fail_nth {
	unsigned int n;
	bool fired;
	unsigned int quiet;
	unsigned int patience;
	unsigned int most;
	unsigned int runs;
	unsigned int errors;
};

bool fail_nth_skip(void);
bool fail_nth_next(struct fail_nth *sweep);
void fail_nth_arm(const struct fail_nth *sweep);
void fail_nth_disarm(struct fail_nth *sweep);
bool fail_nth_clean(int err);

/* @text says what is wrong, or is NULL */
#define EXPECT_RIGHT(text) do {						\
	const char *_text = text;					\
									\
	EXPECT_STREQ("", _text ? _text : "");				\
} while (0)

/* For the end of a sweep, which has broken off if something was wrong */
#define FAIL_NTH_DONE(sweep, name) do {					\
	const struct fail_nth *_s = sweep;				\
									\
	EXPECT_FALSE(_s->fired);					\
	TH_LOG("%s: %u runs to n = %u, %u errors", name, _s->runs,	\
	       _s->n, _s->errors);					\
} while (0)

#endif /* SELFTESTS_FAIL_NTH_H */

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
 * @most: if not 0, n ends there, and before that no run ends it in which
 *	nothing failed
 * @calm: what fails, if anything, is done without: no error comes
 * @runs: number of runs
 * @fires: those in which something failed
 * @errors: those that ended with an error, which the user of this counts
 *
 * One run in which nothing fails is the end.  This is right as long as the
 * thread does the same each time, and shares its work with no other.
 */
struct fail_nth {
	unsigned int n;
	bool fired;
	unsigned int most;
	bool calm;
	unsigned int runs;
	unsigned int fires;
	unsigned int errors;
};

int fail_nth_begin(void);
bool fail_nth_spare(const char *function);
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
	TH_LOG("%s: %u runs to n = %u, %u fired, %u errors", name,	\
	       _s->runs, _s->n, _s->fires, _s->errors);			\
	EXPECT_TRUE(_s->most || !_s->fired);				\
	EXPECT_TRUE(_s->calm || _s->fires);				\
	EXPECT_EQ(!_s->calm, _s->errors > 0);				\
} while (0)

#endif /* SELFTESTS_FAIL_NTH_H */

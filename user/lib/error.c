// SPDX-License-Identifier: LGPL-2.1-or-later
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

void vmf_error_clean(char *text)
{
	for (; *text; text++) {
		if (*text < ' ' || *text > '~')
			*text = '?';
	}
}

int vmf_error_set(struct vmf_error *error, int code, const char *fmt, ...)
{
	va_list args;

	if (!error || error->code)
		return code;

	error->code = code;
	va_start(args, fmt);
	vsnprintf(error->text, sizeof(error->text), fmt, args);
	va_end(args);
	vmf_error_clean(error->text);
	return code;
}

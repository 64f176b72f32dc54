// SPDX-License-Identifier: GPL-2.0-only
/*
 * await FILE START - wait until a line of FILE starts so, and print that line
 *
 * A script that polls with sleep(1) starts a program each time, and that is most
 * of what an emulated machine then does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE	30000	/* ms */
#define POLL		20	/* ms */

/* A line that is not whole yet is looked at the next time. */
static int find(const char *path, const char *start)
{
	FILE *file = fopen(path, "r");
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	int found = 0;

	if (!file)
		return 0;
	while (!found && (len = getline(&line, &size, file)) > 0)
		found = line[len - 1] == '\n' &&
			!strncmp(line, start, strlen(start));
	if (found)
		fputs(line, stdout);
	free(line);
	fclose(file);
	return found;
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: await FILE START\n");
		return 1;
	}
	for (int ms = 0; ms < PATIENCE; ms += POLL) {
		if (find(argv[1], argv[2]))
			return 0;
		usleep(POLL * 1000);
	}
	fprintf(stderr, "# no '%s' in %s\n", argv[2], argv[1]);
	return 1;
}

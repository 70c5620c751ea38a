/* SPDX-License-Identifier: MIT */
/*
 * Answers each line of its standard input on its standard output, and counts on standard error.
 * For the test of standard streams that lead outside.
 * build: musl-static
 * helper: yes
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void)
{
	char line[256];
	int nr = 0;
	ssize_t n;

	if (write(1, "ready\n", 6) != 6)
		return 1;
	for (;;) {
		n = read(0, line, sizeof(line) - 1);
		if (n > 0) {
			line[n] = '\0';
			dprintf(1, "answer %.*s\n", (int)strcspn(line, "\r\n"), line);
		}
		dprintf(2, "count %d %d\n", ++nr, n > 0);
		usleep(20000);
	}
}

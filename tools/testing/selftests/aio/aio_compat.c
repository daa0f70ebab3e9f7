// SPDX-License-Identifier: GPL-2.0
/*
 * Runs the 32-bit build of aio_rw, which lies beside this program: the compat
 * entry points of the same system calls.
 */
#include <libgen.h>

#include "kselftest.h"

int main(int argc, char **argv)
{
	char self[4096] = "", path[4096 + 16];

	(void)argc;
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) <= 0)
		ksft_exit_fail_perror("/proc/self/exe");
	snprintf(path, sizeof(path), "%s/aio_rw_32", dirname(self));
	/* It prints what it finds, as this program would. */
	execv(path, argv);

	ksft_print_header();
	if (errno == ENOENT)
		ksft_exit_skip("aio_rw_32 was not built: no 32-bit compiler\n");
	if (errno == ENOEXEC)
		ksft_exit_skip("this kernel runs no 32-bit programs\n");
	ksft_exit_fail_perror("aio_rw_32");
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Runs the 32-bit builds of tests, which lie beside this program: the compat
 * entry points of the same system calls. What they find is shown below the
 * result of each.
 */
#include <fcntl.h>
#include <libgen.h>
#include <spawn.h>
#include <sys/wait.h>

#include "kselftest.h"

static const char * const programs[] = {
	"aio_rw_32",
	"aio_path_32",
	"aio_seccomp_32",
	"aio_charge_32",
};

/* Each line is marked as belonging to the result that comes after it. */
static void show(int from)
{
	FILE *lines = fdopen(from, "r");
	char *line = NULL;
	size_t size = 0;

	while (lines && getline(&line, &size, lines) > 0)
		printf("# %s", line);
	free(line);
	if (lines)
		fclose(lines);
}

/* Returns 0, or an error number where the program cannot be started. */
static int run(const char *path, char **argv, int *status)
{
	posix_spawn_file_actions_t actions;
	int ret, out[2];
	pid_t pid;

	if (pipe2(out, O_CLOEXEC))
		return errno;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out[1], STDERR_FILENO);
	ret = posix_spawn(&pid, path, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(out[1]);
	if (ret) {
		close(out[0]);
		return ret;
	}
	show(out[0]);
	return waitpid(pid, status, 0) == pid ? 0 : errno;
}

int main(int argc, char **argv)
{
	char self[4096] = "", path[4096 + 16];
	const char *dir;
	size_t i;

	(void)argc;
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) <= 0)
		ksft_exit_fail_perror("/proc/self/exe");
	dir = dirname(self);
	ksft_print_header();
	ksft_set_plan(ARRAY_SIZE(programs));
	for (i = 0; i < ARRAY_SIZE(programs); i++) {
		int ret, status = 0, code = KSFT_SKIP;
		const char *why = NULL;

		snprintf(path, sizeof(path), "%s/%s", dir, programs[i]);
		ret = run(path, argv, &status);
		if (ret == ENOENT) {
			why = "was not built: no 32-bit compiler";
		} else if (ret == ENOEXEC) {
			why = "this kernel runs no 32-bit programs";
		} else if (ret) {
			why = strerror(ret);
			code = KSFT_FAIL;
		} else if (!WIFEXITED(status)) {
			why = strsignal(WTERMSIG(status));
			code = KSFT_FAIL;
		} else {
			code = WEXITSTATUS(status);
		}
		ksft_test_result_code(code, programs[i], why ? "%s" : NULL,
				      why);
	}
	/* Nothing was tested, and that is said where it is seen. */
	if (ksft_get_xskip_cnt() == ARRAY_SIZE(programs)) {
		ksft_print_cnts();
		return KSFT_SKIP;
	}
	ksft_finished();
}

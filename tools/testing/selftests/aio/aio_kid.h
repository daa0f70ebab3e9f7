/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A child process that a test can talk to, a letter at a time, where more than
 * one process is needed, or one that comes to an end.
 */
#ifndef _AIO_KID_H
#define _AIO_KID_H

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "aio_many.h"
#include "aio_test.h"

struct kid {
	pid_t	pid;
	int	hear[2];		/* what the parent hears */
	int	tell[2];		/* what the parent tells */
};

/* Returns 0 when there is nobody to be heard any more. */
static inline char hear(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char c;

	if (poll(&pfd, 1, MANY_MS * aio_slack()) != 1 ||
	    read(fd, &c, 1) != 1)
		return 0;
	return c;
}

static inline char kid_hear(const struct kid *kid)
{
	return hear(kid->hear[0]);
}

static inline bool kid_tell(const struct kid *kid, const char *c)
{
	return write(kid->tell[1], c, 1) == 1;
}

/* and in the child */
static inline char parent_hear(const struct kid *kid)
{
	return hear(kid->tell[0]);
}

static inline bool parent_tell(const struct kid *kid, const char *c)
{
	return write(kid->hear[1], c, 1) == 1;
}

static inline bool kid_start(struct kid *kid,
			     int (*fn)(struct kid *kid, void *arg), void *arg)
{
	if (pipe2(kid->hear, O_CLOEXEC) || pipe2(kid->tell, O_CLOEXEC))
		return false;
	kid->pid = fork();
	if (!kid->pid) {
		/* A failing test must not leave one behind. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(kid->hear[0]);
		close(kid->tell[1]);
		_exit(fn(kid, arg));
	}
	close(kid->hear[1]);
	close(kid->tell[0]);
	return kid->pid > 0;
}

/* For its function: says what does not hold. */
#define kid_ok(cond)							\
({									\
	bool __ok = !!(cond);						\
									\
	if (!__ok)							\
		fprintf(stderr, "# %s:%d: not so: %s (%s)\n", __FILE__,	\
			__LINE__, #cond, strerror(errno));		\
	__ok;								\
})

/* Gives what waitpid() says of it. */
static inline int kid_wait(struct kid *kid)
{
	int status = -1;

	if (waitpid(kid->pid, &status, 0) != kid->pid)
		status = -1;
	close(kid->hear[0]);
	close(kid->tell[1]);
	return status;
}

/* The exit code of a child that needs nobody to talk to, -1 without one. */
static inline int kid_run(int (*fn)(struct kid *kid, void *arg), void *arg)
{
	struct kid kid;
	int status;

	if (!kid_start(&kid, fn, arg))
		return -1;
	status = kid_wait(&kid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#endif /* _AIO_KID_H */

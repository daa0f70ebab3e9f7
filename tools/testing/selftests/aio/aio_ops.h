/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of the opcodes that io_submit() has in threaded contexts only
 * share: requests, and small files.
 */
#ifndef _AIO_OPS_H
#define _AIO_OPS_H

#include "aio_kid.h"
#include "../../../../samples/aio/aio_prep.h"

#define SECOND_NS	1000000000LL
#define NOBODY		65534

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE	1
#define RENAME_EXCHANGE		2
#define RENAME_WHITEOUT		4
#endif

/* libc has 0 for it where off_t has 64 bits; the kernel has this. */
#define AIO_O_LARGEFILE	0100000

#ifndef O_EMPTYPATH
#define O_EMPTYPATH	0400000000
#endif

/* ---- requests ---- */

static inline void iocb_openat(struct iocb *cb, int dirfd, const char *path,
			       int flags, mode_t mode)
{
	io_prep_openat(cb, dirfd, path, flags, mode);
	cb->aio_data = (uintptr_t)cb;
}

static inline void iocb_unlinkat(struct iocb *cb, int dirfd, const char *path,
				 int flags)
{
	io_prep_unlinkat(cb, dirfd, path, flags);
	cb->aio_data = (uintptr_t)cb;
}

static inline void iocb_renameat(struct iocb *cb, struct renameat_info *info,
				 int olddirfd, const char *oldpath,
				 int newdirfd, const char *newpath,
				 unsigned int flags)
{
	io_prep_renameat(cb, info, olddirfd, oldpath, newdirfd, newpath, flags);
	cb->aio_data = (uintptr_t)cb;
}

static inline void iocb_readahead(struct iocb *cb, int fd, size_t count,
				  long long offset)
{
	io_prep_readahead(cb, fd, count, offset);
	cb->aio_data = (uintptr_t)cb;
}

/* What the system call of the same arguments would have returned, or -errno. */
static inline long long aio_as_call(long long res)
{
	if (res <= AIO_REFUSED(0) && res > AIO_NO_EVENT)
		return res - AIO_REFUSED(0);
	return res;
}

/* Was it ended by io_cancel(), before it did anything? */
static inline bool aio_was_cancelled(long long res)
{
	return res == -EINTR || res == -ECANCELED;
}

/* ---- the system calls, each gives what the kernel returned ---- */

static inline long sys_openat(int dirfd, const char *path, int flags,
			      mode_t mode)
{
	return aio_ret(syscall(__NR_openat, dirfd, path, flags, mode));
}

static inline long sys_unlinkat(int dirfd, const char *path, int flags)
{
	return aio_ret(syscall(__NR_unlinkat, dirfd, path, flags));
}

static inline long sys_renameat2(int olddirfd, const char *oldpath,
				 int newdirfd, const char *newpath,
				 unsigned int flags)
{
	return aio_ret(syscall(__NR_renameat2, olddirfd, oldpath, newdirfd,
			       newpath, flags));
}

/* ---- small files ---- */

/* Make a file of that content, or replace the one that is there. */
static inline bool aio_put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	bool done = fd >= 0 &&
		    write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

/* Does it hold exactly that? */
static inline bool aio_holds(int fd, const char *text)
{
	char buf[256];
	ssize_t len = pread(fd, buf, sizeof(buf), 0);

	return len == (ssize_t)strlen(text) && !memcmp(buf, text, len);
}

static inline bool aio_exists(const char *path)
{
	struct stat st;

	return !lstat(path, &st);
}

/* The numbers that the next descriptors will get. */
static inline void aio_next_fds(int *fds, int nr)
{
	int i;

	for (i = 0; i < nr; i++)
		fds[i] = open("/", O_PATH | O_CLOEXEC);
	for (i = 0; i < nr; i++)
		close(fds[i]);
}

static inline int aio_next_fd(void)
{
	int fd;

	aio_next_fds(&fd, 1);
	return fd;
}

/* ---- what is in flight ---- */

/* Are there so many more requests than when the test began? */
static inline bool aio_in_flight(const struct aio_env *env, int more)
{
	long long want = env->queued + env->running + more;
	bool held = aio_wait_for(aio_stat("queued") + aio_stat("running") ==
				 want, MANY_MS);

	if (!held)
		fprintf(stderr, "# %lld queued, %lld running, not %lld\n",
			aio_stat("queued"), aio_stat("running"), want);
	return held;
}

/* So many more than when the test began have a worker. */
static inline bool aio_running(const struct aio_env *env, int more)
{
	return wait_stat("running", "==", env->running + more, MANY_MS);
}

/* Has everything gone that came since the test began? */
static inline bool aio_all_gone(const struct aio_env *env, long long aio_nr)
{
	int ms = 1000 * aio_slack();
	bool gone;

	gone = wait_stat("queued", "==", env->queued, ms);
	gone &= wait_stat("running", "==", env->running, ms);
	gone &= wait_stat("objects", "==", env->objects, AIO_PATIENCE_MS);
	if (!aio_wait_for(aio_fs_aio_nr() == aio_nr, AIO_PATIENCE_MS)) {
		fprintf(stderr, "# fs.aio-nr is %lld, was %lld\n",
			aio_fs_aio_nr(), aio_nr);
		gone = false;
	}
	return gone;
}

#endif /* _AIO_OPS_H */

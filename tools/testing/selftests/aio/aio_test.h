/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of native AIO share. The system calls are made directly, so
 * that nothing but the kernel stands between a test and its result: each
 * returns what the kernel returned, that is -errno for an error.
 */
#ifndef _AIO_TEST_H
#define _AIO_TEST_H

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <linux/aio_abi.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifndef RWF_HIPRI
#define RWF_HIPRI	0x00000001
#endif
#ifndef RWF_DSYNC
#define RWF_DSYNC	0x00000002
#endif
#ifndef RWF_SYNC
#define RWF_SYNC	0x00000004
#endif
#ifndef RWF_NOWAIT
#define RWF_NOWAIT	0x00000008
#endif
#ifndef RWF_APPEND
#define RWF_APPEND	0x00000010
#endif

/* The head of the mapped completion ring; its address is the aio_context_t. */
#define AIO_RING_MAGIC			0xa10a10a1
#define AIO_RING_COMPAT_FEATURES	1
#ifndef AIO_RING_COMPAT_THREADED
#define AIO_RING_COMPAT_THREADED	2
#endif

struct aio_ring {
	unsigned int	id;
	unsigned int	nr;
	unsigned int	head;
	unsigned int	tail;
	unsigned int	magic;
	unsigned int	compat_features;
	unsigned int	incompat_features;
	unsigned int	header_length;
	struct io_event	io_events[];
};

/* How long a condition may take before a test fails: a slow debug kernel's. */
#define AIO_PATIENCE_MS		10000

#define AIO_SYSCTL_THREADS	"/proc/sys/fs/aio-auto-threads"
#define AIO_MAX_WORKERS		"/proc/sys/fs/aio-thread-max-workers"
#define AIO_DEBUGFS		"/sys/kernel/debug"
#define AIO_STATS		AIO_DEBUGFS "/aio_thread/stats"
#define AIO_FORCE_WORKER	AIO_DEBUGFS "/aio_thread/force_worker"

/* ---- system calls ---- */

#define aio_ret(call)				\
({						\
	long __ret = (call);			\
						\
	__ret < 0 ? -errno : __ret;		\
})

static inline long sys_io_setup(unsigned int nr, aio_context_t *ctx)
{
	return aio_ret(syscall(__NR_io_setup, nr, ctx));
}

static inline long sys_io_destroy(aio_context_t ctx)
{
	return aio_ret(syscall(__NR_io_destroy, ctx));
}

static inline long sys_io_submit(aio_context_t ctx, long nr,
				 struct iocb **iocbs)
{
	return aio_ret(syscall(__NR_io_submit, ctx, nr, iocbs));
}

static inline long sys_io_cancel(aio_context_t ctx, struct iocb *cb,
				 struct io_event *ev)
{
	return aio_ret(syscall(__NR_io_cancel, ctx, cb, ev));
}

/* @timeout_ms: negative waits for ever */
static inline long sys_io_getevents(aio_context_t ctx, long min_nr, long nr,
				    struct io_event *events, int timeout_ms)
{
	/* What __NR_io_getevents takes, whatever libc makes of time_t. */
	struct {
		long tv_sec;
		long tv_nsec;
	} ts = { timeout_ms / 1000, timeout_ms % 1000 * 1000000L };

	return aio_ret(syscall(__NR_io_getevents, ctx, min_nr, nr, events,
			       timeout_ms < 0 ? NULL : &ts));
}

/* ---- requests ---- */

static inline void iocb_rw(struct iocb *cb, int opcode, int fd,
			   const void *buf, size_t nbytes, long long offset)
{
	memset(cb, 0, sizeof(*cb));
	cb->aio_data = (uintptr_t)cb;
	cb->aio_lio_opcode = opcode;
	cb->aio_fildes = fd;
	cb->aio_buf = (uintptr_t)buf;
	cb->aio_nbytes = nbytes;
	cb->aio_offset = offset;
}

static inline void iocb_pread(struct iocb *cb, int fd, void *buf, size_t len,
			      long long offset)
{
	iocb_rw(cb, IOCB_CMD_PREAD, fd, buf, len, offset);
}

static inline void iocb_pwrite(struct iocb *cb, int fd, const void *buf,
			       size_t len, long long offset)
{
	iocb_rw(cb, IOCB_CMD_PWRITE, fd, buf, len, offset);
}

static inline void iocb_preadv(struct iocb *cb, int fd,
			       const struct iovec *iov, int nr,
			       long long offset)
{
	iocb_rw(cb, IOCB_CMD_PREADV, fd, iov, nr, offset);
}

static inline void iocb_pwritev(struct iocb *cb, int fd,
				const struct iovec *iov, int nr,
				long long offset)
{
	iocb_rw(cb, IOCB_CMD_PWRITEV, fd, iov, nr, offset);
}

/* Returns 1, or what io_submit() refused the request with. */
static inline long submit_one(aio_context_t ctx, struct iocb *cb)
{
	return sys_io_submit(ctx, 1, &cb);
}

static inline long long aio_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

/* Returns 1 with an event, 0 when none came in time, -errno; restarts on EINTR. */
static inline long reap_one(aio_context_t ctx, struct io_event *ev,
			    int timeout_ms)
{
	long long end = aio_now_ns() + timeout_ms * 1000000LL;
	long ret;

	for (;;) {
		ret = sys_io_getevents(ctx, 1, 1, ev, timeout_ms);
		if (ret != -EINTR)
			return ret;
		if (timeout_ms >= 0) {
			long long left = (end - aio_now_ns()) / 1000000;

			timeout_ms = left > 0 ? left : 0;
		}
	}
}

/*
 * Submit and wait for the event. Gives the event's res; when there is none,
 * AIO_REFUSED(errno) if io_submit() refused and AIO_NO_EVENT if nothing came,
 * neither of which any event's res can be.
 */
#define AIO_REFUSED(err)	(-1000000LL - (err))
#define AIO_NO_EVENT		(-2000000LL)
#define AIO_WRONG_EVENT		(-3000000LL)

static inline long long aio_run(aio_context_t ctx, struct iocb *cb)
{
	struct io_event ev;
	uint64_t data = cb->aio_data;
	long ret = submit_one(ctx, cb);

	if (ret != 1)
		return AIO_REFUSED(-ret);
	if (reap_one(ctx, &ev, AIO_PATIENCE_MS) != 1)
		return AIO_NO_EVENT;
	if (ev.obj != (uintptr_t)cb || ev.data != data || ev.res2)
		return AIO_WRONG_EVENT;
	return ev.res;
}

/*
 * Open the end of a pipe that @fd is once more, by name. Such an end cannot be
 * tried, so what would block on it does so in a worker.
 */
static inline int aio_open_end(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC);
}

/* ---- conditions ---- */

/* Wait until @cond holds; gives whether it did within @ms. */
#define aio_wait_for(cond, ms)						\
({									\
	long long __end = aio_now_ns() + (ms) * 1000000LL;		\
	bool __held;							\
									\
	while (!(__held = !!(cond)) && aio_now_ns() < __end)		\
		usleep(500);						\
	__held;								\
})

/* ---- small files of the kernel ---- */

/* Returns the length read, or -errno. */
static inline long aio_read_text(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t ret, len = 0;

	if (fd < 0)
		return -errno;
	do {
		ret = read(fd, buf + len, size - 1 - len);
		if (ret > 0)
			len += ret;
	} while (ret > 0 || (ret < 0 && errno == EINTR));
	if (ret < 0)
		len = -errno;
	else
		buf[len] = '\0';
	close(fd);
	return len;
}

/* Returns the number that follows @line, or begins the file, -1 without it. */
static inline long long aio_read_number(const char *dir, const char *file,
					const char *line)
{
	char path[256], buf[8192], *at;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	if (aio_read_text(path, buf, sizeof(buf)) <= 0)
		return -1;
	at = line ? strstr(buf, line) : buf;
	return at ? atoll(at + (line ? strlen(line) : 0)) : -1;
}

/* Returns 0 or -errno. */
static inline int aio_write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

static inline int aio_set_threads(int on)
{
	return aio_write_text(AIO_SYSCTL_THREADS, on ? "1" : "0");
}

static inline int aio_get_threads(void)
{
	char buf[16];
	long ret = aio_read_text(AIO_SYSCTL_THREADS, buf, sizeof(buf));

	return ret < 0 ? ret : atoi(buf);
}

static inline int aio_set_force_worker(int on)
{
	return aio_write_text(AIO_FORCE_WORKER, on ? "1" : "0");
}

/* One line "name value" of the statistics; -errno, -ENODATA without the line. */
static inline long long aio_stat(const char *name)
{
	char buf[4096], *line, *save;
	size_t len = strlen(name);
	long ret = aio_read_text(AIO_STATS, buf, sizeof(buf));

	if (ret < 0)
		return ret;
	for (line = strtok_r(buf, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save))
		if (!strncmp(line, name, len) && line[len] == ' ')
			return atoll(line + len);
	return -ENODATA;
}

/* How requests ended up running, since boot; all 0 without statistics. */
struct aio_counts {
	long long	at_once;
	long long	native;
	long long	armed;
	long long	worker;
	long long	submitter;
	long long	cancelled;
};

static inline void aio_counts_get(struct aio_counts *c)
{
	memset(c, 0, sizeof(*c));
	if (access(AIO_STATS, R_OK))
		return;
	c->at_once = aio_stat("at_once");
	c->native = aio_stat("native");
	c->armed = aio_stat("armed");
	c->worker = aio_stat("worker");
	c->submitter = aio_stat("submitter");
	c->cancelled = aio_stat("cancelled");
}

/* What was counted after @since. */
static inline void aio_counts_since(const struct aio_counts *since,
				    struct aio_counts *c)
{
	aio_counts_get(c);
	c->at_once -= since->at_once;
	c->native -= since->native;
	c->armed -= since->armed;
	c->worker -= since->worker;
	c->submitter -= since->submitter;
	c->cancelled -= since->cancelled;
}

/* Requests that were taken after @since, each counted once. */
static inline long long aio_counts_ran(const struct aio_counts *since)
{
	struct aio_counts c;

	aio_counts_since(since, &c);
	return c.at_once + c.native + c.armed + c.worker + c.submitter;
}

/* What was counted after @since, once at least @nr requests are. */
static inline void aio_counts_settle(const struct aio_counts *since,
				     long long nr, struct aio_counts *c)
{
	aio_wait_for(aio_counts_ran(since) >= nr, AIO_PATIENCE_MS);
	aio_counts_since(since, c);
}

static inline bool aio_stat_is(const char *name, const char *op,
			       long long value)
{
	long long now = aio_stat(name);

	if (now < 0)
		return false;
	if (!strcmp(op, "=="))
		return now == value;
	if (!strcmp(op, "!="))
		return now != value;
	if (!strcmp(op, ">="))
		return now >= value;
	if (!strcmp(op, "<="))
		return now <= value;
	if (!strcmp(op, ">"))
		return now > value;
	if (!strcmp(op, "<"))
		return now < value;
	fprintf(stderr, "# no operator %s\n", op);
	abort();
}

/* Wait until "stat @name @op @value" holds; complains and gives false if not. */
static inline bool wait_stat(const char *name, const char *op,
			     long long value, int timeout_ms)
{
	bool held = aio_wait_for(aio_stat_is(name, op, value), timeout_ms);

	if (!held)
		fprintf(stderr, "# %s is %lld, waited for %s %lld\n", name,
			aio_stat(name), op, value);
	return held;
}

/* ---- tasks ---- */

/* The state letter of a task, 0 when it is gone. */
static inline char aio_task_state(pid_t tid)
{
	char path[64], buf[512], *end;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	if (aio_read_text(path, buf, sizeof(buf)) <= 0)
		return 0;
	end = strrchr(buf, ')');
	return end && end[1] ? end[2] : 0;
}

/* Wait until the task sleeps, in other words has come as far as it can. */
static inline bool aio_wait_asleep(pid_t tid, int timeout_ms)
{
	return aio_wait_for(strchr("SD", aio_task_state(tid) ?: 'X'),
			    timeout_ms);
}

/* Open descriptors of this process. */
static inline int aio_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int nr = 0;

	if (!dir)
		return -errno;
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

/* ---- data ---- */

/* The byte that belongs at @pos of stream @seed: shifted data never match. */
static inline uint64_t aio_word(uint32_t seed, uint64_t index)
{
	uint64_t x = (index + 1) * 0x9e3779b97f4a7c15ULL + seed;

	x ^= x >> 31;
	x *= 0xbf58476d1ce4e5b9ULL;
	return x ^ (x >> 29);
}

static inline uint8_t aio_byte(uint32_t seed, uint64_t pos)
{
	return aio_word(seed, pos >> 3) >> (pos & 7) * 8;
}

static inline void aio_fill(void *buf, size_t len, uint32_t seed, uint64_t pos)
{
	uint8_t *p = buf;

	for (; len && pos & 7; len--)
		*p++ = aio_byte(seed, pos++);
	for (; len >= 8; len -= 8, pos += 8, p += 8) {
		uint64_t word = htole64(aio_word(seed, pos >> 3));

		memcpy(p, &word, 8);
	}
	for (; len; len--)
		*p++ = aio_byte(seed, pos++);
}

/* Index of the first byte that is wrong, -1 when all is as aio_fill() wrote. */
static inline long long aio_check(const void *buf, size_t len, uint32_t seed,
				  uint64_t pos)
{
	const uint8_t *p = buf;
	size_t i = 0;

	for (; i < len && (pos + i) & 7; i++)
		if (p[i] != aio_byte(seed, pos + i))
			return i;
	for (; i + 8 <= len; i += 8) {
		uint64_t word = htole64(aio_word(seed, (pos + i) >> 3));

		if (memcmp(p + i, &word, 8))
			break;
	}
	for (; i < len; i++)
		if (p[i] != aio_byte(seed, pos + i))
			return i;
	return -1;
}

/* Index of the first byte that is not @byte, -1 when all are. */
static inline long long aio_check_byte(const void *buf, size_t len,
				       uint8_t byte)
{
	const uint8_t *p = buf;
	size_t i;

	for (i = 0; i < len; i++)
		if (p[i] != byte)
			return i;
	return -1;
}

/* ---- a test's surroundings ---- */

/*
 * Every test starts from and must come back to: no more request objects, no
 * more waiting, queued or running requests, no more descriptors than there
 * were, and no event that nobody asked for.
 */
struct aio_env {
	aio_context_t	ctx;
	int		threads_before;
	int		fds;
	bool		stats;
	long long	objects;
	long long	waiting;
	long long	queued;
	long long	running;
	bool		broken;
};

static inline bool aio_have_stats(void)
{
	if (!access(AIO_STATS, R_OK))
		return true;
	/* Not an error if it fails: the tests that need it say so. */
	mount("debugfs", AIO_DEBUGFS, "debugfs", 0, NULL);
	return !access(AIO_STATS, R_OK);
}

/*
 * Make a context of @nr_events, threaded or plain, with or without everything
 * forced into workers. Returns NULL, or why the test cannot run; env->broken
 * then tells a kernel that misbehaves from a machine that lacks something.
 */
static inline const char *aio_env_start(struct aio_env *env, bool threaded,
					bool force, unsigned int nr_events)
{
	static char why[128];
	const char *what;
	int ret;

	memset(env, 0, sizeof(*env));
	env->threads_before = aio_get_threads();
	env->stats = aio_have_stats();
	if (env->threads_before < 0) {
		/* A plain context needs nothing of CONFIG_AIO_THREAD. */
		if (threaded || force)
			return "kernel without CONFIG_AIO_THREAD";
	} else {
		if (geteuid())
			return "needs root for " AIO_SYSCTL_THREADS;
		if (!env->stats)
			return "no " AIO_STATS ", needs debugfs";
		what = AIO_SYSCTL_THREADS;
		ret = aio_set_threads(threaded);
		if (ret)
			goto broken;
		what = AIO_FORCE_WORKER;
		ret = aio_set_force_worker(force);
		if (ret)
			goto broken;
	}
	if (env->stats) {
		env->objects = aio_stat("objects");
		env->waiting = aio_stat("waiting");
		env->queued = aio_stat("queued");
		env->running = aio_stat("running");
		what = AIO_STATS;
		ret = env->objects < 0 || env->waiting < 0 ||
		      env->queued < 0 || env->running < 0 ? -ENODATA : 0;
		if (ret)
			goto broken;
	}
	env->fds = aio_count_fds();
	what = "io_setup()";
	ret = sys_io_setup(nr_events, &env->ctx);
	if (ret)
		goto broken;
	return NULL;

broken:
	env->broken = true;
	snprintf(why, sizeof(why), "%s: %s", what, strerror(-ret));
	return why;
}

/* Returns the number of things that were left behind; says which. */
static inline int aio_env_end(struct aio_env *env)
{
	struct io_event ev;
	int fds, wrong = 0;
	long ret;

	if (env->ctx) {
		while (reap_one(env->ctx, &ev, 0) == 1) {
			fprintf(stderr, "# stray event: obj %llx res %lld\n",
				(unsigned long long)ev.obj,
				(long long)ev.res);
			wrong++;
		}
		ret = sys_io_destroy(env->ctx);
		if (ret) {
			fprintf(stderr, "# io_destroy(): %s\n",
				strerror(-ret));
			wrong++;
		}
		env->ctx = 0;
	}
	if (env->stats) {
		wrong += !wait_stat("waiting", "<=", env->waiting,
				    AIO_PATIENCE_MS);
		wrong += !wait_stat("queued", "<=", env->queued,
				    AIO_PATIENCE_MS);
		wrong += !wait_stat("running", "<=", env->running,
				    AIO_PATIENCE_MS);
		wrong += !wait_stat("objects", "<=", env->objects,
				    AIO_PATIENCE_MS);
	}
	fds = aio_count_fds();
	if (fds != env->fds) {
		fprintf(stderr, "# %d descriptors open, were %d\n", fds,
			env->fds);
		wrong++;
	}
	if (env->threads_before >= 0) {
		if (env->stats)
			aio_set_force_worker(0);
		aio_set_threads(env->threads_before);
	}
	return wrong;
}

/* ---- requests that are blocked ---- */

/*
 * What would block on a pipe, a socket, an eventfd or the like waits on its
 * wait queues, or in a worker where all that may goes to one (@force). The same
 * holds for what such a request gives that is cancelled and has moved nothing.
 */
static inline const char *aio_blocked_stat(bool force)
{
	return force ? "running" : "waiting";
}

static inline long long aio_blocked_cancelled(bool force)
{
	return force ? -EINTR : -ECANCELED;
}

/* Wait until at least so many more than when the test began have a worker. */
static inline bool aio_wait_running(const struct aio_env *env, int more)
{
	return wait_stat("running", ">=", env->running + more,
			 AIO_PATIENCE_MS);
}

/* Wait until at least so many more than when the test began are blocked. */
static inline bool aio_wait_blocked(const struct aio_env *env, bool force,
				    int more)
{
	if (force)
		return aio_wait_running(env, more);
	/* And none has a worker, or is going to have one. */
	return wait_stat("waiting", ">=", env->waiting + more,
			 AIO_PATIENCE_MS) &&
	       wait_stat("queued", "<=", env->queued, AIO_PATIENCE_MS) &&
	       wait_stat("running", "<=", env->running, AIO_PATIENCE_MS);
}

/* Wait until none of those is left, wherever they were. */
static inline bool aio_wait_unblocked(const struct aio_env *env)
{
	return wait_stat("waiting", "==", env->waiting, AIO_PATIENCE_MS) &&
	       wait_stat("queued", "==", env->queued, AIO_PATIENCE_MS) &&
	       wait_stat("running", "==", env->running, AIO_PATIENCE_MS);
}

#ifdef __KSELFTEST_HARNESS_H
/* For FIXTURE_SETUP(): skips the test where it cannot run. */
static inline void aio_setup(struct __test_metadata *_metadata,
			     struct aio_env *env, bool threaded, bool force,
			     unsigned int nr_events)
{
	const char *why = aio_env_start(env, threaded, force, nr_events);

	/* The harness leaves a set-up that skips in the same way. */
	if (why && !env->broken)
		SKIP(_exit(0), "%s", why);
	ASSERT_TRUE(!why) {
		TH_LOG("%s", why);
	}
}

#define AIO_SETUP(env, threaded, force, nr_events)			\
	aio_setup(_metadata, env, threaded, force, nr_events)

/* For FIXTURE_TEARDOWN(). */
#define AIO_TEARDOWN(env)	EXPECT_EQ(0, aio_env_end(env))
#endif

/* ---- places to test on ---- */

/*
 * The directories of AIO_TEST_DIRS, separated by blanks. @index counts from 0;
 * gives false after the last. Those that do not exist are left out.
 */
static inline bool aio_test_dir(int index, char *buf, size_t size)
{
	const char *dirs = getenv("AIO_TEST_DIRS") ?: "/tmp /mnt/ext4";
	struct stat st;

	for (;;) {
		size_t len;

		dirs += strspn(dirs, " ");
		len = strcspn(dirs, " ");
		if (!len)
			return false;
		snprintf(buf, size, "%.*s", (int)len, dirs);
		dirs += len;
		if (stat(buf, &st) || !S_ISDIR(st.st_mode))
			continue;
		if (!index--)
			return true;
	}
}

/* A new file without a name in @dir; -errno where it cannot be made. */
static inline int aio_temp_file(const char *dir, int flags)
{
	char path[PATH_MAX + 16];
	int fd, again;

	snprintf(path, sizeof(path), "%s/aio-XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (flags) {
		again = open(path, O_RDWR | O_CLOEXEC | flags);
		if (again < 0)
			again = -errno;
		close(fd);
		fd = again;
	}
	unlink(path);
	return fd;
}

#endif /* _AIO_TEST_H */

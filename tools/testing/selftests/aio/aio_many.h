/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Many requests at once and the count of their events, and threads that meet:
 * for the tests of cancellation, of signals and of how requests end.
 */
#ifndef _AIO_MANY_H
#define _AIO_MANY_H

#include "aio_test.h"

#include <pthread.h>
#include <signal.h>
#include <linux/futex.h>

/*
 * More requests than can have a worker: a workqueue runs at most 2048 items at
 * a time (WQ_MAX_ACTIVE), so that of these some stay queued.
 */
#define MANY_OVERFLOW	4096

/* How long thousands of requests may take on a slow debug kernel. */
#define MANY_MS		120000

/* How much longer than promised things may take here: see AIO_SLOW. */
static inline int aio_slack(void)
{
	const char *slow = getenv("AIO_SLOW");

	return slow && atoi(slow) ? 10 : 1;
}

static inline int aio_rounds(int dflt)
{
	const char *rounds = getenv("AIO_RACE_ROUNDS");

	return rounds ? atoi(rounds) : dflt;
}

/*
 * The machine may have too little memory to allow, by default, thousands of
 * threads. It stays raised: idle workers count against it for minutes.
 */
static inline void aio_make_room(void)
{
	static const char path[] = "/proc/sys/kernel/threads-max";
	char buf[32];

	if (aio_read_text(path, buf, sizeof(buf)) > 0 && atoi(buf) < 16384)
		aio_write_text(path, "16384");
}

static inline long long aio_fs_aio_nr(void)
{
	char buf[32];
	long ret = aio_read_text("/proc/sys/fs/aio-nr", buf, sizeof(buf));

	return ret < 0 ? ret : atoll(buf);
}

/* Bytes to be read from @fd, -errno. */
static inline int aio_readable(int fd)
{
	int nr;

	return ioctl(fd, FIONREAD, &nr) ? -errno : nr;
}

/* Read what is there, at most @len; @fd is set not to block. */
static inline size_t aio_drain(int fd, void *buf, size_t len)
{
	size_t done = 0;
	ssize_t ret;

	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	while (done < len) {
		ret = read(fd, (char *)buf + done, len - done);
		if (ret <= 0)
			break;
		done += ret;
	}
	return done;
}

static inline __u32 aio_random(__u32 *state)
{
	__u32 x = *state;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	*state = x;
	return x;
}

/* ---- requests whose events are counted ---- */

struct many {
	aio_context_t	ctx;
	int		nr;
	struct iocb	*cbs;
	struct iocb	**ptrs;
	__u8		*bufs;		/* one byte each */
	long long	*res;
	int		*seen;
	int		reaped;		/* events, each request's first */
	int		wrong;		/* second ones, and nobody's */
};

static inline bool many_init(struct many *m, aio_context_t ctx, int nr)
{
	int i;

	memset(m, 0, sizeof(*m));
	m->ctx = ctx;
	m->nr = nr;
	m->cbs = calloc(nr, sizeof(*m->cbs));
	m->ptrs = calloc(nr, sizeof(*m->ptrs));
	m->bufs = calloc(nr, sizeof(*m->bufs));
	m->res = calloc(nr, sizeof(*m->res));
	m->seen = calloc(nr, sizeof(*m->seen));
	if (!m->cbs || !m->ptrs || !m->bufs || !m->res || !m->seen)
		return false;
	for (i = 0; i < nr; i++)
		m->ptrs[i] = &m->cbs[i];
	return true;
}

static inline void many_free(struct many *m)
{
	free(m->cbs);
	free(m->ptrs);
	free(m->bufs);
	free(m->res);
	free(m->seen);
	memset(m, 0, sizeof(*m));
}

/* Make request @i a read of one byte. */
static inline void many_read(struct many *m, int i, int fd)
{
	iocb_pread(&m->cbs[i], fd, &m->bufs[i], 1, 0);
	m->cbs[i].aio_data = i;
}

/* Returns 0 or -errno. */
static inline long many_submit(struct many *m, int first, int nr)
{
	long ret;

	while (nr) {
		ret = sys_io_submit(m->ctx, nr, &m->ptrs[first]);
		if (ret <= 0)
			return ret ?: -EIO;
		first += ret;
		nr -= ret;
	}
	return 0;
}

static inline void many_event(struct many *m, const struct io_event *ev)
{
	if (ev->data >= (__u64)m->nr || ev->res2 ||
	    ev->obj != (uintptr_t)&m->cbs[ev->data] || m->seen[ev->data]) {
		fprintf(stderr, "# wrong event: data %lld res %lld res2 %lld\n",
			(long long)ev->data, (long long)ev->res,
			(long long)ev->res2);
		m->wrong++;
		return;
	}
	m->seen[ev->data]++;
	m->res[ev->data] = ev->res;
	m->reaped++;
}

/* Reap until @total requests have had their event; gives whether they have. */
static inline bool many_reap(struct many *m, int total, int ms)
{
	long long end = aio_now_ns() + ms * 1000000LL;
	struct io_event ev[64];
	long ret, i;

	while (m->reaped < total) {
		long long left = (end - aio_now_ns()) / 1000000;

		ret = sys_io_getevents(m->ctx, 1, 64, ev, left > 0 ? left : 0);
		if (ret == -EINTR)
			continue;
		if (ret <= 0)
			break;
		for (i = 0; i < ret; i++)
			many_event(m, &ev[i]);
	}
	if (m->reaped < total)
		fprintf(stderr, "# %d events of %d\n", m->reaped, total);
	return m->reaped >= total;
}

/* Is there no further event? */
static inline bool aio_no_event(aio_context_t ctx)
{
	struct io_event ev;

	return reap_one(ctx, &ev, 0) == 0;
}

/* ---- a pipe and workers that wait to read a byte of it each ---- */

struct crowd {
	struct many	m;
	int		pipe[2];
	long long	before;		/* requests that were there already */
};

/* Not to be armed instead, all must go to workers. NULL, or what went wrong. */
static inline const char *crowd_start(struct crowd *c, int nr)
{
	aio_context_t ctx = 0;
	int i;

	c->before = aio_stat("queued") + aio_stat("running");
	if (pipe2(c->pipe, O_CLOEXEC))
		return "pipe2()";
	if (sys_io_setup(nr, &ctx))
		return "io_setup()";
	if (!many_init(&c->m, ctx, nr))
		return "memory";
	for (i = 0; i < nr; i++)
		many_read(&c->m, i, c->pipe[0]);
	if (many_submit(&c->m, 0, nr))
		return "io_submit()";
	return NULL;
}

static inline bool crowd_waits(struct crowd *c)
{
	return aio_stat("queued") + aio_stat("running") ==
	       c->before + c->m.nr && aio_stat("queued") > 0;
}

/*
 * Wait until there are as many workers as there will be. They are made one by
 * one, and how many there may be is the kernel's affair: so until there have
 * been no more for a while.
 */
static inline bool aio_workers_settle(void)
{
	long long now, last = aio_stat("running"), since = aio_now_ns();
	long long end = since + MANY_MS * 1000000LL;

	while (aio_now_ns() - since < 500000000LL * aio_slack()) {
		usleep(10000);
		now = aio_stat("running");
		if (now != last)
			since = aio_now_ns();
		last = now;
		if (since > end)
			return false;
	}
	return true;
}

/*
 * Occupy all the workers there can be: whatever needs one and is submitted
 * after this stays queued until crowd_leave().
 */
static inline const char *crowd_all_workers(struct crowd *c)
{
	const char *why;
	char forced[8];

	aio_make_room();
	if (aio_read_text(AIO_FORCE_WORKER, forced, sizeof(forced)) <= 0 ||
	    aio_set_force_worker(1))
		return AIO_FORCE_WORKER;
	why = crowd_start(c, MANY_OVERFLOW);
	aio_write_text(AIO_FORCE_WORKER, forced);
	if (!why && (!aio_wait_for(crowd_waits(c), MANY_MS) ||
		     !aio_workers_settle() || !crowd_waits(c)))
		why = "requests that stay queued";
	return why;
}

/* Give the remaining requests their byte. Gives the number of failures. */
static inline int crowd_leave(struct crowd *c)
{
	int i, wrong, left = c->m.nr - c->m.reaped;
	char *bytes = malloc(left);

	if (!bytes)
		return 1;
	memset(bytes, 'c', left);
	wrong = write(c->pipe[1], bytes, left) != left;
	free(bytes);
	wrong += !many_reap(&c->m, c->m.nr, MANY_MS);
	wrong += !aio_no_event(c->m.ctx);
	for (i = 0; i < c->m.nr; i++)
		wrong += c->m.res[i] != 1 && c->m.res[i] != -ECANCELED;
	wrong += c->m.wrong;
	wrong += sys_io_destroy(c->m.ctx) != 0;
	close(c->pipe[0]);
	close(c->pipe[1]);
	many_free(&c->m);
	return wrong;
}

/* ---- threads that meet without sleeping, as far as there is a CPU each ---- */

struct meet {
	int	nr;
	int	arrived;
	int	round;
	int	asleep;
};

static inline void meet(struct meet *m)
{
	int round = __atomic_load_n(&m->round, __ATOMIC_SEQ_CST);
	int spins;

	if (__atomic_add_fetch(&m->arrived, 1, __ATOMIC_SEQ_CST) == m->nr) {
		__atomic_store_n(&m->arrived, 0, __ATOMIC_SEQ_CST);
		__atomic_store_n(&m->round, round + 1, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&m->asleep, __ATOMIC_SEQ_CST))
			syscall(__NR_futex, &m->round, FUTEX_WAKE_PRIVATE,
				INT_MAX, NULL, NULL, 0);
		return;
	}
	for (spins = 0; spins < 2000; spins++)
		if (__atomic_load_n(&m->round, __ATOMIC_SEQ_CST) != round)
			return;
	__atomic_add_fetch(&m->asleep, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&m->round, __ATOMIC_SEQ_CST) == round)
		syscall(__NR_futex, &m->round, FUTEX_WAIT_PRIVATE, round,
			NULL, NULL, 0);
	__atomic_sub_fetch(&m->asleep, 1, __ATOMIC_SEQ_CST);
}

/* Lose a little time, differently each time, to shift two threads' steps. */
static inline void dawdle(__u32 *random)
{
	__u32 spin, x = aio_random(random);

	/* The only way to let the other one on where there is a single CPU. */
	if (x % 8 == 0)
		sched_yield();
	for (spin = (x >> 8) % (1u << (x >> 4) % 17); spin > 0; spin--)
		asm volatile("" : : : "memory");
}

#endif /* _AIO_MANY_H */

// SPDX-License-Identifier: GPL-2.0
/*
 * Cancellation of threaded AIO: io_cancel() and io_destroy() of requests that
 * are armed, queued, running, completing or done, in every order and by several
 * threads at once. Each request must end exactly once, and say what it did.
 *
 * What would block is armed in one variant and in a worker in the other; where
 * it has to be in a worker in both, a pipe's end is opened by name.
 *
 * AIO_RACE_ROUNDS: rounds of the longest race, 100000 unless set; the others
 * have a part of it.
 * AIO_SLOW=1: a debug kernel, which may take ten times as long.
 */
#include "../kselftest_harness.h"
#include "aio_many.h"

#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#define EVENTS	8192

/* A part of the rounds. */
#define race_rounds(part)	(aio_rounds(100000) / (part))

FIXTURE(cancel)
{
	struct aio_env env;
	aio_context_t ctx;
	int pipe[2];
};

FIXTURE_VARIANT(cancel)
{
	bool force;
};

FIXTURE_VARIANT_ADD(cancel, as_tried)
{
	.force = false,
};

FIXTURE_VARIANT_ADD(cancel, forced)
{
	.force = true,
};

FIXTURE_SETUP(cancel)
{
	aio_make_room();
	AIO_SETUP(&self->env, true, variant->force, EVENTS);
	self->ctx = self->env.ctx;
	ASSERT_EQ(0, pipe2(self->pipe, O_CLOEXEC));
	signal(SIGPIPE, SIG_IGN);
}

FIXTURE_TEARDOWN(cancel)
{
	close(self->pipe[0]);
	close(self->pipe[1]);
	AIO_TEARDOWN(&self->env);
}

/* So many more requests than when the test began are armed, or in a worker. */
#define wait_blocked(more)						\
	aio_wait_blocked(&self->env, variant->force, more)

/* What one of those gives that was cancelled without having moved a byte. */
#define blocked_cancelled	aio_blocked_cancelled(variant->force)

/* The same where it may have been queued, or been tried just then. */
static bool cancelled(long long res)
{
	return res == -EINTR || res == -ECANCELED;
}

/* Things whose readers wait: [0] is read, writing to [1] gives it data. */
enum source {
	PIPE, SOCKETPAIR, EVENTFD, TIMERFD, TIMED_SOCKET, FIFO, INOTIFY,
	SOURCES
};

static const struct {
	const char	*name;
	bool		armed;		/* unless forced into a worker */
} sources[SOURCES] = {
	[PIPE]		= { "pipe", true },
	[SOCKETPAIR]	= { "socketpair", true },
	[EVENTFD]	= { "eventfd", true },
	[TIMERFD]	= { "timerfd", true },
	/* Only a call that blocks knows about the time limit. */
	[TIMED_SOCKET]	= { "socketpair with a time limit", false },
	[FIFO]		= { "pipe opened by name", false },
	[INOTIFY]	= { "inotify", false },
};

static bool source_open(enum source source, int fds[2])
{
	struct timeval limit = { .tv_sec = 1000 };
	int fd;

	fds[0] = -1;
	fds[1] = -1;
	switch (source) {
	case PIPE:
		return !pipe2(fds, O_CLOEXEC);
	case SOCKETPAIR:
		return !socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
	case EVENTFD:
		fds[0] = eventfd(0, EFD_CLOEXEC);
		fds[1] = dup(fds[0]);
		break;
	case TIMERFD:
		fds[0] = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
		fds[1] = dup(fds[0]);
		break;
	case TIMED_SOCKET:
		return !socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
				   fds) &&
		       !setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &limit,
				   sizeof(limit));
	case FIFO:
		if (pipe2(fds, O_CLOEXEC))
			return false;
		fd = fds[0];
		fds[0] = aio_open_end(fd, O_RDONLY);
		close(fd);
		break;
	case INOTIFY:
		fds[0] = inotify_init1(IN_CLOEXEC);
		fds[1] = dup(fds[0]);
		break;
	default:
		return false;
	}
	return fds[0] >= 0 && fds[1] >= 0;
}

/* Let a read of it have 8 bytes, the first of @value. */
static bool source_feed(enum source source, int fd, __u64 value)
{
	struct itimerspec spec = { .it_value.tv_nsec = 1 };

	if (source == TIMERFD)
		return !timerfd_settime(fd, 0, &spec, NULL);
	return write(fd, &value, sizeof(value)) == sizeof(value);
}

/*
 * A read that is blocked has taken nothing when it ends: in a worker it is
 * interrupted, without one cancelled.
 */
TEST_F_TIMEOUT(cancel, blocked, 300)
{
	enum source source;
	struct aio_counts before, now;
	__u64 value = 0x0a0a0a0a0a0a0a01;
	struct io_event ev;
	struct iocb cb;
	__u64 buf;
	int fds[2];

	for (source = 0; source < SOURCES; source++) {
		bool worker = variant->force || !sources[source].armed;

		TH_LOG("%s", sources[source].name);
		ASSERT_TRUE(source_open(source, fds));
		buf = 0;
		aio_counts_get(&before);
		iocb_pread(&cb, fds[0], &buf, sizeof(buf), 0);
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		ASSERT_TRUE(aio_wait_blocked(&self->env, worker, 1));
		EXPECT_TRUE(aio_no_event(self->ctx));

		ASSERT_EQ(-EINPROGRESS, sys_io_cancel(self->ctx, &cb, &ev));
		ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
		EXPECT_EQ((uintptr_t)&cb, ev.obj);
		EXPECT_EQ((uintptr_t)&cb, ev.data);
		EXPECT_EQ(aio_blocked_cancelled(worker), (long long)ev.res);
		EXPECT_EQ(0, ev.res2);
		EXPECT_EQ(-EINVAL, sys_io_cancel(self->ctx, &cb, &ev));
		EXPECT_TRUE(aio_no_event(self->ctx));
		EXPECT_TRUE(aio_wait_unblocked(&self->env));
		aio_counts_since(&before, &now);
		EXPECT_EQ(worker, now.worker);
		EXPECT_EQ(!worker, now.armed);
		EXPECT_EQ(1, now.cancelled);

		/* What comes afterwards is not the request's any more. */
		if (source != INOTIFY) {
			__u64 got = 0;

			ASSERT_TRUE(source_feed(source, fds[1], value));
			EXPECT_LT(0, read(fds[0], &got, sizeof(got)));
			EXPECT_EQ(value & 0xff, got & 0xff);
		}
		EXPECT_EQ(0ULL, buf);
		EXPECT_TRUE(aio_no_event(self->ctx));
		EXPECT_TRUE(aio_wait_unblocked(&self->env));
		EXPECT_EQ(1, aio_counts_ran(&before));
		close(fds[0]);
		close(fds[1]);
	}
}

/* A request that waits for a worker ends at once, though there is none. */
TEST_F_TIMEOUT(cancel, queued, 900)
{
	const int nr = 64;
	struct crowd crowd;
	const char *why;
	struct io_event ev;
	long long running, counted;
	int i;
	__u8 sum = 0;

	why = crowd_all_workers(&crowd);
	ASSERT_EQ(NULL, why) {
		TH_LOG("%s", why);
	}
	running = aio_stat("running");
	ASSERT_LT(0, running);
	ASSERT_LT(nr, aio_stat("queued"));

	counted = aio_stat("cancelled");
	/* The last ones in are those that are still queued. */
	for (i = crowd.m.nr - nr; i < crowd.m.nr; i++)
		ASSERT_EQ(-EINPROGRESS,
			  sys_io_cancel(crowd.m.ctx, &crowd.m.cbs[i], &ev));
	ASSERT_TRUE(many_reap(&crowd.m, nr, AIO_PATIENCE_MS));
	EXPECT_EQ(counted + nr, aio_stat("cancelled"));
	for (i = crowd.m.nr - nr; i < crowd.m.nr; i++) {
		EXPECT_EQ(1, crowd.m.seen[i]);
		EXPECT_EQ(-ECANCELED, crowd.m.res[i]);
		EXPECT_EQ(-EINVAL,
			  sys_io_cancel(crowd.m.ctx, &crowd.m.cbs[i], &ev));
	}
	EXPECT_TRUE(aio_no_event(crowd.m.ctx));

	/* None of the others was disturbed, each still wants its byte. */
	EXPECT_LE(running, aio_stat("running"));
	EXPECT_EQ(nr, crowd.m.reaped);
	for (i = 0; i < crowd.m.nr; i++)
		sum |= crowd.m.bufs[i];
	EXPECT_EQ(0, sum);
	EXPECT_EQ(0, crowd_leave(&crowd));
}

/*
 * Cancelled queued requests are forgotten: what they would have done does not
 * happen when the workers are free again.
 */
TEST_F_TIMEOUT(cancel, queued_write_not_done, 900)
{
	struct crowd crowd;
	struct io_event ev;
	struct iocb cb;
	const char *why;
	char byte = 'q';

	why = crowd_all_workers(&crowd);
	ASSERT_EQ(NULL, why) {
		TH_LOG("%s", why);
	}
	ASSERT_EQ(0, aio_set_force_worker(1));
	iocb_pwrite(&cb, self->pipe[1], &byte, 1, 0);
	ASSERT_EQ(1, submit_one(self->ctx, &cb));
	EXPECT_TRUE(aio_no_event(self->ctx));
	EXPECT_EQ(0, aio_readable(self->pipe[0]));
	ASSERT_EQ(-EINPROGRESS, sys_io_cancel(self->ctx, &cb, &ev));
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ(-ECANCELED, (long long)ev.res);
	EXPECT_EQ(0, crowd_leave(&crowd));

	/* A later write has gone through the same queue. */
	byte = 'r';
	EXPECT_EQ(1, aio_run(self->ctx, &cb));
	EXPECT_EQ(1, aio_readable(self->pipe[0]));
	EXPECT_EQ(1, read(self->pipe[0], &byte, 1));
	EXPECT_EQ('r', byte);
}

/* A write that has moved a part says how much, to the byte. */
TEST_F_TIMEOUT(cancel, partly_done, 120)
{
	const size_t len = 1 << 20, page = sysconf(_SC_PAGESIZE);
	const size_t taken = 4 * page + 1234;
	__u8 *buf = malloc(len), *got = malloc(len);
	struct io_event ev;
	struct iocb cb;
	size_t found = 0;
	ssize_t ret;
	int size;

	ASSERT_NE(NULL, buf);
	ASSERT_NE(NULL, got);
	aio_fill(buf, len, 3, 0);
	size = fcntl(self->pipe[1], F_SETPIPE_SZ, 16 * page);
	ASSERT_EQ((int)(16 * page), size);

	iocb_pwrite(&cb, self->pipe[1], buf, len, 0);
	ASSERT_EQ(1, submit_one(self->ctx, &cb));
	ASSERT_TRUE(aio_wait_for(aio_readable(self->pipe[0]) == size,
				 AIO_PATIENCE_MS));
	ASSERT_TRUE(wait_blocked(1));
	while (found < taken) {
		ret = read(self->pipe[0], got + found, taken - found);
		ASSERT_LT(0, ret);
		found += ret;
	}
	/* The writer puts a page where one was emptied, and waits again. */
	ASSERT_TRUE(aio_wait_for(aio_readable(self->pipe[0]) ==
				 (int)(size - taken + 4 * page),
				 AIO_PATIENCE_MS));
	ASSERT_TRUE(wait_blocked(1));
	EXPECT_TRUE(aio_no_event(self->ctx));

	ASSERT_EQ(-EINPROGRESS, sys_io_cancel(self->ctx, &cb, &ev));
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	found += aio_drain(self->pipe[0], got + found, len - found);
	EXPECT_EQ(size + 4 * page, found);
	EXPECT_EQ((long long)found, (long long)ev.res);
	EXPECT_EQ(-1, aio_check(got, found, 3, 0));
	EXPECT_TRUE(aio_no_event(self->ctx));
	/* The last reference is gone, so is the writer: nothing comes now. */
	EXPECT_EQ(0, aio_readable(self->pipe[0]));
	free(buf);
	free(got);
}

TEST_F_TIMEOUT(cancel, partly_done_socket, 120)
{
	const size_t len = 4 << 20;
	__u8 *buf = malloc(len), *got = malloc(len);
	struct io_event ev;
	size_t found = 0;
	struct iocb cb;
	ssize_t ret;
	int fds[2];

	ASSERT_NE(NULL, buf);
	ASSERT_NE(NULL, got);
	aio_fill(buf, len, 4, 0);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
	iocb_pwrite(&cb, fds[1], buf, len, 0);
	ASSERT_EQ(1, submit_one(self->ctx, &cb));
	while (found < len / 4) {
		ret = read(fds[0], got + found, 10000);
		ASSERT_LT(0, ret);
		found += ret;
	}
	EXPECT_TRUE(aio_no_event(self->ctx));
	ASSERT_EQ(-EINPROGRESS, sys_io_cancel(self->ctx, &cb, &ev));
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	found += aio_drain(fds[0], got + found, len - found);
	EXPECT_GT(len, found);
	EXPECT_EQ((long long)found, (long long)ev.res);
	EXPECT_EQ(-1, aio_check(got, found, 4, 0));
	EXPECT_TRUE(aio_no_event(self->ctx));
	close(fds[0]);
	close(fds[1]);
	free(buf);
	free(got);
}

/* Once cancelled, a request is not found again. */
TEST_F_TIMEOUT(cancel, twice, 120)
{
	struct io_event ev;
	struct iocb cb;
	char buf = 0;
	int i;
	long ret;

	for (i = 0; i < 200; i++) {
		iocb_pread(&cb, self->pipe[0], &buf, 1, 0);
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		ASSERT_TRUE(!(i & 1) || wait_blocked(1));
		ASSERT_EQ(-EINPROGRESS, sys_io_cancel(self->ctx, &cb, &ev));
		ret = sys_io_cancel(self->ctx, &cb, &ev);
		/* -EAGAIN: the first one's effect is just being completed. */
		ASSERT_TRUE(ret == -EINVAL || ret == -EAGAIN) {
			TH_LOG("io_cancel() gives %ld", ret);
		}
		ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
		/* One that is armed is so when io_submit() returns. */
		ASSERT_TRUE(variant->force && !(i & 1) ? cancelled(ev.res) :
			    (long long)ev.res == blocked_cancelled);
		ASSERT_EQ(-EINVAL, sys_io_cancel(self->ctx, &cb, &ev));
		ASSERT_TRUE(aio_no_event(self->ctx));
	}
	EXPECT_EQ(0, buf);
}

/* What has completed cannot be cancelled, whether reaped or not. */
TEST_F(cancel, completed)
{
	struct aio_ring *ring = (struct aio_ring *)self->ctx;
	struct io_event ev;
	struct iocb cb;
	char buf = 0;

	ASSERT_EQ(1, write(self->pipe[1], "x", 1));
	iocb_pread(&cb, self->pipe[0], &buf, 1, 0);
	ASSERT_EQ(1, submit_one(self->ctx, &cb));
	ASSERT_TRUE(aio_wait_for(__atomic_load_n(&ring->tail,
						 __ATOMIC_ACQUIRE) !=
				 ring->head, AIO_PATIENCE_MS));
	/* The event is there a moment before the request is gone. */
	ASSERT_TRUE(aio_wait_for(sys_io_cancel(self->ctx, &cb, &ev) == -EINVAL,
				 AIO_PATIENCE_MS));
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ(1, (long long)ev.res);
	EXPECT_EQ('x', buf);
	EXPECT_EQ(-EINVAL, sys_io_cancel(self->ctx, &cb, &ev));
	EXPECT_TRUE(aio_no_event(self->ctx));
}

/* What io_cancel() must refuse, with the request none the worse for it. */
TEST_F(cancel, refused)
{
	struct iocb cb, never;
	struct io_event ev;
	aio_context_t other = 0;
	char buf = 0;
	void *hole;

	iocb_pread(&cb, self->pipe[0], &buf, 1, 0);
	never = cb;
	ASSERT_EQ(1, submit_one(self->ctx, &cb));
	ASSERT_TRUE(wait_blocked(1));

	hole = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, hole);
	EXPECT_EQ(-EFAULT, sys_io_cancel(self->ctx, hole, &ev));
	EXPECT_EQ(-EFAULT, sys_io_cancel(self->ctx, NULL, &ev));
	EXPECT_EQ(-EINVAL, sys_io_cancel(self->ctx, &never, &ev));
	cb.aio_key++;
	EXPECT_EQ(-EINVAL, sys_io_cancel(self->ctx, &cb, &ev));
	cb.aio_key--;
	EXPECT_EQ(-EINVAL, sys_io_cancel((aio_context_t)hole, &cb, &ev));
	EXPECT_EQ(-EINVAL, sys_io_cancel(0, &cb, &ev));
	ASSERT_EQ(0, sys_io_setup(1, &other));
	EXPECT_EQ(-EINVAL, sys_io_cancel(other, &cb, &ev));
	EXPECT_EQ(0, sys_io_destroy(other));
	EXPECT_EQ(-EINVAL, sys_io_cancel(other, &cb, &ev));
	EXPECT_TRUE(aio_no_event(self->ctx));

	/* The place for the result has not been used for many years. */
	EXPECT_EQ(-EINPROGRESS, sys_io_cancel(self->ctx, &cb, hole));
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ(blocked_cancelled, (long long)ev.res);
	munmap(hole, 4096);
}

#define STARTS	8

/*
 * Cancelled while their workers are about to start, at every moment of that:
 * the last one first, as they start one after the other. They have workers in
 * either variant, so the full number of rounds is needed once.
 */
TEST_F_TIMEOUT(cancel, race_start, 1800)
{
	int i, j, nr, rounds = race_rounds(variant->force ? 2 : 20);
	int interrupted = 0, dequeued = 0;
	int fd = aio_open_end(self->pipe[0], O_RDONLY);
	__u32 random = 14;
	struct io_event ev;
	struct many m;

	ASSERT_LE(0, fd);
	ASSERT_TRUE(many_init(&m, self->ctx, STARTS));
	for (j = 0; j < STARTS; j++)
		many_read(&m, j, fd);
	for (i = 0; i < rounds; i++) {
		nr = i % 16 ? 1 : STARTS;
		memset(m.seen, 0, STARTS * sizeof(*m.seen));
		m.reaped = 0;
		ASSERT_EQ(0, many_submit(&m, 0, nr));
		if (i % 4)
			dawdle(&random);
		for (j = nr - 1; j >= 0; j--)
			ASSERT_EQ(-EINPROGRESS,
				  sys_io_cancel(self->ctx, &m.cbs[j], &ev));
		ASSERT_TRUE(many_reap(&m, nr, AIO_PATIENCE_MS)) {
			TH_LOG("round %d", i);
		}
		for (j = 0; j < nr; j++) {
			ASSERT_TRUE(cancelled(m.res[j])) {
				TH_LOG("round %d: res %lld", i, m.res[j]);
			}
			interrupted += m.res[j] == -EINTR;
			dequeued += m.res[j] == -ECANCELED;
			ASSERT_EQ(0, m.bufs[j]);
		}
		ASSERT_EQ(0, m.wrong);
		ASSERT_TRUE(aio_no_event(self->ctx));
	}
	TH_LOG("%d rounds: %d interrupted, %d dequeued", rounds, interrupted,
	       dequeued);
	if (rounds >= 1000) {
		EXPECT_LT(0, interrupted);
		EXPECT_LT(0, dequeued);
	}
	many_free(&m);
	close(fd);
}

/* ---- two threads ---- */

struct duel {
	struct meet	meet;
	int		rounds;
	__u32	random;
	aio_context_t	ctx;
	struct iocb	*cb;
	int		fd;
	const __u8	*data;
	size_t		len;
	long		ret;
};

static void *duel_cancel(void *arg)
{
	struct duel *d = arg;
	struct io_event ev;
	int i;

	for (i = 0; i < d->rounds; i++) {
		meet(&d->meet);
		dawdle(&d->random);
		d->ret = sys_io_cancel(d->ctx, d->cb, &ev);
		meet(&d->meet);
	}
	return NULL;
}

/* Of two that cancel at once exactly one has done it. */
TEST_F_TIMEOUT(cancel, by_two_threads, 600)
{
	struct duel d = {
		.meet.nr = 2, .rounds = 4000, .random = 1, .ctx = self->ctx,
	};
	__u32 random = 2;
	struct io_event ev;
	struct iocb cb;
	pthread_t thread;
	char buf = 0;
	long ret;
	int i, won = 0;

	d.cb = &cb;
	ASSERT_EQ(0, pthread_create(&thread, NULL, duel_cancel, &d));
	for (i = 0; i < d.rounds; i++) {
		iocb_pread(&cb, self->pipe[0], &buf, 1, 0);
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		/* Some surely in a worker if at all, most of them anywhere. */
		ASSERT_TRUE(i % 16 || wait_blocked(1));
		meet(&d.meet);
		dawdle(&random);
		ret = sys_io_cancel(self->ctx, &cb, &ev);
		meet(&d.meet);

		ASSERT_TRUE((ret == -EINPROGRESS) != (d.ret == -EINPROGRESS)) {
			TH_LOG("round %d: %ld and %ld", i, ret, d.ret);
		}
		won += ret == -EINPROGRESS;
		if (ret == -EINPROGRESS)
			ret = d.ret;
		ASSERT_TRUE(ret == -EINVAL || ret == -EAGAIN) {
			TH_LOG("round %d: the other one %ld", i, ret);
		}
		ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
		ASSERT_EQ((uintptr_t)&cb, ev.obj);
		ASSERT_TRUE(i % 16 && variant->force ? cancelled(ev.res) :
			    (long long)ev.res == blocked_cancelled) {
			TH_LOG("round %d: res %lld", i, (long long)ev.res);
		}
		ASSERT_TRUE(aio_no_event(self->ctx));
	}
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, buf);
	TH_LOG("first %d, second %d", won, d.rounds - won);
}

static void *duel_write(void *arg)
{
	struct duel *d = arg;
	int i;

	for (i = 0; i < d->rounds; i++) {
		meet(&d->meet);
		dawdle(&d->random);
		d->ret = write(d->fd, d->data, 1);
		meet(&d->meet);
	}
	return NULL;
}

/*
 * A read is cancelled while its byte arrives. Whoever wins, there is one
 * event, it fits what io_cancel() said, and the byte is in one place.
 */
TEST_F_TIMEOUT(cancel, race_read, 3600)
{
	__u8 data = 0, buf, got;
	struct duel d = {
		.meet.nr = 2, .rounds = race_rounds(1), .random = 3,
		.fd = self->pipe[1], .data = &data,
	};
	int interrupted = 0, dequeued = 0, done = 0, late = 0;
	__u32 random = 4;
	struct io_event ev;
	struct iocb cb;
	pthread_t thread;
	long ret, res;
	int i;

	ASSERT_EQ(0, pthread_create(&thread, NULL, duel_write, &d));
	for (i = 0; i < d.rounds; i++) {
		data = i % 255 + 1;
		buf = 0;
		iocb_pread(&cb, self->pipe[0], &buf, 1, 0);
		/* Now and then also against io_submit()'s own attempt. */
		if (i % 4) {
			ASSERT_EQ(1, submit_one(self->ctx, &cb));
			meet(&d.meet);
		} else {
			meet(&d.meet);
			ASSERT_EQ(1, submit_one(self->ctx, &cb));
		}
		dawdle(&random);
		ret = sys_io_cancel(self->ctx, &cb, &ev);
		ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS)) {
			TH_LOG("round %d: no event, cancel %ld", i, ret);
		}
		meet(&d.meet);
		res = ev.res;

		ASSERT_EQ(1, d.ret);
		ASSERT_EQ((uintptr_t)&cb, ev.obj);
		ASSERT_EQ((uintptr_t)&cb, ev.data);
		switch (ret) {
		case -EINPROGRESS:
			ASSERT_TRUE(res == 1 || cancelled(res)) {
				TH_LOG("round %d: res %ld", i, res);
			}
			break;
		case -EINVAL:
		case -EAGAIN:
			late++;
			ASSERT_EQ(1, res);
			break;
		default:
			ASSERT_EQ(0, ret);
		}
		done += res == 1;
		interrupted += res == -EINTR;
		dequeued += res == -ECANCELED;

		ASSERT_EQ(res != 1, aio_readable(self->pipe[0])) {
			TH_LOG("round %d: res %ld", i, res);
		}
		if (res == 1) {
			ASSERT_EQ(data, buf);
		} else {
			ASSERT_EQ(0, buf);
			ASSERT_EQ(1, read(self->pipe[0], &got, 1));
			ASSERT_EQ(data, got);
		}
		ASSERT_TRUE(aio_no_event(self->ctx));
	}
	ASSERT_EQ(0, pthread_join(thread, NULL));
	TH_LOG("%d rounds: %d read (%d before the cancel), %d interrupted, %d dequeued",
	       d.rounds, done, late, interrupted, dequeued);
	/* Otherwise it was no race. */
	if (d.rounds >= 1000) {
		EXPECT_LT(0, done);
		EXPECT_LT(0, interrupted + dequeued);
	}
}

static void *duel_read(void *arg)
{
	struct duel *d = arg;
	__u8 *buf = malloc(d->len);
	int i;

	for (i = 0; buf && i < d->rounds; i++) {
		meet(&d->meet);
		dawdle(&d->random);
		/* One page or two; not blocking, the second may never come. */
		d->ret = read(d->fd, buf, d->len);
		if (d->ret == (long)d->len && i & 1) {
			long more = read(d->fd, buf, d->len);

			d->ret += more > 0 ? more : 0;
		}
		meet(&d->meet);
	}
	free(buf);
	return NULL;
}

/*
 * A write of two pages to a full pipe of one, cancelled while a reader makes
 * room: what the event says is what the reader finds, then or later.
 */
TEST_F_TIMEOUT(cancel, race_write, 3600)
{
	const size_t page = sysconf(_SC_PAGESIZE);
	struct duel d = {
		.meet.nr = 2, .rounds = race_rounds(5), .random = 5,
		.fd = self->pipe[0], .len = page,
	};
	int none = 0, part = 0, all = 0;
	__u8 *buf = malloc(2 * page), *got = malloc(4 * page);
	__u32 random = 6;
	struct io_event ev;
	struct iocb cb;
	pthread_t thread;
	long ret, res;
	size_t left;
	int i;

	ASSERT_NE(NULL, buf);
	ASSERT_NE(NULL, got);
	ASSERT_EQ((int)page, fcntl(self->pipe[1], F_SETPIPE_SZ, page));
	ASSERT_EQ(0, fcntl(self->pipe[0], F_SETFL, O_NONBLOCK));
	memset(got, 0, page);
	ASSERT_EQ(0, pthread_create(&thread, NULL, duel_read, &d));
	for (i = 0; i < d.rounds; i++) {
		memset(buf, 0, page);
		ASSERT_EQ((ssize_t)page, write(self->pipe[1], buf, page));
		aio_fill(buf, 2 * page, i, 0);
		iocb_pwrite(&cb, self->pipe[1], buf, 2 * page, 0);
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		meet(&d.meet);
		dawdle(&random);
		ret = sys_io_cancel(self->ctx, &cb, &ev);
		ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS)) {
			TH_LOG("round %d: no event, cancel %ld", i, ret);
		}
		meet(&d.meet);
		res = ev.res;

		ASSERT_EQ((uintptr_t)&cb, ev.obj);
		ASSERT_TRUE(ret == -EINPROGRESS ||
			    ((ret == -EINVAL || ret == -EAGAIN) &&
			     res == 2 * (long)page)) {
			TH_LOG("round %d: cancel %ld, res %ld", i, ret, res);
		}
		ASSERT_TRUE(cancelled(res) || (res > 0 &&
					       (size_t)res <= 2 * page)) {
			TH_LOG("round %d: res %ld", i, res);
		}
		none += res < 0;
		part += res > 0 && (size_t)res < 2 * page;
		all += res == 2 * (long)page;

		ASSERT_LE((long)page, d.ret);
		left = aio_drain(self->pipe[0], got, 4 * page);
		ASSERT_EQ((res > 0 ? res : 0) + page, d.ret + left) {
			TH_LOG("round %d: res %ld, read %ld, left %zu", i, res,
			       d.ret, left);
		}
		ASSERT_EQ(-1, aio_check(got, left, i, d.ret - page));
		ASSERT_TRUE(aio_no_event(self->ctx));
	}
	ASSERT_EQ(0, pthread_join(thread, NULL));
	TH_LOG("%d rounds: %d wrote nothing, %d a part, %d all", d.rounds,
	       none, part, all);
	if (d.rounds >= 1000) {
		EXPECT_LT(0, none);
		EXPECT_LT(0, part + all);
	}
	free(buf);
	free(got);
}

/*
 * Two reads wait on a pipe, one is cancelled as a byte arrives. If it was
 * woken for the byte and does not take it, the other one must get it. Which of
 * them comes first is not laid down, so each is cancelled in every other round.
 */
TEST_F_TIMEOUT(cancel, race_passes_wakeup_on, 1800)
{
	__u8 data = 'w', buf[2];
	struct duel d = {
		.meet.nr = 2, .rounds = race_rounds(10), .random = 7,
		.fd = self->pipe[1], .data = &data,
	};
	/* By the one that is cancelled, and the one that has the byte. */
	int took[2][2] = { };
	__u32 random = 8;
	struct io_event ev;
	struct iocb cb[2];
	pthread_t thread;
	int i, j, n, one;
	long res[2];

	ASSERT_EQ(0, pthread_create(&thread, NULL, duel_write, &d));
	for (i = 0; i < d.rounds; i++) {
		one = i % 2;
		for (j = 0; j < 2; j++) {
			buf[j] = 0;
			res[j] = 0;
			iocb_pread(&cb[j], self->pipe[0], &buf[j], 1, 0);
			cb[j].aio_data = j;
			ASSERT_EQ(1, submit_one(self->ctx, &cb[j]));
		}
		meet(&d.meet);
		dawdle(&random);
		sys_io_cancel(self->ctx, &cb[one], &ev);
		meet(&d.meet);
		/* One byte, one cancellation: at most one event is missing. */
		for (n = 0; n < 2; n++) {
			/* Nothing else would end the other one then. */
			if (res[one] == 1 && n == 1) {
				ASSERT_EQ(-EINPROGRESS,
					  sys_io_cancel(self->ctx, &cb[!one],
							&ev));
			}
			ASSERT_EQ(1, reap_one(self->ctx, &ev,
					      AIO_PATIENCE_MS)) {
				TH_LOG("round %d: %ld %ld, in the pipe %d", i,
				       res[0], res[1],
				       aio_readable(self->pipe[0]));
			}
			ASSERT_GT(2ULL, ev.data);
			ASSERT_EQ(0, res[ev.data]);
			res[ev.data] = ev.res;
		}
		for (j = 0; j < 2; j++) {
			took[one][j] += res[j] == 1;
			ASSERT_TRUE(res[j] == 1 || cancelled(res[j]));
			ASSERT_EQ(res[j] == 1 ? 'w' : 0, buf[j]);
		}
		ASSERT_EQ(1, (res[0] == 1) + (res[1] == 1));
		ASSERT_EQ(0, aio_readable(self->pipe[0]));
	}
	ASSERT_EQ(0, pthread_join(thread, NULL));
	for (one = 0; one < 2; one++)
		TH_LOG("%d cancelled: it had the byte %d times, the other %d",
		       one, took[one][one], took[one][!one]);
	/* It was a race, at least for the one that comes first. */
	if (d.rounds >= 1000) {
		EXPECT_TRUE((took[0][0] && took[0][1]) ||
			    (took[1][1] && took[1][0]));
	}
}

/* ---- io_destroy() ---- */

static void *trickle(void *arg)
{
	struct duel *d = arg;

	while (d->ret < d->rounds) {
		dawdle(&d->random);
		if (write(d->fd, d->data, 1) != 1)
			break;
		d->ret++;
	}
	return NULL;
}

/* It ends queued, running and completing requests alike, and at once. */
TEST_F_TIMEOUT(cancel, destroy, 900)
{
	__u8 data = 't';
	struct duel d = { .rounds = 20000, .random = 9, .data = &data };
	struct crowd crowd;
	struct aio_ring *ring;
	const char *why;
	pthread_t thread;
	long long ns;
	int i, filled = 0;

	why = crowd_all_workers(&crowd);
	ASSERT_EQ(NULL, why) {
		TH_LOG("%s", why);
	}
	d.fd = crowd.pipe[1];
	ASSERT_EQ(0, pthread_create(&thread, NULL, trickle, &d));
	/* The first ones are done, others about to be. */
	ring = (struct aio_ring *)crowd.m.ctx;
	ASSERT_TRUE(aio_wait_for(__atomic_load_n(&ring->tail,
						 __ATOMIC_ACQUIRE) !=
				 ring->head, MANY_MS));
	ns = aio_now_ns();
	ASSERT_EQ(0, sys_io_destroy(crowd.m.ctx));
	ns = aio_now_ns() - ns;
	TH_LOG("io_destroy() took %lld ms", ns / 1000000);
	/* The reads would wait for ever; a busy machine takes its time. */
	EXPECT_GT(5000000000LL * aio_slack(), ns);
	/* It has waited: no worker is left, no buffer is touched any more. */
	EXPECT_TRUE(wait_stat("queued", "==", self->env.queued, 1000));
	EXPECT_TRUE(wait_stat("running", "==", self->env.running, 1000));
	EXPECT_TRUE(wait_stat("objects", "==", self->env.objects,
			      AIO_PATIENCE_MS));
	for (i = 0; i < crowd.m.nr; i++)
		filled += crowd.m.bufs[i] == 't';
	ASSERT_EQ(0, pthread_join(thread, NULL));
	TH_LOG("%d of %ld bytes were read", filled, d.ret);
	/* No byte was eaten by a request that did not happen. */
	EXPECT_EQ(d.rounds, d.ret);
	EXPECT_EQ(d.ret, filled + aio_readable(crowd.pipe[0]));
	EXPECT_LT(0, filled);
	EXPECT_EQ(-EINVAL, sys_io_destroy(crowd.m.ctx));
	close(crowd.pipe[0]);
	close(crowd.pipe[1]);
	many_free(&crowd.m);
}

struct waiter {
	aio_context_t	ctx;
	pid_t		tid;
	long		ret;
};

static void *wait_for_event(void *arg)
{
	struct waiter *w = arg;
	struct io_event ev;

	__atomic_store_n(&w->tid, gettid(), __ATOMIC_RELEASE);
	w->ret = sys_io_getevents(w->ctx, 1, 1, &ev, -1);
	return NULL;
}

/* One who waits for an event while the context goes is let go. */
TEST_F(cancel, destroy_under_a_waiter)
{
	struct waiter w = { 0 };
	struct iocb cb;
	pthread_t thread;
	char buf;

	ASSERT_EQ(0, sys_io_setup(4, &w.ctx));
	iocb_pread(&cb, self->pipe[0], &buf, 1, 0);
	ASSERT_EQ(1, submit_one(w.ctx, &cb));
	ASSERT_EQ(0, pthread_create(&thread, NULL, wait_for_event, &w));
	ASSERT_TRUE(aio_wait_for(__atomic_load_n(&w.tid, __ATOMIC_ACQUIRE) &&
				 aio_task_state(w.tid) == 'S',
				 AIO_PATIENCE_MS));
	ASSERT_EQ(0, sys_io_destroy(w.ctx));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_TRUE(w.ret == 0 || w.ret == 1 || w.ret == -EINVAL) {
		TH_LOG("io_getevents() gives %ld", w.ret);
	}
}

/* ---- a cancellation never hits the next one ---- */

struct storm {
	aio_context_t	ctx;
	int		fd;
	int		stop;
	int		rounds;
	int		interrupted;
	int		bad;
};

#define STORM	32

static void *storm_cancel(void *arg)
{
	struct storm *s = arg;
	struct io_event ev;
	struct many m;
	unsigned int i;

	if (!many_init(&m, s->ctx, STORM)) {
		s->bad++;
		return NULL;
	}
	while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
		for (i = 0; i < STORM; i++)
			many_read(&m, i, s->fd);
		memset(m.seen, 0, STORM * sizeof(*m.seen));
		m.reaped = 0;
		if (many_submit(&m, 0, STORM)) {
			s->bad++;
			break;
		}
		/* On every other round they have workers before it starts. */
		if (s->rounds++ & 1)
			aio_wait_for(aio_stat("queued") == 0, 1000);
		for (i = 0; i < STORM; i++)
			s->bad += sys_io_cancel(s->ctx, &m.cbs[i], &ev) !=
				  -EINPROGRESS;
		if (!many_reap(&m, STORM, MANY_MS)) {
			s->bad++;
			break;
		}
		for (i = 0; i < STORM; i++) {
			s->interrupted += m.res[i] == -EINTR;
			s->bad += !cancelled(m.res[i]);
		}
	}
	s->bad += m.wrong;
	many_free(&m);
	return NULL;
}

TEST_F_TIMEOUT(cancel, storm_hits_nobody_else, 1800)
{
	const size_t size = 1 << 20, chunk = 4096;
	const int rounds = race_rounds(50);
	__u8 *data = malloc(size), *bufs = malloc(STORM * chunk);
	/* Only where they are in workers, there is somebody to be hit. */
	struct storm s = { .fd = aio_open_end(self->pipe[0], O_RDONLY) };
	struct iocb cbs[STORM], *ptrs[STORM];
	int pipes[STORM / 2][2];
	__u64 pos[STORM];
	__u32 random = 10;
	struct io_event ev;
	pthread_t thread;
	int file, i, r;

	ASSERT_NE(NULL, data);
	ASSERT_NE(NULL, bufs);
	ASSERT_LE(0, s.fd);
	file = memfd_create("aio", MFD_CLOEXEC);
	ASSERT_LE(0, file);
	aio_fill(data, size, 5, 0);
	ASSERT_EQ((ssize_t)size, pwrite(file, data, size, 0));
	for (i = 0; i < STORM / 2; i++)
		ASSERT_EQ(0, pipe2(pipes[i], O_CLOEXEC));
	ASSERT_EQ(0, sys_io_setup(STORM, &s.ctx));
	ASSERT_EQ(0, pthread_create(&thread, NULL, storm_cancel, &s));

	for (r = 0; r < rounds; r++) {
		unsigned int seen = 0;

		memset(bufs, 0, STORM * chunk);
		for (i = 0; i < STORM; i++) {
			ptrs[i] = &cbs[i];
			pos[i] = aio_random(&random) % (size - chunk);
			iocb_pread(&cbs[i], i & 1 ? file : pipes[i / 2][0],
				   bufs + i * chunk, chunk, i & 1 ? pos[i] : 0);
			cbs[i].aio_data = i;
		}
		ASSERT_EQ(STORM, sys_io_submit(self->ctx, STORM, ptrs));
		for (i = 0; i < STORM; i += 2)
			ASSERT_EQ((ssize_t)chunk,
				  write(pipes[i / 2][1], data + pos[i], chunk));
		for (i = 0; i < STORM; i++) {
			ASSERT_EQ(1, reap_one(self->ctx, &ev, MANY_MS));
			ASSERT_GT((__u64)STORM, ev.data);
			ASSERT_EQ(0U, seen & 1u << ev.data);
			seen |= 1u << ev.data;
			ASSERT_EQ((long long)chunk, (long long)ev.res) {
				TH_LOG("round %d, %s", r,
				       ev.data & 1 ? "file" : "pipe");
			}
			ASSERT_EQ(-1, aio_check(bufs + ev.data * chunk, chunk,
						5, pos[ev.data]));
		}
	}
	__atomic_store_n(&s.stop, 1, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	TH_LOG("%d rounds against %d of cancelling, %d interrupted", rounds,
	       s.rounds, s.interrupted);
	EXPECT_EQ(0, s.bad);
	EXPECT_LT(0, s.interrupted);
	EXPECT_EQ(0, sys_io_destroy(s.ctx));
	for (i = 0; i < STORM / 2; i++) {
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
	close(file);
	close(s.fd);
	free(data);
	free(bufs);
}

/* ---- everything at once ---- */

#define MIX		64
#define MIX_PIPES	8

struct mix {
	struct meet	meet;
	int		rounds;
	__u32	random;
	aio_context_t	ctx;
	int		rd[MIX_PIPES];
	int		keep[MIX_PIPES];
	int		wr[MIX_PIPES];
	int		written[MIX_PIPES];
	bool		destroy;
	long		ret;
};

static bool without_reader(int fd)
{
	return write(fd, "e", 1) < 0 && errno == EPIPE;
}

static void *mix_other(void *arg)
{
	struct mix *x = arg;
	int r, i, p;

	for (r = 0; r < x->rounds; r++) {
		meet(&x->meet);
		for (i = 0; i < MIX / 2; i++) {
			p = aio_random(&x->random) % MIX_PIPES;
			if (x->rd[p] >= 0 && aio_random(&x->random) % 8 == 0) {
				close(x->rd[p]);
				x->rd[p] = -1;
			} else if (write(x->wr[p], "m", 1) == 1) {
				x->written[p]++;
			}
		}
		x->ret = x->destroy ? sys_io_destroy(x->ctx) : 0;
		meet(&x->meet);
	}
	return NULL;
}

/*
 * One thread cancels at random while the other writes, closes and, every
 * fourth time, destroys the context. Every request ends once at most, exactly
 * once where the context stays; every byte is somewhere.
 */
TEST_F_TIMEOUT(cancel, everything_at_once, 1800)
{
	struct mix x = {
		.meet.nr = 2, .rounds = race_rounds(100), .random = 11,
	};
	int read_all = 0, cancel_all = 0, eof_all = 0;
	__u32 random = 12;
	struct io_event ev;
	pthread_t thread;
	struct many m;
	int r, i, p;
	long ret;

	ASSERT_EQ(0, pthread_create(&thread, NULL, mix_other, &x));
	for (r = 0; r < x.rounds; r++) {
		int got[MIX_PIPES] = { 0 };

		x.ctx = 0;
		x.destroy = r % 4 == 3;
		ASSERT_EQ(0, sys_io_setup(MIX, &x.ctx));
		ASSERT_TRUE(many_init(&m, x.ctx, MIX));
		for (p = 0; p < MIX_PIPES; p++) {
			int fds[2];

			ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
			x.rd[p] = fds[0];
			x.wr[p] = fds[1];
			/* With the others the last reader can be a request. */
			x.keep[p] = p & 1 ? dup(fds[0]) : -1;
			x.written[p] = 0;
		}
		for (i = 0; i < MIX; i++)
			many_read(&m, i, x.rd[i % MIX_PIPES]);
		ASSERT_EQ(0, many_submit(&m, 0, MIX));
		meet(&x.meet);
		for (i = 0; i < MIX; i++) {
			if (aio_random(&random) % 4 == 0)
				dawdle(&random);
			ret = sys_io_cancel(x.ctx,
					    &m.cbs[aio_random(&random) % MIX],
					    &ev);
			ASSERT_TRUE(ret == -EINPROGRESS || ret == -EINVAL ||
				    ret == -EAGAIN) {
				TH_LOG("round %d: io_cancel() gives %ld", r,
				       ret);
			}
			if (i % 16 == 0 && reap_one(x.ctx, &ev, 0) == 1)
				many_event(&m, &ev);
		}
		meet(&x.meet);
		ASSERT_EQ(0, x.ret);
		if (!x.destroy) {
			for (i = 0; i < MIX; i++)
				if (!m.seen[i])
					sys_io_cancel(x.ctx, &m.cbs[i], &ev);
			ASSERT_TRUE(many_reap(&m, MIX, MANY_MS)) {
				TH_LOG("round %d", r);
			}
			ASSERT_TRUE(aio_no_event(x.ctx));
			ASSERT_EQ(0, sys_io_destroy(x.ctx));
		}
		ASSERT_EQ(0, m.wrong);
		for (i = 0; i < MIX; i++) {
			bool filled = m.bufs[i] == 'm';

			got[i % MIX_PIPES] += filled;
			if (!m.seen[i])
				continue;
			ASSERT_TRUE(m.res[i] == 1 || cancelled(m.res[i])) {
				TH_LOG("round %d: res %lld", r, m.res[i]);
			}
			ASSERT_EQ(filled, m.res[i] == 1);
			read_all += filled;
			cancel_all += !filled;
		}
		for (p = 0; p < MIX_PIPES; p++) {
			bool gone = x.rd[p] < 0 && x.keep[p] < 0;

			ASSERT_LE(got[p], x.written[p]);
			ASSERT_TRUE(x.keep[p] < 0 || x.written[p] == got[p] +
				    aio_readable(x.keep[p])) {
				TH_LOG("round %d, pipe %d: %d written, %d read",
				       r, p, x.written[p], got[p]);
			}
			/* The requests have let the file go: no reader. */
			ASSERT_TRUE(!gone ||
				    aio_wait_for(without_reader(x.wr[p]),
						 AIO_PATIENCE_MS));
			eof_all += gone;
			close(x.keep[p]);
			if (x.rd[p] >= 0)
				close(x.rd[p]);
			close(x.wr[p]);
		}
		many_free(&m);
	}
	ASSERT_EQ(0, pthread_join(thread, NULL));
	TH_LOG("%d rounds: %d read, %d cancelled, %d pipes given up", x.rounds,
	       read_all, cancel_all, eof_all);
	if (x.rounds >= 100) {
		EXPECT_LT(0, read_all);
		EXPECT_LT(0, cancel_all);
		EXPECT_LT(0, eof_all);
	}
}

/* ---- direct I/O ---- */

#define NULLB		"/sys/kernel/config/nullb"
#define NULLB_DEV	NULLB "/aio_cancel"

/*
 * A block device that takes its time. Returns a descriptor for direct I/O,
 * -1 where there is none.
 */
static int slow_device(void)
{
	static const char * const attrs[][2] = {
		{ "size", "16" }, { "blocksize", "512" },
		{ "memory_backed", "1" }, { "irqmode", "2" },
		{ "completion_nsec", "2000000000" }, { "power", "1" },
	};
	char path[128];
	unsigned int i;
	int fd;

	mount("configfs", "/sys/kernel/config", "configfs", 0, NULL);
	/* What a killed run may have left. */
	aio_write_text(NULLB_DEV "/power", "0");
	rmdir(NULLB_DEV);
	if (mkdir(NULLB_DEV, 0700))
		return -1;
	for (i = 0; i < ARRAY_SIZE(attrs); i++) {
		snprintf(path, sizeof(path), NULLB_DEV "/%s", attrs[i][0]);
		if (aio_write_text(path, attrs[i][1]))
			goto remove;
	}
	aio_wait_for(!access("/dev/aio_cancel", F_OK), AIO_PATIENCE_MS);
	fd = open("/dev/aio_cancel", O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd >= 0)
		return fd;
remove:
	aio_write_text(NULLB_DEV "/power", "0");
	rmdir(NULLB_DEV);
	return -1;
}

/*
 * Direct I/O that the device has cannot be cancelled: as ever, its native form
 * is not found, and in a worker it is interrupted no sooner than it is done.
 */
TEST_F_TIMEOUT(cancel, direct, 120)
{
	struct io_event ev;
	struct iocb cb;
	long long native;
	int fd = slow_device();
	__u8 *buf;

	if (fd < 0)
		SKIP(return, "no null_blk with configfs");
	ASSERT_EQ(0, posix_memalign((void **)&buf, 4096, 4096));
	aio_fill(buf, 4096, 6, 0);
	ASSERT_EQ(4096, pwrite(fd, buf, 4096, 8192));
	memset(buf, 0, 4096);
	native = aio_stat("native");
	iocb_pread(&cb, fd, buf, 4096, 8192);
	ASSERT_EQ(1, submit_one(self->ctx, &cb));
	if (variant->force) {
		ASSERT_TRUE(aio_wait_running(&self->env, 1));
		EXPECT_EQ(native, aio_stat("native"));
	} else {
		EXPECT_EQ(native + 1, aio_stat("native"));
	}
	ASSERT_TRUE(aio_no_event(self->ctx));
	EXPECT_EQ(variant->force ? -EINPROGRESS : -EINVAL,
		  sys_io_cancel(self->ctx, &cb, &ev));
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ(4096, (long long)ev.res);
	EXPECT_EQ(-1, aio_check(buf, 4096, 6, 0));
	EXPECT_TRUE(aio_no_event(self->ctx));

	close(fd);
	aio_write_text(NULLB_DEV "/power", "0");
	rmdir(NULLB_DEV);
	free(buf);
}

TEST_HARNESS_MAIN

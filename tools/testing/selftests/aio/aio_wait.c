// SPDX-License-Identifier: GPL-2.0
/*
 * Requests that only wait for time: polls, also of files with several wait
 * queues, and reads and writes of files that are not ready. In a threaded
 * context these wait on the file's wait queues and hold no worker. How they
 * begin to wait, are woken, cancelled and ended, and who wins when two of these
 * happen at once.
 *
 * AIO_SLOW=1: a debug kernel, which may take ten times as long; fewer rounds.
 * AIO_RACE_ROUNDS: at most so many rounds of each race.
 */
#include "../kselftest_harness.h"
#include "aio_kid.h"

#include <poll.h>
#include <termios.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#define EVENTS		2048
#define SECOND_NS	1000000000LL

static bool slow(void)
{
	return aio_slack() > 1;
}

/* How long the end of many requests may take. */
static long long end_ns(void)
{
	return slow() ? 5 * SECOND_NS : SECOND_NS;
}

/* What there is besides the test's own requests. */
struct base {
	long long	waiting;
	long long	queued;
	long long	running;
	long long	objects;
	long long	armed;		/* since boot, as the next one */
	long long	worker;
};

/* Gives false where the statistics lack a line. */
static bool base_get(struct base *b)
{
	b->waiting = aio_stat("waiting");
	b->queued = aio_stat("queued");
	b->running = aio_stat("running");
	b->objects = aio_stat("objects");
	b->armed = aio_stat("armed");
	b->worker = aio_stat("worker");
	return b->waiting >= 0 && b->queued >= 0 && b->running >= 0 &&
	       b->objects >= 0 && b->armed >= 0 && b->worker >= 0;
}

static int patience(long long requests)
{
	return requests < 100 ? AIO_PATIENCE_MS : MANY_MS;
}

/* So many requests more wait, and none has or wants a worker. */
static bool wait_armed(const struct base *b, long long more)
{
	return wait_stat("waiting", "==", b->waiting + more, patience(more)) &&
	       wait_stat("queued", "==", b->queued, AIO_PATIENCE_MS) &&
	       wait_stat("running", "==", b->running, AIO_PATIENCE_MS);
}

static long long in_flight(void)
{
	return aio_stat("waiting") + aio_stat("queued") + aio_stat("running");
}

/* So many requests more are there, wherever they wait. */
static bool wait_in_flight(const struct base *b, long long more)
{
	long long want = b->waiting + b->queued + b->running + more;
	bool held = aio_wait_for(in_flight() == want, patience(more));

	if (!held)
		fprintf(stderr, "# %lld in flight, waited for %lld\n",
			in_flight(), want);
	return held;
}

static bool all_gone(const struct base *b)
{
	int ms = end_ns() / 1000000;
	bool gone;

	gone = wait_stat("waiting", "==", b->waiting, ms);
	gone &= wait_stat("queued", "==", b->queued, ms);
	gone &= wait_stat("running", "==", b->running, ms);
	gone &= wait_stat("objects", "==", b->objects, AIO_PATIENCE_MS);
	return gone;
}

/* ---- what is waited for ---- */

enum kind {
	PIPE_READ, PIPE_WRITE, FIFO, STREAM, DGRAM, SEQPACKET, EVENTFD, TIMERFD,
	SIGNALFD, INOTIFY, MASTER, SLAVE, EPOLL, DEV_NULL, REGULAR, KINDS
};

/* DRAINED: was full, and is being read */
enum state { IDLE, DATA, FULL, SHUT, GONE, DATA_GONE, STATES, DRAINED };

#define IS(state)	(1u << (state))

static const struct {
	const char	*name;
	int		queues;		/* that its poll waits on */
	unsigned int	states;
} kinds[KINDS] = {
	[PIPE_READ]	= { "reading end of a pipe", 1, IS(IDLE) | IS(DATA) |
			    IS(GONE) | IS(DATA_GONE) },
	[PIPE_WRITE]	= { "writing end of a pipe", 1, IS(IDLE) | IS(FULL) |
			    IS(GONE) },
	[FIFO]		= { "FIFO", 2, IS(IDLE) | IS(DATA) | IS(FULL) },
	[STREAM]	= { "stream socket", 1, IS(IDLE) | IS(DATA) | IS(FULL) |
			    IS(SHUT) | IS(GONE) | IS(DATA_GONE) },
	[DGRAM]		= { "datagram socket", 1, IS(IDLE) | IS(DATA) |
			    IS(FULL) | IS(SHUT) | IS(GONE) },
	[SEQPACKET]	= { "packet socket", 1, IS(IDLE) | IS(DATA) | IS(FULL) |
			    IS(SHUT) | IS(GONE) | IS(DATA_GONE) },
	[EVENTFD]	= { "eventfd", 1, IS(IDLE) | IS(DATA) | IS(FULL) },
	[TIMERFD]	= { "timerfd", 1, IS(IDLE) | IS(DATA) },
	[SIGNALFD]	= { "signalfd", 1, IS(IDLE) | IS(DATA) },
	[INOTIFY]	= { "inotify", 1, IS(IDLE) | IS(DATA) },
	[MASTER]	= { "pty master", 2, IS(IDLE) | IS(DATA) | IS(FULL) |
			    IS(GONE) | IS(DATA_GONE) },
	[SLAVE]		= { "pty slave", 2, IS(IDLE) | IS(DATA) | IS(FULL) |
			    IS(GONE) },
	[EPOLL]		= { "epoll", 1, IS(IDLE) | IS(DATA) },
	[DEV_NULL]	= { "/dev/null", 0, IS(IDLE) },
	[REGULAR]	= { "regular file", 0, IS(IDLE) },
};

struct subject {
	enum kind	kind;
	int		fd;		/* is waited for */
	int		other;		/* makes that ready */
	int		extra;
};

static int poll_now(int fd, int events)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	return poll(&pfd, 1, 0) == 1 ? pfd.revents & 0xffff : 0;
}

static void subject_close(struct subject *s)
{
	struct timespec none = { 0 };
	sigset_t set;

	close(s->fd);
	if (s->other >= 0)
		close(s->other);
	if (s->extra >= 0)
		close(s->extra);
	if (s->kind != SIGNALFD)
		return;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	while (sigtimedwait(&set, NULL, &none) == SIGUSR2)
		;
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

/* A pseudo terminal that changes nothing, and is nobody's controlling one. */
static bool open_pty(int *master, int *slave)
{
	struct termios t;
	int off = 0;

	*master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*master < 0)
		return false;
	*slave = -1;
	if (!ioctl(*master, TIOCSPTLCK, &off))
		*slave = open(ptsname(*master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*slave < 0 || tcgetattr(*slave, &t)) {
		close(*master);
		return false;
	}
	cfmakeraw(&t);
	return !tcsetattr(*slave, TCSANOW, &t);
}

static bool open_fifo(int *fd, int *other)
{
	static int nr;
	char path[64];

	snprintf(path, sizeof(path), "/tmp/aio-fifo-%d-%d", getpid(), nr++);
	if (mkfifo(path, 0600))
		return false;
	*fd = open(path, O_RDWR | O_CLOEXEC);
	*other = open(path, O_RDWR | O_CLOEXEC);
	unlink(path);
	return *fd >= 0 && *other >= 0;
}

static bool open_inotify(int *fd, int *file)
{
	char path[32];

	*fd = inotify_init1(IN_CLOEXEC);
	*file = aio_temp_file("/tmp", 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", *file);
	return *fd >= 0 && *file >= 0 &&
	       inotify_add_watch(*fd, path, IN_MODIFY) >= 0;
}

static bool open_signalfd(int *fd)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	*fd = signalfd(-1, &set, SFD_CLOEXEC);
	return *fd >= 0;
}

static bool open_epoll(struct subject *s)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int p[2];

	s->fd = epoll_create1(EPOLL_CLOEXEC);
	if (s->fd < 0 || pipe2(p, O_CLOEXEC))
		return false;
	s->extra = p[0];
	s->other = p[1];
	return !epoll_ctl(s->fd, EPOLL_CTL_ADD, p[0], &ev);
}

static bool subject_open(struct subject *s, enum kind kind)
{
	static const int types[] = {
		[STREAM] = SOCK_STREAM, [DGRAM] = SOCK_DGRAM,
		[SEQPACKET] = SOCK_SEQPACKET,
	};
	int p[2];

	s->kind = kind;
	s->fd = -1;
	s->other = -1;
	s->extra = -1;
	switch (kind) {
	case PIPE_READ:
	case PIPE_WRITE:
		if (pipe2(p, O_CLOEXEC))
			return false;
		s->fd = p[kind == PIPE_WRITE];
		s->other = p[kind == PIPE_READ];
		return true;
	case FIFO:
		return open_fifo(&s->fd, &s->other);
	case STREAM:
	case DGRAM:
	case SEQPACKET:
		if (socketpair(AF_UNIX, types[kind] | SOCK_CLOEXEC, 0, p))
			return false;
		s->fd = p[0];
		s->other = p[1];
		return true;
	case EVENTFD:
		s->fd = eventfd(0, EFD_CLOEXEC);
		s->other = s->fd < 0 ? -1 : fcntl(s->fd, F_DUPFD_CLOEXEC, 0);
		return s->other >= 0;
	case TIMERFD:
		s->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
		return s->fd >= 0;
	case SIGNALFD:
		return open_signalfd(&s->fd);
	case INOTIFY:
		return open_inotify(&s->fd, &s->other);
	case MASTER:
		return open_pty(&s->fd, &s->other);
	case SLAVE:
		return open_pty(&s->other, &s->fd);
	case EPOLL:
		return open_epoll(s);
	case DEV_NULL:
		s->fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		return s->fd >= 0;
	default:
		s->fd = aio_temp_file("/tmp", 0);
		return s->fd >= 0;
	}
}

/* Where a kernel lacks something, a test says so after it has done the rest. */
static bool lacking(enum kind kind, const char **missing)
{
	if (errno != ENOENT && errno != ENODEV)
		return false;
	*missing = kinds[kind].name;
	return true;
}

static void skip_if_missing(struct __test_metadata *_metadata,
			    const char *missing)
{
	if (missing && __test_passed(_metadata))
		SKIP(return, "without %s", missing);
}

#define SKIP_IF_MISSING(missing)	skip_if_missing(_metadata, missing)

/* Give it data, that is eight bytes where it is a stream. */
static bool subject_feed(const struct subject *s, uint64_t value)
{
	struct itimerspec soon = { .it_value.tv_nsec = 1 };

	switch (s->kind) {
	case TIMERFD:
		return !timerfd_settime(s->fd, 0, &soon, NULL);
	case SIGNALFD:
		return !kill(getpid(), SIGUSR2);
	default:
		return write(s->other, &value, sizeof(value)) == sizeof(value);
	}
}

/* Write zeros as long as that does not block. Gives the bytes, or -errno. */
static long fill_fd(int fd)
{
	static const char zeros[4096];
	int flags = fcntl(fd, F_GETFL);
	long done = 0;
	ssize_t ret;

	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return -errno;
	for (;;) {
		ret = write(fd, zeros, sizeof(zeros));
		if (ret <= 0)
			break;
		done += ret;
	}
	if (ret < 0 && errno != EAGAIN)
		done = -errno;
	fcntl(fd, F_SETFL, flags);
	return done;
}

static bool subject_fill(const struct subject *s)
{
	uint64_t most = UINT64_MAX - 1;

	if (s->kind == EVENTFD)
		return write(s->other, &most, sizeof(most)) == sizeof(most);
	if (s->kind != MASTER && s->kind != SLAVE)
		return fill_fd(s->fd) > 0;
	/* A terminal moves what it has got from one buffer to the next. */
	do {
		if (fill_fd(s->fd) < 0)
			return false;
	} while (aio_wait_for(poll_now(s->fd, POLLOUT), 50 * aio_slack()));
	return true;
}

static bool subject_leave(struct subject *s)
{
	int fd = s->other;

	s->other = -1;
	return !close(fd);
}

/* Read what is there. Gives the bytes, at least 0. */
static long subject_drain(const struct subject *s)
{
	static char buf[65536];
	int flags = fcntl(s->other, F_GETFL);
	long done = 0;
	ssize_t ret;

	fcntl(s->other, F_SETFL, flags | O_NONBLOCK);
	for (;;) {
		ret = read(s->other, buf, sizeof(buf));
		if (ret <= 0)
			break;
		done += ret;
	}
	fcntl(s->other, F_SETFL, flags);
	return done;
}

/* Bring it into @state, from being idle. It need not have got there yet. */
static bool subject_do(struct subject *s, enum state state)
{
	switch (state) {
	case DATA:
		return subject_feed(s, 1);
	case FULL:
		return subject_fill(s);
	case SHUT:
		return !shutdown(s->other, SHUT_WR);
	case GONE:
		return subject_leave(s);
	case DATA_GONE:
		return subject_feed(s, 1) && subject_leave(s);
	default:
		return true;
	}
}

/* The same, and wait until it is. */
static bool subject_set(struct subject *s, enum state state)
{
	if (!subject_do(s, state))
		return false;
	if (state != DATA && state != DATA_GONE)
		return true;
	return aio_wait_for(poll_now(s->fd, POLLIN), AIO_PATIENCE_MS);
}

static void iocb_poll(struct iocb *cb, int fd, int events)
{
	iocb_rw(cb, IOCB_CMD_POLL, fd, (void *)(uintptr_t)events, 0, 0);
}

/* ---- polls, in any context ---- */

FIXTURE(poll)
{
	struct aio_env env;
	aio_context_t ctx;
	struct base base;
};

FIXTURE_VARIANT(poll)
{
	bool threaded;
	bool force;
};

FIXTURE_VARIANT_ADD(poll, plain)
{
	.threaded = false,
};

FIXTURE_VARIANT_ADD(poll, as_tried)
{
	.threaded = true,
};

FIXTURE_VARIANT_ADD(poll, forced)
{
	.threaded = true,
	.force = true,
};

FIXTURE_SETUP(poll)
{
	signal(SIGPIPE, SIG_IGN);
	AIO_SETUP(&self->env, variant->threaded, variant->force, EVENTS);
	self->ctx = self->env.ctx;
	if (variant->threaded)
		ASSERT_TRUE(base_get(&self->base));
}

FIXTURE_TEARDOWN(poll)
{
	AIO_TEARDOWN(&self->env);
	if (variant->threaded)
		EXPECT_TRUE(all_gone(&self->base));
}

/* Can a poll of it wait in such a context? */
static bool poll_waits(enum kind kind, bool threaded)
{
	return kinds[kind].queues == 1 || (kinds[kind].queues && threaded);
}

/*
 * Is this what a cancelled poll ends with? One that waits on one queue goes its
 * old way, where it has no events.
 */
static bool poll_cancelled(enum kind kind, bool threaded, long long res)
{
	if (!threaded)
		return res == 0;
	return res == -ECANCELED || (kinds[kind].queues == 1 && res == 0);
}

/* Submit a poll and compare it with poll(2); what waits is cancelled. */
static void expect_as_poll(struct __test_metadata *_metadata,
			   aio_context_t ctx, const struct subject *s,
			   enum state state, int events, bool threaded)
{
	int want = poll_now(s->fd, events);
	struct io_event ev;
	struct iocb cb;
	long ret;

	iocb_poll(&cb, s->fd, events);
	ret = submit_one(ctx, &cb);
	if (!want && !poll_waits(s->kind, threaded)) {
		ASSERT_EQ(-EINVAL, ret) {
			TH_LOG("%s, state %d, events %x", kinds[s->kind].name,
			       state, events);
		}
		ASSERT_TRUE(aio_no_event(ctx));
		return;
	}
	ASSERT_EQ(1, ret) {
		TH_LOG("%s, state %d, events %x", kinds[s->kind].name, state,
		       events);
	}
	/* At once, or not at all. */
	ret = reap_one(ctx, &ev, 0);
	ASSERT_EQ(!!want, ret) {
		TH_LOG("%s, state %d, events %x, want %x", kinds[s->kind].name,
		       state, events, want);
	}
	if (want) {
		ASSERT_EQ(want, (long long)ev.res) {
			TH_LOG("%s, state %d, events %x", kinds[s->kind].name,
			       state, events);
		}
	} else {
		ASSERT_EQ(-EINPROGRESS, sys_io_cancel(ctx, &cb, &ev));
		ASSERT_EQ(1, reap_one(ctx, &ev, AIO_PATIENCE_MS));
		ASSERT_TRUE(poll_cancelled(s->kind, threaded, ev.res)) {
			TH_LOG("%s, cancelled: %lld", kinds[s->kind].name,
			       (long long)ev.res);
		}
	}
	ASSERT_EQ((uintptr_t)&cb, ev.obj);
	ASSERT_EQ((uintptr_t)&cb, ev.data);
	ASSERT_EQ(0, ev.res2);
}

TEST_F_TIMEOUT(poll, masks, 120)
{
	static const int masks[] = {
		0, POLLIN, POLLOUT, POLLIN | POLLOUT, POLLPRI, POLLRDHUP,
		POLLRDNORM | POLLRDBAND, POLLWRNORM | POLLWRBAND,
		POLLERR | POLLHUP, POLLIN | POLLPRI | POLLOUT | POLLRDHUP |
		POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND,
	};
	const char *missing = NULL;
	struct subject s;
	unsigned int m;
	enum state state;
	enum kind kind;

	for (kind = 0; kind < KINDS; kind++) {
		for (state = 0; state < STATES; state++) {
			if (!(kinds[kind].states & IS(state)))
				continue;
			if (!subject_open(&s, kind)) {
				ASSERT_TRUE(lacking(kind, &missing));
				break;
			}
			ASSERT_TRUE(subject_set(&s, state)) {
				TH_LOG("%s, state %d", kinds[kind].name, state);
			}
			for (m = 0; m < ARRAY_SIZE(masks); m++)
				expect_as_poll(_metadata, self->ctx, &s, state,
					       masks[m], variant->threaded);
			subject_close(&s);
		}
	}
	SKIP_IF_MISSING(missing);
}

/* What wakes a poll, and what it then says. */
static const struct {
	enum kind	kind;
	enum state	from;
	int		events;
	enum state	to;
	int		want;
} wakes[] = {
	{ PIPE_READ, IDLE, POLLIN, DATA, POLLIN },
	{ PIPE_READ, IDLE, POLLIN | POLLPRI, GONE, POLLHUP },
	{ PIPE_READ, IDLE, 0, GONE, POLLHUP },
	{ PIPE_WRITE, FULL, POLLOUT, DRAINED, POLLOUT },
	{ PIPE_WRITE, FULL, 0, GONE, POLLERR },
	{ FIFO, IDLE, POLLIN, DATA, POLLIN },
	{ FIFO, IDLE, POLLRDNORM, DATA, POLLRDNORM },
	{ FIFO, FULL, POLLOUT, DRAINED, POLLOUT },
	{ FIFO, FULL, POLLWRNORM | POLLPRI, DRAINED, POLLWRNORM },
	{ STREAM, IDLE, POLLIN, DATA, POLLIN },
	{ STREAM, IDLE, POLLRDHUP, SHUT, POLLRDHUP },
	{ STREAM, IDLE, 0, GONE, POLLHUP },
	{ STREAM, FULL, POLLOUT, DRAINED, POLLOUT },
	{ DGRAM, IDLE, POLLIN, DATA, POLLIN },
	{ SEQPACKET, IDLE, POLLIN, DATA, POLLIN },
	{ SEQPACKET, IDLE, POLLIN, GONE, POLLHUP },
	{ EVENTFD, IDLE, POLLIN, DATA, POLLIN },
	{ EVENTFD, FULL, POLLOUT, DRAINED, POLLOUT },
	{ TIMERFD, IDLE, POLLIN, DATA, POLLIN },
	{ INOTIFY, IDLE, POLLIN, DATA, POLLIN },
	{ EPOLL, IDLE, POLLIN, DATA, POLLIN },
	{ MASTER, IDLE, POLLIN, DATA, POLLIN },
	{ MASTER, FULL, POLLOUT, DRAINED, POLLOUT },
	{ MASTER, IDLE, 0, GONE, POLLHUP },
	{ MASTER, IDLE, POLLIN, GONE, POLLHUP },
	{ SLAVE, IDLE, POLLIN, DATA, POLLIN },
	{ SLAVE, FULL, POLLOUT, DRAINED, POLLOUT },
	{ SLAVE, IDLE, 0, GONE, POLLHUP },
};

/* Reap while it is read: a terminal gives what it has piece by piece. */
static bool drain_until_event(aio_context_t ctx, const struct subject *s,
			      struct io_event *ev)
{
	return aio_wait_for(subject_drain(s) < 0 || reap_one(ctx, ev, 0) == 1,
			    AIO_PATIENCE_MS);
}

TEST_F_TIMEOUT(poll, wakes, 300)
{
	const int all = POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLRDNORM |
			POLLRDBAND | POLLWRNORM | POLLWRBAND;
	const char *missing = NULL;
	struct io_event ev;
	struct subject s;
	struct iocb cb;
	unsigned int i;
	long long worker;
	int got, now;
	bool reaped;

	for (i = 0; i < ARRAY_SIZE(wakes); i++) {
		enum kind kind = wakes[i].kind;

		if (!subject_open(&s, kind)) {
			ASSERT_TRUE(lacking(kind, &missing));
			continue;
		}
		ASSERT_TRUE(subject_set(&s, wakes[i].from));
		iocb_poll(&cb, s.fd, wakes[i].events);
		if (!poll_waits(kind, variant->threaded)) {
			ASSERT_EQ(-EINVAL, submit_one(self->ctx, &cb)) {
				TH_LOG("row %u, %s", i, kinds[kind].name);
			}
			subject_close(&s);
			continue;
		}
		worker = aio_stat("worker");
		ASSERT_EQ(1, submit_one(self->ctx, &cb)) {
			TH_LOG("row %u, %s", i, kinds[kind].name);
		}
		if (kinds[kind].queues > 1) {
			EXPECT_TRUE(wait_armed(&self->base, 1)) {
				TH_LOG("row %u, %s", i, kinds[kind].name);
			}
			EXPECT_EQ(worker, aio_stat("worker"));
		}
		ASSERT_TRUE(aio_no_event(self->ctx)) {
			TH_LOG("row %u, %s", i, kinds[kind].name);
		}

		if (wakes[i].to == DRAINED) {
			reaped = drain_until_event(self->ctx, &s, &ev);
		} else {
			ASSERT_TRUE(subject_do(&s, wakes[i].to));
			reaped = reap_one(self->ctx, &ev, AIO_PATIENCE_MS) == 1;
		}
		ASSERT_TRUE(reaped) {
			TH_LOG("row %u, %s: not woken; it has %x", i,
			       kinds[kind].name, poll_now(s.fd, all));
		}
		ASSERT_EQ((uintptr_t)&cb, ev.obj);
		/* What is woken for may come together with more of its kind. */
		ASSERT_LT(0, (long long)ev.res);
		got = ev.res & (wakes[i].events | POLLERR | POLLHUP);
		now = poll_now(s.fd, all);
		EXPECT_EQ(wakes[i].want, got & wakes[i].want) {
			TH_LOG("row %u, %s: %llx", i, kinds[kind].name,
			       (long long)ev.res);
		}
		EXPECT_EQ(0, got & ~now) {
			TH_LOG("row %u, %s: %llx, but it has %x", i,
			       kinds[kind].name, (long long)ev.res, now);
		}
		EXPECT_TRUE(aio_no_event(self->ctx));
		subject_close(&s);
	}
	SKIP_IF_MISSING(missing);
}

/* What is malformed is refused, and nothing is left of it. */
TEST_F(poll, refused)
{
	struct iocb cb, good;
	struct subject s;
	int fd;

	ASSERT_TRUE(subject_open(&s, FIFO));
	ASSERT_TRUE(subject_set(&s, DATA));
	iocb_poll(&good, s.fd, POLLIN);
	EXPECT_EQ(POLLIN, aio_run(self->ctx, &good));

	cb = good;
	cb.aio_buf |= 0x10000;
	EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
	cb = good;
	cb.aio_offset = 1;
	EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
	cb = good;
	cb.aio_nbytes = 1;
	EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
	cb = good;
	cb.aio_rw_flags = RWF_NOWAIT;
	EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
	cb = good;
	cb.aio_fildes = 1 << 20;
	EXPECT_EQ(-EBADF, submit_one(self->ctx, &cb));
	fd = open("/tmp", O_PATH | O_CLOEXEC);
	ASSERT_LE(0, fd);
	cb.aio_fildes = fd;
	EXPECT_EQ(-EBADF, submit_one(self->ctx, &cb));
	cb = good;
	cb.aio_flags = IOCB_FLAG_RESFD;
	cb.aio_resfd = s.fd;
	EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));

	EXPECT_TRUE(aio_no_event(self->ctx));
	EXPECT_EQ(8, aio_readable(s.fd));
	close(fd);
	subject_close(&s);
}

/* Once cancelled, what happens to the file is nothing to the poll. */
TEST_F(poll, cancel)
{
	const char *missing = NULL;
	struct io_event ev;
	struct subject s;
	struct iocb cb;
	enum kind kind;
	long ret;

	for (kind = 0; kind < KINDS; kind++) {
		if (!poll_waits(kind, variant->threaded) || kind == PIPE_WRITE)
			continue;
		if (!subject_open(&s, kind)) {
			ASSERT_TRUE(lacking(kind, &missing));
			continue;
		}
		iocb_poll(&cb, s.fd, POLLIN);
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		ASSERT_EQ(-EINPROGRESS, sys_io_cancel(self->ctx, &cb, &ev));
		ret = sys_io_cancel(self->ctx, &cb, &ev);
		EXPECT_TRUE(ret == -EINVAL || ret == -EAGAIN ||
			    ret == -EINPROGRESS) {
			TH_LOG("%s: the second time %ld", kinds[kind].name,
			       ret);
		}
		ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS)) {
			TH_LOG("%s", kinds[kind].name);
		}
		EXPECT_EQ((uintptr_t)&cb, ev.obj);
		EXPECT_TRUE(poll_cancelled(kind, variant->threaded, ev.res)) {
			TH_LOG("%s: %lld", kinds[kind].name,
			       (long long)ev.res);
		}
		EXPECT_EQ(-EINVAL, sys_io_cancel(self->ctx, &cb, &ev));
		ASSERT_TRUE(subject_set(&s, DATA));
		EXPECT_TRUE(aio_no_event(self->ctx));
		/* Another one sees it. */
		EXPECT_EQ(POLLIN, aio_run(self->ctx, &cb)) {
			TH_LOG("%s", kinds[kind].name);
		}
		subject_close(&s);
	}
	SKIP_IF_MISSING(missing);
}

/* All that wait for the same are told. */
TEST_F_TIMEOUT(poll, many_of_one_file, 120)
{
	static const enum kind of[] = { PIPE_READ, STREAM, FIFO, SLAVE };
	const char *missing = NULL;
	const int nr = 500;
	struct subject s;
	struct many m;
	unsigned int k;
	int i;

	for (k = 0; k < ARRAY_SIZE(of); k++) {
		if (!poll_waits(of[k], variant->threaded))
			continue;
		if (!subject_open(&s, of[k])) {
			ASSERT_TRUE(lacking(of[k], &missing));
			continue;
		}
		ASSERT_TRUE(many_init(&m, self->ctx, nr));
		for (i = 0; i < nr; i++) {
			iocb_poll(&m.cbs[i], s.fd, i & 1 ? POLLIN : POLLRDNORM);
			m.cbs[i].aio_data = i;
		}
		ASSERT_EQ(0, many_submit(&m, 0, nr));
		if (kinds[of[k]].queues > 1)
			EXPECT_TRUE(wait_armed(&self->base, nr));
		EXPECT_TRUE(aio_no_event(self->ctx));
		ASSERT_TRUE(subject_feed(&s, 1));
		ASSERT_TRUE(many_reap(&m, nr, MANY_MS)) {
			TH_LOG("%s", kinds[of[k]].name);
		}
		for (i = 0; i < nr; i++) {
			ASSERT_LT(0, m.res[i] & (i & 1 ? POLLIN : POLLRDNORM)) {
				TH_LOG("%s: %llx", kinds[of[k]].name, m.res[i]);
			}
		}
		EXPECT_EQ(0, m.wrong);
		EXPECT_TRUE(aio_no_event(self->ctx));
		many_free(&m);
		subject_close(&s);
	}
	SKIP_IF_MISSING(missing);
}

TEST_F(poll, eventfd)
{
	enum kind kind = variant->threaded ? FIFO : PIPE_READ;
	int efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct io_event ev;
	struct subject s;
	struct iocb cb;
	uint64_t value;

	ASSERT_LE(0, efd);
	ASSERT_TRUE(subject_open(&s, kind));
	iocb_poll(&cb, s.fd, POLLIN);
	cb.aio_flags = IOCB_FLAG_RESFD;
	cb.aio_resfd = efd;
	/* Once it has waited, once it is ready already. */
	ASSERT_EQ(1, submit_one(self->ctx, &cb));
	EXPECT_EQ(0, poll_now(efd, POLLIN));
	ASSERT_TRUE(subject_feed(&s, 1));
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ(POLLIN, ev.res & POLLIN);
	EXPECT_TRUE(aio_wait_for(poll_now(efd, POLLIN), AIO_PATIENCE_MS));
	ASSERT_EQ(POLLIN, aio_run(self->ctx, &cb));
	value = 0;
	ASSERT_TRUE(aio_wait_for(read(efd, &ev.data, 8) == 8 &&
				 (value += ev.data) == 2, AIO_PATIENCE_MS)) {
		TH_LOG("told %llu times", (unsigned long long)value);
	}
	close(efd);
	subject_close(&s);
}

/* io_destroy() ends polls, and they leave their queues. */
TEST_F(poll, destroy)
{
	const char *missing = NULL;
	struct subject s[KINDS];
	aio_context_t ctx = 0;
	struct iocb cbs[KINDS];
	enum kind kind;
	long long ns;

	ASSERT_EQ(0, sys_io_setup(KINDS, &ctx));
	for (kind = 0; kind < KINDS; kind++) {
		s[kind].fd = -1;
		if (!poll_waits(kind, variant->threaded) || kind == PIPE_WRITE)
			continue;
		if (!subject_open(&s[kind], kind)) {
			ASSERT_TRUE(lacking(kind, &missing));
			s[kind].fd = -1;
			continue;
		}
		iocb_poll(&cbs[kind], s[kind].fd, POLLIN);
		ASSERT_EQ(1, submit_one(ctx, &cbs[kind]));
	}
	ns = aio_now_ns();
	ASSERT_EQ(0, sys_io_destroy(ctx));
	EXPECT_GT(end_ns(), aio_now_ns() - ns);
	if (variant->threaded)
		EXPECT_TRUE(all_gone(&self->base));
	for (kind = 0; kind < KINDS; kind++) {
		if (s[kind].fd < 0)
			continue;
		EXPECT_TRUE(subject_set(&s[kind], DATA)) {
			TH_LOG("%s", kinds[kind].name);
		}
		subject_close(&s[kind]);
	}
	SKIP_IF_MISSING(missing);
}

struct own_signals {
	aio_context_t	ctx;
	struct iocb	cb;
	long		ret;
};

/* In a process of its own, but with the same memory. */
static int poll_own_signals(void *arg)
{
	struct own_signals *o = arg;
	int fd;

	if (!open_signalfd(&fd))
		_exit(1);
	iocb_poll(&o->cb, fd, POLLIN);
	o->ret = submit_one(o->ctx, &o->cb);
	_exit(0);
}

/*
 * The queue of a signalfd is its process's, and goes with that, while the
 * context, which is the address space's, may stay.
 */
TEST_F(poll, queue_goes_away)
{
	const size_t size = 65536;
	struct own_signals o = { .ctx = self->ctx };
	struct io_event ev;
	int status;
	char *stack;
	pid_t pid;

	stack = mmap(NULL, size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, stack);
	pid = clone(poll_own_signals, stack + size,
		    CLONE_VM | CLONE_VFORK | SIGCHLD, &o);
	ASSERT_LT(0, pid);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	ASSERT_EQ(1, o.ret);
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ((uintptr_t)&o.cb, ev.obj);
	/* It may say that this is so, but not that there is a signal. */
	EXPECT_TRUE((long long)ev.res == -ECANCELED ||
		    ((long long)ev.res >= 0 && !(ev.res & POLLIN))) {
		TH_LOG("res %lld", (long long)ev.res);
	}
	EXPECT_EQ(-EINVAL, sys_io_cancel(self->ctx, &o.cb, &ev));
	munmap(stack, size);
}

/* ---- reads and writes that have to wait, in whatever way ---- */

FIXTURE(waits)
{
	struct aio_env env;
	aio_context_t ctx;
	struct base base;
};

FIXTURE_VARIANT(waits)
{
	bool force;
};

FIXTURE_VARIANT_ADD(waits, as_tried)
{
	.force = false,
};

FIXTURE_VARIANT_ADD(waits, forced)
{
	.force = true,
};

FIXTURE_SETUP(waits)
{
	signal(SIGPIPE, SIG_IGN);
	aio_make_room();
	AIO_SETUP(&self->env, true, variant->force, EVENTS);
	self->ctx = self->env.ctx;
	ASSERT_TRUE(base_get(&self->base));
}

FIXTURE_TEARDOWN(waits)
{
	AIO_TEARDOWN(&self->env);
	EXPECT_TRUE(all_gone(&self->base));
}

/* Do so many requests wait as they should: without a worker, or with one? */
static bool wait_either(const struct base *b, bool force, long long more)
{
	return force ? wait_in_flight(b, more) &&
		       wait_stat("waiting", "==", b->waiting, 0) :
		       wait_armed(b, more);
}

#define WAIT_EITHER(more)						\
	wait_either(&self->base, variant->force, more)

static bool cancelled(long long res, bool force)
{
	return res == -ECANCELED || (force && res == -EINTR);
}

/* The result of the one request in flight. */
static long long result(aio_context_t ctx)
{
	struct io_event ev;

	return reap_one(ctx, &ev, AIO_PATIENCE_MS) == 1 ? ev.res : AIO_NO_EVENT;
}

/* Nothing of what describes the request has to stay. */
TEST_F(waits, vectored)
{
	static const enum kind of[] = { PIPE_READ, FIFO, STREAM };
	char want[100], a[10], b[1], c[89];
	struct io_event ev;
	struct subject s;
	unsigned int k;

	aio_fill(want, sizeof(want), 1, 0);
	for (k = 0; k < ARRAY_SIZE(of); k++) {
		struct iovec iov[3] = {
			{ a, sizeof(a) }, { b, sizeof(b) }, { c, sizeof(c) },
		};
		struct iocb cb;

		memset(a, 0, sizeof(a));
		memset(b, 0, sizeof(b));
		memset(c, 0, sizeof(c));
		ASSERT_TRUE(subject_open(&s, of[k]));
		iocb_preadv(&cb, s.fd, iov, 3, 0);
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		memset(iov, 0xff, sizeof(iov));
		memset(&cb, 0xff, sizeof(cb));
		EXPECT_TRUE(WAIT_EITHER(1));
		EXPECT_TRUE(aio_no_event(self->ctx));
		ASSERT_EQ((ssize_t)sizeof(want),
			  write(s.other, want, sizeof(want)));
		ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
		EXPECT_EQ((uintptr_t)&cb, ev.obj);
		EXPECT_EQ((uintptr_t)&cb, ev.data);
		EXPECT_EQ((long long)sizeof(want), (long long)ev.res);
		EXPECT_EQ(0, memcmp(a, want, 10));
		EXPECT_EQ(0, memcmp(b, want + 10, 1));
		EXPECT_EQ(0, memcmp(c, want + 11, 89));
		subject_close(&s);
	}
}

/* The memory goes while the request waits. */
TEST_F(waits, buffer_unmapped)
{
	static const enum kind of[] = { PIPE_READ, FIFO, STREAM, EVENTFD };
	const size_t size = sysconf(_SC_PAGESIZE);
	struct subject s;
	unsigned int k;
	struct iocb cb;
	char *page;

	for (k = 0; k < ARRAY_SIZE(of); k++) {
		page = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, page);
		ASSERT_TRUE(subject_open(&s, of[k]));
		iocb_pread(&cb, s.fd, page, 8, 0);
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		EXPECT_TRUE(WAIT_EITHER(1));
		ASSERT_EQ(0, munmap(page, size));
		EXPECT_TRUE(aio_no_event(self->ctx));
		ASSERT_TRUE(subject_feed(&s, 1));
		EXPECT_EQ(-EFAULT, result(self->ctx)) {
			TH_LOG("%s", kinds[of[k]].name);
		}
		subject_close(&s);
	}
}

/* The other side says that nothing more will come. */
TEST_F(waits, end_of_file)
{
	static const struct {
		enum kind	kind;
		enum state	state;
	} rows[] = {
		{ PIPE_READ, GONE }, { STREAM, SHUT }, { STREAM, GONE },
		{ SEQPACKET, SHUT }, { SEQPACKET, GONE },
	};
	struct subject s;
	unsigned int i;
	struct iocb cb;
	char buf[8];

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		ASSERT_TRUE(subject_open(&s, rows[i].kind));
		iocb_pread(&cb, s.fd, buf, sizeof(buf), 0);
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		EXPECT_TRUE(WAIT_EITHER(1));
		EXPECT_TRUE(aio_no_event(self->ctx));
		ASSERT_TRUE(subject_do(&s, rows[i].state));
		EXPECT_EQ(0, result(self->ctx)) {
			TH_LOG("%s, state %d", kinds[rows[i].kind].name,
			       rows[i].state);
		}
		/* And so it is from now on. */
		EXPECT_EQ(0, aio_run(self->ctx, &cb));
		subject_close(&s);
	}
}

/* A request has its file, not the descriptor. */
TEST_F(waits, descriptor_closed)
{
	static const enum kind of[] = { PIPE_READ, FIFO, STREAM, EVENTFD };
	struct subject s, another;
	long long value;
	unsigned int k;
	struct iocb cb;

	ASSERT_TRUE(subject_open(&another, PIPE_READ));
	ASSERT_TRUE(subject_feed(&another, 99));
	for (k = 0; k < ARRAY_SIZE(of); k++) {
		value = 0;
		ASSERT_TRUE(subject_open(&s, of[k]));
		iocb_pread(&cb, s.fd, &value, sizeof(value), 0);
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		EXPECT_TRUE(WAIT_EITHER(1));
		/* Something to read by the same number. */
		ASSERT_EQ(s.fd, dup3(another.fd, s.fd, O_CLOEXEC));
		EXPECT_TRUE(aio_no_event(self->ctx));
		ASSERT_TRUE(subject_feed(&s, 7));
		EXPECT_EQ(8, result(self->ctx)) {
			TH_LOG("%s", kinds[of[k]].name);
		}
		EXPECT_EQ(7, value);
		subject_close(&s);
	}
	EXPECT_EQ(8, aio_readable(another.fd));
	subject_close(&another);
}

/* ---- many reads of one pipe ---- */

struct feeder {
	int	fd;
	int	first;
	int	step;
	int	nr;
	int	bad;
};

static void *feed_bytes(void *arg)
{
	struct feeder *f = arg;
	int i;

	for (i = f->first; i < f->nr; i += f->step) {
		__u8 byte = i;

		if (write(f->fd, &byte, 1) != 1)
			f->bad++;
	}
	return NULL;
}

/* Each byte comes once, and to each request one. */
TEST_F_TIMEOUT(waits, many_of_one_pipe, 300)
{
	enum { MOST = 1024, THREADS = 4 };
	/* With a worker each they take their time to begin. */
	const int nr = variant->force ? MOST / 4 : MOST;
	const int rounds = slow() ? 4 : 8;
	struct feeder f[THREADS];
	pthread_t thread[THREADS];
	struct subject s;
	struct many m;
	int i, r, t;

	for (r = 0; r < rounds; r++) {
		int threads = r & 1 ? THREADS : 1, count[256] = { 0 };

		ASSERT_TRUE(subject_open(&s, PIPE_READ));
		ASSERT_TRUE(many_init(&m, self->ctx, nr));
		for (i = 0; i < nr; i++)
			many_read(&m, i, s.fd);
		ASSERT_EQ(0, many_submit(&m, 0, nr));
		/* Now and then also while it is still being fed. */
		if (r & 2)
			EXPECT_TRUE(WAIT_EITHER(nr));
		for (t = 0; t < threads; t++) {
			f[t].fd = s.other;
			f[t].first = t;
			f[t].step = threads;
			f[t].nr = nr;
			f[t].bad = 0;
			ASSERT_EQ(0, pthread_create(&thread[t], NULL,
						    feed_bytes, &f[t]));
		}
		ASSERT_TRUE(many_reap(&m, nr, MANY_MS)) {
			TH_LOG("round %d: %d left in the pipe", r,
			       aio_readable(s.fd));
		}
		for (t = 0; t < threads; t++) {
			ASSERT_EQ(0, pthread_join(thread[t], NULL));
			ASSERT_EQ(0, f[t].bad);
		}
		EXPECT_TRUE(aio_no_event(self->ctx));
		EXPECT_EQ(0, aio_readable(s.fd));
		for (i = 0; i < nr; i++) {
			ASSERT_EQ(1, m.res[i]);
			count[m.bufs[i]]++;
		}
		for (i = 0; i < 256; i++) {
			ASSERT_EQ(nr / 256, count[i]) {
				TH_LOG("round %d: byte %d", r, i);
			}
		}
		EXPECT_EQ(0, m.wrong);
		many_free(&m);
		subject_close(&s);
	}
}

/* ---- writes ---- */

/* Read @skip zeros and then @len bytes of the stream @seed, in odd pieces. */
static bool read_stream(int fd, size_t skip, size_t len, uint32_t seed)
{
	static char buf[65536];
	size_t pos = 0, piece = 1, max;
	ssize_t ret;

	while (pos < skip + len) {
		piece = piece * 5 % 60000 + 1;
		/* Not over the border. */
		max = (pos < skip ? skip : skip + len) - pos;
		ret = read(fd, buf, piece < max ? piece : max);
		if (ret <= 0)
			return false;
		if (pos < skip ? aio_check_byte(buf, ret, 0) >= 0 :
		    aio_check(buf, ret, seed, pos - skip) >= 0)
			return false;
		pos += ret;
	}
	return true;
}

/* More than there is room for: all of it arrives, in order, as one request. */
TEST_F_TIMEOUT(waits, large_writes, 120)
{
	static const enum kind of[] = { PIPE_WRITE, FIFO, STREAM };
	static const int opcodes[] = { IOCB_CMD_PWRITE, IOCB_CMD_PWRITEV };
	const size_t len = (1 << 20) + 4097;
	__u8 *src = malloc(len);
	unsigned int k, o, full;
	struct io_event ev;
	struct subject s;
	long skip;

	ASSERT_NE(NULL, src);
	aio_fill(src, len, 2, 0);
	for (k = 0; k < ARRAY_SIZE(of); k++)
		for (o = 0; o < 2; o++)
			for (full = 0; full < 2; full++) {
				struct iovec iov[3] = {
					{ src, 5000 }, { src + 5000, 1 },
					{ src + 5001, len - 5001 },
				};
				struct iocb cb;

				ASSERT_TRUE(subject_open(&s, of[k]));
				skip = full ? fill_fd(s.fd) : 0;
				ASSERT_LE(0, skip);
				if (opcodes[o] == IOCB_CMD_PWRITE)
					iocb_pwrite(&cb, s.fd, src, len, 0);
				else
					iocb_pwritev(&cb, s.fd, iov, 3, 0);
				ASSERT_EQ(1, submit_one(self->ctx, &cb));
				memset(iov, 0xff, sizeof(iov));
				/* What has moved a part may have a worker. */
				EXPECT_TRUE(full ? WAIT_EITHER(1) :
					    wait_in_flight(&self->base, 1));
				EXPECT_TRUE(aio_wait_for(aio_readable(s.other) >
							 skip || full,
							 AIO_PATIENCE_MS));
				EXPECT_TRUE(aio_no_event(self->ctx));
				ASSERT_TRUE(read_stream(s.other, skip, len, 2)) {
					TH_LOG("%s, opcode %d, full %u",
					       kinds[of[k]].name, opcodes[o],
					       full);
				}
				ASSERT_EQ(1, reap_one(self->ctx, &ev,
						      AIO_PATIENCE_MS));
				EXPECT_EQ((uintptr_t)&cb, ev.obj);
				EXPECT_EQ((long long)len, (long long)ev.res);
				EXPECT_EQ(0, aio_readable(s.other));
				EXPECT_TRUE(aio_no_event(self->ctx));
				subject_close(&s);
			}
	free(src);
}

/* The reader goes away, from a write(2) or from a request. */
struct gone {
	struct meet	meet;
	aio_context_t	ctx;		/* 0: write(2) */
	int		fd;
	void		*buf;
	size_t		len;
	pid_t		tid;
	long long	res;
	long		moved;		/* so much had been written then */
};

static int sigpipes;
static pid_t sigpipe_tid;

static void on_sigpipe(int sig)
{
	(void)sig;
	__atomic_add_fetch(&sigpipes, 1, __ATOMIC_SEQ_CST);
	sigpipe_tid = gettid();
}

static void *write_until_gone(void *arg)
{
	struct gone *g = arg;
	struct iocb cb;

	__atomic_store_n(&g->tid, gettid(), __ATOMIC_RELEASE);
	if (g->ctx) {
		iocb_pwrite(&cb, g->fd, g->buf, g->len, 0);
		g->res = submit_one(g->ctx, &cb);
		meet(&g->meet);
		/* The iocb and the thread stay until the event is there. */
		meet(&g->meet);
	} else {
		g->res = write(g->fd, g->buf, g->len);
		if (g->res < 0)
			g->res = -errno;
	}
	return NULL;
}

/* @full: there is no room from the beginning, or only for a part. */
static void run_until_gone(struct __test_metadata *_metadata, struct gone *g,
			   const struct base *base, enum kind kind, bool full)
{
	struct subject s;
	pthread_t thread;
	long filled;

	ASSERT_TRUE(subject_open(&s, kind));
	filled = full ? fill_fd(s.fd) : 0;
	ASSERT_LE(0, filled);
	memset(&g->meet, 0, sizeof(g->meet));
	g->meet.nr = 2;
	g->tid = 0;
	g->fd = s.fd;
	sigpipes = 0;
	sigpipe_tid = 0;
	ASSERT_EQ(0, pthread_create(&thread, NULL, write_until_gone, g));
	if (g->ctx) {
		meet(&g->meet);
		ASSERT_EQ(1, g->res);
		ASSERT_TRUE(wait_in_flight(base, 1));
		ASSERT_TRUE(aio_no_event(g->ctx));
	} else {
		ASSERT_TRUE(aio_wait_for(__atomic_load_n(&g->tid,
							 __ATOMIC_ACQUIRE),
					 AIO_PATIENCE_MS));
	}
	if (!full) {
		ASSERT_TRUE(aio_wait_for(aio_readable(s.other) > 0,
					 AIO_PATIENCE_MS));
	}
	if (!g->ctx)
		ASSERT_TRUE(aio_wait_asleep(g->tid, AIO_PATIENCE_MS));
	g->moved = aio_readable(s.other) - filled;
	ASSERT_TRUE(subject_leave(&s));
	if (g->ctx) {
		g->res = result(g->ctx);
		meet(&g->meet);
	}
	/* It has no signal pending when it is gone. */
	ASSERT_EQ(0, pthread_join(thread, NULL));
	subject_close(&s);
}

/* As a write(2) of the same, down to the signal. */
TEST_F_TIMEOUT(waits, reader_goes_away, 120)
{
	static const enum kind of[] = { PIPE_WRITE, STREAM };
	struct sigaction act = { .sa_handler = on_sigpipe };
	struct gone g = { .len = 4 << 20 };
	unsigned int k, full;
	long long res;
	int signals;

	g.buf = calloc(1, g.len);
	ASSERT_NE(NULL, g.buf);
	ASSERT_EQ(0, sigaction(SIGPIPE, &act, NULL));
	for (k = 0; k < ARRAY_SIZE(of); k++)
		for (full = 0; full < 2; full++) {
			g.ctx = 0;
			run_until_gone(_metadata, &g, &self->base, of[k], full);
			res = g.res;
			signals = sigpipes;
			g.ctx = self->ctx;
			run_until_gone(_metadata, &g, &self->base, of[k], full);
			TH_LOG("%s, %s: %lld with %d signals; write(2): %lld, %d",
			       kinds[of[k]].name, full ? "full" : "a part",
			       g.res, sigpipes, res, signals);
			EXPECT_EQ(full ? 0 : 1, g.moved > 0);
			if (!full)
				EXPECT_EQ(g.moved, g.res);
			if (sigpipes)
				EXPECT_EQ(g.tid, sigpipe_tid);
			if (of[k] == PIPE_WRITE) {
				EXPECT_EQ(res < 0 ? res : g.moved, g.res);
				EXPECT_EQ(signals, sigpipes);
			} else if (full) {
				/* Who sleeps finds another error than who tries. */
				EXPECT_TRUE(g.res == -EPIPE ||
					    g.res == -ECONNRESET);
				EXPECT_GE(g.res == -EPIPE, sigpipes);
			} else {
				EXPECT_EQ(0, sigpipes);
			}
		}
	signal(SIGPIPE, SIG_IGN);
	free(g.buf);
}

/* ---- who does not want to wait ---- */

TEST_F(waits, nonblocking)
{
	static const struct {
		enum kind	kind;
		enum state	state;
		bool		flag_too;	/* RWF_NOWAIT is known */
	} rows[] = {
		{ PIPE_READ, IDLE, true }, { FIFO, IDLE, false },
		{ STREAM, IDLE, true }, { DGRAM, IDLE, true },
		{ EVENTFD, IDLE, true }, { TIMERFD, IDLE, true },
		{ INOTIFY, IDLE, false }, { PIPE_WRITE, FULL, true },
		{ FIFO, FULL, false }, { STREAM, FULL, true },
		{ EVENTFD, FULL, false },
	};
	struct subject s;
	unsigned int i;
	struct iocb cb;
	char buf[4096];
	int flags;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t len = rows[i].kind == EVENTFD ? 8 : sizeof(buf);

		memset(buf, 1, sizeof(buf));
		ASSERT_TRUE(subject_open(&s, rows[i].kind));
		ASSERT_TRUE(subject_set(&s, rows[i].state));
		iocb_rw(&cb, rows[i].state == FULL ? IOCB_CMD_PWRITE :
			IOCB_CMD_PREAD, s.fd, buf, len, 0);
		if (rows[i].flag_too) {
			cb.aio_rw_flags = RWF_NOWAIT;
			EXPECT_EQ(-EAGAIN, aio_run(self->ctx, &cb)) {
				TH_LOG("%s, RWF_NOWAIT",
				       kinds[rows[i].kind].name);
			}
			cb.aio_rw_flags = 0;
		}
		flags = fcntl(s.fd, F_GETFL);
		ASSERT_EQ(0, fcntl(s.fd, F_SETFL, flags | O_NONBLOCK));
		EXPECT_EQ(-EAGAIN, aio_run(self->ctx, &cb)) {
			TH_LOG("%s, O_NONBLOCK", kinds[rows[i].kind].name);
		}
		subject_close(&s);
	}
	EXPECT_EQ(self->base.armed, aio_stat("armed"));
	EXPECT_TRUE(wait_armed(&self->base, 0));
}

/* ---- cancellation ---- */

TEST_F(waits, cancel_twice)
{
	static const struct {
		enum kind	kind;
		enum state	state;
	} rows[] = {
		{ PIPE_READ, IDLE }, { FIFO, IDLE }, { STREAM, IDLE },
		{ EVENTFD, IDLE }, { TIMERFD, IDLE }, { INOTIFY, IDLE },
		{ PIPE_WRITE, FULL }, { STREAM, FULL },
	};
	const int rounds = 50;
	struct io_event ev;
	struct subject s;
	unsigned int i;
	struct iocb cb;
	char buf[4096];
	long ret;
	int r;

	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		ASSERT_TRUE(subject_open(&s, rows[i].kind));
		ASSERT_TRUE(subject_set(&s, rows[i].state));
		memset(buf, 0x55, sizeof(buf));
		for (r = 0; r < rounds; r++) {
			iocb_rw(&cb, rows[i].state == FULL ? IOCB_CMD_PWRITE :
				IOCB_CMD_PREAD, s.fd, buf, sizeof(buf), 0);
			ASSERT_EQ(1, submit_one(self->ctx, &cb));
			ASSERT_EQ(-EINPROGRESS,
				  sys_io_cancel(self->ctx, &cb, &ev));
			ret = sys_io_cancel(self->ctx, &cb, &ev);
			ASSERT_TRUE(ret == -EINVAL || ret == -EAGAIN ||
				    ret == -EINPROGRESS) {
				TH_LOG("%s: the second time %ld",
				       kinds[rows[i].kind].name, ret);
			}
			ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
			ASSERT_EQ((uintptr_t)&cb, ev.obj);
			/* What cannot be armed is in a worker. */
			ASSERT_TRUE(cancelled(ev.res, variant->force ||
					      rows[i].kind == INOTIFY)) {
				TH_LOG("%s: res %lld", kinds[rows[i].kind].name,
				       (long long)ev.res);
			}
			ASSERT_EQ(-EINVAL, sys_io_cancel(self->ctx, &cb, &ev));
			ASSERT_TRUE(aio_no_event(self->ctx));
		}
		EXPECT_EQ(-1, aio_check_byte(buf, sizeof(buf), 0x55));
		subject_close(&s);
	}
}

struct sleeper {
	struct meet	meet;
	bool		block;
	struct many	*m;
	int		stop;		/* readable when it may wake up */
	long		ret;
	int		pending;
};

/* Submits, and then sleeps in a way that any signal would end. */
static void *submit_and_sleep(void *arg)
{
	struct sleeper *s = arg;
	struct pollfd pfd = { .fd = s->stop, .events = POLLIN };
	sigset_t all, set;
	int sig;

	sigfillset(&all);
	if (s->block)
		pthread_sigmask(SIG_SETMASK, &all, NULL);
	s->ret = many_submit(s->m, 0, s->m->nr);
	meet(&s->meet);
	if (!s->ret)
		s->ret = aio_ret(poll(&pfd, 1, MANY_MS));
	sigemptyset(&set);
	sigpending(&set);
	for (sig = 1; sig < NSIG; sig++)
		s->pending += sigismember(&set, sig) == 1;
	return NULL;
}

/* Who has submitted is not told of a cancellation but by the event. */
TEST_F(waits, cancel_signals_nobody)
{
	struct subject reads, writes, fifo;
	struct sleeper s = { .meet.nr = 2 };
	struct io_event ev;
	pthread_t thread;
	int i, stop[2];
	struct many m;

	ASSERT_TRUE(subject_open(&reads, PIPE_READ));
	ASSERT_TRUE(subject_open(&writes, PIPE_WRITE));
	ASSERT_TRUE(subject_set(&writes, FULL));
	ASSERT_TRUE(subject_open(&fifo, FIFO));
	for (s.block = false; ; s.block = true) {
		ASSERT_EQ(0, pipe2(stop, O_CLOEXEC));
		ASSERT_TRUE(many_init(&m, self->ctx, 30));
		for (i = 0; i < m.nr; i += 3) {
			many_read(&m, i, reads.fd);
			iocb_pwrite(&m.cbs[i + 1], writes.fd, &m.bufs[i + 1], 1,
				    0);
			iocb_poll(&m.cbs[i + 2], fifo.fd, POLLIN);
			m.cbs[i + 1].aio_data = i + 1;
			m.cbs[i + 2].aio_data = i + 2;
		}
		s.m = &m;
		s.stop = stop[0];
		s.pending = 0;
		ASSERT_EQ(0, pthread_create(&thread, NULL, submit_and_sleep,
					    &s));
		meet(&s.meet);
		ASSERT_EQ(0, s.ret);
		ASSERT_TRUE(wait_in_flight(&self->base, m.nr));
		for (i = 0; i < m.nr; i++)
			ASSERT_EQ(-EINPROGRESS,
				  sys_io_cancel(self->ctx, &m.cbs[i], &ev));
		ASSERT_TRUE(many_reap(&m, m.nr, AIO_PATIENCE_MS));
		for (i = 0; i < m.nr; i++) {
			EXPECT_TRUE(cancelled(m.res[i], variant->force)) {
				TH_LOG("%d: res %lld", i, m.res[i]);
			}
		}
		ASSERT_EQ(1, write(stop[1], "s", 1));
		ASSERT_EQ(0, pthread_join(thread, NULL));
		EXPECT_EQ(1, s.ret);
		EXPECT_EQ(0, s.pending);
		EXPECT_EQ(0, m.wrong);
		many_free(&m);
		close(stop[0]);
		close(stop[1]);
		if (s.block)
			break;
	}
	subject_close(&reads);
	subject_close(&writes);
	subject_close(&fifo);
}

/* ---- completions that wake requests ---- */

/* The event of each request is what the next one waits for. */
static void expect_chain(struct __test_metadata *_metadata, aio_context_t ctx,
			 const struct base *base, bool force, bool poll_too)
{
	enum { NR = 100 };
	long long values[NR] = { 0 }, value = 1;
	int i, efds[NR + 1];
	struct many m;

	ASSERT_TRUE(many_init(&m, ctx, NR));
	for (i = 0; i <= NR; i++) {
		efds[i] = eventfd(0, EFD_CLOEXEC);
		ASSERT_LE(0, efds[i]);
	}
	for (i = 0; i < NR; i++) {
		if (poll_too && i & 1)
			iocb_poll(&m.cbs[i], efds[i], POLLIN);
		else
			iocb_pread(&m.cbs[i], efds[i], &values[i], 8, 0);
		m.cbs[i].aio_data = i;
		m.cbs[i].aio_flags = IOCB_FLAG_RESFD;
		m.cbs[i].aio_resfd = efds[i + 1];
	}
	ASSERT_EQ(0, many_submit(&m, 0, NR));
	/* Whether a poll of one queue is counted is not said. */
	if (!poll_too)
		EXPECT_TRUE(wait_either(base, force, NR));
	EXPECT_TRUE(aio_no_event(ctx));
	ASSERT_EQ(8, write(efds[0], &value, 8));
	ASSERT_TRUE(many_reap(&m, NR, MANY_MS));
	ASSERT_TRUE(aio_wait_for(poll_now(efds[NR], POLLIN), AIO_PATIENCE_MS));
	for (i = 0; i <= NR; i++) {
		bool polled = poll_too && i & 1;

		if (i < NR && polled) {
			EXPECT_EQ(POLLIN, m.res[i] & POLLIN);
		} else if (i < NR) {
			EXPECT_EQ(8, m.res[i]);
			EXPECT_EQ(1, values[i]);
		}
		/* A poll takes nothing, and the end of the chain has no read. */
		EXPECT_EQ(polled || i == NR, !!poll_now(efds[i], POLLIN)) {
			TH_LOG("eventfd %d", i);
		}
	}
	ASSERT_EQ(8, read(efds[NR], &value, 8));
	EXPECT_EQ(1, value);
	EXPECT_EQ(0, m.wrong);
	for (i = 0; i <= NR; i++)
		close(efds[i]);
	many_free(&m);
}

TEST_F_TIMEOUT(waits, eventfd_chain, 120)
{
	expect_chain(_metadata, self->ctx, &self->base, variant->force, false);
}

TEST_F_TIMEOUT(waits, eventfd_chain_with_polls, 120)
{
	expect_chain(_metadata, self->ctx, &self->base, variant->force, true);
}

/* All wait for the eventfd that their events go to. */
TEST_F_TIMEOUT(waits, eventfd_loop, 120)
{
	enum { NR = 100 };
	long long values[NR] = { 0 }, value = 1, sum = 0;
	int i, efd = eventfd(0, EFD_CLOEXEC);
	struct many m;

	ASSERT_LE(0, efd);
	ASSERT_TRUE(many_init(&m, self->ctx, NR));
	for (i = 0; i < NR; i++) {
		iocb_pread(&m.cbs[i], efd, &values[i], 8, 0);
		m.cbs[i].aio_data = i;
		m.cbs[i].aio_flags = IOCB_FLAG_RESFD;
		m.cbs[i].aio_resfd = efd;
	}
	ASSERT_EQ(0, many_submit(&m, 0, NR));
	EXPECT_TRUE(WAIT_EITHER(NR));
	ASSERT_EQ(8, write(efd, &value, 8));
	ASSERT_TRUE(many_reap(&m, NR, MANY_MS));
	for (i = 0; i < NR; i++) {
		EXPECT_EQ(8, m.res[i]);
		EXPECT_LT(0, values[i]);
		sum += values[i];
	}
	/* The ring has the event before the eventfd hears of it. */
	EXPECT_TRUE(aio_wait_for(poll_now(efd, POLLIN), AIO_PATIENCE_MS));
	fcntl(efd, F_SETFL, O_NONBLOCK);
	EXPECT_TRUE(aio_wait_for((read(efd, &value, 8) == 8 &&
				  (sum += value)) || sum == NR + 1,
				 AIO_PATIENCE_MS));
	EXPECT_EQ(NR + 1, sum);
	EXPECT_EQ(0, m.wrong);
	many_free(&m);
	close(efd);
}

/* ---- the sysctl ---- */

TEST_F(waits, switched_off)
{
	struct subject reads, writes, fifo;
	char page[4096] = "";
	struct iocb cbs[3];
	struct io_event ev;
	long long value = 0;
	int i;

	ASSERT_TRUE(subject_open(&reads, PIPE_READ));
	ASSERT_TRUE(subject_open(&writes, PIPE_WRITE));
	ASSERT_TRUE(subject_set(&writes, FULL));
	ASSERT_TRUE(subject_open(&fifo, FIFO));
	iocb_pread(&cbs[0], reads.fd, &value, 8, 0);
	iocb_pwrite(&cbs[1], writes.fd, page, sizeof(page), 0);
	iocb_poll(&cbs[2], fifo.fd, POLLIN);
	for (i = 0; i < 3; i++)
		ASSERT_EQ(1, submit_one(self->ctx, &cbs[i]));
	ASSERT_TRUE(wait_in_flight(&self->base, 3));
	ASSERT_EQ(0, aio_set_threads(0));
	EXPECT_EQ(0, aio_get_threads());
	EXPECT_TRUE(aio_no_event(self->ctx));
	EXPECT_TRUE(wait_in_flight(&self->base, 3));

	ASSERT_TRUE(subject_feed(&reads, 5));
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ((uintptr_t)&cbs[0], ev.obj);
	EXPECT_EQ(8, (long long)ev.res);
	EXPECT_EQ(5, value);
	ASSERT_EQ((ssize_t)sizeof(page),
		  read(writes.other, page, sizeof(page)));
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ((uintptr_t)&cbs[1], ev.obj);
	EXPECT_EQ((long long)sizeof(page), (long long)ev.res);
	ASSERT_TRUE(subject_feed(&fifo, 5));
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ((uintptr_t)&cbs[2], ev.obj);
	EXPECT_EQ(POLLIN, ev.res & POLLIN);
	subject_close(&reads);
	subject_close(&writes);
	subject_close(&fifo);
}

/* ---- children ---- */

static int kid_feeds(struct kid *kid, void *arg)
{
	const struct subject *s = arg;

	if (!parent_hear(kid))
		return 1;
	return subject_feed(s, 11) ? 0 : 2;
}

/* The data come from another process. */
TEST_F(waits, fed_by_a_child)
{
	static const enum kind of[] = { PIPE_READ, FIFO, STREAM, EVENTFD };
	struct subject s;
	long long value;
	struct kid kid;
	unsigned int k;
	struct iocb cb;

	for (k = 0; k < ARRAY_SIZE(of); k++) {
		value = 0;
		ASSERT_TRUE(subject_open(&s, of[k]));
		ASSERT_TRUE(kid_start(&kid, kid_feeds, &s));
		iocb_pread(&cb, s.fd, &value, sizeof(value), 0);
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		EXPECT_TRUE(WAIT_EITHER(1));
		EXPECT_TRUE(aio_no_event(self->ctx));
		ASSERT_TRUE(kid_tell(&kid, "f"));
		EXPECT_EQ(8, result(self->ctx));
		EXPECT_EQ(11, value);
		EXPECT_EQ(0, kid_wait(&kid));
		subject_close(&s);
	}
}

struct forked {
	aio_context_t	ctx;
	struct many	*m;
};

static int kid_of_fork(struct kid *kid, void *arg)
{
	struct forked *f = arg;
	struct io_event ev;
	int i;

	/* The parent's context is not the child's. */
	if (sys_io_getevents(f->ctx, 0, 1, &ev, 0) != -EINVAL ||
	    sys_io_cancel(f->ctx, &f->m->cbs[0], &ev) != -EINVAL ||
	    sys_io_destroy(f->ctx) != -EINVAL)
		return 1;
	if (!parent_tell(kid, "r") || !parent_hear(kid))
		return 2;
	/* Nor does it get the data. */
	for (i = 0; i < f->m->nr; i++)
		if (f->m->bufs[i])
			return 3;
	return 0;
}

TEST_F(waits, fork)
{
	struct forked f = { .ctx = self->ctx };
	struct kid first, second;
	char bytes[16];
	struct subject s;
	struct many m;
	int i;

	ASSERT_TRUE(subject_open(&s, PIPE_READ));
	ASSERT_TRUE(many_init(&m, self->ctx, sizeof(bytes)));
	for (i = 0; i < m.nr; i++)
		many_read(&m, i, s.fd);
	ASSERT_EQ(0, many_submit(&m, 0, m.nr));
	ASSERT_TRUE(WAIT_EITHER(m.nr));
	f.m = &m;
	ASSERT_TRUE(kid_start(&first, kid_of_fork, &f));
	ASSERT_EQ('r', kid_hear(&first));
	ASSERT_TRUE(kid_start(&second, kid_of_fork, &f));
	ASSERT_EQ('r', kid_hear(&second));
	/* A child's end disturbs nothing. */
	ASSERT_TRUE(kid_tell(&first, "e"));
	EXPECT_EQ(0, kid_wait(&first));
	EXPECT_TRUE(WAIT_EITHER(m.nr));
	EXPECT_TRUE(aio_no_event(self->ctx));
	memset(bytes, 'f', sizeof(bytes));
	ASSERT_EQ((ssize_t)sizeof(bytes),
		  write(s.other, bytes, sizeof(bytes)));
	ASSERT_TRUE(many_reap(&m, m.nr, AIO_PATIENCE_MS));
	for (i = 0; i < m.nr; i++) {
		EXPECT_EQ(1, m.res[i]);
		EXPECT_EQ('f', m.bufs[i]);
	}
	ASSERT_TRUE(kid_tell(&second, "e"));
	EXPECT_EQ(0, kid_wait(&second));
	EXPECT_EQ(0, m.wrong);
	many_free(&m);
	subject_close(&s);
}

/* ---- requests without a thread ---- */

FIXTURE(armed)
{
	struct aio_env env;
	aio_context_t ctx;
	struct base base;
};

FIXTURE_SETUP(armed)
{
	signal(SIGPIPE, SIG_IGN);
	AIO_SETUP(&self->env, true, false, EVENTS);
	self->ctx = self->env.ctx;
	ASSERT_TRUE(base_get(&self->base));
}

FIXTURE_TEARDOWN(armed)
{
	AIO_TEARDOWN(&self->env);
	EXPECT_TRUE(all_gone(&self->base));
}

/* Some wait for the same thing, and each time one gets it. */
TEST_F_TIMEOUT(armed, reads, 120)
{
	static const enum kind of[] = {
		PIPE_READ, FIFO, STREAM, DGRAM, SEQPACKET, EVENTFD, TIMERFD,
	};
	enum { NR = 4 };
	struct base now;
	struct io_event ev;
	struct subject s;
	struct many m;
	unsigned int k;
	bool waits;
	int i;

	for (k = 0; k < ARRAY_SIZE(of); k++) {
		const char *name = kinds[of[k]].name;
		long long values[NR] = { 0 };

		ASSERT_TRUE(subject_open(&s, of[k]));
		ASSERT_TRUE(many_init(&m, self->ctx, NR));
		for (i = 0; i < NR; i++) {
			iocb_pread(&m.cbs[i], s.fd, &values[i], 8, 0);
			m.cbs[i].aio_data = i;
		}
		ASSERT_TRUE(base_get(&now));
		ASSERT_EQ(0, many_submit(&m, 0, NR));
		waits = wait_armed(&self->base, NR);
		EXPECT_TRUE(waits) {
			TH_LOG("%s", name);
		}
		EXPECT_EQ(now.armed + NR, aio_stat("armed")) {
			TH_LOG("%s", name);
		}
		EXPECT_EQ(now.worker, aio_stat("worker")) {
			TH_LOG("%s", name);
		}
		for (i = 0; i < NR; i++) {
			EXPECT_TRUE(aio_no_event(self->ctx));
			ASSERT_TRUE(subject_feed(&s, 1));
			ASSERT_EQ(1, reap_one(self->ctx, &ev,
					      AIO_PATIENCE_MS)) {
				TH_LOG("%s: %d of %d", name, i, NR);
			}
			many_event(&m, &ev);
			EXPECT_EQ(8, (long long)ev.res) {
				TH_LOG("%s", name);
			}
			EXPECT_TRUE(!waits ||
				    wait_armed(&self->base, NR - 1 - i)) {
				TH_LOG("%s: %d of %d", name, i, NR);
			}
		}
		for (i = 0; i < NR; i++) {
			EXPECT_EQ(1, values[i]) {
				TH_LOG("%s", name);
			}
		}
		EXPECT_EQ(0, m.wrong);
		EXPECT_EQ(0, poll_now(s.fd, POLLIN));
		many_free(&m);
		subject_close(&s);
	}
}

/* Files that have no way to try without blocking need a worker. */
TEST_F(armed, reads_of_other_files)
{
	static const enum kind of[] = { INOTIFY };
	const char *missing = NULL;
	char buf[4096];
	struct subject s;
	unsigned int k;
	struct iocb cb;

	for (k = 0; k < ARRAY_SIZE(of); k++) {
		if (!subject_open(&s, of[k])) {
			ASSERT_TRUE(lacking(of[k], &missing));
			continue;
		}
		iocb_pread(&cb, s.fd, buf, sizeof(buf), 0);
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		EXPECT_TRUE(wait_stat("running", "==",
				      self->base.running + 1,
				      AIO_PATIENCE_MS)) {
			TH_LOG("%s", kinds[of[k]].name);
		}
		EXPECT_TRUE(aio_no_event(self->ctx));
		ASSERT_TRUE(subject_feed(&s, 1));
		EXPECT_LT(0, result(self->ctx)) {
			TH_LOG("%s", kinds[of[k]].name);
		}
		subject_close(&s);
	}
	SKIP_IF_MISSING(missing);
}

TEST_F(armed, writes)
{
	static const enum kind of[] = { PIPE_WRITE, FIFO, STREAM };
	struct io_event ev;
	struct subject s;
	unsigned int k;
	struct iocb cb;
	uint64_t value = 1;

	for (k = 0; k < ARRAY_SIZE(of); k++) {
		ASSERT_TRUE(subject_open(&s, of[k]));
		ASSERT_TRUE(subject_set(&s, FULL));
		iocb_pwrite(&cb, s.fd, &value, sizeof(value), 0);
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		EXPECT_TRUE(wait_armed(&self->base, 1)) {
			TH_LOG("%s", kinds[of[k]].name);
		}
		EXPECT_TRUE(aio_no_event(self->ctx));
		ASSERT_TRUE(drain_until_event(self->ctx, &s, &ev)) {
			TH_LOG("%s", kinds[of[k]].name);
		}
		EXPECT_EQ((uintptr_t)&cb, ev.obj);
		EXPECT_EQ(8, (long long)ev.res);
		subject_close(&s);
	}
}

/* ---- ten thousand of them ---- */

#define KID_READS	10000
#define KID_PIPES	100

static int count_kworkers(void)
{
	char path[300], comm[32];
	struct dirent *de;
	int nr = 0;
	DIR *dir = opendir("/proc");

	if (!dir)
		return -errno;
	while ((de = readdir(dir))) {
		if (!atoi(de->d_name))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", de->d_name);
		if (aio_read_text(path, comm, sizeof(comm)) > 0 &&
		    !strncmp(comm, "kworker/", 8))
			nr++;
	}
	closedir(dir);
	return nr;
}

static int kid_ten_thousand(struct kid *kid, void *arg)
{
	struct rlimit files = { 4096, 4096 };
	int i, fds[KID_PIPES][2];
	aio_context_t ctx = 0;
	struct io_event ev;
	struct many m;

	(void)arg;
	setrlimit(RLIMIT_NOFILE, &files);
	for (i = 0; i < KID_PIPES; i++)
		if (pipe2(fds[i], O_CLOEXEC))
			return 1;
	if (sys_io_setup(KID_READS, &ctx) || !many_init(&m, ctx, KID_READS))
		return 2;
	for (i = 0; i < KID_READS; i++)
		many_read(&m, i, fds[i % KID_PIPES][0]);
	if (many_submit(&m, 0, KID_READS) || !aio_no_event(ctx))
		return 3;
	if (!parent_tell(kid, "r") || !parent_hear(kid))
		return 4;

	/* One byte is one event, of one that reads that pipe. */
	if (write(fds[7][1], "7", 1) != 1 || !many_reap(&m, 1, MANY_MS))
		return 5;
	if (!parent_tell(kid, "w") || !parent_hear(kid))
		return 6;
	for (i = 0; i < KID_READS && !m.seen[i]; i++)
		;
	if (!aio_no_event(ctx) || m.wrong || i % KID_PIPES != 7 ||
	    m.res[i] != 1 || m.bufs[i] != '7' || aio_readable(fds[7][0]))
		return 7;

	/* Its neighbour is cancelled, and is the only one. */
	i = (i + 1) % KID_READS;
	if (sys_io_cancel(ctx, &m.cbs[i], &ev) != -EINPROGRESS)
		return 8;
	if (!many_reap(&m, 2, AIO_PATIENCE_MS) || !m.seen[i] ||
	    m.res[i] != -ECANCELED)
		return 9;
	if (sys_io_cancel(ctx, &m.cbs[i], &ev) != -EINVAL)
		return 10;
	if (!parent_tell(kid, "c") || !parent_hear(kid))
		return 11;
	if (!aio_no_event(ctx) || m.wrong)
		return 12;
	parent_tell(kid, "k");
	/* To be killed. */
	parent_hear(kid);
	return 13;
}

TEST_F_TIMEOUT(armed, ten_thousand, 600)
{
	long long ns, aio_nr = aio_fs_aio_nr();
	int kworkers = count_kworkers();
	struct kid kid;

	ASSERT_LT(0, kworkers);
	ASSERT_TRUE(kid_start(&kid, kid_ten_thousand, NULL));
	ASSERT_EQ('r', kid_hear(&kid)) {
		TH_LOG("exit status %x", kid_wait(&kid));
	}
	EXPECT_TRUE(wait_armed(&self->base, KID_READS));
	EXPECT_EQ(self->base.worker, aio_stat("worker"));
	EXPECT_EQ(self->base.armed + KID_READS, aio_stat("armed"));
	/* The machine has its own affairs, too. */
	EXPECT_GE(kworkers + 10, count_kworkers()) {
		TH_LOG("%d kworkers, were %d", count_kworkers(), kworkers);
	}
	ASSERT_TRUE(kid_tell(&kid, "w"));
	ASSERT_EQ('w', kid_hear(&kid)) {
		TH_LOG("exit status %x", kid_wait(&kid));
	}
	EXPECT_TRUE(wait_armed(&self->base, KID_READS - 1));
	ASSERT_TRUE(kid_tell(&kid, "c"));
	ASSERT_EQ('c', kid_hear(&kid)) {
		TH_LOG("exit status %x", kid_wait(&kid));
	}
	EXPECT_TRUE(wait_armed(&self->base, KID_READS - 2));
	ASSERT_TRUE(kid_tell(&kid, "k"));
	ASSERT_EQ('k', kid_hear(&kid)) {
		TH_LOG("exit status %x", kid_wait(&kid));
	}
	EXPECT_GE(kworkers + 10, count_kworkers());

	ns = aio_now_ns();
	ASSERT_EQ(0, kill(kid.pid, SIGKILL));
	EXPECT_EQ(SIGKILL, kid_wait(&kid));
	ns = aio_now_ns() - ns;
	TH_LOG("gone after %lld ms", ns / 1000000);
	EXPECT_GT(end_ns(), ns);
	EXPECT_TRUE(all_gone(&self->base));
	EXPECT_TRUE(aio_wait_for(aio_fs_aio_nr() == aio_nr, AIO_PATIENCE_MS));
}

/* ---- the end of a process whose requests wait ---- */

enum ending { KILLED, EXITS, ABORTS, EXECS, DESTROYS };

#define MIX_EACH	4

/* What they wait for is the parent's, too, and outlives them. */
static const struct {
	enum kind	kind;
	enum state	state;
	int		opcode;
	bool		counted;	/* as waiting, which is sure */
} mix[] = {
	{ PIPE_READ, IDLE, IOCB_CMD_PREAD, true },
	{ FIFO, IDLE, IOCB_CMD_PREAD, true },
	{ STREAM, IDLE, IOCB_CMD_PREAD, true },
	{ EVENTFD, IDLE, IOCB_CMD_PREAD, true },
	{ TIMERFD, IDLE, IOCB_CMD_PREAD, true },
	{ PIPE_WRITE, FULL, IOCB_CMD_PWRITE, true },
	{ STREAM, FULL, IOCB_CMD_PWRITE, true },
	{ PIPE_READ, IDLE, IOCB_CMD_POLL, false },
	{ EVENTFD, IDLE, IOCB_CMD_POLL, false },
	{ FIFO, IDLE, IOCB_CMD_POLL, true },
	{ MASTER, IDLE, IOCB_CMD_POLL, true },
	{ SLAVE, IDLE, IOCB_CMD_POLL, true },
};

#define MIX	((int)ARRAY_SIZE(mix))

struct mixed {
	enum ending	how;
	struct subject	s[MIX];
	long		filled[MIX];
	long		ret;
	long long	ns;
};

/* What exec leads to; see main(). */
static int after_exec(int fd)
{
	return write(fd, "x", 1) != 1;
}

static int kid_mixed(struct kid *kid, void *arg)
{
	struct mixed *mixed = arg;
	aio_context_t ctx = 0;
	char page[4096] = "", number[16];
	struct many m;
	int i, row;

	/* No core file from abort(). */
	prctl(PR_SET_DUMPABLE, 0);
	if (sys_io_setup(MIX * MIX_EACH, &ctx) ||
	    !many_init(&m, ctx, MIX * MIX_EACH))
		return 1;
	for (i = 0; i < m.nr; i++) {
		row = i % MIX;
		if (mix[row].opcode == IOCB_CMD_POLL)
			iocb_poll(&m.cbs[i], mixed->s[row].fd, POLLIN);
		else
			iocb_rw(&m.cbs[i], mix[row].opcode, mixed->s[row].fd,
				page, sizeof(page), 0);
		m.cbs[i].aio_data = i;
	}
	if (many_submit(&m, 0, m.nr) || !aio_no_event(ctx))
		return 2;
	if (!parent_tell(kid, "r") || !parent_hear(kid))
		return 3;
	switch (mixed->how) {
	case KILLED:
		break;
	case EXITS:
		return 0;
	case ABORTS:
		abort();
	case EXECS:
		snprintf(number, sizeof(number), "%d", dup(kid->hear[1]));
		execl("/proc/self/exe", "aio_wait", "--after-exec", number,
		      NULL);
		break;
	case DESTROYS:
		mixed->ns = aio_now_ns();
		mixed->ret = sys_io_destroy(ctx);
		mixed->ns = aio_now_ns() - mixed->ns;
		parent_tell(kid, "d");
		parent_hear(kid);
		return 0;
	}
	return 4;
}

static void mixed_ends(struct __test_metadata *_metadata,
		       const struct base *base, enum ending how)
{
	int i, counted = 0, status, want = 0;
	struct mixed *mixed;
	struct kid kid;
	long long ns;

	if (access("/dev/ptmx", R_OK | W_OK))
		SKIP(return, "without pty");
	/* A part of it is the child's answer. */
	mixed = mmap(NULL, sizeof(*mixed), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mixed);
	mixed->how = how;
	for (i = 0; i < MIX; i++) {
		ASSERT_TRUE(subject_open(&mixed->s[i], mix[i].kind)) {
			TH_LOG("%s", kinds[mix[i].kind].name);
		}
		ASSERT_TRUE(subject_set(&mixed->s[i], mix[i].state));
		if (mix[i].state == FULL)
			mixed->filled[i] = aio_readable(mixed->s[i].other);
		counted += mix[i].counted ? MIX_EACH : 0;
	}
	ASSERT_TRUE(kid_start(&kid, kid_mixed, mixed));
	ASSERT_EQ('r', kid_hear(&kid)) {
		TH_LOG("exit status %x", kid_wait(&kid));
	}
	EXPECT_TRUE(wait_stat("waiting", ">=", base->waiting + counted,
			      AIO_PATIENCE_MS));
	EXPECT_TRUE(wait_stat("queued", "==", base->queued, AIO_PATIENCE_MS));
	EXPECT_TRUE(wait_stat("running", "==", base->running, AIO_PATIENCE_MS));

	ns = aio_now_ns();
	if (how == KILLED) {
		ASSERT_EQ(0, kill(kid.pid, SIGKILL));
		want = SIGKILL;
	} else {
		ASSERT_TRUE(kid_tell(&kid, "e"));
	}
	if (how == ABORTS)
		want = SIGABRT;
	if (how == EXECS)
		EXPECT_EQ('x', kid_hear(&kid));
	if (how == DESTROYS) {
		/* All is gone while the process is still there. */
		ASSERT_EQ('d', kid_hear(&kid));
		EXPECT_EQ(0, mixed->ret);
		EXPECT_GT(end_ns(), mixed->ns);
		EXPECT_TRUE(all_gone(base));
		ns = aio_now_ns();
		ASSERT_TRUE(kid_tell(&kid, "e"));
	}
	status = kid_wait(&kid);
	ns = aio_now_ns() - ns;
	EXPECT_EQ(want, status) {
		TH_LOG("wait status %x", status);
	}
	EXPECT_GT(end_ns(), ns);
	EXPECT_TRUE(all_gone(base));

	/* The queues are without them, and nobody has taken anything. */
	for (i = 0; i < MIX; i++) {
		if (mix[i].state == FULL) {
			EXPECT_EQ(mixed->filled[i],
				  aio_readable(mixed->s[i].other)) {
				TH_LOG("%s", kinds[mix[i].kind].name);
			}
			EXPECT_LT(0, subject_drain(&mixed->s[i]));
			EXPECT_EQ(POLLOUT, poll_now(mixed->s[i].fd, POLLOUT));
		} else {
			EXPECT_TRUE(subject_set(&mixed->s[i], DATA)) {
				TH_LOG("%s", kinds[mix[i].kind].name);
			}
		}
		subject_close(&mixed->s[i]);
	}
	munmap(mixed, sizeof(*mixed));
}

TEST_F(armed, killed)
{
	mixed_ends(_metadata, &self->base, KILLED);
}

TEST_F(armed, exits)
{
	mixed_ends(_metadata, &self->base, EXITS);
}

TEST_F(armed, aborts)
{
	mixed_ends(_metadata, &self->base, ABORTS);
}

TEST_F(armed, execs)
{
	mixed_ends(_metadata, &self->base, EXECS);
}

TEST_F(armed, destroys)
{
	mixed_ends(_metadata, &self->base, DESTROYS);
}

/* ---- races ---- */

static int race_rounds(int rounds)
{
	int most = aio_rounds(INT_MAX);

	if (slow())
		rounds /= 10;
	return rounds < most ? rounds : most;
}

enum rivalry { READS, POLLS, WRITES };

struct rival {
	struct meet	meet;
	int		rounds;
	__u32		random;
	enum rivalry	what;
	struct subject	s;
	__u8		*page;
	size_t		size;
	int		bad;
};

/* Round @i's byte; not that of any round near it. */
static __u8 round_byte(int i)
{
	return i % 251 + 1;
}

/* Makes what the request waits for ready, once in a round. */
static void *rival(void *arg)
{
	struct rival *r = arg;
	ssize_t ret;
	int i;

	for (i = 0; i < r->rounds; i++) {
		meet(&r->meet);
		dawdle(&r->random);
		if (r->what == WRITES) {
			/* There is one page, of the round before. */
			ret = read(r->s.other, r->page, r->size);
			r->bad += ret != (ssize_t)r->size ||
				  aio_check_byte(r->page, ret, round_byte(i)) >=
				  0;
		} else {
			r->bad += !subject_feed(&r->s, i + 1);
		}
		meet(&r->meet);
	}
	return NULL;
}

/*
 * A request begins to wait, or with @cancel waits and is cancelled, while what
 * it waits for comes. It must have one event, which fits what has become of the
 * data.
 */
static void race(struct __test_metadata *_metadata, aio_context_t ctx,
		 enum kind kind, enum rivalry what, bool cancel, int rounds)
{
	struct rival r = {
		.meet.nr = 2, .rounds = rounds, .random = 21, .what = what,
	};
	int done = 0, gone = 0, late = 0, i;
	long long value, got;
	__u32 random = 22;
	struct io_event ev;
	struct iocb cb;
	pthread_t thread;
	__u8 *page = NULL;
	long ret = 0;
	long long res;

	ASSERT_TRUE(subject_open(&r.s, kind));
	if (what == WRITES) {
		r.size = sysconf(_SC_PAGESIZE);
		r.page = malloc(r.size);
		page = malloc(r.size);
		ASSERT_TRUE(r.page && page);
		ASSERT_EQ((int)r.size, fcntl(r.s.fd, F_SETPIPE_SZ, r.size));
		memset(page, round_byte(0), r.size);
		ASSERT_EQ((ssize_t)r.size, write(r.s.fd, page, r.size));
	}
	ASSERT_EQ(0, pthread_create(&thread, NULL, rival, &r));
	for (i = 0; i < rounds; i++) {
		value = 0;
		if (what == POLLS) {
			iocb_poll(&cb, r.s.fd, POLLIN);
		} else if (what == READS) {
			iocb_pread(&cb, r.s.fd, &value, 8, 0);
		} else {
			memset(page, round_byte(i + 1), r.size);
			iocb_pwrite(&cb, r.s.fd, page, r.size, 0);
		}
		if (cancel) {
			ASSERT_EQ(1, submit_one(ctx, &cb));
			meet(&r.meet);
			dawdle(&random);
			ret = sys_io_cancel(ctx, &cb, &ev);
		} else {
			meet(&r.meet);
			dawdle(&random);
			ASSERT_EQ(1, submit_one(ctx, &cb));
		}
		ASSERT_EQ(1, reap_one(ctx, &ev, AIO_PATIENCE_MS)) {
			TH_LOG("round %d: no event, cancel %ld, it has %x", i,
			       ret, poll_now(r.s.fd, POLLIN | POLLOUT));
		}
		meet(&r.meet);
		res = ev.res;
		ASSERT_EQ(0, r.bad) {
			TH_LOG("round %d", i);
		}
		ASSERT_EQ((uintptr_t)&cb, ev.obj);
		ASSERT_EQ((uintptr_t)&cb, ev.data);
		ASSERT_TRUE(aio_no_event(ctx)) {
			TH_LOG("round %d: another event after %lld", i, res);
		}

		if (res < 0) {
			gone++;
			ASSERT_TRUE(cancel && ret == -EINPROGRESS &&
				    (res == -ECANCELED || res == -EINTR)) {
				TH_LOG("round %d: cancel %ld, res %lld", i, ret,
				       res);
			}
		} else {
			done++;
			late += ret != -EINPROGRESS;
			ASSERT_TRUE(!ret || ret == -EINPROGRESS ||
				    ret == -EINVAL || ret == -EAGAIN) {
				TH_LOG("round %d: cancel %ld", i, ret);
			}
		}

		/* The data are in one place. */
		switch (what) {
		case READS:
			ASSERT_EQ(res < 0, !!poll_now(r.s.fd, POLLIN)) {
				TH_LOG("round %d: res %lld", i, res);
			}
			if (res < 0) {
				ASSERT_EQ(0, value);
				ASSERT_EQ(8, read(r.s.fd, &got, 8));
				ASSERT_EQ(i + 1, got);
			} else {
				ASSERT_EQ(8, res);
				ASSERT_EQ(i + 1, value);
			}
			break;
		case POLLS:
			if (res >= 0)
				ASSERT_EQ(POLLIN, res & POLLIN);
			ASSERT_EQ(POLLIN, poll_now(r.s.fd, POLLIN));
			ASSERT_EQ(8, read(r.s.fd, &got, 8));
			ASSERT_EQ(i + 1, got);
			break;
		case WRITES:
			if (res >= 0)
				ASSERT_EQ((long long)r.size, res);
			ASSERT_EQ(res < 0 ? 0 : (int)r.size,
				  aio_readable(r.s.other)) {
				TH_LOG("round %d: res %lld", i, res);
			}
			if (res < 0)
				ASSERT_EQ((ssize_t)r.size,
					  write(r.s.fd, page, r.size));
			break;
		}
	}
	ASSERT_EQ(0, pthread_join(thread, NULL));
	if (cancel) {
		TH_LOG("%s: %d rounds: %d done (%d before the cancel), %d cancelled",
		       kinds[kind].name, rounds, done, late, gone);
		/* Otherwise it was no race. */
		if (rounds >= 1000) {
			EXPECT_LT(0, done);
			EXPECT_LT(0, gone);
		}
	}
	subject_close(&r.s);
	free(r.page);
	free(page);
}

static const struct {
	enum kind	kind;
	enum rivalry	what;
	int		rounds;
} races[] = {
	{ PIPE_READ, READS, 20000 },
	{ FIFO, READS, 4000 },
	{ STREAM, READS, 4000 },
	{ EVENTFD, READS, 4000 },
	{ FIFO, POLLS, 4000 },
	{ PIPE_WRITE, WRITES, 4000 },
};

/* What is cancelled is woken at the same time. */
TEST_F_TIMEOUT(armed, race_cancel, 1800)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(races); i++)
		race(_metadata, self->ctx, races[i].kind, races[i].what, true,
		     race_rounds(races[i].rounds));
}

/* What begins to wait is woken at the same time. */
TEST_F_TIMEOUT(armed, race_arm, 1800)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(races); i++)
		race(_metadata, self->ctx, races[i].kind, races[i].what, false,
		     race_rounds(4000));
}

/* The same without meeting: a writer that never stops, a reader neither. */
TEST_F_TIMEOUT(armed, race_stream, 600)
{
	const int nr = race_rounds(20000), batch = 8;
	struct feeder f = { .step = 1, .nr = nr };
	int count[256] = { 0 }, got, done, i;
	struct subject s;
	pthread_t thread;
	struct many m;

	ASSERT_TRUE(subject_open(&s, PIPE_READ));
	f.fd = s.other;
	ASSERT_TRUE(many_init(&m, self->ctx, batch));
	ASSERT_EQ(0, pthread_create(&thread, NULL, feed_bytes, &f));
	for (done = 0; done < nr; done += got) {
		got = nr - done < batch ? nr - done : batch;
		for (i = 0; i < got; i++)
			many_read(&m, i, s.fd);
		memset(m.seen, 0, batch * sizeof(*m.seen));
		m.reaped = 0;
		ASSERT_EQ(0, many_submit(&m, 0, got));
		ASSERT_TRUE(many_reap(&m, got, AIO_PATIENCE_MS)) {
			TH_LOG("after %d bytes, %d in the pipe", done,
			       aio_readable(s.fd));
		}
		for (i = 0; i < got; i++) {
			ASSERT_EQ(1, m.res[i]);
			count[m.bufs[i]]++;
		}
	}
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, f.bad);
	EXPECT_EQ(0, aio_readable(s.fd));
	for (i = 0; i < 256; i++)
		EXPECT_EQ(nr / 256 + (i < nr % 256), count[i]);
	EXPECT_EQ(0, m.wrong);
	many_free(&m);
	subject_close(&s);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--after-exec"))
		return after_exec(atoi(argv[2]));
	return test_harness_run(argc, argv);
}

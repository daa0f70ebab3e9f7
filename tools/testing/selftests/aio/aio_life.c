// SPDX-License-Identifier: GPL-2.0
/*
 * How requests of threaded AIO end with what they belong to: a process that is
 * killed, exits or calls exec, a thread, a context, descriptors, mappings, the
 * sysctl. And whose they are while they run: credentials, memory cgroup, I/O
 * priority and protection keys of the submitter at io_submit().
 *
 * AIO_SLOW=1: a debug kernel, which may take ten times as long.
 */
#include "../kselftest_harness.h"
#include "aio_kid.h"

#include <grp.h>
#include <linux/ioprio.h>
#include <linux/userfaultfd.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define NOBODY	65534

FIXTURE(life)
{
	struct aio_env env;
	aio_context_t ctx;
	int pipe[2];
	long long aio_nr;
};

FIXTURE_VARIANT(life)
{
	bool force;
};

FIXTURE_VARIANT_ADD(life, as_tried)
{
	.force = false,
};

FIXTURE_VARIANT_ADD(life, forced)
{
	.force = true,
};

FIXTURE_SETUP(life)
{
	aio_make_room();
	AIO_SETUP(&self->env, true, variant->force, 256);
	self->ctx = self->env.ctx;
	ASSERT_EQ(0, pipe2(self->pipe, O_CLOEXEC));
	self->aio_nr = aio_fs_aio_nr();
	ASSERT_LE(0, self->aio_nr);
	signal(SIGPIPE, SIG_IGN);
}

FIXTURE_TEARDOWN(life)
{
	close(self->pipe[0]);
	close(self->pipe[1]);
	AIO_TEARDOWN(&self->env);
}

#define SECOND_NS	1000000000LL

/* So many more requests than when the test began are armed, or in a worker. */
#define wait_blocked(more)						\
	aio_wait_blocked(&self->env, variant->force, more)

/* All requests there are, armed, waiting for a worker or in one. */
static long long in_flight(void)
{
	return aio_stat("waiting") + aio_stat("queued") + aio_stat("running");
}

/* Are there so many more of them than when the test began? */
static bool in_flight_more(const struct aio_env *env, int more)
{
	long long before = env->waiting + env->queued + env->running;
	bool held = aio_wait_for(in_flight() == before + more, MANY_MS);

	if (!held)
		fprintf(stderr, "# %lld in flight, waited for %lld + %d\n",
			in_flight(), before, more);
	return held;
}

/* Has everything gone that came since the test began? */
static bool all_gone(const struct aio_env *env, long long aio_nr)
{
	int ms = 1000 * aio_slack();
	bool gone;

	gone = wait_stat("waiting", "==", env->waiting, ms);
	gone &= wait_stat("queued", "==", env->queued, ms);
	gone &= wait_stat("running", "==", env->running, ms);
	gone &= wait_stat("objects", "==", env->objects, AIO_PATIENCE_MS);
	if (!aio_wait_for(aio_fs_aio_nr() == aio_nr, AIO_PATIENCE_MS)) {
		fprintf(stderr, "# fs.aio-nr is %lld, was %lld\n",
			aio_fs_aio_nr(), aio_nr);
		gone = false;
	}
	return gone;
}

static bool ring_in_maps(void)
{
	char line[512];
	bool found = false;
	FILE *maps = fopen("/proc/self/maps", "r");

	while (maps && fgets(line, sizeof(line), maps))
		if (strstr(line, "[aio]"))
			found = true;
	if (maps)
		fclose(maps);
	return found || !maps;
}

/* The length of the mapping of a context's ring, 0 if there is none. */
static size_t ring_length(aio_context_t ctx)
{
	unsigned long start, end, len = 0;
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "r");

	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2 && start == ctx)
			len = end - start;
	if (maps)
		fclose(maps);
	return len;
}

/* ---- ten thousand blocked reads ---- */

#define KID_READS	10000
#define KID_PIPES	100

enum ending { KILLED, KILLED_EARLY, EXITS, ABORTS, EXECS, DESTROYS };

struct ending_arg {
	enum ending	how;
	long long	ns;		/* shared: how long io_destroy() took */
	long		ret;
};

/* What exec leads to; see main(). */
static int after_exec(int fd)
{
	char c = ring_in_maps() ? 'r' : 'x';

	return write(fd, &c, 1) != 1;
}

static int kid_of_many_reads(struct kid *kid, void *arg)
{
	struct rlimit files = { 4096, 4096 };
	struct ending_arg *ending = arg;
	int i, fds[KID_PIPES][2];
	aio_context_t ctx = 0;
	char number[16];
	struct many m;

	/* No core file from abort(). */
	prctl(PR_SET_DUMPABLE, 0);
	setrlimit(RLIMIT_NOFILE, &files);
	for (i = 0; i < KID_PIPES; i++)
		if (pipe2(fds[i], O_CLOEXEC))
			return 1;
	if (sys_io_setup(KID_READS, &ctx) || !many_init(&m, ctx, KID_READS))
		return 2;
	for (i = 0; i < KID_READS; i++)
		many_read(&m, i, fds[i % KID_PIPES][0]);
	if (many_submit(&m, 0, KID_READS))
		return 3;
	if (!parent_tell(kid, "r") || !parent_hear(kid))
		return 4;
	switch (ending->how) {
	case KILLED:
	case KILLED_EARLY:
		break;
	case EXITS:
		return 0;
	case ABORTS:
		abort();
	case EXECS:
		snprintf(number, sizeof(number), "%d", dup(kid->hear[1]));
		execl("/proc/self/exe", "aio_life", "--after-exec", number,
		      NULL);
		break;
	case DESTROYS:
		ending->ns = aio_now_ns();
		ending->ret = sys_io_destroy(ctx);
		ending->ns = aio_now_ns() - ending->ns;
		parent_tell(kid, "d");
		parent_hear(kid);
		return 0;
	}
	return 5;
}

static void many_reads_end(struct __test_metadata *_metadata,
			   const struct aio_env *env, bool force,
			   long long aio_nr, enum ending how)
{
	struct ending_arg *arg;
	long long ns, worker = aio_stat("worker");
	int status, want = 0;
	struct kid kid;

	arg = mmap(NULL, sizeof(*arg), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, arg);
	arg->how = how;
	ASSERT_TRUE(kid_start(&kid, kid_of_many_reads, arg));
	ASSERT_EQ('r', kid_hear(&kid));
	ASSERT_TRUE(in_flight_more(env, KID_READS));
	if (force) {
		/* Once also while workers are still being made. */
		ASSERT_TRUE(how == KILLED_EARLY || aio_workers_settle());
		EXPECT_LT(env->running, aio_stat("running"));
		EXPECT_EQ(env->waiting, aio_stat("waiting"));
	} else {
		/* It takes no worker to wait. */
		ASSERT_TRUE(aio_wait_blocked(env, false, KID_READS));
		EXPECT_EQ(worker, aio_stat("worker"));
	}
	TH_LOG("%lld waiting, %lld running, %lld queued", aio_stat("waiting"),
	       aio_stat("running"), aio_stat("queued"));
	EXPECT_LE(env->objects + KID_READS, aio_stat("objects"));
	EXPECT_LE(aio_nr + KID_READS, aio_fs_aio_nr());

	ns = aio_now_ns();
	if (how == KILLED || how == KILLED_EARLY) {
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
		EXPECT_EQ(0, arg->ret);
		EXPECT_GT(SECOND_NS * aio_slack(), arg->ns);
		EXPECT_TRUE(all_gone(env, aio_nr));
		ASSERT_TRUE(kid_tell(&kid, "e"));
	}
	status = kid_wait(&kid);
	ns = aio_now_ns() - ns;
	EXPECT_EQ(want, status) {
		TH_LOG("wait status %x", status);
	}
	TH_LOG("gone after %lld ms", ns / 1000000);
	if (how != DESTROYS)
		EXPECT_GT(SECOND_NS * aio_slack(), ns);
	EXPECT_TRUE(all_gone(env, aio_nr));
	munmap(arg, sizeof(*arg));
}

TEST_F_TIMEOUT(life, many_killed, 600)
{
	many_reads_end(_metadata, &self->env, variant->force, self->aio_nr,
		       KILLED);
}

TEST_F_TIMEOUT(life, many_killed_early, 600)
{
	many_reads_end(_metadata, &self->env, variant->force, self->aio_nr,
		       KILLED_EARLY);
}

TEST_F_TIMEOUT(life, many_exit, 600)
{
	many_reads_end(_metadata, &self->env, variant->force, self->aio_nr,
		       EXITS);
}

TEST_F_TIMEOUT(life, many_abort, 600)
{
	many_reads_end(_metadata, &self->env, variant->force, self->aio_nr,
		       ABORTS);
}

TEST_F_TIMEOUT(life, many_exec, 600)
{
	many_reads_end(_metadata, &self->env, variant->force, self->aio_nr,
		       EXECS);
}

TEST_F_TIMEOUT(life, many_destroyed, 600)
{
	many_reads_end(_metadata, &self->env, variant->force, self->aio_nr,
		       DESTROYS);
}

/* ---- killed at any point of submitting, cancelling and completing ---- */

struct busy {
	aio_context_t	ctx;
	int		*pipe;
	__u32		random;
};

static void *busy_thread(void *arg)
{
	struct busy *b = arg;
	struct io_event ev[16];
	struct many m;
	long i, ret;

	if (!many_init(&m, b->ctx, 16))
		return NULL;
	for (;;) {
		for (i = 0; i < 16; i++)
			many_read(&m, i, b->pipe[0]);
		if (many_submit(&m, 0, 16))
			return NULL;
		for (i = 0; i < 16; i++) {
			if (aio_random(&b->random) % 2)
				sys_io_cancel(b->ctx, &m.cbs[i], &ev[0]);
			else if (write(b->pipe[1], "b", 1) != 1)
				return NULL;
		}
		/* Those that are left must not be waited for in vain. */
		for (i = 0; i < 16; i++)
			sys_io_cancel(b->ctx, &m.cbs[i], &ev[0]);
		for (i = 0; i < 16; i += ret) {
			ret = sys_io_getevents(b->ctx, 1, 16, ev, -1);
			if (ret <= 0)
				return NULL;
		}
		/* The bytes of those that were cancelled. */
		aio_drain(b->pipe[0], m.bufs, 16);
		fcntl(b->pipe[0], F_SETFL, 0);
	}
}

static int kid_busy(struct kid *kid, void *arg)
{
	int i, fds[2][2];
	pthread_t thread;
	struct busy b[2];

	(void)arg;
	for (i = 0; i < 2; i++) {
		b[i].ctx = 0;
		if (pipe2(fds[i], O_CLOEXEC) || sys_io_setup(16, &b[i].ctx))
			return 1;
		b[i].pipe = fds[i];
		b[i].random = 77 + i;
	}
	if (pthread_create(&thread, NULL, busy_thread, &b[0]) ||
	    !parent_tell(kid, "r"))
		return 2;
	busy_thread(&b[1]);
	return 3;
}

TEST_F_TIMEOUT(life, killed_anywhere, 900)
{
	const int rounds = 200;
	__u32 random = 13;
	struct kid kid;
	long long ns, worst = 0;
	int i, j;

	for (i = 0; i < rounds; i++) {
		ASSERT_TRUE(kid_start(&kid, kid_busy, NULL));
		ASSERT_EQ('r', kid_hear(&kid));
		for (j = aio_random(&random) % 50; j > 0; j--)
			dawdle(&random);
		ns = aio_now_ns();
		ASSERT_EQ(0, kill(kid.pid, SIGKILL));
		ASSERT_EQ(SIGKILL, kid_wait(&kid));
		ns = aio_now_ns() - ns;
		if (ns > worst)
			worst = ns;
	}
	TH_LOG("%d kills, the slowest took %lld ms", rounds, worst / 1000000);
	EXPECT_GT(SECOND_NS * aio_slack(), worst);
	EXPECT_TRUE(all_gone(&self->env, self->aio_nr));
}

/* ---- fork ---- */

#define FEW	16

static int kid_of_fork(struct kid *kid, void *arg)
{
	struct many *m = arg;
	aio_context_t ctx = 0;
	struct io_event ev;
	struct iocb cb;
	int i, fds[2];
	char c = 0;

	/* The parent's context is not the child's. */
	if (ring_in_maps())
		return 1;
	if (sys_io_getevents(m->ctx, 0, 1, &ev, 0) != -EINVAL ||
	    sys_io_cancel(m->ctx, &m->cbs[0], &ev) != -EINVAL ||
	    submit_one(m->ctx, &m->cbs[0]) != -EINVAL ||
	    sys_io_destroy(m->ctx) != -EINVAL)
		return 2;
	/* It can have its own, whose end is nothing to the parent either. */
	if (pipe2(fds, O_CLOEXEC) || sys_io_setup(4, &ctx))
		return 3;
	iocb_pread(&cb, fds[0], &c, 1, 0);
	if (submit_one(ctx, &cb) != 1)
		return 4;
	if (!parent_tell(kid, "r") || !parent_hear(kid))
		return 5;
	/* What the parent has read in between came to the parent only. */
	for (i = 0; i < m->nr; i++)
		if (m->bufs[i])
			return 6;
	return 0;
}

TEST_F_TIMEOUT(life, fork, 120)
{
	struct kid first, second;
	char bytes[FEW];
	struct many m;
	int i;

	ASSERT_TRUE(many_init(&m, self->ctx, FEW));
	for (i = 0; i < FEW; i++)
		many_read(&m, i, self->pipe[0]);
	ASSERT_EQ(0, many_submit(&m, 0, FEW));
	ASSERT_TRUE(wait_blocked(FEW));

	ASSERT_TRUE(kid_start(&first, kid_of_fork, &m));
	ASSERT_EQ('r', kid_hear(&first));
	ASSERT_TRUE(kid_start(&second, kid_of_fork, &m));
	ASSERT_EQ('r', kid_hear(&second));
	ASSERT_TRUE(kid_tell(&first, "e"));
	EXPECT_EQ(0, kid_wait(&first));

	/* A child's end disturbs nothing. */
	EXPECT_TRUE(in_flight_more(&self->env, FEW + 1));
	EXPECT_TRUE(aio_no_event(self->ctx));
	memset(bytes, 'f', sizeof(bytes));
	ASSERT_EQ(FEW, write(self->pipe[1], bytes, FEW));
	ASSERT_TRUE(many_reap(&m, FEW, AIO_PATIENCE_MS));
	for (i = 0; i < FEW; i++) {
		EXPECT_EQ(1, m.res[i]);
		EXPECT_EQ('f', m.bufs[i]);
	}
	ASSERT_TRUE(kid_tell(&second, "e"));
	EXPECT_EQ(0, kid_wait(&second));
	EXPECT_EQ(0, m.wrong);
	many_free(&m);
}

/* ---- descriptors, mappings ---- */

/* A request has its file, not the descriptor. */
TEST_F(life, descriptors_closed)
{
	int i, others[2], eof = 0;
	char bytes[FEW];
	struct many m;

	ASSERT_TRUE(many_init(&m, self->ctx, FEW));
	for (i = 0; i < FEW; i++)
		many_read(&m, i, self->pipe[0]);
	ASSERT_EQ(0, many_submit(&m, 0, FEW));
	ASSERT_TRUE(wait_blocked(FEW));
	/* Something else to read by the same number. */
	ASSERT_EQ(0, pipe2(others, O_CLOEXEC));
	memset(bytes, 'o', sizeof(bytes));
	ASSERT_EQ(FEW, write(others[1], bytes, FEW));
	ASSERT_EQ(self->pipe[0], dup2(others[0], self->pipe[0]));
	EXPECT_TRUE(aio_no_event(self->ctx));

	memset(bytes, 'p', sizeof(bytes));
	ASSERT_EQ(FEW / 2, write(self->pipe[1], bytes, FEW / 2));
	ASSERT_TRUE(many_reap(&m, FEW / 2, AIO_PATIENCE_MS));
	EXPECT_TRUE(aio_no_event(self->ctx));
	EXPECT_EQ(0, close(self->pipe[1]));
	self->pipe[1] = -1;
	ASSERT_TRUE(many_reap(&m, FEW, AIO_PATIENCE_MS));
	for (i = 0; i < FEW; i++) {
		eof += m.res[i] == 0;
		EXPECT_EQ(m.res[i] == 1 ? 'p' : 0, m.bufs[i]);
	}
	EXPECT_EQ(FEW / 2, eof);
	EXPECT_EQ(FEW, aio_readable(others[0]));
	EXPECT_EQ(0, m.wrong);
	close(others[0]);
	close(others[1]);
	many_free(&m);
}

#define CLOSE_ROUNDS	100

/* A pipe of one page that is full. */
static bool full_pipe(int fds[2], int flags)
{
	char page[4096] = "";

	return !pipe2(fds, flags) &&
	       fcntl(fds[0], F_SETPIPE_SZ, sizeof(page)) == sizeof(page) &&
	       write(fds[1], page, sizeof(page)) == sizeof(page);
}

/*
 * A request that has the last reference to its file has closed it when its
 * event is there: here the reader of a pipe is then at its end.
 */
TEST_F_TIMEOUT(life, file_closed_by_event, 120)
{
	int i, fds[2], late = 0;
	char page[4096];

	for (i = 0; i < CLOSE_ROUNDS; i++) {
		struct io_event ev;
		struct iocb cb;

		ASSERT_TRUE(full_pipe(fds, O_CLOEXEC));
		iocb_pwrite(&cb, fds[1], "w", 1, 0);
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		ASSERT_TRUE(wait_blocked(1));
		ASSERT_EQ(0, close(fds[1]));
		ASSERT_EQ((ssize_t)sizeof(page),
			  read(fds[0], page, sizeof(page)));
		ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
		ASSERT_EQ(1, (long long)ev.res);
		ASSERT_EQ(1, read(fds[0], page, 1));
		ASSERT_EQ(0, fcntl(fds[0], F_SETFL, O_NONBLOCK));
		/* Else -1, with EAGAIN. */
		late += read(fds[0], page, 1) != 0;
		close(fds[0]);
		ASSERT_TRUE(aio_wait_unblocked(&self->env));
	}
	EXPECT_EQ(0, late);
}

TEST_F(life, eventfd_closed)
{
	int efd, again, closed;
	__u64 value;

	for (closed = 0; closed < 2; closed++) {
		struct io_event ev;
		struct iocb cb;
		char c = 0;

		efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		ASSERT_LE(0, efd);
		again = closed ? -1 : dup(efd);
		iocb_pread(&cb, self->pipe[0], &c, 1, 0);
		cb.aio_flags = IOCB_FLAG_RESFD;
		cb.aio_resfd = efd;
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		ASSERT_TRUE(wait_blocked(1));
		close(efd);
		ASSERT_EQ(1, write(self->pipe[1], "e", 1));
		ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
		EXPECT_EQ(1, (long long)ev.res);
		EXPECT_EQ('e', c);
		if (!closed) {
			struct pollfd pfd = { .fd = again, .events = POLLIN };

			ASSERT_EQ(1, poll(&pfd, 1, AIO_PATIENCE_MS));
			ASSERT_EQ((ssize_t)sizeof(value),
				  read(again, &value, sizeof(value)));
			EXPECT_EQ(1ULL, value);
			close(again);
		}
		ASSERT_TRUE(aio_wait_unblocked(&self->env));
	}
}

static int kid_without_ring(struct kid *kid, void *arg)
{
	aio_context_t ctx = 0;
	struct io_event ev;
	char bytes[FEW] = "";
	struct many m;
	int i, fds[2];
	size_t len;

	(void)arg;
	if (pipe2(fds, O_CLOEXEC) || sys_io_setup(2 * FEW, &ctx) ||
	    !many_init(&m, ctx, 2 * FEW))
		return 1;
	for (i = 0; i < 2 * FEW; i++)
		many_read(&m, i, fds[0]);
	if (many_submit(&m, 0, 2 * FEW))
		return 2;
	len = ring_length(ctx);
	if (!len || munmap((void *)ctx, len) || ring_in_maps())
		return 3;
	if (sys_io_getevents(ctx, 0, 1, &ev, 0) != -EINVAL ||
	    sys_io_destroy(ctx) != -EINVAL)
		return 4;
	if (!parent_tell(kid, "r") || !parent_hear(kid))
		return 5;
	/* These have nowhere to leave an event that anybody would see. */
	if (write(fds[1], bytes, FEW) != FEW)
		return 6;
	if (!parent_tell(kid, "w") || !parent_hear(kid))
		return 7;
	return 0;
}

TEST_F_TIMEOUT(life, ring_unmapped, 120)
{
	struct kid kid;
	long long ns;

	ASSERT_TRUE(kid_start(&kid, kid_without_ring, NULL));
	ASSERT_EQ('r', kid_hear(&kid));
	EXPECT_TRUE(in_flight_more(&self->env, 2 * FEW));
	ASSERT_TRUE(kid_tell(&kid, "w"));
	ASSERT_EQ('w', kid_hear(&kid));
	EXPECT_TRUE(in_flight_more(&self->env, FEW));
	ns = aio_now_ns();
	ASSERT_TRUE(kid_tell(&kid, "e"));
	EXPECT_EQ(0, kid_wait(&kid));
	EXPECT_GT(SECOND_NS * aio_slack(), aio_now_ns() - ns);
	EXPECT_TRUE(all_gone(&self->env, self->aio_nr));
}

/* The ring may be moved, and the context then has another name. */
TEST_F(life, ring_moved)
{
	size_t len = ring_length(self->ctx);
	struct io_event ev;
	struct iocb cb;
	char c = 0;
	void *to;

	ASSERT_LT(0, (long)len);
	iocb_pread(&cb, self->pipe[0], &c, 1, 0);
	ASSERT_EQ(1, submit_one(self->ctx, &cb));
	ASSERT_TRUE(wait_blocked(1));
	to = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, to);
	ASSERT_EQ(to, mremap((void *)self->ctx, len, len,
			     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	EXPECT_EQ(-EINVAL, sys_io_cancel(self->ctx, &cb, &ev));
	self->ctx = (aio_context_t)to;
	self->env.ctx = self->ctx;
	ASSERT_EQ(1, write(self->pipe[1], "m", 1));
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ(1, (long long)ev.res);
	EXPECT_EQ('m', c);
}

/* ---- the sysctl ---- */

TEST_F(life, switched_off)
{
	struct aio_ring *ring = (struct aio_ring *)self->ctx, *plain;
	aio_context_t ctx = 0;
	struct iocb cb, more;
	struct io_event ev;
	long long worker;
	char c = 0, event[512];
	int fd, file;

	fd = inotify_init1(IN_CLOEXEC);
	file = memfd_create("aio", MFD_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_LE(0, file);
	ASSERT_EQ(1, pwrite(file, "s", 1, 0));
	iocb_pread(&cb, self->pipe[0], &c, 1, 0);
	ASSERT_EQ(1, submit_one(self->ctx, &cb));
	ASSERT_TRUE(wait_blocked(1));
	ASSERT_EQ(0, aio_set_threads(0));
	ASSERT_EQ(0, aio_get_threads());

	/* Contexts from now on are as ever, */
	ASSERT_EQ(0, sys_io_setup(4, &ctx));
	plain = (struct aio_ring *)ctx;
	EXPECT_EQ(AIO_RING_COMPAT_FEATURES, (int)plain->compat_features);
	iocb_pread(&more, fd, event, sizeof(event), 0);
	EXPECT_EQ(-EINVAL, submit_one(ctx, &more));
	worker = aio_stat("worker");
	iocb_pread(&more, file, event, 1, 0);
	EXPECT_EQ(1, aio_run(ctx, &more));
	EXPECT_EQ(worker, aio_stat("worker"));
	EXPECT_EQ(0, sys_io_destroy(ctx));

	/* an older one goes on as it was, with what is in flight and is new. */
	EXPECT_EQ(AIO_RING_COMPAT_FEATURES | AIO_RING_COMPAT_THREADED,
		  (int)ring->compat_features);
	EXPECT_TRUE(aio_no_event(self->ctx));
	iocb_pread(&more, fd, event, sizeof(event), 0);
	ASSERT_EQ(1, submit_one(self->ctx, &more));
	/* There is no way to try this one, so it has a worker in any case. */
	ASSERT_TRUE(aio_wait_running(&self->env, variant->force ? 2 : 1));
	EXPECT_EQ(self->env.waiting + !variant->force, aio_stat("waiting"));
	ASSERT_EQ(1, write(self->pipe[1], "s", 1));
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ((uintptr_t)&cb, ev.obj);
	EXPECT_EQ(1, (long long)ev.res);
	EXPECT_EQ('s', c);
	EXPECT_EQ(-EINPROGRESS, sys_io_cancel(self->ctx, &more, &ev));
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ((uintptr_t)&more, ev.obj);
	EXPECT_EQ(-EINTR, (long long)ev.res);
	close(fd);
	close(file);
}

/* ---- a thread that does not wait for its requests ---- */

struct submitter {
	aio_context_t	ctx;
	struct many	*m;
	struct iocb	*cb;
	pid_t		tid;
	long		ret;
};

static void *submit_and_leave(void *arg)
{
	struct submitter *s = arg;

	s->tid = gettid();
	/* The bare calls, or libc would change all of the process. */
	s->ret = syscall(__NR_setresgid, NOBODY, NOBODY, NOBODY) ||
		 syscall(__NR_setresuid, NOBODY, NOBODY, NOBODY);
	if (!s->ret)
		s->ret = many_submit(s->m, 0, FEW);
	if (!s->ret)
		s->ret = submit_one(s->ctx, s->cb) != 1;
	return NULL;
}

TEST_F(life, thread_exits)
{
	static char bytes[65536];
	char control[CMSG_SPACE(sizeof(struct ucred))];
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct submitter s = { .ctx = self->ctx };
	struct ucred cred = { 0 };
	struct io_event ev;
	struct iocb cb;
	pthread_t thread;
	int i, fds[2], on = 1;
	struct many m;
	char path[64];
	ssize_t ret;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
	ASSERT_EQ(0, setsockopt(fds[0], SOL_SOCKET, SO_PASSCRED, &on,
				sizeof(on)));
	memset(bytes, 0, sizeof(bytes));
	do {
		ret = send(fds[1], bytes, 4096, MSG_DONTWAIT);
	} while (ret > 0);
	ASSERT_TRUE(ret < 0 && errno == EAGAIN);
	ASSERT_TRUE(many_init(&m, self->ctx, FEW));
	for (i = 0; i < FEW; i++)
		many_read(&m, i, self->pipe[0]);
	s.m = &m;
	s.cb = &cb;
	iocb_pwrite(&cb, fds[1], "Message", 7, 0);
	cb.aio_data = FEW;
	ASSERT_EQ(0, pthread_create(&thread, NULL, submit_and_leave, &s));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	ASSERT_EQ(0, s.ret);
	snprintf(path, sizeof(path), "/proc/self/task/%d", s.tid);
	ASSERT_TRUE(aio_wait_for(access(path, F_OK), AIO_PATIENCE_MS));
	EXPECT_TRUE(in_flight_more(&self->env, FEW + 1));
	EXPECT_TRUE(aio_no_event(self->ctx));

	/* The message comes from who the thread was. */
	do {
		struct pollfd pfd = { .fd = fds[0], .events = POLLIN };
		struct cmsghdr *cmsg;

		ASSERT_EQ(1, poll(&pfd, 1, AIO_PATIENCE_MS));
		msg.msg_control = control;
		msg.msg_controllen = sizeof(control);
		ret = recvmsg(fds[0], &msg, MSG_DONTWAIT);
		ASSERT_LT(0, ret);
		cmsg = CMSG_FIRSTHDR(&msg);
		ASSERT_NE(NULL, cmsg);
		ASSERT_EQ(SCM_CREDENTIALS, cmsg->cmsg_type);
		memcpy(&cred, CMSG_DATA(cmsg), sizeof(cred));
	} while (bytes[0] != 'M');
	EXPECT_EQ(7, ret);
	EXPECT_EQ(getpid(), cred.pid);
	EXPECT_EQ((uid_t)NOBODY, cred.uid);
	EXPECT_EQ((gid_t)NOBODY, cred.gid);
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ((uintptr_t)&cb, ev.obj);
	EXPECT_EQ(7, (long long)ev.res);

	memset(bytes, 't', FEW);
	ASSERT_EQ(FEW, write(self->pipe[1], bytes, FEW));
	ASSERT_TRUE(many_reap(&m, FEW, AIO_PATIENCE_MS));
	for (i = 0; i < FEW; i++) {
		EXPECT_EQ(1, m.res[i]);
		EXPECT_EQ('t', m.bufs[i]);
	}
	many_free(&m);
	close(fds[0]);
	close(fds[1]);
}

/* ---- two processes, one address space ---- */

struct twins {
	struct kid	*kid;
	aio_context_t	ctx;
	int		pipe[2];
	struct many	m;
	pid_t		*pid;		/* shared with the parent */
};

/* The second one: uses the context that the first has left. */
static int twin(void *arg)
{
	struct twins *t = arg;
	char bytes[FEW];
	int i;

	if (!parent_tell(t->kid, "2") || !parent_hear(t->kid))
		_exit(1);
	memset(bytes, '2', sizeof(bytes));
	if (write(t->pipe[1], bytes, FEW) != FEW ||
	    !many_reap(&t->m, FEW, AIO_PATIENCE_MS) ||
	    !aio_no_event(t->ctx))
		_exit(2);
	for (i = 0; i < 2 * FEW; i++)
		if (t->m.seen[i] && (t->m.res[i] != 1 || t->m.bufs[i] != '2'))
			_exit(3);
	if (!parent_tell(t->kid, "k"))
		_exit(4);
	/* To be killed; nothing is told but the parent's end. */
	parent_hear(t->kid);
	_exit(5);
}

static int kid_with_twin(struct kid *kid, void *arg)
{
	const size_t size = 65536;
	static struct twins t;
	char *stack;
	int i;

	t.kid = kid;
	t.pid = arg;
	if (pipe2(t.pipe, O_CLOEXEC) || sys_io_setup(2 * FEW, &t.ctx) ||
	    !many_init(&t.m, t.ctx, 2 * FEW))
		return 1;
	for (i = 0; i < 2 * FEW; i++)
		many_read(&t.m, i, t.pipe[0]);
	if (many_submit(&t.m, 0, 2 * FEW))
		return 2;
	stack = mmap(NULL, size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stack == MAP_FAILED)
		return 3;
	*t.pid = clone(twin, stack + size, CLONE_VM | SIGCHLD, &t);
	if (*t.pid < 0)
		return 4;
	/* They share errno and stdio: this one keeps out of the way. */
	for (;;)
		pause();
}

TEST_F_TIMEOUT(life, shared_address_space, 120)
{
	int status = 0;
	struct kid kid;
	long long ns;
	pid_t *pid;

	pid = mmap(NULL, sizeof(*pid), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, pid);
	ASSERT_EQ(0, prctl(PR_SET_CHILD_SUBREAPER, 1));
	ASSERT_TRUE(kid_start(&kid, kid_with_twin, pid));
	ASSERT_EQ('2', kid_hear(&kid));
	ASSERT_TRUE(aio_wait_for(__atomic_load_n(pid, __ATOMIC_ACQUIRE) > 0,
				 AIO_PATIENCE_MS));

	/* The submitter's end is not yet its address space's. */
	ns = aio_now_ns();
	ASSERT_EQ(0, kill(kid.pid, SIGKILL));
	ASSERT_EQ(kid.pid, waitpid(kid.pid, &status, 0));
	EXPECT_GT(SECOND_NS * aio_slack(), aio_now_ns() - ns);
	EXPECT_TRUE(in_flight_more(&self->env, 2 * FEW));
	ASSERT_TRUE(kid_tell(&kid, "g"));
	ASSERT_EQ('k', kid_hear(&kid));
	EXPECT_TRUE(in_flight_more(&self->env, FEW));

	ns = aio_now_ns();
	ASSERT_EQ(0, kill(*pid, SIGKILL));
	ASSERT_EQ(*pid, waitpid(*pid, &status, 0));
	EXPECT_GT(SECOND_NS * aio_slack(), aio_now_ns() - ns);
	EXPECT_EQ(SIGKILL, status);
	EXPECT_TRUE(all_gone(&self->env, self->aio_nr));
	close(kid.hear[0]);
	close(kid.tell[1]);
	munmap(pid, sizeof(*pid));
}

/* ---- a worker that waits for a page ---- */

/* A page whose first access waits on the returned userfaultfd; -1 without. */
static int missing_page(char **page)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	long size = sysconf(_SC_PAGESIZE);
	int fd;

	fd = syscall(__NR_userfaultfd, O_CLOEXEC);
	if (fd < 0)
		return -1;
	*page = mmap(NULL, size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg.range.start = (uintptr_t)*page;
	reg.range.len = size;
	if (*page == MAP_FAILED || ioctl(fd, UFFDIO_API, &api) ||
	    ioctl(fd, UFFDIO_REGISTER, &reg)) {
		close(fd);
		return -1;
	}
	return fd;
}

static bool page_wanted(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	struct uffd_msg msg;

	return poll(&pfd, 1, AIO_PATIENCE_MS) == 1 &&
	       read(fd, &msg, sizeof(msg)) == sizeof(msg) &&
	       msg.event == UFFD_EVENT_PAGEFAULT;
}

static bool give_page(int fd, char *page)
{
	long size = sysconf(_SC_PAGESIZE);
	struct uffdio_zeropage zero = {
		.range = { .start = (uintptr_t)page, .len = size },
	};

	return !ioctl(fd, UFFDIO_ZEROPAGE, &zero);
}

/* Make a request's worker wait for @page: only there does the pipe have data. */
static bool read_to_missing(const struct aio_env *env, bool force,
			    aio_context_t ctx, struct iocb *cb, int fds[2],
			    char *page, int uffd)
{
	iocb_pread(cb, fds[0], page, 8, 0);
	return submit_one(ctx, cb) == 1 && aio_wait_blocked(env, force, 1) &&
	       write(fds[1], "userpage", 8) == 8 && page_wanted(uffd) &&
	       aio_wait_running(env, 1);
}

TEST_F_TIMEOUT(life, page_fault_served, 120)
{
	struct io_event ev;
	struct iocb cb;
	char *page;
	int uffd = missing_page(&page);

	if (uffd < 0)
		SKIP(return, "no userfaultfd");
	ASSERT_TRUE(read_to_missing(&self->env, variant->force, self->ctx, &cb,
				    self->pipe, page, uffd));
	EXPECT_TRUE(aio_no_event(self->ctx));
	ASSERT_TRUE(give_page(uffd, page));
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ(8, (long long)ev.res);
	EXPECT_EQ(0, memcmp(page, "userpage", 8));
	close(uffd);
	munmap(page, sysconf(_SC_PAGESIZE));
}

TEST_F_TIMEOUT(life, page_fault_cancelled, 120)
{
	struct io_event ev;
	struct iocb cb;
	char *page, got[8];
	int uffd = missing_page(&page);

	if (uffd < 0)
		SKIP(return, "no userfaultfd");
	ASSERT_TRUE(read_to_missing(&self->env, variant->force, self->ctx, &cb,
				    self->pipe, page, uffd));
	EXPECT_EQ(-EINPROGRESS, sys_io_cancel(self->ctx, &cb, &ev));
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	/* Not the -EFAULT that the interrupted fault is to the pipe's read. */
	EXPECT_EQ(-EINTR, (long long)ev.res);
	/* What has not been delivered is still there. */
	EXPECT_EQ(8, aio_readable(self->pipe[0]));
	EXPECT_EQ(8, read(self->pipe[0], got, 8));
	EXPECT_EQ(0, memcmp(got, "userpage", 8));
	EXPECT_TRUE(aio_no_event(self->ctx));
	close(uffd);
	munmap(page, sysconf(_SC_PAGESIZE));
}

struct fault_arg {
	const struct aio_env	*env;
	bool			force;
	int			*uffd;	/* shared; its number, once known */
};

static int kid_with_fault(struct kid *kid, void *arg)
{
	struct fault_arg *a = arg;
	aio_context_t ctx = 0;
	struct iocb cb;
	int fds[2];
	char *page;

	*a->uffd = missing_page(&page);
	if (*a->uffd < 0)
		return 1;
	if (pipe2(fds, O_CLOEXEC) || sys_io_setup(1, &ctx) ||
	    !read_to_missing(a->env, a->force, ctx, &cb, fds, page, *a->uffd))
		return 2;
	parent_tell(kid, "f");
	for (;;)
		pause();
}

TEST_F_TIMEOUT(life, page_fault_killed, 120)
{
	struct fault_arg arg = { .env = &self->env, .force = variant->force };
	int pidfd, copy, *uffd;
	struct kid kid;
	long long ns;
	char c;

	uffd = mmap(NULL, sizeof(*uffd), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, uffd);
	arg.uffd = uffd;
	ASSERT_TRUE(kid_start(&kid, kid_with_fault, &arg));
	c = kid_hear(&kid);
	if (!c && *uffd < 0) {
		kid_wait(&kid);
		SKIP(return, "no userfaultfd");
	}
	ASSERT_EQ('f', c);
	/* Held here, closing it cannot be what ends the fault. */
	pidfd = syscall(__NR_pidfd_open, kid.pid, 0);
	ASSERT_LE(0, pidfd);
	copy = syscall(__NR_pidfd_getfd, pidfd, *uffd, 0);
	ASSERT_LE(0, copy);
	ns = aio_now_ns();
	ASSERT_EQ(0, kill(kid.pid, SIGKILL));
	EXPECT_EQ(SIGKILL, kid_wait(&kid));
	ns = aio_now_ns() - ns;
	EXPECT_GT(SECOND_NS * aio_slack(), ns);
	EXPECT_TRUE(all_gone(&self->env, self->aio_nr));
	close(copy);
	close(pidfd);
	munmap(uffd, sizeof(*uffd));
}

/* ---- credentials: who writes to a set-user-id file ---- */

#define SUID_MODE	06775

static bool suid_file(int fd)
{
	return fd >= 0 && !ftruncate(fd, 0) && pwrite(fd, "#", 1, 0) == 1 &&
	       !fchmod(fd, SUID_MODE);
}

static int suid_bits(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? -1 : (int)(st.st_mode & 07000);
}

struct suid_arg {
	int	fd;
	bool	aio;
	bool	root;
};

static int kid_writes(struct kid *kid, void *arg)
{
	struct suid_arg *a = arg;
	aio_context_t ctx = 0;
	struct iocb cb;

	(void)kid;
	if (!a->root && (setgroups(0, NULL) ||
			 setresgid(NOBODY, NOBODY, NOBODY) ||
			 setresuid(NOBODY, NOBODY, NOBODY)))
		return 1;
	if (!a->aio)
		return pwrite(a->fd, "w", 1, 0) == 1 ? 0 : 2;
	if (sys_io_setup(1, &ctx))
		return 3;
	iocb_pwrite(&cb, a->fd, "w", 1, 0);
	return aio_run(ctx, &cb) == 1 ? 0 : 4;
}

/* A write drops the bits unless the writer may set them: as by pwrite(2). */
TEST_F_TIMEOUT(life, suid_dropped, 120)
{
	char dir[256];
	int fd, i, j, bits[4];

	for (i = -1; i < 0 || aio_test_dir(i, dir, sizeof(dir)); i++) {
		if (i < 0) {
			snprintf(dir, sizeof(dir), "memfd");
			fd = memfd_create("aio", MFD_CLOEXEC);
		} else {
			fd = aio_temp_file(dir, 0);
		}
		ASSERT_LE(0, fd) {
			TH_LOG("%s", dir);
		}
		for (j = 0; j < 4; j++) {
			struct suid_arg arg = {
				.fd = fd, .aio = j & 1, .root = j & 2,
			};
			struct kid kid;

			ASSERT_TRUE(suid_file(fd));
			ASSERT_EQ(06000, suid_bits(fd));
			ASSERT_TRUE(kid_start(&kid, kid_writes, &arg));
			ASSERT_EQ(0, kid_wait(&kid)) {
				TH_LOG("%s, %s, %s", dir,
				       arg.aio ? "aio" : "pwrite",
				       arg.root ? "root" : "nobody");
			}
			bits[j] = suid_bits(fd);
		}
		EXPECT_EQ(bits[0], bits[1]) {
			TH_LOG("%s: nobody's", dir);
		}
		EXPECT_EQ(bits[2], bits[3]) {
			TH_LOG("%s: root's", dir);
		}
		/* Or there was nothing to compare. */
		if (i < 0) {
			EXPECT_EQ(0, bits[0]);
			EXPECT_EQ(06000, bits[2]);
		}
		close(fd);
	}
}

struct changing {
	aio_context_t	ctx;
	struct iocb	*cb;
	bool		drop_first;
	int		stage;
	long		ret;
};

#define stage_is(c)	__atomic_load_n(&(c)->stage, __ATOMIC_ACQUIRE)
#define stage_set(c, n)	__atomic_store_n(&(c)->stage, n, __ATOMIC_RELEASE)

/* This thread alone is somebody else for a while, before or after. */
static void *submit_and_change(void *arg)
{
	struct changing *c = arg;

	if (c->drop_first)
		c->ret = syscall(__NR_setresuid, -1, NOBODY, -1);
	if (!c->ret)
		c->ret = submit_one(c->ctx, c->cb) != 1;
	if (!c->ret)
		c->ret = syscall(__NR_setresuid, -1, c->drop_first ? 0 : NOBODY,
				 -1);
	stage_set(c, 1);
	while (stage_is(c) != 2)
		sched_yield();
	return NULL;
}

/* Who the submitter was then counts, not who it has become. */
TEST_F_TIMEOUT(life, credentials_at_submit, 600)
{
	int fd, drop_first;

	fd = memfd_create("aio", MFD_CLOEXEC);
	ASSERT_LE(0, fd);
	for (drop_first = 0; drop_first < 2; drop_first++) {
		struct changing c = {
			.ctx = self->ctx, .drop_first = drop_first,
		};
		struct crowd crowd;
		struct io_event ev;
		struct iocb cb;
		pthread_t thread;
		const char *why;

		ASSERT_TRUE(suid_file(fd));
		ASSERT_EQ(06000, suid_bits(fd));
		why = crowd_all_workers(&crowd);
		ASSERT_EQ(NULL, why) {
			TH_LOG("%s", why);
		}
		iocb_pwrite(&cb, fd, "c", 1, 0);
		c.cb = &cb;
		ASSERT_EQ(0, pthread_create(&thread, NULL, submit_and_change,
					    &c));
		ASSERT_TRUE(aio_wait_for(stage_is(&c) == 1, AIO_PATIENCE_MS));
		ASSERT_EQ(0, c.ret);
		EXPECT_TRUE(aio_no_event(self->ctx));
		EXPECT_EQ(06000, suid_bits(fd));
		EXPECT_EQ(0, crowd_leave(&crowd));
		ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
		EXPECT_EQ(1, (long long)ev.res);
		EXPECT_EQ(drop_first ? 0 : 06000, suid_bits(fd));
		stage_set(&c, 2);
		ASSERT_EQ(0, pthread_join(thread, NULL));
	}
	close(fd);
}

/* ---- memory cgroup ---- */

#define CGROUP_BYTES	(16 * 1048576)

static long long cgroup_shmem(const char *group)
{
	return aio_read_number(group, "memory.stat", "\nshmem ");
}

static int kid_in_cgroup(struct kid *kid, void *arg)
{
	const size_t chunk = 65536;
	char procs[256];
	aio_context_t ctx = 0;
	struct iocb cb;
	size_t done;
	__u8 *buf;
	int fd;

	snprintf(procs, sizeof(procs), "%s/cgroup.procs", (char *)arg);
	fd = memfd_create("aio", MFD_CLOEXEC);
	buf = malloc(chunk);
	if (fd < 0 || !buf)
		return 1;
	memset(buf, 'g', chunk);
	if (sys_io_setup(1, &ctx) || aio_write_text(procs, "0"))
		return 2;
	for (done = 0; done < CGROUP_BYTES; done += chunk) {
		iocb_pwrite(&cb, fd, buf, chunk, done);
		if (aio_run(ctx, &cb) != (long long)chunk)
			return 3;
	}
	/* The file's pages are charged as long as they are there. */
	if (!parent_tell(kid, "w") || !parent_hear(kid))
		return 4;
	return 0;
}

TEST_F_TIMEOUT(life, memory_cgroup, 120)
{
	char dir[] = "/tmp/aio-cgroup-XXXXXX";
	char group[64], path[96], text[512];
	const char *skip = NULL;
	long long worker;
	struct kid kid;

	if (!mkdtemp(dir))
		SKIP(return, "no place for a mount");
	snprintf(group, sizeof(group), "%s/aio", dir);
	if (mount("none", dir, "cgroup2", 0, NULL)) {
		rmdir(dir);
		SKIP(return, "no cgroup2");
	}
	snprintf(path, sizeof(path), "%s/cgroup.controllers", dir);
	if (aio_read_text(path, text, sizeof(text)) < 0 ||
	    !strstr(text, "memory"))
		skip = "no memory controller in cgroup2";
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", dir);
	if (!skip && aio_write_text(path, "+memory"))
		skip = "memory controller not to be had";
	if (!skip) {
		worker = aio_stat("worker");
		ASSERT_EQ(0, mkdir(group, 0700));
		ASSERT_TRUE(kid_start(&kid, kid_in_cgroup, group));
		EXPECT_EQ('w', kid_hear(&kid));
		/* The counters may lag behind by a batch for each CPU. */
		EXPECT_TRUE(aio_wait_for(cgroup_shmem(group) >=
					 CGROUP_BYTES * 3 / 4,
					 AIO_PATIENCE_MS)) {
			TH_LOG("shmem %lld", cgroup_shmem(group));
		}
		EXPECT_LE(CGROUP_BYTES * 3 / 4,
			  aio_read_number(group, "memory.current", NULL));
		/* And it was workers that wrote. */
		EXPECT_LT(worker, aio_stat("worker"));
		kid_tell(&kid, "e");
		EXPECT_EQ(0, kid_wait(&kid));
		EXPECT_TRUE(aio_wait_for(!rmdir(group), AIO_PATIENCE_MS));
	}
	umount(dir);
	rmdir(dir);
	if (skip)
		SKIP(return, "%s", skip);
}

/* ---- I/O priority ---- */

TEST_F(life, io_priority)
{
	struct iocb cb;
	int fd, class;
	char c;

	fd = memfd_create("aio", MFD_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(1, pwrite(fd, "i", 1, 0));
	for (class = IOPRIO_CLASS_NONE; class <= IOPRIO_CLASS_IDLE; class++) {
		c = 0;
		iocb_pread(&cb, fd, &c, 1, 0);
		cb.aio_flags = IOCB_FLAG_IOPRIO;
		cb.aio_reqprio = IOPRIO_PRIO_VALUE(class,
						   class == IOPRIO_CLASS_NONE ||
						   class == IOPRIO_CLASS_IDLE ?
						   0 : 3);
		EXPECT_EQ(1, aio_run(self->ctx, &cb)) {
			TH_LOG("class %d", class);
		}
		EXPECT_EQ('i', c);
	}
	cb.aio_reqprio = IOPRIO_PRIO_VALUE(6, 0);
	EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));

	/* The thread's own. */
	ASSERT_EQ(0, syscall(__NR_ioprio_set, IOPRIO_WHO_PROCESS, 0,
			     IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0)));
	c = 0;
	iocb_pread(&cb, fd, &c, 1, 0);
	EXPECT_EQ(1, aio_run(self->ctx, &cb));
	EXPECT_EQ('i', c);
	close(fd);
}

/* ---- protection keys ---- */

#ifdef PKEY_DISABLE_ACCESS

/* A blocked read or write of @buf, under @rights, with others afterwards. */
static long long run_with_key(const struct aio_env *env, bool force, int fds[2],
			      char *buf, bool write_it, int pkey,
			      unsigned int rights, unsigned int later)
{
	static char page[65536];
	struct io_event ev;
	struct iocb cb;
	long ret;

	if (write_it) {
		fcntl(fds[1], F_SETFL, O_NONBLOCK);
		while (write(fds[1], page, 4096) > 0)
			;
		fcntl(fds[1], F_SETFL, 0);
		iocb_pwrite(&cb, fds[1], buf, 8, 0);
	} else {
		iocb_pread(&cb, fds[0], buf, 8, 0);
	}
	pkey_set(pkey, rights);
	ret = submit_one(env->ctx, &cb);
	pkey_set(pkey, later);
	if (ret != 1)
		return AIO_REFUSED(-ret);
	if (!aio_wait_blocked(env, force, 1))
		return AIO_NO_EVENT;
	if (write_it ? read(fds[0], page, sizeof(page)) <= 0 :
		       write(fds[1], "pkeydata", 8) != 8)
		return AIO_WRONG_EVENT;
	if (reap_one(env->ctx, &ev, AIO_PATIENCE_MS) != 1)
		return AIO_NO_EVENT;
	return ev.res;
}

TEST_F(life, protection_keys)
{
	static const struct {
		bool		write_it;
		unsigned int	rights;
		unsigned int	later;
		long long	res;
	} cases[] = {
		{ false, 0, 0, 8 },
		{ false, PKEY_DISABLE_ACCESS, PKEY_DISABLE_ACCESS, -EFAULT },
		{ false, PKEY_DISABLE_WRITE, PKEY_DISABLE_WRITE, -EFAULT },
		{ true, 0, 0, 8 },
		{ true, PKEY_DISABLE_WRITE, PKEY_DISABLE_WRITE, 8 },
		{ true, PKEY_DISABLE_ACCESS, PKEY_DISABLE_ACCESS, -EFAULT },
		{ false, 0, PKEY_DISABLE_ACCESS, 8 },
		{ false, PKEY_DISABLE_ACCESS, 0, -EFAULT },
	};
	static const char nothing[8];
	long size = sysconf(_SC_PAGESIZE);
	int pkey, fds[2];
	const char *want;
	unsigned int i;
	long long res;
	char *buf;

	pkey = pkey_alloc(0, 0);
	if (pkey < 0)
		SKIP(return, "no protection keys");
	buf = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, buf);
	ASSERT_EQ(0, pkey_mprotect(buf, size, PROT_READ | PROT_WRITE, pkey));

	/* What a blocking call makes of it. */
	ASSERT_EQ(8, write(self->pipe[1], "pkeydata", 8));
	pkey_set(pkey, PKEY_DISABLE_ACCESS);
	ASSERT_EQ(-1, read(self->pipe[0], buf, 8));
	ASSERT_EQ(EFAULT, errno);
	pkey_set(pkey, 0);
	ASSERT_EQ(8, read(self->pipe[0], buf, 8));

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
		memset(buf, 0, 8);
		res = run_with_key(&self->env, variant->force, fds, buf,
				   cases[i].write_it, pkey, cases[i].rights,
				   cases[i].later);
		pkey_set(pkey, 0);
		EXPECT_EQ(cases[i].res, res) {
			TH_LOG("case %u", i);
		}
		want = nothing;
		if (res == 8 && !cases[i].write_it)
			want = "pkeydata";
		EXPECT_EQ(0, memcmp(buf, want, 8));
		close(fds[0]);
		close(fds[1]);
		ASSERT_TRUE(aio_wait_unblocked(&self->env));
	}
	munmap(buf, size);
	pkey_free(pkey);
}

#endif /* PKEY_DISABLE_ACCESS */

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--after-exec"))
		return after_exec(atoi(argv[2]));
	return test_harness_run(argc, argv);
}

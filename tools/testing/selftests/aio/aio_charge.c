// SPDX-License-Identifier: GPL-2.0
/*
 * What is limited, charged, signalled and recorded. Each test tries to gain
 * something by a request of threaded AIO that the system call would not have
 * given: space beyond a limit, memory or I/O at the cost of others, silence
 * where there is a signal or a record. It compares with the blocking call, for
 * every way that a request can take, and for one that has to wait for a worker
 * while the submitter becomes somebody else.
 *
 * AIO_SLOW=1: a debug kernel, which may take ten times as long.
 */
#include "../kselftest_harness.h"
#include "aio_ops.h"

#include <grp.h>
#include <linux/audit.h>
#include <linux/ioprio.h>
#include <linux/netlink.h>
#include <termios.h>
#include <sys/fanotify.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>

#define EVENTS		256
#define SIZE		0x400000	/* of what is read and written */
#define SOME		0x10000		/* what may come on top of it */

static __u8 *bytes;

/* ---- the ways that an operation can take ---- */

enum way {
	CALL,			/* the system call that blocks */
	AT_ONCE,		/* whatever io_submit() can do itself, it does */
	WORKER,
	HELD,			/* in a worker, but not before all has changed */
	NR_WAYS,
	ARMED = NR_WAYS		/* at once, on a stream that is not ready */
};

static const char * const way_names[] = {
	"call", "at once", "worker", "held back", "armed",
};

static char max_workers[16];

/* What needs root; the rest may be done by anybody. */
static bool way_set(enum way way)
{
	return kid_ok(!aio_set_force_worker(way == WORKER || way == HELD)) &&
	       kid_ok(!aio_write_text(AIO_MAX_WORKERS,
				      way == HELD ? "1" : max_workers));
}

/* The one worker that HELD leaves to a user, while nobody writes to "fifo". */
struct hold {
	aio_context_t	ctx;
	struct iocb	cb;
};

static bool hold(struct hold *h)
{
	long long running = aio_stat("running");

	memset(h, 0, sizeof(*h));
	iocb_openat(&h->cb, AT_FDCWD, "fifo", O_RDONLY | O_CLOEXEC, 0);
	return kid_ok(!sys_io_setup(1, &h->ctx)) &&
	       kid_ok(submit_one(h->ctx, &h->cb) == 1) &&
	       wait_stat("running", ">=", running + 1, AIO_PATIENCE_MS);
}

static bool let_go(struct hold *h)
{
	int fd = open("fifo", O_WRONLY | O_CLOEXEC);
	struct io_event ev;
	bool good;

	good = kid_ok(fd >= 0) && kid_ok(reap_one(h->ctx, &ev, MANY_MS) == 1) &&
	       kid_ok((long long)ev.res >= 0) && !close(ev.res);
	close(fd);
	return good && !sys_io_destroy(h->ctx);
}

/* The system call that a request stands for. */
static long long as_call(const struct iocb *cb)
{
	void *buf = (void *)(uintptr_t)cb->aio_buf;
	int fd = cb->aio_fildes;
	long ret;

	switch (cb->aio_lio_opcode) {
	case IOCB_CMD_PREAD:
		ret = aio_ret(pread(fd, buf, cb->aio_nbytes, cb->aio_offset));
		return ret != -ESPIPE ? ret :
		       aio_ret(read(fd, buf, cb->aio_nbytes));
	case IOCB_CMD_PWRITE:
		ret = aio_ret(pwrite(fd, buf, cb->aio_nbytes, cb->aio_offset));
		return ret != -ESPIPE ? ret :
		       aio_ret(write(fd, buf, cb->aio_nbytes));
	case IOCB_CMD_OPENAT:
		return sys_openat(fd, buf, (__u32)cb->aio_offset,
				  cb->aio_offset >> 32);
	case IOCB_CMD_UNLINKAT:
		return sys_unlinkat(fd, buf, cb->aio_offset);
	}
	abort();
}

struct run {
	enum way	way;
	aio_context_t	ctx;
	struct iocb	*cbs;
	int		nr;
	long long	*res;
	bool		(*change)(void *arg);	/* after io_submit() */
	void		*arg;
	bool		thread;			/* one that ends submits */

	pid_t		tid;
	int		submitted;
};

static void *run_submit(void *arg)
{
	struct run *r = arg;
	long ret;

	r->tid = gettid();
	for (r->submitted = 0; r->submitted < r->nr; r->submitted++) {
		struct iocb *cb = &r->cbs[r->submitted];

		cb->aio_data = r->submitted;
		if (r->way == CALL) {
			r->res[r->submitted] = as_call(cb);
			continue;
		}
		ret = submit_one(r->ctx, cb);
		if (ret != 1) {
			r->res[r->submitted] = AIO_REFUSED(-ret);
			break;
		}
	}
	return NULL;
}

static bool run(struct run *r)
{
	pthread_t thread;
	struct io_event ev;
	struct hold h;
	bool good = true;
	int i;

	if (r->way == HELD && !hold(&h))
		return false;
	if (!r->thread)
		run_submit(r);
	else if (!kid_ok(!pthread_create(&thread, NULL, run_submit, r)) ||
		 !kid_ok(!pthread_join(thread, NULL)))
		return false;
	if (r->change && r->way != CALL)
		good = kid_ok(r->change(r->arg));
	if (r->way == HELD)
		good &= kid_ok(aio_stat("queued") >= r->submitted) &&
			let_go(&h);
	for (i = 0; r->way != CALL && i < r->submitted; i++) {
		if (!kid_ok(reap_one(r->ctx, &ev, MANY_MS) == 1) ||
		    !kid_ok((int)ev.data < r->nr))
			return false;
		r->res[ev.data] = ev.res;
	}
	return good;
}

/*
 * A request of this context for what its submitter is until now. What later ones
 * are charged to must not be taken from it.
 */
static bool run_before(aio_context_t ctx)
{
	struct iocb cb;

	iocb_openat(&cb, AT_FDCWD, ".", O_PATH | O_CLOEXEC, 0);
	return kid_ok(close(aio_run(ctx, &cb)) == 0);
}

static long long run_one(enum way way, aio_context_t ctx, struct iocb *cb,
			 bool (*change)(void *arg), void *arg)
{
	long long res;
	struct run r = {
		.way = way, .ctx = ctx, .cbs = cb, .nr = 1, .res = &res,
		.change = change, .arg = arg,
	};

	return run(&r) ? res : AIO_NO_EVENT;
}

/* ---- what all tests have ---- */

FIXTURE(charge)
{
	struct aio_env env;
	aio_context_t ctx;
	char top[32];
};

FIXTURE_SETUP(charge)
{
	umask(0);
	AIO_SETUP(&self->env, true, false, EVENTS);
	self->ctx = self->env.ctx;
	ASSERT_LT(0, aio_read_text(AIO_MAX_WORKERS, max_workers,
				   sizeof(max_workers)));
	ASSERT_EQ(0, setgroups(0, NULL));
	strcpy(self->top, "/tmp/aio-charge-XXXXXX");
	ASSERT_EQ(0, unshare(CLONE_NEWNS));
	ASSERT_EQ(0, mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	ASSERT_TRUE(!!mkdtemp(self->top));
	ASSERT_EQ(0, mount("aio-charge", self->top, "tmpfs", 0, "mode=0777"));
	ASSERT_EQ(0, chdir(self->top));
	ASSERT_EQ(0, mkfifo("fifo", 0666));
	bytes = aligned_alloc(4096, SIZE);
	ASSERT_TRUE(!!bytes);
	memset(bytes, 'b', SIZE);
}

FIXTURE_TEARDOWN(charge)
{
	/* Also what a test has mounted below. */
	umount2("cgroup", MNT_DETACH);
	EXPECT_EQ(0, chdir("/"));
	EXPECT_TRUE(aio_wait_for(!umount2(self->top, 0), AIO_PATIENCE_MS));
	EXPECT_EQ(0, rmdir(self->top));
	EXPECT_EQ(0, aio_write_text(AIO_MAX_WORKERS, max_workers));
	free(bytes);
	AIO_TEARDOWN(&self->env);
}

/* A file system on a disk, whose I/O is seen; @dev is as cgroups name it. */
static bool disk_dir(char *dir, size_t size, char dev[16])
{
	struct stat st;
	int i;

	for (i = 0; aio_test_dir(i, dir, size); i++) {
		if (stat(dir, &st) || !major(st.st_dev))
			continue;
		snprintf(dev, 16, "%d:%d", major(st.st_dev), minor(st.st_dev));
		return true;
	}
	return false;
}

/* A file of SIZE on the disk; or -1. */
static int disk_file(const char *dir)
{
	int fd = aio_temp_file(dir, 0);

	return fd >= 0 && pwrite(fd, bytes, SIZE, 0) == SIZE ? fd : -1;
}

/* Is none of it in memory? */
static bool uncached(int fd)
{
	size_t i, nr = SIZE / sysconf(_SC_PAGESIZE);
	unsigned char in[SIZE / 4096];
	bool none;
	void *at;

	at = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	none = at != MAP_FAILED && !mincore(at, SIZE, in);
	for (i = 0; none && i < nr; i++)
		none = !(in[i] & 1);
	munmap(at, SIZE);
	return none;
}

/* Make it so. A single try leaves pages that somebody is still looking at. */
static bool drop_cache(int fd)
{
	return !fsync(fd) &&
	       aio_wait_for(!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) &&
			    uncached(fd), AIO_PATIENCE_MS);
}

/* ---- RLIMIT_FSIZE ---- */

/* High enough not to be in the way of a log that standard error goes to. */
#define LIMIT	0x10000000LL

static bool set_limit(void *arg)
{
	struct rlimit rlim = {
		.rlim_cur = *(rlim_t *)arg, .rlim_max = RLIM_INFINITY,
	};

	return !setrlimit(RLIMIT_FSIZE, &rlim);
}

TEST_F_TIMEOUT(charge, file_size_limit, 300)
{
	static rlim_t unlimited = RLIM_INFINITY;
	static struct {
		rlim_t		at_submit;
		rlim_t		later;
		long long	res;
	} cases[] = {
		{ RLIM_INFINITY,	LIMIT,		4096 },
		{ 3 * LIMIT,		LIMIT,		4096 },
		{ LIMIT,		RLIM_INFINITY,	-EFBIG },
		{ 2 * LIMIT,		2 * LIMIT + 1,	-EFBIG },
		{ 2 * LIMIT + 5,	RLIM_INFINITY,	5 },
		{ 2 * LIMIT + 5,	LIMIT,		5 },
	};
	long long res;
	enum way way;
	struct iocb cb;
	char dir[256];
	int i, fd;
	size_t c;

	signal(SIGXFSZ, SIG_IGN);
	for (i = -1; i < 0 || aio_test_dir(i, dir, sizeof(dir)); i++) {
		fd = i < 0 ? memfd_create("aio", MFD_CLOEXEC) :
			     aio_temp_file(dir, 0);
		ASSERT_LE(0, fd);
		for (way = CALL; way < NR_WAYS; way++) {
			ASSERT_TRUE(way_set(way));
			for (c = 0; c < ARRAY_SIZE(cases); c++) {
				iocb_pwrite(&cb, fd, bytes, 4096, 2 * LIMIT);
				set_limit(&cases[c].at_submit);
				res = run_one(way, self->ctx, &cb, set_limit,
					      &cases[c].later);
				set_limit(&unlimited);
				EXPECT_EQ(cases[c].res, res) {
					TH_LOG("%s, %s, case %zu",
					       i < 0 ? "memfd" : dir,
					       way_names[way], c);
				}
			}
		}
		close(fd);
	}
}

/* ---- signals ---- */

static struct {
	int		count;
	pid_t		tid;
	siginfo_t	info;
} seen;

#define is_set(flag)	__atomic_load_n(&(flag), __ATOMIC_SEQ_CST)
#define set(flag)	__atomic_store_n(&(flag), true, __ATOMIC_SEQ_CST)

static void on_signal(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	(void)context;
	__atomic_store_n(&seen.tid, gettid(), __ATOMIC_SEQ_CST);
	seen.info = *info;
	__atomic_add_fetch(&seen.count, 1, __ATOMIC_SEQ_CST);
}

enum reaction { HANDLED, IGNORED, BLOCKED, GONE, NR_REACTIONS };

static const char * const reaction_names[] = {
	"handled", "ignored", "blocked", "thread gone",
};

static void react(int signo, enum reaction reaction)
{
	struct sigaction sa = {
		.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO,
	};

	memset(&seen, 0, sizeof(seen));
	sigaction(signo, &sa, NULL);
	if (reaction == IGNORED)
		signal(signo, SIG_IGN);
}

/* A thread that does what raises a signal, and what comes of it. */
struct sender {
	enum way	way;
	enum reaction	reaction;
	int		signo;
	aio_context_t	ctx;
	struct iocb	cb;
	int		reader;		/* of a pipe, closed in between, or -1 */

	pid_t		tid;
	bool		submitted;
	bool		done;
	bool		dismissed;
	long long	res;
	int		count;
	bool		wrong;		/* not what it would have sent itself */
	bool		thread_pending;
	bool		process_pending;
};

static long long sender_reap(struct sender *s)
{
	struct io_event ev;

	return reap_one(s->ctx, &ev, MANY_MS) == 1 ? (long long)ev.res :
						     AIO_NO_EVENT;
}

static void *sender_thread(void *arg)
{
	struct sender *s = arg;
	sigset_t mask, pending;
	long ret;

	sigemptyset(&mask);
	sigaddset(&mask, s->signo);
	if (s->reaction == BLOCKED)
		pthread_sigmask(SIG_BLOCK, &mask, NULL);
	__atomic_store_n(&s->tid, gettid(), __ATOMIC_SEQ_CST);
	if (s->way == CALL) {
		set(s->submitted);
		s->res = as_call(&s->cb);
	} else {
		ret = submit_one(s->ctx, &s->cb);
		if (ret != 1)
			s->res = AIO_REFUSED(-ret);
		set(s->submitted);
		if (s->reaction == GONE)
			return NULL;
		if (ret == 1)
			s->res = sender_reap(s);
	}
	sigpending(&pending);
	s->thread_pending = sigismember(&pending, s->signo) == 1;
	set(s->done);
	/* What is pending for this thread is lost when it ends. */
	while (!is_set(s->dismissed))
		sched_yield();
	return NULL;
}

/* Somebody else, by the pid that a thread had. For what fork() calls 0, too. */
static pid_t fork_as(pid_t pid)
{
	/* struct clone_args, which libc may or may not have */
	struct {
		__u64 flags, pidfd, child_tid, parent_tid, exit_signal, stack,
		      stack_size, tls, set_tid, set_tid_size, cgroup;
	} args = {
		.exit_signal = SIGCHLD,
		.set_tid = (uintptr_t)&pid,
		.set_tid_size = 1,
	};

	return aio_ret(syscall(__NR_clone3, &args, sizeof(args)));
}

static bool heir_start(struct kid *heir, struct sender *s)
{
	struct iocb *cb = &s->cb;

	if (!kid_ok(aio_wait_for(kill(s->tid, 0) && errno == ESRCH,
				 AIO_PATIENCE_MS)) ||
	    pipe2(heir->hear, O_CLOEXEC) || pipe2(heir->tell, O_CLOEXEC))
		return false;
	heir->pid = fork_as(s->tid);
	if (!heir->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(s->reader);
		close(cb->aio_fildes);
		close(heir->hear[0]);
		close(heir->tell[1]);
		signal(s->signo, SIG_DFL);
		_exit(!parent_tell(heir, "h") || parent_hear(heir) != 'e');
	}
	close(heir->hear[1]);
	close(heir->tell[0]);
	return kid_ok(heir->pid == s->tid) && kid_ok(kid_hear(heir) == 'h');
}

/* Does the request or call wait for the reader? */
static bool sender_waits(struct sender *s, const struct aio_env *env)
{
	if (s->way == CALL)
		return aio_wait_asleep(s->tid, AIO_PATIENCE_MS);
	if (s->way == HELD)
		return wait_stat("queued", ">", env->queued, AIO_PATIENCE_MS);
	return aio_wait_blocked(env, s->way == WORKER, 1);
}

static bool send_it(struct sender *s, const struct aio_env *env)
{
	sigset_t pending, mask, old;
	pthread_t thread;
	struct kid heir;
	struct hold h;

	s->ctx = env->ctx;
	react(s->signo, s->reaction);
	sigemptyset(&mask);
	sigaddset(&mask, s->signo);
	/* One for the process would go to any thread that does not block it. */
	if (s->reaction == BLOCKED)
		pthread_sigmask(SIG_BLOCK, &mask, &old);
	if (!way_set(s->way) || (s->way == HELD && !hold(&h)) ||
	    !kid_ok(!pthread_create(&thread, NULL, sender_thread, s)) ||
	    !kid_ok(aio_wait_for(is_set(s->submitted), AIO_PATIENCE_MS)))
		return false;
	if (s->reaction == GONE &&
	    (!kid_ok(!pthread_join(thread, NULL)) || !heir_start(&heir, s)))
		return false;
	if (s->reader >= 0) {
		if (!kid_ok(sender_waits(s, env)))
			return false;
		close(s->reader);
	}
	if (s->way == HELD && !kid_ok(let_go(&h)))
		return false;
	if (s->reaction == GONE)
		s->res = sender_reap(s);
	else if (!kid_ok(aio_wait_for(is_set(s->done), MANY_MS)))
		return false;

	s->count = is_set(seen.count);
	s->wrong = s->count && (seen.tid != s->tid ||
				seen.info.si_signo != s->signo ||
				seen.info.si_code != SI_USER ||
				seen.info.si_pid != getpid() ||
				seen.info.si_uid != getuid());
	sigpending(&pending);
	s->process_pending = sigismember(&pending, s->signo) == 1;
	if (s->reaction == GONE)
		return kid_ok(kid_tell(&heir, "e")) &&
		       kid_ok(!kid_wait(&heir));
	set(s->dismissed);
	pthread_join(thread, NULL);
	if (s->reaction == BLOCKED)
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	return true;
}

/* Is it what it has to be, which for a call is the kernel's own affair? */
static bool came_to(const struct sender *s, long long res, bool signalled)
{
	bool good = s->res == res && !s->wrong && !s->process_pending &&
		    s->count == (signalled && s->reaction == HANDLED) &&
		    s->thread_pending == (signalled && s->reaction == BLOCKED);

	if (!good)
		fprintf(stderr,
			"# %s, %s: %lld, %d signals, %d wrong, pending %d %d\n",
			way_names[s->way], reaction_names[s->reaction], s->res,
			s->count, s->wrong, s->thread_pending,
			s->process_pending);
	return good;
}

TEST_F_TIMEOUT(charge, file_size_signal, 300)
{
	rlim_t limit = LIMIT, unlimited = RLIM_INFINITY;
	enum reaction reaction;
	enum way way;
	int fd, beyond;

	fd = memfd_create("aio", MFD_CLOEXEC);
	ASSERT_LE(0, fd);
	for (way = CALL; way < NR_WAYS; way++) {
		for (reaction = 0; reaction < NR_REACTIONS; reaction++) {
			/* Else it might be quicker than the thread's end. */
			if (reaction == GONE && way != HELD)
				continue;
			for (beyond = 0; beyond < 2; beyond++) {
				struct sender s = {
					.way = way, .reaction = reaction,
					.signo = SIGXFSZ, .reader = -1,
				};

				iocb_pwrite(&s.cb, fd, bytes, 4096,
					    beyond ? LIMIT : LIMIT - 5);
				set_limit(&limit);
				ASSERT_TRUE(send_it(&s, &self->env));
				set_limit(&unlimited);
				/* Up to the limit is no offence. */
				EXPECT_TRUE(came_to(&s, beyond ? -EFBIG : 5,
						    beyond));
			}
		}
	}
	close(fd);
}

/* Fill a pipe until a writer has to wait. */
static bool fill(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	while (write(fd, bytes, 4096) > 0)
		;
	return errno == EAGAIN && !fcntl(fd, F_SETFL, flags);
}

/* The bare calls, or libc would change all with the same memory. */
#ifdef __NR_setresuid32
#define NR_SETRESUID	__NR_setresuid32
#define NR_SETRESGID	__NR_setresgid32
#else
#define NR_SETRESUID	__NR_setresuid
#define NR_SETRESGID	__NR_setresgid
#endif

/*
 * The submitter shares its address space, and with that the context, with this
 * process, but becomes a privileged program before its request fails.
 */
struct twin {
	aio_context_t	ctx;
	struct iocb	cb;
	struct kid	kid;
};

static int twin(void *arg)
{
	struct twin *t = arg;
	char hear[16], tell[16];

	if (syscall(NR_SETRESGID, NOBODY, NOBODY, NOBODY) ||
	    syscall(NR_SETRESUID, NOBODY, NOBODY, NOBODY) ||
	    submit_one(t->ctx, &t->cb) != 1)
		_exit(1);
	fcntl(t->kid.hear[1], F_SETFD, 0);
	fcntl(t->kid.tell[0], F_SETFD, 0);
	snprintf(hear, sizeof(hear), "%d", t->kid.tell[0]);
	snprintf(tell, sizeof(tell), "%d", t->kid.hear[1]);
	execl("privileged", "privileged", "--privileged", tell, hear, NULL);
	_exit(2);
}

/* What it becomes; see main(). */
static int privileged(int tell, int listen)
{
	signal(SIGPIPE, SIG_DFL);
	if (write(tell, geteuid() ? "n" : "p", 1) != 1)
		return 3;
	return hear(listen) != 'e';
}

static bool copy_self(const char *to)
{
	int in = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), out;
	static char block[65536];
	ssize_t len;

	out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	while ((len = read(in, block, sizeof(block))) > 0)
		if (write(out, block, len) != len)
			return false;
	return !len && !fchmod(out, 04755) && !close(out) && !close(in);
}

TEST_F_TIMEOUT(charge, pipe_signal, 300)
{
	const size_t stack_size = 65536;
	enum reaction reaction;
	struct io_event ev;
	struct twin t = { 0 };
	enum way way;
	char *stack;
	int fds[2];

	for (way = CALL; way <= ARMED; way++) {
		for (reaction = 0; reaction < NR_REACTIONS; reaction++) {
			struct sender s = {
				.way = way, .reaction = reaction,
				.signo = SIGPIPE, .reader = -1,
			};

			if (reaction == GONE && way <= AT_ONCE)
				continue;
			ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
			iocb_pwrite(&s.cb, fds[1], bytes, 4096, 0);
			if (way == AT_ONCE) {
				close(fds[0]);
			} else {
				ASSERT_TRUE(fill(fds[1]));
				s.reader = fds[0];
			}
			ASSERT_TRUE(send_it(&s, &self->env));
			EXPECT_TRUE(came_to(&s, -EPIPE, true));
			close(fds[1]);
			ASSERT_TRUE(aio_wait_unblocked(&self->env));
		}
	}

	ASSERT_TRUE(copy_self("privileged"));
	react(SIGPIPE, HANDLED);
	stack = mmap(NULL, stack_size, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(stack != MAP_FAILED);
	for (way = WORKER; way <= ARMED; way++) {
		/* It could not be another user's turn. */
		if (way == HELD)
			continue;
		ASSERT_TRUE(way_set(way));
		ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
		ASSERT_EQ(0, pipe2(t.kid.hear, O_CLOEXEC));
		ASSERT_EQ(0, pipe2(t.kid.tell, O_CLOEXEC));
		ASSERT_TRUE(fill(fds[1]));
		t.ctx = self->ctx;
		iocb_pwrite(&t.cb, fds[1], bytes, 4096, 0);
		t.kid.pid = clone(twin, stack + stack_size, CLONE_VM | SIGCHLD,
				  &t);
		ASSERT_LT(0, t.kid.pid);
		close(t.kid.hear[1]);
		close(t.kid.tell[0]);
		ASSERT_EQ('p', kid_hear(&t.kid));
		ASSERT_TRUE(aio_wait_blocked(&self->env, way == WORKER, 1));
		close(fds[0]);
		ASSERT_EQ(1, reap_one(self->ctx, &ev, MANY_MS));
		EXPECT_EQ(-EPIPE, (long long)ev.res);
		kid_tell(&t.kid, "e");
		EXPECT_EQ(0, kid_wait(&t.kid)) {
			TH_LOG("%s", way_names[way]);
		}
		EXPECT_EQ(0, seen.count);
		close(fds[1]);
	}
	munmap(stack, stack_size);
}

/* ---- control groups ---- */

#define GROUP_A	"cgroup/aio-charge-a"
#define GROUP_B	"cgroup/aio-charge-b"

static char groups_undo[16];

/* Two groups with a controller; NULL, or why there are none. */
static const char *groups_make(const char *controller)
{
	char text[512], on[512];

	if (mkdir("cgroup", 0755) || mount("none", "cgroup", "cgroup2", 0, NULL))
		return "no cgroup2";
	if (aio_read_text("cgroup/cgroup.controllers", text,
			  sizeof(text)) <= 0 || !strstr(text, controller))
		return "not all controllers in cgroup2";
	if (aio_read_text("cgroup/cgroup.subtree_control", on, sizeof(on)) < 0)
		return "nothing known of controllers";
	snprintf(groups_undo, sizeof(groups_undo), "%c%s",
		 strstr(on, controller) ? '+' : '-', controller);
	snprintf(text, sizeof(text), "+%s", controller);
	if (aio_write_text("cgroup/cgroup.subtree_control", text))
		return "a controller that is not to be had";
	/* A test that has failed may have left them. */
	rmdir(GROUP_A);
	rmdir(GROUP_B);
	return mkdir(GROUP_A, 0755) || mkdir(GROUP_B, 0755) ? "no group" : NULL;
}

/* The same, and a disk. */
static const char *disk_and_groups(char *dir, size_t size, char dev[16],
				   const char *controller)
{
	return disk_dir(dir, size, dev) ? groups_make(controller) : "no disk";
}

static bool groups_renew(void)
{
	return kid_ok(aio_wait_for(!rmdir(GROUP_A), AIO_PATIENCE_MS)) &&
	       kid_ok(aio_wait_for(!rmdir(GROUP_B), AIO_PATIENCE_MS)) &&
	       !mkdir(GROUP_A, 0755) && !mkdir(GROUP_B, 0755);
}

static bool groups_remove(void)
{
	return kid_ok(aio_wait_for(!rmdir(GROUP_A), AIO_PATIENCE_MS)) &&
	       kid_ok(aio_wait_for(!rmdir(GROUP_B), AIO_PATIENCE_MS)) &&
	       kid_ok(!aio_write_text("cgroup/cgroup.subtree_control",
				      groups_undo)) &&
	       !umount("cgroup") && !rmdir("cgroup");
}

static bool group_join(void *arg)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/cgroup.procs", (char *)arg);
	return !aio_write_text(path, "0");
}

static bool group_set(const char *group, const char *file, const char *value)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/%s", group, file);
	return kid_ok(!aio_write_text(path, value));
}

/* What follows @key, which follows @line; 0 where there is no such line. */
static long long group_get(const char *group, const char *file,
			   const char *line, const char *key)
{
	char path[64], text[8192] = "\n", *at = text;

	snprintf(path, sizeof(path), "%s/%s", group, file);
	if (aio_read_text(path, text + 1, sizeof(text) - 1) < 0)
		return -1;
	at = line ? strstr(text, line) : text;
	at = at ? strstr(at, key) : NULL;
	return at ? atoll(at + strlen(key)) : 0;
}

/* ---- a process that is charged ---- */

enum { IO_READ, IO_WRITTEN, IO_CANCELLED, NR_IO };

static bool io_get(long long io[NR_IO])
{
	static const char * const keys[] = {
		"\nread_bytes: ", "\nwrite_bytes: ", "\ncancelled_write_bytes: ",
	};
	char text[1024];
	int i;

	if (aio_read_text("/proc/self/io", text, sizeof(text)) <= 0)
		return false;
	for (i = 0; i < NR_IO; i++)
		io[i] = atoll(strstr(text, keys[i]) + strlen(keys[i]));
	return true;
}

struct subject {
	enum way	way;
	char		*group;		/* where it is when it submits, */
	char		*later;		/* and afterwards */
	bool		thread;		/* one that ends submits */
	struct iocb	cbs[EVENTS];
	int		nr;

	/* what came of it */
	long long	res[EVENTS];
	long long	ns;
	long long	io[NR_IO];
	pid_t		tid;
};

static struct kid subject_kid;

static int subject_fn(struct kid *kid, void *arg)
{
	long long io[NR_IO], ns;
	struct subject *s = arg;
	struct run r = {
		.way = s->way, .cbs = s->cbs, .nr = s->nr, .res = s->res,
		.thread = s->thread,
	};
	int i;

	/* Its memory is not what is to be charged. */
	memset(bytes, 'b', SIZE);
	if (s->later) {
		r.change = group_join;
		r.arg = s->later;
	}
	if (!kid_ok(!sys_io_setup(EVENTS, &r.ctx)) || !run_before(r.ctx) ||
	    (s->group && !kid_ok(group_join(s->group))) || !io_get(s->io))
		return 1;
	ns = aio_now_ns();
	if (!run(&r))
		return 2;
	s->ns = aio_now_ns() - ns;
	s->tid = r.tid;
	if (!io_get(io))
		return 3;
	for (i = 0; i < NR_IO; i++)
		s->io[i] = io[i] - s->io[i];
	return !parent_tell(kid, "d") || !parent_hear(kid);
}

/* It has done all its requests when this returns true. */
static bool subject_start(struct subject *s)
{
	return way_set(s->way) && kid_start(&subject_kid, subject_fn, s) &&
	       kid_ok(kid_hear(&subject_kid) == 'd');
}

static bool subject_end(void)
{
	kid_tell(&subject_kid, "e");
	return kid_ok(!kid_wait(&subject_kid));
}

static struct subject *subject_new(void)
{
	void *s = mmap(NULL, sizeof(struct subject), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return s == MAP_FAILED ? NULL : s;
}

/* ---- memory ---- */

#define SLABS	200

/*
 * Statistics are added up when there is enough to be added: so add something
 * else, which is gone with this process.
 */
static int kid_stirs(struct kid *kid, void *arg)
{
	(void)kid;
	if (!kid_ok(group_join(arg)))
		return 1;
	memset(bytes, 's', SIZE);
	return 0;
}

/* Files that requests have made here, open in a process that has ended. */
static void remove_slabs(void)
{
	char name[16];
	int i;

	for (i = 0; i < SLABS; i++) {
		snprintf(name, sizeof(name), "slab%d", i);
		unlink(name);
	}
}

TEST_F_TIMEOUT(charge, memory_cgroup, 600)
{
	static const char * const keys[] = { "\nshmem ", "\nfile ", "\nslab " };
	static char names[SLABS][16];
	int i, what, fd, disk, status[NR_WAYS];
	long long got, others, least, call = 0;
	char dir[256], dev[16];
	struct subject *s;
	const char *why;
	enum way way;

	why = disk_and_groups(dir, sizeof(dir), dev, "memory");
	if (why)
		SKIP(return, "%s", why);
	s = subject_new();
	ASSERT_TRUE(!!s);
	disk = disk_file(dir);
	ASSERT_LE(0, disk);

	for (what = 0; what < 3; what++) {
		for (way = CALL; way < NR_WAYS; way++) {
			ASSERT_TRUE(groups_renew());
			fd = memfd_create("aio", MFD_CLOEXEC);
			ASSERT_LE(0, fd);
			ASSERT_TRUE(drop_cache(disk));
			s->way = way;
			s->group = GROUP_A;
			s->later = way == HELD ? GROUP_B : NULL;
			s->nr = what < 2 ? 1 : SLABS;
			iocb_pwrite(s->cbs, fd, bytes, SIZE, 0);
			if (what == 1)
				iocb_pread(s->cbs, disk, bytes, SIZE, 0);
			for (i = 0; what == 2 && i < SLABS; i++) {
				snprintf(names[i], 16, "slab%d", i);
				iocb_openat(&s->cbs[i], AT_FDCWD, names[i],
					    O_CREAT | O_EXCL | O_CLOEXEC, 0600);
			}
			ASSERT_TRUE(subject_start(s));
			for (i = 0; i < s->nr; i++)
				ASSERT_LE(what < 2 ? SIZE : 0, s->res[i]);
			ASSERT_EQ(0, kid_run(kid_stirs, GROUP_A));
			ASSERT_EQ(0, kid_run(kid_stirs, GROUP_B));
			least = way != CALL ? call * 3 / 4 :
				what < 2 ? SIZE * 3 / 4 : SLABS * 512;
			aio_wait_for(group_get(GROUP_A, "memory.stat", NULL,
					       keys[what]) >= least,
				     AIO_PATIENCE_MS);
			got = group_get(GROUP_A, "memory.stat", NULL,
					keys[what]);
			others = group_get(GROUP_B, "memory.stat", NULL,
					   keys[what]);
			if (way == CALL)
				call = got;
			EXPECT_LE(least, got) {
				TH_LOG("%s:%s", way_names[way], keys[what]);
			}
			EXPECT_GT(call / 4, others);
			EXPECT_LE(got, group_get(GROUP_A, "memory.current",
						 NULL, "\n"));
			EXPECT_TRUE(subject_end());
			close(fd);
			remove_slabs();
		}
	}

	/* A limit that pages can be given back for, and one that they cannot. */
	for (way = CALL; way < NR_WAYS; way++) {
		ASSERT_TRUE(groups_renew());
		ASSERT_TRUE(drop_cache(disk));
		ASSERT_TRUE(group_set(GROUP_A, "memory.max", "2097152"));
		s->way = way;
		s->later = way == HELD ? GROUP_B : NULL;
		s->nr = 1;
		iocb_pread(s->cbs, disk, bytes, SIZE, 0);
		ASSERT_TRUE(subject_start(s));
		EXPECT_EQ(SIZE, s->res[0]);
		EXPECT_GE(2097152, group_get(GROUP_A, "memory.current", NULL,
					     "\n"));
		EXPECT_LT(0, group_get(GROUP_A, "memory.events", NULL,
				       "\nmax ")) {
			TH_LOG("%s", way_names[way]);
		}
		EXPECT_TRUE(subject_end());

		/* The requests of who dies of it never end, so not HELD. */
		if (way == HELD)
			continue;
		fd = memfd_create("aio", MFD_CLOEXEC);
		ASSERT_LE(0, fd);
		aio_write_text(GROUP_A "/memory.swap.max", "0");
		iocb_pwrite(s->cbs, fd, bytes, SIZE, 0);
		ASSERT_TRUE(way_set(way));
		ASSERT_TRUE(kid_start(&subject_kid, subject_fn, s));
		EXPECT_EQ(0, kid_hear(&subject_kid));
		status[way] = kid_wait(&subject_kid);
		ASSERT_EQ(SIGKILL, status[CALL]);
		EXPECT_EQ(SIGKILL, status[way]) {
			TH_LOG("%s", way_names[way]);
		}
		close(fd);
	}
	close(disk);
	munmap(s, sizeof(*s));
	EXPECT_TRUE(groups_remove());
}

/* ---- I/O ---- */

enum transfer {
	IO_PLAIN, IO_DIRECT, IO_AHEAD, IO_PWRITE,
	NR_IOS, IO_DIRTY = NR_IOS, IO_TRUNCATE, NR_ACCOUNTED
};

static const char * const io_names[] = {
	"read", "direct read", "readahead", "direct write",
	"write", "truncation",
};

/*
 * Make a subject's request, of the end of a file that is not in memory: so
 * nothing is read ahead of it that might come in later.
 */
static bool io_prepare(struct subject *s, enum transfer how, int disk, int direct,
		       size_t size)
{
	long long pos = SIZE - size;

	s->nr = 1;
	switch (how) {
	case IO_PLAIN:
		iocb_pread(s->cbs, disk, bytes, size, pos);
		break;
	case IO_DIRECT:
		iocb_pread(s->cbs, direct, bytes, size, pos);
		break;
	case IO_AHEAD:
		iocb_readahead(s->cbs, disk, size, pos);
		/* The call does not wait for what it reads ahead. */
		if (s->way == CALL)
			iocb_pread(s->cbs, disk, bytes, size, pos);
		break;
	case IO_DIRTY:
		/* It only makes memory dirty, and is counted nevertheless. */
		iocb_pwrite(s->cbs, disk, bytes, size, pos);
		break;
	default:
		iocb_pwrite(s->cbs, direct, bytes, size, pos);
	}
	return drop_cache(disk);
}

TEST_F_TIMEOUT(charge, block_cgroup, 600)
{
	const size_t slow_size = 1048576;
	/*
	 * To set io.max takes memory under a lock of the block layer, which
	 * lockdep reports, and then it looks at nothing any more.
	 */
	const bool throttled = access("/proc/lockdep_stats", F_OK);
	long long got, others, slow = 0, fast;
	char dir[256], dev[16], line[32], text[64];
	struct subject *s;
	const char *key, *why;
	int disk, direct;
	enum way way;
	enum transfer how;

	why = disk_and_groups(dir, sizeof(dir), dev, "io");
	if (why)
		SKIP(return, "%s", why);
	s = subject_new();
	ASSERT_TRUE(!!s);
	disk = disk_file(dir);
	ASSERT_LE(0, disk);
	direct = aio_open_end(disk, O_RDWR | O_DIRECT);
	ASSERT_LE(0, direct);
	snprintf(line, sizeof(line), "\n%s ", dev);
	snprintf(text, sizeof(text), "%s rbps=2097152 wbps=2097152", dev);

	for (how = 0; how < NR_IOS; how++) {
		key = how == IO_PWRITE ? " wbytes=" : " rbytes=";
		for (way = CALL; way < NR_WAYS; way++) {
			/* Moved to a group that is slow, or from one. */
			ASSERT_TRUE(groups_renew());
			s->way = way;
			s->group = GROUP_A;
			s->later = way == HELD ? GROUP_B : NULL;
			if (throttled)
				ASSERT_TRUE(group_set(GROUP_B, "io.max", text));
			ASSERT_TRUE(io_prepare(s, how, disk, direct, SIZE));
			ASSERT_TRUE(subject_start(s));
			EXPECT_EQ(SIZE, s->res[0]);
			got = group_get(GROUP_A, "io.stat", line, key);
			others = group_get(GROUP_B, "io.stat", line, key);
			EXPECT_TRUE(subject_end());
			EXPECT_LE(SIZE, got) {
				TH_LOG("%s, %s", io_names[how], way_names[way]);
			}
			EXPECT_GE(SIZE + SOME, got);
			EXPECT_GE(SOME, others);
			fast = s->ns / (SIZE / slow_size);
			if (!throttled)
				continue;

			s->group = GROUP_B;
			s->later = way == HELD ? GROUP_A : NULL;
			ASSERT_TRUE(io_prepare(s, how, disk, direct, slow_size));
			ASSERT_TRUE(subject_start(s));
			EXPECT_EQ(slow_size, s->res[0]);
			EXPECT_TRUE(subject_end());
			if (way == CALL) {
				slow = s->ns;
				ASSERT_LT(100000000LL, slow);
			}
			EXPECT_LT(slow / 4, s->ns) {
				TH_LOG("%s, %s", io_names[how], way_names[way]);
			}
			EXPECT_GT(s->ns / 2, fast);
		}
	}
	close(direct);
	close(disk);
	munmap(s, sizeof(*s));
	EXPECT_TRUE(groups_remove());
}

TEST_F_TIMEOUT(charge, io_accounting, 300)
{
	static const int counted[] = {
		IO_READ, IO_READ, IO_READ, IO_WRITTEN, IO_WRITTEN, IO_CANCELLED,
	};
	long long mine[NR_IO], then[NR_IO], call[NR_IO];
	char dir[256], dev[16], path[300];
	int i, disk, direct, fd;
	enum transfer how;
	struct subject *s;
	enum way way;

	if (!disk_dir(dir, sizeof(dir), dev))
		SKIP(return, "no disk");
	if (!io_get(mine))
		SKIP(return, "no /proc/self/io");
	s = subject_new();
	ASSERT_TRUE(!!s);
	disk = disk_file(dir);
	ASSERT_LE(0, disk);
	direct = aio_open_end(disk, O_RDWR | O_DIRECT);
	ASSERT_LE(0, direct);
	snprintf(path, sizeof(path), "%s/aio-charge-%d", dir, getpid());

	for (how = 0; how < NR_ACCOUNTED; how++) {
		for (way = CALL; way < NR_WAYS; way++) {
			s->way = way;
			s->thread = way == HELD;
			ASSERT_TRUE(io_prepare(s, how, disk, direct, SIZE));
			if (how == IO_TRUNCATE) {
				fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC,
					  0600);
				ASSERT_LE(0, fd);
				ASSERT_EQ(SIZE, pwrite(fd, bytes, SIZE, 0));
				close(fd);
				iocb_openat(s->cbs, AT_FDCWD, path,
					    O_TRUNC | O_WRONLY | O_CLOEXEC, 0);
			}
			ASSERT_TRUE(io_get(mine));
			ASSERT_TRUE(subject_start(s));
			EXPECT_LE(how < IO_TRUNCATE ? SIZE : 0, s->res[0]);
			/* Before it becomes part of this process's. */
			ASSERT_TRUE(io_get(then));
			EXPECT_TRUE(subject_end());
			if (way == CALL)
				memcpy(call, s->io, sizeof(call));
			for (i = 0; i < NR_IO; i++) {
				EXPECT_GE(SOME, llabs(call[i] - s->io[i])) {
					TH_LOG("%s, %s, value %d",
					       io_names[how], way_names[way],
					       i);
				}
				EXPECT_GE(SOME, then[i] - mine[i]);
			}
		}
		EXPECT_LE(SIZE, call[counted[how]]);
	}
	unlink(path);
	close(direct);
	close(disk);
	munmap(s, sizeof(*s));
}

/* ---- I/O priority ---- */

/*
 * Call @fn for the kernel threads that carry out work of any kind, or only for
 * those that do so for AIO now. Gives the number of those for which it holds.
 */
static int for_workers(bool aio, bool (*fn)(pid_t pid, void *arg), void *arg)
{
	char path[64], comm[128];
	struct dirent *entry;
	DIR *dir = opendir("/proc");
	int nr = 0;

	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/%d/comm",
			 atoi(entry->d_name));
		if (!atoi(entry->d_name) ||
		    aio_read_text(path, comm, sizeof(comm)) <= 0 ||
		    strncmp(comm, "kworker/", 8) ||
		    (aio && !strstr(comm, "+aio_")))
			continue;
		nr += fn(atoi(entry->d_name), arg);
	}
	if (dir)
		closedir(dir);
	return nr;
}

static int ioprio_of(pid_t pid)
{
	return syscall(__NR_ioprio_get, IOPRIO_WHO_PROCESS, pid);
}

static bool has_ioprio(pid_t pid, void *arg)
{
	return ioprio_of(pid) == *(int *)arg;
}

static bool set_ioprio(void *arg)
{
	return !syscall(__NR_ioprio_set, IOPRIO_WHO_PROCESS, 0, *(int *)arg);
}

TEST_F_TIMEOUT(charge, io_priority, 60)
{
	int idle = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0);
	int best = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_RT, 1);
	int i, want, fds[2];
	struct io_event ev;
	struct iocb cb;
	struct hold h;
	enum way way;
	char c;

	for (way = WORKER; way <= HELD; way++) {
		ASSERT_TRUE(way_set(way));
		for (i = 0; i < 3; i++) {
			/* The thread's own, the request's, and back. */
			want = i == 1 ? best : idle;
			ASSERT_TRUE(set_ioprio(i == 1 ? &idle : &want));
			ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
			iocb_pread(&cb, fds[0], &c, 1, 0);
			if (i == 1) {
				cb.aio_flags = IOCB_FLAG_IOPRIO;
				cb.aio_reqprio = best;
			}
			ASSERT_TRUE(way != HELD || hold(&h));
			ASSERT_EQ(1, submit_one(self->ctx, &cb));
			/* To become more urgent than it was. */
			ASSERT_TRUE(set_ioprio(i == 1 ? &idle : &best));
			ASSERT_TRUE(way != HELD || let_go(&h));
			ASSERT_TRUE(aio_wait_running(&self->env, 1));
			EXPECT_TRUE(aio_wait_for(for_workers(true, has_ioprio,
							     &want) == 1,
						 AIO_PATIENCE_MS)) {
				TH_LOG("%s, case %d", way_names[way], i);
			}
			ASSERT_EQ(1, write(fds[1], "i", 1));
			ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
			EXPECT_EQ(1, (long long)ev.res);
			close(fds[0]);
			close(fds[1]);
		}
	}
}

/* ---- huge pages ---- */

#define HUGE_SIZE	0x200000
#define HUGE_CURRENT	"hugetlb.2MB.current"
#define NR_HUGEPAGES	"/proc/sys/vm/nr_hugepages"

/* What a fault on a buffer takes. */
TEST_F_TIMEOUT(charge, hugetlb_cgroup, 60)
{
	struct subject *s = subject_new();
	const char *why;
	char *page;
	int fd;

	ASSERT_TRUE(!!s);
	why = groups_make("hugetlb");
	if (why)
		SKIP(return, "%s", why);
	ASSERT_TRUE(aio_put("huge", "h"));
	fd = open("huge", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, aio_write_text(NR_HUGEPAGES, "2"));
	for (s->way = CALL; s->way < NR_WAYS; s->way++) {
		page = mmap(NULL, HUGE_SIZE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
		ASSERT_NE(MAP_FAILED, page);
		s->group = GROUP_A;
		s->later = s->way == HELD ? GROUP_B : NULL;
		s->nr = 1;
		iocb_pread(&s->cbs[0], fd, page, 1, 0);
		ASSERT_TRUE(subject_start(s));
		EXPECT_EQ(1, s->res[0]);
		EXPECT_EQ(HUGE_SIZE,
			  group_get(GROUP_A, HUGE_CURRENT, NULL, "\n")) {
			TH_LOG("%s", way_names[s->way]);
		}
		EXPECT_EQ(0, group_get(GROUP_B, HUGE_CURRENT, NULL, "\n"));
		EXPECT_TRUE(subject_end());
		munmap(page, HUGE_SIZE);
		ASSERT_TRUE(groups_renew());
	}
	EXPECT_EQ(0, aio_write_text(NR_HUGEPAGES, "0"));
	EXPECT_EQ(0, aio_set_force_worker(0));
	close(fd);
	EXPECT_TRUE(groups_remove());
}

/* ---- the limit of a stack that a buffer makes grow ---- */

struct stack {
	enum way	way;
	rlim_t		limit;
	long long	want;
};

#define STACK_FAR	0x100000

static int stack_kid(struct kid *kid, void *arg)
{
	const struct stack *st = arg;
	struct rlimit limit = { st->limit, st->limit };
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);
	aio_context_t ctx = 0;
	struct iocb cb;
	long long res;
	int fd;

	(void)kid;
	fd = open("stack", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (!kid_ok(fd >= 0) || !kid_ok(write(fd, "stack", 5) == 5) ||
	    !kid_ok(!setrlimit(RLIMIT_STACK, &limit)) ||
	    !kid_ok(!sys_io_setup(1, &ctx)) || !way_set(st->way))
		return 1;
	/* Nobody has been so far down. */
	iocb_pread(&cb, fd, (void *)((here - STACK_FAR) & ~4095UL), 5, 0);
	res = run_one(st->way, ctx, &cb, NULL, NULL);
	if (!kid_ok(res == st->want))
		fprintf(stderr, "# %s, limit %llu: %lld, not %lld\n",
			way_names[st->way], (unsigned long long)st->limit, res,
			st->want);
	return res != st->want || !kid_ok(!sys_io_destroy(ctx));
}

TEST_F_TIMEOUT(charge, stack_limit, 60)
{
	struct stack st = {};

	for (st.way = CALL; st.way < NR_WAYS; st.way++) {
		st.limit = STACK_FAR / 2;
		st.want = -EFAULT;
		EXPECT_EQ(0, kid_run(stack_kid, &st));
		st.limit = 8 * STACK_FAR;
		st.want = 5;
		EXPECT_EQ(0, kid_run(stack_kid, &st));
	}
	EXPECT_EQ(0, aio_set_force_worker(0));
}

/* ---- protection keys ---- */

#ifdef PKEY_DISABLE_ACCESS

struct key {
	int		pkey;
	unsigned int	later;
	int		writer;		/* of a pipe that is read, or -1 */
};

static bool key_change(void *arg)
{
	struct key *k = arg;

	return !pkey_set(k->pkey, k->later) &&
	       (k->writer < 0 || write(k->writer, "pkeydata", 8) == 8);
}

TEST_F_TIMEOUT(charge, protection_keys, 60)
{
	static const unsigned int all[] = {
		0, PKEY_DISABLE_ACCESS, PKEY_DISABLE_WRITE,
	};
	long size = sysconf(_SC_PAGESIZE);
	struct key key = { .writer = -1 };
	int i, writing, fd, fds[2];
	long long res, want = 0;
	unsigned int before;
	struct iocb cb;
	enum way way;
	char *buf;

	key.pkey = pkey_alloc(0, 0);
	if (key.pkey < 0)
		SKIP(return, "no protection keys");
	buf = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(buf != MAP_FAILED);
	ASSERT_EQ(0, pkey_mprotect(buf, size, PROT_READ | PROT_WRITE,
				   key.pkey));
	fd = memfd_create("aio", MFD_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(8, pwrite(fd, "pkeydata", 8, 0));

	for (i = 0; i < 18; i++) {
		before = all[i % 3];
		key.later = all[i / 3 % 3];
		writing = i / 9;
		for (way = CALL; way <= ARMED; way++) {
			if (way == ARMED && writing)
				continue;
			ASSERT_TRUE(way_set(way));
			ASSERT_EQ(0, pipe2(fds, O_CLOEXEC));
			key.writer = way == ARMED ? fds[1] : -1;
			memset(buf, 'p', 8);
			if (writing)
				iocb_pwrite(&cb, fd, buf, 8, 8);
			else
				iocb_pread(&cb, way == ARMED ? fds[0] : fd, buf,
					   8, 0);
			pkey_set(key.pkey, before);
			res = run_one(way, self->ctx, &cb, key_change, &key);
			pkey_set(key.pkey, 0);
			if (way == CALL)
				want = res;
			EXPECT_EQ(want, res) {
				TH_LOG("%s, case %d", way_names[way], i);
			}
			EXPECT_EQ(0, memcmp(buf, res == 8 && !writing ?
					    "pkeydata" : "pppppppp", 8));
			close(fds[0]);
			close(fds[1]);
		}
		ASSERT_EQ(!before || (writing && before == PKEY_DISABLE_WRITE) ?
			  8 : -EFAULT, want);
	}
	close(fd);
	munmap(buf, size);
	pkey_free(key.pkey);
}

#endif /* PKEY_DISABLE_ACCESS */

/* ---- audit ---- */

#define LOGIN	4711

struct audit_packet {
	struct nlmsghdr	head;
	char		data[8192];
};

/* Returns the kernel's answer, 0 or -errno; for AUDIT_GET, whether it is on. */
static int audit_tell(int type, const void *data, size_t len)
{
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_AUDIT);
	static struct audit_packet p;
	int ret = -EIO;

	if (sock < 0)
		return -errno;
	memset(&p, 0, sizeof(p));
	p.head.nlmsg_len = NLMSG_LENGTH(len);
	p.head.nlmsg_type = type;
	p.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	if (len)
		memcpy(p.data, data, len);
	if (send(sock, &p, p.head.nlmsg_len, 0) < 0)
		ret = -errno;
	else if (recv(sock, &p, sizeof(p), 0) > 0 &&
		 p.head.nlmsg_type == NLMSG_ERROR)
		memcpy(&ret, p.data, sizeof(ret));
	if (!ret && type == AUDIT_GET && recv(sock, &p, sizeof(p), 0) > 0)
		ret = ((struct audit_status *)p.data)->enabled;
	close(sock);
	return ret;
}

static int audit_enable(int on)
{
	struct audit_status status = {
		.mask = AUDIT_STATUS_ENABLED, .enabled = on,
	};

	return audit_tell(AUDIT_SET, &status, sizeof(status));
}

/* A socket that gets a copy of every record, -1 if there is no audit. */
static int audit_listen(void)
{
	struct sockaddr_nl addr = {
		.nl_family = AF_NETLINK, .nl_groups = AUDIT_NLGRP_READLOG,
	};
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_AUDIT);

	if (sock >= 0 && bind(sock, (struct sockaddr *)&addr, sizeof(addr))) {
		close(sock);
		sock = -1;
	}
	return sock;
}

static long long audit_field(const char *record, const char *name)
{
	const char *at = strstr(record, name);

	return at ? atoll(at + strlen(name)) : -1;
}

/* Wait for the record of a link that was not followed. */
static bool audit_hear(int sock, struct audit_packet *p)
{
	struct pollfd pfd = { .fd = sock, .events = POLLIN };
	ssize_t len;

	do {
		if (poll(&pfd, 1, AIO_PATIENCE_MS) != 1)
			return false;
		memset(p, 0, sizeof(*p));
		len = recv(sock, p, sizeof(*p) - 1, 0);
	} while (len > 0 && p->head.nlmsg_type != AUDIT_ANOM_LINK);
	return len > 0;
}

static bool set_login(void *arg)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", *(int *)arg);
	return !aio_write_text("/proc/self/loginuid", text);
}

struct denied {
	enum way	way;
	long long	session;
};

/* Follows somebody's link, with a login id and a user id of its own. */
static int kid_denied(struct kid *kid, void *arg)
{
	int login = LOGIN, other = LOGIN + 1;
	struct denied *d = arg;
	aio_context_t ctx = 0;
	struct iocb cb;
	char text[16];

	(void)kid;
	if (!kid_ok(!sys_io_setup(1, &ctx)) || !run_before(ctx) ||
	    !kid_ok(set_login(&login)) ||
	    !kid_ok(aio_read_text("/proc/self/sessionid", text,
				  sizeof(text)) > 0) ||
	    !kid_ok(!setresuid(LOGIN, 0, 0)))
		return 1;
	d->session = atoll(text);
	iocb_openat(&cb, AT_FDCWD, "sticky/link", O_RDONLY, 0);
	return !kid_ok(run_one(d->way, ctx, &cb, set_login, &other) == -EACCES);
}

TEST_F_TIMEOUT(charge, audit_identity, 60)
{
	static const char links[] = "/proc/sys/fs/protected_symlinks";
	static struct audit_packet p;
	struct denied *d;
	char before[16];
	int sock, on;

	d = mmap(NULL, sizeof(*d), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(d != MAP_FAILED);
	sock = audit_listen();
	if (sock < 0)
		SKIP(return, "no audit");
	ASSERT_LT(0, aio_read_text(links, before, sizeof(before)));
	ASSERT_EQ(0, aio_write_text(links, "1"));
	on = audit_tell(AUDIT_GET, NULL, 0);
	ASSERT_LE(0, on);
	ASSERT_EQ(0, audit_enable(1));
	ASSERT_TRUE(aio_put("target", "target"));
	ASSERT_EQ(0, mkdir("sticky", 0));
	ASSERT_EQ(0, chmod("sticky", 01777));
	ASSERT_EQ(0, symlink("../target", "sticky/link"));
	ASSERT_EQ(0, lchown("sticky/link", NOBODY, NOBODY));
	for (d->way = CALL; d->way < NR_WAYS; d->way++) {
		ASSERT_TRUE(way_set(d->way));
		ASSERT_EQ(0, kid_run(kid_denied, d));
		ASSERT_TRUE(audit_hear(sock, &p)) {
			TH_LOG("%s", way_names[d->way]);
		}
		EXPECT_EQ(LOGIN, audit_field(p.data, " auid=")) {
			TH_LOG("%s: %s", way_names[d->way], p.data);
		}
		EXPECT_EQ(LOGIN, audit_field(p.data, " uid="));
		EXPECT_EQ(d->session, audit_field(p.data, " ses="));
	}
	EXPECT_EQ(0, audit_enable(on));
	EXPECT_EQ(0, aio_write_text(links, before));
	close(sock);
	munmap(d, sizeof(*d));
}

/*
 * A path operation of a thread whose system calls audit is recording is
 * recorded as the system call, by the same rules. Twice as many files as
 * operations: one for the system call, one for the request.
 */
#define AUDITED		54321
#define AUDIT_KEY	"aio_audited"
#define NR_AUDITED	4

static void audited_path(char *path, const char *what, enum way way)
{
	sprintf(path, "audited/%s%d", what, way != CALL);
}

static long long audited_call(int op, const char *path, const char *new)
{
	long ret;

	switch (op) {
	case 0:		/* fails */
	case 1:
		ret = syscall(__NR_openat, AT_FDCWD, path, O_RDONLY, 0);
		break;
	case 2:
		ret = syscall(__NR_renameat2, AT_FDCWD, path, AT_FDCWD, new,
			      RENAME_NOREPLACE);
		break;
	default:
		ret = syscall(__NR_unlinkat, AT_FDCWD, path, 0, 0);
	}
	return ret < 0 ? -errno : ret;
}

static long long audited_aio(aio_context_t ctx, int op, const char *path,
			     const char *new)
{
	struct renameat_info info;
	struct iocb cb;

	switch (op) {
	case 0:
	case 1:
		iocb_openat(&cb, AT_FDCWD, path, O_RDONLY, 0);
		break;
	case 2:
		iocb_renameat(&cb, &info, AT_FDCWD, path, AT_FDCWD, new,
			      RENAME_NOREPLACE);
		break;
	default:
		iocb_unlinkat(&cb, AT_FDCWD, path, 0);
	}
	return aio_run(ctx, &cb);
}

static int kid_audited(struct kid *kid, void *arg)
{
	static const char * const names[NR_AUDITED] = {
		"missing", "open", "rename", "unlink",
	};
	/* The same addresses, and the same numbers of descriptors. */
	static char path[32], new[32];
	int login = LOGIN, op;
	aio_context_t ctx = 0;
	long long res[2];
	enum way way;

	(void)kid;
	(void)arg;
	if (!kid_ok(!sys_io_setup(1, &ctx)) || !kid_ok(set_login(&login)) ||
	    !kid_ok(!setresuid(AUDITED, AUDITED, AUDITED)))
		return 1;
	for (op = 0; op < NR_AUDITED; op++) {
		for (way = CALL; way <= CALL + 1; way++) {
			audited_path(path, names[op], way);
			audited_path(new, "new", way);
			res[way != CALL] = way == CALL ?
				audited_call(op, path, new) :
				audited_aio(ctx, op, path, new);
			if (op == 1)
				close(res[way != CALL]);
		}
		if (!kid_ok(res[0] == res[1]) ||
		    !kid_ok(op ? res[0] >= 0 : res[0] == -ENOENT))
			return 2;
	}
	return 0;
}

/* A record without what differs between two system calls that are the same. */
static void audit_normalize(char *record)
{
	static const char * const drop[] = { "audit(", "inode=", "ppid=" };
	char *at, *end;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(drop); i++) {
		while ((at = strstr(record, drop[i]))) {
			end = at + strcspn(at, " ");
			memmove(at, end, strlen(end) + 1);
		}
	}
	/* Of two names the last character is not the same. */
	for (at = record; (at = strstr(at, "name=\"audited/")); at++) {
		end = strchr(at + 6, '"');
		if (end)
			end[-1] = '#';
	}
}

/* The records of one event, in one string; false if there are no more. */
static bool audit_event(int sock, struct audit_packet *p, char *event,
			size_t size)
{
	struct pollfd pfd = { .fd = sock, .events = POLLIN };
	bool within = false;
	size_t len = 0;

	event[0] = '\0';
	while (poll(&pfd, 1, AIO_PATIENCE_MS) == 1) {
		memset(p, 0, sizeof(*p));
		if (recv(sock, p, sizeof(*p) - 1, 0) <= 0)
			return false;
		if (p->head.nlmsg_type == AUDIT_SYSCALL)
			within = strstr(p->data, AUDIT_KEY);
		if (!within)
			continue;
		if (p->head.nlmsg_type == AUDIT_EOE)
			return true;
		audit_normalize(p->data);
		len += snprintf(event + len, size - len, "%d %s\n",
				p->head.nlmsg_type, p->data);
		if (len >= size)
			return false;
	}
	return false;
}

TEST_F_TIMEOUT(charge, audit_records, 60)
{
	static const char * const names[] = { "open", "rename", "unlink" };
	static const int calls[] = {
		__NR_openat, __NR_renameat2, __NR_unlinkat,
	};
	static struct {
		struct audit_rule_data	rule;
		char			key[sizeof(AUDIT_KEY)];
	} r = {
		.rule = {
			.flags = AUDIT_FILTER_EXIT, .action = AUDIT_ALWAYS,
			.field_count = 2, .fields = { AUDIT_UID, AUDIT_FILTERKEY },
			.values = { AUDITED, sizeof(AUDIT_KEY) - 1 },
			.fieldflags = { AUDIT_EQUAL, AUDIT_EQUAL },
			.buflen = sizeof(AUDIT_KEY) - 1,
		},
	};
	static char event[2][4096];
	static struct audit_packet p;
	int ret, on, op, sock = audit_listen();
	long long before;
	char path[32];
	size_t i;

	if (sock < 0)
		SKIP(return, "no audit");
	memcpy(r.rule.buf, AUDIT_KEY, sizeof(AUDIT_KEY) - 1);
	for (i = 0; i < ARRAY_SIZE(calls); i++)
		r.rule.mask[AUDIT_WORD(calls[i])] |= AUDIT_BIT(calls[i]);
	on = audit_tell(AUDIT_GET, NULL, 0);
	ASSERT_LE(0, on);
	ASSERT_EQ(0, audit_enable(1));
	ret = audit_tell(AUDIT_ADD_RULE, &r, sizeof(r.rule) + r.rule.buflen);
	if (ret) {
		audit_enable(on);
		SKIP(return, "no audit of system calls: %s", strerror(-ret));
	}
	ASSERT_EQ(0, chmod(".", 0755));
	ASSERT_EQ(0, mkdir("audited", 0));
	ASSERT_EQ(0, chmod("audited", 0777));
	for (i = 0; i < ARRAY_SIZE(names); i++) {
		audited_path(path, names[i], CALL);
		ASSERT_TRUE(aio_put(path, "content"));
		ASSERT_EQ(0, chmod(path, 0666));
		audited_path(path, names[i], CALL + 1);
		ASSERT_TRUE(aio_put(path, "content"));
		ASSERT_EQ(0, chmod(path, 0666));
	}
	before = aio_stat("submitter");
	EXPECT_EQ(0, kid_run(kid_audited, NULL));
	EXPECT_EQ(before + NR_AUDITED, aio_stat("submitter"));
	for (op = 0; op < NR_AUDITED; op++) {
		for (i = 0; i < 2; i++) {
			ASSERT_TRUE(audit_event(sock, &p, event[i],
						sizeof(event[i]))) {
				TH_LOG("operation %d, %zu: no record", op, i);
			}
		}
		EXPECT_EQ(0, strcmp(event[0], event[1])) {
			TH_LOG("the call:\n%s", event[0]);
			TH_LOG("the request:\n%s", event[1]);
		}
		EXPECT_NE(NULL, strstr(event[1], "auid=4711 uid=54321"));
		EXPECT_NE(NULL, strstr(event[1], "cwd="));
		EXPECT_NE(NULL, strstr(event[1], "nametype="));
	}
	EXPECT_EQ(0, audit_tell(AUDIT_DEL_RULE, &r,
				sizeof(r.rule) + r.rule.buflen));
	EXPECT_EQ(0, audit_enable(on));
	close(sock);
}

/* ---- fanotify ---- */

/* What has happened, or 0 if anybody else is said to have done it. */
static __u64 fanotify_events(int fan, pid_t want)
{
	struct fanotify_event_metadata *ev;
	__u64 buf[512], mask = 0;
	bool good = true;
	ssize_t len;

	while ((len = read(fan, buf, sizeof(buf))) > 0) {
		for (ev = (void *)buf; FAN_EVENT_OK(ev, len);
		     ev = FAN_EVENT_NEXT(ev, len)) {
			mask |= ev->mask;
			good &= kid_ok(ev->pid == want);
		}
	}
	return good ? mask : 0;
}

TEST_F_TIMEOUT(charge, fanotify_pid, 60)
{
	/* Reads and writes of AIO have never had events. */
	const __u64 all = FAN_OPEN | FAN_MODIFY | FAN_CREATE | FAN_DELETE;
	struct subject *s = subject_new();
	int i, fan, report_tid;
	enum way way;

	ASSERT_TRUE(!!s);
	ASSERT_EQ(0, mkdir("watched", 0755));
	for (report_tid = 0; report_tid < 2; report_tid++) {
		fan = fanotify_init(FAN_CLOEXEC | FAN_NONBLOCK |
				    FAN_REPORT_FID |
				    (report_tid ? FAN_REPORT_TID : 0), 0);
		if (fan < 0)
			SKIP(return, "no fanotify");
		for (way = CALL; way < NR_WAYS; way++) {
			ASSERT_TRUE(aio_put("watched/old", "old") &&
				    aio_put("watched/victim", "victim"));
			unlink("watched/new");
			ASSERT_EQ(0, fanotify_mark(fan, FAN_MARK_ADD, all |
						   FAN_EVENT_ON_CHILD,
						   AT_FDCWD, "watched"));
			s->way = way;
			s->thread = true;
			s->nr = 3;
			iocb_openat(&s->cbs[0], AT_FDCWD, "watched/new",
				    O_CREAT | O_CLOEXEC, 0600);
			iocb_openat(&s->cbs[1], AT_FDCWD, "watched/old",
				    O_WRONLY | O_TRUNC | O_CLOEXEC, 0);
			iocb_unlinkat(&s->cbs[2], AT_FDCWD, "watched/victim",
				      0);
			ASSERT_TRUE(subject_start(s));
			for (i = 0; i < s->nr; i++)
				EXPECT_LE(0, s->res[i]);
			EXPECT_EQ(all, fanotify_events(fan, report_tid ?
						s->tid : subject_kid.pid)) {
				TH_LOG("%s, pid of the %s", way_names[way],
				       report_tid ? "thread" : "process");
			}
			EXPECT_TRUE(subject_end());
			ASSERT_EQ(0, fanotify_mark(fan, FAN_MARK_FLUSH, 0,
						   AT_FDCWD, NULL));
		}
		close(fan);
	}
	munmap(s, sizeof(*s));
}

/* ---- 32-bit programs ---- */

/* These have to ask for it before they are given what they cannot measure. */
TEST_F_TIMEOUT(charge, compat, 60)
{
	const long long big = 3LL << 30;
	static const int flags[] = { 0, AIO_O_LARGEFILE };
	long long want, res;
	int fd, got[2];
	struct iocb cb;
	enum way way;
	size_t i;

	fd = open("big", O_WRONLY | O_CREAT | O_CLOEXEC | AIO_O_LARGEFILE, 0600);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, big));
	close(fd);
	ASSERT_TRUE(aio_put("small", "small"));
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		want = 0;
		for (way = CALL; way < NR_WAYS; way++) {
			ASSERT_TRUE(way_set(way));
			iocb_openat(&cb, AT_FDCWD, "big",
				    O_RDWR | O_CLOEXEC | flags[i], 0);
			res = run_one(way, self->ctx, &cb, NULL, NULL);
			got[0] = res < 0 ? 0 : fcntl(res, F_GETFL);
			if (res >= 0)
				close(res);
			if (way == CALL)
				want = res < 0 ? res : 0;
			EXPECT_EQ(want, res < 0 ? res : 0) {
				TH_LOG("%s", way_names[way]);
			}

			/* Nor may another one become as large as that. */
			iocb_openat(&cb, AT_FDCWD, "small",
				    O_RDWR | O_CLOEXEC | flags[i], 0);
			res = run_one(way, self->ctx, &cb, NULL, NULL);
			ASSERT_LE(0, res);
			got[1] = fcntl(res, F_GETFL);
			EXPECT_EQ(sizeof(long) == 8 || flags[i],
				  !!(got[1] & AIO_O_LARGEFILE));
			EXPECT_TRUE(want || got[0] == got[1]);
			close(res);
		}
		ASSERT_EQ(sizeof(long) == 8 || flags[i] ? 0 : -EOVERFLOW, want);
	}
}

/* ---- control files ---- */

static bool reads_as(enum way way, aio_context_t ctx, int fd, const char *text)
{
	static char buf[4096];
	struct iocb cb;

	memset(buf, 0, sizeof(buf));
	iocb_pread(&cb, fd, buf, sizeof(buf) - 1, 0);
	return kid_ok(run_one(way, ctx, &cb, NULL, NULL) > 0) &&
	       kid_ok(strstr(buf, text));
}

static long long writes(enum way way, aio_context_t ctx, int fd,
			const char *text)
{
	struct iocb cb;

	iocb_pwrite(&cb, fd, text, strlen(text), 0);
	return run_one(way, ctx, &cb, NULL, NULL);
}

/* Each depends on who asks, and when. */
static int kid_controls(struct kid *kid, void *arg)
{
	enum way way = *(enum way *)arg;
	int host, comm, procs, mounts;
	aio_context_t ctx = 0;
	long long count;
	char text[64];
	struct iocb cb;

	(void)kid;
	host = open("/proc/sys/kernel/hostname", O_RDWR | O_CLOEXEC);
	comm = open("/proc/self/comm", O_RDWR | O_CLOEXEC);
	procs = open(GROUP_A "/cgroup.procs", O_WRONLY | O_CLOEXEC);
	iocb_openat(&cb, AT_FDCWD, "/proc/self/mountinfo", O_RDONLY, 0);
	if (!kid_ok(!sys_io_setup(4, &ctx)))
		return 1;
	mounts = run_one(way, ctx, &cb, NULL, NULL);
	count = aio_stat("submitter");

	/* Whose namespaces, */
	if (!kid_ok(!unshare(CLONE_NEWUTS)) || sethostname("aio-charge", 10) ||
	    !reads_as(way, ctx, host, "aio-charge") || !kid_ok(mounts >= 0) ||
	    !reads_as(way, ctx, mounts, " aio-charge "))
		return 2;
	/* and whose control group. */
	if (procs >= 0 &&
	    (!kid_ok(writes(way, ctx, procs, "0") == 1) ||
	     !kid_ok(aio_read_text("/proc/self/cgroup", text,
				   sizeof(text)) > 0) ||
	     !kid_ok(strstr(text, "/aio-charge-a"))))
		return 3;
	if (!kid_ok(writes(way, ctx, host, "aio-gain") == 8))
		return 4;
	/* Nobody else has done any of that. */
	count = aio_stat("submitter") - count;
	if (!kid_ok(count == (way == CALL ? 0 : procs < 0 ? 3 : 4)))
		return 5;
	/* And whose rights, which are less than those it was opened with. */
	if (!kid_ok(!setresuid(NOBODY, NOBODY, NOBODY)) ||
	    !kid_ok(writes(way, ctx, host, "aio-loss") == -EPERM) ||
	    !reads_as(way, ctx, host, "aio-gain"))
		return 6;
	/* Without iterator methods it is not for AIO at all. */
	return !kid_ok(writes(way, ctx, comm, "charged") ==
		       (way == CALL ? 7 : AIO_REFUSED(EINVAL)));
}

TEST_F_TIMEOUT(charge, control_file_io, 60)
{
	const char *why = groups_make("memory");
	enum way way;

	if (why)
		TH_LOG("without control groups: %s", why);
	for (way = CALL; way < NR_WAYS; way++) {
		/* Nothing of this waits for a worker. */
		if (way == HELD)
			continue;
		ASSERT_TRUE(way_set(way));
		EXPECT_EQ(0, kid_run(kid_controls, &way)) {
			TH_LOG("%s", way_names[way]);
		}
	}
	if (!why)
		EXPECT_TRUE(groups_remove());
}

/* ---- terminals ---- */

/* Shared by the processes of a session. */
struct session {
	enum way	way;
	bool		writing;
	enum { CAUGHT, UNHEARD, ORPHAN, NR_TTY } how;
	long long	res;
	int		own;		/* signals to who asked */
	int		others;		/* and to another one of its group */
	bool		ready;
	bool		done;
};

static struct session *session;

static void on_sibling(int signo)
{
	(void)signo;
	__atomic_add_fetch(&session->others, 1, __ATOMIC_SEQ_CST);
}

/* In the background, together with another process. */
static int tty_background(int tty)
{
	int signo = session->writing ? SIGTTOU : SIGTTIN;
	struct session *s = session;
	aio_context_t ctx = 0;
	char line[8] = "output\n";
	struct iocb cb;
	pid_t sibling;

	if (setpgid(0, 0))
		return 20;
	sibling = fork();
	if (!sibling) {
		signal(signo, on_sibling);
		set(s->ready);
		for (;;)
			pause();
	}
	react(signo, s->how == UNHEARD ? IGNORED : HANDLED);
	if (!kid_ok(aio_wait_for(is_set(s->ready), AIO_PATIENCE_MS)) ||
	    !kid_ok(!sys_io_setup(1, &ctx)))
		return 21;
	/* Its parent, who kept it from being an orphan, is gone. */
	if (s->how == ORPHAN &&
	    !kid_ok(aio_wait_for(getsid(getppid()) != getsid(0),
				 AIO_PATIENCE_MS)))
		return 22;
	if (s->writing)
		iocb_pwrite(&cb, tty, line, 7, 0);
	else
		iocb_pread(&cb, tty, line, sizeof(line), 0);
	/* io_submit() itself may be what is interrupted. */
	s->res = aio_as_call(run_one(s->way, ctx, &cb, NULL, NULL));
	s->own = seen.count;
	if (s->how == CAUGHT)
		aio_wait_for(is_set(s->others), AIO_PATIENCE_MS);
	kill(sibling, SIGKILL);
	waitpid(sibling, NULL, 0);
	set(s->done);
	return 0;
}

static int tty_session(struct kid *kid, void *arg)
{
	int tty, status, master = *(int *)arg;
	struct termios t;
	pid_t pid;

	(void)kid;
	if (setsid() < 0)
		return 1;
	tty = open(ptsname(master), O_RDWR | O_CLOEXEC);
	if (tty < 0)
		return 2;
	ioctl(tty, TIOCSCTTY, 0);
	/* There is something to be had, and writers are to be stopped, too. */
	if (tcgetattr(tty, &t) || write(master, "input\n", 6) != 6)
		return 3;
	t.c_lflag |= TOSTOP;
	if (tcsetattr(tty, TCSANOW, &t) || tcgetpgrp(tty) != getpid())
		return 4;
	pid = fork();
	if (!pid && session->how == ORPHAN)
		_exit(setpgid(0, 0) || (!fork() && tty_background(tty)));
	if (!pid)
		_exit(tty_background(tty));
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return 6;
	if (!kid_ok(aio_wait_for(is_set(session->done), MANY_MS)))
		return 7;
	return WEXITSTATUS(status);
}

TEST_F_TIMEOUT(charge, terminal_job_control, 120)
{
	static const long long want[] = { -EINTR, -EIO, -EIO };
	struct session call = { 0 };
	int i, master, off = 0;
	long long expected;

	session = mmap(NULL, sizeof(*session), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(session != MAP_FAILED);
	for (i = 0; i < 2 * NR_TTY * 3; i++) {
		memset(session, 0, sizeof(*session));
		session->how = i / 3 % NR_TTY;
		session->writing = i / 3 / NR_TTY;
		session->way = i % 3 == 2 ? WORKER : i % 3;
		master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (master < 0)
			SKIP(return, "no pseudo terminals");
		ASSERT_EQ(0, ioctl(master, TIOCSPTLCK, &off));
		ASSERT_TRUE(way_set(session->way));
		ASSERT_EQ(0, kid_run(tty_session, &master));
		if (session->way == CALL)
			call = *session;
		/* Who does not care for SIGTTOU may write. */
		expected = session->writing && session->how == UNHEARD ?
			   7 : want[session->how];
		ASSERT_EQ(expected, call.res);
		EXPECT_EQ(call.res, session->res) {
			TH_LOG("%s %s, case %d", way_names[session->way],
			       session->writing ? "write" : "read",
			       session->how);
		}
		EXPECT_EQ(session->how == CAUGHT, session->own);
		EXPECT_EQ(session->how == CAUGHT, session->others);
		close(master);
	}
	munmap(session, sizeof(*session));
}

/* A job in the foreground, that is stopped while it reads. */
struct job {
	enum way	way;
	pid_t		pid;
	long long	res;
	char		line[16];
	bool		leads;
	bool		reads;
};

static struct job *job;

static int tty_job(int tty)
{
	aio_context_t ctx = 0;
	struct iocb cb;

	if (!kid_ok(!setpgid(0, 0)) || !kid_ok(!sys_io_setup(1, &ctx)))
		return 20;
	set(job->leads);
	if (!kid_ok(aio_wait_for(tcgetpgrp(tty) == getpid(), AIO_PATIENCE_MS)))
		return 21;
	iocb_pread(&cb, tty, job->line, sizeof(job->line), 0);
	set(job->reads);
	if (job->way == CALL)
		job->res = aio_ret(read(tty, job->line, sizeof(job->line)));
	else
		job->res = aio_as_call(run_one(job->way, ctx, &cb, NULL, NULL));
	return 0;
}

static int tty_shell(struct kid *kid, void *arg)
{
	int tty, status, master = *(int *)arg;
	char line[16] = "";
	pid_t pid;

	(void)kid;
	signal(SIGTTOU, SIG_IGN);
	if (!kid_ok(setsid() >= 0))
		return 1;
	tty = open(ptsname(master), O_RDWR | O_CLOEXEC);
	if (!kid_ok(tty >= 0))
		return 2;
	ioctl(tty, TIOCSCTTY, 0);
	pid = fork();
	if (!pid)
		_exit(tty_job(tty));
	/* It waits for a line. */
	if (!kid_ok(aio_wait_for(is_set(job->leads), AIO_PATIENCE_MS)) ||
	    !kid_ok(!tcsetpgrp(tty, pid)) ||
	    !kid_ok(aio_wait_for(is_set(job->reads), AIO_PATIENCE_MS)) ||
	    !kid_ok(aio_wait_asleep(pid, AIO_PATIENCE_MS)))
		return 3;
	if (!kid_ok(!kill(pid, SIGSTOP)) ||
	    !kid_ok(waitpid(pid, &status, WUNTRACED) == pid) ||
	    !kid_ok(WIFSTOPPED(status)) || !kid_ok(!tcsetpgrp(tty, getpid())))
		return 4;
	/* What is typed now is for the shell. */
	if (!kid_ok(write(master, "secret\n", 7) == 7) ||
	    !kid_ok(write(master, "second\n", 7) == 7) ||
	    !kid_ok(read(tty, line, sizeof(line)) == 7) ||
	    !kid_ok(!memcmp(line, "secret\n", 7)) || !kid_ok(!job->line[0]))
		return 5;
	kill(pid, SIGKILL);
	return kid_ok(waitpid(pid, &status, 0) == pid) ? 0 : 6;
}

TEST_F_TIMEOUT(charge, terminal_of_stopped_job, 120)
{
	static const enum way ways[] = { CALL, AT_ONCE, WORKER };
	int master, off = 0;
	size_t i;

	job = mmap(NULL, sizeof(*job), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(job != MAP_FAILED);
	for (i = 0; i < ARRAY_SIZE(ways); i++) {
		memset(job, 0, sizeof(*job));
		job->way = ways[i];
		master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (master < 0)
			SKIP(return, "no pseudo terminals");
		ASSERT_EQ(0, ioctl(master, TIOCSPTLCK, &off));
		ASSERT_TRUE(way_set(job->way));
		EXPECT_EQ(0, kid_run(tty_shell, &master)) {
			TH_LOG("%s", way_names[job->way]);
		}
		close(master);
	}
	munmap(job, sizeof(*job));
}

/* ---- those who come next ---- */

#define ROUNDS	200
#define USER_A	1000

/* Make a file, and write where only some may: gives what came of it. */
static long long one_round(aio_context_t ctx, const char *name,
			   struct stat *st)
{
	struct iocb cb;
	long long fd, res;

	iocb_openat(&cb, AT_FDCWD, name, O_CREAT | O_RDWR | O_CLOEXEC, 0666);
	fd = aio_run(ctx, &cb);
	if (!kid_ok(fd >= 0) || !kid_ok(!fstat(fd, st)))
		return fd;
	iocb_pwrite(&cb, fd, bytes, 4096, LIMIT);
	res = aio_run(ctx, &cb);
	iocb_unlinkat(&cb, AT_FDCWD, name, 0);
	aio_run(ctx, &cb);
	close(fd);
	return res;
}

/* A has everything that a request can have. */
static int kid_of_a(struct kid *kid, void *arg)
{
	int login = LOGIN, idle = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0);
	rlim_t limit = LIMIT;
	aio_context_t ctx = 0;
	struct stat st;

	if (arg && !kid_ok(group_join(GROUP_A)))
		return 1;
	if (!access("/proc/self/loginuid", F_OK) && !kid_ok(set_login(&login)))
		return 2;
	umask(077);
	signal(SIGXFSZ, SIG_IGN);
	if (!kid_ok(!sys_io_setup(4, &ctx)) || !kid_ok(set_limit(&limit)) ||
	    !kid_ok(set_ioprio(&idle)) ||
	    !kid_ok(!unshare(CLONE_NEWUTS | CLONE_NEWNS)) ||
	    !kid_ok(!setresgid(USER_A, USER_A, USER_A)) ||
	    !kid_ok(!setresuid(USER_A, USER_A, USER_A)))
		return 3;
	while (parent_hear(kid) == 'g') {
		one_round(ctx, "a", &st);
		if (!parent_tell(kid, "d"))
			return 4;
	}
	return 0;
}

/* Has it what every kernel thread has from the one that all come from? */
static bool is_unclean(pid_t pid, void *arg)
{
	static const char * const files[] = {
		"loginuid", "sessionid", "cgroup", "ns/mnt", "ns/uts", "root",
		"cwd", "status",
	};
	/* Of the last, which is different in others. */
	static const char * const lines[] = {
		"\nUmask:", "\nUid:", "\nGid:", "\nGroups:", "\nSigPnd:",
		"\nShdPnd:", "\nCapEff:", "\nSeccomp:",
	};
	char path[64], text[2][8192], *at[2];
	bool good = true;
	size_t i;
	int j;

	(void)arg;
	for (i = 0; i < ARRAY_SIZE(files); i++) {
		memset(text, 0, sizeof(text));
		for (j = 0; j < 2; j++) {
			snprintf(path, sizeof(path), "/proc/%d/%s",
				 j ? pid : 2, files[i]);
			if (readlink(path, text[j], sizeof(text[j]) - 1) < 0)
				aio_read_text(path, text[j], sizeof(text[j]));
		}
		if (i < ARRAY_SIZE(files) - 1)
			good &= kid_ok(!strcmp(text[0], text[1]));
	}
	for (i = 0; i < ARRAY_SIZE(lines); i++) {
		for (j = 0; j < 2; j++) {
			at[j] = strstr(text[j], lines[i]);
			if (at[j])
				at[j] = strndup(at[j], strcspn(at[j] + 1, "\n"));
		}
		good &= !at[0] || (kid_ok(at[1]) &&
				   kid_ok(!strcmp(at[0], at[1])));
		free(at[0]);
		free(at[1]);
	}
	return !good;
}

TEST_F_TIMEOUT(charge, worker_is_clean, 300)
{
	int idle = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0), before, i;
	const char *why = groups_make("io");
	long long dying = 0;
	struct stat st;
	struct kid kid;

	if (why)
		TH_LOG("without control groups: %s", why);
	else
		dying = group_get("cgroup", "cgroup.stat", NULL,
				  "\nnr_dying_subsys_io ");
	ASSERT_TRUE(way_set(WORKER));
	/* One for each of the two, which take turns. */
	ASSERT_EQ(0, aio_write_text(AIO_MAX_WORKERS, "1"));
	before = for_workers(false, has_ioprio, &idle);
	ASSERT_TRUE(kid_start(&kid, kid_of_a, why ? NULL : "group"));
	for (i = 0; i < ROUNDS; i++) {
		ASSERT_TRUE(kid_tell(&kid, "g"));
		/* One after the other, or both at a time. */
		if (i % 2)
			ASSERT_EQ('d', kid_hear(&kid));
		ASSERT_EQ(4096, one_round(self->ctx, "b", &st)) {
			TH_LOG("round %d", i);
		}
		ASSERT_EQ(0, st.st_uid | st.st_gid);
		ASSERT_EQ(0666, st.st_mode & 07777);
		if (!(i % 2))
			ASSERT_EQ('d', kid_hear(&kid));
	}
	ASSERT_TRUE(kid_tell(&kid, "g"));
	ASSERT_EQ('d', kid_hear(&kid));
	ASSERT_TRUE(wait_stat("running", "==", self->env.running,
			      AIO_PATIENCE_MS));
	EXPECT_EQ(0, for_workers(false, is_unclean, NULL));
	EXPECT_TRUE(aio_wait_for(for_workers(false, has_ioprio, &idle) ==
				 before, AIO_PATIENCE_MS));

	kid_tell(&kid, "e");
	EXPECT_EQ(0, kid_wait(&kid));
	if (why)
		return;
	/* A worker that still acted for A would keep its group. */
	EXPECT_TRUE(groups_renew());
	EXPECT_TRUE(aio_wait_for(group_get("cgroup", "cgroup.stat", NULL,
					   "\nnr_dying_subsys_io ") <= dying,
				 AIO_PATIENCE_MS));
	EXPECT_TRUE(groups_remove());
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "--privileged"))
		return privileged(atoi(argv[2]), atoi(argv[3]));
	return test_harness_run(argc, argv);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Requests that stand for a system call, under seccomp filters: open, unlink,
 * rename and readahead. The filters of the submitting thread judge each as that
 * system call, at io_submit(), and what they say is the request's result. So
 * what a filter does to the blocking call is what the event must have, only
 * that nobody is signalled, stopped, asked or killed.
 *
 * A filter cannot be taken off again: each trial is a child process.
 */
#include "../kselftest_harness.h"
#include "aio_ops.h"
#include "aio_seccomp_profile.h"

#include <stddef.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <sys/eventfd.h>
#include <sys/ptrace.h>
#include <sys/socket.h>

#define EVENTS		64
#define SIZE		10000		/* of "file", which is read ahead */
#define DENIED		77		/* no error of any file system */

/* Descriptors whose numbers filters know. */
#define DIR_FD		100
#define FILE_FD		101
#define PIPE_FD		102
#define NO_FD		999

/* What seccomp_data.arch is here, 0 where this does not know. */
#if defined(__x86_64__) && !defined(__ILP32__)
#define NATIVE_ARCH	AUDIT_ARCH_X86_64
#elif defined(__i386__)
#define NATIVE_ARCH	AUDIT_ARCH_I386
#elif defined(__aarch64__) && defined(__AARCH64EL__)
#define NATIVE_ARCH	AUDIT_ARCH_AARCH64
#else
#define NATIVE_ARCH	0
#endif

/* ---- filters ---- */

#define DATA(field)	offsetof(struct seccomp_data, field)

/* The halves of a value of 64 bits. */
#if __BYTE_ORDER == __LITTLE_ENDIAN
#define LOW		0
#define HIGH		4
#else
#define LOW		4
#define HIGH		0
#endif

#define MAX_INSNS	1024

struct filter {
	unsigned short		len;
	struct sock_filter	insns[MAX_INSNS];
};

static void add(struct filter *f, int code, __u32 k, int jt, int jf)
{
	if (f->len == MAX_INSNS)
		abort();
	f->insns[f->len++] = (struct sock_filter)BPF_JUMP(code, k, jt, jf);
}

static void add_load(struct filter *f, __u32 offset)
{
	add(f, BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
}

static void add_return(struct filter *f, __u32 action)
{
	add(f, BPF_RET | BPF_K, action, 0, 0);
}

/* Of what was loaded: end with @action if it is, or is not, @value. */
static void add_if(struct filter *f, __u32 value, __u32 action)
{
	add(f, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
	add_return(f, action);
}

static void add_unless(struct filter *f, __u32 value, __u32 action)
{
	add(f, BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0);
	add_return(f, action);
}

/* Returns 0, a descriptor if @flags ask for one, or -errno. */
static int install(const struct filter *f, unsigned int flags)
{
	struct sock_fprog prog = {
		.len = f->len,
		.filter = (struct sock_filter *)f->insns,
	};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return aio_ret(syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, flags,
			       &prog));
}

/* The system calls that requests stand for. */
enum { OPEN, UNLINK, RENAME, READAHEAD, NR_OPS };

static const int op_nr[NR_OPS] = {
	[OPEN]		= __NR_openat,
	[UNLINK]	= __NR_unlinkat,
	[RENAME]	= __NR_renameat2,
	[READAHEAD]	= __NR_readahead,
};

/* Which of them it is, or NR_OPS. */
static int op_of(int nr)
{
	int op;

	for (op = 0; op < NR_OPS && nr != op_nr[op]; op++)
		;
	return op;
}

#define DENY	(SECCOMP_RET_ERRNO | DENIED)

/* A filter that says the same of all four, and lets everything else be. */
static int judge(__u32 action, unsigned int flags)
{
	struct filter f = {};
	int op;

	add_load(&f, DATA(nr));
	for (op = 0; op < NR_OPS; op++)
		add_if(&f, op_nr[op], action);
	add_return(&f, SECCOMP_RET_ALLOW);
	return install(&f, flags);
}

static bool deny(void)
{
	return kid_ok(!judge(DENY, 0));
}

/* ---- calls, to be made and to be requested ---- */

#define RAN	1000000LL		/* the result of what is let be */

struct call {
	int		op;
	int		dir;		/* or the file to be read ahead */
	const char	*name;
	int		to_dir;
	const char	*to;
	__u32		flags;
	__u32		mode;
	__u64		offset;
	__u64		count;
};

static const struct call calls[] = {
	{ OPEN, AT_FDCWD, "file", .flags = O_RDONLY | O_CLOEXEC },
	{ READAHEAD, FILE_FD, .count = SIZE },
	{ OPEN, AT_FDCWD, "made", .flags = O_CREAT | O_WRONLY | O_CLOEXEC,
	  .mode = 0600 },
	{ UNLINK, AT_FDCWD, "victim", .flags = 0 },
	{ RENAME, AT_FDCWD, "old", AT_FDCWD, "new", .flags = 0 },
};

#define NR_CALLS	((int)ARRAY_SIZE(calls))
#define NR_AT_ONCE	2		/* need no worker, the first ones */

/* The arguments as libc passes them. Returns how many there are. */
static int call_args(const struct call *c, __u64 args[6])
{
	int nr = 0;

	args[nr++] = (__u32)c->dir;
	if (c->op == READAHEAD) {
#if __SIZEOF_LONG__ == 4
		/* Some architectures have pairs of registers, not i386. */
		args[nr++] = (__u32)c->offset;
		args[nr++] = c->offset >> 32;
#else
		args[nr++] = c->offset;
#endif
		args[nr++] = c->count;
		return nr;
	}
	args[nr++] = (uintptr_t)c->name;
	if (c->op == RENAME) {
		args[nr++] = (__u32)c->to_dir;
		args[nr++] = (uintptr_t)c->to;
	}
	args[nr++] = c->flags;
	if (c->op == OPEN)
		args[nr++] = c->mode;
	return nr;
}

static long call_make(const struct call *c)
{
	__u64 args[6] = {};

	if (c->op == READAHEAD)
		return aio_ret(readahead(c->dir, c->offset, c->count));
	call_args(c, args);
	return aio_ret(syscall(op_nr[c->op], (long)args[0], (long)args[1],
			       (long)args[2], (long)args[3], (long)args[4]));
}

static void call_prep(const struct call *c, struct iocb *cb,
		      struct renameat_info *info)
{
	switch (c->op) {
	case OPEN:
		iocb_openat(cb, c->dir, c->name, c->flags, c->mode);
		break;
	case UNLINK:
		iocb_unlinkat(cb, c->dir, c->name, c->flags);
		break;
	case RENAME:
		iocb_renameat(cb, info, c->dir, c->name, c->to_dir, c->to,
			      c->flags);
		break;
	default:
		iocb_readahead(cb, c->dir, c->count, c->offset);
	}
}

static long long call_request(aio_context_t ctx, const struct call *c)
{
	struct renameat_info info;
	struct iocb cb;

	call_prep(c, &cb, &info);
	return aio_run(ctx, &cb);
}

/* ---- two trees, one for calls and one for requests ---- */

enum { CALLED, REQUESTED, NR_TREES };

static const char * const trees[NR_TREES] = { "called", "requested" };

/* Make both as they are to be found. */
static bool trees_make(void)
{
	static char data[SIZE + 1];
	int i;

	memset(data, 'f', SIZE);
	for (i = 0; i < NR_TREES; i++) {
		if ((mkdir(trees[i], 0755) && errno != EEXIST) ||
		    chdir(trees[i]))
			return false;
		unlink("made");
		unlink("new");
		if (!aio_put("file", data) || !aio_put("victim", "victim") ||
		    !aio_put("old", "old") || !aio_put("other", "other") ||
		    (mkdir("empty", 0755) && errno != EEXIST) || chdir(".."))
			return false;
	}
	return true;
}

/* What a child works with. */
struct stage {
	struct kid	*kid;
	void		*arg;
	aio_context_t	ctx;
	int		dir[NR_TREES];
	int		file[NR_TREES];
};

static bool stage_open(struct stage *s)
{
	char path[32];
	int i;

	for (i = 0; i < NR_TREES; i++) {
		snprintf(path, sizeof(path), "%s/file", trees[i]);
		s->dir[i] = open(trees[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
		s->file[i] = open(path, O_RDWR | O_CLOEXEC);
		if (!kid_ok(s->dir[i] >= 0) || !kid_ok(s->file[i] >= 0))
			return false;
	}
	return kid_ok(!sys_io_setup(EVENTS, &s->ctx));
}

struct job {
	bool	(*fn)(struct stage *s);
	void	*arg;
};

static int job_kid(struct kid *kid, void *arg)
{
	struct job *job = arg;
	struct stage s = { .kid = kid, .arg = job->arg };

	return !(stage_open(&s) && job->fn(&s));
}

/* Run @fn in a child; gives what it gave, and false if it came to harm. */
static bool staged(bool (*fn)(struct stage *s), void *arg)
{
	struct job job = { fn, arg };

	return trees_make() && !kid_run(job_kid, &job);
}

/* From now on calls are about that tree. */
static bool enter(const struct stage *s, int tree)
{
	return kid_ok(!fchdir(s->dir[tree])) &&
	       kid_ok(dup2(s->dir[tree], DIR_FD) == DIR_FD) &&
	       kid_ok(dup2(s->file[tree], FILE_FD) == FILE_FD);
}

static bool is_there(const struct stage *s, int tree, const char *name)
{
	return !faccessat(s->dir[tree], name, F_OK, 0);
}

/* The number that the next descriptor gets; no open is needed to know it. */
static int free_fd(void)
{
	int fd = dup(DIR_FD);

	close(fd);
	return fd;
}

static bool opened(const struct call *c, long long fd)
{
	struct stat st;
	bool good = fd >= 0 && !fstat(fd, &st) &&
		    st.st_size == (c->flags & O_CREAT ? 0 : SIZE);

	if (fd >= 0)
		close(fd);
	return good;
}

/* What is there to be read ahead. */
static long long bytes(const struct call *c)
{
	if (c->op != READAHEAD || c->offset >= SIZE)
		return 0;
	return c->count < SIZE - c->offset ? c->count : SIZE - c->offset;
}

/* Has the call had this result, and has been done what that says? */
static bool went(const struct stage *s, int tree, const struct call *c,
		 long long res, long long expect)
{
	bool good, ran = expect == RAN;

	if (!ran)
		good = res == expect;
	else if (c->op == OPEN)
		good = opened(c, res);
	else
		good = res == (tree == REQUESTED ? bytes(c) : 0);
	if (c->op == UNLINK || (c->op == RENAME && c->flags <= 1))
		good &= is_there(s, tree, c->name) == !ran;
	if (c->op == OPEN && c->flags & O_CREAT)
		good &= is_there(s, tree, c->name) == ran;
	if (c->op == RENAME && c->flags <= 1)
		good &= is_there(s, tree, c->to) == ran;
	if (!good)
		fprintf(stderr, "# %s: %d %d flags %o mode %o: %lld, not %lld\n",
			trees[tree], c->op, c->dir, c->flags, c->mode, res,
			expect);
	return good;
}

static bool called(const struct stage *s, const struct call *c,
		   long long expect)
{
	return enter(s, CALLED) && went(s, CALLED, c, call_make(c), expect);
}

/* Nothing but the event may be seen of one that is denied. */
static bool requested(const struct stage *s, const struct call *c,
		      long long expect)
{
	int fd;

	if (!enter(s, REQUESTED))
		return false;
	fd = free_fd();
	return went(s, REQUESTED, c, call_request(s->ctx, c), expect) &
	       kid_ok(free_fd() == fd) & kid_ok(aio_no_event(s->ctx));
}

static bool both(const struct stage *s, const struct call *c, long long expect)
{
	return called(s, c, expect) & requested(s, c, expect);
}

/* The same for each call. */
static bool each(const struct stage *s,
		 bool (*fn)(const struct stage *s, const struct call *c,
			    long long expect), long long expect)
{
	bool good = true;
	int i;

	for (i = 0; i < NR_CALLS; i++)
		good &= fn(s, &calls[i], expect);
	return good;
}

/* ---- surroundings ---- */

struct place {
	struct aio_env	env;
	long long	aio_nr;
	char		top[32];
};

/* A new file system, which becomes the working directory. */
static void setup(struct __test_metadata *_metadata, struct place *p,
		  bool force)
{
	__u32 action = SECCOMP_RET_ERRNO;

	if (syscall(__NR_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action))
		SKIP(_exit(0), "no seccomp filters");
	AIO_SETUP(&p->env, true, force, 1);
	p->aio_nr = aio_fs_aio_nr();
	ASSERT_LE(0, p->aio_nr);
	strcpy(p->top, "/tmp/aio-seccomp-XXXXXX");
	ASSERT_EQ(0, unshare(CLONE_NEWNS));
	ASSERT_EQ(0, mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	ASSERT_TRUE(!!mkdtemp(p->top));
	ASSERT_EQ(0, mount("aio", p->top, "tmpfs", 0, NULL));
	ASSERT_EQ(0, chdir(p->top));
	ASSERT_TRUE(trees_make());
}

static bool teardown(struct place *p)
{
	bool good = kid_ok(aio_all_gone(&p->env, p->aio_nr));

	/* What a request used may be put back a little after its event. */
	good &= kid_ok(!chdir("/")) &&
		kid_ok(aio_wait_for(!umount2(p->top, 0), AIO_PATIENCE_MS)) &&
		kid_ok(!rmdir(p->top));
	return good & kid_ok(!aio_env_end(&p->env));
}

FIXTURE(seccomp)
{
	struct place place;
};

FIXTURE_VARIANT(seccomp)
{
	bool force;
};

FIXTURE_VARIANT_ADD(seccomp, as_tried)
{
	.force = false,
};

FIXTURE_VARIANT_ADD(seccomp, forced)
{
	.force = true,
};

FIXTURE_SETUP(seccomp)
{
	setup(_metadata, &self->place, variant->force);
}

FIXTURE_TEARDOWN(seccomp)
{
	EXPECT_TRUE(teardown(&self->place));
}

/* ---- what a filter can say ---- */

/* Filters, in the order of their installation, and what comes of them. */
struct trial {
	__u32		actions[4];
	int		nr;
	long long	expect;
};

static bool trial_install(const struct trial *t)
{
	int i;

	for (i = 0; i < t->nr; i++)
		if (!kid_ok(!judge(t->actions[i], 0)))
			return false;
	return true;
}

static bool try_both(struct stage *s)
{
	const struct trial *t = s->arg;

	return trial_install(t) && each(s, both, t->expect);
}

static void try(struct __test_metadata *_metadata,
		bool (*fn)(struct stage *s), struct trial *t, int nr)
{
	for (; nr; nr--, t++)
		EXPECT_TRUE(staged(fn, t)) {
			TH_LOG("%d actions %x %x %x %x", t->nr, t->actions[0],
			       t->actions[1], t->actions[2], t->actions[3]);
		}
}

TEST_F(seccomp, allow)
{
	struct trial trial = { { SECCOMP_RET_ALLOW }, 1, RAN };
	int at_once = variant->force ? 0 : NR_AT_ONCE;
	struct aio_counts before, c;

	aio_counts_get(&before);
	try(_metadata, try_both, &trial, 1);
	aio_counts_settle(&before, NR_CALLS, &c);
	/* They take the ways that they take without filters. */
	EXPECT_EQ(at_once, c.at_once);
	EXPECT_EQ(NR_CALLS - at_once, c.worker);
}

TEST_F(seccomp, log)
{
	struct trial trial = { { SECCOMP_RET_LOG | 7 }, 1, RAN };

	try(_metadata, try_both, &trial, 1);
}

TEST_F_TIMEOUT(seccomp, error_numbers, 120)
{
	/* Among them what means something else inside of the kernel. */
	static const int errors[] = {
		0, EPERM, EINTR, EAGAIN, EFAULT, EINVAL, DENIED, ECANCELED,
		512, 513, 514, 516, 517, 519, 528, 529, 530, 4094, 4095, 4096,
		4097, 0xffff
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(errors); i++) {
		struct trial trial = {
			{ SECCOMP_RET_ERRNO | errors[i] }, 1,
			-(errors[i] > 4095 ? 4095 : errors[i]),
		};

		try(_metadata, try_both, &trial, 1);
	}
}

/* All of a thread's filters are asked, and the least permissive counts. */
TEST_F_TIMEOUT(seccomp, several_filters, 120)
{
	struct trial trials[] = {
		{ { SECCOMP_RET_ALLOW, SECCOMP_RET_ALLOW }, 2, RAN },
		{ { SECCOMP_RET_LOG, SECCOMP_RET_ALLOW }, 2, RAN },
		{ { SECCOMP_RET_ALLOW, SECCOMP_RET_LOG }, 2, RAN },
		{ { DENY, SECCOMP_RET_ALLOW, SECCOMP_RET_LOG }, 3, -DENIED },
		{ { SECCOMP_RET_ALLOW, DENY, SECCOMP_RET_ALLOW }, 3, -DENIED },
		{ { SECCOMP_RET_LOG, SECCOMP_RET_ALLOW, DENY }, 3, -DENIED },
		{ { DENY, SECCOMP_RET_TRACE | 3 }, 2, -DENIED },
		{ { SECCOMP_RET_TRACE | 3, DENY }, 2, -DENIED },
		{ { DENY, SECCOMP_RET_USER_NOTIF }, 2, -DENIED },
		/* Of the same action, the latest. */
		{ { SECCOMP_RET_ERRNO | 5, SECCOMP_RET_ERRNO | 3 }, 2, -3 },
		{ { SECCOMP_RET_ERRNO | 3, SECCOMP_RET_ERRNO | 5 }, 2, -5 },
		{ { SECCOMP_RET_ERRNO | 0, DENY, SECCOMP_RET_ERRNO | 0,
		    SECCOMP_RET_ALLOW }, 4, 0 },
	};

	try(_metadata, try_both, trials, ARRAY_SIZE(trials));
}

static int sigsys_seen;

static void sigsys(int sig)
{
	sigsys_seen += sig == SIGSYS;
}

/* The blocking call ends the process; the requests only fail. */
static bool try_deadly(struct stage *s)
{
	int i, status;
	pid_t pid;

	signal(SIGSYS, sigsys);
	if (!trial_install(s->arg) || !each(s, requested, -EPERM) ||
	    !kid_ok(!sigsys_seen))
		return false;
	signal(SIGSYS, SIG_DFL);
	for (i = 0; i < NR_CALLS; i++) {
		pid = fork();
		if (!pid) {
			call_make(&calls[i]);
			_exit(0);
		}
		if (!kid_ok(waitpid(pid, &status, 0) == pid) ||
		    !kid_ok(WIFSIGNALED(status)) ||
		    !kid_ok(WTERMSIG(status) == SIGSYS))
			return false;
	}
	return true;
}

TEST_F_TIMEOUT(seccomp, trap_and_kill, 120)
{
	struct trial trials[] = {
		{ { SECCOMP_RET_TRAP }, 1, -EPERM },
		{ { SECCOMP_RET_TRAP | DENIED }, 1, -EPERM },
		{ { SECCOMP_RET_KILL_THREAD }, 1, -EPERM },
		{ { SECCOMP_RET_KILL_PROCESS }, 1, -EPERM },
		{ { SECCOMP_RET_KILL_PROCESS | DENIED }, 1, -EPERM },
		/* Actions that nobody knows, which kill the process. */
		{ { 0x00010000U | DENIED }, 1, -EPERM },
		{ { 0x7ffe0000U }, 1, -EPERM },
		{ { DENY, SECCOMP_RET_TRAP, SECCOMP_RET_ALLOW }, 3, -EPERM },
		{ { SECCOMP_RET_KILL_PROCESS, DENY }, 2, -EPERM },
		{ { SECCOMP_RET_LOG, SECCOMP_RET_KILL_THREAD, DENY }, 3,
		  -EPERM },
	};

	try(_metadata, try_deadly, trials, ARRAY_SIZE(trials));
}

/* ---- tracers and listeners ---- */

#define TRACE_DATA	0x1234

static bool untraced(struct stage *s)
{
	struct stat st;

	return kid_ok(!judge(SECCOMP_RET_TRACE | TRACE_DATA, 0)) &&
	       each(s, requested, -EPERM) && enter(s, CALLED) &&
	       /* The call does not exist, for want of a tracer. */
	       kid_ok(call_make(&calls[3]) < 0) &&
	       kid_ok(!fstatat(DIR_FD, calls[3].name, &st, 0));
}

TEST_F(seccomp, trace_without_tracer)
{
	EXPECT_TRUE(staged(untraced, NULL));
}

/* Sets what s->arg points to when there is nothing but the call to come. */
static bool traced(struct stage *s)
{
	bool good;

	if (!kid_ok(parent_hear(s->kid)) ||
	    !kid_ok(!judge(SECCOMP_RET_TRACE | TRACE_DATA, 0)))
		return false;
	good = each(s, requested, -EPERM);
	__atomic_store_n((int *)s->arg, 1, __ATOMIC_SEQ_CST);
	return good & called(s, &calls[0], RAN);
}

TEST_F(seccomp, trace_with_tracer)
{
	struct job job = { .fn = traced };
	unsigned long data = 0;
	siginfo_t info = {};
	struct kid kid;
	int *done, stops = 0;

	done = mmap(NULL, sizeof(*done), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(done != MAP_FAILED);
	job.arg = done;
	ASSERT_TRUE(kid_start(&kid, job_kid, &job));
	ASSERT_EQ(0, ptrace(PTRACE_SEIZE, kid.pid, NULL,
			    PTRACE_O_TRACESECCOMP));
	ASSERT_TRUE(kid_tell(&kid, "t"));
	while (!waitid(P_PID, kid.pid, &info, WEXITED | WSTOPPED | WNOWAIT) &&
	       info.si_code == CLD_TRAPPED) {
		EXPECT_EQ(SIGTRAP | PTRACE_EVENT_SECCOMP << 8, info.si_status);
		EXPECT_EQ(0, ptrace(PTRACE_GETEVENTMSG, kid.pid, NULL, &data));
		EXPECT_EQ(TRACE_DATA, data);
		EXPECT_EQ(1, __atomic_load_n(done, __ATOMIC_SEQ_CST)) {
			TH_LOG("stopped by a request");
		}
		stops++;
		ASSERT_EQ(0, ptrace(PTRACE_CONT, kid.pid, NULL, NULL));
	}
	EXPECT_EQ(0, kid_wait(&kid));
	EXPECT_EQ(1, stops);
	munmap(done, sizeof(*done));
}

static bool suspended(struct stage *s)
{
	return kid_ok(parent_hear(s->kid)) && deny() && each(s, both, RAN);
}

/* Checkpoint and restore has its tracer switch all filters off. */
TEST_F(seccomp, suspended_by_tracer)
{
	struct job job = { .fn = suspended };
	struct kid kid;
	int ret;

	ASSERT_TRUE(kid_start(&kid, job_kid, &job));
	ret = aio_ret(ptrace(PTRACE_SEIZE, kid.pid, NULL,
			     PTRACE_O_SUSPEND_SECCOMP));
	if (ret) {
		kill(kid.pid, SIGKILL);
		kid_wait(&kid);
		ASSERT_EQ(-EINVAL, ret);
		SKIP(return, "kernel without CONFIG_CHECKPOINT_RESTORE");
	}
	ASSERT_TRUE(kid_tell(&kid, "t"));
	EXPECT_EQ(0, kid_wait(&kid));
}

static bool heard(int listener, int ms)
{
	struct pollfd pfd = { .fd = listener, .events = POLLIN };

	return poll(&pfd, 1, ms) == 1 && pfd.revents & POLLIN;
}

static void *unlink_and_wait(void *arg)
{
	*(long *)arg = sys_unlinkat(AT_FDCWD, "victim", 0);
	return NULL;
}

static bool listened(struct stage *s)
{
	struct seccomp_notif_resp resp = { .error = -DENIED };
	struct seccomp_notif notif = {};
	pthread_t thread;
	int listener;
	long ret = 0;

	listener = judge(SECCOMP_RET_USER_NOTIF,
			 SECCOMP_FILTER_FLAG_NEW_LISTENER);
	if (!kid_ok(listener >= 0) || !each(s, requested, -EPERM) ||
	    !kid_ok(!heard(listener, 0)))
		return false;
	/* It does hear of the call. */
	if (!kid_ok(!pthread_create(&thread, NULL, unlink_and_wait, &ret)) ||
	    !kid_ok(heard(listener, AIO_PATIENCE_MS)) ||
	    !kid_ok(!ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notif)) ||
	    !kid_ok(notif.data.nr == __NR_unlinkat))
		return false;
	resp.id = notif.id;
	if (!kid_ok(!ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp)) ||
	    !kid_ok(!pthread_join(thread, NULL)) || !kid_ok(ret == -DENIED))
		return false;
	/* Nor does it matter that there is nobody any more. */
	close(listener);
	return each(s, requested, -EPERM);
}

TEST_F(seccomp, user_notification)
{
	EXPECT_TRUE(staged(listened, NULL));
}

/* ---- what is logged ---- */

struct logged {
	__u32		action;
	unsigned int	flags;
	bool		call_too;
	long long	expect;
};

static bool logging(struct stage *s)
{
	const struct logged *l = s->arg;

	return kid_ok(!judge(l->action, l->flags)) &&
	       each(s, l->call_too ? both : requested, l->expect);
}

/* A socket that audit sends copies of its records to, or -errno. */
static int audit_listen(void)
{
	struct sockaddr_nl addr = {
		.nl_family = AF_NETLINK,
		.nl_groups = 1 << (AUDIT_NLGRP_READLOG - 1),
	};
	int fd;

	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_AUDIT);
	if (fd < 0)
		return -errno;
	if (!bind(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fd;
	close(fd);
	return -EIO;
}

/* The number behind @name in a record, -1 without. */
static long long record_number(const char *record, const char *name, int base)
{
	const char *at = strstr(record, name);

	return at ? strtoll(at + strlen(name), NULL, base) : -1;
}

/* Does audit tell of as many of each call, with this action, of the process? */
static bool audited(int fd, pid_t pid, const struct logged *l)
{
	int op, seen[NR_OPS] = {}, nr = 0, each = l->call_too ? 2 : 1;
	struct {
		struct nlmsghdr	hdr;
		char		text[9000];
	} msg;
	ssize_t len;

	while (nr < NR_CALLS * each && heard(fd, AIO_PATIENCE_MS)) {
		len = recv(fd, &msg, sizeof(msg) - 1, 0);
		if (len < (ssize_t)sizeof(msg.hdr))
			return false;
		((char *)&msg)[len] = '\0';
		if (msg.hdr.nlmsg_type != AUDIT_SECCOMP ||
		    record_number(msg.text, " pid=", 10) != pid ||
		    record_number(msg.text, " code=0x", 16) != l->action)
			continue;
		op = op_of(record_number(msg.text, " syscall=", 10));
		if (op < NR_OPS)
			seen[op]++;
		nr++;
	}
	for (op = 0; op < NR_OPS; op++)
		if (seen[op] != each * (op == OPEN ? 2 : 1)) {
			fprintf(stderr, "# %d of op %d\n", seen[op], op);
			return false;
		}
	return true;
}

TEST_F_TIMEOUT(seccomp, audit_records, 120)
{
	static const struct logged rows[] = {
		{ SECCOMP_RET_LOG, 0, true, RAN },
		{ SECCOMP_RET_ERRNO, SECCOMP_FILTER_FLAG_LOG, true, 0 },
		{ SECCOMP_RET_TRAP, SECCOMP_FILTER_FLAG_LOG, false, -EPERM },
		{ SECCOMP_RET_KILL_THREAD, 0, false, -EPERM },
		{ SECCOMP_RET_KILL_PROCESS, 0, false, -EPERM },
	};
	struct job job = { .fn = logging };
	struct kid kid;
	size_t i;
	int fd;

	fd = audit_listen();
	if (fd == -EPROTONOSUPPORT)
		SKIP(return, "kernel without CONFIG_AUDIT");
	ASSERT_LE(0, fd);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		job.arg = (void *)&rows[i];
		ASSERT_TRUE(kid_start(&kid, job_kid, &job));
		EXPECT_EQ(0, kid_wait(&kid));
		EXPECT_TRUE(audited(fd, kid.pid, &rows[i])) {
			TH_LOG("action %x", rows[i].action);
		}
		ASSERT_TRUE(trees_make());
	}
	close(fd);
}

/* ---- what a filter sees ---- */

/* A part of what filters are given, and what it has to be. */
struct word {
	__u32	offset;
	__u32	value;
};

#define MAX_WORDS	11

/* Architecture and arguments. */
static int call_words(const struct call *c, struct word *words)
{
	int i, nr_args, nr = 0;
	__u64 args[6];

	nr_args = call_args(c, args);
	if (NATIVE_ARCH)
		words[nr++] = (struct word){ DATA(arch), NATIVE_ARCH };
	for (i = 0; i < nr_args; i++) {
		words[nr++] = (struct word){ DATA(args[i]) + LOW, args[i] };
		words[nr++] = (struct word){ DATA(args[i]) + HIGH,
					     args[i] >> 32 };
	}
	return nr;
}

/* Allows a call with all these words, else says which is the first other. */
static int allow_words(int sys_nr, const struct word *words, int nr)
{
	struct filter f = {};
	int i;

	add_load(&f, DATA(nr));
	add_unless(&f, sys_nr, SECCOMP_RET_ALLOW);
	for (i = 0; i < nr; i++) {
		add_load(&f, words[i].offset);
		add_unless(&f, words[i].value, SECCOMP_RET_ERRNO | (100 + i));
	}
	add_return(&f, SECCOMP_RET_ALLOW);
	return install(&f, 0);
}

/* A call, and which of its words the filter wants to be another, or -1. */
struct seen {
	const struct call	*call;
	int			other;
};

static bool seen_as_it_is(struct stage *s)
{
	struct seen *seen = s->arg;
	struct word words[MAX_WORDS];
	int nr = call_words(seen->call, words);

	if (seen->other >= 0)
		words[seen->other].value ^= 1u << seen->other;
	return kid_ok(!allow_words(op_nr[seen->call->op], words, nr)) &&
	       both(s, seen->call, seen->other < 0 ? RAN :
		    -(100 + seen->other));
}

TEST_F_TIMEOUT(seccomp, arguments, 600)
{
	static const struct call seen_calls[] = {
		{ OPEN, AT_FDCWD, "file", .flags = O_RDONLY },
		{ OPEN, DIR_FD, "file", .flags = O_RDONLY },
		/* As they come, whether the kernel adds or ignores some. */
		{ OPEN, AT_FDCWD, "file", .mode = 07777, .flags = O_RDWR |
		  O_CLOEXEC | O_NOFOLLOW | AIO_O_LARGEFILE },
		{ OPEN, DIR_FD, "file", .mode = 0xfedc8765,
		  .flags = O_WRONLY | O_APPEND },
		{ OPEN, DIR_FD, "made", .mode = 0640,
		  .flags = O_CREAT | O_EXCL | O_RDWR },
		{ OPEN, AT_FDCWD, "made", .mode = 0xfff001a4,
		  .flags = O_CREAT | O_WRONLY },
		{ UNLINK, AT_FDCWD, "victim", .flags = 0 },
		{ UNLINK, DIR_FD, "victim", .flags = 0 },
		{ UNLINK, DIR_FD, "empty", .flags = AT_REMOVEDIR },
		{ RENAME, AT_FDCWD, "old", AT_FDCWD, "new", .flags = 0 },
		{ RENAME, DIR_FD, "old", AT_FDCWD, "new",
		  .flags = RENAME_NOREPLACE },
		{ RENAME, AT_FDCWD, "old", DIR_FD, "new", .flags = 0 },
		{ RENAME, DIR_FD, "old", DIR_FD, "other",
		  .flags = RENAME_EXCHANGE },
		{ READAHEAD, FILE_FD, .count = SIZE },
		{ READAHEAD, FILE_FD, .offset = 4096, .count = 0x7fffffff },
		/* Behind the end, where there is nothing. */
		{ READAHEAD, FILE_FD, .offset = 0xf0000000, .count = 0x1000 },
		{ READAHEAD, FILE_FD, .offset = 0x123456789abcULL,
		  .count = 0x1000 },
#if __SIZEOF_LONG__ == 8
		{ READAHEAD, FILE_FD, .count = 0x500001000ULL },
		{ READAHEAD, FILE_FD, .offset = 0x1111111111ULL,
		  .count = 0x22222222222ULL },
#endif
	};
	struct word words[MAX_WORDS];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(seen_calls); i++) {
		struct seen seen = { &seen_calls[i], -1 };
		int nr = call_words(seen.call, words);

		for (; seen.other < nr; seen.other++)
			EXPECT_TRUE(staged(seen_as_it_is, &seen)) {
				TH_LOG("call %zu, word %d", i, seen.other);
			}
	}
}

#if defined(__x86_64__) && !defined(__ILP32__)
/* All that is called through this is called from the same place. */
long syscall_here(long nr, long a, long b, long c, long d, long e);

asm("	.text\n"
	"	.globl syscall_here\n"
	"syscall_here:\n"
	"	movq %rdi, %rax\n"
	"	movq %rsi, %rdi\n"
	"	movq %rdx, %rsi\n"
	"	movq %rcx, %rdx\n"
	"	movq %r8, %r10\n"
	"	movq %r9, %r8\n"
	"	syscall\n"
	"	ret\n");

/* What follows the instruction, which has the only bytes of this value. */
static __u64 address_here(void)
{
	const unsigned char *p = (void *)syscall_here;

	while (p[0] != 0x0f || p[1] != 0x05)
		p++;
	return (uintptr_t)p + 2;
}

static long call_here(const struct call *c)
{
	__u64 args[6] = {};

	call_args(c, args);
	return syscall_here(op_nr[c->op], args[0], args[1], args[2], args[3],
			    args[4]);
}

/* What is called from there is allowed. */
static bool allow_here(int nr)
{
	const struct word words[] = {
		{ DATA(instruction_pointer) + LOW, address_here() },
		{ DATA(instruction_pointer) + HIGH, address_here() >> 32 },
	};

	return kid_ok(!allow_words(nr, words, ARRAY_SIZE(words)));
}

static bool here_is_known(struct stage *s)
{
	return allow_here(__NR_unlinkat) && enter(s, CALLED) &&
	       !call_here(&calls[3]);
}

static bool from_here(struct stage *s)
{
	const struct call *c = s->arg;
	struct renameat_info info;
	struct iocb cb, *cbp = &cb;
	struct io_event ev;

	if (!allow_here(op_nr[c->op]) || !enter(s, CALLED) ||
	    !went(s, CALLED, c, call_make(c), -100) ||
	    !went(s, CALLED, c, call_here(c), RAN) ||
	    !requested(s, c, -100))
		return false;
	/* Then nothing can be submitted from elsewhere, whatever it is. */
	call_prep(c, &cb, &info);
	return allow_here(__NR_io_submit) &&
	       kid_ok(submit_one(s->ctx, &cb) == -100) &&
	       kid_ok(syscall_here(__NR_io_submit, s->ctx, 1, (long)&cbp, 0,
				   0) == 1) &&
	       kid_ok(reap_one(s->ctx, &ev, AIO_PATIENCE_MS) == 1) &&
	       went(s, REQUESTED, c, ev.res, RAN);
}

/* A request is made where io_submit() is. */
TEST_F(seccomp, instruction_pointer)
{
	int i;

	/* User Mode Linux gives its own. */
	if (!staged(here_is_known, NULL))
		SKIP(return, "filters are not told where a call is");
	for (i = 0; i < NR_CALLS; i++)
		EXPECT_TRUE(staged(from_here, (void *)&calls[i])) {
			TH_LOG("call %d", i);
		}
}
#endif

/* ---- whose filters ---- */

static bool inheriting(struct stage *s)
{
	return each(s, both, -DENIED);
}

static int fork_kid(struct kid *kid, void *arg)
{
	struct stage s = *(struct stage *)arg;

	/* Its own context: those of the parent are not inherited. */
	s.kid = kid;
	s.ctx = 0;
	return !(kid_ok(!sys_io_setup(1, &s.ctx)) && inheriting(&s));
}

static bool forking(struct stage *s)
{
	return deny() && kid_ok(!kid_run(fork_kid, s));
}

TEST_F(seccomp, inherited_by_fork)
{
	EXPECT_TRUE(staged(forking, NULL));
}

/* A second thread, which does what it is told and then waits. */
struct helper {
	struct stage		*s;
	bool			(*fn)(struct stage *s);
	bool			good;
	pthread_t		thread;
	pthread_barrier_t	barrier;
};

static void *helper_thread(void *arg)
{
	struct helper *h = arg;

	for (;;) {
		pthread_barrier_wait(&h->barrier);
		if (!h->fn)
			return NULL;
		h->good = h->fn(h->s);
		pthread_barrier_wait(&h->barrier);
	}
}

static bool helper_start(struct helper *h, struct stage *s)
{
	h->s = s;
	return kid_ok(!pthread_barrier_init(&h->barrier, NULL, 2)) &&
	       kid_ok(!pthread_create(&h->thread, NULL, helper_thread, h));
}

static bool helper_does(struct helper *h, bool (*fn)(struct stage *s))
{
	h->fn = fn;
	pthread_barrier_wait(&h->barrier);
	if (!fn)
		return !pthread_join(h->thread, NULL);
	pthread_barrier_wait(&h->barrier);
	return h->good;
}

static bool helper_denies(struct stage *s)
{
	return kid_ok(s) && deny();
}

static bool helper_denies_all(struct stage *s)
{
	return kid_ok(s) &&
	       kid_ok(!judge(DENY, SECCOMP_FILTER_FLAG_TSYNC));
}

static bool thread_inherits(struct stage *s)
{
	struct helper h = {};

	return deny() && helper_start(&h, s) && helper_does(&h, inheriting) &&
	       helper_does(&h, NULL);
}

TEST_F(seccomp, inherited_by_thread)
{
	EXPECT_TRUE(staged(thread_inherits, NULL));
}

/* The same context is used by a thread with a filter and one without. */
static bool thread_has_own(struct stage *s)
{
	struct helper h = {};

	return helper_start(&h, s) && helper_does(&h, helper_denies) &&
	       helper_does(&h, inheriting) && each(s, both, RAN) &&
	       helper_does(&h, NULL);
}

TEST_F(seccomp, of_one_thread)
{
	EXPECT_TRUE(staged(thread_has_own, NULL));
}

static bool thread_synchronises(struct stage *s)
{
	struct helper h = {};

	return helper_start(&h, s) && helper_does(&h, helper_denies_all) &&
	       each(s, both, -DENIED) && helper_does(&h, inheriting) &&
	       helper_does(&h, NULL);
}

TEST_F(seccomp, synchronised_threads)
{
	EXPECT_TRUE(staged(thread_synchronises, NULL));
}

/* ---- requests with faults ---- */

/* Where no process has memory. */
#define BAD_NAME	((const char *)8)

static char long_name[PATH_MAX + 1];

/* Names and descriptors are looked at when the filters have been asked. */
static const struct call faulty[] = {
	{ OPEN, AT_FDCWD, BAD_NAME, .flags = O_RDONLY },
	{ OPEN, AT_FDCWD, "", .flags = O_RDONLY },
	{ OPEN, AT_FDCWD, long_name, .flags = O_RDONLY },
	{ OPEN, NO_FD, "file", .flags = O_RDONLY },
	{ OPEN, FILE_FD, "file", .flags = O_RDONLY },
	{ UNLINK, AT_FDCWD, BAD_NAME, .flags = 0 },
	{ UNLINK, AT_FDCWD, "", .flags = 0 },
	{ UNLINK, AT_FDCWD, long_name, .flags = 0 },
	{ UNLINK, NO_FD, "victim", .flags = 0 },
	{ RENAME, AT_FDCWD, BAD_NAME, DIR_FD, "new", .flags = 0 },
	{ RENAME, AT_FDCWD, "old", DIR_FD, BAD_NAME, .flags = 0 },
	{ RENAME, AT_FDCWD, "old", DIR_FD, long_name, .flags = 0 },
	{ RENAME, AT_FDCWD, "old", DIR_FD, "", .flags = 0 },
	{ RENAME, AT_FDCWD, "old", NO_FD, "new", .flags = 0 },
	{ RENAME, NO_FD, "old", DIR_FD, "new", .flags = 0 },
	{ READAHEAD, PIPE_FD, .count = 4096 },
};

static bool try_faulty(struct stage *s)
{
	bool allowed = *(bool *)s->arg, good = true;
	size_t i;
	int fds[2];

	if (!kid_ok(!pipe(fds)) || !kid_ok(dup2(fds[0], PIPE_FD) == PIPE_FD) ||
	    !enter(s, REQUESTED) ||
	    !kid_ok(!judge(allowed ? SECCOMP_RET_ALLOW : DENY, 0)))
		return false;
	for (i = 0; i < ARRAY_SIZE(faulty); i++) {
		long ret = call_make(&faulty[i]);
		long long res = call_request(s->ctx, &faulty[i]);
		bool fine;

		if (!allowed)
			fine = ret == -DENIED && res == -DENIED;
		else if (ret == -EFAULT)
			fine = res == AIO_REFUSED(EFAULT);
		else
			fine = ret < 0 && aio_as_call(res) == ret;
		if (!fine)
			fprintf(stderr, "# fault %zu: %lld, call %ld\n", i, res,
				ret);
		good &= fine;
	}
	return good;
}

TEST_F(seccomp, faults)
{
	bool allowed;
	int i;

	memset(long_name, 'l', PATH_MAX);
	for (i = 0; i < 2; i++) {
		allowed = i;
		EXPECT_TRUE(staged(try_faulty, &allowed));
	}
}

#define NR_FAULTS	5

/* Make a request one that is none. */
static void malform(struct iocb *cb, struct renameat_info *info, int how)
{
	bool is_readahead = cb->aio_lio_opcode == IOCB_CMD_READAHEAD;

	if (how == 0)
		cb->aio_rw_flags = RWF_NOWAIT;
	else if (how == 1)
		cb->aio_reserved2 = 1;
	else if (how == 2)
		cb->aio_flags = 1 << 7;
	else if (how == 3 && is_readahead)
		cb->aio_buf = (uintptr_t)cb;
	else if (how == 3)
		cb->aio_nbytes += 8;
	else if (is_readahead)
		cb->aio_offset = -4096;
	else if (cb->aio_lio_opcode == IOCB_CMD_RENAMEAT)
		info->flags = 1 << 7;
	else
		cb->aio_offset |= 1LL << 31;
}

static bool try_malformed(struct stage *s)
{
	struct renameat_info info;
	bool good = true;
	struct iocb cb;
	int i, how;

	if (!enter(s, REQUESTED) || !trial_install(s->arg))
		return false;
	for (i = 0; i < NR_CALLS; i++) {
		for (how = 0; how < NR_FAULTS; how++) {
			call_prep(&calls[i], &cb, &info);
			malform(&cb, &info, how);
			if (kid_ok(aio_run(s->ctx, &cb) == AIO_REFUSED(EINVAL)))
				continue;
			fprintf(stderr, "# call %d, fault %d\n", i, how);
			good = false;
		}
	}
	/* What is to be renamed is not known. */
	iocb_renameat(&cb, &info, AT_FDCWD, "old", AT_FDCWD, "new", 0);
	cb.aio_buf = (uintptr_t)BAD_NAME;
	return good & kid_ok(aio_run(s->ctx, &cb) == AIO_REFUSED(EFAULT)) &
	       kid_ok(aio_no_event(s->ctx));
}

TEST_F(seccomp, malformed)
{
	struct trial trials[] = {
		{ { SECCOMP_RET_ALLOW }, 1, 0 },
		{ { DENY }, 1, 0 },
		{ { SECCOMP_RET_TRAP }, 1, 0 },
		{ { SECCOMP_RET_KILL_PROCESS }, 1, 0 },
	};

	try(_metadata, try_malformed, trials, ARRAY_SIZE(trials));
}

/* ---- what else there is ---- */

/* All are denied, and their events are not taken out yet. */
static bool leaving_nothing(struct stage *s)
{
	struct renameat_info infos[EVENTS];
	bool good = true;
	struct many m;
	int i, fd;

	if (!enter(s, REQUESTED) || !kid_ok(many_init(&m, s->ctx, EVENTS)) ||
	    !deny())
		return false;
	fd = free_fd();
	for (i = 0; i < EVENTS; i++) {
		call_prep(&calls[i % NR_CALLS], &m.cbs[i], &infos[i]);
		m.cbs[i].aio_data = i;
	}
	if (!kid_ok(sys_io_submit(s->ctx, EVENTS, m.ptrs) == EVENTS) ||
	    !kid_ok(free_fd() == fd) || !parent_tell(s->kid, "s") ||
	    !kid_ok(parent_hear(s->kid)) || !many_reap(&m, EVENTS, MANY_MS))
		return false;
	for (i = 0; i < EVENTS; i++)
		good &= kid_ok(m.res[i] == -DENIED);
	return good & kid_ok(!m.wrong) & kid_ok(free_fd() == fd);
}

TEST_F(seccomp, leaves_nothing)
{
	struct job job = { .fn = leaving_nothing };
	struct aio_env *env = &self->place.env;
	struct kid kid;

	ASSERT_TRUE(kid_start(&kid, job_kid, &job));
	EXPECT_EQ('s', kid_hear(&kid));
	/* The events are all that there is. */
	EXPECT_TRUE(wait_stat("objects", "==", env->objects, AIO_PATIENCE_MS));
	EXPECT_TRUE(aio_in_flight(env, 0));
	kid_tell(&kid, "g");
	EXPECT_EQ(0, kid_wait(&kid));
}

/* Some are denied, in the middle of others. */
static bool batch(struct stage *s)
{
	static const long long expect[] = { -DENIED, RAN, -DENIED, -EPERM, RAN };
	enum { READ = 5, WRITE, NR };
	struct iocb *ptrs[NR];
	struct renameat_info info;
	struct filter f = {};
	__u64 nr, signals = 0;
	bool good = true;
	char buf[6] = "";
	struct many m;
	int i, efd;

	add_load(&f, DATA(nr));
	add_if(&f, __NR_openat, DENY);
	add_if(&f, __NR_unlinkat, SECCOMP_RET_KILL_PROCESS);
	add_return(&f, SECCOMP_RET_ALLOW);
	efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!enter(s, REQUESTED) || !kid_ok(efd >= 0) ||
	    !kid_ok(many_init(&m, s->ctx, NR)) || !kid_ok(!install(&f, 0)))
		return false;
	for (i = 0; i < NR_CALLS; i++)
		call_prep(&calls[i], &m.cbs[i], &info);
	iocb_pread(&m.cbs[READ], FILE_FD, buf, 4, 0);
	iocb_pwrite(&m.cbs[WRITE], s->file[CALLED], "batch", 5, 0);
	for (i = 0; i < NR; i++) {
		m.cbs[i].aio_data = i;
		m.cbs[i].aio_flags |= IOCB_FLAG_RESFD;
		m.cbs[i].aio_resfd = efd;
		/* Denied are now 2, 5 and 6. */
		ptrs[i] = &m.cbs[(i + READ) % NR];
	}
	if (!kid_ok(sys_io_submit(s->ctx, NR, ptrs) == NR) ||
	    !kid_ok(many_reap(&m, NR, MANY_MS)) || !kid_ok(!m.wrong))
		return false;
	for (i = 0; i < NR_CALLS; i++)
		good &= went(s, REQUESTED, &calls[i], m.res[i], expect[i]);
	good &= kid_ok(m.res[READ] == 4) & kid_ok(!memcmp(buf, "ffff", 4));
	good &= kid_ok(m.res[WRITE] == 5) &
		kid_ok(pread(s->file[CALLED], buf, 6, 0) == 6) &
		kid_ok(!memcmp(buf, "batchf", 6));
	/* Each signals, the denied ones too, and some after their event. */
	while (signals < NR && heard(efd, AIO_PATIENCE_MS))
		if (read(efd, &nr, sizeof(nr)) == sizeof(nr))
			signals += nr;
	return good & kid_ok(signals == NR);
}

TEST_F(seccomp, batch)
{
	EXPECT_TRUE(staged(batch, NULL));
}

/* Reads and the like need what was opened, and no filter is asked. */
static bool not_asked(struct stage *s)
{
	static const int nrs[] = {
		__NR_read, __NR_write, __NR_readv, __NR_writev, __NR_pread64,
		__NR_pwrite64, __NR_preadv, __NR_pwritev, __NR_preadv2,
		__NR_pwritev2, __NR_fsync, __NR_fdatasync, __NR_ppoll,
#ifdef __NR_poll
		__NR_poll,
#endif
#ifdef __NR_ppoll_time64
		__NR_ppoll_time64,
#endif
	};
	static const int expect[] = { 4, 4, 4, 4, 0, 0, POLLIN, 4, 4 };
	enum { NR = ARRAY_SIZE(expect) };
	bool *threaded = s->arg, good = true;
	char buf[3][4] = {}, word[] = "word";
	struct iovec iov[] = { { buf[1], 4 }, { word, 4 } };
	struct filter f = {};
	int i, polled[2], full[2];
	struct many m;

	/* In a context that is threaded or not. */
	if (!kid_ok(!sys_io_destroy(s->ctx)) ||
	    !kid_ok(!aio_set_threads(*threaded)))
		return false;
	s->ctx = 0;
	if (!kid_ok(!sys_io_setup(NR, &s->ctx)) ||
	    !kid_ok(!aio_set_threads(true)) || !enter(s, REQUESTED) ||
	    !kid_ok(!pipe(polled)) || !kid_ok(!pipe(full)) ||
	    !kid_ok(write(full[1], word, 4) == 4) ||
	    !kid_ok(many_init(&m, s->ctx, NR)))
		return false;
	/* What does not hold can be told nevertheless. */
	add_load(&f, DATA(args[0]) + LOW);
	add_if(&f, STDERR_FILENO, SECCOMP_RET_ALLOW);
	add_load(&f, DATA(nr));
	for (i = 0; i < (int)ARRAY_SIZE(nrs); i++)
		add_if(&f, nrs[i], DENY);
	add_return(&f, SECCOMP_RET_ALLOW);
	if (!kid_ok(!install(&f, 0)) ||
	    !kid_ok(pread(FILE_FD, buf[2], 1, 0) < 0 && errno == DENIED) ||
	    !kid_ok(fsync(FILE_FD) < 0 && errno == DENIED))
		return false;
	iocb_pread(&m.cbs[0], FILE_FD, buf[0], 4, 0);
	iocb_preadv(&m.cbs[1], FILE_FD, &iov[0], 1, 4);
	iocb_pwrite(&m.cbs[2], FILE_FD, word, 4, SIZE);
	iocb_pwritev(&m.cbs[3], FILE_FD, &iov[1], 1, SIZE);
	iocb_rw(&m.cbs[4], IOCB_CMD_FSYNC, FILE_FD, NULL, 0, 0);
	iocb_rw(&m.cbs[5], IOCB_CMD_FDSYNC, FILE_FD, NULL, 0, 0);
	/* Nobody reads what comes there: the poll may look after the wake-up. */
	iocb_rw(&m.cbs[6], IOCB_CMD_POLL, polled[0], NULL, 0, 0);
	m.cbs[6].aio_buf = POLLIN;
	iocb_pwrite(&m.cbs[7], polled[1], word, 4, 0);
	iocb_pread(&m.cbs[8], full[0], buf[2], 4, 0);
	for (i = 0; i < NR; i++)
		m.cbs[i].aio_data = i;
	if (!kid_ok(!many_submit(&m, 0, NR)) ||
	    !kid_ok(many_reap(&m, NR, MANY_MS)) || !kid_ok(!m.wrong))
		return false;
	/* A poll may tell of more than it was asked for. */
	m.res[6] &= POLLIN;
	for (i = 0; i < NR; i++)
		good &= kid_ok(m.res[i] == expect[i]);
	return good & kid_ok(!memcmp(buf, "ffffffffword", 12));
}

TEST_F(seccomp, reads_and_writes)
{
	bool threaded;
	int i;

	for (i = 0; i < 2; i++) {
		threaded = i;
		EXPECT_TRUE(staged(not_asked, &threaded)) {
			TH_LOG("threaded %d", i);
		}
	}
}

/* ---- the profile of a container engine ---- */

/* -1 where there is none, or where numbers are no plain ones. */
static int profile_nr(size_t i)
{
	const char *text = profile_allows[i].nr;
	char *end;
	long nr = strtol(text, &end, 10);

	return end == text || *end ? -1 : nr;
}

/* @s->arg: what an administrator has taken out, a bit for each op */
static bool contained(struct stage *s)
{
	unsigned int without = *(unsigned int *)s->arg;
	struct filter f = {};
	bool good = true;
	size_t i;
	int nr;

	if (NATIVE_ARCH) {
		add_load(&f, DATA(arch));
		add_unless(&f, NATIVE_ARCH, SECCOMP_RET_KILL_PROCESS);
	}
	add_load(&f, DATA(nr));
	for (i = 0; i < ARRAY_SIZE(profile_allows); i++) {
		nr = profile_nr(i);
		if (nr >= 0 && !(without & 1 << op_of(nr)))
			add_if(&f, nr, SECCOMP_RET_ALLOW);
	}
	add_return(&f, SECCOMP_RET_ERRNO | EPERM);
	/* It is in force: this is not among what is allowed. */
	if (!kid_ok(!install(&f, 0)) || !kid_ok(syscall(__NR_unshare, 0) < 0) ||
	    !kid_ok(errno == EPERM))
		return false;
	for (i = 0; i < ARRAY_SIZE(calls); i++)
		good &= both(s, &calls[i],
			     without & 1 << calls[i].op ? -EPERM : RAN);
	return good;
}

TEST_F(seccomp, container_profile)
{
	unsigned int without[] = {
		0, 1 << OPEN | 1 << RENAME, 1 << UNLINK, 1 << READAHEAD,
	};
	int nr = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(profile_allows); i++)
		nr += op_of(profile_nr(i)) < NR_OPS;
	if (nr != NR_OPS)
		SKIP(return, "no plain numbers of system calls");
	for (i = 0; i < ARRAY_SIZE(without); i++)
		EXPECT_TRUE(staged(contained, &without[i])) {
			TH_LOG("case %zu", i);
		}
}

/* ---- between io_submit() and a worker ---- */

/* With a single worker, which is opening a FIFO: all else waits for it. */
FIXTURE(held)
{
	struct place place;
	char max_workers[16];
};

FIXTURE_SETUP(held)
{
	setup(_metadata, &self->place, true);
	ASSERT_EQ(0, mkfifo("fifo", 0600));
	ASSERT_LT(0, aio_read_text(AIO_MAX_WORKERS, self->max_workers,
				   sizeof(self->max_workers)));
	ASSERT_EQ(0, aio_write_text(AIO_MAX_WORKERS, "1"));
}

FIXTURE_TEARDOWN(held)
{
	EXPECT_EQ(0, aio_write_text(AIO_MAX_WORKERS, self->max_workers));
	EXPECT_TRUE(teardown(&self->place));
}

struct held {
	struct many		m;	/* the calls, and the FIFO */
	struct renameat_info	info;
};

#define FIFO	NR_CALLS

static bool held_start(struct stage *s, struct held *h)
{
	int i;

	if (!enter(s, REQUESTED) ||
	    !kid_ok(many_init(&h->m, s->ctx, NR_CALLS + 1)))
		return false;
	for (i = 0; i < NR_CALLS; i++)
		call_prep(&calls[i], &h->m.cbs[i], &h->info);
	iocb_openat(&h->m.cbs[FIFO], AT_FDCWD, "../fifo", O_RDONLY, 0);
	for (i = 0; i < NR_CALLS + 1; i++)
		h->m.cbs[i].aio_data = i;
	return kid_ok(!many_submit(&h->m, FIFO, 1)) &&
	       kid_ok(aio_running(s->arg, 1));
}

/* Let the parent open the FIFO, and take in all that is outstanding. */
static bool held_end(struct stage *s, struct held *h)
{
	return parent_tell(s->kid, "s") && kid_ok(parent_hear(s->kid)) &&
	       kid_ok(many_reap(&h->m, NR_CALLS + 1, MANY_MS)) &&
	       kid_ok(!h->m.wrong) && kid_ok(aio_no_event(s->ctx)) &&
	       kid_ok(h->m.res[FIFO] >= 0);
}

static bool held_went(struct stage *s, struct held *h, long long expect)
{
	bool good = true;
	int i;

	for (i = 0; i < NR_CALLS; i++)
		good &= went(s, REQUESTED, &calls[i], h->m.res[i], expect);
	return good;
}

static bool filter_after(struct stage *s)
{
	struct held h;

	return held_start(s, &h) && kid_ok(!many_submit(&h.m, 0, NR_CALLS)) &&
	       kid_ok(aio_in_flight(s->arg, NR_CALLS + 1)) && deny() &&
	       each(s, called, -DENIED) && kid_ok(aio_no_event(s->ctx)) &&
	       held_end(s, &h) && held_went(s, &h, RAN);
}

/* Nobody needs a worker to be denied something, and it stays so. */
static bool filter_before(struct stage *s)
{
	struct held h;

	return held_start(s, &h) && deny() &&
	       kid_ok(!many_submit(&h.m, 0, NR_CALLS)) &&
	       kid_ok(many_reap(&h.m, NR_CALLS, MANY_MS)) &&
	       held_went(s, &h, -DENIED) && held_end(s, &h) &&
	       held_went(s, &h, -DENIED);
}

static void run_held(struct __test_metadata *_metadata, struct aio_env *env,
		     bool (*fn)(struct stage *s), int queued)
{
	struct job job = { fn, env };
	struct kid kid;
	int fd = -1;

	ASSERT_TRUE(kid_start(&kid, job_kid, &job));
	EXPECT_EQ('s', kid_hear(&kid));
	EXPECT_TRUE(aio_running(env, 1));
	EXPECT_EQ(env->queued + queued, aio_stat("queued"));
	EXPECT_TRUE(aio_wait_for((fd = open("fifo", O_WRONLY | O_NONBLOCK |
					    O_CLOEXEC)) >= 0,
				 AIO_PATIENCE_MS));
	kid_tell(&kid, "g");
	EXPECT_EQ(0, kid_wait(&kid));
	close(fd);
}

TEST_F(held, filter_after_submission)
{
	run_held(_metadata, &self->place.env, filter_after, NR_CALLS);
}

TEST_F(held, filter_before_submission)
{
	run_held(_metadata, &self->place.env, filter_before, 0);
}

TEST_HARNESS_MAIN

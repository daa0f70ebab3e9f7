// SPDX-License-Identifier: GPL-2.0
/*
 * Attempts to gain something by a request: rights, files or descriptors that
 * the system call would not have given to the thread that submits it. What it
 * would have given must be given, too.
 *
 * There is one test for each part of a submitter's identity. Most of them are
 * attacks: a thread becomes somebody, makes the system calls, submits the same
 * as requests, and becomes somebody else before these run. The results must be
 * those of the calls, and a call and a request must leave the same behind. This
 * happens in each of the ways that a request may take.
 *
 * AIO_SLOW=1: a debug kernel, which may take ten times as long.
 */
#include "../kselftest_harness.h"
#include "aio_ops.h"

#include <grp.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/fscrypt.h>
#include <linux/keyctl.h>
#include <linux/landlock.h>
#include <linux/loop.h>
#include <linux/netlink.h>
#include <linux/sched.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define EVENTS		64

/* Who has nothing to do with anybody else here. */
#define GROUP		1234
#define STRANGER	4321

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE	2
#endif

/* ---- a place of one's own ---- */

/* Mounts that are made from now on are nobody else's affair. */
static bool private_mounts(void)
{
	return !unshare(CLONE_NEWNS) &&
	       !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

static char max_workers[16], suid_program[64];

/* A copy of this program that runs with the rights of root. */
static bool make_suid_program(const char *top)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char buf[65536];
	ssize_t len;
	int to;

	snprintf(suid_program, sizeof(suid_program), "%s/suid", top);
	to = open(suid_program, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	do {
		len = read(from, buf, sizeof(buf));
	} while (len > 0 && write(to, buf, len) == len);
	close(from);
	return !len && !fchmod(to, 04755) && !close(to);
}

FIXTURE(identity)
{
	struct aio_env env;
	char top[32];
};

FIXTURE_SETUP(identity)
{
	umask(0);
	signal(SIGPIPE, SIG_IGN);
	AIO_SETUP(&self->env, true, false, EVENTS);
	ASSERT_LT(0, aio_read_text(AIO_MAX_WORKERS, max_workers,
				   sizeof(max_workers)));
	ASSERT_EQ(0, setgroups(0, NULL));
	strcpy(self->top, "/tmp/aio-identity-XXXXXX");
	ASSERT_TRUE(private_mounts() && mkdtemp(self->top) &&
		    !mount("aio-identity", self->top, "tmpfs", 0,
			   "mode=0755") && !chdir(self->top));
	ASSERT_TRUE(make_suid_program(self->top));
}

/* Nothing may be left that holds a file or a path. */
FIXTURE_TEARDOWN(identity)
{
	EXPECT_EQ(0, aio_write_text(AIO_MAX_WORKERS, max_workers));
	EXPECT_EQ(0, chdir("/"));
	EXPECT_TRUE(aio_wait_for(!umount2(self->top, 0), AIO_PATIENCE_MS)) {
		TH_LOG("%s: %s", self->top, strerror(errno));
	}
	EXPECT_EQ(0, rmdir(self->top));
	AIO_TEARDOWN(&self->env);
}

/* ---- holding requests back ---- */

/*
 * Fill the only worker that user @uid may have, until told to leave it, with a
 * read of a pipe: it depends on nothing that is tested here.
 */
static int holder(struct kid *kid, void *arg)
{
	uid_t uid = *(uid_t *)arg;
	aio_context_t ctx = 0;
	struct io_event ev;
	struct iocb cb;
	int fds[2];
	char c;

	if (!kid_ok(!setresuid(uid, uid, uid)) || !kid_ok(!pipe(fds)) ||
	    !kid_ok(!sys_io_setup(1, &ctx)))
		return 1;
	iocb_pread(&cb, fds[0], &c, 1, 0);
	if (!kid_ok(submit_one(ctx, &cb) == 1) || !parent_tell(kid, "h"))
		return 2;
	parent_hear(kid);
	return !kid_ok(write(fds[1], "l", 1) == 1) ||
	       !kid_ok(reap_one(ctx, &ev, MANY_MS) == 1) ||
	       !kid_ok(ev.res == 1);
}

/* Where all that may goes to a worker. */
static bool hold(struct kid *kid, const struct aio_env *env, uid_t uid)
{
	return !aio_write_text(AIO_MAX_WORKERS, "1") &&
	       kid_start(kid, holder, &uid) && kid_hear(kid) == 'h' &&
	       aio_wait_running(env, 1);
}

static bool let_go(struct kid *kid)
{
	return kid_tell(kid, "l") && kid_wait(kid) == 0 &&
	       !aio_write_text(AIO_MAX_WORKERS, max_workers);
}

/* ---- operations and where they are done ---- */

/* Names with a %c are there for the call, with a 'c', and for the request. */
static const struct {
	const char	*name;
	mode_t		mode;
	uid_t		uid;
	gid_t		gid;
} plants[] = {
	{ "a",			S_IFDIR | 0755, 0, 0 },
	{ "b",			S_IFDIR | 0755, 0, 0 },
	{ "open",		S_IFDIR | 0777, 0, 0 },
	{ "sticky",		S_IFDIR | 01777, STRANGER, 0 },
	{ "mp1-%c",		S_IFDIR | 0755, 0, 0 },
	{ "mp2-%c",		S_IFDIR | 0755, 0, 0 },
	{ "mp3-%c",		S_IFDIR | 0755, 0, 0 },
	{ "empty-%c",		S_IFDIR | 0755, 0, 0 },
	{ "mp4-%c",		S_IFREG | 0644, 0, 0 },
	{ "inner",		S_IFREG | 0644, 0, 0 },
	{ "secret",		S_IFREG | 0600, 0, 0 },
	{ "group",		S_IFREG | 0640, 0, GROUP },
	{ "strange",		S_IFREG | 0600, STRANGER, 0 },
	{ "readable",		S_IFREG | 0666, STRANGER, 0 },
	{ "setid-%c",		S_IFREG | 06777, STRANGER, 0 },
	{ "victim-%c",		S_IFREG | 0644, 0, 0 },
	{ "old-%c",		S_IFREG | 0644, 0, 0 },
	{ "sticky/victim-%c",	S_IFREG | 0644, STRANGER, 0 },
	{ "a/inner",		S_IFREG | 0644, 0, 0 },
	{ "a/victim-%c",	S_IFREG | 0644, 0, 0 },
	{ "a/old-%c",		S_IFREG | 0644, 0, 0 },
	{ "b/inner",		S_IFREG | 0644, 0, 0 },
	{ "b/victim-%c",	S_IFREG | 0644, 0, 0 },
	{ "b/old-%c",		S_IFREG | 0644, 0, 0 },
	{ "abs",		S_IFLNK, 0, 0 },
};

static bool plant(int i, char who)
{
	mode_t mode = plants[i].mode;
	char name[64];
	bool done;

	snprintf(name, sizeof(name), plants[i].name, who);
	if (S_ISLNK(mode))
		return !symlink("/inner", name);
	done = S_ISDIR(mode) ? !mkdir(name, 0700) : aio_put(name, name);
	return done && !chown(name, plants[i].uid, plants[i].gid) &&
	       !chmod(name, mode & 07777);
}

#define MAX_OPS		14
#define MAX_ATTACKS	10

enum way { BY_CALL, AT_ONCE, IN_WORKER, HELD_BACK, NR_WAYS };

static const char * const way_names[] = {
	"by call", "at once", "in a worker", "held back",
};

/* Any descriptor will do. */
#define OPENS	100

struct op {
	int		opcode;		/* 0 after the last */
	const char	*path;		/* as in plants, or NULL: scene's */
	const char	*to;
	int		flags;
	mode_t		mode;
	long long	want;
};

#define OPEN(_path, _flags, _mode, _want)				\
	{ .opcode = IOCB_CMD_OPENAT, .path = _path, .flags = _flags,	\
	  .mode = _mode, .want = _want }
#define UNLINK(_path, _flags, _want)					\
	{ .opcode = IOCB_CMD_UNLINKAT, .path = _path, .flags = _flags,	\
	  .want = _want }
#define RENAME(_path, _to, _want)					\
	{ .opcode = IOCB_CMD_RENAMEAT, .path = _path, .to = _to,	\
	  .want = _want }

/* What a thread does to become somebody: a system call, which must succeed. */
struct deed {
	long		nr;
	uintptr_t	args[5];
};

#define DO(_name, ...)	{ __NR_ ## _name, { __VA_ARGS__ } }
#define STR(_text)	((uintptr_t)(_text))

/* Arguments that stand for a descriptor of the scene. */
enum { AT = 100000, TO_AT, FD0, FD1, NEXT };

#define MAX_DEEDS	5

/* What struct attack's fill makes. */
#define FILLED(_want)							\
	{ .opcode = -1, .want = _want }

/* A few of them, where they have no name. */
#define OPS(...)	((const struct op[MAX_OPS]) { __VA_ARGS__ })

struct scene;

/**
 * struct attack - what a thread tries
 * @what: for the log
 * @ops: what is called and requested, and what that has to give
 * @uid: the submitter's real user, who is held back
 * @instead: what all of them give if they are held back, if that is not @ops'
 * @prepare: before @before
 * @before: makes the thread what it is when it submits
 * @fill: makes the requests, which are no calls on paths; @ops tell the result
 * @change: between io_submit() and the run of the requests
 * @disturb: after @change
 * @after: what else must hold, while what was opened is still open
 * @held_only: there is no other way in which the order is known
 * @alone: of call and request only one can be made: the call is a way, too
 * @at_submit: the result may be known, and the event there, at once
 * @thread: submitted by another thread than the first
 * @exec: flags for clone(2): the submitter is a process that shares the memory
 *	with the attacker, and executes a set-user-ID program, or ends
 * @executed: what that program has to be, 'r'oot or 'n'ot, if there is one
 */
struct attack {
	const char	*what;
	const struct op	*ops;
	uid_t		uid;
	long long	instead;
	bool		(*prepare)(struct scene *s);
	struct deed	before[MAX_DEEDS];
	bool		(*fill)(struct scene *s);
	struct deed	change[MAX_DEEDS];
	bool		(*disturb)(struct scene *s);
	bool		(*after)(struct scene *s);
	bool		held_only;
	bool		alone;
	bool		at_submit;
	bool		thread;
	int		exec;
	char		executed;
};

struct scene {
	const struct attack	*a;
	int			nr;	/* of operations */
	enum way		way;
	struct kid		*kid;
	int			dir;	/* the directory with the plants */
	int			at;	/* what the requests are relative to */
	int			to_at;
	int			next;	/* what the next descriptor will be */
	int			fd[3];	/* for the attack */
	pid_t			tgid;	/* who submits */
	pid_t			tid;
	char			path[64];
	int			exit_code;
	struct many		m;
	long long		call[MAX_OPS];
	char			from[64], to[64];
	struct renameat_info	info;
	pid_t			program;
	int			from_program[2];
	int			to_program[2];
};

static bool scene_make(struct scene *s)
{
	static int nr;
	char name[16];
	bool done;
	size_t i;

	snprintf(name, sizeof(name), "%d", nr++);
	if (mkdir(name, 0755) || chdir(name))
		return false;
	for (i = 0, done = true; done && i < ARRAY_SIZE(plants); i++)
		done = plant(i, 'c') &&
		       (!strchr(plants[i].name, '%') || plant(i, 'r'));
	s->dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return done && s->dir >= 0 && !chdir("..");
}

static bool act(const struct scene *s, const struct deed *deeds)
{
	const int fds[] = { s->at, s->to_at, s->fd[0], s->fd[1], s->next };
	uintptr_t args[5];
	int i, j;

	for (i = 0; i < MAX_DEEDS && deeds[i].nr; i++) {
		for (j = 0; j < 5; j++) {
			args[j] = deeds[i].args[j];
			if (args[j] - AT < ARRAY_SIZE(fds))
				args[j] = fds[args[j] - AT];
		}
		if (syscall(deeds[i].nr, args[0], args[1], args[2], args[3],
			    args[4]) == -1) {
			fprintf(stderr, "# deed %d: %s\n", i, strerror(errno));
			return false;
		}
	}
	return true;
}

static bool is_there(const struct scene *s, const char *path)
{
	struct stat st;

	return !fstatat(s->dir, path, &st, AT_SYMLINK_NOFOLLOW);
}

static void op_paths(struct scene *s, const struct op *op, char who)
{
	snprintf(s->from, sizeof(s->from), op->path ?: s->path, who);
	snprintf(s->to, sizeof(s->to), op->to ?: "", who);
}

static long long op_call(struct scene *s, const struct op *op)
{
	op_paths(s, op, 'c');
	switch (op->opcode) {
	case IOCB_CMD_OPENAT:
		return sys_openat(s->at, s->from, op->flags, op->mode);
	case IOCB_CMD_UNLINKAT:
		return sys_unlinkat(s->at, s->from, op->flags);
	default:
		return sys_renameat2(s->at, s->from, s->to_at, s->to,
				     op->flags);
	}
}

static void op_prepare(struct scene *s, const struct op *op, int i)
{
	struct iocb *cb = &s->m.cbs[i];

	op_paths(s, op, 'r');
	switch (op->opcode) {
	case IOCB_CMD_OPENAT:
		iocb_openat(cb, s->at, s->from, op->flags, op->mode);
		break;
	case IOCB_CMD_UNLINKAT:
		iocb_unlinkat(cb, s->at, s->from, op->flags);
		break;
	default:
		iocb_renameat(cb, &s->info, s->at, s->from, s->to_at, s->to,
			      op->flags);
	}
}

/* ---- an attack ---- */

static bool submit(struct scene *s)
{
	const struct attack *a = s->a;
	int i;

	s->tgid = getpid();
	s->tid = gettid();
	if ((a->prepare && !kid_ok(a->prepare(s))) ||
	    !kid_ok(act(s, a->before)))
		return false;
	for (i = 0; i < s->nr && !a->fill; i++)
		if (s->way == BY_CALL || !a->alone)
			s->call[i] = op_call(s, &a->ops[i]);
	s->next = aio_next_fd();
	if (a->fill && !kid_ok(a->fill(s)))
		return false;
	for (i = 0; i < s->nr && s->way != BY_CALL; i++) {
		if (!a->fill)
			op_prepare(s, &a->ops[i], i);
		s->m.cbs[i].aio_data = i;
		if (!kid_ok(!many_submit(&s->m, i, 1)))
			return false;
		/* From here on these are nothing to the request any more. */
		memset(s->from, '!', sizeof(s->from) - 1);
		memset(s->to, '!', sizeof(s->to) - 1);
		memset(&s->info, '!', sizeof(s->info));
	}
	return parent_tell(s->kid, "s") && parent_hear(s->kid);
}

/* Ends, or goes on as another program, with other rights. */
static int submit_and_exec(void *arg)
{
	struct scene *s = arg;
	char out[16], in[16];

	if (!submit(s))
		return 1;
	if (!s->a->executed)
		return 0;
	snprintf(out, sizeof(out), "%d", s->from_program[1]);
	snprintf(in, sizeof(in), "%d", s->to_program[0]);
	execl(suid_program, suid_program, "--suid", out, in, NULL);
	return 2;
}

static int open_files(void)
{
	int fd, nr = 0;

	for (fd = 0; fd < 256; fd++)
		nr += fcntl(fd, F_GETFD) >= 0;
	return nr;
}

/* The program. Says whether it has root's rights, and got what is not its. */
static int suid_main(int out, int in)
{
	int files = open_files();
	char c = geteuid() ? 'n' : 'r';

	if (write(out, &c, 1) != 1 || read(in, &c, 1) != 1)
		return 1;
	c = open_files() == files ? 'o' : 'g';
	return write(out, &c, 1) != 1;
}

static bool submit_by_program(struct scene *s)
{
	static __int128 stack[4096];
	char said;
	int pid;

	/* It has to keep these. */
	if (pipe(s->from_program) || pipe(s->to_program))
		return false;
	pid = clone(submit_and_exec, stack + ARRAY_SIZE(stack),
		    CLONE_VM | s->a->exec | SIGCHLD, s);
	if (!kid_ok(pid > 0))
		return false;
	s->program = pid;
	if (!s->a->executed)
		return kid_ok(waitpid(pid, NULL, 0) == pid);
	said = hear(s->from_program[0]);
	/* Now the descriptors are not shared any more, if they were. */
	close(s->from_program[1]);
	close(s->to_program[0]);
	return kid_ok(said == s->a->executed);
}

static bool program_end(struct scene *s)
{
	int status = -1;

	return kid_ok(write(s->to_program[1], "q", 1) == 1) &&
	       kid_ok(hear(s->from_program[0]) == 'o') &&
	       kid_ok(waitpid(s->program, &status, 0) == s->program) &&
	       kid_ok(!status);
}

static bool matches(long long want, long long res)
{
	return want == OPENS ? res >= 0 : res == want;
}

/* Two descriptors of the same file, or of two that were made alike. */
static bool alike(int a, int b, bool same)
{
	struct stat x, y;

	return kid_ok(!fstat(a, &x)) && kid_ok(!fstat(b, &y)) &&
	       kid_ok(!same || (x.st_dev == y.st_dev && x.st_ino == y.st_ino &&
				x.st_rdev == y.st_rdev)) &&
	       kid_ok(x.st_mode == y.st_mode) && kid_ok(x.st_uid == y.st_uid) &&
	       kid_ok(x.st_gid == y.st_gid) &&
	       kid_ok(fcntl(a, F_GETFL) == fcntl(b, F_GETFL)) &&
	       kid_ok(fcntl(a, F_GETFD) == fcntl(b, F_GETFD));
}

static bool judge_one(struct scene *s, int i)
{
	const struct op *op = &s->a->ops[i];
	long long want = op->want, res = s->m.res[i];
	bool good = true;

	if (s->way == HELD_BACK && s->a->instead)
		want = s->a->instead;
	good &= kid_ok(matches(want, res));
	if (!s->a->fill && !s->a->alone)
		good &= kid_ok(matches(op->want, s->call[i]));
	if (good && want == OPENS && !s->a->fill && !s->a->alone)
		good = alike(s->call[i], res, !strchr(op->path, '%') &&
			     (op->flags & O_TMPFILE) != O_TMPFILE);
	if (!good)
		fprintf(stderr, "# %d, %s: call %lld, request %lld\n", i,
			op->path ?: s->path, s->call[i], res);
	return good;
}

static bool judge(struct scene *s)
{
	bool good = true;
	int i;

	for (i = 0; i < s->nr; i++)
		good &= judge_one(s, i);
	if (s->a->after)
		good &= kid_ok(s->a->after(s));
	for (i = 0; i < s->nr; i++) {
		if (s->a->ops[i].opcode != IOCB_CMD_OPENAT)
			continue;
		close(s->call[i]);
		if (s->m.res[i] >= 0)
			close(s->m.res[i]);
	}
	return good;
}

/* What is known of the thread from this must not be used when it is another. */
static bool request_before(aio_context_t ctx)
{
	struct iocb cb;
	long long fd;

	iocb_openat(&cb, AT_FDCWD, ".", O_PATH, 0);
	fd = aio_run(ctx, &cb);
	return fd >= 0 && !close(fd);
}

static int carry_out(struct scene *s)
{
	const struct attack *a = s->a;
	struct kid *kid = s->kid;
	aio_context_t ctx = 0;

	s->at = s->dir;
	s->to_at = s->dir;
	if (!kid_ok(!fchdir(s->dir)) ||
	    !kid_ok(!sys_io_setup(s->nr, &ctx)) ||
	    !kid_ok(many_init(&s->m, ctx, s->nr)) ||
	    !kid_ok(request_before(ctx)))
		return 1;
	if (!parent_tell(kid, "r") || !parent_hear(kid))
		return 1;
	if (!(a->exec ? submit_by_program(s) : submit(s)) ||
	    !kid_ok(act(s, a->change)) ||
	    (a->disturb && !kid_ok(a->disturb(s))))
		return 2;
	if (s->way == HELD_BACK && !a->at_submit && !kid_ok(aio_no_event(ctx)))
		return 3;
	if (!parent_tell(kid, "c") || !parent_hear(kid))
		return 4;
	if (s->way == BY_CALL)
		memcpy(s->m.res, s->call, s->nr * sizeof(*s->call));
	else if (!kid_ok(many_reap(&s->m, s->nr, MANY_MS)) ||
		 !kid_ok(!s->m.wrong))
		return 5;
	if (a->executed && !program_end(s))
		return 6;
	return !judge(s);
}

static void *carry_out_thread(void *arg)
{
	struct scene *s = arg;

	s->exit_code = carry_out(s);
	return NULL;
}

static int attacker(struct kid *kid, void *arg)
{
	struct scene *s = arg;
	pthread_t thread;

	s->kid = kid;
	if (!s->a->thread)
		return carry_out(s);
	if (!kid_ok(!pthread_create(&thread, NULL, carry_out_thread, s)) ||
	    !kid_ok(!pthread_join(thread, NULL)))
		return 7;
	return s->exit_code;
}

static void attack_in(struct __test_metadata *_metadata,
		      const struct aio_env *env, const struct attack *a,
		      enum way way)
{
	struct scene s = { .a = a, .way = way };
	bool held = way == HELD_BACK;
	struct kid kid, blocker;

	while (s.nr < MAX_OPS && a->ops[s.nr].opcode)
		s.nr++;
	ASSERT_TRUE(scene_make(&s));
	ASSERT_EQ(0, aio_set_force_worker(way != AT_ONCE));
	ASSERT_TRUE(kid_start(&kid, attacker, &s));
	EXPECT_EQ('r', kid_hear(&kid));
	if (held)
		ASSERT_TRUE(hold(&blocker, env, a->uid));
	kid_tell(&kid, "b");
	EXPECT_EQ('s', kid_hear(&kid));
	if (held && !a->at_submit)
		EXPECT_TRUE(wait_stat("queued", "==", env->queued + s.nr,
				      AIO_PATIENCE_MS));
	kid_tell(&kid, "c");
	EXPECT_EQ('c', kid_hear(&kid));
	if (held)
		EXPECT_TRUE(let_go(&blocker));
	kid_tell(&kid, "e");
	EXPECT_EQ(0, kid_wait(&kid)) {
		TH_LOG("%s, %s", a->what, way_names[way]);
	}
	close(s.dir);
}

static void attacks(struct __test_metadata *_metadata,
		    const struct aio_env *env, const struct attack *a)
{
	int i, way;

	for (i = 0; i < MAX_ATTACKS && a->what; i++, a++)
		for (way = a->alone ? BY_CALL : AT_ONCE; way < NR_WAYS; way++)
			if (way == HELD_BACK || !a->held_only)
				attack_in(_metadata, env, a, way);
}

#define ATTACKS(_attacks)	attacks(_metadata, &self->env, _attacks)

/* ---- credentials ---- */

static const struct op denied_ops[MAX_OPS] = {
	OPEN("secret", O_RDONLY, 0, -EACCES),
	OPEN("secret", O_RDWR | O_TRUNC, 0, -EACCES),
	OPEN("inner", O_RDONLY, 0, OPENS),
	OPEN("made-%c", O_CREAT | O_RDWR, 0600, -EACCES),
	OPEN("open/made-%c", O_CREAT | O_RDWR, 0600, OPENS),
	/* Loses these bits. */
	OPEN("setid-%c", O_RDWR | O_TRUNC, 0, OPENS),
	UNLINK("victim-%c", 0, -EACCES),
	UNLINK("sticky/victim-%c", 0, -EPERM),
	UNLINK("empty-%c", AT_REMOVEDIR, -EACCES),
	RENAME("old-%c", "new-%c", -EACCES),
};

static const struct op granted_ops[MAX_OPS] = {
	OPEN("secret", O_RDWR, 0, OPENS),
	OPEN("strange", O_RDWR, 0, OPENS),
	OPEN("made-%c", O_CREAT | O_EXCL | O_RDWR, 0600, OPENS),
	UNLINK("victim-%c", 0, 0),
	UNLINK("sticky/victim-%c", 0, 0),
	UNLINK("empty-%c", AT_REMOVEDIR, 0),
	RENAME("old-%c", "new-%c", 0),
};

static bool was_denied(struct scene *s)
{
	struct stat st = { 0 };

	return !fstatat(s->dir, "secret", &st, 0) && st.st_size &&
	       is_there(s, "victim-r") && is_there(s, "sticky/victim-r") &&
	       is_there(s, "empty-r") && is_there(s, "old-r") &&
	       !is_there(s, "made-r") && !is_there(s, "new-r");
}

static bool was_granted(struct scene *s)
{
	struct stat st;

	return !fstatat(s->dir, "made-r", &st, 0) && !st.st_uid &&
	       !is_there(s, "victim-r") && !is_there(s, "sticky/victim-r") &&
	       !is_there(s, "empty-r") && !is_there(s, "old-r") &&
	       is_there(s, "new-r");
}

#define BE_ROOT			DO(setresuid, 0, 0, 0)
#define BE_NOBODY		DO(setresuid, NOBODY, NOBODY, 0)
#define BE_NOBODY_FOR_GOOD	DO(setresuid, NOBODY, NOBODY, NOBODY)

static const struct attack uid_attacks[MAX_ATTACKS] = {
	{ "nobody, then root", .ops = denied_ops, .uid = NOBODY,
	  .before = { BE_NOBODY }, .change = { BE_ROOT },
	  .after = was_denied },
	{ "effectively nobody, then root", .ops = denied_ops,
	  .before = { DO(setresuid, -1, NOBODY, -1) }, .change = { BE_ROOT },
	  .after = was_denied },
	{ "nobody for files, then root", .ops = denied_ops,
	  .before = { DO(setfsuid, NOBODY) }, .change = { DO(setfsuid, 0) },
	  .after = was_denied },
	{ "root, then nobody", .ops = granted_ops,
	  .change = { BE_NOBODY_FOR_GOOD }, .after = was_granted },
};

static const struct attack user_namespace_attacks[MAX_ATTACKS] = {
	{ "root of its own namespace", .ops = denied_ops, .uid = NOBODY,
	  .before = { BE_NOBODY_FOR_GOOD, DO(unshare, CLONE_NEWUSER) },
	  .after = was_denied },
	{ "nobody, then that", .ops = denied_ops, .uid = NOBODY,
	  .before = { BE_NOBODY_FOR_GOOD },
	  .change = { DO(unshare, CLONE_NEWUSER) }, .after = was_denied },
};

TEST_F_TIMEOUT(identity, uid, 120)
{
	ATTACKS(uid_attacks);
	if (!access("/proc/self/ns/user", F_OK))
		ATTACKS(user_namespace_attacks);
}

static const struct __user_cap_header_struct cap_head = {
	.version = _LINUX_CAPABILITY_VERSION_3,
};

/* Only that to choose the groups; the others are filled in by the test. */
static const struct __user_cap_data_struct no_caps[2], setgid_cap[2] = {
	{ .effective = 1 << CAP_SETGID, .permitted = 1 << CAP_SETGID },
};

static struct __user_cap_data_struct all_caps[2], fewer_caps[2];

#define SET_CAPS(_caps)	DO(capset, STR(&cap_head), STR(_caps))

/* Nobody, but for that capability. */
static bool nobody_with_groups(struct scene *s)
{
	(void)s;
	return !prctl(PR_SET_KEEPCAPS, 1) &&
	       !setresuid(NOBODY, NOBODY, NOBODY) &&
	       !syscall(__NR_capset, &cap_head, setgid_cap);
}

static const gid_t group = GROUP;

static const struct op in_group_ops[MAX_OPS] = {
	OPEN("group", O_RDONLY, 0, OPENS),
	OPEN("group", O_RDWR, 0, -EACCES),
	OPEN("open/made-%c", O_CREAT | O_RDWR, 0600, OPENS),
};

static const struct op not_in_group_ops[MAX_OPS] = {
	OPEN("group", O_RDONLY, 0, -EACCES),
	OPEN("open/made-%c", O_CREAT | O_RDWR, 0600, OPENS),
};

static const struct attack group_attacks[MAX_ATTACKS] = {
	{ "outside, then inside", .ops = not_in_group_ops, .uid = NOBODY,
	  .prepare = nobody_with_groups,
	  .change = { DO(setgroups, 1, STR(&group)) } },
	{ "inside, then outside", .ops = in_group_ops, .uid = NOBODY,
	  .prepare = nobody_with_groups,
	  .before = { DO(setgroups, 1, STR(&group)) },
	  .change = { DO(setgroups, 0) } },
	{ "of the group, then of another", .ops = in_group_ops, .uid = NOBODY,
	  .prepare = nobody_with_groups,
	  .before = { DO(setresgid, GROUP, GROUP, GROUP) },
	  .change = { DO(setresgid, STRANGER, STRANGER, STRANGER) } },
};

TEST_F_TIMEOUT(identity, groups, 120)
{
	ATTACKS(group_attacks);
}

static const struct op without_caps_ops[MAX_OPS] = {
	OPEN("strange", O_RDONLY, 0, -EACCES),
	OPEN("strange", O_RDWR, 0, -EACCES),
	OPEN("readable", O_RDONLY | O_NOATIME, 0, -EPERM),
	OPEN("readable", O_RDONLY, 0, OPENS),
	OPEN("setid-%c", O_RDWR | O_TRUNC, 0, OPENS),
	UNLINK("sticky/victim-%c", 0, -EPERM),
};

static const struct op with_caps_ops[MAX_OPS] = {
	OPEN("strange", O_RDONLY, 0, OPENS),
	OPEN("strange", O_RDWR, 0, OPENS),
	OPEN("readable", O_RDONLY | O_NOATIME, 0, OPENS),
	/* Keeps them. */
	OPEN("setid-%c", O_RDWR | O_TRUNC, 0, OPENS),
	UNLINK("sticky/victim-%c", 0, 0),
};

static const struct attack capability_attacks[MAX_ATTACKS] = {
	{ "without, then with", .ops = without_caps_ops,
	  .before = { SET_CAPS(fewer_caps) },
	  .change = { SET_CAPS(all_caps) } },
	{ "with, then without", .ops = with_caps_ops,
	  .change = { SET_CAPS(no_caps) } },
};

TEST_F_TIMEOUT(identity, capabilities, 120)
{
	struct __user_cap_header_struct head = cap_head;

	ASSERT_EQ(0, syscall(__NR_capget, &head, all_caps));
	memcpy(fewer_caps, all_caps, sizeof(fewer_caps));
	fewer_caps[0].effective &= ~(1 << CAP_DAC_OVERRIDE |
				     1 << CAP_DAC_READ_SEARCH |
				     1 << CAP_FOWNER | 1 << CAP_FSETID);
	ATTACKS(capability_attacks);
}

static const struct attack suid_attacks[MAX_ATTACKS] = {
	{ "executes a set-user-ID program", .ops = denied_ops, .uid = NOBODY,
	  .before = { BE_NOBODY_FOR_GOOD }, .after = was_denied,
	  .held_only = true, .exec = CLONE_VM | CLONE_FILES, .executed = 'r' },
	{ "executes one without its rights", .ops = denied_ops, .uid = NOBODY,
	  .before = { BE_NOBODY_FOR_GOOD, DO(prctl, PR_SET_NO_NEW_PRIVS, 1) },
	  .after = was_denied, .held_only = true,
	  .exec = CLONE_VM | CLONE_FILES, .executed = 'n' },
};

TEST_F_TIMEOUT(identity, no_new_privs_and_suid, 120)
{
	ATTACKS(suid_attacks);
}

/* ---- memory ---- */

#define AREA	4096
#define SHARES	8

/* Two of these, at the same address in each process. */
static char *area;

/* Reads its letter into one half, writes its letter from the other. */
static int letter_kid(struct kid *kid, void *arg)
{
	int i, from, to, size = AREA / SHARES;
	char letter = *(char *)arg;
	aio_context_t ctx = 0;
	struct many m;

	from = aio_temp_file(".", 0);
	to = aio_temp_file(".", 0);
	memset(area, letter, 2 * AREA);
	if (!kid_ok(pwrite(from, area, AREA, 0) == AREA) ||
	    !kid_ok(!sys_io_setup(2 * SHARES, &ctx)) ||
	    !kid_ok(many_init(&m, ctx, 2 * SHARES)))
		return 1;
	memset(area, 0, AREA);
	for (i = 0; i < SHARES; i++) {
		iocb_pread(&m.cbs[2 * i], from, area + i * size, size,
			   i * size);
		iocb_pwrite(&m.cbs[2 * i + 1], to, area + AREA + i * size, size,
			    i * size);
		m.cbs[2 * i].aio_data = 2 * i;
		m.cbs[2 * i + 1].aio_data = 2 * i + 1;
	}
	if (!kid_ok(!many_submit(&m, 0, m.nr)) || !parent_tell(kid, "s") ||
	    !parent_hear(kid) || !kid_ok(many_reap(&m, m.nr, MANY_MS)))
		return 2;
	for (i = 0; i < m.nr; i++)
		if (!kid_ok(m.res[i] == size))
			return 3;
	return !kid_ok(aio_check_byte(area, 2 * AREA, letter) < 0) ||
	       !kid_ok(pread(to, area, AREA, 0) == AREA) ||
	       !kid_ok(aio_check_byte(area, AREA, letter) < 0);
}

static bool fill_with_area(struct scene *s)
{
	s->fd[0] = openat(s->dir, "inner", O_RDWR | O_CLOEXEC);
	iocb_pread(&s->m.cbs[0], s->fd[0], area, 5, 0);
	iocb_pwrite(&s->m.cbs[1], s->fd[0], area, 5, 5);
	return s->fd[0] >= 0;
}

static bool unmap_area(struct scene *s)
{
	(void)s;
	return !munmap(area, 2 * AREA);
}

static bool file_untouched(struct scene *s)
{
	return aio_holds(s->fd[0], "inner");
}

static const struct attack memory_attacks[MAX_ATTACKS] = {
	{ "memory that is gone", .ops = OPS(FILLED(-EFAULT), FILLED(-EFAULT)),
	  .fill = fill_with_area, .disturb = unmap_area,
	  .after = file_untouched, .held_only = true },
};

TEST_F_TIMEOUT(identity, address_space, 120)
{
	void *kernel = (void *)(uintptr_t)-AREA;
	struct iovec iov[2] = { { &self->top, 1 }, { kernel, 1 } };
	struct kid kids[2], blocker;
	struct iocb cb;
	int way, i, fd;

	area = mmap(NULL, 2 * AREA, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(area != MAP_FAILED);
	for (way = AT_ONCE; way < NR_WAYS; way++) {
		ASSERT_EQ(0, aio_set_force_worker(way != AT_ONCE));
		if (way == HELD_BACK)
			ASSERT_TRUE(hold(&blocker, &self->env, 0));
		for (i = 0; i < 2; i++) {
			ASSERT_TRUE(kid_start(&kids[i], letter_kid,
					      i ? "A" : "B"));
			EXPECT_EQ('s', kid_hear(&kids[i]));
		}
		if (way == HELD_BACK) {
			EXPECT_TRUE(wait_stat("queued", "==",
					      self->env.queued + 4 * SHARES,
					      AIO_PATIENCE_MS));
			EXPECT_TRUE(let_go(&blocker));
		}
		for (i = 0; i < 2; i++) {
			kid_tell(&kids[i], "e");
			EXPECT_EQ(0, kid_wait(&kids[i])) {
				TH_LOG("%s", way_names[way]);
			}
		}
	}
	ATTACKS(memory_attacks);

	fd = aio_temp_file(".", 0);
	ASSERT_EQ(2, pwrite(fd, "ab", 2, 0));
	iocb_pread(&cb, fd, kernel, 1, 0);
	EXPECT_EQ(AIO_REFUSED(EFAULT), aio_run(self->env.ctx, &cb));
	iocb_pwrite(&cb, fd, kernel, 1, 0);
	EXPECT_EQ(AIO_REFUSED(EFAULT), aio_run(self->env.ctx, &cb));
	iocb_preadv(&cb, fd, iov, 2, 0);
	EXPECT_EQ(AIO_REFUSED(EFAULT), aio_run(self->env.ctx, &cb));
	iocb_openat(&cb, AT_FDCWD, kernel, O_RDONLY, 0);
	EXPECT_EQ(AIO_REFUSED(EFAULT), aio_run(self->env.ctx, &cb));
	close(fd);
}

/* ---- where paths begin, and what files are made with ---- */

/* Has all been done in "a", and nothing in "b"? */
static bool done_in_a(struct scene *s)
{
	return is_there(s, "a/made-r") && is_there(s, "a/new-r") &&
	       !is_there(s, "a/old-r") && !is_there(s, "a/victim-r") &&
	       !is_there(s, "b/made-r") && !is_there(s, "b/new-r") &&
	       is_there(s, "b/old-r") && is_there(s, "b/victim-r");
}

static const struct op root_ops[MAX_OPS] = {
	OPEN("/inner", O_RDONLY, 0, OPENS),
	OPEN("/../../b/inner", O_RDONLY, 0, -ENOENT),
	OPEN("/..", O_PATH, 0, OPENS),
	OPEN("/made-%c", O_CREAT | O_RDWR, 0600, OPENS),
	UNLINK("/victim-%c", 0, 0),
	RENAME("/old-%c", "/new-%c", 0),
	/* From outside, but what is absolute is inside. */
	OPEN("abs", O_RDONLY, 0, OPENS),
	OPEN("b/inner", O_RDONLY, 0, OPENS),
};

static const struct op outer_root_ops[MAX_OPS] = {
	OPEN("/a/inner", O_RDONLY, 0, OPENS),
	OPEN("/inner", O_RDONLY, 0, OPENS),
	OPEN("/a/made-%c", O_CREAT | O_RDWR, 0600, OPENS),
	UNLINK("/a/victim-%c", 0, 0),
	RENAME("/a/old-%c", "/a/new-%c", 0),
	OPEN("abs", O_RDONLY, 0, OPENS),
};

/* The working directory stays outside of what is the root meanwhile. */
static const struct attack root_attacks[MAX_ATTACKS] = {
	{ "in one jail, then in another", .ops = root_ops,
	  .before = { DO(chroot, STR("a")) },
	  .change = { DO(chroot, STR("b")) }, .after = done_in_a },
	{ "in jail, then out", .ops = root_ops,
	  .before = { DO(chroot, STR("a")) },
	  .change = { DO(chroot, STR(".")) }, .after = done_in_a },
	{ "outside, then in jail", .ops = outer_root_ops,
	  .before = { DO(chroot, STR(".")) },
	  .change = { DO(chroot, STR("a")) }, .after = done_in_a },
};

TEST_F_TIMEOUT(identity, root, 120)
{
	ATTACKS(root_attacks);
}

static const struct op in_dir_ops[MAX_OPS] = {
	OPEN("inner", O_RDONLY, 0, OPENS),
	OPEN("../secret", O_RDONLY, 0, OPENS),
	OPEN("made-%c", O_CREAT | O_RDWR, 0600, OPENS),
	UNLINK("victim-%c", 0, 0),
	RENAME("old-%c", "new-%c", 0),
};

static const struct op in_removed_ops[MAX_OPS] = {
	OPEN("inner", O_RDONLY, 0, -ENOENT),
	OPEN("made-%c", O_CREAT | O_RDWR, 0600, -ENOENT),
	OPEN(".", O_PATH, 0, OPENS),
	UNLINK("victim-%c", 0, -ENOENT),
};

static bool from_cwd(struct scene *s)
{
	s->at = AT_FDCWD;
	s->to_at = AT_FDCWD;
	s->fd[0] = openat(s->dir, "b", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return s->fd[0] >= 0;
}

static const struct attack cwd_attacks[MAX_ATTACKS] = {
	{ "goes elsewhere", .ops = in_dir_ops, .prepare = from_cwd,
	  .before = { DO(chdir, STR("a")) },
	  .change = { DO(fchdir, FD0) }, .after = done_in_a },
	{ "goes there from nowhere", .ops = in_removed_ops, .prepare = from_cwd,
	  .before = { DO(chdir, STR("empty-c")),
		      DO(unlinkat, AT_FDCWD, STR("../empty-c"),
			 AT_REMOVEDIR) },
	  .change = { DO(fchdir, FD0) } },
};

TEST_F_TIMEOUT(identity, working_directory, 120)
{
	ATTACKS(cwd_attacks);
}

static const struct op umask_ops[MAX_OPS] = {
	OPEN("made-%c", O_CREAT | O_RDWR, 0666, OPENS),
	OPEN("set-%c", O_CREAT | O_RDWR, 06777, OPENS),
	OPEN("open", O_TMPFILE | O_RDWR, 0777, OPENS),
};

static const struct attack umask_attacks[MAX_ATTACKS] = {
	{ "closed, then open", .ops = umask_ops, .before = { DO(umask, 077) },
	  .change = { DO(umask, 0) } },
	{ "odd, then closed", .ops = umask_ops, .before = { DO(umask, 0153) },
	  .change = { DO(umask, 0777) } },
	{ "open, then closed", .ops = umask_ops, .change = { DO(umask, 077) } },
};

TEST_F_TIMEOUT(identity, umask, 120)
{
	ATTACKS(umask_attacks);
}

/* ---- mounts ---- */

static bool mount_on(const char *fmt)
{
	char name[16];
	int i;

	for (i = 1; i <= 4; i++) {
		snprintf(name, sizeof(name), fmt, i);
		if (i < 4 ? mount("mp", name, "tmpfs", 0, NULL) :
			    mount("inner", name, NULL, MS_BIND, NULL))
			return false;
	}
	return true;
}

static bool mount_for_request(struct scene *s)
{
	(void)s;
	return !unshare(CLONE_NEWNS) && mount_on("mp%d-r");
}

static bool mount_for_both(struct scene *s)
{
	s->fd[0] = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	return s->fd[0] >= 0 && mount_for_request(s) && mount_on("mp%d-c");
}

static const struct op busy_ops[MAX_OPS] = {
	UNLINK("mp1-%c", AT_REMOVEDIR, -EBUSY),
	RENAME("mp2-%c", "new-%c", -EBUSY),
	RENAME("empty-%c", "mp3-%c", -EBUSY),
	UNLINK("mp4-%c", 0, -EBUSY),
};

static const struct op not_busy_ops[MAX_OPS] = {
	UNLINK("mp1-%c", AT_REMOVEDIR, 0),
	RENAME("mp2-%c", "new-%c", 0),
	RENAME("empty-%c", "mp3-%c", 0),
	UNLINK("mp4-%c", 0, 0),
};

static int mounter(struct kid *kid, void *arg)
{
	return !kid_ok(mount_for_both(arg)) || !parent_tell(kid, "m") ||
	       !parent_hear(kid);
}

/* Somebody who stays as long as this process. */
static bool others_mount(struct scene *s)
{
	static struct kid kid;

	return kid_start(&kid, mounter, s) && kid_hear(&kid) == 'm';
}

/* A root of its own, with another one in it. */
static bool root_in_root(struct scene *s)
{
	return mount_for_both(s) && !chdir("mp1-c") &&
	       aio_put("who", "the first") && !mkdir("put", 0755) &&
	       aio_put("victim-c", "") && aio_put("victim-r", "") &&
	       !mkdir("next", 0755) && !syscall(__NR_pivot_root, ".", "put") &&
	       !chdir("/") && !mount("next", "next", "tmpfs", 0, NULL) &&
	       !chdir("next") && aio_put("who", "the next") &&
	       !mkdir("put", 0755) && aio_put("victim-r", "");
}

static bool next_untouched(struct scene *s)
{
	(void)s;
	return aio_exists("/put") && aio_exists("/victim-r");
}

static const struct op pivot_ops[MAX_OPS] = {
	OPEN("/who", O_RDONLY, 0, OPENS),
	OPEN("/..", O_PATH, 0, OPENS),
	OPEN("/put/..", O_PATH, 0, OPENS),
	UNLINK("/victim-%c", 0, 0),
};

static const struct attack mount_attacks[MAX_ATTACKS] = {
	{ "others mount there", .ops = not_busy_ops, .prepare = others_mount },
	{ "goes to where all is mounted", .ops = not_busy_ops,
	  .disturb = mount_for_request, .held_only = true },
	{ "unmounts in another namespace", .ops = busy_ops,
	  .prepare = mount_for_both,
	  .change = { DO(unshare, CLONE_NEWNS),
		      DO(umount2, STR("mp1-r"), MNT_DETACH),
		      DO(umount2, STR("mp2-r"), MNT_DETACH),
		      DO(umount2, STR("mp3-r"), MNT_DETACH),
		      DO(umount2, STR("mp4-r"), MNT_DETACH) } },
	{ "goes to where nothing is mounted", .ops = busy_ops,
	  .prepare = mount_for_both,
	  .change = { DO(setns, FD0, CLONE_NEWNS) } },
	{ "gets another root", .ops = pivot_ops, .prepare = root_in_root,
	  .change = { DO(pivot_root, STR("."), STR("put")) },
	  .after = next_untouched, .held_only = true },
	{ "gets another root for good", .ops = pivot_ops,
	  .prepare = root_in_root,
	  .change = { DO(pivot_root, STR("."), STR("put")),
		      DO(umount2, STR("/put"), MNT_DETACH) },
	  .after = next_untouched, .held_only = true },
};

TEST_F_TIMEOUT(identity, mount_namespace, 120)
{
	ATTACKS(mount_attacks);
}

/* ---- descriptors ---- */

static const struct op dir_ops[MAX_OPS] = {
	OPEN("inner", O_RDONLY, 0, OPENS),
	OPEN("made-%c", O_CREAT | O_RDWR, 0600, OPENS),
	UNLINK("victim-%c", 0, 0),
	RENAME("old-%c", "new-%c", 0),
};

static int open_dir(const struct scene *s, const char *dir)
{
	return openat(s->dir, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static bool dir_a(struct scene *s)
{
	s->at = open_dir(s, "a");
	s->to_at = s->at;
	s->fd[0] = open_dir(s, "b");
	return s->at >= 0 && s->fd[0] >= 0;
}

static bool dirs_a_and_b(struct scene *s)
{
	s->at = open_dir(s, "a");
	s->to_at = open_dir(s, "b");
	s->fd[0] = dup(s->at);
	return s->at >= 0 && s->to_at >= 0 && s->fd[0] >= 0;
}

static bool moved_to_b(struct scene *s)
{
	return is_there(s, "b/new-r") && !is_there(s, "a/old-r") &&
	       is_there(s, "b/old-r") && !is_there(s, "a/new-r");
}

static const struct attack dir_attacks[MAX_ATTACKS] = {
	{ "closed", .ops = dir_ops, .prepare = dir_a,
	  .change = { DO(close, AT) }, .after = done_in_a },
	{ "in a range that is closed", .ops = dir_ops, .prepare = dir_a,
	  .change = { DO(close_range, AT, AT) }, .after = done_in_a },
	{ "replaced", .ops = dir_ops, .prepare = dir_a,
	  .change = { DO(dup3, FD0, AT, O_CLOEXEC) }, .after = done_in_a },
	{ "swapped", .ops = OPS(RENAME("old-%c", "new-%c", 0)),
	  .prepare = dirs_a_and_b,
	  .change = { DO(dup3, TO_AT, AT, O_CLOEXEC),
		      DO(dup3, FD0, TO_AT, O_CLOEXEC) },
	  .after = moved_to_b },
};

TEST_F_TIMEOUT(identity, directory_descriptor, 120)
{
	ATTACKS(dir_attacks);
}

static bool is_file(struct scene *s, int fd, const char *path)
{
	struct stat x, y;

	return !fstat(fd, &x) && !fstatat(s->dir, path, &y, 0) &&
	       x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static bool fails(long ret, int error)
{
	return ret == -1 && errno == error;
}

/* Whatever is done to a number that is set aside, it stays so. */
static bool take_reserved(struct scene *s)
{
	int next = s->next;

	s->fd[0] = openat(s->dir, "b/inner", O_RDONLY | O_CLOEXEC);
	if (!kid_ok(s->fd[0] > next) || !kid_ok(fails(close(next), EBADF)) ||
	    !kid_ok(fails(fcntl(next, F_GETFD), EBADF)) ||
	    !kid_ok(fails(dup2(next, s->fd[0]), EBADF)) ||
	    !kid_ok(fails(dup2(s->fd[0], next), EBUSY)) ||
	    !kid_ok(!syscall(__NR_close_range, next, next, 0)) ||
	    !kid_ok(fails(dup3(s->fd[0], next, O_CLOEXEC), EBUSY)))
		return false;
	s->fd[1] = fcntl(s->fd[0], F_DUPFD_CLOEXEC, next);
	s->fd[2] = dup(s->fd[0]);
	return kid_ok(s->fd[1] > next) && kid_ok(s->fd[2] > next);
}

static bool only_reserved(struct scene *s)
{
	return kid_ok(s->m.res[0] == s->next) &&
	       kid_ok(is_file(s, s->fd[0], "b/inner")) &&
	       kid_ok(is_file(s, s->fd[1], "b/inner")) &&
	       kid_ok(is_file(s, s->fd[2], "b/inner"));
}

/* In a table of one's own the number is as good as any other. */
static bool take_in_own(struct scene *s)
{
	return openat(s->dir, "b/inner", O_RDONLY | O_CLOEXEC) == s->next;
}

static bool own_untouched(struct scene *s)
{
	return is_file(s, s->next, "b/inner");
}

static bool got_lowest(struct scene *s)
{
	return s->m.res[0] == s->next;
}

static bool none_lost(struct scene *s)
{
	return aio_next_fd() == s->next;
}

static const struct op one_open_ops[MAX_OPS] = {
	OPEN("inner", O_RDONLY, 0, OPENS),
};

static const struct op open_only_ops[MAX_OPS] = {
	OPEN("inner", O_RDONLY, 0, OPENS),
	OPEN("open/made-%c", O_CREAT | O_RDWR, 0600, OPENS),
};

static const struct attack reserved_attacks[MAX_ATTACKS] = {
	{ "the lowest", .ops = one_open_ops, .after = got_lowest },
	{ "given back", .ops = OPS(OPEN("nowhere", O_RDONLY, 0, -ENOENT)),
	  .after = none_lost },
	{ "taken", .ops = one_open_ops, .disturb = take_reserved,
	  .after = only_reserved, .held_only = true },
	{ "taken in a copy of the table", .ops = one_open_ops,
	  .change = { DO(unshare, CLONE_FILES) }, .disturb = take_in_own,
	  .after = own_untouched, .instead = -ECANCELED, .held_only = true },
	{ "closed in a copy of the table", .ops = one_open_ops,
	  .change = { DO(close_range, NEXT, NEXT, CLOSE_RANGE_UNSHARE) },
	  .disturb = take_in_own, .after = own_untouched,
	  .instead = -ECANCELED, .held_only = true },
	/* The table has gone with the program that was there before. */
	{ "executes a program", .ops = open_only_ops, .uid = NOBODY,
	  .before = { BE_NOBODY_FOR_GOOD }, .instead = -ECANCELED,
	  .held_only = true, .exec = CLONE_VM, .executed = 'r' },
};

TEST_F_TIMEOUT(identity, reserved_descriptor, 120)
{
	ATTACKS(reserved_attacks);
}

static const struct { __u64 soft, hard; } few_files = { 3, 4096 },
					  many_files = { 1024, 4096 };

#define LIMIT_FILES(_limit)	\
	DO(prlimit64, 0, RLIMIT_NOFILE, STR(&(_limit)))

static const struct op over_limit_ops[MAX_OPS] = {
	OPEN("inner", O_RDONLY, 0, -EMFILE),
	OPEN("made-%c", O_CREAT | O_RDWR, 0600, -EMFILE),
	OPEN("nowhere", O_RDONLY, 0, -EMFILE),
};

static bool made_nothing(struct scene *s)
{
	return !is_there(s, "made-r");
}

static const struct attack limit_attacks[MAX_ATTACKS] = {
	{ "over the limit", .ops = over_limit_ops,
	  .before = { LIMIT_FILES(few_files) },
	  .change = { LIMIT_FILES(many_files) }, .after = made_nothing,
	  .at_submit = true },
	{ "below the limit", .ops = open_only_ops,
	  .before = { LIMIT_FILES(many_files) },
	  .change = { LIMIT_FILES(few_files) } },
};

TEST_F_TIMEOUT(identity, descriptor_limit, 120)
{
	ATTACKS(limit_attacks);
}

/* ---- Landlock ---- */

#define MAY_READ	(LANDLOCK_ACCESS_FS_READ_FILE |		\
			 LANDLOCK_ACCESS_FS_READ_DIR)
#define MAY_CHANGE	(LANDLOCK_ACCESS_FS_WRITE_FILE |	\
			 LANDLOCK_ACCESS_FS_MAKE_REG |		\
			 LANDLOCK_ACCESS_FS_REMOVE_FILE |	\
			 LANDLOCK_ACCESS_FS_REMOVE_DIR)
#define MAY_ALL		(MAY_READ | MAY_CHANGE | LANDLOCK_ACCESS_FS_REFER)

static bool allow_below(const struct scene *s, int rules, const char *dir,
			__u64 what)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = what,
		.parent_fd = openat(s->dir, dir, O_PATH | O_CLOEXEC),
	};

	return rule.parent_fd >= 0 &&
	       !syscall(__NR_landlock_add_rule, rules,
			LANDLOCK_RULE_PATH_BENEATH, &rule, 0) &&
	       !close(rule.parent_fd);
}

/* All in "a" and "b", less in "open", nothing else. */
static bool enter_domain(struct scene *s)
{
	struct landlock_ruleset_attr attr = { .handled_access_fs = MAY_ALL };
	int rules = syscall(__NR_landlock_create_ruleset, &attr, sizeof(attr),
			    0);

	return rules >= 0 && allow_below(s, rules, "a", MAY_ALL) &&
	       allow_below(s, rules, "b", MAY_ALL) &&
	       allow_below(s, rules, "open", MAY_READ | MAY_CHANGE) &&
	       !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !syscall(__NR_landlock_restrict_self, rules, 0) &&
	       !close(rules);
}

static const struct op in_domain_ops[MAX_OPS] = {
	OPEN("inner", O_RDONLY, 0, -EACCES),
	OPEN("inner", O_PATH, 0, OPENS),
	OPEN(".", O_RDONLY, 0, -EACCES),
	OPEN("made-%c", O_CREAT | O_RDWR, 0600, -EACCES),
	OPEN("a/inner", O_RDWR, 0, OPENS),
	OPEN("a/made-%c", O_CREAT | O_RDWR, 0600, OPENS),
	UNLINK("victim-%c", 0, -EACCES),
	UNLINK("a/victim-%c", 0, 0),
	UNLINK("empty-%c", AT_REMOVEDIR, -EACCES),
	RENAME("old-%c", "new-%c", -EACCES),
	RENAME("b/victim-%c", "b/new-%c", 0),
	RENAME("a/old-%c", "b/moved-%c", 0),
	RENAME("b/old-%c", "open/moved-%c", -EXDEV),
};

static const struct op outside_domain_ops[MAX_OPS] = {
	OPEN("inner", O_RDONLY, 0, OPENS),
	OPEN("made-%c", O_CREAT | O_RDWR, 0600, OPENS),
	UNLINK("victim-%c", 0, 0),
	RENAME("old-%c", "new-%c", 0),
	RENAME("b/old-%c", "open/moved-%c", 0),
};

static const struct attack landlock_attacks[MAX_ATTACKS] = {
	{ "in a domain", .ops = in_domain_ops, .prepare = enter_domain },
	{ "enters a domain", .ops = outside_domain_ops,
	  .disturb = enter_domain },
};

TEST_F_TIMEOUT(identity, landlock, 120)
{
	if (syscall(__NR_landlock_create_ruleset, NULL, 0,
		    LANDLOCK_CREATE_RULESET_VERSION) < 2)
		SKIP(return, "no Landlock");
	ATTACKS(landlock_attacks);
}

/* ---- keyrings ---- */

static char loop_device[32];
static struct fscrypt_key fs_key = {
	.mode = FSCRYPT_MODE_AES_256_XTS, .raw = "aio_identity", .size = 64,
};

#define FS_KEY	FSCRYPT_KEY_DESC_PREFIX "6161616161616161"

#define NEW_SESSION	DO(keyctl, KEYCTL_JOIN_SESSION_KEYRING)
#define ADD_KEY(_keyring)						\
	DO(add_key, STR("logon"), STR(FS_KEY), STR(&fs_key),		\
	   sizeof(fs_key), _keyring)

static const struct deed get_key[MAX_DEEDS] = {
	NEW_SESSION, ADD_KEY(KEY_SPEC_SESSION_KEYRING),
};

/* A new instance: what has been decrypted once stays so. */
static bool mount_encrypted(struct scene *s)
{
	char instance[64];

	snprintf(instance, sizeof(instance), "/sys/fs/ext4/%s",
		 strrchr(loop_device, '/') + 1);
	if (unshare(CLONE_NEWNS) ||
	    !aio_wait_for(access(instance, F_OK), AIO_PATIENCE_MS) ||
	    mount(loop_device, "../encrypted", "ext4", 0, NULL) ||
	    !act(s, get_key))
		return false;
	s->at = open("../encrypted/dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* From now on it has a key, and names can be found. */
	return s->at >= 0 && faccessat(s->at, "nothing", F_OK, 0);
}

static const struct attack key_attacks[MAX_ATTACKS] = {
	{ "with the key, then without",
	  .ops = OPS(OPEN("file-%c", O_RDWR, 0, OPENS)),
	  .prepare = mount_encrypted, .change = { NEW_SESSION } },
	{ "without the key, then with",
	  .ops = OPS(OPEN("file-%c", O_RDWR, 0, -ENOKEY)),
	  .prepare = mount_encrypted, .before = { NEW_SESSION },
	  .change = { ADD_KEY(KEY_SPEC_THREAD_KEYRING) },
	  .held_only = true },
};

/* Returns a descriptor of the device. */
static int loop_make(const char *path)
{
	int file = open(path, O_RDWR | O_CLOEXEC), fd, nr;

	fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	nr = ioctl(fd, LOOP_CTL_GET_FREE);
	close(fd);
	snprintf(loop_device, sizeof(loop_device), "/dev/loop%d", nr);
	fd = open(loop_device, O_RDWR | O_CLOEXEC);
	nr = ioctl(fd, LOOP_SET_FD, file);
	close(fd);
	close(file);
	/* What is open for writing cannot be mounted. */
	return nr ? -1 : open(loop_device, O_RDONLY | O_CLOEXEC);
}

static int encrypt_files(struct kid *kid, void *arg)
{
	struct scene s = { 0 };

	(void)kid;
	(void)arg;
	return !kid_ok(act(&s, get_key)) ||
	       !kid_ok(aio_put("encrypted/dir/file-c", "c")) ||
	       !kid_ok(aio_put("encrypted/dir/file-r", "r"));
}

TEST_F_TIMEOUT(identity, keyrings, 120)
{
	struct fscrypt_policy_v1 policy = {
		.contents_encryption_mode = FSCRYPT_MODE_AES_256_XTS,
		.filenames_encryption_mode = FSCRYPT_MODE_AES_256_CTS,
		.master_key_descriptor = "aaaaaaaa",
	};
	int fd, loop, ret;

	if (!aio_put("disk", "") || truncate("disk", 16 << 20) ||
	    system("mkfs.ext4 -q -F -O encrypt disk >/dev/null 2>&1"))
		SKIP(return, "no mkfs.ext4 -O encrypt");
	loop = loop_make("disk");
	if (loop < 0)
		SKIP(return, "no loop devices");
	ASSERT_EQ(0, mkdir("encrypted", 0755));
	ASSERT_EQ(0, mount(loop_device, "encrypted", "ext4", 0, NULL)) {
		TH_LOG("%s: %s", loop_device, strerror(errno));
	}
	ASSERT_EQ(0, mkdir("encrypted/dir", 0755));
	fd = open("encrypted/dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ret = aio_ret(ioctl(fd, FS_IOC_SET_ENCRYPTION_POLICY, &policy));
	close(fd);
	if (!ret)
		EXPECT_EQ(0, kid_run(encrypt_files, NULL));
	EXPECT_TRUE(aio_wait_for(!umount2("encrypted", 0), AIO_PATIENCE_MS));
	if (!ret)
		ATTACKS(key_attacks);
	EXPECT_EQ(0, ioctl(loop, LOOP_CLR_FD));
	close(loop);
	if (ret)
		SKIP(return, "no encryption: %s", strerror(-ret));
}

/* ---- names that mean something else to every process ---- */

static bool inner_is_stdin(struct scene *s)
{
	int fd = openat(s->dir, "inner", O_RDWR | O_CLOEXEC);

	return fd > 0 && !dup2(fd, 0) && !close(fd);
}

/* Another process of the same number as the submitter, which is gone. */
static bool reuse_number(struct scene *s)
{
	pid_t number = s->program, pid;
	struct clone_args args = {
		.exit_signal = SIGCHLD, .set_tid_size = 1,
		.set_tid = (uintptr_t)&number,
	};

	pid = syscall(__NR_clone3, &args, sizeof(args));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid == number;
}

/* The number that a file begins with. */
static int number_in(int fd)
{
	char buf[16] = "";

	return pread(fd, buf, sizeof(buf) - 1, 0) > 0 ? atoi(buf) : -1;
}

static bool is_submitter(struct scene *s)
{
	return kid_ok(number_in(s->m.res[0]) == s->tgid) &&
	       kid_ok(number_in(s->m.res[1]) == s->tid);
}

/* The first two are those of is_submitter(). */
static const struct op proc_ops[MAX_OPS] = {
	OPEN("/proc/self/stat", O_RDONLY, 0, OPENS),
	OPEN("/proc/thread-self/stat", O_RDONLY, 0, OPENS),
	OPEN("/proc/self/", O_PATH, 0, OPENS),
	OPEN("/proc/thread-self/", O_PATH, 0, OPENS),
	OPEN("/proc/thread-self/comm", O_RDWR, 0, OPENS),
	OPEN("/proc/self/mem", O_RDWR, 0, OPENS),
	OPEN("/proc/self/maps", O_RDONLY, 0, OPENS),
	OPEN("/proc/self/environ", O_RDONLY, 0, OPENS),
	OPEN("/proc/self/fd", O_RDONLY | O_DIRECTORY, 0, OPENS),
	OPEN("/proc/self/fd/0", O_RDWR, 0, OPENS),
	OPEN("/proc/self/fd/0", O_RDONLY | O_NOFOLLOW, 0, -ELOOP),
	OPEN("/proc/self/fd/999", O_RDONLY, 0, -ENOENT),
	OPEN("/proc/self/ns/mnt", O_RDONLY, 0, OPENS),
	OPEN("/proc/self/exe", O_PATH, 0, OPENS),
};

static const struct op own_number_ops[MAX_OPS] = {
	OPEN("/proc/self/stat", O_RDONLY, 0, OPENS),
	OPEN("/proc/thread-self/stat", O_RDONLY, 0, OPENS),
};

static const struct op dev_ops[MAX_OPS] = {
	OPEN("/dev/fd/0", O_RDWR, 0, OPENS),
	OPEN("/dev/fd/999", O_RDONLY, 0, -ENOENT),
	OPEN("/dev/stdin", O_RDONLY, 0, OPENS),
};

/* What only a process itself may see of it, and root. */
static const struct op private_ops[MAX_OPS] = {
	OPEN("/proc/self/maps", O_RDONLY, 0, OPENS),
	OPEN("/proc/self/fd", O_RDONLY | O_DIRECTORY, 0, OPENS),
	OPEN("/proc/self/fd/0", O_RDONLY, 0, OPENS),
	OPEN("/proc/self/exe", O_PATH, 0, OPENS),
	OPEN("/proc/self/cwd", O_PATH, 0, OPENS),
	OPEN("/proc/self/ns/mnt", O_RDONLY, 0, OPENS),
};

static const struct attack proc_attacks[MAX_ATTACKS] = {
	{ "a process", .ops = proc_ops, .prepare = inner_is_stdin,
	  .after = is_submitter },
	{ "a thread of it", .ops = proc_ops, .prepare = inner_is_stdin,
	  .after = is_submitter, .thread = true },
	{ "nobody else may look", .ops = private_ops, .uid = NOBODY,
	  .prepare = inner_is_stdin,
	  .before = { BE_NOBODY_FOR_GOOD, DO(prctl, PR_SET_DUMPABLE, 0) } },
	{ "is gone, and there is another", .ops = own_number_ops,
	  .disturb = reuse_number, .instead = -ENOENT, .held_only = true,
	  .exec = CLONE_VM | CLONE_FILES },
	{ "is another program now", .ops = private_ops, .uid = NOBODY,
	  .prepare = inner_is_stdin,
	  .before = { BE_NOBODY_FOR_GOOD, DO(prctl, PR_SET_DUMPABLE, 1) },
	  .instead = -EACCES, .held_only = true,
	  .exec = CLONE_VM | CLONE_FILES, .executed = 'r' },
};

static const struct attack proc_by_dev_attacks[MAX_ATTACKS] = {
	{ "by way of /dev", .ops = dev_ops, .prepare = inner_is_stdin },
};

TEST_F_TIMEOUT(identity, proc_self, 120)
{
	ATTACKS(proc_attacks);
	if (!access("/dev/fd/0", F_OK) && !access("/dev/stdin", F_OK))
		ATTACKS(proc_by_dev_attacks);
}

/* ---- terminals ---- */

/* One that is nobody's yet. */
static bool new_tty(struct scene *s)
{
	int unlock = 0, nr;

	s->fd[0] = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (s->fd[0] < 0 || ioctl(s->fd[0], TIOCSPTLCK, &unlock) ||
	    ioctl(s->fd[0], TIOCGPTN, &nr))
		return false;
	snprintf(s->path, sizeof(s->path), "/dev/pts/%d", nr);
	s->fd[1] = open(s->path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	/* From there the way is short, and known. */
	snprintf(s->path, sizeof(s->path), "pts/%d", nr);
	s->at = open("/dev", O_PATH | O_CLOEXEC);
	signal(SIGHUP, SIG_IGN);
	return s->fd[1] >= 0 && s->at >= 0;
}

static unsigned int tty_device(int fd)
{
	unsigned int dev = 0;

	return ioctl(fd, TIOCGDEV, &dev) ? 0 : dev;
}

static bool is_it(struct scene *s)
{
	return tty_device(s->fd[1]) &&
	       tty_device(s->m.res[0]) == tty_device(s->fd[1]);
}

static bool controls_it(struct scene *s)
{
	int fd = sys_openat(AT_FDCWD, "/dev/tty", O_RDWR, 0);
	bool same = fd >= 0 && tty_device(fd) == tty_device(s->fd[1]);

	close(fd);
	return same;
}

static bool controls_it_not(struct scene *s)
{
	return !controls_it(s);
}

#define LEAD_SESSION	DO(setsid)
#define CONTROL_TTY	DO(ioctl, FD1, TIOCSCTTY)

static const struct op dev_tty_ops[MAX_OPS] = {
	OPEN("tty", O_RDWR, 0, OPENS),
};

static const struct op open_tty_ops[MAX_OPS] = {
	OPEN(NULL, O_RDWR, 0, OPENS),
};

static const struct attack tty_attacks[MAX_ATTACKS] = {
	{ "has one", .ops = dev_tty_ops, .at_submit = true, .prepare = new_tty,
	  .before = { LEAD_SESSION, CONTROL_TTY }, .after = is_it },
	{ "has none", .ops = OPS(OPEN("tty", O_RDWR, 0, -ENXIO)),
	  .at_submit = true, .prepare = new_tty, .before = { LEAD_SESSION },
	  .after = controls_it_not },
	{ "has one, but is somebody else now", .ops = dev_tty_ops,
	  .at_submit = true, .prepare = new_tty,
	  .before = { LEAD_SESSION, CONTROL_TTY },
	  .change = { BE_NOBODY_FOR_GOOD }, .after = is_it },
	{ "opens one", .ops = open_tty_ops, .alone = true, .at_submit = true,
	  .prepare = new_tty, .before = { LEAD_SESSION },
	  .after = controls_it },
	{ "opens one not to control it", .alone = true, .at_submit = true,
	  .prepare = new_tty,
	  .ops = OPS(OPEN(NULL, O_RDWR | O_NOCTTY, 0, OPENS)),
	  .before = { LEAD_SESSION }, .after = controls_it_not },
	{ "opens one to write", .alone = true, .at_submit = true,
	  .prepare = new_tty,
	  .ops = OPS(OPEN(NULL, O_WRONLY, 0, OPENS)),
	  .before = { LEAD_SESSION }, .after = controls_it_not },
	{ "opens one, but leads no session", .ops = open_tty_ops,
	  .alone = true, .at_submit = true, .prepare = new_tty,
	  .after = controls_it_not },
};

TEST_F_TIMEOUT(identity, controlling_terminal, 120)
{
	if (access("/dev/tty", F_OK) || access("/dev/ptmx", F_OK) ||
	    access("/dev/pts", F_OK))
		SKIP(return, "no terminals");
	ATTACKS(tty_attacks);
}

/* ---- devices and control files ---- */

static bool join_cgroup(struct scene *s)
{
	(void)s;
	return !aio_write_text("../cg/aio-identity/cgroup.procs", "0");
}

static const struct op device_ops[MAX_OPS] = {
	OPEN("/dev/loop0", O_RDONLY, 0, -EPERM),
	OPEN("/dev/loop0", O_PATH, 0, OPENS),
	OPEN("/dev/loop1", O_RDONLY, 0, OPENS),
};

static const struct attack device_attacks[MAX_ATTACKS] = {
	{ "a device is denied", .ops = device_ops, .prepare = join_cgroup },
	/* Nobody knows whether that one may. */
	{ "is somebody else now",
	  .ops = OPS(OPEN("/dev/loop1", O_RDONLY, 0, OPENS)),
	  .prepare = join_cgroup, .change = { BE_NOBODY_FOR_GOOD },
	  .instead = -EPERM, .held_only = true },
};

static bool cgroup_make(const char *type, const char *options)
{
	return !mkdir("cg", 0755) && !mount("cg", "cg", type, 0, options) &&
	       (!mkdir("cg/aio-identity", 0755) || errno == EEXIST);
}

/* A process that is waited for may be in its cgroup a little longer. */
static bool cgroup_remove(void)
{
	return aio_wait_for(!rmdir("cg/aio-identity"), AIO_PATIENCE_MS) &&
	       aio_wait_for(!umount2("cg", 0), AIO_PATIENCE_MS);
}

TEST_F_TIMEOUT(identity, device_cgroup, 120)
{
	if (access("/dev/loop0", F_OK) || access("/dev/loop1", F_OK))
		SKIP(return, "no loop devices");
	if (!cgroup_make("cgroup", "devices"))
		SKIP(return, "no cgroup v1 of devices: %s", strerror(errno));
	EXPECT_EQ(0, aio_write_text("cg/aio-identity/devices.deny",
				    "b 7:0 rwm"));
	ATTACKS(device_attacks);
	EXPECT_TRUE(cgroup_remove());
}

static long sys_bpf(int cmd, union bpf_attr *attr)
{
	return aio_ret(syscall(__NR_bpf, cmd, attr, sizeof(*attr)));
}

/* A program that denies the device 7:0. */
static int deny_program(void)
{
	static const struct bpf_insn insns[] = {
		{ .code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 2,
		  .src_reg = 1, .off = offsetof(struct bpf_cgroup_dev_ctx,
						major) },
		{ .code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = 3,
		  .src_reg = 1, .off = offsetof(struct bpf_cgroup_dev_ctx,
						minor) },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 1 },
		{ .code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = 2, .off = 2,
		  .imm = 7 },
		{ .code = BPF_JMP | BPF_JNE | BPF_K, .dst_reg = 3, .off = 1,
		  .imm = 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
		.insns = (uintptr_t)insns,
		.insn_cnt = ARRAY_SIZE(insns),
		.license = (uintptr_t)"GPL",
	};

	return sys_bpf(BPF_PROG_LOAD, &attr);
}

TEST_F_TIMEOUT(identity, device_cgroup_bpf, 120)
{
	union bpf_attr attr = { .attach_type = BPF_CGROUP_DEVICE };
	int program = deny_program(), group;

	if (access("/dev/loop0", F_OK) || access("/dev/loop1", F_OK))
		SKIP(return, "no loop devices");
	if (program < 0)
		SKIP(return, "no BPF for cgroups: %s", strerror(-program));
	ASSERT_TRUE(cgroup_make("cgroup2", NULL));
	group = open("cg/aio-identity", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	attr.target_fd = group;
	attr.attach_bpf_fd = program;
	ASSERT_EQ(0, sys_bpf(BPF_PROG_ATTACH, &attr));
	close(program);
	close(group);
	ATTACKS(device_attacks);
	EXPECT_TRUE(cgroup_remove());
}

/*
 * What takes note of who opens it, a worker does not open. It comes to that where
 * the name cannot be looked up without sleeping.
 */
static const char * const refused[] = {
	"/proc/sys/fs/aio-nr", "/proc/version", "/proc/filesystems",
	"/proc/sys/kernel/random/boot_id", "/sys/kernel/notes",
	"/sys/kernel/uevent_seqnum", "/sys/fs/cgroup/cgroup.procs",
};

/* Else the submitter opens it. */
static const struct {
	const char	*dir;
	const char	*name;
	bool		worker;		/* may, too */
} by_submitter[] = {
	{ AIO_DEBUGFS, "aio_thread/stats" },
	{ "/dev", "null", true },
	{ "/dev", "zero", true },
	{ "/dev", "urandom", true },
	{ "/dev", "tty0" },
	{ "/dev", "ptmx" },
	{ "/dev", "console" },
	{ "/dev", "loop-control" },
	{ "/dev", "userfaultfd" },
	{ "/dev", "fuse" },
	{ "/dev", "kvm" },
	{ "/dev", "vcs" },
	{ "/dev", "vcsa1" },
	{ "/dev", "cpu/0/msr" },
	{ "/dev", "cpu/0/cpuid" },
	{ "/dev", "dma_heap/system" },
	{ "/dev", "snapshot" },
};

static const char * const not_refused[] = {
	"/dev/null", "/dev/zero", "/dev/urandom", "/proc/1/stat",
	"/proc/1/ns/user",
};

static long long open_request_at(aio_context_t ctx, int dir, const char *path,
				 int flags)
{
	struct iocb cb;

	iocb_openat(&cb, dir, path, flags, 0);
	return aio_run(ctx, &cb);
}

static long long open_request(aio_context_t ctx, const char *path, int flags)
{
	return open_request_at(ctx, AT_FDCWD, path, flags);
}

TEST_F_TIMEOUT(identity, control_files, 120)
{
	int way, fd, dir, link, tried = 0, next = aio_next_fd();
	struct aio_counts before, now;
	char path[64];
	long long res;
	size_t i;

	for (way = AT_ONCE; way <= IN_WORKER; way++) {
		ASSERT_EQ(0, aio_set_force_worker(way != AT_ONCE));
		for (i = 0; i < ARRAY_SIZE(refused); i++) {
			fd = sys_openat(AT_FDCWD, refused[i], O_RDONLY, 0);
			if (fd < 0)
				continue;
			close(fd);
			tried++;
			EXPECT_EQ(-EOPNOTSUPP, open_request(self->env.ctx,
							    refused[i],
							    O_RDONLY)) {
				TH_LOG("%s, %s", refused[i], way_names[way]);
			}
			/* That does not call them. */
			res = open_request(self->env.ctx, refused[i], O_PATH);
			EXPECT_EQ(next, res);
			close(res);
		}
		for (i = 0; i < ARRAY_SIZE(by_submitter); i++) {
			const char *name = by_submitter[i].name;

			/* From where the name can be looked up so. */
			dir = open(by_submitter[i].dir, O_PATH | O_CLOEXEC);
			ASSERT_EQ(next, dir);
			link = openat(dir, name, O_PATH | O_CLOEXEC);
			fd = sys_openat(dir, name, O_RDONLY | O_NOCTTY, 0);
			close(fd);
			if (fd < 0) {
				close(link);
				close(dir);
				continue;
			}
			tried++;
			aio_counts_get(&before);
			res = open_request_at(self->env.ctx, dir, name,
					      O_RDONLY | O_NOCTTY);
			aio_counts_since(&before, &now);
			EXPECT_EQ(fd, res) {
				TH_LOG("%s, %s", name, way_names[way]);
			}
			EXPECT_EQ(1, now.submitter);
			EXPECT_EQ(0, now.worker + now.at_once);
			close(res);

			/* Such a link is not followed without sleeping. */
			snprintf(path, sizeof(path), "/proc/self/fd/%d", link);
			res = open_request(self->env.ctx, path,
					   O_RDONLY | O_NOCTTY);
			EXPECT_EQ(by_submitter[i].worker ? fd : -EOPNOTSUPP,
				  res) {
				TH_LOG("%s, %s", name, way_names[way]);
			}
			close(res);
			close(link);
			close(dir);
		}
		for (i = 0; i < ARRAY_SIZE(not_refused); i++) {
			res = open_request(self->env.ctx, not_refused[i],
					   O_RDONLY);
			EXPECT_EQ(next, res) {
				TH_LOG("%s, %s", not_refused[i],
				       way_names[way]);
			}
			close(res);
		}
	}
	/* A limit of the caller counts for it, and it could not be opened. */
	if (!mkdir("mqueue", 0755) &&
	    !mount("mqueue", "mqueue", "mqueue", 0, NULL)) {
		EXPECT_EQ(-EOPNOTSUPP, open_request(self->env.ctx, "mqueue/new",
						    O_RDWR | O_CREAT));
		EXPECT_FALSE(aio_exists("mqueue/new"));
		EXPECT_EQ(0, umount("mqueue"));
	}
	rmdir("mqueue");
	EXPECT_EQ(next, aio_next_fd());
	EXPECT_LE(2 * 10, tried);
}

/* ---- sockets ---- */

/* Who has sent the next message. */
static bool sender(int fd, struct ucred *who)
{
	char byte, control[CMSG_SPACE(sizeof(*who))];
	struct iovec iov = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *head;

	if (recvmsg(fd, &msg, MSG_DONTWAIT) != 1)
		return false;
	head = CMSG_FIRSTHDR(&msg);
	if (!head || head->cmsg_type != SCM_CREDENTIALS)
		return false;
	memcpy(who, CMSG_DATA(head), sizeof(*who));
	return true;
}

/* The receiver asks who it is. */
static bool named(struct scene *s)
{
	int one = 1;

	return !setsockopt(s->fd[1], SOL_SOCKET, SO_PASSCRED, &one,
			   sizeof(one));
}

static bool unix_packets(struct scene *s)
{
	return !socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s->fd) &&
	       named(s);
}

static bool unix_stream(struct scene *s)
{
	return !socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s->fd) &&
	       named(s);
}

static bool netlink(struct scene *s)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK };
	socklen_t len = sizeof(addr);
	int i;

	for (i = 0; i < 2; i++) {
		s->fd[i] = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC,
				  NETLINK_USERSOCK);
		addr.nl_pid = 0;
		if (s->fd[i] < 0 ||
		    bind(s->fd[i], (void *)&addr, sizeof(addr)) ||
		    getsockname(s->fd[i], (void *)&addr, &len))
			return false;
	}
	return !connect(s->fd[0], (void *)&addr, sizeof(addr)) && named(s);
}

static bool send_byte(struct scene *s)
{
	iocb_pwrite(&s->m.cbs[0], s->fd[0], "r", 1, 0);
	return write(s->fd[0], "c", 1) == 1;
}

static bool names_submitter(struct scene *s)
{
	struct ucred by_call = { 0 }, by_request = { 0 };

	return kid_ok(sender(s->fd[1], &by_call)) &&
	       kid_ok(sender(s->fd[1], &by_request)) &&
	       kid_ok(by_call.pid == s->tgid) &&
	       kid_ok(by_request.pid == by_call.pid) &&
	       kid_ok(by_request.uid == by_call.uid) &&
	       kid_ok(by_request.gid == by_call.gid);
}

static const struct attack peer_attacks[MAX_ATTACKS] = {
	{ "packets", .ops = OPS(FILLED(1)), .uid = NOBODY,
	  .prepare = unix_packets, .before = { BE_NOBODY }, .fill = send_byte,
	  .change = { BE_ROOT }, .after = names_submitter },
	{ "a stream", .ops = OPS(FILLED(1)), .prepare = unix_stream,
	  .fill = send_byte, .change = { BE_NOBODY_FOR_GOOD },
	  .after = names_submitter },
	{ "netlink", .ops = OPS(FILLED(1)), .uid = NOBODY, .prepare = netlink,
	  .before = { BE_NOBODY }, .fill = send_byte, .change = { BE_ROOT },
	  .after = names_submitter },
};

TEST_F_TIMEOUT(identity, socket_peer, 120)
{
	ATTACKS(peer_attacks);
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "--suid"))
		return suid_main(atoi(argv[2]), atoi(argv[3]));
	return test_harness_run(argc, argv);
}

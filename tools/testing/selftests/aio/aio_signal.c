// SPDX-License-Identifier: GPL-2.0
/*
 * Signals and identity of threaded AIO: what a blocking system call of the
 * submitting thread would have been refused or signalled, the request is too,
 * whichever task does the work. Most tests make the same call in the blocking
 * way beside it and want the same to come of it.
 */
#include "../kselftest_harness.h"
#include "aio_many.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* High enough not to be in the way of a log that standard error goes to. */
#define LIMIT	0x40000000LL

/* ---- who has got which signal ---- */

static struct {
	int	count;
	int	signo;
	pid_t	tid;
} seen;

static void on_signal(int signo, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	__atomic_store_n(&seen.tid, gettid(), __ATOMIC_SEQ_CST);
	__atomic_store_n(&seen.signo, signo, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&seen.count, 1, __ATOMIC_SEQ_CST);
}

static int catch_signal(int signo)
{
	struct sigaction sa = {
		.sa_sigaction = on_signal,
		.sa_flags = SA_SIGINFO,
	};

	memset(&seen, 0, sizeof(seen));
	return sigaction(signo, &sa, NULL);
}

FIXTURE(sig)
{
	struct aio_env env;
	aio_context_t ctx;
	__u8 *buf;
};

FIXTURE_VARIANT(sig)
{
	bool force;
};

FIXTURE_VARIANT_ADD(sig, as_tried)
{
	.force = false,
};

FIXTURE_VARIANT_ADD(sig, forced)
{
	.force = true,
};

#define BUF	0x100000

FIXTURE_SETUP(sig)
{
	AIO_SETUP(&self->env, true, variant->force, 64);
	self->ctx = self->env.ctx;
	self->buf = malloc(BUF);
	ASSERT_NE(NULL, self->buf);
	aio_fill(self->buf, BUF, 1, 0);
	ASSERT_EQ(0, catch_signal(SIGXFSZ));
	ASSERT_EQ(0, catch_signal(SIGPIPE));
}

static int set_limit(rlim_t limit)
{
	struct rlimit rlim = { .rlim_cur = limit, .rlim_max = RLIM_INFINITY };

	return setrlimit(RLIMIT_FSIZE, &rlim);
}

FIXTURE_TEARDOWN(sig)
{
	set_limit(RLIM_INFINITY);
	free(self->buf);
	AIO_TEARDOWN(&self->env);
}

/* ---- a thread that writes, as a blocking call or by AIO ---- */

struct writer {
	/* what it is to do */
	bool		aio;
	aio_context_t	ctx;
	int		fd;
	const void	*buf;
	size_t		len;
	long long	offset;		/* negative: not a file with offsets */
	sigset_t	*block;
	int		(*change)(void);	/* done after io_submit() */
	bool		leave;		/* without waiting for the event */

	/* how far it is */
	pthread_t	thread;
	pid_t		tid;
	bool		submitted;
	bool		done;
	bool		dismissed;

	/* what came of it */
	struct iocb	cb;
	long long	res;
	int		changed;
	sigset_t	pending;
};

#define is_set(flag)	__atomic_load_n(&(flag), __ATOMIC_SEQ_CST)
#define set(flag)	__atomic_store_n(&(flag), true, __ATOMIC_SEQ_CST)

static long long writer_reap(struct writer *w)
{
	struct io_event ev;

	if (reap_one(w->ctx, &ev, MANY_MS) != 1)
		return AIO_NO_EVENT;
	if (ev.obj != (uintptr_t)&w->cb || ev.data != ev.obj || ev.res2)
		return AIO_WRONG_EVENT;
	return ev.res;
}

static void *writer_thread(void *arg)
{
	struct writer *w = arg;
	long ret;

	__atomic_store_n(&w->tid, gettid(), __ATOMIC_SEQ_CST);
	if (w->block)
		pthread_sigmask(SIG_BLOCK, w->block, NULL);
	if (!w->aio) {
		set(w->submitted);
		if (w->offset < 0)
			ret = write(w->fd, w->buf, w->len);
		else
			ret = pwrite(w->fd, w->buf, w->len, w->offset);
		w->res = ret < 0 ? -errno : ret;
	} else {
		iocb_pwrite(&w->cb, w->fd, w->buf, w->len,
			    w->offset < 0 ? 0 : w->offset);
		ret = submit_one(w->ctx, &w->cb);
		if (w->change)
			w->changed = w->change();
		set(w->submitted);
		if (w->leave)
			return NULL;
		w->res = ret == 1 ? writer_reap(w) : AIO_REFUSED(-ret);
	}
	sigpending(&w->pending);
	set(w->done);
	/* What is pending for this thread is lost when it ends. */
	while (w->block && !is_set(w->dismissed))
		sched_yield();
	return NULL;
}

static bool writer_start(struct writer *w)
{
	memset(&seen, 0, sizeof(seen));
	if (pthread_create(&w->thread, NULL, writer_thread, w))
		return false;
	return aio_wait_for(is_set(w->submitted) || is_set(w->done),
			    AIO_PATIENCE_MS);
}

/* Is it as far as it gets: in the call, or its request armed or in a worker? */
static bool writer_waits(struct writer *w, const struct aio_env *env,
			 bool force)
{
	if (!w->aio)
		return aio_wait_asleep(w->tid, AIO_PATIENCE_MS);
	return aio_wait_blocked(env, force, 1);
}

static bool no_such_thread(pid_t tid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d", tid);
	return access(path, F_OK) && errno == ENOENT;
}

/* Did this thread, and no other, get the signal so many times? */
#define EXPECT_SIGNALS(w, signal, nr)					\
do {									\
	EXPECT_EQ(nr, seen.count);					\
	if (seen.count) {						\
		EXPECT_EQ(signal, seen.signo);				\
		EXPECT_EQ((w)->tid, seen.tid) {				\
			TH_LOG("the main thread is %d", getpid());	\
		}							\
	}								\
} while (0)

/* ---- RLIMIT_FSIZE ---- */

TEST_F(sig, file_size)
{
	static const struct {
		long long	offset;
		size_t		len;
		long long	res;
		int		signals;
	} cases[] = {
		{ 0,		4096,	4096,	0 },
		{ LIMIT - 4096,	4096,	4096,	0 },
		{ LIMIT - 1,	1,	1,	0 },
		{ LIMIT,	1,	-EFBIG,	1 },
		{ LIMIT,	4096,	-EFBIG,	1 },
		{ LIMIT + 5,	4096,	-EFBIG,	1 },
		{ LIMIT - 4096,	8192,	4096,	0 },
		{ LIMIT - 1,	4096,	1,	0 },
		{ LIMIT - 1000,	BUF,	1000,	0 },
	};
	unsigned int i;
	int fd, aio;

	fd = memfd_create("aio", MFD_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, set_limit(LIMIT));
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		for (aio = 0; aio < 2; aio++) {
			struct writer w = {
				.aio = aio, .ctx = self->ctx, .fd = fd,
				.buf = self->buf, .len = cases[i].len,
				.offset = cases[i].offset,
			};

			ASSERT_TRUE(writer_start(&w));
			ASSERT_EQ(0, pthread_join(w.thread, NULL));
			EXPECT_EQ(cases[i].res, w.res) {
				TH_LOG("%s, case %u", aio ? "aio" : "blocking",
				       i);
			}
			EXPECT_SIGNALS(&w, SIGXFSZ, cases[i].signals);
		}
	}
	close(fd);
}

TEST_F(sig, file_size_signal_ignored)
{
	struct writer w = {
		.aio = true, .ctx = self->ctx, .buf = self->buf, .len = 1,
		.offset = LIMIT,
	};

	w.fd = memfd_create("aio", MFD_CLOEXEC);
	ASSERT_LE(0, w.fd);
	ASSERT_EQ(0, set_limit(LIMIT));
	signal(SIGXFSZ, SIG_IGN);
	ASSERT_TRUE(writer_start(&w));
	ASSERT_EQ(0, pthread_join(w.thread, NULL));
	EXPECT_EQ(-EFBIG, w.res);
	EXPECT_EQ(0, seen.count);
	close(w.fd);
}

/* Not caught, it ends the process, as it does from pwrite(). */
TEST_F(sig, file_size_signal_kills)
{
	int fd, status;
	pid_t pid;

	fd = memfd_create("aio", MFD_CLOEXEC);
	ASSERT_LE(0, fd);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct rlimit no_core = { 0, 0 };
		aio_context_t ctx = 0;
		struct iocb cb;

		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGXFSZ, SIG_DFL);
		if (sys_io_setup(1, &ctx) || set_limit(LIMIT))
			_exit(1);
		iocb_pwrite(&cb, fd, self->buf, 1, LIMIT);
		aio_run(ctx, &cb);
		_exit(2);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGXFSZ, WTERMSIG(status));
	close(fd);
}

/* The limit is the one at io_submit(), whatever it is when the write runs. */
TEST_F_TIMEOUT(sig, file_size_at_submit, 900)
{
	static const struct {
		rlim_t		at_submit;
		rlim_t		later;
		long long	res;
		int		signals;
	} cases[] = {
		{ RLIM_INFINITY,	LIMIT,		4096,	0 },
		{ 3 * LIMIT,		LIMIT,		4096,	0 },
		{ LIMIT,		RLIM_INFINITY,	-EFBIG,	1 },
		{ 2 * LIMIT + 5,	LIMIT,		5,	0 },
	};
	unsigned int i;
	int fd;

	fd = memfd_create("aio", MFD_CLOEXEC);
	ASSERT_LE(0, fd);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct writer w = {
			.aio = true, .ctx = self->ctx, .fd = fd,
			.buf = self->buf, .len = 4096, .offset = 2 * LIMIT,
		};
		struct crowd crowd;
		const char *why;

		why = crowd_all_workers(&crowd);
		ASSERT_EQ(NULL, why) {
			TH_LOG("%s", why);
		}
		ASSERT_EQ(0, set_limit(cases[i].at_submit));
		ASSERT_TRUE(writer_start(&w));
		ASSERT_EQ(0, set_limit(cases[i].later));
		EXPECT_FALSE(is_set(w.done));
		EXPECT_EQ(0, crowd_leave(&crowd));
		ASSERT_EQ(0, pthread_join(w.thread, NULL));
		EXPECT_EQ(cases[i].res, w.res) {
			TH_LOG("case %u", i);
		}
		EXPECT_SIGNALS(&w, SIGXFSZ, cases[i].signals);
		ASSERT_EQ(0, set_limit(RLIM_INFINITY));
	}
	close(fd);
}

/* ---- broken pipes ---- */

enum breaking { BEFORE, BLOCKED, PARTLY };

static const char * const breaking_names[] = {
	"before", "blocked", "partly done",
};

static bool open_ends(bool sock, int fds[2])
{
	if (sock)
		return !socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds);
	return !pipe2(fds, O_CLOEXEC);
}

/* Fill until a writer would have to wait; gives the number of bytes. */
static long fill(int fd)
{
	static const char bytes[4096];
	int flags = fcntl(fd, F_GETFL);
	ssize_t ret, sum = 0;

	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	while ((ret = write(fd, bytes, sizeof(bytes))) > 0)
		sum += ret;
	fcntl(fd, F_SETFL, flags);
	return ret < 0 && errno == EAGAIN ? sum : -1;
}

static bool writable(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };

	return poll(&pfd, 1, 0) == 1 && pfd.revents & POLLOUT;
}

/* The reader goes; a socket's stays open, or unread data were an error. */
static void break_end(bool sock, int *fd)
{
	if (sock) {
		shutdown(*fd, SHUT_RD);
	} else {
		close(*fd);
		*fd = -1;
	}
}

struct outcome {
	bool		ok;
	long long	res;
	int		signals;
	bool		right_thread;
	long		in_it;		/* what the reader could still read */
};

static struct outcome write_and_break(const struct aio_env *env, bool force,
				      const void *buf, bool sock,
				      enum breaking how, bool aio)
{
	struct writer w = {
		.aio = aio, .ctx = env->ctx, .buf = buf, .offset = -1,
		.len = how == PARTLY ? BUF : 4096,
	};
	struct outcome out = { 0 };
	int fds[2];

	if (!open_ends(sock, fds))
		return out;
	w.fd = fds[1];
	if (how == BEFORE)
		break_end(sock, &fds[0]);
	if (how == BLOCKED && fill(fds[1]) <= 0)
		return out;
	if (!writer_start(&w))
		return out;
	if (how != BEFORE) {
		if (how == PARTLY &&
		    !aio_wait_for(!writable(fds[1]), AIO_PATIENCE_MS))
			return out;
		if (!writer_waits(&w, env, force) || is_set(w.done))
			return out;
		break_end(sock, &fds[0]);
	}
	if (pthread_join(w.thread, NULL))
		return out;
	out.ok = true;
	out.res = w.res;
	out.signals = seen.count;
	out.right_thread = !seen.count ||
			   (seen.signo == SIGPIPE && seen.tid == w.tid);
	out.in_it = fds[0] >= 0 ? aio_readable(fds[0]) : 0;
	close(fds[0]);
	close(fds[1]);
	return out;
}

#define WRITE_AND_BREAK(sock, how, aio)					\
	write_and_break(&self->env, variant->force, self->buf, sock, how, aio)

TEST_F_TIMEOUT(sig, broken_pipe, 120)
{
	enum breaking how, like;
	int sock;

	for (sock = 0; sock < 2; sock++) {
		for (how = BEFORE; how <= PARTLY; how++) {
			struct outcome call, aio;

			/*
			 * A socket's write that sleeps for room has no signal
			 * when it is woken. One that is armed does not sleep in
			 * it: it is tried again, as if it came only then.
			 */
			like = how;
			if (sock && how == BLOCKED && !variant->force)
				like = BEFORE;

			TH_LOG("%s, broken %s", sock ? "socket" : "pipe",
			       breaking_names[how]);
			call = WRITE_AND_BREAK(sock, like, false);
			aio = WRITE_AND_BREAK(sock, how, true);
			ASSERT_TRUE(call.ok);
			ASSERT_TRUE(aio.ok);
			ASSERT_TRUE(call.right_thread);
			EXPECT_TRUE(aio.right_thread) {
				TH_LOG("the main thread is %d, signal to %d",
				       getpid(), seen.tid);
			}
			EXPECT_EQ(call.signals, aio.signals);
			/* How far a stream got before it broke may differ. */
			if (sock && how == PARTLY) {
				EXPECT_LT(0, call.res);
				EXPECT_LT(0, aio.res);
				EXPECT_EQ(aio.in_it, aio.res);
			} else {
				EXPECT_EQ(call.res, aio.res);
			}
			/* These are what makes the comparison mean something. */
			if (how == BEFORE || (!sock && how == BLOCKED))
				EXPECT_EQ(-EPIPE, aio.res);
			if (how == BEFORE || !sock)
				EXPECT_EQ(1, aio.signals);
		}
	}
}

TEST_F(sig, broken_pipe_signal_ignored)
{
	struct outcome out;
	int sock;

	signal(SIGPIPE, SIG_IGN);
	for (sock = 0; sock < 2; sock++) {
		out = WRITE_AND_BREAK(sock, BEFORE, true);
		ASSERT_TRUE(out.ok);
		EXPECT_EQ(-EPIPE, out.res);
		EXPECT_EQ(0, out.signals);
	}
	out = WRITE_AND_BREAK(false, BLOCKED, true);
	ASSERT_TRUE(out.ok);
	EXPECT_EQ(-EPIPE, out.res);
	EXPECT_EQ(0, out.signals);
}

/* A blocked signal waits, and waits with the thread, not with the process. */
TEST_F(sig, broken_pipe_signal_blocked)
{
	sigset_t mask, pending;
	struct writer w = {
		.aio = true, .ctx = self->ctx, .buf = self->buf, .len = 4096,
		.offset = -1, .block = &mask,
	};
	int fds[2];

	sigemptyset(&mask);
	sigaddset(&mask, SIGPIPE);
	/* The process's signal would go to any thread that does not block it. */
	ASSERT_EQ(0, pthread_sigmask(SIG_BLOCK, &mask, NULL));
	ASSERT_TRUE(open_ends(false, fds));
	w.fd = fds[1];
	ASSERT_LT(0, fill(fds[1]));
	ASSERT_TRUE(writer_start(&w));
	ASSERT_TRUE(writer_waits(&w, &self->env, variant->force));
	close(fds[0]);
	ASSERT_TRUE(aio_wait_for(is_set(w.done), MANY_MS));
	EXPECT_EQ(-EPIPE, w.res);
	EXPECT_EQ(1, sigismember(&w.pending, SIGPIPE));
	ASSERT_EQ(0, sigpending(&pending));
	EXPECT_EQ(0, sigismember(&pending, SIGPIPE));
	set(w.dismissed);
	ASSERT_EQ(0, pthread_join(w.thread, NULL));
	EXPECT_EQ(0, seen.count);
	close(fds[1]);
}

TEST_F(sig, broken_pipe_submitter_gone)
{
	struct writer w = {
		.aio = true, .ctx = self->ctx, .buf = self->buf, .len = 4096,
		.offset = -1, .leave = true,
	};
	sigset_t pending;
	int fds[2];

	ASSERT_TRUE(open_ends(false, fds));
	w.fd = fds[1];
	ASSERT_LT(0, fill(fds[1]));
	ASSERT_TRUE(writer_start(&w));
	ASSERT_TRUE(writer_waits(&w, &self->env, variant->force));
	ASSERT_EQ(0, pthread_join(w.thread, NULL));
	ASSERT_TRUE(aio_wait_for(no_such_thread(w.tid), AIO_PATIENCE_MS));
	EXPECT_TRUE(aio_no_event(self->ctx));
	close(fds[0]);
	EXPECT_EQ(-EPIPE, writer_reap(&w));
	EXPECT_EQ(0, seen.count);
	ASSERT_EQ(0, sigpending(&pending));
	EXPECT_EQ(0, sigismember(&pending, SIGPIPE));
	close(fds[1]);
}

/* ---- a submitter that is somebody else by then ---- */

/* The bare calls change this thread alone. */

static int change_nothing(void)
{
	return syscall(__NR_getpid) > 0 ? 0 : -1;
}

static int change_uids(void)
{
	return syscall(__NR_setresuid, 65534, 65534, 65534);
}

static int change_euid(void)
{
	return syscall(__NR_setresuid, -1, 65534, -1);
}

static int change_gids(void)
{
	return syscall(__NR_setresgid, 65534, 65534, 65534);
}

static int change_groups(void)
{
	gid_t gid = 65533;

	return syscall(__NR_setgroups, 1, &gid);
}

static int change_caps(void)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	if (syscall(__NR_capget, &head, data))
		return -1;
	data[0].effective &= ~(1u << CAP_NET_RAW);
	data[0].permitted &= ~(1u << CAP_NET_RAW);
	data[0].inheritable &= ~(1u << CAP_NET_RAW);
	return syscall(__NR_capset, &head, data);
}

static int change_securebits(void)
{
	int bits = prctl(PR_GET_SECUREBITS);

	return bits < 0 ? bits :
	       prctl(PR_SET_SECUREBITS, bits | SECBIT_NO_SETUID_FIXUP);
}

static const struct {
	const char	*name;
	int		(*change)(void);
	int		signals;
} changes[] = {
	{ "nothing",		change_nothing,		1 },
	{ "all uids",		change_uids,		0 },
	{ "effective uid",	change_euid,		0 },
	{ "all gids",		change_gids,		0 },
	{ "groups",		change_groups,		0 },
	{ "capabilities",	change_caps,		0 },
	{ "securebits",		change_securebits,	0 },
};

TEST_F_TIMEOUT(sig, broken_pipe_submitter_changed, 120)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(changes); i++) {
		struct writer w = {
			.aio = true, .ctx = self->ctx, .buf = self->buf,
			.len = 4096, .offset = -1, .change = changes[i].change,
		};
		int fds[2];

		ASSERT_TRUE(open_ends(false, fds));
		w.fd = fds[1];
		ASSERT_LT(0, fill(fds[1]));
		ASSERT_TRUE(writer_start(&w));
		ASSERT_TRUE(writer_waits(&w, &self->env, variant->force));
		close(fds[0]);
		ASSERT_EQ(0, pthread_join(w.thread, NULL));
		ASSERT_EQ(0, w.changed);
		EXPECT_EQ(-EPIPE, w.res);
		EXPECT_SIGNALS(&w, SIGPIPE, changes[i].signals);
		EXPECT_EQ(changes[i].signals, seen.count) {
			TH_LOG("changed: %s", changes[i].name);
		}
		close(fds[1]);
		/* Only then does the next one's count start from nothing. */
		ASSERT_TRUE(aio_wait_unblocked(&self->env));
	}
}

TEST_F_TIMEOUT(sig, file_size_submitter_changed, 600)
{
	static const int which[] = { 0, 1 };
	unsigned int i;
	int fd;

	fd = memfd_create("aio", MFD_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, set_limit(LIMIT));
	for (i = 0; i < ARRAY_SIZE(which); i++) {
		struct writer w = {
			.aio = true, .ctx = self->ctx, .fd = fd,
			.buf = self->buf, .len = 4096, .offset = LIMIT,
			.change = changes[which[i]].change,
		};
		struct crowd crowd;
		const char *why;

		why = crowd_all_workers(&crowd);
		ASSERT_EQ(NULL, why) {
			TH_LOG("%s", why);
		}
		ASSERT_TRUE(writer_start(&w));
		EXPECT_FALSE(is_set(w.done));
		EXPECT_EQ(0, crowd_leave(&crowd));
		ASSERT_EQ(0, pthread_join(w.thread, NULL));
		ASSERT_EQ(0, w.changed);
		EXPECT_EQ(-EFBIG, w.res);
		EXPECT_SIGNALS(&w, SIGXFSZ, changes[which[i]].signals);
	}
	close(fd);
}

/* ---- what a message says about its sender ---- */

#define SENDER_UID	2222
#define SENDER_GID	1111

/* Runs in a child: become somebody else and write by AIO. */
static int send_as_other(int fd)
{
	aio_context_t ctx = 0;
	struct iocb cb;
	gid_t none = SENDER_GID;

	if (setgroups(1, &none) ||
	    setresgid(SENDER_GID, SENDER_GID, SENDER_GID) ||
	    setresuid(SENDER_UID, SENDER_UID, SENDER_UID))
		return 1;
	if (sys_io_setup(1, &ctx))
		return 2;
	if (!(((struct aio_ring *)ctx)->compat_features &
	      AIO_RING_COMPAT_THREADED))
		return 3;
	iocb_pwrite(&cb, fd, "Message", 7, 0);
	return aio_run(ctx, &cb) == 7 ? 0 : 4;
}

/* Receive until the message; gives 0 with its sender, or -errno. */
static int receive_from(int fd, struct ucred *cred)
{
	static char bytes[65536];
	union {
		char		buf[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr	align;
	} control;
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	struct cmsghdr *cmsg;
	struct msghdr msg;
	ssize_t ret;

	do {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };

		memset(&msg, 0, sizeof(msg));
		msg.msg_iov = &iov;
		msg.msg_iovlen = 1;
		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		if (poll(&pfd, 1, AIO_PATIENCE_MS) != 1)
			return -ETIME;
		ret = recvmsg(fd, &msg, MSG_DONTWAIT);
		if (ret <= 0)
			return ret ? -errno : -EPIPE;
	} while (bytes[0] != 'M');
	if (ret != 7)
		return -EMSGSIZE;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_level != SOL_SOCKET ||
	    cmsg->cmsg_type != SCM_CREDENTIALS)
		return -ENODATA;
	memcpy(cred, CMSG_DATA(cmsg), sizeof(*cred));
	return 0;
}

TEST_F_TIMEOUT(sig, scm_credentials, 120)
{
	static const int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
	int i, blocked, status, on = 1, fds[2];
	struct ucred cred;
	pid_t pid;

	for (i = 0; i < 6; i++) {
		blocked = i & 1;
		TH_LOG("type %d%s", types[i / 2], blocked ? ", blocked" : "");
		ASSERT_EQ(0, socketpair(AF_UNIX, types[i / 2] | SOCK_CLOEXEC, 0,
					fds));
		ASSERT_EQ(0, setsockopt(fds[0], SOL_SOCKET, SO_PASSCRED, &on,
					sizeof(on)));
		ASSERT_TRUE(!blocked || fill(fds[1]) > 0);
		memset(&cred, 0xff, sizeof(cred));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			_exit(send_as_other(fds[1]));
		ASSERT_TRUE(!blocked ||
			    aio_wait_blocked(&self->env, variant->force, 1));
		ASSERT_EQ(0, receive_from(fds[0], &cred));
		EXPECT_EQ(pid, cred.pid);
		EXPECT_EQ((uid_t)SENDER_UID, cred.uid);
		EXPECT_EQ((gid_t)SENDER_GID, cred.gid);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
		close(fds[0]);
		close(fds[1]);
	}
}

/* ---- job control ---- */

enum ttin { CAUGHT, IGNORED, MASKED, STOPS };

struct tty_result {
	int		step;		/* 0 when all went as it should */
	long long	call_res;
	int		call_signals;
	long long	aio_res;
	int		aio_signals;
	long long	foreground_res;
};

/* A process in the background reads from its terminal. */
static int tty_background(int tty, enum ttin ttin, struct tty_result *r)
{
	aio_context_t ctx = 0;
	char line[16] = "";
	struct iocb cb;
	sigset_t mask;
	int tries;
	long ret;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTTIN);
	switch (ttin) {
	case CAUGHT:
		catch_signal(SIGTTIN);
		break;
	case IGNORED:
		signal(SIGTTIN, SIG_IGN);
		break;
	case MASKED:
		sigprocmask(SIG_BLOCK, &mask, NULL);
		break;
	case STOPS:
		signal(SIGTTIN, SIG_DFL);
		break;
	}
	if (sys_io_setup(4, &ctx))
		return 10;
	iocb_pread(&cb, tty, line, sizeof(line), 0);
	if (ttin == STOPS) {
		/* Until continued in the foreground, with a line there. */
		for (tries = 0; tries < 3; tries++) {
			r->foreground_res = aio_run(ctx, &cb);
			if (r->foreground_res != -EINTR &&
			    r->foreground_res != AIO_REFUSED(EINTR))
				break;
		}
		return memcmp(line, "hello\n", 6) ? 11 : 0;
	}
	ret = read(tty, line, sizeof(line));
	r->call_res = ret < 0 ? -errno : ret;
	r->call_signals = seen.count;
	seen.count = 0;
	r->aio_res = aio_run(ctx, &cb);
	r->aio_signals = seen.count;
	return 0;
}

/* The leader of a new session, with the terminal as its own. */
static int tty_session(int master, enum ttin ttin, struct tty_result *r)
{
	const char *name = ptsname(master);
	int tty, status;
	pid_t pid;

	if (setsid() < 0)
		return 1;
	tty = open(name, O_RDWR);
	if (tty < 0)
		return 2;
	ioctl(tty, TIOCSCTTY, 0);
	if (tcgetpgrp(tty) != getpid())
		return 3;
	pid = fork();
	if (pid < 0)
		return 4;
	if (!pid) {
		if (setpgid(0, 0))
			_exit(5);
		_exit(tty_background(tty, ttin, r));
	}
	if (ttin == STOPS) {
		if (waitpid(pid, &status, WUNTRACED) != pid)
			return 6;
		if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTTIN)
			return 7;
		if (write(master, "hello\n", 6) != 6 || tcsetpgrp(tty, pid) ||
		    kill(pid, SIGCONT))
			return 8;
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return 9;
	return WEXITSTATUS(status);
}

TEST_F_TIMEOUT(sig, tty_job_control, 120)
{
	static const struct {
		const char	*name;
		int		signals;
		long long	res;
	} cases[] = {
		[CAUGHT]	= { "caught",	1, -EINTR },
		[IGNORED]	= { "ignored",	0, -EIO },
		[MASKED]	= { "masked",	0, -EIO },
		[STOPS]		= { "default",	0, 0 },
	};
	struct tty_result *r;
	enum ttin ttin;
	int master, status, off = 0;
	pid_t pid;

	r = mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, r);
	for (ttin = CAUGHT; ttin <= STOPS; ttin++) {
		TH_LOG("SIGTTIN %s", cases[ttin].name);
		memset(r, 0, sizeof(*r));
		master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
		if (master < 0)
			SKIP(return, "no /dev/ptmx");
		ASSERT_EQ(0, ioctl(master, TIOCSPTLCK, &off));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			_exit(tty_session(master, ttin, r));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_TRUE(WIFEXITED(status));
		EXPECT_EQ(0, WEXITSTATUS(status));
		if (ttin == STOPS) {
			EXPECT_EQ(6, r->foreground_res);
		} else {
			ASSERT_EQ(cases[ttin].res, r->call_res);
			ASSERT_EQ(cases[ttin].signals, r->call_signals);
			EXPECT_EQ(r->call_signals, r->aio_signals);
			/* io_submit() itself may be what is interrupted. */
			EXPECT_TRUE(r->aio_res == r->call_res ||
				    (r->call_res == -EINTR &&
				     r->aio_res == AIO_REFUSED(EINTR))) {
				TH_LOG("read(2) %lld, aio %lld", r->call_res,
				       r->aio_res);
			}
		}
		close(master);
	}
	munmap(r, sizeof(*r));
}

TEST_HARNESS_MAIN

// SPDX-License-Identifier: GPL-2.0
/*
 * AIO reads and writes on every kind of file: streams, devices, files that
 * mean something else to another task, direct I/O, and a device so slow that
 * whoever waits for it is seen.
 */
#include <poll.h>
#include <signal.h>
#include <termios.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <sys/utsname.h>
#include <linux/fs.h>
#include <linux/uinput.h>

#include "kselftest_harness.h"
#include "aio_test.h"

#define EVENTS		256
#define EXT4_MAGIC	0xef53

FIXTURE(file) {
	struct aio_env		env;
	struct aio_counts	before;
};

FIXTURE_VARIANT(file) {
	bool force;
};

FIXTURE_VARIANT_ADD(file, tried) { .force = false };
FIXTURE_VARIANT_ADD(file, worker) { .force = true };

FIXTURE_SETUP(file)
{
	signal(SIGPIPE, SIG_IGN);
	AIO_SETUP(&self->env, true, variant->force, EVENTS);
	aio_counts_get(&self->before);
}

FIXTURE_TEARDOWN(file)
{
	AIO_TEARDOWN(&self->env);
}

static long long call_ret(long long ret)
{
	return ret < 0 ? -errno : ret;
}

/* What the system call of the same arguments would have returned, or -errno. */
static long long as_call(long long res)
{
	if (res <= AIO_REFUSED(0) && res > AIO_NO_EVENT)
		return res - AIO_REFUSED(0);
	return res;
}

/* Submit what has to wait, and see that it does, in a @worker or without. */
static void submit_blocked(struct __test_metadata *_metadata,
			   const struct aio_env *env, bool worker,
			   struct iocb *cb)
{
	struct aio_counts since, now;
	struct io_event ev;

	/* The last one's worker may not be quite through with it. */
	ASSERT_TRUE(aio_wait_unblocked(env));
	aio_counts_get(&since);
	ASSERT_EQ(1, submit_one(env->ctx, cb));
	EXPECT_TRUE(aio_wait_blocked(env, worker, 1));
	EXPECT_EQ(0, sys_io_getevents(env->ctx, 0, 1, &ev, 0));
	aio_counts_since(&since, &now);
	EXPECT_EQ(worker, now.worker);
	EXPECT_EQ(!worker, now.armed);
}

#define SUBMIT_BLOCKED(cb)						\
	submit_blocked(_metadata, &self->env, variant->force, cb)

/* The same for a file that cannot be tried. */
#define SUBMIT_TO_WORKER(cb)						\
	submit_blocked(_metadata, &self->env, true, cb)

/* The result of the one request in flight. */
static long long result(aio_context_t ctx)
{
	struct io_event ev;

	return reap_one(ctx, &ev, AIO_PATIENCE_MS) == 1 ? ev.res : AIO_NO_EVENT;
}

#define EXPECT_RESULT(res)	EXPECT_EQ(res, result(self->env.ctx))

/* ---- streams ---- */

TEST_F(file, pipe_read)
{
	struct iocb cb;
	char buf[4096];
	int p[2];

	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	/* What is there, as soon as something is. */
	iocb_pread(&cb, p[0], buf, sizeof(buf), 0);
	SUBMIT_BLOCKED(&cb);
	ASSERT_EQ(5, write(p[1], "hello", 5));
	EXPECT_RESULT(5);
	EXPECT_EQ(0, memcmp(buf, "hello", 5));

	ASSERT_EQ(10, write(p[1], "0123456789", 10));
	iocb_pread(&cb, p[0], buf, 4, 0);
	EXPECT_EQ(4, aio_run(self->env.ctx, &cb));
	iocb_pread(&cb, p[0], buf + 4, sizeof(buf) - 4, 0);
	EXPECT_EQ(6, aio_run(self->env.ctx, &cb));
	EXPECT_EQ(0, memcmp(buf, "0123456789", 10));

	/* The end comes while it waits, and stays. */
	iocb_pread(&cb, p[0], buf, sizeof(buf), 0);
	SUBMIT_BLOCKED(&cb);
	close(p[1]);
	EXPECT_RESULT(0);
	EXPECT_EQ(0, aio_run(self->env.ctx, &cb));
	close(p[0]);
}

/* Read @len bytes of the stream @seed in uneven pieces. */
static bool drain(int fd, size_t len, uint32_t seed)
{
	static char buf[65536];
	size_t pos = 0, piece = 1;
	ssize_t ret;

	while (pos < len) {
		piece = piece * 5 % 60000 + 1;
		ret = read(fd, buf, piece);
		if (ret <= 0 || aio_check(buf, ret, seed, pos) >= 0)
			return false;
		pos += ret;
	}
	return pos == len;
}

/* Write more than fits, by @opcode, and only then start to read it. */
static void expect_whole(struct __test_metadata *_metadata,
			 const struct aio_env *env, bool force, int opcode,
			 int out, int in, size_t len)
{
	size_t third = len / 3;
	uint8_t *src = malloc(len);
	struct iovec iov[3] = {
		{ src, third },
		{ src + third, 1 },
		{ src + third + 1, len - third - 1 },
	};
	struct iocb cb;

	ASSERT_TRUE(!!src);
	aio_fill(src, len, 51, 0);
	if (opcode == IOCB_CMD_PWRITE)
		iocb_pwrite(&cb, out, src, len, 0);
	else
		iocb_pwritev(&cb, out, iov, 3, 0);
	submit_blocked(_metadata, env, force, &cb);
	memset(iov, 0xff, sizeof(iov));
	EXPECT_TRUE(drain(in, len, 51));
	EXPECT_EQ(len, result(env->ctx));
	free(src);
}

#define EXPECT_WHOLE(opcode, out, in, len)				\
	expect_whole(_metadata, &self->env, variant->force, opcode, out, in, \
		     len)

TEST_F_TIMEOUT(file, pipe_write, 60)
{
	struct aio_counts now;
	int p[2];

	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	EXPECT_WHOLE(IOCB_CMD_PWRITE, p[1], p[0], (1 << 20) + 1);
	EXPECT_WHOLE(IOCB_CMD_PWRITEV, p[1], p[0], (1 << 20) + 1);
	close(p[0]);
	close(p[1]);
	/* One request each, however often it went on. */
	aio_counts_settle(&self->before, 2, &now);
	EXPECT_EQ(2, variant->force ? now.worker : now.armed);
	EXPECT_EQ(2, aio_counts_ran(&self->before));
}

TEST_F_TIMEOUT(file, socket_stream, 60)
{
	struct iocb cb;
	char buf[100];
	int s[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s));
	iocb_pread(&cb, s[0], buf, sizeof(buf), 0);
	SUBMIT_BLOCKED(&cb);
	ASSERT_EQ(5, write(s[1], "hello", 5));
	EXPECT_RESULT(5);
	EXPECT_EQ(0, memcmp(buf, "hello", 5));
	/* Both ways at the same time. */
	iocb_pread(&cb, s[0], buf, sizeof(buf), 0);
	SUBMIT_BLOCKED(&cb);
	iocb_pwrite(&cb, s[0], "there", 5, 0);
	EXPECT_EQ(5, aio_run(self->env.ctx, &cb));
	ASSERT_EQ(5, read(s[1], buf + 50, 50));
	EXPECT_EQ(0, memcmp(buf + 50, "there", 5));
	ASSERT_EQ(2, write(s[1], "ok", 2));
	EXPECT_RESULT(2);

	EXPECT_WHOLE(IOCB_CMD_PWRITE, s[0], s[1], (4 << 20) + 1);
	EXPECT_WHOLE(IOCB_CMD_PWRITEV, s[1], s[0], (4 << 20) + 1);

	iocb_pread(&cb, s[0], buf, sizeof(buf), 0);
	SUBMIT_BLOCKED(&cb);
	ASSERT_EQ(0, shutdown(s[1], SHUT_WR));
	EXPECT_RESULT(0);
	close(s[0]);
	close(s[1]);
}

TEST_F(file, socket_dgram)
{
	struct iocb cbs[3], *ptrs[3];
	struct io_event ev;
	char buf[3][16];
	struct iovec iov[2] = { { buf[0], 2 }, { buf[1], 10 } };
	int s[2], i;
	unsigned int lens = 0;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, s));
	for (i = 0; i < 3; i++) {
		iocb_pread(&cbs[i], s[0], buf[i], 16, 0);
		ptrs[i] = &cbs[i];
	}
	ASSERT_EQ(3, sys_io_submit(self->env.ctx, 3, ptrs));
	EXPECT_TRUE(aio_wait_blocked(&self->env, variant->force, 3));
	/* One each, whole, also the empty one. */
	ASSERT_EQ(3, send(s[1], "abc", 3, 0));
	ASSERT_EQ(0, send(s[1], "", 0, 0));
	ASSERT_EQ(5, send(s[1], "defgh", 5, 0));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(1, reap_one(self->env.ctx, &ev, AIO_PATIENCE_MS));
		ASSERT_TRUE(ev.res >= 0 && ev.res <= 5);
		lens |= 1U << ev.res;
	}
	EXPECT_EQ(1U << 0 | 1U << 3 | 1U << 5, lens);
	/* Cut off where the buffer ends; one datagram from many segments. */
	ASSERT_EQ(8, send(s[1], "12345678", 8, 0));
	iocb_pread(&cbs[0], s[0], buf[0], 3, 0);
	EXPECT_EQ(3, aio_run(self->env.ctx, &cbs[0]));
	memcpy(buf[0], "ab", 2);
	memcpy(buf[1], "cdefghijkl", 10);
	iocb_pwritev(&cbs[0], s[0], iov, 2, 0);
	EXPECT_EQ(12, aio_run(self->env.ctx, &cbs[0]));
	ASSERT_EQ(12, recv(s[1], buf[2], 16, 0));
	EXPECT_EQ(0, memcmp(buf[2], "abcdefghijkl", 12));
	close(s[0]);
	close(s[1]);
}

/* A pseudo terminal that is nobody's controlling one. */
static bool open_pty(int *master, int *slave, int flags)
{
	struct termios t;

	*slave = -1;
	*master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | flags);
	if (*master < 0)
		return false;
	if (!grantpt(*master) && !unlockpt(*master))
		*slave = open(ptsname(*master),
			      O_RDWR | O_NOCTTY | O_CLOEXEC | flags);
	if (*slave < 0 || tcgetattr(*slave, &t)) {
		close(*master);
		return false;
	}
	t.c_lflag &= ~(ECHO | ECHONL);
	return !tcsetattr(*slave, TCSANOW, &t);
}

/* Reads what @big is written to, or hangs up, once its parent sleeps. */
static pid_t pty_child(int master, const char *big, size_t len)
{
	static char back[40000];
	pid_t parent = getpid(), pid = fork();
	size_t pos;
	ssize_t ret;

	if (pid)
		return pid;
	if (!aio_wait_asleep(parent, AIO_PATIENCE_MS))
		_exit(1);
	for (pos = 0; pos < len; pos += ret) {
		ret = read(master, back + pos, sizeof(back) - pos);
		if (ret <= 0)
			_exit(2);
	}
	_exit(len && memcmp(big, back, len) ? 3 : 0);
}

/* Terminals are the submitter's, as in a plain context. */
TEST_F_TIMEOUT(file, pty, 60)
{
	static char big[40000];
	struct aio_counts before, now;
	int master, slave, status;
	struct termios t;
	struct iocb cb;
	char buf[100];
	size_t pos;
	long long got;
	struct iovec iov[2] = { { buf, 2 }, { buf + 2, 50 } };
	pid_t pid;

	if (!open_pty(&master, &slave, 0))
		SKIP(return, "no pseudo terminals");
	aio_counts_get(&before);
	/* A line at a time. */
	ASSERT_EQ(12, write(master, "hello\nworld\n", 12));
	iocb_pread(&cb, slave, buf, sizeof(buf), 0);
	EXPECT_EQ(6, aio_run(self->env.ctx, &cb));
	EXPECT_EQ(0, memcmp(buf, "hello\n", 6));
	iocb_preadv(&cb, slave, iov, 2, 0);
	EXPECT_EQ(6, aio_run(self->env.ctx, &cb));
	EXPECT_EQ(0, memcmp(buf, "world\n", 6));

	/* Either way at a time. */
	ASSERT_EQ(4, write(slave, "out\n", 4));
	iocb_pread(&cb, master, buf, sizeof(buf), 0);
	got = aio_run(self->env.ctx, &cb);
	ASSERT_TRUE(got >= 1 && got <= 5);
	EXPECT_EQ(0, memcmp(buf, "out\r\n", got));
	if (got < 5)
		ASSERT_EQ(5 - got, read(master, buf, sizeof(buf)));
	iocb_pwrite(&cb, slave, "more\n", 5, 0);
	EXPECT_EQ(5, aio_run(self->env.ctx, &cb));
	for (pos = 0; pos < 6; pos += got) {
		got = read(master, buf + pos, sizeof(buf) - pos);
		ASSERT_LT(0, got);
	}
	EXPECT_EQ(0, memcmp(buf, "more\r\n", 6));

	/* More than it holds: all of it is written as it is read. */
	ASSERT_EQ(0, tcgetattr(slave, &t));
	cfmakeraw(&t);
	ASSERT_EQ(0, tcsetattr(slave, TCSANOW, &t));
	aio_fill(big, sizeof(big), 52, 0);
	pid = pty_child(master, big, sizeof(big));
	ASSERT_LT(0, pid);
	iocb_pwrite(&cb, slave, big, sizeof(big), 0);
	EXPECT_EQ(sizeof(big), aio_run(self->env.ctx, &cb));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);

	/* Hung up while it waits. */
	pid = pty_child(master, NULL, 0);
	ASSERT_LT(0, pid);
	close(master);
	iocb_pread(&cb, slave, buf, sizeof(buf), 0);
	/* As read(2): the reader may see the other end go before the hangup. */
	got = aio_run(self->env.ctx, &cb);
	EXPECT_TRUE(got == 0 || got == -EIO);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	close(slave);

	aio_counts_since(&before, &now);
	EXPECT_EQ(6, now.submitter);
	EXPECT_EQ(0, now.worker + now.at_once + now.armed);
}

/* ---- files that only know ->read() or ->write(), and other devices ---- */

TEST_F(file, inotify)
{
	char dir[] = "/tmp/aio-inotify-XXXXXX", path[64];
	struct inotify_event *ie;
	static struct inotify_event space[4096 / sizeof(*ie)];
	char *buf = (char *)space, want[4096];
	struct iovec iov[2], viov[2];
	struct iocb cb;
	int fd, fd2, touch, i;

	ASSERT_TRUE(!!mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/file", dir);
	fd = inotify_init1(IN_CLOEXEC);
	fd2 = inotify_init1(IN_CLOEXEC);
	ASSERT_TRUE(fd >= 0 && fd2 >= 0);
	ASSERT_LE(0, inotify_add_watch(fd, dir, IN_CREATE | IN_DELETE));
	ASSERT_LE(0, inotify_add_watch(fd2, dir, IN_CREATE | IN_DELETE));

	iocb_pread(&cb, fd, buf, sizeof(want), 0);
	SUBMIT_TO_WORKER(&cb);
	touch = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	ASSERT_LE(0, touch);
	close(touch);
	EXPECT_RESULT(sizeof(*ie) + 16);
	ie = (struct inotify_event *)buf;
	EXPECT_EQ(IN_CREATE, ie->mask);
	EXPECT_STREQ("file", ie->name);
	ASSERT_LT(0, read(fd2, want, sizeof(want)));

	/* Too small a buffer, then segment by segment: as read and readv. */
	ASSERT_EQ(0, unlink(path));
	iocb_pread(&cb, fd, buf, 8, 0);
	EXPECT_EQ(call_ret(read(fd2, want, 8)), aio_run(self->env.ctx, &cb));
	touch = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	ASSERT_LE(0, touch);
	close(touch);
	memset(buf, 0, sizeof(want));
	memset(want, 0, sizeof(want));
	for (i = 0; i < 2; i++) {
		viov[i].iov_base = buf + i * 100;
		iov[i].iov_base = want + i * 100;
		/* Room for one event each. */
		iov[i].iov_len = 40;
		viov[i].iov_len = 40;
	}
	iocb_preadv(&cb, fd, viov, 2, 0);
	EXPECT_EQ(call_ret(readv(fd2, iov, 2)), aio_run(self->env.ctx, &cb));
	EXPECT_EQ(0, memcmp(buf, want, sizeof(want)));
	ASSERT_EQ(0, unlink(path));
	ASSERT_EQ(0, rmdir(dir));
	close(fd);
	close(fd2);
}

TEST_F(file, eventfd)
{
	uint64_t value, add[2] = { 5, 7 }, most = UINT64_MAX - 1;
	struct iovec iov[2] = { { &add[0], 8 }, { &add[1], 8 } };
	struct iocb cb;
	int fd = eventfd(0, EFD_CLOEXEC);

	ASSERT_LE(0, fd);
	iocb_pread(&cb, fd, &value, 8, 0);
	SUBMIT_BLOCKED(&cb);
	add[0] = 42;
	ASSERT_EQ(8, write(fd, &add[0], 8));
	EXPECT_RESULT(8);
	EXPECT_EQ(42, value);

	/* Writing is by ->write() only. */
	iocb_pwrite(&cb, fd, &add[0], 8, 0);
	EXPECT_EQ(8, aio_run(self->env.ctx, &cb));
	ASSERT_EQ(8, read(fd, &value, 8));
	EXPECT_EQ(42, value);
	/* Each segment is a write of its own. */
	iocb_pwritev(&cb, fd, iov, 2, 0);
	EXPECT_EQ(16, aio_run(self->env.ctx, &cb));
	ASSERT_EQ(8, read(fd, &value, 8));
	EXPECT_EQ(49, value);
	/* What write() says to 4 bytes; to a value that is none. */
	iocb_pwrite(&cb, fd, &add[0], 4, 0);
	EXPECT_EQ(-EINVAL, as_call(aio_run(self->env.ctx, &cb)));
	value = UINT64_MAX;
	iocb_pwrite(&cb, fd, &value, 8, 0);
	EXPECT_EQ(-EINVAL, aio_run(self->env.ctx, &cb));
	iocb_pwrite(&cb, fd, (void *)8, 8, 0);
	EXPECT_EQ(-EFAULT, aio_run(self->env.ctx, &cb));

	/* Full: it waits until there is room. */
	ASSERT_EQ(8, write(fd, &most, 8));
	iocb_pwrite(&cb, fd, &add[0], 8, 0);
	SUBMIT_TO_WORKER(&cb);
	ASSERT_EQ(8, read(fd, &value, 8));
	EXPECT_EQ(most, value);
	EXPECT_RESULT(8);
	ASSERT_EQ(8, read(fd, &value, 8));
	EXPECT_EQ(42, value);
	close(fd);
}

TEST_F(file, timerfd)
{
	struct itimerspec spec = { .it_value.tv_nsec = 20000000 };
	long long start = aio_now_ns();
	uint64_t value = 0;
	struct iocb cb;
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	ASSERT_LE(0, fd);
	iocb_pread(&cb, fd, &value, 8, 0);
	SUBMIT_BLOCKED(&cb);
	ASSERT_EQ(0, timerfd_settime(fd, 0, &spec, NULL));
	EXPECT_RESULT(8);
	EXPECT_EQ(1, value);
	EXPECT_LE(20000000, aio_now_ns() - start);
	close(fd);
}

/* Returns a keyboard of our own making and its event device, or false. */
static bool make_evdev(int *uinput, int *evdev, int flags)
{
	struct uinput_setup setup = { .id = { .bustype = BUS_VIRTUAL } };
	char sysname[32], path[128], text[32];
	unsigned int major, minor;
	struct dirent *de;
	bool found;
	DIR *dir;

	*evdev = -1;
	*uinput = open("/dev/uinput", O_WRONLY | O_CLOEXEC);
	if (*uinput < 0)
		return false;
	strcpy(setup.name, "aio_file");
	if (ioctl(*uinput, UI_SET_EVBIT, EV_KEY) ||
	    ioctl(*uinput, UI_SET_KEYBIT, KEY_F24) ||
	    ioctl(*uinput, UI_DEV_SETUP, &setup) ||
	    ioctl(*uinput, UI_DEV_CREATE) ||
	    ioctl(*uinput, UI_GET_SYSNAME(sizeof(sysname)), sysname) < 0)
		goto out;
	snprintf(path, sizeof(path), "/sys/devices/virtual/input/%s", sysname);
	dir = opendir(path);
	if (!dir)
		goto out;
	do {
		de = readdir(dir);
		found = de && !strncmp(de->d_name, "event", 5);
	} while (de && !found);
	if (found) {
		snprintf(path, sizeof(path),
			 "/sys/devices/virtual/input/%s/%.20s/dev", sysname,
			 de->d_name);
		if (aio_read_text(path, text, sizeof(text)) > 0 &&
		    sscanf(text, "%u:%u", &major, &minor) == 2) {
			snprintf(path, sizeof(path), "/dev/aio-evdev-%d",
				 getpid());
			if (!mknod(path, S_IFCHR | 0600, makedev(major, minor)))
				*evdev = open(path, O_RDWR | O_CLOEXEC | flags);
			unlink(path);
		}
	}
	closedir(dir);
out:
	if (*evdev < 0)
		close(*uinput);
	return *evdev >= 0;
}

static void press(int uinput, int down)
{
	struct input_event ev[2] = {
		{ .type = EV_KEY, .code = KEY_F24, .value = down },
		{ .type = EV_SYN, .code = SYN_REPORT },
	};

	if (write(uinput, ev, sizeof(ev)) != sizeof(ev))
		perror("# uinput");
}

TEST_F(file, evdev)
{
	struct input_event ev[8];
	struct iovec iov[2] = { { &ev[0], sizeof(*ev) }, { &ev[1], sizeof(*ev) } };
	struct iocb cb;
	int uinput, evdev;

	if (!make_evdev(&uinput, &evdev, 0))
		SKIP(return, "no /dev/uinput, or no evdev");
	memset(ev, 0, sizeof(ev));
	iocb_pread(&cb, evdev, ev, sizeof(ev), 0);
	SUBMIT_TO_WORKER(&cb);
	press(uinput, 1);
	EXPECT_RESULT(2 * sizeof(*ev));
	EXPECT_EQ(EV_KEY, ev[0].type);
	EXPECT_EQ(KEY_F24, ev[0].code);
	EXPECT_EQ(1, ev[0].value);
	press(uinput, 0);
	iocb_preadv(&cb, evdev, iov, 2, 0);
	EXPECT_EQ(2 * sizeof(*ev), aio_run(self->env.ctx, &cb));
	EXPECT_EQ(EV_KEY, ev[0].type);
	EXPECT_EQ(0, ev[0].value);
	EXPECT_EQ(EV_SYN, ev[1].type);
	/* Unplugged while it waits. */
	iocb_pread(&cb, evdev, ev, sizeof(ev), 0);
	SUBMIT_TO_WORKER(&cb);
	ASSERT_EQ(0, ioctl(uinput, UI_DEV_DESTROY));
	EXPECT_RESULT(-ENODEV);
	close(evdev);
	close(uinput);
}

TEST_F(file, kmsg)
{
	char buf[8192], mark[64];
	struct io_event ev;
	struct iocb cb;
	int in, out, i;
	bool found = false;

	in = open("/dev/kmsg", O_RDONLY | O_CLOEXEC);
	out = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (in < 0 || out < 0)
		SKIP(return, "no /dev/kmsg");
	ASSERT_LE(0, lseek(in, 0, SEEK_END));
	iocb_pread(&cb, in, buf, sizeof(buf) - 1, 0);
	SUBMIT_TO_WORKER(&cb);
	/* Without the line end a record may still grow, and nobody sees it. */
	snprintf(mark, sizeof(mark), "aio_file: record of %d.%d\n", getpid(),
		 variant->force);
	ASSERT_EQ(strlen(mark), write(out, mark, strlen(mark)));
	/* Whatever the kernel has to say in between comes first. */
	for (i = 0; i < 1000 && !found; i++) {
		ASSERT_EQ(1, reap_one(self->env.ctx, &ev, AIO_PATIENCE_MS));
		ASSERT_TRUE(ev.res > 0 || ev.res == -EPIPE);
		buf[ev.res > 0 ? ev.res : 0] = '\0';
		found = strstr(buf, mark);
		if (!found)
			ASSERT_EQ(1, submit_one(self->env.ctx, &cb));
	}
	EXPECT_TRUE(found);
	close(in);
	close(out);
}

TEST_F(file, dev_mem)
{
	char buf[64], want[64];
	struct iovec iov[2] = { { buf, 16 }, { buf + 16, 48 } };
	struct iocb cb;
	int fd = open("/dev/mem", O_RDONLY | O_CLOEXEC);
	/* The firmware's, which does not change. */
	const off_t off = 0xf0000;

	if (fd < 0)
		SKIP(return, "no /dev/mem");
	memset(buf, 1, sizeof(buf));
	memset(want, 1, sizeof(want));
	iocb_pread(&cb, fd, buf, sizeof(buf), off);
	EXPECT_EQ(call_ret(pread(fd, want, sizeof(want), off)),
		  as_call(aio_run(self->env.ctx, &cb)));
	EXPECT_EQ(0, memcmp(buf, want, sizeof(buf)));
	memset(buf, 1, sizeof(buf));
	iocb_preadv(&cb, fd, iov, 2, off);
	EXPECT_EQ(call_ret(pread(fd, want, sizeof(want), off)),
		  as_call(aio_run(self->env.ctx, &cb)));
	EXPECT_EQ(0, memcmp(buf, want, sizeof(buf)));
	close(fd);
}

TEST_F(file, char_devices)
{
	static const struct {
		const char *path;
		long long read, write;
	} devs[] = {
		{ "/dev/null", 0, 5000 },
		{ "/dev/zero", 5000, 5000 },
		{ "/dev/full", 5000, -ENOSPC },
		{ "/dev/urandom", 5000, 5000 },
	};
	static char buf[5000];
	struct iovec iov[2] = { { buf, 1 }, { buf + 1, 4999 } };
	struct iocb cb;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(devs); i++) {
		int fd = open(devs[i].path, O_RDWR | O_CLOEXEC);

		ASSERT_LE(0, fd) {
			TH_LOG("%s", devs[i].path);
		}
		memset(buf, 1, sizeof(buf));
		iocb_pread(&cb, fd, buf, sizeof(buf), 7);
		EXPECT_EQ(devs[i].read, aio_run(self->env.ctx, &cb));
		if (devs[i].read > 0) {
			int n, ones = 0;

			for (n = 0; n < 5000; n++)
				ones += buf[n] == 1;
			EXPECT_GT(100, ones);
		}
		iocb_preadv(&cb, fd, iov, 2, 7);
		EXPECT_EQ(devs[i].read, aio_run(self->env.ctx, &cb));
		iocb_pwrite(&cb, fd, buf, sizeof(buf), 7);
		EXPECT_EQ(devs[i].write, aio_run(self->env.ctx, &cb));
		iocb_pwritev(&cb, fd, iov, 2, 7);
		EXPECT_EQ(devs[i].write, aio_run(self->env.ctx, &cb));
		close(fd);
	}
}

/* ---- who does not want to wait ---- */

TEST_F(file, nonblock)
{
	static char buf[4096], big[65536];
	int pipes[2], socks[2], master, slave, fds[16], nr = 0, i;
	int uinput = -1, evdev;
	uint64_t most = UINT64_MAX - 1;
	struct iocb cb;

	ASSERT_EQ(0, pipe2(pipes, O_CLOEXEC | O_NONBLOCK));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC |
				SOCK_NONBLOCK, 0, socks));
	fds[nr++] = pipes[0];
	fds[nr++] = socks[0];
	fds[nr++] = socks[1];
	fds[nr++] = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	fds[nr++] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fds[nr++] = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (open_pty(&master, &slave, O_NONBLOCK)) {
		fds[nr++] = master;
		fds[nr++] = slave;
	}
	if (make_evdev(&uinput, &evdev, O_NONBLOCK))
		fds[nr++] = evdev;
	for (i = 0; i < nr; i++) {
		ASSERT_LE(0, fds[i]);
		iocb_pread(&cb, fds[i], buf, sizeof(buf), 0);
		EXPECT_EQ(-EAGAIN, aio_run(self->env.ctx, &cb)) {
			TH_LOG("file %d of %d", i, nr);
		}
	}
	/* Writers: what there is room for, then -EAGAIN. */
	iocb_pwrite(&cb, pipes[1], big, sizeof(big), 0);
	EXPECT_EQ(sizeof(big), aio_run(self->env.ctx, &cb));
	EXPECT_EQ(-EAGAIN, aio_run(self->env.ctx, &cb));
	ASSERT_EQ(4096, read(pipes[0], buf, 4096));
	EXPECT_EQ(4096, aio_run(self->env.ctx, &cb));
	ASSERT_EQ(8, write(fds[4], &most, 8));
	iocb_pwrite(&cb, fds[4], &most, 8, 0);
	EXPECT_EQ(-EAGAIN, aio_run(self->env.ctx, &cb));
	/* Something there is read all the same. */
	ASSERT_EQ(5, write(socks[1], "hello", 5));
	iocb_pread(&cb, socks[0], buf, sizeof(buf), 0);
	EXPECT_EQ(5, aio_run(self->env.ctx, &cb));
	for (i = 0; i < nr; i++)
		close(fds[i]);
	close(pipes[1]);
	if (uinput >= 0)
		close(uinput);

	/* To a regular file the flag means nothing. */
	i = aio_temp_file("/tmp", O_NONBLOCK);
	ASSERT_LE(0, i);
	ASSERT_EQ(sizeof(big), write(i, big, sizeof(big)));
	fsync(i);
	posix_fadvise(i, 0, 0, POSIX_FADV_DONTNEED);
	iocb_pread(&cb, i, big, sizeof(big), 0);
	EXPECT_EQ(sizeof(big), aio_run(self->env.ctx, &cb));
	close(i);
}

/* ---- files that mean something else to another task ---- */

/* @nr requests ran in the submitter since @since, and none elsewhere. */
static void expect_submitter(struct __test_metadata *_metadata,
			     const struct aio_counts *since, int nr)
{
	struct aio_counts c;

	aio_counts_settle(since, nr, &c);
	EXPECT_EQ(nr, c.submitter);
	EXPECT_EQ(0, c.worker);
	EXPECT_EQ(0, c.native);
}

#define EXPECT_SUBMITTER(nr)	expect_submitter(_metadata, &self->before, nr)

TEST_F(file, signalfd)
{
	struct signalfd_siginfo si;
	struct iocb cb;
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	ASSERT_EQ(0, sigprocmask(SIG_BLOCK, &set, NULL));
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	ASSERT_LE(0, fd);
	iocb_pread(&cb, fd, &si, sizeof(si), 0);
	EXPECT_EQ(-EAGAIN, aio_run(self->env.ctx, &cb));
	/* Also one that is for this thread alone. */
	ASSERT_EQ(0, syscall(__NR_tgkill, getpid(), gettid(), SIGUSR1));
	EXPECT_EQ(sizeof(si), aio_run(self->env.ctx, &cb));
	EXPECT_EQ(SIGUSR1, si.ssi_signo);
	EXPECT_EQ(getpid(), si.ssi_pid);
	EXPECT_EQ(-EAGAIN, aio_run(self->env.ctx, &cb));
	EXPECT_SUBMITTER(3);
	close(fd);
}

TEST_F(file, procfs)
{
	char buf[256], want[256];
	struct iovec iov[2] = { { buf, 2 }, { buf + 2, 200 } };
	struct iocb cb;
	ssize_t ret;
	int fd;

	fd = open("/proc/sys/kernel/ostype", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ret = pread(fd, want, sizeof(want), 0);
	ASSERT_LT(0, ret);
	iocb_pread(&cb, fd, buf, sizeof(buf), 0);
	EXPECT_EQ(ret, aio_run(self->env.ctx, &cb));
	EXPECT_EQ(0, memcmp(buf, want, ret));
	memset(buf, 0, sizeof(buf));
	iocb_preadv(&cb, fd, iov, 2, 0);
	EXPECT_EQ(ret, aio_run(self->env.ctx, &cb));
	EXPECT_EQ(0, memcmp(buf, want, ret));
	close(fd);
	fd = open("/proc/version", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ret = pread(fd, want, sizeof(want), 0);
	ASSERT_LT(0, ret);
	iocb_pread(&cb, fd, buf, sizeof(buf), 0);
	EXPECT_EQ(ret, aio_run(self->env.ctx, &cb));
	EXPECT_EQ(0, memcmp(buf, want, ret));
	close(fd);
	EXPECT_SUBMITTER(3);

	/* With ->read() only, it is refused here as it always was. */
	fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	iocb_pread(&cb, fd, buf, sizeof(buf), 0);
	EXPECT_EQ(AIO_REFUSED(EINVAL), aio_run(self->env.ctx, &cb));
	close(fd);
}

TEST_F(file, sysfs)
{
	char buf[4096], want[4096];
	struct iocb cb;
	ssize_t ret;
	int fd;

	fd = open("/sys/kernel/mm/transparent_hugepage/enabled",
		  O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fd = open("/sys/kernel/uevent_seqnum", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		SKIP(return, "no sysfs");
	ret = pread(fd, want, sizeof(want), 0);
	ASSERT_LT(0, ret);
	iocb_pread(&cb, fd, buf, sizeof(buf), 0);
	EXPECT_EQ(ret, aio_run(self->env.ctx, &cb));
	EXPECT_EQ(0, memcmp(buf, want, ret));
	EXPECT_SUBMITTER(1);
	close(fd);
}

/* Runs in a child; its exit code tells what failed. */
static int set_host_name(void)
{
	aio_context_t ctx = 0;
	struct utsname uts;
	struct iocb cb;
	int fd;

	if (unshare(CLONE_NEWUTS))
		return errno == EINVAL ? 100 : 1;
	if (sys_io_setup(8, &ctx))
		return 2;
	fd = open("/proc/sys/kernel/hostname", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return 3;
	iocb_pwrite(&cb, fd, "aio-inside", 10, 0);
	if (aio_run(ctx, &cb) != 10)
		return 4;
	if (uname(&uts) || strcmp(uts.nodename, "aio-inside"))
		return 5;
	return 0;
}

/* A control file written by the wrong task would hit the wrong namespace. */
TEST_F(file, proc_namespace)
{
	struct utsname before, after;
	int status;
	pid_t pid;

	ASSERT_EQ(0, uname(&before));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(set_host_name());
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	if (WEXITSTATUS(status) == 100)
		SKIP(return, "kernel without CONFIG_UTS_NS");
	EXPECT_EQ(0, WEXITSTATUS(status));
	ASSERT_EQ(0, uname(&after));
	EXPECT_STREQ(before.nodename, after.nodename);
	EXPECT_SUBMITTER(1);
}

/* ---- direct I/O ---- */

TEST_F(file, direct)
{
	enum { NR = 8, LEN = 65536 };
	struct iocb cbs[NR], *ptrs[NR];
	struct aio_counts since, now;
	struct io_event ev;
	char dir[PATH_MAX];
	bool some = false;
	struct statfs fs;
	uint8_t *mem;
	int d, i, write;

	ASSERT_EQ(0, posix_memalign((void **)&mem, 4096, NR * LEN));
	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++) {
		int fd = aio_temp_file(dir, O_DIRECT);

		if (fd == -EINVAL)
			continue;
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, fstatfs(fd, &fs));
		aio_fill(mem, NR * LEN, 61, 0);
		ASSERT_EQ(NR * LEN, pwrite(fd, mem, NR * LEN, 0));
		ASSERT_EQ(0, fsync(fd));
		for (write = 0; write < 2; write++) {
			aio_counts_get(&since);
			if (write)
				aio_fill(mem, NR * LEN, 62, 0);
			else
				memset(mem, 0, NR * LEN);
			for (i = 0; i < NR; i++) {
				iocb_rw(&cbs[i], write ? IOCB_CMD_PWRITE :
					IOCB_CMD_PREAD, fd, mem + i * LEN, LEN,
					i * LEN);
				ptrs[i] = &cbs[i];
			}
			ASSERT_EQ(NR, sys_io_submit(self->env.ctx, NR, ptrs));
			for (i = 0; i < NR; i++) {
				ASSERT_EQ(1, reap_one(self->env.ctx, &ev,
						      AIO_PATIENCE_MS));
				ASSERT_EQ(LEN, ev.res);
			}
			if (write) {
				memset(mem, 0, NR * LEN);
				ASSERT_EQ(NR * LEN,
					  pread(fd, mem, NR * LEN, 0));
			}
			ASSERT_EQ(-1, aio_check(mem, NR * LEN, 61 + write, 0));
			aio_counts_settle(&since, NR, &now);
			EXPECT_EQ(NR, now.native + now.worker + now.at_once);
			if (variant->force) {
				EXPECT_EQ(NR, now.worker);
			} else if (fs.f_type == EXT4_MAGIC) {
				some = true;
				/*
				 * The first write may hold the inode's lock
				 * while the others try to have it.
				 */
				EXPECT_TRUE(write || now.native > 0);
			}
		}
		close(fd);
	}
	free(mem);
	if (!some && !variant->force)
		SKIP(return, "no ext4 in AIO_TEST_DIRS");
}

/* Unaligned, past the end, extending: as pread() and pwrite(). */
TEST_F(file, direct_odd)
{
	static const struct {
		size_t mem, len;
		off_t off;
	} cases[] = {
		{ 0, 4096, 1 }, { 1, 4096, 0 }, { 0, 1000, 0 },
		{ 512, 4096, 512 }, { 3, 777, 5 }, { 0, 8192, 8192 },
		{ 0, 4096, 12288 }, { 0, 4096, 1 << 20 }, { 1, 5000, 12000 },
		{ 4, 4096, 4096 },
	};
	uint8_t *a, *b;
	char dir[PATH_MAX];
	struct iocb cb;
	size_t c;
	int d, nr = 0;

	ASSERT_EQ(0, posix_memalign((void **)&a, 4096, 16384));
	ASSERT_EQ(0, posix_memalign((void **)&b, 4096, 16384));
	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++) {
		int fa = aio_temp_file(dir, O_DIRECT);
		int fb = aio_temp_file(dir, O_DIRECT);
		long long want;

		if (fa == -EINVAL)
			continue;
		ASSERT_TRUE(fa >= 0 && fb >= 0);
		/* A size that ends within a block. */
		aio_fill(a, 16384, 71, 0);
		ASSERT_EQ(12288, pwrite(fa, a, 12288, 0));
		ASSERT_EQ(12288, pwrite(fb, a, 12288, 0));
		ASSERT_EQ(0, ftruncate(fa, 12100));
		ASSERT_EQ(0, ftruncate(fb, 12100));
		for (c = 0; c < 2 * ARRAY_SIZE(cases); c++) {
			/* First all the reads, then all the writes. */
			bool write = c >= ARRAY_SIZE(cases);
			size_t k = c % ARRAY_SIZE(cases);

			aio_fill(a, 16384, 72 + c, 0);
			memcpy(b, a, 16384);
			iocb_rw(&cb, write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
				fa, a + cases[k].mem, cases[k].len,
				cases[k].off);
			if (write)
				want = pwrite(fb, b + cases[k].mem,
					      cases[k].len, cases[k].off);
			else
				want = pread(fb, b + cases[k].mem,
					     cases[k].len, cases[k].off);
			want = call_ret(want);
			EXPECT_EQ(want, as_call(aio_run(self->env.ctx, &cb))) {
				TH_LOG("%s, case %zu", dir, c);
			}
			EXPECT_EQ(0, memcmp(a, b, 16384));
			EXPECT_EQ(lseek(fb, 0, SEEK_END),
				  lseek(fa, 0, SEEK_END));
			nr++;
		}
		close(fa);
		close(fb);
	}
	free(a);
	free(b);
	if (!nr)
		SKIP(return, "no direct I/O in AIO_TEST_DIRS");
}

/* ---- a plain context ---- */

FIXTURE(plain) {
	struct aio_env		env;
	struct aio_counts	before;
};

FIXTURE_SETUP(plain)
{
	signal(SIGPIPE, SIG_IGN);
	AIO_SETUP(&self->env, false, false, EVENTS);
	aio_counts_get(&self->before);
}

FIXTURE_TEARDOWN(plain)
{
	struct aio_counts now;

	AIO_TEARDOWN(&self->env);
	aio_counts_get(&now);
	EXPECT_EQ(0, memcmp(&now, &self->before, sizeof(now)));
}

TEST_F(plain, refuses_read_only_methods)
{
	uint64_t value = 1;
	char buf[4096];
	struct iocb cb;
	int fd, uinput, evdev;

	fd = inotify_init1(IN_CLOEXEC);
	ASSERT_LE(0, fd);
	iocb_pread(&cb, fd, buf, sizeof(buf), 0);
	EXPECT_EQ(AIO_REFUSED(EINVAL), aio_run(self->env.ctx, &cb));
	close(fd);

	fd = eventfd(0, EFD_CLOEXEC);
	ASSERT_LE(0, fd);
	iocb_pwrite(&cb, fd, &value, 8, 0);
	EXPECT_EQ(AIO_REFUSED(EINVAL), aio_run(self->env.ctx, &cb));
	close(fd);

	fd = open("/dev/kmsg", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		iocb_pread(&cb, fd, buf, sizeof(buf), 0);
		EXPECT_EQ(AIO_REFUSED(EINVAL), aio_run(self->env.ctx, &cb));
		close(fd);
	}
	if (make_evdev(&uinput, &evdev, 0)) {
		iocb_pread(&cb, evdev, buf, sizeof(buf), 0);
		EXPECT_EQ(AIO_REFUSED(EINVAL), aio_run(self->env.ctx, &cb));
		close(evdev);
		close(uinput);
	}
}

TEST_F(plain, streams)
{
	struct iocb cb;
	char buf[64];
	int p[2];

	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	iocb_pwrite(&cb, p[1], "hello", 5, 0);
	EXPECT_EQ(5, aio_run(self->env.ctx, &cb));
	iocb_pread(&cb, p[0], buf, sizeof(buf), 0);
	EXPECT_EQ(5, aio_run(self->env.ctx, &cb));
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	EXPECT_EQ(-EAGAIN, aio_run(self->env.ctx, &cb));
	close(p[1]);
	EXPECT_EQ(0, aio_run(self->env.ctx, &cb));
	close(p[0]);
}

TEST_F(plain, procfs)
{
	char buf[256], want[256];
	struct iocb cb;
	ssize_t ret;
	int fd;

	fd = open("/proc/version", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ret = pread(fd, want, sizeof(want), 0);
	iocb_pread(&cb, fd, buf, sizeof(buf), 0);
	EXPECT_EQ(ret, aio_run(self->env.ctx, &cb));
	EXPECT_EQ(0, memcmp(buf, want, ret));
	close(fd);
}

/* ---- the switch ---- */

TEST(sysctl)
{
	static const char *const bad[] = { "2", "-1", "x", "10", "1x", "0x2" };
	int before = aio_get_threads();
	aio_context_t ctx = 0;
	struct aio_ring *ring;
	size_t i;
	int on;

	if (before < 0)
		SKIP(return, "kernel without CONFIG_AIO_THREAD");
	if (geteuid())
		SKIP(return, "needs root");
	for (on = 0; on < 2; on++) {
		ASSERT_EQ(0, aio_set_threads(on));
		EXPECT_EQ(on, aio_get_threads());
		for (i = 0; i < ARRAY_SIZE(bad); i++) {
			EXPECT_EQ(-EINVAL, aio_write_text(AIO_SYSCTL_THREADS,
							  bad[i])) {
				TH_LOG("\"%s\"", bad[i]);
			}
			EXPECT_EQ(on, aio_get_threads());
		}
		ctx = 0;
		ASSERT_EQ(0, sys_io_setup(1, &ctx));
		ring = (struct aio_ring *)ctx;
		EXPECT_EQ(on ? 3 : 1, ring->compat_features);
		EXPECT_EQ(0, sys_io_destroy(ctx));
	}
	EXPECT_EQ(0, aio_set_threads(before));
}

/* Only root may touch it. */
TEST(sysctl_unprivileged)
{
	int status;
	pid_t pid;

	if (aio_get_threads() < 0)
		SKIP(return, "kernel without CONFIG_AIO_THREAD");
	if (geteuid())
		SKIP(return, "needs root");
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (setresgid(65534, 65534, 65534) ||
		    setresuid(65534, 65534, 65534))
			_exit(1);
		_exit(aio_set_threads(1) == -EACCES ? 0 : 2);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* ---- a disk, and how slow it is ---- */

#define SLOW_DIR	"/sys/kernel/config/nullb/aio_slow"
#define SLOW_NS		400000000LL
#define SLOW_SIZE	(4 << 20)
#define SLOW_STEP	65536

/* What was seen of a batch of requests, in ns. */
struct timing {
	long long	worst_submit;
	long long	first_event;
	long long	last_event;
};

FIXTURE(disk) {
	struct aio_env		env;
	struct aio_counts	before;
	struct timing		timing;
	int			fd;
};

FIXTURE_VARIANT(disk) {
	bool threaded;
	bool force;
};

FIXTURE_VARIANT_ADD(disk, off) { .threaded = false };
FIXTURE_VARIANT_ADD(disk, tried) { .threaded = true };
FIXTURE_VARIANT_ADD(disk, worker) { .threaded = true, .force = true };

static void slow_remove(void)
{
	if (access(SLOW_DIR, F_OK))
		return;
	aio_write_text(SLOW_DIR "/power", "0");
	rmdir(SLOW_DIR);
}

FIXTURE_SETUP(disk)
{
	self->fd = -1;
	if (geteuid())
		SKIP(return, "needs root");
	mount("configfs", "/sys/kernel/config", "configfs", 0, NULL);
	if (access("/sys/kernel/config/nullb", F_OK) &&
	    (system("modprobe -q null_blk nr_devices=0 2>/dev/null") ||
	     access("/sys/kernel/config/nullb", F_OK)))
		SKIP(return, "no null_blk with configfs");
	slow_remove();
	AIO_SETUP(&self->env, variant->threaded, variant->force, EVENTS);
	aio_counts_get(&self->before);
}

FIXTURE_TEARDOWN(disk)
{
	if (self->fd >= 0)
		close(self->fd);
	AIO_TEARDOWN(&self->env);
	slow_remove();
}

static int slow_open(int flags)
{
	char path[64], text[32];
	unsigned int major, minor;
	int fd;

	if (aio_read_text("/sys/block/aio_slow/dev", text, sizeof(text)) <= 0 ||
	    sscanf(text, "%u:%u", &major, &minor) != 2)
		return -ENODEV;
	/* By a name of our own: nobody has to make one for us. */
	snprintf(path, sizeof(path), "/dev/aio-slow-%d", getpid());
	if (mknod(path, S_IFBLK | 0600, makedev(major, minor)))
		return -errno;
	fd = open(path, O_RDWR | O_CLOEXEC | flags);
	if (fd < 0)
		fd = -errno;
	unlink(path);
	return fd;
}

/*
 * A disk that takes @depth requests at a time and @nsec for each, full of the
 * stream 91.
 */
static int slow_make(const char *depth, const char *nsec)
{
	const char *const set[][2] = {
		{ SLOW_DIR "/size", "4" },
		{ SLOW_DIR "/memory_backed", "1" },
		/* a timer completes it, unless nobody has to wait */
		{ SLOW_DIR "/irqmode", nsec ? "2" : "0" },
		{ SLOW_DIR "/completion_nsec", nsec ?: "0" },
		/* to be filled in few requests */
		{ SLOW_DIR "/max_sectors", "8192" },
		{ SLOW_DIR "/submit_queues", "1" },
		{ SLOW_DIR "/no_sched", "1" },
		{ SLOW_DIR "/hw_queue_depth", depth },
		{ SLOW_DIR "/power", "1" },
	};
	uint8_t *buf;
	size_t i;
	int fd, ret;

	if (mkdir(SLOW_DIR, 0700))
		return -errno;
	for (i = 0; i < ARRAY_SIZE(set); i++) {
		ret = aio_write_text(set[i][0], set[i][1]);
		if (ret)
			return ret;
	}
	fd = slow_open(O_DIRECT);
	if (fd < 0)
		return fd;
	if (posix_memalign((void **)&buf, 4096, SLOW_SIZE)) {
		close(fd);
		return -ENOMEM;
	}
	aio_fill(buf, SLOW_SIZE, 91, 0);
	if (pwrite(fd, buf, SLOW_SIZE, 0) != SLOW_SIZE)
		ret = -EIO;
	free(buf);
	close(fd);
	return ret;
}

#define SLOW_TEXT	"400000000"

static struct iocb slow_cbs[64];

/* Submit the requests one by one, then wait for all; looks at the clock. */
static void slow_run(struct __test_metadata *_metadata,
		     aio_context_t ctx, struct timing *t, int nr, size_t len)
{
	long long start = aio_now_ns(), before, took;
	struct io_event ev;
	int i;

	t->worst_submit = 0;
	for (i = 0; i < nr; i++) {
		before = aio_now_ns();
		ASSERT_EQ(1, submit_one(ctx, &slow_cbs[i]));
		took = aio_now_ns() - before;
		if (took > t->worst_submit)
			t->worst_submit = took;
	}
	for (i = 0; i < nr; i++) {
		ASSERT_EQ(1, reap_one(ctx, &ev, 60000));
		ASSERT_EQ(len, ev.res);
		if (!i)
			t->first_event = aio_now_ns() - start;
	}
	t->last_event = aio_now_ns() - start;
}

#define SLOW_RUN(nr, len)						\
	slow_run(_metadata, self->env.ctx, &self->timing, nr, len)

/* Nobody waited in io_submit(), and yet it took as long as it takes. */
static void expect_asynchronous(struct __test_metadata *_metadata,
				const struct timing *t)
{
	EXPECT_GT(SLOW_NS / 2, t->worst_submit);
	EXPECT_LE(SLOW_NS * 9 / 10, t->first_event);
}

#define EXPECT_ASYNCHRONOUS()	expect_asynchronous(_metadata, &self->timing)

#define SLOW_LEN	4096

static void slow_requests(int fd, int opcode, uint8_t *mem, int nr)
{
	int i;

	for (i = 0; i < nr; i++)
		iocb_rw(&slow_cbs[i], opcode, fd, mem + i * SLOW_LEN, SLOW_LEN,
			(long long)i * SLOW_STEP);
}

static bool slow_check(const uint8_t *mem, int nr)
{
	int i;

	for (i = 0; i < nr; i++)
		if (aio_check(mem + i * SLOW_LEN, SLOW_LEN, 91,
			      (uint64_t)i * SLOW_STEP) >= 0)
			return false;
	return true;
}

static uint8_t *slow_memory(void)
{
	void *mem;

	if (posix_memalign(&mem, 4096, 64 * SLOW_STEP))
		return NULL;
	memset(mem, 0, 64 * SLOW_STEP);
	return mem;
}

TEST_F_TIMEOUT(disk, buffered_reads, 60)
{
	/* A plain context waits for each in turn. */
	int nr = variant->threaded ? 64 : 4;
	uint8_t *mem = slow_memory();
	struct aio_counts now;

	ASSERT_TRUE(!!mem);
	ASSERT_EQ(0, slow_make("64", SLOW_TEXT));
	self->fd = slow_open(0);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, posix_fadvise(self->fd, 0, 0, POSIX_FADV_RANDOM));
	slow_requests(self->fd, IOCB_CMD_PREAD, mem, nr);
	SLOW_RUN(nr, SLOW_LEN);
	EXPECT_TRUE(slow_check(mem, nr));
	if (variant->threaded) {
		aio_counts_settle(&self->before, nr, &now);
		EXPECT_ASYNCHRONOUS();
		EXPECT_EQ(nr, now.worker);
		/* side by side, not one after the other */
		EXPECT_GT(nr / 4 * SLOW_NS, self->timing.last_event);
	} else {
		/* So the clock would show whoever waits. */
		EXPECT_LE(SLOW_NS * 9 / 10, self->timing.worst_submit);
	}
	free(mem);
}

/* The same in one call, then again out of the cache. */
TEST_F_TIMEOUT(disk, buffered_batch, 60)
{
	int nr = variant->threaded ? 64 : 4, i, round;
	struct iocb *ptrs[64];
	uint8_t *mem = slow_memory();
	struct io_event ev;
	long long start;

	ASSERT_TRUE(!!mem);
	ASSERT_EQ(0, slow_make("64", SLOW_TEXT));
	self->fd = slow_open(0);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, posix_fadvise(self->fd, 0, 0, POSIX_FADV_RANDOM));
	slow_requests(self->fd, IOCB_CMD_PREAD, mem, nr);
	for (i = 0; i < nr; i++)
		ptrs[i] = &slow_cbs[i];
	for (round = 0; round < 2; round++) {
		memset(mem, 0, nr * SLOW_LEN);
		start = aio_now_ns();
		ASSERT_EQ(nr, sys_io_submit(self->env.ctx, nr, ptrs));
		/* All of them, and some machines are slow themselves. */
		if (variant->threaded || round)
			EXPECT_GT(SLOW_NS * 9 / 10, aio_now_ns() - start);
		for (i = 0; i < nr; i++) {
			ASSERT_EQ(1, reap_one(self->env.ctx, &ev,
					      AIO_PATIENCE_MS));
			ASSERT_EQ(SLOW_LEN, ev.res);
			if (!i && !round)
				EXPECT_LE(SLOW_NS * 9 / 10,
					  aio_now_ns() - start);
		}
		EXPECT_TRUE(slow_check(mem, nr));
	}
	free(mem);
}

TEST_F_TIMEOUT(disk, direct_reads, 60)
{
	uint8_t *mem = slow_memory();
	struct aio_counts now;

	ASSERT_TRUE(!!mem);
	ASSERT_EQ(0, slow_make("64", SLOW_TEXT));
	self->fd = slow_open(O_DIRECT);
	ASSERT_LE(0, self->fd);
	slow_requests(self->fd, IOCB_CMD_PREAD, mem, 64);
	SLOW_RUN(64, SLOW_LEN);
	EXPECT_ASYNCHRONOUS();
	EXPECT_GT(16 * SLOW_NS, self->timing.last_event);
	EXPECT_TRUE(slow_check(mem, 64));
	if (variant->threaded) {
		aio_counts_settle(&self->before, 64, &now);
		EXPECT_EQ(64, now.native + now.worker + now.at_once);
		EXPECT_EQ(variant->force, now.worker == 64);
		EXPECT_EQ(!variant->force, now.native > 0);
	}
	free(mem);
}

/* A queue that is full is no reason to wait in io_submit() either. */
TEST_F_TIMEOUT(disk, direct_queue_full, 60)
{
	static const int opcodes[] = { IOCB_CMD_PREAD, IOCB_CMD_PWRITE };
	uint8_t *mem = slow_memory();
	struct aio_counts now;
	int i, o;

	ASSERT_TRUE(!!mem);
	ASSERT_EQ(0, slow_make("2", SLOW_TEXT));
	self->fd = slow_open(O_DIRECT);
	ASSERT_LE(0, self->fd);
	for (o = 0; o < 2; o++) {
		slow_requests(self->fd, opcodes[o], mem, 10);
		for (i = 0; i < 10 && o; i++)
			aio_fill(mem + i * SLOW_LEN, SLOW_LEN, 91,
				 i * SLOW_STEP);
		aio_counts_get(&self->before);
		SLOW_RUN(10, SLOW_LEN);
		EXPECT_LE(SLOW_NS * 4, self->timing.last_event);
		EXPECT_TRUE(slow_check(mem, 10));
		if (!variant->threaded) {
			/* It always was one, and still is where it was. */
			EXPECT_LE(SLOW_NS / 2, self->timing.worst_submit);
			continue;
		}
		EXPECT_ASYNCHRONOUS();
		aio_counts_settle(&self->before, 10, &now);
		EXPECT_EQ(10, now.native + now.worker + now.at_once);
		EXPECT_LT(0, now.worker);
	}
	free(mem);
}

TEST_F_TIMEOUT(disk, synchronous_writes, 60)
{
	int nr = variant->threaded ? 32 : 2, i;
	uint8_t *mem = slow_memory();

	ASSERT_TRUE(!!mem);
	ASSERT_EQ(0, slow_make("64", SLOW_TEXT));
	self->fd = slow_open(0);
	ASSERT_LE(0, self->fd);
	slow_requests(self->fd, IOCB_CMD_PWRITE, mem, nr);
	for (i = 0; i < nr; i++) {
		aio_fill(mem + i * SLOW_LEN, SLOW_LEN, 92, i * SLOW_STEP);
		slow_cbs[i].aio_rw_flags = RWF_DSYNC;
	}
	SLOW_RUN(nr, SLOW_LEN);
	EXPECT_LE(SLOW_NS * 9 / 10, self->timing.first_event);
	if (variant->threaded)
		EXPECT_GT(SLOW_NS / 2, self->timing.worst_submit);
	/* On the device, not in its cache. */
	close(self->fd);
	self->fd = slow_open(O_DIRECT);
	ASSERT_LE(0, self->fd);
	for (i = 0; i < nr; i += nr / 2) {
		memset(mem, 0, SLOW_LEN);
		ASSERT_EQ(SLOW_LEN, pread(self->fd, mem, SLOW_LEN,
					  i * SLOW_STEP));
		EXPECT_EQ(-1, aio_check(mem, SLOW_LEN, 92, i * SLOW_STEP));
	}
	free(mem);
}

/* The cached half at once, the rest when the device has it: one event. */
TEST_F_TIMEOUT(disk, half_cached, 60)
{
	const size_t len = 2 * SLOW_STEP;
	uint8_t *mem = slow_memory();
	struct aio_counts now;
	struct iovec iov[2];

	ASSERT_TRUE(!!mem);
	ASSERT_EQ(0, slow_make("64", SLOW_TEXT));
	self->fd = slow_open(0);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, posix_fadvise(self->fd, 0, 0, POSIX_FADV_RANDOM));
	ASSERT_EQ(len / 2, pread(self->fd, mem, len / 2, 0));
	ASSERT_EQ(len / 2, pread(self->fd, mem, len / 2, len));
	memset(mem, 0, 2 * len);
	iocb_pread(&slow_cbs[0], self->fd, mem, len, 0);
	SLOW_RUN(1, len);
	EXPECT_EQ(-1, aio_check(mem, len, 91, 0));
	if (variant->threaded)
		EXPECT_ASYNCHRONOUS();

	memset(mem, 0, 2 * len);
	iov[0].iov_base = mem + 1;
	iov[0].iov_len = len - 1000;
	iov[1].iov_base = mem + len;
	iov[1].iov_len = 900;
	iocb_preadv(&slow_cbs[0], self->fd, iov, 2, len + 50);
	SLOW_RUN(1, len - 100);
	EXPECT_EQ(-1, aio_check(mem + 1, len - 1000, 91, len + 50));
	EXPECT_EQ(-1, aio_check(mem + len, 900, 91, 2 * len - 950));
	if (variant->threaded) {
		EXPECT_ASYNCHRONOUS();
		aio_counts_settle(&self->before, 2, &now);
		EXPECT_EQ(2, now.worker);
		EXPECT_EQ(0, now.at_once);
	}
	free(mem);
}

/* RWF_NOWAIT has its answer before the device has. */
TEST_F_TIMEOUT(disk, nowait, 60)
{
	uint8_t *mem = slow_memory();
	long long start;
	struct iocb cb;

	ASSERT_TRUE(!!mem);
	ASSERT_EQ(0, slow_make("64", SLOW_TEXT));
	self->fd = slow_open(0);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, posix_fadvise(self->fd, 0, 0, POSIX_FADV_RANDOM));
	iocb_pread(&cb, self->fd, mem, SLOW_LEN, 0);
	cb.aio_rw_flags = RWF_NOWAIT;
	start = aio_now_ns();
	EXPECT_EQ(-EAGAIN, aio_run(self->env.ctx, &cb));
	EXPECT_GT(SLOW_NS / 2, aio_now_ns() - start);
	/* What is in the cache it gives. */
	ASSERT_EQ(SLOW_LEN, pread(self->fd, mem, SLOW_LEN, 0));
	memset(mem, 0, SLOW_LEN);
	EXPECT_EQ(SLOW_LEN, aio_run(self->env.ctx, &cb));
	EXPECT_EQ(-1, aio_check(mem, SLOW_LEN, 91, 0));
	free(mem);
}

/* Reads and writes as pread() and pwrite() do, up to the end and over it. */
TEST_F_TIMEOUT(disk, differential, 60)
{
	static const int flags[] = { 0, O_DIRECT };
	const size_t len = 1 << 18;
	uint8_t *a, *b, *model;
	struct iocb cb;
	int f, i;

	ASSERT_EQ(0, posix_memalign((void **)&a, 4096, len + 4096));
	ASSERT_EQ(0, posix_memalign((void **)&b, 4096, len + 4096));
	model = malloc(SLOW_SIZE);
	ASSERT_TRUE(!!model);
	ASSERT_EQ(0, slow_make("64", NULL));
	aio_fill(model, SLOW_SIZE, 91, 0);
	for (f = 0; f < 2; f++) {
		self->fd = slow_open(flags[f]);
		ASSERT_LE(0, self->fd);
		for (i = 0; i < 120; i++) {
			uint64_t r = aio_word(81 + f, i);
			size_t part = 1 + r % len, mis = (r >> 20) % 4096;
			long long off = (r >> 32) % (SLOW_SIZE + 1), want, res;

			/* Whole blocks, any bytes, and over the end. */
			if (i % 3 == 0 || (f && i % 3 == 1)) {
				part = (part + 4095) & ~4095;
				off &= ~4095LL;
				mis = 0;
			}
			if (i % 5 == 0)
				off = SLOW_SIZE - 8192;
			if (i % 40 == 0)
				off = SLOW_SIZE;
			if (!f && i % 4 == 0)
				posix_fadvise(self->fd, 0, 0,
					      POSIX_FADV_DONTNEED);
			if (i & 1) {
				aio_fill(a, len + 4096, i, 0);
				iocb_pwrite(&cb, self->fd, a + mis, part, off);
				res = as_call(aio_run(self->env.ctx, &cb));
				want = call_ret(pwrite(self->fd, a + mis, part,
						       off));
				ASSERT_EQ(want, res);
				if (res > 0)
					memcpy(model + off, a + mis, res);
				continue;
			}
			memset(a, 1, len + 4096);
			memset(b, 1, len + 4096);
			iocb_pread(&cb, self->fd, a + mis, part, off);
			res = as_call(aio_run(self->env.ctx, &cb));
			want = call_ret(pread(self->fd, b + mis, part, off));
			ASSERT_EQ(want, res) {
				TH_LOG("%zu bytes at %lld", part, off);
			}
			ASSERT_EQ(0, memcmp(a, b, len + 4096));
			if (res > 0)
				ASSERT_EQ(0, memcmp(a + mis, model + off, res));
		}
		ASSERT_EQ(0, fsync(self->fd));
		close(self->fd);
		self->fd = -1;
	}
	/* What a write left is what the next one to open the disk finds. */
	self->fd = slow_open(0);
	ASSERT_LE(0, self->fd);
	for (i = 0; i < SLOW_SIZE; i += len) {
		ASSERT_EQ(len, pread(self->fd, a, len, i));
		ASSERT_EQ(0, memcmp(a, model + i, len));
	}
	free(a);
	free(b);
	free(model);
}

TEST_HARNESS_MAIN

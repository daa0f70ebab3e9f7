// SPDX-License-Identifier: GPL-2.0
/*
 * AIO requests for what a file has in the page cache: fsync and fdsync, which
 * write it, and readahead, which fills it and, unlike readahead(2), is done
 * when that is.
 *
 * AIO_SLOW=1: a debug kernel, which may take ten times as long.
 */
#include "../kselftest_harness.h"
#include "aio_many.h"
#include "../../../../samples/aio/aio_prep.h"

#include <sys/eventfd.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <linux/magic.h>

#define EVENTS		256

static const int sync_opcodes[] = { IOCB_CMD_FSYNC, IOCB_CMD_FDSYNC };

static bool slow(void)
{
	return aio_slack() > 1;
}

static void iocb_sync(struct iocb *cb, int opcode, int fd)
{
	iocb_rw(cb, opcode, fd, NULL, 0, 0);
}

static void iocb_readahead(struct iocb *cb, int fd, size_t len, long long off)
{
	io_prep_readahead(cb, fd, len, off);
	cb->aio_data = (uintptr_t)cb;
}

/* The result of the one request in flight. */
static long long result(aio_context_t ctx)
{
	struct io_event ev;

	return reap_one(ctx, &ev, AIO_PATIENCE_MS) == 1 ? ev.res : AIO_NO_EVENT;
}

/* ---- disks of our own ---- */

#define NULLB		"/sys/kernel/config/nullb"
#define DISKS		8
#define DISK_SIZE	(4 << 20)

/* How long the disk takes for a request, where it takes any time. */
static long long disk_ns(void)
{
	return slow() ? 400000000 : 200000000;
}

static void disk_path(char *buf, size_t size, int nr, const char *attr)
{
	snprintf(buf, size, NULLB "/aio_sync%d/%s", nr, attr);
}

static void disk_remove(int nr)
{
	char path[128];

	disk_path(path, sizeof(path), nr, "power");
	if (access(path, F_OK))
		return;
	aio_write_text(path, "0");
	disk_path(path, sizeof(path), nr, "");
	rmdir(path);
}

/* Returns NULL, or why there are none. */
static const char *disks_possible(void)
{
	int i;

	if (geteuid())
		return "needs root";
	mount("configfs", "/sys/kernel/config", "configfs", 0, NULL);
	if (access(NULLB, F_OK) &&
	    (system("modprobe -q null_blk nr_devices=0 2>/dev/null") ||
	     access(NULLB, F_OK)))
		return "no null_blk with configfs";
	/* What a killed run may have left. */
	for (i = 0; i < DISKS; i++)
		disk_remove(i);
	return NULL;
}

/* By a name of our own: nobody has to make one for us. Gives -errno. */
static int disk_open(int nr, int flags)
{
	unsigned int major, minor;
	char path[64], text[32];
	int fd;

	snprintf(path, sizeof(path), "/sys/block/aio_sync%d/dev", nr);
	if (aio_read_text(path, text, sizeof(text)) <= 0 ||
	    sscanf(text, "%u:%u", &major, &minor) != 2)
		return -ENODEV;
	snprintf(path, sizeof(path), "/dev/aio-sync-%d", getpid());
	if (mknod(path, S_IFBLK | 0600, makedev(major, minor)))
		return -errno;
	fd = open(path, O_CLOEXEC | flags);
	if (fd < 0)
		fd = -errno;
	unlink(path);
	return fd;
}

/* Gives 0 or -errno. */
static int disk_make(int nr, bool takes_time)
{
	const char *set[][2] = {
		{ "size", "4" },
		{ "memory_backed", "1" },
		/* a timer completes it, unless nobody has to wait */
		{ "irqmode", takes_time ? "2" : "0" },
		{ "completion_nsec", "0" },
		{ "submit_queues", "1" },
		{ "no_sched", "1" },
		{ "hw_queue_depth", "64" },
		{ "power", "1" },
	};
	char path[128], nsec[32];
	unsigned int i;
	int ret;

	snprintf(nsec, sizeof(nsec), "%lld", disk_ns());
	if (takes_time)
		set[3][1] = nsec;
	disk_path(path, sizeof(path), nr, "");
	if (mkdir(path, 0700))
		return -errno;
	for (i = 0; i < ARRAY_SIZE(set); i++) {
		disk_path(path, sizeof(path), nr, set[i][0]);
		ret = aio_write_text(path, set[i][1]);
		if (ret)
			return ret;
	}
	return 0;
}

/* Write the stream @seed over it, past the cache. */
static int disk_fill(int nr, uint32_t seed)
{
	int fd = disk_open(nr, O_RDWR | O_DIRECT);
	int ret = 0;
	void *buf;

	if (fd < 0)
		return fd;
	if (posix_memalign(&buf, 4096, DISK_SIZE)) {
		close(fd);
		return -ENOMEM;
	}
	aio_fill(buf, DISK_SIZE, seed, 0);
	if (pwrite(fd, buf, DISK_SIZE, 0) != DISK_SIZE)
		ret = -EIO;
	free(buf);
	close(fd);
	return ret;
}

/* A test's disks: its fixture gives them back. */
struct disks {
	int	fds[DISKS];
};

static void disks_start(struct disks *d)
{
	int i;

	for (i = 0; i < DISKS; i++)
		d->fds[i] = -1;
}

static void disks_close(struct disks *d)
{
	int i;

	for (i = 0; i < DISKS; i++) {
		if (d->fds[i] >= 0)
			close(d->fds[i]);
		d->fds[i] = -1;
	}
}

static void disks_remove(void)
{
	int i;

	for (i = 0; i < DISKS; i++)
		disk_remove(i);
}

/* ---- what is in the page cache ---- */

/* How many pages of a part of the file are in memory; -errno. */
static long resident(int fd, long long off, size_t len)
{
	const long page = sysconf(_SC_PAGESIZE);
	long long start = off & -page;
	size_t i, pages = (off - start + len + page - 1) / page;
	unsigned char *vec;
	long nr = 0;
	void *map;

	if (!len)
		return 0;
	vec = malloc(pages);
	map = mmap(NULL, pages * page, PROT_READ, MAP_SHARED, fd, start);
	if (!vec || map == MAP_FAILED || mincore(map, pages * page, vec))
		nr = -errno;
	for (i = 0; i < pages && nr >= 0; i++)
		nr += vec[i] & 1;
	if (map != MAP_FAILED)
		munmap(map, pages * page);
	free(vec);
	return nr;
}

/* And how many there are if all are. */
static long pages_of(long long off, size_t len)
{
	const long page = sysconf(_SC_PAGESIZE);

	return len ? (off + (long long)len - 1) / page - off / page + 1 : 0;
}

static bool dropped(int fd, size_t size)
{
	return !posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) &&
	       resident(fd, 0, size) == 0;
}

/* Take the file, which has been written to the disk, out of the cache. */
static bool drop(int fd, size_t size)
{
	return aio_wait_for(dropped(fd, size), AIO_PATIENCE_MS);
}

/* Somewhere else than on a disk there is nothing to read it again from. */
static bool on_tmpfs(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && fs.f_type == TMPFS_MAGIC;
}

/* A new file with the stream @seed, on the disk; -errno. */
static int make_file(const char *dir, size_t size, uint32_t seed)
{
	int fd = aio_temp_file(dir, 0);
	__u8 *buf = malloc(size);

	if (fd < 0 || !buf) {
		free(buf);
		return fd < 0 ? fd : -ENOMEM;
	}
	aio_fill(buf, size, seed, 0);
	if (pwrite(fd, buf, size, 0) != (ssize_t)size || fsync(fd)) {
		close(fd);
		fd = -EIO;
	}
	free(buf);
	return fd;
}

/* Another description of the same file; -errno. */
static int again(int fd, int flags)
{
	char path[32];
	int new;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	new = open(path, O_CLOEXEC | flags);
	return new < 0 ? -errno : new;
}

/* ---- fsync and fdsync, in any context ---- */

FIXTURE(sync)
{
	struct aio_env env;
	aio_context_t ctx;
	struct aio_counts before;
	struct disks disks;
};

FIXTURE_VARIANT(sync)
{
	bool threaded;
	bool force;
};

FIXTURE_VARIANT_ADD(sync, plain)
{
	.threaded = false,
};

FIXTURE_VARIANT_ADD(sync, as_tried)
{
	.threaded = true,
};

FIXTURE_VARIANT_ADD(sync, forced)
{
	.threaded = true,
	.force = true,
};

FIXTURE_SETUP(sync)
{
	disks_start(&self->disks);
	AIO_SETUP(&self->env, variant->threaded, variant->force, EVENTS);
	self->ctx = self->env.ctx;
	aio_counts_get(&self->before);
}

FIXTURE_TEARDOWN(sync)
{
	disks_close(&self->disks);
	AIO_TEARDOWN(&self->env);
	disks_remove();
}

/* Compare with fsync(2), which has the same answers. */
static void expect_as_fsync(struct __test_metadata *_metadata,
			    aio_context_t ctx, int fd, const char *what)
{
	long long want;
	struct iocb cb;
	unsigned int o;

	ASSERT_LE(0, fd) {
		TH_LOG("%s", what);
	}
	for (o = 0; o < ARRAY_SIZE(sync_opcodes); o++) {
		want = fsync(fd) ? AIO_REFUSED(errno) : 0;
		iocb_sync(&cb, sync_opcodes[o], fd);
		EXPECT_EQ(want, aio_run(ctx, &cb)) {
			TH_LOG("%s, opcode %d", what, sync_opcodes[o]);
		}
		/* Otherwise two that know nothing of the file are the same. */
		if (want)
			EXPECT_EQ(AIO_REFUSED(EINVAL), want);
	}
	close(fd);
}

TEST_F_TIMEOUT(sync, as_fsync, 120)
{
	static const int flags[] = { O_RDONLY, O_WRONLY, O_RDWR };
	char dir[PATH_MAX];
	unsigned int f;
	int d, fd, s[2];

	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++) {
		fd = aio_temp_file(dir, 0);
		ASSERT_LE(0, fd);
		for (f = 0; f < ARRAY_SIZE(flags); f++) {
			ASSERT_EQ(5, pwrite(fd, "dirty", 5, f * 100000));
			expect_as_fsync(_metadata, self->ctx,
					again(fd, flags[f]), dir);
		}
		close(fd);
		expect_as_fsync(_metadata, self->ctx,
				open(dir, O_DIRECTORY | O_CLOEXEC), dir);
	}
	expect_as_fsync(_metadata, self->ctx,
			memfd_create("aio", MFD_CLOEXEC), "memfd");
	expect_as_fsync(_metadata, self->ctx, eventfd(0, EFD_CLOEXEC),
			"eventfd");
	expect_as_fsync(_metadata, self->ctx, epoll_create1(EPOLL_CLOEXEC),
			"epoll");
	expect_as_fsync(_metadata, self->ctx,
			open("/dev/null", O_RDWR | O_CLOEXEC), "/dev/null");
	expect_as_fsync(_metadata, self->ctx,
			open("/proc/version", O_RDONLY | O_CLOEXEC),
			"/proc/version");
	ASSERT_EQ(0, pipe2(s, O_CLOEXEC));
	expect_as_fsync(_metadata, self->ctx, s[0], "pipe");
	expect_as_fsync(_metadata, self->ctx, s[1], "pipe");
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s));
	expect_as_fsync(_metadata, self->ctx, s[0], "socket");
	close(s[1]);
}

/* What is malformed is refused, and nothing is left of it. */
TEST_F(sync, refused)
{
	int fd = memfd_create("aio", MFD_CLOEXEC), path;
	struct iocb cb, good;
	unsigned int o;
	int s[2];

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, pipe2(s, O_CLOEXEC));
	path = open("/tmp", O_PATH | O_CLOEXEC);
	ASSERT_LE(0, path);
	for (o = 0; o < ARRAY_SIZE(sync_opcodes); o++) {
		iocb_sync(&good, sync_opcodes[o], fd);
		EXPECT_EQ(0, aio_run(self->ctx, &good));
		cb = good;
		cb.aio_buf = (uintptr_t)&cb;
		EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
		cb = good;
		cb.aio_offset = 4096;
		EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
		cb = good;
		cb.aio_nbytes = 1;
		EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
		cb = good;
		cb.aio_rw_flags = RWF_DSYNC;
		EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
		cb = good;
		cb.aio_reserved2 = 1;
		EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
		cb = good;
		cb.aio_flags = IOCB_FLAG_RESFD;
		cb.aio_resfd = s[0];
		EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
		cb = good;
		cb.aio_fildes = 1 << 20;
		EXPECT_EQ(-EBADF, submit_one(self->ctx, &cb));
		cb.aio_fildes = path;
		EXPECT_EQ(-EBADF, submit_one(self->ctx, &cb));
		EXPECT_TRUE(aio_no_event(self->ctx));
		EXPECT_EQ(0, aio_run(self->ctx, &good));
	}
	close(path);
	close(s[0]);
	close(s[1]);
	close(fd);
}

/* How much has been written to the disk that the file is on; -1 unknown. */
static long long sectors_written(int fd)
{
	char path[64], text[512];
	long long sectors;
	struct stat st;

	if (fstat(fd, &st))
		return -1;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/stat",
		 major(st.st_dev), minor(st.st_dev));
	if (aio_read_text(path, text, sizeof(text)) <= 0 ||
	    sscanf(text, "%*u %*u %*u %*u %*u %*u %lld", &sectors) != 1)
		return -1;
	return sectors;
}

/* What is dirty is on the disk afterwards. */
TEST_F_TIMEOUT(sync, reaches_the_disk, 120)
{
	const size_t len = 1 << 18;
	long long before;
	char dir[PATH_MAX];
	__u8 *buf = malloc(len);
	int d, fd, nr = 0;
	struct iocb cb;
	unsigned int o;

	ASSERT_NE(NULL, buf);
	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++) {
		fd = aio_temp_file(dir, 0);
		ASSERT_LE(0, fd);
		aio_fill(buf, len, 3, 0);
		ASSERT_EQ((ssize_t)len, pwrite(fd, buf, len, 0));
		/* Nothing else is left to be written, and the disk counts. */
		sync();
		before = sectors_written(fd);
		aio_fill(buf, len, 4, 0);
		ASSERT_EQ((ssize_t)len, pwrite(fd, buf, len, 0));
		if (fsync(fd) || before < 0 ||
		    sectors_written(fd) < before + (long long)len / 512) {
			close(fd);
			continue;
		}
		for (o = 0; o < ARRAY_SIZE(sync_opcodes); o++) {
			aio_fill(buf, len, 5 + o, 0);
			before = sectors_written(fd);
			ASSERT_EQ((ssize_t)len, pwrite(fd, buf, len, 0));
			iocb_sync(&cb, sync_opcodes[o], fd);
			EXPECT_EQ(0, aio_run(self->ctx, &cb));
			EXPECT_LE(before + (long long)len / 512,
				  sectors_written(fd)) {
				TH_LOG("%s, opcode %d", dir, sync_opcodes[o]);
			}
			nr++;
		}
		close(fd);
	}
	free(buf);
	if (!nr)
		SKIP(return, "no disk in AIO_TEST_DIRS that counts writes");
}

TEST_F(sync, descriptor_closed)
{
	char dir[PATH_MAX];
	struct iocb cb;
	unsigned int o;
	int d, fd;

	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++)
		for (o = 0; o < ARRAY_SIZE(sync_opcodes); o++) {
			fd = aio_temp_file(dir, 0);
			ASSERT_LE(0, fd);
			ASSERT_EQ(5, pwrite(fd, "dirty", 5, 0));
			iocb_sync(&cb, sync_opcodes[o], fd);
			ASSERT_EQ(1, submit_one(self->ctx, &cb));
			ASSERT_EQ(0, close(fd));
			memset(&cb, 0xff, sizeof(cb));
			EXPECT_EQ(0, result(self->ctx)) {
				TH_LOG("%s, opcode %d", dir, sync_opcodes[o]);
			}
		}
}

TEST_F(sync, eventfd)
{
	int fd = memfd_create("aio", MFD_CLOEXEC);
	int efd = eventfd(0, EFD_CLOEXEC);
	uint64_t value;
	struct iocb cb;
	unsigned int o;

	ASSERT_TRUE(fd >= 0 && efd >= 0);
	for (o = 0; o < ARRAY_SIZE(sync_opcodes); o++) {
		iocb_sync(&cb, sync_opcodes[o], fd);
		cb.aio_flags = IOCB_FLAG_RESFD;
		cb.aio_resfd = efd;
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		ASSERT_EQ(8, read(efd, &value, 8));
		EXPECT_EQ(1, (int)value);
		EXPECT_EQ(0, result(self->ctx));
	}
	close(fd);
	close(efd);
}

/* Many files by one call, and the same ones more than once. */
TEST_F_TIMEOUT(sync, batch, 120)
{
	enum { FILES = 16, NR = 128 };
	char dir[PATH_MAX];
	int d, i, fds[FILES];
	struct aio_counts now;
	struct many m;

	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++) {
		for (i = 0; i < FILES; i++) {
			fds[i] = aio_temp_file(dir, 0);
			ASSERT_LE(0, fds[i]);
			ASSERT_EQ(5, pwrite(fds[i], "dirty", 5, 0));
		}
		ASSERT_TRUE(many_init(&m, self->ctx, NR));
		for (i = 0; i < NR; i++) {
			iocb_sync(&m.cbs[i], sync_opcodes[i & 1],
				  fds[i / 2 % FILES]);
			m.cbs[i].aio_data = i;
		}
		aio_counts_get(&self->before);
		ASSERT_EQ(0, many_submit(&m, 0, NR));
		ASSERT_TRUE(many_reap(&m, NR, MANY_MS));
		for (i = 0; i < NR; i++) {
			EXPECT_EQ(0, m.res[i]) {
				TH_LOG("%s, request %d", dir, i);
			}
		}
		if (variant->threaded) {
			aio_counts_settle(&self->before, NR, &now);
			/* Some file systems have nothing to wait for. */
			EXPECT_EQ(NR, now.worker + now.at_once);
			if (variant->force)
				EXPECT_EQ(NR, now.worker);
		}
		EXPECT_EQ(0, m.wrong);
		many_free(&m);
		for (i = 0; i < FILES; i++)
			close(fds[i]);
	}
}

/* ---- and on a disk that takes its time ---- */

/* Open slow disks with a dirty page each. */
static void dirty_disks(struct __test_metadata *_metadata, struct disks *d,
			int nr)
{
	char page[4096];
	int i;

	memset(page, 'd', sizeof(page));
	for (i = 0; i < nr; i++) {
		ASSERT_EQ(0, disk_make(i, true));
		d->fds[i] = disk_open(i, O_RDWR);
		ASSERT_LE(0, d->fds[i]);
		/* A whole page, so that there is nothing to be read. */
		ASSERT_EQ((ssize_t)sizeof(page),
			  pwrite(d->fds[i], page, sizeof(page), 65536));
	}
}

/* Who submits does not wait, and of the others none for the next. */
TEST_F_TIMEOUT(sync, side_by_side, 120)
{
	const char *why = disks_possible();
	long long start, before, took, worst = 0, first = 0;
	struct io_event ev;
	struct iocb cbs[DISKS];
	int i;

	if (why)
		SKIP(return, "%s", why);
	dirty_disks(_metadata, &self->disks, DISKS);
	start = aio_now_ns();
	for (i = 0; i < DISKS; i++) {
		iocb_sync(&cbs[i], sync_opcodes[i & 1], self->disks.fds[i]);
		before = aio_now_ns();
		ASSERT_EQ(1, submit_one(self->ctx, &cbs[i]));
		took = aio_now_ns() - before;
		if (took > worst)
			worst = took;
	}
	for (i = 0; i < DISKS; i++) {
		ASSERT_EQ(1, reap_one(self->ctx, &ev, MANY_MS));
		EXPECT_EQ(0, (long long)ev.res);
		if (!i)
			first = aio_now_ns() - start;
	}
	took = aio_now_ns() - start;
	TH_LOG("io_submit() took at most %lld us, the first %lld ms, all %lld ms",
	       worst / 1000, first / 1000000, took / 1000000);
	EXPECT_GT(disk_ns() / 2, worst);
	/* The disk has been waited for. */
	EXPECT_LE(disk_ns() * 9 / 10, first);
	EXPECT_GT(DISKS / 2 * disk_ns(), took);
}

/* One that runs is told, but what the disk has it has. */
TEST_F_TIMEOUT(sync, cancel_running, 120)
{
	const char *why = disks_possible();
	struct io_event ev;
	struct iocb cb;

	if (why)
		SKIP(return, "%s", why);
	dirty_disks(_metadata, &self->disks, 1);
	iocb_sync(&cb, IOCB_CMD_FSYNC, self->disks.fds[0]);
	ASSERT_EQ(1, submit_one(self->ctx, &cb));
	if (variant->threaded)
		ASSERT_TRUE(wait_stat("running", ">", self->env.running,
				      AIO_PATIENCE_MS));
	ASSERT_TRUE(aio_no_event(self->ctx));
	EXPECT_EQ(variant->threaded ? -EINPROGRESS : -EINVAL,
		  sys_io_cancel(self->ctx, &cb, &ev));
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ((uintptr_t)&cb, ev.obj);
	EXPECT_TRUE(!ev.res ||
		    (variant->threaded && (long long)ev.res == -EINTR)) {
		TH_LOG("res %lld", (long long)ev.res);
	}
	EXPECT_EQ(-EINVAL, sys_io_cancel(self->ctx, &cb, &ev));
	EXPECT_TRUE(aio_no_event(self->ctx));
	/* It is none the worse for it. */
	EXPECT_EQ(0, aio_run(self->ctx, &cb));
}

/* ---- a plain context ---- */

FIXTURE(plain)
{
	struct aio_env env;
};

FIXTURE_SETUP(plain)
{
	AIO_SETUP(&self->env, false, false, EVENTS);
}

FIXTURE_TEARDOWN(plain)
{
	AIO_TEARDOWN(&self->env);
}

TEST_F(plain, no_readahead)
{
	int fd = memfd_create("aio", MFD_CLOEXEC);
	struct iocb cb;

	ASSERT_LE(0, fd);
	ASSERT_EQ(5, pwrite(fd, "hello", 5, 0));
	iocb_readahead(&cb, fd, 5, 0);
	EXPECT_EQ(-EINVAL, submit_one(self->env.ctx, &cb));
	EXPECT_TRUE(aio_no_event(self->env.ctx));
	close(fd);
}

/* ---- readahead ---- */

FIXTURE(ahead)
{
	struct aio_env env;
	aio_context_t ctx;
	struct aio_counts before;
	struct disks disks;
};

FIXTURE_VARIANT(ahead)
{
	bool force;
};

FIXTURE_VARIANT_ADD(ahead, as_tried)
{
	.force = false,
};

FIXTURE_VARIANT_ADD(ahead, forced)
{
	.force = true,
};

FIXTURE_SETUP(ahead)
{
	disks_start(&self->disks);
	AIO_SETUP(&self->env, true, variant->force, EVENTS);
	self->ctx = self->env.ctx;
	aio_counts_get(&self->before);
}

FIXTURE_TEARDOWN(ahead)
{
	disks_close(&self->disks);
	AIO_TEARDOWN(&self->env);
	disks_remove();
}

/* A file on each file system, and a disk. */
struct place {
	char		name[PATH_MAX];
	int		fd;
	long long	size;
	bool		can_drop;
};

#define FILE_SIZE	((1 << 20) + 12345)
#define FILE_SEED	7

/* Give the place number @index; false after the last. The caller closes it. */
static bool place_open(struct __test_metadata *_metadata, struct place *p,
		       int index)
{
	int dirs;

	if (aio_test_dir(index, p->name, sizeof(p->name))) {
		p->fd = make_file(p->name, FILE_SIZE, FILE_SEED);
		p->size = FILE_SIZE;
	} else {
		for (dirs = 0; aio_test_dir(dirs, p->name, sizeof(p->name));
		     dirs++)
			;
		if (index > dirs || disks_possible())
			return false;
		strcpy(p->name, "disk");
		p->fd = disk_make(0, false);
		if (!p->fd)
			p->fd = disk_fill(0, FILE_SEED);
		if (!p->fd)
			p->fd = disk_open(0, O_RDONLY);
		p->size = DISK_SIZE;
	}
	EXPECT_LE(0, p->fd) {
		TH_LOG("%s: %d", p->name, p->fd);
	}
	if (p->fd < 0)
		return false;
	p->can_drop = !on_tmpfs(p->fd) || !strcmp(p->name, "disk");
	return true;
}

static void place_close(struct place *p)
{
	close(p->fd);
	if (!strcmp(p->name, "disk"))
		disk_remove(0);
}

/* Nothing of it is in the cache, if that can be. */
static bool place_drop(const struct place *p)
{
	return !p->can_drop || drop(p->fd, p->size);
}

/* How much of the range there is. */
static long long within(long long size, long long off, long long len)
{
	if (off >= size)
		return 0;
	return len < size - off ? len : size - off;
}

TEST_F_TIMEOUT(ahead, ranges, 300)
{
	static const struct {
		bool		from_end;
		long long	off;
		long long	len;
	} rows[] = {
		{ false, 0, 0 }, { false, 5000, 0 }, { false, 0, 1 },
		{ false, 0, 4096 }, { false, 1, 1 }, { false, 4095, 2 },
		{ false, 123, 100000 }, { false, 65536 + 7, 300000 },
		{ false, 131072, 65536 }, { false, 0, 1LL << 40 },
		{ false, 4097, SSIZE_MAX - 8192 }, { true, -1, 1 },
		{ true, -1, 100 }, { true, -12345, 12345 },
		{ true, -12345, 12346 }, { true, -70001, 1 << 20 },
		{ true, 0, 0 }, { true, 0, 1 }, { true, 0, 1 << 20 },
		{ true, 1, 4096 }, { true, 40960, 4096 },
		{ false, 1LL << 40, 4096 },
	};
	long long off, want;
	struct place p;
	struct iocb cb;
	unsigned int i;
	int n;

	for (n = 0; place_open(_metadata, &p, n); n++) {
		for (i = 0; i < ARRAY_SIZE(rows); i++) {
			off = rows[i].off + (rows[i].from_end ? p.size : 0);
			want = within(p.size, off, rows[i].len);
			ASSERT_TRUE(place_drop(&p)) {
				TH_LOG("%s: %ld pages stay", p.name,
				       resident(p.fd, 0, p.size));
			}
			iocb_readahead(&cb, p.fd, rows[i].len, off);
			EXPECT_EQ(want, aio_run(self->ctx, &cb)) {
				TH_LOG("%s: %lld at %lld", p.name, rows[i].len,
				       off);
			}
			EXPECT_EQ(pages_of(off, want),
				  resident(p.fd, off, want)) {
				TH_LOG("%s: %lld at %lld", p.name, rows[i].len,
				       off);
			}
		}
		place_close(&p);
	}
	ASSERT_LT(0, n);
}

TEST_F(ahead, empty_file)
{
	char dir[PATH_MAX];
	struct iocb cb;
	int d, fd;

	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++) {
		fd = aio_temp_file(dir, 0);
		ASSERT_LE(0, fd);
		iocb_readahead(&cb, fd, 100000, 0);
		EXPECT_EQ(0, aio_run(self->ctx, &cb)) {
			TH_LOG("%s", dir);
		}
		close(fd);
	}
}

/* What is there needs no worker; what is not does. */
TEST_F_TIMEOUT(ahead, cached_already, 120)
{
	struct aio_counts now;
	struct place p;
	struct iocb cb;
	__u8 *buf;
	int n;

	for (n = 0; place_open(_metadata, &p, n); n++) {
		ASSERT_TRUE(place_drop(&p));
		iocb_readahead(&cb, p.fd, p.size, 0);
		if (p.can_drop) {
			aio_counts_get(&self->before);
			EXPECT_EQ(p.size, aio_run(self->ctx, &cb));
			aio_counts_settle(&self->before, 1, &now);
			EXPECT_EQ(1, now.worker) {
				TH_LOG("%s", p.name);
			}
			EXPECT_EQ(0, now.at_once + now.submitter + now.native);
		}
		aio_counts_get(&self->before);
		EXPECT_EQ(p.size, aio_run(self->ctx, &cb)) {
			TH_LOG("%s", p.name);
		}
		aio_counts_settle(&self->before, 1, &now);
		EXPECT_EQ(!variant->force, now.at_once) {
			TH_LOG("%s: at once %lld, worker %lld", p.name,
			       now.at_once, now.worker);
		}
		EXPECT_EQ(variant->force, now.worker);
		EXPECT_EQ(0, now.submitter + now.native);
		/* And these are the file's. */
		buf = malloc(p.size);
		ASSERT_NE(NULL, buf);
		ASSERT_EQ(p.size, pread(p.fd, buf, p.size, 0));
		EXPECT_EQ(-1, aio_check(buf, p.size, FILE_SEED, 0));
		free(buf);
		place_close(&p);
	}
	ASSERT_LT(0, n);
}

/* Where the kernel says how far it reads ahead by itself; -errno. */
static int read_ahead_file(int fd, char *path, size_t size)
{
	struct stat st;
	dev_t dev;

	if (fstat(fd, &st))
		return -errno;
	dev = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
	snprintf(path, size, "/sys/dev/block/%u:%u/queue/read_ahead_kb",
		 major(dev), minor(dev));
	if (!access(path, R_OK | W_OK))
		return 0;
	/* A partition has its disk's. */
	snprintf(path, size, "/sys/dev/block/%u:%u/../queue/read_ahead_kb",
		 major(dev), minor(dev));
	return access(path, R_OK | W_OK) ? -errno : 0;
}

/* All of it comes in, however little the kernel would read by itself. */
TEST_F_TIMEOUT(ahead, more_than_read_ahead_kb, 120)
{
	const long long size = (8 << 20) + 12345;
	char dir[PATH_MAX], path[128], was[32];
	int d, fd, new, nr = 0;
	bool lowered;
	struct iocb cb;

	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++) {
		fd = make_file(dir, size, 8);
		ASSERT_LE(0, fd);
		if (on_tmpfs(fd)) {
			close(fd);
			continue;
		}
		lowered = !read_ahead_file(fd, path, sizeof(path)) &&
			  aio_read_text(path, was, sizeof(was)) > 0 &&
			  !aio_write_text(path, "16");
		/* The description has it from when it was opened. */
		new = again(fd, O_RDONLY);
		iocb_readahead(&cb, new, size, 0);
		EXPECT_LE(0, new);
		EXPECT_TRUE(drop(fd, size));
		EXPECT_EQ(size, aio_run(self->ctx, &cb)) {
			TH_LOG("%s, read_ahead_kb %s", dir,
			       lowered ? "16" : "as it was");
		}
		EXPECT_EQ(pages_of(0, size), resident(fd, 0, size)) {
			TH_LOG("%s", dir);
		}
		/* Only what is asked for, but for what comes with it. */
		EXPECT_TRUE(drop(fd, size));
		iocb_readahead(&cb, new, 1 << 20, 2 << 20);
		EXPECT_EQ(1 << 20, aio_run(self->ctx, &cb));
		EXPECT_EQ(pages_of(2 << 20, 1 << 20),
			  resident(fd, 2 << 20, 1 << 20));
		EXPECT_GT(pages_of(0, size) / 2, resident(fd, 0, size));
		if (lowered)
			aio_write_text(path, was);
		close(new);
		close(fd);
		nr++;
	}
	if (!nr)
		SKIP(return, "no disk in AIO_TEST_DIRS");
}

/* A disk that takes so little at a time. */
TEST_F_TIMEOUT(ahead, more_than_the_disk_takes, 120)
{
	static const char sectors[] =
		"/sys/block/aio_sync0/queue/max_sectors_kb";
	static const char read_ahead[] =
		"/sys/block/aio_sync0/queue/read_ahead_kb";
	const char *why = disks_possible();
	struct iocb cb;

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, disk_make(0, false));
	ASSERT_EQ(0, disk_fill(0, 9));
	/* In this order: new limits may set anew how far it reads ahead. */
	ASSERT_EQ(0, aio_write_text(sectors, "16"));
	ASSERT_EQ(0, aio_write_text(read_ahead, "4"));
	self->disks.fds[0] = disk_open(0, O_RDONLY);
	ASSERT_LE(0, self->disks.fds[0]);
	ASSERT_EQ(0, resident(self->disks.fds[0], 0, DISK_SIZE));
	iocb_readahead(&cb, self->disks.fds[0], DISK_SIZE, 0);
	EXPECT_EQ(DISK_SIZE, aio_run(self->ctx, &cb));
	EXPECT_EQ(pages_of(0, DISK_SIZE),
		  resident(self->disks.fds[0], 0, DISK_SIZE));
}

/* Where nothing was written there is nothing to read, but zeros to give. */
TEST_F(ahead, holes)
{
	const long long size = 1 << 20;
	char dir[PATH_MAX], *buf = malloc(size);
	struct iocb cb;
	bool memory;
	int d, fd;

	ASSERT_NE(NULL, buf);
	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++) {
		fd = aio_temp_file(dir, 0);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, ftruncate(fd, size));
		ASSERT_EQ(5, pwrite(fd, "hello", 5, 300000));
		ASSERT_EQ(0, fsync(fd));
		/* In memory a hole is as good as read, and need not be filled. */
		memory = on_tmpfs(fd);
		ASSERT_TRUE(memory || drop(fd, size));
		iocb_readahead(&cb, fd, size, 0);
		EXPECT_EQ(size, aio_run(self->ctx, &cb)) {
			TH_LOG("%s", dir);
		}
		EXPECT_TRUE(memory ||
			    resident(fd, 0, size) == pages_of(0, size));
		ASSERT_EQ(size, pread(fd, buf, size, 0));
		EXPECT_EQ(0, memcmp(buf + 300000, "hello", 5));
		EXPECT_EQ(-1, aio_check_byte(buf, 300000, 0));
		EXPECT_EQ(-1, aio_check_byte(buf + 300005, size - 300005, 0));
		close(fd);
	}
	free(buf);
}

/* However many there are: in memory they cost nothing. */
TEST_F(ahead, endless_hole)
{
	const long long size = 1LL << 60;
	int fd = memfd_create("hole", MFD_CLOEXEC);
	struct iocb cb;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, size));
	ASSERT_EQ(1, pwrite(fd, "", 1, 5 * 4096 + 7));
	ASSERT_EQ(1, pwrite(fd, "", 1, size - 1));
	iocb_readahead(&cb, fd, size, 0);
	EXPECT_EQ(size, aio_run(self->ctx, &cb));
	iocb_readahead(&cb, fd, size / 2, 6 * 4096 + 1);
	EXPECT_EQ(size / 2, aio_run(self->ctx, &cb));
	iocb_readahead(&cb, fd, size, size / 2);
	EXPECT_EQ(size / 2, aio_run(self->ctx, &cb));
	close(fd);
}

TEST_F(ahead, descriptor_closed_and_eventfd)
{
	int efd = eventfd(0, EFD_CLOEXEC), fd;
	struct place p;
	struct iocb cb;
	uint64_t value;
	int n;

	ASSERT_LE(0, efd);
	for (n = 0; place_open(_metadata, &p, n); n++) {
		ASSERT_TRUE(place_drop(&p));
		fd = again(p.fd, O_RDONLY);
		ASSERT_LE(0, fd);
		iocb_readahead(&cb, fd, p.size, 0);
		cb.aio_flags = IOCB_FLAG_RESFD;
		cb.aio_resfd = efd;
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		ASSERT_EQ(0, close(fd));
		memset(&cb, 0xff, sizeof(cb));
		ASSERT_EQ(8, read(efd, &value, 8));
		EXPECT_EQ(1, (int)value);
		EXPECT_EQ(p.size, result(self->ctx)) {
			TH_LOG("%s", p.name);
		}
		EXPECT_EQ(pages_of(0, p.size), resident(p.fd, 0, p.size));
		place_close(&p);
	}
	ASSERT_LT(0, n);
	close(efd);
}

/* Many ranges by one call, in any order and one over the other. */
TEST_F_TIMEOUT(ahead, batch, 120)
{
	enum { NR = 200 };
	long long off[NR], len[NR], want;
	__u32 random = 31;
	struct place p;
	struct many m;
	int i, n;

	for (n = 0; place_open(_metadata, &p, n); n++) {
		ASSERT_TRUE(place_drop(&p));
		ASSERT_TRUE(many_init(&m, self->ctx, NR));
		for (i = 0; i < NR; i++) {
			off[i] = aio_random(&random) % (p.size + 10000);
			len[i] = aio_random(&random) % 200000;
			iocb_readahead(&m.cbs[i], p.fd, len[i], off[i]);
			m.cbs[i].aio_data = i;
		}
		ASSERT_EQ(0, many_submit(&m, 0, NR));
		ASSERT_TRUE(many_reap(&m, NR, MANY_MS));
		for (i = 0; i < NR; i++) {
			want = within(p.size, off[i], len[i]);
			EXPECT_EQ(want, m.res[i]) {
				TH_LOG("%s: %lld at %lld", p.name, len[i],
				       off[i]);
			}
			EXPECT_EQ(pages_of(off[i], want),
				  resident(p.fd, off[i], want));
		}
		EXPECT_EQ(0, m.wrong);
		many_free(&m);
		place_close(&p);
	}
	ASSERT_LT(0, n);
}

/* ---- errors ---- */

TEST_F(ahead, refused)
{
	int fd = make_file("/tmp", 10000, 10);
	struct iocb cb, good;
	int s[2];

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, pipe2(s, O_CLOEXEC));
	iocb_readahead(&good, fd, 10000, 0);
	EXPECT_EQ(10000, aio_run(self->ctx, &good));
	cb = good;
	cb.aio_buf = (uintptr_t)&cb;
	EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
	cb = good;
	cb.aio_rw_flags = RWF_NOWAIT;
	EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
	cb = good;
	cb.aio_reserved2 = 1;
	EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
	cb = good;
	cb.aio_offset = -1;
	EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
	cb = good;
	cb.aio_offset = LLONG_MIN;
	EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
	cb = good;
	cb.aio_offset = LLONG_MAX;
	EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
	cb = good;
	cb.aio_offset = LLONG_MAX - 5000;
	cb.aio_nbytes = 5002;
	EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
	cb = good;
	cb.aio_nbytes = (size_t)SSIZE_MAX + 1;
	EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
	cb = good;
	cb.aio_nbytes = SIZE_MAX;
	EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
	cb = good;
	cb.aio_fildes = 1 << 20;
	EXPECT_EQ(-EBADF, submit_one(self->ctx, &cb));
	cb = good;
	cb.aio_flags = IOCB_FLAG_RESFD;
	cb.aio_resfd = s[0];
	EXPECT_EQ(-EINVAL, submit_one(self->ctx, &cb));
	EXPECT_TRUE(aio_no_event(self->ctx));
	EXPECT_EQ(10000, aio_run(self->ctx, &good));
	close(s[0]);
	close(s[1]);
	close(fd);
}

/* What readahead(2) refuses io_submit() does, and in the same way. */
static void expect_as_readahead(struct __test_metadata *_metadata,
				aio_context_t ctx, int fd, const char *what)
{
	struct iocb cb;
	long long res;
	int err;

	ASSERT_LE(0, fd) {
		TH_LOG("%s", what);
	}
	err = readahead(fd, 0, 4096) ? errno : 0;
	iocb_readahead(&cb, fd, 4096, 0);
	res = aio_run(ctx, &cb);
	if (err) {
		EXPECT_EQ(AIO_REFUSED(err), res) {
			TH_LOG("%s", what);
		}
	} else {
		EXPECT_TRUE(res >= 0 && res <= 4096) {
			TH_LOG("%s: %lld", what, res);
		}
	}
	close(fd);
}

TEST_F(ahead, as_readahead)
{
	int fd = make_file("/tmp", 10000, 10), s[2];

	ASSERT_LE(0, fd);
	expect_as_readahead(_metadata, self->ctx, again(fd, O_WRONLY),
			    "O_WRONLY");
	expect_as_readahead(_metadata, self->ctx, again(fd, O_PATH), "O_PATH");
	expect_as_readahead(_metadata, self->ctx, fd, "O_RDWR");
	ASSERT_EQ(0, pipe2(s, O_CLOEXEC));
	expect_as_readahead(_metadata, self->ctx, s[0], "pipe, read end");
	expect_as_readahead(_metadata, self->ctx, s[1], "pipe, write end");
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s));
	expect_as_readahead(_metadata, self->ctx, s[0], "socket");
	close(s[1]);
	expect_as_readahead(_metadata, self->ctx, eventfd(0, EFD_CLOEXEC),
			    "eventfd");
	expect_as_readahead(_metadata, self->ctx,
			    epoll_create1(EPOLL_CLOEXEC), "epoll");
	expect_as_readahead(_metadata, self->ctx,
			    memfd_create("aio", MFD_CLOEXEC), "memfd");
	expect_as_readahead(_metadata, self->ctx,
			    open("/tmp", O_DIRECTORY | O_CLOEXEC), "directory");
	expect_as_readahead(_metadata, self->ctx,
			    open("/proc/version", O_RDONLY | O_CLOEXEC),
			    "/proc/version");
	expect_as_readahead(_metadata, self->ctx,
			    open("/sys/kernel/uevent_seqnum",
				 O_RDONLY | O_CLOEXEC), "sysfs");
	expect_as_readahead(_metadata, self->ctx,
			    open("/dev/null", O_RDWR | O_CLOEXEC), "/dev/null");
	expect_as_readahead(_metadata, self->ctx,
			    open("/dev/zero", O_RDONLY | O_CLOEXEC),
			    "/dev/zero");
}

/* A part of the disk that cannot be read. */
TEST_F_TIMEOUT(ahead, io_error, 120)
{
	const char *why = disks_possible();
	char bad[128];
	struct iocb cb;
	int fd;

	if (why)
		SKIP(return, "%s", why);
	disk_path(bad, sizeof(bad), 0, "badblocks");
	ASSERT_EQ(0, disk_make(0, false));
	ASSERT_EQ(0, disk_fill(0, 11));
	/* One page at 1 MiB */
	if (aio_write_text(bad, "+2048-2055"))
		SKIP(return, "null_blk without bad blocks");
	fd = disk_open(0, O_RDONLY);
	ASSERT_LE(0, fd);
	self->disks.fds[0] = fd;
	iocb_readahead(&cb, fd, 512 << 10, 0);
	EXPECT_EQ(512 << 10, aio_run(self->ctx, &cb));
	iocb_readahead(&cb, fd, 1 << 20, 512 << 10);
	EXPECT_EQ(-EIO, aio_run(self->ctx, &cb));
	EXPECT_TRUE(aio_no_event(self->ctx));
	/* What is beyond it is not affected. */
	iocb_readahead(&cb, fd, 1 << 20, 2 << 20);
	EXPECT_EQ(1 << 20, aio_run(self->ctx, &cb));
	/* And neither is it once it has been mended. */
	ASSERT_EQ(0, aio_write_text(bad, "-2048-2055"));
	ASSERT_TRUE(drop(fd, DISK_SIZE));
	iocb_readahead(&cb, fd, DISK_SIZE, 0);
	EXPECT_EQ(DISK_SIZE, aio_run(self->ctx, &cb));
}

/* ---- the file changes while it is read ---- */

struct changer {
	int		fd;
	int		stop;
	int		rounds;
	int		bad;
	long long	size;
	__u32		random;
	const __u8	*data;
};

static void *change_size(void *arg)
{
	struct changer *c = arg;
	long long cut;

	while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED)) {
		cut = aio_random(&c->random) % c->size;
		c->bad += !!ftruncate(c->fd, cut);
		dawdle(&c->random);
		/* Some of it is to be read, some is a hole. */
		c->bad += pwrite(c->fd, c->data, 65536, cut) != 65536;
		c->bad += !!ftruncate(c->fd, c->size);
		if (c->rounds % 4 == 0)
			c->bad += fdatasync(c->fd) ||
				  posix_fadvise(c->fd, 0, 0,
						POSIX_FADV_DONTNEED);
		c->rounds++;
	}
	return NULL;
}

TEST_F_TIMEOUT(ahead, truncated_meanwhile, 300)
{
	enum { NR = 8 };
	const int rounds = slow() ? 20 : 100;
	const long long size = 2 << 20;
	char dir[PATH_MAX];
	__u8 *data = malloc(65536);
	__u32 random = 32;
	pthread_t thread;
	struct many m;
	int d, i, r;

	ASSERT_NE(NULL, data);
	aio_fill(data, 65536, 12, 0);
	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++) {
		struct changer c = { .size = size, .random = 33, .data = data };

		c.fd = make_file(dir, size, 12);
		ASSERT_LE(0, c.fd);
		ASSERT_TRUE(many_init(&m, self->ctx, NR));
		ASSERT_EQ(0, pthread_create(&thread, NULL, change_size, &c));
		for (r = 0; r < rounds; r++) {
			for (i = 0; i < NR; i++) {
				iocb_readahead(&m.cbs[i], c.fd,
					       aio_random(&random) % size,
					       aio_random(&random) % size);
				m.cbs[i].aio_data = i;
			}
			memset(m.seen, 0, NR * sizeof(*m.seen));
			m.reaped = 0;
			ASSERT_EQ(0, many_submit(&m, 0, NR));
			ASSERT_TRUE(many_reap(&m, NR, MANY_MS)) {
				TH_LOG("%s, round %d", dir, r);
			}
			for (i = 0; i < NR; i++) {
				ASSERT_TRUE(m.res[i] >= 0 && m.res[i] <=
					    (long long)m.cbs[i].aio_nbytes) {
					TH_LOG("%s: %lld of %lld", dir,
					       m.res[i],
					       (long long)m.cbs[i].aio_nbytes);
				}
			}
		}
		__atomic_store_n(&c.stop, 1, __ATOMIC_RELAXED);
		ASSERT_EQ(0, pthread_join(thread, NULL));
		TH_LOG("%s: %d rounds against %d changes", dir, rounds,
		       c.rounds);
		EXPECT_EQ(0, c.bad);
		EXPECT_EQ(0, m.wrong);
		many_free(&m);
		close(c.fd);
	}
	free(data);
}

/* ---- a disk that takes its time ---- */

#define STEP	(256 << 10)
#define PART	(64 << 10)

TEST_F_TIMEOUT(ahead, slow_disk, 120)
{
	const char *why = disks_possible();
	long long start, before, took, worst = 0, first = 0;
	struct iocb cbs[DISKS];
	struct io_event ev;
	__u8 *buf = malloc(PART);
	int i, fd;

	if (why)
		SKIP(return, "%s", why);
	ASSERT_NE(NULL, buf);
	ASSERT_EQ(0, disk_make(0, true));
	ASSERT_EQ(0, disk_fill(0, 13));
	fd = disk_open(0, O_RDONLY);
	ASSERT_LE(0, fd);
	self->disks.fds[0] = fd;
	/* pread() below is not to add anything. */
	ASSERT_EQ(0, posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM));
	start = aio_now_ns();
	for (i = 0; i < DISKS; i++) {
		iocb_readahead(&cbs[i], fd, PART, i * STEP);
		before = aio_now_ns();
		ASSERT_EQ(1, submit_one(self->ctx, &cbs[i]));
		took = aio_now_ns() - before;
		if (took > worst)
			worst = took;
	}
	for (i = 0; i < DISKS; i++) {
		ASSERT_EQ(1, reap_one(self->ctx, &ev, MANY_MS));
		EXPECT_EQ(PART, (long long)ev.res);
		if (!i)
			first = aio_now_ns() - start;
	}
	took = aio_now_ns() - start;
	TH_LOG("io_submit() took at most %lld us, the first %lld ms, all %lld ms",
	       worst / 1000, first / 1000000, took / 1000000);
	EXPECT_GT(disk_ns() / 2, worst);
	/* The event is not there before the data are. */
	EXPECT_LE(disk_ns() * 9 / 10, first);
	EXPECT_GT(DISKS / 2 * disk_ns(), took);
	for (i = 0; i < DISKS; i++) {
		before = aio_now_ns();
		ASSERT_EQ(PART, pread(fd, buf, PART, i * STEP));
		took = aio_now_ns() - before;
		EXPECT_GT(disk_ns() / 2, took);
		EXPECT_EQ(-1, aio_check(buf, PART, 13, i * STEP));
	}
	free(buf);
}

TEST_F_TIMEOUT(ahead, cancel_running, 120)
{
	const char *why = disks_possible();
	struct io_event ev;
	struct iocb cb;
	int fd;

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, disk_make(0, true));
	fd = disk_open(0, O_RDONLY);
	ASSERT_LE(0, fd);
	self->disks.fds[0] = fd;
	iocb_readahead(&cb, fd, PART, STEP);
	ASSERT_EQ(1, submit_one(self->ctx, &cb));
	ASSERT_TRUE(wait_stat("running", ">", self->env.running,
			      AIO_PATIENCE_MS));
	ASSERT_TRUE(aio_no_event(self->ctx));
	EXPECT_EQ(-EINPROGRESS, sys_io_cancel(self->ctx, &cb, &ev));
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ((uintptr_t)&cb, ev.obj);
	EXPECT_TRUE((long long)ev.res == -EINTR ||
		    ((long long)ev.res >= 0 && ev.res <= PART)) {
		TH_LOG("res %lld", (long long)ev.res);
	}
	EXPECT_EQ(-EINVAL, sys_io_cancel(self->ctx, &cb, &ev));
	EXPECT_TRUE(aio_no_event(self->ctx));
	/* The file is none the worse for it. */
	EXPECT_EQ(PART, aio_run(self->ctx, &cb));
	EXPECT_EQ(pages_of(STEP, PART), resident(fd, STEP, PART));
}

/* ---- what has no worker yet ---- */

/* fsync, fdsync and readahead that wait for a worker end without one. */
TEST_F_TIMEOUT(ahead, cancel_queued, 900)
{
	long long queued, counted;
	char dir[PATH_MAX];
	struct crowd crowd;
	struct io_event ev;
	const char *why;
	struct many m;
	int d, i, fd;

	/* A file that is not in the cache; the last is as good as any. */
	for (d = 0, fd = -1; aio_test_dir(d, dir, sizeof(dir)); d++) {
		if (fd >= 0)
			close(fd);
		fd = make_file(dir, FILE_SIZE, 14);
		ASSERT_LE(0, fd);
		if (!on_tmpfs(fd))
			break;
	}
	if (fd < 0 || on_tmpfs(fd)) {
		if (fd >= 0)
			close(fd);
		SKIP(return, "no disk in AIO_TEST_DIRS");
	}
	why = crowd_all_workers(&crowd);
	ASSERT_EQ(NULL, why) {
		TH_LOG("%s", why);
	}
	ASSERT_TRUE(drop(fd, FILE_SIZE));
	ASSERT_TRUE(many_init(&m, self->ctx, 3));
	iocb_sync(&m.cbs[0], IOCB_CMD_FSYNC, fd);
	iocb_sync(&m.cbs[1], IOCB_CMD_FDSYNC, fd);
	iocb_readahead(&m.cbs[2], fd, FILE_SIZE, 0);
	for (i = 0; i < m.nr; i++)
		m.cbs[i].aio_data = i;
	queued = aio_stat("queued");
	counted = aio_stat("cancelled");
	ASSERT_EQ(0, many_submit(&m, 0, m.nr));
	EXPECT_EQ(queued + m.nr, aio_stat("queued"));
	EXPECT_TRUE(aio_no_event(self->ctx));
	for (i = 0; i < m.nr; i++)
		EXPECT_EQ(-EINPROGRESS,
			  sys_io_cancel(self->ctx, &m.cbs[i], &ev));
	ASSERT_TRUE(many_reap(&m, m.nr, AIO_PATIENCE_MS));
	for (i = 0; i < m.nr; i++) {
		EXPECT_EQ(-ECANCELED, m.res[i]) {
			TH_LOG("opcode %d", m.cbs[i].aio_lio_opcode);
		}
		EXPECT_EQ(-EINVAL, sys_io_cancel(self->ctx, &m.cbs[i], &ev));
	}
	EXPECT_EQ(counted + m.nr, aio_stat("cancelled"));
	EXPECT_TRUE(aio_no_event(self->ctx));
	EXPECT_EQ(0, crowd_leave(&crowd));

	/* Nor does it happen later: others have been through the queue. */
	iocb_sync(&m.cbs[0], IOCB_CMD_FSYNC, fd);
	EXPECT_EQ(0, aio_run(self->ctx, &m.cbs[0]));
	EXPECT_EQ(0, resident(fd, 0, FILE_SIZE));
	iocb_readahead(&m.cbs[2], fd, FILE_SIZE, 0);
	EXPECT_EQ(FILE_SIZE, aio_run(self->ctx, &m.cbs[2]));
	EXPECT_EQ(0, m.wrong);
	many_free(&m);
	close(fd);
}

TEST_HARNESS_MAIN

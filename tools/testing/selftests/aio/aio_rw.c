// SPDX-License-Identifier: GPL-2.0
/*
 * AIO reads and writes: the data, the results, the arguments. Every behaviour
 * is tested in a plain context, which must be as it always was, in a threaded
 * one, and in a threaded one where all that may goes to a worker.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/sysmacros.h>

#include "kselftest_harness.h"
#include "aio_test.h"

#define GUARD		64
#define GUARD_BYTE	0xa5
#define MAX_SIZE	(8 << 20)
#define EVENTS		256

static const size_t sizes[] = {
	1, 2, 511, 512, 513, 4095, 4096, 4097, 65537, 1 << 20, MAX_SIZE,
};

/* ---- fixtures ---- */

FIXTURE(rw) {
	struct aio_env		env;
	struct aio_counts	before;
};

FIXTURE_VARIANT(rw) {
	bool threaded;
	bool force;
};

FIXTURE_VARIANT_ADD(rw, off) { .threaded = false };
FIXTURE_VARIANT_ADD(rw, tried) { .threaded = true };
FIXTURE_VARIANT_ADD(rw, worker) { .threaded = true, .force = true };

FIXTURE_SETUP(rw)
{
	AIO_SETUP(&self->env, variant->threaded, variant->force, EVENTS);
	aio_counts_get(&self->before);
}

FIXTURE_TEARDOWN(rw)
{
	AIO_TEARDOWN(&self->env);
	/* A plain context never comes near any of it. */
	if (!variant->threaded) {
		struct aio_counts now;

		aio_counts_get(&now);
		EXPECT_EQ(0, memcmp(&now, &self->before, sizeof(now)));
	}
}

/* What only a threaded context can do: wait for something in a request. */
FIXTURE(blocked) {
	struct aio_env		env;
	struct aio_counts	before;
	int			pipe[2];
};

FIXTURE_VARIANT(blocked) {
	bool force;
};

FIXTURE_VARIANT_ADD(blocked, tried) { .force = false };
FIXTURE_VARIANT_ADD(blocked, worker) { .force = true };

FIXTURE_SETUP(blocked)
{
	signal(SIGPIPE, SIG_IGN);
	AIO_SETUP(&self->env, true, variant->force, EVENTS);
	aio_counts_get(&self->before);
	ASSERT_EQ(0, pipe2(self->pipe, O_CLOEXEC));
}

FIXTURE_TEARDOWN(blocked)
{
	if (self->pipe[0] >= 0)
		close(self->pipe[0]);
	if (self->pipe[1] >= 0)
		close(self->pipe[1]);
	AIO_TEARDOWN(&self->env);
}

#define EXPECT_BLOCKED(nr)						\
	EXPECT_TRUE(aio_wait_blocked(&self->env, variant->force, nr))

/*
 * Every request was counted once, forced ones as a worker's. None of these
 * files has anything to wait on.
 */
static void expect_counted(struct __test_metadata *_metadata,
			   const struct aio_counts *since, bool threaded,
			   bool force, long long nr)
{
	struct aio_counts c;

	if (!threaded)
		return;
	aio_counts_settle(since, nr, &c);
	EXPECT_EQ(nr, c.at_once + c.native + c.worker + c.submitter);
	EXPECT_EQ(0, c.armed);
	if (force)
		EXPECT_EQ(nr, c.worker);
}

#define EXPECT_COUNTED(nr)						\
	expect_counted(_metadata, &self->before, variant->threaded,	\
		       variant->force, nr)

/* What the system call of the same arguments would have returned, or -errno. */
static long long as_call(long long res)
{
	if (res <= AIO_REFUSED(0) && res > AIO_NO_EVENT)
		return res - AIO_REFUSED(0);
	return res;
}

static long long call_ret(long long ret)
{
	return ret < 0 ? -errno : ret;
}

/* Memory for @size bytes at any misalignment, with a guard on either side. */
static uint8_t *guarded(void)
{
	void *map = mmap(NULL, MAX_SIZE + (1 << 20), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return map == MAP_FAILED ? NULL : (uint8_t *)map + 4096;
}

static void guard(uint8_t *buf, size_t len)
{
	memset(buf - GUARD, GUARD_BYTE, len + 2 * GUARD);
}

static bool guards_whole(const uint8_t *buf, size_t len)
{
	return aio_check_byte(buf - GUARD, GUARD, GUARD_BYTE) < 0 &&
	       aio_check_byte(buf + len, GUARD, GUARD_BYTE) < 0;
}

/* Put @len bytes of the stream @seed into the file, its only content. */
static bool fill_file(int fd, size_t len, uint32_t seed)
{
	uint8_t *buf = malloc(len + 1);
	size_t done = 0;
	ssize_t ret;

	aio_fill(buf, len, seed, 0);
	if (ftruncate(fd, 0))
		done = len + 1;
	while (done < len) {
		ret = pwrite(fd, buf + done, len - done, done);
		if (ret <= 0)
			break;
		done += ret;
	}
	free(buf);
	return done == len;
}

/* Bytes of the first @len that are in the page cache. */
static size_t cached(int fd, size_t len)
{
	size_t page = sysconf(_SC_PAGESIZE), nr = (len + page - 1) / page;
	unsigned char *vec = malloc(nr);
	size_t i, there = 0;
	void *map = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);

	if (map != MAP_FAILED && !mincore(map, len, vec))
		for (i = 0; i < nr; i++)
			there += vec[i] & 1 ? page : 0;
	if (map != MAP_FAILED)
		munmap(map, len);
	free(vec);
	return there;
}

/* Gives false where the file system has nowhere else to keep the data. */
static bool make_cold(int fd, size_t len)
{
	if (fsync(fd))
		return false;
	return aio_wait_for(!posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) &&
			    !cached(fd, len), 1000);
}

/* ---- data ---- */

TEST_F_TIMEOUT(rw, sizes, 300)
{
	static const off_t offsets[] = { 0, 4097, 1, 511, 4095 };
	uint8_t *mem = guarded();
	char dir[PATH_MAX];
	long long nr = 0;
	struct iocb cb;
	size_t s, o;
	int d;

	ASSERT_TRUE(!!mem);
	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++) {
		int fd = aio_temp_file(dir, 0);

		ASSERT_LE(0, fd);
		for (s = 0; s < ARRAY_SIZE(sizes); s++) {
			for (o = 0; o < ARRAY_SIZE(offsets); o++) {
				size_t len = sizes[s];
				off_t off = offsets[o];
				uint8_t *buf = mem + o * 3 + s;
				uint32_t seed = s * 16 + o;

				/* Two of the largest are enough. */
				if (len == MAX_SIZE && o > 1)
					continue;
				ASSERT_EQ(0, ftruncate(fd, 0));
				guard(buf, len);
				aio_fill(buf, len, seed, off);
				iocb_pwrite(&cb, fd, buf, len, off);
				ASSERT_EQ(len, aio_run(self->env.ctx, &cb));
				ASSERT_EQ(off + len, lseek(fd, 0, SEEK_END));

				/* What was written, and nothing else, ... */
				guard(buf, len);
				ASSERT_EQ(off, pread(fd, buf, off, 0));
				ASSERT_EQ(-1, aio_check_byte(buf, off, 0));
				guard(buf, len);
				ASSERT_EQ(len, pread(fd, buf, len, off));
				ASSERT_EQ(-1, aio_check(buf, len, seed, off));

				/* ... comes back, with nothing else. */
				buf++;
				guard(buf, len);
				iocb_pread(&cb, fd, buf, len, off);
				ASSERT_EQ(len, aio_run(self->env.ctx, &cb)) {
					TH_LOG("%zu bytes at %ld in %s", len,
					       (long)off, dir);
				}
				ASSERT_EQ(-1, aio_check(buf, len, seed, off));
				ASSERT_TRUE(guards_whole(buf, len));
				nr += 2;
			}
		}
		close(fd);
	}
	ASSERT_LT(0, d);
	EXPECT_COUNTED(nr);
}

TEST_F_TIMEOUT(rw, cold, 300)
{
	uint8_t *buf = guarded();
	char dir[PATH_MAX];
	long long nr = 0;
	struct iocb cb;
	size_t s;
	int d;

	ASSERT_TRUE(!!buf);
	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++) {
		int fd = aio_temp_file(dir, 0);

		ASSERT_LE(0, fd);
		for (s = 0; s < ARRAY_SIZE(sizes); s++) {
			size_t len = sizes[s];

			ASSERT_TRUE(fill_file(fd, len, s));
			if (!make_cold(fd, len))
				break;
			guard(buf, len);
			iocb_pread(&cb, fd, buf, len, 0);
			ASSERT_EQ(len, aio_run(self->env.ctx, &cb));
			ASSERT_EQ(-1, aio_check(buf, len, s, 0));
			ASSERT_TRUE(guards_whole(buf, len));
			nr++;
		}
		close(fd);
	}
	EXPECT_COUNTED(nr);
	if (!nr)
		SKIP(return, "no file system of AIO_TEST_DIRS has a cold cache");
}

/* Some of it can be had at once, some not: still one whole result. */
TEST_F_TIMEOUT(rw, half_cached, 120)
{
	const size_t len = 4 << 20, half = 2 << 20;
	static const size_t cuts[] = { 0, 1, 4096, 100001 };
	uint8_t *buf = guarded();
	struct iovec iov[3];
	char dir[PATH_MAX];
	long long nr = 0;
	struct iocb cb;
	size_t i;
	int d, v;

	ASSERT_TRUE(!!buf);
	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++) {
		int fd = aio_temp_file(dir, 0);

		ASSERT_LE(0, fd);
		ASSERT_TRUE(fill_file(fd, len, 77));
		for (i = 0; i < 2 * ARRAY_SIZE(cuts); i++) {
			size_t off = cuts[i / 2];

			if (!make_cold(fd, len))
				break;
			/* Without readahead only what is read is there. */
			posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
			ASSERT_EQ(half, pread(fd, buf, half, 0));
			ASSERT_LE(half, cached(fd, half));
			if (cached(fd, len) == len)
				break;
			guard(buf, len);
			if (i & 1) {
				size_t first = half - off - 5;

				iov[0].iov_base = buf;
				iov[0].iov_len = first;
				iov[1].iov_base = buf + first;
				iov[1].iov_len = 7;
				iov[2].iov_base = buf + first + 7;
				iov[2].iov_len = len - off - first - 7;
				iocb_preadv(&cb, fd, iov, 3, off);
			} else {
				iocb_pread(&cb, fd, buf, len - off, off);
			}
			ASSERT_EQ(len - off, aio_run(self->env.ctx, &cb));
			ASSERT_EQ(-1, aio_check(buf, len - off, 77, off));
			ASSERT_TRUE(guards_whole(buf, len - off));
			nr++;

			/* The end of the file ends it here, too. */
			v = 100;
			guard(buf, len);
			iocb_pread(&cb, fd, buf, len, len - v);
			ASSERT_EQ(v, aio_run(self->env.ctx, &cb));
			ASSERT_EQ(-1, aio_check(buf, v, 77, len - v));
			nr++;
		}
		close(fd);
	}
	EXPECT_COUNTED(nr);
	if (!nr)
		SKIP(return, "no file system of AIO_TEST_DIRS has a cold cache");
}

/*
 * Cut memory into @nr uneven segments, every third empty, with gaps between
 * them that nobody may touch. Returns what they hold together.
 */
#define SEG_GAP		3

static size_t cut(struct iovec *iov, int nr, uint8_t *mem, size_t max)
{
	size_t total = 0;
	int i;

	for (i = 0; i < nr; i++) {
		size_t len = i % 3 == 1 ? 0 : 1 + aio_word(nr, i) % max;

		iov[i].iov_base = mem;
		iov[i].iov_len = len;
		mem += len + SEG_GAP;
		total += len;
	}
	return total;
}

static void fill_segs(const struct iovec *iov, int nr, uint32_t seed)
{
	uint64_t pos = 0;
	int i;

	for (i = 0; i < nr; i++) {
		aio_fill(iov[i].iov_base, iov[i].iov_len, seed, pos);
		pos += iov[i].iov_len;
	}
}

/* The first @len bytes of the segments are right, and nothing else touched. */
static bool check_segs(const struct iovec *iov, int nr, size_t len,
		       uint32_t seed)
{
	uint64_t pos = 0;
	int i;

	for (i = 0; i < nr; i++) {
		uint8_t *base = iov[i].iov_base;
		size_t part = iov[i].iov_len;

		if (part > len - pos)
			part = len - pos;
		if (aio_check(base, part, seed, pos) >= 0)
			return false;
		if (aio_check_byte(base + part, iov[i].iov_len - part + SEG_GAP,
				   GUARD_BYTE) >= 0)
			return false;
		pos += part;
	}
	return pos == len;
}

TEST_F_TIMEOUT(rw, vectored, 120)
{
	static const struct {
		int nr;
		size_t max;
	} cases[] = {
		{ 1, 700 }, { 1, 100003 }, { 2, 5001 }, { 8, 700 },
		{ 8, 100003 }, { 9, 700 }, { 9, 100003 }, { 1024, 1 },
		{ 1024, 700 }, { 1024, 5003 },
	};
	uint8_t *mem = guarded(), *flat = guarded();
	struct iovec iov[1024];
	char dir[PATH_MAX];
	long long nr = 0;
	struct iocb cb;
	size_t c;
	int d;

	ASSERT_TRUE(!!mem);
	ASSERT_TRUE(!!flat);
	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++) {
		int fd = aio_temp_file(dir, 0);

		ASSERT_LE(0, fd);
		for (c = 0; c < ARRAY_SIZE(cases); c++) {
			const off_t off = c * 1001;
			int segs = cases[c].nr;
			size_t len = cut(iov, segs, mem + c, cases[c].max);
			size_t span = len + segs * SEG_GAP;

			ASSERT_EQ(0, ftruncate(fd, 0));
			guard(mem + c, span);
			fill_segs(iov, segs, c);
			iocb_pwritev(&cb, fd, iov, segs, off);
			ASSERT_EQ(len, aio_run(self->env.ctx, &cb));
			ASSERT_EQ(off + len, lseek(fd, 0, SEEK_END));
			ASSERT_EQ(len, pread(fd, flat, len, off));
			ASSERT_EQ(-1, aio_check(flat, len, c, 0));

			/* The segments end before the file. */
			ASSERT_EQ(3, pwrite(fd, "end", 3, off + len));
			guard(mem + c, span);
			iocb_preadv(&cb, fd, iov, segs, off);
			ASSERT_EQ(len, aio_run(self->env.ctx, &cb));
			ASSERT_TRUE(check_segs(iov, segs, len, c)) {
				TH_LOG("%d segments in %s", segs, dir);
			}
			ASSERT_TRUE(guards_whole(mem + c, span));

			/* The file ends before the segments. */
			if (len > 10) {
				ASSERT_EQ(0, ftruncate(fd, off + len - 9));
				guard(mem + c, span);
				iocb_preadv(&cb, fd, iov, segs, off);
				ASSERT_EQ(len - 9,
					  aio_run(self->env.ctx, &cb));
				ASSERT_TRUE(check_segs(iov, segs, len - 9, c));
				nr++;
			}
			nr += 2;
		}
		close(fd);
	}
	ASSERT_LT(0, d);
	EXPECT_COUNTED(nr);
}

TEST_F(rw, vector_limits)
{
	static struct iovec iov[1025];
	struct iovec *bad = (struct iovec *)8;
	uint8_t byte = 'x';
	struct iocb cb;
	int fd, i;

	fd = aio_temp_file("/tmp", 0);
	ASSERT_LE(0, fd);
	for (i = 0; i < 1025; i++) {
		iov[i].iov_base = &byte;
		iov[i].iov_len = 1;
	}
	iocb_pwritev(&cb, fd, iov, 1025, 0);
	EXPECT_EQ(AIO_REFUSED(EINVAL), aio_run(self->env.ctx, &cb));
	iocb_preadv(&cb, fd, iov, 1025, 0);
	EXPECT_EQ(AIO_REFUSED(EINVAL), aio_run(self->env.ctx, &cb));
	EXPECT_EQ(0, lseek(fd, 0, SEEK_END));

	/* No segment, only empty segments, too long a segment. */
	iocb_pwritev(&cb, fd, iov, 0, 5);
	EXPECT_EQ(0, aio_run(self->env.ctx, &cb));
	iov[0].iov_len = 0;
	iov[1].iov_len = 0;
	iocb_pwritev(&cb, fd, iov, 2, 5);
	EXPECT_EQ(0, aio_run(self->env.ctx, &cb));
	EXPECT_EQ(0, lseek(fd, 0, SEEK_END));
	iov[1].iov_len = -1;
	iocb_pwritev(&cb, fd, iov, 2, 5);
	EXPECT_EQ(AIO_REFUSED(EINVAL), aio_run(self->env.ctx, &cb));
	iocb_preadv(&cb, fd, iov, 1, 5);
	EXPECT_EQ(0, aio_run(self->env.ctx, &cb));

	iocb_pwritev(&cb, fd, bad, 1, 0);
	EXPECT_EQ(AIO_REFUSED(EFAULT), aio_run(self->env.ctx, &cb));
	iocb_pwritev(&cb, fd, bad, 9, 0);
	EXPECT_EQ(AIO_REFUSED(EFAULT), aio_run(self->env.ctx, &cb));
	EXPECT_EQ(0, lseek(fd, 0, SEEK_END));
	close(fd);
}

TEST_F(rw, end_of_file)
{
	static const size_t ends[] = { 0, 1, 511, 4096, 10001 };
	static const int starts[] = { -600, -5, -1, 0, 1, 4096, 1 << 20 };
	static uint8_t buf[4096], want[4096];
	char dir[PATH_MAX];
	struct iocb cb;
	size_t e, s;
	int d;

	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++) {
		int fd = aio_temp_file(dir, 0);

		ASSERT_LE(0, fd);
		for (e = 0; e < ARRAY_SIZE(ends); e++) {
			ASSERT_TRUE(fill_file(fd, ends[e], e));
			for (s = 0; s < ARRAY_SIZE(starts); s++) {
				off_t off = (off_t)ends[e] + starts[s];
				ssize_t ret;

				if (off < 0)
					continue;
				memset(buf, GUARD_BYTE, sizeof(buf));
				memset(want, GUARD_BYTE, sizeof(want));
				ret = pread(fd, want, sizeof(want), off);
				iocb_pread(&cb, fd, buf, sizeof(buf), off);
				ASSERT_EQ(ret, aio_run(self->env.ctx, &cb));
				ASSERT_EQ(starts[s] >= 0 ? 0 : -starts[s],
					  ret);
				ASSERT_EQ(0, memcmp(buf, want, sizeof(buf)));
			}
		}
		/* A write past the end leaves a hole before it. */
		ASSERT_EQ(0, ftruncate(fd, 10));
		iocb_pwrite(&cb, fd, "data", 4, 1000);
		ASSERT_EQ(4, aio_run(self->env.ctx, &cb));
		ASSERT_EQ(1004, pread(fd, buf, sizeof(buf), 0));
		ASSERT_EQ(-1, aio_check_byte(buf + 10, 990, 0));
		ASSERT_EQ(0, memcmp(buf + 1000, "data", 4));
		close(fd);
	}
	ASSERT_LT(0, d);
}

/* The descriptor's position is nothing to AIO. */
TEST_F(rw, position)
{
	char buf[8];
	struct iocb cb;
	int fd;

	fd = aio_temp_file("/tmp", 0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(7, write(fd, "0123456", 7));
	iocb_pread(&cb, fd, buf, 2, 1);
	EXPECT_EQ(2, aio_run(self->env.ctx, &cb));
	EXPECT_EQ(0, memcmp(buf, "12", 2));
	iocb_pwrite(&cb, fd, "ab", 2, 3);
	EXPECT_EQ(2, aio_run(self->env.ctx, &cb));
	EXPECT_EQ(7, lseek(fd, 0, SEEK_CUR));
	ASSERT_EQ(7, pread(fd, buf, 8, 0));
	EXPECT_EQ(0, memcmp(buf, "012ab56", 7));
	close(fd);
}

/* The same operations by AIO on one file, by system call on another. */
TEST_F_TIMEOUT(rw, differential, 120)
{
	const size_t span = 70000;
	static const long long odd[] = {
		-1, LLONG_MIN, LLONG_MAX, LLONG_MAX - 10, 1LL << 40,
	};
	uint8_t *a = malloc(span + 16 * SEG_GAP), *b = malloc(span + 16 * SEG_GAP);
	struct iovec va[16], vb[16];
	char dir[PATH_MAX];
	struct iocb cb;
	int d, i, j;

	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++) {
		int fa = aio_temp_file(dir, 0), fb = aio_temp_file(dir, 0);
		long long size = 0;

		ASSERT_LE(0, fa);
		ASSERT_LE(0, fb);
		for (i = 0; i < 400; i++) {
			uint64_t r = aio_word(4711, i * 3);
			uint64_t r2 = aio_word(4711, i * 3 + 1);
			bool write = r & 1, vec = r & 2;
			int segs = 1 + (r >> 8) % 16;
			size_t len = (r >> 16) % (r & 4 ? span : 600);
			long long off = r2 % 300000, res, want;

			if (r & 8)
				off = size - (long long)(r2 % 10);
			if (r % 41 == 0)
				off = odd[r2 % ARRAY_SIZE(odd)];
			if (off == 1LL << 40)
				write = false;
			aio_fill(a, span, i, 0);
			memcpy(b, a, span);
			if (vec) {
				size_t max = len / segs + 1;

				cut(va, segs, a, max);
				cut(vb, segs, b, max);
				iocb_rw(&cb, write ? IOCB_CMD_PWRITEV :
					IOCB_CMD_PREADV, fa, va, segs, off);
				want = call_ret(write ?
						pwritev(fb, vb, segs, off) :
						preadv(fb, vb, segs, off));
			} else {
				iocb_rw(&cb, write ? IOCB_CMD_PWRITE :
					IOCB_CMD_PREAD, fa, a, len, off);
				want = call_ret(write ?
						pwrite(fb, b, len, off) :
						pread(fb, b, len, off));
			}
			res = as_call(aio_run(self->env.ctx, &cb));
			ASSERT_EQ(want, res) {
				TH_LOG("%s: step %d, %s%s %zu at %lld", dir, i,
				       write ? "write" : "read",
				       vec ? "v" : "", len, off);
			}
			ASSERT_EQ(0, memcmp(a, b, span));
			size = lseek(fb, 0, SEEK_END);
			ASSERT_EQ(size, lseek(fa, 0, SEEK_END));
		}
		ASSERT_LT(0, size);
		for (j = 0; j < size; j += span) {
			ssize_t ret = pread(fa, a, span, j);

			ASSERT_LT(0, ret);
			ASSERT_EQ(ret, pread(fb, b, span, j));
			ASSERT_EQ(0, memcmp(a, b, ret));
		}
		close(fa);
		close(fb);
	}
	ASSERT_LT(0, d);
	free(a);
	free(b);
}

/* Many in flight, and the caller's own memory reused as soon as it may be. */
TEST_F(rw, reuse_regular)
{
	enum { NR = 128, SEGS = 9, LEN = 3001 };
	static struct iovec iov[NR][SEGS];
	static struct iocb cbs[NR];
	static uint8_t mem[NR][LEN + SEGS * SEG_GAP];
	struct iocb *ptrs[NR];
	struct io_event ev;
	char dir[PATH_MAX];
	bool seen[NR];
	int d, i, k;

	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++) {
		int fd = aio_temp_file(dir, 0);
		size_t lens[NR];

		ASSERT_LE(0, fd);
		ASSERT_TRUE(fill_file(fd, LEN, 5));
		make_cold(fd, LEN);
		memset(seen, 0, sizeof(seen));
		memset(mem, GUARD_BYTE, sizeof(mem));
		for (i = 0; i < NR; i++) {
			int segs = i % SEGS + 1;

			lens[i] = cut(iov[i], segs, mem[i], LEN / SEGS);
			iocb_preadv(&cbs[i], fd, iov[i], segs, 0);
			cbs[i].aio_data = 1000 + i;
			ptrs[i] = &cbs[i];
		}
		ASSERT_EQ(NR, sys_io_submit(self->env.ctx, NR, ptrs));
		memset(iov, 0xff, sizeof(iov));
		memset(cbs, 0xff, sizeof(cbs));
		memset(ptrs, 0xff, sizeof(ptrs));
		for (i = 0; i < NR; i++) {
			ASSERT_EQ(1, reap_one(self->env.ctx, &ev,
					      AIO_PATIENCE_MS));
			k = ev.data - 1000;
			ASSERT_TRUE(k >= 0 && k < NR && !seen[k]);
			seen[k] = true;
			ASSERT_EQ((uintptr_t)&cbs[k], ev.obj);
			ASSERT_EQ(lens[k], ev.res);
			ASSERT_EQ(0, ev.res2);
			cut(iov[k], k % SEGS + 1, mem[k], LEN / SEGS);
			ASSERT_TRUE(check_segs(iov[k], k % SEGS + 1, lens[k],
					       5));
		}
		close(fd);
	}
	ASSERT_LT(0, d);
}

/* ---- flags ---- */

TEST_F(rw, append)
{
	enum { NR = 32, LEN = 4096 };
	static uint8_t mem[NR][LEN], file[NR * LEN];
	struct iocb cbs[NR], *ptrs[NR];
	struct io_event ev;
	char dir[PATH_MAX];
	uint32_t seen;
	int d, i, how;

	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++) {
		/* By the request's flag, then by the descriptor's. */
		for (how = 0; how < 2; how++) {
			int fd = aio_temp_file(dir, how ? O_APPEND : 0);

			ASSERT_LE(0, fd);
			for (i = 0; i < NR; i++) {
				memset(mem[i], 'A' + i, LEN);
				iocb_pwrite(&cbs[i], fd, mem[i], LEN, 0);
				cbs[i].aio_rw_flags = how ? 0 : RWF_APPEND;
				ptrs[i] = &cbs[i];
			}
			ASSERT_EQ(NR, sys_io_submit(self->env.ctx, NR, ptrs));
			for (i = 0; i < NR; i++) {
				ASSERT_EQ(1, reap_one(self->env.ctx, &ev,
						      AIO_PATIENCE_MS));
				ASSERT_EQ(LEN, ev.res);
			}
			ASSERT_EQ(NR * LEN, lseek(fd, 0, SEEK_END));
			ASSERT_EQ(NR * LEN, pread(fd, file, NR * LEN, 0));
			for (i = 0, seen = 0; i < NR; i++) {
				uint8_t byte = file[i * LEN];

				ASSERT_TRUE(byte >= 'A' && byte < 'A' + NR);
				ASSERT_EQ(-1, aio_check_byte(file + i * LEN,
							     LEN, byte)) {
					TH_LOG("torn append in %s", dir);
				}
				seen |= 1U << (byte - 'A');
			}
			ASSERT_EQ(0xffffffff, seen);
			close(fd);
		}
	}
	ASSERT_LT(0, d);
}

/* Writes that the block device under @fd has completed, -1 if there is none. */
static long long device_writes(int fd)
{
	unsigned long long v[17] = { 0 };
	char path[128], buf[512];
	struct stat st;

	if (fstat(fd, &st))
		return -1;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/stat",
		 major(st.st_dev), minor(st.st_dev));
	if (aio_read_text(path, buf, sizeof(buf)) <= 0)
		return -1;
	if (sscanf(buf, "%llu %llu %llu %llu %llu %llu %llu", v, v + 1, v + 2,
		   v + 3, v + 4, v + 5, v + 6) < 7)
		return -1;
	return v[6];	/* sectors written */
}

TEST_F(rw, sync_flags)
{
	static const int flags[] = {
		RWF_DSYNC, RWF_SYNC, RWF_DSYNC | RWF_HIPRI, RWF_HIPRI,
	};
	static uint8_t buf[65536], back[65536];
	char dir[PATH_MAX];
	struct iocb cb;
	size_t f;
	int d;

	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++) {
		int fd = aio_temp_file(dir, 0);

		ASSERT_LE(0, fd);
		for (f = 0; f < ARRAY_SIZE(flags); f++) {
			long long before;

			ASSERT_EQ(0, ftruncate(fd, 0));
			ASSERT_EQ(0, fsync(fd));
			before = device_writes(fd);
			aio_fill(buf, sizeof(buf), f, 0);
			iocb_pwrite(&cb, fd, buf, sizeof(buf), 0);
			cb.aio_rw_flags = flags[f];
			ASSERT_EQ(sizeof(buf), aio_run(self->env.ctx, &cb));
			/* It is on the device by the time of the event. */
			if (before >= 0 && flags[f] & (RWF_DSYNC | RWF_SYNC))
				EXPECT_LE(before + (long long)sizeof(buf) / 512,
					  device_writes(fd));
			memset(back, 0, sizeof(back));
			iocb_pread(&cb, fd, back, sizeof(back), 0);
			cb.aio_rw_flags = RWF_HIPRI;
			ASSERT_EQ(sizeof(back), aio_run(self->env.ctx, &cb));
			ASSERT_EQ(0, memcmp(buf, back, sizeof(buf)));
		}
		close(fd);
	}
	ASSERT_LT(0, d);
}

TEST_F(rw, nowait)
{
	static uint8_t buf[65536];
	char dir[PATH_MAX];
	struct iovec iov = { buf, sizeof(buf) };
	struct iocb cb;
	long long ret, want;
	int p[2], d;

	/* Nothing there: said at once, whoever would have had to wait. */
	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	iocb_pread(&cb, p[0], buf, 10, 0);
	cb.aio_rw_flags = RWF_NOWAIT;
	EXPECT_EQ(-EAGAIN, aio_run(self->env.ctx, &cb));
	ASSERT_EQ(5, write(p[1], "there", 5));
	EXPECT_EQ(5, aio_run(self->env.ctx, &cb));
	EXPECT_EQ(0, memcmp(buf, "there", 5));
	/* No room: what there is room for, then nothing. */
	iocb_pwrite(&cb, p[1], buf, sizeof(buf), 0);
	cb.aio_rw_flags = RWF_NOWAIT;
	EXPECT_EQ(sizeof(buf), aio_run(self->env.ctx, &cb));
	EXPECT_EQ(-EAGAIN, aio_run(self->env.ctx, &cb));
	close(p[0]);
	close(p[1]);

	for (d = 0; aio_test_dir(d, dir, sizeof(dir)); d++) {
		int fd = aio_temp_file(dir, 0);

		ASSERT_LE(0, fd);
		ASSERT_TRUE(fill_file(fd, sizeof(buf), 9));
		/* In the cache: as preadv2(). */
		want = call_ret(preadv2(fd, &iov, 1, 0, RWF_NOWAIT));
		memset(buf, 0, sizeof(buf));
		iocb_pread(&cb, fd, buf, sizeof(buf), 0);
		cb.aio_rw_flags = RWF_NOWAIT;
		ret = aio_run(self->env.ctx, &cb);
		EXPECT_EQ(want, as_call(ret));
		if (want > 0)
			EXPECT_EQ(-1, aio_check(buf, want, 9, 0));
		/* Not in the cache: some of it, or the word that it isn't. */
		if (want > 0 && make_cold(fd, sizeof(buf))) {
			memset(buf, 0, sizeof(buf));
			ret = aio_run(self->env.ctx, &cb);
			EXPECT_TRUE(ret == -EAGAIN ||
				    (ret > 0 && ret <= (int)sizeof(buf)));
			if (ret > 0)
				EXPECT_EQ(-1, aio_check(buf, ret, 9, 0));
		}
		close(fd);
	}
	ASSERT_LT(0, d);
}

TEST_F(rw, bad_flags)
{
	static const struct {
		unsigned int flags;
		int err;
	} bad[] = {
		{ 0x80000000, EOPNOTSUPP },
		{ 0x40000000 | RWF_DSYNC, EOPNOTSUPP },
		{ RWF_APPEND | 0x20 /* RWF_NOAPPEND */, EINVAL },
		{ 0x40 /* RWF_ATOMIC, a read's */, EOPNOTSUPP },
	};
	char byte[4] = "";
	struct iocb cb;
	size_t i;
	int fd;

	fd = aio_temp_file("/tmp", 0);
	ASSERT_LE(0, fd);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		iocb_pread(&cb, fd, byte, 4, 0);
		cb.aio_rw_flags = bad[i].flags;
		EXPECT_EQ(AIO_REFUSED(bad[i].err),
			  aio_run(self->env.ctx, &cb));
	}
	close(fd);

	/* RWF_NOWAIT where the file knows no such thing. */
	fd = open("/dev/full", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		SKIP(return, "no /dev/full");
	iocb_pread(&cb, fd, byte, 4, 0);
	cb.aio_rw_flags = RWF_NOWAIT;
	EXPECT_EQ(AIO_REFUSED(EOPNOTSUPP), aio_run(self->env.ctx, &cb));
	close(fd);
}

/* ---- arguments ---- */

/* Refused with @err; there is no event, and no request is left behind. */
#define EXPECT_REFUSED(err, cb)						\
do {									\
	EXPECT_EQ(AIO_REFUSED(err), aio_run(self->env.ctx, cb));	\
	EXPECT_EQ(0, sys_io_getevents(self->env.ctx, 0, 1, &ev, 0));	\
	if (self->env.stats)						\
		EXPECT_TRUE(wait_stat("objects", "<=",			\
				      self->env.objects,		\
				      AIO_PATIENCE_MS));		\
} while (0)

TEST_F(rw, arguments)
{
	static char buf[64];
	struct iocb cb, cb2, *ptrs[2];
	struct io_event ev;
	int fd, ro, wo, opath, p[2], event, i;
	long long res;

	signal(SIGPIPE, SIG_IGN);
	fd = aio_temp_file("/tmp", 0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(4, write(fd, "data", 4));
	ro = open("/dev/null", O_RDONLY | O_CLOEXEC);
	wo = open("/dev/null", O_WRONLY | O_CLOEXEC);
	opath = open("/dev/null", O_PATH | O_CLOEXEC);
	event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	ASSERT_TRUE(ro >= 0 && wo >= 0 && opath >= 0 && event >= 0);

	/* descriptors */
	iocb_pread(&cb, -1, buf, 4, 0);
	EXPECT_REFUSED(EBADF, &cb);
	iocb_pread(&cb, 1 << 20, buf, 4, 0);
	EXPECT_REFUSED(EBADF, &cb);
	iocb_pread(&cb, opath, buf, 4, 0);
	EXPECT_REFUSED(EBADF, &cb);
	iocb_pread(&cb, wo, buf, 4, 0);
	EXPECT_REFUSED(EBADF, &cb);
	iocb_pwrite(&cb, ro, buf, 4, 0);
	EXPECT_REFUSED(EBADF, &cb);
	iocb_pread(&cb, p[1], buf, 4, 0);
	EXPECT_REFUSED(EBADF, &cb);
	iocb_pwrite(&cb, p[0], buf, 4, 0);
	EXPECT_REFUSED(EBADF, &cb);

	/* sizes, reserved fields, operations */
	iocb_pread(&cb, fd, buf, 4, 0);
	cb.aio_nbytes = 1ULL << 63;
	EXPECT_REFUSED(EINVAL, &cb);
	cb.aio_nbytes = -1ULL;
	EXPECT_REFUSED(EINVAL, &cb);
	iocb_pread(&cb, fd, buf, 4, -1);
	EXPECT_REFUSED(EINVAL, &cb);
	iocb_pread(&cb, fd, buf, 4, 0);
	cb.aio_reserved2 = 1;
	EXPECT_REFUSED(EINVAL, &cb);
	iocb_rw(&cb, 4, fd, buf, 4, 0);
	EXPECT_REFUSED(EINVAL, &cb);
	iocb_rw(&cb, IOCB_CMD_NOOP, fd, buf, 4, 0);
	EXPECT_REFUSED(EINVAL, &cb);
	iocb_rw(&cb, 99, fd, buf, 4, 0);
	EXPECT_REFUSED(EINVAL, &cb);
	iocb_rw(&cb, 0xffff, fd, buf, 4, 0);
	EXPECT_REFUSED(EINVAL, &cb);

	/* the eventfd */
	iocb_pread(&cb, fd, buf, 4, 0);
	cb.aio_flags = IOCB_FLAG_RESFD;
	cb.aio_resfd = -1;
	EXPECT_REFUSED(EBADF, &cb);
	cb.aio_resfd = ro;
	EXPECT_REFUSED(EINVAL, &cb);
	/* one that is good, with a request that isn't */
	cb.aio_resfd = event;
	cb.aio_fildes = -1;
	EXPECT_REFUSED(EBADF, &cb);
	cb.aio_fildes = fd;
	cb.aio_rw_flags = 0x80000000;
	EXPECT_REFUSED(EOPNOTSUPP, &cb);
	EXPECT_EQ(-1, read(event, buf, 8));
	EXPECT_EQ(EAGAIN, errno);

	/* memory that is none: refused, or found out when it is used */
	iocb_pread(&cb, fd, (void *)8, 4, 0);
	EXPECT_EQ(-EFAULT, aio_run(self->env.ctx, &cb));
	iocb_pwrite(&cb, fd, (void *)8, 4, 0);
	EXPECT_EQ(-EFAULT, aio_run(self->env.ctx, &cb));
	iocb_pread(&cb, fd, (void *)-4096L, 4, 0);
	res = aio_run(self->env.ctx, &cb);
	EXPECT_EQ(-EFAULT, as_call(res));
#ifdef __x86_64__
	/* Not even an address of a user's. */
	EXPECT_EQ(AIO_REFUSED(EFAULT), res);
#endif

	/* contexts and arrays */
	iocb_pread(&cb, fd, buf, 4, 0);
	EXPECT_EQ(-EINVAL, submit_one(0, &cb));
	EXPECT_EQ(-EINVAL, submit_one((aio_context_t)(uintptr_t)buf, &cb));
	ptrs[0] = &cb;
	EXPECT_EQ(-EINVAL, sys_io_submit(self->env.ctx, -1, ptrs));
	EXPECT_EQ(0, sys_io_submit(self->env.ctx, 0, ptrs));
	EXPECT_EQ(-EFAULT, sys_io_submit(self->env.ctx, 1, (void *)8));
	EXPECT_EQ(-EFAULT, submit_one(self->env.ctx, (void *)8));

	/* Those before the bad one count; the bad one says why when first. */
	iocb_pread(&cb2, -1, buf, 4, 0);
	ptrs[1] = &cb2;
	EXPECT_EQ(1, sys_io_submit(self->env.ctx, 2, ptrs));
	ASSERT_EQ(1, reap_one(self->env.ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ((uintptr_t)&cb, ev.obj);
	EXPECT_EQ(4, ev.res);
	ptrs[0] = &cb2;
	ptrs[1] = &cb;
	EXPECT_EQ(-EBADF, sys_io_submit(self->env.ctx, 2, ptrs));
	EXPECT_EQ(0, sys_io_getevents(self->env.ctx, 0, 1, &ev, 0));

	/* Refusals use up no room in the ring, ... */
	iocb_pread(&cb, fd, buf, 4, 0);
	cb.aio_rw_flags = 0x80000000;
	for (i = 0; i < 4 * EVENTS; i++)
		ASSERT_EQ(-EOPNOTSUPP, submit_one(self->env.ctx, &cb));
	cb.aio_rw_flags = 0;
	for (i = 0; i < EVENTS; i++)
		ASSERT_EQ(1, submit_one(self->env.ctx, &cb));
	for (i = 0; i < EVENTS; i++) {
		ASSERT_EQ(1, reap_one(self->env.ctx, &ev, AIO_PATIENCE_MS));
		ASSERT_EQ(4, ev.res);
	}

	/* ... and hold no file. */
	iocb_pread(&cb, p[0], buf, 4, 0);
	cb.aio_rw_flags = 0x80000000;
	EXPECT_REFUSED(EOPNOTSUPP, &cb);
	iocb_preadv(&cb, p[0], (void *)8, 9, 0);
	EXPECT_REFUSED(EFAULT, &cb);
	close(p[0]);
	EXPECT_EQ(-1, write(p[1], "x", 1));
	EXPECT_EQ(EPIPE, errno);

	close(p[1]);
	close(fd);
	close(ro);
	close(wo);
	close(opath);
	close(event);
}

/* More than fits is refused, until there is room again. */
TEST_F(rw, full_ring)
{
	struct aio_ring *ring = (struct aio_ring *)self->env.ctx;
	static char buf[8];
	struct io_event ev;
	struct iocb cb;
	long ret;
	int fd, nr = 0;

	fd = aio_temp_file("/tmp", 0);
	ASSERT_LE(0, fd);
	iocb_pread(&cb, fd, buf, sizeof(buf), 0);
	while ((ret = submit_one(self->env.ctx, &cb)) == 1)
		ASSERT_GT(ring->nr, ++nr);
	EXPECT_EQ(-EAGAIN, ret);
	EXPECT_LE(EVENTS, nr);
	ASSERT_EQ(1, reap_one(self->env.ctx, &ev, AIO_PATIENCE_MS));
	for (nr--; nr; nr--) {
		ASSERT_EQ(1, reap_one(self->env.ctx, &ev, AIO_PATIENCE_MS));
		ASSERT_EQ(0, ev.res);
	}
	EXPECT_EQ(0, aio_run(self->env.ctx, &cb));
	close(fd);
}

TEST_F(rw, eventfd_counts)
{
	enum { NR = 10 };
	static char buf[NR][5000];
	struct iocb cbs[NR], *ptrs[NR];
	uint64_t sum = 0, value;
	struct io_event ev;
	struct pollfd pfd;
	int fd, gone, i;

	fd = aio_temp_file("/tmp", 0);
	ASSERT_LE(0, fd);
	ASSERT_TRUE(fill_file(fd, 5000, 3));
	pfd.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pfd.events = POLLIN;
	gone = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ASSERT_TRUE(pfd.fd >= 0 && gone >= 0);
	for (i = 0; i < NR; i++) {
		iocb_pread(&cbs[i], fd, buf[i], 5000, 0);
		cbs[i].aio_flags = IOCB_FLAG_RESFD;
		cbs[i].aio_resfd = pfd.fd;
		ptrs[i] = &cbs[i];
	}
	/* One goes to an eventfd that is closed meanwhile. */
	cbs[NR - 1].aio_resfd = gone;
	ASSERT_EQ(NR, sys_io_submit(self->env.ctx, NR, ptrs));
	close(gone);
	while (sum < NR - 1) {
		ASSERT_EQ(1, poll(&pfd, 1, AIO_PATIENCE_MS));
		ASSERT_EQ(8, read(pfd.fd, &value, 8));
		sum += value;
		/* As many events as it says are to be had at once. */
		while (value--)
			ASSERT_EQ(1, reap_one(self->env.ctx, &ev, 0));
	}
	EXPECT_EQ(NR - 1, sum);
	ASSERT_EQ(1, reap_one(self->env.ctx, &ev, AIO_PATIENCE_MS));
	if (self->env.stats)
		EXPECT_TRUE(wait_stat("objects", "<=", self->env.objects,
				      AIO_PATIENCE_MS));
	EXPECT_EQ(-1, read(pfd.fd, &value, 8));
	EXPECT_EQ(EAGAIN, errno);
	close(pfd.fd);
	close(fd);
}

#define IOPRIO(class, data)	((__s16)((class) << 13 | (data)))

/* Runs in a child without privileges; its exit code is the line that failed. */
static int ioprio_unprivileged(int fd)
{
	aio_context_t ctx = 0;
	struct iocb cb;

	if (sys_io_setup(8, &ctx))
		return 1;
	if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
		return 2;
	iocb_pwrite(&cb, fd, "data", 4, 0);
	cb.aio_flags = IOCB_FLAG_IOPRIO;
	cb.aio_reqprio = IOPRIO(1, 4);
	if (aio_run(ctx, &cb) != AIO_REFUSED(EPERM))
		return 3;
	cb.aio_reqprio = IOPRIO(2, 4);
	if (aio_run(ctx, &cb) != 4)
		return 4;
	cb.aio_reqprio = IOPRIO(3, 0);
	if (aio_run(ctx, &cb) != 4)
		return 5;
	return 0;
}

TEST_F(rw, ioprio)
{
	struct iocb cb;
	int fd, status;
	pid_t pid;

	if (geteuid())
		SKIP(return, "needs root");
	fd = aio_temp_file("/tmp", 0);
	ASSERT_LE(0, fd);
	iocb_pwrite(&cb, fd, "data", 4, 0);
	cb.aio_flags = IOCB_FLAG_IOPRIO;
	cb.aio_reqprio = IOPRIO(1, 4);
	EXPECT_EQ(4, aio_run(self->env.ctx, &cb));
	cb.aio_reqprio = IOPRIO(2, 7);
	EXPECT_EQ(4, aio_run(self->env.ctx, &cb));
	cb.aio_reqprio = IOPRIO(0, 0);
	EXPECT_EQ(4, aio_run(self->env.ctx, &cb));
	/* no such class, no class but a level */
	cb.aio_reqprio = IOPRIO(7, 0);
	EXPECT_EQ(AIO_REFUSED(EINVAL), aio_run(self->env.ctx, &cb));
	cb.aio_reqprio = IOPRIO(0, 3);
	EXPECT_EQ(AIO_REFUSED(EINVAL), aio_run(self->env.ctx, &cb));
	/* not looked at without the flag */
	cb.aio_flags = 0;
	EXPECT_EQ(4, aio_run(self->env.ctx, &cb));

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(ioprio_unprivileged(fd));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	close(fd);
}

/* ---- the ring ---- */

TEST_F(rw, ring)
{
	struct aio_ring *ring = (struct aio_ring *)self->env.ctx;
	static char buf[8];
	struct io_event ev;
	struct iocb cbs[5];
	unsigned int head;
	int fd, i;

	EXPECT_EQ(AIO_RING_MAGIC, ring->magic);
	EXPECT_EQ(AIO_RING_COMPAT_FEATURES |
		  (variant->threaded ? AIO_RING_COMPAT_THREADED : 0),
		  ring->compat_features);
	EXPECT_EQ(0, ring->incompat_features);
	EXPECT_EQ(sizeof(*ring), ring->header_length);
	EXPECT_EQ(32, ring->header_length);
	EXPECT_LT(EVENTS, ring->nr);
	EXPECT_EQ(ring->head, ring->tail);

	/* Reaped as libaio and others do, without a system call. */
	fd = aio_temp_file("/tmp", 0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(4, write(fd, "data", 4));
	for (i = 0; i < 5; i++) {
		iocb_pread(&cbs[i], fd, buf, i, 0);
		ASSERT_EQ(1, submit_one(self->env.ctx, &cbs[i]));
	}
	for (i = 0; i < 5; i++) {
		struct iocb *cb;

		ASSERT_TRUE(aio_wait_for(__atomic_load_n(&ring->tail,
							 __ATOMIC_ACQUIRE) !=
					 ring->head, AIO_PATIENCE_MS));
		head = ring->head;
		ev = ring->io_events[head];
		__atomic_store_n(&ring->head, (head + 1) % ring->nr,
				 __ATOMIC_RELEASE);
		cb = (struct iocb *)(uintptr_t)ev.obj;
		ASSERT_TRUE(cb >= cbs && cb < cbs + 5);
		EXPECT_EQ((uintptr_t)cb, ev.data);
		EXPECT_EQ(cb - cbs, ev.res);
		EXPECT_EQ(0, ev.res2);
		/* each once */
		cb->aio_data = 0;
		ring->io_events[head].data = 0;
	}
	for (i = 0; i < 5; i++)
		EXPECT_EQ(0, cbs[i].aio_data);
	EXPECT_EQ(0, sys_io_getevents(self->env.ctx, 0, 1, &ev, 0));
	close(fd);
}

/* What the sysctl says later is nothing to a context that is there. */
TEST_F(rw, context_keeps_its_kind)
{
	struct aio_ring *ring = (struct aio_ring *)self->env.ctx;
	unsigned int features = ring->compat_features;
	aio_context_t other = 0;
	struct aio_counts since;
	char buf[4];
	struct iocb cb;
	int fd;

	if (self->env.threads_before < 0)
		SKIP(return, "kernel without CONFIG_AIO_THREAD");
	fd = aio_temp_file("/tmp", 0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(4, write(fd, "data", 4));
	ASSERT_EQ(0, aio_set_threads(!variant->threaded));
	ASSERT_EQ(0, sys_io_setup(8, &other));
	EXPECT_EQ(features, ring->compat_features);
	ring = (struct aio_ring *)other;
	EXPECT_EQ(features ^ AIO_RING_COMPAT_THREADED, ring->compat_features);

	aio_counts_get(&since);
	iocb_pread(&cb, fd, buf, 4, 0);
	EXPECT_EQ(4, aio_run(self->env.ctx, &cb));
	EXPECT_TRUE(aio_wait_for(aio_counts_ran(&since) == variant->threaded,
				 AIO_PATIENCE_MS));
	/* The other one is for the fixture to ignore. */
	if (variant->threaded) {
		EXPECT_EQ(4, aio_run(other, &cb));
		EXPECT_EQ(1, aio_counts_ran(&since));
	}
	EXPECT_EQ(0, sys_io_destroy(other));
	ASSERT_EQ(0, aio_set_threads(variant->threaded));
	close(fd);
}

/* The operations that are not in question work beside. */
TEST_F(rw, fsync_poll)
{
	struct io_event ev;
	struct iocb cb;
	int fd, p[2];

	fd = aio_temp_file("/tmp", 0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(4, write(fd, "data", 4));
	iocb_rw(&cb, IOCB_CMD_FSYNC, fd, NULL, 0, 0);
	EXPECT_EQ(0, aio_run(self->env.ctx, &cb));
	iocb_rw(&cb, IOCB_CMD_FDSYNC, fd, NULL, 0, 0);
	EXPECT_EQ(0, aio_run(self->env.ctx, &cb));

	ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
	iocb_rw(&cb, IOCB_CMD_POLL, p[0], (void *)POLLIN, 0, 0);
	ASSERT_EQ(1, submit_one(self->env.ctx, &cb));
	EXPECT_EQ(0, sys_io_getevents(self->env.ctx, 0, 1, &ev, 0));
	ASSERT_EQ(1, write(p[1], "x", 1));
	ASSERT_EQ(1, reap_one(self->env.ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ(POLLIN, ev.res & POLLIN);
	close(p[0]);
	close(p[1]);
	close(fd);
}

/* ---- processes and threads ---- */

TEST_F(rw, ring_is_not_inherited)
{
	static char buf[4];
	struct io_event ev;
	struct iocb cb;
	int fd, status;
	pid_t pid;

	fd = aio_temp_file("/tmp", 0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(4, write(fd, "data", 4));
	iocb_pread(&cb, fd, buf, 4, 0);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (submit_one(self->env.ctx, &cb) != -EINVAL)
			_exit(1);
		if (sys_io_getevents(self->env.ctx, 0, 1, &ev, 0) != -EINVAL)
			_exit(2);
		if (sys_io_destroy(self->env.ctx) != -EINVAL)
			_exit(3);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(4, aio_run(self->env.ctx, &cb));
	close(fd);
}

enum { THREADS = 4, PER_THREAD = 50, THREAD_LEN = 9973 };

struct submitter {
	pthread_t	thread;
	aio_context_t	ctx;
	int		fd;
	int		nr;
	struct iocb	cbs[PER_THREAD];
	uint8_t		buf[PER_THREAD][THREAD_LEN];
	bool		seen[PER_THREAD];
	long		ret;
};

static void *submit_many(void *arg)
{
	struct submitter *s = arg;
	int i;

	for (i = 0; i < PER_THREAD; i++) {
		iocb_pread(&s->cbs[i], s->fd, s->buf[i], THREAD_LEN,
			   (s->nr * PER_THREAD + i) * 1001);
		s->cbs[i].aio_data = s->nr * PER_THREAD + i;
		s->ret = submit_one(s->ctx, &s->cbs[i]);
		if (s->ret != 1)
			break;
	}
	return NULL;
}

TEST_F_TIMEOUT(rw, many_submitters, 60)
{
	static struct submitter subs[THREADS];
	struct io_event ev;
	int fd, i, k;

	fd = aio_temp_file("/tmp", 0);
	ASSERT_LE(0, fd);
	ASSERT_TRUE(fill_file(fd, 1 << 20, 11));
	for (i = 0; i < THREADS; i++) {
		subs[i].ctx = self->env.ctx;
		subs[i].fd = fd;
		subs[i].nr = i;
		ASSERT_EQ(0, pthread_create(&subs[i].thread, NULL, submit_many,
					    &subs[i]));
	}
	for (i = 0; i < THREADS * PER_THREAD; i++) {
		struct submitter *s;

		ASSERT_EQ(1, reap_one(self->env.ctx, &ev, AIO_PATIENCE_MS));
		ASSERT_GT(THREADS * PER_THREAD, ev.data);
		s = &subs[ev.data / PER_THREAD];
		k = ev.data % PER_THREAD;
		ASSERT_FALSE(s->seen[k]);
		s->seen[k] = true;
		ASSERT_EQ((uintptr_t)&s->cbs[k], ev.obj);
		ASSERT_EQ(THREAD_LEN, ev.res);
		ASSERT_EQ(-1, aio_check(s->buf[k], THREAD_LEN, 11,
					ev.data * 1001));
	}
	for (i = 0; i < THREADS; i++) {
		ASSERT_EQ(0, pthread_join(subs[i].thread, NULL));
		EXPECT_EQ(1, subs[i].ret);
	}
	EXPECT_COUNTED(THREADS * PER_THREAD);
	close(fd);
}

/* ---- while a request waits ---- */

/* Nothing of the caller's but the buffers is looked at after io_submit(). */
TEST_F(blocked, reuse)
{
	static const int segs[] = { 0, 1, 8, 9, 1024 };
	static struct iovec iov[1024], kept[1024];
	uint8_t *mem = guarded(), *src = guarded();
	struct io_event ev;
	struct iocb cb;
	size_t c;

	ASSERT_TRUE(!!mem);
	ASSERT_TRUE(!!src);
	for (c = 0; c < ARRAY_SIZE(segs); c++) {
		int nr = segs[c] ?: 1;
		size_t len = cut(iov, nr, mem, 30);

		memcpy(kept, iov, sizeof(kept));
		guard(mem, len + nr * SEG_GAP);
		if (segs[c])
			iocb_preadv(&cb, self->pipe[0], iov, nr, 0);
		else
			iocb_pread(&cb, self->pipe[0], mem, len, 0);
		cb.aio_data = 4242 + c;
		ASSERT_EQ(1, submit_one(self->env.ctx, &cb));
		memset(&cb, 0xff, sizeof(cb));
		memset(iov, 0xff, sizeof(iov));
		EXPECT_BLOCKED(1);
		aio_fill(src, len, c, 0);
		ASSERT_EQ(len, write(self->pipe[1], src, len));
		ASSERT_EQ(1, reap_one(self->env.ctx, &ev, AIO_PATIENCE_MS));
		EXPECT_EQ(4242 + c, ev.data);
		EXPECT_EQ((uintptr_t)&cb, ev.obj);
		EXPECT_EQ(len, ev.res);
		EXPECT_TRUE(check_segs(kept, nr, len, c));
	}
}

TEST_F(blocked, read_unmapped)
{
	size_t page = sysconf(_SC_PAGESIZE);
	struct io_event ev;
	struct iovec iov[3];
	struct iocb cb;
	char back[100];
	long long want;
	uint8_t *mem;
	int p[2], how;

	for (how = 0; how < 3; how++) {
		mem = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_TRUE(mem != MAP_FAILED);
		iov[0].iov_base = mem;
		iov[0].iov_len = how == 2 ? 10 : 0;
		iov[1].iov_base = mem + page;
		iov[1].iov_len = 50;
		iov[2].iov_base = mem + page + 50;
		iov[2].iov_len = 50;
		if (how)
			iocb_preadv(&cb, self->pipe[0], iov, 3, 0);
		else
			iocb_pread(&cb, self->pipe[0], mem + page, 100, 0);
		ASSERT_EQ(1, submit_one(self->env.ctx, &cb));
		EXPECT_BLOCKED(1);
		ASSERT_EQ(0, how == 1 ? mprotect(mem + page, page, PROT_READ) :
			     munmap(mem + page, page));
		ASSERT_EQ(20, write(self->pipe[1], "01234567890123456789",
				    20));
		ASSERT_EQ(1, reap_one(self->env.ctx, &ev, AIO_PATIENCE_MS));

		/* As read() and readv() into the same hole. */
		ASSERT_EQ(0, pipe2(p, O_CLOEXEC));
		ASSERT_EQ(20, write(p[1], "01234567890123456789", 20));
		want = call_ret(how ? readv(p[0], iov, 3) :
				read(p[0], mem + page, 100));
		EXPECT_EQ(want, ev.res);
		if (how < 2)
			EXPECT_EQ(-EFAULT, ev.res);
		/* The same of it is left. */
		fcntl(p[0], F_SETFL, O_NONBLOCK);
		fcntl(self->pipe[0], F_SETFL, O_NONBLOCK);
		want = read(p[0], back, sizeof(back));
		EXPECT_EQ(want, read(self->pipe[0], back, sizeof(back)));
		fcntl(self->pipe[0], F_SETFL, 0);
		close(p[0]);
		close(p[1]);
		munmap(mem, 2 * page);
	}
}

TEST_F(blocked, write_unmapped)
{
	size_t page = sysconf(_SC_PAGESIZE), len = 64 * page;
	static char back[65536];
	struct io_event ev;
	size_t left = 0;
	struct iocb cb;
	uint8_t *mem;
	ssize_t ret;

	/* Half of it fits, half is gone when there is room for it. */
	ASSERT_LE(0, fcntl(self->pipe[1], F_SETPIPE_SZ, len / 2));
	mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(mem != MAP_FAILED);
	aio_fill(mem, len, 21, 0);
	iocb_pwrite(&cb, self->pipe[1], mem, len, 0);
	ASSERT_EQ(1, submit_one(self->env.ctx, &cb));
	EXPECT_BLOCKED(1);
	ASSERT_TRUE(aio_wait_for(({
		int nr = 0;

		ioctl(self->pipe[0], FIONREAD, &nr);
		nr == (int)len / 2;
	}), AIO_PATIENCE_MS));
	ASSERT_EQ(0, munmap(mem, len));
	while (left < len / 2) {
		ret = read(self->pipe[0], back, sizeof(back));
		ASSERT_LT(0, ret);
		ASSERT_EQ(-1, aio_check(back, ret, 21, left));
		left += ret;
	}
	ASSERT_EQ(len / 2, left);
	ASSERT_EQ(1, reap_one(self->env.ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ(len / 2, ev.res);
}

/* Buffers go away while requests are under way or not yet: no harm done. */
TEST_F_TIMEOUT(blocked, unmapped_under_way, 60)
{
	enum { NR = 64, LEN = 1 << 20 };
	static struct iocb cbs[NR];
	struct iocb *ptrs[NR];
	struct io_event ev;
	char cpu[4096];
	uint8_t *mem;
	int fd, i, round;

	/*
	 * There any copy to memory that another thread unmaps may crash the
	 * kernel: maybe_map() of arch/um looks up the page only once.
	 */
	if (aio_read_text("/proc/cpuinfo", cpu, sizeof(cpu)) > 0 &&
	    strstr(cpu, "User Mode Linux"))
		SKIP(return, "User Mode Linux may crash on it");

	fd = aio_temp_file("/tmp", 0);
	ASSERT_LE(0, fd);
	ASSERT_TRUE(fill_file(fd, LEN, 1));
	for (round = 0; round < 4; round++) {
		mem = mmap(NULL, (size_t)NR * LEN, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		ASSERT_TRUE(mem != MAP_FAILED);
		for (i = 0; i < NR; i++) {
			/* Reads into it, then writes out of it. */
			iocb_rw(&cbs[i], round & 1 ? IOCB_CMD_PWRITE :
				IOCB_CMD_PREAD, fd, mem + (size_t)i * LEN, LEN,
				0);
			ptrs[i] = &cbs[i];
		}
		ASSERT_EQ(NR, sys_io_submit(self->env.ctx, NR, ptrs));
		ASSERT_EQ(0, munmap(mem, (size_t)NR * LEN));
		for (i = 0; i < NR; i++) {
			ASSERT_EQ(1, reap_one(self->env.ctx, &ev,
					      AIO_PATIENCE_MS));
			EXPECT_TRUE(ev.res == -EFAULT ||
				    (ev.res > 0 && ev.res <= LEN));
		}
	}
	close(fd);
}

TEST_F(blocked, closed)
{
	struct io_event ev;
	struct iocb cb;
	char buf[16];

	iocb_pread(&cb, self->pipe[0], buf, sizeof(buf), 0);
	ASSERT_EQ(1, submit_one(self->env.ctx, &cb));
	EXPECT_BLOCKED(1);
	close(self->pipe[0]);
	self->pipe[0] = -1;
	/* The request still reads from it, ... */
	ASSERT_EQ(5, write(self->pipe[1], "hello", 5));
	ASSERT_EQ(1, reap_one(self->env.ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ(5, ev.res);
	EXPECT_EQ(0, memcmp(buf, "hello", 5));
	/* ... and nobody does after that. */
	fcntl(self->pipe[1], F_SETFL, O_NONBLOCK);
	EXPECT_TRUE(aio_wait_for(write(self->pipe[1], "x", 1) < 0 &&
				 errno == EPIPE, AIO_PATIENCE_MS));
}

/* The submitter's number means another file by then: it must not matter. */
TEST_F(blocked, closed_and_reused)
{
	struct io_event ev;
	struct iocb cb;
	char buf[16];
	int other[2], fd = self->pipe[0];

	ASSERT_EQ(0, pipe2(other, O_CLOEXEC));
	ASSERT_EQ(5, write(other[1], "wrong", 5));
	iocb_pread(&cb, fd, buf, sizeof(buf), 0);
	ASSERT_EQ(1, submit_one(self->env.ctx, &cb));
	ASSERT_EQ(fd, dup2(other[0], fd));
	ASSERT_EQ(5, write(self->pipe[1], "right", 5));
	ASSERT_EQ(1, reap_one(self->env.ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ(5, ev.res);
	EXPECT_EQ(0, memcmp(buf, "right", 5));
	close(other[0]);
	close(other[1]);
}

TEST_F(blocked, switched_off)
{
	struct io_event ev;
	struct iocb cb;
	char buf[16];
	int i;

	/* What is in flight ends; the context stays what it is. */
	for (i = 0; i < 2; i++) {
		iocb_pread(&cb, self->pipe[0], buf, sizeof(buf), 0);
		ASSERT_EQ(1, submit_one(self->env.ctx, &cb));
		EXPECT_BLOCKED(1);
		ASSERT_EQ(0, aio_set_threads(0));
		EXPECT_EQ(0, sys_io_getevents(self->env.ctx, 0, 1, &ev, 0));
		ASSERT_EQ(5, write(self->pipe[1], "hello", 5));
		ASSERT_EQ(1, reap_one(self->env.ctx, &ev, AIO_PATIENCE_MS));
		EXPECT_EQ(5, ev.res);
		EXPECT_EQ(0, memcmp(buf, "hello", 5));
	}
}

TEST_F(blocked, forked)
{
	static char buf[16];
	struct io_event ev;
	struct iocb cb;
	int go[2], status;
	char byte;
	pid_t pid;

	ASSERT_EQ(0, pipe2(go, O_CLOEXEC));
	iocb_pread(&cb, self->pipe[0], buf, sizeof(buf), 0);
	ASSERT_EQ(1, submit_one(self->env.ctx, &cb));
	EXPECT_BLOCKED(1);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* The data are for the parent's memory, not for this copy. */
		if (read(go[0], &byte, 1) != 1)
			_exit(1);
		_exit(aio_check_byte(buf, sizeof(buf), 0) < 0 ? 0 : 2);
	}
	ASSERT_EQ(5, write(self->pipe[1], "hello", 5));
	ASSERT_EQ(1, reap_one(self->env.ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ(5, ev.res);
	EXPECT_EQ(0, memcmp(buf, "hello", 5));
	ASSERT_EQ(1, write(go[1], "x", 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	close(go[0]);
	close(go[1]);
}

/* Each takes its part, none waits for another. */
TEST_F(blocked, many_pipes)
{
	enum { NR = 64 };
	static struct iocb cbs[NR];
	static char buf[NR][32];
	struct iocb *ptrs[NR];
	struct io_event ev;
	int p[NR][2], i;

	for (i = 0; i < NR; i++) {
		ASSERT_EQ(0, pipe2(p[i], O_CLOEXEC));
		iocb_pread(&cbs[i], p[i][0], buf[i], 32, 0);
		cbs[i].aio_data = i;
		ptrs[i] = &cbs[i];
	}
	ASSERT_EQ(NR, sys_io_submit(self->env.ctx, NR, ptrs));
	EXPECT_BLOCKED(NR);
	EXPECT_EQ(0, sys_io_getevents(self->env.ctx, 0, 1, &ev, 0));
	for (i = NR - 1; i >= 0; i--) {
		ASSERT_EQ(4, write(p[i][1], &i, 4));
		ASSERT_EQ(1, reap_one(self->env.ctx, &ev, AIO_PATIENCE_MS));
		EXPECT_EQ(i, ev.data);
		EXPECT_EQ(4, ev.res);
		EXPECT_EQ(0, memcmp(buf[i], &i, 4));
	}
	for (i = 0; i < NR; i++) {
		close(p[i][0]);
		close(p[i][1]);
	}
}

TEST_HARNESS_MAIN

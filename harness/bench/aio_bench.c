// SPDX-License-Identifier: GPL-2.0
/*
 * aio_bench - what requests cost, with 32 in flight
 *
 * First a cached 4 KiB PREAD, one line per file system and mode: nanoseconds of
 * CLOCK_MONOTONIC per request, from io_submit(2) to the event taken by
 * io_getevents(2). Under QEMU's -icount this is the number of instructions
 * executed, user and kernel, divided by what -icount shift makes of them. Then
 * the other operations on ext4, each beside the blocking call that does the same.
 *
 * Modes: "blocking", the system call; "plain", a context made with
 * fs.aio-auto-threads 0; "threaded", made with 1; "worker", made with 1 while
 * debugfs' force_worker is on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define DEPTH	32
#define BLOCK	4096
#define BLOCKS	1024		/* the file: 4 MiB */
#define SYSCTL	"/proc/sys/fs/aio-auto-threads"
#define FORCE	"/sys/kernel/debug/aio_thread/force_worker"

static char buffers[DEPTH][BLOCK] __attribute__((aligned(BLOCK)));

static void die(const char *what)
{
	fprintf(stderr, "aio_bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Returns whether the file was there to take the value. */
static int put(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0)
		return 0;
	if (write(fd, value, strlen(value)) < 0)
		die(path);
	close(fd);
	return 1;
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static int make_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	uint32_t word[BLOCK / 4];
	int i, j;

	if (fd < 0)
		die(path);
	for (i = 0; i < BLOCKS; i++) {
		for (j = 0; j < BLOCK / 4; j++)
			word[j] = i;
		if (pwrite(fd, word, BLOCK, (off_t)i * BLOCK) != BLOCK)
			die(path);
	}
	/* in the page cache and clean: nothing else has to run later */
	if (fsync(fd))
		die(path);
	return fd;
}

static void prepare(struct iocb *cb, int slot, int fd, unsigned int *block)
{
	memset(cb, 0, sizeof(*cb));
	cb->aio_data = (uint64_t)slot << 32 | *block;
	cb->aio_lio_opcode = IOCB_CMD_PREAD;
	cb->aio_fildes = fd;
	cb->aio_buf = (uintptr_t)buffers[slot];
	cb->aio_nbytes = BLOCK;
	cb->aio_offset = (int64_t)*block * BLOCK;
	/* a step that is prime to the number of blocks visits all of them */
	*block = (*block + 387) % BLOCKS;
}

/* Keeps DEPTH requests in flight until count of them came back. */
static uint64_t run(aio_context_t ctx, int fd, unsigned int count)
{
	struct iocb cbs[DEPTH], *list[DEPTH];
	struct io_event events[DEPTH];
	unsigned int submitted = 0, done = 0, block = 0;
	uint64_t start = now();
	int i, n, slot;

	for (i = 0; i < DEPTH; i++) {
		prepare(&cbs[i], i, fd, &block);
		list[i] = &cbs[i];
	}
	n = DEPTH;
	while (done < count) {
		for (i = 0; i < n;) {
			int r = syscall(__NR_io_submit, ctx, n - i, list + i);

			if (r <= 0)
				die("io_submit");
			i += r;
			submitted += r;
		}
		n = syscall(__NR_io_getevents, ctx, 1, DEPTH, events, NULL);
		if (n <= 0)
			die("io_getevents");
		done += n;
		for (i = 0; i < n; i++) {
			slot = events[i].data >> 32;
			if (events[i].res != BLOCK ||
			    *(uint32_t *)buffers[slot] != (uint32_t)events[i].data) {
				fprintf(stderr, "aio_bench: block %u: res %lld, found %u\n",
					(uint32_t)events[i].data, (long long)events[i].res,
					*(uint32_t *)buffers[slot]);
				exit(1);
			}
			prepare(&cbs[slot], slot, fd, &block);
			list[i] = &cbs[slot];
		}
	}
	start = now() - start;
	while (done < submitted) {
		n = syscall(__NR_io_getevents, ctx, 1, DEPTH, events, NULL);
		if (n <= 0)
			die("io_getevents");
		done += n;
	}
	return start;
}

static void measure(const char *where, const char *mode, int fd, unsigned int count)
{
	aio_context_t ctx = 0;
	uint64_t t;

	if (syscall(__NR_io_setup, DEPTH, &ctx))
		die("io_setup");
	run(ctx, fd, 4 * DEPTH);
	t = run(ctx, fd, count);
	if (syscall(__NR_io_destroy, ctx))
		die("io_destroy");
	printf("%-6s %-9s %7.1f ns per request\n", where, mode, (double)t / count);
	fflush(stdout);
}

/* ---- the other operations ---- */

/* Not in every <linux/aio_abi.h>. */
enum { OPENAT = 9, UNLINKAT = 10, READAHEAD = 12, RENAMEAT = 13 };

struct rename {
	int64_t		olddirfd;
	uint64_t	oldpath;
	int64_t		newdirfd;
	uint64_t	newpath;
	uint64_t	flags;
};

/* What one of DEPTH requests works on. */
struct slot {
	char		name[32];
	char		other[32];
	struct rename	rename;
	int		fd;
	int		peer;
};

static struct slot slots[DEPTH];
static int dir;

struct operation {
	const char	*name;
	int		opcode;
	int		may_plain;	/* plain contexts have it, too */
	void		(*before)(struct slot *);
	void		(*prepare)(struct slot *, struct iocb *);
	long		(*blocking)(struct slot *);
	void		(*between)(struct slot *);	/* submission and event */
	void		(*after)(struct slot *, long res);
};

static void touch(struct slot *s)
{
	int fd = openat(dir, s->name, O_CREAT | O_RDWR, 0600);

	if (fd < 0)
		die(s->name);
	close(fd);
}

static void openat_prepare(struct slot *s, struct iocb *cb)
{
	cb->aio_fildes = dir;
	cb->aio_buf = (uintptr_t)s->name;
	cb->aio_offset = O_RDONLY;
}

static long openat_blocking(struct slot *s)
{
	return openat(dir, s->name, O_RDONLY);
}

static void openat_after(struct slot *s, long res)
{
	(void)s;
	close(res);
}

static void unlinkat_prepare(struct slot *s, struct iocb *cb)
{
	cb->aio_fildes = dir;
	cb->aio_buf = (uintptr_t)s->name;
}

static long unlinkat_blocking(struct slot *s)
{
	return unlinkat(dir, s->name, 0);
}

static void renameat_prepare(struct slot *s, struct iocb *cb)
{
	s->rename.olddirfd = s->rename.newdirfd = dir;
	s->rename.oldpath = (uintptr_t)s->name;
	s->rename.newpath = (uintptr_t)s->other;
	cb->aio_buf = (uintptr_t)&s->rename;
	cb->aio_nbytes = sizeof(s->rename);
}

static long renameat_blocking(struct slot *s)
{
	return renameat(dir, s->name, dir, s->other);
}

static void renameat_after(struct slot *s, long res)
{
	(void)res;
	if (renameat(dir, s->other, dir, s->name))
		die("renameat");
}

static void file_open(struct slot *s)
{
	char block[65536] = { 1 };

	s->fd = openat(dir, s->name, O_CREAT | O_RDWR, 0600);
	if (s->fd < 0 || pwrite(s->fd, block, sizeof(block), 0) < 0 || fsync(s->fd))
		die(s->name);
}

static void file_close(struct slot *s, long res)
{
	(void)res;
	close(s->fd);
	unlinkat(dir, s->name, 0);
}

static void fsync_prepare(struct slot *s, struct iocb *cb)
{
	cb->aio_fildes = s->fd;
}

static long fsync_blocking(struct slot *s)
{
	return fsync(s->fd);
}

static void readahead_prepare(struct slot *s, struct iocb *cb)
{
	cb->aio_fildes = s->fd;
	cb->aio_nbytes = 65536;
}

static long readahead_blocking(struct slot *s)
{
	return readahead(s->fd, 0, 65536);
}

static void pipe_open(struct slot *s)
{
	int fds[2];

	if (pipe(fds))
		die("pipe");
	s->fd = fds[0];
	s->peer = fds[1];
}

static void feed(struct slot *s)
{
	if (write(s->peer, "x", 1) != 1)
		die("write");
}

static void pipe_close(struct slot *s, long res)
{
	(void)res;
	close(s->fd);
	close(s->peer);
}

static void read_prepare(struct slot *s, struct iocb *cb)
{
	cb->aio_fildes = s->fd;
	cb->aio_buf = (uintptr_t)buffers[s - slots];
	cb->aio_nbytes = 1;
}

static long read_blocking(struct slot *s)
{
	feed(s);
	return read(s->fd, buffers[s - slots], 1);
}

/* A FIFO that is open for both has two wait queues. */
static void fifo_open(struct slot *s)
{
	if (mkfifo(s->name, 0600))
		die("mkfifo");
	s->fd = s->peer = open(s->name, O_RDWR);
	if (s->fd < 0)
		die(s->name);
}

static void fifo_close(struct slot *s, long res)
{
	(void)res;
	close(s->fd);
	unlink(s->name);
}

static void poll_prepare(struct slot *s, struct iocb *cb)
{
	cb->aio_fildes = s->fd;
	cb->aio_buf = POLLIN;
}

static long poll_blocking(struct slot *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };

	feed(s);
	return poll(&p, 1, -1) == 1 ? POLLIN : -1;
}

static const struct operation operations[] = {
	{ "fsync (clean)", IOCB_CMD_FSYNC, 1, file_open, fsync_prepare, fsync_blocking,
	  NULL, file_close },
	{ "poll (FIFO)", IOCB_CMD_POLL, 0, fifo_open, poll_prepare, poll_blocking,
	  feed, fifo_close },
	{ "pread (pipe)", IOCB_CMD_PREAD, 0, pipe_open, read_prepare, read_blocking,
	  feed, pipe_close },
	{ "openat", OPENAT, 0, touch, openat_prepare, openat_blocking,
	  NULL, openat_after },
	{ "unlinkat", UNLINKAT, 0, touch, unlinkat_prepare, unlinkat_blocking,
	  NULL, NULL },
	{ "readahead", READAHEAD, 0, file_open, readahead_prepare, readahead_blocking,
	  NULL, file_close },
	{ "renameat", RENAMEAT, 0, touch, renameat_prepare, renameat_blocking,
	  NULL, renameat_after },
};

/* One round of DEPTH operations; gives the time without before and after. */
static uint64_t round_of(const struct operation *op, aio_context_t ctx)
{
	struct iocb cbs[DEPTH], *list[DEPTH];
	struct io_event events[DEPTH];
	long res[DEPTH];
	uint64_t t;
	int i, n;

	for (i = 0; i < DEPTH; i++) {
		snprintf(slots[i].name, sizeof(slots[i].name), "bench-%d", i);
		snprintf(slots[i].other, sizeof(slots[i].other), "other-%d", i);
		op->before(&slots[i]);
	}
	t = now();
	if (ctx) {
		for (i = 0; i < DEPTH; i++) {
			memset(&cbs[i], 0, sizeof(cbs[i]));
			cbs[i].aio_lio_opcode = op->opcode;
			cbs[i].aio_data = i;
			op->prepare(&slots[i], &cbs[i]);
			list[i] = &cbs[i];
		}
		for (i = 0; i < DEPTH; i += n) {
			n = syscall(__NR_io_submit, ctx, DEPTH - i, list + i);
			if (n <= 0)
				die(op->name);
		}
		for (i = 0; op->between && i < DEPTH; i++)
			op->between(&slots[i]);
		for (i = 0; i < DEPTH; i += n) {
			n = syscall(__NR_io_getevents, ctx, 1, DEPTH, events, NULL);
			if (n <= 0)
				die("io_getevents");
			while (n-- > 0)
				res[events[n].data] = events[n].res, i++;
			n = 0;
		}
	} else {
		for (i = 0; i < DEPTH; i++)
			res[i] = op->blocking(&slots[i]);
	}
	t = now() - t;
	for (i = 0; i < DEPTH; i++) {
		if (res[i] < 0) {
			errno = ctx ? -res[i] : errno;
			die(op->name);
		}
		if (op->after)
			op->after(&slots[i], res[i]);
		if (op->before == touch)
			unlinkat(dir, slots[i].name, 0);
	}
	return t;
}

static void measure_operation(const struct operation *op, const char *mode, int aio, int rounds)
{
	aio_context_t ctx = 0;
	uint64_t t = 0;
	int i;

	if (aio && syscall(__NR_io_setup, DEPTH, &ctx))
		die("io_setup");
	round_of(op, ctx);
	for (i = 0; i < rounds; i++)
		t += round_of(op, ctx);
	if (aio && syscall(__NR_io_destroy, ctx))
		die("io_destroy");
	printf("%-14s %-9s %7.1f ns per request\n", op->name, mode, (double)t / rounds / DEPTH);
	fflush(stdout);
}

static void measure_operations(const char *path, int rounds)
{
	unsigned int i;

	if (chdir(path))
		die(path);
	dir = open(".", O_RDONLY | O_DIRECTORY);
	if (dir < 0)
		die(path);
	for (i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		const struct operation *op = &operations[i];

		measure_operation(op, "blocking", 0, rounds);
		put(SYSCTL, "0");
		if (op->may_plain)
			measure_operation(op, "plain", 1, rounds);
		if (!put(SYSCTL, "1"))
			continue;
		measure_operation(op, "threaded", 1, rounds);
		if (put(FORCE, "1")) {
			measure_operation(op, "worker", 1, rounds);
			put(FORCE, "0");
		}
		put(SYSCTL, "0");
	}
	close(dir);
}

int main(int argc, char **argv)
{
	static const char * const where[] = { "tmpfs", "ext4" };
	static const char * const path[] = { "/tmp/aio_bench", "/mnt/ext4/aio_bench" };
	unsigned int count = argc > 1 ? atoi(argv[1]) : 20000;
	int i, fd;

	for (i = 0; i < 2; i++) {
		fd = make_file(path[i]);
		put(SYSCTL, "0");
		measure(where[i], "plain", fd, count);
		if (put(SYSCTL, "1")) {
			measure(where[i], "threaded", fd, count);
			if (put(FORCE, "1")) {
				measure(where[i], "worker", fd, count);
				put(FORCE, "0");
			}
			put(SYSCTL, "0");
		}
		close(fd);
		unlink(path[i]);
	}
	measure_operations("/mnt/ext4", 20);
	return 0;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * aio_bench - what a cached 4 KiB PREAD costs, with 32 in flight
 *
 * One line per file system and mode: nanoseconds of CLOCK_MONOTONIC per
 * request, from io_submit(2) to the event taken by io_getevents(2). Under QEMU's
 * -icount this is the number of instructions executed, user and kernel, divided
 * by what -icount shift makes of them.
 *
 * Modes: "plain", a context made with fs.aio-auto-threads 0; "threaded", made
 * with 1; "worker", made with 1 while debugfs' force_worker is on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
	return 0;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * aiocp - copy a directory tree with native AIO
 *
 * All file data moves through io_submit(2) and comes back through one
 * completion ring; directories are made and files opened with ordinary system
 * calls. Afterwards both trees are compared, byte by byte, with ordinary
 * reads.
 *
 * How it works: there is a fixed number of requests, each with a buffer of
 * CHUNK bytes of its own. A request that is free takes the next chunk of the
 * next file, is submitted as a read, comes back from the ring, is submitted
 * again as a write of the same bytes, comes back, and is free. Which file it
 * works for does not matter to the ring, so as many files are open at a time
 * as it takes to keep all requests busy.
 *
 * On most files a plain AIO context does buffered I/O inside io_submit(), one
 * request after the other. A threaded context, which io_setup(2) makes while
 * the sysctl fs.aio-auto-threads is 1, does there only what cannot block, and
 * hands the rest to workers. The program is the same for both; it only looks
 * at the ring to tell which one it was given.
 * See Documentation/userspace-api/aio.rst.
 *
 * Owners, times, extended attributes, hard links and holes are not preserved.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/aio_abi.h>
#include <linux/time_types.h>

#define CHUNK		(128 * 1024)
#define MAX_REQUESTS	4096
#define STATS_PATH	"/sys/kernel/debug/aio_thread/stats"

/*
 * What the completion ring begins with. Its address is the context's id, so
 * that programs can look at it, or take events from it, without a system call.
 */
struct aio_ring {
	unsigned int	id;
	unsigned int	nr;		/* number of events it holds */
	unsigned int	head;		/* next event to take */
	unsigned int	tail;		/* where the kernel puts the next one */
	unsigned int	magic;
	unsigned int	compat_features;
	unsigned int	incompat_features;
	unsigned int	header_length;
};

#define AIO_RING_MAGIC			0xa10a10a1
#ifndef AIO_RING_COMPAT_THREADED
#define AIO_RING_COMPAT_THREADED	2
#endif

/* One name in the tree and, while its data is being copied, the open files. */
struct entry {
	char		*path;		/* below the top of the tree */
	mode_t		mode;
	dev_t		rdev;
	off_t		size;
	off_t		next;		/* where the next chunk begins */
	unsigned int	chunks;		/* chunks some request works on */
	int		src, dst;
	bool		failed;
};

/* One chunk on its way. The buffer is the request's for good. */
struct request {
	struct iocb	iocb;
	struct entry	*entry;
	char		*buf;
	off_t		offset;		/* in the file */
	size_t		len;		/* of the chunk */
	size_t		done;		/* of what is being read or written */
};

static const char *src_top, *dst_top;
static int src_fd, dst_fd;

static struct entry *entries;
static size_t nr_entries, cursor;
static unsigned long long total_files, total_bytes;

static aio_context_t ctx;
static unsigned int nr_requests = 64;
static struct request **idle;		/* requests with nothing to do */
static unsigned int nr_idle;
static struct iocb **ready;		/* requests to submit */
static unsigned int nr_ready;
static struct io_event *events;
static unsigned int in_flight, max_in_flight;
static unsigned int open_files, max_open_files;

static unsigned long long files_done, bytes_done, nr_submitted;
static unsigned long long nr_errors;

/* ------------------------------------------------------------------------ */
/* Messages, time and progress */

static bool progress_shown;		/* an unfinished line is on the terminal */

static void progress_end(void)
{
	if (progress_shown)
		fputc('\n', stderr);
	progress_shown = false;
}

/* Something is wrong with one file: say so, count it, go on with the others. */
#define complain(fmt, ...)						\
	do {								\
		progress_end();						\
		fprintf(stderr, "aiocp: " fmt "\n", ##__VA_ARGS__);	\
		nr_errors++;						\
	} while (0)

static void die(const char *what, int err)
{
	complain("%s: %s", what, strerror(err));
	exit(EXIT_FAILURE);
}

static void *xcalloc(size_t nr, size_t size)
{
	void *p = calloc(nr, size);

	if (!p)
		die("memory", ENOMEM);
	return p;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void progress(const char *doing)
{
	static double next;
	double t = now();
	bool tty;

	if (t < next)
		return;
	tty = isatty(STDERR_FILENO);
	fprintf(stderr, "%s%s: %llu of %llu files, %.1f of %.1f MB", tty ? "\r" : "",
		doing, files_done, total_files, bytes_done / 1e6, total_bytes / 1e6);
	if (in_flight)
		fprintf(stderr, ", %u requests in flight", in_flight);
	fputs(tty ? "\033[K" : "\n", stderr);
	progress_shown = tty;
	next = t + (tty ? 0.1 : 1.0);
}

/* ------------------------------------------------------------------------ */
/* The system calls, which the C library has no functions for */

static int io_setup(unsigned int nr, aio_context_t *ctxp)
{
	return syscall(__NR_io_setup, nr, ctxp);
}

static int io_destroy(aio_context_t c)
{
	return syscall(__NR_io_destroy, c);
}

static int io_submit(aio_context_t c, long nr, struct iocb **iocbs)
{
	return syscall(__NR_io_submit, c, nr, iocbs);
}

/*
 * io_getevents(2), by way of its younger sister: that one exists with a 64-bit
 * time on all architectures.
 */
static int io_getevents(aio_context_t c, long min_nr, long nr,
			struct io_event *ev, struct __kernel_timespec *timeout)
{
#ifdef __NR_io_pgetevents_time64
	return syscall(__NR_io_pgetevents_time64, c, min_nr, nr, ev, timeout, NULL);
#else
	return syscall(__NR_io_pgetevents, c, min_nr, nr, ev, timeout, NULL);
#endif
}

static bool ring_is_threaded(void)
{
	const struct aio_ring *ring = (const struct aio_ring *)ctx;

	return ring->magic == AIO_RING_MAGIC &&
	       ring->compat_features & AIO_RING_COMPAT_THREADED;
}

/* ------------------------------------------------------------------------ */
/* The tree */

static int scan_one(const char *path, const struct stat *st, int type,
		    struct FTW *ftw)
{
	static size_t max_entries;
	struct entry *e;

	(void)ftw;
	/* A name that cannot be looked at cannot be copied either. */
	if (type == FTW_NS || type == FTW_DNR)
		complain("%s: cannot be read", path);
	if (type == FTW_NS)
		return 0;

	if (nr_entries == max_entries) {
		max_entries = max_entries ? 2 * max_entries : 1024;
		entries = realloc(entries, max_entries * sizeof(*entries));
		if (!entries)
			die("list of files", ENOMEM);
	}

	path += strlen(src_top);
	while (*path == '/')
		path++;

	e = &entries[nr_entries++];
	memset(e, 0, sizeof(*e));
	e->path = strdup(*path ? path : ".");
	if (!e->path)
		die("list of files", ENOMEM);
	e->mode = st->st_mode;
	e->rdev = st->st_rdev;
	e->size = st->st_size;
	if (S_ISREG(e->mode)) {
		total_files++;
		total_bytes += e->size;
	}
	return 0;
}

static void copy_symlink(const struct entry *e)
{
	char target[PATH_MAX];
	ssize_t len = readlinkat(src_fd, e->path, target, sizeof(target) - 1);

	if (len < 0) {
		complain("%s/%s: readlink: %s", src_top, e->path, strerror(errno));
		return;
	}
	target[len] = '\0';
	if (symlinkat(target, dst_fd, e->path))
		complain("%s/%s: symlink: %s", dst_top, e->path, strerror(errno));
}

/* Everything but regular files. The top is there already. */
static void make_tree(void)
{
	size_t i;

	for (i = 1; i < nr_entries; i++) {
		const struct entry *e = &entries[i];
		int ret = 0;

		if (S_ISDIR(e->mode))
			ret = mkdirat(dst_fd, e->path, 0700);
		else if (S_ISLNK(e->mode))
			copy_symlink(e);
		else if (!S_ISREG(e->mode))
			ret = mknodat(dst_fd, e->path, e->mode, e->rdev);
		if (ret)
			complain("%s/%s: create: %s", dst_top, e->path, strerror(errno));
	}
}

/*
 * Modes come last, a directory's after those of what is in it: nobody could
 * create a file in one that is read-only. Files have theirs from close_files().
 */
static void set_modes(void)
{
	size_t i = nr_entries;

	while (i--) {
		const struct entry *e = &entries[i];

		if (S_ISREG(e->mode) || S_ISLNK(e->mode))
			continue;
		if (fchmodat(dst_fd, e->path, e->mode & 07777, 0))
			complain("%s/%s: chmod: %s", dst_top, e->path, strerror(errno));
	}
}

/* ------------------------------------------------------------------------ */
/* The copy */

static bool open_both(struct entry *e)
{
	e->src = openat(src_fd, e->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (e->src < 0) {
		complain("%s/%s: open: %s", src_top, e->path, strerror(errno));
		return false;
	}
	e->dst = openat(dst_fd, e->path,
			O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (e->dst < 0) {
		complain("%s/%s: create: %s", dst_top, e->path, strerror(errno));
		close(e->src);
		return false;
	}
	open_files++;
	return true;
}

static void close_both(struct entry *e)
{
	/* After the last write, which would drop set-user-ID bits again. */
	if (fchmod(e->dst, e->mode & 07777))
		complain("%s/%s: chmod: %s", dst_top, e->path, strerror(errno));
	/* Some file systems have errors of earlier writes only now. */
	if (close(e->dst))
		complain("%s/%s: close: %s", dst_top, e->path, strerror(errno));
	close(e->src);
	open_files--;
	if (!e->failed)
		files_done++;
}

/* Make @rq the next read or write of the rest of its chunk. */
static void prepare(struct request *rq, int opcode)
{
	struct entry *e = rq->entry;

	memset(&rq->iocb, 0, sizeof(rq->iocb));
	rq->iocb.aio_data = (uintptr_t)rq;
	rq->iocb.aio_lio_opcode = opcode;
	rq->iocb.aio_fildes = opcode == IOCB_CMD_PREAD ? e->src : e->dst;
	rq->iocb.aio_buf = (uintptr_t)(rq->buf + rq->done);
	rq->iocb.aio_nbytes = rq->len - rq->done;
	rq->iocb.aio_offset = rq->offset + rq->done;
	ready[nr_ready++] = &rq->iocb;
}

/* Give @rq the next chunk of the tree. False when there is none to have now. */
static bool take_chunk(struct request *rq)
{
	for (; cursor < nr_entries; cursor++) {
		struct entry *e = &entries[cursor];

		if (!S_ISREG(e->mode) || e->failed)
			continue;
		if (e->next == 0) {
			if (open_files == max_open_files)
				return false;
			if (!open_both(e)) {
				e->failed = true;
				continue;
			}
			if (e->size == 0)
				close_both(e);
		}
		if (e->next == e->size)
			continue;

		rq->entry = e;
		rq->offset = e->next;
		rq->len = e->size - e->next < CHUNK ? e->size - e->next : CHUNK;
		rq->done = 0;
		e->next += rq->len;
		e->chunks++;
		prepare(rq, IOCB_CMD_PREAD);
		return true;
	}
	return false;
}

/* The chunk is copied, or given up. */
static void finish_chunk(struct request *rq)
{
	struct entry *e = rq->entry;

	idle[nr_idle++] = rq;
	if (--e->chunks == 0 && (e->failed || e->next == e->size))
		close_both(e);
}

static void fail_chunk(struct request *rq, const char *why)
{
	bool reading = rq->iocb.aio_lio_opcode == IOCB_CMD_PREAD;

	/* Once per file is enough: the other chunks will hardly fare better. */
	if (!rq->entry->failed)
		complain("%s/%s: %s at %lld: %s", reading ? src_top : dst_top,
			 rq->entry->path, reading ? "read" : "write",
			 (long long)rq->iocb.aio_offset, why);
	rq->entry->failed = true;
	finish_chunk(rq);
}

/* One request has come back: @res is what read(2) or write(2) would return. */
static void handle_event(struct request *rq, int64_t res)
{
	int opcode = rq->iocb.aio_lio_opcode;

	if (res < 0) {
		fail_chunk(rq, strerror(-res));
		return;
	}
	if (res == 0) {
		fail_chunk(rq, opcode == IOCB_CMD_PREAD ?
			   "the file has become shorter" : "nothing was written");
		return;
	}

	rq->done += res;
	if (rq->done < rq->len) {
		/* Short, which is no error: ask for the rest. */
		prepare(rq, opcode);
	} else if (rq->entry->failed) {
		/* Another chunk was lost, so this one serves nobody. */
		finish_chunk(rq);
	} else if (opcode == IOCB_CMD_PREAD) {
		rq->done = 0;
		prepare(rq, IOCB_CMD_PWRITE);
	} else {
		bytes_done += rq->len;
		finish_chunk(rq);
	}
}

/*
 * io_submit() takes requests in order and stops at the first one that it does
 * not want: it returns how many it took, or the error if that was the very
 * first. What it took is in flight, all else is still ours.
 */
static void submit_ready(void)
{
	unsigned int first = 0;

	while (first < nr_ready) {
		int ret = io_submit(ctx, nr_ready - first, ready + first);

		if (ret > 0) {
			first += ret;
			nr_submitted += ret;
			in_flight += ret;
			if (in_flight > max_in_flight)
				max_in_flight = in_flight;
			continue;
		}
		if (ret < 0 && errno == EAGAIN && in_flight)
			break;		/* again, once events are taken out */
		fail_chunk((struct request *)(uintptr_t)ready[first]->aio_data,
			   strerror(ret < 0 ? errno : EIO));
		first++;
	}
	nr_ready -= first;
	memmove(ready, ready + first, nr_ready * sizeof(*ready));
}

/* Wait for at least one event, but not so long that progress stands still. */
static void reap(void)
{
	struct __kernel_timespec timeout = { .tv_nsec = 100 * 1000 * 1000 };
	int i, nr;

	nr = io_getevents(ctx, 1, nr_requests, events, &timeout);
	if (nr < 0) {
		if (errno != EINTR)
			die("io_getevents", errno);
		return;
	}
	in_flight -= nr;
	for (i = 0; i < nr; i++)
		handle_event((struct request *)(uintptr_t)events[i].data,
			     events[i].res);
}

static void copy_files(void)
{
	for (;;) {
		while (nr_idle && take_chunk(idle[nr_idle - 1]))
			nr_idle--;
		if (!nr_ready && !in_flight)
			break;
		submit_ready();
		progress("copying");
		if (in_flight)
			reap();
	}
	progress_end();
}

static void set_up_requests(void)
{
	struct request *rqs = xcalloc(nr_requests, sizeof(*rqs));
	struct rlimit lim;
	unsigned int i;
	void *bufs;

	idle = xcalloc(nr_requests, sizeof(*idle));
	ready = xcalloc(nr_requests, sizeof(*ready));
	events = xcalloc(nr_requests, sizeof(*events));
	if (posix_memalign(&bufs, 4096, (size_t)nr_requests * CHUNK))
		die("buffers", ENOMEM);
	for (i = 0; i < nr_requests; i++) {
		rqs[i].buf = (char *)bufs + (size_t)i * CHUNK;
		idle[nr_idle++] = &rqs[i];
	}

	/* Two descriptors per file that is being copied, and some to spare. */
	if (getrlimit(RLIMIT_NOFILE, &lim))
		die("getrlimit", errno);
	max_open_files = nr_requests;
	if (lim.rlim_cur < 2 * (rlim_t)nr_requests + 16)
		max_open_files = lim.rlim_cur > 18 ? (lim.rlim_cur - 16) / 2 : 1;

	if (io_setup(nr_requests, &ctx)) {
		if (errno == EAGAIN)
			complain("fs.aio-max-nr is too small for %u requests",
				 nr_requests);
		die("io_setup", errno);
	}
}

/* ------------------------------------------------------------------------ */
/* The comparison: plain system calls, so that AIO is not its own judge */

/* As much as there is, up to @len: less only at the end of the file. */
static ssize_t read_full(int fd, char *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t ret = read(fd, buf + done, len - done);

		if (ret < 0 && errno == EINTR)
			continue;
		if (ret < 0)
			return ret;
		if (ret == 0)
			break;
		done += ret;
	}
	return done;
}

static void compare_data(const struct entry *e)
{
	static char a[CHUNK], b[CHUNK];
	int afd = openat(src_fd, e->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int bfd = openat(dst_fd, e->path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	unsigned long long offset = 0;
	ssize_t la, lb, i;

	if (afd < 0 || bfd < 0) {
		complain("%s: open to compare: %s", e->path, strerror(errno));
		goto out;
	}
	do {
		la = read_full(afd, a, CHUNK);
		lb = read_full(bfd, b, CHUNK);
		if (la < 0 || lb < 0) {
			complain("%s: read to compare: %s", e->path, strerror(errno));
			goto out;
		}
		if (la != lb || memcmp(a, b, la)) {
			for (i = 0; i < la && i < lb && a[i] == b[i]; i++)
				;
			complain("%s: differs at byte %llu", e->path,
				 offset + i);
			goto out;
		}
		offset += la;
		bytes_done += la;
		progress("comparing");
	} while (la == CHUNK);
	files_done++;
out:
	if (afd >= 0)
		close(afd);
	if (bfd >= 0)
		close(bfd);
}

static void compare_symlink(const struct entry *e)
{
	char a[PATH_MAX], b[PATH_MAX];
	ssize_t la = readlinkat(src_fd, e->path, a, sizeof(a));
	ssize_t lb = readlinkat(dst_fd, e->path, b, sizeof(b));

	if (la < 0 || lb < 0)
		complain("%s: readlink: %s", e->path, strerror(errno));
	else if (la != lb || memcmp(a, b, la))
		complain("%s: symbolic link with another target", e->path);
}

static size_t dst_entries;

static int count_one(const char *path, const struct stat *st, int type,
		     struct FTW *ftw)
{
	(void)path, (void)st, (void)type, (void)ftw;
	dst_entries++;
	return 0;
}

static void compare_trees(void)
{
	size_t i;

	for (i = 0; i < nr_entries; i++) {
		const struct entry *e = &entries[i];
		struct stat a, b;

		if (fstatat(src_fd, e->path, &a, AT_SYMLINK_NOFOLLOW)) {
			complain("%s/%s: %s", src_top, e->path, strerror(errno));
			continue;
		}
		if (fstatat(dst_fd, e->path, &b, AT_SYMLINK_NOFOLLOW)) {
			complain("%s/%s: %s", dst_top, e->path, strerror(errno));
			continue;
		}
		if (a.st_mode != b.st_mode)
			complain("%s: mode %o, copied as %o", e->path,
				 a.st_mode, b.st_mode);
		else if (S_ISREG(a.st_mode))
			compare_data(e);
		else if (S_ISLNK(a.st_mode))
			compare_symlink(e);
		else if (!S_ISDIR(a.st_mode) && a.st_rdev != b.st_rdev)
			complain("%s: another device number", e->path);
	}
	/* Every name of the source was found, so one too many shows here. */
	if (nftw(dst_top, count_one, 32, FTW_PHYS))
		complain("%s: %s", dst_top, strerror(errno));
	if (dst_entries != nr_entries)
		complain("%s has %zu names, %s has %zu", src_top, nr_entries,
			 dst_top, dst_entries);
	progress_end();
}

/* ------------------------------------------------------------------------ */
/*
 * How the kernel ran the requests. The counters are the system's: what other
 * programs submit meanwhile counts too.
 */

struct stats {
	bool		valid;
	int		err;
	unsigned long long	at_once, native, worker, submitter;
};

static struct stats read_stats(void)
{
	struct stats s = { 0 };
	unsigned long long value;
	unsigned int found = 0;
	char name[32];
	FILE *f = fopen(STATS_PATH, "r");

	if (!f) {
		s.err = errno;
		return s;
	}
	while (fscanf(f, "%31s %llu", name, &value) == 2) {
		unsigned long long *field = !strcmp(name, "at_once") ? &s.at_once :
				  !strcmp(name, "native") ? &s.native :
				  !strcmp(name, "worker") ? &s.worker :
				  !strcmp(name, "submitter") ? &s.submitter : NULL;

		if (field) {
			*field = value;
			found++;
		}
	}
	fclose(f);
	s.valid = found == 4;
	s.err = EBADMSG;
	return s;
}

static void report_stats(const struct stats *before, const struct stats *after)
{
	if (!before->valid || !after->valid) {
		const struct stats *bad = before->valid ? after : before;

		printf("ran       unknown: %s: %s\n", STATS_PATH, strerror(bad->err));
		return;
	}
	printf("ran       %llu at once, %llu in a worker, %llu natively, %llu in the submitter\n",
	       after->at_once - before->at_once,
	       after->worker - before->worker,
	       after->native - before->native,
	       after->submitter - before->submitter);
}

/* ------------------------------------------------------------------------ */

static void copy(void)
{
	struct stats before, after;
	double start, seconds;

	set_up_requests();
	if (mkdir(dst_top, 0700))
		die(dst_top, errno);
	dst_fd = open(dst_top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dst_fd < 0)
		die(dst_top, errno);

	before = read_stats();
	start = now();
	make_tree();
	copy_files();
	set_modes();
	seconds = now() - start;
	after = read_stats();

	printf("copied    %llu files, %llu bytes in %.3f seconds, %.1f MB/s\n",
	       files_done, bytes_done,
	       seconds, bytes_done / 1e6 / seconds);
	printf("requests  %llu, at most %u in flight at one time\n",
	       nr_submitted, max_in_flight);
	printf("ring      %s\n", ring_is_threaded() ?
	       "threaded (AIO_RING_COMPAT_THREADED is set)" :
	       "plain (AIO_RING_COMPAT_THREADED is not set)");
	report_stats(&before, &after);
	fflush(stdout);
	io_destroy(ctx);
}

static void compare(void)
{
	double start = now();

	files_done = 0;
	bytes_done = 0;
	compare_trees();
	printf("compared  %llu of %llu files, %llu bytes in %.3f seconds\n",
	       files_done, total_files,
	       bytes_done, now() - start);
}

static void print_help(FILE *f)
{
	fprintf(f,
		"Usage: aiocp [-c] [-n N] SRC DST\n"
		"Copy the directory SRC to DST, which must not exist yet, with native AIO;\n"
		"then compare every byte of both.\n"
		"  -n N  keep up to N requests in flight (1 to %d, default 64)\n"
		"  -c    copy nothing, only compare\n"
		"  -h    this help\n"
		"Exit status: 0 if SRC and DST are the same in the end, 1 if not, 2 for bad usage.\n",
		MAX_REQUESTS);
}

int main(int argc, char **argv)
{
	bool only_compare = false;
	unsigned long n;
	char *end;
	size_t len;
	int opt;

	while ((opt = getopt(argc, argv, "cn:h")) != -1) {
		switch (opt) {
		case 'c':
			only_compare = true;
			break;
		case 'n':
			n = strtoul(optarg, &end, 10);
			if (end == optarg || *end || n < 1 || n > MAX_REQUESTS) {
				fprintf(stderr, "aiocp: -n wants a number from 1 to %d\n",
					MAX_REQUESTS);
				return 2;
			}
			nr_requests = n;
			break;
		case 'h':
			print_help(stdout);
			return 0;
		default:
			print_help(stderr);
			return 2;
		}
	}
	if (argc - optind != 2) {
		print_help(stderr);
		return 2;
	}

	/* Names in the tree are told from the top's by its length. */
	len = strlen(argv[optind]);
	while (len > 1 && argv[optind][len - 1] == '/')
		argv[optind][--len] = '\0';
	src_top = argv[optind];
	dst_top = argv[optind + 1];

	src_fd = open(src_top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (src_fd < 0)
		die(src_top, errno);
	if (nftw(src_top, scan_one, 32, FTW_PHYS))
		die(src_top, errno);

	if (only_compare) {
		dst_fd = open(dst_top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dst_fd < 0)
			die(dst_top, errno);
	} else {
		copy();
	}
	compare();

	if (nr_errors)
		printf("result    FAILED, %llu errors or differences\n",
		       nr_errors);
	else
		printf("result    both trees are the same\n");
	return nr_errors ? EXIT_FAILURE : EXIT_SUCCESS;
}

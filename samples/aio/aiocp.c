// SPDX-License-Identifier: GPL-2.0
/*
 * aiocp - copy a directory tree with native AIO
 *
 * Everything that native AIO has an opcode for goes through io_submit(2) and
 * comes back through one completion ring: opening, reading ahead, reading,
 * writing, syncing and renaming of files, syncing of directories, and deleting.
 * What there is no opcode for is done with ordinary calls: readdir(3),
 * mkdir(2), symlink(2), mknod(2), fchmod(2) and close(2). Afterwards both trees
 * are compared, byte by byte, with ordinary reads.
 *
 * How it works: one struct job stands for one file that is being copied, and
 * its step says what is under way for it. A file goes through
 *
 *	OPEN_SRC -> READAHEAD -> OPEN_TEMP -> COPY -> SYNC -> RENAME
 *
 * and appears under its name only when it is complete and on disk. What fails
 * from OPEN_TEMP on goes to REMOVE_TEMP. A directory goes through OPEN_DIR ->
 * SYNC_DIR, a name that is to be deleted through REMOVE alone.
 *
 * A fixed number of requests does the work, each with a buffer of CHUNK bytes.
 * A request that is free begins a job and carries it from step to step. COPY is
 * the exception: requests that are free join it, take one chunk of the file
 * after the other, read it, write it, and leave; the last one goes on with the
 * job. Hence a job never lacks a request, and both the requests in flight and
 * the open files are bounded.
 *
 * This needs a threaded context, which io_setup(2) makes while the sysctl
 * fs.aio-auto-threads is 1: others have no openat.
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
#include <signal.h>
#include <stdatomic.h>
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

#include "aio_prep.h"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

#define CHUNK		(128 * 1024)
#define READAHEAD_MAX	(8 * CHUNK)	/* the kernel's own does the rest */
#define MAX_REQUESTS	4096
#define MAX_TRIES	200		/* of an io_submit(), with 10 ms between */
#define OPS_PATH	"/sys/kernel/debug/aio_thread/ops"

/* The kernel adds O_LARGEFILE to the opens of 64-bit programs only. */
#define OPEN_FLAGS	(O_NOFOLLOW | O_CLOEXEC | O_LARGEFILE)

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

/* One name in the tree. Directories stand before what is in them. */
struct entry {
	char		*path;		/* below the top of the tree */
	mode_t		mode;
	dev_t		rdev;
	off_t		size;
	int		level;		/* the top has 0 */
	size_t		parent;		/* index of the directory it is in */
	size_t		names;		/* in it, that are not deleted yet */
	struct entry	*next_removable;
};

enum step {
	IDLE,
	OPEN_SRC,
	READAHEAD,
	OPEN_TEMP,
	COPY,
	SYNC,
	RENAME,
	REMOVE_TEMP,
	OPEN_DIR,
	SYNC_DIR,
	REMOVE,
	NR_STEPS
};

/* One name that is being copied, synced or deleted. */
struct job {
	struct entry	*entry;
	enum step	step;
	int		src, dst;	/* -1 when not open */
	char		*temp;		/* a file of this name may exist */
	off_t		next;		/* COPY: where the next chunk begins */
	unsigned int	chunks;		/* COPY: requests that have one */
	bool		failed;
};

/* One request of a job, and the arguments and data that it works on. */
struct request {
	struct iocb	iocb;
	struct job	*job;
	struct renameat_info rename;
	char		*buf;
	off_t		offset;		/* of the chunk in the file */
	size_t		len;		/* of the chunk */
	size_t		done;		/* of what is being read or written */
};

static const char *src_top, *dst_top;
static int src_fd, dst_fd;
static bool no_sync;

static struct entry *entries;
static size_t nr_entries, cursor;
static struct entry *removable;		/* names that can be deleted now */
static unsigned long long total_files, total_dirs, total_bytes;

static aio_context_t ctx;
static unsigned int nr_requests = 64, max_jobs;
static struct job *jobs;
static struct job **idle_jobs;
static unsigned int nr_idle_jobs;
static struct request **idle;		/* requests with nothing to do */
static unsigned int nr_idle;
static struct iocb **ready;		/* requests to submit */
static unsigned int nr_ready;
static struct io_event *events;
static unsigned int in_flight, max_in_flight;

/* What the program is at, for the progress line. */
static struct {
	const char	*doing, *what;
	bool		bytes;
	unsigned long long done, total;
} phase;

static unsigned long long bytes_done, nr_errors;
static atomic_bool interrupted;

/* ------------------------------------------------------------------------ */
/* Messages, time and progress */

static void remove_temps(void);

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
	remove_temps();
	exit(EXIT_FAILURE);
}

/* What can be done about an error of an operation, to go into a message. */
static const char *advice(int err)
{
	switch (err) {
	case ENOSPC:
	case EDQUOT:
		return " (make room there)";
	case EACCES:
	case EPERM:
	case EROFS:
		return " (is this user allowed to do that there?)";
	case ENOENT:
	case ENOTDIR:
	case ELOOP:
	case ESTALE:
		return " (leave the tree alone while it is copied)";
	case EMFILE:
	case ENFILE:
		return " (raise the limit of open files, or lower -n)";
	case EAGAIN:
	case ENOMEM:
		return " (too many requests at a time: lower -n)";
	case EIO:
		return " (see the kernel's log about the disk)";
	case EINVAL:
		return " (the file system may not support it)";
	case EOPNOTSUPP:
		return " (the file system or a security module refuses it)";
	default:
		return "";
	}
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

static void set_phase(const char *doing, const char *what,
		      unsigned long long total, bool bytes)
{
	phase.doing = doing;
	phase.what = what;
	phase.done = 0;
	phase.total = total;
	phase.bytes = bytes;
}

static void progress(void)
{
	static double next;
	double t = now();
	bool tty;

	if (t < next)
		return;
	tty = isatty(STDERR_FILENO);
	fprintf(stderr, "%s%s: %llu of %llu %s", tty ? "\r" : "",
		phase.doing, phase.done, phase.total, phase.what);
	if (phase.bytes)
		fprintf(stderr, ", %.1f of %.1f MB",
			bytes_done / 1e6, total_bytes / 1e6);
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
	size_t parent;

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

	e = &entries[nr_entries];
	memset(e, 0, sizeof(*e));
	e->path = strdup(*path ? path : ".");
	if (!e->path)
		die("list of files", ENOMEM);
	e->mode = st->st_mode;
	e->rdev = st->st_rdev;
	e->size = st->st_size;
	e->level = ftw->level;
	if (nr_entries) {
		/* The last name's directory, or one further up. */
		parent = nr_entries - 1;
		while (entries[parent].level >= e->level)
			parent = entries[parent].parent;
		e->parent = parent;
		entries[parent].names++;
	}
	nr_entries++;
	if (S_ISREG(e->mode)) {
		total_files++;
		total_bytes += e->size;
	} else if (S_ISDIR(e->mode)) {
		total_dirs++;
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
 * create a file in one that is read-only. Files have theirs from finish_data().
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
/*
 * How many requests there were by opcode, and how the kernel ran them. Its
 * counters are the system's: what other programs submit meanwhile counts too.
 */

static struct op {
	const char	*name;		/* the kernel's */
	unsigned long long submitted, failed;
} ops[] = {
	[IOCB_CMD_PREAD]	= { .name = "read" },
	[IOCB_CMD_PWRITE]	= { .name = "write" },
	[IOCB_CMD_FSYNC]	= { .name = "fsync" },
	[IOCB_CMD_OPENAT]	= { .name = "openat" },
	[IOCB_CMD_UNLINKAT]	= { .name = "unlinkat" },
	[IOCB_CMD_READAHEAD]	= { .name = "readahead" },
	[IOCB_CMD_RENAMEAT]	= { .name = "renameat" },
};

#define NR_OPS	ARRAY_SIZE(ops)

enum { AT_ONCE, NATIVE, ARMED, WORKER, SUBMITTER, NR_WAYS };

struct ways {
	int		err;		/* why there are no figures */
	unsigned long long nr[NR_OPS][NR_WAYS];
};

static struct ways ways_before;

static void read_ways(struct ways *ways)
{
	FILE *f = fopen(OPS_PATH, "r");
	unsigned long long nr[NR_WAYS];
	char line[256], name[32];
	size_t i, found = 0;

	memset(ways, 0, sizeof(*ways));
	if (!f) {
		ways->err = errno;
		return;
	}
	/* The heading has no numbers, which leaves it out. */
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%31s %llu %llu %llu %llu %llu", name,
			   &nr[AT_ONCE], &nr[NATIVE], &nr[ARMED], &nr[WORKER],
			   &nr[SUBMITTER]) != 1 + NR_WAYS)
			continue;
		for (i = 0; i < NR_OPS; i++) {
			if (!ops[i].name || strcmp(ops[i].name, name))
				continue;
			memcpy(ways->nr[i], nr, sizeof(nr));
			found++;
		}
	}
	fclose(f);
	if (!found)
		ways->err = EBADMSG;
}

static void report_ops(void)
{
	static const int order[] = {
		IOCB_CMD_OPENAT, IOCB_CMD_READAHEAD, IOCB_CMD_PREAD,
		IOCB_CMD_PWRITE, IOCB_CMD_FSYNC, IOCB_CMD_RENAMEAT,
		IOCB_CMD_UNLINKAT,
	};
	unsigned long long total = 0;
	struct ways after;
	size_t i, way;
	int err;

	read_ways(&after);
	err = ways_before.err ? ways_before.err : after.err;
	for (i = 0; i < NR_OPS; i++)
		total += ops[i].submitted;

	printf("requests  %llu in one threaded ring, at most %u in flight\n",
	       total, max_in_flight);
	printf("          %-10s%10s%10s", "", "submitted", "failed");
	if (!err)
		printf("%10s%10s%10s%10s%10s", "at once", "natively", "armed",
		       "worker", "submitter");
	putchar('\n');
	for (i = 0; i < ARRAY_SIZE(order); i++) {
		const struct op *op = &ops[order[i]];

		if (!op->submitted && !op->failed)
			continue;
		printf("          %-10s%10llu%10llu", op->name, op->submitted,
		       op->failed);
		for (way = 0; !err && way < NR_WAYS; way++)
			printf("%10llu", after.nr[order[i]][way] -
			       ways_before.nr[order[i]][way]);
		putchar('\n');
	}
	if (err)
		printf("          how the kernel ran them is unknown: %s: %s%s\n",
		       OPS_PATH, strerror(err), err == EACCES ?
		       " (only root may read it)" : "");
}

/* ------------------------------------------------------------------------ */
/* The jobs */

/* What messages call the steps that can fail. */
static const struct {
	const char	*doing;
	bool		src;		/* in the source, else in the copy */
} steps[NR_STEPS] = {
	[OPEN_SRC]	= { .doing = "open", .src = true },
	[OPEN_TEMP]	= { .doing = "create" },
	[SYNC]		= { .doing = "fsync" },
	[RENAME]	= { .doing = "rename into place" },
	[OPEN_DIR]	= { .doing = "open to sync" },
	[SYNC_DIR]	= { .doing = "fsync" },
	[REMOVE]	= { .doing = "delete" },
};

static void queue(struct request *rq)
{
	rq->iocb.aio_data = (uintptr_t)rq;
	ready[nr_ready++] = &rq->iocb;
}

/* A name beside the file's own, so that the rename moves no data. */
static void name_temp(struct job *job)
{
	const char *path = job->entry->path;
	const char *slash = strrchr(path, '/');

	if (asprintf(&job->temp, "%.*s.aiocp-%ld-%zd",
		     slash ? (int)(slash + 1 - path) : 0, path, (long)getpid(),
		     job - jobs) < 0) {
		job->temp = NULL;
		die("name", ENOMEM);
	}
}

/* Make @rq its job's request for @step. COPY has requests of its own. */
static void start(struct request *rq, enum step step)
{
	struct iocb *iocb = &rq->iocb;
	struct job *job = rq->job;
	struct entry *e = job->entry;

	job->step = step;
	switch (step) {
	case OPEN_SRC:
		io_prep_openat(iocb, src_fd, e->path, O_RDONLY | OPEN_FLAGS, 0);
		break;
	case READAHEAD:
		io_prep_readahead(iocb, job->src, e->size < READAHEAD_MAX ?
				  e->size : READAHEAD_MAX, 0);
		break;
	case OPEN_TEMP:
		name_temp(job);
		io_prep_openat(iocb, dst_fd, job->temp,
			       O_WRONLY | O_CREAT | O_EXCL | OPEN_FLAGS, 0600);
		break;
	case SYNC:
	case SYNC_DIR:
		aio_prep_fields(iocb, IOCB_CMD_FSYNC, job->dst, NULL, 0, 0);
		break;
	case RENAME:
		io_prep_renameat(iocb, &rq->rename, dst_fd, job->temp,
				 dst_fd, e->path, 0);
		break;
	case REMOVE_TEMP:
		io_prep_unlinkat(iocb, dst_fd, job->temp, 0);
		break;
	case OPEN_DIR:
		io_prep_openat(iocb, dst_fd, e->path,
			       O_RDONLY | O_DIRECTORY | OPEN_FLAGS, 0);
		break;
	case REMOVE:
		if (e == entries)	/* "." cannot be removed */
			io_prep_unlinkat(iocb, AT_FDCWD, dst_top, AT_REMOVEDIR);
		else
			io_prep_unlinkat(iocb, dst_fd, e->path,
					 S_ISDIR(e->mode) ? AT_REMOVEDIR : 0);
		break;
	default:
		abort();
	}
	queue(rq);
}

static bool begin_job(struct request *rq, struct entry *e, enum step step)
{
	struct job *job;

	if (!nr_idle_jobs)
		return false;
	job = idle_jobs[--nr_idle_jobs];
	memset(job, 0, sizeof(*job));
	job->entry = e;
	job->src = -1;
	job->dst = -1;
	rq->job = job;
	start(rq, step);
	return true;
}

static void end_job(struct request *rq)
{
	struct job *job = rq->job;

	free(job->temp);
	job->temp = NULL;
	job->step = IDLE;
	idle_jobs[nr_idle_jobs++] = job;
	idle[nr_idle++] = rq;
}

/* An ordinary close(2): after an fsync there is little left to wait for. */
static int close_files(struct job *job)
{
	int err = 0;

	if (job->src >= 0)
		close(job->src);
	/* Some file systems have errors of earlier writes only now. */
	if (job->dst >= 0 && close(job->dst))
		err = errno;
	job->src = -1;
	job->dst = -1;
	return err;
}

static void give_up(struct request *rq)
{
	close_files(rq->job);
	if (rq->job->temp)
		start(rq, REMOVE_TEMP);
	else
		end_job(rq);
}

static void fail_step(struct request *rq, int err)
{
	struct job *job = rq->job;

	complain("%s/%s: %s: %s%s", steps[job->step].src ? src_top : dst_top,
		 job->entry->path, steps[job->step].doing, strerror(err),
		 advice(err));
	/* Then it belongs to somebody else. */
	if (job->step == OPEN_TEMP && err == EEXIST) {
		free(job->temp);
		job->temp = NULL;
	}
	give_up(rq);
}

/* Make @rq the next read or write of the rest of its chunk. */
static void read_or_write(struct request *rq, int opcode)
{
	aio_prep_fields(&rq->iocb, opcode, opcode == IOCB_CMD_PREAD ?
			rq->job->src : rq->job->dst, rq->buf + rq->done,
			rq->len - rq->done, rq->offset + rq->done);
	queue(rq);
}

static bool has_chunks(const struct job *job)
{
	return job->step == COPY && !job->failed &&
	       job->next < job->entry->size;
}

/* Give @rq the next chunk of @job. */
static void take_chunk(struct request *rq, struct job *job)
{
	off_t left = job->entry->size - job->next;

	rq->job = job;
	rq->offset = job->next;
	rq->len = left < CHUNK ? left : CHUNK;
	rq->done = 0;
	job->next += rq->len;
	job->chunks++;
	read_or_write(rq, IOCB_CMD_PREAD);
}

/* Close before the rename: a file whose close fails is not to get its name. */
static void finish_file(struct request *rq)
{
	int err = close_files(rq->job);

	if (!err) {
		start(rq, RENAME);
		return;
	}
	complain("%s/%s: close: %s%s", dst_top, rq->job->entry->path,
		 strerror(err), advice(err));
	give_up(rq);
}

static void finish_data(struct request *rq)
{
	struct job *job = rq->job;

	/* After the last write, which would drop set-user-ID bits again. */
	if (fchmod(job->dst, job->entry->mode & 07777))
		complain("%s/%s: chmod: %s%s", dst_top, job->entry->path,
			 strerror(errno), advice(errno));
	if (no_sync)
		finish_file(rq);
	else
		start(rq, SYNC);
}

/* The chunk is copied, or given up. */
static void finish_chunk(struct request *rq)
{
	struct job *job = rq->job;

	job->chunks--;
	if (has_chunks(job))
		take_chunk(rq, job);
	else if (job->chunks)
		idle[nr_idle++] = rq;
	else if (job->failed)
		give_up(rq);
	else
		finish_data(rq);
}

static void fail_chunk(struct request *rq, const char *why, const char *remedy)
{
	bool reading = rq->iocb.aio_lio_opcode == IOCB_CMD_PREAD;
	struct job *job = rq->job;

	/* Once per file is enough: the other chunks will hardly fare better. */
	if (!job->failed)
		complain("%s/%s: %s at %lld: %s%s", reading ? src_top : dst_top,
			 job->entry->path, reading ? "read" : "write",
			 (long long)rq->iocb.aio_offset, why, remedy);
	job->failed = true;
	finish_chunk(rq);
}

static void handle_chunk(struct request *rq, int64_t res)
{
	int opcode = rq->iocb.aio_lio_opcode;

	if (res < 0) {
		fail_chunk(rq, strerror(-res), advice(-res));
		return;
	}
	if (res == 0) {
		if (opcode == IOCB_CMD_PREAD)
			fail_chunk(rq, "the file has become shorter",
				   advice(ESTALE));
		else
			fail_chunk(rq, "nothing was written", "");
		return;
	}

	rq->done += res;
	if (rq->done < rq->len) {
		/* Short, which is no error: ask for the rest. */
		read_or_write(rq, opcode);
	} else if (rq->job->failed) {
		/* Another chunk was lost, so this one serves nobody. */
		finish_chunk(rq);
	} else if (opcode == IOCB_CMD_PREAD) {
		rq->done = 0;
		read_or_write(rq, IOCB_CMD_PWRITE);
	} else {
		bytes_done += rq->len;
		finish_chunk(rq);
	}
}

static void removal_done(struct entry *e)
{
	struct entry *dir = &entries[e->parent];

	phase.done++;
	if (e != entries && --dir->names == 0) {
		dir->next_removable = removable;
		removable = dir;
	}
}

/*
 * A request has come back, or io_submit() did not take it: @res is what the
 * system call of the same name would return, or the negative error number.
 */
static void handle_event(struct request *rq, int64_t res)
{
	struct job *job = rq->job;

	if (res < 0)
		ops[rq->iocb.aio_lio_opcode].failed++;

	/* These know by themselves what to do about an error. */
	switch (job->step) {
	case READAHEAD:
		/* No more than advice: what is wrong will show when reading. */
		start(rq, OPEN_TEMP);
		return;
	case COPY:
		handle_chunk(rq, res);
		return;
	case REMOVE_TEMP:
		if (res < 0 && res != -ENOENT &&
		    unlinkat(dst_fd, job->temp, 0) && errno != ENOENT)
			complain("%s/%s: could not be removed: %s", dst_top,
				 job->temp, strerror(errno));
		end_job(rq);
		return;
	case SYNC_DIR:
		/* Not all file systems have something to sync here. */
		if (res == -EINVAL)
			res = 0;
		break;
	default:
		break;
	}

	if (res < 0) {
		fail_step(rq, -res);
		return;
	}

	switch (job->step) {
	case OPEN_SRC:
		job->src = res;
		start(rq, job->entry->size ? READAHEAD : OPEN_TEMP);
		break;
	case OPEN_TEMP:
		job->dst = res;
		job->step = COPY;
		if (has_chunks(job))
			take_chunk(rq, job);
		else
			finish_data(rq);
		break;
	case SYNC:
		finish_file(rq);
		break;
	case OPEN_DIR:
		job->dst = res;
		start(rq, SYNC_DIR);
		break;
	case RENAME:
	case SYNC_DIR:
		phase.done++;
		close_files(job);
		end_job(rq);
		break;
	case REMOVE:
		removal_done(job->entry);
		end_job(rq);
		break;
	default:
		abort();
	}
}

/* ------------------------------------------------------------------------ */
/* The ring */

/* io_submit() has disposed of the first requests that were ready. */
static void drop_ready(unsigned int nr)
{
	nr_ready -= nr;
	memmove(ready, ready + nr, nr_ready * sizeof(*ready));
}

/*
 * io_submit() takes requests in order and stops at the first one that it does
 * not want: it returns how many it took, or the error if that was the very
 * first. What it took is in flight, all else is still ours.
 */
static void submit_ready(void)
{
	static unsigned int tries;
	struct request *rq;
	int i, nr, err;

	while (nr_ready) {
		nr = io_submit(ctx, nr_ready, ready);
		if (nr > 0) {
			for (i = 0; i < nr; i++)
				ops[ready[i]->aio_lio_opcode].submitted++;
			tries = 0;
			in_flight += nr;
			if (in_flight > max_in_flight)
				max_in_flight = in_flight;
			drop_ready(nr);
			continue;
		}
		err = nr ? errno : EIO;
		if (err == EAGAIN || err == ENOMEM) {
			if (in_flight)
				break;	/* again, once events are taken out */
			/* Others have it, and may give it back. */
			if (tries++ < MAX_TRIES) {
				nanosleep(&(struct timespec){
					.tv_nsec = 10 * 1000 * 1000 }, NULL);
				break;
			}
		}

		rq = (struct request *)(uintptr_t)ready[0]->aio_data;
		if (rq->iocb.aio_lio_opcode == IOCB_CMD_OPENAT &&
		    (err == EINVAL || err == EOPNOTSUPP)) {
			complain("AIO opens no files here: the kernel has no IOCB_CMD_OPENAT,\n"
				 "       or a security module refuses it; delete %s, use cp",
				 dst_top);
			die("io_submit", err);
		}
		drop_ready(1);
		handle_event(rq, -err);
	}
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

/* Let @rq help with a file that has more chunks than requests. */
static bool join_job(struct request *rq)
{
	unsigned int i;

	for (i = 0; i < max_jobs; i++) {
		if (has_chunks(&jobs[i])) {
			take_chunk(rq, &jobs[i]);
			return true;
		}
	}
	return false;
}

/* Do all jobs that @next_job begins. It returns false if there is none now. */
static void run_jobs(bool (*next_job)(struct request *rq))
{
	bool join = true;

	for (;;) {
		while (nr_idle) {
			struct request *rq = idle[nr_idle - 1];

			join = join && join_job(rq);
			if (!join && !next_job(rq))
				break;
			nr_idle--;
		}
		if (!nr_ready && !in_flight)
			break;
		submit_ready();
		progress();
		if (in_flight)
			reap();
		if (interrupted) {
			complain("interrupted: %s is incomplete, delete it",
				 dst_top);
			remove_temps();
			exit(EXIT_FAILURE);
		}
		join = true;
	}
	progress_end();
}

static bool next_of_type(struct request *rq, mode_t type, enum step step)
{
	while (cursor < nr_entries && (entries[cursor].mode & S_IFMT) != type)
		cursor++;
	if (cursor == nr_entries || !begin_job(rq, &entries[cursor], step))
		return false;
	cursor++;
	return true;
}

static bool next_file(struct request *rq)
{
	return next_of_type(rq, S_IFREG, OPEN_SRC);
}

static bool next_dir(struct request *rq)
{
	return next_of_type(rq, S_IFDIR, OPEN_DIR);
}

/* A directory's turn comes when the last name in it is gone. */
static bool next_removal(struct request *rq)
{
	if (!removable || !begin_job(rq, removable, REMOVE))
		return false;
	removable = removable->next_removable;
	return true;
}

/* Before leaving early: files with temporary names are not to stay. */
static void remove_temps(void)
{
	unsigned int i;

	if (!ctx)
		return;
	/* Cancels what is in flight and waits for it: no file appears later. */
	io_destroy(ctx);
	ctx = 0;
	for (i = 0; i < max_jobs; i++)
		if (jobs[i].temp)
			unlinkat(dst_fd, jobs[i].temp, 0);
}

static void on_signal(int sig)
{
	(void)sig;
	interrupted = true;
}

/* The first signal stops the program in good order, the second one kills. */
static void catch_signals(bool on)
{
	static const int signals[] = { SIGHUP, SIGINT, SIGTERM };
	struct sigaction sa = { .sa_flags = SA_RESETHAND }, old;
	size_t i;

	sa.sa_handler = on ? on_signal : SIG_DFL;
	for (i = 0; i < ARRAY_SIZE(signals); i++)
		if (!sigaction(signals[i], NULL, &old) &&
		    old.sa_handler != SIG_IGN)
			sigaction(signals[i], &sa, NULL);
}

static void set_up_ring(void)
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
	max_jobs = nr_requests;
	if (lim.rlim_cur < 2 * (rlim_t)nr_requests + 16)
		max_jobs = lim.rlim_cur > 18 ? (lim.rlim_cur - 16) / 2 : 1;
	jobs = xcalloc(max_jobs, sizeof(*jobs));
	idle_jobs = xcalloc(max_jobs, sizeof(*idle_jobs));
	for (i = 0; i < max_jobs; i++)
		idle_jobs[nr_idle_jobs++] = &jobs[i];

	if (io_setup(nr_requests, &ctx)) {
		if (errno == EAGAIN)
			complain("fs.aio-max-nr is too small for %u requests",
				 nr_requests);
		die("io_setup", errno);
	}
	if (!ring_is_threaded()) {
		complain("this needs a threaded AIO context and was given a plain one;\n"
			 "       start it again, on a kernel with CONFIG_AIO_THREAD, after\n"
			 "           sysctl fs.aio-auto-threads=1");
		exit(EXIT_FAILURE);
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
		progress();
	} while (la == CHUNK);
	phase.done++;
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

static void copy(void)
{
	unsigned long long files_copied;
	double start_time, seconds;

	set_up_ring();
	if (mkdir(dst_top, 0700))
		die(dst_top, errno);
	dst_fd = open(dst_top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dst_fd < 0)
		die(dst_top, errno);

	read_ways(&ways_before);
	start_time = now();
	catch_signals(true);
	make_tree();
	set_phase("copying", "files", total_files, true);
	run_jobs(next_file);
	files_copied = phase.done;
	if (!no_sync) {
		/* Files' names are in these. Later modes may forbid to open. */
		set_phase("syncing", "directories", total_dirs, false);
		cursor = 0;
		run_jobs(next_dir);
	}
	catch_signals(false);
	set_modes();
	seconds = now() - start_time;

	printf("copied    %llu files, %llu bytes in %.3f seconds, %.1f MB/s\n",
	       files_copied, bytes_done, seconds, bytes_done / 1e6 / seconds);
	fflush(stdout);
}

static void compare(void)
{
	double start_time = now();

	set_phase("comparing", "files", total_files, true);
	bytes_done = 0;
	compare_trees();
	printf("compared  %llu of %llu files, %llu bytes in %.3f seconds\n",
	       phase.done, total_files, bytes_done, now() - start_time);
	fflush(stdout);
}

static void delete_copy(void)
{
	double start_time = now();
	size_t i;

	for (i = 0; i < nr_entries; i++) {
		struct entry *e = &entries[i];

		/* A name can be removed if its directory can be written to. */
		if (S_ISDIR(e->mode) && (e->mode & 0700) != 0700 &&
		    fchmodat(dst_fd, e->path, 0700, 0))
			complain("%s/%s: chmod: %s", dst_top, e->path,
				 strerror(errno));
		if (!e->names) {
			e->next_removable = removable;
			removable = e;
		}
	}
	set_phase("deleting", "names", nr_entries, false);
	catch_signals(true);
	run_jobs(next_removal);
	catch_signals(false);
	printf("deleted   %llu of %zu names in %.3f seconds\n", phase.done,
	       nr_entries, now() - start_time);
}

static void print_help(FILE *f)
{
	fprintf(f,
		"Usage: aiocp [-dF] [-n N] SRC DST\n"
		"       aiocp -c SRC DST\n"
		"Copy the directory SRC to DST, which must not exist yet, with native AIO in a\n"
		"threaded context; then compare every byte of both.\n"
		"  -d    delete DST again, with AIO, if it is the same as SRC\n"
		"  -F    do not fsync what is written\n"
		"  -n N  keep up to N requests in flight (1 to %d, default 64)\n"
		"  -c    copy nothing, only compare\n"
		"  -h    this help\n"
		"Exit status: 0 if SRC and DST are the same in the end, 1 if not, 2 for bad usage.\n",
		MAX_REQUESTS);
}

int main(int argc, char **argv)
{
	bool only_compare = false, delete = false;
	unsigned long n;
	char *end;
	size_t len;
	int opt;

	while ((opt = getopt(argc, argv, "cdFn:h")) != -1) {
		switch (opt) {
		case 'c':
			only_compare = true;
			break;
		case 'd':
			delete = true;
			break;
		case 'F':
			no_sync = true;
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
	if (only_compare && delete) {
		fprintf(stderr, "aiocp: -d deletes only what this run copied, so not with -c\n");
		return 2;
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
	if (!only_compare) {
		if (delete && !nr_errors)
			delete_copy();
		report_ops();
		io_destroy(ctx);
	}

	if (nr_errors)
		printf("result    FAILED, %llu errors or differences%s%s\n",
		       nr_errors, only_compare ? "" : "; to try again, delete ",
		       only_compare ? "" : dst_top);
	else
		printf("result    both trees are the same\n");
	return nr_errors ? EXIT_FAILURE : EXIT_SUCCESS;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Requests that take a path: open, unlink and rename. Each must do what the
 * blocking system call does for the thread that submits it, whichever thread of
 * the kernel carries it out, and whatever the submitter does meanwhile.
 *
 * Every test works in a mount namespace and on a mount of its own, which it
 * must be able to unmount: nothing may be left that holds a file or a path.
 *
 * AIO_SLOW=1: a debug kernel, which may take ten times as long.
 */
#include "../kselftest_harness.h"
#include "aio_ops.h"

#include <grp.h>
#include <signal.h>
#include <stddef.h>
#include <linux/filter.h>
#include <linux/ioprio.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>

#define EVENTS	256

/* Every flag that openat(2) knows; the kernel's VALID_OPEN_FLAGS. */
#define OPEN_FLAGS							\
	(O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND |	\
	 O_NONBLOCK | O_SYNC | O_DSYNC | O_ASYNC | O_DIRECT |		\
	 AIO_O_LARGEFILE | O_DIRECTORY | O_NOFOLLOW | O_NOATIME |	\
	 O_CLOEXEC | O_PATH | O_TMPFILE | O_EMPTYPATH)

/* ---- a place of one's own ---- */

/* Mounts that are made from now on are nobody else's affair. */
static bool private_mounts(void)
{
	return !unshare(CLONE_NEWNS) &&
	       !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
}

/* What a request used may be put back a little after its event. */
static bool unmount(const char *path)
{
	bool gone = aio_wait_for(!umount2(path, 0), AIO_PATIENCE_MS);

	if (!gone)
		fprintf(stderr, "# %s is %s\n", path, strerror(errno));
	return gone;
}

/* A new file system, which becomes the working directory. */
static bool place_make(char *top)
{
	strcpy(top, "/tmp/aio-path-XXXXXX");
	return private_mounts() && mkdtemp(top) &&
	       !mount("aio-path", top, "tmpfs", 0, "mode=0755") && !chdir(top);
}

static bool place_remove(const char *top)
{
	return !chdir("/") && unmount(top) && !rmdir(top);
}

FIXTURE(path)
{
	struct aio_env env;
	aio_context_t ctx;
	long long aio_nr;
	char top[32];
};

FIXTURE_VARIANT(path)
{
	bool force;
};

FIXTURE_VARIANT_ADD(path, as_tried)
{
	.force = false,
};

FIXTURE_VARIANT_ADD(path, forced)
{
	.force = true,
};

FIXTURE_SETUP(path)
{
	umask(0);
	signal(SIGPIPE, SIG_IGN);
	AIO_SETUP(&self->env, true, variant->force, EVENTS);
	self->ctx = self->env.ctx;
	self->aio_nr = aio_fs_aio_nr();
	ASSERT_LE(0, self->aio_nr);
	ASSERT_EQ(0, setgroups(0, NULL));
	ASSERT_TRUE(place_make(self->top));
}

FIXTURE_TEARDOWN(path)
{
	EXPECT_TRUE(place_remove(self->top));
	AIO_TEARDOWN(&self->env);
}

/* ---- two trees that must not differ ---- */

/*
 * Each directory that is tested has a mount of its own with two copies of the
 * same tree, one for the system calls and one for the requests. In a tree are
 * three mount points: "mnt" with a tmpfs, the file "mfile", and "ro", which can
 * only be read.
 */
struct site {
	char	base[300];		/* the directory that is mounted on itself */
	char	root[2][320];
	char	*planted;		/* what either tree looks like at first */
};

static bool site_path(const char *root, const char *name, char *buf,
		      size_t size)
{
	return snprintf(buf, size, "%s/%s", root, name) < (int)size;
}

/*
 * What every tree holds beside its mount points, and what "mnt" does. Nothing
 * here changes what is in a file, so they can be told apart by their sizes.
 * Targets are absolute where they begin with "@".
 */
struct plant {
	const char	*path;
	mode_t		mode;
	const char	*target;
	long long	size;
	uid_t		owner;
};

#define FOLDER(_path, _mode, _owner)	\
	{ .path = _path, .mode = S_IFDIR | (_mode), .owner = _owner }
#define REGULAR(_path, _mode, _size, _owner)	\
	{ .path = _path, .mode = S_IFREG | (_mode), .size = _size,	\
	  .owner = _owner }
#define SYMLINK(_path, _target)	\
	{ .path = _path, .mode = S_IFLNK, .target = _target }

#define BIG	(3LL << 30)

static const struct plant plants[] = {
	REGULAR("file", 0644, 1, 0),
	REGULAR("other", 0600, 2, 0),
	REGULAR("secret", 0600, 3, 0),
	REGULAR("one", 0644, 4, 0),
	REGULAR("big", 0644, BIG, 0),
	FOLDER("dir", 0755, 0),
	FOLDER("dir/sub", 0755, 0),
	REGULAR("dir/file", 0644, 5, 0),
	FOLDER("empty", 0755, 0),
	FOLDER("full", 0755, 0),
	REGULAR("full/file", 0644, 6, 0),
	FOLDER("tree", 0755, 0),
	FOLDER("tree/sub", 0755, 0),
	FOLDER("closed", 0700, 0),
	REGULAR("closed/file", 0666, 7, 0),
	FOLDER("open", 0777, 0),
	FOLDER("open/dir", 0755, 0),
	REGULAR("open/file", 0644, 8, 0),
	FOLDER("sticky", 01777, 0),
	REGULAR("sticky/file", 0666, 9, 0),
	REGULAR("sticky/mine", 0644, 10, NOBODY),
	FOLDER("sgid", 02775, NOBODY),
	SYMLINK("link", "file"),
	SYMLINK("dirlink", "dir"),
	SYMLINK("dangling", "nowhere"),
	SYMLINK("loop", "loop"),
	SYMLINK("ring1", "ring2"),
	SYMLINK("ring2", "ring1"),
	SYMLINK("up", "dir/../file"),
	SYMLINK("slash", "dir/"),
	SYMLINK("fileslash", "file/"),
	SYMLINK("abs", "@/file"),
	SYMLINK("absdir", "@/dir"),
	{ .path = "fifo", .mode = S_IFIFO | 0644 },
	{ .path = "sock", .mode = S_IFSOCK | 0644 },
	FOLDER("mnt/dir", 0755, 0),
	REGULAR("mnt/inner", 0644, 11, 0),
};

/* A file of so many bytes, which are not those of one with another size. */
static bool put_bytes(const char *path, mode_t mode, long long size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	char bytes[32];
	bool done;

	if (fd < 0)
		return false;
	memset(bytes, 'a' + size % 26, sizeof(bytes));
	done = size > (int)sizeof(bytes) ?
		!ftruncate(fd, size) : write(fd, bytes, size) == size;
	close(fd);
	return done;
}

/* The umask is 0. */
static bool plant_one(const struct plant *p, const char *root)
{
	mode_t mode = p->mode & 07777;
	char target[400];
	bool done;

	switch (p->mode & S_IFMT) {
	case S_IFDIR:
		done = !mkdir(p->path, mode);
		break;
	case S_IFREG:
		done = put_bytes(p->path, mode, p->size);
		break;
	case S_IFLNK:
		if (p->target[0] != '@')
			return !symlink(p->target, p->path);
		return site_path(root, p->target + 2, target, sizeof(target)) &&
		       !symlink(target, p->path);
	default:
		done = !mknod(p->path, p->mode, 0);
	}
	/* mkdir() may leave out S_ISGID, and chown() does. */
	if (done && p->owner)
		done = !chown(p->path, p->owner, p->owner) &&
		       !chmod(p->path, mode);
	return done;
}

static bool plant(const char *root)
{
	size_t i;

	if (chdir(root))
		return false;
	for (i = 0; i < ARRAY_SIZE(plants); i++)
		if (!plant_one(&plants[i], root))
			return false;
	return !link("one", "two") && !chdir("/");
}

static bool is_mount_point(const char *name)
{
	return !strcmp(name, "mnt") || !strcmp(name, "mfile") ||
	       !strcmp(name, "ro");
}

/* Remove what is in a directory, except what plant() does not make. */
static bool wipe(int dirfd, bool is_root)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), sub;
	bool done = true;
	struct dirent *de;
	DIR *dir;

	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return false;
	while (done && (de = readdir(dir))) {
		const char *name = de->d_name;
		bool keep = is_root && is_mount_point(name);

		if (!strcmp(name, ".") || !strcmp(name, ".."))
			continue;
		if (keep && strcmp(name, "mnt"))
			continue;
		if (!unlinkat(dirfd, name, 0))
			continue;
		sub = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW |
			     O_CLOEXEC);
		done = sub >= 0 && wipe(sub, false) &&
		       (keep || !unlinkat(dirfd, name, AT_REMOVEDIR));
		if (sub >= 0)
			close(sub);
	}
	closedir(dir);
	return done;
}

/* Files that a picture has shown already: hard links are shown as such. */
struct shown {
	int	nr;
	dev_t	dev[128];
	ino_t	ino[128];
};

static int shown_before(struct shown *shown, const struct stat *st)
{
	int i;

	for (i = 0; i < shown->nr; i++)
		if (shown->dev[i] == st->st_dev && shown->ino[i] == st->st_ino)
			return i;
	if (i < (int)ARRAY_SIZE(shown->ino)) {
		shown->dev[i] = st->st_dev;
		shown->ino[i] = st->st_ino;
		shown->nr++;
	}
	return -1;
}

/* The two trees' own paths are no difference. */
static const char *without_root(const char *path, const char *root)
{
	size_t len = strlen(root);

	return strncmp(path, root, len) ? path : path + len;
}

static void show_stat(FILE *out, const struct stat *st)
{
	fprintf(out, "%06o nlink %ld owner %d:%d size %lld",
		st->st_mode, (long)st->st_nlink, st->st_uid, st->st_gid,
		(long long)st->st_size);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
		fprintf(out, " dev %u:%u", major(st->st_rdev),
			minor(st->st_rdev));
}

/* All that is to be seen of a directory, one line for each name. */
static void show_dir(FILE *out, int dirfd, const char *path, const char *root,
		     struct shown *shown)
{
	struct dirent **names;
	int i, nr, fd, before;

	nr = scandirat(dirfd, ".", &names, NULL, alphasort);
	if (nr < 0)
		fprintf(out, "%s: <%s>\n", path, strerror(errno));
	for (i = 0; i < nr; i++) {
		const char *name = names[i]->d_name;
		char full[1024], target[1024];
		struct stat st;
		ssize_t len;

		if (!strcmp(name, ".") || !strcmp(name, ".."))
			goto next;
		snprintf(full, sizeof(full), "%s/%.300s", path, name);
		fprintf(out, "%s: ", full);
		if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW)) {
			fprintf(out, "<%s>\n", strerror(errno));
			goto next;
		}
		show_stat(out, &st);
		before = shown_before(shown, &st);
		if (before >= 0)
			fprintf(out, " as %d", before);
		len = S_ISLNK(st.st_mode) ?
			readlinkat(dirfd, name, target, sizeof(target) - 1) : 0;
		if (len > 0) {
			target[len] = '\0';
			fprintf(out, " -> %s", without_root(target, root));
		}
		fputc('\n', out);
		if (S_ISDIR(st.st_mode)) {
			fd = openat(dirfd, name,
				    O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
			show_dir(out, fd, full, root, shown);
			close(fd);
		}
next:
		free(names[i]);
	}
	if (nr >= 0)
		free(names);
}

/* To be freed. */
static char *picture(const char *root)
{
	int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct shown shown = { 0 };
	char *text = NULL;
	size_t size;
	FILE *out;

	out = open_memstream(&text, &size);
	if (out) {
		show_dir(out, fd, "", root, &shown);
		fclose(out);
	}
	close(fd);
	return text;
}

/* Log where the second picture is not the first. */
static void show_difference(const char *a, const char *b)
{
	while (*a || *b) {
		const char *end_a = strchrnul(a, '\n');
		const char *end_b = strchrnul(b, '\n');
		int len_a = end_a - a, len_b = end_b - b;

		if (len_a != len_b || strncmp(a, b, len_a)) {
			fprintf(stderr, "# < %.*s\n# > %.*s\n", len_a, a,
				len_b, b);
			return;
		}
		a = *end_a ? end_a + 1 : end_a;
		b = *end_b ? end_b + 1 : end_b;
	}
}

static bool make_tree(struct site *site, int i)
{
	char path[400], ro[400];
	bool done;

	if (mkdir(site->root[i], 0755) || chdir(site->root[i]) ||
	    mkdir("mnt", 0755) || mount("mnt", "mnt", "tmpfs", 0, "mode=0755"))
		return false;
	done = !mkdir("ro", 0755) && aio_put("mfile", "below") &&
	       site_path(site->base, "ro", ro, sizeof(ro)) &&
	       site_path(site->base, "ro/file", path, sizeof(path)) &&
	       !mount(path, "mfile", NULL, MS_BIND, NULL) &&
	       !mount(ro, "ro", NULL, MS_BIND, NULL) &&
	       !mount(NULL, "ro", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL);
	return !chdir("/") && done && plant(site->root[i]);
}

static bool site_make(struct site *site, const char *dir)
{
	char *second;
	bool done;

	memset(site, 0, sizeof(*site));
	if (snprintf(site->base, sizeof(site->base), "%s/aio-path-XXXXXX",
		     dir) >= (int)sizeof(site->base) ||
	    !mkdtemp(site->base) ||
	    mount(site->base, site->base, NULL, MS_BIND, NULL) ||
	    chmod(site->base, 0755) || chdir(site->base))
		return false;
	if (mkdir("ro", 0755) || !put_bytes("ro/file", 0644, 12) ||
	    mkdir("ro/dir", 0755) || chdir("/"))
		return false;
	snprintf(site->root[0], sizeof(site->root[0]), "%s/a", site->base);
	snprintf(site->root[1], sizeof(site->root[1]), "%s/b", site->base);
	if (!make_tree(site, 0) || !make_tree(site, 1))
		return false;
	site->planted = picture(site->root[0]);
	second = picture(site->root[1]);
	done = site->planted && second && !strcmp(site->planted, second);
	if (site->planted && second)
		show_difference(site->planted, second);
	free(second);
	return done;
}

/* Gives the number of things that went wrong. */
static int site_remove(struct site *site)
{
	static const char * const mounts[] = { "mnt", "mfile", "ro" };
	int i, fd, wrong = 0;
	char path[400];
	size_t j;

	for (i = 0; i < 2; i++) {
		for (j = 0; j < ARRAY_SIZE(mounts); j++) {
			site_path(site->root[i], mounts[j], path, sizeof(path));
			wrong += !unmount(path);
		}
	}
	fd = open(site->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	wrong += !wipe(fd, false);
	close(fd);
	wrong += !unmount(site->base);
	wrong += rmdir(site->base) != 0;
	free(site->planted);
	return wrong;
}

/* As it was at first. */
static bool replant(struct site *site, int i)
{
	int fd = open(site->root[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool done = wipe(fd, true) && plant(site->root[i]);

	close(fd);
	return done;
}

/* ---- the same call, made both ways ---- */

/* What a relative path begins at. */
enum base {
	CWD,		/* AT_FDCWD */
	DIR_FD,		/* "dir" */
	DIR_PATH,	/* "dir", by an O_PATH descriptor */
	EMPTY_FD,	/* "empty" */
	OPEN_FD,	/* "open" */
	FILE_FD,	/* "file", which is no directory */
	FILE_PATH,	/* "file", by an O_PATH descriptor */
	GONE_FD,	/* a directory that has been removed */
	NO_FD,		/* a number that is no descriptor */
	NEGATIVE,	/* one that never is */
};

static const char * const base_names[] = {
	"cwd", "dir", "dir (O_PATH)", "empty", "open", "file", "file (O_PATH)",
	"gone", "9999", "-1",
};

static int base_open(enum base base)
{
	int fd;

	switch (base) {
	case CWD:
		return AT_FDCWD;
	case DIR_FD:
		return open("dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case DIR_PATH:
		return open("dir", O_PATH | O_CLOEXEC);
	case EMPTY_FD:
		return open("empty", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case OPEN_FD:
		return open("open", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case FILE_FD:
		return open("file", O_RDONLY | O_CLOEXEC);
	case FILE_PATH:
		return open("file", O_PATH | O_CLOEXEC);
	case GONE_FD:
		if (mkdir("gone", 0777))
			return -2;
		fd = open("gone", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		return rmdir("gone") ? -2 : fd;
	case NO_FD:
		return 9999;
	case NEGATIVE:
		return -1;
	}
	return -2;
}

static void base_close(enum base base, int fd)
{
	if (base != CWD && base != NO_FD && base != NEGATIVE)
		close(fd);
}

/* What it gives depends on the file system, its options, or a sysctl. */
#define ANY	(-1)

/*
 * Paths: "@/x" is the absolute path of "x" in the tree; "%n/x" ends in a name
 * of n times "n"; "=n/x" is n bytes long in all, and leads to "x".
 */
struct path_case {
	const char	*path;
	const char	*to;
	unsigned int	flags;
	mode_t		mode;
	int		want;		/* 0, ANY, or what errno is */
	enum base	at;
	enum base	to_at;
	mode_t		mask;		/* the umask */
	bool		nobody;		/* by somebody who is not root */
	bool		no_fds;		/* with no descriptor left */
};

enum path_op { OPEN, UNLINK, RENAME };

static const char * const op_names[] = { "open", "unlink", "rename" };

static void log_case(enum path_op op, const struct path_case *c, const char *in)
{
	fprintf(stderr, "# in %s: %s %s: \"%s\"", in, op_names[op],
		base_names[c->at], c->path);
	if (op == RENAME)
		fprintf(stderr, " to %s: \"%s\"", base_names[c->to_at], c->to);
	fprintf(stderr, " flags 0%o mode 0%o umask 0%o%s%s\n", c->flags,
		c->mode, c->mask, c->nobody ? " as nobody" : "",
		c->no_fds ? " without descriptors" : "");
}

static void make_path(const char *spec, const char *root, char *buf,
		      size_t size)
{
	size_t len;

	switch (spec[0]) {
	case '@':
		snprintf(buf, size, "%s%s", root, spec + 1);
		return;
	case '%':
		len = atoi(spec + 1);
		memset(buf, 'n', len);
		buf[len] = '\0';
		return;
	case '=':
		len = atoi(spec + 1);
		spec = strchr(spec, '/') + 1;
		memset(buf, '/', len);
		strcpy(buf + len - strlen(spec), spec);
		/* Slashes alone would be the root directory's. */
		buf[0] = '.';
		return;
	}
	snprintf(buf, size, "%s", spec);
}

/* What direct I/O can read, too. */
static void show_bytes(FILE *out, int fd)
{
	char *buf = aligned_alloc(4096, 4096);
	ssize_t i, len = buf ? pread(fd, buf, 4096, 0) : -1;

	if (len < 0)
		fprintf(out, " <%s>", strerror(errno));
	else
		fprintf(out, " %zd \"", len);
	for (i = 0; i < len && i < 64 && buf[i]; i++)
		fputc(buf[i], out);
	fputc('"', out);
	free(buf);
}

/* All that is to be seen of an open file. */
static void show_file(FILE *out, int fd, const char *root)
{
	char self[64], target[PATH_MAX + 1], *hash;
	struct stat st;
	ssize_t len;

	fprintf(out, "fl 0%o fd %d ", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
	if (fstat(fd, &st))
		fprintf(out, "<%s>", strerror(errno));
	else
		show_stat(out, &st);
	fprintf(out, " at %lld", aio_ret((long)lseek(fd, 0, SEEK_CUR)) + 0LL);
	show_bytes(out, fd);
	/* FIFOs that are open for writing say ESPIPE, others EBADF. */
	fprintf(out, " write %ld", aio_ret((long)pwrite(fd, "", 0, 0)));
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	len = readlink(self, target, sizeof(target) - 1);
	target[len > 0 ? len : 0] = '\0';
	/* A file without a name is called by its inode. */
	hash = strstr(target, "/#");
	if (hash)
		strcpy(hash + 2, " (deleted)");
	fprintf(out, " is %s", without_root(target, root));
}

/* Whether a file that has no name may be given one, if it is such a file. */
static void show_linkable(FILE *out, int fd, const char *root)
{
	char self[64], path[400];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	site_path(root, "linked", path, sizeof(path));
	fprintf(out, " link %ld",
		aio_ret(linkat(AT_FDCWD, self, AT_FDCWD, path,
			       AT_SYMLINK_FOLLOW)));
}

static long long call_blocking(enum path_op op, const struct path_case *c,
			       int at, const char *path, int to_at,
			       const char *to)
{
	switch (op) {
	case OPEN:
		return sys_openat(at, path, c->flags, c->mode);
	case UNLINK:
		return sys_unlinkat(at, path, c->flags);
	default:
		return sys_renameat2(at, path, to_at, to, c->flags);
	}
}

static void prepare(struct iocb *cb, struct renameat_info *info,
		    enum path_op op, const struct path_case *c, int at,
		    const char *path, int to_at, const char *to)
{
	switch (op) {
	case OPEN:
		iocb_openat(cb, at, path, c->flags, c->mode);
		return;
	case UNLINK:
		iocb_unlinkat(cb, at, path, c->flags);
		return;
	default:
		iocb_renameat(cb, info, at, path, to_at, to, c->flags);
	}
}

/* Be somebody else, without the right to anything special, and be root. */
static bool become_nobody(void)
{
	return !setegid(NOBODY) && !seteuid(NOBODY);
}

static bool become_root(void)
{
	return !seteuid(0) && !setegid(0) && !prctl(PR_SET_DUMPABLE, 1);
}

static bool limit_fds(rlim_t nr, struct rlimit *old)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, old))
		return false;
	limit = *old;
	limit.rlim_cur = nr;
	return !setrlimit(RLIMIT_NOFILE, &limit);
}

/*
 * Make the call in the tree @root. Everything that it depends on is something
 * else as soon as it has been submitted: working directory, umask, limit,
 * credentials, descriptors, and the memory of all that was handed over.
 *
 * Gives what the system call returned or the event says, and in @seen what
 * there is to be seen of an open file, which is closed then.
 */
static long long make_call(enum path_op op, const struct path_case *c,
			   const char *root, bool aio, aio_context_t ctx,
			   char **seen)
{
	static char path[PATH_MAX + 16], to[PATH_MAX + 16];
	static struct renameat_info info;
	int at, to_at = AT_FDCWD;
	struct rlimit limit;
	struct io_event ev;
	struct iocb cb;
	long long ret;
	size_t size;
	FILE *out;

	make_path(c->path, root, path, sizeof(path));
	if (op == RENAME)
		make_path(c->to, root, to, sizeof(to));
	if (chdir(root))
		return AIO_NO_EVENT;
	at = base_open(c->at);
	if (op == RENAME)
		to_at = base_open(c->to_at);
	if (at == -2 || to_at == -2)
		return AIO_NO_EVENT;
	if (aio)
		prepare(&cb, &info, op, c, at, path, to_at, to);

	umask(c->mask);
	if (c->no_fds && !limit_fds(aio_next_fd(), &limit))
		return AIO_NO_EVENT;
	if (c->nobody && !become_nobody())
		return AIO_NO_EVENT;
	ret = aio ? submit_one(ctx, &cb) :
		    call_blocking(op, c, at, path, to_at, to);
	if (c->nobody && !become_root())
		return AIO_NO_EVENT;
	if (c->no_fds && setrlimit(RLIMIT_NOFILE, &limit))
		return AIO_NO_EVENT;
	umask(c->mask ^ 0777);
	base_close(c->at, at);
	if (op == RENAME)
		base_close(c->to_at, to_at);
	memset(&cb, 0xa5, sizeof(cb));
	memset(&info, 0xa5, sizeof(info));
	memset(path, 'z', sizeof(path) - 1);
	memset(to, 'z', sizeof(to) - 1);
	if (chdir("/"))
		return AIO_NO_EVENT;

	if (aio && ret == 1) {
		ret = AIO_NO_EVENT;
		if (reap_one(ctx, &ev, AIO_PATIENCE_MS) == 1)
			ret = ev.obj == (uintptr_t)&cb &&
			      ev.data == (uintptr_t)&cb && !ev.res2 ?
			      ev.res : AIO_WRONG_EVENT;
	}
	umask(0);
	*seen = NULL;
	out = open_memstream(seen, &size);
	if (!out)
		return AIO_NO_EVENT;
	if (op == OPEN && ret >= 0) {
		show_file(out, ret, root);
		if ((c->flags & O_TMPFILE) == O_TMPFILE)
			show_linkable(out, ret, root);
		close(ret);
		ret = 0;
	}
	fclose(out);
	return ret;
}

/* May the tree be another one now? */
static bool is_change(enum path_op op, const struct path_case *c,
		      const long long ret[2])
{
	if (ret[0] < 0 && ret[1] < 0)
		return false;
	return op != OPEN || (c->flags & (O_CREAT | O_TRUNC)) ||
	       (c->flags & O_TMPFILE) == O_TMPFILE;
}

/* Is the result known before the path is looked at? */
static bool is_settled(enum path_op op, const struct path_case *c)
{
	return c->no_fds || !c->path[0] || (op == RENAME && !c->to[0]);
}

/* Gives whether they do not differ from each other, or from the first tree. */
static bool same_trees(const struct site *site, bool as_planted)
{
	char *now[2] = { picture(site->root[0]), picture(site->root[1]) };
	const char *want = as_planted ? site->planted : now[0];
	bool same = now[0] && now[1];
	int i;

	for (i = 0; same && i < 2; i++) {
		same = !strcmp(want, now[i]);
		if (!same)
			show_difference(want, now[i]);
	}
	free(now[0]);
	free(now[1]);
	return same;
}

static void same_case(struct __test_metadata *_metadata, struct site *site,
		      enum path_op op, const struct path_case *c,
		      aio_context_t ctx)
{
	char *seen[2] = { NULL };
	bool same = true;
	long long ret[2];
	int i;

	for (i = 0; i < 2; i++) {
		ret[i] = make_call(op, c, site->root[i], i, ctx, &seen[i]);
		ASSERT_TRUE(!!seen[i]) {
			log_case(op, c, site->base);
		}
	}
	/* Otherwise the tree is not what the case is about. */
	if (c->want != ANY) {
		EXPECT_EQ(-c->want, ret[0]) {
			same = false;
		}
	}
	EXPECT_EQ(ret[0], ret[1]) {
		same = false;
	}
	EXPECT_STREQ(seen[0], seen[1]) {
		same = false;
	}
	if (is_change(op, c, ret)) {
		EXPECT_TRUE(same_trees(site, false)) {
			same = false;
		}
		ASSERT_TRUE(replant(site, 0) && replant(site, 1)) {
			log_case(op, c, site->base);
		}
	}
	if (!same)
		log_case(op, c, site->base);
	free(seen[0]);
	free(seen[1]);
}

/*
 * A change that there should not be, by an open to read or a call that failed,
 * shows up where one that there should be is looked at, or at the end.
 */
static void same_cases(struct __test_metadata *_metadata,
		       const struct aio_env *env, bool force, enum path_op op,
		       const struct path_case *cases, int nr)
{
	struct aio_counts before, now;
	struct site site;
	int i, j, settled;
	char dir[256];

	for (i = 0; aio_test_dir(i, dir, sizeof(dir)); i++) {
		/* In a slow kernel once in each is enough. */
		if (i && !force && aio_slack() > 1)
			break;
		aio_counts_get(&before);
		ASSERT_TRUE(site_make(&site, dir)) {
			TH_LOG("%s: %s", dir, strerror(errno));
		}
		for (j = 0, settled = 0; j < nr; j++) {
			same_case(_metadata, &site, op, &cases[j], env->ctx);
			settled += is_settled(op, &cases[j]);
		}
		EXPECT_TRUE(same_trees(&site, true));
		EXPECT_EQ(0, site_remove(&site));
		/* And it was the right thread that made them. */
		aio_counts_since(&before, &now);
		EXPECT_LT(0, now.worker);
		if (force)
			EXPECT_GE(settled, now.at_once);
		EXPECT_EQ(0, now.native);
	}
	EXPECT_LT(0, i);
}

/* What only a program of 32 bits is told, without O_LARGEFILE. */
#if __SIZEOF_LONG__ == 4
#define BIG_RESULT	EOVERFLOW
#else
#define BIG_RESULT	0
#endif

/* And what is not as in most: where it begins, the umask, who, descriptors. */
#define OPENS(_path, _flags, _mode, _want, ...) {			\
	.path = _path, .flags = _flags, .mode = _mode, .want = _want,	\
	__VA_ARGS__							\
}

#define UNLINKS(_path, _flags, _want, ...) {				\
	.path = _path, .flags = _flags, .want = _want, __VA_ARGS__	\
}

#define RENAMES(_path, _to, _flags, _want, ...) {			\
	.path = _path, .to = _to, .flags = _flags, .want = _want,	\
	__VA_ARGS__							\
}

static const struct path_case open_cases[] = {
	/* what a file is opened for */
	OPENS("file", O_RDONLY, 0, 0),
	OPENS("file", O_WRONLY, 0, 0),
	OPENS("file", O_RDWR, 0, 0),
	OPENS("file", O_ACCMODE, 0, 0),
	OPENS("file", O_RDONLY, 0644, 0),
	OPENS("file", O_RDONLY | O_CLOEXEC, 0, 0),
	OPENS("file", O_WRONLY | O_APPEND, 0, 0),
	OPENS("file", O_RDWR | O_TRUNC, 0, 0),
	OPENS("file", O_RDONLY | O_TRUNC, 0, 0),
	OPENS("file", O_WRONLY | O_TRUNC | O_APPEND | O_CLOEXEC, 0, 0),
	OPENS("file", O_RDWR | O_SYNC, 0, 0),
	OPENS("file", O_RDWR | O_DSYNC, 0, 0),
	OPENS("file", O_RDWR | (O_SYNC & ~O_DSYNC), 0, 0),
	OPENS("file", O_RDONLY | O_NONBLOCK, 0, 0),
	OPENS("file", O_RDONLY | O_NOATIME, 0, 0),
	OPENS("file", O_RDONLY | O_NOCTTY, 0, 0),
	OPENS("file", O_RDONLY | O_ASYNC, 0, 0),
	OPENS("file", O_RDONLY | AIO_O_LARGEFILE, 0, 0),
	OPENS("file", O_RDWR | O_DIRECT, 0, ANY),
	OPENS("file", O_RDONLY | O_EXCL, 0, 0),
	OPENS("big", O_RDONLY, 0, BIG_RESULT),
	OPENS("big", O_RDONLY | O_NONBLOCK, 0, BIG_RESULT),
	OPENS("big", O_RDONLY | AIO_O_LARGEFILE, 0, 0),
	OPENS("big", O_WRONLY | O_TRUNC, 0, BIG_RESULT),

	/* files that are made */
	OPENS("new", O_CREAT | O_WRONLY, 0666, 0, .mask = 0),
	OPENS("new", O_CREAT | O_WRONLY, 0666, 0, .mask = 022),
	OPENS("new", O_CREAT | O_WRONLY, 0666, 0, .mask = 077),
	OPENS("new", O_CREAT | O_RDWR, 0777, 0, .mask = 022),
	OPENS("new", O_CREAT | O_RDWR, 07777, 0, .mask = 0),
	OPENS("new", O_CREAT | O_RDWR, 06755, 0, .mask = 077),
	OPENS("new", O_CREAT | O_RDONLY, 0, 0),
	OPENS("new", O_CREAT | O_RDWR, 0400, 0, .mask = 0777),
	OPENS("new", O_CREAT | O_EXCL | O_RDWR, 0600, 0),
	OPENS("new", O_CREAT | O_TRUNC | O_WRONLY, 0640, 0, .mask = 022),
	OPENS("new", O_CREAT | O_APPEND | O_SYNC | O_CLOEXEC | O_RDWR, 0600, 0),
	OPENS("new", O_CREAT | O_NOFOLLOW | O_WRONLY, 0600, 0),
	OPENS("new", O_CREAT | AIO_O_LARGEFILE | O_WRONLY, 0600, 0),
	OPENS("new", O_EXCL | O_WRONLY, 0600, ENOENT),
	OPENS("new/", O_CREAT | O_WRONLY, 0600, EISDIR),
	OPENS("new/.", O_CREAT | O_WRONLY, 0600, ENOENT),
	OPENS("file", O_CREAT | O_RDONLY, 0666, 0),
	OPENS("file", O_CREAT | O_TRUNC | O_WRONLY, 0600, 0),
	OPENS("file", O_CREAT | O_EXCL | O_WRONLY, 0600, EEXIST),
	OPENS("file/", O_CREAT | O_WRONLY, 0600, ANY),
	OPENS("link", O_CREAT | O_WRONLY, 0600, 0),
	OPENS("link", O_CREAT | O_EXCL | O_WRONLY, 0600, EEXIST),
	OPENS("link", O_CREAT | O_NOFOLLOW | O_WRONLY, 0600, ELOOP),
	OPENS("dangling", O_CREAT | O_WRONLY, 0644, 0, .mask = 022),
	OPENS("dangling", O_CREAT | O_EXCL | O_WRONLY, 0600, EEXIST),
	OPENS("dangling", O_CREAT | O_NOFOLLOW | O_WRONLY, 0600, ELOOP),
	OPENS("dangling", O_RDONLY, 0, ENOENT),
	OPENS("dir", O_CREAT | O_RDONLY, 0600, EISDIR),
	OPENS("dir", O_CREAT | O_EXCL | O_RDONLY, 0600, EEXIST),
	OPENS("missing/new", O_CREAT | O_WRONLY, 0600, ENOENT),
	OPENS("file/new", O_CREAT | O_WRONLY, 0600, ENOTDIR),
	OPENS("dir/new", O_CREAT | O_WRONLY, 0600, 0),
	OPENS("dirlink/new", O_CREAT | O_WRONLY, 0600, 0),
	OPENS("sgid/new", O_CREAT | O_WRONLY, 02771, 0, .mask = 022),
	OPENS("loop", O_CREAT | O_WRONLY, 0600, ELOOP),
	OPENS("fifo", O_CREAT | O_RDWR, 0600, 0),

	/* directories */
	OPENS("dir", O_RDONLY, 0, 0),
	OPENS("dir", O_RDONLY | O_DIRECTORY, 0, 0),
	OPENS("dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0, 0),
	OPENS("dir", O_WRONLY, 0, EISDIR),
	OPENS("dir", O_RDWR | O_DIRECTORY, 0, EISDIR),
	OPENS("dir", O_RDONLY | O_TRUNC, 0, EISDIR),
	OPENS("file", O_RDONLY | O_DIRECTORY, 0, ENOTDIR),
	OPENS("link", O_RDONLY | O_DIRECTORY, 0, ENOTDIR),
	OPENS("dirlink", O_RDONLY | O_DIRECTORY, 0, 0),
	OPENS("dirlink", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, ANY),
	OPENS("dir", O_CREAT | O_DIRECTORY, 0700, EINVAL),
	OPENS("new", O_CREAT | O_DIRECTORY, 0700, EINVAL),
	OPENS("new", O_CREAT | O_DIRECTORY | O_EXCL | O_RDWR, 0700, EINVAL),

	/* symbolic links */
	OPENS("link", O_RDONLY, 0, 0),
	OPENS("link", O_RDONLY | O_NOFOLLOW, 0, ELOOP),
	OPENS("link", O_PATH, 0, 0),
	OPENS("link", O_PATH | O_NOFOLLOW, 0, 0),
	OPENS("link", O_PATH | O_NOFOLLOW | O_CLOEXEC, 0, 0),
	OPENS("link", O_PATH | O_NOFOLLOW | O_DIRECTORY, 0, ENOTDIR),
	OPENS("link", O_RDONLY | O_TRUNC, 0, 0),
	OPENS("link/", O_RDONLY, 0, ENOTDIR),
	OPENS("file", O_RDONLY | O_NOFOLLOW, 0, 0),
	OPENS("dirlink", O_RDONLY, 0, 0),
	OPENS("dirlink/", O_RDONLY | O_NOFOLLOW, 0, 0),
	OPENS("dirlink/file", O_RDONLY | O_NOFOLLOW, 0, 0),
	OPENS("dangling", O_PATH, 0, ENOENT),
	OPENS("dangling", O_PATH | O_NOFOLLOW, 0, 0),
	OPENS("abs", O_RDONLY, 0, 0),
	OPENS("absdir/file", O_RDONLY, 0, 0),
	OPENS("up", O_RDONLY, 0, 0),
	OPENS("slash", O_RDONLY, 0, 0),
	OPENS("slash/file", O_RDONLY, 0, 0),
	OPENS("fileslash", O_RDONLY, 0, ENOTDIR),
	OPENS("loop", O_RDONLY, 0, ELOOP),
	OPENS("loop/x", O_RDONLY, 0, ELOOP),
	OPENS("ring1", O_RDONLY, 0, ELOOP),
	OPENS("ring1", O_PATH | O_NOFOLLOW, 0, 0),

	/* names without a file to read or write */
	OPENS("file", O_PATH, 0, 0),
	OPENS("file", O_PATH | O_RDWR | O_CREAT | O_TRUNC, 0600, 0),
	OPENS("missing", O_PATH | O_CREAT, 0600, ENOENT),
	OPENS("dir", O_PATH, 0, 0),
	OPENS("dir", O_PATH | O_DIRECTORY, 0, 0),
	OPENS("file", O_PATH | O_DIRECTORY, 0, ENOTDIR),
	OPENS("fifo", O_PATH, 0, 0),
	OPENS("sock", O_PATH, 0, 0),

	/* files without a name */
	OPENS("dir", O_TMPFILE | O_RDWR, 0666, 0, .mask = 022),
	OPENS("dir", O_TMPFILE | O_RDWR, 0777, 0, .mask = 077),
	OPENS("dir", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600, 0),
	OPENS("dir", O_TMPFILE | O_RDWR | O_EXCL, 0600, 0),
	OPENS("dir", O_TMPFILE | O_RDWR | O_APPEND | O_DSYNC, 0600, 0),
	OPENS(".", O_TMPFILE | O_RDWR, 04755, 0, .at = DIR_FD),
	OPENS("dirlink", O_TMPFILE | O_RDWR, 0600, 0),
	OPENS("sgid", O_TMPFILE | O_RDWR, 0660, 0),
	OPENS("dir", O_TMPFILE | O_RDONLY, 0600, EINVAL),
	OPENS("dir", (O_TMPFILE & ~O_DIRECTORY) | O_RDWR, 0600, EINVAL),
	OPENS("dir", O_TMPFILE | O_CREAT | O_RDWR, 0600, EINVAL),
	OPENS("file", O_TMPFILE | O_RDWR, 0600, ENOTDIR),
	OPENS("missing", O_TMPFILE | O_RDWR, 0600, ENOENT),

	/* what opening means something else for */
	OPENS("fifo", O_RDONLY | O_NONBLOCK, 0, 0),
	OPENS("fifo", O_WRONLY | O_NONBLOCK, 0, ENXIO),
	OPENS("fifo", O_RDWR, 0, 0),
	OPENS("sock", O_RDONLY, 0, ENXIO),
	OPENS("/dev/null", O_RDWR, 0, 0),
	OPENS("/dev/null", O_WRONLY | O_CREAT | O_TRUNC, 0666, 0),

	/* paths */
	OPENS("", O_RDONLY, 0, ENOENT),
	OPENS("", O_PATH, 0, ENOENT),
	OPENS("", O_CREAT | O_WRONLY, 0600, ENOENT),
	OPENS(".", O_RDONLY, 0, 0),
	OPENS(".", O_CREAT | O_RDONLY, 0600, EISDIR),
	OPENS("..", O_RDONLY, 0, 0),
	OPENS("../..", O_PATH, 0, 0),
	OPENS("/", O_RDONLY, 0, 0),
	OPENS("//", O_PATH, 0, 0),
	OPENS("/..", O_RDONLY | O_DIRECTORY, 0, 0),
	OPENS("/", O_CREAT | O_RDONLY, 0600, EISDIR),
	OPENS("dir/../file", O_RDONLY, 0, 0),
	OPENS("dir/sub/../../file", O_RDONLY, 0, 0),
	OPENS("dir/..", O_RDONLY, 0, 0),
	OPENS(".//dir///file", O_RDONLY, 0, 0),
	OPENS("dir/", O_RDONLY, 0, 0),
	OPENS("dir/.", O_RDONLY, 0, 0),
	OPENS("file/", O_RDONLY, 0, ENOTDIR),
	OPENS("file/.", O_RDONLY, 0, ENOTDIR),
	OPENS("file/..", O_RDONLY, 0, ENOTDIR),
	OPENS("file/x", O_RDONLY, 0, ENOTDIR),
	OPENS("missing", O_RDONLY, 0, ENOENT),
	OPENS("missing", O_RDWR | O_TRUNC, 0, ENOENT),
	OPENS("missing/..", O_RDONLY, 0, ENOENT),
	OPENS("missing/", O_RDONLY, 0, ENOENT),
	OPENS("@/file", O_RDONLY, 0, 0),
	OPENS("@/dir/../new", O_CREAT | O_WRONLY, 0666, 0, .mask = 022),
	OPENS("%255", O_RDONLY, 0, ENOENT),
	OPENS("%255", O_CREAT | O_WRONLY, 0600, 0),
	OPENS("%256", O_RDONLY, 0, ENAMETOOLONG),
	OPENS("%256", O_CREAT | O_WRONLY, 0600, ENAMETOOLONG),
	OPENS("=4095/file", O_RDONLY, 0, 0),
	OPENS("=4095/new", O_CREAT | O_WRONLY, 0600, 0),
	OPENS("=4096/file", O_RDONLY, 0, ENAMETOOLONG),
	OPENS("=4096/new", O_CREAT | O_WRONLY, 0600, ENAMETOOLONG),

	/* what they begin at */
	OPENS("file", O_RDONLY, 0, 0, .at = DIR_FD),
	OPENS("new", O_CREAT | O_RDWR, 0666, 0, .at = DIR_FD, .mask = 022),
	OPENS("../file", O_RDONLY, 0, 0, .at = DIR_FD),
	OPENS(".", O_PATH, 0, 0, .at = DIR_FD),
	OPENS("", O_RDONLY, 0, ENOENT, .at = DIR_FD),
	OPENS("", O_RDONLY | O_EMPTYPATH, 0, ANY, .at = DIR_FD),
	OPENS("@/file", O_RDONLY, 0, 0, .at = DIR_FD),
	OPENS("file", O_RDWR, 0, 0, .at = DIR_PATH),
	OPENS("new", O_CREAT | O_RDWR, 0666, 0, .at = DIR_PATH, .mask = 077),
	OPENS(".", O_RDONLY, 0, 0, .at = DIR_PATH),
	OPENS("x", O_RDONLY, 0, ENOTDIR, .at = FILE_FD),
	OPENS("x", O_CREAT | O_RDWR, 0600, ENOTDIR, .at = FILE_FD),
	OPENS(".", O_PATH, 0, ENOTDIR, .at = FILE_FD),
	OPENS("", O_RDONLY, 0, ENOENT, .at = FILE_FD),
	OPENS("", O_RDWR | O_EMPTYPATH, 0, ANY, .at = FILE_FD),
	OPENS("@/file", O_RDONLY, 0, 0, .at = FILE_FD),
	OPENS("x", O_RDONLY, 0, ENOTDIR, .at = FILE_PATH),
	OPENS("", O_RDWR | O_EMPTYPATH, 0, ANY, .at = FILE_PATH),
	OPENS("", O_PATH | O_EMPTYPATH, 0, ANY, .at = FILE_PATH),
	OPENS("", O_RDONLY | O_EMPTYPATH, 0, ANY),
	OPENS("", O_RDONLY | O_EMPTYPATH, 0, ANY, .at = GONE_FD),
	OPENS("", O_RDONLY | O_EMPTYPATH, 0, ANY, .at = NO_FD),
	OPENS("file", O_RDONLY, 0, EBADF, .at = NO_FD),
	OPENS("new", O_CREAT | O_WRONLY, 0600, EBADF, .at = NO_FD),
	OPENS("@/file", O_RDONLY, 0, 0, .at = NO_FD),
	OPENS("@/new", O_CREAT | O_WRONLY, 0600, 0, .at = NO_FD),
	OPENS("", O_RDONLY, 0, ENOENT, .at = NO_FD),
	OPENS("file", O_RDONLY, 0, EBADF, .at = NEGATIVE),
	OPENS("@/file", O_RDONLY, 0, 0, .at = NEGATIVE),
	OPENS("x", O_RDONLY, 0, ENOENT, .at = GONE_FD),
	OPENS("x", O_CREAT | O_WRONLY, 0600, ENOENT, .at = GONE_FD),
	OPENS(".", O_RDONLY, 0, 0, .at = GONE_FD),

	/* permissions */
	OPENS("file", O_RDONLY, 0, 0, .nobody = true),
	OPENS("file", O_WRONLY, 0, EACCES, .nobody = true),
	OPENS("file", O_RDONLY | O_TRUNC, 0, EACCES, .nobody = true),
	OPENS("file", O_RDONLY | O_NOATIME, 0, EPERM, .nobody = true),
	OPENS("secret", O_RDONLY, 0, EACCES, .nobody = true),
	OPENS("secret", O_PATH, 0, 0, .nobody = true),
	OPENS("closed", O_RDONLY, 0, EACCES, .nobody = true),
	OPENS("closed/file", O_RDONLY, 0, EACCES, .nobody = true),
	OPENS("closed/file", O_PATH, 0, EACCES, .nobody = true),
	OPENS("closed/missing", O_RDONLY, 0, EACCES, .nobody = true),
	OPENS("new", O_CREAT | O_WRONLY, 0666, EACCES, .nobody = true),
	OPENS("file", O_CREAT | O_RDONLY, 0666, 0, .nobody = true),
	OPENS("open/new", O_CREAT | O_WRONLY, 0666, 0, .mask = 027,
	      .nobody = true),
	OPENS("open/new", O_CREAT | O_RDWR, 0, 0, .nobody = true),
	OPENS("open", O_TMPFILE | O_RDWR, 0600, 0, .nobody = true),
	OPENS("dir", O_TMPFILE | O_RDWR, 0600, EACCES, .nobody = true),
	OPENS("sgid/new", O_CREAT | O_WRONLY, 0666, 0, .nobody = true),
	OPENS("sticky/file", O_CREAT | O_WRONLY, 0666, ANY, .nobody = true),
	OPENS("new", O_CREAT | O_WRONLY, 02666, 0, .at = OPEN_FD,
	      .nobody = true),
	OPENS("=4095/secret", O_RDONLY, 0, EACCES, .nobody = true),

	/* mounts */
	OPENS("mnt/inner", O_RDONLY, 0, 0),
	OPENS("mnt", O_RDONLY, 0, 0),
	OPENS("mnt/../file", O_RDONLY, 0, 0),
	OPENS("mnt/new", O_CREAT | O_WRONLY, 0600, 0),
	OPENS("mfile", O_RDONLY, 0, 0),
	OPENS("ro/file", O_RDONLY, 0, 0),
	OPENS("ro/file", O_CREAT | O_RDONLY, 0600, 0),
	OPENS("ro/file", O_WRONLY, 0, EROFS),
	OPENS("ro/file", O_RDWR | O_APPEND, 0, EROFS),
	OPENS("ro/file", O_RDONLY | O_TRUNC, 0, EROFS),
	OPENS("ro/file", O_CREAT | O_EXCL | O_WRONLY, 0600, EEXIST),
	OPENS("ro/file", O_WRONLY, 0, ANY, .nobody = true),
	OPENS("ro/new", O_CREAT | O_WRONLY, 0600, EROFS),
	OPENS("ro/dir", O_TMPFILE | O_RDWR, 0600, EROFS),

	/* no descriptor to be had: and nothing is made or cut off */
	OPENS("file", O_RDONLY, 0, EMFILE, .no_fds = true),
	OPENS("file", O_PATH, 0, EMFILE, .no_fds = true),
	OPENS("file", O_WRONLY | O_TRUNC, 0, EMFILE, .no_fds = true),
	OPENS("new", O_CREAT | O_WRONLY, 0600, EMFILE, .no_fds = true),
	OPENS("missing", O_RDONLY, 0, EMFILE, .no_fds = true),
	OPENS("dir", O_TMPFILE | O_RDWR, 0600, EMFILE, .no_fds = true),
};

static const struct path_case unlink_cases[] = {
	UNLINKS("file", 0, 0),
	UNLINKS("one", 0, 0),
	UNLINKS("two", 0, 0),
	UNLINKS("link", 0, 0),
	UNLINKS("dirlink", 0, 0),
	UNLINKS("dangling", 0, 0),
	UNLINKS("loop", 0, 0),
	UNLINKS("fifo", 0, 0),
	UNLINKS("sock", 0, 0),
	UNLINKS("big", 0, 0),
	UNLINKS("dir", 0, EISDIR),
	UNLINKS("empty", 0, EISDIR),
	UNLINKS("empty/", 0, EISDIR),
	UNLINKS("file/", 0, ENOTDIR),
	UNLINKS("link/", 0, ENOTDIR),
	UNLINKS("dirlink/", 0, ENOTDIR),
	UNLINKS("missing", 0, ENOENT),
	UNLINKS("missing/", 0, ENOENT),
	UNLINKS("missing/file", 0, ENOENT),
	UNLINKS("file/x", 0, ENOTDIR),
	UNLINKS("loop/x", 0, ELOOP),
	UNLINKS(".", 0, EISDIR),
	UNLINKS("..", 0, EISDIR),
	UNLINKS("dir/.", 0, EISDIR),
	UNLINKS("dir/..", 0, EISDIR),
	UNLINKS("/", 0, EISDIR),
	UNLINKS("", 0, ENOENT),
	UNLINKS("dir/file", 0, 0),
	UNLINKS("dirlink/file", 0, 0),
	UNLINKS("absdir/file", 0, 0),
	UNLINKS("dir/../file", 0, 0),
	UNLINKS("@/file", 0, 0),
	UNLINKS("%255", 0, ENOENT),
	UNLINKS("%256", 0, ENAMETOOLONG),
	UNLINKS("=4095/file", 0, 0),
	UNLINKS("=4096/file", 0, ENAMETOOLONG),

	UNLINKS("empty", AT_REMOVEDIR, 0),
	UNLINKS("empty/", AT_REMOVEDIR, 0),
	UNLINKS("empty//", AT_REMOVEDIR, 0),
	UNLINKS("dir", AT_REMOVEDIR, ENOTEMPTY),
	UNLINKS("dir/sub", AT_REMOVEDIR, 0),
	UNLINKS("dirlink/sub", AT_REMOVEDIR, 0),
	UNLINKS("@/empty", AT_REMOVEDIR, 0),
	UNLINKS("file", AT_REMOVEDIR, ENOTDIR),
	UNLINKS("file/", AT_REMOVEDIR, ENOTDIR),
	UNLINKS("fifo", AT_REMOVEDIR, ENOTDIR),
	UNLINKS("link", AT_REMOVEDIR, ENOTDIR),
	UNLINKS("dirlink", AT_REMOVEDIR, ENOTDIR),
	UNLINKS("dirlink/", AT_REMOVEDIR, ENOTDIR),
	UNLINKS("dangling", AT_REMOVEDIR, ENOTDIR),
	UNLINKS("missing", AT_REMOVEDIR, ENOENT),
	UNLINKS(".", AT_REMOVEDIR, EINVAL),
	UNLINKS("..", AT_REMOVEDIR, ENOTEMPTY),
	UNLINKS("empty/.", AT_REMOVEDIR, EINVAL),
	UNLINKS("empty/..", AT_REMOVEDIR, ENOTEMPTY),
	UNLINKS("/", AT_REMOVEDIR, EBUSY),
	UNLINKS("", AT_REMOVEDIR, ENOENT),
	UNLINKS("%256", AT_REMOVEDIR, ENAMETOOLONG),
	UNLINKS("=4096/empty", AT_REMOVEDIR, ENAMETOOLONG),

	UNLINKS("file", 0, 0, .at = DIR_FD),
	UNLINKS("../file", 0, 0, .at = DIR_FD),
	UNLINKS("sub", AT_REMOVEDIR, 0, .at = DIR_FD),
	UNLINKS("../empty", AT_REMOVEDIR, 0, .at = DIR_FD),
	UNLINKS("", AT_REMOVEDIR, ENOENT, .at = EMPTY_FD),
	UNLINKS(".", AT_REMOVEDIR, EINVAL, .at = EMPTY_FD),
	UNLINKS("file", 0, 0, .at = DIR_PATH),
	UNLINKS("sub", AT_REMOVEDIR, 0, .at = DIR_PATH),
	UNLINKS("x", 0, ENOTDIR, .at = FILE_FD),
	UNLINKS("x", AT_REMOVEDIR, ENOTDIR, .at = FILE_PATH),
	UNLINKS("x", 0, ENOENT, .at = GONE_FD),
	UNLINKS("file", 0, EBADF, .at = NO_FD),
	UNLINKS("empty", AT_REMOVEDIR, EBADF, .at = NEGATIVE),
	UNLINKS("@/file", 0, 0, .at = NO_FD),
	UNLINKS("@/empty", AT_REMOVEDIR, 0, .at = NEGATIVE),

	UNLINKS("file", 0, EACCES, .nobody = true),
	UNLINKS("closed/file", 0, EACCES, .nobody = true),
	UNLINKS("closed/missing", 0, EACCES, .nobody = true),
	UNLINKS("open/file", 0, 0, .nobody = true),
	UNLINKS("file", 0, 0, .at = OPEN_FD, .nobody = true),
	UNLINKS("open/dir", AT_REMOVEDIR, 0, .nobody = true),
	UNLINKS("empty", AT_REMOVEDIR, EACCES, .nobody = true),
	UNLINKS("sticky/file", 0, EPERM, .nobody = true),
	UNLINKS("sticky/mine", 0, 0, .nobody = true),

	UNLINKS("mnt", 0, EISDIR),
	UNLINKS("mnt", AT_REMOVEDIR, EBUSY),
	UNLINKS("mnt/", AT_REMOVEDIR, EBUSY),
	UNLINKS("mnt/.", AT_REMOVEDIR, EINVAL),
	UNLINKS("mnt/inner", 0, 0),
	UNLINKS("mnt/dir", AT_REMOVEDIR, 0),
	UNLINKS("mfile", 0, EBUSY),
	UNLINKS("ro", AT_REMOVEDIR, EBUSY),
	UNLINKS("ro/file", 0, EROFS),
	UNLINKS("ro/dir", AT_REMOVEDIR, EROFS),
	UNLINKS("ro/missing", 0, ANY),
};

static const struct path_case rename_cases[] = {
	RENAMES("file", "new", 0, 0),
	RENAMES("file", "other", 0, 0),
	RENAMES("file", "dir/new", 0, 0),
	RENAMES("dir/file", "file", 0, 0),
	RENAMES("file", "file", 0, 0),
	RENAMES("file", "dir/../file", 0, 0),
	RENAMES("one", "two", 0, 0),
	RENAMES("one", "file", 0, 0),
	RENAMES("file", "two", 0, 0),
	RENAMES("fifo", "file", 0, 0),
	RENAMES("sock", "new", 0, 0),
	RENAMES("dir", "new", 0, 0),
	RENAMES("dir", "empty", 0, 0),
	RENAMES("dir", "full", 0, ENOTEMPTY),
	RENAMES("dir", "file", 0, ENOTDIR),
	RENAMES("dir", "link", 0, ENOTDIR),
	RENAMES("dir", "dir", 0, 0),
	RENAMES("file", "dir", 0, EISDIR),
	RENAMES("file", "empty", 0, EISDIR),
	RENAMES("tree", "tree/x", 0, EINVAL),
	RENAMES("tree", "tree/sub", 0, EINVAL),
	RENAMES("tree", "tree/sub/x", 0, EINVAL),
	RENAMES("tree/sub", "tree", 0, ENOTEMPTY),
	RENAMES("tree/sub", "sub", 0, 0),
	RENAMES("tree/sub", "dir/sub", 0, 0),
	RENAMES("dir/sub", "tree/new", 0, 0),
	RENAMES("link", "new", 0, 0),
	RENAMES("link", "other", 0, 0),
	RENAMES("file", "link", 0, 0),
	RENAMES("dirlink", "new", 0, 0),
	RENAMES("dangling", "new", 0, 0),
	RENAMES("file", "dangling", 0, 0),
	RENAMES("loop", "new", 0, 0),
	RENAMES("missing", "new", 0, ENOENT),
	RENAMES("missing", "file", 0, ENOENT),
	RENAMES("missing/file", "new", 0, ENOENT),
	RENAMES("file", "missing/new", 0, ENOENT),
	RENAMES("file", "other/new", 0, ENOTDIR),
	RENAMES("file/x", "new", 0, ENOTDIR),
	RENAMES("loop/x", "new", 0, ELOOP),
	RENAMES("file", "loop/x", 0, ELOOP),
	RENAMES("file/", "new", 0, ENOTDIR),
	RENAMES("file", "new/", 0, ENOTDIR),
	RENAMES("file", "other/", 0, ENOTDIR),
	RENAMES("dir/", "new", 0, 0),
	RENAMES("dir", "new/", 0, 0),
	RENAMES("dir/", "empty/", 0, 0),
	RENAMES("dirlink/", "new", 0, ENOTDIR),
	RENAMES("link/", "new", 0, ENOTDIR),
	RENAMES(".", "new", 0, EBUSY),
	RENAMES("..", "new", 0, EBUSY),
	RENAMES("dir/.", "new", 0, EBUSY),
	RENAMES("dir/..", "new", 0, EBUSY),
	RENAMES("dir", ".", 0, EBUSY),
	RENAMES("file", "dir/..", 0, EBUSY),
	RENAMES("", "new", 0, ENOENT),
	RENAMES("file", "", 0, ENOENT),
	RENAMES("@/file", "@/dir/new", 0, 0),
	RENAMES("absdir/file", "abs", 0, 0),
	RENAMES("file", "%255", 0, 0),
	RENAMES("file", "%256", 0, ENAMETOOLONG),
	RENAMES("%256", "new", 0, ENAMETOOLONG),
	RENAMES("=4095/file", "=4095/new", 0, 0),
	RENAMES("=4096/file", "new", 0, ENAMETOOLONG),
	RENAMES("file", "=4096/new", 0, ENAMETOOLONG),

	RENAMES("file", "new", RENAME_NOREPLACE, 0),
	RENAMES("dir", "new", RENAME_NOREPLACE, 0),
	RENAMES("file", "other", RENAME_NOREPLACE, EEXIST),
	RENAMES("file", "file", RENAME_NOREPLACE, EEXIST),
	RENAMES("file", "dangling", RENAME_NOREPLACE, EEXIST),
	RENAMES("file", "dir", RENAME_NOREPLACE, EEXIST),
	RENAMES("dir", "empty", RENAME_NOREPLACE, EEXIST),
	RENAMES("one", "two", RENAME_NOREPLACE, EEXIST),
	RENAMES("file", ".", RENAME_NOREPLACE, EEXIST),
	RENAMES("missing", "new", RENAME_NOREPLACE, ENOENT),

	RENAMES("file", "other", RENAME_EXCHANGE, 0),
	RENAMES("file", "dir", RENAME_EXCHANGE, 0),
	RENAMES("dir", "full", RENAME_EXCHANGE, 0),
	RENAMES("dir/file", "full/file", RENAME_EXCHANGE, 0),
	RENAMES("dir/sub", "file", RENAME_EXCHANGE, 0),
	RENAMES("link", "dir", RENAME_EXCHANGE, 0),
	RENAMES("file", "file", RENAME_EXCHANGE, 0),
	RENAMES("one", "two", RENAME_EXCHANGE, 0),
	RENAMES("file", "new", RENAME_EXCHANGE, ENOENT),
	RENAMES("missing", "file", RENAME_EXCHANGE, ENOENT),
	RENAMES("tree", "tree/sub", RENAME_EXCHANGE, EINVAL),
	RENAMES("tree/sub", "tree", RENAME_EXCHANGE, EINVAL),
	RENAMES("dir/", "file", RENAME_EXCHANGE, 0),
	RENAMES("file", "dir/", RENAME_EXCHANGE, 0),
	RENAMES("file/", "dir", RENAME_EXCHANGE, ENOTDIR),
	RENAMES("dir", "file/", RENAME_EXCHANGE, ENOTDIR),

	RENAMES("file", "new", RENAME_WHITEOUT, 0),
	RENAMES("file", "other", RENAME_WHITEOUT, 0),
	RENAMES("dir", "new", RENAME_WHITEOUT, 0),
	RENAMES("dir/file", "full/new", RENAME_WHITEOUT, 0),
	RENAMES("file", "new", RENAME_WHITEOUT | RENAME_NOREPLACE, 0),
	RENAMES("file", "other", RENAME_WHITEOUT | RENAME_NOREPLACE, EEXIST),
	RENAMES("open/file", "open/new", RENAME_WHITEOUT, ANY, .nobody = true),

	RENAMES("file", "other", RENAME_NOREPLACE | RENAME_EXCHANGE, EINVAL),
	RENAMES("file", "other", RENAME_WHITEOUT | RENAME_EXCHANGE, EINVAL),
	RENAMES("file", "other",
		RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT, EINVAL),

	RENAMES("file", "file", 0, 0, .at = DIR_FD),
	RENAMES("file", "new", 0, 0, .at = DIR_FD, .to_at = EMPTY_FD),
	RENAMES("sub", "new", 0, 0, .at = DIR_FD, .to_at = EMPTY_FD),
	RENAMES("file", "new", 0, 0, .at = DIR_FD, .to_at = DIR_PATH),
	RENAMES("file", "file", 0, 0, .at = DIR_PATH, .to_at = OPEN_FD),
	RENAMES("file", "file", RENAME_EXCHANGE, 0, .at = DIR_FD,
		.to_at = OPEN_FD),
	RENAMES("file", "file", RENAME_NOREPLACE, EEXIST, .at = DIR_FD,
		.to_at = OPEN_FD),
	RENAMES("../file", "../new", 0, 0, .at = DIR_FD, .to_at = EMPTY_FD),
	RENAMES("file", "new", 0, 0, .to_at = DIR_FD),
	RENAMES("x", "new", 0, ENOTDIR, .at = FILE_FD),
	RENAMES("file", "x", 0, ENOTDIR, .to_at = FILE_FD),
	RENAMES("file", "x", 0, ENOTDIR, .to_at = FILE_PATH),
	RENAMES("x", "new", 0, ENOENT, .at = GONE_FD),
	RENAMES("file", "x", 0, ENOENT, .to_at = GONE_FD),
	RENAMES("file", "new", 0, EBADF, .at = NO_FD),
	RENAMES("file", "new", 0, EBADF, .to_at = NO_FD),
	RENAMES("file", "new", 0, EBADF, .at = NEGATIVE, .to_at = NEGATIVE),
	RENAMES("@/file", "new", 0, 0, .at = NO_FD, .to_at = DIR_FD),
	RENAMES("file", "@/new", 0, 0, .at = DIR_FD, .to_at = NEGATIVE),
	RENAMES("@/file", "@/new", 0, 0, .at = FILE_FD, .to_at = FILE_PATH),

	RENAMES("mnt/inner", "mnt/new", 0, 0),
	RENAMES("mnt/inner", "mnt/dir", RENAME_EXCHANGE, 0),
	RENAMES("file", "mnt/new", 0, EXDEV),
	RENAMES("mnt/inner", "file", 0, EXDEV),
	RENAMES("missing", "mnt/new", 0, EXDEV),
	RENAMES("mnt", "new", 0, EBUSY),
	RENAMES("empty", "mnt", 0, EBUSY),
	RENAMES("dir", "mnt", RENAME_EXCHANGE, EBUSY),
	RENAMES("mfile", "new", 0, EBUSY),
	RENAMES("file", "mfile", 0, EBUSY),
	RENAMES("file", "ro/new", 0, EXDEV),
	RENAMES("ro/file", "new", 0, EXDEV),
	RENAMES("ro/file", "ro/new", 0, EROFS),
	RENAMES("file", "/dev/null", 0, EXDEV),

	RENAMES("file", "new", 0, EACCES, .nobody = true),
	RENAMES("closed/file", "open/new", 0, EACCES, .nobody = true),
	RENAMES("open/file", "new", 0, EACCES, .nobody = true),
	RENAMES("open/file", "open/new", 0, 0, .nobody = true),
	RENAMES("file", "new", 0, 0, .at = OPEN_FD, .to_at = OPEN_FD,
		.nobody = true),
	RENAMES("open/dir", "sticky/new", 0, EACCES, .nobody = true),
	RENAMES("sticky/file", "open/new", 0, EPERM, .nobody = true),
	RENAMES("sticky/mine", "open/new", 0, 0, .nobody = true),
	RENAMES("open/file", "sticky/file", 0, EPERM, .nobody = true),
	RENAMES("sticky/mine", "sticky/file", RENAME_EXCHANGE, EPERM,
		.nobody = true),
};

TEST_F_TIMEOUT(path, open_as_openat, 300)
{
	same_cases(_metadata, &self->env, variant->force, OPEN, open_cases,
		   ARRAY_SIZE(open_cases));
}

TEST_F_TIMEOUT(path, unlink_as_unlinkat, 300)
{
	same_cases(_metadata, &self->env, variant->force, UNLINK, unlink_cases,
		   ARRAY_SIZE(unlink_cases));
}

TEST_F_TIMEOUT(path, rename_as_renameat2, 300)
{
	same_cases(_metadata, &self->env, variant->force, RENAME, rename_cases,
		   ARRAY_SIZE(rename_cases));
}

/* ---- requests that io_submit() refuses ---- */

static void refuse(struct __test_metadata *_metadata, aio_context_t ctx,
		   int err, struct iocb *cb, int line)
{
	EXPECT_EQ(-err, submit_one(ctx, cb)) {
		TH_LOG("line %d: opcode %d fd %d buf %llx nbytes %llx offset %llx rw_flags %x",
		       line, cb->aio_lio_opcode, (int)cb->aio_fildes,
		       (unsigned long long)cb->aio_buf,
		       (unsigned long long)cb->aio_nbytes,
		       (unsigned long long)cb->aio_offset,
		       (unsigned int)cb->aio_rw_flags);
	}
}

#define EXPECT_REFUSED(ctx, err, cb)					\
	refuse(_metadata, ctx, err, cb, __LINE__)

/* What requests that are refused must leave as it was. */
struct untouched {
	int	fds;
	int	next;
};

static void victims_make(struct __test_metadata *_metadata,
			 struct untouched *u)
{
	ASSERT_TRUE(aio_put("victim", "victim") && !mkdir("victims", 0755));
	u->fds = aio_count_fds();
	u->next = aio_next_fd();
}

static void expect_untouched(struct __test_metadata *_metadata,
			     const struct aio_env *env,
			     const struct untouched *u)
{
	EXPECT_TRUE(aio_no_event(env->ctx));
	EXPECT_TRUE(aio_exists("victim"));
	EXPECT_TRUE(aio_exists("victims"));
	EXPECT_FALSE(aio_exists("new"));
	EXPECT_EQ(u->fds, aio_count_fds());
	EXPECT_EQ(u->next, aio_next_fd());
	EXPECT_TRUE(wait_stat("objects", "==", env->objects,
			      AIO_PATIENCE_MS));
}

/* What no request of these may have. */
static void reserved_fields(struct __test_metadata *_metadata,
			    aio_context_t ctx, const struct iocb *good)
{
	struct iocb cb;
	int bit;

	for (bit = 0; bit < 32; bit++) {
		cb = *good;
		cb.aio_rw_flags = 1U << bit;
		EXPECT_REFUSED(ctx, EINVAL, &cb);
	}
	cb = *good;
	cb.aio_reserved2 = 1;
	EXPECT_REFUSED(ctx, EINVAL, &cb);

	/* What any request may have is checked for these, too. */
	cb = *good;
	cb.aio_flags = IOCB_FLAG_RESFD;
	cb.aio_resfd = 9999;
	EXPECT_REFUSED(ctx, EBADF, &cb);
	cb = *good;
	cb.aio_flags = IOCB_FLAG_IOPRIO;
	cb.aio_reqprio = IOPRIO_PRIO_VALUE(6, 0);
	EXPECT_REFUSED(ctx, EINVAL, &cb);
}

TEST_F(path, malformed_open)
{
	static const __u64 lengths[] = { 1, 8, 1ULL << 32, ~0ULL };
	struct untouched u;
	struct iocb cb;
	size_t i;
	int bit;

	victims_make(_metadata, &u);
	iocb_openat(&cb, AT_FDCWD, "new", O_CREAT | O_WRONLY, 0600);
	reserved_fields(_metadata, self->ctx, &cb);
	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		cb.aio_nbytes = lengths[i];
		EXPECT_REFUSED(self->ctx, EINVAL, &cb);
	}
	/* openat(2) ignores flags that it does not know. */
	for (bit = 0; bit < 32; bit++) {
		if ((1U << bit) & OPEN_FLAGS)
			continue;
		iocb_openat(&cb, AT_FDCWD, "new",
			    O_CREAT | O_WRONLY | 1U << bit, 0600);
		EXPECT_REFUSED(self->ctx, EINVAL, &cb);
	}
	expect_untouched(_metadata, &self->env, &u);
}

TEST_F(path, malformed_unlink)
{
	static const __u64 lengths[] = { 1, 8, 1ULL << 32, ~0ULL };
	struct untouched u;
	struct iocb cb;
	size_t i;
	int bit;

	victims_make(_metadata, &u);
	iocb_unlinkat(&cb, AT_FDCWD, "victim", 0);
	reserved_fields(_metadata, self->ctx, &cb);
	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		cb.aio_nbytes = lengths[i];
		EXPECT_REFUSED(self->ctx, EINVAL, &cb);
	}
	for (bit = 0; bit < 64; bit++) {
		iocb_unlinkat(&cb, AT_FDCWD, "victim", 0);
		cb.aio_offset = 1ULL << bit;
		if (cb.aio_offset != AT_REMOVEDIR)
			EXPECT_REFUSED(self->ctx, EINVAL, &cb);
		iocb_unlinkat(&cb, AT_FDCWD, "victims", 0);
		cb.aio_offset = AT_REMOVEDIR | 1ULL << bit;
		if (cb.aio_offset != AT_REMOVEDIR)
			EXPECT_REFUSED(self->ctx, EINVAL, &cb);
	}
	expect_untouched(_metadata, &self->env, &u);
}

TEST_F(path, malformed_rename)
{
	static const __u64 lengths[] = {
		0, 8, 39, 41, 48, 40 | 1ULL << 32, ~0ULL,
	};
	struct renameat_info info;
	struct untouched u;
	struct iocb cb;
	size_t i;
	int bit;

	ASSERT_EQ(40, (int)sizeof(info));
	victims_make(_metadata, &u);
	iocb_renameat(&cb, &info, AT_FDCWD, "victim", AT_FDCWD, "new", 0);
	reserved_fields(_metadata, self->ctx, &cb);
	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		cb.aio_nbytes = lengths[i];
		EXPECT_REFUSED(self->ctx, EINVAL, &cb);
	}
	cb.aio_nbytes = sizeof(info);
	for (bit = 0; bit < 64; bit++) {
		cb.aio_offset = 1ULL << bit;
		EXPECT_REFUSED(self->ctx, EINVAL, &cb);
	}
	cb.aio_offset = 0;
	for (bit = 3; bit < 64; bit++) {
		info.flags = 1ULL << bit;
		EXPECT_REFUSED(self->ctx, EINVAL, &cb);
		info.flags |= RENAME_NOREPLACE;
		EXPECT_REFUSED(self->ctx, EINVAL, &cb);
	}
	expect_untouched(_metadata, &self->env, &u);
}

TEST_F(path, bad_descriptors)
{
	static const int numbers[] = {
		-1, -99, -101, 9999, INT_MAX, INT_MIN,
	};
	struct renameat_info info;
	struct untouched u;
	struct iocb cb;
	size_t i;
	int dir;

	victims_make(_metadata, &u);
	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		iocb_openat(&cb, numbers[i], "new", O_CREAT | O_WRONLY, 0600);
		EXPECT_REFUSED(self->ctx, EBADF, &cb);
		iocb_unlinkat(&cb, numbers[i], "victim", 0);
		EXPECT_REFUSED(self->ctx, EBADF, &cb);
		iocb_unlinkat(&cb, numbers[i], "victims", AT_REMOVEDIR);
		EXPECT_REFUSED(self->ctx, EBADF, &cb);
		iocb_renameat(&cb, &info, numbers[i], "victim", AT_FDCWD,
			      "new", 0);
		EXPECT_REFUSED(self->ctx, EBADF, &cb);
		iocb_renameat(&cb, &info, AT_FDCWD, "victim", numbers[i],
			      "new", 0);
		EXPECT_REFUSED(self->ctx, EBADF, &cb);
	}

	/* Numbers that would be good ones if they were cut off. */
	dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_LE(0, dir);
	iocb_renameat(&cb, &info, dir, "victim", dir, "new", 0);
	info.olddirfd |= 1LL << 32;
	EXPECT_REFUSED(self->ctx, EBADF, &cb);
	info.olddirfd = dir | 1LL << 62;
	EXPECT_REFUSED(self->ctx, EBADF, &cb);
	info.olddirfd = dir;
	info.newdirfd = dir | 1LL << 40;
	EXPECT_REFUSED(self->ctx, EBADF, &cb);
	info.newdirfd = (__u32)AT_FDCWD;
	EXPECT_REFUSED(self->ctx, EBADF, &cb);
	info.newdirfd = dir;
	info.olddirfd = (__u32)AT_FDCWD;
	EXPECT_REFUSED(self->ctx, EBADF, &cb);
	info.olddirfd = (long long)(1ULL << 63 | (__u32)dir);
	EXPECT_REFUSED(self->ctx, EBADF, &cb);
	close(dir);
	expect_untouched(_metadata, &self->env, &u);
}

/* A page of memory that ends where there is none. */
static char *last_page(void)
{
	size_t size = sysconf(_SC_PAGESIZE);
	char *pages = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED || munmap(pages + size, size))
		return NULL;
	return pages;
}

TEST_F(path, bad_pointers)
{
	size_t size = sysconf(_SC_PAGESIZE);
	char *page = last_page(), *end = page + size, *too_long;
	struct renameat_info info, *last;
	const char *bad[5] = { NULL };
	struct untouched u;
	struct iocb cb;
	size_t i;

	ASSERT_TRUE(!!page);
	victims_make(_metadata, &u);
	bad[1] = (char *)8;
	bad[2] = end;
	/* Without the byte that ends it, and too long to need it. */
	memset(page, 'x', size);
	memcpy(end - 4, "/new", 4);
	bad[3] = end - 3;
	bad[4] = page;
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		int err = bad[i] == page ? ENAMETOOLONG : EFAULT;

		iocb_openat(&cb, AT_FDCWD, bad[i], O_CREAT | O_WRONLY, 0600);
		EXPECT_REFUSED(self->ctx, err, &cb);
		iocb_unlinkat(&cb, AT_FDCWD, bad[i], 0);
		EXPECT_REFUSED(self->ctx, err, &cb);
		iocb_unlinkat(&cb, AT_FDCWD, bad[i], AT_REMOVEDIR);
		EXPECT_REFUSED(self->ctx, err, &cb);
		iocb_renameat(&cb, &info, AT_FDCWD, bad[i], AT_FDCWD, "new",
			      0);
		EXPECT_REFUSED(self->ctx, err, &cb);
		iocb_renameat(&cb, &info, AT_FDCWD, "victim", AT_FDCWD, bad[i],
			      0);
		EXPECT_REFUSED(self->ctx, err, &cb);
		iocb_renameat(&cb, &info, AT_FDCWD, bad[i], AT_FDCWD, bad[i],
			      0);
		EXPECT_REFUSED(self->ctx, err, &cb);
	}
	/* No address of a user: as good as none in a word of 32 bits, too. */
	if (sizeof(long) == 8) {
		iocb_openat(&cb, AT_FDCWD, NULL, O_CREAT | O_WRONLY, 0600);
		cb.aio_buf = 0xffff888000000000ULL;
		EXPECT_REFUSED(self->ctx, EFAULT, &cb);
		iocb_renameat(&cb, &info, AT_FDCWD, NULL, AT_FDCWD, "new", 0);
		info.oldpath = 0xffff888000000000ULL;
		EXPECT_REFUSED(self->ctx, EFAULT, &cb);
	}

	/* The arguments of rename: none, and one byte short. */
	iocb_renameat(&cb, &info, AT_FDCWD, "victim", AT_FDCWD, "new", 0);
	cb.aio_buf = 0;
	EXPECT_REFUSED(self->ctx, EFAULT, &cb);
	cb.aio_buf = (uintptr_t)end;
	EXPECT_REFUSED(self->ctx, EFAULT, &cb);
	memcpy(end - sizeof(info) + 1, &info, sizeof(info) - 1);
	cb.aio_buf = (uintptr_t)end - sizeof(info) + 1;
	EXPECT_REFUSED(self->ctx, EFAULT, &cb);

	/* PATH_MAX bytes without the end, which nobody looks for. */
	too_long = malloc(PATH_MAX + 1);
	ASSERT_TRUE(!!too_long);
	memset(too_long, '/', PATH_MAX);
	memcpy(too_long + PATH_MAX - 3, "new", 4);
	iocb_openat(&cb, AT_FDCWD, too_long, O_CREAT | O_WRONLY, 0600);
	EXPECT_REFUSED(self->ctx, ENAMETOOLONG, &cb);
	iocb_unlinkat(&cb, AT_FDCWD, too_long, 0);
	EXPECT_REFUSED(self->ctx, ENAMETOOLONG, &cb);
	iocb_renameat(&cb, &info, AT_FDCWD, "victim", AT_FDCWD, too_long, 0);
	EXPECT_REFUSED(self->ctx, ENAMETOOLONG, &cb);
	iocb_renameat(&cb, &info, AT_FDCWD, too_long, AT_FDCWD, "new", 0);
	EXPECT_REFUSED(self->ctx, ENAMETOOLONG, &cb);
	free(too_long);
	expect_untouched(_metadata, &self->env, &u);

	/* All that is needed is there, and not a byte more. */
	last = (struct renameat_info *)end - 1;
	memcpy(end - sizeof(*last) - 7, "victim", 7);
	iocb_renameat(&cb, last, AT_FDCWD, end - sizeof(*last) - 7, AT_FDCWD,
		      "new", 0);
	EXPECT_EQ(0, aio_run(self->ctx, &cb));
	EXPECT_FALSE(aio_exists("victim"));
	memcpy(end - 4, "new", 4);
	iocb_unlinkat(&cb, AT_FDCWD, end - 4, 0);
	EXPECT_EQ(0, aio_run(self->ctx, &cb));
	EXPECT_FALSE(aio_exists("new"));
	munmap(page, size);
}

/* What comes after a bad request is not submitted, what came before is. */
TEST_F(path, malformed_in_between)
{
	struct iocb cbs[3], *ptrs[3] = { &cbs[0], &cbs[1], &cbs[2] };
	struct untouched u;
	struct io_event ev;

	victims_make(_metadata, &u);
	ASSERT_TRUE(aio_put("first", "1"));
	iocb_unlinkat(&cbs[0], AT_FDCWD, "first", 0);
	iocb_openat(&cbs[1], AT_FDCWD, "new", O_CREAT | O_WRONLY, 0600);
	cbs[1].aio_nbytes = 1;
	iocb_unlinkat(&cbs[2], AT_FDCWD, "victim", 0);
	EXPECT_EQ(1, sys_io_submit(self->ctx, 3, ptrs));
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	EXPECT_EQ((uintptr_t)&cbs[0], ev.obj);
	EXPECT_EQ(0, (long long)ev.res);
	EXPECT_FALSE(aio_exists("first"));
	EXPECT_EQ(-EINVAL, sys_io_submit(self->ctx, 2, ptrs + 1));
	expect_untouched(_metadata, &self->env, &u);
}

TEST_F(path, unknown_opcodes)
{
	static const int opcodes[] = { 4, 6, 11, 14, 15, 16, 255, 65535 };
	struct untouched u;
	struct iocb cb;
	size_t i;

	victims_make(_metadata, &u);
	for (i = 0; i < ARRAY_SIZE(opcodes); i++) {
		iocb_unlinkat(&cb, AT_FDCWD, "victim", 0);
		cb.aio_lio_opcode = opcodes[i];
		EXPECT_GT(0, submit_one(self->ctx, &cb)) {
			TH_LOG("opcode %d", opcodes[i]);
		}
		/* For those that have a descriptor first of all. */
		cb.aio_fildes = 0;
		EXPECT_REFUSED(self->ctx, EINVAL, &cb);
	}
	expect_untouched(_metadata, &self->env, &u);
}

/* In a context that is not threaded there are no such requests. */
TEST_F(path, plain_context)
{
	struct renameat_info info;
	aio_context_t plain = 0;
	struct untouched u;
	struct iocb cb;
	int fd;

	victims_make(_metadata, &u);
	ASSERT_EQ(0, aio_set_threads(0));
	ASSERT_EQ(0, sys_io_setup(4, &plain));
	ASSERT_EQ(0, aio_set_threads(1));
	iocb_openat(&cb, AT_FDCWD, "new", O_CREAT | O_WRONLY, 0600);
	EXPECT_REFUSED(plain, EINVAL, &cb);
	iocb_openat(&cb, AT_FDCWD, "victim", O_RDONLY, 0);
	EXPECT_REFUSED(plain, EINVAL, &cb);
	iocb_unlinkat(&cb, AT_FDCWD, "victim", 0);
	EXPECT_REFUSED(plain, EINVAL, &cb);
	iocb_unlinkat(&cb, AT_FDCWD, "victims", AT_REMOVEDIR);
	EXPECT_REFUSED(plain, EINVAL, &cb);
	iocb_renameat(&cb, &info, AT_FDCWD, "victim", AT_FDCWD, "new", 0);
	EXPECT_REFUSED(plain, EINVAL, &cb);
	/* With a descriptor that is one, because that may be looked at first. */
	fd = open("victim", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	iocb_readahead(&cb, fd, 6, 0);
	EXPECT_REFUSED(plain, EINVAL, &cb);
	iocb_openat(&cb, fd, "new", O_CREAT | O_WRONLY, 0600);
	EXPECT_REFUSED(plain, EINVAL, &cb);
	iocb_unlinkat(&cb, fd, "victim", 0);
	EXPECT_REFUSED(plain, EINVAL, &cb);
	close(fd);
	EXPECT_TRUE(aio_no_event(plain));
	EXPECT_EQ(0, sys_io_destroy(plain));
	expect_untouched(_metadata, &self->env, &u);
}

/* ---- what other requests can, these can as well ---- */

/* Make one of each: they undo what the one before has done. */
static void each_request(int i, struct iocb *cb, struct renameat_info *info)
{
	switch (i) {
	case 0:
		iocb_openat(cb, AT_FDCWD, "made", O_CREAT | O_RDWR, 0600);
		return;
	case 1:
		iocb_renameat(cb, info, AT_FDCWD, "made", AT_FDCWD, "moved", 0);
		return;
	default:
		iocb_unlinkat(cb, AT_FDCWD, "moved", 0);
	}
}

static bool close_result(int i, long long res)
{
	return i ? !res : res >= 0 && !close(res);
}

TEST_F(path, eventfd_counts)
{
	struct renameat_info info;
	struct pollfd pfd;
	struct iocb cb;
	__u64 value;
	int i, efd;

	efd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ASSERT_LE(0, efd);
	for (i = 0; i < 3; i++) {
		each_request(i, &cb, &info);
		cb.aio_flags = IOCB_FLAG_RESFD;
		cb.aio_resfd = efd;
		EXPECT_TRUE(close_result(i, aio_run(self->ctx, &cb)));
		pfd.fd = efd;
		pfd.events = POLLIN;
		ASSERT_EQ(1, poll(&pfd, 1, AIO_PATIENCE_MS));
		ASSERT_EQ(8, read(efd, &value, 8));
		EXPECT_EQ(1ULL, value);
	}
	/* An error that the request meets counts, one of io_submit()'s not. */
	iocb_openat(&cb, AT_FDCWD, "missing", O_RDONLY, 0);
	cb.aio_flags = IOCB_FLAG_RESFD;
	cb.aio_resfd = efd;
	EXPECT_EQ(-ENOENT, aio_run(self->ctx, &cb));
	ASSERT_EQ(1, poll(&pfd, 1, AIO_PATIENCE_MS));
	ASSERT_EQ(8, read(efd, &value, 8));
	EXPECT_EQ(1ULL, value);
	cb.aio_nbytes = 1;
	EXPECT_REFUSED(self->ctx, EINVAL, &cb);
	EXPECT_EQ(0, poll(&pfd, 1, 0));
	close(efd);
}

TEST_F(path, priority)
{
	struct renameat_info info;
	struct iocb cb;
	int i, class;

	for (class = IOPRIO_CLASS_NONE; class <= IOPRIO_CLASS_IDLE; class++) {
		int level = class == IOPRIO_CLASS_RT ||
			    class == IOPRIO_CLASS_BE ? 3 : 0;

		for (i = 0; i < 3; i++) {
			each_request(i, &cb, &info);
			cb.aio_flags = IOCB_FLAG_IOPRIO;
			cb.aio_reqprio = IOPRIO_PRIO_VALUE(class, level);
			EXPECT_TRUE(close_result(i, aio_run(self->ctx, &cb))) {
				TH_LOG("class %d", class);
			}
		}
	}
	/* Without the flag it means nothing. */
	for (i = 0; i < 3; i++) {
		each_request(i, &cb, &info);
		cb.aio_reqprio = IOPRIO_PRIO_VALUE(6, 0);
		EXPECT_TRUE(close_result(i, aio_run(self->ctx, &cb)));
	}
	/* Not everybody may have each. */
	each_request(0, &cb, &info);
	cb.aio_flags = IOCB_FLAG_IOPRIO;
	cb.aio_reqprio = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_RT, 0);
	ASSERT_TRUE(become_nobody());
	EXPECT_REFUSED(self->ctx, EPERM, &cb);
	ASSERT_TRUE(become_root());
	EXPECT_FALSE(aio_exists("made"));
}

/* ---- what is handed over is copied ---- */

/* All of it in a page that is gone as soon as io_submit() has returned. */
struct handed_over {
	struct iocb		cbs[3];
	struct renameat_info	info;
	char			path[3][16];
	char			to[16];
};

TEST_F_TIMEOUT(path, copied_at_submit, 120)
{
	const int rounds = 200 / aio_slack();
	struct handed_over *h;
	struct iocb *ptrs[3];
	struct io_event ev;
	int i, round;

	for (round = 0; round < rounds; round++) {
		ASSERT_TRUE(aio_put("old", "old") && aio_put("gone", "gone"));
		h = mmap(NULL, sizeof(*h), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_TRUE(h != MAP_FAILED);
		strcpy(h->path[0], "made");
		strcpy(h->path[1], "old");
		strcpy(h->path[2], "gone");
		strcpy(h->to, "new");
		iocb_openat(&h->cbs[0], AT_FDCWD, h->path[0],
			    O_CREAT | O_EXCL | O_WRONLY, 0600);
		iocb_renameat(&h->cbs[1], &h->info, AT_FDCWD, h->path[1],
			      AT_FDCWD, h->to, 0);
		iocb_unlinkat(&h->cbs[2], AT_FDCWD, h->path[2], 0);
		for (i = 0; i < 3; i++) {
			h->cbs[i].aio_data = i;
			ptrs[i] = &h->cbs[i];
		}
		ASSERT_EQ(3, sys_io_submit(self->ctx, 3, ptrs));
		memset(h, 0xff, sizeof(*h));
		ASSERT_EQ(0, munmap(h, sizeof(*h)));
		for (i = 0; i < 3; i++) {
			ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
			ASSERT_TRUE(close_result(ev.data, ev.res)) {
				TH_LOG("request %d: %lld", (int)ev.data,
				       (long long)ev.res);
			}
		}
		EXPECT_FALSE(aio_exists("old"));
		EXPECT_FALSE(aio_exists("gone"));
		EXPECT_EQ(0, unlink("made"));
		EXPECT_EQ(0, unlink("new"));
	}
}

/* ---- descriptors ---- */

/* What needs no worker gets none. */
TEST_F(path, cached_open)
{
	struct aio_counts before, now;
	struct iocb cb;
	long long fd;

	ASSERT_TRUE(aio_put("file", "file"));
	aio_counts_get(&before);
	iocb_openat(&cb, AT_FDCWD, "file", O_RDONLY, 0);
	fd = aio_run(self->ctx, &cb);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(aio_holds(fd, "file"));
	close(fd);
	aio_counts_settle(&before, 1, &now);
	EXPECT_EQ(!variant->force, now.at_once);
	EXPECT_EQ(variant->force, now.worker);
}

TEST_F(path, lowest_descriptor)
{
	int next[8], fd[8], again[2], i;
	struct iocb cb;

	ASSERT_TRUE(aio_put("file", "file"));
	aio_next_fds(next, 8);
	for (i = 0; i < 8; i++) {
		iocb_openat(&cb, AT_FDCWD, "file", O_RDONLY, 0);
		fd[i] = aio_run(self->ctx, &cb);
		ASSERT_LE(0, fd[i]);
		EXPECT_EQ(next[i], fd[i]);
	}
	/* Into the gaps. */
	close(fd[5]);
	close(fd[2]);
	for (i = 0; i < 2; i++) {
		iocb_openat(&cb, AT_FDCWD, "file", O_RDONLY, 0);
		again[i] = aio_run(self->ctx, &cb);
	}
	EXPECT_EQ(fd[2], again[0]);
	EXPECT_EQ(fd[5], again[1]);
	for (i = 0; i < 8; i++)
		EXPECT_EQ(0, close(fd[i]));
	/* One that fails takes none. */
	iocb_openat(&cb, AT_FDCWD, "missing", O_RDONLY, 0);
	EXPECT_EQ(-ENOENT, aio_run(self->ctx, &cb));
	EXPECT_EQ(next[0], aio_next_fd());
}

#define MANY	64

/* Is it one of them? Each can be only once. */
static bool take_number(int *numbers, int nr, int number)
{
	int i;

	for (i = 0; i < nr; i++) {
		if (numbers[i] == number) {
			numbers[i] = -1;
			return true;
		}
	}
	return false;
}

TEST_F_TIMEOUT(path, many_opens, 120)
{
	char names[MANY][8];
	int i, next[MANY];
	struct many m;

	ASSERT_TRUE(many_init(&m, self->ctx, MANY));
	aio_next_fds(next, MANY);
	for (i = 0; i < MANY; i++) {
		snprintf(names[i], sizeof(names[i]), "%d", i);
		ASSERT_TRUE(aio_put(names[i], names[i]));
		iocb_openat(&m.cbs[i], AT_FDCWD, names[i],
			    i % 2 ? O_RDONLY : O_RDWR | O_CREAT | O_CLOEXEC, 0);
		m.cbs[i].aio_data = i;
	}
	ASSERT_EQ(0, many_submit(&m, 0, MANY));
	ASSERT_TRUE(many_reap(&m, MANY, MANY_MS));
	EXPECT_EQ(0, m.wrong);
	for (i = 0; i < MANY; i++) {
		/* The lowest that there were, in whatever order. */
		EXPECT_TRUE(take_number(next, MANY, m.res[i])) {
			TH_LOG("%s gives %lld", names[i], m.res[i]);
		}
		EXPECT_TRUE(aio_holds(m.res[i], names[i]));
		EXPECT_EQ(i % 2 ? 0 : FD_CLOEXEC, fcntl(m.res[i], F_GETFD));
	}
	for (i = 0; i < MANY; i++)
		EXPECT_EQ(0, close(m.res[i]));
	many_free(&m);
}

/* ---- opens that wait ---- */

/* The reader or writer that the other end waits for, as soon as it can be. */
static int fifo_end(const char *path, int flags)
{
	int fd = -1;

	aio_wait_for((fd = open(path, flags | O_NONBLOCK | O_CLOEXEC)) >= 0,
		     AIO_PATIENCE_MS);
	return fd;
}

/* Does nobody read it, or wait to? */
static bool fifo_without_reader(const char *path)
{
	int fd, err = 0;
	bool held;

	held = aio_wait_for((fd = open(path, O_WRONLY | O_NONBLOCK |
				       O_CLOEXEC)) < 0 &&
			    (err = errno) == ENXIO, AIO_PATIENCE_MS);
	if (!held) {
		fprintf(stderr, "# somebody reads %s\n", path);
		close(fd);
	}
	return held;
}

TEST_F_TIMEOUT(path, fifo_waits, 60)
{
	static const int flags[] = { O_RDONLY, O_WRONLY };
	int fds = aio_count_fds(), i, other, mine;
	struct io_event ev;
	struct iocb cb;
	char c;

	ASSERT_EQ(0, mkfifo("fifo", 0600));
	for (i = 0; i < 2; i++) {
		iocb_openat(&cb, AT_FDCWD, "fifo", flags[i] | O_CLOEXEC, 0);
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		ASSERT_TRUE(aio_running(&self->env, 1));
		EXPECT_TRUE(aio_no_event(self->ctx));
		EXPECT_EQ(fds, aio_count_fds());

		other = fifo_end("fifo", flags[!i]);
		ASSERT_LE(0, other);
		ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
		mine = ev.res;
		ASSERT_LE(0, mine);
		EXPECT_EQ(FD_CLOEXEC, fcntl(mine, F_GETFD));
		/* The flags of the request, not what a worker needed. */
		EXPECT_EQ(flags[i], fcntl(mine, F_GETFL) &
				    (O_ACCMODE | O_NONBLOCK));
		ASSERT_EQ(1, write(i ? mine : other, "f", 1));
		ASSERT_EQ(1, read(i ? other : mine, &c, 1));
		EXPECT_EQ('f', c);
		close(mine);
		close(other);
	}

	/* Who does not want to wait does not. */
	iocb_openat(&cb, AT_FDCWD, "fifo", O_WRONLY | O_NONBLOCK, 0);
	EXPECT_EQ(-ENXIO, aio_as_call(aio_run(self->ctx, &cb)));
	iocb_openat(&cb, AT_FDCWD, "fifo", O_RDONLY | O_NONBLOCK, 0);
	mine = aio_run(self->ctx, &cb);
	ASSERT_LE(0, mine);
	/* And with a reader there a writer need not. */
	iocb_openat(&cb, AT_FDCWD, "fifo", O_WRONLY, 0);
	other = aio_run(self->ctx, &cb);
	ASSERT_LE(0, other);
	close(mine);
	close(other);
	EXPECT_EQ(fds, aio_count_fds());
}

#define FEW	16

TEST_F_TIMEOUT(path, fifo_cancelled, 60)
{
	int fds = aio_count_fds(), next = aio_next_fd(), i;
	struct io_event ev;
	struct many m;

	ASSERT_EQ(0, mkfifo("fifo", 0600));
	ASSERT_TRUE(many_init(&m, self->ctx, FEW));
	for (i = 0; i < FEW; i++) {
		iocb_openat(&m.cbs[i], AT_FDCWD, "fifo", O_RDONLY, 0);
		m.cbs[i].aio_data = i;
	}
	ASSERT_EQ(0, many_submit(&m, 0, FEW));
	ASSERT_TRUE(aio_running(&self->env, FEW));
	/* One, and the others still wait. */
	ASSERT_EQ(-EINPROGRESS, sys_io_cancel(self->ctx, &m.cbs[3], &ev));
	ASSERT_TRUE(many_reap(&m, 1, AIO_PATIENCE_MS));
	EXPECT_EQ(1, m.seen[3]);
	ASSERT_TRUE(aio_running(&self->env, FEW - 1));
	EXPECT_TRUE(aio_no_event(self->ctx));
	EXPECT_EQ(-EINVAL, sys_io_cancel(self->ctx, &m.cbs[3], &ev));
	for (i = 0; i < FEW; i++)
		if (i != 3)
			ASSERT_EQ(-EINPROGRESS,
				  sys_io_cancel(self->ctx, &m.cbs[i], &ev));
	ASSERT_TRUE(many_reap(&m, FEW, AIO_PATIENCE_MS));
	for (i = 0; i < FEW; i++) {
		EXPECT_TRUE(aio_was_cancelled(m.res[i])) {
			TH_LOG("%d: %lld", i, m.res[i]);
		}
	}
	EXPECT_EQ(0, m.wrong);
	EXPECT_TRUE(aio_no_event(self->ctx));
	EXPECT_EQ(fds, aio_count_fds());
	EXPECT_EQ(next, aio_next_fd());
	EXPECT_TRUE(fifo_without_reader("fifo"));
	many_free(&m);
}

static int kid_with_lease(struct kid *kid, void *arg)
{
	const struct timespec patience = { .tv_sec = MANY_MS / 1000 };
	sigset_t set;
	int fd;

	(void)arg;
	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = open("file", O_RDWR | O_CLOEXEC);
	if (!kid_ok(fd >= 0))
		return 1;
	if (fcntl(fd, F_SETLEASE, F_WRLCK)) {
		parent_tell(kid, "n");
		return 1;
	}
	if (!parent_tell(kid, "l"))
		return 2;
	while (sigtimedwait(&set, NULL, &patience) != SIGIO)
		if (!kid_ok(errno == EINTR))
			return 3;
	if (!parent_tell(kid, "s") || parent_hear(kid) != 'u')
		return 4;
	return !kid_ok(!fcntl(fd, F_SETLEASE, F_UNLCK));
}

/* To open a file may be to wait for whoever has a lease on it. */
TEST_F_TIMEOUT(path, lease_waits, 120)
{
	struct io_event ev;
	struct iocb cb;
	struct kid kid;
	int cancel, fd;
	char c;

	ASSERT_TRUE(aio_put("file", "leased"));
	for (cancel = 0; cancel < 2; cancel++) {
		ASSERT_TRUE(kid_start(&kid, kid_with_lease, NULL));
		c = kid_hear(&kid);
		if (c == 'n') {
			kid_wait(&kid);
			SKIP(return, "no leases");
		}
		ASSERT_EQ('l', c);
		iocb_openat(&cb, AT_FDCWD, "file", O_RDONLY, 0);
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		/* To this it is a signal, by which it knows. */
		ASSERT_EQ('s', kid_hear(&kid));
		ASSERT_TRUE(aio_running(&self->env, 1));
		EXPECT_TRUE(aio_no_event(self->ctx));
		if (cancel) {
			EXPECT_EQ(-EINPROGRESS,
				  sys_io_cancel(self->ctx, &cb, &ev));
		} else {
			ASSERT_TRUE(kid_tell(&kid, "u"));
		}
		ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
		if (cancel) {
			EXPECT_TRUE(aio_was_cancelled(ev.res));
			ASSERT_TRUE(kid_tell(&kid, "u"));
		} else {
			fd = ev.res;
			ASSERT_LE(0, fd);
			EXPECT_TRUE(aio_holds(fd, "leased"));
			EXPECT_EQ(0, fcntl(fd, F_GETFL) & O_NONBLOCK);
			close(fd);
		}
		EXPECT_EQ(0, kid_wait(&kid));
	}
}

/* ---- opens that wait when what they belong to ends ---- */

enum ending { KILLED, EXITS, EXECS, DESTROYS };

struct ending_arg {
	enum ending	how;
	long long	ns;		/* shared: how long io_destroy() took */
	long		ret;
};

#define PENDING	32

/* Does the descriptor refer to the file at that path? */
static bool is_of(int fd, const char *path)
{
	struct stat want, st;

	return !fstat(fd, &st) && !stat(path, &want) &&
	       st.st_dev == want.st_dev && st.st_ino == want.st_ino;
}

/* How many descriptors there are of it. */
static int descriptors_of(const char *path)
{
	int fd, nr = 0;

	for (fd = 0; fd < 1024; fd++)
		nr += is_of(fd, path);
	return nr;
}

static void close_all_of(const char *path)
{
	int fd;

	for (fd = 0; fd < 1024; fd++)
		if (is_of(fd, path))
			close(fd);
}

/* What exec leads to; see main(). */
static int after_exec(int hear_fd, int tell_fd)
{
	int nr = descriptors_of("fifo");
	char c = nr ? 'd' : 'x';

	if (write(tell_fd, &c, 1) != 1)
		return 1;
	/* So that the other end can be tried while this is still there. */
	if (!hear(hear_fd))
		return 2;
	return descriptors_of("fifo");
}

static int kid_of_pending(struct kid *kid, void *arg)
{
	struct ending_arg *ending = arg;
	aio_context_t ctx = 0;
	char number[2][16];
	struct many m;
	int i;

	if (!kid_ok(!sys_io_setup(PENDING, &ctx)) ||
	    !many_init(&m, ctx, PENDING))
		return 1;
	for (i = 0; i < PENDING; i++) {
		/* Not closed by exec, should there be something to close. */
		iocb_openat(&m.cbs[i], AT_FDCWD, "fifo", O_RDONLY, 0);
		m.cbs[i].aio_data = i;
	}
	if (!kid_ok(!many_submit(&m, 0, PENDING)) ||
	    !parent_tell(kid, "r") || !parent_hear(kid))
		return 2;
	switch (ending->how) {
	case KILLED:
		break;
	case EXITS:
		return 0;
	case EXECS:
		snprintf(number[0], sizeof(number[0]), "%d", dup(kid->tell[0]));
		snprintf(number[1], sizeof(number[1]), "%d", dup(kid->hear[1]));
		execl("/proc/self/exe", "aio_path", "--after-exec", number[0],
		      number[1], NULL);
		break;
	case DESTROYS:
		ending->ns = aio_now_ns();
		ending->ret = sys_io_destroy(ctx);
		ending->ns = aio_now_ns() - ending->ns;
		if (!kid_ok(!descriptors_of("fifo")) ||
		    !parent_tell(kid, "d") || !parent_hear(kid))
			return 3;
		return 0;
	}
	return 4;
}

static void pending_end(struct __test_metadata *_metadata,
			const struct aio_env *env, long long aio_nr,
			enum ending how)
{
	struct ending_arg *arg;
	int want = 0;
	struct kid kid;
	long long ns;

	arg = mmap(NULL, sizeof(*arg), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(arg != MAP_FAILED);
	arg->how = how;
	ASSERT_EQ(0, mkfifo("fifo", 0600));
	ASSERT_TRUE(kid_start(&kid, kid_of_pending, arg));
	ASSERT_EQ('r', kid_hear(&kid));
	ASSERT_TRUE(aio_running(env, PENDING));
	EXPECT_LE(env->objects + PENDING, aio_stat("objects"));

	ns = aio_now_ns();
	if (how == KILLED) {
		ASSERT_EQ(0, kill(kid.pid, SIGKILL));
		want = SIGKILL;
	} else {
		ASSERT_TRUE(kid_tell(&kid, "e"));
	}
	if (how == EXECS) {
		EXPECT_EQ('x', kid_hear(&kid));
		EXPECT_TRUE(fifo_without_reader("fifo"));
		EXPECT_TRUE(aio_all_gone(env, aio_nr));
		EXPECT_TRUE(kid_tell(&kid, "e"));
	}
	if (how == DESTROYS) {
		/* All is gone while the process is still there. */
		ASSERT_EQ('d', kid_hear(&kid));
		EXPECT_EQ(0, arg->ret);
		EXPECT_GT(SECOND_NS * aio_slack(), arg->ns);
		EXPECT_TRUE(aio_all_gone(env, aio_nr));
		ASSERT_TRUE(kid_tell(&kid, "e"));
	}
	EXPECT_EQ(want, kid_wait(&kid));
	ns = aio_now_ns() - ns;
	if (how == KILLED || how == EXITS)
		EXPECT_GT(SECOND_NS * aio_slack(), ns);
	EXPECT_TRUE(aio_all_gone(env, aio_nr));
	EXPECT_TRUE(fifo_without_reader("fifo"));
	munmap(arg, sizeof(*arg));
}

TEST_F_TIMEOUT(path, pending_killed, 60)
{
	pending_end(_metadata, &self->env, self->aio_nr, KILLED);
}

TEST_F_TIMEOUT(path, pending_exit, 60)
{
	pending_end(_metadata, &self->env, self->aio_nr, EXITS);
}

TEST_F_TIMEOUT(path, pending_exec, 60)
{
	pending_end(_metadata, &self->env, self->aio_nr, EXECS);
}

TEST_F_TIMEOUT(path, pending_destroyed, 60)
{
	pending_end(_metadata, &self->env, self->aio_nr, DESTROYS);
}

/* @arg: the descriptor that a request of the parent's will get */
static int kid_of_fork(struct kid *kid, void *arg)
{
	int fds = aio_count_fds();

	if (!kid_ok(aio_next_fd() == *(int *)arg) || !parent_tell(kid, "r") ||
	    !parent_hear(kid))
		return 1;
	return !kid_ok(aio_count_fds() == fds) ||
	       !kid_ok(aio_next_fd() == *(int *)arg) ||
	       !kid_ok(!descriptors_of("fifo"));
}

/* A child has no part in what its parent waits for. */
TEST_F_TIMEOUT(path, fork_gets_nothing, 60)
{
	int other, mine, next;
	struct io_event ev;
	struct iocb cb;
	struct kid kid;

	ASSERT_EQ(0, mkfifo("fifo", 0600));
	next = aio_next_fd();
	iocb_openat(&cb, AT_FDCWD, "fifo", O_RDONLY, 0);
	ASSERT_EQ(1, submit_one(self->ctx, &cb));
	ASSERT_TRUE(aio_running(&self->env, 1));
	ASSERT_TRUE(kid_start(&kid, kid_of_fork, &next));
	ASSERT_EQ('r', kid_hear(&kid));
	other = fifo_end("fifo", O_WRONLY);
	ASSERT_LE(0, other);
	ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
	mine = ev.res;
	ASSERT_LE(0, mine);
	EXPECT_EQ(2, descriptors_of("fifo"));
	ASSERT_TRUE(kid_tell(&kid, "e"));
	EXPECT_EQ(0, kid_wait(&kid));
	/* It has not become the child's when that went, either. */
	EXPECT_LE(0, fcntl(mine, F_GETFD));
	close(mine);
	close(other);
}

static int kid_of_table(struct kid *kid)
{
	aio_context_t ctx = 0;
	struct iocb cb;

	if (!kid_ok(!sys_io_setup(1, &ctx)))
		return 1;
	iocb_openat(&cb, AT_FDCWD, "fifo", O_RDONLY, 0);
	if (!kid_ok(submit_one(ctx, &cb) == 1) || !parent_tell(kid, "s"))
		return 2;
	/* What it waits for never comes, or the parent's word. */
	return !parent_hear(kid);
}

/* A descriptor belongs to the table, which may have more than one user. */
TEST_F_TIMEOUT(path, shared_table, 60)
{
	int next, fds, other, killed, status;
	struct kid kid;

	ASSERT_EQ(0, mkfifo("fifo", 0600));
	ASSERT_EQ(0, pipe2(kid.hear, O_CLOEXEC));
	ASSERT_EQ(0, pipe2(kid.tell, O_CLOEXEC));
	next = aio_next_fd();
	fds = aio_count_fds();
	for (killed = 0; killed < 2; killed++) {
		kid.pid = syscall(__NR_clone, CLONE_FILES | SIGCHLD, 0, 0, 0,
				  0);
		ASSERT_LE(0, kid.pid);
		if (!kid.pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			_exit(kid_of_table(&kid));
		}
		ASSERT_EQ('s', kid_hear(&kid));
		ASSERT_TRUE(aio_running(&self->env, 1));
		EXPECT_EQ(fds, aio_count_fds());
		if (killed) {
			/* Nothing of it stays in the table. */
			ASSERT_EQ(0, kill(kid.pid, SIGKILL));
			ASSERT_EQ(kid.pid, waitpid(kid.pid, &status, 0));
			EXPECT_EQ(SIGKILL, status);
		} else {
			other = fifo_end("fifo", O_WRONLY);
			ASSERT_LE(0, other);
			EXPECT_TRUE(aio_wait_for(descriptors_of("fifo") == 2,
						 AIO_PATIENCE_MS));
			close(other);
			ASSERT_TRUE(kid_tell(&kid, "e"));
			ASSERT_EQ(kid.pid, waitpid(kid.pid, &status, 0));
			EXPECT_EQ(0, status);
			EXPECT_EQ(1, descriptors_of("fifo"));
			close_all_of("fifo");
		}
		EXPECT_TRUE(aio_all_gone(&self->env, self->aio_nr));
		EXPECT_EQ(next, aio_next_fd());
		EXPECT_EQ(fds, aio_count_fds());
		EXPECT_TRUE(fifo_without_reader("fifo"));
	}
	close(kid.hear[0]);
	close(kid.hear[1]);
	close(kid.tell[0]);
	close(kid.tell[1]);
}

static int kid_of_old_table(struct kid *kid, void *arg)
{
	struct aio_env *env = arg;
	aio_context_t ctx = 0;
	struct io_event ev;
	struct pollfd pfd;
	struct iocb cb;
	int fds[2];

	(void)kid;
	if (!kid_ok(!pipe2(fds, O_CLOEXEC)) || !kid_ok(!sys_io_setup(1, &ctx)))
		return 1;
	iocb_openat(&cb, AT_FDCWD, "fifo", O_RDONLY, 0);
	if (!kid_ok(submit_one(ctx, &cb) == 1) || !kid_ok(aio_running(env, 1)))
		return 2;
	/* Only the request knows the old table after this. */
	if (!kid_ok(!unshare(CLONE_FILES)) || !kid_ok(!close(fds[1])))
		return 3;
	pfd = (struct pollfd){ .fd = fds[0], .events = POLLIN };
	if (!kid_ok(poll(&pfd, 1, AIO_PATIENCE_MS) == 1) ||
	    !kid_ok(pfd.revents == POLLHUP) || !kid_ok(aio_no_event(ctx)) ||
	    !kid_ok(fifo_end("fifo", O_WRONLY) >= 0) ||
	    !kid_ok(reap_one(ctx, &ev, AIO_PATIENCE_MS) == 1))
		return 4;
	return !kid_ok(ev.res == -ECANCELED);
}

/* What was open in a table that nobody has any more is closed at once. */
TEST_F_TIMEOUT(path, files_of_old_table, 60)
{
	ASSERT_EQ(0, mkfifo("fifo", 0600));
	EXPECT_EQ(0, kid_run(kid_of_old_table, &self->env));
	EXPECT_TRUE(aio_all_gone(&self->env, self->aio_nr));
}

/* ---- requests that are cancelled at any point ---- */

TEST_F_TIMEOUT(path, cancel_race_open, 120)
{
	const int rounds = 2000 / aio_slack();
	int fds = aio_count_fds(), next = aio_next_fd();
	int i, opened = 0, cancelled = 0;
	__u32 random = 99;
	struct io_event ev;
	struct iocb cb;
	long ret;

	ASSERT_TRUE(aio_put("file", "file"));
	for (i = 0; i < rounds; i++) {
		iocb_openat(&cb, AT_FDCWD, "file",
			    i % 2 ? O_RDONLY : O_RDWR | O_CREAT, 0600);
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		dawdle(&random);
		ret = sys_io_cancel(self->ctx, &cb, &ev);
		ASSERT_TRUE(ret == -EINPROGRESS || ret == -EAGAIN ||
			    ret == -EINVAL) {
			TH_LOG("io_cancel(): %ld", ret);
		}
		ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
		ASSERT_EQ((uintptr_t)&cb, ev.obj);
		if (ev.res >= 0) {
			opened++;
			ASSERT_EQ(next, ev.res);
			ASSERT_EQ(0, close(ev.res));
		} else {
			cancelled++;
			ASSERT_TRUE(aio_was_cancelled(ev.res)) {
				TH_LOG("result %lld", (long long)ev.res);
			}
			/* Only to who was told so. */
			EXPECT_EQ(-EINPROGRESS, ret);
		}
		ASSERT_TRUE(aio_no_event(self->ctx));
	}
	TH_LOG("%d opened, %d cancelled", opened, cancelled);
	EXPECT_EQ(rounds, opened + cancelled);
	EXPECT_EQ(fds, aio_count_fds());
	EXPECT_EQ(next, aio_next_fd());
}

/* What was cancelled was not done, what was done was not cancelled. */
TEST_F_TIMEOUT(path, cancel_race_names, 120)
{
	const int rounds = 1000 / aio_slack();
	struct renameat_info info;
	__u32 random = 98;
	struct io_event ev;
	struct iocb cb;
	int i, done = 0;
	long ret;

	for (i = 0; i < rounds; i++) {
		if (!aio_exists("old"))
			ASSERT_TRUE(aio_put("old", "old"));
		if (i % 2)
			iocb_unlinkat(&cb, AT_FDCWD, "old", 0);
		else
			iocb_renameat(&cb, &info, AT_FDCWD, "old", AT_FDCWD,
				      "new", 0);
		ASSERT_EQ(1, submit_one(self->ctx, &cb));
		dawdle(&random);
		ret = sys_io_cancel(self->ctx, &cb, &ev);
		ASSERT_TRUE(ret == -EINPROGRESS || ret == -EAGAIN ||
			    ret == -EINVAL) {
			TH_LOG("io_cancel(): %ld", ret);
		}
		ASSERT_EQ(1, reap_one(self->ctx, &ev, AIO_PATIENCE_MS));
		ASSERT_TRUE(!ev.res || aio_was_cancelled(ev.res)) {
			TH_LOG("result %lld", (long long)ev.res);
		}
		done += !ev.res;
		EXPECT_EQ(ev.res < 0, aio_exists("old"));
		EXPECT_EQ(!ev.res && i % 2 == 0, aio_exists("new"));
		unlink("new");
		ASSERT_TRUE(aio_no_event(self->ctx));
	}
	TH_LOG("%d done, %d cancelled", done, rounds - done);
}

/* ---- mounts that not everybody sees ---- */

static long long run_rmdir(aio_context_t ctx, const char *path)
{
	struct iocb cb;

	iocb_unlinkat(&cb, AT_FDCWD, path, AT_REMOVEDIR);
	return aio_run(ctx, &cb);
}

static long long run_rename(aio_context_t ctx, const char *path, const char *to)
{
	struct renameat_info info;
	struct iocb cb;

	iocb_renameat(&cb, &info, AT_FDCWD, path, AT_FDCWD, to, 0);
	return aio_run(ctx, &cb);
}

static int kid_with_mounts(struct kid *kid, void *arg)
{
	static const char * const points[] = { "m1", "m2", "m3" };
	aio_context_t ctx = 0;
	size_t i;

	(void)arg;
	if (!kid_ok(private_mounts()))
		return 1;
	for (i = 0; i < ARRAY_SIZE(points); i++)
		if (!kid_ok(!mount("kid", points[i], "tmpfs", 0, NULL)))
			return 2;
	if (!kid_ok(aio_put("m2/inner", "inner")) ||
	    !kid_ok(!sys_io_setup(4, &ctx)))
		return 3;
	/* It is on these itself that it has mounted something. */
	if (!kid_ok(sys_unlinkat(AT_FDCWD, "m1", AT_REMOVEDIR) == -EBUSY) ||
	    !kid_ok(run_rmdir(ctx, "m1") == -EBUSY) ||
	    !kid_ok(run_rename(ctx, "m2", "m4") == -EBUSY) ||
	    !kid_ok(run_rename(ctx, "empty", "m3") == -EBUSY))
		return 4;
	if (!parent_tell(kid, "m") || !parent_hear(kid))
		return 5;
	/* The mounts went with the directories, or with their new names. */
	return !kid_ok(!aio_exists("m1")) || !kid_ok(!aio_exists("m2")) ||
	       !kid_ok(aio_exists("m4/inner")) || !kid_ok(aio_exists("m3/sub"));
}

/* What is busy in one mount namespace is not in another. */
TEST_F_TIMEOUT(path, mount_namespace, 60)
{
	struct kid kid;

	ASSERT_TRUE(!mkdir("m1", 0755) && !mkdir("m2", 0755) &&
		    !mkdir("m3", 0755) && !mkdir("empty", 0755) &&
		    !mkdir("dir", 0755) && !mkdir("dir/sub", 0755));
	ASSERT_TRUE(kid_start(&kid, kid_with_mounts, NULL));
	ASSERT_EQ('m', kid_hear(&kid));
	EXPECT_EQ(0, run_rmdir(self->ctx, "m1"));
	EXPECT_EQ(0, run_rename(self->ctx, "m2", "m4"));
	EXPECT_EQ(0, run_rename(self->ctx, "dir", "m3"));
	ASSERT_TRUE(kid_tell(&kid, "e"));
	EXPECT_EQ(0, kid_wait(&kid));
}

/* The other way round: only this process has mounted something. */
TEST_F(path, mount_points)
{
	ASSERT_TRUE(!mkdir("m1", 0755) && !mkdir("empty", 0755));
	ASSERT_EQ(0, mount("aio", "m1", "tmpfs", 0, NULL));
	EXPECT_EQ(-EBUSY, run_rmdir(self->ctx, "m1"));
	EXPECT_EQ(-EBUSY, run_rename(self->ctx, "m1", "m2"));
	EXPECT_EQ(-EBUSY, run_rename(self->ctx, "empty", "m1"));
	EXPECT_TRUE(unmount("m1"));
	EXPECT_EQ(0, run_rename(self->ctx, "m1", "m2"));
	EXPECT_EQ(0, run_rmdir(self->ctx, "m2"));
}

/* ---- names that mean something else to every process ---- */

/* The number after "Pid:" or the like, -1 without it. */
static int status_number(int fd, const char *key)
{
	char buf[4096], *at;
	ssize_t len = pread(fd, buf, sizeof(buf) - 1, 0);

	buf[len > 0 ? len : 0] = '\0';
	at = strstr(buf, key);
	return at ? atoi(at + strlen(key)) : -1;
}

static int open_request(aio_context_t ctx, const char *path, int flags)
{
	struct iocb cb;

	iocb_openat(&cb, AT_FDCWD, path, flags, 0);
	return aio_as_call(aio_run(ctx, &cb));
}

static bool link_is(int fd, const char *want)
{
	char self[64], target[PATH_MAX + 1];
	ssize_t len;

	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	len = readlink(self, target, sizeof(target) - 1);
	target[len > 0 ? len : 0] = '\0';
	if (strcmp(target, want))
		fprintf(stderr, "# is %s, not %s\n", target, want);
	return !strcmp(target, want);
}

/* What a thread finds below /proc/self and /proc/thread-self. */
static bool finds_itself(aio_context_t ctx)
{
	char path[64], name[16], comm[32] = "";
	int fd, tgid, pid;
	bool good = true;

	snprintf(path, sizeof(path), "/proc/%d", getpid());
	fd = open_request(ctx, "/proc/self/", O_PATH);
	good &= kid_ok(link_is(fd, path));
	close(fd);
	fd = open_request(ctx, "/proc/self/status", O_RDONLY);
	tgid = status_number(fd, "\nTgid:");
	pid = status_number(fd, "\nPid:");
	good &= kid_ok(tgid == getpid()) && kid_ok(pid == getpid());
	close(fd);

	snprintf(path, sizeof(path), "/proc/%d/task/%d", getpid(), gettid());
	fd = open_request(ctx, "/proc/thread-self/", O_PATH);
	good &= kid_ok(link_is(fd, path));
	close(fd);
	fd = open_request(ctx, "/proc/thread-self/status", O_RDONLY);
	tgid = status_number(fd, "\nTgid:");
	pid = status_number(fd, "\nPid:");
	good &= kid_ok(tgid == getpid()) && kid_ok(pid == gettid());
	close(fd);

	/* Writable for nobody but the thread's own process. */
	snprintf(name, sizeof(name), "aio-%d", gettid());
	fd = open_request(ctx, "/proc/thread-self/comm", O_RDWR);
	good &= kid_ok(fd >= 0) &&
		kid_ok(write(fd, name, strlen(name)) == (ssize_t)strlen(name));
	close(fd);
	prctl(PR_GET_NAME, comm);
	return good & kid_ok(!strcmp(comm, name));
}

struct finder {
	aio_context_t	ctx;
	bool		good;
};

static void *finder_thread(void *arg)
{
	struct finder *f = arg;

	f->good = finds_itself(f->ctx);
	return NULL;
}

TEST_F(path, proc_self)
{
	struct finder finder = { .ctx = self->ctx };
	pthread_t thread;

	if (access("/proc/thread-self/comm", F_OK))
		SKIP(return, "no /proc/thread-self");
	EXPECT_TRUE(finds_itself(self->ctx));
	ASSERT_EQ(0, pthread_create(&thread, NULL, finder_thread, &finder));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_TRUE(finder.good);
}

/* Names of what is this process's: its files, memory, namespaces. */
static const struct {
	const char	*path;
	int		flags;
} own_names[] = {
	{ "/proc/self", O_RDONLY | O_DIRECTORY },
	{ "/proc/self/fd", O_RDONLY | O_DIRECTORY },
	{ "/proc/self/fd/%d", O_RDONLY },
	{ "/proc/self/fd/%d", O_PATH },
	{ "/proc/self/fd/%d", O_RDWR },
	{ "/proc/self/fd/%d", O_RDONLY | O_NOFOLLOW },
	{ "/proc/self/fd/%d", O_PATH | O_NOFOLLOW },
	{ "/proc/self/fd/9999", O_RDONLY },
	{ "/proc/thread-self/fd/%d", O_RDONLY },
	{ "/proc/self/fdinfo/%d", O_RDONLY },
	{ "/proc/self/exe", O_RDONLY },
	{ "/proc/self/exe", O_PATH },
	{ "/proc/self/cwd", O_RDONLY | O_DIRECTORY },
	{ "/proc/self/cwd/readable", O_RDONLY },
	{ "/proc/self/root", O_PATH },
	{ "/proc/self/root/proc/self/comm", O_RDONLY },
	{ "/proc/self/comm", O_RDONLY },
	{ "/proc/self/comm", O_RDWR },
	{ "/proc/thread-self/comm", O_RDWR },
	{ "/proc/self/cmdline", O_RDONLY },
	{ "/proc/self/environ", O_RDONLY },
	{ "/proc/self/auxv", O_RDONLY },
	{ "/proc/self/limits", O_RDONLY },
	{ "/proc/self/maps", O_RDONLY },
	{ "/proc/self/mem", O_RDONLY },
	{ "/proc/self/mem", O_RDWR },
	{ "/proc/self/ns/mnt", O_RDONLY },
	{ "/proc/self/ns/user", O_PATH },
	{ "/proc/self/task", O_RDONLY | O_DIRECTORY },
	{ "/proc/mounts", O_RDONLY },
	{ "/proc/self/mountinfo", O_RDONLY },
	{ "/proc/1/fd", O_RDONLY | O_DIRECTORY },
	{ "/proc/1/environ", O_RDONLY },
	{ "/proc/1/root", O_PATH },
	{ "/proc/1/ns/mnt", O_RDONLY },
};

/* Which file it is: two of the same process have the same numbers. */
static void identify(int fd, char *buf, size_t size)
{
	struct stat st = { 0 };

	buf[0] = '\0';
	if (fd >= 0 && !fstat(fd, &st))
		snprintf(buf, size, "%llu:%llu %o %o",
			 (unsigned long long)st.st_dev,
			 (unsigned long long)st.st_ino, st.st_mode,
			 fcntl(fd, F_GETFL));
}

/* Gives the number of differences. @opened counts what could be opened. */
static int own_names_differ(aio_context_t ctx, int reopen, int *opened)
{
	char path[64], want[128], got[128];
	int wrong = 0, fd, again;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(own_names); i++) {
		snprintf(path, sizeof(path), own_names[i].path, reopen);
		fd = sys_openat(AT_FDCWD, path, own_names[i].flags, 0);
		again = open_request(ctx, path, own_names[i].flags);
		identify(fd, want, sizeof(want));
		identify(again, got, sizeof(got));
		if ((fd < 0 || again < 0) ? fd != again : strcmp(want, got)) {
			fprintf(stderr, "# %s: %d %s, not %d %s\n", path,
				again, got, fd, want);
			wrong++;
		}
		*opened += fd >= 0;
		close(fd);
		close(again);
	}
	return wrong;
}

TEST_F_TIMEOUT(path, proc_self_files, 60)
{
	int fd, opened = 0;

	ASSERT_TRUE(aio_put("readable", "readable"));
	fd = open("readable", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, own_names_differ(self->ctx, fd, &opened));
	EXPECT_LT((int)ARRAY_SIZE(own_names) / 2, opened);
	close(fd);
}

struct introspection {
	aio_context_t	ctx;
	char		mapping[64];
};

static void *opens_own_files(void *arg)
{
	struct introspection *own = arg;
	struct iocb cbs[FEW];
	struct io_event ev;
	int i;

	for (;;) {
		for (i = 0; i < FEW; i++) {
			if (i % 4)
				iocb_openat(&cbs[i], AT_FDCWD, own->mapping,
					    O_PATH | O_NOFOLLOW, 0);
			else
				iocb_openat(&cbs[i], AT_FDCWD,
					    "/proc/self/maps", O_RDONLY, 0);
			if (!kid_ok(submit_one(own->ctx, &cbs[i]) == 1))
				return NULL;
		}
		for (i = 0; i < FEW; i++)
			if (!kid_ok(reap_one(own->ctx, &ev, MANY_MS) == 1) ||
			    !kid_ok((long long)ev.res >= 0) ||
			    !kid_ok(!close(ev.res)))
				return NULL;
	}
}

static int kid_of_introspection(struct kid *kid, void *arg)
{
	const size_t much = 4 * 1048576, page = sysconf(_SC_PAGESIZE);
	struct introspection own = { 0 };
	void *mapping;
	int i, fd = *(int *)arg;

	/* Much to look through, which takes little memory. */
	if (!kid_ok(!ftruncate(fd, much)))
		return 1;
	for (i = 0; i < 32; i++)
		if (!kid_ok(mmap(NULL, much, PROT_READ, MAP_SHARED |
				 MAP_POPULATE, fd, 0) != MAP_FAILED))
			return 2;
	mapping = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, much - page);
	if (!kid_ok(mapping != MAP_FAILED))
		return 3;
	snprintf(own.mapping, sizeof(own.mapping),
		 "/proc/self/map_files/%lx-%lx", (long)mapping,
		 (long)mapping + page);
	if (!kid_ok(!sys_io_setup(FEW, &own.ctx)) || !parent_tell(kid, "r"))
		return 4;
	opens_own_files(&own);
	return 5;
}

struct clearing {
	char	path[64];
	bool	stop;
};

/* Takes the lock that workers wait for with the memory in hand, for long. */
static void *clears_refs(void *arg)
{
	struct clearing *c = arg;

	while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED))
		aio_write_text(c->path, "1");
	return NULL;
}

/*
 * A worker that looks into its submitter may be the last one to have its
 * memory, and then must not wait for its own request to end.
 */
TEST_F_TIMEOUT(path, proc_self_killed, 300)
{
	__u32 random = 21;
	struct clearing c;
	pthread_t thread;
	struct kid kid;
	int i, j, fd;

	fd = memfd_create("mapped", MFD_CLOEXEC);
	ASSERT_LE(0, fd);
	for (i = 0; i < 30; i++) {
		ASSERT_TRUE(kid_start(&kid, kid_of_introspection, &fd));
		ASSERT_EQ('r', kid_hear(&kid));
		snprintf(c.path, sizeof(c.path), "/proc/%d/clear_refs",
			 kid.pid);
		ASSERT_EQ(0, access(c.path, W_OK));
		c.stop = false;
		ASSERT_EQ(0, pthread_create(&thread, NULL, clears_refs, &c));
		for (j = 20 + aio_random(&random) % 50; j > 0; j--)
			dawdle(&random);
		ASSERT_EQ(0, kill(kid.pid, SIGKILL));
		ASSERT_EQ(SIGKILL, kid_wait(&kid));
		__atomic_store_n(&c.stop, true, __ATOMIC_RELAXED);
		ASSERT_EQ(0, pthread_join(thread, NULL));
		ASSERT_TRUE(aio_all_gone(&self->env, self->aio_nr)) {
			TH_LOG("round %d", i);
		}
	}
	close(fd);
}

/* The memory that is read is the submitter's. */
TEST_F(path, proc_self_mem)
{
	int fd = open_request(self->ctx, "/proc/self/mem", O_RDONLY);
	static long word;
	long read_back = 0;

	ASSERT_LE(0, fd);
	word = getpid() * 1000003L;
	ASSERT_EQ((ssize_t)sizeof(word),
		  pread64(fd, &read_back, sizeof(read_back),
			  (uintptr_t)&word));
	EXPECT_EQ(word, read_back);
	close(fd);
}

/*
 * Somebody who is not root, and whose process nobody else may look into: only
 * who is of the process itself may open the files of it.
 */
static int kid_not_dumpable(struct kid *kid, void *arg)
{
	int fd, opened = 0;
	aio_context_t ctx = 0;

	(void)kid;
	if (!kid_ok(!sys_io_setup(4, &ctx)))
		return 1;
	fd = open("readable", O_RDWR | O_CLOEXEC);
	if (!kid_ok(fd >= 0) || !kid_ok(!setresgid(NOBODY, NOBODY, NOBODY)) ||
	    !kid_ok(!setresuid(NOBODY, NOBODY, NOBODY)) ||
	    !kid_ok(!prctl(PR_SET_DUMPABLE, *(int *)arg)))
		return 2;
	if (own_names_differ(ctx, fd, &opened))
		return 3;
	/* Or there was nothing to compare. */
	close(fd);
	fd = sys_openat(AT_FDCWD, "/proc/self/fd", O_RDONLY, 0);
	return !kid_ok(fd >= 0) || !kid_ok(opened > 8);
}

TEST_F_TIMEOUT(path, proc_self_not_dumpable, 60)
{
	int dumpable;

	ASSERT_TRUE(aio_put("readable", "readable") &&
		    !chmod("readable", 0666));
	for (dumpable = 0; dumpable < 2; dumpable++)
		EXPECT_EQ(0, kid_run(kid_not_dumpable, &dumpable)) {
			TH_LOG("dumpable %d", dumpable);
		}
}

/* Open once more what is open already, by either name of a descriptor. */
static void reopen(struct __test_metadata *_metadata, aio_context_t ctx,
		   const char *dir)
{
	char path[64];
	int fd, again;

	ASSERT_TRUE(aio_put("file", "the file"));
	fd = open("file", O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, unlink("file"));
	snprintf(path, sizeof(path), "%s/%d", dir, fd);
	again = open_request(ctx, path, O_RDWR);
	ASSERT_LE(0, again) {
		TH_LOG("%s: %s", path, strerror(-again));
	}
	EXPECT_NE(fd, again);
	EXPECT_TRUE(aio_holds(again, "the file"));
	EXPECT_EQ(O_RDWR, fcntl(again, F_GETFL) & O_ACCMODE);
	close(again);
	close(fd);
	EXPECT_EQ(-ENOENT, open_request(ctx, path, O_RDONLY));
}

TEST_F(path, proc_self_fd)
{
	reopen(_metadata, self->ctx, "/proc/self/fd");
}

TEST_F(path, dev_fd)
{
	if (access("/dev/fd/0", F_OK))
		SKIP(return, "no /dev/fd");
	reopen(_metadata, self->ctx, "/dev/fd");
}

/*
 * Drivers and control files may take note of the calling task in ways that a
 * worker cannot stand in for. Names in procfs and sysfs are not looked up
 * without sleeping, so it is only known in a worker.
 */
TEST_F(path, refused_to_workers)
{
	static const char * const paths[] = {
		"/proc/sys/fs/aio-nr", "/sys/kernel/notes",
	};
	int fd, next = aio_next_fd(), tried = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(paths); i++) {
		fd = sys_openat(AT_FDCWD, paths[i], O_RDONLY, 0);
		if (fd < 0)
			continue;
		close(fd);
		tried++;
		fd = open_request(self->ctx, paths[i], O_RDONLY);
		EXPECT_EQ(-EOPNOTSUPP, fd) {
			TH_LOG("%s", paths[i]);
		}
		/* That does not call them. */
		fd = open_request(self->ctx, paths[i], O_PATH);
		EXPECT_EQ(next, fd) {
			TH_LOG("%s", paths[i]);
		}
		close(fd);
	}
	EXPECT_EQ(next, aio_next_fd());
	EXPECT_LT(0, tried);
}

/* ---- terminals ---- */

struct tty_arg {
	bool	aio;
	int	flags;
	int	*res;		/* shared */
};

/* A terminal that is nobody's yet: the slave's name, and the master. */
static int make_tty(char *name, size_t size)
{
	int unlock = 0, nr, master;

	master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) ||
	    ioctl(master, TIOCGPTN, &nr)) {
		close(master);
		return -1;
	}
	snprintf(name, size, "/dev/pts/%d", nr);
	if (access(name, F_OK)) {
		close(master);
		return -1;
	}
	return master;
}

static unsigned int tty_device(int fd)
{
	unsigned int dev = 0;

	return ioctl(fd, TIOCGDEV, &dev) ? 0 : dev;
}

static int kid_with_tty(struct kid *kid, void *arg)
{
	int master, others, slave, fd, mine;
	char name[64], other_name[64], c;
	aio_context_t ctx = 0;

	(void)kid;
	(void)arg;
	if (setsid() < 0)
		return 1;
	/* From there names are looked up without sleeping. */
	if (!kid_ok(!chdir("/dev")))
		return 1;
	others = make_tty(other_name, sizeof(other_name));
	master = make_tty(name, sizeof(name));
	if (master < 0 || others < 0)
		return 4;
	/* Without one there is nothing to open. */
	if (!kid_ok(!sys_io_setup(4, &ctx)) ||
	    !kid_ok(sys_openat(AT_FDCWD, "/dev/tty", O_RDWR, 0) == -ENXIO) ||
	    !kid_ok(open_request(ctx, "tty", O_RDWR) == -ENXIO))
		return 1;
	slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (!kid_ok(slave >= 0) || !kid_ok(!ioctl(slave, TIOCSCTTY, 0)))
		return 2;
	fd = sys_openat(AT_FDCWD, "/dev/tty", O_RDWR, 0);
	mine = open_request(ctx, "tty", O_RDWR);
	if (!kid_ok(fd >= 0) || !kid_ok(mine >= 0) ||
	    !kid_ok(tty_device(slave)) ||
	    !kid_ok(tty_device(fd) == tty_device(slave)) ||
	    !kid_ok(tty_device(mine) == tty_device(slave)) ||
	    !kid_ok(fcntl(mine, F_GETFL) == fcntl(fd, F_GETFL)))
		return 3;
	if (!kid_ok(write(mine, "t", 1) == 1) ||
	    !kid_ok(read(master, &c, 1) == 1) || !kid_ok(c == 't'))
		return 3;
	/* Given up, it is gone. */
	signal(SIGHUP, SIG_IGN);
	if (!kid_ok(!ioctl(slave, TIOCNOTTY)) ||
	    !kid_ok(open_request(ctx, "tty", O_RDWR) == -ENXIO))
		return 5;
	return 0;
}

TEST_F(path, dev_tty)
{
	int code;

	if (access("/dev/tty", F_OK))
		SKIP(return, "no /dev/tty");
	code = kid_run(kid_with_tty, NULL);
	if (code == 4)
		SKIP(return, "no pseudo terminals");
	EXPECT_EQ(0, code);
}

static int kid_takes_tty(struct kid *kid, void *arg)
{
	struct tty_arg *a = arg;
	aio_context_t ctx = 0;
	char name[64];
	int fd;

	(void)kid;
	if (setsid() < 0 || make_tty(name, sizeof(name)) < 0)
		return 4;
	if (!kid_ok(!sys_io_setup(4, &ctx)))
		return 1;
	if (!kid_ok(!chdir("/dev")))
		return 1;
	fd = a->aio ? open_request(ctx, name + strlen("/dev/"), a->flags) :
		      sys_openat(AT_FDCWD, name, a->flags, 0);
	if (!kid_ok(fd >= 0))
		return 2;
	signal(SIGHUP, SIG_IGN);
	*a->res = sys_openat(AT_FDCWD, "/dev/tty", O_RDWR, 0) >= 0;
	return 0;
}

/* To open a terminal makes it that of a session without one. */
TEST_F(path, terminal_becomes_controlling)
{
	static const int flags[] = { O_RDWR, O_RDWR | O_NOCTTY, O_RDONLY };
	int *res, aio, code;
	size_t i;

	res = mmap(NULL, 2 * sizeof(*res), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(res != MAP_FAILED);
	if (access("/dev/tty", F_OK))
		SKIP(return, "no /dev/tty");
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		for (aio = 0; aio < 2; aio++) {
			struct tty_arg arg = {
				.aio = aio, .flags = flags[i],
				.res = &res[aio],
			};

			*arg.res = -1;
			code = kid_run(kid_takes_tty, &arg);
			if (code == 4)
				SKIP(return, "no pseudo terminals");
			ASSERT_EQ(0, code);
		}
		EXPECT_EQ(!(flags[i] & O_NOCTTY), res[0]);
		EXPECT_EQ(res[0], res[1]) {
			TH_LOG("flags %o", flags[i]);
		}
	}
	munmap(res, 2 * sizeof(*res));
}

/* ---- what is captured at io_submit() ---- */

/*
 * All workers are busy while the requests here are submitted and all that they
 * depend on becomes something else. Each child works in a directory of its
 * own, with the same names in "a", which is right, and in "b", which is wrong.
 */
FIXTURE(held)
{
	struct aio_env env;
	char top[32];
};

FIXTURE_SETUP(held)
{
	umask(0);
	signal(SIGPIPE, SIG_IGN);
	AIO_SETUP(&self->env, true, true, EVENTS);
	ASSERT_EQ(0, setgroups(0, NULL));
	ASSERT_TRUE(place_make(self->top));
}

FIXTURE_TEARDOWN(held)
{
	EXPECT_TRUE(place_remove(self->top));
	AIO_TEARDOWN(&self->env);
}

static bool held_dir(const char *name)
{
	if (mkdir(name, 0755) || chdir(name))
		return false;
	if (!aio_put("inner", name) || !aio_put("old", name) ||
	    !aio_put("victim", name) || !aio_put("secret", name) ||
	    chmod("secret", 0600) || symlink("/inner", "abs") ||
	    mkdir("empty", 0755) || mkdir("open", 0777))
		return false;
	return !chdir("..");
}

/* One request of each kind, relative to @at; what they do in "a" only. */
enum { HELD_OPEN, HELD_MAKE, HELD_RENAME, HELD_UNLINK, HELD_NR };

struct held {
	struct many		m;
	struct renameat_info	info;
};

static bool held_init(struct held *h, int nr)
{
	aio_context_t ctx = 0;

	return kid_ok(!sys_io_setup(nr, &ctx)) &&
	       kid_ok(many_init(&h->m, ctx, nr));
}

static bool held_submit(struct held *h)
{
	int i;

	for (i = 0; i < h->m.nr; i++)
		h->m.cbs[i].aio_data = i;
	return kid_ok(!many_submit(&h->m, 0, h->m.nr));
}

static bool held_each(struct held *h, int at, int to_at)
{
	if (!held_init(h, HELD_NR))
		return false;
	iocb_openat(&h->m.cbs[HELD_OPEN], at, "inner", O_RDONLY, 0);
	iocb_openat(&h->m.cbs[HELD_MAKE], at, "made", O_CREAT | O_RDWR, 0666);
	iocb_renameat(&h->m.cbs[HELD_RENAME], &h->info, at, "old", to_at, "new",
		      0);
	iocb_unlinkat(&h->m.cbs[HELD_UNLINK], at, "victim", 0);
	return held_submit(h);
}

/* Say that all has been submitted and has changed; then wait for the events. */
static bool held_reap(struct kid *kid, struct held *h)
{
	return kid_ok(aio_no_event(h->m.ctx)) && parent_tell(kid, "s") &&
	       parent_hear(kid) &&
	       kid_ok(many_reap(&h->m, h->m.nr, MANY_MS)) &&
	       kid_ok(!h->m.wrong);
}

/* Have they all been done in "a", and nothing in "b"? */
static bool held_done(struct held *h)
{
	return kid_ok(h->m.res[HELD_OPEN] >= 0) &&
	       kid_ok(aio_holds(h->m.res[HELD_OPEN], "a")) &&
	       kid_ok(h->m.res[HELD_MAKE] >= 0) &&
	       kid_ok(!h->m.res[HELD_RENAME]) &&
	       kid_ok(!h->m.res[HELD_UNLINK]) &&
	       kid_ok(aio_exists("a/made")) && kid_ok(!aio_exists("b/made")) &&
	       kid_ok(!aio_exists("a/old")) && kid_ok(aio_exists("b/old")) &&
	       kid_ok(aio_exists("a/new")) && kid_ok(!aio_exists("b/new")) &&
	       kid_ok(!aio_exists("a/victim")) &&
	       kid_ok(aio_exists("b/victim"));
}

static int held_chdir(struct kid *kid, void *arg)
{
	struct held h;

	(void)arg;
	if (chdir("a") || !held_each(&h, AT_FDCWD, AT_FDCWD) ||
	    !kid_ok(!chdir("../b")) || !held_reap(kid, &h) || chdir(".."))
		return 1;
	return !held_done(&h);
}

static int held_removed_cwd(struct kid *kid, void *arg)
{
	struct held h;

	(void)arg;
	/* A working directory that is moved is still the same. */
	if (chdir("a") || !held_each(&h, AT_FDCWD, AT_FDCWD) ||
	    !kid_ok(!chdir("..")) || !kid_ok(!rename("a", "c")) ||
	    !kid_ok(!rename("b", "a")) || !held_reap(kid, &h) ||
	    !kid_ok(!rename("a", "b")) || !kid_ok(!rename("c", "a")))
		return 1;
	return !held_done(&h);
}

static int held_chroot(struct kid *kid, void *arg)
{
	int a, b, top;
	struct held h;

	(void)arg;
	top = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	a = open("a", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	b = open("b", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!held_init(&h, 6) || fchdir(a) || !kid_ok(!chroot(".")))
		return 1;
	iocb_openat(&h.m.cbs[0], AT_FDCWD, "/inner", O_RDONLY, 0);
	iocb_openat(&h.m.cbs[1], AT_FDCWD, "/abs", O_RDONLY, 0);
	iocb_openat(&h.m.cbs[2], AT_FDCWD, "../../inner", O_RDONLY, 0);
	/* From outside, but what is absolute there is inside. */
	iocb_openat(&h.m.cbs[3], b, "abs", O_RDONLY, 0);
	iocb_renameat(&h.m.cbs[4], &h.info, AT_FDCWD, "/old", AT_FDCWD, "/new",
		      0);
	iocb_unlinkat(&h.m.cbs[5], AT_FDCWD, "/victim", 0);
	if (!held_submit(&h) || fchdir(b) || !kid_ok(!chroot(".")) ||
	    !held_reap(kid, &h) || !kid_ok(!fchdir(top)))
		return 2;
	return !kid_ok(aio_holds(h.m.res[0], "a")) ||
	       !kid_ok(aio_holds(h.m.res[1], "a")) ||
	       !kid_ok(aio_holds(h.m.res[2], "a")) ||
	       !kid_ok(aio_holds(h.m.res[3], "a")) ||
	       !kid_ok(!h.m.res[4]) || !kid_ok(!h.m.res[5]) ||
	       !kid_ok(aio_exists("a/new")) || !kid_ok(aio_exists("b/old")) ||
	       !kid_ok(!aio_exists("a/victim")) ||
	       !kid_ok(aio_exists("b/victim"));
}

static mode_t mode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : st.st_mode & 07777;
}

static int held_umask(struct kid *kid, void *arg)
{
	struct held h;

	(void)arg;
	if (!held_init(&h, 3))
		return 1;
	iocb_openat(&h.m.cbs[0], AT_FDCWD, "made", O_CREAT | O_RDWR, 0666);
	iocb_openat(&h.m.cbs[1], AT_FDCWD, ".", O_TMPFILE | O_RDWR, 0777);
	iocb_openat(&h.m.cbs[2], AT_FDCWD, "open", O_CREAT | O_RDWR, 06666);
	umask(026);
	if (!held_submit(&h))
		return 2;
	umask(0);
	if (!held_reap(kid, &h))
		return 3;
	return !kid_ok(mode_of(h.m.res[0]) == 0640) ||
	       !kid_ok(mode_of(h.m.res[1]) == 0751) ||
	       !kid_ok(mode_of(h.m.res[2]) == 06640);
}

static int held_close(struct kid *kid, void *arg)
{
	int a = open("a", O_PATH | O_CLOEXEC);
	struct held h;

	(void)arg;
	if (!held_each(&h, a, a) || !kid_ok(!close(a)) || !held_reap(kid, &h))
		return 1;
	return !held_done(&h);
}

static int held_dup2(struct kid *kid, void *arg)
{
	int a = open("a", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int b = open("b", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct held h;

	(void)arg;
	if (!held_each(&h, a, a) || !kid_ok(dup2(b, a) == a) ||
	    !held_reap(kid, &h))
		return 1;
	return !held_done(&h);
}

static int held_lower_limit(struct kid *kid, void *arg)
{
	struct rlimit limit;
	struct held h;

	(void)arg;
	if (chdir("a") || !held_each(&h, AT_FDCWD, AT_FDCWD) ||
	    !kid_ok(limit_fds(3, &limit)) || !held_reap(kid, &h) ||
	    setrlimit(RLIMIT_NOFILE, &limit) || chdir(".."))
		return 1;
	return !held_done(&h);
}

static int held_higher_limit(struct kid *kid, void *arg)
{
	struct io_event ev;
	struct rlimit limit;
	struct held h;
	long ret;

	(void)arg;
	if (!held_init(&h, 1))
		return 1;
	iocb_openat(&h.m.cbs[0], AT_FDCWD, "made", O_CREAT | O_RDWR, 0600);
	if (!kid_ok(limit_fds(aio_next_fd(), &limit)))
		return 1;
	/* It is the kernel's choice when to say so. */
	ret = submit_one(h.m.ctx, &h.m.cbs[0]);
	if (setrlimit(RLIMIT_NOFILE, &limit) || !parent_tell(kid, "s") ||
	    !parent_hear(kid))
		return 2;
	if (ret == 1) {
		if (!kid_ok(reap_one(h.m.ctx, &ev, MANY_MS) == 1))
			return 3;
		ret = ev.res;
	}
	return !kid_ok(ret == -EMFILE) || !kid_ok(!aio_exists("made"));
}

static int held_nobody(struct kid *kid, void *arg)
{
	struct held h;

	(void)arg;
	if (!held_init(&h, 5) || chdir("a"))
		return 1;
	iocb_openat(&h.m.cbs[0], AT_FDCWD, "secret", O_RDONLY, 0);
	iocb_openat(&h.m.cbs[1], AT_FDCWD, "made", O_CREAT | O_RDWR, 0600);
	iocb_openat(&h.m.cbs[2], AT_FDCWD, "open/made", O_CREAT | O_RDWR, 0600);
	iocb_renameat(&h.m.cbs[3], &h.info, AT_FDCWD, "old", AT_FDCWD, "new",
		      0);
	iocb_unlinkat(&h.m.cbs[4], AT_FDCWD, "victim", 0);
	if (!kid_ok(become_nobody()) || !held_submit(&h) ||
	    !kid_ok(become_root()) || !held_reap(kid, &h))
		return 2;
	return !kid_ok(h.m.res[0] == -EACCES) ||
	       !kid_ok(h.m.res[1] == -EACCES) || !kid_ok(h.m.res[2] >= 0) ||
	       !kid_ok(h.m.res[3] == -EACCES) ||
	       !kid_ok(h.m.res[4] == -EACCES) || !kid_ok(!aio_exists("made")) ||
	       !kid_ok(aio_exists("old")) || !kid_ok(aio_exists("victim"));
}

static int held_root(struct kid *kid, void *arg)
{
	struct stat st;
	struct held h;

	(void)arg;
	if (!held_init(&h, 2) || chdir("a"))
		return 1;
	iocb_openat(&h.m.cbs[0], AT_FDCWD, "secret", O_RDONLY, 0);
	iocb_openat(&h.m.cbs[1], AT_FDCWD, "made", O_CREAT | O_RDWR, 0600);
	/* For good, unlike above. */
	if (!held_submit(&h) || !kid_ok(!setresgid(NOBODY, NOBODY, NOBODY)) ||
	    !kid_ok(!setresuid(NOBODY, NOBODY, NOBODY)) || !held_reap(kid, &h))
		return 2;
	return !kid_ok(aio_holds(h.m.res[0], "a")) ||
	       !kid_ok(h.m.res[1] >= 0) || !kid_ok(!fstat(h.m.res[1], &st)) ||
	       !kid_ok(!st.st_uid);
}

static int held_memory(struct kid *kid, void *arg)
{
	struct handed_over *given;
	struct iocb *ptrs[3];
	int i, ok[3] = { 0 };
	struct io_event ev;
	struct held h;

	(void)arg;
	given = mmap(NULL, sizeof(*given), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (given == MAP_FAILED || !held_init(&h, 3) || chdir("a"))
		return 1;
	strcpy(given->path[0], "inner");
	strcpy(given->path[1], "old");
	strcpy(given->path[2], "victim");
	strcpy(given->to, "new");
	iocb_openat(&given->cbs[0], AT_FDCWD, given->path[0], O_RDONLY, 0);
	iocb_renameat(&given->cbs[1], &given->info, AT_FDCWD, given->path[1],
		      AT_FDCWD, given->to, 0);
	iocb_unlinkat(&given->cbs[2], AT_FDCWD, given->path[2], 0);
	for (i = 0; i < 3; i++) {
		given->cbs[i].aio_data = i;
		ptrs[i] = &given->cbs[i];
	}
	if (!kid_ok(sys_io_submit(h.m.ctx, 3, ptrs) == 3))
		return 2;
	/* Something else, then nothing at all. */
	strcpy(given->path[0], "secret");
	strcpy(given->path[1], "inner");
	strcpy(given->path[2], "inner");
	strcpy(given->to, "b");
	given->info.olddirfd = -1;
	memset(given->cbs, 0xff, sizeof(given->cbs));
	if (!kid_ok(!munmap(given, sizeof(*given))) || !parent_tell(kid, "s") ||
	    !parent_hear(kid))
		return 3;
	for (i = 0; i < 3; i++) {
		if (!kid_ok(reap_one(h.m.ctx, &ev, MANY_MS) == 1) ||
		    !kid_ok(ev.data < 3) || !kid_ok(!ok[ev.data]++))
			return 4;
		if (ev.data ? !kid_ok(!ev.res) :
			      !kid_ok(aio_holds(ev.res, "a")))
			return 5;
	}
	return !kid_ok(aio_exists("new")) || !kid_ok(!aio_exists("old")) ||
	       !kid_ok(!aio_exists("victim")) || !kid_ok(aio_exists("inner"));
}

/* A directory that becomes a mount point, but not where it was submitted. */
static int held_namespace(struct kid *kid, void *arg)
{
	struct held h;

	(void)arg;
	if (!held_init(&h, 2))
		return 1;
	iocb_unlinkat(&h.m.cbs[0], AT_FDCWD, "a/empty", AT_REMOVEDIR);
	iocb_renameat(&h.m.cbs[1], &h.info, AT_FDCWD, "b/empty", AT_FDCWD,
		      "b/full", 0);
	if (!held_submit(&h) || !kid_ok(private_mounts()) ||
	    !kid_ok(!mount("kid", "a/empty", "tmpfs", 0, NULL)) ||
	    !kid_ok(!mount("kid", "b/empty", "tmpfs", 0, NULL)) ||
	    !held_reap(kid, &h))
		return 2;
	return !kid_ok(!h.m.res[0]) || !kid_ok(!h.m.res[1]) ||
	       !kid_ok(!aio_exists("a/empty")) ||
	       !kid_ok(!aio_exists("b/empty")) || !kid_ok(aio_exists("b/full"));
}

/* Descriptors that are made meanwhile, by whatever means, stay what they are. */
static int held_descriptors(struct kid *kid, void *arg)
{
	int i, j, fd, mine[12], nr = 0, next[8];
	struct held h;

	(void)arg;
	if (!held_init(&h, 4))
		return 1;
	for (i = 0; i < 4; i++)
		iocb_openat(&h.m.cbs[i], AT_FDCWD, "a/inner", O_RDONLY, 0);
	aio_next_fds(next, 8);
	if (!held_submit(&h))
		return 2;
	for (i = 0; i < 4; i++)
		mine[nr++] = open("b/inner", O_RDONLY | O_CLOEXEC);
	/*
	 * All numbers that there might be a result with. Those that are set
	 * aside give EBUSY, as while any other open is under way.
	 */
	for (i = 0; i < 8; i++) {
		if (is_of(next[i], "b/inner"))
			continue;
		fd = dup2(mine[0], next[i]);
		if (!kid_ok(fd == next[i] || errno == EBUSY))
			return 3;
		if (fd == next[i])
			mine[nr++] = fd;
	}
	if (!held_reap(kid, &h))
		return 4;
	for (i = 0; i < nr; i++)
		if (!kid_ok(aio_holds(mine[i], "b")))
			return 5;
	for (i = 0; i < 4; i++) {
		if (!kid_ok(aio_holds(h.m.res[i], "a")))
			return 6;
		for (j = 0; j < i; j++)
			if (!kid_ok(h.m.res[i] != h.m.res[j]))
				return 7;
	}
	return 0;
}

struct held_thread {
	struct held	*h;
	bool		good;
};

static void *submit_and_leave(void *arg)
{
	struct held_thread *t = arg;

	t->good = held_each(t->h, AT_FDCWD, AT_FDCWD);
	return NULL;
}

/* The submitting thread is gone; its process is not. */
static int held_thread(struct kid *kid, void *arg)
{
	struct held h;
	struct held_thread t = { .h = &h };
	pthread_t thread;

	(void)arg;
	if (chdir("a") ||
	    !kid_ok(!pthread_create(&thread, NULL, submit_and_leave, &t)) ||
	    !kid_ok(!pthread_join(thread, NULL)) || !kid_ok(t.good) ||
	    !held_reap(kid, &h) || chdir(".."))
		return 1;
	return !held_done(&h);
}

static bool held_undone(void)
{
	return kid_ok(aio_exists("a/old")) && kid_ok(aio_exists("a/victim")) &&
	       kid_ok(!aio_exists("a/made")) && kid_ok(!aio_exists("a/new"));
}

/* Cancelled without ever having had a worker: there is none to be had. */
static int held_cancelled(struct kid *kid, void *arg)
{
	int i, a = open("a", O_PATH | O_CLOEXEC), fds, next;
	struct io_event ev;
	struct held h;

	(void)arg;
	next = aio_next_fd();
	fds = aio_count_fds();
	if (!held_each(&h, a, a))
		return 1;
	for (i = 0; i < HELD_NR; i++)
		if (!kid_ok(sys_io_cancel(h.m.ctx, &h.m.cbs[i], &ev) ==
			    -EINPROGRESS))
			return 2;
	if (!kid_ok(many_reap(&h.m, HELD_NR, AIO_PATIENCE_MS)))
		return 3;
	for (i = 0; i < HELD_NR; i++)
		if (!kid_ok(h.m.res[i] == -ECANCELED))
			return 4;
	if (!kid_ok(aio_count_fds() == fds) || !kid_ok(aio_next_fd() == next) ||
	    !parent_tell(kid, "s") || !parent_hear(kid))
		return 5;
	return !held_undone() || !kid_ok(aio_no_event(h.m.ctx));
}

static int held_destroyed(struct kid *kid, void *arg)
{
	int a = open("a", O_PATH | O_CLOEXEC), fds, next;
	struct held h;

	(void)arg;
	next = aio_next_fd();
	fds = aio_count_fds();
	if (!held_each(&h, a, a) || !kid_ok(!sys_io_destroy(h.m.ctx)) ||
	    !kid_ok(aio_count_fds() == fds) || !kid_ok(aio_next_fd() == next) ||
	    !parent_tell(kid, "s") || !parent_hear(kid))
		return 1;
	return !held_undone();
}

/* Its child has got nothing, also not what was only set aside. */
static int held_fork(struct kid *kid, void *arg)
{
	int a = open("a", O_PATH | O_CLOEXEC), next = aio_next_fd();
	struct held h;
	struct kid child;

	if (!held_each(&h, a, a) ||
	    !kid_ok(kid_start(&child, kid_of_fork, &next)) ||
	    !kid_ok(kid_hear(&child) == 'r') || !held_reap(kid, &h) ||
	    !kid_tell(&child, "e") || !kid_ok(!kid_wait(&child)))
		return 1;
	(void)arg;
	return !held_done(&h);
}

static const struct {
	const char	*name;
	int		(*fn)(struct kid *kid, void *arg);
} held_kids[] = {
	{ "chdir", held_chdir },
	{ "moved", held_removed_cwd },
	{ "chroot", held_chroot },
	{ "umask", held_umask },
	{ "close", held_close },
	{ "dup2", held_dup2 },
	{ "lower limit", held_lower_limit },
	{ "higher limit", held_higher_limit },
	{ "nobody", held_nobody },
	{ "root", held_root },
	{ "memory", held_memory },
	{ "namespace", held_namespace },
	{ "descriptors", held_descriptors },
	{ "thread", held_thread },
	{ "cancelled", held_cancelled },
	{ "destroyed", held_destroyed },
	{ "fork", held_fork },
};

static int held_in_dir(struct kid *kid, void *arg)
{
	int i = *(int *)arg;

	if (!kid_ok(!mkdir(held_kids[i].name, 0777)) ||
	    !kid_ok(!chdir(held_kids[i].name)) || !kid_ok(held_dir("a")) ||
	    !kid_ok(held_dir("b")))
		return 100;
	return held_kids[i].fn(kid, NULL);
}

TEST_F_TIMEOUT(held, captured_at_submit, 600)
{
	struct kid kids[ARRAY_SIZE(held_kids)];
	struct crowd crowd;
	const char *why;
	int i, nr = ARRAY_SIZE(held_kids);

	/* As the children see it: without what the requests below need. */
	why = crowd_all_workers(&crowd);
	ASSERT_TRUE(!why) {
		TH_LOG("%s", why);
	}
	for (i = 0; i < nr; i++) {
		ASSERT_TRUE(kid_start(&kids[i], held_in_dir, &i));
		/* One that has failed says nothing, and why below. */
		EXPECT_EQ('s', kid_hear(&kids[i])) {
			TH_LOG("%s", held_kids[i].name);
		}
	}
	EXPECT_EQ(0, crowd_leave(&crowd));
	for (i = 0; i < nr; i++) {
		kid_tell(&kids[i], "e");
		EXPECT_EQ(0, kid_wait(&kids[i])) {
			TH_LOG("%s", held_kids[i].name);
		}
	}
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "--after-exec"))
		return after_exec(atoi(argv[2]), atoi(argv[3]));
	return test_harness_run(argc, argv);
}

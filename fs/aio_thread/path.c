// SPDX-License-Identifier: GPL-2.0
/*
 * What operations on paths need from C: names, the context that they are
 * resolved in, descriptors, and the calls into fs/namei.c.
 */
#include <linux/aio.h>
#include <linux/aio_abi.h>
#include <linux/audit.h>
#include <linux/compat.h>
#include <linux/cred.h>
#include <linux/fcntl.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/fsnotify.h>
#include <linux/magic.h>
#include <linux/namei.h>
#include <linux/nsproxy.h>
#include <linux/quotaops.h>
#include <linux/sched/task.h>
#include <linux/seccomp.h>
#include <linux/security.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <asm/unistd.h>

#include "../internal.h"
#ifdef CONFIG_PROC_FS
#include "../proc/internal.h"
#endif
#include "glue.h"

#if defined(CONFIG_SECCOMP_FILTER) || defined(CONFIG_AUDITSYSCALL)
static int aio_call_number(enum aio_call call)
{
	static const int native[] = {
		[AIO_CALL_OPENAT]	= __NR_openat,
		[AIO_CALL_UNLINKAT]	= __NR_unlinkat,
		[AIO_CALL_READAHEAD]	= __NR_readahead,
		[AIO_CALL_RENAMEAT2]	= __NR_renameat2,
	};
#ifdef CONFIG_IA32_EMULATION
	static const int ia32[] = {
		[AIO_CALL_OPENAT]	= __NR_ia32_openat,
		[AIO_CALL_UNLINKAT]	= __NR_ia32_unlinkat,
		[AIO_CALL_READAHEAD]	= __NR_ia32_readahead,
		[AIO_CALL_RENAMEAT2]	= __NR_ia32_renameat2,
	};

	if (in_ia32_syscall())
		return ia32[call];
#endif
	/* There are no numbers here for other ABIs. */
	if (in_compat_syscall() || !IS_ENABLED(CONFIG_64BIT))
		return -EINVAL;
	return native[call];
}
#endif

#ifdef CONFIG_SECCOMP_FILTER
/**
 * aio_seccomp - ask the running task's seccomp filters
 * @call: the system call that a request stands for
 * @args: its arguments, in 64 bits
 *
 * Context: The submitting task, in io_submit(). Sleeps for memory if the filters
 * want a record.
 * Return: 1 if the request may run, else its result, see seccomp_judge().
 */
int aio_seccomp(enum aio_call call, const u64 args[6])
{
	u64 split[6] = {};
	int i, nr;

	if (likely(seccomp_mode(&current->seccomp) == SECCOMP_MODE_DISABLED))
		return 1;

	nr = aio_call_number(call);
	if (in_compat_syscall()) {
		if (call == AIO_CALL_READAHEAD) {
			split[0] = args[0];
			split[1] = lower_32_bits(args[1]);
			split[2] = upper_32_bits(args[1]);
			split[3] = args[2];
		} else {
			memcpy(split, args, sizeof(split));
		}
		args = split;
		/* No call of this ABI has such an argument. */
		for (i = 0; i < ARRAY_SIZE(split); i++)
			if (upper_32_bits(split[i]))
				nr = -EINVAL;
	}
	return seccomp_judge(nr, args);
}
#else
/* Without filters there is strict mode, which knows none of these calls. */
int aio_seccomp(enum aio_call call, const u64 args[6])
{
	return seccomp_mode(&current->seccomp) == SECCOMP_MODE_DISABLED ?
		1 : -EPERM;
}
#endif

/* Whether audit is recording the running system call. */
static bool aio_audit_active(void)
{
	return audit_enabled && !audit_dummy_context();
}

/**
 * aio_path_in_submitter - whether a worker cannot stand in for the running task
 *
 * Where paths are concerned it cannot, if a security module decides by more than
 * the credentials, which it has, or if audit is recording the task's system
 * calls.
 *
 * Context: The submitting task.
 */
bool aio_path_in_submitter(void)
{
	return security_judges_by_task() || aio_audit_active();
}

/**
 * aio_call_begin - begin to carry out a system call inside io_submit()
 * @call: the system call
 * @args: its arguments, in 64 bits
 * @outer: for aio_call_end()
 *
 * For audit, what follows is that system call.
 *
 * Context: The submitting task. Sleeps for memory.
 * Return: 0; -ENOMEM; -EOPNOTSUPP if audit is recording, and the caller's ABI
 * has no number here.
 */
int aio_call_begin(enum aio_call call, const u64 args[6],
		   struct audit_context **outer)
{
	*outer = NULL;
#ifdef CONFIG_AUDITSYSCALL
	if (aio_audit_active()) {
		int nr = aio_call_number(call);

		if (nr < 0)
			return -EOPNOTSUPP;
		*outer = audit_call_begin(nr, args[0], args[1], args[2],
					  args[3]);
		if (IS_ERR(*outer))
			return PTR_ERR(*outer);
	}
#endif
	return 0;
}

/**
 * aio_call_end - the system call inside io_submit() has its result
 * @outer: what aio_call_begin() has left there
 * @res: the result
 *
 * Context: The submitting task. Sleeps for memory.
 */
void aio_call_end(struct audit_context *outer, long res)
{
#ifdef CONFIG_AUDITSYSCALL
	if (outer)
		audit_call_end(outer, res);
#endif
}

/**
 * aio_name_import - copy a path name
 * @name: set up, to be given back with dismiss_delayed_filename()
 * @ptr: address in user memory
 * @may_be_empty: the name may be empty
 *
 * Context: The submitting task; may fault and sleep for memory.
 * Return: 0, -EFAULT, -ENAMETOOLONG, -ENOMEM, or -ENOENT for an empty name
 * that may not be.
 */
int aio_name_import(struct delayed_filename *name, u64 ptr, bool may_be_empty)
{
	return delayed_getname_gfp(name, u64_to_user_ptr(ptr),
				   may_be_empty ? AT_EMPTY_PATH : 0, AIO_GFP);
}

bool aio_name_is_absolute(const struct delayed_filename *name)
{
	return name->__incomplete_filename->name[0] == '/';
}

bool aio_dir_exists(int fd)
{
	CLASS(fd_raw, f)(fd);

	return !fd_empty(f);
}

/**
 * aio_dir_get - take hold of where a directory descriptor leads to
 * @fd: descriptor of the running task
 *
 * Not of the file itself: who has the last reference to that has to wait for
 * what closing it leads to, and it may be anything, not only a directory.
 *
 * Context: The submitting task; sleeps for memory.
 * Return: an %O_PATH file for the same, or an ERR_PTR() of -EBADF, -ENOMEM or
 * -ENFILE.
 */
struct file *aio_dir_get(int fd)
{
	CLASS(fd_raw, f)(fd);

	if (fd_empty(f))
		return ERR_PTR(-EBADF);
	return dentry_open(&fd_file(f)->f_path, O_PATH, current_cred());
}

/**
 * aio_path_capture - remember what the running task resolves paths with
 * @context: filled in but for its directories
 *
 * The fs_struct is a copy: nobody else changes it, and neither is the
 * submitter's shared by more users than there are threads, which exec would
 * notice.
 *
 * Context: The submitting task; sleeps for memory.
 * Return: 0 or -ENOMEM.
 */
int aio_path_capture(struct aio_path_context *context)
{
	context->fs = copy_fs_struct_gfp(current->fs, AIO_GFP);
	if (!context->fs)
		return -ENOMEM;
	context->nsproxy = current->nsproxy;
	get_nsproxy(context->nsproxy);
	return 0;
}

void aio_path_release(struct aio_path_context *context)
{
	put_nsproxy(context->nsproxy);
	free_fs_struct(context->fs);
}

static void aio_set_nsproxy(struct nsproxy *nsproxy)
{
	/* Others look at it, through /proc/<pid>/ns. */
	task_lock(current);
	current->nsproxy = nsproxy;
	task_unlock(current);
}

/**
 * aio_path_enter - resolve paths as the submitter does
 * @saved: filled in with what the worker has
 * @context: of the request
 *
 * Until aio_path_leave(). current->real_fs stays the worker's, which is what
 * others see of it; only its own look-ups use current->fs.
 *
 * Context: A worker that acts for the submitter.
 */
void aio_path_enter(struct aio_path_saved *saved,
		    const struct aio_path_context *context)
{
	saved->outer = current->aio_task;
	saved->task = *saved->outer;
	saved->task.dir = context->dir;
	current->aio_task = &saved->task;

	saved->fs = current->fs;
	WRITE_ONCE(current->fs, context->fs);

	saved->nsproxy = current->nsproxy;
	aio_set_nsproxy(context->nsproxy);
}

void aio_path_leave(const struct aio_path_saved *saved)
{
	aio_set_nsproxy(saved->nsproxy);
	WRITE_ONCE(current->fs, saved->fs);
	current->aio_task = saved->outer;
}

/**
 * aio_dirfd - what a directory descriptor stands for in a worker
 * @dfd: number of a directory in the request
 *
 * Context: A worker that acts for a submitter.
 * Return: the file, which the request holds; empty if the request has no such.
 */
struct fd aio_dirfd(int dfd)
{
	struct file * const *dir = current->aio_task->dir;

	if (!dir || dfd < 0 || dfd > 1 || !dir[dfd])
		return EMPTY_FD;
	return BORROWED_FD(dir[dfd]);
}

/**
 * aio_has_task - whether whom the running task acts for is still there
 * @type: %PIDTYPE_PID for the thread, %PIDTYPE_TGID for the process
 *
 * If not, its number may be somebody else's.
 *
 * Context: Any; does not sleep.
 */
bool aio_has_task(enum pid_type type)
{
	const struct aio_task *aio = current->aio_task;

	if (!aio)
		return true;
	return pid_has_task(type == PIDTYPE_PID ? aio->pid : aio->tgid, type);
}

/**
 * aio_is_same_process - whether the running task acts for a thread of a process
 * @task: a thread of that process
 *
 * What threads of one process may see of each other. In a worker that is what
 * the submitting process may, as long as it has the credentials that it had.
 *
 * Context: Any; does not sleep.
 */
bool aio_is_same_process(struct task_struct *task)
{
	const struct aio_task *aio = current->aio_task;

	if (!aio)
		return same_thread_group(task, current);
	return task_tgid(task) == aio->tgid && aio_is_submitter(task);
}

/*
 * Whether to open a regular file is a call to the kernel. What is in the
 * directories of processes knows whose it is, and a namespace is not called.
 */
static bool aio_open_is_call(const struct inode *inode)
{
#ifdef CONFIG_PROC_FS
	if (inode->i_sb->s_magic == PROC_SUPER_MAGIC && proc_pid(inode))
		return false;
#endif
	return inode->i_sb->s_magic != NSFS_MAGIC && aio_control_file(inode);
}

/**
 * aio_may_open - whether a worker may open a file for its submitter
 * @inode: the file
 * @fops: its operations
 *
 * Drivers and control files take note of who opens them. Those that are known
 * to need nothing but credentials are marked %FOP_AIO_WORKER; and what is in the
 * directories of processes knows whose it is.
 *
 * Context: Any.
 * Return: true outside of workers, too.
 */
bool aio_may_open(const struct inode *inode, const struct file_operations *fops)
{
	if (!aio_is_worker())
		return true;
	switch (inode->i_mode & S_IFMT) {
	case S_IFCHR:
		return fops->fop_flags & FOP_AIO_WORKER;
	case S_IFREG:
		return !aio_open_is_call(inode);
	}
	return true;
}

static int aio_open_flags(u32 flags, u32 mode, struct open_flags *op)
{
	struct open_how how = build_open_how(flags, mode);

	return build_open_flags(&how, op);
}

/**
 * aio_open_check - check flags and mode of an open
 * @flags: flags of open(2); %O_LARGEFILE is added where it is implied
 * @mode: mode of a file that is created
 *
 * Context: The submitting task.
 * Return: 0 or -EINVAL.
 */
int aio_open_check(u32 *flags, u32 mode)
{
	struct open_flags op;

	if (*flags & ~VALID_OPEN_FLAGS)
		return -EINVAL;
	if (!in_compat_syscall() && force_o_largefile())
		*flags |= O_LARGEFILE;
	return aio_open_flags(*flags, mode, &op);
}

/**
 * aio_open_is_quick - whether opening a file does not wait for anything
 * @path: the file
 * @acc_mode: %MAY_READ, %MAY_WRITE and the like
 *
 * That is known of regular files and directories of some file systems, unless
 * there is more to be read first: an access control list, a disk quota, what
 * encrypted and authenticated files need, or somebody has to be asked.
 *
 * Context: The submitting task. Does not sleep.
 */
bool aio_open_is_quick(const struct path *path, int acc_mode)
{
	const struct inode *inode = d_backing_inode(path->dentry);
	struct super_block *sb = inode->i_sb;

	if (!S_ISREG(inode->i_mode) && !S_ISDIR(inode->i_mode))
		return false;
	switch (sb->s_magic) {
	case EXT4_SUPER_MAGIC:
	case TMPFS_MAGIC:
		break;
	case BTRFS_SUPER_MAGIC:
	case XFS_SUPER_MAGIC:
		/* A directory's own blocks are looked at. */
		if (S_ISREG(inode->i_mode))
			break;
		fallthrough;
	default:
		return false;
	}
	if (IS_ENCRYPTED(inode) || IS_VERITY(inode))
		return false;
#ifdef CONFIG_FS_POSIX_ACL
	if (IS_POSIXACL(inode) && READ_ONCE(inode->i_acl) == ACL_NOT_CACHED)
		return false;
#endif
	if (acc_mode & MAY_WRITE && sb_any_quota_loaded(sb))
		return false;
#ifdef CONFIG_FANOTIFY_ACCESS_PERMISSIONS
	if (fsnotify_sb_has_priority_watchers(sb, FSNOTIFY_PRIO_CONTENT))
		return false;
#endif
	return true;
}

/**
 * aio_openat - open a file
 * @dfd: directory: in the submitter a descriptor, in a worker a number
 * @name: used up, unless the return value is -EAGAIN with @at_once
 * @flags: as aio_open_check() has left them
 * @mode: mode of a file that is created
 * @at_once: only if that does not have to wait for anything
 *
 * Context: The submitting task, or a worker within aio_path_enter(). Sleeps
 * unless @at_once, which is for the submitting task.
 * Return: the file, or an ERR_PTR(); -EAGAIN with @at_once if it might wait.
 */
struct file *aio_openat(int dfd, struct delayed_filename *name, u32 flags,
			u32 mode, bool at_once)
{
	struct filename *filename;
	bool nonblock = false;
	struct open_flags op;
	struct file *file;
	int ret;

	ret = aio_open_flags(flags, mode, &op);
	if (ret)
		return ERR_PTR(ret);
	if (at_once) {
		/* These always have to wait, as far as LOOKUP_CACHED knows. */
		if (flags & (O_TRUNC | O_CREAT | __O_TMPFILE))
			return ERR_PTR(-EAGAIN);
		op.lookup_flags |= LOOKUP_CACHED | LOOKUP_QUICK_OPEN;
		/* A lease that has to be broken is not waited for then. */
		nonblock = !(op.open_flag & O_NONBLOCK);
		op.open_flag |= O_NONBLOCK;
	}

	filename = complete_getname(name);
	file = do_file_open(dfd, filename, &op);
	if (IS_ERR(file)) {
		if (at_once && PTR_ERR(file) == -EAGAIN) {
			ret = putname_to_delayed(name, filename);
			return ERR_PTR(ret ?: -EAGAIN);
		}
	} else if (nonblock) {
		file->f_flags &= ~O_NONBLOCK;
	}
	putname(filename);
	return file;
}

/* See aio_may_open(). Which driver a device has is only known to its open. */
static bool aio_open_is_submitters(const struct inode *inode)
{
	return S_ISCHR(inode->i_mode) ||
	       (S_ISREG(inode->i_mode) && aio_open_is_call(inode));
}

/**
 * aio_openat_submitter - open a device or control file in the submitter
 * @dfd: directory descriptor
 * @name: used up, unless @done is set to false
 * @flags: as aio_open_check() has left them
 * @mode: mode of a file that is created
 * @done: set to whether that was such a file, or is an error
 *
 * This is the blocking call, as a worker may not open all of these. That it is
 * such a file is only known of what is in the dcache, as devices mostly are.
 * If the name leads elsewhere a moment later, that is opened in the same way.
 *
 * Context: The submitting task. Looks up the name without sleeping; sleeps if
 * opening the file does.
 * Return: the file, or an ERR_PTR(); NULL if @done is set to false.
 */
struct file *aio_openat_submitter(int dfd, struct delayed_filename *name,
				  u32 flags, u32 mode, bool *done)
{
	unsigned int lookup = flags & O_NOFOLLOW ? 0 : LOOKUP_FOLLOW;
	struct filename *filename;
	struct open_flags op;
	struct file *file;
	struct path path;
	int ret;

	*done = false;
	/* These call nothing. */
	if (flags & (O_PATH | O_DIRECTORY | __O_TMPFILE))
		return NULL;

	filename = complete_getname(name);
	ret = filename_lookup(dfd, filename, lookup | LOOKUP_CACHED, &path,
			      NULL);
	if (!ret) {
		*done = aio_open_is_submitters(d_backing_inode(path.dentry));
		path_put(&path);
	}
	if (!*done) {
		ret = putname_to_delayed(name, filename);
		*done = ret;
		return ret ? ERR_PTR(ret) : NULL;
	}

	ret = aio_open_flags(flags, mode, &op);
	file = ret ? ERR_PTR(ret) : do_file_open(dfd, filename, &op);
	putname(filename);
	return file;
}

/**
 * aio_unlinkat - remove a file or an empty directory
 * @dfd: directory: in the submitter a descriptor, in a worker a number
 * @name: used up
 * @rmdir: remove a directory
 *
 * Context: The submitting task, or a worker within aio_path_enter(). Sleeps.
 * Return: 0 or a negative error.
 */
int aio_unlinkat(int dfd, struct delayed_filename *name, bool rmdir)
{
	CLASS(filename_complete_delayed, filename)(name);

	return rmdir ? filename_rmdir(dfd, filename) :
		       filename_unlinkat(dfd, filename);
}

/**
 * aio_renameat - give a file another name
 * @olddfd: directory of the old name: in the submitter a descriptor, in a worker
 *	a number
 * @oldname: used up
 * @newdfd: as @olddfd, for the new name
 * @newname: used up
 * @flags: of renameat2(2)
 *
 * Context: The submitting task, or a worker within aio_path_enter(). Sleeps.
 * Return: 0 or a negative error.
 */
int aio_renameat(int olddfd, struct delayed_filename *oldname, int newdfd,
		 struct delayed_filename *newname, u32 flags)
{
	CLASS(filename_complete_delayed, from)(oldname);
	CLASS(filename_complete_delayed, to)(newname);

	return filename_renameat2(olddfd, from, newdfd, to, flags);
}

int aio_rename_info_import(struct renameat_info *info, u64 ptr)
{
	return copy_from_user(info, u64_to_user_ptr(ptr), sizeof(*info)) ?
		-EFAULT : 0;
}

/**
 * aio_fd_reserve - reserve a descriptor for a file that is going to be opened
 * @flags: flags of open(2), of which %O_CLOEXEC counts
 * @fd: set to the descriptor
 *
 * Until there is a file, it is to everybody as if it were not open, but given
 * to nobody else.
 *
 * The table is held, not used: its files are closed by the last task that has
 * it, however long the request takes. Closing may have to wait for anybody.
 *
 * Context: The submitting task; sleeps for memory.
 * Return: its descriptor table, held, or an ERR_PTR() of -EMFILE or -ENOMEM. To
 * be given back by aio_fd_unreserve(), or, after aio_fd_install(), by
 * aio_files_put().
 */
struct files_struct *aio_fd_reserve(u32 flags, u32 *fd)
{
	int ret = get_unused_fd_flags(flags);

	if (ret < 0)
		return ERR_PTR(ret);
	*fd = ret;
	files_hold(current->files);
	return current->files;
}

/**
 * aio_files_put - give back the reference of aio_fd_reserve()
 * @files: the descriptor table
 *
 * Context: Does not sleep.
 */
void aio_files_put(struct files_struct *files)
{
	files_release(files);
}

/**
 * aio_fd_install - put a file into a descriptor table
 * @files: what aio_fd_reserve() has returned
 * @fd: the descriptor that it has reserved
 * @file: the file, whose reference goes to the table
 *
 * Context: Any task.
 * Return: 0, or -ECANCELED if nobody has the table any more.
 */
int aio_fd_install(struct files_struct *files, u32 fd, struct file *file)
{
	return files_fd_install(files, fd, file) ? 0 : -ECANCELED;
}

void aio_fd_unreserve(struct files_struct *files, u32 fd)
{
	files_put_unused_fd(files, fd);
	files_release(files);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * What the Rust of threaded AIO needs from C: the macros and inline functions
 * that bindgen cannot see, and the calls into a file's operations.
 */
#include <linux/aio.h>
#include <linux/blk-cgroup.h>
#include <linux/cgroup.h>
#include <linux/cred.h>
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/iocontext.h>
#include <linux/ioprio.h>
#include <linux/kthread.h>
#include <linux/magic.h>
#include <linux/memcontrol.h>
#include <linux/percpu.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/tty.h>
#include <linux/uio.h>
#include <linux/workqueue.h>
#ifdef CONFIG_X86_INTEL_MEMORY_PROTECTION_KEYS
#include <asm/pkru.h>
#endif

#include "../internal.h"
#include "glue.h"

/**
 * aio_get_mm - the address space that a request's buffers are in
 *
 * An AIO context is only found through the mm that it was made in, so the
 * submitter's mm is the context's. The reference is of the mmgrab() kind: a
 * worker must not hold mm_users, or the exit of the process would wait for the
 * request (exit_aio() runs when mm_users drops to zero, and cancels), and the
 * worker's own mmput() could end in that wait. exit_aio() waits for every
 * request before the page tables go, so the grab is enough.
 *
 * Context: The submitting task, in io_submit(). Does not sleep.
 * Return: the mm, to be given back with mmdrop().
 */
struct mm_struct *aio_get_mm(void)
{
	mmgrab(current->mm);
	return current->mm;
}

void aio_use_mm(struct mm_struct *mm)
{
	kthread_use_mm(mm);
}

void aio_unuse_mm(struct mm_struct *mm)
{
	kthread_unuse_mm(mm);
}

/**
 * aio_import_iter - make an iterator that stays valid after io_submit()
 * @dir: %READ or %WRITE
 * @buf: the buffer, or the array of iovecs
 * @len: length of the buffer in bytes, or number of iovecs
 * @vectored: @buf is an array of iovecs
 * @compat: of 32-bit iovecs
 * @iovec: set to the kernel's copy of the array, to be freed with kfree(), or
 *	to NULL where the iterator needs none
 * @iter: set up over the buffers
 *
 * Context: The submitting task; may fault and sleep for memory.
 * Return: number of bytes, or a negative error, with nothing to be freed.
 */
ssize_t aio_import_iter(int dir, void __user *buf, size_t len, bool vectored,
			bool compat, struct iovec **iovec,
			struct iov_iter *iter)
{
	int type = dir == READ ? ITER_DEST : ITER_SOURCE;
	struct iovec single;
	ssize_t ret;

	*iovec = NULL;
	if (vectored && len > UIO_MAXIOV)
		return -EINVAL;
	if (!vectored) {
		ret = import_ubuf(type, buf, len, iter);
		return ret < 0 ? ret : iov_iter_count(iter);
	}

	/*
	 * One segment is turned into a plain buffer, and none needs no array:
	 * @single is only scratch space. More are copied to the heap, because
	 * fast_segs is 0.
	 */
	*iovec = &single;
	ret = __import_iovec(type, buf, len, 0, iovec, iter, compat);
	if (ret == 0 && len == 0)
		iov_iter_ubuf(iter, type, NULL, 0);
	return ret;
}

static struct task_struct *submitter_task(const struct aio_task *aio)
{
	struct task_struct *task;

	rcu_read_lock();
	task = pid_task(aio->pid, PIDTYPE_PID);
	/* The same pointer means the same credentials: @aio has a reference. */
	if (task && rcu_access_pointer(task->real_cred) == aio->cred)
		get_task_struct(task);
	else
		task = NULL;
	rcu_read_unlock();
	return task;
}

/**
 * aio_get_task - whom the running task acts for
 *
 * That is the running task itself, unless it is a worker with a request. A
 * worker acts for the thread that submitted the request, as long as that thread
 * has the credentials that it had then: one that has executed a privileged
 * program since, or has taken on other rights, has nothing to do with it.
 *
 * Context: Any; does not sleep.
 * Return: the task, with a reference to be dropped with put_task_struct(), or
 * NULL if the submitter is gone or has other credentials.
 */
struct task_struct *aio_get_task(void)
{
	const struct aio_task *aio = current->aio_task;

	return aio ? submitter_task(aio) : get_task_struct(current);
}

/**
 * aio_task_tgid - the process that the running task acts for
 *
 * This is what a socket tells its peer about the sender.
 *
 * Context: Any; does not sleep.
 * Return: the submitter's in a worker with a request, else that of the running
 * task. Valid as long as the caller carries on with its request.
 */
struct pid *aio_task_tgid(void)
{
	const struct aio_task *aio = current->aio_task;

	return aio ? aio->tgid : task_tgid(current);
}
EXPORT_SYMBOL_GPL(aio_task_tgid);

/**
 * aio_rlimit_fsize - the file size limit that the running task is under
 *
 * Context: Any; does not sleep.
 * Return: the submitter's, as it was at submission, in a worker with a request,
 * else that of the running task.
 */
unsigned long aio_rlimit_fsize(void)
{
	const struct aio_task *aio = current->aio_task;

	return aio ? aio->fsize : rlimit(RLIMIT_FSIZE);
}
EXPORT_SYMBOL_GPL(aio_rlimit_fsize);

/**
 * aio_task_capture - remember the running task as a submitter
 * @task: filled in
 *
 * Context: The submitting task.
 */
void aio_task_capture(struct aio_task *task)
{
	task->pid = get_task_pid(current, PIDTYPE_PID);
	task->tgid = get_task_pid(current, PIDTYPE_TGID);
	task->cred = get_current_cred();
	task->fsize = rlimit(RLIMIT_FSIZE);
}

void aio_task_release(struct aio_task *task)
{
	put_cred(task->cred);
	put_pid(task->tgid);
	put_pid(task->pid);
}

/*
 * The credentials and whom the worker acts for belong together: between
 * aio_task_enter() and aio_task_leave() the worker has both.
 */
const struct cred *aio_task_enter(const struct aio_task *task)
{
	WARN_ON_ONCE(current->aio_task);
	current->aio_task = task;
	return override_creds(task->cred);
}

void aio_task_leave(const struct cred *old)
{
	revert_creds(old);
	current->aio_task = NULL;
}

#ifdef CONFIG_X86_INTEL_MEMORY_PROTECTION_KEYS
u32 aio_pkru_get(void)
{
	return read_pkru();
}

u32 aio_pkru_enter(u32 pkru)
{
	u32 old = read_pkru();

	write_pkru(pkru);
	return old;
}

void aio_pkru_leave(u32 old)
{
	write_pkru(old);
}
#else
/*
 * Elsewhere a kernel thread runs with the rights that a new thread starts
 * with: buffers under a key of their own give -EFAULT in a worker.
 */
u32 aio_pkru_get(void)
{
	return 0;
}

u32 aio_pkru_enter(u32 pkru)
{
	return 0;
}

void aio_pkru_leave(u32 old)
{
}
#endif

struct mem_cgroup *aio_memcg_get(void)
{
	return get_mem_cgroup_from_current();
}

void aio_memcg_put(struct mem_cgroup *memcg)
{
	mem_cgroup_put(memcg);
}

struct mem_cgroup *aio_memcg_enter(struct mem_cgroup *memcg)
{
	return set_active_memcg(memcg);
}

void aio_memcg_leave(struct mem_cgroup *old)
{
	set_active_memcg(old);
}

#ifdef CONFIG_BLK_CGROUP
struct cgroup_subsys_state *aio_blkcg_get(void)
{
	return task_get_css(current, io_cgrp_id);
}

void aio_blkcg_put(struct cgroup_subsys_state *css)
{
	css_put(css);
}

void aio_blkcg_enter(struct cgroup_subsys_state *css)
{
	kthread_associate_blkcg(css);
}

void aio_blkcg_leave(void)
{
	kthread_associate_blkcg(NULL);
}
#else
struct cgroup_subsys_state *aio_blkcg_get(void)
{
	return NULL;
}

void aio_blkcg_put(struct cgroup_subsys_state *css)
{
}

void aio_blkcg_enter(struct cgroup_subsys_state *css)
{
}

void aio_blkcg_leave(void)
{
}
#endif

#ifdef CONFIG_BLOCK
/*
 * The priority in a kiocb only reaches direct I/O; what a worker reads through
 * the page cache is sent with the worker's own. Must run with the worker's own
 * credentials, which may set its priority. Without memory for an io_context
 * the request runs with the worker's priority.
 */
int aio_ioprio_enter(int ioprio)
{
	int old = IOPRIO_DEFAULT;

	if (get_current_ioprio() == ioprio)
		return -1;
	if (current->io_context)
		old = current->io_context->ioprio;
	return set_task_ioprio(current, ioprio) ? -1 : old;
}

void aio_ioprio_leave(int old)
{
	if (old >= 0)
		set_task_ioprio(current, old);
}
#else
int aio_ioprio_enter(int ioprio)
{
	return -1;
}

void aio_ioprio_leave(int old)
{
}
#endif

/*
 * From aio_worker_enter() to aio_worker_leave() aio_worker_kill() makes the
 * worker's interruptible and killable sleeps end. Outside of that SIGKILL is
 * ignored, and leaving flushes what is pending, so that nothing reaches what
 * the worker does next. Both only touch this thread: a kernel thread has signal
 * handlers of its own.
 */
void aio_worker_enter(void)
{
	allow_kernel_signal(SIGKILL);
}

void aio_worker_leave(void)
{
	disallow_signal(SIGKILL);
	WARN_ON_ONCE(signal_pending(current));
}

void aio_worker_kill(struct task_struct *worker)
{
	send_sig(SIGKILL, worker, 1);
}

/*
 * In these file systems a read or write is a call to the kernel, and what it
 * does depends on the calling task: its namespaces, its pid, whether it is a
 * kernel thread. No worker can stand in for that.
 */
static bool aio_control_file(const struct inode *inode)
{
	switch (inode->i_sb->s_magic) {
	case AAFS_MAGIC:
	case BINFMTFS_MAGIC:
	case BPF_FS_MAGIC:
	case CGROUP_SUPER_MAGIC:
	case CGROUP2_SUPER_MAGIC:
	case CONFIGFS_MAGIC:
	case DEBUGFS_MAGIC:
	case EFIVARFS_MAGIC:
	case NSFS_MAGIC:
	case OPENPROM_SUPER_MAGIC:
	case PID_FS_MAGIC:
	case PROC_SUPER_MAGIC:
	case PSTOREFS_MAGIC:
	case RDTGROUP_SUPER_MAGIC:
	case SECURITYFS_MAGIC:
	case SELINUX_MAGIC:
	case SMACK_MAGIC:
	case SYSFS_MAGIC:
	case TRACEFS_MAGIC:
	case XENFS_SUPER_MAGIC:
		return true;
	}
	return false;
}

static bool aio_force_worker;

static bool has_iter_op(const struct file *file, int dir)
{
	return dir == READ ? file->f_op->read_iter : file->f_op->write_iter;
}

/**
 * aio_rw_way - where a read or write may run
 * @rw: the prepared kiocb
 * @dir: %READ or %WRITE
 *
 * Context: The submitting task. Does not sleep.
 * Return: an enum aio_rw_way, or -EINVAL where the file has no such operation,
 * -EOPNOTSUPP where flags are asked for that it has no way to honour.
 */
int aio_rw_way(const struct kiocb *rw, int dir)
{
	const struct file *file = rw->ki_filp;
	const struct inode *inode = file_inode(file);
	bool stream = aio_rw_is_stream(rw);
	bool nonblock = stream && (file->f_flags & O_NONBLOCK);
	bool iter_op = has_iter_op(file, dir);

	if (!iter_op) {
		if (!(dir == READ ? file->f_op->read : file->f_op->write))
			return -EINVAL;
		/* As preadv2() and pwritev2() say of such files. */
		if (rw->ki_flags & ~file->f_iocb_flags &
		    (__force int)(RWF_SUPPORTED & ~RWF_HIPRI))
			return -EOPNOTSUPP;
	}

	if ((file->f_op->fop_flags & FOP_AIO_CALLER) ||
	    aio_control_file(inode))
		return iter_op || nonblock ? AIO_WAY_CALLER : -EINVAL;

	/* -EAGAIN is what these ask for. */
	if (nonblock || (rw->ki_flags & IOCB_NOWAIT))
		return AIO_WAY_CALLER;

	if (READ_ONCE(aio_force_worker) || !iter_op ||
	    !(file->f_mode & FMODE_NOWAIT))
		return AIO_WAY_WORKER;

	if (stream)
		return AIO_WAY_NOWAIT;
	if (rw->ki_flags & IOCB_DIRECT)
		return AIO_WAY_NATIVE;
	/*
	 * A synchronous write waits for the disk in any case, and an append
	 * that is done in two steps could be split by another one.
	 */
	if (dir == WRITE && (rw->ki_flags & (IOCB_DSYNC | IOCB_APPEND)))
		return AIO_WAY_WORKER;
	return AIO_WAY_NOWAIT;
}

static ssize_t aio_call_rw(struct kiocb *rw, struct iov_iter *iter, int dir)
{
	struct file *file = rw->ki_filp;

	if (!has_iter_op(file, dir))
		return do_loop_readv_writev(file, iter, &rw->ki_pos, dir, 0);
	return dir == READ ? file->f_op->read_iter(rw, iter) :
			     file->f_op->write_iter(rw, iter);
}

/*
 * Enter the file for writing: what a frozen file system makes the caller wait
 * for is -EAGAIN where it must not wait.
 */
static int aio_start_write(struct kiocb *rw, int dir)
{
	struct inode *inode = file_inode(rw->ki_filp);

	if (dir == READ)
		return 0;
	rw->ki_flags |= IOCB_WRITE;
	if (!S_ISREG(inode->i_mode))
		return 0;
	if (!(rw->ki_flags & IOCB_NOWAIT)) {
		kiocb_start_write(rw);
		return 0;
	}
	if (!sb_start_write_trylock(inode->i_sb))
		return -EAGAIN;
	/* As kiocb_start_write() does: whoever completes it releases it. */
	__sb_writers_release(inode->i_sb, SB_FREEZE_WRITE);
	return 0;
}

static void aio_end_write(struct kiocb *rw, int dir)
{
	if (dir == WRITE && S_ISREG(file_inode(rw->ki_filp)->i_mode))
		kiocb_end_write(rw);
}

static ssize_t aio_rw_once(struct kiocb *rw, struct iov_iter *iter, int dir)
{
	ssize_t ret = aio_start_write(rw, dir);

	if (ret)
		return ret;
	ret = aio_call_rw(rw, iter, dir);
	/* Otherwise ->ki_complete() ends the write. */
	if (ret != -EIOCBQUEUED)
		aio_end_write(rw, dir);
	return ret;
}

/**
 * aio_rw_caller - read or write in the submitter, as without threads
 * @rw: the prepared kiocb
 * @iter: the buffers
 * @dir: %READ or %WRITE
 *
 * Context: The submitting task. Sleeps if the file does.
 * Return: bytes, -EIOCBQUEUED if ->ki_complete() follows, or an error.
 */
ssize_t aio_rw_caller(struct kiocb *rw, struct iov_iter *iter, int dir)
{
	return aio_rw_once(rw, iter, dir);
}

/**
 * aio_rw_nowait - read or write as far as that does not block
 * @rw: the prepared kiocb of a file with %FMODE_NOWAIT
 * @iter: the buffers, of which the caller keeps a copy
 * @dir: %READ or %WRITE
 *
 * Context: The submitting task. Does not wait for I/O.
 * Return: bytes, which may be fewer than asked for, -EIOCBQUEUED if
 * ->ki_complete() follows, -EAGAIN if it would block, or an error.
 */
ssize_t aio_rw_nowait(struct kiocb *rw, struct iov_iter *iter, int dir)
{
	ssize_t ret;

	rw->ki_flags |= IOCB_NOWAIT;
	ret = aio_rw_once(rw, iter, dir);
	switch (ret) {
	case -EOPNOTSUPP:	/* no non-blocking way after all */
	case -ERESTARTSYS:	/* a signal to the submitter ended a wait */
	case -ERESTARTNOINTR:
	case -ERESTARTNOHAND:
	case -ERESTART_RESTARTBLOCK:
		return -EAGAIN;
	}
	return ret;
}

/**
 * aio_rw_blocking - read or write in a worker
 * @file: the request's file
 * @pos: where to start
 * @flags: the kiocb's flags as they were prepared
 * @ioprio: the kiocb's I/O priority
 * @write_stream: the kiocb's write stream
 * @iter: the buffers
 * @dir: %READ or %WRITE
 *
 * The kiocb is a synchronous one of its own: one of aio could be handed to a
 * driver that queues it.
 *
 * Context: A worker that acts for the submitter. Sleeps.
 * Return: bytes or an error.
 */
ssize_t aio_rw_blocking(struct file *file, loff_t pos, int flags, u16 ioprio,
			u8 write_stream, struct iov_iter *iter, int dir)
{
	struct kiocb rw;

	init_sync_kiocb(&rw, file);
	rw.ki_pos = pos;
	rw.ki_flags = flags & ~(IOCB_AIO_RW | IOCB_EVENTFD | IOCB_NOWAIT);
	rw.ki_ioprio = ioprio;
	rw.ki_write_stream = write_stream;
	return aio_rw_once(&rw, iter, dir);
}

/**
 * aio_rw_at_eof - whether a regular file ends at the kiocb's position
 * @rw: the kiocb
 *
 * Context: Any.
 */
bool aio_rw_at_eof(const struct kiocb *rw)
{
	const struct inode *inode = file_inode(rw->ki_filp);

	return S_ISREG(inode->i_mode) && rw->ki_pos >= i_size_read(inode);
}

/**
 * aio_rw_is_stream - whether a read of the file gives what is there
 * @rw: the kiocb
 *
 * Context: Any.
 */
bool aio_rw_is_stream(const struct kiocb *rw)
{
	umode_t mode = file_inode(rw->ki_filp)->i_mode;

	return !S_ISREG(mode) && !S_ISBLK(mode);
}

static DEFINE_PER_CPU(long [AIO_STAT_NR], aio_thread_stats);

void aio_thread_count(enum aio_thread_stat stat, long nr)
{
	this_cpu_add(aio_thread_stats[stat], nr);
}

static int stats_show(struct seq_file *m, void *unused)
{
	static const char * const names[AIO_STAT_NR] = {
		[AIO_STAT_AT_ONCE]	= "at_once",
		[AIO_STAT_NATIVE]	= "native",
		[AIO_STAT_WORKER]	= "worker",
		[AIO_STAT_SUBMITTER]	= "submitter",
		[AIO_STAT_CANCELLED]	= "cancelled",
		[AIO_STAT_QUEUED]	= "queued",
		[AIO_STAT_RUNNING]	= "running",
		[AIO_STAT_OBJECTS]	= "objects",
	};
	int i, cpu;

	for (i = 0; i < AIO_STAT_NR; i++) {
		long sum = 0;

		for_each_possible_cpu(cpu)
			sum += per_cpu(aio_thread_stats[i], cpu);
		seq_printf(m, "%s %ld\n", names[i], sum);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(stats);

struct workqueue_struct *aio_thread_wq;
struct workqueue_struct *aio_cancel_wq;

static int __init aio_thread_init(void)
{
	struct dentry *dir;

	/*
	 * Unbound, so that a request that computes (copies) for long holds up
	 * nobody's per-CPU work, and not WQ_MEM_RECLAIM, because a request that
	 * blocks would take the rescuer with it. Cancelled requests do not
	 * block: theirs has a rescuer.
	 */
	aio_thread_wq = alloc_workqueue("aio_thread", WQ_UNBOUND,
					WQ_MAX_ACTIVE);
	aio_cancel_wq = alloc_workqueue("aio_cancel",
					WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!aio_thread_wq || !aio_cancel_wq)
		panic("Failed to create the AIO work queues.");

	dir = debugfs_create_dir("aio_thread", NULL);
	debugfs_create_file("stats", 0444, dir, NULL, &stats_fops);
	debugfs_create_bool("force_worker", 0600, dir, &aio_force_worker);
	return 0;
}
subsys_initcall(aio_thread_init);

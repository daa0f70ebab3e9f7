// SPDX-License-Identifier: GPL-2.0
/*
 * What the Rust of threaded AIO needs from C: the macros and inline functions
 * that bindgen cannot see, and the calls into a file's operations.
 */
#include <linux/aio.h>
#include <linux/blk-cgroup.h>
#include <linux/cgroup.h>
#include <linux/compat.h>
#include <linux/cred.h>
#include <linux/debugfs.h>
#include <linux/file.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/iocontext.h>
#include <linux/ioprio.h>
#include <linux/kthread.h>
#include <linux/magic.h>
#include <linux/memcontrol.h>
#include <linux/percpu.h>
#include <linux/pid.h>
#include <linux/poll.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/security.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/sysctl.h>
#include <linux/task_io_accounting_ops.h>
#include <linux/uio.h>
#include <linux/user_namespace.h>
#include <linux/workqueue.h>
#ifdef CONFIG_X86_INTEL_MEMORY_PROTECTION_KEYS
#include <asm/pkru.h>
#endif
#ifdef CONFIG_NET
#include <net/sock.h>
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
	struct iovec *array = NULL;
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
	 * @single is only scratch space. More are copied to the heap, and
	 * charged to the submitter, because they stay as long as the request.
	 */
	if (len > 1) {
		array = kmalloc_array(len, sizeof(*array), AIO_GFP);
		if (!array)
			return -ENOMEM;
	}
	*iovec = array ?: &single;
	ret = __import_iovec(type, buf, len, array ? len : 0, iovec, iter,
			     compat);
	if (ret < 0) {
		kfree(array);
		array = NULL;
	}
	*iovec = array;
	if (ret == 0 && len == 0)
		iov_iter_ubuf(iter, type, NULL, 0);
	return ret;
}

/**
 * aio_is_submitter - whether the running worker acts for a task
 * @task: task that has the pid of the submitter
 *
 * The same pointer means the same credentials: &struct aio_task has a
 * reference.
 *
 * Context: A worker with a request; any lock may be held.
 * Return: true if @task has the credentials that the submitter had.
 */
bool aio_is_submitter(const struct task_struct *task)
{
	return rcu_access_pointer(task->real_cred) == current->aio_task->cred;
}

/**
 * aio_acting_for - whom the running task acts for
 *
 * As aio_get_task(), without a reference.
 *
 * Context: Under rcu_read_lock(), which keeps the task.
 * Return: the task, or NULL if the submitter is gone or has other credentials.
 */
struct task_struct *aio_acting_for(void)
{
	const struct aio_task *aio = current->aio_task;
	struct task_struct *task;

	if (!aio)
		return current;

	task = pid_task(aio->pid, PIDTYPE_PID);
	return task && aio_is_submitter(task) ? task : NULL;
}

/**
 * aio_process - a thread of the process that the running task acts for
 *
 * This is who pays, whatever credentials the process has taken on since.
 *
 * Context: Under rcu_read_lock(), which keeps the task.
 * Return: the running task, or in a worker the first thread of the process that
 * has submitted the request, NULL if that is gone.
 */
struct task_struct *aio_process(void)
{
	const struct aio_task *aio = current->aio_task;

	return aio ? pid_task(aio->tgid, PIDTYPE_TGID) : current;
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
	struct task_struct *task;

	rcu_read_lock();
	task = aio_acting_for();
	if (task)
		get_task_struct(task);
	rcu_read_unlock();
	return task;
}

/**
 * aio_task_pid - the thread that the running task acts for
 *
 * This is what a FUSE server is told.
 *
 * Context: Any; does not sleep.
 * Return: the submitter's in a worker with a request, else that of the running
 * task. Valid as long as the caller carries on with its request.
 */
struct pid *aio_task_pid(void)
{
	const struct aio_task *aio = current->aio_task;

	return aio ? aio->pid : task_pid(current);
}
EXPORT_SYMBOL_GPL(aio_task_pid);

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
 * aio_rlimit - a limit that the running task is under
 * @limit: %RLIMIT_STACK or another one that is not captured
 *
 * For what a fault on a buffer may lead to.
 *
 * Context: Any; does not sleep.
 * Return: that of the submitting process, as it is now, in a worker with a
 * request, 0 if that is gone; else that of the running task.
 */
unsigned long aio_rlimit(unsigned int limit)
{
	struct task_struct *task;
	unsigned long ret;

	if (!current->aio_task)
		return rlimit(limit);

	rcu_read_lock();
	task = aio_process();
	ret = task ? task_rlimit(task, limit) : 0;
	rcu_read_unlock();
	return ret;
}

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
#ifdef CONFIG_AUDIT
	task->loginuid = current->loginuid;
	task->sessionid = current->sessionid;
#endif
#ifdef CONFIG_CGROUP_HUGETLB
	task->hugetlb_css = task_get_css(current, hugetlb_cgrp_id);
#endif
	task->fsize = rlimit(RLIMIT_FSIZE);
	task->dir = NULL;
}

/**
 * aio_task_is_current - whether capturing the running task would change nothing
 * @task: what was captured
 *
 * Same pointers mean the same objects, as there are references to them.
 *
 * Context: The submitting task.
 */
bool aio_task_is_current(const struct aio_task *task)
{
#ifdef CONFIG_AUDIT
	if (!uid_eq(task->loginuid, current->loginuid) ||
	    task->sessionid != current->sessionid)
		return false;
#endif
#ifdef CONFIG_CGROUP_HUGETLB
	scoped_guard(rcu)
		if (task_css(current, hugetlb_cgrp_id) != task->hugetlb_css)
			return false;
#endif
	return task->pid == task_pid(current) && task->cred == current_cred() &&
	       task->fsize == rlimit(RLIMIT_FSIZE);
}

void aio_task_release(struct aio_task *task)
{
#ifdef CONFIG_CGROUP_HUGETLB
	css_put(task->hugetlb_css);
#endif
	put_cred(task->cred);
	put_pid(task->tgid);
	put_pid(task->pid);
}

#ifdef CONFIG_AUDIT
static void aio_audit_swap(kuid_t *loginuid, unsigned int *sessionid)
{
	swap(current->loginuid, *loginuid);
	swap(current->sessionid, *sessionid);
}
#endif

#ifdef CONFIG_TASK_IO_ACCOUNTING
static void aio_io_begin(struct task_io_accounting *saved)
{
	*saved = current->ioac;
}

/*
 * What the worker has read and written for a request is the submitting
 * process's, with which it is counted as that of threads that have ended.
 */
static void aio_io_end(const struct task_io_accounting *saved)
{
	struct task_io_accounting done = {
		.read_bytes = current->ioac.read_bytes - saved->read_bytes,
		.write_bytes = current->ioac.write_bytes - saved->write_bytes,
		.cancelled_write_bytes = current->ioac.cancelled_write_bytes -
					 saved->cancelled_write_bytes,
	};
	struct task_struct *task;
	unsigned long flags;

	if (!done.read_bytes && !done.write_bytes &&
	    !done.cancelled_write_bytes)
		return;

	current->ioac = *saved;
	rcu_read_lock();
	task = aio_process();
	if (task) {
		struct signal_struct *sig = task->signal;

		write_seqlock_irqsave(&sig->stats_lock, flags);
		task_io_accounting_add(&sig->ioac, &done);
		sig->inblock += done.read_bytes >> 9;
		sig->oublock += done.write_bytes >> 9;
		write_sequnlock_irqrestore(&sig->stats_lock, flags);
	}
	rcu_read_unlock();
}
#else
static inline void aio_io_begin(struct task_io_accounting *saved)
{
}

static inline void aio_io_end(const struct task_io_accounting *saved)
{
}
#endif

/**
 * aio_task_enter - act for a submitter
 * @saved: filled in with what the worker has
 * @task: the submitter
 *
 * Until aio_task_leave() the worker has the credentials of the submitter, and
 * is to audit who has logged in as whom the submitter runs.
 *
 * Context: A worker that acts for nobody.
 */
void aio_task_enter(struct aio_task_saved *saved, const struct aio_task *task)
{
	WARN_ON_ONCE(current->aio_task);
	current->aio_task = task;
#ifdef CONFIG_AUDIT
	saved->loginuid = task->loginuid;
	saved->sessionid = task->sessionid;
	aio_audit_swap(&saved->loginuid, &saved->sessionid);
#endif
	aio_io_begin(&saved->ioac);
	saved->cred = override_creds(task->cred);
}

void aio_task_leave(struct aio_task_saved *saved)
{
	revert_creds(saved->cred);
	aio_io_end(&saved->ioac);
#ifdef CONFIG_AUDIT
	aio_audit_swap(&saved->loginuid, &saved->sessionid);
#endif
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

bool aio_memcg_is_current(const struct mem_cgroup *memcg)
{
	bool same = !memcg;

#ifdef CONFIG_MEMCG
	if (!mem_cgroup_disabled()) {
		rcu_read_lock();
		same = mem_cgroup_from_task(current) == memcg;
		rcu_read_unlock();
	}
#endif
	return same;
}

void aio_memcg_put(struct mem_cgroup *memcg)
{
	mem_cgroup_put(memcg);
}

struct mem_cgroup *aio_memcg_enter(struct mem_cgroup *memcg)
{
	return set_active_memcg(memcg);
}

/*
 * What the submitter would have to wait for on its way back to user space, for
 * it uses more than memory.high, is waited for here. It must not be left to the
 * next request.
 */
void aio_memcg_leave(struct mem_cgroup *old)
{
	mem_cgroup_handle_over_high(GFP_KERNEL);
	set_active_memcg(old);
}

#ifdef CONFIG_BLK_CGROUP
struct cgroup_subsys_state *aio_blkcg_get(void)
{
	return task_get_css(current, io_cgrp_id);
}

bool aio_blkcg_is_current(const struct cgroup_subsys_state *css)
{
	bool same;

	rcu_read_lock();
	same = task_css(current, io_cgrp_id) == css;
	rcu_read_unlock();
	return same;
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

bool aio_blkcg_is_current(const struct cgroup_subsys_state *css)
{
	return true;
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
 * A read or write of a control file is a call to the kernel, and what it does
 * may depend on anything of the calling task: its namespaces, its pid, its
 * descriptors, whether it is a kernel thread. Control files have no pages, or
 * are in a file system that is known here.
 */
bool aio_control_file(const struct inode *inode)
{
	if (inode->i_mapping->a_ops == &empty_aops)
		return true;

	switch (inode->i_sb->s_magic) {
	case BPF_FS_MAGIC:
	case CGROUP_SUPER_MAGIC:
	case CGROUP2_SUPER_MAGIC:
	case CONFIGFS_MAGIC:
	case PROC_SUPER_MAGIC:
	case RDTGROUP_SUPER_MAGIC:
	case SYSFS_MAGIC:
		return true;
	}
	return false;
}

/*
 * Whether a worker can stand in for the submitter. Where nobody has made sure
 * of that, the answer is no: drivers put descriptors into the caller's table,
 * look at its limits and namespaces, or compare it with whoever opened the file.
 */
static bool aio_worker_may(const struct file *file)
{
	const struct inode *inode = file_inode(file);

	switch (inode->i_mode & S_IFMT) {
	case S_IFREG:
		/*
		 * Network file systems know the holder of a lock by the calling
		 * task.
		 */
		if (file->f_op->lock && locks_inode_context(inode))
			return false;
		return !aio_control_file(inode);
	case S_IFBLK:
	case S_IFIFO:
		return true;
	case S_IFSOCK:
		/* Each datagram is judged by itself, when it is sent. */
		return !security_judges_by_task();
	}
	return file->f_op->fop_flags & FOP_AIO_WORKER;
}

static bool aio_force_worker;

/*
 * Whether IOCB_NOWAIT has a meaning for a file. A FIFO is read and written by
 * the code of pipe(2), which sets the mode that a FIFO lacks.
 */
static bool aio_knows_nowait(const struct file *file)
{
	return file->f_mode & FMODE_NOWAIT || file->f_op == &pipefifo_fops;
}

static bool has_iter_op(const struct file *file, int dir)
{
	return dir == READ ? file->f_op->read_iter : file->f_op->write_iter;
}

static bool has_plain_op(const struct file *file, int dir)
{
	return dir == READ ? !!file->f_op->read : !!file->f_op->write;
}

/* How much a socket wants to have before a read is over. */
static int aio_sock_lowat(struct file *file)
{
#ifdef CONFIG_NET
	if (S_ISSOCK(file_inode(file)->i_mode)) {
		struct socket *sock = sock_from_file(file);

		if (sock && sock->sk)
			return READ_ONCE(sock->sk->sk_rcvlowat);
	}
#endif
	return 0;
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
	struct file *file = rw->ki_filp;
	const struct inode *inode = file_inode(file);
	bool stream = aio_rw_is_stream(rw);
	bool nonblock = stream && (file->f_flags & O_NONBLOCK);
	bool iter_op = has_iter_op(file, dir);

	if (!iter_op) {
		if (!has_plain_op(file, dir))
			return -EINVAL;
		/* As preadv2() and pwritev2() say of such files. */
		if (rw->ki_flags & ~file->f_iocb_flags &
		    (__force int)(RWF_SUPPORTED & ~RWF_HIPRI))
			return -EOPNOTSUPP;
	}

	/* What such a file's records look like may depend on the caller's ABI. */
	if (!aio_worker_may(file) || (!iter_op && in_compat_syscall()))
		return iter_op || nonblock ? AIO_WAY_CALLER : -EINVAL;

	/*
	 * Without a way to try, direct I/O stays with the submitter, too: in a
	 * worker it would be synchronous, and one that is cancelled while a
	 * server has its buffer must not be over. Memory needs no server.
	 */
	if ((rw->ki_flags & IOCB_DIRECT) && !(file->f_mode & FMODE_NOWAIT) &&
	    inode->i_sb->s_magic != TMPFS_MAGIC)
		return AIO_WAY_CALLER;

	/* -EAGAIN is what these ask for. */
	if (nonblock || (rw->ki_flags & IOCB_NOWAIT))
		return AIO_WAY_CALLER;

	if (READ_ONCE(aio_force_worker) || !iter_op || !aio_knows_nowait(file))
		return AIO_WAY_WORKER;
	/* Less than SO_RCVLOWAT is what a try would be content with. */
	if (dir == READ && aio_sock_lowat(file) > 1)
		return AIO_WAY_WORKER;

	if (stream)
		return AIO_WAY_NOWAIT;
	/* An append that is done in two steps could be split by another one. */
	if (dir == WRITE && (rw->ki_flags & IOCB_APPEND))
		return AIO_WAY_WORKER;
	if (rw->ki_flags & IOCB_DIRECT)
		return AIO_WAY_NATIVE;
	/*
	 * A synchronous write waits for the disk in any case. And not all files
	 * that can be read without blocking can be written so.
	 */
	if (dir == WRITE &&
	    ((rw->ki_flags & IOCB_DSYNC) ||
	     (S_ISREG(inode->i_mode) &&
	      !(file->f_op->fop_flags & FOP_BUFFER_WASYNC))))
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
 * aio_rw_worker - read or write in a worker
 * @file: the request's file
 * @pos: where to start
 * @flags: the kiocb's flags as they were prepared
 * @ioprio: the kiocb's I/O priority
 * @write_stream: the kiocb's write stream
 * @iter: the buffers
 * @dir: %READ or %WRITE
 * @nowait: only as far as that does not block, see aio_rw_nowait()
 *
 * The kiocb is a synchronous one of its own: one of aio could be handed to a
 * driver that queues it.
 *
 * Context: A worker that acts for the submitter. Sleeps.
 * Return: bytes or an error.
 */
ssize_t aio_rw_worker(struct file *file, loff_t pos, int flags, u16 ioprio,
		      u8 write_stream, struct iov_iter *iter, int dir,
		      bool nowait)
{
	struct kiocb rw;

	init_sync_kiocb(&rw, file);
	rw.ki_pos = pos;
	rw.ki_flags = flags & ~(IOCB_AIO_RW | IOCB_EVENTFD | IOCB_NOWAIT);
	rw.ki_ioprio = ioprio;
	rw.ki_write_stream = write_stream;
	return nowait ? aio_rw_nowait(&rw, iter, dir) :
			aio_rw_once(&rw, iter, dir);
}

/**
 * aio_rw_at_end - whether a blocking call would have stopped here, too
 * @rw: the kiocb, after it has moved some bytes
 * @dir: %READ or %WRITE
 *
 * Context: The submitting task.
 * Return: true at the end of a regular file, or at its size limit: one more
 * write would raise %SIGXFSZ there.
 */
bool aio_rw_at_end(const struct kiocb *rw, int dir)
{
	const struct inode *inode = file_inode(rw->ki_filp);
	unsigned long limit = rlimit(RLIMIT_FSIZE);

	if (!S_ISREG(inode->i_mode))
		return false;
	if (dir == READ)
		return rw->ki_pos >= i_size_read(inode);
	return limit != RLIM_INFINITY && rw->ki_pos >= limit;
}

/**
 * aio_rw_resume_flags - flags for a worker that goes on with a transfer
 * @file: what is read or written, after some bytes were moved
 *
 * A blocking call that has sent something to a socket tells so instead of
 * raising %SIGPIPE when the peer goes away.
 *
 * Context: Any.
 * Return: flags that the worker has to use beside its own.
 */
int aio_rw_resume_flags(const struct file *file)
{
	return S_ISSOCK(file_inode(file)->i_mode) ? IOCB_NOSIGNAL : 0;
}

/**
 * aio_rw_events - what to wait for where a read or write would block
 * @rw: the prepared kiocb
 * @dir: %READ or %WRITE
 *
 * A socket with a time limit is left to a worker, whose call knows about it.
 *
 * Context: The submitting task.
 * Return: events that tell that it is worth trying again, 0 if the file has no
 * such.
 */
u32 aio_rw_events(const struct kiocb *rw, int dir)
{
	struct file *file = rw->ki_filp;
	__poll_t events;

	if (!aio_rw_is_stream(rw) || !file->f_op->poll)
		return 0;
#ifdef CONFIG_NET
	if (S_ISSOCK(file_inode(file)->i_mode)) {
		struct socket *sock = sock_from_file(file);

		if (!sock || !sock->sk ||
		    (dir == READ ? sock_rcvtimeo(sock->sk, false) :
				   sock_sndtimeo(sock->sk, false)) !=
		    MAX_SCHEDULE_TIMEOUT)
			return 0;
	}
#endif
	events = dir == READ ? EPOLLIN | EPOLLRDNORM : EPOLLOUT | EPOLLWRNORM;
	return (__force u32)(events | EPOLLERR | EPOLLHUP);
}

bool aio_has_fsync(const struct file *file)
{
	return file->f_op->fsync;
}

int aio_current_ioprio(void)
{
	return get_current_ioprio();
}

/* In a worker the file is closed on return, not some time afterwards. */
void aio_fput(struct file *file)
{
	if (current->flags & PF_KTHREAD)
		__fput_sync(file);
	else
		fput(file);
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

struct aio_thread_stats {
	long stat[AIO_STAT_NR];
	long ran[AIO_OP_NR][AIO_RAN_NR];
};

static DEFINE_PER_CPU(struct aio_thread_stats, aio_thread_stats);

void aio_thread_count(enum aio_thread_stat stat, long nr)
{
	this_cpu_add(aio_thread_stats.stat[stat], nr);
}

void aio_thread_count_ran(enum aio_thread_op op, enum aio_thread_ran ran,
			  long nr)
{
	this_cpu_add(aio_thread_stats.ran[op][ran], nr);
}

bool aio_thread_force_worker(void)
{
	return READ_ONCE(aio_force_worker);
}

static const char * const ran_names[AIO_RAN_NR] = {
	[AIO_RAN_AT_ONCE]	= "at_once",
	[AIO_RAN_NATIVE]	= "native",
	[AIO_RAN_ARMED]		= "armed",
	[AIO_RAN_WORKER]	= "worker",
	[AIO_RAN_SUBMITTER]	= "submitter",
};

static long ran_sum(int op, int ran)
{
	long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(aio_thread_stats.ran[op][ran], cpu);
	return sum;
}

static int stats_show(struct seq_file *m, void *unused)
{
	static const char * const names[AIO_STAT_NR] = {
		[AIO_STAT_CANCELLED]	= "cancelled",
		[AIO_STAT_QUEUED]	= "queued",
		[AIO_STAT_RUNNING]	= "running",
		[AIO_STAT_WAITING]	= "waiting",
		[AIO_STAT_OBJECTS]	= "objects",
	};
	int i, op, cpu;
	long sum;

	for (i = 0; i < AIO_RAN_NR; i++) {
		for (sum = 0, op = 0; op < AIO_OP_NR; op++)
			sum += ran_sum(op, i);
		seq_printf(m, "%s %ld\n", ran_names[i], sum);
	}
	for (i = 0; i < AIO_STAT_NR; i++) {
		sum = 0;
		for_each_possible_cpu(cpu)
			sum += per_cpu(aio_thread_stats.stat[i], cpu);
		seq_printf(m, "%s %ld\n", names[i], sum);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(stats);

static int ops_show(struct seq_file *m, void *unused)
{
	static const char * const names[AIO_OP_NR] = {
		[AIO_OP_READ]		= "read",
		[AIO_OP_WRITE]		= "write",
		[AIO_OP_FSYNC]		= "fsync",
		[AIO_OP_POLL]		= "poll",
		[AIO_OP_OPENAT]		= "openat",
		[AIO_OP_UNLINKAT]	= "unlinkat",
		[AIO_OP_READAHEAD]	= "readahead",
		[AIO_OP_RENAMEAT]	= "renameat",
	};
	int op, i;

	seq_puts(m, "op");
	for (i = 0; i < AIO_RAN_NR; i++)
		seq_printf(m, " %s", ran_names[i]);
	seq_putc(m, '\n');
	for (op = 0; op < AIO_OP_NR; op++) {
		seq_puts(m, names[op]);
		for (i = 0; i < AIO_RAN_NR; i++)
			seq_printf(m, " %ld", ran_sum(op, i));
		seq_putc(m, '\n');
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(ops);

/**
 * aio_user_id - who answers for the requests of the running task
 *
 * Each of these has its own share of the workers. Outside of user namespaces
 * that is the real user id. In them, user ids can be had for nothing, so it is
 * whoever made the outermost one. Root, or a program with its rights, makes
 * them for others, for a user or a container: then it is the first of the user
 * ids that the namespace was given.
 *
 * Context: Any.
 * Return: the user id, as the initial user namespace knows it.
 */
u32 aio_user_id(void)
{
	const struct cred *cred = current_cred();
	struct user_namespace *ns = cred->user_ns;
	const struct uid_gid_map *map;
	u32 nr;

	if (ns == &init_user_ns)
		return __kuid_val(cred->uid);
	while (ns->parent != &init_user_ns)
		ns = ns->parent;
	if (!uid_eq(ns->owner, GLOBAL_ROOT_UID))
		return __kuid_val(ns->owner);

	map = &ns->uid_map;
	nr = READ_ONCE(map->nr_extents);
	/* The map is written before that, once. */
	smp_rmb();
	if (!nr)
		return __kuid_val(cred->uid);
	return nr <= UID_GID_MAP_MAX_BASE_EXTENTS ? map->extent[0].lower_first :
						    map->forward[0].lower_first;
}

/*
 * How many requests of one user may be in workers. They are there as long as
 * they block, so a bound that is too low makes requests wait for each other that
 * a program cannot know to. An eighth of what the work queue can do leaves as
 * much for seven others who block as many.
 */
unsigned int aio_thread_max_workers = WQ_MAX_ACTIVE / 8;

#ifdef CONFIG_SYSCTL
static int max_workers_handler(const struct ctl_table *table, int write,
			       void *buffer, size_t *lenp, loff_t *ppos)
{
	int ret = proc_douintvec_minmax(table, write, buffer, lenp, ppos);

	if (!ret && write)
		aio_thread_advance_users();
	return ret;
}

static const unsigned int max_workers_min = 1;
static const unsigned int max_workers_max = WQ_MAX_ACTIVE;

static const struct ctl_table aio_thread_sysctls[] = {
	{
		.procname	= "aio-thread-max-workers",
		.data		= &aio_thread_max_workers,
		.maxlen		= sizeof(aio_thread_max_workers),
		.mode		= 0644,
		.proc_handler	= max_workers_handler,
		.extra1		= (void *)&max_workers_min,
		.extra2		= (void *)&max_workers_max,
	},
};

static void __init aio_thread_sysctl_init(void)
{
	register_sysctl_init("fs", aio_thread_sysctls);
}
#else
static inline void aio_thread_sysctl_init(void)
{
}
#endif

struct workqueue_struct *aio_thread_wq;
struct workqueue_struct *aio_cancel_wq;

static int __init aio_thread_init(void)
{
	struct workqueue_attrs *attrs;
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
	/*
	 * For the whole system: else each node has a part of WQ_MAX_ACTIVE, and
	 * one user's share could be all of that.
	 */
	attrs = alloc_workqueue_attrs();
	if (!aio_thread_wq || !aio_cancel_wq || !attrs)
		panic("Failed to create the AIO work queues.");
	attrs->affn_scope = WQ_AFFN_SYSTEM;
	if (apply_workqueue_attrs(aio_thread_wq, attrs))
		pr_warn("AIO workers are bounded per node.\n");
	free_workqueue_attrs(attrs);
	aio_thread_init_users();
	aio_thread_sysctl_init();

	dir = debugfs_create_dir("aio_thread", NULL);
	debugfs_create_file("stats", 0444, dir, NULL, &stats_fops);
	debugfs_create_file("ops", 0444, dir, NULL, &ops_fops);
	debugfs_create_bool("force_worker", 0600, dir, &aio_force_worker);
	return 0;
}
subsys_initcall(aio_thread_init);

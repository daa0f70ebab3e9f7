/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Between fs/aio.c and the Rust of fs/aio_thread/: nobody else includes this.
 *
 * A request that leaves io_submit() has one struct aio_kiocb, owned by C, and
 * one request object, owned by Rust and known to C as the opaque pointer
 * aio_kiocb::ki_thread. What C must uphold:
 *
 * - ki_thread is set once, by aio_kiocb_attach(), and holds one reference that
 *   iocb_destroy() gives back with aio_thread_put(), before it lets go of the
 *   context. What the object refers to is counted by itself, as a worker may
 *   drop its own reference a moment later.
 * - What aio_kiocb_swap_identity() leaves in the context is a reference, which
 *   aio_thread_put_identity() gives back when the context is freed.
 * - aio_thread_cancel() and aio_thread_enqueue() are called under ctx_lock for a
 *   request on ctx->active_reqs, and only then.
 * - aio_thread_wake() is called under the lock of a wait queue that the request
 *   is on.
 * - aio_kiocb_complete(), aio_kiocb_complete_ran() and
 *   aio_kiocb_complete_at_once() consume the completion reference. Rust calls
 *   one of them, once per request; a request whose submission returned an error
 *   never gets there.
 */
#ifndef _FS_AIO_THREAD_GLUE_H
#define _FS_AIO_THREAD_GLUE_H

#include <linux/aio.h>
#include <linux/aio_abi.h>
#include <linux/fdtable.h>
#include <linux/fs.h>
#include <linux/ioprio.h>
#include <linux/pagemap.h>
#include <linux/types.h>

/*
 * For what a request needs until its event is out: charged to the submitter, who
 * is told to wait rather than killed if there is no more.
 */
#define AIO_GFP		(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL)

struct aio_kiocb;
struct aio_wait;
struct audit_context;
struct cgroup_subsys_state;
struct cred;
struct files_struct;
struct fs_struct;
struct iov_iter;
struct iovec;
struct kiocb;
struct mem_cgroup;
struct mm_struct;
struct nsproxy;
struct task_struct;
struct workqueue_struct;

/**
 * enum aio_rw_way - where a read or write may run
 * @AIO_WAY_CALLER: in the submitter and nowhere else, as without threads
 * @AIO_WAY_NOWAIT: tried at once with %IOCB_NOWAIT, else in a worker
 * @AIO_WAY_NATIVE: asynchronous by itself; what would block goes to a worker
 * @AIO_WAY_WORKER: in a worker, there is no way to try without blocking
 */
enum aio_rw_way {
	AIO_WAY_CALLER,
	AIO_WAY_NOWAIT,
	AIO_WAY_NATIVE,
	AIO_WAY_WORKER,
};

/**
 * enum aio_thread_op - what debugfs counts apart from each other
 * @AIO_OP_READ: %IOCB_CMD_PREAD, %IOCB_CMD_PREADV
 * @AIO_OP_WRITE: %IOCB_CMD_PWRITE, %IOCB_CMD_PWRITEV
 * @AIO_OP_FSYNC: %IOCB_CMD_FSYNC, %IOCB_CMD_FDSYNC
 * @AIO_OP_POLL: %IOCB_CMD_POLL, if the file has several wait queues
 * @AIO_OP_OPENAT: %IOCB_CMD_OPENAT
 * @AIO_OP_UNLINKAT: %IOCB_CMD_UNLINKAT
 * @AIO_OP_READAHEAD: %IOCB_CMD_READAHEAD
 * @AIO_OP_RENAMEAT: %IOCB_CMD_RENAMEAT
 * @AIO_OP_NR: number of them
 */
enum aio_thread_op {
	AIO_OP_READ,
	AIO_OP_WRITE,
	AIO_OP_FSYNC,
	AIO_OP_POLL,
	AIO_OP_OPENAT,
	AIO_OP_UNLINKAT,
	AIO_OP_READAHEAD,
	AIO_OP_RENAMEAT,
	AIO_OP_NR,
};

/**
 * enum aio_thread_ran - the ways that requests have taken, for debugfs
 * @AIO_RAN_AT_ONCE: completed in io_submit() without blocking
 * @AIO_RAN_NATIVE: carried out by the file's own asynchronous path
 * @AIO_RAN_ARMED: has waited on wait queues without a thread
 * @AIO_RAN_WORKER: run by a worker
 * @AIO_RAN_SUBMITTER: run in the submitter because a worker cannot stand in
 * @AIO_RAN_NR: number of them
 */
enum aio_thread_ran {
	AIO_RAN_AT_ONCE,
	AIO_RAN_NATIVE,
	AIO_RAN_ARMED,
	AIO_RAN_WORKER,
	AIO_RAN_SUBMITTER,
	AIO_RAN_NR,
};

/**
 * enum aio_thread_stat - what else debugfs tells
 * @AIO_STAT_CANCELLED: cancelled while waiting, queued or running
 * @AIO_STAT_QUEUED: waiting for a worker now
 * @AIO_STAT_RUNNING: in a worker now
 * @AIO_STAT_WAITING: on wait queues without a thread now
 * @AIO_STAT_OBJECTS: request objects that exist now
 * @AIO_STAT_NR: number of them
 */
enum aio_thread_stat {
	AIO_STAT_CANCELLED,
	AIO_STAT_QUEUED,
	AIO_STAT_RUNNING,
	AIO_STAT_WAITING,
	AIO_STAT_OBJECTS,
	AIO_STAT_NR,
};

/**
 * enum aio_call - the system calls that requests stand for
 * @AIO_CALL_OPENAT: openat(2)
 * @AIO_CALL_UNLINKAT: unlinkat(2)
 * @AIO_CALL_READAHEAD: readahead(2)
 * @AIO_CALL_RENAMEAT2: renameat2(2)
 */
enum aio_call {
	AIO_CALL_OPENAT,
	AIO_CALL_UNLINKAT,
	AIO_CALL_READAHEAD,
	AIO_CALL_RENAMEAT2,
};

/**
 * struct aio_task_saved - what a worker had before aio_task_enter()
 * @cred: its credentials
 * @loginuid: who is logged in
 * @sessionid: and in which session
 * @ioac: what it had read and written
 */
struct aio_task_saved {
	const struct cred		*cred;
#ifdef CONFIG_AUDIT
	kuid_t				loginuid;
	unsigned int			sessionid;
#endif
	struct task_io_accounting	ioac;
};

/**
 * struct aio_path_context - what the resolution of paths depends on
 * @fs: root and working directory, umask; nobody else's
 * @nsproxy: namespaces
 * @dir: the directories that a request has descriptors for
 *
 * Captured in io_submit(). In a worker that has it, directory descriptors are
 * indices of @dir.
 */
struct aio_path_context {
	struct fs_struct	*fs;
	struct nsproxy		*nsproxy;
	struct file		*dir[2];
};

/**
 * struct aio_path_saved - what a worker had before aio_path_enter()
 * @task: the submitter, together with the directories
 * @outer: the submitter without them
 * @fs: the worker's own
 * @nsproxy: the worker's own
 */
struct aio_path_saved {
	struct aio_task		task;
	const struct aio_task	*outer;
	struct fs_struct	*fs;
	struct nsproxy		*nsproxy;
};

/* Rust, called by C: fs/aio_thread/ffi.rs */
int aio_thread_rw(struct aio_kiocb *iocb, struct kiocb *rw, int dir,
		  void __user *buf, size_t len, bool vectored, bool compat);
int aio_thread_submit(struct aio_kiocb *iocb, struct file *file,
		      const struct iocb *user);
int aio_thread_poll(struct aio_kiocb *iocb, struct file *file, u32 events);
void aio_thread_enqueue(void *req);
void aio_thread_wake(void *req);
int aio_thread_cancel(void *req);
bool aio_thread_retry(void *req);
void aio_thread_put(void *req);
void aio_thread_put_identity(void *identity);
void aio_thread_init_users(void);
void aio_thread_advance_users(void);

/* fs/aio.c, called by Rust */
void aio_kiocb_attach(struct aio_kiocb *iocb, void *req);
void *aio_kiocb_swap_identity(struct aio_kiocb *iocb, void *identity);
void aio_kiocb_queue(struct aio_kiocb *iocb);
void aio_kiocb_complete(struct aio_kiocb *iocb, long res);
void aio_kiocb_complete_ran(struct aio_kiocb *iocb, long res);
void aio_kiocb_complete_at_once(struct aio_kiocb *iocb, long res);

/* fs/aio_thread/glue.c, called by Rust */
struct mm_struct *aio_get_mm(void);
void aio_use_mm(struct mm_struct *mm);
void aio_unuse_mm(struct mm_struct *mm);

ssize_t aio_import_iter(int dir, void __user *buf, size_t len, bool vectored,
			bool compat, struct iovec **iovec,
			struct iov_iter *iter);

void aio_task_capture(struct aio_task *task);
void aio_task_release(struct aio_task *task);
bool aio_task_is_current(const struct aio_task *task);
void aio_task_enter(struct aio_task_saved *saved, const struct aio_task *task);
void aio_task_leave(struct aio_task_saved *saved);

struct mem_cgroup *aio_memcg_get(void);
bool aio_memcg_is_current(const struct mem_cgroup *memcg);
void aio_memcg_put(struct mem_cgroup *memcg);
struct mem_cgroup *aio_memcg_enter(struct mem_cgroup *memcg);
void aio_memcg_leave(struct mem_cgroup *old);

struct cgroup_subsys_state *aio_blkcg_get(void);
bool aio_blkcg_is_current(const struct cgroup_subsys_state *css);
void aio_blkcg_put(struct cgroup_subsys_state *css);
void aio_blkcg_enter(struct cgroup_subsys_state *css);
void aio_blkcg_leave(void);

int aio_ioprio_enter(int ioprio);
void aio_ioprio_leave(int old);

u32 aio_pkru_get(void);
u32 aio_pkru_enter(u32 pkru);
void aio_pkru_leave(u32 old);

void aio_worker_enter(void);
void aio_worker_leave(void);
void aio_worker_kill(struct task_struct *worker);

int aio_rw_way(const struct kiocb *rw, int dir);
ssize_t aio_rw_caller(struct kiocb *rw, struct iov_iter *iter, int dir);
ssize_t aio_rw_nowait(struct kiocb *rw, struct iov_iter *iter, int dir);
ssize_t aio_rw_worker(struct file *file, loff_t pos, int flags, u16 ioprio,
		      u8 write_stream, struct iov_iter *iter, int dir,
		      bool nowait);
bool aio_rw_at_end(const struct kiocb *rw, int dir);
bool aio_control_file(const struct inode *inode);
int aio_rw_resume_flags(const struct file *file);
bool aio_rw_is_stream(const struct kiocb *rw);
u32 aio_rw_events(const struct kiocb *rw, int dir);

bool aio_has_fsync(const struct file *file);
int aio_current_ioprio(void);
void aio_fput(struct file *file);

void aio_thread_count(enum aio_thread_stat stat, long nr);
void aio_thread_count_ran(enum aio_thread_op op, enum aio_thread_ran ran,
			  long nr);
bool aio_thread_force_worker(void);

/* fs/aio_thread/wait.c, called by Rust but for the last */
struct aio_wait *aio_wait_new(u32 events);
void aio_wait_free(struct aio_wait *wait);
int aio_wait_arm(struct aio_wait *wait, struct file *file, void *req);
void aio_wait_disarm(struct aio_wait *wait);
bool aio_wait_gone(const struct aio_wait *wait);
u16 aio_wait_poll(struct aio_wait *wait);
u16 aio_poll_now(struct file *file, u32 events);
bool aio_poll_is_multiple(struct file *file, u32 events);

/* fs/aio_thread/path.c, called by Rust */
int aio_seccomp(enum aio_call call, const u64 args[6]);
bool aio_path_in_submitter(void);
int aio_call_begin(enum aio_call call, const u64 args[6],
		   struct audit_context **outer);
void aio_call_end(struct audit_context *outer, long res);
int aio_name_import(struct delayed_filename *name, u64 ptr, bool may_be_empty);
bool aio_name_is_absolute(const struct delayed_filename *name);
bool aio_dir_exists(int fd);
struct file *aio_dir_get(int fd);
int aio_path_capture(struct aio_path_context *context);
void aio_path_release(struct aio_path_context *context);
void aio_path_enter(struct aio_path_saved *saved,
		    const struct aio_path_context *context);
void aio_path_leave(const struct aio_path_saved *saved);
int aio_open_check(u32 *flags, u32 mode);
struct file *aio_openat(int dfd, struct delayed_filename *name, u32 flags,
			u32 mode, bool at_once);
struct file *aio_openat_submitter(int dfd, struct delayed_filename *name,
				  u32 flags, u32 mode, bool *done);
int aio_unlinkat(int dfd, struct delayed_filename *name, bool rmdir);
int aio_renameat(int olddfd, struct delayed_filename *oldname, int newdfd,
		 struct delayed_filename *newname, u32 flags);
int aio_rename_info_import(struct renameat_info *info, u64 ptr);
struct files_struct *aio_fd_reserve(u32 flags, u32 *fd);
int aio_fd_install(struct files_struct *files, u32 fd, struct file *file);
void aio_files_put(struct files_struct *files);
void aio_fd_unreserve(struct files_struct *files, u32 fd);

u32 aio_user_id(void);

extern unsigned int aio_thread_max_workers;
extern struct workqueue_struct *aio_thread_wq;
extern struct workqueue_struct *aio_cancel_wq;

#endif /* _FS_AIO_THREAD_GLUE_H */

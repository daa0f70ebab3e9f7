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
 *   context; so the request object never outlives the context, and its
 *   references to the submitter's mm never are the last.
 * - aio_thread_cancel() and aio_thread_enqueue() are called under ctx_lock for a
 *   request on ctx->active_reqs, and only then.
 * - aio_kiocb_complete() and aio_kiocb_complete_at_once() consume the completion
 *   reference. Rust calls one of them, once per request; a request whose
 *   submission returned an error never gets there.
 */
#ifndef _FS_AIO_THREAD_GLUE_H
#define _FS_AIO_THREAD_GLUE_H

#include <linux/aio.h>
#include <linux/fs.h>
#include <linux/types.h>

struct aio_kiocb;
struct cgroup_subsys_state;
struct cred;
struct iov_iter;
struct kiocb;
struct mem_cgroup;
struct mm_struct;
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
 * enum aio_thread_stat - what debugfs tells about requests
 * @AIO_STAT_AT_ONCE: completed in io_submit() without blocking
 * @AIO_STAT_NATIVE: carried out by the file's own asynchronous path
 * @AIO_STAT_WORKER: run by a worker
 * @AIO_STAT_SUBMITTER: run in the submitter because the file demands it
 * @AIO_STAT_CANCELLED: cancelled while queued or running
 * @AIO_STAT_QUEUED: waiting for a worker now
 * @AIO_STAT_RUNNING: in a worker now
 * @AIO_STAT_OBJECTS: request objects that exist now
 * @AIO_STAT_NR: number of counters
 */
enum aio_thread_stat {
	AIO_STAT_AT_ONCE,
	AIO_STAT_NATIVE,
	AIO_STAT_WORKER,
	AIO_STAT_SUBMITTER,
	AIO_STAT_CANCELLED,
	AIO_STAT_QUEUED,
	AIO_STAT_RUNNING,
	AIO_STAT_OBJECTS,
	AIO_STAT_NR,
};

/* Rust, called by C: fs/aio_thread/ffi.rs */
int aio_thread_rw(struct aio_kiocb *iocb, struct kiocb *rw, int dir,
		  void __user *buf, size_t len, bool vectored, bool compat);
void aio_thread_enqueue(void *req);
int aio_thread_cancel(void *req);
bool aio_thread_retry(void *req);
void aio_thread_put(void *req);

/* fs/aio.c, called by Rust */
void aio_kiocb_attach(struct aio_kiocb *iocb, void *req);
void aio_kiocb_queue(struct aio_kiocb *iocb);
void aio_kiocb_complete(struct aio_kiocb *iocb, long res);
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
const struct cred *aio_task_enter(const struct aio_task *task);
void aio_task_leave(const struct cred *old);

struct mem_cgroup *aio_memcg_get(void);
void aio_memcg_put(struct mem_cgroup *memcg);
struct mem_cgroup *aio_memcg_enter(struct mem_cgroup *memcg);
void aio_memcg_leave(struct mem_cgroup *old);

struct cgroup_subsys_state *aio_blkcg_get(void);
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
ssize_t aio_rw_blocking(struct file *file, loff_t pos, int flags, u16 ioprio,
			u8 write_stream, struct iov_iter *iter, int dir);
bool aio_rw_at_end(const struct kiocb *rw, int dir);
int aio_rw_resume_flags(const struct kiocb *rw);
bool aio_rw_is_stream(const struct kiocb *rw);

void aio_thread_count(enum aio_thread_stat stat, long nr);

extern struct workqueue_struct *aio_thread_wq;
extern struct workqueue_struct *aio_cancel_wq;

#endif /* _FS_AIO_THREAD_GLUE_H */

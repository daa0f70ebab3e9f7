// SPDX-License-Identifier: GPL-2.0

//! The face to C: every line of `unsafe` code of threaded AIO is in this file.
//!
//! Downwards it turns what `glue.h` declares into types whose invariants make them safe to use.
//! Upwards it holds the functions that C calls. What C must uphold is written at the head of
//! `glue.h`.
//!
//! C header: [`fs/aio_thread/glue.h`](srctree/fs/aio_thread/glue.h)

#![expect(unsafe_code)]

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::to_result,
    ffi::{
        c_int,
        c_void, //
    },
    mm::Mm,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        ArcBorrow, //
    },
    task::Task,
    types::{
        ForeignOwnable,
        NotThreadSafe,
        Opaque, //
    },
    workqueue::{
        impl_has_work,
        HasWork,
        Queue,
        Work,
        WorkItem, //
    },
};

use crate::{
    identity::ActingAs,
    ops::rw,
    request::Request, //
};

/// Direction of a transfer, as the C side counts it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the file to memory.
    Read,
    /// From memory to the file.
    Write,
}

impl Direction {
    fn as_c(self) -> c_int {
        match self {
            Direction::Read => bindings::READ as c_int,
            Direction::Write => bindings::WRITE as c_int,
        }
    }

    fn from_c(dir: c_int) -> Self {
        if dir == bindings::READ as c_int {
            Direction::Read
        } else {
            Direction::Write
        }
    }
}

// ---------------------------------------------------------------------------------------------
// The address space.

/// Takes a reference to the address space of the context's owner.
///
/// To be called by the submitting task, which is the only one that finds the context.
pub(crate) fn submitter_mm() -> ARef<Mm> {
    // SAFETY: In a system call `current->mm` is valid; the function takes an `mmgrab()` reference.
    let mm = unsafe { bindings::aio_get_mm() };
    // SAFETY: The pointer is valid, thus not null, and carries a reference, which goes to the
    // `ARef`. `Mm` is a transparent wrapper of `mm_struct` whose references are of this kind.
    unsafe { ARef::from_raw(NonNull::new_unchecked(mm.cast())) }
}

/// The running thread, which is a worker: it can take on what belongs to a submitter.
///
/// What it takes on it has for the time of one call, which cannot be left out or outlived.
///
/// # Invariants
///
/// The running thread is a kernel thread, with signal handlers of its own and without an mm, and
/// acts for nobody yet in the respect that is asked for.
pub(crate) struct Worker(NotThreadSafe);

impl Worker {
    /// The running thread.
    ///
    /// # Safety
    ///
    /// It must be a kernel thread that calls this at the start of its work on a request.
    unsafe fn current() -> Self {
        // INVARIANT: The caller promises it.
        Self(NotThreadSafe)
    }

    /// Calls `f` while the worker uses `mm`.
    ///
    /// A request that is not completed keeps its context, and `exit_aio()` waits for all contexts
    /// before the page tables go. So the mm is there, although nobody may use it any more.
    pub(crate) fn with_mm<R>(&self, mm: &Mm, _alive: &Completion, f: impl FnOnce() -> R) -> R {
        // SAFETY: By the invariants this is a kernel thread without an mm. `mm` is valid, and, as
        // there is a request in flight, not torn down.
        unsafe { bindings::aio_use_mm(mm.as_raw()) };
        let ret = f();
        // SAFETY: This is what the thread uses.
        unsafe { bindings::aio_unuse_mm(mm.as_raw()) };
        ret
    }
}

#[kunit_tests(aio_thread_mm)]
mod mm_tests {
    use super::*;

    fn users(mm: &Mm) -> i32 {
        // SAFETY: The mm is valid, and so are its counters.
        unsafe { (*mm.as_raw()).__bindgen_anon_1.mm_users.counter }
    }

    #[test]
    fn a_request_does_not_keep_the_address_space() {
        // SAFETY: Called by the test's own kernel thread, which has no mm; KUnit detaches it.
        assert_eq!(unsafe { bindings::kunit_attach_mm() }, 0);
        let mm = submitter_mm();
        let before = users(&mm);
        let again = submitter_mm();
        assert!(core::ptr::eq(mm.as_raw(), again.as_raw()));
        // Otherwise exit would wait for requests that it is to cancel.
        assert_eq!(users(&mm), before);
    }
}

// ---------------------------------------------------------------------------------------------
// Iterators.

/// The kernel's copy of an iovec array.
///
/// # Invariants
///
/// Points to an allocation of `kmalloc()` that nobody else frees.
struct IovecArray(NonNull<bindings::iovec>);

// SAFETY: It is plain memory that is not written to after it was set up.
unsafe impl Send for IovecArray {}
// SAFETY: As above.
unsafe impl Sync for IovecArray {}

impl Drop for IovecArray {
    fn drop(&mut self) {
        // SAFETY: By the invariants this is ours to free.
        unsafe { bindings::kfree(self.0.as_ptr().cast()) };
    }
}

/// A C iterator over user memory that owns whatever it points to in the kernel.
///
/// # Invariants
///
/// `iter` is of type `ITER_UBUF` or `ITER_IOVEC`; the array of the latter is `iovec`, and `count`
/// does not exceed what is left of it.
pub(crate) struct UserIter {
    iter: bindings::iov_iter,
    iovec: Option<Arc<IovecArray>>,
}

// SAFETY: It holds user addresses, which mean the same in every thread that uses the same mm, and
// a shared array that is never written to.
unsafe impl Send for UserIter {}

impl Clone for UserIter {
    fn clone(&self) -> Self {
        // INVARIANT: The copy points to the same array and holds a reference of its own to it.
        Self {
            // SAFETY: `iov_iter` is plain data, a copy of which is as good as the original.
            iter: unsafe { core::ptr::read(&self.iter) },
            iovec: self.iovec.clone(),
        }
    }
}

/// A user's description of buffers, as it stands in an iocb.
#[derive(Clone, Copy)]
pub(crate) struct UserBuffers {
    /// Address of the buffer, or of the array of iovecs.
    pub(crate) buf: *mut c_void,
    /// Bytes, or number of iovecs.
    pub(crate) len: usize,
    /// Whether `buf` is an array of iovecs.
    pub(crate) vectored: bool,
    /// Whether they are 32-bit iovecs.
    pub(crate) compat: bool,
}

impl UserIter {
    /// Copies what the user describes into the kernel, and checks the addresses.
    pub(crate) fn import(dir: Direction, from: UserBuffers) -> Result<Self> {
        let mut iovec: *mut bindings::iovec = core::ptr::null_mut();
        let mut iter = bindings::iov_iter::default();
        // SAFETY: The pointers are to valid locals; `buf` is a user address, which C checks.
        let res = unsafe {
            bindings::aio_import_iter(
                dir.as_c(),
                from.buf.cast(),
                from.len,
                from.vectored,
                from.compat,
                &mut iovec,
                &mut iter,
            )
        };
        if res < 0 {
            return Err(Error::from_errno(res as c_int));
        }
        let iovec = match NonNull::new(iovec) {
            // INVARIANT: C hands over the allocation.
            Some(iovec) => Some(Arc::new(IovecArray(iovec), GFP_KERNEL_ACCOUNT)?),
            None => None,
        };
        // INVARIANT: This is what `aio_import_iter()` sets up.
        Ok(Self { iter, iovec })
    }

    /// Number of bytes left.
    pub(crate) fn len(&self) -> usize {
        // SAFETY: For iterators over user memory `count` is the active member of the union.
        unsafe { self.iter.__bindgen_anon_1.__bindgen_anon_1.as_ref().count }
    }

    /// Goes forward by `bytes`, or to the end if there are fewer left.
    pub(crate) fn advance(&mut self, bytes: usize) {
        let bytes = bytes.min(self.len());
        // SAFETY: By the invariants this is a valid iterator, and there are as many bytes left.
        unsafe { bindings::iov_iter_advance(&mut self.iter, bytes) };
    }

    fn as_c(&mut self) -> *mut bindings::iov_iter {
        &mut self.iter
    }
}

// ---------------------------------------------------------------------------------------------
// Whom a worker acts for.

/// The submitting thread: where signals go, with which credentials, under which limits.
///
/// # Invariants
///
/// Holds what `aio_task_capture()` has filled in.
#[pin_data(PinnedDrop)]
pub(crate) struct Submitter {
    #[pin]
    task: Opaque<bindings::aio_task>,
}

// SAFETY: Consists of counted references to a pid and to credentials, and of numbers, none of
// which changes. All of it may be used and given back by any thread.
unsafe impl Send for Submitter {}
// SAFETY: As above.
unsafe impl Sync for Submitter {}

impl Submitter {
    /// Captures the running task.
    pub(crate) fn capture() -> impl PinInit<Self> {
        pin_init!(Self {
            // INVARIANT: Filled in here.
            task <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is memory for an `aio_task`.
                unsafe { bindings::aio_task_capture(slot) }
            }),
        })
    }
}

#[pinned_drop]
impl PinnedDrop for Submitter {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the invariants it is filled in; `with_submitter()` has borrowed it no more.
        unsafe { bindings::aio_task_release(self.task.get()) };
    }
}

impl Worker {
    /// Calls `f` while the worker has the submitter's credentials and file size limit, and whatever
    /// it signals goes to the submitter.
    pub(crate) fn with_submitter<R>(&self, submitter: &Submitter, f: impl FnOnce() -> R) -> R {
        // SAFETY: By the invariants of `Submitter` it is filled in, and it outlives the call.
        let old = unsafe { bindings::aio_task_enter(submitter.task.get()) };
        let ret = f();
        // SAFETY: These are the thread's own credentials.
        unsafe { bindings::aio_task_leave(old) };
        ret
    }
}

/// The task that the running one acts for, as `io_send_sig()` finds it.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) fn acted_for() -> Option<ARef<Task>> {
    // SAFETY: May be called by any task.
    let task = NonNull::new(unsafe { bindings::aio_get_task() })?;
    // SAFETY: The task comes with a reference, which goes to the `ARef`.
    Some(unsafe { ARef::from_raw(task.cast()) })
}

#[kunit_tests(aio_thread_submitter)]
mod submitter_tests {
    use super::*;
    use kernel::stack_pin_init;

    fn acts_for_itself() -> bool {
        acted_for().is_some_and(|task| task.as_ptr() == Task::current_raw())
    }

    #[test]
    fn a_task_acts_for_itself() {
        assert!(acts_for_itself());
    }

    fn worker() -> Worker {
        // SAFETY: Tests run in a kernel thread of their own.
        unsafe { Worker::current() }
    }

    #[test]
    fn a_worker_acts_for_the_submitter() {
        stack_pin_init!(let submitter = Submitter::capture());
        assert!(worker().with_submitter(&submitter, acts_for_itself));
        assert!(acts_for_itself());
    }

    #[test]
    fn nobody_is_acted_for_after_a_change_of_credentials() {
        stack_pin_init!(let submitter = Submitter::capture());
        // SAFETY: Called by the test's own kernel thread, and the new credentials are valid.
        unsafe {
            let cred = bindings::prepare_creds();
            assert!(!cred.is_null());
            bindings::commit_creds(cred);
        }
        assert!(worker().with_submitter(&submitter, || acted_for().is_none()));
        assert!(acts_for_itself());
    }
}

/// A reference to the memory cgroup that the submitter's allocations are charged to.
///
/// # Invariants
///
/// Null (memory cgroups are off), or a counted reference.
pub(crate) struct MemCgroup(*mut bindings::mem_cgroup);

// SAFETY: A counted reference, which any thread may use and give back.
unsafe impl Send for MemCgroup {}
// SAFETY: As above.
unsafe impl Sync for MemCgroup {}

impl MemCgroup {
    /// The running task's.
    pub(crate) fn current() -> Self {
        // INVARIANT: C takes the reference.
        // SAFETY: May be called by any task.
        Self(unsafe { bindings::aio_memcg_get() })
    }
}

impl Drop for MemCgroup {
    fn drop(&mut self) {
        // SAFETY: By the invariants; C accepts null.
        unsafe { bindings::aio_memcg_put(self.0) };
    }
}

/// A reference to the block cgroup that the submitter's I/O is charged to.
///
/// # Invariants
///
/// Null (block cgroups are off), or a counted reference.
pub(crate) struct BlkCgroup(*mut bindings::cgroup_subsys_state);

// SAFETY: A counted reference, which any thread may use and give back.
unsafe impl Send for BlkCgroup {}
// SAFETY: As above.
unsafe impl Sync for BlkCgroup {}

impl BlkCgroup {
    /// The running task's.
    pub(crate) fn current() -> Self {
        // INVARIANT: C takes the reference.
        // SAFETY: May be called by any task.
        Self(unsafe { bindings::aio_blkcg_get() })
    }
}

impl Drop for BlkCgroup {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: By the invariants.
            unsafe { bindings::aio_blkcg_put(self.0) };
        }
    }
}

/// The running task's rights to memory under protection keys; 0 where C can't carry them.
pub(crate) fn current_pkru() -> u32 {
    // SAFETY: May be called by any task.
    unsafe { bindings::aio_pkru_get() }
}

impl Worker {
    /// Calls `f` while the worker's allocations are charged to `memcg`.
    pub(crate) fn with_memcg<R>(&self, memcg: &MemCgroup, f: impl FnOnce() -> R) -> R {
        // SAFETY: The reference outlives the call.
        let old = unsafe { bindings::aio_memcg_enter(memcg.0) };
        let ret = f();
        // SAFETY: This is what the thread had before.
        unsafe { bindings::aio_memcg_leave(old) };
        ret
    }

    /// Calls `f` while the worker's I/O is charged to `blkcg`.
    pub(crate) fn with_blkcg<R>(&self, blkcg: &BlkCgroup, f: impl FnOnce() -> R) -> R {
        // SAFETY: The reference outlives the call.
        unsafe { bindings::aio_blkcg_enter(blkcg.0) };
        let ret = f();
        // SAFETY: Workers are associated with no block cgroup of their own.
        unsafe { bindings::aio_blkcg_leave() };
        ret
    }

    /// Calls `f` while the worker has the rights `pkru` to memory under protection keys.
    pub(crate) fn with_pkru<R>(&self, pkru: u32, f: impl FnOnce() -> R) -> R {
        // SAFETY: Only changes which user memory the running thread may access.
        let old = unsafe { bindings::aio_pkru_enter(pkru) };
        let ret = f();
        // SAFETY: This is what the thread had before.
        unsafe { bindings::aio_pkru_leave(old) };
        ret
    }

    /// Calls `f` while the worker has the I/O priority `ioprio`. Needs the worker's own
    /// credentials, so it comes before [`Worker::with_submitter`].
    pub(crate) fn with_ioprio<R>(&self, ioprio: u16, f: impl FnOnce() -> R) -> R {
        // SAFETY: Only changes the running thread's I/O priority.
        let old = unsafe { bindings::aio_ioprio_enter(c_int::from(ioprio)) };
        let ret = f();
        // SAFETY: This is what the thread had before.
        unsafe { bindings::aio_ioprio_leave(old) };
        ret
    }
}

// ---------------------------------------------------------------------------------------------
// Workers and the queues.

impl Worker {
    /// Calls `f`, and lets [`kill`] reach the worker, of which `f` gets a reference, during the
    /// call. When this returns, no signal is left.
    pub(crate) fn killable<R>(&self, f: impl FnOnce(ARef<Task>) -> R) -> R {
        // SAFETY: By the invariants the thread's signal handlers are its own.
        unsafe { bindings::aio_worker_enter() };
        let ret = f(ARef::from(&**kernel::current!()));
        // SAFETY: As above.
        unsafe { bindings::aio_worker_leave() };
        ret
    }
}

/// Ends the interruptible and killable sleeps of a worker, of now and of the rest of its request.
pub(crate) fn kill(worker: &Task) {
    // SAFETY: The reference keeps the task alive. A worker that has left ignores the signal.
    unsafe { bindings::aio_worker_kill(worker.as_ptr()) };
}

impl_has_work! {
    impl HasWork<Self> for Request { self.work }
}

impl WorkItem for Request {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        // SAFETY: Called by the work queue, whose threads are such, with no other work in between.
        crate::executor::work(this, unsafe { Worker::current() });
    }
}

/// The queue whose workers may block.
pub(crate) fn thread_queue() -> &'static Queue {
    // SAFETY: Created at boot, before there can be a request, and never destroyed.
    unsafe { Queue::from_raw(bindings::aio_thread_wq) }
}

/// The queue for what does not block.
pub(crate) fn cancel_queue() -> &'static Queue {
    // SAFETY: As above.
    unsafe { Queue::from_raw(bindings::aio_cancel_wq) }
}

/// Takes a request back from the queue that it waits in.
///
/// Returns `None` if it is in none, or no longer: then its worker has it or is about to.
pub(crate) fn dequeue(request: ArcBorrow<'_, Request>) -> Option<Arc<Request>> {
    let ptr = Arc::into_raw(Arc::from(request));
    // SAFETY: The pointer is to a valid request.
    let work = unsafe { <Request as HasWork<Request>>::raw_get_work(ptr.cast_mut()) };
    // SAFETY: `Work` is a wrapper of the `work_struct` that `Queue::enqueue()` has used.
    let cancelled = unsafe { bindings::cancel_work(Work::raw_get(work)) };
    // SAFETY: This is the reference from above.
    drop(unsafe { Arc::from_raw(ptr) });
    // SAFETY: The work was pending, and now it is not going to run. So the reference that
    // `Queue::enqueue()` turned into a pointer with `Arc::into_raw()` for the worker is ours.
    cancelled.then(|| unsafe { Arc::from_raw(ptr) })
}

/// What is counted for debugfs.
#[derive(Clone, Copy)]
pub(crate) enum Stat {
    AtOnce,
    Native,
    Worker,
    Submitter,
    Cancelled,
    Queued,
    Running,
    Objects,
}

impl Stat {
    /// Adds `nr`.
    pub(crate) fn add(self, nr: isize) {
        let stat = match self {
            Stat::AtOnce => bindings::aio_thread_stat_AIO_STAT_AT_ONCE,
            Stat::Native => bindings::aio_thread_stat_AIO_STAT_NATIVE,
            Stat::Worker => bindings::aio_thread_stat_AIO_STAT_WORKER,
            Stat::Submitter => bindings::aio_thread_stat_AIO_STAT_SUBMITTER,
            Stat::Cancelled => bindings::aio_thread_stat_AIO_STAT_CANCELLED,
            Stat::Queued => bindings::aio_thread_stat_AIO_STAT_QUEUED,
            Stat::Running => bindings::aio_thread_stat_AIO_STAT_RUNNING,
            Stat::Objects => bindings::aio_thread_stat_AIO_STAT_OBJECTS,
        };
        // SAFETY: Any context may count.
        unsafe { bindings::aio_thread_count(stat, nr) };
    }
}

// ---------------------------------------------------------------------------------------------
// Requests, as C knows them.

/// The right, and the duty, to complete a request. There is one per request.
///
/// It has no destructor: one that is dropped belongs to a request that C completes, because its
/// submission failed or because the file's own asynchronous path does it.
///
/// # Invariants
///
/// The `aio_kiocb` is valid, and with it its file and context, until this is used up.
pub(crate) struct Completion(NonNull<bindings::aio_kiocb>);

// SAFETY: Any thread may complete a request.
unsafe impl Send for Completion {}

impl Completion {
    /// Completes a request that was queued. The event may be seen before this returns.
    pub(crate) fn complete(self, res: isize) {
        // SAFETY: By the invariants, which end here.
        unsafe { bindings::aio_kiocb_complete(self.0.as_ptr(), res) };
    }
}

/// A read or write that `io_submit()` is working on.
///
/// # Invariants
///
/// `iocb` and `kiocb` are parts of one valid, prepared request until `io_submit()` is done with it.
pub(crate) struct Submission<'a> {
    iocb: NonNull<bindings::aio_kiocb>,
    kiocb: NonNull<bindings::kiocb>,
    dir: Direction,
    _submit: PhantomData<&'a ()>,
}

/// Where a request may run, see `enum aio_rw_way`.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    Caller,
    Nowait,
    Native,
    Worker,
}

/// What an attempt in the submitter has led to.
pub(crate) enum Attempt {
    /// The file's own asynchronous path has it, and calls `->ki_complete()`.
    Queued,
    /// Bytes, or a negative error code.
    Result(isize),
}

impl Submission<'_> {
    /// Whether it reads or writes.
    pub(crate) fn direction(&self) -> Direction {
        self.dir
    }

    /// Where it may run.
    pub(crate) fn way(&self) -> Result<Way> {
        // SAFETY: By the invariants.
        let way = unsafe { bindings::aio_rw_way(self.kiocb.as_ptr(), self.dir.as_c()) };
        to_result(way)?;
        Ok(match way as u32 {
            bindings::aio_rw_way_AIO_WAY_NOWAIT => Way::Nowait,
            bindings::aio_rw_way_AIO_WAY_NATIVE => Way::Native,
            bindings::aio_rw_way_AIO_WAY_WORKER => Way::Worker,
            _ => Way::Caller,
        })
    }

    /// Asks the security modules and the file's locks, as a system call would.
    pub(crate) fn verify(&self, len: usize) -> Result {
        // SAFETY: By the invariants the kiocb and its file are valid.
        to_result(unsafe {
            let kiocb = self.kiocb.as_ptr();
            bindings::rw_verify_area(self.dir.as_c(), (*kiocb).ki_filp, &(*kiocb).ki_pos, len)
        })
    }

    fn attempt(&mut self, mut iter: UserIter, nowait: bool) -> Attempt {
        let f = if nowait {
            bindings::aio_rw_nowait
        } else {
            bindings::aio_rw_caller
        };
        // SAFETY: By the invariants. The iterator is valid until the call is over, and nobody keeps
        // a pointer to it or its array: that is what `->read_iter()` and `->write_iter()` promise.
        let res = unsafe { f(self.kiocb.as_ptr(), iter.as_c(), self.dir.as_c()) };
        if res == -(bindings::EIOCBQUEUED as isize) {
            Attempt::Queued
        } else {
            Attempt::Result(res)
        }
    }

    /// Reads or writes in the submitter, which may block.
    pub(crate) fn run_in_caller(&mut self, iter: UserIter) -> Attempt {
        self.attempt(iter, false)
    }

    /// Reads or writes as far as that does not block.
    pub(crate) fn try_nowait(&mut self, iter: UserIter) -> Attempt {
        self.attempt(iter, true)
    }

    /// The transfer, for a worker that starts where the kiocb stands now.
    pub(crate) fn target(&self) -> Target {
        // SAFETY: By the invariants the kiocb is valid.
        let kiocb = unsafe { self.kiocb.as_ref() };
        Target {
            file: kiocb.ki_filp,
            pos: kiocb.ki_pos,
            flags: kiocb.ki_flags,
            ioprio: kiocb.ki_ioprio,
            write_stream: kiocb.ki_write_stream,
            dir: self.dir,
        }
    }

    /// Whether a blocking call would stop at the present position: the file ends there, or may not
    /// be written further.
    pub(crate) fn at_end(&self) -> bool {
        // SAFETY: By the invariants.
        unsafe { bindings::aio_rw_at_end(self.kiocb.as_ptr(), self.dir.as_c()) }
    }

    /// Whether the file is a stream: reads give what is there, and there are no positions.
    pub(crate) fn is_stream(&self) -> bool {
        // SAFETY: By the invariants.
        unsafe { bindings::aio_rw_is_stream(self.kiocb.as_ptr()) }
    }

    /// Gives the request object to the request, which then can be found by C.
    pub(crate) fn attach(&self, request: Arc<Request>) {
        // SAFETY: By the invariants; C gives the pointer back with `aio_thread_put()`.
        unsafe { bindings::aio_kiocb_attach(self.iocb.as_ptr(), request.into_foreign()) };
    }

    /// Queues the request whose object was attached, so that it can be cancelled from here on.
    pub(crate) fn queue(self) {
        // SAFETY: By the invariants; this was the last use of them.
        unsafe { bindings::aio_kiocb_queue(self.iocb.as_ptr()) };
    }

    /// Completes the request, which was not queued.
    pub(crate) fn complete(self, completion: Completion, res: isize) {
        // SAFETY: By the invariants of `Completion`, which end here, and there is nobody else, as
        // the submission was not used up by `queue()`.
        unsafe { bindings::aio_kiocb_complete_at_once(completion.0.as_ptr(), res) };
    }
}

/// What a worker reads or writes, and how.
///
/// # Invariants
///
/// `file` is the request's, which is valid as long as its [`Completion`] is.
pub(crate) struct Target {
    file: *mut bindings::file,
    pos: bindings::loff_t,
    flags: c_int,
    ioprio: u16,
    write_stream: u8,
    dir: Direction,
}

// SAFETY: The pointer is to a file, which any thread may use.
unsafe impl Send for Target {}

impl Target {
    /// The I/O priority that was asked for.
    pub(crate) fn ioprio(&self) -> u16 {
        self.ioprio
    }

    /// Starts where an attempt has stopped.
    pub(crate) fn resume(&mut self, submission: &Submission<'_>) {
        // SAFETY: By the invariants of `Submission` the kiocb is valid. What advances it knows
        // whether the file has positions.
        self.pos = unsafe { submission.kiocb.as_ref() }.ki_pos;
        // SAFETY: As above.
        self.flags |= unsafe { bindings::aio_rw_resume_flags(submission.kiocb.as_ptr()) };
    }

    /// Reads or writes, and blocks if need be.
    pub(crate) fn run(
        &self,
        _as: &ActingAs<'_>,
        _alive: &Completion,
        iter: &mut UserIter,
    ) -> isize {
        // SAFETY: By the invariants the file is valid, since there is a `Completion`. `_as` shows
        // that the running thread is a worker that uses the submitter's mm and credentials.
        unsafe {
            bindings::aio_rw_blocking(
                self.file,
                self.pos,
                self.flags,
                self.ioprio,
                self.write_stream,
                iter.as_c(),
                self.dir.as_c(),
            )
        }
    }
}

// ---------------------------------------------------------------------------------------------
// What C calls.

/// Submits a read or write of a threaded context.
///
/// Returns 0 if an event has come or is going to come, otherwise a negative error code, and then
/// nothing is left of the request.
///
/// # Safety
///
/// `iocb` must be a request under submission, and `rw` its prepared kiocb.
#[export]
pub(crate) unsafe extern "C" fn aio_thread_rw(
    iocb: *mut bindings::aio_kiocb,
    rw: *mut bindings::kiocb,
    dir: c_int,
    buf: *mut c_void,
    len: usize,
    vectored: bool,
    compat: bool,
) -> c_int {
    let (Some(iocb), Some(kiocb)) = (NonNull::new(iocb), NonNull::new(rw)) else {
        return EINVAL.to_errno();
    };
    // INVARIANT: The caller promises it.
    let submission = Submission {
        iocb,
        kiocb,
        dir: Direction::from_c(dir),
        _submit: PhantomData,
    };
    // INVARIANT: The completion reference, which this request came with, keeps it valid. C submits
    // a request once, so this is the only one.
    let completion = Completion(iocb);
    let buffers = UserBuffers {
        buf,
        len,
        vectored,
        compat,
    };
    match rw::submit(submission, completion, buffers) {
        Ok(()) => 0,
        Err(e) => e.to_errno(),
    }
}

/// Borrows the request object that C knows as `request`.
///
/// # Safety
///
/// `request` must have been attached, and not yet put, for as long as `'a`.
unsafe fn borrow<'a>(request: *mut c_void) -> ArcBorrow<'a, Request> {
    // SAFETY: `Submission::attach()` has made the pointer with `into_foreign()`.
    unsafe { <Arc<Request> as ForeignOwnable>::borrow(request) }
}

/// Hands a request to the workers.
///
/// # Safety
///
/// `request` must be attached and on its context's list, and `ctx_lock` held.
#[export]
pub(crate) unsafe extern "C" fn aio_thread_enqueue(request: *mut c_void) {
    // SAFETY: The caller promises it.
    crate::executor::enqueue(unsafe { borrow(request) }.into());
}

/// Cancels a request. Returns 0, or `-EAGAIN` if it is about to complete.
///
/// # Safety
///
/// `request` must be attached and on its context's list, and `ctx_lock` held.
#[export]
pub(crate) unsafe extern "C" fn aio_thread_cancel(request: *mut c_void) -> c_int {
    // SAFETY: The caller promises it.
    match crate::executor::cancel(unsafe { borrow(request) }) {
        Ok(()) => 0,
        Err(e) => e.to_errno(),
    }
}

/// Tells that the file's own asynchronous path would have blocked. May be called in any context.
///
/// Returns whether the request is to be queued instead of being completed.
///
/// # Safety
///
/// `request` must be attached.
#[export]
pub(crate) unsafe extern "C" fn aio_thread_retry(request: *mut c_void) -> bool {
    // SAFETY: The caller promises it.
    unsafe { borrow(request) }.retry()
}

/// Gives back C's reference to a request.
///
/// # Safety
///
/// `request` must be attached, and nobody may use the pointer afterwards.
#[export]
pub(crate) unsafe extern "C" fn aio_thread_put(request: *mut c_void) {
    // SAFETY: `Submission::attach()` has made the pointer with `into_foreign()`.
    drop(unsafe { <Arc<Request> as ForeignOwnable>::from_foreign(request) });
}

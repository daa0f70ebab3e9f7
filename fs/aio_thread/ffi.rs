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
    list::{
        impl_list_arc_safe,
        impl_list_item,
        AtomicTracker,
        List,
        ListArc,
        TryNewListArc, //
    },
    mm::Mm,
    prelude::*,
    rbtree::{
        self,
        RBTree,
        RBTreeNodeReservation, //
    },
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
    warn_on,
    workqueue::{
        impl_has_work,
        HasWork,
        Queue,
        Work,
        WorkItem, //
    },
};

use crate::{
    identity::{
        ActingAs,
        Identity,
        InPathContext,
        UsingMm, //
    },
    ops::{
        self,
        poll,
        readahead::Range,
        rw,
        Kind, //
    },
    request::Request,
    user::User, //
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
            Some(iovec) => Some(Arc::new(
                IovecArray(iovec),
                GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL,
            )?),
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

    /// Whether it is the running task, and nothing of what was captured has changed.
    pub(crate) fn is_current(&self) -> bool {
        // SAFETY: By the invariants.
        unsafe { bindings::aio_task_is_current(self.task.get()) }
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
    /// Calls `f` while the worker has the submitter's credentials, login and file size limit;
    /// whatever it signals goes to the submitter, and what it reads and writes is counted there.
    pub(crate) fn with_submitter<R>(&self, submitter: &Submitter, f: impl FnOnce() -> R) -> R {
        let mut saved = bindings::aio_task_saved::default();
        // SAFETY: By the invariants of `Submitter` it is filled in, and it outlives the call as
        // `saved` does.
        unsafe { bindings::aio_task_enter(&mut saved, submitter.task.get()) };
        let ret = f();
        // SAFETY: This is what the thread had before.
        unsafe { bindings::aio_task_leave(&mut saved) };
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
    use pin_init::stack_pin_init;

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

    /// Whether it is the running task's.
    pub(crate) fn is_current(&self) -> bool {
        // SAFETY: By the invariants.
        unsafe { bindings::aio_memcg_is_current(self.0) }
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

    /// Whether it is the running task's.
    pub(crate) fn is_current(&self) -> bool {
        // SAFETY: By the invariants.
        unsafe { bindings::aio_blkcg_is_current(self.0) }
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

/// Runs a request.
const RUN: u64 = 0;
/// Completes one that was cancelled.
const END: u64 = 1;

impl_has_work! {
    impl HasWork<Self, RUN> for Request { self.work }
    impl HasWork<Self, END> for Request { self.end }
}

impl WorkItem<RUN> for Request {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        // SAFETY: Called by the work queue, whose threads are such, with no other work in between.
        crate::executor::work(this, unsafe { Worker::current() });
    }
}

impl WorkItem<END> for Request {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        // SAFETY: As above.
        crate::executor::carry_out(this, unsafe { Worker::current() });
    }
}

/// Hands a request to the queue whose workers may block.
pub(crate) fn hand_over(request: Arc<Request>) {
    // SAFETY: Created at boot, before there can be a request, and never destroyed.
    let queue = unsafe { Queue::from_raw(bindings::aio_thread_wq) };
    // It is in no user's line any more, and the worker that has run it before took it from here.
    warn_on!(queue.enqueue::<_, RUN>(request).is_err());
}

/// Hands a cancelled request to the queue for what does not block.
pub(crate) fn end_cancelled(request: Arc<Request>) {
    // SAFETY: As above.
    let queue = unsafe { Queue::from_raw(bindings::aio_cancel_wq) };
    // A request is cancelled once.
    warn_on!(queue.enqueue::<_, END>(request).is_err());
}

/// Takes a request back from the queue that [`hand_over`] has put it in.
///
/// Returns `None` if it is not there, or no longer: then its worker has it or is about to.
pub(crate) fn dequeue(request: ArcBorrow<'_, Request>) -> Option<Arc<Request>> {
    let ptr = Arc::into_raw(Arc::from(request));
    // SAFETY: The pointer is to a valid request.
    let work = unsafe { <Request as HasWork<Request, RUN>>::raw_get_work(ptr.cast_mut()) };
    // SAFETY: `Work` is a wrapper of the `work_struct` that `Queue::enqueue()` has used.
    let cancelled = unsafe { bindings::cancel_work(Work::raw_get(work)) };
    // SAFETY: This is the reference from above.
    drop(unsafe { Arc::from_raw(ptr) });
    // SAFETY: The work was pending, and now it is not going to run. So the reference that
    // `Queue::enqueue()` turned into a pointer with `Arc::into_raw()` for the worker is ours.
    cancelled.then(|| unsafe { Arc::from_raw(ptr) })
}

// ---------------------------------------------------------------------------------------------
// Users.

impl_list_arc_safe! {
    impl ListArcSafe<0> for Request {
        tracked_by tracker: AtomicTracker;
    }
}

impl_list_item! {
    impl ListItem<0> for Request {
        using ListLinks { self.links };
    }
}

/// The requests of a user that wait for their turn.
///
/// # Invariants
///
/// A [`User`] has one of these, and only requests of that user are in it.
pub(crate) struct Waiting(List<Request>);

impl Waiting {
    /// Empty, for a new user.
    pub(crate) fn new() -> Self {
        // INVARIANT: Nothing is in it.
        Self(List::new())
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a request at the end. Returns false if it is not of `user`, whose this is, or waits
    /// already.
    pub(crate) fn push(&mut self, user: &User, request: ArcBorrow<'_, Request>) -> bool {
        if !core::ptr::eq(&**request.identity.user(), user) {
            return false;
        }
        // INVARIANT: It is one of this user.
        ListArc::try_from_arc_borrow(request).is_some_and(|request| {
            self.0.push_back(request);
            true
        })
    }

    /// Takes the first.
    pub(crate) fn pop(&mut self) -> Option<Arc<Request>> {
        self.0.pop_front().map(ListArc::into_arc)
    }

    /// Takes a request of `user`, whose this is, if it waits.
    pub(crate) fn remove(&mut self, user: &User, request: &Request) -> Option<Arc<Request>> {
        if !core::ptr::eq(&**request.identity.user(), user) {
            return None;
        }
        // SAFETY: It is this user's, so by the invariants it is in no other list.
        unsafe { self.0.remove(request) }.map(ListArc::into_arc)
    }
}

/// Who answers for a request, see `aio_user_id()`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UserId(u32);

impl UserId {
    /// The running task's.
    pub(crate) fn current() -> Self {
        // SAFETY: May be called by any task.
        Self(unsafe { bindings::aio_user_id() })
    }
}

/// How many requests of a user may be in workers.
pub(crate) fn max_workers() -> usize {
    // SAFETY: A number, which may change at any time.
    unsafe { core::ptr::addr_of!(bindings::aio_thread_max_workers).read_volatile() as usize }
}

/// A user in the register, and how many [`UserRef`] there are.
struct Registered {
    user: Arc<User>,
    refs: usize,
}

kernel::sync::global_lock! {
    // SAFETY: `aio_thread_init_users()` is called at boot, before there can be a request.
    unsafe(uninit) static USERS: SpinLockIrq<Option<RBTree<UserId, Registered>>> = None;
}

/// Makes the register of users.
///
/// # Safety
///
/// To be called once, before there can be a request.
#[export]
pub(crate) unsafe extern "C" fn aio_thread_init_users() {
    // SAFETY: The caller promises that this is the first and only time.
    unsafe { USERS.init() };
    *USERS.lock() = Some(RBTree::new());
}

/// The bound of workers has changed.
///
/// # Safety
///
/// May be called at any time after boot.
#[export]
pub(crate) unsafe extern "C" fn aio_thread_advance_users() {
    if let Some(users) = &*USERS.lock() {
        for registered in users.values() {
            registered.user.advance();
        }
    }
}

/// A reference to a user that has, or may have, requests. The last one ends the user.
pub(crate) struct UserRef(Arc<User>);

impl UserRef {
    /// The user that the running task belongs to. Fails with `ENOMEM`.
    pub(crate) fn current() -> Result<Self> {
        let id = UserId::current();
        if let Some(registered) = USERS.lock().as_mut().and_then(|users| users.get_mut(&id)) {
            registered.refs += 1;
            return Ok(Self(registered.user.clone()));
        }
        let node = RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL)?;
        let user = User::new(id)?;
        let mut users = USERS.lock();
        let users = users.as_mut().ok_or(ENOMEM)?;
        match users.entry(id) {
            // Somebody else was quicker.
            rbtree::Entry::Occupied(mut entry) => {
                let registered = entry.get_mut();
                registered.refs += 1;
                Ok(Self(registered.user.clone()))
            }
            rbtree::Entry::Vacant(entry) => {
                let refs = 1;
                let registered = entry.insert(Registered { user, refs }, node);
                Ok(Self(registered.user.clone()))
            }
        }
    }

    /// The user.
    pub(crate) fn user(&self) -> &Arc<User> {
        &self.0
    }
}

impl Drop for UserRef {
    fn drop(&mut self) {
        let mut users = USERS.lock();
        let Some(users) = users.as_mut() else {
            return;
        };
        if let Some(registered) = users.get_mut(&self.0.id()) {
            registered.refs -= 1;
            if registered.refs == 0 {
                users.remove(&self.0.id());
            }
        }
    }
}

/// What is counted for debugfs beside the ways of [`Ran`].
#[derive(Clone, Copy)]
pub(crate) enum Stat {
    Cancelled,
    Queued,
    Running,
    Waiting,
    Objects,
}

impl Stat {
    /// Adds `nr`.
    pub(crate) fn add(self, nr: isize) {
        let stat = match self {
            Stat::Cancelled => bindings::aio_thread_stat_AIO_STAT_CANCELLED,
            Stat::Queued => bindings::aio_thread_stat_AIO_STAT_QUEUED,
            Stat::Running => bindings::aio_thread_stat_AIO_STAT_RUNNING,
            Stat::Waiting => bindings::aio_thread_stat_AIO_STAT_WAITING,
            Stat::Objects => bindings::aio_thread_stat_AIO_STAT_OBJECTS,
        };
        // SAFETY: Any context may count.
        unsafe { bindings::aio_thread_count(stat, nr) };
    }
}

/// The way a request has taken.
#[derive(Clone, Copy)]
pub(crate) enum Ran {
    AtOnce,
    Native,
    Armed,
    Worker,
    Submitter,
}

impl Ran {
    /// Counts `nr` requests for debugfs.
    pub(crate) fn count(self, kind: Kind, nr: isize) {
        let op = match kind {
            Kind::Read => bindings::aio_thread_op_AIO_OP_READ,
            Kind::Write => bindings::aio_thread_op_AIO_OP_WRITE,
            Kind::Fsync => bindings::aio_thread_op_AIO_OP_FSYNC,
            Kind::Poll => bindings::aio_thread_op_AIO_OP_POLL,
            Kind::Openat => bindings::aio_thread_op_AIO_OP_OPENAT,
            Kind::Unlinkat => bindings::aio_thread_op_AIO_OP_UNLINKAT,
            Kind::Readahead => bindings::aio_thread_op_AIO_OP_READAHEAD,
            Kind::Renameat => bindings::aio_thread_op_AIO_OP_RENAMEAT,
        };
        let ran = match self {
            Ran::AtOnce => bindings::aio_thread_ran_AIO_RAN_AT_ONCE,
            Ran::Native => bindings::aio_thread_ran_AIO_RAN_NATIVE,
            Ran::Armed => bindings::aio_thread_ran_AIO_RAN_ARMED,
            Ran::Worker => bindings::aio_thread_ran_AIO_RAN_WORKER,
            Ran::Submitter => bindings::aio_thread_ran_AIO_RAN_SUBMITTER,
        };
        // SAFETY: Any context may count.
        unsafe { bindings::aio_thread_count_ran(op, ran, nr) };
    }
}

/// Whether a test wants everything in a worker.
pub(crate) fn force_worker() -> bool {
    // SAFETY: May be called in any context.
    unsafe { bindings::aio_thread_force_worker() }
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

    /// Completes a request that this worker has carried out, and puts its file before the event
    /// may be seen. That may close the file, and so block.
    pub(crate) fn complete_ran(self, res: isize) {
        // SAFETY: By the invariants the `aio_kiocb` and its file are valid; they end here, as this
        // uses up the only `Completion`, and with it every right to look at the file.
        unsafe { bindings::aio_kiocb_complete_ran(self.0.as_ptr(), res) };
    }
}

/// A request that `io_submit()` is working on.
///
/// # Invariants
///
/// `iocb` is a valid request until `io_submit()` is done with it.
pub(crate) struct Submission<'a> {
    iocb: NonNull<bindings::aio_kiocb>,
    _submit: PhantomData<&'a ()>,
}

impl Submission<'_> {
    /// Whom a worker is to act for: what the context has from an earlier request, if that still
    /// holds, or else the running task as it is. Fails with `ENOMEM`.
    pub(crate) fn identity(&self) -> Result<Arc<Identity>> {
        // Taken out, so that no other thread lets go of it meanwhile.
        if let Some(identity) = self.swap_identity(None) {
            if identity.is_current() {
                drop(self.swap_identity(Some(identity.clone())));
                return Ok(identity);
            }
        }
        let identity = Identity::capture()?;
        drop(self.swap_identity(Some(identity.clone())));
        Ok(identity)
    }

    fn swap_identity(&self, identity: Option<Arc<Identity>>) -> Option<Arc<Identity>> {
        let new = identity.map_or(core::ptr::null_mut(), |i| {
            Arc::into_raw(i).cast_mut().cast()
        });
        // SAFETY: By the invariants; the context keeps the reference until it is taken out, or put
        // by `aio_thread_put_identity()`.
        let old = unsafe { bindings::aio_kiocb_swap_identity(self.iocb.as_ptr(), new) };
        let old = NonNull::new(old)?.cast::<Identity>();
        // SAFETY: What is there was left by this function, and is ours now.
        Some(unsafe { Arc::from_raw(old.as_ptr()) })
    }

    /// Gives the request object to the request, which then can be found by C.
    pub(crate) fn attach(&self, request: Arc<Request>) {
        // SAFETY: By the invariants; C gives the pointer back with `aio_thread_put()`.
        unsafe { bindings::aio_kiocb_attach(self.iocb.as_ptr(), request.into_foreign()) };
    }

    /// Queues the request whose object was attached, or lets it wait to be woken; it can be
    /// cancelled from here on.
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

/// A read or write that `io_submit()` is working on.
///
/// # Invariants
///
/// `kiocb` is part of the request that `base` stands for, and prepared.
pub(crate) struct RwSubmission<'a> {
    base: Submission<'a>,
    kiocb: NonNull<bindings::kiocb>,
    dir: Direction,
}

impl<'a> From<RwSubmission<'a>> for Submission<'a> {
    fn from(rw: RwSubmission<'a>) -> Self {
        rw.base
    }
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

impl<'a> RwSubmission<'a> {
    /// Without what is only known of reads and writes.
    pub(crate) fn base(&self) -> &Submission<'a> {
        &self.base
    }

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
            // INVARIANT: The kiocb is the request's. A prepared one has a file.
            // SAFETY: As above.
            file: RequestFile(unsafe { NonNull::new_unchecked(kiocb.ki_filp) }),
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

    /// The events to wait for if it would block, 0 if that needs a worker.
    pub(crate) fn events_to_wait_for(&self) -> u32 {
        // SAFETY: By the invariants.
        unsafe { bindings::aio_rw_events(self.kiocb.as_ptr(), self.dir.as_c()) }
    }

    /// As [`Submission::attach`].
    pub(crate) fn attach(&self, request: Arc<Request>) {
        self.base.attach(request);
    }

    /// As [`Submission::queue`].
    pub(crate) fn queue(self) {
        self.base.queue();
    }

    /// As [`Submission::complete`].
    pub(crate) fn complete(self, completion: Completion, res: isize) {
        self.base.complete(completion, res);
    }
}

/// What a worker reads or writes, and how.
pub(crate) struct Target {
    file: RequestFile,
    pos: bindings::loff_t,
    flags: c_int,
    ioprio: u16,
    write_stream: u8,
    dir: Direction,
}

impl Target {
    /// The I/O priority that was asked for.
    pub(crate) fn ioprio(&self) -> u16 {
        self.ioprio
    }

    /// Whether it reads or writes.
    pub(crate) fn direction(&self) -> Direction {
        self.dir
    }

    /// What it reads or writes.
    pub(crate) fn file(&self) -> RequestFile {
        self.file.clone()
    }

    /// Starts where an attempt has stopped.
    pub(crate) fn resume(&mut self, submission: &RwSubmission<'_>) {
        // SAFETY: By the invariants of `RwSubmission` the kiocb is valid. What advances it knows
        // whether the file has positions.
        self.pos = unsafe { submission.kiocb.as_ref() }.ki_pos;
        self.resume_stream();
    }

    /// As [`Target::resume`], of a file without positions.
    pub(crate) fn resume_stream(&mut self) {
        // SAFETY: By its invariants the file is valid: whoever has a part of a request to do has
        // its `Completion`.
        self.flags |= unsafe { bindings::aio_rw_resume_flags(self.file.0.as_ptr()) };
    }

    /// Reads or writes, and blocks if need be, unless `nowait`.
    pub(crate) fn run(
        &self,
        _mm: &UsingMm,
        _alive: &Completion,
        iter: &mut UserIter,
        nowait: bool,
    ) -> isize {
        // SAFETY: By its invariants the file is valid, since there is a `Completion`. `_mm` shows
        // that the running thread is a worker that uses the submitter's mm and credentials.
        unsafe {
            bindings::aio_rw_worker(
                self.file.0.as_ptr(),
                self.pos,
                self.flags,
                self.ioprio,
                self.write_stream,
                iter.as_c(),
                self.dir.as_c(),
                nowait,
            )
        }
    }
}

/// The file of a request.
///
/// # Invariants
///
/// It is the one that the request has a reference to, so it is valid as long as the request's
/// [`Completion`] is.
#[derive(Clone)]
pub(crate) struct RequestFile(NonNull<bindings::file>);

// SAFETY: The pointer is to a file, which any thread may use.
unsafe impl Send for RequestFile {}

impl RequestFile {
    /// Whether it can be synced.
    pub(crate) fn has_fsync(&self) -> bool {
        // SAFETY: By the invariants; called at submission.
        unsafe { bindings::aio_has_fsync(self.0.as_ptr()) }
    }

    /// Those of `events` that are there now, as user space knows them.
    pub(crate) fn poll(&self, events: u32) -> u16 {
        // SAFETY: By the invariants; called at submission.
        unsafe { bindings::aio_poll_now(self.0.as_ptr(), events) }
    }

    /// Syncs it. Sleeps.
    pub(crate) fn fsync(&self, _as: &ActingAs<'_>, _alive: &Completion, datasync: bool) -> isize {
        // SAFETY: By the invariants, since there is a `Completion`.
        unsafe { bindings::vfs_fsync(self.0.as_ptr(), c_int::from(datasync)) as isize }
    }

    /// Whether it can be read ahead: fails as `readahead(2)` does.
    pub(crate) fn may_readahead(&self) -> Result {
        // SAFETY: By the invariants; called at submission.
        to_result(unsafe { bindings::file_may_readahead(self.0.as_ptr()) })
    }

    /// The result of a readahead of which nothing has to be read any more.
    pub(crate) fn readahead_present(&self, range: Range) -> Option<isize> {
        // SAFETY: By the invariants; called at submission.
        let res =
            unsafe { bindings::file_readahead_present(self.0.as_ptr(), range.pos, range.len) };
        (res >= 0).then_some(res)
    }

    /// Reads a range into the page cache, and waits for it. Sleeps.
    pub(crate) fn readahead(&self, _as: &ActingAs<'_>, _alive: &Completion, range: Range) -> isize {
        // SAFETY: By the invariants, since there is a `Completion`.
        unsafe { bindings::file_readahead_wait(self.0.as_ptr(), range.pos, range.len) }
    }
}

// ---------------------------------------------------------------------------------------------
// Waiting without a thread.

/// The entries by which a request is on a file's wait queues.
///
/// # Invariants
///
/// Points to an `aio_wait` that nobody else frees. Its entries are only on queues between `arm()`
/// and `disarm()`.
pub(crate) struct WaitQueues(NonNull<bindings::aio_wait>);

// SAFETY: It is memory that any thread may free, after it was taken from the queues.
unsafe impl Send for WaitQueues {}
// SAFETY: What is done through shared references excludes each other: `arm()` before the request is
// published, `disarm()` by who has its `Completion`, and in between only what C locks or reads
// atomically.
unsafe impl Sync for WaitQueues {}

impl WaitQueues {
    /// Makes entries that wait for `events`. Charged to the running task's memory cgroup.
    pub(crate) fn new(events: u32) -> Result<Self> {
        // SAFETY: Allocates only.
        let wait = unsafe { bindings::aio_wait_new(events) };
        // INVARIANT: This is a new one, on no queues.
        NonNull::new(wait).map(Self).ok_or(ENOMEM)
    }

    /// Puts the entries on the file's queues, which wake `request` from then on, and returns
    /// whether the file is ready now. Fails with `EINVAL` if it has no queues and is not ready, or
    /// with `ENOMEM`; some may be on their queues then.
    ///
    /// Called once, by the submitter, before the request is published.
    pub(crate) fn arm(&self, request: &Arc<Request>, file: &RequestFile) -> Result<bool> {
        // SAFETY: By the invariants; file and request are valid as long as the request is not
        // completed, and `disarm()` comes before that.
        let mask = unsafe {
            bindings::aio_wait_arm(
                self.0.as_ptr(),
                file.0.as_ptr(),
                Arc::as_ptr(request).cast_mut().cast(),
            )
        };
        to_result(mask)?;
        Ok(mask > 0)
    }

    /// Takes the entries from the queues. After this nothing wakes the request any more.
    ///
    /// Called after `arm()`, by who has the request's [`Completion`], or by the submitter, after
    /// `arm()` failed.
    pub(crate) fn disarm(&self) {
        // SAFETY: By the invariants.
        unsafe { bindings::aio_wait_disarm(self.0.as_ptr()) };
    }

    /// Whether a queue has gone away, and wakes nobody any more.
    pub(crate) fn is_gone(&self) -> bool {
        // SAFETY: By the invariants.
        unsafe { bindings::aio_wait_gone(self.0.as_ptr()) }
    }

    /// Whether the file is ready.
    pub(crate) fn is_ready(&self, _alive: &Completion) -> bool {
        // SAFETY: By the invariants; since there is a `Completion`, the file is valid.
        unsafe { bindings::aio_wait_poll(self.0.as_ptr()) != 0 }
    }

    /// The events that are there, of those that are waited for, as user space knows them.
    pub(crate) fn poll(&self, _alive: &Completion) -> u16 {
        // SAFETY: As above.
        unsafe { bindings::aio_wait_poll(self.0.as_ptr()) }
    }
}

impl Drop for WaitQueues {
    fn drop(&mut self) {
        // SAFETY: By the invariants this is ours to free, and C takes it from its queues, if
        // `disarm()` has not: before the file goes, as the request is completed after that.
        unsafe { bindings::aio_wait_free(self.0.as_ptr()) };
    }
}

// ---------------------------------------------------------------------------------------------
// Paths.

/// A system call that a request stands for, with the arguments that it would have.
#[derive(Clone, Copy)]
pub(crate) enum SystemCall {
    Openat(u64, u64, u64, u64),
    Unlinkat(u64, u64, u64),
    Readahead(u64, u64, u64),
    Renameat2(u64, u64, u64, u64, u64),
}

/// An argument that is an `int`, as the C library passes it.
pub(crate) fn int_arg(arg: c_int) -> u64 {
    u64::from(arg as u32)
}

impl SystemCall {
    fn for_c(self) -> (bindings::aio_call, [u64; 6]) {
        match self {
            Self::Openat(a, b, c, d) => (bindings::aio_call_AIO_CALL_OPENAT, [a, b, c, d, 0, 0]),
            Self::Unlinkat(a, b, c) => (bindings::aio_call_AIO_CALL_UNLINKAT, [a, b, c, 0, 0, 0]),
            Self::Readahead(a, b, c) => (bindings::aio_call_AIO_CALL_READAHEAD, [a, b, c, 0, 0, 0]),
            Self::Renameat2(a, b, c, d, e) => {
                (bindings::aio_call_AIO_CALL_RENAMEAT2, [a, b, c, d, e, 0])
            }
        }
    }

    /// Runs `f`, which gives its result, as this system call: if audit is recording the submitter's
    /// system calls, it records this one with what `f` does.
    ///
    /// Fails with `ENOMEM`, or with `EOPNOTSUPP` where audit would need a number that the caller's
    /// ABI does not have here. `f` has not run then. May sleep.
    pub(crate) fn run_here(
        self,
        _submitter: &Submission<'_>,
        f: impl FnOnce() -> isize,
    ) -> Result<isize> {
        let (call, args) = self.for_c();
        let mut outer = core::ptr::null_mut();
        // SAFETY: `args` is a valid local array of six, `outer` a valid local; the submission shows
        // that the running task is the submitter.
        to_result(unsafe { bindings::aio_call_begin(call, args.as_ptr(), &mut outer) })?;
        let res = f();
        // SAFETY: `outer` is from `aio_call_begin()`, which this ends, in the same task; a call
        // that `f` has made likewise has ended before.
        unsafe { bindings::aio_call_end(outer, res) };
        Ok(res)
    }

    /// Asks the running task's seccomp filters. Where they do not let it be carried out, the error
    /// is what they want to be its result, 0 included.
    ///
    /// Called by the submitter. Sleeps for memory if the filters want a record.
    pub(crate) fn seccomp(self) -> Result<(), isize> {
        let (call, args) = self.for_c();
        // SAFETY: `args` is a valid local array of six; called by the submitter.
        let verdict = unsafe { bindings::aio_seccomp(call, args.as_ptr()) };
        if verdict > 0 {
            Ok(())
        } else {
            Err(verdict as isize)
        }
    }
}

/// Whether paths have to be left to the running task, for which no worker can stand in: security
/// modules judge by task instead of by credentials, which a worker has, or audit is recording the
/// task's system calls.
pub(crate) fn paths_in_submitter() -> bool {
    // SAFETY: Only reads, and may be called by any task.
    unsafe { bindings::aio_path_in_submitter() }
}

/// A path name, copied from user memory.
///
/// # Invariants
///
/// `name` was set up by `aio_name_import()`.
pub(crate) struct Name {
    name: bindings::delayed_filename,
}

// SAFETY: It is plain memory, which is used by one thread at a time.
unsafe impl Send for Name {}

impl Name {
    /// Copies the name at the user's address `ptr`. Fails with `EFAULT`, `ENAMETOOLONG`, `ENOMEM`,
    /// or `ENOENT` if it is empty and may not be.
    pub(crate) fn import(ptr: u64, may_be_empty: bool) -> Result<Self> {
        let mut name = bindings::delayed_filename::default();
        // SAFETY: `name` is a valid local; C checks the address.
        to_result(unsafe { bindings::aio_name_import(&mut name, ptr, may_be_empty) })?;
        // INVARIANT: This has succeeded.
        Ok(Self { name })
    }

    fn is_absolute(&self) -> bool {
        // SAFETY: By the invariants.
        unsafe { bindings::aio_name_is_absolute(&self.name) }
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // SAFETY: By the invariants; C accepts one that was used up.
        unsafe { bindings::dismiss_delayed_filename(&mut self.name) };
    }
}

/// Fails with `EBADF` if `name` is relative to `fd`, and the running task has no such descriptor.
pub(crate) fn check_dir(fd: c_int, name: &Name) -> Result {
    if fd == bindings::AT_FDCWD || name.is_absolute() {
        return Ok(());
    }
    // SAFETY: May be called by any task.
    if unsafe { bindings::aio_dir_exists(fd) } {
        Ok(())
    } else {
        Err(EBADF)
    }
}

/// Where a worker starts to look for a relative name: `AT_FDCWD`, or the number of one of the
/// request's [`DirFiles`], which in a worker stand for descriptors.
#[derive(Clone, Copy)]
pub(crate) struct DirFd(c_int);

/// Where the directory descriptors of a request lead to.
///
/// # Invariants
///
/// Null, or counted references to `O_PATH` files of its own.
pub(crate) struct DirFiles {
    files: [*mut bindings::file; 2],
    nr: usize,
}

// SAFETY: Counted references to files, which any thread may use and give back.
unsafe impl Send for DirFiles {}

impl DirFiles {
    /// None yet.
    pub(crate) fn new() -> Self {
        // INVARIANT: Null.
        Self {
            files: [core::ptr::null_mut(); 2],
            nr: 0,
        }
    }

    /// Takes hold of where the running task's descriptor `fd` leads to, if `name` needs that. Fails
    /// with `EBADF` if that is nowhere, with `ENOMEM` or with `ENFILE`.
    pub(crate) fn capture(&mut self, fd: c_int, name: &Name) -> Result<DirFd> {
        if fd == bindings::AT_FDCWD || name.is_absolute() {
            return Ok(DirFd(bindings::AT_FDCWD));
        }
        let slot = self.files.get_mut(self.nr).ok_or(EINVAL)?;
        // SAFETY: May be called by any task.
        let file = kernel::error::from_err_ptr(unsafe { bindings::aio_dir_get(fd) })?;
        // INVARIANT: It comes with a reference.
        *slot = file;
        self.nr += 1;
        Ok(DirFd(self.nr as c_int - 1))
    }
}

impl Drop for DirFiles {
    fn drop(&mut self) {
        for file in self.files {
            if !file.is_null() {
                // SAFETY: By the invariants.
                unsafe { bindings::aio_fput(file) };
            }
        }
    }
}

/// What paths depend on: root and working directory, umask, namespaces, and the directories of a
/// request.
///
/// # Invariants
///
/// Filled in by `aio_path_capture()`, with pointers to the files of `dirs`.
pub(crate) struct PathContext {
    context: bindings::aio_path_context,
    _dirs: DirFiles,
}

// SAFETY: Counted references and things of its own, which any thread may use and give back.
unsafe impl Send for PathContext {}

impl PathContext {
    /// Captures the running task, with the directories of its request. Fails with `ENOMEM`.
    pub(crate) fn capture(dirs: DirFiles) -> Result<Self> {
        let mut context = bindings::aio_path_context {
            dir: dirs.files,
            ..Default::default()
        };
        // SAFETY: `context` is a valid local.
        to_result(unsafe { bindings::aio_path_capture(&mut context) })?;
        // INVARIANT: This has succeeded, and the files go along.
        Ok(Self {
            context,
            _dirs: dirs,
        })
    }
}

impl Drop for PathContext {
    fn drop(&mut self) {
        // SAFETY: By the invariants; `with_paths()` has borrowed it no more.
        unsafe { bindings::aio_path_release(&mut self.context) };
    }
}

impl Worker {
    /// Calls `f` while the worker finds and names files as the submitter does. It acts for the
    /// submitter already: this comes within [`Worker::with_submitter`].
    pub(crate) fn with_paths<R>(&self, paths: &PathContext, f: impl FnOnce() -> R) -> R {
        let mut saved = bindings::aio_path_saved::default();
        // SAFETY: By the invariants of `PathContext`, which outlives the call as `saved` does.
        unsafe { bindings::aio_path_enter(&mut saved, &paths.context) };
        let ret = f();
        // SAFETY: This is what the thread had before.
        unsafe { bindings::aio_path_leave(&saved) };
        ret
    }
}

/// Flags and mode of an open, known to be good.
#[derive(Clone, Copy)]
pub(crate) struct OpenHow {
    flags: u32,
    mode: u32,
}

impl OpenHow {
    /// Fails with `EINVAL` if a flag is unknown, or flags contradict each other. As in `openat(2)`
    /// the mode only counts where a file may be created.
    pub(crate) fn new(flags: u32, mode: u32) -> Result<Self> {
        let mut how = Self { flags, mode };
        // SAFETY: `how.flags` is a valid local. Adds `O_LARGEFILE` where the running task has it
        // implied.
        to_result(unsafe { bindings::aio_open_check(&mut how.flags, mode) })?;
        Ok(how)
    }

    /// Whether an empty name stands for the directory itself.
    pub(crate) fn empty_name_is_one(self) -> bool {
        self.flags & bindings::O_EMPTYPATH != 0
    }
}

/// A file that was opened, and is in no descriptor table.
///
/// # Invariants
///
/// A counted reference.
pub(crate) struct OpenedFile(NonNull<bindings::file>);

impl OpenedFile {
    fn from_c(file: *mut bindings::file) -> Result<Self> {
        let file = kernel::error::from_err_ptr(file)?;
        // INVARIANT: C hands over the reference.
        NonNull::new(file).map(Self).ok_or(EINVAL)
    }
}

impl Drop for OpenedFile {
    fn drop(&mut self) {
        // SAFETY: By the invariants.
        unsafe { bindings::aio_fput(self.0.as_ptr()) };
    }
}

/// Opens a file in the submitter, if that need not wait: fails with `EAGAIN` otherwise, and then
/// the name can be used again.
pub(crate) fn openat_at_once(fd: c_int, name: &mut Name, how: OpenHow) -> Result<OpenedFile> {
    // SAFETY: By the invariants of `Name`.
    let file = unsafe { bindings::aio_openat(fd, &mut name.name, how.flags, how.mode, true) };
    OpenedFile::from_c(file)
}

/// Opens a file in the submitter, as the system call would; uses up the name. May sleep.
pub(crate) fn openat_here(
    _submitter: &Submission<'_>,
    fd: c_int,
    mut name: Name,
    how: OpenHow,
) -> Result<OpenedFile> {
    // SAFETY: By the invariants of `Name` it is set up; the submission shows that `fd` is a
    // descriptor of the running task.
    let file = unsafe { bindings::aio_openat(fd, &mut name.name, how.flags, how.mode, false) };
    OpenedFile::from_c(file)
}

/// Removes a file, or a directory, in the submitter; uses up the name. May sleep.
pub(crate) fn unlinkat_here(
    _submitter: &Submission<'_>,
    fd: c_int,
    mut name: Name,
    rmdir: bool,
) -> Result<isize> {
    // SAFETY: By the invariants of `Name` it is set up; the submission shows that `fd` is a
    // descriptor of the running task.
    to_result(unsafe { bindings::aio_unlinkat(fd, &mut name.name, rmdir) })?;
    Ok(0)
}

/// Gives a file another name in the submitter; uses up the names. May sleep.
pub(crate) fn renameat_here(
    _submitter: &Submission<'_>,
    [from_fd, to_fd]: [c_int; 2],
    mut from: Name,
    mut to: Name,
    flags: u32,
) -> Result<isize> {
    // SAFETY: By the invariants of `Name` both are set up; the submission shows that these are
    // descriptors of the running task.
    to_result(unsafe {
        bindings::aio_renameat(from_fd, &mut from.name, to_fd, &mut to.name, flags)
    })?;
    Ok(0)
}

/// Opens a device or a control file in the submitter, if the name is known to stand for one: gives
/// `None` otherwise, and then the name can be used again.
pub(crate) fn openat_as_submitter(
    _submitter: &Submission<'_>,
    fd: c_int,
    name: &mut Name,
    how: OpenHow,
) -> Option<Result<OpenedFile>> {
    let mut done = false;
    // SAFETY: `Name` holds a name that is set up and not used up, and `name` is the only reference
    // to that; `done` is there to be written to.
    let file = unsafe {
        bindings::aio_openat_submitter(fd, &mut name.name, how.flags, how.mode, &mut done)
    };
    done.then(|| OpenedFile::from_c(file))
}

/// Opens a file in a worker; uses up the name.
pub(crate) fn openat(
    _paths: &InPathContext,
    dir: DirFd,
    name: &mut Name,
    how: OpenHow,
) -> Result<OpenedFile> {
    // SAFETY: By the invariants of `Name`; `_paths` shows that the directory's number is known.
    let file = unsafe { bindings::aio_openat(dir.0, &mut name.name, how.flags, how.mode, false) };
    OpenedFile::from_c(file)
}

/// Removes a file, or a directory, in a worker; uses up the name.
pub(crate) fn unlinkat(
    _paths: &InPathContext,
    dir: DirFd,
    name: &mut Name,
    rmdir: bool,
) -> Result<isize> {
    // SAFETY: As in `openat()`.
    to_result(unsafe { bindings::aio_unlinkat(dir.0, &mut name.name, rmdir) })?;
    Ok(0)
}

/// Gives a file another name in a worker; uses up the names.
pub(crate) fn renameat(
    _paths: &InPathContext,
    [from_dir, to_dir]: [DirFd; 2],
    from: &mut Name,
    to: &mut Name,
    flags: u32,
) -> Result<isize> {
    // SAFETY: As in `openat()`.
    to_result(unsafe {
        bindings::aio_renameat(from_dir.0, &mut from.name, to_dir.0, &mut to.name, flags)
    })?;
    Ok(0)
}

/// A descriptor that is reserved in the table of the task that submitted the request.
///
/// # Invariants
///
/// `files` is a counted reference to that table, and `fd` is reserved in it.
pub(crate) struct Descriptor {
    files: NonNull<bindings::files_struct>,
    fd: u32,
}

// SAFETY: C locks the table, and any thread may give back the reference.
unsafe impl Send for Descriptor {}

impl Descriptor {
    /// Reserves one, under the running task's `RLIMIT_NOFILE`: fails with `EMFILE`, or `ENOMEM`.
    pub(crate) fn reserve(how: OpenHow) -> Result<Self> {
        let mut fd = 0;
        // SAFETY: `fd` is a valid local; called by a user's task, which has a table.
        let files = unsafe { bindings::aio_fd_reserve(how.flags, &mut fd) };
        let files = kernel::error::from_err_ptr(files)?;
        // INVARIANT: C hands over the reference and the descriptor.
        Ok(Self {
            files: NonNull::new(files).ok_or(EMFILE)?,
            fd,
        })
    }

    /// Puts a file there, and returns the descriptor. Fails with `ECANCELED` if nobody has the
    /// table any more.
    pub(crate) fn install(self, file: OpenedFile) -> Result<isize> {
        let fd = self.fd;
        // SAFETY: By the invariants.
        let res = unsafe { bindings::aio_fd_install(self.files.as_ptr(), fd, file.0.as_ptr()) };
        // On failure both are given back by their destructors.
        to_result(res)?;
        core::mem::forget(file);
        let table = core::mem::ManuallyDrop::new(self);
        // SAFETY: By the invariants, which end here; the descriptor is in use now.
        unsafe { bindings::aio_files_put(table.files.as_ptr()) };
        Ok(fd as isize)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: By the invariants, which end here.
        unsafe { bindings::aio_fd_unreserve(self.files.as_ptr(), self.fd) };
    }
}

/// What a renameat is told by a structure in user memory.
pub(crate) struct RenameInfo {
    pub(crate) olddirfd: i64,
    pub(crate) oldpath: u64,
    pub(crate) newdirfd: i64,
    pub(crate) newpath: u64,
    pub(crate) flags: u64,
}

impl RenameInfo {
    /// Copies the structure, which must have the size that it has. Fails with `EINVAL` or `EFAULT`.
    pub(crate) fn import(ptr: u64, size: u64) -> Result<Self> {
        if size != core::mem::size_of::<bindings::renameat_info>() as u64 {
            return Err(EINVAL);
        }
        let mut info = bindings::renameat_info::default();
        // SAFETY: `info` is a valid local; C checks the address.
        to_result(unsafe { bindings::aio_rename_info_import(&mut info, ptr) })?;
        Ok(Self {
            olddirfd: info.olddirfd,
            oldpath: info.oldpath,
            newdirfd: info.newdirfd,
            newpath: info.newpath,
            flags: info.flags,
        })
    }
}

// ---------------------------------------------------------------------------------------------
// The user's request.

/// The kernel's copy of an iocb.
#[derive(Clone, Copy, Default)]
pub(crate) struct Iocb {
    pub(crate) opcode: u32,
    pub(crate) fd: c_int,
    pub(crate) buf: u64,
    pub(crate) nbytes: u64,
    pub(crate) offset: i64,
    pub(crate) rw_flags: u32,
    pub(crate) flags: u32,
    /// Priority, if the iocb has one.
    pub(crate) reqprio: Option<i16>,
}

impl Iocb {
    pub(crate) const FSYNC: u32 = bindings::IOCB_CMD_FSYNC;
    pub(crate) const FDSYNC: u32 = bindings::IOCB_CMD_FDSYNC;
    pub(crate) const OPENAT: u32 = bindings::IOCB_CMD_OPENAT;
    pub(crate) const UNLINKAT: u32 = bindings::IOCB_CMD_UNLINKAT;
    pub(crate) const READAHEAD: u32 = bindings::IOCB_CMD_READAHEAD;
    pub(crate) const RENAMEAT: u32 = bindings::IOCB_CMD_RENAMEAT;

    fn from_c(iocb: &bindings::iocb) -> Self {
        Self {
            opcode: iocb.aio_lio_opcode.into(),
            fd: iocb.aio_fildes as c_int,
            buf: iocb.aio_buf,
            nbytes: iocb.aio_nbytes,
            offset: iocb.aio_offset,
            rw_flags: iocb.aio_rw_flags as u32,
            flags: iocb.aio_flags,
            reqprio: (iocb.aio_flags & bindings::IOCB_FLAG_IOPRIO != 0).then_some(iocb.aio_reqprio),
        }
    }

    /// Fails with `EINVAL` if there are flags that nobody knows. The opcodes that there have always
    /// been ignore them.
    pub(crate) fn check_flags(&self) -> Result {
        const KNOWN: u32 = bindings::IOCB_FLAG_RESFD | bindings::IOCB_FLAG_IOPRIO;

        match self.opcode {
            Self::FSYNC | Self::FDSYNC => Ok(()),
            _ if self.flags & !KNOWN == 0 => Ok(()),
            _ => Err(EINVAL),
        }
    }

    /// The I/O priority of the request: its own, if the caller may have it, or the caller's.
    pub(crate) fn ioprio(&self) -> Result<u16> {
        let prio = match self.reqprio {
            // SAFETY: Called by the submitter.
            Some(prio) => to_result(unsafe { bindings::ioprio_check_cap(c_int::from(prio)) })
                .map(|()| c_int::from(prio))?,
            // SAFETY: As above.
            None => unsafe { bindings::aio_current_ioprio() },
        };
        Ok(prio as u16)
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
    let submission = RwSubmission {
        base: Submission {
            iocb,
            _submit: PhantomData,
        },
        kiocb,
        dir: Direction::from_c(dir),
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

/// Submits a request of a threaded context that is no read, write or poll.
///
/// Returns 0 if an event has come or is going to come, otherwise a negative error code, and then
/// nothing is left of the request. `file` is null where the opcode has none.
///
/// # Safety
///
/// `iocb` must be a request under submission with `file` as its file, and `user` the kernel's copy
/// of what the user has submitted.
#[export]
pub(crate) unsafe extern "C" fn aio_thread_submit(
    iocb: *mut bindings::aio_kiocb,
    file: *mut bindings::file,
    user: *const bindings::iocb,
) -> c_int {
    let Some(iocb) = NonNull::new(iocb) else {
        return EINVAL.to_errno();
    };
    // INVARIANT: The caller promises it.
    let submission = Submission {
        iocb,
        _submit: PhantomData,
    };
    // INVARIANT: As in `aio_thread_rw()`.
    let completion = Completion(iocb);
    // INVARIANT: The caller promises it.
    let file = NonNull::new(file).map(RequestFile);
    // SAFETY: The caller promises that it is valid.
    let user = Iocb::from_c(unsafe { &*user });
    match ops::submit(submission, completion, &user, file) {
        Ok(()) => 0,
        Err(e) => e.to_errno(),
    }
}

/// Submits a poll of a file that has more than one wait queue.
///
/// Returns as [`aio_thread_submit`].
///
/// # Safety
///
/// `iocb` must be a request under submission with `file` as its file.
#[export]
pub(crate) unsafe extern "C" fn aio_thread_poll(
    iocb: *mut bindings::aio_kiocb,
    file: *mut bindings::file,
    events: u32,
) -> c_int {
    let (Some(iocb), Some(file)) = (NonNull::new(iocb), NonNull::new(file)) else {
        return EINVAL.to_errno();
    };
    // INVARIANT: The caller promises it.
    let submission = Submission {
        iocb,
        _submit: PhantomData,
    };
    // INVARIANT: As in `aio_thread_rw()`.
    let completion = Completion(iocb);
    // INVARIANT: The caller promises it.
    match poll::submit(submission, completion, RequestFile(file), events) {
        Ok(()) => 0,
        Err(e) => e.to_errno(),
    }
}

/// A wait queue on which a request waits was woken. May be called in any context.
///
/// # Safety
///
/// `request` must be what `WaitQueues::arm()` was called with, and its entry on the queue, whose
/// lock is held.
#[export]
pub(crate) unsafe extern "C" fn aio_thread_wake(request: *mut c_void) {
    // SAFETY: The entry leaves the queue, under its lock, before the request is completed, which is
    // before the references to it are given back.
    let request = unsafe { ArcBorrow::from_raw(request.cast::<Request>().cast_const()) };
    crate::executor::wake(request);
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

/// Takes over a request that is ready for it, in the queue or as one that waits to be woken.
///
/// # Safety
///
/// `request` must be attached and on its context's list, and `ctx_lock` held.
#[export]
pub(crate) unsafe extern "C" fn aio_thread_enqueue(request: *mut c_void) {
    // SAFETY: The caller promises it.
    crate::executor::publish(unsafe { borrow(request) });
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

/// Gives back a context's reference to the identity of its last submitter.
///
/// # Safety
///
/// `identity` must be what `aio_kiocb_swap_identity()` has left in the context, which is gone.
#[export]
pub(crate) unsafe extern "C" fn aio_thread_put_identity(identity: *mut c_void) {
    // SAFETY: `Submission::swap_identity()` has made the pointer with `Arc::into_raw()`.
    drop(unsafe { Arc::from_raw(identity.cast::<Identity>().cast_const()) });
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

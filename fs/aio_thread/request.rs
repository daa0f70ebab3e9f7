// SPDX-License-Identifier: GPL-2.0

//! A request that has left `io_submit()`, or may do so.

use kernel::{
    new_spinlock_irq,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        SpinLockIrq, //
    },
    task::Task,
    workqueue::{
        new_work,
        Work, //
    },
};

use crate::{
    ffi::{
        Completion,
        Stat, //
    },
    identity::Identity,
    ops::rw::Rw,
    state::State, //
};

/// What is to be done, and the right to say that it is done.
pub(crate) struct Job {
    /// The operation.
    pub(crate) op: Rw,
    /// Who has this completes the request.
    pub(crate) completion: Completion,
}

/// The states of requests, as they are used here.
pub(crate) type RequestState = State<ARef<Task>, Job>;

/// A request object. C holds one reference, a queue that it waits in or its worker another.
#[pin_data]
pub(crate) struct Request {
    #[pin]
    pub(crate) work: Work<Self>,
    /// Innermost of the locks that are taken here: `ctx_lock`, then this one, then the worker's
    /// `siglock` to kill it.
    #[pin]
    pub(crate) state: SpinLockIrq<RequestState>,
    /// Whom the worker acts for.
    #[pin]
    pub(crate) identity: Identity,
    _counted: Counted,
}

impl Request {
    /// Makes an object for a request of the running task. Charged to its memory cgroup.
    pub(crate) fn new(ioprio: u16) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                work <- new_work!("aio_thread::Request"),
                state <- new_spinlock_irq!(State::New, "aio_thread::Request::state"),
                identity <- Identity::capture(ioprio),
                _counted: Counted::new(),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// The file's own asynchronous path would have to block: the request becomes a queued one.
    ///
    /// Returns false if it is not on that path. May be called in any context.
    pub(crate) fn retry(&self) -> bool {
        let retry = self.state.lock().retry();
        if retry {
            // It is the worker's now, and counted there.
            Stat::Native.add(-1);
        }
        retry
    }
}

/// Counts the objects that exist.
struct Counted(());

impl Counted {
    fn new() -> Self {
        Stat::Objects.add(1);
        Self(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        Stat::Objects.add(-1);
    }
}

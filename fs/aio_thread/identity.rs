// SPDX-License-Identifier: GPL-2.0

//! Whom a worker acts for: captured once, in `io_submit()`, taken on for the time of a call,
//! and taken off in the reverse order.

use core::marker::PhantomData;
use kernel::{
    mm::Mm,
    prelude::*,
    sync::aref::ARef,
    types::NotThreadSafe, //
};

use crate::ffi::{
    self,
    BlkCgroup,
    Completion,
    MemCgroup,
    Submitter,
    Worker, //
};

/// What a worker needs in order to act for the submitter of a read or write.
///
/// File system context, descriptor table and namespaces are not here: where a read or write depends
/// on them, it does not leave the submitter (see `aio_rw_way()`).
#[pin_data]
pub(crate) struct Identity {
    #[pin]
    submitter: Submitter,
    mm: ARef<Mm>,
    memcg: MemCgroup,
    blkcg: BlkCgroup,
    ioprio: u16,
    pkru: u32,
}

/// Shows that the running thread acts for a submitter: an operation that blocks asks for it, so it
/// cannot be run otherwise.
pub(crate) struct ActingAs<'a>(PhantomData<&'a Identity>, NotThreadSafe);

impl Identity {
    /// Captures the running task, with the I/O priority of its request.
    pub(crate) fn capture(ioprio: u16) -> impl PinInit<Self> {
        pin_init!(Self {
            submitter <- Submitter::capture(),
            mm: ffi::submitter_mm(),
            memcg: MemCgroup::current(),
            blkcg: BlkCgroup::current(),
            ioprio,
            pkru: ffi::current_pkru(),
        })
    }

    /// Runs `f` as the submitter of a request that is not completed.
    pub(crate) fn act<R>(
        &self,
        worker: &Worker,
        alive: &Completion,
        f: impl FnOnce(&ActingAs<'_>) -> R,
    ) -> R {
        // The worker may set its priority as long as its credentials are its own.
        worker.with_ioprio(self.ioprio, || {
            worker.with_blkcg(&self.blkcg, || {
                worker.with_memcg(&self.memcg, || {
                    worker.with_mm(&self.mm, alive, || {
                        worker.with_pkru(self.pkru, || {
                            worker.with_submitter(&self.submitter, || {
                                f(&ActingAs(PhantomData, NotThreadSafe))
                            })
                        })
                    })
                })
            })
        })
    }
}

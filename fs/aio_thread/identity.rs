// SPDX-License-Identifier: GPL-2.0

//! Whom a worker acts for: captured once, in `io_submit()`, taken on for the time of a call,
//! and taken off in the reverse order.
//!
//! Everything in [`Identity`] is taken on for every request. What only some operations need is a
//! further step, and a further type, so that no operation gets at user memory or at paths without
//! it: [`ActingAs::with_mm`] and [`ActingAs::with_paths`].

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
    PathContext,
    Submitter,
    Worker, //
};

/// What a worker needs in order to act for the submitter of a request.
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
pub(crate) struct ActingAs<'a> {
    identity: &'a Identity,
    worker: &'a Worker,
}

/// Shows that the running thread also has the submitter's address space, and its rights to it.
pub(crate) struct UsingMm(NotThreadSafe);

/// Shows that the running thread also finds and names files as the submitter would.
pub(crate) struct InPathContext(NotThreadSafe);

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

    /// Runs `f` as the submitter.
    pub(crate) fn act<R>(&self, worker: &Worker, f: impl FnOnce(&ActingAs<'_>) -> R) -> R {
        // The worker may set its priority as long as its credentials are its own.
        worker.with_ioprio(self.ioprio, || {
            worker.with_blkcg(&self.blkcg, || {
                worker.with_memcg(&self.memcg, || {
                    worker.with_submitter(&self.submitter, || {
                        f(&ActingAs {
                            identity: self,
                            worker,
                        })
                    })
                })
            })
        })
    }
}

impl ActingAs<'_> {
    /// Runs `f` in the submitter's address space. The request, which is not completed, keeps it.
    pub(crate) fn with_mm<R>(&self, alive: &Completion, f: impl FnOnce(&UsingMm) -> R) -> R {
        self.worker.with_mm(&self.identity.mm, alive, || {
            self.worker
                .with_pkru(self.identity.pkru, || f(&UsingMm(NotThreadSafe)))
        })
    }

    /// Runs `f` with the root and working directory, umask, namespaces and directories of a
    /// request.
    pub(crate) fn with_paths<R>(
        &self,
        paths: &PathContext,
        f: impl FnOnce(&InPathContext) -> R,
    ) -> R {
        self.worker
            .with_paths(paths, || f(&InPathContext(NotThreadSafe)))
    }
}

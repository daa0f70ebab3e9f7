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
    sync::{
        aref::ARef,
        Arc, //
    },
    types::NotThreadSafe, //
};

use crate::ffi::{
    self,
    BlkCgroup,
    Completion,
    MemCgroup,
    PathContext,
    Submitter,
    UserRef,
    Worker, //
};
use crate::user::User;

/// What a worker needs in order to act for the submitter of requests.
///
/// Shared by all requests that it holds for. A context keeps the last one; the next request takes
/// that if nothing has changed, which [`Identity::is_current`] finds out by looking at every part,
/// and otherwise captures its own. So there is nothing that whoever changes a task's credentials,
/// limits or cgroups would have to tell.
#[pin_data]
pub(crate) struct Identity {
    #[pin]
    submitter: Submitter,
    mm: ARef<Mm>,
    memcg: MemCgroup,
    blkcg: BlkCgroup,
    user: UserRef,
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
    /// Captures the running task. Fails with `ENOMEM`.
    pub(crate) fn capture() -> Result<Arc<Self>> {
        Arc::pin_init(
            try_pin_init!(Self {
                submitter <- Submitter::capture(),
                mm: ffi::submitter_mm(),
                memcg: MemCgroup::current(),
                blkcg: BlkCgroup::current(),
                user: UserRef::current()?,
                pkru: ffi::current_pkru(),
            }),
            GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL,
        )
    }

    /// Whether this is what capturing the running task again would give. The address space is that
    /// of the context, and the user follows from the credentials.
    pub(crate) fn is_current(&self) -> bool {
        self.submitter.is_current()
            && self.memcg.is_current()
            && self.blkcg.is_current()
            && self.pkru == ffi::current_pkru()
    }

    /// The user whose share of workers the request counts to.
    pub(crate) fn user(&self) -> &Arc<User> {
        self.user.user()
    }

    /// Runs `f` as the submitter, with the I/O priority of the request.
    pub(crate) fn act<R>(
        &self,
        worker: &Worker,
        ioprio: u16,
        f: impl FnOnce(&ActingAs<'_>) -> R,
    ) -> R {
        // The worker may set its priority as long as its credentials are its own.
        worker.with_ioprio(ioprio, || {
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

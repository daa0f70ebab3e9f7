// SPDX-License-Identifier: GPL-2.0

//! The operations, a file per family, and what they have in common.
//!
//! An operation says by the types it takes what it needs to run in a worker: whoever has no
//! [`ActingAs`] can run none of them, user memory is only reachable through a
//! [`UsingMm`](crate::identity::UsingMm), and paths only through an
//! [`InPathContext`](crate::identity::InPathContext).

use kernel::prelude::*;

use crate::{
    ffi::{
        Completion,
        Iocb,
        RequestFile,
        Submission,
        WaitQueues, //
    },
    identity::ActingAs,
    iter::event_result, //
};

pub(crate) mod fsync;
pub(crate) mod path;
pub(crate) mod poll;
pub(crate) mod readahead;
pub(crate) mod rw;

/// What is counted apart from each other.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Read,
    Write,
    Fsync,
    Poll,
    Openat,
    Unlinkat,
    Readahead,
    Renameat,
}

/// What running a request has led to.
pub(crate) enum Outcome {
    /// The result: bytes or the like, or a negative error code.
    Done(isize),
    /// Not ready: go on when one of the request's wait queues is woken.
    Wait,
}

/// What can be run by a worker.
pub(crate) trait Operation {
    /// Which of them it is.
    fn kind(&self) -> Kind;

    /// Carries it out, or goes on with it. May sleep, if `wait` does not ask to wait otherwise.
    fn run(
        &mut self,
        submitter: &ActingAs<'_>,
        alive: &Completion,
        wait: Option<&WaitQueues>,
    ) -> Outcome;

    /// It was cancelled before it ran: gives back what others could notice before they see the
    /// event. The rest goes afterwards.
    fn cancelled(&mut self) {}

    /// What the event says, after `run()` has led to `res`, and the worker was perhaps killed.
    fn conclude(&self, res: isize, _killed: bool) -> isize {
        event_result(res)
    }
}

macro_rules! operations {
    ($($variant:ident($ty:ty)),* $(,)?) => {
        /// One of the operations.
        pub(crate) enum Op {
            $(
                #[doc = concat!("A [`", stringify!($ty), "`].")]
                $variant($ty),
            )*
        }

        impl Operation for Op {
            fn kind(&self) -> Kind {
                match self {
                    $(Op::$variant(op) => op.kind(),)*
                }
            }

            fn run(
                &mut self,
                submitter: &ActingAs<'_>,
                alive: &Completion,
                wait: Option<&WaitQueues>,
            ) -> Outcome {
                match self {
                    $(Op::$variant(op) => op.run(submitter, alive, wait),)*
                }
            }

            fn cancelled(&mut self) {
                match self {
                    $(Op::$variant(op) => op.cancelled(),)*
                }
            }

            fn conclude(&self, res: isize, killed: bool) -> isize {
                match self {
                    $(Op::$variant(op) => op.conclude(res, killed),)*
                }
            }
        }
    };
}

operations! {
    Rw(rw::Rw),
    Fsync(fsync::Fsync),
    Poll(poll::Poll),
    Openat(path::Openat),
    Unlinkat(path::Unlinkat),
    Readahead(readahead::Readahead),
    Renameat(path::Renameat),
}

/// Submits a request of a threaded context that is no read, write or poll.
///
/// Called by the submitter. Does not wait for I/O. An error means that the request was not taken,
/// and that nothing is left of it. `file` is there where the opcode has one.
pub(crate) fn submit(
    submission: Submission<'_>,
    completion: Completion,
    iocb: &Iocb,
    file: Option<RequestFile>,
) -> Result {
    iocb.check_flags()?;
    match (iocb.opcode, file) {
        (Iocb::FSYNC, Some(file)) => fsync::submit(submission, completion, iocb, file, false),
        (Iocb::FDSYNC, Some(file)) => fsync::submit(submission, completion, iocb, file, true),
        (Iocb::READAHEAD, Some(file)) => readahead::submit(submission, completion, iocb, file),
        (Iocb::OPENAT, _) => path::submit_openat(submission, completion, iocb),
        (Iocb::UNLINKAT, _) => path::submit_unlinkat(submission, completion, iocb),
        (Iocb::RENAMEAT, _) => path::submit_renameat(submission, completion, iocb),
        _ => Err(EINVAL),
    }
}

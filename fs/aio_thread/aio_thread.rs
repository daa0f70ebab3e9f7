// SPDX-License-Identifier: GPL-2.0

//! Threaded AIO: what `io_submit()` cannot do without blocking is done by a worker.
//!
//! # What a request is, and its ways
//!
//! A read or write of a threaded context goes one of these ways; `aio_rw_way()` in `glue.c` says
//! which are open to a file.
//!
//! | way | where | when |
//! |---|---|---|
//! | at once | in the submitter, with `IOCB_NOWAIT` | the file can do that, and need not block |
//! | native | in the file's own asynchronous path | direct I/O that can be tried so |
//! | worker | on a work queue | it would block, or there is no way to find out |
//! | caller | in the submitter, as without threads | what it does depends on the calling task |
//!
//! A request that has made part of its way at once is finished by a worker, if a blocking system
//! call would have gone on.
//!
//! # Objects, and who holds them
//!
//! - `struct aio_kiocb` (C) has two references as ever: the one of `io_submit()`, and the one for
//!   completion, which is [`ffi::Completion`] here. There is one of these per request; who has it
//!   completes the request, and the event is out when both references are gone.
//! - [`request::Request`] exists for requests that go native or to a worker. C holds one reference
//!   until `iocb_destroy()`, the queue or the worker another. It carries the
//!   [`identity::Identity`], and the [`state::State`], which owns the [`request::Job`]: operation
//!   and [`ffi::Completion`].
//! - The job is moved out of the state when a worker starts, so nothing that the operation uses is
//!   shared. The iovec array has references of its own, because an asynchronous attempt in the
//!   submitter may still look at it when the request has completed already.
//!
//! # States
//!
//! ```text
//!   New ──► Native ──► (completed by the file's own path: C does it)
//!    │         │ would block, in io_submit() or later
//!    ▼         ▼
//!   Queued ◄───┘
//!    │    \
//!    │     cancel ──► Cancelled ──► Done: -ECANCELED
//!    ▼ start
//!   Running ──► Done: bytes or error
//!     └ cancel: SIGKILL to the worker, once
//! ```
//!
//! # Locks
//!
//! `ctx_lock` (C, interrupts off) → [`request::Request::state`] (interrupts off) → the worker's
//! `siglock`, or the work queue's pool lock. No lock is held while an operation runs or an event is
//! published. What each party may see:
//!
//! - **Submitter.** Has the request to itself until `aio_kiocb_queue()`, which under `ctx_lock`
//!   puts it on the context's list and in the queue, so whoever finds it on the list finds it in
//!   the queue, in a worker, or done. Afterwards the submitter touches nothing but its own
//!   reference to the `aio_kiocb`. A context that is being destroyed takes no more requests: one
//!   that comes late (a native one that would have to block) is cancelled on the spot.
//! - **Worker.** Owns the job from `start()` on. Its killable sleeps end if `cancel()` saw it in
//!   the state `Running`, under the lock of the state; `finish()` takes the same lock, and the
//!   worker throws away its signals after that and before it publishes the event. So a kill can
//!   reach this request alone, and the worker goes back to the pool without a trace.
//! - **Canceller** (`io_cancel()`, or the end of the context through `io_destroy()`, exec, exit or
//!   SIGKILL). Holds `ctx_lock`, and finds only requests on the list. These are valid: to complete
//!   one takes `ctx_lock` to get it off the list first. It completes nothing itself. A queued
//!   request moves to a second work queue, on which nothing blocks, so its event needs no free
//!   worker; if the canceller does not get it out of the first queue any more, a worker is just
//!   starting on it and finds the state `Cancelled`.
//! - **Exit.** `exit_aio()` cancels everything and waits until all references to the context are
//!   gone, before `exit_mmap()`. So the mm is there as long as a worker uses it, with `mmgrab()`
//!   only; and the last reference to a `Request` goes before the context's, which is why none of
//!   what it drops (mm, credentials, pid, cgroups) can be the last that exit waits for.
//!
//! # What cannot be interrupted
//!
//! A worker in an uninterruptible sleep (a page that is being written to a disk that does not
//! answer, a frozen file system) ends when the sleep does, like a process would.

#![deny(unsafe_code)]

mod executor;
mod ffi;
mod identity;
mod iter;
mod ops;
mod request;
mod state;

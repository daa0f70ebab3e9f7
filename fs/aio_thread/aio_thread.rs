// SPDX-License-Identifier: GPL-2.0

//! Threaded AIO: what `io_submit()` cannot do without blocking is done by a worker.
//!
//! # What a request is, and its ways
//!
//! A request of a threaded context goes one of these ways; for reads and writes `aio_rw_way()` in
//! `glue.c` says which are open to a file.
//!
//! | way | where | when |
//! |---|---|---|
//! | at once | in the submitter | it can be tried without blocking, and need not block |
//! | native | in the file's own asynchronous path | direct I/O that can be tried so |
//! | armed | on the file's wait queues | only time is missing: a pipe is empty, a socket full |
//! | worker | on a work queue | it would block, or there is no way to find out |
//! | caller | in the submitter, as without threads | what it does depends on the calling task |
//!
//! A request that has made part of its way at once is finished by a worker or on the wait queues,
//! if a blocking system call would have gone on.
//!
//! The operations are in [`ops`], a file per family:
//!
//! | opcode | at once | armed | worker | needs in a worker |
//! |---|---|---|---|---|
//! | `PREAD` `PWRITE` `PREADV` `PWRITEV` | with `IOCB_NOWAIT` | streams | yes | mm |
//! | `FSYNC` `FDSYNC` | | | yes | |
//! | `POLL` | ready | several queues | | |
//! | `OPENAT` | with `LOOKUP_CACHED` | | yes | paths |
//! | `UNLINKAT` `RENAMEAT` | | | yes | paths |
//! | `READAHEAD` | all present | | yes | |
//!
//! Path operations run in the submitter while a security module judges by task, or audit is
//! recording its system calls, and so does the open of a device or control file that the dcache
//! knows.
//!
//! A poll of a file with one wait queue never comes here: `fs/aio.c` has it, as ever.
//!
//! # Objects, and who holds them
//!
//! - `struct aio_kiocb` (C) has two references as ever: the one of `io_submit()`, and the one for
//!   completion, which is [`ffi::Completion`] here. There is one of these per request; who has it
//!   completes the request, and the event is out when both references are gone.
//! - [`request::Request`] exists for requests that go native, to a worker or on wait queues. C
//!   holds one reference until `iocb_destroy()`, the line of its user, the queue or the worker
//!   another. It carries the [`identity::Identity`], the entries on wait queues
//!   ([`ffi::WaitQueues`]), and the [`state::State`], which owns the [`request::Job`]: operation
//!   and [`ffi::Completion`].
//! - [`identity::Identity`] is whom a worker acts for. Requests share it; a context keeps the last
//!   one until the next is different, or the context is freed.
//! - [`user::User`] is there as long as an identity refers to it. It has the line of requests that
//!   wait for a worker, and says how many may have one.
//! - The job is moved out of the state when a worker starts, so nothing that the operation uses is
//!   shared. The iovec array has references of its own, because an asynchronous attempt in the
//!   submitter may still look at it when the request has completed already.
//! - What an operation holds beside (names, directories, a reserved descriptor and the table that
//!   it is in, root and working directory, namespaces) it owns. It goes before the event is out,
//!   but of a request that never ran only the descriptor does, as to let go of the rest may block.
//!
//! # States
//!
//! ```text
//!   New ---> Native ---> (completed by the file's own path: C does it)
//!    | \        | would block, in io_submit() or later
//!    |  \       v
//!    |   `-> Arming --> Armed <---------.
//!    |          | woken   | \ cancel    | not ready
//!    v          v         |  \         |
//!   Queued <--------------'   v         |
//!    |   \ cancel        Cancelled ---> | ---> Done: -ECANCELED, or bytes moved before
//!    |    `---------------^             |
//!    v start                            |
//!   Running ----------------------------'
//!    |  ` cancel: SIGKILL to the worker, once
//!    v
//!   Done: bytes or error
//! ```
//!
//! A wake-up is never lost: the entries are on the wait queues from *Arming* until the request
//! completes, so one that comes while the request is being armed, or is being tried, is remembered
//! in the state, and makes the request try again instead of wait.
//!
//! # Locks
//!
//! `ctx_lock` (C, interrupts off), or the lock of a wait queue → [`request::Request::state`]
//! (interrupts off) → the worker's `siglock`, or the line of a [`user::User`] → the work
//! queue's pool lock. The register of users is taken with nothing held, and before a user's line.
//! `ctx_lock` and the lock of a wait queue are never held together here. No lock is held while an
//! operation runs or an event is published. What each party may see:
//!
//! - **Submitter.** Has the request to itself until `aio_kiocb_queue()`, which under `ctx_lock`
//!   puts it on the context's list and in the queue, so whoever finds it on the list finds it
//!   armed, in the queue, in a worker, or done. Afterwards the submitter touches nothing but its
//!   own reference to the `aio_kiocb`. A context that is being destroyed takes no more requests:
//!   one that comes late (a native one that would have to block) is cancelled on the spot.
//! - **Worker.** Owns the job from `start()` on. Its killable sleeps end if `cancel()` saw it in
//!   the state `Running`, under the lock of the state; `finish()` and `rearm()` take the same
//!   lock, and the worker throws away its signals after that and before it publishes the event. So
//!   a kill can reach this request alone, and the worker goes back to the pool without a trace.
//! - **Worker that finds a request not ready.** Lays down the submitter's identity first, and
//!   gives the job back to the state last, with `rearm()`. What comes after that touches only the
//!   thread itself and its reference to the `Request`: the request may be woken, run elsewhere and
//!   complete meanwhile. The work queue runs one work item in one place at a time, unless it is
//!   moved to the other queue by cancellation, which finds nothing in use.
//! - **Wait queue.** Calls `wake()` under its own lock, in any context. If the request is armed,
//!   its job is in the state, so it is valid, and it is queued; in any other state this only
//!   leaves a mark. Who completes a request takes its entries off the queues before, under their
//!   locks: after that nobody is in `wake()`, and nobody gets there. A queue that goes away before
//!   its file does (`POLLFREE`) takes the entry off itself, and counts as a wake-up; see `wait.c`.
//! - **User's line.** A request in the state `Queued` is in the line of its user, or in the work
//!   queue, or a worker is just starting on it; it goes from the line to the queue under the line's
//!   lock. A worker that starts counts itself there first, and last when it is through with the
//!   request, also one that finds it cancelled. So the bound holds, and whoever waits is handed
//!   over by whoever makes room: a worker that starts or ends, a canceller, or a larger bound.
//! - **Canceller** (`io_cancel()`, or the end of the context through `io_destroy()`, exec, exit or
//!   SIGKILL). Holds `ctx_lock`, and finds only requests on the list. These are valid: to complete
//!   one takes `ctx_lock` to get it off the list first. It completes nothing itself. A queued or
//!   armed request moves to a second work queue, on which nothing blocks, so its event needs no
//!   free worker; if the canceller does not get it out of the first queue any more, a worker is
//!   just starting on it and finds the state `Cancelled`.
//! - **Exit.** `exit_aio()` cancels everything and waits until all references to the context are
//!   gone, before `exit_mmap()`. So the mm is there as long as a worker uses it, with `mmgrab()`
//!   only. A worker that has given a request back to its wait queues may hold the last reference
//!   to the `Request` for a moment longer, and then drops what is left of it (mm, credentials,
//!   pid, cgroups): all of these are counted by themselves, and nothing waits for them.
//!
//! # Who holds what, until when
//!
//! | what | held by | until |
//! |---|---|---|
//! | `aio_kiocb`, its context | `io_submit()`; [`ffi::Completion`] | return; event |
//! | its file | `aio_kiocb` | before the event if a worker has run it, else after it |
//! | `Request` | C; user's line, queue or worker | `iocb_destroy()`; run, or taken out |
//! | `Job` | `State`, then the worker's stack | event |
//! | wait-queue entries | `Request`; on queues only while it has a job | last reference |
//! | `Identity` | `Request`s; context | last reference |
//! | credentials, pids, cgroups, mm | `Identity` | last reference |
//! | page tables | nobody: `exit_aio()` waits for all requests | event |
//! | `User` | `Identity`, counted in the register | last reference |
//! | names, directories, root, namespaces | operation, in the `Job` | before or after the event |
//! | descriptor, memory of its table | operation, in the `Job` | before the event |
//! | files in that table | tasks that have it, not the request | last of these |
//!
//! All of these are counted with `refcount_t` or the object's own counter. A request has one of
//! each at most, and `fs.aio-max-nr` bounds requests, so that none of the others can overflow.
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
mod user;

// SPDX-License-Identifier: GPL-2.0

//! The work queue: how requests get to a worker, out of the queue, and through.

use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        ArcBorrow, //
    },
    task::Task, //
};

use crate::{
    ffi::{
        self,
        Ran,
        Stat,
        Worker, //
    },
    ops::{
        Operation,
        Outcome, //
    },
    request::{
        Job,
        Request, //
    },
    state::{
        Cancel,
        Rearm,
        Start, //
    },
};

/// Hands a request that is in the state `Queued` to the workers.
///
/// Called with what excludes [`cancel`], so that it finds the request in the queue.
fn enqueue(request: ArcBorrow<'_, Request>) {
    Stat::Queued.add(1);
    request.identity.user().add(request);
}

/// Takes over a request that is now on its context's list: it is queued, or waits to be woken.
///
/// Called under `ctx_lock`, so that whoever cancels finds the request here.
pub(crate) fn publish(request: ArcBorrow<'_, Request>) {
    if request.state.lock().publish() {
        enqueue(request);
    } else {
        Stat::Waiting.add(1);
    }
}

/// Something has changed on one of the request's wait queues.
///
/// Called under the lock of that queue, with interrupts off. If the request waits, its job keeps
/// it valid.
pub(crate) fn wake(request: ArcBorrow<'_, Request>) {
    let mut state = request.state.lock();
    if state.wake() {
        Stat::Waiting.add(-1);
        // Still under the lock, for cancel() to find it in the queue.
        enqueue(request);
    }
}

/// Cancels a request that is on its context's list.
///
/// Called under `ctx_lock`, with interrupts off, perhaps by an RCU callback: so it completes and
/// frees nothing. A request that has no worker yet moves to a queue of requests that do not block,
/// and its event comes from there; one that has is killed. Fails with `EAGAIN` if the request is
/// about to complete.
pub(crate) fn cancel(request: ArcBorrow<'_, Request>) -> Result {
    let waited = {
        let mut state = request.state.lock();
        match state.cancel() {
            Cancel::Dequeue => false,
            Cancel::Disarm => true,
            Cancel::Kill(worker) => {
                // The state cannot change while it is locked: the worker is still at this request.
                ffi::kill(worker);
                Stat::Cancelled.add(1);
                return Ok(());
            }
            Cancel::Already => return Ok(()),
            Cancel::TooLate => return Err(EAGAIN),
        }
    };
    Stat::Cancelled.add(1);
    let request = if waited {
        Stat::Waiting.add(-1);
        Some(request.into())
    } else {
        Stat::Queued.add(-1);
        // If it is not there any more, its worker is just starting, and finds out.
        request.identity.user().take_back(request)
    };
    if let Some(request) = request {
        ffi::end_cancelled(request);
    }
    Ok(())
}

/// What is left to do when a request has its result.
struct Ended {
    job: Job,
    res: isize,
    /// It never ran.
    cancelled: bool,
}

/// A worker's part of a request's life.
pub(crate) fn work(request: Arc<Request>, worker: Worker) {
    // Which keeps the user.
    let identity = request.identity.clone();
    identity.user().start();
    carry_out(request, worker);
    // Only now is the worker free for the next of this user's.
    identity.user().end();
}

/// Runs a request, or completes one that was cancelled before, in either queue.
pub(crate) fn carry_out(request: Arc<Request>, worker: Worker) {
    // What was sent to the worker is gone after this, before anybody can see the event.
    let Some(ended) = worker.killable(|task| run(&request, &worker, task)) else {
        return;
    };
    // After this nobody wakes it any more.
    if let Some(wait) = &request.wait {
        wait.disarm();
    }
    drop(request);
    let Job { op, completion } = ended.job;
    if ended.cancelled {
        // To let go of the rest of what the operation holds may block, which the event does not
        // wait for.
        completion.complete(ended.res);
        drop(op);
    } else {
        // When the event is seen, nothing is held any more.
        drop(op);
        completion.complete_ran(ended.res);
    }
}

/// Carries out a request that was not cancelled before. Returns `None` if the request is somebody
/// else's, among them one that goes on waiting.
fn run(request: &Request, worker: &Worker, task: ARef<Task>) -> Option<Ended> {
    let start = request.state.lock().start(task);
    let mut job = match start {
        Start::Run(job) => job,
        Start::Cancelled(mut job) => {
            job.op.cancelled();
            // What it has moved before still counts.
            let res = job.op.conclude(ECANCELED.to_errno() as isize, false);
            return Some(Ended {
                job,
                res,
                cancelled: true,
            });
        }
        Start::Nothing => return None,
    };
    let kind = job.kind();
    let wait = request.wait.as_ref();
    Stat::Queued.add(-1);
    Stat::Running.add(1);
    if wait.is_none() {
        Ran::Worker.count(kind, 1);
    }
    let ended = loop {
        let Job { op, completion } = &mut job;
        let outcome = request.identity.act(worker, request.ioprio, |submitter| {
            op.run(submitter, completion, wait)
        });
        let res = match outcome {
            Outcome::Done(res) => res,
            // The submitter's identity was laid down, so that the request may go on, and even end,
            // elsewhere from here on.
            Outcome::Wait => match request.state.lock().rearm(job) {
                Rearm::Waiting => {
                    Stat::Waiting.add(1);
                    break None;
                }
                Rearm::Again(again) => {
                    job = again;
                    continue;
                }
                Rearm::Killed(killed) => {
                    // It was as good as armed.
                    job = killed;
                    ECANCELED.to_errno() as isize
                }
            },
        };
        // From here on nobody kills this worker.
        let killed = request.state.lock().finish() == Some(true);
        let res = job.op.conclude(res, killed);
        break Some(Ended {
            job,
            res,
            cancelled: false,
        });
    };
    Stat::Running.add(-1);
    ended
}

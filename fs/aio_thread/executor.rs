// SPDX-License-Identifier: GPL-2.0

//! The work queue: how requests get to a worker, out of the queue, and through.

use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        ArcBorrow, //
    },
    task::Task,
    warn_on, //
};

use crate::{
    ffi::{
        self,
        Completion,
        Stat,
        Worker, //
    },
    request::{
        Job,
        Request, //
    },
    state::{
        Cancel,
        Start, //
    },
};

/// Hands a request that is in the state `Queued` to the workers.
///
/// Called under `ctx_lock`, so that whoever cancels finds the request in the queue.
pub(crate) fn enqueue(request: Arc<Request>) {
    Stat::Queued.add(1);
    // A request is handed over once, so it is not in the queue yet.
    let queued = ffi::thread_queue().enqueue(request);
    warn_on!(queued.is_err());
}

/// Cancels a request that is on its context's list.
///
/// Called under `ctx_lock`, with interrupts off, perhaps by an RCU callback: so it completes and
/// frees nothing. A request that has no worker yet moves to a queue of requests that do not block,
/// and its event comes from there; one that has is killed. Fails with `EAGAIN` if the request is
/// about to complete.
pub(crate) fn cancel(request: ArcBorrow<'_, Request>) -> Result {
    {
        let mut state = request.state.lock();
        match state.cancel() {
            Cancel::Dequeue => Stat::Queued.add(-1),
            Cancel::Kill(worker) => {
                // The state cannot change while it is locked: the worker is still at this request.
                ffi::kill(worker);
                Stat::Cancelled.add(1);
                return Ok(());
            }
            Cancel::Already => return Ok(()),
            Cancel::TooLate => return Err(EAGAIN),
        }
    }
    Stat::Cancelled.add(1);
    // If it is not there any more, its worker is just starting, and finds out.
    if let Some(request) = ffi::dequeue(request) {
        let queued = ffi::cancel_queue().enqueue(request);
        warn_on!(queued.is_err());
    }
    Ok(())
}

/// A worker's part of a request's life.
pub(crate) fn work(request: Arc<Request>, worker: Worker) {
    // What was sent to the worker is gone after this, before anybody can see the event.
    let Some((completion, res)) = worker.killable(|task| run(&request, &worker, task)) else {
        return;
    };
    // The last reference is C's, which goes before the context does.
    drop(request);
    completion.complete(res);
}

/// Carries out a request that was not cancelled before. Returns its result, and the right to
/// publish it.
fn run(request: &Request, worker: &Worker, task: ARef<Task>) -> Option<(Completion, isize)> {
    let start = request.state.lock().start(task);
    match start {
        Start::Run(Job { op, completion }) => {
            Stat::Queued.add(-1);
            Stat::Running.add(1);
            Stat::Worker.add(1);
            let res = request.identity.act(worker, &completion, |submitter| {
                op.run(submitter, &completion)
            });
            // From here on nobody kills this worker.
            let killed = request.state.lock().finish() == Some(true);
            Stat::Running.add(-1);
            Some((completion, op.conclude(res, killed)))
        }
        Start::Cancelled(job) => Some((job.completion, ECANCELED.to_errno() as isize)),
        Start::Nothing => None,
    }
}

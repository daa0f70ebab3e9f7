// SPDX-License-Identifier: GPL-2.0

//! A request that has left `io_submit()`, or may do so.

use kernel::{
    list::{
        AtomicTracker,
        ListLinks, //
    },
    new_spinlock_irq,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        SpinLockIrq, //
    },
    task::Task,
    warn_on,
    workqueue::{
        new_work,
        Work, //
    },
};

use crate::{
    ffi::{
        Completion,
        Ran,
        RequestFile,
        Stat,
        Submission,
        WaitQueues, //
    },
    identity::Identity,
    ops::{
        Kind,
        Op,
        Operation, //
    },
    state::State, //
};

/// What is to be done, and the right to say that it is done.
pub(crate) struct Job {
    /// The operation.
    pub(crate) op: Op,
    /// Who has this completes the request.
    pub(crate) completion: Completion,
}

/// What comes back of a request that cannot wait for a file.
pub(crate) struct Unarmed<'a> {
    /// The job that it was given.
    pub(crate) job: Option<Job>,
    /// Its submission.
    pub(crate) submission: Submission<'a>,
    /// Why it cannot.
    pub(crate) error: Error,
}

/// The states of requests, as they are used here.
pub(crate) type RequestState = State<ARef<Task>, Job>;

/// A request object. C holds one reference, a queue that it waits in or its worker another.
#[pin_data]
pub(crate) struct Request {
    #[pin]
    pub(crate) work: Work<Self, 0>,
    /// By which a cancelled request ends, if it is in no worker.
    #[pin]
    pub(crate) end: Work<Self, 1>,
    /// Its place in the line of its user.
    #[pin]
    pub(crate) links: ListLinks,
    #[pin]
    pub(crate) tracker: AtomicTracker,
    /// Innermost of the locks that are taken here: `ctx_lock` or that of a wait queue, then this
    /// one, then the worker's `siglock` to kill it, or the lock of the pool of workers.
    #[pin]
    pub(crate) state: SpinLockIrq<RequestState>,
    /// Whom the worker acts for.
    pub(crate) identity: Arc<Identity>,
    /// Its I/O priority.
    pub(crate) ioprio: u16,
    /// Where it waits without a worker, if it can.
    pub(crate) wait: Option<WaitQueues>,
    _counted: Counted,
}

impl Request {
    /// Makes an object for a request of the running task. Charged to its memory cgroup.
    pub(crate) fn new(
        submission: &Submission<'_>,
        ioprio: u16,
        wait: Option<WaitQueues>,
    ) -> Result<Arc<Self>> {
        let identity = submission.identity()?;
        Arc::pin_init(
            pin_init!(Self {
                work <- new_work!("aio_thread::Request"),
                end <- new_work!("aio_thread::Request::end"),
                links <- ListLinks::new(),
                tracker <- AtomicTracker::new(),
                state <- new_spinlock_irq!(State::New, "aio_thread::Request::state"),
                identity,
                ioprio,
                wait,
                _counted: Counted::new(),
            }),
            GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL,
        )
    }

    /// Hands a job of the running task to the workers.
    pub(crate) fn queue(
        submission: Submission<'_>,
        completion: Completion,
        op: Op,
        ioprio: u16,
    ) -> Result {
        let request = Self::new(&submission, ioprio, None)?;
        request.queue_job(submission, Job { op, completion });
        Ok(())
    }

    /// Gives an object that nobody knows yet its job, and queues it.
    pub(crate) fn queue_job(self: Arc<Self>, submission: Submission<'_>, job: Job) {
        let queued = self.state.lock().queue(job);
        warn_on!(queued.is_err());
        submission.attach(self);
        submission.queue();
    }

    /// Gives an object that nobody knows yet its job, and puts it on the wait queues of `file`. If
    /// that does not work, everything comes back, and the object is attached.
    pub(crate) fn arm<'a>(
        self: Arc<Self>,
        submission: Submission<'a>,
        job: Job,
        file: &RequestFile,
    ) -> Option<Unarmed<'a>> {
        let kind = job.kind();
        submission.attach(self.clone());
        let Some(wait) = &self.wait else {
            return Some(Unarmed {
                job: Some(job),
                submission,
                error: EINVAL,
            });
        };
        let armed = self.state.lock().arm(job);
        warn_on!(armed.is_err());
        match wait.arm(&self, file) {
            Ok(ready) => {
                if ready {
                    // There may be no other wake.
                    self.state.lock().wake();
                }
                Ran::Armed.count(kind, 1);
                submission.queue();
                None
            }
            Err(error) => {
                wait.disarm();
                Some(Unarmed {
                    job: self.state.lock().take_back(),
                    submission,
                    error,
                })
            }
        }
    }

    /// The file's own asynchronous path would have to block: the request becomes a queued one.
    ///
    /// Returns false if it is not on that path. May be called in any context.
    pub(crate) fn retry(&self) -> bool {
        let mut state = self.state.lock();
        let retry = state.retry();
        if let (true, State::Queued(job)) = (retry, &*state) {
            // It is the worker's now, and counted there.
            Ran::Native.count(job.kind(), -1);
        }
        retry
    }
}

impl Job {
    /// For what it is counted.
    pub(crate) fn kind(&self) -> Kind {
        self.op.kind()
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

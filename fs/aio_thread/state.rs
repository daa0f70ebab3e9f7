// SPDX-License-Identifier: GPL-2.0

//! The states of a request, apart from everything that makes it hard to test.
//!
//! [`State`] owns the request's job, which holds the one right to complete it, and gives it away at
//! most once: to the worker that starts it, to the worker that finds it cancelled, or back to
//! `io_submit()`. So no order of calls can complete a request twice.
//!
//! A request that waits on wait queues without a thread is going to be one more state beside
//! [`State::Queued`]: it owns the job too, is cancelled in the same way, and goes to `Queued` when
//! it is woken.

/// Where a request is in its life. `W` stands for a worker, `J` for the job.
pub(crate) enum State<W, J> {
    /// Being set up by `io_submit()`; nobody else knows it.
    New,
    /// Tried on the file's own asynchronous path, which may complete it at any time.
    Native(J),
    /// Waiting for a worker.
    Queued(J),
    /// Cancelled before a worker had it; the next to look at it has to complete it.
    Cancelled(J),
    /// In a worker, which has the job.
    Running {
        /// Whom to kill.
        worker: W,
        /// Whether that was done.
        killed: bool,
    },
    /// The job is gone; the event is on its way or out.
    Done,
}

/// What a worker has to do with a request.
pub(crate) enum Start<J> {
    /// Run it.
    Run(J),
    /// Complete it as cancelled.
    Cancelled(J),
    /// Nothing: somebody else has it.
    Nothing,
}

/// What the one who cancels has to do.
pub(crate) enum Cancel<'a, W> {
    /// Take it out of the queue.
    Dequeue,
    /// Kill its worker, before the lock is released.
    Kill(&'a W),
    /// Nothing, that was done before.
    Already,
    /// Nothing, it completes by itself.
    TooLate,
}

impl<W, J> State<W, J> {
    /// `io_submit()` has tried nothing, or without success: the request is for a worker.
    pub(crate) fn queue(&mut self, job: J) -> Result<(), J> {
        match self {
            State::New => {
                *self = State::Queued(job);
                Ok(())
            }
            _ => Err(job),
        }
    }

    /// `io_submit()` is going to try the file's own asynchronous path.
    pub(crate) fn go_native(&mut self, job: J) -> Result<(), J> {
        match self {
            State::New => {
                *self = State::Native(job);
                Ok(())
            }
            _ => Err(job),
        }
    }

    /// The asynchronous path has given the request back to `io_submit()`.
    pub(crate) fn take_back(&mut self) -> Option<J> {
        match core::mem::replace(self, State::New) {
            State::Native(job) => Some(job),
            other => {
                *self = other;
                None
            }
        }
    }

    /// The asynchronous path would have to block. Returns whether the request is queued now.
    pub(crate) fn retry(&mut self) -> bool {
        match core::mem::replace(self, State::New) {
            State::Native(job) => {
                *self = State::Queued(job);
                true
            }
            other => {
                *self = other;
                false
            }
        }
    }

    /// A worker has taken the request from its queue.
    pub(crate) fn start(&mut self, worker: W) -> Start<J> {
        match core::mem::replace(self, State::Done) {
            State::Queued(job) => {
                *self = State::Running {
                    worker,
                    killed: false,
                };
                Start::Run(job)
            }
            State::Cancelled(job) => Start::Cancelled(job),
            other => {
                *self = other;
                Start::Nothing
            }
        }
    }

    /// Somebody wants the request to end.
    pub(crate) fn cancel(&mut self) -> Cancel<'_, W> {
        if let State::Queued(_) = self {
            if let State::Queued(job) = core::mem::replace(self, State::Done) {
                *self = State::Cancelled(job);
            }
            return Cancel::Dequeue;
        }
        match self {
            State::Running { worker, killed } if !*killed => {
                *killed = true;
                Cancel::Kill(worker)
            }
            State::Running { .. } | State::Cancelled(_) => Cancel::Already,
            State::New | State::Native(_) | State::Queued(_) | State::Done => Cancel::TooLate,
        }
    }

    /// The worker is through with the request. Returns whether it was killed, or `None` if it did
    /// not run it.
    pub(crate) fn finish(&mut self) -> Option<bool> {
        match self {
            State::Running { killed, .. } => {
                let killed = *killed;
                *self = State::Done;
                Some(killed)
            }
            _ => None,
        }
    }
}

#[kernel::macros::kunit_tests(aio_thread_state)]
mod tests {
    use super::*;

    type S = State<u32, &'static str>;

    const STATES: usize = 7;

    /// One of each state.
    fn nth(n: usize) -> S {
        match n {
            0 => State::New,
            1 => State::Native("job"),
            2 => State::Queued("job"),
            3 => State::Cancelled("job"),
            4 => State::Running {
                worker: 1,
                killed: false,
            },
            5 => State::Running {
                worker: 1,
                killed: true,
            },
            _ => State::Done,
        }
    }

    /// Which of `nth()` it is.
    fn number(s: &S) -> usize {
        match s {
            State::New => 0,
            State::Native(_) => 1,
            State::Queued(_) => 2,
            State::Cancelled(_) => 3,
            State::Running { killed: false, .. } => 4,
            State::Running { killed: true, .. } => 5,
            State::Done => 6,
        }
    }

    #[test]
    fn queue_only_from_new() {
        for n in 0..STATES {
            let mut s = nth(n);
            let ok = s.queue("new").is_ok();
            assert_eq!(ok, n == 0);
            assert_eq!(number(&s), if n == 0 { 2 } else { n });
        }
    }

    #[test]
    fn go_native_only_from_new() {
        for n in 0..STATES {
            let mut s = nth(n);
            let ok = s.go_native("new").is_ok();
            assert_eq!(ok, n == 0);
            assert_eq!(number(&s), if n == 0 { 1 } else { n });
        }
    }

    #[test]
    fn take_back_only_from_native() {
        for n in 0..STATES {
            let mut s = nth(n);
            let job = s.take_back();
            assert_eq!(job.is_some(), n == 1);
            assert_eq!(number(&s), if n == 1 { 0 } else { n });
        }
    }

    #[test]
    fn retry_only_from_native() {
        for n in 0..STATES {
            let mut s = nth(n);
            assert_eq!(s.retry(), n == 1);
            assert_eq!(number(&s), if n == 1 { 2 } else { n });
        }
    }

    #[test]
    fn start_gives_the_job_away_once() {
        for n in 0..STATES {
            let mut s = nth(n);
            match s.start(7) {
                Start::Run(job) => {
                    assert_eq!(n, 2);
                    assert_eq!(job, "job");
                    assert_eq!(number(&s), 4);
                }
                Start::Cancelled(job) => {
                    assert_eq!(n, 3);
                    assert_eq!(job, "job");
                    assert_eq!(number(&s), 6);
                }
                Start::Nothing => {
                    assert!(n != 2 && n != 3);
                    assert_eq!(number(&s), n);
                }
            }
            assert!(matches!(s.start(8), Start::Nothing));
        }
    }

    #[test]
    fn cancel_from_every_state() {
        for n in 0..STATES {
            let mut s = nth(n);
            let (did, then) = match s.cancel() {
                Cancel::Dequeue => (0, 3),
                Cancel::Kill(worker) => {
                    assert_eq!(*worker, 1);
                    (1, 5)
                }
                Cancel::Already => (2, n),
                Cancel::TooLate => (3, n),
            };
            assert_eq!(did, [3, 3, 0, 2, 1, 2, 3][n]);
            assert_eq!(number(&s), then);
        }
    }

    #[test]
    fn a_second_cancel_does_nothing() {
        for n in [2, 4] {
            let mut s = nth(n);
            assert!(!matches!(s.cancel(), Cancel::Already));
            let after = number(&s);
            assert!(matches!(s.cancel(), Cancel::Already));
            assert_eq!(number(&s), after);
        }
    }

    #[test]
    fn finish_only_from_running() {
        for n in 0..STATES {
            let mut s = nth(n);
            let expected = match n {
                4 => Some(false),
                5 => Some(true),
                _ => None,
            };
            assert_eq!(s.finish(), expected);
            assert_eq!(number(&s), if expected.is_some() { 6 } else { n });
        }
    }

    #[test]
    fn a_finished_request_cannot_be_killed() {
        let mut s: S = State::New;
        assert!(s.queue("job").is_ok());
        assert!(matches!(s.start(7), Start::Run("job")));
        assert_eq!(s.finish(), Some(false));
        assert!(matches!(s.cancel(), Cancel::TooLate));
        assert_eq!(s.finish(), None);
    }

    #[test]
    fn a_cancelled_request_never_runs() {
        let mut s: S = State::New;
        assert!(s.queue("job").is_ok());
        assert!(matches!(s.cancel(), Cancel::Dequeue));
        assert!(matches!(s.start(7), Start::Cancelled("job")));
        assert!(matches!(s.start(7), Start::Nothing));
        assert!(matches!(s.cancel(), Cancel::TooLate));
    }

    #[test]
    fn a_retried_request_is_like_a_queued_one() {
        let mut s: S = State::New;
        assert!(s.go_native("job").is_ok());
        assert!(matches!(s.cancel(), Cancel::TooLate));
        assert!(s.retry());
        assert!(s.take_back().is_none());
        assert!(matches!(s.start(7), Start::Run("job")));
    }
}

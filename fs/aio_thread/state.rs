// SPDX-License-Identifier: GPL-2.0

//! The states of a request, apart from everything that makes it hard to test.
//!
//! [`State`] owns the request's job, which holds the one right to complete it, and gives it away at
//! most once at a time: to the worker that starts it, to the worker that finds it cancelled, or
//! back to `io_submit()`. So no order of calls can complete a request twice.

/// Where a request is in its life. `W` stands for a worker, `J` for the job.
pub(crate) enum State<W, J> {
    /// Being set up by `io_submit()`; nobody else knows it.
    New,
    /// Tried on the file's own asynchronous path, which may complete it at any time.
    Native(J),
    /// Being put on wait queues by `io_submit()`; these may wake it already.
    Arming {
        /// What is to be done once it is woken.
        job: J,
        /// Whether it was woken.
        woken: bool,
    },
    /// On wait queues, without a thread.
    Armed(J),
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
        /// Whether a wait queue has woken the request since it started: it may have missed what it
        /// is waiting for.
        woken: bool,
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

/// What a worker has to do with a request that is not ready.
pub(crate) enum Rearm<J> {
    /// Nothing: it waits, and may be somebody else's already.
    Waiting,
    /// Try again, it was woken in between.
    Again(J),
    /// Finish it, it was cancelled.
    Killed(J),
}

/// What the one who cancels has to do.
pub(crate) enum Cancel<'a, W> {
    /// Take it out of the queue, and have it completed.
    Dequeue,
    /// Have it completed.
    Disarm,
    /// Kill its worker, before the lock is released.
    Kill(&'a W),
    /// Nothing, that was done before.
    Already,
    /// Nothing, it completes by itself.
    TooLate,
}

impl<W, J> State<W, J> {
    /// Moves to another state if `f` has one for what the present one owns.
    fn step<R>(&mut self, f: impl FnOnce(Self) -> Result<(Self, R), Self>) -> Option<R> {
        match f(core::mem::replace(self, State::Done)) {
            Ok((next, ret)) => {
                *self = next;
                Some(ret)
            }
            Err(same) => {
                *self = same;
                None
            }
        }
    }

    /// `io_submit()` has tried nothing, or without success: the request is for a worker.
    pub(crate) fn queue(&mut self, job: J) -> Result<(), J> {
        self.leave_new(job, State::Queued)
    }

    /// `io_submit()` is going to try the file's own asynchronous path.
    pub(crate) fn go_native(&mut self, job: J) -> Result<(), J> {
        self.leave_new(job, State::Native)
    }

    /// `io_submit()` is going to put the request on wait queues.
    pub(crate) fn arm(&mut self, job: J) -> Result<(), J> {
        self.leave_new(job, |job| State::Arming { job, woken: false })
    }

    fn leave_new(&mut self, job: J, next: impl FnOnce(J) -> Self) -> Result<(), J> {
        match self {
            State::New => {
                *self = next(job);
                Ok(())
            }
            _ => Err(job),
        }
    }

    /// The asynchronous path or the wait queues have given the request back to `io_submit()`.
    pub(crate) fn take_back(&mut self) -> Option<J> {
        self.step(|state| match state {
            State::Native(job) | State::Arming { job, .. } => Ok((State::New, job)),
            other => Err(other),
        })
    }

    /// The asynchronous path would have to block. Returns whether the request is queued now.
    pub(crate) fn retry(&mut self) -> bool {
        self.step(|state| match state {
            State::Native(job) => Ok((State::Queued(job), ())),
            other => Err(other),
        })
        .is_some()
    }

    /// From now on the request can be found by whoever cancels. Returns whether it is to be put in
    /// the queue; otherwise it waits to be woken.
    pub(crate) fn publish(&mut self) -> bool {
        let queue = self.step(|state| match state {
            State::Arming { job, woken: true } => Ok((State::Queued(job), true)),
            State::Arming { job, woken: false } => Ok((State::Armed(job), false)),
            other => Err(other),
        });
        queue.unwrap_or(true)
    }

    /// A wait queue tells that something has changed. Returns whether the request is to be put in
    /// the queue.
    pub(crate) fn wake(&mut self) -> bool {
        match self {
            State::Arming { woken, .. } | State::Running { woken, .. } => {
                *woken = true;
                return false;
            }
            _ => {}
        }
        self.step(|state| match state {
            State::Armed(job) => Ok((State::Queued(job), ())),
            other => Err(other),
        })
        .is_some()
    }

    /// A worker has taken the request from its queue.
    pub(crate) fn start(&mut self, worker: W) -> Start<J> {
        self.step(|state| match state {
            State::Queued(job) => Ok((
                State::Running {
                    worker,
                    killed: false,
                    woken: false,
                },
                Start::Run(job),
            )),
            State::Cancelled(job) => Ok((State::Done, Start::Cancelled(job))),
            other => Err(other),
        })
        .unwrap_or(Start::Nothing)
    }

    /// The worker has found the request not ready, and still on its wait queues.
    pub(crate) fn rearm(&mut self, job: J) -> Rearm<J> {
        match self {
            State::Running {
                killed: false,
                woken,
                ..
            } => {
                if core::mem::replace(woken, false) {
                    return Rearm::Again(job);
                }
                *self = State::Armed(job);
                Rearm::Waiting
            }
            _ => Rearm::Killed(job),
        }
    }

    /// Somebody wants the request to end.
    pub(crate) fn cancel(&mut self) -> Cancel<'_, W> {
        let was_queued = self.step(|state| match state {
            State::Queued(job) => Ok((State::Cancelled(job), true)),
            State::Armed(job) => Ok((State::Cancelled(job), false)),
            other => Err(other),
        });
        match (was_queued, self) {
            (Some(true), _) => Cancel::Dequeue,
            (Some(false), _) => Cancel::Disarm,
            (None, State::Running { worker, killed, .. }) if !*killed => {
                *killed = true;
                Cancel::Kill(worker)
            }
            (None, State::Running { .. } | State::Cancelled(_)) => Cancel::Already,
            (None, _) => Cancel::TooLate,
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

    fn running(killed: bool, woken: bool) -> S {
        State::Running {
            worker: 1,
            killed,
            woken,
        }
    }

    fn arming(woken: bool) -> S {
        State::Arming { job: "job", woken }
    }

    const NEW: usize = 0;
    const NATIVE: usize = 1;
    const ARMING: usize = 2;
    const ARMING_WOKEN: usize = 3;
    const ARMED: usize = 4;
    const QUEUED: usize = 5;
    const CANCELLED: usize = 6;
    const RUNNING: usize = 7;
    const RUNNING_WOKEN: usize = 8;
    const KILLED: usize = 9;
    const KILLED_WOKEN: usize = 10;
    const DONE: usize = 11;
    const STATES: usize = 12;

    /// One of each state.
    fn nth(n: usize) -> S {
        match n {
            NEW => State::New,
            NATIVE => State::Native("job"),
            ARMING => arming(false),
            ARMING_WOKEN => arming(true),
            ARMED => State::Armed("job"),
            QUEUED => State::Queued("job"),
            CANCELLED => State::Cancelled("job"),
            RUNNING => running(false, false),
            RUNNING_WOKEN => running(false, true),
            KILLED => running(true, false),
            KILLED_WOKEN => running(true, true),
            _ => State::Done,
        }
    }

    /// Which of `nth()` it is.
    fn number(s: &S) -> usize {
        match s {
            State::New => NEW,
            State::Native(_) => NATIVE,
            State::Arming { woken: false, .. } => ARMING,
            State::Arming { woken: true, .. } => ARMING_WOKEN,
            State::Armed(_) => ARMED,
            State::Queued(_) => QUEUED,
            State::Cancelled(_) => CANCELLED,
            State::Running { killed, woken, .. } => match (killed, woken) {
                (false, false) => RUNNING,
                (false, true) => RUNNING_WOKEN,
                (true, false) => KILLED,
                (true, true) => KILLED_WOKEN,
            },
            State::Done => DONE,
        }
    }

    /// Calls `f` on each state, and looks at what state `then` says comes after it: those that are
    /// not named stay as they are.
    fn each(then: &[(usize, usize)], mut f: impl FnMut(usize, &mut S)) {
        for n in 0..STATES {
            let mut s = nth(n);
            f(n, &mut s);
            let after = then.iter().find(|t| t.0 == n).map_or(n, |t| t.1);
            assert_eq!(number(&s), after);
        }
    }

    #[test]
    fn queue_only_from_new() {
        each(&[(NEW, QUEUED)], |n, s| {
            assert_eq!(s.queue("new").is_ok(), n == NEW);
        });
    }

    #[test]
    fn go_native_only_from_new() {
        each(&[(NEW, NATIVE)], |n, s| {
            assert_eq!(s.go_native("new").is_ok(), n == NEW);
        });
    }

    #[test]
    fn arm_only_from_new() {
        each(&[(NEW, ARMING)], |n, s| {
            assert_eq!(s.arm("new").is_ok(), n == NEW);
        });
    }

    #[test]
    fn take_back_what_nobody_else_has() {
        each(
            &[(NATIVE, NEW), (ARMING, NEW), (ARMING_WOKEN, NEW)],
            |n, s| {
                assert_eq!(
                    s.take_back().is_some(),
                    [NATIVE, ARMING, ARMING_WOKEN].contains(&n)
                );
            },
        );
    }

    #[test]
    fn retry_only_from_native() {
        each(&[(NATIVE, QUEUED)], |n, s| {
            assert_eq!(s.retry(), n == NATIVE);
        });
    }

    #[test]
    fn publish_queues_what_was_woken() {
        each(&[(ARMING, ARMED), (ARMING_WOKEN, QUEUED)], |n, s| {
            assert_eq!(s.publish(), n != ARMING);
        });
    }

    #[test]
    fn a_wake_is_never_lost() {
        each(
            &[
                (ARMING, ARMING_WOKEN),
                (ARMED, QUEUED),
                (RUNNING, RUNNING_WOKEN),
                (KILLED, KILLED_WOKEN),
            ],
            |n, s| {
                // Only one that waits has to be queued: the others find out by themselves.
                assert_eq!(s.wake(), n == ARMED);
            },
        );
    }

    #[test]
    fn start_gives_the_job_away_once() {
        each(&[(QUEUED, RUNNING), (CANCELLED, DONE)], |n, s| {
            match s.start(7) {
                Start::Run(job) => {
                    assert_eq!(n, QUEUED);
                    assert_eq!(job, "job");
                }
                Start::Cancelled(job) => {
                    assert_eq!(n, CANCELLED);
                    assert_eq!(job, "job");
                }
                Start::Nothing => assert!(n != QUEUED && n != CANCELLED),
            }
            assert!(matches!(s.start(8), Start::Nothing));
        });
    }

    #[test]
    fn rearm_waits_unless_something_happened() {
        each(
            &[(RUNNING, ARMED), (RUNNING_WOKEN, RUNNING)],
            |n, s| match s.rearm("back") {
                Rearm::Waiting => assert_eq!(n, RUNNING),
                Rearm::Again(job) => {
                    assert_eq!(n, RUNNING_WOKEN);
                    assert_eq!(job, "back");
                }
                Rearm::Killed(job) => {
                    assert!(n != RUNNING && n != RUNNING_WOKEN);
                    assert_eq!(job, "back");
                }
            },
        );
    }

    #[test]
    fn cancel_from_every_state() {
        each(
            &[
                (ARMED, CANCELLED),
                (QUEUED, CANCELLED),
                (RUNNING, KILLED),
                (RUNNING_WOKEN, KILLED_WOKEN),
            ],
            |n, s| match s.cancel() {
                Cancel::Dequeue => assert_eq!(n, QUEUED),
                Cancel::Disarm => assert_eq!(n, ARMED),
                Cancel::Kill(worker) => {
                    assert_eq!(*worker, 1);
                    assert!(n == RUNNING || n == RUNNING_WOKEN);
                }
                Cancel::Already => assert!([CANCELLED, KILLED, KILLED_WOKEN].contains(&n)),
                Cancel::TooLate => {
                    assert!([NEW, NATIVE, ARMING, ARMING_WOKEN, DONE].contains(&n))
                }
            },
        );
    }

    #[test]
    fn a_second_cancel_does_nothing() {
        for n in [ARMED, QUEUED, RUNNING, RUNNING_WOKEN] {
            let mut s = nth(n);
            assert!(!matches!(s.cancel(), Cancel::Already));
            let after = number(&s);
            assert!(matches!(s.cancel(), Cancel::Already));
            assert_eq!(number(&s), after);
        }
    }

    #[test]
    fn finish_only_from_running() {
        each(
            &[
                (RUNNING, DONE),
                (RUNNING_WOKEN, DONE),
                (KILLED, DONE),
                (KILLED_WOKEN, DONE),
            ],
            |n, s| {
                let expected = match n {
                    RUNNING | RUNNING_WOKEN => Some(false),
                    KILLED | KILLED_WOKEN => Some(true),
                    _ => None,
                };
                assert_eq!(s.finish(), expected);
            },
        );
    }

    #[test]
    fn a_finished_request_cannot_be_killed() {
        let mut s: S = State::New;
        assert!(s.queue("job").is_ok());
        assert!(matches!(s.start(7), Start::Run("job")));
        assert_eq!(s.finish(), Some(false));
        assert!(matches!(s.cancel(), Cancel::TooLate));
        assert!(!s.wake());
        assert_eq!(s.finish(), None);
    }

    #[test]
    fn a_cancelled_request_never_runs() {
        for n in [QUEUED, ARMED] {
            let mut s = nth(n);
            assert!(!matches!(s.cancel(), Cancel::TooLate));
            assert!(!s.wake());
            assert!(matches!(s.start(7), Start::Cancelled("job")));
            assert!(matches!(s.start(7), Start::Nothing));
            assert!(matches!(s.cancel(), Cancel::TooLate));
        }
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

    #[test]
    fn a_wake_while_it_runs_makes_it_try_again() {
        let mut s: S = State::New;
        assert!(s.arm("job").is_ok());
        assert!(!s.publish());
        assert!(s.wake());
        assert!(!s.wake());
        assert!(matches!(s.start(7), Start::Run("job")));
        assert!(!s.wake());
        assert!(matches!(s.rearm("job"), Rearm::Again("job")));
        assert!(matches!(s.rearm("job"), Rearm::Waiting));
        assert!(s.wake());
        assert!(matches!(s.start(8), Start::Run("job")));
    }

    #[test]
    fn a_kill_while_it_runs_beats_a_wake() {
        let mut s = nth(RUNNING_WOKEN);
        assert!(matches!(s.cancel(), Cancel::Kill(1)));
        assert!(matches!(s.rearm("job"), Rearm::Killed("job")));
        assert_eq!(s.finish(), Some(true));
    }
}

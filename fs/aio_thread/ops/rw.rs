// SPDX-License-Identifier: GPL-2.0

//! Reads and writes, plain and vectored.

use kernel::{
    prelude::*,
    sync::Arc,
    warn_on, //
};

use crate::{
    ffi::{
        Attempt,
        Completion,
        Direction,
        Ran,
        RwSubmission,
        Target,
        UserBuffers,
        WaitQueues,
        Way, //
    },
    identity::{
        ActingAs,
        UsingMm, //
    },
    iter::{
        event_result,
        is_error,
        PersistentIter, //
    },
    ops::{
        Kind,
        Op,
        Operation,
        Outcome, //
    },
    request::{
        Job,
        Request,
        Unarmed, //
    },
};

/// How often a transfer is tried that would block although the file is said to be ready, before a
/// worker blocks on it: others may have been quicker.
const TRIES: usize = 8;

/// What a worker needs to carry out, or to finish, a transfer.
pub(crate) struct Rw {
    iter: PersistentIter,
    target: Target,
    /// There is nothing to wait on, although that was tried.
    blocks: bool,
}

impl Operation for Rw {
    fn kind(&self) -> Kind {
        kind(self.target.direction())
    }

    /// Transfers what is left. Where it need not wait for a wait queue one call does, as in
    /// `pread(2)` and `pwrite(2)`.
    fn run(
        &mut self,
        submitter: &ActingAs<'_>,
        alive: &Completion,
        wait: Option<&WaitQueues>,
    ) -> Outcome {
        submitter.with_mm(alive, |mm| {
            if let (Some(wait), false) = (wait, self.blocks) {
                if let Some(outcome) = self.try_again(mm, alive, wait) {
                    return outcome;
                }
            }
            Outcome::Done(self.target.run(mm, alive, &mut self.iter.attempt(), false))
        })
    }

    fn conclude(&self, res: isize, killed: bool) -> isize {
        self.iter.conclude(res, killed)
    }
}

impl Rw {
    /// Goes on after a wait queue was woken, as far as that does not block. Gives `None` if it is
    /// time to block.
    fn try_again(
        &mut self,
        mm: &UsingMm,
        alive: &Completion,
        wait: &WaitQueues,
    ) -> Option<Outcome> {
        let mut tries = 0;
        while tries < TRIES && !wait.is_gone() {
            let left = self.iter.left();
            let res = self.target.run(mm, alive, &mut self.iter.attempt(), true);
            match next(res, left, self.target.direction(), true, || false) {
                Next::Complete(res) => return Some(Outcome::Done(res)),
                Next::Worker(0) => {
                    // Nothing that happens after the attempt is missed, as the request is on the
                    // wait queues all the time. But the attempt may have failed for another reason.
                    if !wait.is_ready(alive) {
                        return Some(Outcome::Wait);
                    }
                    tries += 1;
                }
                Next::Worker(bytes) => {
                    self.iter.advance(bytes);
                    self.target.resume_stream();
                }
            }
        }
        None
    }

    /// An attempt in the submitter has moved `bytes`.
    fn advance(&mut self, bytes: usize, submission: &RwSubmission<'_>) {
        if bytes > 0 {
            self.iter.advance(bytes);
            self.target.resume(submission);
        }
    }
}

fn kind(dir: Direction) -> Kind {
    match dir {
        Direction::Read => Kind::Read,
        Direction::Write => Kind::Write,
    }
}

/// What to do after an attempt that must not block.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Complete the request with this.
    Complete(isize),
    /// A worker goes on after so many bytes.
    Worker(usize),
}

/// Decides whether an attempt that has led to `res`, with `left` bytes to do before it, was enough.
///
/// A blocking read of a stream returns what is there; one of a file goes on to its end, and so does
/// a blocking write of either.
fn next(
    res: isize,
    left: usize,
    dir: Direction,
    stream: bool,
    at_end: impl FnOnce() -> bool,
) -> Next {
    if is_error(res, EAGAIN) {
        return Next::Worker(0);
    }
    let Ok(bytes) = usize::try_from(res) else {
        return Next::Complete(event_result(res));
    };
    if bytes == 0 || bytes >= left {
        return Next::Complete(res);
    }
    match dir {
        Direction::Read if stream => Next::Complete(res),
        _ if at_end() => Next::Complete(res),
        _ => Next::Worker(bytes),
    }
}

/// Submits a transfer.
///
/// Called by the submitter. Does not wait for I/O, unless the file is one that has to be called by
/// the submitter ([`Way::Caller`]). An error means that the request was not taken, and that nothing
/// is left of it.
pub(crate) fn submit(
    mut submission: RwSubmission<'_>,
    completion: Completion,
    buffers: UserBuffers,
) -> Result {
    let way = submission.way()?;
    let iter = PersistentIter::import(submission.direction(), buffers)?;
    submission.verify(iter.left())?;
    let kind = kind(submission.direction());
    match way {
        Way::Caller => {
            Ran::Submitter.count(kind, 1);
            if let Attempt::Result(res) = submission.run_in_caller(iter.attempt()) {
                submission.complete(completion, event_result(res));
            }
            Ok(())
        }
        Way::Nowait => try_nowait(submission, completion, iter),
        Way::Native => try_native(submission, completion, iter),
        Way::Worker => {
            let target = submission.target();
            let ioprio = target.ioprio();
            let op = Op::Rw(Rw {
                iter,
                target,
                blocks: false,
            });
            Request::queue(submission.into(), completion, op, ioprio)
        }
    }
}

fn try_nowait(
    mut submission: RwSubmission<'_>,
    completion: Completion,
    iter: PersistentIter,
) -> Result {
    let target = submission.target();
    let kind = kind(target.direction());
    let res = match submission.try_nowait(iter.attempt()) {
        Attempt::Queued => {
            Ran::Native.count(kind, 1);
            return Ok(());
        }
        Attempt::Result(res) => res,
    };
    let bytes = match decide(&submission, iter.left(), res) {
        Next::Complete(res) => {
            Ran::AtOnce.count(kind, 1);
            submission.complete(completion, res);
            return Ok(());
        }
        Next::Worker(bytes) => bytes,
    };
    match prepare(&submission, &target) {
        Ok(request) => {
            let mut op = Rw {
                iter,
                target,
                blocks: false,
            };
            op.advance(bytes, &submission);
            go_on(submission, completion, request, op);
            Ok(())
        }
        // What was moved can't be undone.
        Err(_) if bytes > 0 => {
            Ran::AtOnce.count(kind, 1);
            submission.complete(completion, res);
            Ok(())
        }
        Err(e) => Err(e),
    }
}

/// The object for a request that goes on after `io_submit()`, perhaps without a worker.
fn prepare(submission: &RwSubmission<'_>, target: &Target) -> Result<Arc<Request>> {
    let wait = match submission.events_to_wait_for() {
        0 => None,
        events => Some(WaitQueues::new(events)?),
    };
    Request::new(submission.base(), target.ioprio(), wait)
}

/// Waits for the file without a worker, if that is possible, or else with one.
fn go_on(submission: RwSubmission<'_>, completion: Completion, request: Arc<Request>, op: Rw) {
    if request.wait.is_none() {
        let op = Op::Rw(op);
        request.queue_job(submission.into(), Job { op, completion });
        return;
    }
    let file = op.target.file();
    let op = Op::Rw(op);
    let job = Job { op, completion };
    let back = request.clone().arm(submission.into(), job, &file);
    let Some(Unarmed {
        job: Some(mut job),
        submission,
        ..
    }) = back
    else {
        return;
    };
    // Nothing to wait on, or no memory for that.
    Ran::Worker.count(job.kind(), 1);
    if let Op::Rw(op) = &mut job.op {
        op.blocks = true;
    }
    let queued = request.state.lock().queue(job);
    warn_on!(queued.is_err());
    submission.queue();
}

/// The asynchronous path may find out after `io_submit()` that it would block: so everything that a
/// worker needs is got ready beforehand.
fn try_native(
    mut submission: RwSubmission<'_>,
    completion: Completion,
    iter: PersistentIter,
) -> Result {
    let target = submission.target();
    let kind = kind(target.direction());
    let request = Request::new(submission.base(), target.ioprio(), None)?;
    let attempt = iter.attempt();
    let left = iter.left();
    let op = Op::Rw(Rw {
        iter,
        target,
        blocks: false,
    });
    let native = request.state.lock().go_native(Job { op, completion });
    warn_on!(native.is_err());
    submission.attach(request.clone());

    let res = match submission.try_nowait(attempt) {
        Attempt::Queued => {
            Ran::Native.count(kind, 1);
            return Ok(());
        }
        Attempt::Result(res) => res,
    };
    let mut state = request.state.lock();
    let Some(mut job) = state.take_back() else {
        // It cannot have been completed and come back as well.
        return Ok(());
    };
    match decide(&submission, left, res) {
        Next::Complete(res) => {
            drop(state);
            Ran::Native.count(kind, 1);
            submission.complete(job.completion, res);
        }
        Next::Worker(bytes) => {
            if let Op::Rw(op) = &mut job.op {
                op.advance(bytes, &submission);
            }
            let queued = state.queue(job);
            warn_on!(queued.is_err());
            drop(state);
            submission.queue();
        }
    }
    Ok(())
}

fn decide(submission: &RwSubmission<'_>, left: usize, res: isize) -> Next {
    next(
        res,
        left,
        submission.direction(),
        submission.is_stream(),
        || submission.at_end(),
    )
}

#[kunit_tests(aio_thread_rw)]
mod tests {
    use super::*;

    fn errno(e: Error) -> isize {
        e.to_errno() as isize
    }

    const DIRECTIONS: [Direction; 2] = [Direction::Read, Direction::Write];

    #[test]
    fn all_of_it_is_enough() {
        for dir in DIRECTIONS {
            for stream in [false, true] {
                assert_eq!(next(10, 10, dir, stream, || false), Next::Complete(10));
                assert_eq!(next(0, 0, dir, stream, || false), Next::Complete(0));
            }
        }
    }

    #[test]
    fn what_would_block_goes_to_a_worker() {
        for dir in DIRECTIONS {
            for stream in [false, true] {
                assert_eq!(
                    next(errno(EAGAIN), 10, dir, stream, || true),
                    Next::Worker(0)
                );
            }
        }
    }

    #[test]
    fn an_error_is_an_answer() {
        for dir in DIRECTIONS {
            assert_eq!(
                next(errno(EIO), 10, dir, false, || false),
                Next::Complete(errno(EIO))
            );
        }
    }

    #[test]
    fn a_short_read_of_a_stream_is_an_answer() {
        assert_eq!(
            next(3, 10, Direction::Read, true, || false),
            Next::Complete(3)
        );
    }

    #[test]
    fn a_short_read_of_a_file_is_one_at_its_end() {
        assert_eq!(
            next(3, 10, Direction::Read, false, || true),
            Next::Complete(3)
        );
        assert_eq!(
            next(3, 10, Direction::Read, false, || false),
            Next::Worker(3)
        );
        assert_eq!(
            next(0, 10, Direction::Read, false, || false),
            Next::Complete(0)
        );
    }

    #[test]
    fn a_short_write_at_the_limit_is_an_answer() {
        // One more would raise SIGXFSZ.
        assert_eq!(
            next(3, 10, Direction::Write, false, || true),
            Next::Complete(3)
        );
    }

    #[test]
    fn a_short_write_is_finished() {
        for stream in [false, true] {
            assert_eq!(
                next(3, 10, Direction::Write, stream, || false),
                Next::Worker(3)
            );
        }
    }
}

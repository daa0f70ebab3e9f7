// SPDX-License-Identifier: GPL-2.0

//! Reads and writes, plain and vectored.

use kernel::{
    prelude::*,
    warn_on, //
};

use crate::{
    ffi::{
        Attempt,
        Completion,
        Direction,
        Stat,
        Submission,
        Target,
        UserBuffers,
        Way, //
    },
    identity::ActingAs,
    iter::{
        event_result,
        is_error,
        PersistentIter, //
    },
    request::{
        Job,
        Request, //
    },
};

/// What a worker needs to carry out, or to finish, a transfer.
pub(crate) struct Rw {
    iter: PersistentIter,
    target: Target,
}

impl Rw {
    /// Transfers what is left. One call does, as in `pread(2)` and `pwrite(2)`.
    pub(crate) fn run(&self, submitter: &ActingAs<'_>, alive: &Completion) -> isize {
        self.target.run(submitter, alive, &mut self.iter.attempt())
    }

    /// What the event says.
    pub(crate) fn conclude(&self, res: isize, killed: bool) -> isize {
        self.iter.conclude(res, killed)
    }

    /// An attempt in the submitter has moved `bytes`.
    fn advance(&mut self, bytes: usize, submission: &Submission<'_>) {
        if bytes > 0 {
            self.iter.advance(bytes);
            self.target.resume(submission);
        }
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
    mut submission: Submission<'_>,
    completion: Completion,
    buffers: UserBuffers,
) -> Result {
    let way = submission.way()?;
    let iter = PersistentIter::import(submission.direction(), buffers)?;
    submission.verify(iter.left())?;
    match way {
        Way::Caller => {
            Stat::Submitter.add(1);
            if let Attempt::Result(res) = submission.run_in_caller(iter.attempt()) {
                submission.complete(completion, event_result(res));
            }
            Ok(())
        }
        Way::Nowait => try_nowait(submission, completion, iter),
        Way::Native => try_native(submission, completion, iter),
        Way::Worker => {
            let target = submission.target();
            let request = Request::new(target.ioprio())?;
            let op = Rw { iter, target };
            queue(submission, request, Job { op, completion });
            Ok(())
        }
    }
}

/// Gives a request object that nobody knows yet its job, and queues it.
fn queue(submission: Submission<'_>, request: kernel::sync::Arc<Request>, job: Job) {
    let queued = request.state.lock().queue(job);
    warn_on!(queued.is_err());
    submission.attach(request);
    submission.queue();
}

fn try_nowait(
    mut submission: Submission<'_>,
    completion: Completion,
    iter: PersistentIter,
) -> Result {
    let target = submission.target();
    let res = match submission.try_nowait(iter.attempt()) {
        Attempt::Queued => {
            Stat::Native.add(1);
            return Ok(());
        }
        Attempt::Result(res) => res,
    };
    let bytes = match decide(&submission, &iter, res) {
        Next::Complete(res) => {
            Stat::AtOnce.add(1);
            submission.complete(completion, res);
            return Ok(());
        }
        Next::Worker(bytes) => bytes,
    };
    let request = match Request::new(target.ioprio()) {
        Ok(request) => request,
        // What was moved can't be undone.
        Err(_) if bytes > 0 => {
            submission.complete(completion, res);
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    let mut op = Rw { iter, target };
    op.advance(bytes, &submission);
    queue(submission, request, Job { op, completion });
    Ok(())
}

/// The asynchronous path may find out after `io_submit()` that it would block: so everything that a
/// worker needs is got ready beforehand.
fn try_native(
    mut submission: Submission<'_>,
    completion: Completion,
    iter: PersistentIter,
) -> Result {
    let target = submission.target();
    let request = Request::new(target.ioprio())?;
    let attempt = iter.attempt();
    let op = Rw { iter, target };
    let native = request.state.lock().go_native(Job { op, completion });
    warn_on!(native.is_err());
    submission.attach(request.clone());

    let res = match submission.try_nowait(attempt) {
        Attempt::Queued => {
            Stat::Native.add(1);
            return Ok(());
        }
        Attempt::Result(res) => res,
    };
    let mut state = request.state.lock();
    let Some(mut job) = state.take_back() else {
        // It cannot have been completed and come back as well.
        return Ok(());
    };
    match decide(&submission, &job.op.iter, res) {
        Next::Complete(res) => {
            drop(state);
            Stat::Native.add(1);
            submission.complete(job.completion, res);
        }
        Next::Worker(bytes) => {
            job.op.advance(bytes, &submission);
            let queued = state.queue(job);
            warn_on!(queued.is_err());
            drop(state);
            submission.queue();
        }
    }
    Ok(())
}

fn decide(submission: &Submission<'_>, iter: &PersistentIter, res: isize) -> Next {
    next(
        res,
        iter.left(),
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

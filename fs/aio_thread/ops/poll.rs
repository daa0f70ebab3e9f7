// SPDX-License-Identifier: GPL-2.0

//! Polls of files that have more than one wait queue; those with one stay in `fs/aio.c`.

use kernel::prelude::*;

use crate::{
    ffi::{
        Completion,
        Ran,
        RequestFile,
        Submission,
        WaitQueues, //
    },
    identity::ActingAs,
    ops::{
        Kind,
        Op,
        Operation,
        Outcome, //
    },
    request::{
        Job,
        Request, //
    },
};

/// Waits for one of the events that its wait queues are for.
pub(crate) struct Poll;

impl Operation for Poll {
    fn kind(&self) -> Kind {
        Kind::Poll
    }

    fn run(
        &mut self,
        _submitter: &ActingAs<'_>,
        alive: &Completion,
        wait: Option<&WaitQueues>,
    ) -> Outcome {
        let Some(wait) = wait else {
            return Outcome::Done(EINVAL.to_errno() as isize);
        };
        match wait.poll(alive) {
            // A queue that is gone wakes nobody any more: as upstream, no events is the result.
            0 if !wait.is_gone() => Outcome::Wait,
            events => Outcome::Done(events as isize),
        }
    }
}

/// Submits a poll for `events`.
///
/// Called by the submitter. Fails with `EINVAL` if the file has no wait queues after all, or with
/// `ENOMEM`.
pub(crate) fn submit(
    submission: Submission<'_>,
    completion: Completion,
    file: RequestFile,
    events: u32,
) -> Result {
    let now = file.poll(events);
    if now != 0 {
        Ran::AtOnce.count(Kind::Poll, 1);
        submission.complete(completion, now as isize);
        return Ok(());
    }
    // Nothing is read or written, so that the priority does not matter.
    let request = Request::new(&submission, 0, Some(WaitQueues::new(events)?))?;
    let job = Job {
        op: Op::Poll(Poll),
        completion,
    };
    match request.arm(submission, job, &file) {
        None => Ok(()),
        Some(unarmed) => Err(unarmed.error),
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Readahead: the event comes when the range is in the page cache.

use kernel::prelude::*;

use crate::{
    ffi::{
        self,
        int_arg,
        Completion,
        Iocb,
        Ran,
        RequestFile,
        Submission,
        SystemCall,
        WaitQueues, //
    },
    identity::ActingAs,
    ops::{
        Kind,
        Op,
        Operation,
        Outcome, //
    },
    request::Request, //
};

/// Reads a range of a file into the page cache.
pub(crate) struct Readahead {
    file: RequestFile,
    range: Range,
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    /// First byte.
    pub(crate) pos: i64,
    /// Number of bytes. The end is no larger than the largest offset.
    pub(crate) len: usize,
}

impl Range {
    /// Fails with `EINVAL` if there are no such offsets.
    fn new(pos: i64, len: u64) -> Result<Self> {
        let end = i64::try_from(len).ok().and_then(|len| pos.checked_add(len));
        if pos < 0 || end.is_none() {
            return Err(EINVAL);
        }
        Ok(Self {
            pos,
            len: usize::try_from(len).map_err(|_| EINVAL)?,
        })
    }
}

impl Operation for Readahead {
    fn kind(&self) -> Kind {
        Kind::Readahead
    }

    fn run(
        &mut self,
        submitter: &ActingAs<'_>,
        alive: &Completion,
        _wait: Option<&WaitQueues>,
    ) -> Outcome {
        Outcome::Done(self.file.readahead(submitter, alive, self.range))
    }
}

/// Submits a readahead.
///
/// Called by the submitter; does not wait for I/O. Fails as `readahead(2)` does if the file cannot
/// be read ahead, with `EINVAL` if a field is set that there is no use for or the range is none,
/// or with `ENOMEM`.
pub(crate) fn submit(
    submission: Submission<'_>,
    completion: Completion,
    iocb: &Iocb,
    file: RequestFile,
) -> Result {
    let range = check(iocb)?;
    let ioprio = iocb.ioprio()?;
    let call = SystemCall::Readahead(int_arg(iocb.fd), iocb.offset as u64, iocb.nbytes);
    if let Err(res) = call.seccomp() {
        Ran::AtOnce.count(Kind::Readahead, 1);
        submission.complete(completion, res);
        return Ok(());
    }
    file.may_readahead()?;
    if !ffi::force_worker() {
        if let Some(bytes) = file.readahead_present(range) {
            Ran::AtOnce.count(Kind::Readahead, 1);
            submission.complete(completion, bytes);
            return Ok(());
        }
    }
    let op = Op::Readahead(Readahead { file, range });
    Request::queue(submission, completion, op, ioprio)
}

fn check(iocb: &Iocb) -> Result<Range> {
    if iocb.buf != 0 || iocb.rw_flags != 0 {
        return Err(EINVAL);
    }
    Range::new(iocb.offset, iocb.nbytes)
}

#[kunit_tests(aio_thread_readahead)]
mod tests {
    use super::*;

    fn refused(iocb: Iocb) -> bool {
        check(&iocb).is_err_and(|e| e == EINVAL)
    }

    #[test]
    fn no_field_but_file_and_range() {
        let none = Iocb::default();
        assert!(check(&none).is_ok_and(|range| range == Range { pos: 0, len: 0 }));
        assert!(refused(Iocb { buf: 1, ..none }));
        assert!(refused(Iocb {
            rw_flags: 1,
            ..none
        }));
    }

    #[test]
    fn a_range_is_made_of_offsets() {
        let largest = i64::MAX;
        for (pos, len, ok) in [
            (0, 0, true),
            (largest, 0, true),
            (largest - 1, 1, true),
            (largest, 1, false),
            (0, largest as u64, true),
            (1, largest as u64, false),
            (0, largest as u64 + 1, false),
            (0, u64::MAX, false),
            (-1, 0, false),
            (-1, 1, false),
            (i64::MIN, 0, false),
        ] {
            let iocb = Iocb {
                offset: pos,
                nbytes: len,
                ..Iocb::default()
            };
            assert_eq!(check(&iocb).is_ok(), ok);
        }
    }
}

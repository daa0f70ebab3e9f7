// SPDX-License-Identifier: GPL-2.0

//! fsync and fdsync: always in a worker, and without an mm.

use kernel::prelude::*;

use crate::{
    ffi::{
        Completion,
        Iocb,
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
    request::Request, //
};

/// Brings a file to the disk.
pub(crate) struct Fsync {
    file: RequestFile,
    datasync: bool,
}

impl Operation for Fsync {
    fn kind(&self) -> Kind {
        Kind::Fsync
    }

    fn run(
        &mut self,
        submitter: &ActingAs<'_>,
        alive: &Completion,
        _wait: Option<&WaitQueues>,
    ) -> Outcome {
        Outcome::Done(self.file.fsync(submitter, alive, self.datasync))
    }
}

/// Submits an fsync or fdsync.
///
/// Called by the submitter; does not wait for I/O. Fails with `EINVAL` if a field is set that there
/// is no use for, or the file cannot be synced; with `ENOMEM`; or with what the I/O priority is
/// refused with.
pub(crate) fn submit(
    submission: Submission<'_>,
    completion: Completion,
    iocb: &Iocb,
    file: RequestFile,
    datasync: bool,
) -> Result {
    check(iocb)?;
    if !file.has_fsync() {
        return Err(EINVAL);
    }
    let op = Op::Fsync(Fsync { file, datasync });
    Request::queue(submission, completion, op, iocb.ioprio()?)
}

fn check(iocb: &Iocb) -> Result {
    if iocb.buf != 0 || iocb.offset != 0 || iocb.nbytes != 0 || iocb.rw_flags != 0 {
        return Err(EINVAL);
    }
    Ok(())
}

#[kunit_tests(aio_thread_fsync)]
mod tests {
    use super::*;

    #[test]
    fn no_field_but_the_file() {
        let none = Iocb::default();
        assert!(check(&none).is_ok());
        for iocb in [
            Iocb { buf: 1, ..none },
            Iocb { offset: 1, ..none },
            Iocb { nbytes: 1, ..none },
            Iocb {
                rw_flags: 1,
                ..none
            },
        ] {
            assert!(check(&iocb).is_err_and(|e| e == EINVAL));
        }
    }
}

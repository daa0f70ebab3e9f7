// SPDX-License-Identifier: GPL-2.0

//! Operations on paths: openat, unlinkat, renameat.
//!
//! Names, and what the caller's structures hold, are copied at submission, and so are the open
//! files that directory descriptors stand for: what becomes of the descriptor afterwards does not
//! matter.
//!
//! The worker has no descriptor table of the submitter; it finds the directories of its request by
//! their number in it ([`DirFd`]).

use kernel::prelude::*;

use crate::{
    ffi::{
        self,
        int_arg,
        Completion,
        Descriptor,
        DirFd,
        DirFiles,
        Iocb,
        Name,
        OpenHow,
        PathContext,
        Ran,
        RenameInfo,
        Submission,
        SystemCall,
        WaitQueues, //
    },
    identity::ActingAs,
    iter::event_result,
    ops::{
        Kind,
        Op,
        Operation,
        Outcome, //
    },
    request::Request, //
};

fn done(result: Result<isize>) -> Outcome {
    Outcome::Done(to_res(result))
}

fn to_res(result: Result<isize>) -> isize {
    match result {
        Ok(value) => value,
        Err(e) => e.to_errno() as isize,
    }
}

/// An empty name is an operation's result, other errors refuse a request.
fn name_or_result(name: Result<Name>) -> Result<Result<Name>> {
    match name {
        Err(e) if e != ENOENT => Err(e),
        name => Ok(name),
    }
}

/// What is asked of all of them before anything is copied: that the one field for which there is no
/// use, and the flags for reads and writes, are 0. Returns the I/O priority.
fn admit(iocb: &Iocb, unused_is_0: bool) -> Result<u16> {
    if !unused_is_0 || iocb.rw_flags != 0 {
        return Err(EINVAL);
    }
    iocb.ioprio()
}

/// Completes a request whose result is known without running it.
fn complete(
    submission: Submission<'_>,
    completion: Completion,
    kind: Kind,
    result: Result<isize>,
) -> Result {
    complete_with(submission, completion, kind, to_res(result))
}

fn complete_with(
    submission: Submission<'_>,
    completion: Completion,
    kind: Kind,
    res: isize,
) -> Result {
    Ran::AtOnce.count(kind, 1);
    submission.complete(completion, res);
    Ok(())
}

/// Carries a request out in the submitter, as the system call that it stands for. May sleep.
fn run_in_submitter(
    submission: Submission<'_>,
    completion: Completion,
    kind: Kind,
    call: SystemCall,
    f: impl FnOnce(&Submission<'_>) -> Result<isize>,
) -> Result {
    let res = call.run_here(&submission, || event_result(to_res(f(&submission))))?;
    Ran::Submitter.count(kind, 1);
    submission.complete(completion, res);
    Ok(())
}

/// A directory that there has to be, if the name is one that needs it.
fn check_dir(fd: i32, name: &Result<Name>) -> Result {
    match name {
        Ok(name) => ffi::check_dir(fd, name),
        Err(_) => Ok(()),
    }
}

/// Opens a file, and puts it into the submitter's descriptor table.
pub(crate) struct Openat {
    name: Name,
    dir: DirFd,
    how: OpenHow,
    descriptor: Option<Descriptor>,
    context: PathContext,
}

impl Operation for Openat {
    fn kind(&self) -> Kind {
        Kind::Openat
    }

    fn run(
        &mut self,
        submitter: &ActingAs<'_>,
        _alive: &Completion,
        _wait: Option<&WaitQueues>,
    ) -> Outcome {
        let file = submitter.with_paths(&self.context, |paths| {
            ffi::openat(paths, self.dir, &mut self.name, self.how)
        });
        done(file.and_then(|file| {
            let descriptor = self.descriptor.take().ok_or(EBADF)?;
            descriptor.install(file)
        }))
    }

    fn cancelled(&mut self) {
        self.descriptor = None;
    }
}

/// Submits an openat.
///
/// Called by the submitter; does not wait for I/O unless a worker cannot stand in. An open that
/// finds everything cached, of a file whose opening does not wait, is done at once.
pub(crate) fn submit_openat(
    submission: Submission<'_>,
    completion: Completion,
    iocb: &Iocb,
) -> Result {
    let ioprio = admit(iocb, iocb.nbytes == 0)?;
    let (flags, mode) = (iocb.offset as u32, (iocb.offset as u64 >> 32) as u32);
    let how = OpenHow::new(flags, mode)?;
    let kind = Kind::Openat;
    let call = SystemCall::Openat(int_arg(iocb.fd), iocb.buf, flags.into(), mode.into());
    if let Err(res) = call.seccomp() {
        return complete_with(submission, completion, kind, res);
    }
    let name = name_or_result(Name::import(iocb.buf, how.empty_name_is_one()))?;
    check_dir(iocb.fd, &name)?;
    if ffi::paths_in_submitter() {
        return run_in_submitter(submission, completion, kind, call, |here| {
            let name = name?;
            let descriptor = Descriptor::reserve(how)?;
            descriptor.install(ffi::openat_here(here, iocb.fd, name, how)?)
        });
    }
    let mut name = match name {
        Ok(name) => name,
        Err(e) => return complete(submission, completion, kind, Err(e)),
    };
    // Before the path is looked at, as in a system call.
    let descriptor = match Descriptor::reserve(how) {
        Ok(descriptor) => descriptor,
        Err(e) => return complete(submission, completion, kind, Err(e)),
    };
    if !ffi::force_worker() {
        match ffi::openat_at_once(iocb.fd, &mut name, how) {
            Err(e) if e == EAGAIN => {}
            file => {
                let result = file.and_then(|file| descriptor.install(file));
                return complete(submission, completion, kind, result);
            }
        }
    }
    // A worker may not be able to.
    if let Some(file) = ffi::openat_as_submitter(&submission, iocb.fd, &mut name, how) {
        let result = file.and_then(|file| descriptor.install(file));
        Ran::Submitter.count(kind, 1);
        submission.complete(completion, event_result(to_res(result)));
        return Ok(());
    }
    let mut dirs = DirFiles::new();
    let op = Openat {
        dir: dirs.capture(iocb.fd, &name)?,
        name,
        how,
        descriptor: Some(descriptor),
        context: PathContext::capture(dirs)?,
    };
    Request::queue(submission, completion, Op::Openat(op), ioprio)
}

/// Removes a file or an empty directory.
pub(crate) struct Unlinkat {
    name: Name,
    dir: DirFd,
    rmdir: bool,
    context: PathContext,
}

impl Operation for Unlinkat {
    fn kind(&self) -> Kind {
        Kind::Unlinkat
    }

    fn run(
        &mut self,
        submitter: &ActingAs<'_>,
        _alive: &Completion,
        _wait: Option<&WaitQueues>,
    ) -> Outcome {
        done(submitter.with_paths(&self.context, |paths| {
            ffi::unlinkat(paths, self.dir, &mut self.name, self.rmdir)
        }))
    }
}

/// The flags of an unlinkat: whether it is a directory that is to go.
fn unlink_flags(flags: i64) -> Result<bool> {
    match flags {
        0 => Ok(false),
        flags if flags == i64::from(kernel::bindings::AT_REMOVEDIR) => Ok(true),
        _ => Err(EINVAL),
    }
}

/// Submits an unlinkat.
///
/// Called by the submitter; does not wait for I/O unless a worker cannot stand in.
pub(crate) fn submit_unlinkat(
    submission: Submission<'_>,
    completion: Completion,
    iocb: &Iocb,
) -> Result {
    let ioprio = admit(iocb, iocb.nbytes == 0)?;
    let rmdir = unlink_flags(iocb.offset)?;
    let call = SystemCall::Unlinkat(int_arg(iocb.fd), iocb.buf, iocb.offset as u64);
    if let Err(res) = call.seccomp() {
        return complete_with(submission, completion, Kind::Unlinkat, res);
    }
    let name = name_or_result(Name::import(iocb.buf, false))?;
    check_dir(iocb.fd, &name)?;
    if ffi::paths_in_submitter() {
        return run_in_submitter(submission, completion, Kind::Unlinkat, call, |here| {
            ffi::unlinkat_here(here, iocb.fd, name?, rmdir)
        });
    }
    let name = match name {
        Ok(name) => name,
        Err(e) => return complete(submission, completion, Kind::Unlinkat, Err(e)),
    };
    let mut dirs = DirFiles::new();
    let op = Unlinkat {
        dir: dirs.capture(iocb.fd, &name)?,
        name,
        rmdir,
        context: PathContext::capture(dirs)?,
    };
    Request::queue(submission, completion, Op::Unlinkat(op), ioprio)
}

/// Gives a file another name.
pub(crate) struct Renameat {
    names: [Name; 2],
    dirs: [DirFd; 2],
    flags: u32,
    context: PathContext,
}

impl Operation for Renameat {
    fn kind(&self) -> Kind {
        Kind::Renameat
    }

    fn run(
        &mut self,
        submitter: &ActingAs<'_>,
        _alive: &Completion,
        _wait: Option<&WaitQueues>,
    ) -> Outcome {
        let [from, to] = &mut self.names;
        done(submitter.with_paths(&self.context, |paths| {
            ffi::renameat(paths, self.dirs, from, to, self.flags)
        }))
    }
}

/// The flags of a renameat. Which of them go together is for the operation to say.
fn rename_flags(flags: u64) -> Result<u32> {
    const KNOWN: u32 = kernel::bindings::RENAME_NOREPLACE
        | kernel::bindings::RENAME_EXCHANGE
        | kernel::bindings::RENAME_WHITEOUT;

    match u32::try_from(flags) {
        Ok(flags) if flags & !KNOWN == 0 => Ok(flags),
        _ => Err(EINVAL),
    }
}

/// A directory descriptor, as the structure for renameat has it.
fn rename_dirfd(fd: i64) -> Result<i32> {
    i32::try_from(fd).map_err(|_| EBADF)
}

/// Submits a renameat.
///
/// Called by the submitter; does not wait for I/O unless a worker cannot stand in.
pub(crate) fn submit_renameat(
    submission: Submission<'_>,
    completion: Completion,
    iocb: &Iocb,
) -> Result {
    let ioprio = admit(iocb, iocb.offset == 0)?;
    let info = RenameInfo::import(iocb.buf, iocb.nbytes)?;
    let flags = rename_flags(info.flags)?;
    let fds = [rename_dirfd(info.olddirfd)?, rename_dirfd(info.newdirfd)?];
    let call = SystemCall::Renameat2(
        int_arg(fds[0]),
        info.oldpath,
        int_arg(fds[1]),
        info.newpath,
        flags.into(),
    );
    if let Err(res) = call.seccomp() {
        return complete_with(submission, completion, Kind::Renameat, res);
    }
    let from = name_or_result(Name::import(info.oldpath, false))?;
    let to = name_or_result(Name::import(info.newpath, false))?;
    if from.is_ok() && to.is_ok() {
        check_dir(fds[0], &from)?;
        check_dir(fds[1], &to)?;
    }
    if ffi::paths_in_submitter() {
        return run_in_submitter(submission, completion, Kind::Renameat, call, |here| {
            ffi::renameat_here(here, fds, from?, to?, flags)
        });
    }
    let (from, to) = match (from, to) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(e), _) | (_, Err(e)) => {
            return complete(submission, completion, Kind::Renameat, Err(e))
        }
    };
    let mut dirs = DirFiles::new();
    let op = Renameat {
        dirs: [dirs.capture(fds[0], &from)?, dirs.capture(fds[1], &to)?],
        names: [from, to],
        flags,
        context: PathContext::capture(dirs)?,
    };
    Request::queue(submission, completion, Op::Renameat(op), ioprio)
}

#[kunit_tests(aio_thread_path)]
mod tests {
    use super::*;

    #[test]
    fn unlinkat_knows_one_flag() {
        let removedir = i64::from(kernel::bindings::AT_REMOVEDIR);
        assert!(matches!(unlink_flags(0), Ok(false)));
        assert!(matches!(unlink_flags(removedir), Ok(true)));
        for bit in 0..64 {
            let flag = 1i64.wrapping_shl(bit);
            assert_eq!(unlink_flags(flag).is_ok(), flag == removedir);
            assert!(flag == removedir || unlink_flags(flag | removedir).is_err());
        }
    }

    #[test]
    fn renameat_knows_three_flags() {
        assert!(matches!(rename_flags(0), Ok(0)));
        for bit in 0..64 {
            assert_eq!(rename_flags(1 << bit).is_ok(), bit < 3);
        }
        // What contradicts itself is refused by the operation.
        assert!(matches!(rename_flags(7), Ok(7)));
    }

    #[test]
    fn a_directory_descriptor_is_an_int() {
        assert!(matches!(rename_dirfd(0), Ok(0)));
        assert!(matches!(rename_dirfd(-100), Ok(-100)));
        for fd in [1 << 31, 1 << 32, -(1 << 31) - 1, i64::MAX, i64::MIN] {
            assert!(rename_dirfd(fd).is_err_and(|e| e == EBADF));
        }
    }

    #[test]
    fn open_flags_and_mode() {
        let flags = |flags: u32| OpenHow::new(flags, 0);
        assert!(flags(0).is_ok());
        assert!(flags(kernel::bindings::O_CREAT | kernel::bindings::O_EXCL).is_ok());
        // Nobody knows these bits.
        assert!(flags(1 << 31).is_err_and(|e| e == EINVAL));
        // A directory can't be created so.
        let dir = kernel::bindings::O_CREAT | kernel::bindings::O_DIRECTORY;
        assert!(flags(dir).is_err_and(|e| e == EINVAL));
    }

    #[test]
    fn the_new_opcodes_know_two_flags() {
        for bit in 0..32 {
            let mut iocb = Iocb {
                opcode: Iocb::OPENAT,
                flags: 1 << bit,
                ..Iocb::default()
            };
            assert_eq!(iocb.check_flags().is_ok(), bit < 2);
            iocb.opcode = Iocb::FSYNC;
            assert!(iocb.check_flags().is_ok());
        }
    }

    #[test]
    fn only_an_empty_name_is_a_result() {
        assert!(matches!(name_or_result(Err(ENOENT)), Ok(Err(_))));
        assert!(name_or_result(Err(EFAULT)).is_err_and(|e| e == EFAULT));
        assert!(name_or_result(Err(ENAMETOOLONG)).is_err_and(|e| e == ENAMETOOLONG));
    }

    #[test]
    fn results() {
        assert_eq!(to_res(Ok(3)), 3);
        assert_eq!(to_res(Err(ENOTDIR)), ENOTDIR.to_errno() as isize);
    }
}

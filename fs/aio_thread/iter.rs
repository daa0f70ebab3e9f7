// SPDX-License-Identifier: GPL-2.0

//! The persistent iterator: what is left of a transfer, and how much is done.
//!
//! A request may go through several hands: an attempt in `io_submit()`, the file's own asynchronous
//! path, a worker. Each gets a copy of the iterator to use up. Only what it reports as done moves
//! the original, so one that gave up half-way leaves no trace, and the result counts every byte
//! once.

use kernel::{
    error::code,
    prelude::*, //
};

use crate::ffi::{
    Direction,
    UserBuffers,
    UserIter, //
};

/// An iterator over a request's buffers that belongs to the request.
pub(crate) struct PersistentIter {
    iter: UserIter,
    done: usize,
}

impl PersistentIter {
    /// Copies what the user describes; nothing of it is looked at again afterwards.
    ///
    /// Called by the submitter; may sleep for memory. Fails as `readv(2)` and `writev(2)` do, and
    /// with `ENOMEM`.
    pub(crate) fn import(dir: Direction, from: UserBuffers) -> Result<Self> {
        Ok(Self {
            iter: UserIter::import(dir, from)?,
            done: 0,
        })
    }

    /// A copy to be used up by one attempt.
    pub(crate) fn attempt(&self) -> UserIter {
        self.iter.clone()
    }

    /// Bytes left.
    pub(crate) fn left(&self) -> usize {
        self.iter.len()
    }

    /// Bytes done.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn done(&self) -> usize {
        self.done
    }

    /// Takes note that an attempt has moved `bytes`.
    pub(crate) fn advance(&mut self, bytes: usize) {
        let bytes = bytes.min(self.left());
        self.iter.advance(bytes);
        self.done += bytes;
    }

    /// What the event says, after the last attempt ended with `res`: all bytes that were moved, or
    /// the error if there were none.
    pub(crate) fn conclude(&self, res: isize, killed: bool) -> isize {
        conclude(self.done, res, killed)
    }
}

/// A result as the event may show it: system calls are restarted, requests are not.
pub(crate) fn event_result(res: isize) -> isize {
    const RESTARTS: [Error; 4] = [
        code::ERESTARTSYS,
        code::ERESTARTNOINTR,
        code::ERESTARTNOHAND,
        code::ERESTART_RESTARTBLOCK,
    ];
    if RESTARTS.iter().any(|e| is_error(res, *e)) {
        -(kernel::bindings::EINTR as isize)
    } else {
        res
    }
}

/// Whether `res` is the error `e`.
pub(crate) fn is_error(res: isize, e: Error) -> bool {
    res == e.to_errno() as isize
}

fn conclude(done: usize, res: isize, killed: bool) -> isize {
    // A transfer is limited to `MAX_RW_COUNT`, so it fits.
    let done = done as isize;

    if res >= 0 {
        return done.saturating_add(res);
    }
    if done > 0 {
        return done;
    }
    // A page fault that is cut short by the kill looks like a bad address.
    if killed && is_error(res, code::EFAULT) {
        return code::EINTR.to_errno() as isize;
    }
    event_result(res)
}

#[kunit_tests(aio_thread_iter)]
mod tests {
    use super::*;

    fn errno(e: Error) -> isize {
        e.to_errno() as isize
    }

    fn over(len: usize) -> Result<PersistentIter> {
        // Nothing is read or written through it, so that the address need not be mapped.
        PersistentIter::import(
            Direction::Read,
            UserBuffers {
                buf: core::ptr::without_provenance_mut(0x1000),
                len,
                vectored: false,
                compat: false,
            },
        )
    }

    #[test]
    fn starts_with_all_of_it() -> Result {
        let iter = over(100)?;
        assert_eq!(iter.left(), 100);
        assert_eq!(iter.done(), 0);
        Ok(())
    }

    #[test]
    fn partial_progress_is_kept() -> Result {
        let mut iter = over(100)?;
        iter.advance(30);
        assert_eq!(iter.left(), 70);
        assert_eq!(iter.done(), 30);
        iter.advance(70);
        assert_eq!(iter.left(), 0);
        assert_eq!(iter.done(), 100);
        Ok(())
    }

    #[test]
    fn an_attempt_leaves_the_original_alone() -> Result {
        let mut iter = over(100)?;
        iter.advance(10);
        let mut attempt = iter.attempt();
        attempt.advance(50);
        assert_eq!(attempt.len(), 40);
        assert_eq!(iter.left(), 90);
        // The retry starts where the first one did.
        assert_eq!(iter.attempt().len(), 90);
        Ok(())
    }

    #[test]
    fn advance_stops_at_the_end() -> Result {
        let mut iter = over(10)?;
        iter.advance(11);
        assert_eq!(iter.left(), 0);
        assert_eq!(iter.done(), 10);
        let mut attempt = iter.attempt();
        attempt.advance(usize::MAX);
        assert_eq!(attempt.len(), 0);
        Ok(())
    }

    #[test]
    fn long_transfers_are_cut() -> Result {
        // As read(2) cuts them, to a whole number of pages below 2 GiB.
        let iter = over(isize::MAX as usize >> 1);
        match iter {
            Ok(iter) => assert!(iter.left() < 1 << 31),
            // The range may not be one of user space.
            Err(e) => assert!(e == EFAULT),
        }
        Ok(())
    }

    #[test]
    fn too_many_segments() {
        let res = PersistentIter::import(
            Direction::Write,
            UserBuffers {
                buf: core::ptr::null_mut(),
                len: 1025,
                vectored: true,
                compat: false,
            },
        );
        assert!(res.is_err_and(|e| e == EINVAL));
    }

    #[test]
    fn no_segments() -> Result {
        let iter = PersistentIter::import(
            Direction::Write,
            UserBuffers {
                buf: core::ptr::null_mut(),
                len: 0,
                vectored: true,
                compat: false,
            },
        )?;
        assert_eq!(iter.left(), 0);
        Ok(())
    }

    #[test]
    fn result_counts_every_byte_once() {
        assert_eq!(conclude(0, 0, false), 0);
        assert_eq!(conclude(0, 7, false), 7);
        assert_eq!(conclude(5, 7, false), 12);
        assert_eq!(conclude(5, 0, false), 5);
    }

    #[test]
    fn an_error_shows_only_if_nothing_was_moved() {
        assert_eq!(conclude(0, errno(EIO), false), errno(EIO));
        assert_eq!(conclude(5, errno(EIO), false), 5);
        assert_eq!(conclude(5, errno(EINTR), true), 5);
    }

    #[test]
    fn restarts_become_eintr() {
        for e in [
            code::ERESTARTSYS,
            code::ERESTARTNOINTR,
            code::ERESTARTNOHAND,
            code::ERESTART_RESTARTBLOCK,
        ] {
            assert_eq!(conclude(0, errno(e), false), errno(EINTR));
            assert_eq!(event_result(errno(e)), errno(EINTR));
        }
        assert_eq!(event_result(errno(EAGAIN)), errno(EAGAIN));
        assert_eq!(event_result(3), 3);
    }

    #[test]
    fn a_killed_fault_is_no_bad_address() {
        assert_eq!(conclude(0, errno(EFAULT), true), errno(EINTR));
        assert_eq!(conclude(0, errno(EFAULT), false), errno(EFAULT));
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Users: how many requests of one may be in workers, and how they take turns.
//!
//! Each user has a line of requests that wait. Of a line, [`AHEAD`] requests are handed to the work
//! queue, which is first in, first out, and the next one goes there when a worker has started on
//! one of these. So the work queue never holds more than a few requests of each user, and whoever
//! comes there waits for one turn of the others, however long their lines are. How many of a user's
//! requests are handed over or in a worker is bounded: the rest of the line waits for one of them
//! to end.
//!
//! Locks: the state of a request → a user's line → the work queue's pool. The register of users
//! is above a user's line, and is taken with nothing else held.

use kernel::{
    new_spinlock_irq,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow,
        SpinLockIrq, //
    },
    warn_on, //
};

use crate::{
    ffi::{
        self,
        UserId,
        Waiting, //
    },
    request::Request, //
};

/// How many requests of one user may be in the work queue before a worker starts on them. One is
/// enough: whoever starts on it hands over the next, which wakes the next worker.
const AHEAD: usize = 1;

/// How many requests of a user are handed over, and how many are in a worker.
#[derive(Default)]
pub(crate) struct Share {
    ahead: usize,
    running: usize,
}

impl Share {
    /// One more is to be handed over. Returns whether it may, and then counts it.
    fn hand_over(&mut self, max: usize) -> bool {
        let may = self.ahead < AHEAD && self.ahead + self.running < max;
        if may {
            self.ahead += 1;
        }
        may
    }

    /// One of those handed over does not run, it was taken back.
    fn take_back(&mut self) {
        self.ahead = self.ahead.saturating_sub(1);
    }

    /// A worker has started on one.
    fn start(&mut self) {
        self.ahead = self.ahead.saturating_sub(1);
        self.running += 1;
    }

    /// A worker is through with one.
    fn end(&mut self) {
        self.running = self.running.saturating_sub(1);
    }
}

/// What is protected by a user's lock.
struct Line {
    waiting: Waiting,
    share: Share,
}

impl Line {
    /// Hands over as many requests as may be. Every change of the line is followed by this.
    fn advance(&mut self) {
        while !self.waiting.is_empty() && self.share.hand_over(ffi::max_workers()) {
            if let Some(request) = self.waiting.pop() {
                // Still under the lock, so that who does not find it waiting finds it there.
                ffi::hand_over(request);
            }
        }
    }
}

/// The requests of one user.
#[pin_data]
pub(crate) struct User {
    id: UserId,
    #[pin]
    line: SpinLockIrq<Line>,
}

impl User {
    /// One without requests. Charged to the running task's memory cgroup.
    pub(crate) fn new(id: UserId) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                id,
                line <- new_spinlock_irq!(
                    Line {
                        waiting: Waiting::new(),
                        share: Share::default(),
                    },
                    "aio_thread::User::line"
                ),
            }),
            GFP_KERNEL_ACCOUNT | __GFP_RETRY_MAYFAIL,
        )
    }

    /// Who it is.
    pub(crate) fn id(&self) -> UserId {
        self.id
    }

    /// Puts a request of this user at the end of the line.
    pub(crate) fn add(&self, request: ArcBorrow<'_, Request>) {
        let mut line = self.line.lock();
        // A request is handed over once at a time, so it is in no line yet.
        warn_on!(!line.waiting.push(self, request));
        line.advance();
    }

    /// Takes a request out of the line or the work queue. Returns `None` if it is in neither any
    /// more: then a worker has it or is about to.
    pub(crate) fn take_back(&self, request: ArcBorrow<'_, Request>) -> Option<Arc<Request>> {
        let mut line = self.line.lock();
        if let Some(request) = line.waiting.remove(self, &request) {
            return Some(request);
        }
        let request = ffi::dequeue(request)?;
        line.share.take_back();
        line.advance();
        Some(request)
    }

    /// A worker has taken one of the user's requests from the work queue.
    pub(crate) fn start(&self) {
        let mut line = self.line.lock();
        line.share.start();
        line.advance();
    }

    /// The worker is through with it.
    pub(crate) fn end(&self) {
        let mut line = self.line.lock();
        line.share.end();
        line.advance();
    }

    /// The bound may have changed.
    pub(crate) fn advance(&self) {
        self.line.lock().advance();
    }
}

#[kunit_tests(aio_thread_user)]
mod tests {
    use super::*;

    /// A user's line and share, with numbers for requests.
    struct Simple {
        waiting: usize,
        share: Share,
    }

    impl Simple {
        fn new(waiting: usize) -> Self {
            Self {
                waiting,
                share: Share::default(),
            }
        }

        fn advance(&mut self, max: usize) -> usize {
            let mut handed_over = 0;
            while self.waiting > 0 && self.share.hand_over(max) {
                self.waiting -= 1;
                handed_over += 1;
            }
            handed_over
        }
    }

    #[test]
    fn a_user_has_few_requests_in_the_work_queue() {
        let mut user = Simple::new(100);
        assert_eq!(user.advance(50), AHEAD);
        assert_eq!(user.advance(50), 0);
        user.share.start();
        assert_eq!(user.advance(50), 1);
    }

    #[test]
    fn the_bound_holds_whatever_happens() {
        for max in [1usize, 2, 7] {
            let mut user = Simple::new(1000);
            let mut seed = 1u32;
            for _ in 0..5000 {
                seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
                match seed >> 30 {
                    0 if user.share.ahead > 0 => user.share.start(),
                    1 if user.share.running > 0 => user.share.end(),
                    2 if user.share.ahead > 0 => user.share.take_back(),
                    _ => user.waiting += 1,
                }
                user.advance(max);
                assert!(user.share.ahead <= AHEAD);
                assert!(user.share.ahead + user.share.running <= max);
                // Nobody waits for nothing.
                assert!(
                    user.waiting == 0
                        || user.share.ahead == AHEAD
                        || user.share.ahead + user.share.running == max
                );
            }
        }
    }

    #[test]
    fn all_of_a_line_is_served() {
        let mut user = Simple::new(100);
        let mut served = 0;
        user.advance(1);
        while user.share.ahead > 0 {
            user.share.start();
            user.advance(1);
            user.share.end();
            user.advance(1);
            served += 1;
        }
        assert_eq!(served, 100);
        assert_eq!(user.share.running, 0);
    }

    #[test]
    fn users_take_turns() {
        // One with a long line, one with three requests, in one queue of one worker.
        let mut users = [Simple::new(1000), Simple::new(0)];
        let mut queue = KVec::new();
        for _ in 0..users[0].advance(10) {
            assert!(queue.push(0, GFP_KERNEL).is_ok());
        }
        users[1].waiting = 3;
        for _ in 0..users[1].advance(10) {
            assert!(queue.push(1, GFP_KERNEL).is_ok());
        }
        let mut served = [0, 0];
        let mut next = 0;
        while users[1].waiting > 0 || users[1].share.ahead > 0 {
            let user: usize = queue[next];
            next += 1;
            users[user].share.start();
            served[user] += 1;
            for _ in 0..users[user].advance(10) {
                assert!(queue.push(user, GFP_KERNEL).is_ok());
            }
            users[user].share.end();
        }
        assert_eq!(served[1], 3);
        assert!(served[0] <= 4);
    }

    #[test]
    fn a_larger_bound_lets_more_start() {
        let mut user = Simple::new(10);
        assert_eq!(user.advance(1), 1);
        user.share.start();
        assert_eq!(user.advance(1), 0);
        assert_eq!(user.advance(2), 1);
        user.share.start();
        // A smaller one stops nobody, and lets no more in.
        assert_eq!(user.advance(1), 0);
        user.share.end();
        assert_eq!(user.advance(1), 0);
        user.share.end();
        assert_eq!(user.advance(1), 1);
    }
}

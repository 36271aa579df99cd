//! Work that one thread opens and others join.
//!
//! Threads that `join` a session wait, parked. `Meeting::run` opens a piece of work under the lock,
//! wakes them and works itself. A thread that sees work that it has not joined yet counts itself as
//! running, works, and counts itself out again. When the caller has run out of work, dropping
//! `Open` closes it, so that no further thread joins, and waits until none is running. `end` ends
//! the session, and all who have joined it leave.
//!
//! So the caller works from the moment it asks, and waits only for threads that are in the middle
//! of something: a thread that wakes late finds the work closed, and costs nothing. Waking and
//! waiting allocate nothing.

use super::{fp, panics};
use core::mem::{take, transmute};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A place where threads wait for work.
#[derive(Default)]
pub struct Meeting {
    state: Mutex<State>,
    /// Signalled when there is new work, or a session ends.
    wake: Condvar,
    /// Signalled when the last thread has left the work.
    left: Condvar,
}

#[derive(Default)]
struct State {
    /// The work, or `None` when it is closed. See `Meeting::run` for its true lifetime.
    work: Option<&'static (dyn Fn() + Sync)>,
    /// The number of pieces of work so far, so that a thread joins each only once.
    round: u64,
    /// Threads that are running `work`.
    running: usize,
    panicked: bool,
    /// The number of sessions that have ended.
    session: u64,
}

impl Meeting {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `work` on this thread and on every thread of the session that wakes in time. It
    /// returns when all those calls have returned. While the work of another thread is open, this
    /// one works alone.
    pub fn run(&self, work: &(dyn Fn() + Sync)) {
        // SAFETY: `Open` takes the reference back before this function returns or unwinds: it
        // closes the work, under the lock that threads take it with, and waits for those that run.
        let shared_work: &'static (dyn Fn() + Sync) = unsafe { transmute(work) };
        let mut state = self.lock();
        if state.work.is_some() || state.running > 0 {
            drop(state);
            return work();
        }
        state.work = Some(shared_work);
        state.round += 1;
        drop(state);
        self.wake.notify_all();
        let mut panicked = false;
        let open = Open { meeting: self, panicked: &mut panicked };
        work();
        drop(open);
        if panicked {
            panic!("another thread panicked in its part of the work");
        }
    }

    /// Returns the session that goes on now.
    pub fn session(&self) -> u64 {
        self.lock().session
    }

    /// Works on all that is opened, until this session ends.
    pub fn join(&self, session: u64) {
        let mut seen = 0;
        let mut state = self.lock();
        while state.session == session {
            match state.work.filter(|_| state.round != seen) {
                None => state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(work) => {
                    seen = state.round;
                    state.running += 1;
                    drop(state);
                    let result = panics::caught(|| fp::standard(work));
                    state = self.lock();
                    state.running -= 1;
                    state.panicked |= result.is_err();
                    if state.running == 0 {
                        self.left.notify_all();
                    }
                }
            }
        }
    }

    /// Leaves the lock as a forked child inherits it while another thread holds it: held for good.
    #[cfg(test)]
    pub fn lock_for_good(&self) {
        core::mem::forget(self.state.try_lock());
    }

    /// Ends the session.
    pub fn end(&self) {
        self.lock().session += 1;
        self.wake.notify_all();
    }
}

/// Work that threads may join; closed when dropped.
struct Open<'a> {
    meeting: &'a Meeting,
    /// Whether a thread that had joined the work panicked, once it is closed.
    panicked: &'a mut bool,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut state = self.meeting.lock();
        state.work = None;
        while state.running > 0 {
            state = self.meeting.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        *self.panicked = take(&mut state.panicked);
    }
}

//! Something that the threads of the host do together, of which one takes the lead.
//!
//! `begin` says that there is something to do. The first thread to call `work` does it, and opens
//! what can be shared to the others by the meeting; they leave when it is over. So no thread waits
//! for one that may never come: the leader waits for those in the middle of a piece of work, the
//! others wait for the leader. Who calls `end` has worked like any other thread, and takes the
//! result.

use super::meeting::Meeting;
use super::{panics, process_id};
use crate::error::{Error, Label};
use core::mem::take;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A place where threads come together, for one thing at a time.
pub struct Together {
    meeting: Meeting,
    state: Mutex<State>,
    /// The process whose threads these are. In a forked child a lock may be held for good.
    process: i32,
}

#[derive(Default)]
struct State {
    /// The handle whose thing is to be done: a late thread of another one has no part in it.
    of: usize,
    phase: Phase,
}

#[derive(Default)]
enum Phase {
    #[default]
    Nothing,
    Begun,
    /// The leader is this thread.
    Led(libc::pthread_t),
    Over(Result<(), Error>),
}

impl Together {
    pub fn new() -> Together {
        let process = process_id();
        Together { meeting: Meeting::default(), state: Mutex::default(), process }
    }

    /// Returns whether this process is the one that made the place.
    pub fn is_here(&self) -> bool {
        self.process == process_id()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins something of a handle's. What was begun before has ended.
    pub fn begin(&self, of: usize) {
        *self.lock() = State { of, phase: Phase::Begun };
    }

    /// Takes part in what has begun, and returns when it is over: at once, if nothing of this
    /// handle's has begun. One thread alone calls `lead`, which shares work by the meeting. Returns
    /// false where `lead` itself has led to this call, and nothing is over.
    pub fn work(
        &'static self,
        of: usize,
        lead: impl FnOnce(&'static Meeting) -> Result<(), Error>,
    ) -> bool {
        // SAFETY: `pthread_self` has no precondition.
        let this_thread = unsafe { libc::pthread_self() };
        let mut state = self.lock();
        if state.of != of {
            return true;
        }
        match state.phase {
            Phase::Begun => {
                state.phase = Phase::Led(this_thread);
                drop(state);
                let led = panics::caught(|| self.finish(lead(&self.meeting)));
                led.unwrap_or_else(|panic| self.fail(panic));
            }
            Phase::Led(leader) if leader == this_thread => return false,
            Phase::Led(_) => {
                let session = self.meeting.session();
                drop(state);
                self.meeting.join(session);
            }
            Phase::Nothing | Phase::Over(_) => {}
        }
        true
    }

    #[inline(never)] // so that `lead` runs on a smaller stack
    fn finish(&self, result: Result<(), Error>) {
        let mut state = self.lock();
        self.meeting.end(); // before anybody can see that it is over, and begin anew
        state.phase = Phase::Over(result);
    }

    #[cold]
    #[inline(never)] // the same
    fn fail(&self, panic: Label) {
        self.finish(Err(Error::Panic(panic)));
    }

    /// Ends what `work` has found to be over, and returns its result.
    pub fn end(&self) -> Result<(), Error> {
        match take(&mut self.lock().phase) {
            Phase::Over(result) => result,
            _ => unreachable!("`work` returns when it is over"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    /// A place whose threads are on their way for as long as a test lasts.
    fn place() -> &'static Together {
        Box::leak(Box::new(Together::new()))
    }

    #[test]
    fn one_thread_leads_and_all_return_when_it_is_over() {
        let place = place();
        for round in 1..500 {
            let (n_led, is_over) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let lead = |meeting: &'static Meeting| {
                n_led.fetch_add(1, Ordering::SeqCst);
                meeting.run(&thread::yield_now);
                is_over.store(1, Ordering::SeqCst);
                Err(Error::TooMany(round))
            };
            place.begin(7);
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        assert!(place.work(7, lead));
                        assert_eq!(is_over.load(Ordering::SeqCst), 1);
                    });
                }
                assert!(place.work(7, lead));
                assert!(matches!(place.end(), Err(Error::TooMany(of)) if of == round));
            });
            assert_eq!(n_led.into_inner(), 1);
        }
    }

    #[test]
    fn a_thread_that_comes_too_late_or_for_another_handle_leads_nothing() {
        let place = place();
        let lead = |_: &'static Meeting| -> Result<(), Error> { panic!("led") };
        let ends = || {
            assert!(place.work(7, |_| Ok(())));
            place.end().unwrap();
        };
        assert!(place.work(7, lead));
        place.begin(7);
        assert!(place.work(8, lead));
        ends();
        assert!(place.work(7, lead));
        place.begin(7);
        ends();
    }

    #[test]
    fn the_leader_is_told_that_it_leads_already() {
        let place = place();
        place.begin(7);
        place.work(7, |_| {
            assert!(!place.work(7, |_| panic!("led twice")));
            Ok(())
        });
        place.end().unwrap();
    }

    #[test]
    fn a_panic_of_the_leader_is_the_result() {
        let place = place();
        place.begin(7);
        place.work(7, |_| panic!("on purpose"));
        assert!(matches!(place.end(), Err(Error::Panic(_))));
    }
}

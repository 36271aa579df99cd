//! Threads that wait, parked, for one borrowed piece of work at a time.
//!
//! `Team::start` creates workers, which run `work_until_the_end`. `Team::run` opens a piece of work
//! under the lock, wakes the workers and works itself. A worker that sees work that it has not
//! joined yet counts itself as running, works, and counts itself out again. When the caller has run
//! out of work, dropping `Open` closes it, so that no further worker joins, and waits until no
//! worker is running. Dropping the team ends the workers and joins them.
//!
//! So the caller works from the moment it asks, and waits only for workers that are in the middle
//! of something: a worker that wakes late finds the work closed, and costs nothing. Waking and
//! waiting allocate nothing. The threads are created by `pthread_create`, which reports that there
//! is no memory, where `std::thread` would abort.

use super::memory::reserve;
use super::{fp, panics, process_id, with_signals_blocked};
use crate::error::{Errno, Error};
use core::ffi::c_void;
use core::mem::{forget, take, transmute};
use core::ptr::{null, null_mut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The workers of one handle; joined when dropped.
pub struct Team {
    /// A single one, in memory that can be allocated fallibly and stays in its place.
    shared: Vec<Shared>,
    workers: Vec<libc::pthread_t>,
    /// The process that has these threads. A forked child does not have them.
    process: i32,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Signalled when there is new work, or the end.
    wake: Condvar,
    /// Signalled when the last worker has left the work.
    left: Condvar,
}

#[derive(Default)]
struct State {
    /// The work, or `None` when it is closed. See `Team::run` for its true lifetime.
    work: Option<&'static (dyn Fn() + Sync)>,
    /// The number of pieces of work so far, so that a worker joins each only once.
    round: u64,
    /// Workers that are running `work`.
    running: usize,
    panicked: bool,
    end: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Team {
    /// Starts `count` workers. If one of them does not start, the others are joined again.
    pub fn start(count: usize) -> Result<Team, Error> {
        let mut team = Team { shared: Vec::new(), workers: Vec::new(), process: process_id() };
        reserve(&mut team.shared, 1, "the threads")?;
        reserve(&mut team.workers, count, "the threads")?;
        team.shared.push(Shared::default());
        for _ in 0..count {
            let shared = (&raw const team.shared[0]).cast_mut().cast();
            let mut worker = 0;
            // SAFETY: the team joins the worker before it drops `shared`, which the worker uses.
            let refused = with_signals_blocked(|| unsafe {
                libc::pthread_create(&mut worker, null(), enter, shared)
            });
            if refused != 0 {
                return Err(Error::Threads(count, Errno(refused)));
            }
            team.workers.push(worker);
        }
        Ok(team)
    }

    /// Returns whether this process is the one that started the team.
    pub fn is_here(&self) -> bool {
        self.process == process_id()
    }

    /// Calls `work` on this thread and on every worker that wakes in time. It returns when all
    /// those calls have returned.
    pub fn run(&self, work: &(dyn Fn() + Sync)) {
        // SAFETY: `Open` takes the reference back before this function returns or unwinds: it
        // closes the work, under the lock that workers take it with, and waits for those that run.
        let shared_work: &'static (dyn Fn() + Sync) = unsafe { transmute(work) };
        let shared = &self.shared[0];
        let mut state = shared.lock();
        state.work = Some(shared_work);
        state.round += 1;
        drop(state);
        shared.wake.notify_all();
        let open = Open(shared);
        work();
        drop(open);
        if take(&mut shared.lock().panicked) {
            panic!("a worker panicked");
        }
    }
}

/// Work that workers may join; closed when dropped.
struct Open<'a>(&'a Shared);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.work = None;
        while state.running > 0 {
            state = self.0.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

extern "C" fn enter(shared: *mut c_void) -> *mut c_void {
    // SAFETY: `Team::start` passed its `Shared`, which is only ever shared, and outlives the
    // worker.
    work_until_the_end(unsafe { &*shared.cast::<Shared>() });
    null_mut()
}

fn work_until_the_end(shared: &Shared) {
    let mut seen = 0;
    let mut state = shared.lock();
    while !state.end {
        match state.work.filter(|_| state.round != seen) {
            None => state = shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(work) => {
                seen = state.round;
                state.running += 1;
                drop(state);
                let result = panics::caught(|| fp::standard(work));
                state = shared.lock();
                state.running -= 1;
                state.panicked |= result.is_err();
                if state.running == 0 {
                    shared.left.notify_all();
                }
            }
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        if !self.is_here() {
            // A forked child has no workers to stop or to join, and a lock that one of them held is
            // held for good.
            forget(take(&mut self.shared));
            return;
        }
        if let Some(shared) = self.shared.first() {
            shared.lock().end = true;
            shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            // SAFETY: `start` created the worker, and `drain` yields it once.
            unsafe { libc::pthread_join(worker, null_mut()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn everyone_who_joins_has_returned_when_run_returns() {
        let team = Team::start(3).unwrap();
        for _ in 0..2_000 {
            let (entered, left) = (AtomicUsize::new(0), AtomicUsize::new(0));
            team.run(&|| {
                entered.fetch_add(1, Ordering::SeqCst);
                std::thread::yield_now();
                left.fetch_add(1, Ordering::SeqCst);
            });
            let entered = entered.into_inner();
            assert!((1..=4).contains(&entered), "{entered} calls for 4 threads");
            assert_eq!(entered, left.into_inner());
        }
    }

    #[test]
    fn a_panic_of_a_worker_reaches_the_caller_and_the_team_works_on() {
        let team = Team::start(1).unwrap();
        let caller = std::thread::current().id();
        let came = AtomicUsize::new(0);
        let result = panics::caught(|| {
            team.run(&|| {
                came.fetch_add(1, Ordering::SeqCst);
                if std::thread::current().id() == caller {
                    while came.load(Ordering::SeqCst) < 2 {
                        std::thread::yield_now();
                    }
                } else {
                    panic!("on purpose");
                }
            })
        });
        assert_eq!(result, Err(crate::error::Label::new(b"a worker panicked")));
        team.run(&|| {});
    }
}

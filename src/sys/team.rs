//! Threads that wait, parked, for one borrowed piece of work at a time.
//!
//! The caller works too, from the moment it asks, and waits only for workers that are in the middle
//! of something when it has run out of work: a worker that wakes late finds the work closed, and
//! costs nothing. Waking and waiting allocate nothing.

use super::{block_signals, fp, panics, process_id};
use core::mem::{forget, take, transmute};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

/// The workers of one handle; joined when dropped.
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// The process that has these threads: a forked child has not.
    process: i32,
}

struct Shared {
    state: Mutex<State>,
    /// There is new work, or the end.
    wake: Condvar,
    /// The last worker has left the work.
    left: Condvar,
}

#[derive(Default)]
struct State {
    /// What to run; none when it is closed. See `Team::run` for its true lifetime.
    work: Option<&'static (dyn Fn() + Sync)>,
    /// How many pieces of work there have been, so that a worker joins each only once.
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
    /// Starts so many workers, or none.
    pub fn start(count: usize) -> io::Result<Team> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            left: Condvar::new(),
        });
        // Dropping the team joins those that have started, if one does not.
        let mut team = Team { shared, workers: Vec::new(), process: process_id() };
        for number in 0..count {
            let shared = team.shared.clone();
            let name = format!("adamw-{number}");
            let worker = Builder::new().name(name).spawn(move || worker(&shared))?;
            team.workers.push(worker);
        }
        Ok(team)
    }

    /// Whether this process is the one that started it.
    pub fn is_here(&self) -> bool {
        self.process == process_id()
    }

    /// Calls `work` on this thread and on every worker that comes in time; returns when all those
    /// calls have.
    pub fn run(&self, work: &(dyn Fn() + Sync)) {
        // SAFETY: `Open` takes the reference back before this function returns or unwinds: it
        // closes the work, under the lock that workers take it with, and waits for those that run.
        let work: &'static (dyn Fn() + Sync) = unsafe { transmute(work) };
        let mut state = self.shared.lock();
        state.work = Some(work);
        state.round += 1;
        drop(state);
        self.shared.wake.notify_all();
        let open = Open(&self.shared);
        work();
        drop(open);
        if take(&mut self.shared.lock().panicked) {
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

fn worker(shared: &Shared) {
    block_signals();
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
            // In a forked child there is nobody to stop or to join.
            self.workers.drain(..).for_each(forget);
            return;
        }
        self.shared.lock().end = true;
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches every panic of its work.
            let _ = worker.join();
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

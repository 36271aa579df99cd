//! Threads for the work of one handle or of several: the caller's, and workers that wait, parked.
//!
//! The first `Team::run` starts the workers, which join a session of the team's meeting; the last
//! owner of the team ends the session and joins them. They are created by `pthread_create`, which
//! reports that there is no memory, where `std::thread` would abort.
//!
//! No thread waits for another one's work, nor for another one that is starting the workers: it
//! works alone. So does a forked child, which does not have its parent's workers. Hence no lock
//! that such a child inherits can stop it.

use super::counted::Counted;
use super::meeting::Meeting;
use super::memory::reserve;
use super::{process_id, with_signals_blocked};
use crate::error::{Errno, Error};
use core::ffi::c_void;
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::Mutex;

/// One owner of a team. The last one joins the workers.
#[derive(Clone)]
pub struct Team(Counted<Crew>);

struct Crew {
    /// The number of threads that work, a caller included.
    n_threads: usize,
    meeting: Meeting,
    /// The session that the workers join.
    session: AtomicU64,
    workers: Mutex<Vec<libc::pthread_t>>,
    /// The process that has the workers; 0 before they are started.
    process: AtomicI32,
}

impl Team {
    /// Returns a team of so many threads, the caller's included.
    pub fn new(n_threads: usize) -> Result<Team, Error> {
        let crew = Crew {
            n_threads,
            meeting: Meeting::default(),
            session: AtomicU64::new(0),
            workers: Mutex::new(Vec::new()),
            process: AtomicI32::new(0),
        };
        Ok(Team(Counted::new(crew, "the threads")?))
    }

    /// Returns the number of threads that work, the caller's included.
    pub fn n_threads(&self) -> usize {
        self.0.n_threads
    }

    /// Calls `work` on this thread and on every worker that is free and wakes in time. It returns
    /// when all those calls have returned. An error means that the workers could not be started,
    /// and that there was no call.
    pub fn run(&self, work: &(dyn Fn() + Sync)) -> Result<(), Error> {
        match self.0.has_workers()? {
            true => self.0.meeting.run(work),
            false => work(),
        }
        Ok(())
    }
}

impl Crew {
    /// Returns whether this process has the workers, which the first call starts.
    fn has_workers(&self) -> Result<bool, Error> {
        if self.process.load(Ordering::Acquire) == 0 {
            let Ok(mut workers) = self.workers.try_lock() else { return Ok(false) };
            // Another thread may have started them since.
            if self.process.load(Ordering::Acquire) == 0 {
                self.start(&mut workers)?;
                self.process.store(process_id(), Ordering::Release);
            }
        }
        Ok(self.is_here())
    }

    fn is_here(&self) -> bool {
        self.process.load(Ordering::Acquire) == process_id()
    }

    /// Starts the workers. If one of them does not start, the others are joined again.
    fn start(&self, workers: &mut Vec<libc::pthread_t>) -> Result<(), Error> {
        let count = self.n_threads.saturating_sub(1);
        reserve(workers, count, "the threads")?;
        self.session.store(self.meeting.session(), Ordering::Relaxed);
        for _ in 0..count {
            let mut worker = 0;
            let crew = (&raw const *self).cast_mut().cast();
            // SAFETY: the crew joins the worker, which uses it, before it is dropped.
            let refused = with_signals_blocked(|| unsafe {
                libc::pthread_create(&mut worker, null(), enter, crew)
            });
            if refused != 0 {
                self.stop(workers);
                return Err(Error::Threads(count, Errno(refused)));
            }
            workers.push(worker);
        }
        Ok(())
    }

    /// Ends the session, and joins the workers.
    fn stop(&self, workers: &mut Vec<libc::pthread_t>) {
        self.meeting.end();
        for worker in workers.drain(..) {
            // SAFETY: `start` created the worker, and `drain` yields it once.
            unsafe { libc::pthread_join(worker, null_mut()) };
        }
    }
}

extern "C" fn enter(crew: *mut c_void) -> *mut c_void {
    // SAFETY: `Crew::start` passed the crew, which is only ever shared, and outlives the worker.
    let crew = unsafe { &*crew.cast::<Crew>() };
    crew.meeting.join(crew.session.load(Ordering::Relaxed));
    null_mut()
}

impl Drop for Crew {
    fn drop(&mut self) {
        if self.is_here()
            && let Ok(mut workers) = self.workers.try_lock()
        {
            self.stop(&mut workers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::panics;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn everyone_who_joins_has_returned_when_run_returns() {
        let team = Team::new(4).unwrap();
        for _ in 0..2_000 {
            let (entered, left) = (AtomicUsize::new(0), AtomicUsize::new(0));
            team.run(&|| {
                entered.fetch_add(1, Ordering::SeqCst);
                std::thread::yield_now();
                left.fetch_add(1, Ordering::SeqCst);
            })
            .unwrap();
            let entered = entered.into_inner();
            assert!((1..=4).contains(&entered), "{entered} calls for 4 threads");
            assert_eq!(entered, left.into_inner());
        }
    }

    #[test]
    fn a_panic_of_a_worker_reaches_the_caller_and_the_team_works_on() {
        let team = Team::new(2).unwrap();
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
        let text = b"another thread panicked in its part of the work";
        assert_eq!(result.map(drop), Err(crate::error::Label::new(text)));
        team.run(&|| {}).unwrap();
    }

    #[test]
    fn a_forked_child_works_alone_and_waits_for_no_lock_that_it_inherits() {
        let team = Team::new(2).unwrap();
        team.run(&|| {}).unwrap(); // starts the worker
        // SAFETY: the child calls nothing but the team, and ends by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: `alarm` has no precondition; it ends a child that waits.
            unsafe { libc::alarm(10) };
            team.0.meeting.lock_for_good();
            let calls = AtomicUsize::new(0);
            let count = || {
                calls.fetch_add(1, Ordering::SeqCst);
            };
            let is_alone = team.run(&count).is_ok() && calls.into_inner() == 1;
            drop(team);
            // SAFETY: `_exit` has no precondition.
            unsafe { libc::_exit((!is_alone).into()) };
        }
        let mut status = 0;
        // SAFETY: `status` is writable.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child's end");
    }

    #[test]
    fn a_caller_whose_team_is_at_work_for_another_works_alone_and_waits_for_nobody() {
        let team = Team::new(2).unwrap();
        let (n_inside, calls) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let first = std::thread::current().id();
        let waits_until = |holds: &dyn Fn() -> bool| {
            while !holds() {
                std::thread::yield_now();
            }
        };
        team.run(&|| {
            n_inside.fetch_add(1, Ordering::SeqCst);
            if std::thread::current().id() != first {
                return waits_until(&|| calls.load(Ordering::SeqCst) == 100);
            }
            waits_until(&|| n_inside.load(Ordering::SeqCst) == 2);
            let other = team.clone();
            let another_caller = || {
                for _ in 0..100 {
                    let work = || {
                        calls.fetch_add(1, Ordering::SeqCst);
                    };
                    other.run(&work).unwrap();
                }
            };
            std::thread::scope(|scope| scope.spawn(another_caller).join().unwrap());
        })
        .unwrap();
        assert_eq!(calls.into_inner(), 100);
    }
}

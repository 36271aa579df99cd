//! Work on a thread of its own, from which its owner fetches the result.
//!
//! The thread takes the work out of `Shared::work`, does it, and puts it back with the result. The
//! owner joins the thread and takes both. A forked child has no such thread: it waits for nothing,
//! locks nothing, and leaves all that belongs to the work as it is, because the parent's thread may
//! have been in the middle of it.

use super::counted::Counted;
use super::{cancel, fp, panics, process_id, with_signals_blocked};
use crate::error::{Errno, Error, Label};
use core::ffi::c_void;
use core::mem::{ManuallyDrop, forget};
use core::ptr::{null, null_mut};
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Work that is being done, or has been. Dropping it waits for the thread.
pub struct Background<W: Send, R: Send> {
    shared: ManuallyDrop<Counted<Shared<W, R>>>,
    thread: libc::pthread_t,
    /// The process that has the thread.
    process: i32,
}

/// Work, and once it is done its result, or the message of a panic.
type Doing<W, R> = (W, Option<Result<R, Label>>);

struct Shared<W, R> {
    work: Mutex<Option<Doing<W, R>>>,
    run: fn(&mut W) -> R,
    is_over: AtomicBool,
}

impl<W: Send, R: Send> Background<W, R> {
    /// Starts a thread that runs `run` on `work`. It receives no signals.
    pub fn start(work: W, run: fn(&mut W) -> R) -> Result<Background<W, R>, Error> {
        let work = Mutex::new(Some((work, None)));
        let shared = Shared { work, run, is_over: AtomicBool::new(false) };
        let shared = Counted::new(shared, "work on a thread of its own")?;
        let mut thread = 0;
        let passed = (&raw const *shared).cast_mut().cast();
        // SAFETY: the owner joins the thread before it drops what is shared, or never drops it.
        let refused = with_signals_blocked(|| unsafe {
            libc::pthread_create(&mut thread, null(), enter::<W, R>, passed)
        });
        match refused {
            0 => {
                Ok(Background { shared: ManuallyDrop::new(shared), thread, process: process_id() })
            }
            errno => Err(Error::Threads(1, Errno(errno))),
        }
    }

    /// Returns whether this process has the thread, and not the one that it was forked from.
    pub fn is_here(&self) -> bool {
        self.process == process_id()
    }

    /// Returns whether the work is done, so that `join` would not wait.
    pub fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::Acquire)
    }

    /// Returns whether this is the thread that does the work, which must not wait for itself.
    pub fn is_this_thread(&self) -> bool {
        // SAFETY: `pthread_self` has no precondition.
        self.is_here() && self.thread == unsafe { libc::pthread_self() }
    }

    /// Waits for the thread, and returns the work with the result, or with the message of a panic.
    /// Returns `None` in a forked child.
    pub fn join(mut self) -> Option<(W, Result<R, Label>)> {
        if !self.is_here() || self.is_this_thread() {
            return None;
        }
        self.wait();
        let (work, result) = taken(&self.shared)?;
        // SAFETY: the thread has ended, and `self` is forgotten, which alone uses it after this.
        unsafe { ManuallyDrop::drop(&mut self.shared) };
        forget(self);
        Some((work, result?))
    }

    fn wait(&mut self) {
        // SAFETY: `start` created the thread, and it is joined once: by `join`, which forgets
        // `self`, or by `drop`.
        unsafe { libc::pthread_join(self.thread, null_mut()) };
    }
}

impl<W: Send, R: Send> Drop for Background<W, R> {
    fn drop(&mut self) {
        if self.is_this_thread() {
            // SAFETY: the thread is this one, and nobody else joins or detaches it.
            unsafe { libc::pthread_detach(self.thread) };
        } else if self.is_here() {
            self.wait();
            // SAFETY: the thread has ended, and nobody else has this owner.
            unsafe { ManuallyDrop::drop(&mut self.shared) };
        }
    }
}

fn taken<W, R>(shared: &Shared<W, R>) -> Option<Doing<W, R>> {
    shared.work.lock().unwrap_or_else(PoisonError::into_inner).take()
}

extern "C" fn enter<W, R>(shared: *mut c_void) -> *mut c_void {
    // The host's functions must not end the thread; it is never cancelled after them either.
    cancel::hold_off();
    // SAFETY: `start` passed what is shared, which outlives the thread.
    let shared = unsafe { &*shared.cast::<Shared<W, R>>() };
    if let Some((mut work, _)) = taken(shared) {
        let result = panics::caught(|| fp::standard(|| (shared.run)(&mut work)));
        let done = Some((work, Some(result)));
        *shared.work.lock().unwrap_or_else(PoisonError::into_inner) = done;
    }
    shared.is_over.store(true, Ordering::Release);
    null_mut()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn the_result_and_the_work_come_back_and_a_panic_is_a_message() {
        let length = |text: &mut String| {
            text.push('!');
            text.len()
        };
        let (work, result) = Background::start("four".to_owned(), length).unwrap().join().unwrap();
        assert_eq!((work.as_str(), result), ("four!", Ok(5)));
        let panics = |_: &mut ()| -> () { fp::standard(|| panic!("on purpose")) };
        let (_, result) = Background::start((), panics).unwrap().join().unwrap();
        assert_eq!(result, Err(Label::new(b"on purpose")));
    }

    #[test]
    fn dropping_it_waits_and_drops_the_work() {
        let counter = Arc::new(AtomicU32::new(0));
        let count = |counter: &mut Arc<AtomicU32>| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            counter.fetch_add(1, Ordering::Relaxed);
        };
        drop(Background::start(counter.clone(), count).unwrap());
        assert_eq!(counter.load(Ordering::Relaxed), 1);
        assert_eq!(Arc::strong_count(&counter), 1);
    }

    #[test]
    fn a_forked_child_waits_for_nothing() {
        let wait = |go: &mut Arc<AtomicBool>| {
            while !go.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
        };
        let go = Arc::new(AtomicBool::new(false));
        let work = Background::start(go.clone(), wait).unwrap();
        // SAFETY: the child calls nothing but the work's owner, and ends by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: `alarm` has no precondition; it ends a child that waits.
            unsafe { libc::alarm(10) };
            let is_left = !work.is_here() && work.join().is_none();
            // SAFETY: `_exit` has no precondition.
            unsafe { libc::_exit((!is_left).into()) };
        }
        let mut status = 0;
        // SAFETY: `status` is writable.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child's end");
        assert!(!work.is_over());
        go.store(true, Ordering::Relaxed);
        assert!(work.join().is_some());
    }
}

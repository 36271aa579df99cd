//! A save that goes on while steps are taken.
//!
//! `begin_save` brings the state up to date, opens the file, and takes a snapshot, from which a
//! thread of the handle writes the checkpoint. `save_progress` says how far it has come, and
//! `wait_to_save` waits for its result. One save is written at a time: another one, of either kind,
//! waits for it, and so does a load. The memory of the snapshot is kept for the next.
#![forbid(unsafe_code)]

use super::snapshot::Snapshot;
use super::write::{Destination, Target, Written, write};
use crate::callback::HostProgress;
use crate::checkpoint::{Draft, Progress};
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::sys::background::Background;
use crate::sys::counted::Counted;
use core::sync::atomic::{AtomicU64, Ordering};

/// The save that was begun last, and what it leaves for the next.
pub struct Begun {
    at_work: Option<AtWork>,
    /// The result of the last one that has ended.
    result: Result<Written, Error>,
    /// The host has not been told an error.
    is_untold: bool,
    progressed: Progressed,
    snapshot: Option<Snapshot>,
}

struct AtWork {
    thread: Background<Work, Result<Written, Error>>,
    n_visited: Counted<AtomicU64>,
}

/// What the thread needs.
struct Work {
    draft: Draft,
    snapshot: Snapshot,
    /// `None` once it is being written.
    destination: Option<Destination<'static>>,
    progress: Progress,
}

/// How far a save has come.
#[derive(Clone, Copy, Default)]
pub struct Progressed {
    pub is_running: bool,
    pub n_done: u64,
    pub n_total: u64,
}

impl Default for Begun {
    fn default() -> Begun {
        let (result, progressed) = (Ok(Written::default()), Progressed::default());
        Begun { at_work: None, result, is_untold: false, progressed, snapshot: None }
    }
}

impl Begun {
    /// Waits for the thread, if there is one, and takes what it leaves.
    fn wait(&mut self) -> Result<(), Error> {
        if self.at_work.as_ref().is_some_and(|at_work| at_work.thread.is_this_thread()) {
            return Err(Error::Busy); // in a function of the host's that the thread has called
        }
        let Some(AtWork { thread, n_visited }) = self.at_work.take() else { return Ok(()) };
        (self.result, self.is_untold) = match thread.join() {
            Some((work, result)) => {
                self.snapshot = Some(work.snapshot);
                let result = result.unwrap_or_else(|panic| Err(Error::Panic(panic)));
                (result, result.is_err())
            }
            None => (Err(Error::BegunByParent), false),
        };
        self.progressed.is_running = false;
        self.progressed.n_done = n_visited.load(Ordering::Relaxed);
        Ok(())
    }

    fn told(&mut self) -> Result<Written, Error> {
        self.is_untold = false;
        self.result
    }
}

impl Optimizer {
    /// Begins to save the state, and the parameters themselves if `params`. The error of an earlier
    /// save that nobody has been told is the inner result, and nothing is begun.
    pub fn begin_save(
        &mut self,
        target: Target<'static>,
        params: bool,
        progress: Option<HostProgress>,
    ) -> Result<Result<(), Error>, Error> {
        self.begun.wait()?;
        if self.begun.is_untold {
            return Ok(self.begun.told().map(drop));
        }
        self.bring_up_to_date(params)?;
        let layout = self.layout(params)?;
        let draft = self.draft(&layout)?;
        let n_bytes = draft.n_tensor_bytes() as usize;
        let destination = Destination::open(target, &draft)?;
        let n_total = destination.as_ref().map_or(0, |to| to.n_visited(&draft));
        let mut snapshot = Snapshot::new(n_bytes, self.begun.snapshot.take())?;
        let copied = self.copy_to(&mut snapshot, &layout);
        if let Err(error) = copied {
            self.begun.snapshot = Some(snapshot);
            return Err(error);
        }
        let n_visited = snapshot.n_visited.clone();
        let progress = Progress::new(progress, n_total);
        let work = Work { draft, snapshot, destination, progress };
        let thread = Background::start(work, |work| {
            let Work { draft, snapshot, destination, progress } = work;
            match destination.take() {
                Some(destination) => write(draft, snapshot, destination, progress),
                None => Ok(Written::default()),
            }
        })?;
        self.begun.progressed = Progressed { is_running: true, n_done: 0, n_total };
        self.begun.at_work = Some(AtWork { thread, n_visited });
        Ok(Ok(()))
    }

    /// Returns how far the save that was begun last has come, or its error, if it has ended.
    pub fn save_progress(&mut self) -> Result<Progressed, Error> {
        let begun = &mut self.begun;
        match &begun.at_work {
            Some(AtWork { thread, n_visited }) if thread.is_here() && !thread.is_over() => {
                let n_done = n_visited.load(Ordering::Relaxed);
                Ok(Progressed { n_done, ..begun.progressed })
            }
            _ => {
                begun.wait()?;
                begun.told()?;
                Ok(begun.progressed)
            }
        }
    }

    /// Waits for the save that was begun last, and returns its result; what `adamw_create` leaves
    /// if none was.
    pub fn wait_to_save(&mut self) -> Result<Written, Error> {
        self.begun.wait()?;
        self.begun.told()
    }

    /// Waits until no thread writes. The result is kept for those who ask for it.
    pub(super) fn wait_for_begun(&mut self) -> Result<(), Error> {
        self.begun.wait()
    }

    /// Returns whether this thread is the one that writes a save which was begun.
    pub fn is_saved_by_this_thread(&self) -> bool {
        self.begun.at_work.as_ref().is_some_and(|at_work| at_work.thread.is_this_thread())
    }
}

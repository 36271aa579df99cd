//! Loading: everything is checked before anything is changed.
//!
//! The first pass reads all files once, one after the other, and compares them with their checksums
//! and with the handle (`check.rs`, `found.rs`; `cover.rs` finds which file each element comes
//! from). The second pass copies (`copy.rs`). A file that changes or fails between the two leaves a
//! handle that can only be loaded again or destroyed.
#![forbid(unsafe_code)]

mod check;
mod convert;
mod copy;
mod cover;
mod found;
mod held;
pub(super) mod pieces;
mod problems;

use crate::callback::{HostProgress, Rename};
use crate::checkpoint::{Buffers, Checkpoint, Progress, Source, Window};
use crate::choice::choice;
use crate::error::Error;
use crate::optimizer::{Optimizer, ScalerState};
use crate::schedule;
use crate::sys::memory::reserve;
use copy::CopyBuffers;
use found::Match;

choice! {
    /// The parameters that a handle and its checkpoints must have in common.
    pub enum LoadScope: "an ADAMW_LOAD constant, 0 to 2" {
        /// All: both have the same parameters.
        All = 0;
        /// All of the handle; checkpoints may have more.
        Subset = 1;
        /// None. The state of those that both have is loaded, and nothing else.
        Shared = 2;
    }
}

/// The choices of a load.
#[derive(Clone, Copy)]
pub struct LoadOptions {
    pub scope: LoadScope,
    /// The parameters themselves are loaded too.
    pub params: bool,
    /// Elements of another floating type are converted.
    pub convert: bool,
    /// The handle keeps its schedule and learning rate, and goes on at the index that was saved.
    pub keep_schedule: bool,
    /// The handle may have maxima and masters that were not saved.
    pub extend: bool,
    /// Gives the names of parameters in the checkpoints.
    pub rename: Option<Rename>,
    pub progress: Option<HostProgress>,
}

/// What a checkpoint says about the handle as a whole.
#[derive(Clone, Copy)]
struct Numbers {
    /// `None` if the handle keeps its own.
    lr: Option<f64>,
    grad_scale: f64,
    schedule: Option<schedule::State>,
    scaler: Option<ScalerState>,
}

impl Optimizer {
    /// Loads the state that checkpoints hold, which together are one.
    pub fn load(&mut self, sources: Vec<Source>, options: &LoadOptions) -> Result<(), Error> {
        if self.is_half_loaded && options.scope == LoadScope::Shared {
            return Err(Error::HalfLoaded);
        }
        self.wait_for_begun()?;
        self.wait_to_load()?;
        if sources.is_empty() {
            return Err(Error::Null("sources"));
        }
        let mut found = self.to_be_found(options)?;
        let mut files = Vec::new();
        reserve(&mut files, sources.len(), "the checkpoints")?;
        for source in sources {
            files.push(Checkpoint::open(source)?);
        }
        let in_files: u64 = files.iter().map(Checkpoint::n_bytes).sum();
        let to_copy = options.progress.map_or(0, |_| self.n_state_bytes(options.params));
        let mut progress = Progress::new(options.progress, in_files.saturating_add(to_copy));
        let (mut window, buffers) = (Window::new()?, Buffers::default());
        let mut numbers: Option<Numbers> = None;
        for (number, file) in files.iter_mut().enumerate() {
            file.opened(|file| {
                let backend = &mut self.backend;
                let share = &mut |n_tasks, work: &(dyn Fn() + Sync)| backend.share(n_tasks, work);
                file.verify(&mut window, &buffers, &mut progress, share)?;
                if options.scope != LoadScope::Shared {
                    self.check_settings(file, options, &mut found.problems)?;
                    if found.problems.result().is_ok() {
                        let theirs = self.numbers_of(file, options)?;
                        let first = *numbers.get_or_insert(theirs);
                        first.check_parts(&theirs, &mut found.problems);
                    }
                }
                self.look_through(&mut found, number, file, &mut window, options)
            })?;
        }
        drop(buffers);
        self.check_cover(&mut found, options)?;
        let mut buffers = CopyBuffers::new(window)?;
        if !options.params {
            self.flush_rows()?; // the rows lag behind the state that is about to be replaced
        }
        let copied = self.copy_from(&mut files, &found, options, &mut progress, &mut buffers);
        self.is_half_loaded = copied.is_err();
        copied?;
        self.take(&found.matches, numbers);
        Ok(())
    }

    /// Returns whether a load failed in the middle of its writes.
    pub fn is_half_loaded(&self) -> bool {
        self.is_half_loaded
    }

    /// Takes the clocks of the parameters, and the numbers of the handle.
    fn take(&mut self, matches: &[Match], numbers: Option<Numbers>) {
        for found in matches {
            if let Some(clock) = found.clock {
                self.take_clock(found, clock);
            }
        }
        let Some(numbers) = numbers else { return };
        if let (Some(lr), None) = (numbers.lr, &self.config.lr_ptr) {
            self.lr = lr;
        }
        self.grad_scale = numbers.grad_scale;
        if let Some(state) = numbers.schedule {
            self.go_to(state);
        }
        if let (Some(scaler), Some(state)) = (&mut self.scaler, numbers.scaler) {
            scaler.go_to(state);
        }
        self.change_scale();
    }
}

//! Loading: everything is checked before anything is changed.
//!
//! The first pass reads all files once and holds them against their checksums and against the handle
//! (`check.rs`, `params.rs`). The second copies (`copy.rs`). A file that changes or fails between the
//! two leaves a handle that can only be loaded again or destroyed.
#![forbid(unsafe_code)]

mod check;
mod convert;
mod copy;
mod params;
mod pieces;

use super::{Optimizer, ScalerState};
use crate::callback::{HostProgress, Rename};
use crate::checkpoint::{Buffers, Checkpoint, Progress, Source, Window};
use crate::error::Error;
use crate::schedule;
use crate::sys::memory::reserve;
use copy::Room;
use params::Match;

/// Which parameters a handle and its checkpoints have to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// The same.
    All,
    /// Those of the handle; checkpoints may have more.
    Subset,
    /// Whatever both have. Nothing but the state of these is loaded.
    Shared,
}

/// How to load.
#[derive(Clone, Copy)]
pub struct LoadOptions {
    pub scope: Scope,
    /// The parameters themselves are loaded too.
    pub params: bool,
    /// Elements of another floating type are converted.
    pub convert: bool,
    /// What parameters are called in the checkpoints.
    pub rename: Option<Rename>,
    pub progress: Option<HostProgress>,
}

/// What a checkpoint says about the handle as a whole.
#[derive(Clone, Copy)]
struct Numbers {
    lr: f64,
    grad_scale: f64,
    schedule: Option<schedule::State>,
    scaler: Option<ScalerState>,
}

impl Optimizer {
    /// Loads what checkpoints hold, each a whole or all of them parts of one.
    pub fn load(&mut self, sources: Vec<Source>, options: &LoadOptions) -> Result<(), Error> {
        if self.is_half_loaded && options.scope == Scope::Shared {
            return Err(Error::HalfLoaded);
        }
        if let Some(cuda) = self.backend.cuda() {
            cuda.wait_to_load()?;
        }
        let mut files = Vec::new();
        reserve(&mut files, sources.len(), "the checkpoints")?;
        for source in sources {
            files.push(Checkpoint::open(source)?);
        }
        let in_files: u64 = files.iter().map(Checkpoint::n_bytes).sum();
        let to_copy: u64 = self.n_state_bytes(options.params);
        let mut progress = Progress::new(options.progress, in_files.saturating_add(to_copy));
        let mut window = Window::new()?;
        let (buffers, backend) = (Buffers::default(), &mut self.backend);
        for file in &mut files {
            file.verify(&mut window, &buffers, &mut progress, &mut |n_tasks, work| {
                backend.share(n_tasks, work)
            })?;
        }
        drop(buffers);
        let numbers = match options.scope {
            Scope::Shared => None,
            _ => {
                self.check_settings(&files)?;
                Some(self.check_numbers_of(&files)?)
            }
        };
        let matches = self.check_params(&files, &mut window, options)?;
        let mut room = Room::new()?;
        let copied = self.copy_from(&files, &matches, options, &mut progress, &mut room);
        self.is_half_loaded = copied.is_err();
        copied?;
        self.take(&matches, numbers);
        Ok(())
    }

    /// Whether a load failed in the middle of its writes.
    pub fn is_half_loaded(&self) -> bool {
        self.is_half_loaded
    }

    /// Takes what is not in tensors.
    fn take(&mut self, matches: &[Match], numbers: Option<Numbers>) {
        for found in matches {
            self.take_clock(found);
        }
        let Some(numbers) = numbers else { return };
        if self.config.lr_ptr.is_none() {
            self.lr = numbers.lr;
        }
        self.grad_scale = numbers.grad_scale;
        if let Some(state) = numbers.schedule {
            self.go_to(state);
        }
        if let (Some(scaler), Some(state)) = (&mut self.scaler, numbers.scaler) {
            scaler.go_to(state);
        }
    }
}

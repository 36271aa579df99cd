//! The step, in five stages, each of which does the processor's part and the device's:
//!
//! - `gather` finds the parameters that have a gradient and what they need (`gather.rs`);
//! - `measure` adds up the squares of the gradients, where somebody needs to know (`measure.rs`);
//! - `decide` works out the scalars (`decide.rs`);
//! - `update` writes parameters and state (`update.rs`);
//! - `report` says what happened and ends what was for this step alone (`report.rs`).
//!
//! Until `update` writes, an error leaves everything as it was. A step that is skipped goes from
//! `measure` to `report`.
#![forbid(unsafe_code)]

pub(in crate::optimizer) mod decide;
pub(in crate::optimizer) mod gather;
pub(in crate::optimizer) mod grads;
pub(in crate::optimizer) mod measure;
pub(in crate::optimizer) mod report;
pub(in crate::optimizer) mod rows;
pub(in crate::optimizer) mod single;
pub(in crate::optimizer) mod subset;
pub(in crate::optimizer) mod update;
pub(in crate::optimizer) mod window;

use crate::config::GroupConfig;
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::params::occupied::Place;
use crate::optimizer::step::decide::Decisions;
use crate::optimizer::step::gather::StepNeeds;
use crate::schedule;
use crate::sys::memory::{give_back, reserve};
use crate::tensor::{Changes, Pass, Tallies};
use core::ops::Range;

/// What a step works out, in memory that is kept for the next one.
#[derive(Default)]
pub struct Scratch {
    pub pass: Pass,
    pub decisions: Decisions,
    /// What the last step needed, where the next may be of the same parameters, which share scalars
    /// as they did; and the revision at which that holds.
    last: Option<(u64, StepNeeds)>,
    /// What a step changes.
    pub changes: Changes,
    /// What the gradients add up to.
    pub tallies: Tallies,
    /// By group: the sum of squares of what it clips together.
    pub sums: Vec<f64>,
    /// Where the gradients are that a step writes.
    pub grads: Vec<Place>,
    /// The groups of which the host keeps values, with those that it has now.
    pub read: Vec<GroupConfig>,
}

impl Scratch {
    /// Makes room for so many parameters and groups, so that a step need not.
    pub fn reserve(&mut self, n_params: usize, n_groups: usize) -> Result<(), Error> {
        // Each `Vec` may be empty or hold the entries of the last step.
        self.last = None;
        self.sums.clear();
        self.grads.clear();
        self.read.clear();
        reserve(&mut self.grads, n_params, "the places of gradients")?;
        reserve(&mut self.sums, n_groups, "the step's norms")?;
        reserve(&mut self.read, n_groups, "the values that the host keeps")?;
        self.decisions.reserve(n_params, n_groups)?;
        self.pass.reserve(n_params)
    }

    /// Gives back what is not needed for so many parameters.
    pub fn give_back(&mut self, n_params: usize) {
        give_back(&mut self.grads, n_params);
        self.decisions.give_back(n_params);
        self.pass.give_back(n_params);
        self.tallies.give_back(n_params);
        self.changes.give_back(n_params);
    }
}

impl Optimizer {
    /// Steps every parameter that has a gradient.
    pub fn step(&mut self) -> Result<(), Error> {
        self.step_then(|_| ())
    }

    /// The same; `taken` sees the optimizer once the step has been taken, if it is.
    pub(in crate::optimizer) fn step_then(
        &mut self,
        taken: impl FnOnce(&Optimizer),
    ) -> Result<(), Error> {
        self.take_step(self.params.all(), Optimizer::next_scheduled, taken)
    }

    /// Steps those of some parameters that have a gradient. `next` returns where the schedule goes,
    /// and `taken` sees the optimizer once the step has been taken.
    pub(in crate::optimizer) fn take_step(
        &mut self,
        of: Range<usize>,
        next: impl FnOnce(&Optimizer) -> Result<Option<schedule::State>, Error>,
        taken: impl FnOnce(&Optimizer),
    ) -> Result<(), Error> {
        let plan = self.gather(of)?;
        let mut report = self.measure(&plan)?;
        if report.skipped {
            return self.report_skipped(&plan, report);
        }
        self.decide(&plan)?;
        let scheduled = next(self)?;
        self.update(&plan)?;
        self.report_taken(&plan, &mut report);
        if let Some(state) = scheduled {
            self.go_to(state);
        }
        taken(self);
        self.end_step(&plan);
        Ok(())
    }
}

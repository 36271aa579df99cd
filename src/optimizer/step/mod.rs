//! The step, in five stages, each of which does the processor's part and the device's:
//!
//! - `gather` finds the parameters that have a gradient and what they need (`gather.rs`);
//! - `measure` adds up the squares of the gradients, if a step depends on them (`measure.rs`);
//! - `decide` works out the scalars (`decide.rs`);
//! - `update` writes parameters and state (`update.rs`);
//! - `report` says what happened and ends what was for this step alone (`report.rs`).
//!
//! Ranks agree on a step after they have gathered it (`ranks/`).
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
pub(in crate::optimizer) mod seen;
pub(in crate::optimizer) mod single;
pub(in crate::optimizer) mod subset;
pub(in crate::optimizer) mod sums;
pub(in crate::optimizer) mod update;
pub(in crate::optimizer) mod window;

use crate::config::GroupConfig;
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::params::occupied::Place;
use crate::optimizer::step::decide::Decisions;
use crate::optimizer::step::gather::StepNeeds;
use crate::optimizer::step::report::Changed;
use crate::optimizer::step::seen::Seen;
use crate::schedule;
use crate::sys::meeting::Meeting;
use crate::sys::memory::{give_back, reserve};
use crate::tensor::{Changes, GradArray, Pass, Tallies};
use core::ops::Range;

/// The results of a step, in memory that is kept for the next one.
#[derive(Default)]
pub struct Scratch {
    pub pass: Pass,
    pub decisions: Decisions,
    /// The last step, if the next one may repeat it.
    last: Option<LastStep>,
    /// The sums of what the step changes.
    pub changes: Changes,
    /// What the last step has changed, by its parameters in order, if the host wants statistics.
    pub changed: Vec<Changed>,
    /// The sums of the gradients.
    pub tallies: Tallies,
    /// By parameter, the sums over its gradient that the host gives.
    pub outside: Vec<[f64; 2]>,
    /// By group, the sum of squares of the gradients that it clips together.
    pub sums: Vec<f64>,
    /// The gradients that the step writes.
    pub grad_places: Vec<Place>,
    /// The gradients before those to which `set_grad_data` moves them.
    pub moved_grads: Vec<GradArray>,
    /// Where gradients have been found free of what a step writes.
    pub seen: Seen,
    /// The groups of which the host keeps values, with the values that it has now.
    pub groups_now: Vec<GroupConfig>,
}

/// A step that the next one repeats if `revision` is still the same: it is of the same parameters,
/// which share scalars as they did.
pub struct LastStep {
    pub revision: u64,
    pub needs: StepNeeds,
}

impl Scratch {
    /// Makes room for so many parameters and groups, so that a step allocates nothing.
    pub fn reserve(&mut self, n_params: usize, n_groups: usize) -> Result<(), Error> {
        // Each `Vec` may be empty or hold the entries of the last step.
        self.last = None;
        self.sums.clear();
        self.grad_places.clear();
        self.groups_now.clear();
        reserve(&mut self.grad_places, n_params, "the places of gradients")?;
        reserve(&mut self.sums, n_groups, "the step's norms")?;
        reserve(&mut self.groups_now, n_groups, "the values that the host keeps")?;
        self.seen.reserve(n_params)?;
        self.decisions.reserve(n_params, n_groups)?;
        self.pass.reserve(n_params)
    }

    /// Gives back the memory that so many parameters do not need.
    pub fn give_back(&mut self, n_params: usize) {
        give_back(&mut self.grad_places, n_params);
        give_back(&mut self.moved_grads, n_params);
        give_back(&mut self.changed, n_params);
        self.seen.give_back(n_params);
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

    /// Steps every parameter that has a gradient, on this thread and on those of the host that meet
    /// here.
    pub fn step_with(&mut self, guests: &'static Meeting) -> Result<(), Error> {
        self.backend.invite(Some(guests));
        let stepped = self.step();
        self.backend.invite(None);
        stepped
    }

    /// Steps every parameter that has a gradient. If the step is taken, `taken` then sees the
    /// optimizer.
    pub(in crate::optimizer) fn step_then(
        &mut self,
        taken: impl FnOnce(&Optimizer),
    ) -> Result<(), Error> {
        self.take_step(self.params.all(), Optimizer::next_scheduled, taken)
    }

    /// Steps those of some parameters that have a gradient. `next` returns the next state of the
    /// schedule. If the step is taken, `taken` then sees the optimizer.
    pub(in crate::optimizer) fn take_step(
        &mut self,
        of: Range<usize>,
        next: impl Fn(&Optimizer) -> Result<Option<schedule::State>, Error>,
        taken: impl FnOnce(&Optimizer),
    ) -> Result<(), Error> {
        let plan = match self.ranks {
            None => self.gather(of)?,
            Some(_) => self.agree(of, &next)?,
        };
        let mut report = self.measure(&plan)?;
        if report.skipped {
            return self.report_skipped(&plan, report);
        }
        self.decide(&plan)?;
        let scheduled = match &self.ranks {
            None => next(self)?,
            Some(ranks) => ranks.next_scheduled(),
        };
        self.update(&plan, scheduled.is_some())?;
        self.report_taken(&plan, &mut report);
        if let Some(state) = scheduled {
            self.go_on(state, plan.on_device.as_ref());
        }
        taken(self);
        self.end_step(&plan);
        Ok(())
    }
}

//! The step: gather the parameters that have a gradient, decide their scalars, update, count.
#![forbid(unsafe_code)]

pub(in crate::optimizer) mod decide;
pub(in crate::optimizer) mod grads;
pub(in crate::optimizer) mod measure;
pub(in crate::optimizer) mod rows;
pub(in crate::optimizer) mod single;
pub(in crate::optimizer) mod subset;
pub(in crate::optimizer) mod window;

use crate::backend::Refused;
use crate::clip::Clip;
use crate::config::{GroupConfig, Lazy};
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::params::masters::Master;
use crate::optimizer::params::occupied::Place;
use crate::optimizer::params::table::Parts;
use crate::optimizer::step::decide::Decisions;
use crate::schedule;
use crate::steps::{NO_STEP, Steps};
use crate::sys::memory::{give_back, reserve};
use crate::tensor::{Changes, Extent, Operands, Pass, Tallies};
use core::ops::Range;
use std::time::Instant;

/// What a step works out, in memory that is kept for the next one.
#[derive(Default)]
pub struct Scratch {
    pub pass: Pass,
    pub decisions: Decisions,
    /// The elements of the parameters that the processor steps, and the device.
    n_elements: u64,
    n_on_device: u64,
    /// The processor steps some, which may be empty.
    steps_on_host: bool,
    /// Some have a gradient that is used up though they are not stepped.
    passes_over: bool,
    /// The revision at which the next step is of the same parameters as the last one, which share
    /// scalars as they did.
    repeats_at: Option<u64>,
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
        self.repeats_at = None;
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

/// What the parameters that are stepped are, and have, all together.
#[derive(Default)]
struct StepNeeds {
    /// Elements that the processor steps, and the device.
    n_elements: u64,
    n_on_device: u64,
    /// Parameters that the processor steps, which may be empty.
    steps_on_host: bool,
    /// Sparse gradients.
    rows: bool,
    /// Rows that may lag.
    lags: bool,
    /// Gradients that were accumulated, or measured when they arrived: for one step.
    uses_up: bool,
    /// Gradients of parameters that are not stepped.
    passes_over: bool,
    /// Parameters that were stepped alone, in what is a step of all now.
    alone: bool,
    stale_masters: bool,
    unchecked_masters: bool,
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

    /// Steps those of some parameters that have a gradient. `next` says where the schedule goes.
    pub(in crate::optimizer) fn take_step(
        &mut self,
        of: Range<usize>,
        next: impl FnOnce(&Optimizer) -> Result<Option<schedule::State>, Error>,
        taken: impl FnOnce(&Optimizer),
    ) -> Result<(), Error> {
        let started = self.statistics.then(Instant::now);
        self.check_grads()?;
        self.check_window(&of)?;
        self.read_host_values()?;
        // A change that the step itself makes is one for the next step.
        let revision = self.params.revision();
        let repeats = self.repeats(&of);
        let needs = match repeats {
            true => StepNeeds {
                n_elements: self.scratch.n_elements,
                n_on_device: self.scratch.n_on_device,
                steps_on_host: self.scratch.steps_on_host,
                passes_over: self.scratch.passes_over,
                ..StepNeeds::default()
            },
            false => self.gather(&of),
        };
        let on_device = self.lay_device(&of, needs.steps_on_host)?;
        self.read_lr_on_device(on_device.as_ref())?;
        self.begin_offload(&of)?;
        if needs.rows || needs.lags {
            self.read_rows(&of)?;
        }
        if needs.unchecked_masters {
            self.check_masters(&of)?;
        }
        let n_elements = needs.n_elements + needs.n_on_device;
        if (self.measures() || needs.lags) && self.has_copies() {
            self.wait_for_grads(&of)?; // and for copies to have gone up that rows of are about to be written
        }
        let mut report = self.measure(&of, n_elements, on_device.as_ref())?;
        if report.skipped {
            self.clear_used_on_device(&of, |_| true)?;
            self.clear_on_device(&of)?;
            self.clear_due_report();
            report.seconds = seconds_since(started);
            self.report = report;
            self.tell(&report);
            self.clear_used(&of, |_| true);
            self.end_window(&of, &needs);
            return Ok(());
        }
        self.decide(&of, repeats)?;
        if on_device.is_some() && self.lr_ratio.is_some() {
            self.set_hypers(&of)?;
        }
        if on_device.is_some() {
            self.check_lr_on_device()?;
        }
        let scheduled = next(self)?;
        if needs.stale_masters {
            self.fill_stale_masters(&of, |_| true)?;
        }
        self.clear_due_report();
        if let Some(step) = &on_device {
            self.step_on_device(&of, step)?;
        }
        // From the first write on the calling thread does what others refuse.
        let refused = Refused::after(on_device.is_some());
        if needs.lags {
            self.take_turns(&of, refused)?;
        }
        let refused = Refused::after(on_device.is_some() || needs.lags);
        let updated = self.update(&of, repeats, refused);
        if updated.is_err() && on_device.is_some() {
            self.cuda()?.give_up();
        }
        updated?;
        if needs.passes_over {
            let cleared = self.clear_used_on_device(&of, Operands::is_passed_over);
            cleared.map_err(|_| Error::HalfStep)?;
        }
        if needs.rows || needs.passes_over {
            self.clear_used(&of, |operands| operands.has_rows() || operands.is_passed_over());
        }
        self.advance(&of);
        if on_device.is_some() {
            self.advance_on_device(&of);
        }
        if needs.lags {
            self.log_steps(&of);
        }
        self.add_up(&of, &mut report);
        report.seconds = seconds_since(started);
        self.report = report;
        self.tell(&report);
        if let Some(state) = scheduled {
            self.go_to(state);
        }
        taken(self);
        self.end_window(&of, &needs);
        self.scratch.n_elements = needs.n_elements;
        self.scratch.n_on_device = needs.n_on_device;
        self.scratch.steps_on_host = needs.steps_on_host;
        self.scratch.passes_over = needs.passes_over;
        self.scratch.repeats_at = self.can_repeat(&of).then_some(revision);
        Ok(())
    }

    /// Whether this step is of the same parameters as the last one, which share scalars as they did,
    /// so that there is nothing to find out for each of them. Rows to be read and sums to be used up
    /// count as changes: the step that does so writes the operands.
    fn repeats(&mut self, of: &Range<usize>) -> bool {
        // Until this step too has been taken.
        let repeats_at = self.scratch.repeats_at.take();
        repeats_at == Some(self.params.revision()) && self.can_repeat(of)
    }

    fn can_repeat(&self, of: &Range<usize>) -> bool {
        let clips_each = |group: &GroupConfig| matches!(group.clip, Clip::Norm(_));
        *of == self.params.all()
            && self.lr_ratio.is_none()
            && !self.statistics
            && !self.groups.iter().any(clips_each)
    }

    /// What was for this step, taken or skipped, is for no other.
    fn end_window(&mut self, of: &Range<usize>, needs: &StepNeeds) {
        if needs.uses_up {
            self.use_up_grads(of);
        }
        if needs.alone {
            let Parts { params, operands, .. } = self.params.parts();
            for (param, operands) in params[of.clone()].iter_mut().zip(&operands[of.clone()]) {
                param.stepped_alone &= operands.is_left_out();
            }
        }
    }

    /// Looks once at every parameter, so that what few need costs the others nothing.
    fn gather(&self, of: &Range<usize>) -> StepNeeds {
        let mut needs = StepNeeds::default();
        for (param, operands) in self.params.iter(of) {
            needs.uses_up |= operands.is_ready();
            needs.uses_up |= operands.is_asked() && operands.n_accumulated() > 0;
            needs.passes_over |= operands.is_passed_over();
            needs.alone |= param.stepped_alone;
            if operands.is_due_on_device() {
                needs.n_on_device += operands.param().n_elements();
                needs.stale_masters |= param.master == Master::Stale;
                needs.unchecked_masters |= param.master == Master::Unchecked;
            }
            if operands.is_due_on_host() {
                needs.n_elements += operands.param().n_elements();
                needs.steps_on_host = true;
                needs.rows |= operands.has_rows();
                needs.lags |= operands.lag().is_some();
                needs.stale_masters |= param.master == Master::Stale;
                needs.unchecked_masters |= param.master == Master::Unchecked;
            }
        }
        needs
    }

    fn update(&mut self, of: &Range<usize>, repeats: bool, refused: Refused) -> Result<(), Error> {
        match self.has_copies() {
            true => self.update_offloaded(of, refused),
            false => self.update_part(of, of, repeats, refused),
        }
    }

    /// Steps some of the parameters of a step.
    pub(in crate::optimizer) fn update_part(
        &mut self,
        of: &Range<usize>,
        part: &Range<usize>,
        repeats: bool,
        refused: Refused,
    ) -> Result<(), Error> {
        let Scratch { pass, decisions, changes, .. } = &mut self.scratch;
        let Decisions { scalars, scalars_of, .. } = decisions;
        let scalars_of = &scalars_of[part.start - of.start..][..part.len()];
        let of = part;
        let (Parts { params, operands, logs }, groups) = (self.params.parts(), &self.groups);
        let (params, logs) = (&params[of.clone()], &logs[of.clone()]);
        let extent = |place: usize, operands: &Operands| match scalars_of[place] {
            NO_STEP => Extent::Nothing,
            _ if !operands.has_rows() => Extent::All,
            _ => match groups[params[place].group as usize].lazy {
                Lazy::Off => Extent::All,
                Lazy::Rows | Lazy::Exact => Extent::Listed,
            },
        };
        let operands = &mut operands[of.clone()];
        let mut chunks = match self.statistics {
            false if repeats => pass.again_over(operands),
            false => pass.over(operands, extent),
            true => pass.measured_over(operands, extent, changes),
        };
        if self.config.clear_grads {
            chunks.clear_grads();
        }
        self.backend.update(&chunks, &Steps { scalars, scalars_of, logs }, refused)
    }

    /// Counts the step that has been taken.
    fn advance(&mut self, of: &Range<usize>) {
        let params = &mut self.params.parts().params[of.clone()];
        let stepped = params.iter_mut().zip(&self.scratch.decisions.scalars_of);
        for (param, _) in stepped.filter(|(_, scalars)| **scalars != NO_STEP) {
            param.clock = param.clock.advanced(&self.groups[param.group as usize]);
            param.master = Master::Settled;
        }
    }
}

fn seconds_since(started: Option<Instant>) -> f64 {
    started.map_or(0.0, |started| started.elapsed().as_secs_f64())
}

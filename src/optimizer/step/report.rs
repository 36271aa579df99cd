//! The last stage of a step: the report, and the end of what was for this step alone.
#![forbid(unsafe_code)]

use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::params::table::{ParamId, Parts};
use crate::optimizer::step::gather::Plan;
use crate::optimizer::step::{LastStep, Scratch};
use crate::tensor::Squares;
use core::ops::Range;

/// What the last step found, and whether it was taken.
#[derive(Clone, Copy)]
pub struct Report {
    /// The number of elements of the parameters that had a gradient.
    pub n_elements: u64,
    /// The gradients were measured; if not, the two fields below are 0.
    pub measured: bool,
    pub n_nonfinite: u64,
    /// The norm of all gradients together, unscaled, before clipping.
    pub grad_norm: f64,
    /// The host's flag says that another optimizer or process has found a gradient that is not
    /// finite.
    pub raised: bool,
    pub skipped: bool,
    /// The step was skipped for a number in the device's memory that no step can use.
    pub invalid_inputs: bool,
    /// The smallest factor that a gradient was clipped with.
    pub clip_factor: f64,
    /// The host wants statistics; if not, the three fields below are 0.
    pub has_statistics: bool,
    /// The norm of what the step added to the elements that it visited.
    pub update_norm: f64,
    /// The norm of those elements after the step.
    pub param_norm: f64,
    /// The number of those elements that were to be changed and are what they were.
    pub n_unchanged: u64,
    /// The time that the step took; 0 without statistics.
    pub seconds: f64,
}

impl Report {
    /// The report before the first step.
    pub(in crate::optimizer) const NONE: Report = Report {
        n_elements: 0,
        measured: false,
        n_nonfinite: 0,
        grad_norm: 0.0,
        raised: false,
        skipped: false,
        invalid_inputs: false,
        clip_factor: 1.0,
        has_statistics: false,
        update_norm: 0.0,
        param_norm: 0.0,
        n_unchanged: 0,
        seconds: 0.0,
    };

    /// Takes back the statistics of a step that turns out to be skipped.
    pub(in crate::optimizer) fn forget_statistics(&mut self) {
        let Report { update_norm, param_norm, n_unchanged, .. } = Report::NONE;
        *self = Report { has_statistics: false, update_norm, param_norm, n_unchanged, ..*self };
    }
}

/// What a step has changed of a parameter.
#[derive(Clone, Copy)]
pub enum Changed {
    Here(Squares),
    /// The device knows, by this number.
    There(u32),
}

impl Optimizer {
    /// Reports a step that is skipped, and ends it. What can fail comes first.
    pub(in crate::optimizer) fn report_skipped(
        &mut self,
        plan: &Plan,
        mut report: Report,
    ) -> Result<(), Error> {
        self.clear_used_on_device(&plan.of, false, |_| true)?;
        self.clear_due_report();
        self.set_report(plan, &mut report, false);
        self.clear_used(&plan.of, |_| true);
        self.end_window(plan);
        Ok(())
    }

    /// Reports a step that has been taken.
    pub(in crate::optimizer) fn report_taken(&mut self, plan: &Plan, report: &mut Report) {
        self.note_changes(&plan.of, report);
        let adapts = plan.on_device.as_ref().and_then(|step| self.adapts_scale(step)).is_some();
        self.set_report(plan, report, adapts);
        if self.statistics && self.on_device.changes_at.is_none() {
            self.add_up_changes();
        }
    }

    fn set_report(&mut self, plan: &Plan, report: &mut Report, adapts_there: bool) {
        report.seconds = plan.started.map_or(0.0, |started| started.elapsed().as_secs_f64());
        self.report = *report;
        self.tell(report, adapts_there);
    }

    /// Ends a step that has been taken, and remembers what the next may repeat.
    pub(in crate::optimizer) fn end_step(&mut self, plan: &Plan) {
        self.end_window(plan);
        let last = LastStep { revision: plan.revision, needs: plan.needs };
        self.scratch.last = self.can_repeat(&plan.of).then_some(last);
    }

    /// Uses up what was for this step alone, whether it was taken or skipped.
    fn end_window(&mut self, plan: &Plan) {
        let Plan { of, needs, .. } = plan;
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

    /// Notes what the step has changed of each of its parameters, if the host wants statistics.
    fn note_changes(&mut self, of: &Range<usize>, report: &mut Report) {
        report.clip_factor = self.scratch.decisions.clip_factor;
        report.has_statistics = self.statistics;
        if self.statistics {
            self.scratch.changed.clear();
            for (place, id) in self.params.ids(of).enumerate() {
                let changed = self.changed(place, id);
                self.scratch.changed.extend(changed); // `reserve_statistics` has made room
            }
        }
    }

    /// Adds up what the last step has changed, in the order of its parameters, all of which is
    /// known.
    pub(in crate::optimizer) fn add_up_changes(&mut self) {
        let (mut update, mut param, mut n_unchanged) = (0.0, 0.0, 0);
        for changed in &self.scratch.changed {
            let squares = match *changed {
                Changed::Here(squares) => squares,
                Changed::There(number) => self.on_device.change(number as usize),
            };
            update += squares.update;
            param += squares.param;
            n_unchanged += squares.n_unchanged;
        }
        let report = &mut self.report;
        (report.update_norm, report.param_norm) = (update.sqrt(), param.sqrt());
        report.n_unchanged = n_unchanged;
    }

    /// Returns what the step has changed of a parameter, if it had a part in the step.
    fn changed(&self, place: usize, id: ParamId) -> Option<Changed> {
        let operands = self.params.operands(id);
        let Scratch { pass, changes, .. } = &self.scratch;
        if !operands.is_due() {
            None
        } else if operands.is_on_device() {
            Some(Changed::There(id.number()))
        } else {
            Some(Changed::Here(changes.total(pass.units(place))))
        }
    }
}

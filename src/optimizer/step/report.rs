//! The last stage of a step: what it found and changed, and the end of what was for it alone.
#![forbid(unsafe_code)]

use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::params::table::{ParamId, Parts};
use crate::optimizer::step::Scratch;
use crate::optimizer::step::gather::Plan;
use crate::tensor::Squares;
use core::ops::Range;

/// What the last step found, and whether it was taken.
#[derive(Clone, Copy)]
pub struct Report {
    /// Elements of the parameters that had a gradient.
    pub n_elements: u64,
    /// Whether the gradients were looked at; if not, the two fields below are 0.
    pub measured: bool,
    pub n_nonfinite: u64,
    /// Of all gradients together, unscaled, before clipping.
    pub grad_norm: f64,
    /// The host's flag says that somebody has found a gradient that is not finite.
    pub raised: bool,
    pub skipped: bool,
    /// It was skipped for a number in the device's memory that no step can use.
    pub invalid_inputs: bool,
    /// The smallest factor that a gradient was clipped with.
    pub clip_factor: f64,
    /// Whether the two norms below were asked for; if not, they are 0.
    pub has_statistics: bool,
    /// Of what the step added to the elements that it visited.
    pub update_norm: f64,
    /// Of those elements, after the step.
    pub param_norm: f64,
    /// Of those elements, how many were to be changed and are what they were.
    pub n_unchanged: u64,
    /// How long the step took.
    pub seconds: f64,
}

impl Report {
    /// Of no step.
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
}

impl Optimizer {
    /// Reports a step that is skipped. Nothing that can fail has been done yet.
    pub(in crate::optimizer) fn report_skipped(
        &mut self,
        plan: &Plan,
        mut report: Report,
    ) -> Result<(), Error> {
        self.clear_used_on_device(&plan.of, |_| true)?;
        self.clear_on_device(&plan.of)?;
        self.clear_due_report();
        self.set_report(plan, &mut report);
        self.clear_used(&plan.of, |_| true);
        self.end_window(plan);
        Ok(())
    }

    /// Reports a step that has been taken.
    pub(in crate::optimizer) fn report_taken(&mut self, plan: &Plan, report: &mut Report) {
        self.add_up(&plan.of, report);
        self.set_report(plan, report);
    }

    fn set_report(&mut self, plan: &Plan, report: &mut Report) {
        report.seconds = plan.started.map_or(0.0, |started| started.elapsed().as_secs_f64());
        self.report = *report;
        self.tell(report);
    }

    /// Ends a step that has been taken, and remembers what the next may repeat.
    pub(in crate::optimizer) fn end_step(&mut self, plan: &Plan) {
        self.end_window(plan);
        self.scratch.last = self.can_repeat(&plan.of).then_some((plan.revision, plan.needs));
    }

    /// What was for this step, taken or skipped, is for no other.
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

    /// What the step that was taken has changed, parameter by parameter.
    pub(in crate::optimizer) fn add_up(&self, of: &Range<usize>, report: &mut Report) {
        report.clip_factor = self.scratch.decisions.clip_factor;
        report.has_statistics = self.statistics;
        if self.statistics {
            let (mut update, mut param) = (0.0, 0.0);
            for (place, id) in self.params.ids(of).enumerate() {
                let squares = self.change(place, id);
                update += squares.update;
                param += squares.param;
                report.n_unchanged += squares.n_unchanged;
            }
            (report.update_norm, report.param_norm) = (update.sqrt(), param.sqrt());
        }
    }

    /// What the step has changed of a parameter: of one that had no part in it, nothing.
    fn change(&self, place: usize, id: ParamId) -> Squares {
        let operands = self.params.operands(id);
        let Scratch { pass, changes, .. } = &self.scratch;
        match operands.is_on_device() {
            _ if !operands.is_due() => Squares::default(),
            false => changes.total(pass.units(place)),
            true => self.on_device.change(id.place()),
        }
    }
}

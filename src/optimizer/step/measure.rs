//! What the gradients say before anything is written: their norms, and whether they are finite.
#![forbid(unsafe_code)]

use crate::clip::{Clip, NormScope};
use crate::config::Nonfinite;
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::device::DeviceStep;
use crate::optimizer::params::Param;
use crate::optimizer::params::table::ParamId;
use crate::optimizer::step::Scratch;
use crate::tensor::{GradBlocks, Operands, Squares, Total};
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
    /// Passes over the gradients of some parameters, if their norms or their finiteness matter.
    pub(in crate::optimizer) fn measure(
        &mut self,
        of: &Range<usize>,
        n_elements: u64,
        on_device: Option<&DeviceStep>,
    ) -> Result<Report, Error> {
        let mut report = Report { n_elements, ..Report::NONE };
        // The flag is read once: another thread of the host's may write it.
        report.raised = self.found_inf.host_flag.is_some_and(|flag| flag.read() != 0.0);
        report.skipped = report.raised;
        if on_device.is_some() && (!report.skipped || self.measures()) {
            self.cuda()?.gather()?;
        }
        if !self.measures() {
            return Ok(report);
        }
        // What is skipped already will not be decided on the device.
        let waits = on_device.is_some_and(|step| step.waits || report.skipped);
        if on_device.is_some() {
            self.cuda()?.measure()?;
        }
        let (nonfinite, inv_grad_scale) = (self.nonfinite(), self.inv_grad_scale());
        let operands = self.params.operands_of(of);
        let Scratch { tallies, sums, .. } = &mut self.scratch;
        sums.clear();
        sums.resize(self.groups.len(), 0.0);
        self.backend.measure(&GradBlocks::new(operands, tallies))?;
        self.learn_totals(waits)?;
        if waits && self.cuda()?.has_rows() {
            self.check_rows_on_device()?;
        }
        report.measured = true;
        let mut sum_squares = 0.0;
        for (place, id) in self.params.ids(of).enumerate() {
            let total = self.total(place, id);
            let (param, operands) = (&self.params[id], self.params.operands(id));
            let mean = self.mean(operands);
            let squares = total.sum_squares * (mean * mean);
            let (norm, dtype) = (squares.sqrt() * inv_grad_scale, operands.param().dtype());
            let overflows = total.n_nonfinite == 0 && norm > dtype.largest();
            if nonfinite == Nonfinite::Fail {
                let (param, n_elements) = (param.label(), operands.param().n_elements());
                if overflows {
                    return Err(Error::NormOverflow { param, norm, dtype: dtype.compute() });
                }
                if total.n_nonfinite > 0 {
                    let count = total.n_nonfinite;
                    return Err(Error::Nonfinite { param, count, n_elements });
                }
            }
            report.n_nonfinite += total.n_nonfinite + u64::from(overflows);
            sum_squares += squares;
            let clip = self.groups[param.group as usize].clip;
            if matches!(clip, Clip::GlobalNorm(_)) && !param.no_clip {
                self.scratch.sums[scope(self.config.clip_scope, param)] += squares;
            }
        }
        report.grad_norm = sum_squares.sqrt() * inv_grad_scale;
        report.skipped |= report.n_nonfinite > 0 && nonfinite == Nonfinite::Skip;
        Ok(report)
    }

    /// Whether a step passes over the gradients before it writes.
    pub(in crate::optimizer) fn measures(&self) -> bool {
        self.nonfinite() != Nonfinite::Propagate
            || self.found_inf.own_flag.is_some()
            || self.groups.iter().any(|group| group.clip.needs_norms())
    }

    /// What a step does with gradients that are not finite.
    pub(in crate::optimizer) fn nonfinite(&self) -> Nonfinite {
        if self.scaler.is_some() { Nonfinite::Skip } else { self.config.nonfinite }
    }

    /// Has what each step changes added up, or not.
    pub fn set_statistics(&mut self, statistics: bool) -> Result<(), Error> {
        if statistics {
            self.scratch.changes.release_all();
            let all = self.params.operands_of(&self.params.all());
            for (number, operands) in all.iter().enumerate() {
                self.scratch.changes.reserve(number, operands)?;
            }
            if let Some(cuda) = self.backend.cuda() {
                cuda.reserve_statistics(None)?;
            }
        }
        self.statistics = statistics;
        Ok(())
    }

    /// Makes room for what a step changes of a new parameter.
    pub(in crate::optimizer) fn reserve_statistics(
        &mut self,
        number: usize,
        operands: &Operands,
    ) -> Result<(), Error> {
        self.scratch.changes.reserve(number, operands)?;
        match self.backend.cuda() {
            Some(cuda) => cuda.reserve_statistics(Some(operands).filter(|o| o.is_on_device())),
            None => Ok(()),
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

    /// What the gradient of a parameter adds up to: of one that has no part in the step, to nothing, whatever
    /// was measured before.
    fn total(&self, place: usize, id: ParamId) -> Total {
        let operands = self.params.operands(id);
        match operands.is_on_device() {
            _ if !operands.is_due() => Total::default(),
            false => self.scratch.tallies.total(place, operands),
            true => self.on_device.total(id.place()),
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

    /// What the gradient of a parameter is multiplied by, and what part of that is clipping.
    pub(in crate::optimizer) fn factor(&self, place: usize, id: ParamId) -> (f64, f64) {
        let (param, operands) = (&self.params[id], self.params.operands(id));
        let mean = self.mean(operands);
        let inv_grad_scale = self.inv_grad_scale();
        let scale = inv_grad_scale * mean;
        let clip = self.groups[param.group as usize].clip;
        let sum_squares = match clip {
            Clip::Norm(_) if !param.no_clip => self.total(place, id).sum_squares * (mean * mean),
            Clip::GlobalNorm(_) if !param.no_clip => {
                self.scratch.sums[scope(self.config.clip_scope, param)]
            }
            _ => return (scale, 1.0),
        };
        let factor = clip.factor(sum_squares.sqrt() * inv_grad_scale);
        (factor * scale, factor)
    }
}

/// Where the squares that a parameter is clipped with are summed.
pub(in crate::optimizer) fn scope(scope: NormScope, param: &Param) -> usize {
    match scope {
        NormScope::Group => param.group as usize,
        NormScope::Handle => 0,
    }
}

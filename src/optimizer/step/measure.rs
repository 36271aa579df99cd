//! The second stage of a step: the norms of the gradients, and whether they are finite.
#![forbid(unsafe_code)]

use crate::clip::{Clip, NormScope};
use crate::config::Nonfinite;
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::params::Param;
use crate::optimizer::params::table::ParamId;
use crate::optimizer::step::Scratch;
use crate::optimizer::step::gather::Plan;
use crate::optimizer::step::report::Report;
use crate::tensor::{GradBlocks, Operands, Total};

impl Optimizer {
    /// Passes over the gradients of some parameters, if their norms or their finiteness matter.
    pub(in crate::optimizer) fn measure(&mut self, plan: &Plan) -> Result<Report, Error> {
        let Plan { of, needs, on_device, .. } = plan;
        let n_elements = needs.n_elements + needs.n_on_device;
        let mut report = Report { n_elements, ..Report::NONE };
        // The flag is read once: another thread of the host's may write it.
        report.raised = self.found_inf.host_flag.is_some_and(|flag| flag.read() != 0.0);
        report.skipped = report.raised;
        if on_device.is_some() && (!report.skipped || self.measures()) {
            self.gather_rows_on_device()?;
        }
        if !self.measures() {
            return Ok(report);
        }
        // What is skipped already will not be decided on the device.
        let waits = on_device.as_ref().is_some_and(|step| step.waits || report.skipped);
        if on_device.is_some() {
            self.measure_on_device()?;
        }
        let (nonfinite, inv_grad_scale) = (self.nonfinite(), self.inv_grad_scale());
        let operands = self.params.operands_of(of);
        let Scratch { tallies, sums, .. } = &mut self.scratch;
        sums.clear();
        sums.resize(self.groups.len(), 0.0);
        self.backend.measure(&GradBlocks::new(operands, tallies))?;
        self.learn_totals(waits)?;
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
            self.reserve_statistics_on_device(None)?;
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
        self.reserve_statistics_on_device(Some(operands))
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

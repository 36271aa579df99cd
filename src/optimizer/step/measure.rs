//! The second stage of a step: the norms of the gradients, and whether they are finite.
//!
//! `measure` adds up the squares of every gradient, on the processor and on the device, and then
//! looks at the sums in the order of the parameters. A gradient that is not finite fails the step
//! or skips it, as the host has chosen. What is clipped by a global norm is summed over its group
//! or over the handle (`sum_of_norm`).
//!
//! Where the host gives the sums (`sums.rs`), they take the place of those that are measured.
//! Ranks have agreed on the step before, and add up what each has measured (`ranks/`).
//!
//! From these sums `grad_factor` returns what a gradient is multiplied by: the inverse of the loss
//! scale, the mean over the micro-batches, and the factor that clips. If none of that needs sums,
//! nothing is measured (`measures`).
#![forbid(unsafe_code)]

use crate::backend::Refused;
use crate::clip::Clip;
use crate::config::Nonfinite;
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::params::table::ParamId;
use crate::optimizer::step::Scratch;
use crate::optimizer::step::gather::Plan;
use crate::optimizer::step::report::Report;
use crate::sys::memory::reserve;
use crate::tensor::{GradBlocks, Operands, Total};
use core::ops::Range;

/// What a gradient is multiplied by.
pub struct GradFactor {
    /// All of it.
    pub scale: f64,
    /// The part of it that clips.
    pub clip: f64,
}

impl Optimizer {
    /// Measures the gradients of a step, if it depends on their norms or on whether they are
    /// finite. Returns a report of what has been found.
    pub(in crate::optimizer) fn measure(&mut self, plan: &Plan) -> Result<Report, Error> {
        let Plan { of, needs, on_device, .. } = plan;
        let n_elements = needs.n_elements + needs.n_on_device;
        let mut report = Report { n_elements, ..Report::NONE };
        // The flag is read once: another thread of the host's may write it.
        report.raised = match &self.ranks {
            Some(ranks) => ranks.raised(),
            None => self.found_inf.host_flag.is_some_and(|flag| flag.read() != 0.0),
        };
        report.skipped = report.raised;
        if report.skipped || on_device.as_ref().is_none_or(|step| step.waits) {
            self.learn_scale()?;
        }
        if on_device.is_some() && (!report.skipped || self.measures()) {
            self.gather_rows_on_device()?;
        }
        if !self.measures() {
            return Ok(report);
        }
        // A step that is skipped already is not decided on the device.
        let waits = on_device.as_ref().is_some_and(|step| step.waits || report.skipped);
        if self.ranks.is_some() {
            self.add_up_parts()?;
        } else if self.grad_sums.is_some() {
            self.read_grad_sums(on_device.is_none() || waits)?;
        } else {
            if on_device.is_some() {
                self.measure_on_device()?;
            }
            self.measure_on_host(of)?;
            self.learn_totals(waits)?;
        }
        self.add_up_grads(of, self.nonfinite(), &mut report)?;
        Ok(report)
    }

    /// Measures the gradients of parameters that the processor steps.
    pub(in crate::optimizer) fn measure_on_host(&mut self, of: &Range<usize>) -> Result<(), Error> {
        let operands = self.params.operands_of(of);
        let blocks = GradBlocks::new(operands, &[], &mut self.scratch.tallies);
        self.backend.measure(&blocks, Refused::Fails)
    }

    /// Adds up what is known of the gradients, in the order of the parameters.
    pub(in crate::optimizer) fn add_up_grads(
        &mut self,
        of: &Range<usize>,
        nonfinite: Nonfinite,
        report: &mut Report,
    ) -> Result<(), Error> {
        let inv_grad_scale = self.inv_grad_scale();
        let sums = &mut self.scratch.sums;
        sums.clear();
        sums.resize(self.groups.len(), 0.0);
        report.measured = true;
        let mut sum_squares = 0.0;
        for (place, id) in self.params.ids(of).enumerate() {
            let total = self.total(place, id);
            let (param, operands) = (&self.params[id], self.params.operands(id));
            let squares = total.sum_squares;
            let (norm, dtype) = (squares.sqrt() * inv_grad_scale, operands.param().dtype());
            let overflows = total.n_nonfinite == 0 && norm > dtype.largest();
            if nonfinite == Nonfinite::Fail {
                let (param, n_elements) = (param.label(), self.n_measured(id));
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
                self.scratch.sums[param.sum_of_norm(self.config.clip_scope)] += squares;
            }
        }
        report.grad_norm = sum_squares.sqrt() * inv_grad_scale;
        report.skipped |= report.n_nonfinite > 0 && nonfinite == Nonfinite::Skip;
        Ok(())
    }

    /// Returns whether a step measures the gradients before it writes.
    pub(in crate::optimizer) fn measures(&self) -> bool {
        self.nonfinite() != Nonfinite::Propagate
            || self.found_inf.own_flag.is_some()
            || self.groups.iter().any(|group| group.clip.needs_norms())
    }

    /// Returns what a step does with gradients that are not finite.
    pub(in crate::optimizer) fn nonfinite(&self) -> Nonfinite {
        if self.scaler.is_some() { Nonfinite::Skip } else { self.config.nonfinite }
    }

    /// Sets whether steps add up what they change.
    pub fn set_statistics(&mut self, statistics: bool) -> Result<(), Error> {
        if statistics {
            let Scratch { changed, changes, .. } = &mut self.scratch;
            let missing = self.params.len().saturating_sub(changed.len());
            reserve(changed, missing, "the norms of updates")?;
            changes.release_all();
            let all = self.params.operands_of(&self.params.all());
            for (number, operands) in all.iter().enumerate() {
                self.scratch.changes.reserve(number, operands)?;
            }
            self.reserve_statistics_on_device(None)?;
        }
        self.statistics = statistics;
        Ok(())
    }

    /// Makes room for the sums of what a step changes of a new parameter.
    pub(in crate::optimizer) fn reserve_statistics(
        &mut self,
        number: usize,
        operands: &Operands,
    ) -> Result<(), Error> {
        let Scratch { changed, changes, .. } = &mut self.scratch;
        let missing = (number + 1).saturating_sub(changed.len());
        reserve(changed, missing, "the norms of updates")?;
        changes.reserve(number, operands)?;
        self.reserve_statistics_on_device(Some(operands))
    }

    /// Returns the sums of the gradient that a parameter is stepped with, which may be a mean; zero
    /// if the parameter has no part in the step, whatever was measured before. Sums of the host's
    /// count for every parameter.
    fn total(&self, place: usize, id: ParamId) -> Total {
        match self.grad_sums {
            Some(_) if self.params[id].removed => Total::default(),
            Some(_) => match self.scratch.outside.get(id.place()) {
                Some(&[sum_squares, n_nonfinite]) => Total::from_outside(sum_squares, n_nonfinite),
                None => Total::default(), // which the device alone knows
            },
            None => match &self.ranks {
                Some(ranks) => ranks.total(id, self.mean(self.params.operands(id))),
                None => self.measured_total(place, id),
            },
        }
    }

    /// Returns the sums that were measured of the gradient that a parameter is stepped with.
    pub(in crate::optimizer) fn measured_total(&self, place: usize, id: ParamId) -> Total {
        let operands = self.params.operands(id);
        let total = if !operands.is_due() {
            return Total::default();
        } else if operands.is_on_device() {
            self.on_device.total(id.place())
        } else {
            self.scratch.tallies.total(place, operands)
        };
        let mean = self.mean(operands);
        Total { sum_squares: total.sum_squares * (mean * mean), ..total }
    }

    /// Returns what the gradient of the parameter at a place in the step is multiplied by.
    pub(in crate::optimizer) fn grad_factor(&self, place: usize, id: ParamId) -> GradFactor {
        let (param, operands) = (&self.params[id], self.params.operands(id));
        let mean = self.mean(operands);
        let inv_grad_scale = self.inv_grad_scale();
        let scale = inv_grad_scale * mean;
        let clip = self.groups[param.group as usize].clip;
        let sum_squares = match clip {
            Clip::Norm(_) if !param.no_clip => self.total(place, id).sum_squares,
            Clip::GlobalNorm(_) if !param.no_clip => {
                self.scratch.sums[param.sum_of_norm(self.config.clip_scope)]
            }
            _ => return GradFactor { scale, clip: 1.0 },
        };
        let factor = clip.factor(sum_squares.sqrt() * inv_grad_scale);
        GradFactor { scale: factor * scale, clip: factor }
    }
}

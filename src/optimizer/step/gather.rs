//! The first stage of a step: which parameters it is of, and what they need.
#![forbid(unsafe_code)]

use crate::clip::Clip;
use crate::config::GroupConfig;
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::device::DeviceStep;
use crate::optimizer::params::masters::Master;
use core::ops::Range;
use std::time::Instant;

/// A step that is being taken.
pub struct Plan {
    /// The places of the parameters that it is of.
    pub of: Range<usize>,
    /// It is of the same parameters as the last one, which share scalars as they did.
    pub repeats: bool,
    /// As it was at the start: a change that the step itself makes is one for the next step.
    pub revision: u64,
    pub needs: StepNeeds,
    /// How it goes on on a device, if some of the parameters are there.
    pub on_device: Option<DeviceStep>,
    /// When it was begun, where somebody asks how long it takes.
    pub started: Option<Instant>,
}

/// What the parameters that are stepped are, and have, all together.
#[derive(Clone, Copy, Default)]
pub struct StepNeeds {
    /// Elements that the processor steps, and the device.
    pub n_elements: u64,
    pub n_on_device: u64,
    /// Parameters that the processor steps, which may be empty.
    pub steps_on_host: bool,
    /// Sparse gradients.
    pub rows: bool,
    /// Rows that may lag.
    pub lags: bool,
    /// Gradients that were accumulated, or measured when they arrived: for one step.
    pub uses_up: bool,
    /// Gradients of parameters that are not stepped.
    pub passes_over: bool,
    /// Parameters that were stepped alone, in what is a step of all now.
    pub alone: bool,
    pub stale_masters: bool,
    pub unchecked_masters: bool,
}

impl StepNeeds {
    /// Returns the needs of the next step, if it is of the same parameters.
    fn of_next(&self) -> StepNeeds {
        let StepNeeds { n_elements, n_on_device, steps_on_host, passes_over, .. } = *self;
        let none = StepNeeds::default();
        StepNeeds { n_elements, n_on_device, steps_on_host, passes_over, ..none }
    }
}

impl Optimizer {
    /// Checks what the host has given for a step, and has what it needs come up to date. Writes no
    /// parameter and no state.
    pub(in crate::optimizer) fn gather(&mut self, of: Range<usize>) -> Result<Plan, Error> {
        let started = self.statistics.then(Instant::now);
        self.check_grads()?;
        self.check_window(&of)?;
        self.read_host_values()?;
        let revision = self.params.revision();
        // Until this step has been taken there is none to repeat.
        let last = self.scratch.last.take();
        let last = last.filter(|(at, _)| *at == revision && self.can_repeat(&of));
        let needs = last.map_or_else(|| self.needs_of(&of), |(_, needs)| needs.of_next());
        let on_device = self.lay_device(&of, needs.steps_on_host)?;
        self.read_lr_on_device(on_device.as_ref())?;
        self.begin_offload(&of)?;
        if needs.rows || needs.lags {
            self.read_rows(&of)?;
        }
        if needs.unchecked_masters {
            self.check_masters(&of)?;
        }
        if (self.measures() || needs.lags) && self.has_copies() {
            self.wait_for_grads(&of)?; // and for copies whose rows are about to be written
        }
        Ok(Plan { of, repeats: last.is_some(), revision, needs, on_device, started })
    }

    /// Returns whether a step after one of these parameters may be of the same, which share scalars as
    /// they did. Rows to be read and sums to be used up count as changes: the step that does so writes
    /// the operands.
    pub(in crate::optimizer) fn can_repeat(&self, of: &Range<usize>) -> bool {
        let clips_each = |group: &GroupConfig| matches!(group.clip, Clip::Norm(_));
        *of == self.params.all()
            && self.lr_ratio.is_none()
            && !self.statistics
            && !self.groups.iter().any(clips_each)
    }

    /// Looks once at every parameter, so that what few need costs the others nothing.
    fn needs_of(&self, of: &Range<usize>) -> StepNeeds {
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
}

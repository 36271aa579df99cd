//! The first stage of a step: its parameters, and what they need.
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
    /// The places of the parameters of the step.
    pub of: Range<usize>,
    /// The step has the parameters of the last one, which share scalars as they did.
    pub repeats: bool,
    /// The revision at the start of the step. What the step itself changes is a change for the
    /// next.
    pub revision: u64,
    pub needs: StepNeeds,
    /// The device's part of the step, if it has one.
    pub on_device: Option<DeviceStep>,
    /// The start of the step, if the host wants statistics.
    pub started: Option<Instant>,
}

/// What the parameters that are stepped need, all together.
#[derive(Clone, Copy, Default)]
pub struct StepNeeds {
    /// The number of elements that the processor steps.
    pub n_elements: u64,
    /// The number of elements that the device steps.
    pub n_on_device: u64,
    /// The processor steps some parameter, which may be empty.
    pub steps_on_host: bool,
    /// Some gradient is sparse.
    pub rows: bool,
    /// Rows of some parameter may lag.
    pub lags: bool,
    /// Some gradient was accumulated, or measured when it arrived, which is for this step alone.
    pub uses_up: bool,
    /// Some parameter is not stepped and has a gradient.
    pub passes_over: bool,
    /// Some parameter has been stepped alone since the last step of all.
    pub alone: bool,
    pub stale_masters: bool,
    pub unchecked_masters: bool,
}

impl StepNeeds {
    /// Returns the needs of the next step, if it repeats this one.
    fn of_next(&self) -> StepNeeds {
        let StepNeeds { n_elements, n_on_device, steps_on_host, passes_over, .. } = *self;
        let none = StepNeeds::default();
        StepNeeds { n_elements, n_on_device, steps_on_host, passes_over, ..none }
    }
}

impl Optimizer {
    /// Checks what the host has given for a step, finds what the step needs, and begins what takes
    /// time. Writes no parameter and no state.
    pub(in crate::optimizer) fn gather(&mut self, of: Range<usize>) -> Result<Plan, Error> {
        let started = self.statistics.then(Instant::now);
        self.check_grads()?;
        self.check_window(&of)?;
        self.read_host_values()?;
        let revision = self.params.revision();
        // Until this step has been taken there is none to repeat.
        let last = self.scratch.last.take();
        let last = last.filter(|last| last.revision == revision && self.can_repeat(&of));
        let repeats = last.is_some();
        let needs = last.map_or_else(|| self.needs_of(&of), |last| last.needs.of_next());
        self.learn_schedule_for_step()?;
        let on_device = self.lay_device(&of, needs.steps_on_host, false)?;
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
        Ok(Plan { of, repeats, revision, needs, on_device, started })
    }

    /// Returns whether a step after one of these parameters may repeat it. A step that reads rows
    /// or uses up sums is not repeated: it writes the operands, which is a revision.
    pub(in crate::optimizer) fn can_repeat(&self, of: &Range<usize>) -> bool {
        let clips_each = |group: &GroupConfig| matches!(group.clip, Clip::Norm(_));
        *of == self.params.all()
            && self.lr_ratio.is_none()
            && !self.statistics
            && !self.groups.iter().any(clips_each)
    }

    /// Returns the needs of a step. It looks once at every parameter, so that what few parameters
    /// need costs nothing where none needs it.
    pub(in crate::optimizer) fn needs_of(&self, of: &Range<usize>) -> StepNeeds {
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

//! The device's part of a step, and what the host knows of it.
//!
//! `lay_device` lays out the parameters that are stepped there (`lay.rs`). The device then measures
//! their gradients (`measure_on_device`) and steps them (`step_on_device`). It keeps their clocks,
//! and decides what to clip and whether to skip. The host waits for none of that, unless it has to
//! know. `report` and `clock` wait for what only the device knows.
//!
//! Parameters come and go in `params.rs`, `hypers.rs` sets what they are stepped with, `rows.rs` is
//! for sparse gradients, `timetable.rs` for schedules that captured steps follow, and `offload.rs`
//! for parameters there that the processor steps.
#![forbid(unsafe_code)]

pub(in crate::optimizer) mod hypers;
mod lay;
pub(in crate::optimizer) mod offload;
pub(in crate::optimizer) mod params;
pub(in crate::optimizer) mod rows;
pub(in crate::optimizer) mod scaler;
mod sums;
mod timetable;

use crate::callback::adamw_param_info;
use crate::config::Nonfinite;
pub use crate::cuda::InputsAt;
use crate::cuda::{Cuda, Decider, Inputs};
use crate::error::{Error, MemoryProblem};
use crate::optimizer::params::masters::Master;
use crate::optimizer::params::table::{ParamId, Parts};
use crate::optimizer::{Optimizer, Report};
use crate::steps::Clock;
use crate::sys::memory::{give_back, reserve};
use crate::tensor::{Operands, Squares, Total};
use core::ops::Range;

/// What the host knows of its parameters on a device.
#[derive(Default)]
pub struct OnDevice {
    /// The numbers that the device reads itself.
    pub(in crate::optimizer) inputs: InputsAt,
    /// The learning rate in the device's memory, if the host has read it for this step.
    pub(in crate::optimizer) lr: Option<f64>,
    /// The places of the parameters that the tables are laid out for, and the revision of that.
    laid: Option<(Range<usize>, u64)>,
    pub(in crate::optimizer) lr_limit: hypers::LrLimit,
    /// What the device does with the loss scale, and what the host knows of it.
    scaling: scaler::Scaling,
    timetable: timetable::Timetable,
    /// By parameter, the sums of its gradient, if the host has to know them.
    totals: Vec<Total>,
    /// Where the device has the sums of what the last step has changed, if the host has not.
    pub(in crate::optimizer) changes_at: Option<[u64; 2]>,
    /// They are a graph's, which writes them anew whenever it is launched.
    changes_stay: bool,
    /// By parameter, the squares of the update, and of the parameter after it.
    changes: [Vec<Total>; 2],
    /// The device knows the result of the last step, and the host does not.
    report_is_due: bool,
    /// A step has been recorded, and is taken whenever the graph is launched.
    is_captured: bool,
    /// The device knows whether the rows of sparse gradients were valid, and the host does not.
    rows_are_due: bool,
    /// The device may have skipped steps, or taken recorded ones: it alone knows the clocks.
    clocks_are_due: bool,
}

/// The device's part of a step.
#[derive(Clone, Copy)]
pub struct DeviceStep {
    /// The host waits for the norms, and decides for both parts.
    pub waits: bool,
    is_captured: bool,
    /// It takes the learning rate of the schedule there: it is captured.
    follows: bool,
}

impl OnDevice {
    /// Has the next step lay out the tables and set the hyper-parameters anew.
    pub fn lay_anew(&mut self) {
        self.laid = None;
    }

    /// Makes room for so many parameters, so that a step allocates nothing.
    pub fn reserve(&mut self, n_params: usize) -> Result<(), Error> {
        for totals in [&mut self.totals].into_iter().chain(&mut self.changes) {
            totals.clear();
            reserve(totals, n_params, "the norms of gradients")?;
        }
        Ok(())
    }

    /// Gives back the memory that so many parameters do not need.
    pub fn give_back(&mut self, n_params: usize) {
        for totals in [&mut self.totals].into_iter().chain(&mut self.changes) {
            give_back(totals, n_params);
        }
    }

    /// Returns the sums of what the last step has changed of a parameter, which have been learned.
    pub fn change(&self, number: usize) -> Squares {
        let total = |totals: &Vec<Total>| totals.get(number).copied().unwrap_or_default();
        let [Total { sum_squares: update, n_nonfinite: n_unchanged }, param] =
            self.changes.each_ref().map(total);
        Squares { update, param: param.sum_squares, n_unchanged }
    }

    /// Returns the sums of a parameter's gradient; zero if the host need not know them.
    pub fn total(&self, number: usize) -> Total {
        self.totals.get(number).copied().unwrap_or_default()
    }
}

impl Optimizer {
    /// Sets the stream on which the device works from now on.
    pub fn set_stream(&mut self, stream: usize) -> Result<(), Error> {
        self.cuda()?.set_stream(stream);
        Ok(())
    }

    /// Returns the bytes of page-locked memory that the handle has taken.
    pub fn pinned_bytes(&self) -> usize {
        self.backend.pinned_bytes()
    }

    /// Sets the numbers that the device reads itself.
    pub fn set_device_inputs(&mut self, inputs: InputsAt) -> Result<(), Error> {
        let cuda = self.cuda()?;
        for (name, at) in inputs.named() {
            let at = at as usize;
            if at != 0 && !cuda.can_reach(&(at..at + size_of::<f32>()))? {
                return Err(Error::Memory(MemoryProblem::UnreachableInput {
                    name,
                    at,
                    device: cuda.ordinal(),
                }));
            }
        }
        self.on_device.inputs = inputs;
        Ok(())
    }

    /// Does all that the next step would have to do before its launches.
    pub fn prepare(&mut self) -> Result<(), Error> {
        let of = self.params.all();
        self.check_grads()?;
        self.check_window(&of)?;
        self.read_host_values()?;
        self.prepare_schedule()?;
        if self.lay_device(&of, false, true)?.is_some() {
            self.check_masters(&of)?;
            self.fill_stale_masters(&of, Operands::is_on_device)?;
            let Parts { params, operands, .. } = self.params.parts();
            let there = params.iter_mut().zip(operands);
            for (param, _) in there.filter(|(_, operands)| operands.is_due_on_device()) {
                param.master = Master::Settled;
            }
            self.cuda()?.prepare_capture()?;
        }
        Ok(())
    }

    /// Returns the device, or an error if no parameter is on one.
    fn cuda(&mut self) -> Result<&mut Cuda, Error> {
        self.backend.cuda().ok_or(Error::NoDeviceYet)
    }

    /// Waits for the sums of the gradients there if `waits`, otherwise forgets earlier ones.
    pub(in crate::optimizer) fn learn_totals(&mut self, waits: bool) -> Result<(), Error> {
        self.on_device.totals.clear();
        if waits {
            let cuda = self.backend.cuda().ok_or(Error::NoDeviceYet)?;
            self.on_device.totals.resize(self.params.len(), Total::default());
            cuda.totals(&mut self.on_device.totals)?;
            if cuda.has_rows() {
                self.check_rows_on_device()?;
            }
        }
        Ok(())
    }

    /// Measures the gradients there.
    pub(in crate::optimizer) fn measure_on_device(&mut self) -> Result<(), Error> {
        self.cuda()?.measure()
    }

    /// Steps the parameters on the device, after all that may fail in the host's part.
    #[inline(never)] // so that `update` runs on a smaller stack
    pub(in crate::optimizer) fn step_on_device(
        &mut self,
        of: &Range<usize>,
        step: &DeviceStep,
        advances: bool,
    ) -> Result<(), Error> {
        let decider = if step.waits {
            self.set_clip_factors(of)?;
            Decider::Host
        } else if self.measures() {
            let outside = self.grad_sums.map_or(0, |sums| sums.address() as u64);
            Decider::Norms { skips: self.nonfinite() == Nonfinite::Skip, outside }
        } else if self.on_device.inputs != InputsAt::default() || step.follows {
            Decider::Inputs
        } else {
            Decider::Host
        };
        let adapts = self.adapts_scale(step);
        let scaling = if adapts.is_some() { self.cuda()?.scaling() } else { 0 };
        let timetable = if step.follows { self.cuda()?.timetable() } else { 0 };
        let inputs = Inputs { scaling, timetable, ..self.inputs() };
        let n_groups = self.groups.len();
        let statistics = self.statistics;
        let advances = advances && step.follows;
        self.cuda()?.step(inputs, n_groups, decider, adapts, advances, statistics)?;
        self.on_device.timetable.is_followed |= step.follows;
        self.on_device.scaling.is_due |= adapts.is_some();
        self.on_device.changes_at =
            if statistics { Some(self.cuda()?.changes_at()?) } else { None };
        self.on_device.changes_stay = step.is_captured;
        let may_skip = match decider {
            Decider::Host => false,
            Decider::Inputs => true,
            Decider::Norms { skips, .. } => {
                skips || inputs.at != InputsAt::default() || step.follows
            }
        };
        self.on_device.report_is_due = decider != Decider::Host;
        self.on_device.rows_are_due |= self.cuda()?.has_rows();
        self.on_device.is_captured |= step.is_captured;
        self.on_device.clocks_are_due |= may_skip || step.is_captured;
        Ok(())
    }

    /// Counts the step for the parameters on the device, as far as the host knows.
    pub(in crate::optimizer) fn advance_on_device(&mut self, of: &Range<usize>) {
        let Parts { params, operands, clocks, .. } = self.params.parts();
        for place in of.clone() {
            if operands[place].is_due_on_device() {
                let param = &mut params[place];
                let clock = clocks.get(place).advanced(&self.groups[param.group as usize]);
                clocks.set(place, clock);
                param.master = Master::Settled;
            }
        }
    }

    /// Forgets that the device knows the result of a step.
    pub(in crate::optimizer) fn clear_due_report(&mut self) {
        self.on_device.report_is_due = false;
        self.on_device.changes_at = None;
    }

    /// Returns the report of the last step, or an error, once, if launches of a graph have found no
    /// learning rate.
    pub fn report_to_host(&mut self) -> Result<Report, Error> {
        self.check_missed_rates()?;
        self.report()
    }

    /// Returns the report of the last step. Waits for the device if only the device knows it.
    pub fn report(&mut self) -> Result<Report, Error> {
        if self.on_device.rows_are_due {
            self.check_rows_on_device()?;
            self.on_device.rows_are_due = self.on_device.is_captured;
        }
        if self.on_device.report_is_due {
            let verdict = self.cuda()?.verdict()?;
            let report = &mut self.report;
            report.n_nonfinite = verdict.n_nonfinite;
            let grad_norm = verdict.sum_squares.sqrt() * verdict.inv_grad_scale;
            report.grad_norm = if report.measured { grad_norm } else { 0.0 };
            report.invalid_inputs = verdict.invalid != 0;
            report.skipped = verdict.skipped != 0;
            report.clip_factor = if report.skipped { 1.0 } else { verdict.clip_factor };
            if report.skipped {
                report.forget_statistics();
            }
            let stays = self.on_device.changes_stay && self.on_device.changes_at.is_some();
            report.has_statistics |= stays && !report.skipped;
            if report.skipped && !stays {
                self.on_device.changes_at = None;
            }
            self.on_device.report_is_due = self.on_device.is_captured;
        }
        self.learn_changes()?;
        Ok(self.report)
    }

    /// Completes the report of the last step by what the device alone knows to have changed. Waits
    /// for the device.
    pub(in crate::optimizer) fn learn_changes(&mut self) -> Result<(), Error> {
        let Some(at) = self.on_device.changes_at else { return Ok(()) };
        let n_params = self.params.len();
        let mut changes = core::mem::take(&mut self.on_device.changes);
        for totals in &mut changes {
            totals.clear();
            totals.resize(n_params, Total::default());
        }
        let [updates, params] = &mut changes;
        let read = self.cuda().and_then(|cuda| cuda.changes(at, [updates, params]));
        self.on_device.changes = changes;
        read?;
        if !self.on_device.changes_stay {
            self.on_device.changes_at = None;
        }
        if self.report.has_statistics {
            self.add_up_changes();
        }
        Ok(())
    }

    /// Returns what the host is told about a parameter.
    pub fn described(&mut self, number: u32) -> Result<adamw_param_info, Error> {
        let id = self.params.id(number)?;
        self.clock(id)?;
        Ok(self.param_info(id))
    }

    /// Returns the clock of a parameter. Waits for the device if only the device knows it.
    pub(in crate::optimizer) fn clock(&mut self, id: ParamId) -> Result<Clock, Error> {
        if self.params.operands(id).is_on_device() && self.on_device.clocks_are_due {
            let clock = self.cuda()?.clock(id.number())?;
            self.params.clocks.set(id.place(), clock);
        }
        Ok(self.params.clock(id))
    }

    /// Sets the clock of a parameter.
    pub(in crate::optimizer) fn set_clock(
        &mut self,
        id: ParamId,
        clock: Clock,
    ) -> Result<(), Error> {
        if self.params.operands(id).is_on_device() {
            self.cuda()?.set_clock(id.number(), &clock)?;
        }
        self.params.revise_clock(id, clock);
        Ok(())
    }
}

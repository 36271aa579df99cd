//! The layout of the device's part of a step, and what the host has to know of that step.
//!
//! The tables and the hyper-parameters stay laid out until something is revised. `device_step` says
//! whether the host decides by what the device finds: its own parameters share a norm with those
//! there, or it has the sums, or it has to fail, to tell others, or to go on by a schedule.
#![forbid(unsafe_code)]

use crate::config::{HostValues, Lazy, Nonfinite};
use crate::device::Device;
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::device::{DeviceStep, InputsAt};
use crate::schedule::Schedule;
use core::ops::Range;

impl Optimizer {
    /// Lays out the device's part of a step, if it has one. `steps_on_host`: the host has one too.
    /// `prepares`: for a step that will be captured.
    pub(in crate::optimizer) fn lay_device(
        &mut self,
        of: &Range<usize>,
        steps_on_host: bool,
        prepares: bool,
    ) -> Result<Option<DeviceStep>, Error> {
        if self.backend.cuda().is_none() {
            return Ok(None);
        }
        let wanted = (of.clone(), self.params.revision());
        let is_laid = self.on_device.laid.take().as_ref() == Some(&wanted);
        if !is_laid {
            self.check_laziness_on_device(of)?;
            self.lay_tables(of)?;
        }
        if self.cuda()?.is_idle() {
            self.on_device.laid = Some(wanted);
            return Ok(None);
        }
        let step = self.device_step(steps_on_host, prepares)?;
        let has_host_values =
            self.groups.iter().any(|group| group.host_values != HostValues::default());
        // A ratio is asked for later, when it is known that the step is taken.
        if (!is_laid || has_host_values) && self.lr_ratio.is_none() {
            self.set_hypers(of, false)?;
        }
        self.on_device.laid = Some(wanted);
        if !step.waits {
            self.push_scale()?;
        }
        if step.is_captured {
            self.cuda()?.record_step()?;
        }
        Ok(Some(step))
    }

    /// Lays out the tables of a step.
    fn lay_tables(&mut self, of: &Range<usize>) -> Result<(), Error> {
        let all = self.params.all();
        let (params, groups) = (self.params.params_of(&all), &self.groups);
        let is_lazy = |number: usize| groups[params[number].group as usize].lazy != Lazy::Off;
        let operands = self.params.operands_of(&all);
        let cuda = self.backend.cuda().ok_or(Error::NoDeviceYet)?;
        cuda.lay(operands, |number| of.contains(&number), is_lazy, self.config.clear_grads);
        Ok(())
    }

    /// Lays out the device's part of a measurement of gradients, if there is a device. A capture of
    /// it goes by the same rules as one of a step.
    pub(in crate::optimizer) fn lay_measurement(&mut self, of: &Range<usize>) -> Result<(), Error> {
        if self.backend.cuda().is_none() {
            return Ok(());
        }
        let wanted = (of.clone(), self.params.revision());
        if self.on_device.laid.take().as_ref() != Some(&wanted) {
            self.check_laziness_on_device(of)?;
            self.lay_tables(of)?;
            self.set_hypers(of, false)?;
        }
        self.on_device.laid = Some(wanted);
        let cuda = self.cuda()?;
        if cuda.is_capturing()? { cuda.record_step() } else { Ok(()) }
    }

    /// Checks that the device can do all that is asked, and returns its part of a step.
    fn device_step(&mut self, steps_on_host: bool, prepares: bool) -> Result<DeviceStep, Error> {
        let cuda = self.backend.cuda().ok_or(Error::NoDeviceYet)?;
        let is_captured = cuda.is_capturing()?;
        let inputs = self.on_device.inputs;
        let skips = self.nonfinite() == Nonfinite::Skip || inputs != InputsAt::default();
        let is_foreseen = self.schedule.as_ref().is_some_and(Schedule::is_foreseen);
        let follows = is_foreseen && inputs.lr == 0 && (is_captured || prepares);
        let asks = self.schedule.is_some() && !follows || self.lr_ratio.is_some();
        let goes_on_by_it = asks || steps_on_host;
        let tells = self.found_inf.own_flag.is_some();
        let fails = self.nonfinite() == Nonfinite::Fail;
        let gives = self.grad_sums.is_some_and(|sums| sums.device() == Device::Host);
        let shares = self.measures() && (steps_on_host || gives);
        let waits = fails || tells || shares || skips && goes_on_by_it;
        if self.scaler.is_some() && inputs.grad_scale != 0 {
            return Err(Error::ScaleConflict);
        }
        if waits && (inputs.found_inf != 0 || inputs.grad_scale != 0) {
            return Err(Error::DeviceInputs);
        }
        let refused = [
            (
                inputs.lr == 0 && self.schedule.is_none(),
                "a step whose learning rate is not read by the device (adamw_set_device_inputs), \
                 and follows no schedule,",
            ),
            (
                inputs.lr != 0 && self.schedule.is_some(),
                "a step with a schedule beside the learning rate of adamw_set_device_inputs",
            ),
            (
                self.schedule.is_some() && !is_foreseen,
                "a step with a schedule that asks the host: for a metric, a value or an advance",
            ),
            (
                follows && !self.on_device.timetable.is_set,
                "a step whose schedule has been set, or has advanced, since adamw_prepare (call \
                 it before)",
            ),
            (self.lr_ratio.is_some(), "a step with an lr_ratio callback"),
            (steps_on_host, "a step of parameters in the host's memory"),
            (waits, "a step whose gradients the host has to know about"),
        ];
        match refused.into_iter().find(|(is_asked, _)| is_captured && *is_asked) {
            Some((_, what)) => Err(Error::Capturing(what)),
            None => Ok(DeviceStep { waits, is_captured, follows }),
        }
    }
}

//! The loss scaler of parameters on a device.
//!
//! Where the device decides whether a step is skipped, it adapts the scale too, and nobody waits;
//! where the host decides, the host does, and sets the scale there (`push_scale`). `learn_scale`
//! reads back what the device alone knows. A graph goes on with the scale that is there.
#![forbid(unsafe_code)]

use crate::config::{LOSS_SCALES, LossScaler};
use crate::cuda::{self, Adapts, ScalingRule};
use crate::error::{Error, MemoryProblem};
use crate::optimizer::Optimizer;
use crate::optimizer::device::DeviceStep;
use crate::optimizer::hyper::scaler::ScalerState;

/// What the device does with the loss scale, and what the host knows of it.
#[derive(Default)]
pub struct Scaling {
    /// The address of an f32 of the host's on the device that gets the scale; 0: none does.
    out: u64,
    /// The host has changed the scale, and the device does not know.
    is_changed: bool,
    /// The device may have adapted the scale, and the host does not know.
    pub is_due: bool,
}

impl Optimizer {
    /// Has the device write the scale of the next gradients to an f32 there; 0: to none.
    pub fn set_scale_out(&mut self, out: u64) -> Result<(), Error> {
        let (at, cuda) = (out as usize, self.cuda()?);
        if at != 0 && !cuda.can_reach(&(at..at + size_of::<f32>()))? {
            let device = cuda.ordinal();
            return Err(Error::Memory(MemoryProblem::UnreachableInput {
                name: "out_scale",
                at,
                device,
            }));
        }
        self.learn_scale()?;
        self.on_device.scaling.out = out;
        self.change_scale();
        Ok(())
    }

    /// Returns what a step on the device does to the scale; `None` where the host adapts it.
    pub(in crate::optimizer) fn adapts_scale(&self, step: &DeviceStep) -> Option<Adapts> {
        let scaler = self.scaler.as_ref().filter(|_| !step.waits)?;
        let LossScaler { scale, growth_factor, backoff_factor, growth_interval, backoff_interval } =
            *scaler.config();
        let rule = ScalingRule {
            growth_factor,
            backoff_factor,
            least: scale.min(1.0),
            most: *LOSS_SCALES.end(),
            growth_interval,
            backoff_interval,
        };
        Some(Adapts { rule, out: self.on_device.scaling.out })
    }

    /// Learns the scale, if the device alone knows it. Waits for the device.
    pub(in crate::optimizer) fn learn_scale(&mut self) -> Result<(), Error> {
        let scaling = &self.on_device.scaling;
        if !scaling.is_due || scaling.is_changed || self.scaler.is_none() {
            return Ok(());
        }
        let cuda::Scaling { scale, good_steps, bad_steps } = self.cuda()?.read_scaling()?;
        if let Some(scaler) = &mut self.scaler {
            scaler.go_to(ScalerState { scale, good_steps, bad_steps });
        }
        self.on_device.scaling.is_due = self.on_device.is_captured;
        Ok(())
    }

    /// Has the device know that the host has changed the scale: with the next step that adapts it
    /// there, but now, where nothing prevents it, if somebody else may read it there.
    pub(in crate::optimizer) fn change_scale(&mut self) {
        self.on_device.scaling.is_changed = true;
        if self.on_device.scaling.out != 0 || self.on_device.is_captured {
            let _ = self.push_scale();
        }
    }

    /// Sets the scale on the device, if there is one and the host has changed it.
    pub(in crate::optimizer) fn push_scale(&mut self) -> Result<(), Error> {
        let out = self.on_device.scaling.out;
        let is_used = self.scaler.is_some() || out != 0;
        if !is_used || !self.on_device.scaling.is_changed {
            return Ok(());
        }
        let state = self.scaler.as_ref().map(|scaler| scaler.state());
        let (good_steps, bad_steps) =
            state.map_or((0, 0), |state| (state.good_steps, state.bad_steps));
        let value = cuda::Scaling { scale: self.loss_scale(), good_steps, bad_steps };
        let Some(cuda) = self.backend.cuda() else { return Ok(()) };
        cuda.set_scaling(value, out)?;
        self.on_device.scaling.is_changed = false;
        Ok(())
    }
}

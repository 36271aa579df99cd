//! The loss scale: a number of the host's, or one that adapts to what gradients can hold.
//!
//! The host multiplies the loss by `loss_scale`, so that small gradients do not vanish in 16 bits,
//! and the step multiplies the gradients by `inv_grad_scale`. After the step, `tell` writes the
//! host's flag and has the scaler adapt.
//!
//! The dynamic scale is that of Micikevicius et al., "Mixed Precision Training" (ICLR 2018), as
//! PyTorch's and Paddle's GradScaler have it: it grows after so many good steps in a row, and backs
//! off when gradients overflow, within what f32 can multiply by and invert.
#![forbid(unsafe_code)]

use crate::config::{self, LOSS_SCALES, LossScaler};
use crate::error::Error;
use crate::optimizer::{Optimizer, Report};
use crate::tensor::HostNumber;

/// Flags in the host's memory, by which optimizers and processes share what they have found.
#[derive(Clone, Copy, Default)]
pub struct FoundInf {
    /// Read by each step: not 0 if another one has found a gradient that is not finite.
    pub host_flag: Option<HostNumber>,
    /// Written by each step: 1 if another one or this handle has found one, and 0 otherwise.
    pub own_flag: Option<HostNumber>,
}

impl Optimizer {
    /// Sets the factor by which the gradients are too large.
    pub fn set_grad_scale(&mut self, scale: f64) -> Result<(), Error> {
        config::loss_scale("grad_scale", scale)?;
        if self.scaler.is_some() {
            return Err(Error::ScaleConflict);
        }
        self.grad_scale = scale;
        self.change_scale();
        Ok(())
    }

    /// Returns the factor that the host has to multiply the loss by. Waits for the device if only
    /// the device knows it.
    pub fn next_loss_scale(&mut self) -> Result<f64, Error> {
        self.learn_scale()?;
        Ok(self.loss_scale())
    }

    /// Returns the factor that the host has to multiply the loss by, as far as the host knows.
    pub(in crate::optimizer) fn loss_scale(&self) -> f64 {
        self.scaler.as_ref().map_or(self.grad_scale, |scaler| scaler.state.scale)
    }

    /// Returns what the gradients are multiplied by to undo the loss scale.
    pub(in crate::optimizer) fn inv_grad_scale(&self) -> f64 {
        1.0 / self.loss_scale()
    }

    /// Sets the scaler that adapts the loss scale. With `None`, the scale stays what it is.
    pub fn set_scaler(&mut self, config: Option<LossScaler>) -> Result<(), Error> {
        if let Some(config) = &config {
            config.validate()?;
        }
        self.grad_scale = self.next_loss_scale()?;
        self.scaler = config.map(Scaler::new);
        self.change_scale();
        Ok(())
    }

    /// Returns the state of the scaler. Waits for the device if only the device knows it.
    pub fn scaler_state(&mut self) -> Result<ScalerState, Error> {
        self.learn_scale()?;
        self.scaler.as_ref().map(Scaler::state).ok_or(Error::NoScaler)
    }

    /// Sets the state of the scaler to one that was saved.
    pub fn set_scaler_state(&mut self, state: ScalerState) -> Result<(), Error> {
        let scaler = self.scaler.as_mut().ok_or(Error::NoScaler)?;
        scaler.set_state(state)?;
        self.change_scale();
        Ok(())
    }

    /// Sets the flags by which this handle shares what it has found.
    pub fn set_found_inf(&mut self, found_inf: FoundInf) {
        self.found_inf = found_inf;
    }

    /// Writes the host's flag after a step that did not fail, and has the scaler adapt, unless the
    /// device does.
    pub(in crate::optimizer) fn tell(&mut self, report: &Report, on_device: bool) {
        if let Some(flag) = self.found_inf.own_flag {
            flag.write(if report.raised || report.n_nonfinite > 0 { 1.0 } else { 0.0 });
        }
        if let Some(scaler) = self.scaler.as_mut().filter(|_| !on_device) {
            scaler.update(report.skipped);
            self.change_scale();
        }
    }
}

/// The state of a scaler.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ScalerState {
    pub scale: f64,
    /// The steps taken since the scale last changed or a step was skipped.
    pub good_steps: u64,
    /// The steps skipped since the scale last changed or a step was taken.
    pub bad_steps: u64,
}

impl ScalerState {
    pub fn validate(&self) -> Result<(), Error> {
        config::loss_scale("state.scale", self.scale)
    }
}

/// A dynamic loss scale.
pub struct Scaler {
    config: LossScaler,
    state: ScalerState,
}

impl Scaler {
    pub fn new(config: LossScaler) -> Scaler {
        Scaler { config, state: ScalerState { scale: config.scale, good_steps: 0, bad_steps: 0 } }
    }

    pub fn state(&self) -> ScalerState {
        self.state
    }

    pub fn config(&self) -> &LossScaler {
        &self.config
    }

    pub fn set_state(&mut self, state: ScalerState) -> Result<(), Error> {
        state.validate()?;
        self.state = state;
        Ok(())
    }

    /// Sets a state that has been found valid.
    pub(in crate::optimizer) fn go_to(&mut self, state: ScalerState) {
        self.state = state;
    }

    /// Adapts the scale after a step that was taken, or skipped.
    pub fn update(&mut self, skipped: bool) {
        let LossScaler { growth_interval, backoff_interval, .. } = self.config;
        let ScalerState { scale, good_steps, bad_steps } = self.state;
        let (good_steps, bad_steps) = if skipped {
            (0, bad_steps.saturating_add(1))
        } else {
            (good_steps.saturating_add(1), 0)
        };
        let changed = if good_steps >= growth_interval {
            (scale * self.config.growth_factor).min(*LOSS_SCALES.end())
        } else if bad_steps >= backoff_interval {
            // Paddle's stops at 1 too; one that was set below 1 stops where it was set.
            let least = self.config.scale.min(1.0).min(scale);
            (scale * self.config.backoff_factor).max(least)
        } else {
            self.state = ScalerState { scale, good_steps, bad_steps };
            return;
        };
        self.state = ScalerState { scale: changed, good_steps: 0, bad_steps: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: LossScaler = LossScaler {
        scale: 1024.0,
        growth_factor: 2.0,
        backoff_factor: 0.5,
        growth_interval: 3,
        backoff_interval: 2,
    };

    fn scales(scaler: &mut Scaler, skipped: &[bool]) -> Vec<f64> {
        let after = |&skipped| {
            scaler.update(skipped);
            scaler.state.scale
        };
        skipped.iter().map(after).collect()
    }

    #[test]
    fn it_grows_after_good_steps_in_a_row_and_backs_off_after_bad_ones() {
        let mut scaler = Scaler::new(CONFIG);
        let (ok, bad) = (false, true);
        let got =
            scales(&mut scaler, &[ok, ok, ok, ok, ok, bad, ok, ok, ok, bad, bad, bad, ok, bad]);
        let expected = [1., 1., 2., 2., 2., 2., 2., 2., 4., 4., 2., 2., 2., 2.];
        assert_eq!(got, expected.map(|x: f64| x * 1024.0));
    }

    #[test]
    fn it_stays_within_its_limits() {
        let (least, most) = (*LOSS_SCALES.start(), *LOSS_SCALES.end());
        for (start, skipped, limit) in [
            (3.0, false, most),
            (most, false, most),
            (3.0, true, 1.0),
            (0.75, true, 0.75),
            (least, true, least),
        ] {
            let mut scaler = Scaler::new(LossScaler { scale: start, ..CONFIG });
            scales(&mut scaler, &[skipped; 1000]);
            assert_eq!(scaler.state.scale, limit, "from {start}");
        }
    }
}

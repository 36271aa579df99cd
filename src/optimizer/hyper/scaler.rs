//! The loss scale: a number of the host's, or one that adapts to what gradients can hold.
//!
//! The dynamic scale is that of Micikevicius et al., "Mixed Precision Training" (ICLR 2018), as
//! PyTorch's and Paddle's GradScaler have it: it grows after so many good steps in a row, and backs
//! off when gradients overflow, within what f32 can multiply by and invert.
#![forbid(unsafe_code)]

use crate::config::{self, LOSS_SCALES, LossScaler};
use crate::error::Error;
use crate::optimizer::{Optimizer, Report};
use crate::tensor::HostNumber;

/// Flags of the host's, which other optimizers and other processes share.
#[derive(Clone, Copy, Default)]
pub struct FoundInf {
    /// Not 0: somebody else has found a gradient that is not finite.
    pub host_flag: Option<HostNumber>,
    /// Becomes 1 if somebody else or this handle has, and 0 otherwise.
    pub own_flag: Option<HostNumber>,
}

impl Optimizer {
    /// Says how many times too large the gradients are.
    pub fn set_grad_scale(&mut self, scale: f64) -> Result<(), Error> {
        config::loss_scale("grad_scale", scale)?;
        if self.scaler.is_some() {
            return Err(Error::ScaleConflict);
        }
        self.grad_scale = scale;
        Ok(())
    }

    /// How many times too large the loss is to be made.
    pub fn loss_scale(&self) -> f64 {
        self.scaler.as_ref().map_or(self.grad_scale, |scaler| scaler.state.scale)
    }

    /// What brings the gradients to their size.
    pub(in crate::optimizer) fn inv_grad_scale(&self) -> f64 {
        1.0 / self.loss_scale()
    }

    /// Lets the loss scale adapt; `None`: it stays what it is.
    pub fn set_scaler(&mut self, config: Option<LossScaler>) -> Result<(), Error> {
        if let Some(config) = &config {
            config.validate()?;
        }
        self.grad_scale = self.loss_scale();
        self.scaler = config.map(Scaler::new);
        Ok(())
    }

    /// How far the dynamic scale has come.
    pub fn scaler_state(&self) -> Result<ScalerState, Error> {
        self.scaler.as_ref().map(|scaler| scaler.state).ok_or(Error::NoScaler)
    }

    /// Puts the dynamic scale where a saved one had come.
    pub fn set_scaler_state(&mut self, state: ScalerState) -> Result<(), Error> {
        let scaler = self.scaler.as_mut().ok_or(Error::NoScaler)?;
        scaler.set_state(state)
    }

    /// Where to look for what others have found, and to say what this handle has.
    pub fn set_found_inf(&mut self, found_inf: FoundInf) {
        self.found_inf = found_inf;
    }

    /// Tells the host and the scaler what a step that did not fail has come to.
    pub(in crate::optimizer) fn tell(&mut self, report: &Report) {
        if let Some(flag) = self.found_inf.own_flag {
            flag.write(if report.raised || report.n_nonfinite > 0 { 1.0 } else { 0.0 });
        }
        if let Some(scaler) = &mut self.scaler {
            scaler.update(report.skipped);
        }
    }
}

/// How far a dynamic scale has come.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ScalerState {
    pub scale: f64,
    /// Steps taken since the scale last changed or a step was skipped.
    pub good_steps: u64,
    /// Steps skipped since the scale last changed or a step was taken.
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

    pub fn config(&self) -> &LossScaler {
        &self.config
    }

    pub fn set_state(&mut self, state: ScalerState) -> Result<(), Error> {
        state.validate()?;
        self.state = state;
        Ok(())
    }

    /// Goes to a state that was found valid.
    pub(in crate::optimizer) fn go_to(&mut self, state: ScalerState) {
        self.state = state;
    }

    /// What the scale becomes after a step that was taken, or skipped.
    pub fn update(&mut self, skipped: bool) {
        let LossScaler { growth_interval, backoff_interval, .. } = self.config;
        let ScalerState { scale, good_steps, bad_steps } = self.state;
        let (good_steps, bad_steps) = match skipped {
            true => (0, bad_steps.saturating_add(1)),
            false => (good_steps.saturating_add(1), 0),
        };
        let changed = if good_steps >= growth_interval {
            (scale * self.config.growth_factor).min(*LOSS_SCALES.end())
        } else if bad_steps >= backoff_interval {
            // Paddle's stays at 1 too; a scale that was set below goes on from there.
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

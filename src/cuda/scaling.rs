//! The loss scale on the device: set by the host, or adapted there after each step.

use super::Cuda;
use super::driver::Entered;
use super::kernels::Kernel;
use super::launch::launch;
use super::layout::{Scaling, ScalingRule};
use crate::error::Error;

/// What a step does to the loss scale.
#[derive(Clone, Copy)]
pub struct Adapts {
    pub rule: ScalingRule,
    /// The address of an f32 that gets the scale; 0: none does.
    pub out: u64,
}

impl Cuda {
    /// Returns the address of the loss scale.
    pub fn scaling(&self) -> u64 {
        self.clocks.scaling()
    }

    /// Queues up a loss scale of the host's. `out`: the address of an f32 that gets it, or 0.
    pub fn set_scaling(&self, value: Scaling, out: u64) -> Result<(), Error> {
        self.check_not_capturing("a loss scale that has changed since adamw_prepare")?;
        let device = self.driver.enter()?;
        let scaling = self.clocks.scaling();
        // SAFETY: the arguments are what the kernel takes, and the host vouched for its memory.
        unsafe { launch!(device, Kernel::set_scale, 1; scaling, value, out) }
    }

    /// Queues up what a step does to the loss scale.
    pub(super) fn adapt_scaling(&self, device: &Entered, adapts: &Adapts) -> Result<(), Error> {
        let (scaling, verdict) = (self.clocks.scaling(), self.clocks.verdict());
        let Adapts { rule, out } = *adapts;
        // SAFETY: as above.
        unsafe { launch!(device, Kernel::adapt_scale, 1; scaling, rule, verdict, out) }
    }

    /// Returns the loss scale. Waits for the device.
    pub fn read_scaling(&mut self) -> Result<Scaling, Error> {
        let at = self.clocks.scaling();
        let mut scaling = [Scaling::default()];
        self.read("asking for the loss scale", at, &mut scaling)?;
        Ok(scaling[0])
    }
}

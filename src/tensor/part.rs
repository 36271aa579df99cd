//! Which parameters take part in a step, wherever they lie: asked by whatever measures, adds up, copies, clears
//! or tells.
#![forbid(unsafe_code)]

use super::Operands;
use crate::device::Device;

impl Operands {
    /// Whether all of it lies in the memory of a device, where no slice of it is made.
    #[inline]
    pub fn is_on_device(&self) -> bool {
        self.param.device != Device::Host
    }

    /// Whether a step has anything to do here on the processor.
    #[inline]
    pub fn is_due_on_host(&self) -> bool {
        !self.is_on_device() && self.is_due()
    }

    /// Whether a step has anything to do here on a device.
    #[inline]
    pub fn is_due_on_device(&self) -> bool {
        self.is_on_device() && self.is_due()
    }

    /// Whether a step has anything to do here, wherever that is. A gradient that lists no row is none.
    #[inline]
    pub fn is_due(&self) -> bool {
        self.is_asked() && !self.frozen
    }

    /// Whether a step uses the gradient up, though it may pass over the parameter: there is one, and the step
    /// was asked about it.
    #[inline]
    pub fn is_asked(&self) -> bool {
        let has_grad = match self.grad {
            None => false,
            Some(_) if !self.is_sparse => true,
            Some(values) => values.n_elements > 0,
        };
        has_grad && !self.left_out
    }

    /// Whether a step uses the gradient up and has nothing else to do, wherever that is.
    #[inline]
    pub fn is_passed_over(&self) -> bool {
        self.is_asked() && self.frozen
    }

    /// Has steps pass over the parameter, or not.
    pub fn set_frozen(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// Whether the next step is not asked about the parameter.
    pub fn is_left_out(&self) -> bool {
        self.left_out
    }

    /// Leaves the parameter out of the next step, or not; returns whether it was.
    pub fn set_left_out(&mut self, left_out: bool) -> bool {
        core::mem::replace(&mut self.left_out, left_out)
    }
}

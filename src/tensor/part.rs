//! The parameters that take part in a step, on the host or on a device. Whatever measures
//! gradients, adds them up, copies, clears or reports asks here.
#![forbid(unsafe_code)]

use super::Operands;
use crate::device::Device;
use crate::role::Role;

impl Operands {
    /// Returns whether all of it lies in the memory of a device, where no slice of it is made.
    #[inline]
    pub fn is_on_device(&self) -> bool {
        self.param.device != Device::Host
    }

    /// Returns whether the processor has to step the parameter.
    #[inline]
    pub fn is_due_on_host(&self) -> bool {
        !self.is_on_device() && self.is_due()
    }

    /// Returns whether a device has to step the parameter.
    #[inline]
    pub fn is_due_on_device(&self) -> bool {
        self.is_on_device() && self.is_due()
    }

    /// Returns whether a step has to step the parameter. A gradient that lists no row counts as
    /// none, unless other ranks list some.
    #[inline]
    pub fn is_due(&self) -> bool {
        self.is_asked() && !self.frozen
    }

    /// Returns whether a step uses the gradient up, even if it passes over the parameter: there is
    /// a gradient, and the step is asked about the parameter.
    #[inline]
    pub fn is_asked(&self) -> bool {
        let has_grad = match self.grad {
            None => false,
            Some(_) if !self.is_sparse => true,
            Some(values) => values.n_elements > 0 || self.listed_elsewhere,
        };
        has_grad && !self.left_out
    }

    /// Returns whether there is a sparse gradient, which lists no row.
    pub fn lists_nothing(&self) -> bool {
        self.is_sparse && self.grad.is_some_and(|values| values.n_elements == 0)
    }

    /// Has a gradient that lists no row count, because other ranks list some, or not.
    pub fn set_listed_elsewhere(&mut self, listed: bool) {
        self.listed_elsewhere = listed;
    }

    /// Returns whether other ranks may list rows of a gradient that lists none here.
    pub fn is_listed_elsewhere(&self) -> bool {
        self.listed_elsewhere
    }

    /// Returns whether a step uses the gradient up and does not step the parameter.
    #[inline]
    pub fn is_passed_over(&self) -> bool {
        self.is_asked() && self.frozen
    }

    /// Freezes the parameter, so that steps pass over it, or thaws it.
    pub fn set_frozen(&mut self, frozen: bool) {
        self.frozen = frozen;
    }

    /// Marks a buffer of the host as one that has no memory, or has some again.
    pub fn set_lacking(&mut self, role: Role, lacks: bool) {
        let bit = 1 << role as u16;
        self.lacking = if lacks { self.lacking | bit } else { self.lacking & !bit };
    }

    /// Returns whether a buffer has no memory now.
    pub fn lacks(&self, role: Role) -> bool {
        self.lacking & 1 << role as u16 != 0
    }

    /// Returns whether any buffer has no memory now.
    pub fn is_parked(&self) -> bool {
        self.lacking != 0
    }

    /// Returns whether the next step leaves the parameter out.
    pub fn is_left_out(&self) -> bool {
        self.left_out
    }

    /// Leaves the parameter out of the next step, or not; returns whether it was.
    pub fn set_left_out(&mut self, left_out: bool) -> bool {
        core::mem::replace(&mut self.left_out, left_out)
    }
}

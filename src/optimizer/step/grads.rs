//! Gradients: borrowed from the host until they are replaced or forgotten.
#![forbid(unsafe_code)]

use crate::choice::choice;
use crate::device::Device;
use crate::error::{Error, Label, TensorProblem};
use crate::optimizer::Optimizer;
use crate::optimizer::params::occupied::Place;
use crate::optimizer::params::table::ParamId;
use crate::role::Role;
use crate::tensor::{Grad, Operands, Tensor};
use core::ops::Range;

choice! {
    /// What `adamw_clear_grad` does with the gradients there are.
    pub enum Clear: "an ADAMW_CLEAR constant, 0 or 1" {
        /// Zeros are written; the gradients stay.
        Zero = 0;
        /// The gradients are forgotten; their parameters are skipped until they have one again.
        Forget = 1;
    }
}

impl Optimizer {
    /// Sets the gradients of several parameters, all of them or none. `entry(self, i)` gives the
    /// i-th parameter's number and gradient (`None`: forget it), and is asked twice: the list
    /// stays the caller's, and nothing is allocated for it.
    pub fn set_grads(
        &mut self,
        count: usize,
        entry: impl Fn(&Optimizer, usize) -> Result<(u32, Option<Tensor>), Error>,
    ) -> Result<(), Error> {
        for i in 0..count {
            let (number, grad) = entry(self, i)?;
            let id = self.params.id(number)?;
            let landed = grad.map(|grad| self.landed(id, &grad)).transpose()?;
            self.check_grad(id, landed.map(|(grad, _)| Grad::Dense(grad)))?;
        }
        for i in 0..count {
            let (number, grad) = entry(self, i)?;
            let id = self.params.id(number)?;
            let landed = grad.map(|grad| self.landed(id, &grad)).transpose()?;
            let (grad, device_grad) =
                landed.map_or((None, None), |(grad, device_grad)| (Some(grad), device_grad));
            self.grads_unchecked |= self.config.clear_grads;
            // A gradient in the place of another changes nothing about who is stepped; a device's
            // tables say where it is.
            let before = self.params.operands(id);
            let replaces = match before.is_on_device() {
                false => grad.is_some() && before.has_dense_grad(),
                true => {
                    let is_plain = before.n_accumulated() == 0 && !before.has_rows();
                    is_plain && grad == before.tensor(Role::Grad)
                }
            };
            let operands = if replaces {
                self.params.operands_mut(id)
            } else {
                self.params.revise_operands(id)
            };
            let set = operands.set_grad(grad.map(Grad::Dense));
            set.map_err(|problem| problem.of(self.params.label(id), Role::Grad))?;
            self.params.operands_mut(id).set_device_grad(device_grad);
        }
        Ok(())
    }

    /// Adds a gradient to what has been accumulated for a parameter since its last step; the sum
    /// takes the place of any gradient that was set.
    pub fn accumulate_grad(&mut self, number: u32, grad: &Tensor) -> Result<(), Error> {
        let id = self.params.id(number)?;
        let (landed, device_grad) = self.landed(id, grad)?;
        self.check_grad(id, Some(Grad::Dense(landed)))?;
        let operands = self.params.revise_operands(id);
        operands.prepare_accumulation(|operands| self.backend.new_sum(number, operands))?;
        if let Some(device_grad) = device_grad {
            operands.forget_measured(); // a gradient that is set comes down to the same place
            self.bring_down(id, &device_grad, &landed)?;
        }
        let operands = self.params.revise_operands(id);
        self.backend.accumulate(operands, &landed)?;
        operands.count_accumulation();
        self.widen_window(id);
        Ok(())
    }

    /// Forgets the accumulated gradients that a step has used, and what others were measured as.
    pub(in crate::optimizer) fn use_up_grads(&mut self, of: &Range<usize>) {
        for operands in &mut self.params.revise().operands[of.clone()] {
            // Of all: after this step the host may change what had no part in it too.
            operands.forget_measured();
            if operands.is_asked() {
                operands.forget_accumulated();
            }
        }
    }

    /// Writes zeros over those of the gradients that a step has used, if it is to, which lie in the
    /// host's memory and of which the step has not done so itself.
    pub(in crate::optimizer) fn clear_used(
        &mut self,
        of: &Range<usize>,
        is_left: impl Fn(&Operands) -> bool,
    ) {
        if self.config.clear_grads {
            for operands in &mut self.params.parts().operands[of.clone()] {
                let is_used = operands.is_asked() && operands.n_accumulated() == 0;
                if is_used && !operands.is_on_device() && is_left(operands) {
                    operands.zero_grad();
                }
            }
        }
    }

    /// The same for what lies on a device.
    pub(in crate::optimizer) fn clear_used_on_device(
        &mut self,
        of: &Range<usize>,
        is_left: impl Fn(&Operands) -> bool,
    ) -> Result<(), Error> {
        if self.config.clear_grads {
            for operands in &mut self.params.parts().operands[of.clone()] {
                let is_used = operands.is_asked() && operands.n_accumulated() == 0;
                if is_used && operands.is_on_device() && is_left(operands) {
                    self.backend.zero_grad(operands)?;
                }
            }
        }
        Ok(())
    }

    /// Clears every gradient there is.
    pub fn clear_grad(&mut self, clear: Clear) -> Result<(), Error> {
        if clear == Clear::Zero {
            self.check_grads()?;
        }
        let forgets = |operands: &Operands| clear == Clear::Forget || operands.n_accumulated() > 0;
        let all = self.params.all();
        for id in self.params.ids(&all) {
            // Zeros change nothing about who is stepped, and where.
            let operands = self.params.operands_mut(id);
            if !forgets(operands) {
                self.backend.zero_grad(operands)?;
                self.zero_grad_on_device(id)?;
            }
        }
        if self.params.operands_of(&all).iter().any(forgets) {
            let operands = self.params.revise().operands.iter_mut();
            operands.filter(|operands| forgets(operands)).for_each(Operands::forget_grad);
        }
        Ok(())
    }

    /// That a gradient fits its parameter and lies in no memory that a step writes.
    pub(in crate::optimizer) fn check_grad(
        &self,
        id: ParamId,
        grad: Option<Grad>,
    ) -> Result<(), Error> {
        let Some(grad) = grad else { return Ok(()) };
        let fits = self.params.operands(id).fits_grad(&grad);
        fits.map_err(|problem| problem.of(self.params.label(id), Role::Grad))?;
        self.check_reach(id, &grad)?;
        self.check_place(id, &grad)
    }

    /// That a gradient on a device lies in memory of that device's, if it has not been there before: a kernel
    /// that reads other memory ends the device's work for the whole process.
    pub(in crate::optimizer) fn check_reach(&self, id: ParamId, grad: &Grad) -> Result<(), Error> {
        let Device::Cuda(device) = grad.values().device() else { return Ok(()) };
        if self.params.operands(id).grad().as_ref() == Some(grad) {
            return Ok(());
        }
        let name = self.params.label(id);
        let mut addresses = grad.addresses().into_iter();
        addresses.try_for_each(|(role, addresses)| self.reaches(name, role, device, &addresses))
    }

    /// That memory that is said to be a device's is.
    pub(in crate::optimizer) fn reaches(
        &self,
        name: Label,
        role: Role,
        device: u16,
        addresses: &Range<usize>,
    ) -> Result<(), Error> {
        if self.backend.can_reach(addresses)? {
            return Ok(());
        }
        Err(TensorProblem::Unreachable { address: addresses.start, device }.of(name, role))
    }

    /// That no gradient lies in memory that a step writes, where that has changed.
    pub(in crate::optimizer) fn check_grads(&mut self) -> Result<(), Error> {
        if self.grads_unchecked {
            for id in self.params.ids(&self.params.all()) {
                let operands = self.params.operands(id);
                let grads = [operands.grad(), operands.device_grad().map(Grad::Dense)];
                grads.iter().flatten().try_for_each(|grad| self.check_place(id, grad))?;
            }
            if self.config.clear_grads {
                self.check_sharing()?;
            }
            self.grads_unchecked = false;
        }
        Ok(())
    }

    /// That no two gradients share memory, where a step writes them.
    fn check_sharing(&mut self) -> Result<(), Error> {
        let places = &mut self.scratch.grads;
        places.clear();
        for (number, operands) in (0..).zip(self.params.operands_of(&self.params.all())) {
            let addresses = operands.given_grad().map_or(0..0, |grad| grad.addresses());
            if !addresses.is_empty() {
                places.push(Place::new(addresses, number, Role::Grad));
            }
        }
        places.sort_unstable_by_key(|place| place.start);
        let overlap = places
            .windows(2)
            .find(|pair| pair[0].end > pair[1].start)
            .map(|pair| (pair[0], pair[1]));
        overlap.map_or(Ok(()), |(a, b)| Err(self.params.overlap(&b, &a)))
    }

    pub(in crate::optimizer) fn check_place(&self, id: ParamId, grad: &Grad) -> Result<(), Error> {
        for (role, addresses) in grad.addresses() {
            if let Some(place) = self.params.occupied.overlapped(&addresses) {
                let grad = Place::new(addresses, id.number(), role);
                return Err(self.params.overlap(&grad, place));
            }
        }
        Ok(())
    }
}

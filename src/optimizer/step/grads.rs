//! Gradients: borrowed from the host until they are replaced or forgotten.
//!
//! `set_grads` takes a gradient as it is, and `accumulate_grad` adds it to a sum that the library
//! owns. Both check that it fits its parameter and lies in no memory that a step writes
//! (`check_grad`). Where parameters have come or moved since, `check_grads` checks all gradients
//! again at the next step.
//!
//! A step uses up what was accumulated or measured for it alone (`use_up_grads`), and writes zeros
//! over the gradients if the handle clears them. The loops that step a parameter do that in
//! passing; `clear_used` and, in `device/offload.rs`, `clear_used_on_device` are for gradients that
//! no such loop reads. `clear_grad` is the host's call for all of them.
#![forbid(unsafe_code)]

use crate::choice::choice;
use crate::device::Device;
use crate::error::{Error, Label, TensorProblem};
use crate::optimizer::Optimizer;
use crate::optimizer::device::offload::StepGrad;
use crate::optimizer::params::occupied::Place;
use crate::optimizer::params::table::ParamId;
use crate::optimizer::step::Scratch;
use crate::role::Role;
use crate::sys::memory::reserve;
use crate::tensor::{Grad, GradArray, Operands, Tensor};
use core::ops::Range;

choice! {
    /// The way in which `adamw_clear_grad` clears the gradients.
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
            let grad = grad.map(|grad| self.step_grad(id, &grad)).transpose()?;
            self.check_grad(id, grad.map(|grad| Grad::Dense(grad.values)))?;
        }
        for i in 0..count {
            let (number, grad) = entry(self, i)?;
            let id = self.params.id(number)?;
            let grad = grad.map(|grad| self.step_grad(id, &grad)).transpose()?;
            let (values, device_grad) =
                (grad.map(|grad| grad.values), grad.and_then(|grad| grad.device_grad));
            self.grads_unchecked |= self.config.clear_grads;
            // A gradient in the place of another changes nothing about which parameters are
            // stepped. On a device it has to be the same one, whose address its tables have.
            let before = self.params.operands(id);
            let replaces = if before.is_on_device() {
                let is_plain = before.n_accumulated() == 0 && !before.has_rows();
                is_plain && values == before.tensor(Role::Grad)
            } else {
                values.is_some() && before.has_dense_grad()
            };
            let operands = if replaces {
                self.params.operands_mut(id)
            } else {
                self.params.revise_operands(id)
            };
            let set = operands.set_grad(values.map(Grad::Dense));
            set.map_err(|problem| problem.of(self.params.label(id), Role::Grad))?;
            self.params.operands_mut(id).set_device_grad(device_grad);
        }
        Ok(())
    }

    /// Sets the gradients of several parameters to arrays like the parameters, all of them or none.
    /// It takes little time if each array is in the place of such a one. `entry` gives the i-th
    /// parameter's number and array.
    pub fn set_grad_data(
        &mut self,
        count: usize,
        entry: impl Fn(usize) -> (u32, GradArray),
    ) -> Result<(), Error> {
        if !self.has_device() && self.move_grads(count, &entry)? {
            return Ok(());
        }
        self.set_grads(count, |optimizer, i| {
            let (number, array) = entry(i);
            let id = optimizer.params.id(number)?;
            if array == GradArray::NONE {
                return Ok((number, None));
            }
            // An offloaded parameter is one of the host's here.
            let grad = optimizer.params.operands(id).param().at(array);
            let grad = grad.map_err(|problem| problem.of(optimizer.params.label(id), Role::Grad));
            Ok((number, Some(grad?)))
        })
    }

    /// Moves gradients to other arrays, all of them or none. Returns false if one of them is not in
    /// the place of another, or not where it may be.
    fn move_grads(
        &mut self,
        count: usize,
        entry: &impl Fn(usize) -> (u32, GradArray),
    ) -> Result<bool, Error> {
        let (operands, occupied) = self.params.operands_and_occupied();
        let Scratch { seen, moved_grads: moved, .. } = &mut self.scratch;
        moved.clear();
        reserve(moved, count, "the places of gradients")?;
        // Neighbours mostly lie in one gap between what a step writes.
        let mut gap = 0..0;
        for i in 0..count {
            let (number, array) = entry(i);
            let Some(operands) = operands.get_mut(number as usize) else { break };
            if array == GradArray::NONE && operands.lacks_grad() {
                moved.push(GradArray::NONE);
                continue;
            }
            let Some(grad) = operands.moved_grad(array) else { break };
            let is_in = |gap: &Range<usize>| gap.start <= grad.start && grad.end <= gap.end;
            if !is_in(&gap) && !seen.is_free(&grad, occupied.revision()) {
                gap = occupied.gap(grad.start);
                if !is_in(&gap) {
                    break;
                }
                seen.note(&grad, occupied.revision());
            }
            moved.push(operands.move_grad(array));
        }
        if moved.len() < count {
            for (i, before) in moved.iter().enumerate().rev() {
                if *before != GradArray::NONE {
                    operands[entry(i).0 as usize].move_grad(*before);
                }
            }
            return Ok(false);
        }
        self.grads_unchecked |= self.config.clear_grads;
        Ok(true)
    }

    /// Adds a gradient to the sum of those that a parameter has accumulated since its last step.
    /// The sum takes the place of a gradient that was set.
    pub fn accumulate_grad(&mut self, number: u32, grad: &Tensor) -> Result<(), Error> {
        let id = self.params.id(number)?;
        let StepGrad { values, device_grad } = self.step_grad(id, grad)?;
        self.check_grad(id, Some(Grad::Dense(values)))?;
        let operands = self.params.revise_operands(id);
        let new_sum = |operands: &_| self.backend.new_sum(number, operands);
        operands.prepare_accumulation(&mut self.pools[Role::Grad as usize], new_sum)?;
        if let Some(device_grad) = device_grad {
            operands.forget_measured(); // a gradient that is set is downloaded to the same memory
            self.bring_down(id, &device_grad, &values)?;
        }
        let operands = self.params.revise_operands(id);
        self.backend.accumulate(operands, &values)?;
        operands.count_accumulation();
        self.widen_window(id);
        Ok(())
    }

    /// Forgets the sums that a step has used, and what was measured before it.
    pub(in crate::optimizer) fn use_up_grads(&mut self, of: &Range<usize>) {
        for operands in &mut self.params.revise().operands[of.clone()] {
            // This is for all parameters: the host may now change gradients that had no part in
            // the step.
            operands.forget_measured();
            if operands.is_asked() {
                operands.forget_accumulated();
            }
        }
    }

    /// Writes zeros over gradients in the host's memory that a step has used, if the handle clears
    /// gradients. `is_left` returns whether the step has not done so itself.
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

    /// Clears every gradient there is.
    pub fn clear_grad(&mut self, clear: Clear) -> Result<(), Error> {
        if clear == Clear::Zero {
            self.check_grads()?;
        }
        let forgets = |operands: &Operands| clear == Clear::Forget || operands.n_accumulated() > 0;
        let all = self.params.all();
        for id in self.params.ids(&all) {
            // Zeros change nothing about which parameters are stepped.
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

    /// Checks that a gradient fits its parameter and lies in no memory that a step writes.
    pub(in crate::optimizer) fn check_grad(
        &mut self,
        id: ParamId,
        grad: Option<Grad>,
    ) -> Result<(), Error> {
        let Some(grad) = grad else { return Ok(()) };
        self.check_whole(id)?;
        let fits = self.params.operands(id).fits_grad(&grad);
        fits.map_err(|problem| problem.of(self.params.label(id), Role::Grad))?;
        self.check_reach(id, &grad)?;
        self.check_place(id, &grad)
    }

    /// Checks that a gradient on a device lies in memory of that device's, unless it is set
    /// already: a kernel that reads other memory ends the device's work for the whole process.
    pub(in crate::optimizer) fn check_reach(&self, id: ParamId, grad: &Grad) -> Result<(), Error> {
        let Device::Cuda(device) = grad.values().device() else { return Ok(()) };
        if self.params.operands(id).grad().as_ref() == Some(grad) {
            return Ok(());
        }
        let name = self.params.label(id);
        let mut addresses = grad.addresses().into_iter();
        addresses.try_for_each(|(role, addresses)| self.reaches(name, role, device, &addresses))
    }

    /// Checks that memory belongs to the device that the host names.
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

    /// Checks that no gradient lies in memory that a step writes, if that may have changed.
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

    /// Checks that no two gradients share memory, for steps that write them.
    fn check_sharing(&mut self) -> Result<(), Error> {
        let places = &mut self.scratch.grad_places;
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

    /// Checks that a gradient lies in no memory that a step writes.
    pub(in crate::optimizer) fn check_place(
        &mut self,
        id: ParamId,
        grad: &Grad,
    ) -> Result<(), Error> {
        let (occupied, seen) = (&self.params.occupied, &mut self.scratch.seen);
        for (role, addresses) in grad.addresses() {
            if addresses.is_empty() || seen.is_free(&addresses, occupied.revision()) {
                continue;
            }
            match occupied.overlapped(&addresses) {
                None => seen.note(&addresses, occupied.revision()),
                Some(place) => {
                    let grad = Place::new(addresses, id.number(), role);
                    return Err(self.params.overlap(&grad, place));
                }
            }
        }
        Ok(())
    }
}

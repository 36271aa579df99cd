//! Buffers of the host that move, and parameters that are parked, because some of their buffers
//! have no memory for a while.
//!
//! `rebind` says where buffers are now. Whatever reads or writes buffers outside of a step asks
//! before (`check_memory`, `check_whole`). Steps need not ask: a parameter that is parked has no
//! gradient, and is given none.
#![forbid(unsafe_code)]

use crate::device::Device;
use crate::error::Error;
use crate::optimizer::Optimizer;
use crate::optimizer::params::occupied::Place;
use crate::optimizer::params::table::ParamId;
use crate::role::Role;
use crate::sys::memory::reserve;
use crate::tensor::Tensor;
use core::ops::Range;

/// A buffer of the host, and where it is now; `None`: it has no memory.
#[derive(Clone, Copy)]
pub struct Move {
    pub param: u32,
    pub role: Role,
    pub to: Option<Tensor>,
}

impl Optimizer {
    /// Replaces buffers that the host has moved: all of them or, on an error, none.
    pub fn rebind(&mut self, moves: &[Move]) -> Result<(), Error> {
        let (mut old, mut places) = (Vec::new(), Vec::new());
        reserve(&mut old, moves.len(), "the moved buffers")?;
        reserve(&mut places, moves.len(), "the moved buffers")?;
        for moved in moves {
            let [before, after] = self.check_move(moved)?;
            old.push(before);
            places.push(Place::new(after, moved.param, moved.role));
        }
        places.sort_unstable_by_key(Place::key);
        if let Some(pair) = places.windows(2).find(|pair| pair[0].key() == pair[1].key()) {
            let param = self.params.label(self.params.id(pair[0].param)?);
            return Err(Error::MovedTwice { param, buffer: pair[0].role });
        }
        let relocated = self.params.occupied.relocate(&old, &places)?;
        relocated.map_err(|(a, b)| self.params.overlap(&a, &b))?;
        for moved in moves {
            self.take_move(self.params.id(moved.param)?, moved);
        }
        self.grads_unchecked = true;
        Ok(())
    }

    /// Checks a move, and returns the addresses of the buffer before it and after it.
    fn check_move(&mut self, moved: &Move) -> Result<[Range<usize>; 2], Error> {
        let (id, role) = (self.params.id(moved.param)?, moved.role);
        let host_param = (role == Role::Param).then(|| self.param_of_host(id));
        let (name, operands) = (self.params.label(id), self.params.operands(id));
        if role != Role::Param && !operands.is_host_owned(role) {
            return Err(Error::NotTheHosts { param: name, buffer: role });
        }
        let current = host_param.or(operands.tensor(role));
        let there = current.filter(|_| !operands.lacks(role));
        let before = there.map_or(0..0, |tensor| tensor.addresses());
        let Some(to) = moved.to else {
            if operands.lag().is_some() || self.row_elements_on_device(id).is_some() {
                return Err(Error::LaggingRows(name));
            }
            return Ok([before, 0..0]);
        };
        // An offloaded parameter lies on its device, and `fits` compares with the copy that is
        // stepped in the host's memory.
        let stepped_on = operands.param().device();
        let lies_on = current.map_or(stepped_on, |tensor| tensor.device());
        let stays_there = to.device() == lies_on;
        let as_copy = to.as_if_on(if stays_there { stepped_on } else { lies_on });
        let compared = if lies_on == stepped_on { to } else { as_copy };
        operands.fits(role, &compared).map_err(|problem| problem.of(name, role))?;
        if let Device::Cuda(device) = to.device() {
            self.reaches(name, role, device, &to.addresses())?;
        }
        Ok([before, to.addresses()])
    }

    /// Takes a move that has been checked.
    fn take_move(&mut self, id: ParamId, moved: &Move) {
        let Move { role, to, .. } = *moved;
        let operands = self.params.revise_operands(id);
        operands.set_lacking(role, to.is_none());
        if to.is_none() {
            operands.forget_grad();
        }
        if role == Role::Param {
            let to = to.unwrap_or(self.param_of_host(id).nowhere());
            return self.move_param(id, to);
        }
        let operands = self.params.revise_operands(id);
        if let Some(to) = to.or(operands.tensor(role).map(|tensor| tensor.nowhere())) {
            operands.set_host_state(role, &to);
        }
    }

    /// Checks that a buffer of a parameter has memory.
    pub(in crate::optimizer) fn check_memory(
        &self,
        id: ParamId,
        buffer: Role,
    ) -> Result<(), Error> {
        match self.params.operands(id).lacks(buffer) {
            true => Err(Error::NoMemory { param: self.params.label(id), buffer }),
            false => Ok(()),
        }
    }

    /// Checks that all buffers of a parameter have memory.
    pub(in crate::optimizer) fn check_whole(&self, id: ParamId) -> Result<(), Error> {
        if !self.params.operands(id).is_parked() {
            return Ok(());
        }
        let mut roles = [Role::Param].into_iter().chain(Role::STATE);
        roles.try_for_each(|role| self.check_memory(id, role))
    }
}

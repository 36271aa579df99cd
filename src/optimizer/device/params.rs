//! Parameters that come to a device, and leave it.
//!
//! `add_param` calls four of these in turn. `bring_to_device` opens the device for a new parameter
//! that the processor steps, and makes the copy that it steps. `new_state_on_device` opens it for
//! one that the device steps, and allocates its state. `reserve_on_device` makes room, and
//! `keep_on_device`, which cannot fail, has the device know the parameter.
//!
//! `release_on_device` has the device forget a parameter that is removed, and `move_param` takes
//! one that the host has moved. The host knows a parameter by the tensor that it gave, which
//! `param_of_host` returns where a copy is stepped instead.
#![forbid(unsafe_code)]

use crate::cuda::{Cuda, HostCopy, Memory};
use crate::device::Device;
use crate::error::{Error, Label, TensorProblem};
use crate::format::Format;
use crate::optimizer::params::NewParam;
use crate::optimizer::params::table::ParamId;
use crate::optimizer::{Optimizer, label};
use crate::role::Role;
use crate::steps::Clock;
use crate::tensor::{Buffer, Operands, Tensor};

/// What the device has made for a new parameter.
#[derive(Default)]
pub struct NewOnDevice {
    copy: Option<HostCopy>,
    memory: Option<Memory>,
}

/// The buffers of new state, in the order of `Role::STATE`; `None` where the host gives one, or the
/// format has none.
pub type NewState = [Option<Buffer>; Role::STATE.len()];

impl Optimizer {
    /// Returns whether a device is open.
    pub(in crate::optimizer) fn has_device(&mut self) -> bool {
        self.backend.cuda().is_some()
    }

    /// Returns the tensor that a new parameter is stepped as, and what has been made for it: a
    /// copy, if it is on a device and the processor steps it.
    pub(in crate::optimizer) fn bring_to_device(
        &mut self,
        new: &NewParam,
    ) -> Result<(Tensor, NewOnDevice), Error> {
        if !new.offload {
            return Ok((new.param, NewOnDevice::default()));
        }
        let param = label(new.name);
        let Device::Cuda(device) = new.param.device() else {
            return Err(Error::NothingToOffload(param));
        };
        let cuda = self.open_device(param, device)?;
        if !cuda.can_reach(&new.param.addresses())? {
            let problem = TensorProblem::Unreachable { address: new.param.address(), device };
            return Err(problem.of(param, Role::Param));
        }
        let copy = cuda.new_copy(&new.param)?;
        let stepped = copy.tensor().map_err(|problem| problem.of(param, Role::Param))?;
        let stepped = stepped.in_order(new.param.order());
        Ok((stepped, NewOnDevice { copy: Some(copy), memory: None }))
    }

    /// Allocates the state of a new parameter that is stepped on a device. A parameter that the
    /// processor steps has none there.
    pub(in crate::optimizer) fn new_state_on_device(
        &mut self,
        new: &NewParam,
        format: &Format,
        to: &mut NewOnDevice,
    ) -> Result<NewState, Error> {
        let Device::Cuda(device) = new.param.device() else { return Ok(Default::default()) };
        if to.copy.is_some() {
            return Ok(Default::default());
        }
        let param = label(new.name);
        let cuda = self.open_device(param, device)?;
        let state = Role::STATE.into_iter().zip(new.state);
        let given = [(Role::Param, Some(new.param))].into_iter().chain(state);
        for (buffer, given) in given {
            if let Some(tensor) = given.filter(|tensor| tensor.n_elements() > 0)
                && !cuda.can_reach(&tensor.addresses())?
            {
                let problem = TensorProblem::Unreachable { address: tensor.address(), device };
                return Err(problem.of(param, buffer));
            }
        }
        let (memory, buffers) = cuda.new_state(format, new.param.n_elements(), &new.state)?;
        to.memory = Some(memory);
        Ok(buffers)
    }

    /// Returns the device of the handle, which is opened for the first parameter there.
    fn open_device(&mut self, param: Label, device: u16) -> Result<&mut Cuda, Error> {
        let cuda = self.backend.open_cuda(device, self.config.device)?;
        match cuda.ordinal() {
            existing if existing != device => {
                Err(Error::SecondDevice { param, is: device, existing })
            }
            _ => Ok(cuda),
        }
    }

    /// Makes room for so many parameters, of which the one with this number is new.
    pub(in crate::optimizer) fn reserve_on_device(
        &mut self,
        number: u32,
        n_params: usize,
        operands: &Operands,
        clock: &Clock,
    ) -> Result<(), Error> {
        self.learn_changes()?; // which growth would take away
        let Some(cuda) = self.backend.cuda() else { return Ok(()) };
        let of_device = operands.is_on_device().then_some((number, operands, clock));
        cuda.reserve(n_params, self.groups.len(), of_device)?;
        self.on_device.reserve(n_params)
    }

    /// Makes room for so many groups.
    pub(in crate::optimizer) fn reserve_groups_on_device(
        &mut self,
        n_groups: usize,
    ) -> Result<(), Error> {
        self.learn_changes()?;
        let n_params = self.params.len();
        self.backend.cuda().map_or(Ok(()), |cuda| cuda.reserve(n_params, n_groups, None))
    }

    /// Makes room for the statistics of the parameters there are and of one that is new.
    pub(in crate::optimizer) fn reserve_statistics_on_device(
        &mut self,
        new: Option<&Operands>,
    ) -> Result<(), Error> {
        let new = new.filter(|operands| operands.is_on_device());
        self.backend.cuda().map_or(Ok(()), |cuda| cuda.reserve_statistics(new))
    }

    /// Gives back what the device has made for a parameter that was not added after all. `stays`:
    /// there are others.
    pub(in crate::optimizer) fn leave_device(&mut self, stays: bool) {
        match self.backend.cuda() {
            Some(cuda) if stays => cuda.drop_unshared(),
            _ => self.backend.close_device(),
        }
    }

    /// Has the device know a parameter that has been added.
    pub(in crate::optimizer) fn keep_on_device(&mut self, id: ParamId, new: NewOnDevice) {
        let Some(cuda) = self.backend.cuda() else { return };
        if let Some(copy) = new.copy {
            cuda.keep_copy(id.number(), copy);
        }
        if let Some(memory) = new.memory {
            cuda.keep(id.number(), self.params.operands(id), memory);
        }
    }

    /// Has the device forget a parameter that is about to be removed.
    pub(in crate::optimizer) fn release_on_device(&mut self, id: ParamId) -> Result<(), Error> {
        self.learn_changes()?;
        let Some(cuda) = self.backend.cuda() else { return Ok(()) };
        let operands = self.params.operands(id);
        if operands.is_on_device() {
            cuda.release(id.number(), operands)
        } else if cuda.copy_of(id.number()).is_some() {
            cuda.release_copy(id.number())
        } else {
            Ok(())
        }
    }

    /// Returns the parameter as the host knows it: the one on the device, if a copy of it is
    /// stepped.
    pub(in crate::optimizer) fn param_of_host(&mut self, id: ParamId) -> Tensor {
        let copy = self.backend.cuda().and_then(|cuda| cuda.copy_of(id.number()));
        copy.map_or(self.params.operands(id).param(), |copy| copy.param())
    }

    /// Sets where the host has moved a parameter.
    pub(in crate::optimizer) fn move_param(&mut self, id: ParamId, to: Tensor) {
        match self.backend.cuda().and_then(|cuda| cuda.copy_of(id.number())) {
            Some(copy) => copy.set_param(to),
            None => self.params.revise_operands(id).set_param(to),
        }
    }

    /// Returns whether a graph steps a parameter.
    pub(in crate::optimizer) fn is_in_graph(&mut self, id: ParamId) -> bool {
        self.backend.cuda().is_some_and(|cuda| cuda.is_in_graph(id.number()))
    }
}

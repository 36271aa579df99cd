//! Work on whole tensors besides the step: masters are filled and checked, gradients are
//! accumulated, and memory is cleared.

use super::Cuda;
use super::kernels::Kernel;
use crate::error::Error;
use crate::role::Role;
use crate::tensor::{Operands, Tensor};

impl Cuda {
    /// Fills the master, if there is one, with the parameter's values, and clears the remainder, if
    /// there is one.
    pub fn fill_master(&self, operands: &Operands) -> Result<(), Error> {
        let param = operands.param();
        if let Some(master) = operands.tensor(Role::Master) {
            self.accumulate(&master, &param, true)?;
        }
        operands.tensor(Role::Remainder).map_or(Ok(()), |remainder| self.zero(&remainder))
    }

    /// Adds a gradient to a sum; the first one becomes the sum.
    pub fn accumulate(&self, sum: &Tensor, grad: &Tensor, is_first: bool) -> Result<(), Error> {
        let kernel = Kernel::accumulate(sum.dtype(), grad.dtype());
        let (mut sum, mut from) = (sum.address() as u64, grad.address() as u64);
        let (mut n, mut is_first) = (grad.n_elements(), u32::from(is_first));
        let arguments = [
            (&raw mut sum).cast(),
            (&raw mut from).cast(),
            (&raw mut n).cast(),
            (&raw mut is_first).cast(),
        ];
        // Four elements a thread.
        let blocks = n.div_ceil(4 * 256);
        // SAFETY: the arguments are what the kernel takes, and the host vouched for the memory.
        unsafe { self.enter_to_queue()?.launch(kernel, blocks, arguments) }
    }

    /// Returns the first element of an f32 master that does not round to its parameter. Waits for
    /// the device.
    pub fn check_master(&mut self, operands: &Operands) -> Result<Option<usize>, Error> {
        let Some(master) = operands.tensor(Role::Master) else { return Ok(None) };
        let kernel = Kernel::check_master(operands.param().dtype());
        let (mut master, mut param) = (master.address() as u64, operands.param().address() as u64);
        let (mut n, mut first) = (operands.param().n_elements(), self.workspace()?.places.first);
        let mut found = [u64::MAX];
        self.write(first, &found)?;
        let arguments = [
            (&raw mut master).cast(),
            (&raw mut param).cast(),
            (&raw mut n).cast(),
            (&raw mut first).cast(),
        ];
        // SAFETY: the arguments are what the kernel takes, and the host vouched for the memory.
        unsafe { self.driver.enter()?.launch(kernel, n.div_ceil(4 * 256), arguments) }?;
        self.read("the first step of a parameter whose master is the host's", first, &mut found)?;
        Ok((found[0] != u64::MAX).then_some(found[0] as usize))
    }

    /// Writes zeros over a tensor.
    pub fn zero(&self, tensor: &Tensor) -> Result<(), Error> {
        let bytes = tensor.addresses().len();
        // SAFETY: the host vouched for the tensor's memory.
        unsafe { self.enter_to_queue()?.zero(tensor.address() as u64, bytes) }
    }
}

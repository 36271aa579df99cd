//! Sums over gradients that lie on the device.
#![forbid(unsafe_code)]

use crate::device::Device;
use crate::error::{Error, TensorProblem};
use crate::optimizer::Optimizer;
use crate::tensor::Tensor;

impl Optimizer {
    /// Checks that sums on a device are in memory of the handle's.
    pub(in crate::optimizer) fn check_sums_on_device(
        &mut self,
        sums: &Tensor,
        device: Device,
    ) -> Result<(), Error> {
        let cuda = self.cuda()?;
        let there = cuda.ordinal();
        if device != Device::Cuda(there) || !cuda.can_reach(&sums.addresses())? {
            let problem = TensorProblem::Unreachable { address: sums.address(), device: there };
            return Err(Error::GradSums(problem));
        }
        Ok(())
    }

    /// Has the device write what it has measured.
    pub(in crate::optimizer) fn put_sums_on_device(&mut self, to: &Tensor) -> Result<(), Error> {
        self.cuda()?.put_sums(to.address() as u64)
    }

    /// Writes sums to the device. Waits for it.
    pub(in crate::optimizer) fn write_sums_on_device(
        &mut self,
        to: &Tensor,
        sums: &[[f64; 2]],
    ) -> Result<(), Error> {
        self.cuda()?.write_sums(to.address() as u64, sums)
    }

    /// Reads sums from the device. Waits for it.
    pub(in crate::optimizer) fn read_sums_on_device(
        &mut self,
        from: &Tensor,
        sums: &mut [[f64; 2]],
    ) -> Result<(), Error> {
        self.cuda()?.read_sums(from.address() as u64, sums)
    }
}

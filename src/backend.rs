//! The one seam between the optimizer and what computes: the processor (`cpu/`), and a device
//! (`cuda/`) where a handle has parameters on one.
//!
//! `Backend::new` knows no device. `open_cuda` opens it for the first parameter there, and
//! `close_cuda` closes it if that parameter is not added after all. The other methods go to the
//! side on which the parameter lies. In the order of a training loop: `accumulate` adds up
//! gradients, `fill_master` and `check_master` look after masters before the first step, `measure`
//! finds the norms of gradients and `update` steps the chunks of the host; `cuda` hands out the
//! device, which is stepped apart. Between steps `zero_grad` and `zero_moments` clear, and
//! `copy_state`, `set_state`, `read_bytes` and `write_bytes` carry state to and from the host.
#![forbid(unsafe_code)]

use crate::config::{DeviceConfig, IsaCap, Threads};
use crate::cpu::Cpu;
pub use crate::cpu::Refused;
use crate::cpu::isa::Isa;
use crate::cuda::{self, Cuda};
use crate::error::{Error, Label};
use crate::role::Role;
use crate::steps::Steps;
use crate::sys::meeting::Meeting;
use crate::tensor::{Buffer, Chunks, GradBlock, GradBlocks, Operands, SparseGrad, Tensor};
use core::ops::Range;

/// The processor of one handle, and its device if it has parameters on one.
pub struct Backend {
    cpu: Cpu,
    cuda: Option<Cuda>,
}

impl Backend {
    pub fn new(isa: IsaCap, threads: Threads) -> Result<Backend, Error> {
        Ok(Backend { cpu: Cpu::new(isa, threads)?, cuda: None })
    }

    /// Steps every chunk. An error means that nothing was written.
    pub fn update(
        &mut self,
        chunks: &Chunks,
        steps: &Steps,
        refused: Refused,
    ) -> Result<(), Error> {
        self.cpu.update(chunks, steps, refused)
    }

    /// Measures every block of the gradients. An error means that nothing was measured.
    pub fn measure(&mut self, blocks: &GradBlocks, refused: Refused) -> Result<(), Error> {
        self.cpu.measure(blocks, refused)
    }

    /// Writes the square of each element of a block.
    pub fn squares(&self, block: &GradBlock, to: &mut [f64]) {
        self.cpu.squares(block, to);
    }

    /// Has work done by threads of the host that meet here, or (`None`) by the handle's.
    pub fn invite(&mut self, guests: Option<&'static Meeting>) {
        self.cpu.invite(guests);
    }

    /// Runs work that claims tasks until none is left, on at most as many threads as tasks.
    pub fn share(&mut self, n_tasks: usize, work: &(dyn Fn() + Sync)) {
        self.cpu.share(n_tasks, work);
    }

    /// Adds a gradient to the sum of a parameter's gradients, which has been allocated before.
    pub fn accumulate(&self, operands: &mut Operands, grad: &Tensor) -> Result<(), Error> {
        match (&self.cuda, operands.accumulated()) {
            (Some(cuda), Some(sum)) if operands.is_on_device() => {
                cuda.accumulate(&sum, grad, operands.n_accumulated() == 0)
            }
            _ => {
                self.cpu.accumulate(operands, grad);
                Ok(())
            }
        }
    }

    /// Returns the instruction set in use, and the number of threads that share a large step.
    pub fn isa_and_threads(&self) -> (IsaCap, usize) {
        self.cpu.isa_and_threads()
    }

    /// Fills the f32 master, if there is one, with the parameter's values.
    pub fn fill_master(&self, operands: &mut Operands) -> Result<(), Error> {
        match &self.cuda {
            Some(cuda) if operands.is_on_device() => cuda.fill_master(operands),
            _ => {
                self.cpu.fill_master(operands);
                Ok(())
            }
        }
    }

    /// Returns the first element of the f32 master, if there is one, that does not round to the
    /// parameter.
    pub fn check_master(&mut self, operands: &mut Operands) -> Result<Option<usize>, Error> {
        match &mut self.cuda {
            Some(cuda) if operands.is_on_device() => cuda.check_master(operands),
            _ => Ok(self.cpu.check_master(operands)),
        }
    }

    /// Writes zeros over the gradient.
    pub fn zero_grad(&self, operands: &mut Operands) -> Result<(), Error> {
        match (&self.cuda, operands.tensor(Role::Grad)) {
            (Some(cuda), Some(grad)) if operands.is_on_device() => cuda.zero(&grad),
            _ => {
                operands.zero_grad();
                Ok(())
            }
        }
    }

    /// Writes zeros over the moments.
    pub fn zero_moments(&self, operands: &mut Operands) -> Result<(), Error> {
        match &self.cuda {
            Some(cuda) if operands.is_on_device() => {
                let roles = Role::MOMENTS.into_iter().chain(Role::SCALES);
                let mut moments = roles.filter_map(|role| operands.tensor(role));
                moments.try_for_each(|moment| cuda.zero(&moment))
            }
            _ => {
                operands.zero_moments();
                Ok(())
            }
        }
    }

    /// Copies a state tensor into memory of the host, which has its size.
    pub fn copy_state(&self, operands: &Operands, role: Role, to: &Tensor) -> Result<(), Error> {
        match (&self.cuda, operands.tensor(role)) {
            (Some(cuda), Some(state)) if operands.is_on_device() => cuda.copy_out(&state, to),
            _ => {
                operands.copy_state(role, to);
                Ok(())
            }
        }
    }

    /// Copies memory of the host into a state tensor of the same size.
    pub fn set_state(
        &self,
        operands: &mut Operands,
        role: Role,
        from: &Tensor,
    ) -> Result<(), Error> {
        match (&self.cuda, operands.tensor(role)) {
            (Some(cuda), Some(state)) if operands.is_on_device() => cuda.copy_in(&state, from),
            _ => {
                operands.set_state_from(role, from);
                Ok(())
            }
        }
    }

    /// Copies some bytes of a tensor that is on the device.
    pub fn read_bytes(&self, from: &Tensor, start: usize, to: &mut [u8]) -> Result<(), Error> {
        self.cuda.as_ref().ok_or(Error::NoDeviceYet)?.read_bytes(from, start, to)
    }

    /// Writes some bytes of a tensor that is on the device.
    pub fn write_bytes(&self, to: &Tensor, start: usize, from: &[u8]) -> Result<(), Error> {
        self.cuda.as_ref().ok_or(Error::NoDeviceYet)?.write_bytes(to, start, from)
    }

    /// Returns whether the device reaches these addresses; true if there is no device.
    pub fn can_reach(&self, addresses: &Range<usize>) -> Result<bool, Error> {
        self.cuda.as_ref().map_or(Ok(true), |cuda| cuda.can_reach(addresses))
    }

    /// Allocates the sum of the gradients of a parameter on the device.
    pub fn new_sum(&mut self, number: u32, operands: &Operands) -> Result<Buffer, Error> {
        self.cuda.as_mut().ok_or(Error::NoDeviceYet)?.new_sum(number, operands)
    }

    /// Makes room for a sparse gradient of a parameter on the device.
    pub fn reserve_rows(
        &mut self,
        number: u32,
        name: Label,
        operands: &Operands,
        sparse: &SparseGrad,
    ) -> Result<(), Error> {
        self.cuda.as_mut().ok_or(Error::NoDeviceYet)?.reserve_rows(number, name, operands, sparse)
    }

    /// Returns the device, if there are parameters on one.
    pub fn cuda(&mut self) -> Option<&mut Cuda> {
        self.cuda.as_mut()
    }

    /// Returns the device of the handle, opened for the first parameter there.
    pub fn open_cuda(&mut self, ordinal: u16, config: DeviceConfig) -> Result<&mut Cuda, Error> {
        let cuda = match self.cuda.take() {
            Some(cuda) => cuda,
            None => Cuda::open(ordinal, config)?,
        };
        Ok(self.cuda.insert(cuda))
    }

    /// Returns the bytes of page-locked memory.
    pub fn pinned_bytes(&self) -> usize {
        self.cuda.as_ref().map_or(0, Cuda::pinned_bytes)
    }

    /// Closes the device, because the first parameter there was not added after all.
    pub fn close_device(&mut self) {
        self.cuda = None;
    }
}

/// Returns the instruction sets that this build has and this processor runs, lowest first.
pub fn isas() -> impl Iterator<Item = IsaCap> {
    Isa::available().map(|isa| isa.cap)
}

/// Returns the instruction set that `IsaCap::Best` means now.
pub fn best_isa() -> Result<IsaCap, Error> {
    Ok(Isa::choose(IsaCap::Best)?.cap)
}

/// Returns whether a driver for CUDA devices is installed and this build can use it.
pub fn has_cuda() -> bool {
    cuda::is_installed()
}

//! The one seam between the optimizer and what computes: the update over a table of chunks.
#![forbid(unsafe_code)]

use crate::config::{Config, IsaCap};
use crate::cpu::Cpu;
use crate::cpu::isa::Isa;
use crate::error::Error;
use crate::steps::Steps;
use crate::tensor::{Chunks, GradBlocks, Operands, Tensor};

/// Where the parameters of one handle are stepped.
pub struct Backend {
    cpu: Cpu,
}

impl Backend {
    pub fn new(config: &Config) -> Result<Backend, Error> {
        Ok(Backend { cpu: Cpu::new(config.isa, config.threads)? })
    }

    /// Steps every chunk. An error means that nothing was written.
    pub fn update(&mut self, chunks: &Chunks, steps: &Steps) -> Result<(), Error> {
        self.cpu.update(chunks, steps)
    }

    /// Measures every block of the gradients. An error means that nothing was measured.
    pub fn measure(&mut self, blocks: &GradBlocks) -> Result<(), Error> {
        self.cpu.measure(blocks)
    }

    /// Adds a gradient to what a parameter has accumulated.
    pub fn accumulate(&self, operands: &mut Operands, grad: &Tensor) {
        self.cpu.accumulate(operands, grad)
    }

    /// The instruction set that is used, and how many threads work where there is work for them.
    pub fn isa_and_threads(&self) -> (IsaCap, usize) {
        self.cpu.isa_and_threads()
    }

    /// Fills the f32 master, if there is one, with the parameter's values.
    pub fn fill_master(&self, operands: &mut Operands) {
        self.cpu.fill_master(operands)
    }

    /// The first element of the f32 master, if there is one, that does not round to the parameter.
    pub fn strange_master(&self, operands: &mut Operands) -> Option<usize> {
        self.cpu.strange_master(operands)
    }
}

/// The instruction sets that this build has and this processor runs, lowest first.
pub fn isas() -> impl Iterator<Item = IsaCap> {
    Isa::available().map(|isa| isa.cap)
}

/// What `IsaCap::Best` comes to now.
pub fn best_isa() -> Result<IsaCap, Error> {
    Ok(Isa::choose(IsaCap::Best)?.cap)
}

//! The processor: the loops of one instruction set, on one or more threads.
//!
//! `update` and `measure` run a closure on each thread (`threads.rs`), which claims chunks or
//! blocks until none is left. A chunk goes to a `Stepper` (`stepper.rs`), which opens its weights
//! and moments block by block (`weights.rs`, `moments.rs`), widens its gradient (`rows.rs`), calls
//! the loop of the instruction set (`isa.rs`, `loops.rs`), and stores the block again. Moments that
//! are codes have loops that do it all (`coded.rs`, `registers.rs`), and so have most 16-bit
//! parameters where there are instructions for their conversion (`halves.rs`, `groups.rs`). With
//! AVX2 these, and f32 parameters, are stepped in registers, in stages (`late.rs`). Small f32
//! parameters are stepped in runs (`small.rs`). A block of a gradient goes to `norms::tally`.

mod accumulate;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod block;
pub mod coded;
pub mod compute;
#[cfg(target_arch = "x86_64")]
pub mod convert;
#[cfg(target_arch = "x86_64")]
pub mod groups;
mod halves;
pub mod isa;
#[cfg(target_arch = "x86_64")]
pub mod late;
pub mod loops;
mod masters;
mod moments;
mod norms;
#[cfg(target_arch = "x86_64")]
mod registers;
mod rows;
mod small;
mod space;
mod stepper;
mod stored;
mod threads;
mod weights;

use crate::config;
use crate::error::Error;
use crate::steps::Steps;
use crate::sys::meeting::Meeting;
use crate::tensor::{Chunks, GradBlock, GradBlocks, Operands, Tensor};
use isa::Isa;
use stepper::Stepper;
pub use threads::Refused;
use threads::Threads;

/// The processor as one handle uses it.
pub struct Cpu {
    isa: &'static Isa,
    threads: Threads,
}

impl Cpu {
    pub fn new(isa: config::IsaCap, threads: config::Threads) -> Result<Cpu, Error> {
        Ok(Cpu { isa: Isa::choose(isa)?, threads: Threads::new(threads) })
    }

    /// Steps every chunk. An error means that nothing was written.
    pub fn update(
        &mut self,
        chunks: &Chunks,
        steps: &Steps,
        refused: Refused,
    ) -> Result<(), Error> {
        let isa = self.isa;
        self.threads.run(chunks.line(), refused, &|| {
            let mut stepper = Stepper::new(isa, steps);
            while chunks.claim(&mut stepper) {}
        })
    }

    /// Measures every block of the gradients. An error means that nothing was measured.
    pub fn measure(&mut self, blocks: &GradBlocks, refused: Refused) -> Result<(), Error> {
        let isa = self.isa;
        self.threads.run(blocks.line(), refused, &|| {
            while blocks.claim(|block| {
                let (sum_squares, n_nonfinite) = norms::tally(isa, &block);
                block.tally.set(sum_squares, n_nonfinite);
            }) {}
        })
    }

    /// Writes the square of each element of a block.
    pub fn squares(&self, block: &GradBlock, to: &mut [f64]) {
        norms::squares(self.isa, block, to);
    }

    /// Has work done by threads of the host that meet here, or (`None`) by the handle's.
    pub fn invite(&mut self, guests: Option<&'static Meeting>) {
        self.threads.invite(guests);
    }

    /// Runs work that claims tasks until none is left, on at most as many threads as tasks.
    pub fn share(&mut self, n_tasks: usize, work: &(dyn Fn() + Sync)) {
        self.threads.share(n_tasks, work);
    }

    /// Adds a gradient to the sum of a parameter's gradients, on the caller's thread.
    pub fn accumulate(&self, operands: &mut Operands, grad: &Tensor) {
        if let Some((sum, grad, is_first)) = operands.accumulation(grad) {
            accumulate::add(self.isa, sum, grad, is_first);
        }
    }

    /// Returns the instruction set in use, and the number of threads that share a large step.
    pub fn isa_and_threads(&self) -> (config::IsaCap, usize) {
        (self.isa.cap, self.threads.count())
    }

    /// Copies the parameter into its f32 master, or clears its remainder.
    pub fn fill_master(&self, operands: &mut Operands) {
        if let Some((master, param)) = operands.master_and_param() {
            masters::fill(self.isa, master, param);
        }
        operands.zero_remainder();
    }

    /// Returns the first element of the f32 master, if there is one, that does not round to the
    /// parameter.
    pub fn check_master(&self, operands: &mut Operands) -> Option<usize> {
        let (master, param) = operands.master_and_param()?;
        masters::first_mismatch(self.isa, master, param)
    }
}

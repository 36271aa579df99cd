//! Parameters and gradients of whole blocks, as they are kept: f32s, or split masters in bf16.
#![forbid(unsafe_code)]

use super::lanes::LANES;
use super::set::Registers;
use crate::cpu::coded::SplitMaster;
use crate::dtype::Bf16;
use crate::math::{StepScalars, moved};
use core::ops::Range;

/// `N` groups of what is stepped at once.
pub type Groups<T, const N: usize> = [[T; LANES]; N];

pub fn groups<T, const N: usize>(block: &[T]) -> &Groups<T, N> {
    block.as_chunks().0.first_chunk().expect("a whole block")
}

pub fn groups_mut<T, const N: usize>(block: &mut [T]) -> &mut Groups<T, N> {
    block.as_chunks_mut().0.first_chunk_mut().expect("a whole block")
}

/// Returns room for both moments of a block.
pub fn moments_of<const N: usize>(wide: &mut [f32]) -> [&mut Groups<f32, N>; 2] {
    let (exp_avg, exp_avg_sq) = wide.split_at_mut(N * LANES);
    [groups_mut(exp_avg), groups_mut(exp_avg_sq)]
}

/// What is stepped, a part at a time.
pub trait Params {
    type At<'b>: Params
    where
        Self: 'b;

    /// Returns the parameters and the gradients of some elements.
    fn at(&mut self, params: Range<usize>, grads: Range<usize>) -> Self::At<'_>;
    fn grad<R: Registers>(&self, registers: R, at: usize) -> R::Floats;
    fn param<R: Registers>(&self, registers: R, at: usize) -> R::Floats;
    /// Returns floats in the order of `param`: if not said, of memory.
    #[inline(always)]
    fn arranged<R: Registers>(&self, _: R, wide: R::Floats) -> R::Floats {
        wide
    }
    fn set<R: Registers>(&mut self, registers: R, at: usize, param: R::Floats);

    /// Moves parameters in a direction.
    #[inline(always)]
    fn step_in<R: Registers>(
        &mut self,
        registers: R,
        scalars: &StepScalars<R::Floats>,
        direction: R::Floats,
        at: usize,
    ) {
        let param = self.param(registers, at);
        let direction = self.arranged(registers, direction);
        self.set(registers, at, moved(scalars, param, direction));
    }
}

pub struct InF32<'a> {
    pub param: &'a mut [f32],
    pub grad: &'a [f32],
}

impl Params for InF32<'_> {
    type At<'b>
        = InF32<'b>
    where
        Self: 'b;

    #[inline(always)]
    fn at(&mut self, params: Range<usize>, grads: Range<usize>) -> InF32<'_> {
        InF32 { param: &mut self.param[params], grad: &self.grad[grads] }
    }

    #[inline(always)]
    fn grad<R: Registers>(&self, registers: R, at: usize) -> R::Floats {
        registers.load(self.grad, at)
    }

    #[inline(always)]
    fn param<R: Registers>(&self, registers: R, at: usize) -> R::Floats {
        registers.load(self.param, at)
    }

    #[inline(always)]
    fn set<R: Registers>(&mut self, registers: R, at: usize, param: R::Floats) {
        registers.store(param, self.param, at);
    }
}

/// Split masters.
pub struct InHalves<'a> {
    pub master: SplitMaster<'a>,
    pub grad: &'a [Bf16],
}

impl Params for InHalves<'_> {
    type At<'b>
        = InHalves<'b>
    where
        Self: 'b;

    #[inline(always)]
    fn at(&mut self, params: Range<usize>, grads: Range<usize>) -> InHalves<'_> {
        let SplitMaster { upper, remainder } = &mut self.master;
        let (upper, remainder) = (&mut upper[params.clone()], &mut remainder[params]);
        InHalves { master: SplitMaster { upper, remainder }, grad: &self.grad[grads] }
    }

    #[inline(always)]
    fn grad<R: Registers>(&self, registers: R, at: usize) -> R::Floats {
        registers.load_bf16(self.grad, at)
    }

    #[inline(always)]
    fn param<R: Registers>(&self, registers: R, at: usize) -> R::Floats {
        registers.load_split(self.master.upper, self.master.remainder, at)
    }

    #[inline(always)]
    fn arranged<R: Registers>(&self, registers: R, wide: R::Floats) -> R::Floats {
        registers.crossed(wide)
    }

    #[inline(always)]
    fn set<R: Registers>(&mut self, registers: R, at: usize, param: R::Floats) {
        let SplitMaster { upper, remainder } = &mut self.master;
        registers.store_split(param, upper, remainder, at);
    }
}

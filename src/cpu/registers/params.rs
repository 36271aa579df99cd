//! Parameters and gradients of whole blocks, as they are kept: f32s, or split masters in bf16.
#![forbid(unsafe_code)]

use super::lanes::LANES;
use crate::cpu::coded::SplitMaster;
use crate::cpu::convert::Convert;
use crate::dtype::Bf16;
use core::marker::PhantomData;

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

/// What is stepped.
pub trait Params {
    type Block<'b, const N: usize>: Block
    where
        Self: 'b;

    /// Returns the block that begins with element `start`.
    fn block<const N: usize>(&mut self, start: usize) -> Self::Block<'_, N>;
}

/// A block of what is stepped.
pub trait Block {
    /// Returns the parameter and the gradient of a group as f32s: themselves, or in `buffers`.
    fn open<'s>(
        &'s mut self,
        group: usize,
        buffers: &'s mut [[f32; LANES]; 2],
    ) -> (&'s mut [f32; LANES], &'s [f32; LANES]);
    /// Stores a parameter that was opened in `buffer`.
    fn close(&mut self, group: usize, buffer: &[f32; LANES]);
}

pub struct InF32<'a> {
    pub param: &'a mut [f32],
    pub grad: &'a [f32],
}

impl Params for InF32<'_> {
    type Block<'b, const N: usize>
        = (&'b mut Groups<f32, N>, &'b Groups<f32, N>)
    where
        Self: 'b;

    #[inline(always)]
    fn block<const N: usize>(&mut self, start: usize) -> Self::Block<'_, N> {
        (groups_mut(&mut self.param[start..]), groups(&self.grad[start..]))
    }
}

impl<const N: usize> Block for (&mut Groups<f32, N>, &Groups<f32, N>) {
    #[inline(always)]
    fn open<'s>(
        &'s mut self,
        group: usize,
        _: &'s mut [[f32; LANES]; 2],
    ) -> (&'s mut [f32; LANES], &'s [f32; LANES]) {
        (&mut self.0[group], &self.1[group])
    }

    #[inline(always)]
    fn close(&mut self, _: usize, _: &[f32; LANES]) {}
}

/// Split masters, joined and split by `C`.
pub struct InHalves<'a, C> {
    pub master: SplitMaster<'a>,
    pub grad: &'a [Bf16],
    pub by: PhantomData<C>,
}

/// A block of split masters.
pub struct HalvesBlock<'b, const N: usize, C> {
    upper: &'b mut Groups<Bf16, N>,
    remainder: &'b mut Groups<i16, N>,
    grad: &'b Groups<Bf16, N>,
    by: PhantomData<C>,
}

impl<C: Convert> Params for InHalves<'_, C> {
    type Block<'b, const N: usize>
        = HalvesBlock<'b, N, C>
    where
        Self: 'b;

    #[inline(always)]
    fn block<const N: usize>(&mut self, start: usize) -> Self::Block<'_, N> {
        HalvesBlock {
            upper: groups_mut(&mut self.master.upper[start..]),
            remainder: groups_mut(&mut self.master.remainder[start..]),
            grad: groups(&self.grad[start..]),
            by: PhantomData,
        }
    }
}

impl<const N: usize, C: Convert> Block for HalvesBlock<'_, N, C> {
    #[inline(always)]
    fn open<'s>(
        &'s mut self,
        group: usize,
        [param, grad]: &'s mut [[f32; LANES]; 2],
    ) -> (&'s mut [f32; LANES], &'s [f32; LANES]) {
        C::join(&self.upper[group], &self.remainder[group], param);
        C::widen_bf16(&self.grad[group], grad);
        (param, grad)
    }

    #[inline(always)]
    fn close(&mut self, group: usize, buffer: &[f32; LANES]) {
        C::split(buffer, &mut self.upper[group], &mut self.remainder[group]);
    }
}

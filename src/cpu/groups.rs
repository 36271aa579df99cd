//! The loops over parameters in 16 bits whose moments are f32: a step of one group after the other,
//! widened, stepped and narrowed in the registers of one loop.
//!
//! The length of a group is known to the compiler, but for what is left after the last one.
//! `Weights` are the ways to keep a parameter: by `Itself`, beside a `Master`, `Split` from its
//! remainder, or with its rounding error (`Kahan`). As `Kept` they are stepped by `late.rs`, where
//! an instruction set does that.
#![forbid(unsafe_code)]

use super::convert::{self, Convert, GROUP, Half};
use super::late::{self, InRegisters, Kept, Sixteens, group, group_mut};
use super::loops;
use crate::dtype::{Bf16, Bits, left_over};
use crate::math::StepScalars;
use core::ops::Range;

/// A parameter, and what it is kept with.
pub trait Weights {
    /// Returns the elements `at` in f32: themselves, or in `wide`.
    fn open<'s, C: Convert>(
        &'s mut self,
        at: Range<usize>,
        wide: &'s mut [f32; GROUP],
    ) -> &'s mut [f32];

    /// Stores the elements that `open` returned, after they were changed.
    fn close<C: Convert>(&mut self, at: Range<usize>, wide: &[f32; GROUP]);
}

pub struct Itself<'a, S>(pub &'a mut [S]);

impl<S: Half> Weights for Itself<'_, S> {
    #[inline(always)]
    fn open<'s, C: Convert>(
        &'s mut self,
        at: Range<usize>,
        wide: &'s mut [f32; GROUP],
    ) -> &'s mut [f32] {
        let n = at.len();
        convert::widen::<C, S>(&self.0[at], wide);
        &mut wide[..n]
    }

    #[inline(always)]
    fn close<C: Convert>(&mut self, at: Range<usize>, wide: &[f32; GROUP]) {
        convert::narrow::<C, S>(&wide[..at.len()], &mut self.0[at]);
    }
}

impl<S: InRegisters> Kept for Itself<'_, S> {
    #[inline(always)]
    fn load<R: Sixteens>(&self, at: usize) -> R::Floats {
        S::load::<R>(group(self.0, at))
    }

    #[inline(always)]
    fn store<R: Sixteens>(&mut self, at: usize, wide: R::Floats) {
        S::store::<R>(wide, group_mut(self.0, at));
    }
}

struct Master<'a, S> {
    param: &'a mut [S],
    master: &'a mut [f32],
}

impl<S: Half> Weights for Master<'_, S> {
    #[inline(always)]
    fn open<'s, C: Convert>(
        &'s mut self,
        at: Range<usize>,
        _: &'s mut [f32; GROUP],
    ) -> &'s mut [f32] {
        &mut self.master[at]
    }

    #[inline(always)]
    fn close<C: Convert>(&mut self, at: Range<usize>, _: &[f32; GROUP]) {
        convert::narrow::<C, S>(&self.master[at.clone()], &mut self.param[at]);
    }
}

impl<S: InRegisters> Kept for Master<'_, S> {
    #[inline(always)]
    fn load<R: Sixteens>(&self, at: usize) -> R::Floats {
        R::load(group(self.master, at))
    }

    #[inline(always)]
    fn store<R: Sixteens>(&mut self, at: usize, wide: R::Floats) {
        R::store(wide, group_mut(self.master, at));
        S::store::<R>(wide, group_mut(self.param, at));
    }
}

struct Split<'a> {
    param: &'a mut [Bf16],
    remainder: &'a mut [i16],
}

impl Weights for Split<'_> {
    #[inline(always)]
    fn open<'s, C: Convert>(
        &'s mut self,
        at: Range<usize>,
        wide: &'s mut [f32; GROUP],
    ) -> &'s mut [f32] {
        let n = at.len();
        let (param, remainder) = (&self.param[at.clone()], &self.remainder[at]);
        convert::join::<C>(param, remainder, wide);
        &mut wide[..n]
    }

    #[inline(always)]
    fn close<C: Convert>(&mut self, at: Range<usize>, wide: &[f32; GROUP]) {
        let (param, remainder) = (&mut self.param[at.clone()], &mut self.remainder[at]);
        convert::split::<C>(wide, param, remainder);
    }
}

impl Kept for Split<'_> {
    #[inline(always)]
    fn load<R: Sixteens>(&self, at: usize) -> R::Floats {
        R::load_split(group(self.param, at), group(self.remainder, at))
    }

    #[inline(always)]
    fn store<R: Sixteens>(&mut self, at: usize, wide: R::Floats) {
        R::store_split(wide, group_mut(self.param, at), group_mut(self.remainder, at));
    }

    #[inline(always)]
    fn arranged<R: Sixteens>(&self, wide: R::Floats) -> R::Floats {
        R::crossed(wide)
    }
}

struct Kahan<'a, S> {
    param: &'a mut [S],
    /// As bits.
    rest: &'a mut [u16],
}

impl<S: Half + Bits> Weights for Kahan<'_, S> {
    #[inline(always)]
    fn open<'s, C: Convert>(
        &'s mut self,
        at: Range<usize>,
        wide: &'s mut [f32; GROUP],
    ) -> &'s mut [f32] {
        let n = at.len();
        let (mut rest, mut wide_rest) = ([S::from_bits(0); GROUP], [0.0; GROUP]);
        for (rest, bits) in rest.iter_mut().zip(&self.rest[at.clone()]) {
            *rest = S::from_bits(*bits);
        }
        convert::widen::<C, S>(&rest[..n], &mut wide_rest);
        convert::widen::<C, S>(&self.param[at], wide);
        for (wide, rest) in wide.iter_mut().zip(wide_rest) {
            *wide += rest;
        }
        &mut wide[..n]
    }

    #[inline(always)]
    fn close<C: Convert>(&mut self, at: Range<usize>, wide: &[f32; GROUP]) {
        let n = at.len();
        let (mut rest, mut wide_rest) = ([S::from_bits(0); GROUP], [0.0; GROUP]);
        convert::narrow::<C, S>(&wide[..n], &mut self.param[at.clone()]);
        convert::widen::<C, S>(&self.param[at.clone()], &mut wide_rest);
        for (rest, wide) in wide_rest.iter_mut().zip(wide) {
            *rest = left_over(*wide, *rest);
        }
        convert::narrow::<C, S>(&wide_rest[..n], &mut rest[..n]);
        for (bits, rest) in self.rest[at].iter_mut().zip(rest) {
            *bits = rest.to_bits();
        }
    }
}

impl<S: InRegisters + Bits> Kept for Kahan<'_, S> {
    #[inline(always)]
    fn load<R: Sixteens>(&self, at: usize) -> R::Floats {
        let mut rest = [S::from_bits(0); late::N];
        for (rest, bits) in rest.iter_mut().zip(group(self.rest, at)) {
            *rest = S::from_bits(*bits);
        }
        S::load::<R>(&rest) + S::load::<R>(group(self.param, at))
    }

    #[inline(always)]
    fn store<R: Sixteens>(&mut self, at: usize, wide: R::Floats) {
        let param = group_mut(self.param, at);
        S::store::<R>(wide, param);
        let mut rest = [S::from_bits(0); late::N];
        S::store::<R>(R::left_over(wide, S::load::<R>(param)), &mut rest);
        for (bits, rest) in group_mut(self.rest, at).iter_mut().zip(rest) {
            *bits = rest.to_bits();
        }
    }
}

/// The way of an instruction set through all elements.
pub trait Loop: Convert + Sized {
    #[inline(always)]
    fn update<G: Half>(
        scalars: &StepScalars<f32>,
        weights: impl Weights + Kept,
        grad: &[G],
        exp_avg: &mut [f32],
        exp_avg_sq: &mut [f32],
    ) {
        update_groups::<Self, G>(scalars, weights, grad, exp_avg, exp_avg_sq);
    }
}

/// Steps group after group.
#[inline(always)]
fn update_groups<C: Convert, G: Half>(
    scalars: &StepScalars<f32>,
    mut weights: impl Weights,
    grad: &[G],
    exp_avg: &mut [f32],
    exp_avg_sq: &mut [f32],
) {
    let n = grad.len();
    let (exp_avg, exp_avg_sq) = (&mut exp_avg[..n], &mut exp_avg_sq[..n]);
    let n_whole = n - n % GROUP;
    for start in (0..n_whole).step_by(GROUP) {
        let at = start..start + GROUP;
        update_some::<C, G>(scalars, &mut weights, grad, exp_avg, exp_avg_sq, at);
    }
    if n_whole < n {
        update_some::<C, G>(scalars, &mut weights, grad, exp_avg, exp_avg_sq, n_whole..n);
    }
}

/// Steps a group, or what is left after the last one.
#[inline(always)]
pub fn update_some<C: Convert, G: Half>(
    scalars: &StepScalars<f32>,
    weights: &mut impl Weights,
    grad: &[G],
    exp_avg: &mut [f32],
    exp_avg_sq: &mut [f32],
    at: Range<usize>,
) {
    let (mut wide, mut wide_grad) = ([0.0; GROUP], [0.0; GROUP]);
    convert::widen::<C, G>(&grad[at.clone()], &mut wide_grad);
    let param = weights.open::<C>(at.clone(), &mut wide);
    let (exp_avg, exp_avg_sq) = (&mut exp_avg[at.clone()], &mut exp_avg_sq[at.clone()]);
    loops::update(scalars, param, &wide_grad, exp_avg, exp_avg_sq);
    weights.close::<C>(at, &wide);
}

#[inline(always)]
pub fn update_itself<C: Loop, S: Half>(
    scalars: &StepScalars<f32>,
    param: &mut [S],
    grad: &[S],
    exp_avg: &mut [f32],
    exp_avg_sq: &mut [f32],
) {
    let param = &mut param[..grad.len()];
    C::update::<S>(scalars, Itself(param), grad, exp_avg, exp_avg_sq);
}

#[inline(always)]
pub fn update_master<C: Loop, S: Half>(
    scalars: &StepScalars<f32>,
    param: &mut [S],
    master: &mut [f32],
    grad: &[S],
    exp_avg: &mut [f32],
    exp_avg_sq: &mut [f32],
) {
    let (param, master) = (&mut param[..grad.len()], &mut master[..grad.len()]);
    let weights = Master { param, master };
    C::update::<S>(scalars, weights, grad, exp_avg, exp_avg_sq);
}

#[inline(always)]
pub fn update_kahan<C: Loop, S: Half + Bits>(
    scalars: &StepScalars<f32>,
    param: &mut [S],
    rest: &mut [u16],
    grad: &[S],
    exp_avg: &mut [f32],
    exp_avg_sq: &mut [f32],
) {
    let (param, rest) = (&mut param[..grad.len()], &mut rest[..grad.len()]);
    C::update::<S>(scalars, Kahan { param, rest }, grad, exp_avg, exp_avg_sq);
}

#[inline(always)]
pub fn update_split<C: Loop>(
    scalars: &StepScalars<f32>,
    param: &mut [Bf16],
    remainder: &mut [i16],
    grad: &[Bf16],
    exp_avg: &mut [f32],
    exp_avg_sq: &mut [f32],
) {
    let (param, remainder) = (&mut param[..grad.len()], &mut remainder[..grad.len()]);
    let weights = Split { param, remainder };
    C::update::<Bf16>(scalars, weights, grad, exp_avg, exp_avg_sq);
}

//! The loops over elements: plain scalar code, inlined into one copy per instruction set
//! (`isa.rs`).
//!
//! `update`, `update_small` and `update_amsgrad` are the step, `prepare` clips and regularizes
//! gradients before it, and `forget` ends the fall of moments after it, now and then.
//! The other loops carry a block from memory to the compute type and back: `widen` and `narrow` for
//! floats, `join` and `split` for split masters, `join_kahan` and `split_kahan` for compensated
//! parameters. `coded.rs` has those of coded moments.
//!
//! They are vectorized at full width, because slices are cut to one length up front, no loop ends
//! early, all that is called is `inline(always)`, and options are known at compile time.
#![forbid(unsafe_code)]

use super::small;
use crate::dtype::{self, Bf16, Bits, Narrow, Widen};
use crate::math::{Element, Preparation, Real, StepScalars, adamw, forgotten, prepared};
use crate::noise::Noise;
use crate::steps::Steps;
use crate::tensor::PlainRun;

#[inline(always)]
pub fn update<T: Real>(
    scalars: &StepScalars<T>,
    param: &mut [T],
    grad: &[T],
    exp_avg: &mut [T],
    exp_avg_sq: &mut [T],
) {
    let n = param.len();
    let (grad, exp_avg, exp_avg_sq) = (&grad[..n], &mut exp_avg[..n], &mut exp_avg_sq[..n]);
    for i in 0..n {
        let before = Element {
            param: param[i],
            exp_avg: exp_avg[i],
            exp_avg_sq: exp_avg_sq[i],
            max_exp_avg_sq: T::ZERO,
        };
        let after = adamw::<T, false>(scalars, before, grad[i]);
        param[i] = after.param;
        exp_avg[i] = after.exp_avg;
        exp_avg_sq[i] = after.exp_avg_sq;
    }
}

/// Steps small parameters.
#[inline(always)]
pub fn update_small(steps: &Steps, run: &mut PlainRun) {
    small::update(steps, run, update);
}

#[inline(always)]
pub fn update_amsgrad<T: Real>(
    scalars: &StepScalars<T>,
    param: &mut [T],
    grad: &[T],
    exp_avg: &mut [T],
    exp_avg_sq: &mut [T],
    max_exp_avg_sq: &mut [T],
) {
    let n = param.len();
    let (grad, exp_avg, exp_avg_sq) = (&grad[..n], &mut exp_avg[..n], &mut exp_avg_sq[..n]);
    let max_exp_avg_sq = &mut max_exp_avg_sq[..n];
    for i in 0..n {
        let before = Element {
            param: param[i],
            exp_avg: exp_avg[i],
            exp_avg_sq: exp_avg_sq[i],
            max_exp_avg_sq: max_exp_avg_sq[i],
        };
        let after = adamw::<T, true>(scalars, before, grad[i]);
        param[i] = after.param;
        exp_avg[i] = after.exp_avg;
        exp_avg_sq[i] = after.exp_avg_sq;
        max_exp_avg_sq[i] = after.max_exp_avg_sq;
    }
}

#[inline(always)]
pub fn prepare<T: Real>(preparation: &Preparation<T>, grad: &mut [T], param: &[T]) {
    for (grad, param) in grad.iter_mut().zip(param) {
        *grad = prepared(preparation, *grad, *param);
    }
}

#[inline(always)]
pub fn forget<T: Real>(eps: T, exp_avg: &mut [T], second: &mut [T]) {
    for (exp_avg, second) in exp_avg.iter_mut().zip(second) {
        (*exp_avg, *second) = forgotten(eps, *exp_avg, *second);
    }
}

#[inline(always)]
pub fn widen<S: Widen<T>, T>(stored: &[S], wide: &mut [T]) {
    for (wide, stored) in wide.iter_mut().zip(stored) {
        *wide = stored.widen();
    }
}

#[inline(always)]
pub fn narrow<S: Narrow<T>, T: Copy>(wide: &[T], stored: &mut [S]) {
    for (stored, wide) in stored.iter_mut().zip(wide) {
        *stored = S::narrow(*wide);
    }
}

#[inline(always)]
pub fn join(upper: &[Bf16], remainder: &[i16], wide: &mut [f32]) {
    for ((wide, upper), remainder) in wide.iter_mut().zip(upper).zip(remainder) {
        *wide = dtype::join(*upper, *remainder);
    }
}

#[inline(always)]
pub fn split(wide: &[f32], upper: &mut [Bf16], remainder: &mut [i16]) {
    for ((wide, upper), remainder) in wide.iter().zip(upper).zip(remainder) {
        (*upper, *remainder) = dtype::split(*wide);
    }
}

#[inline(always)]
pub fn join_kahan<S: Widen<f32> + Bits>(stored: &[S], rest: &[u16], wide: &mut [f32]) {
    for ((wide, stored), rest) in wide.iter_mut().zip(stored).zip(rest) {
        *wide = stored.widen() + S::from_bits(*rest).widen();
    }
}

#[inline(always)]
pub fn split_kahan<S>(wide: &[f32], stored: &mut [S], rest: &mut [u16])
where
    S: Widen<f32> + Narrow<f32> + Bits,
{
    for ((wide, stored), rest) in wide.iter().zip(stored).zip(rest) {
        let (rounded, left_over) = dtype::compensated::<S>(*wide);
        (*stored, *rest) = (rounded, left_over.to_bits());
    }
}

#[inline(always)]
pub fn narrow_randomly(wide: &[f32], noise: Noise, stored: &mut [Bf16]) {
    for (i, (stored, wide)) in (0..).zip(stored.iter_mut().zip(wide)) {
        *stored = Bf16::narrow_randomly(*wide, noise.word(i));
    }
}

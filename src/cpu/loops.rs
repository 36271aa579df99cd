//! The loops over elements: plain scalar code, inlined into one copy per instruction set.
//!
//! What keeps them vectorized at full width: slices cut to one length up front, no early exit,
//! nothing called that is not `inline(always)`, options known at compile time.
#![forbid(unsafe_code)]

use crate::dtype::{self, Bf16, Narrow, Widen};
use crate::math::{Element, Preparation, Real, StepScalars, adamw, prepared};

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

//! Small parameters of f32, one after the other in one loop of the instruction set.
#![forbid(unsafe_code)]

use crate::math::StepScalars;
use crate::steps::Steps;
use crate::tensor::{PlainChunk, PlainRun};

/// Steps parameters by `step` until one is of another kind, or there is more to do for it.
#[inline(always)]
pub fn update(
    steps: &Steps,
    run: &mut PlainRun,
    step: impl Fn(&StepScalars<f32>, &mut [f32], &[f32], &mut [f32], &mut [f32]),
) {
    let (plain, share) = (|param| steps.plain(param), |param, other| steps.share(param, other));
    while let Some((scalars, chunk)) = run.next_with(plain, share) {
        let PlainChunk { param, grad, exp_avg, exp_avg_sq, .. } = chunk;
        step(scalars, param, grad, exp_avg, exp_avg_sq);
    }
}

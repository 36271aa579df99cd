//! Small parameters of f32, one after the other in one loop of the instruction set.
#![forbid(unsafe_code)]

use super::loops;
use crate::steps::Steps;
use crate::tensor::{PlainChunk, PlainRun};

/// Steps parameters until one is of another kind, or there is more to do for it than the loop.
#[inline(always)]
pub fn update(steps: &Steps, run: &mut PlainRun) {
    while let Some((scalars, chunk)) = run.next_with(|param| steps.plain(param)) {
        let PlainChunk { param, grad, exp_avg, exp_avg_sq, .. } = chunk;
        loops::update(scalars, param, grad, exp_avg, exp_avg_sq);
    }
}

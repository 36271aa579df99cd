//! What one block of a gradient adds up to.
#![forbid(unsafe_code)]

use super::blocks::BLOCK;
use super::isa::Isa;
use crate::norm::{LANES, join_lanes};
use crate::tensor::Slice;

/// The sum of squares, and how many elements are not finite.
pub fn tally(isa: &Isa, grad: Slice) -> (f64, u64) {
    let mut lanes = [0.0; LANES];
    let n_nonfinite = match grad {
        Slice::F32(grad) => isa.add_squares_f32(&mut lanes, grad),
        Slice::F64(grad) => isa.add_squares_f64(&mut lanes, grad),
        Slice::F16(grad) => widened(grad, &mut lanes, isa, Isa::widen_f16),
        Slice::Bf16(grad) => widened(grad, &mut lanes, isa, Isa::widen_bf16),
    };
    (join_lanes(lanes), n_nonfinite)
}

/// Blocks that are widened are whole rows of lanes, so that each starts at lane 0.
const _: () = assert!(BLOCK.is_multiple_of(LANES));

fn widened<S>(
    grad: &[S],
    lanes: &mut [f64; LANES],
    isa: &Isa,
    widen: fn(&Isa, &[S], &mut [f32]),
) -> u64 {
    let mut space = [0.0; BLOCK];
    let count = |stored: &[S]| {
        let wide = &mut space[..stored.len()];
        widen(isa, stored, wide);
        isa.add_squares_f32(lanes, wide)
    };
    grad.chunks(BLOCK).map(count).sum()
}

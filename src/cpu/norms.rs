//! The tally of one block of a gradient, or the squares that it adds up.
#![forbid(unsafe_code)]

use super::block::{BLOCK, BlockBuffer};
use super::compute::Compute;
use super::isa::Isa;
use super::rows::Gradient;
use super::stored::Stored;
use crate::dtype::Dtype;
use crate::norm::{LANES, join_lanes};
use crate::tensor::{GradBlock, Slice};

/// Returns the sum of squares of a block, and the number of elements that are not finite.
pub fn tally(isa: &Isa, block: &GradBlock) -> (f64, u64) {
    let (n, rows) = (block.n_elements, block.rows);
    match (&block.grad, block.compute) {
        (Slice::F32(grad), Dtype::F64) => sum::<f64, _>(isa, Gradient::new(grad, rows), n),
        (Slice::F32(grad), _) => sum::<f32, _>(isa, Gradient::new(grad, rows), n),
        (Slice::F64(grad), _) => sum::<f64, _>(isa, Gradient::new(grad, rows), n),
        (Slice::F16(grad), _) => sum::<f32, _>(isa, Gradient::new(grad, rows), n),
        (Slice::Bf16(grad), _) => sum::<f32, _>(isa, Gradient::new(grad, rows), n),
    }
}

/// Blocks, and halves of them, are whole rows of lanes, so that each starts at lane 0.
const _: () = assert!((BLOCK / 2).is_multiple_of(LANES));

fn sum<T: Compute, G: Stored<T>>(isa: &Isa, grad: Gradient<G>, n: usize) -> (f64, u64) {
    let mut lanes = [0.0; LANES];
    if let Some(values) = grad.in_place() {
        let n_nonfinite = T::add_squares(isa, &mut lanes, values);
        return (join_lanes(&mut lanes), n_nonfinite);
    }
    let mut n_nonfinite = 0;
    let (mut buffer, mut row_buffer) = (BlockBuffer::default(), BlockBuffer::default());
    // A sparse gradient is gathered in short runs, so that those without a row are passed over.
    let run = if grad.rows.is_some() { LANES } else { BLOCK };
    let mut start = 0;
    while start < n {
        let at = start..n.min(start + run);
        start = at.end;
        if grad.rows.is_none_or(|rows| rows.entries(at.clone()).next().is_some()) {
            let (mut buffer, mut row_buffer) = (buffer.whole(), row_buffer.whole());
            let values = grad.widened(isa, at, &mut buffer, &mut row_buffer);
            n_nonfinite += T::add_squares(isa, &mut lanes, values);
        }
    }
    (join_lanes(&mut lanes), n_nonfinite)
}

/// Writes the square of each element of a block, as `tally` would add it.
pub fn squares(isa: &Isa, block: &GradBlock, to: &mut [f64]) {
    let rows = block.rows;
    match (&block.grad, block.compute) {
        (Slice::F32(grad), Dtype::F64) => write::<f64, _>(isa, Gradient::new(grad, rows), to),
        (Slice::F32(grad), _) => write::<f32, _>(isa, Gradient::new(grad, rows), to),
        (Slice::F64(grad), _) => write::<f64, _>(isa, Gradient::new(grad, rows), to),
        (Slice::F16(grad), _) => write::<f32, _>(isa, Gradient::new(grad, rows), to),
        (Slice::Bf16(grad), _) => write::<f32, _>(isa, Gradient::new(grad, rows), to),
    }
}

fn write<T: Compute + Into<f64>, G: Stored<T>>(isa: &Isa, grad: Gradient<G>, to: &mut [f64]) {
    let (mut buffer, mut row_buffer) = (BlockBuffer::default(), BlockBuffer::default());
    let mut start = 0;
    for to in to.chunks_mut(BLOCK) {
        let at = start..start + to.len();
        start = at.end;
        let (mut buffer, mut row_buffer) = (buffer.whole(), row_buffer.whole());
        let values = grad.widened(isa, at, &mut buffer, &mut row_buffer);
        for (to, &value) in to.iter_mut().zip(values) {
            let value: f64 = value.into();
            *to = value * value;
        }
    }
}

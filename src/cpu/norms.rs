//! What one block of a gradient adds up to.
#![forbid(unsafe_code)]

use super::blocks::BLOCK;
use super::isa::{Compute, Isa};
use super::rows::{GradSpace, Gradient, Stored};
use crate::dtype::Dtype;
use crate::norm::{LANES, join_lanes};
use crate::tensor::{GradBlock, Slice, Squares};

/// The sum of squares, and how many elements are not finite.
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

/// The squares of what changes, and of what it becomes, added up over one block or row.
pub struct Sums {
    update: [f64; LANES],
    param: [f64; LANES],
}

impl Sums {
    pub fn new() -> Sums {
        Sums { update: [0.0; LANES], param: [0.0; LANES] }
    }

    /// Adds elements that start at lane 0.
    pub fn add<T: Compute>(&mut self, isa: &Isa, before: &[T], after: &[T]) {
        let mut update = [0.0; BLOCK];
        let update = &mut update[..after.len()];
        for ((update, before), after) in update.iter_mut().zip(before).zip(after) {
            *update = after.to_f64() - before.to_f64();
        }
        f64::add_squares(isa, &mut self.update, update);
        T::add_squares(isa, &mut self.param, after);
    }

    pub fn squares(&self) -> Squares {
        Squares { update: join_lanes(self.update), param: join_lanes(self.param) }
    }
}

/// Blocks that are widened are whole rows of lanes, so that each starts at lane 0.
const _: () = assert!(BLOCK.is_multiple_of(LANES));

fn sum<T: Compute, G: Stored<T>>(isa: &Isa, grad: Gradient<G>, n: usize) -> (f64, u64) {
    let mut lanes = [0.0; LANES];
    if let Some(values) = grad.in_place() {
        let n_nonfinite = T::add_squares(isa, &mut lanes, values);
        return (join_lanes(lanes), n_nonfinite);
    }
    let mut n_nonfinite = 0;
    let mut space = GradSpace::default();
    // A sparse gradient is gathered in short runs, so that those without a row are passed over.
    let run = if grad.rows.is_some() { LANES } else { BLOCK };
    let mut start = 0;
    while start < n {
        let at = start..n.min(start + run);
        start = at.end;
        if grad.rows.is_none_or(|rows| rows.entries(at.clone()).next().is_some()) {
            let values = grad.widened(isa, at, &mut space);
            n_nonfinite += T::add_squares(isa, &mut lanes, values);
        }
    }
    (join_lanes(lanes), n_nonfinite)
}

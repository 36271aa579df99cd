//! Gradients of micro-batches added up, in the compute type.
#![forbid(unsafe_code)]

use super::block::{BLOCK, BlockBuffer};
use super::compute::Compute;
use super::isa::Isa;
use super::stored::Stored;
use crate::tensor::{Slice, SliceMut};

/// Adds a gradient to a sum; the first gradient is copied.
pub fn add(isa: &Isa, sum: SliceMut, grad: Slice, is_first: bool) {
    match (sum, grad) {
        (SliceMut::F32(sum), Slice::F32(grad)) => add_blocks(isa, sum, grad, is_first),
        (SliceMut::F32(sum), Slice::F16(grad)) => add_blocks(isa, sum, grad, is_first),
        (SliceMut::F32(sum), Slice::Bf16(grad)) => add_blocks(isa, sum, grad, is_first),
        (SliceMut::F64(sum), Slice::F64(grad)) => add_blocks(isa, sum, grad, is_first),
        (SliceMut::F64(sum), Slice::F32(grad)) => add_blocks(isa, sum, grad, is_first),
        _ => unreachable!("Operands::fits_grad admits no other pair"),
    }
}

fn add_blocks<T: Compute, G: Stored<T>>(isa: &Isa, sum: &mut [T], grad: &[G], is_first: bool) {
    let mut buffer = BlockBuffer::default();
    for (sum, grad) in sum.chunks_mut(BLOCK).zip(grad.chunks(BLOCK)) {
        let mut buffer = buffer.whole();
        let grad = G::widened(isa, grad, &mut buffer);
        if is_first {
            sum.copy_from_slice(grad);
        } else {
            sum.iter_mut().zip(grad).for_each(|(sum, grad)| *sum = *sum + *grad);
        }
    }
}

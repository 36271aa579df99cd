//! A step's elements, cut into disjoint chunks.

use super::line::{Line, Plan};
use super::{Buffer, Operands, Slice, SliceMut};
use crate::dtype::Dtype;
use core::ops::Range;

/// Elements of a task: a 256th of the work, so that the threads end together, between what hides
/// the claim and what lets the processor's prefetchers run ahead.
fn task_elements(n_elements: u64) -> u64 {
    const SHORTEST: u64 = 16_384;
    const LONGEST: u64 = 262_144;
    (n_elements / 256).next_multiple_of(SHORTEST).clamp(SHORTEST, LONGEST)
}

/// The work of one step: the elements of the parameters that have a gradient.
pub struct Chunks<'a> {
    operands: &'a [Operands],
    line: Line<'a>,
}

impl<'a> Chunks<'a> {
    /// Takes the parameters' memory for as long as chunks of it are about.
    pub fn new(operands: &'a mut [Operands], plan: &'a mut Plan) -> Self {
        let lengths = operands
            .iter()
            .map(|operands| if operands.is_stepped() { operands.param.n_elements } else { 0 });
        let line = plan.lay(lengths, 1, task_elements);
        Chunks { operands, line }
    }

    /// For sharing the tasks out.
    pub fn line(&self) -> &Line<'a> {
        &self.line
    }

    /// The chunks of a task that nobody has claimed yet.
    pub fn claim(&self) -> Option<impl Iterator<Item = Chunk<'a>>> {
        let pieces = self.line.claim()?;
        Some(pieces.filter_map(|piece| {
            let range = piece.range.start as usize..piece.range.end as usize;
            // SAFETY: the line was laid over these very operands, so that the range lies inside;
            // no two pieces meet; `new` borrowed the operands mutably for `'a`.
            unsafe { Chunk::new(piece.param, &self.operands[piece.param], range) }
        }))
    }
}

/// The same elements of all the tensors of one parameter.
pub struct Chunk<'a> {
    /// Which parameter.
    pub index: usize,
    pub param: SliceMut<'a>,
    pub grad: Slice<'a>,
    pub state: State<'a>,
}

/// The state, in the parameter's compute type.
pub enum State<'a> {
    F32(Moments<'a, f32>),
    F64(Moments<'a, f64>),
}

pub struct Moments<'a, T> {
    pub exp_avg: &'a mut [T],
    pub exp_avg_sq: &'a mut [T],
    pub max_exp_avg_sq: Option<&'a mut [T]>,
    pub master: Option<&'a mut [T]>,
}

impl<'a> Chunk<'a> {
    /// # Safety
    /// `range` lies inside the tensors, and nothing else touches its elements during `'a`.
    unsafe fn new(index: usize, operands: &Operands, range: Range<usize>) -> Option<Self> {
        // SAFETY: the caller's word; `Operands::fits` saw the types.
        unsafe {
            Some(Chunk {
                index,
                param: operands.param.elements_mut(range.clone()),
                grad: operands.grad?.elements(range.clone()),
                state: match operands.param.dtype.compute() {
                    Dtype::F64 => State::F64(Moments::new(operands, range)?),
                    _ => State::F32(Moments::new(operands, range)?),
                },
            })
        }
    }
}

impl<'a, T> Moments<'a, T> {
    /// # Safety
    /// As `Chunk::new`, and `T` is the compute type of these operands.
    unsafe fn new(operands: &Operands, range: Range<usize>) -> Option<Self> {
        // SAFETY: the caller's word.
        let cut = |buffer: &Buffer| unsafe { buffer.tensor.slice_mut(range.clone()) };
        Some(Moments {
            exp_avg: cut(operands.exp_avg.as_ref()?),
            exp_avg_sq: cut(operands.exp_avg_sq.as_ref()?),
            max_exp_avg_sq: operands.max_exp_avg_sq.as_ref().map(cut),
            master: operands.master.as_ref().map(cut),
        })
    }
}

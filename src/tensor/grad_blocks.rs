//! The gradients of a step, cut into the blocks of their norms.
//!
//! `GradBlocks::new` lays the blocks of all gradients that are due on a line (`line.rs`): all
//! blocks of a dense gradient, and of a sparse one those that a listed row reaches into. Each
//! thread calls `claim` until it returns false; each `GradBlock` has the values and the place of
//! its `Tally`, which `cpu/norms.rs` fills. When all threads are done, `Tallies::total` joins the
//! tallies of a parameter's blocks in the fixed order of `norm.rs`.
//!
//! A gradient that was measured when it arrived is not laid out: its total is kept with it.

use super::line::{InPieces, Line, Plan, Reach};
use super::{Grad, Operands, RowPart, Slice};
use crate::dtype::Dtype;
use crate::error::Error;
use crate::norm;
use crate::sys::memory::{give_back, reserve};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

/// The tallies of all gradients, block by block, kept between steps for their memory alone.
#[derive(Default)]
pub struct Tallies {
    plan: Plan,
    blocks: Vec<Tally>,
    /// The number of blocks of all parameters together.
    n_blocks: u64,
}

/// The sums over one block.
#[derive(Default)]
pub struct Tally {
    /// The bits of an f64.
    sum_squares: AtomicU64,
    n_nonfinite: AtomicU64,
}

impl Tally {
    pub fn set(&self, sum_squares: f64, n_nonfinite: u64) {
        self.sum_squares.store(sum_squares.to_bits(), Ordering::Relaxed);
        self.n_nonfinite.store(n_nonfinite, Ordering::Relaxed);
    }
}

/// The sums over the gradient of one parameter. A device has them in this layout, too.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Total {
    pub sum_squares: f64,
    pub n_nonfinite: u64,
}

impl Total {
    /// Returns sums that come from outside of a step. A count that is NaN or below 0 is one element
    /// that is not finite, and so are squares that are, where the count is 0.
    pub fn from_outside(sum_squares: f64, n_nonfinite: f64) -> Total {
        const MOST: f64 = (1u64 << f64::MANTISSA_DIGITS) as f64;
        let n_nonfinite = if n_nonfinite >= 0.0 { n_nonfinite.min(MOST) as u64 } else { 1 };
        let is_bad = n_nonfinite == 0 && (sum_squares.is_nan() || sum_squares < 0.0);
        Total { sum_squares, n_nonfinite: if is_bad { 1 } else { n_nonfinite } }
    }
}

/// Returns the most blocks into which a parameter reaches that may begin inside of one.
fn most_blocks(n_elements: u64) -> u64 {
    n_elements.div_ceil(norm::BLOCK as u64) + 1
}

impl Tallies {
    /// Makes room for one more parameter, the last of `n_params`, so that a step allocates nothing.
    pub fn reserve(&mut self, n_params: usize, n_elements: u64) -> Result<(), Error> {
        let needed = self.n_blocks.saturating_add(most_blocks(n_elements));
        let missing = (needed as usize).saturating_sub(self.blocks.len());
        reserve(&mut self.blocks, missing, "the gradients' norms")?;
        self.plan.reserve(n_params)?;
        self.n_blocks = needed;
        Ok(())
    }

    /// Counts a parameter out, so that another may use its room.
    pub fn release(&mut self, n_elements: u64) {
        self.n_blocks -= most_blocks(n_elements);
    }

    /// Gives memory back that `n_params` parameters do not need.
    pub fn give_back(&mut self, n_params: usize) {
        give_back(&mut self.blocks, self.n_blocks as usize);
        self.plan.give_back(n_params);
    }

    /// Returns the sums over the gradient of a parameter that is stepped, as it was last measured;
    /// zeros if it was not measured.
    pub fn total(&self, param: usize, operands: &Operands) -> Total {
        if let (true, Some(rare)) = (operands.is_ready, &operands.rare) {
            return rare.measured;
        }
        let blocks = &self.blocks[self.plan.part(param)];
        let sum = |i: usize| f64::from_bits(blocks[i].sum_squares.load(Ordering::Relaxed));
        Total {
            sum_squares: match operands.is_sparse {
                _ if blocks.is_empty() => 0.0,
                true => norm::join_some_blocks(operands.index().blocks(), &sum),
                false => norm::join_blocks(blocks.len(), &sum),
            },
            n_nonfinite: self.n_nonfinite(param),
        }
    }

    /// Returns how many elements of the gradient of a parameter that is stepped are not finite.
    pub fn n_nonfinite(&self, param: usize) -> u64 {
        let blocks = self.blocks[self.plan.part(param)].iter();
        blocks.map(|block| block.n_nonfinite.load(Ordering::Relaxed)).sum()
    }

    /// Returns the joined sum of some blocks of the gradient of a parameter that is stepped, by
    /// their numbers in the whole that has its first element at `origin`.
    pub fn sum(&self, param: usize, operands: &Operands, origin: u64, of: Range<u64>) -> f64 {
        let tallies = &self.blocks[self.plan.part(param)];
        let sum = |i: usize| f64::from_bits(tallies[i].sum_squares.load(Ordering::Relaxed));
        if operands.is_sparse {
            let listed = operands.index().blocks();
            let [start, end] = [of.start, of.end].map(|at| listed.partition_point(|b| *b < at));
            return norm::join_some_blocks(&listed[start..end], &|i| sum(start + i));
        }
        let first = (of.start - origin / norm::BLOCK as u64) as usize;
        norm::join_blocks((of.end - of.start) as usize, &|i| sum(first + i))
    }
}

/// The blocks of all gradients, to be measured.
pub struct GradBlocks<'a> {
    operands: &'a [Operands],
    /// By place, where the first element lies in the whole whose blocks these are; if there are
    /// none, at its beginning.
    origins: &'a [u64],
    line: Line<'a>,
    tallies: &'a [Tally],
}

/// Blocks of a task.
const TASK: u64 = 8;

/// One block of a gradient, and the place for its tally.
pub struct GradBlock<'a> {
    /// The gradient of the block or, if it is sparse, all its values.
    pub grad: Slice<'a>,
    /// The entries from which the gradient of the block is gathered, if it is sparse.
    pub rows: Option<RowPart<'a>>,
    pub n_elements: usize,
    /// The compute type of the parameter.
    pub compute: Dtype,
    pub tally: &'a Tally,
}

impl<'a> GradBlocks<'a> {
    pub fn new(operands: &'a [Operands], origins: &'a [u64], tallies: &'a mut Tallies) -> Self {
        let lengths = operands.iter().enumerate().map(|(i, operands)| match operands.is_sparse {
            _ if !operands.is_due_on_host() || operands.is_ready => 0,
            true => operands.index().blocks().len() as u64,
            false => {
                let of = blocks(origin(origins, i), operands.param.n_elements);
                of.end - of.start
            }
        });
        let line = tallies.plan.lay_out(lengths, norm::BLOCK as u64, |_| TASK);
        tallies.blocks.resize_with(line.length() as usize, Tally::default);
        GradBlocks { operands, origins, line, tallies: &tallies.blocks }
    }

    /// Returns the line, for sharing its tasks out.
    pub fn line(&self) -> &Line<'a> {
        &self.line
    }

    /// Claims a task and calls `each` with its blocks; returns false if no task is left.
    pub fn claim(&self, mut each: impl FnMut(GradBlock<'a>)) -> bool {
        self.line.claim(|piece| {
            let operands = &self.operands[piece.param];
            let origin = origin(self.origins, piece.param);
            for (i, at) in piece.range.zip(piece.position..) {
                let number = match operands.is_sparse {
                    true => operands.index().blocks()[i as usize],
                    false => origin / norm::BLOCK as u64 + i,
                };
                if let Some(block) = block(operands, origin, number, &self.tallies[at as usize]) {
                    each(block);
                }
            }
        })
    }

    /// Returns the block of a parameter that has a number in its whole, if there is a gradient.
    pub fn at(&self, param: usize, number: u64) -> Option<GradBlock<'a>> {
        static NOWHERE: Tally =
            Tally { sum_squares: AtomicU64::new(0), n_nonfinite: AtomicU64::new(0) };
        block(&self.operands[param], origin(self.origins, param), number, &NOWHERE)
    }
}

impl InPieces for GradBlocks<'_> {
    fn close(&mut self, n_elements: u64) {
        self.line.close(n_elements);
    }

    fn open_next(&mut self, n_elements: u64) -> Option<Reach> {
        self.line.open_next(n_elements).then(|| {
            let (param, n_blocks) = self.line.end();
            let at_most = match self.operands.get(param) {
                Some(operands) if operands.is_sparse && n_blocks > 0 => operands.param.n_elements,
                Some(operands) => {
                    let skipped = origin(self.origins, param) % norm::BLOCK as u64;
                    let reached = (n_blocks * norm::BLOCK as u64).saturating_sub(skipped);
                    reached.min(operands.param.n_elements)
                }
                None => 0,
            };
            Reach { param, at_least: 0, at_most }
        })
    }
}

fn origin(origins: &[u64], param: usize) -> u64 {
    origins.get(param).copied().unwrap_or(0)
}

/// Returns the blocks of a whole into which some elements from `origin` on reach.
fn blocks(origin: u64, n_elements: u64) -> Range<u64> {
    let first = origin / norm::BLOCK as u64;
    match n_elements {
        0 => first..first,
        n => first..(origin + n).div_ceil(norm::BLOCK as u64),
    }
}

/// Returns the block of a gradient that has a number in the whole that has the parameter's first
/// element at `origin`.
fn block<'a>(
    operands: &'a Operands,
    origin: u64,
    number: u64,
    tally: &'a Tally,
) -> Option<GradBlock<'a>> {
    let index = operands.index();
    let grad = operands.grad()?;
    let first = number * norm::BLOCK as u64;
    let start = first.saturating_sub(origin) as usize;
    let end = (first + norm::BLOCK as u64 - origin).min(operands.param.n_elements) as usize;
    let (range, rows) = match grad {
        Grad::Dense(_) => (start..end, None),
        Grad::Sparse(_) => {
            let rows = RowPart::new(index.entries(), index.row_elements(), start);
            (0..grad.values().n_elements as usize, Some(rows))
        }
    };
    // SAFETY: the range lies inside the values, which nobody writes while the operands are
    // borrowed.
    let values = unsafe { grad.values().elements(range) };
    let compute = operands.param.dtype.compute();
    Some(GradBlock { grad: values, rows, n_elements: end - start, compute, tally })
}

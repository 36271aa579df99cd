//! The gradients of a step, cut into the blocks of their norms.

use super::line::{Line, Plan};
use super::{Operands, Slice};
use crate::error::Error;
use crate::norm;
use crate::sys::memory::reserve;
use core::sync::atomic::{AtomicU64, Ordering};

/// What the gradients add up to, block by block; kept between steps for its memory alone.
#[derive(Default)]
pub struct Tallies {
    plan: Plan,
    blocks: Vec<Tally>,
}

/// What one block adds up to.
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

/// What the gradient of one parameter adds up to.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Total {
    pub sum_squares: f64,
    pub n_nonfinite: u64,
}

fn n_blocks(n_elements: u64) -> u64 {
    n_elements.div_ceil(norm::BLOCK as u64)
}

impl Tallies {
    /// Makes room for one more parameter, so that a step need not.
    pub fn reserve(&mut self, operands: &[Operands], n_elements: u64) -> Result<(), Error> {
        let blocks = operands.iter().map(|o| n_blocks(o.param.n_elements)).sum::<u64>();
        let needed = blocks.saturating_add(n_blocks(n_elements)) as usize;
        let missing = needed.saturating_sub(self.blocks.len());
        reserve(&mut self.blocks, missing, "the gradients' norms")?;
        self.plan.reserve(operands.len() + 1)
    }

    /// What the gradient of a parameter added up to when it was last measured.
    pub fn total(&self, param: usize) -> Total {
        let blocks = &self.blocks[self.plan.part(param)];
        let sum = |i: usize| f64::from_bits(blocks[i].sum_squares.load(Ordering::Relaxed));
        Total {
            sum_squares: norm::join_blocks(blocks.len(), &sum),
            n_nonfinite: blocks.iter().map(|b| b.n_nonfinite.load(Ordering::Relaxed)).sum(),
        }
    }
}

/// The blocks of all gradients, to be measured.
pub struct GradBlocks<'a> {
    operands: &'a [Operands],
    line: Line<'a>,
    tallies: &'a [Tally],
}

/// Blocks of a task.
const TASK: u64 = 8;

impl<'a> GradBlocks<'a> {
    pub fn new(operands: &'a [Operands], tallies: &'a mut Tallies) -> Self {
        let lengths = operands.iter().map(|operands| {
            if operands.is_stepped() { n_blocks(operands.param.n_elements) } else { 0 }
        });
        let line = tallies.plan.lay(lengths, norm::BLOCK as u64, |_| TASK);
        tallies.blocks.resize_with(line.length() as usize, Tally::default);
        GradBlocks { operands, line, tallies: &tallies.blocks }
    }

    /// For sharing the tasks out.
    pub fn line(&self) -> &Line<'a> {
        &self.line
    }

    /// The blocks of a task that nobody has claimed yet, each with the place for its tally.
    pub fn claim(&self) -> Option<impl Iterator<Item = (Slice<'a>, &'a Tally)>> {
        let pieces = self.line.claim()?;
        Some(pieces.flat_map(|piece| {
            let (grad, tallies) = (self.operands[piece.param].grad, self.tallies);
            let position = piece.position - piece.range.start;
            piece.range.filter_map(move |block| {
                let grad = grad?;
                let start = block as usize * norm::BLOCK;
                let end = (start + norm::BLOCK).min(grad.n_elements as usize);
                // SAFETY: the block lies inside the gradient, which nobody writes while the
                // operands are borrowed.
                let values = unsafe { grad.elements(start..end) };
                Some((values, &tallies[(position + block) as usize]))
            })
        }))
    }
}

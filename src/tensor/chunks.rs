//! A step's elements, cut into disjoint chunks.

use super::changes::{self, Change, Changes};
use super::chunk::{Chunk, Part, PlainChunk};
use super::line::{Line, Piece, Plan};
use super::{Operands, Visitor};
use crate::error::Error;
use crate::norm;
use crate::sys::memory::{give_back, reserve};
use core::ops::Range;

/// Elements of a task: a 256th of the work, so that the threads end together, between what hides
/// the claim and what lets the processor's prefetchers run ahead.
fn task_elements(n_elements: u64) -> u64 {
    const SHORTEST: u64 = 16_384;
    const LONGEST: u64 = 262_144;
    (n_elements / 256).next_multiple_of(SHORTEST).clamp(SHORTEST, LONGEST)
}

/// Which elements of a parameter are visited.
#[derive(Clone, PartialEq, Debug)]
pub enum Extent {
    Nothing,
    All,
    /// The rows that were last read.
    Listed,
    /// These rows, as the lag counts them.
    Rows(Range<u64>),
}

impl Extent {
    fn n_elements(&self, operands: &Operands) -> u64 {
        match self {
            Extent::Nothing => 0,
            Extent::All => operands.param.n_elements,
            Extent::Listed => operands.index().len() as u64 * operands.index().row_elements(),
            Extent::Rows(rows) => {
                let row_elements = operands.lag().map_or(0, |lag| lag.row_elements());
                (rows.end - rows.start) * row_elements
            }
        }
    }
}

/// What one pass over parameters visits; kept between passes for its memory alone.
#[derive(Default)]
pub struct Pass {
    plan: Plan,
    extents: Vec<Extent>,
}

impl Pass {
    /// Makes room for so many parameters, so that a step need not.
    pub fn reserve(&mut self, n_params: usize) -> Result<(), Error> {
        self.extents.clear();
        reserve(&mut self.extents, n_params, "the step's plan")?;
        self.plan.reserve(n_params)
    }

    /// Gives back what is not needed for so many parameters.
    pub fn give_back(&mut self, n_params: usize) {
        give_back(&mut self.extents, n_params);
        self.plan.give_back(n_params);
    }

    /// Takes the parameters' memory for as long as chunks of it are about. `extent` says what is
    /// visited of each parameter, by its number.
    pub fn over<'a>(
        &'a mut self,
        operands: &'a mut [Operands],
        extent: impl Fn(usize, &Operands) -> Extent,
    ) -> Chunks<'a> {
        let lengths = Self::visit(&mut self.extents, operands, extent);
        let lengths = lengths.map(|(extent, operands)| extent.n_elements(operands));
        let line = self.plan.lay(lengths, 1, task_elements);
        Chunks { operands, extents: &self.extents, line, changes: None, clears: false }
    }

    /// The same as the last pass, over the same parameters, which was not a measured one.
    pub fn again_over<'a>(&'a mut self, operands: &'a mut [Operands]) -> Chunks<'a> {
        let line = self.plan.line(1, task_elements);
        Chunks { operands, extents: &self.extents, line, changes: None, clears: false }
    }

    /// The same, in chunks whose changes are added up.
    pub fn measured_over<'a>(
        &'a mut self,
        operands: &'a mut [Operands],
        extent: impl Fn(usize, &Operands) -> Extent,
        changes: &'a mut Changes,
    ) -> Chunks<'a> {
        let lengths = Self::visit(&mut self.extents, operands, extent);
        let lengths = lengths.map(|(extent, operands)| changes::n_units(extent, operands));
        let unit = norm::BLOCK as u64;
        let line = self.plan.lay(lengths, unit, |n_units| task_elements(n_units * unit) / unit);
        let changes = Some(changes.lay(line.length()));
        Chunks { operands, extents: &self.extents, line, changes, clears: false }
    }

    /// Each parameter with what is visited of it.
    fn visit<'a>(
        extents: &'a mut Vec<Extent>,
        operands: &'a [Operands],
        extent: impl Fn(usize, &Operands) -> Extent,
    ) -> impl Iterator<Item = (&'a Extent, &'a Operands)> {
        extents.clear();
        extents.extend(operands.iter().enumerate().map(|(i, operands)| extent(i, operands)));
        extents.iter().zip(operands)
    }

    /// Which of the changes of the last measured pass are a parameter's.
    pub fn units(&self, param: usize) -> Range<usize> {
        self.plan.part(param)
    }
}

/// The work of one pass.
pub struct Chunks<'a> {
    operands: &'a [Operands],
    extents: &'a [Extent],
    line: Line<'a>,
    /// Where the changes of each unit of the line are put; none: it is a line of elements.
    changes: Option<&'a [Change]>,
    /// Dense gradients become zeros when they have been used.
    clears: bool,
}

/// How many elements are stepped before their gradients are cleared, which must be in cache still.
const CLEARED_AT_ONCE: usize = 8192;

impl<'a> Chunks<'a> {
    /// Writes zeros over the dense gradients of the host's when they have been used.
    pub fn clear_grads(&mut self) {
        self.clears = true;
    }

    /// For sharing the tasks out.
    pub fn line(&self) -> &Line<'a> {
        &self.line
    }

    /// Claims a task and has its chunks visited; false: there is none left.
    pub fn claim(&self, visitor: &mut impl Visitor) -> bool {
        self.line.claim(|piece| {
            let (operands, extent) = (&self.operands[piece.param], &self.extents[piece.param]);
            if piece.range.end - piece.range.start < SMALL
                && let Some(next) = self.operands.get(piece.param + PARAMS_AHEAD)
            {
                next.prefetch_start();
            }
            match self.changes {
                None => self.visit(visitor, piece),
                Some(changes) => {
                    for (i, unit) in piece.range.enumerate() {
                        let elements = changes::unit(extent, operands, unit);
                        let change = Some(&changes[piece.position as usize + i]);
                        let visited = self.visit_first(visitor, piece.param, elements, change);
                        self.clear(operands, visited);
                    }
                }
            }
        })
    }

    /// Has elements visited whose changes are not added up.
    #[inline]
    fn visit(&self, visitor: &mut impl Visitor, piece: Piece) {
        let operands = &self.operands[piece.param];
        let is_plain = operands.is_plain && matches!(self.extents[piece.param], Extent::All);
        let most = if self.clears { CLEARED_AT_ONCE } else { usize::MAX };
        let mut left = piece.range.start as usize..piece.range.end as usize;
        while !left.is_empty() {
            let part = left.start..left.end.min(left.start.saturating_add(most));
            let visited = match is_plain {
                true => {
                    // SAFETY: as in `visit_first`.
                    visitor.plain(unsafe { PlainChunk::new(piece.param, operands, part.clone()) });
                    part
                }
                false => self.visit_first(visitor, piece.param, part, None),
            };
            left.start += visited.len();
            self.clear(operands, visited);
        }
    }

    /// Has the first part of a range of an extent visited; returns its elements.
    fn visit_first(
        &self,
        visitor: &mut impl Visitor,
        param: usize,
        range: Range<usize>,
        change: Option<&'a Change>,
    ) -> Range<usize> {
        let operands = &self.operands[param];
        let part = Part::first(operands, &self.extents[param], range);
        let elements = part.elements.clone();
        // SAFETY: the line was laid over these very operands and extents, so that the range lies
        // inside; no two pieces of it meet; `over` borrowed the operands mutably for `'a`.
        if let Some(chunk) = unsafe { Chunk::new(param, operands, part, change) } {
            visitor.any(chunk);
        }
        elements
    }

    /// Writes zeros over the gradient of elements that have been visited, if it is to be cleared.
    #[inline]
    fn clear(&self, operands: &Operands, elements: Range<usize>) {
        if self.clears
            && operands.n_accumulated == 0
            && !operands.is_sparse
            && let Some(grad) = operands.grad
        {
            // SAFETY: as in `visit_first`, and the chunk with its slice of the gradient is gone; no
            // gradient shares memory with another, the optimizer has seen to that.
            unsafe { grad.part(elements).zero() };
        }
    }
}

/// Parameters of fewer elements end before the processor has foreseen how they go on, so memory is
/// asked for so many parameters ahead.
const SMALL: u64 = 512;
const PARAMS_AHEAD: usize = 8;

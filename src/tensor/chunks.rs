//! A step's elements, cut into disjoint chunks.
//!
//! `Pass::over` borrows the operands of all parameters, asks an `Extent` of each, lays their
//! lengths on a line (`line.rs`) and returns `Chunks`. Threads then call `Chunks::claim` until it
//! returns false. Each call claims one task of the line, whose pieces are ranges of parameters:
//!
//! ```text
//! visit_run    goes through small parameters of f32 that a task has as a whole (`run.rs`)
//! visit        goes through a piece of any other, in parts that are still in cache when gradients
//!              are cleared
//!   PlainChunk::new -> visitor.plain    where all is f32
//!   visit_first: Part::first, Chunk::new -> visitor.any    where it is not
//! clear        writes zeros over the gradient of what was visited, if that is asked for
//! ```
//!
//! `measured_over` lays out whole blocks or rows in place of elements, and each has its `Change`.

use super::changes::{self, Change, Changes};
use super::chunk::{Chunk, Part, PlainChunk};
use super::line::{InPieces, Line, Piece, Plan, Reach, Task};
use super::run::{self, SMALL};
use super::{Operands, PlainRun, Visitor};
use crate::error::Error;
use crate::norm;
use crate::sys::memory::{give_back, reserve};
use core::ops::Range;

/// Returns the elements of a task: a 256th of the work, so that the threads end together, within
/// bounds. The lower bound hides the cost of a claim; beyond the upper one prefetchers gain nothing
/// more.
fn task_elements(n_elements: u64) -> u64 {
    const SHORTEST: u64 = 16_384;
    const LONGEST: u64 = 262_144;
    (n_elements / 256).next_multiple_of(SHORTEST).clamp(SHORTEST, LONGEST)
}

/// The elements of a parameter that are visited.
#[derive(Clone, PartialEq, Debug)]
pub enum Extent {
    Nothing,
    All,
    /// These elements of a parameter that is stepped as a whole.
    Part(Range<u64>),
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
            Extent::Part(elements) => elements.end - elements.start,
            Extent::Listed => operands.index().len() as u64 * operands.index().row_elements(),
            Extent::Rows(rows) => {
                let row_elements = operands.lag().map_or(0, |lag| lag.row_elements());
                (rows.end - rows.start) * row_elements
            }
        }
    }
}

/// One pass over parameters, kept between passes for its memory alone.
#[derive(Default)]
pub struct Pass {
    plan: Plan,
    extents: Vec<Extent>,
    /// Whether each is a small parameter that lies behind another (`run::is_behind`).
    joined: Vec<bool>,
    /// What tells whether gradients have moved since that was found; `None`: it has to be found.
    grad_moves: Option<u64>,
}

impl Pass {
    /// Makes room for `n_params` parameters, so that a step allocates nothing.
    pub fn reserve(&mut self, n_params: usize) -> Result<(), Error> {
        self.extents.clear();
        reserve(&mut self.extents, n_params, "the step's plan")?;
        self.joined.clear();
        reserve(&mut self.joined, n_params, "the step's plan")?;
        self.plan.reserve(n_params)
    }

    /// Gives memory back that `n_params` parameters do not need.
    pub fn give_back(&mut self, n_params: usize) {
        give_back(&mut self.extents, n_params);
        give_back(&mut self.joined, n_params);
        self.plan.give_back(n_params);
    }

    /// Borrows the parameters' memory for as long as there are chunks of it. `extent` returns the
    /// elements that are visited of each parameter, by its number.
    pub fn over<'a>(
        &'a mut self,
        operands: &'a mut [Operands],
        grad_moves: u64,
        extent: impl Fn(usize, &Operands) -> Extent,
    ) -> Chunks<'a> {
        let lengths = Self::visit(&mut self.extents, operands, extent);
        let lengths = lengths.map(|(extent, operands)| extent.n_elements(operands));
        self.plan.lay_out(lengths, 1, task_elements);
        self.grad_moves = None;
        self.again_over(operands, grad_moves)
    }

    /// Repeats the last pass, which was not a measured one, over the same parameters. Gradients may
    /// have moved since if `grad_moves` is not what it was.
    pub fn again_over<'a>(
        &'a mut self,
        operands: &'a mut [Operands],
        grad_moves: u64,
    ) -> Chunks<'a> {
        if self.grad_moves != Some(grad_moves) {
            Self::join(&mut self.joined, operands, &self.extents);
            self.grad_moves = Some(grad_moves);
        }
        let line = self.plan.line(1, task_elements);
        let (extents, joined) = (&self.extents[..], &self.joined[..]);
        Chunks { operands, extents, joined, line, changes: None, clears: false }
    }

    /// As `over`, in chunks whose changes are added up.
    pub fn measured_over<'a>(
        &'a mut self,
        operands: &'a mut [Operands],
        extent: impl Fn(usize, &Operands) -> Extent,
        changes: &'a mut Changes,
    ) -> Chunks<'a> {
        let lengths = Self::visit(&mut self.extents, operands, extent);
        let lengths = lengths.map(|(extent, operands)| changes::n_units(extent, operands));
        let unit = norm::BLOCK as u64;
        let line = self.plan.lay_out(lengths, unit, |n_units| task_elements(n_units * unit) / unit);
        let changes = Some(changes.lay_out(line.length()));
        Chunks { operands, extents: &self.extents, joined: &[], line, changes, clears: false }
    }

    /// Returns each parameter with its extent.
    fn visit<'a>(
        extents: &'a mut Vec<Extent>,
        operands: &'a [Operands],
        extent: impl Fn(usize, &Operands) -> Extent,
    ) -> impl Iterator<Item = (&'a Extent, &'a Operands)> {
        extents.clear();
        extents.extend(operands.iter().enumerate().map(|(i, operands)| extent(i, operands)));
        extents.iter().zip(operands)
    }

    /// Finds the small parameters that are stepped with the one before them.
    fn join(joined: &mut Vec<bool>, operands: &[Operands], extents: &[Extent]) {
        joined.clear();
        let mut before = None;
        joined.extend(operands.iter().zip(extents).map(|(operands, extent)| {
            let small = run::may_have(operands) && *extent == Extent::All;
            let before = core::mem::replace(&mut before, small.then_some(operands));
            small && before.is_some_and(|before| run::is_behind(operands, before))
        }));
    }

    /// Returns the units of the last measured pass that are a parameter's.
    pub fn units(&self, param: usize) -> Range<usize> {
        self.plan.part(param)
    }
}

/// The work of one pass.
pub struct Chunks<'a> {
    operands: &'a [Operands],
    extents: &'a [Extent],
    joined: &'a [bool],
    line: Line<'a>,
    /// The sums of each unit of the line; `None` if the line is one of elements.
    changes: Option<&'a [Change]>,
    /// Whether zeros are written over dense gradients when they have been used.
    clears: bool,
}

/// The number of elements that are stepped before their gradients are cleared, while these are
/// still in cache.
const CLEARED_AT_ONCE: usize = 8192;

impl<'a> Chunks<'a> {
    /// Has zeros written over the host's dense gradients when they have been used.
    pub fn clear_grads(&mut self) {
        self.clears = true;
    }

    /// Returns the line, for sharing its tasks out.
    pub fn line(&self) -> &Line<'a> {
        &self.line
    }

    /// Claims a task and has its chunks visited; returns false if no task is left.
    pub fn claim(&self, visitor: &mut impl Visitor) -> bool {
        let Some(Task { head, whole, tail }) = self.line.claim_task() else { return false };
        if let Some(piece) = head {
            self.visit_piece(visitor, piece);
        }
        let mut left = whole;
        while !left.is_empty() {
            if self.changes.is_none() && run::may_have(&self.operands[left.start]) {
                left.start = self.visit_run(visitor, left.clone());
            }
            if let Some(param) = left.next()
                && let Some(piece) = self.line.whole(param)
            {
                self.visit_piece(visitor, piece);
            }
        }
        if let Some(piece) = tail {
            self.visit_piece(visitor, piece);
        }
        true
    }

    /// Has the first of some parameters visited that are small plain ones, which this task has as a
    /// whole; returns the number of the next.
    fn visit_run(&self, visitor: &mut impl Visitor, params: Range<usize>) -> usize {
        let start = params.start;
        let params = match self.clears {
            true => start..params.end.min(start + CLEARED_AT_ONCE / SMALL as usize),
            false => params,
        };
        // SAFETY: as in `visit_first`.
        let mut run = unsafe { PlainRun::new(self.operands, self.extents, self.joined, params) };
        visitor.run(&mut run);
        if self.clears {
            for operands in &self.operands[start..run.place()] {
                self.clear(operands, 0..operands.param.n_elements as usize);
            }
        }
        run.place()
    }

    #[inline(never)] // so that `claim` goes through runs without its frame
    fn visit_piece(&self, visitor: &mut impl Visitor, piece: Piece) {
        let (operands, extent) = (&self.operands[piece.param], &self.extents[piece.param]);
        if piece.range.end - piece.range.start < SMALL {
            run::prefetch_ahead(self.operands, piece.param);
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
    }

    /// Has the elements of a piece visited whose changes are not added up.
    #[inline]
    fn visit(&self, visitor: &mut impl Visitor, piece: Piece) {
        let operands = &self.operands[piece.param];
        let (is_whole, first) = match &self.extents[piece.param] {
            Extent::All => (true, 0),
            Extent::Part(elements) => (true, elements.start),
            _ => (false, 0),
        };
        let is_plain = operands.is_plain && is_whole;
        let most = if self.clears { CLEARED_AT_ONCE } else { usize::MAX };
        let mut left = (first + piece.range.start) as usize..(first + piece.range.end) as usize;
        while !left.is_empty() {
            let part = left.start..left.end.min(left.start.saturating_add(most));
            let visited = match is_plain {
                true => {
                    // SAFETY: as in `visit_first`; the operands are plain, and `part` is not empty.
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
        // inside; no two of its pieces meet, and `over` borrowed the operands mutably for `'a`.
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
            // SAFETY: as in `visit_first`, and the chunk with its slice of the gradient is gone. No
            // gradient shares memory with another: the optimizer checks that when one is set.
            unsafe { grad.part(elements).zero() };
        }
    }
}

impl InPieces for Chunks<'_> {
    fn close(&mut self, n_elements: u64) {
        self.line.close(n_elements);
    }

    fn open_next(&mut self, n_elements: u64) -> Option<Reach> {
        self.line.open_next(n_elements).then(|| {
            let (param, n_units) = self.line.end();
            let (at_least, at_most) = match self.extents.get(param) {
                Some(Extent::All) if self.changes.is_none() => (n_units, n_units),
                // In units, or in rows that may lie anywhere.
                Some(_) if n_units > 0 => (0, self.operands[param].param.n_elements),
                _ => (0, 0),
            };
            Reach { param, at_least, at_most }
        })
    }
}

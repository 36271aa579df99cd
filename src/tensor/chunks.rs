//! A step's elements, cut into disjoint chunks.

use super::changes::{self, Change, Changes};
use super::line::{Line, Plan};
use super::{Grad, Operands, RowPart, Slice, SliceMut, State};
use crate::error::Error;
use crate::norm;
use crate::philox::Key;
use crate::sys::memory::reserve;
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

    /// Claims a task and calls `each` with its chunks; false: there is none left.
    pub fn claim(&self, mut each: impl FnMut(Chunk<'a>)) -> bool {
        self.line.claim(|piece| {
            let (operands, extent) = (&self.operands[piece.param], &self.extents[piece.param]);
            if piece.range.end - piece.range.start < SMALL
                && let Some(next) = self.operands.get(piece.param + PARAMS_AHEAD)
            {
                next.prefetch_start();
            }
            let clears = self.clears && operands.n_accumulated == 0;
            let mut cut = |elements: Range<usize>, change| {
                let part = Part::first(operands, extent, elements);
                let (elements, n) = (part.elements.clone(), part.elements.len());
                // SAFETY: the line was laid over these very operands and extents, so that the
                // range lies inside; no two parts meet; `over` borrowed the operands mutably for
                // `'a`.
                if let Some(chunk) = unsafe { Chunk::new(piece.param, operands, part, change) } {
                    each(chunk);
                }
                if clears && let (Some(grad), false) = (operands.grad, operands.is_sparse) {
                    // SAFETY: as above, and the chunk with its slice of the gradient is gone; no
                    // gradient shares memory with another, the optimizer has seen to that.
                    unsafe { grad.part(elements).zero() };
                }
                n
            };
            match self.changes {
                None => {
                    let mut left = piece.range.start as usize..piece.range.end as usize;
                    while !left.is_empty() {
                        let most = if clears { CLEARED_AT_ONCE } else { usize::MAX };
                        let end = left.end.min(left.start.saturating_add(most));
                        left.start += cut(left.start..end, None);
                    }
                }
                Some(changes) => {
                    for (i, unit) in piece.range.enumerate() {
                        let elements = changes::unit(extent, operands, unit);
                        cut(elements, Some(&changes[piece.position as usize + i]));
                    }
                }
            }
        })
    }
}

/// Parameters of fewer elements end before the processor has foreseen how they go on, so memory is
/// asked for so many parameters ahead.
const SMALL: u64 = 512;
const PARAMS_AHEAD: usize = 8;

/// How many listed rows ahead memory is asked for: no processor foresees where the next row lies.
const AHEAD: usize = 8;

/// Elements that lie side by side and have the same steps to take.
struct Part<'a> {
    elements: Range<usize>,
    /// Which elements of the gradient's values are theirs, or are gathered from.
    values: Range<usize>,
    /// How their gradient is gathered, if it is sparse.
    rows: Option<RowPart<'a>>,
    /// The logged steps that they have yet to take.
    behind: Range<u64>,
}

impl<'a> Part<'a> {
    /// The first part of this range of an extent.
    #[inline]
    fn first(operands: &'a Operands, extent: &Extent, range: Range<usize>) -> Part<'a> {
        let index = operands.index();
        let lag = operands.lag();
        let (elements, entries, row) = match (extent, lag) {
            (Extent::Listed, _) => {
                let n = index.row_elements() as usize;
                let (row, entries) = index.row(range.start / n);
                operands.prefetch_listed(range.start / n + AHEAD);
                let start = row as usize * n + range.start % n;
                let end = (row as usize + 1) * n;
                (start..end.min(start + range.len()), entries, Some(row))
            }
            (Extent::Rows(rows), Some(lag)) => {
                let n = lag.row_elements() as usize;
                let row = rows.start + (range.start / n) as u64;
                let start = rows.start as usize * n + range.start;
                let end = (row as usize + 1) * n;
                (start..end.min(start + range.len()), index.entries(), Some(row))
            }
            // Where all of a parameter is stepped, its rows have caught up before.
            _ => (range, index.entries(), None),
        };
        let behind = lag.zip(row).map_or(0..0, |(lag, row)| lag.behind(row));
        let (values, rows) = match operands.grad() {
            None => (0..0, None),
            Some(Grad::Dense(_)) => (elements.clone(), None),
            Some(Grad::Sparse(sparse)) => {
                let rows = RowPart::new(entries, index.row_elements(), elements.start);
                match rows.values_in_place(elements.len()).filter(|_| *extent == Extent::Listed) {
                    Some(values) => (values, None),
                    None => (0..sparse.values.n_elements as usize, Some(rows)),
                }
            }
        };
        Part { elements, values, rows, behind }
    }
}

/// The same elements of all the tensors of one parameter.
pub struct Chunk<'a> {
    /// Which parameter.
    pub index: usize,
    /// Where its random bits come from, if its rounding takes any: the key, and which of the whole
    /// parameter's elements is the first.
    pub random: Option<(Key, u64)>,
    pub param: SliceMut<'a>,
    /// The gradient of these elements or, if it has to be gathered, all its values.
    pub grad: Slice<'a>,
    /// How the gradient of these elements is gathered, if it has to be.
    pub rows: Option<RowPart<'a>>,
    pub state: State<'a>,
    /// The logged steps that these elements have yet to take, without a gradient, before this one.
    pub behind: Range<u64>,
    /// Where what the step changes is added up, if that is asked for.
    pub change: Option<&'a Change>,
}

impl<'a> Chunk<'a> {
    /// # Safety
    /// The part lies inside the tensors, and nothing else touches its elements during `'a`.
    #[inline]
    unsafe fn new(
        index: usize,
        operands: &Operands,
        part: Part<'a>,
        change: Option<&'a Change>,
    ) -> Option<Self> {
        let Part { elements, values, rows, behind } = part;
        // SAFETY: the caller's word; `Operands::fits` and `fits_grad` saw the types and lengths.
        unsafe {
            Some(Chunk {
                index,
                param: operands.param.elements_mut(elements.clone()),
                grad: match operands.grad {
                    None => Slice::F32(&[]),
                    Some(grad) => grad.elements(values),
                },
                rows,
                random: match operands.format.is_random() {
                    true => operands.random(elements.start),
                    false => None,
                },
                state: State::new(operands, elements)?,
                behind,
                change,
            })
        }
    }
}

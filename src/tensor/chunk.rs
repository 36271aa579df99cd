//! One chunk: the same elements of all the tensors of one parameter.
//!
//! `Part::first` finds the first run of elements of a range that lie side by side and have missed
//! the same steps: all of the range where a parameter is stepped as a whole, at most one row
//! otherwise. It also tells where their gradient lies, or how it is gathered from the entries of a
//! sparse one. `Chunk::new` makes slices of the part, in the types of its operands, and a `Visitor`
//! steps them.
//!
//! Most chunks are f32 throughout. They are `PlainChunk`s, which are quicker to make.

use super::changes::Change;
use super::{
    Extent, Grad, Moment, Operands, PlainRun, Precise, RowPart, Slice, SliceMut, State, StateOf,
};
use crate::noise::Key;
use core::ops::Range;
use core::ptr::with_exposed_provenance_mut;

/// The number of listed rows by which memory is prefetched ahead, because no processor foresees
/// where the next row lies.
const AHEAD: usize = 8;

/// Elements that lie side by side and have the same steps to take.
pub(super) struct Part<'a> {
    pub elements: Range<usize>,
    /// The range of the gradient's values that are theirs, or from which they are gathered.
    values: Range<usize>,
    /// The entries from which their gradient is gathered, if it is sparse.
    rows: Option<RowPart<'a>>,
    /// The logged steps that they have yet to take.
    behind: Range<u64>,
}

impl<'a> Part<'a> {
    /// Returns the first part of a range of an extent.
    #[inline]
    pub fn first(operands: &'a Operands, extent: &Extent, range: Range<usize>) -> Part<'a> {
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
            // A parameter that is stepped as a whole has rows that have caught up before.
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

/// A visitor of chunks, which steps them.
pub trait Visitor {
    /// Visits any chunk.
    fn any(&mut self, chunk: Chunk);

    /// Visits parameters of a run until one is of another kind, or needs more than most.
    fn run(&mut self, run: &mut PlainRun);

    /// Visits a chunk of the kind that most are.
    fn plain(&mut self, chunk: PlainChunk);
}

/// Elements that are all f32, with nothing to gather, widen or add up. It has its own type, because
/// making a `Chunk` and taking it apart costs as much as stepping 40 elements.
pub struct PlainChunk<'a> {
    pub index: usize,
    pub param: &'a mut [f32],
    pub grad: &'a [f32],
    pub exp_avg: &'a mut [f32],
    pub exp_avg_sq: &'a mut [f32],
}

impl<'a> PlainChunk<'a> {
    /// Makes a chunk of `range`.
    ///
    /// # Safety
    /// The operands are plain, and so are others whose tensors all lie behind theirs, end to end.
    /// The range lies inside all these and is not empty, and nothing else touches its elements
    /// during `'a`.
    #[inline]
    pub(super) unsafe fn new(index: usize, operands: &Operands, range: Range<usize>) -> Self {
        debug_assert!(!range.is_empty());
        let grad = operands.grad.map_or(0, |grad| grad.address);
        // SAFETY: the caller guarantees the range, and that nothing else touches it; `is_plain`
        // tells the types, and `fits` checked the lengths. What lies end to end is of one chunk of
        // a pool (`Buffer::is_behind`), or the host's.
        let elements = |address| unsafe {
            let first = with_exposed_provenance_mut::<f32>(address).add(range.start);
            core::slice::from_raw_parts_mut(first, range.len())
        };
        PlainChunk {
            index,
            param: elements(operands.param.address),
            grad: elements(grad),
            exp_avg: elements(operands.exp_avg.address()),
            exp_avg_sq: elements(operands.exp_avg_sq.address()),
        }
    }
}

impl<'a> From<PlainChunk<'a>> for Chunk<'a> {
    fn from(plain: PlainChunk<'a>) -> Self {
        Chunk {
            index: plain.index,
            random: None,
            param: SliceMut::F32(plain.param),
            grad: Slice::F32(plain.grad),
            rows: None,
            state: State::F32(StateOf {
                exp_avg: Moment::Full(plain.exp_avg),
                exp_avg_sq: Moment::Full(plain.exp_avg_sq),
                max_exp_avg_sq: None,
                precise: Precise::Nothing,
            }),
            behind: 0..0,
            change: None,
        }
    }
}

/// The same elements of all the tensors of one parameter.
pub struct Chunk<'a> {
    /// The number of the parameter.
    pub index: usize,
    /// The source of its random bits, if its rounding takes any: the key, and the place of the
    /// first element in the whole tensor.
    pub random: Option<(Key, u64)>,
    pub param: SliceMut<'a>,
    /// The gradient of these elements or, if it has to be gathered, all its values.
    pub grad: Slice<'a>,
    /// The entries from which the gradient of these elements is gathered, if it has to be.
    pub rows: Option<RowPart<'a>>,
    pub state: State<'a>,
    /// The logged steps that these elements have yet to take, without a gradient, before this one.
    pub behind: Range<u64>,
    /// The place for the sums of the changes, if they are asked for.
    pub change: Option<&'a Change>,
}

impl<'a> Chunk<'a> {
    /// Makes a chunk of a part.
    ///
    /// # Safety
    /// The part lies inside the tensors, and nothing else touches its elements during `'a`.
    #[inline]
    pub(super) unsafe fn new(
        index: usize,
        operands: &Operands,
        part: Part<'a>,
        change: Option<&'a Change>,
    ) -> Option<Self> {
        let Part { elements, values, rows, behind } = part;
        // SAFETY: the caller guarantees the part, and that nothing else touches it;
        // `Operands::fits` and `fits_grad` checked the types and lengths.
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

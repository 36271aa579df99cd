//! Small parameters side by side in the table: steps pass over them one after the other, without
//! what it takes to find a part of a parameter of any kind. Those whose tensors, too, lie end to
//! end are stepped as one.

use super::{Buffer, Extent, Operands, PlainChunk};
use core::ops::Range;

/// Parameters of fewer elements are small: what it takes to find each of them counts.
pub(super) const SMALL: u64 = 512;

/// Small parameters end before the processor's prefetchers have found them, so that their memory is
/// prefetched this many parameters ahead.
const AHEAD: usize = 8;

/// Returns whether a run may have a parameter: it is small and plain, and has elements.
#[inline(always)]
pub(super) fn may_have(operands: &Operands) -> bool {
    operands.is_plain && (1..SMALL).contains(&operands.param.n_elements)
}

/// Returns whether a parameter lies behind the one before it, both of which a run may have: all
/// that a step reads and writes of it begins where that of the other ends.
#[inline(always)]
pub(super) fn is_behind(operands: &Operands, before: &Operands) -> bool {
    let bytes = before.param.n_elements as usize * size_of::<f32>();
    let grad = |operands: &Operands| operands.grad.map_or(0, |grad| grad.address);
    operands.param.address == before.param.address + bytes
        && grad(operands) == grad(before) + bytes
        && operands.exp_avg.is_behind(&before.exp_avg, bytes)
        && operands.exp_avg_sq.is_behind(&before.exp_avg_sq, bytes)
}

impl Buffer {
    /// Returns whether the buffer begins so many bytes behind the start of another, in the same
    /// memory.
    fn is_behind(&self, before: &Buffer, bytes: usize) -> bool {
        let in_one = match (before, self) {
            (Buffer::Lent(_), Buffer::Lent(_)) => true,
            (Buffer::Own(before), Buffer::Own(own)) => before.is_piece() && own.is_piece(),
            _ => false,
        };
        in_one && self.address() == before.address() + bytes
    }
}

/// Prefetches what is visited some small parameters after this one.
#[inline(always)]
pub(super) fn prefetch_ahead(operands: &[Operands], param: usize) {
    if let Some(next) = operands.get(param + AHEAD) {
        next.prefetch_start();
    }
}

/// Parameters of a range, up to the first that is not a small plain one, stepped as a whole.
pub struct PlainRun<'a> {
    /// All parameters of the step.
    operands: &'a [Operands],
    extents: &'a [Extent],
    joined: &'a [bool],
    left: Range<usize>,
}

impl<'a> PlainRun<'a> {
    /// # Safety
    /// Nothing else touches the elements of these parameters during `'a`, or what is stepped of
    /// them.
    pub(super) unsafe fn new(
        operands: &'a [Operands],
        extents: &'a [Extent],
        joined: &'a [bool],
        params: Range<usize>,
    ) -> PlainRun<'a> {
        let end = params.end.min(operands.len()).min(extents.len()).min(joined.len());
        PlainRun { operands, extents, joined, left: params.start..end }
    }

    /// Returns the next parameter with what `of` returns for its number, unless that is `None`. The
    /// elements of those that are joined to it, and `share` that, are behind its own.
    #[inline(always)]
    pub fn next_with<T>(
        &mut self,
        of: impl FnOnce(usize) -> Option<T>,
        share: impl Fn(usize, usize) -> bool,
    ) -> Option<(T, PlainChunk<'a>)> {
        let param = self.left.start;
        if self.left.is_empty() {
            return None;
        }
        let (operands, extent) = (&self.operands[param], &self.extents[param]);
        if !may_have(operands) || *extent != Extent::All {
            return None;
        }
        let with = of(param)?;
        let n = match self.joined.get(param + 1) {
            Some(true) => self.take_joined(share),
            _ => {
                self.left.start = param + 1;
                operands.param.n_elements
            }
        };
        prefetch_ahead(self.operands, self.left.start - 1);
        // SAFETY: `new`'s caller vouched for the elements; the operands are plain, and not empty,
        // and so are those joined to them.
        Some((with, unsafe { PlainChunk::new(param, operands, 0..n as usize) }))
    }

    /// Takes the next parameter and those joined to it. Returns how many elements they have.
    #[inline(never)] // so that one to which none is joined is taken in fewer instructions
    fn take_joined(&mut self, share: impl Fn(usize, usize) -> bool) -> u64 {
        let first = self.left.start;
        let behind = self.joined[first + 1..self.left.end].iter().zip(first + 1..);
        let n_behind =
            behind.take_while(|(joined, param)| **joined && share(first, *param)).count();
        let last = first + n_behind;
        self.left.start = last + 1;
        // Their addresses tell, so that the operands between are not read.
        let [first, last] = [first, last].map(|param| &self.operands[param].param);
        ((last.address - first.address) / size_of::<f32>()) as u64 + last.n_elements
    }

    /// Returns the number of the next parameter, or where the range ends.
    pub(super) fn place(&self) -> usize {
        self.left.start
    }
}

//! Small parameters side by side in the table: steps pass over them one after the other, without
//! what it takes to find a part of a parameter of any kind.

use super::{Extent, Operands, PlainChunk};
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
    left: Range<usize>,
}

impl<'a> PlainRun<'a> {
    /// # Safety
    /// Nothing else touches the elements of these parameters during `'a`, or what is stepped of
    /// them.
    pub(super) unsafe fn new(
        operands: &'a [Operands],
        extents: &'a [Extent],
        params: Range<usize>,
    ) -> PlainRun<'a> {
        let end = params.end.min(operands.len()).min(extents.len());
        PlainRun { operands, extents, left: params.start..end }
    }

    /// Returns the next parameter with what `of` returns for its number, unless that is `None`.
    #[inline(always)]
    pub fn next_with<T>(
        &mut self,
        of: impl FnOnce(usize) -> Option<T>,
    ) -> Option<(T, PlainChunk<'a>)> {
        let param = self.left.start;
        if self.left.is_empty() {
            return None;
        }
        let (operands, extent) = (&self.operands[param], &self.extents[param]);
        if !may_have(operands) || *extent != Extent::All {
            return None;
        }
        let n = operands.param.n_elements;
        let with = of(param)?;
        self.left.start = param + 1;
        prefetch_ahead(self.operands, param);
        // SAFETY: `new`'s caller vouched for the elements; the operands are plain, and not empty.
        Some((with, unsafe { PlainChunk::new(param, operands, 0..n as usize) }))
    }

    /// Returns the number of the next parameter, or where the range ends.
    pub(super) fn place(&self) -> usize {
        self.left.start
    }
}

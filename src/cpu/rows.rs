//! The gradient of a chunk in the compute type: widened where it lies, or gathered from the rows of
//! a sparse one.
#![forbid(unsafe_code)]

use super::block::BufferPart;
use super::compute::Compute;
use super::isa::Isa;
use super::stored::Stored;
use crate::tensor::RowPart;
use core::ops::Range;

/// The gradient of some elements.
pub struct Gradient<'a, G> {
    /// The values of these elements or, if the gradient is sparse, all its values.
    pub values: &'a [G],
    pub rows: Option<RowPart<'a>>,
}

impl<'a, G> Gradient<'a, G> {
    pub fn new(values: &'a [G], rows: Option<RowPart<'a>>) -> Self {
        Gradient { values, rows }
    }

    /// Returns a gradient of zeros.
    pub fn none() -> Self {
        Gradient { values: &[], rows: Some(RowPart::new(&[], 0, 0)) }
    }

    /// Returns all its values, if it is dense and stored in the compute type.
    pub fn in_place<T: Compute>(&self) -> Option<&'a [T]>
    where
        G: Stored<T>,
    {
        if self.rows.is_none() { G::in_place(self.values) } else { None }
    }

    /// Returns the elements `at`, at most a block: themselves, or widened into `buffer`. The values
    /// of one row are widened into `row_buffer` on the way.
    pub fn widened<'s, T: Compute>(
        &'s self,
        isa: &Isa,
        at: Range<usize>,
        buffer: &'s mut BufferPart<T>,
        row_buffer: &mut BufferPart<T>,
    ) -> &'s [T]
    where
        G: Stored<T>,
    {
        match self.in_place() {
            Some(values) => &values[at],
            None => self.copied(isa, at, buffer, row_buffer),
        }
    }

    /// Returns the elements `at`, at most a block, always in `buffer`.
    pub fn copied<'s, T: Compute>(
        &self,
        isa: &Isa,
        at: Range<usize>,
        buffer: &'s mut BufferPart<T>,
        row_buffer: &mut BufferPart<T>,
    ) -> &'s mut [T]
    where
        G: Stored<T>,
    {
        let wide = &mut buffer.get()[..at.len()];
        let Some(rows) = &self.rows else {
            G::widen(isa, &self.values[at], wide);
            return wide;
        };
        wide.fill(T::ZERO);
        let mut last = None;
        for (row, elements, values) in rows.entries(at) {
            let values = G::widened(isa, &self.values[values], row_buffer);
            let sums = &mut wide[elements];
            if last.replace(row) == Some(row) {
                // The row was listed before: its values are added up in the order of the list.
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum = *sum + *value);
            } else {
                sums.copy_from_slice(values);
            }
        }
        wide
    }
}

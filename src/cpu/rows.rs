//! The gradient of a chunk in the compute type: widened where it lies, or gathered from the rows of
//! a sparse one.
#![forbid(unsafe_code)]

use super::block::BufferPart;
use super::isa::{Compute, Isa};
use super::stored::Stored;
use crate::tensor::RowPart;
use core::ops::Range;

/// The gradient of some elements.
pub struct Gradient<'a, G> {
    /// Theirs or, if it is sparse, all that it has.
    pub values: &'a [G],
    pub rows: Option<RowPart<'a>>,
}

impl<'a, G> Gradient<'a, G> {
    pub fn new(values: &'a [G], rows: Option<RowPart<'a>>) -> Self {
        Gradient { values, rows }
    }

    /// Zeros.
    pub fn none() -> Self {
        Gradient { values: &[], rows: Some(RowPart::new(&[], 0, 0)) }
    }

    /// All of it, if it lies in memory element by element, in the compute type.
    pub fn in_place<T: Compute>(&self) -> Option<&'a [T]>
    where
        G: Stored<T>,
    {
        if self.rows.is_none() { G::in_place(self.values) } else { None }
    }

    /// At most a block of it, in `buffer` if it has to be put somewhere; in `row_buffer` go the values of one
    /// row.
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

    /// The same, in `buffer` wherever it lies.
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
                // Listed before: added up in the order in which it was listed.
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum = *sum + *value);
            } else {
                sums.copy_from_slice(values);
            }
        }
        wide
    }
}

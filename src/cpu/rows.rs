//! The gradient of a chunk in the compute type: widened where it lies, or gathered from the rows of
//! a sparse one.
#![forbid(unsafe_code)]

use super::blocks::BLOCK;
use super::isa::{Compute, Isa};
use crate::dtype::{Bf16, F16};
use crate::tensor::RowPart;
use core::ops::Range;

/// An element type as it is stored, beside the compute type `T`.
pub trait Stored<T: Compute>: Sized {
    /// The same elements, where they are stored in the compute type.
    fn in_place(_: &[Self]) -> Option<&[T]> {
        None
    }

    /// Writes the values in the compute type.
    fn widen(isa: &Isa, stored: &[Self], wide: &mut [T]);

    /// A block's values in the compute type, in `room` if they have to be put somewhere.
    fn widened<'a>(isa: &Isa, stored: &'a [Self], room: &'a mut Part<T>) -> &'a [T] {
        Self::in_place(stored).unwrap_or_else(|| {
            let wide = &mut room.get()[..stored.len()];
            Self::widen(isa, stored, wide);
            wide
        })
    }
}

/// Room for one block, made when it is first needed: zeroing it is what it costs.
pub struct Room<T: Compute>(Option<T::Block>);

impl<T: Compute> Default for Room<T> {
    fn default() -> Self {
        Room(None)
    }
}

impl<T: Compute> Room<T> {
    fn get(&mut self) -> &mut [T] {
        self.0.get_or_insert(T::ZEROS).as_mut()
    }

    /// Room for a block.
    pub fn whole(&mut self) -> Part<'_, T> {
        Part::Whole(self)
    }

    /// Room for two blocks of half the length.
    pub fn halves(&mut self) -> [Part<'_, T>; 2] {
        let (first, second) = self.get().split_at_mut(BLOCK / 2);
        [Part::Half(first), Part::Half(second)]
    }
}

/// Room for a block, or for one of half the length.
pub enum Part<'a, T: Compute> {
    Whole(&'a mut Room<T>),
    Half(&'a mut [T]),
}

impl<T: Compute> Part<'_, T> {
    pub fn get(&mut self) -> &mut [T] {
        match self {
            Part::Whole(room) => room.get(),
            Part::Half(half) => half,
        }
    }
}

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

    /// At most a block of it, in `room` if it has to be put somewhere; in `row_room` go the values of one
    /// row.
    pub fn widened<'s, T: Compute>(
        &'s self,
        isa: &Isa,
        at: Range<usize>,
        room: &'s mut Part<T>,
        row_room: &mut Part<T>,
    ) -> &'s [T]
    where
        G: Stored<T>,
    {
        match self.in_place() {
            Some(values) => &values[at],
            None => self.copied(isa, at, room, row_room),
        }
    }

    /// The same, in `room` wherever it lies.
    pub fn copied<'s, T: Compute>(
        &self,
        isa: &Isa,
        at: Range<usize>,
        room: &'s mut Part<T>,
        row_room: &mut Part<T>,
    ) -> &'s mut [T]
    where
        G: Stored<T>,
    {
        let wide = &mut room.get()[..at.len()];
        let Some(rows) = &self.rows else {
            G::widen(isa, &self.values[at], wide);
            return wide;
        };
        wide.fill(T::ZERO);
        let mut last = None;
        for (row, elements, values) in rows.entries(at) {
            let values = G::widened(isa, &self.values[values], row_room);
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

macro_rules! stored {
    ($type:ty, $wide:ty, $widen:ident) => {
        impl Stored<$wide> for $type {
            fn widen(isa: &Isa, stored: &[$type], wide: &mut [$wide]) {
                isa.$widen(stored, wide);
            }
        }
    };
    ($type:ty) => {
        impl Stored<$type> for $type {
            fn in_place(stored: &[$type]) -> Option<&[$type]> {
                Some(stored)
            }
            fn widen(_: &Isa, stored: &[$type], wide: &mut [$type]) {
                wide.copy_from_slice(stored);
            }
        }
    };
}

stored!(f32);
stored!(f64);
stored!(F16, f32, widen_f16);
stored!(Bf16, f32, widen_bf16);
stored!(f32, f64, widen_f32);

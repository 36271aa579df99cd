//! The gradient of a chunk in the compute type: widened where it lies, or gathered from the rows of
//! a sparse one.
#![forbid(unsafe_code)]

use super::blocks::BLOCK;
use super::isa::Isa;
use crate::dtype::{Bf16, F16};
use crate::math::Real;
use crate::tensor::RowPart;
use core::ops::Range;

/// An element type as it is stored, beside the compute type `T`.
pub trait Stored<T>: Sized {
    /// The same elements, where they are stored in the compute type.
    fn in_place(_: &[Self]) -> Option<&[T]> {
        None
    }

    /// A block's values in the compute type, in `space` if they have to be put somewhere.
    fn widened<'a>(isa: &Isa, stored: &'a [Self], space: &'a mut Room<T>) -> &'a [T];
}

/// Room for one block, made when it is first needed: zeroing it is what it costs.
pub struct Room<T>(Option<[T; BLOCK]>);

impl<T> Default for Room<T> {
    fn default() -> Self {
        Room(None)
    }
}

impl<T: Real> Room<T> {
    pub fn get(&mut self) -> &mut [T; BLOCK] {
        self.0.get_or_insert([T::ZERO; BLOCK])
    }
}

/// Where a block of a gradient is put.
pub struct GradSpace<T> {
    grad: Room<T>,
    /// The values of one row.
    values: Room<T>,
}

impl<T> Default for GradSpace<T> {
    fn default() -> Self {
        GradSpace { grad: Room::default(), values: Room::default() }
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
    pub fn in_place<T>(&self) -> Option<&'a [T]>
    where
        G: Stored<T>,
    {
        if self.rows.is_none() { G::in_place(self.values) } else { None }
    }

    /// At most `BLOCK` elements of it, in `space` if they have to be put somewhere.
    pub fn widened<'s, T: Real>(
        &'s self,
        isa: &Isa,
        at: Range<usize>,
        space: &'s mut GradSpace<T>,
    ) -> &'s [T]
    where
        G: Stored<T>,
    {
        let Some(rows) = &self.rows else {
            return G::widened(isa, &self.values[at], &mut space.grad);
        };
        let gathered = &mut space.grad.get()[..at.len()];
        gathered.fill(T::ZERO);
        let mut last = None;
        for (row, elements, values) in rows.entries(at) {
            let values = G::widened(isa, &self.values[values], &mut space.values);
            let gathered = &mut gathered[elements];
            if last.replace(row) == Some(row) {
                // Listed before: added up in the order in which it was listed.
                gathered.iter_mut().zip(values).for_each(|(sum, value)| *sum = *sum + *value);
            } else {
                gathered.copy_from_slice(values);
            }
        }
        gathered
    }
}

macro_rules! stored {
    ($type:ty, $wide:ty, $widen:ident) => {
        impl Stored<$wide> for $type {
            fn widened<'a>(
                isa: &Isa,
                stored: &'a [$type],
                space: &'a mut Room<$wide>,
            ) -> &'a [$wide] {
                let wide = &mut space.get()[..stored.len()];
                isa.$widen(stored, wide);
                wide
            }
        }
    };
    ($type:ty) => {
        impl Stored<$type> for $type {
            fn in_place(stored: &[$type]) -> Option<&[$type]> {
                Some(stored)
            }
            fn widened<'a>(_: &Isa, stored: &'a [$type], _: &'a mut Room<$type>) -> &'a [$type] {
                stored
            }
        }
    };
}

stored!(f32);
stored!(f64);
stored!(F16, f32, widen_f16);
stored!(Bf16, f32, widen_bf16);
stored!(f32, f64, widen_f32);

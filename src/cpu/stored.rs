//! Elements as they are stored, widened to the compute type.
#![forbid(unsafe_code)]

use super::block::BufferPart;
use super::compute::Compute;
use super::isa::Isa;
use crate::dtype::{Bf16, F16};

/// An element type in memory, which widens to the compute type `T`.
pub trait Stored<T: Compute>: Sized {
    /// Returns the elements themselves, if they are stored in the compute type.
    fn in_place(_: &[Self]) -> Option<&[T]> {
        None
    }

    /// Writes the elements, widened to the compute type, to `wide`.
    fn widen(isa: &Isa, stored: &[Self], wide: &mut [T]);

    /// Returns the elements of a block in the compute type: themselves, or widened into `buffer`.
    fn widened<'a>(isa: &Isa, stored: &'a [Self], buffer: &'a mut BufferPart<T>) -> &'a [T] {
        Self::in_place(stored).unwrap_or_else(|| {
            let wide = &mut buffer.get()[..stored.len()];
            Self::widen(isa, stored, wide);
            wide
        })
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

//! A block of a parameter: widened to the compute type (`open`), and stored again (`close`).
//!
//! `Precise` decides. A master is used where it lies, and `close` rounds it to the parameter
//! (`narrow`). A parameter without one is widened by `P::open`, unless it is stored in the compute
//! type; `close` rounds it to nearest (`narrow`) or at random (`narrow_randomly`). A parameter with
//! a remainder is joined with it (`join`, `join_kahan`), and `close` writes both (`split`,
//! `split_kahan`).
//!
//! `StoredParam` has these functions for each element type: `stored_wide!` for f32 and f64, which
//! are used where they lie, `stored_16_bit!` for f16 and bf16, which call the loops of `isa.rs`.
#![forbid(unsafe_code)]

use super::block::BufferPart;
use super::compute::Compute;
use super::isa::Isa;
use super::stored::Stored;
use crate::dtype::{Bf16, F16};
use crate::noise::{Noise, NoiseStream, Source};
use crate::tensor::Precise;

/// Returns the elements in the compute type: themselves, or widened into `buffer`.
pub fn open<'s, P: StoredParam<T>, T: Compute>(
    isa: &Isa,
    param: &'s mut [P],
    precise: &'s mut Precise<T>,
    buffer: &'s mut BufferPart<T>,
) -> &'s mut [T] {
    let n = param.len();
    match precise {
        Precise::Master(master) => master,
        Precise::Nothing | Precise::Stochastic => P::open(isa, param, buffer),
        Precise::Split(remainder) => {
            let wide = &mut buffer.get()[..n];
            P::join(isa, param, remainder, wide);
            wide
        }
        Precise::Kahan(rest) => {
            let wide = &mut buffer.get()[..n];
            P::join_kahan(isa, param, rest, wide);
            wide
        }
    }
}

/// Stores the elements that `open` returned, from the same buffer, after they were changed.
pub fn close<P: StoredParam<T>, T: Compute>(
    isa: &Isa,
    param: &mut [P],
    precise: &mut Precise<T>,
    random: Option<Source>,
    buffer: &mut BufferPart<T>,
) {
    let n = param.len();
    match precise {
        Precise::Master(master) => P::narrow(isa, master, param),
        Precise::Nothing if <P as StoredParam<T>>::in_place(param).is_some() => {}
        Precise::Nothing => P::narrow(isa, &buffer.get()[..n], param),
        Precise::Stochastic => {
            let noise = random.map(|random| random.noise(NoiseStream::Param)).unwrap_or_default();
            P::narrow_randomly(isa, &buffer.get()[..n], noise, param)
        }
        Precise::Split(remainder) => P::split(isa, &buffer.get()[..n], param, remainder),
        Precise::Kahan(rest) => P::split_kahan(isa, &buffer.get()[..n], param, rest),
    }
}

/// An element type of parameters. `Format::new` gives only 16-bit parameters a master or a
/// remainder, and only bf16 random bits or a split, so that the functions that panic here are never
/// called.
pub trait StoredParam<T: Compute>: Stored<T> {
    /// Returns the elements themselves, if they are stored in the compute type.
    fn in_place(_: &mut [Self]) -> Option<&mut [T]> {
        None
    }

    /// Returns the elements in the compute type: themselves, or widened into `buffer`.
    fn open<'s>(isa: &Isa, stored: &'s mut [Self], buffer: &'s mut BufferPart<T>) -> &'s mut [T];

    /// Rounds to nearest.
    fn narrow(_: &Isa, _: &[T], _: &mut [Self]) {
        unreachable!("only 16-bit parameters are rounded")
    }

    fn narrow_randomly(_: &Isa, _: &[T], _: Noise, _: &mut [Self]) {
        unreachable!("only bf16 parameters are rounded randomly")
    }

    fn join(_: &Isa, _: &[Self], _: &[i16], _: &mut [T]) {
        unreachable!("only bf16 parameters are split")
    }

    fn split(_: &Isa, _: &[T], _: &mut [Self], _: &mut [i16]) {
        unreachable!("only bf16 parameters are split")
    }

    fn join_kahan(_: &Isa, _: &[Self], _: &[u16], _: &mut [T]) {
        unreachable!("only 16-bit parameters are compensated")
    }

    fn split_kahan(_: &Isa, _: &[T], _: &mut [Self], _: &mut [u16]) {
        unreachable!("only 16-bit parameters are compensated")
    }
}

macro_rules! stored_wide {
    ($type:ty) => {
        impl StoredParam<$type> for $type {
            fn in_place(stored: &mut [$type]) -> Option<&mut [$type]> {
                Some(stored)
            }
            fn open<'s>(
                _: &Isa,
                stored: &'s mut [$type],
                _: &'s mut BufferPart<$type>,
            ) -> &'s mut [$type] {
                stored
            }
        }
    };
}

macro_rules! stored_16_bit {
    ($type:ty, $widen:ident, $narrow:ident, $join:ident, $split:ident $(, $bf16:item)*) => {
        impl StoredParam<f32> for $type {
            fn open<'s>(
                isa: &Isa,
                stored: &'s mut [$type],
                buffer: &'s mut BufferPart<f32>,
            ) -> &'s mut [f32] {
                let wide = &mut buffer.get()[..stored.len()];
                isa.$widen(stored, wide);
                wide
            }
            fn narrow(isa: &Isa, wide: &[f32], stored: &mut [$type]) {
                isa.$narrow(wide, stored);
            }
            fn join_kahan(isa: &Isa, stored: &[$type], rest: &[u16], wide: &mut [f32]) {
                isa.$join(stored, rest, wide);
            }
            fn split_kahan(isa: &Isa, wide: &[f32], stored: &mut [$type], rest: &mut [u16]) {
                isa.$split(wide, stored, rest);
            }
            $($bf16)*
        }
    };
}

stored_wide!(f32);
stored_wide!(f64);
stored_16_bit!(F16, widen_f16, narrow_f16, join_kahan_f16, split_kahan_f16);
stored_16_bit!(
    Bf16,
    widen_bf16,
    narrow_bf16,
    join_kahan_bf16,
    split_kahan_bf16,
    fn narrow_randomly(isa: &Isa, wide: &[f32], noise: Noise, stored: &mut [Bf16]) {
        isa.narrow_randomly(wide, noise, stored)
    },
    fn join(isa: &Isa, upper: &[Bf16], remainder: &[i16], wide: &mut [f32]) {
        isa.join(upper, remainder, wide)
    },
    fn split(isa: &Isa, wide: &[f32], upper: &mut [Bf16], remainder: &mut [i16]) {
        isa.split(wide, upper, remainder)
    }
);

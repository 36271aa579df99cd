//! Elements in 16 bits to f32 and back, in groups of a length that the compiler knows.
//!
//! `Convert` has what an instruction set may have instructions for, `Half` is an element type that
//! it converts. `widen` and `narrow`, `join` and `split` convert a group by it, and what is left
//! after the last one element by element.
#![forbid(unsafe_code)]

use super::late::InRegisters;
use super::loops;
use crate::dtype::{Bf16, F16, Narrow, Widen};

/// Elements of a group.
pub const GROUP: usize = 64;

/// The conversions of a group, as they are defined. An instruction set may have its own, with the
/// same bits of a step.
pub trait Convert {
    #[inline(always)]
    fn widen_f16(stored: &[F16; GROUP], wide: &mut [f32; GROUP]) {
        loops::widen(stored, wide);
    }

    #[inline(always)]
    fn narrow_f16(wide: &[f32; GROUP], stored: &mut [F16; GROUP]) {
        loops::narrow(wide, stored);
    }

    #[inline(always)]
    fn widen_bf16(stored: &[Bf16; GROUP], wide: &mut [f32; GROUP]) {
        loops::widen(stored, wide);
    }

    #[inline(always)]
    fn narrow_bf16(wide: &[f32; GROUP], stored: &mut [Bf16; GROUP]) {
        loops::narrow(wide, stored);
    }

    #[inline(always)]
    fn join(upper: &[Bf16; GROUP], remainder: &[i16; GROUP], wide: &mut [f32; GROUP]) {
        loops::join(upper, remainder, wide);
    }

    #[inline(always)]
    fn split(wide: &[f32; GROUP], upper: &mut [Bf16; GROUP], remainder: &mut [i16; GROUP]) {
        loops::split(wide, upper, remainder);
    }
}

/// A 16-bit element whose groups an instruction set converts.
pub trait Half: Widen<f32> + Narrow<f32> + InRegisters {
    fn widen_group<C: Convert>(stored: &[Self; GROUP], wide: &mut [f32; GROUP]);
    fn narrow_group<C: Convert>(wide: &[f32; GROUP], stored: &mut [Self; GROUP]);
}

macro_rules! half {
    ($type:ident, $widen:ident, $narrow:ident) => {
        impl Half for $type {
            #[inline(always)]
            fn widen_group<C: Convert>(stored: &[$type; GROUP], wide: &mut [f32; GROUP]) {
                C::$widen(stored, wide);
            }
            #[inline(always)]
            fn narrow_group<C: Convert>(wide: &[f32; GROUP], stored: &mut [$type; GROUP]) {
                C::$narrow(wide, stored);
            }
        }
    };
}

half!(F16, widen_f16, narrow_f16);
half!(Bf16, widen_bf16, narrow_bf16);

#[inline(always)]
pub fn widen<C: Convert, S: Half>(stored: &[S], wide: &mut [f32; GROUP]) {
    match stored.as_array() {
        Some(stored) => S::widen_group::<C>(stored, wide),
        None => loops::widen(stored, wide),
    }
}

#[inline(always)]
pub fn narrow<C: Convert, S: Half>(wide: &[f32], stored: &mut [S]) {
    if let (Some(wide), Some(stored)) = (wide.as_array(), stored.as_mut_array()) {
        return S::narrow_group::<C>(wide, stored);
    }
    loops::narrow(wide, stored);
}

#[inline(always)]
pub fn join<C: Convert>(upper: &[Bf16], remainder: &[i16], wide: &mut [f32; GROUP]) {
    match (upper.as_array(), remainder.as_array()) {
        (Some(upper), Some(remainder)) => C::join(upper, remainder, wide),
        _ => loops::join(upper, remainder, wide),
    }
}

#[inline(always)]
pub fn split<C: Convert>(wide: &[f32; GROUP], upper: &mut [Bf16], remainder: &mut [i16]) {
    if let (Some(upper), Some(remainder)) = (upper.as_mut_array(), remainder.as_mut_array()) {
        return C::split(wide, upper, remainder);
    }
    loops::split(wide, upper, remainder);
}

//! Sixty-four numbers in four registers of AVX-512, all of which take each operation in turn: none
//! waits for the one before it.

use crate::math::Arithmetic;
use core::arch::x86_64::*;
use core::mem::transmute;
use core::ops::{Add, Div, Mul, Sub};

/// Numbers of a `Floats`.
pub const LANES: usize = 64;

/// The value of an expression for each register.
macro_rules! each {
    ($q:ident in 4: $value:expr) => {
        [each!(@ $q 0 $value), each!(@ $q 1 $value), each!(@ $q 2 $value), each!(@ $q 3 $value)]
    };
    ($q:ident in 2: $value:expr) => {
        [each!(@ $q 0 $value), each!(@ $q 1 $value)]
    };
    (@ $q:ident $number:literal $value:expr) => {{
        const $q: usize = $number;
        $value
    }};
}
pub(super) use each;

/// f32s, in the order of memory. Only functions for AVX-512 make one, so that whoever has one runs
/// on it.
#[derive(Clone, Copy)]
pub struct Floats([__m512; 4]);

impl Floats {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn new(registers: [__m512; 4]) -> Floats {
        Floats(registers)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn splat(value: f32) -> Floats {
        Floats([_mm512_set1_ps(value); 4])
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn load(from: &[f32; LANES]) -> Floats {
        // SAFETY: as many bytes, of which a register holds any.
        Floats(unsafe { transmute::<[f32; LANES], [__m512; 4]>(*from) })
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn store(self, to: &mut [f32; LANES]) {
        // SAFETY: as many bytes, which are f32s whatever they are.
        *to = unsafe { transmute::<[__m512; 4], [f32; LANES]>(self.0) };
    }

    pub fn registers(self) -> [__m512; 4] {
        self.0
    }

    /// Returns the bits.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub fn bits(self) -> [__m512i; 4] {
        each!(Q in 4: _mm512_castps_si512(self.0[Q]))
    }
}

macro_rules! operator {
    ($Trait:ident, $operation:ident, $instruction:ident) => {
        impl $Trait for Floats {
            type Output = Floats;
            #[inline(always)]
            fn $operation(self, other: Floats) -> Floats {
                // SAFETY: whoever has a `Floats` runs on AVX-512.
                Floats(each!(Q in 4: unsafe { $instruction(self.0[Q], other.0[Q]) }))
            }
        }
    };
}

operator!(Add, add, _mm512_add_ps);
operator!(Sub, sub, _mm512_sub_ps);
operator!(Mul, mul, _mm512_mul_ps);
operator!(Div, div, _mm512_div_ps);

impl Arithmetic for Floats {
    #[inline(always)]
    fn sqrt(self) -> Floats {
        // SAFETY: whoever has a `Floats` runs on AVX-512.
        Floats(each!(Q in 4: unsafe { _mm512_sqrt_ps(self.0[Q]) }))
    }
}

//! Sixty-four numbers in registers of AVX-512, and their codes as words of 16 bits, of which a
//! register has thirty-two.

mod bytes;
mod halves;
mod nibbles;
mod words;

use super::registers::lanes::{LANES, arithmetic, each, floats};
use super::registers::out_of_line::{compile, methods};
use crate::noise::Noise;
use core::arch::x86_64::*;
use words::Words;

floats!(
    "avx512f", LANES, __m512, __m512i;
    _mm512_set1_ps, _mm512_castps_si512, _mm512_sqrt_ps,
    _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps, _mm512_div_ps;
    _mm512_set1_epi32, _mm512_and_si512, _mm512_max_epu32
);

impl Floats {
    fn registers(self) -> [__m512; 4] {
        self.0
    }
}

/// Proves that the processor has the features.
#[derive(Clone, Copy)]
pub struct Avx512(());

impl Avx512 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn new() -> Avx512 {
        Avx512(())
    }
}

compile!(
    "avx512f,avx512bw,avx512dq,avx512vl",
    Avx512,
    LANES,
    false,
    Words,
    __m512i,
    _mm512_setzero_si512,
    _mm512_reduce_max_epu32
);

//! Thirty-two numbers in registers of AVX2, their codes as words of 16 bits in two, and as bytes in
//! one.

mod bytes;
mod halves;
mod nibbles;
mod words;

use super::registers::lanes::{LANES, arithmetic, each, floats};
use super::registers::out_of_line::{compile, methods};
use crate::noise::Noise;
use core::arch::x86_64::*;

/// Numbers of a part.
const PART: usize = LANES / 2;

floats!(
    "avx2,f16c", PART, __m256, __m256i;
    _mm256_set1_ps, _mm256_castps_si256, _mm256_sqrt_ps,
    _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps, _mm256_div_ps;
    _mm256_set1_epi32, _mm256_and_si256, _mm256_max_epu32
);

/// Proves that the processor has the features.
#[derive(Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    fn new() -> Avx2 {
        Avx2(())
    }
}

compile!("avx2,f16c", Avx2, PART, true, __m256i, __m256i, _mm256_setzero_si256, largest);

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn largest(of: __m256i) -> u32 {
    // SAFETY: as many bytes, of which a word holds any.
    let words = unsafe { core::mem::transmute::<__m256i, [u32; 8]>(of) };
    words.into_iter().fold(0, u32::max)
}

//! Thirty-two numbers in registers of AVX2, and their codes as words of 16 bits, of which a
//! register has sixteen.

mod bytes;
mod nibbles;
mod words;

use super::registers::lanes::{LANES, arithmetic, each, floats};
use super::registers::out_of_line::{compile, methods};
use crate::noise::Noise;
use core::arch::x86_64::*;
use words::Words;

/// Numbers of a part.
const PART: usize = LANES / 2;

floats!(
    "avx2,f16c", PART, __m256, __m256i;
    _mm256_set1_ps, _mm256_castps_si256, _mm256_sqrt_ps,
    _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps, _mm256_div_ps
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

compile!("avx2,f16c", Avx2);

impl Registers for Avx2 {
    type Floats = Floats;
    type Codes = Words;
    type Largest = __m256i;

    const PARTS: usize = LANES / PART;

    methods! {
        fn splat(value: f32) -> Floats = Floats::splat;
        fn load(from: &[f32; LANES], part: usize) -> Floats = load;
        fn store(numbers: Floats, to: &mut [f32; LANES], part: usize) = store;
        fn none() -> __m256i = _mm256_setzero_si256;
        fn larger_magnitude(of: __m256i, numbers: Floats) -> __m256i = larger_magnitude;
        fn larger(of: __m256i, numbers: Floats) -> __m256i = larger;
        fn largest(of: __m256i) -> u32 = largest;
        fn decode_bytes(codes: [&[u8; LANES]; 2], part: usize) -> [Floats; 2] = bytes::decode;
        fn encode_signed_bytes(wide: Floats, inverse: f32) -> Words = bytes::encode_signed;
        fn encode_unsigned_bytes(wide: Floats, inverse: f32, noise: Noise) -> Words
            = bytes::encode_unsigned;
        fn store_bytes(codes: Words, to: &mut [u8; LANES], part: usize) = words::store;
        fn decode_nibbles(codes: [&[u8; LANES]; 2], half: usize, part: usize) -> [Floats; 2]
            = nibbles::decode;
        fn encode_signed_nibbles(wide: Floats, inverse: f32, noise: Noise) -> Words
            = nibbles::encode_signed;
        fn encode_unsigned_nibbles(wide: Floats, inverse: f32, noise: Noise) -> Words
            = nibbles::encode_unsigned;
        fn store_nibbles(codes: Words, half: usize, to: &mut [u8; LANES], part: usize)
            = nibbles::store;
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn load(from: &[f32; LANES], part: usize) -> Floats {
    Floats::load(&from.as_chunks().0[part])
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn store(numbers: Floats, to: &mut [f32; LANES], part: usize) {
    numbers.store(&mut to.as_chunks_mut().0[part]);
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn larger_magnitude(mut of: __m256i, numbers: Floats) -> __m256i {
    let magnitude = _mm256_set1_epi32(0x7fff_ffff);
    for bits in numbers.bits() {
        of = _mm256_max_epu32(of, _mm256_and_si256(bits, magnitude));
    }
    of
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn larger(mut of: __m256i, numbers: Floats) -> __m256i {
    for bits in numbers.bits() {
        of = _mm256_max_epu32(of, bits);
    }
    of
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn largest(of: __m256i) -> u32 {
    // SAFETY: as many bytes, of which a word holds any.
    let words = unsafe { core::mem::transmute::<__m256i, [u32; 8]>(of) };
    words.into_iter().fold(0, u32::max)
}

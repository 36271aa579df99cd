//! Sixty-four numbers in registers of AVX-512, and their codes as words of 16 bits, of which a
//! register has thirty-two.

mod bytes;
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
    _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps, _mm512_div_ps
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

compile!("avx512f,avx512bw,avx512dq,avx512vl", Avx512);

impl Registers for Avx512 {
    type Floats = Floats;
    type Codes = Words;
    type Largest = __m512i;

    const PARTS: usize = 1;

    methods! {
        fn splat(value: f32) -> Floats = Floats::splat;
        fn load(from: &[f32; LANES], part: usize) -> Floats = load;
        fn store(numbers: Floats, to: &mut [f32; LANES], part: usize) = store;
        fn none() -> __m512i = _mm512_setzero_si512;
        fn larger_magnitude(of: __m512i, numbers: Floats) -> __m512i = larger_magnitude;
        fn larger(of: __m512i, numbers: Floats) -> __m512i = larger;
        fn largest(of: __m512i) -> u32 = _mm512_reduce_max_epu32;
        fn decode_bytes(codes: [&[u8; LANES]; 2], _part: usize) -> [Floats; 2] = bytes::decode;
        fn encode_signed_bytes(wide: Floats, inverse: f32) -> Words = bytes::encode_signed;
        fn encode_unsigned_bytes(wide: Floats, inverse: f32, noise: Noise) -> Words
            = bytes::encode_unsigned;
        fn store_bytes(codes: Words, to: &mut [u8; LANES], _part: usize) = words::store;
        fn decode_nibbles(codes: [&[u8; LANES]; 2], half: usize, _part: usize) -> [Floats; 2]
            = nibbles::decode;
        fn encode_signed_nibbles(wide: Floats, inverse: f32, noise: Noise) -> Words
            = nibbles::encode_signed;
        fn encode_unsigned_nibbles(wide: Floats, inverse: f32, noise: Noise) -> Words
            = nibbles::encode_unsigned;
        fn store_nibbles(codes: Words, half: usize, to: &mut [u8; LANES], _part: usize)
            = nibbles::store;
    }
}

/// There is one part.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(from: &[f32; LANES], _part: usize) -> Floats {
    Floats::load(from)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(numbers: Floats, to: &mut [f32; LANES], _part: usize) {
    numbers.store(to);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn larger_magnitude(mut of: __m512i, numbers: Floats) -> __m512i {
    let magnitude = _mm512_set1_epi32(0x7fff_ffff);
    for bits in numbers.bits() {
        of = _mm512_max_epu32(of, _mm512_and_si512(bits, magnitude));
    }
    of
}

#[inline]
#[target_feature(enable = "avx512f")]
fn larger(mut of: __m512i, numbers: Floats) -> __m512i {
    for bits in numbers.bits() {
        of = _mm512_max_epu32(of, bits);
    }
    of
}

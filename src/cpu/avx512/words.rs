//! Words of 16 bits, and registers of them and of f32s.

use super::Floats;
use crate::cpu::registers::lanes::{LANES, each};
use crate::noise::Noise;
use core::arch::x86_64::*;
use core::mem::transmute;

/// Sixty-four words in the order in which `floats` takes them, or in that of memory.
pub type Words = [__m512i; 2];

/// Returns sixty-four bytes so that instructions that interleave bring them back to the order of
/// memory: they work on each quarter of a register, so that the quarters are mixed first.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn mixed(bytes: &[u8; LANES]) -> __m512i {
    // SAFETY: as many bytes, of which a register holds any.
    let bytes = unsafe { transmute::<[u8; LANES], __m512i>(*bytes) };
    let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_permutexvar_epi32(order, bytes)
}

/// Returns words of which mixed bytes are the lower and the upper halves.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn words(lower: __m512i, upper: __m512i) -> Words {
    [_mm512_unpacklo_epi8(lower, upper), _mm512_unpackhi_epi8(lower, upper)]
}

/// Returns the f32s of which mixed words are the upper halves, and whose lower halves are 0.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn floats(words: Words) -> Floats {
    let zero = _mm512_setzero_si512();
    let low = each!(Q in 2: _mm512_unpacklo_epi16(zero, words[Q]));
    let high = each!(Q in 2: _mm512_unpackhi_epi16(zero, words[Q]));
    Floats::new([low[0], high[0], low[1], high[1]].map(|bits| _mm512_castsi512_ps(bits)))
}

/// Returns the upper halves of sixty-four words of 32 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn upper_halves(bits: [__m512i; 4]) -> Words {
    const ODD: [u16; 32] = {
        let mut odd = [0; 32];
        let mut i = 0;
        while i < 32 {
            odd[i] = 2 * i as u16 + 1;
            i += 1;
        }
        odd
    };
    // SAFETY: as many bytes, of which a register holds any.
    let odd = unsafe { transmute::<[u16; 32], __m512i>(ODD) };
    each!(Q in 2: _mm512_permutex2var_epi16(bits[2 * Q], odd, bits[2 * Q + 1]))
}

/// Returns for which words a comparison of f32s holds.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn joined(holds: [__mmask16; 4]) -> [__mmask32; 2] {
    each!(Q in 2: _mm512_kunpackw(holds[2 * Q + 1].into(), holds[2 * Q].into()))
}

/// Returns the random bits of sixty-four elements.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn random(noise: Noise) -> [__m512i; 4] {
    let mut words = [0; LANES];
    for (place, word) in (0..).zip(&mut words) {
        *word = noise.word(place);
    }
    // SAFETY: as many bytes, of which a register holds any.
    unsafe { transmute::<[u32; LANES], [__m512i; 4]>(words) }
}

/// Returns the lower halves of words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn in_order(words: Words) -> [u8; LANES] {
    let bytes = each!(Q in 2: _mm512_cvtepi16_epi8(words[Q]));
    // SAFETY: as many bytes, whatever they are.
    unsafe { transmute::<[__m256i; 2], [u8; LANES]>(bytes) }
}

/// Stores codes, one in each byte.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn store(codes: Words, to: &mut [u8], at: usize) {
    to.as_chunks_mut().0[at] = in_order(codes);
}

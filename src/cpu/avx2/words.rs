//! Words of 16 bits, and registers of bytes and f32s.
//!
//! The f32s of a part are in registers a, b, c and d. Word 2 i of the first register of words is of
//! number i in a, word 2 i + 1 of number i in b; the second register has those of c and d. So f32s
//! become words, and words f32s, by a shift, a mask or a blend, and nothing changes its place; only
//! bytes, as they are in memory, are brought to that order, and back.

use super::{Floats, PART};
use crate::cpu::registers::lanes::{LANES, each};
use crate::noise::Noise;
use core::arch::x86_64::*;
use core::mem::transmute;

pub type Words = [__m256i; 2];

/// Returns bytes whose every four are those of one number in a, c, b and d, from bytes in the order
/// of memory, or the other way round.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn turned(bytes: __m256i) -> __m256i {
    let in_rows = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 2, 6, 1, 5, 3, 7));
    _mm256_shuffle_epi8(in_rows, transposing())
}

/// The places of sixteen bytes as rows of four, when rows become columns, in each half.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn transposing() -> __m256i {
    let columns = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm256_broadcastsi128_si256(columns)
}

/// Returns the bytes of a part, in the order of words: lower bytes of the first register's words,
/// and upper bytes of those of the second.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn bytes(from: &[u8; LANES], part: usize) -> __m256i {
    // SAFETY: as many bytes, of which a register holds any.
    turned(unsafe { transmute::<[u8; PART], __m256i>(from.as_chunks().0[part]) })
}

/// Returns codes of words as the bytes of a part, in the order of memory.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn in_order(codes: Words) -> __m256i {
    let bytes = _mm256_or_si256(codes[0], _mm256_slli_epi16::<8>(codes[1]));
    let in_rows = _mm256_shuffle_epi8(bytes, transposing());
    _mm256_permutevar8x32_epi32(in_rows, _mm256_setr_epi32(0, 4, 2, 6, 1, 5, 3, 7))
}

/// Stores codes, one in each byte.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn store(codes: Words, to: &mut [u8; LANES], part: usize) {
    // SAFETY: as many bytes, whatever they are.
    let bytes = unsafe { transmute::<__m256i, [u8; PART]>(in_order(codes)) };
    to.as_chunks_mut().0[part] = bytes;
}

/// Returns the f32s of which words are the upper halves, and whose lower halves are 0.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn floats(words: Words) -> Floats {
    let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    let even = each!(Q in 2: _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words[Q])));
    let odd = each!(Q in 2: _mm256_castsi256_ps(_mm256_and_si256(words[Q], upper)));
    Floats::new([even[0], odd[0], even[1], odd[1]])
}

/// Returns the upper halves of 32 bits each.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn upper_halves(bits: [__m256i; 4]) -> Words {
    each!(Q in 2: {
        _mm256_blend_epi16::<0xaa>(_mm256_srli_epi32::<16>(bits[2 * Q]), bits[2 * Q + 1])
    })
}

/// Returns the random bits of a part.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn random(noise: Noise) -> [__m256i; 4] {
    let mut words = [0; PART];
    for (place, word) in (0..).zip(&mut words) {
        *word = noise.word(place);
    }
    // SAFETY: as many bytes, of which a register holds any.
    unsafe { transmute::<[u32; PART], [__m256i; 4]>(words) }
}

/// Returns f32s in which no 0 has a sign.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn without_negative_0(wide: Floats) -> Floats {
    wide + Floats::splat(0.0)
}

//! Words of 16 bits, and registers of bytes and f32s.
//!
//! The f32s of a part are in registers a, b, c and d. Word 2 i of the first register of words is of
//! number i in a, word 2 i + 1 of number i in b; the second register has those of c and d. So f32s
//! become words, and words f32s, by a shift, a mask or a blend, and nothing changes its place; only
//! bytes, as they are in memory, are brought to that order, and back. Where 32 bits each become
//! bytes with no work on words of this order, they are packed twice: `fours`.

use super::{Floats, PART};
use crate::cpu::registers::lanes::each;
use crate::noise::Noise;
use core::arch::x86_64::*;
use core::mem::transmute;

pub type Words = [__m256i; 2];

/// Numbers of a register of words.
const N: usize = PART / 2;

/// Returns the bytes of a part as the lower halves of words.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn in_lower(from: &[u8], at: usize) -> Words {
    const LOWER: [i8; 2 * N] = places(0);
    moved(from, at, LOWER)
}

/// Returns the bytes of a part as the upper halves of words.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn in_upper(from: &[u8], at: usize) -> Words {
    const UPPER: [i8; 2 * N] = places(1);
    moved(from, at, UPPER)
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn moved(from: &[u8], at: usize, places: [i8; 2 * N]) -> Words {
    let from = from.as_chunks::<PART>().0[at].as_chunks().0;
    // SAFETY: as many bytes, of which a register holds any.
    let places = unsafe { transmute::<[i8; 2 * N], __m256i>(places) };
    each!(Q in 2: _mm256_shuffle_epi8(twice(&from[Q]), places))
}

/// Returns sixteen bytes in both halves.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn twice(bytes: &[u8; N]) -> __m256i {
    // SAFETY: as many bytes, of which a register holds any.
    _mm256_broadcastsi128_si256(unsafe { transmute::<[u8; N], __m128i>(*bytes) })
}

/// Returns the places of bytes that become a half of each word; the other half is 0.
const fn places(half: usize) -> [i8; 2 * N] {
    let mut places = [-1; 2 * N];
    let mut word = 0;
    while word < N {
        places[2 * word + half] = (word / 2 + word % 2 * 8) as i8;
        word += 1;
    }
    places
}

/// Returns bytes, packed from words, in the order of memory.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn from_words(bytes: __m256i) -> __m256i {
    let places = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
    from_fours(_mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(places)))
}

/// Returns bytes, packed from words that were packed from 32 bits, in the order of memory.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn from_fours(bytes: __m256i) -> __m256i {
    _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
}

/// Returns signed words of 32 bits as the nearest that there are of 8, in fours: 0 for 0 only.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn limited(bits: [__m256i; 4]) -> __m256i {
    let words = each!(Q in 2: _mm256_packs_epi32(bits[2 * Q], bits[2 * Q + 1]));
    _mm256_packs_epi16(words[0], words[1])
}

/// Stores codes, one in each byte.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn store(codes: __m256i, to: &mut [u8], at: usize) {
    // SAFETY: as many bytes, whatever they are.
    let bytes = unsafe { transmute::<__m256i, [u8; PART]>(codes) };
    to.as_chunks_mut().0[at] = bytes;
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

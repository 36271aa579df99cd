//! Codes of 8 bits, thirty-two at once.

use super::Floats;
use super::words::{
    Words, floats, from_fours, from_words, in_lower, in_upper, limited, random, upper_halves,
    without_negative_0,
};
use crate::codes::{DROPPED, unsigned};
use crate::cpu::registers::lanes::each;
use crate::cpu::registers::words::{DROPPED_OF_WORD, bias, knee};
use crate::noise::Noise;
use core::arch::x86_64::*;

/// Places by which the codes in lower and in upper bytes of words move to where words have them.
const UP: i32 = DROPPED_OF_WORD as i32;
const DOWN: i32 = 8 - UP;

/// Returns what the codes of both moments stand for, beside their scales.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn decode([first, second]: [&[u8]; 2], at: usize) -> [Floats; 2] {
    [signed(in_upper(first, at)), unsigned(in_lower(second, at))]
}

/// See `signed::decode`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn signed(codes: Words) -> Floats {
    let mask = _mm256_set1_epi16(0x7f << DROPPED_OF_WORD);
    let upper = each!(Q in 2: _mm256_srli_epi16::<DOWN>(codes[Q]));
    let words = magnitudes::<127>(each!(Q in 2: _mm256_and_si256(upper[Q], mask)));
    let sign = _mm256_set1_epi16(i16::MIN);
    floats(each!(Q in 2: _mm256_or_si256(words[Q], _mm256_and_si256(codes[Q], sign))))
}

/// See `unsigned::decode`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn unsigned(codes: Words) -> Floats {
    floats(magnitudes::<255>(each!(Q in 2: _mm256_slli_epi16::<UP>(codes[Q]))))
}

/// See `Taper::decode`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn magnitudes<const TOP: u32>(upper: Words) -> Words {
    // Half of the sum: the mean, rounded up, of two numbers that are together 1 less.
    let less = _mm256_set1_epi16(const { bias::<TOP>() - 1 });
    let above = each!(Q in 2: _mm256_avg_epu16(upper[Q], less));
    let less = _mm256_set1_epi16(const { bias::<TOP>() - knee::<TOP>() });
    let below = each!(Q in 2: _mm256_add_epi16(upper[Q], less));
    // 0 where the code is 0
    each!(Q in 2: _mm256_sign_epi16(_mm256_min_epu16(above[Q], below[Q]), upper[Q]))
}

/// See `signed::encode`. A code drops so many bits that the lower halves do not round it, not even
/// if the product is a little more than 1.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn encode_signed(wide: Floats, inverse_scale: f32) -> __m256i {
    let scaled = without_negative_0(wide) * Floats::splat(inverse_scale);
    let words = upper_halves(scaled.bits());
    let magnitude = _mm256_set1_epi16(0x7fff);
    let magnitudes = each!(Q in 2: _mm256_and_si256(words[Q], magnitude));
    let knee = _mm256_set1_epi16(const { knee::<127>() });
    let larger = each!(Q in 2: _mm256_max_epu16(magnitudes[Q], knee));
    let sums = each!(Q in 2: _mm256_add_epi16(magnitudes[Q], larger[Q]));
    let less = _mm256_set1_epi16(const { bias::<127>() - (1 << (DROPPED_OF_WORD - 1)) });
    let codes = each!(Q in 2: _mm256_subs_epu16(sums[Q], less));
    let codes = each!(Q in 2: _mm256_srli_epi16::<UP>(codes[Q]));
    // A word below 0 is less than any byte.
    let signs = _mm256_packs_epi16(words[0], words[1]);
    let signs = _mm256_and_si256(signs, _mm256_set1_epi8(i8::MIN));
    from_words(_mm256_or_si256(_mm256_packus_epi16(codes[0], codes[1]), signs))
}

/// See `unsigned::encode_randomly`. Where the largest, times the reciprocal, is a little more than
/// 1, the word may be more than 255, which is packed for it.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn encode_unsigned(wide: Floats, inverse_scale: f32, noise: Noise) -> __m256i {
    const SHIFT: i32 = 32 - DROPPED as i32;
    let noise = random(noise);
    let up = each!(Q in 4: _mm256_srli_epi32::<SHIFT>(noise[Q]));
    let bits = (wide * Floats::splat(inverse_scale)).bits();
    let knee = _mm256_set1_epi32(unsigned::Magnitude::KNEE as i32);
    let sums = each!(Q in 4: _mm256_add_epi32(bits[Q], _mm256_max_epi32(bits[Q], knee)));
    let sums = each!(Q in 4: _mm256_add_epi32(sums[Q], up[Q]));
    let codes = each!(Q in 4: _mm256_srli_epi32::<{ DROPPED as i32 }>(sums[Q]));
    let words = each!(Q in 2: _mm256_packus_epi32(codes[2 * Q], codes[2 * Q + 1]));
    let bias = _mm256_set1_epi16(unsigned::Magnitude::BIAS as i16);
    let codes = each!(Q in 2: _mm256_subs_epu16(words[Q], bias));
    let codes = _mm256_packus_epi16(codes[0], codes[1]);
    // 0 where the value is 0, and only there
    let codes = _mm256_max_epu8(codes, _mm256_set1_epi8(1));
    from_fours(_mm256_sign_epi8(codes, limited(wide.bits())))
}

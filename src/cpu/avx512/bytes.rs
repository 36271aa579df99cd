//! Codes of 8 bits, sixty-four at once.

use super::Floats;
use super::words::{Words, floats, joined, mixed, random, upper_halves, words};
use crate::codes::{DROPPED, ONE, unsigned};
use crate::cpu::registers::lanes::{LANES, each};
use crate::cpu::registers::words::{DROPPED_OF_WORD, bias, knee};
use crate::noise::Noise;
use core::arch::x86_64::*;

/// Returns what the codes of both moments stand for, beside their scales.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn decode(codes: [&[u8]; 2], at: usize) -> [Floats; 2] {
    let [first, second] = codes.map(|codes| &codes.as_chunks().0[at]);
    [decode_signed(first), decode_unsigned(second)]
}

/// See `signed::decode`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn decode_signed(codes: &[u8; LANES]) -> Floats {
    let codes = words(_mm512_setzero_si512(), mixed(codes));
    let magnitude = _mm512_set1_epi16(0x7f << DROPPED_OF_WORD);
    let upper = each!(Q in 2: _mm512_srli_epi16::<{ 8 - DROPPED_OF_WORD }>(codes[Q]));
    let upper = each!(Q in 2: _mm512_and_si512(upper[Q], magnitude));
    let magnitudes = magnitudes::<127>(upper);
    let sign = _mm512_set1_epi16(i16::MIN);
    // magnitude | codes & sign
    floats(each!(Q in 2: _mm512_ternarylogic_epi32::<0xf8>(magnitudes[Q], codes[Q], sign)))
}

/// See `unsigned::decode`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn decode_unsigned(codes: &[u8; LANES]) -> Floats {
    let codes = words(mixed(codes), _mm512_setzero_si512());
    floats(magnitudes::<255>(each!(Q in 2: _mm512_slli_epi16::<DROPPED_OF_WORD>(codes[Q]))))
}

/// See `Taper::decode`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn magnitudes<const TOP: u32>(upper: Words) -> Words {
    let is_some = each!(Q in 2: _mm512_test_epi16_mask(upper[Q], upper[Q]));
    // Half of the sum: the mean, rounded up, of two numbers that are together 1 less.
    let less = _mm512_set1_epi16(const { bias::<TOP>() - 1 });
    let above = each!(Q in 2: _mm512_avg_epu16(upper[Q], less));
    let less = _mm512_set1_epi16(const { bias::<TOP>() - knee::<TOP>() });
    let below = each!(Q in 2: _mm512_add_epi16(upper[Q], less));
    each!(Q in 2: _mm512_maskz_min_epu16(is_some[Q], above[Q], below[Q]))
}

/// See `signed::encode`. A code drops so many bits that the lower halves do not round it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub fn encode_signed(wide: Floats, inverse_scale: f32) -> Words {
    let zero = _mm512_setzero_ps();
    let values = wide.registers();
    let is_negative = joined(each!(Q in 4: _mm512_cmp_ps_mask::<_CMP_LT_OQ>(values[Q], zero)));
    let words = upper_halves((wide * Floats::splat(inverse_scale)).bits());
    let magnitude = _mm512_set1_epi16(0x7fff);
    let words = each!(Q in 2: _mm512_and_si512(words[Q], magnitude));
    let knee = _mm512_set1_epi16(const { knee::<127>() });
    let sums = each!(Q in 2: _mm512_add_epi16(words[Q], _mm512_max_epu16(words[Q], knee)));
    let less = _mm512_set1_epi16(const { bias::<127>() - (1 << (DROPPED_OF_WORD - 1)) });
    let codes = each!(Q in 2: _mm512_subs_epu16(sums[Q], less));
    let codes = each!(Q in 2: _mm512_srli_epi16::<DROPPED_OF_WORD>(codes[Q]));
    let codes = each!(Q in 2: _mm512_min_epu16(codes[Q], _mm512_set1_epi16(127)));
    let sign = _mm512_set1_epi16(0x80);
    each!(Q in 2: _mm512_mask_add_epi16(codes[Q], is_negative[Q], codes[Q], sign))
}

/// See `unsigned::encode_randomly`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub fn encode_unsigned(wide: Floats, inverse_scale: f32, noise: Noise) -> Words {
    const SHIFT: u32 = 32 - DROPPED;
    let noise = random(noise);
    let up = each!(Q in 4: _mm512_srli_epi32::<SHIFT>(noise[Q]));
    let zero = _mm512_setzero_ps();
    let values = wide.registers();
    let is_some = joined(each!(Q in 4: _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(values[Q], zero)));
    let bits = (wide * Floats::splat(inverse_scale)).bits();
    let one = _mm512_set1_epi32(ONE as i32);
    let bits = each!(Q in 4: _mm512_min_epu32(bits[Q], one));
    let knee = _mm512_set1_epi32(unsigned::Magnitude::KNEE as i32);
    let sums = each!(Q in 4: _mm512_add_epi32(bits[Q], _mm512_max_epu32(bits[Q], knee)));
    let words = upper_halves(each!(Q in 4: _mm512_add_epi32(sums[Q], up[Q])));
    let bias = _mm512_set1_epi16(const { bias::<255>() });
    let codes = each!(Q in 2: _mm512_subs_epu16(words[Q], bias));
    let least = _mm512_set1_epi16(1 << DROPPED_OF_WORD);
    let codes = each!(Q in 2: _mm512_max_epu16(codes[Q], least));
    each!(Q in 2: _mm512_maskz_srli_epi16::<{ DROPPED_OF_WORD as i32 }>(is_some[Q], codes[Q]))
}

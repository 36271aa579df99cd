//! Codes of 4 bits, sixty-four at once: those of a half of a block.

use super::Floats;
use super::words::{
    Words, floats, in_order, joined, mixed, random, store as store_bytes, upper_halves, words,
};
use crate::codes::ONE;
use crate::codes::nibbles::{BIAS_SIGNED, BIAS_UNSIGNED, FRACTION, SIGN, SMALLEST};
use crate::cpu::registers::lanes::{LANES, each};
use crate::cpu::registers::words::{FRACTION_OF_WORD, SIGNED, Table, UNSIGNED};
use crate::noise::Noise;
use core::arch::x86_64::*;
use core::mem::transmute;

/// Returns what the codes of a half of a block stand for, beside their scales.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn decode(codes: [&[u8]; 2], half: usize, at: usize) -> [Floats; 2] {
    let [first, second] = codes.map(|codes| &codes.as_chunks().0[at]);
    [decode_half(&SIGNED, first, half), decode_half(&UNSIGNED, second, half)]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn decode_half([lower, upper]: &[Table; 2], codes: &[u8; LANES], half: usize) -> Floats {
    let codes = mixed(codes);
    let codes = if half == 0 { codes } else { _mm512_srli_epi16::<4>(codes) };
    let codes = _mm512_and_si512(codes, _mm512_set1_epi8(0xf));
    let lower = _mm512_shuffle_epi8(four_times(lower), codes);
    let upper = _mm512_shuffle_epi8(four_times(upper), codes);
    floats(words(lower, upper))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn four_times(table: &Table) -> __m512i {
    // SAFETY: as many bytes, of which a register holds any.
    _mm512_broadcast_i32x4(unsafe { transmute::<Table, __m128i>(*table) })
}

/// See `nibbles::encode_signed`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub fn encode_signed(wide: Floats, inverse_scale: f32, noise: Noise) -> Words {
    let zero = _mm512_setzero_ps();
    let values = wide.registers();
    let is_negative = joined(each!(Q in 4: _mm512_cmp_ps_mask::<_CMP_LT_OQ>(values[Q], zero)));
    let bits = (wide * Floats::splat(inverse_scale)).bits();
    let magnitude = _mm512_set1_epi32(0x7fff_ffff);
    let bits = each!(Q in 4: _mm512_and_si512(bits[Q], magnitude));
    let smallest = Floats::splat(const { f32::from_bits(SMALLEST) });
    let lifted = Floats::new(each!(Q in 4: _mm512_castsi512_ps(bits[Q]))) + smallest;
    let octave = _mm512_set1_epi32(1 << FRACTION);
    let lifted = each!(Q in 4: _mm512_sub_epi32(lifted.bits()[Q], octave));
    // What is lifted is the mean of the magnitude and the smallest: larger where that is less.
    let bits = each!(Q in 4: _mm512_max_epu32(bits[Q], lifted[Q]));
    let codes = octaves(bits, noise);
    let codes = each!(Q in 2: _mm512_sub_epi16(codes[Q], _mm512_set1_epi16(BIAS_SIGNED as i16)));
    let sign = _mm512_set1_epi16(SIGN as i16);
    each!(Q in 2: _mm512_mask_add_epi16(codes[Q], is_negative[Q], codes[Q], sign))
}

/// See `nibbles::encode_unsigned`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq")]
pub fn encode_unsigned(wide: Floats, inverse_scale: f32, noise: Noise) -> Words {
    let zero = _mm512_setzero_ps();
    let values = wide.registers();
    let is_some = joined(each!(Q in 4: _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(values[Q], zero)));
    // A sign, which only a NaN has, is cut off with what is larger than 1.
    let codes = octaves((wide * Floats::splat(inverse_scale)).bits(), noise);
    let least = _mm512_set1_epi16(BIAS_UNSIGNED as i16 + 1);
    let codes = each!(Q in 2: _mm512_max_epu16(codes[Q], least));
    let bias = _mm512_set1_epi16(BIAS_UNSIGNED as i16);
    each!(Q in 2: _mm512_maskz_sub_epi16(is_some[Q], codes[Q], bias))
}

/// See `nibbles::octave`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn octaves(bits: [__m512i; 4], noise: Noise) -> Words {
    const SHIFT: u32 = 32 - FRACTION;
    let noise = random(noise);
    let one = _mm512_set1_epi32(ONE as i32);
    let bits = each!(Q in 4: _mm512_min_epu32(bits[Q], one));
    let sums = each!(Q in 4: {
        _mm512_add_epi32(bits[Q], _mm512_srli_epi32::<SHIFT>(noise[Q]))
    });
    let words = upper_halves(sums);
    each!(Q in 2: _mm512_srli_epi16::<FRACTION_OF_WORD>(words[Q]))
}

/// Stores the codes of a half of a block: the first one over what was there, the other beside it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub fn store(codes: Words, half: usize, to: &mut [u8], at: usize) {
    if half == 0 {
        return store_bytes(codes, to, at);
    }
    let upper = in_order(each!(Q in 2: _mm512_slli_epi16::<4>(codes[Q])));
    for (both, upper) in to.as_chunks_mut::<LANES>().0[at].iter_mut().zip(upper) {
        *both |= upper;
    }
}

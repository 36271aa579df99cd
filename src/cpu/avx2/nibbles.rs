//! Codes of 4 bits, thirty-two at once.

use super::words::{
    Words, floats, from_fours, in_lower, limited, random, store as store_bytes, twice,
    without_negative_0,
};
use super::{Floats, PART};
use crate::codes::nibbles::{BIAS_SIGNED, BIAS_UNSIGNED, FRACTION, SIGN, SMALLEST};
use crate::cpu::registers::lanes::each;
use crate::cpu::registers::words::{SIGNED, Table, UNSIGNED};
use crate::noise::Noise;
use core::arch::x86_64::*;
use core::mem::transmute;

/// Returns what the codes of a half of a block stand for, beside their scales.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn decode([first, second]: [&[u8]; 2], half: usize, at: usize) -> [Floats; 2] {
    [
        decode_half(&SIGNED, in_lower(first, at), half),
        decode_half(&UNSIGNED, in_lower(second, at), half),
    ]
}

/// A code of 0 stands for 0, so that the halves of words that have no code become 0.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn decode_half([lower, upper]: &[Table; 2], codes: Words, half: usize) -> Floats {
    let code = _mm256_set1_epi16(0xf);
    let codes = match half {
        0 => codes,
        _ => each!(Q in 2: _mm256_srli_epi16::<4>(codes[Q])),
    };
    let codes = each!(Q in 2: _mm256_and_si256(codes[Q], code));
    let lower = each!(Q in 2: _mm256_shuffle_epi8(twice(lower), codes[Q]));
    let codes = each!(Q in 2: _mm256_slli_epi16::<8>(codes[Q]));
    let upper = each!(Q in 2: _mm256_shuffle_epi8(twice(upper), codes[Q]));
    floats(each!(Q in 2: _mm256_or_si256(lower[Q], upper[Q])))
}

/// See `nibbles::encode_signed`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn encode_signed(wide: Floats, inverse_scale: f32, noise: Noise) -> __m256i {
    let scaled = (without_negative_0(wide) * Floats::splat(inverse_scale)).bits();
    let magnitude = _mm256_set1_epi32(0x7fff_ffff);
    let bits = each!(Q in 4: _mm256_and_si256(scaled[Q], magnitude));
    let smallest = Floats::splat(const { f32::from_bits(SMALLEST) });
    let lifted = Floats::new(each!(Q in 4: _mm256_castsi256_ps(bits[Q]))) + smallest;
    let octave = _mm256_set1_epi32(1 << FRACTION);
    let lifted = each!(Q in 4: _mm256_sub_epi32(lifted.bits()[Q], octave));
    // What is lifted is the mean of the magnitude and the smallest: larger where that is less.
    let codes = octaves(each!(Q in 4: _mm256_max_epi32(bits[Q], lifted[Q])), noise);
    let codes = within::<BIAS_SIGNED, 7>(codes);
    // Bits below 0 are less than any byte.
    let signs = _mm256_srli_epi16::<4>(limited(scaled));
    let signs = _mm256_and_si256(signs, _mm256_set1_epi8(SIGN as i8));
    from_fours(_mm256_or_si256(codes, signs))
}

/// See `nibbles::encode_unsigned`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn encode_unsigned(wide: Floats, inverse_scale: f32, noise: Noise) -> __m256i {
    let bits = (wide * Floats::splat(inverse_scale)).bits();
    let codes = within::<BIAS_UNSIGNED, 15>(octaves(bits, noise));
    // 0 where the value is 0, and only there
    let codes = _mm256_max_epu8(codes, _mm256_set1_epi8(1));
    from_fours(_mm256_sign_epi8(codes, limited(wide.bits())))
}

/// See `nibbles::octave`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn octaves(bits: [__m256i; 4], noise: Noise) -> __m256i {
    const SHIFT: i32 = 32 - FRACTION as i32;
    let noise = random(noise);
    let up = each!(Q in 4: _mm256_srli_epi32::<SHIFT>(noise[Q]));
    let sums = each!(Q in 4: _mm256_add_epi32(bits[Q], up[Q]));
    let octaves = each!(Q in 4: _mm256_srli_epi32::<{ FRACTION as i32 }>(sums[Q]));
    let words = each!(Q in 2: _mm256_packus_epi32(octaves[2 * Q], octaves[2 * Q + 1]));
    _mm256_packus_epi16(words[0], words[1])
}

/// Returns the codes of octaves. The largest magnitude, times the reciprocal, may be a little more
/// than 1.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn within<const BIAS: u32, const TOP: i8>(octaves: __m256i) -> __m256i {
    let codes = _mm256_subs_epu8(octaves, _mm256_set1_epi8(BIAS as i8));
    _mm256_min_epu8(codes, _mm256_set1_epi8(TOP))
}

/// Stores the codes of a half of a block: the first one over what was there, the other beside it.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn store(codes: __m256i, half: usize, to: &mut [u8], at: usize) {
    if half == 0 {
        return store_bytes(codes, to, at);
    }
    let upper = _mm256_slli_epi16::<4>(codes);
    // SAFETY: as many bytes, whatever they are.
    let upper = unsafe { transmute::<__m256i, [u8; PART]>(upper) };
    for (both, upper) in to.as_chunks_mut::<PART>().0[at].iter_mut().zip(upper) {
        *both |= upper;
    }
}

//! Moments in 4 bits: blocks of 128 elements with one f32 scale, their largest magnitude.
//!
//! A code is the number of an octave: a magnitude, divided by the scale, is rounded at random to
//! the power of 2 above or below, and the code is the exponent of that f32 less a bias.
//! `encode_signed` (first moments) has a sign and 7 octaves, `encode_unsigned` (second moments) has
//! 15; both round by `octave`. `decode_signed` and `decode_unsigned` make the power of 2 by
//! `magnitude`.
//!
//! Byte i of a block has the code of element i in its low half and that of element i + 64 in its
//! high half, so that each half is a run of elements. `cpu/coded.rs` puts them together and takes
//! them apart.
#![forbid(unsafe_code)]

use super::ONE;

/// Elements that share a scale.
pub const BLOCK: usize = 128;
/// Bytes of a block, whether it is whole or not.
pub const BYTES: usize = BLOCK / 2;

/// Bits of the fraction of an f32, all of which a code drops.
pub const FRACTION: u32 = f32::MANTISSA_DIGITS - 1;
/// The number that is added to a code to make it an exponent, so that the largest code means 1.
pub const BIAS_SIGNED: u32 = (ONE >> FRACTION) - 7;
pub const BIAS_UNSIGNED: u32 = (ONE >> FRACTION) - 15;
/// The smallest magnitude of the first moment above 0.
pub const SMALLEST: u32 = (BIAS_SIGNED + 1) << FRACTION;
pub const SIGN: u8 = 8;

/// Returns the value of a code of the first moment: a sign, and 0 or one of 7 octaves.
#[inline(always)]
pub const fn decode_signed(code: u8) -> f32 {
    f32::from_bits(magnitude((code & 7) as u32, BIAS_SIGNED) | ((code & SIGN) as u32) << 28)
}

/// Returns the value of a code of the second moment: 0 or one of 15 octaves.
#[inline(always)]
pub const fn decode_unsigned(code: u8) -> f32 {
    f32::from_bits(magnitude(code as u32, BIAS_UNSIGNED))
}

#[inline(always)]
const fn magnitude(code: u32, bias: u32) -> u32 {
    if code == 0 { 0 } else { (code + bias) << FRACTION }
}

/// Returns the code above or below the value, at random, so that the mean is the value. `noise` is
/// 32 random bits.
#[inline(always)]
pub fn encode_signed(value: f32, inverse_scale: f32, noise: u32) -> u8 {
    let bits = (value * inverse_scale).to_bits() & 0x7fff_ffff;
    // The step from 0 to the smallest is as long as the octave above: a magnitude in it is lifted
    // into that octave, rounded there, and brought back.
    let lifted = (f32::from_bits(bits) + f32::from_bits(SMALLEST)).to_bits() - (1 << FRACTION);
    let code = octave(if bits < SMALLEST { lifted } else { bits }, noise) - BIAS_SIGNED;
    // Processors differ in the sign of a NaN.
    code as u8 | if value < 0.0 { SIGN } else { 0 }
}

/// Returns the code above or below the value, at random, so that the mean is the value. Only 0 has
/// the code 0, because the second moment is in a divisor.
#[inline(always)]
pub fn encode_unsigned(value: f32, inverse_scale: f32, noise: u32) -> u8 {
    let bits = (value * inverse_scale).to_bits() & 0x7fff_ffff;
    let code = octave(bits, noise).max(BIAS_UNSIGNED + 1) - BIAS_UNSIGNED;
    // The product may be too small for an f32, so that the value is asked.
    (if value == 0.0 { 0 } else { code }) as u8
}

/// Returns the exponent of a magnitude rounded to a power of 2, at most 1.
#[inline(always)]
fn octave(bits: u32, noise: u32) -> u32 {
    (bits.min(ONE) + (noise >> (32 - FRACTION))) >> FRACTION
}

#[cfg(test)]
mod tests {
    use super::super::scale;
    use super::*;

    #[test]
    fn every_code_comes_back_whatever_the_noise() {
        for scale in [1.0, 3.7e-9, 1e30, 1e-28] {
            for noise in [0, 1 << 16, 1 << 31] {
                for code in 0..16u8 {
                    let inverse = 1.0 / scale;
                    let value = decode_unsigned(code) * scale;
                    // A scale's reciprocal is rounded, so that the product may be a little less
                    // than 1.
                    let near = if noise == 0 { f32::EPSILON * 2.0 } else { 0.0 };
                    let back = encode_unsigned(value * (1.0 + near), inverse, noise);
                    assert_eq!(back, code, "{code} of {scale:e}");
                    let value = decode_signed(code) * scale;
                    let back = encode_signed(value * (1.0 + near), inverse, noise);
                    let expected = if code == SIGN { 0 } else { code }; // what is 0 has no sign
                    assert_eq!(back, expected, "{code} of {scale:e}");
                }
            }
        }
    }

    #[test]
    fn codes_are_octaves_up_to_the_scale() {
        assert_eq!((decode_unsigned(0), decode_signed(0)), (0.0, 0.0));
        for code in 1..16u8 {
            assert_eq!(decode_unsigned(code), f32::exp2(f32::from(code) - 15.0));
        }
        for code in 1..8u8 {
            assert_eq!(decode_signed(code), f32::exp2(f32::from(code) - 7.0));
            assert_eq!(decode_signed(code | SIGN), -decode_signed(code));
        }
    }

    /// Every 250,007th f32 from the smallest to 1.
    fn sweep() -> impl Iterator<Item = f32> {
        (1..=1.0f32.to_bits()).step_by(250_007).map(f32::from_bits)
    }

    fn mean(decoded: impl Fn(u32) -> f32) -> f64 {
        (0..0x1_0000).map(|noise| f64::from(decoded(noise << 16))).sum::<f64>() / 65_536.0
    }

    #[test]
    fn a_code_is_one_of_the_two_neighbours_and_right_on_average() {
        for value in sweep() {
            for sign in [1.0, -1.0] {
                let decoded = |noise| decode_signed(encode_signed(value * sign, 1.0, noise));
                // 16 bits of noise cannot tell more apart, of a gap that is the value at most, or
                // 1/64.
                let bound = f64::from(value.max(1.0 / 64.0)) / 65_536.0;
                assert!((mean(decoded) - f64::from(value * sign)).abs() <= bound, "{value:e}");
                let (least, most) = (decoded(0).abs(), decoded(u32::MAX).abs());
                let gap = if least == 0.0 { 1.0 / 64.0 } else { least };
                assert!(least <= value && (most == least || most == least + gap), "{value:e}");
            }
            let decoded = |noise| decode_unsigned(encode_unsigned(value, 1.0, noise));
            if value >= decode_unsigned(1) {
                let bound = f64::from(value) / 65_536.0;
                assert!((mean(decoded) - f64::from(value)).abs() <= bound, "{value:e}");
                let (least, most) = (decoded(0), decoded(u32::MAX));
                assert!(least <= value && (most == least || most == least * 2.0), "{value:e}");
            } else {
                assert_eq!([decoded(0), decoded(u32::MAX)], [decode_unsigned(1); 2], "{value:e}");
            }
        }
    }

    #[test]
    fn no_second_moment_but_zero_becomes_zero() {
        let (_, inverse) = scale(f32::MAX.to_bits());
        for value in [f32::from_bits(1), 1e-30, 1.0] {
            for noise in [0, u32::MAX] {
                assert!(encode_unsigned(value, inverse, noise) > 0, "{value:e}");
            }
        }
        assert_eq!(encode_unsigned(0.0, inverse, u32::MAX), 0);
    }

    #[test]
    fn what_is_not_a_number_has_the_largest_code() {
        for noise in [0, u32::MAX] {
            assert_eq!(encode_signed(f32::NAN, 1.0, noise), 7);
            assert_eq!(encode_unsigned(f32::NAN, 1.0, noise), 15);
            assert_eq!(encode_signed(f32::INFINITY, 0.0, noise), 7);
        }
    }
}

//! Moments in 8 bits: blocks of 256 elements with one f32 scale, their largest magnitude.
//!
//! `cpu/coded.rs` encodes a block: it finds the largest magnitude, `scale` returns the scale and
//! its reciprocal, and `signed::encode` (first moments), `unsigned::encode` (maxima) or
//! `unsigned::encode_randomly` (second moments) makes a code of each element. To decode, it
//! multiplies the number that `signed::decode` or `unsigned::decode` returns by the scale.
//!
//! A code is a tapered float: counted down from 1, it has sixteen values to an octave as far as a
//! knee, and eight below it. `Taper` makes it of the upper bits of an f32 by integer arithmetic,
//! which vectorizes. `docs/quantization.md` compares it with other codes.
#![forbid(unsafe_code)]

pub mod nibbles;

/// Elements that share a scale.
pub const BLOCK: usize = 256;

/// A tensor of fewer elements is not worth coding.
pub const MIN_ELEMENTS: u64 = 4096;

/// Bits of an f32 that a code drops: three of the fraction stay.
pub const DROPPED: u32 = 20;
pub const ONE: u32 = 1.0f32.to_bits();

/// Magnitudes as codes from 0 to `TOP`, which means 1; the upper half of them lies above the knee.
///
/// A code is the upper part of a sum of bits: those of the magnitude, and those of the larger of
/// the magnitude and the knee. So its slope doubles from the knee on.
pub struct Taper<const TOP: u32>;

impl<const TOP: u32> Taper<TOP> {
    /// The bits of the knee.
    pub const KNEE: u32 = ONE - ((TOP.div_ceil(2)) << (DROPPED - 1));
    /// What a code is less than the upper part of the sum.
    pub const BIAS: u32 = ((2 * ONE) >> DROPPED) - TOP;

    /// Returns the bits of the magnitude that a code means.
    #[inline(always)]
    fn decode(code: u32) -> u32 {
        let sum = (code + Self::BIAS) << DROPPED;
        let bits = (sum >> 1).min(sum - Self::KNEE);
        if code == 0 { 0 } else { bits }
    }

    /// Returns the code of a magnitude's bits, at least `least`; `up` of the bits that are dropped
    /// are added first.
    #[inline(always)]
    fn encode(bits: u32, up: u32, least: u32) -> u32 {
        let bits = bits.min(ONE);
        let sum = bits + bits.max(Self::KNEE) + up;
        let above = sum.wrapping_sub(Self::BIAS << DROPPED) as i32;
        above.max((least << DROPPED) as i32) as u32 >> DROPPED
    }
}

const HALF: u32 = 1 << (DROPPED - 1);

/// Codes of the first moment: a sign and 7 bits. The knee lies 4 octaves below the scale, the end 8
/// octaves below the knee.
pub mod signed {
    use super::*;

    pub type Magnitude = Taper<127>;

    #[inline(always)]
    pub fn decode(code: u8) -> f32 {
        let magnitude = Magnitude::decode(code as u32 & 0x7f);
        f32::from_bits(magnitude | (code as u32 & 0x80) << 24)
    }

    /// Returns the nearest code, half away from 0; 0 for less than 19/20 of the smallest magnitude.
    #[inline(always)]
    pub fn encode(value: f32, inverse_scale: f32) -> u8 {
        let bits = (value * inverse_scale).to_bits() & 0x7fff_ffff;
        // Processors differ in the sign of a NaN.
        let sign = if value < 0.0 { 0x80 } else { 0 };
        (Magnitude::encode(bits, HALF, 0) | sign) as u8
    }
}

/// Codes of the second moment: 8 bits. The knee lies 8 octaves below the scale, the end 16 octaves
/// below the knee. Only 0 has the code 0, because the second moment is in a divisor.
pub mod unsigned {
    use super::*;

    pub type Magnitude = Taper<255>;

    #[inline(always)]
    pub fn decode(code: u8) -> f32 {
        f32::from_bits(Magnitude::decode(code as u32))
    }

    /// Returns the nearest code; half rounds up.
    #[inline(always)]
    pub fn encode(value: f32, inverse_scale: f32) -> u8 {
        rounded(value, inverse_scale, HALF)
    }

    /// Returns the code above or below the value, at random, so that the mean is the value. `noise`
    /// is 32 random bits.
    #[inline(always)]
    pub fn encode_randomly(value: f32, inverse_scale: f32, noise: u32) -> u8 {
        rounded(value, inverse_scale, noise >> (32 - DROPPED))
    }

    #[inline(always)]
    fn rounded(value: f32, inverse_scale: f32, up: u32) -> u8 {
        // It is not negative, but a NaN may have a sign.
        let code = Magnitude::encode((value * inverse_scale).to_bits(), up, 1);
        // The product may be too small for an f32, so that the value is asked.
        (if value == 0.0 { 0 } else { code }) as u8
    }
}

/// Returns the scale of a block whose largest magnitude has these bits, and its reciprocal. The
/// scale is a normal number, so that the reciprocal is finite; it is infinite or NaN if an element
/// is.
#[inline(always)]
pub fn scale(largest: u32) -> (f32, f32) {
    let scale = f32::from_bits(largest.max(f32::MIN_POSITIVE.to_bits()));
    (scale, 1.0 / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_the_nearest_of_what_it_stands_for() {
        for scale in [1.0, 3.7e-9, 1e30, 1e-28] {
            let inverse = 1.0 / scale;
            for code in 0..=255u8 {
                let value = unsigned::decode(code) * scale;
                assert_eq!(unsigned::encode(value, inverse), code, "{code} of {scale:e}");
                assert_eq!(unsigned::encode_randomly(value, inverse, 1 << 31), code, "{code}");
                let value = signed::decode(code) * scale;
                let expected = if code == 0x80 { 0 } else { code }; // what is 0 has no sign
                assert_eq!(signed::encode(value, inverse), expected, "{code} of {scale:e}");
            }
        }
    }

    #[test]
    fn codes_rise_with_what_they_stand_for_up_to_the_scale() {
        for code in 1..=255u8 {
            assert!(unsigned::decode(code) > unsigned::decode(code - 1));
        }
        for code in 1..=127u8 {
            assert!(signed::decode(code) > signed::decode(code - 1));
            assert_eq!(signed::decode(code | 0x80), -signed::decode(code));
        }
        assert_eq!((unsigned::decode(0), signed::decode(0)), (0.0, 0.0));
        assert_eq!((unsigned::decode(255), signed::decode(127)), (1.0, 1.0));
        assert_eq!((unsigned::decode(127), signed::decode(63)), (1.0 / 256.0, 1.0 / 16.0));
        let ends = (unsigned::decode(1) * 16_777_216.0, signed::decode(1) * 4096.0);
        assert_eq!(ends, (1.25, 1.25), "octaves below");
    }

    /// Every 251st f32 from the smallest to 1.
    fn sweep() -> impl Iterator<Item = f32> {
        (1..=1.0f32.to_bits()).step_by(251).map(f32::from_bits)
    }

    #[test]
    fn rounding_to_nearest_errs_by_a_32nd_above_the_knee_and_a_16th_below() {
        let smallest = [signed::decode(1), unsigned::decode(1)];
        for value in sweep() {
            let first = signed::decode(signed::encode(value, 1.0));
            let second = unsigned::decode(unsigned::encode(value, 1.0));
            let knees = [1.0 / 16.0, 1.0 / 256.0];
            for (i, decoded) in [first, second].into_iter().enumerate() {
                let smallest = smallest[i];
                let bound = match value {
                    _ if value >= knees[i] => value / 32.0,
                    _ if value >= smallest => value / 16.0,
                    _ => smallest,
                };
                let holds = (decoded - value).abs() <= bound;
                // A second moment below the smallest code is that code: larger, never 0.
                assert!(holds || decoded == smallest && value < smallest, "{value:e}: {decoded:e}");
            }
            assert!(second > 0.0, "{value:e}");
            assert_eq!(signed::encode(-value, 1.0) & 0x7f, signed::encode(value, 1.0));
        }
    }

    #[test]
    fn a_random_code_is_right_on_average() {
        for value in sweep().step_by(9973).filter(|value| *value >= unsigned::decode(1)) {
            let code = |noise: u32| {
                unsigned::decode(unsigned::encode_randomly(value, 1.0, noise << 16)) as f64
            };
            let mean = (0..0x1_0000).map(code).sum::<f64>() / 65_536.0;
            // 16 bits of noise cannot tell more apart, of a gap of an eighth at most.
            let bound = value as f64 / 8.0 / 65_536.0;
            assert!((mean - value as f64).abs() <= bound, "{value:e}: {mean:e}");
        }
    }

    #[test]
    fn a_scale_has_a_finite_reciprocal_wherever_it_is_finite() {
        for largest in [0, 1, 0x007f_ffff, 0x0080_0000, 0x3f80_0000, 0x7f7f_ffff] {
            let (scale, inverse) = scale(largest);
            assert!(scale.is_normal() && inverse.is_finite() && inverse > 0.0, "{largest:#x}");
            assert!(f32::from_bits(largest) * inverse <= 1.000_001);
        }
        assert!(scale(0x7fc0_0000).0.is_nan());
    }

    #[test]
    fn no_second_moment_but_zero_becomes_zero() {
        let (_, inverse) = scale(f32::MAX.to_bits());
        for value in [f32::from_bits(1), 1e-30, 1.0] {
            for noise in [0, u32::MAX] {
                assert!(unsigned::encode_randomly(value, inverse, noise) > 0, "{value:e}");
            }
        }
        assert_eq!(unsigned::encode_randomly(0.0, inverse, u32::MAX), 0);
    }
}

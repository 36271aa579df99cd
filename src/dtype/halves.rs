//! An f32 in two halves of 16 bits: `split` and `join` lose no bit of it, and `compensated` keeps
//! the rounding error.
#![forbid(unsafe_code)]

use super::{Bf16, Narrow, Widen, is_nan};

/// Returns the f32 of which a bf16 and its remainder are the halves: the remainder is the bits of
/// the f32 less those of the bf16.
#[inline(always)]
pub fn join(upper: Bf16, remainder: i16) -> f32 {
    f32::from_bits(((upper.0 as u32) << 16).wrapping_add(remainder as i32 as u32))
}

/// Returns the halves of an f32: the bf16 to which it rounds, half away from zero, and the signed
/// rest. Every f32 has one such pair; all NaN share one, because some would round beyond the last.
#[inline(always)]
pub fn split(wide: f32) -> (Bf16, i16) {
    let bits = wide.to_bits();
    let bits = if is_nan(bits) { 0x7fc0_0000 } else { bits };
    let upper = bits.wrapping_add(0x8000) >> 16;
    (Bf16(upper as u16), bits.wrapping_sub(upper << 16) as i16)
}

/// Returns a value rounded, and its rounding error rounded in turn: Kahan's compensation, which the
/// next step adds to the parameter first. The error of a value that rounds to infinity is 0.
#[inline(always)]
pub fn compensated<S: Widen<f32> + Narrow<f32>>(wide: f32) -> (S, S) {
    let upper = S::narrow(wide);
    (upper, S::narrow(left_over(wide, upper.widen())))
}

/// Returns what rounding has left over of a value.
#[inline(always)]
pub fn left_over(wide: f32, rounded: f32) -> f32 {
    if rounded.is_infinite() { 0.0 } else { wide - rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compensation_is_what_rounding_left_over() {
        for bits in (0..=u32::MAX).step_by(9973) {
            let wide = f32::from_bits(bits);
            let (rounded, rest) = compensated::<Bf16>(wide);
            assert_eq!(rounded, Bf16::narrow(wide));
            let (rounded, rest): (f32, f32) = (rounded.widen(), rest.widen());
            if rounded.is_infinite() {
                assert_eq!(rest, 0.0);
            } else if !wide.is_nan() && wide.abs() > 1e-30 {
                // Twice eight bits, but for the one that the sign of the rest is.
                assert!((rounded + rest - wide).abs() <= wide.abs() / 131_072.0, "{wide:e}");
            }
        }
    }

    #[test]
    fn a_dense_stride_of_all_f32_is_split_and_joined_without_loss() {
        for bits in (0..=u32::MAX).step_by(97).chain([u32::MAX, 0x7f7f_ffff, 0xff7f_ffff]) {
            let wide = f32::from_bits(bits);
            let (upper, remainder) = split(wide);
            let joined = join(upper, remainder);
            assert!(joined.to_bits() == bits || wide.is_nan() && joined.is_nan(), "{bits:#010x}");
            // The upper half is a bf16 next to it; only a tie may round another way than to even.
            let nearest = Bf16::narrow(wide).0;
            let is_tie = bits & 0xffff == 0x8000;
            assert!(upper.0 == nearest || is_tie && upper.0 == nearest + 1 || wide.is_nan());
        }
    }

    #[test]
    fn every_pair_that_split_makes_is_the_only_one() {
        for upper in 0..=u16::MAX {
            for remainder in [i16::MIN, -1, 0, 1, i16::MAX] {
                let wide = join(Bf16(upper), remainder);
                let is_one = split(wide) == (Bf16(upper), remainder);
                assert!(is_one || wide.is_nan(), "{upper:#06x} {remainder}");
            }
        }
    }
}

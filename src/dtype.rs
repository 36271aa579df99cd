//! Element types in memory, and the widening and narrowing of one element.
//!
//! `Dtype` names the types. `Widen` and `Narrow` carry an element to the compute type and back,
//! rounded to nearest even; `Bf16::narrow_randomly` rounds at random; `split` and `join` lose no
//! bit of an f32 in two halves, and `compensated` keeps the rounding error.
//!
//! 16-bit floats are widened and narrowed by integer arithmetic without branches, so that the
//! loops over them vectorize on every ISA (`half::f16`'s element methods do not) and give the same
//! bits as the conversion instructions, signaling NaNs quieted as those do.
#![forbid(unsafe_code)]

use core::fmt;

/// Element type of a tensor in memory, with its number in the C API.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Dtype {
    F32 = 1,
    F64 = 2,
    F16 = 3,
    Bf16 = 4,
    /// Remainders only.
    I16 = 5,
    /// Codes only.
    U8 = 6,
}

impl Dtype {
    /// The element types of parameters.
    pub const FLOATS: [Dtype; 4] = [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::Bf16];

    /// Returns the bytes of one element, which are its alignment, too.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::F64 => 8,
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 | Dtype::I16 => 2,
            Dtype::U8 => 1,
        }
    }

    /// Returns the largest number of the type that a parameter of this type computes in.
    pub fn largest(self) -> f64 {
        match self.compute() {
            Dtype::F64 => f64::MAX,
            _ => f32::MAX.into(),
        }
    }

    /// Returns a number rounded to the type that a parameter of this type computes in.
    pub fn computed(self, value: f64) -> f64 {
        match self.compute() {
            Dtype::F64 => value,
            _ => (value as f32).into(),
        }
    }

    /// Returns the type that a parameter of this type computes in and keeps its moments in.
    pub fn compute(self) -> Dtype {
        match self {
            Dtype::F64 => Dtype::F64,
            _ => Dtype::F32,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Dtype::F32 => "f32",
            Dtype::F64 => "f64",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
            Dtype::I16 => "i16",
            Dtype::U8 => "u8",
        })
    }
}

/// IEEE 754 binary16, as its bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct F16(pub u16);

/// bfloat16 (the upper half of an f32), as its bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Bf16(pub u16);

/// A stored element that has an exact value in the compute type `T`.
pub trait Widen<T>: Copy {
    fn widen(self) -> T;
}

/// A stored element that a value of the compute type `T` rounds to, to nearest even.
pub trait Narrow<T>: Copy {
    fn narrow(wide: T) -> Self;
}

/// A 16-bit element as bits.
pub trait Bits: Copy {
    fn from_bits(bits: u16) -> Self;
    fn to_bits(self) -> u16;
}

macro_rules! bits {
    ($type:ident) => {
        impl Bits for $type {
            #[inline(always)]
            fn from_bits(bits: u16) -> $type {
                $type(bits)
            }
            #[inline(always)]
            fn to_bits(self) -> u16 {
                self.0
            }
        }
    };
}

bits!(F16);
bits!(Bf16);

impl Widen<f64> for f32 {
    #[inline(always)]
    fn widen(self) -> f64 {
        self as f64
    }
}

impl Widen<f32> for Bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(quiet_nan((self.0 as u32) << 16))
    }
}

impl Narrow<f32> for Bf16 {
    #[inline(always)]
    fn narrow(wide: f32) -> Bf16 {
        let bits = wide.to_bits();
        // Half a unit of the kept part, less one if that part is even: ties go to even.
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        let nan = (bits >> 16) | 0x40;
        Bf16(if is_nan(bits) { nan } else { rounded } as u16)
    }
}

impl Bf16 {
    /// Returns the bf16 above or below `wide`, at random, so that the mean is `wide`. `noise` is 16
    /// random bits.
    #[inline(always)]
    pub fn narrow_randomly(wide: f32, noise: u32) -> Bf16 {
        let bits = wide.to_bits();
        let is_finite = bits & 0x7f80_0000 != 0x7f80_0000;
        let rounded = bits.wrapping_add(noise) >> 16;
        let nan = (bits >> 16) | 0x40;
        let other = if is_nan(bits) { nan } else { bits >> 16 };
        Bf16(if is_finite { rounded } else { other } as u16)
    }
}

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
    let rounded = upper.widen();
    let rest = if rounded.is_infinite() { 0.0 } else { wide - rounded };
    (upper, S::narrow(rest))
}

// The two directions of f16 re-bias the exponent by integer addition; subnormals are normalized
// by one exact f32 addition or subtraction of a power of two (F. Giesen, "Float->half variants").

impl Widen<f32> for F16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        const EXPONENT: u32 = 0x7c00 << 13;
        let half = self.0 as u32;
        let sign = (half & 0x8000) << 16;
        let magnitude = (half & 0x7fff) << 13;
        let normal = magnitude + ((127 - 15) << 23);
        let infinite_or_nan = magnitude + ((255 - 31) << 23);
        let subnormal =
            (f32::from_bits(magnitude + (113 << 23)) - f32::from_bits(113 << 23)).to_bits();
        let bits = match magnitude & EXPONENT {
            EXPONENT => infinite_or_nan,
            0 => subnormal,
            _ => normal,
        };
        f32::from_bits(quiet_nan(bits | sign))
    }
}

impl Narrow<f32> for F16 {
    #[inline(always)]
    fn narrow(wide: f32) -> F16 {
        const SMALLEST_NORMAL: u32 = 113 << 23;
        const BEYOND_INFINITY: u32 = 143 << 23;
        // The power of two whose last f32 place is the last place of an f16 subnormal.
        const MAGIC: u32 = (127 - 15 + 23 - 10 + 1) << 23;
        let bits = wide.to_bits();
        let sign = bits & 0x8000_0000;
        let magnitude = bits ^ sign;
        let subnormal =
            (f32::from_bits(magnitude) + f32::from_bits(MAGIC)).to_bits().wrapping_sub(MAGIC);
        let tie_to_even = 0xfff + ((magnitude >> 13) & 1);
        let normal = magnitude.wrapping_sub((127 - 15) << 23).wrapping_add(tie_to_even) >> 13;
        let nan = 0x7e00 | ((magnitude >> 13) & 0x3ff);
        let infinite_or_nan = if is_nan(bits) { nan } else { 0x7c00 };
        let half = if magnitude >= BEYOND_INFINITY {
            infinite_or_nan
        } else if magnitude < SMALLEST_NORMAL {
            subnormal
        } else {
            normal
        };
        F16((half | (sign >> 16)) as u16)
    }
}

#[inline(always)]
fn is_nan(bits: u32) -> bool {
    bits & 0x7fff_ffff > 0x7f80_0000
}

/// Sets the quiet bit of a NaN, as the processors' conversions do.
#[inline(always)]
fn quiet_nan(bits: u32) -> u32 {
    if is_nan(bits) { bits | 0x0040_0000 } else { bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_16_bit_float_widens_to_what_half_says() {
        for bits in 0..=u16::MAX {
            let f16 = half::f16::from_bits(bits).to_f32();
            assert_eq!(F16(bits).widen().to_bits(), f16.to_bits(), "f16 {bits:#06x}");
            let bf16 = half::bf16::from_bits(bits).to_f32();
            assert_eq!(Bf16(bits).widen().to_bits(), bf16.to_bits(), "bf16 {bits:#06x}");
        }
    }

    #[test]
    fn a_dense_stride_of_all_f32_narrows_to_what_half_says() {
        // 97 is coprime to every power of two: all low and high bit patterns are met.
        for bits in (0..=u32::MAX).step_by(97).chain([u32::MAX]) {
            let wide = f32::from_bits(bits);
            assert_eq!(F16::narrow(wide).0, half::f16::from_f32(wide).to_bits(), "{bits:#010x}");
            assert_eq!(Bf16::narrow(wide).0, half::bf16::from_f32(wide).to_bits(), "{bits:#010x}");
        }
    }

    #[test]
    fn a_random_bf16_is_the_value_on_average() {
        for bits in (0..=u32::MAX).step_by(0x00f1_2347) {
            let wide = f32::from_bits(bits);
            if !wide.is_finite() || bits & 0x7fff_ffff >= 0x7f7f_0000 {
                continue; // the largest may become infinite, as they do to nearest
            }
            let ups = (0..0x1_0000).filter(|noise| {
                let rounded = Bf16::narrow_randomly(wide, *noise).0 as u32;
                assert!(rounded == bits >> 16 || rounded == (bits >> 16) + 1, "{bits:#010x}");
                rounded != bits >> 16
            });
            // Of the 65,536 values of the noise, as many round up as the rest is of the gap.
            assert_eq!(ups.count() as u32, bits & 0xffff, "{bits:#010x}");
        }
        for (wide, expected) in [(f32::INFINITY, 0x7f80), (f32::NEG_INFINITY, 0xff80)] {
            assert_eq!(Bf16::narrow_randomly(wide, 0xffff).0, expected);
        }
        let nan: f32 = Bf16::narrow_randomly(f32::from_bits(0x7f80_0001), 0xffff).widen();
        assert!(nan.is_nan());
    }

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

    #[test]
    fn narrowing_what_was_widened_changes_nothing_but_signaling_nans() {
        for bits in 0..=u16::MAX {
            let f16_quiet = if bits & 0x7fff > 0x7c00 { 0x200 } else { 0 };
            assert_eq!(F16::narrow(F16(bits).widen()).0, bits | f16_quiet);
            let bf16_quiet = if bits & 0x7fff > 0x7f80 { 0x40 } else { 0 };
            assert_eq!(Bf16::narrow(Bf16(bits).widen()).0, bits | bf16_quiet);
        }
    }
}

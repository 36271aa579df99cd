//! Element types in memory, and the widening and narrowing of one element.
//!
//! `Dtype` names the types. `Widen` and `Narrow` carry an element to the compute type and back,
//! rounded to nearest even; `Bf16::narrow_randomly` rounds at random. `halves.rs` loses nothing: it
//! keeps an f32 in two halves of 16 bits.
//!
//! 16-bit floats are widened and narrowed by integer arithmetic without branches, so that the
//! loops over them vectorize on every ISA (`half::f16`'s element methods do not) and give the same
//! bits as the conversion instructions, signaling NaNs quieted as those do.
#![forbid(unsafe_code)]

mod halves;

pub use halves::{compensated, join, left_over, split};

use core::fmt;

/// Declares the element types: for each its number in the C interface, its name in errors, its name
/// in safetensors, the kind of number by DLPack's codes, and its bytes.
macro_rules! dtypes {
    ($($(#[$doc:meta])* $type:ident = $number:literal, $name:literal, $saved:literal,
        $code:literal, $bytes:literal;)*) => {
        /// Element type of a tensor in memory, with its number in the C interface.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Dtype {
            $($(#[$doc])* $type = $number,)*
        }

        impl Dtype {
            pub const ALL: &[Dtype] = &[$(Dtype::$type),*];

            /// Returns its name in errors and in a handle's words.
            pub const fn name(self) -> &'static str {
                match self { $(Dtype::$type => $name,)* }
            }

            /// Returns its name in safetensors.
            pub const fn safetensors_name(self) -> &'static str {
                match self { $(Dtype::$type => $saved,)* }
            }

            /// Returns the bytes of one element, which are its alignment, too.
            pub const fn bytes(self) -> usize {
                match self { $(Dtype::$type => $bytes,)* }
            }

            /// Returns the code and the bits by which DLPack knows it.
            pub const fn dlpack(self) -> (u8, u8) {
                match self { $(Dtype::$type => ($code, 8 * $bytes),)* }
            }
        }
    };
}

dtypes! {
    F32 = 1, "f32", "F32", 2, 4;
    F64 = 2, "f64", "F64", 2, 8;
    F16 = 3, "f16", "F16", 2, 2;
    Bf16 = 4, "bf16", "BF16", 4, 2;
    /// Remainders only.
    I16 = 5, "i16", "I16", 0, 2;
    /// Codes only.
    U8 = 6, "u8", "U8", 1, 1;
}

impl Dtype {
    /// The element types of parameters.
    pub const FLOATS: [Dtype; 4] = [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::Bf16];

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
        f.write_str(self.name())
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
    /// Returns the bf16 above or below `wide`, at random, so that the mean is `wide`. `noise` is 32
    /// random bits.
    #[inline(always)]
    pub fn narrow_randomly(wide: f32, noise: u32) -> Bf16 {
        let bits = wide.to_bits();
        let is_finite = bits & 0x7f80_0000 != 0x7f80_0000;
        let rounded = bits.wrapping_add(noise >> 16) >> 16;
        let nan = (bits >> 16) | 0x40;
        let other = if is_nan(bits) { nan } else { bits >> 16 };
        Bf16(if is_finite { rounded } else { other } as u16)
    }
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
                let rounded = Bf16::narrow_randomly(wide, *noise << 16).0 as u32;
                assert!(rounded == bits >> 16 || rounded == (bits >> 16) + 1, "{bits:#010x}");
                rounded != bits >> 16
            });
            // Of the 65,536 values of the noise, as many round up as the rest is of the gap.
            assert_eq!(ups.count() as u32, bits & 0xffff, "{bits:#010x}");
        }
        for (wide, expected) in [(f32::INFINITY, 0x7f80), (f32::NEG_INFINITY, 0xff80)] {
            assert_eq!(Bf16::narrow_randomly(wide, u32::MAX).0, expected);
        }
        let nan: f32 = Bf16::narrow_randomly(f32::from_bits(0x7f80_0001), u32::MAX).widen();
        assert!(nan.is_nan());
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

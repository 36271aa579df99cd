//! Floating-point numbers as bits: the NaN that PTX results have, halves, and minima.

use crate::ptx::instruction::Rounding;

/// The bits of a result; a NaN is always this one.
#[inline(always)]
pub fn bits32(x: f32) -> u64 {
    if x.is_nan() { 0x7FFF_FFFF } else { x.to_bits() as u64 }
}

/// As `bits32`.
#[inline(always)]
pub fn bits64(x: f64) -> u64 {
    if x.is_nan() { 0x7FFF_FFFF_FFFF_FFFF } else { x.to_bits() }
}

#[inline(always)]
pub fn f32_of(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

#[inline(always)]
pub fn f64_of(bits: u64) -> f64 {
    f64::from_bits(bits)
}

/// The value of a half.
pub fn f64_of_half(bits: u64) -> f64 {
    let exponent = (bits >> 10 & 31) as i32;
    let fraction = (bits & 0x3FF) as f64;
    let size = match exponent {
        0 => fraction * power_of_two(-24),
        31 if fraction != 0.0 => f64::NAN,
        31 => f64::INFINITY,
        _ => (1024.0 + fraction) * power_of_two(exponent - 25),
    };
    if bits & 0x8000 != 0 { -size } else { size }
}

fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// The half that is nearest, or next toward zero.
pub fn half_of_f64(x: f64, rounding: Rounding) -> u64 {
    let sign = if x.is_sign_negative() { 0x8000 } else { 0 };
    let size = x.abs();
    if x.is_nan() {
        return 0x7FFF;
    }
    if size == f64::INFINITY {
        return sign | 0x7C00;
    }
    // One step of the halves near this size; below the smallest normal they all are one apart.
    let exponent = ((size.to_bits() >> 52) as i32 - 1023).clamp(-14, 15);
    let steps = size * power_of_two(10 - exponent);
    let whole = match rounding {
        Rounding::Zero => steps.trunc(),
        _ => steps.round_ties_even(),
    };
    // A carry out of the fraction is a carry into the exponent.
    let bits =
        if whole >= 4096.0 { 0x7C00 } else { (((exponent + 14) as u64) << 10) + whole as u64 };
    match rounding {
        Rounding::Zero => sign | bits.min(0x7BFF),
        _ => sign | bits.min(0x7C00),
    }
}

/// The value, where one is a NaN and the other not; where both are, a NaN. Zeros are ordered.
#[inline(always)]
pub fn larger32(a: f32, b: f32, largest: bool) -> f32 {
    if a.is_nan() || (a == b && a.is_sign_negative() == largest) {
        b
    } else if b.is_nan() || a == b || (a > b) == largest {
        a
    } else {
        b
    }
}

/// As `larger32`.
#[inline(always)]
pub fn larger64(a: f64, b: f64, largest: bool) -> f64 {
    if a.is_nan() || (a == b && a.is_sign_negative() == largest) {
        b
    } else if b.is_nan() || a == b || (a > b) == largest {
        a
    } else {
        b
    }
}

#[cfg(test)]
mod tests {
    use super::{Rounding, f64_of_half, half_of_f64};

    #[test]
    fn every_half_comes_back() {
        for bits in 0..=0xFFFF_u64 {
            let x = f64_of_half(bits);
            let expected = if x.is_nan() { 0x7FFF } else { bits };
            assert_eq!(half_of_f64(x, Rounding::Nearest), expected, "{bits:#x}");
            assert_eq!(half_of_f64(x, Rounding::Zero), expected, "{bits:#x}");
        }
    }

    #[test]
    fn between_two_halves() {
        for bits in 0..0x7BFF_u64 {
            let (low, high) = (f64_of_half(bits), f64_of_half(bits + 1));
            let middle = (low + high) / 2.0;
            let even = bits + (bits & 1);
            assert_eq!(half_of_f64(middle, Rounding::Nearest), even);
            assert_eq!(half_of_f64(middle.next_down(), Rounding::Nearest), bits);
            assert_eq!(half_of_f64(middle.next_up(), Rounding::Nearest), bits + 1);
            assert_eq!(half_of_f64(-high.next_down(), Rounding::Zero), 0x8000 | bits);
        }
        assert_eq!(half_of_f64(65519.99, Rounding::Nearest), 0x7BFF);
        assert_eq!(half_of_f64(65520.0, Rounding::Nearest), 0x7C00);
        assert_eq!(half_of_f64(1e300, Rounding::Zero), 0x7BFF);
        assert_eq!(half_of_f64(1e300, Rounding::Nearest), 0x7C00);
    }
}

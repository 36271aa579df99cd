//! Arithmetic of one, two or three operands, in all lanes at once.

use super::bits;
use super::float::{bits32, bits64, f32_of, f64_of, larger32, larger64};
use super::lanes::{Lanes, map, map2, map3};
use crate::ptx::instruction::{Binary, Ternary, Unary};
use crate::ptx::types::Type;

pub fn unary(op: Unary, ty: Type, a: &Lanes) -> Lanes {
    let mask = ty.mask();
    match (op, ty) {
        (Unary::Copy, _) => *a,
        (Unary::Abs, Type::F32) => map(a, |a| bits32(f32_of(a).abs())),
        (Unary::Abs, Type::F64) => map(a, |a| bits64(f64_of(a).abs())),
        (Unary::Abs, _) => map(a, |a| ty.extend(a).wrapping_abs() as u64 & mask),
        (Unary::Negate, Type::F32) => map(a, |a| bits32(-f32_of(a))),
        (Unary::Negate, Type::F64) => map(a, |a| bits64(-f64_of(a))),
        (Unary::Negate, _) => map(a, |a| a.wrapping_neg() & mask),
        (Unary::Root, Type::F32) => map(a, |a| bits32(f32_of(a).sqrt())),
        (Unary::Root, _) => map(a, |a| bits64(f64_of(a).sqrt())),
        (Unary::Reciprocal, Type::F32) => map(a, |a| bits32(1.0 / f32_of(a))),
        (Unary::Reciprocal, _) => map(a, |a| bits64(1.0 / f64_of(a))),
        (Unary::Not, _) => map(a, |a| !a & mask),
        (Unary::Ones, _) => map(a, |a| u64::from(a.count_ones())),
        (Unary::LeadingZeros, _) => map(a, |a| u64::from(a.leading_zeros() - (64 - ty.bits()))),
        (Unary::BitsReversed, _) => map(a, |a| a.reverse_bits() >> (64 - ty.bits())),
    }
}

pub fn binary(op: Binary, ty: Type, a: &Lanes, b: &Lanes) -> Lanes {
    match ty {
        Type::F32 => match op {
            Binary::Add => map2(a, b, |a, b| bits32(f32_of(a) + f32_of(b))),
            Binary::Subtract => map2(a, b, |a, b| bits32(f32_of(a) - f32_of(b))),
            Binary::Multiply => map2(a, b, |a, b| bits32(f32_of(a) * f32_of(b))),
            Binary::Divide => map2(a, b, |a, b| bits32(f32_of(a) / f32_of(b))),
            _ => {
                let largest = op == Binary::Max;
                map2(a, b, |a, b| bits32(larger32(f32_of(a), f32_of(b), largest)))
            }
        },
        Type::F64 => match op {
            Binary::Add => map2(a, b, |a, b| bits64(f64_of(a) + f64_of(b))),
            Binary::Subtract => map2(a, b, |a, b| bits64(f64_of(a) - f64_of(b))),
            Binary::Multiply => map2(a, b, |a, b| bits64(f64_of(a) * f64_of(b))),
            Binary::Divide => map2(a, b, |a, b| bits64(f64_of(a) / f64_of(b))),
            _ => {
                let largest = op == Binary::Max;
                map2(a, b, |a, b| bits64(larger64(f64_of(a), f64_of(b), largest)))
            }
        },
        _ => integer(op, ty, a, b),
    }
}

fn integer(op: Binary, ty: Type, a: &Lanes, b: &Lanes) -> Lanes {
    let mask = ty.mask();
    let signed = ty.is_signed();
    match op {
        Binary::Add => map2(a, b, |a, b| a.wrapping_add(b) & mask),
        Binary::Subtract => map2(a, b, |a, b| a.wrapping_sub(b) & mask),
        Binary::Multiply => map2(a, b, |a, b| a.wrapping_mul(b) & mask),
        Binary::MultiplyHigh => map2(a, b, |a, b| high(ty, a, b)),
        Binary::MultiplyWide => map2(a, b, |a, b| wide(ty, a, b)),
        Binary::And => map2(a, b, |a, b| a & b),
        Binary::Or => map2(a, b, |a, b| a | b),
        Binary::Xor => map2(a, b, |a, b| a ^ b),
        Binary::ShiftLeft => {
            map2(a, b, |a, b| if b < u64::from(ty.bits()) { a << b & mask } else { 0 })
        }
        Binary::ShiftRight if signed => {
            map2(a, b, |a, b| (ty.extend(a) >> b.min(u64::from(ty.bits()) - 1)) as u64 & mask)
        }
        Binary::ShiftRight => map2(a, b, |a, b| if b < u64::from(ty.bits()) { a >> b } else { 0 }),
        Binary::Min if signed => map2(a, b, |a, b| if ty.extend(a) < ty.extend(b) { a } else { b }),
        Binary::Max if signed => map2(a, b, |a, b| if ty.extend(a) > ty.extend(b) { a } else { b }),
        Binary::Min => map2(a, b, u64::min),
        Binary::Max => map2(a, b, u64::max),
        // What dividing by zero gives is the machine's choice: all bits, and the dividend.
        Binary::Divide if signed => map2(a, b, |a, b| match b {
            0 => mask,
            _ => ty.extend(a).wrapping_div(ty.extend(b)) as u64 & mask,
        }),
        Binary::Remainder if signed => map2(a, b, |a, b| match b {
            0 => a,
            _ => ty.extend(a).wrapping_rem(ty.extend(b)) as u64 & mask,
        }),
        Binary::Divide => map2(a, b, |a, b| a.checked_div(b).unwrap_or(mask)),
        Binary::Remainder => map2(a, b, |a, b| a.checked_rem(b).unwrap_or(a)),
    }
}

/// A product of numbers of up to 32 bits, whole.
#[inline(always)]
fn wide(ty: Type, a: u64, b: u64) -> u64 {
    let product = ty.extend(a).wrapping_mul(ty.extend(b)) as u64;
    if ty.bits() == 16 { product & 0xFFFF_FFFF } else { product }
}

/// The upper half of a product.
#[inline(always)]
fn high(ty: Type, a: u64, b: u64) -> u64 {
    let product = match ty.is_signed() {
        true => (i128::from(ty.extend(a)) * i128::from(ty.extend(b))) as u128,
        false => u128::from(a) * u128::from(b),
    };
    (product >> ty.bits()) as u64 & ty.mask()
}

pub fn ternary(op: Ternary, ty: Type, a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
    let mask = ty.mask();
    match op {
        Ternary::MultiplyAdd => map3(a, b, c, |a, b, c| a.wrapping_mul(b).wrapping_add(c) & mask),
        Ternary::MultiplyHighAdd => map3(a, b, c, |a, b, c| high(ty, a, b).wrapping_add(c) & mask),
        Ternary::MultiplyWideAdd => {
            let result = if ty.bits() == 16 { 0xFFFF_FFFF } else { u64::MAX };
            map3(a, b, c, |a, b, c| wide(ty, a, b).wrapping_add(c) & result)
        }
        Ternary::ExtractBits | Ternary::PermuteBytes => bits::ternary(op, ty, a, b, c),
    }
}

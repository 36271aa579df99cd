//! Conversions between all integers and floats.

use super::float::{bits32, bits64, f32_of, f64_of, f64_of_half, half_of_f64};
use super::lanes::{Lanes, map};
use crate::ptx::instruction::Rounding;
use crate::ptx::types::Type;

/// Converts; an integer result is extended to the bits of `mask`, which its register has.
pub fn convert(to: Type, from: Type, rounding: Rounding, mask: u64, a: &Lanes) -> Lanes {
    match (to, from) {
        (Type::F32, Type::F64) => map(a, |a| bits32(to_f32(f64_of(a), rounding))),
        (Type::F64, Type::F32) => map(a, |a| bits64(f64::from(f32_of(a)))),
        _ if to == from && to.is_float() => map(a, |a| same(to, rounding, a)),
        _ if to.is_float() && from.is_float() => {
            map(a, |a| from_f64(to, rounding, to_f64(from, a)))
        }
        _ if to.is_float() => map(a, |a| from_integer(to, rounding, integer(from, a))),
        _ if from.is_float() => {
            map(a, |a| to_integer(to, whole(to_f64(from, a), rounding)) as u64 & mask)
        }
        // The low bits, then the sign of what they are now.
        _ => map(a, |a| to.extend(from.extend(a) as u64) as u64 & mask),
    }
}

/// A copy, or (with a rounding to an integer) the integer as a float.
fn same(ty: Type, rounding: Rounding, a: u64) -> u64 {
    from_f64(ty, Rounding::Nearest, whole(to_f64(ty, a), rounding))
}

fn to_f64(ty: Type, bits: u64) -> f64 {
    match ty {
        Type::F16 => f64_of_half(bits),
        Type::F32 => f64::from(f32_of(bits)),
        _ => f64_of(bits),
    }
}

fn from_f64(ty: Type, rounding: Rounding, x: f64) -> u64 {
    match ty {
        Type::F16 => half_of_f64(x, rounding),
        Type::F32 => bits32(to_f32(x, rounding)),
        _ => bits64(x),
    }
}

fn to_f32(x: f64, rounding: Rounding) -> f32 {
    let nearest = x as f32;
    if rounding == Rounding::Zero && f64::from(nearest).abs() > x.abs() {
        return f32::from_bits(nearest.to_bits() - 1);
    }
    nearest
}

fn whole(x: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Nearest => x.round_ties_even(),
        Rounding::Zero => x.trunc(),
        Rounding::Down => x.floor(),
        Rounding::Up => x.ceil(),
    }
}

/// What lies outside is the nearest that the type has, and a NaN is zero, as in Rust.
fn to_integer(ty: Type, x: f64) -> i64 {
    match ty {
        Type::S8 => i64::from(x as i8),
        Type::S16 => i64::from(x as i16),
        Type::S32 => i64::from(x as i32),
        Type::S64 => x as i64,
        Type::U8 => i64::from(x as u8),
        Type::U16 => i64::from(x as u16),
        Type::U32 => i64::from(x as u32),
        _ => x as u64 as i64,
    }
}

fn integer(ty: Type, bits: u64) -> i128 {
    if ty.is_signed() { i128::from(ty.extend(bits)) } else { i128::from(bits & ty.mask()) }
}

fn from_integer(ty: Type, rounding: Rounding, x: i128) -> u64 {
    let beyond = |size: f64| rounding == Rounding::Zero && size as i128 > x.abs();
    match ty {
        // A half holds nothing that a double would round.
        Type::F16 => half_of_f64(x as f64, rounding),
        Type::F32 => {
            let nearest = x as f32;
            let back = u32::from(beyond(f64::from(nearest.abs())));
            u64::from(nearest.to_bits() - back)
        }
        _ => {
            let nearest = x as f64;
            nearest.to_bits() - u64::from(beyond(nearest.abs()))
        }
    }
}

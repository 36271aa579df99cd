//! Comparisons, into masks.

use super::float::{f32_of, f64_of};
use super::lanes::{Lanes, mask2};
use crate::ptx::instruction::{Comparison, Logic};
use crate::ptx::types::Type;

pub fn compare(comparison: Comparison, ty: Type, a: &Lanes, b: &Lanes) -> u32 {
    match ty {
        // A float is exact as a double.
        Type::F32 => {
            mask2(a, b, |a, b| floats(comparison, f64::from(f32_of(a)), f64::from(f32_of(b))))
        }
        Type::F64 => mask2(a, b, |a, b| floats(comparison, f64_of(a), f64_of(b))),
        _ if ty.is_signed() => mask2(a, b, |a, b| integers(comparison, ty.extend(a), ty.extend(b))),
        _ => mask2(a, b, |a, b| integers(comparison, a, b)),
    }
}

#[inline(always)]
fn floats(comparison: Comparison, a: f64, b: f64) -> bool {
    let nan = a.is_nan() || b.is_nan();
    match comparison {
        Comparison::Eq => a == b,
        Comparison::Ne => !nan && a != b,
        Comparison::Lt => a < b,
        Comparison::Le => a <= b,
        Comparison::Gt => a > b,
        Comparison::Ge => a >= b,
        Comparison::EqU => nan || a == b,
        Comparison::NeU => a != b,
        Comparison::LtU => nan || a < b,
        Comparison::LeU => nan || a <= b,
        Comparison::GtU => nan || a > b,
        Comparison::GeU => nan || a >= b,
        Comparison::Ordered => !nan,
        Comparison::Unordered => nan,
    }
}

/// The decoder lets only the first six through.
#[inline(always)]
fn integers<T: Ord>(comparison: Comparison, a: T, b: T) -> bool {
    match comparison {
        Comparison::Eq => a == b,
        Comparison::Ne => a != b,
        Comparison::Lt => a < b,
        Comparison::Le => a <= b,
        Comparison::Gt => a > b,
        _ => a >= b,
    }
}

pub fn combine(op: Logic, a: u32, b: u32) -> u32 {
    match op {
        Logic::And => a & b,
        Logic::Or => a | b,
        Logic::Xor => a ^ b,
    }
}

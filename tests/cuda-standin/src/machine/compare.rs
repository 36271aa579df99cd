//! Comparisons, into masks.

use super::float::{f32_of, f64_of};
use super::lanes::{Lanes, mask2};
use crate::ptx::instruction::{Comparison, Logic};
use crate::ptx::types::Type;

/// Compares in all lanes. Each comparison has a loop of its own, in which nothing is asked about it.
pub fn compare(comparison: Comparison, ty: Type, a: &Lanes, b: &Lanes) -> u32 {
    match ty {
        // A float is exact as a double.
        Type::F32 => floats(comparison, a, b, |bits| f64::from(f32_of(bits))),
        Type::F64 => floats(comparison, a, b, f64_of),
        Type::S32 => integers(comparison, a, b, |bits| bits as i32),
        Type::S64 => integers(comparison, a, b, |bits| bits as i64),
        _ if ty.is_signed() => integers(comparison, a, b, |bits| ty.extend(bits)),
        _ => integers(comparison, a, b, |bits| bits),
    }
}

#[inline(always)]
fn floats(comparison: Comparison, a: &Lanes, b: &Lanes, of: impl Fn(u64) -> f64) -> u32 {
    let either_is_nan = |a: f64, b: f64| a.is_nan() | b.is_nan();
    match comparison {
        Comparison::Eq => mask2(a, b, |a, b| of(a) == of(b)),
        Comparison::Ne => mask2(a, b, |a, b| (of(a) < of(b)) | (of(a) > of(b))),
        Comparison::Lt => mask2(a, b, |a, b| of(a) < of(b)),
        Comparison::Le => mask2(a, b, |a, b| of(a) <= of(b)),
        Comparison::Gt => mask2(a, b, |a, b| of(a) > of(b)),
        Comparison::Ge => mask2(a, b, |a, b| of(a) >= of(b)),
        Comparison::EqU => mask2(a, b, |a, b| either_is_nan(of(a), of(b)) | (of(a) == of(b))),
        Comparison::NeU => mask2(a, b, |a, b| of(a) != of(b)),
        Comparison::LtU => mask2(a, b, |a, b| either_is_nan(of(a), of(b)) | (of(a) < of(b))),
        Comparison::LeU => mask2(a, b, |a, b| either_is_nan(of(a), of(b)) | (of(a) <= of(b))),
        Comparison::GtU => mask2(a, b, |a, b| either_is_nan(of(a), of(b)) | (of(a) > of(b))),
        Comparison::GeU => mask2(a, b, |a, b| either_is_nan(of(a), of(b)) | (of(a) >= of(b))),
        Comparison::Ordered => mask2(a, b, |a, b| !either_is_nan(of(a), of(b))),
        Comparison::Unordered => mask2(a, b, |a, b| either_is_nan(of(a), of(b))),
    }
}

/// The decoder lets only the first six through.
#[inline(always)]
fn integers<T: Ord>(comparison: Comparison, a: &Lanes, b: &Lanes, of: impl Fn(u64) -> T) -> u32 {
    match comparison {
        Comparison::Eq => mask2(a, b, |a, b| of(a) == of(b)),
        Comparison::Ne => mask2(a, b, |a, b| of(a) != of(b)),
        Comparison::Lt => mask2(a, b, |a, b| of(a) < of(b)),
        Comparison::Le => mask2(a, b, |a, b| of(a) <= of(b)),
        Comparison::Gt => mask2(a, b, |a, b| of(a) > of(b)),
        _ => mask2(a, b, |a, b| of(a) >= of(b)),
    }
}

pub fn combine(op: Logic, a: u32, b: u32) -> u32 {
    match op {
        Logic::And => a & b,
        Logic::Or => a | b,
        Logic::Xor => a ^ b,
    }
}

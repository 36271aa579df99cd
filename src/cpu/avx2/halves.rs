//! Gradients in bf16 and split masters, thirty-two at once.

use super::Floats;
use crate::cpu::isa::x86::{F16c, Sixteen};
use crate::cpu::late::Sixteens;
use crate::dtype::Bf16;

/// Quiets no NaN.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn load(from: &[Bf16], at: usize) -> Floats {
    let from = from.as_chunks().0;
    joined([F16c::load_bf16(&from[2 * at]), F16c::load_bf16(&from[2 * at + 1])])
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn load_split(upper: &[Bf16], remainder: &[i16], at: usize) -> Floats {
    let (upper, remainder) = (upper.as_chunks().0, remainder.as_chunks().0);
    let of = |i: usize| F16c::load_split(&upper[i], &remainder[i]);
    joined([of(2 * at), of(2 * at + 1)])
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn store_split(wide: Floats, upper: &mut [Bf16], remainder: &mut [i16], at: usize) {
    let (upper, remainder) = (upper.as_chunks_mut().0, remainder.as_chunks_mut().0);
    let [a, b, c, d] = wide.0;
    let [low, high] = [Sixteen([a, b]), Sixteen([c, d])];
    F16c::store_split(low, &mut upper[2 * at], &mut remainder[2 * at]);
    F16c::store_split(high, &mut upper[2 * at + 1], &mut remainder[2 * at + 1]);
}

/// Returns floats in the order of those that are joined and split.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub fn crossed(wide: Floats) -> Floats {
    let [a, b, c, d] = wide.0;
    joined([F16c::crossed(Sixteen([a, b])), F16c::crossed(Sixteen([c, d]))])
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn joined([low, high]: [Sixteen; 2]) -> Floats {
    let ([a, b], [c, d]) = (low.0, high.0);
    Floats([a, b, c, d])
}

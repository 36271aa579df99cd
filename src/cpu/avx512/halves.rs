//! Gradients in bf16 and split masters, sixty-four at once.

use super::Floats;
use crate::cpu::convert::Convert;
use crate::cpu::isa::x86;
use crate::cpu::registers::lanes::LANES;
use crate::dtype::Bf16;

/// Quiets no NaN.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub fn load(from: &[Bf16], at: usize) -> Floats {
    let mut wide = [0.0; LANES];
    x86::Avx512::widen_bf16(&from.as_chunks().0[at], &mut wide);
    Floats::load(&wide)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub fn load_split(upper: &[Bf16], remainder: &[i16], at: usize) -> Floats {
    let mut wide = [0.0; LANES];
    x86::Avx512::join(&upper.as_chunks().0[at], &remainder.as_chunks().0[at], &mut wide);
    Floats::load(&wide)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub fn store_split(floats: Floats, upper: &mut [Bf16], remainder: &mut [i16], at: usize) {
    let mut wide = [0.0; LANES];
    floats.store(&mut wide);
    let (upper, remainder) = (upper.as_chunks_mut().0, remainder.as_chunks_mut().0);
    x86::Avx512::split(&wide, &mut upper[at], &mut remainder[at]);
}

/// Halves are joined and split in the order of memory.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub fn crossed(wide: Floats) -> Floats {
    wide
}

//! The loops over elements: plain scalar code, inlined into one copy per instruction set
//! (`isa.rs`).
//!
//! `update` and `update_amsgrad` are the step, `prepare` clips and regularizes gradients before it,
//! and `forget` ends the fall of moments after it, now and then.
//! The other loops carry a block from memory to the compute type and back: `widen` and `narrow` for
//! floats, `join` and `split` for split masters, `join_kahan` and `split_kahan` for compensated
//! parameters, and `decode_*` and `encode_*` for coded moments, which need the block's largest
//! magnitude (`largest`). `fill_noise` makes the random bits of those that round at random.
//!
//! They are vectorized at full width, because slices are cut to one length up front, no loop ends
//! early, all that is called is `inline(always)`, and options are known at compile time.
#![forbid(unsafe_code)]

use crate::codes::{self, nibbles, signed, unsigned};
use crate::dtype::{self, Bf16, Bits, Narrow, Widen};
use crate::math::{Element, Preparation, Real, StepScalars, adamw, forgotten, prepared};
use crate::philox::{Key, NoiseStream};

#[inline(always)]
pub fn update<T: Real>(
    scalars: &StepScalars<T>,
    param: &mut [T],
    grad: &[T],
    exp_avg: &mut [T],
    exp_avg_sq: &mut [T],
) {
    let n = param.len();
    let (grad, exp_avg, exp_avg_sq) = (&grad[..n], &mut exp_avg[..n], &mut exp_avg_sq[..n]);
    for i in 0..n {
        let before = Element {
            param: param[i],
            exp_avg: exp_avg[i],
            exp_avg_sq: exp_avg_sq[i],
            max_exp_avg_sq: T::ZERO,
        };
        let after = adamw::<T, false>(scalars, before, grad[i]);
        param[i] = after.param;
        exp_avg[i] = after.exp_avg;
        exp_avg_sq[i] = after.exp_avg_sq;
    }
}

#[inline(always)]
pub fn update_amsgrad<T: Real>(
    scalars: &StepScalars<T>,
    param: &mut [T],
    grad: &[T],
    exp_avg: &mut [T],
    exp_avg_sq: &mut [T],
    max_exp_avg_sq: &mut [T],
) {
    let n = param.len();
    let (grad, exp_avg, exp_avg_sq) = (&grad[..n], &mut exp_avg[..n], &mut exp_avg_sq[..n]);
    let max_exp_avg_sq = &mut max_exp_avg_sq[..n];
    for i in 0..n {
        let before = Element {
            param: param[i],
            exp_avg: exp_avg[i],
            exp_avg_sq: exp_avg_sq[i],
            max_exp_avg_sq: max_exp_avg_sq[i],
        };
        let after = adamw::<T, true>(scalars, before, grad[i]);
        param[i] = after.param;
        exp_avg[i] = after.exp_avg;
        exp_avg_sq[i] = after.exp_avg_sq;
        max_exp_avg_sq[i] = after.max_exp_avg_sq;
    }
}

#[inline(always)]
pub fn prepare<T: Real>(preparation: &Preparation<T>, grad: &mut [T], param: &[T]) {
    for (grad, param) in grad.iter_mut().zip(param) {
        *grad = prepared(preparation, *grad, *param);
    }
}

#[inline(always)]
pub fn forget<T: Real>(eps: T, exp_avg: &mut [T], second: &mut [T]) {
    for (exp_avg, second) in exp_avg.iter_mut().zip(second) {
        (*exp_avg, *second) = forgotten(eps, *exp_avg, *second);
    }
}

#[inline(always)]
pub fn widen<S: Widen<T>, T>(stored: &[S], wide: &mut [T]) {
    for (wide, stored) in wide.iter_mut().zip(stored) {
        *wide = stored.widen();
    }
}

#[inline(always)]
pub fn narrow<S: Narrow<T>, T: Copy>(wide: &[T], stored: &mut [S]) {
    for (stored, wide) in stored.iter_mut().zip(wide) {
        *stored = S::narrow(*wide);
    }
}

#[inline(always)]
pub fn join(upper: &[Bf16], remainder: &[i16], wide: &mut [f32]) {
    for ((wide, upper), remainder) in wide.iter_mut().zip(upper).zip(remainder) {
        *wide = dtype::join(*upper, *remainder);
    }
}

#[inline(always)]
pub fn split(wide: &[f32], upper: &mut [Bf16], remainder: &mut [i16]) {
    for ((wide, upper), remainder) in wide.iter().zip(upper).zip(remainder) {
        (*upper, *remainder) = dtype::split(*wide);
    }
}

#[inline(always)]
pub fn join_kahan<S: Widen<f32> + Bits>(stored: &[S], rest: &[u16], wide: &mut [f32]) {
    for ((wide, stored), rest) in wide.iter_mut().zip(stored).zip(rest) {
        *wide = stored.widen() + S::from_bits(*rest).widen();
    }
}

#[inline(always)]
pub fn split_kahan<S>(wide: &[f32], stored: &mut [S], rest: &mut [u16])
where
    S: Widen<f32> + Narrow<f32> + Bits,
{
    for ((wide, stored), rest) in wide.iter().zip(stored).zip(rest) {
        let (rounded, left_over) = dtype::compensated::<S>(*wide);
        (*stored, *rest) = (rounded, left_over.to_bits());
    }
}

#[inline(always)]
pub fn fill_noise(
    key: Key,
    stream: NoiseStream,
    step: u64,
    octet: u64,
    noise: &mut [[[u8; 4]; 4]],
) {
    for (i, bits) in noise.iter_mut().enumerate() {
        *bits = key.bits(stream, step, octet.wrapping_add(i as u64));
    }
}

#[inline(always)]
pub fn narrow_randomly(wide: &[f32], noise: &[[u8; 2]], stored: &mut [Bf16]) {
    for ((stored, wide), noise) in stored.iter_mut().zip(wide).zip(noise) {
        *stored = Bf16::narrow_randomly(*wide, u16::from_le_bytes(*noise) as u32);
    }
}

#[inline(always)]
pub fn decode_signed(codes: &[u8], scales: &[f32], wide: &mut [f32]) {
    decode(codes, scales, wide, signed::decode)
}

#[inline(always)]
pub fn decode_unsigned(codes: &[u8], scales: &[f32], wide: &mut [f32]) {
    decode(codes, scales, wide, unsigned::decode)
}

#[inline(always)]
pub fn encode_signed(wide: &[f32], codes: &mut [u8], scales: &mut [f32]) {
    encode(wide, codes, scales, signed::encode)
}

#[inline(always)]
pub fn encode_unsigned(wide: &[f32], codes: &mut [u8], scales: &mut [f32]) {
    encode(wide, codes, scales, unsigned::encode)
}

#[inline(always)]
pub fn encode_unsigned_randomly(
    wide: &[f32],
    noise: &[[u8; 2]],
    codes: &mut [u8],
    scales: &mut [f32],
) {
    let blocks = wide.chunks(codes::BLOCK).zip(codes.chunks_mut(codes::BLOCK));
    let noise = noise.chunks(codes::BLOCK);
    for (((wide, codes), noise), scale) in blocks.zip(noise).zip(scales) {
        let inverse;
        (*scale, inverse) = codes::scale(largest(wide));
        for ((code, value), noise) in codes.iter_mut().zip(wide).zip(noise) {
            let noise = u16::from_le_bytes(*noise) as u32;
            *code = unsigned::encode_randomly(*value, inverse, noise);
        }
    }
}

#[inline(always)]
fn decode(codes: &[u8], scales: &[f32], wide: &mut [f32], decode: impl Fn(u8) -> f32) {
    let blocks = wide.chunks_mut(codes::BLOCK).zip(codes.chunks(codes::BLOCK));
    for ((wide, codes), scale) in blocks.zip(scales) {
        for (wide, code) in wide.iter_mut().zip(codes) {
            *wide = decode(*code) * *scale;
        }
    }
}

#[inline(always)]
fn encode(wide: &[f32], codes: &mut [u8], scales: &mut [f32], encode: impl Fn(f32, f32) -> u8) {
    let blocks = wide.chunks(codes::BLOCK).zip(codes.chunks_mut(codes::BLOCK));
    for ((wide, codes), scale) in blocks.zip(scales) {
        let inverse;
        (*scale, inverse) = codes::scale(largest(wide));
        for (code, value) in codes.iter_mut().zip(wide) {
            *code = encode(*value, inverse);
        }
    }
}

#[inline(always)]
pub fn decode_signed_nibbles(codes: &[u8], scales: &[f32], wide: &mut [f32]) {
    decode_nibbles(codes, scales, wide, nibbles::decode_signed)
}

#[inline(always)]
pub fn decode_unsigned_nibbles(codes: &[u8], scales: &[f32], wide: &mut [f32]) {
    decode_nibbles(codes, scales, wide, nibbles::decode_unsigned)
}

#[inline(always)]
pub fn encode_signed_nibbles(
    wide: &[f32],
    noise: &[[u8; 2]],
    codes: &mut [u8],
    scales: &mut [f32],
) {
    encode_nibbles(wide, noise, codes, scales, nibbles::encode_signed)
}

#[inline(always)]
pub fn encode_unsigned_nibbles(
    wide: &[f32],
    noise: &[[u8; 2]],
    codes: &mut [u8],
    scales: &mut [f32],
) {
    encode_nibbles(wide, noise, codes, scales, nibbles::encode_unsigned)
}

#[inline(always)]
fn decode_nibbles(codes: &[u8], scales: &[f32], wide: &mut [f32], decode: impl Fn(u8) -> f32) {
    let blocks = wide.chunks_mut(nibbles::BLOCK).zip(codes.chunks(nibbles::BYTES));
    for ((wide, codes), scale) in blocks.zip(scales) {
        let (low, high) = wide.split_at_mut(wide.len().min(nibbles::BYTES));
        for (wide, codes) in low.iter_mut().zip(codes) {
            *wide = decode(codes & 0xf) * *scale;
        }
        for (wide, codes) in high.iter_mut().zip(codes) {
            *wide = decode(codes >> 4) * *scale;
        }
    }
}

#[inline(always)]
fn encode_nibbles(
    wide: &[f32],
    noise: &[[u8; 2]],
    codes: &mut [u8],
    scales: &mut [f32],
    encode: impl Fn(f32, f32, u32) -> u8,
) {
    let blocks = wide.chunks(nibbles::BLOCK).zip(codes.chunks_mut(nibbles::BYTES));
    let noise = noise.chunks(nibbles::BLOCK);
    for (((wide, codes), noise), scale) in blocks.zip(noise).zip(scales) {
        let inverse;
        (*scale, inverse) = codes::scale(largest(wide));
        let n_low = wide.len().min(nibbles::BYTES);
        let (low, high) = wide.split_at(n_low);
        let (low_noise, high_noise) = noise.split_at(n_low);
        for ((codes, value), noise) in codes.iter_mut().zip(low).zip(low_noise) {
            *codes = encode(*value, inverse, u16::from_le_bytes(*noise) as u32);
        }
        for ((codes, value), noise) in codes.iter_mut().zip(high).zip(high_noise) {
            *codes |= encode(*value, inverse, u16::from_le_bytes(*noise) as u32) << 4;
        }
    }
}

/// Returns the bits of the largest magnitude; a NaN is larger than any other.
#[inline(always)]
fn largest(block: &[f32]) -> u32 {
    block.iter().fold(0, |largest, value| largest.max(value.to_bits() & 0x7fff_ffff))
}

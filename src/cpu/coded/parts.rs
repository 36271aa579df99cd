//! Moments that are codes, decoded and encoded alone.
#![forbid(unsafe_code)]

use super::magnitude;
use crate::codes::{self, nibbles, signed, unsigned};
use crate::noise::Noise;

/// Returns the bits of the largest magnitude; a NaN is larger than any other.
#[inline(always)]
fn largest(block: &[f32]) -> u32 {
    block.iter().fold(0, |largest, value| largest.max(magnitude(*value)))
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
    encode(wide, codes, scales, |_, value, inverse| signed::encode(value, inverse))
}

#[inline(always)]
pub fn encode_unsigned(wide: &[f32], codes: &mut [u8], scales: &mut [f32]) {
    encode(wide, codes, scales, |_, value, inverse| unsigned::encode(value, inverse))
}

#[inline(always)]
pub fn encode_unsigned_randomly(wide: &[f32], noise: Noise, codes: &mut [u8], scales: &mut [f32]) {
    encode(wide, codes, scales, |i, value, inverse| {
        unsigned::encode_randomly(value, inverse, noise.word(i as u32))
    })
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

/// `encode` is given the place of each value, too.
#[inline(always)]
fn encode(
    wide: &[f32],
    codes: &mut [u8],
    scales: &mut [f32],
    encode: impl Fn(usize, f32, f32) -> u8,
) {
    let blocks = wide.chunks(codes::BLOCK).zip(codes.chunks_mut(codes::BLOCK));
    for (block, ((wide, codes), scale)) in blocks.zip(scales).enumerate() {
        let inverse;
        (*scale, inverse) = codes::scale(largest(wide));
        for (i, (code, value)) in codes.iter_mut().zip(wide).enumerate() {
            *code = encode(block * codes::BLOCK + i, *value, inverse);
        }
    }
}

#[inline(always)]
pub fn decode_signed_nibbles(codes: &[u8], scales: &[f32], wide: &mut [f32]) {
    let blocks = wide.chunks_mut(nibbles::BLOCK).zip(codes.chunks(nibbles::BYTES));
    for ((wide, codes), scale) in blocks.zip(scales) {
        let (low, high) = wide.split_at_mut(wide.len().min(nibbles::BYTES));
        for (wide, codes) in low.iter_mut().zip(codes) {
            *wide = nibbles::decode_signed(codes & 0xf) * *scale;
        }
        for (wide, codes) in high.iter_mut().zip(codes) {
            *wide = nibbles::decode_signed(codes >> 4) * *scale;
        }
    }
}

/// Encodes a block to the nearest 4-bit codes, half up, and returns its scale.
pub fn nearest_nibbles(is_signed: bool, wide: &[f32], bytes: &mut [u8]) -> f32 {
    let (scale, inverse) = codes::scale(largest(wide));
    let encode = if is_signed { nibbles::encode_signed } else { nibbles::encode_unsigned };
    let code = |i: usize| wide.get(i).map_or(0, |value| encode(*value, inverse, 1 << 31));
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = code(i) | code(nibbles::BYTES + i) << 4;
    }
    scale
}

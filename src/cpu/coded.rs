//! The loops over moments that are codes.
//!
//! `update_bytes` and `update_nibbles` are a whole step of f32 elements: `decoded_step` decodes the
//! moments of a block and steps it in one loop, while the divider is busy, and finds the largest
//! magnitudes on the way; then both moments are encoded. `decode_*` and `encode_*` do the parts
//! alone, for amsgrad and for statistics.
#![forbid(unsafe_code)]

use crate::codes::{self, nibbles, signed, unsigned};
use crate::math::{Element, StepScalars, adamw, forgotten};
use crate::noise::Noise;

/// The codes of a moment, and the scale of each block of them.
pub struct Codes<'a> {
    pub codes: &'a mut [u8],
    pub scales: &'a mut [f32],
}

/// Steps f32 elements whose moments have 8 bits.
#[inline(always)]
pub fn update_bytes(
    scalars: &StepScalars<f32>,
    param: &mut [f32],
    grad: &[f32],
    moments: [Codes; 2],
    noise: Noise,
) {
    each_block(param, grad, moments, InBytes { scalars, noise });
}

/// Steps f32 elements whose moments have 4 bits.
#[inline(always)]
pub fn update_nibbles(
    scalars: &StepScalars<f32>,
    param: &mut [f32],
    grad: &[f32],
    moments: [Codes; 2],
    noise: [Noise; 2],
) {
    each_block(param, grad, moments, InNibbles { scalars, noise });
}

/// The step of a block of so many elements, whose codes are so many bytes. A method, because it can
/// be `inline(always)`, which a closure cannot.
trait StepBlock<const ELEMENTS: usize, const BYTES: usize> {
    /// `start` is the place of its first element, `wide` has room for both moments.
    fn step(
        &self,
        start: u32,
        param: &mut [f32; ELEMENTS],
        grad: &[f32; ELEMENTS],
        codes: [&mut [u8; BYTES]; 2],
        scales: &mut [f32; 2],
        wide: &mut [[f32; ELEMENTS]; 2],
    );
}

struct InBytes<'a> {
    scalars: &'a StepScalars<f32>,
    noise: Noise,
}

impl StepBlock<{ codes::BLOCK }, { codes::BLOCK }> for InBytes<'_> {
    #[inline(always)]
    fn step(
        &self,
        start: u32,
        param: &mut [f32; codes::BLOCK],
        grad: &[f32; codes::BLOCK],
        [first, second]: [&mut [u8; codes::BLOCK]; 2],
        scales: &mut [f32; 2],
        wide: &mut [[f32; codes::BLOCK]; 2],
    ) {
        let [first_scale, second_scale] = *scales;
        let decoded = |i| {
            [signed::decode(first[i]) * first_scale, unsigned::decode(second[i]) * second_scale]
        };
        let largest = decoded_step(self.scalars, param, grad, decoded, wide);
        let inverse = set_scales(scales, largest);
        for i in 0..codes::BLOCK {
            first[i] = signed::encode(wide[0][i], inverse[0]);
        }
        for i in 0..codes::BLOCK {
            let word = self.noise.word(start + i as u32);
            second[i] = unsigned::encode_randomly(wide[1][i], inverse[1], word);
        }
    }
}

struct InNibbles<'a> {
    scalars: &'a StepScalars<f32>,
    noise: [Noise; 2],
}

impl StepBlock<{ nibbles::BLOCK }, { nibbles::BYTES }> for InNibbles<'_> {
    #[inline(always)]
    fn step(
        &self,
        start: u32,
        param: &mut [f32; nibbles::BLOCK],
        grad: &[f32; nibbles::BLOCK],
        bytes: [&mut [u8; nibbles::BYTES]; 2],
        scales: &mut [f32; 2],
        wide: &mut [[f32; nibbles::BLOCK]; 2],
    ) {
        let [first_scale, second_scale] = *scales;
        let mut codes = [split_bytes(bytes[0]), split_bytes(bytes[1])];
        let decoded = |i: usize| {
            [
                nibbles::decode_signed(codes[0][i]) * first_scale,
                nibbles::decode_unsigned(codes[1][i]) * second_scale,
            ]
        };
        let largest = decoded_step(self.scalars, param, grad, decoded, wide);
        let inverse = set_scales(scales, largest);
        for i in 0..nibbles::BLOCK {
            let word = self.noise[0].word(start + i as u32);
            codes[0][i] = nibbles::encode_signed(wide[0][i], inverse[0], word);
        }
        for i in 0..nibbles::BLOCK {
            let word = self.noise[1].word(start + i as u32);
            codes[1][i] = nibbles::encode_unsigned(wide[1][i], inverse[1], word);
        }
        join_bytes(&codes[0], bytes[0]);
        join_bytes(&codes[1], bytes[1]);
    }
}

#[inline(always)]
fn split_bytes(bytes: &[u8; nibbles::BYTES]) -> [u8; nibbles::BLOCK] {
    let mut codes = [0; nibbles::BLOCK];
    for i in 0..nibbles::BYTES {
        (codes[i], codes[nibbles::BYTES + i]) = (bytes[i] & 0xf, bytes[i] >> 4);
    }
    codes
}

#[inline(always)]
fn join_bytes(codes: &[u8; nibbles::BLOCK], bytes: &mut [u8; nibbles::BYTES]) {
    for i in 0..nibbles::BYTES {
        bytes[i] = codes[i] | codes[nibbles::BYTES + i] << 4;
    }
}

/// Steps block after block. A last one that is not whole is stepped with zeros behind it.
#[inline(always)]
fn each_block<const ELEMENTS: usize, const BYTES: usize>(
    param: &mut [f32],
    grad: &[f32],
    [first, second]: [Codes; 2],
    block: impl StepBlock<ELEMENTS, BYTES>,
) {
    let blocks = param.chunks_mut(ELEMENTS).zip(grad.chunks(ELEMENTS));
    let codes = first.codes.chunks_mut(BYTES).zip(second.codes.chunks_mut(BYTES));
    let scales = first.scales.iter_mut().zip(second.scales);
    let (mut last, mut last_codes, mut wide) = (None, None, [[0.0; ELEMENTS]; 2]);
    for (i, ((operands, codes), of_block)) in blocks.zip(codes).zip(scales).enumerate() {
        let ((param, grad), (first, second)) = (operands, codes);
        let mut scales = [*of_block.0, *of_block.1];
        let is_whole = param.len() == ELEMENTS;
        let (whole_param, whole_grad, whole_codes) = match is_whole {
            true => (&mut *param, grad, [&mut *first, &mut *second]),
            false => {
                let [padded_param, padded_grad] = last.insert([[0.0; ELEMENTS]; 2]);
                let [padded_first, padded_second] = last_codes.insert([[0; BYTES]; 2]);
                padded_param[..param.len()].copy_from_slice(param);
                padded_grad[..grad.len()].copy_from_slice(grad);
                padded_first[..first.len()].copy_from_slice(first);
                padded_second[..second.len()].copy_from_slice(second);
                let codes = [&mut padded_first[..], &mut padded_second[..]];
                (&mut padded_param[..], &padded_grad[..], codes)
            }
        };
        let [whole_first, whole_second] = whole_codes.map(<[u8]>::as_mut_array);
        let arrays = (whole_param.as_mut_array(), whole_grad.as_array(), whole_first, whole_second);
        let (Some(whole_param), Some(whole_grad), Some(whole_first), Some(whole_second)) = arrays
        else {
            return;
        };
        let start = (i * ELEMENTS) as u32;
        block.step(
            start,
            whole_param,
            whole_grad,
            [whole_first, whole_second],
            &mut scales,
            &mut wide,
        );
        (*of_block.0, *of_block.1) = scales.into();
        if let (Some([padded, _]), Some([padded_first, padded_second])) = (&last, &last_codes) {
            param.copy_from_slice(&padded[..param.len()]);
            first.copy_from_slice(&padded_first[..first.len()]);
            second.copy_from_slice(&padded_second[..second.len()]);
        }
    }
}

/// Steps elements whose moments `decoded` returns, and writes the new ones to `wide`. Returns the
/// bits of their largest magnitudes.
#[inline(always)]
fn decoded_step<const N: usize>(
    scalars: &StepScalars<f32>,
    param: &mut [f32; N],
    grad: &[f32; N],
    decoded: impl Fn(usize) -> [f32; 2],
    [exp_avg, exp_avg_sq]: &mut [[f32; N]; 2],
) -> [u32; 2] {
    let mut largest = [0; 2];
    for i in 0..N {
        let [first, second] = decoded(i);
        let before =
            Element { param: param[i], exp_avg: first, exp_avg_sq: second, max_exp_avg_sq: 0.0 };
        let after = adamw::<f32, false>(scalars, before, grad[i]);
        param[i] = after.param;
        exp_avg[i] = after.exp_avg;
        exp_avg_sq[i] = after.exp_avg_sq;
        // A second moment is not negative, but a NaN may have a sign.
        let bits = [magnitude(after.exp_avg), after.exp_avg_sq.to_bits()];
        largest = [largest[0].max(bits[0]), largest[1].max(bits[1])];
    }
    if scalars.forgets {
        // No scale is below the smallest normal number, so that none of them changes.
        for i in 0..N {
            (exp_avg[i], exp_avg_sq[i]) = forgotten(scalars.eps, exp_avg[i], exp_avg_sq[i]);
        }
    }
    largest.map(|bits| bits & 0x7fff_ffff)
}

/// Sets two scales by the bits of the largest magnitudes, and returns their reciprocals.
#[inline(always)]
fn set_scales(scales: &mut [f32; 2], largest: [u32; 2]) -> [f32; 2] {
    let [(first, inverse0), (second, inverse1)] = largest.map(codes::scale);
    *scales = [first, second];
    [inverse0, inverse1]
}

#[inline(always)]
fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

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

//! The loops over moments that are codes.
//!
//! `update_bytes` and `update_nibbles` are a whole step of f32 elements: `decoded_step` decodes the
//! moments of a block and steps it in one loop, while the divider is busy, and finds the largest
//! magnitudes on the way; then both moments are encoded. `parts.rs` decodes and encodes alone, for
//! amsgrad and for statistics.
//!
//! `registers.rs` has the same whole steps, with the same bits, in registers of an instruction set.
#![forbid(unsafe_code)]

pub mod parts;
#[cfg(test)]
mod tests;

use crate::codes::{self, nibbles, signed, unsigned};
use crate::dtype::Bf16;
use crate::math::{Element, StepScalars, adamw, forgotten};
use crate::noise::Noise;

/// The codes of a moment, and the scale of each block of them.
pub struct Codes<'a> {
    pub codes: &'a mut [u8],
    pub scales: &'a mut [f32],
}

impl<'a> Codes<'a> {
    /// Returns those from a code and a scale on.
    pub fn from(self, code: usize, scale: usize) -> Codes<'a> {
        Codes { codes: &mut self.codes[code..], scales: &mut self.scales[scale..] }
    }
}

/// Masters in two halves.
pub struct SplitMaster<'a> {
    pub upper: &'a mut [Bf16],
    pub remainder: &'a mut [i16],
}

/// Steps f32 elements whose moments have 8 bits. `wide` has room for the moments of a block; the
/// other is for the ways of an instruction set.
#[inline(always)]
pub fn update_bytes(
    scalars: &StepScalars<f32>,
    param: &mut [f32],
    grad: &[f32],
    moments: [Codes; 2],
    noise: Noise,
    [wide, _]: [&mut [f32]; 2],
) {
    each_block::<{ codes::BLOCK }, { codes::BLOCK }>(
        param,
        grad,
        moments,
        wide,
        InBytes { scalars, noise },
    );
}

/// Steps f32 elements whose moments have 4 bits, with room as `update_bytes`.
#[inline(always)]
pub fn update_nibbles(
    scalars: &StepScalars<f32>,
    param: &mut [f32],
    grad: &[f32],
    moments: [Codes; 2],
    noise: [Noise; 2],
    wide: &mut [f32],
) {
    each_block::<{ nibbles::BLOCK }, { nibbles::BYTES }>(
        param,
        grad,
        moments,
        wide,
        InNibbles { scalars, noise },
    );
}

/// The step of a block. A method, because it can be `inline(always)`, which a closure cannot.
trait StepBlock {
    /// `start` is the place of its first element, `wide` has room for both moments.
    fn step(
        &mut self,
        start: u32,
        param: &mut [f32],
        grad: &[f32],
        codes: [&mut [u8]; 2],
        scales: &mut [f32; 2],
        wide: [&mut [f32]; 2],
    );
}

struct InBytes<'a> {
    scalars: &'a StepScalars<f32>,
    noise: Noise,
}

impl StepBlock for InBytes<'_> {
    #[inline(always)]
    fn step(
        &mut self,
        start: u32,
        param: &mut [f32],
        grad: &[f32],
        [first, second]: [&mut [u8]; 2],
        scales: &mut [f32; 2],
        mut wide: [&mut [f32]; 2],
    ) {
        let n = param.len();
        let (first, second) = (&mut first[..n], &mut second[..n]);
        let [first_scale, second_scale] = *scales;
        let decoded = |i: usize| {
            [signed::decode(first[i]) * first_scale, unsigned::decode(second[i]) * second_scale]
        };
        let largest = decoded_step(self.scalars, param, grad, decoded, &mut wide);
        let inverse = set_scales(scales, largest);
        encode_bytes([first, second], wide.map(|wide| &wide[..n]), inverse, self.noise.from(start));
    }
}

struct InNibbles<'a> {
    scalars: &'a StepScalars<f32>,
    noise: [Noise; 2],
}

impl StepBlock for InNibbles<'_> {
    #[inline(always)]
    fn step(
        &mut self,
        start: u32,
        param: &mut [f32],
        grad: &[f32],
        [first, second]: [&mut [u8]; 2],
        scales: &mut [f32; 2],
        wide: [&mut [f32]; 2],
    ) {
        let n = param.len().min(nibbles::BYTES);
        let (low, high) = param.split_at_mut(n);
        let (low_grad, high_grad) = grad.split_at(n);
        let [exp_avg, exp_avg_sq] = wide.map(|wide| wide.split_at_mut(n));
        let [mut of_low, mut of_high] = [[exp_avg.0, exp_avg_sq.0], [exp_avg.1, exp_avg_sq.1]];
        let old = *scales;
        let scalars = self.scalars;
        let decoded = |i: usize| decode_both([first[i] & 0xf, second[i] & 0xf], old);
        let largest = decoded_step(scalars, low, low_grad, decoded, &mut of_low);
        let decoded = |i: usize| decode_both([first[i] >> 4, second[i] >> 4], old);
        let of_rest = decoded_step(scalars, high, high_grad, decoded, &mut of_high);
        let largest = [0, 1].map(|moment| largest[moment].max(of_rest[moment]));
        let inverse = set_scales(scales, largest);
        let noise = self.noise.map(|noise| noise.from(start));
        encode_half(0, [first, second], of_low.map(|wide| &wide[..n]), inverse, noise);
        let n = high.len();
        encode_half(1, [first, second], of_high.map(|wide| &wide[..n]), inverse, noise);
    }
}

/// Encodes both moments of a block, for whose first element `noise` is.
#[inline(always)]
pub fn encode_bytes(
    [first, second]: [&mut [u8]; 2],
    [exp_avg, exp_avg_sq]: [&[f32]; 2],
    inverse: [f32; 2],
    noise: Noise,
) {
    let n = exp_avg.len();
    let (first, second, exp_avg_sq) = (&mut first[..n], &mut second[..n], &exp_avg_sq[..n]);
    for i in 0..n {
        first[i] = signed::encode(exp_avg[i], inverse[0]);
    }
    for i in 0..n {
        second[i] = unsigned::encode_randomly(exp_avg_sq[i], inverse[1], noise.word(i as u32));
    }
}

/// Encodes both moments of the low or the high half of a block.
#[inline(always)]
pub fn encode_half(
    half: usize,
    [first, second]: [&mut [u8]; 2],
    [exp_avg, exp_avg_sq]: [&[f32]; 2],
    inverse: [f32; 2],
    noise: [Noise; 2],
) {
    let (shift, n) = (4 * half, exp_avg.len());
    let noise = noise.map(|noise| noise.from((half * nibbles::BYTES) as u32));
    let (first, second, exp_avg_sq) = (&mut first[..n], &mut second[..n], &exp_avg_sq[..n]);
    for i in 0..n {
        let code = nibbles::encode_signed(exp_avg[i], inverse[0], noise[0].word(i as u32));
        first[i] = first[i] & !(0xf << shift) | code << shift;
    }
    for i in 0..n {
        let code = nibbles::encode_unsigned(exp_avg_sq[i], inverse[1], noise[1].word(i as u32));
        second[i] = second[i] & !(0xf << shift) | code << shift;
    }
}

#[inline(always)]
fn decode_both([first, second]: [u8; 2], scales: [f32; 2]) -> [f32; 2] {
    [nibbles::decode_signed(first) * scales[0], nibbles::decode_unsigned(second) * scales[1]]
}

/// Steps block after block of so many elements, whose codes are so many bytes. The length of all
/// but the last is known to the compiler.
#[inline(always)]
fn each_block<const ELEMENTS: usize, const BYTES: usize>(
    param: &mut [f32],
    grad: &[f32],
    [first, second]: [Codes; 2],
    wide: &mut [f32],
    mut block: impl StepBlock,
) {
    for i in 0..param.len().div_ceil(ELEMENTS) {
        let at = i * ELEMENTS..param.len().min((i + 1) * ELEMENTS);
        let start = at.start as u32;
        let (param, grad) = (&mut param[at.clone()], &grad[at]);
        let at = i * BYTES..first.codes.len().min((i + 1) * BYTES);
        let (first_codes, second_codes) = (&mut first.codes[at.clone()], &mut second.codes[at]);
        let mut scales = [first.scales[i], second.scales[i]];
        let (exp_avg, exp_avg_sq) = wide[..2 * ELEMENTS].split_at_mut(ELEMENTS);
        let wide = [exp_avg, exp_avg_sq];
        if param.len() == ELEMENTS && first_codes.len() == BYTES {
            let (param, grad) = (&mut param[..ELEMENTS], &grad[..ELEMENTS]);
            let codes = [&mut first_codes[..BYTES], &mut second_codes[..BYTES]];
            block.step(start, param, grad, codes, &mut scales, wide);
        } else {
            block.step(start, param, grad, [first_codes, second_codes], &mut scales, wide);
        }
        [first.scales[i], second.scales[i]] = scales;
    }
}

/// Steps elements whose moments `decoded` returns, and writes the new ones to `wide`. Returns the
/// bits of their largest magnitudes.
#[inline(always)]
fn decoded_step(
    scalars: &StepScalars<f32>,
    param: &mut [f32],
    grad: &[f32],
    decoded: impl Fn(usize) -> [f32; 2],
    [exp_avg, exp_avg_sq]: &mut [&mut [f32]; 2],
) -> [u32; 2] {
    let n = param.len();
    let (grad, exp_avg, exp_avg_sq) = (&grad[..n], &mut exp_avg[..n], &mut exp_avg_sq[..n]);
    let mut largest = [0; 2];
    for i in 0..n {
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
        for i in 0..n {
            (exp_avg[i], exp_avg_sq[i]) = forgotten(scalars.eps, exp_avg[i], exp_avg_sq[i]);
        }
    }
    largest.map(|bits| bits & 0x7fff_ffff)
}

/// Sets two scales by the bits of the largest magnitudes, and returns their reciprocals.
#[inline(always)]
pub fn set_scales(scales: &mut [f32; 2], largest: [u32; 2]) -> [f32; 2] {
    let [(first, inverse0), (second, inverse1)] = largest.map(codes::scale);
    *scales = [first, second];
    [inverse0, inverse1]
}

#[inline(always)]
fn magnitude(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

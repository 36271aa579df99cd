//! The step of coded moments in registers: the bits of `coded.rs`, by other ways.
//!
//! A part of a block is stepped (`math.rs`), and one of the block before is encoded meanwhile: what
//! waits for the divider, and for a block's largest magnitudes, has other work beside it
//! (`blocks.rs`). An instruction set decodes and encodes (`set.rs`; `avx2.rs`,
//! `avx512.rs`), in words of 16 bits, the upper halves of f32s, where these tell enough. Parameters
//! are f32s, or split masters, joined and split in registers (`params.rs`).
#![forbid(unsafe_code)]

pub mod blocks;
pub mod lanes;
pub mod out_of_line;
pub mod params;
pub mod set;
pub mod words;

use super::coded::{self, Codes, SplitMaster};
use crate::codes::{self, nibbles};
use crate::dtype::Bf16;
use crate::math::StepScalars;
use crate::noise::Noise;
use blocks::{Blocks, is_finite};
use lanes::LANES;
use out_of_line::OutOfLine;
use params::{InF32, InHalves, Params, moments_of};
use set::Registers;

/// Groups of elements in a block, and of bytes in its codes.
const IN_BYTES: [usize; 2] = [codes::BLOCK / LANES; 2];
const IN_NIBBLES: [usize; 2] = [nibbles::BLOCK / LANES, nibbles::BYTES / LANES];

/// See `coded::update_bytes`.
#[inline(always)]
pub fn update_bytes(
    registers: impl OutOfLine,
    scalars: &StepScalars<f32>,
    param: &mut [f32],
    grad: &[f32],
    moments: [Codes; 2],
    noise: Noise,
    wide: [&mut [f32]; 2],
) {
    let operands = (param, grad);
    match n_blocks::<2>(scalars, grad.len() / codes::BLOCK) {
        0 => registers.rest_in_bytes(scalars, operands, moments, noise, wide),
        n_blocks => f32_bytes(registers, n_blocks, scalars, operands, moments, noise, wide),
    }
}

/// See `coded::update_nibbles`.
#[inline(always)]
pub fn update_nibbles(
    registers: impl OutOfLine,
    scalars: &StepScalars<f32>,
    param: &mut [f32],
    grad: &[f32],
    moments: [Codes; 2],
    noise: [Noise; 2],
    wide: &mut [f32],
) {
    let operands = (param, grad);
    match n_blocks::<5>(scalars, grad.len() / nibbles::BLOCK) {
        0 => registers.rest_in_nibbles(scalars, operands, moments, noise, wide),
        n_blocks => f32_nibbles(registers, n_blocks, scalars, operands, moments, noise, wide),
    }
}

/// Steps whole blocks of f32, and the rest.
#[inline(never)] // so that the rest alone is stepped on a smaller stack
fn f32_bytes(
    registers: impl OutOfLine,
    n_blocks: usize,
    scalars: &StepScalars<f32>,
    (param, grad): (&mut [f32], &[f32]),
    mut moments: [Codes; 2],
    noise: Noise,
    mut wide: [&mut [f32]; 2],
) {
    let params = InF32 { param: &mut *param, grad };
    let room = wide.each_mut().map(|wide| &mut **wide);
    step_bytes(registers, n_blocks, scalars, params, &mut moments, noise, room);
    let done = n_blocks * codes::BLOCK;
    let moments = moments.map(|moment| moment.from(done, n_blocks));
    let operands = (&mut param[done..], &grad[done..]);
    registers.rest_in_bytes(scalars, operands, moments, noise.from(done as u32), wide);
}

/// The same of 4 bits.
#[inline(never)] // likewise
fn f32_nibbles(
    registers: impl OutOfLine,
    n_blocks: usize,
    scalars: &StepScalars<f32>,
    (param, grad): (&mut [f32], &[f32]),
    mut moments: [Codes; 2],
    noise: [Noise; 2],
    wide: &mut [f32],
) {
    let params = InF32 { param: &mut *param, grad };
    step_nibbles(registers, n_blocks, scalars, params, &mut moments, noise, wide);
    let done = n_blocks * nibbles::BLOCK;
    let moments = moments.map(|moment| moment.from(n_blocks * nibbles::BYTES, n_blocks));
    let operands = (&mut param[done..], &grad[done..]);
    let noise = noise.map(|noise| noise.from(done as u32));
    registers.rest_in_nibbles(scalars, operands, moments, noise, wide);
}

/// Steps whole blocks.
#[inline(never)] // likewise
fn step_bytes(
    registers: impl OutOfLine,
    n_blocks: usize,
    scalars: &StepScalars<f32>,
    params: impl Params,
    moments: &mut [Codes; 2],
    noise: Noise,
    wide: [&mut [f32]; 2],
) {
    let (noise, wide) = ([noise; 2], wide.map(moments_of));
    let blocks = Blocks { scalars, params, moments, noise, wide };
    step_blocks::<_, { IN_BYTES[0] }, { IN_BYTES[1] }>(registers, n_blocks, blocks);
}

/// The same of 4 bits.
#[inline(never)] // likewise
fn step_nibbles(
    registers: impl OutOfLine,
    n_blocks: usize,
    scalars: &StepScalars<f32>,
    params: impl Params,
    moments: &mut [Codes; 2],
    noise: [Noise; 2],
    wide: &mut [f32],
) {
    let (wide, other) = wide.split_at_mut(2 * nibbles::BLOCK);
    let wide = [moments_of(wide), moments_of(other)];
    let blocks = Blocks { scalars, params, moments, noise, wide };
    step_blocks::<_, { IN_NIBBLES[0] }, { IN_NIBBLES[1] }>(registers, n_blocks, blocks);
}

/// Steps whole blocks of split masters whose moments have 8 bits.
#[inline(always)]
pub fn update_split_bytes(
    registers: impl OutOfLine,
    scalars: &StepScalars<f32>,
    master: SplitMaster,
    grad: &[Bf16],
    mut moments: [Codes; 2],
    noise: Noise,
    wide: [&mut [f32]; 2],
) {
    let n_blocks = grad.len() / codes::BLOCK;
    let params = InHalves { master, grad };
    step_bytes(registers, n_blocks, scalars, params, &mut moments, noise, wide);
}

/// Steps whole blocks of split masters whose moments have 4 bits.
#[inline(always)]
pub fn update_split_nibbles(
    registers: impl OutOfLine,
    scalars: &StepScalars<f32>,
    master: SplitMaster,
    grad: &[Bf16],
    mut moments: [Codes; 2],
    noise: [Noise; 2],
    wide: &mut [f32],
) {
    let n_blocks = grad.len() / nibbles::BLOCK;
    let params = InHalves { master, grad };
    step_nibbles(registers, n_blocks, scalars, params, &mut moments, noise, wide);
}

/// Returns how many of the whole blocks are stepped here: none if they are fewer than `FEW`, and
/// none in a step that forgets. Beside a single block nothing is encoded, and those of 4 bits that
/// `stepper.rs` widens, four at a time, would need more stack than a step has.
fn n_blocks<const FEW: usize>(scalars: &StepScalars<f32>, whole: usize) -> usize {
    if whole < FEW || scalars.forgets { 0 } else { whole }
}

/// Steps what there are no whole blocks of.
#[inline(always)]
pub fn rest_in_bytes<R: Registers>(
    _: R,
    scalars: &StepScalars<f32>,
    (param, grad): (&mut [f32], &[f32]),
    moments: [Codes; 2],
    noise: Noise,
    wide: [&mut [f32]; 2],
) {
    coded::update_bytes(scalars, param, grad, moments, noise, wide);
}

/// The same of 4 bits.
#[inline(always)]
pub fn rest_in_nibbles<R: Registers>(
    _: R,
    scalars: &StepScalars<f32>,
    (param, grad): (&mut [f32], &[f32]),
    moments: [Codes; 2],
    noise: [Noise; 2],
    wide: &mut [f32],
) {
    coded::update_nibbles(scalars, param, grad, moments, noise, wide);
}

#[inline(always)]
fn step_blocks<P: Params, const N: usize, const BYTES: usize>(
    registers: impl OutOfLine,
    n_blocks: usize,
    mut blocks: Blocks<P, N, BYTES>,
) {
    let mut i = 0;
    while i < n_blocks {
        let inverse = registers.step_alone(&mut blocks, i);
        let inverse = registers.step_further(&mut blocks, &mut i, n_blocks, inverse);
        registers.finish(&mut blocks, i);
        match is_finite(inverse) {
            true => registers.encode(&mut blocks, i, inverse),
            false => blocks.encode_any(i, inverse),
        }
        i += 1;
    }
}

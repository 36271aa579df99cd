//! The step of coded moments with AVX-512: the bits of `coded.rs`, by other ways.
//!
//! Sixty-four elements of a block are stepped (`math.rs`, over `lanes.rs`), and as many of the
//! block before are encoded meanwhile: what waits for the divider, and for a block's largest
//! magnitudes, has other work beside it. Codes are decoded and encoded as words of 16 bits, the
//! upper halves of f32s, of which a register has thirty-two (`bytes.rs`, `nibbles.rs`). Parameters
//! are f32s, or split masters, joined and split in registers (`params.rs`).

mod bytes;
mod nibbles;
mod params;
mod words;

use super::coded::{self, Codes, SplitMaster};
use crate::codes;
use crate::cpu::convert::Convert;
use crate::cpu::lanes::{Floats, LANES};
use crate::dtype::Bf16;
use crate::math::{Arithmetic, StepScalars, direction, moments, moved};
use crate::noise::Noise;
use core::arch::x86_64::*;
use core::marker::PhantomData;
use params::{Block, Groups, InF32, InHalves, Params, groups, groups_mut, moments_of};

/// Groups of elements in a block, and of bytes in its codes.
const IN_BYTES: [usize; 2] = [codes::BLOCK / LANES; 2];
const IN_NIBBLES: [usize; 2] = [codes::nibbles::BLOCK / LANES, codes::nibbles::BYTES / LANES];

/// A block that has been stepped, and is encoded while the next one is.
struct Stepped<'a, const N: usize, const BYTES: usize> {
    codes: [&'a mut Groups<u8, BYTES>; 2],
    wide: [&'a Groups<f32, N>; 2],
    /// The reciprocals of its scales.
    inverse: [f32; 2],
    noise: [Noise; 2],
}

/// See `coded::update_bytes`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub fn update_bytes(
    scalars: &StepScalars<f32>,
    param: &mut [f32],
    grad: &[f32],
    mut moments: [Codes; 2],
    noise: Noise,
    mut wide: [&mut [f32]; 2],
) {
    let n_blocks = n_blocks::<2>(scalars, param.len() / codes::BLOCK);
    if n_blocks == 0 {
        return rest_in_bytes(scalars, param, grad, moments, noise, wide);
    }
    let room = wide.each_mut().map(|wide| &mut **wide);
    let whole = (n_blocks, [noise; 2]);
    let params = InF32 { param: &mut *param, grad };
    update::<_, { IN_BYTES[0] }, { IN_BYTES[1] }>(whole, scalars, params, &mut moments, room);
    after_in_bytes((n_blocks, noise), scalars, param, grad, moments, wide);
}

/// Steps what follows so many blocks.
#[inline(never)] // so that `update` runs on a smaller stack
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn after_in_bytes(
    (n_blocks, noise): (usize, Noise),
    scalars: &StepScalars<f32>,
    param: &mut [f32],
    grad: &[f32],
    moments: [Codes; 2],
    wide: [&mut [f32]; 2],
) {
    let done = n_blocks * codes::BLOCK;
    let moments = moments.map(|moment| moment.from(done, n_blocks));
    let (param, grad) = (&mut param[done..], &grad[done..]);
    rest_in_bytes(scalars, param, grad, moments, noise.from(done as u32), wide);
}

/// Steps what there are no loops over whole blocks for.
#[inline(never)] // so that `update` runs on a smaller stack
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn rest_in_bytes(
    scalars: &StepScalars<f32>,
    param: &mut [f32],
    grad: &[f32],
    moments: [Codes; 2],
    noise: Noise,
    wide: [&mut [f32]; 2],
) {
    coded::update_bytes(scalars, param, grad, moments, noise, wide);
}

/// See `coded::update_nibbles`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub fn update_nibbles(
    scalars: &StepScalars<f32>,
    param: &mut [f32],
    grad: &[f32],
    mut moments: [Codes; 2],
    noise: [Noise; 2],
    wide: &mut [f32],
) {
    let n_blocks = n_blocks::<5>(scalars, param.len() / codes::nibbles::BLOCK);
    if n_blocks == 0 {
        return rest_in_nibbles(scalars, param, grad, moments, noise, wide);
    }
    let room = wide.split_at_mut(2 * codes::nibbles::BLOCK).into();
    let whole = (n_blocks, noise);
    let params = InF32 { param: &mut *param, grad };
    update::<_, { IN_NIBBLES[0] }, { IN_NIBBLES[1] }>(whole, scalars, params, &mut moments, room);
    after_in_nibbles((n_blocks, noise), scalars, param, grad, moments, wide);
}

/// Steps what follows so many blocks.
#[inline(never)] // so that `update` runs on a smaller stack
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn after_in_nibbles(
    (n_blocks, noise): (usize, [Noise; 2]),
    scalars: &StepScalars<f32>,
    param: &mut [f32],
    grad: &[f32],
    moments: [Codes; 2],
    wide: &mut [f32],
) {
    let done = n_blocks * codes::nibbles::BLOCK;
    let moments = moments.map(|moment| moment.from(n_blocks * codes::nibbles::BYTES, n_blocks));
    let (param, grad) = (&mut param[done..], &grad[done..]);
    let noise = noise.map(|noise| noise.from(done as u32));
    rest_in_nibbles(scalars, param, grad, moments, noise, wide);
}

/// As `rest_in_bytes`.
#[inline(never)] // so that `update` runs on a smaller stack
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn rest_in_nibbles(
    scalars: &StepScalars<f32>,
    param: &mut [f32],
    grad: &[f32],
    moments: [Codes; 2],
    noise: [Noise; 2],
    wide: &mut [f32],
) {
    coded::update_nibbles(scalars, param, grad, moments, noise, wide);
}

/// Steps whole blocks of split masters whose moments have 8 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub fn update_split_bytes<C: Convert>(
    scalars: &StepScalars<f32>,
    master: SplitMaster,
    grad: &[Bf16],
    mut moments: [Codes; 2],
    noise: Noise,
    wide: [&mut [f32]; 2],
) {
    let whole = (grad.len() / codes::BLOCK, [noise; 2]);
    let params = InHalves { master, grad, by: PhantomData::<C> };
    update::<_, { IN_BYTES[0] }, { IN_BYTES[1] }>(whole, scalars, params, &mut moments, wide);
}

/// Steps whole blocks of split masters whose moments have 4 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub fn update_split_nibbles<C: Convert>(
    scalars: &StepScalars<f32>,
    master: SplitMaster,
    grad: &[Bf16],
    mut moments: [Codes; 2],
    noise: [Noise; 2],
    wide: &mut [f32],
) {
    let wide = wide.split_at_mut(2 * codes::nibbles::BLOCK).into();
    let whole = (grad.len() / codes::nibbles::BLOCK, noise);
    let params = InHalves { master, grad, by: PhantomData::<C> };
    update::<_, { IN_NIBBLES[0] }, { IN_NIBBLES[1] }>(whole, scalars, params, &mut moments, wide);
}

/// Returns how many of the whole blocks are stepped here: none if they are fewer than `FEW`, and
/// none in a step that forgets. Beside a single block nothing is encoded, and those of 4 bits that
/// `stepper.rs` widens, four at a time, would need more stack than a step has.
fn n_blocks<const FEW: usize>(scalars: &StepScalars<f32>, whole: usize) -> usize {
    if whole < FEW || scalars.forgets { 0 } else { whole }
}

/// Steps whole blocks. Each `wide` has room for both moments of one. No part of the loops for
/// other blocks, so that the stack has one of both.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn update<P: Params, const N: usize, const BYTES: usize>(
    (n_blocks, noise): (usize, [Noise; 2]),
    scalars: &StepScalars<f32>,
    mut params: P,
    [first, second]: &mut [Codes; 2],
    [wide, other]: [&mut [f32]; 2],
) {
    let (mut now, mut last) = (moments_of::<N>(wide), moments_of::<N>(other));
    let mut inverse = None;
    for i in 0..n_blocks {
        core::mem::swap(&mut now, &mut last);
        let (start, start_bytes) = (i * N * LANES, i * BYTES * LANES);
        let scales = [first.scales[i], second.scales[i]];
        let mut params = params.block::<N>(start);
        let (first_before, first_codes) = first.codes.split_at_mut(start_bytes);
        let (second_before, second_codes) = second.codes.split_at_mut(start_bytes);
        let codes = [groups(first_codes), groups(second_codes)];
        let largest = match inverse {
            None => first_step(scalars, scales, &mut params, codes, &mut now),
            Some(inverse) => {
                let at = start_bytes - BYTES * LANES;
                let codes_before = [&mut first_before[at..], &mut second_before[at..]];
                let before = Stepped {
                    codes: codes_before.map(groups_mut),
                    wide: [&*last[0], &*last[1]],
                    inverse,
                    noise: noise.map(|noise| noise.from((start - N * LANES) as u32)),
                };
                let before = Some(before);
                step::<N, BYTES, true>(scalars, scales, &mut params, codes, &mut now, before)
            }
        };
        let mut scales = [0.0; 2];
        inverse = Some(coded::set_scales(&mut scales, largest));
        [first.scales[i], second.scales[i]] = scales;
    }
    if let Some(inverse) = inverse {
        let last = n_blocks - 1;
        let at = last * BYTES * LANES;
        let codes = [&mut first.codes[at..], &mut second.codes[at..]].map(groups_mut::<_, BYTES>);
        let noise = noise.map(|noise| noise.from((last * N * LANES) as u32));
        encode(Stepped::<N, BYTES> { codes, wide: [&*now[0], &*now[1]], inverse, noise });
    }
}

/// Steps the first block, before which there is none.
#[inline(never)] // so that the others are stepped on a smaller stack
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn first_step<const N: usize, const BYTES: usize>(
    scalars: &StepScalars<f32>,
    scales: [f32; 2],
    params: &mut impl Block,
    codes: [&Groups<u8, BYTES>; 2],
    wide: &mut [&mut Groups<f32, N>; 2],
) -> [u32; 2] {
    step::<N, BYTES, false>(scalars, scales, params, codes, wide, None)
}

/// Encodes the last block, after which there is none.
#[inline(never)] // so that the others are stepped on a smaller stack
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn encode<const N: usize, const BYTES: usize>(mut block: Stepped<N, BYTES>) {
    for i in 0..N {
        encode_first(&mut block, i);
        encode_second(&mut block, i);
    }
}

/// Steps a block, and encodes the one before. Returns the bits of the largest magnitudes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn step<const N: usize, const BYTES: usize, const ENCODES: bool>(
    scalars: &StepScalars<f32>,
    scales: [f32; 2],
    params: &mut impl Block,
    codes: [&Groups<u8, BYTES>; 2],
    wide: &mut [&mut Groups<f32, N>; 2],
    mut before: Option<Stepped<N, BYTES>>,
) -> [u32; 2] {
    let scalars = &scalars.map(|scalar| Floats::splat(scalar));
    let scales = scales.map(|scale| Floats::splat(scale));
    let mut largest = [_mm512_setzero_si512(); 2];
    let magnitude = _mm512_set1_epi32(0x7fff_ffff);
    let [first, second] = wide;
    for (i, (first, second)) in first.iter_mut().zip(second.iter_mut()).enumerate() {
        let [exp_avg, exp_avg_sq] = decode(codes, i);
        let (exp_avg, exp_avg_sq) = (exp_avg * scales[0], exp_avg_sq * scales[1]);
        let grad = Floats::load(params.grad(i, &mut [0.0; LANES]));
        let (exp_avg, exp_avg_sq) = moments(scalars, grad, exp_avg, exp_avg_sq);
        let root = exp_avg_sq.sqrt();
        exp_avg.store(first);
        exp_avg_sq.store(second);
        for bits in exp_avg.bits() {
            largest[0] = _mm512_max_epu32(largest[0], _mm512_and_si512(bits, magnitude));
        }
        for bits in exp_avg_sq.bits() {
            largest[1] = _mm512_max_epu32(largest[1], bits);
        }
        if let (true, Some(before)) = (ENCODES, &mut before) {
            encode_first(before, i);
        }
        let direction = direction(scalars, exp_avg, root);
        if let (true, Some(before)) = (ENCODES, &mut before) {
            encode_second(before, i);
        }
        let param = Floats::load(params.param(i, &mut [0.0; LANES]));
        let mut after = [0.0; LANES];
        moved(scalars, param, direction).store(&mut after);
        params.set_param(i, &after);
    }
    // A second moment is not negative, but a NaN may have a sign.
    largest.map(|bits| _mm512_reduce_max_epu32(bits) & 0x7fff_ffff)
}

/// Returns what the codes of both moments of a group stand for, beside their scales.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn decode<const BYTES: usize>(codes: [&Groups<u8, BYTES>; 2], i: usize) -> [Floats; 2] {
    match BYTES == IN_BYTES[1] {
        true => [bytes::decode_signed(&codes[0][i]), bytes::decode_unsigned(&codes[1][i])],
        false => nibbles::decode([&codes[0][0], &codes[1][0]], i),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn encode_first<const N: usize, const BYTES: usize>(block: &mut Stepped<N, BYTES>, i: usize) {
    let wide = Floats::load(&block.wide[0][i]);
    match N == IN_BYTES[0] {
        true => words::store(bytes::encode_signed(wide, block.inverse[0]), &mut block.codes[0][i]),
        false => {
            let noise = words::noise(block.noise[0], i);
            let codes = nibbles::encode_signed(wide, block.inverse[0], noise);
            nibbles::store(codes, i, &mut block.codes[0][0]);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn encode_second<const N: usize, const BYTES: usize>(block: &mut Stepped<N, BYTES>, i: usize) {
    let wide = Floats::load(&block.wide[1][i]);
    let noise = words::noise(block.noise[1], i);
    match N == IN_BYTES[0] {
        true => {
            let codes = bytes::encode_unsigned(wide, block.inverse[1], noise);
            words::store(codes, &mut block.codes[1][i]);
        }
        false => {
            let codes = nibbles::encode_unsigned(wide, block.inverse[1], noise);
            nibbles::store(codes, i, &mut block.codes[1][0]);
        }
    }
}

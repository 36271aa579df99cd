//! Blocks of codes, stepped one after the other: each is encoded while the next one is stepped.
#![forbid(unsafe_code)]

use super::IN_BYTES;
use super::lanes::LANES;
use super::params::{Block, Groups, Params, groups, groups_mut};
use super::set::Registers;
use crate::codes::nibbles;
use crate::cpu::coded::{self, Codes};
use crate::math::{Arithmetic, StepScalars, direction, moments, moved};
use crate::noise::Noise;

/// Blocks that are stepped, of `N` groups and codes of `BYTES` groups.
pub struct Blocks<'a, 'c, P, const N: usize, const BYTES: usize> {
    pub scalars: &'a StepScalars<f32>,
    pub params: P,
    pub moments: &'a mut [Codes<'c>; 2],
    /// That of both moments, for the first element.
    pub noise: [Noise; 2],
    /// Both moments of a block with an even number, and of one with an odd number.
    pub wide: [[&'a mut Groups<f32, N>; 2]; 2],
}

/// A block that has been stepped, and is encoded while the next one is.
struct Stepped<'a, const N: usize, const BYTES: usize> {
    codes: [&'a mut Groups<u8, BYTES>; 2],
    wide: [&'a Groups<f32, N>; 2],
    /// The reciprocals of its scales.
    inverse: [f32; 2],
    noise: [Noise; 2],
}

impl<P: Params, const N: usize, const BYTES: usize> Blocks<'_, '_, P, N, BYTES> {
    /// Returns block `i` as it is encoded.
    #[inline(always)]
    fn stepped(&mut self, i: usize, inverse: [f32; 2]) -> Stepped<'_, N, BYTES> {
        let codes = self.moments.each_mut();
        let codes = codes.map(|moment| groups_mut(&mut moment.codes[i * BYTES * LANES..]));
        let wide = self.wide[i % 2].each_ref().map(|wide| &**wide);
        Stepped { codes, wide, inverse, noise: noise_of::<N>(self.noise, i) }
    }

    /// Sets the scales of block `i`, and returns their reciprocals.
    #[inline(always)]
    fn set_scales(&mut self, i: usize, largest: [u32; 2]) -> [f32; 2] {
        let mut scales = [0.0; 2];
        let inverse = coded::set_scales(&mut scales, largest);
        [self.moments[0].scales[i], self.moments[1].scales[i]] = scales;
        inverse
    }

    /// Encodes a block of any numbers.
    #[inline(never)] // so that the others are stepped on a smaller stack
    pub fn encode_any(&mut self, i: usize, inverse: [f32; 2]) {
        let Stepped { codes, wide, inverse, noise } = self.stepped(i, inverse);
        let codes = codes.map(|codes| codes.as_flattened_mut());
        let wide = wide.map(|wide| wide.as_flattened());
        if in_bytes::<N>() {
            return coded::encode_bytes(codes, wide, inverse, noise[1]);
        }
        let [first, second] = codes;
        for half in 0..2 {
            let wide = wide.map(|wide| &wide.as_chunks::<{ nibbles::BYTES }>().0[half][..]);
            coded::encode_half(half, [&mut *first, &mut *second], wide, inverse, noise);
        }
    }
}

#[inline(always)]
fn noise_of<const N: usize>(noise: [Noise; 2], block: usize) -> [Noise; 2] {
    noise.map(|noise| noise.from((block * N * LANES) as u32))
}

/// Returns whether the scales with these reciprocals are finite, and so all that they scale.
#[inline(always)]
pub fn is_finite(inverse: [f32; 2]) -> bool {
    inverse.iter().all(|inverse| *inverse > 0.0)
}

/// Steps block `i`, while none is encoded. Returns the reciprocals of its scales.
#[inline(always)]
pub fn step_alone<R: Registers, P: Params, const N: usize, const BYTES: usize>(
    registers: R,
    blocks: &mut Blocks<P, N, BYTES>,
    i: usize,
) -> [f32; 2] {
    let scales = blocks.moments.each_ref().map(|moment| moment.scales[i]);
    let codes = blocks.moments.each_ref();
    let codes = codes.map(|moment| groups(&moment.codes[i * BYTES * LANES..]));
    let (mut params, wide) = (blocks.params.block::<N>(i * N * LANES), &mut blocks.wide[i % 2]);
    let scalars = blocks.scalars;
    let largest =
        step::<_, N, BYTES, false>(registers, scalars, scales, &mut params, codes, wide, None);
    drop(params);
    blocks.set_scales(i, largest)
}

/// Steps the blocks after block `i`, and encodes the one before each, up to the last of so many, or
/// one that is not finite. `i` becomes its number; returns the reciprocals of its scales.
#[inline(always)]
pub fn step_further<R: Registers, P: Params, const N: usize, const BYTES: usize>(
    registers: R,
    blocks: &mut Blocks<P, N, BYTES>,
    i: &mut usize,
    n_blocks: usize,
    mut inverse: [f32; 2],
) -> [f32; 2] {
    while *i + 1 < n_blocks && is_finite(inverse) {
        let noise = noise_of::<N>(blocks.noise, *i);
        *i += 1;
        let start = *i * BYTES * LANES;
        let scales = blocks.moments.each_ref().map(|moment| moment.scales[*i]);
        let mut params = blocks.params.block::<N>(*i * N * LANES);
        let [even, odd] = &mut blocks.wide;
        let (wide, last) = if i.is_multiple_of(2) { (even, odd) } else { (odd, even) };
        let [first, second] =
            blocks.moments.each_mut().map(|moment| moment.codes.split_at_mut(start));
        let before = [first.0, second.0];
        let before = Stepped {
            codes: before.map(|codes| groups_mut(&mut codes[start - BYTES * LANES..])),
            wide: last.each_ref().map(|wide| &**wide),
            inverse,
            noise,
        };
        let codes = [groups(first.1), groups(second.1)];
        let (scalars, before) = (blocks.scalars, Some(before));
        let largest =
            step::<_, N, BYTES, true>(registers, scalars, scales, &mut params, codes, wide, before);
        drop(params);
        inverse = blocks.set_scales(*i, largest);
    }
    inverse
}

/// Returns whether blocks of so many groups have codes of 8 bits.
const fn in_bytes<const N: usize>() -> bool {
    N == IN_BYTES[0]
}

/// Encodes block `i`, which is finite.
#[inline(always)]
pub fn encode<R: Registers, P: Params, const N: usize, const BYTES: usize>(
    registers: R,
    blocks: &mut Blocks<P, N, BYTES>,
    i: usize,
    inverse: [f32; 2],
) {
    let mut block = blocks.stepped(i, inverse);
    for group in 0..N {
        for part in 0..R::PARTS {
            encode_first(registers, &mut block, group, part);
            encode_second(registers, &mut block, group, part);
        }
    }
}

/// Steps a block, and encodes the one before. Returns the bits of the largest magnitudes.
#[inline(always)]
fn step<R: Registers, const N: usize, const BYTES: usize, const ENCODES: bool>(
    registers: R,
    scalars: &StepScalars<f32>,
    scales: [f32; 2],
    params: &mut impl Block,
    codes: [&Groups<u8, BYTES>; 2],
    wide: &mut [&mut Groups<f32, N>; 2],
    mut before: Option<Stepped<N, BYTES>>,
) -> [u32; 2] {
    let scalars = &scalars.map(|scalar| registers.splat(scalar));
    let scales = scales.map(|scale| registers.splat(scale));
    let mut largest = [registers.none(); 2];
    let [first, second] = wide;
    for (group, (first, second)) in first.iter_mut().zip(second.iter_mut()).enumerate() {
        let mut buffers = [[0.0; LANES]; 2];
        let (param, grad) = params.open(group, &mut buffers);
        for part in 0..R::PARTS {
            let [exp_avg, exp_avg_sq] = match in_bytes::<N>() {
                true => registers.decode_bytes(codes.map(|codes| &codes[group]), part),
                false => registers.decode_nibbles(codes.map(|codes| &codes[0]), group, part),
            };
            let (exp_avg, exp_avg_sq) = (exp_avg * scales[0], exp_avg_sq * scales[1]);
            let grad = registers.load(grad, part);
            let (exp_avg, exp_avg_sq) = moments(scalars, grad, exp_avg, exp_avg_sq);
            registers.store(exp_avg, first, part);
            registers.store(exp_avg_sq, second, part);
            let root = exp_avg_sq.sqrt();
            largest[0] = registers.larger_magnitude(largest[0], exp_avg);
            largest[1] = registers.larger(largest[1], exp_avg_sq);
            if let (true, Some(before)) = (ENCODES, &mut before) {
                encode_first(registers, before, group, part);
            }
            let direction = direction(scalars, exp_avg, root);
            if let (true, Some(before)) = (ENCODES, &mut before) {
                encode_second(registers, before, group, part);
            }
            let after = moved(scalars, registers.load(param, part), direction);
            registers.store(after, param, part);
        }
        params.close(group, &buffers[0]);
    }
    // A second moment is not negative, but a NaN may have a sign.
    largest.map(|largest| registers.largest(largest) & 0x7fff_ffff)
}

#[inline(always)]
fn encode_first<R: Registers, const N: usize, const BYTES: usize>(
    registers: R,
    block: &mut Stepped<N, BYTES>,
    group: usize,
    part: usize,
) {
    let (wide, inverse) = (registers.load(&block.wide[0][group], part), block.inverse[0]);
    let codes = &mut block.codes[0];
    if in_bytes::<N>() {
        let encoded = registers.encode_signed_bytes(wide, inverse);
        registers.store_bytes(encoded, &mut codes[group], part);
    } else {
        let noise = noise::<R>(block.noise[0], group, part);
        let encoded = registers.encode_signed_nibbles(wide, inverse, noise);
        registers.store_nibbles(encoded, group, &mut codes[0], part);
    }
}

#[inline(always)]
fn encode_second<R: Registers, const N: usize, const BYTES: usize>(
    registers: R,
    block: &mut Stepped<N, BYTES>,
    group: usize,
    part: usize,
) {
    let (wide, inverse) = (registers.load(&block.wide[1][group], part), block.inverse[1]);
    let (codes, noise) = (&mut block.codes[1], noise::<R>(block.noise[1], group, part));
    if in_bytes::<N>() {
        let encoded = registers.encode_unsigned_bytes(wide, inverse, noise);
        registers.store_bytes(encoded, &mut codes[group], part);
    } else {
        let encoded = registers.encode_unsigned_nibbles(wide, inverse, noise);
        registers.store_nibbles(encoded, group, &mut codes[0], part);
    }
}

/// Returns the noise of a part.
#[inline(always)]
fn noise<R: Registers>(of_block: Noise, group: usize, part: usize) -> Noise {
    of_block.from((group * LANES + part * (LANES / R::PARTS)) as u32)
}

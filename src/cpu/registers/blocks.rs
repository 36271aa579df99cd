//! Blocks of codes, stepped one after the other: each is encoded while the next one is stepped.
#![forbid(unsafe_code)]

use super::IN_BYTES;
use super::lanes::LANES;
use super::params::{Groups, Params, groups, groups_mut};
use super::set::Registers;
use crate::codes::nibbles;
use crate::cpu::coded::{self, Codes};
use crate::math::{Arithmetic, StepScalars, direction, moments};
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

/// A block while it is stepped.
struct Stepping<'a, R: Registers, const N: usize, const BYTES: usize> {
    registers: R,
    codes: [&'a Groups<u8, BYTES>; 2],
    scales: [R::Floats; 2],
    wide: [&'a mut Groups<f32, N>; 2],
}

impl<'a, R: Registers, const N: usize, const BYTES: usize> Stepping<'a, R, N, BYTES> {
    #[inline(always)]
    fn new(
        registers: R,
        codes: [&'a Groups<u8, BYTES>; 2],
        scales: [f32; 2],
        wide: &'a mut [&mut Groups<f32, N>; 2],
    ) -> Self {
        let scales = scales.map(|scale| registers.splat(scale));
        let wide = wide.each_mut().map(|wide| &mut **wide);
        Stepping { registers, codes, scales, wide }
    }

    /// Steps the moments of a part. Returns exp_avg, and the root of exp_avg_sq.
    #[inline(always)]
    fn step(
        &mut self,
        scalars: &StepScalars<R::Floats>,
        grad: R::Floats,
        largest: &mut [R::Largest; 2],
        at: usize,
    ) -> [R::Floats; 2] {
        let (registers, codes) = (self.registers, self.codes.map(|codes| codes.as_flattened()));
        let [exp_avg, exp_avg_sq] = match in_bytes::<N>() {
            true => registers.decode_bytes(codes, at),
            false => {
                let [half, at] = in_half::<R>(at);
                registers.decode_nibbles(codes, half, at)
            }
        };
        let (exp_avg, exp_avg_sq) = (exp_avg * self.scales[0], exp_avg_sq * self.scales[1]);
        let (exp_avg, exp_avg_sq) = moments(scalars, grad, exp_avg, exp_avg_sq);
        registers.store(exp_avg, self.wide[0].as_flattened_mut(), at);
        registers.store(exp_avg_sq, self.wide[1].as_flattened_mut(), at);
        largest[0] = registers.larger_magnitude(largest[0], exp_avg);
        largest[1] = registers.larger(largest[1], exp_avg_sq);
        [exp_avg, exp_avg_sq.sqrt()]
    }
}

/// Returns the bits of the largest magnitudes.
#[inline(always)]
fn magnitudes<R: Registers>(registers: R, largest: [R::Largest; 2]) -> [u32; 2] {
    // A second moment is not negative, but a NaN may have a sign.
    largest.map(|largest| registers.largest(largest) & 0x7fff_ffff)
}

/// Steps block `i`, while none is encoded, but for the last part of its parameters. Returns the
/// reciprocals of its scales.
#[inline(always)]
pub fn step_alone<R: Registers, P: Params, const N: usize, const BYTES: usize>(
    registers: R,
    blocks: &mut Blocks<P, N, BYTES>,
    i: usize,
) -> [f32; 2] {
    let scalars = &blocks.scalars.map(|scalar| registers.splat(scalar));
    let scales = blocks.moments.each_ref().map(|moment| moment.scales[i]);
    let codes = blocks.moments.each_ref();
    let codes = codes.map(|moment| groups(&moment.codes[i * BYTES * LANES..]));
    let places = i * N * LANES..(i + 1) * N * LANES;
    let (mut params, wide) = (blocks.params.at(places.clone(), places), &mut blocks.wide[i % 2]);
    let mut largest = [registers.none(); 2];
    let mut block = Stepping::<R, N, BYTES>::new(registers, codes, scales, wide);
    for at in 0..n_parts::<R, N>() {
        let stepped = block.step(scalars, params.grad(registers, at), &mut largest, at);
        if !R::LATE || at + 1 < n_parts::<R, N>() {
            params.step_in(registers, scalars, direction(scalars, stepped[0], stepped[1]), at);
        }
    }
    drop(params);
    blocks.set_scales(i, magnitudes(registers, largest))
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
    // In memory, so that the compiler aligns the frame: no register is spilled across two lines.
    let none = core::hint::black_box(registers.none());
    let scalars = &blocks.scalars.map(|scalar| registers.splat(scalar));
    while *i + 1 < n_blocks && is_finite(inverse) {
        let noise = noise_of::<N>(blocks.noise, *i);
        *i += 1;
        let start = *i * BYTES * LANES;
        let scales = blocks.moments.each_ref().map(|moment| moment.scales[*i]);
        let [even, odd] = &mut blocks.wide;
        let (wide, last) = if i.is_multiple_of(2) { (even, odd) } else { (odd, even) };
        let [first, second] =
            blocks.moments.each_mut().map(|moment| moment.codes.split_at_mut(start));
        let before = [first.0, second.0];
        let mut before: Stepped<N, BYTES> = Stepped {
            codes: before.map(|codes| groups_mut(&mut codes[start - BYTES * LANES..])),
            wide: last.each_ref().map(|wide| &**wide),
            inverse,
            noise,
        };
        let codes = [groups(first.1), groups(second.1)];
        let (start, end) = (*i * N * LANES, (*i + 1) * N * LANES);
        let lag = if R::LATE { R::PART } else { 0 };
        let mut params = blocks.params.at(start - lag..end - lag, start..end);
        let mut largest = [none; 2];
        let mut block = Stepping::<R, N, BYTES>::new(registers, codes, scales, wide);
        let mut late = last_part(registers, before.wide);
        for at in 0..n_parts::<R, N>() {
            if !R::LATE {
                late = block.step(scalars, params.grad(registers, at), &mut largest, at);
            }
            let direction = direction(scalars, late[0], late[1]);
            if R::LATE && in_bytes::<N>() {
                // In this order the compiler spills fewer registers, and in the other with 4 bits.
                let second = encode_second(registers, &before, at);
                params.step_in(registers, scalars, direction, at);
                late = block.step(scalars, params.grad(registers, at), &mut largest, at);
                let first = encode_first(registers, &before, at);
                store_codes(registers, &mut before, [first, second], at);
                continue;
            }
            let first = encode_first(registers, &before, at);
            let second = encode_second(registers, &before, at);
            if R::LATE {
                late = block.step(scalars, params.grad(registers, at), &mut largest, at);
            }
            store_codes(registers, &mut before, [first, second], at);
            params.step_in(registers, scalars, direction, at);
        }
        drop(params);
        inverse = blocks.set_scales(*i, magnitudes(registers, largest));
    }
    inverse
}

/// Moves the last part of the parameters of block `i`, if that is late.
#[inline(always)]
pub fn finish<R: Registers, P: Params, const N: usize, const BYTES: usize>(
    registers: R,
    blocks: &mut Blocks<P, N, BYTES>,
    i: usize,
) {
    if !R::LATE {
        return;
    }
    let scalars = &blocks.scalars.map(|scalar| registers.splat(scalar));
    let late = last_part(registers, blocks.wide[i % 2].each_ref().map(|wide| &**wide));
    let end = (i + 1) * N * LANES;
    let mut params = blocks.params.at(end - R::PART..end, end..end);
    params.step_in(registers, scalars, direction(scalars, late[0], late[1]), 0);
}

/// Returns, of the last part of a block, exp_avg and the root of exp_avg_sq.
#[inline(always)]
fn last_part<R: Registers, const N: usize>(
    registers: R,
    wide: [&Groups<f32, N>; 2],
) -> [R::Floats; 2] {
    let [exp_avg, exp_avg_sq] =
        wide.map(|wide| registers.load(wide.as_flattened(), n_parts::<R, N>() - 1));
    [exp_avg, exp_avg_sq.sqrt()]
}

/// Returns the number of parts of a block.
const fn n_parts<R: Registers, const N: usize>() -> usize {
    N * LANES / R::PART
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
    for at in 0..n_parts::<R, N>() {
        let codes = [encode_first(registers, &block, at), encode_second(registers, &block, at)];
        store_codes(registers, &mut block, codes, at);
    }
}

/// Returns the half of a block of 4 bits that a part is in, and its place there.
#[inline(always)]
fn in_half<R: Registers>(at: usize) -> [usize; 2] {
    [at / (nibbles::BYTES / R::PART), at % (nibbles::BYTES / R::PART)]
}

#[inline(always)]
fn encode_first<R: Registers, const N: usize, const BYTES: usize>(
    registers: R,
    block: &Stepped<N, BYTES>,
    at: usize,
) -> R::Codes {
    let (wide, inverse) = (registers.load(block.wide[0].as_flattened(), at), block.inverse[0]);
    if in_bytes::<N>() {
        return registers.encode_signed_bytes(wide, inverse);
    }
    registers.encode_signed_nibbles(wide, inverse, noise::<R>(block.noise[0], at))
}

#[inline(always)]
fn encode_second<R: Registers, const N: usize, const BYTES: usize>(
    registers: R,
    block: &Stepped<N, BYTES>,
    at: usize,
) -> R::Codes {
    let (wide, inverse) = (registers.load(block.wide[1].as_flattened(), at), block.inverse[1]);
    let noise = noise::<R>(block.noise[1], at);
    if in_bytes::<N>() {
        return registers.encode_unsigned_bytes(wide, inverse, noise);
    }
    registers.encode_unsigned_nibbles(wide, inverse, noise)
}

#[inline(always)]
fn store_codes<R: Registers, const N: usize, const BYTES: usize>(
    registers: R,
    block: &mut Stepped<N, BYTES>,
    codes: [R::Codes; 2],
    at: usize,
) {
    let [first, second] = block.codes.each_mut().map(|to| to.as_flattened_mut());
    let [half, in_half] = in_half::<R>(at);
    if in_bytes::<N>() {
        registers.store_bytes(codes[0], first, at);
        registers.store_bytes(codes[1], second, at);
    } else {
        registers.store_nibbles(codes[0], half, first, in_half);
        registers.store_nibbles(codes[1], half, second, in_half);
    }
}

/// Returns the noise of a part.
#[inline(always)]
fn noise<R: Registers>(of_block: Noise, at: usize) -> Noise {
    of_block.from((at * R::PART) as u32)
}

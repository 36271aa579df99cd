//! What an instruction set has for the step of codes.
#![forbid(unsafe_code)]

use super::lanes::LANES;
use crate::math::Arithmetic;
use crate::noise::Noise;

/// The registers of an instruction set. Only functions for it make one, so that whoever has one
/// runs on it.
///
/// A group of `LANES` elements is worked on in `PARTS`. What is encoded is finite, and so are
/// scales; `noise` is that of the part.
pub trait Registers: Copy {
    /// The numbers of a part.
    type Floats: Arithmetic;
    /// The codes of a part.
    type Codes;
    /// The largest magnitudes so far.
    type Largest: Copy;

    const PARTS: usize;

    fn splat(self, value: f32) -> Self::Floats;
    fn load(self, from: &[f32; LANES], part: usize) -> Self::Floats;
    fn store(self, numbers: Self::Floats, to: &mut [f32; LANES], part: usize);

    fn none(self) -> Self::Largest;
    fn larger_magnitude(self, of: Self::Largest, numbers: Self::Floats) -> Self::Largest;
    /// The same of numbers that have a sign only if they are NaN.
    fn larger(self, of: Self::Largest, numbers: Self::Floats) -> Self::Largest;
    /// Returns the bits of the largest.
    fn largest(self, of: Self::Largest) -> u32;

    /// Returns what the codes of both moments stand for, beside their scales.
    fn decode_bytes(self, codes: [&[u8; LANES]; 2], part: usize) -> [Self::Floats; 2];
    /// See `signed::encode`.
    fn encode_signed_bytes(self, wide: Self::Floats, inverse: f32) -> Self::Codes;
    /// See `unsigned::encode_randomly`.
    fn encode_unsigned_bytes(self, wide: Self::Floats, inverse: f32, noise: Noise) -> Self::Codes;
    fn store_bytes(self, codes: Self::Codes, to: &mut [u8; LANES], part: usize);

    /// Returns what the codes of `half` of a block stand for.
    fn decode_nibbles(
        self,
        codes: [&[u8; LANES]; 2],
        half: usize,
        part: usize,
    ) -> [Self::Floats; 2];
    /// See `nibbles::encode_signed`.
    fn encode_signed_nibbles(self, wide: Self::Floats, inverse: f32, noise: Noise) -> Self::Codes;
    /// See `nibbles::encode_unsigned`.
    fn encode_unsigned_nibbles(self, wide: Self::Floats, inverse: f32, noise: Noise)
    -> Self::Codes;
    /// Stores the codes of half 0 over what was there, and those of half 1 beside it.
    fn store_nibbles(self, codes: Self::Codes, half: usize, to: &mut [u8; LANES], part: usize);
}

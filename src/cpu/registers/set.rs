//! What an instruction set has for the step of codes.
#![forbid(unsafe_code)]

use crate::dtype::Bf16;
use crate::math::Arithmetic;
use crate::noise::Noise;

/// The registers of an instruction set. Only functions for it make one, so that whoever has one
/// runs on it.
///
/// Elements are worked on in parts, of which `at` is the number. What is encoded is finite, and so
/// are scales; `noise` is that of the part.
pub trait Registers: Copy {
    /// The numbers of a part.
    type Floats: Arithmetic;
    /// The codes of a part.
    type Codes: Copy;
    /// The largest magnitudes so far.
    type Largest: Copy;

    /// Elements of a part, a whole number of which makes a group.
    const PART: usize;
    /// Parameters are moved a part late, so that no quotient waits for its root.
    const LATE: bool;

    fn splat(self, value: f32) -> Self::Floats;
    fn load(self, from: &[f32], at: usize) -> Self::Floats;
    fn store(self, numbers: Self::Floats, to: &mut [f32], at: usize);

    fn load_bf16(self, from: &[Bf16], at: usize) -> Self::Floats;
    fn load_split(self, upper: &[Bf16], remainder: &[i16], at: usize) -> Self::Floats;
    /// Returns floats in the order in which halves are joined and split.
    fn crossed(self, wide: Self::Floats) -> Self::Floats;
    fn store_split(self, wide: Self::Floats, upper: &mut [Bf16], remainder: &mut [i16], at: usize);

    fn none(self) -> Self::Largest;
    fn larger_magnitude(self, of: Self::Largest, numbers: Self::Floats) -> Self::Largest;
    /// The same of numbers that have a sign only if they are NaN.
    fn larger(self, of: Self::Largest, numbers: Self::Floats) -> Self::Largest;
    /// Returns the bits of the largest.
    fn largest(self, of: Self::Largest) -> u32;

    /// Returns what the codes of both moments stand for, beside their scales.
    fn decode_bytes(self, codes: [&[u8]; 2], at: usize) -> [Self::Floats; 2];
    /// See `signed::encode`.
    fn encode_signed_bytes(self, wide: Self::Floats, inverse: f32) -> Self::Codes;
    /// See `unsigned::encode_randomly`.
    fn encode_unsigned_bytes(self, wide: Self::Floats, inverse: f32, noise: Noise) -> Self::Codes;
    fn store_bytes(self, codes: Self::Codes, to: &mut [u8], at: usize);

    /// Returns what the codes of `half` of a block stand for.
    fn decode_nibbles(self, codes: [&[u8]; 2], half: usize, at: usize) -> [Self::Floats; 2];
    /// See `nibbles::encode_signed`.
    fn encode_signed_nibbles(self, wide: Self::Floats, inverse: f32, noise: Noise) -> Self::Codes;
    /// See `nibbles::encode_unsigned`.
    fn encode_unsigned_nibbles(self, wide: Self::Floats, inverse: f32, noise: Noise)
    -> Self::Codes;
    /// Stores the codes of half 0 over what was there, and those of half 1 beside it.
    fn store_nibbles(self, codes: Self::Codes, half: usize, to: &mut [u8], at: usize);
}

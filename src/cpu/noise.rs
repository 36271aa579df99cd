//! The random bits of a block.
#![forbid(unsafe_code)]

use super::block::BufferPart;
use super::isa::{Compute, Isa, octets};
use crate::philox::{Key, NoiseStream};

/// 16 random bits for an element.
pub type Bits = [u8; 2];

/// Where the random bits of a block come from, if its rounding takes any.
pub struct NoiseSource<'a, 'buffer, T: Compute> {
    pub isa: &'a Isa,
    /// The key, and which of the parameter's elements is the block's first.
    pub random: Option<(Key, u64)>,
    pub step: u64,
    /// A buffer for a block, of which the bits take half, and an octet more: it need not start at a whole one.
    pub buffer: &'a mut BufferPart<'buffer, T>,
}

impl<T: Compute> NoiseSource<'_, '_, T> {
    /// Those of at most a block's elements of a tensor.
    pub fn bits(&mut self, tensor: NoiseStream, n: usize) -> &[Bits] {
        let Some((key, first)) = self.random else { return &[] };
        let skipped = (first % 8) as usize;
        let octets = &mut octets(T::f32s(self.buffer.get()))[..(skipped + n).div_ceil(8)];
        self.isa.fill_noise(key, tensor, self.step, first / 8, octets);
        let (bits, _) = octets.as_flattened().as_flattened().as_chunks();
        &bits[skipped..skipped + n]
    }
}

//! The random bits of a block.
#![forbid(unsafe_code)]

use super::block::BufferPart;
use super::isa::{Compute, Isa, octets};
use crate::philox::{Key, NoiseStream};

/// 16 random bits for an element.
pub type Bits = [u8; 2];

/// The source of a block's random bits, if its rounding takes any.
pub struct NoiseSource<'a, 'buffer, T: Compute> {
    pub isa: &'a Isa,
    /// The key, and the number of the block's first element in the whole parameter.
    pub random: Option<(Key, u64)>,
    pub step: u64,
    /// A buffer for a block. The bits take half of it and one octet more, because a block need not
    /// start at a whole octet.
    pub buffer: &'a mut BufferPart<'buffer, T>,
}

impl<T: Compute> NoiseSource<'_, '_, T> {
    /// Returns the bits of a stream for the first `n` elements of the block.
    pub fn bits(&mut self, stream: NoiseStream, n: usize) -> &[Bits] {
        let Some((key, first)) = self.random else { return &[] };
        let skipped = (first % 8) as usize;
        let octets = &mut octets(T::f32s(self.buffer.get()))[..(skipped + n).div_ceil(8)];
        self.isa.fill_noise(key, stream, self.step, first / 8, octets);
        let (bits, _) = octets.as_flattened().as_flattened().as_chunks();
        &bits[skipped..skipped + n]
    }
}

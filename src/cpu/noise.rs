//! The random bits of a block.
#![forbid(unsafe_code)]

use super::blocks::BLOCK;
use super::isa::Isa;
use crate::philox::{Key, Which};

/// 16 random bits for an element.
pub type Bits = [u8; 2];

/// Room for the bits of one block, which need not start at a whole eight elements.
#[derive(Default)]
pub struct Room(Option<[[[u8; 4]; 4]; BLOCK / 8 + 1]>);

/// Where the random bits of a block come from, if its rounding takes any.
pub struct Source<'a> {
    pub isa: &'a Isa,
    /// The key, and which of the parameter's elements is the block's first.
    pub random: Option<(Key, u64)>,
    pub step: u64,
    pub room: &'a mut Room,
}

impl Source<'_> {
    /// Those of at most `BLOCK` elements of a tensor.
    pub fn bits(&mut self, tensor: Which, n: usize) -> &[Bits] {
        let Some((key, first)) = self.random else { return &[] };
        let all = self.room.0.get_or_insert([[[0; 4]; 4]; BLOCK / 8 + 1]);
        let skipped = (first % 8) as usize;
        let octets = &mut all[..(skipped + n).div_ceil(8)];
        self.isa.fill_noise(key, tensor, self.step, first / 8, octets);
        let (bits, _) = octets.as_flattened().as_flattened().as_chunks();
        &bits[skipped..skipped + n]
    }
}

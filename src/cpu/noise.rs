//! The random words of a block.
#![forbid(unsafe_code)]

use super::blocks::BLOCK;
use super::isa::Isa;
use crate::philox::Key;

/// Room for the words of one block, which need not start at a whole four of them.
#[derive(Default)]
pub struct Noise(Option<[[u32; 4]; BLOCK / 4 + 1]>);

impl Noise {
    /// A word for each of at most `BLOCK` elements.
    pub fn fill(&mut self, isa: &Isa, key: Key, step: u64, first: u64, n: usize) -> &[u32] {
        let words = self.0.get_or_insert([[0; 4]; BLOCK / 4 + 1]);
        let skipped = (first % 4) as usize;
        let quads = &mut words[..(skipped + n).div_ceil(4)];
        isa.fill_noise(key, step, first / 4, quads);
        &quads.as_flattened()[skipped..skipped + n]
    }
}

//! Buffers for one block of elements at a time, in the compute type.
#![forbid(unsafe_code)]

use crate::math::Real;

/// Elements of a block: two of them in f32 take 4 KiB, and stay in the first-level cache.
pub const BLOCK: usize = 512;

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// A compute type whose blocks have a known size.
pub trait InBlocks: Real {
    /// `BLOCK` elements, and as many more as may lie before the first line.
    type Block: AsMut<[Self]>;
    const ZEROS: Self::Block;
}

impl InBlocks for f32 {
    type Block = [f32; BLOCK + LINE / size_of::<f32>() - 1];
    const ZEROS: Self::Block = [0.0; BLOCK + LINE / size_of::<f32>() - 1];
}

impl InBlocks for f64 {
    type Block = [f64; BLOCK + LINE / size_of::<f64>() - 1];
    const ZEROS: Self::Block = [0.0; BLOCK + LINE / size_of::<f64>() - 1];
}

/// A buffer for one block. The first use makes it, because zeroing it takes time.
pub struct BlockBuffer<T: InBlocks>(Option<T::Block>);

impl<T: InBlocks> Default for BlockBuffer<T> {
    fn default() -> Self {
        BlockBuffer(None)
    }
}

impl<T: InBlocks> BlockBuffer<T> {
    /// Returns the block, which begins with a line of the cache: no vector in it spans two.
    fn get(&mut self) -> &mut [T] {
        let block = self.0.get_or_insert(T::ZEROS).as_mut();
        let start = block.as_ptr().align_offset(LINE);
        &mut block[start..start + BLOCK]
    }

    /// Returns the buffer for a whole block.
    pub fn whole(&mut self) -> BufferPart<'_, T> {
        BufferPart::Whole(self)
    }

    /// Returns the buffer as two, for blocks of half the length.
    pub fn halves(&mut self) -> [BufferPart<'_, T>; 2] {
        let (first, second) = self.get().split_at_mut(BLOCK / 2);
        [BufferPart::Half(first), BufferPart::Half(second)]
    }
}

/// A buffer for a block, or for one of half the length.
pub enum BufferPart<'a, T: InBlocks> {
    Whole(&'a mut BlockBuffer<T>),
    Half(&'a mut [T]),
}

impl<T: InBlocks> BufferPart<'_, T> {
    pub fn get(&mut self) -> &mut [T] {
        match self {
            BufferPart::Whole(buffer) => buffer.get(),
            BufferPart::Half(half) => half,
        }
    }
}

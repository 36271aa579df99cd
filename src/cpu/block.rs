//! Buffers for one block of elements at a time, in the compute type.
#![forbid(unsafe_code)]

use crate::math::Real;

/// Elements of a block: two of them in f32 take 4 KiB, and stay in the first-level cache.
pub const BLOCK: usize = 512;

/// Bytes of a line of the cache.
const LINE: usize = 64;

/// A compute type whose blocks have a known size.
pub trait InBlocks: Real {
    /// `BLOCK` elements.
    type Block: AsMut<[Self]>;
    const ZEROS: Self::Block;

    /// `BLOCK` elements, and as many more as may lie before the first line.
    type InLines: AsMut<[Self]>;
    const ZEROS_IN_LINES: Self::InLines;
}

macro_rules! in_blocks {
    ($type:ident) => {
        impl InBlocks for $type {
            type Block = [$type; BLOCK];
            const ZEROS: Self::Block = [0.0; BLOCK];
            type InLines = [$type; BLOCK + LINE / size_of::<$type>() - 1];
            const ZEROS_IN_LINES: Self::InLines = [0.0; BLOCK + LINE / size_of::<$type>() - 1];
        }
    };
}

in_blocks!(f32);
in_blocks!(f64);

/// A buffer for one block. The first use makes it, because zeroing it takes time.
pub struct BlockBuffer<T: InBlocks>(Option<T::Block>);

/// A buffer for one block that begins with a line of the cache: no vector in it spans two.
pub struct LineBuffer<T: InBlocks>(Option<T::InLines>);

impl<T: InBlocks> Default for BlockBuffer<T> {
    fn default() -> Self {
        BlockBuffer(None)
    }
}

impl<T: InBlocks> Default for LineBuffer<T> {
    fn default() -> Self {
        LineBuffer(None)
    }
}

impl<T: InBlocks> BlockBuffer<T> {
    fn get(&mut self) -> &mut [T] {
        self.0.get_or_insert(T::ZEROS).as_mut()
    }

    /// Returns the buffer for a whole block.
    pub fn whole(&mut self) -> BufferPart<'_, T> {
        BufferPart::Whole(self)
    }

    /// Returns the buffer as two, for blocks of half the length.
    pub fn halves(&mut self) -> [BufferPart<'_, T>; 2] {
        halves(self.get())
    }
}

impl<T: InBlocks> LineBuffer<T> {
    fn get(&mut self) -> &mut [T] {
        let block = self.0.get_or_insert(T::ZEROS_IN_LINES).as_mut();
        let start = block.as_ptr().align_offset(LINE);
        &mut block[start..start + BLOCK]
    }

    /// Returns the buffer for a whole block.
    pub fn whole(&mut self) -> BufferPart<'_, T> {
        BufferPart::InLines(self)
    }

    /// Returns the buffer as two, for blocks of half the length.
    pub fn halves(&mut self) -> [BufferPart<'_, T>; 2] {
        halves(self.get())
    }
}

fn halves<T: InBlocks>(block: &mut [T]) -> [BufferPart<'_, T>; 2] {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    [BufferPart::Half(first), BufferPart::Half(second)]
}

/// A buffer for a block, or for one of half the length.
pub enum BufferPart<'a, T: InBlocks> {
    Whole(&'a mut BlockBuffer<T>),
    InLines(&'a mut LineBuffer<T>),
    Half(&'a mut [T]),
}

impl<T: InBlocks> BufferPart<'_, T> {
    pub fn get(&mut self) -> &mut [T] {
        match self {
            BufferPart::Whole(buffer) => buffer.get(),
            BufferPart::InLines(buffer) => buffer.get(),
            BufferPart::Half(half) => half,
        }
    }
}

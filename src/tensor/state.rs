//! The state of some elements of one parameter, as slices.
//!
//! `State::new` goes by the compute type of the operands, and `StateOf::new` cuts each buffer by
//! what their `Format` says. `Moment::new` makes a slice of values or, for coded moments, one of
//! codes and one of their blocks' scales, so that a range has to start a block. `Precise` is a
//! slice of the master or of the remainder, where there is one. `part` cuts all of them again, for
//! one block.

use super::{Buffer, Operands, slice_at};
use crate::codes::{self, nibbles};
use crate::dtype::{Bf16, Dtype};
use crate::format::{Kept, MomentFormat};
use crate::role::Role;
use core::ops::Range;

/// The state of a parameter, by its compute type.
pub enum State<'a> {
    F32(StateOf<'a, f32>),
    F64(StateOf<'a, f64>),
}

pub struct StateOf<'a, T> {
    pub exp_avg: Moment<'a, T>,
    pub exp_avg_sq: Moment<'a, T>,
    pub max_exp_avg_sq: Option<Moment<'a, T>>,
    pub precise: Precise<'a, T>,
}

/// A moment as it is stored.
pub enum Moment<'a, T> {
    /// In the compute type.
    Full(&'a mut [T]),
    Bf16(&'a mut [Bf16]),
    /// Codes, and a scale for each block of them; the first code starts a block.
    Bytes(&'a mut [u8], &'a mut [f32]),
    /// Codes, two of a block in each byte, and a scale for each block; all bytes of a block are
    /// there.
    Nibbles(&'a mut [u8], &'a mut [f32]),
}

/// The means by which a parameter is more precise than its own elements.
pub enum Precise<'a, T> {
    Nothing,
    Master(&'a mut [T]),
    /// The lower halves of a split master.
    Split(&'a mut [i16]),
    /// Bits of the parameter's own type.
    Kahan(&'a mut [u16]),
    /// Random rounding alone.
    Stochastic,
}

impl<'a> State<'a> {
    /// Makes slices of the elements `range`.
    ///
    /// # Safety
    /// `range` lies inside, and nothing else touches those elements during `'a`. Where moments are
    /// codes it starts a block of them.
    #[inline]
    pub(super) unsafe fn new(operands: &Operands, range: Range<usize>) -> Option<Self> {
        // SAFETY: the caller guarantees the range, and that nothing else touches it; `fits` checked
        // the types and lengths.
        unsafe {
            Some(match operands.param.dtype.compute() {
                Dtype::F64 => State::F64(StateOf::new(operands, range)?),
                _ => State::F32(StateOf::new(operands, range)?),
            })
        }
    }
}

impl<'a, T> StateOf<'a, T> {
    /// Makes slices of the elements `range`.
    ///
    /// # Safety
    /// As for `State::new`, and `T` is the compute type of these operands.
    #[inline]
    unsafe fn new(operands: &Operands, range: Range<usize>) -> Option<Self> {
        let moments = operands.format.moments();
        // SAFETY: the caller guarantees the range and `T`; the buffer is the one that the format
        // has.
        let cut = |moment: &Buffer, scale| unsafe {
            Moment::new(moments, moment, || operands.scale(scale), range.clone())
        };
        let master = operands.master.address();
        // SAFETY: the caller guarantees the range and `T`; the buffer is the one that the format
        // has.
        let precise = unsafe {
            match operands.format.kept() {
                Kept::Itself => Precise::Nothing,
                Kept::Stochastic => Precise::Stochastic,
                Kept::Master => Precise::Master(slice_at(master, range.clone())),
                Kept::Split => Precise::Split(slice_at(master, range.clone())),
                Kept::Kahan => Precise::Kahan(slice_at(master, range.clone())),
            }
        };
        Some(StateOf {
            exp_avg: cut(&operands.exp_avg, Role::ExpAvgScale)?,
            exp_avg_sq: cut(&operands.exp_avg_sq, Role::ExpAvgSqScale)?,
            max_exp_avg_sq: match operands.format.amsgrad() {
                false => None,
                true => Some(cut(&operands.max_exp_avg_sq, Role::MaxExpAvgSqScale)?),
            },
            precise,
        })
    }

    /// Returns the state of some of the elements; where moments are codes, `at` starts a block.
    #[inline]
    pub fn part(&mut self, at: Range<usize>) -> StateOf<'_, T> {
        StateOf {
            exp_avg: self.exp_avg.part(at.clone()),
            exp_avg_sq: self.exp_avg_sq.part(at.clone()),
            max_exp_avg_sq: self.max_exp_avg_sq.as_mut().map(|max| max.part(at.clone())),
            precise: match &mut self.precise {
                Precise::Nothing => Precise::Nothing,
                Precise::Stochastic => Precise::Stochastic,
                Precise::Master(master) => Precise::Master(&mut master[at]),
                Precise::Split(remainder) => Precise::Split(&mut remainder[at]),
                Precise::Kahan(remainder) => Precise::Kahan(&mut remainder[at]),
            },
        }
    }
}

impl<'a, T> Moment<'a, T> {
    /// Makes slices of the elements `range` of a moment.
    ///
    /// # Safety
    /// As for `StateOf::new`; `format` is that of the moment.
    #[inline]
    unsafe fn new<'b>(
        format: MomentFormat,
        moment: &Buffer,
        scale: impl FnOnce() -> Option<&'b Buffer>,
        range: Range<usize>,
    ) -> Option<Self> {
        // SAFETY: the caller guarantees the range, the format and that nothing else touches the
        // elements.
        unsafe {
            Some(match format {
                MomentFormat::Full => Moment::Full(slice_at(moment.address(), range)),
                MomentFormat::Bf16 => Moment::Bf16(slice_at(moment.address(), range)),
                MomentFormat::Bytes => {
                    let scales = slice_at(scale()?.address(), blocks(&range, codes::BLOCK));
                    Moment::Bytes(slice_at(moment.address(), range), scales)
                }
                MomentFormat::Nibbles => {
                    let blocks = blocks(&range, nibbles::BLOCK);
                    let scales = slice_at(scale()?.address(), blocks.clone());
                    Moment::Nibbles(slice_at(moment.address(), bytes(blocks)), scales)
                }
            })
        }
    }

    /// Returns some of the elements, as `StateOf::part`.
    #[inline]
    pub fn part(&mut self, at: Range<usize>) -> Moment<'_, T> {
        match self {
            Moment::Full(moment) => Moment::Full(&mut moment[at]),
            Moment::Bf16(moment) => Moment::Bf16(&mut moment[at]),
            Moment::Bytes(codes, scales) => {
                Moment::Bytes(&mut codes[at.clone()], &mut scales[blocks(&at, codes::BLOCK)])
            }
            Moment::Nibbles(codes, scales) => {
                let blocks = blocks(&at, nibbles::BLOCK);
                Moment::Nibbles(&mut codes[bytes(blocks.clone())], &mut scales[blocks])
            }
        }
    }
}

/// Returns the blocks, of `block` codes each, that hold these elements.
fn blocks(elements: &Range<usize>, block: usize) -> Range<usize> {
    debug_assert!(elements.start.is_multiple_of(block));
    elements.start / block..elements.end.div_ceil(block)
}

/// Returns the bytes of blocks of 4-bit codes.
fn bytes(blocks: Range<usize>) -> Range<usize> {
    blocks.start * nibbles::BYTES..blocks.end * nibbles::BYTES
}

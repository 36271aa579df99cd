//! The buffers of a thread that steps.
#![forbid(unsafe_code)]

use super::block::{BlockBuffer, LineBuffer};
use super::compute::Compute;

/// The buffers of a thread for one block. They lie on its stack, and the header tells the host how
/// much stack a call needs: buffers that are not needed at once share their memory.
pub enum Space {
    F32(Blocks<f32>),
    F64(Blocks<f64>),
}

impl Space {
    pub fn f32(&mut self) -> &mut Blocks<f32> {
        loop {
            match self {
                Space::F32(blocks) => return blocks,
                Space::F64(_) => *self = Space::F32(Blocks::default()),
            }
        }
    }

    pub fn f64(&mut self) -> &mut Blocks<f64> {
        loop {
            match self {
                Space::F64(blocks) => return blocks,
                Space::F32(_) => *self = Space::F64(Blocks::default()),
            }
        }
    }
}

/// The buffers of a thread in one compute type.
pub struct Blocks<T: Compute> {
    /// The parameter, and exp_avg_sq or, in halves, exp_avg_sq and max_exp_avg_sq.
    pub narrow: T::Narrow,
    /// The gradient or, in halves, the gradient and the parameter before the step.
    pub grad: BlockBuffer<T>,
    /// exp_avg or, before it is opened, the values of one row.
    pub exp_avg: LineBuffer<T>,
}

impl<T: Compute> Default for Blocks<T> {
    fn default() -> Self {
        Blocks {
            narrow: T::Narrow::default(),
            grad: BlockBuffer::default(),
            exp_avg: LineBuffer::default(),
        }
    }
}

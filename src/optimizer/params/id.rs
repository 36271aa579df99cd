//! The number of a parameter.
#![forbid(unsafe_code)]

use core::ops::Range;

/// The number of a parameter, which has been found to be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParamId(u32);

impl ParamId {
    /// Returns the number of a parameter that the table has.
    pub(super) fn new(number: u32) -> ParamId {
        ParamId(number)
    }

    /// Returns the number by which the host and the device know the parameter.
    pub fn number(self) -> u32 {
        self.0
    }

    /// Returns the place among all parameters.
    pub fn place(self) -> usize {
        self.0 as usize
    }

    /// Returns the places of this parameter alone.
    pub fn alone(self) -> Range<usize> {
        self.place()..self.place() + 1
    }
}

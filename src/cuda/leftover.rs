//! What graphs may go on with, and nobody else has any more.

use super::driver::Memory;
use super::lag::DeviceLag;
use super::rows::SparseBuffers;
use crate::error::Error;
use crate::sys::memory::reserve;

/// What is the library's own on the device and has been replaced, or is of a parameter that has been removed, while
/// a graph may go on with it.
#[derive(Default)]
pub struct Leftover {
    pub memories: Vec<Memory>,
    /// With the number of the parameter, if there is one yet.
    pub sparse: Vec<(Option<u32>, SparseBuffers)>,
    pub lags: Vec<DeviceLag>,
}

impl Leftover {
    /// Makes room for what one parameter has.
    pub fn reserve(&mut self) -> Result<(), Error> {
        const WHAT: &str = "the parameters";
        reserve(&mut self.memories, 2, WHAT)?;
        reserve(&mut self.sparse, 1, WHAT)?;
        reserve(&mut self.lags, 1, WHAT)
    }

    /// There is no parameter of this number any more.
    pub fn forget(&mut self, number: u32) {
        let of_it = self.sparse.iter_mut().filter(|(of, _)| *of == Some(number));
        of_it.for_each(|(of, _)| *of = None);
    }
}

//! Memory that only graphs may still use.

use super::driver::Memory;
use super::lag::DeviceLag;
use super::rows::SparseBuffers;
use crate::error::Error;
use crate::sys::memory::reserve;

/// Memory of the library's on the device that was replaced, or whose parameter was removed, and
/// that a captured graph may go on with. It is freed with the handle.
#[derive(Default)]
pub struct Leftover {
    pub memories: Vec<Memory>,
    /// With the number of the parameter, unless it was removed.
    pub sparse: Vec<(Option<u32>, SparseBuffers)>,
    pub lags: Vec<DeviceLag>,
}

impl Leftover {
    /// Makes room for the memory of one parameter.
    pub fn reserve(&mut self) -> Result<(), Error> {
        const WHAT: &str = "the parameters";
        reserve(&mut self.memories, 2, WHAT)?;
        reserve(&mut self.sparse, 1, WHAT)?;
        reserve(&mut self.lags, 1, WHAT)
    }

    /// Forgets the number of a parameter that is removed.
    pub fn forget(&mut self, number: u32) {
        let of_it = self.sparse.iter_mut().filter(|(of, _)| *of == Some(number));
        of_it.for_each(|(of, _)| *of = None);
    }
}

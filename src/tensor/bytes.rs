//! A parameter's tensors as bytes, to be written to files and read from them.

use super::{Operands, slice_at};
use crate::error::Role;

impl Operands {
    /// The bytes of the tensor in a role, none if it is on a device, in the processor's order, which is little-endian.
    pub fn bytes(&self, role: Role) -> &[u8] {
        let Some(tensor) = self.tensor(role).filter(|_| !self.is_on_device()) else { return &[] };
        let addresses = tensor.addresses();
        // SAFETY: `Tensor::new`'s callers vouched for the memory, all of which is initialised; while
        // `self` is borrowed nothing is written through it.
        unsafe { slice_at(addresses.start, 0..addresses.len()) }
    }

    /// The same, to be written over: every bit pattern is an element.
    pub fn bytes_mut(&mut self, role: Role) -> &mut [u8] {
        let here = !self.is_on_device();
        let Some(tensor) = self.tensor(role).filter(|_| here) else { return &mut [] };
        let addresses = tensor.addresses();
        // SAFETY: as above, and `&mut self` keeps the memory from being sliced elsewhere.
        unsafe { slice_at(addresses.start, 0..addresses.len()) }
    }
}

//! A number that the host keeps in its own memory, read when it is needed.

use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};

/// The place of a hyper-parameter or a flag, an f32.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostNumber {
    address: usize,
}

impl HostNumber {
    /// Returns `None` for NULL.
    ///
    /// # Safety
    /// The number stays valid for reads, and for writes if `write` is called, during calls on every
    /// handle that knows it. It need not be aligned.
    pub unsafe fn new(pointer: *const f32) -> Option<HostNumber> {
        (!pointer.is_null()).then(|| HostNumber { address: pointer.expose_provenance() })
    }

    pub fn address(self) -> usize {
        self.address
    }

    pub fn read(self) -> f64 {
        // SAFETY: `new`'s caller vouched for reads of the number.
        f64::from(unsafe { with_exposed_provenance::<f32>(self.address).read_unaligned() })
    }

    pub fn write(self, value: f32) {
        // SAFETY: `new`'s caller vouched for writes of the number.
        unsafe { with_exposed_provenance_mut::<f32>(self.address).write_unaligned(value) }
    }
}

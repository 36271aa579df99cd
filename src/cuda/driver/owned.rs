//! The memory, marks and streams that a handle owns on a device. The handle drops them before its
//! `Driver`, when no work that is queued up needs them.

use super::source::Source;
use super::{relaxed, within};
use crate::sys::counted::Counted;
use cudarc::driver::sys;

/// Memory on the device.
pub struct Memory {
    pub(super) address: u64,
    pub(super) bytes: usize,
    pub(super) source: Counted<Source>,
}

impl Memory {
    pub fn address(&self) -> u64 {
        self.address
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Ok(_within) = within(self.source.context) {
            let _relaxed = relaxed();
            // SAFETY: taken in `allocate`, whose driver still retains the context.
            unsafe { self.source.give_back(self.address, self.bytes) };
        }
    }
}

/// Memory of the host's that the device reads by itself.
pub struct Pinned {
    pub(super) start: *mut u8,
    pub(super) bytes: usize,
    pub(super) source: Counted<Source>,
}

impl Pinned {
    pub fn address(&self) -> usize {
        self.start.expose_provenance()
    }

    /// Returns the bytes.
    ///
    /// # Safety
    /// No copy that is queued up reads or writes the bytes.
    pub unsafe fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: `pinned` allocated these bytes and zeroed them; the rest is the caller's word.
        unsafe { core::slice::from_raw_parts_mut(self.start, self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.source.unpin(self.bytes);
        if let Ok(_within) = within(self.source.context) {
            let _relaxed = relaxed();
            // SAFETY: allocated in `pinned`, whose driver still retains the context.
            let _ = unsafe { sys::cuMemFreeHost(self.start.cast()) };
        }
    }
}

/// A mark in the work of a stream.
pub struct Event {
    pub(super) event: sys::CUevent,
    pub(super) context: sys::CUcontext,
}

impl Drop for Event {
    fn drop(&mut self) {
        if let Ok(_within) = within(self.context) {
            let _relaxed = relaxed();
            // SAFETY: created in `event`, whose driver still retains the context.
            let _ = unsafe { sys::cuEventDestroy_v2(self.event) };
        }
    }
}

/// A stream of the library's own.
pub struct Stream {
    pub(super) stream: sys::CUstream,
    pub(super) context: sys::CUcontext,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Ok(_within) = within(self.context) {
            let _relaxed = relaxed();
            // SAFETY: created in `stream`, whose driver still retains the context.
            let _ = unsafe { sys::cuStreamDestroy_v2(self.stream) };
        }
    }
}

// SAFETY: the driver's handles may be used by any thread, and an optimizer's by one at a time.
unsafe impl Send for Pinned {}
// SAFETY: as above.
unsafe impl Sync for Pinned {}
// SAFETY: as above.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}
// SAFETY: as above.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}

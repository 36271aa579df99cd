//! Where a handle's memory on its device comes from: `cuMemAlloc`, the device's pool, or the host's
//! allocator; and how much of the host's memory it has pinned. The handle and each of its memories
//! share one `Source`.
//!
//! Memory of the last two is ready when the handle's stream gets there, so that `take` is followed
//! by a wait for it; and freeing does not wait for work that uses it, as `cuMemFree` does.

use super::find::{call, checked};
use super::relaxed;
use crate::config::{DeviceConfig, DeviceMemory, DevicePool};
use crate::error::{Error, MemoryProblem};
use core::ffi::c_int;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use cudarc::driver::sys;

pub struct Source {
    from: DeviceMemory,
    pub ordinal: u16,
    pub context: sys::CUcontext,
    /// The handle's stream.
    stream: AtomicPtr<sys::CUstream_st>,
    /// The bytes of the host's memory that are pinned, and the most that may be.
    pinned: AtomicUsize,
    pub most_pinned: Option<usize>,
}

// SAFETY: the driver's handles may be used by any thread, and an optimizer's by one at a time.
unsafe impl Send for Source {}
// SAFETY: as above; the stream is atomic.
unsafe impl Sync for Source {}

impl Source {
    /// Returns the source of a handle's memory. The caller has retained the context.
    pub fn new(
        config: DeviceConfig,
        ordinal: u16,
        device: sys::CUdevice,
        context: sys::CUcontext,
    ) -> Result<Source, Error> {
        const POOLS: sys::CUdevice_attribute =
            sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED;
        if let DeviceMemory::Driver(DevicePool::Pool) = config.memory {
            let mut has_pool: c_int = 0;
            // SAFETY: written to a place of ours.
            unsafe { call!(cuDeviceGetAttribute(&mut has_pool, POOLS, device)) }?;
            if has_pool == 0 {
                return Err(Error::Memory(MemoryProblem::NoPool(ordinal)));
            }
        }
        let DeviceConfig { memory: from, most_pinned } = config;
        let (stream, pinned) = (AtomicPtr::new(null_mut()), AtomicUsize::new(0));
        Ok(Source { from, ordinal, context, stream, pinned, most_pinned })
    }

    pub fn pinned_bytes(&self) -> usize {
        self.pinned.load(Ordering::Relaxed)
    }

    /// Counts memory of the host's that is about to be pinned, if it may be.
    pub fn pin(&self, bytes: usize, what: &'static str) -> Result<(), Error> {
        let pinned = self.pinned_bytes();
        match self.most_pinned {
            Some(most) if pinned.saturating_add(bytes) > most => {
                Err(Error::Memory(MemoryProblem::Pinned { bytes, what, pinned, most }))
            }
            _ => {
                self.pinned.fetch_add(bytes, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// Counts memory of the host's that is pinned no more.
    pub fn unpin(&self, bytes: usize) {
        self.pinned.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn stream(&self) -> sys::CUstream {
        self.stream.load(Ordering::Relaxed)
    }

    pub fn set_stream(&self, stream: sys::CUstream) {
        self.stream.store(stream, Ordering::Relaxed);
    }

    /// Returns whether `cuMemAlloc` gives the memory: it is ready at once, and freeing it waits.
    pub fn waits(&self) -> bool {
        matches!(self.from, DeviceMemory::Driver(DevicePool::Default))
    }

    /// Returns whether the host gives the memory.
    pub fn is_hosts(&self) -> bool {
        matches!(self.from, DeviceMemory::Host(_))
    }

    /// Takes memory, while the context is current.
    pub fn take(&self, bytes: usize, what: &'static str) -> Result<u64, Error> {
        let (mut address, stream) = (0, self.stream());
        // SAFETY: the driver writes to a place of ours; the stream is alive, by the host's word.
        let taken = unsafe {
            match &self.from {
                DeviceMemory::Driver(DevicePool::Default) => {
                    call!(cuMemAlloc_v2(&mut address, bytes))
                }
                DeviceMemory::Driver(DevicePool::Pool) => {
                    call!(cuMemAllocAsync(&mut address, bytes, stream))
                }
                DeviceMemory::Host(allocator) => {
                    let stream = stream.expose_provenance();
                    return allocator.alloc(bytes, self.ordinal.into(), stream, what);
                }
            }
        };
        taken.map_err(|error| lacking(error, what, bytes))?;
        Ok(address)
    }

    /// Gives memory back, while the context is current. Nobody is left to be told of a failure.
    ///
    /// # Safety
    /// `take` gave it for the same bytes, and no work that is queued up uses it.
    pub unsafe fn give_back(&self, address: u64, bytes: usize) {
        // SAFETY: the caller's word. The pool's memory is freed without its stream, which may be
        // being captured.
        unsafe {
            match &self.from {
                DeviceMemory::Driver(_) => {
                    let _ = sys::cuMemFree_v2(address);
                }
                DeviceMemory::Host(allocator) => {
                    let stream = self.stream().expose_provenance();
                    allocator.free(address, bytes, self.ordinal.into(), stream);
                }
            }
        }
    }

    /// Waits for all work of the device, where freeing memory does not: also for that of streams
    /// which are being captured, and which nothing may wait for.
    pub fn wait_for_device(&self) -> Result<(), Error> {
        if self.waits() {
            return Ok(());
        }
        let _relaxed = relaxed()?;
        let mut address = 0;
        // SAFETY: written to a place of ours, and freed, which waits for the device.
        unsafe {
            call!(cuMemAlloc_v2(&mut address, 1))?;
            call!(cuMemFree_v2(address))
        }
    }
}

/// Returns an error that names what had no memory, if memory was lacking.
pub fn lacking(error: Error, what: &'static str, bytes: usize) -> Error {
    match error {
        Error::NoDeviceMemory(_) => Error::OutOfMemory { what, bytes },
        other => other,
    }
}

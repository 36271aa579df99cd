//! The callbacks of the host by which it gives memory on a device, and takes it back.

use super::UserData;
use crate::error::{Error, MemoryProblem};
use crate::sys::fp;
use core::ffi::c_void;
use core::ptr::{null_mut, with_exposed_provenance_mut};

/// Writes the address of `num_bytes` (> 0) bytes of memory of this device to `out_address` and
/// returns 0. The address is a multiple of 256, as `cudaMalloc` and PyTorch's caching allocator
/// give them; what the memory holds does not matter. Any other return value, or NULL, fails the
/// call of the library with `ADAMW_STATUS_OUT_OF_MEMORY`, and nothing changes. An address that is
/// no multiple of 256, or not the device's, fails it with `ADAMW_STATUS_CALLBACK`, and is given to
/// `config.device_free` at once.
///
/// The memory may be ready only when `stream` gets to what is queued on it from now on, as that of
/// `cudaMallocAsync` is: the library waits for the stream before it uses it. The stream is that of
/// the handle, and is never being captured; the device's primary context is current.
#[allow(non_camel_case_types)]
pub type adamw_device_alloc = Option<
    unsafe extern "C" fn(
        num_bytes: usize,
        device: i32,
        stream: *mut c_void,
        out_address: *mut *mut c_void,
        user_data: *mut c_void,
    ) -> i32,
>;

/// Takes back memory that `config.device_alloc` gave, with the number of bytes that it was asked
/// for, and returns 0; any other return value is ignored. The device has done all work of the
/// library's with it. `stream` is that of the handle now, and may be being captured if it is so in
/// the call of the library, `adamw_destroy` for one.
#[allow(non_camel_case_types)]
pub type adamw_device_free = Option<
    unsafe extern "C" fn(
        address: *mut c_void,
        num_bytes: usize,
        device: i32,
        stream: *mut c_void,
        user_data: *mut c_void,
    ) -> i32,
>;

/// Gives memory on a device, and takes it back.
#[derive(Clone, Copy)]
pub struct DeviceAllocator {
    alloc: unsafe extern "C" fn(usize, i32, *mut c_void, *mut *mut c_void, *mut c_void) -> i32,
    free: unsafe extern "C" fn(*mut c_void, usize, i32, *mut c_void, *mut c_void) -> i32,
    user_data: UserData,
}

impl DeviceAllocator {
    /// Returns `None` where both functions are NULL.
    ///
    /// # Safety
    /// Both may be called with `user_data` for as long as the handle lives. What `alloc` gives is
    /// memory of the device that nobody else uses until it is given to `free`.
    pub unsafe fn new(
        alloc: adamw_device_alloc,
        free: adamw_device_free,
        user_data: *mut c_void,
    ) -> Result<Option<DeviceAllocator>, Error> {
        match (alloc, free) {
            (None, None) => Ok(None),
            (Some(alloc), Some(free)) => {
                Ok(Some(DeviceAllocator { alloc, free, user_data: UserData(user_data) }))
            }
            (Some(_), None) => Err(Error::Null("config.device_alloc is set and device_free")),
            (None, Some(_)) => Err(Error::Null("config.device_free is set and device_alloc")),
        }
    }

    /// Returns the address of new memory. `what` it is for is told where there is none.
    pub fn alloc(
        &self,
        bytes: usize,
        device: i32,
        stream: usize,
        what: &'static str,
    ) -> Result<u64, Error> {
        let mut address = null_mut();
        let returned = fp::as_host(|| {
            let stream = with_exposed_provenance_mut(stream);
            // SAFETY: the caller of `new` allowed it; the address lives through the call.
            unsafe { (self.alloc)(bytes, device, stream, &mut address, self.user_data.0) }
        });
        if returned != 0 {
            return Err(Error::Memory(MemoryProblem::Refused { returned, bytes, what }));
        }
        if address.is_null() {
            return Err(Error::Memory(MemoryProblem::NoneGiven { bytes, what }));
        }
        Ok(address.expose_provenance() as u64)
    }

    /// Gives memory back.
    ///
    /// # Safety
    /// `alloc` gave it for the same bytes and device, and nobody uses it any more.
    pub unsafe fn free(&self, address: u64, bytes: usize, device: i32, stream: usize) {
        fp::as_host(|| {
            let address = with_exposed_provenance_mut(address as usize);
            let stream = with_exposed_provenance_mut(stream);
            // SAFETY: the caller of `new` allowed it, and the caller of this gives it back.
            unsafe { (self.free)(address, bytes, device, stream, self.user_data.0) }
        });
    }
}

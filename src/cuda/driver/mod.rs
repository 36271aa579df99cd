//! The CUDA driver, found at run time, and the calls that a handle makes.
//!
//! `Driver::open` retains the device's primary context, which CUDA's runtime uses, and so PyTorch
//! and JAX. `enter` makes it current until the `Entered` is dropped: the host's current context is
//! afterwards what it was. Handles share the kernels, and nothing else.

mod entered;
mod find;
mod images;
mod loaded;
mod owned;
mod source;

pub use entered::Entered;
pub use find::is_installed;
pub use owned::{Event, Memory, Pinned, Stream};

use crate::config::DeviceConfig;
use crate::error::Error;
use crate::sys::counted::Counted;
use core::cell::Cell;
use core::ffi::c_uint;
use core::ptr::{null_mut, with_exposed_provenance_mut};
use cudarc::driver::sys::{self, CUresult};
use find::{call, checked, find};
use loaded::{Function, Kernels};
use source::Source;

/// The threads of a block of every kernel.
const THREADS: c_uint = 256;

/// A device as one handle uses it. Dropped in this order.
pub struct Driver {
    kernels: Kernels,
    retained: Retained,
    source: Counted<Source>,
}

/// The device's primary context, kept from being destroyed.
struct Retained {
    device: sys::CUdevice,
    context: sys::CUcontext,
}

// SAFETY: the driver's handles may be used by any thread, and an optimizer's by one at a time.
unsafe impl Send for Driver {}
// SAFETY: as above.
unsafe impl Sync for Driver {}

impl Driver {
    /// Retains the device's primary context, and loads the kernels there. `config`: the
    /// memory that the handle takes.
    pub fn open(ordinal: u16, config: DeviceConfig) -> Result<Driver, Error> {
        find()?;
        let (mut device, mut context) = (0, null_mut());
        // SAFETY: all of these calls write to places of ours.
        unsafe {
            call!(cuInit(0))?;
            call!(cuDeviceGet(&mut device, ordinal.into()))
                .map_err(|error| no_such_device(error, ordinal))?;
            call!(cuDevicePrimaryCtxRetain(&mut context, device))?;
        }
        // From here on `drop` gives it back.
        let retained = Retained { device, context };
        let source = Source::new(config, ordinal, device, context)?;
        let source = Counted::new(source, "the source of memory on the device")?;
        Ok(Driver { kernels: Kernels::new(device, context)?, retained, source })
    }

    /// Returns the stream on which work is queued up, by address.
    pub fn stream(&self) -> usize {
        self.source.stream().expose_provenance()
    }

    /// Returns the bytes of the host's memory that the handle has pinned.
    pub fn pinned_bytes(&self) -> usize {
        self.source.pinned_bytes()
    }

    /// Returns the most bytes that it pins, if there is a limit.
    pub fn most_pinned(&self) -> Option<usize> {
        self.source.most_pinned
    }

    /// Sets the stream of the host's on which work is queued up, by address.
    pub fn set_stream(&mut self, stream: usize) {
        self.source.set_stream(with_exposed_provenance_mut(stream));
    }

    /// Makes the device's context current until the returned value is dropped.
    pub fn enter(&self) -> Result<Entered<'_>, Error> {
        let (stream, has_launched) = (self.source.stream(), Cell::new(false));
        Ok(Entered { driver: self, stream, _within: within(self.retained.context)?, has_launched })
    }
}

impl Drop for Retained {
    fn drop(&mut self) {
        // SAFETY: retained in `open`. Nobody is left to be told of a failure.
        let _ = unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

/// Returns an error that names the device, if the driver has none of that number.
fn no_such_device(error: Error, ordinal: u16) -> Error {
    match error {
        Error::Cuda { code, .. } if code == CUresult::CUDA_ERROR_INVALID_DEVICE as u32 => {
            Error::NoDevice(ordinal)
        }
        other => other,
    }
}

/// While it lives, this thread breaks no capture of other streams. In CUDA's global mode, a thread
/// that allocates, frees, loads, copies or waits breaks it otherwise.
struct Relaxed {
    before: sys::CUstreamCaptureMode,
}

/// Lets this thread break no capture until the returned value is dropped.
fn relaxed() -> Result<Relaxed, Error> {
    let mut mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
    // SAFETY: read from and written to a place of ours.
    unsafe { call!(cuThreadExchangeStreamCaptureMode(&mut mode)) }?;
    Ok(Relaxed { before: mode })
}

impl Drop for Relaxed {
    fn drop(&mut self) {
        // SAFETY: read from and written to a place of ours. Nobody is left to be told of a failure.
        let _ = unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut self.before) };
    }
}

/// While it lives, a context is current.
struct Within {
    is_pushed: bool,
}

/// Makes a context current until the returned value is dropped.
fn within(context: sys::CUcontext) -> Result<Within, Error> {
    let mut current = null_mut();
    // SAFETY: written to a place of ours.
    unsafe { call!(cuCtxGetCurrent(&mut current)) }?;
    let is_pushed = current != context;
    if is_pushed {
        // SAFETY: the caller has retained the context.
        unsafe { call!(cuCtxPushCurrent_v2(context)) }?;
    }
    Ok(Within { is_pushed })
}

impl Drop for Within {
    fn drop(&mut self) {
        if self.is_pushed {
            let mut popped = null_mut();
            // SAFETY: written to a place of ours; `within` pushed the context.
            let _ = unsafe { sys::cuCtxPopCurrent_v2(&mut popped) };
        }
    }
}

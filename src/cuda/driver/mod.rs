//! The CUDA driver, found at run time, and what a handle asks of it.
//!
//! The device's primary context is retained: it is what CUDA's runtime, and so PyTorch and JAX, use.
//! Whatever is asked, the host's current context is afterwards what it was. Nothing here is shared
//! between handles.

mod entered;
mod find;
mod owned;

pub use entered::Entered;
pub use find::is_installed;
pub use owned::{Event, Memory, Pinned, Stream};

use super::kernels::{self, Kernel};
use crate::error::{Error, Label};
use core::cell::Cell;
use core::ffi::{c_int, c_uint, c_void};
use core::ptr::{null_mut, with_exposed_provenance_mut};
use cudarc::driver::sys::{self, CUresult};
use find::{call, checked, find};

/// Threads of a block, of every kernel.
const THREADS: c_uint = 256;

/// A kernel of the module, and how many blocks of it the device runs at once.
#[derive(Clone, Copy)]
struct Function {
    function: sys::CUfunction,
    most_blocks: c_uint,
}

/// A device as one handle uses it.
pub struct Driver {
    device: sys::CUdevice,
    context: sys::CUcontext,
    module: sys::CUmodule,
    functions: [Function; kernels::COUNT],
    stream: sys::CUstream,
}

// SAFETY: the driver's handles may be used by any thread, and an optimizer's by one at a time.
unsafe impl Send for Driver {}
// SAFETY: as above.
unsafe impl Sync for Driver {}

impl Driver {
    /// Retains the device's primary context and compiles the kernels there.
    pub fn open(ordinal: u16) -> Result<Driver, Error> {
        find()?;
        let (mut device, mut context) = (0, null_mut());
        let none = Function { function: null_mut(), most_blocks: 0 };
        // SAFETY: all of them write to places of ours.
        unsafe {
            call!(cuInit(0))?;
            call!(cuDeviceGet(&mut device, ordinal.into()))
                .map_err(|error| no_such_device(error, ordinal))?;
            call!(cuDevicePrimaryCtxRetain(&mut context, device))?;
        }
        // From here on `drop` gives back what has been taken.
        let mut driver = Driver {
            device,
            context,
            module: null_mut(),
            functions: [none; kernels::COUNT],
            stream: null_mut(),
        };
        driver.load()?;
        Ok(driver)
    }

    fn load(&mut self) -> Result<(), Error> {
        let (within, relaxed) = (within(self.context)?, relaxed()?);
        let mut log = [0u8; 256];
        let mut options = [
            sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER,
            sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
        ];
        let mut values: [*mut c_void; 2] =
            [log.as_mut_ptr().cast(), core::ptr::without_provenance_mut(log.len())];
        let mut multiprocessors: c_int = 0;
        const MULTIPROCESSORS: sys::CUdevice_attribute =
            sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        // SAFETY: the image ends with a NUL; the log has the length that is said; the rest is written
        // to places of ours.
        unsafe {
            let ptx = kernels::PTX.as_ptr().cast();
            let (options, values) = (options.as_mut_ptr(), values.as_mut_ptr());
            let loaded = call!(cuModuleLoadDataEx(&mut self.module, ptx, 2, options, values));
            loaded.map_err(|error| refused(error, &log))?;
            call!(cuDeviceGetAttribute(&mut multiprocessors, MULTIPROCESSORS, self.device))?;
        }
        for (kernel, name) in Kernel::all() {
            let (mut function, mut blocks) = (null_mut(), 0);
            // SAFETY: the name is NUL-terminated, the rest is written to places of ours.
            unsafe {
                call!(cuModuleGetFunction(&mut function, self.module, name.as_ptr()))?;
                call!(cuOccupancyMaxActiveBlocksPerMultiprocessor(
                    &mut blocks,
                    function,
                    THREADS as c_int,
                    0
                ))?;
            }
            let most_blocks = blocks.max(1).saturating_mul(multiprocessors.max(1)) as c_uint;
            self.functions[kernel.0] = Function { function, most_blocks };
        }
        drop((within, relaxed));
        Ok(())
    }

    /// The stream, by address.
    pub fn stream(&self) -> usize {
        self.stream.expose_provenance()
    }

    /// Whose work the calls below queue up behind: a stream of the host's, by address.
    pub fn set_stream(&mut self, stream: usize) {
        self.stream = with_exposed_provenance_mut(stream);
    }

    /// Makes the device's context current until what is returned is dropped.
    pub fn enter(&self) -> Result<Entered<'_>, Error> {
        let (stream, has_launched) = (self.stream, Cell::new(false));
        Ok(Entered { driver: self, stream, _within: within(self.context)?, has_launched })
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Nobody is left to be told of a failure, and what fails here is the driver's own to free.
        if !self.module.is_null()
            && let Ok(_within) = within(self.context)
        {
            let _relaxed = relaxed();
            // SAFETY: loaded in `load`; whoever launched its kernels has waited for them.
            let _ = unsafe { sys::cuModuleUnload(self.module) };
        }
        // SAFETY: retained in `open`.
        let _ = unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

fn no_such_device(error: Error, ordinal: u16) -> Error {
    match error {
        Error::Cuda { code, .. } if code == CUresult::CUDA_ERROR_INVALID_DEVICE as u32 => {
            Error::NoDevice(ordinal)
        }
        other => other,
    }
}

/// What the driver's compiler said first, if it was that which failed.
fn refused(error: Error, log: &[u8]) -> Error {
    let end = log.iter().position(|&byte| byte == 0 || byte == b'\n').unwrap_or(log.len());
    match error {
        Error::Cuda { code, .. } if end > 0 => Error::Jit { code, log: Label::new(&log[..end]) },
        other => other,
    }
}

/// While it lives, this thread breaks no capture of other streams, whatever it allocates, frees, loads, copies or
/// waits for: a capture in CUDA's global mode is broken by any thread that does so otherwise.
struct Relaxed {
    before: sys::CUstreamCaptureMode,
}

fn relaxed() -> Result<Relaxed, Error> {
    let mut mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
    // SAFETY: read from and written to a place of ours.
    unsafe { call!(cuThreadExchangeStreamCaptureMode(&mut mode)) }?;
    Ok(Relaxed { before: mode })
}

impl Drop for Relaxed {
    fn drop(&mut self) {
        // SAFETY: as above. Nobody is left to be told of a failure.
        let _ = unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut self.before) };
    }
}

/// While it lives, a context is current.
struct Within {
    is_pushed: bool,
}

fn within(context: sys::CUcontext) -> Result<Within, Error> {
    let mut current = null_mut();
    // SAFETY: written to a place of ours.
    unsafe { call!(cuCtxGetCurrent(&mut current)) }?;
    let is_pushed = current != context;
    if is_pushed {
        // SAFETY: whoever calls has retained the context.
        unsafe { call!(cuCtxPushCurrent_v2(context)) }?;
    }
    Ok(Within { is_pushed })
}

impl Drop for Within {
    fn drop(&mut self) {
        if self.is_pushed {
            let mut popped = null_mut();
            // SAFETY: what `within` pushed.
            let _ = unsafe { sys::cuCtxPopCurrent_v2(&mut popped) };
        }
    }
}

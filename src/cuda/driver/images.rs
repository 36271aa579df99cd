//! The images of the kernels that the library carries, and which of them a device is given.
//!
//! Machine code comes first: nothing has to be compiled then. It is there for compute capabilities
//! 8.0, 8.6, 9.0, 10.0 and 12.0, and runs on later minor versions of each (`tools/fatbin.py`). A
//! driver for CUDA 12.4 or newer reads it. Any other driver or device is given the PTX.

use super::find::checked;
use crate::cuda::kernels::PTX;
use crate::error::{Error, Label};
use core::ffi::c_void;
use core::ptr::null_mut;
use cudarc::driver::sys::{self, CUmodule, CUresult};

/// Bytes that lie as a driver reads numbers in them.
#[repr(C, align(8))]
struct Aligned<Bytes: ?Sized>(Bytes);

/// The machine code of all kernels, which says how long it is.
static MACHINE_CODE: &Aligned<[u8]> = &Aligned(*include_bytes!("../kernels/kernels.fatbin"));

/// What a driver logs of an image.
type Log = [u8; 256];

/// Loads the kernels into the current context.
pub fn load() -> Result<CUmodule, Error> {
    use CUresult::*;
    let (mut module, mut log) = (null_mut(), [0; _]);
    let mut result = load_image(&mut module, MACHINE_CODE.0.as_ptr(), &mut log);
    if let CUDA_ERROR_NO_BINARY_FOR_GPU // none for this device, or the user wants PTX
    | CUDA_ERROR_INVALID_IMAGE // the driver does not know the compression
    | CUDA_ERROR_INVALID_SOURCE
    | CUDA_ERROR_INVALID_PTX
    | CUDA_ERROR_UNSUPPORTED_PTX_VERSION
    | CUDA_ERROR_NOT_FOUND = result
    {
        result = load_image(&mut module, PTX.as_ptr(), &mut log);
    }
    checked("cuModuleLoadDataEx", result).map_err(|error| refused(error, &log))?;
    Ok(module)
}

/// Loads one of the two images, machine code or PTX.
fn load_image(module: &mut CUmodule, image: *const u8, log: &mut Log) -> CUresult {
    let mut options = [
        sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER,
        sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
    ];
    let mut values: [*mut c_void; 2] =
        [log.as_mut_ptr().cast(), core::ptr::without_provenance_mut(log.len())];
    let (options, values) = (options.as_mut_ptr(), values.as_mut_ptr());
    // SAFETY: machine code says how long it is, and PTX ends with a NUL; the log is as long as the
    // options say; the rest is written to places of ours.
    unsafe { sys::cuModuleLoadDataEx(module, image.cast(), 2, options, values) }
}

/// Returns an error with the first line of the compiler's log, if the compiler failed.
fn refused(error: Error, log: &Log) -> Error {
    let end = log.iter().position(|&byte| byte == 0 || byte == b'\n').unwrap_or(log.len());
    match error {
        Error::Cuda { code, .. } if end > 0 => Error::Jit { code, log: Label::new(&log[..end]) },
        other => other,
    }
}

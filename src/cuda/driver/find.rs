//! The search for a driver that can be used, and the meaning of its errors.

use crate::error::Error;
use core::ffi::CStr;
use cudarc::driver::sys::{self, CUresult};

/// The functions of the driver that the library calls. cudarc panics where one of them is missing,
/// so they are looked for first.
const ENTRIES: [&CStr; 36] = [
    c"cuInit",
    c"cuDeviceGet",
    c"cuDeviceGetAttribute",
    c"cuDevicePrimaryCtxRetain",
    c"cuDevicePrimaryCtxRelease_v2",
    c"cuCtxGetCurrent",
    c"cuCtxPushCurrent_v2",
    c"cuCtxPopCurrent_v2",
    c"cuThreadExchangeStreamCaptureMode",
    c"cuModuleLoadDataEx",
    c"cuModuleUnload",
    c"cuModuleGetFunction",
    c"cuOccupancyMaxActiveBlocksPerMultiprocessor",
    c"cuPointerGetAttribute",
    c"cuMemAlloc_v2",
    c"cuMemAllocAsync",
    c"cuMemFree_v2",
    c"cuMemHostAlloc",
    c"cuMemFreeHost",
    c"cuMemsetD8Async",
    c"cuMemcpyHtoDAsync_v2",
    c"cuMemcpyDtoHAsync_v2",
    c"cuMemcpyDtoDAsync_v2",
    c"cuStreamSynchronize",
    c"cuStreamIsCapturing",
    c"cuStreamCreate",
    c"cuStreamDestroy_v2",
    c"cuStreamWaitEvent",
    c"cuEventCreate",
    c"cuEventDestroy_v2",
    c"cuEventRecord",
    c"cuEventSynchronize",
    c"cuEventElapsedTime",
    c"cuLaunchKernel",
    c"cuGetErrorName",
    c"cuGetErrorString",
];

/// Returns whether a driver is installed. Starts nothing.
pub fn is_installed() -> bool {
    // SAFETY: this loads and unloads the driver's library, which is made for that.
    unsafe { sys::is_culib_present() }
}

/// Checks that there is a driver, and that it has the functions that are called.
pub fn find() -> Result<(), Error> {
    if !is_installed() {
        return Err(Error::NoCuda(
            "no CUDA driver is installed (libcuda.so.1 is not found): install NVIDIA's, 520 or \
             newer",
        ));
    }
    // SAFETY: it is installed.
    let library = unsafe { sys::culib() };
    let is_there = |name: &&CStr| {
        // SAFETY: the function is looked up, and not called as this type.
        unsafe { library.get::<unsafe extern "C" fn()>(name.to_bytes_with_nul()) }.is_ok()
    };
    if ENTRIES.iter().all(is_there) {
        return Ok(());
    }
    Err(Error::NoCuda("the CUDA driver lacks functions that are needed: update it to 520 or newer"))
}

/// Returns the error of a call that the driver has refused.
pub fn checked(call: &'static str, result: CUresult) -> Result<(), Error> {
    use CUresult::*;
    Err(match result {
        CUDA_SUCCESS => return Ok(()),
        CUDA_ERROR_NO_DEVICE => {
            Error::NoCuda("the CUDA driver finds no device (is CUDA_VISIBLE_DEVICES empty?)")
        }
        CUDA_ERROR_STUB_LIBRARY => Error::NoCuda(
            "libcuda.so is the CUDA toolkit's stub: take the toolkit's stubs folder out of \
             LD_LIBRARY_PATH",
        ),
        CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            Error::NoCuda("the CUDA driver is too old for the kernels: update it to 520 or newer")
        }
        CUDA_ERROR_NO_BINARY_FOR_GPU => {
            Error::NoCuda("the device is too old: compute capability 7.0 is the lowest")
        }
        CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED | CUDA_ERROR_STREAM_CAPTURE_IMPLICIT => {
            Error::Capturing("a call that waits for the device, or allocates there,")
        }
        CUDA_ERROR_OUT_OF_MEMORY => Error::NoDeviceMemory(call),
        failed => Error::Cuda { call, code: failed as u32, name: name(failed) },
    })
}

/// Returns the driver's name of an error.
fn name(error: CUresult) -> &'static str {
    let mut name = core::ptr::null();
    // SAFETY: the driver writes the address of a string that lives as long as the driver does.
    let name = unsafe {
        match sys::cuGetErrorName(error, &mut name) {
            CUresult::CUDA_SUCCESS if !name.is_null() => CStr::from_ptr(name),
            _ => c"unknown",
        }
    };
    name.to_str().unwrap_or("unknown")
}

/// Calls a function of the driver. The caller writes `unsafe` and the reason for it.
macro_rules! call {
    ($function:ident($($argument:expr),* $(,)?)) => {
        checked(stringify!($function), sys::$function($($argument),*))
    };
}
pub(super) use call;

//! Functions about the library itself and about the last failure.
#![allow(non_camel_case_types)]

use super::sized::{self, sized_struct};
use super::tensor::{CUDA_DEVICES, HOST_DEVICES};
use super::{guard, last_error};
use crate::backend;
use crate::config::IsaCap;
use crate::dtype::Dtype;
use crate::sys;
use core::ffi::c_char;

pub use crate::error::Status;

/// Returns the text of the last call that failed on this thread, with the names and values in
/// question, or an empty string if no call has failed. The string belongs to the library and is
/// valid until the next failure on this thread. The first failure of a thread allocates memory for
/// its texts; if that fails, the text says so, and only the status tells what went wrong.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_last_error() -> *const c_char {
    last_error()
}

/// Returns the name of a status, such as `ADAMW_STATUS_OK`, or `unknown status` for any number that
/// is not a status.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_status_name(status: i32) -> *const c_char {
    let known = Status::ALL.into_iter().find(|&known| known as i32 == status);
    known.map_or(c"unknown status", Status::name).as_ptr()
}

/// Returns the version of the running library, such as `0.1.0`. The version of this header is in
/// `ADAMW_VERSION_MAJOR`, `_MINOR` and `_PATCH`.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// An instruction set, given as an upper limit: the library uses the highest available one that is
/// not above it. All of them give the same bits, except for the sign and the payload of a NaN.
pub type adamw_isa = u32;
/// The highest that the processor has. The environment variable `ADAMW_ISA` (`portable`, `avx2` or
/// `avx512`) limits this choice and every other one; with another value in it, no optimizer can be
/// created.
pub const ADAMW_ISA_BEST: adamw_isa = 0;
/// The baseline of the target: SSE2 on x86-64, NEON on aarch64.
pub const ADAMW_ISA_PORTABLE: adamw_isa = 1;
/// AVX2.
pub const ADAMW_ISA_AVX2: adamw_isa = 2;
/// AVX-512 F, BW, DQ and VL.
pub const ADAMW_ISA_AVX512: adamw_isa = 3;

/// The capabilities of this build on this machine.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_capabilities {
    /// `sizeof(adamw_capabilities)`.
    pub struct_size: usize,
    /// Bit `1 << ADAMW_ISA_x` is set for each instruction set that is built in and runs here.
    pub isas: u32,
    /// The instruction set that `ADAMW_ISA_BEST` selects now.
    pub best_isa: adamw_isa,
    /// Bit `1 << device_type` (DLPack's numbers) is set for each kind of memory in which parameters
    /// can be stepped. The bits for CUDA are set if CUDA is built in and a driver is installed. The
    /// driver is not started to find out.
    pub devices: u32,
    /// Bit `1 << ADAMW_DTYPE_x` is set for each element type that a parameter can have.
    pub dtypes: u32,
    /// The number of processors in the affinity mask of this process.
    pub num_cpus: u32,
    /// 0.
    pub reserved: u32,
}

sized_struct!(adamw_capabilities, "out_capabilities", 1 of 8, 6 of 4);

/// Writes the capabilities of this build on this machine to `out_capabilities`. `struct_size` is
/// the caller's `sizeof(adamw_capabilities)`.
///
/// # Safety
/// `out_capabilities` is NULL, or writable for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_capabilities(
    out_capabilities: *mut adamw_capabilities,
    struct_size: usize,
) -> Status {
    guard(|| {
        let value = adamw_capabilities {
            struct_size,
            isas: backend::isas().fold(0, |bits, isa| bits | 1 << IsaCap::number(isa)),
            best_isa: IsaCap::number(backend::best_isa()?),
            devices: devices(),
            dtypes: Dtype::FLOATS.iter().fold(0, |bits, &dtype| bits | 1 << dtype as u32),
            num_cpus: sys::affinity_count() as u32,
            reserved: 0,
        };
        // SAFETY: the caller guarantees it.
        unsafe { sized::write(out_capabilities, struct_size, value) }
    })
}

fn devices() -> u32 {
    let bits = |types: &[i32]| types.iter().fold(0, |bits, device| bits | 1 << device);
    let cuda = if backend::has_cuda() { bits(&CUDA_DEVICES) } else { 0 };
    bits(&HOST_DEVICES) | cuda
}

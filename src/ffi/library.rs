//! What the library says about itself and about the last failure.
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

/// The text of the last call that failed on this thread, with the names and values in question;
/// empty if none has. There is memory for it from a thread's first failure on: without that the text is
/// that there was none, and the status says what failed. It belongs to the library and is valid until this
/// thread's next call that fails.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_last_error() -> *const c_char {
    last_error()
}

/// The name of a status, such as `ADAMW_STATUS_OK`; of a number that is none, `unknown status`.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_status_name(status: i32) -> *const c_char {
    let known = Status::ALL.into_iter().find(|&known| known as i32 == status);
    known.map_or(c"unknown status", Status::name).as_ptr()
}

/// The version of the library that is running, such as `0.1.0`; the header's is in
/// `ADAMW_VERSION_MAJOR`, `_MINOR` and `_PATCH`.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// An instruction set, as a cap: the highest available that is not above it is used. All of them
/// give the same bits, but for the sign and the payload of a NaN.
pub type adamw_isa = u32;
/// As high as the processor has; the environment variable `ADAMW_ISA` (`portable`, `avx2` or
/// `avx512`) caps it, and every other choice too.
pub const ADAMW_ISA_BEST: adamw_isa = 0;
/// What the target's baseline has: SSE2 on x86-64, NEON on aarch64.
pub const ADAMW_ISA_PORTABLE: adamw_isa = 1;
/// AVX2.
pub const ADAMW_ISA_AVX2: adamw_isa = 2;
/// AVX-512 F, BW, DQ and VL.
pub const ADAMW_ISA_AVX512: adamw_isa = 3;

/// What this build can do on this machine.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_capabilities {
    /// `sizeof(adamw_capabilities)`.
    pub struct_size: usize,
    /// Bit `1 << ADAMW_ISA_x` for each instruction set that is built in and that runs here.
    pub isas: u32,
    /// What `ADAMW_ISA_BEST` comes to now.
    pub best_isa: adamw_isa,
    /// Bit `1 << device_type` (DLPack's numbers) for each kind of memory that can be stepped: CUDA's if
    /// the build has it and a driver is installed, which is not started to find out.
    pub devices: u32,
    /// Bit `1 << ADAMW_DTYPE_x` for each element type that a parameter can have.
    pub dtypes: u32,
    /// Processors in the affinity mask of this process.
    pub num_cpus: u32,
    /// 0.
    pub reserved: u32,
}

sized_struct!(adamw_capabilities, "out_capabilities", 1 of 8, 6 of 4);

/// Writes what this build can do on this machine to `out_capabilities`. `struct_size` is the
/// caller's `sizeof(adamw_capabilities)`.
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
        // SAFETY: the caller's word.
        unsafe { sized::write(out_capabilities, struct_size, value) }
    })
}

fn devices() -> u32 {
    let bits = |types: &[i32]| types.iter().fold(0, |bits, device| bits | 1 << device);
    let cuda = if backend::has_cuda() { bits(&CUDA_DEVICES) } else { 0 };
    bits(&HOST_DEVICES) | cuda
}

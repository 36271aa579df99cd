//! Problems of addresses in the device's memory: those that the host gives for numbers, and those
//! that its allocator gives for the library's use.
#![forbid(unsafe_code)]

use super::Status;
use thiserror::Error;

/// A problem of memory on the device.
#[derive(Error, Clone, Copy, PartialEq, Debug)]
pub enum MemoryProblem {
    #[error("{name} is at {at:#x}, which is not aligned to its 4 bytes")]
    MisalignedInput { name: &'static str, at: usize },
    #[error("{name} is at {at:#x}, which is no memory of device {device}")]
    UnreachableInput { name: &'static str, at: usize, device: u16 },
    #[error(
        "device {0} has no pool of memory for ADAMW_DEVICE_MEMORY_POOL: \
         ADAMW_DEVICE_MEMORY_DEFAULT needs none"
    )]
    NoPool(u16),
    #[error("out of memory: device_alloc returned {returned} for {bytes} bytes for {what}")]
    Refused { returned: i32, bytes: usize, what: &'static str },
    #[error(
        "out of memory: device_alloc returned 0 and gave no address for {bytes} bytes for {what}"
    )]
    NoneGiven { bytes: usize, what: &'static str },
    #[error(
        "out of memory: {bytes} bytes for {what} are to be page-locked, and {pinned} are, which is \
         more together than the {most} of config.pinned_bytes"
    )]
    Pinned { bytes: usize, what: &'static str, pinned: usize, most: usize },
    #[error("device_alloc gave {at:#x} for {what}, expected a multiple of 256")]
    Misaligned { at: u64, what: &'static str },
    #[error(
        "device_alloc gave {at:#x} for {bytes} bytes for {what}, which are no memory of device \
         {device}"
    )]
    Unreachable { at: u64, bytes: usize, what: &'static str, device: u16 },
}

impl MemoryProblem {
    /// Returns what C is told.
    pub fn status(&self) -> Status {
        match self {
            MemoryProblem::MisalignedInput { .. } | MemoryProblem::UnreachableInput { .. } => {
                Status::InvalidArgument
            }
            MemoryProblem::NoPool(_) => Status::Unsupported,
            MemoryProblem::Refused { .. }
            | MemoryProblem::NoneGiven { .. }
            | MemoryProblem::Pinned { .. } => Status::OutOfMemory,
            MemoryProblem::Misaligned { .. } | MemoryProblem::Unreachable { .. } => {
                Status::Callback
            }
        }
    }
}

//! The result of a call, as C sees it.
#![forbid(unsafe_code)]

use super::{Error, FileProblem};

/// The result of a call. Zero is success. A number is never reused for another meaning.
/// `adamw_last_error()` returns the text of the calling thread's last failure.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// The call did what its comment says.
    Ok = 0,
    /// A pointer is NULL, or a value is outside its range.
    InvalidArgument = 1,
    /// The request is well formed, but this build, version or machine cannot do it.
    Unsupported = 2,
    /// Memory or threads could not be allocated.
    OutOfMemory = 3,
    /// The handle does not have what was asked for, such as a parameter of this number, state of
    /// this name, a schedule, or a loss scaler.
    NotFound = 5,
    /// The handle (of an optimizer or a team) is NULL, was destroyed, or never was a handle.
    BadHandle = 7,
    /// The handle is in use by another thread, by the call that is running this callback, or by a
    /// step that has begun and not ended.
    Busy = 8,
    /// An earlier call failed in the middle of its writes. The handle can only be destroyed or, if
    /// that call was a load, loaded again.
    Poisoned = 9,
    /// A callback of the host reported an error.
    Callback = 10,
    /// The learning rate already comes from a schedule or from `config.lr_ptr`.
    LrConflict = 11,
    /// A gradient is not finite, and the handle was created with ADAMW_NONFINITE_FAIL.
    Nonfinite = 12,
    /// The parameter cannot be stepped alone, because its step depends on the gradients of others.
    ClipConflict = 13,
    /// A CUDA device or its driver failed.
    Device = 14,
    /// A file could not be read or written. The text includes the reason that the system gave.
    Io = 15,
    /// The data is damaged, truncated, or not a checkpoint.
    Corrupt = 16,
    /// The checkpoint is intact, but does not match this handle, or ranks differ. The text lists
    /// the differences.
    Mismatch = 17,
    /// The library caught a panic at its boundary, which is a bug in this library.
    Internal = 99,
}

impl Status {
    pub(crate) const ALL: [Status; 17] = [
        Status::Ok,
        Status::InvalidArgument,
        Status::Unsupported,
        Status::OutOfMemory,
        Status::NotFound,
        Status::BadHandle,
        Status::Busy,
        Status::Poisoned,
        Status::Callback,
        Status::LrConflict,
        Status::Nonfinite,
        Status::ClipConflict,
        Status::Device,
        Status::Io,
        Status::Corrupt,
        Status::Mismatch,
        Status::Internal,
    ];

    /// Returns the name of the constant in C, NUL-terminated.
    pub fn name(self) -> &'static core::ffi::CStr {
        match self {
            Status::Ok => c"ADAMW_STATUS_OK",
            Status::InvalidArgument => c"ADAMW_STATUS_INVALID_ARGUMENT",
            Status::Unsupported => c"ADAMW_STATUS_UNSUPPORTED",
            Status::OutOfMemory => c"ADAMW_STATUS_OUT_OF_MEMORY",
            Status::NotFound => c"ADAMW_STATUS_NOT_FOUND",
            Status::BadHandle => c"ADAMW_STATUS_BAD_HANDLE",
            Status::Busy => c"ADAMW_STATUS_BUSY",
            Status::Poisoned => c"ADAMW_STATUS_POISONED",
            Status::Callback => c"ADAMW_STATUS_CALLBACK",
            Status::LrConflict => c"ADAMW_STATUS_LR_CONFLICT",
            Status::Nonfinite => c"ADAMW_STATUS_NONFINITE",
            Status::ClipConflict => c"ADAMW_STATUS_CLIP_CONFLICT",
            Status::Device => c"ADAMW_STATUS_DEVICE",
            Status::Io => c"ADAMW_STATUS_IO",
            Status::Corrupt => c"ADAMW_STATUS_CORRUPT",
            Status::Mismatch => c"ADAMW_STATUS_MISMATCH",
            Status::Internal => c"ADAMW_STATUS_INTERNAL",
        }
    }
}

impl Error {
    /// Returns what C is told.
    pub fn status(&self) -> Status {
        match self {
            Error::StructTail { .. }
            | Error::NoSplit(_)
            | Error::NoStochastic(_)
            | Error::NoNibbles(_)
            | Error::CodedRows(_)
            | Error::NoCuda(_)
            | Error::Capturing(_)
            | Error::InGraph { .. }
            | Error::SecondDevice { .. }
            | Error::DeviceInputs
            | Error::NotOnDevice { .. } => Status::Unsupported,
            Error::Cuda { .. } | Error::Jit { .. } | Error::HalfStep { .. } => Status::Device,
            Error::Tensor { problem, .. } => problem.status(),
            Error::NoParam { .. } | Error::NoGroup { .. } => Status::NotFound,
            Error::NoSchedule | Error::NoScaler | Error::NoDevice(_) | Error::NoDeviceYet => {
                Status::NotFound
            }
            Error::NoStepBegun
            | Error::BegunByParent
            | Error::NoState { .. }
            | Error::NoStateNamed(_)
            | Error::NoParamNamed(_)
            | Error::NoName { .. } => Status::NotFound,
            Error::State { problem, .. } | Error::GradSums(problem) => problem.status(),
            Error::Callback { .. }
            | Error::ParallelFor(_)
            | Error::Closure(_)
            | Error::Ratio { .. }
            | Error::NoRatio(_)
            | Error::ScheduleCallback { .. }
            | Error::ScheduleValue { .. } => Status::Callback,
            Error::File { .. } | Error::NotAFile(_) => Status::Io,
            Error::Checkpoint { problem: FileProblem::Version(_), .. } => Status::Unsupported,
            Error::Checkpoint { .. } => Status::Corrupt,
            Error::Mismatch { .. } => Status::Mismatch,
            Error::Ranks(problem) => problem.status(),
            Error::Memory(problem) => problem.status(),
            Error::Transfer { .. } => Status::Callback,
            Error::LrConflict(_) => Status::LrConflict,
            Error::ClipConflict { .. } => Status::ClipConflict,
            Error::OutOfMemory { .. } | Error::NoDeviceMemory(_) | Error::Threads(..) => {
                Status::OutOfMemory
            }
            Error::Nonfinite { .. } | Error::NormOverflow { .. } => Status::Nonfinite,
            Error::NullHandle | Error::BadHandle(_) | Error::BadTeam(_) => Status::BadHandle,
            Error::Busy | Error::StepBegun => Status::Busy,
            Error::Poisoned | Error::HalfLoaded => Status::Poisoned,
            Error::Panic(_) => Status::Internal,
            _ => Status::InvalidArgument,
        }
    }
}

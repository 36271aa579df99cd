//! What a call came to, as C sees it.
#![forbid(unsafe_code)]

/// What a call came to. Zero is success. A number is never reused for another meaning; the text of
/// the calling thread's last failure is `adamw_last_error()`.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// The call did what it says.
    Ok = 0,
    /// A pointer was NULL, or a value outside its range.
    InvalidArgument = 1,
    /// The request is well formed, but this build, version or machine cannot do it.
    Unsupported = 2,
    /// Memory or threads could not be had.
    OutOfMemory = 3,
    /// No parameter or group of this handle has that number.
    NotFound = 5,
    /// The handle is NULL, was destroyed, or never was one.
    BadHandle = 7,
    /// The handle is in use: by another thread, or by the very call that called this callback.
    Busy = 8,
    /// An earlier call was interrupted in the middle of its writes: by a bug in this library, which
    /// leaves only `adamw_destroy`, or in `adamw_load`, which may be called again.
    Poisoned = 9,
    /// A function of the host reported an error.
    Callback = 10,
    /// The learning rate is a schedule's, and cannot be set beside it.
    LrConflict = 11,
    /// A gradient is not finite, and the handle was told to fail then.
    Nonfinite = 12,
    /// One parameter cannot be stepped alone: its step depends on the gradients of others.
    ClipConflict = 13,
    /// A CUDA device or its driver failed.
    Device = 14,
    /// A file could not be read or written: the text has the reason that the system gave.
    Io = 15,
    /// A checkpoint is damaged, cut off, or none.
    Corrupt = 16,
    /// A checkpoint is whole, but not one of a handle like this: the text lists what differs.
    Mismatch = 17,
    /// A panic was caught at the boundary: a bug in this library.
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

    /// NUL-terminated, as the constant is written in C.
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

//! Callbacks of the host for saving and loading.

use super::UserData;
use crate::error::{Error, Label};
use crate::sys::fp;
use core::ffi::{CStr, c_char, c_void};

/// Takes the next `num_bytes` bytes of a checkpoint and returns 0. Any other return value fails the
/// call with `ADAMW_STATUS_CALLBACK`.
#[allow(non_camel_case_types)]
pub type adamw_write = Option<
    unsafe extern "C" fn(data: *const c_void, num_bytes: usize, user_data: *mut c_void) -> i32,
>;

/// Copies the `num_bytes` bytes of a checkpoint that start at `offset` to `out_data` and returns 0.
/// Any other return value fails the call with `ADAMW_STATUS_CALLBACK`. The same bytes are asked for
/// more than once.
#[allow(non_camel_case_types)]
pub type adamw_read = Option<
    unsafe extern "C" fn(
        offset: u64,
        out_data: *mut c_void,
        num_bytes: usize,
        user_data: *mut c_void,
    ) -> i32,
>;

/// Called with the number of bytes done and the total, about once per MiB; returns 0. Any other
/// return value ends the call with `ADAMW_STATUS_CALLBACK`, and nothing changes. A load calls it
/// less often for long tensors: once per 32 MiB while it checks one, once when it has copied one.
/// Once it has copied one, it goes on to its end whatever is returned.
#[allow(non_camel_case_types)]
pub type adamw_progress =
    Option<unsafe extern "C" fn(done: u64, total: u64, user_data: *mut c_void) -> i32>;

/// Gives the name of a parameter in the checkpoint: writes a NUL-terminated name to `out_name`,
/// which holds the parameter's own name on entry, and returns 0. Any other return value fails the
/// call with `ADAMW_STATUS_CALLBACK`, and an empty name fails it with
/// `ADAMW_STATUS_INVALID_ARGUMENT`. It is called once for each parameter, before anything changes.
/// The name must live until the next call.
#[allow(non_camel_case_types)]
pub type adamw_rename = Option<
    unsafe extern "C" fn(
        name: *const c_char,
        out_name: *mut *const c_char,
        user_data: *mut c_void,
    ) -> i32,
>;

/// Takes a checkpoint piece by piece.
pub struct HostWriter {
    function: unsafe extern "C" fn(*const c_void, usize, *mut c_void) -> i32,
    user_data: UserData,
}

impl HostWriter {
    /// Returns `None` for NULL.
    ///
    /// # Safety
    /// `function` may be called with `user_data` as long as this value lives.
    pub unsafe fn new(function: adamw_write, user_data: *mut c_void) -> Option<Self> {
        Some(HostWriter { function: function?, user_data: UserData(user_data) })
    }

    pub fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        let returned = fp::as_host(|| {
            // SAFETY: the caller of `new` allowed it; the bytes live through the call.
            unsafe { (self.function)(bytes.as_ptr().cast(), bytes.len(), self.user_data.0) }
        });
        done("write", returned)
    }
}

/// Gives the bytes of a checkpoint.
pub struct HostReader {
    function: unsafe extern "C" fn(u64, *mut c_void, usize, *mut c_void) -> i32,
    user_data: UserData,
    n_bytes: u64,
}

impl HostReader {
    /// Returns `None` for NULL.
    ///
    /// # Safety
    /// `function` may be called with `user_data` as long as this value lives, and writes as many
    /// bytes as it is asked for.
    pub unsafe fn new(function: adamw_read, user_data: *mut c_void, n_bytes: u64) -> Option<Self> {
        Some(HostReader { function: function?, user_data: UserData(user_data), n_bytes })
    }

    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    pub fn read(&self, at: u64, to: &mut [u8]) -> Result<(), Error> {
        let returned = fp::as_host(|| {
            // SAFETY: the caller of `new` allowed it; `to` lives through the call.
            unsafe { (self.function)(at, to.as_mut_ptr().cast(), to.len(), self.user_data.0) }
        });
        done("read", returned)
    }
}

/// Reports the progress of a save or a load to the host.
#[derive(Clone, Copy)]
pub struct HostProgress {
    function: unsafe extern "C" fn(u64, u64, *mut c_void) -> i32,
    user_data: UserData,
}

impl HostProgress {
    /// Returns `None` for NULL.
    ///
    /// # Safety
    /// `function` may be called with `user_data` as long as this value lives.
    pub unsafe fn new(function: adamw_progress, user_data: *mut c_void) -> Option<Self> {
        Some(HostProgress { function: function?, user_data: UserData(user_data) })
    }

    pub fn tell(&self, n_done: u64, total: u64) -> Result<(), Error> {
        // SAFETY: the caller of `new` allowed it.
        let tell = || unsafe { (self.function)(n_done, total, self.user_data.0) };
        done("progress", fp::as_host(tell))
    }
}

/// Gives the names of parameters in another checkpoint.
#[derive(Clone, Copy)]
pub struct Rename {
    function: unsafe extern "C" fn(*const c_char, *mut *const c_char, *mut c_void) -> i32,
    user_data: UserData,
}

impl Rename {
    /// Returns `None` for NULL.
    ///
    /// # Safety
    /// `function` may be called with `user_data` as long as this value lives, and the name that it
    /// writes is NUL-terminated.
    pub unsafe fn new(function: adamw_rename, user_data: *mut c_void) -> Option<Self> {
        Some(Rename { function: function?, user_data: UserData(user_data) })
    }

    /// Calls `with` with the name that a parameter has in the checkpoint.
    pub fn renamed<R>(&self, name: &CStr, with: impl FnOnce(&str) -> R) -> Result<R, Error> {
        let mut other = name.as_ptr();
        let returned = fp::as_host(|| {
            // SAFETY: the caller of `new` allowed it; both pointers live through the call.
            unsafe { (self.function)(name.as_ptr(), &mut other, self.user_data.0) }
        });
        done("rename", returned)?;
        let no_name = |gave| Error::NoRename { param: Label::new(name.to_bytes()), gave };
        if other.is_null() {
            return Err(no_name("NULL"));
        }
        // SAFETY: not NULL; the caller of `new` guarantees a NUL-terminated name, which lives until
        // the next call.
        let other = unsafe { CStr::from_ptr(other) };
        if other.is_empty() {
            return Err(no_name("an empty name"));
        }
        let text = other.to_str();
        Ok(with(text.map_err(|_| Error::NameNotUtf8(Label::new(other.to_bytes())))?))
    }
}

fn done(name: &'static str, returned: i32) -> Result<(), Error> {
    if returned == 0 { Ok(()) } else { Err(Error::Transfer { name, returned }) }
}

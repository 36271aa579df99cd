//! The host's functions for saving and loading.

use super::UserData;
use crate::error::{Error, Label};
use crate::sys::fp;
use core::ffi::{CStr, c_char, c_void};

/// Takes the next `num_bytes` of a checkpoint and returns 0. Anything else fails the call with
/// `ADAMW_STATUS_CALLBACK`.
#[allow(non_camel_case_types)]
pub type adamw_write = Option<
    unsafe extern "C" fn(data: *const c_void, num_bytes: usize, user_data: *mut c_void) -> i32,
>;

/// Copies the `num_bytes` of a checkpoint that start at `offset` to `out_data` and returns 0.
/// Anything else fails the call with `ADAMW_STATUS_CALLBACK`. The same bytes are asked for more than
/// once.
#[allow(non_camel_case_types)]
pub type adamw_read = Option<
    unsafe extern "C" fn(
        offset: u64,
        out_data: *mut c_void,
        num_bytes: usize,
        user_data: *mut c_void,
    ) -> i32,
>;

/// Hears how many of how many bytes are done, every MiB or so, and returns 0. Anything else ends the
/// call with `ADAMW_STATUS_CALLBACK`, nothing changed.
#[allow(non_camel_case_types)]
pub type adamw_progress =
    Option<unsafe extern "C" fn(done: u64, total: u64, user_data: *mut c_void) -> i32>;

/// Says what a parameter is called in the checkpoint: writes a NUL-terminated name to `out_name`,
/// which holds the parameter's own, and returns 0. Anything else fails the call with
/// `ADAMW_STATUS_CALLBACK`, an empty name with `ADAMW_STATUS_INVALID_ARGUMENT`. It is asked once about
/// each parameter, before anything is changed. The name must live until it is asked again.
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
    /// `None` for NULL.
    ///
    /// # Safety
    /// `function` may be called with `user_data` as long as this value lives.
    pub unsafe fn new(function: adamw_write, user_data: *mut c_void) -> Option<Self> {
        Some(HostWriter { function: function?, user_data: UserData(user_data) })
    }

    pub fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        let returned = fp::as_host(|| {
            // SAFETY: `new`'s caller allowed it; the bytes live through the call.
            unsafe { (self.function)(bytes.as_ptr().cast(), bytes.len(), self.user_data.0) }
        });
        done("write", returned)
    }
}

/// Gives a checkpoint's bytes.
pub struct HostReader {
    function: unsafe extern "C" fn(u64, *mut c_void, usize, *mut c_void) -> i32,
    user_data: UserData,
    n_bytes: u64,
}

impl HostReader {
    /// `None` for NULL.
    ///
    /// # Safety
    /// As `HostWriter::new`; it writes as many bytes as it is asked for.
    pub unsafe fn new(function: adamw_read, user_data: *mut c_void, n_bytes: u64) -> Option<Self> {
        Some(HostReader { function: function?, user_data: UserData(user_data), n_bytes })
    }

    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    pub fn read(&self, at: u64, to: &mut [u8]) -> Result<(), Error> {
        let returned = fp::as_host(|| {
            // SAFETY: `new`'s caller allowed it; `to` lives through the call.
            unsafe { (self.function)(at, to.as_mut_ptr().cast(), to.len(), self.user_data.0) }
        });
        done("read", returned)
    }
}

/// Hears how far a save or a load has come.
#[derive(Clone, Copy)]
pub struct HostProgress {
    function: unsafe extern "C" fn(u64, u64, *mut c_void) -> i32,
    user_data: UserData,
}

impl HostProgress {
    /// `None` for NULL.
    ///
    /// # Safety
    /// As `HostWriter::new`.
    pub unsafe fn new(function: adamw_progress, user_data: *mut c_void) -> Option<Self> {
        Some(HostProgress { function: function?, user_data: UserData(user_data) })
    }

    pub fn tell(&self, n_done: u64, total: u64) -> Result<(), Error> {
        // SAFETY: `new`'s caller allowed it.
        let tell = || unsafe { (self.function)(n_done, total, self.user_data.0) };
        done("progress", fp::as_host(tell))
    }
}

/// Knows what parameters are called elsewhere.
#[derive(Clone, Copy)]
pub struct Rename {
    function: unsafe extern "C" fn(*const c_char, *mut *const c_char, *mut c_void) -> i32,
    user_data: UserData,
}

impl Rename {
    /// `None` for NULL.
    ///
    /// # Safety
    /// As `HostWriter::new`; the name that it writes is NUL-terminated.
    pub unsafe fn new(function: adamw_rename, user_data: *mut c_void) -> Option<Self> {
        Some(Rename { function: function?, user_data: UserData(user_data) })
    }

    /// Calls `with` with the other name of a parameter.
    pub fn renamed<R>(&self, name: &CStr, with: impl FnOnce(&str) -> R) -> Result<R, Error> {
        let mut other = name.as_ptr();
        let returned = fp::as_host(|| {
            // SAFETY: `new`'s caller allowed it; both pointers live through the call.
            unsafe { (self.function)(name.as_ptr(), &mut other, self.user_data.0) }
        });
        done("rename", returned)?;
        if other.is_null() {
            return Err(Error::Null("the name that rename gave"));
        }
        // SAFETY: not NULL, and NUL-terminated as `new`'s caller vouched, until it is asked again.
        let other = unsafe { CStr::from_ptr(other) };
        if other.is_empty() {
            return Err(Error::EmptyRename(Label::new(name.to_bytes())));
        }
        let text = other.to_str();
        Ok(with(text.map_err(|_| Error::NameNotUtf8(Label::new(other.to_bytes())))?))
    }
}

fn done(name: &'static str, returned: i32) -> Result<(), Error> {
    if returned == 0 { Ok(()) } else { Err(Error::Transfer { name, returned }) }
}

//! The C ABI: every function is a few lines that read their arguments, call the optimizer, and turn
//! its result into a status. No logic lives here.

mod checkpoint;
mod checkpoint_types;
mod choices;
mod constants;
mod cuda;
mod defaults;
mod groups;
mod handle;
mod info;
mod lifecycle;
mod memory;
mod minimize;
mod option_types;
mod options;
mod params;
mod scaler;
mod schedule;
mod schedule_types;
mod sized;
mod sparse;
mod state;
mod stepping;
mod tensor;
mod types;

pub use crate::callback::{
    adamw_closure, adamw_decay_filter, adamw_lr_ratio, adamw_parallel_for, adamw_param_info,
    adamw_progress, adamw_read, adamw_rename, adamw_schedule_function, adamw_task, adamw_write,
};
pub use crate::error::Status;
pub use crate::optimizer::Optimizer;
pub use checkpoint::*;
pub use checkpoint_types::*;
pub use constants::*;
pub use cuda::*;
pub use groups::*;
pub use info::*;
pub use lifecycle::*;
pub use memory::*;
pub use minimize::*;
pub use option_types::*;
pub use options::*;
pub use params::*;
pub use scaler::*;
pub use schedule::*;
pub use schedule_types::*;
pub use sparse::*;
pub use state::*;
pub use stepping::*;
pub use types::*;

use crate::error::Error;
use crate::sys::thread::{BytesPerThread, PerThread};
use crate::sys::{cancel, fp, panics};
use core::cell::Cell;
use core::ffi::{CStr, c_char};
use core::fmt::{self, Write};

/// Runs the body of a fallible function: where the thread cannot be cancelled, in the default floating-point
/// environment, with a panic or an error turned into a status and a text.
fn guard(body: impl FnOnce() -> Result<(), Error>) -> Status {
    guard_at("", 0, |_| body())
}

/// The same for a function that takes an array of `n` entries: the text of an error begins with the entry
/// that the body says it is at.
fn guard_at(
    array: &str,
    n: usize,
    body: impl FnOnce(&Cell<Option<usize>>) -> Result<(), Error>,
) -> Status {
    let found = cancel::hold_off();
    let at = Cell::new(None);
    let status = guarded(|| body(&at), || Some((array, at.get().filter(|_| n > 1)?)));
    cancel::let_go(found);
    status
}

/// `guard` where the thread cannot be cancelled; nothing unwinds out of it.
#[inline(never)]
#[allow(improper_ctypes_definitions, reason = "the ABI is C's for what it says of unwinding")]
extern "C" fn guarded<'a, F, A>(body: F, at: A) -> Status
where
    F: FnOnce() -> Result<(), Error>,
    A: FnOnce() -> Option<(&'a str, usize)>,
{
    fp::standard(|| match panics::caught(body) {
        Ok(Ok(())) => Status::Ok,
        Ok(Err(error)) => failed(at(), &error),
        Err(panic) => failed(None, &Error::Panic(panic)),
    })
}

/// Keeps the text of an error, with the entry of an array that it is about, and returns its status.
#[cold]
#[inline(never)]
fn failed(at: Option<(&str, usize)>, error: &Error) -> Status {
    match LAST_ERROR.ask() {
        // Writing fails when the text is full, which cuts it and harms nothing.
        Some(bytes) => {
            let mut text = Text { bytes, used: 0 };
            let _ = match at {
                Some((array, i)) => write!(text, "{array}[{i}]: {error}"),
                None => write!(text, "{error}"),
            };
        }
        None => {
            let _ = HAS_NO_TEXT.set(1);
        }
    }
    error.status()
}

/// # Safety
/// `name` is NULL, or a NUL-terminated string that lives as long as the call.
unsafe fn name<'a>(name: *const c_char, argument: &'static str) -> Result<&'a CStr, Error> {
    if name.is_null() {
        return Err(Error::Null(argument));
    }
    // SAFETY: the caller's word.
    Ok(unsafe { CStr::from_ptr(name) })
}

/// That an array is there, or has no entries.
fn not_null<T>(name: &'static str, array: *const T, n_entries: usize) -> Result<(), Error> {
    if array.is_null() && n_entries > 0 { Err(Error::Null(name)) } else { Ok(()) }
}

/// Writes an output, which need not be aligned.
///
/// # Safety
/// `to` is NULL or writable.
unsafe fn put<T>(name: &'static str, to: *mut T, value: T) -> Result<(), Error> {
    if to.is_null() {
        return Err(Error::Null(name));
    }
    // SAFETY: not NULL, and the caller's word.
    unsafe { to.write_unaligned(value) };
    Ok(())
}

/// The i-th entry of a host's array, which need not be aligned.
///
/// # Safety
/// The array has more than `i` entries.
unsafe fn entry<T: Copy>(array: *const T, i: usize) -> T {
    // SAFETY: the caller's word.
    unsafe { array.add(i).read_unaligned() }
}

/// Bytes of the longest error text, its NUL included.
const TEXT_BYTES: usize = 512;

static LAST_ERROR: BytesPerThread<TEXT_BYTES> = BytesPerThread::new();
/// 1 for a thread that had no memory for the text of an error.
static HAS_NO_TEXT: PerThread = PerThread::new(None);

fn last_error() -> *const c_char {
    match LAST_ERROR.get() {
        Some(text) => text.cast_const().cast(),
        None if HAS_NO_TEXT.get() == 1 => {
            c"out of memory: 512 bytes for the text of an error".as_ptr()
        }
        None => c"".as_ptr(),
    }
}

/// Writes over this thread's error text, and keeps it NUL-terminated.
struct Text {
    bytes: *mut [u8; TEXT_BYTES],
    used: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.floor_char_boundary(TEXT_BYTES - 1 - self.used);
        // SAFETY: the bytes are this thread's, and there is no other reference to them.
        let bytes = unsafe { &mut *self.bytes };
        bytes[self.used..self.used + fits].copy_from_slice(&text.as_bytes()[..fits]);
        bytes[self.used + fits] = 0;
        self.used += fits;
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Label;

    fn last_text() -> String {
        // SAFETY: `last_error` is NUL-terminated, and this thread makes no call meanwhile.
        unsafe { CStr::from_ptr(last_error()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_becomes_a_status_with_its_text() {
        let status = guard(|| panic!("on purpose"));
        assert_eq!(status, Status::Internal);
        assert!(last_text().ends_with("a bug in this library: on purpose"), "{}", last_text());
    }

    #[test]
    fn a_panic_inside_prints_nothing_and_one_outside_does() {
        const INSIDE: &str = "ADAMW_TEST_PANIC_INSIDE";
        if std::env::var_os(INSIDE).is_some() {
            assert_eq!(guard(|| panic!("quiet panic")), Status::Internal);
            std::panic::catch_unwind(|| panic!("loud panic")).unwrap_err();
            return;
        }
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("ffi::tests::a_panic_inside_prints_nothing_and_one_outside_does")
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8(printed).unwrap();
        assert!(output.status.success(), "{printed}");
        assert!(printed.contains("loud panic") && !printed.contains("quiet panic"), "{printed}");
    }

    #[test]
    fn a_long_text_is_cut_and_terminated() {
        let mut text = Text { bytes: LAST_ERROR.ask().unwrap(), used: 0 };
        let long = "ä".repeat(TEXT_BYTES);
        assert!(write!(text, "x{long}").is_err());
        assert_eq!(last_text(), format!("x{}", "ä".repeat((TEXT_BYTES - 2) / 2)));
        assert_eq!(guard(|| Err(Error::NameTaken(Label::new(b"w")))), Status::InvalidArgument);
        assert_eq!(last_text(), "param \"w\" is already there: names are unique in a handle");
    }
}

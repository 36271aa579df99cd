//! The C ABI: every function reads its arguments, calls the optimizer, and turns the result into a
//! status, in a few lines. There is no logic here.

mod choices;
mod handle;
mod sized;
mod slots;

// The sections of the header, in its order: `tests/house/generated.rs` takes them from here. A
// type is declared above the functions that take it.

// == Library and errors
mod library;

// == Handle
mod team;

mod config;

mod lifecycle;

// == Parameters and tensors
mod tensor;

mod params;

mod options;

mod buffers;

mod memory;

// == Gradients
mod grads;

// == Step
mod step;

mod together;

mod subset;

// == Hyper-parameters and groups
mod hyper;

mod groups;

// == Schedules
mod schedule_kinds;

mod schedule;

// == Loss scale
mod scaler;

// == Sparse gradients
mod rows;

// == State
mod state;

// == Checkpoints
mod save;

mod load;

mod inspect;

// == CUDA
// Tensors whose device_type is ADAMW_DEVICE_CUDA or ADAMW_DEVICE_CUDA_MANAGED are in the memory of
// that device, and their parameters are stepped there, with the same bits. One handle uses one
// device.
//
// Order. All work is queued on one stream, which adamw_set_stream sets, in the primary context of
// the device. The current context is the same after a call as before it. Device memory that a call
// reads is read when the stream reaches the call: free or overwrite it after that, or by work that
// is queued behind the call on the same stream.
//
// Waiting. adamw_step does not wait for the device, unless the host has to know what the device
// finds. It waits with adamw_set_statistics, with ADAMW_NONFINITE_FAIL, with found_inf flags or a
// loss scaler of the library, with a norm or a finiteness check that includes parameters in the
// host's memory, and with ADAMW_NONFINITE_SKIP or adamw_set_device_inputs together with a schedule,
// a callback or parameters in the host's memory. Calls that read state or step counts wait, and so
// does adamw_get_step_info.
//
// Memory. An address that the driver does not know as memory of this device is refused by the call
// that gives it. Numbers that a handle reads through a pointer (lr_ptr, the flags of
// adamw_set_found_inf) are in the host's memory; adamw_set_device_inputs gives those in the
// device's memory.
//
// Failures. If the driver fails in the middle of a step, the parameters of that step on the device
// are left half stepped, and every later step of them is ADAMW_STATUS_DEVICE. Do not use a handle
// that has parameters on a device in a forked child: CUDA does not work there.
//
// Captures. No call breaks a capture of another stream, whatever its mode and its thread. The
// library allocates, frees, copies and waits in CUDA's relaxed mode, and never waits for the whole
// context.
mod device;

pub use buffers::*;
pub use config::*;
pub use device::*;
pub use grads::*;
pub use groups::*;
pub use hyper::*;
pub use inspect::*;
pub use library::*;
pub use lifecycle::*;
pub use load::*;
pub use memory::*;
pub use options::*;
pub use params::*;
pub use rows::*;
pub use save::*;
pub use scaler::*;
pub use schedule::*;
pub use schedule_kinds::*;
pub use state::*;
pub use step::*;
pub use subset::*;
pub use team::{Team, adamw_team_create, adamw_team_destroy};
pub use tensor::*;
pub use together::*;

use crate::error::Error;
use crate::sys::thread::{BytesPerThread, PerThread};
use crate::sys::{cancel, fp, panics};
use core::cell::Cell;
use core::ffi::{CStr, c_char};
use core::fmt::{self, Write};

/// Runs the body of a fallible function. During it the thread cannot be cancelled, and the
/// floating-point environment is the default one; a panic or an error becomes a status and a text.
fn guard(body: impl FnOnce() -> Result<(), Error>) -> Status {
    guard_at("", 0, |_| body())
}

/// Does what `guard` does for a function that takes an array of `n` entries. The text of an error
/// begins with the entry that the body has set as current.
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

/// The part of `guard` during which the thread cannot be cancelled. Nothing unwinds out of it.
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

/// Stores the text of an error, with the entry of an array that caused it, and returns its status.
#[cold]
#[inline(never)]
fn failed(at: Option<(&str, usize)>, error: &Error) -> Status {
    match LAST_ERROR.ask() {
        // Writing fails when the text is full: then the text is cut, which does no harm.
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

/// Returns a name that C code gave.
///
/// # Safety
/// `name` is NULL, or a NUL-terminated string that lives as long as the call.
unsafe fn name<'a>(name: *const c_char, argument: &'static str) -> Result<&'a CStr, Error> {
    if name.is_null() {
        return Err(Error::Null(argument));
    }
    // SAFETY: the caller guarantees it.
    Ok(unsafe { CStr::from_ptr(name) })
}

/// Returns the i-th number of a list of parameters; if there is none, i.
///
/// # Safety
/// `params` is NULL, or readable for more than i entries.
unsafe fn number_at(params: *const u32, i: usize) -> u32 {
    // SAFETY: the caller guarantees it.
    if params.is_null() { i as u32 } else { unsafe { entry(params, i) } }
}

fn flag(name: &'static str, value: u32) -> Result<bool, Error> {
    match value {
        0 | 1 => Ok(value == 1),
        _ => Err(Error::Constant { name, value, expected: "0 or 1" }),
    }
}

fn reserved(name: &'static str, value: u32) -> Result<(), Error> {
    if value == 0 { Ok(()) } else { Err(Error::Constant { name, value, expected: "0" }) }
}

/// Checks that an array is not NULL, unless it has no entries.
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
    // SAFETY: not NULL, and the caller guarantees the rest.
    unsafe { to.write_unaligned(value) };
    Ok(())
}

/// Returns the i-th entry of an array, which need not be aligned.
///
/// # Safety
/// The array has more than `i` entries.
unsafe fn entry<T: Copy>(array: *const T, i: usize) -> T {
    // SAFETY: the caller guarantees it.
    unsafe { array.add(i).read_unaligned() }
}

/// Bytes of the longest error text, including its NUL.
const TEXT_BYTES: usize = 512;

static LAST_ERROR: BytesPerThread<TEXT_BYTES> = BytesPerThread::new();
/// 1 for a thread that could not allocate memory for the text of an error.
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

/// Overwrites the error text of this thread, and keeps it NUL-terminated.
struct Text {
    bytes: *mut [u8; TEXT_BYTES],
    used: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.floor_char_boundary(TEXT_BYTES - 1 - self.used);
        // SAFETY: the bytes belong to this thread, and there is no other reference to them.
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

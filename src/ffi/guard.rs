//! What is around every call: no cancellation, the default floating-point environment, no panic;
//! and what becomes of an error.

use super::Status;
use crate::error::Error;
use crate::sys::thread::{BytesPerThread, PerThread};
use crate::sys::{cancel, fp, panics};
use core::cell::Cell;
use core::ffi::c_char;
use core::fmt::{self, Write};

/// Runs the body of a fallible function. During it the thread cannot be cancelled, and the
/// floating-point environment is the default one; a panic or an error becomes a status and a text.
pub fn guard(body: impl FnOnce() -> Result<(), Error>) -> Status {
    guard_at("", 0, |_| body())
}

/// Does what `guard` does for a function that takes an array of `n` entries. The text of an error
/// begins with the entry that the body has set as current.
pub fn guard_at(
    array: &str,
    n: usize,
    body: impl FnOnce(&Cell<Option<usize>>) -> Result<(), Error>,
) -> Status {
    let found = cancel::hold_off();
    let at = Cell::new(None);
    let status = guarded(|| body(&at), || Some(Entry(array, at.get().filter(|_| n > 1)?)));
    cancel::let_go(found);
    status
}

/// Does what `guard` does for a function that tells the error of an earlier call, too: the inner
/// result, whose text begins with what that call was.
pub fn guard_after(
    earlier: &'static str,
    body: impl FnOnce() -> Result<Result<(), Error>, Error>,
) -> Status {
    let found = cancel::hold_off();
    let is_earlier = Cell::new(false);
    let told = || body()?.inspect_err(|_| is_earlier.set(true));
    let status = guarded(told, || is_earlier.get().then_some(earlier));
    cancel::let_go(found);
    status
}

/// An entry of an array.
struct Entry<'a>(&'a str, usize);

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}[{}]", self.0, self.1)
    }
}

/// The part of `guard` during which the thread cannot be cancelled. Nothing unwinds out of it.
#[inline(never)]
#[allow(improper_ctypes_definitions, reason = "the ABI is C's for what it says of unwinding")]
extern "C" fn guarded<F, A, D>(body: F, at: A) -> Status
where
    F: FnOnce() -> Result<(), Error>,
    A: FnOnce() -> Option<D>,
    D: fmt::Display,
{
    fp::standard(|| match panics::caught(body) {
        Ok(Ok(())) => Status::Ok,
        Ok(Err(error)) => failed(at().as_ref().map(|at| at as &dyn fmt::Display), &error),
        Err(panic) => failed(None, &Error::Panic(panic)),
    })
}

/// Stores the text of an error, with where it comes from, and returns its status.
#[cold]
#[inline(never)]
fn failed(at: Option<&dyn fmt::Display>, error: &Error) -> Status {
    match LAST_ERROR.ask() {
        // Writing fails when the text is full: then the text is cut, which does no harm.
        Some(bytes) => {
            let mut text = Text { bytes, used: 0 };
            let _ = match at {
                Some(at) => write!(text, "{at}: {error}"),
                None => write!(text, "{error}"),
            };
        }
        None => {
            let _ = HAS_NO_TEXT.set(1);
        }
    }
    error.status()
}

/// Bytes of the longest error text, including its NUL.
const TEXT_BYTES: usize = 512;

static LAST_ERROR: BytesPerThread<TEXT_BYTES> = BytesPerThread::new();
/// 1 for a thread that could not allocate memory for the text of an error.
static HAS_NO_TEXT: PerThread = PerThread::new(None);

pub fn last_error() -> *const c_char {
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
    use core::ffi::CStr;

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
            .arg("ffi::guard::tests::a_panic_inside_prints_nothing_and_one_outside_does")
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

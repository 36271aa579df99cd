//! Panics inside the library: caught, and not printed.
//!
//! A panic here is a bug, but the host must not pay for it with its process or its terminal. The
//! hook that prints a panic belongs to the whole program where this crate is linked into a Rust
//! host, so ours is silent only on threads that are inside the library, and passes everything else
//! on to the hook it found.

use super::fp;
use crate::error::Label;
use core::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Once, OnceLock};

type Hook = Box<dyn Fn(&panic::PanicHookInfo) + Send + Sync>;

static PREVIOUS: OnceLock<Hook> = OnceLock::new();

/// Runs `work`, and returns the message of a panic in it as an error. Nothing is printed if this
/// thread is inside the library.
pub fn caught<R>(work: impl FnOnce() -> R) -> Result<R, Label> {
    install_hook();
    // A handle that a panic leaves half changed is poisoned: see `ffi/handle.rs`.
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(text)
}

/// Returns the message of a panic.
#[cold]
#[inline(never)] // so that calls run on a smaller stack
fn text(payload: Box<dyn Any + Send>) -> Label {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text");
    let label = Label::new(text.as_bytes());
    // A payload may panic again when it is dropped.
    core::mem::forget(payload);
    label
}

#[inline(never)] // the same
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // The hook captures nothing, so that boxing it allocates nothing.
        PREVIOUS.get_or_init(panic::take_hook);
        panic::set_hook(Box::new(|info| {
            if !fp::is_inside()
                && let Some(previous) = PREVIOUS.get()
            {
                previous(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(caught(|| 7), Ok(7));
        assert_eq!(caught(|| panic!("on {}", "purpose")), Err::<(), _>(Label::new(b"on purpose")));
        assert_eq!(caught(|| panic!("plainly")), Err::<(), _>(Label::new(b"plainly")));
    }
}

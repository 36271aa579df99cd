//! The driver's API, and the functions by which a test controls it.
//!
//! One lock guards everything: a call runs alone, a kernel inside the call that makes it run. A
//! handle is a number that is looked up, so that a wrong one is an error and nothing worse. A
//! pointer is the caller's word: what it leads to must be there, as the real driver asks too.

pub mod code;
pub mod context;
pub mod control;
pub mod copy;
pub mod device;
pub mod errors;
pub mod event;
pub mod graph;
pub mod host;
pub mod launch;
pub mod memory;
pub mod module;
pub mod pointer;
pub mod stream;

mod capture;
mod queue;
mod raw;
mod settings;
mod state;
mod work;

pub use raw::{Out, Text};

use code::Code;
use state::Driver;
use std::ffi::c_int;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

static DRIVER: Mutex<Driver> = Mutex::new(Driver::new());

fn lock() -> MutexGuard<'static, Driver> {
    // After a panic every call still has an answer.
    DRIVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs one call of the API: logs it, plays the fault that is planned for it, and lets no panic
/// out.
fn call(
    name: &'static str,
    arguments: fmt::Arguments,
    body: impl FnOnce(&mut Driver) -> Result<(), Code>,
) -> c_int {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut driver = lock();
        let result = driver.settings.planned(name).and_then(|()| body(&mut driver));
        let code = result.err().unwrap_or(Code::SUCCESS);
        driver.log(format_args!("{name}({arguments}) -> {}", code.0));
        code
    }));
    ran.unwrap_or(Code::UNKNOWN).0
}

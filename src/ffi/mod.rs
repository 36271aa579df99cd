//! The C ABI: every function reads its arguments, calls the optimizer, and turns the result into a
//! status, in a few lines. There is no logic here.

mod choices;
mod guard;
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

mod sums;

mod together;

mod subset;

// == Ranks
mod ranks;

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

mod begun;

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
// finds. It waits with ADAMW_NONFINITE_FAIL, with found_inf flags, with a norm or a finiteness
// check that includes parameters in the host's memory, and with ADAMW_NONFINITE_SKIP, a loss scaler
// or adamw_set_device_inputs together with a schedule, a callback or parameters in the host's
// memory. Otherwise a loss scaler adapts on the device. Calls that read state, step counts or the
// loss scale wait, and so do adamw_get_step_info, which reads statistics too, and
// adamw_get_offload_info. Once a captured step follows a schedule, plain steps wait, and so do
// calls that read or set where it is.
//
// Memory. An address that the driver does not know as memory of this device is refused by the call
// that gives it. Numbers that a handle reads through a pointer (lr_ptr, the flags of
// adamw_set_found_inf) are in the host's memory; adamw_set_device_inputs gives those in the
// device's memory.
//
// Failures. If the driver fails in the middle of a step, the call is ADAMW_STATUS_DEVICE, its text
// says so, and every later one with that handle is ADAMW_STATUS_POISONED. Do not use a handle
// that has parameters on a device in a forked child: CUDA does not work there.
//
// Captures. No call breaks a capture of another stream, whatever its mode and its thread. The
// library allocates, frees, copies and waits in CUDA's relaxed mode, and never waits for the whole
// context.
mod device;

pub use begun::*;
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
pub use ranks::*;
pub use rows::*;
pub use save::*;
pub use scaler::*;
pub use schedule::*;
pub use schedule_kinds::*;
pub use state::*;
pub use step::*;
pub use subset::*;
pub use sums::*;
pub use team::{Team, adamw_team_create, adamw_team_destroy};
pub use tensor::*;
pub use together::*;

use crate::error::Error;
use core::ffi::{CStr, c_char};
use guard::{guard, guard_after, guard_at, last_error};

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

/// Writes an output that is not asked for where it is NULL, and need not be aligned.
///
/// # Safety
/// `to` is NULL or writable.
unsafe fn put_if_asked<T>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: not NULL, and the caller guarantees the rest.
        unsafe { to.write_unaligned(value) };
    }
}

/// Returns the i-th entry of an array, which need not be aligned.
///
/// # Safety
/// The array has more than `i` entries.
unsafe fn entry<T: Copy>(array: *const T, i: usize) -> T {
    // SAFETY: the caller guarantees it.
    unsafe { array.add(i).read_unaligned() }
}

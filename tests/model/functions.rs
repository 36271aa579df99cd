//! The host's functions and numbers that calls set by a small number, and what they come to.

use crate::common::handle;
use adamw::ffi::*;
use core::ffi::{CStr, c_char, c_void};

/// A number that a name has, whichever handle asks.
fn hash(name: &str) -> u64 {
    name.bytes().fold(7, |hash, byte| hash * 31 + u64::from(byte))
}

/// What the learning rate of a parameter is multiplied by.
pub fn ratio(name: &str) -> Option<f64> {
    Some([1.0, 0.5, 0.0, 1.5][hash(name) as usize % 4])
}

/// The same, of a callback that fails.
pub fn no_ratio(_: &str) -> Option<f64> {
    None
}

/// # Safety
/// As the library calls it.
pub unsafe extern "C" fn tell_ratio(
    param: *const adamw_param_info,
    out_ratio: *mut f64,
    _: *mut c_void,
) -> i32 {
    // SAFETY: the library's pointers are valid, the name is NUL-terminated.
    unsafe {
        let name = CStr::from_ptr((*param).name).to_str().unwrap();
        *out_ratio = ratio(name).unwrap();
    }
    0
}

/// # Safety
/// As the library calls it.
pub unsafe extern "C" fn tell_no_ratio(
    _: *const adamw_param_info,
    _: *mut f64,
    _: *mut c_void,
) -> i32 {
    7
}

/// Whether weight decay applies to a parameter.
pub fn decays(name: &str) -> bool {
    !hash(name).is_multiple_of(3)
}

/// # Safety
/// As the library calls it.
pub unsafe extern "C" fn tell_decays(name: *const c_char, _: *mut c_void) -> i32 {
    // SAFETY: NUL-terminated.
    decays(unsafe { CStr::from_ptr(name) }.to_str().unwrap()).into()
}

/// The options of a parameter that nobody has changed.
pub fn no_options() -> adamw_param_options {
    adamw_param_options {
        struct_size: size_of::<adamw_param_options>(),
        lr_scale: 1.0,
        regularizer_coeff: 0.0,
        regularizer: ADAMW_REGULARIZER_NONE,
        group: 0,
        frozen: 0,
        no_clip: 0,
    }
}

/// Schedules by number; 0: none. The last has the learning rate that the host has set.
pub fn schedule(number: u8) -> Option<adamw_schedule> {
    let of = handle::schedule;
    Some(match number {
        0 => return None,
        1 => adamw_schedule { lr: 0.2, gamma: 0.9, ..of(ADAMW_SCHEDULE_EXPONENTIAL) },
        2 => adamw_schedule {
            lr: 0.1,
            start_lr: 0.0,
            min_lr: 0.01,
            warmup_steps: 3,
            total_steps: 20,
            ..of(ADAMW_SCHEDULE_COSINE_WITH_WARMUP)
        },
        3 => adamw_schedule { lr: 0.3, period: 2, gamma: 0.5, ..of(ADAMW_SCHEDULE_STEP) },
        4 => adamw_schedule {
            lr: 0.2,
            min_lr: 0.01,
            period: 5,
            ..of(ADAMW_SCHEDULE_COSINE_ANNEALING)
        },
        5 => {
            let advance = ADAMW_ADVANCE_MANUALLY;
            adamw_schedule { lr: 0.1, period: 3, advance, ..of(ADAMW_SCHEDULE_STEP) }
        }
        _ => adamw_schedule { gamma: 0.95, ..of(ADAMW_SCHEDULE_EXPONENTIAL) },
    })
}

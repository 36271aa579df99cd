//! The learning rate, and the callbacks that set hyper-parameters.
#![allow(non_camel_case_types)]

use super::{Optimizer, Status, guard, handle, put};
use crate::callback::{DecayFilter, LrRatio};
use core::ffi::c_void;

/// Sets the learning rate of the next steps: finite, >= 0. Each group and each parameter multiply it
/// by their lr_scale, and the lr_ratio callback by its answer. `ADAMW_STATUS_LR_CONFLICT` if a
/// schedule or `config.lr_ptr` gives the learning rate.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_set_lr(optimizer: *mut Optimizer, lr: f64) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.set_lr(lr)))
}

/// Writes the learning rate to `out_lr`.
///
/// # Safety
/// `out_lr` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_lr(optimizer: *const Optimizer, out_lr: *mut f64) -> Status {
    guard(|| {
        let lr = handle::with(optimizer, |optimizer| Ok(optimizer.lr()))?;
        // SAFETY: the caller's word.
        unsafe { put("out_lr", out_lr, lr) }
    })
}

/// Writes the learning rate that a step would give a parameter now to `out_lr`: lr, times what its
/// group, itself and the lr_ratio callback, which is asked, scale it by.
///
/// # Safety
/// `out_lr` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_param_lr(
    optimizer: *const Optimizer,
    param: u32,
    out_lr: *mut f64,
) -> Status {
    guard(|| {
        let lr = handle::with(optimizer, |optimizer| optimizer.param_lr(param))?;
        // SAFETY: the caller's word.
        unsafe { put("out_lr", out_lr, lr) }
    })
}

pub use crate::callback::{adamw_decay_filter, adamw_lr_ratio};

/// Sets which parameters decay. The filter is asked now about every parameter there is, and about
/// each one when it is added; NULL: all decay. If it reports an error, the old one stays.
///
/// # Safety
/// `filter` may be called with `user_data` until another is set or the handle is destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_decay_filter(
    optimizer: *mut Optimizer,
    filter: adamw_decay_filter,
    user_data: *mut c_void,
) -> Status {
    // SAFETY: the caller's word.
    let filter = unsafe { DecayFilter::new(filter, user_data) };
    guard(|| handle::with(optimizer, |optimizer| optimizer.set_decay_filter(filter)))
}

/// Sets what the learning rate of each parameter is multiplied by: layer-wise decay, or 0, with which a finite
/// gradient changes no bit of the parameter (independent decay does), while moments and step counts go on. One that is
/// not finite still makes it NaN: `frozen` of `adamw_param_options` leaves all of it alone.
/// It is asked at every step about every parameter that has a gradient, before anything is
/// written; NULL: no ratio.
///
/// # Safety
/// `lr_ratio` may be called with `user_data` until another is set or the handle is destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_lr_ratio(
    optimizer: *mut Optimizer,
    lr_ratio: adamw_lr_ratio,
    user_data: *mut c_void,
) -> Status {
    // SAFETY: the caller's word.
    let lr_ratio = unsafe { LrRatio::new(lr_ratio, user_data) };
    guard(|| {
        handle::with(optimizer, |optimizer| {
            optimizer.set_lr_ratio(lr_ratio);
            Ok(())
        })
    })
}

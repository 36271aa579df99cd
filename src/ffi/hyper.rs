//! The learning rate, and the callbacks that set hyper-parameters.
#![allow(non_camel_case_types)]

use super::{Optimizer, Status, guard, handle, put};
use crate::callback::{DecayFilter, LrRatio};
use core::ffi::c_void;

/// Sets the learning rate of the next steps; finite, >= 0. It is multiplied by the lr_scale of the
/// group, by the lr_scale of the parameter, and by the result of the lr_ratio callback.
/// `ADAMW_STATUS_LR_CONFLICT` if the learning rate comes from a schedule or from `config.lr_ptr`.
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
        let lr = handle::with(optimizer, |optimizer| optimizer.next_lr())?;
        // SAFETY: the caller guarantees it.
        unsafe { put("out_lr", out_lr, lr) }
    })
}

/// Writes to `out_lr` the learning rate with which a step would step this parameter now: lr times
/// the lr_scale of the group, the lr_scale of the parameter, and the result of the lr_ratio
/// callback, which is called.
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
        // SAFETY: the caller guarantees it.
        unsafe { put("out_lr", out_lr, lr) }
    })
}

pub use crate::callback::{adamw_decay_filter, adamw_lr_ratio};

/// Sets the callback that selects the parameters to which weight decay applies. NULL: it applies to
/// all. The filter is called now for every existing parameter, and for each new one when it is
/// added. If it reports an error, the previous filter stays.
///
/// # Safety
/// `filter` may be called with `user_data` until another is set or the handle is destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_decay_filter(
    optimizer: *mut Optimizer,
    filter: adamw_decay_filter,
    user_data: *mut c_void,
) -> Status {
    // SAFETY: the caller guarantees it.
    let filter = unsafe { DecayFilter::new(filter, user_data) };
    guard(|| handle::with(optimizer, |optimizer| optimizer.set_decay_filter(filter)))
}

/// Sets the callback that gives a factor for the learning rate of each parameter, such as for
/// layer-wise learning-rate decay. NULL: no factor. Each step calls it for every parameter that has
/// a gradient, before the step writes anything.
///
/// With a factor of 0, a finite gradient changes no bit of the parameter (independent weight decay
/// does), while moments and step counts advance. A gradient that is not finite still makes the
/// parameter NaN. To leave everything unchanged, use `frozen` of `adamw_param_options`.
///
/// # Safety
/// `lr_ratio` may be called with `user_data` until another is set or the handle is destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_lr_ratio(
    optimizer: *mut Optimizer,
    lr_ratio: adamw_lr_ratio,
    user_data: *mut c_void,
) -> Status {
    // SAFETY: the caller guarantees it.
    let lr_ratio = unsafe { LrRatio::new(lr_ratio, user_data) };
    guard(|| {
        handle::with(optimizer, |optimizer| {
            optimizer.set_lr_ratio(lr_ratio);
            Ok(())
        })
    })
}

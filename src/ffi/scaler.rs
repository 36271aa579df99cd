//! The scale of the loss.
#![allow(non_camel_case_types)]

use super::sized::{self, sized_struct};
use super::{Optimizer, Status, guard, handle, put};
use crate::config::LossScaler;
use crate::optimizer::{FoundInf, ScalerState};
use crate::tensor::HostNumber;

/// Sets the factor by which the gradients are too large because the loss was scaled. Each step
/// multiplies them by 1 / scale, together with the clip factor. The scale is 2^-126 to 2^126, so
/// that f32 can represent it and its inverse; the initial value is 1. With a loss scaler, which
/// sets the scale itself, this is `ADAMW_STATUS_INVALID_ARGUMENT`.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_set_grad_scale(optimizer: *mut Optimizer, scale: f64) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.set_grad_scale(scale)))
}

/// Writes the scale of the next gradients to `out_scale`: the factor by which the host multiplies
/// its loss.
///
/// # Safety
/// `out_scale` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_grad_scale(
    optimizer: *const Optimizer,
    out_scale: *mut f64,
) -> Status {
    guard(|| {
        let scale = handle::with(optimizer, |optimizer| optimizer.next_loss_scale())?;
        // SAFETY: the caller guarantees it.
        unsafe { put("out_scale", out_scale, scale) }
    })
}

/// A loss scale that adapts: it grows after a number of steps that were taken in a row, and shrinks
/// when gradients are not finite. Whatever the factors are, it stays between 1 (or the first scale,
/// if that is smaller) and 2^126. 0 in any field means its default, which is given in brackets.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_loss_scaler {
    /// `sizeof(adamw_loss_scaler)`.
    pub struct_size: usize,
    /// `[65536]` The first scale; 2^-126 to 2^126.
    pub scale: f64,
    /// `[2]` The factor by which the scale grows; finite, >= 1.
    pub growth_factor: f64,
    /// `[0.5]` The factor by which the scale shrinks; > 0, <= 1.
    pub backoff_factor: f64,
    /// `[2000]` The number of steps taken in a row after which the scale grows.
    pub growth_interval: u64,
    /// `[1]` The number of steps skipped in a row after which the scale shrinks.
    pub backoff_interval: u64,
}

sized_struct!(adamw_loss_scaler, "scaler", 6 of 8);

impl adamw_loss_scaler {
    /// The values of the fields that a shorter struct lacks: zeros, which mean the defaults.
    pub const fn defaults() -> adamw_loss_scaler {
        adamw_loss_scaler {
            struct_size: size_of::<Self>(),
            scale: 0.0,
            growth_factor: 0.0,
            backoff_factor: 0.0,
            growth_interval: 0,
            backoff_interval: 0,
        }
    }
}

/// Sets a loss scaler: a step whose gradients are not finite is skipped, whatever
/// `config.nonfinite` is, and the scale changes after steps as `scaler` defines. The host must call
/// `adamw_get_grad_scale` before each backward pass. NULL removes the loss scaler, and the scale
/// stays at its last value.
///
/// # Safety
/// `scaler` is NULL or readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_loss_scaler(
    optimizer: *mut Optimizer,
    scaler: *const adamw_loss_scaler,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            if scaler.is_null() {
                return optimizer.set_scaler(None);
            }
            // SAFETY: the caller guarantees it.
            let given = unsafe { sized::read(scaler, adamw_loss_scaler::defaults()) }?;
            let number = |given: f64, default| if given == 0.0 { default } else { given };
            let count = |given: u64, default| if given == 0 { default } else { given };
            optimizer.set_scaler(Some(LossScaler {
                scale: number(given.scale, 65536.0),
                growth_factor: number(given.growth_factor, 2.0),
                backoff_factor: number(given.backoff_factor, 0.5),
                growth_interval: count(given.growth_interval, 2000),
                backoff_interval: count(given.backoff_interval, 1),
            }))
        })
    })
}

/// The state of a loss scaler.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_loss_scaler_state {
    /// `sizeof(adamw_loss_scaler_state)`.
    pub struct_size: usize,
    /// The scale of the next step; 2^-126 to 2^126.
    pub scale: f64,
    /// The number of steps taken in a row since the scale last changed. If it is at least the
    /// growth_interval, the next step taken changes the scale.
    pub good_steps: u64,
    /// The number of steps skipped in a row since the scale last changed. If it is at least the
    /// backoff_interval, the next step skipped changes the scale.
    pub bad_steps: u64,
}

sized_struct!(adamw_loss_scaler_state, "state", 4 of 8);

/// Writes the state of the loss scaler to `out_state`, to be saved. `struct_size` is the caller's
/// `sizeof(adamw_loss_scaler_state)`. `ADAMW_STATUS_NOT_FOUND` if there is no loss scaler.
///
/// # Safety
/// `out_state` is NULL, or writable for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_loss_scaler_state(
    optimizer: *const Optimizer,
    out_state: *mut adamw_loss_scaler_state,
    struct_size: usize,
) -> Status {
    guard(|| {
        let state = handle::with(optimizer, |optimizer| optimizer.scaler_state())?;
        // SAFETY: the caller guarantees it.
        unsafe { sized::write(out_state, struct_size, as_c(state)) }
    })
}

/// Sets the state of the loss scaler to a saved one. `ADAMW_STATUS_NOT_FOUND` if there is no loss
/// scaler.
///
/// # Safety
/// `state` is NULL or readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_loss_scaler_state(
    optimizer: *mut Optimizer,
    state: *const adamw_loss_scaler_state,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            let old = as_c(optimizer.scaler_state()?);
            // SAFETY: the caller guarantees it.
            let state = unsafe { sized::read(state, old) }?;
            let adamw_loss_scaler_state { scale, good_steps, bad_steps, .. } = state;
            optimizer.set_scaler_state(ScalerState { scale, good_steps, bad_steps })
        })
    })
}

/// Sets flags in the host's memory that are shared with other optimizers, processes or devices.
/// `found_inf` is the address of one f32 that each step reads: if it is not 0, a gradient elsewhere
/// is not finite, and the step is skipped. `out_found_inf` is the address of one f32 that each
/// successful step writes: 1 if it found such a gradient in this handle or `found_inf` was not 0,
/// and 0 otherwise.
///
/// Either may be NULL, and both may be the same address. Both must stay valid as long as the
/// handle, or until others are set.
///
/// # Safety
/// The pointers are NULL, or readable (`out_found_inf`: writable) for that time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_found_inf(
    optimizer: *mut Optimizer,
    found_inf: *const f32,
    out_found_inf: *mut f32,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller guarantees it.
            let found_inf = unsafe {
                FoundInf {
                    host_flag: HostNumber::new(found_inf),
                    own_flag: HostNumber::new(out_found_inf),
                }
            };
            optimizer.set_found_inf(found_inf);
            Ok(())
        })
    })
}

fn as_c(state: ScalerState) -> adamw_loss_scaler_state {
    let ScalerState { scale, good_steps, bad_steps } = state;
    let struct_size = size_of::<adamw_loss_scaler_state>();
    adamw_loss_scaler_state { struct_size, scale, good_steps, bad_steps }
}

//! The scale of the loss.
#![allow(non_camel_case_types)]

use super::sized::{self, sized_struct};
use super::{Optimizer, Status, guard, handle, put};
use crate::config::LossScaler;
use crate::optimizer::{FoundInf, ScalerState};
use crate::tensor::HostNumber;

/// Says that the gradients are `scale` times too large, as a scaled loss makes them: each step
/// multiplies them by 1 / scale, together with the clip factor. 2^-126 to 2^126, which f32 can multiply by
/// and invert; 1 until it is set.
/// With a loss scaler the scale is the scaler's, and this is `ADAMW_STATUS_INVALID_ARGUMENT`.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_set_grad_scale(optimizer: *mut Optimizer, scale: f64) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.set_grad_scale(scale)))
}

/// Writes how many times too large the next gradients are expected to be to `out_scale`: what the
/// host multiplies its loss by.
///
/// # Safety
/// `out_scale` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_grad_scale(
    optimizer: *const Optimizer,
    out_scale: *mut f64,
) -> Status {
    guard(|| {
        let scale = handle::with(optimizer, |optimizer| Ok(optimizer.loss_scale()))?;
        // SAFETY: the caller's word.
        unsafe { put("out_scale", out_scale, scale) }
    })
}

/// A loss scale that adapts: it grows after so many steps in a row that were taken, and backs off
/// when gradients are not finite. It never leaves 1 (or the first scale, if that is less) to 2^126, whatever
/// the factors. 0 is the default of every field, in brackets.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_loss_scaler {
    /// `sizeof(adamw_loss_scaler)`.
    pub struct_size: usize,
    /// `[65536]` The first scale; 2^-126 to 2^126.
    pub scale: f64,
    /// `[2]` What the scale is multiplied by to grow; finite, >= 1.
    pub growth_factor: f64,
    /// `[0.5]` What it is multiplied by to back off; > 0, <= 1.
    pub backoff_factor: f64,
    /// `[2000]` Steps taken in a row before it grows.
    pub growth_interval: u64,
    /// `[1]` Steps skipped in a row before it backs off.
    pub backoff_interval: u64,
}

sized_struct!(adamw_loss_scaler, "scaler", 6 of 8);

impl adamw_loss_scaler {
    /// What a shorter struct lacks: zeros, which mean the defaults.
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

/// Lets the loss scale adapt: a step whose gradients are not finite is skipped, whatever
/// `config.nonfinite` says, and the scale changes after steps as `scaler` says. The host asks for
/// `adamw_get_grad_scale` before each backward pass. NULL: the scale stays what it is.
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
            // SAFETY: the caller's word.
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

/// How far a loss scaler has come.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_loss_scaler_state {
    /// `sizeof(adamw_loss_scaler_state)`.
    pub struct_size: usize,
    /// The scale of the next step; 2^-126 to 2^126.
    pub scale: f64,
    /// Steps taken in a row since the scale last changed. From the interval on, the next one changes it.
    pub good_steps: u64,
    /// Steps skipped in a row since the scale last changed, likewise.
    pub bad_steps: u64,
}

sized_struct!(adamw_loss_scaler_state, "state", 4 of 8);

/// Writes how far the loss scaler has come, to be saved. `struct_size` is the caller's
/// `sizeof(adamw_loss_scaler_state)`. `ADAMW_STATUS_NOT_FOUND` without a scaler.
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
        // SAFETY: the caller's word.
        unsafe { sized::write(out_state, struct_size, as_c(state)) }
    })
}

/// Puts the loss scaler where a saved one had come.
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
            // SAFETY: the caller's word.
            let state = unsafe { sized::read(state, old) }?;
            let adamw_loss_scaler_state { scale, good_steps, bad_steps, .. } = state;
            optimizer.set_scaler_state(ScalerState { scale, good_steps, bad_steps })
        })
    })
}

/// Shares flags, which are in the host's memory, with other optimizers, processes or devices. `found_inf`: one
/// f32 that each step reads; if it is not 0, somebody has found a gradient that is not finite, and the step is skipped.
/// `out_found_inf`: one f32 that each successful step writes, 1 if it found such a gradient in this
/// handle or `found_inf` was not 0, and 0 otherwise. Either may be NULL, and both the same; both stay valid as long as the handle
/// or until others are set.
///
/// # Safety
/// The pointers are NULL, or readable (`out_found_inf`: writable) as long as that.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_found_inf(
    optimizer: *mut Optimizer,
    found_inf: *const f32,
    out_found_inf: *mut f32,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller's word.
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

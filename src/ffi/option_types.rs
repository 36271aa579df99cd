//! The structs of what can be changed while training, under the names that C sees.
#![allow(non_camel_case_types)]

use super::constants::*;
use super::sized::sized_struct;

/// What can be changed about a parameter that is there: read with `adamw_get_param_options`, edit,
/// write with `adamw_set_param_options`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_param_options {
    /// `sizeof(adamw_param_options)`.
    pub struct_size: usize,
    /// `[1]` Times the learning rate of its group; finite, >= 0. 0 leaves the parameter as it is only while
    /// gradients are finite, and moments move: see `frozen`.
    pub lr_scale: f64,
    /// As in `adamw_param_config`.
    pub regularizer_coeff: f64,
    /// As in `adamw_param_config`.
    pub regularizer: adamw_regularizer,
    /// The number of its group: another one moves it there, with its state and its step count.
    pub group: u32,
    /// `[0]` 1: no step touches it, whatever gradient it has, and its gradient is no part of any
    /// norm. Its state and its step count stay.
    pub frozen: u32,
    /// As in `adamw_param_config`.
    pub no_clip: u32,
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

sized_struct!(adamw_param_options, "options", 3 of 8, 4 of 4);

sized_struct!(adamw_loss_scaler, "scaler", 6 of 8);

sized_struct!(adamw_loss_scaler_state, "state", 4 of 8);

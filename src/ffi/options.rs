//! Existing parameters: finding, describing, changing, resetting and removing them.
#![allow(non_camel_case_types)]

use super::params::regularizer;
use super::sized::{self, sized_struct};
use super::{
    ADAMW_REGULARIZER_L1, ADAMW_REGULARIZER_L2, ADAMW_REGULARIZER_NONE, adamw_regularizer,
};
use super::{Optimizer, Status, flag, guard, handle, put};
use crate::error::{Error, Label};
use crate::math::Regularizer;
use crate::optimizer::Options;
use core::ffi::c_char;

pub use crate::callback::adamw_param_info;

sized_struct!(adamw_param_info, "out_info", 4 of 8, 4 of 4);

/// Writes the highest number of a parameter plus 1 to `out_num_params`, or 0 if there is no
/// parameter. All parameters have numbers below it. A number below it that no parameter has (after
/// `adamw_remove_param`) is `ADAMW_STATUS_NOT_FOUND` in other calls.
///
/// # Safety
/// `out_num_params` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_num_params(
    optimizer: *const Optimizer,
    out_num_params: *mut u32,
) -> Status {
    guard(|| {
        let count = handle::with(optimizer, |optimizer| Ok(optimizer.n_params()))?;
        // SAFETY: the caller guarantees it.
        unsafe { put("out_num_params", out_num_params, count) }
    })
}

/// Writes the number of the parameter of this name to `out_param`. A name that no parameter has is
/// `ADAMW_STATUS_NOT_FOUND`.
///
/// # Safety
/// `name` is NULL or NUL-terminated; `out_param` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_find_param(
    optimizer: *const Optimizer,
    name: *const c_char,
    out_param: *mut u32,
) -> Status {
    guard(|| {
        // SAFETY: the caller guarantees it.
        let name = unsafe { super::name(name, "name") }?.to_bytes();
        let number = handle::with(optimizer, |optimizer| {
            optimizer.find_param(name).ok_or(Error::NoParamNamed(Label::new(name)))
        })?;
        // SAFETY: the caller guarantees it.
        unsafe { put("out_param", out_param, number) }
    })
}

/// Writes a description of a parameter to `out_info`. `struct_size` is the caller's
/// `sizeof(adamw_param_info)`. The name belongs to the library and lives as long as the parameter.
///
/// # Safety
/// `out_info` is NULL, or writable for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_param_info(
    optimizer: *const Optimizer,
    param: u32,
    out_info: *mut adamw_param_info,
    struct_size: usize,
) -> Status {
    guard(|| {
        let info = handle::with(optimizer, |optimizer| optimizer.described(param))?;
        // SAFETY: the caller guarantees it.
        unsafe { sized::write(out_info, struct_size, info) }
    })
}

/// The options of a parameter that can be changed later. Read them with `adamw_get_param_options`,
/// edit them, and write them with `adamw_set_param_options`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_param_options {
    /// `sizeof(adamw_param_options)`.
    pub struct_size: usize,
    /// `[1]` The factor for the learning rate of its group; finite, >= 0. With 0, the moments still
    /// change, and a gradient that is not finite still changes the parameter: see `frozen`.
    pub lr_scale: f64,
    /// As in `adamw_param_config`.
    pub regularizer_coeff: f64,
    /// As in `adamw_param_config`.
    pub regularizer: adamw_regularizer,
    /// The number of its group. A new number moves the parameter there, with its state and step
    /// count.
    pub group: u32,
    /// `[0]` 1: no step changes the parameter, whatever gradient it has, and its gradient does not
    /// count in any norm. Its state and its step count stay.
    pub frozen: u32,
    /// As in `adamw_param_config`.
    pub no_clip: u32,
}

sized_struct!(adamw_param_options, "options", 3 of 8, 4 of 4);

/// Writes the options of a parameter to `out_options`. `struct_size` is the caller's
/// `sizeof(adamw_param_options)`.
///
/// # Safety
/// `out_options` is NULL, or writable for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_param_options(
    optimizer: *const Optimizer,
    param: u32,
    out_options: *mut adamw_param_options,
    struct_size: usize,
) -> Status {
    guard(|| {
        let options = handle::with(optimizer, |optimizer| optimizer.options(param))?;
        // SAFETY: the caller guarantees it.
        unsafe { sized::write(out_options, struct_size, as_c(&options)) }
    })
}

/// Sets the options of a parameter, from the next step on: the factor for its learning rate, its
/// group, and whether it is frozen, clipped or regularized. Options that a shorter struct lacks
/// stay as they are.
///
/// # Safety
/// `options` is NULL or readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_param_options(
    optimizer: *mut Optimizer,
    param: u32,
    options: *const adamw_param_options,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            let old = as_c(&optimizer.options(param)?);
            // SAFETY: the caller guarantees it.
            let new = unsafe { sized::read(options, old) }?;
            let options = Options {
                group: new.group,
                lr_scale: new.lr_scale,
                frozen: flag("options.frozen", new.frozen)?,
                no_clip: flag("options.no_clip", new.no_clip)?,
                regularizer: regularizer(
                    "options.regularizer",
                    new.regularizer,
                    new.regularizer_coeff,
                )?,
            };
            optimizer.set_options(param, options)
        })
    })
}

/// Restarts the training of a parameter: its step count and its moments become 0, and its master
/// becomes a copy of the parameter at its next step, or now if a captured graph steps it. The
/// parameter, its gradient and its options stay.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_reset_param(optimizer: *mut Optimizer, param: u32) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.reset(param)))
}

/// Removes a parameter: the library no longer uses its memory, and frees the state that it has
/// allocated for it. The name and the number are free. The number is `ADAMW_STATUS_NOT_FOUND` until
/// `adamw_add_param` gives it to another parameter, which is what an old copy of the number then
/// refers to. (The number of a parameter in a captured step is not used again, because the graph
/// continues to step that parameter.)
#[unsafe(no_mangle)]
pub extern "C" fn adamw_remove_param(optimizer: *mut Optimizer, param: u32) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.remove(param)))
}

fn as_c(options: &Options) -> adamw_param_options {
    let (regularizer, regularizer_coeff) = match options.regularizer {
        Regularizer::None => (ADAMW_REGULARIZER_NONE, 0.0),
        Regularizer::L1(coeff) => (ADAMW_REGULARIZER_L1, coeff),
        Regularizer::L2(coeff) => (ADAMW_REGULARIZER_L2, coeff),
    };
    adamw_param_options {
        struct_size: size_of::<adamw_param_options>(),
        lr_scale: options.lr_scale,
        regularizer_coeff,
        regularizer,
        group: options.group,
        frozen: options.frozen.into(),
        no_clip: options.no_clip.into(),
    }
}

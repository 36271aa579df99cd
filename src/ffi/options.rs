//! Parameters that are there: their options, a new start, and their end.

use super::lifecycle::flag;
use super::option_types::*;
use super::params::regularizer;
use super::{ADAMW_REGULARIZER_L1, ADAMW_REGULARIZER_L2, ADAMW_REGULARIZER_NONE};
use super::{Optimizer, Status, guard, handle, sized};
use crate::math::Regularizer;
use crate::optimizer::Options;

/// Writes what can be changed about a parameter to `out_options`. `struct_size` is the caller's
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
        // SAFETY: the caller's word.
        unsafe { sized::write(out_options, struct_size, as_c(&options)) }
    })
}

/// Changes the options of a parameter from the next step on: its learning rate, its group, whether
/// it is frozen, clipped, regularized. What a shorter struct lacks stays as it is.
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
            // SAFETY: the caller's word.
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

/// Starts a parameter's training anew: its step count is 0, its moments are zero, its master becomes
/// what the parameter is at its next step. The parameter, its gradient and its options stay.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_reset_param(optimizer: *mut Optimizer, param: u32) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.reset(param)))
}

/// Forgets a parameter: its memory is the host's alone from now on, and state that is the library's
/// is freed. Its name is free, and so is its number: `ADAMW_STATUS_NOT_FOUND` until `adamw_add_param` gives it
/// to another parameter, which an old copy of the number means then. (The number of a parameter that a captured
/// step steps is not given again: the graph goes on with it.)
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

//! Groups, the learning rate, and the callbacks that set hyper-parameters.

use super::lifecycle::{clip, flag, hosts};
use super::sized;
use super::types::*;
use super::{Optimizer, Status, adamw_decay_filter, adamw_lr_ratio, guard, handle, put};
use crate::callback::{DecayFilter, LrRatio};
use crate::clip::ClipNumbers;
use crate::config::{GroupConfig, Lazy};
use crate::error::Error;
use crate::format::{MomentFormat, Precision};
use crate::tensor::HostNumber;
use core::ffi::c_void;

/// Fills `group` with the handle's hyper-parameters and an lr_scale of 1. `struct_size` is the
/// caller's `sizeof(adamw_group_config)`.
///
/// # Safety
/// `group` is NULL, or writable for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_group_config_init(
    optimizer: *const Optimizer,
    group: *mut adamw_group_config,
    struct_size: usize,
) -> Status {
    guard(|| {
        let defaults = handle::with(optimizer, |optimizer| Ok(group_defaults(optimizer)))?;
        // SAFETY: the caller's word.
        unsafe { sized::write(group, struct_size, defaults) }
    })
}

/// Adds a group of parameters with hyper-parameters of its own. `*out_group` is its number, for
/// `adamw_param_config`; group 0 is there from the start, with the handle's values.
///
/// # Safety
/// `group` is NULL or readable, `out_group` NULL or writable; the host's numbers as
/// `adamw_config` asks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_add_group(
    optimizer: *mut Optimizer,
    group: *const adamw_group_config,
    out_group: *mut u32,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller's word.
            let group = unsafe { sized::read(group, group_defaults(optimizer)) }?;
            if out_group.is_null() {
                return Err(Error::Null("out_group"));
            }
            // SAFETY: the caller's word.
            let number = optimizer.add_group(unsafe { checked(&group) }?)?;
            // SAFETY: not NULL, and the caller's word.
            unsafe { out_group.write_unaligned(number) };
            Ok(())
        })
    })
}

/// Writes how many groups the handle has to `out_num_groups`: their numbers are below it, and no group is
/// ever removed.
///
/// # Safety
/// `out_num_groups` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_num_groups(
    optimizer: *const Optimizer,
    out_num_groups: *mut u32,
) -> Status {
    guard(|| {
        let count = handle::with(optimizer, |optimizer| Ok(optimizer.n_groups()))?;
        // SAFETY: the caller's word.
        unsafe { put("out_num_groups", out_num_groups, count) }
    })
}

/// Writes a group's hyper-parameters to `out_group`: what the host has set, or what the last step
/// has read where the host keeps them. `struct_size` is the caller's `sizeof(adamw_group_config)`.
///
/// # Safety
/// `out_group` is NULL, or writable for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_group(
    optimizer: *const Optimizer,
    group: u32,
    out_group: *mut adamw_group_config,
    struct_size: usize,
) -> Status {
    guard(|| {
        let group = handle::with(optimizer, |optimizer| optimizer.group(group))?;
        // SAFETY: the caller's word.
        unsafe { sized::write(out_group, struct_size, as_c(group)) }
    })
}

/// Gives a group other hyper-parameters, from the next step on; its parameters keep their state and
/// their step counts. The powers of beta1 and beta2 go on as products of what each step had. What a
/// shorter struct lacks stays as it is.
///
/// # Safety
/// As `adamw_add_group`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_group(
    optimizer: *mut Optimizer,
    group: u32,
    values: *const adamw_group_config,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            let old = as_c(optimizer.group(group)?);
            // SAFETY: the caller's word.
            let values = unsafe { checked(&sized::read(values, old)?) }?;
            optimizer.set_group(group, values)
        })
    })
}

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

/// The values that a new group has unless it is given others.
fn group_defaults(optimizer: &Optimizer) -> adamw_group_config {
    as_c(optimizer.group_defaults())
}

/// # Safety
/// As `HostNumber::new`.
unsafe fn checked(group: &adamw_group_config) -> Result<GroupConfig, Error> {
    let adamw_group_config { lr_scale, weight_decay, beta1, beta2, eps, .. } = *group;
    let limits = (group.clip_min, group.clip_max);
    let clip = clip("group.clip", group.clip, group.clip_norm, limits)?;
    let independent_weight_decay =
        flag("group.independent_weight_decay", group.independent_weight_decay)?;
    if group.reserved != 0 {
        let (name, value) = ("group.reserved", group.reserved);
        return Err(Error::Constant { name, value, expected: "0" });
    }
    // SAFETY: the caller's word.
    let hosts = unsafe { hosts(group.weight_decay_ptr, group.beta1_ptr, group.beta2_ptr) };
    Ok(GroupConfig {
        lr_scale,
        weight_decay,
        independent_weight_decay,
        beta1,
        beta2,
        eps,
        clip,
        lazy: Lazy::of("group.lazy_mode", group.lazy_mode)?,
        precision: Precision::of("precision", group.precision)?,
        moments: MomentFormat::of("moments", group.moments)?,
        hosts,
    })
}

fn as_c(group: GroupConfig) -> adamw_group_config {
    let GroupConfig { lr_scale, weight_decay, beta1, beta2, eps, hosts, .. } = group;
    let ClipNumbers { norm: clip_norm, min: clip_min, max: clip_max } = group.clip.numbers();
    let pointer = |number: Option<HostNumber>| {
        core::ptr::with_exposed_provenance(number.map_or(0, HostNumber::address))
    };
    adamw_group_config {
        struct_size: size_of::<adamw_group_config>(),
        lr_scale,
        weight_decay,
        beta1,
        beta2,
        eps,
        clip_norm,
        clip_min,
        clip_max,
        clip: group.clip.kind().number(),
        lazy_mode: group.lazy.number(),
        beta1_ptr: pointer(hosts.beta1),
        beta2_ptr: pointer(hosts.beta2),
        weight_decay_ptr: pointer(hosts.weight_decay),
        precision: group.precision.number(),
        moments: group.moments.number(),
        independent_weight_decay: group.independent_weight_decay.into(),
        reserved: 0,
    }
}

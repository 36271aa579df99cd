//! Groups of parameters with common hyper-parameters.
#![allow(non_camel_case_types)]

use super::lifecycle::{clip, formula, host_values};
use super::sized::{self, sized_struct};
use super::{
    Optimizer, Status, adamw_bias_correction, adamw_clip, adamw_formula, adamw_lazy, adamw_moments,
    adamw_precision, flag, guard, handle, put, reserved,
};
use crate::clip::ClipNumbers;
use crate::config::{BiasCorrection, GroupConfig, Lazy};
use crate::error::Error;
use crate::format::{MomentFormat, Precision};
use crate::tensor::HostNumber;

/// The hyper-parameters of a group. `adamw_group_config_init` fills in those of the handle, which
/// are also the defaults of the fields that a shorter struct lacks.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_group_config {
    /// `sizeof(adamw_group_config)`.
    pub struct_size: usize,
    /// `[1]` The factor for the learning rate of the handle; finite, >= 0.
    pub lr_scale: f64,
    /// As in `adamw_config`.
    pub weight_decay: f64,
    /// As in `adamw_config`.
    pub beta1: f64,
    /// As in `adamw_config`.
    pub beta2: f64,
    /// As in `adamw_config`.
    pub eps: f64,
    /// As in `adamw_config`.
    pub clip_norm: f64,
    /// As in `adamw_config`.
    pub clip_min: f64,
    /// As in `adamw_config`.
    pub clip_max: f64,
    /// As in `adamw_config`.
    pub clip: adamw_clip,
    /// As in `adamw_config`.
    pub lazy_mode: adamw_lazy,
    /// As in `adamw_config`.
    pub beta1_ptr: *const f32,
    /// As in `adamw_config`.
    pub beta2_ptr: *const f32,
    /// As in `adamw_config`.
    pub weight_decay_ptr: *const f32,
    /// As in `adamw_config`, for parameters that are added later.
    pub precision: adamw_precision,
    /// As in `adamw_config`, for parameters that are added later.
    pub moments: adamw_moments,
    /// As in `adamw_config`.
    pub independent_weight_decay: u32,
    /// As in `adamw_config`.
    pub maximize: u32,
    /// As in `adamw_config`, for parameters that are added later.
    pub amsgrad: u32,
    /// As in `adamw_config`.
    pub bias_correction: adamw_bias_correction,
    /// `[NULL]` Address of one f32 in place of `lr_scale`, under the rules of `lr_ptr` of
    /// `adamw_config`. With a handle whose `lr` is 1 it is the learning rate of the group.
    pub lr_scale_ptr: *const f32,
    /// As in `adamw_config`.
    pub formula: adamw_formula,
    /// 0.
    pub reserved: u32,
}

sized_struct!(adamw_group_config, "group", 9 of 8, 2 of 4, 3 of 8, 6 of 4, 1 of 8, 2 of 4);

/// Fills `group` with the hyper-parameters of the handle, which are those of group 0, with an
/// lr_scale of 1 and without `lr_scale_ptr`. `struct_size` is the caller's
/// `sizeof(adamw_group_config)`.
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
        // SAFETY: the caller guarantees it.
        unsafe { sized::write(group, struct_size, defaults) }
    })
}

/// Adds a group with its own hyper-parameters and writes its number, for `adamw_param_config`, to
/// `*out_group`. Group 0 exists from the start and has the values of the handle.
///
/// # Safety
/// `group` is NULL or readable; `out_group` is NULL or writable. The addresses in `group` meet the
/// requirements of `adamw_config`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_add_group(
    optimizer: *mut Optimizer,
    group: *const adamw_group_config,
    out_group: *mut u32,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller guarantees it.
            let group = unsafe { sized::read(group, group_defaults(optimizer)) }?;
            if out_group.is_null() {
                return Err(Error::Null("out_group"));
            }
            // SAFETY: the caller guarantees it.
            let number = optimizer.add_group(unsafe { checked(&group) }?)?;
            // SAFETY: not NULL, and the caller guarantees the rest.
            unsafe { out_group.write_unaligned(number) };
            Ok(())
        })
    })
}

/// Writes the number of groups to `out_num_groups`. All groups have numbers below it, because
/// groups are never removed.
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
        // SAFETY: the caller guarantees it.
        unsafe { put("out_num_groups", out_num_groups, count) }
    })
}

/// Writes the hyper-parameters of a group to `out_group`. A value that the host keeps
/// (`lr_scale_ptr`, `beta1_ptr`, `beta2_ptr`, `weight_decay_ptr`) is read now, and is what it is
/// even if no step can be taken with it. `struct_size` is the caller's
/// `sizeof(adamw_group_config)`.
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
        let group = handle::with(optimizer, |optimizer| optimizer.group_now(group))?;
        // SAFETY: the caller guarantees it.
        unsafe { sized::write(out_group, struct_size, as_c(group)) }
    })
}

/// Sets the hyper-parameters of a group, from the next step on. Its parameters keep their state and
/// their step counts; with ADAMW_BIAS_CORRECTION_PRODUCTS the powers of beta1 and beta2 continue as
/// products of the value in each step.
/// Fields that a shorter struct lacks stay as they are.
///
/// # Safety
/// The requirements of `adamw_add_group` hold.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_group(
    optimizer: *mut Optimizer,
    group: u32,
    values: *const adamw_group_config,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            let old = as_c(optimizer.group(group)?);
            // SAFETY: the caller guarantees it.
            let values = unsafe { checked(&sized::read(values, old)?) }?;
            optimizer.set_group(group, values)
        })
    })
}

/// Returns the hyper-parameters of a new group before the host changes them.
fn group_defaults(optimizer: &Optimizer) -> adamw_group_config {
    as_c(optimizer.group_defaults())
}

/// Checks the values that C code gave.
///
/// # Safety
/// The requirements of `HostNumber::new` hold for the addresses.
unsafe fn checked(group: &adamw_group_config) -> Result<GroupConfig, Error> {
    reserved("group.reserved", group.reserved)?;
    let adamw_group_config { lr_scale, weight_decay, beta1, beta2, eps, .. } = *group;
    let limits = (group.clip_min, group.clip_max);
    let clip = clip("group.clip", group.clip, group.clip_norm, limits)?;
    let independent_weight_decay =
        flag("group.independent_weight_decay", group.independent_weight_decay)?;
    let [eps_before_correction, decays_new_value] = formula("group.formula", group.formula)?;
    // SAFETY: the caller guarantees it.
    let host_values = unsafe {
        host_values(group.lr_scale_ptr, group.weight_decay_ptr, group.beta1_ptr, group.beta2_ptr)
    };
    Ok(GroupConfig {
        lr_scale,
        weight_decay,
        independent_weight_decay,
        maximize: flag("group.maximize", group.maximize)?,
        beta1,
        beta2,
        eps,
        bias_correction: BiasCorrection::of("group.bias_correction", group.bias_correction)?,
        eps_before_correction,
        decays_new_value,
        clip,
        lazy: Lazy::of("group.lazy_mode", group.lazy_mode)?,
        amsgrad: flag("group.amsgrad", group.amsgrad)?,
        precision: Precision::of("precision", group.precision)?,
        moments: MomentFormat::of("moments", group.moments)?,
        host_values,
    })
}

fn as_c(group: GroupConfig) -> adamw_group_config {
    let GroupConfig { lr_scale, weight_decay, beta1, beta2, eps, host_values, .. } = group;
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
        beta1_ptr: pointer(host_values.beta1),
        beta2_ptr: pointer(host_values.beta2),
        weight_decay_ptr: pointer(host_values.weight_decay),
        precision: group.precision.number(),
        moments: group.moments.number(),
        independent_weight_decay: group.independent_weight_decay.into(),
        maximize: group.maximize.into(),
        amsgrad: group.amsgrad.into(),
        bias_correction: group.bias_correction.number(),
        lr_scale_ptr: pointer(host_values.lr_scale),
        formula: group.formula(),
        reserved: 0,
    }
}

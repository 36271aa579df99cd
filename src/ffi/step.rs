//! The step, and what it found.
#![allow(non_camel_case_types)]

use super::sized::{self, sized_struct};
use super::{Optimizer, Status, adamw_isa, flag, guard, handle};

/// Steps every parameter that has a gradient, in place, and counts the step for it:
///
/// ```text
/// exp_avg    += (1 - beta1) * (grad - exp_avg)
/// exp_avg_sq += (1 - beta2) * (grad * grad - exp_avg_sq)
/// denom       = sqrt(exp_avg_sq) / sqrt(1 - beta2^step) + eps
/// param      -= lr * weight_decay * param + lr / (1 - beta1^step) * exp_avg / denom
/// ```
///
/// The bits of the result do not depend on the instruction set, the number of threads, or how
/// tensors are cut (which bits a NaN has may). Gradients are read only. With nothing to step it does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_step(optimizer: *mut Optimizer) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.step()))
}

/// Says that the gradient of a parameter is complete. If the next step needs its norm, or whether it
/// is finite, the gradient is measured now, while it is in cache, and not again by the step; otherwise
/// nothing is done. The host does not change it until the next step (`adamw_step_param` of other
/// parameters is none). The step has the same bits with it or without.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_grad_ready(optimizer: *mut Optimizer, param: u32) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.grad_ready(param)))
}

/// Steps one parameter now, if it has a gradient, with the bits that `adamw_step` would give it, and
/// forgets the gradient, so that a host may step inside its backward pass and reuse the memory. A
/// schedule does not go on: `adamw_step`, which steps the parameters that are left, has it do so. Until
/// then, or until no other parameter has a gradient, nothing can be saved: it would be of two steps.
/// `ADAMW_STATUS_CLIP_CONFLICT` if the step depends on all gradients: with clipping by global norm
/// (unless the parameter is left out of it), a loss scaler, ADAMW_NONFINITE_SKIP or found_inf flags.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_step_param(optimizer: *mut Optimizer, param: u32) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.step_param(param)))
}

/// Has each step add up the norms of its update and of the parameters, and count the updates that rounding
/// has lost, for `adamw_get_step_info`, 1,
/// or not, 0. They are summed while the elements are in cache, in the order that norms have: no
/// second pass over memory, and the same bits everywhere.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_set_statistics(optimizer: *mut Optimizer, statistics: u32) -> Status {
    guard(|| {
        let statistics = flag("statistics", statistics)?;
        handle::with(optimizer, |optimizer| optimizer.set_statistics(statistics))
    })
}

/// What the last successful step found and did.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_step_info {
    /// `sizeof(adamw_step_info)`.
    pub struct_size: usize,
    /// Elements of the parameters that had a gradient.
    pub n_elements: u64,
    /// Elements of the gradients that are not finite, if they were measured. A gradient of finite ones whose
    /// norm the compute type does not hold when the loss scale is taken out counts as one.
    pub n_nonfinite: u64,
    /// The norm of all gradients together, unscaled and before clipping, if they were measured.
    pub grad_norm: f64,
    /// 1 if the gradients were measured: for clipping by norm, or because it matters whether they
    /// are finite.
    pub measured: u32,
    /// 1 if the step was skipped.
    pub skipped: u32,
    /// The smallest factor that a gradient was multiplied by to clip it by norm; 1 if none was.
    pub clip_factor: f64,
    /// With `adamw_set_statistics`: the norm of what the step added to all elements that it
    /// visited (of parameters that step lazily: to the listed rows), decay included, after rounding.
    pub update_norm: f64,
    /// With `adamw_set_statistics`: the norm of those elements (of masters, where there are) after
    /// the step.
    pub param_norm: f64,
    /// With `adamw_set_statistics`: how long the step took, in seconds.
    pub seconds: f64,
    /// 1 if the step was taken with `adamw_set_statistics`.
    pub has_statistics: u32,
    /// The instruction set that the handle uses.
    pub isa: adamw_isa,
    /// How many threads work in a step that is large enough.
    pub num_threads: u32,
    /// 0.
    pub reserved: u32,
    /// With `adamw_set_statistics`: elements (of masters, where there are) that have a momentum, exp_avg, and
    /// the same value as before the step: their updates were lost in rounding. Many of them mean that 16 bits
    /// are too few for this learning rate; see `adamw_precision`. Not counted for parameters on a device.
    pub n_unchanged: u64,
}

sized_struct!(adamw_step_info, "out_info", 4 of 8, 2 of 4, 4 of 8, 4 of 4, 1 of 8);

/// Says what the last successful `adamw_step` found and did. `struct_size` is the caller's
/// `sizeof(adamw_step_info)`.
///
/// # Safety
/// `out_info` is NULL, or writable for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_step_info(
    optimizer: *const Optimizer,
    out_info: *mut adamw_step_info,
    struct_size: usize,
) -> Status {
    guard(|| {
        let (report, (isa, num_threads)) = handle::with(optimizer, |optimizer| {
            Ok((optimizer.report()?, optimizer.isa_and_threads()))
        })?;
        let info = adamw_step_info {
            struct_size,
            n_elements: report.n_elements,
            n_nonfinite: report.n_nonfinite,
            grad_norm: report.grad_norm,
            measured: report.measured as u32,
            skipped: report.skipped as u32,
            clip_factor: report.clip_factor,
            update_norm: report.update_norm,
            param_norm: report.param_norm,
            seconds: report.seconds,
            has_statistics: report.has_statistics.into(),
            isa: isa.number(),
            num_threads: u32::try_from(num_threads).unwrap_or(u32::MAX),
            reserved: 0,
            n_unchanged: report.n_unchanged,
        };
        // SAFETY: the caller's word.
        unsafe { sized::write(out_info, struct_size, info) }
    })
}

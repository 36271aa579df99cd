//! The step, and its report.
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
/// tensors are cut (except for the bits of a NaN). Gradients are only read. If no parameter has a
/// gradient, it does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_step(optimizer: *mut Optimizer) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.step()))
}

/// Tells the library that the gradient of a parameter is complete. If the next step needs its norm,
/// or needs to know whether it is finite, the gradient is measured now, while it is in cache, and
/// the step does not measure it again. Otherwise the call does nothing. The step has the same bits
/// with or without it.
///
/// The host must not change the gradient until the next step. (An `adamw_step_param` of another
/// parameter does not count as one.)
#[unsafe(no_mangle)]
pub extern "C" fn adamw_grad_ready(optimizer: *mut Optimizer, param: u32) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.grad_ready(param)))
}

/// Steps one parameter now, if it has a gradient, with the bits that `adamw_step` would give it,
/// and forgets the gradient. A host can so step inside its backward pass and reuse the memory.
///
/// A schedule does not advance until `adamw_step`, which steps the remaining parameters. Until
/// then, or until no other parameter has a gradient, the handle cannot be saved, because the state
/// would belong to two different steps.
///
/// `ADAMW_STATUS_CLIP_CONFLICT` if the step depends on all gradients: with clipping by global norm
/// (unless the parameter is excluded from it), a loss scaler, ADAMW_NONFINITE_SKIP or found_inf
/// flags.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_step_param(optimizer: *mut Optimizer, param: u32) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.step_param(param)))
}

/// Turns statistics for `adamw_get_step_info` on (1) or off (0). With them, each step adds up the
/// norms of its update and of the parameters, and counts the updates that rounding has lost. It
/// does so while the elements are in cache, in the fixed order of norms: there is no second pass
/// over memory, and the bits are the same everywhere.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_set_statistics(optimizer: *mut Optimizer, statistics: u32) -> Status {
    guard(|| {
        let statistics = flag("statistics", statistics)?;
        handle::with(optimizer, |optimizer| optimizer.set_statistics(statistics))
    })
}

/// The report of the last successful step.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_step_info {
    /// `sizeof(adamw_step_info)`.
    pub struct_size: usize,
    /// The number of elements of the parameters that had a gradient.
    pub n_elements: u64,
    /// The number of gradient elements that are not finite, if the gradients were measured. A
    /// finite gradient whose norm is too large for the compute type, once the loss scale is taken
    /// out, counts as one such element.
    pub n_nonfinite: u64,
    /// The norm of all gradients together, unscaled and before clipping, if they were measured.
    pub grad_norm: f64,
    /// 1 if the gradients were measured, for clipping by norm or because the step needed to know
    /// whether they are finite.
    pub measured: u32,
    /// 1 if the step was skipped.
    pub skipped: u32,
    /// The smallest factor by which a gradient was multiplied to clip it by norm; 1 if none was.
    pub clip_factor: f64,
    /// With `adamw_set_statistics`: the norm of the change of all elements that the step has
    /// visited, including decay, after rounding. Of parameters with lazy rows, these are the listed
    /// rows.
    pub update_norm: f64,
    /// With `adamw_set_statistics`: the norm of those elements after the step, taken from the
    /// master where there is one.
    pub param_norm: f64,
    /// With `adamw_set_statistics`: the duration of the step, in seconds. It leaves out what a
    /// device does after the call, which need not wait for that.
    pub seconds: f64,
    /// 1 if the step was taken with `adamw_set_statistics`.
    pub has_statistics: u32,
    /// The instruction set that the handle uses.
    pub isa: adamw_isa,
    /// The number of threads that work in a step that is large enough.
    pub num_threads: u32,
    /// 1 if the step was skipped for a number in the device's memory that no step can use (see
    /// `adamw_device_inputs`).
    pub invalid_inputs: u32,
    /// With `adamw_set_statistics`: the number of elements (of the master where there is one) whose
    /// momentum, exp_avg, is not 0 and whose value is the same as before the step: their updates
    /// were lost in rounding. A large number means that 16 bits are too few for this learning rate;
    /// see `adamw_precision`.
    pub n_unchanged: u64,
}

sized_struct!(adamw_step_info, "out_info", 4 of 8, 2 of 4, 4 of 8, 4 of 4, 1 of 8);

/// Writes the report of the last successful step to `out_info`, whichever call has taken it; before
/// the first, that of a step without gradients. `struct_size` is the caller's
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
            Ok((optimizer.report_to_host()?, optimizer.isa_and_threads()))
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
            invalid_inputs: report.invalid_inputs.into(),
            n_unchanged: report.n_unchanged,
        };
        // SAFETY: the caller guarantees it.
        unsafe { sized::write(out_info, struct_size, info) }
    })
}

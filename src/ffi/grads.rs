//! Gradients.
#![allow(non_camel_case_types)]

use super::{
    Optimizer, Status, adamw_dtype, adamw_tensor, entry, guard, guard_at, handle, not_null, tensor,
};
use crate::error::{Error, Role, TensorProblem};
use crate::optimizer::Clear;
use crate::tensor::Tensor;
use core::ffi::c_void;

/// Sets the gradient of a parameter: as many elements, in the parameter's type or f32, where the parameter
/// is: the host's memory, or the same device (of an offloaded parameter either). It overlaps nothing that a
/// step writes, and is read by every step until it is replaced or forgotten; NULL forgets it, and the parameter
/// is skipped.
///
/// # Safety
/// `grad` is NULL or readable; its memory as the header's conventions ask.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_grad(
    optimizer: *mut Optimizer,
    param: u32,
    grad: *const adamw_tensor,
) -> Status {
    // SAFETY: the caller's word; the arrays are these arguments.
    unsafe { adamw_set_grads(optimizer, &param, &grad, 1) }
}

/// The short form of `adamw_set_grad`: a plain array `data [n_elements]` in
/// the host's memory.
///
/// # Safety
/// As `adamw_set_grad`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_grad_array(
    optimizer: *mut Optimizer,
    param: u32,
    data: *mut c_void,
    n_elements: u64,
    dtype: adamw_dtype,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller's word.
            let grad = unsafe { tensor::array(data, n_elements, dtype) };
            let forgets = data.is_null() && optimizer.described(param)?.n_elements > 0;
            let grad = if forgets { Err(TensorProblem::NullGrad(n_elements)) } else { grad };
            let grad = of_param(optimizer, param, grad)?;
            optimizer.set_grads(1, |_, _| Ok((param, Some(grad))))
        })
    })
}

/// Sets the gradients of `num_grads` parameters in one call, `grads[i]` for `params[i]` as
/// `adamw_set_grad` does: all of them or, on an error, none; its text begins with the entry, `grads[i]`.
///
/// # Safety
/// The arrays are readable for `num_grads` entries; the tensors as in `adamw_set_grad`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_grads(
    optimizer: *mut Optimizer,
    params: *const u32,
    grads: *const *const adamw_tensor,
    num_grads: usize,
) -> Status {
    guard_at("grads", num_grads, |at| {
        handle::with(optimizer, |optimizer| {
            not_null("params", params, num_grads)?;
            not_null("grads", grads, num_grads)?;
            optimizer.set_grads(num_grads, |optimizer, i| {
                at.set(Some(i));
                // SAFETY: the arrays have `num_grads` entries.
                let (param, grad) = unsafe { (entry(params, i), entry(grads, i)) };
                if grad.is_null() {
                    return Ok((param, None));
                }
                // SAFETY: the caller's word.
                let grad = unsafe { tensor::dlpack(grad) };
                Ok((param, Some(of_param(optimizer, param, grad)?)))
            })
        })
    })
}

/// Adds a gradient of a micro-batch to what has been added up for this parameter since its last
/// step, in memory of the library's, f32 (f64 for an f64 parameter). The sum is the gradient of the
/// next step, or the mean, as `config.average_grads` says; it takes the place of any gradient that
/// was set. A step that is taken or skipped uses it up: the parameter has no gradient then. So does one that
/// passes over it since it is frozen; one of other parameters (`adamw_minimize`, `adamw_apply_gradients`,
/// `adamw_step_param`) does not. `grad` is
/// as in `adamw_set_grad`, but is read during this call only.
///
/// # Safety
/// As `adamw_set_grad`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_accumulate_grad(
    optimizer: *mut Optimizer,
    param: u32,
    grad: *const adamw_tensor,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller's word.
            let grad = unsafe { tensor::dlpack(grad) };
            let grad = of_param(optimizer, param, grad)?;
            optimizer.accumulate_grad(param, &grad)
        })
    })
}

/// The short form of `adamw_accumulate_grad`: a plain array `data [n_elements]` in the host's memory.
///
/// # Safety
/// As `adamw_set_grad`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_accumulate_grad_array(
    optimizer: *mut Optimizer,
    param: u32,
    data: *const c_void,
    n_elements: u64,
    dtype: adamw_dtype,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller's word.
            let grad = unsafe { tensor::array(data.cast_mut(), n_elements, dtype) };
            let grad = of_param(optimizer, param, grad)?;
            optimizer.accumulate_grad(param, &grad)
        })
    })
}

/// Says how many micro-batches a window has, by which `config.average_grads` divides every sum, also of a
/// parameter that only some of them reached (an expert, say). 0, which it is at first: the most that any parameter has
/// accumulated since one began while no other held a sum, which is wrong only where none had them all. A step of a parameter
/// that has accumulated more is `ADAMW_STATUS_INVALID_ARGUMENT`. No part of a checkpoint.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_set_accumulation_window(
    optimizer: *mut Optimizer,
    n_micro_batches: u64,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            optimizer.set_window(n_micro_batches);
            Ok(())
        })
    })
}

/// What `adamw_clear_grad` does.
pub type adamw_clear = u32;
/// Writes zeros over every gradient, which must not be in read-only memory; they stay set, and a step with them decays the parameter and
/// moves it by its momentum.
pub const ADAMW_CLEAR_ZERO: adamw_clear = 0;
/// Forgets every gradient: a step skips a parameter until it has one again.
pub const ADAMW_CLEAR_FORGET: adamw_clear = 1;

/// Clears every gradient, as an `ADAMW_CLEAR` constant says.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_clear_grad(optimizer: *mut Optimizer, mode: adamw_clear) -> Status {
    guard(|| {
        let clear = Clear::of("mode", mode)?;
        handle::with(optimizer, |optimizer| optimizer.clear_grad(clear))
    })
}

/// Names the parameter in a problem that its gradient has.
pub(super) fn of_param(
    optimizer: &Optimizer,
    param: u32,
    grad: Result<Tensor, TensorProblem>,
) -> Result<Tensor, Error> {
    let label = optimizer.label(param)?;
    grad.map_err(|problem| problem.of(label, Role::Grad))
}

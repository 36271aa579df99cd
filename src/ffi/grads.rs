//! Gradients: setting, accumulating and clearing them.
#![allow(non_camel_case_types)]

use super::{
    Optimizer, Status, adamw_dtype, adamw_tensor, entry, guard, guard_at, handle, not_null,
    number_at, tensor,
};
use crate::error::{Error, TensorProblem};
use crate::optimizer::Clear;
use crate::role::Role;
use crate::tensor::{GradArray, Tensor};
use core::ffi::c_void;

/// Sets the gradient of a parameter: a tensor of as many elements, in the parameter's type or f32,
/// with the dimensions in the parameter's order in memory. Every step reads it until it is replaced
/// or forgotten. NULL forgets it; a step skips a parameter that has no gradient.
///
/// The gradient is in the host's memory, or on the device, where the parameter is; for an offloaded
/// parameter it may be in either. It must not overlap anything that a step writes.
///
/// # Safety
/// `grad` is NULL or readable. Its memory meets the conventions of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_grad(
    optimizer: *mut Optimizer,
    param: u32,
    grad: *const adamw_tensor,
) -> Status {
    // SAFETY: the caller guarantees it; the arrays are these arguments.
    unsafe { adamw_set_grads(optimizer, &param, &grad, 1) }
}

/// Sets the gradient of a parameter to a plain array `data [n_elements]` in the host's memory. It
/// is the short form of `adamw_set_grad`.
///
/// # Safety
/// The requirements of `adamw_set_grad` hold.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_grad_array(
    optimizer: *mut Optimizer,
    param: u32,
    data: *const c_void,
    n_elements: u64,
    dtype: adamw_dtype,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller guarantees it.
            let grad = unsafe { tensor::array(data.cast_mut(), n_elements, dtype) };
            let forgets = data.is_null() && optimizer.described(param)?.n_elements > 0;
            let grad = if forgets { Err(TensorProblem::NullGrad(n_elements)) } else { grad };
            let grad = of_param(optimizer, param, grad)?;
            optimizer.set_grads(1, |_, _| Ok((param, Some(grad))))
        })
    })
}

/// Sets the gradients of `num_grads` parameters to plain arrays: `data[i]` for `params[i]`, or for
/// parameter i if `params` is NULL. Each array has the length and the type of its parameter, and
/// lies in the memory where the parameter is stepped (in the host's, if it is offloaded). NULL: the
/// parameter has no gradient from now on. On an error, none is set, and the text begins with the
/// entry that caused it, `data[i]`.
///
/// It is made for hosts whose gradients are elsewhere at each step: an array costs little more than
/// the reading of its address, if the parameter had such a gradient before. `adamw_set_grads` takes
/// gradients of any kind.
///
/// # Safety
/// The arrays are NULL, or readable for `num_grads` entries. The gradients meet the requirements of
/// `adamw_set_grad`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_grad_data(
    optimizer: *mut Optimizer,
    params: *const u32,
    data: *const *const c_void,
    num_grads: usize,
) -> Status {
    guard_at("data", num_grads, |at| {
        handle::with(optimizer, |optimizer| {
            not_null("data", data, num_grads)?;
            optimizer.set_grad_data(num_grads, |i| {
                at.set(Some(i));
                // SAFETY: the arrays have `num_grads` entries, and the caller guarantees the rest.
                unsafe {
                    let address = entry(data, i).expose_provenance();
                    (number_at(params, i), GradArray::new(address))
                }
            })
        })
    })
}

/// Sets the gradients of `num_grads` parameters in one call, `grads[i]` for `params[i]`, as
/// `adamw_set_grad` does. On an error, none is set, and the text begins with the entry that caused
/// it, `grads[i]`.
///
/// # Safety
/// The arrays are readable for `num_grads` entries, and the requirements of `adamw_set_grad` hold
/// for each tensor.
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
                // SAFETY: the caller guarantees it.
                let grad = unsafe { tensor::dlpack(grad) };
                Ok((param, Some(of_param(optimizer, param, grad)?)))
            })
        })
    })
}

/// Adds the gradient of a micro-batch to the sum for this parameter since its last step. The sum is
/// in f32 (f64 for an f64 parameter), in memory of the library. `grad` is a tensor as for
/// `adamw_set_grad`, but is read during this call only.
///
/// The next step uses the sum as the gradient, or the mean if `config.average_grads` is set, in
/// place of any gradient that was set. A step, taken or skipped, uses the sum up: the parameter
/// then has no gradient. This includes a step that passes over the parameter because it is frozen,
/// but not a step of other parameters (`adamw_minimize`, `adamw_apply_gradients`,
/// `adamw_step_param`).
///
/// # Safety
/// The requirements of `adamw_set_grad` hold.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_accumulate_grad(
    optimizer: *mut Optimizer,
    param: u32,
    grad: *const adamw_tensor,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller guarantees it.
            let grad = unsafe { tensor::dlpack(grad) };
            let grad = of_param(optimizer, param, grad)?;
            optimizer.accumulate_grad(param, &grad)
        })
    })
}

/// Adds a plain array `data [n_elements]` in the host's memory to the sum for this parameter. It is
/// the short form of `adamw_accumulate_grad`.
///
/// # Safety
/// The requirements of `adamw_set_grad` hold.
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
            // SAFETY: the caller guarantees it.
            let grad = unsafe { tensor::array(data.cast_mut(), n_elements, dtype) };
            let grad = of_param(optimizer, param, grad)?;
            optimizer.accumulate_grad(param, &grad)
        })
    })
}

/// Sets the number of micro-batches in a window. `config.average_grads` divides every sum by it,
/// also the sum of a parameter that only some micro-batches have reached (an expert, for example).
/// A step of a parameter that has accumulated more gradients is `ADAMW_STATUS_INVALID_ARGUMENT`.
/// The number is not saved in checkpoints.
///
/// With 0, the initial value, the divisor is the largest number of gradients that any parameter has
/// accumulated in this window. A window then begins when a parameter accumulates its first gradient
/// while no other parameter holds a sum. The divisor is too small only if no parameter has
/// accumulated a gradient in every micro-batch.
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

/// How `adamw_clear_grad` clears gradients.
pub type adamw_clear = u32;
/// Writes zeros over every gradient, which must be in writable memory. The gradients stay set: a
/// step with them decays the parameter and moves it by its momentum.
pub const ADAMW_CLEAR_ZERO: adamw_clear = 0;
/// Forgets every gradient. A step skips a parameter until it has a gradient again.
pub const ADAMW_CLEAR_FORGET: adamw_clear = 1;

/// Clears every gradient, in the way that an `ADAMW_CLEAR` constant selects. A sum of accumulated
/// gradients is forgotten in either way.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_clear_grad(optimizer: *mut Optimizer, mode: adamw_clear) -> Status {
    guard(|| {
        let clear = Clear::of("mode", mode)?;
        handle::with(optimizer, |optimizer| optimizer.clear_grad(clear))
    })
}

/// Adds the name of the parameter to a problem of its gradient.
pub(super) fn of_param(
    optimizer: &Optimizer,
    param: u32,
    grad: Result<Tensor, TensorProblem>,
) -> Result<Tensor, Error> {
    grad.or_else(|problem| Err(problem.of(optimizer.label(param)?, Role::Grad)))
}

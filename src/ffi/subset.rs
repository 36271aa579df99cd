//! Steps of some parameters.
#![allow(non_camel_case_types)]

use super::grads::of_param;
use super::sized::{self, sized_struct};
use super::{
    Optimizer, Status, adamw_tensor, entry, guard, handle, not_null, put_if_asked, tensor,
};
use crate::callback::Closure;
use crate::error::Error;
use crate::tensor::Tensor;
use core::ffi::c_void;
use core::ptr::with_exposed_provenance_mut;

pub use crate::callback::adamw_closure;

/// A parameter that was stepped, and its gradient.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_param_grad {
    /// The address of the gradient's first element; of the values if the gradient is sparse. A sum
    /// of accumulated gradients belongs to the library.
    pub grad: *mut c_void,
    /// The number of the parameter.
    pub param: u32,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<adamw_param_grad>() == 16);

/// The arguments of `adamw_minimize`. Zero it, then set `struct_size` and `closure`; the other
/// fields may stay 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_minimize_args {
    /// `sizeof(adamw_minimize_args)`.
    pub struct_size: usize,
    /// Computes the loss and the gradients.
    pub closure: adamw_closure,
    /// Passed to `closure`.
    pub user_data: *mut c_void,
    /// `[NULL]` The numbers of the parameters to step, `[num_params]`. NULL: all parameters.
    pub params: *const u32,
    /// The number of entries of `params`.
    pub num_params: usize,
    /// `[NULL]` The numbers of parameters to leave out, `[num_no_grad]`.
    pub no_grad: *const u32,
    /// The number of entries of `no_grad`.
    pub num_no_grad: usize,
    /// `[NULL]` Receives the parameters that were stepped, in the order of their numbers,
    /// `[capacity]`. NULL: they are not listed.
    pub updated: *mut adamw_param_grad,
    /// The number of entries that `updated` has room for. If it is too small, no step is taken.
    pub capacity: usize,
}

sized_struct!(adamw_minimize_args, "args", 9 of 8);

/// Calls the closure, then steps the parameters that have a gradient as `adamw_step` does: all of
/// them, or the subset that `args` selects. Writes the loss to `out_loss`, and the number of
/// stepped parameters, which is 0 if the step was skipped, to `out_num_updated`. Either may be
/// NULL.
///
/// The handle is free while the closure runs, so the closure may set gradients. Gradients are not
/// cleared, neither before nor after.
///
/// # Safety
/// `args` is NULL, or readable with all that it points to (`updated`: writable). The outputs are
/// NULL or writable. The closure may be called with its `user_data`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_minimize(
    optimizer: *mut Optimizer,
    args: *const adamw_minimize_args,
    out_loss: *mut f64,
    out_num_updated: *mut usize,
) -> Status {
    guard(|| {
        // SAFETY: a struct of numbers and nullable pointers.
        let zeros: adamw_minimize_args = unsafe { core::mem::zeroed() };
        handle::with(optimizer, |_| Ok(()))?;
        // SAFETY: the caller guarantees it.
        let args = unsafe { sized::read(args, zeros) }?;
        // SAFETY: the caller guarantees it.
        let closure = unsafe { Closure::new(args.closure, args.user_data) };
        let closure = closure.ok_or(Error::Null("args.closure"))?;
        not_null("args.no_grad", args.no_grad, args.num_no_grad)?;
        not_null("args.updated", args.updated, args.capacity)?;
        not_null("args.params", args.params, args.num_params)?;
        // SAFETY: the caller guarantees it.
        let params = (0..args.num_params).map(|i| unsafe { entry(args.params, i) });
        // SAFETY: the caller guarantees it.
        let no_grad = (0..args.num_no_grad).map(|i| unsafe { entry(args.no_grad, i) });
        handle::with(optimizer, |optimizer| {
            optimizer.check_numbers(params.clone())?;
            optimizer.check_numbers(no_grad.clone())
        })?;
        let loss = closure.loss()?;
        let num_updated = handle::with(optimizer, |optimizer| {
            let selected = (!args.params.is_null()).then_some(params);
            let most = if args.updated.is_null() { usize::MAX } else { args.capacity };
            optimizer.step_some(selected, no_grad, most, |i, param, grad| {
                if !args.updated.is_null() {
                    let grad = address(&grad);
                    let pair = adamw_param_grad { grad, param, reserved: 0 };
                    // SAFETY: `i` is below the capacity; the caller guarantees the rest.
                    unsafe { args.updated.add(i).write_unaligned(pair) };
                }
            })
        })?;
        // SAFETY: the caller guarantees it.
        unsafe {
            put_if_asked(out_loss, loss);
            put_if_asked(out_num_updated, num_updated);
        }
        Ok(())
    })
}

/// Steps the parameters of `num_grads` pairs, `params[i]` with `grads[i]`, and no others, as
/// `adamw_step` does. Norms are those of these gradients. Gradients that were set before are set
/// again afterwards. Each parameter may be given once only.
///
/// # Safety
/// The requirements of `adamw_set_grads` hold; the gradients are read during the call only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_apply_gradients(
    optimizer: *mut Optimizer,
    params: *const u32,
    grads: *const *const adamw_tensor,
    num_grads: usize,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            not_null("params", params, num_grads)?;
            not_null("grads", grads, num_grads)?;
            optimizer.apply(num_grads, |optimizer, i| {
                // SAFETY: the arrays have `num_grads` entries.
                let (param, grad) = unsafe { (entry(params, i), entry(grads, i)) };
                // SAFETY: the caller guarantees it.
                let grad = unsafe { tensor::dlpack(grad) };
                Ok((param, Some(of_param(optimizer, param, grad)?)))
            })
        })
    })
}

fn address(grad: &Tensor) -> *mut c_void {
    with_exposed_provenance_mut(grad.address())
}

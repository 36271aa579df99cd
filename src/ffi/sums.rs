//! The sums over gradients, for hosts that share a model and reduce them between.

use super::{Optimizer, Status, adamw_tensor, guard, handle, not_null, put, tensor};
use crate::error::Error;
use crate::tensor::Tensor;

/// Measures the gradients that the next step would use, and steps nothing. It writes to `sums`, a
/// tensor `[num_params, 2] f64`, the two numbers that a step measures of each parameter: the sum
/// of the squares of its gradient (or of the mean, if the handle averages accumulated ones), with
/// the loss scale in it, and the number of elements that are not finite. Both are 0 for a parameter
/// that the step would not step. num_params is what `adamw_num_params` returns.
///
/// Hosts that have parts of a model each add up their sums, element by element, as an all-reduce
/// does, and give the result to `adamw_set_grad_sums`. Then all of them clip by the same factor and
/// skip the same steps.
///
/// `sums` is in the host's memory, or on the device of the handle. If it is there, and so are all
/// parameters with a gradient, the call waits for nothing: the sums are written in the order of the
/// stream, and the call can be captured into a graph as a step can, after `adamw_prepare`. It must
/// have memory of its own: what overlaps a parameter or its state is an error, and a gradient would
/// be overwritten.
///
/// # Safety
/// `sums` is NULL, or a tensor that meets the conventions of the header and is writable; on a
/// device, until the stream has reached the call, or as long as a graph that has captured it is
/// launched.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_measure_grads(
    optimizer: *mut Optimizer,
    sums: *const adamw_tensor,
) -> Status {
    guard(|| {
        not_null("sums", sums, 1)?;
        // SAFETY: the caller guarantees it.
        let sums = unsafe { of_sums(sums) }?;
        handle::with(optimizer, |optimizer| optimizer.measure_grads(&sums))
    })
}

/// Gives the sums by which the next steps clip and decide what to skip: a tensor as for
/// `adamw_measure_grads`. These steps measure nothing, and read `sums` instead, whose numbers count
/// for all parameters, also for those that are not stepped. If they are what `adamw_measure_grads`
/// has written, the step has the same bits as one that measures. NULL: steps measure again.
///
/// Only the norms of the sums count that a step needs. So a host that knows the norm of all
/// gradients alone, and clips by global norm, can give its square for one parameter and zeros for
/// all others. A count that is NaN or below 0 stands for one element that is not finite, and so do
/// squares that are, beside a count of 0.
///
/// On the device of the handle they are read there in the order of the stream, and the step waits
/// for nothing that a step that measures does not wait for. In the host's memory they are read
/// during the call, and the step need not wait for norms at all. When `adamw_num_params` has
/// changed, steps that need sums fail until a tensor of the new length is given.
///
/// # Safety
/// `sums` is NULL, or a tensor that meets the conventions of the header and stays readable until
/// another one is given or the handle is destroyed, and on a device as long as work that reads it
/// is queued up or captured.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_grad_sums(
    optimizer: *mut Optimizer,
    sums: *const adamw_tensor,
) -> Status {
    guard(|| {
        // SAFETY: the caller guarantees it.
        let sums = if sums.is_null() { None } else { Some(unsafe { of_sums(sums) }?) };
        handle::with(optimizer, |optimizer| optimizer.set_grad_sums(sums.as_ref()))
    })
}

/// Writes the norm of all gradients that the next step would use, unscaled and before clipping, and
/// the number of their elements that are not finite, as `adamw_step_info` has them, and steps
/// nothing. They are those of the sums of `adamw_set_grad_sums`, if there are any; otherwise the
/// gradients are measured now. Waits for the device.
///
/// # Safety
/// `out_norm` and `out_n_nonfinite` are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_grad_norm(
    optimizer: *mut Optimizer,
    out_norm: *mut f64,
    out_n_nonfinite: *mut u64,
) -> Status {
    guard(|| {
        not_null("out_norm", out_norm, 1)?;
        not_null("out_n_nonfinite", out_n_nonfinite, 1)?;
        let (norm, n_nonfinite) = handle::with(optimizer, |optimizer| optimizer.grad_norm())?;
        // SAFETY: the caller guarantees it.
        unsafe {
            put("out_norm", out_norm, norm)?;
            put("out_n_nonfinite", out_n_nonfinite, n_nonfinite)
        }
    })
}

/// Returns the sums that C code gave.
///
/// # Safety
/// The requirements of `tensor::dlpack` hold.
unsafe fn of_sums(sums: *const adamw_tensor) -> Result<Tensor, Error> {
    // SAFETY: the caller guarantees it.
    unsafe { tensor::dlpack(sums) }.map_err(Error::GradSums)
}

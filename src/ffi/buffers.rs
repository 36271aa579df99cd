//! The buffers of a parameter: moved, or written by the host.
#![allow(non_camel_case_types)]

use super::{Optimizer, Status, adamw_tensor, entry, guard, guard_at, handle, not_null, tensor};
use crate::error::{Error, Role};
use crate::optimizer::Item;
use crate::sys::memory::reserve;

/// A buffer of a parameter, or a counter of its state.
pub type adamw_buffer = u32;
/// The parameter itself.
pub const ADAMW_BUFFER_PARAM: adamw_buffer = 1;
/// The f32 master of a 16-bit parameter.
pub const ADAMW_BUFFER_MASTER: adamw_buffer = 2;
/// The running mean of the gradient.
pub const ADAMW_BUFFER_EXP_AVG: adamw_buffer = 3;
/// The running mean of the squared gradient.
pub const ADAMW_BUFFER_EXP_AVG_SQ: adamw_buffer = 4;
/// The largest exp_avg_sq so far, with amsgrad.
pub const ADAMW_BUFFER_MAX_EXP_AVG_SQ: adamw_buffer = 5;
/// A counter, one f64: the steps that the parameter has taken.
pub const ADAMW_BUFFER_STEP: adamw_buffer = 6;
/// A counter, one f64: the product of beta1 over those steps.
pub const ADAMW_BUFFER_BETA1_POWER: adamw_buffer = 7;
/// A counter, one f64: the product of beta2 over those steps.
pub const ADAMW_BUFFER_BETA2_POWER: adamw_buffer = 8;
/// What rounding a parameter left over. With ADAMW_PRECISION_SPLIT int16: the bits of the f32 master
/// are those of the parameter, shifted up by 16, plus this number. With ADAMW_PRECISION_KAHAN of the
/// parameter's type: the parameter is more precisely the sum of the two.
pub const ADAMW_BUFFER_REMAINDER: adamw_buffer = 9;
/// The scales of an 8-bit exp_avg, `[n / 256, rounded up] f32`, or of a 4-bit one, `[n / 128, rounded
/// up] f32`.
pub const ADAMW_BUFFER_EXP_AVG_SCALE: adamw_buffer = 10;
/// As ADAMW_BUFFER_EXP_AVG_SCALE, of exp_avg_sq.
pub const ADAMW_BUFFER_EXP_AVG_SQ_SCALE: adamw_buffer = 11;
/// As ADAMW_BUFFER_EXP_AVG_SCALE, of an 8-bit max_exp_avg_sq.
pub const ADAMW_BUFFER_MAX_EXP_AVG_SQ_SCALE: adamw_buffer = 12;

/// Tells the library that the host has moved `num_buffers` of its buffers: `buffers[i]` of
/// parameter `params[i]` is at `tensors[i]` now, with the same elements and the same values. All
/// of them or, on an error, none. Buffers of the library's own cannot be moved; gradients are set
/// anew with `adamw_set_grad`.
///
/// # Safety
/// The arrays are readable for `num_buffers` entries; tensors as the header's conventions ask.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_rebind(
    optimizer: *mut Optimizer,
    params: *const u32,
    buffers: *const adamw_buffer,
    tensors: *const *const adamw_tensor,
    num_buffers: usize,
) -> Status {
    guard_at("buffers", num_buffers, |at| {
        handle::with(optimizer, |optimizer| {
            not_null("params", params, num_buffers)?;
            not_null("buffers", buffers, num_buffers)?;
            not_null("tensors", tensors, num_buffers)?;
            let mut moves = Vec::new();
            reserve(&mut moves, num_buffers, "the moved buffers")?;
            for i in 0..num_buffers {
                at.set(Some(i));
                // SAFETY: the arrays have `num_buffers` entries.
                let (param, buffer, from) =
                    unsafe { (entry(params, i), entry(buffers, i), entry(tensors, i)) };
                let label = optimizer.label(param)?;
                let role = role(buffer)?;
                // SAFETY: the caller's word.
                let tensor = unsafe { tensor::dlpack(from) };
                moves.push((param, role, tensor.map_err(|problem| problem.of(label, role))?));
            }
            at.set(None);
            optimizer.rebind(&moves)
        })
    })
}

/// Fills the f32 master of a parameter from the parameter, which the host has written by itself (other
/// weights, an average, a clamp): without this the next step overwrites it from the master. A remainder
/// (ADAMW_PRECISION_SPLIT, ADAMW_PRECISION_KAHAN) becomes zero. What master or remainder knew beyond the
/// parameter's own bits is gone: not to be called after `adamw_load` or `adamw_set_state`, which bring
/// them. Does nothing to a parameter that has neither.
///
/// Rows that lag (ADAMW_LAZY_EXACT) are brought up to date first: call `adamw_sparse_flush` before you write
/// a parameter that has some.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_sync_master(optimizer: *mut Optimizer, param: u32) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.sync_master(param)))
}

/// Which tensor of a parameter a buffer is.
fn role(buffer: adamw_buffer) -> Result<Role, Error> {
    match Item::of("buffer", buffer) {
        _ if buffer == ADAMW_BUFFER_PARAM => Ok(Role::Param),
        Ok(Item::Tensor(role)) => Ok(role),
        _ => {
            let expected = "an ADAMW_BUFFER constant, 1 to 5 or 9 to 12";
            Err(Error::Constant { name: "buffer", value: buffer, expected })
        }
    }
}

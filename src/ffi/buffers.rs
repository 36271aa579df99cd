//! The buffers of a parameter that the host moves or writes.
#![allow(non_camel_case_types)]

use super::{Optimizer, Status, adamw_tensor, entry, guard, guard_at, handle, not_null, tensor};
use crate::error::Error;
use crate::optimizer::{Item, Move};
use crate::role::Role;
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
/// A counter, one f64: the product of beta1 over the steps that the parameter has taken.
pub const ADAMW_BUFFER_BETA1_POWER: adamw_buffer = 7;
/// A counter, one f64: the product of beta2 over the steps that the parameter has taken.
pub const ADAMW_BUFFER_BETA2_POWER: adamw_buffer = 8;
/// The rounding error of a parameter. With ADAMW_PRECISION_SPLIT it is int16: the bits of the f32
/// master are those of the parameter, shifted up by 16, plus this number. With
/// ADAMW_PRECISION_KAHAN it has the parameter's type: the sum of the two is the more precise
/// parameter.
pub const ADAMW_BUFFER_REMAINDER: adamw_buffer = 9;
/// The scales of exp_avg: `[n / 256, rounded up] f32` for 8 bits, `[n / 128, rounded up] f32` for 4
/// bits.
pub const ADAMW_BUFFER_EXP_AVG_SCALE: adamw_buffer = 10;
/// The scales of exp_avg_sq, of the shape of ADAMW_BUFFER_EXP_AVG_SCALE.
pub const ADAMW_BUFFER_EXP_AVG_SQ_SCALE: adamw_buffer = 11;
/// The scales of an 8-bit max_exp_avg_sq, of the shape of ADAMW_BUFFER_EXP_AVG_SCALE.
pub const ADAMW_BUFFER_MAX_EXP_AVG_SQ_SCALE: adamw_buffer = 12;

/// Tells the library where `num_buffers` of the host's buffers are now: `buffers[i]` of parameter
/// `params[i]` is at `tensors[i]`, with the same elements and the same values. Only the places
/// after the call count, so buffers may change places with each other. All three arrays have
/// `num_buffers` entries. On an error, none is moved. Buffers that the library has allocated cannot
/// be moved; for gradients, call `adamw_set_grad` again.
///
/// NULL in `tensors`: the buffer has no memory from now on. The library no longer touches what it
/// had, which may belong to other buffers at once, or be freed (on a device, after the work that is
/// queued up). The parameter is parked until all its buffers have memory again: it keeps its
/// number, its name, its options, its step count and the state that has memory, but its gradient is
/// forgotten, also a sum, and none can be set, so that every step passes over it. A buffer that
/// gets memory again has the values that it had; but where there is an f32 master, the parameter
/// may have any, because the next step writes it.
///
/// A parked parameter is saved without itself (`params` 0 in adamw_save_args) if all of its state
/// has memory. (A master of the library's needs the parameter until the first step has filled it.)
/// `ADAMW_STATUS_INVALID_ARGUMENT` from whatever would touch missing memory: to save or load it,
/// `adamw_sync_master`, `adamw_reset_param`, and a look at it. The same if a parameter is to be
/// parked whose rows may lag, because it has had a sparse gradient under `ADAMW_LAZY_EXACT`.
///
/// # Safety
/// The arrays are readable for `num_buffers` entries. Tensors meet the conventions of the header.
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
                let mut moved = Move { param, role, to: None };
                if !from.is_null() {
                    // SAFETY: the caller guarantees it.
                    let tensor = unsafe { tensor::dlpack(from) };
                    moved.to = Some(tensor.map_err(|problem| problem.of(label, role))?);
                }
                moves.push(moved);
            }
            at.set(None);
            optimizer.rebind(&moves)
        })
    })
}

/// Copies a parameter into its f32 master. Call it after the host has written the parameter itself
/// (other weights, an average, a clamp), because otherwise the next step overwrites it from the
/// master. A remainder (ADAMW_PRECISION_SPLIT, ADAMW_PRECISION_KAHAN) becomes zero. A parameter
/// without either is left as it is.
///
/// The precision that the master or the remainder had beyond the parameter is lost. So do not call
/// it after `adamw_load` or `adamw_set_state`, which restore both.
///
/// Deferred rows (ADAMW_LAZY_EXACT) are brought up to date first: call `adamw_sparse_flush` before
/// you write a parameter that has such rows.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_sync_master(optimizer: *mut Optimizer, param: u32) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.sync_master(param)))
}

/// Returns the role of a buffer that is a tensor.
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

//! Parameters: adding, moving, asking.

use super::constants::*;
use super::lifecycle::flag;
use super::types::*;
use super::{
    Optimizer, Status, adamw_param_info, entry, guard, guard_at, handle, name, not_null, sized,
    tensor,
};
use crate::config::Penalty;
use crate::error::{Error, Label, Role};
use crate::math::Regularizer;
use crate::optimizer::{Item, NewParam, Shard};
use crate::sys::memory::reserve;
use core::ffi::{c_char, c_void};

/// Adds a parameter and writes its number, which names it from then on, to `*out_param`: the lowest that no
/// parameter has, so 0, 1, 2 ... until one is removed, whose number is given again. Sums over parameters, as a
/// global norm, go up the numbers; a run that goes on with the bits of one that had removed some adds its
/// parameters in the order of the numbers that they had. The
/// memory stays the host's: it must be valid until `adamw_destroy`, or until `adamw_rebind` has
/// named another place, and must not overlap any buffer of the handle.
///
/// # Safety
/// All pointers are NULL, or readable (`out_param`: writable) for what they say; tensors as the
/// header's conventions ask.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_add_param(
    optimizer: *mut Optimizer,
    param: *const adamw_param_config,
    out_param: *mut u32,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller's word.
            let config = unsafe { sized::read(param, adamw_param_config::DEFAULT) }?;
            for (name, value) in
                [("param.reserved", config.reserved), ("param.reserved_2", config.reserved_2)]
            {
                if value != 0 {
                    return Err(Error::Constant { name, value, expected: "0" });
                }
            }
            // SAFETY: the caller's word.
            let name = unsafe { name(config.name, "param.name") }?;
            let label = Label::new(name.to_bytes());
            let required = |from, role| {
                // SAFETY: the caller's word.
                unsafe { tensor::dlpack(from) }.map_err(|problem| problem.of(label, role))
            };
            let given = [
                config.master,
                config.remainder,
                config.exp_avg,
                config.exp_avg_sq,
                config.max_exp_avg_sq,
                config.exp_avg_scale,
                config.exp_avg_sq_scale,
                config.max_exp_avg_sq_scale,
            ];
            let mut state = [None; Role::STATE.len()];
            for ((slot, role), from) in state.iter_mut().zip(Role::STATE).zip(given) {
                if !from.is_null() {
                    *slot = Some(required(from, role)?);
                }
            }
            let new = NewParam {
                name,
                group: config.group,
                param: required(config.param, Role::Param)?,
                state,
                shard: Shard { first_element: config.first_element, whole: config.whole_elements },
                step: config.step,
                no_clip: flag("param.no_clip", config.no_clip)?,
                regularizer: regularizer(
                    "param.regularizer",
                    config.regularizer,
                    config.regularizer_coeff,
                )?,
                offload: flag("param.offload", config.offload)?,
            };
            // SAFETY: the caller's word.
            unsafe { add(optimizer, new, out_param) }
        })
    })
}

/// The short form of `adamw_add_param`: a plain array `data [n_elements]` in the host's memory, in
/// group 0, with state of the library's own.
///
/// # Safety
/// As `adamw_add_param`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_add_array(
    optimizer: *mut Optimizer,
    name: *const c_char,
    data: *mut c_void,
    n_elements: u64,
    dtype: adamw_dtype,
    out_param: *mut u32,
) -> Status {
    // SAFETY: the caller's word.
    unsafe { adamw_add_array_to_group(optimizer, 0, name, data, n_elements, dtype, out_param) }
}

/// `adamw_add_array` into a group, from `adamw_add_group`.
///
/// # Safety
/// As `adamw_add_param`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_add_array_to_group(
    optimizer: *mut Optimizer,
    group: u32,
    name: *const c_char,
    data: *mut c_void,
    n_elements: u64,
    dtype: adamw_dtype,
    out_param: *mut u32,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller's word.
            let name = unsafe { self::name(name, "name") }?;
            // SAFETY: the caller's word.
            let param = unsafe { tensor::array(data, n_elements, dtype) };
            let param =
                param.map_err(|problem| problem.of(Label::new(name.to_bytes()), Role::Param))?;
            let new = NewParam {
                name,
                group,
                param,
                state: [None; Role::STATE.len()],
                shard: Shard::default(),
                step: 0,
                no_clip: false,
                regularizer: Regularizer::None,
                offload: false,
            };
            // SAFETY: the caller's word.
            unsafe { add(optimizer, new, out_param) }
        })
    })
}

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

/// Describes a parameter. `struct_size` is the caller's `sizeof(adamw_param_info)`; the name
/// belongs to the library and lives as long as the parameter.
///
/// # Safety
/// `out_info` is NULL, or writable for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_param_info(
    optimizer: *const Optimizer,
    param: u32,
    out_info: *mut adamw_param_info,
    struct_size: usize,
) -> Status {
    guard(|| {
        let info = handle::with(optimizer, |optimizer| optimizer.described(param))?;
        // SAFETY: the caller's word.
        unsafe { sized::write(out_info, struct_size, info) }
    })
}

/// # Safety
/// `out_param` is NULL or writable.
unsafe fn add(optimizer: &mut Optimizer, new: NewParam, out_param: *mut u32) -> Result<(), Error> {
    if out_param.is_null() {
        return Err(Error::Null("out_param"));
    }
    let number = optimizer.add_param(new)?;
    // SAFETY: not NULL, and the caller's word.
    unsafe { out_param.write_unaligned(number) };
    Ok(())
}

pub(super) fn regularizer(
    name: &'static str,
    value: adamw_regularizer,
    coeff: f64,
) -> Result<Regularizer<f64>, Error> {
    Ok(match Penalty::of(name, value)? {
        Penalty::None => Regularizer::None,
        Penalty::L1 => Regularizer::L1(coeff),
        Penalty::L2 => Regularizer::L2(coeff),
    })
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

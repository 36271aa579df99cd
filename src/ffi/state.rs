//! State in memory: enumerating it, viewing it, and reading and writing it by name.
//!
//! The parts of a parameter's state are its buffers from `ADAMW_BUFFER_MASTER` on.
#![allow(non_camel_case_types)]

use super::sized::{self, sized_struct};
use super::{
    Optimizer, Status, adamw_buffer, adamw_dtype, entry, guard, handle, not_null, number_at, put,
    tensor,
};
use crate::dtype::Dtype;
use crate::error::{Error, Label, TensorProblem};
use crate::optimizer::{Item, Scheme};
use crate::tensor::Tensor;
use core::ffi::{CStr, c_char, c_void};
use core::fmt::{self, Write};
use core::ptr::{copy_nonoverlapping, with_exposed_provenance_mut};

/// The scheme of the names of state.
pub type adamw_names = u32;
/// `state.<param>.exp_avg`, `.exp_avg_sq`, `.max_exp_avg_sq`, `.master`, `.remainder`,
/// `.exp_avg_scale`, `.exp_avg_sq_scale`, `.max_exp_avg_sq_scale`, `.step`, `.beta1_power`,
/// `.beta2_power`.
pub const ADAMW_NAMES_NEUTRAL: adamw_names = 0;
/// Paddle's names: `<param>_moment1_0`, `_moment2_0`, `_moment2_max_0`, `_fp32_master_0`,
/// `_beta1_pow_acc_0`, `_beta2_pow_acc_0`. For a parameter that has a master,
/// `<param>_fp32_master_0` takes the place of `<param>` in the names of its other state. The powers
/// are one step ahead, as in Paddle.
pub const ADAMW_NAMES_PADDLE: adamw_names = 1;

/// The location of a part of a parameter's state.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_state_info {
    /// `sizeof(adamw_state_info)`.
    pub struct_size: usize,
    /// The address of the first element, which the host may read and write between calls. It is an
    /// address on the device if the parameter is stepped there. It stays the same until the
    /// parameter is removed or the buffer is moved. NULL for a counter.
    pub data: *mut c_void,
    /// The number of elements; 1 for a counter.
    pub n_elements: u64,
    /// The number of the parameter.
    pub param: u32,
    /// The part of the state.
    pub buffer: adamw_buffer,
    /// The element type.
    pub dtype: adamw_dtype,
    /// 1: the memory belongs to the host. 0: it belongs to the library.
    pub is_hosts: u32,
}

sized_struct!(adamw_state_info, "out_info", 3 of 8, 4 of 4);

/// Writes the location of a part of a parameter's state to `out_info`, without a copy. The state is
/// up to date when this returns. `struct_size` is the caller's `sizeof(adamw_state_info)`.
/// `ADAMW_STATUS_NOT_FOUND` if the parameter has no such part.
///
/// A host that writes the master must write the parameter too, because otherwise the next step
/// does.
///
/// # Safety
/// `out_info` is NULL, or writable for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_state_info(
    optimizer: *mut Optimizer,
    param: u32,
    buffer: adamw_buffer,
    out_info: *mut adamw_state_info,
    struct_size: usize,
) -> Status {
    guard(|| {
        let view = handle::with(optimizer, |optimizer| {
            optimizer.view(param, Item::of("buffer", buffer)?)
        })?;
        let start = view.tensor.map_or(0, |tensor| tensor.addresses().start);
        let info = adamw_state_info {
            struct_size,
            data: with_exposed_provenance_mut(start),
            n_elements: view.tensor.map_or(1, |tensor| tensor.n_elements()),
            param,
            buffer,
            dtype: view.tensor.map_or(Dtype::F64, |tensor| tensor.dtype()) as u32,
            is_hosts: view.is_host_owned.into(),
        };
        // SAFETY: the caller guarantees it.
        unsafe { sized::write(out_info, struct_size, info) }
    })
}

/// Writes the name of a part of a parameter's state to `out_name` `[capacity]`, NUL-terminated, and
/// its length without the NUL to `out_length`. With a `capacity` of 0, `out_name` may be NULL, and
/// only the length is written. `ADAMW_STATUS_NOT_FOUND` if the scheme has no name for the part:
/// Paddle's has none for `ADAMW_BUFFER_STEP`, remainders and scales.
///
/// # Safety
/// `out_name` is NULL or writable for `capacity` bytes; `out_length` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_state_name(
    optimizer: *const Optimizer,
    param: u32,
    buffer: adamw_buffer,
    names: adamw_names,
    out_name: *mut c_char,
    capacity: usize,
    out_length: *mut usize,
) -> Status {
    guard(|| {
        let scheme = Scheme::of("names", names)?;
        if out_length.is_null() {
            return Err(Error::Null("out_length"));
        }
        not_null("out_name", out_name, capacity)?;
        let item = Item::of("buffer", buffer)?;
        let mut counted = Bytes { to: core::ptr::null_mut(), used: 0 };
        handle::with(optimizer, |optimizer| {
            optimizer.write_name(&mut counted, scheme, param, item)?;
            let wanted = counted.used + 1;
            if capacity > 0 {
                if capacity < wanted {
                    let name = "capacity";
                    return Err(Error::Count { name, count: capacity, wanted });
                }
                let mut written = Bytes { to: out_name.cast(), used: 0 };
                optimizer.write_name(&mut written, scheme, param, item)?;
                // SAFETY: there is room for all of the name and its NUL.
                unsafe { out_name.add(written.used).write(0) };
            }
            Ok(())
        })?;
        // SAFETY: not NULL, and the caller guarantees the rest.
        unsafe { out_length.write_unaligned(counted.used) };
        Ok(())
    })
}

/// Writes the parameter and the part of its state that have this name, in either scheme, to
/// `out_param` and `out_buffer`.
///
/// # Safety
/// `name` is NULL or NUL-terminated; the outputs are NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_find_state(
    optimizer: *const Optimizer,
    name: *const c_char,
    out_param: *mut u32,
    out_buffer: *mut adamw_buffer,
) -> Status {
    guard(|| {
        // SAFETY: the caller guarantees it.
        let name = unsafe { super::name(name, "name") }?;
        let found = handle::with(optimizer, |optimizer| optimizer.find_state(name))?;
        if out_buffer.is_null() {
            return Err(Error::Null("out_buffer"));
        }
        // SAFETY: the caller guarantees it.
        unsafe {
            put("out_param", out_param, found.1)?;
            put("out_buffer", out_buffer, found.2.number())
        }
    })
}

/// Copies the part of the state that has this name, in either scheme, to `out_data [n_elements]`.
/// The number and the type of the elements must be those of the state; a counter is one f64.
///
/// # Safety
/// `name` is NULL or NUL-terminated; `out_data` is NULL or writable for `n_elements`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_state(
    optimizer: *mut Optimizer,
    name: *const c_char,
    out_data: *mut c_void,
    n_elements: u64,
    dtype: adamw_dtype,
) -> Status {
    guard(|| {
        // SAFETY: the caller guarantees it.
        let name = unsafe { super::name(name, "name") }?;
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller guarantees it.
            let to = unsafe { array(optimizer, name, out_data, n_elements, dtype) }?;
            optimizer.read_state(name, &to)
        })
    })
}

/// Copies `data [n_elements]` to the part of the state that has this name, in either scheme. The
/// number and the type of the elements must be those of the state; a counter is one f64. Setting
/// the step also sets the powers to those of the group's betas (their current values, where the
/// host keeps them), so set the powers after it.
/// Negative means of squares are refused. (They are not looked for in memory of the host's, nor in
/// checkpoints, which give back whatever was saved.)
///
/// # Safety
/// `name` is NULL or NUL-terminated; `data` is NULL or readable for `n_elements`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_state(
    optimizer: *mut Optimizer,
    name: *const c_char,
    data: *const c_void,
    n_elements: u64,
    dtype: adamw_dtype,
) -> Status {
    guard(|| {
        // SAFETY: the caller guarantees it.
        let name = unsafe { super::name(name, "name") }?;
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller guarantees it; the tensor is only read.
            let from = unsafe { array(optimizer, name, data.cast_mut(), n_elements, dtype) }?;
            optimizer.write_state(name, &from)
        })
    })
}

/// Copies the step counts of `num_params` parameters to `out_steps`, that of `params[i]`, or of
/// parameter i if `params` is NULL, to `out_steps[i]`.
///
/// # Safety
/// `params` is NULL or readable, `out_steps` NULL or writable, for `num_params` entries.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_steps(
    optimizer: *mut Optimizer,
    params: *const u32,
    out_steps: *mut u64,
    num_params: usize,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            not_null("out_steps", out_steps, num_params)?;
            // SAFETY: the caller guarantees it.
            let numbers = (0..num_params).map(|i| unsafe { number_at(params, i) });
            let mut to = out_steps;
            optimizer.steps(numbers, |step| {
                // SAFETY: one for each number, for which there is room.
                unsafe {
                    to.write_unaligned(step);
                    to = to.add(1);
                }
            })
        })
    })
}

/// Sets the step counts of `num_params` parameters: that of `params[i]`, or of parameter i if
/// `params` is NULL, to `steps[i]`, 0 to 2^32. It also sets their powers of beta1 and beta2 to
/// those of their groups' betas. On an error, none is set.
///
/// # Safety
/// The arrays are NULL, or readable for `num_params` entries.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_steps(
    optimizer: *mut Optimizer,
    params: *const u32,
    steps: *const u64,
    num_params: usize,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            not_null("steps", steps, num_params)?;
            // SAFETY: the caller guarantees it.
            let counts =
                (0..num_params).map(|i| unsafe { (number_at(params, i), entry(steps, i)) });
            optimizer.set_steps(counts)
        })
    })
}

/// Returns the plain array for the part of the state that has this name. The type is checked before
/// the alignment, because an error about the type says more.
///
/// # Safety
/// The requirements of `tensor::array` hold.
unsafe fn array(
    optimizer: &Optimizer,
    name: &CStr,
    data: *mut c_void,
    n_elements: u64,
    constant: adamw_dtype,
) -> Result<Tensor, Error> {
    let dtype = tensor::dtype(constant).map_err(|problem| of_state(name, problem))?;
    optimizer.check_state_type(name, dtype)?;
    // SAFETY: the caller guarantees it.
    let array = unsafe { tensor::array(data, n_elements, constant) };
    array.map_err(|problem| of_state(name, problem))
}

fn of_state(name: &CStr, problem: TensorProblem) -> Error {
    Error::State { name: Label::new(name.to_bytes()), problem }
}

/// Writes into the host's memory, or only counts the bytes if it is NULL.
struct Bytes {
    to: *mut u8,
    used: usize,
}

impl Write for Bytes {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !self.to.is_null() {
            // SAFETY: `adamw_get_state_name` has checked that there is room for the whole name.
            unsafe { copy_nonoverlapping(text.as_ptr(), self.to.add(self.used), text.len()) };
        }
        self.used += text.len();
        Ok(())
    }
}

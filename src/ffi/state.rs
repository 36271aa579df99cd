//! State in memory: enumerate it, see it, read it and write it by name.
//!
//! The parts of a parameter's state are its buffers from `ADAMW_BUFFER_MASTER` on.
#![allow(non_camel_case_types)]

use super::sized::{self, sized_struct};
use super::{Optimizer, Status, adamw_buffer, adamw_dtype, guard, handle, not_null, put, tensor};
use crate::dtype::Dtype;
use crate::error::{Error, Label, TensorProblem};
use crate::optimizer::{Item, Scheme};
use crate::tensor::Tensor;
use core::ffi::{CStr, c_char, c_void};
use core::fmt::{self, Write};
use core::ptr::{copy_nonoverlapping, with_exposed_provenance_mut};

/// Whose names state has.
pub type adamw_names = u32;
/// `state.<param>.exp_avg`, `.exp_avg_sq`, `.max_exp_avg_sq`, `.master`, `.step`, `.beta1_power`,
/// `.beta2_power`.
pub const ADAMW_NAMES_NEUTRAL: adamw_names = 0;
/// Paddle's: `<param>_moment1_0`, `_moment2_0`, `_moment2_max_0`, `_fp32_master_0`,
/// `_beta1_pow_acc_0`, `_beta2_pow_acc_0`, where the state of a parameter that has a master is
/// that of `<param>_fp32_master_0`. Its powers are one step ahead, as Paddle's are.
pub const ADAMW_NAMES_PADDLE: adamw_names = 1;

/// Where a part of a parameter's state is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_state_info {
    /// `sizeof(adamw_state_info)`.
    pub struct_size: usize,
    /// The first element, which the host may read and write between calls: an address on the
    /// device if the parameter is stepped there. It stays until the parameter is removed, or the buffer moved. NULL
    /// for a counter.
    pub data: *mut c_void,
    /// How many elements there are; 1 for a counter.
    pub n_elements: u64,
    /// The parameter's number.
    pub param: u32,
    /// Which part it is.
    pub buffer: adamw_buffer,
    /// What it is made of.
    pub dtype: adamw_dtype,
    /// 1: the memory is the host's, 0: the library's.
    pub is_hosts: u32,
}

sized_struct!(adamw_state_info, "out_info", 3 of 8, 4 of 4);

/// Says where a part of a parameter's state is: no copy is made. The state is up to date when this
/// returns. `ADAMW_STATUS_NOT_FOUND` if the parameter has no such part. `struct_size` is the caller's
/// `sizeof(adamw_state_info)`. A host that writes the master also writes the parameter, or the next
/// step does.
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
        // SAFETY: the caller's word.
        unsafe { sized::write(out_info, struct_size, info) }
    })
}

/// Writes the name of a part of a parameter's state to `out_name`, NUL-terminated, and its length
/// without the NUL to `out_length`. With a `capacity` of 0 `out_name` may be NULL, and only the length
/// is written. Paddle has no name for `ADAMW_BUFFER_STEP`: `ADAMW_STATUS_NOT_FOUND`.
///
/// # Safety
/// `out_name` is NULL or writable for `capacity` bytes, `out_length` NULL or writable.
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
        // SAFETY: not NULL, and the caller's word.
        unsafe { out_length.write_unaligned(counted.used) };
        Ok(())
    })
}

/// Writes to `out_param` and `out_buffer` which part of whose state has this name, by either scheme.
///
/// # Safety
/// `name` is NULL or NUL-terminated, the outputs NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_find_state(
    optimizer: *const Optimizer,
    name: *const c_char,
    out_param: *mut u32,
    out_buffer: *mut adamw_buffer,
) -> Status {
    guard(|| {
        // SAFETY: the caller's word.
        let name = unsafe { super::name(name, "name") }?;
        let found = handle::with(optimizer, |optimizer| optimizer.find_state(name))?;
        if out_buffer.is_null() {
            return Err(Error::Null("out_buffer"));
        }
        // SAFETY: the caller's word.
        unsafe {
            put("out_param", out_param, found.1)?;
            put("out_buffer", out_buffer, found.2.number())
        }
    })
}

/// Copies the part of the state that has this name, by either scheme, to `out_data
/// [n_elements]`. The number and the type of its elements must be right; a counter is one f64.
///
/// # Safety
/// `name` is NULL or NUL-terminated, `out_data` NULL or writable for `n_elements`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_get_state(
    optimizer: *mut Optimizer,
    name: *const c_char,
    out_data: *mut c_void,
    n_elements: u64,
    dtype: adamw_dtype,
) -> Status {
    guard(|| {
        // SAFETY: the caller's word.
        let name = unsafe { super::name(name, "name") }?;
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller's word.
            let to = unsafe { array(optimizer, name, out_data, n_elements, dtype) }?;
            optimizer.read_state(name, &to)
        })
    })
}

/// Copies `data [n_elements]` into the part of the state that has this name, by either scheme. The
/// number and the type of its elements must be right. A counter is one f64; setting the step also
/// sets the powers to what the group's betas make them (as the host has them now, where it keeps them), so set
/// powers after it.
///
/// # Safety
/// `name` is NULL or NUL-terminated, `data` NULL or readable for `n_elements`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_state(
    optimizer: *mut Optimizer,
    name: *const c_char,
    data: *const c_void,
    n_elements: u64,
    dtype: adamw_dtype,
) -> Status {
    guard(|| {
        // SAFETY: the caller's word.
        let name = unsafe { super::name(name, "name") }?;
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller's word; what is made of it is only read.
            let from = unsafe { array(optimizer, name, data.cast_mut(), n_elements, dtype) }?;
            optimizer.write_state(name, &from)
        })
    })
}

/// A plain array for the part of the state that has this name. Of another type than that it need not be
/// aligned to its elements, which says less than the type.
///
/// # Safety
/// As `tensor::array`.
unsafe fn array(
    optimizer: &Optimizer,
    name: &CStr,
    data: *mut c_void,
    n_elements: u64,
    constant: adamw_dtype,
) -> Result<Tensor, Error> {
    let dtype = tensor::dtype(constant).map_err(|problem| of_state(name, problem))?;
    optimizer.check_state_type(name, dtype)?;
    // SAFETY: the caller's word.
    let array = unsafe { tensor::array(data, n_elements, constant) };
    array.map_err(|problem| of_state(name, problem))
}

fn of_state(name: &CStr, problem: TensorProblem) -> Error {
    Error::State { name: Label::new(name.to_bytes()), problem }
}

/// Writes into memory of the host's, or only counts, where that is NULL.
struct Bytes {
    to: *mut u8,
    used: usize,
}

impl Write for Bytes {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !self.to.is_null() {
            // SAFETY: whoever made it saw that there is room for the whole text.
            unsafe { copy_nonoverlapping(text.as_ptr(), self.to.add(self.used), text.len()) };
        }
        self.used += text.len();
        Ok(())
    }
}

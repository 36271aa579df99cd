//! Adding parameters.
#![allow(non_camel_case_types)]

use super::sized::{self, sized_struct};
use super::{Optimizer, Status, adamw_dtype, adamw_tensor, flag, guard, handle, reserved, tensor};
use crate::config::Penalty;
use crate::error::{Error, Label};
use crate::math::Regularizer;
use crate::optimizer::{NewParam, Shard};
use crate::role::Role;
use core::ffi::{CStr, c_char, c_void};

/// A penalty whose gradient is added to the gradient of a parameter, after clipping. Unlike
/// decoupled weight decay, it passes through the moments.
pub type adamw_regularizer = u32;
/// No penalty.
pub const ADAMW_REGULARIZER_NONE: adamw_regularizer = 0;
/// Adds regularizer_coeff * sign(param).
pub const ADAMW_REGULARIZER_L1: adamw_regularizer = 1;
/// Adds regularizer_coeff * param.
pub const ADAMW_REGULARIZER_L2: adamw_regularizer = 2;

/// The configuration of a new parameter. Zero it, then set `struct_size`, `name` and `param`; the
/// other fields may stay 0.
///
/// State that is NULL here is allocated by the library and starts as zeros; a master starts as a
/// copy of the parameter at its first step. State that is given belongs to the host, is borrowed
/// like the parameter, and is used as it is: the host must have zeroed the moments, or must have
/// filled them from earlier steps. `adamw_sync_master` fills a master.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_param_config {
    /// `sizeof(adamw_param_config)`.
    pub struct_size: usize,
    /// UTF-8, NUL-terminated, not empty, unique in the handle. The library copies it. NULL: the
    /// name is the number of the parameter, in decimal digits. Checkpoints go by names.
    pub name: *const c_char,
    /// The parameter `[...] f32|f64|f16|bf16`, which is stepped in place.
    pub param: *const adamw_tensor,
    /// `[NULL]` As many elements as the parameter, f32; only for f16 and bf16 with multi_precision.
    /// If `step` is 0, the first step checks that the master rounds to the parameter, and fails
    /// otherwise.
    pub master: *const adamw_tensor,
    /// `[NULL]` As many elements as the parameter, in f32 (f64 for an f64 parameter) or in the type
    /// of the group's `moments`. With ADAMW_MOMENTS_4BIT, as many bytes as that constant says.
    pub exp_avg: *const adamw_tensor,
    /// `[NULL]` Like exp_avg; never negative, which the host ensures: a step makes NaN of a
    /// negative one.
    pub exp_avg_sq: *const adamw_tensor,
    /// `[NULL]` Like exp_avg_sq; only with amsgrad.
    pub max_exp_avg_sq: *const adamw_tensor,
    /// `[0]` The number of steps that the given state has taken, at most 2^32 (2^25 if a beta is
    /// above 0.99997). If it is not 0, all the state that the parameter needs must be given.
    pub step: u64,
    /// `[0]` The number of its group, from `adamw_add_group`.
    pub group: u32,
    /// `[0]` 1: the gradient is not clipped and does not count in a global norm.
    pub no_clip: u32,
    /// `[0]` The coefficient of the regularizer; finite.
    pub regularizer_coeff: f64,
    /// `[ADAMW_REGULARIZER_NONE]` The penalty whose gradient is added to that of the parameter.
    pub regularizer: adamw_regularizer,
    /// 0.
    pub reserved: u32,
    /// `[NULL]` As many elements as the parameter: int16 with ADAMW_PRECISION_SPLIT, the
    /// parameter's type with ADAMW_PRECISION_KAHAN. The host must have zeroed it, or filled it from
    /// earlier steps.
    pub remainder: *const adamw_tensor,
    /// `[NULL]` One f32 for each block of 256 elements of 8-bit moments, or of 128 elements of
    /// 4-bit moments; the last block may be shorter. Only for those. The host must have zeroed it,
    /// or filled it from earlier steps.
    pub exp_avg_scale: *const adamw_tensor,
    /// `[NULL]` Like exp_avg_scale.
    pub exp_avg_sq_scale: *const adamw_tensor,
    /// `[NULL]` Like exp_avg_scale; only with amsgrad.
    pub max_exp_avg_sq_scale: *const adamw_tensor,
    /// `[0]` For a host that has cut a parameter into shards of one name: the index in the whole of
    /// this shard's first element, which gives the shard the random bits of the whole. Where
    /// moments are codes, the whole is cut at multiples of 256 elements, or of 128 for 4 bits, so
    /// that they have the bits of the whole; anything else is an error.
    pub first_element: u64,
    /// `[0]` The number of elements of the whole, which is recorded in checkpoints; 0: not
    /// recorded. It decides whether moments are codes, and so which state must be given: give the
    /// same number for all shards. With 0, the length of each shard decides.
    pub whole_elements: u64,
    /// `[0]` 1: the parameter is on a CUDA device, and the processor steps it. Its state is in the
    /// host's memory, and so are the state tensors given here. A step copies the gradient (on the
    /// device or in the host's memory) in and the parameter back, while it steps other parameters.
    /// The processor works on a copy of the parameter, which is filled at the first step: call
    /// `adamw_sync_master` after the host has written the parameter. Such a step waits for the
    /// device and cannot be captured. Offloading allocates memory for the copy and for the
    /// gradient, page-locked as far as `config.pinned_bytes` lets it.
    pub offload: u32,
    /// 0.
    pub reserved_2: u32,
}

sized_struct!(adamw_param_config, "param", 8 of 8, 2 of 4, 1 of 8, 2 of 4, 6 of 8, 2 of 4);

impl adamw_param_config {
    /// The values of the fields that a shorter struct lacks.
    pub const DEFAULT: adamw_param_config = adamw_param_config {
        struct_size: size_of::<Self>(),
        name: core::ptr::null(),
        param: core::ptr::null(),
        master: core::ptr::null(),
        exp_avg: core::ptr::null(),
        exp_avg_sq: core::ptr::null(),
        max_exp_avg_sq: core::ptr::null(),
        step: 0,
        group: 0,
        no_clip: 0,
        regularizer_coeff: 0.0,
        regularizer: ADAMW_REGULARIZER_NONE,
        reserved: 0,
        remainder: core::ptr::null(),
        exp_avg_scale: core::ptr::null(),
        exp_avg_sq_scale: core::ptr::null(),
        max_exp_avg_sq_scale: core::ptr::null(),
        first_element: 0,
        whole_elements: 0,
        offload: 0,
        reserved_2: 0,
    };
}

/// Adds a parameter and writes its number to `*out_param`, by which other calls refer to it. The
/// memory still belongs to the host: it must be valid until `adamw_remove_param` or
/// `adamw_destroy`, or until `adamw_rebind` names another place or none, and must not overlap any
/// buffer of the handle.
///
/// The number is the lowest that no parameter has: 0, 1, 2, ... until a parameter is removed, whose
/// number is then used again. Sums over parameters, such as a global norm, are in the order of the
/// numbers. To continue a run with the same bits after it had removed parameters, add the
/// parameters in the order of the numbers that they had.
///
/// # Safety
/// All pointers are NULL, or readable (`out_param`: writable) for what they describe. Tensors meet
/// the conventions of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_add_param(
    optimizer: *mut Optimizer,
    param: *const adamw_param_config,
    out_param: *mut u32,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller guarantees it.
            let config = unsafe { sized::read(param, adamw_param_config::DEFAULT) }?;
            reserved("param.reserved", config.reserved)?;
            reserved("param.reserved_2", config.reserved_2)?;
            let mut digits = [0; MOST_DIGITS];
            // SAFETY: the caller guarantees it.
            let name = unsafe { name_or_number(optimizer, config.name, &mut digits) }?;
            let required = |from, role| {
                // SAFETY: the caller guarantees it.
                let tensor = unsafe { tensor::dlpack(from) };
                tensor.map_err(|problem| problem.of(Label::new(name.to_bytes()), role))
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
            let tensor = required(config.param, Role::Param)?;
            // SAFETY: it has been read.
            let row_elements = unsafe { tensor::row_elements(config.param, tensor.n_elements()) };
            let new = NewParam {
                name,
                group: config.group,
                param: tensor,
                row_elements,
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
            // SAFETY: the caller guarantees it.
            unsafe { add(optimizer, new, out_param) }
        })
    })
}

/// Adds a plain array `data [n_elements]` in the host's memory as a parameter of group 0, with
/// state allocated by the library. It is the short form of `adamw_add_param`.
///
/// # Safety
/// The requirements of `adamw_add_param` hold.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_add_array(
    optimizer: *mut Optimizer,
    name: *const c_char,
    data: *mut c_void,
    n_elements: u64,
    dtype: adamw_dtype,
    out_param: *mut u32,
) -> Status {
    // SAFETY: the caller guarantees it.
    unsafe { adamw_add_array_to_group(optimizer, 0, name, data, n_elements, dtype, out_param) }
}

/// Does what `adamw_add_array` does, for a group from `adamw_add_group`.
///
/// # Safety
/// The requirements of `adamw_add_param` hold.
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
            let mut digits = [0; MOST_DIGITS];
            // SAFETY: the caller guarantees it.
            let name = unsafe { name_or_number(optimizer, name, &mut digits) }?;
            // SAFETY: the caller guarantees it.
            let param = unsafe { tensor::array(data, n_elements, dtype) };
            let param =
                param.map_err(|problem| problem.of(Label::new(name.to_bytes()), Role::Param))?;
            let new = NewParam {
                name,
                group,
                param,
                row_elements: 0,
                state: [None; Role::STATE.len()],
                shard: Shard::default(),
                step: 0,
                no_clip: false,
                regularizer: Regularizer::None,
                offload: false,
            };
            // SAFETY: the caller guarantees it.
            unsafe { add(optimizer, new, out_param) }
        })
    })
}

/// The digits of the largest number of a parameter, and a NUL.
const MOST_DIGITS: usize = 11;

/// Returns the name that C code gave for a new parameter; if it gave none, the digits of the number
/// that the parameter gets.
///
/// # Safety
/// `name` is NULL, or a NUL-terminated string that lives as long as the result.
unsafe fn name_or_number<'a>(
    optimizer: &Optimizer,
    name: *const c_char,
    digits: &'a mut [u8; MOST_DIGITS],
) -> Result<&'a CStr, Error> {
    if !name.is_null() {
        // SAFETY: the caller guarantees it.
        return Ok(unsafe { CStr::from_ptr(name) });
    }
    let mut left = optimizer.next_number()?;
    let mut first = MOST_DIGITS - 1;
    loop {
        first -= 1;
        digits[first] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    CStr::from_bytes_with_nul(&digits[first..]).map_err(|_| Error::NameEmpty)
}

/// Adds a parameter and writes its number.
///
/// # Safety
/// `out_param` is NULL or writable.
unsafe fn add(optimizer: &mut Optimizer, new: NewParam, out_param: *mut u32) -> Result<(), Error> {
    if out_param.is_null() {
        return Err(Error::Null("out_param"));
    }
    let number = optimizer.add_param(new)?;
    // SAFETY: not NULL, and the caller guarantees the rest.
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

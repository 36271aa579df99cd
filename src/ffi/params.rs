//! Parameters: adding them.
#![allow(non_camel_case_types)]

use super::sized::{self, sized_struct};
use super::{
    Optimizer, Status, adamw_dtype, adamw_tensor, flag, guard, handle, name, reserved, tensor,
};
use crate::config::Penalty;
use crate::error::{Error, Label, Role};
use crate::math::Regularizer;
use crate::optimizer::{NewParam, Shard};
use core::ffi::{c_char, c_void};

/// A penalty whose gradient is added to a parameter's, after clipping. It passes through the
/// moments, which decoupled weight decay does not.
pub type adamw_regularizer = u32;
/// None.
pub const ADAMW_REGULARIZER_NONE: adamw_regularizer = 0;
/// Adds regularizer_coeff * sign(param).
pub const ADAMW_REGULARIZER_L1: adamw_regularizer = 1;
/// Adds regularizer_coeff * param.
pub const ADAMW_REGULARIZER_L2: adamw_regularizer = 2;

/// A parameter to be added. Zero it, set `struct_size`, `name` and `param`; the rest may stay 0.
///
/// State that is NULL here is the library's own, and starts as zeros (a master: as the parameter
/// is at its first step). State that is given is the host's, borrowed like the parameter, and
/// taken as it is: the host has zeroed the moments, or brings them from earlier steps;
/// `adamw_sync_master` fills a master.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_param_config {
    /// `sizeof(adamw_param_config)`.
    pub struct_size: usize,
    /// UTF-8, NUL-terminated, not empty, unique in the handle; copied.
    pub name: *const c_char,
    /// The parameter `[...] f32|f64|f16|bf16`, stepped in place.
    pub param: *const adamw_tensor,
    /// `[NULL]` The same number of elements, f32; only for f16 and bf16 with multi_precision. If
    /// `step` is 0, the first step looks whether it rounds to the parameter, and fails if not.
    pub master: *const adamw_tensor,
    /// `[NULL]` The same number of elements, f32 (f64 for an f64 parameter) or what the group's
    /// `moments` say; with ADAMW_MOMENTS_4BIT as many bytes as they say.
    pub exp_avg: *const adamw_tensor,
    /// `[NULL]` As exp_avg; never negative.
    pub exp_avg_sq: *const adamw_tensor,
    /// `[NULL]` As exp_avg_sq; only with amsgrad.
    pub max_exp_avg_sq: *const adamw_tensor,
    /// `[0]` Steps that the given state has taken, at most 2^32 (2^25 with a beta above 0.99997). If it is not
    /// 0, all the state that the parameter needs must be given.
    pub step: u64,
    /// `[0]` The group's number, from `adamw_add_group`.
    pub group: u32,
    /// `[0]` 1: its gradient is not clipped, and is no part of a global norm.
    pub no_clip: u32,
    /// `[0]` The coefficient of the regularizer; finite.
    pub regularizer_coeff: f64,
    /// `[ADAMW_REGULARIZER_NONE]` A penalty whose gradient is added to the parameter's.
    pub regularizer: adamw_regularizer,
    /// 0.
    pub reserved: u32,
    /// `[NULL]` The same number of elements, int16 with ADAMW_PRECISION_SPLIT, of the parameter's type
    /// with ADAMW_PRECISION_KAHAN. The host has zeroed it, or brings it from earlier steps.
    pub remainder: *const adamw_tensor,
    /// `[NULL]` One f32 for each 256 elements of 8-bit moments, for each 128 of 4-bit moments, the last
    /// of which may be fewer; only for those. The host has zeroed it, or brings it from earlier steps.
    pub exp_avg_scale: *const adamw_tensor,
    /// `[NULL]` As exp_avg_scale.
    pub exp_avg_sq_scale: *const adamw_tensor,
    /// `[NULL]` As exp_avg_scale; only with amsgrad.
    pub max_exp_avg_sq_scale: *const adamw_tensor,
    /// `[0]` Where the host has cut a parameter into shards of one name: which element of the whole is
    /// this one's first, so that random bits are those of the whole. Moments in codes have the bits of
    /// the whole if it is a multiple of 256, or of 128 in 4 bits.
    pub first_element: u64,
    /// `[0]` How many elements the whole has, which a checkpoint then says; 0: it does not. It decides
    /// whether moments are codes, and so what must be given: give the same in all shards. With 0 each shard's
    /// own length decides.
    pub whole_elements: u64,
    /// `[0]` 1: the parameter is on a CUDA device, and the processor steps it. Its state is in the host's memory,
    /// and so are the tensors that are given for it; a step brings its gradient (on the device, or the host's)
    /// and takes the parameter back, while it steps others. The processor works on a copy, which is filled at the
    /// first step: `adamw_sync_master` says that the host has written the parameter since. Such a step waits for
    /// the device, and cannot be captured. It takes page-locked memory for the copy and for the gradient.
    pub offload: u32,
    /// 0.
    pub reserved_2: u32,
}

sized_struct!(adamw_param_config, "param", 8 of 8, 2 of 4, 1 of 8, 2 of 4, 6 of 8, 2 of 4);

impl adamw_param_config {
    /// What a shorter struct lacks.
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
            reserved("param.reserved", config.reserved)?;
            reserved("param.reserved_2", config.reserved_2)?;
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
            let name = unsafe { super::name(name, "name") }?;
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

//! The memory that the state of a parameter takes.
#![allow(non_camel_case_types)]

use super::sized::{self, sized_struct};
use super::{Optimizer, Status, adamw_dtype, guard, handle, tensor};
use crate::error::{Label, Role};
use crate::optimizer::Shard;

/// What the state of one parameter takes, in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_memory {
    /// `sizeof(adamw_memory)`.
    pub struct_size: usize,
    /// 4 an element of f16 and bf16 with multi_precision.
    pub master: u64,
    /// 2 an element of bf16 with ADAMW_PRECISION_SPLIT, of f16 and bf16 with ADAMW_PRECISION_KAHAN.
    pub remainder: u64,
    /// 4 an element, 8 of f64; 2 with ADAMW_MOMENTS_BF16; 1, and 4 for each 256 elements, with
    /// ADAMW_MOMENTS_8BIT; 68 for each 128 elements with ADAMW_MOMENTS_4BIT.
    pub exp_avg: u64,
    /// As exp_avg.
    pub exp_avg_sq: u64,
    /// As exp_avg, with amsgrad.
    pub max_exp_avg_sq: u64,
    /// All of them together.
    pub total: u64,
}

sized_struct!(adamw_memory, "out_memory", 7 of 8);

/// Says how much memory the state of a parameter of this type and length takes if it is added to
/// this group now, the library's or the host's. `whole_elements` is how many elements the whole has
/// where the parameter is a shard, as in `adamw_param_config`; otherwise 0. `struct_size` is the caller's
/// `sizeof(adamw_memory)`.
///
/// # Safety
/// `out_memory` is NULL, or writable for `struct_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_memory_plan(
    optimizer: *const Optimizer,
    group: u32,
    dtype: adamw_dtype,
    n_elements: u64,
    whole_elements: u64,
    out_memory: *mut adamw_memory,
    struct_size: usize,
) -> Status {
    guard(|| {
        let dtype = tensor::dtype(dtype);
        let dtype = dtype.map_err(|problem| problem.of(Label::new(b"planned"), Role::Param))?;
        let shard = Shard { first_element: 0, whole: whole_elements };
        let plan = handle::with(optimizer, |optimizer| {
            optimizer.memory_plan(group, dtype, n_elements, shard)
        })?;
        let bytes = |roles: &[Role]| {
            let all = plan.iter().filter(|(role, _)| roles.contains(role));
            all.fold(0u64, |sum, (_, bytes)| sum.saturating_add(*bytes))
        };
        let memory = adamw_memory {
            struct_size,
            master: bytes(&[Role::Master]),
            remainder: bytes(&[Role::Remainder]),
            exp_avg: bytes(&[Role::ExpAvg, Role::ExpAvgScale]),
            exp_avg_sq: bytes(&[Role::ExpAvgSq, Role::ExpAvgSqScale]),
            max_exp_avg_sq: bytes(&[Role::MaxExpAvgSq, Role::MaxExpAvgSqScale]),
            total: bytes(&Role::STATE),
        };
        // SAFETY: the caller's word.
        unsafe { sized::write(out_memory, struct_size, memory) }
    })
}

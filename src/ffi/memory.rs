//! The memory that the state of a parameter takes.
#![allow(non_camel_case_types)]

use super::sized::{self, sized_struct};
use super::{Optimizer, Status, adamw_dtype, guard, handle, tensor};
use crate::error::Label;
use crate::optimizer::Shard;
use crate::role::Role;

/// The memory that the state of one parameter takes, in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_memory {
    /// `sizeof(adamw_memory)`.
    pub struct_size: usize,
    /// 4 per element of f16 and bf16 with multi_precision.
    pub master: u64,
    /// 2 per element of bf16 with ADAMW_PRECISION_SPLIT, and of f16 and bf16 with
    /// ADAMW_PRECISION_KAHAN.
    pub remainder: u64,
    /// 4 per element, or 8 for f64; 2 with ADAMW_MOMENTS_BF16; 1, plus 4 per 256 elements, with
    /// ADAMW_MOMENTS_8BIT; 68 per 128 elements with ADAMW_MOMENTS_4BIT.
    pub exp_avg: u64,
    /// As much as exp_avg.
    pub exp_avg_sq: u64,
    /// As much as exp_avg, with amsgrad.
    pub max_exp_avg_sq: u64,
    /// The sum of all of them.
    pub total: u64,
}

sized_struct!(adamw_memory, "out_memory", 7 of 8);

/// Writes to `out_memory` how much memory the state of a parameter of this type and length would
/// take if it were added to this group now, whether the library or the host allocates it.
/// `whole_elements` is the number of elements of the whole if the parameter is a shard, as in
/// `adamw_param_config`, and 0 otherwise. `struct_size` is the caller's `sizeof(adamw_memory)`.
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
        // SAFETY: the caller guarantees it.
        unsafe { sized::write(out_memory, struct_size, memory) }
    })
}

//! Gradients that have values for some rows only.
#![allow(non_camel_case_types)]

use super::grads::of_param;
use super::{Optimizer, Status, adamw_tensor, guard, handle, tensor};
use crate::error::{Error, Role};
use crate::tensor::{RowList, SparseGrad};

/// Sets a sparse gradient of a parameter `[height, ...]`, an embedding table: `rows [n]`, int32 or
/// int64 (DLPack type code 0), in any order, and `values [n, ...]`, one row of the parameter for
/// each, in the parameter's type or f32. The values of a row that is listed more than once are
/// added up, in the compute type and in the order in which they are listed. What happens to rows
/// that are not listed is the group's `lazy_mode`.
///
/// Both stay the host's and are read by every step until they are replaced or forgotten, as those
/// of `adamw_set_grad`. The numbers of the rows are looked at by the step: one that is negative or
/// not below height fails it with `ADAMW_STATUS_INVALID_ARGUMENT`, nothing changed. With n = 0 the
/// parameter is skipped, as one without a gradient.
///
/// Of a parameter on a device both lie there, and what a step needs is allocated here: a dense
/// gradient in f32, or f64 for f64, the first time, room for 17 bytes a row whenever more rows are
/// listed than before, and under `ADAMW_LAZY_EXACT` 160 KiB and 8 bytes a row of the parameter. The step sorts and adds up on the device and waits for nothing, so that
/// a graph that has captured it reads the list anew each time; a graph that was captured before a longer list is set goes on with
/// its own.
/// A step that waits for the device anyway (see the header's first comment) fails as above; any
/// other one steps the rest, leaves such a row and its values out, and the next
/// `adamw_get_step_info` or step that waits fails once with `ADAMW_STATUS_INVALID_ARGUMENT` and the
/// first such parameter, place and row in its text.
///
/// `ADAMW_STATUS_UNSUPPORTED` for a parameter on a device: a parameter or a list of 2^32 rows, and
/// inside a capture a list for which there is no room yet.
///
/// # Safety
/// The tensors are NULL or readable; their memory as the header's conventions ask.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_sparse_grad(
    optimizer: *mut Optimizer,
    param: u32,
    rows: *const adamw_tensor,
    values: *const adamw_tensor,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller's word.
            let rows = unsafe { rows_of(optimizer, param, rows) }?;
            // SAFETY: the caller's word.
            let values = unsafe { tensor::dlpack(values) };
            let values = of_param(optimizer, param, values)?;
            optimizer.set_sparse_grad(param, SparseGrad { rows, values })
        })
    })
}

/// Brings the listed rows of a parameter up to date, for the host to read: under
/// `ADAMW_LAZY_EXACT` a row that no gradient has listed for k steps takes those k steps now. It
/// does nothing to a parameter that has had no sparse gradient under that mode. `rows` is as in
/// `adamw_set_sparse_grad`, and is read during the call only.
///
/// Of a parameter on a device the rows lie there and are brought up to date there, in the order of
/// its stream: they are read when it is their turn, those that are outside are passed over, and a
/// graph that has captured the call does so whenever it is launched.
///
/// # Safety
/// As `adamw_set_sparse_grad`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_sparse_prepare(
    optimizer: *mut Optimizer,
    param: u32,
    rows: *const adamw_tensor,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller's word.
            let rows = unsafe { rows_of(optimizer, param, rows) }?;
            optimizer.prepare_rows(param, &rows)
        })
    })
}

/// Brings every row of every parameter up to date: before parameters or state are evaluated, copied or
/// written. Saving does so itself.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_sparse_flush(optimizer: *mut Optimizer) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.flush_rows()))
}

/// The rows that are listed for a parameter.
///
/// # Safety
/// As `tensor::rows`.
unsafe fn rows_of(
    optimizer: &Optimizer,
    param: u32,
    rows: *const adamw_tensor,
) -> Result<RowList, Error> {
    let label = optimizer.label(param)?;
    // SAFETY: the caller's word.
    unsafe { tensor::rows(rows) }.map_err(|problem| problem.of(label, Role::Rows))
}

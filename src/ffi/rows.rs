//! Sparse gradients, which have values for some rows only.
#![allow(non_camel_case_types)]

use super::grads::of_param;
use super::{Optimizer, Status, adamw_tensor, guard, handle, tensor};
use crate::error::Error;
use crate::role::Role;
use crate::tensor::{RowList, SparseGrad};

/// Sets a sparse gradient of a parameter `[height, ...]`, such as an embedding table. `rows [n]`
/// has row numbers, int32 or int64 (DLPack type code 0), in any order; `values [n, ...]` has one
/// row of the parameter for each, in the parameter's type or f32. A row is as wide as the shape of
/// the parameter says; that of a plain array, or of one dimension, as the values say. The values of
/// a row that is listed more than once are added up, in the compute type and in the order of the
/// list. The group's `lazy_mode` defines what happens to rows that are not listed.
///
/// Both tensors still belong to the host. Every step reads them until they are replaced or
/// forgotten, like those of `adamw_set_grad`. The step checks the row numbers: a number that is
/// negative or not below height fails it with `ADAMW_STATUS_INVALID_ARGUMENT`, and nothing changes.
/// With n = 0 the parameter is skipped, as if it had no gradient.
///
/// For a parameter on a device, both tensors are on that device, and this call allocates the memory
/// that a step needs there: the first time, a dense gradient in f32 (f64 for f64); whenever more
/// rows are listed than before, 17 bytes per row; and under `ADAMW_LAZY_EXACT`, 160 KiB and 8 bytes
/// per row of the parameter. The step sorts and adds up on the device and does not wait. So a graph
/// that has captured it reads the list anew each time; a graph that was captured before a longer
/// list is set continues with its own list.
///
/// A step that waits for the device anyway (see the introduction of the section about CUDA) fails
/// as above. Any other step leaves out a row that does not exist, with its values, and steps the
/// rest. The next `adamw_get_step_info`, or the next step that waits, then fails once with
/// `ADAMW_STATUS_INVALID_ARGUMENT`, and the text names the first such parameter, the place in its
/// list and the row.
///
/// `ADAMW_STATUS_UNSUPPORTED` for a parameter on a device with 2^32 rows or a list of that length,
/// and inside a capture for a list for which no memory has been allocated yet.
///
/// # Safety
/// The tensors are NULL or readable. Their memory meets the conventions of the header.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_set_sparse_grad(
    optimizer: *mut Optimizer,
    param: u32,
    rows: *const adamw_tensor,
    values: *const adamw_tensor,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller guarantees it.
            let rows = unsafe { rows_of(optimizer, param, rows) }?;
            // SAFETY: the caller guarantees it.
            let values = unsafe { tensor::dlpack(values) };
            let values = of_param(optimizer, param, values)?;
            optimizer.set_sparse_grad(param, SparseGrad { rows, values })
        })
    })
}

/// Brings the listed rows of a parameter up to date, before the host reads them. Under
/// `ADAMW_LAZY_EXACT`, a row that no gradient has listed for k steps takes these k steps now. A
/// parameter that has had no sparse gradient under that mode is left as it is. `rows` is a tensor
/// as in `adamw_set_sparse_grad`, and is read during the call only.
///
/// For a parameter on a device, the rows are on that device and are brought up to date there, in
/// the order of its stream. The row numbers are read when the stream reaches the call, and numbers
/// that are out of range are ignored. A graph that has captured the call does this whenever it is
/// launched.
///
/// # Safety
/// The requirements of `adamw_set_sparse_grad` hold.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn adamw_sparse_prepare(
    optimizer: *mut Optimizer,
    param: u32,
    rows: *const adamw_tensor,
) -> Status {
    guard(|| {
        handle::with(optimizer, |optimizer| {
            // SAFETY: the caller guarantees it.
            let rows = unsafe { rows_of(optimizer, param, rows) }?;
            optimizer.prepare_rows(param, &rows)
        })
    })
}

/// Brings every row of every parameter up to date. Call it before the host evaluates, copies or
/// writes parameters or state. Saving does so itself.
#[unsafe(no_mangle)]
pub extern "C" fn adamw_sparse_flush(optimizer: *mut Optimizer) -> Status {
    guard(|| handle::with(optimizer, |optimizer| optimizer.flush_rows()))
}

/// Returns the list of rows that C code gave for a parameter.
///
/// # Safety
/// The requirements of `tensor::rows` hold.
unsafe fn rows_of(
    optimizer: &Optimizer,
    param: u32,
    rows: *const adamw_tensor,
) -> Result<RowList, Error> {
    // SAFETY: the caller guarantees it.
    let rows = unsafe { tensor::rows(rows) };
    rows.or_else(|problem| Err(problem.of(optimizer.label(param)?, Role::Rows)))
}

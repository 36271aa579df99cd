//! Tensors as C describes them, turned into ours.

use super::constants::*;
use super::types::*;
use crate::device::Device;
use crate::dtype::Dtype;
use crate::error::TensorProblem;
use crate::tensor::{RowList, RowNumber, Tensor};

/// The kinds of memory that the processor reaches.
pub(super) const HOST_DEVICES: [adamw_device_type; 3] =
    [ADAMW_DEVICE_CPU, ADAMW_DEVICE_CUDA_HOST, ADAMW_DEVICE_ROCM_HOST];

pub(super) const CUDA_DEVICES: [adamw_device_type; 2] =
    [ADAMW_DEVICE_CUDA, ADAMW_DEVICE_CUDA_MANAGED];

/// DLPack's highest number of dimensions has no bound; more than this is garbage.
const MAX_NDIM: i32 = 64;

pub fn dtype(constant: adamw_dtype) -> Result<Dtype, TensorProblem> {
    let known = Dtype::FLOATS
        .into_iter()
        .chain([Dtype::I16, Dtype::U8])
        .find(|&dtype| dtype as u32 == constant);
    known.ok_or(TensorProblem::DtypeConstant(constant))
}

/// A plain array.
///
/// # Safety
/// As `Tensor::new`.
pub unsafe fn array(
    data: *mut core::ffi::c_void,
    n_elements: u64,
    constant: adamw_dtype,
) -> Result<Tensor, TensorProblem> {
    let dtype = dtype(constant)?;
    // SAFETY: the caller's word.
    unsafe { Tensor::new(data.expose_provenance(), n_elements, dtype) }
}

/// A DLPack tensor.
///
/// # Safety
/// `from` is NULL or readable, its shape and strides for `ndim` numbers; its memory as
/// `Tensor::new` asks.
pub unsafe fn dlpack(from: *const adamw_tensor) -> Result<Tensor, TensorProblem> {
    let (device, address, n_elements, adamw_data_type { code, bits, lanes }) =
        // SAFETY: the caller's word.
        unsafe { plain(from) }?;
    let dtype = match (code, bits, lanes) {
        (ADAMW_CODE_FLOAT, 16, 1) => Dtype::F16,
        (ADAMW_CODE_FLOAT, 32, 1) => Dtype::F32,
        (ADAMW_CODE_FLOAT, 64, 1) => Dtype::F64,
        (ADAMW_CODE_BFLOAT, 16, 1) => Dtype::Bf16,
        (ADAMW_CODE_INT, 16, 1) => Dtype::I16,
        (ADAMW_CODE_UINT, 8, 1) => Dtype::U8,
        _ => return Err(TensorProblem::DlpackType { code, bits, lanes }),
    };
    // SAFETY: the caller's word.
    unsafe {
        match device {
            Device::Host => Tensor::new(address, n_elements, dtype),
            Device::Cuda(number) => Tensor::on_device(address, n_elements, dtype, number),
        }
    }
}

/// The numbers of rows in a DLPack tensor.
///
/// # Safety
/// As `dlpack`, with memory as `RowList::new` asks.
pub unsafe fn rows(from: *const adamw_tensor) -> Result<RowList, TensorProblem> {
    // SAFETY: the caller's word.
    let (device, address, n_rows, adamw_data_type { code, bits, lanes }) = unsafe { plain(from) }?;
    let number = match (code, bits, lanes) {
        (ADAMW_CODE_INT, 32, 1) => RowNumber::I32,
        (ADAMW_CODE_INT, 64, 1) => RowNumber::I64,
        _ => return Err(TensorProblem::RowType { code, bits, lanes }),
    };
    // SAFETY: the caller's word.
    unsafe { RowList::new(address, n_rows, number, device) }
}

/// The device, the address, the number of elements and the type of a contiguous DLPack tensor.
///
/// # Safety
/// `from` is NULL or readable, its shape and strides for `ndim` numbers.
unsafe fn plain(
    from: *const adamw_tensor,
) -> Result<(Device, usize, u64, adamw_data_type), TensorProblem> {
    if from.is_null() {
        return Err(TensorProblem::Null);
    }
    // SAFETY: the caller's word; every bit pattern is an `adamw_tensor`.
    let tensor = unsafe { from.read_unaligned() };
    let adamw_device { device_type, device_id } = tensor.device;
    let device = match device_type {
        here if HOST_DEVICES.contains(&here) => Device::Host,
        cuda if CUDA_DEVICES.contains(&cuda) => {
            let number = u16::try_from(device_id);
            Device::Cuda(number.map_err(|_| TensorProblem::DeviceNumber(device_id))?)
        }
        other => return Err(TensorProblem::Device(other)),
    };
    if !(0..=MAX_NDIM).contains(&tensor.ndim) {
        return Err(TensorProblem::Dimensions(tensor.ndim));
    }
    if tensor.ndim > 0 && tensor.shape.is_null() {
        return Err(TensorProblem::NullShape(tensor.ndim));
    }
    let ndim = tensor.ndim as usize;
    // SAFETY: the shape has `ndim` numbers.
    let size = |dimension: usize| unsafe { tensor.shape.add(dimension).read_unaligned() };
    let n_elements = n_elements(ndim, size)?;
    if !tensor.strides.is_null() && n_elements > 0 {
        // SAFETY: the strides have `ndim` numbers.
        let stride = |dimension: usize| unsafe { tensor.strides.add(dimension).read_unaligned() };
        check_contiguous(ndim, size, stride)?;
    }
    let address = usize::try_from(tensor.byte_offset)
        .ok()
        .and_then(|offset| tensor.data.expose_provenance().checked_add(offset))
        .ok_or(TensorProblem::ByteOffset(tensor.byte_offset))?;
    if tensor.data.is_null() && n_elements > 0 {
        return Err(TensorProblem::NullData(n_elements));
    }
    Ok((device, address, n_elements, tensor.dtype))
}

fn n_elements(ndim: usize, size: impl Fn(usize) -> i64) -> Result<u64, TensorProblem> {
    let mut count: u64 = 1;
    let mut empty = false;
    let mut overflow = false;
    for dimension in 0..ndim {
        let size = size(dimension);
        let Ok(size) = u64::try_from(size) else {
            return Err(TensorProblem::NegativeDimension(size));
        };
        empty |= size == 0;
        let (product, wrapped) = count.overflowing_mul(size.max(1));
        overflow |= wrapped;
        count = product;
    }
    match (empty, overflow) {
        (true, _) => Ok(0),
        (false, true) => Err(TensorProblem::CountOverflow),
        (false, false) => Ok(count),
    }
}

/// Row-major, where the stride of a dimension of one element means nothing.
fn check_contiguous(
    ndim: usize,
    size: impl Fn(usize) -> i64,
    stride: impl Fn(usize) -> i64,
) -> Result<(), TensorProblem> {
    let mut expected = 1i64;
    for dimension in (0..ndim).rev() {
        if size(dimension) == 1 {
            continue;
        }
        let stride = stride(dimension);
        if stride != expected {
            return Err(TensorProblem::Strided { dimension, stride, expected });
        }
        expected = expected.saturating_mul(size(dimension));
    }
    Ok(())
}

//! Tensors: plain arrays and DLPack's, read and checked.
#![allow(non_camel_case_types)]

use crate::device::Device;
use crate::dtype::Dtype;
use crate::error::TensorProblem;
use crate::tensor::{RowList, RowNumber, Tensor};
use core::ffi::c_void;

/// Element type of a plain array.
pub type adamw_dtype = u32;
/// IEEE 754 binary32.
pub const ADAMW_DTYPE_F32: adamw_dtype = 1;
/// IEEE 754 binary64.
pub const ADAMW_DTYPE_F64: adamw_dtype = 2;
/// IEEE 754 binary16.
pub const ADAMW_DTYPE_F16: adamw_dtype = 3;
/// bfloat16: the upper 16 bits of a binary32.
pub const ADAMW_DTYPE_BF16: adamw_dtype = 4;
/// int16, of remainders only.
pub const ADAMW_DTYPE_I16: adamw_dtype = 5;
/// uint8, of 8-bit and 4-bit moments only.
pub const ADAMW_DTYPE_U8: adamw_dtype = 6;

/// Where memory is, as DLPack numbers it: `device_type` of a tensor's device.
pub type adamw_device_type = i32;
/// The host's memory.
pub const ADAMW_DEVICE_CPU: adamw_device_type = 1;
/// The memory of a CUDA device.
pub const ADAMW_DEVICE_CUDA: adamw_device_type = 2;
/// Page-locked memory of the host's, of CUDA's.
pub const ADAMW_DEVICE_CUDA_HOST: adamw_device_type = 3;
/// Page-locked memory of the host's, of ROCm's.
pub const ADAMW_DEVICE_ROCM_HOST: adamw_device_type = 11;
/// CUDA's managed memory.
pub const ADAMW_DEVICE_CUDA_MANAGED: adamw_device_type = 13;

/// What the bits of an element mean, as DLPack numbers it: `code` of a tensor's type.
pub type adamw_type_code = u8;
/// Signed integers.
pub const ADAMW_CODE_INT: adamw_type_code = 0;
/// Unsigned integers.
pub const ADAMW_CODE_UINT: adamw_type_code = 1;
/// IEEE 754: f16, f32 and f64.
pub const ADAMW_CODE_FLOAT: adamw_type_code = 2;
/// bf16.
pub const ADAMW_CODE_BFLOAT: adamw_type_code = 4;

/// Where a tensor's memory is. Binary-identical to DLPack's `DLDevice`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_device {
    /// An ADAMW_DEVICE constant, which is DLPack's number: 1 CPU, 3 CUDA host memory, 11 ROCm host memory;
    /// 2 CUDA, 13 CUDA managed memory.
    pub device_type: i32,
    /// Which of them, as the CUDA driver numbers devices; 0 for the CPU.
    pub device_id: i32,
}

/// An element type. Binary-identical to DLPack's `DLDataType`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_data_type {
    /// An ADAMW_CODE constant: 2: IEEE float, 4: bfloat; 0: integer, of rows and remainders; 1: unsigned,
    /// of moments in codes.
    pub code: u8,
    /// 8, 16, 32 or 64.
    pub bits: u8,
    /// 1.
    pub lanes: u16,
}

/// A tensor: binary-identical to DLPack's `DLTensor`, so that a pointer to any producer's can be
/// passed. It must be contiguous (row-major) and aligned to its elements. All tensors of a parameter
/// lie in the host's memory, or on the device where the parameter is. Only the memory at `data` is
/// kept; the struct, its shape and strides are read during the call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_tensor {
    /// The first element, less `byte_offset`; may be NULL if there are no elements.
    pub data: *mut c_void,
    /// Where it is.
    pub device: adamw_device,
    /// Dimensions; 0: one element.
    pub ndim: i32,
    /// What it is made of.
    pub dtype: adamw_data_type,
    /// `[ndim]` elements in each dimension.
    pub shape: *mut i64,
    /// `[ndim]` elements from one index to the next, or NULL.
    pub strides: *mut i64,
    /// Bytes from `data` to the first element.
    pub byte_offset: u64,
}

const _: () = assert!(size_of::<adamw_tensor>() == 48);

/// The kinds of memory that the processor reaches.
pub(super) const HOST_DEVICES: [adamw_device_type; 3] =
    [ADAMW_DEVICE_CPU, ADAMW_DEVICE_CUDA_HOST, ADAMW_DEVICE_ROCM_HOST];

pub(super) const CUDA_DEVICES: [adamw_device_type; 2] =
    [ADAMW_DEVICE_CUDA, ADAMW_DEVICE_CUDA_MANAGED];

/// DLPack's highest number of dimensions has no bound; more than this is garbage.
const MAX_NDIM: i32 = 64;

pub(super) fn dtype(constant: adamw_dtype) -> Result<Dtype, TensorProblem> {
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
pub(super) unsafe fn array(
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
pub(super) unsafe fn dlpack(from: *const adamw_tensor) -> Result<Tensor, TensorProblem> {
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
pub(super) unsafe fn rows(from: *const adamw_tensor) -> Result<RowList, TensorProblem> {
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

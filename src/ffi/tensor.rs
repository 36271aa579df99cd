//! Tensors: plain arrays and DLPack tensors, read and checked.
#![allow(non_camel_case_types)]

use crate::device::Device;
use crate::dtype::Dtype;
use crate::error::TensorProblem;
use crate::order::Order;
use crate::tensor::{RowList, RowNumber, Tensor};
use core::cmp::Reverse;
use core::ffi::c_void;

/// The element type of a plain array.
pub type adamw_dtype = u32;
/// IEEE 754 binary32.
pub const ADAMW_DTYPE_F32: adamw_dtype = 1;
/// IEEE 754 binary64.
pub const ADAMW_DTYPE_F64: adamw_dtype = 2;
/// IEEE 754 binary16.
pub const ADAMW_DTYPE_F16: adamw_dtype = 3;
/// bfloat16: the upper 16 bits of a binary32.
pub const ADAMW_DTYPE_BF16: adamw_dtype = 4;
/// int16, for remainders only.
pub const ADAMW_DTYPE_I16: adamw_dtype = 5;
/// uint8, for 8-bit and 4-bit moments only.
pub const ADAMW_DTYPE_U8: adamw_dtype = 6;

/// The kind of memory that a tensor is in, as DLPack numbers it: `device_type` of its device.
pub type adamw_device_type = i32;
/// Memory of the host.
pub const ADAMW_DEVICE_CPU: adamw_device_type = 1;
/// Memory of a CUDA device.
pub const ADAMW_DEVICE_CUDA: adamw_device_type = 2;
/// Memory of the host, page-locked by CUDA.
pub const ADAMW_DEVICE_CUDA_HOST: adamw_device_type = 3;
/// Memory of the host, page-locked by ROCm.
pub const ADAMW_DEVICE_ROCM_HOST: adamw_device_type = 11;
/// Managed memory of CUDA.
pub const ADAMW_DEVICE_CUDA_MANAGED: adamw_device_type = 13;

/// The kind of an element type, as DLPack numbers it: `code` of a tensor's type.
pub type adamw_type_code = u8;
/// Signed integers.
pub const ADAMW_CODE_INT: adamw_type_code = 0;
/// Unsigned integers.
pub const ADAMW_CODE_UINT: adamw_type_code = 1;
/// IEEE 754: f16, f32 and f64.
pub const ADAMW_CODE_FLOAT: adamw_type_code = 2;
/// bf16.
pub const ADAMW_CODE_BFLOAT: adamw_type_code = 4;

/// The device whose memory a tensor is in. Binary-identical to DLPack's `DLDevice`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_device {
    /// An ADAMW_DEVICE constant, which is DLPack's number: 1 CPU, 3 CUDA host memory, 11 ROCm host
    /// memory, 2 CUDA, 13 CUDA managed memory.
    pub device_type: i32,
    /// The number of the device, as the CUDA driver counts them; 0 for the CPU.
    pub device_id: i32,
}

/// An element type. Binary-identical to DLPack's `DLDataType`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_data_type {
    /// An ADAMW_CODE constant: 2 IEEE float, 4 bfloat, 0 integer (rows and remainders), 1 unsigned
    /// integer (moments in codes).
    pub code: u8,
    /// 8, 16, 32 or 64.
    pub bits: u8,
    /// 1.
    pub lanes: u16,
}

/// A tensor. Binary-identical to DLPack's `DLTensor`, so that a pointer to any producer's tensor
/// can be passed. It must have no gaps and be aligned to its elements. All tensors of a parameter
/// are in the host's memory, or on the device where the parameter is. The library keeps only the
/// address in `data`; it reads the struct, its shape and strides during the call.
///
/// A parameter may have its dimensions in any order in memory (row-major, transposed, channels
/// last), up to 8 of more than one element if they are not row-major. Its gradients and its state
/// have the same order, or one dimension, which stands for the elements as they are in memory, as a
/// plain array does. Whatever depends on the order of elements goes by memory: blocks of codes,
/// random bits, norms, `first_element`, and checkpoints. Rows of sparse gradients are of row-major
/// parameters.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct adamw_tensor {
    /// The address of the first element, less `byte_offset`. May be NULL if there are no elements.
    pub data: *mut c_void,
    /// The device whose memory `data` is in.
    pub device: adamw_device,
    /// The number of dimensions; 0: one element.
    pub ndim: i32,
    /// The element type.
    pub dtype: adamw_data_type,
    /// `[ndim]` The number of elements in each dimension.
    pub shape: *mut i64,
    /// `[ndim]` The number of elements from one index to the next. NULL: row-major.
    pub strides: *mut i64,
    /// The number of bytes from `data` to the first element.
    pub byte_offset: u64,
}

const _: () = assert!(size_of::<adamw_tensor>() == 48);

/// The kinds of memory that the processor reaches.
pub(super) const HOST_DEVICES: [adamw_device_type; 3] =
    [ADAMW_DEVICE_CPU, ADAMW_DEVICE_CUDA_HOST, ADAMW_DEVICE_ROCM_HOST];

pub(super) const CUDA_DEVICES: [adamw_device_type; 2] =
    [ADAMW_DEVICE_CUDA, ADAMW_DEVICE_CUDA_MANAGED];

/// DLPack does not limit the number of dimensions, but more than this is garbage.
const MAX_NDIM: i32 = 64;

pub(super) fn dtype(constant: adamw_dtype) -> Result<Dtype, TensorProblem> {
    let known = Dtype::ALL.iter().find(|dtype| **dtype as u32 == constant);
    known.copied().ok_or(TensorProblem::DtypeConstant(constant))
}

/// Returns the tensor of a plain array.
///
/// # Safety
/// The requirements of `Tensor::new` hold.
pub(super) unsafe fn array(
    data: *mut core::ffi::c_void,
    n_elements: u64,
    constant: adamw_dtype,
) -> Result<Tensor, TensorProblem> {
    let dtype = dtype(constant)?;
    // SAFETY: the caller guarantees it.
    unsafe { Tensor::new(data.expose_provenance(), n_elements, dtype) }
}

/// Returns the tensor of a DLPack tensor.
///
/// # Safety
/// `from` is NULL or readable, and its shape and strides are readable for `ndim` numbers. The
/// requirements of `Tensor::new` hold for its memory.
pub(super) unsafe fn dlpack(from: *const adamw_tensor) -> Result<Tensor, TensorProblem> {
    // SAFETY: the caller guarantees it.
    let Plain { device, address, n_elements, order, dtype } = unsafe { plain(from) }?;
    let adamw_data_type { code, bits, lanes } = dtype;
    let known = Dtype::ALL.iter().find(|dtype| dtype.dlpack() == (code, bits) && lanes == 1);
    let dtype = *known.ok_or(TensorProblem::DlpackType { code, bits, lanes })?;
    // SAFETY: the caller guarantees it.
    let tensor = unsafe {
        match device {
            Device::Host => Tensor::new(address, n_elements, dtype),
            Device::Cuda(number) => Tensor::on_device(address, n_elements, dtype, number),
        }
    };
    tensor.map(|tensor| tensor.in_order(order))
}

/// Returns the number of elements of a row of a DLPack tensor of `n_elements`, which has been read;
/// 0 if it has fewer than two dimensions, or no rows.
///
/// # Safety
/// `from` is readable, and its shape is readable for `ndim` numbers.
pub(super) unsafe fn row_elements(from: *const adamw_tensor, n_elements: u64) -> u64 {
    // SAFETY: the caller guarantees it.
    let tensor = unsafe { from.read_unaligned() };
    if tensor.ndim < 2 {
        return 0;
    }
    // SAFETY: there are `ndim` numbers.
    let height = unsafe { tensor.shape.read_unaligned() };
    n_elements.checked_div(height as u64).unwrap_or(0)
}

/// Returns the row numbers in a DLPack tensor.
///
/// # Safety
/// `from` is NULL or readable, and its shape and strides are readable for `ndim` numbers. The
/// requirements of `RowList::new` hold for its memory.
pub(super) unsafe fn rows(from: *const adamw_tensor) -> Result<RowList, TensorProblem> {
    // SAFETY: the caller guarantees it.
    let Plain { device, address, n_elements, order, dtype } = unsafe { plain(from) }?;
    if !order.is_row_major() {
        return Err(TensorProblem::Order { is: order, expected: Order::ROW_MAJOR });
    }
    let adamw_data_type { code, bits, lanes } = dtype;
    let number = match (code, bits, lanes) {
        (ADAMW_CODE_INT, 32, 1) => RowNumber::I32,
        (ADAMW_CODE_INT, 64, 1) => RowNumber::I64,
        _ => return Err(TensorProblem::RowType { code, bits, lanes }),
    };
    // SAFETY: the caller guarantees it.
    unsafe { RowList::new(address, n_elements, number, device) }
}

/// What a DLPack tensor without gaps says.
struct Plain {
    device: Device,
    address: usize,
    n_elements: u64,
    order: Order,
    dtype: adamw_data_type,
}

/// Returns what a DLPack tensor says, which must have no gaps.
///
/// # Safety
/// `from` is NULL or readable, and its shape and strides are readable for `ndim` numbers.
unsafe fn plain(from: *const adamw_tensor) -> Result<Plain, TensorProblem> {
    if from.is_null() {
        return Err(TensorProblem::Null);
    }
    // SAFETY: the caller guarantees it; every bit pattern is an `adamw_tensor`.
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
    // SAFETY: the strides have `ndim` numbers.
    let stride = |dimension: usize| unsafe { tensor.strides.add(dimension).read_unaligned() };
    let has_strides = !tensor.strides.is_null() && n_elements > 0;
    let (mut n_counted, mut expected, mut is_row_major) = (0, 1i64, true);
    for dimension in (0..ndim).rev().filter(|&dimension| size(dimension) != 1) {
        is_row_major &= !has_strides || stride(dimension) == expected;
        expected = expected.saturating_mul(size(dimension));
        n_counted += 1;
    }
    let order = match (is_row_major, n_counted) {
        (true, 0 | 1) => Order::FLAT,
        (true, _) => Order::ROW_MAJOR,
        (false, _) => order(ndim, size, stride)?,
    };
    let address = usize::try_from(tensor.byte_offset)
        .ok()
        .and_then(|offset| tensor.data.expose_provenance().checked_add(offset))
        .ok_or(TensorProblem::ByteOffset(tensor.byte_offset))?;
    if tensor.data.is_null() && n_elements > 0 {
        return Err(TensorProblem::NullData(n_elements));
    }
    Ok(Plain { device, address, n_elements, order, dtype: tensor.dtype })
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

/// Returns the order in memory of the dimensions of more than one element, between which there must
/// be no gaps.
#[cold]
fn order(
    ndim: usize,
    size: impl Fn(usize) -> i64,
    stride: impl Fn(usize) -> i64,
) -> Result<Order, TensorProblem> {
    let mut dimensions = [0u8; MAX_NDIM as usize];
    let mut n_counted = 0;
    for dimension in (0..ndim).filter(|&dimension| size(dimension) > 1) {
        dimensions[n_counted] = dimension as u8;
        n_counted += 1;
    }
    let dimensions = &mut dimensions[..n_counted];
    let stride = |dimension: u8| stride(dimension.into());
    dimensions.sort_unstable_by_key(|&dimension| (Reverse(stride(dimension)), dimension));
    let mut expected = 1i64;
    for &dimension in dimensions.iter().rev() {
        let stride = stride(dimension);
        let dimension = dimension.into();
        if stride != expected {
            return Err(TensorProblem::Strided { dimension, stride, expected });
        }
        expected = expected.saturating_mul(size(dimension));
    }
    Order::of(dimensions).ok_or(TensorProblem::ManyStrides { dimensions: n_counted })
}

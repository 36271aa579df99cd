//! Problems of one tensor.
#![forbid(unsafe_code)]

use super::{Error as AnyError, Label, Status};
use crate::device::Device;
use crate::dtype::Dtype;
use crate::order::Order;
use crate::role::Role;
use thiserror::Error;

/// A problem of one tensor, by itself or compared with its parameter.
#[derive(Error, Clone, Copy, PartialEq, Debug)]
pub enum TensorProblem {
    #[error("is NULL")]
    Null,
    #[error("has data NULL and {0} elements, expected a pointer to them")]
    NullData(u64),
    #[error("has data NULL and {0} elements (adamw_set_grad with NULL forgets a gradient)")]
    NullGrad(u64),
    #[error("has {0} elements, more than fit in memory")]
    TooLarge(u64),
    #[error("has ndim {0}, expected 0 to 64")]
    Dimensions(i32),
    #[error("has shape NULL and ndim {0}, expected a pointer to so many numbers")]
    NullShape(i32),
    #[error("has a dimension of {0} elements, expected 0 or more")]
    NegativeDimension(i64),
    #[error("has more elements than fit in 64 bits")]
    CountOverflow,
    #[error(
        "has gaps or elements in one place: stride {stride} in dimension {dimension}, expected \
         {expected}; give the whole that it is a view of, or a copy"
    )]
    Strided { dimension: usize, stride: i64, expected: i64 },
    #[error(
        "has {dimensions} dimensions that are not row-major, expected {} or fewer of more than one \
         element: give a plain array of its memory",
        Order::MOST
    )]
    ManyStrides { dimensions: usize },
    #[error(
        "has its dimensions in the order {is} in memory, expected {expected}: copy it into that \
         order"
    )]
    Order { is: Order, expected: Order },
    #[error(
        "lists rows of a param whose dimensions are in the order {0} in memory, expected \
         row-major: give a dense one"
    )]
    RowsOf(Order),
    #[error("overlaps {buffer} of param \"{param}\": give it memory of its own")]
    Overlaps { param: Label, buffer: Role },
    #[error("has byte_offset {0}, which leaves the address space")]
    ByteOffset(u64),
    #[error("is at {address:#x}, which is not aligned to its {bytes}-byte elements")]
    Misaligned { address: usize, bytes: usize },
    #[error(
        "has DLPack type code {code}, {bits} bits, {lanes} lanes, expected code 2 with 16, 32 or \
         64 bits, or code 4 with 16, and 1 lane"
    )]
    DlpackType { code: u8, bits: u8, lanes: u16 },
    #[error("has dtype {0}, expected ADAMW_DTYPE_F32, F64, F16 or BF16")]
    DtypeConstant(u32),
    #[error("is {is}, expected {expected}")]
    Dtype { is: Dtype, expected: Dtype },
    #[error("is {0}, expected f32, f64, f16 or bf16")]
    NotFloat(Dtype),
    #[error("is {is}, expected {param} as the param, or f32")]
    GradDtype { is: Dtype, param: Dtype },
    #[error("has {0} elements, expected 1")]
    NotOne(u64),
    #[error("has {is} elements, param has {param}")]
    Elements { is: u64, param: u64 },
    #[error("has {is} elements, expected {expected}, for the blocks of codes of param")]
    Blocks { is: u64, expected: u64 },
    #[error(
        "has DLPack type code {code}, {bits} bits, {lanes} lanes, expected code 0 with 32 or 64 \
         bits, and 1 lane"
    )]
    RowType { code: u8, bits: u8, lanes: u16 },
    #[error("has {values} values for {rows} rows, expected the same number for each row")]
    RowValues { values: u64, rows: u64 },
    #[error("has rows of {row} elements, which do not divide the {param} of param")]
    RowElements { row: u64, param: u64 },
    #[error("has rows of {row} elements, expected {expected} as those of param have")]
    RowWidth { row: u64, expected: u64 },
    #[error("has rows of {row} elements, expected {earlier} as earlier ones had")]
    RowsRecut { row: u64, earlier: u64 },
    #[error(
        "is on DLPack device type {0}, expected the host's memory (1, 3 or 11: a plain array's \
         device is {{1, 0}}) or CUDA's (2 or 13)"
    )]
    Device(i32),
    #[error("is on CUDA device {0}, expected 0 to 65535")]
    DeviceNumber(i32),
    #[error("is in the memory of {is}, expected that of {param}, as param is")]
    WrongDevice { is: Device, param: Device },
    #[error("is at {address:#x}, which is no memory of device {device}")]
    Unreachable { address: usize, device: u16 },
}

impl TensorProblem {
    pub(super) fn status(&self) -> Status {
        match self {
            TensorProblem::Device(_) => Status::Unsupported,
            _ => Status::InvalidArgument,
        }
    }

    /// Returns the error of this problem, with the parameter and the role of the tensor.
    pub fn of(self, param: Label, buffer: Role) -> AnyError {
        AnyError::Tensor { param, buffer, problem: self }
    }
}

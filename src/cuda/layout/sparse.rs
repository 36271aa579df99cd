//! The layouts of sparse gradients and of rows that lag: `Rows`, `RowLag` and `Gathered` of
//! `layout.cuh` and `lag.cuh`.
#![forbid(unsafe_code)]

use crate::dtype::Dtype;

/// The number of blocks that share the work on one sparse gradient.
pub const SHARES: u64 = 256;

/// The type in which the values of a sparse gradient are stored, and that to which they are
/// widened.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq)]
pub enum Values {
    F32,
    F16,
    Bf16,
    F64,
    F32InF64,
}

impl Values {
    pub fn new(param: Dtype, values: Dtype) -> Values {
        match (param, values) {
            (Dtype::F64, Dtype::F32) => Values::F32InF64,
            (Dtype::F64, _) => Values::F64,
            (_, Dtype::F16) => Values::F16,
            (_, Dtype::Bf16) => Values::Bf16,
            _ => Values::F32,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Values::F16 | Values::Bf16 => 2,
            Values::F32 | Values::F32InF64 => 4,
            Values::F64 => 8,
        }
    }
}

/// A sparse gradient, by address, and the dense gradient that the library gathers of it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq)]
pub struct Rows {
    /// `[n_rows] i32|i64`
    pub numbers: u64,
    /// `[n_rows, row_elements]`
    pub values: u64,
    /// `[height, row_elements]`, in the compute type.
    pub grad: u64,
    /// `[n_rows] u64`, sorted.
    pub entries: u64,
    /// `[3, n_rows] u64`: the entries between passes of the sort, and what a step has changed.
    pub spare: u64,
    /// `[n_rows / TILE + 1, COUNTS] u32`
    pub counts: u64,
    /// The notes on what was gathered last: `GATHERED` bytes.
    pub gathered: u64,
    /// The place of a `RowLag`; 0: no row lags.
    pub lag: u64,
    pub n_rows: u64,
    pub row_elements: u64,
    pub height: u64,
    /// The number of the parameter.
    pub tensor: u32,
    pub values_type: Values,
    /// The numbers are i64.
    pub is_long: u32,
    pub reserved: u32,
}

assert_layout!(Rows, 104: 0 numbers, 8 values, 16 grad, 24 entries, 32 spare, 40 counts,
    48 gathered, 56 lag, 64 n_rows, 72 row_elements, 80 height, 88 tensor, 92 values_type,
    96 is_long, 100 reserved);

impl Rows {
    /// Returns the bytes of all values.
    pub fn value_bytes(&self) -> usize {
        (self.n_rows * self.row_elements) as usize * self.values_type.bytes()
    }
}

/// The lag of the rows of a parameter, by address. It is `Lag` in `lag.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RowLag {
    pub at: u64,
    pub height: u64,
    pub row_elements: u64,
}

assert_layout!(RowLag, 24: 0 at, 8 height, 16 row_elements);

/// The number of entries that a block sorts.
pub const TILE: usize = 2048;
/// The number of digits that a block counts for them.
pub const COUNTS: usize = 256;
/// The longest list whose counts each block adds up by itself.
pub const SHORT: u64 = 8 * TILE as u64;

/// The first row outside a parameter, since the host asked last.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct Outside {
    /// 1 more than the place of the row in the list; 0: there was none.
    pub place: u64,
    pub row: i64,
    pub height: u64,
}

assert_layout!(Outside, 24: 0 place, 8 row, 16 height);

/// The bytes of the notes on a sparse gradient, of which the last are an `Outside`.
pub const GATHERED: usize = 48;

//! Numbers of rows, as a C host lists them.

use adamw::ffi;
use core::ptr::null_mut;

/// Owned, in one of the two types.
pub enum Rows {
    I32(Vec<i32>, [i64; 1]),
    I64(Vec<i64>, [i64; 1]),
}

impl Rows {
    pub fn i32(rows: &[usize]) -> Rows {
        Rows::I32(rows.iter().map(|&row| row as i32).collect(), [rows.len() as i64])
    }

    pub fn i64(rows: &[usize]) -> Rows {
        Rows::I64(rows.iter().map(|&row| row as i64).collect(), [rows.len() as i64])
    }

    /// As DLPack describes them; the memory is this list's.
    pub fn tensor(&self) -> ffi::adamw_tensor {
        let (data, bits, shape) = match self {
            Rows::I32(rows, shape) => (rows.as_ptr().expose_provenance(), 32, shape),
            Rows::I64(rows, shape) => (rows.as_ptr().expose_provenance(), 64, shape),
        };
        ffi::adamw_tensor {
            data: core::ptr::with_exposed_provenance_mut(data),
            device: ffi::adamw_device { device_type: 1, device_id: 0 },
            ndim: 1,
            dtype: ffi::adamw_data_type { code: 0, bits, lanes: 1 },
            shape: shape.as_ptr().cast_mut(),
            strides: null_mut(),
            byte_offset: 0,
        }
    }
}

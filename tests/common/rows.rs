//! Numbers of rows, as a C host lists them.

use super::array::{Array, Dtype};
use super::device::OnDevice;
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

    pub fn duplicate(&self) -> Rows {
        match self {
            Rows::I32(rows, shape) => Rows::I32(rows.clone(), *shape),
            Rows::I64(rows, shape) => Rows::I64(rows.clone(), *shape),
        }
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

/// A copy in the memory of the device.
pub struct RowsOnDevice {
    numbers: OnDevice,
    bits: u8,
}

impl RowsOnDevice {
    pub fn of(rows: &Rows) -> RowsOnDevice {
        // The bits of floats as long as the numbers.
        let array = |dtype, numbers: &[i64]| {
            let array = Array::zeros(dtype, numbers.len());
            numbers.iter().enumerate().for_each(|(i, &number)| array.set_bits(i, number as u64));
            array
        };
        let (array, bits) = match rows {
            Rows::I32(rows, _) => {
                let rows: Vec<i64> = rows.iter().map(|&row| (row as u32).into()).collect();
                (array(Dtype::F32, &rows), 32)
            }
            Rows::I64(rows, _) => (array(Dtype::F64, rows), 64),
        };
        RowsOnDevice { numbers: OnDevice::of(&array, 0), bits }
    }

    /// Writes other numbers.
    pub fn set(&self, rows: &Rows) {
        let other = RowsOnDevice::of(rows);
        self.numbers.set(&other.numbers.array().unwrap());
    }

    /// As DLPack describes them.
    pub fn tensor(&self) -> ffi::adamw_tensor {
        let dtype = ffi::adamw_data_type { code: 0, bits: self.bits, lanes: 1 };
        ffi::adamw_tensor { dtype, ..self.numbers.tensor() }
    }
}

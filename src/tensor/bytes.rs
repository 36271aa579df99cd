//! A parameter's tensors as bytes, to be written to files and read from them.

use super::{Operands, Tensor, slice_at};
use crate::device::Device;
use crate::dtype::{Bf16, Dtype, F16, Widen};
use crate::role::Role;

impl Tensor {
    /// Returns the first element that is below 0, and its value, of a tensor in the host's memory.
    pub fn first_negative(&self) -> Option<(usize, f64)> {
        if self.device() != Device::Host {
            return None;
        }
        let addresses = self.addresses();
        // SAFETY: `Tensor::new`'s callers vouched for the memory, which nobody else writes during a
        // call.
        let bytes: &[u8] = unsafe { slice_at(addresses.start, 0..addresses.len()) };
        let dtype = self.dtype();
        bytes
            .chunks_exact(dtype.bytes())
            .enumerate()
            .find_map(|(i, element)| Some((i, negative(element, dtype)?)))
    }
}

/// The value of an element that is below 0; codes and remainders never are.
fn negative(element: &[u8], dtype: Dtype) -> Option<f64> {
    let two = || element.try_into().map_or(0, u16::from_le_bytes);
    let value = match dtype {
        Dtype::F64 => element.try_into().map_or(0.0, f64::from_le_bytes),
        Dtype::F32 => element.try_into().map_or(0.0, f32::from_le_bytes).into(),
        Dtype::Bf16 => Bf16(two()).widen().into(),
        Dtype::F16 => F16(two()).widen().into(),
        Dtype::I16 | Dtype::U8 => 0.0,
    };
    (value < 0.0).then_some(value)
}

impl Operands {
    /// Returns the bytes of the tensor in a role, which are little-endian; none if it is on a
    /// device.
    pub fn bytes(&self, role: Role) -> &[u8] {
        let Some(tensor) = self.tensor(role).filter(|_| !self.is_on_device()) else { return &[] };
        let addresses = tensor.addresses();
        // SAFETY: `Tensor::new`'s callers vouched for the memory, all of which is initialised;
        // while `self` is borrowed nothing is written through it.
        unsafe { slice_at(addresses.start, 0..addresses.len()) }
    }

    /// Returns the bytes of the tensor in a role, to be written; every bit pattern is an element.
    pub fn bytes_mut(&mut self, role: Role) -> &mut [u8] {
        let here = !self.is_on_device();
        let Some(tensor) = self.tensor(role).filter(|_| here) else { return &mut [] };
        let addresses = tensor.addresses();
        // SAFETY: `Tensor::new`'s callers vouched for the memory, all of which is initialised;
        // `&mut self` keeps it from being sliced elsewhere.
        unsafe { slice_at(addresses.start, 0..addresses.len()) }
    }
}

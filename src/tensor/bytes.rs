//! A parameter's tensors as bytes, to be written to files and read from them.

use super::{Operands, Tensor, slice_at};
use crate::device::Device;
use crate::dtype::Dtype;
use crate::error::Role;

impl Tensor {
    /// Returns the first element that is below 0, of a tensor in the host's memory.
    pub fn first_negative(&self) -> Option<usize> {
        if self.device() != Device::Host {
            return None;
        }
        let addresses = self.addresses();
        // SAFETY: `Tensor::new`'s callers vouched for the memory, which nobody else writes during a
        // call.
        let bytes: &[u8] = unsafe { slice_at(addresses.start, 0..addresses.len()) };
        // The bits of a float below 0, as an integer, are above those of -0 and not above those of
        // -inf.
        let is_below = |bits: u64, minus_zero: u64, minus_infinity: u64| {
            bits > minus_zero && bits <= minus_infinity
        };
        let is_negative = |element: &[u8]| {
            let mut bits = [0; 8];
            bits[..element.len()].copy_from_slice(element);
            let bits = u64::from_le_bytes(bits);
            match self.dtype() {
                Dtype::F64 => is_below(bits, 1 << 63, f64::NEG_INFINITY.to_bits()),
                Dtype::F32 => is_below(bits, 1 << 31, f32::NEG_INFINITY.to_bits().into()),
                Dtype::Bf16 => is_below(bits, 0x8000, 0xff80),
                Dtype::F16 => is_below(bits, 0x8000, 0xfc00),
                Dtype::I16 | Dtype::U8 => false,
            }
        };
        bytes.chunks_exact(self.dtype().bytes()).position(is_negative)
    }
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

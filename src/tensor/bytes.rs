//! A parameter's tensors as bytes, to be written to files and read from them.

use super::{Operands, Tensor, slice_at};
use crate::device::Device;
use crate::dtype::Dtype;
use crate::error::Role;

impl Tensor {
    /// The first element that is below 0, of a tensor in the host's memory.
    pub fn first_negative(&self) -> Option<usize> {
        if self.device() != Device::Host {
            return None;
        }
        let addresses = self.addresses();
        // SAFETY: `Tensor::new`'s callers vouched for the memory, which nobody writes during a call.
        let bytes: &[u8] = unsafe { slice_at(addresses.start, 0..addresses.len()) };
        // As an integer, a float that is below 0 has its sign bit set, and is above -0 and not above -inf.
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
    /// The bytes of the tensor in a role, none if it is on a device, in the processor's order, which is little-endian.
    pub fn bytes(&self, role: Role) -> &[u8] {
        let Some(tensor) = self.tensor(role).filter(|_| !self.is_on_device()) else { return &[] };
        let addresses = tensor.addresses();
        // SAFETY: `Tensor::new`'s callers vouched for the memory, all of which is initialised; while
        // `self` is borrowed nothing is written through it.
        unsafe { slice_at(addresses.start, 0..addresses.len()) }
    }

    /// The same, to be written over: every bit pattern is an element.
    pub fn bytes_mut(&mut self, role: Role) -> &mut [u8] {
        let here = !self.is_on_device();
        let Some(tensor) = self.tensor(role).filter(|_| here) else { return &mut [] };
        let addresses = tensor.addresses();
        // SAFETY: as above, and `&mut self` keeps the memory from being sliced elsewhere.
        unsafe { slice_at(addresses.start, 0..addresses.len()) }
    }
}

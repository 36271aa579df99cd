//! Where a handle has something: in the host's memory, or on the device.

use super::array::Array;
use super::device::OnDevice;
use adamw::ffi::adamw_tensor;

pub enum Place {
    Host(Array),
    Device(OnDevice),
}

impl Place {
    /// A copy there.
    pub fn of(array: &Array, on_device: bool) -> Place {
        match on_device {
            true => Place::Device(OnDevice::of(array, 0)),
            false => Place::Host(array.duplicate()),
        }
    }

    /// A copy in the host's memory.
    pub fn array(&self) -> Array {
        match self {
            Place::Host(array) => array.duplicate(),
            Place::Device(on_device) => on_device.array().unwrap(),
        }
    }

    pub fn tensor(&self) -> adamw_tensor {
        match self {
            Place::Host(array) => array.tensor(),
            Place::Device(on_device) => on_device.tensor(),
        }
    }

    /// Writes other elements.
    pub fn set(&self, values: &Array) {
        match self {
            Place::Host(array) => (0..array.len()).for_each(|i| array.set_bits(i, values.bits(i))),
            Place::Device(on_device) => on_device.set(values),
        }
    }
}

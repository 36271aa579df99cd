//! Conversion of elements from one floating type to another.
#![forbid(unsafe_code)]

use crate::dtype::{Bf16, Dtype, F16, Narrow, Widen};

/// Returns the floating type that has this name in safetensors.
pub fn from_name(name: &str) -> Option<Dtype> {
    Dtype::FLOATS.into_iter().find(|dtype| dtype.safetensors_name() == name)
}

/// Returns whether elements of other types can be converted to this.
pub fn converts(to: Dtype) -> bool {
    Dtype::FLOATS.contains(&to)
}

/// Converts as many elements as both hold: exactly if the type has room, otherwise to nearest. From
/// f64 to 16 bits the way is through f32.
pub fn convert((from, dtype): (&[u8], Dtype), (to, to_dtype): (&mut [u8], Dtype)) {
    let elements = from.chunks_exact(dtype.bytes()).map(|bytes| widen(bytes, dtype));
    for (value, to) in elements.zip(to.chunks_exact_mut(to_dtype.bytes())) {
        match to_dtype {
            Dtype::F64 => to.copy_from_slice(&value.to_le_bytes()),
            Dtype::F16 => to.copy_from_slice(&F16::narrow(value as f32).0.to_le_bytes()),
            Dtype::Bf16 => to.copy_from_slice(&Bf16::narrow(value as f32).0.to_le_bytes()),
            _ => to.copy_from_slice(&(value as f32).to_le_bytes()),
        }
    }
}

fn widen(bytes: &[u8], dtype: Dtype) -> f64 {
    let two = || u16::from_le_bytes([bytes[0], bytes[1]]);
    match dtype {
        Dtype::F16 => F16(two()).widen().widen(),
        Dtype::Bf16 => Bf16(two()).widen().widen(),
        Dtype::F64 => bytes.try_into().map_or(0.0, f64::from_le_bytes),
        _ => f64::from(bytes.try_into().map_or(0.0, f32::from_le_bytes)),
    }
}

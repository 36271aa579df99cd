//! Conversion of elements: from one floating type to another, of moments to codes, of a master to
//! its halves.
#![forbid(unsafe_code)]

use crate::codes::{BLOCK, nibbles};
use crate::cpu::coded::parts;
use crate::dtype::{self, Bf16, Dtype, F16, Narrow, Widen};
use crate::format::MomentFormat;
use crate::role::Role;

/// What becomes of elements of a checkpoint on their way into a tensor of the handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// They stay as they are, or become the nearest of another floating type.
    Plain,
    /// Moments become codes,
    Codes,
    /// and the scales of those.
    Scales,
    /// An f32 master becomes the bf16 parameter to which it rounds,
    Upper,
    /// and the rest.
    Rest,
}

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

/// Appends elements as f32 to what there is room for.
pub fn widened((from, dtype): (&[u8], Dtype), wide: &mut Vec<f32>) {
    wide.extend(from.chunks_exact(dtype.bytes()).map(|bytes| widen(bytes, dtype) as f32));
}

/// Rounds moments to the nearest codes, or writes the scales of those. All blocks but the last are
/// whole.
pub fn encode(way: Way, role: Role, format: MomentFormat, wide: &[f32], to: &mut [u8]) {
    let is_first = role.moment() == Role::ExpAvg;
    let (block, bytes) = match format {
        MomentFormat::Nibbles => (nibbles::BLOCK, nibbles::BYTES),
        _ => (BLOCK, BLOCK),
    };
    let size = if way == Way::Scales { size_of::<f32>() } else { bytes };
    for (wide, to) in wide.chunks(block).zip(to.chunks_mut(size)) {
        let (mut codes, mut scale) = ([0; BLOCK], [0.0]);
        let of_block = &mut codes[..bytes];
        match (format, is_first) {
            (MomentFormat::Nibbles, _) => {
                scale = [parts::nearest_nibbles(is_first, wide, of_block)];
            }
            (_, true) => parts::encode_signed(wide, of_block, &mut scale),
            (_, false) => parts::encode_unsigned(wide, of_block, &mut scale),
        }
        match way {
            Way::Scales => to.copy_from_slice(&scale[0].to_le_bytes()),
            _ => to.copy_from_slice(&codes[..to.len()]),
        }
    }
}

/// Writes one of the halves of masters.
pub fn halve(way: Way, masters: &[f32], to: &mut [u8]) {
    for (master, to) in masters.iter().zip(to.chunks_exact_mut(2)) {
        let (upper, rest) = dtype::split(*master);
        to.copy_from_slice(&if way == Way::Upper {
            upper.0.to_le_bytes()
        } else {
            rest.to_le_bytes()
        });
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

//! Operations on bit fields.

use super::lanes::{Lanes, map3};
use crate::ptx::instruction::Ternary;
use crate::ptx::types::Type;

/// `length` bits from `position`; a number with a sign is extended by the field's last bit, or by
/// its own where the field ends beyond it.
pub fn extract(ty: Type, a: u64, position: u64, length: u64) -> u64 {
    let (position, length) = (position & 0xFF, length & 0xFF);
    let bits = u64::from(ty.bits());
    let last = (position + length).min(bits);
    let sign_bit = last.saturating_sub(1).min(bits - 1);
    let sign = ty.is_signed() && length > 0 && a >> sign_bit & 1 == 1;
    let field = if position < bits { a >> position } else { 0 };
    let kept = last.saturating_sub(position);
    let low = if kept >= 64 { u64::MAX } else { (1 << kept) - 1 };
    let high = if sign { !low } else { 0 };
    (field & low | high) & ty.mask()
}

/// `into` with `length` bits from `position` replaced by the low ones of `bits`.
pub fn insert(ty: Type, bits: u64, into: u64, position: u64, length: u64) -> u64 {
    let (position, length) = (position & 0xFF, length & 0xFF);
    let ones = if length >= 64 { u64::MAX } else { (1 << length) - 1 };
    let field = if position < 64 { ones << position } else { 0 };
    let moved = if position < 64 { bits << position } else { 0 };
    (into & !field | moved & field) & ty.mask()
}

/// Four bytes chosen from the eight of `b` and `a`, each perhaps as its sign alone.
fn permute(a: u64, b: u64, selector: u64) -> u64 {
    let bytes = b << 32 | a;
    let mut result = 0;
    for place in 0..4 {
        let choice = selector >> (4 * place);
        let byte = bytes >> (8 * (choice & 7)) & 0xFF;
        let sign_only = choice & 8 != 0;
        let byte = match sign_only {
            true if byte & 0x80 != 0 => 0xFF,
            true => 0,
            false => byte,
        };
        result |= byte << (8 * place);
    }
    result
}

/// `bfe` and `prmt`.
pub fn ternary(op: Ternary, ty: Type, a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
    match op {
        Ternary::ExtractBits => map3(a, b, c, |a, b, c| extract(ty, a, b, c)),
        _ => map3(a, b, c, permute),
    }
}

#[cfg(test)]
mod tests {
    use super::{extract, insert, permute};
    use crate::ptx::types::Type;

    #[test]
    fn fields() {
        assert_eq!(extract(Type::U32, 0xABCD_1234, 8, 8), 0x12);
        assert_eq!(extract(Type::S32, 0xABCD_9234, 8, 8), 0xFFFF_FF92);
        assert_eq!(extract(Type::S32, 0x8000_0000, 28, 20), 0xFFFF_FFF8);
        assert_eq!(extract(Type::U32, 0xFFFF_FFFF, 0, 0), 0);
        assert_eq!(extract(Type::U32, 0xFFFF_FFFF, 40, 4), 0);
        assert_eq!(extract(Type::U64, u64::MAX, 0, 64), u64::MAX);
        assert_eq!(insert(Type::B32, 0xFF, 0x1234_5678, 8, 8), 0x1234_FF78);
        assert_eq!(insert(Type::B32, 0xFF, 0x1234_5678, 28, 8), 0xF234_5678);
        assert_eq!(insert(Type::B64, 0, u64::MAX, 0, 64), 0);
        assert_eq!(permute(0x3322_1100, 0x7766_5544, 0x7531), 0x7755_3311);
        assert_eq!(permute(0x0000_8000, 0, 0x0091), 0xFF80);
        assert_eq!(permute(0x0000_8000, 0, 0x0019), 0x80FF);
    }
}

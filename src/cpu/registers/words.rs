//! What codes are as words of 16 bits: the upper halves of the f32s that they stand for.
#![forbid(unsafe_code)]

use crate::codes::nibbles::{FRACTION, decode_signed, decode_unsigned};
use crate::codes::{DROPPED, Taper};

/// Bits of the upper half of an f32 that a code of 8 bits drops, and one of 4 bits.
pub const DROPPED_OF_WORD: u32 = DROPPED - 16;
pub const FRACTION_OF_WORD: u32 = FRACTION - 16;

/// The bias of a code, as it is in words.
pub const fn bias<const TOP: u32>() -> i16 {
    (Taper::<TOP>::BIAS << DROPPED_OF_WORD) as i16
}

/// The upper half of the knee; the lower one is 0.
pub const fn knee<const TOP: u32>() -> i16 {
    assert!(Taper::<TOP>::KNEE & 0xffff == 0);
    (Taper::<TOP>::KNEE >> 16) as i16
}

/// A byte of what each code of 4 bits stands for: the lower or the upper one of the word.
pub type Table = [u8; 16];

pub const SIGNED: [Table; 2] = tables(true);
pub const UNSIGNED: [Table; 2] = tables(false);

const fn tables(is_signed: bool) -> [Table; 2] {
    let mut tables = [[0; 16]; 2];
    let mut code = 0;
    while code < 16 {
        let value = if is_signed { decode_signed(code) } else { decode_unsigned(code) };
        let bits = value.to_bits();
        assert!(bits & 0xffff == 0);
        tables[0][code as usize] = (bits >> 16) as u8;
        tables[1][code as usize] = (bits >> 24) as u8;
        code += 1;
    }
    tables
}

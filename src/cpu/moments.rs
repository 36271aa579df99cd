//! A block of a moment in the compute type, out of what it is stored in and back.
#![forbid(unsafe_code)]

use super::isa::{Compute, Isa};
use super::noise::Source;
use super::rows::Room;
use crate::philox::Which;
use crate::tensor::Moment;

/// Which moment: each is rounded in its own way.
///
/// A first moment moves by a tenth of what is new, and is rounded to nearest. A second moment moves
/// by a thousandth, which rounding to nearest would lose again and again, so that it is rounded at
/// random. The largest second moment stays, and is rounded to nearest.
#[derive(Clone, Copy)]
pub enum Kind {
    First,
    Second,
    Largest,
}

impl Kind {
    /// The elements in the compute type, in `room` if they have to be put somewhere.
    pub fn open<'s, T: Compute>(
        self,
        isa: &Isa,
        moment: &'s mut Moment<T>,
        room: &'s mut Room<T>,
    ) -> &'s mut [T] {
        match moment {
            Moment::Full(moment) => moment,
            Moment::Bf16(stored) => {
                let wide = &mut room.get()[..stored.len()];
                isa.widen_bf16(stored, T::f32s(wide));
                wide
            }
            Moment::Codes(codes, scales) => {
                let wide = &mut room.get()[..codes.len()];
                match self {
                    Kind::First => isa.decode_signed(codes, scales, T::f32s(wide)),
                    _ => isa.decode_unsigned(codes, scales, T::f32s(wide)),
                }
                wide
            }
        }
    }

    /// Stores what `open` gave and has changed since, in the same room.
    pub fn close<T: Compute>(
        self,
        isa: &Isa,
        moment: &mut Moment<T>,
        noise: &mut Source,
        room: &mut Room<T>,
    ) {
        match moment {
            Moment::Full(_) => {}
            Moment::Bf16(stored) => {
                let n = stored.len();
                let wide = T::f32s(&mut room.get()[..n]);
                match self {
                    Kind::Second => {
                        isa.narrow_randomly(wide, noise.bits(Which::ExpAvgSq, n), stored)
                    }
                    _ => isa.narrow_bf16(wide, stored),
                }
            }
            Moment::Codes(codes, scales) => {
                let n = codes.len();
                let wide = T::f32s(&mut room.get()[..n]);
                match self {
                    Kind::First => isa.encode_signed(wide, codes, scales),
                    Kind::Second => {
                        let noise = noise.bits(Which::ExpAvgSq, n);
                        isa.encode_unsigned_randomly(wide, noise, codes, scales)
                    }
                    Kind::Largest => isa.encode_unsigned(wide, codes, scales),
                }
            }
        }
    }
}

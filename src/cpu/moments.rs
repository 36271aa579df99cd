//! A block of moments: stepped by one loop where both are codes (`step_coded`, and
//! `step_coded_split` for split masters); otherwise each is widened to the compute type (`open`),
//! and stored again (`close`).
#![forbid(unsafe_code)]

use super::block::BufferPart;
use super::coded::{Codes, SplitMaster};
use super::compute::Compute;
use super::isa::Isa;
use crate::dtype::Bf16;
use crate::math::StepScalars;
use crate::noise::{Noise, NoiseStream, Source};
use crate::tensor::{Moment, StateOf};

/// The moments, each of which is rounded in its own way.
///
/// A first moment moves by a tenth of its distance to the gradient, and is rounded to nearest. A
/// second moment moves by a thousandth, which rounding to nearest would lose again and again, so
/// that it is rounded at random. The largest second moment only rises, and is rounded to nearest.
/// The codes of 4 bits are so far apart that a first moment, too, is rounded at random: rounded to
/// nearest, it would never move while its gradient is 0.
#[derive(Clone, Copy)]
pub enum MomentKind {
    First,
    Second,
    Largest,
}

impl MomentKind {
    /// Returns the `n` elements in the compute type: themselves, or widened into `buffer`.
    pub fn open<'s, T: Compute>(
        self,
        isa: &Isa,
        n: usize,
        moment: &'s mut Moment<T>,
        buffer: &'s mut BufferPart<T>,
    ) -> &'s mut [T] {
        match moment {
            Moment::Full(moment) => moment,
            Moment::Bf16(stored) => {
                let wide = &mut buffer.get()[..n];
                isa.widen_bf16(stored, T::f32s(wide));
                wide
            }
            Moment::Bytes(codes, scales) => {
                let wide = &mut buffer.get()[..n];
                match self {
                    MomentKind::First => isa.decode_signed(codes, scales, T::f32s(wide)),
                    _ => isa.decode_unsigned(codes, scales, T::f32s(wide)),
                }
                wide
            }
            Moment::Nibbles(codes, scales) => {
                let wide = &mut buffer.get()[..n];
                isa.decode_signed_nibbles(codes, scales, T::f32s(wide)); // only exp_avg is opened
                wide
            }
        }
    }

    /// Stores the elements that `open` returned, from the same buffer, after they were changed.
    pub fn close<T: Compute>(
        self,
        isa: &Isa,
        n: usize,
        moment: &mut Moment<T>,
        random: Option<Source>,
        buffer: &mut BufferPart<T>,
    ) {
        match moment {
            Moment::Full(_) => {}
            Moment::Bf16(stored) => {
                let wide = T::f32s(&mut buffer.get()[..n]);
                match self {
                    MomentKind::Second => {
                        isa.narrow_randomly(wide, noise(random, NoiseStream::ExpAvgSq), stored)
                    }
                    _ => isa.narrow_bf16(wide, stored),
                }
            }
            Moment::Bytes(codes, scales) => {
                let wide = T::f32s(&mut buffer.get()[..n]);
                match self {
                    MomentKind::First => isa.encode_signed(wide, codes, scales),
                    MomentKind::Second => {
                        let noise = noise(random, NoiseStream::ExpAvgSq);
                        isa.encode_unsigned_randomly(wide, noise, codes, scales)
                    }
                    MomentKind::Largest => isa.encode_unsigned(wide, codes, scales),
                }
            }
            Moment::Nibbles(..) => unreachable!("Format::new admits no 4-bit amsgrad"),
        }
    }
}

/// Returns whether the moments are codes, which `step_coded` steps.
pub fn are_stepped_as_codes<T>(state: &StateOf<T>) -> bool {
    state.max_exp_avg_sq.is_none()
        && matches!(state.exp_avg, Moment::Bytes(..) | Moment::Nibbles(..))
}

/// Steps elements whose moments are codes as few blocks: as far as their random bits go. `first` is
/// the number of the first element, for which `random` is.
pub fn step_all_coded<T: Compute>(
    isa: &Isa,
    scalars: &StepScalars<f32>,
    (param, grad): (&mut [f32], &[f32]),
    state: &mut StateOf<T>,
    (random, first): (Option<Source>, u64),
    wide: &mut (BufferPart<T>, BufferPart<T>),
) {
    let mut start = 0;
    while start < param.len() {
        let at = Source::part(first, start, param.len());
        let operands = (&mut param[at.clone()], &grad[at.clone()]);
        let moments = [&mut state.exp_avg.part(at.clone()), &mut state.exp_avg_sq.part(at.clone())];
        let random = random.map(|random| random.from(first + start as u64));
        step_coded(isa, scalars, operands, moments, random, (&mut wide.0, &mut wide.1));
        start = at.end;
    }
}

/// Steps a block whose moments are both codes, without amsgrad. What is in `wide` is lost.
pub fn step_coded<T: Compute>(
    isa: &Isa,
    scalars: &StepScalars<f32>,
    (param, grad): (&mut [f32], &[f32]),
    moments: [&mut Moment<T>; 2],
    random: Option<Source>,
    (wide, other): (&mut BufferPart<T>, &mut BufferPart<T>),
) {
    let noise = |stream| noise(random, stream);
    let wide = T::f32s(wide.get());
    match moments {
        [Moment::Bytes(codes0, scales0), Moment::Bytes(codes1, scales1)] => {
            let moments = [(codes0, scales0), (codes1, scales1)]
                .map(|(codes, scales)| Codes { codes, scales });
            let noise = noise(NoiseStream::ExpAvgSq);
            let wide = [wide, T::f32s(other.get())];
            isa.update_bytes(scalars, param, grad, moments, noise, wide);
        }
        [Moment::Nibbles(codes0, scales0), Moment::Nibbles(codes1, scales1)] => {
            let moments = [(codes0, scales0), (codes1, scales1)]
                .map(|(codes, scales)| Codes { codes, scales });
            let noise = [NoiseStream::ExpAvg, NoiseStream::ExpAvgSq].map(noise);
            isa.update_nibbles(scalars, param, grad, moments, noise, wide);
        }
        _ => unreachable!("Format::new gives both moments one format"),
    }
}

/// Steps whole blocks of split masters whose moments are both codes, without amsgrad; `None` if the
/// instruction set has no loop for them. What is in `wide` is lost.
pub fn step_coded_split(
    isa: &Isa,
    scalars: &StepScalars<f32>,
    (master, grad): (SplitMaster, &[Bf16]),
    moments: [&mut Moment<f32>; 2],
    random: Option<Source>,
    [wide, other]: [&mut [f32]; 2],
) -> Option<()> {
    let noise = |stream| noise(random, stream);
    match moments {
        [Moment::Bytes(codes0, scales0), Moment::Bytes(codes1, scales1)] => {
            let moments = [(codes0, scales0), (codes1, scales1)]
                .map(|(codes, scales)| Codes { codes, scales });
            let noise = noise(NoiseStream::ExpAvgSq);
            isa.update_split_bytes(scalars, master, grad, moments, noise, [wide, other])
        }
        [Moment::Nibbles(codes0, scales0), Moment::Nibbles(codes1, scales1)] => {
            let moments = [(codes0, scales0), (codes1, scales1)]
                .map(|(codes, scales)| Codes { codes, scales });
            let noise = [NoiseStream::ExpAvg, NoiseStream::ExpAvgSq].map(noise);
            isa.update_split_nibbles(scalars, master, grad, moments, noise, wide)
        }
        _ => unreachable!("Format::new gives both moments one format"),
    }
}

/// Returns the number of elements that have a momentum and are what they were before.
#[inline(never)]
pub fn n_unchanged<T: Compute>(before: &[T], after: &[T], exp_avg: &[T]) -> u64 {
    let pairs = before.iter().zip(after).zip(exp_avg);
    pairs.filter(|((before, after), exp_avg)| before == after && **exp_avg != T::ZERO).count()
        as u64
}

fn noise(random: Option<Source>, stream: NoiseStream) -> Noise {
    random.map(|random| random.noise(stream)).unwrap_or_default()
}

//! The step of 16-bit parameters that one loop takes.
#![forbid(unsafe_code)]

use super::coded::SplitMaster;
use super::isa::Isa;
use super::moments;
use super::space::{Blocks, Space};
use crate::codes::{self, nibbles};
use crate::dtype::Bf16;
use crate::math::{Scalars, StepScalars};
use crate::noise::Source;
use crate::tensor::{Chunk, Moment, Precise, Slice, SliceMut, State, StateOf};
use core::ops::Range;

/// Steps a chunk whose moments are f32 and whose gradient is of the parameter's own 16-bit type, by
/// scalars that ask for nothing but a loop; `None` if the instruction set has no such loop for it.
#[inline(never)] // so that other steps do without its frame
pub fn step(isa: &Isa, scalars: &StepScalars<f32>, chunk: &mut Chunk) -> Option<()> {
    let Chunk { rows: None, change: None, param, grad, state, .. } = chunk else { return None };
    let State::F32(StateOf {
        exp_avg: Moment::Full(first),
        exp_avg_sq: Moment::Full(second),
        max_exp_avg_sq: None,
        precise,
    }) = state
    else {
        return None;
    };
    match (param, grad, precise) {
        (SliceMut::F16(param), Slice::F16(grad), Precise::Nothing) => {
            isa.update_f16(scalars, param, grad, first, second)
        }
        (SliceMut::Bf16(param), Slice::Bf16(grad), Precise::Nothing) => {
            isa.update_bf16(scalars, param, grad, first, second)
        }
        (SliceMut::F16(param), Slice::F16(grad), Precise::Master(master)) => {
            isa.update_master_f16(scalars, param, master, grad, first, second)
        }
        (SliceMut::Bf16(param), Slice::Bf16(grad), Precise::Master(master)) => {
            isa.update_master_bf16(scalars, param, master, grad, first, second)
        }
        (SliceMut::Bf16(param), Slice::Bf16(grad), Precise::Split(remainder)) => {
            isa.update_split(scalars, param, remainder, grad, first, second)
        }
        (SliceMut::F16(param), Slice::F16(grad), Precise::Kahan(rest)) => {
            isa.update_kahan_f16(scalars, param, rest, grad, first, second)
        }
        (SliceMut::Bf16(param), Slice::Bf16(grad), Precise::Kahan(rest)) => {
            isa.update_kahan_bf16(scalars, param, rest, grad, first, second)
        }
        _ => None,
    }
}

/// Steps a chunk of split masters whose moments are codes, by scalars that ask for nothing but a
/// loop; `None` if the instruction set has no such loop for it.
#[inline(never)] // as `step`
pub fn step_coded(
    isa: &Isa,
    scalars: &Scalars,
    chunk: &mut Chunk,
    space: &mut Space,
) -> Option<()> {
    let Chunk { rows: None, change: None, random, param, grad, state, .. } = chunk else {
        return None;
    };
    let (SliceMut::Bf16(param), Slice::Bf16(grad)) = (param, grad) else { return None };
    let State::F32(state) = state else { return None };
    let block = match state {
        StateOf { max_exp_avg_sq: Some(_), .. } => return None,
        StateOf { exp_avg: Moment::Bytes(..), precise: Precise::Split(_), .. } => codes::BLOCK,
        StateOf { exp_avg: Moment::Nibbles(..), precise: Precise::Split(_), .. } => nibbles::BLOCK,
        _ => return None,
    };
    let (of_f32, blocks) = (&scalars.f32, space.f32());
    let (key, first) = random.unzip();
    let first = first.unwrap_or(0);
    let mut start = 0;
    while start < param.len() {
        let at = Source::part(first, start, param.len());
        let whole = at.end - at.len() % block;
        let random = |start| key.map(|key| key.at(scalars.step, first + start as u64));
        step_blocks(isa, of_f32, (param, grad), state, at.start..whole, random(start), blocks)?;
        if whole < at.end {
            step_rest(isa, of_f32, (param, grad), state, whole..at.end, random(whole), blocks);
        }
        start = at.end;
    }
    Some(())
}

/// Steps whole blocks of codes.
fn step_blocks(
    isa: &Isa,
    scalars: &StepScalars<f32>,
    (param, grad): (&mut [Bf16], &[Bf16]),
    state: &mut StateOf<f32>,
    at: Range<usize>,
    random: Option<Source>,
    blocks: &mut Blocks<f32>,
) -> Option<()> {
    let StateOf { mut exp_avg, mut exp_avg_sq, precise, .. } = state.part(at.clone());
    let Precise::Split(remainder) = precise else { return None };
    let master = SplitMaster { upper: &mut param[at.clone()], remainder };
    let (mut wide, mut other) = (blocks.exp_avg.whole(), blocks.narrow.1.whole());
    let (moments, wide) = ([&mut exp_avg, &mut exp_avg_sq], [wide.get(), other.get()]);
    moments::step_coded_split(isa, scalars, (master, &grad[at]), moments, random, wide)
}

/// Steps what is less than a block of codes.
#[inline(never)] // so that whole blocks are stepped on a smaller stack
fn step_rest(
    isa: &Isa,
    scalars: &StepScalars<f32>,
    (param, grad): (&mut [Bf16], &[Bf16]),
    state: &mut StateOf<f32>,
    at: Range<usize>,
    random: Option<Source>,
    blocks: &mut Blocks<f32>,
) {
    let StateOf { mut exp_avg, mut exp_avg_sq, precise, .. } = state.part(at.clone());
    let Precise::Split(remainder) = precise else { return };
    let (param, grad) = (&mut param[at.clone()], &grad[at]);
    let (narrow, exp_avg_sq_buffer) = &mut blocks.narrow;
    let (mut wide, mut wide_grad) = (narrow.whole(), blocks.grad.whole());
    let (wide, wide_grad) = (&mut wide.get()[..param.len()], &mut wide_grad.get()[..param.len()]);
    isa.join(param, remainder, wide);
    isa.widen_bf16(grad, wide_grad);
    let (moments, operands) = ([&mut exp_avg, &mut exp_avg_sq], (&mut *wide, &*wide_grad));
    let buffers = (&mut blocks.exp_avg.whole(), &mut exp_avg_sq_buffer.whole());
    moments::step_coded(isa, scalars, operands, moments, random, buffers);
    isa.split(wide, param, remainder);
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::config::IsaCap;
    use crate::cpu::convert::{GROUP, Half};
    use crate::dtype::{self, Bf16, Bits, F16, Narrow, Widen};
    use crate::math::{Element, adamw};

    fn scalars(decay: f32, step_size: f32) -> StepScalars<f32> {
        StepScalars {
            grad_scale: 0.5,
            one_minus_beta1: 0.1,
            one_minus_beta2: 0.001,
            inv_sqrt_bias_correction2: 1.5,
            eps: 1e-8,
            lr_weight_decay: decay,
            step_size,
            forgets: false,
            preparation: None,
        }
    }

    /// Bits of f32s: of all signs and exponents, next to ties between 16-bit floats, infinite and
    /// NaN.
    fn wide_bits(i: usize) -> u32 {
        let upper = (i as u32) << 16;
        const LOWER: [u32; 8] = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff, 0x1000, 0x3000];
        upper | LOWER[i / 7 % 8]
    }

    /// Steps elements by every instruction set, each kept as `open` and `close` say, and holds all
    /// bits against those of one element after the other.
    fn holds<S, R, F>(
        step: F,
        first: impl Fn(usize) -> (S, R),
        open: impl Fn(S, R) -> f32,
        close: impl Fn(f32) -> (S, R),
    ) where
        S: Half + Bits,
        R: Copy + PartialEq + core::fmt::Debug,
        F: Fn(&Isa, &StepScalars<f32>, &mut [S], &mut [R], &[S], [&mut [f32]; 2]) -> Option<()>,
    {
        const ALL: usize = 1 << 16;
        let short = [0, 1, 15, 16, 31, 32, 33, 47, 48, GROUP - 1];
        let cases = short.into_iter().chain([GROUP, 2 * GROUP + 1, ALL + GROUP / 2]);
        // Without either the parameter is rounded as it is; three quarters of one are often ties.
        let rates = [(0.0, 0.0), (1e-5, 1e-3), (0.25, 0.0)];
        for (n, (decay, step_size)) in cases.flat_map(|n| rates.map(|rates| (n, rates))) {
            let scalars = scalars(decay, step_size);
            let grad = |i: usize| match step_size == 0.0 {
                true => S::from_bits(i as u16 & 0x3fff),
                false => S::from_bits(i as u16),
            };
            let grads: Vec<S> = (0..n).map(grad).collect();
            let (params, rests): (Vec<S>, Vec<R>) = (0..n).map(&first).unzip();
            for isa in Isa::available() {
                let (mut params, mut rests) = (params.clone(), rests.clone());
                let (mut exp_avg, mut exp_avg_sq) = (vec![0.25; n], vec![1e-3; n]);
                let moments = [&mut exp_avg[..], &mut exp_avg_sq[..]];
                let stepped = step(isa, &scalars, &mut params, &mut rests, &grads, moments);
                if stepped.is_none() {
                    assert_eq!(isa.cap, IsaCap::Portable);
                    continue;
                }
                for i in 0..n {
                    let (param, rest) = first(i);
                    let before = Element {
                        param: open(param, rest),
                        exp_avg: 0.25,
                        exp_avg_sq: 1e-3,
                        max_exp_avg_sq: 0.0,
                    };
                    let after = adamw::<f32, false>(&scalars, before, grads[i].widen());
                    let (param, rest) = close(after.param);
                    let moments = [after.exp_avg, after.exp_avg_sq].map(f32::to_bits);
                    let got = (params[i].to_bits(), rests[i]);
                    let of =
                        format!("{:?}, element {i} of {n}, rates {decay}, {step_size}", isa.cap);
                    assert_eq!(got, (param.to_bits(), rest), "{of}");
                    assert_eq!([exp_avg[i], exp_avg_sq[i]].map(f32::to_bits), moments, "{of}");
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_steps_16_bit_parameters_as_one_element_is_stepped() {
        holds(
            |isa, s, p, _, g, [m, v]| isa.update_f16(s, p, g, m, v),
            |i| (F16((i * 40_503) as u16), ()),
            |param, ()| param.widen(),
            |wide| (F16::narrow(wide), ()),
        );
        holds(
            |isa, s, p, _, g, [m, v]| isa.update_bf16(s, p, g, m, v),
            |i| (Bf16((i * 40_503) as u16), ()),
            |param, ()| param.widen(),
            |wide| (Bf16::narrow(wide), ()),
        );
    }

    #[test]
    fn every_instruction_set_steps_masters_as_one_element_is_stepped() {
        holds(
            |isa, s, p, master, g, [m, v]| {
                let mut wide: Vec<f32> = master.iter().map(|bits| f32::from_bits(*bits)).collect();
                isa.update_master_f16(s, p, &mut wide, g, m, v)?;
                master.iter_mut().zip(wide).for_each(|(bits, wide)| *bits = wide.to_bits());
                Some(())
            },
            |i| (F16(0), wide_bits(i)),
            |_, master| f32::from_bits(master),
            |wide| (F16::narrow(wide), wide.to_bits()),
        );
        holds(
            |isa, s, p, master, g, [m, v]| {
                let mut wide: Vec<f32> = master.iter().map(|bits| f32::from_bits(*bits)).collect();
                isa.update_master_bf16(s, p, &mut wide, g, m, v)?;
                master.iter_mut().zip(wide).for_each(|(bits, wide)| *bits = wide.to_bits());
                Some(())
            },
            |i| (Bf16(0), wide_bits(i)),
            |_, master| f32::from_bits(master),
            |wide| (Bf16::narrow(wide), wide.to_bits()),
        );
    }

    #[test]
    fn every_instruction_set_steps_split_masters_as_one_element_is_stepped() {
        holds(
            |isa, s, p, remainder, g, [m, v]| isa.update_split(s, p, remainder, g, m, v),
            |i| (Bf16(i as u16), wide_bits(i) as i16),
            dtype::join,
            dtype::split,
        );
    }

    #[test]
    fn every_instruction_set_steps_compensated_parameters_as_one_element_is_stepped() {
        // The bits of a number of about a 256th, and a few of all others.
        let rest = |i: usize| if i.is_multiple_of(5) { i as u16 } else { i as u16 & 0x83ff };
        holds(
            |isa, s, p, rest, g, [m, v]| isa.update_kahan_f16(s, p, rest, g, m, v),
            |i| (F16((i * 40_503) as u16), rest(i)),
            |param, rest| param.widen() + F16(rest).widen(),
            |wide| {
                let (param, rest) = dtype::compensated::<F16>(wide);
                (param, rest.0)
            },
        );
        holds(
            |isa, s, p, rest, g, [m, v]| isa.update_kahan_bf16(s, p, rest, g, m, v),
            |i| (Bf16((i * 40_503) as u16), rest(i)),
            |param, rest| param.widen() + Bf16(rest).widen(),
            |wide| {
                let (param, rest) = dtype::compensated::<Bf16>(wide);
                (param, rest.0)
            },
        );
    }
}

//! Each instruction set's own way to step codes makes the bits of the portable one.

use super::Codes;
use crate::codes::{BLOCK, nibbles};
use crate::cpu::isa::Isa;
use crate::math::StepScalars;
use crate::noise::{Key, NoiseStream};

/// A source of bits that are the same in each run.
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 32) as u32
    }
}

/// Kinds of numbers, which come in runs of about two blocks.
fn number(kind: usize, bits: u32) -> f32 {
    let small = bits as f32 / u32::MAX as f32 - 0.5;
    match kind % 10 {
        0..4 => small,
        4 => small * small * small * 1e-3,
        5 => f32::from_bits(bits), // any at all: NaN with any sign and rest, infinite, subnormal
        6 => f32::from_bits(bits & 0x80ff_ffff),
        7 => f32::from_bits(bits & 0x8000_0000),
        8 => small * 1e38,
        _ => small * 1e-22,
    }
}

struct State {
    param: Vec<f32>,
    codes: [Vec<u8>; 2],
    scales: [Vec<f32>; 2],
}

impl State {
    /// Everything as numbers to be compared: a NaN is a NaN, whatever its other bits.
    fn words(&self) -> Vec<u32> {
        let floats = self.param.iter().chain(self.scales.iter().flatten());
        let words = floats.map(|float| if float.is_nan() { u32::MAX } else { float.to_bits() });
        words.chain(self.codes.iter().flatten().map(|code| u32::from(*code))).collect()
    }
}

fn scalars(forgets: bool) -> StepScalars<f32> {
    StepScalars {
        grad_scale: 1.0,
        one_minus_beta1: 0.1,
        one_minus_beta2: 0.001,
        inv_sqrt_bias_correction2: 3.0,
        eps: 1e-8,
        lr_weight_decay: 1e-5,
        step_size: 0.001,
        forgets,
        preparation: None,
    }
}

/// Three steps from random codes, the second of which forgets.
fn stepped(isa: &Isa, n: usize, in_bytes: bool, seed: u64) -> Vec<u32> {
    let mut bits = Bits(seed);
    let block = if in_bytes { BLOCK } else { nibbles::BLOCK };
    let n_codes = if in_bytes { n } else { n.div_ceil(block) * nibbles::BYTES };
    let mut codes = || (0..n_codes).map(|_| (bits.next() >> 9) as u8).collect::<Vec<_>>();
    let codes = [codes(), codes()];
    let mut floats = |n: usize, run: usize| {
        let kind = bits.next() as usize;
        (0..n).map(|i| number(kind + i / run, bits.next())).collect::<Vec<_>>()
    };
    let param = floats(n, 700);
    let scales = [floats(n.div_ceil(block), 1), floats(n.div_ceil(block), 1)];
    let scales = scales.map(|scales| scales.into_iter().map(f32::abs).collect());
    let mut state = State { param, codes, scales };
    let mut wide = [[0.0; 2 * BLOCK]; 2];
    for (step, forgets) in [(1, false), (2, true), (3, false)] {
        let grad = floats(n, 600);
        let noise = |stream| Key::new(7, b"w").at(step, 256).noise(stream);
        let [first, second] = &mut state.codes;
        let [of_first, of_second] = &mut state.scales;
        let moments =
            [Codes { codes: first, scales: of_first }, Codes { codes: second, scales: of_second }];
        let [wide, other] = &mut wide;
        if in_bytes {
            let noise = noise(NoiseStream::ExpAvgSq);
            let wide: [&mut [f32]; 2] = [wide, other];
            isa.update_bytes(&scalars(forgets), &mut state.param, &grad, moments, noise, wide);
        } else {
            let noise = [NoiseStream::ExpAvg, NoiseStream::ExpAvgSq].map(noise);
            isa.update_nibbles(&scalars(forgets), &mut state.param, &grad, moments, noise, wide);
        }
    }
    state.words()
}

#[test]
fn codes_of_any_numbers_are_those_of_the_portable_loops() {
    let portable = Isa::available().next().unwrap();
    for isa in Isa::available() {
        for in_bytes in [true, false] {
            for n in [1, 63, 64, 127, 128, 255, 256, 257, 512, 513, 1024, 1300, 8192, 8200] {
                for seed in 0..20 {
                    let [ours, theirs] = [isa, portable].map(|isa| stepped(isa, n, in_bytes, seed));
                    let same = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
                    assert_eq!(same, None, "{:?}: {n} elements, seed {seed}", isa.cap);
                }
            }
        }
    }
}

//! Each instruction set's own way to step codes makes the bits of the portable one.

use super::{Codes, SplitMaster};
use crate::codes::{BLOCK, nibbles};
use crate::config::IsaCap;
use crate::cpu::isa::Isa;
use crate::dtype::{Bf16, Widen, join, split};
use crate::math::StepScalars;
use crate::noise::{Key, Noise, NoiseStream};

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
    match kind % 11 {
        0..4 => small,
        4 => small * small * small * 1e-3,
        5 => f32::from_bits(bits), // any at all: NaN with any sign and rest, infinite, subnormal
        6 => f32::from_bits(bits & 0x80ff_ffff),
        7 => f32::from_bits(bits & 0x8000_0000),
        8 => small * 1e38,
        9 => f32::from_bits(bits & 0x8000_0001), // what a step rounds to 0 with a sign
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

fn noise(step: u64) -> [Noise; 2] {
    [NoiseStream::ExpAvg, NoiseStream::ExpAvgSq]
        .map(|stream| Key::new(7, b"w").at(step, 256).noise(stream))
}

fn floats(bits: &mut Bits, n: usize, run: usize) -> Vec<f32> {
    let kind = bits.next() as usize;
    (0..n).map(|i| number(kind + i / run, bits.next())).collect()
}

impl State {
    fn random(bits: &mut Bits, n: usize, in_bytes: bool) -> State {
        let block = if in_bytes { BLOCK } else { nibbles::BLOCK };
        let n_codes = if in_bytes { n } else { n.div_ceil(block) * nibbles::BYTES };
        let mut codes = || (0..n_codes).map(|_| (bits.next() >> 9) as u8).collect::<Vec<_>>();
        let codes = [codes(), codes()];
        let param = floats(bits, n, 700);
        let scales = [0, 1].map(|_| floats(bits, n.div_ceil(block), 1));
        let scales = scales.map(|scales| scales.into_iter().map(f32::abs).collect());
        State { param, codes, scales }
    }

    fn step(
        &mut self,
        isa: &Isa,
        scalars: &StepScalars<f32>,
        grad: &[f32],
        in_bytes: bool,
        noise: [Noise; 2],
    ) {
        let [wide, other] = &mut [[0.0; 2 * BLOCK]; 2];
        let moments = coded(&mut self.codes, &mut self.scales);
        if in_bytes {
            let wide: [&mut [f32]; 2] = [wide, other];
            isa.update_bytes(scalars, &mut self.param, grad, moments, noise[1], wide);
        } else {
            isa.update_nibbles(scalars, &mut self.param, grad, moments, noise, wide);
        }
    }

    /// Takes a step with the halves of the parameters; `None` if there is no loop for that.
    fn split_step(&mut self, isa: &Isa, grad: &[Bf16], in_bytes: bool) -> Option<()> {
        let [wide, other] = &mut [[0.0; 2 * BLOCK]; 2];
        let (mut upper, mut remainder): (Vec<_>, Vec<_>) =
            self.param.iter().map(|param| split(*param)).unzip();
        let master = SplitMaster { upper: &mut upper, remainder: &mut remainder };
        let (scalars, moments) = (scalars(false), coded(&mut self.codes, &mut self.scales));
        if in_bytes {
            let wide: [&mut [f32]; 2] = [wide, other];
            isa.update_split_bytes(&scalars, master, grad, moments, noise(1)[1], wide)?;
        } else {
            isa.update_split_nibbles(&scalars, master, grad, moments, noise(1), wide)?;
        }
        self.param =
            upper.into_iter().zip(remainder).map(|(upper, rest)| join(upper, rest)).collect();
        Some(())
    }
}

fn coded<'a>(codes: &'a mut [Vec<u8>; 2], scales: &'a mut [Vec<f32>; 2]) -> [Codes<'a>; 2] {
    let ([first, second], [of_first, of_second]) = (codes, scales);
    [Codes { codes: first, scales: of_first }, Codes { codes: second, scales: of_second }]
}

/// Three steps from random codes, the second of which forgets.
fn stepped(isa: &Isa, n: usize, in_bytes: bool, seed: u64) -> Vec<u32> {
    let mut bits = Bits(seed);
    let mut state = State::random(&mut bits, n, in_bytes);
    for (step, forgets) in [(1, false), (2, true), (3, false)] {
        let grad = floats(&mut bits, n, 600);
        state.step(isa, &scalars(forgets), &grad, in_bytes, noise(step));
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

#[test]
fn what_is_more_than_1_beside_its_scale_has_the_largest_code_whatever_the_noise() {
    // The reciprocal is subnormal, and so rounded that the product is more than 1.
    let mut scales = (0x7f00_0000..).map(f32::from_bits);
    let scale = scales.find(|scale| scale * (1.0 / scale) > 1.0).unwrap();
    let still = StepScalars { one_minus_beta1: 0.0, one_minus_beta2: 0.0, ..scalars(false) };
    const N: usize = 8192;
    for (isa, moment) in Isa::available().flat_map(|isa| [(isa, 0), (isa, 1)]) {
        let rounds_up = |step: &u64| {
            let noise = noise(*step)[moment];
            (0..N as u32).any(|place| noise.word(place) >= u32::MAX << 9)
        };
        let noise = noise((0..).find(rounds_up).unwrap());
        for (in_bytes, largest) in [(true, [127, 255]), (false, [0x77, 0xff])] {
            let n_codes = if in_bytes { N } else { N / 2 };
            let codes = largest.map(|code| vec![code; n_codes]);
            let scales = [0, 1].map(|_| vec![scale; N / nibbles::BLOCK]);
            let mut state = State { param: vec![0.0; N], codes: codes.clone(), scales };
            state.step(isa, &still, &vec![0.0; N], in_bytes, noise);
            assert_eq!(state.codes, codes, "{:?}, in bytes: {in_bytes}", isa.cap);
        }
    }
}

#[test]
fn split_masters_are_stepped_as_what_they_are_joined_to() {
    let portable = Isa::available().next().unwrap();
    for isa in Isa::available() {
        let cases = [true, false].into_iter().flat_map(|in_bytes| {
            [0, 1, 2, 5, 32]
                .into_iter()
                .flat_map(move |n| (0..20).map(move |seed| (in_bytes, n, seed)))
        });
        for (in_bytes, n_blocks, seed) in cases {
            let n = n_blocks * if in_bytes { BLOCK } else { nibbles::BLOCK };
            let random = || State::random(&mut Bits(seed), n, in_bytes);
            let grad = floats(&mut Bits(seed + 100), n, 600);
            let grad: Vec<Bf16> = grad.into_iter().map(|grad| split(grad).0).collect();
            let mut ours = random();
            if ours.split_step(isa, &grad, in_bytes).is_none() {
                assert_eq!(isa.cap, IsaCap::Portable);
                continue;
            }
            let mut theirs = random();
            let wide: Vec<f32> = grad.iter().map(|grad| grad.widen()).collect();
            theirs.step(portable, &scalars(false), &wide, in_bytes, noise(1));
            let (ours, theirs) = (ours.words(), theirs.words());
            let same = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
            assert_eq!(same, None, "{:?}: {n} elements, seed {seed}", isa.cap);
        }
    }
}

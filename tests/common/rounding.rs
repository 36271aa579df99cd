//! How the library rounds what it stores, written another way: in f64, by value and by search.

use super::array::Dtype;

/// The nearest value of a type.
pub fn nearest(dtype: Dtype, value: f64) -> f64 {
    dtype.value(dtype.nearest(value))
}

/// The bf16 that an f32 rounds to, half away from zero.
pub fn upper_half(value: f64) -> f64 {
    let bits = (value as f32).to_bits() + 0x8000;
    f32::from_bits(bits & 0xffff_0000).into()
}

/// The upper neighbour if `noise`, of 2^32ths, reaches over the rest of the way to it.
fn between(lower: f64, upper: f64, value: f64, noise: u32) -> f64 {
    let part = (value - lower) / (upper - lower);
    if part + f64::from(noise) / 2f64.powi(32) >= 1.0 { upper } else { lower }
}

/// A finite f32 to the bf16 below or above it in magnitude.
pub fn bf16_randomly(value: f64, noise: u32) -> f64 {
    let bits = (value as f32).to_bits() & 0xffff_0000;
    let [lower, upper] = [bits, bits + 0x1_0000].map(|bits| f64::from(f32::from_bits(bits)));
    between(lower, upper, value, noise)
}

/// What the codes from 1 on stand for, of a scale of 1, the last: sixteen to an octave for the upper
/// half of them, eight to an octave for the others.
fn magnitudes(n_codes: usize) -> Vec<f64> {
    let mut magnitudes = vec![1.0];
    for octave in 0.. {
        let per_octave = if magnitudes.len() <= n_codes / 2 { 16 } else { 8 };
        let top = (-f64::from(octave)).exp2();
        let parts = (1..=per_octave).map(|i| f64::from(i) / f64::from(2 * per_octave));
        magnitudes.extend(parts.map(|part| top * (1.0 - part)));
        if magnitudes.len() >= n_codes {
            break;
        }
    }
    magnitudes.truncate(n_codes);
    magnitudes.reverse();
    magnitudes
}

/// Which moment it is: each is coded in its own way.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    First,
    Second,
    Largest,
}

/// A moment after it has been stored in 4 bits. `noise` has 32 random bits for each element.
pub fn coded_in_4_bits(kind: Kind, values: &[f64], noise: &[u32]) -> Vec<f64> {
    let octaves = if kind == Kind::First { 6 } else { 14 };
    let powers = (0..=octaves).rev().map(|octave| (-f64::from(octave)).exp2());
    let known: Vec<f64> = [0.0].into_iter().chain(powers).collect();
    let mut stored = Vec::new();
    for (values, noise) in values.chunks(128).zip(noise.chunks(128)) {
        let scale = scale(values);
        for (value, noise) in values.iter().zip(noise) {
            let normal = f64::from(*value as f32 * (1.0 / scale)).abs();
            let above = known.partition_point(|code| *code <= normal);
            let code = match (above, kind) {
                _ if *value == 0.0 => 0.0,
                (0 | 1, Kind::Second) => known[1],
                (above, _) if above == known.len() => 1.0,
                (1, Kind::First) => {
                    // Below the smallest no finer than in the octave above it.
                    let normal = f64::from((normal + known[1]) as f32) - known[1];
                    between(0.0, known[1], normal, *noise)
                }
                (above, _) => between(known[above - 1], known[above], normal, *noise),
            };
            stored.push(f64::from(code as f32 * scale).copysign(*value));
        }
    }
    stored
}

fn scale(block: &[f64]) -> f32 {
    let largest = block.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    (largest as f32).max(f32::MIN_POSITIVE)
}

/// A moment after it has been stored in 8 bits. `noise` has 32 random bits for each element.
pub fn coded(kind: Kind, values: &[f64], noise: &[u32]) -> Vec<f64> {
    let known = magnitudes(if kind == Kind::First { 127 } else { 255 });
    let mut stored = Vec::new();
    for (values, noise) in values.chunks(256).zip(noise.chunks(256)) {
        let scale = scale(values);
        let inverse = 1.0 / scale;
        for (value, noise) in values.iter().zip(noise) {
            let normal = f64::from(*value as f32 * inverse).abs();
            let above = known.partition_point(|code| *code <= normal);
            let code = match (above, kind) {
                _ if *value == 0.0 => 0.0,
                (0, Kind::First) if normal < known[0] * 19.0 / 20.0 => 0.0,
                (0, _) => known[0],
                (above, _) if above == known.len() => 1.0,
                (above, Kind::Second) => between(known[above - 1], known[above], normal, *noise),
                (above, _) => {
                    let [lower, upper] = [known[above - 1], known[above]];
                    if normal - lower < upper - normal { lower } else { upper }
                }
            };
            stored.push(f64::from(code as f32 * scale).copysign(*value));
        }
    }
    stored
}

/// The last function of SplitMix64: products of 128 bits, of which the lower 64 are kept.
fn mix(word: u64) -> u64 {
    let times = |word: u64, by: u128| (u128::from(word) * by) as u64;
    let word = times(word ^ (word >> 30), 0xbf58_476d_1ce4_e5b9);
    let word = times(word ^ (word >> 27), 0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// 2^64 over the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The random bits of one element in a step.
pub struct Noise {
    pub param: u32,
    pub exp_avg: u32,
    pub exp_avg_sq: u32,
}

/// What makes the random bits of a parameter its own.
pub fn key(seed: u64, name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    mix(mix(seed.wrapping_add(GOLDEN)) ^ hash)
}

/// The random bits of a parameter of this name, 32 for each of its tensors.
pub fn noise(seed: u64, name: &str, step: u64, elements: core::ops::Range<u64>) -> Vec<Noise> {
    let of_step = mix(key(seed, name) ^ mix(step.wrapping_add(GOLDEN)));
    let word = |element: u64, tensor: u64| {
        let (upper, lower) = (element >> 32, element & 0xffff_ffff);
        let mixed = mix(of_step.wrapping_add((4 * upper + tensor).wrapping_mul(GOLDEN)));
        let times = |word: u64, by: u64| (word * by) & 0xffff_ffff;
        let word = (lower + mixed) & 0xffff_ffff;
        let word = times(word ^ (word >> 17), 0xed5a_d4bb);
        times(word ^ (word >> 11) ^ (mixed >> 32), 0xac4c_1b51) as u32
    };
    let of = |element| Noise {
        param: word(element, 0),
        exp_avg: word(element, 1),
        exp_avg_sq: word(element, 2),
    };
    elements.map(of).collect()
}

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

/// The upper neighbour if `noise`, of 65,536ths, reaches over the rest of the way to it.
fn between(lower: f64, upper: f64, value: f64, noise: u32) -> f64 {
    let part = (value - lower) / (upper - lower);
    if part + f64::from(noise) / 65_536.0 >= 1.0 { upper } else { lower }
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

/// A moment after it has been stored in 4 bits. `noise` has 16 random bits for each element.
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

/// A moment after it has been stored in 8 bits. `noise` has 16 random bits for each element.
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

/// Philox4x32-10, as the paper's figure has it: two multiplications a round, the words change places.
fn philox(counter: [u64; 4], key: [u64; 2]) -> [u64; 4] {
    const LOW: u64 = 0xffff_ffff;
    (0..10).fold(counter, |c, round| {
        let key = [key[0] + round * 0x9e37_79b9, key[1] + round * 0xbb67_ae85].map(|k| k & LOW);
        let (a, b) = (c[0] * 0xd251_1f53, c[2] * 0xcd9e_8d57);
        [(b >> 32) ^ c[1] ^ key[0], b & LOW, (a >> 32) ^ c[3] ^ key[1], a & LOW]
    })
}

/// The random bits of one element in a step.
pub struct Noise {
    pub param: u32,
    pub exp_avg: u32,
    pub exp_avg_sq: u32,
}

fn halves(word: u64) -> [u64; 2] {
    [word & 0xffff_ffff, word >> 32]
}

/// What makes the random bits of a parameter its own.
pub fn key(seed: u64, name: &str) -> [u64; 2] {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let [name, seed] = [hash, seed].map(halves);
    let key = philox([name[0], name[1], seed[0], seed[1]], [0, 0]);
    [key[0], key[1]]
}

/// The random bits of a parameter of this name, 16 for each of its tensors.
pub fn noise(seed: u64, name: &str, step: u64, elements: core::ops::Range<u64>) -> Vec<Noise> {
    let (step, key) = (halves(step), key(seed, name));
    let bits = |element: u64, tensor: u64| {
        let octet = halves(element / 8);
        let counter = [octet[0], octet[1] + (tensor << 30), step[0], step[1]];
        let words = philox(counter, key);
        (words[(element % 8 / 2) as usize] >> (element % 2 * 16)) as u32 & 0xffff
    };
    let of = |element| Noise {
        param: bits(element, 0),
        exp_avg: bits(element, 1),
        exp_avg_sq: bits(element, 2),
    };
    elements.map(of).collect()
}

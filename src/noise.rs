//! Random bits that are a function of seed, name, tensor, step and element: the same on every
//! machine, for every number of threads and in every shard.
//!
//! A tensor's `Noise` in a step is two words of 32 bits, a strong mix of all but the element
//! (`mix`). The word of an element is the number of the element, mixed with these two by two
//! multiplications, which vectorize. Its upper bits are the best: a rounding takes as many of them
//! as it drops bits. The tests below are those of its quality.
#![forbid(unsafe_code)]

use core::ops::Range;

/// Mixes all bits: the last function of SplitMix64 (Steele, Lea & Flood, "Fast Splittable
/// Pseudorandom Number Generators", OOPSLA 2014), with Stafford's constants.
fn mix(mut word: u64) -> u64 {
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// 2^64 over the golden ratio, which keeps neighbouring numbers apart.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The key of a parameter, which makes its random bits its own.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Key(u64);

impl Key {
    pub fn new(seed: u64, name: &[u8]) -> Key {
        Key(mix(mix(seed.wrapping_add(GOLDEN)) ^ fnv1a(name)))
    }

    /// Returns the key as a device has it.
    pub fn words(self) -> [u32; 2] {
        halves(self.0)
    }

    /// Returns the source of the bits of a step, from an element on.
    pub fn at(self, step: u64, element: u64) -> Source {
        Source { key: mix(self.0 ^ mix(step.wrapping_add(GOLDEN))), element }
    }
}

/// The source of the random bits of a parameter in one step, from an element on.
#[derive(Clone, Copy)]
pub struct Source {
    key: u64,
    element: u64,
}

impl Source {
    /// Returns the source from so many elements further on.
    pub fn from(self, start: u64) -> Source {
        Source { element: self.element + start, ..self }
    }

    /// Returns the noise of a tensor, for the elements of a `part`.
    pub fn noise(self, stream: NoiseStream) -> Noise {
        let number = self.element >> 32 << 2 | stream as u64;
        let [offset, mask] = halves(mix(self.key.wrapping_add(number.wrapping_mul(GOLDEN))));
        Noise { offset: offset.wrapping_add(self.element as u32), mask }
    }

    /// Returns the places from `start` on, at most up to `end`, whose elements have one `Noise`.
    /// `first` is the number of the element at place 0.
    #[inline]
    pub fn part(first: u64, start: usize, end: usize) -> Range<usize> {
        let element = first + start as u64;
        let unbroken = (1 << 32) - u64::from(element as u32);
        start..start + unbroken.min((end - start) as u64) as usize
    }
}

/// The random bits of some elements of a tensor in one step.
#[derive(Clone, Copy, Default)]
pub struct Noise {
    offset: u32,
    mask: u32,
}

impl Noise {
    /// Returns the bits of the elements from a place on.
    pub fn from(self, place: u32) -> Noise {
        Noise { offset: self.offset.wrapping_add(place), ..self }
    }

    /// Returns 32 random bits for the element at `place`, of which the upper ones are the best. The
    /// multipliers are Wellons' ("Prospecting for Hash Functions", 2018).
    #[inline(always)]
    pub fn word(self, place: u32) -> u32 {
        let word = self.offset.wrapping_add(place);
        let word = (word ^ word >> 17).wrapping_mul(0xed5a_d4bb);
        (word ^ word >> 11 ^ self.mask).wrapping_mul(0xac4c_1b51)
    }
}

/// The tensor that is rounded: each has random bits of its own.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum NoiseStream {
    Param = 0,
    ExpAvg = 1,
    ExpAvgSq = 2,
}

/// Returns the FNV-1a hash of 64 bits (Fowler, Noll & Vo).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ *byte as u64).wrapping_mul(0x100_0000_01b3)
    })
}

fn halves(word: u64) -> [u32; 2] {
    [word as u32, (word >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hashed_as_fnv_is_published() {
        for (text, expected) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(fnv1a(text.as_bytes()), expected, "{text:?}");
        }
    }

    /// The first numbers of SplitMix64 with the seed 0, as its authors' program prints them.
    #[test]
    fn words_are_mixed_as_is_published() {
        let expected = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f];
        for (i, expected) in (1..).zip(expected) {
            assert_eq!(mix(GOLDEN.wrapping_mul(i)), expected);
        }
    }

    #[test]
    fn seed_name_tensor_step_and_place_each_make_other_bits() {
        let of = |seed, name: &[u8], stream, step, element| {
            let noise = Key::new(seed, name).at(step, element).noise(stream);
            [noise.word(0), noise.word(1)]
        };
        let bits = of(1, b"w", NoiseStream::Param, 5, 9);
        let others = [
            of(2, b"w", NoiseStream::Param, 5, 9),
            of(1, b"v", NoiseStream::Param, 5, 9),
            of(1, b"w", NoiseStream::ExpAvg, 5, 9),
            of(1, b"w", NoiseStream::ExpAvgSq, 5, 9),
            of(1, b"w", NoiseStream::Param, 6, 9),
            of(1, b"w", NoiseStream::Param, 5, 11),
            of(1, b"w", NoiseStream::Param, 5 + (1 << 32), 9),
            of(1, b"w", NoiseStream::Param, 5, 9 + (1 << 32)),
        ];
        assert!(others.iter().all(|other| other[0] != bits[0] && other[1] != bits[1]));
    }

    const N: usize = 1 << 20;

    /// The words of the first elements of some steps of some parameters.
    fn words(name: u8, stream: NoiseStream, step: u64) -> impl Iterator<Item = u32> {
        let noise = Key::new(7, &[name]).at(step, 0).noise(stream);
        (0..N as u32).map(move |i| noise.word(i))
    }

    /// How many standard deviations `sum`, of so many independent terms of variance 1, is from 0.
    fn deviations(sum: f64, n: usize) -> f64 {
        sum.abs() / (n as f64).sqrt()
    }

    /// The upper 16 bits, as a number of variance 1 about 0.
    fn centred(word: u32) -> f64 {
        (f64::from(word >> 16) + 0.5 - 32_768.0) / 65_536.0 * 12f64.sqrt()
    }

    #[test]
    fn each_bit_is_as_often_1_as_0() {
        for step in 0..8 {
            let mut ones = [0.0; 16];
            for word in words(b'a', NoiseStream::ExpAvgSq, step) {
                (0..16).for_each(|bit| ones[bit] += f64::from(word >> (16 + bit) & 1) * 2.0 - 1.0);
            }
            for (bit, sum) in ones.into_iter().enumerate() {
                assert!(deviations(sum, N) < 5.0, "bit {bit} in step {step}: {sum}");
            }
        }
    }

    #[test]
    fn bytes_and_pairs_of_them_are_spread_evenly() {
        for step in 0..8 {
            let mut counts = vec![0u32; 1 << 16];
            words(b'b', NoiseStream::Param, step).for_each(|w| counts[(w >> 16) as usize] += 1);
            let mut pairs = vec![0u32; 1 << 16];
            let upper: Vec<u32> = words(b'b', NoiseStream::Param, step).map(|w| w >> 24).collect();
            upper.windows(2).for_each(|pair| pairs[(pair[0] << 8 | pair[1]) as usize] += 1);
            for counts in [counts, pairs] {
                let mean = N as f64 / counts.len() as f64;
                let off = counts.iter().map(|n| f64::from(*n) - mean);
                let squares = off.map(|off| off * off / mean);
                let excess = squares.sum::<f64>() - counts.len() as f64;
                assert!(
                    excess.abs() / (2.0 * counts.len() as f64).sqrt() < 5.0,
                    "{step}: {excess}"
                );
            }
        }
    }

    #[test]
    fn neighbours_steps_tensors_and_parameters_have_nothing_to_do_with_each_other() {
        use NoiseStream::*;
        let numbers =
            |name, stream, step| -> Vec<f64> { words(name, stream, step).map(centred).collect() };
        let one = numbers(b'c', ExpAvgSq, 9);
        let correlation = |a: &[f64], b: &[f64]| {
            deviations(a.iter().zip(b).map(|(a, b)| a * b).sum(), a.len().min(b.len()))
        };
        for lag in (1..=64).chain([127, 128, 129, 255, 256, 257, 1024, 4096, 65_536]) {
            let found = correlation(&one[lag..], &one);
            assert!(found < 5.0, "{lag} elements away: {found}");
        }
        for step in [0, 1, 8, 10, 11, 73, 9 + (1 << 32)] {
            let found = correlation(&one, &numbers(b'c', ExpAvgSq, step));
            assert!(found < 5.0, "step {step}: {found}");
        }
        for other in [numbers(b'c', ExpAvg, 9), numbers(b'c', Param, 9), numbers(b'd', ExpAvgSq, 9)]
        {
            assert!(correlation(&one, &other) < 5.0);
        }
    }

    /// Each of the upper 16 bits changes half of the time, whichever bit of the element's number,
    /// of the step, or of the seed does.
    #[test]
    fn every_bit_of_what_is_mixed_changes_every_bit_of_a_word() {
        const TRIES: u64 = 1 << 13;
        let word = |element: u64, step: u64, seed: u64| {
            Key::new(seed, b"w").at(step, element).noise(NoiseStream::ExpAvgSq).word(0) >> 16
        };
        for (what, n_bits) in [("element", 40), ("step", 40), ("seed", 64)] {
            for flipped in 0..n_bits {
                let mut changes = [0.0; 16];
                for i in 0..TRIES {
                    let [element, step, seed] = [mix(i) >> 34, mix(i + TRIES) >> 40, mix(!i)];
                    let flip = |name| if what == name { 1u64 << flipped } else { 0 };
                    let other =
                        word(element ^ flip("element"), step ^ flip("step"), seed ^ flip("seed"));
                    let changed = word(element, step, seed) ^ other;
                    (0..16).for_each(|bit| {
                        changes[bit] += f64::from(changed >> bit & 1) * 2.0 - 1.0;
                    });
                }
                for (bit, sum) in changes.into_iter().enumerate() {
                    let off = sum.abs() / TRIES as f64;
                    assert!(off < 0.06, "bit {bit} after bit {flipped} of the {what}: {off}");
                }
            }
        }
    }

    #[test]
    fn the_mean_of_an_elements_words_over_steps_is_a_half() {
        let key = Key::new(3, b"w");
        for element in [0, 1, 2, 255, 4096, 123_457, (1 << 32) + 5] {
            let steps = 0..1u64 << 16;
            let numbers = steps
                .map(|step| centred(key.at(step, element).noise(NoiseStream::ExpAvgSq).word(0)));
            let sum: f64 = numbers.sum();
            assert!(deviations(sum, 1 << 16) < 5.0, "element {element}: {sum}");
        }
    }
}
